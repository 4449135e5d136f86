/* SPDX-License-Identifier: MIT */
/*
 * build/bench/compaction: after memory has been used up and given back in pieces, how many of the
 * 2 MiB blocks that the free frames would make can be had, with compaction and without?
 *
 *   compaction [FRAMES]
 *
 * Nothing is reclaimed: what is found is free, or becomes so by moving pages.  The numbers are
 * counts and the same in every run, but for the times.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backing/shmem.h"
#include "engine/migrate/compaction.h"
#include "engine/space/calls.h"
#include "machine/soft/soft.h"

#define P(n)  ((u64)(n)*PAGE_SIZE)
#define BASE  0x20000000ULL
#define RW    (VM_READ | VM_WRITE)
#define STEP  (1ULL << 34) /* between spaces' areas */
#define BLOCK PAGEBLOCK_ORDER

enum { SPACES = 4 };

static struct soft_machine *m;
static struct engine *e;
static struct mm *spaces[SPACES];
static struct soft_cpu *cpu;
static struct page *held[1024];
static unsigned nr_held;
static u64 frames = 32768, seed;

static void need(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "compaction: %s\n", what);
	exit(1);
}

static u64 below(u64 n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL >> 11) % n;
}

/* ---- the world ---- */

static void begin(void)
{
	struct soft_options o = {
		.table_frames = 4096, .user_frames = frames, .nr_cpus = 1, .store = NULL
	};
	struct engine_config config = engine_default_config(frames);

	config.prefetch = 1;
	o.config = &config;
	need(!soft_create(&o, &m), "no machine");
	e = &m->engine;
	e->reclaim = NULL;
	cpu = &m->cpus[0];
	seed = 1;
	nr_held = 0;
	for (unsigned i = 0; i < SPACES; i++)
		need(!mm_create(e, 1 << 16, 1ULL << 46, &spaces[i]), "no space");
}

static void end_space(unsigned i)
{
	soft_load_mm(cpu, NULL);
	if (spaces[i])
		mm_destroy(spaces[i]);
	spaces[i] = NULL;
}

static void end(void)
{
	while (nr_held)
		page_put(e, held[--nr_held]);
	soft_check(m);
	for (unsigned i = 0; i < SPACES; i++)
		end_space(i);
	soft_destroy(m);
}

static u64 at(unsigned space, u64 page)
{
	return BASE + space * STEP + P(page);
}

static void map(unsigned space, u64 page, u64 n)
{
	need(vm_map(spaces[space], at(space, page), P(n), RW, VMAP_FIXED, 0) ==
		     (s64)at(space, page),
	     "no mapping");
}

/* Its CPU is the one that there is. */
static void touch(unsigned space, u64 page)
{
	soft_load_mm(cpu, spaces[space]);
	need(soft_write_u64(cpu, at(space, page), page) == FAULT_OK, "no page");
}

static void drop(unsigned space, u64 page, u64 n)
{
	need(!do_madvise(spaces[space], at(space, page), P(n), UAPI_MADV_DONTNEED), "no advice");
}

/* ---- the ways to break memory up ---- */

/* One program gives every second page back. */
static void every_second_page(void)
{
	u64 n = frames * 9 / 10;

	map(0, 0, n);
	for (u64 i = 0; i < n; i++)
		touch(0, i);
	for (u64 i = 0; i < n; i += 2)
		drop(0, i, 1);
}

/* Two of three pages, chosen by chance. */
static void pages_at_random(void)
{
	u64 n = frames * 9 / 10;

	map(0, 0, n);
	for (u64 i = 0; i < n; i++)
		touch(0, i);
	for (u64 i = 0; i < n; i++)
		if (below(3))
			drop(0, i, 1);
}

/* Four programs grow side by side, a few pages at a time; three end. */
static void programs_that_end(void)
{
	u64 n = frames * 9 / 10 / SPACES, done[SPACES] = { 0 };

	for (unsigned i = 0; i < SPACES; i++)
		map(i, 0, n);
	for (u64 left = n * SPACES; left;) {
		unsigned i = below(SPACES);

		for (u64 k = 1 + below(8); k && done[i] < n; k--, left--)
			touch(i, done[i]++);
	}
	for (unsigned i = 1; i < SPACES; i++)
		end_space(i);
}

/* Runs of 1 to 8 pages come and go by chance, in three quarters of memory at a time. */
static void pages_that_come_and_go(void)
{
	u64 used = 0, most = frames * 3 / 4;
	static bool there[1 << 22];

	memset(there, 0, sizeof(there));
	map(0, 0, frames);
	for (u64 i = 0; i < 4 * frames; i++) {
		u64 page = below(frames - 8);
		bool drops = there[page] || used + 8 > most;

		for (u64 n = 1 + below(8); n--; page++) {
			if (there[page] != drops)
				continue;
			if (drops)
				drop(0, page, 1);
			else
				touch(0, page);
			there[page] = !drops;
			used += drops ? -1ULL : 1;
		}
	}
}

/* Shared memory and private pages by turns; then the private ones go. */
static void shared_memory_between(void)
{
	u64 n = frames * 9 / 20;
	struct file *f = shmem_file_setup(e, P(n));

	need(f, "no shared memory");
	map(0, 0, n);
	need(vm_map_file(spaces[1], at(1, 0), P(n), RW, VMAP_FIXED, VM_SHARED | VM_MAYSHARE, f,
			 0) == (s64)at(1, 0),
	     "no mapping");
	file_put(f);
	for (u64 i = 0; i < n; i++) {
		touch(0, i);
		touch(1, i);
	}
	end_space(0);
}

/* The same, and one frame in a thousand is the engine's own. */
static void with_frames_that_stay(void)
{
	static struct page *all[1 << 22];
	u64 n = 0;

	while ((all[n] = page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM)))
		n++;
	while (n--)
		if (nr_held < ARRAY_SIZE(held) && !below(1000))
			held[nr_held++] = all[n];
		else
			page_put(e, all[n]);
	pages_that_come_and_go();
}

/* ---- measuring ---- */

static u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000ULL + (u64)t.tv_nsec;
}

struct outcome {
	u64 could, got, ns, isolated;
};

/* Blocks until there are none. */
static struct outcome measure(void (*break_up)(void), bool compact)
{
	static struct page *got[1 << 16];
	struct outcome o = { 0 };
	struct compaction *state;
	u64 start;

	begin();
	state = &e->zones[ZONE_USER].compaction;
	if (!compact)
		e->compact = NULL;
	break_up();
	o.could = (zone_free_pages(e, ZONE_USER) - e->config.marks.min) >> BLOCK;
	start = now_ns();
	while ((got[o.got] = page_alloc(e, ZONE_USER, BLOCK, 0)))
		o.got++;
	o.ns = now_ns() - start;
	o.isolated = atomic_load(&state->isolated);
	for (u64 i = 0; i < o.got; i++)
		page_put(e, got[i]);
	end();
	return o;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*break_up)(void);
	} ways[] = {
		{ "every second page given back", every_second_page },
		{ "two pages of three, at random", pages_at_random },
		{ "three of four programs end", programs_that_end },
		{ "pages come and go", pages_that_come_and_go },
		{ "shared memory is left", shared_memory_between },
		{ "the same, with frames that stay", with_frames_that_stay },
	};

	if (argc > 1)
		frames = strtoull(argv[1], NULL, 0);
	if (argc > 2 || frames < 4096 || frames > 1 << 22) {
		fprintf(stderr, "compaction: FRAMES is a number from 4096 to 4194304\n");
		return 2;
	}
	printf("| memory of %lu MiB, after | 2 MiB blocks in what is free | had without | with | "
	       "pages moved for each | us for each |\n|---|---|---|---|---|---|\n",
	       (unsigned long)(frames >> 8));
	for (unsigned i = 0; i < ARRAY_SIZE(ways); i++) {
		struct outcome off = measure(ways[i].break_up, false);
		struct outcome on = measure(ways[i].break_up, true);
		u64 more = on.got > off.got ? on.got - off.got : 1;

		printf("| %s | %lu | %lu (%.0f %%) | %lu (%.0f %%) | %.0f | %.0f |\n", ways[i].name,
		       (unsigned long)on.could, (unsigned long)off.got,
		       100.0 * (double)off.got / (double)off.could, (unsigned long)on.got,
		       100.0 * (double)on.got / (double)on.could,
		       (double)on.isolated / (double)more, (double)on.ns / (double)more / 1000);
	}
	return 0;
}
