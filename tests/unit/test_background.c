/* SPDX-License-Identifier: MIT */
/* The soft machine's threads: each does its work until it is told to end, and none does more than
 * was asked for. */
#include <sched.h>

#include "engine/space/huge.h"
#include "machine/soft/background.h"
#include "tests/unit/huge_marks.h"

static int setup(void **state)
{
	(void)state;
	start((struct world_options){
		.frames = 8 * HUGE_PAGES,
		.cpus = 2,
		.thp = THP_ALWAYS,
		.nodes = { .nr = 2, .frames = { 4 * HUGE_PAGES, 4 * HUGE_PAGES } },
	});
	map(0, HUGE_PAGES, RW);
	w.e->config.thp = THP_NEVER;
	fill(0, HUGE_PAGES);
	w.e->config.thp = THP_ALWAYS;
	assert_false(is_huge(0));
	return 0;
}

static struct soft_background *start_threads(struct soft_background_options o)
{
	struct soft_background *b = NULL;

	assert_int_equal(soft_background_start(w.m, &o, &b), 0);
	assert_int_equal(w.e->kswapd[0].threads + w.e->kswapd[1].threads, 2);
	return b;
}

static void until(const _Atomic u64 *counter)
{
	while (!atomic_load(counter))
		sched_yield();
}

static void a_thread_makes_huge_pages(void **state)
{
	struct soft_background *b = start_threads(
		(struct soft_background_options){ .collapse = { .pages = HUGE_PAGES, .us = 1 } });

	(void)state;
	until(&w.e->stats->thp_collapse);
	soft_background_stop(b);
	assert_true(is_huge(0));
	assert_filled(0, HUGE_PAGES);
	assert_int_equal(atomic_load(&w.e->stats->numa_pte_updates), 0);
}

static void a_thread_has_pages_ask_for_their_nodes(void **state)
{
	struct soft_background *b =
		start_threads((struct soft_background_options){ .numa = { .pages = 64 } });

	(void)state;
	until(&w.e->stats->numa_pte_updates);
	soft_background_stop(b);
	assert_filled(0, HUGE_PAGES);
	assert_true(atomic_load(&w.e->stats->numa_hint_faults) > 0);
	assert_false(is_huge(0));
}

static void who_rests_for_long_is_ended_all_the_same(void **state)
{
	const struct soft_slices seldom = { .pages = 1, .us = 3600 * 1000000U };

	(void)state;
	soft_background_stop(start_threads(
		(struct soft_background_options){ .collapse = seldom, .numa = seldom }));
	assert_int_equal(w.e->kswapd[0].threads + w.e->kswapd[1].threads, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_thread_makes_huge_pages, setup, teardown),
		cmocka_unit_test_setup_teardown(a_thread_has_pages_ask_for_their_nodes, setup,
						teardown),
		cmocka_unit_test_setup_teardown(who_rests_for_long_is_ended_all_the_same, setup,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
