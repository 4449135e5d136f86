/* SPDX-License-Identifier: MIT */
/*
 * Both engines number frames as the machine does, and believe at first that they have all: a
 * library's balloon takes what is not its own (library.h).  Frames for page tables, which are the
 * kernel's, are divided in two for good.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/exokernel/beside.h"
#include "systems/exokernel/library_program.h"

/* ---- a program and its library ---- */

static struct side *of(struct program *p)
{
	return container_of(p, struct side, program.program);
}

/* It makes a call, on that CPU of its own. */
static struct program *begin(struct program *p, unsigned cpu)
{
	struct side *s = of(p);

	slices_call(&s->beside->slices);
	ledger_begin(s->ledger, s->program.first_cpu + cpu);
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

static enum fault_reason access_page(struct program *p, unsigned cpu, u64 va, u32 access,
				     void *bytes, size_t n)
{
	return soft_program_ops.access(begin(p, cpu), cpu, va, access, bytes, n);
}

static enum fault_reason add(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old)
{
	return soft_program_ops.add(begin(p, cpu), cpu, va, add, old);
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	return library_copy(p, cpu, va, to, n, 0);
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	return library_copy(p, cpu, va, (char *)from, n, PF_WRITE);
}

static int dirty(struct program *p, unsigned cpu, u64 va)
{
	struct side *s = of(begin(p, cpu));
	struct soft_cpu *c = &s->beside->machine->cpus[s->program.first_cpu + cpu];

	return lab_page_dirty(atomic_load_explicit(&c->mm, memory_order_relaxed), va);
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct library *l = &of(begin(p, cpu))->library;
	int err = library_fork(l, p, cpu, child);

	if (!err)
		library_ask_for_entries(l, l->env + child);
	return err;
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	library_run(&of(p)->library, p, cpu, process);
}

static void exit_process(struct program *p, unsigned process)
{
	library_exit(&of(p)->library, p, process);
}

static int fail_swap(struct program *p, enum ramfile_io io, int err)
{
	lab_store_fail(&of(p)->store, io, err);
	return 0;
}

/* The other is between two of its calls. */
static void check(struct program *p)
{
	beside_check(of(p)->beside);
}

void beside_measure(struct side *s)
{
	const struct soft_program *p = &s->program;

	ledger_reset(s->ledger);
	lab_read_cpus(&p->machine->cpus[p->first_cpu], p->program.nr_cpus, s->hardware);
}

static void measure(struct program *p)
{
	beside_measure(of(p));
}

void beside_add_hardware(const struct side *s, u64 counts[NR_LEDGER_COUNTERS])
{
	const struct soft_program *p = &s->program;

	lab_add_cpus(&p->machine->cpus[p->first_cpu], p->program.nr_cpus, s->hardware, counts);
}

static void read_ledger(const struct side *s, u64 counts[NR_LEDGER_COUNTERS])
{
	for (unsigned i = 0; i < NR_LEDGER_COUNTERS; i++)
		counts[i] = ledger_sum(s->ledger, i);
}

static void measured(struct program *p)
{
	struct side *s = of(p);

	read_ledger(s, s->total);
	beside_add_hardware(s, s->total);
	ledger_record(s->ledger, false);
}

static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	(void)o;
	engine_system_tell_step(&library_actor, step, va, n);
}

/* ---- time slices ---- */

/* Whoever has ended wants nothing in the slices to come. */
static void slice_over(void *arg, unsigned side, bool ends)
{
	struct beside *b = arg;

	xok_end_slice(&b->xok, beside_resource(b, side));
	atomic_store(&b->sides[side].library.refused, false);
	if (!ends)
		return;
	xok_end_slice(&b->xok, beside_resource(b, side));
	read_ledger(&b->sides[side], b->sides[side].ended);
}

int beside_run(struct beside *b, void (*run)(void *arg, unsigned side), void *arg)
{
	int err = slices_run(&b->slices, BESIDE, run, arg);

	for (unsigned i = 0; i < BESIDE; i++)
		for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
			b->sides[i].total[c] +=
				ledger_sum(b->sides[i].ledger, c) - b->sides[i].ended[c];
	return err;
}

/* ---- the machine and the kernel ---- */

/* The library's own policy: what came last goes first. */
static unsigned newest_first(struct reclaim_chooser *c, struct lruvec *v, struct page_handle *next,
			     bool *neighbours)
{
	(void)c;
	*neighbours = false;
	return chosen_newest(v, next) ? 0 : 1;
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);

	return xok_trap(library_of(mm)->xok, cpu, cr2, code, "page fault: CR2 and the error code");
}

/* Of the frames for tables the engine has [from, to); the others it counts as used.  0, -ENOMEM.
 */
static int keep_tables(struct engine *e, u64 from, u64 to)
{
	struct page **pages = calloc(e->zones[ZONE_TABLE].nr, sizeof(struct page *)), *page;
	u64 n = 0;

	if (!pages)
		return -ENOMEM;
	while ((page = page_alloc(e, ZONE_TABLE, 0, 0)))
		pages[n++] = page;
	for (u64 i = 0; i < n; i++) {
		u64 pfn = page_pfn(e, pages[i]);

		if (pfn >= from && pfn < to)
			page_put(e, pages[i]);
		else
			atomic_fetch_add(&e->kernel_tables, 1);
	}
	free(pages);
	return 0;
}

static int create_machine(struct beside *b, const struct beside_options *o)
{
	struct engine_config configs[BESIDE];
	struct soft_options so = {
		.user_frames =
			o->frames[0] + o->frames[1] + BESIDE * xok_stack_pages(BESIDE * o->cpus),
		.nr_cpus = BESIDE * o->cpus,
		.store = &b->sides[0].store.store,
		.config = &configs[0],
		.trap = trap,
	};
	struct soft_machine *m;
	int err;

	for (unsigned i = 0; i < BESIDE; i++)
		configs[i] = engine_system_config(o->frames[i], o->policies[i]);
	so.table_frames = BESIDE * (so.user_frames / 8 + 512);
	err = soft_create(&so, &m);
	if (err)
		return err;
	b->machine = m;
	b->sides[0].engine = &m->engine;
	err = engine_init(&b->second, &soft_mmu_ops, &soft_host_memory, &configs[1], m->nr_table,
			  m->memory, m->nr_user, m->memory + (m->nr_table << PAGE_SHIFT),
			  &b->sides[1].store.store);
	if (err)
		return err;
	b->second.machine = m;
	b->sides[1].engine = &b->second;
	return 0;
}

/* Frames, and a capability for them, for the environment of side i. */
static int divide(struct beside *b, const struct beside_options *o, unsigned i)
{
	u64 own = b->xok.stack_pages; /* for the exception stack */
	u64 first = b->machine->nr_table + (i ? o->frames[0] + own : 0);
	unsigned env = i * PROGRAM_PROCESSES;

	b->xok.envs[env] = (struct xok_env){ .used = true,
					     .mm = b->sides[i].mm,
					     .resource = XOK_KERNEL + 1 + i };
	b->xok.envs[env].caps[LIBRARY_CAP] =
		(struct xok_capability){ .resource = XOK_KERNEL + 1 + i,
					 .rights = XOK_READ | XOK_WRITE | XOK_GRANT };
	for (unsigned k = 0; k < o->cpus; k++)
		xok_first_slice(&b->xok, i * o->cpus + k, env);
	return xok_take_frames(&b->xok, env, LIBRARY_CAP, first, o->frames[i] + own);
}

static void start_program(struct beside *b, const struct beside_options *o, unsigned i)
{
	struct side *s = &b->sides[i];

	soft_program_init(&s->program, b->machine, s->mm);
	s->program.first_cpu = i * o->cpus;
	s->program.program.nr_cpus = o->cpus;
	s->ops = soft_program_ops;
	s->ops.map = map;
	s->ops.unmap = unmap;
	s->ops.protect = protect;
	s->ops.remap = remap;
	s->ops.advise = advise;
	s->ops.access = access_page;
	s->ops.add = add;
	s->ops.copy_in = copy_in;
	s->ops.copy_out = copy_out;
	s->ops.dirty = dirty;
	s->ops.fork = fork_process;
	s->ops.run = run_process;
	s->ops.exit = exit_process;
	s->ops.fail_swap = fail_swap;
	s->ops.check = check;
	s->ops.measure = measure;
	s->ops.measured = measured;
	s->program.program.ops = &s->ops;
	for (unsigned k = 0; k < o->cpus; k++)
		soft_load_mm(&b->machine->cpus[i * o->cpus + k], s->mm);
}

static const struct ledger_actor *const who_transfers = &library_actor;

static int start_library(struct beside *b, const struct beside_options *o, unsigned i)
{
	const struct mmu_ops counted = lab_counted_mmu_ops();
	struct side *s = &b->sides[i];
	int err = library_init(&s->library, s->engine, &b->xok, i * PROGRAM_PROCESSES, &counted);

	if (err)
		return err;
	s->library.wish = o->wish;
	b->xok.holders[s->library.resource].ledger = s->ledger;
	s->store.who = &who_transfers;
	s->mru.choose = newest_first;
	return o->policies[i] == &policy_chosen ? chosen_begin(s->engine, &s->mru) : 0;
}

static int start_side(struct beside *b, const struct beside_options *o, unsigned i)
{
	u64 half = b->machine->nr_table / BESIDE;
	struct side *s = &b->sides[i];
	int err = keep_tables(s->engine, i * half, (i + 1) * half);

	s->ledger = o->ledgers[i];
	s->observer.step = step;
	s->engine->observer = &s->observer;
	if (!err)
		err = mm_create(s->engine, ENGINE_SYSTEM_LOW, ENGINE_SYSTEM_HIGH, &s->mm);
	if (!err)
		err = divide(b, o, i);
	if (!err)
		err = start_library(b, o, i);
	if (!err)
		start_program(b, o, i);
	return err;
}

int beside_create(const struct beside_options *o, struct beside **result)
{
	const struct mmu_ops counted = lab_counted_mmu_ops();
	struct beside *b = calloc(1, sizeof(*b));
	int err = 0;

	if (!b)
		return -ENOMEM;
	slices_init(&b->slices, slice_over, b);
	for (unsigned i = 0; i < BESIDE; i++)
		b->sides[i].beside = b;
	for (unsigned i = 0; !err && i < BESIDE; i++)
		err = lab_store_init(&b->sides[i].store, 16 * o->frames[i]);
	if (!err)
		err = create_machine(b, o);
	if (!err)
		err = xok_init(&b->xok, b->machine, &counted);
	for (unsigned i = 0; !err && i < BESIDE; i++)
		err = start_side(b, o, i);
	if (err)
		beside_destroy(b);
	else
		*result = b;
	return err;
}

static void end_side(struct beside *b, struct side *s)
{
	if (s->program.machine)
		soft_program_fini(&s->program);
	if (s->mm) {
		for (unsigned i = 0; i < s->program.program.nr_cpus; i++)
			soft_load_mm(&b->machine->cpus[s->program.first_cpu + i], NULL);
		mm_destroy(s->mm);
	}
	if (s->engine && s->engine->lru.nodes[0].chooser)
		chosen_end(s->engine);
}

void beside_destroy(struct beside *b)
{
	for (unsigned i = 0; i < BESIDE; i++)
		end_side(b, &b->sides[i]);
	if (b->sides[1].engine)
		engine_fini(&b->second);
	if (b->machine)
		soft_destroy(b->machine);
	for (unsigned i = 0; i < BESIDE; i++) {
		library_fini(&b->sides[i].library);
		if (b->sides[i].store.pages)
			lab_store_fini(&b->sides[i].store);
	}
	xok_fini(&b->xok);
	slices_fini(&b->slices);
	free(b);
	ledger_begin(NULL, 0);
}

/* What a table of the side's maps is its own. */
static void check_entries(struct beside *b, const struct side *s, struct mm *mm)
{
	pte_t pte;

	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE) {
		const _Atomic u32 *owner = xok_owner(&b->xok, pte_pfn(pte));

		if (pte_present(pte) && (!owner || atomic_load(owner) != s->library.resource))
			vmf_panic("exokernel: %lx of library %u maps a frame of another's",
				  (unsigned long)va, s->library.resource);
	}
}

void beside_check(struct beside *b)
{
	for (unsigned i = 0; i < BESIDE; i++) {
		struct side *s = &b->sides[i];

		engine_check(s->engine);
		for (unsigned k = 0; k < PROGRAM_PROCESSES; k++)
			if (s->program.mms[k])
				check_entries(b, s, s->program.mms[k]);
	}
	soft_check_tlbs(b->machine);
}
