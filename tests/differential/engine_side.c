/* SPDX-License-Identifier: MIT */
/* The engine's side as the tester sees it; engine_side.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "machine/soft/hardware.h"
#include "stores/memory.h"
#include "tests/differential/engine_side.h"
#include "tests/differential/guard.h"

#define USER_FRAMES  4096
#define TABLE_FRAMES 1024
/* A real process has its program below the arena: no stack grows down to what is below that. */
#define BELOW_ARENA (16 * PAGE_SIZE)
#define SWAP_SLOTS  4096

static struct engine_side *engine_of(struct side *side)
{
	return container_of(side, struct engine_side, side);
}

/* ---- the machine ---- */

static bool make_machine(struct engine_side *s)
{
	struct engine_config config = engine_default_config(USER_FRAMES);
	struct soft_options options = { .table_frames = TABLE_FRAMES,
					.user_frames = USER_FRAMES,
					.nr_cpus = NR_PROCESSES,
					.checked = true,
					.store = s->support.swap ? s->store : NULL,
					.config = &config };

	config.prefetch = 1;
	config.memory_failure = s->support.memory_failure;
	if (soft_create(&options, &s->machine) ||
	    soft_kernel_create(s->machine, KERNEL_HALF_SHARED, 0, 0, &s->kernel))
		return false;
	return true;
}

/* What the running system allows a process without privileges. */
static void set_limits(const struct engine_side *s, struct mm *mm)
{
	struct sysinfo info;

	mm->mmap_min = s->support.mmap_min_addr;
	mm->lsm_mmap_min = s->support.hint_min;
	if (!sysinfo(&info))
		mm->limits.commit = (info.totalram + info.totalswap) * info.mem_unit;
	mm->limits.stack = START_STACK << PAGE_SHIFT;
	mm->limits.memlock = START_MEMLOCK << PAGE_SHIFT;
}

/* It runs on the CPU of its number. */
static void start_process(struct engine_side *s, unsigned process)
{
	struct engine_process *p = &s->processes[process];

	p->cpu = &s->machine->cpus[process];
	kernel_attach(&s->kernel->kernel, p->mm);
	p->task = (struct task){ .mm = p->mm, .pid = 100 + process, .name = "program" };
	soft_kernel_run(s->kernel, process, &p->task);
}

static bool make_process(struct engine_side *s, unsigned process)
{
	struct engine_process *p = &s->processes[process];

	if (mm_create(&s->machine->engine, PAGE_SIZE, USER_END, &p->mm))
		return false;
	set_limits(s, p->mm);
	p->mm->start_brk = p->mm->brk = HEAP_START;
	start_process(s, process);
	return vm_map(p->mm, BELOW_ARENA, PAGE_SIZE, 0, VMAP_FIXED, 0) == BELOW_ARENA;
}

s64 engine_fork(struct engine_side *s, unsigned parent, unsigned child)
{
	struct engine_process *p = &s->processes[child];
	int err = mm_fork(s->processes[parent].mm, &p->mm);

	if (err) {
		p->mm = NULL;
		return err;
	}
	p->parent = parent;
	start_process(s, child);
	return 0;
}

static void end_process(struct engine_process *p)
{
	if (!p->mm)
		return;
	soft_load_mm(p->cpu, NULL);
	mm_destroy(p->mm);
	p->mm = NULL;
}

static void reap(struct engine_side *s, unsigned process)
{
	end_process(&s->processes[process]);
	for (unsigned i = 0; i < NR_PROCESSES; i++)
		if (s->processes[i].parent == process)
			s->processes[i].parent = NR_PROCESSES; /* nobody's child from now on */
}

/* ---- a sequence ---- */

static bool can_be_done(const struct engine_side *s, const struct op *op)
{
	const struct engine_process *p = s->processes;

	if (!p[op->process].mm)
		return false;
	if (op->call == CALL_FORK)
		return !p[op->arg[0]].mm;
	if (op->call == CALL_REAP)
		return p[op->arg[0]].mm && p[op->arg[0]].parent == op->process;
	return true;
}

/* The record is written in the end: an operation that panics is missing. */
static void do_op(struct engine_side *s, const struct op *op, struct record *to)
{
	struct record done = { .state = RECORD_DONE }, *rec = &done;
	struct mm *mm = s->processes[op->process].mm;
	u32 log = s->trace->used;
	u64 minor, major;

	if (!can_be_done(s, op)) {
		to->state = RECORD_SKIPPED;
		return;
	}
	if (op->call == CALL_CHECK)
		engine_look(s, op->process, rec, false);
	minor = atomic_load(&mm->minor);
	major = atomic_load(&mm->major);
	if (op->call == CALL_REAP)
		reap(s, op->arg[0]);
	else
		engine_perform(s, op->process, op, rec);
	rec->minor = atomic_load(&mm->minor) - minor;
	rec->major = atomic_load(&mm->major) - major;
	s->trace->used = log; /* a check looks again */
	if (!engine_look(s, op->process, rec, op->call == CALL_CHECK)) {
		rec->state = RECORD_FAILED;
		snprintf(s->trace->failure, sizeof(s->trace->failure), "the log is full");
	}
	*to = done;
}

static void do_sequence(void *ctx)
{
	struct engine_side *s = ctx;
	struct trace *t = s->trace;
	unsigned i;

	memset(t->records, 0, s->sequence->n * sizeof(struct record));
	t->used = 0;
	t->failure[0] = '\0';
	if ((!s->machine && !make_machine(s)) || !make_process(s, 0) || !engine_make_files(s))
		guard_give_up("out of memory");
	for (i = 0; i < s->sequence->n; i++)
		do_op(s, &s->sequence->ops[i], &t->records[i]);
	soft_check(s->machine);
	for (i = 0; i < NR_PROCESSES; i++)
		end_process(&s->processes[i]);
	engine_close_files(s);
	engine_check(&s->machine->engine);
}

static void abandon(struct engine_side *s)
{
	if (s->machine)
		soft_destroy_bare(s->machine);
	free(s->kernel);
	s->machine = NULL;
	s->kernel = NULL;
	memset(s->processes, 0, sizeof(s->processes));
	memset(s->files, 0, sizeof(s->files));
}

static void engine_start(struct side *side, const struct sequence *sequence)
{
	engine_of(side)->sequence = sequence;
}

static const struct trace *engine_finish(struct side *side)
{
	struct engine_side *s = engine_of(side);

	side->failure[0] = '\0';
	if (!guarded(do_sequence, s, side->failure, sizeof(side->failure)))
		abandon(s);
	else
		snprintf(side->failure, sizeof(side->failure), "%s", s->trace->failure);
	return s->trace;
}

static bool engine_can(const struct side *side, const struct op *op)
{
	(void)side;
	return engine_has(op);
}

static void engine_close(struct side *side)
{
	struct engine_side *s = engine_of(side);

	if (s->machine) {
		soft_kernel_destroy(s->kernel);
		soft_destroy(s->machine);
	}
	memory_store_destroy(s->store);
	free(s->trace);
	free(s);
}

struct side *engine_open(const struct support *support, char *why)
{
	struct engine_side *s = calloc(1, sizeof(*s));

	if (!s || !(s->trace = calloc(1, sizeof(*s->trace))) ||
	    memory_store_create(&soft_host_memory, COMPRESS_NONE, SWAP_SLOTS, 0, 1, &s->store)) {
		snprintf(why, 160, "out of memory");
		return NULL;
	}
	s->support = *support;
	s->side = (struct side){ .name = "engine",
				 .start = engine_start,
				 .finish = engine_finish,
				 .close = engine_close,
				 .can = engine_can };
	return &s->side;
}
