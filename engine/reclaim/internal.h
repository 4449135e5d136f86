/* SPDX-License-Identifier: MIT */
/* The LRU lists and the two steps of reclaim, for the engine's other rooms. */
#ifndef VMF_RECLAIM_INTERNAL_H
#define VMF_RECLAIM_INTERNAL_H

#include "engine/engine.h"
#include "engine/reclaim/policy.h"
#include "engine/reclaim/workingset.h"

/*
 * An anonymous page is on an LRU list exactly while it is mapped, seen from outside the page-table
 * locks: who maps it first adds it, who unmaps it last takes it off, each under his page-table lock
 * (rmap.c has why there is no quarrel).  So the mappings' references keep it alive on the list.
 * A page of a file is there while it is in the page cache, whose reference keeps it alive.
 */

/* The lists of the page's node. */
static inline struct lruvec *page_lruvec(struct engine *e, const struct page *page)
{
	return &e->lru.nodes[page_nid(page)];
}
static inline unsigned lruvec_nid(const struct lruvec *v)
{
	return (unsigned)(v - v->engine->lru.nodes);
}
static inline void lruvec_unlock(struct lruvec *held)
{
	if (held)
		spin_unlock(&held->lock);
}
/* For pages one after the other: the lock of this one's node instead of the one that is held
 * (NULL: none).  Returns whose is held now. */
static inline struct lruvec *lruvec_relock(struct engine *e, const struct page *page,
					   struct lruvec *held)
{
	struct lruvec *v = page_lruvec(e, page);

	if (v == held)
		return held;
	lruvec_unlock(held);
	spin_lock(&v->lock);
	return v;
}

/* What is forgotten of a page on its way out. */
#define PG_TAKEN_CLEARS (PG_REFERENCED | PG_WORKINGSET | PG_PREFETCHED | PG_UNEVICTABLE)

/* As lru_add() for several pages. */
void lru_add_batch(struct engine *e, struct page **pages, unsigned n);
/* Take unmapped pages off the lists and string them up on `to`. */
void lru_del_batch(struct engine *e, struct page **pages, unsigned n, struct list_head *to);
/* A page goes to the write-out list; the mapping's reference becomes the list's.  It is mapped
 * nowhere, in the swap cache, and on an LRU list or none (the second: on none).  Page lock held. */
void lru_write_out(struct engine *e, struct page *page);
void writeout_add(struct engine *e, struct page **pages, unsigned n);
/* A page that is on its way out is mapped again, for it was missed at once: off the write-out list,
 * onto an LRU list.  Page lock held; the list's reference becomes the mapping's. */
void lru_return(struct engine *e, struct page *page);
/* With the lock of its node: a page on a list was found young; off, and back on a list. */
void lru_found_young_locked(struct lruvec *v, struct page *page);
void lru_isolate(struct lruvec *v, struct page *page);
void lru_putback(struct lruvec *v, struct page *page);
/* Without: it was found young. */
void lru_found_young(struct engine *e, struct page *page);
/* Where the policy wants it now, if it is on a list; with the lock, and without. */
void lru_rotate_locked(struct lruvec *v, struct page *page, enum page_arrival why);
void lru_rotate(struct engine *e, struct page *page, enum page_arrival why);
/* `to` takes the place of a page on its list, which leaves it; on another node it is new.  Page
 * lock held. */
void lru_replace(struct engine *e, struct page *page, struct page *to);
/* Of a node; see lru_retry_unevictable(). */
void lruvec_retry_unevictable(struct lruvec *v, unsigned n);
/* A page that must not or cannot be taken, if it is on a list: to that of its like. */
void lru_make_unevictable(struct engine *e, struct page *page);
/* One entry that maps a page, on a walk over all of them. */
struct rmap_entry {
	struct mm *mm;
	struct vma *vma;
	u64 va;
	pte_t *ptep, pte;
};
/* Do something to an entry that maps the page, page-table lock held; true: it owes a flush. */
typedef bool (*rmap_fn)(struct page *page, struct rmap_entry *entry, void *arg);
/* Every entry that maps the page, of a file or anonymous; each is flushed before the next one's
 * table is locked.  Page lock and a reference held. */
void rmap_walk_all(struct engine *e, struct page *page, rmap_fn fn, void *arg);
/* The same of a page of the file. */
void rmap_walk_file(struct address_space *m, struct page *page, rmap_fn fn, void *arg);

/* Are the VMA's pages to stay?  Who takes one asks under the page-table lock: who locks sets the
 * flag first and populates then, each page under its page-table lock, so that what was about to go
 * comes back, and nothing goes after mlock(2) has returned. */
static inline bool vma_is_locked(const struct vma *vma)
{
	return vma_flags(vma) & VM_LOCKED;
}
/* Cut a compound page on a list, with `mapped` references and mappings for each of its pages: they
 * take its place.  Page lock held, and nobody can reach them otherwise. */
void lru_cut(struct engine *e, struct page *head, s32 mapped);
/* The store is full: drop some kept copies of mapped pages.  Returns how many. */
unsigned lru_drop_kept(struct engine *e);

/* Was the page used through any of its entries since this was last asked?  Their accessed bits are
 * reset.  Page lock and a reference held. */
bool page_referenced(struct engine *e, struct page *page);
bool file_page_referenced(struct page *page);

/* Outcome of a try to take pages away. */
struct taken {
	unsigned taken;	    /* on the write-out list now */
	unsigned looked_at; /* pages that were dealt with in any way */
	unsigned aged;	    /* of these: were young, and are less so now */
	unsigned freed;	    /* were gone already */
	bool no_slots;	    /* no swap area has a slot */
	bool dirty;	    /* a page of a file that is the flusher's to write */
	bool not_now;	    /* one could have gone, but others, or the machine, were at it */
};

/* Take one segment around a victim that the policy of one of these nodes names, or a victim that is
 * mapped more than once from all its entries.  `force`: young pages, too.  False: there is none. */
bool take_segment(struct engine *e, bool force, nodemask_t nodes, struct taken *t);
/* The store or the swap area is full: take one page that needs neither, a clean or dirty page of a
 * file.  False: there is none in reach. */
bool take_without_slot(struct engine *e, struct taken *t);
/* Take what is mapped, and mapped once, of the group of entries that [start, end) is (at most
 * MMU_BATCH, within one table and one VMA). */
void take_range(struct engine *e, struct vma *vma, u64 start, u64 end, struct taken *t);

/* Give up what [start, end) has of pages and swap entries (MADV_FREE).  mmap_lock held. */
void lazyfree_range(struct vma *vma, u64 start, u64 end);
/* May the page be dropped, if it is as it was when it was given up? */
bool page_is_lazy(const struct page *page, const struct vma *vma);
/* Drop such pages of [start, end), at most MMU_BATCH and within one table.  `held` (or NULL) is
 * locked by the caller.  *kept (or NULL) gets a bit for each page, counted from start, that was
 * written to since and is one like any other by now.  Something keeps the VMA.  Returns how many
 * went. */
unsigned discard_lazy_range(struct engine *e, struct vma *vma, u64 start, u64 end,
			    const struct page *held, u64 *kept);

/* The same for one page of a file: locked, with a reference, on a list (reclaim/file.c). */
void take_file_page(struct engine *e, struct page *page, bool force, struct taken *t);
/* Take the pages of files that [start, end) maps and nobody else does; within one table, at most
 * MMU_BATCH.  mmap_lock held.  Returns frames freed. */
u64 take_file_range(struct engine *e, struct vma *vma, u64 start, u64 end);

/* Write out up to n pages, oldest first.  Returns frames freed; *full: the store takes no more. */
u64 writeout(struct engine *e, u64 n, bool *full);

/* A page on its way out that is nobody's goes at once: true.  Page lock and a reference held. */
bool writeout_drop(struct engine *e, struct page *page);

static inline u64 nr_writeout(struct engine *e)
{
	return atomic_load_explicit(&e->lru.nr_writeout, memory_order_relaxed);
}
static inline void stat_add(_Atomic u64 *counter, u64 n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

#endif
