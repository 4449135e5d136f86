/* SPDX-License-Identifier: MIT */
/*
 * Victims by somebody else's choice: see chosen.h.
 *
 *     QUEUE    head: came last  ...  tail: came first
 *     CHOSEN   what goes before all others, the next at the tail
 *
 * Who chooses is asked between two victims (age), never under a lock of the lists: what it looks at
 * may be gone when it answers.  So each handle is checked when it is used, and once more, under the
 * lock, when the page is put where it goes next.
 *
 * Locks: lru->aging (tried; held while somebody chooses), the node's.
 */
#include "engine/reclaim/chosen.h"
#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"

#define QUEUE  0
#define CHOSEN 1

/* Any page may go with a neighbour, or none. */
static void set_joinable(struct lruvec *v, bool neighbours)
{
	lru_set_joinable(v, neighbours ? 1u << QUEUE | 1u << CHOSEN : 0);
}

static void chosen_init(struct lruvec *v)
{
	set_joinable(v, true);
}

static unsigned chosen_place(struct lruvec *v, struct page *page, enum page_arrival why)
{
	struct reclaim_chooser *c = v->chooser;

	/* Handles of what was in this frame before are no good from here on. */
	if (c && (why == ARRIVED_NEW || why == ARRIVED_HOT))
		c->stamps[page_pfn(v->engine, page)] = atomic_fetch_add(&c->clock, 1) + 1;
	return QUEUE;
}

static void chosen_found_used(struct lruvec *v, struct page *page)
{
	(void)v, (void)page; /* who wants to know asks (chosen_used) */
}

static struct page *chosen_next(struct lruvec *v, struct page *after)
{
	struct page *page;

	if (after && lru_has(after, QUEUE))
		return lru_from_tail(v, QUEUE, after);
	page = lru_from_tail(v, CHOSEN, after);
	return page ? page : lru_from_tail(v, QUEUE, NULL);
}

static bool chosen_refault_is_hot(struct lruvec *v, u64 shadow)
{
	(void)v, (void)shadow;
	return false;
}

/* ---- handles; lock held ---- */

static struct page_handle handle_of(struct lruvec *v, struct page *page)
{
	u64 pfn = page_pfn(v->engine, page);

	return (struct page_handle){ .pfn = pfn, .stamp = v->chooser->stamps[pfn] };
}

/* The page, if it still waits in the node's queue; or NULL. */
static struct page *page_of(struct lruvec *v, const struct page_handle *h)
{
	struct engine *e = v->engine;
	struct page *page;

	if (!v->chooser || h->pfn >= e->nr_pages)
		return NULL;
	page = &e->pages[h->pfn];
	if (page->zone < ZONE_USER || page_lruvec(e, page) != v ||
	    v->chooser->stamps[h->pfn] != h->stamp)
		return NULL;
	return lru_has(page, QUEUE) ? page : NULL;
}

/* Did it come so late that it is not to be chosen? */
static bool is_fresh(struct lruvec *v, const struct page *page)
{
	struct reclaim_chooser *c = v->chooser;

	return atomic_load(&c->clock) - c->stamps[page_pfn(v->engine, page)] < c->fresh;
}

/* ---- asking ---- */

/* They go next, in this order: each to the head of the list whose tail goes first. */
static void put_next(struct lruvec *v, const struct page_handle *next, unsigned n, bool neighbours)
{
	spin_lock(&v->lock);
	for (unsigned i = 0; i < n; i++) {
		struct page *page = page_of(v, &next[i]);

		if (page && !is_fresh(v, page))
			lru_move(v, page, CHOSEN);
	}
	spin_unlock(&v->lock);
	set_joinable(v, neighbours);
}

static void chosen_age(struct lruvec *v)
{
	spinlock_t *aging = &v->engine->lru.aging;
	struct page_handle next[MMU_BATCH];
	bool neighbours = true;
	unsigned n;

	/* Another may be asking just now: nobody waits for that, the oldest goes. */
	if (lru_length(v, CHOSEN) || !spin_trylock(aging))
		return;
	if (v->chooser) {
		n = v->chooser->choose(v->chooser, v, next, &neighbours);
		put_next(v, next, min_of(n, (unsigned)MMU_BATCH), neighbours);
	}
	spin_unlock(aging);
}

/* Nobody asks or is asked meanwhile. */
static void set_chooser(struct engine *e, struct reclaim_chooser *c)
{
	spin_lock(&e->lru.aging);
	for (unsigned i = 0; i < e->numa.nr; i++) {
		struct lruvec *v = &e->lru.nodes[i];

		spin_lock(&v->lock);
		v->chooser = c;
		spin_unlock(&v->lock);
		set_joinable(v, true);
	}
	spin_unlock(&e->lru.aging);
}

int chosen_begin(struct engine *e, struct reclaim_chooser *c)
{
	c->stamps = e->memory.alloc(e->memory.ctx, e->nr_pages * sizeof(*c->stamps));
	if (!c->stamps)
		return -ENOMEM;
	atomic_store(&c->clock, 0);
	set_chooser(e, c);
	return 0;
}

void chosen_end(struct engine *e)
{
	struct reclaim_chooser *c = e->lru.nodes[0].chooser;

	set_chooser(e, NULL);
	if (c)
		e->memory.free(e->memory.ctx, c->stamps, e->nr_pages * sizeof(*c->stamps));
}

/* ---- by who chooses ---- */

u64 chosen_length(const struct lruvec *v)
{
	return lru_length(v, QUEUE);
}

/* A page as an answer.  0; -ENOENT: it is none. */
static int answer(struct lruvec *v, struct page *page, struct page_handle *h)
{
	if (!page || !v->chooser || is_fresh(v, page))
		return -ENOENT;
	*h = handle_of(v, page);
	return 0;
}

/* The page on the other side of `page`; NULL: none. */
static struct page *beside(struct lruvec *v, struct page *page, bool newer)
{
	struct list_head *at = page->lru.next;

	if (newer)
		return lru_from_tail(v, QUEUE, page);
	return at == &v->lists[QUEUE] ? NULL : list_entry(at, struct page, lru);
}

int chosen_newest(struct lruvec *v, struct page_handle *h)
{
	struct page *page = NULL;
	int err;

	spin_lock(&v->lock);
	if (v->chooser && !list_empty(&v->lists[QUEUE]))
		page = lru_youngest(v, QUEUE);
	while (page && is_fresh(v, page))
		page = beside(v, page, false);
	err = answer(v, page, h);
	spin_unlock(&v->lock);
	return err;
}

int chosen_oldest(struct lruvec *v, struct page_handle *h)
{
	int err;

	spin_lock(&v->lock);
	err = answer(v, lru_from_tail(v, QUEUE, NULL), h);
	spin_unlock(&v->lock);
	return err;
}

static int step(struct lruvec *v, const struct page_handle *h, bool newer, struct page_handle *next)
{
	struct page *page;
	int err = -EBADF;

	spin_lock(&v->lock);
	page = page_of(v, h);
	if (page)
		err = answer(v, beside(v, page, newer), next);
	spin_unlock(&v->lock);
	return err;
}

int chosen_newer(struct lruvec *v, const struct page_handle *h, struct page_handle *next)
{
	return step(v, h, true, next);
}

int chosen_older(struct lruvec *v, const struct page_handle *h, struct page_handle *next)
{
	return step(v, h, false, next);
}

int chosen_look(struct lruvec *v, const struct page_handle *h, struct page_facts *facts)
{
	struct page *page;

	spin_lock(&v->lock);
	page = page_of(v, h);
	if (page)
		*facts = (struct page_facts){ .index = page->index,
					      .stamp = h->stamp,
					      .file = page_test(page, PG_FILE),
					      .dirty = page_test(page, PG_DIRTY) };
	spin_unlock(&v->lock);
	return page ? 0 : -EBADF;
}

int chosen_used(struct lruvec *v, const struct page_handle *h)
{
	struct page *page;
	bool locked;
	int used;

	spin_lock(&v->lock);
	page = page_of(v, h);
	locked = page && page_trylock(page);
	if (locked)
		page_get(page);
	spin_unlock(&v->lock);
	if (!locked)
		return page ? -EBUSY : -EBADF;
	used = page_test_clear(page, PG_REFERENCED);
	if (!v->engine->mmu->never_young)
		used |= page_referenced(v->engine, page);
	page_unlock(page);
	page_put(v->engine, page);
	return used;
}

const struct reclaim_policy policy_chosen = {
	.name = "chosen",
	.init = chosen_init,
	.place = chosen_place,
	.young = chosen_found_used,
	.accessed = chosen_found_used,
	.next = chosen_next,
	.age = chosen_age,
	.refault_is_hot = chosen_refault_is_hot,
};
