/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of the program's that is paged.
 *
 * UFFDIO_COPY fills pages one by one, so what has been away comes back in single pages, and what
 * comes new comes so, too.  With --huge-pages keep the engine looks now and then for 2 MiB of which
 * all pages are there (khugepaged_scan()); those that still are the next time are put together
 * (MADV_COLLAPSE, Linux 6.1), and their pages are among those that go last.  When one of them has
 * to go after all the kernel splits the huge page (UFFDIO_MOVE does), and it may be made anew.
 */
#ifndef VMF_LINUX_HUGE_H
#define VMF_LINUX_HUGE_H

#include "engine/base/types.h"

struct mm;

/* Before the engine works.  0, -ENOMEM. */
int huge_init(void);
/* Keeper: is it time to look for some?  (Asked once each time.)  And at how many entries at most.
 */
bool huge_is_due(u64 now);
#define HUGE_LOOK_PAGES (4 * 512)
/* mmu_ops.collapse. */
int huge_collapse(struct mm *mm, u64 va);
/* A page there has gone: what is around it is not huge any more, nor is it about to be. */
void huge_broken(u64 va);

#endif
