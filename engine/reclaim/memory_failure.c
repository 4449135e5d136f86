/* SPDX-License-Identifier: MIT */
/*
 * Retiring frames; see memory_failure.h.
 *
 * What the page lock gives: no fault maps a page of a file, nothing enters or leaves a file's cache
 * or the swap cache, and a page that was shared is not found to be somebody's alone.  So an
 * anonymous page that is locked and not exclusive has bytes that stay; one that is exclusive has
 * one entry, and under its page-table lock, with the translation flushed, they do, too.
 *
 * While an anonymous page is locked entries of it may still come: fork copies those that there are.
 * So a walk over all of them is done again until none is left; it is the last entry that copies
 * could come from.
 */
#include "engine/reclaim/memory_failure.h"

#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/migrate/migrate.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

/* Walks over the entries of a page before it is left alone. */
#define WALKS 64

static bool is_frame(const struct engine *e, u64 pfn)
{
	return pfn_is_user(e, pfn) && can_migrate(e);
}

/* What the page at hand is found to be. */
enum found { FOUND_FREE, FOUND_PAGE, FOUND_BUSY };

/*
 * A free frame leaves the free lists, marked; a page on an LRU list is locked, with a reference.
 * (Any other may be in the hands of somebody who believes that nobody else knows it.)
 */
static enum found find_page(struct engine *e, struct page *page)
{
	if (page_take_free(e, page))
		return FOUND_FREE;
	if (!migrate_get(e, page))
		return FOUND_BUSY;
	page_lock(page);
	/* A copy of it in the swap area that is only kept goes; then it is nobody's but ours. */
	if (page_test(page, PG_SWAPCACHE))
		swap_drop_kept(e, page);
	if (page_test(page, PG_FILE) || (page_mapcount(page) && !page_test(page, PG_SWAPCACHE)))
		return FOUND_PAGE;
	page_unlock(page);
	page_put(e, page);
	return FOUND_BUSY;
}

/* ---- lost ---- */

/* A marker in place of the entry.  PTL held; the flush and the entry's reference are the
 * caller's. */
static void poison_entry(struct engine *e, struct rmap_walk *w)
{
	struct mm *mm = w->vma->mm;

	e->mmu->clear(mm, w->va, w->ptep, pte_make_marker(PTE_MARKER_HWPOISON));
	atomic_fetch_sub_explicit(&mm->rss, 1, memory_order_relaxed);
	if (page_remove_rmap(w->page))
		lru_del(e, w->page);
}

static void poison_entries(struct engine *e, struct rmap_walk *w)
{
	while (rmap_next(w)) {
		bool gone;

		spin_lock(w->ptl);
		gone = rmap_is_at(w);
		if (gone)
			poison_entry(e, w);
		spin_unlock(w->ptl);
		if (!gone)
			continue;
		e->mmu->flush(w->vma->mm, w->va, w->va + PAGE_SIZE);
		page_put(e, w->page);
	}
}

static int fail_anon_page(struct engine *e, struct page *page)
{
	struct rmap_walk w;

	for (unsigned i = 0; i < WALKS && rmap_begin(e, page, &w); i++) {
		poison_entries(e, &w);
		rmap_end(&w);
	}
	return page_mapcount(page) ? -EBUSY : 0;
}

static void fail_file_page(struct engine *e, struct page *page)
{
	struct address_space *m = page->mapping;
	bool has_disk = m->ops->write_page;

	if (has_disk && page_mkclean(m, page))
		page_mark_dirty(m, page);
	if (has_disk && !page_test(page, PG_DIRTY)) {
		unmap_file_page(m, page, NO_MARKER);
		page_cache_delete(page, NULL);
		return;
	}
	unmap_file_page(m, page, PTE_MARKER_HWPOISON);
	if (has_disk) {
		mapping_set_error(m, -EIO);
		page_cache_delete(page, NULL);
		return;
	}
	lru_make_unevictable(e, page);
}

int memory_failure(struct engine *e, u64 pfn)
{
	struct page *page;
	int err = 0;

	if (!is_frame(e, pfn))
		return -ENXIO;
	page = pfn_page(e, pfn);
	if (page_test(page, PG_HWPOISON))
		return -EHWPOISON;
	if (unlikely(is_of_pool(page)))
		return hugetlb_memory_failure(e, page);
	split_page_of(e, page);
	switch (find_page(e, page)) {
	case FOUND_FREE:
		return 0;
	case FOUND_BUSY:
		return -EBUSY;
	default:
		break;
	}
	if (page_set_hwpoison(e, page))
		err = -EHWPOISON;
	else if (page_test(page, PG_FILE))
		fail_file_page(e, page);
	else
		err = fail_anon_page(e, page);
	page_unlock(page);
	page_put(e, page);
	return err;
}

/* ---- saved ---- */

/* So often, if others are using it. */
#define MOVE_TRIES 10

/* The page, of which we have a reference, moves to a frame that nobody has. */
static int move_page(struct engine *e, struct page *page, struct page *to)
{
	int err = -EAGAIN;

	for (unsigned i = 0; err == -EAGAIN && i < MOVE_TRIES; i++) {
		page_lock(page);
		if (page_test(page, PG_HWPOISON)) {
			page_unlock(page);
			return 0;
		}
		err = migrate_page(e, page, to);
	}
	if (err)
		return -EBUSY;
	page_lock(page);
	page_set_hwpoison(e, page);
	page_unlock(page);
	return 0;
}

int soft_offline_page(struct engine *e, u64 pfn)
{
	struct page *page, *to;
	int err = -EBUSY;

	if (!is_frame(e, pfn))
		return -ENXIO;
	page = pfn_page(e, pfn);
	if (page_test(page, PG_HWPOISON))
		return 0;
	if (unlikely(is_of_pool(page)))
		return -EBUSY;
	split_page_of(e, page);
	if (page_take_free(e, page))
		return 0;
	/* Before the page is looked at: reclaim may want it.  It was placed where it is. */
	to = page_alloc_nodes(e, 0, 0, page_nid(page), NODE_MASK_ALL);
	if (!to)
		return -ENOMEM;
	if (to == page) { /* free by now */
		page_set_hwpoison(e, to);
		err = 0;
	} else if (migrate_get(e, page)) {
		err = move_page(e, page, to);
		page_put(e, page);
	}
	page_put(e, to); /* if nobody has it now it is free again */
	return err;
}
