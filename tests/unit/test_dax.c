/* SPDX-License-Identifier: MIT */
/* Files on persistent memory: what is mapped directly, copied, made, synced, cut and lost. */
#include <pthread.h>

#include "engine/space/calls.h"
#include "tests/unit/dax_world.h"

enum { ORDER = 6, BLOCKS = 1 << ORDER };

#define SHARED UAPI_MAP_SHARED
#define SYNC   (UAPI_MAP_SHARED_VALIDATE | UAPI_MAP_SYNC)

static int setup(void **state)
{
	(void)state;
	start_dax(512, ORDER);
	return 0;
}

static s64 try_map(unsigned page, unsigned n, u64 flags)
{
	return do_mmap(mm, AT(page), P(n), RW, flags | UAPI_MAP_FIXED, file, 0);
}

static void map_pages(unsigned page, unsigned n, u64 flags)
{
	assert_int_equal(try_map(page, n, flags), AT(page));
}

static u8 byte_of_file(u64 pos)
{
	u8 byte = 0xee;

	assert_int_equal(file_read(file, pos, &byte, 1), 1);
	return byte;
}

static void write_byte(u64 pos, u8 byte)
{
	assert_int_equal(file_write(file, pos, &byte, 1), 1);
}

static u64 used(void)
{
	engine_check(w.e);
	return BLOCKS - dax_device_free(device);
}

static enum fault_reason read_fails(unsigned page)
{
	u8 byte;

	return soft_read_byte(w.cpu, AT(page), &byte);
}

/* ---- mapping ---- */

static void a_mapping_and_the_file_are_the_same_bytes(void **state)
{
	(void)state;
	write_byte(5, 7);
	map_pages(0, 1, SHARED);
	assert_int_equal(get(0), 0);
	put(0, 9);
	assert_int_equal(byte_of_file(0), 9);
	write_byte(0, 3);
	assert_int_equal(get(0), 3);
	assert_int_equal(byte_of_file(5), 7);
	assert_int_equal(used(), 1);
	assert_int_equal(mm->rss, 0); /* no page of the system's */
}

static void a_hole_reads_as_zeros_and_gets_a_block_when_it_is_written(void **state)
{
	u64 major;

	(void)state;
	assert_int_equal(file_truncate(file, P(4)), 0);
	map_pages(0, 4, SHARED);
	map_pages(8, 4, SHARED);
	assert_int_equal(get(2), 0);
	assert_int_equal(get(10), 0);
	assert_int_equal(used(), 0);
	major = mm->major;
	put(2, 5);
	assert_int_equal(mm->major, major + 1);
	assert_int_equal(used(), 1);
	assert_int_equal(get(10), 5); /* which had seen the hole */
	put(10, 6);
	assert_int_equal(get(2), 6);
	assert_int_equal(mm->major, major + 1);
}

static void write_2_to_a_mapped_hole_shows(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(1)), 0);
	map_pages(0, 1, SHARED);
	assert_int_equal(get(0), 0);
	write_byte(0, 4);
	assert_int_equal(get(0), 4);
}

static void a_private_mapping_copies_what_it_writes_to(void **state)
{
	(void)state;
	write_byte(0, 7);
	assert_int_equal(file_truncate(file, P(2)), 0);
	map_pages(0, 2, UAPI_MAP_PRIVATE);
	assert_int_equal(get(0), 7);
	put(0, 8); /* after a read */
	put(1, 9); /* of a hole, at once */
	assert_int_equal(byte_of_file(0), 7);
	assert_int_equal(get(0), 8);
	assert_int_equal(get(1), 9);
	write_byte(0, 1);
	assert_int_equal(get(0), 8);
	assert_int_equal(used(), 1);
	assert_int_equal(mm->rss, 2);
}

static void behind_the_end_and_without_blocks_is_sigbus(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(BLOCKS + 1)), 0);
	map_pages(0, BLOCKS + 2, SHARED);
	assert_int_equal(read_fails(BLOCKS + 1), FAULT_BUS);
	for (unsigned i = 0; i < BLOCKS; i++)
		put(i, 1);
	assert_int_equal(soft_write_byte(w.cpu, AT(BLOCKS), 1), FAULT_BUS);
	assert_int_equal(get(BLOCKS), 0); /* a hole can still be read */
	assert_int_equal(used(), BLOCKS);
}

static void map_sync_is_for_persistent_memory_and_must_be_validated(void **state)
{
	struct file *other = file_open(m, FILE_READ);

	(void)state;
	map_pages(0, 1, SYNC);
	map_pages(1, 1, SHARED | UAPI_MAP_SYNC); /* which ignores what it does not know */
	assert_int_equal(try_map(2, 1, UAPI_MAP_SHARED_VALIDATE | 1 << 25), -EOPNOTSUPP);
	assert_int_equal(do_mmap(mm, AT(3), P(1), RW, SYNC | UAPI_MAP_FIXED, other, 0), -EACCES);
	file_put(other);
}

static void protection_and_fork_leave_the_bytes_alone(void **state)
{
	struct mm *child;

	(void)state;
	write_byte(0, 7);
	map_pages(0, 1, SHARED);
	map_pages(1, 1, UAPI_MAP_PRIVATE);
	put(0, 1);
	assert_int_equal(get(1), 1);
	assert_int_equal(do_mprotect(mm, AT(0), P(1), VM_READ), 0);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 2), FAULT_ACCERR);
	assert_int_equal(do_mprotect(mm, AT(0), P(1), RW), 0);
	put(0, 2);
	assert_int_equal(mm_fork(mm, &child), 0);
	soft_load_mm(w.cpu, child);
	assert_int_equal(get(1), 2);
	put(1, 9);
	put(0, 3);
	soft_load_mm(w.cpu, mm);
	assert_int_equal(get(0), 3);
	assert_int_equal(get(1), 3);
	engine_check(w.e);
	mm_destroy(child);
}

/* ---- syncing and crashing ---- */

static void sync_write_protects_what_was_written(void **state)
{
	u64 faults;

	(void)state;
	assert_int_equal(file_truncate(file, P(1)), 0);
	map_pages(0, 1, SHARED);
	put(0, 1);
	faults = mm->minor + mm->major;
	put(0, 2);
	assert_int_equal(mm->minor + mm->major, faults);
	assert_int_equal(do_msync(mm, AT(0), P(1), UAPI_MS_SYNC), 0);
	put(0, 3);
	assert_int_equal(mm->minor + mm->major, faults + 1);
	assert_false(dax_metadata_dirty(m));
}

static void what_was_written_through_map_sync_survives_a_crash(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(2)), 0);
	map_pages(0, 2, SYNC);
	put(1, 5);
	assert_false(dax_metadata_dirty(m));
	assert_int_equal(vm_unmap(mm, AT(0), P(2)), 0);
	dax_crash(m);
	assert_int_equal(byte_of_file(P(1)), 5);
}

static void without_map_sync_it_does_not(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(2)), 0);
	assert_int_equal(vfs_fsync_range(file, 0, ~0ULL), 0);
	map_pages(0, 2, SHARED);
	put(1, 5);
	assert_true(dax_metadata_dirty(m));
	assert_int_equal(vm_unmap(mm, AT(0), P(2)), 0);
	dax_crash(m);
	assert_int_equal(byte_of_file(P(1)), 0);
	assert_int_equal(used(), 0);
}

static void what_was_cut_and_not_synced_is_there_again(void **state)
{
	(void)state;
	write_byte(0, 5);
	assert_int_equal(vfs_fsync_range(file, 0, ~0ULL), 0);
	assert_int_equal(file_truncate(file, 0), 0);
	assert_int_equal(used(), 1); /* nobody else may have it yet */
	dax_crash(m);
	assert_int_equal(byte_of_file(0), 5);
	assert_int_equal(file_truncate(file, 0), 0);
	assert_int_equal(vfs_fsync_range(file, 0, ~0ULL), 0);
	assert_int_equal(used(), 0);
}

/* ---- cutting ---- */

static void a_truncation_unmaps_private_copies_too(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(3)), 0);
	map_pages(0, 3, SHARED);
	map_pages(8, 3, UAPI_MAP_PRIVATE);
	for (unsigned i = 0; i < 3; i++) {
		put(i, 1);
		put(8 + i, 2);
	}
	assert_int_equal(file_truncate(file, P(1) + 100), 0);
	assert_int_equal(get(1), 1);
	assert_int_equal(read_fails(2), FAULT_BUS);
	assert_int_equal(read_fails(10), FAULT_BUS);
	assert_int_equal(get(9), 2);
	assert_int_equal(used(), 2);
	assert_int_equal(file_truncate(file, P(3)), 0);
	assert_int_equal(get(2), 0);
}

static void a_hole_takes_blocks_and_leaves_copies(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(3)), 0);
	map_pages(0, 3, SHARED);
	map_pages(8, 3, UAPI_MAP_PRIVATE);
	for (unsigned i = 0; i < 3; i++)
		put(i, 1);
	put(9, 2);
	assert_int_equal(file_punch_hole(file, 0, P(2) + 1), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(get(i), 0);
	assert_int_equal(get(9), 2);
	assert_int_equal(used(), 1);
}

/* ---- races ---- */

static void *use(void *arg)
{
	unsigned n = *(unsigned *)arg;
	struct soft_cpu *cpu = &w.m->cpus[n];
	u64 seed = 5 + n;

	for (unsigned i = 0; i < 4000; i++) {
		u64 va = AT((rnd_below(&seed, 2) ? 16 : 0) + rnd_below(&seed, 8));
		enum fault_reason reason;
		u8 byte = 0;

		reason = rnd_below(&seed, 2) ? soft_write_byte(cpu, va, 1)
					     : soft_read_byte(cpu, va, &byte);
		assert_true(reason == FAULT_OK || reason == FAULT_BUS);
		assert_true(byte <= 1); /* what somebody wrote, or zeros: no other's bytes */
	}
	return NULL;
}

static void nothing_is_mapped_that_a_truncation_took(void **state)
{
	unsigned numbers[2] = { 0, 1 };
	pthread_t threads[2];
	u64 seed = 11;

	(void)state;
	soft_load_mm(&w.m->cpus[1], mm);
	assert_int_equal(file_truncate(file, P(8)), 0);
	map_pages(0, 8, SYNC);
	map_pages(16, 8, UAPI_MAP_PRIVATE);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, use, &numbers[i]);
	for (unsigned i = 0; i < 400; i++) {
		switch (rnd_below(&seed, 4)) {
		case 0:
			assert_int_equal(file_punch_hole(file, P(rnd_below(&seed, 8)), P(2)), 0);
			break;
		case 1:
			assert_int_equal(vfs_fsync_range(file, 0, ~0ULL), 0);
			break;
		case 2:
			write_byte(P(rnd_below(&seed, 4)), 1);
			break;
		default:
			assert_int_equal(file_truncate(file, P(rnd_below(&seed, 9))), 0);
		}
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	engine_check(w.e);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_dax)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_mapping_and_the_file_are_the_same_bytes),
		T(a_hole_reads_as_zeros_and_gets_a_block_when_it_is_written),
		T(write_2_to_a_mapped_hole_shows),
		T(a_private_mapping_copies_what_it_writes_to),
		T(behind_the_end_and_without_blocks_is_sigbus),
		T(map_sync_is_for_persistent_memory_and_must_be_validated),
		T(protection_and_fork_leave_the_bytes_alone),
		T(sync_write_protects_what_was_written),
		T(what_was_written_through_map_sync_survives_a_crash),
		T(without_map_sync_it_does_not),
		T(what_was_cut_and_not_synced_is_there_again),
		T(a_truncation_unmaps_private_copies_too),
		T(a_hole_takes_blocks_and_leaves_copies),
		T(nothing_is_mapped_that_a_truncation_took),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
