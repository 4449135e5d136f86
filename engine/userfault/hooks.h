/* SPDX-License-Identifier: MIT */
/* What the rooms that fault and change the layout call.  For a VMA or space that no context
 * watches, none of it is called, or all of it is one test. */
#ifndef VMF_USERFAULT_HOOKS_H
#define VMF_USERFAULT_HOOKS_H

#include "engine/fault/fault.h"
#include "engine/space/mm.h"

/* ---- faults (handle.c) ---- */

/*
 * The fault is the monitor's to serve: tell it, and sleep until woken.  reason: one of VM_UFFD.
 * VM_FAULT_RETRY, with the fault's lock dropped; or, with it held, VM_FAULT_SIGBUS (the context
 * does not serve such faults) or VM_FAULT_NOPAGE (it is just being released).
 */
unsigned handle_userfault(struct vm_fault_info *vmf, u32 reason);

/* Do writes to what the VMA's context has write-protected just take the protection away? */
bool userfaultfd_wp_async(const struct vma *vma);
enum uffd_wp_change {
	UFFD_WP_PROTECT,
	UFFD_WP_RESOLVE, /* what may be written to allows it at once */
	UFFD_WP_FORGET,	 /* the marks alone go: the first write to each page faults */
};
/* Write-protect what is mapped, swapped out or (see wp.c) not there yet of [start, end), which the
 * VMA holds, or take that back.  Flushed.  0, -ENOMEM (only to protect).  mmap_lock held. */
int uffd_wp_range(struct vma *vma, u64 start, u64 end, enum uffd_wp_change change);

/* ---- spaces ---- */

/* The space goes: no operation touches it from now on, and no VMA is left.  No lock held. */
void userfaultfd_exit(struct mm *mm);
/* The VMA, which is locked for that or not linked yet, is no context's any more. */
void userfaultfd_reset(struct vma *vma);

/* ---- events (events.c) ---- */

/* As below, where there are events to tell. */
void userfaultfd_unlock_and_tell(struct mm *mm);
/* up_write() of mmap_lock; then what was prepared under it is told, and the caller waits until it
 * has been read. */
static inline void mmap_write_unlock(struct mm *mm)
{
	if (likely(list_empty(&mm->userfault_events)))
		up_write(&mm->mmap_lock);
	else
		userfaultfd_unlock_and_tell(mm);
}

/* All of these prepare an event, mmap_lock held for writing. */

/* [start, end) is to be unmapped.  0, -ENOMEM. */
int userfaultfd_unmap_prep(struct mm *mm, u64 start, u64 end);
/* Does the VMA's context go with its memory when that moves? */
bool userfaultfd_follows(const struct vma *vma);
/* [from, from + len) of a VMA that has a context is to move.  0, -ENOMEM. */
int userfaultfd_remap_prep(const struct vma *vma, u64 from, u64 to, u64 len);
/* It has, to [to, to + len), and `moved` holds that now, and what it has been merged with. */
void userfaultfd_remap_done(struct vma *moved, u64 to, u64 len);
/* It (of any VMA, prepared or not) has not. */
void userfaultfd_remap_fail(const struct vma *vma);
/* `child`, in no tree yet, is a copy of vma, which has a context, without one.  0, -ENOMEM. */
int dup_userfaultfd(struct vma *child, const struct vma *vma);
/* There will be no child: take the events away; and when its space is destroyed, and no lock held,
 * forget them. */
void dup_userfaultfd_fail(struct mm *parent, struct list_head *events);
void dup_userfaultfd_forget(struct list_head *events);

/*
 * Pages of [start, end) of a VMA that has a context are to be removed.  mmap_lock held for reading.
 * True: go on.  False: it was told, and the lock was dropped for that; all is to be looked at anew.
 */
bool userfaultfd_remove(struct vma *vma, u64 start, u64 end);

#endif
