/* SPDX-License-Identifier: MIT */
/* Which handlers listen, and how they are scheduled: see place.c. */
#ifndef VMF_LINUX_PLACE_H
#define VMF_LINUX_PLACE_H

#include "engine/base/types.h"

/* Before the first handler starts.  privileged: the scheduling policy may be changed at will. */
void place_start(bool privileged);
/* By a handler: to its CPU, with its policy. */
void place_handler(unsigned index);
/* By a handler: sleeps while it is parked.  True: it is to listen; false: to write pages out, as
 * long as place_writes() says so and there are any, and then to call place_written(). */
bool place_wait(unsigned index);
bool place_writes(unsigned index);
void place_written(unsigned index);
/* Is any handler parked, or called to write? */
bool place_has_spare(void);
/* Have one that is parked write pages out, if none does. */
void place_call_spare(void);
/* Does one handler only listen? */
bool place_alone(void);
/* By a handler: it has a fault of the thread `tid`; the thread may go on. */
void place_begins(unsigned index, int tid);
void place_ends(unsigned index);
/* By a handler: it has work that nobody looks after, and does it with the program's priority; and
 * goes back to its policy. */
void place_busy_begins(void);
void place_busy_ends(void);
/* Nobody is parked from now on, for a while. */
void place_all_listen(void);
/* By any agent thread that has waited for milliseconds for what takes microseconds: whoever it
 * waits for may not get a CPU. */
void place_waits_long(void);
/* By the keeper, at each tick. */
void place_check(void);
/* By the keeper: has nobody faulted since it asked last? */
bool place_is_quiet(void);

#endif
