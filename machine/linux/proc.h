/* SPDX-License-Identifier: MIT */
/* What the kernel tells of this process in /proc, read without libc. */
#ifndef VMF_LINUX_PROC_H
#define VMF_LINUX_PROC_H

#include "engine/base/types.h"

struct proc_memory {
	u64 size, resident, shared; /* bytes; shared: of files and shared memory */
	u64 writable;		    /* bytes of private writable areas and the main stack */
};
/* From an open /proc/self/statm. */
int proc_memory(int statm, struct proc_memory *out);

struct proc_area {
	u64 start, end;
	bool read, write, exec, private;
	bool anonymous; /* no file behind it */
	char name[24];	/* "[heap]", "" or the beginning of a path */
};
/* Bytes that the program has locked (mlock), and that are pinned for the kernel's use of them, from
 * an open /proc/self/status.  0 or a negative errno. */
int proc_held(int status, u64 *locked, u64 *pinned);

/* Call fn for every line of an open /proc/self/maps, until it returns non-zero (handed back). */
int proc_areas(int maps, int (*fn)(const struct proc_area *a, void *ctx), void *ctx);

/* The CPU on which the thread `tid` of this process was last; or a negative errno. */
int proc_cpu_of(int tid);

struct proc_leader {
	bool ended;  /* the first thread: it has made the system call exit() */
	u64 threads; /* of the process, an ended first one included */
	int status;  /* as wait() gives it, if it has ended */
};
/* From an open stat of the process. */
int proc_leader(int stat, struct proc_leader *out);

/* Which of n <= 512 pages from va on are present (or swapped by the kernel), one flag a page.
 * 0 or a negative errno. */
int proc_present(int pagemap, u64 va, unsigned n, bool *present);
/* Is one at va?  Without a pagemap (-1: it is not readable without privileges) what the kernel has
 * swapped out is overlooked. */
bool proc_has_page(int pagemap, u64 va);

#endif
