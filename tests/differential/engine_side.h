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
	struct file *files[NR_TEST_FILES]; /* of the sequence; NULL: there is none */
	const struct sequence *sequence;   /* begun and not yet done */
	struct trace *trace;
};

/* Is the operation one that the engine has? */
bool engine_has(const struct op *op);
/* Do it, in this process: the call's result, value and signal go to the record. */
void engine_perform(struct engine_side *s, unsigned process, const struct op *op,
		    struct record *record);
/* fork(2): 0, or a negative errno. */
s64 engine_fork(struct engine_side *s, unsigned parent, unsigned child);
/* The test files, as the kernel's side has them at the start of a sequence.  False: no memory. */
bool engine_make_files(struct engine_side *s);
void engine_close_files(struct engine_side *s);
/* Shared memory without a name is numbered as it comes in one look at a space. */
struct engine_objects {
	unsigned n;
	const struct address_space *mappings[ARENA_PAGES];
};
/* What is behind the area: SEEN_ANONYMOUS and so on. */
unsigned engine_object_of(const struct engine_side *s, struct engine_objects *objects,
			  const struct vma *vma);
/* Write an observation to the log; with `closely`, what smaps would tell.  False: no room. */
bool engine_look(struct engine_side *s, unsigned process, struct record *record, bool closely);

#endif
