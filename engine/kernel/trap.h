/* SPDX-License-Identifier: MIT */
/*
 * Vector 14, from the trap to its end: the access is made again, the task gets a signal, the kernel
 * goes on at a fixup, or there is an oops.
 *
 *   do_page_fault
 *     kernel half of the addresses  do_kern_addr_fault
 *         vmalloc_fault               a top-level entry was missing: given
 *         spurious_kernel_fault       an old translation: nothing to do
 *         kprobe                      it was the probe's
 *         bad_area_nosemaphore
 *     user half                     do_user_addr_fault_of
 *         a fetch by the kernel, a reserved bit, no STAC under SMAP: oops, whatever the table says
 *         pagefault_disable(), an interrupt, no mm: bad_area_nosemaphore
 *         interrupts on, if they were
 *         the fault paths of engine/fault/, with mmap_lock tried only if the kernel's instruction
 * has no entry in the exception table: then the kernel may hold it already, and would wait for
 *         itself
 *     what fails                    user mode: a signal
 *                                   kernel mode: fixup_exception, or page_fault_oops
 */
#ifndef VMF_KERNEL_TRAP_H
#define VMF_KERNEL_TRAP_H

#include "engine/fault/fault.h"
#include "engine/kernel/kernel.h"

#define TRAP_PF 14
#define TRAP_GP 13

/* Bytes: with kernel->old_stack_rule a stack grows only for accesses of the program's that lie no
 * further below its stack pointer.  65536 and 32 words. */
#define STACK_ACCESS_BELOW_SP (65536 + 32 * sizeof(u64))

/*
 * The page fault `code` at `address` (CR2) in the context `regs` of `current`, on the machine's
 * `cpu`. Interrupts are off, before and after.  When it returns, the context is to go on as regs
 * says: at the same instruction, or at its fixup; but first the task's signal is to be delivered,
 * or, if it is killed, it does not go on at all.  What became of it, for machines that ask.
 */
enum trap_end {
	TRAP_RETRY,  /* the access may be made again */
	TRAP_SIGNAL, /* current->signal says which */
	TRAP_FIXUP,  /* regs->ip has changed */
	TRAP_KPROBE, /* a probe took it */
	TRAP_OOPS,   /* the task is killed */
};
enum trap_end do_page_fault(struct kernel *kernel, struct task *current, void *cpu,
			    struct pt_regs *regs, u32 code, u64 address);

/* Vector 13 for an address that is not canonical: the same ends, without an address to tell. */
enum trap_end do_general_protection(struct kernel *kernel, struct task *current, void *cpu,
				    struct pt_regs *regs);

#endif
