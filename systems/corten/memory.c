/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/corten/memory.h"
#include "systems/ledger.h"

static struct engine *engine_of(struct corten_memory *m)
{
	return &m->machine->engine;
}

static _Atomic u64 *note_of(struct corten_memory *m, const struct page *page)
{
	return &m->notes[page_pfn(engine_of(m), page) - m->machine->nr_table];
}

int corten_memory_init(struct corten_memory *m, struct soft_machine *machine, struct store *store,
		       struct corten_space **spaces, unsigned nr_spaces)
{
	memset(m, 0, sizeof(*m));
	m->machine = machine;
	m->store = store;
	m->spaces = spaces;
	m->nr_spaces = nr_spaces;
	m->batch = (unsigned)max_of(min_of(machine->nr_user / 64, (u64)CORTEN_SPARE), (u64)1);
	m->notes = calloc(machine->nr_user, sizeof(*m->notes));
	m->free_slots = calloc(store->nr_slots, sizeof(*m->free_slots));
	m->slot_users = calloc(store->nr_slots, sizeof(*m->slot_users));
	spin_init(&m->lock);
	if (!m->notes || !m->free_slots || !m->slot_users) {
		corten_memory_fini(m);
		return -ENOMEM;
	}
	for (u64 i = store->nr_slots; i--;)
		m->free_slots[m->nr_free_slots++] = i;
	return 0;
}

void corten_memory_fini(struct corten_memory *m)
{
	for (unsigned i = 0; i <= SOFT_MAX_CPUS; i++)
		while (m->spare[i].n)
			page_put(engine_of(m), m->spare[i].pages[--m->spare[i].n]);
	free(m->notes);
	free(m->free_slots);
	free(m->slot_users);
}

/* ---- frames ---- */

static struct page *take_spare(struct corten_memory *m, unsigned cpu)
{
	struct corten_spare *s = &m->spare[cpu];

	return s->n ? s->pages[--s->n] : NULL;
}

struct page *corten_frame(struct corten_memory *m, unsigned cpu)
{
	unsigned batch = cpu < m->machine->nr_cpus ? m->batch : 1;
	struct page *page = take_spare(m, cpu);

	for (unsigned i = 0; !page && i < batch; i++) {
		struct page *more =
			page_alloc(engine_of(m), ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE);

		if (i + 1 == batch || !more)
			page = more ? more : take_spare(m, cpu);
		else
			m->spare[cpu].pages[m->spare[cpu].n++] = more;
		if (!more)
			break;
	}
	if (page)
		ledger_count(PAID_FRAMES_ALLOCATED);
	return page;
}

void *corten_bytes(struct corten_memory *m, struct page *page)
{
	return page_direct(engine_of(m), page);
}

void corten_note_anon(struct corten_memory *m, struct page *page, u64 va)
{
	atomic_store(note_of(m, page), va);
}

bool corten_is_anon(struct corten_memory *m, const struct page *page)
{
	return atomic_load(note_of(m, page));
}

bool corten_unmapped(struct corten_memory *m, struct page *page)
{
	bool last = atomic_fetch_sub(&page->mapcount, 1) == 1;

	if (last)
		atomic_store(note_of(m, page), 0);
	page_put(engine_of(m), page);
	return last;
}

/* ---- slots ---- */

void corten_slot_refer(struct corten_memory *m, u64 slot, int n)
{
	bool last;

	spin_lock(&m->lock);
	m->slot_users[slot] += (u32)n;
	last = !m->slot_users[slot];
	spin_unlock(&m->lock);
	if (!last)
		return;
	m->store->ops->drop(m->store, slot);
	spin_lock(&m->lock);
	m->free_slots[m->nr_free_slots++] = slot;
	spin_unlock(&m->lock);
}

/* One that nobody has, with one user.  False: there is none. */
static bool take_slot(struct corten_memory *m, u64 *slot)
{
	bool any;

	spin_lock(&m->lock);
	any = m->nr_free_slots;
	if (any) {
		*slot = m->free_slots[--m->nr_free_slots];
		m->slot_users[*slot] = 1;
	}
	spin_unlock(&m->lock);
	return any;
}

/* ---- eviction ---- */

/* The page, which nobody can reach now.  0, or the store's error. */
static int save(struct corten_memory *m, struct page *page, u64 *slot)
{
	int err;

	if (!take_slot(m, slot))
		return -ENOSPC;
	err = m->store->ops->save(m->store, *slot, corten_bytes(m, page));
	if (err < 0)
		corten_slot_refer(m, *slot, -1);
	return min_of(err, 0);
}

/* The bytes of the page, which nobody can reach now, are to be in its record's slot.  0, or why
 * they are not. */
static int keep(struct corten_memory *m, struct page *page, bool dirty, struct corten_meta *meta)
{
	u64 slot;
	int err;

	if (meta->slot && !dirty)
		return 0; /* they are, as when it came in */
	err = save(m, page, &slot);
	if (err)
		return err;
	if (meta->slot)
		corten_slot_refer(m, meta->slot - 1, -1);
	meta->slot = slot + 1;
	return 0;
}

/* Which page, and of how many entries. */
struct victim {
	struct page *page; /* NULL: whichever is there; afterwards the one that is */
	bool shared;	   /* though others map it, too */
};

/* The cursor has locked the page's entry.  1: it is taken; 0: it stays; or the store's error. */
static int evict_locked(struct corten_memory *m, struct corten_cursor *c, u64 va, struct victim *v)
{
	struct corten_state s;
	struct page *page;
	pte_t old;
	int err;

	corten_query(c, va, &s);
	if (!s.ptep || !pte_mapped(s.pte))
		return 0;
	page = pfn_page(engine_of(m), pte_pfn(s.pte));
	if (!corten_is_anon(m, page) || (v->page && v->page != page))
		return 0;
	/* Nobody makes one of it more while this entry, the only one, is locked. */
	if (page_mapcount(page) != 1 && !v->shared)
		return 0;
	old = corten_take(c, va, s.ptep);
	err = keep(m, page, pte_dirty(old), corten_meta_at(c, va));
	if (err) {
		corten_restore(c, va, s.ptep, old);
		return err;
	}
	atomic_fetch_add_explicit(&c->space->swapped, 1, memory_order_relaxed);
	v->page = page;
	return 1;
}

/* 1: a frame is free; 0: none is; or the store's error. */
static int evict(struct corten_memory *m, unsigned cpu, struct corten_space *s, u64 va,
		 struct victim v)
{
	struct corten_cursor c;
	int evicted;

	corten_lock(&c, s, cpu, va, va + PAGE_SIZE);
	evicted = evict_locked(m, &c, va, &v);
	corten_unlock(&c);
	return evicted == 1 ? corten_unmapped(m, v.page) : evicted;
}

int corten_evict_at(struct corten_memory *m, unsigned cpu, struct corten_space *s, u64 va)
{
	return evict(m, cpu, s, va, (struct victim){ NULL, false });
}

/* From all spaces that have it where it was seen last.  As evict(). */
static int evict_frame(struct corten_memory *m, unsigned cpu, u64 frame, bool shared)
{
	struct victim v = { pfn_page(engine_of(m), m->machine->nr_table + frame), shared };
	u64 va = atomic_load(&m->notes[frame]);
	int evicted = 0;

	for (unsigned i = 0; va && !evicted && i < m->nr_spaces; i++)
		if (m->spaces[i])
			evicted = evict(m, cpu, m->spaces[i], va, v);
	return evicted;
}

/* Those that are one space's alone go first. */
u64 corten_reclaim(struct corten_memory *m, unsigned cpu, u64 want)
{
	u64 nr = m->machine->nr_user, freed = 0;
	int evicted = 0;

	for (u64 looked = 0; looked < 2 * nr && freed < want && evicted >= 0; looked++) {
		if (looked == nr && freed)
			break;
		evicted = evict_frame(m, cpu, atomic_fetch_add(&m->hand, 1) % nr, looked >= nr);
		freed += max_of(evicted, 0);
	}
	return freed;
}
