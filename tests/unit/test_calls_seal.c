/* SPDX-License-Identifier: MIT */
/* mseal(2): what is refused from then on, and what is not. */
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define FIXED (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	map(0, 4, RW);
	return 0;
}

static void a_part_is_an_area_of_its_own(void **state)
{
	(void)state;
	assert_int_equal(do_mseal(mm, AT(1), P(1), 0), 0);
	assert_int_equal(mm->map_count, 3);
	assert_int_equal(do_mseal(mm, AT(0), P(4), 0), 0);
	assert_int_equal(mm->map_count, 1);
	put(2, 3); /* it is no protection */
	assert_int_equal(get(2), 3);
}

static void arguments_and_holes(void **state)
{
	(void)state;
	assert_int_equal(do_mseal(mm, AT(0), P(1), 1), -EINVAL);
	assert_int_equal(do_mseal(mm, AT(0) + 1, P(1), 0), -EINVAL);
	assert_int_equal(do_mseal(mm, AT(0), ~0ULL, 0), -EINVAL);
	assert_int_equal(do_mseal(mm, AT(0), 0, 0), 0);
	assert_int_equal(do_mseal(mm, AT(2), P(3), 0), -ENOMEM);
	assert_int_equal(vm_unmap(mm, AT(2), P(1)), 0); /* nothing was sealed */
}

static void it_can_neither_go_nor_change(void **state)
{
	(void)state;
	put(1, 9);
	assert_int_equal(do_mseal(mm, AT(1), P(1), 0), 0);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), -EPERM);
	assert_int_equal(vm_unmap(mm, AT(1), P(1)), -EPERM);
	assert_int_equal(do_mprotect(mm, AT(1), P(1), UAPI_PROT_READ), -EPERM);
	assert_int_equal(do_mmap(mm, AT(0), P(2), RW, FIXED, NULL, 0), -EPERM);
	assert_int_equal(do_mremap(mm, AT(1), P(1), P(2), UAPI_MREMAP_MAYMOVE, 0), -EPERM);
	assert_int_equal(
		do_mremap(mm, AT(3), P(1), P(1), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, AT(1)),
		-EPERM);
	assert_int_equal(get(1), 9);
	assert_int_equal(vm_unmap(mm, AT(2), P(2)), 0); /* beside it all may go */
}

static void what_could_be_overwritten_may_be_discarded(void **state)
{
	(void)state;
	put(0, 9);
	put(1, 9);
	assert_int_equal(vm_protect(mm, AT(1), P(1), VM_READ), 0);
	assert_int_equal(do_mseal(mm, AT(0), P(4), 0), 0);
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_DONTNEED), 0);
	assert_int_equal(get(0), 0);
	assert_int_equal(do_madvise(mm, AT(1), P(1), UAPI_MADV_DONTNEED), -EPERM);
	assert_int_equal(do_madvise(mm, AT(1), P(1), UAPI_MADV_FREE), -EPERM);
	assert_int_equal(do_madvise(mm, AT(1), P(1), UAPI_MADV_WIPEONFORK), -EPERM);
	assert_int_equal(do_madvise(mm, AT(1), P(1), UAPI_MADV_RANDOM), 0);
	assert_int_equal(get(1), 9);
}

static void a_sealed_heap_does_not_shrink(void **state)
{
	(void)state;
	mm->start_brk = mm->brk = AT(10);
	assert_int_equal(do_brk(mm, AT(12)), AT(12));
	assert_int_equal(do_mseal(mm, AT(10), P(2), 0), 0);
	assert_int_equal(do_brk(mm, AT(11)), AT(12));
	assert_int_equal(do_brk(mm, AT(13)), AT(13));
	assert_int_equal(do_brk(mm, AT(12)), AT(12));
}

static void a_child_has_it_sealed_too(void **state)
{
	struct mm *child;

	(void)state;
	assert_int_equal(do_mseal(mm, AT(0), P(4), 0), 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(vm_unmap(child, AT(0), P(1)), -EPERM);
	mm_destroy(child); /* the end of the space is no call */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_part_is_an_area_of_its_own),  T(arguments_and_holes),
		T(it_can_neither_go_nor_change),  T(what_could_be_overwritten_may_be_discarded),
		T(a_sealed_heap_does_not_shrink), T(a_child_has_it_sealed_too),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
