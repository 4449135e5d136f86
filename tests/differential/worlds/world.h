/* SPDX-License-Identifier: MIT */
/*
 * Worlds of the differential tester besides the plain one (session.h): huge pages, a pool of huge
 * pages, userfaultfd, a swap area.  A world makes sequences of its own steps and does a sequence on
 * the running kernel and in the engine; what all have in common is here: the loop, progress,
 * shrinking, text for --replay, coverage, and that the kernel is afterwards as it was.
 */
#ifndef VMF_DIFFERENTIAL_WORLD_H
#define VMF_DIFFERENTIAL_WORLD_H

#include <stddef.h>
#include <stdio.h>

#include "engine/base/types.h"

enum { STEP_SIZE = 64, MOST_STEPS = 160, MOST_SETTINGS = 2, MOST_CALLS = 32, MOST_ROWS = 48 };
enum { MOST_ERRNOS = 134 };

/*
 * A sequence.  A step is whatever struct the world has for it, at most STEP_SIZE bytes, all of them
 * zero that the struct does not use; it begins with a u32, the number of its call.
 */
struct script {
	u64 setting[MOST_SETTINGS]; /* of the whole sequence, as the world likes */
	unsigned n;
	_Alignas(8) u8 steps[MOST_STEPS][STEP_SIZE];
};

/* A number in a step, and its name in the text. */
struct step_field {
	const char *name;
	u16 offset, size;
};
#define STEP_FIELD(type, member)                                                                   \
	{                                                                                          \
#member, offsetof(type, member), sizeof(((type *)NULL)->member)                    \
	}

enum verdict {
	VERDICT_SAME,
	VERDICT_DIFFERS,   /* at step `at`, and `text` says what both did */
	VERDICT_DISTURBED, /* somebody else's doing shows: neither one nor the other */
	VERDICT_TROUBLE,   /* a side cannot go on, and `text` says why */
};

/* What a sequence came to.  The caller has cleared it. */
struct world_trial {
	enum verdict verdict;
	unsigned at;
	char text[2048];
	s64 results[MOST_STEPS]; /* the engine's, of each step: for coverage */
	u64 rows[MOST_ROWS];	 /* steps that were a case of a row */
	/* Calls that were no step of their own, by what they came to; 0: no error. */
	u16 besides[MOST_CALLS][MOST_ERRNOS];
};

struct oracle_world {
	const char *name, *about; /* about: what is in it, for --help */
	const char *const *calls;
	unsigned nr_calls;
	const struct step_field *fields;
	unsigned nr_fields;
	const char *const *rows; /* cases that a long run must have met */
	unsigned nr_rows;
	/*
	 * Make what the world needs of the kernel (a pool, a swap area) and take it away again.
	 * Both in a process of their own that outlives the others.  NULL, or why it cannot be had
	 * (then take_down() is called as well); false: the kernel is not as it was.  Either may be
	 * NULL.
	 */
	const char *(*set_up)(void);
	bool (*take_down)(void);
	/* In the process that does the sequences, once.  NULL, or why this kernel cannot do it. */
	const char *(*open)(bool engine_only);
	void (*generate)(struct script *script);
	/* May the step be done?  It may come from a file, and say anything. */
	bool (*fits)(const void *step);
	/* Steps were left out: those go that make no sense without them.  May be NULL. */
	void (*mend)(struct script *script);
	void (*perform)(const struct script *script, bool engine_only, struct world_trial *trial);
};

extern const struct oracle_world world_huge, world_hugeswap, world_hugetlb, world_userfault,
	world_userfaultswap, world_pageout, world_systems;
extern const struct oracle_world *const worlds[];
extern const unsigned nr_worlds;

/* NULL: there is none of that name. */
const struct oracle_world *world_find(const char *name);

/* ---- for worlds ---- */

/* The random numbers of generate(): less than n, and one of these. */
u64 chance(u64 n);
#define ONE_OF(...)                                                                                \
	({                                                                                         \
		static const u64 _of[] = { __VA_ARGS__ };                                          \
		_of[chance(sizeof(_of) / sizeof(*_of))];                                           \
	})
/* A number that follows from x, and looks like chance. */
u64 mix(u64 x);

/* ---- text (script.c) ---- */

/* A line each, and "end".  Returns the length that all of it has. */
size_t steps_print(const struct oracle_world *world, const struct script *script, char *buf,
		   size_t size);
/* Which world is the text of?  NULL: none of these, it may be a plain one. */
const struct oracle_world *steps_world(const char *text, size_t size);
/* False: `complaint` (160 bytes) has the line and what is wrong with it. */
bool steps_parse(const struct oracle_world *world, const char *text, size_t size,
		 struct script *script, char *complaint);

/* ---- a run (run.c) ---- */

struct world_run {
	u64 operations, seed;
	u64 first; /* number of the first sequence */
	unsigned shrink_seconds;
	bool engine_only; /* nothing is compared: the engine checks itself */
	bool progress;	  /* on stderr */
	/* Sequences from files, in place of random ones; NULL: none. */
	const struct script *replayed;
	const char *const *names;
	unsigned nr_replayed;
};

enum world_end { WORLD_SAME, WORLD_MISMATCH, WORLD_SKIPPED, WORLD_TROUBLE };

struct world_result {
	enum world_end end;
	char what[400];	     /* why skipped, what the trouble is, what differs */
	char text[24 << 10]; /* the shortest sequence, and what both sides did */
	u64 number;	     /* of the sequence that differs */
	u64 operations, sequences;
	u64 unsteady;  /* sequences that differed once, and not when they were done again */
	u64 disturbed; /* sequences that were given up */
	double seconds;
	u64 calls[MOST_CALLS];
	u64 errnos[MOST_CALLS][MOST_ERRNOS]; /* 0: none */
	u64 rows[MOST_ROWS];
};

/* Leaves no process behind, and the kernel as it was, whatever happens. */
void world_run(const struct oracle_world *world, const struct world_run *options,
	       struct world_result *result);
/* For a person, on stdout. */
void world_print(const struct oracle_world *world, const struct world_run *options,
		 const struct world_result *result);

#endif
