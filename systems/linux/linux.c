/* SPDX-License-Identifier: MIT */
/*
 * Linux: the kernel fields the fault, decides, supplies and installs, all in one place.
 *
 *   1. The access misses the TLB; the hardware walks the page table, finds no right, puts the
 * address into CR2, pushes the error code and enters the kernel at vector 14.
 *   2. do_user_addr_fault finds the area (VMA) that holds the address, with a lock of the area's
 * own; the older form takes mmap_lock, which all faults and all changes of the layout share.
 *   3. access_error: does the area allow this?  If not: SIGSEGV.
 *   4. handle_mm_fault walks the page table, adds what tables are missing, and looks at the entry.
 *   5. none: do_anonymous_page or do_fault; a swap slot: do_swap_page; read-only: do_wp_page.
 *   6. A frame is taken and filled: zeros, the page of the file, the slot's bytes, a copy.
 *   7. Under the page-table lock, if the entry is what it was, it is set; the reverse map and the
 *      lists learn of the page.
 *   8. iret: the access is made again.
 *
 * The engine is all of that (engine/fault/entry.c); this file is the trap around it.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/common/program_attacks.h"
#include "systems/linux/linux.h"

static struct fault_result field(struct soft_cpu *cpu, u64 cr2, u32 code, unsigned flags)
{
	struct fault_result r = engine_system_field(cpu, cr2, code, flags);

	if (r.reason == FAULT_RETRY)
		ledger_count(PAID_RETRIES);
	return r;
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	return field(cpu, cr2, code, FAULT_FLAG_USER);
}

static struct fault_result trap_old(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	return field(cpu, cr2, code, 0);
}

static void destroy(struct system *s)
{
	engine_system_fini(engine_system_of(s));
	free(engine_system_of(s));
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct engine_system *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	err = engine_system_init(s, type, o, type == &linux_system ? trap : trap_old);
	if (err) {
		free(s);
		return err;
	}
	s->system.destroy = destroy;
	*system = &s->system;
	return 0;
}

#define FOR_BOTH                                                                                   \
	{ PAID_EXCEPTIONS, 1, NULL }, { PAID_CROSSINGS, 2, NULL }, { PAID_DOMAINS, 0, NULL },      \
		{ PAID_SYSTEM_CALLS, 0, NULL }, { PAID_PAGES_ZEROED, 1, NULL },                    \
		{ PAID_PAGES_COPIED, 0, NULL }, { PAID_SOFTWARE_READS, 4, NULL },                  \
		{ PAID_ENTRY_WRITES, 1, NULL },                                                    \
	{                                                                                          \
		PAID_WALK_READS, 8, NULL                                                           \
	}

static const struct system_expectation expected[] = {
	FOR_BOTH,
	{ PAID_LOCKS_REGION, 1, NULL },
	{ PAID_LOCKS_SPACE, 0, NULL },
};

static const struct system_expectation expected_old[] = {
	FOR_BOTH,
	{ PAID_LOCKS_REGION, 0, NULL },
	{ PAID_LOCKS_SPACE, 1, NULL },
};

const struct system_type linux_system = {
	.name = "linux",
	.summary = "the kernel fields, decides, supplies and installs; a lock for each area",
	.attacks = program_attacks,
	.nr_attacks = NR_PROGRAM_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};

const struct system_type linux_old_system = {
	.name = "linux-old",
	.summary = "the same with one lock for the whole space, as it long was",
	.attacks = program_attacks,
	.nr_attacks = NR_PROGRAM_ATTACKS,
	.expected = expected_old,
	.nr_expected = ARRAY_SIZE(expected_old),
	.create = create,
};
