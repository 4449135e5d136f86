/* SPDX-License-Identifier: MIT */
/* What happened in a run: the report's slots, put together. */
#ifndef VMF_TOOLS_FIGURES_H
#define VMF_TOOLS_FIGURES_H

#include "machine/linux/report.h"
#include "tools/options.h"
#include "tools/spawn.h"

#define MAX_NOTES 16

/* What a process had to say. */
struct note {
	s32 pid;
	char program[64];
	char text[160];
	bool stopped; /* its paging had to stop */
};

/*
 * Limits hold for each process, and so what is compared with them is the largest of any process;
 * counts of events are sums over all.
 */
struct figures {
	const struct run_options *options;
	struct outcome outcome;

	unsigned processes; /* the agent was in; an exec'd program counts anew */
	unsigned paged;	    /* of those, reached their limit */
	unsigned stopped;   /* of those, paging had to stop */
	unsigned untold;    /* more, which found no slot */

	u64 peak_resident, agent;    /* largest */
	u64 end_resident;	     /* of the program that was started, at its end */
	u64 unmanaged[NR_UNMANAGED]; /* largest */

	u64 raw, stored, kept, native; /* sums */
	struct engine_stats events;    /* sums */
	struct {
		u64 pages, ns;
	} written[NR_ROOM_WRITERS]; /* sums */
	u64 latency[LATENCY_BUCKETS], latency_max;

	struct note notes[MAX_NOTES];
	unsigned nr_notes;
};

/* The report file: an anonymous one that only descriptors name, mapped.  NULL: one line said. */
void *report_create(int *fd);

void figures_sum(struct figures *f, const void *report, const struct run_options *options,
		 const struct outcome *outcome);

/* The service time that `part` (0.5, 0.99 ...) of all faults stayed within, to a 16th; 0: none. */
u64 latency_at(const struct figures *f, double part);

/* "stack", "locked", ...: what of the program's memory that is. */
const char *unmanaged_name(enum unmanaged_kind kind);

#endif
