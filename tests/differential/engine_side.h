/* SPDX-License-Identifier: MIT */
/*
 * The engine's side: a soft machine with a kernel on it, and for each process of the sequence a
 * task on a CPU of its own.
 *
 * Nothing here knows what Linux would do.  engine_calls.c asks the engine, engine_look.c looks at
 * what is there then.
 */
#ifndef VMF_DIFFERENTIAL_ENGINE_SIDE_H
#define VMF_DIFFERENTIAL_ENGINE_SIDE_H

#include "machine/soft/kernel.h"
#include "tests/differential/side.h"

struct engine_process {
	struct mm *mm; /* NULL: no such process now */
	struct soft_cpu *cpu;
	struct task task;
	unsigned parent;
};

struct engine_side {
	struct side side;
	struct support support;
	struct soft_machine *machine; /* NULL: none was made yet, or it has failed */
	struct soft_kernel *kernel;
	struct store *store;
	struct engine_process processes[NR_PROCESSES];
	const struct sequence *sequence; /* begun and not yet done */
	struct trace *trace;
};

/* Is the operation one that the engine has? */
bool engine_has(const struct op *op);
/* Do it, in this process: the call's result, value and signal go to the record. */
void engine_perform(struct engine_side *s, unsigned process, const struct op *op,
		    struct record *record);
/* Write an observation to the log; with `closely`, what smaps would tell.  False: no room. */
bool engine_look(struct engine_side *s, unsigned process, struct record *record, bool closely);

#endif
