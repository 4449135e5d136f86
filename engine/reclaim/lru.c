/* SPDX-License-Identifier: MIT */
/*
 * The LRU lists: active, inactive, and what could not be taken.
 *
 * Pages come in at the head of the inactive list and are looked at at its tail.  The active list is
 * for pages that were found in use there twice, or that were taken and missed soon after; it gives
 * pages back from its tail while it is the longer one.
 *
 * A page that the machine or its VMA would not let go (locked, pinned, not writable) costs a try
 * each time that it is met, so it waits on a list of its own.  Nobody tells when it can go; a few
 * of them are tried again while others go, and whenever nothing else is left.
 */
#include "engine/base/check.h"
#include "engine/reclaim/internal.h"

#define BALANCE_BATCH 64

/* Kept copies dropped at once when the store is full, and pages looked at for them on each list. */
#define KEPT_BATCH 32
#define KEPT_LOOK  512

static void count(_Atomic u64 *length, s64 n)
{
	atomic_store_explicit(length, atomic_load_explicit(length, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void add(struct lru *lru, struct page *page, bool active)
{
	VMF_ASSERT(spin_is_locked(&lru->lock) && list_empty(&page->lru));
	VMF_ASSERT(!page_test(page, PG_LRU | PG_ISOLATED | PG_WRITEBACK));
	if (page_test(page, PG_UNEVICTABLE)) {
		page_set(page, PG_LRU);
		list_add(&page->lru, &lru->unevictable);
		count(&lru->nr_unevictable, 1);
	} else if (active) {
		page_set(page, PG_LRU | PG_ACTIVE);
		list_add(&page->lru, &lru->active);
		count(&lru->nr_active, 1);
	} else {
		page_set(page, PG_LRU);
		list_add(&page->lru, &lru->inactive);
		count(&lru->nr_inactive, 1);
	}
}

static void del(struct lru *lru, struct page *page)
{
	VMF_ASSERT(spin_is_locked(&lru->lock) && page_test(page, PG_LRU));
	list_del(&page->lru);
	if (page_test(page, PG_UNEVICTABLE))
		count(&lru->nr_unevictable, -1);
	else
		count(page_test(page, PG_ACTIVE) ? &lru->nr_active : &lru->nr_inactive, -1);
	page_clear(page, PG_LRU | PG_ACTIVE);
}

void lru_add_batch(struct engine *e, struct page **pages, unsigned n)
{
	spin_lock(&e->lru.lock);
	for (unsigned i = 0; i < n; i++)
		add(&e->lru, pages[i], page_test(pages[i], PG_WORKINGSET));
	spin_unlock(&e->lru.lock);
}

void lru_add(struct engine *e, struct page *page)
{
	lru_add_batch(e, &page, 1);
}

void lru_del_batch(struct engine *e, struct page **pages, unsigned n, struct list_head *to)
{
	spin_lock(&e->lru.lock);
	for (unsigned i = 0; i < n; i++) {
		if (unlikely(!page_test(pages[i], PG_LRU)))
			vmf_panic("lru: frame %lu was mapped and on no list",
				  (unsigned long)page_pfn(e, pages[i]));
		del(&e->lru, pages[i]);
		list_add_tail(&pages[i]->lru, to);
	}
	spin_unlock(&e->lru.lock);
}

void lru_del(struct engine *e, struct page *page)
{
	spin_lock(&e->lru.lock);
	if (page_test(page, PG_LRU))
		del(&e->lru, page);
	spin_unlock(&e->lru.lock);
}

static void activate(struct engine *e, struct page *page)
{
	del(&e->lru, page);
	page_clear(page, PG_REFERENCED);
	add(&e->lru, page, true);
	stat_add(&e->stats->activated, 1);
}

void lru_mark_accessed(struct engine *e, struct page *page)
{
	if (!page_test_set(page, PG_REFERENCED))
		return;
	spin_lock(&e->lru.lock);
	if (page_test(page, PG_LRU) && !page_test(page, PG_ACTIVE | PG_UNEVICTABLE))
		activate(e, page);
	spin_unlock(&e->lru.lock);
}

void lru_found_young(struct engine *e, struct page *page)
{
	if (!page_test(page, PG_LRU) || page_test(page, PG_ACTIVE | PG_UNEVICTABLE))
		return;
	if (page_test_set(page, PG_REFERENCED))
		activate(e, page);
	else
		list_move(&page->lru, &e->lru.inactive);
}

void lru_isolate(struct engine *e, struct page *page)
{
	del(&e->lru, page);
	page_set(page, PG_ISOLATED);
}

void lru_putback(struct engine *e, struct page *page, bool active)
{
	page_clear(page, PG_ISOLATED);
	add(&e->lru, page, active);
}

void lru_rotate(struct engine *e, struct page *page, bool active)
{
	spin_lock(&e->lru.lock);
	if (page_test(page, PG_LRU)) {
		del(&e->lru, page);
		add(&e->lru, page, active);
	}
	spin_unlock(&e->lru.lock);
}

void lru_make_unevictable(struct engine *e, struct page *page)
{
	spin_lock(&e->lru.lock);
	if (page_test(page, PG_LRU) && !page_test(page, PG_UNEVICTABLE)) {
		del(&e->lru, page);
		page_set(page, PG_UNEVICTABLE);
		add(&e->lru, page, false);
	}
	spin_unlock(&e->lru.lock);
}

void lru_retry_unevictable(struct engine *e, unsigned n)
{
	struct lru *lru = &e->lru;

	if (!atomic_load_explicit(&lru->nr_unevictable, memory_order_relaxed))
		return;
	spin_lock(&lru->lock);
	for (; n && !list_empty(&lru->unevictable); n--) {
		struct page *page = list_last_entry(&lru->unevictable, struct page, lru);

		del(lru, page);
		page_clear(page, PG_UNEVICTABLE);
		add(lru, page, false);
		list_move_tail(&page->lru, &lru->inactive); /* next */
	}
	spin_unlock(&lru->lock);
}

void lru_write_out(struct engine *e, struct page *page)
{
	struct lru *lru = &e->lru;

	VMF_ASSERT(page_test(page, PG_SWAPCACHE) && !page_mapcount(page));
	spin_lock(&lru->lock);
	if (page_test(page, PG_LRU))
		del(lru, page);
	page_set(page, PG_ISOLATED | PG_WRITEBACK);
	page_clear(page, PG_TAKEN_CLEARS);
	list_add_tail(&page->lru, &lru->writeout);
	count(&lru->nr_writeout, 1);
	spin_unlock(&lru->lock);
}

void lru_return(struct engine *e, struct page *page, bool active)
{
	struct lru *lru = &e->lru;

	spin_lock(&lru->lock);
	list_del(&page->lru);
	count(&lru->nr_writeout, -1);
	page_clear(page, PG_WRITEBACK | PG_ISOLATED);
	add(lru, page, active);
	spin_unlock(&lru->lock);
	if (active)
		stat_add(&e->stats->activated, 1);
}

bool lru_refault_is_hot(struct engine *e, u64 taken_at)
{
	u64 distance = atomic_load_explicit(&e->lru.age, memory_order_relaxed) - taken_at;
	u64 active = atomic_load_explicit(&e->lru.nr_active, memory_order_relaxed);
	u64 inactive = atomic_load_explicit(&e->lru.nr_inactive, memory_order_relaxed);

	/* The share of the inactive list lets the active list begin to grow. */
	return distance <= active + inactive / 8;
}

/* Lock pages with a kept copy, from the list's head, and take a reference to each. */
static unsigned lock_kept(struct list_head *list, unsigned look, struct page **pages, unsigned n,
			  unsigned most)
{
	struct page *page;

	list_for_each_entry (page, list, lru) {
		if (!look-- || n == most)
			break;
		if (!page_test(page, PG_SWAPCACHE) || !page_trylock(page))
			continue;
		page_get(page);
		pages[n++] = page;
	}
	return n;
}

unsigned lru_drop_kept(struct engine *e)
{
	struct page *pages[KEPT_BATCH];
	unsigned n = 0, dropped = 0;

	if (!atomic_load_explicit(&e->swap.kept, memory_order_relaxed))
		return 0;
	spin_lock(&e->lru.lock);
	n = lock_kept(&e->lru.inactive, KEPT_LOOK, pages, n, KEPT_BATCH);
	n = lock_kept(&e->lru.active, KEPT_LOOK, pages, n, KEPT_BATCH);
	n = lock_kept(&e->lru.unevictable, KEPT_LOOK, pages, n, KEPT_BATCH);
	spin_unlock(&e->lru.lock);
	for (unsigned i = 0; i < n; i++) {
		dropped += swap_drop_kept(e, pages[i]);
		page_unlock(pages[i]);
		page_put(e, pages[i]);
	}
	return dropped;
}

void lru_balance(struct engine *e)
{
	struct lru *lru = &e->lru;

	for (unsigned i = 0; i < BALANCE_BATCH; i++) {
		struct page *page;

		if (atomic_load_explicit(&lru->nr_active, memory_order_relaxed) <=
		    atomic_load_explicit(&lru->nr_inactive, memory_order_relaxed))
			break;
		page = list_last_entry(&lru->active, struct page, lru);
		del(lru, page);
		page_clear(page, PG_REFERENCED | PG_WORKINGSET);
		add(lru, page, false);
	}
}
