/* SPDX-License-Identifier: MIT */
/*
 * mmap(2): what is refused, in which order, and what an area is then.  What the running kernel does
 * with any arguments at all is compared by tests/differential; here are the rules that depend on
 * limits, which it cannot set, and those worth a name.
 */
#include "engine/backing/file.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define PRIVATE (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS)
#define FIXED	(PRIVATE | UAPI_MAP_FIXED)
#define R	UAPI_PROT_READ
#define W	UAPI_PROT_WRITE

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	mm->mmap_min = WORLD_LOW + P(4);
	return 0;
}

static s64 map_at(u64 addr, u64 pages, u64 prot, u64 flags)
{
	return do_mmap(mm, addr, P(pages), prot, flags, NULL, 0);
}

static u32 flags_at(unsigned page)
{
	struct vma *vma = find_vma(mm, AT(page));

	assert_true(vma && vma->start <= AT(page));
	return vma->flags;
}

static void lengths_offsets_and_types_are_checked_first(void **state)
{
	(void)state;
	assert_int_equal(do_mmap(mm, AT(0), 0, R, FIXED, NULL, 0), -EINVAL);
	assert_int_equal(do_mmap(mm, AT(0), P(1), R, FIXED, NULL, 1), -EINVAL);
	assert_int_equal(do_mmap(mm, AT(0), ~0ULL, R, FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(do_mmap(mm, AT(0), 1ULL << 60, R, FIXED, NULL, 0), -ENOMEM);
	assert_int_equal(do_mmap(mm, AT(0), P(1), R, FIXED, NULL, ~0ULL << PAGE_SHIFT), AT(0));
	assert_int_equal(do_mmap(mm, AT(0), P(2), R, FIXED, NULL, ~0ULL << PAGE_SHIFT),
			 AT(0)); /* the sum is a page number, and small enough */
	assert_int_equal(map_at(AT(0), 1, R, UAPI_MAP_ANONYMOUS), -EINVAL);
	assert_int_equal(map_at(AT(0), 1, R, UAPI_MAP_ANONYMOUS | UAPI_MAP_SHARED_VALIDATE),
			 -EINVAL);
}

/* A directory, a pipe; where nothing may be executed that is said first. */
static void what_has_no_pages_is_no_device_for_mmap(void **state)
{
	struct file directory = { .refcount = 1, .mode = FILE_READ };
	struct file pipe = { .refcount = 1, .mode = FILE_READ | FILE_NOEXEC };
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	(void)state;
	assert_int_equal(do_mmap(mm, AT(0), P(1), R, flags, &directory, 0), -ENODEV);
	assert_int_equal(do_mmap(mm, AT(0), P(1), R | UAPI_PROT_EXEC, flags, &directory, 0),
			 -ENODEV);
	assert_int_equal(do_mmap(mm, AT(0), P(1), R | UAPI_PROT_EXEC, flags, &pipe, 0), -EPERM);
	assert_int_equal(do_mmap(mm, AT(0), P(1), R, flags, &pipe, 0), -ENODEV);
	flags ^= UAPI_MAP_PRIVATE | UAPI_MAP_SHARED;
	assert_int_equal(do_mmap(mm, AT(0), P(1), R | W, flags, &pipe, 0), -EACCES);
	assert_int_equal(mm->map_count, 0);
}

static void a_fixed_address_is_taken_as_it_is_or_refused(void **state)
{
	(void)state;
	assert_int_equal(map_at(AT(0) + 1, 1, R, FIXED), -EINVAL);
	assert_int_equal(map_at(WORLD_LOW, 1, R, FIXED), -EPERM);
	assert_int_equal(map_at(WORLD_HIGH, 1, R, FIXED), -ENOMEM);
	assert_int_equal(map_at(AT(0), 1, R, FIXED), AT(0));
	assert_int_equal(map_at(AT(0), 1, R, PRIVATE | UAPI_MAP_FIXED_NOREPLACE), -EEXIST);
	assert_int_equal(map_at(AT(1), 1, R, PRIVATE | UAPI_MAP_FIXED_NOREPLACE), AT(1));
}

static void a_hint_is_rounded_down_and_honoured_if_it_is_free(void **state)
{
	(void)state;
	assert_int_equal(map_at(AT(3) + 4000, 1, R, PRIVATE), AT(3));
	assert_int_not_equal(map_at(AT(3), 1, R, PRIVATE), AT(3));
	assert_int_equal(map_at(1, 1, R, PRIVATE) & ~(s64)PAGE_MASK, 0);
	assert_true((u64)map_at(WORLD_LOW + 1, 1, R, PRIVATE) >= mm->mmap_min);
	assert_true((u64)map_at(WORLD_HIGH - 1, 1, R, PRIVATE) < WORLD_HIGH);
}

static void a_hint_is_raised_to_what_the_system_was_built_with(void **state)
{
	(void)state;
	mm->lsm_mmap_min = mm->mmap_min + P(4);
	assert_int_equal(map_at(WORLD_LOW + P(1), 1, R, PRIVATE), mm->lsm_mmap_min);
	assert_int_equal(map_at(mm->mmap_min - 1, 1, R, FIXED), -EINVAL);
	assert_int_equal(map_at(mm->mmap_min - P(1), 1, R, FIXED), -EPERM);
	assert_int_equal(map_at(mm->mmap_min, 1, R, FIXED), mm->mmap_min);
}

/* A page leads to one family of areas: two that have each pages of their own cannot become one. */
static void areas_with_pages_of_their_own_stay_two_when_the_gap_is_filled(void **state)
{
	(void)state;
	map_at(AT(0), 1, R | W, FIXED);
	put(0, 1);
	map_at(AT(2), 1, R | W, FIXED);
	put(2, 3);
	map_at(AT(1), 1, R | W, FIXED);
	put(1, 2);
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(find_vma(mm, AT(0))->end, AT(2));
	assert_int_equal(get(0) + get(1) + get(2), 6);
}

static void nothing_goes_into_the_gap_below_a_stack(void **state)
{
	u64 top = WORLD_HIGH;
	s64 at;

	(void)state;
	/* A stack at the very top, and all else from there down. */
	assert_int_equal(map_at(top - P(4), 4, R | W, FIXED | UAPI_MAP_GROWSDOWN), top - P(4));
	at = map_at(0, 8, R, PRIVATE);
	assert_int_equal(at, top - P(4) - STACK_GUARD_GAP - P(8));
	at = map_at(top - P(12), 8, R, PRIVATE); /* a hint is no reason */
	assert_true((u64)at + P(8) <= top - P(4) - STACK_GUARD_GAP);
	/* Who insists gets it. */
	assert_int_equal(map_at(top - P(8), 4, R, FIXED), top - P(8));
}

static void the_limit_on_address_space_binds_all_areas(void **state)
{
	(void)state;
	mm->limits.as = P(10);
	assert_int_equal(map_at(AT(0), 8, 0, FIXED), AT(0));
	assert_int_equal(map_at(AT(20), 3, R, FIXED), -ENOMEM);
	/* What is replaced does not count. */
	assert_int_equal(map_at(AT(6), 4, R, FIXED), AT(6));
	assert_int_equal(mm->total_vm, 10);
}

static void the_limit_on_data_binds_private_writable_areas(void **state)
{
	(void)state;
	mm->limits.data = P(4);
	assert_int_equal(map_at(AT(0), 100, R, FIXED), AT(0));
	assert_int_equal(map_at(AT(200), 5, R | W, FIXED), -ENOMEM);
	/* In place of as much as it takes it is not looked at, whatever that was. */
	assert_int_equal(map_at(AT(0), 4, R | W, FIXED), AT(0));
	assert_int_equal(mm->data_vm, 4);
	/* So does mprotect, but only if it is what is too much. */
	assert_int_equal(vm_protect(mm, AT(4), P(1), VM_READ | VM_WRITE), -ENOMEM);
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
	assert_int_equal(vm_protect(mm, AT(4), P(1), VM_READ | VM_WRITE), 0);
}

static void locked_memory_has_a_limit_of_its_own(void **state)
{
	(void)state;
	mm->limits.memlock = P(2);
	assert_int_equal(map_at(AT(0), 3, R, FIXED | UAPI_MAP_LOCKED), -EAGAIN);
	assert_int_equal(map_at(AT(0), 2, R, FIXED | UAPI_MAP_LOCKED), AT(0));
	assert_int_equal(mm->locked_vm, 2);
	assert_int_equal(map_at(AT(4), 1, R, FIXED | UAPI_MAP_LOCKED), -EAGAIN);
	mm->limits.memlock = 0;
	assert_int_equal(map_at(AT(4), 1, R, FIXED | UAPI_MAP_LOCKED), -EPERM);
	mm->limits.may_lock_all = true;
	assert_int_equal(map_at(AT(4), 1, R, FIXED | UAPI_MAP_LOCKED), AT(4));
	/* mlockall(MCL_FUTURE) is asked for by nobody in particular. */
	mm->limits.may_lock_all = false;
	mm->def_flags = VM_LOCKED;
	assert_int_equal(map_at(AT(8), 1, R, FIXED), -EAGAIN);
}

static void there_can_be_so_many_areas_and_one_more(void **state)
{
	(void)state;
	mm->limits.map_count = 3;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(map_at(AT(2 * i), 1, R, FIXED), AT(2 * i));
	assert_int_equal(map_at(AT(20), 1, R, FIXED), -ENOMEM);
	/* Even where it would merge, for that is found out later. */
	assert_int_equal(map_at(AT(7), 1, R, FIXED), -ENOMEM);
}

static void what_cannot_be_promised_is_refused_and_nothing_is_lost(void **state)
{
	(void)state;
	mm->limits.commit = P(8);
	map(0, 4, RW);
	put(1, 7);
	assert_int_equal(map_at(AT(0), 9, R | W, FIXED), -ENOMEM);
	assert_int_equal(get(1), 7);
	assert_int_equal(map_at(AT(20), 9, R, FIXED), AT(20));
	assert_int_equal(map_at(AT(40), 9, R | W, FIXED | UAPI_MAP_NORESERVE), AT(40));
	assert_int_equal(vm_protect(mm, AT(20), P(9), VM_READ | VM_WRITE), -ENOMEM);
}

static void what_is_promised_decides_what_merges(void **state)
{
	(void)state;
	assert_int_equal(map_at(AT(0), 2, R, FIXED), AT(0));
	assert_false(flags_at(0) & VM_ACCOUNT);
	vm_protect(mm, AT(0), P(1), VM_READ | VM_WRITE);
	assert_true(flags_at(0) & VM_ACCOUNT);
	/* Never touched: the promise is taken back, and the two are one again. */
	vm_protect(mm, AT(0), P(1), VM_READ);
	assert_int_equal(mm->map_count, 1);
	vm_protect(mm, AT(0), P(1), VM_READ | VM_WRITE);
	put(0, 1);
	vm_protect(mm, AT(0), P(1), VM_READ);
	assert_true(flags_at(0) & VM_ACCOUNT);
	assert_int_equal(mm->map_count, 2);
}

static void droppable_memory_is_of_its_own_kind(void **state)
{
	u64 droppable = UAPI_MAP_DROPPABLE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED;

	(void)state;
	assert_int_equal(map_at(AT(0), 1, R | W, droppable), AT(0));
	assert_true(flags_at(0) & VM_WIPEONFORK);
	assert_true(flags_at(0) & VM_DONTDUMP);
	assert_true(flags_at(0) & VM_NORESERVE);
	assert_int_equal(map_at(AT(1), 1, R | W, droppable | UAPI_MAP_LOCKED), -EINVAL);
	assert_int_equal(map_at(AT(1), 1, R | W, droppable | UAPI_MAP_GROWSDOWN), -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(lengths_offsets_and_types_are_checked_first),
		T(what_has_no_pages_is_no_device_for_mmap),
		T(a_fixed_address_is_taken_as_it_is_or_refused),
		T(a_hint_is_rounded_down_and_honoured_if_it_is_free),
		T(a_hint_is_raised_to_what_the_system_was_built_with),
		T(areas_with_pages_of_their_own_stay_two_when_the_gap_is_filled),
		T(nothing_goes_into_the_gap_below_a_stack),
		T(the_limit_on_address_space_binds_all_areas),
		T(the_limit_on_data_binds_private_writable_areas),
		T(locked_memory_has_a_limit_of_its_own),
		T(there_can_be_so_many_areas_and_one_more),
		T(what_cannot_be_promised_is_refused_and_nothing_is_lost),
		T(what_is_promised_decides_what_merges),
		T(droppable_memory_is_of_its_own_kind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
