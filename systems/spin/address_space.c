/* SPDX-License-Identifier: MIT */
/*
 * The extension AddressSpace over the memory services: the engine's table of mmu_ops.
 *
 * Each frame that the engine gets is PhysAddr's, Active and AddressSpace's from then on; each
 * change of an entry is a call of Translation, which looks whether the frame is so still.  All are
 * in one protection domain.  A page that is taken is Reclaimed, until it is written out and its
 * frame free, or until a fault comes for it: then it is Active again, without I/O.  A frame that is
 * not Active or Reclaimed any more is refused (StaleFrame): the fault is tried again from the
 * start.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/spin/memory.h"

static const struct ledger_actor translation = { .name = "Translation", .ring = 0, .domain = 1 };

static _Thread_local bool met_stale_frame;

struct spin_services *spin_services_of(struct system *s)
{
	return spin_of_system(s)->services;
}

static struct spin_services *services_of(struct engine *e)
{
	struct engine_system *base = engine_system_of_engine(e);

	return container_of(base, struct spin, base)->services;
}

bool spin_met_stale_frame(void)
{
	bool met = met_stale_frame;

	met_stale_frame = false;
	return met;
}

/* ---- PhysAddr ---- */

static void claim(struct engine *e, struct page *page)
{
	spin_phys_claimed(services_of(e), page_pfn(e, page));
}

static void release(struct engine *e, struct page *page)
{
	struct spin_services *m = services_of(e);

	m->hardware.release(e, page);
	spin_phys_released(m, page_pfn(e, page));
}

/* ---- Translation ---- */

static bool injected(struct spin_services *m)
{
	unsigned n = atomic_load_explicit(&m->stale_every, memory_order_relaxed);

	return n && atomic_fetch_add_explicit(&m->adds, 1, memory_order_relaxed) % n == n - 1;
}

/* 0, -ESTALE.  The page of zeros is the kernel's, and in no state. */
static int check_frame(struct spin_services *m, pte_t pte)
{
	struct spin_frame *f = spin_frame_at(m, pte_pfn(pte));
	u32 state;

	ledger_count(PAID_CAPABILITIES);
	if (pte_special(pte))
		return 0;
	if (!f || atomic_load_explicit(&f->owner, memory_order_relaxed) != SPIN_ADDRESS_SPACE)
		return -ESTALE;
	state = atomic_load_explicit(&f->state, memory_order_acquire);
	return state == SPIN_ACTIVE || state == SPIN_RECLAIMED ? 0 : -ESTALE;
}

/* Mapped: what was Reclaimed is Active again. */
static void react(struct spin_services *m, pte_t pte, u64 va)
{
	struct spin_frame *f = spin_frame_at(m, pte_pfn(pte));
	u32 reclaimed = SPIN_RECLAIMED;

	if (pte_special(pte))
		return;
	if (atomic_compare_exchange_strong(&f->state, &reclaimed, SPIN_ACTIVE))
		ledger_step(&translation, "the frame was Reclaimed, and is Active again", va);
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct spin_services *m = services_of(mm->engine);
	int done, err = injected(m) ? -ESTALE : 0;

	for (unsigned i = 0; !err && i < n; i++)
		err = check_frame(m, ptes[i]);
	if (err) {
		met_stale_frame = true;
		ledger_step(&translation, "AddMapping: StaleFrame", va);
		return -EAGAIN;
	}
	ledger_step(&translation, "AddMapping: the frame is AddressSpace's and Active", va);
	done = m->hardware.set(mm, va, ptep, ptes, pages, n);
	for (int i = 0; i < done; i++)
		react(m, ptes[i], va + (u64)i * PAGE_SIZE);
	return done;
}

/* It must not refuse what the engine does under the entry's lock. */
static void must(int err, u64 va)
{
	if (err)
		vmf_panic("spin: AddressSpace has a stale frame at %lx", (unsigned long)va);
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct spin_services *m = services_of(mm->engine);

	must(check_frame(m, pte), va);
	ledger_step(&translation, "ChangeMapping", va);
	m->hardware.change(mm, va, ptep, pte);
}

static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct spin_services *m = services_of(mm->engine);

	if (pte_mapped(pte)) {
		must(check_frame(m, pte), va);
		ledger_count(PAID_ENTRY_WRITES);
	}
	pte_store(ptep, pte);
}

/* Taken from the last entry that mapped it: under that entry's lock nobody adds another.  (Taken
 * from one of several: it is Active still.) */
static void reclaimed(struct spin_services *m, const struct mmu_take *t)
{
	struct spin_frame *f = spin_frame_at(m, page_pfn(m->engine, t->page));

	if (!t->result && page_mapcount(t->page) == 1)
		atomic_store_explicit(&f->state, SPIN_RECLAIMED, memory_order_release);
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct spin_services *m = services_of(mm->engine);
	unsigned taken = m->hardware.take(mm, takes, n);

	for (unsigned i = 0; i < n; i++)
		reclaimed(m, &takes[i]);
	return taken;
}

/* ---- its life ---- */

/* The engine's changes go through Translation from now on, its frames come from PhysAddr. */
static void begin(struct spin *s)
{
	struct spin_services *m = s->services;

	m->hardware = s->base.mmu;
	s->base.mmu.claim = claim;
	s->base.mmu.release = release;
	s->base.mmu.set = set;
	s->base.mmu.change = change;
	s->base.mmu.put_back = put_back;
	s->base.mmu.take = take;
}

/* Every entry maps a frame that Translation would allow now. */
static void check_space(struct spin_services *m, struct mm *mm)
{
	pte_t pte;

	for (u64 va = mm->low; engine_system_next_entry(mm, &va, &pte); va += PAGE_SIZE)
		must(check_frame(m, pte), va);
}

void spin_address_space_check(struct spin *s)
{
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (s->base.program.mms[i])
			check_space(s->services, s->base.program.mms[i]);
	spin_phys_check(s->services);
}

int spin_services_create(struct spin *s)
{
	struct soft_machine *machine = s->base.machine;
	struct spin_services *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	m->spin = s;
	m->engine = &machine->engine;
	m->first = machine->nr_table;
	m->nr = machine->nr_user;
	m->frames = calloc(m->nr, sizeof(m->frames[0]));
	if (!m->frames) {
		free(m);
		return -ENOMEM;
	}
	spin_init(&m->lock);
	list_init(&m->held);
	/* What is in use now is the kernel's, for good. */
	for (u64 i = 0; i < m->nr; i++)
		if (atomic_load(&pfn_page(m->engine, m->first + i)->refcount))
			atomic_store(&m->frames[i].state, SPIN_PINNED);
	s->services = m;
	begin(s);
	return 0;
}

void spin_services_end_space(struct spin *s, unsigned process)
{
	spin_virt_end(s->services, s->keys[process]);
	spin_tables_end(s->services, s->base.program.mms[process]);
}

void spin_services_end(struct spin *s)
{
	if (!s->services)
		return;
	spin_virt_end(s->services, SPIN_ANY_KEY);
	spin_phys_end(s->services);
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (s->base.program.mms[i])
			spin_tables_end(s->services, s->base.program.mms[i]);
}

void spin_services_destroy(struct spin_services *m)
{
	if (!m)
		return;
	free(m->frames);
	free(m);
}
