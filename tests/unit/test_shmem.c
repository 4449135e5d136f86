/* SPDX-License-Identifier: MIT */
/* Shared memory: pages that belong to no space, and to no disk but the swap area. */
#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "tests/unit/script_world.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	return 0;
}

static void map_shmem(struct mm *in, unsigned page, unsigned n, struct file *f)
{
	assert_int_equal(vm_map_file(in, AT(page), P(n), RW, VMAP_FIXED, SHARED, f, 0), AT(page));
}

static void it_begins_as_zeros_and_is_shared(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	struct mm *other = second_space();
	u8 byte;

	(void)state;
	map_shmem(mm, 0, 4, f);
	map_shmem(other, 50, 4, f);
	file_put(f);
	assert_int_equal(get(2), 0);
	put(2, 7);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(52), &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	assert_int_equal(soft_write_byte(&w.m->cpus[1], AT(53), 8), FAULT_OK);
	assert_int_equal(get(3), 8);
	soft_check(w.m);
	end_second_space(other);
	assert_int_equal(get(3), 8);
}

static void a_read_maps_it_writable_so_that_a_write_is_no_second_fault(void **state)
{
	(void)state;
	passes("shmem a 4P\n"
	       "map any 4P rw file a 0 shared as A\n"
	       "read A+1P 1P 0\n"
	       "write A+1P 1P 3\n"
	       "expect minor 1\n"
	       "expect major 0\n"
	       "fread a 1P 1P 3\n");
}

static void sixty_four_pages_that_are_there_are_four_faults(void **state)
{
	(void)state;
	passes("shmem a 64P 5\n"
	       "map 0x20000000 64P rw fixed file a 0 shared\n"
	       "read 0x20000000 64P 5\n"
	       "expect minor 4\n"
	       "write 0x20000000 64P 6\n"
	       "expect minor 4\n");
}

static void reading_a_hole_by_a_call_takes_no_page(void **state)
{
	(void)state;
	passes("shmem a 4P\n"
	       "fread a 0 4P 0\n"
	       "expect cached a 0\n"
	       "fwrite a 100 10 5\n"
	       "expect cached a 1\n");
}

static void a_page_that_went_out_is_found_by_its_index(void **state)
{
	(void)state;
	passes("shmem a 8P\n"
	       "map any 8P rw file a 0 shared as A\n"
	       "write A 4P 3\n"
	       "write A+4P 4P 4\n"
	       "pageout A 8P\n"
	       "expect cached a 0\n"
	       "expect away a 8\n"
	       "expect rss 0\n"
	       "expect swapped 0\n" /* no entry names a slot */
	       "check\n"
	       "read A 4P 3\n"
	       "expect away a 4\n"
	       "expect major 4\n"
	       "fread a 4P 4P 4\n"
	       "expect away a 0\n");
}

static void it_goes_out_from_under_two_spaces_and_comes_back_to_both(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(300));
	struct mm *other = second_space();
	u8 byte;

	(void)state;
	map_shmem(mm, 0, 300, f);
	map_shmem(other, 0, 300, f);
	for (unsigned i = 0; i < 300; i++) {
		put(i, i);
		assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(i), &byte), FAULT_OK);
	}
	soft_check(w.m);
	assert_true(atomic_load(&f->mapping->nr_swapped) > 40);
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(i), &byte), FAULT_OK);
		assert_int_equal(byte, (u8)i);
	}
	soft_check(w.m);
	end_second_space(other);
	file_put(f);
}

static void what_others_map_is_not_sent_away_for_one(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(2));
	struct mm *other = second_space();

	(void)state;
	map_shmem(mm, 0, 2, f);
	map_shmem(other, 0, 2, f);
	put(0, 1);
	put(1, 2);
	assert_int_equal(soft_write_byte(&w.m->cpus[1], AT(0), 3), FAULT_OK);
	assert_int_equal(reclaim_range(mm, AT(0), AT(2)), 1);
	assert_int_equal(atomic_load(&f->mapping->nr_swapped), 1);
	end_second_space(other);
	file_put(f);
}

static void a_private_mapping_of_it_copies(void **state)
{
	(void)state;
	passes("shmem a 4P 5\n"
	       "map any 4P rw file a 0 private as A\n"
	       "pageout A 4P\n"
	       "read A 1P 5\n"
	       "write A 2P 6\n"
	       "fread a 0 4P 5\n"
	       "pageout A 4P\n"
	       "read A 2P 6\n"
	       "read A+2P 2P 5\n");
}

static void cutting_it_frees_pages_and_slots(void **state)
{
	(void)state;
	passes("shmem a 8P 7\n"
	       "map any 8P rw file a 0 shared as A\n"
	       "touch A 8P r\n"
	       "pageout A+2P 4P\n"
	       "expect away a 4\n"
	       "truncate a 12388\n" /* 3 pages and 100 bytes: in a page that is away */
	       "expect away a 1\n"  /* page 2; page 3 was brought in to be cut */
	       "expect cached a 3\n"
	       "read A+4P 1 -> bus\n"
	       "read A+2P 1P 7\n"
	       "read A+3P 100 7\n"
	       "read A+12388 3996 0\n"
	       "truncate a 8P\n"
	       "read A+4P 4P 0\n"
	       "punch a 1P 8292\n" /* to 3 pages and 100 bytes */
	       "read A 1P 7\n"
	       "read A+1P 7P 0\n"
	       "truncate a 0\n"
	       "expect away a 0\n"
	       "expect cached a 0\n");
	assert_int_equal(flaky_kept(), 0);
}

static void a_child_shares_it_even_what_is_away(void **state)
{
	(void)state;
	passes("shmem a 4P\n"
	       "map 0x20000000 4P rw fixed file a 0 shared\n"
	       "close a\n"
	       "write 0x20000000 4P 5\n"
	       "pageout 0x20000000 2P\n"
	       "fork as P\n"
	       "process P\n"
	       "expect rss 0\n"
	       "read 0x20000000 4P 5\n"
	       "write 0x20001000 1P 6\n"
	       "process first\n"
	       "read 0x20001000 1P 6\n"
	       "write 0x20000000 1P 7\n"
	       "exit P\n"
	       "read 0x20000000 1P 7\n"
	       "read 0x20001000 1P 6\n");
}

static void behind_the_end_is_a_bus_error(void **state)
{
	(void)state;
	passes("shmem a 5000\n"
	       "map any 3P rw file a 0 shared as A\n"
	       "read A 2P 0\n"
	       "read A+2P 1 -> bus\n"
	       "write A+2P 1 1 -> bus\n"
	       "expect cached a 2\n");
}

/* Linux's tmpfs does not zero there; it does when the file is cut. */
static void what_was_written_behind_the_end_shows_when_it_grows(void **state)
{
	(void)state;
	passes("shmem a 100 5\n"
	       "map any 1P rw file a 0 shared as A\n"
	       "write A+200 100 9\n"
	       "truncate a 1P\n"
	       "fread a 200 100 9\n"
	       "truncate a 100\n"
	       "truncate a 1P\n"
	       "fread a 100 3996 0\n");
}

static void a_slot_that_cannot_be_loaded_is_a_bus_error_and_stays(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(2));
	u8 byte;

	(void)state;
	map_shmem(mm, 0, 2, f);
	put(0, 4);
	put(1, 5);
	assert_int_equal(reclaim_range(mm, AT(0), AT(2)), 2);
	flaky.load_error = -EIO;
	assert_int_equal(soft_read_byte(w.cpu, AT(0), &byte), FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 1), FAULT_BUS);
	assert_int_equal(file_read(f, 0, &byte, 1), -EIO);
	assert_int_equal(file_punch_hole(f, 10, 10), -EIO);
	soft_check(w.m);
	flaky.load_error = 0;
	assert_int_equal(get(0), 4);
	assert_int_equal(get(1), 5);
	file_put(f);
}

static void a_full_store_keeps_it_in_memory(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(10));

	(void)state;
	map_shmem(mm, 0, 10, f);
	for (unsigned i = 0; i < 10; i++)
		put(i, i);
	flaky.room = 4;
	assert_int_equal(reclaim_range(mm, AT(0), AT(10)), 4);
	soft_check(w.m);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(get(i), i);
	flaky.room = 100;
	file_put(f);
}

static void nothing_syncs_it(void **state)
{
	(void)state;
	passes("shmem a 2P 5\n"
	       "sync a\n"
	       "expect dirty a 2\n"
	       "evict a\n"
	       "expect cached a 2\n");
	assert_int_equal(flaky.saves, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(it_begins_as_zeros_and_is_shared),
		T(a_read_maps_it_writable_so_that_a_write_is_no_second_fault),
		T(sixty_four_pages_that_are_there_are_four_faults),
		T(reading_a_hole_by_a_call_takes_no_page),
		T(a_page_that_went_out_is_found_by_its_index),
		T(it_goes_out_from_under_two_spaces_and_comes_back_to_both),
		T(what_others_map_is_not_sent_away_for_one),
		T(a_private_mapping_of_it_copies),
		T(cutting_it_frees_pages_and_slots),
		T(a_child_shares_it_even_what_is_away),
		T(behind_the_end_is_a_bus_error),
		T(what_was_written_behind_the_end_shows_when_it_grows),
		T(a_slot_that_cannot_be_loaded_is_a_bus_error_and_stays),
		T(a_full_store_keeps_it_in_memory),
		T(nothing_syncs_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
