/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the soak without losses share: the processes, what each knows of its memory,
 * and what can be done with it.  nopagelost.c has the plan.
 */
#ifndef VMF_TESTS_NOPAGELOST_H
#define VMF_TESTS_NOPAGELOST_H

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "tests/unit/world.h"

enum {
	WORKERS = 8,
	NODES = 2,
	/* Private pages of each process, numbered one after the other: */
	OWN_PAGES = 240, /* single ones, */
	RANGES = 4,	 /* ranges of the size of a huge page, */
	HUGE_FIRST = OWN_PAGES,
	SERVED_PAGES = 48, /* and what a monitor serves */
	SERVED_FIRST = HUGE_FIRST + RANGES * HUGE_PAGES,
	ALL_PAGES = SERVED_FIRST + SERVED_PAGES,
	/* On a disk, in shared memory, of a pool; all map them, and each process has a piece of
	 * each of their pages. */
	FILES = 3,
	POOL_FILE = 2,
	SHARED_PAGES = 64,
	PIECE = PAGE_SIZE / WORKERS,
};

#define P(n)	  ((u64)(n)*PAGE_SIZE)
#define OWN	  (0x30000000ULL - P(OWN_PAGES / 2)) /* across a page table's end */
#define SHARED(f) (0x50000000ULL + 0x1000000ULL * (f))
#define SERVED	  (0x58000000ULL - P(SERVED_PAGES / 2))
#define STAGE	  0x5a000000ULL /* where the monitor puts what it has taken out */
#define POOL_AT	  0x5c000000ULL
/* Each range is in one of some places. */
#define PLACES		      3
#define RANGE_PLACE(range, n) (0x60000000ULL + 0x4000000ULL * (range) + 0x1000000ULL * (n))
#define RW		      (UAPI_PROT_READ | UAPI_PROT_WRITE)

/* What is part of it: each can be left out. */
extern struct parts {
	bool thp, userfault, pool, background;
} with;

struct served;

struct worker {
	pthread_t thread;
	struct soft_cpu *cpu;
	struct mm *mm;
	unsigned number;
	bool is_child;
	u64 rnd;
	u32 version[ALL_PAGES]; /* as fresh_version() if it was never written to */
	u32 shared[FILES][SHARED_PAGES];
	u64 range_at[RANGES];
	unsigned range_place[RANGES];
	struct served *served; /* its monitor; NULL: it has none */
	u64 reads, writes, advised, drops, forks, moves, deaths, buses, lost;
	u64 collapsed, remapped, refused, pool_lives, pool_refused, pool_buses;
};

extern struct world w;
extern struct worker workers[WORKERS];
extern struct file *files[FILES];
extern u64 seed;
/* Held for writing at quiet points, and for reading by threads that work without their process. */
extern pthread_rwlock_t quiet;

#define DIE(k, ...)                                                                                \
	do {                                                                                       \
		fprintf(stderr, "nopagelost: seed %lu, process %u: ", (unsigned long)seed,         \
			(k)->number);                                                              \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		abort();                                                                           \
	} while (0)

#define STORE_DIE(what)                                                                            \
	do {                                                                                       \
		fprintf(stderr, "nopagelost: seed %lu: %s\n", (unsigned long)seed, what);          \
		abort();                                                                           \
	} while (0)

static inline u64 rnd_next(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static inline unsigned rnd_below(u64 *state, unsigned n)
{
	return (unsigned)((rnd_next(state) >> 11) % n);
}

/* ---- nopagelost_words.c: a process's pages ---- */

enum end { DONE, KILLED, LOST };

/* Of a page that was never written to: 0, zeros, or what a monitor gives. */
u32 fresh_version(unsigned page);
u64 va_of(const struct worker *k, unsigned page);
/* n words of a page of this process, in this version. */
void make_words(const struct worker *k, unsigned page, u32 version, u64 *words, unsigned n);
enum end check_words(struct worker *k, u64 va, unsigned page, u32 version, unsigned n);
enum end write_words(struct worker *k, u64 va, unsigned page, u32 *version, unsigned n);
/* Check one, and write to it; what is lost for good is given up. */
enum end own_page(struct worker *k, unsigned page, bool write);
/* `child` knows what its parent k knows, and runs on its CPU, in mm: a fork of k's space. */
void be_child(struct worker *child, const struct worker *k, struct mm *mm);
enum end shared_page(struct worker *k, unsigned f, unsigned page, bool write);
/* Where its piece of the file's page is. */
u64 shared_offset(const struct worker *k, unsigned f, unsigned page);
/* All that the process knows. */
enum end check_all(struct worker *k);
/* Any page of the parts that there are; a child has nothing of a monitor. */
unsigned any_page(struct worker *k);
/* A failed call is one of a process that is being killed, or an error of the engine. */
enum end must(struct worker *k, bool ok, const char *what, s64 result);
/* [page, page + n) is new. */
void forget(struct worker *k, unsigned page, unsigned n);

/* ---- nopagelost_stores.c: swap areas that fail, come and go ---- */

extern _Atomic u64 failed_loads, failed_saves;
extern struct areas_done {
	u64 ons, offs, no_room, unreadable;
} areas_done;

void make_stores(u64 slots);
void free_stores(void);
struct store *first_store(void);
void turn_on_all(void);
void turn_any(u64 *rnd, bool on);
void change_failures(u64 *rnd);

/* ---- nopagelost_huge.c: huge pages ---- */

/* Ranges are dropped as often as they are filled: there is memory for huge pages. */
extern _Atomic bool plenty;
void map_ranges(struct worker *k);
enum end operate_on_ranges(struct worker *k);

/* ---- nopagelost_served.c: a monitor ---- */

void start_served(struct worker *k);
/* The process is about to go. */
void stop_served(struct worker *k);
enum end operate_on_served(struct worker *k);
/* Have writes to a range that are not allowed told to the monitor, which allows them. */
void watch(struct worker *k, u64 va, u64 len, bool on);
void write_protect(struct worker *k, u64 va, u64 len);
/* UFFDIO_MOVE of all that a range has to where nothing is; false: all is where it was. */
bool move_range(struct worker *k, u64 to, u64 from, u64 len);
void print_served(void);
bool served_enough(void);

/* ---- nopagelost_pool.c: a pool of huge pages ---- */

enum { POOL_MOST = 6 };
void make_pool(void);
/* The life of an area of it. */
enum end live_in_pool(struct worker *k);
void resize_pool(u64 *rnd);

#endif
