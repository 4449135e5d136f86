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
#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

/* Walks over the entries of a page before it is left alone. */
#define WALKS 64

static bool is_frame(const struct engine *e, u64 pfn)
{
	const struct zone *z = &e->zones[ZONE_USER];

	return pfn - z->start_pfn < z->nr && z->direct_map;
}

/* What the page at hand is found to be. */
enum found { FOUND_FREE, FOUND_PAGE, FOUND_BUSY };

/*
 * A free frame leaves the free lists, marked; a page on an LRU list is locked, with a reference.
 * (Any other may be in the hands of somebody who believes that nobody else knows it.)
 */
static enum found find_page(struct engine *e, struct page *page)
{
	bool listed;

	if (page_take_free(e, page))
		return FOUND_FREE;
	spin_lock(&e->lru.lock);
	listed = page_test(page, PG_LRU) && page_tryget(page);
	spin_unlock(&e->lru.lock);
	if (!listed)
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

/* A page to move to: locked, staged, and not yet known to anybody. */
static struct page *new_home(struct engine *e)
{
	struct page *to = page_alloc(e, ZONE_USER, 0, 0);

	if (!to)
		return NULL;
	if (e->mmu->stage(e, &to, 1)) {
		page_put(e, to);
		return NULL;
	}
	page_init_flags(to, PG_LOCKED);
	return to;
}

/* The entry, which maps `from`, is cleared and flushed; have it map `to`: 0, or why it cannot:
 * -EAGAIN.  The bytes of `from` stay as they are now.  PTL held. */
static int map_instead(struct engine *e, struct rmap_walk *w, struct page *to, pte_t was,
		       bool *first)
{
	struct mm *mm = w->vma->mm;
	pte_t pte = pte_make(page_pfn(e, to), was.v & ~PTE_PFN_MASK);
	int n;

	if (*first) {
		memcpy(e->mmu->bytes(e, to), e->mmu->bytes(e, w->page), PAGE_SIZE);
		page_set(to, PG_DIRTY | (page_test(w->page, PG_ANON_EXCLUSIVE) ? PG_ANON_EXCLUSIVE
									       : 0));
		page_add_anon_rmap(to, w->vma, w->va);
	} else if (!page_try_dup_anon_rmap(to)) {
		return -EAGAIN; /* where it was mapped it has gone by now, and with it its place */
	}
	page_get(to);
	n = e->mmu->set(mm, w->va, w->ptep, &pte, &to, 1);
	if (n <= 0) {
		if (page_remove_rmap(to) && !*first)
			lru_del(e, to);
		page_put(e, to);
		return -EAGAIN;
	}
	if (*first)
		lru_add(e, to);
	*first = false;
	return 0;
}

/* PTL held; the entry's reference to the old page is the caller's, if 0. */
static int move_entry(struct engine *e, struct rmap_walk *w, struct page *to, bool *first)
{
	struct mm *mm = w->vma->mm;
	pte_t was = e->mmu->clear(mm, w->va, w->ptep, (pte_t){ 0 });
	int err;

	e->mmu->flush(mm, w->va, w->va + PAGE_SIZE);
	err = map_instead(e, w, to, was, first);
	if (err)
		pte_store(w->ptep, was);
	else if (page_remove_rmap(w->page))
		lru_del(e, w->page);
	return err;
}

static int move_entries(struct engine *e, struct rmap_walk *w, struct page *to, bool *first)
{
	int err = 0;

	while (!err && rmap_next(w)) {
		bool moved = false;

		spin_lock(w->ptl);
		if (rmap_is_at(w)) {
			err = move_entry(e, w, to, first);
			moved = !err;
		}
		spin_unlock(w->ptl);
		if (moved)
			page_put(e, w->page);
	}
	return err;
}

/* Entries that cannot be moved with the others stay, and map a page with the same bytes. */
static int move_anon_page(struct engine *e, struct page *page, struct page *to)
{
	struct rmap_walk w;
	bool first = true;
	int err = 0;

	for (unsigned i = 0; !err && i < WALKS && rmap_begin(e, page, &w); i++) {
		err = move_entries(e, &w, to, &first);
		rmap_end(&w);
	}
	return page_mapcount(page) ? -EBUSY : 0;
}

/* What a disk has need not be moved; shared memory goes to another frame. */
static int move_file_page(struct page *page, struct page *to)
{
	struct address_space *m = page->mapping;
	struct engine *e = m->engine;
	int err;

	if (m->ops->write_page) {
		err = write_one_page(m, page);
		if (err)
			return err;
		unmap_file_page(m, page, NO_MARKER);
		page_cache_delete(page, NULL);
		return 0;
	}
	unmap_file_page(m, page, NO_MARKER);
	shared_copy(page_direct(e, to), page_direct(e, page), PAGE_SIZE);
	page_cache_replace(page, to);
	return 0;
}

static int move_page(struct engine *e, struct page *page, struct page *to)
{
	int err;

	if (page_test(page, PG_HWPOISON))
		return 0;
	err = page_test(page, PG_FILE) ? move_file_page(page, to) : move_anon_page(e, page, to);
	if (!err)
		page_set_hwpoison(e, page);
	return err;
}

int soft_offline_page(struct engine *e, u64 pfn)
{
	struct page *page, *to;
	enum found found;
	int err = 0;

	if (!is_frame(e, pfn))
		return -ENXIO;
	page = pfn_page(e, pfn);
	if (page_test(page, PG_HWPOISON))
		return 0;
	split_page_of(e, page);
	if (page_take_free(e, page))
		return 0;
	/* Before the page is locked: reclaim may want it. */
	to = new_home(e);
	if (!to)
		return -ENOMEM;
	if (to == page) { /* free by now */
		page_set_hwpoison(e, to);
		found = FOUND_FREE;
	} else {
		found = find_page(e, page);
	}
	if (found == FOUND_PAGE) {
		err = move_page(e, page, to);
		page_unlock(page);
		page_put(e, page);
	} else if (found == FOUND_BUSY) {
		err = -EBUSY;
	}
	page_unlock(to);
	page_put(e, to); /* if nobody has it now it is free again */
	return err;
}
