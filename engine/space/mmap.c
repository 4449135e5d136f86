/* SPDX-License-Identifier: MIT */
/*
 * mmap(2): the checks in Linux's order, then the area.
 *
 * Nothing has changed when it fails: what a fixed address replaces is unmapped only after all that
 * can be refused has been looked at.
 */
#include "engine/space/calls.h"
#include "engine/space/internal.h"

/* VM_READ and so on have the numbers of PROT_READ and so on. */
static u32 flags_of(const struct mm *mm, u64 prot, u64 flags)
{
	u32 vm = (u32)prot & VM_ACCESS;

	vm |= mm->def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
	if (flags & UAPI_MAP_GROWSDOWN)
		vm |= VM_GROWSDOWN;
	if (flags & UAPI_MAP_LOCKED)
		vm |= VM_LOCKED;
	if (flags & UAPI_MAP_SYNC)
		vm |= VM_SYNC;
	if (flags & UAPI_MAP_STACK)
		vm |= VM_NOHUGEPAGE; /* since 6.7 */
	return vm;
}

/* ---- where ---- */

/* The lowest address that keeps the gap below a stack. */
static u64 start_gap(const struct vma *vma)
{
	u64 gap = vma->flags & VM_GROWSDOWN ? STACK_GUARD_GAP : 0;

	return vma->start > gap ? vma->start - gap : 0;
}

static bool hint_is_free(const struct mm *mm, u64 addr, u64 len)
{
	const struct vma *vma = find_vma(mm, addr);

	return addr <= mm->high - len && range_is_free(mm, addr, addr + len) &&
	       (!vma || addr + len <= start_gap(vma));
}

/* From the top down; what would come into a stack's gap has to go below it. */
static u64 find_place(const struct mm *mm, u64 len)
{
	u64 below = mm->high, addr;

	while ((addr = vma_find_hole(mm, len, below))) {
		const struct vma *above = find_vma(mm, addr);

		if (!above || addr + len <= start_gap(above))
			break;
		below = start_gap(above);
	}
	return addr;
}

/* An address, or -ENOMEM, -EINVAL, -EPERM. */
static s64 get_unmapped_area(const struct mm *mm, u64 addr, u64 len, u64 flags)
{
	if (len > mm->high)
		return -ENOMEM;
	if (!(flags & UAPI_MAP_FIXED)) {
		addr &= PAGE_MASK;
		if (addr && addr < mm->mmap_min)
			addr = PAGE_ALIGN(mm->mmap_min);
		if (!addr || !hint_is_free(mm, addr, len))
			addr = find_place(mm, len);
		if (!addr)
			return -ENOMEM;
	}
	if (addr > mm->high - len)
		return -ENOMEM;
	if (!PAGE_ALIGNED(addr))
		return -EINVAL;
	return addr < mm->mmap_min ? -EPERM : (s64)addr;
}

/* ---- may it be ---- */

static u64 pages_in(const struct mm *mm, u64 start, u64 end)
{
	u64 pages = 0;

	for (const struct vma *vma = find_vma(mm, start); vma && vma->start < end;
	     vma = vma_next(vma))
		pages += (min_of(vma->end, end) - max_of(vma->start, start)) >> PAGE_SHIFT;
	return pages;
}

/* What the mapping's type makes of the flags: 0, or -EINVAL. */
static int check_type(u64 flags, u32 *vm)
{
	switch (flags & UAPI_MAP_TYPE) {
	case UAPI_MAP_DROPPABLE: /* since 6.11 */
		if ((flags & (UAPI_MAP_LOCKED | UAPI_MAP_STACK)) || (*vm & VM_GROWSDOWN))
			return -EINVAL;
		/* What may be dropped is not promised, and outlives neither fork nor dump. */
		*vm |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
		return 0;
	case UAPI_MAP_PRIVATE:
		return 0;
	case UAPI_MAP_SHARED:
		if (*vm & VM_GROWSDOWN)
			return -EINVAL;
		*vm |= VM_SHARED | VM_MAYSHARE;
		return 0;
	default:
		return -EINVAL;
	}
}

/* ---- the area ---- */

static s64 mmap_region(struct mm *mm, u64 addr, u64 len, u32 flags)
{
	u64 end = addr + len, pages = len >> PAGE_SHIFT;
	struct vma *vma;
	int err;

	if (!may_expand_vm(mm, flags, pages - pages_in(mm, addr, end)))
		return -ENOMEM;
	if (accountable_mapping(flags)) {
		if (!vm_enough_memory(mm, pages))
			return -ENOMEM;
		flags |= VM_ACCOUNT;
	}
	err = unmap_range(mm, addr, end);
	if (err)
		return err;
	vma = vma_new(mm, addr, end, addr >> PAGE_SHIFT, flags);
	if (!vma)
		return -ENOMEM;
	vma_link(mm, vma);
	vm_stat_account(mm, flags, (s64)pages);
	vma_merge(vma);
	return (s64)addr;
}

static s64 mmap_locked(struct mm *mm, u64 addr, u64 len, u64 prot, u64 flags)
{
	u32 vm = flags_of(mm, prot, flags);
	s64 at;
	int err;

	if (mm->map_count > mm->limits.map_count)
		return -ENOMEM;
	at = get_unmapped_area(mm, addr, len, flags);
	if (at < 0)
		return at;
	if ((flags & UAPI_MAP_FIXED_NOREPLACE) && pages_in(mm, (u64)at, (u64)at + len))
		return -EEXIST;
	if ((flags & UAPI_MAP_LOCKED) && !mm->limits.memlock && !mm->limits.may_lock_all)
		return -EPERM;
	if (!mlock_future_ok(mm, vm, len))
		return -EAGAIN;
	err = check_type(flags, &vm);
	if (err)
		return err;
	if (flags & UAPI_MAP_NORESERVE)
		vm |= VM_NORESERVE;
	return mmap_region(mm, (u64)at, len, vm);
}

s64 do_mmap(struct mm *mm, u64 addr, u64 len, u64 prot, u64 flags, struct file *file, u64 offset)
{
	s64 result;

	if (!PAGE_ALIGNED(offset))
		return -EINVAL;
	if (file || (flags & UAPI_MAP_TYPE) == UAPI_MAP_SHARED)
		return -ENODEV; /* it maps no file, and no shared memory */
	if (!len)
		return -EINVAL;
	if (flags & UAPI_MAP_FIXED_NOREPLACE)
		flags |= UAPI_MAP_FIXED;
	len = PAGE_ALIGN(len);
	if (!len)
		return -ENOMEM;
	if ((offset >> PAGE_SHIFT) + (len >> PAGE_SHIFT) < offset >> PAGE_SHIFT)
		return -EOVERFLOW;
	down_write(&mm->mmap_lock);
	result = mmap_locked(mm, addr, len, prot, flags);
	up_write(&mm->mmap_lock);
	return result;
}
