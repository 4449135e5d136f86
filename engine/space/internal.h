/* SPDX-License-Identifier: MIT */
/* What the files of engine/space/ share with one another and with nobody else. */
#ifndef VMF_SPACE_INTERNAL_H
#define VMF_SPACE_INTERNAL_H

#include "engine/backing/file.h"
#include "engine/base/errno.h"
#include "engine/engine.h"

#define VM_MAYACCESS  (VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC)
#define MAX_MAP_COUNT 65530

/* ---- vma.c: the set of VMAs.  mmap_lock held for writing. ---- */

/* A VMA that is in no tree yet, or NULL. */
struct vma *vma_new(struct mm *mm, u64 start, u64 end, u64 pgoff, u32 flags);
/* Drop a reference; the last frees it. */
void vma_put(struct vma *vma);
/* Wait for those who hold only vma->lock; there will be no more until mmap_lock is free. */
void vma_drain(struct vma *vma);
void vma_link(struct mm *mm, struct vma *vma);
/* Out of tree, list and anon_vma, and its own reference dropped.  Drained; no pages left. */
void vma_unlink(struct mm *mm, struct vma *vma);
/* Cut at addr, inside it: `vma` becomes the lower part, the upper part is returned.
 * NULL: no memory.  How many there may be is the caller's to look at. */
struct vma *vma_split(struct vma *vma, u64 addr);
/* 0, or -EINVAL: it cannot be cut at addr, inside it. */
int vma_may_split(const struct vma *vma, u64 addr);
/* The same for making what it has of [start, end) an area of its own. */
int vma_may_modify(struct vma *vma, u64 start, u64 end);
/* Make [start, end), which `vma` covers in part or whole, a VMA of its own.  NULL as above. */
struct vma *vma_isolate(struct vma *vma, u64 start, u64 end);
/* What of it is in [start, end) gets these flags, as a VMA of its own, which is not merged yet; it
 * is drained.  NULL: no memory, or too many VMAs, of which those count that do not merge; then it
 * may have been cut at start. */
struct vma *vma_modify_flags(struct vma *vma, u64 start, u64 end, u32 flags);
/* The same with a policy for its memory. */
struct vma *vma_modify(struct vma *vma, u64 start, u64 end, u32 flags, struct mempolicy policy);
/* Merge with the neighbours where possible; returns the VMA that holds it all. */
struct vma *vma_merge(struct vma *vma);
/* The same of a VMA that has grown, with the one above alone: one without an anon_vma takes its,
 * even if that came by fork. */
void vma_merge_grown(struct vma *vma);
bool vma_mergeable(const struct vma *below, const struct vma *above);
/* Move the upper end; the space is free, nothing merges. */
void vma_set_end(struct vma *vma, u64 end);
/* Move the lower end down, to what is free; nothing merges. */
void vma_set_start(struct vma *vma, u64 start);
/* [start, end) holds no VMA and lies within the space. */
bool range_is_free(const struct mm *mm, u64 start, u64 end);

static inline u64 vma_pages(const struct vma *vma)
{
	return (vma->end - vma->start) >> PAGE_SHIFT;
}
/* Page of the file (or linear index) that is at va. */
static inline u64 vma_page_index(const struct vma *vma, u64 va)
{
	return vma->pgoff + ((va - vma->start) >> PAGE_SHIFT);
}
/* `to` has, among others, what `from` had. */
static inline void vma_inherit_guard(struct vma *to, const struct vma *from)
{
	if (unlikely(atomic_load_explicit(&from->maybe_guard, memory_order_relaxed)))
		atomic_store_explicit(&to->maybe_guard, true, memory_order_relaxed);
}
static inline u64 vma_pgoff_end(const struct vma *vma)
{
	return vma->pgoff + vma_pages(vma);
}

/* ---- anon_vma.c ---- */

/*
 * Who changes a VMA's start, end or pgoff does it between these four, mmap_lock held for writing,
 * and the VMA drained.  All do nothing for a VMA without anon_vma.
 */
void anon_vma_lock_write(const struct vma *vma);
void anon_vma_remove(struct vma *vma); /* out of the trees, the links stay */
void anon_vma_insert(struct vma *vma);
void anon_vma_unlock_write(const struct vma *vma);

/* Link `dst`, which has no anon_vma, into all that `src` is linked into, and give it the same as
 * its own; it is in the trees after anon_vma_insert().  0, -ENOMEM; -ENOMEM only if src has
 * several. mmap_lock of both held for writing. */
int anon_vma_clone(struct vma *dst, const struct vma *src);
/* The same for the copy of a VMA in a child, with an anon_vma of its own, and inserted.
 * 0, -ENOMEM.  Takes the family's lock. */
int anon_vma_fork(struct vma *vma, const struct vma *parent);
/* Forget the links of a VMA that is out of the trees. */
void anon_vma_unlink(struct vma *vma);
/* Leave all anon_vmas; the last frees them.  Takes the family's lock. */
void anon_vma_leave(struct vma *vma);
/* It is linked into several: it came by fork.  Such a VMA gives its anon_vma to no neighbour. */
static inline bool vma_is_fork_child(const struct vma *vma)
{
	return vma->anon_vma_chain && vma->anon_vma_chain->next;
}

/* ---- limits.c ---- */

/* So many pages of areas with these flags came (or, negative, went). */
void vm_stat_account(struct mm *mm, u32 flags, s64 pages);
/* RLIMIT_AS and RLIMIT_DATA allow so many pages more of such areas. */
bool may_expand_vm(const struct mm *mm, u32 flags, u64 pages);
/* RLIMIT_MEMLOCK allows so many bytes more, if the flags say locked. */
bool mlock_future_ok(const struct mm *mm, u32 flags, u64 bytes);
/* Is memory promised to such areas, so that it is counted? */
bool accountable_mapping(u32 flags);
/*
 * `flags`, to which an area of those in *vma is to be protected, with what that does to what is
 * promised to it: a private area that becomes writable is counted from then on, and one that has
 * never had a page and no longer may have is not.  0, or -ENOMEM.
 */
int account_protection(const struct vma *vma, u64 pages, u32 *flags);
/* Can so many pages be promised?  Only what is out of all reason is refused. */
bool vm_enough_memory(const struct mm *mm, u64 pages);

/* ---- file_map.c: nothing of it does anything for a VMA without a file ---- */

/* A linked VMA enters its file's tree, and leaves it.  Takes i_mmap_lock. */
void i_mmap_add(struct vma *vma);
void i_mmap_del(struct vma *vma);
/* Around a change of the range of a VMA that is in the tree; between the two i_mmap_lock is held
 * for writing.  `upper` (may be NULL) is new, of the same file, and enters with it. */
void i_mmap_begin(struct vma *vma);
void i_mmap_end(struct vma *vma, struct vma *upper);
/* Between them: the range of `gone` has become part of another VMA of the file. */
void i_mmap_absorb(struct vma *gone);
void i_mmap_lock_write(struct vma *vma);
void i_mmap_unlock_write(struct vma *vma);

/* ---- zap.c ---- */

/* As zap_range() in a VMA of a file that stays; !even_cows: pages of the file only.
 * mmap_lock or i_mmap_lock held. */
void zap_vma_pages(struct vma *vma, u64 start, u64 end, bool even_cows);

/* ---- map.c ---- */

/* Cut what lies across start or end, so that unmapping [start, end) cannot fail.  0, -ENOMEM,
 * -EPERM, -EINVAL (vma_may_split()).  mmap_lock held for writing. */
int cut_range(struct mm *mm, u64 start, u64 end);
/* As vm_unmap(), arguments checked, mmap_lock held for writing. */
int unmap_range(struct mm *mm, u64 start, u64 end);
/* The same, and no userfaultfd is told. */
int unmap_silently(struct mm *mm, u64 start, u64 end);
/* What of *vma is in [start, end) gets these flags, and their rights; *vma is what holds it then.
 * 0, -ENOMEM, -EINVAL.  mmap_lock held for writing. */
int mprotect_fixup(struct vma **vma, u64 start, u64 end, u32 flags);

/* ---- advise_pages.c, guard.c, inject_error.c ---- */

/* One area, [start, end) of it, for advice that is about pages.  0 or negative errno.  mmap_lock
 * held for reading, and dropped meanwhile by some: the VMA may be gone then. */
int advise_pages(struct vma *vma, u64 start, u64 end, u64 advice);
/* MADV_HWPOISON and MADV_SOFT_OFFLINE (inject_error.c).  Takes mmap_lock. */
int madvise_inject_error(struct mm *mm, u64 start, u64 end, bool soft);
/* MADV_POPULATE_READ and _WRITE.  Takes mmap_lock. */
int madvise_populate(struct mm *mm, u64 start, u64 end, bool write);
int guard_install(struct vma *vma, u64 start, u64 end);
int guard_remove(struct vma *vma, u64 start, u64 end);

/* ---- remap.c ---- */

/*
 * Move [old, old + old_len), which lies in `vma`, to the free range [to, to + new_len); keep_old:
 * its area stays, without pages.  old_len 0: another mapping of the same shared memory.  The new
 * address, or -ENOMEM.  mmap_lock held for writing.
 */
s64 move_vma(struct vma *vma, u64 old, u64 old_len, u64 new_len, u64 to, bool keep_old);

/* ---- mmap.c ---- */

/* Where an area of len bytes goes, which is aligned to `align`: at addr if `flags` (UAPI_MAP_FIXED)
 * say so, else there if it is free, else where it is.  An address, or -ENOMEM, -EINVAL, -EPERM.
 * mmap_lock held for writing. */
s64 get_unmapped_area(const struct mm *mm, u64 addr, u64 len, u64 flags, u64 align);

/* ---- table.c ---- */

/* The root. */
int tables_init(struct mm *mm);
void tables_fini(struct mm *mm);
/* Free the tables over [start, end) that no VMA outside it needs.  No VMA is left in it. */
void free_tables(struct mm *mm, u64 start, u64 end);

#endif
