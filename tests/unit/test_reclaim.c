/* SPDX-License-Identifier: MIT */
/* Reclaim: who goes, who stays, and that nothing is lost when it cannot go on. */
#include "tests/unit/one_world.h"

#define node0 (&w.e->lru.nodes[0])

static struct page *page_at(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

/* As if nobody had touched it since it was last looked at. */
static void make_old(unsigned from, unsigned to)
{
	spinlock_t *ptl;

	for (unsigned i = from; i < to; i++)
		w.e->mmu->test_and_clear_young(mm, AT(i), pte_find(mm, AT(i), &ptl));
	w.e->mmu->flush(mm, AT(from), AT(to));
}

static u64 nr_free(void)
{
	return zone_free_pages(w.e, ZONE_USER);
}

/* ---- segments ---- */

static void neighbours_go_in_one_call(void **state)
{
	struct taken t;

	(void)state;
	start((struct world_options){ .segment = 64 });
	map(0, 100, RW);
	for (unsigned i = 0; i < 100; i++)
		put(i, i);
	make_old(0, 100);
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 64); /* the aligned group of the oldest */
	assert_int_equal(w.e->stats->segments, 1);
	assert_int_equal(mm->rss, 36);
	assert_int_equal(w.e->lru.nr_writeout, 64);
	assert_null(page_at(0));
	assert_non_null(page_at(64));
}

static void a_segment_ends_with_the_vma(void **state)
{
	struct taken t;

	(void)state;
	start((struct world_options){ .segment = 64 });
	map(0, 10, RW);
	assert_int_equal(vm_map(mm, AT(10), P(10), RW | VM_EXEC, VMAP_FIXED, 0), AT(10));
	for (unsigned i = 0; i < 20; i++)
		put(i, i);
	make_old(0, 20);
	take_segment(w.e, false, NODE_MASK_ALL, &t);
	assert_int_equal(t.taken, 10);
}

static void the_size_of_a_segment_is_chosen(void **state)
{
	struct taken t;

	(void)state;
	start((struct world_options){ .segment = 7 });
	map(0, 100, RW);
	for (unsigned i = 0; i < 100; i++)
		put(i, i);
	make_old(0, 100);
	for (unsigned i = 0; i < 5; i++) {
		take_segment(w.e, false, NODE_MASK_ALL, &t);
		assert_in_range(t.taken, 1, 7);
	}
}

static void the_runs_of_a_segment_are_limited(void **state)
{
	struct taken t;

	(void)state;
	start((struct world_options){ .segment = 64, .runs = 3 });
	map(0, 64, RW);
	/* Two pages at 0, 10, ... 50; the oldest is 30. */
	put(30, 30);
	for (unsigned i = 0; i < 60; i += 10) {
		put(i, i);
		put(i + 1, i + 1);
	}
	make_old(0, 64);
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 6);
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(page_at(i) != NULL, i < 30 && i % 10 < 2);
	/* What is after it is gone; now from the next oldest on. */
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 6);
	assert_int_equal(mm->rss, 0);
	for (unsigned i = 0; i < 60; i += 10)
		assert_true(get(i) == i && get(i + 1) == i + 1);
}

static void young_pages_are_spared(void **state)
{
	struct taken t;

	(void)state;
	start((struct world_options){ .segment = 64 });
	map(0, 64, RW);
	for (unsigned i = 0; i < 64; i++)
		put(i, i);
	make_old(0, 64);
	get(5);
	assert_int_equal(page_list(page_at(5)), LRU_INACTIVE);
	get(63);
	assert_int_equal(page_list(page_at(63)), LRU_FRESH);
	take_segment(w.e, false, NODE_MASK_ALL, &t);
	assert_int_equal(t.taken, 62);
	/* One that had been watched has shown that it is used; of the other nothing was known. */
	assert_int_equal(page_list(page_at(5)), LRU_ACTIVE);
	assert_int_equal(page_list(page_at(63)), LRU_INACTIVE);
	take_segment(w.e, false, NODE_MASK_ALL, &t);
	assert_int_equal(t.taken, 1);
	assert_non_null(page_at(5));
	assert_null(page_at(63));
}

static void when_all_are_young_some_go_all_the_same(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128 });
	map(0, 400, RW);
	for (unsigned round = 0; round < 3; round++)
		for (unsigned i = 0; i < 400; i++)
			put(i, i + round);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(get(i), (u8)(i + 2));
}

static void what_is_used_often_stays(void **state)
{
	u64 before;

	(void)state;
	start((struct world_options){ .frames = 256 });
	map(0, 2000, RW);
	for (unsigned i = 0; i < 64; i++)
		put(i, 1);
	for (unsigned i = 64; i < 2000; i++) {
		put(i, 2);
		get(i % 64);
	}
	before = mm->major;
	for (unsigned i = 0; i < 64; i++)
		get(i);
	assert_in_range(mm->major - before, 0, 8);
}

static void locked_memory_stays(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128 });
	assert_int_equal(vm_map(mm, AT(1000), P(40), RW, VMAP_FIXED, VM_LOCKED), AT(1000));
	for (unsigned i = 1000; i < 1040; i++)
		put(i, 7);
	map(0, 400, RW);
	for (unsigned i = 0; i < 400; i++)
		put(i, i);
	for (unsigned i = 1000; i < 1040; i++)
		assert_non_null(page_at(i));
	reclaim_range(mm, AT(1000), AT(1040));
	assert_non_null(page_at(1001));
}

/* One segment of pages that hold their number plus one, and that may go. */
static void start_with_old_segment(void)
{
	start((struct world_options){ .segment = 16, .kept = 100 });
	map(0, 16, RW);
	for (unsigned i = 0; i < 16; i++)
		put(i, i + 1);
	make_old(0, 16);
}

static void what_the_machine_cannot_take_stays_and_is_counted(void **state)
{
	struct taken t;

	(void)state;
	start_with_old_segment();
	w.m->inject.take_busy_every = 4;
	take_segment(w.e, false, NODE_MASK_ALL, &t);
	w.m->inject.take_busy_every = 0;
	assert_int_equal(t.taken, 12);
	assert_int_equal(w.e->stats->untakeable, 4);
	assert_int_equal(mm->rss, 4);
	assert_int_equal(node0->nr_unevictable, 4);
	engine_check(w.e);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(get(i), i + 1);
}

static void what_could_not_be_taken_is_left_alone_and_tried_again_later(void **state)
{
	struct taken t;

	(void)state;
	start_with_old_segment();
	w.m->inject.take_busy_every = 1;
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(node0->nr_unevictable, 16);
	engine_check(w.e);
	/* Nobody meets them while there is nothing else; then they have their turn. */
	assert_false(take_segment(w.e, false, NODE_MASK_ALL, &t));
	w.m->inject.take_busy_every = 0;
	assert_int_equal(reclaim_direct(w.e, 16), 16);
	assert_int_equal(node0->nr_unevictable, 0);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(get(i), i + 1);
}

static void it_is_tried_again_too_while_others_can_go(void **state)
{
	struct taken t;

	(void)state;
	start_with_old_segment();
	w.m->inject.take_busy_every = 1;
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	w.m->inject.take_busy_every = 0;
	map(100, 16, RW);
	for (unsigned i = 100; i < 116; i++)
		put(i, i);
	make_old(100, 116);
	assert_int_equal(reclaim_direct(w.e, 1), 1);
	assert_int_equal(node0->nr_unevictable, 16);
	/* So many have gone since. */
	node0->age += 4096;
	for (unsigned i = 100; i < 116; i++)
		put(i, i);
	make_old(100, 116);
	reclaim_direct(w.e, 1);
	assert_int_equal(node0->nr_unevictable, 0);
}

static void a_machine_that_takes_nothing_ends_in_no_endless_loop(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128, .may_exceed = true });
	map(0, 120, RW);
	w.m->inject.take_busy_every = 1;
	for (unsigned i = 0; i < 120; i++)
		put(i, i);
	assert_int_equal(mm->rss, 120); /* over the limit, but going on */
	assert_int_equal(reclaim_direct(w.e, 10), 0);
	for (unsigned i = 0; i < 4; i++) /* what is young is aged first */
		reclaim_step(w.e, 10);
	assert_false(reclaim_step(w.e, 10));
	w.m->inject.take_busy_every = 0;
	assert_true(reclaim_balance(w.e) > 0);
	for (unsigned i = 0; i < 120; i++)
		assert_int_equal(get(i), i);
}

static void what_cannot_be_taken_just_now_is_tried_again_at_once(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128, .may_exceed = true });
	map(0, 120, RW);
	w.m->inject.take_again_every = 1;
	for (unsigned i = 0; i < 120; i++)
		put(i, i);
	assert_int_equal(mm->rss, 120);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(reclaim_direct(w.e, 10), 0);
	w.m->inject.take_again_every = 0;
	/* Failures that mean nothing make nobody pass over the next call. */
	assert_true(reclaim_direct(w.e, 10) >= 10);
	for (unsigned i = 0; i < 120; i++)
		assert_int_equal(get(i), i);
}

/* ---- a store that fails ---- */

static void a_full_store_loses_nothing(void **state)
{
	unsigned mapped;

	(void)state;
	start((struct world_options){ .frames = 128 });
	flaky.room = 30;
	map(0, 400, RW);
	for (mapped = 0; mapped < 400; mapped++)
		if (soft_write_byte(w.cpu, AT(mapped), mapped) != FAULT_OK)
			break;
	/* As many as there are frames and room: then no more, and an honest answer. */
	assert_in_range(mapped, 100, 30 + 128);
	assert_true(w.e->stats->store_full > 0);
	engine_check(w.e);
	for (unsigned i = 0; i < mapped; i++)
		if (page_at(i))
			assert_int_equal(get(i), (u8)i);
	/* There is room again: it goes on. */
	flaky.room = 1000;
	for (unsigned i = mapped; i < 400; i++)
		put(i, i);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(get(i), (u8)i);
}

static void a_full_store_is_no_obstacle_where_the_limit_may_be_exceeded(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 256, .may_exceed = true });
	flaky.room = 3;
	map(0, 250, RW);
	for (unsigned i = 0; i < 250; i++)
		put(i, i);
	for (unsigned i = 0; i < 250; i++)
		assert_int_equal(get(i), (u8)i);
	assert_true(w.e->stats->store_full > 0);
}

static void a_store_that_cannot_write_loses_nothing(void **state)
{
	bool full;

	(void)state;
	start((struct world_options){ .kept = 100 });
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	reclaim_range(mm, AT(0), AT(8));
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 11); /* with a kept copy that is stale */
	flaky.save_error = -EIO;
	reclaim_range(mm, AT(0), AT(8));
	assert_int_equal(w.e->lru.nr_writeout, 8);
	assert_int_equal(writeout(w.e, 100, &full), 0);
	assert_true(full);
	engine_check(w.e);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(get(i), i + 11);
	flaky.save_error = 0;
	assert_int_equal(writeout(w.e, 100, &full), 4);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(i), i + 11);
}

static void kept_copies_make_room_in_a_full_store(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128, .kept = 1000 });
	flaky.room = 40;
	map(0, 140, RW);
	for (unsigned i = 0; i < 40; i++)
		put(i, i);
	reclaim_range(mm, AT(0), AT(40));
	for (unsigned i = 0; i < 40; i++)
		get(i);
	assert_int_equal(flaky.room, 0);
	assert_int_equal(w.e->swap.kept, 40);
	for (unsigned i = 40; i < 140; i++)
		put(i, i);
	assert_true(w.e->swap.kept < 40);
	for (unsigned i = 0; i < 140; i++)
		assert_int_equal(get(i), i);
	assert_int_equal(w.e->stats->store_full, 0);
}

static void no_slots_left(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128 });
	while (swap_alloc(&w.e->swap) < FLAKY_SLOTS - 10)
		;
	map(0, 110, RW);
	for (unsigned i = 0; i < 110; i++)
		put(i, i);
	assert_int_equal(reclaim_range(mm, AT(0), AT(110)), 9);
	mm_check(mm);
	for (unsigned i = 0; i < 110; i++)
		assert_int_equal(get(i), i);
	for (u64 i = 0; i < FLAKY_SLOTS; i++)
		if (swap_slot(&w.e->swap, i)->count && !swap_slot(&w.e->swap, i)->page)
			swap_put(&w.e->swap, i);
}

/* ---- steps ---- */

/* 230 pages that hold their number, that may go, and nearly fill what there is. */
static void start_with_old_pages(void)
{
	start((struct world_options){ .frames = 256, .segment = 64 });
	map(0, 240, RW);
	for (unsigned i = 0; i < 230; i++)
		put(i, i);
	make_old(0, 230);
}

static void a_step_writes_no_more_than_it_was_told(void **state)
{
	struct taken t;
	u64 free;

	(void)state;
	start_with_old_pages();
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	free = nr_free();
	assert_true(reclaim_step(w.e, 3));
	assert_int_equal(nr_free(), free + 3);
}

static void writing_out_alone_takes_nothing(void **state)
{
	struct taken t;
	u64 taken;

	(void)state;
	start_with_old_pages();
	assert_int_equal(reclaim_write_out(w.e, 3), 0);
	take_segment(w.e, true, NODE_MASK_ALL, &t);
	taken = atomic_load(&w.e->lru.nr_writeout);
	assert_true(taken > 3);
	assert_int_equal(reclaim_write_out(w.e, 3), 3);
	assert_int_equal(reclaim_write_out(w.e, 1000), taken - 3);
	assert_int_equal(reclaim_write_out(w.e, 1), 0);
	for (unsigned i = 0; i < 230; i++)
		assert_int_equal(get(i), i & 0xff);
}

static void steps_come_to_an_end(void **state)
{
	unsigned steps = 0;

	(void)state;
	start((struct world_options){ .frames = 256, .segment = 64 });
	map(0, 240, RW);
	for (unsigned i = 0; i < 239; i++)
		put(i, i);
	while (reclaim_step(w.e, 8))
		assert_true(++steps < 100);
	assert_true(nr_free() >= w.e->config.marks.low);
	assert_false(reclaim_step(w.e, 8));
}

static void balance_reaches_high(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 256 });
	map(0, 240, RW);
	for (unsigned i = 0; i < 239; i++)
		put(i, i);
	assert_true(nr_free() < w.e->config.marks.high);
	reclaim_balance(w.e);
	assert_true(nr_free() >= w.e->config.marks.high);
	assert_int_equal(reclaim_balance(w.e), 0);
	for (unsigned i = 0; i < 239; i++)
		assert_int_equal(get(i), i);
}

static void direct_reclaim_is_timed(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 128 });
	map(0, 400, RW);
	for (unsigned i = 0; i < 400; i++)
		put(i, i);
	assert_true(w.e->stats->direct_reclaim_ns > 0);
	assert_true(w.e->stats->direct_freed > 0);
}

/* ---- the active list ---- */

static void a_page_missed_soon_is_hot(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 256 });
	map(0, 200, RW);
	for (unsigned i = 0; i < 200; i++)
		put(i, i);
	reclaim_range(mm, AT(0), AT(4));
	get(0);
	assert_true(page_list(page_at(0)) == LRU_ACTIVE);
	assert_int_equal(w.e->stats->refaults, 1);
	/* After as many others as the lists are long it is not. */
	reclaim_range(mm, AT(10), AT(200));
	get(1);
	assert_int_equal(page_list(page_at(1)), LRU_INACTIVE);
}

static void the_active_list_gives_back(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 256 });
	map(0, 200, RW);
	for (unsigned i = 0; i < 200; i++) {
		put(i, i);
		lru_mark_accessed(w.e, page_at(i));
		lru_mark_accessed(w.e, page_at(i));
	}
	assert_int_equal(node0->nr[LRU_ACTIVE], 200);
	assert_int_equal(node0->nr[LRU_INACTIVE], 0);
	assert_int_equal(reclaim_direct(w.e, 20), 20);
	assert_true(node0->nr[LRU_INACTIVE] > 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(neighbours_go_in_one_call),
		T(a_segment_ends_with_the_vma),
		T(the_size_of_a_segment_is_chosen),
		T(the_runs_of_a_segment_are_limited),
		T(young_pages_are_spared),
		T(when_all_are_young_some_go_all_the_same),
		T(what_is_used_often_stays),
		T(locked_memory_stays),
		T(what_the_machine_cannot_take_stays_and_is_counted),
		T(what_could_not_be_taken_is_left_alone_and_tried_again_later),
		T(it_is_tried_again_too_while_others_can_go),
		T(a_machine_that_takes_nothing_ends_in_no_endless_loop),
		T(what_cannot_be_taken_just_now_is_tried_again_at_once),
		T(a_full_store_loses_nothing),
		T(a_full_store_is_no_obstacle_where_the_limit_may_be_exceeded),
		T(a_store_that_cannot_write_loses_nothing),
		T(kept_copies_make_room_in_a_full_store),
		T(no_slots_left),
		T(a_step_writes_no_more_than_it_was_told),
		T(writing_out_alone_takes_nothing),
		T(steps_come_to_an_end),
		T(balance_reaches_high),
		T(direct_reclaim_is_timed),
		T(a_page_missed_soon_is_hot),
		T(the_active_list_gives_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
