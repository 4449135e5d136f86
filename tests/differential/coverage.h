/* SPDX-License-Identifier: MIT */
/*
 * What a run has reached: each call with each errno and each flag, each kind of signal, and the
 * rows of what is known of Linux (rows.def).  Only operations on which both sides agree count.
 */
#ifndef VMF_DIFFERENTIAL_COVERAGE_H
#define VMF_DIFFERENTIAL_COVERAGE_H

#include "tests/differential/record.h"
#include "tests/differential/support.h"

#define NR_ERRNOS  134 /* 0: success */
#define NR_WORDS   32  /* names of one kind of argument */
#define NR_SIGNALS 64
#define MAX_ROWS   420

struct coverage {
	u64 operations, skipped;
	u64 calls[NR_CALLS];
	u64 errnos[NR_CALLS][NR_ERRNOS];
	/* With a flag, or a value that has a name: by its place among the words of its kind. */
	u32 words[NR_CALLS][NR_ARG_KINDS][NR_WORDS][NR_ERRNOS];
	struct {
		struct record_signal signal; /* number, code, trap and error */
		u64 count;
	} signals[NR_SIGNALS];
	u64 rows[MAX_ROWS];
};

/* Count what a sequence did; both traces are the same. */
void coverage_count(struct coverage *c, const struct support *support,
		    const struct sequence *sequence, const struct trace *real,
		    const struct trace *engine);
void coverage_add(struct coverage *to, const struct coverage *from);

/* ---- rows.c ---- */

/* One operation, and what was there before and after. */
struct row_context {
	const struct support *support;
	const struct op *op;
	const struct record *record;
	const struct observation *before, *after; /* of its process; before: NULL at first */
	const struct op *last;			  /* what its process did before that, or NULL */
};

extern const unsigned nr_rows;
const char *row_name(unsigned row);
/* NULL, or why this kernel or the tester can never reach it. */
const char *row_exempt(unsigned row, const struct support *support);
void rows_count(u64 *rows, const struct row_context *context);

#endif
