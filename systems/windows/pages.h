/* SPDX-License-Identifier: MIT */
/*
 * The frame database and the way of a page out of memory: trim, write, use the frame for another.
 *
 * All with the lock of `struct nt` held, unless said; some drop it in between, and say so: what was
 * known of an entry before must be looked at again.
 */
#ifndef VMF_SYSTEMS_WINDOWS_PAGES_H
#define VMF_SYSTEMS_WINDOWS_PAGES_H

#include "systems/windows/nt.h"

/* Frames taken from the machine, the lists, the page file.  0, -ENOMEM.  No lock. */
int mi_init_pages(struct nt *k);
void mi_fini_pages(struct nt *k);

void nt_lock(struct nt *k);
void nt_unlock(struct nt *k);

/* The entry of an address in one of the regions, NULL: it is in none.  No lock. */
pte_t *mi_entry_at(const struct nt *k, u64 va);
/* Does the hardware find a page there to push a trap frame to?  Its walk, not ours: nothing is
 * counted.  No lock. */
bool mi_can_be_pushed_to(struct nt *k, u64 va);
/* Of an entry that is valid or transition. */
struct mi_frame *mi_frame_of(struct nt *k, pte_t entry);
void *mi_bytes(const struct nt *k, const struct mi_frame *f);
/* All CPUs forget their translations of [start, end). */
void mi_flush(struct nt *k, u64 start, u64 end);

/* A free frame, or the oldest on standby, whose owner then has its slot.  NULL: neither is there.
 * It is nobody's. */
struct mi_frame *mi_take_frame(struct nt *k);
/* The frame is free, and its slot: no entry names it. */
void mi_release_frame(struct nt *k, struct mi_frame *f);
void mi_release_slot(struct nt *k, u64 slot);
/* The frame is the page's of that owner, whose entry becomes valid; it leaves its list. */
void mi_activate(struct nt *k, struct mi_frame *f, pte_t *owner);
/* No view maps the prototype's page: it goes as a trimmed one. */
void mi_drop_prototype(struct nt *k, struct mi_frame *f);

/* The address leaves the working set.  False: it stays, for it is not valid, not pageable, or
 * locked. */
bool mi_trim(struct nt *k, u64 va);
/* Every address that can leave it does.  Takes the lock itself. */
void mi_trim_all(struct nt *k);
/* The oldest modified page goes to the page file, and to standby.  0, -ENOENT (there is none),
 * -ENOSPC, -EIO.  Drops the lock; below DISPATCH_LEVEL. */
int mi_write_modified(struct nt *k, unsigned cpu);
/* A frame is to be had: 0, or -ENOMEM.  Drops the lock; below DISPATCH_LEVEL. */
int mi_make_room(struct nt *k, unsigned cpu);
/* From the page file into the frame.  0, -EIO.  Drops the lock. */
int mi_read_page(struct nt *k, unsigned cpu, u64 slot, struct mi_frame *f);

/* Until reading or writing the frame has ended; drops the lock. */
void mi_wait_for_io(struct nt *k, struct mi_frame *f);

/* The page of the entry becomes active, whatever state it is in but MI_NOTHING and MI_PROTOTYPE.
 * 0; -EAGAIN: the lock was dropped, look again; -ENOMEM, -EIO.  access_fault.c. */
int mi_resolve(struct nt *k, unsigned cpu, pte_t *owner);

/* All frames on standby are free, and their pages in the page file alone. */
void mi_empty_standby(struct nt *k);
/* The entry is no more, nor the page if it is the owner: then no view maps it.  Drops the lock
 * while the page is being read or written. */
void mi_delete_entry(struct nt *k, pte_t *ptep);
/* What is in these pages of a region is no more: entries, frames, slots.  Drops the lock while one
 * is being read or written. */
void mi_delete(struct nt *k, u64 va, u64 pages);
/* Room for so many pages in the region: the address, 0: there is none. */
u64 mi_take_range(struct nt *k, enum nt_region_type type, u64 pages, u32 tag);
/* Zeros, when they are touched, that may be written to; nothing is there. */
void mi_promise(struct nt *k, u64 va, u64 pages);
/* What begins at that address: how many pages, 0: nothing does. */
u64 mi_range_at(const struct nt *k, enum nt_region_type type, u64 va);
void mi_release_range(struct nt *k, enum nt_region_type type, u64 va);

#endif
