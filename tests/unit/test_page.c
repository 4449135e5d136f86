/* SPDX-License-Identifier: MIT */
/* Frame descriptors and the buddy allocator, without any machine but its release(). */
#include <pthread.h>

#include "engine/engine.h"
#include "tests/unit/panics.h"

enum { TABLE = 64, USER = 3000 }; /* USER: not a multiple of the largest block */

static struct engine e;
static char *table_map;
static _Atomic u64 released;

static void count_release(struct engine *engine, struct page *page)
{
	(void)engine;
	assert_int_equal(page->zone, ZONE_USER);
	atomic_fetch_add(&released, 1);
}

static const struct mmu_ops ops = { .name = "test", .release = count_release };

static int setup(void **state)
{
	(void)state;
	memset(&e, 0, sizeof(e));
	e.mmu = &ops;
	e.nr_pages = TABLE + USER;
	e.pages = calloc(e.nr_pages, sizeof(*e.pages));
	table_map = aligned_alloc(PAGE_SIZE, TABLE * PAGE_SIZE);
	memset(table_map, 0xa5, TABLE * PAGE_SIZE);
	zone_init(&e, ZONE_TABLE, 0, TABLE, table_map);
	nodes_init(&e, &(struct numa_config){ 0 }, TABLE, USER, NULL);
	atomic_store(&released, 0);
	return 0;
}

/* Every test must have given back what it took. */
static int teardown(void **state)
{
	(void)state;
	zone_check(&e, ZONE_TABLE);
	zone_check(&e, ZONE_USER);
	assert_int_equal(zone_free_pages(&e, ZONE_TABLE), TABLE);
	assert_int_equal(zone_free_pages(&e, ZONE_USER), USER);
	free(e.pages);
	free(table_map);
	return 0;
}

static u64 blocks(enum zone_type zone, unsigned order)
{
	struct list_head *pos;
	u64 n = 0;

	list_for_each (pos, &e.zones[zone].free[order])
		n++;
	return n;
}

static void a_new_zone_is_cut_into_the_largest_aligned_blocks(void **state)
{
	(void)state;
	zone_check(&e, ZONE_TABLE);
	zone_check(&e, ZONE_USER);
	assert_int_equal(blocks(ZONE_TABLE, 6), 1);
	/* 64 .. 3064 = 64 128 256 512 | 1024 | 512 256 128 64 32 16 8 */
	assert_int_equal(blocks(ZONE_USER, 10), 1);
	assert_int_equal(blocks(ZONE_USER, 9), 2);
	assert_int_equal(blocks(ZONE_USER, 3), 1);
	assert_int_equal(blocks(ZONE_USER, 0), 0);
}

static void a_page_comes_fresh_and_goes_back(void **state)
{
	struct page *p = page_alloc(&e, ZONE_USER, 0, 0);

	(void)state;
	assert_non_null(p);
	assert_int_equal(p->refcount, 1);
	assert_int_equal(p->flags, 0);
	assert_int_equal(p->order, 0);
	assert_ptr_equal(pfn_page(&e, page_pfn(&e, p)), p);
	assert_in_range(page_pfn(&e, p), TABLE, TABLE + USER - 1);
	assert_null(page_direct(&e, p));
	assert_int_equal(zone_free_pages(&e, ZONE_USER), USER - 1);
	p->where = 99;
	p->index = 7;
	page_set(p, PG_DIRTY | PG_WORKINGSET);
	page_put(&e, p);
	assert_int_equal(atomic_load(&released), 1);

	p = page_alloc(&e, ZONE_USER, 0, 0); /* the same frame: nothing is left of its past */
	assert_int_equal(p->flags, 0);
	assert_int_equal(p->where, 0);
	assert_int_equal(p->index, 0);
	page_put(&e, p);
}

static void only_the_last_reference_frees(void **state)
{
	struct page *p = page_alloc(&e, ZONE_USER, 0, 0);

	(void)state;
	page_get(p);
	assert_true(page_tryget(p));
	page_put(&e, p);
	page_put(&e, p);
	assert_int_equal(zone_free_pages(&e, ZONE_USER), USER - 1);
	assert_int_equal(atomic_load(&released), 0);
	page_put(&e, p);
	assert_int_equal(atomic_load(&released), 1);
	assert_false(page_tryget(p));
}

static void table_frames_have_bytes_and_can_be_zeroed(void **state)
{
	struct page *p = page_alloc(&e, ZONE_TABLE, 1, ALLOC_ZERO);
	const char *bytes = page_direct(&e, p);

	(void)state;
	assert_ptr_equal(bytes, table_map + page_pfn(&e, p) * PAGE_SIZE);
	for (u64 i = 0; i < 2 * PAGE_SIZE; i++)
		assert_int_equal(bytes[i], 0);
	page_put(&e, p);
	assert_int_equal(atomic_load(&released), 0); /* the machine knows nothing of tables */
}

static void blocks_are_naturally_aligned(void **state)
{
	struct page *p[MAX_ORDER];

	(void)state;
	for (unsigned order = 0; order < MAX_ORDER; order++) {
		p[order] = page_alloc(&e, ZONE_USER, order, 0);
		assert_non_null(p[order]);
		assert_int_equal(page_pfn(&e, p[order]) & ((1 << order) - 1), 0);
		zone_check(&e, ZONE_USER);
	}
	assert_null(page_alloc(&e, ZONE_USER, MAX_ORDER, 0));
	for (unsigned order = 0; order < MAX_ORDER; order++)
		page_put(&e, p[order]);
}

static void all_of_a_zone_can_be_had_once(void **state)
{
	static struct page *p[USER + 1]; /* the last stays NULL */
	u64 n = 0;

	(void)state;
	while ((p[n] = page_alloc(&e, ZONE_USER, 0, 0)))
		n++;
	assert_int_equal(n, USER);
	for (u64 i = 0; i < n; i++)
		page_put(&e, p[(i * 7) % n]); /* 7 and 3000 have no common divisor */
	assert_int_equal(blocks(ZONE_USER, 10), 1);
	assert_int_equal(blocks(ZONE_USER, 0), 0);
}

/* ---- watermarks ---- */

static struct page *held[USER];
static u64 nr_held, reclaim_calls, reclaim_wanted, reclaim_gives;

static u64 give_some(struct engine *engine, u64 want, nodemask_t nodes)
{
	u64 freed = 0;

	(void)nodes;
	reclaim_calls++;
	reclaim_wanted = want;
	for (; freed < want && reclaim_gives && nr_held; freed++, reclaim_gives--)
		page_put(engine, held[--nr_held]);
	return freed;
}

/* Hold all but `left` frames, without regard to the watermark. */
static void hold_all_but(u64 left)
{
	nr_held = 0;
	while (zone_free_pages(&e, ZONE_USER) > left)
		held[nr_held++] = page_alloc(&e, ZONE_USER, 0, ALLOC_RESERVE);
	reclaim_calls = 0;
}

static void release_held(void)
{
	while (nr_held)
		page_put(&e, held[--nr_held]);
	e.reclaim = NULL;
}

static void below_min_an_allocation_reclaims_first(void **state)
{
	struct page *p;

	(void)state;
	e.config.marks.min = 10;
	e.reclaim = give_some;
	hold_all_but(11);
	p = page_alloc(&e, ZONE_USER, 0, 0);
	assert_non_null(p);
	assert_int_equal(reclaim_calls, 0);
	held[nr_held++] = p;

	reclaim_gives = 100;
	p = page_alloc(&e, ZONE_USER, 0, 0);
	assert_non_null(p);
	assert_int_equal(reclaim_calls, 1);
	assert_int_equal(reclaim_wanted, 1);
	assert_int_equal(zone_free_pages(&e, ZONE_USER), 10);
	page_put(&e, p);
	release_held();
}

static void without_reclaim_the_watermark_is_a_wall_except_for_reserves(void **state)
{
	struct page *p;

	(void)state;
	e.config.marks.min = 10;
	e.config.may_exceed = true;
	e.reclaim = give_some;
	hold_all_but(10);
	assert_null(page_alloc(&e, ZONE_USER, 0, ALLOC_NORECLAIM));
	assert_int_equal(reclaim_calls, 0);
	p = page_alloc(&e, ZONE_USER, 0, ALLOC_RESERVE | ALLOC_NORECLAIM);
	assert_non_null(p);
	page_put(&e, p);
	release_held();
}

static void when_reclaim_cannot_help_exceeding_is_a_choice(void **state)
{
	struct page *p;

	(void)state;
	e.config.marks.min = 10;
	e.reclaim = give_some;
	reclaim_gives = 0;
	hold_all_but(10);
	assert_null(page_alloc(&e, ZONE_USER, 0, 0));
	assert_int_equal(reclaim_calls, 1);
	e.config.may_exceed = true;
	p = page_alloc(&e, ZONE_USER, 0, 0);
	assert_non_null(p);
	assert_int_equal(zone_free_pages(&e, ZONE_USER), 9);
	page_put(&e, p);
	release_held();
}

static void table_frames_know_no_watermark(void **state)
{
	struct page *p;

	(void)state;
	e.config.marks.min = 1000;
	e.reclaim = give_some;
	reclaim_calls = 0;
	p = page_alloc(&e, ZONE_TABLE, 6, 0);
	assert_non_null(p);
	assert_null(page_alloc(&e, ZONE_TABLE, 0, 0));
	assert_int_equal(reclaim_calls, 0);
	page_put(&e, p);
}

/* ---- misuse is found ---- */

static void freeing_what_is_in_use_panics(void **state)
{
	struct page *p = page_alloc(&e, ZONE_USER, 0, 0);

	(void)state;
	page_lock(p);
	assert_panics(page_put(&e, p), "in use");
	page_unlock(p);
	atomic_store(&p->refcount, 1);
	atomic_store(&p->mapcount, 1);
	assert_panics(page_put(&e, p), "mapped 1 times");
	atomic_store(&p->mapcount, 0);
	atomic_store(&p->refcount, 1);
	page_put(&e, p);
	assert_panics(page_put(&e, p), "free already");
	atomic_store(&p->refcount, 0);
	assert_panics(page_get(p), "free");
	atomic_store(&p->refcount, 0);
}

static void zone_check_finds_a_lost_frame(void **state)
{
	struct page *p = page_alloc(&e, ZONE_USER, 0, 0);

	(void)state;
	atomic_fetch_add(&e.zones[ZONE_USER].nr_free, 1);
	assert_panics(zone_check(&e, ZONE_USER), "counted");
	atomic_fetch_sub(&e.zones[ZONE_USER].nr_free, 1);
	page_put(&e, p);
}

/* ---- compound pages ---- */

static void frames_of_a_compound_page_lead_to_its_head(void **state)
{
	struct page *head = page_alloc(&e, ZONE_USER, 9, 0);

	(void)state;
	assert_int_equal(head->flags, PG_HEAD);
	assert_int_equal(page_frames(head), 512);
	for (unsigned i = 0; i < 512; i++) {
		assert_ptr_equal(page_head(head + i), head);
		assert_int_equal(head[i].flags, i ? PG_TAIL : PG_HEAD);
		assert_int_equal(head[i].refcount, !i);
	}
	page_put(&e, head);
	assert_int_equal(atomic_load(&released), 512);
	assert_int_equal(head->flags & ~PG_BUDDY, 0);
	assert_int_equal(head[511].flags & ~PG_BUDDY, 0);
}

static void a_page_that_was_cut_is_single_pages_with_what_the_head_had(void **state)
{
	struct page *head = page_alloc(&e, ZONE_USER, 3, 0);

	(void)state;
	head->index = 40;
	page_set(head, PG_DIRTY | PG_LOCKED);
	page_get(head); /* ours, beside the two that all of them get */
	page_get(head);
	atomic_store(&head->mapcount, 2);
	page_cut(head, 2, 2);
	assert_int_equal(head->flags, PG_DIRTY | PG_LOCKED);
	assert_int_equal(head->refcount, 3);
	page_clear(head, PG_LOCKED);
	for (unsigned i = 0; i < 8; i++) {
		struct page *p = head + i;

		assert_ptr_equal(page_head(p), p);
		assert_int_equal(page_frames(p), 1);
		assert_int_equal(p->flags, PG_DIRTY);
		assert_int_equal(p->refcount, i ? 2 : 3);
		assert_int_equal(p->mapcount, 2);
		assert_int_equal(p->index, 40 + i);
		atomic_store(&p->mapcount, 0);
		page_put(&e, p);
		page_put(&e, p);
	}
	assert_int_equal(atomic_load(&released), 7);
	page_put(&e, head);
	assert_int_equal(zone_free_pages(&e, ZONE_USER), USER);
}

/* ---- threads ---- */

enum { THREADS = 4, STEPS = 20000, MOST = 64 };

static _Atomic u32 owner[TABLE + USER]; /* thread + 1 that holds the frame */

static void own(struct page *p, u32 from, u32 to)
{
	u64 pfn = page_pfn(&e, p);

	for (u64 i = 0; i < 1ULL << p->order; i++) {
		u32 old = from;

		if (!atomic_compare_exchange_strong(&owner[pfn + i], &old, to))
			abort(); /* somebody else holds it, too */
	}
}

static void *allocate_and_free_at_random(void *arg)
{
	u32 self = (uintptr_t)arg + 1;
	uint64_t rnd = self * 7919;
	struct page *mine[MOST];
	unsigned n = 0;

	for (int step = 0; step < STEPS; step++) {
		unsigned order = rnd_below(&rnd, 3) ? rnd_below(&rnd, 4) : rnd_below(&rnd, 11);
		struct page *p = NULL;

		if (n < MOST && rnd_below(&rnd, 2))
			p = page_alloc(&e, ZONE_USER, order, 0);
		if (p) {
			own(p, 0, self);
			mine[n++] = p;
		} else if (n) {
			unsigned k = rnd_below(&rnd, n);

			own(mine[k], self, 0);
			page_put(&e, mine[k]);
			mine[k] = mine[--n];
		}
	}
	while (n--) {
		own(mine[n], self, 0);
		page_put(&e, mine[n]);
	}
	return NULL;
}

static void run_threads(void *(*body)(void *))
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, body, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void threads_never_share_a_frame_and_all_coalesces_again(void **state)
{
	u64 before[MAX_ORDER];

	(void)state;
	for (unsigned order = 0; order < MAX_ORDER; order++)
		before[order] = blocks(ZONE_USER, order);
	run_threads(allocate_and_free_at_random);
	zone_check(&e, ZONE_USER);
	for (unsigned order = 0; order < MAX_ORDER; order++)
		assert_int_equal(blocks(ZONE_USER, order), before[order]);
}

static struct page *shared;
static u64 under_page_lock;

static void *lock_the_page(void *arg)
{
	for (int i = 0; i < STEPS; i++) {
		page_lock(shared);
		under_page_lock++;
		page_unlock(shared);
		/* Other flags come and go beside the lock. */
		if (i % 2)
			page_set(shared, PG_REFERENCED);
		else
			page_clear(shared, PG_REFERENCED);
		page_get(shared);
		page_put(&e, shared);
	}
	return arg;
}

static void the_page_lock_lets_one_in_at_a_time(void **state)
{
	(void)state;
	shared = page_alloc(&e, ZONE_USER, 0, 0);
	under_page_lock = 0;
	run_threads(lock_the_page);
	assert_int_equal(under_page_lock, (u64)THREADS * STEPS);
	assert_true(page_trylock(shared));
	assert_false(page_trylock(shared));
	page_unlock(shared);
	page_put(&e, shared);
}

#define page_test_case(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		page_test_case(a_new_zone_is_cut_into_the_largest_aligned_blocks),
		page_test_case(a_page_comes_fresh_and_goes_back),
		page_test_case(only_the_last_reference_frees),
		page_test_case(table_frames_have_bytes_and_can_be_zeroed),
		page_test_case(blocks_are_naturally_aligned),
		page_test_case(frames_of_a_compound_page_lead_to_its_head),
		page_test_case(a_page_that_was_cut_is_single_pages_with_what_the_head_had),
		page_test_case(all_of_a_zone_can_be_had_once),
		page_test_case(below_min_an_allocation_reclaims_first),
		page_test_case(without_reclaim_the_watermark_is_a_wall_except_for_reserves),
		page_test_case(when_reclaim_cannot_help_exceeding_is_a_choice),
		page_test_case(table_frames_know_no_watermark),
		page_test_case(freeing_what_is_in_use_panics),
		page_test_case(zone_check_finds_a_lost_frame),
		page_test_case(threads_never_share_a_frame_and_all_coalesces_again),
		page_test_case(the_page_lock_lets_one_in_at_a_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
