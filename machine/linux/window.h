/* SPDX-License-Identifier: MIT */
/*
 * The window: where taken pages are until they are written out.
 *
 * UFFDIO_MOVE puts them here, one behind the other, in segments of MMU_BATCH pages; each thread
 * fills one of its own.  The window is registered with the program's own descriptor, so that the
 * kernel refuses the move while the program's layout is changing.  That descriptor reports
 * removals, so an agent thread that emptied the window with madvise() would wait for itself; a
 * used-up segment is therefore moved on to the thread's bin, which belongs to a second descriptor
 * without events, and dropped from there with others.  One flush for the move, and one for the bin.
 *
 * An empty page of the window must never be touched: nobody would serve that fault.
 */
#ifndef VMF_LINUX_WINDOW_H
#define VMF_LINUX_WINDOW_H

#include "engine/machine.h"

#define SEGMENT_SIZE (MMU_BATCH * PAGE_SIZE)
/* More than twice as many as there can be threads, each of which has one open; below 256. */
#define WINDOW_SEGMENTS 160

/* Make and register it; again in a forked child, with the pages it holds.  0 or negative errno. */
int window_init(void);
/* n <= MMU_BATCH empty pages, one behind the other, for pages that are taken; NULL: none. */
char *window_get(unsigned n);
/* n pages of the segment around `at` hold nothing that is needed any more.  Agent threads only. */
void window_put(char *at, unsigned n);
/* The thread of that index fills its segment no further.  By itself, or when it is not running. */
void window_close(unsigned thread);
/* Does this address lie in the window? */
bool window_holds(u64 where);

#endif
