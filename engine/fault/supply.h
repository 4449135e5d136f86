/* SPDX-License-Identifier: MIT */
/* Pages whose bytes somebody else brings, where a program finds nothing yet. */
#ifndef VMF_FAULT_SUPPLY_H
#define VMF_FAULT_SUPPLY_H

#include "engine/base/types.h"

struct mm;

/* May a page be supplied at that address?  0; -ENOENT: there is no private anonymous area;
 * -EEXIST: a page is there, or was and has gone elsewhere.  Takes mmap_lock. */
int supply_check(struct mm *mm, u64 va);
/* Map a page with these PAGE_SIZE bytes there, at once and whole.  0; as supply_check(); -ENOMEM;
 * -EAGAIN.  Takes mmap_lock and may reclaim. */
int supply_page(struct mm *mm, u64 va, const void *bytes);

#endif
