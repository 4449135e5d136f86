/* SPDX-License-Identifier: MIT */
/*
 * Reclaim of pages of files, and the reverse map through i_mmap.
 *
 * A page of a file is mapped in any number of entries, in spaces that have nothing else to do with
 * one another, so these pages go one by one:
 *
 *   1  the policy's next, its page lock tried; nobody can map it from here on;
 *   2  was it used, or is it locked into memory?  then it stays;
 *   3  every entry that maps it is cleared and flushed; their dirty bits make it dirty;
 *   4  shared memory is saved in a swap slot; a dirty page of a file stays, and the flusher is
 * asked to write it (backing/flusher.h); 5  if nobody else has a reference it leaves the cache, and
 * with it the frame is free.
 *
 * An unmapper that has cleared an entry and not flushed it yet has a reference until it has: while
 * a stale translation may still be written through, neither 4 (of shared memory) nor 5 is done.
 */
#include "engine/base/check.h"
#include "engine/backing/page_cache.h"
#include "engine/reclaim/internal.h"

void page_add_file_rmap(struct mm *mm, struct page *page)
{
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_release);
	atomic_fetch_add_explicit(&mm->rss, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&mm->rss_file, 1, memory_order_relaxed);
}

void page_remove_file_rmap(struct page *page)
{
	VMF_ASSERT(atomic_load(&page->mapcount) > 0);
	atomic_fetch_sub_explicit(&page->mapcount, 1, memory_order_release);
}

void rmap_walk_file(struct address_space *m, struct page *page, rmap_fn fn, void *arg)
{
	u64 index = page->index, pfn = page_pfn(m->engine, page);
	struct interval_node *node;

	down_read(&m->i_mmap_lock);
	for (node = interval_first(&m->i_mmap, index, index + 1); node;
	     node = interval_next(node, index, index + 1)) {
		struct rmap_entry entry = { .vma = container_of(node, struct vma, shared) };
		bool flush = false;
		spinlock_t *ptl;

		entry.mm = entry.vma->mm;
		entry.va = entry.vma->start + ((index - entry.vma->pgoff) << PAGE_SHIFT);
		entry.ptep = pte_find(entry.mm, entry.va, &ptl);
		if (!entry.ptep)
			continue;
		spin_lock(ptl);
		entry.pte = pte_read(entry.ptep);
		if (pte_mapped(entry.pte) && pte_pfn(entry.pte) == pfn)
			flush = fn(page, &entry, arg);
		spin_unlock(ptl);
		if (flush)
			m->engine->mmu->flush(entry.mm, entry.va, entry.va + PAGE_SIZE);
	}
	up_read(&m->i_mmap_lock);
}

/* ---- the three walks ---- */

struct referenced {
	bool young, locked;
};

static bool look_at(struct page *page, struct rmap_entry *entry, void *arg)
{
	struct referenced *r = arg;

	(void)page;
	r->locked |= vma_is_locked(entry->vma);
	r->young |= entry->mm->engine->mmu->test_and_clear_young(entry->mm, entry->va, entry->ptep);
	return false;
}

bool file_page_referenced(struct page *page)
{
	struct referenced r = { 0 };

	if (atomic_load_explicit(&page->mapcount, memory_order_acquire))
		rmap_walk_file(page->mapping, page, look_at, &r);
	return r.young;
}

struct unmapped {
	pte_t left;  /* in their place, where userfaultfd wants no other */
	bool always; /* locked or not */
	u32 entries; /* their references to the page are the caller's to drop */
	bool dirty;
	bool locked; /* somebody has locked it since it was looked at: that entry stays */
};

static bool unmap_entry(struct page *page, struct rmap_entry *entry, void *arg)
{
	struct unmapped *u = arg;
	struct mm *mm = entry->mm;
	pte_t left = u->left;

	if (pte_none(left) && vma_keeps_uffd_wp(entry->vma, entry->pte))
		left = pte_make_marker(PTE_MARKER_UFFD_WP);
	if (unlikely(vma_is_locked(entry->vma)) && !u->always) {
		u->locked = true;
		return false;
	}
	u->dirty |= pte_dirty(mm->engine->mmu->clear(mm, entry->va, entry->ptep, left));
	u->entries++;
	page_remove_file_rmap(page);
	atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
	atomic_fetch_sub_explicit(&mm->rss_file, 1, memory_order_relaxed);
	return true;
}

static bool clean_entry(struct page *page, struct rmap_entry *entry, void *arg)
{
	struct mm *mm = entry->mm;
	bool *dirty = arg;

	(void)page;
	if (!pte_write(entry->pte) && !pte_dirty(entry->pte))
		return false;
	*dirty |= pte_dirty(mm->engine->mmu->clean(mm, entry->va, entry->ptep));
	return true;
}

bool page_mkclean(struct address_space *m, struct page *page)
{
	bool dirty = false;

	if (atomic_load_explicit(&page->mapcount, memory_order_acquire))
		rmap_walk_file(m, page, clean_entry, &dirty);
	return dirty;
}

static void unmap_all(struct address_space *m, struct page *page, struct unmapped *u)
{
	if (!atomic_load_explicit(&page->mapcount, memory_order_acquire))
		return;
	rmap_walk_file(m, page, unmap_entry, u);
	if (u->dirty)
		page_mark_dirty(m, page);
	while (u->entries--)
		page_put(m->engine, page);
}

/* False: it is locked, and still mapped. */
static bool try_to_unmap(struct address_space *m, struct page *page)
{
	struct unmapped u = { 0 };

	unmap_all(m, page, &u);
	return !u.locked;
}

void unmap_file_page(struct address_space *m, struct page *page, enum pte_marker marker)
{
	struct unmapped u = { .always = true };

	if (marker)
		u.left = pte_make_marker(marker);
	unmap_all(m, page, &u);
}

/* ---- reclaim ---- */

/* When it is clean it is the next. */
static void leave_to_flusher(struct engine *e, struct page *page, struct taken *t)
{
	t->dirty = true;
	page_set(page, PG_RECLAIM);
	stat_add(&e->stats->dirty_met, 1);
	flusher_ask(e, 1);
}

/* Nothing maps the page: let it go.  False: it stays. */
static bool pageout(struct address_space *m, struct page *page, struct taken *t)
{
	struct engine *e = m->engine;
	s64 slot;

	if (!m->ops->swap_page) {
		if (page_test(page, PG_DIRTY)) {
			leave_to_flusher(e, page, t);
			return false;
		}
		t->not_now = !remove_mapping(page, radix_value(workingset_eviction(e, page)), true);
		if (t->not_now)
			return false;
		stat_add(&e->stats->evicted_clean, 1);
		return true;
	}
	t->not_now = atomic_load_explicit(&page->refcount, memory_order_acquire) != 2;
	if (t->not_now)
		return false;
	/* Zeros that nobody has written to are found again without a slot. */
	if (!page_test(page, PG_DIRTY))
		return remove_mapping(page, NULL, true);
	slot = m->ops->swap_page(m, page);
	if (slot < 0) {
		t->no_slots = true;
		return false;
	}
	swap_set_shadow(&e->swap, slot, workingset_eviction(e, page));
	if (remove_mapping(page, radix_value(slot), false))
		return true;
	swap_put(&e->swap, slot);
	return false;
}

void take_file_page(struct engine *e, struct page *page, bool force, struct taken *t)
{
	struct address_space *m = page->mapping;
	struct referenced r = { 0 };

	t->looked_at = 1;
	if (atomic_load_explicit(&page->mapcount, memory_order_acquire))
		rmap_walk_file(m, page, look_at, &r);
	/* What is broken must not be read, and nothing tells of it but the page. */
	if (r.locked || unlikely(page_test(page, PG_HWPOISON | PG_MLOCKED))) {
		lru_make_unevictable(e, page);
		return;
	}
	if (!force && r.young) {
		t->aged = 1;
		lru_found_young(e, page);
		return;
	}
	if (page_test(page, PG_DIRTY) && !mapping_swaps(m)) {
		leave_to_flusher(e, page, t);
		lru_rotate(e, page, ARRIVED_SPARED);
		return;
	}
	if (!try_to_unmap(m, page)) {
		lru_make_unevictable(e, page);
		return;
	}
	/* Somebody may have faulted it in again only with the page lock, which we hold. */
	VMF_ASSERT(!atomic_load(&page->mapcount));
	if (pageout(m, page, t))
		t->freed = 1;
	else
		lru_rotate(e, page, ARRIVED_IN_USE);
}

u64 take_file_range(struct engine *e, struct vma *vma, u64 start, u64 end)
{
	struct page *pages[MMU_BATCH];
	spinlock_t *ptl;
	pte_t *ptep = pte_find(vma->mm, start, &ptl);
	unsigned n = 0;
	u64 freed = 0;

	if (!ptep)
		return 0;
	spin_lock(ptl);
	for (; start < end; start += PAGE_SIZE, ptep++) {
		pte_t pte = pte_read(ptep);
		struct page *page;

		if (!pte_mapped(pte) || pte_special(pte))
			continue;
		page = pfn_page(e, pte_pfn(pte));
		/* What others map, too, is not this caller's to send away. */
		if (!page_test(page, PG_FILE) || atomic_load(&page->mapcount) != 1)
			continue;
		page_get(page);
		pages[n++] = page;
	}
	spin_unlock(ptl);
	for (unsigned i = 0; i < n; i++) {
		struct taken t = { 0 };

		page_lock(pages[i]);
		if (page_test(pages[i], PG_FILE))
			take_file_page(e, pages[i], true, &t);
		page_unlock(pages[i]);
		page_put(e, pages[i]);
		freed += t.freed;
	}
	return freed;
}
