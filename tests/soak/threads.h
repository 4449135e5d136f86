/* SPDX-License-Identifier: MIT */
/*
 * What the threads of the soak share: the spaces and files that they are in, what each knows of
 * them, and what they can do there.  threads.c has the plan.
 */
#ifndef VMF_TESTS_THREADS_H
#define VMF_TESTS_THREADS_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/space/calls.h"
#include "tests/unit/world.h"

enum {
	CPUS = 8,
	SPACES = 3,
	FILES = 2,
	COUNTED_PAGES = 48,
	OWN_PAGES = 24,
	KEPT_PAGES = 16, /* of each file, */
	FILE_PAGES = 40, /* and with those that come and go */
	SCRATCH_PAGES = 64,
	ROUND = 150, /* operations of a thread from one quiet point to the next */
};

#define P(n) ((u64)(n)*PAGE_SIZE)
/* The owned windows lie across a page table's end. */
#define COUNTED	   0x20000000ULL
#define OWN	   (0x30000000ULL - P(OWN_PAGES * CPUS / 2 + 3))
#define FILE_AT(f) (0x40000000ULL + P(100 * (f)))
#define SCRATCH	   (0x50000000ULL - P(SCRATCH_PAGES / 2))
#define RW	   (UAPI_PROT_READ | UAPI_PROT_WRITE)

/* ---- what a thread does ---- */

enum op {
	OP_COUNT,
	OP_GUARD,
	OP_DROP,
	OP_FILE,
	OP_OWN_TOUCH,
	OP_OWN_MAP,
	OP_OWN_UNMAP,
	OP_OWN_PROTECT,
	OP_OWN_MOVE,
	OP_OWN_ADVISE,
	OP_SCRATCH_TOUCH,
	OP_SCRATCH_CHANGE,
	OP_CUT,
	OP_CLEAN,
	OP_RECLAIM,
	OP_MIGRATE,
	OP_FORK,
	OP_SWITCH,
	NR_OPS
};

/* A page of an owned window. */
struct own {
	bool mapped, writable, readable;
	bool of_file, copied; /* a private mapping; it has a page of its own */
	bool wiped, not_forked;
	u8 file, index;
	u64 word; /* of memory, and of a copy */
};

/* What a thread knows of a space. */
struct known {
	u64 counted[COUNTED_PAGES];
	struct own own[OWN_PAGES];
};

struct worker {
	pthread_t thread;
	struct soft_cpu *cpu;
	unsigned number;
	u64 rnd;
	unsigned space; /* that it is in */
	struct known known[SPACES];
	u64 in_files[FILES][KEPT_PAGES];
	u64 done[NR_OPS], refused, buses;
};

extern struct world w;
extern struct mm *spaces[SPACES];
extern struct file *files[FILES];
extern u64 seed;

/* ---- telling ---- */

/* Where are the frames, if there are none? */
void tell_of_frames(void);

#define DIE(k, ...)                                                                                \
	do {                                                                                       \
		fprintf(stderr, "threads: seed %lu, thread %u, space %u: ", (unsigned long)seed,   \
			(k)->number, (k)->space);                                                  \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		tell_of_frames();                                                                  \
		abort();                                                                           \
	} while (0)

/* ---- numbers at random ---- */

static inline u64 rnd_next(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static inline unsigned below(struct worker *k, unsigned n)
{
	return (unsigned)((rnd_next(&k->rnd) >> 11) % n);
}

/* ---- threads_words.c: a thread's word of pages that all have ---- */

/* Where its word of the page is. */
u64 word_at(const struct worker *k, u64 page_va);
/* Write `word` where `old` is, in one of two ways. */
enum fault_reason store(struct worker *k, u64 va, u64 old, u64 word);
void expect_word(struct worker *k, const char *where, u64 va, u64 word, u64 want);
void check_counted(struct worker *k, const struct known *known, unsigned page);
void count(struct worker *k, struct known *known);
/* No write or access for a moment; after that everybody's words are as they were. */
void guard(struct worker *k);
void count_in_file(struct worker *k);
void drop_file_pages(struct worker *k);
/* The file's end, or a hole, somewhere behind the pages that are kept. */
void cut(struct worker *k);
void clean(struct worker *k);

/* ---- threads_own.c: its windows ---- */

void check_own(struct worker *k, const struct known *known, unsigned page);
void touch_own(struct worker *k, struct known *known);
void map_own(struct worker *k, unsigned page, unsigned n);
void unmap_own(struct worker *k, unsigned page, unsigned n);
void protect_own(struct worker *k, unsigned page, unsigned n);
void move_own(struct worker *k, unsigned page, unsigned n);
void advise_own(struct worker *k, unsigned page);

/* ---- threads_fork.c: children ---- */

/* What a child has of what is known. */
void inherit(struct known *child, const struct known *parent);
void check_known(struct worker *k, const struct known *known);
/* A child of the space, its life and its end. */
void fork_space(struct worker *k);

/* ---- threads_chaos.c: what nobody knows ---- */

void touch_scratch(struct worker *k);
void change_scratch(struct worker *k);
void reclaim(struct worker *k);
/* Frames at random, whoever's they are; how many pages were moved by all. */
void migrate(struct worker *k);
extern _Atomic u64 migrated;

#endif
