/* SPDX-License-Identifier: MIT */
/* Frames, and the way out of memory: see pages.h. */
#include "systems/windows/pages.h"

#include "engine/base/errno.h"
#include "engine/engine.h"

#include <stdlib.h>

#define TRIM_BATCH 8

void nt_lock(struct nt *k)
{
	spin_lock(&k->lock);
	ledger_count(PAID_LOCKS_SPACE);
}

void nt_unlock(struct nt *k)
{
	spin_unlock(&k->lock);
}

pte_t *mi_entry_at(const struct nt *k, u64 va)
{
	if (va < NT_BASE || va >= nt_region_start(NR_NT_REGIONS))
		return NULL;
	return kernel_pte(&k->half, va & PAGE_MASK);
}

static pte_t *table_at(void *ctx, u64 phys)
{
	struct soft_machine *m = ctx;

	return (pte_t *)(m->memory + phys);
}

bool mi_can_be_pushed_to(struct nt *k, u64 va)
{
	struct walk_result w;

	return mmu_walk(&k->machine->control, k->half.pgd_phys, va, PF_WRITE, table_at, k->machine,
			&w) == WALK_OK;
}

struct mi_frame *mi_frame_of(struct nt *k, pte_t entry)
{
	return &k->frames[mi_number(entry) - k->first_pfn];
}

static u64 number_of(const struct nt *k, const struct mi_frame *f)
{
	return k->first_pfn + (u64)(f - k->frames);
}

void *mi_bytes(const struct nt *k, const struct mi_frame *f)
{
	return page_direct(&k->machine->engine, k->memory + (f - k->frames));
}

static void set_entry(pte_t *ptep, pte_t entry)
{
	pte_store(ptep, entry);
	ledger_count(PAID_ENTRY_WRITES);
}

/* Has a CPU before this one the same space loaded? */
static bool is_flushed(const struct nt *k, unsigned cpu, const struct mm *mm)
{
	for (unsigned i = 0; i < cpu; i++)
		if (atomic_load(&k->machine->cpus[i].mm) == mm)
			return true;
	return false;
}

/* The kernel's half is in every space.  A CPU that loads another one meanwhile forgets all. */
void mi_flush(struct nt *k, u64 start, u64 end)
{
	u64 others = 0;

	for (unsigned i = 0; i < k->machine->nr_cpus; i++) {
		struct mm *mm = atomic_load(&k->machine->cpus[i].mm);

		others += mm && i != ledger_cpu();
		if (mm && !is_flushed(k, i, mm))
			soft_shootdown(mm, start, end);
	}
	ledger_count(PAID_FLUSHES);
	ledger_add(PAID_IPIS, others);
}

/* ---- slots and frames ---- */

static s64 take_slot(struct nt *k)
{
	for (u64 i = 0; i < NT_PAGE_FILE_SLOTS; i++) {
		if (!k->slots[i]) {
			k->slots[i] = true;
			return (s64)i;
		}
	}
	return -ENOSPC;
}

void mi_release_slot(struct nt *k, u64 slot)
{
	struct store *s = &k->page_file.store;

	if (slot == MI_NO_SLOT)
		return;
	s->ops->drop(s, slot);
	k->slots[slot] = false;
}

static void to_list(struct nt *k, struct mi_frame *f, enum mi_frame_state state)
{
	f->state = state;
	list_del(&f->link);
	list_add_tail(&f->link, &k->lists[state]);
}

static struct mi_frame *oldest(struct nt *k, enum mi_frame_state state)
{
	struct list_head *list = &k->lists[state];

	return list_empty(list) ? NULL : container_of(list->next, struct mi_frame, link);
}

/* Of a frame on standby: its owner has the slot from now on. */
static void leave_to_page_file(struct mi_frame *f)
{
	set_entry(f->owner, mi_entry(MI_PAGE_FILE, f->slot, mi_rights(*f->owner)));
	f->slot = MI_NO_SLOT;
}

void mi_empty_standby(struct nt *k)
{
	struct mi_frame *f;

	while ((f = oldest(k, MI_STANDBY))) {
		leave_to_page_file(f);
		mi_release_frame(k, f);
	}
}

struct mi_frame *mi_take_frame(struct nt *k)
{
	struct mi_frame *f = oldest(k, MI_FREE);

	if (!f) {
		f = oldest(k, MI_STANDBY);
		if (!f)
			return NULL;
		leave_to_page_file(f);
	}
	list_del(&f->link);
	f->state = MI_ACTIVE;
	f->owner = NULL;
	f->slot = MI_NO_SLOT;
	f->dirty = true;
	ledger_count(PAID_FRAMES_ALLOCATED);
	return f;
}

void mi_release_frame(struct nt *k, struct mi_frame *f)
{
	mi_release_slot(k, f->slot);
	f->owner = NULL;
	f->slot = MI_NO_SLOT;
	f->dirty = f->nonpaged = false;
	to_list(k, f, MI_FREE);
}

void mi_activate(struct nt *k, struct mi_frame *f, pte_t *owner)
{
	list_del(&f->link);
	f->state = MI_ACTIVE;
	f->owner = owner;
	set_entry(owner, mi_entry(MI_VALID, number_of(k, f), mi_rights(*owner)));
}

/* ---- out of the working set ---- */

/* Nobody maps it any more, and its owner's entry says transition. */
static void retire(struct nt *k, struct mi_frame *f)
{
	if (f->dirty) {
		mi_release_slot(k, f->slot);
		f->slot = MI_NO_SLOT;
	}
	to_list(k, f, f->dirty ? MI_MODIFIED : MI_STANDBY);
}

void mi_drop_prototype(struct nt *k, struct mi_frame *f)
{
	set_entry(f->owner, mi_entry(MI_TRANSITION, number_of(k, f), mi_rights(*f->owner)));
	retire(k, f);
}

/* What an entry that is trimmed says: that it is in transition, or where its prototype is. */
static pte_t trimmed(const struct nt *k, const struct mi_frame *f, const pte_t *ptep, pte_t old)
{
	if (f->owner == ptep)
		return mi_entry(MI_TRANSITION, number_of(k, f), mi_rights(old));
	return mi_entry(MI_PROTOTYPE, (u64)(f->owner - k->prototypes), mi_rights(old));
}

bool mi_trim(struct nt *k, u64 va)
{
	pte_t *ptep = mi_entry_at(k, va), old = pte_read(ptep);
	struct mi_frame *f;

	if (mi_state(old) != MI_VALID)
		return false;
	f = mi_frame_of(k, old);
	if (f->nonpaged || f->locks)
		return false;
	/* A CPU may set the dirty bit until the exchange, and write by what its TLB has until the
	 * flush: but then the bit was set. */
	old = pte_exchange(ptep, trimmed(k, f, ptep, old));
	ledger_count(PAID_ENTRY_WRITES);
	mi_flush(k, va, va + PAGE_SIZE);
	f->dirty |= pte_dirty(old);
	if (f->owner == ptep)
		retire(k, f);
	else if (!--f->views)
		mi_drop_prototype(k, f);
	return true;
}

void mi_trim_all(struct nt *k)
{
	nt_lock(k);
	for (u64 va = nt_region_start(NT_PAGED_POOL); nt_is_pageable(va); va += PAGE_SIZE)
		mi_trim(k, va);
	nt_unlock(k);
}

/* Those not accessed since the hand was there before. */
static void trim_some(struct nt *k, unsigned most)
{
	const unsigned pages = (NR_NT_REGIONS - NT_PAGED_POOL) * NT_REGION_PAGES;

	for (unsigned i = 0; most && i < 2 * pages; i++) {
		u64 va = nt_region_start(NT_PAGED_POOL) + k->hand * PAGE_SIZE;
		pte_t *ptep = mi_entry_at(k, va), entry = pte_read(ptep);

		k->hand = (k->hand + 1) % pages;
		if (mi_state(entry) != MI_VALID)
			continue;
		if (pte_young(entry))
			pte_reset_bits(ptep, PTE_ACCESSED);
		else
			most -= mi_trim(k, va);
	}
}

/* ---- the page file ---- */

/* Above PASSIVE_LEVEL, so that no APC comes in between and wants a page, too. */
static u8 begin_paging(struct nt *k, unsigned cpu)
{
	struct nt_cpu *c = &k->cpus[cpu];
	u8 old = c->irql;

	c->paging++;
	c->irql = max_of(old, (u8)APC_LEVEL);
	return old;
}

static void end_paging(struct nt *k, unsigned cpu, u8 old)
{
	k->cpus[cpu].irql = old;
	k->cpus[cpu].paging--;
}

static void io_ended(struct mi_frame *f)
{
	atomic_fetch_add(&f->event, 1);
	machine_wake(&f->event, ~0u);
}

void mi_wait_for_io(struct nt *k, struct mi_frame *f)
{
	u32 before = atomic_load(&f->event);

	nt_unlock(k);
	while (atomic_load(&f->event) == before)
		machine_wait(&f->event, before);
	nt_lock(k);
}

int mi_read_page(struct nt *k, unsigned cpu, u64 slot, struct mi_frame *f)
{
	u8 old;
	int err;

	f->state = MI_READING;
	nt_unlock(k);
	old = begin_paging(k, cpu);
	err = k->disk->read(k, cpu, slot, mi_bytes(k, f));
	end_paging(k, cpu, old);
	nt_lock(k);
	io_ended(f);
	return err ? -EIO : 0;
}

/* The copy of its bytes that was made then is in the slot, or could not be put there. */
static void written(struct nt *k, struct mi_frame *f, u64 writing, u64 slot, int err)
{
	io_ended(f);
	if (f->state != MI_WRITING || f->writing != writing) {
		mi_release_slot(k, slot); /* it was touched meanwhile */
		return;
	}
	if (err) {
		mi_release_slot(k, slot);
	} else {
		f->slot = slot;
		f->dirty = false;
	}
	retire(k, f);
}

int mi_write_modified(struct nt *k, unsigned cpu)
{
	struct mi_frame *f = oldest(k, MI_MODIFIED);
	u64 writing = ++k->writings;
	char copy[PAGE_SIZE];
	s64 slot;
	int err;
	u8 old;

	if (!f)
		return -ENOENT;
	slot = take_slot(k);
	if (slot < 0)
		return (int)slot;
	memcpy(copy, mi_bytes(k, f), PAGE_SIZE);
	list_del(&f->link);
	f->state = MI_WRITING;
	f->writing = writing;
	nt_unlock(k);
	old = begin_paging(k, cpu);
	err = k->disk->write(k, cpu, (u64)slot, copy);
	end_paging(k, cpu, old);
	nt_lock(k);
	written(k, f, writing, (u64)slot, err);
	return err;
}

/* A frame that another CPU is reading or writing. */
static struct mi_frame *frame_on_its_way(struct nt *k)
{
	for (u64 i = 0; i < k->nr_frames; i++)
		if (k->frames[i].state == MI_READING || k->frames[i].state == MI_WRITING)
			return &k->frames[i];
	return NULL;
}

int mi_make_room(struct nt *k, unsigned cpu)
{
	struct mi_frame *f;
	int err;

	trim_some(k, TRIM_BATCH);
	while (list_empty(&k->lists[MI_STANDBY]) && list_empty(&k->lists[MI_FREE])) {
		err = mi_write_modified(k, cpu);
		f = err == -ENOENT ? frame_on_its_way(k) : NULL;
		if (err && !f)
			return -ENOMEM;
		if (f) { /* then it can go, or has made room */
			mi_wait_for_io(k, f);
			break;
		}
	}
	return 0;
}

/* ---- ranges ---- */

static unsigned index_in(const struct nt *k, enum nt_region_type type, u64 va)
{
	return (unsigned)((va - k->regions[type].start) >> PAGE_SHIFT);
}

u64 mi_take_range(struct nt *k, enum nt_region_type type, u64 pages, u32 tag)
{
	struct nt_region *r = &k->regions[type];
	u64 run = 0;

	for (unsigned i = 0; i < NT_REGION_PAGES; i++) {
		run = r->used[i] ? 0 : run + 1;
		if (run < pages)
			continue;
		i -= (unsigned)pages - 1;
		r->pages[i] = (u16)pages;
		r->tag[i] = tag;
		memset(&r->used[i], true, pages);
		return r->start + i * PAGE_SIZE;
	}
	return 0;
}

u64 mi_range_at(const struct nt *k, enum nt_region_type type, u64 va)
{
	const struct nt_region *r = &k->regions[type];

	if (va < r->start || va >= r->start + PMD_SIZE || !PAGE_ALIGNED(va))
		return 0;
	return r->pages[index_in(k, type, va)];
}

void mi_release_range(struct nt *k, enum nt_region_type type, u64 va)
{
	struct nt_region *r = &k->regions[type];
	unsigned i = index_in(k, type, va);

	memset(&r->used[i], false, r->pages[i]);
	r->pages[i] = 0;
}

void mi_promise(struct nt *k, u64 va, u64 pages)
{
	for (u64 i = 0; i < pages; i++)
		set_entry(mi_entry_at(k, va + i * PAGE_SIZE),
			  mi_entry(MI_DEMAND_ZERO, 0, PTE_WRITE | PTE_NX));
}

/* A valid page of its own goes on with nobody's translation, but its owner says where it is. */
static void unmap_range(struct nt *k, u64 va, u64 pages)
{
	bool any = false;

	for (u64 i = 0; i < pages; i++) {
		pte_t *ptep = mi_entry_at(k, va + i * PAGE_SIZE), old = pte_read(ptep);
		struct mi_frame *f;

		if (mi_state(old) != MI_VALID)
			continue;
		f = mi_frame_of(k, old);
		old = pte_exchange(ptep, trimmed(k, f, ptep, old));
		ledger_count(PAID_ENTRY_WRITES);
		f->dirty |= pte_dirty(old);
		if (f->owner != ptep)
			f->views--;
		any = true;
	}
	if (any)
		mi_flush(k, va, va + pages * PAGE_SIZE);
}

void mi_delete_entry(struct nt *k, pte_t *ptep)
{
	pte_t entry;
	struct mi_frame *f;

	while (mi_state(entry = pte_read(ptep)) == MI_TRANSITION) {
		f = mi_frame_of(k, entry);
		if (f->state != MI_READING && f->state != MI_WRITING) {
			mi_release_frame(k, f);
			break;
		}
		mi_wait_for_io(k, f);
	}
	if (mi_state(entry) == MI_PAGE_FILE)
		mi_release_slot(k, mi_number(entry));
	if (mi_state(entry) == MI_PROTOTYPE) {
		pte_t owner = k->prototypes[mi_number(entry)];

		f = mi_state(owner) == MI_VALID ? mi_frame_of(k, owner) : NULL;
		if (f && !f->views)
			mi_drop_prototype(k, f);
	}
	set_entry(ptep, (pte_t){ 0 });
}

void mi_delete(struct nt *k, u64 va, u64 pages)
{
	unmap_range(k, va, pages);
	for (u64 i = 0; i < pages; i++)
		mi_delete_entry(k, mi_entry_at(k, va + i * PAGE_SIZE));
}

/* ---- set-up ---- */

int mi_init_pages(struct nt *k)
{
	struct engine *e = &k->machine->engine;

	spin_init(&k->lock);
	for (unsigned i = 0; i < NR_MI_FRAME_STATES; i++)
		list_init(&k->lists[i]);
	k->nr_frames = 1ULL << NT_FRAMES_ORDER;
	k->frames = calloc(k->nr_frames, sizeof(*k->frames));
	if (!k->frames)
		return -ENOMEM;
	/* They are the kernel's, as its tables are. */
	k->memory = page_alloc_contig(e, ZONE_TABLE, NT_FRAMES_ORDER);
	if (!k->memory || lab_store_init(&k->page_file, NT_PAGE_FILE_SLOTS)) {
		mi_fini_pages(k);
		return -ENOMEM;
	}
	atomic_fetch_add(&e->kernel_tables, (s64)k->nr_frames);
	k->first_pfn = page_pfn(e, k->memory);
	for (u64 i = 0; i < k->nr_frames; i++) {
		list_init(&k->frames[i].link);
		k->frames[i].slot = MI_NO_SLOT;
		to_list(k, &k->frames[i], MI_FREE);
	}
	return 0;
}

void mi_fini_pages(struct nt *k)
{
	struct engine *e = &k->machine->engine;

	if (k->page_file.pages) {
		atomic_fetch_sub(&e->kernel_tables, (s64)k->nr_frames);
		lab_store_fini(&k->page_file);
	}
	if (k->memory)
		page_put(e, k->memory);
	free(k->frames);
}
