/* SPDX-License-Identifier: MIT */
/*
 * madvise(2) with MADV_HWPOISON and MADV_SOFT_OFFLINE: what would happen if the frames at these
 * addresses failed, or were about to?  For testing, by whoever may (limits.may_break_memory).
 */
#include "engine/backing/dax.h"
#include "engine/fault/fault.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/reclaim/memory_failure.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

/* The page at va, with a reference; NULL: it has gone meanwhile. */
static struct page *get_mapped(struct mm *mm, u64 va)
{
	struct page *page = NULL;
	spinlock_t *ptl;
	pte_t *ptep, pte;

	split_huge_pmd(mm, va);
	ptep = pte_find(mm, va, &ptl);
	if (!ptep)
		return NULL;
	spin_lock(ptl);
	pte = pte_read(ptep);
	if (pte_present(pte)) {
		page = pfn_page(mm->engine, pte_pfn(pte));
		page_get(page);
	}
	spin_unlock(ptl);
	return page;
}

/* The page that a read at va sees, brought in if need be, with a reference.  0, -EFAULT,
 * -ENOMEM. */
static int get_user_page(struct mm *mm, u64 va, struct page **page)
{
	int err;

	*page = NULL;
	do {
		struct vma *vma;

		down_read(&mm->mmap_lock);
		vma = find_vma(mm, va);
		err = -EFAULT;
		/* What devices have does not fail here. */
		if (vma && vma->start <= va && (vma->flags & VM_READ) && !vma_is_dax(vma))
			err = faultin_page(vma, va, false);
		if (!err)
			*page = is_vm_hugetlb(vma) ? hugetlb_get_frame(vma, va)
						   : get_mapped(mm, va);
		if (err != -EAGAIN)
			up_read(&mm->mmap_lock);
	} while (err == -EAGAIN || (!err && !*page));
	return err == -EHWPOISON ? -EFAULT : err;
}

int madvise_inject_error(struct mm *mm, u64 start, u64 end, bool soft)
{
	struct engine *e = mm->engine;
	struct page *page;
	u64 step, pfn;
	int err = 0;

	if (!mm->limits.may_break_memory)
		return -EPERM;
	for (; !err && start < end; start += step) {
		err = get_user_page(mm, start, &page);
		if (err)
			break;
		pfn = page_pfn(e, page);
		/* A huge page of a pool fails once. */
		step = is_of_pool(page) ? page_frames(page_head(page)) << PAGE_SHIFT : PAGE_SIZE;
		/* A page that is to be moved must not be held; whatever the frame holds by then. */
		if (soft)
			page_put(e, page_head(page));
		err = soft ? soft_offline_page(e, pfn) : memory_failure(e, pfn);
		if (!soft)
			page_put(e, page_head(page));
	}
	return err;
}
