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

u64 lru_evictable(const struct engine *e)
{
	u64 n = 0;

	for (unsigned i = 0; i < e->numa.nr; i++)
		n += lruvec_evictable(&e->lru.nodes[i]);
	return n;
}

u64 lru_unevictable(const struct engine *e)
{
	u64 n = 0;

	for (unsigned i = 0; i < e->numa.nr; i++)
		n += atomic_load_explicit(&e->lru.nodes[i].nr_unevictable, memory_order_relaxed);
	return n;
}

static void add(struct lruvec *v, struct page *page, enum page_arrival why)
{
	unsigned list;

	VMF_ASSERT(spin_is_locked(&v->lock) && list_empty(&page->lru));
	VMF_ASSERT(!page_test(page, PG_LRU | PG_ISOLATED | PG_WRITEBACK));
	if (page_test(page, PG_UNEVICTABLE)) {
		page_set(page, PG_LRU);
		list_add(&page->lru, &v->unevictable);
		count(&v->nr_unevictable, (s64)page_frames(page));
		return;
	}
	list = v->engine->lru.policy->place(v, page, why);
	page_set(page, PG_LRU);
	atomic_store_explicit(&page->list, list, memory_order_relaxed);
	if (why == ARRIVED_NEXT)
		list_add_tail(&page->lru, &v->lists[list]);
	else
		list_add(&page->lru, &v->lists[list]);
	count(&v->nr[list], (s64)page_frames(page));
}

static void del(struct lruvec *v, struct page *page)
{
	VMF_ASSERT(spin_is_locked(&v->lock) && page_test(page, PG_LRU));
	list_del(&page->lru);
	count(page_test(page, PG_UNEVICTABLE) ? &v->nr_unevictable : &v->nr[page_list(page)],
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
	struct lruvec *v = NULL;

	for (unsigned i = 0; i < n; i++) {
		v = lruvec_relock(e, pages[i], v);
		add(v, pages[i], page_test(pages[i], PG_WORKINGSET) ? ARRIVED_HOT : ARRIVED_NEW);
	}
	lruvec_unlock(v);
}

void lru_add(struct engine *e, struct page *page)
{
	lru_add_batch(e, &page, 1);
}

void lru_del_batch(struct engine *e, struct page **pages, unsigned n, struct list_head *to)
{
	struct lruvec *v = NULL;

	for (unsigned i = 0; i < n; i++) {
		v = lruvec_relock(e, pages[i], v);
		if (unlikely(!page_test(pages[i], PG_LRU)))
			vmf_panic("lru: frame %lu was mapped and on no list",
				  (unsigned long)page_pfn(e, pages[i]));
		del(v, pages[i]);
		list_add_tail(&pages[i]->lru, to);
	}
	lruvec_unlock(v);
}

void lru_del(struct engine *e, struct page *page)
{
	struct lruvec *v = lruvec_relock(e, page, NULL);

	if (page_test(page, PG_LRU))
		del(v, page);
	spin_unlock(&v->lock);
}

static void change_list(struct lruvec *v, struct page *page, unsigned list)
{
	VMF_ASSERT(spin_is_locked(&v->lock) && evictable(page));
	count(&v->nr[page_list(page)], -(s64)page_frames(page));
	count(&v->nr[list], (s64)page_frames(page));
	atomic_store_explicit(&page->list, list, memory_order_relaxed);
}

void lru_move(struct lruvec *v, struct page *page, unsigned list)
{
	change_list(v, page, list);
	list_move(&page->lru, &v->lists[list]);
}

void lru_move_tail(struct lruvec *v, struct page *page, unsigned list)
{
	change_list(v, page, list);
	list_move_tail(&page->lru, &v->lists[list]);
}

void lru_activate(struct lruvec *v, struct page *page, unsigned list)
{
	page_clear(page, PG_REFERENCED);
	lru_move(v, page, list);
	stat_add(&v->engine->stats->activated, 1);
}

void lru_mark_accessed(struct engine *e, struct page *page)
{
	struct lruvec *v;

	if (!page_test_set(page, PG_REFERENCED))
		return;
	v = lruvec_relock(e, page, NULL);
	if (evictable(page))
		e->lru.policy->accessed(v, page);
	spin_unlock(&v->lock);
}

void lru_watch_pages(struct engine *e)
{
	for (unsigned i = 0; e->lru.watch && i < e->numa.nr; i++)
		e->lru.watch(&e->lru.nodes[i]);
}

void lru_found_young_locked(struct lruvec *v, struct page *page)
{
	if (evictable(page))
		v->engine->lru.policy->young(v, page);
}

void lru_found_young(struct engine *e, struct page *page)
{
	struct lruvec *v = lruvec_relock(e, page, NULL);

	lru_found_young_locked(v, page);
	spin_unlock(&v->lock);
}

void lru_isolate(struct lruvec *v, struct page *page)
{
	del(v, page);
	page_set(page, PG_ISOLATED);
}

void lru_putback(struct lruvec *v, struct page *page)
{
	page_clear(page, PG_ISOLATED);
	add(v, page, ARRIVED_SPARED);
}

void lru_rotate_locked(struct lruvec *v, struct page *page, enum page_arrival why)
{
	if (page_test(page, PG_LRU)) {
		del(v, page);
		add(v, page, why);
	}
}

void lru_rotate(struct engine *e, struct page *page, enum page_arrival why)
{
	struct lruvec *v = lruvec_relock(e, page, NULL);

	lru_rotate_locked(v, page, why);
	spin_unlock(&v->lock);
}

/* `to` stands where the page did. */
static void replace_in_place(struct page *page, struct page *to)
{
	atomic_store_explicit(&to->list, page_list(page), memory_order_relaxed);
	page_set(to, PG_LRU);
	list_add(&to->lru, &page->lru);
	list_del(&page->lru);
	page_clear(page, PG_LRU);
}

void lru_replace(struct engine *e, struct page *page, struct page *to)
{
	struct lruvec *v = lruvec_relock(e, page, NULL);
	bool stays = page_lruvec(e, to) == v;

	if (unlikely(!page_test(page, PG_LRU)))
		vmf_panic("lru: frame %lu moves and is on no list",
			  (unsigned long)page_pfn(e, page));
	if (page_test(page, PG_UNEVICTABLE))
		page_set(to, PG_UNEVICTABLE);
	if (stays)
		replace_in_place(page, to);
	else
		del(v, page);
	page_clear(page, PG_UNEVICTABLE);
	spin_unlock(&v->lock);
	if (!stays)
		lru_add(e, to); /* what one node's policy knows of it means nothing to another's */
}

void lru_make_unevictable(struct engine *e, struct page *page)
{
	struct lruvec *v = lruvec_relock(e, page, NULL);

	if (evictable(page)) {
		del(v, page);
		page_set(page, PG_UNEVICTABLE);
		add(v, page, ARRIVED_SPARED);
	}
	spin_unlock(&v->lock);
}

void lruvec_retry_unevictable(struct lruvec *v, unsigned n)
{
	if (!atomic_load_explicit(&v->nr_unevictable, memory_order_relaxed))
		return;
	spin_lock(&v->lock);
	for (; n && !list_empty(&v->unevictable); n--) {
		struct page *page = list_last_entry(&v->unevictable, struct page, lru);

		del(v, page);
		page_clear(page, PG_UNEVICTABLE);
		add(v, page, ARRIVED_NEXT);
	}
	spin_unlock(&v->lock);
}

void lru_retry_unevictable(struct engine *e, unsigned n)
{
	for (unsigned i = 0; i < e->numa.nr; i++)
		lruvec_retry_unevictable(&e->lru.nodes[i], n);
}

void writeout_add(struct engine *e, struct page **pages, unsigned n)
{
	struct lru *lru = &e->lru;

	if (!n)
		return;
	spin_lock(&lru->writeout_lock);
	for (unsigned i = 0; i < n; i++) {
		page_set(pages[i], PG_ISOLATED | PG_WRITEBACK);
		page_clear(pages[i], PG_TAKEN_CLEARS);
		list_add_tail(&pages[i]->lru, &lru->writeout);
	}
	count(&lru->nr_writeout, n);
	spin_unlock(&lru->writeout_lock);
}

void lru_write_out(struct engine *e, struct page *page)
{
	VMF_ASSERT(page_test(page, PG_SWAPCACHE) && !page_mapcount(page));
	lru_del(e, page);
	writeout_add(e, &page, 1);
}

void lru_return(struct engine *e, struct page *page)
{
	struct lru *lru = &e->lru;
	struct lruvec *v;

	spin_lock(&lru->writeout_lock);
	list_del(&page->lru);
	count(&lru->nr_writeout, -1);
	spin_unlock(&lru->writeout_lock);
	page_clear(page, PG_WRITEBACK | PG_ISOLATED);
	v = lruvec_relock(e, page, NULL);
	add(v, page, ARRIVED_HOT);
	spin_unlock(&v->lock);
	stat_add(&e->stats->activated, 1);
}

void lru_cut(struct engine *e, struct page *head, s32 mapped)
{
	struct lruvec *v = lruvec_relock(e, head, NULL);
	u64 n = page_frames(head);
	u32 list = page_list(head);

	VMF_ASSERT(page_test(head, PG_LRU) && !page_test(head, PG_ISOLATED | PG_SWAPCACHE));
	page_cut(head, (u32)mapped, mapped);
	for (u64 i = 1; i < n; i++) {
		page_set(head + i, PG_LRU);
		atomic_store_explicit(&head[i].list, list, memory_order_relaxed);
		list_add(&head[i].lru, &head[i - 1].lru);
	}
	spin_unlock(&v->lock);
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

/* Of a node. */
static unsigned lock_kept_on(struct lruvec *v, struct page **pages, unsigned n)
{
	spin_lock(&v->lock);
	for (unsigned i = 0; i < NR_LRU_LISTS; i++)
		n = lock_kept(&v->lists[i], KEPT_LOOK, pages, n, KEPT_BATCH);
	n = lock_kept(&v->unevictable, KEPT_LOOK, pages, n, KEPT_BATCH);
	spin_unlock(&v->lock);
	return n;
}

unsigned lru_drop_kept(struct engine *e)
{
	struct page *pages[KEPT_BATCH];
	unsigned n = 0, dropped = 0;

	if (!atomic_load_explicit(&e->swap.kept, memory_order_relaxed))
		return 0;
	for (unsigned i = 0; i < e->numa.nr; i++)
		n = lock_kept_on(&e->lru.nodes[i], pages, n);
	for (unsigned i = 0; i < n; i++) {
		dropped += swap_drop_kept(e, pages[i]);
		page_unlock(pages[i]);
		page_put(e, pages[i]);
	}
	return dropped;
}
