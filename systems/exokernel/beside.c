/* SPDX-License-Identifier: MIT */
/*
 * Both engines number frames as the machine does, and believe at first that they have all: a
 * library's balloon takes what is not its own (library.h).  Frames for page tables, which are the
 * kernel's, are divided in two for good.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/reclaim/chosen.h"
#include "systems/exokernel/beside.h"

/* ---- a program and its library ---- */

static struct program *begin(struct program *p)
{
	struct side *s = container_of(p, struct side, program.program);

	ledger_begin(s->ledger, s->cpu);
	return p;
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	return soft_program_ops.map(begin(p), cpu, a);
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	return soft_program_ops.unmap(begin(p), cpu, addr, len);
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	return soft_program_ops.protect(begin(p), cpu, addr, len, prot);
}

static enum fault_reason access_page(struct program *p, unsigned cpu, u64 va, u32 access,
				     void *bytes, size_t n)
{
	return soft_program_ops.access(begin(p), cpu, va, access, bytes, n);
}

static enum fault_reason add(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old)
{
	return soft_program_ops.add(begin(p), cpu, va, add, old);
}

static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	(void)o, (void)va;
	engine_system_count_step(step, n);
}

/* The library's own policy: what came last goes first. */
static unsigned newest_first(struct reclaim_chooser *c, struct lruvec *v, struct page_handle *next,
			     bool *neighbours)
{
	(void)c;
	*neighbours = false;
	return chosen_newest(v, next) ? 0 : 1;
}

/* ---- the machine and the kernel ---- */

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
		.user_frames = o->frames[0] + o->frames[1],
		.nr_cpus = BESIDE,
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
	u64 first = b->machine->nr_table + (i ? o->frames[0] : 0);
	struct xok_env *env = &b->xok.envs[i];

	*env = (struct xok_env){ .used = true, .mm = b->sides[i].mm };
	env->caps[LIBRARY_CAP] =
		(struct xok_capability){ .resource = XOK_KERNEL + 1 + i,
					 .rights = XOK_READ | XOK_WRITE | XOK_GRANT };
	b->xok.slices[i] = i;
	return xok_take_frames(&b->xok, i, LIBRARY_CAP, first, o->frames[i]);
}

static void start_program(struct beside *b, struct side *s)
{
	soft_program_init(&s->program, b->machine, s->mm);
	s->program.first_cpu = s->cpu;
	s->program.program.nr_cpus = 1;
	s->ops = soft_program_ops;
	s->ops.map = map;
	s->ops.unmap = unmap;
	s->ops.protect = protect;
	s->ops.access = access_page;
	s->ops.add = add;
	s->ops.copy_in = NULL;
	s->ops.copy_out = NULL;
	s->ops.fork = NULL;
	s->program.program.ops = &s->ops;
	soft_load_mm(&b->machine->cpus[s->cpu], s->mm);
}

static int start_side(struct beside *b, const struct beside_options *o, unsigned i)
{
	const struct mmu_ops counted = lab_counted_mmu_ops();
	u64 half = b->machine->nr_table / BESIDE;
	struct side *s = &b->sides[i];
	int err = keep_tables(s->engine, i * half, (i + 1) * half);

	s->cpu = i;
	s->ledger = o->ledger;
	s->observer.step = step;
	s->engine->observer = &s->observer;
	if (!err)
		err = mm_create(s->engine, ENGINE_SYSTEM_LOW, ENGINE_SYSTEM_HIGH, &s->mm);
	if (!err)
		err = divide(b, o, i);
	if (!err)
		err = library_init(&s->library, s->engine, &b->xok, i, &counted);
	s->mru.choose = newest_first;
	if (!err && o->policies[i] == &policy_chosen)
		err = chosen_begin(s->engine, &s->mru);
	if (!err)
		start_program(b, s);
	return err;
}

int beside_create(const struct beside_options *o, struct beside **result)
{
	const struct mmu_ops counted = lab_counted_mmu_ops();
	struct beside *b = calloc(1, sizeof(*b));
	int err = b ? 0 : -ENOMEM;

	for (unsigned i = 0; !err && i < BESIDE; i++)
		err = lab_store_init(&b->sides[i].store, 16 * o->frames[i]);
	if (!err)
		err = create_machine(b, o);
	if (!err)
		err = xok_init(&b->xok, b->machine, &counted);
	for (unsigned i = 0; !err && i < BESIDE; i++)
		err = start_side(b, o, i);
	if (!err)
		*result = b;
	else if (b)
		beside_destroy(b);
	return err;
}

static void end_side(struct beside *b, struct side *s)
{
	if (s->program.machine)
		soft_program_fini(&s->program);
	if (s->mm) {
		soft_load_mm(&b->machine->cpus[s->cpu], NULL);
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
	free(b);
	ledger_begin(NULL, 0);
}

/* What the side's table maps is its own. */
static void check_entries(struct beside *b, struct side *s)
{
	pte_t pte;

	for (u64 va = s->mm->low; engine_system_next_entry(s->mm, &va, &pte); va += PAGE_SIZE) {
		const _Atomic u32 *owner = xok_owner(&b->xok, pte_pfn(pte));

		if (pte_present(pte) && (!owner || atomic_load(owner) != s->library.resource))
			vmf_panic("exokernel: %lx of library %u maps a frame of another's",
				  (unsigned long)va, s->library.resource);
	}
}

void beside_check(struct beside *b)
{
	for (unsigned i = 0; i < BESIDE; i++) {
		engine_check(b->sides[i].engine);
		check_entries(b, &b->sides[i]);
	}
	soft_check_tlbs(b->machine);
}
