/* SPDX-License-Identifier: MIT */
/*
 * Reclaim: which pages go, and their journey out.
 *
 *   mapped, and the policy's next (policy.h)
 *     -> take:  a run of neighbours (a segment) is taken away in one call of the machine;
 *               each gets a swap slot and enters the swap cache and the write-out list.
 *               A fault on it now finds it there and maps it again: the second chance.
 *     -> write out: unchanged since its kept copy was made? then nothing to do (clean);
 *               otherwise the store saves it (dirty).  The frame is freed.
 *
 * Taking is cheap by the batch and dear by the page; writing out is the other way round.  So they
 * are two steps: segments are taken when free frames fall below `low`, and pages are written out
 * a few at each fault (reclaim_step), so that no fault waits for many.
 *
 * A page that several entries map (after a fork) is no part of another's segment.  As a victim it
 * is taken from one entry after the other; it leaves for the store with the last.  Until then, and
 * after a fault that brought it back, some entries map it and others name its slot; it sits in the
 * swap cache and nobody can write to it.
 *
 * Pages of files go in one step, one by one: those that are dirty are left to the flusher, shared
 * memory is saved in a swap slot that the file itself remembers (reclaim/file.c).
 *
 * Who is next, and what being found young or coming back soon is worth, is the policy's to say.
 */
#ifndef VMF_RECLAIM_RECLAIM_H
#define VMF_RECLAIM_RECLAIM_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/mmu/pte.h"
#include "engine/page/node.h"

struct anon_vma;
struct anon_vma_chain;
struct engine;
struct mm;
struct page;
struct reclaim_chooser;
struct reclaim_policy;
struct vma;

/* What a page is, for reclaim: anonymous (shared memory, too: it goes to the swap area), or a
 * file's. */
enum lru_kind { KIND_ANON, KIND_FILE, NR_LRU_KINDS };

#define NR_LRU_LISTS 6

/* Those of the policy "lru", of each kind: those of files are LRU_OF_KIND further on. */
enum { LRU_INACTIVE, LRU_ACTIVE, LRU_FRESH, LRU_OF_KIND };

/* Those of the policy "gen". */
#define MAX_NR_GENS 4

/* The pages of one node. */
struct lruvec {
	struct engine *engine;
	spinlock_t lock; /* guards the lists, their lengths, and of their pages PG_LRU and list */
	struct list_head lists[NR_LRU_LISTS]; /* the policy's */
	struct list_head unevictable;	      /* PG_UNEVICTABLE */
	/* Pages; written under lock, read anywhere. */
	_Atomic u64 nr[NR_LRU_LISTS], nr_unevictable;
	/* Bit i: pages on list i may go together with a neighbour whose turn it is.  A hint. */
	_Atomic u32 joinable;
	/* What bringing back pages of each kind has cost lately, in pages; read and written
	 * anywhere.  And whose turn it is (reclaim/balance.c); under lock. */
	_Atomic u64 cost[NR_LRU_KINDS];
	s64 credit[NR_LRU_KINDS];
	enum lru_kind first; /* the kind of the victim that was named last, before others */
	/* The policy "gen": its generations; written under lock, read anywhere. */
	_Atomic u64 min_seq, max_seq;
	_Atomic u64 born; /* pages that came since the youngest began */
	/* The policy "chosen": who says what goes next; NULL: nobody.  aging and lock, to change.
	 */
	struct reclaim_chooser *chooser;
	_Atomic u64 age;	/* pages evicted, ever */
	_Atomic u64 retried_at; /* age when unevictable pages were last tried again */
	_Atomic s64 turn;	/* among the nodes (take.c); a hint */
};

struct lru {
	const struct reclaim_policy *policy;
	void (*watch)(struct lruvec *v); /* the policy's; NULL: it has no use for it */
	struct lruvec nodes[MAX_NUMNODES];
	spinlock_t writeout_lock;
	struct list_head writeout; /* PG_WRITEBACK, of all nodes, oldest first */
	_Atomic u64 nr_writeout;   /* written under its lock, read anywhere */
	_Atomic u32 in_vain, pass; /* direct reclaims that freed nothing, in a row; to be skipped */
	/* Times, ever, that reclaim freed something, or met what could go but not just then, for
	 * others were at it: it is not hopeless. */
	_Atomic u64 hopeful;
	/* A node's next generation is being made ("gen"), or somebody chooses ("chosen"): tried
	 * by who reclaims.  And which walk through all spaces that is. */
	spinlock_t aging;
	u64 walk;
};

/* Watermarks in frames of ZONE_USER: reclaim starts below low, ends at high; below min only
 * reclaim itself allocates. */
struct watermarks {
	u64 min, low, high;
};

/* Pages that the policy can choose from: of a node, and of all. */
static inline u64 lruvec_evictable(const struct lruvec *v)
{
	u64 n = 0;

	for (unsigned i = 0; i < NR_LRU_LISTS; i++)
		n += atomic_load_explicit(&v->nr[i], memory_order_relaxed);
	return n;
}
u64 lru_evictable(const struct engine *e);
/* And pages that it cannot. */
u64 lru_unevictable(const struct engine *e);

/* Registers itself as the allocator's reclaim callback.  e->config is set. */
void reclaim_init(struct engine *e);
void lru_add(struct engine *e, struct page *page); /* with PG_WORKINGSET: it was hot */
void lru_del(struct engine *e, struct page *page);
void lru_mark_accessed(struct engine *e, struct page *page);
/* A fault or a call has brought pages in, and page locks are dropped: the policy may look at some.
 */
void lru_watch_pages(struct engine *e);
/* Up to n pages that could not be taken, the oldest first, are to be tried again before others. */
void lru_retry_unevictable(struct engine *e, unsigned n);

/* Direct reclaim: take and write out until about `want` frames came free.  Frames freed.
 * Counts the time in e->stats->direct_reclaim_ns.  No page-table lock held. */
u64 reclaim_direct(struct engine *e, u64 want);
/* The same, of pages on these nodes.  What was on its way out before may be elsewhere. */
u64 reclaim_nodes(struct engine *e, u64 want, nodemask_t nodes);
/*
 * A slice of background work, which the machine does after a fault is resolved: write out up to
 * `pages` pages (a good figure: one or two more than the fault brought in), take a new segment if
 * there are fewer than `low` frames free or coming free.  True if it did something and there is
 * more to do.
 */
bool reclaim_step(struct engine *e, u64 pages);
/* The first half of that alone, for whoever must wait anyhow: write out up to `pages` pages of what
 * was taken.  How many it were. */
u64 reclaim_write_out(struct engine *e, u64 pages);
/* Run until each node has its share of high free, or nothing more can go from it.  Who has enough
 * gives nothing for one that cannot.  Returns frames freed. */
u64 reclaim_balance(struct engine *e);
/* On this node; for its background thread (kswapd.h).  Returns frames freed. */
u64 reclaim_balance_node(struct engine *e, unsigned nid);
/* madvise(MADV_PAGEOUT)-like: take and write out the pages of [start, end), but for those that are
 * mapped more than once.  mmap_lock not held. */
u64 reclaim_range(struct mm *mm, u64 start, u64 end);

/* ---- reverse mapping (reclaim/rmap.c) ---- */

/* A page that is mapped nowhere is mapped at va of vma: fills anon_vma, index, mapcount.  It is
 * known to nobody else, or the page lock is held.  PTL held. */
void page_add_anon_rmap(struct page *page, struct vma *vma, u64 va);
/* Another entry for a page that is mapped by one that cannot go (its page-table lock is held). */
void page_dup_anon_rmap(struct page *page);
/* The same where it can: false if it has gone, and the page is mapped nowhere.  Page lock held. */
bool page_try_dup_anon_rmap(struct page *page);
/* The page is the VMA's alone from now on: have its own anon_vma lead there.  Page lock and PTL
 * held. */
void page_move_anon_rmap(struct page *page, struct vma *vma);
/* An entry went.  True: it was the last, and the page is the caller's, to be taken off the LRU at
 * once and handed to page_unmapped().  PTL held. */
bool page_remove_rmap(struct page *page);
/* Once its last entry is gone and flushed: drop the mapping's reference, or, if swap entries still
 * name its slot, give the page to the writer.  No lock held but mmap_lock. */
void page_unmapped(struct engine *e, struct page *page);

/* The entries that map a page, one after the other. */
struct rmap_walk {
	/* of the entry found, as read without its page-table lock: look again under it */
	struct vma *vma;
	u64 va;
	pte_t *ptep;
	spinlock_t *ptl;
	bool huge; /* of a compound page: an entry of a PMD table */
	/* the walk's own */
	struct page *page;
	u64 pfn;
	struct anon_vma *anon_vma, *root;
	struct anon_vma_chain *link;
};
/* Page lock and a reference held.  True: the lock of its anon_vma's family is held for reading, and
 * the VMAs in it stay where they are; false: mapped nowhere, no lock held. */
bool rmap_begin(struct engine *e, struct page *page, struct rmap_walk *w);
/* False at the end; after that it begins anew. */
bool rmap_next(struct rmap_walk *w);
/* The same for all entries that could map it. */
bool rmap_next_place(struct rmap_walk *w);
void rmap_end(struct rmap_walk *w);
/* Does the entry found map the page?  Its page-table lock held. */
static inline bool rmap_is_at(const struct rmap_walk *w)
{
	pte_t pte = pte_read(w->ptep);

	return pte_mapped(pte) && pte_pfn(pte) == w->pfn;
}

/* One more entry (of mm) maps a page of a file: map count and the mm's counts.  The entry has a
 * reference.  PTL held, and the page lock or that of another entry that maps it. */
void page_add_file_rmap(struct mm *mm, struct page *page);
/* One less.  PTL held; the counts of the mm are the caller's. */
void page_remove_file_rmap(struct page *page);

#endif
