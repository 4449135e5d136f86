/* SPDX-License-Identifier: MIT */
/*
 * madvise(2), as far as it is done: DONTNEED, and the advice that is kept in an area's flags.  Area
 * by area; over a hole it goes on, and says -ENOMEM at the end.
 */
#include "engine/space/calls.h"
#include "engine/space/internal.h"

static bool is_known(u64 advice)
{
	switch (advice) {
	case UAPI_MADV_NORMAL:
	case UAPI_MADV_RANDOM:
	case UAPI_MADV_SEQUENTIAL:
	case UAPI_MADV_DONTNEED:
	case UAPI_MADV_DONTFORK:
	case UAPI_MADV_DOFORK:
	case UAPI_MADV_DONTDUMP:
	case UAPI_MADV_DODUMP:
	case UAPI_MADV_WIPEONFORK:
	case UAPI_MADV_KEEPONFORK:
		return true;
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
	case UAPI_MADV_DONTDUMP:
		*flags |= VM_DONTDUMP;
		return 0;
	case UAPI_MADV_DODUMP:
		if (*flags & (VM_DONTEXPAND | VM_DROPPABLE))
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

/* One area: *vma is what holds the part afterwards.  -EAGAIN: no memory to split it. */
static int advise_flags(struct vma **vmap, u64 start, u64 end, u64 advice)
{
	struct vma *vma = *vmap;
	u32 flags = vma->flags;
	int err = advised_flags(vma, advice, &flags);

	if (err || flags == vma->flags)
		return err;
	vma = vma_modify_flags(vma, start, end, flags);
	if (!vma)
		return -EAGAIN;
	*vmap = vma_merge(vma);
	return 0;
}

s64 do_madvise(struct mm *mm, u64 addr, u64 len, u64 advice)
{
	u64 end = addr + PAGE_ALIGN(len);
	struct vma *vma;
	int err = 0, hole = 0;

	if (!is_known(advice) || !PAGE_ALIGNED(addr) || (len && !PAGE_ALIGN(len)) || end < addr)
		return -EINVAL;
	if (end == addr)
		return 0;
	if (advice == UAPI_MADV_DONTNEED)
		return vm_advise(mm, addr, len, VADV_DONTNEED);
	down_write(&mm->mmap_lock);
	while (!err && addr < end) {
		vma = find_vma(mm, addr);
		if (!vma || vma->start >= end) {
			hole = -ENOMEM;
			break;
		}
		if (vma->start > addr) {
			hole = -ENOMEM;
			addr = vma->start;
		}
		err = advise_flags(&vma, addr, min_of(vma->end, end), advice);
		addr = vma->end;
	}
	up_write(&mm->mmap_lock);
	return err ? err : hole;
}
