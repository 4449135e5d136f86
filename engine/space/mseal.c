/* SPDX-License-Identifier: MIT */
/*
 * mseal(2), since Linux 6.10: areas that can neither go nor change, for as long as the space lives.
 * What it refuses is refused where it is asked for: munmap, mmap with MAP_FIXED, mremap, mprotect,
 * brk, and advice that discards.
 */
#include "engine/space/calls.h"
#include "engine/space/internal.h"

static bool has_hole(const struct mm *mm, u64 start, u64 end)
{
	while (start < end) {
		const struct vma *vma = find_vma(mm, start);

		if (!vma || vma->start > start)
			return true;
		start = vma->end;
	}
	return false;
}

static int seal_areas(struct mm *mm, u64 start, u64 end)
{
	while (start < end) {
		struct vma *vma = find_vma(mm, start);

		if (!(vma->flags & VM_SEALED)) {
			int err = vma_may_modify(vma, start, end);

			if (err)
				return err;
			vma = vma_modify_flags(vma, start, end, vma->flags | VM_SEALED);
			if (!vma)
				return -ENOMEM;
			vma = vma_merge(vma);
		}
		start = vma->end;
	}
	return 0;
}

s64 do_mseal(struct mm *mm, u64 addr, u64 len, u64 flags)
{
	u64 end = addr + PAGE_ALIGN(len);
	int err = -ENOMEM;

	if (flags || !PAGE_ALIGNED(addr) || (len && !PAGE_ALIGN(len)) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	down_write(&mm->mmap_lock);
	if (!has_hole(mm, addr, end))
		err = seal_areas(mm, addr, end);
	up_write(&mm->mmap_lock);
	return err;
}
