/* SPDX-License-Identifier: MIT */
/* Swap-in against swap-in, reclaim and swapoff, with every interleaving forced. */
#include "tests/unit/races.h"

static u64 free_before;

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

/* ---- swap-in against swapoff ---- */

static void swap_off(void)
{
	assert_int_equal(swap_area_off(w.e, 0), 0);
}

static void swapoff_begins(void)
{
	begin(swap_off);
	waits(NULL);
}

/* The fault has the slot pinned; the area's store is not gone before it has let go. */
static void swapoff_waits_for_a_swap_in(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu0, 1, 2);
	page_out(0, 2);
	at.load = swapoff_begins;
	assert_int_equal(read_on(cpu0, 0), 1);
	join();
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(mm->rss, 2);
	assert_int_equal(read_on(cpu0, 1), 2);
}

static void a_fault_while_swapoff_loads_the_page_maps_one_page(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	page_out(0, 1);
	free_before = free_frames();
	at.load = write_2_on_cpu1;
	swap_off();
	assert_int_equal(read_on(cpu0, 0), 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(w.e->swap.used, 0);
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
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
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
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
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

static _Atomic bool machine_is_busy;
static struct mmu_ops busy_mmu;

static unsigned take_unless_busy(struct mm *of, struct mmu_take *takes, unsigned n)
{
	if (!atomic_load(&machine_is_busy))
		return turn_mmu.take(of, takes, n);
	for (unsigned i = 0; i < n; i++)
		takes[i].result = -EAGAIN;
	return 0;
}

/* None is locked, but whichever is tried stays for the moment. */
static void who_meets_only_what_cannot_go_just_now_tries_until_it_can(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 19; i++)
		write_on(cpu0, i, i);
	busy_mmu = turn_mmu;
	busy_mmu.take = take_unless_busy;
	w.e->mmu = &busy_mmu;
	atomic_store(&machine_is_busy, true);
	begin(write_page_39_on_cpu1);
	waits(NULL);
	atomic_store(&machine_is_busy, false);
	join();
	assert_int_equal(reason, FAULT_OK);
	for (unsigned i = 0; i < 19; i++)
		assert_int_equal(read_on(cpu0, i), i);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(two_swap_ins_of_one_entry_map_one_page),
		T(what_the_first_of_two_swap_ins_writes_is_not_overwritten),
		T(two_swap_ins_of_one_slot_map_one_page),
		T(a_swap_in_by_who_writes_leaves_the_other_its_bytes),
		T(a_page_that_came_was_written_and_left_again_meanwhile),
		T(a_swapped_page_dropped_while_it_is_loaded_stays_dropped),
		T(munmap_waits_for_a_swap_in),
		T(a_fault_on_a_page_that_is_being_written_out_waits),
		T(swapoff_waits_for_a_swap_in),
		T(a_fault_while_swapoff_loads_the_page_maps_one_page),
		T(a_page_that_is_just_being_taken_comes_back),
		T(no_translation_of_a_segment_outlives_its_flush),
		cmocka_unit_test_setup_teardown(who_finds_all_pages_locked_waits_for_them,
						setup_small, end),
		cmocka_unit_test_setup_teardown(
			who_meets_only_what_cannot_go_just_now_tries_until_it_can, setup_small,
			end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
