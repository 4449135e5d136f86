/* SPDX-License-Identifier: MIT */
/* Which handlers listen, and how they are scheduled: see place.c. */
#ifndef VMF_LINUX_PLACE_H
#define VMF_LINUX_PLACE_H

#include "engine/base/types.h"

/* Before the first handler starts.  privileged: the scheduling policy may be changed at will. */
void place_start(bool privileged);
/* By who starts a handler; it listens. */
void place_handler_started(void);
/* By a handler: to its CPU, with its policy. */
void place_handler(unsigned index);
/* By another thread that works for them: its policy alone. */
void place_thread(void);
/* By a handler, when it was woken: waits while it is parked. */
void place_woken(unsigned index, bool in_vain);
/* By a handler: it has a fault of the thread `tid`. */
void place_served(unsigned index, int tid);
/* Nobody is parked from now on, for a while. */
void place_all_listen(void);
/* Is there one only that listens? */
bool place_one_listens(void);
/* By the keeper, at each tick. */
void place_check(void);

#endif
