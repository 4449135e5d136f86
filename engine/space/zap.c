/* SPDX-License-Identifier: MIT */
/*
 * Taking the pages out of a range.
 *
 * => entries are cleared table by table under the page-table lock; the pages that had no other
 *    leave the LRU there and are strung up on a private list; one flush for all; then the frames
 * go.
 * => pages that others map, too, and pages of files stay on the LRU; our references to them are
 * kept until the flush, and there is one as soon as there is no more room to remember them.
 * => a page that is on its way out when its entry goes keeps its place in the write-out list, as
 *    nobody's page; the writer frees it when it comes to it.
 *
 * A dirty entry makes its page of a file dirty twice: when it is cleared, so that who writes the
 * file out meanwhile knows of what was written so far, and after the flush, because another CPU may
 * have gone on writing through a stale translation while the page was written out.
 */
#include "engine/backing/page_cache.h"
#include "engine/base/check.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

struct zap {
	struct mm *mm;
	const struct vma *vma;
	bool keep_cows;		/* pages of files only */
	bool drop_markers;	/* the VMA goes */
	struct list_head pages; /* to be freed after the flush */
	u64 start;		/* not flushed yet from here on */
	bool flush;		/* translations went */
	s64 rss, swapped;	/* went */
	s64 rss_file;		/* of rss */
	u64 huge_zeros;		/* entries of the huge zero page that went */
	u64 slots[MMU_BATCH];	/* references to drop */
	unsigned nr_slots;
	struct page *batch[MMU_BATCH]; /* off the LRU next */
	unsigned nr_batch;
	struct page *shared[MMU_BATCH]; /* a reference to be dropped after the flush */
	unsigned nr_shared;
	struct address_space *dirty[MMU_BATCH]; /* file of shared[i] if its entry was dirty */
};

/* Not the arrays: they are large. */
static void zap_init(struct zap *z, const struct vma *vma, u64 start)
{
	z->mm = vma->mm;
	z->vma = vma;
	z->keep_cows = z->drop_markers = false;
	z->start = start;
	z->flush = false;
	z->rss = z->rss_file = z->swapped = 0;
	z->huge_zeros = 0;
	z->nr_slots = z->nr_batch = z->nr_shared = 0;
	list_init(&z->pages);
}

/* Others may free them at any time, and CPUs may have them in their TLBs until now. */
static void zap_shared(struct zap *z, u64 end)
{
	struct engine *e = z->mm->engine;

	e->mmu->flush(z->mm, z->start, end);
	z->start = end;
	while (z->nr_shared) {
		struct page *page = z->shared[--z->nr_shared];

		if (unlikely(z->dirty[z->nr_shared]))
			page_mark_dirty(z->dirty[z->nr_shared], page);
		page_put(e, page);
	}
}

static void zap_batch(struct zap *z)
{
	if (z->nr_batch)
		lru_del_batch(z->mm->engine, z->batch, z->nr_batch, &z->pages);
	z->nr_batch = 0;
	if (z->nr_slots)
		swap_put_many(&z->mm->engine->swap, z->slots, z->nr_slots);
	z->nr_slots = 0;
}

/* Remember a page that is to lose a reference after the flush; its entry ends at `end`. */
static void zap_keep(struct zap *z, u64 end, struct page *page, struct address_space *dirty)
{
	z->dirty[z->nr_shared] = dirty;
	z->shared[z->nr_shared++] = page;
	if (unlikely(z->nr_shared == MMU_BATCH))
		zap_shared(z, end);
}

/* What an entry says when its page is gone. */
static pte_t left_behind(const struct zap *z, pte_t pte)
{
	if (!z->drop_markers && vma_keeps_uffd_wp(z->vma, pte))
		return pte_make_marker(PTE_MARKER_UFFD_WP);
	return (pte_t){ 0 };
}

static void zap_marker(const struct zap *z, pte_t *ptep, pte_t pte)
{
	/* A guard is the area's. */
	if (pte_marker_is(pte, PTE_MARKER_GUARD) && !z->drop_markers)
		return;
	/* A page that is lost, or said to be, was the program's own. */
	if (pte_marker_is(pte, PTE_MARKER_POISONED | PTE_MARKER_HWPOISON)
		    ? z->keep_cows
		    : z->vma->file && !z->drop_markers)
		return;
	pte_store(ptep, (pte_t){ 0 });
}

/* The entry still maps the page, so the page is still in its file, which its VMA keeps. */
static void zap_file_page(struct zap *z, u64 va, pte_t *ptep, struct page *page)
{
	struct address_space *m = page->mapping;
	pte_t pte = z->mm->engine->mmu->clear(z->mm, va, ptep, left_behind(z, pte_read(ptep)));

	z->flush = true;
	z->rss++;
	z->rss_file++;
	if (pte_dirty(pte))
		page_mark_dirty(m, page);
	page_remove_file_rmap(page);
	zap_keep(z, va + PAGE_SIZE, page, pte_dirty(pte) ? m : NULL);
}

static void zap_entry(struct zap *z, u64 va, pte_t *ptep)
{
	struct mm *mm = z->mm;
	pte_t pte = pte_read(ptep);
	struct page *page;

	if (pte_none(pte))
		return;
	if (pte_is_swap(pte)) {
		if (z->keep_cows)
			return;
		pte_store(ptep, left_behind(z, pte));
		z->slots[z->nr_slots++] = pte_to_swp(pte).v;
		z->swapped++;
	} else if (unlikely(pte_is_marker(pte))) {
		zap_marker(z, ptep, pte);
	} else {
		page = pfn_page(mm->engine, pte_pfn(pte));
		if (unlikely(page_test(page, PG_FILE))) {
			zap_file_page(z, va, ptep, page);
			return;
		}
		if (z->keep_cows && !pte_special(pte))
			return; /* (the zero page is nobody's copy, and goes) */
		pte = mm->engine->mmu->clear(mm, va, ptep, left_behind(z, pte));
		z->flush = true;
		if (pte_special(pte))
			return;
		if (likely(page_remove_rmap(page)))
			z->batch[z->nr_batch++] = page;
		else
			zap_keep(z, va + PAGE_SIZE, page, NULL);
		z->rss++;
	}
	if (z->nr_batch == MMU_BATCH || z->nr_slots == MMU_BATCH)
		zap_batch(z);
}

/* The mapping's reference to each page. */
static void zap_finish(struct zap *z)
{
	struct engine *e = z->mm->engine;

	huge_zero_put(e, z->huge_zeros);
	while (!list_empty(&z->pages)) {
		struct page *page = list_first_entry(&z->pages, struct page, lru);

		list_del(&page->lru);
		page_unmapped(e, page);
	}
}

/* A huge page goes whole, or is split first.  True: it has gone. */
static bool zap_huge(struct zap *z, u64 va, u64 end, pte_t *pmdp, spinlock_t *ptl)
{
	struct mm *mm = z->mm;
	struct page *page;
	pte_t pmd;

	if (va & ~PMD_MASK || end - va < PMD_SIZE) {
		split_huge_pmd(mm, va);
		return false;
	}
	if (!pmd_lock_huge(mm, pmdp, ptl))
		return false;
	pmd = mm->engine->mmu->clear_huge(mm, va, pmdp, (pte_t){ 0 });
	spare_table_free(mm, spare_table_take(mm, pmdp));
	z->flush = true;
	z->huge_zeros += pmd_is_huge_zero(mm->engine, pmd);
	if (!pte_special(pmd)) {
		page = pfn_page(mm->engine, pte_pfn(pmd));
		z->rss += HUGE_PAGES;
		if (page_remove_rmap(page))
			z->batch[z->nr_batch++] = page;
		else
			zap_keep(z, va + PMD_SIZE, page, NULL);
		zap_batch(z);
	}
	spin_unlock(ptl);
	return true;
}

static void zap_entries(struct zap *z, u64 start, u64 end)
{
	struct mm *mm = z->mm;
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;
	u64 va;

	for (va = start; (ptep = pmd_next(mm, &va, end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (unlikely(huge)) {
			if (zap_huge(z, va, end, ptep, ptl))
				va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE)
			zap_entry(z, va, ptep++);
		zap_batch(z);
		spin_unlock(ptl);
	}
	if (z->rss)
		atomic_fetch_sub_explicit(&mm->rss, z->rss, memory_order_relaxed);
	if (z->rss_file)
		atomic_fetch_sub_explicit(&mm->rss_file, z->rss_file, memory_order_relaxed);
	if (z->swapped)
		atomic_fetch_sub_explicit(&mm->swapped, z->swapped, memory_order_relaxed);
	if (z->flush)
		zap_shared(z, end);
	zap_finish(z);
}

void zap_range(struct vma *vma, u64 start, u64 end, bool unmap)
{
	struct zap z;

	VMF_ASSERT(rwsem_is_locked(&vma->mm->mmap_lock));
	if (is_vm_hugetlb(vma)) {
		hugetlb_zap_range(vma, start, end, unmap);
		return;
	}
	zap_init(&z, vma, start);
	z.drop_markers = unmap;
	zap_entries(&z, start, end);
}

void zap_vma_pages(struct vma *vma, u64 start, u64 end, bool even_cows)
{
	struct zap z;

	if (is_vm_hugetlb(vma)) {
		hugetlb_zap_range(vma, start, end, false);
		return;
	}
	zap_init(&z, vma, start);
	z.keep_cows = !even_cows;
	zap_entries(&z, start, end);
}
