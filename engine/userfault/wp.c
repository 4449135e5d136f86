/* SPDX-License-Identifier: MIT */
/*
 * Write-protecting pages, and taking that back: UFFDIO_WRITEPROTECT.
 *
 * An entry is marked and does not allow writing; a write to it is the monitor's to judge (or, with
 * WP_ASYNC, takes the mark away by itself).  The mark goes with the page when it is swapped out and
 * in.  Where there is no page yet a marker stands in the entry: always in areas of files, whose
 * entries come and go by themselves, in anonymous ones with WP_UNPOPULATED.
 *
 * A huge page is marked as a whole, by its own entry, or split if only a part of it is meant.
 *
 * As in Linux, marks stay when an area is registered anew for other things: they mean nothing then,
 * and when it is registered for this again, those that no write has come across mean what they did.
 */
#include "engine/engine.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/huge.h"
#include "engine/userfault/internal.h"

/* May the entry, which is not marked any more, allow writing at once?  Otherwise the next write
 * faults, and finds out. */
static bool may_write_at_once(const struct vma *vma, pte_t pte)
{
	const struct page *page = pfn_page(vma->mm->engine, pte_pfn(pte));

	if (!(vma->flags & VM_WRITE) || pte_special(pte))
		return false;
	if (vma->flags & VM_SHARED)
		return pte_dirty(pte);
	return !page_test(page, PG_FILE) && page_test(page, PG_ANON_EXCLUSIVE);
}

/* One entry; true: a flush is owed.  PTL held. */
static bool protect_entry(struct vma *vma, u64 va, pte_t *ptep, bool markers)
{
	pte_t old = pte_read(ptep);

	if (pte_none(old)) {
		if (markers)
			pte_store(ptep, pte_make_marker(PTE_MARKER_UFFD_WP));
		return false;
	}
	if (pte_is_swap(old))
		pte_store(ptep, pte_mkuffd_wp(old));
	if (!pte_mapped(old) || (pte_uffd_wp(old) && !pte_write(old)))
		return false;
	vma->mm->engine->mmu->change(vma->mm, va, ptep, pte_mkuffd_wp(old));
	return pte_write(old);
}

/* What a mapped entry says without the mark. */
static pte_t resolved(const struct vma *vma, pte_t old, enum uffd_wp_change change)
{
	pte_t new = pte_clear_uffd_wp(old);

	return change == UFFD_WP_RESOLVE && may_write_at_once(vma, old) ? pte_with(new, PTE_WRITE)
									: new;
}

static void resolve_entry(struct vma *vma, u64 va, pte_t *ptep, enum uffd_wp_change change)
{
	pte_t old = pte_read(ptep);

	if (!pte_uffd_wp(old))
		return;
	if (pte_is_marker(old))
		pte_store(ptep, (pte_t){ 0 });
	else if (pte_is_swap(old))
		pte_store(ptep, pte_clear_uffd_wp(old));
	else
		vma->mm->engine->mmu->change(vma->mm, va, ptep, resolved(vma, old, change));
}

/* The entry of a huge page; true: a flush is owed.  PTL held. */
static bool change_huge_entry(struct vma *vma, u64 va, pte_t *pmdp, enum uffd_wp_change change)
{
	pte_t old = pte_read(pmdp), new = old;

	if (change == UFFD_WP_PROTECT)
		new = pte_mkuffd_wp(old);
	else if (pte_uffd_wp(old))
		new = resolved(vma, old, change);

	if (!pte_same(old, new))
		vma->mm->engine->mmu->change_huge(vma->mm, va, pmdp, new);
	return pte_write(old) && !pte_write(new);
}

/* [va, stop) has a huge page, or a part of one.  True: it is done; false: look again.  No PTL
 * held. */
static bool change_huge(struct vma *vma, u64 va, u64 stop, pte_t *pmdp, spinlock_t *ptl,
			enum uffd_wp_change change, bool *flush)
{
	struct mm *mm = vma->mm;

	if (stop - va < PMD_SIZE) {
		split_huge_pmd(mm, va);
		return false;
	}
	if (!pmd_lock_huge(mm, pmdp, ptl))
		return false;
	*flush |= change_huge_entry(vma, va, pmdp, change);
	spin_unlock(ptl);
	return true;
}

/* The entry of *va, where a marker might be to come; or as pmd_next().  NULL: no memory; or there
 * is nothing more. */
static pte_t *next_entry(struct mm *mm, u64 *va, u64 end, bool markers, spinlock_t **ptl,
			 bool *huge)
{
	pte_t *pmdp;

	if (!markers)
		return pmd_next(mm, va, end, ptl, huge);
	pmdp = pmd_find(mm, *va, ptl);
	*huge = pmdp && pte_huge(pte_read(pmdp));
	return *huge ? pmdp : pte_alloc(mm, *va, ptl);
}

int uffd_wp_range(struct vma *vma, u64 start, u64 end, enum uffd_wp_change change)
{
	struct mm *mm = vma->mm;
	bool protect = change == UFFD_WP_PROTECT;
	bool markers = protect &&
		       (vma->file || userfaultfd_has(vma->uffd, UAPI_UFFD_FEATURE_WP_UNPOPULATED));
	bool flush = false, huge;
	u64 va = start;
	int err = 0;

	if (is_vm_hugetlb(vma))
		return hugetlb_wp_range(vma, start, end, protect);
	while (va < end) {
		u64 stop;
		spinlock_t *ptl;
		pte_t *ptep = next_entry(mm, &va, end, markers, &ptl, &huge);

		if (!ptep) {
			err = markers ? -ENOMEM : 0;
			break;
		}
		stop = min_of((va & PMD_MASK) + PMD_SIZE, end);
		if (unlikely(huge)) {
			if (change_huge(vma, va, stop, ptep, ptl, change, &flush))
				va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE, ptep++) {
			if (protect)
				flush |= protect_entry(vma, va, ptep, markers);
			else
				resolve_entry(vma, va, ptep, change);
		}
		spin_unlock(ptl);
	}
	if (flush)
		mm->engine->mmu->flush(mm, start, end);
	return err;
}

/* Area by area; what comes before one that is not registered for it is done.  mmap_lock held. */
static int protect_range(struct mm *mm, u64 start, u64 end, bool protect)
{
	struct vma *vma = find_vma(mm, start);
	int err = -ENOENT;

	for (; vma && vma->start < end; vma = vma_next(vma)) {
		if (!(vma->flags & VM_UFFD_WP))
			return -ENOENT;
		if (is_vm_hugetlb(vma) &&
		    !(hugetlb_may_split(vma, start) && hugetlb_may_split(vma, end)))
			return -EINVAL;
		err = uffd_wp_range(vma, max_of(vma->start, start), min_of(vma->end, end),
				    protect ? UFFD_WP_PROTECT : UFFD_WP_RESOLVE);
		if (err)
			return err;
	}
	return err;
}

int userfaultfd_writeprotect(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode)
{
	bool protect = mode & UAPI_UFFDIO_WRITEPROTECT_MODE_WP;
	bool wake = !(mode & UAPI_UFFDIO_WRITEPROTECT_MODE_DONTWAKE);
	struct mm *mm;
	int err;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	if (atomic_load(&ctx->mmap_changing))
		return -EAGAIN;
	mm = userfaultfd_get_mm(ctx);
	if (!mm)
		return -ESRCH;
	err = validate_range(mm, start, len);
	if (mode &
	    ~(u64)(UAPI_UFFDIO_WRITEPROTECT_MODE_WP | UAPI_UFFDIO_WRITEPROTECT_MODE_DONTWAKE))
		err = -EINVAL;
	if (protect && !wake)
		err = -EINVAL; /* it wakes nobody in any case */
	if (!err) {
		down_read(&mm->mmap_lock);
		down_read(&ctx->map_changing_lock);
		err = atomic_load(&ctx->mmap_changing)
			      ? -EAGAIN
			      : protect_range(mm, start, start + len, protect);
		up_read(&ctx->map_changing_lock);
		up_read(&mm->mmap_lock);
	}
	userfaultfd_put_mm(ctx);
	if (!err && !protect && wake)
		wake_userfault(ctx, start, len);
	return err;
}
