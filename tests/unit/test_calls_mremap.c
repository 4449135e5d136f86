/* SPDX-License-Identifier: MIT */
/*
 * mremap(2): what is refused, in which order, and what has been done by then; how areas grow, are
 * cut off and move.  See also test_calls_change.c.
 */
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define R	  UAPI_PROT_READ
#define W	  UAPI_PROT_WRITE
#define FIXED	  (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)
#define MAYMOVE	  UAPI_MREMAP_MAYMOVE
#define TO	  (UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED)
#define DONTUNMAP UAPI_MREMAP_DONTUNMAP

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	return 0;
}

static void make(unsigned page, unsigned n, u64 prot)
{
	assert_int_equal(do_mmap(mm, AT(page), P(n), prot, FIXED, NULL, 0), AT(page));
}

/* In pages. */
static s64 remap(unsigned page, unsigned old_n, unsigned new_n, u64 flags, unsigned to)
{
	return do_mremap(mm, AT(page), P(old_n), P(new_n), flags, AT(to));
}

static struct vma *area(unsigned page)
{
	struct vma *vma = find_vma(mm, AT(page));

	return vma && vma->start <= AT(page) ? vma : NULL;
}

/* ---- arguments ---- */

static void arguments_are_refused_before_any_area_is_looked_at(void **state)
{
	static const struct {
		u64 addr, old_len, new_len, flags, to;
		s64 result;
	} calls[] = {
		{ AT(0), P(1), P(1), 8, 0, -EINVAL },
		{ AT(0), P(1), P(1), 1ULL << 40, 0, -EINVAL },
		{ AT(0) + 1, P(1), P(1), MAYMOVE, 0, -EINVAL },
		{ AT(0), P(1), 0, MAYMOVE, 0, -EINVAL },
		{ AT(0), P(1), ~0ULL, MAYMOVE, 0, -EINVAL }, /* rounded up it is none */
		{ AT(0), P(1), WORLD_HIGH + 1, MAYMOVE, 0, -EINVAL },
		{ AT(0), P(1), P(1), TO, WORLD_HIGH, -EINVAL },
		{ AT(0), P(1), P(1), TO, AT(9) + 1, -EINVAL },
		{ AT(0), P(1), P(1), MAYMOVE | DONTUNMAP, AT(9) + 1, -EINVAL },
		{ AT(0), P(1), P(1), UAPI_MREMAP_FIXED, AT(9), -EINVAL },
		{ AT(0), P(1), P(1), DONTUNMAP, AT(9), -EINVAL },
		{ AT(0), P(1), P(2), MAYMOVE | DONTUNMAP, AT(9), -EINVAL },
		{ AT(0), P(2), P(2), TO, AT(1), -EINVAL },
		/* Even a hint may not overlap. */
		{ AT(0), P(5), P(5), MAYMOVE | DONTUNMAP, AT(2), -EINVAL },
		/* None of that: there is no area. */
		{ AT(0), 0, P(1), 0, 0, -EFAULT },
		{ AT(0), P(1), P(1), 0, 0, -EFAULT },
		{ AT(0), P(1), P(1), TO, AT(9), -EFAULT },
		{ AT(0), P(5), P(5), MAYMOVE | DONTUNMAP, AT(9), -EFAULT },
		{ -PAGE_SIZE, P(2), P(2), TO, AT(9), -EFAULT },
		{ -PAGE_SIZE, P(2), P(1), 0, 0, -EFAULT },
	};

	(void)state;
	make(9, 1, R | W);
	put(9, 9);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		assert_int_equal(do_mremap(mm, calls[i].addr, calls[i].old_len, calls[i].new_len,
					   calls[i].flags, calls[i].to),
				 calls[i].result);
	assert_int_equal(get(9), 9);
}

static void in_place_and_of_one_size_nobody_looks_where_it_ends(void **state)
{
	(void)state;
	make(0, 1, R);
	assert_int_equal(remap(0, 8, 8, 0, 0), AT(0));
	assert_int_equal(remap(0, 8, 8, MAYMOVE, 0), AT(0));
}

/* ---- growing ---- */

static void what_grows_merges_with_the_area_above_only(void **state)
{
	(void)state;
	/* Pages of their own keep the two apart; moved away, they could be one. */
	make(2, 2, R | W);
	put(2, 2);
	make(0, 1, R | W);
	put(0, 1);
	make(1, 1, R | W);
	assert_int_equal(remap(2, 2, 2, TO | DONTUNMAP, 20), AT(20));
	assert_ptr_not_equal(area(1), area(2));
	make(5, 1, R | W);
	assert_int_equal(remap(2, 2, 3, 0, 0), AT(2));
	assert_ptr_not_equal(area(1), area(2));
	assert_ptr_equal(area(2), area(5));
}

static void what_may_not_expand_may_move_and_be_cut_off(void **state)
{
	(void)state;
	assert_int_equal(vm_map(mm, AT(0), P(4), RW, VMAP_FIXED, VM_DONTEXPAND), AT(0));
	assert_int_equal(remap(0, 4, 5, MAYMOVE, 0), -EFAULT);
	assert_int_equal(remap(0, 4, 4, MAYMOVE | DONTUNMAP, 20), -EINVAL);
	assert_int_equal(remap(0, 4, 3, 0, 0), AT(0));
	assert_int_equal(remap(0, 3, 3, TO, 20), AT(20));
}

static void locked_memory_grows_within_its_limit(void **state)
{
	(void)state;
	assert_int_equal(vm_map(mm, AT(0), P(2), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	mm->limits.memlock = P(3);
	assert_int_equal(remap(0, 2, 4, MAYMOVE, 0), -EAGAIN);
	assert_int_equal(remap(0, 2, 3, MAYMOVE, 0), AT(0));
	assert_int_equal(mm->locked_vm, 3);
	mm->limits.may_lock_all = true;
	assert_int_equal(remap(0, 3, 4, MAYMOVE, 0), AT(0));
}

/* What is there is not promised twice; what stays behind and what is new are promised. */
static void what_is_new_of_it_has_to_be_promised(void **state)
{
	(void)state;
	make(0, 4, R | W);
	make(4, 1, R);
	mm->limits.commit = P(3);
	assert_int_equal(remap(0, 4, 8, MAYMOVE, 0), -ENOMEM);
	assert_int_equal(remap(0, 4, 8, TO, 40), -ENOMEM);
	assert_int_equal(remap(0, 4, 4, TO | DONTUNMAP, 20), -ENOMEM);
	assert_int_equal(remap(0, 4, 7, TO, 40), AT(40));
	assert_int_equal(remap(40, 7, 10, 0, 0), AT(40));
	assert_int_equal(remap(40, 10, 14, 0, 0), -ENOMEM);
	/* What only can be read is promised to nobody. */
	assert_int_equal(remap(4, 1, 9, MAYMOVE, 0), AT(4));
}

/* ---- cutting off ---- */

static void the_range_that_is_cut_off_may_have_other_areas_and_holes(void **state)
{
	(void)state;
	make(0, 4, R | W);
	make(8, 4, R);
	put(0, 1);
	assert_int_equal(remap(0, 10, 2, 0, 0), AT(0));
	assert_true(area(1) && !area(2) && !area(8) && !area(9) && area(10));
	/* And so when it moves. */
	make(4, 1, R);
	assert_int_equal(remap(0, 5, 1, TO, 20), AT(20));
	assert_true(!area(0) && !area(1) && !area(4));
	assert_int_equal(get(20), 1);
}

static void nothing_beyond_user_space_can_be_cut_off(void **state)
{
	(void)state;
	make(0, 4, R | W);
	make(20, 4, R | W);
	put(1, 1);
	assert_int_equal(do_mremap(mm, AT(0), WORLD_HIGH - AT(0) + 1, P(1), 0, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, AT(0), 1ULL << 47, P(1), MAYMOVE, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, AT(2), -P(1), P(1), 0, 0), -EINVAL);
	assert_true(area(20));
	/* The given place has been cleared when that is found. */
	assert_int_equal(do_mremap(mm, AT(2), -P(1), P(1), TO, AT(20)), -EINVAL);
	assert_true(!area(20) && area(21));
	assert_int_equal(get(1), 1);
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(do_mremap(mm, AT(0), WORLD_HIGH - AT(0), P(1), 0, 0), AT(0));
	assert_true(!area(1) && !area(21));
}

/* ---- moving ---- */

static void a_hint_is_taken_where_it_is_free_and_allowed(void **state)
{
	s64 at;

	(void)state;
	make(0, 1, R | W);
	make(9, 1, R | W);
	put(0, 1);
	assert_int_equal(remap(0, 1, 1, MAYMOVE | DONTUNMAP, 8), AT(8));
	assert_int_equal(get(8), 1);
	at = remap(8, 1, 1, MAYMOVE | DONTUNMAP, 9);
	assert_true(at > 0 && at != (s64)AT(9));
	/* mmap(2) would take the lowest address there is. */
	mm->mmap_min = WORLD_LOW + P(4);
	assert_int_equal(do_mremap(mm, AT(9), P(1), P(1), MAYMOVE | DONTUNMAP, WORLD_LOW), -EPERM);
}

static void areas_before_one_that_cannot_be_moved_have_moved(void **state)
{
	(void)state;
	make(0, 2, R | W);
	make(2, 4, R);
	put(0, 1);
	mm->limits.as = P(9);
	assert_int_equal(remap(0, 6, 6, TO | DONTUNMAP, 20), -ENOMEM);
	assert_int_equal(get(20), 1);
	assert_int_equal(get(0), 0);
	assert_true(area(2) && !area(22));
}

static void a_move_needs_room_for_areas_before_it_does_anything(void **state)
{
	(void)state;
	make(0, 4, R | W);
	make(20, 4, R);
	mm->limits.map_count = mm->map_count + 5;
	assert_int_equal(remap(1, 1, 1, TO, 21), -ENOMEM);
	assert_int_equal(mm->map_count, 2);
	mm->limits.map_count++;
	assert_int_equal(remap(1, 1, 1, TO, 21), AT(21));
	assert_int_equal(mm->map_count, 5);
	/* Where the kernel chooses the place, only the move itself has to have room. */
	mm->limits.map_count = mm->map_count + 3;
	assert_int_equal(remap(21, 1, 2, MAYMOVE, 0), -ENOMEM);
	mm->limits.map_count++;
	assert_true(remap(21, 1, 2, MAYMOVE, 0) > 0);
}

static void untouched_memory_may_become_part_of_what_it_left(void **state)
{
	(void)state;
	make(10, 4, R | W);
	assert_int_equal(remap(12, 2, 2, TO, 8), AT(8));
	assert_int_equal(mm->map_count, 1);
	assert_true(area(8) && area(11) && !area(12));
	/* Not so if it has pages: they stay in their places of the whole. */
	put(10, 1);
	assert_int_equal(remap(10, 2, 2, TO, 6), AT(6));
	assert_int_equal(mm->map_count, 2);
	assert_int_equal(get(6), 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(arguments_are_refused_before_any_area_is_looked_at),
		T(in_place_and_of_one_size_nobody_looks_where_it_ends),
		T(what_grows_merges_with_the_area_above_only),
		T(what_may_not_expand_may_move_and_be_cut_off),
		T(locked_memory_grows_within_its_limit),
		T(what_is_new_of_it_has_to_be_promised),
		T(the_range_that_is_cut_off_may_have_other_areas_and_holes),
		T(nothing_beyond_user_space_can_be_cut_off),
		T(a_hint_is_taken_where_it_is_free_and_allowed),
		T(areas_before_one_that_cannot_be_moved_have_moved),
		T(a_move_needs_room_for_areas_before_it_does_anything),
		T(untouched_memory_may_become_part_of_what_it_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
