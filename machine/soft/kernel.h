/* SPDX-License-Identifier: MIT */
/*
 * A kernel on the soft machine: its CPUs' traps go to do_page_fault(), and its code, which runs on
 * the host, accesses memory in supervisor mode.
 *
 * Each access of the kernel is made "at an instruction": the number that stands for its address,
 * which the exception table may have.  A struct soft_kernel_cpu goes with each CPU; its first word
 * is the current task, as behind the GS base.
 */
#ifndef VMF_SOFT_KERNEL_H
#define VMF_SOFT_KERNEL_H

#include "engine/kernel/trap.h"
#include "engine/kernel/uaccess.h"
#include "machine/soft/soft.h"

/* Instructions of the kernel, for its table. */
enum soft_insn {
	INSN_COPY,  /* of raw_copy_*_user: has a fixup */
	INSN_OTHER, /* of anything else: has none */
	NR_INSNS
};

struct soft_kernel_cpu {
	struct task *current; /* first: see above */
	struct soft_cpu *cpu;
	struct pt_regs regs; /* of the context that runs now */
	enum trap_end end;   /* of its last fault */
	bool irqs;	     /* interrupts are enabled */
	unsigned irq_enables;
};

struct soft_kernel {
	struct kernel kernel;
	struct soft_machine *machine;
	struct exception_table table;
	struct soft_kernel_cpu cpus[SOFT_MAX_CPUS];
};

/*
 * Make the machine's CPUs trap into a kernel.  half and the vmalloc area as in struct kernel.
 * 0, -ENOMEM.
 */
int soft_kernel_create(struct soft_machine *m, enum kernel_half half, u64 vmalloc_start,
		       u64 vmalloc_end, struct soft_kernel **kernel);
/* All spaces that got the kernel half are unloaded. */
void soft_kernel_destroy(struct soft_kernel *k);

/* The task runs on the CPU from now on: its space is loaded (a kernel thread's: the one before). */
void soft_kernel_run(struct soft_kernel *k, unsigned cpu, struct task *task);
/* For the kernel's ways to the program's memory. */
struct uaccess soft_uaccess(struct soft_kernel *k, unsigned cpu);

/*
 * Accesses of the kernel's own, by an instruction with or without a fixup, with AC or without.
 * TRAP_RETRY: it was made.
 */
enum trap_end soft_kernel_load(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, bool ac,
			       u64 va, void *to, u64 n);
enum trap_end soft_kernel_store(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, bool ac,
				u64 va, const void *from, u64 n);
enum trap_end soft_kernel_jump(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, u64 va);

#endif
