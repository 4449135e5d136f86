/* SPDX-License-Identifier: MIT */
/*
 * madvise(2): what may be advised, area by area.  Over a hole it goes on, and says -ENOMEM at the
 * end.
 *
 * Advice that is kept in an area's flags is done here, under mmap_lock for writing; that about
 * pages in advise_pages.c, for reading: some of it drops the lock for a while, so that each area is
 * looked up anew.
 */
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"

/* How mmap_lock is held, or that the advice is unknown; ON_FRAMES: it is not about areas. */
enum how { UNKNOWN, ON_FLAGS, ON_PAGES, ON_FRAMES };

static enum how how_of(const struct engine *e, u64 advice)
{
	switch (advice) {
	case UAPI_MADV_HWPOISON:
	case UAPI_MADV_SOFT_OFFLINE:
		return e->config.memory_failure ? ON_FRAMES : UNKNOWN;
	case UAPI_MADV_NORMAL:
	case UAPI_MADV_RANDOM:
	case UAPI_MADV_SEQUENTIAL:
	case UAPI_MADV_DONTFORK:
	case UAPI_MADV_DOFORK:
	case UAPI_MADV_MERGEABLE:
	case UAPI_MADV_UNMERGEABLE:
	case UAPI_MADV_HUGEPAGE:
	case UAPI_MADV_NOHUGEPAGE:
	case UAPI_MADV_DONTDUMP:
	case UAPI_MADV_DODUMP:
	case UAPI_MADV_WIPEONFORK:
	case UAPI_MADV_KEEPONFORK:
		return ON_FLAGS;
	case UAPI_MADV_WILLNEED:
	case UAPI_MADV_DONTNEED:
	case UAPI_MADV_FREE:
	case UAPI_MADV_REMOVE:
	case UAPI_MADV_COLD:
	case UAPI_MADV_PAGEOUT:
	case UAPI_MADV_POPULATE_READ:
	case UAPI_MADV_POPULATE_WRITE:
	case UAPI_MADV_DONTNEED_LOCKED:
	case UAPI_MADV_COLLAPSE:
	case UAPI_MADV_GUARD_INSTALL:
	case UAPI_MADV_GUARD_REMOVE:
		return ON_PAGES;
	default:
		return UNKNOWN;
	}
}

/* Would it discard what a seal is to keep?  What the program could overwrite as well, and files,
 * are not kept from it. */
static bool is_sealed_against(const struct vma *vma, u64 advice)
{
	switch (advice) {
	case UAPI_MADV_FREE:
	case UAPI_MADV_DONTNEED:
	case UAPI_MADV_DONTNEED_LOCKED:
	case UAPI_MADV_REMOVE:
	case UAPI_MADV_DONTFORK:
	case UAPI_MADV_WIPEONFORK:
	case UAPI_MADV_GUARD_INSTALL:
		return (vma->flags & VM_SEALED) && !vma->file && !(vma->flags & VM_WRITE);
	default:
		return false;
	}
}

/* What the advice makes of an area's flags: 0, or -EINVAL: it is not for such an area. */
static int advised_flags(const struct vma *vma, u64 advice, u32 *flags)
{
	switch (advice) {
	case UAPI_MADV_NORMAL:
		*flags &= ~(u32)(VM_RAND_READ | VM_SEQ_READ);
		return 0;
	case UAPI_MADV_RANDOM:
		*flags = (*flags & ~(u32)VM_SEQ_READ) | VM_RAND_READ;
		return 0;
	case UAPI_MADV_SEQUENTIAL:
		*flags = (*flags & ~(u32)VM_RAND_READ) | VM_SEQ_READ;
		return 0;
	case UAPI_MADV_DONTFORK:
		*flags |= VM_DONTCOPY;
		return 0;
	case UAPI_MADV_DOFORK:
		*flags &= ~(u32)VM_DONTCOPY;
		return 0;
	case UAPI_MADV_MERGEABLE: /* ignored where nothing can be merged */
		if (!(*flags & (VM_SHARED | VM_MAYSHARE | VM_DONTEXPAND | VM_DROPPABLE)))
			*flags |= VM_MERGEABLE;
		return 0;
	case UAPI_MADV_UNMERGEABLE:
		*flags &= ~(u32)VM_MERGEABLE;
		return 0;
	case UAPI_MADV_HUGEPAGE:
		*flags = (*flags & ~(u32)VM_NOHUGEPAGE) | VM_HUGEPAGE;
		return 0;
	case UAPI_MADV_NOHUGEPAGE:
		*flags = (*flags & ~(u32)VM_HUGEPAGE) | VM_NOHUGEPAGE;
		return 0;
	case UAPI_MADV_DONTDUMP:
		*flags |= VM_DONTDUMP;
		return 0;
	case UAPI_MADV_DODUMP:
		if (((*flags & VM_DONTEXPAND) && !is_vm_hugetlb(vma)) || (*flags & VM_DROPPABLE))
			return -EINVAL;
		*flags &= ~(u32)VM_DONTDUMP;
		return 0;
	case UAPI_MADV_WIPEONFORK:
		if (vma->file || (*flags & VM_SHARED))
			return -EINVAL;
		*flags |= VM_WIPEONFORK;
		return 0;
	default: /* KEEPONFORK */
		if (*flags & VM_DROPPABLE)
			return -EINVAL;
		*flags &= ~(u32)VM_WIPEONFORK;
		return 0;
	}
}

/* -EAGAIN: no memory to split it, or too many areas. */
static int advise_flags(struct vma *vma, u64 start, u64 end, u64 advice)
{
	u32 flags = vma->flags;
	int err = advised_flags(vma, advice, &flags);

	if (err || flags == vma->flags)
		return err;
	err = vma_may_modify(vma, start, end);
	if (err)
		return err;
	vma = vma_modify_flags(vma, start, end, flags);
	if (!vma)
		return -EAGAIN;
	vma_merge(vma);
	return 0;
}

/* One area after the other.  mmap_lock held. */
static int advise_areas(struct mm *mm, u64 start, u64 end, u64 advice, enum how how)
{
	int hole = 0, err;

	while (start < end) {
		struct vma *vma = find_vma(mm, start);
		u64 stop;

		if (!vma || vma->start >= end)
			return -ENOMEM;
		if (vma->start > start) {
			hole = -ENOMEM;
			start = vma->start;
		}
		stop = min_of(vma->end, end);
		if (unlikely(is_sealed_against(vma, advice)))
			return -EPERM;
		err = how == ON_FLAGS ? advise_flags(vma, start, stop, advice)
				      : advise_pages(vma, start, stop, advice);
		if (err)
			return err;
		start = stop;
	}
	return hole;
}

s64 do_madvise(struct mm *mm, u64 addr, u64 len, u32 advice)
{
	u64 end = addr + PAGE_ALIGN(len);
	enum how how = how_of(mm->engine, advice);
	int err;

	if (how == UNKNOWN || !PAGE_ALIGNED(addr) || (len && !PAGE_ALIGN(len)) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	if (how == ON_FRAMES)
		return madvise_inject_error(mm, addr, end, advice == UAPI_MADV_SOFT_OFFLINE);
	if (advice == UAPI_MADV_POPULATE_READ || advice == UAPI_MADV_POPULATE_WRITE)
		return madvise_populate(mm, addr, end, advice == UAPI_MADV_POPULATE_WRITE);
	if (how == ON_FLAGS)
		down_write(&mm->mmap_lock);
	else
		down_read(&mm->mmap_lock);
	err = advise_areas(mm, addr, end, advice, how);
	if (how == ON_FLAGS)
		up_write(&mm->mmap_lock);
	else
		up_read(&mm->mmap_lock);
	return err;
}

int vm_advise(struct mm *mm, u64 addr, u64 len, enum vm_advice advice)
{
	/* Where the machine has dropped pages by itself there is nothing left to keep. */
	if (advice != VADV_DONTNEED && advice != VADV_FREE)
		return -EINVAL;
	return (int)do_madvise(mm, addr, len, UAPI_MADV_DONTNEED);
}
