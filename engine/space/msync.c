/* SPDX-License-Identifier: MIT */
/* msync(2): what was written through shared mappings is brought to the file. */
#include "engine/space/calls.h"
#include "engine/space/internal.h"

/* Write out [start, end), which `vma` holds, without mmap_lock: it is dropped.  0 or its error. */
static int sync_area(struct vma *vma, u64 start, u64 end)
{
	struct file *file = file_get(vma->file);
	u64 from = (vma->pgoff << PAGE_SHIFT) + (start - vma->start);
	int err;

	up_read(&vma->mm->mmap_lock);
	err = vfs_fsync_range(file, from, from + (end - start));
	file_put(file);
	return err;
}

/* mmap_lock held for reading; *locked: it is still.  *hole: part of the range is mapped by none. */
static int sync_range(struct mm *mm, u64 start, u64 end, u32 flags, bool *locked, bool *hole)
{
	while (start < end) {
		struct vma *vma = find_vma(mm, start);
		u64 stop;
		int err;

		if (!vma)
			return -ENOMEM;
		if (start < vma->start) {
			if (flags == UAPI_MS_ASYNC || vma->start >= end)
				return -ENOMEM;
			start = vma->start;
			*hole = true;
		}
		if ((flags & UAPI_MS_INVALIDATE) && (vma->flags & VM_LOCKED))
			return -EBUSY;
		stop = vma->end;
		if ((flags & UAPI_MS_SYNC) && vma->file && (vma->flags & VM_SHARED)) {
			*locked = false;
			err = sync_area(vma, start, min_of(stop, end));
			if (err || stop >= end)
				return err;
			down_read(&mm->mmap_lock);
			*locked = true;
		}
		start = stop;
	}
	return 0;
}

s64 do_msync(struct mm *mm, u64 addr, u64 len, u32 flags)
{
	u64 end = addr + PAGE_ALIGN(len);
	bool locked = true, hole = false;
	int err;

	if ((flags & ~(u32)(UAPI_MS_ASYNC | UAPI_MS_INVALIDATE | UAPI_MS_SYNC)) ||
	    !PAGE_ALIGNED(addr) || ((flags & UAPI_MS_ASYNC) && (flags & UAPI_MS_SYNC)))
		return -EINVAL;
	if (end < addr)
		return -ENOMEM;
	down_read(&mm->mmap_lock);
	err = sync_range(mm, addr, end, flags, &locked, &hole);
	if (locked)
		up_read(&mm->mmap_lock);
	return err ? err : hole ? -ENOMEM : 0;
}
