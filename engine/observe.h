/* SPDX-License-Identifier: MIT */
/*
 * The engine watched at its work: who sets engine->observer is told of each step of a fault where
 * it is made.  For laboratories and for showing; nothing of the engine depends on it.
 */
#ifndef VMF_OBSERVE_H
#define VMF_OBSERVE_H

#include "engine/base/types.h"

enum engine_step {
	STEP_LOCK_VMA,	   /* found, and its own lock taken for reading */
	STEP_LOCK_SPACE,   /* mmap_lock taken for reading */
	STEP_ACCESS_ERROR, /* the VMA forbids the access, or there is none */
	STEP_HANDLE_FAULT,
	STEP_READ_TABLES, /* by a walk, or of its end: n entries; where a table is missing, too */
	STEP_ALLOC_TABLE,
	STEP_ANONYMOUS, /* the four ways on */
	STEP_FILE,
	STEP_SWAP_IN,
	STEP_WRITE_PROTECTED,
	STEP_USERFAULT,	   /* it is left to a monitor */
	STEP_ALLOC_FRAMES, /* n */
	STEP_ZERO,	   /* n pages */
	STEP_COPY,	   /* a page */
	STEP_MAP,	   /* n entries set */
	STEP_FILE_READ,	   /* a page, from a file's disk */
	STEP_FILE_WRITTEN, /* the same to it */
	/* What was taken is in its store and its frame free; va: as page->index has it.  Of the
	 * locks of reclaim none is held, nor a page-table lock. */
	STEP_WRITTEN_OUT,
	NR_ENGINE_STEPS
};

struct engine_observer {
	/* Called on the thread that takes the step, with whatever locks it holds: no lock of the
	 * engine may be taken. */
	void (*step)(struct engine_observer *o, enum engine_step step, u64 va, u64 n);
};

/* For the engine. */
#define observe(e, what, va, n)                                                                    \
	do {                                                                                       \
		struct engine_observer *o_ = (e)->observer;                                        \
		if (unlikely(o_))                                                                  \
			o_->step(o_, what, va, n);                                                 \
	} while (0)

#endif
