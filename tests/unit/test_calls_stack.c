/* SPDX-License-Identifier: MIT */
/* Areas that grow downwards: how far, over what, and for whom. */
#include "engine/space/calls.h"
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"

#define FIXED (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)
#define GAP   (STACK_GUARD_GAP >> PAGE_SHIFT)
#define TOP   1000u /* the stack's first page */

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	mm->limits.stack = P(400);
	assert_int_equal(do_mmap(mm, AT(TOP), P(2), RW, FIXED | UAPI_MAP_GROWSDOWN, NULL, 0),
			 AT(TOP));
	return 0;
}

static u64 stack_start(void)
{
	return find_vma(mm, AT(TOP))->start;
}

static enum fault_reason touch(unsigned page)
{
	return soft_write_byte(w.cpu, AT(page), 1);
}

static void it_grows_to_where_it_is_touched(void **state)
{
	(void)state;
	put(TOP, 9);
	assert_int_equal(touch(TOP - 1), FAULT_OK);
	assert_int_equal(stack_start(), AT(TOP - 1));
	assert_int_equal(touch(TOP - 100), FAULT_OK); /* all between is its own from now on */
	assert_int_equal(stack_start(), AT(TOP - 100));
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(mm->stack_vm, 102);
	assert_int_equal(mm->rss, 3);
	assert_int_equal(get(TOP), 9);
	/* Its pages are found where they were. */
	reclaim_range(mm, AT(TOP - 100), AT(TOP + 2));
	assert_int_equal(mm->rss, 0);
	assert_int_equal(get(TOP), 9);
	assert_int_equal(get(TOP - 50), 0);
}

static void the_limits_hold(void **state)
{
	(void)state;
	assert_int_equal(touch(TOP + 2 - 401), FAULT_MAPERR);
	assert_int_equal(touch(TOP + 2 - 400), FAULT_OK);
	mm->limits.as = P(400);
	mm->limits.stack = ~0ULL;
	assert_int_equal(touch(TOP + 2 - 401), FAULT_MAPERR);
	mm->limits.as = ~0ULL;
	mm->limits.commit = P(10);
	assert_int_equal(touch(TOP + 2 - 411), FAULT_MAPERR);
	assert_int_equal(touch(TOP + 2 - 410), FAULT_OK);
	mm->limits.commit = ~0ULL;
	mm->mmap_min = AT(TOP + 2 - 420);
	assert_int_equal(touch(TOP + 2 - 421), FAULT_MAPERR);
	assert_int_equal(touch(TOP + 2 - 420), FAULT_OK);
	mm->mmap_min = WORLD_LOW;
	mm->lsm_mmap_min = AT(TOP + 2 - 430);
	assert_int_equal(touch(TOP + 2 - 431), FAULT_MAPERR);
	assert_int_equal(touch(TOP + 2 - 430), FAULT_OK);
}

static void a_locked_stack_keeps_within_what_may_be_locked(void **state)
{
	(void)state;
	mm->limits.memlock = P(4);
	assert_int_equal(do_mlock(mm, AT(TOP), P(2)), 0);
	assert_int_equal(touch(TOP - 3), FAULT_MAPERR);
	assert_int_equal(touch(TOP - 2), FAULT_OK);
	assert_int_equal(mm->locked_vm, 4);
}

static void a_gap_stays_to_what_can_be_accessed(void **state)
{
	unsigned below = TOP - GAP - 20;

	(void)state;
	map(below - 1, 1, VM_READ);
	assert_int_equal(touch(below + GAP - 1), FAULT_MAPERR);
	assert_int_equal(touch(below + GAP), FAULT_OK);
	assert_int_equal(vm_protect(mm, AT(below - 1), P(1), 0), 0);
	assert_int_equal(touch(below + GAP - 1), FAULT_OK);
	assert_int_equal(touch(below), FAULT_OK);
	assert_int_equal(mm->map_count, 2);
}

static void another_stack_below_needs_none(void **state)
{
	(void)state;
	assert_int_equal(do_mmap(mm, AT(TOP - 300), P(2), RW, FIXED | UAPI_MAP_GROWSDOWN, NULL, 0),
			 AT(TOP - 300));
	assert_int_equal(touch(TOP - 298), FAULT_OK); /* just above the other */
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(stack_start(), AT(TOP - 298));
	/* They are one as soon as either is changed. */
	assert_int_equal(vm_protect(mm, AT(TOP - 299), P(1), VM_READ), 0);
	assert_int_equal(vm_protect(mm, AT(TOP - 299), P(1), RW), 0);
	assert_int_equal(mm->map_count, 1);
}

static void no_other_area_grows(void **state)
{
	(void)state;
	map(TOP + 10, 1, RW);
	assert_int_equal(touch(TOP + 9), FAULT_MAPERR);
	assert_int_equal(soft_write_byte(w.cpu, AT(TOP) - 1, 1), FAULT_OK);
}

/* The old rule: an access too far below the stack pointer is a mistake of the program's. */
static void the_old_rule_looks_at_the_stack_pointer(void **state)
{
	struct task task = { .mm = mm, .pid = 100, .name = "program" };
	struct soft_kernel *k;
	u64 lowest = AT(TOP) - STACK_ACCESS_BELOW_SP, zero = 0;
	struct uaccess user;

	(void)state;
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0xffffc90000000000ULL,
					    0xffffe90000000000ULL, &k),
			 0);
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	k->cpus[0].regs.reg[REG_SP] = AT(TOP);
	k->kernel.old_stack_rule = true;

	soft_write_byte(w.cpu, lowest - 1, 1);
	assert_int_equal(task.signal.sig, SIGNAL_SEGV);
	assert_int_equal(task.signal.code, SEGV_MAPERR);
	assert_int_equal(stack_start(), AT(TOP));
	task.signal.sig = 0;
	soft_write_byte(w.cpu, lowest, 1);
	assert_int_equal(task.signal.sig, 0);
	assert_int_equal(stack_start(), lowest & PAGE_MASK);
	/* The kernel's own accesses for the program know of no stack pointer. */
	user = soft_uaccess(k, 0);
	assert_int_equal(put_user(&user, zero, AT(TOP - 200), sizeof(zero)), 0);
	assert_int_equal(stack_start(), AT(TOP - 200));
	k->kernel.old_stack_rule = false;
	soft_write_byte(w.cpu, AT(TOP - 300), 1);
	assert_int_equal(task.signal.sig, 0);

	soft_load_mm(w.cpu, NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(it_grows_to_where_it_is_touched),
		T(the_limits_hold),
		T(a_locked_stack_keeps_within_what_may_be_locked),
		T(a_gap_stays_to_what_can_be_accessed),
		T(another_stack_below_needs_none),
		T(no_other_area_grows),
		T(the_old_rule_looks_at_the_stack_pointer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
