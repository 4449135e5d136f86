/* SPDX-License-Identifier: MIT */
/*
 * Moving memory from one address to another.
 *
 * A move makes a second VMA with the same linear index and anon_vma, moves the entries under
 * anon_vma->lock (and that of the file's tree), so that nobody looks for a page while it is
 * nowhere, and then takes the old VMA away, or (DONTUNMAP) leaves it empty, and, if all of it has
 * moved, without anon_vma, as if new.
 */
#include "engine/space/huge.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

/* A copy of the VMA without its pages, at its new place; in no tree yet. */
static struct vma *copy_vma(struct vma *vma, u64 old, u64 to, u64 len)
{
	bool keep = vma->anon_vma || vma->file;
	u64 pgoff = vma->pgoff + ((old - vma->start) >> PAGE_SHIFT);
	struct vma *copy =
		vma_new(vma->mm, to, to + len, keep ? pgoff : to >> PAGE_SHIFT, vma->flags);

	if (copy && anon_vma_clone(copy, vma)) {
		vma_put(copy);
		return NULL;
	}
	if (copy && vma->file)
		copy->file = file_get(vma->file);
	if (copy) {
		copy->uffd = vma->uffd;
		copy->policy = vma->policy;
		vma_inherit_guard(copy, vma);
	}
	return copy;
}

/* Another mapping of what `vma` maps from `old` on: shared memory comes by itself. */
static s64 duplicate(struct vma *vma, u64 old, u64 len, u64 to)
{
	struct vma *copy;

	if (unlikely(vma->uffd) && userfaultfd_remap_prep(vma, old, to, 0))
		return -ENOMEM;
	copy = copy_vma(vma, old, to, len);
	if (!copy) {
		userfaultfd_remap_fail(vma);
		return -ENOMEM;
	}
	vma_link(vma->mm, copy);
	anon_vma_lock_write(vma);
	anon_vma_insert(copy);
	anon_vma_unlock_write(vma);
	vm_stat_account(vma->mm, copy->flags, (s64)vma_pages(copy));
	copy = vma_merge(copy);
	if (unlikely(copy->uffd))
		userfaultfd_remap_done(copy, to, len);
	return (s64)to;
}

/* In Linux the pages that are there stay locked one by one, until they go. */
static void leave_pages_locked(struct vma *vma)
{
	struct mm *mm = vma->mm;
	spinlock_t *ptl;
	pte_t *ptep;

	for (u64 va = vma->start; (ptep = pte_next_table(mm, &va, vma->end, &ptl));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, vma->end);

		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE, ptep++) {
			pte_t pte = pte_read(ptep);

			if (pte_mapped(pte) && !pte_special(pte))
				page_set(pfn_page(mm->engine, pte_pfn(pte)), PG_MLOCKED);
		}
		spin_unlock(ptl);
	}
}

/* What has moved is not there any more, and all of its area is not locked; but, in Linux 6.18, it
 * is counted as if it were. */
static void unlock_old(struct vma *vma)
{
	if (vma->flags & VM_LOCKED) {
		vma->mm->locked_stale += vma_pages(vma);
		leave_pages_locked(vma);
	}
	__atomic_store_n(&vma->flags, vma->flags & ~(u32)VM_LOCKED_MASK, __ATOMIC_RELAXED);
}

/*
 * Would the copy at `to` merge with the VMA that it is a copy of?  In Linux it does so before
 * anything has moved, which shows in what stays behind on the other side: if the copy then loses
 * its userfaultfd, or gets the anon_vma of its other neighbour, so does that.  (With pages of its
 * own its index does not fit.)
 */
static bool merges_with_itself(const struct vma *vma, u64 to, u64 new_len)
{
	return !vma->anon_vma && !vma->file && !(vma->uffd && userfaultfd_follows(vma)) &&
	       (to + new_len == vma->start || to == vma->end) &&
	       vma->pgoff == vma->start >> PAGE_SHIFT;
}

/* As move_vma() then. */
static s64 move_within(struct vma *vma, u64 old, u64 old_len, u64 new_len, u64 to, bool keep_old)
{
	struct mm *mm = vma->mm;
	struct vma *moved = copy_vma(vma, old, to, new_len);
	int err;

	if (!moved)
		return -ENOMEM;
	vma_drain(vma);
	vma_link(mm, moved);
	vm_stat_account(mm, moved->flags, (s64)vma_pages(moved));
	moved = vma_merge(moved);
	err = prepare_huge_move(mm, old, to, old_len) ?: move_tables(mm, old, to, old_len);
	if (!err && unlikely(moved->uffd))
		userfaultfd_remap_done(moved, to, new_len);
	if (!err && keep_old) {
		unlock_old(find_vma(mm, old));
		mm->unmerged = true; /* not with its neighbours, in Linux */
	}
	if (err || !keep_old)
		err = unmap_silently(mm, err ? to : old, err ? to + new_len : old + old_len) ?: err;
	return err ? err : (s64)to;
}

s64 move_vma(struct vma *vma, u64 old, u64 old_len, u64 new_len, u64 to, bool keep_old)
{
	struct mm *mm = vma->mm;
	struct vma *moved;
	bool whole;
	int err;

	if (!old_len)
		return duplicate(vma, old, new_len, to);
	if (merges_with_itself(vma, to, new_len))
		return move_within(vma, old, old_len, new_len, to, keep_old);
	/* What stays behind stays one with what is around it. */
	if (!keep_old)
		vma = vma_isolate(vma, old, old + old_len);
	if (!vma)
		return -ENOMEM;
	whole = vma->start == old && vma->end == old + old_len;
	moved = NULL;
	if (likely(!vma->uffd) || !userfaultfd_remap_prep(vma, old, to, old_len))
		moved = copy_vma(vma, old, to, new_len);
	if (!moved) {
		userfaultfd_remap_fail(vma);
		vma_merge(vma);
		return -ENOMEM;
	}
	vma_drain(vma);
	vma_link(mm, moved);
	err = is_vm_hugetlb(vma) ? 0 : prepare_huge_move(mm, old, to, old_len);
	i_mmap_lock_write(vma);
	anon_vma_lock_write(vma);
	anon_vma_insert(moved);
	if (!err)
		err = is_vm_hugetlb(vma) ? hugetlb_move_tables(vma, old, to, old_len)
					 : move_tables(mm, old, to, old_len);
	anon_vma_unlock_write(vma);
	i_mmap_unlock_write(vma);
	if (err) {
		userfaultfd_remap_fail(vma);
		vma_unlink(mm, moved);
		free_tables(mm, to, to + new_len);
		vma_merge(vma);
		return err;
	}
	vm_stat_account(mm, moved->flags, (s64)vma_pages(moved));
	if (is_vm_hugetlb(vma))
		hugetlb_vma_moved(moved, vma);
	if (!keep_old) {
		/* No memory to tell of it: that it has moved is told. */
		if (unlikely(vma->uffd))
			userfaultfd_unmap_prep(mm, old, old + old_len);
		anon_vma_leave(vma);
		vm_stat_account(mm, vma->flags, -(s64)vma_pages(vma));
		vma_unlink(mm, vma);
		free_tables(mm, old, old + old_len);
	}
	moved = vma_merge(moved);
	if (unlikely(moved->uffd))
		userfaultfd_remap_done(moved, to, new_len);
	if (keep_old) {
		/* It may have become one with what has moved. */
		vma = find_vma(mm, old);
		unlock_old(vma);
		/* Else its index stays, and decides what it merges with. */
		if (whole && to - vma->start >= vma->end - vma->start)
			anon_vma_leave(vma);
		mm->unmerged = true; /* it might merge now; Linux lets it be */
	}
	return to;
}
