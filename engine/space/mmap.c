/* SPDX-License-Identifier: MIT */
/*
 * mmap(2): the checks in Linux's order, then the area.
 *
 * Nothing has changed when it fails, except that areas may have been cut: what a fixed address
 * replaces is unmapped only after all that can be refused has been looked at.
 */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "engine/fault/fault.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

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

/* From the top down; what would come into a stack's gap has to go below it.  A hole is taken that
 * is long enough wherever it begins. */
static u64 find_place(const struct mm *mm, u64 len, u64 align)
{
	u64 slack = align - PAGE_SIZE, below = mm->high, addr;

	if (len + slack < len)
		return 0;
	while ((addr = vma_find_hole(mm, len + slack, below))) {
		const struct vma *above;

		addr = (addr + slack) & ~(align - 1);
		above = find_vma(mm, addr);

		if (!above || addr + len <= start_gap(above))
			break;
		below = start_gap(above);
	}
	return addr;
}

s64 get_unmapped_area(const struct mm *mm, u64 addr, u64 len, u64 flags, u64 align)
{
	if (len > mm->high)
		return -ENOMEM;
	if (!(flags & UAPI_MAP_FIXED)) {
		addr = ((addr & PAGE_MASK) + align - 1) & ~(align - 1);
		if (!addr || !hint_is_free(mm, addr, len))
			addr = find_place(mm, len, align);
		if (!addr)
			return -ENOMEM;
	} else if (align > PAGE_SIZE && (addr & (align - 1))) {
		return -EINVAL;
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

/* The flags that MAP_SHARED has always ignored others beside. */
#define LEGACY_FLAGS                                                                               \
	(UAPI_MAP_SHARED | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED | UAPI_MAP_ANONYMOUS |                \
	 UAPI_MAP_DENYWRITE | UAPI_MAP_EXECUTABLE | UAPI_MAP_UNINITIALIZED | UAPI_MAP_GROWSDOWN |  \
	 UAPI_MAP_LOCKED | UAPI_MAP_NORESERVE | UAPI_MAP_POPULATE | UAPI_MAP_NONBLOCK |            \
	 UAPI_MAP_STACK | UAPI_MAP_HUGETLB | UAPI_MAP_32BIT | UAPI_MAP_ABOVE4G |                   \
	 UAPI_MAP_HUGE_2MB | UAPI_MAP_HUGE_1GB)
#define MOST_FILE_BYTES 0x7fffffffffffffffULL

/* One call, as far as it is known. */
struct request {
	u64 addr, len, prot, flags;
	struct file *file;   /* NULL: anonymous */
	struct hstate *huge; /* of pages of this pool; NULL: of ordinary ones */
	u64 pgoff;	     /* of the file, and then of the area */
	u32 vm;
};

/* What the type of an anonymous mapping makes of the flags. */
static int check_anonymous(struct request *r)
{
	switch (r->flags & UAPI_MAP_TYPE) {
	case UAPI_MAP_DROPPABLE: /* since 6.11 */
		if ((r->flags & UAPI_MAP_LOCKED) || (r->vm & VM_GROWSDOWN))
			return -EINVAL;
		/* What may be dropped is not promised, and outlives neither fork nor dump. */
		r->vm |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
		break;
	case UAPI_MAP_PRIVATE:
		break;
	case UAPI_MAP_SHARED:
		if (r->vm & VM_GROWSDOWN)
			return -EINVAL;
		r->pgoff = 0;
		r->vm |= VM_SHARED | VM_MAYSHARE;
		return 0;
	default:
		return -EINVAL;
	}
	r->pgoff = r->addr >> PAGE_SHIFT;
	return 0;
}

/* Flags that only some files know. */
static u64 more_flags(const struct file *file)
{
	return file->mapping && file->mapping->ops->may_map_sync ? UAPI_MAP_SYNC : 0;
}

/* The same of a file, and what it may be used for. */
static int check_file(struct request *r)
{
	u64 most = r->file->mapping ? MOST_FILE_BYTES : ~0ULL;
	u32 mode = r->file->mode;

	if (r->len > most || r->pgoff > (most - r->len) >> PAGE_SHIFT)
		return -EOVERFLOW;
	switch (r->flags & UAPI_MAP_TYPE) {
	case UAPI_MAP_SHARED:
		r->flags &= LEGACY_FLAGS;
		/* fall through */
	case UAPI_MAP_SHARED_VALIDATE:
		if (r->flags & ~(u64)(LEGACY_FLAGS | more_flags(r->file)))
			return -EOPNOTSUPP;
		if ((r->prot & UAPI_PROT_WRITE) && !(mode & FILE_WRITE))
			return -EACCES;
		r->vm |= VM_SHARED | VM_MAYSHARE;
		if (!(mode & FILE_WRITE))
			r->vm &= ~(u32)(VM_MAYWRITE | VM_SHARED); /* never written through */
								  /* fall through */
	case UAPI_MAP_PRIVATE:
		if (!(mode & FILE_READ))
			return -EACCES;
		if (mode & FILE_NOEXEC) {
			if (r->prot & UAPI_PROT_EXEC)
				return -EPERM;
			r->vm &= ~(u32)VM_MAYEXEC;
		}
		if (!r->file->mapping)
			return -ENODEV;
		if (r->vm & VM_GROWSDOWN)
			return -EINVAL;
		return memfd_check_mmap(r->file->mapping, &r->vm);
	default:
		return -EINVAL;
	}
}

/* ---- the area ---- */

/* The file behind it, with a reference; shared anonymous memory gets one of its own. */
static int open_backing(struct mm *mm, struct request *r)
{
	if (r->file)
		file_get(r->file);
	else if ((r->vm & VM_SHARED) &&
		 (r->vm & VM_NORESERVE || vm_enough_memory(mm, r->len >> PAGE_SHIFT)))
		r->file = shmem_file_setup(mm->engine, r->len);
	return r->file || !(r->vm & VM_SHARED) ? 0 : -ENOMEM;
}

static s64 __mmap_region(struct mm *mm, struct request *r)
{
	u64 end = r->addr + r->len, pages = r->len >> PAGE_SHIFT;
	int err = cut_range(mm, r->addr, end);
	struct vma *vma;
	u32 vm;

	if (err)
		return err;
	if (!may_expand_vm(mm, r->vm, pages - pages_in(mm, r->addr, end)) ||
	    (accountable_mapping(r->vm) && !vm_enough_memory(mm, pages))) {
		mm->unmerged = true; /* what was cut stays cut, as Linux leaves it */
		return -ENOMEM;
	}
	if (accountable_mapping(r->vm))
		r->vm |= VM_ACCOUNT;
	err = unmap_range(mm, r->addr, end);
	if (!err)
		err = open_backing(mm, r);
	if (err)
		return err;
	/* It is brought in as if it were locked, and may go all the same. */
	vm = r->vm & (VM_DROPPABLE | VM_HUGETLB) ? r->vm & ~(u32)VM_LOCKED_MASK : r->vm;
	vma = vma_new(mm, r->addr, end, r->pgoff, vm);
	if (!vma) {
		if (r->file)
			file_put(r->file);
		return -ENOMEM;
	}
	vma->file = r->file;
	err = r->huge ? hugetlb_file_mmap(vma) : 0;
	if (err) {
		file_put(r->file);
		vma_put(vma);
		return err;
	}
	vma_link(mm, vma);
	vm_stat_account(mm, vma->flags, (s64)pages);
	vma_merge(vma);
	return (s64)r->addr;
}

/* The file is not sealed between the look at its seals and the area's being counted. */
static s64 mmap_region(struct mm *mm, struct request *r)
{
	struct address_space *writable =
		r->file && vma_may_write_file(r->vm) ? r->file->mapping : NULL;
	s64 result;

	if (writable && mapping_map_writable(writable))
		return -EPERM;
	result = __mmap_region(mm, r);
	if (writable)
		mapping_unmap_writable(writable);
	return result;
}

static s64 mmap_locked(struct mm *mm, struct request *r)
{
	s64 at;
	int err;

	r->vm = flags_of(mm, r->prot, r->flags) | (r->huge ? VM_HUGETLB : 0);
	if (mm->map_count > mm->limits.map_count)
		return -ENOMEM;
	/* Only mmap(2) is lenient about a hint that is too low. */
	if (!(r->flags & UAPI_MAP_FIXED) && (r->addr & PAGE_MASK) &&
	    (r->addr & PAGE_MASK) < mm_hint_min(mm))
		r->addr = PAGE_ALIGN(mm_hint_min(mm));
	at = get_unmapped_area(mm, r->addr, r->len, r->flags,
			       r->huge ? huge_page_size(r->huge) : PAGE_SIZE);
	if (at < 0)
		return at;
	r->addr = (u64)at;
	if ((r->flags & UAPI_MAP_FIXED_NOREPLACE) && pages_in(mm, r->addr, r->addr + r->len))
		return -EEXIST;
	if ((r->flags & UAPI_MAP_LOCKED) && !mm->limits.memlock && !mm->limits.may_lock_all)
		return -EPERM;
	if (!mlock_future_ok(mm, r->vm, r->len))
		return -EAGAIN;
	err = r->file ? check_file(r) : check_anonymous(r);
	if (err)
		return err;
	if (r->flags & UAPI_MAP_NORESERVE)
		r->vm |= VM_NORESERVE;
	return mmap_region(mm, r);
}

/* Is it to be of huge pages?  Then the pool is known, and the length is rounded up to them; an
 * anonymous mapping gets a file of its own, as the caller's. */
static int open_huge(struct mm *mm, struct request *r)
{
	if (r->file) {
		r->huge = hstate_file(r->file);
		if (!r->huge && (r->flags & UAPI_MAP_HUGETLB))
			return -EINVAL;
	} else if (r->flags & UAPI_MAP_HUGETLB) {
		r->huge = hstate_sizelog(mm->engine, r->flags >> UAPI_MAP_HUGE_SHIFT & 63);
		if (!r->huge)
			return -EINVAL;
	}
	if (!r->huge)
		return 0;
	r->len = (r->len + huge_page_size(r->huge) - 1) & huge_page_mask(r->huge);
	if (!r->file)
		r->file = hugetlb_file_setup(r->huge, r->len, MEMFD_SEAL_SEAL);
	return r->file ? 0 : -ENOMEM;
}

static s64 checked_mmap(struct mm *mm, struct request *r)
{
	s64 result;

	if (!r->len)
		return -EINVAL;
	r->len = PAGE_ALIGN(r->len);
	if (!r->len)
		return -ENOMEM;
	if (r->pgoff + (r->len >> PAGE_SHIFT) < r->pgoff)
		return -EOVERFLOW;
	down_write(&mm->mmap_lock);
	result = mmap_locked(mm, r);
	mmap_write_unlock(mm);
	return result;
}

s64 do_mmap(struct mm *mm, u64 addr, u64 len, u64 prot, u64 flags, struct file *file, u64 offset)
{
	bool anonymous = flags & UAPI_MAP_ANONYMOUS;
	struct request r = { .addr = addr,
			     .len = len,
			     .prot = prot,
			     .flags = flags,
			     .file = anonymous ? NULL : file,
			     .pgoff = offset >> PAGE_SHIFT };
	s64 result;

	if (!PAGE_ALIGNED(offset))
		return -EINVAL;
	if (!r.file && !anonymous)
		return -EBADF;
	result = open_huge(mm, &r);
	if (result)
		return result;
	if (flags & UAPI_MAP_FIXED_NOREPLACE)
		r.flags |= UAPI_MAP_FIXED;
	result = checked_mmap(mm, &r);
	if (anonymous && r.huge)
		file_put(r.file);
	if (result >= 0 && ((r.vm & VM_LOCKED) ||
			    (flags & (UAPI_MAP_POPULATE | UAPI_MAP_NONBLOCK)) == UAPI_MAP_POPULATE))
		populate_range(mm, (u64)result, (u64)result + r.len, true);
	return result;
}
