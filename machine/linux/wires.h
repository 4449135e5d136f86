/* SPDX-License-Identifier: MIT */
/*
 * Wires: nobody outruns the keeper before paging begins.  See wires.c.
 *
 * All but wires_room() is for the keeper alone.
 */
#ifndef VMF_LINUX_WIRES_H
#define VMF_LINUX_WIRES_H

#include "engine/base/types.h"

/* Wire all that could be managed, anew if it was before.  `most`: the resident bytes of the program
 * at which paging begins; `potential`: what it could touch.  0 or a negative errno. */
int wires_stretch(u64 most, u64 potential);
/* Have they been, and not ended since? */
bool wires_are_up(void);
/* Bytes that may become resident before paging has to begin; what may already be touched without
 * anybody's noticing is taken off. */
u64 wires_room(void);
/* A thread waits at a wire, for which there is no room left as far as is known. */
bool wires_tripped(void);
/* The keeper has done what it can do: who waits tries again. */
void wires_answer(void);
/* Let go of [start, start + len), all of it managed memory or free.  0 or a negative errno. */
int wires_release(u64 start, u64 len);
/* No room is asked for any more: what is still wired is let go as it is touched. */
void wires_end(void);
/* How many threads of the agent are there for this? */
unsigned wires_threads(void);
/* In a forked child, whose memory is not wired: nor does it have the parent's thread. */
void wires_forget(void);

#endif
