/* SPDX-License-Identifier: MIT */
/*
 * Who writes dirty pages of files, and when.
 *
 * Reclaim writes anonymous pages and shared memory only.  A dirty page of a file is a flusher's:
 * reclaim that meets one asks for it to be written, and waits for that when it meets many.  A
 * flusher is a thread of the machine's that goes round in flusher_run(); where there is none, who
 * has to wait does the round himself.
 *
 * A round goes from file to file, the one that has been dirty longest first, and writes
 *   files that have been dirty for longer than config.dirty.expire_ns;
 *   more, while more than config.dirty.background pages are dirty in all, or somebody waits.
 * Who makes pages dirty waits while more than config.dirty.limit are.
 */
#ifndef VMF_BACKING_FLUSHER_H
#define VMF_BACKING_FLUSHER_H

#include "engine/base/list.h"
#include "engine/base/lock.h"

struct address_space;
struct engine;

/* 0: there is no such limit. */
struct dirty_limits {
	u64 background, limit; /* pages of files that are written back */
	u64 expire_ns;
};

struct flusher {
	spinlock_t lock;	/* guards the list; inside every tree_lock */
	struct list_head dirty; /* address_space->dirty_link, the longest dirty first */
	_Atomic u64 nr_dirty;	/* pages, of all files that are written back */
	_Atomic u64 wanted;	/* pages that somebody waits for */
	_Atomic u64 written;	/* pages, ever, by whoever */
	_Atomic u32 news;	/* what the threads sleep on: bit 0: there is something to do */
	_Atomic u32 rounds;	/* done, ever; what others sleep on */
	_Atomic u32 threads;
};

void flusher_init(struct flusher *f);

/* ---- for the machine's threads ---- */

/* This thread goes round from now on, and not any more. */
void flusher_enter(struct engine *e);
void flusher_leave(struct engine *e);
/* Sleep until somebody wants a round; may return early.  A machine that also wants files to be
 * written because of their age has the thread go round at times besides (flusher_wake()). */
void flusher_wait(struct engine *e);
/* One round, at this time (of machine_now_ns()).  Pages written.  No lock held that a writer of
 * the file's disk wants; page locks are tried only. */
u64 flusher_run(struct engine *e, u64 now);

/* ---- for the others ---- */

void flusher_wake(struct engine *e);
/* So many more pages are wanted clean.  Any lock may be held. */
void flusher_ask(struct engine *e, u64 pages);
/* Wait for a round, or do one: true if pages were written meanwhile.  Page locks may be held. */
bool flusher_wait_for_round(struct engine *e);
/* Somebody makes pages dirty: he waits while there are too many.  No lock held from invalidate_lock
 * on. */
void balance_dirty_pages(struct engine *e);
/* m's count of dirty pages has changed by n; tree_lock held. */
void flusher_count(struct address_space *m, s64 n);
/* m is going; nobody has it any more. */
void flusher_forget(struct address_space *m);

#endif
