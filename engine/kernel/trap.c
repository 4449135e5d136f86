/* SPDX-License-Identifier: MIT */
/* The entry of vector 14: see trap.h for the tree. */
#include "engine/space/huge.h"
#include "engine/kernel/trap.h"

#include "engine/kernel/oops.h"

/* One fault: what all steps need. */
struct trap {
	struct kernel *kernel;
	struct task *current;
	void *cpu;
	struct pt_regs *regs;
	u32 code;
	u64 address;
};

/* Nobody in user mode is told what is in the kernel half: there, all looks like a protection. */
static u32 sanitized_code(const struct trap *t)
{
	return t->address >= TASK_END ? t->code | PF_PROT : t->code;
}

static enum trap_end send_signal(const struct trap *t, int sig, int code, unsigned pkey)
{
	t->current->signal = (struct fault_signal){
		.sig = sig,
		.code = code,
		.address = t->address,
		.trap = TRAP_PF,
		.error_code = sanitized_code(t),
		.cr2 = t->address,
		.pkey = pkey,
	};
	return TRAP_SIGNAL;
}

/* The kernel's instruction cannot be made good: it goes on at its fixup, or there is an oops. */
static enum trap_end kernelmode_fixup_or_oops(const struct trap *t)
{
	if (fixup_exception(t->kernel->extable, t->regs, TRAP_PF))
		return TRAP_FIXUP;
	page_fault_oops(t->kernel, t->current, t->cpu, t->regs, t->code, t->address);
	return TRAP_OOPS;
}

static enum trap_end bad_area(const struct trap *t, int code, unsigned pkey)
{
	return user_mode(t->regs) ? send_signal(t, SIGNAL_SEGV, code, pkey)
				  : kernelmode_fixup_or_oops(t);
}

static enum trap_end bad_area_nosemaphore(const struct trap *t)
{
	return bad_area(t, SEGV_MAPERR, 0);
}

/* lsb: of what is lost by broken memory; 0: it is not that. */
static enum trap_end do_sigbus(const struct trap *t, unsigned lsb)
{
	enum trap_end end;

	if (!user_mode(t->regs))
		return kernelmode_fixup_or_oops(t);
	end = send_signal(t, SIGNAL_BUS, lsb ? BUS_MCEERR_AR : BUS_ADRERR, 0);
	t->current->signal.lsb = lsb;
	return end;
}

static enum trap_end oops(const struct trap *t)
{
	page_fault_oops(t->kernel, t->current, t->cpu, t->regs, t->code, t->address);
	return TRAP_OOPS;
}

static enum trap_end do_kern_addr_fault(const struct trap *t)
{
	struct kernel *kernel = t->kernel;

	/* A table was missing, not a right, and not for the program. */
	if (!(t->code & (PF_RSVD | PF_USER | PF_PROT)) && t->current->mm &&
	    vmalloc_fault(kernel, t->current->mm, t->address))
		return TRAP_RETRY;
	if (spurious_kernel_fault(kernel, t->address, t->code))
		return TRAP_RETRY;
	if (kernel->kprobe && !user_mode(t->regs) &&
	    kernel->kprobe(kernel->kprobe_ctx, t->regs, TRAP_PF))
		return TRAP_KPROBE;
	return bad_area_nosemaphore(t);
}

/* Must the kernel not wait for mmap_lock here?  It may hold it: only what is meant to access the
 * program's memory, and so has an entry in the table, is known not to. */
static bool may_not_wait(const struct trap *t)
{
	return !user_mode(t->regs) && !search_extable(t->kernel->extable, t->regs->ip);
}

/* The key in the entry of the page that was denied. */
static unsigned pkey_at(struct mm *mm, u64 address)
{
	unsigned key;

	down_read(&mm->mmap_lock);
	key = pte_key(pte_peek(mm, address));
	up_read(&mm->mmap_lock);
	return key;
}

static enum trap_end end_of(const struct trap *t, struct fault_result r)
{
	struct mm *mm = t->current->mm;

	switch (r.reason) {
	case FAULT_OK:
	case FAULT_RETRY:
		return TRAP_RETRY;
	case FAULT_ACCERR:
		return t->code & PF_PK ? bad_area(t, SEGV_PKUERR, pkey_at(mm, t->address))
				       : bad_area(t, SEGV_ACCERR, 0);
	case FAULT_BUS:
		return do_sigbus(t, 0);
	case FAULT_HWPOISON:
		return do_sigbus(t, r.lsb);
	case FAULT_KILLED:
		t->current->killed = true;
		return user_mode(t->regs) ? send_signal(t, SIGNAL_KILL, CODE_KERNEL, 0)
					  : kernelmode_fixup_or_oops(t);
	case FAULT_OOM:
		/* A program just tries again, when somebody has been killed for it; the kernel
		 * cannot wait for that. */
		return user_mode(t->regs) ? TRAP_RETRY : kernelmode_fixup_or_oops(t);
	default:
		return bad_area_nosemaphore(t);
	}
}

/* What no table of exceptions excuses. */
static bool is_a_bug(const struct trap *t)
{
	if (t->code & PF_RSVD)
		return true; /* our own tables are broken */
	if (user_mode(t->regs) || t->code & PF_USER)
		return false;
	if (t->code & PF_INSTR)
		return true; /* the kernel runs off into the program */
	return t->kernel->smap && !(t->regs->flags & EFLAGS_AC);
}

/* Until Linux 4.20 a program that touched more than so many bytes below its stack pointer was
 * taken to have lost its way: ENTER, with the greatest frame there is, may touch as much. */
static bool below_stack_pointer(const struct trap *t)
{
	return t->kernel->old_stack_rule && user_mode(t->regs) &&
	       t->address + STACK_ACCESS_BELOW_SP < t->regs->reg[REG_SP];
}

static enum trap_end do_user_addr_fault_of(const struct trap *t)
{
	struct task *current = t->current;
	bool irqs = t->regs->flags & EFLAGS_IF;
	struct fault_result r;
	unsigned flags = 0;

	if (!user_mode(t->regs) && t->kernel->kprobe &&
	    t->kernel->kprobe(t->kernel->kprobe_ctx, t->regs, TRAP_PF))
		return TRAP_KPROBE;
	if (is_a_bug(t))
		return oops(t);
	if (faulthandler_disabled(current) || !current->mm)
		return bad_area_nosemaphore(t);
	if (user_mode(t->regs))
		flags |= FAULT_FLAG_USER;
	else if (may_not_wait(t))
		flags |= FAULT_FLAG_TRYLOCK;
	if (below_stack_pointer(t))
		flags |= FAULT_FLAG_NO_GROW;
	if (irqs)
		t->kernel->ops->irq_enable(t->cpu);
	r = resolve_fault(current->mm, t->address, t->code, flags);
	if (irqs)
		t->kernel->ops->irq_disable(t->cpu);
	return end_of(t, r);
}

enum trap_end do_page_fault(struct kernel *kernel, struct task *current, void *cpu,
			    struct pt_regs *regs, u32 code, u64 address)
{
	struct trap t = { kernel, current, cpu, regs, code, address };

	return address >= TASK_END ? do_kern_addr_fault(&t) : do_user_addr_fault_of(&t);
}

enum trap_end do_general_protection(struct kernel *kernel, struct task *current, void *cpu,
				    struct pt_regs *regs)
{
	if (user_mode(regs)) {
		current->signal = (struct fault_signal){ .sig = SIGNAL_SEGV,
							 .code = CODE_KERNEL,
							 .trap = TRAP_GP };
		return TRAP_SIGNAL;
	}
	if (fixup_exception(kernel->extable, regs, TRAP_GP))
		return TRAP_FIXUP;
	die(kernel, current, cpu, regs,
	    "general protection fault, maybe for a non-canonical address");
	return TRAP_OOPS;
}
