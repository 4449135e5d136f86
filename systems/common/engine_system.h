/* SPDX-License-Identifier: MIT */
/*
 * What systems on the engine share: a soft machine with the engine and one space, whose changes of
 * translations are counted, and whose steps are told to the ledger as those of "the kernel".
 */
#ifndef VMF_SYSTEMS_ENGINE_SYSTEM_H
#define VMF_SYSTEMS_ENGINE_SYSTEM_H

#include "machine/soft/soft.h"
#include "systems/common/lab_store.h"
#include "systems/system.h"

#define ENGINE_SYSTEM_LOW  0x10000000ULL
#define ENGINE_SYSTEM_HIGH 0x7f0000000000ULL

/* The usual two; a system may have others. */
extern const struct ledger_actor lab_program, lab_kernel;

struct engine_system {
	struct system system;
	struct soft_program program;   /* its ops may be changed by the system */
	struct program_ops ops;	       /* program.program.ops */
	struct program_ops engine_ops; /* the same as engine_system_init() made it */
	struct soft_machine *machine;
	struct mm *mm; /* the first process's */
	struct lab_store store;
	const struct reclaim_policy *policy; /* set before engine_system_init(); NULL: fifo */
	u64 own_frames;	    /* the same: that the machine has beside those of programs */
	struct mmu_ops mmu; /* the soft machine's, counted */
	struct engine_observer observer;
	const struct ledger_actor *kernel; /* whose steps the engine's are */
	/* By the thread that faulted, when the engine is done with it and before it goes back.
	 * NULL: nothing is to be done then. */
	void (*resolved)(struct engine_system *s);
	u64 hardware[4]; /* as counted at the last reset */
};

/*
 * Make `s`, zeroed but for its policy, for the type: machine, engine, store, ledger; trap as in
 * struct soft_options. s->ops is the engine's program with this machine's swap failures; the caller
 * may replace some of it after.  0, -ENOMEM; then nothing is left to undo.
 */
int engine_system_init(struct engine_system *s, const struct system_type *type,
		       const struct system_options *options, soft_trap_fn trap);
/* The first entry at *va or behind it that maps a page: *va is its address then.  False: none does.
 * Nobody else changes the table. */
bool engine_system_next_entry(struct mm *mm, u64 *va, pte_t *pte);
/* What program_ops.dirty is, for who reads the page table in his own domain: as the entry says. */
int engine_system_dirty(struct program *p, unsigned cpu, u64 va);
/* What observer.step is; for a system that watches, too. */
void engine_system_step(struct engine_observer *o, enum engine_step step, u64 va, u64 n);
/* The counting of it alone, for who tells the step in other words. */
void engine_system_count_step(enum engine_step step, u64 n);
/* The same of a step that is that actor's. */
void engine_system_tell_step(const struct ledger_actor *who, enum engine_step step, u64 va, u64 n);
/* The kernel's part of a fault on that CPU: the exception, the engine with those flags
 * (FAULT_FLAG_USER, or 0), the return. */
struct fault_result engine_system_field(struct soft_cpu *cpu, u64 cr2, u32 code, unsigned flags);
/* The thread drives the CPU, and its program makes a system call; the call returns. */
struct engine_system *engine_system_enter(struct program *p, unsigned cpu, const char *name);
void engine_system_leave(struct engine_system *s);
/* Of a process that ends: the CPU that runs it; where none does, the one that the thread drives (an
 * other ends it). */
unsigned lab_cpu_of(struct program *p, const struct ledger *l, unsigned process);
/* lab_kernel, which one process has entered, goes over to another's space, and returns there. */
void lab_other_process_runs(void);
/* All but the memory of `s`. */
void engine_system_fini(struct engine_system *s);

/* What an engine of the laboratory has, of so many frames; policy NULL: fifo.  What is compared is
 * what a fault costs: it is for one page, and no policy looks at others after it. */
struct engine_config engine_system_config(u64 frames, const struct reclaim_policy *policy);

/* As its entry says: 1, 0; -ENOENT: the page has no translation. */
int lab_page_dirty(struct mm *mm, u64 va);

/* For systems without the engine, too: the soft machine's operations, counted; and what its
 * hardware has counted: as it is now, and what came since it was `last`. */
struct mmu_ops lab_counted_mmu_ops(void);
void lab_read_hardware(const struct soft_machine *m, u64 counts[4]);
void lab_add_hardware(const struct soft_machine *m, const u64 last[4],
		      u64 counts[NR_LEDGER_COUNTERS]);
/* The same of n CPUs. */
void lab_read_cpus(const struct soft_cpu *cpus, unsigned n, u64 counts[4]);
void lab_add_cpus(const struct soft_cpu *cpus, unsigned n, const u64 last[4],
		  u64 counts[NR_LEDGER_COUNTERS]);

static inline struct engine_system *engine_system_of(struct system *s)
{
	return container_of(s, struct engine_system, system);
}
static inline struct engine_system *engine_system_of_engine(struct engine *e)
{
	return container_of(e->observer, struct engine_system, observer);
}
static inline struct engine_system *engine_system_of_program(struct program *p)
{
	return container_of(p, struct engine_system, program.program);
}

#endif
