/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd in areas of huge pages: what the monitor is told, gives and write-protects.  A second
 * thread is the program, on CPU 0; the test is the monitor.
 */
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_world.h"
#include "tests/unit/program_thread.h"

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define WP	UAPI_UFFDIO_REGISTER_MODE_WP
#define MINOR	UAPI_UFFDIO_REGISTER_MODE_MINOR

static struct userfaultfd_ctx *ctx;
static s64 done;
static u64 ioctls;
static u8 *buffer; /* one huge page */

static int setup(void **state)
{
	u64 features = 0;

	(void)state;
	start_huge(4);
	buffer = malloc(H(1));
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	return 0;
}

static int end_all(void **state)
{
	userfaultfd_release(ctx);
	free(buffer);
	return teardown(state);
}

/* ---- the program ---- */

static void begins_to_read(u64 va)
{
	begins_to(va, false, 0);
}

static void begins_to_write(u64 va, u8 byte)
{
	begins_to(va, true, byte);
}

/* ---- the monitor ---- */

static void expect_fault(unsigned page, u64 flags)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, HUGE(page));
	assert_int_equal(msg.arg.pagefault.flags, flags);
}

static int copy_to(unsigned page, u64 len, u8 byte, u64 mode)
{
	memset(buffer, byte, H(1));
	return userfaultfd_copy(ctx, NULL, HUGE(page), (u64)(uintptr_t)buffer, len, mode, &done);
}

static int reg(unsigned page, unsigned n, u64 mode)
{
	return userfaultfd_register(ctx, HUGE(page), H(n), mode, &ioctls);
}

/* ---- */

static void whole_huge_pages_are_registered_and_there_are_no_zero_pages(void **state)
{
	(void)state;
	map_anon(0, 2, PRIVATE);
	assert_int_equal(userfaultfd_register(ctx, HUGE(0) + PAGE_SIZE, H(1), MISSING, &ioctls),
			 -EINVAL);
	assert_int_equal(userfaultfd_register(ctx, HUGE(0), PAGE_SIZE, MISSING, &ioctls), -EINVAL);
	assert_int_equal(reg(0, 1, MISSING | WP | MINOR), 0);
	assert_int_equal(ioctls, 0x1cc); /* WAKE, COPY, WRITEPROTECT, CONTINUE, POISON */
	assert_int_equal(userfaultfd_unregister(ctx, HUGE(0) + PAGE_SIZE, H(1) - PAGE_SIZE),
			 -EINVAL);
	assert_int_equal(userfaultfd_zeropage(ctx, HUGE(0), H(1), 0, &done), -EINVAL);
	assert_int_equal(copy_to(0, PAGE_SIZE, 1, 0), -EINVAL);
	pool_is(4, 4, 2);
}

static void a_missing_page_is_the_monitors_to_give(void **state)
{
	(void)state;
	map_anon(0, 2, PRIVATE);
	assert_int_equal(reg(0, 2, MISSING), 0);
	begins_to_read(HUGE(1) + 12345);
	expect_fault(1, 0);
	assert_int_equal(copy_to(1, H(1), 7, 0), 0);
	assert_int_equal(done, H(1));
	assert_int_equal(is_done(), FAULT_OK);
	assert_int_equal(program.byte, 7);
	pool_is(4, 3, 1);
	assert_int_equal(copy_to(1, H(1), 8, 0), -EEXIST);
	hput(HUGE(1), 1);
	pool_is(4, 3, 1);
}

static void a_page_given_to_a_shared_area_is_the_files(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 1, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(8, 1, SHARED, file, 0), HUGE(8));
	assert_int_equal(reg(0, 1, MISSING), 0);
	assert_int_equal(copy_to(0, H(1), 7, 0), 0);
	assert_int_equal(hget(HUGE(8)), 7);
	pool_is(4, 3, 0);
	assert_int_equal(vm_unmap(mm, HUGE(8), H(1)), 0);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_DONTNEED), 0);
	assert_int_equal(copy_to(0, H(1), 8, 0), -EEXIST); /* the file has it */
	assert_int_equal(hget(HUGE(0)), 7);
	file_put(file);
}

static void a_page_that_only_the_file_has_is_a_minor_fault(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 1, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(8, 1, SHARED, file, 0), HUGE(8));
	assert_int_equal(reg(0, 1, MINOR), 0);
	assert_int_equal(userfaultfd_continue(ctx, HUGE(0), H(1), 0, &done), -EFAULT);
	hput(HUGE(8) + 5, 9);
	begins_to_read(HUGE(0) + 5);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(userfaultfd_continue(ctx, HUGE(0), H(1), 0, &done), 0);
	assert_int_equal(is_done(), FAULT_OK);
	assert_int_equal(program.byte, 9);
	file_put(file);
}

static void a_write_to_a_protected_page_is_the_monitors_to_judge(void **state)
{
	static const u64 kinds[] = { PRIVATE, SHARED };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		map_anon(0, 1, kinds[i]);
		hput(HUGE(0), 1);
		assert_int_equal(reg(0, 1, WP), 0);
		assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), PAGE_SIZE, 1), -EINVAL);
		assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 1), 0);
		assert_int_equal(hget(HUGE(0)), 1);
		begins_to_write(HUGE(0) + 9, 2);
		expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
		assert_int_equal(hget(HUGE(0) + 9), 0);
		assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 0), 0);
		assert_int_equal(is_done(), FAULT_OK);
		assert_int_equal(hget(HUGE(0) + 9), 2);
		pool_is(4, 3, 0);
		assert_int_equal(vm_unmap(mm, HUGE(0), H(1)), 0);
	}
}

static void a_page_protected_before_it_is_there_stays_so(void **state)
{
	(void)state;
	map_anon(0, 1, PRIVATE);
	assert_int_equal(reg(0, 1, WP), 0);
	assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 1), 0);
	assert_int_equal(hget(HUGE(0)), 0);
	begins_to_write(HUGE(0), 2);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 0), 0);
	assert_int_equal(is_done(), FAULT_OK);
	pool_is(4, 3, 0);
}

static void a_page_that_is_poisoned_is_sigbus(void **state)
{
	(void)state;
	map_anon(0, 1, PRIVATE);
	assert_int_equal(reg(0, 1, MISSING), 0);
	assert_int_equal(userfaultfd_poison(ctx, HUGE(0), H(1), 0, &done), 0);
	assert_int_equal(userfaultfd_poison(ctx, HUGE(0), H(1), 0, &done), -EEXIST);
	assert_int_equal(try_read(HUGE(0) + 5), FAULT_BUS);
	pool_is(4, 4, 1);
	assert_int_equal(copy_to(0, H(1), 3, 0), 0); /* which heals it */
	assert_int_equal(hget(HUGE(0) + 5), 3);
}

static void a_child_has_the_poison_too(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 1, PRIVATE);
	assert_int_equal(reg(0, 1, MISSING), 0);
	assert_int_equal(userfaultfd_poison(ctx, HUGE(0), H(1), 0, &done), 0);
	child = fork_of(mm);
	run(child);
	assert_int_equal(try_read(HUGE(0)), FAULT_BUS);
	end(child);
}

static void the_mark_of_a_page_that_is_dropped_stays(void **state)
{
	(void)state;
	map_anon(0, 1, SHARED);
	hput(HUGE(0), 1);
	assert_int_equal(reg(0, 1, WP), 0);
	assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 1), 0);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_DONTNEED), 0);
	assert_int_equal(hget(HUGE(0)), 1);
	begins_to_write(HUGE(0), 2);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(userfaultfd_writeprotect(ctx, HUGE(0), H(1), 0), 0);
	assert_int_equal(is_done(), FAULT_OK);
}

static void nothing_is_filled_behind_the_end_or_with_what_is_broken(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 2, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(8, 1, SHARED, file, 0), HUGE(8));
	assert_int_equal(reg(0, 2, MISSING | MINOR), 0);
	assert_int_equal(file_truncate(file, H(1)), 0);
	assert_int_equal(copy_to(1, H(1), 3, 0), -EFAULT);
	hput(HUGE(8), 1);
	mm->limits.may_break_memory = true;
	w.e->config.memory_failure = true;
	assert_int_equal(do_madvise(mm, HUGE(8), H(1), UAPI_MADV_HWPOISON), 0);
	assert_int_equal(userfaultfd_continue(ctx, HUGE(0), H(1), 0, &done), -EIO);
	file_put(file);
}

static void a_pool_that_is_dry_fills_nothing(void **state)
{
	(void)state;
	map_anon(0, 1, PRIVATE | NORESERVE);
	map_anon(8, 4, PRIVATE);
	assert_int_equal(reg(0, 1, MISSING), 0);
	assert_int_equal(copy_to(0, H(1), 3, 0), -ENOMEM);
	pool_is(4, 4, 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_all)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(whole_huge_pages_are_registered_and_there_are_no_zero_pages),
		T(a_missing_page_is_the_monitors_to_give),
		T(a_page_given_to_a_shared_area_is_the_files),
		T(a_page_that_only_the_file_has_is_a_minor_fault),
		T(a_write_to_a_protected_page_is_the_monitors_to_judge),
		T(a_page_protected_before_it_is_there_stays_so),
		T(a_page_that_is_poisoned_is_sigbus),
		T(a_child_has_the_poison_too),
		T(the_mark_of_a_page_that_is_dropped_stays),
		T(nothing_is_filled_behind_the_end_or_with_what_is_broken),
		T(a_pool_that_is_dry_fills_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
