/* SPDX-License-Identifier: MIT */
/*
 * From a page to the entries that map it.
 *
 * A page's anon_vma pointer may be stale when the page is not mapped; then it still leads to the
 * memory of some anon_vma, whose family's lock we may take; under it the map count is looked at
 * again.  With the lock held for reading the VMAs in the family stay where they are, and so do the
 * tables below them; the entries can change until their page-table locks are taken, too.
 *
 * Who makes the map count zero owns the page's place on the LRU list and its reference.  Nobody can
 * make it one again who has not that place from him: who finds the page by its slot counts an entry
 * only if there are others, or else finds the page on the write-out list, or waits (tries again).
 *
 * An entry that goes takes its dirty bit with it, and nothing is lost: while a page is shared
 * nobody writes to it, fork gave each entry the bit, and reclaim tells the page when it takes one.
 */
#include "engine/base/check.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

void page_add_anon_rmap(struct page *page, struct vma *vma, u64 va)
{
	struct anon_vma *av = vma_anon(vma);

	VMF_ASSERT(!page_mapcount(page) && av);
	VMF_ASSERT(va >= vma->start && va < vma->end);
	/* Others whose swap entries name the page are all in the family, but not in our branch. */
	if (!page_test(page, PG_ANON_EXCLUSIVE))
		av = anon_vma_root(av);
	__atomic_store_n(&page->anon_vma, av, __ATOMIC_RELAXED);
	__atomic_store_n(&page->index, vma->pgoff + ((va - vma->start) >> PAGE_SHIFT),
			 __ATOMIC_RELAXED);
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_release);
}

void page_dup_anon_rmap(struct page *page)
{
	VMF_ASSERT(page_mapcount(page) > 0 && !page_test(page, PG_ANON_EXCLUSIVE));
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_release);
}

bool page_try_dup_anon_rmap(struct page *page)
{
	s32 n = page_mapcount(page);

	VMF_ASSERT(!page_test(page, PG_ANON_EXCLUSIVE));
	while (n > 0)
		if (atomic_compare_exchange_weak_explicit(
			    &page->mapcount, &n, n + 1, memory_order_acq_rel, memory_order_acquire))
			return true;
	return false;
}

void page_move_anon_rmap(struct page *page, struct vma *vma)
{
	VMF_ASSERT(page_mapcount(page) == 1 && vma_anon(vma));
	__atomic_store_n(&page->anon_vma, vma_anon(vma), __ATOMIC_RELAXED);
}

bool page_remove_rmap(struct page *page)
{
	VMF_ASSERT(page_mapcount(page) > 0);
	return atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_acq_rel) == 1;
}

void page_unmapped(struct engine *e, struct page *page)
{
	VMF_ASSERT(!page_mapcount(page) && !page_test(page, PG_LRU));
	if (page_test(page, PG_SWAPCACHE)) {
		page_lock(page);
		if (swap_page_entries(e, page)) {
			lru_write_out(e, page);
			page_unlock(page);
			return;
		}
		if (page_test(page, PG_SWAPCACHE))
			swap_cache_del(e, page);
		page_unlock(page);
	}
	page_put(e, page);
}

/* ---- the walk ---- */

static bool mapped_by(struct page *page, struct anon_vma *av)
{
	return page_mapcount(page) > 0 && __atomic_load_n(&page->anon_vma, __ATOMIC_RELAXED) == av;
}

bool rmap_begin(struct engine *e, struct page *page, struct rmap_walk *w)
{
	struct anon_vma *av = __atomic_load_n(&page->anon_vma, __ATOMIC_RELAXED);

	if (!av || !mapped_by(page, av))
		return false;
	*w = (struct rmap_walk){
		.page = page,
		.pfn = page_pfn(e, page),
		.huge = page_test(page, PG_HEAD),
		.anon_vma = av,
		.root = anon_vma_root(av),
	};
	down_read(&w->root->lock);
	if (mapped_by(page, av) && anon_vma_root(av) == w->root)
		return true;
	up_read(&w->root->lock);
	return false;
}

bool rmap_next_place(struct rmap_walk *w)
{
	u64 index = __atomic_load_n(&w->page->index, __ATOMIC_RELAXED);

	w->link = w->link ? anon_vma_next(w->link, index) : anon_vma_first(w->anon_vma, index);
	for (; w->link; w->link = anon_vma_next(w->link, index)) {
		w->vma = w->link->vma;
		w->va = w->vma->start + ((index - w->vma->pgoff) << PAGE_SHIFT);
		w->ptep = w->huge ? pmd_find(w->vma->mm, w->va, &w->ptl)
				  : pte_find(w->vma->mm, w->va, &w->ptl);
		if (w->ptep)
			return true;
	}
	return false;
}

bool rmap_next(struct rmap_walk *w)
{
	while (rmap_next_place(w))
		if (rmap_is_at(w))
			return true;
	return false;
}

void rmap_end(struct rmap_walk *w)
{
	up_read(&w->root->lock);
}

static void walk_anon(struct engine *e, struct page *page, rmap_fn fn, void *arg)
{
	struct rmap_walk w;

	if (!rmap_begin(e, page, &w))
		return;
	while (rmap_next(&w)) {
		struct rmap_entry entry = { .mm = w.vma->mm, .vma = w.vma, .va = w.va };
		bool flush = false;

		entry.ptep = w.ptep;
		spin_lock(w.ptl);
		entry.pte = pte_read(w.ptep);
		if (rmap_is_at(&w))
			flush = fn(page, &entry, arg);
		spin_unlock(w.ptl);
		if (flush)
			e->mmu->flush(entry.mm, entry.va, entry.va + PAGE_SIZE);
	}
	rmap_end(&w);
}

void rmap_walk_all(struct engine *e, struct page *page, rmap_fn fn, void *arg)
{
	if (page_test(page, PG_FILE))
		rmap_walk_file(page->mapping, page, fn, arg);
	else
		walk_anon(e, page, fn, arg);
}
