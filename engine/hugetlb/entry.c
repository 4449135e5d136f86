/* SPDX-License-Identifier: MIT */
/* Entries that map huge pages of a pool, one by one. */
#include "engine/hugetlb/internal.h"
#include "engine/space/huge.h"

static enum mmu_level level_of(const struct hstate *h)
{
	return h->order == HUGE_ORDER ? LEVEL_PMD : LEVEL_PUD;
}

pte_t *huge_pte_find(const struct hstate *h, struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_find(mm, va, level_of(h), ptl);
}

pte_t *huge_pte_alloc(const struct hstate *h, struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_alloc(mm, va, level_of(h), ptl);
}

pte_t huge_pte_make(const struct vma *vma, const struct page *page)
{
	u64 bits = vma_pte_bits(vma) | PTE_HUGE;
	bool writable = page_test(page, PG_FILE) ? vma->flags & VM_SHARED
						 : page_test(page, PG_ANON_EXCLUSIVE);

	if (!writable)
		bits &= ~PTE_WRITE;
	return pte_make(page_pfn(vma->mm->engine, page), bits);
}

int huge_pte_set(struct vma *vma, u64 va, pte_t *ptep, pte_t pte, struct page *page)
{
	struct mm *mm = vma->mm;
	pte_t was = pte_read(ptep);
	int err;

	if (!pte_none(was))
		pte_store(ptep, (pte_t){ 0 }); /* a marker */
	err = mm->engine->mmu->set_huge(mm, va, ptep, pte, page);
	if (err) {
		pte_store(ptep, was);
		return err;
	}
	page_add_huge_rmap(page);
	atomic_fetch_add_explicit(&mm->hugetlb_pages, (s64)page_frames(page), memory_order_relaxed);
	return 0;
}

struct page *huge_pte_clear(struct vma *vma, u64 va, pte_t *ptep, pte_t left)
{
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	struct page *page = pfn_page(e, pte_pfn(e->mmu->clear_huge(mm, va, ptep, left)));

	atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_acq_rel);
	atomic_fetch_sub_explicit(&mm->hugetlb_pages, (s64)page_frames(page), memory_order_relaxed);
	return page;
}
