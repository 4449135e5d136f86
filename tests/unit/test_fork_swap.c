/* SPDX-License-Identifier: MIT */
/* fork: slots that several processes name, and what reclaim does with pages that they share. */
#include "tests/unit/fork_world.h"

/* ---- swap ---- */

static void a_swapped_page_is_shared_by_its_slot(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "write A 4P 1\n"
	       "pageout A 4P\n"
	       "expect swapped 4\n"
	       "fork as P\n"
	       "check\n"
	       "process P\n"
	       "expect swapped 4\n"
	       "read A 1P 1\n"
	       "expect major 1\n"
	       "check\n"
	       "process first\n"
	       "read A 1P 1\n" /* finds it in the swap cache */
	       "check\n"
	       "expect major 0\n"
	       "write A 1P 2\n"
	       "write A+1P 1P 3\n" /* from the store, and on to a copy, in one fault */
	       "expect major 1\n"
	       "expect minor 6\n"
	       "check\n"
	       "process P\n"
	       "read A 4P 1\n"
	       "check\n"
	       "exit P\n"
	       "read A+2P 2P 1\n"
	       "check\n");
	assert_int_equal(flaky.loads, 4);
}

static void who_is_alone_with_a_slot_may_write_at_once(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	mm_destroy(fork_of(mm));
	get(0);
	assert_true(pte_write(entry(mm, 0)));
	assert_true(page_test(page_of(mm, 0), PG_ANON_EXCLUSIVE));
}

static void a_page_whose_slot_others_name_is_not_written_to(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	child = fork_of(mm);
	get(0);
	page = page_of(mm, 0);
	assert_int_equal(page_mapcount(page), 1);
	assert_false(pte_write(entry(mm, 0)));
	put(0, 2); /* copies; the page has no entry any more, and is the child's all the same */
	assert_ptr_not_equal(page_of(mm, 0), page);
	assert_true(page_test(page, PG_WRITEBACK));
	soft_check(w.m);
	assert_int_equal(get_in(child, 0), 1);
	assert_ptr_equal(page_of(child, 0), page);
	assert_true(page_test(page, PG_ANON_EXCLUSIVE));
	mm_destroy(child);
}

/* Who copies a page has a reference to it, and may still read it when its own entry has gone. */
static void a_page_that_comes_back_while_somebody_copies_it_is_not_written_to(void **state)
{
	struct page *page;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	mm_destroy(fork_of(mm));
	page = page_of(mm, 0);
	page_get(page);
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	get(0);
	assert_ptr_equal(page_of(mm, 0), page);
	assert_false(pte_write(entry(mm, 0)));
	page_put(w.e, page);
	put(0, 2);
	assert_ptr_equal(page_of(mm, 0), page);
}

static void when_the_others_have_let_go_of_the_slot_there_is_no_copy(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	child = fork_of(mm);
	get(0);
	page = page_of(mm, 0);
	assert_int_equal(w.e->swap.kept, 0);
	mm_destroy(child);
	assert_int_equal(w.e->swap.kept, 1);
	soft_check(w.m);
	put(0, 2);
	assert_ptr_equal(page_of(mm, 0), page);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 2);
}

static void the_dirty_bit_of_either_is_enough(void **state)
{
	struct mm *child;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 1, RW);
	put(0, 1);
	reclaim_range(mm, AT(0), AT(1));
	put(0, 2); /* in the store is 1 */
	child = fork_of(mm);
	end_first(child);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 2);
}

static void pages_are_read_ahead_for_each(void **state)
{
	struct mm *child;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .prefetch = 16 });
	map(0, 64, RW);
	for (unsigned i = 0; i < 64; i++)
		put(i, i);
	reclaim_range(mm, AT(0), AT(64));
	child = fork_of(mm);
	for (unsigned i = 0; i < 40; i++)
		assert_int_equal(get(i), i);
	soft_check(w.m);
	for (unsigned i = 64; i-- > 0;)
		assert_int_equal(get_in(child, i), i);
	soft_check(w.m);
	for (unsigned i = 0; i < 64; i++)
		put(i, 100);
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(get_in(child, i), i);
	mm_destroy(child);
}

/* ---- reclaim ---- */

static void a_shared_page_is_taken_from_all_its_entries(void **state)
{
	struct mm *children[3];
	struct page *page;
	struct taken t;
	bool full;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	page = page_of(mm, 0);
	for (unsigned i = 0; i < 3; i++)
		children[i] = fork_of(i ? children[i - 1] : mm);
	assert_int_equal(page_mapcount(page), 4);
	/* Young in one of them: spared once. */
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 0);
	assert_int_equal(t.aged, 1);
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 1);
	assert_int_equal(page_mapcount(page), 0);
	assert_int_equal(swap_slot(&w.e->swap, 0)->count, 5);
	soft_check(w.m);
	/* Two come back for it, one of them copies; the others find it in the store. */
	assert_int_equal(get(0), 7);
	put_in(children[1], 0, 8);
	soft_check(w.m);
	while (!w.e->lru.nr_writeout)
		take_segment(w.e, true, NODE_MASK_ALL, &t);
	soft_check(w.m);
	while (writeout(w.e, 8, &full))
		;
	soft_check(w.m);
	assert_int_equal(get_in(children[0], 0), 7);
	assert_int_equal(get_in(children[1], 0), 8);
	assert_int_equal(get_in(children[2], 0), 7);
	for (unsigned i = 0; i < 3; i++)
		mm_destroy(children[i]);
	assert_int_equal(get(0), 7);
}

static void an_entry_that_cannot_be_taken_keeps_the_page(void **state)
{
	struct mm *child;
	struct page *page;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	page = page_of(mm, 0);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2;
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	w.m->inject.take_busy_every = 0;
	assert_int_equal(t.taken, 0);
	assert_int_equal(page_mapcount(page), 1);
	assert_int_equal(mm->swapped + child->swapped, 1);
	assert_true(page_test(page, PG_UNEVICTABLE));
	soft_check(w.m);
	put(0, 8);
	put_in(child, 0, 9);
	assert_int_equal(get(0), 8);
	mm_destroy(child);
}

/* The store is full, and the copies that are only kept make room: not the one that an entry names.
 */
static void a_page_that_an_entry_names_is_no_kept_copy(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	world_destroy(&w);
	begin((struct world_options){ .kept = 100 });
	map(0, 2, RW);
	put(0, 7);
	put(1, 1);
	reclaim_range(mm, AT(1), AT(2));
	get(1);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2;
	for (unsigned i = 0; i < 4 && !(mm->swapped + child->swapped); i++)
		take_segment(w.e, true, NODE_MASK_ALL, &t);
	w.m->inject.take_busy_every = 0;
	assert_int_equal(mm->swapped + child->swapped, 1);
	assert_int_equal(w.e->swap.kept, 1);
	assert_int_equal(lru_drop_kept(w.e), 1);
	assert_int_equal(w.e->swap.kept, 0);
	soft_check(w.m);
	assert_int_equal(get(0) + get(1), 8);
	assert_int_equal(get_in(child, 0) + get_in(child, 1), 8);
	mm_destroy(child);
}

static void a_locked_entry_keeps_the_page_from_all(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	assert_int_equal(vm_map(mm, AT(0), P(1), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	put(0, 7);
	child = fork_of(mm);
	assert_true(take_segment(w.e, true, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 0);
	assert_int_equal(mm->rss + child->rss, 2);
	assert_int_equal(lru_unevictable(w.e), 1);
	mm_destroy(child);
}

static void without_slots_a_shared_page_stays(void **state)
{
	struct mm *child;
	struct taken t;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_of(mm);
	use_up_the_slots();
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	assert_true(t.no_slots);
	assert_int_equal(mm->rss + child->rss, 2);
	give_back_the_slots();
	mm_destroy(child);
}

/* Neighbours of a victim that are mapped more than once stay, and so they do for MADV_PAGEOUT. */
static void a_shared_page_is_no_part_of_a_segment(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i);
	child = fork_of(mm);
	put(2, 20);
	put(5, 50);
	assert_int_equal(reclaim_range(mm, AT(0), AT(8)), 2);
	assert_int_equal(mm->rss, 6);
	assert_int_equal(mm->swapped, 2);
	soft_check(w.m);
	mm_destroy(child);
}

static void a_page_unmapped_here_and_swapped_out_there_goes_to_the_writer(void **state)
{
	struct mm *child;
	struct taken t;
	bool full;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	child = fork_of(mm);
	w.m->takes = 0;
	w.m->inject.take_busy_every = 2; /* the child's stays, or the parent's */
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	w.m->inject.take_busy_every = 0;
	if (mm->rss) {
		assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
	} else {
		mm_destroy(child);
		child = NULL;
	}
	assert_int_equal(w.e->lru.nr_writeout, 1);
	soft_check(w.m);
	assert_int_equal(writeout(w.e, 1, &full), 1);
	assert_int_equal(flaky.saves, 1);
	assert_int_equal(child ? get_in(child, 0) : get(0), 7);
	if (child)
		mm_destroy(child);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_swapped_page_is_shared_by_its_slot),
		T(who_is_alone_with_a_slot_may_write_at_once),
		T(a_page_whose_slot_others_name_is_not_written_to),
		T(a_page_that_comes_back_while_somebody_copies_it_is_not_written_to),
		T(when_the_others_have_let_go_of_the_slot_there_is_no_copy),
		T(the_dirty_bit_of_either_is_enough),
		T(pages_are_read_ahead_for_each),
		T(a_shared_page_is_taken_from_all_its_entries),
		T(an_entry_that_cannot_be_taken_keeps_the_page),
		T(a_page_that_an_entry_names_is_no_kept_copy),
		T(a_locked_entry_keeps_the_page_from_all),
		T(without_slots_a_shared_page_stays),
		T(a_shared_page_is_no_part_of_a_segment),
		T(a_page_unmapped_here_and_swapped_out_there_goes_to_the_writer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
