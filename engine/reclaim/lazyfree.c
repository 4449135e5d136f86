/* SPDX-License-Identifier: MIT */
/*
 * Pages whose contents the program has given up: by MADV_FREE, until it writes to them again, and
 * in MAP_DROPPABLE areas at any time.
 *
 * => MADV_FREE takes the dirty bit of the entry, flushes, and marks the page.  Whoever writes after
 *    that sets the bit again; a write that came between is of a program that races with itself.
 * => Reclaim takes such pages away as it does others, but to nowhere.  What is found to have been
 *    written to is put back where it was and is a page like any other.
 * => A page that several entries map is given up by the one, and kept: it is not marked, nor taken.
 */
#include "engine/base/check.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"

bool page_is_lazy(const struct page *page, const struct vma *vma)
{
	return (vma_flags(vma) & VM_DROPPABLE) || page_test(page, PG_LAZYFREE);
}

/* ---- giving up ---- */

/* Clean, and as writable as it was.  PTL held; owes a flush. */
static void make_clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct engine *e = mm->engine;
	pte_t old = e->mmu->clean(mm, va, ptep);

	e->mmu->test_and_clear_young(mm, va, ptep);
	if (pte_write(old))
		e->mmu->change(mm, va, ptep, pte_with(pte_read(ptep), PTE_WRITE));
}

/* Mark it, and drop a kept copy, if nobody else has it.  False: the entry stays as it is, too.  PTL
 * held. */
static bool give_up_page(struct engine *e, struct page *page)
{
	bool ours;

	if (page_mapcount(page) != 1)
		return !page_test(page, PG_DIRTY | PG_SWAPCACHE);
	if (!page_trylock(page))
		return false;
	ours = page_mapcount(page) == 1 &&
	       (!page_test(page, PG_SWAPCACHE) || swap_drop_kept(e, page));
	page_unlock(page);
	if (!ours)
		return false;
	page_set(page, PG_LAZYFREE | PG_DIRTY);
	page_clear(page, PG_REFERENCED | PG_WORKINGSET);
	lru_rotate(e, page, ARRIVED_NEXT);
	return true;
}

/* True: it owes a flush. */
static bool give_up_entry(struct mm *mm, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);

	if (pte_is_swap(pte)) {
		pte_store(ptep, (pte_t){ 0 });
		swap_put(&mm->engine->swap, pte_to_swp(pte).v);
		atomic_fetch_sub_explicit(&mm->swapped, 1, memory_order_relaxed);
		return false;
	}
	if (!pte_mapped(pte) || pte_special(pte) || unlikely(pte_migrating(pte)) ||
	    !give_up_page(mm->engine, pfn_page(mm->engine, pte_pfn(pte))))
		return false;
	if (!pte_young(pte) && !pte_dirty(pte))
		return false;
	make_clean(mm, va, ptep);
	return true;
}

void lazyfree_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	bool flush = false;
	spinlock_t *ptl;
	pte_t *ptep;

	for (u64 va = start; (ptep = pte_next_table(mm, &va, end, &ptl));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE)
			flush |= give_up_entry(mm, va, ptep++);
		spin_unlock(ptl);
	}
	if (flush)
		mm->engine->mmu->flush(mm, start, end);
}

/* ---- taking ---- */

struct lazy_group {
	struct page *pages[MMU_BATCH];
	struct mmu_take takes[MMU_BATCH];
	pte_t was[MMU_BATCH];
	unsigned n;
};

/* Those that nobody else has, locked.  `held` is locked by the caller.  PTL held. */
static void collect(struct lazy_group *g, struct vma *vma, u64 va, u64 end, pte_t *ptep,
		    const struct page *held)
{
	struct engine *e = vma->mm->engine;

	for (; va < end; va += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);
		struct page *page;

		if (!pte_mapped(pte) || pte_special(pte))
			continue;
		page = pfn_page(e, pte_pfn(pte));
		if (page_test(page, PG_FILE | PG_MLOCKED) || !page_is_lazy(page, vma) ||
		    page_mapcount(page) != 1 || (page != held && !page_trylock(page)))
			continue;
		if (page_mapcount(page) != 1 || page_test(page, PG_SWAPCACHE)) {
			if (page != held)
				page_unlock(page);
			continue;
		}
		g->was[g->n] = pte;
		g->takes[g->n] = (struct mmu_take){ .va = va, .ptep = ptep, .page = page };
		g->pages[g->n++] = page;
	}
}

/* It has been written to: where it was, and like any other from now on.  (Not by set(), which may
 * be refused: the page would be lost.) */
static void put_back(struct mm *mm, struct lazy_group *g, unsigned i)
{
	pte_put_back(mm, g->takes[i].va, g->takes[i].ptep, pte_with(g->was[i], PTE_DIRTY));
	page_clear(g->pages[i], PG_LAZYFREE);
}

/* How many went; they are first in g->pages then.  kept: see discard_lazy_range().  PTL held. */
static unsigned settle(struct vma *vma, struct lazy_group *g, u64 start, const struct page *held,
		       u64 *kept)
{
	struct engine *e = vma->mm->engine;
	bool droppable = vma_flags(vma) & VM_DROPPABLE;
	unsigned gone = 0;

	for (unsigned i = 0; i < g->n; i++) {
		struct page *page = g->pages[i];
		bool goes = !g->takes[i].result || g->takes[i].result == -ENOENT;
		struct lruvec *v;

		if (!g->takes[i].result && g->takes[i].dirty && !droppable) {
			put_back(vma->mm, g, i);
			if (kept)
				*kept |= 1ULL << ((g->takes[i].va - start) >> PAGE_SHIFT);
			goes = false;
		}
		v = lruvec_relock(e, page, NULL);
		if (goes)
			page_clear(page, PG_ISOLATED);
		else
			lru_putback(v, page);
		spin_unlock(&v->lock);
		if (page != held)
			page_unlock(page);
		if (goes) {
			page_remove_rmap(page);
			g->pages[gone++] = page;
		}
	}
	return gone;
}

unsigned discard_lazy_range(struct engine *e, struct vma *vma, u64 start, u64 end,
			    const struct page *held, u64 *kept)
{
	struct lazy_group g = { .n = 0 };
	spinlock_t *ptl;
	pte_t *ptep = pte_find(vma->mm, start, &ptl);
	struct lruvec *v = NULL;
	unsigned gone;

	if (!ptep)
		return 0;
	spin_lock(ptl);
	collect(&g, vma, start, end, ptep, held);
	if (!g.n) {
		spin_unlock(ptl);
		return 0;
	}
	for (unsigned i = 0; i < g.n; i++) {
		v = lruvec_relock(e, g.pages[i], v);
		lru_isolate(v, g.pages[i]);
	}
	lruvec_unlock(v);
	e->mmu->take(vma->mm, g.takes, g.n);
	gone = settle(vma, &g, start, held, kept);
	spin_unlock(ptl);

	atomic_fetch_sub_explicit(&vma->mm->rss, (s64)gone, memory_order_relaxed);
	for (unsigned i = 0; i < gone; i++)
		page_put(e, g.pages[i]);
	stat_add(&e->stats->lazyfreed, gone);
	return gone;
}
