/* SPDX-License-Identifier: MIT */
/*
 * The second step of reclaim: what was taken is written out, oldest first, and its frames freed.
 *
 * The writer holds the page lock from the list to the end, so a fault that wants the page waits for
 * it and then either maps it again or finds its bytes in the store.  A page that somebody waits for
 * (its slot has loaders) is passed over.  A page whose slot only the swap cache refers to is
 * nobody's: it was unmapped on its way out.
 *
 * When the store refuses, the page stays in the swap cache and on the list, and no byte is lost:
 * a fault maps it again, or a later try finds room.  Before that, copies that are only kept for
 * pages that are mapped make room.
 */
#include "engine/base/errno.h"
#include "engine/base/check.h"
#include "engine/reclaim/internal.h"

/* Pages that are passed over or refused before a call gives up. */
#define BUSY_TRIES 8
#define FULL_TRIES 4

/* The oldest page, locked, off the list. */
static struct page *next_page(struct engine *e)
{
	struct lru *lru = &e->lru;
	struct page *page = NULL;

	spin_lock(&lru->writeout_lock);
	for (unsigned i = 0; i < BUSY_TRIES && !list_empty(&lru->writeout); i++) {
		page = list_first_entry(&lru->writeout, struct page, lru);
		if (page_trylock(page)) {
			list_del(&page->lru);
			atomic_fetch_sub_explicit(&lru->nr_writeout, 1, memory_order_relaxed);
			break;
		}
		list_move_tail(&page->lru, &lru->writeout);
		page = NULL;
	}
	spin_unlock(&lru->writeout_lock);
	return page;
}

static void put_back(struct engine *e, struct page *page)
{
	struct lru *lru = &e->lru;

	spin_lock(&lru->writeout_lock);
	list_add_tail(&page->lru, &lru->writeout);
	atomic_fetch_add_explicit(&lru->nr_writeout, 1, memory_order_relaxed);
	spin_unlock(&lru->writeout_lock);
}

/* Have the store hold the page's bytes in its slot.  0, or the store's error. */
static int save(struct engine *e, struct page *page, struct swap_slot *slot)
{
	u64 nr = page->swap.v;
	const void *bytes = e->mmu->bytes(e, page);
	int result;

	if (slot->saved) {
		if (!page_test(page, PG_DIRTY) || swap_same(&e->swap, nr, bytes)) {
			stat_add(&e->stats->evicted_clean, 1);
			return 0;
		}
		swap_drop(&e->swap, nr);
		swap_set_saved(&e->swap, nr, false);
	}
	result = swap_save(e, nr, bytes);
	if (result < 0) {
		stat_add(&e->stats->store_full, 1);
		return result;
	}
	swap_set_saved(&e->swap, nr, true);
	stat_add(result == 1 ? &e->stats->same_filled : &e->stats->evicted_dirty, 1);
	return 0;
}

static void free_page(struct engine *e, struct page *page)
{
	page_clear(page, PG_WRITEBACK | PG_ISOLATED | PG_DIRTY);
	swap_cache_del(e, page);
	page_unlock(page);
	page_put(e, page); /* the list's reference */
}

bool writeout_drop(struct engine *e, struct page *page)
{
	struct lru *lru = &e->lru;

	if (!page_test(page, PG_WRITEBACK) || swap_owners(&e->swap, page->swap.v) != SWAP_NOBODY)
		return false;
	spin_lock(&lru->writeout_lock);
	list_del(&page->lru);
	atomic_fetch_sub_explicit(&lru->nr_writeout, 1, memory_order_relaxed);
	spin_unlock(&lru->writeout_lock);
	page_clear(page, PG_WRITEBACK | PG_ISOLATED | PG_DIRTY);
	swap_cache_del(e, page);
	page_put(e, page); /* the list's reference */
	return true;
}

u64 writeout(struct engine *e, u64 n, bool *full)
{
	unsigned busy = 0, refused = 0;
	u64 freed = 0;

	*full = false;
	while (freed < n && busy < BUSY_TRIES && refused < FULL_TRIES) {
		struct page *page = next_page(e);
		enum swap_owners owners;
		u64 va;

		if (!page)
			break;
		VMF_ASSERT(page_test(page, PG_SWAPCACHE) && page_test(page, PG_WRITEBACK));
		VMF_ASSERT(!atomic_load(&page->mapcount));
		owners = swap_owners(&e->swap, page->swap.v);
		if (owners == SWAP_WANTED) {
			put_back(e, page);
			page_unlock(page);
			busy++;
			continue;
		}
		if (owners == SWAP_ENTRY && save(e, page, swap_slot(&e->swap, page->swap.v)) < 0) {
			put_back(e, page);
			page_unlock(page);
			refused++;
			continue;
		}
		va = page->index * PAGE_SIZE;
		free_page(e, page);
		freed++;
		observe(e, STEP_WRITTEN_OUT, va, 1);
	}
	*full = refused && !freed;
	return freed;
}
