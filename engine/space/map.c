/* SPDX-License-Identifier: MIT */
/*
 * Changing the layout: map, unmap, protect.  Errors and their order are Linux's.
 */
#include "engine/space/huge.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

/* ---- map ---- */

s64 vm_map(struct mm *mm, u64 addr, u64 len, u32 prot, u32 map_flags, u32 vm_flags)
{
	bool fixed = map_flags & (VMAP_FIXED | VMAP_FIXED_NOREPLACE);
	struct vma *vma;
	s64 result;

	if (!len)
		return -EINVAL;
	len = PAGE_ALIGN(len);
	if (!len || len > mm->high - mm->low)
		return -ENOMEM;
	if (fixed && !PAGE_ALIGNED(addr))
		return -EINVAL;

	down_write(&mm->mmap_lock);
	result = -ENOMEM;
	if (mm->map_count >= mm->limits.map_count)
		goto out;
	if (fixed) {
		if (addr < mm->low || addr > mm->high - len)
			goto out;
		if ((map_flags & VMAP_FIXED_NOREPLACE) && !range_is_free(mm, addr, addr + len)) {
			result = -EEXIST;
			goto out;
		}
		result = unmap_range(mm, addr, addr + len);
		if (result)
			goto out;
	} else {
		addr = PAGE_ALIGN(addr);
		if (!addr || addr > mm->high - len || !range_is_free(mm, addr, addr + len))
			addr = vma_find_hole(mm, len, mm->high);
		if (!addr)
			goto out;
	}
	result = -ENOMEM;
	vm_flags |= (prot & VM_ACCESS) | VM_MAYACCESS;
	if (accountable_mapping(vm_flags))
		vm_flags |= VM_ACCOUNT;
	vma = vma_new(mm, addr, addr + len, addr >> PAGE_SHIFT, vm_flags);
	if (!vma)
		goto out;
	vma_link(mm, vma);
	vm_stat_account(mm, vma->flags, (s64)(len >> PAGE_SHIFT));
	vma_merge(vma);
	result = addr;
out:
	mmap_write_unlock(mm);
	return result;
}

/* ---- unmap ---- */

int cut_range(struct mm *mm, u64 start, u64 end)
{
	struct vma *vma = find_vma(mm, start), *last;

	if (!vma || vma->start >= end)
		return 0;
	/* One more there may be, and one too many meanwhile, but none in the end. */
	if (vma->start < start && vma->end > end && mm->map_count >= mm->limits.map_count)
		return -ENOMEM;
	if (vma->start < start) {
		if (vma->flags & VM_SEALED)
			return -EPERM;
		if (vma_may_split(vma, start))
			return -EINVAL;
		vma = vma_split(vma, start);
		if (!vma)
			return -ENOMEM;
	}
	for (last = vma; last && last->start < end; last = vma_next(last)) {
		if (last->flags & VM_SEALED) {
			mm->unmerged = true; /* what was cut stays cut, as Linux leaves it */
			return -EPERM;
		}
	}
	last = find_vma(mm, end - 1);
	if (!last || last->start >= end || last->end <= end)
		return 0;
	if (vma_may_split(last, end)) {
		mm->unmerged = true;
		return -EINVAL;
	}
	if (!vma_split(last, end)) {
		vma_merge(vma);
		return -ENOMEM;
	}
	return 0;
}

int unmap_silently(struct mm *mm, u64 start, u64 end)
{
	int err = cut_range(mm, start, end);
	struct vma *vma, *next;
	bool any = false;

	if (err)
		return err;
	vma = find_vma(mm, start);
	for (; vma && vma->start < end; vma = next) {
		next = vma_next(vma);
		vma_drain(vma);
		zap_range(vma, vma->start, vma->end, true);
		vm_stat_account(mm, vma->flags, -(s64)vma_pages(vma));
		vma_unlink(mm, vma);
		any = true;
	}
	if (any)
		free_tables(mm, start, end);
	return 0;
}

int unmap_range(struct mm *mm, u64 start, u64 end)
{
	if (unlikely(!list_empty(&mm->userfaults)) && userfaultfd_unmap_prep(mm, start, end))
		return -ENOMEM;
	return unmap_silently(mm, start, end);
}

int vm_unmap(struct mm *mm, u64 addr, u64 len)
{
	u64 end = addr + PAGE_ALIGN(len);
	int err;

	if (!PAGE_ALIGNED(addr) || !len || end <= addr || end > mm->high)
		return -EINVAL;
	down_write(&mm->mmap_lock);
	err = unmap_range(mm, addr, end);
	mmap_write_unlock(mm);
	return err;
}

/* ---- protect ---- */

/* What the entry of a mapped page says now, by the flags of the VMA. */
static pte_t protected_entry(const struct vma *vma, pte_t old)
{
	const struct page *page = pfn_page(vma->mm->engine, pte_pfn(old));
	pte_t new = pte_make(pte_pfn(old), vma_pte_bits(vma));

	if (pte_special(old))
		new = pte_without(pte_with(new, PTE_SPECIAL), PTE_WRITE);
	else if (page_test(page, PG_FILE))
		new = pte_make(pte_pfn(old), vma_file_pte_bits(vma, pte_dirty(old)));
	else if (!page_test(page, PG_ANON_EXCLUSIVE))
		new = pte_without(new, PTE_WRITE); /* do_wp_page() has to copy */
	new = pte_with(new, old.v & (PTE_ACCESSED | PTE_DIRTY));
	if (unlikely(pte_uffd_wp(old)))
		new = vma->flags &VM_UFFD_WP ? pte_mkuffd_wp(new) : pte_with(new, PTE_UFFD_WP);
	if (unlikely(pte_migrating(old)))
		new = pte_mkmigrating(new);
	return new;
}

static bool owes_flush(pte_t old, pte_t new)
{
	return (pte_write(old) && !pte_write(new)) || (pte_present(old) && !pte_present(new)) ||
	       (!pte_nx(old) && pte_nx(new));
}

/* Is a flush owed?  PTL held. */
static bool protect_entry(const struct vma *vma, u64 va, pte_t *ptep)
{
	pte_t old = pte_read(ptep), new;

	if (!pte_mapped(old))
		return false;
	new = protected_entry(vma, old);
	if (!pte_same(old, new))
		vma->mm->engine->mmu->change(vma->mm, va, ptep, new);
	return owes_flush(old, new);
}

/* The VMA was cut before: it covers the whole page. */
static bool protect_huge(const struct vma *vma, u64 va, pte_t *pmdp, spinlock_t *ptl)
{
	pte_t old, new;

	if (!pmd_lock_huge(vma->mm, pmdp, ptl))
		return false;
	old = pte_read(pmdp);
	new = pte_with(protected_entry(vma, old), PTE_HUGE);
	if (!pte_same(old, new))
		vma->mm->engine->mmu->change_huge(vma->mm, va, pmdp, new);
	spin_unlock(ptl);
	return owes_flush(old, new);
}

/* Give the entries of the VMA the rights that its flags now say. */
static void change_protection(struct vma *vma)
{
	struct mm *mm = vma->mm;
	const struct mmu_ops *mmu = mm->engine->mmu;
	bool flush = false, huge;
	spinlock_t *ptl;
	pte_t *ptep;

	for (u64 va = vma->start; (ptep = pmd_next(mm, &va, vma->end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, vma->end);

		if (unlikely(huge)) {
			flush |= protect_huge(vma, va, ptep, ptl);
			/* Split meanwhile?  Then it is a table now. */
			if (pte_huge(pte_read(ptep)))
				va = stop;
			continue;
		}
		spin_lock(ptl);
		if (mmu->begin_batch)
			mmu->begin_batch(mm);
		for (; va < stop; va += PAGE_SIZE)
			flush |= protect_entry(vma, va, ptep++);
		if (mmu->end_batch)
			mmu->end_batch(mm);
		spin_unlock(ptl);
	}
	if (flush)
		mmu->flush(mm, vma->start, vma->end);
}

int mprotect_fixup(struct vma **vmap, u64 start, u64 end, u32 flags)
{
	struct vma *vma = *vmap;
	u64 pages = (min_of(vma->end, end) - max_of(vma->start, start)) >> PAGE_SHIFT;
	u32 was = vma->flags;
	int err;

	if (vma->flags == flags)
		return 0;
	if (account_protection(vma, pages, &flags))
		return -ENOMEM;
	err = vma_may_modify(vma, max_of(vma->start, start), end);
	if (err)
		return err;
	vma = vma_modify_flags(vma, start, end, flags);
	if (!vma)
		return -ENOMEM;
	vm_stat_account(vma->mm, was, -(s64)vma_pages(vma));
	vm_stat_account(vma->mm, flags, (s64)vma_pages(vma));
	if (is_vm_hugetlb(vma))
		hugetlb_change_protection(vma);
	else
		change_protection(vma);
	*vmap = vma_merge(vma);
	return 0;
}
