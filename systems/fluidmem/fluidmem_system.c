/* SPDX-License-Identifier: MIT */
/*
 * FluidMem (Caldwell et al., arXiv:1707.07780): the kernel fields the fault; a monitor that keeps
 * the memory of all processes within one budget decides, supplies the bytes from a key-value store,
 * and sends away what does not fit.
 *
 *   1. The thread faults; handle_userfault queues the fault and puts the thread to sleep.
 *   2. The monitor is woken and reads the address.  What does it know of the page?
 *        never seen, or sent away as zeros   there is nothing to fetch
 *        on the write list                   it is stolen back, whether or not it is being written
 *        stored                              it asks the store for it
 *   3. UFFDIO_COPY (or, for a read of nothing, UFFDIO_ZEROPAGE): the kernel takes a frame and sets
 * the entry; the thread is woken.
 *   4. Only now, with the answer given, room is made: the page that came first leaves by
 * UFFDIO_MOVE, and if it is not all zeros it goes to the write list.
 *   5. A writer in another thread sends a batch to the store when there are enough.
 *   6. The monitor reads on; the thread's access is made again.
 *
 * The monitor itself is fluidmem.c, which is told of unmap, madvise, mremap and fork by events.
 * Here it serves all private anonymous memory; files and shared memory are the kernel's.  It may
 * have half of the frames; the rest is for what the kernel keeps.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/page/page.h"
#include "systems/common/engine_system.h"
#include "systems/common/program_attacks.h"
#include "systems/fluidmem/fluidmem_system.h"
#include "systems/fluidmem/internal.h"

#define BATCH 8 /* pages that the writer waits for */

/* Threads of the program's process, since UFFDIO_MOVE is for the space of who calls it. */
static const struct ledger_actor monitor = { .name = "the monitor", .ring = 3, .domain = 1 };
static const struct ledger_actor writer = { .name = "the writer", .ring = 3, .domain = 1 };

struct fluidmem_lab {
	struct engine_system base;
	struct fluidmem_watch watch;
	struct lab_store kv;
	struct fluidmem *fm;
	struct fluidmem_stats measured;			  /* at the end of what was measured last */
	struct fluidmem_space *spaces[PROGRAM_PROCESSES]; /* NULL: nothing of it is served */
	pthread_mutex_t layout; /* one call that changes a layout at a time: an area is served
				 * before another can be put in its place */
};

static struct fluidmem_lab *of(struct engine_system *base)
{
	return container_of(base, struct fluidmem_lab, base);
}

static struct fluidmem_lab *of_program(struct program *p)
{
	return of(engine_system_of_program(p));
}

struct fluidmem *fluidmem_of(struct system *s)
{
	return of(engine_system_of(s))->fm;
}

/* ---- what the monitor does, told to the ledger ---- */

static const struct {
	const char *call, *result;
} texts[NR_FLUIDMEM_CALLS] = {
	[FLUIDMEM_READ] = { "read: which fault is next?  It sleeps until there is one",
			    "read returns the message" },
	[FLUIDMEM_READ_EVENT] = { "read", "read returns an event: the layout has changed" },
	[FLUIDMEM_ZEROPAGE] = { "UFFDIO_ZEROPAGE: nothing was ever there",
				"UFFDIO_ZEROPAGE returns; the thread is woken" },
	[FLUIDMEM_COPY] = { "UFFDIO_COPY: here are the bytes for that page",
			    "UFFDIO_COPY returns; the thread is woken" },
	[FLUIDMEM_MOVE] = { "UFFDIO_MOVE: the page that came first leaves the program",
			    "UFFDIO_MOVE returns" },
	[FLUIDMEM_DROP] = { "madvise: the page has been read, its frame is free",
			    "madvise returns" },
	[FLUIDMEM_WAKE] = { "UFFDIO_WAKE", "UFFDIO_WAKE returns" },
	[FLUIDMEM_POISON] = { "UFFDIO_POISON: the store has lost it",
			      "UFFDIO_POISON returns; the thread is woken" },
	[FLUIDMEM_UNREGISTER] = { "UFFDIO_UNREGISTER: the kernel is to say why it has no frame",
				  "UFFDIO_UNREGISTER returns; the thread is woken" },
	[FLUIDMEM_OPEN] = { "userfaultfd: a descriptor for this space", "userfaultfd returns" },
	[FLUIDMEM_API] = { "UFFDIO_API: the features that are wanted", "UFFDIO_API returns" },
	[FLUIDMEM_MAP_STAGE] = { "mmap: a page that others pass through", "mmap returns" },
	[FLUIDMEM_EMPTY_STAGE] = { "madvise: the child's stage is to be empty", "madvise returns" },
	[FLUIDMEM_REGISTER] = { "UFFDIO_REGISTER: the area is the monitor's",
				"UFFDIO_REGISTER returns" },
	[FLUIDMEM_CLONE] = { "clone: a thread for the monitor", "clone returns" },
	[FLUIDMEM_BEGIN] = { NULL, "it begins" },
	[FLUIDMEM_STORE_READ] = { "asks the store for the page", "the store's answer has come" },
	[FLUIDMEM_STORE_WRITE] = { "sends a page to the store", "the store has it" },
};

static void begin_thread(struct fluidmem_watch *w)
{
	struct fluidmem_lab *f = container_of(w, struct fluidmem_lab, watch);

	ledger_begin(f->base.system.ledger, f->base.machine->nr_cpus);
}

/* Whose call that is: nobody else writes to the store. */
static const struct ledger_actor *caller(enum fluidmem_call call)
{
	return call == FLUIDMEM_STORE_WRITE ? &writer : &monitor;
}

static void called(struct fluidmem_watch *w, enum fluidmem_call call)
{
	(void)w;
	ledger_cross(caller(call), &lab_kernel, BY_SYSTEM_CALL, texts[call].call);
}

static void returned(struct fluidmem_watch *w, enum fluidmem_call call)
{
	(void)w;
	if (call == FLUIDMEM_BEGIN)
		ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH, "the monitor's thread runs");
	if (call == FLUIDMEM_CLONE)
		ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH,
			     "the monitor sleeps, the program runs");
	if (call == FLUIDMEM_READ)
		ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH,
			     "the thread that faulted sleeps, the monitor's runs");
	ledger_cross(&lab_kernel, caller(call), BY_RETURN, texts[call].result);
}

/* The monitor faults, as any program; nobody serves it but the kernel. */
static bool fault_of_monitor(struct mm *mm, u64 va)
{
	bool good;

	ledger_cross(&monitor, &lab_kernel, BY_EXCEPTION,
		     "page fault: the kernel has paged out the monitor's own page");
	good = resolve_fault(mm, va, PF_USER, FAULT_FLAG_USER).reason == FAULT_OK;
	ledger_cross(&lab_kernel, &monitor, BY_RETURN, "iret: the access is made again");
	return good;
}

/* The monitor reads a page of its own, which may be in the kernel's swap area by now. */
static bool read_page(void *arg, u64 va, void *bytes)
{
	struct mm *mm = arg;
	struct engine *e = mm->engine;

	for (;;) {
		spinlock_t *ptl;
		pte_t *ptep = pte_find(mm, va, &ptl), pte;

		if (!ptep)
			return false;
		spin_lock(ptl);
		pte = pte_read(ptep);
		if (pte_present(pte))
			memcpy(bytes, page_direct(e, pfn_page(e, pte_pfn(pte))), PAGE_SIZE);
		spin_unlock(ptl);
		if (pte_present(pte)) {
			ledger_count(PAID_PAGES_COPIED);
			return true;
		}
		if (pte_none(pte) || !fault_of_monitor(mm, va))
			return false;
	}
}

static void wait_until_idle(struct fluidmem_lab *f)
{
	while (!fluidmem_is_idle(f->fm))
		sched_yield();
}

/* ---- the trap ---- */

/* Did the fault of this thread sleep?  The engine tells while it is under way. */
static _Thread_local bool slept;

static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	slept |= step == STEP_USERFAULT;
	engine_system_step(o, step, va, n);
}

static void resolved(struct engine_system *base)
{
	if (!slept)
		return;
	if (base->machine->nr_cpus == 1)
		wait_until_idle(of(base));
	ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH,
		     "the monitor sleeps, the thread that faulted runs");
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	slept = false;
	return engine_system_field(cpu, cr2, code, FAULT_FLAG_USER);
}

/* ---- the program's calls ---- */

/* The area is there.  0, or why it is not served. */
static int serve_area(struct fluidmem_lab *f, unsigned process, u64 at, u64 len)
{
	struct mm *mm = f->base.program.mms[process];
	int err = 0;

	if (!f->spaces[process])
		err = fluidmem_attach(f->fm, mm, read_page, mm, &f->spaces[process]);
	wait_until_idle(f); /* what was there before is forgotten */
	return err ? err : fluidmem_add_region(f->spaces[process], at, len);
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct fluidmem_lab *f = of_program(p);
	int err = 0;
	s64 at;

	pthread_mutex_lock(&f->layout);
	at = f->base.engine_ops.map(p, cpu, a);
	if (at >= 0 && a->file < 0 && !(a->vm_flags & VM_SHARED))
		err = serve_area(f, p->ops->running(p, cpu), (u64)at, a->len);
	if (err)
		f->base.engine_ops.unmap(p, cpu, (u64)at, a->len);
	pthread_mutex_unlock(&f->layout);
	return err ? err : at;
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct fluidmem_lab *f = of_program(p);
	int err;

	pthread_mutex_lock(&f->layout);
	err = f->base.engine_ops.unmap(p, cpu, addr, len);
	wait_until_idle(f);
	pthread_mutex_unlock(&f->layout);
	return err;
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct fluidmem_lab *f = of_program(p);
	s64 at;

	pthread_mutex_lock(&f->layout);
	at = f->base.engine_ops.remap(p, cpu, addr, len, new_len, flags, to);
	wait_until_idle(f);
	pthread_mutex_unlock(&f->layout);
	return at;
}

/* Has it areas that a monitor is to serve? */
static bool is_watched(struct mm *mm)
{
	struct vma *vma;
	bool watched = false;

	down_read(&mm->mmap_lock);
	for (vma = find_vma(mm, 0); vma && !watched; vma = vma_next(vma))
		watched = vma->uffd;
	up_read(&mm->mmap_lock);
	return watched;
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct fluidmem_lab *f = of_program(p);
	struct mm *mm;
	int err;

	pthread_mutex_lock(&f->layout);
	err = f->base.engine_ops.fork(p, cpu, child);
	mm = f->base.program.mms[child];
	if (!err && is_watched(mm))
		err = fluidmem_adopt(f->spaces[p->ops->running(p, cpu)], mm, read_page, mm,
				     &f->spaces[child]);
	if (err && mm)
		f->base.engine_ops.exit(p, child);
	wait_until_idle(f);
	pthread_mutex_unlock(&f->layout);
	return err;
}

static void stop(struct fluidmem_lab *f, unsigned process)
{
	if (f->spaces[process])
		fluidmem_drop(f->spaces[process]);
	f->spaces[process] = NULL;
}

static void exit_process(struct program *p, unsigned process)
{
	struct fluidmem_lab *f = of_program(p);

	pthread_mutex_lock(&f->layout);
	stop(f, process);
	f->base.engine_ops.exit(p, process);
	pthread_mutex_unlock(&f->layout);
}

/* The monitor's pages go to the store, down to the last; the kernel's are the kernel's. */
static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct fluidmem_lab *f = of_program(p);
	struct fluidmem_space *s = f->spaces[p->ops->running(p, cpu)];

	ledger_begin(f->base.system.ledger, f->base.machine->nr_cpus);
	if (s)
		fluidmem_evict(s, addr, len);
	fluidmem_flush(f->fm);
	ledger_begin(f->base.system.ledger, cpu);
	f->base.engine_ops.pageout(p, cpu, addr, len);
}

static int fail_swap(struct program *p, enum ramfile_io io, int err)
{
	struct fluidmem_lab *f = of_program(p);

	lab_store_fail(&f->kv, io, err);
	f->base.engine_ops.fail_swap(p, io, err);
	if (!err)
		fluidmem_store_works(f->fm);
	wait_until_idle(f);
	return 0;
}

/* Nobody else is active once the monitor is not. */
static void check(struct program *p)
{
	wait_until_idle(of_program(p));
	of_program(p)->base.engine_ops.check(p);
}

static void measure(struct program *p)
{
	wait_until_idle(of_program(p));
	fluidmem_reset_timing(of_program(p)->fm);
	system_measure(&of_program(p)->base.system);
}

static void measured(struct program *p)
{
	wait_until_idle(of_program(p));
	system_measured(&of_program(p)->base.system);
	fluidmem_stats(of_program(p)->fm, &of_program(p)->measured);
}

/* ---- attacks ---- */

#define AT 0x20000000ULL

/* Two pages of the first process, of which the first is there.  Its space. */
static struct fluidmem_space *two_pages(struct system *s)
{
	attack_map_two_pages(s, AT);
	return of(engine_system_of(s))->spaces[0];
}

static int move_out(const struct fluidmem_space *space, u64 to, u64 from)
{
	s64 done;

	return userfaultfd_move(space->stage_ctx, space->mm, to, from, PAGE_SIZE, 0, &done);
}

static int replace_present(struct system *s)
{
	static const char ones[PAGE_SIZE] = { 1 };
	s64 done;

	return userfaultfd_copy(two_pages(s)->ctx, NULL, AT, (u64)ones, PAGE_SIZE, 0, &done);
}

static int take_shared(struct system *s)
{
	const struct fluidmem_space *space = two_pages(s);

	if (s->program->ops->fork(s->program, 0, 1))
		return -ENOMEM;
	return move_out(space, space->stage, AT);
}

static int take_kernels(struct system *s)
{
	const struct fluidmem_space *space = two_pages(s);

	return move_out(space, space->stage, 0xffff800000000000ULL);
}

/* The monitor of the parent moves within the child. */
static int take_anothers(struct system *s)
{
	const struct fluidmem_space *space = two_pages(s);
	s64 done;

	if (s->program->ops->fork(s->program, 0, 1))
		return -ENOMEM;
	return userfaultfd_move(space->stage_ctx, of(engine_system_of(s))->base.program.mms[1],
				space->stage, AT, PAGE_SIZE, 0, &done);
}

static int register_stage(struct system *s)
{
	const struct fluidmem_space *space = two_pages(s);
	u64 ioctls;

	return userfaultfd_register(space->ctx, space->stage, PAGE_SIZE,
				    UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls);
}

static const struct system_attack attacks[] = {
	{ "the monitor replaces a page that is there", replace_present, -EEXIST },
	{ "the monitor takes away a page that a child has, too", take_shared, -EBUSY },
	{ "the monitor takes away a page of the kernel's", take_kernels, -EINVAL },
	{ "the monitor moves pages of another space", take_anothers, -EINVAL },
	{ "another context takes over the stage", register_stage, -EBUSY },
};

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },
	{ PAID_SYSTEM_CALLS, 2, NULL }, /* read, and UFFDIO_COPY or UFFDIO_ZEROPAGE */
	{ PAID_CROSSINGS, 6, NULL },
	{ PAID_CONTEXT_SWITCHES, 2, NULL },
	{ PAID_PAGES_COPIED, 0,
	  "told of a write, this monitor copies zeros: UFFDIO_ZEROPAGE would be followed by a "
	  "second fault" },
	{ PAID_PAGES_ZEROED, 0, NULL },
	{ PAID_IO_READS, 0, NULL },
	{ PAID_IO_WRITES, 0, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct fluidmem_lab *f = of(engine_system_of(s));

	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		stop(f, i);
	fluidmem_destroy(f->fm);
	engine_system_fini(&f->base);
	lab_store_fini(&f->kv);
	free(f);
}

static void become_watched(struct fluidmem_lab *f)
{
	struct engine_system *b = &f->base;

	b->observer.step = step;
	b->resolved = resolved;
	b->ops.map = map;
	b->ops.unmap = unmap;
	b->ops.remap = remap;
	b->ops.fork = fork_process;
	b->ops.exit = exit_process;
	b->ops.pageout = pageout;
	b->ops.fail_swap = fail_swap;
	b->ops.check = check;
	b->ops.measure = measure;
	b->ops.measured = measured;
	b->system.destroy = destroy;
	b->system.timings = f->measured.timing;
}

static int start_monitor(struct fluidmem_lab *f, u64 frames)
{
	struct fluidmem_config config = { .capacity = frames / 2,
					  .batch = BATCH,
					  .max_unwritten = frames / 2,
					  .store = &f->kv.store,
					  .watch = &f->watch };
	int err = lab_store_init(&f->kv, 16 * frames);

	if (err)
		return err;
	f->watch = (struct fluidmem_watch){ begin_thread, called, returned };
	err = fluidmem_create(&config, &f->fm);
	if (err)
		lab_store_fini(&f->kv);
	return err;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct fluidmem_lab *f = calloc(1, sizeof(*f));
	int err;

	if (!f)
		return -ENOMEM;
	err = engine_system_init(&f->base, type, o, trap);
	if (err) {
		free(f);
		return err;
	}
	pthread_mutex_init(&f->layout, NULL);
	err = start_monitor(f, o->frames);
	if (err) {
		engine_system_fini(&f->base);
		free(f);
		return err;
	}
	become_watched(f);
	*system = &f->base.system;
	return 0;
}

const struct system_type fluidmem_system = {
	.name = "fluidmem",
	.summary = "the kernel fields and installs; a monitor of all processes decides, supplies "
		   "from a store, and sends away",
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.timings = fluidmem_bucket_names,
	.nr_timings = NR_FLUIDMEM_BUCKETS,
	.create = create,
};
