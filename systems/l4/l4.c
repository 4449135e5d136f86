/* SPDX-License-Identifier: MIT */
/*
 * L4: the microkernel fields the fault and makes a message of it; a pager, a task of its own,
 * decides, supplies, and has the kernel map one of its pages.
 *
 *   1. The thread faults; the kernel makes a message of the address and the access, from the thread
 *      to its pager.
 *   2. It switches to the pager's address space: the pager's wait for a message ends.
 *   3. The pager decides what belongs there, takes one of its frames, and fills it.
 *   4. It maps the frame: the kernel looks into its mapping database, has this task the frame, and
 * the right? notes the mapping, and writes the entry of the thread's space.
 *   5. The pager replies, and waits for the next message; the kernel switches back to the thread,
 * whose access is made again.
 *
 * The pager is this project's engine over a table of mmu_ops that are calls of the kernel; the root
 * pager has given it all frames at its start.  mmap(), mprotect() and fork() are messages to it.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/common/engine_system.h"
#include "systems/l4/attacks.h"
#include "systems/l4/l4.h"

/* The kernel runs in whichever space was there when it was entered. */
static const struct ledger_actor kernel_here = { .name = "the kernel", .ring = 0, .domain = 1 };
static const struct ledger_actor kernel_there = { .name = "the kernel", .ring = 0, .domain = 2 };
static const struct ledger_actor pager = { .name = "the pager", .ring = 3, .domain = 2 };

const struct l4_task l4_pager = { .number = 1, .self = &pager, .kernel = &kernel_there };

struct l4 {
	struct engine_system base;
	struct l4_kernel kernel; /* its hardware: as engine_system made it */
};

static struct l4 *of(struct engine_system *base)
{
	return container_of(base, struct l4, base);
}

struct l4_kernel *l4_kernel_of(struct system *s)
{
	return &of(engine_system_of(s))->kernel;
}

static struct l4 *of_mm(struct mm *mm)
{
	return of(engine_system_of_engine(mm->engine));
}

/* ---- messages ---- */

static void to_the_pager(const struct ledger_actor *from, enum ledger_way way, const char *what,
			 const char *message)
{
	ledger_cross(from, &kernel_here, way, what);
	ledger_cross(&kernel_here, &pager, BY_MESSAGE, message);
}

static void back_from_the_pager(const struct ledger_actor *to, const char *what)
{
	ledger_cross(&pager, &kernel_there, BY_SYSTEM_CALL,
		     "replies, and waits for the next message");
	ledger_cross(&kernel_there, to, BY_RETURN, what);
}

/* ---- the pager's calls of the kernel, which is to refuse it nothing ---- */

static void must(int err, const char *what, u64 va)
{
	if (err)
		vmf_panic("l4: the kernel refuses its pager to %s at %lx: %d", what,
			  (unsigned long)va, err);
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	int done = l4_map(&of_mm(mm)->kernel, &l4_pager, mm, va, ptep, ptes, pages, n);

	must(done == -EINVAL || done == -EACCES ? done : 0, "map", va);
	return done;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	must(l4_remap(&of_mm(mm)->kernel, &l4_pager, mm, va, ptep, pte), "map", va);
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	pte_t old;

	must(l4_flush_write(&of_mm(mm)->kernel, &l4_pager, mm, va, ptep, &old), "flush", va);
	return old;
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	pte_t old;

	must(l4_flush(&of_mm(mm)->kernel, &l4_pager, mm, va, ptep, left, &old), "flush", va);
	return old;
}

/* An entry that names no frame is the pager's own business. */
static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	if (pte_mapped(pte))
		must(l4_place(&of_mm(mm)->kernel, &l4_pager, mm, va, ptep, pte), "map", va);
	else
		pte_store(ptep, pte);
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	unsigned taken;

	must(l4_flush_many(&of_mm(mm)->kernel, &l4_pager, mm, takes, n, &taken), "flush",
	     takes[0].va);
	return taken;
}

/* ---- the trap ---- */

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	const struct ledger_actor *who = code & PF_USER ? &lab_program : &kernel_here;
	struct fault_result r;

	to_the_pager(who, BY_EXCEPTION, "page fault: the kernel makes a message of it",
		     "the pager is woken with the message: address and access");
	r = resolve_fault(mm, cr2, code, FAULT_FLAG_USER);
	back_from_the_pager(who, r.reason == FAULT_OK || r.reason == FAULT_RETRY
					 ? "the thread runs: its access is made again"
					 : "the thread's handler of the exception");
	return r;
}

/* ---- the program's calls: messages to the pager ---- */

static struct engine_system *ask(struct program *p, unsigned cpu, const char *what)
{
	struct engine_system *base = engine_system_of_program(p);

	ledger_begin(base->system.ledger, cpu);
	to_the_pager(&lab_program, BY_SYSTEM_CALL, what, "the pager is woken with the message");
	return base;
}

static void answered(void)
{
	back_from_the_pager(&lab_program, "the call returns");
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	s64 at;

	ask(p, cpu, "mmap, as a message");
	at = soft_program_ops.map(p, cpu, a);
	answered();
	return at;
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	int err;

	ask(p, cpu, "munmap, as a message");
	err = soft_program_ops.unmap(p, cpu, addr, len);
	answered();
	return err;
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	int err;

	ask(p, cpu, "mprotect, as a message");
	err = soft_program_ops.protect(p, cpu, addr, len, prot);
	answered();
	return err;
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	s64 at;

	ask(p, cpu, "mremap, as a message");
	at = soft_program_ops.remap(p, cpu, addr, len, new_len, flags, to);
	answered();
	return at;
}

static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	int err;

	ask(p, cpu, "madvise, as a message");
	err = soft_program_ops.advise(p, cpu, addr, len, advice);
	answered();
	return err;
}

/* The child's table is made as a copy; the kernel learns of what it maps, one mapping each. */
static void note_child(struct l4 *l, struct mm *mm)
{
	pte_t pte;

	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE)
		must(l4_place(&l->kernel, &l4_pager, mm, va, NULL, pte), "map", va);
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct engine_system *base = ask(p, cpu, "fork, as a message");
	int err = soft_program_ops.fork(p, cpu, child);

	if (!err)
		note_child(of(base), base->program.mms[child]);
	answered();
	return err;
}

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	ask(p, cpu, "madvise, as a message");
	soft_program_ops.pageout(p, cpu, addr, len);
	answered();
}

static void call_the_kernel(struct program *p, unsigned cpu, const char *what)
{
	ledger_begin(engine_system_of_program(p)->system.ledger, cpu);
	ledger_cross(&lab_program, &kernel_here, BY_SYSTEM_CALL, what);
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	if (p->ops->running(p, cpu) == process)
		return;
	call_the_kernel(p, cpu, "thread_switch: a thread of another process is to run");
	soft_program_ops.run(p, cpu, process);
	lab_other_process_runs();
}

static void exit_process(struct program *p, unsigned process)
{
	const struct ledger *l = engine_system_of_program(p)->system.ledger;

	ask(p, lab_cpu_of(p, l, process), "exit, as a message");
	soft_program_ops.exit(p, process);
	answered();
}

/* The string of a message: the kernel copies it, and who faults is the kernel. */
static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	u64 left;

	call_the_kernel(p, cpu, "send: the kernel reads the string");
	left = soft_program_ops.copy_in(p, cpu, to, va, n);
	ledger_cross(&kernel_here, &lab_program, BY_RETURN, "the call returns");
	return left;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	u64 left;

	call_the_kernel(p, cpu, "receive: the kernel writes the string");
	left = soft_program_ops.copy_out(p, cpu, va, from, n);
	ledger_cross(&kernel_here, &lab_program, BY_RETURN, "the call returns");
	return left;
}

/* Mappings of the space, each of which the database has. */
static u64 check_space(struct l4 *l, struct mm *mm)
{
	u64 n = 0;
	pte_t pte;

	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE, n++)
		if (mapdb_rights(&l->kernel.db, pte_pfn(pte), mm, va) != l4_rights_of(pte))
			vmf_panic("l4: the database differs at %lx", (unsigned long)va);
	return n;
}

/* What the database has and what the tables map is the same. */
static void check(struct program *p)
{
	struct engine_system *base = engine_system_of_program(p);
	struct l4 *l = of(base);
	u64 mapped = 0, noted = mapdb_count(&l->kernel.db);

	soft_program_ops.check(p);
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (base->program.mms[i])
			mapped += check_space(l, base->program.mms[i]);
	if (mapped != noted)
		vmf_panic("l4: %lu mappings, and the database has %lu", (unsigned long)mapped,
			  (unsigned long)noted);
}

/* ---- what is expected ---- */

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_SYSTEM_CALLS, 2, NULL }, /* map, reply */
	{ PAID_CROSSINGS, 6, NULL },	{ PAID_DOMAINS, 2, NULL },
	{ PAID_MESSAGES, 1, NULL },	{ PAID_PAGES_COPIED, 0, NULL },
	{ PAID_PAGES_ZEROED, 1, NULL }, { PAID_ENTRY_WRITES, 1, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct l4 *l = of(engine_system_of(s));

	engine_system_fini(&l->base);
	mapdb_fini(&l->kernel.db);
	free(l);
}

static void become_a_pager(struct l4 *l)
{
	struct engine_system *b = &l->base;

	l->kernel.hardware = b->mmu;
	b->mmu.set = set;
	b->mmu.change = change;
	b->mmu.clean = clean;
	b->mmu.clear = clear;
	b->mmu.put_back = put_back;
	b->mmu.take = take;
	b->kernel = &pager; /* whose steps the engine's are */
	b->ops.map = map;
	b->ops.unmap = unmap;
	b->ops.protect = protect;
	b->ops.remap = remap;
	b->ops.advise = advise;
	b->ops.fork = fork_process;
	b->ops.pageout = pageout;
	b->ops.run = run_process;
	b->ops.exit = exit_process;
	b->ops.copy_in = copy_in;
	b->ops.copy_out = copy_out;
	b->ops.check = check;
	b->system.destroy = destroy;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct l4 *l = calloc(1, sizeof(*l));
	struct soft_machine *m;
	int err;

	if (!l)
		return -ENOMEM;
	err = engine_system_init(&l->base, type, o, trap);
	if (err) {
		free(l);
		return err;
	}
	become_a_pager(l);
	m = l->base.machine;
	err = mapdb_init(&l->kernel.db, m->nr_table, m->nr_user);
	for (u64 i = 0; !err && i < m->nr_user; i++)
		err = mapdb_give(&l->kernel.db, m->nr_table + i, l4_pager.number,
				 L4_READ | L4_WRITE);
	if (err)
		destroy(&l->base.system);
	else
		*system = &l->base.system;
	return err;
}

const struct system_type l4_system = {
	.name = "l4",
	.summary = "the microkernel makes a message of it; a pager decides, supplies, and has it "
		   "mapped",
	.attacks = l4_attacks,
	.nr_attacks = NR_L4_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};
