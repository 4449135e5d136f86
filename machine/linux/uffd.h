/* SPDX-License-Identifier: MIT */
/* The calls of userfaultfd that the agent makes, without libc. */
#ifndef VMF_LINUX_UFFD_H
#define VMF_LINUX_UFFD_H

#include "engine/base/types.h"

/* A new descriptor with the features asked for; a negative errno. */
int uffd_open(u64 features);
/* Arm [start, start + len) for missing pages. */
int uffd_register(int fd, u64 start, u64 len);
int uffd_unregister(int fd, u64 start, u64 len);
/* Place pages.  Bytes placed from the first on (> 0), or a negative errno with none. */
s64 uffd_copy(int fd, u64 dst, const void *src, u64 len, bool wake);
int uffd_zeropage(int fd, u64 dst, u64 len);
/*
 * Move what is there of [src, src + len), leaving holes.  Bytes gone over, or a negative errno.
 *
 * Linux 6.18 moves a run of pages at once.  If it has to try a run again (a page was locked for a
 * moment), it takes the second try's success for another failure, tries a third time, and says
 * -EEXIST: of pages that it has moved.  So -EEXIST with nothing left at src means that src was
 * moved.
 */
s64 uffd_move(int fd, u64 dst, u64 src, u64 len);
void uffd_wake(int fd, u64 start, u64 len);
/* Accesses to the page get SIGBUS from now on. */
int uffd_poison(int fd, u64 va);

#endif
