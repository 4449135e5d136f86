/* SPDX-License-Identifier: MIT */
/*
 * Pages brought in without an access: for mlock(2), MAP_POPULATE and madvise(2).
 *
 * A page that is there as it is wanted costs no fault; any other costs one, which is counted.
 * mmap_lock is held for reading from page to page; a fault that has to wait drops it, and the area
 * is looked up again then.
 */
#include "engine/backing/page_cache.h"
#include "engine/fault/internal.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/reclaim/oom.h"
#include "engine/space/huge.h"

/* PTL held. */
static bool follow_huge(struct vma *vma, u64 va, pte_t *pmdp, bool write)
{
	struct mm *mm = vma->mm;
	pte_t pmd = pte_read(pmdp);
	bool there = pte_present(pmd) && (!write || pte_write(pmd));

	if (there && write && !pte_dirty(pmd))
		mm->engine->mmu->change_huge(mm, va & PMD_MASK, pmdp,
					     pte_with(pmd, PTE_ACCESSED | PTE_DIRTY));
	return there;
}

/* Is the page there, and writable if it is to be written?  Then that counts as a use of it. */
static bool follow_page(struct vma *vma, u64 va, bool write)
{
	struct mm *mm = vma->mm;
	spinlock_t *ptl;
	pte_t *ptep, pte;
	bool there;

	if (is_vm_hugetlb(vma))
		return hugetlb_follow(vma, va, write);
	ptep = pmd_find(mm, va, &ptl);

	if (ptep && pte_huge(pte_read(ptep)) && pmd_lock_huge(mm, ptep, ptl)) {
		there = follow_huge(vma, va, ptep, write);
		spin_unlock(ptl);
		return there;
	}
	ptep = pte_find(mm, va, &ptl);
	if (!ptep)
		return false;
	spin_lock(ptl);
	pte = pte_read(ptep);
	there = pte_present(pte) && (!write || pte_write(pte));
	if (there && write && !pte_dirty(pte)) {
		struct page *page = pfn_page(mm->engine, pte_pfn(pte));

		if (page_test(page, PG_FILE))
			page_mark_dirty(vma->file->mapping, page);
		else
			mm->engine->mmu->change(mm, va, ptep,
						pte_with(pte, PTE_ACCESSED | PTE_DIRTY));
	}
	spin_unlock(ptl);
	return there;
}

int faultin_page(struct vma *vma, u64 va, bool write)
{
	struct mm *mm = vma->mm;
	unsigned flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE | FAULT_FLAG_ABSENT |
			 (write ? FAULT_FLAG_WRITE : 0);

	while (!follow_page(vma, va, write)) {
		struct fault_result res = { 0 };
		u64 refused = store_refusals(mm->engine);
		unsigned ret = handle_mm_fault(vma, va, flags, &res);

		if (ret & VM_FAULT_RETRY)
			return -EAGAIN;
		if (ret & VM_FAULT_OOM) {
			if (!frames_in_flight(mm->engine, refused))
				return -ENOMEM;
			up_read(&mm->mmap_lock);
			return -EAGAIN;
		}
		if (ret & VM_FAULT_BROKEN)
			return -EHWPOISON;
		if (ret & VM_FAULT_ERROR)
			return -EFAULT;
		account_fault(mm, ret, flags, &res);
	}
	return 0;
}

int populate_page(struct vma *vma, u64 va, bool write, struct shortage *s)
{
	struct mm *mm = vma->mm;
	int err;

	/* It would be given what others were to have. */
	if (unlikely(mm_is_oom_victim(mm)))
		return -ENOMEM;
	shortage_note(mm->engine, s);
	err = faultin_page(vma, va, write);
	if (!err)
		*s = (struct shortage){ 0 };
	if (likely(err != -ENOMEM))
		return err;
	up_read(&mm->mmap_lock);
	if (shortage_may_pass(mm, s, true))
		return -EAGAIN;
	down_read(&mm->mmap_lock);
	return -ENOMEM;
}

/* *at: in, where to begin in the area; out, the page that could not be had. */
static int populate_vma(struct vma *vma, u64 *at, u64 end, struct shortage *s)
{
	/* What will be the program's own is copied now. */
	bool write = (vma->flags & (VM_WRITE | VM_SHARED)) == VM_WRITE;
	int err = 0;

	if (vma->flags & VM_LOCKONFAULT)
		return 0;
	if (!(vma->flags & VM_ACCESS))
		return -EFAULT;
	for (; !err && *at < end; *at += PAGE_SIZE)
		err = populate_page(vma, *at, write, s);
	if (err)
		*at -= PAGE_SIZE;
	return err == -EHWPOISON ? -EFAULT : err;
}

int populate_range(struct mm *mm, u64 start, u64 end, bool ignore_errors)
{
	struct shortage shortage = { 0 };
	bool locked = false;
	int err = 0;

	while (!err && start < end) {
		struct vma *vma;
		u64 stop;

		if (!locked)
			down_read(&mm->mmap_lock);
		locked = true;
		vma = find_vma(mm, start);
		if (!vma || vma->start >= end)
			break;
		stop = min_of(vma->end, end);
		start = max_of(start, vma->start);
		err = populate_vma(vma, &start, stop, &shortage);
		if (err == -EAGAIN) {
			locked = false;
			err = 0;
		} else if (!err || ignore_errors) {
			start = stop;
			err = 0;
		}
	}
	if (locked)
		up_read(&mm->mmap_lock);
	return err;
}
