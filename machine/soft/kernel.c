/* SPDX-License-Identifier: MIT */
#include "machine/soft/kernel.h"

#include <stdlib.h>

#include "engine/base/errno.h"

/* What an instruction is called in the table: an address in here; and the table, near enough for
 * its relative addresses.  The same for every kernel. */
static char text[2 * NR_INSNS];
static struct exception_entry entries[1];

#define USER_CS	  0x33
#define KERNEL_CS 0x10

static u64 insn_address(enum soft_insn insn)
{
	return (u64)&text[2 * insn];
}
static u64 fixup_address(enum soft_insn insn)
{
	return (u64)&text[2 * insn + 1];
}

static void set_irqs(struct soft_kernel_cpu *c, bool on)
{
	c->irqs = on;
	c->irq_enables += on;
}

static void irq_enable(void *cpu)
{
	set_irqs(cpu, true);
}
static void irq_disable(void *cpu)
{
	set_irqs(cpu, false);
}

/* ---- traps ---- */

static struct soft_kernel *kernel_of(struct soft_cpu *cpu)
{
	return cpu->machine->kernel;
}

/* Only FAULT_OK has the access made again; which of the others it is matters to programs only. */
static enum fault_reason reason_of(const struct soft_kernel_cpu *c)
{
	if (c->end == TRAP_RETRY)
		return FAULT_OK;
	if (c->end == TRAP_SIGNAL && c->current->signal.sig == SIGNAL_KILL)
		return FAULT_KILLED;
	if (c->end == TRAP_SIGNAL && c->current->signal.sig == SIGNAL_BUS)
		return c->current->signal.code == BUS_MCEERR_AR ? FAULT_HWPOISON : FAULT_BUS;
	return c->end == TRAP_SIGNAL && c->current->signal.code != SEGV_MAPERR ? FAULT_ACCERR
									       : FAULT_MAPERR;
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct soft_kernel *k = kernel_of(cpu);
	struct soft_kernel_cpu *c = &k->cpus[cpu->number];

	c->irqs = false; /* an interrupt gate */
	c->end = do_page_fault(&k->kernel, c->current, c, &c->regs, code, cr2);
	c->irqs = c->regs.flags & EFLAGS_IF;
	return (struct fault_result){ .reason = reason_of(c) };
}

static void general_protection(struct soft_cpu *cpu)
{
	struct soft_kernel *k = kernel_of(cpu);
	struct soft_kernel_cpu *c = &k->cpus[cpu->number];

	c->irqs = false;
	c->end = do_general_protection(&k->kernel, c->current, c, &c->regs);
	c->irqs = c->regs.flags & EFLAGS_IF;
}

/* ---- the kernel's accesses ---- */

/* From the program into the kernel, at that instruction; what to go back to. */
static struct pt_regs enter(struct soft_kernel_cpu *c, enum soft_insn insn, bool ac)
{
	struct pt_regs before = c->regs;

	c->regs.cs = KERNEL_CS;
	c->regs.ip = insn_address(insn);
	c->regs.flags = (before.flags & ~(u64)EFLAGS_AC) | (ac ? EFLAGS_AC : 0);
	c->end = TRAP_RETRY;
	return before;
}

enum trap_end soft_kernel_load(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, bool ac,
			       u64 va, void *to, u64 n)
{
	struct soft_kernel_cpu *c = &k->cpus[cpu];
	struct pt_regs before = enter(c, insn, ac);

	soft_kernel_read(c->cpu, va, to, n, ac);
	c->regs = before;
	return c->end;
}

enum trap_end soft_kernel_store(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, bool ac,
				u64 va, const void *from, u64 n)
{
	struct soft_kernel_cpu *c = &k->cpus[cpu];
	struct pt_regs before = enter(c, insn, ac);

	soft_kernel_write(c->cpu, va, from, n, ac);
	c->regs = before;
	return c->end;
}

enum trap_end soft_kernel_jump(struct soft_kernel *k, unsigned cpu, enum soft_insn insn, u64 va)
{
	struct soft_kernel_cpu *c = &k->cpus[cpu];
	struct pt_regs before = enter(c, insn, false);
	char byte;

	soft_kernel_fetch(c->cpu, va, &byte, 1);
	c->regs = before;
	return c->end;
}

static u64 piece(u64 va, u64 n)
{
	return min_of(n, PAGE_SIZE - page_offset(va));
}

static u64 raw_copy_from_user(void *cpu, void *to, u64 from, u64 n)
{
	struct soft_kernel_cpu *c = cpu;
	struct soft_kernel *k = kernel_of(c->cpu);
	u64 part;

	for (; n; n -= part, from += part, to = (char *)to + part) {
		part = piece(from, n);
		if (soft_kernel_load(k, c->cpu->number, INSN_COPY, true, from, to, part) !=
		    TRAP_RETRY)
			break;
	}
	return n;
}

static u64 raw_copy_to_user(void *cpu, u64 to, const void *from, u64 n)
{
	struct soft_kernel_cpu *c = cpu;
	struct soft_kernel *k = kernel_of(c->cpu);
	u64 part;

	for (; n; n -= part, to += part, from = (const char *)from + part) {
		part = piece(to, n);
		if (soft_kernel_store(k, c->cpu->number, INSN_COPY, true, to, from, part) !=
		    TRAP_RETRY)
			break;
	}
	return n;
}

static unsigned stack_trace(void *cpu, const struct pt_regs *regs, u64 *ips, unsigned most)
{
	(void)cpu;
	(void)most;
	ips[0] = regs->ip; /* the host's calls are not the kernel's */
	return 1;
}

static const struct kernel_ops soft_kernel_ops = {
	.irq_enable = irq_enable,
	.irq_disable = irq_disable,
	.raw_copy_from_user = raw_copy_from_user,
	.raw_copy_to_user = raw_copy_to_user,
	.stack_trace = stack_trace,
};

/* ---- set-up ---- */

static int make_table(struct soft_kernel *k)
{
	k->table = (struct exception_table){ .entries = entries, .n = ARRAY_SIZE(entries) };
	k->kernel.extable = &k->table;
	return ex_set(&entries[0], insn_address(INSN_COPY), fixup_address(INSN_COPY),
		      ex_data(EX_UACCESS, REG_AX, 0));
}

int soft_kernel_create(struct soft_machine *m, enum kernel_half half, u64 vmalloc_start,
		       u64 vmalloc_end, struct soft_kernel **kernel)
{
	struct soft_kernel *k = calloc(1, sizeof(*k));
	int err;

	if (!k)
		return -ENOMEM;
	k->kernel.engine = &m->engine;
	k->kernel.half = half;
	k->kernel.vmalloc_start = vmalloc_start;
	k->kernel.vmalloc_end = vmalloc_end;
	k->kernel.ops = &soft_kernel_ops;
	k->kernel.smap = m->control.smap;
	err = make_table(k);
	if (!err)
		err = kernel_init_half(&k->kernel);
	if (err) {
		free(k);
		return err;
	}
	for (unsigned i = 0; i < m->nr_cpus; i++) {
		k->cpus[i].cpu = &m->cpus[i];
		k->cpus[i].regs = (struct pt_regs){ .cs = USER_CS, .flags = EFLAGS_IF };
		k->cpus[i].irqs = true;
	}
	k->machine = m;
	m->kernel = k;
	m->trap = trap;
	m->general_protection = general_protection;
	*kernel = k;
	return 0;
}

void soft_kernel_destroy(struct soft_kernel *k)
{
	kernel_fini_half(&k->kernel);
	k->machine->kernel = NULL;
	free(k);
}

void soft_kernel_run(struct soft_kernel *k, unsigned cpu, struct task *task)
{
	struct soft_kernel_cpu *c = &k->cpus[cpu];

	c->current = task;
	if (task->mm && atomic_load(&c->cpu->mm) != task->mm)
		soft_load_mm(c->cpu, task->mm);
}

struct uaccess soft_uaccess(struct soft_kernel *k, unsigned cpu)
{
	return (struct uaccess){ &k->kernel, k->cpus[cpu].current, &k->cpus[cpu] };
}
