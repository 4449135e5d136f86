/* SPDX-License-Identifier: MIT */
/*
 * Translation: puts frames under addresses, for whoever has the map, the frame and the range.
 *
 * The tables of ranges are Translation's own: they hang below the root of the space, in the half
 * that no area of AddressSpace reaches, and stay until the space ends.  The entries are written by
 * the same operations as AddressSpace's.
 */
#include "engine/base/errno.h"
#include "systems/spin/memory.h"

#define ALL_RIGHTS (VM_READ | VM_WRITE | VM_EXEC)

struct mm *spin_map_of(struct spin_services *m, u32 extension, u64 map, int *err)
{
	struct spin *s = m->spin;
	unsigned process = 0;

	ledger_count(PAID_CAPABILITIES);
	while (process < PROGRAM_PROCESSES && (map == SPIN_ANY_KEY || s->keys[process] != map))
		process++;
	*err = process == PROGRAM_PROCESSES					    ? -EBADF
	       : extension != SPIN_ADDRESS_SPACE && s->owners[process] != extension ? -EACCES
										    : 0;
	return *err ? NULL : s->base.program.mms[process];
}

/* ---- tables; the lock is held ---- */

static pte_t *entries_of(struct spin_services *m, u64 pfn)
{
	return page_direct(m->engine, pfn_page(m->engine, pfn));
}

static pte_t add_table(struct spin_services *m)
{
	struct page *page =
		page_alloc(m->engine, ZONE_TABLE, 0, ALLOC_ZERO | ALLOC_RESERVE | ALLOC_NORECLAIM);

	if (!page)
		return (pte_t){ 0 };
	page_set(page, PG_TABLE);
	atomic_fetch_add(&m->engine->kernel_tables, 1);
	ledger_count(PAID_TABLES);
	return pte_make(page_pfn(m->engine, page),
			PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED);
}

/* The entry for va.  NULL: its table is missing (add: and there is no memory for one). */
static pte_t *entry_of(struct spin_services *m, struct mm *mm, u64 va, bool add)
{
	pte_t *entries = mm->pgd;

	for (unsigned level = LEVEL_P4D; level > LEVEL_PTE; level--) {
		pte_t *slot = &entries[level_index(level, va)], entry = pte_read(slot);

		ledger_count(PAID_SOFTWARE_READS);
		if (pte_none(entry) && add) {
			entry = add_table(m);
			pte_store(slot, entry);
		}
		if (pte_none(entry))
			return NULL;
		entries = entries_of(m, pte_pfn(entry));
	}
	return &entries[level_index(LEVEL_PTE, va)];
}

/* The table at *slot, and all below it. */
static void free_table(struct spin_services *m, pte_t *slot, unsigned level)
{
	struct page *page = pfn_page(m->engine, pte_pfn(*slot));
	pte_t *entries = entries_of(m, pte_pfn(*slot));

	for (unsigned i = 0; level > LEVEL_PTE && i < PTRS_PER_TABLE; i++)
		if (!pte_none(entries[i]))
			free_table(m, &entries[i], level - 1);
	pte_store(slot, (pte_t){ 0 });
	page_clear(page, PG_TABLE);
	page_put(m->engine, page);
	atomic_fetch_sub(&m->engine->kernel_tables, 1);
}

void spin_tables_end(struct spin_services *m, struct mm *mm)
{
	pte_t *slot = &mm->pgd[level_index(LEVEL_P4D, SPIN_VIRT_LOW)];

	spin_lock(&m->lock);
	if (!pte_none(*slot)) {
		/* A walk that is under way may be reading them. */
		m->hardware.flush(mm, SPIN_VIRT_LOW, SPIN_VIRT_HIGH);
		free_table(m, slot, LEVEL_PUD);
	}
	spin_unlock(&m->lock);
}

/* ---- mappings; the lock is held ---- */

static u64 bits_of(u32 prot)
{
	return PTE_PRESENT | PTE_USER | (prot & VM_WRITE ? PTE_WRITE : 0) |
	       (prot & VM_EXEC ? 0 : PTE_NX);
}

static struct mm *space_of(struct spin_services *m, const struct spin_mapping *at)
{
	return spin_space_of(m->spin, at->range->map);
}

static void flush(struct spin_services *m, const struct spin_mapping *at)
{
	m->hardware.flush(space_of(m, at), at->va, at->va + PAGE_SIZE);
}

void spin_mapping_remove(struct spin_services *m, struct spin_mapping *at)
{
	pte_t *ptep = entry_of(m, space_of(m, at), at->va, false);

	m->hardware.clear(space_of(m, at), at->va, ptep, (pte_t){ 0 });
	flush(m, at);
	list_del(&at->link);
	at->frame = NULL;
}

void spin_mapping_change(struct spin_services *m, struct spin_mapping *at, u32 prot)
{
	pte_t *ptep = entry_of(m, space_of(m, at), at->va, false), old = pte_read(ptep);

	m->hardware.change(space_of(m, at), at->va, ptep, pte_make(pte_pfn(old), bits_of(prot)));
	flush(m, at);
}

bool spin_mapping_used(struct spin_services *m, struct spin_mapping *at)
{
	pte_t *ptep = entry_of(m, space_of(m, at), at->va, false);

	return m->hardware.test_and_clear_young(space_of(m, at), at->va, ptep);
}

static int add(struct spin_services *m, struct spin_mapping *at, struct spin_frame *f, u32 prot)
{
	struct page *page = pfn_page(m->engine, spin_frame_pfn(m, f));
	pte_t pte = pte_make(spin_frame_pfn(m, f), bits_of(prot));
	pte_t *ptep = entry_of(m, space_of(m, at), at->va, true);
	int done;

	if (!ptep)
		return -ENOMEM;
	done = m->hardware.set(space_of(m, at), at->va, ptep, &pte, &page, 1);
	if (done < 0)
		return done;
	at->frame = f;
	list_add_tail(&at->link, &f->mappings);
	return 0;
}

/* ---- calls ---- */

/* Page `page` of the range, in that map.  NULL: *err. */
static struct spin_mapping *mapping_of(struct spin_services *m, u32 extension, u64 map, s64 range,
				       u64 page, int *err)
{
	struct spin_range *r;

	if (!spin_map_of(m, extension, map, err))
		return NULL;
	r = spin_range_of(m, extension, range, err);
	if (r && (r->map != map || page >= r->pages))
		*err = -EINVAL;
	return *err ? NULL : &r->mappings[page];
}

static bool rights_are_none(u32 prot)
{
	return !(prot & VM_READ) || prot & ~(u32)ALL_RIGHTS;
}

int spin_add_mapping(struct spin_services *m, u32 extension, u64 map, s64 frame, s64 range,
		     u64 page, u32 prot)
{
	struct spin_mapping *at;
	struct spin_frame *f = NULL;
	int err;

	spin_lock(&m->lock);
	at = mapping_of(m, extension, map, range, page, &err);
	if (at)
		f = spin_frame_of(m, extension, frame, &err);
	if (!err && rights_are_none(prot))
		err = -EINVAL;
	else if (!err && at->frame)
		err = -EEXIST;
	else if (!err && atomic_load(&f->state) != SPIN_ACTIVE)
		err = -ESTALE;
	if (!err)
		err = add(m, at, f, prot);
	spin_unlock(&m->lock);
	return err;
}

int spin_remove_mapping(struct spin_services *m, u32 extension, u64 map, s64 range, u64 page)
{
	struct spin_mapping *at;
	int err;

	spin_lock(&m->lock);
	at = mapping_of(m, extension, map, range, page, &err);
	if (at && !at->frame)
		err = -ENOENT;
	if (!err)
		spin_mapping_remove(m, at);
	spin_unlock(&m->lock);
	return err;
}

int spin_change_mapping(struct spin_services *m, u32 extension, u64 map, s64 range, u64 page,
			u32 prot)
{
	struct spin_mapping *at;
	int err;

	spin_lock(&m->lock);
	at = mapping_of(m, extension, map, range, page, &err);
	if (at && rights_are_none(prot))
		err = -EINVAL;
	else if (at && !at->frame)
		err = -ENOENT;
	if (!err)
		spin_mapping_change(m, at, prot);
	spin_unlock(&m->lock);
	return err;
}

/* The entry of an address in a range. */
static pte_t peek_range(struct spin_services *m, struct mm *mm, u64 va)
{
	pte_t *ptep, pte = { 0 };

	spin_lock(&m->lock);
	ptep = entry_of(m, mm, va, false);
	if (ptep) {
		pte = pte_read(ptep);
		ledger_count(PAID_SOFTWARE_READS);
	}
	spin_unlock(&m->lock);
	return pte;
}

/* The same of AddressSpace's.  A handler may run with mmap_lock held: it is not waited for. */
static int peek_area(struct mm *mm, u64 va, pte_t *pte)
{
	spinlock_t *ptl;
	const pte_t *ptep;

	if (va < mm->low || va >= mm->high)
		return -ENOENT;
	if (!down_read_trylock(&mm->mmap_lock))
		return -EAGAIN;
	ptep = pte_find(mm, va, &ptl);
	if (ptep) {
		*pte = pte_read(ptep);
		ledger_count(PAID_SOFTWARE_READS);
	}
	up_read(&mm->mmap_lock);
	return 0;
}

int spin_examine_mapping(struct spin_services *m, u32 extension, u64 map, u64 va,
			 struct spin_examined *examined)
{
	pte_t pte = { 0 };
	struct mm *mm;
	int err;

	mm = spin_map_of(m, extension, map, &err);
	if (!mm)
		return err;
	if (va >= SPIN_VIRT_LOW && va < SPIN_VIRT_HIGH)
		pte = peek_range(m, mm, va);
	else
		err = peek_area(mm, va, &pte);
	if (!err && !pte_present(pte))
		err = -ENOENT;
	if (!err)
		*examined = (struct spin_examined){
			.prot = VM_READ | (pte_write(pte) ? VM_WRITE : 0) |
				(pte_nx(pte) ? 0 : VM_EXEC),
			.used = pte_young(pte),
			.dirty = pte_dirty(pte),
		};
	return err;
}
