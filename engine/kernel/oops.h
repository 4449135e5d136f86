/* SPDX-License-Identifier: MIT */
/*
 * The kernel accessed what it must not: say all that helps to find out why, and end the task.
 *
 * The text is made for people and stays as it is, a line each through machine_message(): the
 * reason, the access, the error code in words, the entries of the page tables, registers, the
 * calls.
 */
#ifndef VMF_KERNEL_OOPS_H
#define VMF_KERNEL_OOPS_H

#include "engine/kernel/kernel.h"

/*
 * Kills `current`.  Panics where there is nobody to kill (an interrupt, the idle task) or nothing
 * to go on without (the first task), or if the kernel was told to.
 */
void page_fault_oops(struct kernel *kernel, struct task *current, void *cpu,
		     const struct pt_regs *regs, u32 code, u64 address);
/* The same for a trap without an address or tables: `what` in one line. */
void die(struct kernel *kernel, struct task *current, void *cpu, const struct pt_regs *regs,
	 const char *what);

#endif
