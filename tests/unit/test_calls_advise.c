/* SPDX-License-Identifier: MIT */
/*
 * madvise(2) where the running kernel cannot be compared with: what reclaim does with pages that
 * were given up, what is swapped out, and guards under pressure.
 */
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 64 });
	return 0;
}

static void advise(unsigned page, unsigned n, u64 advice)
{
	assert_int_equal(do_madvise(mm, AT(page), P(n), advice), 0);
}

static void fill(unsigned page, unsigned n, u8 byte)
{
	for (unsigned i = 0; i < n; i++)
		put(page + i, byte + i);
}

static void page_out(unsigned page, unsigned n)
{
	reclaim_range(mm, AT(page), AT(page + n));
}

/* ---- FREE ---- */

static void what_was_given_up_goes_without_being_stored(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	advise(0, 8, UAPI_MADV_FREE);
	assert_int_equal(mm->rss, 8); /* not before somebody wants the frames */
	assert_int_equal(get(3), 4);
	page_out(0, 8);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(w.e->stats->lazyfreed, 8);
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(get(3), 0);
}

static void what_is_written_to_again_is_kept(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	advise(0, 8, UAPI_MADV_FREE);
	put(2, 77);
	put(5, 78);
	page_out(0, 8);
	assert_int_equal(w.e->stats->lazyfreed, 6);
	/* It has just been in use, and is spared once. */
	assert_int_equal(mm->rss, 2);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(get(2), 77);
	assert_int_equal(get(5), 78);
	assert_int_equal(get(3), 0);
	/* It is a page like any other now. */
	page_out(0, 8);
	assert_int_equal(mm->swapped, 2);
	assert_int_equal(get(2), 77);
}

/* What was taken and is to be kept goes back where it was, whatever the machine refuses. */
static void what_is_kept_is_not_lost_on_a_machine_that_is_busy(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	advise(0, 8, UAPI_MADV_FREE);
	put(2, 77);
	atomic_store(&w.m->inject.set_again_every, 1);
	page_out(0, 8);
	atomic_store(&w.m->inject.set_again_every, 0);
	assert_int_equal(w.e->stats->lazyfreed, 7);
	soft_check(w.m);
	assert_int_equal(get(2), 77);
}

/* The frames go when they are wanted, those given up before those that are not. */
static void pressure_takes_what_was_given_up(void **state)
{
	(void)state;
	map(0, 24, RW);
	fill(0, 24, 1);
	advise(0, 24, UAPI_MADV_FREE);
	map(100, 80, RW);
	fill(100, 80, 1);
	assert_int_equal(w.e->stats->lazyfreed, 24);
	for (unsigned i = 0; i < 24; i++)
		assert_int_equal(get(i), 0);
	for (unsigned i = 0; i < 80; i++)
		assert_int_equal(get(100 + i), 1 + i);
}

static void a_stored_page_that_is_given_up_is_zeros(void **state)
{
	(void)state;
	map(0, 4, RW);
	fill(0, 4, 1);
	page_out(0, 4);
	assert_int_equal(mm->swapped, 4);
	advise(0, 4, UAPI_MADV_FREE);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(get(1), 0);
}

static void a_child_keeps_what_its_parent_gives_up(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 4, RW);
	fill(0, 4, 1);
	assert_int_equal(mm_fork(mm, &child), 0);
	advise(0, 4, UAPI_MADV_FREE);
	page_out(0, 4);
	reclaim_range(child, AT(0), AT(4));
	soft_load_mm(w.cpu, child);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(get(i), 1 + i);
	soft_load_mm(w.cpu, mm);
	mm_destroy(child);
}

static void droppable_memory_goes_though_it_is_dirty(void **state)
{
	(void)state;
	assert_int_equal(do_mmap(mm, AT(0), P(4), RW,
				 UAPI_MAP_DROPPABLE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0),
			 AT(0));
	fill(0, 4, 1);
	assert_int_equal(get(2), 3);
	page_out(0, 4);
	assert_int_equal(mm->rss + mm->swapped, 0);
	assert_int_equal(get(2), 0);
}

/* ---- COLD, PAGEOUT, WILLNEED, POPULATE ---- */

static struct page *page_at(unsigned page)
{
	spinlock_t *ptl;

	return pfn_page(w.e, pte_pfn(pte_read(pte_find(mm, AT(page), &ptl))));
}

static void cold_pages_are_active_no_more(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	for (unsigned i = 0; i < 8; i++)
		lru_rotate(w.e, page_at(i), ARRIVED_HOT);
	advise(2, 4, UAPI_MADV_COLD);
	for (unsigned i = 0; i < 8; i++) {
		bool cold = i >= 2 && i < 6;
		spinlock_t *ptl;

		assert_int_equal(page_list(page_at(i)) == LRU_ACTIVE, !cold);
		assert_int_equal(pte_young(pte_read(pte_find(mm, AT(i), &ptl))), !cold);
		assert_int_equal(get(i), 1 + i);
	}
	assert_int_equal(do_mlock(mm, AT(0), P(1)), 0);
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_COLD), -EINVAL);
}

static void pageout_and_willneed_are_there_and_back(void **state)
{
	u64 major;

	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	advise(0, 8, UAPI_MADV_PAGEOUT);
	assert_int_equal(mm->swapped, 8);
	advise(0, 8, UAPI_MADV_WILLNEED);
	assert_int_equal(mm->swapped, 0);
	major = mm->major;
	assert_int_equal(get(5), 6);
	assert_int_equal(mm->major, major);
}

static void willneed_reads_a_file_ahead(void **state)
{
	struct file *f = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);

	(void)state;
	assert_int_equal(file_truncate(f, P(8)), 0);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(file_write(f, P(i), "x", 1), 1);
	assert_int_equal(vfs_fsync_range(f, 0, P(8)), 0);
	assert_int_equal(vm_map_file(mm, AT(0), P(8), VM_READ, VMAP_FIXED, 0, f, 0), AT(0));
	advise(0, 8, UAPI_MADV_PAGEOUT);
	advise(0, 8, UAPI_MADV_WILLNEED);
	assert_int_equal(get(7), 'x');
	assert_int_equal(mm->major, 0);
	assert_int_equal(vm_unmap(mm, AT(0), P(8)), 0);
	file_put(f);
}

static void populating_says_what_is_wrong(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(2));

	(void)state;
	map(0, 2, VM_READ);
	advise(0, 2, UAPI_MADV_POPULATE_READ);
	assert_int_equal(do_madvise(mm, AT(0), P(2), UAPI_MADV_POPULATE_WRITE), -EINVAL);
	assert_int_equal(do_madvise(mm, AT(0), P(3), UAPI_MADV_POPULATE_READ), -ENOMEM);
	assert_int_equal(vm_map_file(mm, AT(10), P(4), RW, VMAP_FIXED, VM_SHARED, f, 0), AT(10));
	assert_int_equal(do_madvise(mm, AT(10), P(4), UAPI_MADV_POPULATE_WRITE), -EFAULT);
	assert_int_equal(mm->rss_file, 2);
	assert_int_equal(vm_unmap(mm, AT(10), P(4)), 0);
	file_put(f);
}

/* ---- guards ---- */

static enum fault_reason touch(unsigned page)
{
	u8 byte;

	return soft_read_byte(w.cpu, AT(page), &byte);
}

static void a_guard_takes_the_page_and_refuses_any_access(void **state)
{
	(void)state;
	map(0, 8, RW);
	fill(0, 8, 1);
	advise(2, 2, UAPI_MADV_GUARD_INSTALL);
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(mm->rss, 6);
	assert_int_equal(touch(2), FAULT_MAPERR);
	assert_int_equal(soft_write_byte(w.cpu, AT(3), 1), FAULT_MAPERR);
	assert_int_equal(get(4), 5);
	advise(0, 8, UAPI_MADV_DONTNEED);
	assert_int_equal(touch(2), FAULT_MAPERR); /* they are not pages */
	assert_int_equal(get(4), 0);
	page_out(0, 8);
	assert_int_equal(touch(3), FAULT_MAPERR);
	advise(0, 8, UAPI_MADV_GUARD_REMOVE);
	assert_int_equal(get(2), 0);
	assert_int_equal(touch(3), FAULT_OK);
}

static void guards_take_what_is_swapped_out(void **state)
{
	(void)state;
	map(0, 4, RW);
	fill(0, 4, 1);
	page_out(0, 4);
	advise(0, 4, UAPI_MADV_GUARD_INSTALL);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(w.e->swap.used, 0);
}

static void guards_move_fork_and_change_rights_with_their_area(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	struct mm *child;

	(void)state;
	map(0, 4, RW);
	assert_int_equal(vm_map_file(mm, AT(20), P(4), RW, VMAP_FIXED, VM_SHARED, f, 0), AT(20));
	advise(1, 1, UAPI_MADV_GUARD_INSTALL);
	advise(21, 1, UAPI_MADV_GUARD_INSTALL);
	assert_int_equal(vm_protect(mm, AT(0), P(4), 0), 0);
	assert_int_equal(vm_protect(mm, AT(0), P(4), RW), 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(
		do_mremap(mm, AT(0), P(4), P(4), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, AT(40)),
		AT(40));
	assert_int_equal(touch(40), FAULT_OK);
	assert_int_equal(touch(41), FAULT_MAPERR);
	assert_int_equal(touch(21), FAULT_MAPERR);
	soft_load_mm(w.cpu, child);
	assert_int_equal(touch(1), FAULT_MAPERR);
	assert_int_equal(touch(21), FAULT_MAPERR);
	assert_int_equal(touch(22), FAULT_OK);
	soft_load_mm(w.cpu, mm);
	mm_destroy(child);
	assert_int_equal(vm_unmap(mm, AT(20), P(4)), 0);
	map(20, 4, RW);
	assert_int_equal(touch(21), FAULT_OK); /* gone with their area */
	file_put(f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_was_given_up_goes_without_being_stored),
		T(what_is_written_to_again_is_kept),
		T(what_is_kept_is_not_lost_on_a_machine_that_is_busy),
		T(pressure_takes_what_was_given_up),
		T(a_stored_page_that_is_given_up_is_zeros),
		T(a_child_keeps_what_its_parent_gives_up),
		T(droppable_memory_goes_though_it_is_dirty),
		T(cold_pages_are_active_no_more),
		T(pageout_and_willneed_are_there_and_back),
		T(willneed_reads_a_file_ahead),
		T(populating_says_what_is_wrong),
		T(a_guard_takes_the_page_and_refuses_any_access),
		T(guards_take_what_is_swapped_out),
		T(guards_move_fork_and_change_rights_with_their_area),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
