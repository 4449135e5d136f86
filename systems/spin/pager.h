/* SPDX-License-Identifier: MIT */
/*
 * An extension over the memory services: a memory object with a pager of its own.  Its pages are in
 * a range of a space; each gets a frame when it is first touched, is written back by the pager when
 * the frame is taken away or the object needs it for another, and read back at the next fault.
 */
#ifndef VMF_SPIN_PAGER_H
#define VMF_SPIN_PAGER_H

#include "engine/base/types.h"

struct system;
struct spin_pager;

/* What the object's page holds before anybody has written to it: *bytes, full of zeros, are to be
 * filled.  By a thread that faults, and at once for several pages.  NULL: zeros. */
typedef void (*spin_fill_fn)(void *arg, u64 page, void *bytes);

/* An object of so many pages for the space of `process`, which the extension was given.  0;
 * -ENOMEM; as spin_virt_allocate() and spin_install(). */
int spin_pager_create(struct system *s, u32 extension, unsigned process, u64 pages,
		      spin_fill_fn fill, void *arg, struct spin_pager **pager);
/* Nobody touches its pages any more; before its system ends. */
void spin_pager_destroy(struct spin_pager *p);
/* The frame that the page has, or had last; 0: none. */
s64 spin_pager_frame(struct spin_pager *p, u64 page);
u64 spin_pager_address(const struct spin_pager *p);
/* Pages written back so far, and read back. */
u64 spin_pager_written(const struct spin_pager *p);
u64 spin_pager_read(const struct spin_pager *p);

#endif
