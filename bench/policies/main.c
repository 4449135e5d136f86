/* SPDX-License-Identifier: MIT */
/*
 * The laboratory of page replacement: patterns of accesses, made by themselves and the same in
 *every run, go through the whole engine on the soft machine, with as many frames as is said and the
 * memory store to evict to; what is counted is major faults.  Beside them the fewest that there can
 * be, which take knowing what comes.
 *
 *	policies [--json | --html] [--pages N]
 *
 * Pages are taken one by one and nothing is prefetched, so that a policy is all that is measured.
 * The exit status is 1 if the default policy is worse than it should be (lab_judge).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/policies/lab.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/reclaim/policy.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"

#define BASE 0x7f0000000000ULL

/* So often the TLB is emptied, as by a switch to another program.  It holds an eighth of all pages
 * here, and a page that it holds shows no use; a real one holds one in a thousand. */
#define TICK 16

static const char *const names[NR_LAB_POLICIES] = { "fifo", "clock", "lru", "gen" };
static const unsigned sizes[NR_LAB_SIZES] = { 25, 50, 75 };

_Noreturn static void fail(const char *what)
{
	fprintf(stderr, "policies: %s\n", what);
	exit(1);
}

static struct soft_machine *create(const char *policy, u32 pages, u32 frames, struct store **store)
{
	struct engine_config config = {
		.prefetch = 1,
		.segment = 1,
		.marks = { .min = 0, .low = 1, .high = 2 },
		.policy = policy_find(policy),
	};
	struct soft_options o = {
		.table_frames = pages / 256 + 64,
		.user_frames = frames + 1, /* the page of zeros that all share */
		.nr_cpus = 1,
		.config = &config,
	};
	struct soft_machine *m;

	if (!config.policy)
		fail("no such policy");
	if (memory_store_create(&soft_host_memory, COMPRESS_LZ4, 2 * pages, 0, 2, store))
		fail("no store");
	o.store = *store;
	if (soft_create(&o, &m))
		fail("no machine");
	return m;
}

/* Each page holds its number, and is looked at in every access. */
static void access_page(struct soft_cpu *cpu, u32 page, bool first)
{
	u64 va = BASE + (u64)page * PAGE_SIZE, word = page + 1;

	if (first ? soft_write_u64(cpu, va, word) : soft_read_u64(cpu, va, &word))
		fail("an access was refused");
	if (word != page + 1)
		fail("a page holds what it should not");
}

/* The trace's other pages, of a file on a disk in memory; none of them is in the cache. */
static void map_file(struct mm *mm, const struct trace *t)
{
	u64 start = BASE + t->anonymous * PAGE_SIZE, n = t->pages - t->anonymous;
	struct file *file = ramfile_create(mm->engine, FILE_READ | FILE_WRITE, n);

	if (!file)
		fail("no file");
	for (u64 i = 0; i < n; i++) {
		u64 words[PAGE_SIZE / 8] = { t->anonymous + i + 1 };

		if (file_write(file, i * PAGE_SIZE, words, PAGE_SIZE) != PAGE_SIZE)
			fail("the file cannot be written");
	}
	if (vfs_fsync_range(file, 0, ~0ULL))
		fail("the file cannot be written");
	invalidate_mapping_pages(file->mapping, 0, ~0ULL);
	if (vm_map_file(mm, start, n * PAGE_SIZE, VM_READ, VMAP_FIXED, VM_SHARED | VM_RAND_READ,
			file, 0) != (s64)start)
		fail("the file cannot be mapped");
	file_put(file);
}

static struct lab_count run(const char *policy, const struct trace *t, u32 frames)
{
	struct lab_count count = { 0 };
	struct store *store;
	struct soft_machine *m = create(policy, t->pages, frames, &store);
	struct soft_cpu *cpu = &m->cpus[0];
	struct mm *mm;

	if (mm_create(&m->engine, PAGE_SIZE, 1ULL << 47, &mm) ||
	    vm_map(mm, BASE, t->anonymous * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0) != BASE)
		fail("no space");
	if (t->anonymous < t->pages)
		map_file(mm, t);
	soft_load_mm(cpu, mm);
	for (u64 i = 0; i < t->n; i++) {
		u64 before = mm->major, more;

		if (i % TICK == 0)
			soft_load_mm(cpu, mm);
		access_page(cpu, t->refs[i] & ~TRACE_HOT, i < t->anonymous);
		more = mm->major - before;
		count.misses += more;
		count.hot_misses += t->refs[i] & TRACE_HOT ? more : 0;
	}
	soft_load_mm(cpu, NULL);
	mm_destroy(mm);
	engine_check(&m->engine);
	soft_destroy(m);
	memory_store_destroy(store);
	return count;
}

static void measure(struct lab *lab, unsigned pattern)
{
	struct trace t = trace_make(pattern, lab->pages);

	lab->patterns[pattern].name = t.name;
	lab->patterns[pattern].what = t.what;
	lab->patterns[pattern].refs = t.n - t.anonymous;
	lab->patterns[pattern].looping = t.looping;
	lab->patterns[pattern].hot = t.anonymous < t.pages ? t.anonymous : 0;
	for (unsigned i = 0; i < NR_LAB_SIZES; i++) {
		struct lab_row *r = &lab->patterns[pattern].rows[i];

		r->percent = sizes[i];
		r->frames = (u64)lab->pages * sizes[i] / 100;
		r->optimum = trace_optimum(&t, r->frames);
		r->blind = trace_blind(&t, r->frames);
		for (unsigned k = 0; k < NR_LAB_POLICIES; k++)
			r->by[k] = run(lab->policies[k], &t, r->frames);
	}
	trace_free(&t);
}

int main(int argc, char **argv)
{
	static struct lab lab = { .pages = 2000 };
	void (*tell)(const struct lab *lab) = lab_table;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			tell = lab_json;
		else if (!strcmp(argv[i], "--html"))
			tell = lab_html;
		else if (!strcmp(argv[i], "--pages") && i + 1 < argc)
			lab.pages = (u32)strtoul(argv[++i], NULL, 10);
		else
			fail("usage: policies [--json | --html] [--pages N]");
	}
	if (lab.pages < 200 || lab.pages > 1000000)
		fail("--pages: from 200 to 1000000");
	for (unsigned k = 0; k < NR_LAB_POLICIES; k++) {
		lab.policies[k] = names[k];
		if (policy_find(names[k]) == &policy_default)
			lab.chosen = k;
	}
	for (unsigned i = 0; i < NR_PATTERNS; i++)
		measure(&lab, i);
	tell(&lab);
	for (unsigned i = 0; i < NR_PATTERNS; i++)
		for (unsigned k = 0; k < NR_LAB_SIZES; k++)
			if (lab_judge(&lab, i, k) >= LAB_FLUSHED)
				return 1;
	return 0;
}
