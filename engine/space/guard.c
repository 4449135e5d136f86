/* SPDX-License-Identifier: MIT */
/*
 * Guard regions (Linux 6.13): pages of an area that any access to is an error, for the price of an
 * entry each instead of an area.  The markers stay with the area: discarding leaves them, unmapping
 * and MADV_GUARD_REMOVE take them.
 */
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

/* Where a page or a swap entry is there is none yet: false, and it must be zapped first.  PTL held.
 */
static bool mark(pte_t *ptep)
{
	pte_t pte = pte_read(ptep);

	if (pte_marker_is(pte, PTE_MARKER_GUARD))
		return true;
	if (!pte_none(pte) && !pte_is_marker(pte))
		return false;
	pte_store(ptep, pte_make_marker(PTE_MARKER_GUARD));
	return true;
}

/* 0, 1: there are pages yet, or -ENOMEM. */
static int mark_range(struct vma *vma, u64 start, u64 end)
{
	for (u64 va = start; va < end;) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);
		spinlock_t *ptl;
		pte_t *ptep = pte_alloc(vma->mm, va, &ptl);
		bool marked = true;

		if (!ptep)
			return -ENOMEM;
		spin_lock(ptl);
		for (; marked && va < stop; va += PAGE_SIZE)
			marked = mark(ptep++);
		spin_unlock(ptl);
		if (!marked)
			return 1;
	}
	return 0;
}

int guard_install(struct vma *vma, u64 start, u64 end)
{
	int left;

	if (vma->flags & (VM_DONTEXPAND | VM_LOCKED))
		return -EINVAL;
	if (!vma->file && anon_vma_prepare(vma))
		return -EAGAIN;
	/* Its table holds what a fault would not find again. */
	atomic_store_explicit(&vma->maybe_guard, true, memory_order_relaxed);
	while ((left = mark_range(vma, start, end)) > 0)
		zap_range(vma, start, end, false);
	return left ? -EAGAIN : 0;
}

int guard_remove(struct vma *vma, u64 start, u64 end)
{
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;

	if (vma->flags & VM_DONTEXPAND)
		return -EINVAL;
	for (u64 va = start; (ptep = pmd_next(vma->mm, &va, end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (unlikely(huge)) { /* no guard is in it */
			va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE, ptep++)
			if (pte_marker_is(pte_read(ptep), PTE_MARKER_GUARD))
				pte_store(ptep, (pte_t){ 0 });
		spin_unlock(ptl);
	}
	return 0;
}
