/* SPDX-License-Identifier: MIT */
/*
 * The page tables of a space: four levels in x86-64 format, in directly mapped frames.
 *
 * Tables are added under mm->table_lock, by whoever faults.  A table is only freed when no VMA
 * reaches into what it covers, by the holder of mmap_lock for writing, after those who were inside
 * on a VMA lock have left and the VMA has left its anon_vma.  So a walk needs no lock of its own.
 * The entries of a last-level table are guarded by the lock in its frame's descriptor.
 */
#include "engine/mmu/walk.h"
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

pte_t *pte_find(struct mm *mm, u64 va, spinlock_t **ptl)
{
	struct engine *e = mm->engine;
	pte_t *table = mm->pgd;
	u64 pfn = 0;

	for (unsigned level = LEVEL_P4D; level > LEVEL_PTE; level--) {
		pte_t entry = pte_read(&table[level_index(level, va)]);

		if (!pte_present(entry))
			return NULL;
		pfn = pte_pfn(entry);
		table = table_bytes(e, pfn);
	}
	*ptl = &e->pages[pfn].ptl;
	return &table[level_index(LEVEL_PTE, va)];
}

pte_t *pte_alloc(struct mm *mm, u64 va, spinlock_t **ptl)
{
	struct engine *e = mm->engine;
	pte_t *table = mm->pgd;
	u64 pfn = 0;

	for (unsigned level = LEVEL_P4D; level > LEVEL_PTE; level--) {
		pte_t *slot = &table[level_index(level, va)];
		pte_t entry = pte_read(slot);

		if (unlikely(!pte_present(entry))) {
			pte_t fresh = { table_new(mm) };

			if (pte_none(fresh))
				return NULL;
			spin_lock(&mm->table_lock);
			entry = pte_read(slot);
			if (!pte_present(entry)) {
				pte_store(slot, fresh);
				entry = fresh;
				fresh = (pte_t){ 0 };
			}
			spin_unlock(&mm->table_lock);
			if (!pte_none(fresh))
				table_free(mm, pfn_page(e, pte_pfn(fresh)));
		}
		pfn = pte_pfn(entry);
		table = table_bytes(e, pfn);
	}
	*ptl = &e->pages[pfn].ptl;
	return &table[level_index(LEVEL_PTE, va)];
}

pte_t *pte_next_table(struct mm *mm, u64 *va, u64 end, spinlock_t **ptl)
{
	struct engine *e = mm->engine;

	while (*va < end) {
		pte_t *table = mm->pgd;
		u64 pfn = 0;
		unsigned level;

		for (level = LEVEL_P4D; level > LEVEL_PTE; level--) {
			pte_t entry = pte_read(&table[level_index(level, *va)]);

			if (!pte_present(entry))
				break;
			pfn = pte_pfn(entry);
			table = table_bytes(e, pfn);
		}
		if (level == LEVEL_PTE) {
			*ptl = &e->pages[pfn].ptl;
			return &table[level_index(LEVEL_PTE, *va)];
		}
		*va = ((*va >> level_shift(level)) + 1) << level_shift(level);
	}
	return NULL;
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
		if (level > LEVEL_PMD)
			unlink_below(mm, table_bytes(mm->engine, pte_pfn(entry)), level - 1,
				     max_of(start, va), min_of(end, va + size), floor, ceiling,
				     gone);
		if (va < floor || va + size > ceiling)
			continue;
		pte_store(slot, (pte_t){ 0 });
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

/* ---- moving ---- */

static void move_entries(struct mm *mm, u64 from, pte_t *old, spinlock_t *old_ptl, pte_t *new,
			 spinlock_t *new_ptl, unsigned n)
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
			pte_store(&new[i], held[i]);
	spin_unlock(new_ptl);
}

int move_tables(struct mm *mm, u64 from, u64 to, u64 len)
{
	spinlock_t *old_ptl, *new_ptl;
	u64 va, end = from + len;
	pte_t *old, *new;

	/* All new tables first, so that nothing can fail half way. */
	for (va = from; (old = pte_next_table(mm, &va, end, &old_ptl));) {
		u64 next = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (!pte_alloc(mm, to + (va - from), &new_ptl) ||
		    !pte_alloc(mm, to + (next - PAGE_SIZE - from), &new_ptl))
			return -ENOMEM;
		va = next;
	}
	for (va = from; (old = pte_next_table(mm, &va, end, &old_ptl));) {
		u64 dst = to + (va - from);
		u64 n = min_of(end - va, PMD_SIZE - (va & ~PMD_MASK)) >> PAGE_SHIFT;

		n = min_of(n, (PMD_SIZE - (dst & ~PMD_MASK)) >> PAGE_SHIFT);
		n = min_of(n, (u64)MMU_BATCH);
		new = pte_find(mm, dst, &new_ptl);
		move_entries(mm, va, old, old_ptl, new, new_ptl, n);
		va += n << PAGE_SHIFT;
	}
	return 0;
}
