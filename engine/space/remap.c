/* SPDX-License-Identifier: MIT */
/*
 * mremap(2).
 *
 * A move makes a second VMA with the same linear index and anon_vma, moves the entries under
 * anon_vma->lock (and that of the file's tree), so that nobody looks for a page while it is
 * nowhere, and then takes the old VMA away, or (DONTUNMAP) leaves it empty, and, if all of it has
 * moved, without anon_vma, as if new.
 */
#include "engine/space/internal.h"

/* A copy of the VMA without its pages, at its new place; in no tree yet. */
static struct vma *copy_vma(struct vma *vma, u64 old, u64 to, u64 len)
{
	bool keep = vma->anon_vma || vma->file;
	u64 pgoff = vma->pgoff + ((old - vma->start) >> PAGE_SHIFT);
	struct vma *copy =
		vma_new(vma->mm, to, to + len, keep ? pgoff : to >> PAGE_SHIFT, vma->flags);

	if (copy && anon_vma_clone(copy, vma)) {
		vma_put(copy);
		return NULL;
	}
	if (copy && vma->file)
		copy->file = file_get(vma->file);
	return copy;
}

/* Another mapping of what `vma` maps from `old` on: shared memory comes by itself. */
static s64 duplicate(struct vma *vma, u64 old, u64 len, u64 to)
{
	struct vma *copy = copy_vma(vma, old, to, len);

	if (!copy)
		return -ENOMEM;
	vma_link(vma->mm, copy);
	anon_vma_lock_write(vma);
	anon_vma_insert(copy);
	anon_vma_unlock_write(vma);
	vm_stat_account(vma->mm, copy->flags, (s64)vma_pages(copy));
	vma_merge(copy);
	return (s64)to;
}

s64 move_vma(struct vma *vma, u64 old, u64 old_len, u64 new_len, u64 to, bool keep_old)
{
	struct mm *mm = vma->mm;
	struct vma *moved;
	bool whole;
	int err;

	/* Headroom for both cuts and the copy, so that nothing fails in the middle. */
	if (mm->map_count + 3 > MAX_MAP_COUNT)
		return -ENOMEM;
	if (!old_len)
		return duplicate(vma, old, new_len, to);
	/* What stays behind stays one with what is around it. */
	if (!keep_old)
		vma = vma_isolate(vma, old, old + old_len);
	if (!vma)
		return -ENOMEM;
	whole = vma->start == old && vma->end == old + old_len;
	moved = copy_vma(vma, old, to, new_len);
	if (!moved) {
		vma_merge(vma);
		return -ENOMEM;
	}
	vma_drain(vma);
	vma_link(mm, moved);
	i_mmap_lock_write(vma);
	anon_vma_lock_write(vma);
	anon_vma_insert(moved);
	err = move_tables(mm, old, to, old_len);
	anon_vma_unlock_write(vma);
	i_mmap_unlock_write(vma);
	if (err) {
		vma_unlink(mm, moved);
		free_tables(mm, to, to + new_len);
		vma_merge(vma);
		return err;
	}
	vm_stat_account(mm, moved->flags, (s64)vma_pages(moved));
	if (!keep_old) {
		anon_vma_leave(vma);
		vm_stat_account(mm, vma->flags, -(s64)vma_pages(vma));
		vma_unlink(mm, vma);
		free_tables(mm, old, old + old_len);
	} else if (whole) {
		/* Its index stays, and decides what it merges with. */
		anon_vma_leave(vma);
		mm->unmerged = true; /* it might now; Linux lets it be */
	}
	vma_merge(moved);
	return to;
}

/* MREMAP_FIXED of one size over several VMAs: each piece keeps its place in the whole. */
static s64 move_pieces(struct mm *mm, u64 old, u64 len, u64 to)
{
	u64 addr = old, end = old + len;
	s64 result;
	int err;

	while (addr < end) {
		struct vma *vma = find_vma(mm, addr);
		u64 start, stop;

		if (!vma || vma->start >= end)
			break;
		start = max_of(vma->start, addr);
		stop = min_of(vma->end, end);
		err = unmap_range(mm, to + (start - old), to + (stop - old));
		if (err)
			return err;
		vma = find_vma(mm, start); /* unmapping may have cut it */
		result =
			move_vma(vma, start, stop - start, stop - start, to + (start - old), false);
		if (result < 0)
			return result;
		addr = stop;
	}
	return to;
}

static bool overlap(u64 a, u64 a_len, u64 b, u64 b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* To an address of the caller's choice.  Arguments checked. */
static s64 remap_to(struct mm *mm, u64 old, u64 old_len, u64 new_len, u64 to, bool keep_old)
{
	struct vma *vma = find_vma(mm, old);
	int err;

	if (!vma || vma->start > old)
		return -EFAULT;
	if (old_len == new_len && !keep_old)
		return move_pieces(mm, old, old_len, to);
	if (new_len > old_len && old + old_len > vma->end)
		return -EFAULT;
	err = unmap_range(mm, to, to + new_len);
	if (!err && new_len < old_len) {
		err = unmap_range(mm, old + new_len, old + old_len);
		old_len = new_len;
	}
	if (err)
		return err;
	vma = find_vma(mm, old);
	if (!vma || old + old_len > vma->end)
		return -EFAULT;
	return move_vma(vma, old, old_len, new_len, to, keep_old);
}

static s64 grow_or_move(struct mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 hint)
{
	struct vma *vma = find_vma(mm, old);
	u64 to;

	if (!vma || vma->start > old || old + old_len > vma->end)
		return -EFAULT;
	if (!(flags & VREMAP_DONTUNMAP)) {
		if (old_len == new_len)
			return old;
		if (old + old_len == vma->end && range_is_free(mm, vma->end, old + new_len)) {
			vma_set_end(vma, old + new_len);
			vm_stat_account(mm, vma->flags, (s64)((new_len - old_len) >> PAGE_SHIFT));
			vma_merge(vma);
			return old;
		}
		if (!(flags & VREMAP_MAYMOVE))
			return -ENOMEM;
		hint = 0;
	}
	to = hint && hint <= mm->high - new_len && range_is_free(mm, hint, hint + new_len)
		     ? hint
		     : vma_find_hole(mm, new_len, mm->high);
	if (!to)
		return -ENOMEM;
	return move_vma(vma, old, old_len, new_len, to, flags & VREMAP_DONTUNMAP);
}

s64 vm_remap(struct mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
	bool fixed = flags & VREMAP_FIXED, keep_old = flags & VREMAP_DONTUNMAP;
	s64 result;

	if (flags & ~(VREMAP_MAYMOVE | VREMAP_FIXED | VREMAP_DONTUNMAP))
		return -EINVAL;
	if ((fixed || keep_old) && !(flags & VREMAP_MAYMOVE))
		return -EINVAL;
	old_len = PAGE_ALIGN(old_len);
	new_len = PAGE_ALIGN(new_len);
	if (!PAGE_ALIGNED(old) || !old_len || !new_len || old + old_len < old)
		return -EINVAL;
	if (keep_old && old_len != new_len)
		return -EINVAL;
	if (fixed || keep_old) {
		if (!PAGE_ALIGNED(new_addr) || new_len > mm->high || new_addr > mm->high - new_len)
			return -EINVAL;
	}
	if (fixed && (new_addr < mm->low || overlap(old, old_len, new_addr, new_len)))
		return -EINVAL;

	if (new_len > mm->high)
		return -ENOMEM;
	down_write(&mm->mmap_lock);
	if (fixed) {
		result = remap_to(mm, old, old_len, new_len, new_addr, keep_old);
	} else if (old_len >= new_len && !keep_old) {
		struct vma *vma = find_vma(mm, old);

		result = !vma || vma->start > old ? -EFAULT : 0;
		if (!result && old_len > new_len)
			result = unmap_range(mm, old + new_len, min_of(old + old_len, mm->high));
		if (!result)
			result = old;
	} else {
		result = grow_or_move(mm, old, old_len, new_len, flags, new_addr);
	}
	up_write(&mm->mmap_lock);
	return result;
}
