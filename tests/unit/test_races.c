/* SPDX-License-Identifier: MIT */
/*
 * Faults against one another and against changes of the layout, of rights, reclaim and moves, with
 * every interleaving forced.  Those with fork are in test_fork_race.c, those with files in
 * test_file_races.c.
 */
#include "machine/soft/kernel.h"
#include "tests/unit/turns.h"

static struct mm *child;
static u64 free_before;
static enum fault_reason reason;
static u8 seen;

static int setup(void **state)
{
	(void)state;
	start_turns((struct world_options){ .kept = 100 });
	child = NULL;
	map(0, 8, RW);
	return 0;
}

static int setup_streams(void **state)
{
	(void)state;
	start_turns((struct world_options){ .kept = 100, .prefetch = 8 });
	child = NULL;
	map(0, 64, RW);
	return 0;
}

static int end(void **state)
{
	soft_load_mm(cpu1, mm);
	if (child)
		mm_destroy(child);
	return end_turns(state);
}

static void write_2_on_cpu1(void)
{
	write_on(cpu1, 0, 2);
}

static void write_2_beside(void)
{
	assert_int_equal(soft_write_byte(cpu1, AT(0) + 1, 2), FAULT_OK);
}

static void read_on_cpu1(void)
{
	seen = read_on(cpu1, 0);
}

static void try_page_0_on_cpu1(void)
{
	reason = soft_read_byte(cpu1, AT(0), &seen);
}

/* Beside the first byte of the page. */
static u8 second_byte(struct soft_cpu *cpu)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(cpu, AT(0) + 1, &byte), FAULT_OK);
	return byte;
}

static void page_out(unsigned page, unsigned n)
{
	reclaim_range(mm, AT(page), AT(page + n));
}

/* ---- two first touches ---- */

static void two_first_writes_share_one_frame(void **state)
{
	(void)state;
	write_on(cpu0, 7, 1); /* tables are there */
	free_before = free_frames();
	at.stage = write_2_beside;
	write_on(cpu0, 0, 1);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(second_byte(cpu0), 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 2);
}

static void a_first_read_while_another_writes_leaves_it_the_zero_page_to_break(void **state)
{
	(void)state;
	at.stage = read_on_cpu1;
	write_on(cpu0, 0, 1);
	assert_int_equal(seen, 0);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(mm->rss, 1);
}

static void two_first_writes_through_the_zero_page_share_one_frame(void **state)
{
	(void)state;
	assert_int_equal(read_on(cpu0, 0) + read_on(cpu1, 0), 0);
	free_before = free_frames();
	at.stage = write_2_beside;
	write_on(cpu0, 0, 1);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(second_byte(cpu0), 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 1);
}

static void write_page_5(void)
{
	assert_int_equal(soft_write_byte(cpu1, AT(5), 2), FAULT_OK);
}

/* The pages that come with a fault come up to the one that another CPU was first to touch. */
static void a_stream_stops_at_a_page_that_came_meanwhile(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu0, 1, 1);
	assert_int_equal(mm->rss, 3); /* 2 came with 1 */
	free_before = free_frames();
	at.stage = write_page_5;
	write_on(cpu0, 3, 1); /* with up to three more */
	assert_true(pte_mapped(pte_of(mm, 4)));
	assert_int_equal(read_on(cpu0, 5), 2);
	assert_int_equal(free_before - free_frames(), mm->rss - 3);
}

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

/* All of it, so that nothing is cut. */
static void unmap_area(void)
{
	assert_int_equal(vm_unmap(mm, AT(0), P(8)), 0);
}

static void munmap_begins(void)
{
	begin(unmap_area);
	waits(layout_is_locked);
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

static void a_fault_begins_on_cpu1(void)
{
	begin(try_page_0_on_cpu1);
	waits(NULL);
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

/* ---- a copy and what goes meanwhile ---- */

/* Page 0 is shared with a child: the next write copies it. */
static void shared_page(void)
{
	write_on(cpu0, 0, 1);
	assert_int_equal(soft_write_byte(cpu0, AT(0) + 1, 7), FAULT_OK);
	assert_int_equal(mm_fork(mm, &child), 0);
}

static void drop_page_0(void)
{
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
}

static void a_copy_of_a_page_that_was_dropped_meanwhile_is_thrown_away(void **state)
{
	(void)state;
	shared_page();
	at.stage = drop_page_0;
	write_on(cpu0, 0, 2);
	assert_int_equal(read_on(cpu1, 0), 2);
	assert_int_equal(second_byte(cpu1), 0);
	assert_int_equal(mm->rss, 1);
}

static void munmap_waits_for_a_copy(void **state)
{
	(void)state;
	shared_page();
	free_before = free_frames();
	at.stage = munmap_begins;
	reason = soft_write_byte(cpu0, AT(0), 2);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(try_read(cpu0, 0), FAULT_MAPERR);
	assert_int_equal(free_frames(), free_before);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 1);
}

/* ---- a page that is reused, and fork ---- */

static void fork_now(void)
{
	assert_int_equal(mm_fork(mm, &child), 0);
}

/* Read-only, and nobody else's any more. */
static void left_alone(void)
{
	write_on(cpu0, 0, 1);
	fork_now();
	mm_destroy(child);
	child = NULL;
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_false(pte_write(pte_of(mm, 0)));
}

static void a_fork_before_the_fault_looks_makes_it_copy(void **state)
{
	struct page *page;

	(void)state;
	left_alone();
	page = page_of(mm, 0);
	at.trap = fork_now;
	write_on(cpu0, 0, 2);
	assert_true(page_of(mm, 0) != page);
	assert_ptr_equal(page_of(child, 0), page);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 1);
}

static void fork_begins(void)
{
	begin(fork_now);
	waits(layout_is_locked);
}

/* The page is exclusive and writable when fork comes to it, and is neither when it has been. */
static void a_fork_after_the_fault_looked_waits_until_it_reuses(void **state)
{
	u8 childs;

	(void)state;
	left_alone();
	at.change = fork_begins;
	write_on(cpu0, 0, 2);
	join();
	soft_load_mm(cpu1, child);
	childs = read_on(cpu1, 0);
	assert_true(childs == 1 || childs == 2);
	write_on(cpu0, 0, 3);
	assert_int_equal(read_on(cpu1, 0), childs);
	write_on(cpu1, 0, 4);
	assert_int_equal(read_on(cpu0, 0), 3);
}

/* ---- swap-in against swap-in ---- */

static void two_swap_ins_of_one_entry_map_one_page(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	free_before = free_frames();
	at.load = read_on_cpu1;
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_int_equal(seen, 1);
	assert_int_equal(flaky.loads, 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(mm->swapped, 0);
}

static void what_the_first_of_two_swap_ins_writes_is_not_overwritten(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	at.load = write_2_on_cpu1;
	assert_int_equal(read_on(cpu0, 0), 2);
}

/* In two spaces. */
static void two_swap_ins_of_one_slot_map_one_page(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	fork_now();
	soft_load_mm(cpu1, child);
	at.load = read_on_cpu1;
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_non_null(page_of(mm, 0));
	assert_ptr_equal(page_of(mm, 0), page_of(child, 0));
	write_on(cpu0, 0, 2);
	assert_int_equal(read_on(cpu1, 0), 1);
}

static void a_swap_in_by_who_writes_leaves_the_other_its_bytes(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	fork_now();
	soft_load_mm(cpu1, child);
	at.load = write_2_on_cpu1;
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_int_equal(read_on(cpu1, 0), 2);
	assert_true(page_of(mm, 0) != page_of(child, 0));
}

/* ---- swap-in against reclaim ---- */

static void write_2_and_page_out(void)
{
	write_on(cpu1, 0, 2);
	page_out(0, 1);
	assert_true(pte_is_swap(pte_of(mm, 0)));
}

/* The entry is as it was, and its bytes are not. */
static void a_page_that_came_was_written_and_left_again_meanwhile(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	at.load = write_2_and_page_out;
	assert_int_equal(read_on(cpu0, 0), 2);
	assert_int_equal(mm->rss, 1);
}

static void a_swapped_page_dropped_while_it_is_loaded_stays_dropped(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	at.load = drop_page_0;
	assert_int_equal(read_on(cpu0, 0), 0);
	assert_int_equal(w.e->swap.used, 0);
}

static void munmap_waits_for_a_swap_in(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	at.load = munmap_begins;
	reason = try_read(cpu0, 0);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(try_read(cpu0, 0), FAULT_MAPERR);
	assert_int_equal(w.e->swap.used, 0);
}

/* The writer is at it: the fault waits for it and finds the bytes in the store. */
static void a_fault_on_a_page_that_is_being_written_out_waits(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	at.save = a_fault_begins_on_cpu1;
	page_out(0, 1);
	join();
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(seen, 1);
	assert_int_equal(flaky.saves, 1);
}

/* ---- the batch of a segment, and its one flush ---- */

static void a_write_begins_on_cpu1(void)
{
	begin(write_2_on_cpu1);
	waits(NULL);
}

/* Taken, and not yet on the list of what is to be written out: who wants it waits, and has it back
 * without the store. */
static void a_page_that_is_just_being_taken_comes_back(void **state)
{
	struct taken t;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		write_on(cpu0, i, 1);
	at.take = a_write_begins_on_cpu1;
	while (take_segment(w.e, true, &t) && !t.taken)
		;
	join();
	assert_int_equal(t.taken, 8);
	assert_int_equal(read_on(cpu0, 0), 2);
	assert_int_equal(flaky.loads, 0);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(mm->swapped, 7);
}

/* Both CPUs have all of them in their TLBs; after the flush neither uses one. */
static void no_translation_of_a_segment_outlives_its_flush(void **state)
{
	struct taken t;
	bool full;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		write_on(cpu0, i, 1 + i);
		write_on(cpu1, i, 1 + i);
	}
	while (take_segment(w.e, true, &t) && !t.taken)
		;
	assert_int_equal(t.taken, 8);
	assert_int_equal(writeout(w.e, 8, &full), 8); /* the frames are anybody's now */
	for (unsigned i = 0; i < 8; i++) {
		write_on(cpu1, i, 11 + i);
		assert_int_equal(read_on(cpu0, i), 11 + i);
	}
}

/* ---- next to no memory ---- */

static int setup_small(void **state)
{
	(void)state;
	start_turns((struct world_options){ .frames = 20, .segment = 1, .kept = 100 });
	child = NULL;
	map(0, 40, RW);
	return 0;
}

static void write_page_39_on_cpu1(void)
{
	reason = soft_write_byte(cpu1, AT(39), 39);
}

/* Others have them locked, and may have lost their CPU: that is not being out of memory. */
static void who_finds_all_pages_locked_waits_for_them(void **state)
{
	struct page *locked[20];
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 19; i++)
		write_on(cpu0, i, i);
	for (unsigned i = 0; i < 19; i++)
		if (page_of(mm, i) && page_trylock(page_of(mm, i)))
			locked[n++] = page_of(mm, i);
	assert_int_equal(n + free_frames() + nr_writeout(w.e) + 1, 20); /* one is the zero page */
	assert_int_equal(nr_writeout(w.e), 0);
	begin(write_page_39_on_cpu1);
	waits(NULL);
	while (n)
		page_unlock(locked[--n]);
	join();
	assert_int_equal(reason, FAULT_OK);
	for (unsigned i = 0; i < 19; i++)
		assert_int_equal(read_on(cpu0, i), i);
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

	take_segment(w.e, true, &t);
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

/* ---- the kernel half, given lazily ---- */

#define VMALLOC	    0xffffc90000000000ULL
#define VMALLOC_END 0xffffe90000000000ULL

static struct soft_kernel *kernel;
static soft_trap_fn kernels_trap;
static char byte_there;

static struct fault_result turn_before_the_kernel(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	turn(&at.trap);
	return kernels_trap(cpu, cr2, code);
}

static void load_on_cpu1(void)
{
	assert_int_equal(soft_kernel_load(kernel, 1, INSN_OTHER, false, VMALLOC, &byte_there, 1),
			 TRAP_RETRY);
}

/* Both found the top-level entry missing; the second finds that the first has put it there. */
static void two_cpus_may_fault_on_one_top_level_entry(void **state)
{
	struct task tasks[2];
	struct page *page;
	char byte = 'k';

	(void)state;
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_LAZY, VMALLOC, VMALLOC_END, &kernel),
			 0);
	for (unsigned i = 0; i < 2; i++) {
		tasks[i] = (struct task){ .mm = mm, .pid = 100, .name = "program" };
		soft_kernel_run(kernel, i, &tasks[i]);
	}
	page = page_alloc(w.e, ZONE_USER, 0, 0);
	assert_int_equal(kernel_map(&kernel->kernel, VMALLOC, page_pfn(w.e, page), PTE_NX), 0);
	*(char *)page_direct(w.e, page) = 'k';
	kernels_trap = w.m->trap;
	w.m->trap = turn_before_the_kernel;
	at.trap = load_on_cpu1;
	byte = 0;
	assert_int_equal(soft_kernel_load(kernel, 0, INSN_OTHER, false, VMALLOC, &byte, 1),
			 TRAP_RETRY);
	assert_int_equal(byte, 'k');
	assert_int_equal(byte_there, 'k');
	kernel_unmap(&kernel->kernel, VMALLOC);
	for (unsigned i = 0; i < 2; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
	page_put(w.e, page);
	soft_kernel_destroy(kernel);
	mm_destroy(mm);
	w.mm = NULL;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(two_first_writes_share_one_frame),
		T(a_first_read_while_another_writes_leaves_it_the_zero_page_to_break),
		T(two_first_writes_through_the_zero_page_share_one_frame),
		cmocka_unit_test_setup_teardown(a_stream_stops_at_a_page_that_came_meanwhile,
						setup_streams, end),
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
		T(a_copy_of_a_page_that_was_dropped_meanwhile_is_thrown_away),
		T(munmap_waits_for_a_copy),
		T(a_fork_before_the_fault_looks_makes_it_copy),
		T(a_fork_after_the_fault_looked_waits_until_it_reuses),
		T(two_swap_ins_of_one_entry_map_one_page),
		T(what_the_first_of_two_swap_ins_writes_is_not_overwritten),
		T(two_swap_ins_of_one_slot_map_one_page),
		T(a_swap_in_by_who_writes_leaves_the_other_its_bytes),
		T(a_page_that_came_was_written_and_left_again_meanwhile),
		T(a_swapped_page_dropped_while_it_is_loaded_stays_dropped),
		T(munmap_waits_for_a_swap_in),
		T(a_fault_on_a_page_that_is_being_written_out_waits),
		T(a_page_that_is_just_being_taken_comes_back),
		T(no_translation_of_a_segment_outlives_its_flush),
		cmocka_unit_test_setup_teardown(who_finds_all_pages_locked_waits_for_them,
						setup_small, end),
		T(a_fault_at_the_new_place_waits_until_the_page_is_there),
		T(a_fault_at_the_old_place_waits_and_finds_nothing),
		T(what_is_written_at_the_old_place_up_to_the_flush_moves_with_it),
		T(a_move_waits_for_a_fault_that_is_under_way),
		T(a_move_waits_for_a_swap_in),
		T(reclaim_waits_for_a_move),
		cmocka_unit_test_setup_teardown(two_cpus_may_fault_on_one_top_level_entry, setup,
						end_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
