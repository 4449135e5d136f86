/* SPDX-License-Identifier: MIT */
/*
 * The machine contract (engine/machine.h), operation by operation: the same source for every
 * machine.  A machine that passes may carry the engine.
 */
#include <pthread.h>

#include "engine/base/errno.h"
#include "engine/space/huge.h"
#include "tests/contract/batch.h"

/* ---- stage and set ---- */

static void what_was_staged_appears_whole_when_it_is_set(void **state)
{
	static const unsigned sizes[] = { 1, 2, 7, MMU_BATCH };
	struct batch b;

	(void)state;
	for (unsigned s = 0; s < ARRAY_SIZE(sizes); s++) {
		allocate(&b, 3, sizes[s], DIRTY);
		stage(&b);
		for (unsigned i = 0; i < b.n; i++)
			assert_false(program_present(&c, va_of(b.first + i)));
		set_all(&b);
		for (unsigned i = 0; i < b.n; i++)
			for (unsigned k = 0; k < PAGE_SIZE; k += 97)
				assert_int_equal(program_read(&c, i % CONTRACT_THREADS,
							      va_of(b.first + i) + k),
						 pattern(b.first + i, k));
		drop_batch(&b);
	}
}

static void neighbours_of_what_is_set_stay_absent(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 5, 1);
	assert_true(program_present(&c, va_of(b.first)));
	assert_false(program_present(&c, va_of(b.first - 1)));
	assert_false(program_present(&c, va_of(b.first + 1)));
	drop_batch(&b);
}

static void what_is_unstaged_never_appears(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 4, DIRTY);
	stage(&b);
	for (unsigned i = 0; i < b.n; i++)
		ops->unstage(c.engine, b.pages[i]);
	drop_batch(&b);
	for (unsigned i = 0; i < 4; i++)
		assert_false(program_present(&c, va_of(b.first + i)));
	map_batch(&b, 0, 4); /* and staging goes on as before */
	assert_int_equal(program_read(&c, 0, va_of(b.first + 3)), pattern(b.first + 3, 0));
	drop_batch(&b);
}

static void a_frame_of_zeros_appears_as_zeros(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 2, DIRTY);
	assert_int_equal(ops->stage(c.engine, b.pages, 2), 0);
	for (unsigned i = 0; i < 2; i++) {
		memset(ops->bytes(c.engine, b.pages[i]), 0, PAGE_SIZE);
		page_set(b.pages[i], PG_ZEROED);
	}
	set_all(&b);
	for (unsigned k = 0; k < PAGE_SIZE; k += 61)
		assert_int_equal(program_read(&c, 0, va_of(b.first + 1) + k), 0);
	program_write(&c, 0, va_of(b.first), 1);
	drop_batch(&b);
}

static void staged_frames_may_be_set_in_any_order_and_place(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 3, DIRTY);
	stage(&b);
	b.n = 1; /* the last one first, then the others */
	for (unsigned i = 3; i-- > 0;) {
		spin_lock(b.ptl);
		assert_int_equal(
			ops->set(c.mm, va_of(b.first + i), b.ptep + i, b.ptes + i, b.pages + i, 1),
			1);
		spin_unlock(b.ptl);
	}
	b.n = 3;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(program_read(&c, 0, va_of(b.first + i) + 9),
				 pattern(b.first + i, 9));
	drop_batch(&b);
}

/* The machine had a page there that the engine did not know of. */
static void a_page_that_is_there_already_is_not_overwritten(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 1, DIRTY);
	b.ptep[0] = slot_entry(0);
	if (program_gains_page(&c, va_of(b.first))) {
		program_write(&c, 0, va_of(b.first), 42);
		stage(&b);
		assert_int_equal(set_once(&b, 0), -EEXIST);
		assert_true(pte_same(b.ptep[0], slot_entry(0)));
		assert_int_equal(program_read(&c, 0, va_of(b.first)), 42);
		ops->unstage(c.engine, b.pages[0]);
		program_unmap(&c, va_of(b.first), 1);
	}
	drop_batch(&b);
}

/* ---- change ---- */

static void change_keeps_the_page_and_may_give_it_back_its_rights(void **state)
{
	struct batch b;

	(void)state;
	allocate(&b, 0, 1, RW & ~PTE_WRITE);
	stage(&b);
	set_all(&b);
	assert_int_equal(program_read(&c, 1, va_of(b.first) + 5), pattern(b.first, 5));
	spin_lock(b.ptl);
	ops->change(c.mm, va_of(b.first), b.ptep, pte_with(b.ptes[0], PTE_WRITE | PTE_DIRTY));
	spin_unlock(b.ptl);
	assert_true(pte_write(b.ptep[0]));
	assert_true(pte_dirty(b.ptep[0]));
	program_write(&c, 1, va_of(b.first) + 5, 200);
	assert_int_equal(program_read(&c, 2, va_of(b.first) + 5), 200);
	drop_batch(&b);
}

/* A write between the engine's look at the entry and its change must not be forgotten. */
static void change_never_loses_a_write(void **state)
{
	struct batch b;
	pte_t seen;

	(void)state;
	allocate(&b, 0, 1, RW);
	stage(&b);
	set_all(&b);
	seen = pte_read(b.ptep);
	program_write(&c, 0, va_of(b.first), 1);
	spin_lock(b.ptl);
	ops->change(c.mm, va_of(b.first), b.ptep, pte_without(seen, PTE_WRITE));
	spin_unlock(b.ptl);
	ops->flush(c.mm, va_of(b.first), va_of(b.first + 1));
	assert_int_equal(take_every(&b, 1), 1);
	assert_true(b.takes[0].dirty);
	assert_int_equal(((u8 *)ops->bytes(c.engine, b.pages[0]))[0], 1);
	drop_batch(&b);
}

/* What fork does to the parent: a batch loses its right to be written to, with one flush. */
static void a_write_protected_batch_is_flushed_once_and_not_written_to(void **state)
{
	struct batch b;

	(void)state;
	if (!ops->shares_pages)
		skip();
	map_batch(&b, 0, 16);
	for (unsigned t = 0; t < CONTRACT_THREADS; t++)
		for (unsigned i = 0; i < b.n; i++)
			assert_true(program_can_write(&c, t, va_of(b.first + i) + t, t));
	spin_lock(b.ptl);
	for (unsigned i = 0; i < b.n; i++)
		if (i != 5)
			ops->change(c.mm, va_of(b.first + i), b.ptep + i,
				    pte_without(pte_read(b.ptep + i), PTE_WRITE));
	ops->flush(c.mm, va_of(b.first), va_of(b.first + b.n)); /* the lock may be held */
	spin_unlock(b.ptl);
	for (unsigned t = 0; t < CONTRACT_THREADS; t++)
		for (unsigned i = 0; i < b.n; i++) {
			u64 va = va_of(b.first + i) + t;

			assert_int_equal(program_can_write(&c, t, va, 99), i == 5);
			assert_int_equal(program_read(&c, t, va), i == 5 ? 99 : t);
			assert_true(pte_dirty(b.ptep[i]));
		}
	drop_batch(&b);
}

/* And to the child: the same frame at another place. */
static void a_frame_may_be_mapped_at_two_places(void **state)
{
	struct batch b;

	(void)state;
	if (!ops->shares_pages)
		skip();
	map_batch(&b, 0, 2);
	spin_lock(b.ptl);
	ops->change(c.mm, va_of(b.first), b.ptep, pte_without(b.ptes[0], PTE_WRITE));
	spin_unlock(b.ptl);
	ops->flush(c.mm, va_of(b.first), va_of(b.first + 1));
	spin_lock(b.ptl);
	ops->clear(c.mm, va_of(b.first + 1), b.ptep + 1, (pte_t){ 0 });
	ops->flush(c.mm, va_of(b.first + 1), va_of(b.first + 2));
	b.ptes[1] = pte_read(b.ptep);
	assert_int_equal(ops->set(c.mm, va_of(b.first + 1), b.ptep + 1, b.ptes + 1, b.pages, 1), 1);
	spin_unlock(b.ptl);
	assert_int_equal(program_read(&c, 0, va_of(b.first + 1) + 5), pattern(b.first, 5));
	assert_false(program_can_write(&c, 1, va_of(b.first + 1), 1));
	/* Taken from one place it is still at the other. */
	b.n = 1;
	assert_int_equal(take_every(&b, 1), 1);
	assert_false(program_present(&c, va_of(b.first)));
	assert_int_equal(program_read(&c, 2, va_of(b.first + 1) + 7), pattern(b.first, 7));
	b.n = 2;
	drop_batch(&b);
}

/* ---- clear and flush ---- */

static void cleared_and_flushed_pages_are_gone_and_leave_what_was_asked(void **state)
{
	struct batch b;
	pte_t old;

	(void)state;
	map_batch(&b, 0, 3);
	for (unsigned i = 0; i < 3; i++)
		program_write(&c, i, va_of(b.first + i), 9);
	program_unmap(&c, va_of(b.first), 2);
	spin_lock(b.ptl);
	old = ops->clear(c.mm, va_of(b.first), b.ptep, (pte_t){ 0 });
	assert_int_equal(pte_pfn(old), page_pfn(c.engine, b.pages[0]));
	assert_true(pte_present(old) && pte_dirty(old));
	ops->clear(c.mm, va_of(b.first + 1), b.ptep + 1, slot_entry(1));
	spin_unlock(b.ptl);
	ops->flush(c.mm, va_of(b.first), va_of(b.first + 2));
	assert_true(pte_none(b.ptep[0]));
	assert_true(pte_same(b.ptep[1], slot_entry(1)));
	assert_false(program_present(&c, va_of(b.first)));
	assert_false(program_present(&c, va_of(b.first + 1)));
	assert_int_equal(program_read(&c, 3, va_of(b.first + 2)), 9);
	drop_batch(&b);
}

static void an_empty_flush_is_nothing(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 1);
	ops->flush(c.mm, va_of(b.first), va_of(b.first));
	assert_int_equal(program_read(&c, 0, va_of(b.first)), pattern(b.first, 0));
	drop_batch(&b);
}

/* ---- young ---- */

static void young_once_read_is_not_young_until_it_is_touched(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 1);
	program_read(&c, 0, va_of(b.first));
	spin_lock(b.ptl);
	ops->test_and_clear_young(c.mm, va_of(b.first), b.ptep); /* a machine may not see it */
	assert_false(ops->test_and_clear_young(c.mm, va_of(b.first), b.ptep));
	spin_unlock(b.ptl);
	assert_int_equal(program_read(&c, 0, va_of(b.first)), pattern(b.first, 0));
	drop_batch(&b);
}

/* ---- take ---- */

static void taken_pages_are_gone_with_their_last_contents_kept(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, MMU_BATCH);
	for (unsigned i = 0; i < b.n; i++) {
		program_write(&c, i % CONTRACT_THREADS, va_of(b.first + i) + 100,
			      pattern(b.first + i, 100) ^ 0xff);
		program_write(&c, i % CONTRACT_THREADS, va_of(b.first + i) + 100,
			      pattern(b.first + i, 100));
	}
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(b.takes[i].result, 0);
		assert_true(b.takes[i].dirty);
		assert_true(pte_same(b.ptep[i], slot_entry(i)));
		assert_true(filled(b.pages[i], b.first + i));
		assert_false(program_present(&c, va_of(b.first + i)));
	}
	drop_batch(&b);
}

static void pages_between_taken_ones_stay(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 30);
	assert_int_equal(take_every(&b, 3), 10);
	for (unsigned i = 0; i < b.n; i++) {
		bool taken = i % 3 == 0;

		assert_int_equal(program_present(&c, va_of(b.first + i)), !taken);
		assert_int_equal(pte_present(b.ptep[i]), !taken);
		if (taken)
			assert_true(filled(b.pages[i], b.first + i));
		else
			assert_int_equal(program_read(&c, 0, va_of(b.first + i) + 77),
					 pattern(b.first + i, 77));
	}
	drop_batch(&b);
}

/* The second chance: it comes back without being staged again. */
static void a_taken_page_can_be_set_again_with_its_contents(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 8);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(take_every(&b, 1), b.n);
		set_all(&b);
		for (unsigned i = 0; i < b.n; i++) {
			u64 at = va_of(b.first + i) + round;

			assert_int_equal(program_read(&c, 0, at), pattern(b.first + i, round));
			assert_int_equal(program_read(&c, 0, at + 2000),
					 pattern(b.first + i, round + 2000));
		}
	}
	drop_batch(&b);
}

static void some_of_a_taken_batch_can_come_back_and_others_go(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 8);
	assert_int_equal(take_every(&b, 1), b.n);
	for (unsigned i = 1; i < b.n; i += 2) {
		spin_lock(b.ptl);
		assert_int_equal(
			ops->set(c.mm, va_of(b.first + i), b.ptep + i, b.ptes + i, b.pages + i, 1),
			1);
		spin_unlock(b.ptl);
	}
	for (unsigned i = 0; i < b.n; i++) {
		assert_int_equal(program_present(&c, va_of(b.first + i)), i % 2);
		if (i % 2)
			assert_int_equal(program_read(&c, 0, va_of(b.first + i) + 3),
					 pattern(b.first + i, 3));
		else
			assert_true(filled(b.pages[i], b.first + i));
	}
	drop_batch(&b);
}

static void a_page_that_was_lost_is_reported_and_does_not_stop_the_others(void **state)
{
	struct batch b;

	(void)state;
	map_batch(&b, 0, 5);
	program_loses_page(&c, va_of(b.first + 2), b.ptep + 2);
	assert_int_equal(take_every(&b, 1), 4);
	for (unsigned i = 0; i < b.n; i++)
		assert_int_equal(b.takes[i].result, i == 2 ? -ENOENT : 0);
	assert_true(pte_none(b.ptep[2]));
	assert_true(filled(b.pages[3], b.first + 3));
	drop_batch(&b);
}

static void a_freed_frame_can_be_used_again(void **state)
{
	struct batch b;

	(void)state;
	for (unsigned round = 0; round < 6; round++) { /* more than there are frames */
		map_batch(&b, round, MMU_BATCH);
		assert_int_equal(take_every(&b, 1), b.n);
		for (unsigned i = 0; i < b.n; i++)
			assert_true(filled(b.pages[i], b.first + i));
		drop_batch(&b);
	}
}

/* ---- huge pages: where there are any ---- */

/* The area holds one, wherever it begins. */
enum { HUGE_AREA = 2 * HUGE_PAGES, HUGE_FRAMES = 4 * HUGE_PAGES };

static int setup_huge(void **state)
{
	(void)state;
	return create(CONTRACT_BARE, HUGE_AREA, HUGE_FRAMES);
}

static u64 huge_va(void)
{
	return (c.base + PMD_SIZE - 1) & PMD_MASK;
}

static void a_machine_has_all_operations_of_huge_pages_or_none(void **state)
{
	(void)state;
	assert_int_equal(!ops->set_huge, !ops->change_huge);
	assert_int_equal(!ops->set_huge, !ops->clear_huge);
	assert_int_equal(!ops->set_huge, !ops->test_and_clear_young_huge);
}

static void a_huge_page_comes_changes_and_goes_as_one(void **state)
{
	u64 va = huge_va(), at = va + 77 * PAGE_SIZE;
	struct page *page;
	spinlock_t *ptl;
	pte_t *pmdp, pmd, old;

	(void)state;
	if (!ops->set_huge)
		return;
	page = page_alloc(c.engine, ZONE_USER, HUGE_ORDER, 0);
	pmdp = pmd_alloc(c.mm, va, &ptl);
	assert_true(page && pmdp);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		memset(ops->bytes(c.engine, page + i), (int)i, PAGE_SIZE);
	pmd = pte_make(page_pfn(c.engine, page), RW | PTE_HUGE);

	spin_lock(ptl);
	assert_int_equal(ops->set_huge(c.mm, va, pmdp, pmd, page), 0);
	spin_unlock(ptl);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(program_read(&c, i % CONTRACT_THREADS, va + i * PAGE_SIZE), (u8)i);
	assert_false(pte_dirty(pte_read(pmdp)));
	program_write(&c, 0, at, 200);
	assert_true(pte_dirty(pte_read(pmdp)));
	assert_true(ops->test_and_clear_young_huge(c.mm, va, pmdp));
	assert_false(ops->test_and_clear_young_huge(c.mm, va, pmdp));

	spin_lock(ptl);
	ops->change_huge(c.mm, va, pmdp, pte_without(pmd, PTE_WRITE));
	ops->flush(c.mm, va, va + PMD_SIZE);
	assert_true(pte_dirty(pte_read(pmdp)));
	for (unsigned i = 0; i < CONTRACT_THREADS; i++)
		assert_false(program_can_write(&c, i, at, 1));

	old = ops->clear_huge(c.mm, va, pmdp, (pte_t){ 0 });
	ops->flush(c.mm, va, va + PMD_SIZE);
	spin_unlock(ptl);
	assert_true(pte_dirty(old));
	assert_true(pte_none(pte_read(pmdp)));
	assert_false(program_present(&c, va) || program_present(&c, at));
	assert_int_equal(*(u8 *)ops->bytes(c.engine, page + 77), 200);
	page_put(c.engine, page);
}

/* ---- with the engine ---- */

enum { MANY = 1024, FEW = 256 };

static int setup_served(void **state)
{
	(void)state;
	return create(CONTRACT_SERVED, MANY, FEW);
}

/* Each thread has every CONTRACT_THREADS'th byte of each page to itself. */
static void *use_more_than_there_is(void *arg)
{
	unsigned self = (uintptr_t)arg;
	uint64_t rnd = self + 1;
	static u8 expected[CONTRACT_THREADS][MANY];

	for (unsigned i = 0; i < 20 * MANY; i++) {
		unsigned n = i < MANY ? i : rnd_below(&rnd, MANY);
		u64 va = va_of(n) + self + 64 * (n % 32);

		if (program_read(&c, self, va) != expected[self][n])
			abort();
		if (i % 3 == 0)
			continue;
		expected[self][n] = rnd_next(&rnd);
		program_write(&c, self, va, expected[self][n]);
	}
	return NULL;
}

static void a_program_larger_than_memory_keeps_every_byte(void **state)
{
	pthread_t t[CONTRACT_THREADS];

	(void)state;
	for (uintptr_t i = 0; i < CONTRACT_THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, use_more_than_there_is, (void *)i), 0);
	for (unsigned i = 0; i < CONTRACT_THREADS; i++)
		pthread_join(t[i], NULL);
	assert_true(atomic_load(&c.engine->stats->evicted_dirty) > 0);
	assert_true(atomic_load(&c.engine->stats->major) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		contract_test(what_was_staged_appears_whole_when_it_is_set),
		contract_test(neighbours_of_what_is_set_stay_absent),
		contract_test(what_is_unstaged_never_appears),
		contract_test(a_frame_of_zeros_appears_as_zeros),
		contract_test(staged_frames_may_be_set_in_any_order_and_place),
		contract_test(a_page_that_is_there_already_is_not_overwritten),
		contract_test(change_keeps_the_page_and_may_give_it_back_its_rights),
		contract_test(change_never_loses_a_write),
		contract_test(a_write_protected_batch_is_flushed_once_and_not_written_to),
		contract_test(a_frame_may_be_mapped_at_two_places),
		contract_test(cleared_and_flushed_pages_are_gone_and_leave_what_was_asked),
		contract_test(an_empty_flush_is_nothing),
		contract_test(young_once_read_is_not_young_until_it_is_touched),
		contract_test(taken_pages_are_gone_with_their_last_contents_kept),
		contract_test(pages_between_taken_ones_stay),
		contract_test(a_taken_page_can_be_set_again_with_its_contents),
		contract_test(some_of_a_taken_batch_can_come_back_and_others_go),
		contract_test(a_page_that_was_lost_is_reported_and_does_not_stop_the_others),
		contract_test(a_freed_frame_can_be_used_again),
		contract_test(a_machine_has_all_operations_of_huge_pages_or_none),
		cmocka_unit_test_setup_teardown(a_huge_page_comes_changes_and_goes_as_one,
						setup_huge, teardown),
		cmocka_unit_test_setup_teardown(a_program_larger_than_memory_keeps_every_byte,
						setup_served, teardown),
	};

	return run_contract(tests);
}
