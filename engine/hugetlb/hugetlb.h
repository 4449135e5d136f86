/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of a pool, mapped: files of such pages, and what the other rooms ask of an area of
 * one.
 *
 * Every such area maps a file, MAP_ANONYMOUS ones a file of their own.  A page is mapped by one
 * entry of the table at its size's level and never by single pages.  It is in the file (PG_FILE,
 * found by its index, which counts huge pages), or it is a private area's own copy (anonymous, and
 * found through the file's VMAs all the same: a private area keeps its distance from its file).
 * Neither is on an LRU list, in rss or in the page cache's counts.
 *
 * Locks, in their order:
 *   invalidate_lock   for reading: a fault, reading the file.  For writing: whoever takes a page
 *                     out of the file, or gives back what was promised for a page: no fault of any
 *                     area of the file is under way then
 *   fault lock        one of some, by file and index: of two faults on the same page one comes
 * after the other, so that the second does not take the last page of the pool i_mmap_lock,
 * page-table lock, tree_lock, resv_map->lock, hstate->lock
 */
#ifndef VMF_HUGETLB_HUGETLB_H
#define VMF_HUGETLB_HUGETLB_H

#include "engine/backing/page_cache.h"
#include "engine/engine.h"
#include "engine/fault/fault.h"
#include "engine/hugetlb/pool.h"
#include "engine/hugetlb/reserve.h"

static inline bool is_vm_hugetlb(const struct vma *vma)
{
	return unlikely(vma_flags(vma) & VM_HUGETLB);
}

/* ---- files (file.c) ---- */

/* A new file of `size` bytes, whole pages of h, open for reading and writing; it can be sealed if
 * `seals` are not MEMFD_SEAL_SEAL.  NULL: no memory. */
struct file *hugetlb_file_setup(struct hstate *h, u64 size, u32 seals);
bool mapping_is_hugetlb(const struct address_space *m);
/* The pool that a file's pages are of, or NULL: it is no such file. */
struct hstate *hstate_file(const struct file *file);
struct hstate *hstate_vma(const struct vma *vma);
/*
 * An area of such a file, with its file set, is about to be linked: its promises are taken, and the
 * file reaches as far as the area if that may be written.  0; -EINVAL: it begins at an offset
 * that is not one of a huge page; -ENOMEM: the pool cannot promise so much.  mmap_lock held for
 * writing.
 */
int hugetlb_file_mmap(struct vma *vma);

/* ---- faults (fault.c) ---- */

/* As handle_mm_fault(), in an area of such a file. */
unsigned hugetlb_fault(struct vm_fault_info *vmf);

/* ---- areas (area.c) ---- */

/* Can the area be cut at addr, which is inside it? */
bool hugetlb_may_split(const struct vma *vma, u64 addr);
/* `upper` was cut off `vma`. */
void hugetlb_vma_split(struct vma *upper, const struct vma *vma);
/* `moved` has what `vma` had, which goes. */
void hugetlb_vma_moved(struct vma *moved, struct vma *vma);
/* The area goes, its pages are gone: promises that were not used are given back. */
void hugetlb_vma_close(struct vma *vma);

/*
 * Unmap what is in [start, end), which is aligned, flush, and let go of it.  unmap: the area goes;
 * otherwise it is promised again what it had been.  mmap_lock for writing with `unmap`, else the
 * file's invalidate_lock for writing, or i_mmap_lock and that.
 */
void hugetlb_zap_range(struct vma *vma, u64 start, u64 end, bool unmap);
/* Give the area's entries the rights that its flags now say.  As change_protection(). */
void hugetlb_change_protection(struct vma *vma);
/* fork: what the area has its child's copy `to` has, too; a private one's pages are read-only in
 * both then.  0, -ENOMEM.  *flush: rights of the parent's went. */
int hugetlb_copy_range(struct vma *to, const struct vma *vma, bool *flush);
/* As move_tables(). */
int hugetlb_move_tables(struct vma *vma, u64 from, u64 to, u64 len);
/* MADV_DONTNEED of [start, end): what whole huge pages it has.  0, -EINVAL: it does not begin at
 * one.  mmap_lock held for reading. */
int hugetlb_dontneed(struct vma *vma, u64 start, u64 end);
/* What mincore(2) says of va: is a page mapped there, or, where there is not even a table, has the
 * file one?  (So does Linux 6.18.) */
bool hugetlb_in_core(const struct vma *vma, u64 va);
/* Is a page mapped at va, and may it be written if `write`? */
bool hugetlb_follow(const struct vma *vma, u64 va, bool write);

/* ---- userfaultfd (userfault.c); mmap_lock held ---- */

/*
 * A page for va, filled by copy(), which is given the page's bytes and how many they are.  0; what
 * copy() said; -EEXIST; -EFAULT: behind the file's end; -ENOMEM: no page.  wp: it is
 * write-protected.
 */
int hugetlb_mfill(struct vma *vma, u64 va, int (*copy)(void *ctx, void *to, u64 n), void *ctx,
		  bool wp);
/* Map the page that the file has for va.  0, -EFAULT (none), -EEXIST, -ENOMEM. */
int hugetlb_mcontinue(struct vma *vma, u64 va, bool wp);
/* Accesses to va are to fail.  0, -EEXIST, -ENOMEM. */
int hugetlb_mpoison(struct vma *vma, u64 va);
/* As uffd_wp_range(), aligned. */
int hugetlb_wp_range(struct vma *vma, u64 start, u64 end, bool protect);

/* ---- memory that fails (failure.c) ---- */

/* As memory_failure(), for a frame of a pool's page. */
int hugetlb_memory_failure(struct engine *e, struct page *frame);
/* The frame that the area has mapped at va, with a reference to its page; NULL: none. */
struct page *hugetlb_get_frame(const struct vma *vma, u64 va);

/* ---- checks (check.c) ---- */

/* A huge entry of such an area; panics with a message. */
void hugetlb_check_entry(const struct vma *vma, u64 va, pte_t pte);
/* All promises there are, files' and areas', against those the pools count, and the pools. */
void hugetlb_check(struct engine *e);

#endif
