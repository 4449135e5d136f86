/* SPDX-License-Identifier: MIT */
/*
 * The contract of a system: somebody who fields page faults on the soft machine.
 *
 * A system offers a program (machine/soft/program.h), which is how the laboratory drives it; it
 * counts into a ledger (ledger.h); and it has a list of attacks, each of which it must refuse.
 *
 * To write one: a folder systems/NAME with a file that begins with the numbered plan of its fault,
 * a `const struct system_type`, one line in registry.c.  Systems on the engine begin with struct
 * engine_system (common/engine_system.h).
 */
#ifndef VMF_SYSTEMS_SYSTEM_H
#define VMF_SYSTEMS_SYSTEM_H

#include "machine/soft/program.h"
#include "systems/ledger.h"
#include "systems/timing.h"

struct system;

/* An extension that a user has written (extensions/extension.h), as text. */
struct system_extension {
	const char *name, *text;
	size_t size; /* bytes */
};

struct system_options {
	unsigned cpus;				  /* 1 .. SOFT_MAX_CPUS */
	u64 frames;				  /* of programs' memory; pages */
	struct ledger *ledger;			  /* for so many CPUs; the caller's */
	const struct system_extension *extension; /* NULL: none; of who takes one */
};

struct system_attack {
	const char *name;	     /* what the malicious program, guest or extension tries */
	int (*run)(struct system *); /* what came of it */
	int refused;		     /* what has to: a negative errno */
};

/* What a fault is expected to cost: as published, or by going through the published steps on
 * paper. */
struct system_expectation {
	enum ledger_counter counter;
	u64 value;
	const char *why; /* we count another; NULL: we do not */
};

/* How many things a system may time. */
#define SYSTEM_MOST_TIMINGS 16

/* How many programs a system may run beside one another. */
#define SYSTEM_MOST_PARTS 2

/* One of them, in `parts` of its system, whose type has the name of who serves it. */
struct system_part {
	struct program *program;
	const u64 *total; /* [NR_LEDGER_COUNTERS]: of what was measured last */
};

struct system_type {
	const char *name;
	const char *summary; /* who fields, who decides, who supplies, who installs: one line */
	const struct system_attack *attacks;
	unsigned nr_attacks;
	const struct system_expectation *expected;
	unsigned nr_expected;
	/* The workload with the one fault that they are for; NULL: "minor-fault", the first write
	 * to a fresh page whose table is there. */
	const char *expected_of;
	bool takes_extension;
	const char *const *parts; /* names; nr_parts 0: it runs one program */
	unsigned nr_parts;
	const char *const *timings; /* names of what it times; nr_timings 0: nothing */
	unsigned nr_timings;
	/* 0, -ENOMEM; what extension_load() returns. */
	int (*create)(const struct system_type *type, const struct system_options *options,
		      struct system **system);
};

struct system {
	const struct system_type *type;
	struct program *program;
	struct ledger *ledger;
	void (*destroy)(struct system *s);
	/* Add what hardware and engine have counted since the last reset_counts(). */
	void (*add_counts)(struct system *s, u64 counts[NR_LEDGER_COUNTERS]);
	void (*reset_counts)(struct system *s);
	/* The first thing that went wrong with its extension, one line; "": nothing did.  NULL: it
	 * takes none. */
	const char *(*says)(struct system *s);
	u64 total[NR_LEDGER_COUNTERS]; /* of the part that was measured last */
	/* [type->nr_timings], of the same: the host's time, which no two runs have in common */
	const struct timing *timings;
	/* [0] is `program`; nr_parts as the type's.  run_parts: do run(arg, i), which is all that
	 * part i's program does, for each, in threads, beside one another.  0, -EAGAIN (the host
	 * has no threads). */
	const struct system_part *parts;
	unsigned nr_parts;
	int (*run_parts)(struct system *s, void (*run)(void *arg, unsigned part), void *arg);
};

/* Counting begins, and ends: s->total is what was paid between, all CPUs together.  Nobody else
 * active. */
void system_measure(struct system *s);
void system_measured(struct system *s);

/* All systems there are, in the order in which tables show them. */
extern const struct system_type *const system_types[];
extern const unsigned nr_system_types;
/* NULL: there is none of that name. */
const struct system_type *system_find(const char *name);

#endif
