/* SPDX-License-Identifier: MIT */
/*
 * What a fault costs in the engine alone: on a machine that does nothing but write entries, and
 * with a store that does nothing.  `bench_faults [MiB]`: a region of so much (512), half of it as
 * memory; ns a page, without prefetch and with.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/engine.h"
#include "engine/fault/fault.h"

static char some_page[PAGE_SIZE];

static int null_stage(struct engine *e, struct page **pages, unsigned n)
{
	(void)e, (void)pages, (void)n;
	return 0;
}
static void null_page(struct engine *e, struct page *page)
{
	(void)e, (void)page;
}
static void *null_bytes(struct engine *e, struct page *page)
{
	(void)e, (void)page;
	return some_page;
}
static int null_set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		    unsigned n)
{
	(void)mm, (void)va, (void)pages;
	for (unsigned i = 0; i < n; i++)
		pte_store(&ptep[i], ptes[i]);
	return n;
}
static void null_change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	(void)mm, (void)va;
	pte_store(ptep, pte);
}
static pte_t null_clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	(void)mm, (void)va;
	return pte_exchange(ptep, left);
}
static bool null_young(struct mm *mm, u64 va, pte_t *ptep)
{
	(void)mm, (void)va, (void)ptep;
	return false;
}
static unsigned null_take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	(void)mm;
	for (unsigned i = 0; i < n; i++) {
		pte_store(takes[i].ptep, takes[i].left);
		takes[i].result = 0;
		takes[i].dirty = true;
	}
	return n;
}
static void null_flush(struct mm *mm, u64 start, u64 end)
{
	(void)mm, (void)start, (void)end;
}

static const struct mmu_ops null_ops = {
	.name = "null",
	.stage = null_stage,
	.unstage = null_page,
	.bytes = null_bytes,
	.set = null_set,
	.change = null_change,
	.clear = null_clear,
	.test_and_clear_young = null_young,
	.take = null_take,
	.flush = null_flush,
	.release = null_page,
	.silent_write = true,
	.never_young = true,
};

static int null_save(struct store *s, u64 slot, const void *bytes)
{
	(void)s, (void)slot, (void)bytes;
	return 0;
}
static int null_load(struct store *s, u64 slot, void *bytes)
{
	(void)s, (void)slot, (void)bytes;
	return 0;
}
static bool null_same(struct store *s, u64 slot, const void *bytes)
{
	(void)s, (void)slot, (void)bytes;
	return true;
}
static void null_drop(struct store *s, u64 slot)
{
	(void)s, (void)slot;
}

static const struct store_ops null_store_ops = {
	.kind = "null",
	.save = null_save,
	.load = null_load,
	.same = null_same,
	.drop = null_drop,
};

static void *map_alloc(void *ctx, u64 bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	return p == MAP_FAILED ? NULL : p;
}
static void map_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	munmap(p, bytes);
}

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static u64 rnd = 88172645463325252ULL;

static u64 next_random(void)
{
	rnd ^= rnd << 13;
	rnd ^= rnd >> 7;
	rnd ^= rnd << 17;
	return rnd;
}

static struct engine e;
static struct mm *mm;

/* An access as a machine makes it: a fault if the entry is not there, then a slice of reclaim. */
static void touch(u64 va)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, va, &ptl);
	struct fault_result r;

	if (ptep && pte_present(pte_read(ptep)))
		return;
	r = do_user_addr_fault(mm, va, PF_USER | PF_WRITE);
	if (r.reason != FAULT_OK)
		abort();
	reclaim_step(&e, 2 + r.prefetched);
}

static u64 faults_before, taken_before;

static void report(const char *what, double start, u64 pages)
{
	u64 faults = e.stats->minor + e.stats->major, taken = e.lru.nodes[0].age;
	double ns = now_ns() - start;

	printf("  %-22s %7.0f ns a page asked for, %7.0f a fault; %lu faults, %lu pages taken\n",
	       what, ns / pages, faults > faults_before ? ns / (faults - faults_before) : 0.0,
	       (unsigned long)(faults - faults_before), (unsigned long)(taken - taken_before));
	faults_before = faults;
	taken_before = taken;
}

static void bench(u64 pages, unsigned prefetch)
{
	struct store store = { .ops = &null_store_ops, .nr_slots = 2 * pages };
	struct engine_memory memory = { .alloc = map_alloc, .free = map_free };
	struct engine_config config = engine_default_config(pages / 2);
	u64 nr_table = pages / 256 + 64;
	void *tables = map_alloc(NULL, nr_table * PAGE_SIZE);
	double start;
	s64 va;

	config.prefetch = prefetch;
	config.marks = (struct watermarks){ 64, 128, 256 };
	if (engine_init(&e, &null_ops, &memory, &config, nr_table, tables, pages / 2, NULL,
			&store) ||
	    mm_create(&e, PAGE_SIZE, 1ULL << 46, &mm))
		abort();
	va = vm_map(mm, 0, pages * PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
	printf("prefetch %u\n", prefetch);
	faults_before = taken_before = 0;
	start = now_ns();
	for (u64 i = 0; i < pages / 2 - 300; i++)
		touch(va + i * PAGE_SIZE);
	report("fill, memory is free", start, pages / 2 - 300);
	start = now_ns();
	for (u64 i = pages / 2 - 300; i < pages; i++)
		touch(va + i * PAGE_SIZE);
	report("fill, evicting", start, pages / 2 + 300);
	for (unsigned k = 0; k < 2; k++) {
		start = now_ns();
		for (u64 i = 0; i < pages; i++)
			touch(va + i * PAGE_SIZE);
		report("sequential pass", start, pages);
	}
	start = now_ns();
	for (u64 i = 0; i < pages; i++)
		touch(va + (next_random() % pages) * PAGE_SIZE);
	report("random", start, pages);
	mm_destroy(mm);
	engine_fini(&e);
	map_free(NULL, tables, nr_table * PAGE_SIZE);
}

int main(int argc, char **argv)
{
	u64 pages = (argc > 1 ? strtoull(argv[1], NULL, 0) : 512) * 256;

	bench(pages, 1);
	bench(pages, 32);
	return 0;
}
