/* SPDX-License-Identifier: MIT */
/*
 * The soft machine's half of every change of a translation (engine/machine.h, struct mmu_ops):
 * entries are written where the CPUs walk, and what is owed to the TLBs is shot down.
 *
 * The CPUs set accessed and dirty bits at any moment, whatever lock the engine holds.  So an entry
 * is taken away by an exchange, which sees the last dirty bit (from then on a CPU that must set one
 * walks, and finds nothing), and changed by compare-and-exchange, which carries over the bits that
 * were set since the caller looked.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "machine/soft/soft.h"

/* Is this one of the calls that shall fail? */
static bool injected(_Atomic unsigned *calls, const _Atomic unsigned *every)
{
	unsigned n = atomic_load_explicit(every, memory_order_relaxed);

	return n && atomic_fetch_add_explicit(calls, 1, memory_order_relaxed) % n == n - 1;
}

static int soft_stage(struct engine *e, struct page **pages, unsigned n)
{
	struct soft_machine *m = soft_of(e);

	(void)pages;
	if (n > MMU_BATCH)
		vmf_panic("soft: stage of %u frames", n);
	return injected(&m->stages, &m->inject.stage_again_every) ? -EAGAIN : 0;
}

static void soft_unstage(struct engine *e, struct page *page)
{
	(void)e;
	(void)page;
}

static void *soft_bytes(struct engine *e, struct page *page)
{
	return page_direct(e, page);
}

static int soft_set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		    unsigned n)
{
	struct soft_machine *m = soft_of(mm->engine);
	unsigned i, most = atomic_load_explicit(&m->inject.set_most, memory_order_relaxed);

	(void)pages;
	if (!n || n > MMU_BATCH)
		vmf_panic("soft: set of %u entries at %lx", n, (unsigned long)va);
	if (injected(&m->sets, &m->inject.set_again_every))
		return -EAGAIN;
	if (most && n > most)
		n = most;
	for (i = 0; i < n; i++)
		if (pte_mapped(pte_exchange(&ptep[i], ptes[i])))
			vmf_panic("soft: set of %lx, which is present",
				  (unsigned long)(va + i * PAGE_SIZE));
	return n;
}

static void soft_change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	pte_t old;

	(void)mm;
	do {
		old = pte_read(ptep);
		if (!pte_mapped(old))
			vmf_panic("soft: change of %lx, which is absent", (unsigned long)va);
	} while (!pte_replace(ptep, old, pte_with(pte, old.v & (PTE_ACCESSED | PTE_DIRTY))));
}

static pte_t soft_clean(struct mm *mm, u64 va, pte_t *ptep)
{
	pte_t old = pte_reset_bits(ptep, PTE_WRITE | PTE_DIRTY);

	(void)mm;
	if (!pte_mapped(old))
		vmf_panic("soft: clean of %lx, which is absent", (unsigned long)va);
	return old;
}

static pte_t soft_clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	(void)mm;
	if (pte_mapped(left))
		vmf_panic("soft: clear of %lx leaves a present entry", (unsigned long)va);
	return pte_exchange(ptep, left);
}

static bool soft_test_and_clear_young(struct mm *mm, u64 va, pte_t *ptep)
{
	(void)mm;
	(void)va;
	return pte_young(pte_reset_bits(ptep, PTE_ACCESSED));
}

static void must_be_huge(pte_t pmd, u64 va, const char *what)
{
	if (!pmd_is_huge(pmd) || va & ~PMD_MASK || pte_pfn(pmd) % PTRS_PER_TABLE)
		vmf_panic("soft: %s of %lx, which is no huge page", what, (unsigned long)va);
}

static int soft_set_huge(struct mm *mm, u64 va, pte_t *pmdp, pte_t pmd, struct page *head)
{
	struct soft_machine *m = soft_of(mm->engine);

	(void)head;
	must_be_huge(pmd, va, "setting");
	if (injected(&m->sets, &m->inject.set_again_every))
		return -EAGAIN;
	if (!pte_none(pte_exchange(pmdp, pmd)))
		vmf_panic("soft: set of %lx, where something is", (unsigned long)va);
	return 0;
}

static void soft_change_huge(struct mm *mm, u64 va, pte_t *pmdp, pte_t pmd)
{
	must_be_huge(pte_read(pmdp), va, "change");
	must_be_huge(pmd, va, "change");
	soft_change(mm, va, pmdp, pmd);
}

static pte_t soft_clear_huge(struct mm *mm, u64 va, pte_t *pmdp, pte_t left)
{
	pte_t old = soft_clear(mm, va, pmdp, left);

	must_be_huge(old, va, "clear");
	return old;
}

static void soft_flush(struct mm *mm, u64 start, u64 end)
{
	if (start < end)
		soft_shootdown(mm, start, end);
}

/* One page of a batch, but for the flush. */
static void take_one(struct engine *e, struct mmu_take *t)
{
	struct soft_machine *m = soft_of(e);
	pte_t old;

	t->dirty = false;
	if (injected(&m->takes, &m->inject.take_busy_every)) {
		t->result = -EBUSY;
		return;
	}
	if (injected(&m->takes, &m->inject.take_again_every)) {
		t->result = -EAGAIN;
		return;
	}
	old = pte_exchange(t->ptep, t->left);
	if (!pte_mapped(old)) {
		pte_store(t->ptep, (pte_t){ 0 });
		t->result = -ENOENT;
		return;
	}
	if (pte_pfn(old) != page_pfn(e, t->page))
		vmf_panic("soft: take of %lx names frame %lx, the entry another",
			  (unsigned long)t->va, (unsigned long)page_pfn(e, t->page));
	t->dirty = pte_dirty(old);
	t->result = 0;
}

static unsigned soft_take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	unsigned i, taken = 0;

	if (n > MMU_BATCH)
		vmf_panic("soft: take of %u pages", n);
	for (i = 0; i < n; i++) {
		if (i && takes[i].va <= takes[i - 1].va)
			vmf_panic("soft: take is not sorted at %lx", (unsigned long)takes[i].va);
		take_one(mm->engine, &takes[i]);
		taken += !takes[i].result;
	}
	if (taken)
		soft_shootdown(mm, takes[0].va, takes[n - 1].va + PAGE_SIZE);
	return taken;
}

static void soft_release(struct engine *e, struct page *page)
{
	struct soft_machine *m = soft_of(e);

	atomic_fetch_add_explicit(&m->generations[page_pfn(e, page)], 1, memory_order_relaxed);
	if (m->checked)
		memset(page_direct(e, page), 0xdb, PAGE_SIZE);
}

const struct mmu_ops soft_mmu_ops = {
	.name = "soft",
	.stage = soft_stage,
	.unstage = soft_unstage,
	.bytes = soft_bytes,
	.set = soft_set,
	.change = soft_change,
	.clean = soft_clean,
	.clear = soft_clear,
	.test_and_clear_young = soft_test_and_clear_young,
	.set_huge = soft_set_huge,
	.change_huge = soft_change_huge,
	.clear_huge = soft_clear_huge,
	.test_and_clear_young_huge = soft_test_and_clear_young,
	.take = soft_take,
	.flush = soft_flush,
	.release = soft_release,
	.node = soft_node,
	.current_mm = soft_current_mm,
	.silent_write = false,
	.shares_pages = true,
};
