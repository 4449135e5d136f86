/* SPDX-License-Identifier: MIT */
/*
 * Replacement policies: which page goes next.
 *
 * A policy owns up to NR_LRU_LISTS lists of pages that can be evicted (struct lru), and decides to
 * which of them a page goes when it comes, is found used, or is used by a call; and from them,
 * which is the next to go.  That a page leaves (it is freed, taken, or proves unevictable) needs no
 * word of the policy's: the lists are the whole of what it knows, and lists.c keeps them and their
 * lengths.
 *
 * Nothing of this is on the way of an access that finds its page: policies hear of pages that come,
 * and of pages that reclaim looks at.
 */
#ifndef VMF_RECLAIM_POLICY_H
#define VMF_RECLAIM_POLICY_H

#include "engine/engine.h"

/* Why a page comes onto the policy's lists. */
enum page_arrival {
	ARRIVED_NEW,	/* asked for by a fault or a call, or brought in beside such a page */
	ARRIVED_HOT,	/* missed while it was on its way out, or soon after (refault distance) */
	ARRIVED_SPARED, /* was the next, and cannot go just now: another's turn */
	ARRIVED_IN_USE, /* the same, because somebody is using it */
	ARRIVED_NEXT,	/* could not go for long and is to be tried again before all others */
};

/* Each is called for the pages of a node, with its lock held, but for age(), watch() and the last
 * two. */
struct reclaim_policy {
	const char *name;
	/* A page that is found young when it is the next to go is spared; otherwise nobody looks.
	 */
	bool spares_young;
	/* The engine begins: no page is there yet. */
	void (*init)(struct lruvec *v);
	/* The list that the page goes to: to its head, with ARRIVED_NEXT to its tail. */
	unsigned (*place)(struct lruvec *v, struct page *page, enum page_arrival why);
	/* A page on a list was found young by reclaim, which has reset the bit. */
	void (*young)(struct lruvec *v, struct page *page);
	/* A page on a list with PG_REFERENCED was used by a call (read, write) once more.  The
	 * first time only sets PG_REFERENCED. */
	void (*accessed)(struct lruvec *v, struct page *page);
	/* The page to go first, or (after != NULL) behind another that next() gave under the same
	 * hold of the lock; NULL: none.  May move pages between the lists when after == NULL. */
	struct page *(*next)(struct lruvec *v, struct page *after);
	/* Before a victim is looked for, no lock held but those of reclaim_fn; or NULL. */
	void (*age)(struct lruvec *v);
	/* After a fault, a read or a write, no lock held but a file's i_rwsem, whether memory is
	 * short or not: to look at a few pages in time.  Not called where never_young is set; or
	 * NULL. */
	void (*watch)(struct lruvec *v);
	/* What to remember of pages that go now, below 2^60; NULL: the nonresident age.  No lock
	 * held, here and below. */
	u64 (*shadow)(struct lruvec *v);
	/* A page of which this was remembered is asked for again: was it hot? */
	bool (*refault_is_hot)(struct lruvec *v, u64 shadow);
};

extern const struct reclaim_policy policy_lru, policy_gen, policy_clock, policy_fifo;
/* What an engine has whose config names none. */
#define policy_default policy_lru

/* By name; NULL: there is none of that name. */
const struct reclaim_policy *policy_find(const char *name);

/* ---- for policies: the node's lock held, the page is on a list of the policy's ---- */

/* To the head of a list, or to its tail. */
void lru_move(struct lruvec *v, struct page *page, unsigned list);
void lru_move_tail(struct lruvec *v, struct page *page, unsigned list);
/* To the head, and it is counted as activated. */
void lru_activate(struct lruvec *v, struct page *page, unsigned list);
/* Is it on this list now? */
static inline bool lru_has(const struct page *page, unsigned list)
{
	return page_test(page, PG_LRU) && !page_test(page, PG_UNEVICTABLE) &&
	       page_list(page) == list;
}
static inline enum lru_kind page_kind(const struct page *page)
{
	return page_test(page, PG_OF_DISK) ? KIND_FILE : KIND_ANON;
}
/* So many pages of a kind had to be brought back. */
void lru_note_cost(struct lruvec *v, enum lru_kind kind, u64 pages);
/* Whose turn is it, if so many of each can go?  Lock held. */
enum lru_kind lru_choose_kind(struct lruvec *v, u64 anon, u64 file);
/* Pages on a list. */
static inline u64 lru_length(const struct lruvec *v, unsigned list)
{
	return atomic_load_explicit(&v->nr[list], memory_order_relaxed);
}
/* The page at the head of a list that is not empty. */
static inline struct page *lru_youngest(struct lruvec *v, unsigned list)
{
	return list_first_entry(&v->lists[list], struct page, lru);
}
/* The page before `after` on a list, or its last one; NULL: none. */
static inline struct page *lru_from_tail(struct lruvec *v, unsigned list, struct page *after)
{
	struct list_head *head = &v->lists[list], *at = after ? after->lru.prev : head->prev;

	return at == head ? NULL : list_entry(at, struct page, lru);
}
/* Pages on these lists (bit i: list i) may go together with a neighbour whose turn it is. */
static inline void lru_set_joinable(struct lruvec *v, u32 lists)
{
	atomic_store_explicit(&v->joinable, lists, memory_order_relaxed);
}

#endif
