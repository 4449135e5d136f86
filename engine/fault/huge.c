/* SPDX-License-Identifier: MIT */
/*
 * Faults where there is no last-level table: a huge page comes, or is there.
 *
 *   none          do_huge_pmd_anonymous_page: a read maps the huge zero page, a write a page of
 *                 its own; where a huge page is not wanted or cannot be had: VM_FAULT_FALLBACK;
 *                 where a userfaultfd serves what is missing: handle_userfault
 *   huge          a write to a read-only entry: do_huge_pmd_wp_page; else somebody was first.  What
 *                 userfaultfd has write-protected is its monitor's to judge; where nobody is to be
 *                 asked (WP_ASYNC) it is split, for the mark of that one page is to go
 *   being split   wait, and go on with the table
 *
 * (Areas of persistent memory: dax_huge.c.)
 *
 * The page comes from what is free in one piece: nothing is reclaimed for it, for what reclaim
 * frees lies scattered.  Where MADV_HUGEPAGE says that it is worth it, pages are moved to make one.
 */
#include "engine/backing/dax.h"
#include "engine/fault/internal.h"
#include "engine/space/huge.h"
#include "engine/userfault/hooks.h"

/* ---- is it wanted? ---- */

bool thp_allowed(const struct vma *vma)
{
	const struct engine *e = vma->mm->engine;

	if (!has_huge_pages(e) || e->config.thp == THP_NEVER)
		return false;
	if (vma->file || (vma->flags & (VM_SHARED | VM_NOHUGEPAGE)))
		return false;
	return e->config.thp == THP_ALWAYS || (vma->flags & VM_HUGEPAGE);
}

bool thp_fits(const struct vma *vma, u64 va)
{
	u64 start = va & PMD_MASK;

	return start >= vma->start && start + PMD_SIZE <= vma->end;
}

/* ---- pages ---- */

struct page *huge_page_alloc(const struct vma *vma, u64 va)
{
	bool wanted = vma->flags & VM_HUGEPAGE;

	return vma_alloc_huge_page(vma, va, ALLOC_NORECLAIM | (wanted ? ALLOC_COMPACT : 0));
}

void huge_page_clear(struct engine *e, struct page *page)
{
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		memset(e->mmu->bytes(e, page + i), 0, PAGE_SIZE);
}

/* ---- none ---- */

/* What a huge fault works with. */
struct huge_fault {
	struct vm_fault_info *vmf;
	pte_t *pmdp;
	spinlock_t *ptl;
	u64 va;
};

static unsigned fallback(struct engine *e)
{
	stat_add(&e->stats->thp_fault_fallback, 1);
	return VM_FAULT_FALLBACK;
}

/* Map `page`, which is new, or the huge zero page, where nothing is.  0, or as mmu->set().  PTL
 * held. */
static int map_huge(struct huge_fault *h, struct page *page, bool zero)
{
	struct vma *vma = h->vmf->vma;
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(vma) | PTE_HUGE | PTE_ACCESSED;
	int err;

	if (zero)
		bits = (bits & ~PTE_WRITE) | PTE_SPECIAL;
	else if (h->vmf->flags & FAULT_FLAG_WRITE)
		bits |= PTE_DIRTY;
	err = e->mmu->set_huge(mm, h->va, h->pmdp, pte_make(page_pfn(e, page), bits), page);
	if (err || zero)
		return err;
	page_add_anon_rmap(page, vma, h->va);
	lru_add(e, page);
	atomic_fetch_add_explicit(&mm->rss, HUGE_PAGES, memory_order_relaxed);
	stat_add(&e->stats->thp_fault_alloc, 1);
	return 0;
}

static unsigned do_huge_pmd_anonymous_page(struct huge_fault *h)
{
	struct vma *vma = h->vmf->vma;
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	bool zero = !(h->vmf->flags & FAULT_FLAG_WRITE), mapped = false;
	struct page *page, *spare;
	int err = 0;

	if (!vma_anon(vma) && anon_vma_prepare(vma))
		return VM_FAULT_OOM;
	/* Before there is a page: it would not be used. */
	if (unlikely(vma->flags & VM_UFFD_MISSING))
		return handle_userfault(h->vmf, VM_UFFD_MISSING);
	page = zero ? huge_zero_get(e) : huge_page_alloc(vma, h->va);
	if (!page)
		return fallback(e);
	spare = spare_table_new(mm);
	if (spare && !zero) {
		huge_page_clear(e, page);
		page_set(page, PG_ANON_EXCLUSIVE);
	}
	if (spare) {
		spin_lock(h->ptl);
		if (pte_none(pte_read(h->pmdp))) {
			err = map_huge(h, page, zero);
			mapped = !err;
		}
		if (mapped)
			spare_table_put(mm, h->pmdp, spare);
		spin_unlock(h->ptl);
	}
	if (!mapped && spare)
		spare_table_free(mm, spare);
	if (!mapped && zero)
		huge_zero_put(e, 1);
	else if (!mapped)
		page_put(e, page);
	if (!spare)
		return fallback(e);
	if (err)
		return set_failed(h->vmf, h->va, err);
	h->vmf->res->zero |= mapped;
	return 0;
}

/* ---- huge ---- */

/* What came of a write to a read-only huge entry. */
enum huge_wp {
	HUGE_WP_DONE, /* or somebody else was at the entry: the access finds out */
	HUGE_WP_SPLIT,
};

/* A page of its own in place of the huge zero page, if one is to be had. */
static enum huge_wp replace_huge_zero(struct huge_fault *h, pte_t orig)
{
	struct mm *mm = h->vmf->vma->mm;
	struct engine *e = mm->engine;
	struct page *page = huge_page_alloc(h->vmf->vma, h->va);
	int err = -EAGAIN;

	if (!page)
		return HUGE_WP_SPLIT;
	huge_page_clear(e, page);
	page_set(page, PG_ANON_EXCLUSIVE);
	spin_lock(h->ptl);
	if (pte_same(pte_read(h->pmdp), orig)) {
		pte_t was = e->mmu->clear_huge(mm, h->va, h->pmdp, (pte_t){ 0 });

		e->mmu->flush(mm, h->va, h->va + PMD_SIZE);
		err = map_huge(h, page, false);
		if (err)
			pte_store(h->pmdp, was);
	}
	spin_unlock(h->ptl);
	if (err)
		page_put(e, page);
	else
		huge_zero_put(e, 1);
	h->vmf->res->zero |= !err;
	return HUGE_WP_DONE;
}

/* Is the page this entry's alone?  As wp_can_reuse_anon_page(); one reference is ours.  Page lock
 * and PTL held. */
static bool is_alone(struct huge_fault *h, struct page *page)
{
	if (page_mapcount(page) != 1 ||
	    atomic_load_explicit(&page->refcount, memory_order_acquire) != 2)
		return false;
	page_set(page, PG_ANON_EXCLUSIVE);
	page_move_anon_rmap(page, h->vmf->vma);
	return true;
}

/* Let the entry allow writing, if its page is nobody else's.  PTL held, and dropped. */
static enum huge_wp reuse_huge(struct huge_fault *h, pte_t orig)
{
	struct mm *mm = h->vmf->vma->mm;
	struct engine *e = mm->engine;
	struct page *page = pfn_page(e, pte_pfn(orig));
	enum huge_wp result = HUGE_WP_DONE;

	page_get(page);
	spin_unlock(h->ptl);
	page_lock(page);
	spin_lock(h->ptl);
	if (pte_same(pte_read(h->pmdp), orig)) {
		if (page_test(page, PG_ANON_EXCLUSIVE) || is_alone(h, page))
			e->mmu->change_huge(mm, h->va, h->pmdp,
					    pte_with(orig, PTE_WRITE | PTE_DIRTY | PTE_ACCESSED));
		else
			result = HUGE_WP_SPLIT;
	}
	spin_unlock(h->ptl);
	page_unlock(page);
	page_put(e, page);
	return result;
}

/* PTL held, and dropped. */
static unsigned do_huge_pmd_wp_page(struct huge_fault *h, pte_t orig)
{
	struct vma *vma = h->vmf->vma;
	struct mm *mm = vma->mm;
	enum huge_wp result;

	if (unlikely(vma->flags & VM_UFFD_WP) && pte_uffd_wp(orig)) {
		spin_unlock(h->ptl);
		if (!userfaultfd_wp_async(vma))
			return handle_userfault(h->vmf, VM_UFFD_WP);
		result = HUGE_WP_SPLIT;
	} else if (pte_special(orig)) {
		spin_unlock(h->ptl);
		result = replace_huge_zero(h, orig);
	} else {
		result = reuse_huge(h, orig);
	}
	if (result == HUGE_WP_DONE)
		return 0;
	split_huge_pmd(mm, h->va);
	return fallback(mm->engine);
}

unsigned do_huge_pmd(struct vm_fault_info *vmf)
{
	struct vma *vma = vmf->vma;
	struct huge_fault h = { .vmf = vmf, .va = vmf->address & PMD_MASK };
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	pte_t pmd;

	h.pmdp = pmd_alloc(vma->mm, vmf->address, &h.ptl);
	if (!h.pmdp)
		return VM_FAULT_OOM;
	if (unlikely(vma_is_dax(vma)))
		return dax_huge_fault(vmf, h.pmdp, h.ptl);
	pmd = pte_read(h.pmdp);
	if (pte_none(pmd) && thp_allowed(vma) && thp_fits(vma, vmf->address))
		return do_huge_pmd_anonymous_page(&h);
	if (!pte_huge(pmd) || !pmd_lock_huge(vma->mm, h.pmdp, h.ptl))
		return VM_FAULT_FALLBACK;
	pmd = pte_read(h.pmdp);
	if (write && !pte_write(pmd))
		return do_huge_pmd_wp_page(&h, pmd);
	spin_unlock(h.ptl);
	return 0;
}
