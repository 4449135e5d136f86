/* SPDX-License-Identifier: MIT */
/*
 * A swap area of the tester's own on a zram device, in a kernel that has no other.  It is the whole
 * system's while it is there.
 */
#ifndef VMF_DIFFERENTIAL_SWAP_AREA_H
#define VMF_DIFFERENTIAL_SWAP_AREA_H

#include "engine/base/types.h"

/* In the keeper: NULL, or why there can be none.  Pages come back alone (vm.page-cluster is 0). */
const char *swap_area_make(void);
bool swap_area_remove(void);

/* In another process: which area is it?  False: there is none. */
bool swap_area_find(void);
/* 0, or a negative errno. */
int swap_area_swapoff(void);
int swap_area_swapon(void);

#endif
