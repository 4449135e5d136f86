/* SPDX-License-Identifier: MIT */
/*
 * Files on persistent memory, mapped directly: no page cache, the device's own frames are what
 * programs see.
 *
 * A device is a run of frames that the engine has nothing to do with: they are on no list, have no
 * map count, and entries that map them are special (PTE_SPECIAL).  A file is a map from its pages
 * to blocks of the device, one frame each; what has no block is a hole and reads as zeros.
 *
 * The device gives blocks so that 2 MiB of a file lie side by side, aligned to 2 MiB (a run), where
 * it can: then one huge entry maps them (fault/dax_huge.c).  Such an entry is special, too, and is
 * never split: it is dropped, and what comes back comes by faults.
 *
 * What a crash leaves: the bytes of every block (whoever cares flushes his CPU's caches), but of
 * the maps, the files' metadata, only what was synced.  So who has written to a block that a map
 * has only got since then would lose it; a MAP_SYNC mapping syncs before it lets the first write
 * in.
 *
 * Locks: the mapping's invalidate_lock for reading while a block is looked up and mapped, for
 * writing while blocks go; then the entries' lock, i_mmap_lock, page-table locks, file->lock, the
 * device's.
 */
#ifndef VMF_BACKING_DAX_H
#define VMF_BACKING_DAX_H

#include "engine/backing/page_cache.h"
#include "engine/space/mm.h"

struct dax_device;

/* 2^order frames of the program's zone, taken for good until it is destroyed; no file is left then.
 * NULL: no such block, no memory, or the machine has no direct map. */
struct dax_device *dax_device_create(struct engine *e, unsigned order);
void dax_device_destroy(struct dax_device *d);
u64 dax_device_free(struct dax_device *d);

/* A new, empty file on it, open for reading and writing.  NULL: no memory. */
struct file *dax_file_create(struct dax_device *d);
bool mapping_is_dax(const struct address_space *m);
static inline bool vma_is_dax(const struct vma *vma)
{
	return vma->file && mapping_is_dax(vma->file->mapping);
}

/* From the look at a block until the entry for it is written, or all entries for a hole are gone:
 * no other thread is in between. */
void dax_lock_entries(struct address_space *m);
void dax_unlock_entries(struct address_space *m);
/*
 * The block of the file's page at index: its pfn, or NO_PFN: a hole.  make: a hole gets one, of
 * zeros, and *made is set; -ENOSPC.  invalidate_lock held.
 */
int dax_get_block(struct address_space *m, u64 index, bool make, u64 *pfn, bool *made);
/* What a file has for 2 MiB of it. */
enum dax_range {
	DAX_HOLE, /* no block at all */
	DAX_RUN,  /* blocks side by side, aligned: a huge entry can map them */
	DAX_MIXED,
};
/*
 * What the HUGE_PAGES pages of the file from index on, a multiple of that, have; for a run *pfn is
 * the first block's.  make: a hole gets a run of zeros, and *made is set; it stays a hole if the
 * device has none, or without memory.  invalidate_lock held.
 */
enum dax_range dax_get_range(struct address_space *m, u64 index, bool make, u64 *pfn, bool *made);
/* The block at index is about to be written to through a mapping: sync write-protects it again.  A
 * huge entry is marked by its first block.  Entries' lock held until the entry is written. */
void dax_mark_dirty(struct address_space *m, u64 index);
bool dax_is_marked(struct address_space *m, u64 index);
/* Has the map got blocks that a crash would lose? */
bool dax_metadata_dirty(struct address_space *m);
/* A write through this area must wait: MAP_SYNC, and the map that has the block would not survive a
 * crash. */
static inline bool dax_needs_sync(const struct vma *vma)
{
	return (vma->flags & VM_SYNC) && dax_metadata_dirty(vma->file->mapping);
}
/* As fsync(2): write-protect what was written to of pages [start, end), and make the map last. */
void dax_sync(struct address_space *m, u64 start, u64 end);

/* As if power had failed: the map is what it was when it was last synced.  Nobody maps the file. */
void dax_crash(struct address_space *m);

#endif
