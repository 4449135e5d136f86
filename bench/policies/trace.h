/* SPDX-License-Identifier: MIT */
/*
 * Access patterns as sequences of page numbers, and the fewest misses that each can have.
 *
 * Every sequence begins with a first touch of each of its pages, in a mixed order; what is counted is
 * what comes after that, so that each miss is a page that was there and has gone.
 */
#ifndef VMF_BENCH_TRACE_H
#define VMF_BENCH_TRACE_H

#include "engine/base/types.h"

#define TRACE_HOT 0x80000000u /* of a reference: to the hot set, which has been warm before */

struct trace {
	const char *name, *what;
	u32 pages;  /* touched, numbered from 0 */
	u32 *refs;  /* page numbers, some with TRACE_HOT */
	u64 n;	    /* of these the first `pages` are the first touches */
	double *p;  /* [pages], falling: of independent references; or NULL: they are not */
	bool looping; /* it comes to each page as late as can be */
};

enum { NR_PATTERNS = 5 };

/* Pattern 0 .. NR_PATTERNS - 1 over `pages` pages: the same at every call. */
struct trace trace_make(unsigned pattern, u32 pages);
void trace_free(struct trace *t);

/* Misses after the first touches with `frames` frames: Belady's, who knows what comes. */
u64 trace_optimum(const struct trace *t, u32 frames);
/* The same, expected, for who knows all but what comes: he keeps the most probable pages (A0; Aho,
 * Denning, Ullman 1971).  Fewer nobody can have on average.  0: not of independent references. */
double trace_best_blind(const struct trace *t, u32 frames);

#endif
