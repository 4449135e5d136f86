/* SPDX-License-Identifier: MIT */
/* Files that are mapped: what each access finds, what it costs, and what becomes of it. */
#include "tests/unit/file_world.h"

/* ---- read and written by calls ---- */

static void what_is_written_is_read_and_holes_are_zeros(void **state)
{
	(void)state;
	passes("file a 0\n"
	       "fwrite a 5000 100 7\n"
	       "fread a 0 5000 0\n"
	       "fread a 5000 100 7\n"
	       "fwrite a 40P 1P 9\n"
	       "fread a 5100 8K 0\n"
	       "fread a 40P 1P 9\n"
	       "sync a\n"
	       "evict a\n"
	       "expect cached a 0\n"
	       "fread a 0 5000 0\n"
	       "fread a 5000 100 7\n"
	       "fread a 40P 1P 9\n");
}

static void calls_that_the_mode_forbids_are_refused(void **state)
{
	struct file *f = new_file(1, 3), *r, *wr;
	u8 byte;

	(void)state;
	r = file_open(f->mapping, FILE_READ);
	wr = file_open(f->mapping, FILE_WRITE);
	assert_int_equal(file_write(r, 0, "x", 1), -EBADF);
	assert_int_equal(file_read(wr, 0, &byte, 1), -EBADF);
	assert_int_equal(file_truncate(r, 0), -EINVAL);
	assert_int_equal(file_punch_hole(r, 0, 1), -EBADF);
	assert_int_equal(file_punch_hole(f, 0, 0), -EINVAL);
	assert_int_equal(file_write(f, FILE_MAX_SIZE, "x", 1), -EFBIG);
	assert_int_equal(file_truncate(f, FILE_MAX_SIZE + 1), -EFBIG);
	assert_int_equal(vm_map_file(mm, 0, P(1), VM_READ, 0, SHARED, wr, 0), -EACCES);
	assert_int_equal(vm_map_file(mm, 0, P(1), RW, 0, SHARED, r, 0), -EACCES);
	assert_true(vm_map_file(mm, 0, P(1), RW, 0, 0, r, 0) > 0);
	assert_int_equal(byte_of(r, 0), 3);
	file_put(r);
	file_put(wr);
	file_put(f);
}

static void reading_stops_at_the_end(void **state)
{
	struct file *f = new_file(1, 3);
	u8 bytes[PAGE_SIZE];

	(void)state;
	assert_int_equal(file_truncate(f, 100), 0);
	assert_int_equal(file_read(f, 60, bytes, 100), 40);
	assert_int_equal(file_read(f, 100, bytes, 100), 0);
	assert_int_equal(file_read(f, ~0ULL, bytes, 100), 0);
	file_put(f);
}

static void a_page_that_is_overwritten_whole_is_not_read_first(void **state)
{
	(void)state;
	passes("file a 2P 5\n"
	       "sync a\n"
	       "evict a\n"
	       "fail a read eio\n"
	       "fwrite a 0 1P 6\n"
	       "fwrite a 1P 100 6 -> eio\n"
	       "fread a 0 1P 6\n"
	       "fail a read none\n"
	       "fread a 1P 1P 5\n");
}

/* ---- faults and what they count ---- */

static void a_mapping_shows_the_file_and_calls_see_the_mapping(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "map any 4P r file a 0 private as B\n"
	       "read A 4P 5\n"
	       "write A+1P 1P 6\n"
	       "fread a 1P 1P 6\n"
	       "read B+1P 1P 6\n"
	       "fwrite a 2P 1P 7\n"
	       "read A+2P 1P 7\n"
	       "read B+2P 1P 7\n"
	       "check\n");
}

static void sixteen_cached_pages_come_with_one_read(void **state)
{
	(void)state;
	passes("file a 64P 5\n"
	       "map 0x20000000 64P rw fixed file a 0 shared\n"
	       "touch 0x20000000 64P r\n"
	       "expect minor 4\n"
	       "expect major 0\n"
	       "expect rss 64\n");
}

static void the_window_is_aligned_or_begins_and_ends_with_vma_and_table(void **state)
{
	struct file *f = new_file(64, 1);
	u8 byte;

	(void)state;
	/* BASE is a table's start.  Where the VMA begins in a window, that is the window's start,
	 * and it is as large as any. */
	assert_int_equal(vm_map_file(mm, AT(10), P(20), RW, VMAP_FIXED, SHARED, f, 3), AT(10));
	assert_int_equal(read_at(12, &byte), FAULT_OK);
	assert_int_equal(atomic_load(&mm->rss), 16);
	assert_int_equal(read_at(29, &byte), FAULT_OK);
	assert_int_equal(atomic_load(&mm->rss), 20);
	assert_int_equal(minor(), 2);
	/* Within the VMA it is aligned. */
	assert_int_equal(vm_map_file(mm, AT(72), P(40), RW, VMAP_FIXED, SHARED, f, 3), AT(72));
	assert_int_equal(read_at(90, &byte), FAULT_OK);
	assert_int_equal(atomic_load(&mm->rss), 20 + 16);
	for (unsigned page = 80; page < 96; page++)
		assert_int_equal(read_at(page, &byte), FAULT_OK);
	assert_int_equal(minor(), 3);
	/* It does not go on in the next table. */
	assert_int_equal(vm_map_file(mm, AT(508), P(8), RW, VMAP_FIXED, SHARED, f, 3), AT(508));
	assert_int_equal(read_at(509, &byte), FAULT_OK);
	assert_int_equal(atomic_load(&mm->rss), 20 + 16 + 4);
	file_put(f);
}

static void only_pages_that_are_there_come_along(void **state)
{
	(void)state;
	passes("file a 16P 5\n"
	       "sync a\n"
	       "evict a\n"
	       "fread a 2P 1P 5\n"
	       "fread a 9P 1P 5\n"
	       "map any 16P r file a 0 shared as A\n"
	       "read A+2P 1P 5\n"
	       "expect rss 2\n"
	       "expect minor 1\n"
	       "expect major 0\n");
}

static void a_cold_read_is_one_major_fault_and_no_minor_one(void **state)
{
	(void)state;
	passes("file a 16P 5\n"
	       "sync a\n"
	       "evict a\n"
	       "map 0x20000000 16P r fixed file a 0 private\n"
	       "read 0x20000000 16P 5\n"
	       "expect major 1\n"
	       "expect minor 0\n"
	       "expect cached a 16\n"
	       "expect rss 16\n");
}

static void advised_random_each_cold_page_is_a_major_fault(void **state)
{
	struct file *f = new_file(16, 1);
	u8 byte;

	(void)state;
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0);
	assert_int_equal(invalidate_mapping_pages(f->mapping, 0, ~0ULL), 16);
	map_file(mm, 0, 16, VM_READ, SHARED | VM_RAND_READ, f);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(read_at(i, &byte), FAULT_OK);
	assert_int_equal(major(), 16);
	assert_int_equal(minor(), 0);
	file_put(f);
}

static void a_write_to_a_shared_page_is_a_fault_for_each_page_once(void **state)
{
	(void)state;
	passes("file a 16P 5\n"
	       "sync a\n"
	       "expect dirty a 0\n"
	       "map 0x20000000 16P rw fixed file a 0 shared\n"
	       "touch 0x20000000 16P w\n"
	       "expect minor 16\n"
	       "expect dirty a 16\n"
	       "touch 0x20000000 16P w\n"
	       "touch 0x20000000 16P r\n"
	       "expect minor 16\n"
	       /* Written back, each first write is seen again; reads are not in the way. */
	       "sync a\n"
	       "expect dirty a 0\n"
	       "touch 0x20000000 16P r\n"
	       "expect minor 16\n"
	       "touch 0x20000000 16P w\n"
	       "expect minor 32\n"
	       "expect dirty a 16\n");
}

static void a_page_that_was_read_first_faults_once_more_on_the_write(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "sync a\n"
	       "map 0x20000000 4P rw fixed file a 0 shared\n"
	       "touch 0x20000000 4P r\n"
	       "expect minor 1\n"
	       "touch 0x20000000 4P w\n"
	       "expect minor 5\n");
}

static void private_writes_are_copies_of_one_page_each(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map 0x20000000 4P rw fixed file a 0 private\n"
	       "write 0x20000000 1 9\n" /* untouched: do_cow_fault */
	       "read 0x20001000 1P 5\n" /* and three more by fault-around */
	       "expect minor 2\n"
	       "write 0x20001000 1 8\n" /* mapped: do_wp_page */
	       "expect minor 3\n"
	       "read 0x20000000 1 9\n"
	       "read 0x20000001 4095 5\n"
	       "fread a 0 4P 5\n"
	       "expect rss 4\n"
	       /* A copy no longer follows the file; a page that is none does. */
	       "fwrite a 0 4P 6\n"
	       "read 0x20000001 4095 5\n"
	       "read 0x20002000 2P 6\n"
	       "advise 0x20000000 4P dontneed\n"
	       "read 0x20000000 4P 6\n"
	       "expect dirty a 4\n");
}

static void dontneed_on_a_shared_mapping_drops_entries_only(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "write A 4P 6\n"
	       "advise A 4P dontneed\n"
	       "expect rss 0\n"
	       "expect cached a 4\n"
	       "read A 4P 6\n"
	       "expect dirty a 4\n");
}

static void a_copy_goes_to_the_swap_area_and_comes_back_writable(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map any 4P rw file a 0 private as A\n"
	       "write A 2P 9\n"
	       "pageout A 4P\n"
	       "expect swapped 2\n"
	       "read A 2P 9\n"
	       "read A+2P 2P 5\n"
	       "write A 2P 8\n"
	       "fread a 0 4P 5\n");
}

/* ---- protection ---- */

static void protecting_and_back_does_not_let_a_write_past_the_file(void **state)
{
	(void)state;
	passes("file a 2P 5\n"
	       "sync a\n"
	       "map any 2P rw file a 0 shared as A\n"
	       "touch A 2P r\n"
	       "write A 1P 6\n"
	       "expect dirty a 1\n"
	       "protect A 2P r\n"
	       "write A 1 1 -> segv accerr\n"
	       "protect A 2P rw\n"
	       "check\n"
	       "write A+1P 1P 7\n"
	       "expect dirty a 2\n"
	       "protect A 2P none\n"
	       "read A 1 -> segv accerr\n"
	       "protect A 2P rw\n"
	       "read A 1P 6\n"
	       "sync a\n"
	       "evict a\n"
	       "unmap A 2P\n"
	       "evict a\n"
	       "fread a 0 1P 6\n"
	       "fread a 1P 1P 7\n");
}

static void a_private_page_of_the_file_stays_read_only_when_writing_is_allowed(void **state)
{
	(void)state;
	passes("file a 2P 5\n"
	       "map any 2P r file a 0 private as A\n"
	       "read A 2P 5\n"
	       "protect A 2P rw\n"
	       "check\n"
	       "write A 1P 6\n"
	       "fread a 0 2P 5\n");
}

/* ---- several spaces ---- */

static void two_spaces_share_one_page(void **state)
{
	struct file *f = new_file(4, 1);
	struct mm *other = second_space();
	struct soft_cpu *cpu2 = &w.m->cpus[1];
	u8 byte;

	(void)state;
	map_file(mm, 0, 4, RW, SHARED, f);
	map_file(other, 100, 4, RW, SHARED, f);
	put(0, 7);
	assert_int_equal(soft_read_byte(cpu2, AT(100), &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	soft_check(w.m);
	/* Clean for one, clean for all: the other's write is seen, too. */
	assert_int_equal(soft_write_byte(cpu2, AT(100), 8), FAULT_OK);
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0);
	assert_int_equal(soft_write_byte(cpu2, AT(100), 9), FAULT_OK);
	assert_int_equal(atomic_load(&f->mapping->nr_dirty), 1);
	assert_int_equal(get(0), 9);
	/* Cut for one, cut for all. */
	assert_int_equal(file_truncate(f, 0), 0);
	assert_int_equal(soft_read_byte(cpu2, AT(100), &byte), FAULT_BUS);
	assert_int_equal(read_at(0, &byte), FAULT_BUS);
	soft_check(w.m);
	end_second_space(other);
	file_put(f);
}

static void a_child_shares_what_is_shared_and_copies_what_is_private(void **state)
{
	(void)state;
	passes("file a 4P 5\n"
	       "map 0x20000000 4P rw fixed file a 0 shared\n"
	       "map 0x20010000 4P rw fixed file a 0 private\n"
	       "read 0x20010000 4P 5\n"
	       "write 0x20010000 1P 6\n" /* now it has pages of both kinds */
	       "expect rss 4\n"
	       "fork as P\n"
	       "process P\n"
	       "expect rss 4\n" /* shared mappings are not copied, they fault again */
	       "write 0x20000000 1P 7\n"
	       "write 0x20010000 2P 8\n"
	       "process first\n"
	       "check\n"
	       "read 0x20000000 1P 7\n"
	       "read 0x20010000 1P 6\n"
	       "read 0x20011000 3P 5\n"
	       /* The end is the child's, too: its copies go, and so do those that it shares. */
	       "truncate a 1P\n"
	       "process P\n"
	       "read 0x20011000 1 -> bus\n"
	       "read 0x20010000 1P 8\n"
	       "truncate a 0\n"
	       "read 0x20010000 1 -> bus\n"
	       "expect rss 0\n"
	       "process first\n"
	       "expect rss 0\n"
	       "exit P\n");
}

static void another_cpu_sees_the_copy_and_not_the_files_page(void **state)
{
	struct file *f = new_file(1, 5);
	struct soft_cpu *cpu2 = &w.m->cpus[1];
	u8 byte;

	(void)state;
	soft_load_mm(cpu2, mm);
	map_file(mm, 0, 1, RW, 0, f);
	assert_int_equal(soft_read_byte(cpu2, AT(0), &byte), FAULT_OK); /* in its TLB now */
	put(0, 6);
	assert_int_equal(soft_read_byte(cpu2, AT(0), &byte), FAULT_OK);
	assert_int_equal(byte, 6);
	soft_check(w.m);
	file_put(f);
}

static void the_last_mapping_keeps_a_closed_file(void **state)
{
	struct file *f = new_file(4, 6);

	(void)state;
	map_file(mm, 0, 4, RW, SHARED, f);
	file_put(f);
	put(1, 7);
	assert_int_equal(get(0), 6);
	assert_int_equal(get(1), 7);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	assert_true(list_empty(&w.e->mappings));
	assert_int_equal(atomic_load(&w.e->nr_file_pages), 0);
}

/* ---- the layout ---- */

static void neighbours_merge_where_the_file_goes_on(void **state)
{
	struct file *f = new_file(8, 1), *g = new_file(8, 2);

	(void)state;
	assert_int_equal(vm_map_file(mm, AT(0), P(2), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(vm_map_file(mm, AT(2), P(2), RW, VMAP_FIXED, SHARED, f, 2), AT(2));
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(vm_map_file(mm, AT(4), P(2), RW, VMAP_FIXED, SHARED, f, 5), AT(4));
	assert_int_equal(vm_map_file(mm, AT(6), P(1), RW, VMAP_FIXED, SHARED, g, 7), AT(6));
	assert_int_equal(mm->map_count, 3);
	put(1, 3);
	put(5, 4);
	/* A cut in the middle, and both ends still know their pages. */
	assert_int_equal(vm_protect(mm, AT(1), P(1), VM_READ), 0);
	assert_int_equal(vm_unmap(mm, AT(2), P(1)), 0);
	mm_check(mm);
	assert_int_equal(byte_of(f, P(1)), 3);
	assert_int_equal(byte_of(f, P(6)), 4);
	put(3, 5);
	assert_int_equal(byte_of(f, P(3)), 5);
	assert_int_equal(file_truncate(f, P(3)), 0);
	assert_int_equal(soft_write_byte(w.cpu, AT(3), 1), FAULT_BUS);
	assert_int_equal(get(1), 3);
	file_put(f);
	file_put(g);
}

static void a_moved_mapping_shows_the_same_pages(void **state)
{
	(void)state;
	passes("file a 8P 5\n"
	       "map 0x20000000 4P rw fixed file a 2P shared\n"
	       "map 0x20010000 4P rw fixed file a 2P private\n"
	       "write 0x20001000 1P 6\n"
	       "write 0x20011000 1P 7\n"
	       "remap 0x20000000 4P 4P to 0x20020000\n"
	       "remap 0x20010000 4P 6P to 0x20030000\n"
	       "check\n"
	       "read 0x20020000 1P 5\n"
	       "read 0x20021000 1P 6\n"
	       "read 0x20031000 1P 7\n"
	       "read 0x20034000 2P 5\n"
	       "read 0x20000000 1 -> segv maperr\n"
	       "truncate a 3P\n"
	       "read 0x20021000 1 -> bus\n"
	       "read 0x20031000 1 -> bus\n"
	       "read 0x20020000 1P 5\n"
	       "truncate a 8P\n"
	       "remap 0x20020000 4P 4P to 0x20000000 keep\n"
	       "read 0x20000000 1P 5\n"
	       "read 0x20020000 1P 5\n" /* the file again, not zeros */
	       "check\n");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_is_written_is_read_and_holes_are_zeros),
		T(calls_that_the_mode_forbids_are_refused),
		T(reading_stops_at_the_end),
		T(a_page_that_is_overwritten_whole_is_not_read_first),
		T(a_mapping_shows_the_file_and_calls_see_the_mapping),
		T(sixteen_cached_pages_come_with_one_read),
		T(the_window_is_aligned_or_begins_and_ends_with_vma_and_table),
		T(only_pages_that_are_there_come_along),
		T(a_cold_read_is_one_major_fault_and_no_minor_one),
		T(advised_random_each_cold_page_is_a_major_fault),
		T(a_write_to_a_shared_page_is_a_fault_for_each_page_once),
		T(a_page_that_was_read_first_faults_once_more_on_the_write),
		T(private_writes_are_copies_of_one_page_each),
		T(dontneed_on_a_shared_mapping_drops_entries_only),
		T(a_copy_goes_to_the_swap_area_and_comes_back_writable),
		T(protecting_and_back_does_not_let_a_write_past_the_file),
		T(a_private_page_of_the_file_stays_read_only_when_writing_is_allowed),
		T(two_spaces_share_one_page),
		T(a_child_shares_what_is_shared_and_copies_what_is_private),
		T(another_cpu_sees_the_copy_and_not_the_files_page),
		T(the_last_mapping_keeps_a_closed_file),
		T(neighbours_merge_where_the_file_goes_on),
		T(a_moved_mapping_shows_the_same_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
