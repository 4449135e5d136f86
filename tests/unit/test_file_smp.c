/* SPDX-License-Identifier: MIT */
/*
 * Files under several CPUs at once: two spaces share a file, count in it, cut it, write it back,
 * and have its pages reclaimed.  No count is lost, nothing is mapped behind the end, and all
 * invariants hold in the end.
 *
 *   pages [0, KEPT)     never cut; each counter has one thread that adds to it
 *   pages [KEPT, ALL)   come and go: an access succeeds or is a bus error
 */
#include <pthread.h>
#include <time.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "tests/unit/one_world.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

enum { KEPT = 24, ALL = 64, THREADS = 4, PRIVATE = 100, SCRATCH = 300, FRAMES = 96 };

struct worker {
	unsigned number;
	struct soft_cpu *cpu;
	struct mm *mm;
	u64 counts[KEPT];
	u64 buses, rnd;
	pthread_t thread;
};

static struct file *file;
static struct mm *spaces[2];
static _Atomic bool stop;

static void bump(struct worker *k)
{
	unsigned page = rnd_below(&k->rnd, KEPT);
	u64 old;

	if (soft_add_u64(k->cpu, AT(page) + 8 * k->number, 1, &old) != FAULT_OK ||
	    old != k->counts[page])
		abort();
	k->counts[page]++;
}

static void touch_what_comes_and_goes(struct worker *k)
{
	u64 va = AT(rnd_below(&k->rnd, 2) * PRIVATE + KEPT + rnd_below(&k->rnd, ALL - KEPT));
	enum fault_reason reason;
	u8 byte;

	if (rnd_below(&k->rnd, 2))
		reason = soft_read_byte(k->cpu, va, &byte);
	else
		reason = soft_write_byte(k->cpu, va, 1);
	if (reason == FAULT_BUS)
		k->buses++;
	else if (reason != FAULT_OK)
		abort();
}

/* A mapping of one's own: every count seen in it is one that there was. */
static void map_anew(struct worker *k)
{
	u64 va = AT(SCRATCH + 100 * k->number), seen = 0;
	unsigned page = rnd_below(&k->rnd, KEPT - 4);

	if (vm_map_file(k->mm, va, P(4), RW, VMAP_FIXED, rnd_below(&k->rnd, 2) ? SHARED : 0, file,
			page) != (s64)va)
		abort();
	if (soft_read_u64(k->cpu, va + 8 * k->number, &seen) != FAULT_OK || seen != k->counts[page])
		abort();
	if (vm_protect(k->mm, va + P(1), P(2), VM_READ) || vm_unmap(k->mm, va + P(2), P(1)))
		abort();
}

static void *work(void *arg)
{
	struct worker *k = arg;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		switch (rnd_below(&k->rnd, 8)) {
		case 0:
			map_anew(k);
			break;
		case 1:
			vm_advise(k->mm, AT(rnd_below(&k->rnd, PRIVATE + ALL)), P(4),
				  VADV_DONTNEED);
			break;
		case 2:
		case 3:
			touch_what_comes_and_goes(k);
			break;
		default:
			bump(k);
		}
	}
	return NULL;
}

/* Only the cutter makes the file longer, so until it does, nothing may be mapped from `page` on. */
static void nothing_behind(unsigned page)
{
	for (; page < ALL; page++)
		for (unsigned i = 0; i < 4; i++) {
			struct mm *in = spaces[i & 1];
			spinlock_t *ptl;
			pte_t *ptep;

			down_read(&in->mmap_lock);
			ptep = pte_find(in, AT((i & 2 ? PRIVATE : 0) + page), &ptl);
			if (ptep && !pte_none(pte_read(ptep)))
				abort();
			up_read(&in->mmap_lock);
		}
}

static void *cut(void *arg)
{
	u64 rnd = 77;

	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		u64 at = P(KEPT) + rnd_below(&rnd, P(ALL - KEPT));

		if (file_punch_hole(file, at, 1 + rnd_below(&rnd, P(8))))
			abort();
		if (file_truncate(file, at))
			abort();
		nothing_behind((at + PAGE_SIZE - 1) >> PAGE_SHIFT);
		if (file_truncate(file, P(ALL)))
			abort();
		if (file_write(file, at, "vmf", 3) != 3)
			abort();
	}
	return NULL;
}

static void *clean(void *arg)
{
	u64 rnd = 5;

	(void)arg;
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		reclaim_direct(w.e, 1 + rnd_below(&rnd, 16));
		if (vfs_fsync_range(file, 0, P(rnd_below(&rnd, ALL))))
			abort();
		invalidate_mapping_pages(file->mapping, 0, ~0ULL);
	}
	return NULL;
}

static void race(struct file *f)
{
	static struct worker workers[THREADS];
	struct timespec nap = { .tv_sec = 1, .tv_nsec = 500000000 };
	pthread_t cutter, cleaner;
	struct mm *other;
	u64 buses = 0;

	file = f;
	atomic_store(&stop, false);
	assert_int_equal(file_truncate(f, P(ALL)), 0);
	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &other), 0);
	spaces[0] = mm;
	spaces[1] = other;
	for (unsigned i = 0; i < 2; i++) {
		struct mm *in = spaces[i];

		vm_map_file(in, AT(0), P(ALL), RW, VMAP_FIXED, SHARED, f, 0);
		vm_map_file(in, AT(PRIVATE), P(ALL), RW, VMAP_FIXED, 0, f, 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){
			.number = i, .cpu = &w.m->cpus[i], .mm = i & 1 ? other : mm, .rnd = 1000 + i
		};
		soft_load_mm(workers[i].cpu, workers[i].mm);
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	pthread_create(&cutter, NULL, cut, NULL);
	pthread_create(&cleaner, NULL, clean, NULL);
	nanosleep(&nap, NULL);
	atomic_store(&stop, true);
	pthread_join(cutter, NULL);
	pthread_join(cleaner, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	soft_check(w.m);
	for (unsigned i = 0; i < THREADS; i++) {
		for (unsigned page = 0; page < KEPT; page++) {
			u64 count;

			assert_int_equal(file_read(f, P(page) + 8 * i, &count, 8), 8);
			assert_int_equal(count, workers[i].counts[page]);
		}
		buses += workers[i].buses;
		soft_load_mm(workers[i].cpu, i ? NULL : mm);
	}
	assert_true(buses > 0);
	mm_destroy(other);
	file_put(f);
}

/* The store of the other tests is for one thread. */
static int setup(void **state)
{
	(void)state;
	assert_int_equal(
		world_create(&w, (struct world_options){ .cpus = THREADS + 2, .frames = FRAMES }),
		0);
	mm = w.mm;
	return 0;
}

static void a_file(void **state)
{
	(void)state;
	race(ramfile_create(w.e, FILE_READ | FILE_WRITE, 4096));
}

static void shared_memory(void **state)
{
	(void)state;
	race(shmem_file_setup(w.e, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(shared_memory, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
