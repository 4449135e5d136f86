/* SPDX-License-Identifier: MIT */
/*
 * The laboratory: a workload done by a system, and what came of it.
 *
 * A workload is a script (machine/soft/script.h).  Its first comment says what it shows; a line
 * "# cpus N" or "# frames N" says what it needs.  It counts from its `measure`, or from the
 * beginning.
 */
#ifndef VMF_SYSTEMS_LAB_H
#define VMF_SYSTEMS_LAB_H

#include "extensions/extension.h"
#include "machine/soft/script.h"
#include "systems/system.h"

struct workload {
	const char *name, *text;
};

extern const struct workload workloads[];
extern const unsigned nr_workloads;
/* NULL: there is none of that name. */
const struct workload *workload_find(const char *name);
/* One of the fifteen that every system must pass. */
bool workload_is_conformance(const struct workload *w);
/* Its first comment, without the mark.  size bytes, returns buf. */
const char *workload_title(const struct workload *w, char *buf, size_t size);

/* Is it the one that the system's expectations are for? */
bool workload_is_expected(const struct workload *w, const struct system_type *type);

enum lab_verdict {
	LAB_OK,
	LAB_DIFFERS,	 /* message says in which line, and how */
	LAB_NOT_OFFERED, /* the system lacks a call that the workload makes */
	LAB_NO_MEMORY,	 /* message: of the host's, or the machine is too small for the system */
};

struct lab_result {
	enum lab_verdict verdict;
	char message[SCRIPT_MESSAGE];
	char says[EXTENSION_SAYS];	/* what went wrong with its extension; "": nothing did */
	unsigned cpus;			/* that the program had */
	u64 counts[NR_LEDGER_COUNTERS]; /* if LAB_OK */
	/* Of a system that runs several programs: each one's; `counts` are the first's. */
	u64 parts[SYSTEM_MOST_PARTS][NR_LEDGER_COUNTERS];
	/* If LAB_OK: what its type times.  Of this host, and never twice the same. */
	struct timing timings[SYSTEM_MOST_TIMINGS];
};

/* Do it on a fresh machine.  cpus 0: as many as it says (1 if it does not).  -EINVAL: it is no
 * script, or asks for a machine that there is not, and result->message says why. */
int lab_run(const struct system_type *type, const struct workload *w, unsigned cpus,
	    struct lab_result *result);

/* Called for each event of the measured part, of the first program's CPUs, in order; ledger and
 * events live until it returns. */
typedef void (*lab_walk_fn)(void *arg, const struct ledger_event *events, unsigned n);
/* The same, and what happened is told. */
int lab_walk(const struct system_type *type, const struct workload *w, unsigned cpus,
	     lab_walk_fn tell, void *arg, struct lab_result *result);

/* All that can be asked for. */
struct lab_order {
	const struct system_type *type;
	const struct workload *workload;
	/* For the other programs of a system that runs several; NULL: the same. */
	const struct workload *beside;
	unsigned cpus; /* as in lab_run() */
	const struct system_extension *extension;
	lab_walk_fn tell; /* NULL: nobody is told */
	void *arg;
};

/* As lab_run(). */
int lab_do(const struct lab_order *o, struct lab_result *result);

/* The same with a user's extension, which has been loaded (extension_load()) without an error; of
 * systems that take one.  tell NULL: nobody is told. */
int lab_run_extended(const struct system_type *type, const struct workload *w, unsigned cpus,
		     const struct system_extension *extension, lab_walk_fn tell, void *arg,
		     struct lab_result *result);

/* Try an attack on a fresh machine.  What came of it; it is refused if that is attack->refused. */
int lab_attack(const struct system_type *type, const struct system_attack *attack);

#endif
