/* SPDX-License-Identifier: MIT */
/*
 * Writes to a page that is present and read-only, and pages that are present here and nowhere else.
 */
#include "engine/fault/internal.h"

/* One staged frame of zeros, or NULL and *ret. */
static struct page *zeroed_page(struct engine *e, unsigned *ret)
{
	struct page *page = page_alloc(e, ZONE_USER, 0, 0);

	*ret = VM_FAULT_OOM;
	if (!page)
		return NULL;
	page_set(page, PG_ZEROED);
	if (e->mmu->stage(e, &page, 1)) {
		page_put(e, page);
		*ret = VM_FAULT_RETRY;
		return NULL;
	}
	memset(e->mmu->bytes(e, page), 0, PAGE_SIZE);
	return page;
}

/* The first write to a page that reads from the shared zero page. */
static unsigned break_zero_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	struct page *page;
	unsigned ret;
	int n = 0;

	if (!vma_anon(vmf->vma) && anon_vma_prepare(vmf->vma))
		return VM_FAULT_OOM;
	page = zeroed_page(e, &ret);
	if (!page)
		return ret;

	/* Away with the old translation on every CPU before the new one is there: else another CPU
	 * could go on reading zeros after this one has written. */
	spin_lock(vmf->ptl);
	if (!pte_same(pte_read(vmf->ptep), vmf->orig)) {
		spin_unlock(vmf->ptl);
		goto undo;
	}
	e->mmu->clear(mm, vmf->address, vmf->ptep, (pte_t){ 0 });
	spin_unlock(vmf->ptl);
	e->mmu->flush(mm, vmf->address, vmf->address + PAGE_SIZE);

	spin_lock(vmf->ptl);
	if (pte_none(pte_read(vmf->ptep))) {
		n = run_set(vmf, &run, &page);
		if (n > 0)
			run_account(vmf, &run, &page, 1);
	}
	spin_unlock(vmf->ptl);
	if (n > 0) {
		vmf->res->zero = true;
		return 0;
	}
undo:
	run_free(e, &page, 1, true);
	return n < 0 ? set_failed(vmf, vmf->address, n) : 0;
}

unsigned do_wp_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;

	if (pte_special(vmf->orig))
		return break_zero_page(vmf);
	/* An anonymous page is mapped once only: it is ours to write. */
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		mm->engine->mmu->change(mm, vmf->address, vmf->ptep,
					pte_with(vmf->orig, PTE_WRITE | PTE_DIRTY | PTE_ACCESSED));
	spin_unlock(vmf->ptl);
	return 0;
}

/*
 * The program (or the system below it) has dropped the page: there are zeros to give.  A fresh
 * frame is offered to the machine; if the page is there after all it says so, and nothing has
 * happened.
 */
unsigned do_vanished_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	struct page *page, *old = NULL;
	struct list_head gone;
	unsigned ret;
	int n = 0;

	page = zeroed_page(e, &ret);
	if (!page)
		return ret;
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		n = run_set(vmf, &run, &page);
		if (n > 0) {
			if (!pte_special(vmf->orig)) {
				old = pfn_page(e, pte_pfn(vmf->orig));
				list_init(&gone);
				page_remove_rmap(old);
				lru_del_batch(e, &old, 1, &gone);
				list_del(&old->lru);
				atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
			}
			run_account(vmf, &run, &page, 1);
		}
	}
	spin_unlock(vmf->ptl);
	if (n <= 0)
		run_free(e, &page, 1, true);
	if (old) {
		page_lock(old);
		if (page_test(old, PG_SWAPCACHE))
			swap_cache_del(e, old);
		page_unlock(old);
		page_put(e, old);
	}
	if (n == 0 || n == -EEXIST)
		return 0;
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	vmf->res->zero = true;
	return 0;
}
