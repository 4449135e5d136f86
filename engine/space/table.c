/* SPDX-License-Identifier: MIT */
/*
 * The page tables of a space: four levels in x86-64 format, in directly mapped frames.
 *
 * Tables are added by whoever faults: last-level tables under the lock of the PMD table, where a
 * huge entry may come instead, others under mm->table_lock.  A table is only freed when no VMA
 * reaches into what it covers, by the holder of mmap_lock for writing, after those who were inside
 * on a VMA lock have left and the VMA has left its anon_vma.  So a walk needs no lock of its own.
 * The entries of a last-level table and of a PMD table are guarded by the lock in its frame's
 * descriptor.
 */
#include "engine/base/text.h"
#include "engine/mmu/walk.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

#define TABLE_BITS_SET (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

static pte_t *table_bytes(const struct engine *e, u64 pfn)
{
	const struct zone *z = &e->zones[ZONE_TABLE];

	return (pte_t *)((char *)z->direct_map + ((pfn - z->start_pfn) << PAGE_SHIFT));
}

/* A fresh table, or 0 (which is never a table's entry). */
static u64 table_new(struct mm *mm)
{
	struct page *page =
		page_alloc(mm->engine, ZONE_TABLE, 0, ALLOC_ZERO | ALLOC_RESERVE | ALLOC_NORECLAIM);

	if (!page)
		return 0;
	page_set(page, PG_TABLE);
	observe(mm->engine, STEP_ALLOC_TABLE, 0, 1);
	spin_init_class(&page->ptl, LOCK_PAGE_TABLE);
	atomic_fetch_add_explicit(&mm->tables, 1, memory_order_relaxed);
	return pte_make(page_pfn(mm->engine, page), TABLE_BITS_SET).v;
}

static void table_free(struct mm *mm, struct page *page)
{
	page_clear(page, PG_TABLE);
	atomic_fetch_sub_explicit(&mm->tables, 1, memory_order_relaxed);
	page_put(mm->engine, page);
}

int tables_init(struct mm *mm)
{
	pte_t root = { table_new(mm) };

	if (pte_none(root))
		return -ENOMEM;
	mm->pgd = table_bytes(mm->engine, pte_pfn(root));
	mm->pgd_phys = pte_pfn(root) << PAGE_SHIFT;
	return 0;
}

void tables_fini(struct mm *mm)
{
	table_free(mm, pfn_page(mm->engine, mm->pgd_phys >> PAGE_SHIFT));
	mm->pgd = NULL;
}

/* On its way down a walk reads an entry, one of *n. */
static pte_t read_on_way(const pte_t *entry, unsigned *n)
{
	(*n)++;
	return pte_read(entry);
}

pte_t *entry_find(struct mm *mm, u64 va, enum mmu_level to, spinlock_t **ptl)
{
	struct engine *e = mm->engine;
	pte_t *entries = mm->pgd;
	u64 pfn = mm->pgd_phys >> PAGE_SHIFT;
	unsigned read = 0;

	for (unsigned level = LEVEL_P4D; entries && level > to; level--) {
		pte_t entry = read_on_way(&entries[level_index(level, va)], &read);

		pfn = pte_pfn(entry);
		entries = pmd_is_table(entry) ? table_bytes(e, pfn) : NULL;
	}
	observe(e, STEP_READ_TABLES, va, read);
	if (!entries)
		return NULL;
	*ptl = &e->pages[pfn].ptl;
	return &entries[level_index(to, va)];
}

static void set_table(struct mm *mm, pte_t *slot, pte_t entry)
{
	const struct mmu_ops *mmu = mm->engine->mmu;

	if (mmu->set_table)
		mmu->set_table(mm, slot, entry);
	else
		pte_store(slot, entry);
}

void pte_put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	const struct mmu_ops *mmu = mm->engine->mmu;

	if (mmu->put_back)
		mmu->put_back(mm, va, ptep, pte);
	else
		pte_store(ptep, pte);
}

/* Put a fresh table where there is none.  False: no memory. */
static bool add_table(struct mm *mm, pte_t *slot, spinlock_t *lock)
{
	pte_t fresh = { table_new(mm) };

	if (pte_none(fresh))
		return false;
	spin_lock(lock);
	if (pte_none(pte_read(slot))) {
		set_table(mm, slot, fresh);
		fresh = (pte_t){ 0 };
	}
	spin_unlock(lock);
	if (!pte_none(fresh))
		table_free(mm, pfn_page(mm->engine, pte_pfn(fresh)));
	return true;
}

/* Of a pool: nobody who walks single entries has any business there. */
static bool is_pools(const struct engine *e, pte_t pmd)
{
	return pmd_is_huge(pmd) && is_of_pool(pfn_page(e, pte_pfn(pmd)));
}

/* There is to be a table below the slot, which had that entry.  False: no memory. */
static bool make_table(struct mm *mm, u64 va, pte_t *slot, pte_t entry, spinlock_t *lock)
{
	if (unlikely(is_pools(mm->engine, entry)))
		vmf_panic("a table is wanted at %lx, where a page of a pool is", (unsigned long)va);
	if (!pte_huge(entry))
		return add_table(mm, slot, lock);
	split_huge_pmd(mm, va);
	return true;
}

pte_t *entry_alloc(struct mm *mm, u64 va, enum mmu_level to, spinlock_t **ptl)
{
	struct engine *e = mm->engine;
	pte_t *entries = mm->pgd;
	u64 pfn = mm->pgd_phys >> PAGE_SHIFT;
	unsigned read = 0;

	for (unsigned level = LEVEL_P4D; entries && level > to; level--) {
		spinlock_t *lock = level == LEVEL_PMD ? &e->pages[pfn].ptl : &mm->table_lock;
		pte_t *slot = &entries[level_index(level, va)];
		pte_t entry = read_on_way(slot, &read);
		bool made = true;

		while (unlikely(!pmd_is_table(entry)) && made) {
			made = make_table(mm, va, slot, entry, lock);
			if (made)
				entry = read_on_way(slot, &read);
		}
		pfn = pte_pfn(entry);
		entries = made ? table_bytes(e, pfn) : NULL;
	}
	observe(e, STEP_READ_TABLES, va, read);
	if (!entries)
		return NULL;
	*ptl = &e->pages[pfn].ptl;
	return &entries[level_index(to, va)];
}

pte_t *pte_find(struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_find(mm, va, LEVEL_PTE, ptl);
}

pte_t *pte_alloc(struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_alloc(mm, va, LEVEL_PTE, ptl);
}

pte_t *pmd_find(struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_find(mm, va, LEVEL_PMD, ptl);
}

pte_t *pmd_alloc(struct mm *mm, u64 va, spinlock_t **ptl)
{
	return entry_alloc(mm, va, LEVEL_PMD, ptl);
}

/* What a walk was for. */
static pte_t read_end(struct mm *mm, u64 va, const pte_t *entry)
{
	observe(mm->engine, STEP_READ_TABLES, va, 1);
	return pte_read(entry);
}

/* Where there is no PMD table: a page of a pool may be as large as what one maps. */
static pte_t pud_peek(struct mm *mm, u64 va)
{
	spinlock_t *ptl;
	const pte_t *pudp = entry_find(mm, va, LEVEL_PUD, &ptl);
	pte_t pud = pudp ? read_end(mm, va, pudp) : (pte_t){ 0 };

	if (pmd_is_huge(pud))
		return pmd_small(pud, (va & (PUD_SIZE - 1)) >> PAGE_SHIFT);
	/* A table has come meanwhile: it did not have to be seen. */
	return pte_present(pud) ? (pte_t){ 0 } : pud;
}

pte_t pte_peek(struct mm *mm, u64 va)
{
	spinlock_t *ptl;
	pte_t *pmdp = entry_find(mm, va, LEVEL_PMD, &ptl), pmd;

	if (unlikely(!pmdp))
		return pud_peek(mm, va);
	pmd = read_end(mm, va, pmdp);
	if (pte_huge(pmd))
		return pmd_small(pmd_is_huge(pmd) ? pmd : pmd_unsplitting(pmd),
				 level_index(LEVEL_PTE, va));
	if (!pte_present(pmd)) /* nothing, or a marker in an area of a pool's pages */
		return pmd;
	return read_end(mm, va, &table_bytes(mm->engine, pte_pfn(pmd))[level_index(LEVEL_PTE, va)]);
}

/* Down to the huge entry for va, or to that in a last-level table: NULL, if a table is missing;
 * *level: where it ends. */
static pte_t *pmd_walk(struct mm *mm, u64 va, unsigned *level, spinlock_t **ptl, bool *huge)
{
	struct engine *e = mm->engine;
	pte_t *table = mm->pgd, *slot = NULL;
	struct page *page = NULL;
	unsigned read = 0;

	*huge = false;
	for (*level = LEVEL_P4D; *level > LEVEL_PTE; (*level)--) {
		pte_t entry;

		slot = &table[level_index(*level, va)];
		entry = read_on_way(slot, &read);
		*huge = pte_huge(entry);
		if (*huge || !pte_present(entry))
			break;
		page = &e->pages[pte_pfn(entry)];
		table = table_bytes(e, pte_pfn(entry));
	}
	observe(e, STEP_READ_TABLES, va, read);
	if (*level > LEVEL_PTE && !*huge)
		return NULL;
	*ptl = &page->ptl;
	return *huge ? slot : &table[level_index(LEVEL_PTE, va)];
}

pte_t *pmd_next(struct mm *mm, u64 *va, u64 end, spinlock_t **ptl, bool *huge)
{
	while (*va < end) {
		unsigned level;
		pte_t *found = pmd_walk(mm, *va, &level, ptl, huge);

		if (found)
			return found;
		*va = ((*va >> level_shift(level)) + 1) << level_shift(level);
	}
	return NULL;
}

pte_t *pte_next_table(struct mm *mm, u64 *va, u64 end, spinlock_t **ptl)
{
	pte_t *ptep;
	bool huge;

	while ((ptep = pmd_next(mm, va, end, ptl, &huge)) && huge) {
		if (unlikely(is_pools(mm->engine, pte_read(ptep))))
			*va = (*va & PMD_MASK) + PMD_SIZE;
		else
			split_huge_pmd(mm, *va);
	}
	return ptep;
}

/* ---- huge entries ---- */

bool pmd_trylock_huge(pte_t *pmdp, spinlock_t *ptl)
{
	spin_lock(ptl);
	if (pmd_is_huge(pte_read(pmdp)))
		return true;
	spin_unlock(ptl);
	return false;
}

bool pmd_lock_huge(struct mm *mm, pte_t *pmdp, spinlock_t *ptl)
{
	for (;;) {
		struct page *page;
		pte_t pmd;

		spin_lock(ptl);
		pmd = pte_read(pmdp);
		if (pmd_is_huge(pmd))
			return true;
		if (!pmd_is_splitting(pmd)) {
			spin_unlock(ptl);
			return false;
		}
		page = pfn_page(mm->engine, pte_pfn(pmd));
		page_get(page);
		spin_unlock(ptl);
		page_lock(page);
		page_unlock(page);
		page_put(mm->engine, page);
	}
}

struct page *spare_table_new(struct mm *mm)
{
	pte_t table = { table_new(mm) };

	return pte_none(table) ? NULL : pfn_page(mm->engine, pte_pfn(table));
}

void spare_table_free(struct mm *mm, struct page *spare)
{
	table_free(mm, spare);
}

/* The table that the entry is in. */
static struct page *table_of(struct mm *mm, const pte_t *entry)
{
	const struct zone *z = &mm->engine->zones[ZONE_TABLE];

	return pfn_page(
		mm->engine,
		z->start_pfn + (((const char *)entry - (const char *)z->direct_map) >> PAGE_SHIFT));
}

void spare_table_put(struct mm *mm, pte_t *pmdp, struct page *spare)
{
	struct page *table = table_of(mm, pmdp);

	spare->spare = table->spare;
	table->spare = spare;
}

struct page *spare_table_take(struct mm *mm, pte_t *pmdp)
{
	struct page *table = table_of(mm, pmdp), *spare = table->spare;

	table->spare = spare->spare;
	spare->spare = NULL;
	return spare;
}

pte_t *spare_table_entries(struct mm *mm, struct page *spare)
{
	return table_bytes(mm->engine, page_pfn(mm->engine, spare));
}

void spare_table_link(struct mm *mm, pte_t *pmdp, struct page *spare)
{
	pte_store(pmdp, pte_make(page_pfn(mm->engine, spare), TABLE_BITS_SET));
}

/* Unlink what hangs below the entries of `table` that cover [start, end) and lie in
 * [floor, ceiling), and string it up on `gone`. */
static void unlink_below(struct mm *mm, pte_t *table, unsigned level, u64 start, u64 end, u64 floor,
			 u64 ceiling, struct list_head *gone)
{
	u64 size = 1ULL << level_shift(level), va = start & ~(size - 1);

	for (; va < end; va += size) {
		pte_t *slot = &table[level_index(level, va)], entry = pte_read(slot);

		if (!pte_present(entry))
			continue;
		if (pte_huge(entry))
			vmf_panic("free_tables: a huge page is left at %lx", (unsigned long)va);
		if (level > LEVEL_PMD)
			unlink_below(mm, table_bytes(mm->engine, pte_pfn(entry)), level - 1,
				     max_of(start, va), min_of(end, va + size), floor, ceiling,
				     gone);
		if (va < floor || va + size > ceiling)
			continue;
		set_table(mm, slot, (pte_t){ 0 });
		list_add(&pfn_page(mm->engine, pte_pfn(entry))->lru, gone);
	}
}

void free_tables(struct mm *mm, u64 start, u64 end)
{
	struct vma *above = find_vma(mm, start), *below;
	u64 floor = 0, ceiling = 1ULL << 48;
	struct list_head gone;

	list_init(&gone);
	if (above) {
		ceiling = above->start;
		below = vma_prev(above);
	} else {
		below = list_empty(&mm->vmas) ? NULL : list_last_entry(&mm->vmas, struct vma, link);
	}
	if (below)
		floor = below->end;
	unlink_below(mm, mm->pgd, LEVEL_P4D, start, end, floor, ceiling, &gone);
	if (list_empty(&gone))
		return;
	/* A walk that is under way may be reading them. */
	mm->engine->mmu->flush(mm, start, end);
	while (!list_empty(&gone)) {
		struct page *page = list_first_entry(&gone, struct page, lru);

		list_del(&page->lru);
		table_free(mm, page);
	}
}

/* ---- empty tables in the way of huge pages ---- */

static bool table_is_empty(struct mm *mm, u64 va)
{
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(mm, va, &ptl);

	for (unsigned i = 0; ptep && i < PTRS_PER_TABLE; i++)
		if (!pte_none(pte_read(ptep + i)))
			return false;
	return ptep;
}

u64 find_empty_table(struct mm *mm, u64 start, u64 end)
{
	for (u64 va = (start + PMD_SIZE - 1) & PMD_MASK; va + PMD_SIZE <= end; va += PMD_SIZE)
		if (table_is_empty(mm, va))
			return va;
	return end;
}

void free_empty_tables(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	u64 va;

	i_mmap_lock_write(vma);
	anon_vma_lock_write(vma);
	while ((va = find_empty_table(mm, start, end)) < end) {
		spinlock_t *ptl;
		pte_t *pmdp = pmd_find(mm, va, &ptl), was;

		spin_lock(ptl);
		was = pte_read(pmdp);
		set_table(mm, pmdp, (pte_t){ 0 });
		spin_unlock(ptl);
		mm->engine->mmu->flush(mm, va, va + PMD_SIZE);
		table_free(mm, pfn_page(mm->engine, pte_pfn(was)));
	}
	anon_vma_unlock_write(vma);
	i_mmap_unlock_write(vma);
}

/* ---- moving ---- */

static void move_entries(struct mm *mm, u64 from, pte_t *old, spinlock_t *old_ptl, u64 to,
			 pte_t *new, spinlock_t *new_ptl, unsigned n)
{
	pte_t held[MMU_BATCH];
	bool mapped = false;

	/* Between the two steps the pages are nowhere: nobody can fault here (mmap_lock), and
	 * reclaim cannot look for them (anon_vma->lock). */
	spin_lock(old_ptl);
	for (unsigned i = 0; i < n; i++) {
		held[i] = pte_read(&old[i]);
		if (pte_mapped(held[i])) {
			held[i] = mm->engine->mmu->clear(mm, from + i * PAGE_SIZE, &old[i],
							 (pte_t){ 0 });
			mapped = true;
		} else if (!pte_none(held[i])) {
			pte_store(&old[i], (pte_t){ 0 });
		}
	}
	spin_unlock(old_ptl);
	if (mapped)
		mm->engine->mmu->flush(mm, from, from + n * PAGE_SIZE);

	spin_lock(new_ptl);
	for (unsigned i = 0; i < n; i++)
		if (!pte_none(held[i]))
			pte_put_back(mm, to + i * PAGE_SIZE, &new[i], held[i]);
	spin_unlock(new_ptl);
}

static void move_huge(struct mm *mm, u64 from, pte_t *old, spinlock_t *old_ptl, pte_t *new,
		      spinlock_t *new_ptl)
{
	struct page *spare;
	pte_t pmd;

	spin_lock(old_ptl);
	pmd = mm->engine->mmu->clear_huge(mm, from, old, (pte_t){ 0 });
	spare = spare_table_take(mm, old);
	spin_unlock(old_ptl);
	mm->engine->mmu->flush(mm, from, from + PMD_SIZE);

	spin_lock(new_ptl);
	pte_store(new, pmd);
	spare_table_put(mm, new, spare);
	spin_unlock(new_ptl);
}

/* Split what cannot move as it is: what the range has a part of, what would lie otherwise in its
 * table, and what would go where a table is.  0, -ENOMEM. */
int prepare_huge_move(struct mm *mm, u64 from, u64 to, u64 len)
{
	u64 va, end = from + len;
	spinlock_t *ptl;
	bool huge;

	for (va = from; pmd_next(mm, &va, end, &ptl, &huge); va = (va & PMD_MASK) + PMD_SIZE) {
		bool whole = !(va & ~PMD_MASK) && va + PMD_SIZE <= end;
		const pte_t *new;

		if (!huge)
			continue;
		if (whole && !((from ^ to) & ~PMD_MASK)) {
			new = pmd_alloc(mm, to + (va - from), &ptl);
			if (!new)
				return -ENOMEM;
			if (pte_none(pte_read(new)))
				continue;
		}
		split_huge_pmd(mm, va);
	}
	return 0;
}

int move_tables(struct mm *mm, u64 from, u64 to, u64 len)
{
	spinlock_t *old_ptl, *new_ptl;
	u64 va, end = from + len;
	pte_t *old, *new;
	bool huge;

	/* All new tables first, so that nothing can fail half way. */
	for (va = from; (old = pmd_next(mm, &va, end, &old_ptl, &huge));) {
		u64 next = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (!huge && (!pte_alloc(mm, to + (va - from), &new_ptl) ||
			      !pte_alloc(mm, to + (next - PAGE_SIZE - from), &new_ptl)))
			return -ENOMEM;
		va = next;
	}
	for (va = from; (old = pmd_next(mm, &va, end, &old_ptl, &huge));) {
		u64 dst = to + (va - from);
		u64 n = min_of(end - va, PMD_SIZE - (va & ~PMD_MASK)) >> PAGE_SHIFT;

		if (huge) {
			new = pmd_find(mm, dst, &new_ptl);
			move_huge(mm, va, old, old_ptl, new, new_ptl);
			va += PMD_SIZE;
			continue;
		}
		n = min_of(n, (PMD_SIZE - (dst & ~PMD_MASK)) >> PAGE_SHIFT);
		n = min_of(n, (u64)MMU_BATCH);
		new = pte_find(mm, dst, &new_ptl);
		move_entries(mm, va, old, old_ptl, dst, new, new_ptl, n);
		va += n << PAGE_SHIFT;
	}
	return 0;
}
