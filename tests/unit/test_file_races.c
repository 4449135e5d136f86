/* SPDX-License-Identifier: MIT */
/*
 * Faults on pages of files against truncation, writing back, reclaim, unmapping and moves, with
 * every interleaving forced (turns.h).  Beside the machine's hooks there are the file's own.
 */
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "tests/unit/turns.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

enum { PAGES = 8 };

/* Page 0 on is the file, shared; page 20 on, private; page 40 on, shared by another space. */
enum { MINE = 0, PRIVATE = 20 };

static struct file *file;
static struct address_space_ops turn_ops;
static const struct address_space_ops *real_ops;
static turn_fn at_got, at_read,
	at_write; /* page locked; at_read and at_write with invalidate_lock */
static enum fault_reason reason;

static int turn_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
			 bool *major)
{
	int err = real_ops->get_page(m, index, use, page, major);

	if (!err)
		turn(&at_got);
	return err;
}

static int turn_read_page(struct address_space *m, struct page *page)
{
	turn(&at_read);
	return real_ops->read_page(m, page);
}

static int turn_write_page(struct address_space *m, struct page *page)
{
	turn(&at_write);
	return real_ops->write_page(m, page);
}

static int setup(void **state)
{
	u8 bytes[PAGE_SIZE];

	(void)state;
	start_turns((struct world_options){ .kept = 100 });
	at_got = at_read = at_write = NULL;
	file = ramfile_create(w.e, FILE_READ | FILE_WRITE, 100);
	assert_non_null(file);
	for (unsigned i = 0; i < PAGES; i++) {
		memset(bytes, i + 1, sizeof(bytes));
		assert_int_equal(file_write(file, P(i), bytes, PAGE_SIZE), PAGE_SIZE);
	}
	assert_int_equal(vfs_fsync_range(file, 0, P(PAGES)), 0);
	real_ops = file->mapping->ops;
	turn_ops = *real_ops;
	turn_ops.get_page = turn_get_page;
	turn_ops.read_page = turn_read_page;
	turn_ops.write_page = turn_write_page;
	file->mapping->ops = &turn_ops;
	assert_int_equal(vm_map_file(mm, AT(MINE), P(PAGES), RW, VMAP_FIXED, SHARED, file, 0),
			 AT(MINE));
	assert_int_equal(vm_map_file(mm, AT(PRIVATE), P(PAGES), RW, VMAP_FIXED, 0, file, 0),
			 AT(PRIVATE));
	return 0;
}

static int end(void **state)
{
	assert_null(at_got);
	assert_null(at_read);
	assert_null(at_write);
	file_put(file);
	return end_turns(state);
}

static void forget_cache(void)
{
	assert_int_equal(invalidate_mapping_pages(file->mapping, 0, ~0ULL), PAGES);
}

static u8 on_disk(unsigned page)
{
	u8 byte = 0xee;

	/* What is dirty would not go. */
	assert_int_equal(vm_unmap(mm, AT(MINE), P(PAGES)), 0);
	invalidate_mapping_pages(file->mapping, 0, ~0ULL);
	assert_int_equal(file->mapping->nr_pages, 0);
	assert_int_equal(file_read(file, P(page), &byte, 1), 1);
	return byte;
}

/* ---- truncation ---- */

static void cut_to_2(void)
{
	assert_int_equal(file_truncate(file, P(2)), 0);
}

static bool is_cut(void)
{
	return file_size(file) == P(2);
}

/* The end is set, and the first unmapping is over: it took page 7 of the private mapping, which it
 * comes to last. */
static bool has_unmapped(void)
{
	return is_cut() && !pte_mapped(pte_of(mm, PRIVATE + 7));
}

static bool is_cutting(void)
{
	return rwsem_is_locked(&file->mapping->i_rwsem);
}

static void nothing_is_left_behind_page_2(void)
{
	for (unsigned i = 2; i < PAGES; i++) {
		assert_true(pte_none(pte_of(mm, MINE + i)));
		assert_true(pte_none(pte_of(mm, PRIVATE + i)));
		assert_int_equal(try_read(cpu0, MINE + i), FAULT_BUS);
		assert_int_equal(try_read(cpu1, PRIVATE + i), FAULT_BUS);
		assert_null(find_get_page(file->mapping, i));
	}
	assert_int_equal(read_on(cpu0, MINE + 1), 2);
}

static void a_fault_that_comes_after_truncation_is_a_bus_error(void **state)
{
	(void)state;
	at.trap = cut_to_2;
	assert_int_equal(soft_write_byte(cpu0, AT(MINE + 5), 9), FAULT_BUS);
	nothing_is_left_behind_page_2();
}

static void truncation_begins_and_waits(void)
{
	begin(cut_to_2);
	waits(is_cutting);
}

static void truncation_begins_and_has_unmapped(void)
{
	begin(cut_to_2);
	waits(has_unmapped);
}

static void truncation_begins_and_is_cut(void)
{
	begin(cut_to_2);
	waits(is_cut);
}

/* The page is read without the VMA's lock, and is cut off again before it is mapped, or after. */
static void a_page_that_is_being_read_is_cut_off_in_the_end(void **state)
{
	(void)state;
	forget_cache();
	at_read = truncation_begins_and_waits;
	reason = try_read(cpu0, MINE + 5);
	assert_true(reason == FAULT_OK || reason == FAULT_BUS);
	join();
	nothing_is_left_behind_page_2();
}

static void map_page_7(void)
{
	write_on(cpu1, PRIVATE + 7, 9);
}

/* It was locked before the end was set; all is unmapped, and then it is mapped; and goes when the
 * truncation has its lock. */
static void a_page_that_was_locked_before_the_cut_is_unmapped_after_it(void **state)
{
	(void)state;
	map_page_7();
	at_got = truncation_begins_and_has_unmapped;
	reason = soft_write_byte(cpu0, AT(MINE + 5), 9);
	assert_true(reason == FAULT_OK || reason == FAULT_BUS);
	join();
	nothing_is_left_behind_page_2();
}

/* The same of a private copy, which the page's lock does not lead to. */
static void a_copy_of_a_page_that_was_locked_before_the_cut_goes_too(void **state)
{
	(void)state;
	map_page_7();
	at_got = truncation_begins_and_has_unmapped;
	reason = soft_write_byte(cpu0, AT(PRIVATE + 5), 9);
	assert_true(reason == FAULT_OK || reason == FAULT_BUS);
	join();
	nothing_is_left_behind_page_2();
	assert_int_equal(mm->rss, mm->rss_file);
}

static void a_truncation_before_the_copys_page_is_had_makes_a_bus_error(void **state)
{
	(void)state;
	write_on(cpu0, PRIVATE + 1, 9);
	at.stage = cut_to_2;
	assert_int_equal(soft_write_byte(cpu0, AT(PRIVATE + 5), 9), FAULT_BUS);
	nothing_is_left_behind_page_2();
}

/* All pages of the window are locked; the end comes down while the first is mapped. */
static void fault_around_maps_nothing_for_good_behind_the_end(void **state)
{
	(void)state;
	at.set = truncation_begins_and_is_cut;
	assert_int_equal(read_on(cpu0, MINE + 1), 2);
	join();
	nothing_is_left_behind_page_2();
}

static void truncate_and_grow(void)
{
	cut_to_2();
	assert_int_equal(file_truncate(file, P(PAGES)), 0);
}

/* Under a write to a page that is mapped read-only. */
static void the_first_write_to_a_page_that_was_cut_off_finds_the_new_page(void **state)
{
	u8 byte;

	(void)state;
	assert_int_equal(read_on(cpu0, MINE + 5), 6);
	at.trap = truncate_and_grow;
	assert_int_equal(soft_write_byte(cpu0, AT(MINE + 5), 9), FAULT_OK);
	assert_int_equal(file_read(file, P(5) + 1, &byte, 1), 1);
	assert_int_equal(byte, 0);
	assert_int_equal(file_read(file, P(5), &byte, 1), 1);
	assert_int_equal(byte, 9);
}

/* ---- moves ---- */

static void a_truncation_begins(void)
{
	begin(cut_to_2);
	waits(is_cutting);
}

/* The pages that are between two places are not missed. */
static void truncation_waits_for_a_move(void **state)
{
	(void)state;
	write_on(cpu0, MINE + 5, 9);
	at.flush = a_truncation_begins;
	assert_int_equal(
		vm_remap(mm, AT(MINE), P(PAGES), P(PAGES), VREMAP_MAYMOVE | VREMAP_FIXED, AT(60)),
		AT(60));
	join();
	assert_int_equal(try_read(cpu0, 60 + 5), FAULT_BUS);
	assert_true(pte_none(pte_of(mm, 60 + 5)));
	assert_int_equal(read_on(cpu0, 60 + 1), 2);
}

/* ---- writing back ---- */

static void write_9_on_cpu1(void)
{
	write_on(cpu1, MINE, 9);
}

/* Up to the flush, by a stale TLB: it is in what is written out. */
static void a_write_before_the_flush_is_written_back(void **state)
{
	(void)state;
	write_on(cpu0, MINE, 8);
	write_on(cpu1, MINE, 8);
	at.clean = write_9_on_cpu1;
	assert_int_equal(vfs_fsync_range(file, 0, P(1)), 0);
	assert_int_equal(file->mapping->nr_dirty, 0);
	assert_int_equal(on_disk(0), 9);
}

static void a_write_begins_on_cpu1(void)
{
	begin(write_9_on_cpu1);
	waits(NULL);
}

/* While the page is under way it waits, and makes the page dirty once more. */
static void a_write_while_the_page_is_written_back_makes_it_dirty_again(void **state)
{
	(void)state;
	write_on(cpu0, MINE, 8);
	at_write = a_write_begins_on_cpu1;
	assert_int_equal(vfs_fsync_range(file, 0, P(1)), 0);
	join();
	assert_int_equal(file->mapping->nr_dirty, 1);
	assert_int_equal(vfs_fsync_range(file, 0, P(1)), 0);
	assert_int_equal(on_disk(0), 9);
}

static void write_back_and_write(void)
{
	assert_int_equal(vfs_fsync_range(file, 0, P(1)), 0);
	write_on(cpu1, MINE, 9); /* by its TLB */
}

/* The entry is cleared and not flushed; the page is cleaned; and written to. */
static void a_write_up_to_the_flush_of_an_unmapping_makes_the_page_dirty(void **state)
{
	(void)state;
	write_on(cpu0, MINE, 8);
	write_on(cpu1, MINE, 8);
	at.flush = write_back_and_write;
	assert_int_equal(vm_advise(mm, AT(MINE), P(1), VADV_DONTNEED), 0);
	assert_int_equal(file->mapping->nr_dirty, 1);
	assert_int_equal(vfs_fsync_range(file, 0, P(1)), 0);
	assert_int_equal(on_disk(0), 9);
}

/* ---- reclaim ---- */

/* What is written by a translation until the flusher has flushed it is in what is written out, and
 * only then the page goes. */
static void a_dirty_page_goes_when_the_flusher_has_written_all_that_is_in_it(void **state)
{
	(void)state;
	write_on(cpu0, MINE, 8);
	write_on(cpu1, MINE, 8);
	assert_int_equal(reclaim_range(mm, AT(MINE), AT(MINE + 1)), 0);
	assert_true(pte_present(pte_of(mm, MINE)));
	at.clean = write_9_on_cpu1;
	assert_int_equal(flusher_run(w.e, 0), 1);
	assert_int_equal(file->mapping->nr_dirty, 0);
	assert_int_equal(reclaim_range(mm, AT(MINE), AT(MINE + 1)), 1);
	assert_int_equal(read_on(cpu0, MINE), 9);
}

/* Written again between the flusher's round and reclaim: the second writing is waited for, too. */
static void a_page_that_is_dirty_again_stays_again(void **state)
{
	(void)state;
	write_on(cpu0, MINE, 8);
	reclaim_range(mm, AT(MINE), AT(MINE + 1));
	assert_int_equal(flusher_run(w.e, 0), 1);
	write_on(cpu1, MINE, 9);
	reclaim_range(mm, AT(MINE), AT(MINE + 1));
	assert_int_equal(read_on(cpu0, MINE), 9);
	assert_int_equal(flusher_run(w.e, 0), 1);
	assert_int_equal(on_disk(0), 9);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(a_fault_that_comes_after_truncation_is_a_bus_error),
		T(a_page_that_is_being_read_is_cut_off_in_the_end),
		T(a_page_that_was_locked_before_the_cut_is_unmapped_after_it),
		T(a_copy_of_a_page_that_was_locked_before_the_cut_goes_too),
		T(a_truncation_before_the_copys_page_is_had_makes_a_bus_error),
		T(fault_around_maps_nothing_for_good_behind_the_end),
		T(the_first_write_to_a_page_that_was_cut_off_finds_the_new_page),
		T(truncation_waits_for_a_move),
		T(a_write_before_the_flush_is_written_back),
		T(a_write_while_the_page_is_written_back_makes_it_dirty_again),
		T(a_write_up_to_the_flush_of_an_unmapping_makes_the_page_dirty),
		T(a_dirty_page_goes_when_the_flusher_has_written_all_that_is_in_it),
		T(a_page_that_is_dirty_again_stays_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
