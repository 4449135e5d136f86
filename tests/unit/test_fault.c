/* SPDX-License-Identifier: MIT */
/* The fault path: which answer to which access, what is counted, what comes along. */
#include "tests/unit/one_world.h"

#define stats (w.e->stats)

static struct fault_result fault(unsigned page, u32 code)
{
	return do_user_addr_fault(mm, AT(page) + 5, code | PF_USER);
}

static bool is_mapped(unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, AT(page), &ptl);

	return ptep && pte_present(pte_read(ptep));
}

static unsigned mapped(unsigned from, unsigned to)
{
	unsigned n = 0;

	for (unsigned i = from; i < to; i++)
		n += is_mapped(i);
	return n;
}

static void page_out(unsigned from, unsigned to)
{
	reclaim_range(mm, AT(from), AT(to));
	assert_int_equal(mapped(from, to), 0);
}

/* ---- may it? ---- */

static void reasons(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	map(0, 1, VM_READ);
	map(1, 1, 0);
	map(2, 1, VM_WRITE);
	map(3, 1, VM_EXEC);
	assert_int_equal(fault(9, 0).reason, FAULT_MAPERR);
	assert_int_equal(fault(9, PF_INSTR).reason, FAULT_MAPERR);
	assert_int_equal(fault(0, PF_WRITE).reason, FAULT_ACCERR);
	assert_int_equal(fault(1, 0).reason, FAULT_ACCERR);
	assert_int_equal(fault(1, PF_WRITE).reason, FAULT_ACCERR);
	/* x86 cannot forbid reading alone. */
	assert_int_equal(fault(2, 0).reason, FAULT_OK);
	assert_int_equal(fault(3, 0).reason, FAULT_OK);
	/* A fetch finds out when the page is there. */
	assert_int_equal(fault(0, PF_INSTR).reason, FAULT_OK);
	assert_int_equal(fault(0, PF_INSTR | PF_PROT).reason, FAULT_ACCERR);
	assert_int_equal(fault(0, PF_PK | PF_PROT).reason, FAULT_ACCERR);
}

static void only_faults_that_succeed_are_counted(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	map(0, 1, VM_READ);
	fault(9, 0);
	fault(0, PF_WRITE);
	assert_int_equal(mm->minor + mm->major, 0);
	fault(0, 0);
	assert_int_equal(mm->minor, 1);
	assert_int_equal(stats->minor, 1);
	assert_int_equal(stats->zero, 1);
}

static void shared_anonymous_memory_is_not_ours(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	assert_int_equal(vm_map(mm, AT(0), P(1), RW, VMAP_FIXED, VM_SHARED), AT(0));
	assert_int_equal(fault(0, 0).reason, FAULT_BUS);
}

/* ---- anonymous ---- */

static void a_read_maps_the_zero_page_and_a_write_breaks_from_it(void **state)
{
	u64 free;

	(void)state;
	start((struct world_options){ 0 });
	map(0, 4, RW);
	free = zone_free_pages(w.e, ZONE_USER);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(get(i), 0);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(mm->minor, 4);
	put(1, 7);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(mm->minor, 5);
	assert_int_equal(get(0) + get(1) + get(2), 7);
	put(1, 8);
	assert_int_equal(mm->minor, 5);
}

/* In a frame that held something else before. */
static void what_breaks_from_the_zero_page_is_zeros_to_the_last_byte(void **state)
{
	u8 bytes[PAGE_SIZE];

	(void)state;
	start((struct world_options){ 0 });
	map(0, 1, RW);
	map(8, 1, RW);
	memset(bytes, 0xff, sizeof(bytes));
	assert_int_equal(soft_write(w.cpu, AT(8), bytes, sizeof(bytes)), FAULT_OK);
	assert_int_equal(vm_unmap(mm, AT(8), P(1)), 0);
	assert_int_equal(get(0), 0);
	put(0, 1);
	assert_int_equal(soft_read(w.cpu, AT(0), bytes, sizeof(bytes)), FAULT_OK);
	assert_int_equal(bytes[0], 1);
	for (unsigned i = 1; i < PAGE_SIZE; i++)
		assert_int_equal(bytes[i], 0);
}

static void another_cpu_sees_the_write_that_broke_from_the_zero_page(void **state)
{
	u8 byte;

	(void)state;
	start((struct world_options){ .cpus = 2 });
	map(0, 1, RW);
	soft_load_mm(&w.m->cpus[1], mm);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(0), &byte), FAULT_OK);
	put(0, 9);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(0), &byte), FAULT_OK);
	assert_int_equal(byte, 9);
}

static void a_page_made_writable_again_is_written_without_a_copy(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	map(0, 1, RW);
	put(0, 1);
	vm_protect(mm, AT(0), P(1), VM_READ);
	vm_protect(mm, AT(0), P(1), RW);
	put(0, 2);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(mm->minor, 1);
}

static void no_memory_at_all(void **state)
{
	unsigned i;

	(void)state;
	start((struct world_options){ .frames = 64 });
	assert_int_equal(vm_map(mm, AT(0), P(100), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	for (i = 0; i < 100; i++)
		if (soft_write_byte(w.cpu, AT(i), 1) != FAULT_OK)
			break;
	/* Locked pages are not reclaimed; `min` frames are not given out. */
	assert_int_equal(i, 64 - 1 - 64 / 16);
	assert_int_equal(fault(i, PF_WRITE).reason, FAULT_OOM);
	assert_int_equal(get(i - 1), 1);
}

static void where_the_limit_may_be_exceeded_it_is(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 64, .may_exceed = true });
	assert_int_equal(vm_map(mm, AT(0), P(62), RW, VMAP_FIXED, VM_LOCKED), AT(0));
	for (unsigned i = 0; i < 62; i++)
		put(i, i);
	assert_int_equal(mm->rss, 62);
}

/* ---- swap-in ---- */

static void what_was_paged_out_comes_back(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	map(0, 8, RW);
	for (unsigned i = 0; i < 8; i++)
		put(i, i + 1);
	page_out(0, 8);
	assert_int_equal(mm->swapped, 8);
	assert_int_equal(flaky.saves, 8);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(get(i), i + 1);
	assert_int_equal(mm->major, 8);
	assert_int_equal(mm->swapped, 0);
	assert_int_equal(w.e->swap.used, 0);
}

static void a_read_brings_it_in_writable_and_clean(void **state)
{
	spinlock_t *ptl;
	pte_t pte;

	(void)state;
	start((struct world_options){ .kept = 10 });
	map(0, 1, RW);
	put(0, 1);
	page_out(0, 1);
	assert_true(fault(0, 0).major);
	pte = pte_read(pte_find(mm, AT(0), &ptl));
	assert_true(pte_write(pte) && !pte_dirty(pte));
}

static void a_page_on_its_way_out_is_given_a_second_chance(void **state)
{
	struct fault_result r;
	struct taken t;

	(void)state;
	start((struct world_options){ 0 });
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 1);
	while (take_segment(w.e, true, NODE_MASK_ALL, &t) && !t.taken)
		;
	assert_int_equal(t.taken, 4);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(mapped(0, 4), 0);
	r = fault(2, 0);
	assert_int_equal(r.reason, FAULT_OK);
	assert_true(r.second_chance && !r.major);
	assert_int_equal(get(2), 3);
	assert_int_equal(flaky.loads + flaky.saves, 0);
	assert_int_equal(w.e->lru.nr_writeout, 3);
	/* It was missed at once: it is hot. */
	assert_int_equal(w.e->lru.nodes[0].nr[LRU_ACTIVE], 1);
}

static void a_load_that_fails_is_sigbus_and_never_bytes(void **state)
{
	const int errors[] = { -EIO, -EBADMSG };

	(void)state;
	start((struct world_options){ 0 });
	map(0, 1, RW);
	put(0, 1);
	page_out(0, 1);
	for (unsigned i = 0; i < 2; i++) {
		flaky.load_error = errors[i];
		assert_int_equal(fault(0, 0).reason, FAULT_BUS);
		assert_int_equal(stats->store_errors, i + 1);
		assert_int_equal(mapped(0, 1), 0);
		engine_check(w.e);
	}
	flaky.load_error = 0;
	assert_int_equal(get(0), 1);
}

static void a_neighbour_that_cannot_be_loaded_stays_out(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 16 });
	map(0, 64, RW);
	for (unsigned i = 0; i < 64; i++)
		put(i, i + 1);
	page_out(0, 64);
	for (unsigned i = 0; i < 4; i++)
		get(i);
	flaky.load_error = -EIO;
	spinlock_t *ptl;
	flaky.error_slot = swp_offset(pte_to_swp(pte_read(pte_find(mm, AT(10), &ptl))));
	for (unsigned i = 4; i < 10; i++)
		assert_int_equal(get(i), i + 1);
	assert_int_equal(mapped(10, 11), 0);
	assert_int_equal(stats->store_errors, 0);
	assert_int_equal(fault(10, 0).reason, FAULT_BUS);
	flaky.load_error = 0;
	for (unsigned i = 10; i < 64; i++)
		assert_int_equal(get(i), i + 1);
}

static void a_machine_that_says_again_gets_it_again(void **state)
{
	u64 free;

	(void)state;
	start((struct world_options){ 0 });
	map(0, 2, RW);
	put(0, 1);
	page_out(0, 1);
	free = zone_free_pages(w.e, ZONE_USER);
	w.m->inject.stage_again_every = 1;
	assert_int_equal(fault(0, 0).reason, FAULT_RETRY);
	assert_int_equal(fault(1, PF_WRITE).reason, FAULT_RETRY);
	w.m->inject.stage_again_every = 0;
	w.m->inject.set_again_every = 1;
	assert_int_equal(fault(0, 0).reason, FAULT_RETRY);
	assert_int_equal(fault(1, PF_WRITE).reason, FAULT_RETRY);
	assert_int_equal(fault(1, 0).reason, FAULT_RETRY);
	w.m->inject.set_again_every = 0;
	/* Nothing has happened, no lock is held, nothing is counted. */
	engine_check(w.e);
	assert_int_equal(zone_free_pages(w.e, ZONE_USER), free);
	assert_int_equal(mm->minor + mm->major, 1);
	assert_int_equal(get(0), 1);
}

/* ---- streams ---- */

static void a_stream_doubles_its_window(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 16 });
	map(0, 100, RW);
	put(0, 1);
	assert_int_equal(mapped(0, 100), 1);
	put(1, 1);
	assert_int_equal(mapped(0, 100), 3);
	put(3, 1);
	assert_int_equal(mapped(0, 100), 7);
	put(7, 1);
	assert_int_equal(mapped(0, 100), 15);
	put(15, 1);
	put(31, 1);
	assert_int_equal(mapped(0, 100), 47); /* and no further than config.prefetch */
	assert_int_equal(mm->minor, 6);
	assert_int_equal(stats->prefetched, 41);
	assert_int_equal(mm->rss, 47);
}

static void a_stream_downwards_too(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 8 });
	map(0, 100, RW);
	for (int i = 99; i >= 0; i--)
		put(i, i);
	assert_int_equal(mm->rss, 100);
	assert_true(mm->minor < 25);
	page_out(0, 100);
	for (int i = 99; i >= 0; i--)
		assert_int_equal(get(i), i);
	assert_true(mm->major < 25);
}

static void it_ends_with_the_vma_and_with_the_table(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 64 });
	map(480, 100, RW);
	assert_int_equal(AT(512) & ~PMD_MASK, 0);
	for (unsigned i = 480; i < 512; i++)
		put(i, 1);
	assert_int_equal(mapped(512, 580), 0);
	for (unsigned i = 512; i < 580; i++)
		put(i, 1);
	assert_int_equal(mm->rss, 100);
}

static void random_touches_bring_nothing_along(void **state)
{
	u64 rnd = 5;

	(void)state;
	start((struct world_options){ .prefetch = 64 });
	map(0, 20000, RW);
	for (unsigned i = 0; i < 100; i++)
		put(rnd_below(&rnd, 10000) * 2, 1);
	assert_true(stats->prefetched < 5);
}

static void several_streams_at_once(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 16, .frames = 1024 });
	map(0, 4000, RW);
	for (unsigned i = 0; i < 64; i++)
		for (unsigned k = 0; k < 8; k++)
			put(k * 500 + i, 1);
	assert_int_equal(mm->rss, mapped(0, 4000));
	assert_true(mm->minor <= 8 * 9);
}

static void each_space_has_its_own(void **state)
{
	struct mm *other;

	(void)state;
	start((struct world_options){ .prefetch = 16, .cpus = 2 });
	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &other), 0);
	soft_load_mm(&w.m->cpus[1], other);
	map(0, 100, RW);
	assert_int_equal(vm_map(other, AT(0), P(100), RW, VMAP_FIXED, 0), AT(0));
	put(0, 1);
	put(1, 1);
	/* Where the stream would go on, another begins. */
	assert_int_equal(soft_write_byte(&w.m->cpus[1], AT(3), 1), FAULT_OK);
	assert_int_equal(other->rss, 1);
	put(3, 1);
	assert_int_equal(mapped(0, 100), 7);
	soft_load_mm(&w.m->cpus[1], NULL);
	mm_destroy(other);
}

static void prefetching_leaves_the_reserve_alone(void **state)
{
	(void)state;
	start((struct world_options){ .prefetch = 64, .frames = 160 });
	map(0, 300, RW);
	for (unsigned i = 0; i < 300; i++) {
		put(i, 1);
		assert_true(zone_free_pages(w.e, ZONE_USER) >= w.e->config.marks.min);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, teardown)
	const struct CMUnitTest tests[] = {
		T(reasons),
		T(only_faults_that_succeed_are_counted),
		T(shared_anonymous_memory_is_not_ours),
		T(a_read_maps_the_zero_page_and_a_write_breaks_from_it),
		T(what_breaks_from_the_zero_page_is_zeros_to_the_last_byte),
		T(another_cpu_sees_the_write_that_broke_from_the_zero_page),
		T(a_page_made_writable_again_is_written_without_a_copy),
		T(no_memory_at_all),
		T(where_the_limit_may_be_exceeded_it_is),
		T(what_was_paged_out_comes_back),
		T(a_read_brings_it_in_writable_and_clean),
		T(a_page_on_its_way_out_is_given_a_second_chance),
		T(a_load_that_fails_is_sigbus_and_never_bytes),
		T(a_neighbour_that_cannot_be_loaded_stays_out),
		T(a_machine_that_says_again_gets_it_again),
		T(a_stream_doubles_its_window),
		T(a_stream_downwards_too),
		T(it_ends_with_the_vma_and_with_the_table),
		T(random_touches_bring_nothing_along),
		T(several_streams_at_once),
		T(each_space_has_its_own),
		T(prefetching_leaves_the_reserve_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
