/* SPDX-License-Identifier: MIT */
/*
 * The exokernel with exposed page tables (Xok), and a library operating system (in the manner of
 * ExOS) in the program's own address space.
 *
 *   1. The program faults; the kernel fields it.
 *   2. It finds the library operating system that must handle it by the time-slice vector: whose
 * slice is this CPU in?
 *   3. It enters it at the handler of its processor environment, on a level of its exception stack
 * (env.c).
 *   4. The library operating system decides: it looks up the area, reads the page table (which it
 * may), and takes one of its frames, which it fills.
 *   5. It asks the kernel to install the mapping, and presents the capability for the frame.
 *   6. The kernel only checks: is the capability this environment's, is the frame of its resource,
 * does it allow what the entry allows?  It writes the entry.
 *   7. The library operating system restores the registers and jumps back; the kernel has no part
 * in it.
 *
 * The library operating system is this project's engine over a table of mmu_ops that are system
 * calls: it has taken its frames from the kernel at its start.  mmap(), mprotect() and fork() are
 * calls of the library.  Each entry that changes is a call of its own, but for those set together.
 * Its read() and write() touch the program's memory as the program does, and fault in the same way.
 * What the kernel does to get frames back is in revoke.c.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/exokernel/aegis.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"
#include "systems/exokernel/library_program.h"

static struct exokernel *of(struct engine_system *base)
{
	return container_of(base, struct exokernel, base);
}

static struct exokernel *of_program(struct program *p)
{
	return of(engine_system_of_program(p));
}

/* ---- the trap ---- */

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct exokernel *x = of(engine_system_of_engine(&cpu->machine->engine));

	return xok_trap(&x->xok, cpu, cr2, code, "page fault: CR2 and the error code");
}

/* ---- the program's calls, of the library ---- */

static struct program *begin(struct program *p, unsigned cpu)
{
	ledger_begin(of_program(p)->base.system.ledger, cpu);
	return p;
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	return soft_program_ops.map(begin(p, cpu), cpu, a);
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	return soft_program_ops.unmap(begin(p, cpu), cpu, addr, len);
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	return soft_program_ops.protect(begin(p, cpu), cpu, addr, len, prot);
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	return soft_program_ops.remap(begin(p, cpu), cpu, addr, len, new_len, flags, to);
}

static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	return soft_program_ops.advise(begin(p, cpu), cpu, addr, len, advice);
}

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	soft_program_ops.pageout(begin(p, cpu), cpu, addr, len);
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct exokernel *x = of_program(begin(p, cpu));
	int err = library_fork(&x->library, p, cpu, child);

	if (!err && !x->aegis)
		library_ask_for_entries(&x->library, child);
	return err;
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	library_run(&of_program(begin(p, cpu))->library, p, cpu, process);
}

static void exit_process(struct program *p, unsigned process)
{
	library_exit(&of_program(p)->library, p, process);
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	return library_copy(p, cpu, va, to, n, 0);
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	return library_copy(p, cpu, va, (char *)from, n, PF_WRITE);
}

static void check(struct program *p)
{
	struct exokernel *x = of_program(p);

	soft_program_ops.check(p);
	if (x->aegis)
		aegis_check(x->aegis);
}

const struct system_expectation xok_expected[XOK_EXPECTED] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_UPCALLS, 1, NULL },
	{ PAID_SYSTEM_CALLS, 1, NULL }, /* insert_pte */
	{ PAID_CROSSINGS, 4, NULL },	{ PAID_CAPABILITIES, 1, NULL },
	{ PAID_DOMAINS, 0, NULL },	{ PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_PAGES_COPIED, 0, NULL }, { PAID_ENTRY_WRITES, 1, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct exokernel *x = of(engine_system_of(s));

	engine_system_fini(&x->base);
	library_fini(&x->library);
	xok_fini(&x->xok);
	free(x->aegis);
	free(x);
}

static void become_a_library(struct exokernel *x)
{
	struct engine_system *b = &x->base;

	b->kernel = &library_actor; /* whose steps the engine's are */
	b->ops.map = map;
	b->ops.unmap = unmap;
	b->ops.protect = protect;
	b->ops.remap = remap;
	b->ops.advise = advise;
	b->ops.pageout = pageout;
	b->ops.fork = fork_process;
	b->ops.check = check;
	b->ops.run = run_process;
	b->ops.exit = exit_process;
	b->ops.copy_in = copy_in;
	b->ops.copy_out = copy_out;
	b->ops.dirty = engine_system_dirty; /* the page table is exposed */
	b->system.destroy = destroy;
}

/* A processor whose TLB is filled by software. */
static int make_aegis(struct exokernel *x)
{
	x->aegis = calloc(1, sizeof(*x->aegis));
	if (!x->aegis)
		return -ENOMEM;
	aegis_init(x->aegis, x);
	return 0;
}

/* The first environment, and all frames for its library. */
static int start(struct exokernel *x)
{
	struct soft_machine *m = x->base.machine;
	int err;

	x->xok.envs[0] =
		(struct xok_env){ .used = true, .mm = x->base.mm, .resource = LIBRARY_RESOURCE };
	for (unsigned i = 0; i < m->nr_cpus; i++)
		xok_first_slice(&x->xok, i, 0);
	x->xok.envs[0].caps[LIBRARY_CAP] =
		(struct xok_capability){ .resource = LIBRARY_RESOURCE,
					 .rights = XOK_READ | XOK_WRITE | XOK_GRANT };
	err = xok_take_frames(&x->xok, 0, LIBRARY_CAP, m->nr_table, m->nr_user);
	if (!err)
		err = library_init(&x->library, &m->engine, &x->xok, 0, &x->base.mmu);
	if (!err && x->aegis)
		aegis_become_library(x->aegis, &x->library);
	return err;
}

int exokernel_create(const struct system_type *type, const struct system_options *o,
		     struct system **system)
{
	struct exokernel *x = calloc(1, sizeof(*x));
	int err;

	if (!x)
		return -ENOMEM;
	x->base.own_frames = xok_stack_pages(o->cpus);
	err = engine_system_init(&x->base, type, o, trap);
	if (err) {
		free(x);
		return err;
	}
	err = xok_init(&x->xok, x->base.machine, &x->base.mmu);
	if (!err && type == &aegis_system)
		err = make_aegis(x);
	become_a_library(x);
	if (!err)
		err = start(x);
	if (err)
		destroy(&x->base.system);
	else
		*system = &x->base.system;
	return err;
}

const struct system_type xok_system = {
	.name = "xok",
	.summary = "the exokernel fields and checks; the library OS decides and supplies, by "
		   "capability",
	.attacks = xok_attacks,
	.nr_attacks = XOK_ATTACKS,
	.expected = xok_expected,
	.nr_expected = XOK_EXPECTED,
	.create = exokernel_create,
};
