/* SPDX-License-Identifier: MIT */
/* brk(2): the heap's end.  Its areas are like any other; only the two marks are the space's. */
#include "engine/fault/fault.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

#define VM_HEAP (VM_READ | VM_WRITE | VM_MAYACCESS | VM_ACCOUNT)

static bool check_data_rlimit(const struct mm *mm, u64 addr)
{
	return mm->limits.data == ~0ULL ||
	       (addr - mm->start_brk) + mm->data_bytes <= mm->limits.data;
}

/* Down to addr.  0, or negative: what is there is not the heap's, or could not be cut. */
static int shrink(struct mm *mm, u64 from, u64 to)
{
	const struct vma *vma = find_vma(mm, to);

	if (!vma || vma->start >= from)
		return -EINVAL;
	return unmap_range(mm, to, from);
}

/* Nothing may lie where the heap goes, nor just behind it, nor a stack within its gap. */
static bool has_room(const struct mm *mm, u64 from, u64 to)
{
	const struct vma *above = find_vma(mm, from);
	u64 gap;

	if (to > mm->high || from < mm->mmap_min)
		return false;
	if (!above)
		return true;
	gap = above->flags & VM_GROWSDOWN ? STACK_GUARD_GAP : 0;
	return to + PAGE_SIZE <= above->start - min_of(gap, above->start);
}

/* do_brk_flags(): the area for it. */
static int grow(struct mm *mm, u64 from, u64 to)
{
	u64 pages = (to - from) >> PAGE_SHIFT;
	u32 flags = VM_HEAP | mm->def_flags;
	struct vma *vma;

	if (!mlock_future_ok(mm, mm->def_flags, to - from))
		return -EAGAIN;
	if (!has_room(mm, from, to) || !may_expand_vm(mm, flags, pages) ||
	    mm->map_count > mm->limits.map_count || !vm_enough_memory(mm, pages))
		return -ENOMEM;
	vma = vma_new(mm, from, to, from >> PAGE_SHIFT, flags);
	if (!vma)
		return -ENOMEM;
	vma_link(mm, vma);
	vm_stat_account(mm, flags, (s64)pages);
	/* What ends where the heap begins is none of it; above a page is free. */
	if (from > mm->start_brk)
		vma_merge(vma);
	else
		mm->unmerged = true;
	return 0;
}

u64 do_brk(struct mm *mm, u64 addr)
{
	u64 from, to, brk;
	bool populate = false;
	int err = 0;

	down_write(&mm->mmap_lock);
	brk = mm->brk;
	from = PAGE_ALIGN(brk);
	to = PAGE_ALIGN(addr);
	if (addr < mm->start_brk || to < addr || !check_data_rlimit(mm, addr)) {
		err = -EINVAL;
	} else if (to < from) {
		err = shrink(mm, from, to);
	} else if (to > from) {
		err = grow(mm, from, to);
		populate = !err && (mm->def_flags & VM_LOCKED);
	}
	if (!err)
		mm->brk = brk = addr;
	mmap_write_unlock(mm);
	if (populate)
		populate_range(mm, from, to, true);
	return brk;
}
