/* SPDX-License-Identifier: MIT */
/*
 * Stacks: areas that grow downwards when the page below them is touched.
 *
 * Any access below will do; how far is for the limits to say.  Between a stack and what lies below
 * it a gap stays free, so that a function with much on its stack does not run over into another
 * area.  What cannot be accessed needs no gap, and neither does another stack.
 */
#include "engine/space/internal.h"

/* acct_stack_growth(): `size` bytes in all, of which `pages` pages are new. */
static bool may_grow(const struct vma *vma, u64 size, u64 pages)
{
	const struct mm *mm = vma->mm;

	return may_expand_vm(mm, vma->flags, pages) && size <= mm->limits.stack &&
	       mlock_future_ok(mm, vma->flags, pages << PAGE_SHIFT) && vm_enough_memory(mm, pages);
}

static bool keeps_gap(const struct vma *vma, u64 start)
{
	const struct vma *prev = vma_prev(vma);

	return !prev || (prev->flags & VM_GROWSDOWN) || !(prev->flags & VM_ACCESS) ||
	       start - prev->end >= STACK_GUARD_GAP;
}

int expand_stack(struct vma *vma, u64 address)
{
	struct mm *mm = vma->mm;
	u64 start = address & PAGE_MASK, pages = (vma->start - start) >> PAGE_SHIFT;

	if (!(vma->flags & VM_GROWSDOWN))
		return -EFAULT;
	if (start < mm_hint_min(mm))
		return -EPERM;
	if (!keeps_gap(vma, start) || anon_vma_prepare(vma))
		return -ENOMEM;
	if (pages > vma->pgoff || !may_grow(vma, vma->end - start, pages))
		return -ENOMEM;
	vma_set_start(vma, start);
	vm_stat_account(mm, vma->flags, (s64)pages);
	return 0;
}

struct vma *find_extend_vma(struct mm *mm, u64 address, bool may_wait)
{
	struct vma *vma = find_vma(mm, address);
	bool grows = vma && (vma->flags & VM_GROWSDOWN);
	int err;

	if (vma && vma->start <= address)
		return vma;
	up_read(&mm->mmap_lock);
	if (!grows)
		return NULL;
	if (!may_wait && !down_write_trylock(&mm->mmap_lock))
		return NULL;
	if (may_wait)
		down_write(&mm->mmap_lock);
	/* Whatever may be there by now. */
	vma = find_vma(mm, address);
	err = !vma ? -EFAULT : vma->start <= address ? 0 : expand_stack(vma, address);
	if (err) {
		up_write(&mm->mmap_lock);
		return NULL;
	}
	downgrade_write(&mm->mmap_lock);
	return vma;
}
