/* SPDX-License-Identifier: MIT */
/*
 * Xen, paravirtualised, 64-bit: the hypervisor fields the fault and bounces it into a guest that
 * knows it is one; the guest decides and supplies, and asks for the change of its page table.
 *
 *   0. The guest has already registered each page table with Xen: it has made its own mapping of
 *      the frame read-only, and Xen has validated what is in it (frames.h).
 *   1. The program faults; Xen catches the event.
 *   2. By whose vCPU is on this CPU it knows which guest has to field it; a store to a page table
 * by the guest's kernel it makes itself, if the guest has asked for that.
 *   3. It copies the faulting address into the page that it shares with the guest.
 *   4. It makes an up-call: changes to the guest kernel's tables, puts a frame on its stack, and
 *      goes to the handler that is in its trap table.
 *   5. The guest's handler reads the address, then lets events come again; it decides, and takes a
 *      frame from its own pool, which it fills.
 *   6. If the page is on disk, it puts a request into a ring that it shares with the driver's
 *      domain, and notifies it by an event channel (blkring.h).
 *   7. It asks for the change by the hypercall update_va_mapping.  Xen looks at what is asked for:
 * is the frame the guest's, and is it nobody's page table?  It counts, and writes the entry.
 *   8. It returns by another hypercall, iret: Xen takes the frame from the stack, changes back to
 *      the program's tables, and the access is made again.
 *
 * So a fault enters Xen twice before it returns: by the bounce, and by the update.  On 32 bits the
 * guest returns by itself; on 64 bits that is a third.
 *
 * The guest's kernel is this project's engine over a table of mmu_ops that are hypercalls (mmu.c).
 * With writable page tables (xen-ptwr) step 7 is a store by the guest's kernel to the table, which
 * it has mapped read-only: a second fault, in which Xen looks at what is stored and makes the
 * store.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/xen/guest.h"
#include "systems/xen/xen.h"

static struct guest *of(struct engine_system *base)
{
	return container_of(base, struct guest, base);
}

static struct guest *of_program(struct program *p)
{
	return of(engine_system_of_program(p));
}

struct guest *guest_of(struct system *s)
{
	return of(engine_system_of(s));
}

struct guest *guest_of_mm(struct mm *mm)
{
	return of(engine_system_of_engine(mm->engine));
}

/* ---- traps ---- */

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	return xen_page_fault(&of(engine_system_of_engine(&cpu->machine->engine))->xen, cpu, cr2,
			      code);
}

/* The guest's handler of vector 14. */
static struct fault_result guest_page_fault(struct xen *x, struct soft_cpu *cpu, u32 code)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	struct xen_vcpu *v = &x->vcpus[cpu->number];
	struct fault_result r;
	u64 cr2 = v->cr2; /* before an event's handler could fault, too */

	xen_unmask_events(x, cpu);
	r = resolve_fault(mm, cr2, code, FAULT_FLAG_USER);
	if (xen_iret(x, cpu,
		     r.reason == FAULT_OK || r.reason == FAULT_RETRY
			     ? "the frame is gone from the stack: the access is made again"
			     : "to the handler of a signal"))
		r.reason = FAULT_KILLED;
	return r;
}

/* The guest's handler of events: the only channel is the ring's. */
static struct fault_result guest_event(struct xen *x, struct soft_cpu *cpu, u32 code)
{
	(void)code;
	x->vcpus[cpu->number].upcall_pending = false;
	blkring_responses(&container_of(x, struct guest, xen)->ring);
	return (struct fault_result){ .reason = xen_iret(x, cpu, "to where the event came")
							? FAULT_KILLED
							: FAULT_OK };
}

static const struct xen_trap trap_table[] = {
	{ .vector = XEN_TRAP_PAGE, .flags = XEN_TRAP_MASKS, .address = guest_page_fault },
};

/* ---- the program's calls ---- */

static struct guest *enter(struct program *p, unsigned cpu, const char *what)
{
	struct guest *g = of_program(p);

	ledger_begin(g->base.system.ledger, cpu);
	if (xen_syscall(&g->xen, &g->base.machine->cpus[cpu], what))
		vmf_panic("xen: the domain has crashed");
	return g;
}

static void leave(struct guest *g, unsigned cpu)
{
	if (xen_iret(&g->xen, &g->base.machine->cpus[cpu], "the call returns"))
		vmf_panic("xen: the domain has crashed");
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct guest *g = enter(p, cpu, "mmap");
	s64 at = soft_program_ops.map(p, cpu, a);

	leave(g, cpu);
	return at;
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct guest *g = enter(p, cpu, "munmap");
	int err = soft_program_ops.unmap(p, cpu, addr, len);

	leave(g, cpu);
	return err;
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	struct guest *g = enter(p, cpu, "mprotect");
	int err = soft_program_ops.protect(p, cpu, addr, len, prot);

	leave(g, cpu);
	return err;
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct guest *g = enter(p, cpu, "mremap");
	s64 at = soft_program_ops.remap(p, cpu, addr, len, new_len, flags, to);

	leave(g, cpu);
	return at;
}

static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	struct guest *g = enter(p, cpu, "madvise");
	int err = soft_program_ops.advise(p, cpu, addr, len, advice);

	leave(g, cpu);
	return err;
}

/* Some system call or other that asks for it. */
static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct guest *g = enter(p, cpu, "madvise");

	soft_program_ops.pageout(p, cpu, addr, len);
	leave(g, cpu);
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	struct guest *g = enter(p, cpu, "write: the guest's kernel reads the program's memory");
	u64 left = soft_program_ops.copy_in(p, cpu, to, va, n);

	leave(g, cpu);
	return left;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	struct guest *g = enter(p, cpu, "read: the guest's kernel writes the program's memory");
	u64 left = soft_program_ops.copy_out(p, cpu, va, from, n);

	leave(g, cpu);
	return left;
}

/* The child's tables are made as plain memory, and registered when they are whole. */
static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct guest *g = enter(p, cpu, "fork");
	int err = soft_program_ops.fork(p, cpu, child);

	if (!err)
		guest_pin(g, g->base.program.mms[child]);
	leave(g, cpu);
	return err;
}

static void switch_to(struct program *p, unsigned cpu, unsigned process)
{
	struct guest *g = of_program(p);
	u64 root = g->base.program.mms[process]->pgd_phys >> PAGE_SHIFT;

	xen_hypercall("multicall: new bases, for kernel and user", 2);
	if (xen_new_baseptr(&g->xen, cpu, root))
		vmf_panic("xen: a process's root is refused");
	soft_program_ops.run(p, cpu, process);
	xen_return();
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	struct guest *g;

	if (p->ops->running(p, cpu) == process)
		return;
	g = enter(p, cpu, "sched_yield: another process is to run");
	switch_to(p, cpu, process);
	leave(g, cpu);
}

/* Its tables go as plain memory. */
static void end_process(struct program *p, unsigned process)
{
	struct guest *g = of_program(p);
	struct mm *mm = g->base.program.mms[process];

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (atomic_load(&g->base.machine->cpus[i].mm) == mm)
			switch_to(p, i, 0);
	guest_unpin(g, mm);
	soft_program_ops.exit(p, process);
}

static void exit_process(struct program *p, unsigned process)
{
	unsigned cpu = lab_cpu_of(p, of_program(p)->base.system.ledger, process);
	struct guest *g = enter(p, cpu, "exit");

	end_process(p, process);
	leave(g, cpu);
}

/* What Xen has counted is what the tables say. */
static void check(struct program *p)
{
	struct guest *g = of_program(p);
	struct frames *f = &g->xen.frames;
	u32 *held = calloc(f->nr, sizeof(*held));
	u64 wrong;

	soft_program_ops.check(p);
	if (!held)
		vmf_panic("xen: no memory to check with");
	for (unsigned i = 0; i < p->nr_cpus; i++)
		held[atomic_load(&g->xen.vcpus[i].base)]++;
	wrong = frames_check(f, XEN_GUEST, held);
	free(held);
	if (wrong != f->nr)
		vmf_panic("xen: the counts of frame %lx are wrong", (unsigned long)wrong);
}

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_UPCALLS, 1, NULL },
	{ PAID_HYPERCALLS, 2, NULL }, /* update_va_mapping, iret */
	{ PAID_OPERATIONS, 1, NULL },	{ PAID_CROSSINGS, 6, NULL },
	{ PAID_DOMAINS, 2, NULL },	{ PAID_CR3_LOADS, 2, NULL },
	{ PAID_TYPE_UPDATES, 2, NULL }, /* the frame is held, and held as writable */
	{ PAID_PAGES_COPIED, 0, NULL }, { PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL },
};

/* The change of the entry is a fault, too. */
static const struct system_expectation expected_ptwr[] = {
	{ PAID_EXCEPTIONS, 2, NULL },	{ PAID_UPCALLS, 1, NULL },
	{ PAID_HYPERCALLS, 1, NULL }, /* iret */
	{ PAID_OPERATIONS, 0, NULL },	{ PAID_CROSSINGS, 6, NULL },
	{ PAID_DOMAINS, 2, NULL },	{ PAID_CR3_LOADS, 2, NULL },
	{ PAID_TYPE_UPDATES, 2, NULL }, { PAID_ENTRY_WRITES, 1, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct guest *g = guest_of(s);
	struct program *p = s->program;

	ledger_begin(s->ledger, 0);
	for (unsigned i = 1; i < PROGRAM_PROCESSES; i++)
		if (g->base.program.mms[i])
			end_process(p, i);
	for (unsigned i = 0; i < p->nr_cpus; i++)
		xen_new_baseptr(&g->xen, i, g->kernel.pgd_phys >> PAGE_SHIFT);
	guest_unpin(g, g->base.mm);
	guest_stop(g);
	engine_system_fini(&g->base);
	xen_fini(&g->xen);
	free(g);
}

static void become_a_guest(struct guest *g)
{
	struct engine_system *b = &g->base;

	guest_take_mmu_ops(g);
	b->kernel = &xen_guest; /* whose steps the engine's are */
	b->store.who = NULL;	/* the driver's domain, which tells it itself */
	b->ops.map = map;
	b->ops.unmap = unmap;
	b->ops.protect = protect;
	b->ops.remap = remap;
	b->ops.advise = advise;
	b->ops.fork = fork_process;
	b->ops.run = run_process;
	b->ops.exit = exit_process;
	b->ops.pageout = pageout;
	b->ops.copy_in = copy_in;
	b->ops.copy_out = copy_out;
	b->ops.check = check;
	b->system.destroy = destroy;
}

/* Nothing is pinned yet. */
static void destroy_unborn(struct guest *g)
{
	guest_stop(g);
	engine_system_fini(&g->base);
	xen_fini(&g->xen);
	free(g);
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct guest *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return -ENOMEM;
	err = engine_system_init(&g->base, type, o, trap);
	if (err) {
		free(g);
		return err;
	}
	become_a_guest(g);
	err = xen_init(&g->xen, g->base.machine);
	if (!err)
		err = xen_set_trap_table(&g->xen, trap_table, ARRAY_SIZE(trap_table));
	xen_set_callbacks(&g->xen, guest_event);
	g->xen.writable_tables = type == &xen_ptwr_system;
	if (!err)
		err = guest_start(g);
	if (err)
		destroy_unborn(g);
	else
		*system = &g->base.system;
	return err;
}

const struct system_type xen_system = {
	.name = "xen",
	.summary = "the hypervisor bounces it into the guest, which decides and supplies; the "
		   "hypervisor checks and installs",
	.attacks = guest_attacks,
	.nr_attacks = GUEST_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};

const struct system_type xen_ptwr_system = {
	.name = "xen-ptwr",
	.summary = "the same with writable page tables: the guest stores to them, and the "
		   "hypervisor emulates it",
	.attacks = guest_attacks,
	.nr_attacks = GUEST_ATTACKS,
	.expected = expected_ptwr,
	.nr_expected = ARRAY_SIZE(expected_ptwr),
	.create = create,
};
