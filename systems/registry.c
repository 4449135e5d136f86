/* SPDX-License-Identifier: MIT */
/* Every system there is, one line each. */
#include <string.h>

#include "systems/corten/corten.h"
#include "systems/exokernel/exokernel.h"
#include "systems/fluidmem/fluidmem_system.h"
#include "systems/l4/l4.h"
#include "systems/linux/linux.h"
#include "systems/nested/nested.h"
#include "systems/shadow/shadow.h"
#include "systems/spin/spin.h"
#include "systems/system.h"
#include "systems/tornado/tornado.h"
#include "systems/userfault/userfault_system.h"
#include "systems/windows/windows.h"
#include "systems/xen/xen.h"

/* clang-format off */
const struct system_type *const system_types[] = {
	&linux_system,
	&linux_old_system,
	&corten_system,
	&windows_system,
	&userfault_system,
	&fluidmem_system,
	&spin_system,
	&xok_system,
	&xok_two_system,
	&aegis_system,
	&l4_system,
	&xen_system,
	&xen_ptwr_system,
	&tornado_system,
	&tornado_shared_system,
	&nested_system,
	&nested_cold_system,
	&npt_system,
	&shadow_system,
	&shadow_oos_system,
};
/* clang-format on */

const unsigned nr_system_types = ARRAY_SIZE(system_types);

const struct system_type *system_find(const char *name)
{
	for (unsigned i = 0; i < nr_system_types; i++)
		if (!strcmp(system_types[i]->name, name))
			return system_types[i];
	return NULL;
}

void system_measure(struct system *s)
{
	ledger_reset(s->ledger);
	s->reset_counts(s);
}

void system_measured(struct system *s)
{
	for (unsigned i = 0; i < NR_LEDGER_COUNTERS; i++)
		s->total[i] = ledger_sum(s->ledger, i);
	s->add_counts(s, s->total);
	ledger_record(s->ledger, false);
}
