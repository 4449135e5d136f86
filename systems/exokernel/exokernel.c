/* SPDX-License-Identifier: MIT */
/*
 * The exokernel with exposed page tables (Xok), and a library operating system (in the manner of
 * ExOS) in the program's own address space.
 *
 *   1. The program faults; the kernel fields it.
 *   2. It finds the library operating system that must handle it by the time-slice vector: whose
 * slice is this CPU in?
 *   3. It enters it at the handler of its processor environment, on a stack of its own.
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
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/common/engine_system.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/xok.h"

#define LIBRARY_CAP	 0 /* where each environment has its capability */
#define LIBRARY_RESOURCE 1

static const struct ledger_actor library = { .name = "the library OS", .ring = 3, .domain = 1 };

struct exokernel {
	struct engine_system base;
	struct xok xok;
	struct mmu_ops
		counted; /* as engine_system made it: what the kernel does after its checks */
};

static struct exokernel *of(struct engine_system *base)
{
	return container_of(base, struct exokernel, base);
}

static struct exokernel *of_program(struct program *p)
{
	return of(engine_system_of_program(p));
}

static struct exokernel *of_mm(struct mm *mm)
{
	return of(engine_system_of_engine(mm->engine));
}

/* ---- the library's calls of the kernel ---- */

static void call(const char *what, u64 operations)
{
	ledger_cross(&library, &lab_kernel, BY_SYSTEM_CALL, what);
	ledger_add(PAID_OPERATIONS, operations);
}

static void returns(void)
{
	ledger_cross(&lab_kernel, &library, BY_RETURN, "the call returns");
}

/* Whose table that is; PROGRAM_PROCESSES: of a child that is just being made, or could not be. */
static unsigned env_of(const struct exokernel *x, const struct mm *mm)
{
	unsigned i = 0;

	while (i < PROGRAM_PROCESSES && (!x->xok.envs[i].used || x->xok.envs[i].mm != mm))
		i++;
	return i;
}

/* It must not refuse its own library. */
static void must(int result, u64 va)
{
	if (result == -EBADF || result == -EACCES || result == -EINVAL)
		vmf_panic("exokernel: the kernel refuses the library an entry at %lx: %d",
			  (unsigned long)va, result);
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct exokernel *x = of_mm(mm);
	unsigned env = env_of(x, mm);
	int done;

	call("insert_pte: here is the capability for the frame", n);
	done = xok_insert_pte(&x->xok, env, LIBRARY_CAP, env, va, ptep, ptes, pages, n);
	must(done, va);
	ledger_step(&lab_kernel, "checks the capability against the frame, and writes the entry",
		    va);
	returns();
	return done;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct exokernel *x = of_mm(mm);
	unsigned env = env_of(x, mm);

	call("mod_pte: the entry is to allow this", 1);
	must(xok_mod_pte(&x->xok, env, LIBRARY_CAP, env, va, ptep, pte), va);
	ledger_step(&lab_kernel, "checks the capability against the frame, and writes the entry",
		    va);
	returns();
}

/* A call that takes n entries away from the table.  A child that is no environment yet has them
 * from nobody but its parent's library. */
static struct xok *removes(struct mm *mm, u64 va, const char *what, unsigned n)
{
	struct exokernel *x = of_mm(mm);
	unsigned env = env_of(x, mm);

	call(what, n);
	if (env < PROGRAM_PROCESSES)
		must(xok_check_removal(&x->xok, env, LIBRARY_CAP, env), va);
	return &x->xok;
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct xok *x = removes(mm, va, "mod_pte: the entry is to be read-only and clean", 1);
	pte_t old = x->hardware.clean(mm, va, ptep);

	returns();
	return old;
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct xok *x = removes(mm, va, "mod_pte: the entry is to go", 1);
	pte_t old = x->hardware.clear(mm, va, ptep, left);

	returns();
	return old;
}

/* An entry that names no frame needs no capability. */
static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct exokernel *x = of_mm(mm);
	unsigned env = env_of(x, mm);

	call("insert_pte: the entry is here now", 1);
	if (pte_mapped(pte))
		must(xok_check_pte(&x->xok, env, LIBRARY_CAP, env, va, pte), va);
	pte_store(ptep, pte);
	ledger_count(PAID_ENTRY_WRITES);
	returns();
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct xok *x = removes(mm, takes[0].va, "mod_pte_range: these entries are to go", n);
	unsigned taken = x->hardware.take(mm, takes, n);

	returns();
	return taken;
}

/* ---- the trap ---- */

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct exokernel *x = of(engine_system_of_engine(&cpu->machine->engine));
	const struct xok_env *env;
	struct fault_result r;

	ledger_cross(&lab_program, &lab_kernel, BY_EXCEPTION, "page fault: CR2 and the error code");
	env = &x->xok.envs[xok_current(&x->xok, cpu->number)];
	ledger_step(&lab_kernel, "finds the library OS by the time-slice vector", cr2);
	ledger_cross(&lab_kernel, &library, BY_UPCALL,
		     "enters it at the fault handler of its environment, on a stack of its own");
	r = resolve_fault(env->mm, cr2, code, FAULT_FLAG_USER);
	ledger_cross(&library, &lab_program, BY_RETURN,
		     r.reason == FAULT_OK || r.reason == FAULT_RETRY
			     ? "restores the registers and jumps: the kernel has no part in it"
			     : "to the program's handler of the signal");
	return r;
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

/* What the child's table has from its parent's: the kernel is asked for all of it in one call. */
static void ask_for_entries(struct exokernel *x, unsigned env)
{
	struct mm *mm = x->xok.envs[env].mm;
	pte_t pte;
	u64 n = 0;

	ledger_cross(&library, &lab_kernel, BY_SYSTEM_CALL,
		     "mod_pte_range: the child's entries, as the parent has them");
	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE, n++)
		must(xok_check_pte(&x->xok, env, LIBRARY_CAP, env, va, pte), va);
	ledger_add(PAID_OPERATIONS, n);
	ledger_add(PAID_ENTRY_WRITES, n);
	returns();
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct exokernel *x = of_program(begin(p, cpu));
	int err = soft_program_ops.fork(p, cpu, child);

	if (err)
		return err;
	call("env_alloc: a new environment", 1);
	err = xok_env_create(&x->xok, xok_current(&x->xok, cpu), child, x->base.program.mms[child]);
	returns();
	if (err)
		soft_program_ops.exit(p, child);
	else
		ask_for_entries(x, child);
	return err;
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	of_program(p)->xok.slices[cpu] = process;
	soft_program_ops.run(p, cpu, process);
}

static void exit_process(struct program *p, unsigned process)
{
	struct exokernel *x = of_program(p);

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (x->xok.slices[i] == process)
			run_process(p, i, 0);
	soft_program_ops.exit(p, process);
	xok_env_destroy(&x->xok, process);
}

/* The library touches the program's memory as the program does. */
static u64 copy(struct program *p, unsigned cpu, u64 va, char *bytes, u64 n, u32 access)
{
	u64 part;

	for (; n; n -= part, va += part, bytes += part) {
		part = min_of(n, PAGE_SIZE - page_offset(va));
		if (p->ops->access(p, cpu, va, access, bytes, part) != FAULT_OK)
			break;
	}
	return n;
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	return copy(p, cpu, va, to, n, 0);
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	return copy(p, cpu, va, (char *)from, n, PF_WRITE);
}

/* ---- attacks: by the first environment, straight to the kernel ---- */

#define AT 0x20000000ULL

static struct xok *attacked(struct system *s)
{
	return &of(engine_system_of(s))->xok;
}

/* By the call itself; and nothing may have been written. */
static int insert(struct system *s, unsigned cap, unsigned target, u64 va, u64 pfn, u64 bits)
{
	pte_t entry = { 0 }, pte = pte_make(pfn, PTE_PRESENT | bits);
	struct page *page = NULL;
	int result = xok_insert_pte(attacked(s), 0, cap, target, va, &entry, &pte, &page, 1);

	return result < 0 && !pte_none(entry) ? 1 : result;
}

static u64 own_frame(struct system *s)
{
	return attacked(s)->machine->nr_table + 1;
}

static int kernel_frame(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, 0, PTE_USER);
}

static int frame_past_the_end(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s) + attacked(s)->nr_frames, PTE_USER);
}

static int another_s_frame(struct system *s)
{
	attacked(s)->owners[1] = LIBRARY_RESOURCE + 1;
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s), PTE_USER);
}

static int made_up_capability(struct system *s)
{
	return insert(s, 5, 0, AT, own_frame(s), PTE_USER);
}

static int read_capability_for_writing(struct system *s)
{
	attacked(s)->envs[0].caps[1] =
		(struct xok_capability){ .resource = LIBRARY_RESOURCE, .rights = XOK_READ };
	if (insert(s, 1, 0, AT, own_frame(s), PTE_USER) < 0)
		return 1; /* reading is allowed */
	return insert(s, 1, 0, AT, own_frame(s), PTE_USER | PTE_WRITE);
}

static int another_s_entries_go(struct system *s)
{
	return xok_check_removal(attacked(s), 0, LIBRARY_CAP, 1);
}

static int another_s_table(struct system *s)
{
	return insert(s, LIBRARY_CAP, 1, AT, own_frame(s), PTE_USER);
}

static int kernel_address(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, 0xffff800000000000ULL, own_frame(s), PTE_USER);
}

static int kernel_entry(struct system *s)
{
	return insert(s, LIBRARY_CAP, 0, AT, own_frame(s), 0);
}

static int frames_of_another(struct system *s)
{
	return xok_take_frames(attacked(s), 0, LIBRARY_CAP, own_frame(s), 1);
}

static const struct system_attack attacks[] = {
	{ "a mapping of a page-table frame", kernel_frame, -EACCES },
	{ "a mapping of a frame that is none", frame_past_the_end, -EACCES },
	{ "a mapping of another's frame", another_s_frame, -EACCES },
	{ "a capability that is made up", made_up_capability, -EBADF },
	{ "a capability for reading, used for writing", read_capability_for_writing, -EACCES },
	{ "an entry in another environment's page table", another_s_table, -EACCES },
	{ "entries of another environment's are taken away", another_s_entries_go, -EACCES },
	{ "an entry in the kernel's half", kernel_address, -EINVAL },
	{ "an entry that is the supervisor's", kernel_entry, -EINVAL },
	{ "frames that somebody has are taken", frames_of_another, -EBUSY },
};

static const struct system_expectation expected[] = {
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
	xok_fini(&x->xok);
	free(x);
}

static void become_a_library(struct exokernel *x)
{
	struct engine_system *b = &x->base;

	b->mmu.set = set;
	b->mmu.change = change;
	b->mmu.clean = clean;
	b->mmu.clear = clear;
	b->mmu.put_back = put_back;
	b->mmu.take = take;
	b->kernel = &library; /* whose steps the engine's are */
	b->ops.map = map;
	b->ops.unmap = unmap;
	b->ops.protect = protect;
	b->ops.fork = fork_process;
	b->ops.run = run_process;
	b->ops.exit = exit_process;
	b->ops.copy_in = copy_in;
	b->ops.copy_out = copy_out;
	b->system.destroy = destroy;
}

/* The first environment, and all frames for its library. */
static int start(struct exokernel *x)
{
	struct soft_machine *m = x->base.machine;

	x->xok.envs[0] = (struct xok_env){ .used = true, .mm = x->base.mm };
	x->xok.envs[0].caps[LIBRARY_CAP] =
		(struct xok_capability){ .resource = LIBRARY_RESOURCE,
					 .rights = XOK_READ | XOK_WRITE | XOK_GRANT };
	return xok_take_frames(&x->xok, 0, LIBRARY_CAP, m->nr_table, m->nr_user);
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct exokernel *x = calloc(1, sizeof(*x));
	int err;

	if (!x)
		return -ENOMEM;
	err = engine_system_init(&x->base, type, o, trap);
	if (err) {
		free(x);
		return err;
	}
	err = xok_init(&x->xok, x->base.machine, &x->base.mmu);
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
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};
