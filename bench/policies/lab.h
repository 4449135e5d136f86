/* SPDX-License-Identifier: MIT */
/* The figures of the laboratory, and the three forms in which they are told. */
#ifndef VMF_BENCH_LAB_H
#define VMF_BENCH_LAB_H

#include "bench/policies/trace.h"

enum { NR_LAB_POLICIES = 4, NR_LAB_SIZES = 3 };

struct lab_count {
	u64 misses;	/* major faults after the first touches */
	u64 hot_misses; /* of these: on the hot set, once it had been warm */
};

/* One pattern with one size of memory. */
struct lab_row {
	unsigned percent; /* memory, of the pages touched */
	u32 frames;
	u64 optimum;
	u64 blind; /* 0: not known */
	struct lab_count by[NR_LAB_POLICIES];
};

struct lab {
	const char *policies[NR_LAB_POLICIES];
	unsigned chosen; /* the default's index */
	u32 pages;
	struct {
		const char *name, *what;
		u64 refs; /* that are counted */
		bool looping;
		u32 hot; /* pages of its hot set, or 0 */
		struct lab_row rows[NR_LAB_SIZES];
	} patterns[NR_PATTERNS];
};

/* What is to be said of a row, of the default policy. */
enum lab_verdict {
	LAB_GOOD,    /* at most twice the optimum */
	LAB_BLIND,   /* more, and so has everybody who cannot see what comes; near to that */
	LAB_LOOP,    /* more, of a loop larger than memory */
	LAB_FLUSHED, /* a tenth of the hot set or more was lost while it was in use */
	LAB_MISSED,  /* more than twice the optimum, without an excuse */
};

static inline double lab_ratio(const struct lab_row *r, unsigned policy)
{
	return (double)r->by[policy].misses / (double)r->optimum;
}
enum lab_verdict lab_judge(const struct lab *lab, unsigned pattern, unsigned row);
const char *lab_verdict_text(enum lab_verdict v);

void lab_table(const struct lab *lab);
void lab_json(const struct lab *lab);
void lab_html(const struct lab *lab);

#endif
