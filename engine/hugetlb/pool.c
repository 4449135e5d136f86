/* SPDX-License-Identifier: MIT */
/*
 * The pools.
 *
 * The pool's lock guards counts and list alone: blocks come from the system and go back to it
 * without the lock.  So between a look and the deed others may come; each deed looks again:
 *   promising    pages are made for what lacks, and then it is looked again whether they suffice;
 *   shrinking    pages leave list and count under the lock, and the system gets them afterwards.
 *
 * Promises are numbers, not pages: any free page serves any promise, and free >= resv is all that
 * there is to keep.
 */
#include "engine/hugetlb/pool.h"

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/engine.h"

static const unsigned orders[NR_HSTATES] = { [HSTATE_2M] = 9, [HSTATE_1G] = 18 };

/* ---- blocks from the system and back ---- */

static struct page *block_alloc(struct hstate *h)
{
	struct engine *e = h->engine;

	if (!page_direct(e, pfn_page(e, e->zones[ZONE_USER].start_pfn)))
		return NULL; /* nobody could fill it */
	if (h->order < MAX_ORDER)
		return page_alloc(e, ZONE_USER, h->order, 0);
	return page_alloc_contig(e, ZONE_USER, h->order);
}

/* Pages that left the pool, of no flags and no references. */
static void blocks_free(struct hstate *h, struct list_head *pages)
{
	while (!list_empty(pages)) {
		struct page *page = list_first_entry(pages, struct page, lru);

		list_del(&page->lru);
		page_clear(page, PG_HUGETLB);
		atomic_store_explicit(&page->refcount, 1, memory_order_release);
		page_put(h->engine, page);
	}
}

/* ---- the list, under the lock ---- */

static u64 persistent(const struct hstate *h)
{
	return h->n.nr - h->n.surplus;
}

static u64 available(const struct hstate *h)
{
	return h->n.free - h->n.resv;
}

static void enqueue(struct hstate *h, struct page *page)
{
	list_add(&page->lru, &h->free_list);
	h->n.free++;
}

static struct page *dequeue(struct hstate *h)
{
	struct page *page = list_first_entry(&h->free_list, struct page, lru);

	list_del(&page->lru);
	h->n.free--;
	return page;
}

/* A free page leaves the pool. */
static void remove_one(struct hstate *h, struct list_head *gone)
{
	struct page *page = dequeue(h);

	h->n.nr--;
	list_add(&page->lru, gone);
}

/* A block comes in, not free yet: what it was given as it keeps but for its reference. */
static void admit(struct hstate *h, struct page *page, bool surplus)
{
	page_set(page, PG_HUGETLB);
	atomic_store_explicit(&page->refcount, 0, memory_order_relaxed);
	h->n.nr++;
	h->n.surplus += surplus;
}

/* ---- how many there are ---- */

/* Lock held, and dropped meanwhile. */
static void grow(struct hstate *h, u64 count)
{
	while (h->n.surplus && count > persistent(h))
		h->n.surplus--;
	while (count > persistent(h)) {
		struct page *page;

		spin_unlock(&h->lock);
		page = block_alloc(h);
		spin_lock(&h->lock);
		if (!page)
			break;
		admit(h, page, false);
		enqueue(h, page);
	}
}

static void shrink(struct hstate *h, u64 count, struct list_head *gone)
{
	while (count < persistent(h) && available(h))
		remove_one(h, gone);
	if (count < persistent(h))
		h->n.surplus = h->n.nr - count;
}

u64 hugetlb_set_pool(struct hstate *h, u64 count)
{
	struct list_head gone;
	u64 now;

	list_init(&gone);
	spin_lock(&h->lock);
	grow(h, count);
	shrink(h, count, &gone);
	now = persistent(h);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return now;
}

void hugetlb_set_overcommit(struct hstate *h, u64 count)
{
	spin_lock(&h->lock);
	h->n.overcommit = count;
	spin_unlock(&h->lock);
}

struct hstate_counts hugetlb_counts(struct hstate *h)
{
	struct hstate_counts n;

	spin_lock(&h->lock);
	n = h->n;
	spin_unlock(&h->lock);
	return n;
}

u64 hugetlb_frames(struct engine *e)
{
	u64 frames = 0;

	for (unsigned i = 0; i < NR_HSTATES; i++)
		frames += hugetlb_counts(&e->hstates[i]).nr << e->hstates[i].order;
	return frames;
}

/* ---- surplus ---- */

/* One page more than was asked for, neither free nor used yet.  Lock held, and dropped meanwhile.
 * NULL: it is not allowed, or there is no block. */
static struct page *surplus_alloc(struct hstate *h)
{
	struct page *page;

	if (h->n.surplus >= h->n.overcommit)
		return NULL;
	spin_unlock(&h->lock);
	page = block_alloc(h);
	spin_lock(&h->lock);
	if (!page)
		return NULL;
	if (h->n.surplus < h->n.overcommit) {
		admit(h, page, true);
		return page;
	}
	/* Others were first. */
	spin_unlock(&h->lock);
	page_put(h->engine, page);
	spin_lock(&h->lock);
	return NULL;
}

/* Free surplus pages that nobody has a promise for go. */
static void drop_surplus(struct hstate *h, u64 most, struct list_head *gone)
{
	for (; most && h->n.surplus && available(h); most--) {
		remove_one(h, gone);
		h->n.surplus--;
	}
}

/* ---- promises ---- */

/* Enough free pages for `delta` more, of which `made` were made for it. */
static bool gather_surplus(struct hstate *h, u64 delta, u64 *made)
{
	for (*made = 0; available(h) < delta; ++*made) {
		struct page *page = surplus_alloc(h);

		if (!page)
			return false;
		enqueue(h, page);
	}
	return true;
}

int hugetlb_acct_memory(struct hstate *h, s64 delta)
{
	struct list_head gone;
	u64 made;
	int err = 0;

	list_init(&gone);
	spin_lock(&h->lock);
	if (delta < 0) {
		if (h->n.resv < (u64)-delta)
			vmf_panic("hugetlb: %lu pages are promised, %lu taken back",
				  (unsigned long)h->n.resv, (unsigned long)-delta);
		h->n.resv += (u64)delta;
		drop_surplus(h, (u64)-delta, &gone);
	} else if (gather_surplus(h, (u64)delta, &made)) {
		h->n.resv += (u64)delta;
	} else {
		drop_surplus(h, made, &gone);
		err = -ENOMEM;
	}
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return err;
}

struct page *hugetlb_alloc_page(struct hstate *h, bool promised)
{
	struct page *page = NULL;

	spin_lock(&h->lock);
	if (promised) {
		if (!h->n.resv || !h->n.free)
			vmf_panic("hugetlb: a page is promised, and none is kept");
		page = dequeue(h);
		h->n.resv--;
		page_set(page, PG_RESTORE_RESERVE);
	} else {
		page = available(h) ? dequeue(h) : surplus_alloc(h);
	}
	spin_unlock(&h->lock);
	if (page)
		atomic_store_explicit(&page->refcount, 1, memory_order_release);
	return page;
}

/* A free page of which a frame is broken leaves the pool for good.  Lock held. */
static void retire(struct hstate *h, struct page *page, struct list_head *gone)
{
	list_del(&page->lru);
	h->n.free--;
	h->n.nr--;
	if (h->n.surplus > h->n.nr)
		h->n.surplus = h->n.nr;
	list_add(&page->lru, gone);
}

int hugetlb_retire_free(struct hstate *h, struct page *frame)
{
	struct page *head = page_head(frame);
	struct list_head gone;
	int err = -EBUSY;

	list_init(&gone);
	spin_lock(&h->lock);
	if (is_of_pool(head) && head->order == h->order && !list_empty(&head->lru) &&
	    available(h)) {
		page_set_hwpoison(h->engine, frame);
		retire(h, head, &gone);
		err = 0;
	}
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return err;
}

/* The last reference to a page of a pool has gone: registered as engine->free_huge. */
static void free_huge_page(struct engine *e, struct page *page)
{
	struct hstate *h = page_hstate(e, page);
	bool restore = page_test(page, PG_RESTORE_RESERVE), broken;
	struct list_head gone;

	if (page_test(page, PG_LOCKED | PG_FILE) || page_mapcount(page))
		vmf_panic("hugetlb: frame %lu freed in use", (unsigned long)page_pfn(e, page));
	list_init(&gone);
	page->mapping = NULL;
	page->index = 0;
	broken = page_has_broken(e, page);
	atomic_fetch_and_explicit(&page->flags, PG_HEAD | PG_HUGETLB | PG_HWPOISON,
				  memory_order_relaxed);
	spin_lock(&h->lock);
	/* A promise that comes back needs a page to be kept: this one. */
	h->n.resv += restore;
	enqueue(h, page);
	if (unlikely(broken))
		retire(h, page, &gone);
	else if (!restore)
		drop_surplus(h, 1, &gone);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
}

struct hstate *page_hstate(const struct engine *e, const struct page *page)
{
	for (unsigned i = 0; i < NR_HSTATES; i++)
		if (orders[i] == page->order)
			return (struct hstate *)&e->hstates[i];
	vmf_panic("hugetlb: no pool has pages of order %u", page->order);
}

struct hstate *hstate_sizelog(struct engine *e, unsigned log)
{
	if (!log)
		return &e->hstates[0];
	for (unsigned i = 0; i < NR_HSTATES; i++)
		if (huge_page_shift(&e->hstates[i]) == log)
			return &e->hstates[i];
	return NULL;
}

void hugetlb_init(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];

		h->engine = e;
		h->order = orders[i];
		spin_init(&h->lock);
		list_init(&h->free_list);
	}
	for (unsigned i = 0; i < NR_HUGE_FAULT_LOCKS; i++)
		spin_init(&e->huge_fault_locks[i]);
	e->free_huge = free_huge_page;
}

void hugetlb_fini(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];

		hugetlb_set_pool(h, 0);
		if (h->n.nr)
			vmf_panic("hugetlb: %lu pages are in use at the end",
				  (unsigned long)h->n.nr);
	}
}

/* ---- checks ---- */

void hugetlb_check_pools(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];
		struct page *page;
		u64 n = 0;

		list_for_each_entry (page, &h->free_list, lru) {
			if (atomic_load(&page->refcount) || page->order != h->order ||
			    atomic_load(&page->flags) != (PG_HEAD | PG_HUGETLB))
				vmf_panic("hugetlb: frame %lu is free with %u references, flags %x",
					  (unsigned long)page_pfn(e, page), page->refcount,
					  page->flags);
			n++;
		}
		if (n != h->n.free || h->n.free > h->n.nr || h->n.resv > h->n.free ||
		    h->n.surplus > h->n.nr)
			vmf_panic("hugetlb: %lu free pages in the list; counted: %lu pages, %lu "
				  "free, "
				  "%lu promised, %lu surplus",
				  (unsigned long)n, (unsigned long)h->n.nr,
				  (unsigned long)h->n.free, (unsigned long)h->n.resv,
				  (unsigned long)h->n.surplus);
	}
}
