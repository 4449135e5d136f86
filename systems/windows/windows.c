/* SPDX-License-Identifier: MIT */
/*
 * Windows: the kernel fields the fault, and its own memory can be paged out, too.
 *
 *   1. The access misses the TLB, the hardware finds no right, CR2 has the address.  KiPageFault
 *      pushes the trap frame: the stack that it goes to is never paged.
 *   2. A program's address, or the kernel's?  In kernel mode at DISPATCH_LEVEL or above either is
 *      the end: the CPU must not wait (bug check 0xA, a driver's instruction 0xD1).
 *   3. MmAccessFault looks at the entry's state, MiDispatchFault goes by it: demand zero (minor:
 *      a first access), transition (minor: the frame still has the page), prototype (what several
 *      map, or a file), page file (major: kernel or program is paged out, and it has to be read).
 *   4. The kernel's own memory is done by access_fault.c, which has the plan of that; what cannot
 *      be resolved stops the kernel: there is nobody to send a signal to.
 *   5. A program's memory is done by this project's engine: VADs are its areas, prototype entries
 *      its files' pages, transition its swap cache.  What cannot be resolved is an exception of the
 *      program's.
 *   6. iret: the access is made again.
 *
 * The kernel side (nt.h) has memory of its own: pools, pageable sections, views.
 */
#include "systems/windows/windows.h"

#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/windows/attacks.h"
#include "systems/windows/pool.h"

#define TAG	     0x6b746174	      /* of what is allocated here */
#define CAPTURE_MOST (16 * PAGE_SIZE) /* bytes at once */

struct windows {
	struct engine_system base;
	struct nt *nt;
	u8 way[SOFT_MAX_CPUS]; /* enum nt_fault of the fault that the CPU has now */
};

static struct windows *of(struct engine_system *base)
{
	return container_of(base, struct windows, base);
}

struct nt *windows_nt(struct system *s)
{
	return of(engine_system_of(s))->nt;
}

/* ---- a program's fault ---- */

static const char *const words[NR_ENGINE_STEPS] = {
	[STEP_LOCK_VMA] = "finds the VAD of the address, with a lock of its own",
	[STEP_LOCK_SPACE] = "takes the lock of the address space and finds the VAD",
	[STEP_ACCESS_ERROR] = "no VAD allows the access: STATUS_ACCESS_VIOLATION",
	[STEP_HANDLE_FAULT] = "MiDispatchFault: looks at the entry's state",
	[STEP_ALLOC_TABLE] = "adds a page table",
	[STEP_ANONYMOUS] = "the entry is demand zero: MiResolveDemandZeroFault",
	[STEP_FILE] = "the VAD has a section: MiResolveProtoPteFault",
	[STEP_SWAP_IN] = "the entry is in transition or names a slot of the page file",
	[STEP_WRITE_PROTECTED] = "the entry is valid and read-only: MiCopyOnWrite",
	[STEP_ALLOC_FRAMES] = "takes a frame",
	[STEP_ZERO] = "fills it with zeros",
	[STEP_COPY] = "copies the old page into it",
	[STEP_FILE_READ] = "reads a page from the file's disk",
	[STEP_FILE_WRITTEN] = "writes a page to the file's disk",
	[STEP_MAP] = "finds the entry as it was and makes it valid",
};

/* The engine's ways on are MiDispatchFault's. */
static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	struct windows *w = of(container_of(o, struct engine_system, observer));

	engine_system_count_step(step, n);
	if (words[step])
		ledger_step(w->base.kernel, words[step], va);
	if (ledger_cpu() >= SOFT_MAX_CPUS)
		return;
	if (step == STEP_ANONYMOUS)
		w->way[ledger_cpu()] = NT_DEMAND_ZERO;
	else if (step == STEP_FILE)
		w->way[ledger_cpu()] = NT_PROTOTYPE;
	else if (step == STEP_SWAP_IN)
		w->way[ledger_cpu()] = NT_TRANSITION;
}

static struct fault_result user_fault(struct windows *w, struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	struct fault_result r;

	w->way[cpu->number] = NT_SPURIOUS;
	r = resolve_fault(mm, cr2, code, FAULT_FLAG_USER);
	if (r.reason == FAULT_RETRY)
		ledger_count(PAID_RETRIES);
	if (r.reason == FAULT_OK)
		nt_count(w->nt, cpu->number, r.major ? NT_HARD : w->way[cpu->number]);
	return r;
}

/* ---- the trap ---- */

/* In kernel mode; the kernel half's faults are resolved, or the kernel stops. */
static struct fault_result kernel_mode_fault(struct windows *w, struct soft_cpu *cpu, u64 cr2,
					     u32 code)
{
	int err;

	if (cr2 >= KERNEL_START) {
		err = mm_access_fault(w->nt, cpu->number, code, cr2);
		return (struct fault_result){ .reason = err ? FAULT_MAPERR : FAULT_OK };
	}
	if (ki_check_irql(w->nt, cpu->number, code, cr2))
		return (struct fault_result){ .reason = FAULT_MAPERR };
	return user_fault(w, cpu, cr2, code);
}

static struct fault_result ki_page_fault(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct windows *w = of(engine_system_of_engine(&cpu->machine->engine));
	const struct ledger_actor *who = code & PF_USER ? &lab_program : &lab_kernel;
	struct fault_result r = { .reason = FAULT_MAPERR };

	ledger_cross(who, &lab_kernel, BY_EXCEPTION, "KiPageFault: CR2 and the trap frame");
	if (ki_enter_trap(w->nt, cpu->number))
		return r;
	r = code & PF_USER ? user_fault(w, cpu, cr2, code) : kernel_mode_fault(w, cpu, cr2, code);
	ledger_cross(&lab_kernel, who, BY_RETURN,
		     r.reason == FAULT_OK || r.reason == FAULT_RETRY
			     ? "iret: the access is made again"
			     : "to the handler of an exception");
	return r;
}

/* ---- the program's calls ---- */

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct engine_system *base = engine_system_of_program(p);
	int err = base->engine_ops.fork(p, cpu, child);

	if (!err)
		nt_attach(of(base)->nt, base->program.mms[child]);
	return err;
}

/* ProbeForRead, ProbeForWrite: in a program's name nothing is touched that is not a program's.
 * False: the call has been refused. */
static bool probe(struct program *p, unsigned cpu, u64 va, u64 n)
{
	if (va <= TASK_END && n <= TASK_END - va)
		return true;
	ledger_begin(engine_system_of_program(p)->system.ledger, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL, "with an address of the kernel's");
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "STATUS_ACCESS_VIOLATION");
	return false;
}

/* What the program gave is captured in paged pool, where it cannot change it any more; from there
 * the call has it.  Bytes that could not be: of all, if there is no room. */
static u64 capture(struct nt *k, unsigned cpu, char *bytes, u64 n)
{
	u64 pool, part, done;

	if (!n)
		return 0;
	if (ex_allocate_pool(k, cpu, PAGED_POOL, n, TAG, &pool))
		return n;
	for (done = 0; done < n; done += part) {
		part = min_of(n - done, PAGE_SIZE);
		if (nt_access(k, cpu, NT_KERNEL, pool + done, PF_WRITE, bytes + done, part) ||
		    nt_access(k, cpu, NT_KERNEL, pool + done, 0, bytes + done, part))
			break;
	}
	ex_free_pool(k, cpu, pool, TAG);
	return n - done;
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	struct nt *k = of(engine_system_of_program(p))->nt;
	u64 left, part, done = 0;

	if (!probe(p, cpu, va, n))
		return n;
	ledger_begin(k->ledger, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL,
		     "write: the kernel captures the program's memory");
	do {
		part = min_of(n - done, CAPTURE_MOST);
		left = soft_program_ops.copy_in(p, cpu, (char *)to + done, va + done, part);
		left += capture(k, cpu, (char *)to + done, part - left);
		done += part - left;
	} while (!left && done < n);
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "the call returns");
	return n - done;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	if (!probe(p, cpu, va, n))
		return n;
	return engine_system_of_program(p)->engine_ops.copy_out(p, cpu, va, from, n);
}

/* What the kernel takes for itself, and its code's accesses, which no program asked for. */
static int take_pool(struct program *p, unsigned cpu, u64 len, u64 *va)
{
	struct nt *k = of(engine_system_of_program(p))->nt;

	ledger_begin(k->ledger, cpu);
	return ex_allocate_pool(k, cpu, PAGED_POOL, len, TAG, va);
}

static int kernel_access(struct program *p, unsigned cpu, u64 va, u32 access, void *bytes, size_t n)
{
	return nt_access(of(engine_system_of_program(p))->nt, cpu, NT_KERNEL, va, access, bytes, n);
}

static void check(struct program *p)
{
	struct engine_system *base = engine_system_of_program(p);

	base->engine_ops.check(p);
	nt_check(of(base)->nt);
}

/* ---- what is expected ---- */

/* Of a fault of the kernel on its own memory: a program's is as Linux's. */
static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_SYSTEM_CALLS, 0, NULL },
	{ PAID_CROSSINGS, 0, NULL },	{ PAID_DOMAINS, 0, NULL },
	{ PAID_CR3_LOADS, 0, NULL },	{ PAID_PAGES_COPIED, 0, NULL },
	{ PAID_PAGES_ZEROED, 1, NULL }, { PAID_ENTRY_WRITES, 1, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct windows *w = of(engine_system_of(s));
	struct soft_machine *m = w->base.machine;

	for (unsigned i = 0; i < m->nr_cpus; i++)
		soft_load_mm(&m->cpus[i], NULL);
	if (w->nt)
		nt_destroy(w->nt);
	engine_system_fini(&w->base);
	free(w);
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct windows *w = calloc(1, sizeof(*w));
	int err;

	if (!w)
		return -ENOMEM;
	err = engine_system_init(&w->base, type, o, ki_page_fault);
	if (err) {
		free(w);
		return err;
	}
	w->base.observer.step = step;
	w->base.ops.fork = fork_process;
	w->base.ops.copy_in = copy_in;
	w->base.ops.copy_out = copy_out;
	w->base.ops.kernel_map = take_pool;
	w->base.ops.kernel_access = kernel_access;
	w->base.ops.check = check;
	w->base.system.destroy = destroy;
	err = nt_create(w->base.machine, o->ledger, &lab_kernel, &w->nt);
	if (err) {
		destroy(&w->base.system);
		return err;
	}
	nt_attach(w->nt, w->base.mm);
	*system = &w->base.system;
	return 0;
}

const struct system_type windows_system = {
	.name = "windows",
	.summary = "the kernel fields and decides, by IRQL and the entry's state; its own memory "
		   "is paged, too",
	.attacks = windows_attacks,
	.nr_attacks = NR_WINDOWS_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.expected_of = "kernel-fault",
	.create = create,
};
