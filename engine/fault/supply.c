/* SPDX-License-Identifier: MIT */
/*
 * A page of somebody's bytes instead of zeros: as do_anonymous_page(), but before the fault, which
 * finds the entry there and has nothing left to do.  Another CPU that faults at the same address
 * either comes first, and this is -EEXIST, or finds the page whole.
 */
#include "engine/fault/supply.h"
#include "engine/base/errno.h"
#include "engine/fault/internal.h"

/* The area, and whether its entry is none.  mmap_lock held. */
static int find(struct mm *mm, u64 va, struct vma **out)
{
	struct vma *vma = find_vma(mm, va);
	spinlock_t *ptl;
	pte_t *ptep;

	if (!vma || vma->start > va || vma->file || vma->uffd ||
	    vma->flags & (VM_SHARED | VM_HUGETLB))
		return -ENOENT;
	*out = vma;
	ptep = pte_find(mm, va, &ptl);
	return ptep && !pte_none(pte_read(ptep)) ? -EEXIST : 0;
}

int supply_check(struct mm *mm, u64 va)
{
	struct vma *vma;
	int err;

	down_read(&mm->mmap_lock);
	err = find(mm, va, &vma);
	up_read(&mm->mmap_lock);
	return err;
}

/* A staged frame with the bytes. */
static int frame_with(const struct vma *vma, u64 va, const void *bytes, struct page **out)
{
	struct page *page = vma_alloc_page(vma, va, 0, 0);
	struct engine *e = vma->mm->engine;

	if (!page)
		return -ENOMEM;
	page_init_flags(page, PG_ANON_EXCLUSIVE);
	if (e->mmu->stage(e, &page, 1)) {
		page_put(e, page);
		return -EAGAIN;
	}
	observe(e, STEP_ALLOC_FRAMES, 0, 1);
	memcpy(e->mmu->bytes(e, page), bytes, PAGE_SIZE);
	observe(e, STEP_COPY, 0, 1);
	*out = page;
	return 0;
}

/* It becomes the area's.  mmap_lock held. */
static int install(struct vma *vma, u64 va, struct page *page)
{
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	pte_t pte = pte_make(page_pfn(e, page), vma_pte_bits(vma));
	spinlock_t *ptl;
	pte_t *ptep = pte_alloc(mm, va, &ptl);
	int n = -EEXIST;

	if (!ptep)
		return -ENOMEM;
	if (pte_write(pte))
		pte = pte_with(pte, PTE_DIRTY);
	spin_lock(ptl);
	if (pte_none(pte_read(ptep)))
		n = e->mmu->set(mm, va, ptep, &pte, &page, 1);
	observe(e, STEP_MAP, va, max_of(n, 0));
	if (n > 0) {
		page_add_anon_rmap(page, vma, va);
		lru_add(e, page);
		atomic_fetch_add_explicit(&mm->rss, 1, memory_order_relaxed);
	}
	spin_unlock(ptl);
	return min_of(n, 0);
}

static int supply_locked(struct mm *mm, u64 va, const void *bytes)
{
	struct engine *e = mm->engine;
	struct page *page;
	struct vma *vma;
	int err = find(mm, va, &vma);

	if (!err && !vma_anon(vma))
		err = anon_vma_prepare(vma);
	if (!err)
		err = frame_with(vma, va, bytes, &page);
	if (err)
		return err;
	err = install(vma, va, page);
	if (err) {
		e->mmu->unstage(e, page);
		page_put(e, page);
	}
	return err;
}

int supply_page(struct mm *mm, u64 va, const void *bytes)
{
	int err;

	down_read(&mm->mmap_lock);
	err = supply_locked(mm, va & ~(u64)(PAGE_SIZE - 1), bytes);
	up_read(&mm->mmap_lock);
	return err;
}
