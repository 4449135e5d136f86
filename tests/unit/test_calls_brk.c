/* SPDX-License-Identifier: MIT */
/* brk(2): how far the heap may go, and what its area is. */
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define FIXED (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)
#define GAP   (STACK_GUARD_GAP >> PAGE_SHIFT)

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	mm->start_brk = mm->brk = AT(0) + 100;
	return 0;
}

static void what_ends_where_the_heap_begins_is_none_of_it(void **state)
{
	(void)state;
	map(0, 1, RW);
	mm->start_brk = mm->brk = AT(1);
	assert_int_equal(do_brk(mm, AT(3)), AT(3));
	assert_int_equal(mm->map_count, 2);
}

static void the_heap_is_one_area_from_page_to_page(void **state)
{
	const struct vma *heap;

	(void)state;
	assert_int_equal(do_brk(mm, 0), AT(0) + 100); /* how one asks where it is */
	assert_int_equal(do_brk(mm, AT(0) + 200), AT(0) + 200);
	assert_int_equal(mm->map_count, 0); /* the loader's page has room for it */
	mm->start_brk = mm->brk = AT(1);
	assert_int_equal(do_brk(mm, AT(1) + 1), AT(1) + 1);
	assert_int_equal(do_brk(mm, AT(4)), AT(4));
	assert_int_equal(mm->map_count, 1);
	heap = find_vma(mm, AT(1));
	assert_int_equal(heap->start, AT(1));
	assert_int_equal(heap->end, AT(4));
	assert_int_equal(heap->flags & (VM_ACCESS | VM_ACCOUNT), RW | VM_ACCOUNT);
	assert_int_equal(mm->data_vm, 3);
	put(3, 7);
	assert_int_equal(do_brk(mm, AT(2) + 1), AT(2) + 1);
	assert_int_equal(find_vma(mm, AT(1))->end, AT(3));
	assert_int_equal(soft_write_byte(w.cpu, AT(3), 1), FAULT_MAPERR);
	assert_int_equal(do_brk(mm, AT(4)), AT(4));
	assert_int_equal(get(3), 0);
	assert_int_equal(do_brk(mm, AT(1)), AT(1));
	assert_int_equal(mm->map_count, 0);
}

static void it_does_not_go_below_its_beginning_nor_out_of_the_space(void **state)
{
	(void)state;
	assert_int_equal(do_brk(mm, AT(0) + 99), AT(0) + 100);
	assert_int_equal(do_brk(mm, WORLD_HIGH + 1), AT(0) + 100);
	assert_int_equal(do_brk(mm, ~0ULL), AT(0) + 100);
	assert_int_equal(mm->map_count, 0);
}

static void a_page_stays_free_before_what_lies_above(void **state)
{
	(void)state;
	mm->start_brk = mm->brk = AT(0);
	map(6, 1, RW);
	assert_int_equal(do_brk(mm, AT(6)), AT(0));
	assert_int_equal(do_brk(mm, AT(5) + 1), AT(0));
	assert_int_equal(do_brk(mm, AT(5)), AT(5));
	/* What is in the way does not go. */
	assert_int_equal(do_brk(mm, AT(8)), AT(5));
	assert_int_equal(get(6), 0);
}

static void the_gap_of_a_stack_above_stays_free(void **state)
{
	u64 stack = AT(GAP + 10);

	(void)state;
	mm->start_brk = mm->brk = AT(0);
	assert_int_equal(do_mmap(mm, stack, P(2), RW, FIXED | UAPI_MAP_GROWSDOWN, NULL, 0), stack);
	assert_int_equal(do_brk(mm, AT(10)), AT(0));
	assert_int_equal(do_brk(mm, AT(9)), AT(9));
}

static void somebody_elses_area_in_its_place_is_not_cut(void **state)
{
	(void)state;
	mm->start_brk = mm->brk = AT(0);
	assert_int_equal(do_brk(mm, AT(4)), AT(4));
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	assert_int_equal(do_brk(mm, AT(2)), AT(4)); /* there is nothing to take away */
	assert_int_equal(mm->brk, AT(4));
}

static void limits_are_kept(void **state)
{
	(void)state;
	mm->start_brk = mm->brk = AT(0);
	mm->limits.data = P(4);
	mm->data_bytes = 100;
	assert_int_equal(do_brk(mm, AT(4)), AT(0));
	assert_int_equal(do_brk(mm, AT(4) - 100), AT(4) - 100);
	mm->limits.data = ~0ULL;
	mm->limits.as = P(5);
	assert_int_equal(do_brk(mm, AT(6)), AT(4) - 100);
	assert_int_equal(do_brk(mm, AT(5)), AT(5));
	mm->limits.as = ~0ULL;
	mm->limits.map_count = 0;
	assert_int_equal(do_brk(mm, AT(6)), AT(5));
}

static void a_locked_heap_is_brought_in_as_it_grows(void **state)
{
	(void)state;
	mm->start_brk = mm->brk = AT(0);
	mm->limits.memlock = P(3);
	assert_int_equal(do_mlockall(mm, UAPI_MCL_FUTURE), 0);
	assert_int_equal(do_brk(mm, AT(4)), AT(0));
	assert_int_equal(do_brk(mm, AT(3)), AT(3));
	assert_int_equal(mm->locked_vm, 3);
	assert_int_equal(mm->rss, 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(what_ends_where_the_heap_begins_is_none_of_it),
		T(the_heap_is_one_area_from_page_to_page),
		T(it_does_not_go_below_its_beginning_nor_out_of_the_space),
		T(a_page_stays_free_before_what_lies_above),
		T(the_gap_of_a_stack_above_stays_free),
		T(somebody_elses_area_in_its_place_is_not_cut),
		T(limits_are_kept),
		T(a_locked_heap_is_brought_in_as_it_grows),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
