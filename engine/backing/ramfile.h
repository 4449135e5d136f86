/* SPDX-License-Identifier: MIT */
/*
 * Files on a disk that is memory: blocks of one page each, holes between them, room that can run
 * out and errors to order.  All else about them is the page cache's.
 */
#ifndef VMF_BACKING_RAMFILE_H
#define VMF_BACKING_RAMFILE_H

#include "engine/backing/file.h"

struct engine;

/* A new, empty file, open for `mode`; its disk has room for so many blocks.  NULL: no memory, or
 * the machine has no direct map of programs' pages. */
struct file *ramfile_create(struct engine *e, u32 mode, u64 room);

enum ramfile_io { RAMFILE_READ, RAMFILE_WRITE, NR_RAMFILE_IO };

/* From now on, reading (writing) pages [first, first + n) of the file's disk fails with err,
 * -EIO or -ENOSPC; err 0: no more.  One order for reading and one for writing. */
void ramfile_fail(struct file *file, enum ramfile_io io, u64 first, u64 n, int err);
/* Pages read from and written to the disk, and blocks that it holds. */
u64 ramfile_count(const struct file *file, enum ramfile_io io);
u64 ramfile_blocks(const struct file *file);

#endif
