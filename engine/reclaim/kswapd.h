/* SPDX-License-Identifier: MIT */
/*
 * The background reclaimers: a thread for each node, which sleeps while the node has frames enough.
 *
 * An allocation that leaves its node with fewer than the node's share of `low` frames free wakes
 * it; it frees until there is the share of `high`.  So those who allocate find memory and need not
 * reclaim themselves, which they do below `min` (direct reclaim).  When it has found nothing that
 * could go so many times in a row (KSWAPD_FAILURES, as in Linux), it is not woken any more until
 * direct reclaim has freed something.
 *
 * The threads are the machine's.  Where there is none, reclaim_step() after a fault does the work.
 */
#ifndef VMF_RECLAIM_KSWAPD_H
#define VMF_RECLAIM_KSWAPD_H

#include "engine/base/types.h"

struct engine;

#define KSWAPD_FAILURES 16

struct kswapd {
	_Atomic u32 threads;	  /* that look after the node */
	_Atomic u32 news;	  /* what they sleep on: there is something to do */
	_Atomic u32 failures;	  /* runs that freed nothing, in a row */
	_Atomic u64 woken, freed; /* times, and frames, ever */
};

/* ---- for the machine's threads ---- */

/* This thread looks after the node from now on, and not any more. */
void kswapd_enter(struct engine *e, unsigned nid);
void kswapd_leave(struct engine *e, unsigned nid);
/* Sleep until the node is short of frames, or kswapd_wake(). */
void kswapd_wait(struct engine *e, unsigned nid);
/* Free until it is not.  Returns frames freed; 0: nothing can go.  No lock held. */
u64 kswapd_run(struct engine *e, unsigned nid);
/* Whatever there is to do. */
void kswapd_wake(struct engine *e, unsigned nid);

/* ---- for direct reclaim ---- */

/* There is something that can go after all. */
void kswapd_try_again(struct engine *e);

#endif
