/* SPDX-License-Identifier: MIT */
/* Pages of files that have to go, and faults that find no frame or are put off. */
#include "tests/unit/file_world.h"

/* ---- reclaim ---- */

static void clean_pages_go_first_to_nowhere_and_are_read_again(void **state)
{
	struct file *f = new_file(200, 9);

	(void)state;
	w.e->config.swappiness = 0;
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), 0);
	map_file(mm, 0, 200, VM_READ, SHARED, f);
	map(1000, 200, RW);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(get(i), 9);
	soft_check(w.m);
	for (unsigned i = 0; i < 200; i++)
		put(1000 + i, i);
	soft_check(w.m);
	assert_in_range(atomic_load(&f->mapping->nr_pages), 0, 150);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(get(i), 9);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(get(1000 + i), (u8)i);
	assert_true(major() > 0);
	file_put(f);
}

static void dirty_pages_are_written_before_they_go(void **state)
{
	struct file *f = new_file(0, 0);

	(void)state;
	assert_int_equal(file_truncate(f, P(600)), 0);
	map_file(mm, 0, 600, RW, SHARED, f);
	for (unsigned i = 0; i < 600; i++)
		put(i, i * 7);
	soft_check(w.m);
	assert_true(ramfile_count(f, RAMFILE_WRITE) > 300);
	for (unsigned i = 0; i < 600; i++)
		assert_int_equal(get(i), (u8)(i * 7));
	assert_int_equal(file_read(f, P(599), (u8[1]){ 0 }, 1), 1);
	file_put(f);
}

static void a_page_that_cannot_be_written_stays(void **state)
{
	struct file *f = new_file(20, 0);

	(void)state;
	map_file(mm, 0, 20, RW, SHARED, f);
	for (unsigned i = 0; i < 20; i++)
		put(i, i);
	ramfile_fail(f, RAMFILE_WRITE, 0, ~0ULL, -EIO);
	assert_int_equal(reclaim_range(mm, AT(0), AT(20)), 0);
	assert_int_equal(flusher_run(w.e, 0), 0);
	assert_int_equal(reclaim_range(mm, AT(0), AT(20)), 0);
	assert_int_equal(atomic_load(&f->mapping->nr_pages), 20);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(get(i), i);
	ramfile_fail(f, RAMFILE_WRITE, 0, 0, 0);
	assert_int_equal(reclaim_range(mm, AT(0), AT(20)), 0);
	assert_int_equal(flusher_run(w.e, 0), 20);
	assert_int_equal(reclaim_range(mm, AT(0), AT(20)), 20);
	assert_int_equal(vfs_fsync_range(f, 0, ~0ULL), -EIO); /* of then */
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(get(i), i);
	file_put(f);
}

static void a_page_that_somebody_holds_stays(void **state)
{
	struct file *f = new_file(2, 3);
	struct page *held = find_get_page(f->mapping, 1);

	(void)state;
	vfs_fsync_range(f, 0, ~0ULL);
	assert_int_equal(invalidate_mapping_pages(f->mapping, 0, 2), 1);
	page_put(w.e, held);
	assert_int_equal(invalidate_mapping_pages(f->mapping, 0, 2), 1);
	file_put(f);
}

static void locked_pages_stay(void **state)
{
	struct file *f = new_file(100, 3);

	(void)state;
	vfs_fsync_range(f, 0, ~0ULL);
	map_file(mm, 0, 100, VM_READ, SHARED | VM_LOCKED, f);
	for (unsigned i = 0; i < 100; i++)
		get(i);
	map(1000, 300, RW);
	for (unsigned i = 0; i < 300; i++)
		put(1000 + i, 1);
	assert_int_equal(atomic_load(&mm->rss_file), 100);
	file_put(f);
}

static void used_pages_outlive_unused_ones(void **state)
{
	struct file *hot = new_file(8, 1), *cold = new_file(8, 2);
	struct taken t;

	(void)state;
	vfs_fsync_range(hot, 0, ~0ULL);
	vfs_fsync_range(cold, 0, ~0ULL);
	map_file(mm, 0, 8, VM_READ, SHARED | VM_RAND_READ, hot);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 8; i++)
			get(i);

		soft_load_mm(w.cpu, NULL);
		soft_load_mm(w.cpu, mm); /* so that the next touch walks */
		for (unsigned i = 0; i < 5; i++)
			take_segment(w.e, false, NODE_MASK_ALL, &t);
	}
	assert_int_equal(major(), 0); /* none had to be read again */
	assert_int_equal(atomic_load(&hot->mapping->nr_pages), 8);
	assert_true(atomic_load(&cold->mapping->nr_pages) < 8);
	file_put(hot);
	file_put(cold);
}

static void a_full_store_does_not_keep_clean_pages_of_files(void **state)
{
	struct file *f = new_file(100, 3);

	(void)state;
	flaky.save_error = -ENOSPC;
	vfs_fsync_range(f, 0, ~0ULL);
	map(1000, 200, RW);
	for (unsigned i = 0; i < 200; i++)
		put(1000 + i, i);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(get(1000 + i), (u8)i);
	assert_true(atomic_load(&f->mapping->nr_pages) < 60);
	flaky.save_error = 0;
	file_put(f);
}

/* ---- a machine that says "again" ---- */

static void faults_that_the_machine_puts_off_leave_nothing_behind(void **state)
{
	(void)state;
	w.m->inject.set_again_every = 3;
	w.m->inject.stage_again_every = 2;
	passes("file a 40P 5\n"
	       "map any 40P rw file a 0 shared as A\n"
	       "map any 40P rw file a 0 private as B\n"
	       "touch A 20P r\n"
	       "write A 40P 6\n"
	       "touch B 20P r\n"
	       "write B 40P 7\n"
	       "read A 40P 6\n"
	       "read B 40P 7\n");
}

static void no_memory_is_oom_and_leaves_nothing_behind(void **state)
{
	struct file *f = new_file(30, 3);
	unsigned oom = 0;

	(void)state;
	map_file(mm, 0, 30, RW, 0, f);
	for (u64 left = 1; left < 60; left++) {
		w.m->inject.memory_left = left;
		for (unsigned i = 0; i < 30; i++)
			oom += soft_write_byte(w.cpu, AT(i), 1) == FAULT_OOM;
		w.m->inject.memory_left = 0;
		soft_check(w.m);
		assert_int_equal(file_punch_hole(f, 0, P(30)), 0);
		assert_int_equal(vm_unmap(mm, AT(0), P(30)), 0);
		map_file(mm, 0, 30, RW, 0, f);
	}
	assert_true(oom > 0);
	file_put(f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(clean_pages_go_first_to_nowhere_and_are_read_again),
		T(dirty_pages_are_written_before_they_go),
		T(a_page_that_cannot_be_written_stays),
		T(a_page_that_somebody_holds_stays),
		T(locked_pages_stay),
		T(used_pages_outlive_unused_ones),
		T(a_full_store_does_not_keep_clean_pages_of_files),
		T(faults_that_the_machine_puts_off_leave_nothing_behind),
		T(no_memory_is_oom_and_leaves_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
