/* SPDX-License-Identifier: MIT */
/* Free frames come together: what is moved, when it is tried, and when not. */
#include "engine/migrate/compaction.h"
#include "engine/space/calls.h"
#include "tests/unit/turns.h"

/* Eight blocks of 2 MiB, of which 300 pages are left to the engine. */
enum { FRAMES = 4096, USED = 3796, HUGE = PAGEBLOCK_ORDER };

static struct zone *zone;
static reclaim_fn reclaim;

static int setup(void **state)
{
	(void)state;
	start_turns((struct world_options){ .frames = FRAMES, .slots = 2 * FRAMES });
	zone = &w.e->zones[ZONE_USER];
	reclaim = w.e->reclaim;
	w.e->reclaim = NULL; /* what comes, comes of moving */
	return 0;
}

static u8 value(unsigned page)
{
	return (u8)(page * 7 + page / 256);
}

/* Fill memory, and give back all of every `n` pages but the first. */
static void fill_and_leave_one_of(unsigned n)
{
	map(0, USED, RW);
	for (unsigned i = 0; i < USED; i++)
		put(i, value(i));
	for (unsigned i = 0; i < USED; i++)
		if (i % n)
			assert_int_equal(do_madvise(mm, AT(i), P(1), UAPI_MADV_DONTNEED), 0);
}

static void are_as_they_were(unsigned n)
{
	for (unsigned i = 0; i < USED; i += n)
		assert_int_equal(get(i), value(i));
	soft_check(w.m);
}

static struct page *block(unsigned order)
{
	return page_alloc(w.e, ZONE_USER, order, 0);
}

static unsigned blocks_that_there_are(unsigned order)
{
	struct page *got[FRAMES];
	unsigned n = 0, count;

	while ((got[n] = page_alloc(w.e, ZONE_USER, order, ALLOC_RESERVE | ALLOC_NORECLAIM)))
		n++;
	for (count = n; n;)
		page_put(w.e, got[--n]);
	return count;
}

/* ---- by hand ---- */

static void what_is_in_pieces_comes_together(void **state)
{
	u64 free, faults;

	(void)state;
	fill_and_leave_one_of(4);
	free = free_frames();
	assert_true(blocks_that_there_are(HUGE) <= 1);
	faults = mm->minor + mm->major;
	assert_true(compact_memory(w.e) > 0);
	/* A quarter of eight is used: two blocks, and one perhaps in part. */
	assert_true(blocks_that_there_are(HUGE) >= 5);
	assert_int_equal(free_frames(), free);
	assert_int_equal(mm->minor + mm->major, faults);
	are_as_they_were(4);
}

static void what_is_compact_stays(void **state)
{
	(void)state;
	fill_and_leave_one_of(4);
	compact_memory(w.e);
	assert_true(compact_memory(w.e) < 64);
	are_as_they_were(4);
}

static void pages_go_up_and_free_frames_are_below(void **state)
{
	u64 first = zone->start_pfn, used = 0;

	(void)state;
	fill_and_leave_one_of(8);
	compact_memory(w.e);
	for (u64 pfn = first; pfn < first + FRAMES / 2; pfn++)
		used += page_test(pfn_page(w.e, pfn), PG_LRU);
	assert_int_equal(used, 0);
}

/* ---- for an allocation ---- */

static void an_allocation_finds_a_block(void **state)
{
	struct page *page;

	(void)state;
	fill_and_leave_one_of(4);
	assert_null(page_alloc(w.e, ZONE_USER, HUGE, ALLOC_NORECLAIM | ALLOC_RESERVE));
	page = block(HUGE);
	assert_non_null(page);
	assert_int_equal(zone->compaction.stall, 1);
	assert_int_equal(zone->compaction.success, 1);
	page_put(w.e, page);
	are_as_they_were(4);
}

static void one_that_may_not_wait_does_not(void **state)
{
	(void)state;
	fill_and_leave_one_of(4);
	assert_null(page_alloc(w.e, ZONE_USER, HUGE, ALLOC_NORECLAIM));
	assert_int_equal(zone->compaction.stall, 0);
}

static void little_is_moved_for_a_small_block(void **state)
{
	(void)state;
	fill_and_leave_one_of(2);
	assert_int_equal(try_to_compact(w.e, zone, 1), COMPACT_SUCCESS);
	assert_true(zone->compaction.isolated <= 32);
	are_as_they_were(2);
}

static void with_little_free_it_is_not_tried(void **state)
{
	(void)state;
	map(0, USED, RW);
	for (unsigned i = 0; i < USED; i++)
		put(i, value(i));
	assert_int_equal(try_to_compact(w.e, zone, HUGE), COMPACT_SKIPPED);
	assert_int_equal(zone->compaction.migrate_scanned, 0);
	are_as_they_were(1);
}

/* One frame of the engine's own in each block. */
static struct page *stones[FRAMES];
static unsigned nr_stones;

static void put_a_stone_into_each(u64 frames)
{
	struct page *got;

	nr_stones = 0;
	while ((got = page_alloc(w.e, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE)))
		stones[nr_stones++] = got;
	for (unsigned i = 0; i < nr_stones; i++)
		if (page_pfn(w.e, stones[i]) % frames) {
			page_put(w.e, stones[i]);
			stones[i--] = stones[--nr_stones];
		}
}

static void take_the_stones_away(void)
{
	while (nr_stones)
		page_put(w.e, stones[--nr_stones]);
}

static void a_block_that_cannot_be_emptied_is_left_alone(void **state)
{
	(void)state;
	put_a_stone_into_each(PAGEBLOCK_PAGES);
	fill_and_leave_one_of(4);
	assert_int_equal(try_to_compact(w.e, zone, HUGE), COMPACT_COMPLETE);
	assert_int_equal(zone->compaction.isolated, 0);
	/* There is room for less. */
	assert_int_equal(try_to_compact(w.e, zone, HUGE - 1), COMPACT_SUCCESS);
	take_the_stones_away();
	are_as_they_were(4);
}

static void what_has_failed_is_tried_less_and_less(void **state)
{
	(void)state;
	put_a_stone_into_each(PAGEBLOCK_PAGES);
	fill_and_leave_one_of(4);
	for (unsigned shift = 0; shift < COMPACT_MAX_DEFER_SHIFT + 2; shift++) {
		unsigned skipped = 0;

		while (try_to_compact(w.e, zone, HUGE) == COMPACT_DEFERRED)
			skipped++;
		assert_int_equal(skipped, (1u << (shift < COMPACT_MAX_DEFER_SHIFT
							  ? shift
							  : COMPACT_MAX_DEFER_SHIFT)) -
						  1);
	}
	/* A smaller block is another thing. */
	assert_int_equal(try_to_compact(w.e, zone, 4), COMPACT_SUCCESS);
	assert_int_equal(zone->compaction.defer_shift, 0);
	take_the_stones_away();
}

static void what_has_succeeded_is_tried_at_once_again(void **state)
{
	struct page *got[2];

	(void)state;
	put_a_stone_into_each(PAGEBLOCK_PAGES);
	fill_and_leave_one_of(4);
	for (unsigned i = 0; i < 4; i++)
		try_to_compact(w.e, zone, HUGE);
	assert_true(zone->compaction.defer_shift > 1);
	take_the_stones_away();
	while (try_to_compact(w.e, zone, HUGE) != COMPACT_SUCCESS)
		;
	assert_int_equal(zone->compaction.defer_shift, 0);
	assert_non_null(got[0] = block(HUGE));
	assert_non_null(got[1] = block(HUGE));
	page_put(w.e, got[0]);
	page_put(w.e, got[1]);
}

static void it_goes_on_where_it_was(void **state)
{
	struct page *got[2];
	u64 from, scanned;

	(void)state;
	fill_and_leave_one_of(4);
	assert_non_null(got[0] = block(HUGE));
	from = zone->compaction.migrate_pfn;
	assert_true(from > zone->start_pfn);
	scanned = zone->compaction.migrate_scanned;
	assert_non_null(got[1] = block(HUGE));
	assert_true(page_pfn(w.e, got[1]) >= from);
	assert_in_range(zone->compaction.migrate_scanned - scanned, 1, 2 * PAGEBLOCK_PAGES);
	page_put(w.e, got[0]);
	page_put(w.e, got[1]);
}

static enum compact_result then;

static void somebody_else_tries(void)
{
	then = try_to_compact(w.e, zone, HUGE);
}

static void one_at_a_time(void **state)
{
	(void)state;
	fill_and_leave_one_of(4);
	at.bytes = somebody_else_tries;
	assert_int_equal(try_to_compact(w.e, zone, HUGE), COMPACT_SUCCESS);
	assert_int_equal(then, COMPACT_CONTENDED);
}

static void huge_pages_are_not_moved(void **state)
{
	struct page *huge[FRAMES >> HUGE];
	unsigned n = 0;

	(void)state;
	while ((huge[n] = block(HUGE)))
		n++;
	assert_true(n > 4);
	/* Every second one stays. */
	for (unsigned i = 0; i < n; i += 2)
		page_put(w.e, huge[i]);
	map(0, 500, RW);
	for (unsigned i = 0; i < 500; i++)
		put(i, value(i));
	compact_memory(w.e);
	for (unsigned i = 1; i < n; i += 2) {
		assert_int_equal(huge[i]->refcount, 1);
		assert_true(page_test(huge[i], PG_HEAD));
		page_put(w.e, huge[i]);
	}
	for (unsigned i = 0; i < 500; i++)
		assert_int_equal(get(i), value(i));
}

static void broken_frames_are_not_moved_to(void **state)
{
	(void)state;
	fill_and_leave_one_of(4);
	for (u64 pfn = zone->start_pfn + FRAMES - 64; pfn < zone->start_pfn + FRAMES; pfn++)
		page_take_free(w.e, pfn_page(w.e, pfn));
	assert_true(zone->nr_retired > 0);
	compact_memory(w.e);
	for (u64 pfn = zone->start_pfn + FRAMES - 64; pfn < zone->start_pfn + FRAMES; pfn++)
		if (page_test(pfn_page(w.e, pfn), PG_HWPOISON))
			assert_int_equal(pfn_page(w.e, pfn)->refcount, 0);
	are_as_they_were(4);
}

static void where_no_page_can_be_moved_nobody_is_asked(void **state)
{
	void *direct = zone->direct_map;

	(void)state;
	assert_non_null(w.e->compact);
	w.e->compact = NULL;
	zone->direct_map = NULL;
	compaction_init(w.e);
	assert_null(w.e->compact);
	assert_int_equal(compact_memory(w.e), 0);
	zone->direct_map = direct;
}

/* ---- at once ---- */

static _Atomic bool stop, wrong;

/* A program that knows what it wrote. */
static void *use(void *arg)
{
	struct soft_cpu *cpu = arg;
	u8 byte;

	for (unsigned i = 0; !atomic_load(&stop); i++)
		for (unsigned page = 0; page < USED; page += 4) {
			bool right = !i || (soft_read_byte(cpu, AT(page), &byte) == FAULT_OK &&
					    byte == (u8)(i - 1 + page));

			right &= soft_write_byte(cpu, AT(page), i + page) == FAULT_OK;
			if (!right)
				atomic_store(&wrong, true);
		}
	return NULL;
}

static void blocks_are_found_under_a_program_that_uses_memory(void **state)
{
	pthread_t thread;
	unsigned found = 0;

	(void)state;
	w.e->mmu = &soft_mmu_ops;
	w.e->reclaim = reclaim;
	fill_and_leave_one_of(4);
	atomic_store(&stop, false);
	atomic_store(&wrong, false);
	assert_int_equal(pthread_create(&thread, NULL, use, cpu1), 0);
	for (unsigned i = 0; i < 60; i++) {
		struct page *page = i % 3 ? block(HUGE) : NULL;

		if (page) {
			found++;
			page_put(w.e, page);
		}
		compact_memory(w.e);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	assert_false(atomic_load(&wrong));
	assert_true(found > 20);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_turns)
	const struct CMUnitTest tests[] = {
		T(what_is_in_pieces_comes_together),
		T(what_is_compact_stays),
		T(pages_go_up_and_free_frames_are_below),
		T(an_allocation_finds_a_block),
		T(one_that_may_not_wait_does_not),
		T(little_is_moved_for_a_small_block),
		T(with_little_free_it_is_not_tried),
		T(a_block_that_cannot_be_emptied_is_left_alone),
		T(what_has_failed_is_tried_less_and_less),
		T(what_has_succeeded_is_tried_at_once_again),
		T(it_goes_on_where_it_was),
		T(one_at_a_time),
		T(huge_pages_are_not_moved),
		T(broken_frames_are_not_moved_to),
		T(where_no_page_can_be_moved_nobody_is_asked),
		T(blocks_are_found_under_a_program_that_uses_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
