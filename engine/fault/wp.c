/* SPDX-License-Identifier: MIT */
/*
 * Writes to a page that is present and read-only, and pages that are present here and nowhere else.
 *
 *   write-protected by userfaultfd    its monitor's to judge, before anything else
 *   exclusive                         written where it is
 *   was shared and is not any more    becomes exclusive
 *   shared, by entries or by swap     copied: the frame filled first, then under the page-table
 * lock entries; the zero page            the entry cleared, flushed and set, and only then is the
 * old page told that it lost an entry
 */
#include "engine/backing/dax.h"
#include "engine/base/bytes.h"
#include "engine/fault/internal.h"
#include "engine/userfault/hooks.h"

/* One staged frame with the bytes of `from`, or (NULL) zeros; or NULL and *ret. */
static struct page *staged_copy(const struct vm_fault_info *vmf, struct page *from, unsigned *ret)
{
	struct engine *e = vmf->vma->mm->engine;
	struct page *page = vma_alloc_page(vmf->vma, vmf->address, 0, 0);

	*ret = VM_FAULT_OOM;
	if (!page)
		return NULL;
	observe(e, STEP_ALLOC_FRAMES, vmf->address, 1);
	page_init_flags(page, PG_ANON_EXCLUSIVE | (from ? 0 : PG_ZEROED));
	if (e->mmu->stage(e, &page, 1)) {
		page_put(e, page);
		*ret = VM_FAULT_RETRY;
		return NULL;
	}
	if (from && page_test(from, PG_FILE))
		shared_copy(e->mmu->bytes(e, page), e->mmu->bytes(e, from), PAGE_SIZE);
	else if (from)
		memcpy(e->mmu->bytes(e, page), e->mmu->bytes(e, from), PAGE_SIZE);
	else
		memset(e->mmu->bytes(e, page), 0, PAGE_SIZE);
	observe(e, from ? STEP_COPY : STEP_ZERO, vmf->address, 1);
	return page;
}

/*
 * Map `page` in place of what the entry maps (`old`; NULL: the zero page).  PTL held, and kept all
 * the while: an entry that were seen empty would be filled with zeros by another fault.  As set().
 */
static int replace_page(struct vm_fault_info *vmf, struct page *old, struct page *page, bool *last)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	pte_t was;
	int n;

	/* Away with the old translation on every CPU before the new one is there: else another CPU
	 * could go on reading the old page after this one has written to the new. */
	was = e->mmu->clear(mm, vmf->address, vmf->ptep, (pte_t){ 0 });
	e->mmu->flush(mm, vmf->address, vmf->address + PAGE_SIZE);
	n = run_set(vmf, &run, &page);
	if (n <= 0) {
		pte_put_back(mm, vmf->address, vmf->ptep, was);
		return n;
	}
	/* Now that no entry of ours leads to it, others may find themselves alone with it. */
	if (old && page_test(old, PG_FILE)) {
		page_remove_file_rmap(old);
		atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
		atomic_fetch_sub_explicit(&mm->rss_file, 1, memory_order_relaxed);
	} else if (old) {
		*last = page_remove_rmap(old);
		if (*last)
			lru_del(e, old);
		atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
	}
	run_account(vmf, &run, &page, 1);
	return n;
}

/* The true copy.  `old` is the page that the entry maps, with a reference of ours, or NULL: the
 * zero page. */
static unsigned wp_page_copy(struct vm_fault_info *vmf, struct page *old)
{
	struct engine *e = vmf->vma->mm->engine;
	bool last = false;
	struct page *page;
	unsigned ret;
	int n = 0;

	if (!vma_anon(vmf->vma) && anon_vma_prepare(vmf->vma))
		return VM_FAULT_OOM;
	/* While our entry maps the old page nobody writes to it.  If it does not any more, the copy
	 * is thrown away. */
	page = staged_copy(vmf, old, &ret);
	if (!page)
		return ret;
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		n = replace_page(vmf, old, page, &last);
	spin_unlock(vmf->ptl);
	if (n <= 0) {
		run_free(e, &page, 1, true);
		return n < 0 ? set_failed(vmf, vmf->address, n) : 0;
	}
	if (!old)
		vmf->res->zero = true;
	if (last)
		page_unmapped(e, old); /* the mapping's reference */
	else if (old)
		page_put(e, old);
	return 0;
}

/*
 * Is the page this entry's alone, though it was not when it was mapped?  Then it is from now on.
 * With its page lock held no swap entry becomes a mapping, nor the other way round, between our two
 * looks.  Who holds a reference beside the mapping and the swap cache may be copying it just now.
 * When in doubt, no.  PTL held.
 */
static bool wp_can_reuse_anon_page(struct vm_fault_info *vmf, struct page *page)
{
	struct engine *e = vmf->vma->mm->engine;
	bool alone;
	u32 cached;

	if (page_mapcount(page) > 1 || !page_trylock(page))
		return false;
	cached = page_test(page, PG_SWAPCACHE);
	alone = atomic_load_explicit(&page->refcount, memory_order_acquire) == 1 + cached &&
		!swap_page_entries(e, page);
	if (alone) {
		page_set(page, PG_ANON_EXCLUSIVE);
		page_move_anon_rmap(page, vmf->vma);
	}
	page_unlock(page);
	return alone;
}

/* Let the entry allow writing.  PTL held. */
static void wp_page_reuse(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;

	mm->engine->mmu->change(mm, vmf->address, vmf->ptep,
				pte_with(vmf->orig, PTE_WRITE | PTE_DIRTY | PTE_ACCESSED));
}

/* Nobody is to be asked: take the mark away.  False: the entry has changed. */
static bool drop_uffd_wp(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	bool same;

	spin_lock(vmf->ptl);
	same = pte_same(pte_read(vmf->ptep), vmf->orig);
	if (same) {
		mm->engine->mmu->change(mm, vmf->address, vmf->ptep, pte_clear_uffd_wp(vmf->orig));
		vmf->orig = pte_read(vmf->ptep);
	}
	spin_unlock(vmf->ptl);
	return same;
}

unsigned do_wp_page(struct vm_fault_info *vmf)
{
	struct engine *e = vmf->vma->mm->engine;
	struct page *page;
	unsigned ret;

	observe(e, STEP_WRITE_PROTECTED, vmf->address, 1);
	if (unlikely(vmf->vma->flags & VM_UFFD_WP) && pte_uffd_wp(vmf->orig)) {
		if (!userfaultfd_wp_async(vmf->vma))
			return handle_userfault(vmf, VM_UFFD_WP);
		if (!drop_uffd_wp(vmf))
			return 0;
	}
	if (unlikely(vma_is_dax(vmf->vma)) && pte_special(vmf->orig))
		return dax_fault(vmf);
	if (pte_special(vmf->orig))
		return wp_page_copy(vmf, NULL);
	spin_lock(vmf->ptl);
	if (!pte_same(pte_read(vmf->ptep), vmf->orig)) {
		spin_unlock(vmf->ptl);
		return 0;
	}
	page = pfn_page(e, pte_pfn(vmf->orig));
	if (unlikely(page_test(page, PG_FILE))) {
		page_get(page);
		spin_unlock(vmf->ptl);
		if (vmf->vma->flags & VM_SHARED)
			return wp_page_shared(vmf, page);
		ret = wp_page_copy(vmf, page);
		page_put(e, page);
		return ret;
	}
	if (page_test(page, PG_ANON_EXCLUSIVE) || wp_can_reuse_anon_page(vmf, page)) {
		wp_page_reuse(vmf);
		spin_unlock(vmf->ptl);
		return 0;
	}
	page_get(page);
	spin_unlock(vmf->ptl);
	ret = wp_page_copy(vmf, page);
	page_put(e, page);
	return ret;
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
	unsigned ret;
	int n = 0;

	page = staged_copy(vmf, NULL, &ret);
	if (!page)
		return ret;
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		n = run_set(vmf, &run, &page);
		if (n > 0) {
			if (!pte_special(vmf->orig)) {
				old = pfn_page(e, pte_pfn(vmf->orig));
				page_remove_rmap(old); /* the only one */
				lru_del(e, old);
				atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
			}
			run_account(vmf, &run, &page, 1);
		}
	}
	spin_unlock(vmf->ptl);
	if (n <= 0)
		run_free(e, &page, 1, true);
	if (old)
		page_unmapped(e, old);
	if (n == 0 || n == -EEXIST)
		return 0;
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	vmf->res->zero = true;
	return 0;
}
