/* SPDX-License-Identifier: MIT */
/*
 * Pools of huge pages: one for each size, filled on request and kept apart from all other memory.
 *
 * A page of a pool is one block of 2^order frames whose first carries PG_HUGETLB.  It is never on
 * an LRU list, never swapped, never split.  While it is free its reference count is 0 and it is on
 * the pool's list; page_put() brings it back there.
 *
 * Each node has free pages of its own; a page that comes back goes where its frames are.  Which
 * node a page is asked of is the caller's to say (struct node_choice).
 *
 * What is counted, in pages, by Linux's names for it, of all nodes together and (but for promises)
 * of each:
 *   nr        in the pool, free or in use;
 *   free      of these nobody uses;
 *   resv      of the free ones are promised: who has no promise cannot have them (free >= resv);
 *   surplus   of nr are there because there was need, up to `overcommit`: they go back to the
 * system as soon as they are free.  nr - surplus, the persistent ones, is what was asked for.
 */
#ifndef VMF_HUGETLB_POOL_H
#define VMF_HUGETLB_POOL_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/page/page.h"

/* The sizes there are; the first is the default. */
enum { HSTATE_2M, HSTATE_1G, NR_HSTATES };
#define NR_HUGE_FAULT_LOCKS 16

struct hstate_counts {
	u64 nr, free, resv, surplus, overcommit;
};

struct hstate_node {
	struct list_head free_list; /* by page->lru */
	u64 nr, free, surplus;
};

struct hstate {
	struct engine *engine;
	unsigned order;
	spinlock_t lock; /* all below; as lruvec->lock in the lock order */
	struct hstate_counts n;
	struct hstate_node on[MAX_NUMNODES];  /* n.nr and so on are their sums */
	unsigned next_to_alloc, next_to_free; /* the nodes whose turn it is */
};

static inline u64 huge_page_size(const struct hstate *h)
{
	return PAGE_SIZE << h->order;
}
static inline unsigned huge_page_shift(const struct hstate *h)
{
	return PAGE_SHIFT + h->order;
}
static inline u64 huge_page_mask(const struct hstate *h)
{
	return ~(huge_page_size(h) - 1);
}

/* Empty pools. */
void hugetlb_init(struct engine *e);
/* Give all free pages back to the system; none is in use or promised any more. */
void hugetlb_fini(struct engine *e);
/* The pool for pages of 2^log bytes, as MAP_HUGE_SHIFT and MFD_HUGE_SHIFT encode them (0: the
 * default size), or NULL. */
struct hstate *hstate_sizelog(struct engine *e, unsigned log);

/*
 * Make `count` the number of persistent pages, as far as it goes, of all nodes in turn: as writing
 * to nr_hugepages.  It
 * grows until there is no block left (pages that the buddy allocator has no order for are found
 * only where all their frames are free, so best at the start), and shrinks by what is free and not
 * promised; of the rest what is too much becomes surplus.  Returns the persistent pages there are
 * then.  Reclaims; no lock held.
 */
u64 hugetlb_set_pool(struct hstate *h, u64 count);
/* The same for the pages of one node: as writing to the node's own nr_hugepages. */
u64 hugetlb_set_pool_node(struct hstate *h, unsigned nid, u64 count);
/* So many surplus pages there may be; as writing to nr_overcommit_hugepages. */
void hugetlb_set_overcommit(struct hstate *h, u64 count);
struct hstate_counts hugetlb_counts(struct hstate *h);
/* nr, free and surplus of one node. */
struct hstate_counts hugetlb_node_counts(struct hstate *h, unsigned nid);
/* Frames that pools hold, free or in use, whose first is not free to the system. */
u64 hugetlb_frames(struct engine *e);

/*
 * Promise `delta` pages, or (negative) take so many promises back.  Where free ones do not suffice
 * surplus pages are made; what is not promised any more and surplus goes.  Who is bound to nodes
 * (the space that this runs for) cannot be promised more pages than are free there; as in Linux
 * nothing keeps them from others then.  0, -ENOMEM (nothing has changed).  May reclaim if delta >
 * 0. No page-table lock held.
 */
int hugetlb_acct_memory(struct hstate *h, s64 delta);

/*
 * A page, with one reference, of unknown contents, of the nodes that are asked (NULL: of the
 * nearest that has one).  `promised`: one of those promised; it carries PG_RESTORE_RESERVE until it
 * has its place, so that the promise comes back with it if it never gets one.  Otherwise one that
 * is free and promised to nobody.  Where these nodes have none: a surplus page of theirs.  NULL:
 * none.  May reclaim.  No page-table lock held.
 */
struct page *hugetlb_alloc_page(struct hstate *h, const struct node_choice *from, bool promised);

/* The frame, of a free page of the pool, is broken: the page leaves the pool, and its other frames
 * go back to the system.  0, -EBUSY: it is not free, or promised. */
int hugetlb_retire_free(struct hstate *h, struct page *frame);

/* The pool that the page, the first of its block, is of. */
struct hstate *page_hstate(const struct engine *e, const struct page *page);
/* Every invariant of the pools; panics with a message.  Nobody else active. */
void hugetlb_check_pools(struct engine *e);

#endif
