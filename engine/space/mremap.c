/* SPDX-License-Identifier: MIT */
/*
 * mremap(2), in the order of checks of Linux 6.18:
 *
 *   1  the arguments, without a look at any area;
 *   2  a move of one size to a given place: area by area, gaps and all (since 6.17);
 *   3  otherwise one area: may it be done?  then to the given place, or where it is.
 *
 * What 3 refuses has changed nothing.  Before that was so, a move to a given place could unmap
 * first and be refused then.
 */
#include "engine/fault/fault.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

#define KNOWN_FLAGS (UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED | UAPI_MREMAP_DONTUNMAP)
/* Areas that a move may make: two cuts and a copy, and as many again. */
#define MAP_HEADROOM 3

struct remap {
	struct mm *mm;
	u64 addr, old_len, new_len, flags, new_addr;
	struct vma *vma;
	bool populate; /* what comes beyond old_len */
};

/* Is new_addr meant? */
static bool implies_new_addr(const struct remap *r)
{
	return r->flags & (UAPI_MREMAP_FIXED | UAPI_MREMAP_DONTUNMAP);
}

static int check_arguments(const struct remap *r)
{
	const struct mm *mm = r->mm;

	if ((r->flags & ~(u64)KNOWN_FLAGS) || !PAGE_ALIGNED(r->addr) || !r->new_len ||
	    r->new_len > mm->high)
		return -EINVAL;
	if (!implies_new_addr(r))
		return 0;
	if (!PAGE_ALIGNED(r->new_addr) || r->new_addr > mm->high - r->new_len ||
	    !(r->flags & UAPI_MREMAP_MAYMOVE))
		return -EINVAL;
	if ((r->flags & UAPI_MREMAP_DONTUNMAP) && r->old_len != r->new_len)
		return -EINVAL;
	if (r->addr + r->old_len > r->new_addr && r->new_addr + r->new_len > r->addr)
		return -EINVAL;
	return 0;
}

/* Of huge pages: lengths are rounded up to them; what does not begin at one, or is to grow (the
 * promises of its pages cannot), is refused: false. */
static bool align_hugetlb(struct remap *r)
{
	const struct hstate *h = hstate_vma(r->vma);
	u64 mask = huge_page_mask(h);

	r->old_len = (r->old_len + ~mask) & mask;
	r->new_len = (r->new_len + ~mask) & mask;
	return !(r->addr & ~mask) && (!implies_new_addr(r) || !(r->new_addr & ~mask)) &&
	       r->new_len <= r->old_len;
}

/* May this area be remapped so? */
static int check_area(struct remap *r)
{
	const struct vma *vma = r->vma;
	u64 delta, pgoff;

	if (!vma || vma->start > r->addr)
		return -EFAULT;
	if (vma->flags & VM_SEALED)
		return -EPERM;
	if (is_vm_hugetlb(vma) && !align_hugetlb(r))
		return -EINVAL;
	if (r->old_len >= r->new_len && !implies_new_addr(r))
		return 0;
	if (!r->old_len && !(vma->flags & (VM_SHARED | VM_MAYSHARE)))
		return -EINVAL;
	if ((r->flags & UAPI_MREMAP_DONTUNMAP) && (vma->flags & VM_DONTEXPAND))
		return -EINVAL;
	if (min_of(r->old_len, r->new_len) > vma->end - r->addr)
		return -EFAULT;
	if (r->new_len <= r->old_len)
		return 0;
	delta = r->new_len - r->old_len;
	pgoff = ((r->addr - vma->start) >> PAGE_SHIFT) + vma->pgoff;
	if (pgoff + (r->new_len >> PAGE_SHIFT) < pgoff)
		return -EINVAL;
	if (vma->flags & VM_DONTEXPAND)
		return -EFAULT;
	if (!mlock_future_ok(r->mm, vma->flags, delta))
		return -EAGAIN;
	if (!may_expand_vm(r->mm, vma->flags, delta >> PAGE_SHIFT))
		return -ENOMEM;
	r->populate = vma->flags & VM_LOCKED;
	return 0;
}

/* Can be promised what there will be more than now? */
static bool can_charge(const struct remap *r)
{
	u64 more = r->flags & UAPI_MREMAP_DONTUNMAP ? r->new_len : r->new_len - r->old_len;

	return !(r->vma->flags & VM_ACCOUNT) || vm_enough_memory(r->mm, more >> PAGE_SHIFT);
}

/* Take the end off, as munmap(2) would. */
static int shrink(const struct remap *r)
{
	u64 start = r->addr + r->new_len, len = r->old_len - r->new_len;

	if (start > r->mm->high || len > r->mm->high - start)
		return -EINVAL;
	return unmap_range(r->mm, start, start + len);
}

/* To a place that is free. */
static s64 move(struct remap *r, u64 to)
{
	if (r->mm->map_count + MAP_HEADROOM >= r->mm->limits.map_count || !can_charge(r))
		return -ENOMEM;
	return move_vma(r->vma, r->addr, r->old_len, r->new_len, to,
			r->flags & UAPI_MREMAP_DONTUNMAP);
}

static s64 remap_to(struct remap *r)
{
	u64 flags = r->flags & UAPI_MREMAP_FIXED ? UAPI_MAP_FIXED : 0;
	s64 to;
	int err;

	if (r->flags & UAPI_MREMAP_FIXED) {
		err = unmap_range(r->mm, r->new_addr, r->new_addr + r->new_len);
		if (err)
			return err;
		r->vma = find_vma(r->mm, r->addr); /* it may have been cut, or be what went */
		if (!r->vma || r->vma->start > r->addr)
			return -EFAULT;
	}
	if (r->old_len > r->new_len) {
		err = shrink(r);
		if (err)
			return err;
		r->old_len = r->new_len;
		r->vma = find_vma(r->mm, r->addr);
	}
	if ((r->flags & UAPI_MREMAP_DONTUNMAP) &&
	    !may_expand_vm(r->mm, r->vma->flags, r->old_len >> PAGE_SHIFT))
		return -ENOMEM;
	to = get_unmapped_area(r->mm, r->new_addr, r->new_len, flags, PAGE_SIZE);
	return to < 0 ? to : move(r, (u64)to);
}

static bool can_expand_in_place(const struct remap *r)
{
	return r->addr + r->old_len == r->vma->end &&
	       range_is_free(r->mm, r->vma->end, r->addr + r->new_len);
}

static s64 remap_at(struct remap *r)
{
	struct vma *vma = r->vma;
	u64 delta = r->new_len - r->old_len;
	s64 to;

	if (r->old_len == r->new_len)
		return (s64)r->addr;
	if (r->old_len > r->new_len)
		return shrink(r) ?: (s64)r->addr;
	if (can_expand_in_place(r)) {
		if (!can_charge(r))
			return -ENOMEM;
		vma_set_end(vma, r->addr + r->new_len);
		vm_stat_account(r->mm, vma->flags, (s64)(delta >> PAGE_SHIFT));
		vma_merge_grown(vma); /* what it could have merged with below, it did not want to */
		return (s64)r->addr;
	}
	if (!(r->flags & UAPI_MREMAP_MAYMOVE))
		return -ENOMEM;
	to = get_unmapped_area(r->mm, 0, r->new_len, 0, PAGE_SIZE);
	return to < 0 ? to : move(r, (u64)to);
}

/* Each area keeps its distance from the one before. */
static s64 remap_move(struct remap *r)
{
	u64 start = r->addr, end = start + r->old_len, to = r->new_addr, last_end = 0;
	s64 first = -EFAULT;

	for (u64 at = start; at < end; at = r->addr + r->old_len) {
		s64 moved;
		int err;

		r->vma = find_vma(r->mm, at);
		if (!r->vma || r->vma->start >= end)
			break;
		/* What a userfaultfd watches moves alone. */
		if (unlikely(r->vma->uffd) && (first >= 0 || r->vma->end < end))
			return -EFAULT;
		r->addr = max_of(r->vma->start, at);
		r->old_len = r->new_len = min_of(end, r->vma->end) - r->addr;
		if (first < 0 && r->addr > start)
			return -EFAULT; /* no gap at the beginning */
		r->new_addr = to + (first < 0 ? 0 : r->addr - last_end);
		last_end = r->addr + r->old_len;
		err = check_area(r);
		if (err)
			return err;
		moved = remap_to(r);
		if (moved < 0)
			return moved;
		if (first < 0)
			first = moved;
		to = (u64)moved + r->new_len;
	}
	return first;
}

static s64 remap_locked(struct remap *r)
{
	int err;

	if (implies_new_addr(r) && r->mm->map_count + 2 + MAP_HEADROOM >= r->mm->limits.map_count)
		return -ENOMEM;
	if ((r->flags & UAPI_MREMAP_FIXED) && r->old_len == r->new_len)
		return remap_move(r);
	r->vma = find_vma(r->mm, r->addr);
	err = check_area(r);
	if (err)
		return err;
	return implies_new_addr(r) ? remap_to(r) : remap_at(r);
}

s64 do_mremap(struct mm *mm, u64 addr, u64 old_len, u64 new_len, u64 flags, u64 new_addr)
{
	struct remap r = { .mm = mm,
			   .addr = addr,
			   .old_len = PAGE_ALIGN(old_len),
			   .new_len = PAGE_ALIGN(new_len),
			   .flags = flags,
			   .new_addr = new_addr };
	s64 result = check_arguments(&r);

	if (result)
		return result;
	down_write(&mm->mmap_lock);
	result = remap_locked(&r);
	mmap_write_unlock(mm);
	if (result >= 0 && r.populate)
		populate_range(mm, (u64)result + r.old_len, (u64)result + r.new_len, true);
	return result;
}

s64 vm_remap(struct mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr)
{
	return do_mremap(mm, old, old_len, new_len, flags, new_addr);
}
