/* SPDX-License-Identifier: MIT */
/*
 * The classic active and inactive lists with a second chance; before them, where the machine shows
 * use, a list for pages that are fresh.
 *
 *     new -> fresh -> inactive -> out
 *                        |  ^
 *                   used v  | not used
 *       missed soon -> active
 *
 * An accessed bit says nothing of a page that has just come, for the access that it came for has
 * set it; and nothing of one whose bit was reset a moment ago, for there was no time to use it
 * again. So the bit is reset as a page goes from fresh to inactive, at the other end of which it is
 * looked at: in between others have come and gone, and a page that is used again and again has
 * shown it. Pages move on from the fresh list while memory fills, before any has to go: when the
 * first has to, all that is old has been watched.  What is used once (a scan) goes through both
 * lists and out, and the active pages never hear of it.
 *
 * The active list is a clock of half of all pages at most: its oldest goes behind the others if it
 * was used since it was there last, and else is inactive again.  A page that was taken and missed
 * soon after becomes active at once (workingset.h).
 *
 * Anonymous pages and those of files have such lists of their own; whose turn it is says balance.c.
 *
 * Where the machine shows no use, new pages are inactive, and the active list gives pages back from
 * its tail while it is the longer one.
 */
#include "engine/reclaim/internal.h"

/* Pages that one call moves on at most: before a victim is looked for, and after a fault. */
#define AGE_BATCH   64
#define WATCH_BATCH 4

/* For each fresh page so many are watched. */
#define WATCHED_SHARE 8

static void lru_init(struct lruvec *v)
{
	u32 lists = 1u << LRU_INACTIVE | 1u << LRU_FRESH;

	lru_set_joinable(v, lists | lists << LRU_OF_KIND);
}

/* The list of that name, of the page's kind. */
static unsigned list_for(const struct page *page, unsigned name)
{
	return name + page_kind(page) * LRU_OF_KIND;
}

/* Which of the three is it on? */
static unsigned name_of(const struct page *page)
{
	return page_list(page) % LRU_OF_KIND;
}

static unsigned choose_list(const struct lruvec *v, enum page_arrival why)
{
	switch (why) {
	case ARRIVED_HOT:
	case ARRIVED_IN_USE:
		return LRU_ACTIVE;
	case ARRIVED_NEW:
		return v->engine->mmu->never_young ? LRU_INACTIVE : LRU_FRESH;
	default:
		return LRU_INACTIVE;
	}
}

static unsigned lru_place(struct lruvec *v, struct page *page, enum page_arrival why)
{
	return list_for(page, choose_list(v, why));
}

static void lru_accessed(struct lruvec *v, struct page *page)
{
	if (name_of(page) != LRU_ACTIVE)
		lru_activate(v, page, list_for(page, LRU_ACTIVE));
}

static void lru_young(struct lruvec *v, struct page *page)
{
	switch (name_of(page)) {
	case LRU_FRESH:
		lru_move(v, page, list_for(page, LRU_INACTIVE));
		break;
	case LRU_INACTIVE:
		lru_activate(v, page, list_for(page, LRU_ACTIVE));
		break;
	}
}

static void deactivate(struct lruvec *v, struct page *page)
{
	page_clear(page, PG_REFERENCED | PG_WORKINGSET);
	lru_move(v, page, list_for(page, LRU_INACTIVE));
}

static u64 length(const struct lruvec *v, enum lru_kind kind, unsigned name)
{
	return lru_length(v, name + kind * LRU_OF_KIND);
}

static bool fresh_too_long(const struct lruvec *v, enum lru_kind kind)
{
	return length(v, kind, LRU_FRESH) * WATCHED_SHARE > length(v, kind, LRU_INACTIVE);
}

static bool active_too_long(const struct lruvec *v, enum lru_kind kind)
{
	return length(v, kind, LRU_ACTIVE) >
	       length(v, kind, LRU_INACTIVE) + length(v, kind, LRU_FRESH);
}

/* The oldest page of a list, locked and with a reference; NULL: there is none now. */
static struct page *lock_oldest(struct lruvec *v, unsigned list)
{
	struct page *page;

	spin_lock(&v->lock);
	page = lru_from_tail(v, list, NULL);
	if (page && page_trylock(page)) {
		page_get(page);
	} else if (page) {
		lru_move(v, page, list);
		page = NULL;
	}
	spin_unlock(&v->lock);
	return page;
}

/* The oldest page of a list goes where it is to go, now that it is asked whether it was used. */
static void move_on(struct lruvec *v, enum lru_kind kind, unsigned name)
{
	unsigned list = name + kind * LRU_OF_KIND;
	struct page *page = lock_oldest(v, list);
	bool used;

	if (!page)
		return;
	used = page_referenced(v->engine, page);
	spin_lock(&v->lock);
	if (!lru_has(page, list))
		; /* it went meanwhile */
	else if (name == LRU_FRESH)
		lru_move(v, page, list_for(page, LRU_INACTIVE));
	else if (used)
		lru_move(v, page, list);
	else
		deactivate(v, page);
	spin_unlock(&v->lock);
	page_unlock(page);
	page_put(v->engine, page);
}

static void lru_watch(struct lruvec *v)
{
	for (unsigned kind = 0; kind < NR_LRU_KINDS; kind++)
		for (unsigned i = 0; i < WATCH_BATCH && fresh_too_long(v, kind); i++)
			move_on(v, kind, LRU_FRESH);
}

static void lru_age(struct lruvec *v)
{
	if (v->engine->mmu->never_young)
		return;
	for (unsigned kind = 0; kind < NR_LRU_KINDS; kind++) {
		for (unsigned i = 0; i < AGE_BATCH && fresh_too_long(v, kind); i++)
			move_on(v, kind, LRU_FRESH);
		for (unsigned i = 0; i < AGE_BATCH && active_too_long(v, kind); i++)
			move_on(v, kind, LRU_ACTIVE);
	}
}

/* Without asking who is used, for nobody knows. */
static void balance_blind(struct lruvec *v, enum lru_kind kind)
{
	unsigned active = LRU_ACTIVE + kind * LRU_OF_KIND;

	for (unsigned i = 0; i < AGE_BATCH && active_too_long(v, kind); i++)
		deactivate(v, lru_from_tail(v, active, NULL));
}

/* The next of a kind. */
static struct page *next_of(struct lruvec *v, enum lru_kind kind)
{
	unsigned lists = kind * LRU_OF_KIND;
	struct page *page;

	if (v->engine->mmu->never_young)
		balance_blind(v, kind);
	page = lru_from_tail(v, lists + LRU_INACTIVE, NULL);
	/* All are fresh, or all are active and in use: the oldest then. */
	if (!page && (page = lru_from_tail(v, lists + LRU_FRESH, NULL)))
		lru_move(v, page, lists + LRU_INACTIVE);
	if (!page && (page = lru_from_tail(v, lists + LRU_ACTIVE, NULL)))
		deactivate(v, page);
	return page;
}

static u64 all_of(const struct lruvec *v, enum lru_kind kind)
{
	return length(v, kind, LRU_INACTIVE) + length(v, kind, LRU_ACTIVE) +
	       length(v, kind, LRU_FRESH);
}

/* Behind the last of the kind whose turn it was come those of the other. */
static struct page *lru_next(struct lruvec *v, struct page *after)
{
	struct page *page;

	if (!after) {
		v->first = lru_choose_kind(v, all_of(v, KIND_ANON), all_of(v, KIND_FILE));
		return next_of(v, v->first);
	}
	page = lru_from_tail(v, list_for(after, LRU_INACTIVE), after);
	if (page || page_kind(after) != v->first)
		return page;
	return lru_from_tail(v, LRU_INACTIVE + !v->first * LRU_OF_KIND, NULL);
}

static bool lru_refault_is_hot(struct lruvec *v, u64 shadow)
{
	u64 active = length(v, KIND_ANON, LRU_ACTIVE) + length(v, KIND_FILE, LRU_ACTIVE);
	u64 others = lruvec_evictable(v) - active;

	/* The share of the inactive list lets the active list begin to grow. */
	return workingset_distance(v, shadow) <= active + others / 8;
}

const struct reclaim_policy policy_lru = {
	.name = "lru",
	.spares_young = true,
	.init = lru_init,
	.place = lru_place,
	.young = lru_young,
	.accessed = lru_accessed,
	.next = lru_next,
	.age = lru_age,
	.watch = lru_watch,
	.refault_is_hot = lru_refault_is_hot,
};
