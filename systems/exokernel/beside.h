/* SPDX-License-Identifier: MIT */
/*
 * Two library operating systems beside one another on one exokernel: one machine, one kernel, one
 * table of who has which frame; two engines with a policy each.
 *
 * Each has CPUs of its own, whose time slices are its environments', and a program that sees only
 * those, from 0 on.  The programs may run at once, or in turns (beside_run()).
 */
#ifndef VMF_EXOKERNEL_BESIDE_H
#define VMF_EXOKERNEL_BESIDE_H

#include "engine/reclaim/chosen.h"
#include "systems/exokernel/library.h"
#include "systems/exokernel/slices.h"

#define BESIDE 2

struct beside;

/* A library operating system of the two. */
struct side {
	struct beside *beside;
	struct engine *engine;
	struct library library;
	struct soft_program program;
	struct program_ops ops;
	struct mm *mm; /* the first process's */
	struct lab_store store;
	struct engine_observer observer;
	struct reclaim_chooser mru;
	struct ledger *ledger;
	u64 hardware[4]; /* as counted when measuring began */
	/* Of the part that was measured last, and what it paid for the other's wishes when its own
	 * program had ended; as the ledger was then. */
	u64 total[NR_LEDGER_COUNTERS], ended[NR_LEDGER_COUNTERS];
};

struct beside {
	struct soft_machine *machine; /* its engine is the first side's */
	struct engine second;
	struct xok xok;
	struct side sides[BESIDE];
	struct slices slices;
};

struct beside_options {
	unsigned cpus;	    /* that each has; 1 to SOFT_MAX_CPUS / BESIDE */
	u64 frames[BESIDE]; /* that each has to begin with */
	u64 wish;	    /* that a library wants when it is short; 0: it makes do */
	/* Each one's; policy_chosen: the library chooses by itself, the page that came last. */
	const struct reclaim_policy *policies[BESIDE];
	/* Each one's, by the machine's numbers of CPUs: 0 to cpus - 1 are the first's, and the
	 * second's come after. */
	struct ledger *ledgers[BESIDE];
};

/* 0, -ENOMEM. */
int beside_create(const struct beside_options *o, struct beside **b);
/* Nobody runs. */
void beside_destroy(struct beside *b);
/* run(arg, i) for each side, which does what its program does, in turns.  0, -EAGAIN. */
int beside_run(struct beside *b, void (*run)(void *arg, unsigned side), void *arg);
/* Every invariant of both engines and of the TLBs, and no entry maps a frame that is not of its
 * library's.  Panics with a message.  Nobody runs. */
void beside_check(struct beside *b);
/* What the side pays counts from here on. */
void beside_measure(struct side *s);
/* Add what its CPUs have counted since. */
void beside_add_hardware(const struct side *s, u64 counts[NR_LEDGER_COUNTERS]);

static inline u32 beside_resource(const struct beside *b, unsigned side)
{
	return b->sides[side].library.resource;
}

#endif
