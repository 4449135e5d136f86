/* SPDX-License-Identifier: MIT */
/* Cursors over page tables that know everything: see cursor.h. */
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/page/page.h"
#include "systems/corten/cursor.h"
#include "systems/ledger.h"

#define TABLE_BITS_SET (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)
#define USER_END       (1ULL << 47)
/* Instead of the frame of a table; frame 0 is as good a table as any. */
#define NO_TABLE (~0ULL)

static struct corten_table *table_of(const struct corten_tables *t, u64 pfn)
{
	return &t->tables[pfn];
}

static pte_t *entries_of(const struct corten_tables *t, u64 pfn)
{
	return (pte_t *)(t->machine->memory + (pfn << PAGE_SHIFT));
}

static u64 root_of(const struct corten_space *s)
{
	return s->mm.pgd_phys >> PAGE_SHIFT;
}

static u64 slot_size(enum mmu_level level)
{
	return 1ULL << level_shift(level);
}

static pte_t read_entry(const struct corten_tables *t, u64 pfn, enum mmu_level level, u64 va)
{
	ledger_count(PAID_SOFTWARE_READS);
	return pte_read(&entries_of(t, pfn)[level_index(level, va)]);
}

/* The record that goes with the one for the start of a range, `bytes` further on. */
static struct corten_meta meta_at(const struct corten_meta *m, u64 bytes)
{
	struct corten_meta at = *m;

	if (at.kind == CORTEN_FILE)
		at.page += bytes >> PAGE_SHIFT;
	return at;
}

/* ---- tables ---- */

/* A fresh one, locked by the caller; NO_TABLE: no memory. */
static u64 table_new(struct corten_tables *t, enum mmu_level level, unsigned cpu)
{
	struct page *page = page_alloc(&t->machine->engine, ZONE_TABLE, 0,
				       ALLOC_ZERO | ALLOC_RESERVE | ALLOC_NORECLAIM);
	struct corten_table *table;
	u64 pfn;

	if (!page)
		return NO_TABLE;
	pfn = page_pfn(&t->machine->engine, page);
	table = table_of(t, pfn);
	spin_lock(&table->lock);
	table->stale = false;
	table->level = level;
	atomic_store(&table->takers, 1ULL << min_of(cpu, 63u));
	atomic_fetch_add_explicit(&t->nr_tables, 1, memory_order_relaxed);
	ledger_count(PAID_TABLES);
	return pfn;
}

static void table_free(struct corten_tables *t, u64 pfn)
{
	struct corten_table *table = table_of(t, pfn);

	free(table->metas);
	table->metas = NULL;
	atomic_fetch_sub_explicit(&t->nr_tables, 1, memory_order_relaxed);
	page_put(&t->machine->engine, pfn_page(&t->machine->engine, pfn));
}

/* Room for records.  False: no memory. */
static bool has_metas(struct corten_table *table)
{
	if (!table->metas)
		table->metas = calloc(PTRS_PER_TABLE, sizeof(*table->metas));
	return table->metas;
}

int corten_tables_init(struct corten_tables *t, struct soft_machine *m, const struct mmu_ops *mmu,
		       struct corten_owner *owner)
{
	memset(t, 0, sizeof(*t));
	t->machine = m;
	t->mmu = *mmu;
	t->owner = owner;
	t->tables = calloc(m->nr_table, sizeof(*t->tables));
	if (!t->tables)
		return -ENOMEM;
	for (u64 i = 0; i < m->nr_table; i++)
		spin_init_class(&t->tables[i].lock, LOCK_PAGE_TABLE);
	return 0;
}

void corten_tables_fini(struct corten_tables *t)
{
	free(t->tables);
}

/* ---- locking ---- */

/*
 * A reader says so by an exchange before it reads an entry, and who takes a table out looks at the
 * readers by an exchange after it has changed the entry: one of the two sees the other.
 */
static void reader_enters(struct corten_cursor *c)
{
	atomic_fetch_add(&c->space->tables->readers[c->cpu].turns, 1);
}

static void reader_leaves(struct corten_cursor *c)
{
	atomic_fetch_add(&c->space->tables->readers[c->cpu].turns, 1);
}

/* All who may have met what is out of the tree by now have left. */
static void wait_for_readers(struct corten_tables *t)
{
	for (unsigned i = 0; i <= t->machine->nr_cpus; i++) {
		u64 turns = atomic_fetch_add(&t->readers[i].turns, 0);

		while (turns % 2 && atomic_load(&t->readers[i].turns) == turns)
			sched_yield();
	}
}

static void take_lock(struct corten_cursor *c, u64 pfn)
{
	struct corten_table *table = table_of(c->space->tables, pfn);
	u64 bit = 1ULL << min_of(c->cpu, 63u);

	spin_lock(&table->lock);
	ledger_count(PAID_LOCKS_TABLE);
	if (!(atomic_load_explicit(&table->takers, memory_order_relaxed) & bit))
		atomic_fetch_or_explicit(&table->takers, bit, memory_order_relaxed);
}

/* Step 1. */
static void descend(struct corten_cursor *c)
{
	struct corten_tables *t = c->space->tables;
	u64 last = c->end - 1;

	c->table = root_of(c->space);
	c->level = LEVEL_P4D;
	while (c->level > LEVEL_PTE &&
	       c->start >> level_shift(c->level) == last >> level_shift(c->level)) {
		pte_t entry = read_entry(t, c->table, c->level, c->start);

		if (!pte_present(entry))
			break;
		c->table = pte_pfn(entry);
		c->level--;
	}
}

/* The parts of [start, end) that the table's entries are for, one after the other. */
#define for_each_slot(va, next, start, end, level)                                                 \
	for (u64 va = (start), next;                                                               \
	     va < (end) &&                                                                         \
	     (next = min_of((end), (va & ~(slot_size(level) - 1)) + slot_size(level)), true);      \
	     va = next)

static bool is_whole_slot(u64 va, u64 next, enum mmu_level level)
{
	return next - va == slot_size(level);
}

/* Step 3, of the tables below this one. */
static void lock_below(struct corten_cursor *c, u64 pfn, enum mmu_level level, u64 start, u64 end)
{
	if (level == LEVEL_PTE)
		return;
	for_each_slot (va, next, start, end, level) {
		pte_t entry = read_entry(c->space->tables, pfn, level, va);

		if (!pte_present(entry))
			continue;
		take_lock(c, pte_pfn(entry));
		lock_below(c, pte_pfn(entry), level - 1, va, next);
	}
}

static void unlock_below(struct corten_cursor *c, u64 pfn, enum mmu_level level, u64 start, u64 end)
{
	struct corten_tables *t = c->space->tables;

	if (level == LEVEL_PTE)
		return;
	for_each_slot (va, next, start, end, level) {
		pte_t entry = pte_read(&entries_of(t, pfn)[level_index(level, va)]);

		if (!pte_present(entry))
			continue;
		unlock_below(c, pte_pfn(entry), level - 1, va, next);
		spin_unlock(&table_of(t, pte_pfn(entry))->lock);
	}
}

void corten_lock(struct corten_cursor *c, struct corten_space *s, unsigned cpu, u64 start, u64 end)
{
	struct corten_table *table;

	c->space = s;
	c->cpu = cpu;
	c->start = start;
	c->end = end;
	c->flush_from = c->flush_to = 0;
	c->dead = NO_TABLE;
	c->nr_gone = 0;
	for (;;) {
		reader_enters(c);
		descend(c);
		take_lock(c, c->table);
		reader_leaves(c);
		table = table_of(s->tables, c->table);
		if (!table->stale)
			break;
		spin_unlock(&table->lock);
		ledger_count(PAID_RETRIES);
	}
	lock_below(c, c->table, c->level, start, end);
}

void corten_flush(struct corten_cursor *c)
{
	struct corten_tables *t = c->space->tables;

	if (c->flush_from < c->flush_to)
		t->mmu.flush(&c->space->mm, c->flush_from, c->flush_to);
	c->flush_from = c->flush_to = 0;
	while (c->nr_gone)
		t->owner->unmapped(t->owner, c->gone[--c->nr_gone]);
}

void corten_owe_flush(struct corten_cursor *c, u64 start, u64 end)
{
	bool none = c->flush_from >= c->flush_to;

	c->flush_from = none ? start : min_of(c->flush_from, start);
	c->flush_to = none ? end : max_of(c->flush_to, end);
}

void corten_unlock(struct corten_cursor *c)
{
	struct corten_tables *t = c->space->tables;
	u64 pfn;

	corten_flush(c);
	unlock_below(c, c->table, c->level, c->start, c->end);
	spin_unlock(&table_of(t, c->table)->lock);
	if (c->dead != NO_TABLE)
		wait_for_readers(t);
	while ((pfn = c->dead) != NO_TABLE) {
		c->dead = table_of(t, pfn)->next_dead;
		table_free(t, pfn);
	}
}

static bool is_locked(const struct corten_cursor *c, u64 start, u64 end)
{
	return start >= c->start && end <= c->end && start < end;
}

/* ---- going down what is locked ---- */

/* The table below the entry for va, which is made and divides the entry's record if there is none.
 * NO_TABLE: no memory. */
static u64 ensure_below(struct corten_cursor *c, u64 pfn, enum mmu_level level, u64 va)
{
	struct corten_tables *t = c->space->tables;
	pte_t *slot = &entries_of(t, pfn)[level_index(level, va)], entry = pte_read(slot);
	struct corten_meta *record = NULL;
	struct corten_table *below;
	u64 fresh;

	if (pte_present(entry))
		return pte_pfn(entry);
	fresh = table_new(t, level - 1, c->cpu);
	if (fresh == NO_TABLE)
		return NO_TABLE;
	below = table_of(t, fresh);
	if (table_of(t, pfn)->metas)
		record = &table_of(t, pfn)->metas[level_index(level, va)];
	if (record && record->kind) {
		if (!has_metas(below)) {
			spin_unlock(&below->lock);
			table_free(t, fresh);
			return NO_TABLE;
		}
		for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
			below->metas[i] = meta_at(record, i * slot_size(level - 1));
		t->owner->refer(t->owner, record, PTRS_PER_TABLE - 1);
		*record = (struct corten_meta){ 0 };
	}
	pte_store(slot, pte_make(fresh, TABLE_BITS_SET));
	return fresh;
}

int corten_query(struct corten_cursor *c, u64 va, struct corten_state *state)
{
	struct corten_tables *t = c->space->tables;
	enum mmu_level level = c->level;
	u64 pfn = c->table;
	struct corten_table *table;

	*state = (struct corten_state){ 0 };
	if (!is_locked(c, va, va + PAGE_SIZE))
		return -EINVAL;
	for (;; level--) {
		pte_t entry = read_entry(t, pfn, level, va);

		table = table_of(t, pfn);
		if (level == LEVEL_PTE) {
			state->pte = entry;
			state->ptep = &entries_of(t, pfn)[level_index(level, va)];
			break;
		}
		if (!pte_present(entry))
			break;
		pfn = pte_pfn(entry);
	}
	if (table->metas)
		state->meta = meta_at(&table->metas[level_index(level, va)],
				      va & (slot_size(level) - 1) & PAGE_MASK);
	return 0;
}

/* The last-level table for va; NO_TABLE: no memory. */
static u64 last_table(struct corten_cursor *c, u64 va)
{
	u64 pfn = c->table;

	for (enum mmu_level level = c->level; pfn != NO_TABLE && level > LEVEL_PTE; level--)
		pfn = ensure_below(c, pfn, level, va);
	return pfn;
}

struct corten_meta *corten_meta_at(struct corten_cursor *c, u64 va)
{
	struct corten_table *table;
	u64 pfn;

	if (!is_locked(c, va, va + PAGE_SIZE))
		return NULL;
	pfn = last_table(c, va);
	table = pfn != NO_TABLE ? table_of(c->space->tables, pfn) : NULL;
	return table && table->metas ? &table->metas[level_index(LEVEL_PTE, va)] : NULL;
}

/* ---- changes ---- */

static int mark_in(struct corten_cursor *c, u64 pfn, enum mmu_level level, u64 start, u64 end,
		   const struct corten_meta *meta)
{
	struct corten_tables *t = c->space->tables;
	struct corten_table *table = table_of(t, pfn);
	struct corten_meta at;
	int err = 0;

	for_each_slot (va, next, start, end, level) {
		bool below = level > LEVEL_PTE &&
			     (!is_whole_slot(va, next, level) ||
			      pte_present(pte_read(&entries_of(t, pfn)[level_index(level, va)])));

		at = meta_at(meta, va - start);
		if (below) {
			u64 child = ensure_below(c, pfn, level, va);

			err = child == NO_TABLE ? -ENOMEM
						: mark_in(c, child, level - 1, va, next, &at);
		} else if (!has_metas(table)) {
			err = -ENOMEM;
		} else {
			table->metas[level_index(level, va)] = at;
			t->owner->refer(t->owner, &at, 1);
		}
		if (err)
			break;
	}
	return err;
}

int corten_mark(struct corten_cursor *c, u64 start, u64 end, const struct corten_meta *meta)
{
	if (!is_locked(c, start, end))
		return -EINVAL;
	return mark_in(c, c->table, c->level, start, end, meta);
}

u64 corten_bits(const struct corten_meta *m, bool write)
{
	u64 present = m->prot & (VM_READ | VM_WRITE | VM_EXEC) ? PTE_PRESENT : PTE_GLOBAL;

	return present | PTE_USER | (write ? PTE_WRITE : 0) | (m->prot & VM_EXEC ? 0 : PTE_NX);
}

int corten_map(struct corten_cursor *c, u64 va, struct page *page, bool write)
{
	struct corten_tables *t = c->space->tables;
	struct corten_state s;
	int err = corten_query(c, va, &s);
	u64 pfn;
	pte_t pte;

	if (err)
		return err;
	if (!s.meta.kind)
		return -EFAULT;
	if (write && !(s.meta.prot & VM_WRITE))
		return -EACCES;
	if (pte_mapped(s.pte))
		return -EEXIST;
	pfn = last_table(c, va);
	if (pfn == NO_TABLE)
		return -ENOMEM;
	pte = pte_make(page_pfn(&t->machine->engine, page), corten_bits(&s.meta, write));
	if (t->mmu.set(&c->space->mm, va, &entries_of(t, pfn)[level_index(LEVEL_PTE, va)], &pte,
		       &page, 1) != 1)
		return -ENOMEM;
	atomic_fetch_add_explicit(&c->space->rss, 1, memory_order_relaxed);
	return 0;
}

pte_t corten_lift(struct corten_cursor *c, u64 va, pte_t *ptep)
{
	struct corten_tables *t = c->space->tables;
	pte_t old = t->mmu.clear(&c->space->mm, va, ptep, (pte_t){ 0 });

	corten_owe_flush(c, va, va + PAGE_SIZE);
	atomic_fetch_sub_explicit(&c->space->rss, 1, memory_order_relaxed);
	return old;
}

pte_t corten_take(struct corten_cursor *c, u64 va, pte_t *ptep)
{
	pte_t old = corten_lift(c, va, ptep);

	corten_flush(c);
	return old;
}

void corten_restore(struct corten_cursor *c, u64 va, pte_t *ptep, pte_t old)
{
	struct corten_tables *t = c->space->tables;
	struct page *page = pfn_page(&t->machine->engine, pte_pfn(old));

	if (t->mmu.set(&c->space->mm, va, ptep, &old, &page, 1) != 1)
		vmf_panic("corten: %lx cannot be mapped again", (unsigned long)va);
	atomic_fetch_add_explicit(&c->space->rss, 1, memory_order_relaxed);
}

/* The table is out of the tree, with nothing in it: nobody comes to it any more but those who wait
 * for its lock, who find it stale. */
static void take_out(struct corten_cursor *c, pte_t *slot, u64 va, u64 next)
{
	struct corten_tables *t = c->space->tables;
	u64 pfn = pte_pfn(pte_exchange(slot, (pte_t){ 0 }));
	struct corten_table *table = table_of(t, pfn);

	table->next_dead = c->dead;
	c->dead = pfn;
	corten_owe_flush(c, va, next); /* until then the hardware may be in it */
	table->stale = true;
	spin_unlock(&table->lock);
}

void corten_drop(struct corten_cursor *c, u64 va, pte_t *ptep)
{
	pte_t old;

	if (!pte_mapped(pte_read(ptep)))
		return;
	old = corten_lift(c, va, ptep);
	c->gone[c->nr_gone++] = pfn_page(c->space->mm.engine, pte_pfn(old));
	if (c->nr_gone == CORTEN_BATCH)
		corten_flush(c);
}

static void forget(struct corten_cursor *c, struct corten_meta *m, bool mapped)
{
	struct corten_owner *o = c->space->tables->owner;

	if (!m->kind)
		return;
	o->refer(o, m, -1);
	if (m->slot && !mapped)
		atomic_fetch_sub_explicit(&c->space->swapped, 1, memory_order_relaxed);
	*m = (struct corten_meta){ 0 };
}

static int unmap_in(struct corten_cursor *c, u64 pfn, enum mmu_level level, u64 start, u64 end)
{
	struct corten_tables *t = c->space->tables;
	struct corten_table *table = table_of(t, pfn);

	for_each_slot (va, next, start, end, level) {
		pte_t *slot = &entries_of(t, pfn)[level_index(level, va)];
		struct corten_meta *m = table->metas ? &table->metas[level_index(level, va)] : NULL;
		bool whole = is_whole_slot(va, next, level), mapped = pte_mapped(pte_read(slot));
		bool below = level > LEVEL_PTE &&
			     (pte_present(pte_read(slot)) || (m && m->kind && !whole));
		u64 child;
		int err;

		if (level == LEVEL_PTE)
			corten_drop(c, va, slot);
		if (below) {
			child = ensure_below(c, pfn, level, va);
			if (child == NO_TABLE)
				return -ENOMEM;
			err = unmap_in(c, child, level - 1, va, next);
			if (err)
				return err;
			if (whole)
				take_out(c, slot, va, next);
		} else if (m) {
			forget(c, m, mapped);
		}
	}
	return 0;
}

int corten_unmap(struct corten_cursor *c, u64 start, u64 end)
{
	if (!is_locked(c, start, end))
		return -EINVAL;
	return unmap_in(c, c->table, c->level, start, end);
}

/* ---- walks ---- */

struct walk {
	struct corten_cursor *c;
	bool divide;
	corten_visit_fn visit;
	void *arg;
};

static int walk_in(struct walk *w, u64 pfn, enum mmu_level level, u64 start, u64 end)
{
	struct corten_tables *t = w->c->space->tables;
	struct corten_table *table = table_of(t, pfn);
	int err = 0;

	for_each_slot (va, next, start, end, level) {
		pte_t *slot = &entries_of(t, pfn)[level_index(level, va)];
		bool below = level > LEVEL_PTE && pte_present(read_entry(t, pfn, level, va));
		struct corten_meta *m = table->metas ? &table->metas[level_index(level, va)] : NULL;
		u64 child;

		if (!below && (!m || !m->kind))
			continue;
		if (below || (level > LEVEL_PTE && w->divide && !is_whole_slot(va, next, level))) {
			child = ensure_below(w->c, pfn, level, va);
			err = child == NO_TABLE ? -ENOMEM : walk_in(w, child, level - 1, va, next);
		} else {
			err = w->visit(w->arg, w->c, va, (next - va) >> PAGE_SHIFT,
				       level == LEVEL_PTE ? slot : NULL, m);
		}
		if (err)
			break;
	}
	return err;
}

int corten_walk(struct corten_cursor *c, u64 start, u64 end, bool divide, corten_visit_fn visit,
		void *arg)
{
	struct walk w = { c, divide, visit, arg };

	if (!is_locked(c, start, end))
		return -EINVAL;
	return walk_in(&w, c->table, c->level, start, end);
}

/* ---- spaces ---- */

int corten_space_init(struct corten_space *s, struct corten_tables *t)
{
	u64 root;

	memset(s, 0, sizeof(*s));
	root = table_new(t, LEVEL_P4D, 0);
	if (root == NO_TABLE)
		return -ENOMEM;
	spin_unlock(&table_of(t, root)->lock);
	s->tables = t;
	s->mm.engine = &t->machine->engine;
	s->mm.pgd = entries_of(t, root);
	s->mm.pgd_phys = root << PAGE_SHIFT;
	return 0;
}

void corten_space_fini(struct corten_space *s, unsigned cpu)
{
	struct corten_cursor c;

	corten_lock(&c, s, cpu, 0, USER_END);
	corten_unmap(&c, 0, USER_END);
	corten_unlock(&c);
	table_free(s->tables, root_of(s));
}

static u64 check_in(struct corten_tables *t, u64 pfn, enum mmu_level level)
{
	struct corten_table *table = table_of(t, pfn);
	u64 n = 1;

	if (table->stale || table->level != level || atomic_load(&table->lock.word))
		vmf_panic("corten: table %lx is stale, locked or of another level",
			  (unsigned long)pfn);
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		pte_t entry = pte_read(&entries_of(t, pfn)[i]);
		const struct corten_meta *m = table->metas ? &table->metas[i] : NULL;

		if (level > LEVEL_PTE && pte_present(entry)) {
			if (m && m->kind)
				vmf_panic("corten: table %lx has a record above another",
					  (unsigned long)pfn);
			n += check_in(t, pte_pfn(entry), level - 1);
		} else if (pte_mapped(entry) &&
			   (!m || !m->kind || (pte_write(entry) && !(m->prot & VM_WRITE)))) {
			vmf_panic("corten: table %lx maps what was not given", (unsigned long)pfn);
		}
	}
	return n;
}

u64 corten_check_tables(struct corten_space *s)
{
	return check_in(s->tables, root_of(s), LEVEL_P4D);
}
