/* SPDX-License-Identifier: MIT */
/* Areas of huge pages, on two CPUs and from the side of their file at once. */
#include <pthread.h>

#include "engine/reclaim/memory_failure.h"
#include "tests/unit/huge_world.h"

static int setup(void **state)
{
	(void)state;
	start_huge(1);
	soft_load_mm(&w.m->cpus[1], mm);
	return 0;
}

/* ---- the last page of the pool ---- */

static pthread_barrier_t together;

enum { ROUNDS = 100 };

static void *touch_at_once(void *arg)
{
	unsigned n = *(unsigned *)arg;
	struct soft_cpu *cpu = &w.m->cpus[n];

	for (unsigned round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&together);
		assert_int_equal(soft_write_byte(cpu, HUGE(0) + n, 1), FAULT_OK);
		pthread_barrier_wait(&together);
		if (!n)
			assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_REMOVE), 0);
	}
	return NULL;
}

static void of_two_that_touch_the_same_page_neither_takes_it_from_the_other(void **state)
{
	unsigned numbers[2] = { 0, 1 };
	pthread_t threads[2];

	(void)state;
	map_anon(0, 1, SHARED | NORESERVE);
	pthread_barrier_init(&together, NULL, 2);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, touch_at_once, &numbers[i]);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
	pool_is(1, 1, 0);
}

/* ---- everything at once ---- */

enum { PAGES = 4, STEPS = 600 };

static struct file *file;

/* An area at 0, private (of its own file), one at 8, shared, of `file`; and one at 16, private, of
 * it, too.  What is promised to the first is to be had at any time. */
static u64 some_place(u64 *seed)
{
	static const unsigned areas[] = { 0, 8, 16 };

	return HUGE(areas[rnd_below(seed, 3)] + rnd_below(seed, PAGES)) + rnd_below(seed, H(1));
}

static void touch(struct soft_cpu *cpu, u64 va, u64 *seed)
{
	enum fault_reason reason;
	u8 byte;

	reason = rnd_below(seed, 2) ? soft_write_byte(cpu, va, 1) : soft_read_byte(cpu, va, &byte);
	if (reason == FAULT_OK)
		return;
	/* Behind the end of the file, or no page for who was promised none. */
	assert_true(reason == FAULT_BUS || reason == FAULT_ACCERR);
	assert_true(va >= HUGE(8) || reason == FAULT_ACCERR);
}

static void change(u64 *seed)
{
	u64 va = some_place(seed) & ~(H(1) - 1);

	switch (rnd_below(seed, 4)) {
	case 0:
		do_madvise(mm, va, H(1), UAPI_MADV_DONTNEED);
		break;
	case 1:
		do_mprotect(mm, va, H(1), VM_READ);
		break;
	default:
		do_mprotect(mm, va, H(1), RW);
	}
}

static void *program(void *arg)
{
	unsigned n = *(unsigned *)arg;
	u64 seed = 77 + n;

	for (unsigned i = 0; i < STEPS; i++) {
		touch(&w.m->cpus[n], some_place(&seed), &seed);
		if (!rnd_below(&seed, 4))
			change(&seed);
	}
	return NULL;
}

static void *others(void *arg)
{
	u64 seed = 99;

	(void)arg;
	for (unsigned i = 0; i < STEPS / 4; i++) {
		u64 n = rnd_below(&seed, PAGES + 1);
		struct mm *child;

		switch (rnd_below(&seed, 4)) {
		case 0:
			assert_int_equal(file_truncate(file, H(n)), 0);
			break;
		case 1:
			assert_int_equal(file_truncate(file, H(PAGES)), 0);
			break;
		case 2:
			assert_int_equal(file_punch_hole(file, H(n) / 2, H(1)), 0);
			break;
		default:
			child = fork_of(mm);
			mm_destroy(child);
		}
	}
	return NULL;
}

/* Two threads that use areas of all kinds over a pool of 16 pages, and one that disturbs them. */
static void storm(void *(*use)(void *), void *(*disturb)(void *))
{
	unsigned numbers[2] = { 0, 1 };
	pthread_t threads[3];

	assert_int_equal(hugetlb_set_pool(h, 16), 16);
	file = memfd_alloc_file(w.e, MEMFD_HUGETLB);
	map_anon(0, PAGES, PRIVATE);
	assert_int_equal(map_huge(8, PAGES, SHARED, file, 0), HUGE(8));
	assert_int_equal(map_huge(16, PAGES, PRIVATE | NORESERVE, file, 0), HUGE(16));
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, use, &numbers[i]);
	pthread_create(&threads[2], NULL, disturb, NULL);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	engine_check(w.e);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(24)), 0);
	file_put(file);
}

static void a_storm_leaves_pools_and_promises_as_they_must_be(void **state)
{
	(void)state;
	storm(program, others);
	pool_is(16, 16, 0);
}

/* ---- memory that fails meanwhile ---- */

static void *touch_and_drop(void *arg)
{
	unsigned n = *(unsigned *)arg;
	u64 seed = 31 + n;

	for (unsigned i = 0; i < STEPS; i++) {
		u64 va = some_place(&seed);
		enum fault_reason reason = soft_write_byte(&w.m->cpus[n], va, 1);

		assert_true(reason == FAULT_OK || reason == FAULT_BUS);
		if (!rnd_below(&seed, 8))
			do_madvise(mm, va & ~(H(1) - 1), H(1), UAPI_MADV_DONTNEED);
	}
	return NULL;
}

/* Frames that are mapped, and frames that are free; a child has them, too, now and then. */
static void *break_frames(void *arg)
{
	struct page *first = pfn_page(w.e, w.e->zones[ZONE_USER].start_pfn);
	u64 seed = 41, nr = w.e->zones[ZONE_USER].nr;

	(void)arg;
	for (unsigned i = 0; i < 200; i++) {
		struct page *frame = first + rnd_below(&seed, nr);

		if (!(i % 20)) {
			struct mm *child = fork_of(mm);

			mm_destroy(child);
		}
		if (i % 10 == 5)
			assert_int_equal(file_punch_hole(file, H(i % PAGES), H(1)), 0);
		if (is_of_pool(frame) && i % 20 == 3)
			memory_failure(w.e, page_pfn(w.e, frame));
	}
	return NULL;
}

static void pages_that_fail_in_use_leave_no_trace(void **state)
{
	struct hstate_counts n;

	(void)state;
	storm(touch_and_drop, break_frames);
	n = hugetlb_counts(h);
	assert_int_equal(n.free, n.nr);
	assert_int_equal(n.resv, 0);
	/* Each page that left the pool did so for a frame of its own, or for several. */
	assert_true(n.nr + w.e->zones[ZONE_USER].nr_retired >= 16);
	assert_true(n.nr < 16);
	engine_check(w.e);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(of_two_that_touch_the_same_page_neither_takes_it_from_the_other),
		T(a_storm_leaves_pools_and_promises_as_they_must_be),
		T(pages_that_fail_in_use_leave_no_trace),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
