/* SPDX-License-Identifier: MIT */
/* userfaultfd: write-protection, minor faults, poison, pages that move; and their errors. */
#include "tests/unit/userfault_world.h"

/* ---- write-protection ---- */

static void a_write_to_a_protected_page_waits(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(1, 2), 0);
	assert_int_equal(get(1), 2);
	put(0, 9);
	put(3, 9);
	expect_protected(1);
	expect_protected(2);
	expect_nothing();
	put(1, 5);
}

static void what_writeprotect_refuses(void **state)
{
	(void)state;
	open_wp(4, 0);
	map(4, 1, RW);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(0), P(1), 3), -EINVAL);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(0), P(1), 4), -EINVAL);
	assert_int_equal(protect(0, 0), -EINVAL);
	assert_int_equal(protect(6, 1), -ENOENT);
	assert_int_equal(protect(3, 2), -ENOENT);
	assert_true(pte_uffd_wp(entry(3))); /* done before it came to the other */
	assert_int_equal(protect(2, 1), 0);
	assert_int_equal(unprotect(3, 1), 0);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(2), P(1), 2), 0);
	put(2, 1);
}

static void unpopulated_pages_are_protected_only_if_asked(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, WP), 0);
	assert_int_equal(protect(0, 4), 0);
	put(1, 1);
	close_ctx();
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(reg(0, 4, WP), 0);
	assert_int_equal(protect(0, 4), 0);
	soft_check(w.m);
	assert_int_equal(get(0), 0);
	expect_protected(0); /* read first: the zero page */
	expect_protected(2); /* never touched */
	expect_protected(1);
	assert_int_equal(unprotect(3, 1), 0);
	put(3, 1);
}

static void protection_survives_swap_and_mprotect(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(0, 3), 0);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 4);
	assert_true(pte_is_swap(entry(0)) && pte_uffd_wp(entry(0)));
	assert_int_equal(get(0), 1);
	expect_protected(0);
	expect_protected(1); /* swapped in by the write */
	assert_int_equal(reclaim_range(mm, AT(2), AT(3)), 0);
	put(3, 4);
	assert_int_equal(vm_protect(mm, AT(0), P(4), VM_READ), 0);
	assert_int_equal(vm_protect(mm, AT(0), P(4), RW), 0);
	soft_check(w.m);
	expect_protected(2);
	assert_int_equal(protect(3, 1), 0);
	assert_int_equal(reclaim_range(mm, AT(3), AT(4)), 1);
	assert_int_equal(unprotect(3, 1), 0); /* while it is away */
	put(3, 5);
	assert_int_equal(get(3), 5);
}

static void protection_ends_with_the_registration(void **state)
{
	(void)state;
	open_wp(4, UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(vm_advise(mm, AT(3), P(1), VADV_DONTNEED), 0);
	assert_int_equal(protect(0, 4), 0);
	assert_int_equal(reclaim_range(mm, AT(1), AT(2)), 1);
	begins_to_write(0, 9);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(4)), 0);
	has_written();
	for (unsigned i = 0; i < 4; i++) {
		assert_false(pte_uffd_wp(entry(i)));
		put(i, i);
	}
}

static void copy_may_protect_what_it_brings(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(copy_mode(0, 1, 7, UAPI_UFFDIO_COPY_MODE_WP), 0);
	assert_int_equal(get(0), 7);
	expect_protected(0);
	assert_int_equal(protect(1, 3), 0);
	begins_to_read(1); /* a marker is no page */
	expect_fault(1, 0);
	assert_int_equal(copy(1, 1, 7), 0);
	has_read(7);
	put(1, 8);				   /* and is written over */
	assert_int_equal(zeropage(2, 1), -EEXIST); /* but not by zeros */
	assert_int_equal(copy(2, 1, 7), 0);
	begins_to_write(3, 1);
	expect_fault(3, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(copy_mode(3, 1, 7, UAPI_UFFDIO_COPY_MODE_WP), 0);
	expect_fault(3, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(unprotect(3, 1), 0);
	has_written();
}

static void async_protection_goes_by_itself(void **state)
{
	(void)state;
	open_wp(4, UAPI_UFFD_FEATURE_WP_ASYNC);
	assert_int_equal(vm_advise(mm, AT(2), P(1), VADV_DONTNEED), 0);
	assert_int_equal(protect(0, 4), 0);
	put(0, 9);
	put(2, 9);
	expect_nothing();
	assert_false(pte_uffd_wp(entry(0)));
	assert_true(pte_uffd_wp(entry(1)));
	assert_false(pte_uffd_wp(entry(2)));
	assert_true(pte_uffd_wp(entry(3)));
	assert_int_equal(get(0), 9);
}

static void shared_memory_remembers_by_markers(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 4, WP), 0);
	put(0, 1);
	put(1, 2);
	assert_int_equal(protect(0, 4), 0);
	assert_true(pte_is_marker(entry(2)));
	assert_int_equal(vm_advise(mm, AT(0), P(3), VADV_DONTNEED), 0);
	assert_true(pte_is_marker(entry(0)) && pte_is_marker(entry(2)));
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 0);
	soft_check(w.m);
	assert_int_equal(get(0), 1);
	expect_protected(0);
	expect_protected(1);
	expect_protected(3);
	assert_int_equal(protect(0, 2), 0);
	assert_int_equal(get(1), 0x77);
	assert_int_equal(file_punch_hole(f, 0, P(1)), 0);
	expect_protected(0);
	assert_int_equal(reclaim_range(mm, AT(1), AT(2)), 1);
	assert_true(pte_is_marker(entry(1)));
	expect_protected(1);
	file_put(f);
}

/* ---- minor faults, poison ---- */

static void a_page_that_only_the_file_has_is_a_minor_fault(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(8), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 8, MINOR | WP), 0);
	assert_int_equal(file_write(f, 0, "abc", 3), 3);
	begins_to_read(0);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(file_write(f, 0, "x", 1), 1);
	assert_int_equal(continue_mode(0, 1, 0), 0);
	assert_int_equal(done, P(1));
	has_read('x');
	assert_int_equal(continue_mode(0, 1, 0), -EEXIST);
	assert_int_equal(continue_mode(1, 1, 0), -EFAULT); /* the file has none */
	assert_int_equal(continue_mode(6, 1, 0), -EINVAL); /* behind its end */
	put(1, 1);					   /* missing is nobody's here */
	assert_int_equal(vm_advise(mm, AT(0), P(2), VADV_DONTNEED), 0);
	assert_int_equal(continue_mode(0, 3, UAPI_UFFDIO_CONTINUE_MODE_WP), -EAGAIN);
	assert_int_equal(done, P(2));
	expect_protected(0);
	expect_protected(1);
	assert_int_equal(reclaim_range(mm, AT(0), AT(1)), 1);
	begins_to_write(0, 3);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(continue_mode(0, 1, 0), 0);
	has_written();
	assert_int_equal(continue_mode(0, 1, 4), -EINVAL);
	file_put(f);
}

static void continue_is_for_shared_memory(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(continue_mode(0, 1, 0), -EINVAL);
}

static void a_poisoned_page_is_sigbus(void **state)
{
	u8 byte;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	put(2, 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(0);
	expect_fault(0, 0);
	assert_int_equal(userfaultfd_poison(ctx, AT(0), P(3), 0, &done), -EAGAIN);
	assert_int_equal(done, P(2));
	pthread_join(program.thread, NULL);
	assert_int_equal(program.reason, FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 1), FAULT_BUS);
	assert_int_equal(userfaultfd_poison(ctx, AT(1), P(1), 0, &done), -EEXIST);
	assert_int_equal(userfaultfd_poison(ctx, AT(1), P(1), 2, &done), -EINVAL);
	assert_int_equal(zeropage(1, 1), -EEXIST);
	assert_int_equal(copy(1, 1, 7), 0); /* healed */
	assert_int_equal(get(1), 7);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(4)), 0);
	assert_int_equal(soft_read_byte(w.cpu, AT(0), &byte), FAULT_BUS);
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
	assert_int_equal(get(0), 0);
}

/* ---- moving ---- */

static void a_page_moves_and_wakes(void **state)
{
	u64 pfn;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	put(9, 8);
	assert_int_equal(vm_advise(mm, AT(10), P(2), VADV_DONTNEED), 0); /* they came along */
	pfn = pte_pfn(entry(8));
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_write(1, 6);
	expect_fault(1, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(move(1, 8, 1), 0);
	assert_int_equal(done, P(1));
	has_written();
	assert_int_equal(pte_pfn(entry(1)), pfn);
	assert_int_equal(get(8), 0);
	assert_int_equal(move(1, 9, 1), -EEXIST);
	assert_int_equal(move(2, 10, 1), -ENOENT);
	assert_int_equal(move_mode(2, 10, 1, UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES), 0);
	assert_int_equal(done, P(1));
	assert_true(pte_none(entry(2)));
	assert_int_equal(move(2, 8, 2), 0); /* the zero page, and another */
	assert_int_equal(get(2), 0);
	assert_int_equal(get(3), 8);
	soft_check(w.m);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 2); /* it is found at its new place */
	assert_int_equal(get(1), 6);
}

static void a_page_that_is_swapped_out_moves_too(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	assert_int_equal(reclaim_range(mm, AT(8), AT(9)), 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(move(1, 8, 1), 0);
	soft_check(w.m);
	assert_int_equal(get(1), 7);
	assert_int_equal(get(8), 0);
}

static void what_move_refuses(void **state)
{
	struct mm *child;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	put(9, 7);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(userfaultfd_move(ctx, NULL, AT(0), AT(8), P(1), 0, &done), -EINVAL);
	assert_int_equal(move_mode(0, 8, 1, 4), -EINVAL);
	assert_int_equal(move(0, 8, 0), -EINVAL);
	assert_int_equal(move(8, 0, 1), -EINVAL); /* not registered */
	assert_int_equal(move(5, 8, 1), -ENOENT); /* no area */
	assert_int_equal(move(0, 6, 1), -ENOENT);
	assert_int_equal(move(2, 8, 4), -EINVAL); /* beyond it */
	assert_int_equal(vm_protect(mm, AT(9), P(1), VM_READ), 0);
	assert_int_equal(move(0, 9, 1), -EINVAL);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(move(0, 8, 1), -EBUSY);
	mm_destroy(child);
	assert_int_equal(move(0, 8, 1), -EBUSY); /* until it is written to */
	put(8, 9);
	assert_int_equal(move(0, 8, 1), 0);
	assert_int_equal(get(0), 9);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(a_write_to_a_protected_page_waits),
		T(what_writeprotect_refuses),
		T(unpopulated_pages_are_protected_only_if_asked),
		T(protection_survives_swap_and_mprotect),
		T(protection_ends_with_the_registration),
		T(copy_may_protect_what_it_brings),
		T(async_protection_goes_by_itself),
		T(shared_memory_remembers_by_markers),
		T(a_page_that_only_the_file_has_is_a_minor_fault),
		T(continue_is_for_shared_memory),
		T(a_poisoned_page_is_sigbus),
		T(a_page_moves_and_wakes),
		T(a_page_that_is_swapped_out_moves_too),
		T(what_move_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
