/* SPDX-License-Identifier: MIT */
/*
 * A file that is open: what it may be used for, and its contents (page_cache.h).
 *
 * All calls here may sleep; the caller holds no lock of the engine but, where it says so,
 * mmap_lock. Positions and lengths are bytes.
 */
#ifndef VMF_BACKING_FILE_H
#define VMF_BACKING_FILE_H

#include "engine/base/types.h"

struct address_space;

enum file_mode {
	FILE_READ = 1u << 0,
	FILE_WRITE = 1u << 1,
	FILE_NOEXEC = 1u << 2, /* where it lies nothing may be executed */
};

struct file {
	_Atomic u32 refcount;	       /* one for each VMA, and for whoever has it open */
	u32 mode;		       /* enum file_mode: as it was opened */
	struct address_space *mapping; /* NULL: none can be had, as of a directory or a pipe */
	_Atomic u32 wb_seen; /* mapping->wb_err when its errors were last told to this file */
};

/* Open the file behind a mapping once more; the mapping gets a reference of the file's own.
 * NULL: no memory. */
struct file *file_open(struct address_space *mapping, u32 mode);
/* Another reference to a file that has one; returns it.  Any lock may be held. */
struct file *file_get(struct file *file);
/* Drop one.  The last closes the file, and if it was the mapping's last, the contents go, too.
 * mmap_lock may be held. */
void file_put(struct file *file);

u64 file_size(const struct file *file);
/* As pread(2) and pwrite(2): bytes done, or -EBADF (not open for that), -EIO, -ENOSPC, -ENOMEM,
 * -EFBIG, -EPERM (sealed: memfd.h); an error after some bytes were done comes with the next call.
 */
s64 file_read(struct file *file, u64 pos, void *buf, u64 n);
s64 file_write(struct file *file, u64 pos, const void *buf, u64 n);
/* What write(2) does to a file before it has copied a byte: the page at pos is there and dirty, and
 * the file reaches to pos.  0, or as file_write(). */
int file_begin_write(struct file *file, u64 pos);
/*
 * As ftruncate(2).  Pages beyond the new end are unmapped everywhere, private copies of them, too;
 * what is left of the last page reads zeros.  0, -EINVAL (not open for writing), -EFBIG, -EPERM
 * (sealed).
 */
int file_truncate(struct file *file, u64 size);
/* As fallocate(2) with FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE: the bytes become zeros, private
 * copies stay.  0, -EBADF, -EINVAL (len 0), -EFBIG, -EPERM (sealed), -ENOMEM, -EIO (a page at an
 * edge). */
int file_punch_hole(struct file *file, u64 pos, u64 len);
/*
 * As fsync(2) for the bytes [start, end): write out what is dirty, write-protect what is mapped,
 * and tell of each error of writing once to each open file.  0, -EIO, -ENOSPC.  mmap_lock may be
 * held.
 */
int vfs_fsync_range(struct file *file, u64 start, u64 end);

#endif
