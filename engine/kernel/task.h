/* SPDX-License-Identifier: MIT */
/*
 * Who was interrupted: a task, and the registers of its context.
 *
 * The machine knows the current task of each CPU (x86: the first word behind the GS base of kernel
 * mode) and hands it in; nothing here asks for it.
 */
#ifndef VMF_KERNEL_TASK_H
#define VMF_KERNEL_TASK_H

#include "engine/base/types.h"

struct completion;
struct mm;

/* General registers by their number in an instruction, as exception-table entries name them. */
enum reg {
	REG_AX,
	REG_CX,
	REG_DX,
	REG_BX,
	REG_SP,
	REG_BP,
	REG_SI,
	REG_DI,
	REG_R8,
	REG_R9,
	REG_R10,
	REG_R11,
	REG_R12,
	REG_R13,
	REG_R14,
	REG_R15,
	NR_REGS
};

#define EFLAGS_IF (1u << 9)  /* interrupts were enabled */
#define EFLAGS_AC (1u << 18) /* SMAP was suspended: between STAC and CLAC */

struct pt_regs {
	u64 reg[NR_REGS];
	u64 ip, flags;
	u16 cs; /* its lowest two bits are the privilege level */
};

static inline bool user_mode(const struct pt_regs *regs)
{
	return regs->cs & 3;
}

enum signal_number { SIGNAL_KILL = 9, SIGNAL_BUS = 7, SIGNAL_SEGV = 11 };
enum signal_code {
	CODE_KERNEL = 0x80, /* SI_KERNEL */
	SEGV_MAPERR = 1,
	SEGV_ACCERR = 2,
	SEGV_PKUERR = 4,
	BUS_ADRERR = 2,
	BUS_MCEERR_AR = 4,
};

/* What a handler of the program is told of a fault: siginfo, and the context's trap number, error
 * code and CR2.  sig 0: none is pending. */
struct fault_signal {
	int sig, code;
	u64 address;
	u32 trap, error_code;
	u64 cr2;
	unsigned pkey; /* of SEGV_PKUERR */
	unsigned lsb;  /* of BUS_MCEERR_AR: how much is lost, as a power of two */
};

struct task {
	struct mm *mm; /* NULL: a kernel thread, which borrows another's tables */
	int pid;       /* 0: idle; 1: the first, without which the system cannot go on */
	char name[16];
	u32 pagefault_disabled;	       /* depth of pagefault_disable() */
	bool in_interrupt;	       /* its context is an interrupt's, which is nobody's */
	bool killed;		       /* it must not go back to user mode */
	struct completion *vfork_done; /* its parent waits for it; see process.h */
	struct fault_signal signal;
};

static inline void pagefault_disable(struct task *t)
{
	t->pagefault_disabled++;
}
static inline void pagefault_enable(struct task *t)
{
	t->pagefault_disabled--;
}
/* May its faults not sleep? */
static inline bool faulthandler_disabled(const struct task *t)
{
	return t->pagefault_disabled || t->in_interrupt;
}

#endif
