/* SPDX-License-Identifier: MIT */
/*
 * Access patterns as sequences of page numbers, and the fewest misses that each can have.
 *
 * Pages are anonymous, or a file's.  Every sequence begins with a first touch of each of its
 * anonymous pages, in a mixed order; what is counted is what comes after that, so that each miss is
 * a page that was there and has gone, or one that has to be read for the first time.
 */
#ifndef VMF_BENCH_TRACE_H
#define VMF_BENCH_TRACE_H

#include "engine/base/types.h"

#define TRACE_HOT 0x80000000u /* of a reference: to the hot set, which has been warm before */

struct trace {
	const char *name, *what;
	u32 pages;	  /* touched, numbered from 0 */
	u32 anonymous;	  /* of these: all below; the others are a file's */
	u32 *refs;	  /* page numbers, some with TRACE_HOT */
	u64 n;		  /* of these the first `anonymous` are the first touches */
	bool looping;	  /* it comes to each page as late as can be */
	bool independent; /* nothing that was says which reference is next, but how often each was
			   */
	/* Or: so many times so many pages, drawn from all without regard to what was, are used. */
	u32 draws, drawn;
};

enum { NR_PATTERNS = 5 };

/* Pattern 0 .. NR_PATTERNS - 1 over `pages` pages: the same at every call. */
struct trace trace_make(unsigned pattern, u32 pages);
void trace_free(struct trace *t);

/* Misses after the first touches with `frames` frames: Belady's, who knows what comes. */
u64 trace_optimum(const struct trace *t, u32 frames);
/*
 * The same for who knows all that was and nothing of what comes, and so cannot on average be
 * bettered by anybody who does not either; 0: that is not known. independent  he keeps what was
 * used most often so far: the most probable pages, as far as anybody can tell (with the
 * probabilities told it is A0; Aho, Denning, Ullman 1971); drawn        of each page that is drawn
 * he has frames / pages, on average.
 */
u64 trace_blind(const struct trace *t, u32 frames);

#endif
