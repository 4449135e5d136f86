/* SPDX-License-Identifier: MIT */
/* mincore(2): which pages are there, in the table or, for a file, in its cache; or in the swap
 * cache. */
#include "engine/backing/page_cache.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

/* Swapped out by this entry; is its page still, or already, in the swap cache? */
static u8 is_cached(const struct vma *vma, u64 va)
{
	struct engine *e = vma->mm->engine;
	struct page *page = NULL;
	u8 there = 1; /* it has come meanwhile */
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(vma->mm, va, &ptl);
	pte_t pte;

	if (!ptep)
		return there;
	spin_lock(ptl); /* with it the entry keeps the slot */
	pte = pte_read(ptep);
	if (pte_is_swap(pte)) {
		page = swap_cache_get(&e->swap, pte_to_swp(pte).v);
		there = page != NULL;
	}
	spin_unlock(ptl);
	if (page)
		page_put(e, page);
	return there;
}

static u8 is_there(const struct vma *vma, u64 va, pte_t pte)
{
	if (pte_mapped(pte) || pte_marker_is(pte, PTE_MARKER_HWPOISON))
		return 1; /* what is lost was there */
	if (pte_is_swap(pte))
		return is_cached(vma, va);
	if (!vma->file)
		return 0;
	return page_cache_present(vma->file->mapping,
				  vma->pgoff + ((va - vma->start) >> PAGE_SHIFT));
}

/* The pages of [start, end), which one area holds. */
static void look(struct vma *vma, u64 start, u64 end, u8 *vec)
{
	for (u64 va = start; va < end && is_vm_hugetlb(vma); va += PAGE_SIZE)
		*vec++ = hugetlb_in_core(vma, va);
	for (u64 va = start; va < end && !is_vm_hugetlb(vma); va += PAGE_SIZE)
		*vec++ = is_there(vma, va, pte_peek(vma->mm, va));
}

s64 mincore_area(struct mm *mm, u64 addr, u64 pages, u8 *vec)
{
	s64 n = -ENOMEM;
	struct vma *vma;

	down_read(&mm->mmap_lock);
	vma = find_vma(mm, addr);
	if (vma && vma->start <= addr) {
		n = (s64)min_of(pages, (vma->end - addr) >> PAGE_SHIFT);
		look(vma, addr, addr + ((u64)n << PAGE_SHIFT), vec);
	}
	up_read(&mm->mmap_lock);
	return n;
}

s64 do_mincore(struct mm *mm, u64 addr, u64 len, u8 *vec)
{
	u64 end;

	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	if (len > mm->high || addr > mm->high - len)
		return -ENOMEM;
	end = addr + PAGE_ALIGN(len);
	while (addr < end) {
		s64 n = mincore_area(mm, addr, (end - addr) >> PAGE_SHIFT, vec);

		if (n < 0)
			return n;
		vec += n;
		addr += (u64)n << PAGE_SHIFT;
	}
	return 0;
}
