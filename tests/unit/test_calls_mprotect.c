/* SPDX-License-Identifier: MIT */
/*
 * mprotect(2): what is refused, in which order, and what is changed all the same; what is promised
 * to an area and counted as data.  See also test_calls_change.c.
 */
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define R     UAPI_PROT_READ
#define W     UAPI_PROT_WRITE
#define DOWN  UAPI_PROT_GROWSDOWN
#define UP    UAPI_PROT_GROWSUP
#define FIXED (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	return 0;
}

static void make(unsigned page, unsigned n, u64 prot, u64 flags)
{
	assert_int_equal(do_mmap(mm, AT(page), P(n), prot, FIXED | flags, NULL, 0), AT(page));
}

static s64 protect(unsigned page, unsigned n, u64 prot)
{
	return do_mprotect(mm, AT(page), P(n), prot);
}

static struct vma *area(unsigned page)
{
	struct vma *vma = find_vma(mm, AT(page));

	assert_true(vma && vma->start <= AT(page));
	return vma;
}

static bool may_write(unsigned page)
{
	return soft_write_byte(w.cpu, AT(page), 1) == FAULT_OK;
}

/* ---- arguments ---- */

static void arguments_are_checked_in_the_order_of_the_kernel(void **state)
{
	static const struct {
		u64 addr, len, prot;
		s64 result;
	} calls[] = {
		/* Both ways, and an address within a page: before the length. */
		{ AT(0), 0, DOWN | UP, -EINVAL },
		{ AT(0) + 1, 0, R, -EINVAL },
		/* No length: before the rights, and whatever is there. */
		{ AT(0), 0, 0x100, 0 },
		{ AT(50), 0, R, 0 },
		/* A range that wraps, or that is all there is: before the rights. */
		{ AT(0), ~0ULL, 1ULL << 40, -ENOMEM },
		{ AT(0), -PAGE_SIZE, 0x100, -ENOMEM },
		{ -PAGE_SIZE, P(1), R, -ENOMEM },
		/* The rights: before the areas. */
		{ -P(2), P(1), 0x100, -EINVAL },
		{ AT(0), P(1), 1ULL << 40 | R, -EINVAL },
		{ AT(50), P(1), 0x100, -EINVAL },
		{ AT(50), P(1), R, -ENOMEM },
		{ AT(0), 1, R | UAPI_PROT_SEM, 0 },
	};

	(void)state;
	make(0, 4, R | W, 0);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		assert_int_equal(do_mprotect(mm, calls[i].addr, calls[i].len, calls[i].prot),
				 calls[i].result);
	assert_false(may_write(0));
	assert_true(may_write(1));
}

static void a_stack_is_changed_from_its_start_wherever_the_range_begins(void **state)
{
	(void)state;
	make(10, 4, R | W, UAPI_MAP_GROWSDOWN);
	assert_int_equal(protect(12, 1, R | DOWN), 0);
	assert_false(may_write(10));
	assert_true(may_write(13));
	/* Even in a hole below it, if it goes that far. */
	assert_int_equal(protect(8, 3, R | W | DOWN), 0);
	assert_true(may_write(10));
	assert_false(may_write(11));
	assert_int_equal(protect(7, 3, R | DOWN), -ENOMEM);
}

static void no_area_grows_up(void **state)
{
	(void)state;
	make(0, 2, R | W, 0);
	assert_int_equal(protect(1, 4, R | UP), -EINVAL);
	assert_int_equal(protect(4, 1, R | UP), -ENOMEM);
	assert_true(may_write(1));
}

/* ---- what is changed ---- */

static void what_lies_before_an_area_that_refuses_is_changed(void **state)
{
	(void)state;
	make(0, 2, R, 0);
	make(2, 2, R, 0);
	make(4, 2, R, UAPI_MAP_NORESERVE);
	mm->limits.data = P(4);
	assert_int_equal(protect(0, 6, R | W), -ENOMEM);
	assert_true(may_write(3));
	assert_false(may_write(4));
}

static void the_middle_splits_in_three_and_becomes_one_again(void **state)
{
	(void)state;
	make(0, 6, R | W, 0);
	put(1, 1);
	put(3, 3);
	assert_int_equal(protect(2, 2, R), 0);
	assert_int_equal(mm->map_count, 3);
	assert_false(may_write(3));
	assert_int_equal(protect(2, 2, R | W), 0);
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(get(3), 3);
	assert_true(may_write(3));
}

static void memory_that_nobody_may_touch_keeps_its_contents(void **state)
{
	(void)state;
	make(0, 1, R | W, 0);
	put(0, 7);
	assert_int_equal(protect(0, 1, UAPI_PROT_NONE), 0);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(protect(0, 1, R), 0);
	assert_int_equal(get(0), 7);
}

static void the_page_of_zeros_is_not_written_through(void **state)
{
	(void)state;
	make(0, 2, R, 0);
	assert_int_equal(get(0), 0);
	assert_int_equal(get(1), 0);
	assert_int_equal(protect(0, 2, R | W), 0);
	put(0, 9);
	assert_int_equal(get(1), 0);
}

/* ---- limits and promises ---- */

static void what_becomes_writable_counts_as_data(void **state)
{
	(void)state;
	make(0, 4, R, 0);
	assert_int_equal(mm->data_vm, 0);
	mm->limits.data = P(2);
	assert_int_equal(protect(0, 3, R | W), -ENOMEM);
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(protect(0, 2, R | W), 0);
	assert_int_equal(mm->data_vm, 2);
	assert_int_equal(protect(0, 2, R), 0);
	assert_int_equal(mm->data_vm, 0);
}

/* A limit that was set below what there is hinders nobody who makes no more of it. */
static void a_change_that_makes_no_more_of_it_passes_the_limit(void **state)
{
	(void)state;
	make(0, 4, R | W, 0);
	mm->limits.data = P(1);
	assert_int_equal(protect(0, 4, R | W | UAPI_PROT_EXEC), 0);
	mm->limits.as = P(1);
	assert_int_equal(protect(0, 4, R), 0);
	/* Too much already before: not for this. */
	assert_int_equal(protect(0, 4, R | W), 0);
}

static void private_memory_is_promised_when_it_becomes_writable(void **state)
{
	(void)state;
	make(0, 4, R, 0);
	assert_false(area(0)->flags & VM_ACCOUNT);
	mm->limits.commit = P(1);
	assert_int_equal(protect(0, 2, R | W), -ENOMEM);
	mm->limits.commit = P(2);
	assert_int_equal(protect(0, 2, R | W), 0);
	assert_true(area(0)->flags & VM_ACCOUNT);
	assert_false(area(2)->flags & VM_ACCOUNT);
	/* Nothing is where it was said that there need not be. */
	make(10, 4, R, UAPI_MAP_NORESERVE);
	assert_int_equal(protect(10, 4, R | W), 0);
	assert_false(area(10)->flags & VM_ACCOUNT);
}

static void only_what_never_had_a_page_is_no_longer_promised(void **state)
{
	(void)state;
	make(0, 2, R | W, 0);
	assert_int_equal(protect(0, 2, R), 0);
	assert_false(area(0)->flags & VM_ACCOUNT);
	make(10, 2, R | W, 0);
	put(11, 1);
	assert_int_equal(protect(10, 2, R), 0);
	assert_true(area(10)->flags & VM_ACCOUNT);
	/* So the two kinds are not one area. */
	make(12, 1, R, 0);
	assert_ptr_not_equal(area(11), area(12));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(arguments_are_checked_in_the_order_of_the_kernel),
		T(a_stack_is_changed_from_its_start_wherever_the_range_begins),
		T(no_area_grows_up),
		T(what_lies_before_an_area_that_refuses_is_changed),
		T(the_middle_splits_in_three_and_becomes_one_again),
		T(memory_that_nobody_may_touch_keeps_its_contents),
		T(the_page_of_zeros_is_not_written_through),
		T(what_becomes_writable_counts_as_data),
		T(a_change_that_makes_no_more_of_it_passes_the_limit),
		T(private_memory_is_promised_when_it_becomes_writable),
		T(only_what_never_had_a_page_is_no_longer_promised),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
