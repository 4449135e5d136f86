/* SPDX-License-Identifier: MIT */
/*
 * VMAs of files: the tree in which a file finds the VMAs that map it, and mapping by the file's
 * side of things.
 *
 * A VMA is in its file's i_mmap tree exactly while it is linked, and its range changes only while
 * that tree's lock is held for writing (i_mmap_begin() and i_mmap_end()).  So who holds the lock
 * for reading finds every VMA, where it lies and the tables below it.
 */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/base/check.h"
#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"

static struct address_space *mapping_of(const struct vma *vma)
{
	return vma->file->mapping;
}

/* i_mmap_lock held for writing. */
static void insert(struct vma *vma)
{
	vma->shared.start = vma->pgoff;
	vma->shared.end = vma_pgoff_end(vma);
	interval_insert(&mapping_of(vma)->i_mmap, &vma->shared);
}

/* It is in the tree from now on, and was not before; and the other way round. */
static void count_writable(const struct vma *vma)
{
	if (vma_may_write_file(vma->flags))
		mapping_allow_writable(mapping_of(vma));
}

static void uncount_writable(const struct vma *vma)
{
	if (vma_may_write_file(vma->flags))
		mapping_unmap_writable(mapping_of(vma));
}

void i_mmap_add(struct vma *vma)
{
	if (!vma->file)
		return;
	i_mmap_lock_write(vma);
	count_writable(vma);
	insert(vma);
	i_mmap_unlock_write(vma);
}

void i_mmap_del(struct vma *vma)
{
	if (!vma->file)
		return;
	i_mmap_begin(vma);
	uncount_writable(vma);
	i_mmap_unlock_write(vma);
}

void i_mmap_lock_write(struct vma *vma)
{
	if (vma->file)
		down_write(&mapping_of(vma)->i_mmap_lock);
}

void i_mmap_unlock_write(struct vma *vma)
{
	if (vma->file)
		up_write(&mapping_of(vma)->i_mmap_lock);
}

void i_mmap_begin(struct vma *vma)
{
	if (!vma->file)
		return;
	i_mmap_lock_write(vma);
	interval_remove(&mapping_of(vma)->i_mmap, &vma->shared);
}

void i_mmap_end(struct vma *vma, struct vma *upper)
{
	if (!vma->file)
		return;
	insert(vma);
	if (upper) {
		count_writable(upper);
		insert(upper);
	}
	i_mmap_unlock_write(vma);
}

void i_mmap_absorb(struct vma *gone)
{
	if (!gone->file)
		return;
	interval_remove(&mapping_of(gone)->i_mmap, &gone->shared);
	uncount_writable(gone);
}

bool vma_wants_writenotify(const struct vma *vma)
{
	return vma->file && (vma->flags & (VM_SHARED | VM_WRITE)) == (VM_SHARED | VM_WRITE) &&
	       mapping_of(vma)->ops->page_mkwrite;
}

bool vma_is_shmem(const struct vma *vma)
{
	return vma->file && mapping_of(vma)->ops->swap_page;
}

u64 vma_file_pte_bits(const struct vma *vma, bool dirty)
{
	u64 bits = vma_pte_bits(vma);

	if (!(vma->flags & VM_SHARED) ||
	    (!dirty && (vma_wants_writenotify(vma) || unlikely(vma->flags & VM_UFFD_WP))))
		bits &= ~PTE_WRITE;
	return bits;
}

void unmap_mapping_range(struct address_space *m, u64 start, u64 end, bool even_cows)
{
	struct interval_node *node;

	if (start >= end)
		return;
	down_read(&m->i_mmap_lock);
	for (node = interval_first(&m->i_mmap, start, end); node;
	     node = interval_next(node, start, end)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 from = max_of(start, vma->pgoff), to = min_of(end, vma_pgoff_end(vma));

		zap_vma_pages(vma, vma->start + ((from - vma->pgoff) << PAGE_SHIFT),
			      vma->start + ((to - vma->pgoff) << PAGE_SHIFT), even_cows);
	}
	up_read(&m->i_mmap_lock);
}

s64 vm_map_file(struct mm *mm, u64 addr, u64 len, u32 prot, u32 map_flags, u32 vm_flags,
		struct file *file, u64 pgoff)
{
	u32 flags = (prot & VM_ACCESS) | VM_MAYREAD | VM_MAYEXEC | vm_flags;
	struct address_space *writable = NULL;
	struct vma *vma;
	s64 result;

	if (!len || !PAGE_ALIGNED(addr))
		return -EINVAL;
	len = PAGE_ALIGN(len);
	if (!len || len > mm->high - mm->low)
		return -ENOMEM;
	if (pgoff + (len >> PAGE_SHIFT) < pgoff || pgoff + (len >> PAGE_SHIFT) >= 1ULL << 52)
		return -EOVERFLOW;
	if (!(file->mode & FILE_READ))
		return -EACCES;
	if (!(vm_flags & VM_SHARED) || (file->mode & FILE_WRITE))
		flags |= VM_MAYWRITE;
	else if (prot & VM_WRITE)
		return -EACCES;
	else
		flags &= ~(u32)VM_SHARED; /* never written through: as good as private */
	if (memfd_check_mmap(file->mapping, &flags))
		return -EPERM;
	if (vma_may_write_file(flags)) {
		writable = file->mapping;
		if (mapping_map_writable(writable))
			return -EPERM;
	}

	down_write(&mm->mmap_lock);
	result = -ENOMEM;
	if (mm->map_count >= mm->limits.map_count)
		goto out;
	if (!(map_flags & VMAP_FIXED))
		addr = vma_find_hole(mm, len, mm->high);
	if (!addr || addr < mm->low || addr > mm->high - len || unmap_range(mm, addr, addr + len))
		goto out;
	vma = vma_new(mm, addr, addr + len, pgoff, flags);
	if (!vma)
		goto out;
	vma->file = file_get(file);
	vma_link(mm, vma);
	vm_stat_account(mm, vma->flags, (s64)vma_pages(vma));
	vma_merge(vma);
	result = addr;
out:
	mmap_write_unlock(mm);
	if (writable)
		mapping_unmap_writable(writable);
	return result;
}
