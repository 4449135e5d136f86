/* SPDX-License-Identifier: MIT */
/* Advice about the pages of an area: that they are wanted, or not, or not any more. */
#include "engine/backing/dax.h"
#include "engine/backing/page_cache.h"
#include "engine/fault/collapse.h"
#include "engine/fault/internal.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"
#include "engine/space/uapi.h"
#include "engine/userfault/hooks.h"

/* The page of the file at va. */
static u64 file_page(const struct vma *vma, u64 va)
{
	return vma->pgoff + ((va - vma->start) >> PAGE_SHIFT);
}

/* ---- wanted ---- */

/* What has been swapped out comes back; what has never been there does not come. */
static void swap_in_range(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;

	for (u64 va = start; va < end; va += PAGE_SIZE) {
		spinlock_t *ptl;
		const pte_t *ptep = pte_find(mm, va, &ptl);

		if (!ptep || !pte_is_swap(pte_read(ptep)))
			continue;
		/* It was only advice: where the lock was dropped, that shall do. */
		if (faultin_page(vma, va, false) == -EAGAIN) {
			down_read(&mm->mmap_lock);
			return;
		}
	}
}

static int advise_willneed(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	struct file *file = vma->file;
	u64 from = file ? file_page(vma, start) : 0;

	if (!file && (vma->flags & VM_ACCESS))
		swap_in_range(vma, start, end);
	if (!file || !file->mapping->ops->read_page)
		return 0;
	file_get(file);
	up_read(&mm->mmap_lock);
	page_cache_readahead(file->mapping, from, (end - start) >> PAGE_SHIFT);
	file_put(file);
	down_read(&mm->mmap_lock);
	return 0;
}

int madvise_populate(struct mm *mm, u64 start, u64 end, bool write)
{
	struct shortage shortage = { 0 };
	bool locked = false;
	int err = 0;

	while (!err && start < end) {
		struct vma *vma;

		if (!locked)
			down_read(&mm->mmap_lock);
		locked = true;
		vma = find_vma(mm, start);
		if (!vma || vma->start > start) {
			err = -ENOMEM;
			break;
		}
		if (!(vma->flags & (write ? VM_WRITE : VM_READ))) {
			err = -EINVAL;
			break;
		}
		err = populate_page(vma, start, write, &shortage);
		if (err == -EAGAIN) {
			locked = false;
			err = 0;
		} else if (!err) {
			start += PAGE_SIZE;
		}
	}
	if (locked)
		up_read(&mm->mmap_lock);
	return err;
}

/* ---- not for now ---- */

/* True: it was huge, and all of it is meant, or it is the zero page: that stays as it is. */
static bool make_huge_cold(struct mm *mm, u64 va, u64 end, pte_t *pmdp, spinlock_t *ptl)
{
	struct engine *e = mm->engine;
	struct page *page;

	if (pte_special(pte_read(pmdp)))
		return true;
	if (va & ~PMD_MASK || end - va < PMD_SIZE) {
		split_huge_pmd(mm, va);
		return false;
	}
	if (!pmd_lock_huge(mm, pmdp, ptl))
		return false;
	page = pfn_page(e, pte_pfn(pte_read(pmdp)));
	if (!pte_special(pte_read(pmdp)) && page_mapcount(page) == 1) {
		e->mmu->test_and_clear_young_huge(mm, va, pmdp);
		page_clear(page, PG_REFERENCED);
		lru_rotate(e, page, ARRIVED_NEXT);
	}
	spin_unlock(ptl);
	return true;
}

static void make_cold(struct vma *vma, u64 start, u64 end)
{
	struct engine *e = vma->mm->engine;
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;

	for (u64 va = start; (ptep = pmd_next(vma->mm, &va, end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (unlikely(huge)) {
			if (make_huge_cold(vma->mm, va, end, ptep, ptl))
				va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE, ptep++) {
			pte_t pte = pte_read(ptep);
			struct page *page;

			if (!pte_mapped(pte) || pte_special(pte))
				continue;
			page = pfn_page(e, pte_pfn(pte));
			if (page_mapcount(page) != 1)
				continue;
			e->mmu->test_and_clear_young(vma->mm, va, ptep);
			page_clear(page, PG_REFERENCED);
			lru_rotate(e, page, ARRIVED_NEXT);
		}
		spin_unlock(ptl);
	}
}

static int advise_cold(struct vma *vma, u64 start, u64 end, bool pageout)
{
	struct mm *mm = vma->mm;

	if (vma->flags & (VM_LOCKED | VM_HUGETLB))
		return -EINVAL;
	if (!pageout) {
		make_cold(vma, start, end);
		return 0;
	}
	up_read(&mm->mmap_lock);
	reclaim_range(mm, start, end);
	down_read(&mm->mmap_lock);
	return 0;
}

/* ---- not any more ---- */

static bool may_discard(const struct vma *vma, u64 advice)
{
	if (is_vm_hugetlb(vma))
		return advice != UAPI_MADV_FREE;
	return advice == UAPI_MADV_DONTNEED_LOCKED || !(vma->flags & VM_LOCKED);
}

/* May anything of the area be huge, but for pools? */
static bool may_come_huge(const struct vma *vma)
{
	const struct engine *e = vma->mm->engine;

	return e->mmu->set_huge && (vma->file ? vma_is_dax(vma) : e->config.thp != THP_NEVER);
}

/* What was discarded may come back huge, if the empty tables are out of its way: so does Linux
 * since 6.14 (CONFIG_PT_RECLAIM).  mmap_lock held for reading, and dropped meanwhile. */
static void make_room_for_huge(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;

	if (!may_come_huge(vma) || find_empty_table(mm, start, end) == end)
		return;
	up_read(&mm->mmap_lock);
	down_write(&mm->mmap_lock);
	vma = find_vma(mm, start);
	if (vma && vma->start <= start && end <= vma->end && may_come_huge(vma)) {
		vma_drain(vma);
		free_empty_tables(vma, start, end);
	}
	downgrade_write(&mm->mmap_lock);
}

static int advise_dontneed_free(struct vma *vma, u64 start, u64 end, u64 advice)
{
	struct mm *mm = vma->mm;

	if (!may_discard(vma, advice))
		return -EINVAL;
	if (unlikely(vma->uffd) && !userfaultfd_remove(vma, start, end)) {
		/* Whatever is there now: of that area no more than was said. */
		down_read(&mm->mmap_lock);
		vma = find_vma(mm, start);
		if (!vma || vma->start > start)
			return -ENOMEM;
		if (!may_discard(vma, advice))
			return -EINVAL;
		end = min_of(end, vma->end);
	}
	if (is_vm_hugetlb(vma))
		return hugetlb_dontneed(vma, start, end);
	if (advice != UAPI_MADV_FREE) {
		zap_range(vma, start, end, false);
		make_room_for_huge(vma, start, end);
		return 0;
	}
	if (vma->file)
		return -EINVAL;
	/* (Without a way to see whether they are written to again, they go at once.) */
	if (mm->engine->mmu->clean)
		lazyfree_range(vma, start, end);
	else
		zap_range(vma, start, end, false);
	return 0;
}

static int advise_remove(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	struct file *file = vma->file;
	u64 from;
	int err;

	if ((vma->flags & VM_LOCKED) || !file)
		return -EINVAL;
	if (!vma_may_write_file(vma->flags))
		return -EACCES;
	from = file_page(vma, start) << PAGE_SHIFT;
	file_get(file);
	if (likely(!vma->uffd) || userfaultfd_remove(vma, start, end))
		up_read(&mm->mmap_lock);
	err = file_punch_hole(file, from, end - start);
	file_put(file);
	down_read(&mm->mmap_lock);
	return err;
}

int advise_pages(struct vma *vma, u64 start, u64 end, u64 advice)
{
	switch (advice) {
	case UAPI_MADV_WILLNEED:
		return advise_willneed(vma, start, end);
	case UAPI_MADV_COLD:
		return advise_cold(vma, start, end, false);
	case UAPI_MADV_PAGEOUT:
		return advise_cold(vma, start, end, true);
	case UAPI_MADV_REMOVE:
		return advise_remove(vma, start, end);
	case UAPI_MADV_GUARD_INSTALL:
		return guard_install(vma, start, end);
	case UAPI_MADV_GUARD_REMOVE:
		return guard_remove(vma, start, end);
	case UAPI_MADV_COLLAPSE:
		return madvise_collapse(vma, start, end);
	default:
		return advise_dontneed_free(vma, start, end, advice);
	}
}
