/* SPDX-License-Identifier: MIT */
/* Address spaces: what the layout calls do, and what they answer.  Numbers are Linux's. */
#include "tests/unit/one_world.h"

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	return 0;
}

static enum fault_reason try_read(unsigned page)
{
	u8 byte;

	return soft_read_byte(w.cpu, AT(page), &byte);
}

/* The layout as text: "0-4rw 6-8r", in pages from BASE. */
static const char *layout(void)
{
	static char text[512];
	struct vma *vma;
	size_t at = 0;

	mm_check(mm);
	text[0] = 0;
	for (vma = find_vma(mm, 0); vma; vma = vma_next(vma))
		at += snprintf(text + at, sizeof(text) - at, "%s%d-%d%s%s%s", at ? " " : "",
			       (int)((vma->start - BASE) / PAGE_SIZE),
			       (int)((vma->end - BASE) / PAGE_SIZE),
			       vma->flags & VM_READ ? "r" : "", vma->flags & VM_WRITE ? "w" : "",
			       vma->flags & VM_EXEC ? "x" : "");
	return text;
}

#define assert_layout(text) assert_string_equal(layout(), text)

/* ---- map ---- */

static void map_errors(void **state)
{
	(void)state;
	assert_int_equal(vm_map(mm, 0, 0, RW, 0, 0), -EINVAL);
	assert_int_equal(vm_map(mm, 0, ~0ULL, RW, 0, 0), -ENOMEM);
	assert_int_equal(vm_map(mm, 0, ~0ULL - 4096, RW, 0, 0), -ENOMEM);
	assert_int_equal(vm_map(mm, 0, 1ULL << 47, RW, 0, 0), -ENOMEM);
	assert_int_equal(vm_map(mm, AT(0) + 1, P(1), RW, VMAP_FIXED, 0), -EINVAL);
	assert_int_equal(vm_map(mm, WORLD_HIGH, P(1), RW, VMAP_FIXED, 0), -ENOMEM);
	assert_int_equal(vm_map(mm, WORLD_LOW - P(1), P(1), RW, VMAP_FIXED, 0), -ENOMEM);
	map(3, 1, RW);
	assert_int_equal(vm_map(mm, AT(0), P(4), RW, VMAP_FIXED_NOREPLACE, 0), -EEXIST);
	assert_int_equal(vm_map(mm, AT(0), P(3), RW, VMAP_FIXED_NOREPLACE, 0), AT(0));
	assert_layout("0-4rw");
}

static void map_takes_the_highest_hole(void **state)
{
	s64 a, b, c;

	(void)state;
	a = vm_map(mm, 0, P(4), RW, 0, 0);
	assert_int_equal(a, WORLD_HIGH - P(4));
	b = vm_map(mm, 0, P(2), VM_READ, 0, 0);
	assert_int_equal(b, a - P(2));
	c = vm_map(mm, 0, P(8), RW, 0, 0);
	assert_int_equal(c, b - P(8));
	assert_int_equal(vm_unmap(mm, b, P(2)), 0);
	assert_int_equal(vm_map(mm, 0, P(3), RW, 0, 0), c - P(3));
	assert_int_equal(vm_map(mm, 0, 100, VM_READ, 0, 0), a - P(1));
	/* A hint that is free is taken, rounded up; one that is not is not. */
	assert_int_equal(vm_map(mm, AT(7) - 5, P(1), RW, 0, 0), AT(7));
	assert_int_equal(vm_map(mm, AT(7), P(1), VM_READ, 0, 0), a - P(2));
}

static void a_hole_of_every_size_is_found(void **state)
{
	u64 rnd = 7;

	(void)state;
	for (unsigned i = 0; i < 300; i++)
		vm_map(mm, AT(rnd_below(&rnd, 5000)), P(1 + rnd_below(&rnd, 12)),
		       i & 1 ? RW : VM_READ, VMAP_FIXED, 0);
	mm_check(mm);
	for (unsigned k = 0; k < 3000; k++) {
		u64 len = P(1 + rnd_below(&rnd, 40)), below = AT(rnd_below(&rnd, 5200));
		u64 got = vma_find_hole(mm, len, below), best = 0, end = below;
		struct vma *vma;

		/* The same by looking at each. */
		for (u64 bottom = mm->low, top;;) {
			vma = find_vma(mm, bottom);
			top = min_of(vma ? vma->start : mm->high, end);
			if (top > bottom && top - bottom >= len)
				best = top - len;
			if (!vma || vma->end >= end)
				break;
			bottom = vma->end;
		}
		assert_int_equal(got, best);
	}
}

static void neighbours_that_are_alike_are_one(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(2, 2, RW);
	assert_layout("0-4rw");
	map(6, 2, RW);
	map(4, 2, RW);
	assert_layout("0-8rw");
	map(8, 1, VM_READ);
	assert_layout("0-8rw 8-9r");
}

static void a_touched_one_merges_with_an_untouched_one(void **state)
{
	(void)state;
	map(0, 2, RW);
	put(0, 1);
	map(2, 2, RW);
	assert_layout("0-4rw");
	put(3, 7);
	assert_int_equal(get(0), 1);
	assert_int_equal(get(3), 7);
}

static void a_gap_between_two_touched_ones_leaves_two(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(4, 2, RW);
	put(0, 1);
	put(4, 2);
	map(2, 2, RW);
	assert_layout("0-4rw 4-6rw");
	put(2, 3);
	assert_int_equal(get(0) + get(2) + get(4), 6);
}

/* ---- unmap ---- */

static void unmap_errors(void **state)
{
	(void)state;
	assert_int_equal(vm_unmap(mm, AT(0) + 1, P(1)), -EINVAL);
	assert_int_equal(vm_unmap(mm, AT(0), 0), -EINVAL);
	assert_int_equal(vm_unmap(mm, AT(0), ~0ULL), -EINVAL);
	assert_int_equal(vm_unmap(mm, WORLD_HIGH, P(1)), -EINVAL);
	assert_int_equal(vm_unmap(mm, AT(0), P(1)), 0);
}

static void unmap_in_the_middle_splits_in_two(void **state)
{
	(void)state;
	map(0, 9, RW);
	for (unsigned i = 0; i < 9; i++)
		put(i, i + 1);
	assert_int_equal(vm_unmap(mm, AT(3), P(3)), 0);
	assert_layout("0-3rw 6-9rw");
	assert_int_equal(mm->rss, 6);
	assert_int_equal(try_read(4), FAULT_MAPERR);
	assert_int_equal(get(2), 3);
	assert_int_equal(get(8), 9);
	/* What was there does not come back. */
	map(3, 3, RW);
	assert_layout("0-9rw");
	assert_int_equal(get(4), 0);
}

static void unmap_over_several_with_holes(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(3, 2, VM_READ);
	map(6, 4, RW);
	assert_int_equal(vm_unmap(mm, AT(1), P(7)), 0);
	assert_layout("0-1rw 8-10rw");
}

static void tables_go_with_what_they_cover(void **state)
{
	s64 before = mm->tables;

	(void)state;
	map(0, 2048, RW);
	for (unsigned i = 0; i < 2048; i += 100)
		put(i, 1);
	assert_true(mm->tables >= before + 4);
	assert_int_equal(vm_unmap(mm, AT(0), P(2048)), 0);
	assert_int_equal(mm->tables, before);
	assert_int_equal(mm->rss, 0);
}

static void a_table_that_a_neighbour_needs_stays(void **state)
{
	(void)state;
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	assert_int_equal(get(7), 7);
}

/* ---- protect ---- */

static void protect_errors(void **state)
{
	(void)state;
	assert_int_equal(vm_protect(mm, AT(0) + 1, P(1), RW), -EINVAL);
	assert_int_equal(vm_protect(mm, AT(0), P(1), 0x100), -EINVAL);
	assert_int_equal(vm_protect(mm, AT(0), 0, RW), 0);
	assert_int_equal(vm_protect(mm, AT(0), P(1), RW), -ENOMEM);
	assert_int_equal(vm_protect(mm, AT(0), ~0ULL - P(3), RW), -ENOMEM);
}

static void protect_in_the_middle_makes_three_and_back_one(void **state)
{
	(void)state;
	map(0, 9, RW);
	for (unsigned i = 0; i < 9; i++)
		put(i, i + 1);
	assert_int_equal(vm_protect(mm, AT(3), P(3), VM_READ), 0);
	assert_layout("0-3rw 3-6r 6-9rw");
	assert_int_equal(soft_write_byte(w.cpu, AT(4), 9), FAULT_ACCERR);
	assert_int_equal(w.cpu->error_code, PF_USER | PF_WRITE | PF_PROT);
	assert_int_equal(get(4), 5);
	assert_int_equal(vm_protect(mm, AT(3), P(3), RW), 0);
	assert_layout("0-9rw");
	put(4, 50);
	assert_int_equal(get(4), 50);
}

static void protect_stops_at_a_hole(void **state)
{
	(void)state;
	map(0, 4, RW);
	map(6, 2, RW);
	assert_int_equal(vm_protect(mm, AT(2), P(6), VM_READ), -ENOMEM);
	assert_layout("0-2rw 2-4r 6-8rw");
}

static void a_page_that_nobody_may_access_keeps_its_bytes(void **state)
{
	(void)state;
	map(0, 2, RW);
	put(0, 5);
	assert_int_equal(vm_protect(mm, AT(0), P(2), 0), 0);
	assert_int_equal(try_read(0), FAULT_ACCERR);
	assert_int_equal(w.cpu->error_code, PF_USER); /* not present, as on Linux */
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 9), FAULT_ACCERR);
	assert_int_equal(mm->rss, 1);
	/* It can be taken, and comes back. */
	assert_int_equal(reclaim_range(mm, AT(0), AT(2)), 1);
	assert_int_equal(mm->swapped, 1);
	assert_int_equal(vm_protect(mm, AT(0), P(2), VM_READ), 0);
	assert_int_equal(get(0), 5);
}

static void fetching_needs_the_right_to(void **state)
{
	u8 byte;

	(void)state;
	map(0, 1, RW);
	put(0, 1);
	assert_int_equal(soft_fetch(w.cpu, AT(0), &byte, 1), FAULT_ACCERR);
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ | VM_EXEC), 0);
	assert_int_equal(soft_fetch(w.cpu, AT(0), &byte, 1), FAULT_OK);
}

/* ---- advise ---- */

static void dontneed_gives_zeros(void **state)
{
	(void)state;
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		put(i, 9);
	assert_int_equal(vm_advise(mm, AT(1), P(2), VADV_DONTNEED), 0);
	assert_int_equal(mm->rss, 2);
	assert_int_equal(get(0) + get(1) + get(2) + get(3), 18);
}

static void advise_does_both_sides_of_a_hole(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(4, 2, RW);
	put(1, 9);
	put(4, 9);
	assert_int_equal(vm_advise(mm, AT(0), P(6), VADV_DONTNEED), -ENOMEM);
	assert_int_equal(get(1) + get(4), 0);
	assert_int_equal(vm_advise(mm, AT(0), P(1), 99), -EINVAL);
	assert_int_equal(vm_advise(mm, AT(0), 0, 99), -EINVAL);
	assert_int_equal(vm_advise(mm, AT(0), 0, VADV_DONTNEED), 0);
	assert_int_equal(vm_advise(mm, AT(0) + 1, P(1), VADV_DONTNEED), -EINVAL);
}

static void locked_memory_is_not_dropped(void **state)
{
	(void)state;
	assert_int_equal(vm_map(mm, AT(0), P(1), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	put(0, 3);
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), -EINVAL);
	assert_int_equal(get(0), 3);
}

/* ---- remap ---- */

static void remap_errors(void **state)
{
	const u32 may = VREMAP_MAYMOVE, fix = VREMAP_MAYMOVE | VREMAP_FIXED;
	const u32 keep = VREMAP_MAYMOVE | VREMAP_DONTUNMAP;

	(void)state;
	map(0, 4, RW);
	map(4, 2, VM_READ);
	assert_int_equal(vm_remap(mm, AT(0), P(1), P(1), 8, 0), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), P(1), P(1), VREMAP_FIXED, AT(50)), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0) + 1, P(1), P(1), may, 0), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), P(1), 0, may, 0), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), 0, P(1), may, 0), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), P(1), P(1), fix, AT(50) + 1), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), P(2), P(2), fix, AT(1)), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(0), P(2), P(1), keep, AT(50)), -EINVAL);
	assert_int_equal(vm_remap(mm, AT(50), P(1), P(2), may, 0), -EFAULT);
	assert_int_equal(vm_remap(mm, AT(3), P(2), P(3), may, 0), -EFAULT);
	assert_int_equal(vm_remap(mm, AT(0), P(4), P(5), 0, 0), -ENOMEM);
	assert_int_equal(vm_remap(mm, AT(0), P(6), P(6), 0, 0), AT(0));
	assert_layout("0-4rw 4-6r");
}

static void remap_shrinks_and_grows_in_place(void **state)
{
	(void)state;
	map(0, 4, RW);
	put(3, 3);
	assert_int_equal(vm_remap(mm, AT(0), P(4), P(2), 0, 0), AT(0));
	assert_layout("0-2rw");
	assert_int_equal(vm_remap(mm, AT(0), P(2), P(6), 0, 0), AT(0));
	assert_layout("0-6rw");
	assert_int_equal(get(3), 0);
}

static void remap_moves_what_cannot_grow(void **state)
{
	s64 to;
	u8 byte;

	(void)state;
	map(0, 4, RW);
	map(4, 1, VM_READ);
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 1);
	to = vm_remap(mm, AT(0), P(4), P(8), VREMAP_MAYMOVE, 0);
	assert_int_equal(to, WORLD_HIGH - P(8));
	assert_int_equal(try_read(0), FAULT_MAPERR);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(soft_read_byte(w.cpu, to + P(i), &byte), FAULT_OK);
		assert_int_equal(byte, i + 1);
	}
	assert_int_equal(soft_read_byte(w.cpu, to + P(7), &byte), FAULT_OK);
	assert_int_equal(byte, 0);
	assert_int_equal(mm->rss, 4);
}

static void a_moved_page_can_still_be_taken(void **state)
{
	(void)state;
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 1);
	assert_int_equal(vm_remap(mm, AT(1), P(2), P(2), VREMAP_MAYMOVE | VREMAP_FIXED, AT(600)),
			 AT(600));
	/* A new mapping in the old place has the same linear index and anon_vma. */
	map(1, 2, RW);
	assert_layout("0-4rw 600-602rw");
	put(1, 70);
	assert_int_equal(reclaim_direct(w.e, 5), 5);
	assert_int_equal(mm->rss, 0);
	mm_check(mm);
	assert_int_equal(get(0), 1);
	assert_int_equal(get(1), 70);
	assert_int_equal(get(2), 0);
	assert_int_equal(get(600), 2);
	assert_int_equal(get(601), 3);
}

static void remap_over_several_of_one_size(void **state)
{
	(void)state;
	map(0, 2, RW);
	map(2, 2, VM_READ);
	put(1, 4);
	assert_int_equal(vm_remap(mm, AT(0), P(4), P(4), VREMAP_MAYMOVE | VREMAP_FIXED, AT(20)),
			 AT(20));
	assert_layout("20-22rw 22-24r");
	assert_int_equal(get(21), 4);
}

static void dontunmap_leaves_it_empty(void **state)
{
	(void)state;
	map(0, 4, RW);
	put(1, 4);
	assert_int_equal(vm_remap(mm, AT(0), P(4), P(4),
				  VREMAP_MAYMOVE | VREMAP_FIXED | VREMAP_DONTUNMAP, AT(20)),
			 AT(20));
	assert_layout("0-4rw 20-24rw");
	assert_int_equal(get(1), 0);
	assert_int_equal(get(21), 4);
}

static void dontunmap_next_door_makes_one(void **state)
{
	(void)state;
	map(0, 9, RW);
	assert_int_equal(vm_remap(mm, AT(2), P(2), P(2),
				  VREMAP_MAYMOVE | VREMAP_FIXED | VREMAP_DONTUNMAP, AT(4)),
			 AT(4));
	assert_layout("0-9rw");
}

static void a_swapped_page_moves_with_its_entry(void **state)
{
	(void)state;
	map(0, 4, RW);
	put(2, 4);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 1);
	assert_int_equal(vm_remap(mm, AT(0), P(4), P(4), VREMAP_MAYMOVE | VREMAP_FIXED, AT(900)),
			 AT(900));
	assert_int_equal(mm->swapped, 1);
	assert_int_equal(get(902), 4);
	assert_int_equal(mm->swapped, 0);
}

/* ---- adopt ---- */

static void adopting(void **state)
{
	struct vma *vma;

	(void)state;
	map(0, 4, RW);
	put(0, 1);
	put(1, 1);
	assert_int_equal(reclaim_range(mm, AT(1), AT(2)), 1);
	down_read(&mm->mmap_lock);
	vma = find_vma(mm, AT(0));
	assert_int_equal(adopt_page(mm, vma, AT(0)), -EEXIST);
	assert_int_equal(adopt_page(mm, vma, AT(1)), 0); /* in place of the swap entry */
	assert_int_equal(adopt_page(mm, vma, AT(2)), 0);
	assert_int_equal(adopt_page(mm, vma, AT(4)), -EFAULT);
	up_read(&mm->mmap_lock);
	assert_int_equal(mm->rss, 3);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(w.e->swap.used, 0);
}

/* ---- the per-VMA lock ---- */

static void lock_vma_needs_no_mmap_lock(void **state)
{
	struct vma *vma;

	(void)state;
	map(0, 4, RW);
	assert_null(lock_vma(mm, AT(0))); /* no anon_vma yet */
	put(0, 1);
	vma = lock_vma(mm, AT(3));
	assert_non_null(vma);
	assert_false(rwsem_is_locked(&mm->mmap_lock));
	unlock_vma(vma);
	assert_null(lock_vma(mm, AT(4)));
	down_write(&mm->mmap_lock);
	assert_null(lock_vma(mm, AT(0)));
	up_write(&mm->mmap_lock);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(map_errors),
		T(map_takes_the_highest_hole),
		T(a_hole_of_every_size_is_found),
		T(neighbours_that_are_alike_are_one),
		T(a_touched_one_merges_with_an_untouched_one),
		T(a_gap_between_two_touched_ones_leaves_two),
		T(unmap_errors),
		T(unmap_in_the_middle_splits_in_two),
		T(unmap_over_several_with_holes),
		T(tables_go_with_what_they_cover),
		T(a_table_that_a_neighbour_needs_stays),
		T(protect_errors),
		T(protect_in_the_middle_makes_three_and_back_one),
		T(protect_stops_at_a_hole),
		T(a_page_that_nobody_may_access_keeps_its_bytes),
		T(fetching_needs_the_right_to),
		T(dontneed_gives_zeros),
		T(advise_does_both_sides_of_a_hole),
		T(locked_memory_is_not_dropped),
		T(remap_errors),
		T(remap_shrinks_and_grows_in_place),
		T(remap_moves_what_cannot_grow),
		T(a_moved_page_can_still_be_taken),
		T(remap_over_several_of_one_size),
		T(dontunmap_leaves_it_empty),
		T(dontunmap_next_door_makes_one),
		T(a_swapped_page_moves_with_its_entry),
		T(adopting),
		T(lock_vma_needs_no_mmap_lock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
