/* SPDX-License-Identifier: MIT */
/*
 * Growing a stack while others change the layout.  Who touches below one has to let go of mmap_lock
 * between seeing the stack and making it grow; here something else is done in between, each time.
 */
#include "engine/space/calls.h"
#include "engine/userfault/hooks.h"
#include "engine/space/internal.h"
#include "tests/unit/turns.h"

#define TOP	   1000u /* the upper stack's first page */
#define LOWER	   700u	 /* the lower stack's */
#define ATTEMPTS   100
#define STACK_FLAG (VM_GROWSDOWN | RW | VM_MAYACCESS)

static unsigned touched;
static enum fault_reason reason;

static int setup(void **state)
{
	(void)state;
	start_turns((struct world_options){ .frames = 512 });
	mm->limits.stack = P(400);
	return 0;
}

static void make_stack(unsigned page)
{
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED | UAPI_MAP_GROWSDOWN;

	assert_int_equal(do_mmap(mm, AT(page), P(2), RW, flags, NULL, 0), AT(page));
}

/* Two stacks, two pages each, and nothing else. */
static void lay_out(void)
{
	assert_int_equal(vm_unmap(mm, AT(0), P(2000)), 0);
	make_stack(TOP);
	make_stack(LOWER);
}

static u64 start_of(unsigned page)
{
	return find_vma(mm, AT(page))->start;
}

static void touch_on_cpu1(void)
{
	reason = soft_write_byte(cpu1, AT(touched), 1);
}

/* A writer that waits lets no more readers in. */
static bool a_writer_waits(void)
{
	if (!down_read_trylock(&mm->mmap_lock))
		return true;
	up_read(&mm->mmap_lock);
	return false;
}

/*
 * CPU 1 touches the page and comes to where it waits for mmap_lock to make a stack grow; then
 * `meanwhile` is done, with the lock held for writing.  The lock does not say who of two writers is
 * first: if it was CPU 1, all is done again.
 */
static void touch_and_meanwhile(unsigned page, void (*meanwhile)(void))
{
	bool first = false;

	for (unsigned i = 0; i < ATTEMPTS && !first; i++) {
		lay_out();
		touched = page;
		down_read(&mm->mmap_lock);
		begin(touch_on_cpu1);
		waits(a_writer_waits);
		up_read(&mm->mmap_lock);
		down_write(&mm->mmap_lock);
		first = start_of(TOP) == AT(TOP) && start_of(LOWER) == AT(LOWER);
		if (first)
			meanwhile();
		mmap_write_unlock(mm);
		join();
	}
	assert_true(first);
}

/* ---- the same stack ---- */

static void grow_it_by_100(void)
{
	assert_int_equal(expand_stack(find_vma(mm, AT(TOP)), AT(TOP - 100)), 0);
}

static void grow_it_by_5(void)
{
	assert_int_equal(expand_stack(find_vma(mm, AT(TOP)), AT(TOP - 5)), 0);
}

static void who_comes_second_finds_the_stack_grown(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, grow_it_by_100);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP - 100));
	assert_int_equal(mm->stack_vm, 102 + 2);
	assert_int_equal(mm->rss, 1);
}

static void who_comes_second_makes_it_grow_by_what_is_missing(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, grow_it_by_5);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP - 10));
	assert_int_equal(mm->stack_vm, 12 + 2);
}

static void touch_lower_on_cpu1(void)
{
	reason = soft_write_byte(cpu1, AT(TOP - 20), 1);
}

/* Both have faulted before either looks for a stack. */
static void two_faults_below_one_stack_are_both_served(void **state)
{
	(void)state;
	lay_out();
	at.trap = touch_lower_on_cpu1;
	write_on(cpu0, TOP - 10, 1);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP - 20));
	assert_int_equal(mm->stack_vm, 22 + 2);
	assert_int_equal(mm->rss, 2);
}

/* ---- two stacks ---- */

static void grow_the_lower(void)
{
	assert_int_equal(expand_stack(find_vma(mm, AT(LOWER)), AT(LOWER - 50)), 0);
}

/* Up to the lower stack's end: no gap is kept between two. */
static void two_stacks_grow_at_once(void **state)
{
	(void)state;
	touch_and_meanwhile(LOWER + 2, grow_the_lower);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(LOWER + 2));
	assert_int_equal(start_of(LOWER), AT(LOWER - 50));
	assert_int_equal(mm->stack_vm, TOP - LOWER + 52);
	assert_int_equal(mm->map_count, 2);
}

static void add_area(unsigned page, unsigned n, u32 flags)
{
	struct vma *vma = vma_new(mm, AT(page), AT(page + n), AT(page) >> PAGE_SHIFT, flags);

	assert_non_null(vma);
	vma_link(mm, vma);
	vm_stat_account(mm, flags, n);
}

static void a_stack_comes_between(void)
{
	add_area(TOP - 8, 2, STACK_FLAG);
}

static void the_nearest_stack_above_is_the_one_that_grows(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, a_stack_comes_between);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP));
	assert_int_equal(start_of(TOP - 8), AT(TOP - 10));
}

static void a_stack_comes_just_below(void)
{
	add_area(TOP - 12, 2, STACK_FLAG);
}

static void a_stack_that_came_meanwhile_is_grown_up_to(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, a_stack_comes_just_below);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP - 10));
	assert_int_equal(start_of(TOP - 12), AT(TOP - 12));
}

static void the_upper_goes(void)
{
	assert_int_equal(unmap_range(mm, AT(TOP), AT(TOP + 2)), 0);
}

static void a_stack_that_is_gone_does_not_grow(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, the_upper_goes);
	assert_int_equal(reason, FAULT_MAPERR);
	assert_null(find_vma(mm, AT(LOWER + 2)));
	assert_int_equal(mm->stack_vm, 2);
}

/* ---- other areas ---- */

static void an_area_comes_within_the_gap(void)
{
	add_area(TOP - 200, 1, RW | VM_MAYACCESS);
}

static void the_gap_is_kept_to_what_came_meanwhile(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, an_area_comes_within_the_gap);
	assert_int_equal(reason, FAULT_MAPERR);
	assert_int_equal(start_of(TOP), AT(TOP));
	assert_int_equal(mm->stack_vm, 4);
}

static void an_area_comes_where_it_is_touched(void)
{
	add_area(TOP - 20, 15, RW | VM_MAYACCESS);
}

static void what_was_mapped_there_meanwhile_is_touched(void **state)
{
	(void)state;
	touch_and_meanwhile(TOP - 10, an_area_comes_where_it_is_touched);
	assert_int_equal(reason, FAULT_OK);
	assert_int_equal(start_of(TOP), AT(TOP));
	assert_int_equal(start_of(TOP - 10), AT(TOP - 20));
	assert_int_equal(mm->rss, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_turns)
	const struct CMUnitTest tests[] = {
		T(who_comes_second_finds_the_stack_grown),
		T(who_comes_second_makes_it_grow_by_what_is_missing),
		T(two_faults_below_one_stack_are_both_served),
		T(two_stacks_grow_at_once),
		T(the_nearest_stack_above_is_the_one_that_grows),
		T(a_stack_that_came_meanwhile_is_grown_up_to),
		T(a_stack_that_is_gone_does_not_grow),
		T(the_gap_is_kept_to_what_came_meanwhile),
		T(what_was_mapped_there_meanwhile_is_touched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
