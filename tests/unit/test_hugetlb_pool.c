/* SPDX-License-Identifier: MIT */
/* Pools of huge pages: what they hold, promise and give back. */
#include <pthread.h>

#include "tests/unit/one_world.h"
#include "tests/unit/panics.h"

/* Frames for ten pages of 2 MiB, of which the marks keep one or two back. */
enum { HUGE_FRAMES = 512, FRAMES = 10 * HUGE_FRAMES };

static struct hstate *h;

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = FRAMES, .cpus = 2 });
	h = hstate_sizelog(w.e, 21);
	return 0;
}

/* The pool's counts are these, and the invariants hold.  (Promises are made to nobody here.) */
static void expect(u64 nr, u64 free, u64 resv, u64 surplus)
{
	struct hstate_counts n = hugetlb_counts(h);

	assert_int_equal(n.nr, nr);
	assert_int_equal(n.free, free);
	assert_int_equal(n.resv, resv);
	assert_int_equal(n.surplus, surplus);
	assert_int_equal(hugetlb_frames(w.e), nr * HUGE_FRAMES);
	hugetlb_check_pools(w.e);
	if (!resv)
		engine_check(w.e);
}

static void there_are_two_sizes_and_2_mib_is_the_default(void **state)
{
	(void)state;
	assert_ptr_equal(hstate_sizelog(w.e, 0), h);
	assert_int_equal(huge_page_size(h), 2 << 20);
	assert_int_equal(huge_page_size(hstate_sizelog(w.e, 30)), 1 << 30);
	assert_null(hstate_sizelog(w.e, 22));
	assert_null(hstate_sizelog(w.e, 12));
}

static void a_pool_takes_frames_from_the_system_and_gives_them_back(void **state)
{
	u64 before = zone_free_pages(w.e, ZONE_USER);

	(void)state;
	assert_int_equal(hugetlb_set_pool(h, 3), 3);
	expect(3, 3, 0, 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), before - 3 * HUGE_FRAMES);
	assert_int_equal(hugetlb_set_pool(h, 1), 1);
	expect(1, 1, 0, 0);
	assert_int_equal(hugetlb_set_pool(h, 0), 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), before);
}

static void a_pool_grows_as_far_as_there_are_blocks(void **state)
{
	u64 got;

	(void)state;
	got = hugetlb_set_pool(h, 1000);
	assert_in_range(got, 7, 9);
	expect(got, got, 0, 0);
}

static void a_page_of_a_pool_comes_back_to_it(void **state)
{
	struct page *page;

	(void)state;
	hugetlb_set_pool(h, 2);
	page = hugetlb_alloc_page(h, NULL, false);
	assert_non_null(page);
	assert_true(page_test(page, PG_HUGETLB));
	assert_ptr_equal(page_hstate(w.e, page), h);
	assert_int_equal(page_pfn(w.e, page) % HUGE_FRAMES, 0);
	expect(2, 1, 0, 0);
	page_put(w.e, page);
	expect(2, 2, 0, 0);
}

static void an_empty_pool_gives_nothing(void **state)
{
	(void)state;
	assert_null(hugetlb_alloc_page(h, NULL, false));
	assert_int_equal(hugetlb_acct_memory(h, 1), -ENOMEM);
	expect(0, 0, 0, 0);
}

static void what_is_promised_others_do_not_get(void **state)
{
	struct page *page;

	(void)state;
	hugetlb_set_pool(h, 2);
	assert_int_equal(hugetlb_acct_memory(h, 2), 0);
	expect(2, 2, 2, 0);
	assert_null(hugetlb_alloc_page(h, NULL, false));
	assert_int_equal(hugetlb_acct_memory(h, 1), -ENOMEM);
	page = hugetlb_alloc_page(h, NULL, true);
	assert_non_null(page);
	expect(2, 1, 1, 0);
	assert_int_equal(hugetlb_acct_memory(h, -1), 0);
	page_clear(page, PG_RESTORE_RESERVE); /* it has its place */
	page_put(w.e, page);
	expect(2, 2, 0, 0);
}

static void a_promised_page_that_finds_no_place_brings_the_promise_back(void **state)
{
	struct page *page;

	(void)state;
	hugetlb_set_pool(h, 1);
	hugetlb_acct_memory(h, 1);
	page = hugetlb_alloc_page(h, NULL, true);
	expect(1, 0, 0, 0);
	page_put(w.e, page);
	expect(1, 1, 1, 0);
	hugetlb_acct_memory(h, -1);
}

static void surplus_pages_come_with_a_promise_and_go_with_it(void **state)
{
	(void)state;
	hugetlb_set_pool(h, 1);
	hugetlb_set_overcommit(h, 2);
	assert_int_equal(hugetlb_acct_memory(h, 3), 0);
	expect(3, 3, 3, 2);
	assert_int_equal(hugetlb_acct_memory(h, 1), -ENOMEM); /* no more than that */
	expect(3, 3, 3, 2);
	assert_int_equal(hugetlb_acct_memory(h, -3), 0);
	expect(1, 1, 0, 0);
}

static void a_promise_that_fails_half_way_leaves_no_surplus(void **state)
{
	(void)state;
	hugetlb_set_overcommit(h, 2);
	assert_int_equal(hugetlb_acct_memory(h, 3), -ENOMEM);
	expect(0, 0, 0, 0);
}

static void a_surplus_page_goes_back_to_the_system_when_it_is_free(void **state)
{
	struct page *a, *b;

	(void)state;
	hugetlb_set_overcommit(h, 1);
	a = hugetlb_alloc_page(h, NULL, false);
	assert_non_null(a);
	expect(1, 0, 0, 1);
	b = hugetlb_alloc_page(h, NULL, false);
	assert_null(b);
	page_put(w.e, a);
	expect(0, 0, 0, 0);
}

static void a_pool_that_shrinks_keeps_what_is_used_and_promised_as_surplus(void **state)
{
	struct page *page;

	(void)state;
	hugetlb_set_pool(h, 4);
	page = hugetlb_alloc_page(h, NULL, false);
	hugetlb_acct_memory(h, 1);
	assert_int_equal(hugetlb_set_pool(h, 0), 0);
	expect(2, 1, 1, 2);
	page_put(w.e, page);
	expect(1, 1, 1, 1);
	hugetlb_acct_memory(h, -1);
	expect(0, 0, 0, 0);
}

static void a_pool_that_grows_makes_surplus_pages_its_own_first(void **state)
{
	struct page *page;

	(void)state;
	hugetlb_set_overcommit(h, 1);
	page = hugetlb_alloc_page(h, NULL, false);
	expect(1, 0, 0, 1);
	assert_int_equal(hugetlb_set_pool(h, 1), 1);
	expect(1, 0, 0, 0);
	page_put(w.e, page);
	expect(1, 1, 0, 0);
}

static void a_page_of_1_gib_is_taken_where_all_frames_are_free(void **state)
{
	enum { GIB = 1 << 18 };
	struct hstate *gib;
	struct page *page;

	(void)state;
	world_destroy(&w);
	start((struct world_options){ .frames = 3 * GIB, .unchecked = true });
	gib = hstate_sizelog(w.e, 30);
	assert_int_equal(hugetlb_set_pool(gib, 5), 2); /* the third is not aligned */
	page = hugetlb_alloc_page(gib, NULL, false);
	assert_int_equal(page_pfn(w.e, page) % GIB, 0);
	assert_ptr_equal(page_hstate(w.e, page), gib);
	engine_check(w.e);
	page_put(w.e, page);
	assert_int_equal(hugetlb_set_pool(gib, 0), 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), 3 * GIB - 1); /* but for the zero page */
}

static void taking_back_more_than_was_promised_is_noticed(void **state)
{
	(void)state;
	assert_panics(hugetlb_acct_memory(h, -1), "0 pages are promised");
	spin_unlock(&h->lock);
}

/* Two threads promise, take, give and take back; what a pool says stays true. */
static void *use_the_pool(void *arg)
{
	u64 seed = *(u64 *)arg;

	for (unsigned i = 0; i < 2000; i++) {
		u64 n = rnd_below(&seed, 3);
		struct page *page;

		if (hugetlb_acct_memory(h, (s64)n))
			continue;
		if (n) {
			page = hugetlb_alloc_page(h, NULL, true);
			if (rnd_below(&seed, 2)) {
				page_clear(page, PG_RESTORE_RESERVE);
				n--;
			}
			page_put(w.e, page);
		}
		page = hugetlb_alloc_page(h, NULL, false);
		if (page)
			page_put(w.e, page);
		if (!rnd_below(&seed, 16))
			hugetlb_set_pool(h, rnd_below(&seed, 4));
		hugetlb_acct_memory(h, -(s64)n);
	}
	return NULL;
}

static void threads_that_share_a_pool_keep_its_counts(void **state)
{
	u64 seeds[2] = { 1, 2 };
	pthread_t threads[2];

	(void)state;
	hugetlb_set_pool(h, 2);
	hugetlb_set_overcommit(h, 2);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, use_the_pool, &seeds[i]);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	hugetlb_set_overcommit(h, 0);
	assert_int_equal(hugetlb_set_pool(h, 2), 2);
	expect(2, 2, 0, 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(there_are_two_sizes_and_2_mib_is_the_default),
		T(a_pool_takes_frames_from_the_system_and_gives_them_back),
		T(a_pool_grows_as_far_as_there_are_blocks),
		T(a_page_of_a_pool_comes_back_to_it),
		T(an_empty_pool_gives_nothing),
		T(what_is_promised_others_do_not_get),
		T(a_promised_page_that_finds_no_place_brings_the_promise_back),
		T(surplus_pages_come_with_a_promise_and_go_with_it),
		T(a_promise_that_fails_half_way_leaves_no_surplus),
		T(a_surplus_page_goes_back_to_the_system_when_it_is_free),
		T(a_pool_that_shrinks_keeps_what_is_used_and_promised_as_surplus),
		T(a_pool_that_grows_makes_surplus_pages_its_own_first),
		T(a_page_of_1_gib_is_taken_where_all_frames_are_free),
		T(taking_back_more_than_was_promised_is_noticed),
		T(threads_that_share_a_pool_keep_its_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
