/* SPDX-License-Identifier: MIT */
/*
 * Pages that move to other frames, whatever others do meanwhile, with every interleaving forced
 * (turns.h).  What happens "while it moves" happens when its entries are frozen and its bytes are
 * about to be copied.
 */
#include "tests/unit/migrate_world.h"

/* ---- while it moves ---- */

static u8 seen;

static void it_is_read(void)
{
	seen = read_on(cpu1, 0);
}

static void it_is_written_to(void)
{
	write_on(cpu1, 0, 9);
}

static void somebody_reads(void)
{
	begin(it_is_read);
	waits(NULL);
}

static void somebody_writes(void)
{
	begin(it_is_written_to);
	waits(NULL);
}

static void who_reads_it_waits(void **state)
{
	u64 before;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	before = faults();
	at.bytes = somebody_reads;
	move(0);
	join();
	assert_int_equal(seen, 7);
	assert_true(faults() > before);
	assert_int_equal(mm->rss, 1);
}

static void who_writes_to_it_waits_and_writes_to_the_new_frame(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = somebody_writes;
	move(0);
	join();
	assert_int_equal(get(0), 9);
}

static void who_writes_to_what_he_shares_waits_and_copies(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	fork_here();
	at.bytes = somebody_writes;
	move(0);
	join();
	assert_int_equal(get(0), 7);
	assert_int_equal(read_on(cpu1, 0), 9);
	assert_ptr_not_equal(page_of(mm, 0), page_of(child, 0));
}

static void it_is_unmapped(void)
{
	assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
}

static void it_is_dropped(void)
{
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_DONTNEED), 0);
}

/* Its only entry goes: so do both frames. */
static void unmapping_it_frees_it(void **state)
{
	u64 free;

	(void)state;
	map(0, 2, RW);
	free = free_frames();
	put(0, 7);
	at.bytes = it_is_unmapped;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	assert_int_equal(free_frames(), free);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(try_read(w.cpu, 0), FAULT_MAPERR);
}

static void dropping_it_leaves_zeros(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = it_is_dropped;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	assert_int_equal(get(0), 0);
}

/* With a copy that is kept for it. */
static void dropping_it_leaves_no_copy(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 7);
	at.bytes = it_is_dropped;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(get(0), 0);
}

static void those_that_still_share_it_find_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	fork_here();
	at.bytes = it_is_unmapped;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	soft_check(w.m);
	assert_int_equal(page_of(child, 0)->mapcount, 1);
	assert_int_equal(read_on(cpu1, 0), 7);
}

static void a_child_of_that_moment_shares_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = fork_here;
	move(0);
	assert_ptr_equal(page_of(mm, 0), page_of(child, 0));
	assert_false(page_test(page_of(mm, 0), PG_ANON_EXCLUSIVE));
	put(0, 8);
	assert_int_equal(read_on(cpu1, 0), 7);
	write_on(cpu1, 0, 9);
	assert_int_equal(get(0), 8);
}

static void fork_and_unmap(void)
{
	fork_here();
	it_is_unmapped();
}

static void a_child_of_that_moment_has_it_alone_if_the_parent_unmaps_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = fork_and_unmap;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	assert_int_equal(read_on(cpu1, 0), 7);
	assert_int_equal(child->rss, 1);
	assert_int_equal(mm->rss, 0);
}

static void it_becomes_read_only(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
}

static void it_becomes_nobodys_to_touch(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(1), 0), 0);
}

static void it_becomes_writable(void)
{
	assert_int_equal(vm_protect(mm, AT(0), P(1), RW), 0);
}

static void rights_that_it_loses_are_lost(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = it_becomes_read_only;
	move(0);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(get(0), 7);
	at.bytes = it_becomes_nobodys_to_touch;
	move(0);
	assert_int_equal(try_read(w.cpu, 0), FAULT_ACCERR);
}

static void rights_that_it_gets_it_has(void **state)
{
	u64 before;

	(void)state;
	map(0, 1, RW);
	put(0, 7);
	it_becomes_nobodys_to_touch();
	at.bytes = it_becomes_writable;
	move(0);
	before = faults();
	put(0, 8);
	assert_int_equal(get(0), 8);
	assert_int_equal(faults(), before);
}

static void it_goes_elsewhere(void)
{
	assert_int_equal(do_mremap(mm, AT(0), P(1), P(1), 3, AT(20)), AT(20));
}

static void it_is_found_where_it_has_been_moved_to(void **state)
{
	const struct page *was;

	(void)state;
	map(0, 2, RW);
	put(0, 7);
	was = page_of(mm, 0);
	at.bytes = it_goes_elsewhere;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	soft_check(w.m);
	assert_ptr_not_equal(page_of(mm, 20), was);
	assert_int_equal(get(20), 7);
	put(20, 8);
}

static void it_is_given_up(void)
{
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_FREE), 0);
}

static void giving_it_up_does_nothing(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = it_is_given_up;
	move(0);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(w.e->stats->lazyfreed, 0);
	assert_int_equal(get(0), 7);
}

static void reclaim_wants_it(void)
{
	assert_int_equal(reclaim_range(mm, AT(0), AT(1)), 0);
	reclaim_direct(w.e, 300);
}

static void reclaim_leaves_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	at.bytes = reclaim_wants_it;
	move(0);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(get(0), 7);
}

static void reclaim_leaves_what_is_shared(void **state)
{
	(void)state;
	map(0, 1, RW);
	put(0, 7);
	fork_here();
	at.bytes = reclaim_wants_it;
	move(0);
	assert_int_equal(read_on(cpu1, 0), 7);
}

/* ---- while a page of a file moves ---- */

static void it_is_cut_off(void)
{
	assert_int_equal(file_truncate(file, 0), 0);
}

static bool has_no_size(void)
{
	return !mapping_size(file->mapping);
}

static void truncation_waits(void)
{
	begin(it_is_cut_off);
	waits(has_no_size);
}

static void truncation_takes_it_from_there(void **state)
{
	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(0, 6);
	assert_int_equal(get(8), 6);
	at.bytes = truncation_waits;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	join();
	assert_true(pte_none(pte_of(mm, 0)) && pte_none(pte_of(mm, 8)));
	assert_int_equal(try_read(w.cpu, 0), FAULT_BUS);
	assert_int_equal(file->mapping->nr_pages, 0);
	assert_int_equal(file->mapping->nr_dirty, 0);
}

static void unmapping_a_file_tells_it_of_nothing_twice(void **state)
{
	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(0, 6);
	at.bytes = it_is_unmapped;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	soft_check(w.m);
	assert_int_equal(file->mapping->nr_dirty, 1);
	assert_int_equal(in_file(0), 6);
	assert_int_equal(vfs_fsync_range(file, 0, P(4)), 0);
	assert_int_equal(file->mapping->nr_dirty, 0);
}

static void the_file_is_written_to(void)
{
	u8 byte = 9;

	assert_int_equal(file_write(file, 0, &byte, 1), 1);
}

static void write_waits(void)
{
	begin(the_file_is_written_to);
	waits(NULL);
}

static void who_writes_to_the_file_waits(void **state)
{
	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(0, 6);
	at.bytes = write_waits;
	move(0);
	join();
	assert_int_equal(get(0), 9);
}

static void it_is_synced(void)
{
	assert_int_equal(vfs_fsync_range(file, 0, P(4)), 0);
}

static void sync_waits(void)
{
	begin(it_is_synced);
	waits(NULL);
}

static void fsync_waits_and_writes_it(void **state)
{
	u64 written;

	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(0, 6);
	written = ramfile_count(file, RAMFILE_WRITE);
	at.bytes = sync_waits;
	move(0);
	join();
	assert_int_equal(ramfile_count(file, RAMFILE_WRITE), written + 1);
	assert_int_equal(file->mapping->nr_dirty, 0);
}

static void a_private_mapping_of_that_moment_shares_its_page(void **state)
{
	(void)state;
	map_file(ramfile_create(w.e, FILE_READ | FILE_WRITE, 16));
	put(9, 7); /* an anon_vma: so fork copies the area's entries */
	assert_int_equal(get(8), 5);
	at.bytes = fork_here;
	move(8);
	assert_ptr_equal(page_of(child, 8), page_of(mm, 8));
	assert_int_equal(read_on(cpu1, 8), 5);
}

/* ---- userfaultfd ---- */

static struct userfaultfd_ctx *ctx;

static void watch(u64 mode)
{
	u64 features = 0, ioctls;

	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(4), mode, &ioctls), 0);
}

static void it_is_write_protected(void)
{
	assert_int_equal(
		userfaultfd_writeprotect(ctx, AT(0), P(1), UAPI_UFFDIO_WRITEPROTECT_MODE_WP), 0);
}

static void a_monitor_protects_it(void **state)
{
	(void)state;
	map(0, 4, RW);
	put(0, 7);
	watch(UAPI_UFFDIO_REGISTER_MODE_WP);
	at.bytes = it_is_write_protected;
	move(0);
	assert_true(pte_uffd_wp(pte_of(mm, 0)) && !pte_write(pte_of(mm, 0)));
	assert_int_equal(get(0), 7);
	userfaultfd_release(ctx);
	put(0, 8);
}

static s64 moved_bytes;

static void a_monitor_moves_it(void)
{
	assert_int_equal(userfaultfd_move(ctx, mm, AT(1), AT(0), P(1), 0, &moved_bytes), 0);
}

static void monitor_waits(void)
{
	begin(a_monitor_moves_it);
	waits(NULL);
}

static void a_monitor_that_moves_it_waits(void **state)
{
	(void)state;
	map(0, 4, RW);
	put(0, 7);
	watch(UAPI_UFFDIO_REGISTER_MODE_MISSING);
	at.bytes = monitor_waits;
	assert_int_equal(try_move(page_of(mm, 0), MIGRATE_SYNC), 0);
	join();
	assert_int_equal(moved_bytes, PAGE_SIZE);
	assert_int_equal(get(1), 7);
	assert_true(pte_none(pte_of(mm, 0)));
	userfaultfd_release(ctx);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(who_reads_it_waits),
		T(who_writes_to_it_waits_and_writes_to_the_new_frame),
		T(who_writes_to_what_he_shares_waits_and_copies),
		T(unmapping_it_frees_it),
		T(dropping_it_leaves_zeros),
		T(dropping_it_leaves_no_copy),
		T(those_that_still_share_it_find_it),
		T(a_child_of_that_moment_shares_it),
		T(a_child_of_that_moment_has_it_alone_if_the_parent_unmaps_it),
		T(rights_that_it_loses_are_lost),
		T(rights_that_it_gets_it_has),
		T(it_is_found_where_it_has_been_moved_to),
		T(giving_it_up_does_nothing),
		T(reclaim_leaves_it),
		T(reclaim_leaves_what_is_shared),
		T(truncation_takes_it_from_there),
		T(unmapping_a_file_tells_it_of_nothing_twice),
		T(who_writes_to_the_file_waits),
		T(fsync_waits_and_writes_it),
		T(a_private_mapping_of_that_moment_shares_its_page),
		T(a_monitor_protects_it),
		T(a_monitor_that_moves_it_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
