/* SPDX-License-Identifier: MIT */
/* Which page goes next: each policy's order on small patterns, and what is remembered of pages that
 * are out. */
#include <pthread.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/space/huge.h"
#include "tests/unit/one_world.h"

static struct page *page_at(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

/* A world in which pages go one by one, with pages 0 .. n - 1 touched in this order. */
static void start_with(const struct reclaim_policy *policy, unsigned n)
{
	start((struct world_options){ .segment = 1, .policy = policy });
	map(0, 1000, RW);
	for (unsigned i = 0; i < n; i++)
		put(i, i);
}

/* The TLB is emptied, so that the next access to each page shows. */
static void forget_translations(void)
{
	soft_load_mm(w.cpu, NULL);
	w.e->mmu->flush(mm, WORLD_LOW, WORLD_HIGH);
	soft_load_mm(w.cpu, mm);
}

/* Use these pages, in a way that shows. */
static void use(unsigned from, unsigned to)
{
	forget_translations();
	for (unsigned i = from; i < to; i++)
		get(i);
	forget_translations();
}

/* As if nobody had used them since they were last looked at. */
static void make_old(unsigned from, unsigned to)
{
	spinlock_t *ptl;

	for (unsigned i = from; i < to; i++)
		w.e->mmu->test_and_clear_young(mm, AT(i), pte_find(mm, AT(i), &ptl));
	forget_translations();
}

/* One of pages 0 .. 999 is evicted: which? */
static unsigned next_victim(void)
{
	static bool before[1000];
	struct taken t;

	for (unsigned i = 0; i < 1000; i++)
		before[i] = page_at(i);
	for (unsigned tries = 0; tries < 1000; tries++) {
		assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
		if (t.taken + t.freed)
			break;
	}
	assert_int_equal(t.taken + t.freed, 1);
	for (unsigned i = 0; i < 1000; i++)
		if (before[i] && !page_at(i))
			return i;
	fail_msg("no page went");
	return 0;
}

static void victims_are(unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++)
		assert_int_equal(next_victim(), i);
}

/* ---- names ---- */

static void policies_have_names(void **state)
{
	(void)state;
	assert_ptr_equal(policy_find("lru"), &policy_lru);
	assert_ptr_equal(policy_find("gen"), &policy_gen);
	assert_ptr_equal(policy_find("clock"), &policy_clock);
	assert_ptr_equal(policy_find("fifo"), &policy_fifo);
	assert_null(policy_find("lr"));
	assert_null(policy_find("lruu"));
	assert_null(policy_find(""));
	start((struct world_options){ 0 });
	assert_ptr_equal(w.e->lru.policy, &policy_lru);
}

/* ---- order ---- */

static void fifo_asks_nobody(void **state)
{
	struct taken t;

	(void)state;
	start_with(&policy_fifo, 8);
	use(0, 3);
	victims_are(0, 2);
	assert_true(take_segment(w.e, false, NODE_MASK_ALL, &t));
	assert_int_equal(t.taken, 1);
	assert_null(page_at(2));
	victims_are(3, 8);
}

static void fifo_forgets_a_page_that_was_out(void **state)
{
	(void)state;
	start_with(&policy_fifo, 4);
	victims_are(0, 2);
	get(0); /* from its way out: a newcomer */
	victims_are(2, 4);
	victims_are(0, 1);
}

static void clock_passes_by_what_was_used(void **state)
{
	(void)state;
	start_with(&policy_clock, 8);
	/* All were used when they came: the hand goes around once and has reset all bits. */
	victims_are(0, 1);
	use(2, 3);
	use(5, 6);
	victims_are(1, 2);
	victims_are(3, 5);
	victims_are(6, 8);
	/* Passed once, they are next, in order. */
	victims_are(2, 3);
	victims_are(5, 6);
}

static void clock_sees_use_by_calls(void **state)
{
	(void)state;
	start_with(&policy_clock, 4);
	victims_are(0, 1);
	lru_mark_accessed(w.e, page_at(1));
	victims_are(2, 4);
	victims_are(1, 2);
}

static void lru_watches_before_it_judges(void **state)
{
	(void)state;
	start_with(&policy_lru, 90);
	/* One in nine is fresh, and nobody is active yet. */
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_FRESH], 10);
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_INACTIVE], 80);
	make_old(0, 90);
	use(1, 3);
	victims_are(0, 1);
	victims_are(3, 6);
	assert_int_equal(page_list(page_at(1)), LRU_ACTIVE);
	assert_int_equal(page_list(page_at(2)), LRU_ACTIVE);
	assert_int_equal(w.e->stats->activated, 2);
}

static void lru_keeps_active_what_goes_on_being_used(void **state)
{
	(void)state;
	start_with(&policy_lru, 30);
	for (unsigned i = 0; i < 20; i++) {
		lru_mark_accessed(w.e, page_at(i));
		lru_mark_accessed(w.e, page_at(i));
	}
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_ACTIVE], 20);
	/* Twenty of thirty are too many.  The first three have been used since. */
	make_old(0, 30);
	use(0, 3);
	victims_are(20, 21);
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_ACTIVE], 15);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(page_list(page_at(i)),
				 i < 3 || i >= 8 ? LRU_ACTIVE : LRU_INACTIVE);
	/* Then the pages that came before them, and they themselves. */
	victims_are(21, 29);
	victims_are(3, 4);
}

static void gen_is_a_queue_of_births_where_nothing_is_used(void **state)
{
	(void)state;
	start_with(&policy_gen, 100);
	assert_true(w.e->lru.nodes[0].max_seq >= 3); /* a walk for every 33 births */
	assert_true(w.e->lru.nodes[0].max_seq - w.e->lru.nodes[0].min_seq < MAX_NR_GENS);
	make_old(0, 100);
	victims_are(0, 34);
}

static void gen_makes_young_what_a_walk_finds_used(void **state)
{
	u64 seq;

	(void)state;
	start_with(&policy_gen, 100);
	make_old(0, 100);
	seq = w.e->lru.nodes[0].max_seq;
	use(3, 6);
	for (unsigned i = 100; i < 140; i++)
		put(i, i);
	assert_int_equal(w.e->lru.nodes[0].max_seq, seq + 1);
	for (unsigned i = 3; i < 6; i++)
		assert_int_equal(page_list(page_at(i)), seq % MAX_NR_GENS);
	victims_are(0, 3);
	victims_are(6, 30);
	assert_non_null(page_at(4));
}

static void gen_spares_what_is_used_at_the_last_moment(void **state)
{
	(void)state;
	start_with(&policy_gen, 100);
	make_old(0, 100);
	use(0, 1);
	victims_are(1, 3);
	assert_int_equal(page_list(page_at(0)), w.e->lru.nodes[0].max_seq % MAX_NR_GENS);
}

static void gen_comes_to_the_youngest_in_the_end(void **state)
{
	(void)state;
	start_with(&policy_gen, 40);
	for (unsigned i = 0; i < 40; i++)
		next_victim();
	assert_int_equal(lru_evictable(w.e), 0);
}

static void gen_sees_which_huge_pages_are_used(void **state)
{
	struct page *huge[2];
	spinlock_t *ptl;
	u64 seq;

	(void)state;
	start((struct world_options){ .frames = 4096, .policy = &policy_gen, .thp = THP_ALWAYS });
	map(0, 2 * HUGE_PAGES, RW);
	for (unsigned i = 0; i < 2; i++) {
		u64 va = AT(i * HUGE_PAGES);

		put(i * HUGE_PAGES, 1);
		huge[i] = pfn_page(w.e, pte_pfn(pte_peek(mm, va)));
		assert_true(page_test(huge[i], PG_HEAD));
		w.e->mmu->test_and_clear_young_huge(mm, va, pmd_find(mm, va, &ptl));
	}
	use(0, 1);
	seq = w.e->lru.nodes[0].max_seq;
	map(3 * HUGE_PAGES + 1, 600, RW);
	for (unsigned i = 0; w.e->lru.nodes[0].max_seq == seq; i++)
		put(3 * HUGE_PAGES + 1 + i, 1);
	assert_int_equal(page_list(huge[0]), seq % MAX_NR_GENS);
	assert_int_equal(page_list(huge[1]), (seq - 1) % MAX_NR_GENS);
}

/* ---- a scan ---- */

/* Major faults on 24 pages that are used all the time while a thousand others come once, with room
 * for some 200. */
static u64 flushed_by_a_scan(const struct reclaim_policy *policy)
{
	u64 before, lost = 0;

	start((struct world_options){ .segment = 1, .policy = policy });
	map(0, 2000, RW);
	for (unsigned i = 0; i < 24; i++)
		put(i, i);
	for (unsigned i = 0; i < 1000; i++) {
		put(100 + i, 1);
		if (i % 8 == 0)
			forget_translations();
		before = mm->major;
		get(i % 24);
		lost += mm->major - before;
	}
	return lost;
}

static void a_scan_flushes_what_is_hot_by_fifo(void **state)
{
	(void)state;
	assert_true(flushed_by_a_scan(&policy_fifo) >= 24);
}

static void no_scan_flushes_what_is_hot_by_lru(void **state)
{
	(void)state;
	assert_int_equal(flushed_by_a_scan(&policy_lru), 0);
}

static void no_scan_flushes_what_is_hot_by_gen(void **state)
{
	(void)state;
	assert_int_equal(flushed_by_a_scan(&policy_gen), 0);
}

/* ---- the working set ---- */

static void page_out(unsigned from, unsigned to)
{
	reclaim_range(mm, AT(from), AT(to));
	for (unsigned i = from; i < to; i++)
		assert_null(page_at(i));
}

static void an_anonymous_page_missed_soon_is_active(void **state)
{
	(void)state;
	start_with(&policy_lru, 200);
	page_out(0, 4);
	get(0);
	assert_int_equal(page_list(page_at(0)), LRU_ACTIVE);
	assert_int_equal(w.e->stats->workingset_refault, 1);
	assert_int_equal(w.e->stats->workingset_activate, 1);
	/* After more others than are active, and an eighth of those that are not, it is not. */
	page_out(10, 200);
	get(1);
	assert_int_not_equal(page_list(page_at(1)), LRU_ACTIVE);
	assert_int_equal(w.e->stats->workingset_refault, 2);
	assert_int_equal(w.e->stats->workingset_activate, 1);
}

static struct file *file_with(unsigned pages, bool shared_memory)
{
	u8 bytes[PAGE_SIZE];
	struct file *f = shared_memory ? shmem_file_setup(w.e, P(pages))
				       : ramfile_create(w.e, FILE_READ | FILE_WRITE, 4096);

	assert_non_null(f);
	for (unsigned i = 0; i < pages; i++) {
		memset(bytes, i, sizeof(bytes));
		assert_int_equal(file_write(f, P(i), bytes, PAGE_SIZE), PAGE_SIZE);
	}
	return f;
}

/* As an_anonymous_page_missed_soon_is_active(), with pages 1000 on of a file. */
static void pages_of_a_file_missed_soon(bool shared_memory)
{
	struct file *f;

	start_with(&policy_lru, 150);
	f = file_with(4, shared_memory);
	assert_int_equal(
		vm_map_file(mm, AT(1000), P(4), RW, VMAP_FIXED, VM_SHARED | VM_RAND_READ, f, 0),
		AT(1000));
	vfs_fsync_range(f, 0, ~0ULL);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(get(1000 + i), i);
	assert_int_equal(w.e->stats->workingset_refault, 0);
	page_out(1000, 1004);
	assert_int_equal(f->mapping->nr_pages, 0);
	assert_int_equal(shared_memory ? f->mapping->nr_swapped : f->mapping->nr_shadows, 4);
	assert_int_equal(w.e->nr_shadows, shared_memory ? 0 : 4);
	assert_int_equal(get(1000), 0);
	assert_int_equal(page_list(page_at(1000)) % LRU_OF_KIND, LRU_ACTIVE);
	assert_int_equal(w.e->stats->workingset_refault, 1);
	assert_int_equal(w.e->stats->workingset_activate, 1);
	page_out(0, 150);
	assert_int_equal(get(1001), 1);
	assert_int_not_equal(page_list(page_at(1001)) % LRU_OF_KIND, LRU_ACTIVE);
	assert_int_equal(w.e->stats->workingset_refault, 2);
	assert_int_equal(w.e->stats->workingset_activate, 1);
	engine_check(w.e);
	file_truncate(f, 0);
	assert_int_equal(w.e->nr_shadows, 0);
	engine_check(w.e);
	vm_unmap(mm, AT(1000), P(4));
	file_put(f);
}

static void a_page_of_a_file_missed_soon_is_active(void **state)
{
	(void)state;
	pages_of_a_file_missed_soon(false);
}

static void a_page_of_shared_memory_missed_soon_is_active(void **state)
{
	(void)state;
	pages_of_a_file_missed_soon(true);
}

static void read_page(struct file *f, unsigned page)
{
	u8 byte;

	assert_int_equal(file_read(f, P(page), &byte, 1), 1);
	assert_int_equal(byte, (u8)page);
}

static void there_are_no_more_shadows_than_frames(void **state)
{
	unsigned gone = 599;
	struct file *f;
	u64 refaults;

	(void)state;
	start((struct world_options){ .frames = 128 });
	f = file_with(600, false); /* most of it has gone by the time */
	assert_in_range(w.e->nr_shadows, 100, 128);
	engine_check(w.e);
	/* Those that are forgotten are not the latest. */
	while (page_cache_present(f->mapping, gone))
		gone--;
	refaults = w.e->stats->workingset_refault;
	read_page(f, gone);
	assert_int_equal(w.e->stats->workingset_refault, refaults + 1);
	for (unsigned i = 0; i < 600; i++)
		read_page(f, i);
	assert_in_range(w.e->nr_shadows, 100, 128);
	engine_check(w.e);
	file_put(f);
	assert_int_equal(w.e->nr_shadows, 0);
}

static void fifo_remembers_nothing(void **state)
{
	(void)state;
	start_with(&policy_fifo, 100);
	page_out(0, 1);
	get(0);
	assert_int_equal(w.e->stats->workingset_refault, 1);
	assert_int_equal(w.e->stats->workingset_activate, 0);
}

static void gen_remembers_as_long_as_generations_last(void **state)
{
	(void)state;
	start_with(&policy_gen, 100);
	page_out(0, 2);
	get(0);
	assert_int_equal(w.e->stats->workingset_activate, 1);
	assert_int_equal(page_list(page_at(0)), w.e->lru.nodes[0].max_seq % MAX_NR_GENS);
	for (unsigned i = 0; i < 600; i++)
		put(200 + i, i);
	get(1);
	assert_int_equal(w.e->stats->workingset_refault, 2);
	assert_int_equal(w.e->stats->workingset_activate, 1);
}

/* ---- all of them ---- */

/* Whatever the policy, no byte is lost; with files, forks and segments in between. */
static void nothing_is_lost_by(const struct reclaim_policy *policy, unsigned segment)
{
	static u8 model[600];
	u64 rnd = 17 + segment;
	struct file *f;

	start((struct world_options){ .frames = 192, .segment = segment, .policy = policy });
	map(0, 600, RW);
	memset(model, 0, sizeof(model));
	f = file_with(100, false);
	assert_int_equal(vm_map_file(mm, AT(1000), P(100), RW, VMAP_FIXED, VM_SHARED, f, 0),
			 AT(1000));
	for (unsigned step = 0; step < 6000; step++) {
		unsigned page = rnd_below(&rnd, rnd_below(&rnd, 600) + 1);

		switch (rnd_below(&rnd, 8)) {
		case 0:
			assert_int_equal(get(1000 + page % 100), page % 100);
			break;
		case 1:
		case 2:
			put(page, model[page] = step);
			break;
		default:
			assert_int_equal(get(page), model[page]);
		}
		if (step % 64 == 0)
			forget_translations();
		if (step % 1000 == 0)
			engine_check(w.e);
	}
	vm_unmap(mm, AT(1000), P(100));
	file_put(f);
	teardown(NULL);
}

static void nothing_is_lost_by_any(void **state)
{
	static const char *const names[] = { "lru", "gen", "clock", "fifo" };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		nothing_is_lost_by(policy_find(names[i]), 1);
		nothing_is_lost_by(policy_find(names[i]), 16);
	}
}

/* Spaces come and go while another thread's faults make generations, for which all are walked. */
static void *spaces_come_and_go(void *arg)
{
	struct soft_cpu *cpu = arg;

	for (unsigned round = 0; round < 200; round++) {
		struct mm *own;

		if (mm_create(w.e, WORLD_LOW, WORLD_HIGH, &own))
			return "mm_create";
		soft_load_mm(cpu, own);
		if (vm_map(own, AT(0), P(40), RW, VMAP_FIXED, 0) != (s64)AT(0))
			return "vm_map";
		for (unsigned i = 0; i < 40; i++)
			if (soft_write_byte(cpu, AT(i), i) != FAULT_OK)
				return "write";
		soft_load_mm(cpu, NULL);
		mm_destroy(own);
	}
	return NULL;
}

static void spaces_go_while_they_are_walked(void **state)
{
	pthread_t thread;
	void *error;

	(void)state;
	/* On a store that bears threads. */
	assert_int_equal(
		world_create(&w, (struct world_options){ .cpus = 2, .policy = &policy_gen }), 0);
	mm = w.mm;
	map(0, 1000, RW);
	pthread_create(&thread, NULL, spaces_come_and_go, &w.m->cpus[1]);
	for (unsigned round = 0; round < 6; round++)
		for (unsigned i = 0; i < 1000; i++)
			put(i, i);
	pthread_join(thread, &error);
	if (error)
		fail_msg("%s", (const char *)error);
	assert_true(w.e->lru.nodes[0].max_seq > 100);
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(policies_have_names),
		T(fifo_asks_nobody),
		T(fifo_forgets_a_page_that_was_out),
		T(clock_passes_by_what_was_used),
		T(clock_sees_use_by_calls),
		T(lru_watches_before_it_judges),
		T(lru_keeps_active_what_goes_on_being_used),
		T(gen_is_a_queue_of_births_where_nothing_is_used),
		T(gen_makes_young_what_a_walk_finds_used),
		T(gen_spares_what_is_used_at_the_last_moment),
		T(gen_comes_to_the_youngest_in_the_end),
		T(gen_sees_which_huge_pages_are_used),
		T(a_scan_flushes_what_is_hot_by_fifo),
		T(no_scan_flushes_what_is_hot_by_lru),
		T(no_scan_flushes_what_is_hot_by_gen),
		T(an_anonymous_page_missed_soon_is_active),
		T(a_page_of_a_file_missed_soon_is_active),
		T(a_page_of_shared_memory_missed_soon_is_active),
		T(there_are_no_more_shadows_than_frames),
		T(fifo_remembers_nothing),
		T(gen_remembers_as_long_as_generations_last),
		cmocka_unit_test(nothing_is_lost_by_any),
		T(spaces_go_while_they_are_walked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
