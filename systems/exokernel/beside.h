/* SPDX-License-Identifier: MIT */
/*
 * Two library operating systems beside one another on one exokernel: one machine, one kernel, one
 * table of who has which frame; two engines with a policy each.
 *
 * Each has a CPU, whose time slices are its environment's, and a program that sees only that CPU,
 * as number 0, and does not fork.  The programs may run at once.
 */
#ifndef VMF_EXOKERNEL_BESIDE_H
#define VMF_EXOKERNEL_BESIDE_H

#include "systems/exokernel/library.h"

#define BESIDE 2

/* A library operating system of the two. */
struct side {
	struct engine *engine;
	struct library library;
	struct soft_program program;
	struct program_ops ops;
	struct mm *mm;
	struct lab_store store;
	struct engine_observer observer;
	struct reclaim_chooser mru;
	struct ledger *ledger;
	unsigned cpu;
};

struct beside {
	struct soft_machine *machine; /* its engine is the first side's */
	struct engine second;
	struct xok xok;
	struct side sides[BESIDE];
};

struct beside_options {
	u64 frames[BESIDE]; /* that each has to begin with */
	/* Each one's; policy_chosen: the library chooses by itself, the page that came last. */
	const struct reclaim_policy *policies[BESIDE];
	struct ledger *ledger; /* for BESIDE CPUs */
};

/* 0, -ENOMEM. */
int beside_create(const struct beside_options *o, struct beside **b);
/* Nobody runs. */
void beside_destroy(struct beside *b);
/* Every invariant of both engines and of the TLBs, and no entry maps a frame that is not of its
 * library's.  Panics with a message.  Nobody runs. */
void beside_check(struct beside *b);

static inline u32 beside_resource(const struct beside *b, unsigned side)
{
	return b->sides[side].library.resource;
}

#endif
