/* SPDX-License-Identifier: MIT */
/* Areas of huge pages as they are cut, moved, protected, copied and unmapped. */
#include "engine/base/check.h"
#include "engine/hugetlb/internal.h"

/* ---- promises go with the area ---- */

bool hugetlb_may_split(const struct vma *vma, u64 addr)
{
	return !(addr & ~huge_page_mask(hstate_vma(vma)));
}

void hugetlb_vma_split(struct vma *upper, const struct vma *vma)
{
	upper->resv = vma->resv;
	if (upper->resv)
		resv_map_get(upper->resv);
	upper->hugetlb_unmapped = vma->hugetlb_unmapped;
}

void hugetlb_vma_moved(struct vma *moved, struct vma *vma)
{
	moved->resv = vma->resv;
	moved->hugetlb_unmapped = vma->hugetlb_unmapped;
	vma->resv = NULL;
}

void hugetlb_vma_close(struct vma *vma)
{
	struct hstate *h;
	u64 from, to;

	if (!vma->resv)
		return;
	h = hstate_vma(vma);
	from = huge_index(h, vma, vma->start);
	to = huge_index(h, vma, vma->end);
	hugetlb_acct_memory(h, -(s64)(to - from - region_count(vma->resv, from, to)));
	resv_map_put(vma->resv);
	vma->resv = NULL;
}

/* ---- unmapping ---- */

#define ZAP_BATCH 16

struct huge_zap {
	struct vma *vma;
	u64 start; /* not flushed yet from here on */
	struct page *pages[ZAP_BATCH];
	u64 index[ZAP_BATCH];
	unsigned nr;
	bool unmap;
};

static void flush_batch(struct huge_zap *z, u64 end)
{
	struct mm *mm = z->vma->mm;

	if (!z->nr)
		return;
	mm->engine->mmu->flush(mm, z->start, end);
	z->start = end;
	while (z->nr) {
		struct page *page = z->pages[--z->nr];

		if (!z->unmap)
			hugetlb_promise_again(z->vma, page, z->index[z->nr]);
		page_put(mm->engine, page);
	}
}

/* Page-table lock held. */
static void zap_entry(struct huge_zap *z, const struct hstate *h, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep), left = { 0 };

	if (!pte_mapped(pte)) {
		/* What a marker says of a page to come goes with the area; of one that is lost,
		 * too, with the page. */
		if (z->unmap || !pte_marker_is(pte, PTE_MARKER_UFFD_WP))
			pte_store(ptep, left);
		return;
	}
	if (pte_uffd_wp(pte) && !z->unmap)
		left = pte_make_marker(PTE_MARKER_UFFD_WP);
	z->pages[z->nr] = huge_pte_clear(z->vma, va, ptep, left);
	z->index[z->nr++] = huge_index(h, z->vma, va);
}

void hugetlb_zap_range(struct vma *vma, u64 start, u64 end, bool unmap)
{
	const struct hstate *h = hstate_vma(vma);
	struct huge_zap z = { .vma = vma, .start = start, .unmap = unmap };

	VMF_ASSERT(!((start | end) & ~huge_page_mask(h)));
	for (u64 va = start; va < end; va += huge_page_size(h)) {
		spinlock_t *ptl;
		pte_t *ptep = huge_pte_find(h, vma->mm, va, &ptl);

		if (!ptep)
			continue;
		spin_lock(ptl);
		if (!pte_none(pte_read(ptep)))
			zap_entry(&z, h, va, ptep);
		spin_unlock(ptl);
		if (z.nr == ZAP_BATCH)
			flush_batch(&z, va + huge_page_size(h));
	}
	flush_batch(&z, end);
}

int hugetlb_dontneed(struct vma *vma, u64 start, u64 end)
{
	const struct hstate *h = hstate_vma(vma);
	struct address_space *m = vma->file->mapping;

	if (start & ~huge_page_mask(h))
		return -EINVAL;
	end &= huge_page_mask(h);
	if (start >= end)
		return 0;
	down_write(&m->invalidate_lock);
	hugetlb_zap_range(vma, start, end, false);
	up_write(&m->invalidate_lock);
	return 0;
}

/* ---- changing ---- */

/* Page-table lock held.  True: rights went. */
static bool change_entry(struct vma *vma, u64 va, pte_t *ptep)
{
	struct engine *e = vma->mm->engine;
	pte_t old = pte_read(ptep), new;

	if (!pte_mapped(old))
		return false;
	new = huge_pte_make(vma, pfn_page(e, pte_pfn(old)));
	/* A private page asks before it is written to, though it may be the area's alone: so does
	 * Linux. */
	if (!(vma->flags & VM_SHARED))
		new = pte_without(new, PTE_WRITE);
	new = pte_with(new, old.v & (PTE_ACCESSED | PTE_DIRTY));
	if (pte_uffd_wp(old) && (vma->flags & VM_UFFD_WP))
		new = pte_mkuffd_wp(new);
	if (pte_same(old, new))
		return false;
	e->mmu->change_huge(vma->mm, va, ptep, new);
	return (pte_write(old) && !pte_write(new)) || (pte_present(old) && !pte_present(new)) ||
	       (!pte_nx(old) && pte_nx(new));
}

void hugetlb_change_protection(struct vma *vma)
{
	const struct hstate *h = hstate_vma(vma);
	struct mm *mm = vma->mm;
	bool flush = false;

	for (u64 va = vma->start; va < vma->end; va += huge_page_size(h)) {
		spinlock_t *ptl;
		pte_t *ptep = huge_pte_find(h, mm, va, &ptl);

		if (!ptep)
			continue;
		spin_lock(ptl);
		flush |= change_entry(vma, va, ptep);
		spin_unlock(ptl);
	}
	if (flush)
		mm->engine->mmu->flush(mm, vma->start, vma->end);
}

/* ---- fork ---- */

/* Both page-table locks held.  True: rights of the parent's went. */
static bool copy_entry(struct vma *to, const struct vma *vma, u64 va, pte_t *src, pte_t *dst)
{
	struct engine *e = vma->mm->engine;
	bool wp = to->flags & VM_UFFD_WP, flush = false;
	pte_t pte = pte_read(src);
	struct page *page;

	if (!pte_mapped(pte)) {
		if (wp || pte_marker_is(pte, PTE_MARKER_POISONED | PTE_MARKER_HWPOISON))
			pte_store(dst, pte);
		return false;
	}
	page = pfn_page(e, pte_pfn(pte));
	page_get(page);
	page_add_huge_rmap(page);
	if (!(vma->flags & VM_MAYSHARE)) {
		page_clear(page, PG_ANON_EXCLUSIVE);
		if (pte_write(pte)) {
			e->mmu->change_huge(vma->mm, va, src, pte_without(pte, PTE_WRITE));
			pte = pte_read(src);
			flush = true;
		}
		pte = pte_without(pte, PTE_WRITE);
	}
	if (!wp)
		pte = pte_clear_uffd_wp(pte);
	/* No CPU has the child's tables: nothing of the machine's changes. */
	pte_store(dst, pte_without(pte, PTE_ACCESSED));
	atomic_fetch_add_explicit(&to->mm->hugetlb_pages, (s64)page_frames(page),
				  memory_order_relaxed);
	return flush;
}

int hugetlb_copy_range(struct vma *to, const struct vma *vma, bool *flush)
{
	const struct hstate *h = hstate_vma(vma);

	for (u64 va = vma->start; va < vma->end; va += huge_page_size(h)) {
		spinlock_t *src_ptl, *dst_ptl;
		pte_t *src = huge_pte_find(h, vma->mm, va, &src_ptl), *dst;

		if (!src || pte_none(pte_read(src)))
			continue;
		dst = huge_pte_alloc(h, to->mm, va, &dst_ptl);
		if (!dst)
			return -ENOMEM;
		spin_lock(src_ptl);
		spin_lock(dst_ptl);
		*flush |= copy_entry(to, vma, va, src, dst);
		spin_unlock(dst_ptl);
		spin_unlock(src_ptl);
	}
	return 0;
}

/* ---- moving ---- */

int hugetlb_move_tables(struct vma *vma, u64 from, u64 to, u64 len)
{
	const struct hstate *h = hstate_vma(vma);
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	spinlock_t *ptl;

	/* All new tables first, so that nothing can fail half way. */
	for (u64 at = 0; at < len; at += huge_page_size(h))
		if (huge_pte_find(h, mm, from + at, &ptl) && !huge_pte_alloc(h, mm, to + at, &ptl))
			return -ENOMEM;
	for (u64 at = 0; at < len; at += huge_page_size(h)) {
		pte_t *old = huge_pte_find(h, mm, from + at, &ptl), pte;

		if (!old)
			continue;
		spin_lock(ptl);
		pte = pte_read(old);
		if (pte_mapped(pte))
			pte = e->mmu->clear_huge(mm, from + at, old, (pte_t){ 0 });
		else
			pte_store(old, (pte_t){ 0 });
		spin_unlock(ptl);
		if (pte_none(pte))
			continue;
		e->mmu->flush(mm, from + at, from + at + huge_page_size(h));
		old = huge_pte_find(h, mm, to + at, &ptl);
		spin_lock(ptl);
		pte_store(old, pte);
		spin_unlock(ptl);
	}
	return 0;
}

/* ---- looking ---- */

bool hugetlb_in_core(const struct vma *vma, u64 va)
{
	const struct hstate *h = hstate_vma(vma);
	struct address_space *m = vma->file->mapping;
	spinlock_t *ptl;
	const pte_t *ptep = huge_pte_find(h, vma->mm, va & huge_page_mask(h), &ptl);
	struct page *page;

	if (ptep)
		return pte_mapped(pte_read(ptep));
	page = hugetlb_find_page(m, huge_index(h, vma, va));
	if (page)
		page_put(m->engine, page);
	return page;
}

bool hugetlb_follow(const struct vma *vma, u64 va, bool write)
{
	const struct hstate *h = hstate_vma(vma);
	spinlock_t *ptl;
	const pte_t *ptep = huge_pte_find(h, vma->mm, va & huge_page_mask(h), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	return pte_mapped(pte) && (!write || pte_write(pte));
}
