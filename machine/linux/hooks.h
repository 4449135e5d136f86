/* SPDX-License-Identifier: MIT */
/*
 * What the program tells us by calling libc: that it grows, and a few kinds of advice that leave no
 * other trace.  The sampling keeper does not depend on it; it bounds by how much memory a program
 * can outrun the sampling.
 */
#ifndef VMF_LINUX_HOOKS_H
#define VMF_LINUX_HOOKS_H

#include "engine/base/types.h"

/* Replace libc's mmap, brk, mprotect, mremap and madvise in place, also for libc's own calls. While
 * there is one thread only.  Does nothing with a libc it does not know. */
void hooks_install(void);
/* The same for one function: `with` must do all that it does. */
void hooks_replace(const char *name, void *with);
/* In a forked child: another thread of the parent may have held a lock. */
void hooks_reset(void);
/* By a forking thread: no mremap() is under way when hold returns, and none starts until release.
 */
void hooks_hold_moves(void);
void hooks_release_moves(void);
/* Is one under way? */
bool hooks_moving(void);
/* At start-up, when the keeper runs: what the program was loaded with is growth, too. */
void hooks_look(void);
/* mremap() by libc's syscall(). */
long hooks_mremap(long nr, long old, long old_len, long new_len, long flags, long to);
/* Bytes that were mapped since the last scan began. */
u64 hooks_grown(void);
/* A move failed, for what the keeper has made of the area: the range that it is to let go of before
 * the scan is done.  False: there is none. */
bool hooks_unwire_asked(u64 *start, u64 *len);
/* Does a thread wait for a scan? */
bool hooks_scan_asked(void);
/* By the keeper: a scan begins, and is done (or could not be: whoever waits goes on all the same).
 */
void hooks_scan_begins(void);
void hooks_scan_done(void);
/* Will the child of a fork find this page empty (MADV_WIPEONFORK)? */
bool hooks_wiped_on_fork(u64 va);
/* Call fn for each range that is. */
void hooks_each_wiped(void (*fn)(u64 start, u64 end));

#endif
