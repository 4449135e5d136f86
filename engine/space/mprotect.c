/* SPDX-License-Identifier: MIT */
/*
 * mprotect(2).  Area by area, in order of addresses: what was changed before an area or a hole that
 * it cannot go on with stays changed.
 */
#include "engine/fault/fault.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"

#define GROWS	   (UAPI_PROT_GROWSDOWN | UAPI_PROT_GROWSUP)
#define KNOWN_PROT (UAPI_PROT_READ | UAPI_PROT_WRITE | UAPI_PROT_EXEC | UAPI_PROT_SEM)

/* Where it begins: for a stack that is to be changed whole, its start.  0 or negative errno. */
static int find_start(const struct mm *mm, u64 grows, u64 *start, u64 end)
{
	const struct vma *vma = find_vma(mm, *start);

	if (!vma)
		return -ENOMEM;
	if (grows & UAPI_PROT_GROWSDOWN) {
		if (vma->start >= end)
			return -ENOMEM;
		if (!(vma->flags & VM_GROWSDOWN))
			return -EINVAL;
		*start = vma->start;
		return 0;
	}
	if (vma->start > *start)
		return -ENOMEM;
	return grows & UAPI_PROT_GROWSUP ? -EINVAL : 0; /* no area grows up here */
}

/* Locked and private, and writable from now on: its pages are copied now, that no write waits. */
static bool becomes_writable(u32 was, u32 flags)
{
	return (was & (VM_WRITE | VM_SHARED | VM_LOCKED)) == VM_LOCKED && (flags & VM_WRITE);
}

/* mmap_lock is held for writing, but for the time in which pages are brought in. */
static int protect_range(struct mm *mm, u64 start, u64 end, u32 prot)
{
	while (start < end) {
		struct vma *vma = find_vma(mm, start);
		u64 from = start, stop;
		u32 flags, was;
		int err;

		if (!vma || vma->start > start)
			return -ENOMEM;
		stop = min_of(vma->end, end);
		was = vma->flags;
		flags = (was & ~(u32)VM_ACCESS) | prot;
		/* VM_MAYREAD and so on are four bits above VM_READ and so on. */
		if ((flags & ~(flags >> 4)) & VM_ACCESS)
			return -EACCES;
		if (was & VM_SEALED)
			return -EPERM;
		err = mprotect_fixup(&vma, start, end, flags);
		if (err)
			return err;
		start = vma->end;
		if (becomes_writable(was, flags)) {
			up_write(&mm->mmap_lock);
			populate_range(mm, from, stop, true);
			down_write(&mm->mmap_lock);
		}
	}
	return 0;
}

s64 do_mprotect(struct mm *mm, u64 addr, u64 len, u64 prot)
{
	u64 grows = prot & GROWS, end;
	int err;

	prot &= ~(u64)GROWS;
	if (grows == GROWS || !PAGE_ALIGNED(addr))
		return -EINVAL;
	if (!len)
		return 0;
	end = addr + PAGE_ALIGN(len);
	if (end <= addr)
		return -ENOMEM;
	if (prot & ~(u64)KNOWN_PROT)
		return -EINVAL;
	down_write(&mm->mmap_lock);
	err = find_start(mm, grows, &addr, end);
	if (!err)
		err = protect_range(mm, addr, end, (u32)prot & VM_ACCESS);
	up_write(&mm->mmap_lock);
	return err;
}

int vm_protect(struct mm *mm, u64 addr, u64 len, u32 prot)
{
	return prot & ~(u32)VM_ACCESS ? -EINVAL : (int)do_mprotect(mm, addr, len, prot);
}
