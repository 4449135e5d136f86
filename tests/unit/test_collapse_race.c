/* SPDX-License-Identifier: MIT */
/* Faults and writes against what makes one huge page of 512 pages, with every interleaving forced.
 */
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "tests/unit/races.h"

#define UNTOUCHED 7 /* the one page that nothing was written to */

static int collapsed; /* what MADV_COLLAPSE answered */
static struct page *held;

static int setup_pages(void **state)
{
	(void)state;
	start_turns((struct world_options){ .frames = 2048, .thp = THP_NEVER });
	child = NULL;
	map(0, HUGE_PAGES, RW);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		if (i != UNTOUCHED)
			write_on(cpu0, i, 1);
	return 0;
}

static void collapse(void)
{
	collapsed = do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_COLLAPSE);
}

static bool is_huge(void)
{
	spinlock_t *ptl;
	pte_t *pmdp = pmd_find(mm, AT(0), &ptl);

	return pmdp && pmd_is_huge(pte_read(pmdp));
}

static void assert_collapsed(void)
{
	assert_int_equal(collapsed, 0);
	assert_true(is_huge());
	assert_int_equal(mm->rss, HUGE_PAGES);
	assert_int_equal(atomic_load(&w.e->stats->thp_collapse), 1);
	for (unsigned i = 1; i < HUGE_PAGES; i++)
		assert_int_equal(read_on(cpu0, i), i == UNTOUCHED ? 0 : 1);
}

static void what_is_written_up_to_the_flush_is_in_the_huge_page(void **state)
{
	(void)state;
	write_on(cpu1, 0, 1);
	at.flush = write_2_on_cpu1; /* by its TLB: the table is unlinked */
	collapse();
	assert_collapsed();
	assert_int_equal(read_on(cpu0, 0), 2);
	assert_int_equal(read_on(cpu1, 0), 2);
}

static void no_translation_of_a_single_page_outlives_the_flush(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		if (i != UNTOUCHED)
			write_on(cpu1, i, 1);
	collapse();
	assert_collapsed();
	write_on(cpu1, 0, 2);
	assert_int_equal(read_on(cpu0, 0), 2);
	write_on(cpu0, 0, 3);
	assert_int_equal(read_on(cpu1, 0), 3);
}

static void a_fault_while_the_table_is_away_waits(void **state)
{
	(void)state;
	at.flush = a_fault_begins_on_cpu1;
	collapse();
	join();
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(seen, 1);
	assert_collapsed();
}

static void a_fault_that_comes_after_it_finds_the_huge_page(void **state)
{
	(void)state;
	at.trap = collapse;
	write_on(cpu0, UNTOUCHED, 5);
	assert_int_equal(read_on(cpu1, UNTOUCHED), 5);
	write_on(cpu0, UNTOUCHED, 0);
	assert_collapsed();
}

static void collapsing_begins(void)
{
	begin(collapse);
	waits(layout_is_locked);
}

static void it_waits_for_a_fault_that_is_under_way(void **state)
{
	(void)state;
	at.stage = collapsing_begins;
	write_on(cpu0, UNTOUCHED, 5);
	join();
	assert_int_equal(read_on(cpu1, UNTOUCHED), 5);
	write_on(cpu1, UNTOUCHED, 0);
	assert_collapsed();
}

static void lock_page_3(void)
{
	assert_true(page_trylock(held));
}

/* The table comes back as it was. */
static void who_has_a_page_locked_keeps_it_from_being_copied(void **state)
{
	(void)state;
	held = page_of(mm, 3);
	at.flush = lock_page_3;
	collapse();
	page_unlock(held);
	assert_int_equal(collapsed, -EAGAIN);
	assert_false(is_huge());
	assert_ptr_equal(page_of(mm, 3), held);
	assert_int_equal(mm->rss, HUGE_PAGES - 1);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(read_on(cpu1, i), i == UNTOUCHED ? 0 : 1);
	assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_COLLAPSE), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup_pages, end)
	const struct CMUnitTest tests[] = {
		T(what_is_written_up_to_the_flush_is_in_the_huge_page),
		T(no_translation_of_a_single_page_outlives_the_flush),
		T(a_fault_while_the_table_is_away_waits),
		T(a_fault_that_comes_after_it_finds_the_huge_page),
		T(it_waits_for_a_fault_that_is_under_way),
		T(who_has_a_page_locked_keeps_it_from_being_copied),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
