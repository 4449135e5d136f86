/* SPDX-License-Identifier: MIT */
/*
 * mlock(2) and its kin: areas whose pages stay.
 *
 * What is locked is a flag of an area, set under mmap_lock; the pages are brought in after that,
 * without it.  Reclaim looks at the flag when it comes upon a page.
 */
#include "engine/fault/fault.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"

static bool can_do_mlock(const struct mm *mm)
{
	return mm->limits.memlock || mm->limits.may_lock_all;
}

static bool within_limit(const struct mm *mm, u64 pages)
{
	return mm->limits.may_lock_all || pages <= mm->limits.memlock >> PAGE_SHIFT;
}

/* Pages from start on that are locked already. */
static u64 locked_pages(const struct mm *mm, u64 start, u64 len)
{
	u64 end = start + len < start ? ~0ULL : start + len, pages = 0;

	for (const struct vma *vma = find_vma(mm, start); vma && vma->start < end;
	     vma = vma_next(vma))
		if (vma->flags & VM_LOCKED)
			pages += (min_of(vma->end, end) - max_of(vma->start, start)) >> PAGE_SHIFT;
	return pages;
}

/* What of *vma is in [start, end) is locked so; *vma is what holds it then.  0, -ENOMEM. */
static int mlock_fixup(struct vma **vmap, u64 start, u64 end, u32 locked)
{
	struct vma *vma = *vmap;
	u32 flags = (vma->flags & ~(u32)VM_LOCKED_MASK) | locked;
	u32 was = vma->flags;
	u64 pages;

	if (flags == vma->flags || (vma->flags & (VM_DONTEXPAND | VM_DROPPABLE)))
		return 0;
	vma = vma_modify_flags(vma, start, end, flags);
	if (!vma)
		return -ENOMEM;
	pages = vma_pages(vma);
	vma->mm->locked_vm += flags & VM_LOCKED ? pages : 0;
	vma->mm->locked_vm -= was & VM_LOCKED ? pages : 0;
	*vmap = vma_merge(vma);
	return 0;
}

/* What lies before a hole is done when it says -ENOMEM. */
static int lock_areas(struct mm *mm, u64 start, u64 len, u32 locked)
{
	u64 end = start + len;

	if (end < start)
		return -EINVAL;
	while (start < end) {
		struct vma *vma = find_vma(mm, start);
		int err;

		if (!vma || vma->start > start)
			return -ENOMEM;
		err = mlock_fixup(&vma, start, end, locked);
		if (err)
			return err;
		start = vma->end;
	}
	return 0;
}

static s64 lock_range(struct mm *mm, u64 addr, u64 len, u32 locked)
{
	u64 start = addr & PAGE_MASK, pages;
	int err = -ENOMEM;

	len = PAGE_ALIGN(len + (addr - start));
	if (!can_do_mlock(mm))
		return -EPERM;
	down_write(&mm->mmap_lock);
	pages = mm->locked_vm + (len >> PAGE_SHIFT);
	if (!within_limit(mm, pages))
		pages -= locked_pages(mm, start, len);
	if (within_limit(mm, pages))
		err = lock_areas(mm, start, len, locked);
	up_write(&mm->mmap_lock);
	if (err)
		return err;
	err = populate_range(mm, start, start + len, false);
	/* POSIX has other names for these. */
	return err == -EFAULT ? -ENOMEM : err == -ENOMEM ? -EAGAIN : err;
}

s64 do_mlock(struct mm *mm, u64 addr, u64 len)
{
	return lock_range(mm, addr, len, VM_LOCKED);
}

s64 do_mlock2(struct mm *mm, u64 addr, u64 len, u32 flags)
{
	if (flags & ~(u32)UAPI_MLOCK_ONFAULT)
		return -EINVAL;
	return lock_range(mm, addr, len, flags ? VM_LOCKED_MASK : VM_LOCKED);
}

s64 do_munlock(struct mm *mm, u64 addr, u64 len)
{
	u64 start = addr & PAGE_MASK;
	int err;

	down_write(&mm->mmap_lock);
	err = lock_areas(mm, start, PAGE_ALIGN(len + (addr - start)), 0);
	up_write(&mm->mmap_lock);
	return err;
}

/* All that there is, and what will be.  An area that cannot be split or merged stays as it was. */
static void lock_all(struct mm *mm, u32 flags)
{
	u32 locked = flags & UAPI_MCL_ONFAULT ? VM_LOCKED_MASK : VM_LOCKED;
	struct vma *vma;

	mm->def_flags = flags & UAPI_MCL_FUTURE ? locked : 0;
	if ((flags & UAPI_MCL_FUTURE) && !(flags & UAPI_MCL_CURRENT))
		return;
	if (!(flags & UAPI_MCL_CURRENT))
		locked = 0;
	for (vma = find_vma(mm, 0); vma; vma = vma_next(vma))
		mlock_fixup(&vma, vma->start, vma->end, locked);
}

s64 do_mlockall(struct mm *mm, u32 flags)
{
	int err = -ENOMEM;

	if (!flags || flags == UAPI_MCL_ONFAULT ||
	    (flags & ~(u32)(UAPI_MCL_CURRENT | UAPI_MCL_FUTURE | UAPI_MCL_ONFAULT)))
		return -EINVAL;
	if (!can_do_mlock(mm))
		return -EPERM;
	down_write(&mm->mmap_lock);
	if (!(flags & UAPI_MCL_CURRENT) || within_limit(mm, mm->total_vm)) {
		lock_all(mm, flags);
		err = 0;
	}
	up_write(&mm->mmap_lock);
	if (!err && (flags & UAPI_MCL_CURRENT))
		populate_range(mm, 0, mm->high, true);
	return err;
}

s64 do_munlockall(struct mm *mm)
{
	down_write(&mm->mmap_lock);
	lock_all(mm, 0);
	up_write(&mm->mmap_lock);
	return 0;
}
