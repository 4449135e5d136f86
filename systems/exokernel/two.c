/* SPDX-License-Identifier: MIT */
/*
 * Xok with two library operating systems beside one another, each with a program: `fifo` replaces
 * the page that came first, `mru`, which chooses by itself, the one that came last.
 *
 *   1. Each has CPUs, environments and frames of its own; the programs run in turns, SLICE_CALLS
 * calls a time slice.
 *   2. A fault enters the library in whose slice the CPU is (exokernel.c has the steps).
 *   3. A library that is about to evict takes frames that nobody has.
 *   4. There are none: it tells the kernel how many it wants.
 *   5. The kernel looks who can spare them: who has so many more, or has wanted none in his last
 * slice.  It enters that one, by an upcall, and says how many.
 *   6. The other library chooses which, by its own policy, writes them out and gives them back.
 *   7. The kernel sees to it that no table and no TLB leads to them, and wipes them: they are
 * nobody's.
 *   8. The first takes them, and goes on with its fault.
 *
 * What a library does because it was asked is paid by it, though another's slice it is.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"
#include "systems/exokernel/two.h"

/* What a library wants at a time: one in so many of the frames that it began with. */
#define WISH_OF 8

static void add_counts(struct system *s, u64 counts[NR_LEDGER_COUNTERS])
{
	beside_add_hardware(&two_of(s)->beside->sides[0], counts);
}

static void reset_counts(struct system *s)
{
	for (unsigned i = 0; i < BESIDE; i++)
		beside_measure(&two_of(s)->beside->sides[i]);
}

static int run_parts(struct system *s, void (*run)(void *arg, unsigned part), void *arg)
{
	return beside_run(two_of(s)->beside, run, arg);
}

static void destroy(struct system *s)
{
	struct two *t = two_of(s);

	if (t->beside)
		beside_destroy(t->beside);
	if (t->second)
		ledger_destroy(t->second);
	free(t);
}

static int two_create(const struct system_type *type, const struct system_options *o,
		      struct system **system)
{
	struct beside_options bo = { .cpus = o->cpus,
				     .frames = { o->frames, o->frames },
				     .wish = max_of(o->frames / WISH_OF, (u64)1),
				     .policies = { &policy_fifo, &policy_chosen } };
	struct two *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->system = (struct system){ .type = type,
				     .ledger = o->ledger,
				     .destroy = destroy,
				     .add_counts = add_counts,
				     .reset_counts = reset_counts,
				     .parts = t->parts,
				     .nr_parts = BESIDE,
				     .run_parts = run_parts };
	err = ledger_create(BESIDE * o->cpus, &t->second);
	bo.ledgers[0] = o->ledger;
	bo.ledgers[1] = t->second;
	if (!err)
		err = beside_create(&bo, &t->beside);
	if (err) {
		destroy(&t->system);
		return err;
	}
	for (unsigned i = 0; i < BESIDE; i++) {
		struct side *s = &t->beside->sides[i];

		t->parts[i] =
			(struct system_part){ .program = &s->program.program, .total = s->total };
	}
	t->system.program = t->parts[0].program;
	*system = &t->system;
	return 0;
}

static const char *const names[BESIDE] = { "fifo", "mru" };

const struct system_type xok_two_system = {
	.name = "xok-two",
	.summary = "the same with two library OSes beside one another, a program on each; frames "
		   "go from one to the other",
	.attacks = two_attacks,
	.nr_attacks = TWO_ATTACKS,
	.expected = xok_expected,
	.nr_expected = XOK_EXPECTED,
	.parts = names,
	.nr_parts = BESIDE,
	.create = two_create,
};
