/* SPDX-License-Identifier: MIT */
/* Each node has lists, a policy and a background reclaimer of its own. */
#include <sched.h>

#include "engine/migrate/numa.h"
#include "engine/reclaim/internal.h"
#include "engine/backing/swap_area.h"
#include "engine/space/calls.h"
#include "machine/soft/background.h"
#include "tests/unit/script_world.h"

enum { NODE_FRAMES = 256 };

static const struct numa_config two = { .nr = 2, .frames = { NODE_FRAMES, NODE_FRAMES } };

static void start_nodes(const struct reclaim_policy *policy)
{
	start((struct world_options){
		.frames = 2 * NODE_FRAMES, .cpus = 2, .nodes = two, .policy = policy });
	soft_load_mm(&w.m->cpus[1], mm);
	soft_load_mm(w.cpu, mm);
}

/* From CPU and node n: pages [from, to). */
static void touch_on(unsigned n, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		assert_int_equal(soft_write_byte(&w.m->cpus[n], AT(i), (u8)(i + 1)), FAULT_OK);
}

static struct page *page_at(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

static struct lruvec *node(unsigned n)
{
	return &w.e->lru.nodes[n];
}

static u64 free_on(unsigned n)
{
	return node_zone(w.e, n)->nr_free;
}

static void page_out(unsigned from, unsigned to)
{
	reclaim_range(mm, AT(from), AT(to));
	for (unsigned i = from; i < to; i++)
		assert_null(page_at(i));
}

static void pages_are_on_the_lists_of_their_node(void **state)
{
	(void)state;
	start_nodes(NULL);
	map(0, 100, RW);
	touch_on(0, 0, 30);
	touch_on(1, 30, 100);
	assert_int_equal(lruvec_evictable(node(0)), 30);
	assert_int_equal(lruvec_evictable(node(1)), 70);
	assert_int_equal(lru_evictable(w.e), 100);
	assert_int_equal(do_mlock(mm, AT(30), P(5)), 0);
	for (unsigned i = 30; i < 35; i++)
		lru_make_unevictable(w.e, page_at(i));
	assert_int_equal(node(0)->nr_unevictable, 0);
	assert_int_equal(node(1)->nr_unevictable, 5);
}

static void a_page_that_moves_changes_its_lists(void **state)
{
	u64 page = AT(3);
	s32 to = 1, status = -1;

	(void)state;
	start_nodes(NULL);
	map(0, 10, RW);
	touch_on(0, 0, 10);
	assert_int_equal(do_move_pages(mm, 1, &page, &to, &status, UAPI_MPOL_MF_MOVE), 0);
	assert_int_equal(status, 1);
	assert_int_equal(lruvec_evictable(node(0)), 9);
	assert_int_equal(lruvec_evictable(node(1)), 1);
	assert_ptr_equal(page_lruvec(w.e, page_at(3)), node(1));
	assert_int_equal(get(3), 4);
}

/* Nobody waits for a node that has four times as much to give all, nor does the small one pay
 * alone. */
static void nodes_pay_in_proportion_to_what_they_have(void **state)
{
	u64 left[2];

	(void)state;
	start_nodes(&policy_fifo);
	map(0, 250, RW);
	touch_on(0, 0, 200);
	touch_on(1, 200, 250);
	while (free_on(0) + free_on(1) < 2 * NODE_FRAMES - 150)
		assert_true(reclaim_direct(w.e, 1) > 0);
	left[0] = lruvec_evictable(node(0));
	left[1] = lruvec_evictable(node(1));
	assert_in_range(left[0], 100, 140);
	assert_in_range(left[1], 15, 40);
}

/* What a node has evicted since is what counts: a flood on the other is no reason to forget. */
static void a_page_missed_soon_is_judged_by_the_node_that_it_left(void **state)
{
	(void)state;
	start_nodes(&policy_lru);
	map(0, 300, RW);
	touch_on(0, 0, 200);
	touch_on(1, 200, 240);
	page_out(200, 202);
	page_out(0, 200);
	touch_on(1, 200, 201);
	assert_int_equal(w.e->stats->workingset_activate, 1);
	assert_int_equal(page_list(page_at(200)), LRU_ACTIVE);
	page_out(210, 240);
	touch_on(1, 201, 202);
	assert_int_equal(w.e->stats->workingset_activate, 1);
}

static void each_node_has_generations_of_its_own(void **state)
{
	(void)state;
	start_nodes(&policy_gen);
	map(0, 400, RW);
	touch_on(1, 200, 210);
	touch_on(0, 0, 100);
	assert_true(node(0)->max_seq > 2);
	assert_int_equal(node(1)->max_seq, 1);
	touch_on(1, 210, 300);
	assert_true(node(1)->max_seq > 1);
}

/* ---- the threads ---- */

static struct soft_background *background;

static void start_background(void)
{
	assert_int_equal(soft_background_start(w.m, NULL, &background), 0);
}

static void end_background(void)
{
	soft_background_stop(background);
	assert_int_equal(w.e->kswapd[0].threads + w.e->kswapd[1].threads, 0);
}

static void until_free(unsigned nid, u64 frames)
{
	while (free_on(nid) < frames)
		sched_yield();
}

static void a_thread_keeps_its_node_between_low_and_high(void **state)
{
	u64 low, high, woken;

	(void)state;
	start_nodes(NULL);
	low = node_share(w.e, 1, w.e->config.marks.low);
	high = node_share(w.e, 1, w.e->config.marks.high);
	start_background();
	map(0, 600, RW);
	touch_on(0, 0, 100);
	for (unsigned i = 0; free_on(1) > low; i++)
		touch_on(1, 100 + i, 101 + i);
	assert_int_equal(w.e->kswapd[1].woken, 0);
	for (unsigned i = 350; i < 550; i++) {
		touch_on(1, i, i + 1);
		if (free_on(1) < low)
			until_free(1, high);
	}
	woken = w.e->kswapd[1].woken;
	assert_true(woken > 2);
	assert_int_equal(w.e->kswapd[0].woken, 0);
	end_background();
	assert_true(w.e->kswapd[1].freed > 100);
	/* Those who allocated did nothing, and the other node gave nothing. */
	assert_int_equal(w.e->stats->direct_freed, 0);
	assert_int_equal(lruvec_evictable(node(0)), 100);
	for (unsigned i = 350; i < 550; i++)
		assert_int_equal(get(i), (u8)(i + 1));
}

/* No area has a slot, and all pages are anonymous. */
static void where_nothing_can_go_a_thread_is_left_in_peace(void **state)
{
	enum fault_reason reason = FAULT_OK;
	u64 woken;

	(void)state;
	start_nodes(NULL);
	assert_int_equal(swap_area_off(w.e, 0), 0);
	map(0, 600, RW);
	start_background();
	for (unsigned i = 0; i < 600 && reason == FAULT_OK; i++) {
		reason = soft_write_byte(&w.m->cpus[1], AT(i), 1);
		for (unsigned k = 0; k < 100; k++) /* so that it has its chance to try */
			sched_yield();
	}
	assert_int_equal(reason, FAULT_OOM);
	while (w.e->kswapd[1].failures < KSWAPD_FAILURES) {
		kswapd_wake(w.e, 1);
		sched_yield();
	}
	woken = w.e->kswapd[1].woken;
	for (unsigned i = 0; i < 20; i++)
		soft_write_byte(&w.m->cpus[1], AT(599 - i), 1);
	assert_int_equal(w.e->kswapd[1].woken, woken);
	end_background();
	/* Direct reclaim finds something: it is worth trying again. */
	assert_int_equal(do_madvise(mm, AT(0), P(40), UAPI_MADV_FREE), 0);
	assert_true(reclaim_direct(w.e, 8) > 0);
	assert_int_equal(w.e->kswapd[1].failures, 0);
}

static void where_there_is_no_thread_nobody_is_woken(void **state)
{
	(void)state;
	start_nodes(NULL);
	map(0, 600, RW);
	touch_on(1, 0, 600);
	assert_int_equal(w.e->kswapd[0].woken + w.e->kswapd[1].woken, 0);
	assert_true(w.e->stats->direct_freed > 0);
}

#define T(name) cmocka_unit_test_teardown(name, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pages_are_on_the_lists_of_their_node),
		T(a_page_that_moves_changes_its_lists),
		T(nodes_pay_in_proportion_to_what_they_have),
		T(a_page_missed_soon_is_judged_by_the_node_that_it_left),
		T(each_node_has_generations_of_its_own),
		T(a_thread_keeps_its_node_between_low_and_high),
		T(where_nothing_can_go_a_thread_is_left_in_peace),
		T(where_there_is_no_thread_nobody_is_woken),
	};

	return cmocka_run_group_tests_name("node_lists", tests, NULL, NULL);
}
