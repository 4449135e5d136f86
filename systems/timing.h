/* SPDX-License-Identifier: MIT */
/*
 * How long something takes that is done often: how often, all together, at most, and the
 * distribution.  Who notes and who looks do it under a lock of their own.
 */
#ifndef VMF_SYSTEMS_TIMING_H
#define VMF_SYSTEMS_TIMING_H

#include "engine/base/types.h"

#define TIMING_CLASSES 40

struct timing {
	u64 count, total_ns, max_ns;
	/* [0]: how often 0 ns; [i]: 2^(i-1) ns or more, and less than 2^i; the last: or more */
	u64 classes[TIMING_CLASSES];
};

static inline void timing_note(struct timing *t, u64 ns)
{
	unsigned class = ns ? 64 - __builtin_clzll(ns) : 0;

	t->count++;
	t->total_ns += ns;
	t->max_ns = max_of(t->max_ns, ns);
	t->classes[min_of(class, TIMING_CLASSES - 1u)]++;
}

/* ns in which so many per cent were done: the end of a class, so up to twice what is true, or the
 * most there was.  0: nothing was done. */
static inline u64 timing_at(const struct timing *t, unsigned percent)
{
	u64 below = 0;

	for (unsigned i = 0; i < TIMING_CLASSES - 1 && t->count; i++) {
		below += t->classes[i];
		if (below * 100 >= t->count * percent)
			return min_of(1ULL << i, t->max_ns);
	}
	return t->max_ns;
}

#endif
