/* SPDX-License-Identifier: MIT */
/* Huge pages on the soft machine: faults, the huge zero page, splits, and each call that meets a
 * huge page whole or in part. */
#include "engine/fault/fault.h"
#include "engine/reclaim/memory_failure.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_marks.h"
#include "tests/unit/one_world.h"

#define HUGE(n) ((n)*HUGE_PAGES) /* page number of the n-th huge page: BASE is aligned */

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 4096, .thp = THP_ALWAYS, .cpus = 2 });
	return 0;
}

static u64 faults(void)
{
	return atomic_load(&mm->minor);
}

static void assert_zero(unsigned page, unsigned n)
{
	for (unsigned i = page; i < page + n; i++)
		assert_int_equal(get(i), 0);
}

/* One huge page at HUGE(0) with a mark in each of its pages, in an area of n. */
static void one_huge(unsigned n)
{
	map(HUGE(0), HUGE(n), RW);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
}

/* ---- faults ---- */

static void a_write_maps_two_mebibytes_with_one_fault(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(2), RW);
	put(HUGE(0) + 77, 5);
	assert_int_equal(faults(), 1);
	assert_true(is_huge(HUGE(0)));
	assert_false(is_huge(HUGE(1)));
	assert_int_equal(atomic_load(&mm->rss), HUGE_PAGES);
	assert_zero(HUGE(0), 77);
	assert_zero(HUGE(0) + 78, HUGE_PAGES - 78);
	assert_int_equal(get(HUGE(0) + 77), 5);
	assert_int_equal(faults(), 1);
	soft_check(w.m);
}

static void a_read_maps_the_huge_zero_page_and_a_write_breaks_from_it(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(2), RW);
	assert_zero(HUGE(0), HUGE_PAGES);
	assert_zero(HUGE(1), HUGE_PAGES);
	assert_int_equal(faults(), 2);
	assert_true(is_huge(HUGE(0)) && pte_special(pmd_at(mm, HUGE(0))));
	assert_int_equal(atomic_load(&mm->rss), 0);
	soft_check(w.m);
	put(HUGE(0) + 3, 9);
	assert_int_equal(faults(), 3);
	assert_true(is_huge(HUGE(0)) && !pte_special(pmd_at(mm, HUGE(0))));
	assert_int_equal(get(HUGE(0) + 3), 9);
	assert_int_equal(get(HUGE(1) + 3), 0);
}

static void what_does_not_hold_a_whole_huge_page_gets_single_ones(void **state)
{
	(void)state;
	map(HUGE(0) + 1, HUGE_PAGES - 1, RW);
	put(HUGE(0) + 1, 1);
	assert_false(is_huge(HUGE(0)));
	map(HUGE(1), HUGE_PAGES - 1, RW);
	put(HUGE(1), 1);
	assert_false(is_huge(HUGE(1)));
}

static void advice_decides_by_the_setting(void **state)
{
	static const struct {
		enum thp_mode mode;
		u32 advice;
		bool huge;
	} cases[] = {
		{ THP_NEVER, UAPI_MADV_HUGEPAGE, false },
		{ THP_MADVISE, UAPI_MADV_NORMAL, false },
		{ THP_MADVISE, UAPI_MADV_HUGEPAGE, true },
		{ THP_MADVISE, UAPI_MADV_NOHUGEPAGE, false },
		{ THP_ALWAYS, UAPI_MADV_NOHUGEPAGE, false },
		{ THP_ALWAYS, UAPI_MADV_NORMAL, true },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		w.e->config.thp = cases[i].mode;
		map(HUGE(0), HUGE(1), RW);
		assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, cases[i].advice), 0);
		put(HUGE(0), 1);
		assert_int_equal(is_huge(HUGE(0)), cases[i].huge);
		assert_int_equal(vm_unmap(mm, AT(HUGE(0)), PMD_SIZE), 0);
	}
}

static void without_a_free_block_single_pages_come(void **state)
{
	struct page *held[4096];
	unsigned n = 0;

	(void)state;
	while ((held[n] = page_alloc(w.e, ZONE_USER, HUGE_ORDER, ALLOC_NORECLAIM)))
		n++;
	map(HUGE(0), HUGE(1), RW);
	put(HUGE(0), 1);
	assert_false(is_huge(HUGE(0)));
	assert_int_equal(atomic_load(&mm->rss), 1);
	assert_int_equal(atomic_load(&w.e->stats->thp_fault_fallback), 1);
	while (n--)
		page_put(w.e, held[n]);
}

/* Frames enough, but each block of 2 MiB has a page in use in it. */
static void pages_are_moved_for_a_huge_one_where_it_is_wanted(void **state)
{
	(void)state;
	w.e->config.thp = THP_MADVISE;
	map(HUGE(0), HUGE(7), RW);
	fill(HUGE(0), HUGE(7));
	for (unsigned i = 0; i < HUGE(7); i += 4)
		assert_int_equal(do_madvise(mm, AT(i), P(3), UAPI_MADV_DONTNEED), 0);
	map(HUGE(8), HUGE(2), RW);
	w.e->config.thp = THP_ALWAYS;
	put(HUGE(8), 1);
	assert_false(is_huge(HUGE(8))); /* not for anybody */
	assert_int_equal(do_madvise(mm, AT(HUGE(9)), P(HUGE(1)), UAPI_MADV_HUGEPAGE), 0);
	put(HUGE(9), 1);
	assert_true(is_huge(HUGE(9)));
	for (unsigned i = 3; i < HUGE(7); i += 4)
		assert_int_equal(get(i), mark_of(i));
}

static void populate_and_mincore_know_huge_pages(void **state)
{
	u8 vec[HUGE_PAGES];

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_POPULATE_WRITE), 0);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(faults(), 1);
	assert_int_equal(do_mincore(mm, AT(HUGE(0)), PMD_SIZE, vec), 0);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(vec[i], 1);
}

static void the_huge_zero_page_goes_when_nobody_maps_it_and_memory_is_short(void **state)
{
	struct mm *child;

	(void)state;
	map(HUGE(0), HUGE(2), RW);
	assert_int_equal(get(HUGE(0)), 0);
	assert_int_equal(get(HUGE(1)), 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(huge_zero_shrink(w.e), 0);
	put(HUGE(0), 1);
	split_huge_pmd(mm, AT(HUGE(1)));
	assert_int_equal(huge_zero_shrink(w.e), 0); /* the child's */
	mmput(child);
	soft_check(w.m);
	assert_int_equal(w.e->huge_zero_users, 0);
	assert_non_null(w.e->huge_zero);
	reclaim_direct(w.e, 1);
	assert_null(w.e->huge_zero);
	assert_int_equal(get(HUGE(1)), 0);
	map(HUGE(4), HUGE(1), RW);
	assert_int_equal(get(HUGE(4)), 0); /* and comes again */
	assert_true(is_huge(HUGE(4)));
}

/* ---- splits ---- */

static void a_split_keeps_every_byte_and_right(void **state)
{
	u64 before;

	(void)state;
	one_huge(1);
	before = faults();
	split_huge_pmd(mm, AT(HUGE(0)) + 12345);
	assert_false(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_filled(HUGE(0), HUGE_PAGES);
	fill(HUGE(0), HUGE_PAGES);
	assert_int_equal(faults(), before);
	assert_int_equal(atomic_load(&mm->rss), HUGE_PAGES);
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 1);
}

/* Splitting it would free nothing. */
static void the_huge_zero_page_is_not_for_cold_or_pageout(void **state)
{
	u64 splits = w.e->stats->thp_split;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	assert_int_equal(get(HUGE(0)), 0);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(do_madvise(mm, AT(HUGE(0) + 8), 8 * PAGE_SIZE, UAPI_MADV_COLD), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_PAGEOUT), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0) + 8), 8 * PAGE_SIZE, UAPI_MADV_PAGEOUT), 0);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(w.e->stats->thp_split, splits);
}

static void a_split_of_the_zero_page_maps_single_ones(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	assert_int_equal(get(HUGE(0)), 0);
	split_huge_pmd(mm, AT(HUGE(0)));
	assert_false(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_zero(HUGE(0), HUGE_PAGES);
	put(HUGE(0) + 1, 2);
	assert_int_equal(get(HUGE(0)), 0);
	assert_int_equal(atomic_load(&mm->rss), 1);
}

static void unmapping_all_frees_it_whole(void **state)
{
	u64 free = zone_free_pages(w.e, ZONE_USER);

	(void)state;
	one_huge(1);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free - HUGE_PAGES);
	assert_int_equal(vm_unmap(mm, AT(HUGE(0)), PMD_SIZE), 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free);
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 0);
}

static void unmapping_a_part_splits_it(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(vm_unmap(mm, AT(HUGE(0) + 100), P(50)), 0);
	assert_false(is_huge(HUGE(0)));
	assert_filled(HUGE(0), 100);
	assert_filled(HUGE(0) + 150, HUGE_PAGES - 150);
	assert_int_equal(atomic_load(&mm->rss), HUGE_PAGES - 50);
}

static void dontneed_of_all_keeps_no_table_and_of_a_part_splits(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_DONTNEED), 0);
	assert_int_equal(atomic_load(&mm->rss), 0);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(do_madvise(mm, AT(HUGE(0) + 8), P(8), UAPI_MADV_DONTNEED), 0);
	assert_false(is_huge(HUGE(0)));
	assert_filled(HUGE(0), 8);
	assert_zero(HUGE(0) + 8, 8);
	assert_filled(HUGE(0) + 16, HUGE_PAGES - 16);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_DONTNEED), 0);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
}

static void protecting_all_keeps_it_huge_and_a_part_splits_it(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(vm_protect(mm, AT(HUGE(0)), PMD_SIZE, VM_READ), 0);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(soft_write_byte(w.cpu, AT(HUGE(0) + 5), 1), FAULT_ACCERR);
	assert_filled(HUGE(0), HUGE_PAGES);
	assert_int_equal(vm_protect(mm, AT(HUGE(0)), PMD_SIZE, 0), 0);
	assert_true(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_int_equal(vm_protect(mm, AT(HUGE(0)), PMD_SIZE, RW), 0);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(vm_protect(mm, AT(HUGE(0) + 17), P(1), VM_READ), 0);
	assert_false(is_huge(HUGE(0)));
	assert_int_equal(soft_write_byte(w.cpu, AT(HUGE(0) + 17), 1), FAULT_ACCERR);
	fill(HUGE(0), 17);
	assert_filled(HUGE(0), HUGE_PAGES);
}

static void what_nobody_may_access_splits_as_such(void **state)
{
	u8 byte;

	(void)state;
	one_huge(1);
	assert_int_equal(vm_protect(mm, AT(HUGE(0)), PMD_SIZE, 0), 0);
	assert_int_equal(vm_protect(mm, AT(HUGE(0) + 1), P(1), RW), 0);
	assert_false(is_huge(HUGE(0)));
	soft_check(w.m);
	assert_int_equal(soft_read_byte(w.cpu, AT(HUGE(0)), &byte), FAULT_ACCERR);
	assert_filled(HUGE(0) + 1, 1);
}

/* ---- moving ---- */

static void a_move_by_huge_pages_keeps_them_huge(void **state)
{
	u64 before;

	(void)state;
	one_huge(1);
	before = faults();
	assert_int_equal(vm_remap(mm, AT(HUGE(0)), PMD_SIZE, PMD_SIZE,
				  VREMAP_MAYMOVE | VREMAP_FIXED, AT(HUGE(3))),
			 AT(HUGE(3)));
	assert_true(is_huge(HUGE(3)));
	soft_check(w.m);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(3) + i), mark_of(HUGE(0) + i));
	assert_int_equal(faults(), before);
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 0);
}

static void a_move_across_their_grid_splits_them(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(vm_remap(mm, AT(HUGE(0)), PMD_SIZE, PMD_SIZE,
				  VREMAP_MAYMOVE | VREMAP_FIXED, AT(HUGE(3) + 1)),
			 AT(HUGE(3) + 1));
	soft_check(w.m);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(3) + 1 + i), mark_of(HUGE(0) + i));
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 1);
}

static void a_move_of_the_inside_of_an_area_leaves_the_rest(void **state)
{
	(void)state;
	one_huge(3);
	fill(HUGE(1), HUGE_PAGES);
	assert_int_equal(vm_remap(mm, AT(HUGE(0) + 256), PMD_SIZE, PMD_SIZE,
				  VREMAP_MAYMOVE | VREMAP_FIXED | VREMAP_DONTUNMAP,
				  AT(HUGE(5) + 256)),
			 AT(HUGE(5) + 256));
	soft_check(w.m);
	assert_filled(HUGE(0), 256);
	assert_zero(HUGE(0) + 256, HUGE_PAGES);
	assert_filled(HUGE(1) + 256, 256);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(5) + 256 + i), mark_of(HUGE(0) + 256 + i));
}

/* ---- fork ---- */

static void fork_shares_it_huge_and_who_writes_gets_a_single_page(void **state)
{
	struct soft_cpu *other = &w.m->cpus[1];
	struct mm *child;
	u8 byte;

	(void)state;
	one_huge(1);
	assert_int_equal(mm_fork(mm, &child), 0);
	soft_load_mm(other, child);
	assert_true(is_huge(HUGE(0)) && pmd_is_huge(pmd_at(child, HUGE(0))));
	soft_check(w.m);
	assert_int_equal(soft_read_byte(other, AT(HUGE(0) + 9), &byte), FAULT_OK);
	assert_int_equal(byte, mark_of(HUGE(0) + 9));
	assert_int_equal(atomic_load(&child->minor), 0);
	assert_int_equal(soft_write_byte(other, AT(HUGE(0) + 9), 200), FAULT_OK);
	assert_int_equal(atomic_load(&child->minor), 1);
	assert_int_equal(get(HUGE(0) + 9), mark_of(HUGE(0) + 9));
	put(HUGE(0) + 10, 201);
	assert_int_equal(soft_read_byte(other, AT(HUGE(0) + 10), &byte), FAULT_OK);
	assert_int_equal(byte, mark_of(HUGE(0) + 10));
	soft_check(w.m);
	soft_load_mm(other, NULL);
	mmput(child);
	put(HUGE(0) + 10, mark_of(HUGE(0) + 10));
	assert_filled(HUGE(0), HUGE_PAGES);
}

static void the_last_who_has_it_writes_to_it_where_it_is(void **state)
{
	struct mm *child;
	u64 before;

	(void)state;
	one_huge(1);
	assert_int_equal(mm_fork(mm, &child), 0);
	mmput(child);
	before = faults();
	fill(HUGE(0), HUGE_PAGES);
	assert_int_equal(faults(), before + 1);
	assert_true(is_huge(HUGE(0)));
}

static void a_page_of_three_spaces_splits_in_all(void **state)
{
	struct mm *child, *grandchild;

	(void)state;
	one_huge(1);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(mm_fork(child, &grandchild), 0);
	split_huge_pmd(child, AT(HUGE(0)));
	assert_true(pmd_is_table(pmd_at(mm, HUGE(0))));
	assert_true(pmd_is_table(pmd_at(child, HUGE(0))));
	assert_true(pmd_is_table(pmd_at(grandchild, HUGE(0))));
	soft_check(w.m);
	mmput(child);
	soft_check(w.m);
	assert_filled(HUGE(0), HUGE_PAGES);
	mmput(grandchild);
	fill(HUGE(0), HUGE_PAGES);
}

/* ---- reclaim, broken memory ---- */

static void paging_out_splits_and_swaps(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_PAGEOUT), 0);
	assert_int_equal(atomic_load(&mm->rss), 0);
	assert_int_equal(atomic_load(&mm->swapped), HUGE_PAGES);
	assert_filled(HUGE(0), HUGE_PAGES);
}

static void reclaim_takes_huge_pages_apart(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(10), RW);
	fill(HUGE(0), HUGE(10));
	assert_true(atomic_load(&w.e->stats->thp_fault_alloc) > 6);
	assert_true(atomic_load(&w.e->stats->thp_split) > 2);
	soft_check(w.m);
	assert_filled(HUGE(0), HUGE(10));
}

static void every_policy_can_live_with_huge_pages(void **state)
{
	const struct reclaim_policy *policies[] = { &policy_lru, &policy_gen, &policy_clock,
						    &policy_fifo };

	for (unsigned i = 0; i < ARRAY_SIZE(policies); i++) {
		start((struct world_options){
			.frames = 4096, .thp = THP_ALWAYS, .policy = policies[i] });
		map(HUGE(0), HUGE(9), RW);
		for (unsigned round = 0; round < 3; round++) {
			fill(HUGE(0), HUGE(9));
			soft_check(w.m);
			assert_filled(HUGE(0), HUGE(9));
		}
		assert_true(atomic_load(&w.e->stats->thp_split) > 0);
		teardown(state);
	}
}

static void locked_huge_pages_stay(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(2), RW);
	assert_int_equal(do_mlock(mm, AT(HUGE(0)), 2 * PMD_SIZE), 0);
	fill(HUGE(0), HUGE(2));
	map(HUGE(4), HUGE(8), RW);
	fill(HUGE(4), HUGE(8));
	assert_true(is_huge(HUGE(0)) && is_huge(HUGE(1)));
	assert_filled(HUGE(0), HUGE(2));
}

static void cold_pages_are_next_whole(void **state)
{
	(void)state;
	one_huge(2);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLD), 0);
	assert_true(is_huge(HUGE(0)));
	assert_false(pte_young(pmd_at(mm, HUGE(0))));
}

static void a_broken_frame_costs_one_page(void **state)
{
	u64 pfn;
	u8 byte;

	(void)state;
	w.e->config.memory_failure = true;
	one_huge(1);
	pfn = pte_pfn(pmd_at(mm, HUGE(0))) + 33;
	assert_int_equal(memory_failure(w.e, pfn), 0);
	assert_false(is_huge(HUGE(0)));
	assert_int_equal(soft_read_byte(w.cpu, AT(HUGE(0) + 33), &byte), FAULT_HWPOISON);
	assert_filled(HUGE(0), 33);
	assert_filled(HUGE(0) + 34, HUGE_PAGES - 34);
}

static void a_frame_about_to_fail_is_emptied_out_of_it(void **state)
{
	u64 pfn;

	(void)state;
	one_huge(1);
	pfn = pte_pfn(pmd_at(mm, HUGE(0))) + 1;
	assert_int_equal(soft_offline_page(w.e, pfn), 0);
	assert_filled(HUGE(0), HUGE_PAGES);
	assert_int_not_equal(pte_pfn(pte_peek(mm, AT(HUGE(0) + 1))), pfn);
}

static void guards_within_it_split_it(void **state)
{
	u8 byte;

	(void)state;
	one_huge(1);
	assert_int_equal(do_madvise(mm, AT(HUGE(0) + 3), P(1), UAPI_MADV_GUARD_INSTALL), 0);
	assert_int_equal(soft_read_byte(w.cpu, AT(HUGE(0) + 3), &byte), FAULT_MAPERR);
	assert_filled(HUGE(0), 3);
	assert_filled(HUGE(0) + 4, HUGE_PAGES - 4);
}

static void given_up_huge_pages_are_dropped_or_kept_page_by_page(void **state)
{
	(void)state;
	one_huge(1);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_FREE), 0);
	put(HUGE(0) + 1, 1);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_PAGEOUT), 0);
	assert_int_equal(get(HUGE(0) + 1), 1);
	assert_int_equal(get(HUGE(0) + 2), 0);
}

/* ---- userfaultfd ---- */

static struct userfaultfd_ctx *watch(unsigned page, unsigned n, u64 mode)
{
	struct userfaultfd_ctx *ctx;
	u64 features = UAPI_UFFD_FEATURE_WP_ASYNC, ioctls;

	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, AT(page), P(n), mode, &ioctls), 0);
	return ctx;
}

static void what_a_monitor_protects_is_split_off(void **state)
{
	struct userfaultfd_ctx *ctx;

	(void)state;
	one_huge(1);
	ctx = watch(HUGE(0), HUGE(1), UAPI_UFFDIO_REGISTER_MODE_WP);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(HUGE(0) + 5), P(1),
						  UAPI_UFFDIO_WRITEPROTECT_MODE_WP),
			 0);
	assert_false(is_huge(HUGE(0)));
	assert_true(pte_uffd_wp(pte_peek(mm, AT(HUGE(0) + 5))));
	assert_false(pte_uffd_wp(pte_peek(mm, AT(HUGE(0) + 6))));
	fill(HUGE(0), HUGE_PAGES); /* nobody is asked: WP_ASYNC */
	assert_false(pte_uffd_wp(pte_peek(mm, AT(HUGE(0) + 5))));
	userfaultfd_release(ctx);
}

static void a_page_moves_out_of_a_huge_page(void **state)
{
	struct userfaultfd_ctx *ctx;
	s64 done;

	(void)state;
	one_huge(1);
	map(HUGE(2), HUGE(1), RW);
	ctx = watch(HUGE(2), HUGE(1), UAPI_UFFDIO_REGISTER_MODE_MISSING);
	assert_int_equal(
		userfaultfd_move(ctx, mm, AT(HUGE(2) + 1), AT(HUGE(0) + 9), P(1), 0, &done), 0);
	assert_int_equal(done, P(1));
	assert_false(is_huge(HUGE(0)));
	assert_int_equal(get(HUGE(2) + 1), mark_of(HUGE(0) + 9));
	assert_int_equal(get(HUGE(0) + 9), 0);
	assert_filled(HUGE(0), 9);
	assert_filled(HUGE(0) + 10, HUGE_PAGES - 10);
	userfaultfd_release(ctx);
}

static void what_a_monitor_fills_comes_by_single_pages(void **state)
{
	static u8 bytes[PAGE_SIZE] = { 42 };
	struct userfaultfd_ctx *ctx;
	s64 done;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	ctx = watch(HUGE(0), HUGE(1), UAPI_UFFDIO_REGISTER_MODE_MISSING);
	assert_int_equal(
		userfaultfd_copy(ctx, NULL, AT(HUGE(0) + 3), (u64)(uintptr_t)bytes, P(1), 0, &done),
		0);
	assert_int_equal(get(HUGE(0) + 3), 42);
	assert_int_equal(atomic_load(&mm->rss), 1);
	userfaultfd_release(ctx);
	put(HUGE(0) + 4, 1);
	assert_false(is_huge(HUGE(0)));
}

/* ---- pages that come together ---- */

static void a_first_write_brings_as_many_as_the_setting_says(void **state)
{
	u64 first;

	(void)state;
	w.e->config.folio_orders = 1u << 4 | 1u << 8;
	map(HUGE(0) + 1, 400, RW);
	put(HUGE(0) + 37, 1); /* 256 would not fit: 16 from 32 on */
	assert_int_equal(faults(), 1);
	assert_int_equal(atomic_load(&mm->rss), 16);
	first = pte_pfn(pte_peek(mm, AT(HUGE(0) + 32)));
	assert_int_equal(first % 16, 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(pte_pfn(pte_peek(mm, AT(HUGE(0) + 32 + i))), first + i);
	assert_zero(HUGE(0) + 32, 5);
	fill(HUGE(0) + 32, 16);
	assert_int_equal(faults(), 1);
	soft_check(w.m);
	assert_int_equal(vm_unmap(mm, AT(HUGE(0) + 33), P(3)), 0); /* each goes for itself */
	assert_int_equal(atomic_load(&mm->rss), 13);
	assert_filled(HUGE(0) + 36, 12);
}

static void the_largest_order_comes_where_it_fits(void **state)
{
	(void)state;
	w.e->config.folio_orders = 1u << 4 | 1u << 8;
	map(HUGE(0), 300, RW);
	put(HUGE(0) + 5, 1);
	assert_int_equal(atomic_load(&mm->rss), 256);
	put(HUGE(0) + 256, 1);
	assert_int_equal(atomic_load(&mm->rss), 272);
	put(HUGE(0) + 299, 1); /* only 12 are left of 16 */
	assert_int_equal(atomic_load(&mm->rss), 273);
	assert_int_equal(atomic_load(&w.e->stats->folio_alloc), 2);
	soft_check(w.m);
}

static void what_is_there_already_is_not_brought_again(void **state)
{
	(void)state;
	w.e->config.folio_orders = 1u << 4;
	map(HUGE(0), 64, RW);
	assert_int_equal(get(HUGE(0) + 18), 0); /* the zero page */
	put(HUGE(0) + 16, 1);
	assert_int_equal(atomic_load(&mm->rss), 1);
	atomic_store(&w.m->inject.set_most, 7);
	put(HUGE(0) + 32, 2); /* the machine sets some only */
	assert_int_equal(atomic_load(&mm->rss), 8);
	atomic_store(&w.m->inject.set_most, 0);
	assert_int_equal(get(HUGE(0) + 32), 2);
}

#define huge_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		huge_test(a_write_maps_two_mebibytes_with_one_fault),
		huge_test(a_read_maps_the_huge_zero_page_and_a_write_breaks_from_it),
		huge_test(the_huge_zero_page_is_not_for_cold_or_pageout),
		huge_test(what_does_not_hold_a_whole_huge_page_gets_single_ones),
		huge_test(advice_decides_by_the_setting),
		huge_test(without_a_free_block_single_pages_come),
		huge_test(pages_are_moved_for_a_huge_one_where_it_is_wanted),
		huge_test(populate_and_mincore_know_huge_pages),
		huge_test(the_huge_zero_page_goes_when_nobody_maps_it_and_memory_is_short),
		huge_test(a_split_keeps_every_byte_and_right),
		huge_test(a_split_of_the_zero_page_maps_single_ones),
		huge_test(unmapping_all_frees_it_whole),
		huge_test(unmapping_a_part_splits_it),
		huge_test(dontneed_of_all_keeps_no_table_and_of_a_part_splits),
		huge_test(protecting_all_keeps_it_huge_and_a_part_splits_it),
		huge_test(what_nobody_may_access_splits_as_such),
		huge_test(a_move_by_huge_pages_keeps_them_huge),
		huge_test(a_move_across_their_grid_splits_them),
		huge_test(a_move_of_the_inside_of_an_area_leaves_the_rest),
		huge_test(fork_shares_it_huge_and_who_writes_gets_a_single_page),
		huge_test(the_last_who_has_it_writes_to_it_where_it_is),
		huge_test(a_page_of_three_spaces_splits_in_all),
		huge_test(paging_out_splits_and_swaps),
		huge_test(reclaim_takes_huge_pages_apart),
		cmocka_unit_test(every_policy_can_live_with_huge_pages),
		huge_test(locked_huge_pages_stay),
		huge_test(cold_pages_are_next_whole),
		huge_test(a_broken_frame_costs_one_page),
		huge_test(a_frame_about_to_fail_is_emptied_out_of_it),
		huge_test(guards_within_it_split_it),
		huge_test(given_up_huge_pages_are_dropped_or_kept_page_by_page),
		huge_test(what_a_monitor_protects_is_split_off),
		huge_test(a_page_moves_out_of_a_huge_page),
		huge_test(what_a_monitor_fills_comes_by_single_pages),
		huge_test(a_first_write_brings_as_many_as_the_setting_says),
		huge_test(the_largest_order_comes_where_it_fits),
		huge_test(what_is_there_already_is_not_brought_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
