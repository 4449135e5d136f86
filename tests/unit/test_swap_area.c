/* SPDX-License-Identifier: MIT */
/* Swap areas: which one a page goes to and where in it, and how an area is given up. */
#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define FIRST 0 /* the area that every world begins with, on the store that can fail */

static struct store *stores[4];
static unsigned nr_stores;

/* Another area on a store of its own: its number. */
static unsigned area_on(u64 slots, int prio)
{
	struct store *store;
	int type;

	assert_int_equal(memory_store_create(&world_memory, COMPRESS_NONE, slots, 0, 1, &store), 0);
	stores[nr_stores++] = store;
	type = swap_area_on(w.e, store, prio);
	assert_true(type > 0);
	return type;
}

static int teardown_areas(void **state)
{
	teardown(state);
	while (nr_stores)
		memory_store_destroy(stores[--nr_stores]);
	return 0;
}

static u64 used(unsigned type)
{
	return swap_area_used(&w.e->swap, type);
}

static void fill(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		put(i, i * 7 + 1);
}

static void expect_all(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		assert_int_equal(get(i), (u8)(i * 7 + 1));
}

static void page_out(unsigned from, unsigned to)
{
	reclaim_range(mm, AT(from), AT(to));
}

/* The slot that the entry of a page names. */
static u64 slot_of_page(unsigned page)
{
	spinlock_t *ptl;
	pte_t pte = pte_read(pte_find(mm, AT(page), &ptl));

	assert_true(pte_is_swap(pte));
	return pte_to_swp(pte).v;
}

static void start_with(unsigned pages, struct world_options o)
{
	start(o);
	map(0, pages, RW);
	fill(0, pages);
}

/* ---- on ---- */

static void the_area_of_the_highest_priority_goes_first(void **state)
{
	unsigned low, high;

	(void)state;
	start_with(64, (struct world_options){ 0 });
	low = area_on(256, 1);
	high = area_on(256, 5);
	page_out(0, 64);
	assert_int_equal(used(high), 64);
	assert_int_equal(used(low) + used(FIRST), 0);
	expect_all(0, 64);
}

static void without_a_priority_the_older_goes_first(void **state)
{
	unsigned second;

	(void)state;
	start_with(64, (struct world_options){ 0 });
	second = area_on(256, SWAP_PRIO_NEXT);
	page_out(0, 64);
	assert_int_equal(used(FIRST), 64);
	assert_int_equal(used(second), 0);
}

static void areas_of_one_priority_take_turns(void **state)
{
	unsigned a, b;

	(void)state;
	start_with(192, (struct world_options){ .frames = 512, .segment = 64 });
	a = area_on(1024, 3);
	b = area_on(1024, 3);
	page_out(0, 192);
	assert_int_equal(used(a), 128); /* a turn is a cluster of 64 */
	assert_int_equal(used(b), 64);
	expect_all(0, 192);
}

static void when_an_area_is_full_the_next_one_takes_the_rest(void **state)
{
	unsigned small;

	(void)state;
	start_with(100, (struct world_options){ 0 });
	small = area_on(37, 9);
	page_out(0, 100);
	assert_int_equal(used(small), 37);
	assert_int_equal(used(FIRST), 63);
	expect_all(0, 100);
}

static void when_all_are_full_pages_stay_and_are_counted(void **state)
{
	(void)state;
	start_with(64, (struct world_options){ .slots = 1 });
	area_on(20, 9);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	page_out(0, 64);
	assert_int_equal(mm->swapped, 20);
	assert_int_equal(mm->rss, 44);
	assert_true(w.e->stats->no_slots >= 44);
	expect_all(0, 64);
}

static void a_store_that_refuses_is_passed_over_while_others_have_room(void **state)
{
	unsigned high;

	(void)state;
	start_with(64, (struct world_options){ 0 });
	flaky.room = 0;
	page_out(0, 1); /* it goes out and cannot be written */
	assert_int_equal(w.e->stats->store_full, 4);
	high = area_on(256, SWAP_PRIO_NEXT); /* below it */
	page_out(1, 64);
	assert_int_equal(used(high), 63);
	flaky.room = 100;
	expect_all(0, 64);
}

static void neighbours_go_to_neighbouring_slots(void **state)
{
	u64 first;

	(void)state;
	start_with(128, (struct world_options){ .frames = 512, .segment = 16 });
	/* Here and there a slot is taken and given back, so that others lie between. */
	for (unsigned i = 0; i < 40; i++)
		swap_alloc(&w.e->swap);
	for (unsigned i = 0; i < 40; i++)
		swap_put(&w.e->swap, i);
	page_out(64, 128);
	page_out(0, 64);
	for (unsigned start = 0; start < 128; start += 64) {
		unsigned breaks = 0;

		first = slot_of_page(start);
		for (unsigned i = 1; i < 64; i++) {
			u64 slot = slot_of_page(start + i);

			breaks += slot != first + 1;
			first = slot;
		}
		assert_true(breaks <= 1);
	}
}

static void a_store_is_an_area_once(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	assert_int_equal(swap_area_on(w.e, &flaky.store, 3), -EBUSY);
	assert_int_equal(swap_area_on(w.e, &flaky.store, -2), -EINVAL);
	assert_int_equal(swap_area_on(w.e, &flaky.store, 32768), -EINVAL);
}

static void there_are_only_so_many(void **state)
{
	struct store many[MAX_SWAP_AREAS];

	(void)state;
	start((struct world_options){ 0 });
	for (unsigned i = 0; i < MAX_SWAP_AREAS; i++) {
		many[i] = flaky.store;
		many[i].nr_slots = 10;
		assert_int_equal(swap_area_on(w.e, &many[i], 0),
				 i == MAX_SWAP_AREAS - 1 ? -EPERM : (int)i + 1);
	}
	for (unsigned i = 1; i < MAX_SWAP_AREAS; i++)
		assert_int_equal(swap_area_off(w.e, i), 0);
}

/* ---- mincore ---- */

static void a_page_is_there_while_it_is_in_the_swap_cache(void **state)
{
	struct taken t;
	u8 there[4];

	(void)state;
	start_with(4, (struct world_options){ 0 });
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	assert_int_equal(mm->rss, 0);
	assert_int_equal(do_mincore(mm, AT(0), P(4), there), 0);
	assert_memory_equal(there, ((u8[4]){ 1, 1, 1, 1 }), 4);
	reclaim_write_out(w.e, 10);
	assert_int_equal(do_mincore(mm, AT(0), P(4), there), 0);
	assert_memory_equal(there, ((u8[4]){ 0, 0, 0, 0 }), 4);
}

/* ---- off ---- */

static void swapoff_brings_everything_back(void **state)
{
	unsigned other;

	(void)state;
	start_with(64, (struct world_options){ .kept = 100 });
	other = area_on(256, SWAP_PRIO_NEXT);
	page_out(0, 64);
	get(3); /* with a copy kept */
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(mm->rss, 64);
	assert_int_equal(w.e->swap.used, 0);
	assert_int_equal(flaky_kept(), 0);
	expect_all(0, 64);
	page_out(0, 64);
	assert_int_equal(used(other), 64);
	expect_all(0, 64);
}

static void swapoff_finds_pages_that_may_not_be_accessed(void **state)
{
	(void)state;
	start_with(8, (struct world_options){ 0 });
	page_out(0, 8);
	assert_int_equal(vm_protect(mm, AT(0), P(8), 0), 0);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(mm->rss, 8);
	assert_int_equal(vm_protect(mm, AT(0), P(8), RW), 0);
	expect_all(0, 8);
}

static void swapoff_brings_back_what_a_child_shares(void **state)
{
	struct mm *child;

	(void)state;
	start_with(8, (struct world_options){ .kept = 100 });
	page_out(0, 8);
	assert_int_equal(mm_fork(mm, &child), 0);
	get(2);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(mm->rss + child->rss, 16);
	assert_int_equal(w.e->swap.used, 0);
	expect_all(0, 8);
	soft_load_mm(w.cpu, child);
	expect_all(0, 8);
	soft_load_mm(w.cpu, mm);
	mm_destroy(child);
}

static void swapoff_takes_what_is_just_on_its_way_out(void **state)
{
	struct taken t;

	(void)state;
	start_with(16, (struct world_options){ 0 });
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	assert_int_equal(nr_writeout(w.e), 16);
	vm_advise(mm, AT(0), P(4), VADV_DONTNEED); /* nobody's now */
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(nr_writeout(w.e), 0);
	expect_all(4, 16);
}

static void swapoff_brings_shared_memory_back(void **state)
{
	struct file *file;

	(void)state;
	start((struct world_options){ 0 });
	file = shmem_file_setup(w.e, P(32));
	assert_int_equal(vm_map_file(mm, AT(0), P(32), RW, VMAP_FIXED, VM_SHARED, file, 0), AT(0));
	fill(0, 32);
	page_out(0, 32);
	assert_int_equal(file->mapping->nr_swapped, 32);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(file->mapping->nr_swapped, 0);
	expect_all(0, 32);
	file_put(file);
}

static void swapoff_without_room_leaves_the_area_on_and_whole(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128 });
	map(0, 400, RW);
	fill(0, 400);
	assert_int_equal(swap_area_off(w.e, FIRST), -ENOMEM);
	expect_all(0, 400);
	assert_int_equal(swap_area_off(w.e, FIRST), -ENOMEM);
	assert_int_equal(vm_unmap(mm, AT(0), P(380)), 0);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	expect_all(380, 400);
}

static void swapoff_goes_to_another_area_when_memory_is_short(void **state)
{
	unsigned other;

	(void)state;
	start((struct world_options){ .frames = 128 });
	map(0, 400, RW);
	fill(0, 400);
	other = area_on(512, SWAP_PRIO_NEXT);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_true(used(other) > 270);
	assert_int_equal(flaky_kept(), 0);
	expect_all(0, 400);
}

static void what_swapoff_cannot_read_is_sigbus_and_the_rest_lives(void **state)
{
	u8 byte;

	(void)state;
	start_with(16, (struct world_options){ 0 });
	page_out(0, 16);
	flaky.load_error = -EIO;
	flaky.error_slot = swp_offset((swp_entry_t){ slot_of_page(5) });
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(soft_read_byte(w.cpu, AT(5), &byte), FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(5), 1), FAULT_BUS);
	expect_all(0, 5);
	expect_all(6, 16);
	assert_int_equal(w.e->stats->store_errors, 1);
}

static void shared_memory_that_cannot_be_read_keeps_the_area_on(void **state)
{
	struct file *file;

	(void)state;
	start((struct world_options){ 0 });
	file = shmem_file_setup(w.e, P(4));
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, VM_SHARED, file, 0), AT(0));
	fill(0, 4);
	page_out(0, 4);
	flaky.load_error = -EIO;
	assert_int_equal(swap_area_off(w.e, FIRST), -EIO);
	flaky.load_error = 0;
	expect_all(0, 4);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	file_put(file);
}

static void there_is_no_swapoff_of_nothing(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	assert_int_equal(swap_area_off(w.e, 1), -EINVAL);
	assert_int_equal(swap_area_off(w.e, MAX_SWAP_AREAS), -EINVAL);
	assert_int_equal(swap_area_off(w.e, FIRST), 0);
	assert_int_equal(swap_area_off(w.e, FIRST), -EINVAL);
	map(0, 4, RW);
	fill(0, 4);
	page_out(0, 4);
	assert_int_equal(mm->rss, 4);
	assert_int_equal(swap_area_on(w.e, &flaky.store, 0), FIRST);
	page_out(0, 4);
	assert_int_equal(mm->rss, 0);
	expect_all(0, 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown_areas)
	const struct CMUnitTest tests[] = {
		T(the_area_of_the_highest_priority_goes_first),
		T(without_a_priority_the_older_goes_first),
		T(areas_of_one_priority_take_turns),
		T(when_an_area_is_full_the_next_one_takes_the_rest),
		T(when_all_are_full_pages_stay_and_are_counted),
		T(a_store_that_refuses_is_passed_over_while_others_have_room),
		T(neighbours_go_to_neighbouring_slots),
		T(a_store_is_an_area_once),
		T(there_are_only_so_many),
		T(a_page_is_there_while_it_is_in_the_swap_cache),
		T(swapoff_brings_everything_back),
		T(swapoff_finds_pages_that_may_not_be_accessed),
		T(swapoff_brings_back_what_a_child_shares),
		T(swapoff_takes_what_is_just_on_its_way_out),
		T(swapoff_brings_shared_memory_back),
		T(swapoff_without_room_leaves_the_area_on_and_whole),
		T(swapoff_goes_to_another_area_when_memory_is_short),
		T(what_swapoff_cannot_read_is_sigbus_and_the_rest_lives),
		T(shared_memory_that_cannot_be_read_keeps_the_area_on),
		T(there_is_no_swapoff_of_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
