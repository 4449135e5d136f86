/* SPDX-License-Identifier: MIT */
/* fork: what is inherited, what becomes of the layout, and what is left where it fails. */
#include "tests/unit/fork_world.h"
#include "tests/unit/panics.h"

/* ---- what is inherited ---- */

static void a_child_has_what_the_parent_had(void **state)
{
	(void)state;
	passes("map any 8P rw as A\n"
	       "write A 8P 1\n"
	       "protect A+2P 2P r\n"
	       "fork as P\n"
	       "check\n"
	       "process P\n"
	       "read A 8P 1\n"
	       "expect minor 0\n" /* it is all there */
	       "expect rss 8\n"
	       "expect maps 3\n"
	       "write A+2P 1 5 -> segv accerr\n"
	       "write A 2P 2\n"
	       "expect minor 2\n"
	       "expect rss 8\n"
	       "check\n"
	       "process first\n"
	       "read A 8P 1\n");
}

static void nobody_sees_what_the_other_writes(void **state)
{
	(void)state;
	passes("map any 6P rw as A\n"
	       "write A 6P 1\n"
	       "fork as P\n"
	       "write A 2P 2\n"
	       "process P\n"
	       "read A 6P 1\n"
	       "write A+2P 2P 3\n"
	       "process first\n"
	       "read A 2P 2\n"
	       "read A+2P 4P 1\n"
	       "write A+4P 1P 4\n"
	       "process P\n"
	       "read A 2P 1\n"
	       "read A+2P 2P 3\n"
	       "read A+4P 2P 1\n"
	       "check\n"
	       "exit P\n"
	       "read A 2P 2\n"
	       "read A+4P 1P 4\n"
	       "read A+5P 1P 1\n"
	       "check\n");
}

static void a_write_from_another_cpu_of_the_parent_faults_after_fork(void **state)
{
	(void)state;
	/* Both CPUs have the page writable in their TLBs. */
	passes("map any 1P rw as A\n"
	       "write A 1P 1\n"
	       "cpu 1\n"
	       "write A 1P 2\n"
	       "cpu 0\n"
	       "fork as P\n"
	       "cpu 1\n"
	       "write A 1P 3\n"
	       "process P\n"
	       "read A 1P 2\n"
	       "check\n");
}

static void dontcopy_wipeonfork_and_locked_are_not_as_they_were(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed dontcopy as A\n"
	       "map 0x20100000 2P rw fixed wipeonfork as B\n"
	       "map 0x20200000 2P rw fixed locked as C\n"
	       "write A 2P 1\n"
	       "write B 2P 2\n"
	       "write C 2P 3\n"
	       "fork as P\n"
	       "process P\n"
	       "read A 1 -> segv maperr\n"
	       "read B 2P 0\n"
	       "read C 2P 3\n"
	       "expect maps 2\n"
	       "expect rss 2\n"
	       "advise C 2P dontneed\n" /* not locked */
	       "read C 2P 0\n"
	       "process first\n"
	       "advise C 2P dontneed -> einval\n"
	       "read A 2P 1\n"
	       "read B 2P 2\n"
	       "check\n");
}

/* As in Linux, where the child of a process with a locked half shows two areas. */
static void what_only_the_lock_kept_apart_is_not_merged(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed locked as A\n"
	       "map 0x20002000 2P rw fixed as B\n"
	       "fork as P\n"
	       "process P\n"
	       "expect maps 2\n"
	       "check\n"
	       "protect A 4P r\n"
	       "expect maps 1\n"
	       "check\n");
}

static void what_was_never_written_costs_the_child_nothing(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 4, RW);
	assert_int_equal(get(0), 0);
	assert_true(mm->tables > 1);
	child = fork_of(mm);
	assert_int_equal(child->tables, 1); /* not even the zero page's entry */
	assert_int_equal(get_in(child, 0), 0);
	mm_destroy(child);
}

static void the_zero_page_is_shared_as_it_is(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "read A 2P 0\n"
	       "write A+3P 1P 9\n"
	       "fork as P\n"
	       "write A 1P 1\n"
	       "process P\n"
	       "expect rss 1\n"
	       "read A 2P 0\n"
	       "write A+1P 1P 2\n"
	       "process first\n"
	       "read A 1P 1\n"
	       "read A+1P 1P 0\n"
	       "check\n");
}

static void a_page_that_nobody_may_access_is_inherited(void **state)
{
	(void)state;
	passes("map any 1P rw as A\n"
	       "write A 1P 1\n"
	       "protect A 1P none\n"
	       "fork as P\n"
	       "process P\n"
	       "read A 1 -> segv accerr\n"
	       "protect A 1P rw\n"
	       "write A 1 2\n"
	       "process first\n"
	       "protect A 1P rw\n"
	       "read A 1P 1\n"
	       "write A 1P 3\n"
	       "check\n");
}

static void protection_gives_nobody_the_right_to_write_to_what_is_shared(void **state)
{
	(void)state;
	passes("map any 2P rw as A\n"
	       "write A 2P 1\n"
	       "fork as P\n"
	       "protect A 2P r\n"
	       "protect A 2P rw\n"
	       "check\n"
	       "write A 1P 2\n"
	       "process P\n"
	       "read A 2P 1\n"
	       "check\n");
}

/* ---- layout ---- */

static void moved_split_and_dropped_shared_pages_are_each_ones_own_affair(void **state)
{
	(void)state;
	passes("map 0x20000000 16P rw fixed as A\n"
	       "write A 16P 1\n"
	       "fork as P\n"
	       "remap A+4P 4P 4P to 0x30000000 as B\n"
	       "advise A 2P dontneed\n"
	       "unmap A+12P 2P\n"
	       "check\n"
	       "process P\n"
	       "read A 16P 1\n"
	       "remap A+6P 2P 2P to 0x40000000 keep as C\n"
	       "read A+6P 2P 0\n"
	       "write C 1P 2\n"
	       "protect A+8P 2P r\n"
	       "reclaim 30\n"
	       "check\n"
	       "read C 1P 2\n"
	       "read C+1P 1P 1\n"
	       "read A+8P 8P 1\n"
	       "fork as Q\n"
	       "check\n"
	       "exit P\n"
	       "reclaim 30\n"
	       "process Q\n"
	       "read C+1P 1P 1\n"
	       "write C 2P 4\n"
	       "check\n"
	       "process first\n"
	       "read B 4P 1\n"
	       "read A 2P 0\n"
	       "read A+2P 2P 1\n"
	       "reclaim 30\n"
	       "check\n"
	       "read B 4P 1\n");
}

/* The pages of the parent's lead to the child's VMA, the child's own do not lead to the parent's.
 */
static void each_generation_has_an_anon_vma_of_its_own(void **state)
{
	struct mm *child, *grandchild;
	struct anon_vma *a, *b, *c;

	(void)state;
	map(0, 2, RW);
	put(0, 1);
	child = fork_of(mm);
	grandchild = fork_of(child);
	a = find_vma(mm, AT(0))->anon_vma;
	b = find_vma(child, AT(0))->anon_vma;
	c = find_vma(grandchild, AT(0))->anon_vma;
	assert_true(a != b && b != c && a != c);
	assert_ptr_equal(a->root, a);
	assert_ptr_equal(c->root, a);
	assert_ptr_equal(c->parent, b);
	assert_int_equal(a->nr_vmas, 3);
	assert_int_equal(b->nr_vmas, 2);
	assert_int_equal(c->nr_vmas, 1);
	put_in(child, 0, 2);
	assert_ptr_equal(page_of(mm, 0)->anon_vma, a);
	assert_ptr_equal(page_of(child, 0)->anon_vma, b);
	/* It becomes the grandchild's alone. */
	end_first(grandchild);
	put(0, 3);
	assert_ptr_equal(page_of(grandchild, 0)->anon_vma, c);
	mm_destroy(child);
}

/* Children that fork and end: the chain does not grow. */
static void an_anon_vma_that_nobody_needs_is_used_again(void **state)
{
	unsigned n = 0;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	for (unsigned i = 0; i < 20; i++) {
		end_first(fork_of(mm));
		put(0, i);
		soft_check(w.m);
	}
	for (struct anon_vma_chain *l = find_vma(mm, AT(0))->anon_vma_chain; l; l = l->next)
		n++;
	assert_in_range(n, 2, 4);
}

/* But not by one of several children: pages that it has are the others', too. */
static void an_anon_vma_with_two_children_is_not_used_again(void **state)
{
	struct mm *child, *a, *b, *c;
	struct anon_vma *av;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	child = fork_of(mm);
	av = find_vma(child, AT(0))->anon_vma;
	a = fork_of(child);
	b = fork_of(child);
	mm_destroy(child);
	assert_int_equal(av->nr_children, 2);
	c = fork_of(a);
	assert_ptr_not_equal(find_vma(c, AT(0))->anon_vma, av);
	mm_destroy(c);
	mm_destroy(b);
	c = fork_of(a);
	assert_ptr_equal(find_vma(c, AT(0))->anon_vma, av);
	soft_check(w.m);
	mm_destroy(c);
	mm_destroy(a);
}

static void what_came_by_fork_gives_its_anon_vma_to_no_neighbour(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed as A\n"
	       "write A 2P 1\n"
	       "fork as P\n"
	       /* Nothing came to the parent by fork. */
	       "map 0x20002000 2P rw fixed as B\n"
	       "expect maps 1\n"
	       "process P\n"
	       "map 0x20002000 2P rw fixed as B\n"
	       "expect maps 2\n"
	       "write B 2P 2\n"
	       "protect A 4P r\n"
	       "protect A 4P rw\n"
	       "expect maps 2\n"
	       /* Its own parts are one again. */
	       "protect A 1P r\n"
	       "expect maps 3\n"
	       "protect A 1P rw\n"
	       "expect maps 2\n"
	       "check\n");
}

/* ---- failure ---- */

static const char family_life[] = "map 0x20000000 8P rw fixed as A\n"
				  "write A 4P 1\n"
				  "protect A+2P 2P r\n"
				  "pageout A 1P\n";

/* Fork with one allocation less to be had, until all are there. */
static void a_fork_without_memory_leaves_nothing_behind(void **state)
{
	bool all = false;
	u64 left, tables, used;

	(void)state;
	passes(family_life);
	end_first(fork_of(mm)); /* so that chains are long */
	for (left = 0; !all && left < 100; left++) {
		struct mm *child = NULL;
		int err;

		passes("pageout 0x20000000 1P\n");
		tables = zone_free_pages(w.e, ZONE_TABLE);
		used = w.e->swap.used;
		atomic_store(&w.m->memory_refused, 0);
		atomic_store(&w.m->inject.memory_left, left + 1);
		err = mm_fork(mm, &child);
		atomic_store(&w.m->inject.memory_left, 0);
		all = !atomic_load(&w.m->memory_refused);
		assert_int_equal(err, all ? 0 : -ENOMEM);
		soft_check(w.m);
		if (child)
			mm_destroy(child);
		assert_int_equal(zone_free_pages(w.e, ZONE_TABLE), tables);
		assert_int_equal(w.e->swap.used, used);
		soft_check(w.m);
		passes("read 0x20000000 4P 1\nwrite 0x20001000 1P 1\n");
	}
	assert_in_range(left, 8, 50);
}

static void a_fork_without_tables_leaves_nothing_behind(void **state)
{
	static struct page *held[4096];
	unsigned n;

	(void)state;
	passes(family_life);
	for (u64 left = 0; left < 6; left++) {
		struct mm *child = NULL;
		int err;

		for (n = 0; zone_free_pages(w.e, ZONE_TABLE) > left; n++)
			held[n] = page_alloc(w.e, ZONE_TABLE, 0, 0);
		err = mm_fork(mm, &child);
		assert_int_equal(err, left < 4 ? -ENOMEM : 0);
		if (child)
			mm_destroy(child);
		while (n)
			page_put(w.e, held[--n]);
		soft_check(w.m);
		passes("read 0x20000000 4P 1\nwrite 0x20001000 1P 1\n");
	}
}

static void a_machine_that_shares_no_pages_does_not_fork(void **state)
{
	struct mmu_ops ops = soft_mmu_ops;
	struct mm *child;

	(void)state;
	ops.shares_pages = false;
	w.e->mmu = &ops;
	assert_int_equal(mm_fork(mm, &child), -ENOSYS);
	w.e->mmu = &soft_mmu_ops;
}

/* ---- the checks ---- */

static void the_checks_find_a_writable_entry_of_a_page_that_is_not_exclusive(void **state)
{
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	page = page_of(mm, 0);
	page_clear(page, PG_ANON_EXCLUSIVE);
	assert_panics(engine_check(w.e), "not exclusive");
	page_set(page, PG_ANON_EXCLUSIVE);
}

static void the_checks_find_a_mapping_that_the_reverse_map_does_not(void **state)
{
	struct mm *child;
	struct page *page;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	page = page_of(mm, 0);
	child = fork_of(mm);
	/* As if the page belonged to the child's own anon_vma, which does not lead to the parent.
	 */
	page->anon_vma = find_vma(child, AT(0))->anon_vma;
	assert_panics(engine_check(w.e), "1 are found");
	page->anon_vma = find_vma(mm, AT(0))->anon_vma;
	page->mapcount++;
	assert_panics(engine_check(w.e), "2 are found");
	page->mapcount--;
	mm_destroy(child);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_child_has_what_the_parent_had),
		T(nobody_sees_what_the_other_writes),
		T(a_write_from_another_cpu_of_the_parent_faults_after_fork),
		T(dontcopy_wipeonfork_and_locked_are_not_as_they_were),
		T(what_only_the_lock_kept_apart_is_not_merged),
		T(what_was_never_written_costs_the_child_nothing),
		T(the_zero_page_is_shared_as_it_is),
		T(a_page_that_nobody_may_access_is_inherited),
		T(protection_gives_nobody_the_right_to_write_to_what_is_shared),
		T(moved_split_and_dropped_shared_pages_are_each_ones_own_affair),
		T(each_generation_has_an_anon_vma_of_its_own),
		T(an_anon_vma_that_nobody_needs_is_used_again),
		T(an_anon_vma_with_two_children_is_not_used_again),
		T(what_came_by_fork_gives_its_anon_vma_to_no_neighbour),
		T(a_fork_without_memory_leaves_nothing_behind),
		T(a_fork_without_tables_leaves_nothing_behind),
		T(a_machine_that_shares_no_pages_does_not_fork),
		T(the_checks_find_a_writable_entry_of_a_page_that_is_not_exclusive),
		T(the_checks_find_a_mapping_that_the_reverse_map_does_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
