/* SPDX-License-Identifier: MIT */
/*
 * The window: where taken pages are until they are written out.
 *
 * UFFDIO_MOVE puts them here, at the same place within a segment of MMU_BATCH pages as they had in
 * the program.  The window is registered with the program's own descriptor, so that the kernel
 * refuses the move while the program's layout is changing.  That descriptor reports removals, so
 * an agent thread that emptied the window with madvise() would wait for itself; a used-up segment
 * is therefore moved on to the bin, which belongs to a second descriptor without events, and
 * dropped from there.  One flush each for all of its pages.
 *
 * An empty page of the window must never be touched: nobody would serve that fault.
 */
#ifndef VMF_LINUX_WINDOW_H
#define VMF_LINUX_WINDOW_H

#include "engine/machine.h"

#define SEGMENT_SIZE	(MMU_BATCH * PAGE_SIZE)
#define WINDOW_SEGMENTS 64

/* Make and register it; again in a forked child, with the pages it holds.  0 or negative errno. */
int window_init(void);
/* A segment of MMU_BATCH empty pages for pages that are taken; NULL: none. */
char *window_get(void);
/* n pages of the segment around `at` hold nothing that is needed any more.  Agent threads only. */
void window_put(char *at, unsigned n);
/* Does this address lie in the window? */
bool window_holds(u64 where);

#endif
