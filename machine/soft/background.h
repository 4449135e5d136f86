/* SPDX-License-Identifier: MIT */
/*
 * Threads of the soft machine's that work beside its CPUs: a background reclaimer for each node,
 * and, when asked, one that makes huge pages (as khugepaged) and one that makes pages ask which
 * node uses them (what Linux has its tasks do now and then).
 */
#ifndef VMF_SOFT_BACKGROUND_H
#define VMF_SOFT_BACKGROUND_H

#include "machine/soft/soft.h"

struct soft_background;

/* A slice of work, and a rest after it. */
struct soft_slices {
	u64 pages;   /* looked at in a slice; 0: there is no such thread */
	unsigned us; /* of rest; 0: SOFT_REST_US */
};
#define SOFT_REST_US 1000

struct soft_background_options {
	struct soft_slices collapse; /* of all spaces together: khugepaged_scan() */
	struct soft_slices numa;     /* of each space: numa_scan() */
};

/* They look after the machine from now on; options NULL: reclaimers alone.  0, -ENOMEM, -EAGAIN
 * (the host has no thread). */
int soft_background_start(struct soft_machine *m, const struct soft_background_options *options,
			  struct soft_background **background);
/* When it returns they have ended. */
void soft_background_stop(struct soft_background *b);

#endif
