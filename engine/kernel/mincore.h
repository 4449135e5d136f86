/* SPDX-License-Identifier: MIT */
/* mincore(2) as a program calls it: what is there is told in its own memory. */
#ifndef VMF_KERNEL_MINCORE_H
#define VMF_KERNEL_MINCORE_H

#include "engine/kernel/uaccess.h"

/* A byte a page of [addr, addr + len) goes to the program's memory at vec.  0, or as do_mincore(),
 * or -EFAULT; what was told before an error stays.  No lock held. */
s64 sys_mincore(const struct uaccess *u, u64 addr, u64 len, u64 vec);

#endif
