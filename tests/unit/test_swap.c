/* SPDX-License-Identifier: MIT */
/* Swap slots and the swap cache: who refers to a slot, and when its bytes go. */
#include "tests/unit/one_world.h"
#include "tests/unit/panics.h"

#define area (&w.e->swap)

static void start_mapped(struct world_options o)
{
	start(o);
	map(0, 64, RW);
}

static void page_out(unsigned from, unsigned to)
{
	reclaim_range(w.mm, AT(from), AT(to));
}

static void slots_are_counted_and_used_again(void **state)
{
	s64 x, y;

	(void)state;
	start_mapped((struct world_options){ 0 });
	x = swap_alloc(area);
	y = swap_alloc(area);
	assert_true(x >= 0 && y >= 0 && x != y);
	swap_dup(area, x);
	swap_put(area, x);
	assert_int_equal(area->used, 2);
	swap_put(area, x);
	assert_int_equal(area->used, 1);
	assert_int_equal(swap_alloc(area), x);
	swap_put(area, x);
	swap_put(area, y);
	assert_int_equal(area->used, 0);
	assert_int_equal(flaky.drops, 0); /* nothing was saved */
}

static void they_run_out(void **state)
{
	s64 last;

	(void)state;
	start_mapped((struct world_options){ 0 });
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		assert_true(swap_alloc(area) >= 0);
	assert_int_equal(swap_alloc(area), -ENOSPC);
	for (unsigned i = 0; i < FLAKY_SLOTS; i++)
		swap_put(area, i);
	last = swap_alloc(area);
	assert_true(last >= 0);
	swap_put(area, last);
}

static void a_slot_not_in_use_is_noticed(void **state)
{
	(void)state;
	start_mapped((struct world_options){ 0 });
	assert_panics(swap_dup(area, 3), "not in use");
	spin_unlock(&area->lock);
}

static void an_unchanged_page_goes_out_for_nothing(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 100 });
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	page_out(0, 8);
	assert_int_equal(flaky.saves, 8);
	for (unsigned i = 0; i < 8; i++)
		get(i);
	assert_int_equal(area->kept, 8);
	assert_int_equal(area->used, 8);
	page_out(0, 8);
	assert_int_equal(flaky.saves, 8);
	assert_int_equal(flaky.sames, 0); /* the dirty bit tells */
	assert_int_equal(w.e->stats->evicted_clean, 8);
	assert_int_equal(get(3), 4);
}

static void a_changed_one_is_saved_anew(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 100 });
	put(0, 1);
	put(1, 1);
	page_out(0, 2);
	put(0, 2);
	put(1, 1); /* written, with what it was */
	page_out(0, 2);
	assert_int_equal(flaky.saves, 3);
	assert_int_equal(flaky.sames, 2);
	assert_int_equal(w.e->stats->evicted_clean, 1);
	assert_int_equal(get(0), 2);
	assert_int_equal(get(1), 1);
}

static void a_write_before_protection_was_taken_is_not_forgotten(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 100 });
	put(0, 1);
	page_out(0, 1);
	put(0, 2);
	vm_protect(w.mm, AT(0), P(1), VM_READ);
	page_out(0, 1);
	assert_int_equal(get(0), 2);
}

static void kept_copies_have_a_limit(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 3 });
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	page_out(0, 8);
	for (unsigned i = 0; i < 8; i++)
		get(i);
	assert_int_equal(area->kept, 3);
	assert_int_equal(area->used, 3);
	assert_int_equal(flaky_kept(), 3);
}

/* How many of 64 pages have a kept copy when they have come back one by one. */
static u64 kept_of_64(u64 each)
{
	flaky.each = each;
	for (unsigned i = 0; i < 64; i++)
		put(i, i + 1);
	page_out(0, 64);
	assert_int_equal(w.mm->rss, 0);
	for (unsigned i = 0; i < 64; i++) {
		u64 kept = area->kept;

		get(i);
		/* One more only if what is resident and what is stored take less than all pages. */
		if (area->kept > kept)
			assert_true((w.mm->rss << PAGE_SHIFT) + w.store->stats.stored_bytes <=
				    64 * PAGE_SIZE);
	}
	return area->kept;
}

static void kept_copies_take_half_of_what_compression_saves(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 100, .kept_within_savings = true });
	/* While k are kept and the rest is out: 2 * k * 1024 <= (64 - k) * 3072. */
	assert_in_range(kept_of_64(1024), 30, 39);
	page_out(0, 64);
	vm_advise(w.mm, AT(0), P(64), VADV_DONTNEED);
	assert_int_equal(kept_of_64(PAGE_SIZE), 0);
	vm_advise(w.mm, AT(0), P(64), VADV_DONTNEED);
	assert_in_range(kept_of_64(64), 56, 63);
}

static void unmapping_drops_kept_copies_and_swapped_pages(void **state)
{
	(void)state;
	start_mapped((struct world_options){ .kept = 100 });
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	page_out(0, 8);
	for (unsigned i = 0; i < 4; i++)
		get(i);
	assert_int_equal(vm_unmap(w.mm, AT(0), P(8)), 0);
	assert_int_equal(area->used, 0);
	assert_int_equal(area->kept, 0);
	assert_int_equal(flaky_kept(), 0);
}

static void a_page_unmapped_on_its_way_out_is_nobodys(void **state)
{
	struct taken t;
	bool full;
	u64 free;

	(void)state;
	start_mapped((struct world_options){ 0 });
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 1);
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	assert_int_equal(t.taken, 4);
	vm_advise(w.mm, AT(0), P(4), VADV_DONTNEED);
	engine_check(w.e);
	free = zone_free_pages(w.e, ZONE_USER);
	assert_int_equal(writeout(w.e, 10, &full), 4);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free + 4);
	assert_int_equal(flaky.saves, 0);
	assert_int_equal(get(0), 0);
}

/* ---- the race that the pins are for ---- */

static void a_page_that_somebody_is_loading_is_not_written_out(void **state)
{
	struct page *cached;
	struct taken t;
	u64 slot = 0, sole;
	bool full;

	(void)state;
	start_mapped((struct world_options){ .kept = 100 });
	put(0, 1);
	page_out(0, 1);
	/* A slow fault pins the slot, finds no page, and loads 1. */
	assert_int_equal(swap_pin(area, &slot, 1, &cached), 1);
	assert_null(cached);
	assert_int_equal(swap_uncached(area, &slot, 1, &sole), 1);
	assert_int_equal(sole, 1); /* the pin is no entry */
	/* Meanwhile another brings the page in, changes it, and it is taken again: the entry is
	 * the same as before. */
	put(0, 2);
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	/* The slow one can tell, because the writer waits for it. */
	assert_int_equal(writeout(w.e, 10, &full), 0);
	assert_false(full);
	assert_int_equal(swap_uncached(area, &slot, 1, &sole), 0);
	swap_unpin(area, &slot, 1);
	assert_int_equal(writeout(w.e, 10, &full), 1);
	assert_int_equal(get(0), 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(slots_are_counted_and_used_again),
		T(they_run_out),
		T(a_slot_not_in_use_is_noticed),
		T(an_unchanged_page_goes_out_for_nothing),
		T(a_changed_one_is_saved_anew),
		T(a_write_before_protection_was_taken_is_not_forgotten),
		T(kept_copies_have_a_limit),
		T(kept_copies_take_half_of_what_compression_saves),
		T(unmapping_drops_kept_copies_and_swapped_pages),
		T(a_page_unmapped_on_its_way_out_is_nobodys),
		T(a_page_that_somebody_is_loading_is_not_written_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
