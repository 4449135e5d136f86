/* SPDX-License-Identifier: MIT */
/*
 * A storm over a few huge pages: threads read and write, each its own words, while others collapse
 * and split, page out, fork and let go.  Every word must stay what its thread has written.
 */
#include <pthread.h>

#include "engine/fault/collapse.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define RW    (VM_READ | VM_WRITE)
#define P(n)  ((u64)(n)*PAGE_SIZE)
#define BASE  0x20000000ULL
#define AT(n) (BASE + P(n))

static struct world w;
static struct mm *mm;

enum { USERS = 2, AREA = 4 * HUGE_PAGES, ACCESSES = 60000, CHANGES = 300 };

static _Atomic bool done;

static int setup(void **state)
{
	(void)state;
	assert_int_equal(world_create(&w, (struct world_options){ .frames = 8192,
								  .slots = 8192,
								  .thp = THP_ALWAYS,
								  .cpus = USERS + 2 }),
			 0);
	mm = w.mm;
	w.e->config.collapse.max_none = HUGE_PAGES - 1;
	w.e->config.collapse.max_swap = HUGE_PAGES;
	w.e->config.collapse.max_shared = HUGE_PAGES;
	for (unsigned i = 0; i < USERS; i++)
		soft_load_mm(&w.m->cpus[i], mm);
	atomic_store(&done, false);
	assert_int_equal(vm_map(mm, BASE, P(AREA), RW, VMAP_FIXED, 0), BASE);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	soft_check(w.m);
	world_destroy(&w);
	return 0;
}

static void access(unsigned self, unsigned page, u64 *expected, uint64_t *rnd)
{
	struct soft_cpu *cpu = &w.m->cpus[self];
	u64 va = AT(page) + (self + 8 * (page % 64)) * sizeof(u64), word;

	if (soft_read_u64(cpu, va, &word) != FAULT_OK || word != expected[page])
		abort();
	if (rnd_below(rnd, 2))
		return;
	expected[page] = rnd_next(rnd);
	if (soft_write_u64(cpu, va, expected[page]) != FAULT_OK)
		abort();
}

static void *use_words(void *arg)
{
	static u64 expected[USERS][AREA];
	unsigned self = (unsigned)(uintptr_t)arg;
	uint64_t rnd = self + 1;

	memset(expected[self], 0, sizeof(expected[self]));
	for (unsigned i = 0; i < ACCESSES; i++)
		access(self, (unsigned)rnd_below(&rnd, AREA), expected[self], &rnd);
	while (!atomic_load(&done))
		access(self, (unsigned)rnd_below(&rnd, AREA), expected[self], &rnd);
	return NULL;
}

static u64 huge_at(uint64_t *rnd)
{
	return BASE + rnd_below(rnd, AREA / HUGE_PAGES) * PMD_SIZE;
}

/* Each is refused while others hold the pages; in so few tries all may be. */
static bool has_had_both(void)
{
	return atomic_load(&w.e->stats->thp_collapse) && atomic_load(&w.e->stats->thp_split);
}

static void *collapse_and_split(void *arg)
{
	uint64_t rnd = 77;

	(void)arg;
	for (unsigned i = 0; i < CHANGES || (i < 1000 * CHANGES && !has_had_both()); i++) {
		do_madvise(mm, huge_at(&rnd), PMD_SIZE, UAPI_MADV_COLLAPSE);
		khugepaged_scan(w.e, 2 * HUGE_PAGES);
		if (i % 2)
			continue;
		down_read(&mm->mmap_lock);
		split_huge_pmd(mm, huge_at(&rnd) + P(rnd_below(&rnd, HUGE_PAGES)));
		up_read(&mm->mmap_lock);
	}
	return NULL;
}

static void *page_out_and_fork(void *arg)
{
	uint64_t rnd = 99;
	struct mm *child;

	(void)arg;
	for (unsigned i = 0; i < CHANGES / 4; i++) {
		u64 va = huge_at(&rnd);

		do_madvise(mm, va + P(rnd_below(&rnd, HUGE_PAGES / 2)), P(100), UAPI_MADV_PAGEOUT);
		if (mm_fork(mm, &child))
			abort();
		if (i % 3 == 0)
			do_madvise(child, va, PMD_SIZE, UAPI_MADV_COLLAPSE);
		if (i % 3 == 1)
			vm_unmap(child, va + P(3), P(5));
		mmput(child);
	}
	return NULL;
}

static void a_storm_of_collapses_and_splits_loses_no_word(void **state)
{
	pthread_t users[USERS], changers[2];

	(void)state;
	for (uintptr_t i = 0; i < USERS; i++)
		assert_int_equal(pthread_create(&users[i], NULL, use_words, (void *)i), 0);
	assert_int_equal(pthread_create(&changers[0], NULL, collapse_and_split, NULL), 0);
	assert_int_equal(pthread_create(&changers[1], NULL, page_out_and_fork, NULL), 0);
	pthread_join(changers[0], NULL);
	pthread_join(changers[1], NULL);
	atomic_store(&done, true);
	for (unsigned i = 0; i < USERS; i++)
		pthread_join(users[i], NULL);
	assert_true(has_had_both());
	for (unsigned i = 1; i < USERS; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
}

/* Two that write to it at once: one huge page comes, and no write is lost. */
static void two_first_writes_get_one_huge_page(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		pthread_t t[USERS];
		u64 first;

		for (uintptr_t k = 0; k < USERS; k++)
			assert_int_equal(pthread_create(&t[k], NULL, use_words, (void *)k), 0);
		atomic_store(&done, true);
		for (unsigned k = 0; k < USERS; k++)
			pthread_join(t[k], NULL);
		assert_int_equal(atomic_load(&mm->rss), AREA);
		first = atomic_load(&w.e->stats->thp_fault_alloc);
		assert_int_equal(first, (i + 1) * (AREA / HUGE_PAGES));
		assert_int_equal(do_madvise(mm, BASE, P(AREA), UAPI_MADV_DONTNEED), 0);
	}
	for (unsigned i = 1; i < USERS; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_storm_of_collapses_and_splits_loses_no_word,
						setup, teardown),
		cmocka_unit_test_setup_teardown(two_first_writes_get_one_huge_page, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
