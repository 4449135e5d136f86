/* SPDX-License-Identifier: MIT */
/* One of the two that do a sequence: the kernel that runs, or the engine on the soft machine. */
#ifndef VMF_DIFFERENTIAL_SIDE_H
#define VMF_DIFFERENTIAL_SIDE_H

#include "tests/differential/record.h"
#include "tests/differential/support.h"

struct side {
	const char *name;
	/* Begin a sequence; it may go on in the background until finish(). */
	void (*start)(struct side *side, const struct sequence *sequence);
	/*
	 * Wait for its end.  The trace is valid until the next start().  If the side could not do
	 * all of it, `failure` says why, the first operation that was not done is RECORD_MISSING
	 * (all may be done, and the end failed), and the next sequence begins afresh.  NULL: there
	 * is not even a trace.
	 */
	const struct trace *(*finish)(struct side *side);
	void (*close)(struct side *side);
	/* Can the side do this operation at all? */
	bool (*can)(const struct side *side, const struct op *op);
	char failure[256]; /* of the last sequence; empty: none */
};

/* NULL: `why` (at least 160 bytes) says what is missing.  real_open() before the program has much
 * memory: its processes are forked from it. */
struct side *real_open(const struct support *support, char *why);
struct side *engine_open(const struct support *support, char *why);

#endif
