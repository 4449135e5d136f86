/* SPDX-License-Identifier: MIT */
/*
 * Shadow paging: a guest that knows of nothing, on a processor that knows of no guests.  The
 * processor never walks the guest's tables; it walks the hypervisor's shadows of them.
 *
 *   1. The access faults in the shadow; every vector 14 leaves the guest.
 *   2. The hypervisor walks the guest's tables itself.  They forbid the access: a true fault.  It
 * is injected into the guest, with the error code that the guest's tables give.
 *   3. The guest's kernel serves it as if it were alone (systems/linux/linux.c), and writes the
 * entry.  Its table is write-protected: the store leaves the guest, the hypervisor makes it, and
 * drops what its shadow has in that place.
 *   4. The guest returns to the access, which faults again, for the shadow has nothing yet.  Now
 * the guest's tables allow it: a hidden fault, of which the guest never hears.
 *   5. The hypervisor sets the accessed and dirty bits in the guest's entries as a processor would,
 * makes the shadows that are missing, and the entry: the guest's rights, the host's frame.
 *
 * So a fresh page costs three exits; two where a leaf table that was written to once is left out of
 * sync until the guest flushes (shadow-oos), for then 3 is a store like others.  Where many stores
 * to one table follow one another the hypervisor gives its shadow up at the third.
 *
 * The guest is this project's engine; what it does to page tables goes through its table of
 * operations, which is where its stores meet the write-protection.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/space/huge.h"
#include "machine/soft/second.h"
#include "systems/shadow/shadow.h"

static const struct ledger_actor hypervisor = { .name = "the hypervisor", .ring = -1, .domain = 2 };

/* What a CPU's walk met. */
struct fault_exit {
	struct mmu_control control;
	u64 root, va;
	u32 access;
	int error;
};

struct shadowed {
	struct engine_system base;
	struct soft_second_stage second;
	struct host_memory host;
	struct shadow shadow;
	struct fault_exit *exits; /* of each CPU */
	struct mmu_ops counted;	  /* as engine_system made it: the stores themselves */
};

static struct shadowed *of(struct engine_system *base)
{
	return container_of(base, struct shadowed, base);
}

static struct shadowed *of_mm(struct mm *mm)
{
	return of(engine_system_of_engine(mm->engine));
}

struct shadow *shadow_of(struct system *s)
{
	return &of(engine_system_of(s))->shadow;
}

int shadow_error(struct system *s, unsigned cpu)
{
	return of(engine_system_of(s))->exits[cpu].error;
}

static void flush_all(void *ctx)
{
	struct shadowed *s = ctx;
	struct soft_machine *m = s->base.machine;

	ledger_count(PAID_FLUSHES);
	for (unsigned i = 0; i < m->nr_cpus; i++)
		ledger_add(PAID_IPIS, atomic_load(&m->cpus[i].mm) && i != ledger_cpu());
	soft_shootdown_all(m);
}

static void exits(const struct ledger_actor *who, const char *what)
{
	ledger_cross(who, &hypervisor, BY_VM_EXIT, what);
}

static void enters(const struct ledger_actor *who, const char *what)
{
	ledger_cross(&hypervisor, who, BY_RETURN, what);
}

/* ---- the processor ---- */

static enum walk_status walk(struct soft_second_stage *second, struct soft_cpu *cpu,
			     const struct mmu_control *control, u64 root, u64 va, u32 access,
			     struct walk_result *w, char **host)
{
	struct shadowed *s = container_of(second, struct shadowed, second);
	enum walk_status status = shadow_walk(&s->shadow, control, root, va, access, w);

	if (status == WALK_OK)
		*host = host_bytes(&s->host, w->phys >> PAGE_SHIFT);
	if (status == WALK_OK || status == WALK_NONCANONICAL)
		return status;
	/* The entry at fault was read, too. */
	if (status == WALK_FAULT)
		w->level--;
	s->exits[cpu->number] = (struct fault_exit){
		.control = *control, .root = root, .va = va, .access = access
	};
	return WALK_UNREACHABLE;
}

/* 2.  The guest fields it. */
static enum fault_reason inject(struct soft_cpu *cpu, const struct fault_exit *x, u32 code)
{
	struct fault_result r;

	enters(x->access & PF_USER ? &lab_program : &lab_kernel,
	       "a true fault: VM entry, with vector 14 and what the guest's tables say");
	soft_invlpg(cpu, x->va);
	cpu->cr2 = x->va;
	cpu->error_code = code;
	r = engine_system_field(cpu, x->va, code, FAULT_FLAG_USER);
	if (r.reason == FAULT_RETRY)
		ledger_count(PAID_RETRIES);
	return r.reason;
}

static enum fault_reason resolve(struct soft_second_stage *second, struct soft_cpu *cpu)
{
	struct shadowed *s = container_of(second, struct shadowed, second);
	struct fault_exit *x = &s->exits[cpu->number];
	const struct ledger_actor *who = x->access & PF_USER ? &lab_program : &lab_kernel;
	u32 code;
	int result;

	exits(who, "exit 0: vector 14, which is intercepted");
	ledger_step(&hypervisor, "walks the guest's page tables itself", x->va);
	result = shadow_fault(&s->shadow, &x->control, x->root, x->va, x->access, &code);
	if (result == SHADOW_TRUE)
		return inject(cpu, x, code);
	if (result == SHADOW_HIDDEN)
		ledger_step(&hypervisor,
			    "a hidden fault: sets the guest's A and D, and the shadow's entry",
			    x->va);
	enters(who, "VM entry: the access is made again");
	x->error = min_of(result, 0);
	return result < 0 ? FAULT_BUS : FAULT_OK;
}

/* ---- the guest's stores ---- */

static const char *const store_text[] = {
	[SHADOW_EMULATED] = "makes the store itself, and drops what the shadow has there",
	[SHADOW_UNSYNCED] = "lets the table be out of sync, and the guest make the store",
	[SHADOW_FLOODED] = "takes it for no table any more: its shadows go, the guest may store",
};

/* The guest is stopped at each of the stores that it has to be stopped for. */
static void stop_at_stores(struct shadowed *s, const pte_t *entry, unsigned n)
{
	enum shadow_store last = SHADOW_EMULATED;
	unsigned stopped = shadow_before_store(&s->shadow, entry, n, &last);

	for (unsigned i = 1; i <= stopped; i++) {
		exits(&lab_kernel, "exit 0: a store to a table that is write-protected");
		ledger_step(&hypervisor, store_text[i < stopped ? SHADOW_EMULATED : last], 0);
		enters(&lab_kernel, last == SHADOW_EMULATED || i < stopped
					    ? "VM entry, behind the store"
					    : "VM entry: the store is made again");
	}
}

/* The paging lock is held until end(): the stores and the shadows change together. */
static struct shadowed *begin(struct mm *mm, const pte_t *entry, unsigned n)
{
	struct shadowed *s = of_mm(mm);

	shadow_lock(&s->shadow);
	stop_at_stores(s, entry, n);
	return s;
}

static void end(struct shadowed *s)
{
	shadow_unlock(&s->shadow);
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct shadowed *s = begin(mm, ptep, n);
	int done = s->counted.set(mm, va, ptep, ptes, pages, n);

	end(s);
	return done;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct shadowed *s = begin(mm, ptep, 1);

	s->counted.change(mm, va, ptep, pte);
	end(s);
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct shadowed *s = begin(mm, ptep, 1);
	pte_t old = s->counted.clean(mm, va, ptep);

	end(s);
	return old;
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct shadowed *s = begin(mm, ptep, 1);
	pte_t old = s->counted.clear(mm, va, ptep, left);

	end(s);
	return old;
}

static bool test_and_clear_young(struct mm *mm, u64 va, pte_t *ptep)
{
	struct shadowed *s;
	bool young;

	/* To read it is no store. */
	if (!pte_young(pte_read(ptep)))
		return false;
	s = begin(mm, ptep, 1);
	young = s->counted.test_and_clear_young(mm, va, ptep);
	end(s);
	return young;
}

static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct shadowed *s = begin(mm, ptep, 1);

	(void)va;
	pte_store(ptep, pte);
	end(s);
}

/* A table that comes has been zeroed, in a frame that may have been one before, and be protected.
 * Of one that goes the hypervisor hears nothing. */
static void set_table(struct mm *mm, pte_t *slot, pte_t entry)
{
	struct shadowed *s = begin(mm, slot, 1);

	if (pmd_is_table(entry))
		stop_at_stores(s, shadow_guest_table(&s->shadow, pte_pfn(entry)), PTRS_PER_TABLE);
	pte_store(slot, entry);
	ledger_count(PAID_ENTRY_WRITES);
	end(s);
}

/* ---- the guest's flushes: what is out of sync gives what the guest has given up ---- */

/* More pages than this are flushed by a load of CR3: tlb_single_page_flush_ceiling. */
#define GUEST_FLUSHES_SINGLY 33

/* CPUs beside this one that run the space: each flushes for itself. */
static unsigned others_running(const struct shadowed *s, const struct mm *mm)
{
	const struct soft_machine *m = s->base.machine;
	unsigned n = 0;

	for (unsigned i = 0; m->nr_cpus > 1 && i < m->nr_cpus; i++)
		n += atomic_load(&m->cpus[i].mm) == mm && i != ledger_cpu();
	return n;
}

static void guest_loads_cr3(struct shadowed *s)
{
	exits(&lab_kernel, "exit 28: a load of CR3");
	shadow_sync(&s->shadow);
	enters(&lab_kernel, "VM entry");
}

static void guest_invalidates(struct shadowed *s, const struct mm *mm, u64 va)
{
	exits(&lab_kernel, "exit 14: INVLPG");
	shadow_invlpg(&s->shadow, mm->pgd_phys, va);
	enters(&lab_kernel, "VM entry");
}

/* Before any TLB is flushed, lest it gets what is out of sync again.  Paging lock. */
static void guest_flushes(struct shadowed *s, const struct mm *mm, u64 start, u64 end)
{
	bool all = end - start > GUEST_FLUSHES_SINGLY * PAGE_SIZE;

	for (unsigned cpus = 1 + others_running(s, mm); cpus; cpus--) {
		if (all)
			guest_loads_cr3(s);
		for (u64 va = start & PAGE_MASK; !all && va < end; va += PAGE_SIZE)
			guest_invalidates(s, mm, va);
	}
}

static void flush(struct mm *mm, u64 start, u64 end)
{
	struct shadowed *s = of_mm(mm);

	if (start >= end)
		return;
	shadow_lock(&s->shadow);
	guest_flushes(s, mm, start, end);
	shadow_unlock(&s->shadow);
	s->counted.flush(mm, start, end);
}

/* All in one page table, and the flush with it. */
static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct shadowed *s = of_mm(mm);
	u64 end = takes[n - 1].va + PAGE_SIZE;
	unsigned taken;

	shadow_lock(&s->shadow);
	for (unsigned i = 0; i < n; i++)
		stop_at_stores(s, takes[i].ptep, 1);
	taken = s->counted.take(mm, takes, n);
	if (taken) {
		guest_flushes(s, mm, takes[0].va, end);
		soft_shootdown(mm, takes[0].va, end);
	}
	shadow_unlock(&s->shadow);
	return taken;
}

/* ---- the program's calls ---- */

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	struct engine_system *base;

	if (p->ops->running(p, cpu) == process)
		return;
	base = engine_system_enter(p, cpu, "sched_yield: another process is to run");
	shadow_lock(&of(base)->shadow);
	guest_loads_cr3(of(base));
	shadow_unlock(&of(base)->shadow);
	soft_program_ops.run(p, cpu, process);
	lab_other_process_runs();
}

/* CPUs that ran it run the first process then. */
static void exit_process(struct program *p, unsigned process)
{
	struct shadowed *s = of(engine_system_of_program(p));
	unsigned cpu = lab_cpu_of(p, s->base.system.ledger, process);
	bool itself = p->ops->running(p, cpu) == process;

	engine_system_enter(p, cpu, itself ? "exit" : "kill: another process ends");
	for (unsigned i = 0; i < p->nr_cpus; i++) {
		if (p->ops->running(p, i) != process)
			continue;
		shadow_lock(&s->shadow);
		guest_loads_cr3(s);
		shadow_unlock(&s->shadow);
	}
	soft_program_ops.exit(p, process);
	if (itself)
		lab_other_process_runs();
	else
		engine_system_leave(&s->base);
}

static void check(struct program *p)
{
	soft_program_ops.check(p);
	shadow_check(&of(engine_system_of_program(p))->shadow);
}

/* ---- expectations ---- */

#define EXIT_LOADS_CR3 "each exit loads the hypervisor's CR3, and the entry the guest's"

#define FOR_BOTH                                                                                   \
	{ PAID_EXCEPTIONS, 1, NULL }, { PAID_SYSTEM_CALLS, 0, NULL },                              \
		{ PAID_HYPERCALLS, 0, NULL }, { PAID_PAGES_COPIED, 0, NULL },                      \
		{ PAID_PAGES_ZEROED, 1, NULL },                                                    \
	{                                                                                          \
		PAID_DOMAINS, 0, EXIT_LOADS_CR3                                                    \
	}

static const struct system_expectation expected[] = {
	FOR_BOTH,
	{ PAID_VM_EXITS, 3, NULL },
	{ PAID_CROSSINGS, 8, NULL }, /* six of the exits, two of the guest's */
};

#define FIRST_STORE                                                                                \
	"the table has just got its shadow: the first store puts it out of sync, and each page "   \
	"after costs two exits"

static const struct system_expectation expected_oos[] = {
	FOR_BOTH,
	{ PAID_VM_EXITS, 2, FIRST_STORE },
	{ PAID_CROSSINGS, 6, FIRST_STORE },
};

/* ---- its life ---- */

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	(void)code;
	vmf_panic("shadow: CPU %u faults at %lx, and nobody has intercepted it", cpu->number,
		  (unsigned long)cr2);
}

static void destroy(struct system *system)
{
	struct shadowed *s = of(engine_system_of(system));

	engine_system_fini(&s->base);
	shadow_fini(&s->shadow);
	host_fini(&s->host);
	free(s->exits);
	free(s);
}

static void become_a_guest(struct shadowed *s)
{
	struct engine_system *b = &s->base;

	s->counted = b->mmu;
	b->mmu.set = set;
	b->mmu.change = change;
	b->mmu.clean = clean;
	b->mmu.clear = clear;
	b->mmu.test_and_clear_young = test_and_clear_young;
	b->mmu.put_back = put_back;
	b->mmu.set_table = set_table;
	b->mmu.take = take;
	b->mmu.flush = flush;
	b->ops.run = run_process;
	b->ops.exit = exit_process;
	b->ops.check = check;
	b->system.destroy = destroy;
	s->second = (struct soft_second_stage){ .walk = walk, .resolve = resolve };
	b->machine->second = &s->second;
}

/* On error nothing is left to undo but the memory of s. */
static int start_hypervisor(struct shadowed *s)
{
	struct soft_machine *m = s->base.machine;
	int err = host_init(&s->host, m->memory, m->nr_table + m->nr_user);

	if (err)
		return err;
	err = shadow_init(&s->shadow, &s->host, shadow_usual_room(s->host.nr));
	s->exits = calloc(m->nr_cpus, sizeof(*s->exits));
	if (err || !s->exits) {
		if (!err)
			shadow_fini(&s->shadow);
		host_fini(&s->host);
		free(s->exits);
		return -ENOMEM;
	}
	s->shadow.flush = flush_all;
	s->shadow.ctx = s;
	return 0;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct shadowed *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	err = engine_system_init(&s->base, type, o, trap);
	if (err) {
		free(s);
		return err;
	}
	err = start_hypervisor(s);
	if (err) {
		engine_system_fini(&s->base);
		free(s);
		return err;
	}
	s->shadow.out_of_sync = type == &shadow_oos_system;
	become_a_guest(s);
	*system = &s->base.system;
	return 0;
}

const struct system_type shadow_system = {
	.name = "shadow",
	.summary = "a guest's kernel does it all; the hypervisor intercepts its faults and stores, "
		   "and shadows its tables",
	.attacks = shadow_attacks,
	.nr_attacks = SHADOW_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};

const struct system_type shadow_oos_system = {
	.name = "shadow-oos",
	.summary = "the same with leaf tables that are out of sync until the guest flushes",
	.attacks = shadow_attacks,
	.nr_attacks = SHADOW_ATTACKS,
	.expected = expected_oos,
	.nr_expected = ARRAY_SIZE(expected_oos),
	.create = create,
};
