/* SPDX-License-Identifier: MIT */
/*
 * Many threads on one space, with a quarter of the memory that they use: each has a word of its own
 * in every shared page and knows what it last wrote there; besides it changes the layout of a
 * region of its own; two more threads do nothing but reclaim.  In the end every word is verified
 * and every invariant checked.
 */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/unit.h"
#include "tests/unit/world.h"

enum { SHARED_PAGES = 512, OWN_PAGES = 48, MAX_THREADS = 64 };

static struct world w;
static unsigned factor = 1;
static u64 shared;
static _Atomic bool stop;

/* A region that all threads map, unmap, protect, drop and touch at once: there is nothing to know
 * about it but that a word in it is zero or what belongs in its page. */
enum { SCRATCH_PAGES = 96 };
#define SCRATCH 0x30000000ULL

struct worker {
	pthread_t thread;
	struct soft_cpu *cpu;
	unsigned number, rounds;
	u64 rnd;
	u64 expect[SHARED_PAGES]; /* our word in each shared page */
	u64 own;		  /* our region, now */
	u64 own_expect[OWN_PAGES];
	const char *error;
	u64 at;
};

static bool fails(struct worker *k, const char *what, u64 at)
{
	k->error = what;
	k->at = at;
	return false;
}

static bool touch_shared(struct worker *k)
{
	unsigned page = rnd_below(&k->rnd, SHARED_PAGES);
	u64 va = shared + page * PAGE_SIZE + k->number * sizeof(u64), word;

	if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
		return fails(k, "read of a shared page", va);
	if (word != k->expect[page])
		return fails(k, "shared page: wrong word", va);
	if (rnd_below(&k->rnd, 2)) {
		k->expect[page] = rnd_next(&k->rnd);
		if (soft_write_u64(k->cpu, va, k->expect[page]) != FAULT_OK)
			return fails(k, "write of a shared page", va);
	}
	return true;
}

static bool scan_shared(struct worker *k)
{
	unsigned from = rnd_below(&k->rnd, SHARED_PAGES - 32);

	for (unsigned i = from; i < from + 32; i++) {
		u64 va = shared + i * PAGE_SIZE + k->number * sizeof(u64), word;

		if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
			return fails(k, "scan of shared pages", va);
		if (word != k->expect[i])
			return fails(k, "scan of shared pages: wrong word", va);
	}
	return true;
}

static bool check_own(struct worker *k)
{
	for (unsigned i = 0; i < OWN_PAGES; i++) {
		u64 va = k->own + i * PAGE_SIZE, word;

		if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
			return fails(k, "read of an own page", va);
		if (word != k->own_expect[i])
			return fails(k, "own page: wrong word", va);
	}
	return true;
}

static bool change_layout(struct worker *k)
{
	unsigned from = rnd_below(&k->rnd, OWN_PAGES), n = 1 + rnd_below(&k->rnd, OWN_PAGES - from);
	u64 va = k->own + from * PAGE_SIZE;
	s64 to;

	switch (rnd_below(&k->rnd, 6)) {
	case 0:
		if (vm_advise(w.mm, va, n * PAGE_SIZE, VADV_DONTNEED))
			return fails(k, "advise", va);
		memset(k->own_expect + from, 0, n * sizeof(u64));
		return true;
	case 1:
		if (vm_protect(w.mm, va, n * PAGE_SIZE, VM_READ))
			return fails(k, "protect", va);
		if (soft_write_u64(k->cpu, va, 1) != FAULT_ACCERR)
			return fails(k, "write of a read-only page", va);
		return !vm_protect(w.mm, va, n * PAGE_SIZE, VM_READ | VM_WRITE) ||
		       fails(k, "protect back", va);
	case 2:
		if (vm_map(w.mm, va, n * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0) != (s64)va)
			return fails(k, "map over", va);
		memset(k->own_expect + from, 0, n * sizeof(u64));
		return true;
	case 3:
		to = vm_map(w.mm, 0, OWN_PAGES * PAGE_SIZE, VM_READ, 0, 0);
		if (to < 0 || vm_remap(w.mm, k->own, OWN_PAGES * PAGE_SIZE, OWN_PAGES * PAGE_SIZE,
				       VREMAP_MAYMOVE | VREMAP_FIXED, to) != to)
			return fails(k, "remap", k->own);
		k->own = to;
		return true;
	case 4:
		reclaim_range(w.mm, va, va + n * PAGE_SIZE);
		return true;
	default:
		for (unsigned i = from; i < from + n; i++) {
			k->own_expect[i] = rnd_next(&k->rnd);
			if (soft_write_u64(k->cpu, k->own + i * PAGE_SIZE, k->own_expect[i]))
				return fails(k, "write of an own page", va);
		}
		return true;
	}
}

static bool use_scratch(struct worker *k)
{
	unsigned page = rnd_below(&k->rnd, SCRATCH_PAGES), n = 1 + rnd_below(&k->rnd, 24);
	u64 va = SCRATCH + page * PAGE_SIZE, word = 0, tag = ~va;
	enum fault_reason reason = FAULT_OK;

	n = min_of(n, SCRATCH_PAGES - page);
	switch (rnd_below(&k->rnd, 24)) {
	case 0:
		vm_unmap(w.mm, va, n * PAGE_SIZE);
		break;
	case 1:
		vm_map(w.mm, va, n * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0);
		break;
	case 2:
		vm_protect(w.mm, va, n * PAGE_SIZE, rnd_below(&k->rnd, 2) ? VM_READ : 0);
		break;
	case 3:
		vm_protect(w.mm, va, n * PAGE_SIZE, VM_READ | VM_WRITE);
		break;
	case 4:
	case 5:
		vm_advise(w.mm, va, n * PAGE_SIZE, VADV_DONTNEED);
		break;
	case 6:
	case 7:
		reclaim_range(w.mm, va, va + n * PAGE_SIZE);
		break;
	default:
		if (rnd_below(&k->rnd, 2))
			reason = soft_write_u64(k->cpu, va + 8 * k->number, tag);
		else
			reason = soft_read_u64(k->cpu, va + 8 * k->number, &word);
	}
	if (reason != FAULT_OK && reason != FAULT_MAPERR && reason != FAULT_ACCERR)
		return fails(k, "touch of the scratch region", va);
	return !word || word == tag || fails(k, "scratch region: wrong word", va);
}

static void *work(void *arg)
{
	struct worker *k = arg;
	s64 own = vm_map(w.mm, 0, OWN_PAGES * PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
	bool ok = own > 0 || fails(k, "map", own);

	k->own = own;
	soft_load_mm(k->cpu, w.mm);
	for (unsigned i = 0; ok && i < k->rounds; i++) {
		ok = touch_shared(k) && use_scratch(k) && use_scratch(k);
		if (ok && i % 64 == 0)
			ok = scan_shared(k);
		if (ok && i % 16 == 0)
			ok = change_layout(k) && check_own(k);
		if (i % 4 == 0)
			reclaim_step(w.e, 4);
	}
	for (unsigned i = 0; ok && i < SHARED_PAGES; i++) {
		u64 va = shared + i * PAGE_SIZE + k->number * sizeof(u64), word;

		if (soft_read_u64(k->cpu, va, &word) != FAULT_OK)
			ok = fails(k, "read in the end", va);
		else if (word != k->expect[i])
			ok = fails(k, "shared page in the end: wrong word", va);
	}
	soft_load_mm(k->cpu, NULL);
	return NULL;
}

static void *reclaim_all_the_time(void *arg)
{
	u64 rnd = (u64)(uintptr_t)arg | 1;

	while (!atomic_load(&stop)) {
		unsigned from = rnd_below(&rnd, SHARED_PAGES);

		if (rnd_below(&rnd, 4))
			reclaim_balance(w.e);
		else
			reclaim_range(w.mm, shared + from * PAGE_SIZE,
				      shared + (from + 20) * PAGE_SIZE);
		sched_yield();
	}
	return NULL;
}

static void run(unsigned nr_threads, unsigned rounds, struct world_options o, bool inject)
{
	static struct worker workers[MAX_THREADS];
	pthread_t reclaimers[2];
	struct soft_inject *in;

	o.cpus = nr_threads;
	o.slots = 16384;
	if (!o.frames)
		o.frames = (SHARED_PAGES + nr_threads * OWN_PAGES) / 4;
	assert_int_equal(world_create(&w, o), 0);
	soft_load_mm(w.cpu, NULL);
	in = &w.m->inject;
	if (inject) {
		in->stage_again_every = 11;
		in->set_again_every = 13;
		in->set_most = 3;
		in->take_busy_every = 17;
	}
	shared = vm_map(w.mm, 0, SHARED_PAGES * PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
	vm_map(w.mm, SCRATCH, SCRATCH_PAGES * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0);
	atomic_store(&stop, false);
	memset(workers, 0, sizeof(workers));
	for (unsigned i = 0; i < nr_threads; i++) {
		workers[i] = (struct worker){ .cpu = &w.m->cpus[i],
					      .number = i,
					      .rounds = rounds * factor,
					      .rnd = 1000 + i };
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&reclaimers[i], NULL, reclaim_all_the_time,
			       (void *)(uintptr_t)(77 + 2 * i));
	for (unsigned i = 0; i < nr_threads; i++)
		pthread_join(workers[i].thread, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(reclaimers[i], NULL);
	for (unsigned i = 0; i < nr_threads; i++)
		if (workers[i].error)
			fail_msg("thread %u: %s at %lx", i, workers[i].error,
				 (unsigned long)workers[i].at);
	assert_true(w.e->stats->major > 0);
	soft_check(w.m);
	world_destroy(&w);
}

static void four_threads_page_by_page(void **state)
{
	(void)state;
	run(4, 3000, (struct world_options){ .kept = 1000 }, false);
}

static void eight_threads_with_streams_and_segments(void **state)
{
	(void)state;
	run(8, 2000,
	    (struct world_options){
		    .prefetch = 16, .segment = 64, .kept = 100, .compress = COMPRESS_LZ4 },
	    false);
}

static void six_threads_on_a_machine_that_fails_often(void **state)
{
	(void)state;
	run(6, 2000, (struct world_options){ .prefetch = 8, .segment = 32, .kept = 50 }, true);
}

/* Everybody's frames together are as many as two of them want at once: a thread that finds none
 * waits for the others, and none is told that there is no memory. */
static void eight_threads_with_next_to_no_memory(void **state)
{
	(void)state;
	run(8, 2000,
	    (struct world_options){ .frames = 37, .prefetch = 16, .segment = 64, .kept = 100 },
	    false);
}

static void four_threads_by_each_policy(void **state)
{
	static const char *const names[] = { "gen", "clock", "fifo" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
		run(4, 1000,
		    (struct world_options){
			    .prefetch = 4, .kept = 100, .policy = policy_find(names[i]) },
		    false);
}

static void sixty_four_threads(void **state)
{
	(void)state;
	run(64, 300, (struct world_options){ .prefetch = 4, .segment = 16, .kept = 200 }, false);
}

/* test_smp [FACTOR]: so many times as long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(four_threads_page_by_page),
		cmocka_unit_test(eight_threads_with_streams_and_segments),
		cmocka_unit_test(six_threads_on_a_machine_that_fails_often),
		cmocka_unit_test(eight_threads_with_next_to_no_memory),
		cmocka_unit_test(four_threads_by_each_policy),
		cmocka_unit_test(sixty_four_threads),
	};

	if (argc > 1)
		factor = strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
