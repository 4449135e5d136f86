/* SPDX-License-Identifier: MIT */
/*
 * One page or several, handled as the engine handles them: what every test program of the contract
 * is written with.  Included once by each, after which `c` is its machine.
 */
#ifndef VMF_TESTS_CONTRACT_BATCH_H
#define VMF_TESTS_CONTRACT_BATCH_H

#include "tests/contract/contract_machine.h"
#include "tests/unit/unit.h"

enum { PAGES = 160, FRAMES = 256 };

static struct contract c;
static const struct mmu_ops *ops;

/* The bits of an ordinary page of the area. */
#define RW    (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX | PTE_ACCESSED)
#define DIRTY (RW | PTE_DIRTY)

static inline u64 va_of(unsigned n)
{
	return c.base + n * PAGE_SIZE;
}

/* A run of `n` pages that one page table holds, as high in the area as the table begins. */
static inline unsigned first_of_run(unsigned n)
{
	u64 in_table = (c.base >> PAGE_SHIFT) % PTRS_PER_TABLE;

	return in_table + n <= PTRS_PER_TABLE ? 0 : PTRS_PER_TABLE - in_table;
}

/* A machine with its area for the next test. */
static inline int create(enum contract_mode mode, u64 pages, u64 frames)
{
	int err = contract_create(&c, mode, pages, frames);

	if (err)
		fprintf(stderr, "the machine cannot be made: error %d\n", err);
	else
		ops = c.engine->mmu;
	return err;
}

static inline int setup(void **state)
{
	(void)state;
	return create(CONTRACT_BARE, PAGES, FRAMES);
}

static inline int teardown(void **state)
{
	(void)state;
	contract_destroy(&c);
	return 0;
}

#define contract_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Skips all where there is no such machine.  A test that fails leaves the machine in the middle of
 * something, from which teardown would not come back: so the first one ends it all. */
#define run_contract(tests)                                                                        \
	(begin() ? cmocka_run_group_tests(tests, NULL, NULL) : 77 /* meson: skipped */)

static inline bool begin(void)
{
	const char *why = contract_missing();

	if (why)
		printf("skipped: %s\n", why);
	setenv("CMOCKA_TEST_ABORT", "1", 0);
	return !why;
}

struct batch {
	unsigned first, n;
	struct page *pages[MMU_BATCH];
	pte_t ptes[MMU_BATCH];
	struct mmu_take takes[MMU_BATCH];
	spinlock_t *ptl;
	pte_t *ptep;
};

static inline u8 pattern(unsigned page, unsigned offset)
{
	return page * 13 + offset * 7 + offset / 251;
}

static inline void allocate(struct batch *b, unsigned first, unsigned n, u64 bits)
{
	*b = (struct batch){ .first = first_of_run(PAGES / 2) + first, .n = n };
	for (unsigned i = 0; i < n; i++) {
		b->pages[i] = page_alloc(c.engine, ZONE_USER, 0, 0);
		assert_non_null(b->pages[i]);
		b->ptes[i] = pte_make(page_pfn(c.engine, b->pages[i]), bits);
	}
	b->ptep = pte_alloc(c.mm, va_of(b->first), &b->ptl);
	assert_non_null(b->ptep);
}

static inline void fill(struct page *page, unsigned n)
{
	u8 *bytes = ops->bytes(c.engine, page);

	for (unsigned k = 0; k < PAGE_SIZE; k++)
		bytes[k] = pattern(n, k);
}

static inline bool filled(struct page *page, unsigned n)
{
	const u8 *bytes = ops->bytes(c.engine, page);

	for (unsigned k = 0; k < PAGE_SIZE; k++)
		if (bytes[k] != pattern(n, k))
			return false;
	return true;
}

static inline void stage(struct batch *b)
{
	assert_int_equal(ops->stage(c.engine, b->pages, b->n), 0);
	for (unsigned i = 0; i < b->n; i++)
		fill(b->pages[i], b->first + i);
}

/* Set pages i .. of the batch once; how many were. */
static inline int set_once(struct batch *b, unsigned i)
{
	int done;

	spin_lock(b->ptl);
	done = ops->set(c.mm, va_of(b->first + i), b->ptep + i, b->ptes + i, b->pages + i,
			b->n - i);
	spin_unlock(b->ptl);
	return done;
}

/* Set all, in as many steps as the machine likes. */
static inline void set_all(struct batch *b)
{
	for (unsigned i = 0; i < b->n;) {
		int done = set_once(b, i);

		assert_in_range(done, 1, b->n - i);
		for (unsigned k = i; k < b->n; k++)
			if (k < i + done)
				assert_int_equal(pte_pfn(b->ptep[k]), pte_pfn(b->ptes[k]));
			else
				assert_false(pte_present(b->ptep[k]));
		i += done;
	}
}

static inline void map_batch(struct batch *b, unsigned first, unsigned n)
{
	allocate(b, first, n, DIRTY);
	stage(b);
	set_all(b);
}

static inline pte_t slot_entry(unsigned n)
{
	return swp_to_pte(swp_entry(1, 1000 + n));
}

/* Take every `step`th page of the batch. */
static inline unsigned take_every(struct batch *b, unsigned step)
{
	unsigned n = 0, taken;

	for (unsigned i = 0; i < b->n; i += step)
		b->takes[n++] = (struct mmu_take){ .va = va_of(b->first + i),
						   .ptep = b->ptep + i,
						   .page = b->pages[i],
						   .left = slot_entry(i),
						   .result = 12345 };
	spin_lock(b->ptl);
	taken = ops->take(c.mm, b->takes, n);
	spin_unlock(b->ptl);
	return taken;
}

/* The end of every test: nothing mapped, all frames back. */
static inline void drop_batch(struct batch *b)
{
	u64 start = va_of(b->first);

	for (unsigned i = 0; i < b->n; i++) {
		u64 va = va_of(b->first + i);

		if (!pte_present(pte_read(b->ptep + i))) {
			pte_store(b->ptep + i, (pte_t){ 0 });
			continue;
		}
		program_unmap(&c, va, 1);
		spin_lock(b->ptl);
		ops->clear(c.mm, va, b->ptep + i, (pte_t){ 0 });
		spin_unlock(b->ptl);
	}
	ops->flush(c.mm, start, start + b->n * PAGE_SIZE);
	for (unsigned i = 0; i < b->n; i++)
		page_put(c.engine, b->pages[i]);
}

#endif
