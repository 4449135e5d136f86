/* SPDX-License-Identifier: MIT */
/* Files that are cut off or have holes, and disks that fail. */
#include "tests/unit/file_world.h"

/* ---- truncation ---- */

static void behind_the_end_is_a_bus_error(void **state)
{
	(void)state;
	passes("file a 5000 5\n"
	       "map any 3P rw file a 0 shared as A\n"
	       "map any 3P rw file a 0 private as B\n"
	       "read A 5000 5\n"
	       "read A+5000 3192 0\n"
	       "read A+2P 1 -> bus\n"
	       "write A+2P 1 1 -> bus\n"
	       "read B+2P 1 -> bus\n"
	       "write B+2P 1 1 -> bus\n"
	       "truncate a 3P\n"
	       "read A+2P 1P 0\n"
	       "write B+2P 1P 4\n");
}

static void truncation_unmaps_pages_and_private_copies(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "map any 4P rw file a 0 private as B\n"
	       "write A 4P 6\n"
	       "write B 4P 7\n"
	       "pageout B+3P 1P\n"
	       "truncate a 5000\n"
	       "expect cached a 2\n"
	       "expect rss 4\n"
	       "expect swapped 0\n"
	       "read A+2P 1 -> bus\n"
	       "read B+2P 1 -> bus\n"
	       "read B+3P 1 -> bus\n"
	       /* In the last page: zeros behind the end, but a copy is nobody's to zero. */
	       "read A+5000 3192 0\n"
	       "read A 5000 6\n"
	       "read B 2P 7\n"
	       "truncate a 4P\n"
	       "fread a 0 5000 6\n"
	       "fread a 5000 11384 0\n"
	       "read B+2P 2P 0\n");
}

static void truncation_to_nothing_takes_all(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 private as B\n"
	       "write B 1P 7\n"
	       "truncate a 0\n"
	       "expect rss 0\n"
	       "expect cached a 0\n"
	       "read B 1 -> bus\n"
	       "truncate a 1P\n"
	       "read B 1P 0\n");
}

static void what_was_written_behind_the_end_is_never_the_files(void **state)
{
	(void)state;
	passes("file a 100 5\n"
	       "map any 1P rw file a 0 shared as A\n"
	       "write A+200 100 9\n"
	       "read A+200 100 9\n"
	       "truncate a 1P\n"
	       "fread a 100 3996 0\n"
	       "truncate a 100\n"
	       "write A+200 100 9\n"
	       "fwrite a 4000 10 4\n"
	       "fread a 100 3900 0\n"
	       /* nor does it come back from the disk */
	       "truncate a 100\n"
	       "write A+200 100 9\n"
	       "sync a\n"
	       "unmap A 1P\n"
	       "evict a\n"
	       "truncate a 1P\n"
	       "fread a 100 3996 0\n");
}

static void a_hole_is_zeros_and_spares_private_copies(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "map any 4P rw file a 0 private as B\n"
	       "read A 4P 5\n"
	       "write B+2P 1P 7\n"
	       "punch a 100 12188\n" /* to three pages */
	       "expect cached a 2\n"
	       "read A 100 5\n"
	       "read A+100 12188 0\n"
	       "read A+3P 1P 5\n"
	       "read B+1P 1P 0\n"
	       "read B+2P 1P 7\n"
	       "punch a 200 100\n"
	       "punch a 15P 1P\n"
	       "sync a\n"
	       "unmap A 4P\n"
	       "unmap B 4P\n"
	       "evict a\n"
	       "expect cached a 0\n"
	       "fread a 0 100 5\n"
	       "fread a 100 12188 0\n"
	       "fread a 3P 1P 5\n");
}

static void blocks_behind_the_end_and_in_holes_are_free(void **state)
{
	struct file *f = new_file(8, 1);

	(void)state;
	assert_int_equal(ramfile_blocks(f), 0);
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0);
	assert_int_equal(ramfile_blocks(f), 8);
	assert_int_equal(file_truncate(f, P(5) + 1), 0);
	assert_int_equal(ramfile_blocks(f), 6);
	assert_int_equal(file_punch_hole(f, P(1), P(2)), 0);
	assert_int_equal(ramfile_blocks(f), 4);
	file_put(f);
}

/* As in the middle of a truncation: the end is set, the pages are still there. */
static void nothing_is_mapped_behind_an_end_that_is_just_being_set(void **state)
{
	struct file *f = new_file(16, 5);
	struct page *page;
	bool again;
	u8 byte;

	(void)state;
	map_file(mm, 0, 16, RW, SHARED, f);
	map_file(mm, 100, 16, RW, 0, f);
	atomic_store(&f->mapping->i_size, P(4));
	assert_int_equal(get(2), 5);
	assert_int_equal(atomic_load(&mm->rss), 4);
	assert_int_equal(read_at(9, &byte), FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(9), 1), FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(109), 1), FAULT_BUS);
	assert_int_equal(f->mapping->ops->get_page(f->mapping, 9, PAGE_MAP, &page, &again),
			 -EFAULT);
	atomic_store(&f->mapping->i_size, P(16));
	file_put(f);
}

/* ---- errors ---- */

static void a_read_that_fails_is_a_bus_error_until_it_succeeds(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "sync a\n"
	       "evict a\n"
	       "fail a read eio\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "map any 4P rw file a 0 private as B\n"
	       "read A 1 -> bus\n"
	       "write A 1 1 -> bus\n"
	       "write B 1 1 -> bus\n"
	       "fread a 0 1P -> eio\n"
	       "expect cached a 0\n"
	       "expect major 0\n" /* errors are not counted */
	       "check\n"
	       "fail a read none\n"
	       "read A 4P 5\n"
	       "write B 1P 6\n");
}

static void a_neighbour_that_cannot_be_read_is_nobodys_error(void **state)
{
	struct file *f = new_file(8, 1);
	u8 byte;

	(void)state;
	vfs_fsync_range(f, 0, ~0ULL);
	invalidate_mapping_pages(f->mapping, 0, ~0ULL);
	ramfile_fail(f, RAMFILE_READ, 3, 1, -EIO);
	map_file(mm, 0, 8, VM_READ, SHARED, f);
	assert_int_equal(read_at(5, &byte), FAULT_OK);
	assert_int_equal(read_at(3, &byte), FAULT_BUS);
	assert_int_equal(read_at(2, &byte), FAULT_OK);
	file_put(f);
}

static void each_failed_write_is_told_once_to_each_that_has_it_open(void **state)
{
	struct file *f = new_file(2, 1), *g = file_open(f->mapping, FILE_READ), *late;

	(void)state;
	ramfile_fail(f, RAMFILE_WRITE, 1, 1, -EIO);
	assert_int_equal(vfs_fsync_range(f, 0, P(1)), 0); /* not of this range */
	assert_int_equal(vfs_fsync_range(f, 0, P(2)), -EIO);
	late = file_open(f->mapping, FILE_READ);
	assert_int_equal(atomic_load(&f->mapping->nr_dirty), 1); /* kept, to be tried again */
	ramfile_fail(f, RAMFILE_WRITE, 0, 0, 0);
	assert_int_equal(vfs_fsync_range(f, 0, P(2)), 0);
	assert_int_equal(vfs_fsync_range(g, 0, P(2)), -EIO);
	assert_int_equal(vfs_fsync_range(g, 0, P(2)), 0);
	assert_int_equal(vfs_fsync_range(late, 0, P(2)), 0);
	assert_int_equal(ramfile_blocks(f), 2);
	file_put(late);
	file_put(g);
	file_put(f);
}

static void a_shared_write_without_room_on_the_disk_is_a_bus_error(void **state)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 2);

	(void)state;
	assert_int_equal(file_truncate(f, P(4)), 0);
	map_file(mm, 0, 4, RW, SHARED, f);
	put(0, 1);
	put(3, 2);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 3), FAULT_BUS);
	assert_int_equal(get(1), 0);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 3), FAULT_BUS);
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0); /* what was promised can be kept */
	assert_int_equal(file_punch_hole(f, 0, P(1)), 0);
	put(1, 3);
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0);
	file_put(f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(behind_the_end_is_a_bus_error),
		T(truncation_unmaps_pages_and_private_copies),
		T(truncation_to_nothing_takes_all),
		T(what_was_written_behind_the_end_is_never_the_files),
		T(a_hole_is_zeros_and_spares_private_copies),
		T(blocks_behind_the_end_and_in_holes_are_free),
		T(nothing_is_mapped_behind_an_end_that_is_just_being_set),
		T(a_read_that_fails_is_a_bus_error_until_it_succeeds),
		T(a_neighbour_that_cannot_be_read_is_nobodys_error),
		T(each_failed_write_is_told_once_to_each_that_has_it_open),
		T(a_shared_write_without_room_on_the_disk_is_a_bus_error),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
