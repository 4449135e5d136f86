/* SPDX-License-Identifier: MIT */
/* A run of the tester: many sequences, on several pairs of sides at once. */
#ifndef VMF_DIFFERENTIAL_SESSION_H
#define VMF_DIFFERENTIAL_SESSION_H

#include "tests/differential/coverage.h"
#include "tests/differential/trial.h"

#define MAX_JOBS     64
#define MAX_REPLAYED 4096

struct session_options {
	u64 operations; /* at least so many */
	u64 seed;
	u64 first; /* number of the first sequence: a run can be taken up anywhere */
	unsigned jobs;
	unsigned shrink_seconds;
	/* Sequences from files, in place of random ones; NULL: none. */
	const struct sequence *replayed;
	const char *const *names; /* of the files */
	unsigned nr_replayed;
};

enum session_end {
	SESSION_SAME,
	SESSION_MISMATCH, /* `text` is a test, `what` a line about it */
	SESSION_TROUBLE,  /* nothing can be said: `what` says why */
};

struct session_result {
	enum session_end end;
	char what[640];
	char text[24 << 10];
	u64 number; /* of the sequence that failed */
	u64 sequences;
	u64 undone;   /* sequences of files that one of the sides cannot do */
	u64 unsteady; /* sequences that differed once, and then did not, or the system had changed
		       */
	double seconds;
	u64 real_ns, engine_ns; /* time of each side, over all jobs */
	u64 masked[MAX_MASKS];
	struct coverage coverage;
	struct support support;
};

/* Leaves no process behind, whatever happens. */
void session_run(const struct session_options *options, struct session_result *result);

/* ---- report.c ---- */

/* The result for a person, on stdout. */
void report_print(const struct session_options *options, const struct session_result *result);

#endif
