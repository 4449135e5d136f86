/* SPDX-License-Identifier: MIT */
/* Faults against munmap, mprotect, mremap and other areas, with every interleaving forced. */
#include "tests/unit/races.h"

static u64 free_before;

/* ---- a fault and munmap ---- */

static void unmap_page_0(void)
{
	assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
}

static void a_fault_that_comes_after_munmap_is_a_maperr(void **state)
{
	(void)state;
	at.trap = unmap_page_0;
	assert_int_equal(soft_write_byte(cpu0, AT(0), 1), FAULT_MAPERR);
	assert_int_equal(mm->rss, 0);
}

/* The page is mapped first, and then goes; never the other way round. */
static void munmap_waits_for_a_fault_that_is_under_way(void **state)
{
	(void)state;
	write_on(cpu0, 1, 1); /* an anon_vma: faults need the VMA's lock only */
	free_before = free_frames();
	at.stage = munmap_begins;
	reason = soft_write_byte(cpu0, AT(0), 1);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(try_read(cpu0, 0), FAULT_MAPERR);
	assert_int_equal(free_frames(), free_before + 1); /* page 1, too */
	assert_int_equal(mm->rss, 0);
}

/* Its entry is gone, its VMA is not yet: the fault waits, and finds neither. */
static void a_fault_in_the_middle_of_munmap_waits_for_its_end(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	at.flush = a_fault_begins_on_cpu1;
	unmap_page_0();
	join();
	assert_int_equal(reason, FAULT_MAPERR);
	assert_int_equal(mm->rss, 0);
}

static void read_on_cpu1_and_count(void)
{
	seen = read_on(cpu1, 0); /* by its TLB */
	free_before = free_frames();
}

static void a_frame_is_not_free_before_the_flush(void **state)
{
	u64 mapped;

	(void)state;
	write_on(cpu0, 0, 1);
	mapped = free_frames();
	assert_int_equal(read_on(cpu1, 0), 1);
	seen = 0;
	at.flush = read_on_cpu1_and_count;
	unmap_page_0();
	assert_int_equal(seen, 1);
	assert_int_equal(free_before, mapped);
	assert_int_equal(free_frames(), mapped + 1);
	assert_int_equal(try_read(cpu1, 0), FAULT_MAPERR);
}

/* ---- a fault and other areas ---- */

static void change_other_areas(void)
{
	map(100, 4, RW);
	assert_int_equal(vm_protect(mm, AT(101), P(1), VM_READ), 0);
	assert_int_equal(vm_unmap(mm, AT(100), P(4)), 0);
}

/* That is what the VMA's own lock is for. */
static void a_fault_under_its_vmas_lock_is_in_nobody_elses_way(void **state)
{
	(void)state;
	write_on(cpu0, 1, 1);
	at.stage = change_other_areas;
	write_on(cpu0, 0, 1);
	assert_int_equal(mm->rss, 2);
}

static void join_two_areas(void)
{
	map(8, 8, RW);
}

static void merging_begins(void)
{
	begin(join_two_areas);
	waits(layout_is_locked);
}

static void growing_an_area_waits_for_a_fault_in_it(void **state)
{
	(void)state;
	write_on(cpu0, 1, 1);
	at.stage = merging_begins;
	write_on(cpu0, 0, 1);
	join();
	assert_int_equal(mm->map_count, 1);
	write_on(cpu0, 8, 1);
	assert_int_equal(mm->rss, 3);
}

/* ---- a fault and mprotect ---- */

static void forbid_writing(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
}

static void allow_writing(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(1), RW), 0);
}

static void a_write_that_comes_after_mprotect_is_an_accerr(void **state)
{
	(void)state;
	at.trap = forbid_writing;
	assert_int_equal(soft_write_byte(cpu0, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(read_on(cpu0, 0), 0);
}

static void a_write_that_is_allowed_by_the_time_of_its_fault_is_done(void **state)
{
	struct page *page;

	(void)state;
	write_on(cpu0, 0, 1);
	page = page_of(mm, 0);
	forbid_writing();
	assert_int_equal(read_on(cpu0, 0), 1);
	at.trap = allow_writing;
	write_on(cpu0, 0, 2);
	assert_ptr_equal(page_of(mm, 0), page);
}

static void forbid_writing_to_the_area(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(8), VM_READ), 0);
}

/* Its TLB says otherwise still: one fault for nothing. */
static void what_may_be_executed_by_the_time_of_the_fetch_is(void **state)
{
	u64 faults;
	u8 byte;

	(void)state;
	write_on(cpu0, 0, 1);
	forbid_writing();
	assert_int_equal(soft_fetch(cpu0, AT(0), &byte, 1), FAULT_ACCERR);
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ | VM_EXEC), 0);
	faults = cpu0->faults;
	assert_int_equal(soft_fetch(cpu0, AT(0), &byte, 1), FAULT_OK);
	assert_int_equal(byte, 1);
	assert_int_equal(cpu0->faults, faults + 1);
}

static void mprotect_begins(void)
{
	begin(forbid_writing_to_the_area);
	waits(layout_is_locked);
}

/* A fault that has seen the old rights writes its entry before mprotect goes over the entries. */
static void mprotect_waits_for_a_fault_that_is_under_way(void **state)
{
	(void)state;
	write_on(cpu0, 1, 1);
	at.stage = mprotect_begins;
	reason = soft_write_byte(cpu0, AT(0), 1);
	assert_true(reason == FAULT_OK || reason == FAULT_ACCERR);
	join();
	assert_false(pte_write(pte_of(mm, 0)));
	assert_int_equal(soft_write_byte(cpu0, AT(0), 3), FAULT_ACCERR);
	assert_int_equal(read_on(cpu0, 0), reason == FAULT_OK);
}

static void no_stale_right_is_left_when_mprotect_returns(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu1, 0, 1);
	at.flush = write_2_on_cpu1; /* by its TLB */
	forbid_writing();
	assert_int_equal(soft_write_byte(cpu1, AT(0), 3), FAULT_ACCERR);
	assert_int_equal(read_on(cpu0, 0), 2);
}

/* The hardware's dirty bit, set while the rights change, is in the entry still. */
static void mprotect_loses_no_dirty_bit(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_false(pte_dirty(pte_of(mm, 0)));
	at.change = write_2_on_cpu1;
	forbid_writing();
	assert_true(pte_dirty(pte_of(mm, 0)));
	page_out(0, 1);
	assert_int_equal(read_on(cpu0, 0), 2);
}

/* ---- mremap ---- */

static void move_page_0_to_20(void)
{
	assert_int_equal(vm_remap(mm, AT(0), P(1), P(1), VREMAP_MAYMOVE | VREMAP_FIXED, AT(20)),
			 AT(20));
}

static void try_page_20_on_cpu1(void)
{
	reason = soft_read_byte(cpu1, AT(20), &seen);
}

static void a_fault_at_the_new_place_begins(void)
{
	begin(try_page_20_on_cpu1);
	waits(NULL);
}

static void a_fault_at_the_new_place_waits_until_the_page_is_there(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	at.flush = a_fault_at_the_new_place_begins; /* the page is nowhere */
	move_page_0_to_20();
	join();
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(seen, 1);
}

static void a_fault_at_the_old_place_waits_and_finds_nothing(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	at.flush = a_fault_begins_on_cpu1;
	move_page_0_to_20();
	join();
	assert_int_equal(reason, FAULT_MAPERR);
	assert_int_equal(read_on(cpu0, 20), 1);
}

static void what_is_written_at_the_old_place_up_to_the_flush_moves_with_it(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu1, 0, 1);
	at.flush = write_2_on_cpu1; /* by its TLB */
	move_page_0_to_20();
	assert_int_equal(read_on(cpu0, 20), 2);
	assert_int_equal(try_read(cpu1, 0), FAULT_MAPERR);
}

static void move_area(void)
{
	assert_int_equal(vm_remap(mm, AT(0), P(8), P(8), VREMAP_MAYMOVE | VREMAP_FIXED, AT(20)),
			 AT(20));
}

static void move_begins(void)
{
	begin(move_area);
	waits(layout_is_locked);
}

static void a_move_waits_for_a_fault_that_is_under_way(void **state)
{
	(void)state;
	write_on(cpu0, 1, 1);
	at.stage = move_begins;
	reason = soft_write_byte(cpu0, AT(0), 1);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(try_read(cpu0, 0), FAULT_MAPERR);
	assert_int_equal(read_on(cpu0, 20), reason == FAULT_OK);
}

static void a_move_waits_for_a_swap_in(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	at.load = move_begins;
	reason = try_read(cpu0, 0);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(read_on(cpu0, 20), 1);
}

static void reclaim_once(void)
{
	struct taken t;

	take_segment(w.e, true, NODE_MASK_ALL, &t);
	seen = (u8)t.taken;
}

static void reclaim_begins(void)
{
	begin(reclaim_once);
	waits(NULL);
}

/* Nobody looks for a page while it is nowhere. */
static void reclaim_waits_for_a_move(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	at.flush = reclaim_begins;
	move_page_0_to_20();
	join();
	assert_int_equal(seen, 1);
	assert_int_equal(mm->swapped, 1);
	assert_int_equal(read_on(cpu0, 20), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(a_fault_that_comes_after_munmap_is_a_maperr),
		T(munmap_waits_for_a_fault_that_is_under_way),
		T(a_fault_in_the_middle_of_munmap_waits_for_its_end),
		T(a_frame_is_not_free_before_the_flush),
		T(a_fault_under_its_vmas_lock_is_in_nobody_elses_way),
		T(growing_an_area_waits_for_a_fault_in_it),
		T(a_write_that_comes_after_mprotect_is_an_accerr),
		T(a_write_that_is_allowed_by_the_time_of_its_fault_is_done),
		T(what_may_be_executed_by_the_time_of_the_fetch_is),
		T(mprotect_waits_for_a_fault_that_is_under_way),
		T(no_stale_right_is_left_when_mprotect_returns),
		T(mprotect_loses_no_dirty_bit),
		T(a_fault_at_the_new_place_waits_until_the_page_is_there),
		T(a_fault_at_the_old_place_waits_and_finds_nothing),
		T(what_is_written_at_the_old_place_up_to_the_flush_moves_with_it),
		T(a_move_waits_for_a_fault_that_is_under_way),
		T(a_move_waits_for_a_swap_in),
		T(reclaim_waits_for_a_move),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
