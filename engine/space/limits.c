/* SPDX-License-Identifier: MIT */
/* What a space may have: limits on its size and on locked memory, and what is promised to it. */
#include "engine/space/internal.h"

static bool is_data(u32 flags)
{
	return (flags & (VM_WRITE | VM_SHARED | VM_GROWSDOWN)) == VM_WRITE;
}

static bool is_exec(u32 flags)
{
	return (flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN)) == VM_EXEC;
}

void vm_stat_account(struct mm *mm, u32 flags, s64 pages)
{
	/* Read without mmap_lock by who tells of all spaces. */
	__atomic_store_n(&mm->total_vm, mm->total_vm + (u64)pages, __ATOMIC_RELAXED);
	if (is_exec(flags))
		mm->exec_vm += (u64)pages;
	else if (flags & VM_GROWSDOWN)
		mm->stack_vm += (u64)pages;
	else if (is_data(flags))
		mm->data_vm += (u64)pages;
	if (flags & VM_LOCKED)
		mm->locked_vm += (u64)pages;
}

bool may_expand_vm(const struct mm *mm, u32 flags, u64 pages)
{
	if (mm->total_vm + pages > mm->limits.as >> PAGE_SHIFT)
		return false;
	return !is_data(flags) || mm->data_vm + pages <= mm->limits.data >> PAGE_SHIFT;
}

bool mlock_future_ok(const struct mm *mm, u32 flags, u64 bytes)
{
	if (!(flags & VM_LOCKED) || mm->limits.may_lock_all)
		return true;
	return mm->locked_vm + (PAGE_ALIGN(bytes) >> PAGE_SHIFT) <= mm->limits.memlock >>
	       PAGE_SHIFT;
}

bool accountable_mapping(u32 flags)
{
	return (flags & (VM_NORESERVE | VM_SHARED | VM_HUGETLB | VM_WRITE)) == VM_WRITE;
}

bool vm_enough_memory(const struct mm *mm, u64 pages)
{
	return pages <= mm->limits.commit >> PAGE_SHIFT;
}

int account_protection(const struct vma *vma, u64 pages, u32 *flags)
{
	const struct mm *mm = vma->mm;

	if (!(*flags & VM_WRITE)) {
		if ((vma->flags & VM_ACCOUNT) && !vma->file && !vma->anon_vma)
			*flags &= ~(u32)VM_ACCOUNT;
		return 0;
	}
	/* Only if it is the change that is too much. */
	if (!may_expand_vm(mm, *flags, pages) && may_expand_vm(mm, vma->flags, pages))
		return -ENOMEM;
	if (vma->flags & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE | VM_HUGETLB))
		return 0;
	if (!vm_enough_memory(mm, pages))
		return -ENOMEM;
	*flags |= VM_ACCOUNT;
	return 0;
}
