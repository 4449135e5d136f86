/* SPDX-License-Identifier: MIT */
/*
 * From a page to the entry that maps it.
 *
 * An anonymous page is mapped once at most.  Its anon_vma pointer may be stale when the page is not
 * mapped; then it still leads to the memory of some anon_vma, whose lock we may take; under it the
 * map count is looked at again.  With the lock held for reading the VMAs in the anon_vma stay where
 * they are, and so do the tables below them; the entry itself can change until the page-table lock
 * is taken, too.
 */
#include "engine/base/check.h"
#include "engine/reclaim/internal.h"

void page_add_anon_rmap(struct page *page, struct vma *vma, u64 va)
{
	VMF_ASSERT(!atomic_load(&page->mapcount) && vma_anon(vma));
	VMF_ASSERT(va >= vma->start && va < vma->end);
	__atomic_store_n(&page->anon_vma, vma_anon(vma), __ATOMIC_RELAXED);
	__atomic_store_n(&page->index, vma->pgoff + ((va - vma->start) >> PAGE_SHIFT),
			 __ATOMIC_RELAXED);
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_release);
}

void page_remove_rmap(struct page *page)
{
	VMF_ASSERT(atomic_load(&page->mapcount) == 1);
	atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_release);
}

static bool mapped_by(struct page *page, struct anon_vma *av)
{
	return atomic_load_explicit(&page->mapcount, memory_order_acquire) > 0 &&
	       __atomic_load_n(&page->anon_vma, __ATOMIC_RELAXED) == av;
}

struct vma *rmap_lock_vma(struct page *page, u64 *va)
{
	struct anon_vma *av = __atomic_load_n(&page->anon_vma, __ATOMIC_RELAXED);
	u64 index = __atomic_load_n(&page->index, __ATOMIC_RELAXED);
	struct vma *vma;

	if (!av || !mapped_by(page, av))
		return NULL;
	down_read(&av->lock);
	if (!mapped_by(page, av))
		goto nowhere;
	for (vma = anon_vma_first(av, index); vma; vma = anon_vma_next(vma, index)) {
		struct engine *e = vma->mm->engine;
		spinlock_t *ptl;
		pte_t *ptep, pte;

		*va = vma->start + ((index - vma->pgoff) << PAGE_SHIFT);
		ptep = pte_find(vma->mm, *va, &ptl);
		if (!ptep)
			continue;
		pte = pte_read(ptep);
		if (pte_mapped(pte) && pte_pfn(pte) == page_pfn(e, page))
			return vma;
	}
nowhere:
	up_read(&av->lock);
	return NULL;
}

void rmap_unlock(struct page *page)
{
	up_read(&page->anon_vma->lock);
}
