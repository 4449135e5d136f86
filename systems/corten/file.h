/* SPDX-License-Identifier: MIT */
/*
 * Files for CortenMM, as small as its programs need them: a cache of pages over blocks on a disk,
 * or (in memory) the pages alone.  There is no way from a page of a file to the entries that map
 * it: who must take such pages away looks through the spaces.
 */
#ifndef VMF_SYSTEMS_CORTEN_FILE_H
#define VMF_SYSTEMS_CORTEN_FILE_H

#include "engine/backing/ramfile.h"
#include "systems/corten/memory.h"

struct corten_file {
	struct corten_memory *memory;
	_Atomic s64 users; /* who has it open, and each record that names it */
	bool in_memory;
	_Atomic int error[NR_RAMFILE_IO]; /* what its disk gives; 0: it works */
	spinlock_t resizing;		  /* held by who takes pages away, until all spaces know */
	spinlock_t lock;		  /* guards all below; inside the locks of tables */
	u64 size;			  /* bytes */
	u64 nr;				  /* pages that there is room for in the table */
	struct corten_block {
		struct page *page; /* in the cache, with a reference; NULL: it is not */
		bool dirty;	   /* differs from the disk, or may while it is mapped */
		char *disk;	   /* NULL: a hole */
	} * blocks;
};

/* Empty, with one user.  NULL: no memory. */
struct corten_file *corten_file_new(struct corten_memory *m, bool in_memory);
void corten_file_refer(struct corten_file *f, s64 n);

/* The page of the file, with a reference; *major: it was read.  `dirty`: to be written to.  0, -EIO
 * (its disk fails, or it is behind the file's end), -ENOMEM. */
int corten_file_page(struct corten_file *f, unsigned cpu, u64 index, bool dirty, struct page **page,
		     bool *major);

/* As pread(), pwrite(): bytes done, or an error with none. */
s64 corten_file_read(struct corten_file *f, unsigned cpu, u64 pos, void *bytes, u64 n);
s64 corten_file_write(struct corten_file *f, unsigned cpu, u64 pos, const void *bytes, u64 n);
/* Where pages that are gone now are mapped they are to be unmapped then.  0, -ENOMEM, -EIO. */
int corten_file_truncate(struct corten_file *f, u64 size);
/* [pos, end) reads as zeros, and whole pages of it are gone. */
int corten_file_punch(struct corten_file *f, u64 pos, u64 end);
int corten_file_sync(struct corten_file *f);
/* What is clean and not mapped leaves the cache.  How many. */
u64 corten_file_evict(struct corten_file *f);

#endif
