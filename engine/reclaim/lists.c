/* SPDX-License-Identifier: MIT */
/*
 * The lists that pages wait on: the policy's, those that could not be taken, and those on their way
 * out.
 *
 * A page that the machine or its VMA would not let go (locked, pinned, not writable) costs a try
 * each time that it is met, so it waits on a list of its own.  Nobody tells when it can go; a few
 * of them are tried again while others go, and whenever nothing else is left.
 */
#include "engine/base/check.h"
#include "engine/reclaim/internal.h"

/* Kept copies dropped at once when the store is full, and pages looked at for them on each list. */
#define KEPT_BATCH 32
#define KEPT_LOOK  512

static void count(_Atomic u64 *length, s64 n)
{
	atomic_store_explicit(length, atomic_load_explicit(length, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void add(struct engine *e, struct page *page, enum page_arrival why)
{
	struct lru *lru = &e->lru;
	unsigned list;

	VMF_ASSERT(spin_is_locked(&lru->lock) && list_empty(&page->lru));
	VMF_ASSERT(!page_test(page, PG_LRU | PG_ISOLATED | PG_WRITEBACK));
	if (page_test(page, PG_UNEVICTABLE)) {
		page_set(page, PG_LRU);
		list_add(&page->lru, &lru->unevictable);
		count(&lru->nr_unevictable, (s64)page_frames(page));
		return;
	}
	list = lru->policy->place(e, page, why);
	page_set(page, PG_LRU);
	atomic_store_explicit(&page->list, list, memory_order_relaxed);
	if (why == ARRIVED_NEXT)
		list_add_tail(&page->lru, &lru->lists[list]);
	else
		list_add(&page->lru, &lru->lists[list]);
	count(&lru->nr[list], (s64)page_frames(page));
}

static void del(struct lru *lru, struct page *page)
{
	VMF_ASSERT(spin_is_locked(&lru->lock) && page_test(page, PG_LRU));
	list_del(&page->lru);
	count(page_test(page, PG_UNEVICTABLE) ? &lru->nr_unevictable : &lru->nr[page_list(page)],
	      -(s64)page_frames(page));
	page_clear(page, PG_LRU);
}

/* Is it on one of the policy's lists? */
static bool evictable(const struct page *page)
{
	return page_test(page, PG_LRU) && !page_test(page, PG_UNEVICTABLE);
}

void lru_add_batch(struct engine *e, struct page **pages, unsigned n)
{
	spin_lock(&e->lru.lock);
	for (unsigned i = 0; i < n; i++)
		add(e, pages[i], page_test(pages[i], PG_WORKINGSET) ? ARRIVED_HOT : ARRIVED_NEW);
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

static void change_list(struct lru *lru, struct page *page, unsigned list)
{
	VMF_ASSERT(spin_is_locked(&lru->lock) && evictable(page));
	count(&lru->nr[page_list(page)], -(s64)page_frames(page));
	count(&lru->nr[list], (s64)page_frames(page));
	atomic_store_explicit(&page->list, list, memory_order_relaxed);
}

void lru_move(struct engine *e, struct page *page, unsigned list)
{
	change_list(&e->lru, page, list);
	list_move(&page->lru, &e->lru.lists[list]);
}

void lru_move_tail(struct engine *e, struct page *page, unsigned list)
{
	change_list(&e->lru, page, list);
	list_move_tail(&page->lru, &e->lru.lists[list]);
}

void lru_activate(struct engine *e, struct page *page, unsigned list)
{
	page_clear(page, PG_REFERENCED);
	lru_move(e, page, list);
	stat_add(&e->stats->activated, 1);
}

void lru_mark_accessed(struct engine *e, struct page *page)
{
	if (!page_test_set(page, PG_REFERENCED))
		return;
	spin_lock(&e->lru.lock);
	if (evictable(page))
		e->lru.policy->accessed(e, page);
	spin_unlock(&e->lru.lock);
}

void lru_found_young(struct engine *e, struct page *page)
{
	if (evictable(page))
		e->lru.policy->young(e, page);
}

void lru_isolate(struct engine *e, struct page *page)
{
	del(&e->lru, page);
	page_set(page, PG_ISOLATED);
}

void lru_putback(struct engine *e, struct page *page)
{
	page_clear(page, PG_ISOLATED);
	add(e, page, ARRIVED_SPARED);
}

void lru_rotate_locked(struct engine *e, struct page *page, enum page_arrival why)
{
	if (page_test(page, PG_LRU)) {
		del(&e->lru, page);
		add(e, page, why);
	}
}

void lru_rotate(struct engine *e, struct page *page, enum page_arrival why)
{
	spin_lock(&e->lru.lock);
	lru_rotate_locked(e, page, why);
	spin_unlock(&e->lru.lock);
}

void lru_replace(struct engine *e, struct page *page, struct page *to)
{
	struct lru *lru = &e->lru;

	spin_lock(&lru->lock);
	if (unlikely(!page_test(page, PG_LRU)))
		vmf_panic("lru: frame %lu moves and is on no list",
			  (unsigned long)page_pfn(e, page));
	atomic_store_explicit(&to->list, page_list(page), memory_order_relaxed);
	page_set(to, PG_LRU | (page_test(page, PG_UNEVICTABLE) ? PG_UNEVICTABLE : 0));
	list_add(&to->lru, &page->lru);
	list_del(&page->lru);
	page_clear(page, PG_LRU | PG_UNEVICTABLE);
	spin_unlock(&lru->lock);
}

void lru_make_unevictable(struct engine *e, struct page *page)
{
	spin_lock(&e->lru.lock);
	if (page_test(page, PG_LRU) && !page_test(page, PG_UNEVICTABLE)) {
		del(&e->lru, page);
		page_set(page, PG_UNEVICTABLE);
		add(e, page, ARRIVED_SPARED);
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
		add(e, page, ARRIVED_NEXT);
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

void lru_return(struct engine *e, struct page *page)
{
	struct lru *lru = &e->lru;

	spin_lock(&lru->lock);
	list_del(&page->lru);
	count(&lru->nr_writeout, -1);
	page_clear(page, PG_WRITEBACK | PG_ISOLATED);
	add(e, page, ARRIVED_HOT);
	spin_unlock(&lru->lock);
	stat_add(&e->stats->activated, 1);
}

void lru_cut(struct engine *e, struct page *head, s32 mapped)
{
	u64 n = page_frames(head);
	u32 list;

	spin_lock(&e->lru.lock);
	list = page_list(head);
	VMF_ASSERT(page_test(head, PG_LRU) && !page_test(head, PG_ISOLATED | PG_SWAPCACHE));
	page_cut(head, (u32)mapped, mapped);
	for (u64 i = 1; i < n; i++) {
		page_set(head + i, PG_LRU);
		atomic_store_explicit(&head[i].list, list, memory_order_relaxed);
		list_add(&head[i].lru, &head[i - 1].lru);
	}
	spin_unlock(&e->lru.lock);
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
	for (unsigned i = 0; i < NR_LRU_LISTS; i++)
		n = lock_kept(&e->lru.lists[i], KEPT_LOOK, pages, n, KEPT_BATCH);
	n = lock_kept(&e->lru.unevictable, KEPT_LOOK, pages, n, KEPT_BATCH);
	spin_unlock(&e->lru.lock);
	for (unsigned i = 0; i < n; i++) {
		dropped += swap_drop_kept(e, pages[i]);
		page_unlock(pages[i]);
		page_put(e, pages[i]);
	}
	return dropped;
}
