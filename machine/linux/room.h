/* SPDX-License-Identifier: MIT */
/* Making room: see room.c. */
#ifndef VMF_LINUX_ROOM_H
#define VMF_LINUX_ROOM_H

#include "engine/base/types.h"

/* By a handler that has served a fault which brought in `pages` pages, or one or two fewer: take
 * and write out as much, or see to it that another does.  No lock held. */
void room_make(unsigned pages);
/* By a handler that has to wait anyhow: write one page out, which the next room_make() need not.
 * False: there is none. */
bool room_write_ahead(void);
/* By a parked handler that was called to: write out what there is. */
void room_write_backlog(unsigned index);

#endif
