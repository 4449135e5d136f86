/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/reclaim/policy.h"
#include "systems/common/engine_system.h"

const struct ledger_actor lab_program = { .name = "the program", .ring = 3, .domain = 1 };
/* In the program's own address space. */
const struct ledger_actor lab_kernel = { .name = "the kernel", .ring = 0, .domain = 1 };

/* The same as seen from a process that gives the CPU to another: in the other's address space. */
static const struct ledger_actor other_program = { .name = "the program", .ring = 3, .domain = 2 };
static const struct ledger_actor other_kernel = { .name = "the kernel", .ring = 0, .domain = 2 };

/* ---- changes of translations, counted ---- */

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	int done = soft_mmu_ops.set(mm, va, ptep, ptes, pages, n);

	ledger_add(PAID_ENTRY_WRITES, (u64)max_of(done, 0));
	return done;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	soft_mmu_ops.change(mm, va, ptep, pte);
	ledger_count(PAID_ENTRY_WRITES);
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	ledger_count(PAID_ENTRY_WRITES);
	return soft_mmu_ops.clean(mm, va, ptep);
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	ledger_count(PAID_ENTRY_WRITES);
	return soft_mmu_ops.clear(mm, va, ptep, left);
}

/* CPUs beside this one that run the space. */
static u64 others_running(const struct mm *mm)
{
	struct soft_machine *m = soft_of(mm->engine);
	u64 n = 0;

	if (m->nr_cpus == 1) /* a thread that drives none runs on it, too */
		return 0;
	for (unsigned i = 0; i < m->nr_cpus; i++)
		n += atomic_load(&m->cpus[i].mm) == mm && i != ledger_cpu();
	return n;
}

static void count_flush(const struct mm *mm)
{
	ledger_count(PAID_FLUSHES);
	ledger_add(PAID_IPIS, others_running(mm));
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	unsigned taken = soft_mmu_ops.take(mm, takes, n);

	ledger_add(PAID_ENTRY_WRITES, taken);
	if (taken)
		count_flush(mm);
	return taken;
}

static void flush(struct mm *mm, u64 start, u64 end)
{
	soft_mmu_ops.flush(mm, start, end);
	if (start >= end)
		return;
	count_flush(mm);
	if (end - start == PAGE_SIZE)
		ledger_count(PAID_INVLPG);
}

static void release(struct engine *e, struct page *page)
{
	ledger_count(PAID_FRAMES_FREED);
	soft_mmu_ops.release(e, page);
}

struct mmu_ops lab_counted_mmu_ops(void)
{
	struct mmu_ops ops = soft_mmu_ops;

	ops.set = set;
	ops.change = change;
	ops.clean = clean;
	ops.clear = clear;
	ops.take = take;
	ops.flush = flush;
	ops.release = release;
	return ops;
}

bool engine_system_next_entry(struct mm *mm, u64 *va, pte_t *pte)
{
	spinlock_t *ptl;
	pte_t *ptep;

	while ((ptep = pte_next_table(mm, va, mm->high, &ptl))) {
		do { /* to the table's end */
			*pte = pte_read(ptep++);
			if (pte_mapped(*pte))
				return true;
			*va += PAGE_SIZE;
		} while (*va < mm->high && *va & ~PMD_MASK);
	}
	return false;
}

int lab_page_dirty(struct mm *mm, u64 va)
{
	spinlock_t *ptl;
	const pte_t *ptep;
	pte_t pte = { 0 };

	down_read(&mm->mmap_lock); /* under which no table goes */
	ptep = pte_find(mm, va, &ptl);
	if (ptep) {
		pte = pte_read(ptep);
		ledger_count(PAID_SOFTWARE_READS);
	}
	up_read(&mm->mmap_lock);
	return pte_present(pte) ? pte_dirty(pte) : -ENOENT;
}

int engine_system_dirty(struct program *p, unsigned cpu, u64 va)
{
	struct engine_system *s = engine_system_of_program(p);

	ledger_begin(s->system.ledger, cpu);
	return lab_page_dirty(atomic_load_explicit(&s->machine->cpus[cpu].mm, memory_order_relaxed),
			      va);
}

/* ---- steps ---- */

static const char *const step_text[NR_ENGINE_STEPS] = {
	[STEP_LOCK_VMA] = "finds the area and takes its own lock, not the space's",
	[STEP_LOCK_SPACE] = "takes mmap_lock for reading and finds the area",
	[STEP_ACCESS_ERROR] = "no area allows the access",
	[STEP_HANDLE_FAULT] = "handle_mm_fault: walks the page table for the address",
	[STEP_ALLOC_TABLE] = "adds a page table",
	[STEP_ANONYMOUS] = "the entry is none, the area anonymous: do_anonymous_page",
	[STEP_FILE] = "the entry is none, the area has a file: do_fault",
	[STEP_SWAP_IN] = "the entry names a swap slot: do_swap_page",
	[STEP_WRITE_PROTECTED] = "the entry is present and read-only: do_wp_page",
	[STEP_USERFAULT] = "the area is a monitor's: handle_userfault puts the thread to sleep",
	[STEP_ALLOC_FRAMES] = "takes a frame",
	[STEP_ZERO] = "fills it with zeros",
	[STEP_COPY] = "copies the bytes into it",
	[STEP_FILE_READ] = "reads a page from the file's disk",
	[STEP_FILE_WRITTEN] = "writes a page to the file's disk",
	[STEP_MAP] = "under the page-table lock, finds the entry as it was and sets it",
};

void engine_system_count_step(enum engine_step step, u64 n)
{
	static const struct {
		bool counted;
		enum ledger_counter counter;
	} counters[NR_ENGINE_STEPS] = {
		[STEP_LOCK_VMA] = { true, PAID_LOCKS_REGION },
		[STEP_LOCK_SPACE] = { true, PAID_LOCKS_SPACE },
		[STEP_READ_TABLES] = { true, PAID_SOFTWARE_READS },
		[STEP_ALLOC_TABLE] = { true, PAID_TABLES },
		[STEP_ALLOC_FRAMES] = { true, PAID_FRAMES_ALLOCATED },
		[STEP_ZERO] = { true, PAID_PAGES_ZEROED },
		[STEP_COPY] = { true, PAID_PAGES_COPIED },
		[STEP_FILE_READ] = { true, PAID_IO_READS },
		[STEP_FILE_WRITTEN] = { true, PAID_IO_WRITES },
	};

	if (counters[step].counted)
		ledger_add(counters[step].counter, n);
}

void engine_system_tell_step(const struct ledger_actor *who, enum engine_step step, u64 va, u64 n)
{
	engine_system_count_step(step, n);
	if (step_text[step])
		ledger_step(who, step_text[step], va);
}

void engine_system_step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	engine_system_tell_step(container_of(o, struct engine_system, observer)->kernel, step, va,
				n);
}

/* ---- the trap ---- */

struct fault_result engine_system_field(struct soft_cpu *cpu, u64 cr2, u32 code, unsigned flags)
{
	struct engine_system *s = engine_system_of_engine(&cpu->machine->engine);
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	bool user = code & PF_USER;
	struct fault_result r;

	ledger_cross(user ? &lab_program : &lab_kernel, &lab_kernel, BY_EXCEPTION,
		     "page fault: CR2 and the error code, vector 14");
	r = resolve_fault(mm, cr2, code, flags);
	if (s->resolved)
		s->resolved(s);
	if (user)
		ledger_cross(&lab_kernel, &lab_program, BY_RETURN,
			     r.reason == FAULT_OK || r.reason == FAULT_RETRY
				     ? "iret: the access is made again"
				     : "to the handler of a signal");
	return r;
}

/* ---- the program's calls ---- */

struct engine_system *engine_system_enter(struct program *p, unsigned cpu, const char *name)
{
	struct engine_system *s = engine_system_of_program(p);

	ledger_begin(s->system.ledger, cpu);
	ledger_cross(&lab_program, s->kernel, BY_SYSTEM_CALL, name);
	return s;
}

void engine_system_leave(struct engine_system *s)
{
	ledger_cross(s->kernel, &lab_program, BY_RETURN, "the call returns");
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct engine_system *s = engine_system_enter(p, cpu, "mmap");
	s64 at = soft_program_ops.map(p, cpu, a);

	engine_system_leave(s);
	return at;
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct engine_system *s = engine_system_enter(p, cpu, "munmap");
	int err = soft_program_ops.unmap(p, cpu, addr, len);

	engine_system_leave(s);
	return err;
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	struct engine_system *s = engine_system_enter(p, cpu, "mprotect");
	int err = soft_program_ops.protect(p, cpu, addr, len, prot);

	engine_system_leave(s);
	return err;
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct engine_system *s = engine_system_enter(p, cpu, "mremap");
	s64 at = soft_program_ops.remap(p, cpu, addr, len, new_len, flags, to);

	engine_system_leave(s);
	return at;
}

static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	struct engine_system *s = engine_system_enter(p, cpu, "madvise");
	int err = soft_program_ops.advise(p, cpu, addr, len, advice);

	engine_system_leave(s);
	return err;
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct engine_system *s = engine_system_enter(p, cpu, "fork");
	int err = soft_program_ops.fork(p, cpu, child);

	engine_system_leave(s);
	return err;
}

unsigned lab_cpu_of(struct program *p, const struct ledger *l, unsigned process)
{
	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (p->ops->running(p, i) == process)
			return i;
	return ledger_current() == l && ledger_cpu() < p->nr_cpus ? ledger_cpu() : 0;
}

void lab_other_process_runs(void)
{
	ledger_cross(&lab_kernel, &other_kernel, BY_SWITCH,
		     "loads CR3 with the other process's table");
	ledger_cross(&other_kernel, &other_program, BY_RETURN, "the other process goes on");
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	if (p->ops->running(p, cpu) == process)
		return;
	engine_system_enter(p, cpu, "sched_yield: another process is to run");
	soft_program_ops.run(p, cpu, process);
	lab_other_process_runs();
}

static void exit_process(struct program *p, unsigned process)
{
	const struct ledger *l = engine_system_of_program(p)->system.ledger;
	unsigned cpu = lab_cpu_of(p, l, process);
	bool itself = p->ops->running(p, cpu) == process;
	struct engine_system *s =
		engine_system_enter(p, cpu, itself ? "exit" : "kill: another process ends");

	soft_program_ops.exit(p, process);
	if (itself)
		lab_other_process_runs();
	else
		engine_system_leave(s);
}

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct engine_system *s = engine_system_enter(p, cpu, "madvise: MADV_PAGEOUT");

	soft_program_ops.pageout(p, cpu, addr, len);
	engine_system_leave(s);
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	struct engine_system *s =
		engine_system_enter(p, cpu, "write: the kernel reads the program's memory");
	u64 left = soft_program_ops.copy_in(p, cpu, to, va, n);

	engine_system_leave(s);
	return left;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	struct engine_system *s =
		engine_system_enter(p, cpu, "read: the kernel writes the program's memory");
	u64 left = soft_program_ops.copy_out(p, cpu, va, from, n);

	engine_system_leave(s);
	return left;
}

static enum fault_reason access_page(struct program *p, unsigned cpu, u64 va, u32 access,
				     void *bytes, size_t n)
{
	ledger_begin(engine_system_of_program(p)->system.ledger, cpu);
	return soft_program_ops.access(p, cpu, va, access, bytes, n);
}

static enum fault_reason add(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old)
{
	ledger_begin(engine_system_of_program(p)->system.ledger, cpu);
	return soft_program_ops.add(p, cpu, va, add, old);
}

static int fail_swap(struct program *p, enum ramfile_io io, int err)
{
	lab_store_fail(&engine_system_of_program(p)->store, io, err);
	return 0;
}

static void measure(struct program *p)
{
	system_measure(&engine_system_of_program(p)->system);
}

static void measured(struct program *p)
{
	system_measured(&engine_system_of_program(p)->system);
}

/* ---- counts of hardware and engine ---- */

void lab_read_cpus(const struct soft_cpu *cpus, unsigned n, u64 counts[4])
{
	memset(counts, 0, 4 * sizeof(counts[0]));
	for (unsigned i = 0; i < n; i++) {
		const struct soft_cpu *c = &cpus[i];

		counts[0] += atomic_load_explicit(&c->misses, memory_order_relaxed);
		counts[1] += atomic_load_explicit(&c->references, memory_order_relaxed);
		counts[2] += atomic_load_explicit(&c->vain_references, memory_order_relaxed);
		counts[3] += atomic_load_explicit(&c->loads, memory_order_relaxed);
	}
}

void lab_read_hardware(const struct soft_machine *m, u64 counts[4])
{
	lab_read_cpus(m->cpus, m->nr_cpus, counts);
}

void lab_add_cpus(const struct soft_cpu *cpus, unsigned n, const u64 last[4],
		  u64 counts[NR_LEDGER_COUNTERS])
{
	u64 now[4];

	lab_read_cpus(cpus, n, now);
	counts[PAID_TLB_MISSES] += now[0] - last[0];
	counts[PAID_WALK_READS] += now[1] - last[1] + now[2] - last[2];
	counts[PAID_CR3_LOADS] += now[3] - last[3];
}

void lab_add_hardware(const struct soft_machine *m, const u64 last[4],
		      u64 counts[NR_LEDGER_COUNTERS])
{
	lab_add_cpus(m->cpus, m->nr_cpus, last, counts);
}

static void add_counts(struct system *system, u64 counts[NR_LEDGER_COUNTERS])
{
	struct engine_system *s = engine_system_of(system);

	lab_add_hardware(s->machine, s->hardware, counts);
}

static void reset_counts(struct system *system)
{
	struct engine_system *s = engine_system_of(system);

	lab_read_hardware(s->machine, s->hardware);
}

/* ---- its life ---- */

struct engine_config engine_system_config(u64 frames, const struct reclaim_policy *policy)
{
	struct engine_config config = engine_default_config(frames);

	config.prefetch = 1;
	config.policy = policy ? policy : &policy_fifo;
	config.marks.min = 1;
	config.marks.low = frames / 16 + 2;
	config.marks.high = frames / 8 + 3;
	return config;
}

static int create_machine(struct engine_system *s, const struct system_options *o,
			  soft_trap_fn trap)
{
	struct engine_config config = engine_system_config(o->frames, s->policy);
	struct soft_options so = {
		.table_frames = o->frames / 8 + 512,
		.user_frames = o->frames + s->own_frames,
		.nr_cpus = o->cpus,
		.store = &s->store.store,
		.config = &config,
		.trap = trap,
	};
	int err;

	err = soft_create(&so, &s->machine);
	if (err)
		return err;
	err = mm_create(&s->machine->engine, ENGINE_SYSTEM_LOW, ENGINE_SYSTEM_HIGH, &s->mm);
	if (err)
		soft_destroy(s->machine);
	return err;
}

int engine_system_init(struct engine_system *s, const struct system_type *type,
		       const struct system_options *o, soft_trap_fn trap)
{
	int err = lab_store_init(&s->store, 16 * o->frames);

	if (err)
		return err;
	err = create_machine(s, o, trap);
	if (err) {
		lab_store_fini(&s->store);
		return err;
	}
	s->kernel = &lab_kernel;
	s->store.who = &s->kernel;
	s->mmu = lab_counted_mmu_ops();
	s->observer.step = engine_system_step;
	s->machine->engine.mmu = &s->mmu;
	s->machine->engine.observer = &s->observer;
	s->system = (struct system){ .type = type,
				     .program = &s->program.program,
				     .ledger = o->ledger,
				     .add_counts = add_counts,
				     .reset_counts = reset_counts };
	soft_program_init(&s->program, s->machine, s->mm);
	s->ops = soft_program_ops;
	s->ops.map = map;
	s->ops.unmap = unmap;
	s->ops.protect = protect;
	s->ops.remap = remap;
	s->ops.advise = advise;
	s->ops.fork = fork_process;
	s->ops.run = run_process;
	s->ops.exit = exit_process;
	s->ops.pageout = pageout;
	s->ops.copy_in = copy_in;
	s->ops.copy_out = copy_out;
	s->ops.access = access_page;
	s->ops.add = add;
	s->ops.fail_swap = fail_swap;
	s->ops.measure = measure;
	s->ops.measured = measured;
	s->engine_ops = s->ops;
	s->program.program.ops = &s->ops;
	for (unsigned i = 0; i < o->cpus; i++)
		soft_load_mm(&s->machine->cpus[i], s->mm);
	return 0;
}

void engine_system_fini(struct engine_system *s)
{
	soft_program_fini(&s->program);
	for (unsigned i = 0; i < s->machine->nr_cpus; i++)
		soft_load_mm(&s->machine->cpus[i], NULL);
	mm_destroy(s->mm);
	soft_destroy(s->machine);
	lab_store_fini(&s->store);
	ledger_begin(NULL, 0);
}
