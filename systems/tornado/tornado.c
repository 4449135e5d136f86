/* SPDX-License-Identifier: MIT */
/*
 * Tornado: what is around the fault (fault.c): the objects' lives as the program maps, forks and
 * opens files, what is refused, and the two system types.
 *
 *   mmap, munmap, mprotect    the engine changes its areas, and Regions follow
 *   fork                      a Process, with Regions and FCMs of its own
 *   files                     an FCM and a COR each, which the Regions share that map it
 *
 * An object that goes is waited for until no CPU is in a call of it; that is looked at after each
 * of these calls.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/tornado/fault.h"
#include "systems/tornado/tornado.h"

/* Pages below a stack that it may grow by: offsets in its FCM begin there. */
#define STACK_ROOM (1ULL << 24)

static struct tornado *tornado(struct program *p)
{
	return container_of(engine_system_of_program(p), struct tornado, base);
}

unsigned tornado_cpu(const struct tornado *t)
{
	unsigned cpu = ledger_cpu();

	return ledger_current() == t->base.system.ledger && cpu < t->objects.nr_cpus ? cpu : 0;
}

struct process *tornado_process(struct tornado *t, const struct mm *mm)
{
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (t->processes[i] && t->processes[i]->mm == mm)
			return t->processes[i];
	return NULL;
}

struct tornado_file *tornado_file(const struct address_space *m)
{
	return container_of(m->ops, struct tornado_file, ops);
}

struct fcm *tornado_new_fcm(struct tornado *t)
{
	return fcm_create(&t->objects, tornado_cpu(t), t->base.machine->generations, t->shared);
}

bool tornado_back(void *arg, const struct vma *vma, struct range *range)
{
	struct tornado *t = arg;
	struct fcm *file = vma->file ? tornado_file(vma->file->mapping)->fcm : NULL;
	u64 page = vma->pgoff + ((range->start - vma->start) >> PAGE_SHIFT);

	if (file && vma->flags & VM_SHARED) {
		fcm_get(file);
		range->fcm = file;
		range->offset = page;
		return true;
	}
	range->fcm = tornado_new_fcm(t);
	range->offset = vma->flags & VM_GROWSDOWN ? STACK_ROOM : 0;
	if (range->fcm && file) {
		fcm_get(file);
		range->under = file;
		range->under_offset = page;
	}
	return range->fcm != NULL;
}

void tornado_note_entry(struct tornado *t, struct process *p, u64 va, pte_t pte)
{
	struct range r;

	if (page_test(pfn_page(p->mm->engine, pte_pfn(pte)), PG_FILE) ||
	    !process_range_at(p, va, &r))
		return;
	/* Of an area whose Region is yet to come: note_entries() finds it then. */
	if (r.fcm->of_file)
		return;
	if (fcm_note(r.fcm, tornado_cpu(t), r.offset + ((va - r.start) >> PAGE_SHIFT),
		     pte_pfn(pte)))
		atomic_store(&t->forgot, true);
}

/* ---- the program's calls ---- */

static struct tornado *enter(struct program *p, unsigned cpu, const char *name)
{
	struct tornado *t = tornado(p);

	ledger_begin(t->base.system.ledger, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL, name);
	co_enter(&t->objects, cpu);
	return t;
}

static void leave(struct tornado *t, unsigned cpu)
{
	co_exit(&t->objects, cpu);
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "the call returns");
	co_collect(&t->objects);
}

static void leave_to_another(struct tornado *t, unsigned cpu)
{
	co_exit(&t->objects, cpu);
	lab_other_process_runs();
	co_collect(&t->objects);
}

static struct process *running_on(struct tornado *t, unsigned cpu)
{
	return tornado_process(t, atomic_load(&t->base.machine->cpus[cpu].mm));
}

static int follow(struct tornado *t, struct process *p, unsigned cpu, u64 start, u64 end,
		  bool fresh)
{
	return process_follow(p, cpu, start, (end + PAGE_SIZE - 1) & PAGE_MASK, fresh, tornado_back,
			      t);
}

/*
 * What is mapped in [start, end) though no fault of its Region has come by: what was there before
 * the Region.  With each page-table lock, so that a fault of the Region before has either mapped
 * its page by then, or sees that its Region is gone.
 */
static void note_entries(struct tornado *t, struct process *p, u64 start, u64 end)
{
	spinlock_t *ptl;
	pte_t *ptep, pte;

	down_read(&p->mm->mmap_lock);
	for (u64 va = start; (ptep = pte_next_table(p->mm, &va, end, &ptl)); va += PAGE_SIZE) {
		spin_lock(ptl);
		pte = pte_read(ptep);
		if (pte_mapped(pte))
			tornado_note_entry(t, p, va, pte);
		spin_unlock(ptl);
	}
	up_read(&p->mm->mmap_lock);
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct tornado *t = enter(p, cpu, "mmap");
	struct process *process = running_on(t, cpu);
	s64 at = soft_program_ops.map(p, cpu, a);

	if (at >= 0) {
		/* What it takes the place of is gone, whatever rights it had. */
		if (follow(t, process, cpu, (u64)at, (u64)at + a->len, true)) {
			soft_program_ops.unmap(p, cpu, (u64)at, a->len);
			follow(t, process, cpu, (u64)at, (u64)at + a->len, true);
			at = -ENOMEM;
		} else {
			note_entries(t, process, (u64)at, (u64)at + a->len);
		}
	}
	leave(t, cpu);
	return at;
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct tornado *t = enter(p, cpu, "munmap");
	int err = soft_program_ops.unmap(p, cpu, addr, len);

	if (follow(t, running_on(t, cpu), cpu, addr, addr + len, false) && !err)
		err = -ENOMEM;
	leave(t, cpu);
	return err;
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	struct tornado *t = enter(p, cpu, "mprotect");
	int err = soft_program_ops.protect(p, cpu, addr, len, prot);

	/* Where it failed it may have changed a part. */
	if (follow(t, running_on(t, cpu), cpu, addr, addr + len, false) && !err)
		err = -ENOMEM;
	leave(t, cpu);
	return err;
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct tornado *t = enter(p, cpu, "mremap");
	struct process *process = running_on(t, cpu);
	s64 at = soft_program_ops.remap(p, cpu, addr, len, new_len, flags, to);
	int err = follow(t, process, cpu, addr, addr + max_of(len, new_len), false);

	/* What has moved is another Region's. */
	if (at >= 0 && (u64)at != addr)
		err = follow(t, process, cpu, (u64)at, (u64)at + new_len, true) ?: err;
	if (at >= 0)
		note_entries(t, process, (u64)at, (u64)at + new_len);
	process->past_hat = true;
	leave(t, cpu);
	return at >= 0 && err ? err : at;
}

static void end_process(struct tornado *t, unsigned process)
{
	struct process *p = t->processes[process];

	t->processes[process] = NULL;
	if (p)
		co_destroy(&t->objects, tornado_cpu(t), p->root.ref);
}

static int begin_process(struct tornado *t, unsigned process)
{
	struct mm *mm = t->base.program.mms[process];
	struct process *p = process_create(&t->objects, tornado_cpu(t), mm);

	if (!p)
		return -ENOMEM;
	t->processes[process] = p;
	if (follow(t, p, tornado_cpu(t), mm->low, mm->high, true))
		return -ENOMEM;
	note_entries(t, p, mm->low, mm->high);
	p->past_hat = process != 0;
	return 0;
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct tornado *t = enter(p, cpu, "fork");
	int err = soft_program_ops.fork(p, cpu, child);

	if (!err && begin_process(t, child)) {
		end_process(t, child);
		soft_program_ops.exit(p, child);
		err = -ENOMEM;
	}
	leave(t, cpu);
	return err;
}

static void exit_process(struct program *p, unsigned process)
{
	unsigned cpu = lab_cpu_of(p, tornado(p)->base.system.ledger, process);
	bool itself = p->ops->running(p, cpu) == process;
	struct tornado *t = enter(p, cpu, itself ? "exit" : "kill: another process ends");

	end_process(t, process);
	soft_program_ops.exit(p, process);
	if (itself)
		leave_to_another(t, cpu);
	else
		leave(t, cpu);
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	struct tornado *t;

	if (p->ops->running(p, cpu) == process)
		return;
	t = enter(p, cpu, "yield: another process is to run");
	soft_program_ops.run(p, cpu, process);
	leave_to_another(t, cpu);
}

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct tornado *t = enter(p, cpu, "madvise: MADV_PAGEOUT");

	soft_program_ops.pageout(p, cpu, addr, len);
	leave(t, cpu);
}

/* ---- files ---- */

/* The last who had the file is gone. */
static void release_file(struct address_space *m)
{
	struct tornado_file *file = tornado_file(m);

	m->ops = file->own;
	file->own->release(m);
	fcm_put(file->fcm, tornado_cpu(file->tornado));
	free(file);
}

static int create_file(struct program *p, int name, bool in_memory)
{
	struct tornado *t = tornado(p);
	struct tornado_file *file = calloc(1, sizeof(*file));
	struct fcm *fcm = tornado_new_fcm(t);
	int err = file && fcm ? soft_program_ops.file_create(p, name, in_memory) : -ENOMEM;
	struct address_space *m;

	if (err) {
		if (fcm)
			fcm_put(fcm, tornado_cpu(t));
		free(file);
		return err;
	}
	fcm->of_file = true;
	m = t->base.program.files[name]->mapping;
	*file = (struct tornado_file){ .ops = *m->ops, .own = m->ops, .tornado = t, .fcm = fcm };
	file->ops.release = release_file;
	file->ops.get_page = fault_get_page;
	if (file->ops.read_page)
		file->ops.read_page = fault_read_page;
	m->ops = &file->ops;
	return 0;
}

/* ---- invariants ---- */

/* Each page that is mapped is in core for the FCM of its Region, or the one under it.  Returns how
 * many are. */
static s64 check_entries(struct tornado *t, struct process *p)
{
	s64 n = 0;
	pte_t pte;

	for (u64 va = p->mm->low; engine_system_next_entry(p->mm, &va, &pte);
	     va += PAGE_SIZE, n++) {
		struct range r;
		u64 pages;

		if (!process_range_at(p, va, &r))
			vmf_panic("tornado: a page and no Region at %lx", (unsigned long)va);
		pages = (va - r.start) >> PAGE_SHIFT;
		if (fcm_look(r.fcm, r.offset + pages) != pte_pfn(pte) &&
		    !(r.under && fcm_look(r.under, r.under_offset + pages) == pte_pfn(pte)) &&
		    !atomic_load(&t->forgot))
			vmf_panic("tornado: the FCM does not know the page at %lx",
				  (unsigned long)va);
	}
	return n;
}

static void check(struct program *p)
{
	struct tornado *t = tornado(p);
	s64 n;

	soft_program_ops.check(p);
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++) {
		if (!t->processes[i])
			continue;
		process_check(t->processes[i]);
		n = check_entries(t, t->processes[i]);
		if (!t->processes[i]->past_hat && hat_count(t->processes[i]->hat) != n)
			vmf_panic("tornado: %ld entries, and the HAT has %ld", (long)n,
				  (long)hat_count(t->processes[i]->hat));
	}
	if (co_collect(&t->objects))
		vmf_panic("tornado: objects are waited for, and nobody is in a call");
}

/* Of a page that is in core. */
static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_CROSSINGS, 2, NULL },	{ PAID_DOMAINS, 0, NULL },
	{ PAID_SYSTEM_CALLS, 0, NULL }, { PAID_MESSAGES, 0, NULL },	{ PAID_UPCALLS, 0, NULL },
	{ PAID_PAGES_COPIED, 0, NULL }, { PAID_PAGES_ZEROED, 0, NULL }, { PAID_IO_READS, 0, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL }, { PAID_REMOTE, 0, NULL },	{ PAID_HANDLERS, 4, NULL },
	{ PAID_LOCKS_OBJECT, 2, NULL },
};

/* ---- its life ---- */

static void destroy(struct system *system)
{
	struct tornado *t = container_of(engine_system_of(system), struct tornado, base);

	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		end_process(t, i);
	engine_system_fini(&t->base);
	co_fini(&t->objects);
	free(t);
}

static void set_ops(struct program_ops *ops)
{
	ops->map = map;
	ops->unmap = unmap;
	ops->protect = protect;
	ops->remap = remap;
	ops->fork = fork_process;
	ops->exit = exit_process;
	ops->run = run_process;
	ops->pageout = pageout;
	ops->file_create = create_file;
	ops->check = check;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct tornado *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	t->shared = type == &tornado_shared_system;
	err = co_init(&t->objects, o->cpus);
	if (err) {
		free(t);
		return err;
	}
	err = engine_system_init(&t->base, type, o, fault_trap);
	if (err) {
		co_fini(&t->objects);
		free(t);
		return err;
	}
	t->base.system.destroy = destroy;
	set_ops(&t->base.ops);
	fault_set_hooks(t);
	t->dram = dram_create(&t->objects, t->base.machine->nr_table, t->base.machine->nr_user);
	err = t->dram ? begin_process(t, 0) : -ENOMEM;
	if (err)
		destroy(&t->base.system);
	else
		*system = &t->base.system;
	return err;
}

const struct system_type tornado_system = {
	.name = "tornado",
	.summary = "the fault goes from object to object; each CPU has its own part of the file's",
	.attacks = tornado_attacks,
	.nr_attacks = NR_TORNADO_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.expected_of = "in-core",
	.create = create,
};

const struct system_type tornado_shared_system = {
	.name = "tornado-shared",
	.summary = "the same, and all CPUs share one part, with one lock",
	.attacks = tornado_attacks,
	.nr_attacks = NR_TORNADO_ATTACKS,
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.expected_of = "in-core",
	.create = create,
};
