/* SPDX-License-Identifier: MIT */
/* vmfault lab: what was asked for, what came of it, and the ways to show it. */
#ifndef VMF_TOOLS_LAB_H
#define VMF_TOOLS_LAB_H

#include "systems/lab.h"
#include "tools/extension_file.h"

#define LAB_MOST_SYSTEMS 64

struct lab_options {
	const struct system_type *systems[LAB_MOST_SYSTEMS];
	unsigned nr_systems;
	const struct workload *workload; /* NULL: all */
	const struct workload *beside;	 /* of --beside; NULL: the same */
	/* Of --workload FILE and --beside FILE; their texts are allocated. */
	struct workload file, beside_file;
	struct extension_file extension;
	unsigned cpus; /* 0: as each workload says */
	const char *svg;
	bool walk, help;
	enum { LAB_TABLE, LAB_JSON, LAB_CSV, LAB_HTML } format;
};

/* All results of a run. */
struct lab_report {
	const struct lab_options *options;
	const struct workload *const *workloads;
	unsigned nr_workloads;
	struct lab_result *results;	/* [workload * nr_systems + system] */
	int *attacks[LAB_MOST_SYSTEMS]; /* what came of each system's */
	bool failed;			/* a workload differs, or an attack was not refused */
};

static inline const struct lab_result *lab_result(const struct lab_report *r, unsigned workload,
						  unsigned system)
{
	return &r->results[workload * r->options->nr_systems + system];
}

/* Are the programs of this system's, which runs several, shown one by one? */
bool lab_shows_parts(const struct lab_report *r, unsigned system);
/* Has it timed anything, and is it shown here? */
bool lab_shows_times(const struct lab_report *r, unsigned workload, unsigned system);
/* "ok", "differs", "not offered", "no memory". */
const char *lab_verdict_name(enum lab_verdict verdict);
/* Does any system pay anything of this for the workload? */
bool lab_is_paid(const struct lab_report *r, unsigned workload, enum ledger_counter counter);

/* What a system was expected to pay for a workload, and what it did. */
struct lab_expected {
	const struct system_expectation *counts;
	const u64 *paid; /* [NR_LEDGER_COUNTERS] */
	unsigned n;	 /* 0: nothing is expected, or the system has not done it */
	unsigned met;
};
struct lab_expected lab_expected(const struct lab_report *r, unsigned workload, unsigned system);
static inline bool lab_is_met(const struct lab_expected *x, unsigned i)
{
	return x->paid[x->counts[i].counter] == x->counts[i].value;
}
/* Why it is not. */
const char *lab_why(const struct system_expectation *e);

/* To stdout.  False: it could not be written. */
bool lab_print_table(const struct lab_report *r);
bool lab_print_json(const struct lab_report *r);
bool lab_print_csv(const struct lab_report *r);
bool lab_print_html(const struct lab_report *r);
/* What a system has timed, for those who print the rest: for a person, and for a browser. */
void lab_table_times(const struct lab_report *r, unsigned workload, unsigned system);
void lab_html_times(const struct lab_report *r, unsigned workload, unsigned system);

/* A fault's journey on so many CPUs, as text; and as a sequence diagram, of no more than 400 steps,
 * which says so if there are more.  0, or a negative errno. */
void lab_walk_text(const struct ledger_event *events, unsigned n, unsigned nr_cpus);
int lab_walk_svg(const char *path, const char *title, const struct ledger_event *events, unsigned n,
		 unsigned nr_cpus);

#endif
