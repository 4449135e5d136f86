/* SPDX-License-Identifier: MIT */
/*
 * Physical memory: frame descriptors and the buddy allocator.
 *
 * A frame number (pfn) indexes one array of descriptors.  Two zones, of which the second is one for
 * each node (node.h):
 *   ZONE_TABLE  always directly mapped: page tables live here;
 *   ZONE_USER   pages of programs.  On soft and x86 directly mapped, too; on linux a frame is a
 *               licence to keep one page resident, and its bytes are wherever the machine says.
 *
 * A block of order 1 and up is one compound page: its first frame (PG_HEAD) has the references, the
 * map count, the place on a list and the flags of all; the others (PG_TAIL) lead to it by
 * page_head() and have nothing of their own but PG_HWPOISON.  Only huge entries map it: where
 * single pages are to be mapped it is cut into these first (page_cut()).
 *
 * A frame is in exactly one of: a free list, an LRU list, isolated (PG_ISOLATED), a page table.
 * A page of a file is on an LRU list exactly while it is in the page cache, mapped or not.
 */
#ifndef VMF_PAGE_PAGE_H
#define VMF_PAGE_PAGE_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/mmu/pte.h"
#include "engine/page/node.h"

struct engine;
struct anon_vma;
struct address_space;

/* ZONE_USER is node 0's; node n's is ZONE_USER + n. */
enum zone_type { ZONE_TABLE, ZONE_USER, NR_ZONES = ZONE_USER + MAX_NUMNODES };

#define MAX_ORDER 11 /* orders 0 .. 10: up to 4 MiB */

/* page->flags; changed with atomic operations only. */
enum page_flag {
	PG_LOCKED = 1u << 0,	  /* the page lock; see page_lock() */
	PG_LRU = 1u << 1,	  /* on an LRU list; its lruvec's lock */
	PG_REFERENCED = 1u << 3,  /* touched once since it was last looked at */
	PG_DIRTY = 1u << 4,	  /* differs from its kept slot, or has none; from its file */
	PG_SWAPCACHE = 1u << 5,	  /* page->swap names its slot, and the slot names the page */
	PG_ISOLATED = 1u << 6,	  /* off the lists on purpose: being taken or written out */
	PG_WRITEBACK = 1u << 7,	  /* on the write-out list */
	PG_UNEVICTABLE = 1u << 8, /* could not be taken; on the list of such pages; the same */
	PG_PREFETCHED = 1u << 9,  /* came in unasked and was not touched since, as far as we know */
	PG_BUDDY = 1u << 10,	  /* first frame of a free block */
	PG_TABLE = 1u << 11,	  /* is a page table */
	PG_ZEROED = 1u << 12,	  /* installed as zeros (machine may use a cheaper call) */
	PG_WORKINGSET = 1u << 13, /* came back soon after it was taken: was hot */
	PG_WAITERS = 1u << 14,	  /* somebody sleeps for the page lock; see lock.c of this room */
	/* One entry maps it and no swap entry names it, or (on its way out) the other way round;
	 * nobody is copying it.  The entry that maps it may allow writing, and no other may.
	 * Changes under the page-table lock of that entry. */
	PG_ANON_EXCLUSIVE = 1u << 15,
	PG_FILE = 1u << 16,	/* in the page cache: mapping and index name its place; page lock */
	PG_UPTODATE = 1u << 17, /* PG_FILE: holds the file's bytes */
	PG_LAZYFREE = 1u << 18, /* dropped instead of written out, if its entry is clean */
	PG_HEAD = 1u << 19,	/* first frame of a compound page */
	PG_TAIL = 1u << 20,	/* another frame of one */
	PG_HUGETLB = 1u << 21,	/* head of a page of a pool: see is_of_pool() */
	PG_RESTORE_RESERVE = 1u << 22, /* of such a page: see hugetlb_alloc_page() */
	PG_RECLAIM = 1u << 23,	/* reclaim has met it dirty: it is next as soon as it is clean */
	PG_HWPOISON = 1u << 24, /* the frame is broken: it is never free again */
	/* It was there when mremap(2) with DONTUNMAP unlocked its area: it is not reclaimed. */
	PG_MLOCKED = 1u << 25,
	PG_OF_DISK = 1u << 26, /* PG_FILE: what it holds is on a disk, or is to go there */
};

struct page {
	_Atomic u32 refcount; /* 0: free */
	_Atomic s32 mapcount; /* entries that map it; 0: none */
	_Atomic u32 flags;
	u8 order; /* of the block, for PG_BUDDY and, in each of its frames, while allocated */
	u8 zone;
	_Atomic u8 last_nid; /* of the last NUMA hinting fault; MAX_NUMNODES: none */
	_Atomic u8 list; /* PG_LRU, not PG_UNEVICTABLE: which of the policy's; its lruvec's lock */
	struct list_head lru; /* free list, LRU list or write-out list */
	/* Where its entries can be found.  Page lock (and its entry's page-table lock, to change
	 * it), or the page is not yet mapped. */
	union {
		struct anon_vma *anon_vma;     /* anonymous pages */
		struct address_space *mapping; /* PG_FILE; NULL once it has left the file */
		struct page *head;	       /* PG_TAIL */
		/* PG_TABLE: the next of the spare tables that wait for huge entries to be split (of
		 * a table that has such entries: the first).  Its ptl. */
		struct page *spare;
	};
	u64 index;	  /* linear page index: vma->pgoff + (va - vma->start) / PAGE_SIZE */
	swp_entry_t swap; /* with PG_SWAPCACHE; otherwise 0 */
	union {
		u64 where;	/* ZONE_USER: the machine's own note on where the bytes are */
		spinlock_t ptl; /* PG_TABLE: the lock of its 512 entries */
	};
};

/* Of migrate/compaction.c: hints, and counters as in /proc/vmstat.  All relaxed. */
struct compaction {
	_Atomic bool busy;		     /* somebody is at it */
	_Atomic u64 migrate_pfn, free_pfn;   /* where the scanners stopped; free_pfn 0: they met */
	_Atomic u32 considered, defer_shift; /* tries since it failed; a try in 2^shift is made */
	_Atomic u32 order_failed;	     /* and above: these are put off */
	_Atomic u64 stall, success, fail;    /* direct compactions, and what came of them */
	_Atomic u64 migrate_scanned, free_scanned, isolated; /* frames */
};

struct zone {
	u64 start_pfn, nr; /* frames */
	void *direct_map;  /* bytes of frame start_pfn, or NULL: no direct map */
	spinlock_t lock;   /* guards all below */
	struct list_head free[MAX_ORDER];
	_Atomic u64 nr_free;	/* written under lock, read anywhere */
	_Atomic u64 nr_retired; /* broken, and nobody's any more */
	struct compaction compaction;
};

/* Called without zone lock when an allocation would leave a node with fewer than min frames:
 * free about `want` frames of these nodes.  Returns the number freed; 0: it cannot help. Registered
 * by reclaim (never called by name from here).  What it allocates itself, it allocates with
 * ALLOC_RESERVE | ALLOC_NORECLAIM, or it would call itself. */
typedef u64 (*reclaim_fn)(struct engine *e, u64 want, nodemask_t nodes);

/* Called in the same way when there are frames enough and no 2^order of them side by side: make
 * such a block, by moving pages.  True: it did.  Registered by compaction. */
typedef bool (*compact_fn)(struct engine *e, struct zone *z, unsigned order);

/* GFP-like flags of an allocation. */
enum alloc_flag {
	ALLOC_NORECLAIM = 1u << 0, /* fail instead of reclaiming: locks are held, or prefetch */
	ALLOC_RESERVE = 1u << 1,   /* may go below the min watermark: reclaim itself, page tables */
	ALLOC_ZERO = 1u << 2,	   /* ZONE_TABLE only: bytes are zeroed */
	ALLOC_COMPACT = 1u << 3,   /* with NORECLAIM: compaction is allowed all the same */
};

/*
 * Set up a zone of `nr` frames from start_pfn, all free.  e->pages must cover them.
 * direct_map may be NULL.
 */
void zone_init(struct engine *e, enum zone_type type, u64 start_pfn, u64 nr, void *direct_map);

/*
 * Allocate 2^order frames, naturally aligned, as one page: refcount 1, on no list, no flags but
 * those of a compound page.  NULL when there is none.
 *
 * ZONE_USER is the node of this CPU, and when that is short, the next ones by distance.  Each keeps
 * its share of config.marks.min frames back, except for ALLOC_RESERVE.  Short of that, reclaim
 * is called (the caller holds no page-table lock) unless ALLOC_NORECLAIM, and for a block first of
 * all compaction; when reclaim cannot help
 * any more, config.may_exceed gives out what was kept back.  ALLOC_NORECLAIM never exceeds: its
 * callers can do without.
 */
struct page *page_alloc(struct engine *e, enum zone_type zone, unsigned order, unsigned flags);
/* The same for frames of programs, from `nid` on by distance, and from `allowed` nodes only.  What
 * it keeps back is the same, but may_exceed is for NODE_MASK_ALL only. */
struct page *page_alloc_nodes(struct engine *e, unsigned order, unsigned flags, unsigned nid,
			      nodemask_t allowed);
/*
 * The same for any order, without reclaim.  Of more than the buddy allocator's largest block only
 * frames that are all free beside one another serve, and they are looked for one by one: for who
 * allocates before the system runs.
 */
struct page *page_alloc_contig(struct engine *e, enum zone_type zone, unsigned order);
/* The same for frames of programs, from `nid` on by distance, and from `allowed` nodes only. */
struct page *page_alloc_contig_nodes(struct engine *e, unsigned order, unsigned nid,
				     nodemask_t allowed);
/*
 * Drop a reference; the last one calls mmu->release for each frame (ZONE_USER) and gives the block
 * back.  By then the page must be unlocked, mapped nowhere and on no list: panics otherwise.  A
 * page of a pool (PG_HUGETLB) goes to engine->free_huge instead, which its pool registers.
 */
void page_put(struct engine *e, struct page *page);
/*
 * Make the frames of a compound page single pages.  Each but the first gets `refs` references and
 * map count `mapped`, the head's flags (but for its lock, its waiters and its place on a list) and
 * anon_vma, and the index that follows; what the first has beyond that stays with it.  Nobody else
 * may find any of them meanwhile, but by page_tryget() of the head.
 */
void page_cut(struct page *head, u32 refs, s32 mapped);
/* The frame, in use, is broken: once it is given back nobody gets it any more.  True: it was marked
 * so before.  Page lock and a reference held. */
bool page_set_hwpoison(struct engine *e, struct page *page);
/* Is any of the page's frames broken? */
bool page_has_broken(const struct engine *e, const struct page *page);
/* The same for a frame that is free now: it leaves the free lists.  False: it is not free. */
bool page_take_free(struct engine *e, struct page *page);
/*
 * Has the page, which is locked, as many references as entries and `others` besides?  If so nobody
 * is using it but by way of them: no unmapper has one that he has not flushed yet.  Entries may go
 * meanwhile, and fork may copy those that are migration entries, but no others may come.
 */
bool page_refs_are(struct engine *e, const struct page *page, u32 others);
/* Another reference to a page that has one. */
void page_get(struct page *page);
/* The same, for who found the page by other ways than a reference: false if it is free. */
bool page_tryget(struct page *page);

/*
 * Take up to `most` free frames of [start, *end) off the free lists, from the end downwards, as
 * single pages with a reference each; those in blocks of max_order and above stay.  *end: what is
 * below has not been looked at.  Returns how many.  The range lies within 2^(MAX_ORDER - 1)
 * aligned frames.
 */
unsigned zone_take_free(struct engine *e, struct zone *z, u64 start, u64 *end, unsigned max_order,
			struct page **pages, unsigned most);
/* Is there a free block of this order or above?  Takes zone->lock. */
bool zone_has_block(struct zone *z, unsigned order);

u64 page_pfn(const struct engine *e, const struct page *page);
struct page *pfn_page(const struct engine *e, u64 pfn);
/* Bytes of a frame of a directly mapped zone; NULL in a zone that is not. */
void *page_direct(const struct engine *e, const struct page *page);
/* Frames free in the zone now; ZONE_USER: on all nodes. */
u64 zone_free_pages(const struct engine *e, enum zone_type zone);
/* Walk the free lists (ZONE_USER: of all nodes): blocks aligned, inside the zone, marked, not two
 * buddies free side by side, as many frames as nr_free says.  Panics with a message.  Nobody else
 * active. */
void zone_check(const struct engine *e, enum zone_type zone);

/* The node of a frame of programs. */
static inline unsigned page_nid(const struct page *p)
{
	return p->zone - ZONE_USER;
}
static inline s32 page_mapcount(const struct page *p)
{
	return atomic_load_explicit(&p->mapcount, memory_order_acquire);
}
static inline unsigned page_list(const struct page *p)
{
	return atomic_load_explicit(&p->list, memory_order_relaxed);
}
static inline bool page_test(const struct page *p, u32 flags)
{
	return atomic_load_explicit(&p->flags, memory_order_acquire) & flags;
}
/* Of any frame in use: the page that it belongs to. */
static inline struct page *page_head(struct page *p)
{
	return unlikely(page_test(p, PG_TAIL)) ? p->head : p;
}
/* How many frames the page has, of which this is the first. */
static inline u64 page_frames(const struct page *p)
{
	return unlikely(page_test(p, PG_HEAD)) ? 1ULL << p->order : 1;
}
/* Is the frame one of a page of a pool (hugetlb/pool.h)?  Such a page is never split, and on no LRU
 * list.  For who has a reference to it, or holds the lock of an entry that maps it. */
static inline bool is_of_pool(struct page *p)
{
	return page_test(page_head(p), PG_HUGETLB);
}
/* Of a page that nobody else knows of yet. */
static inline void page_init_flags(struct page *p, u32 flags)
{
	atomic_store_explicit(&p->flags,
			      atomic_load_explicit(&p->flags, memory_order_relaxed) | flags,
			      memory_order_relaxed);
}
static inline bool page_test_set(struct page *p, u32 flag)
{
	return atomic_fetch_or_explicit(&p->flags, flag, memory_order_acq_rel) & flag;
}
static inline bool page_test_clear(struct page *p, u32 flag)
{
	return atomic_fetch_and_explicit(&p->flags, ~flag, memory_order_acq_rel) & flag;
}
static inline void page_set(struct page *p, u32 flags)
{
	atomic_fetch_or_explicit(&p->flags, flags, memory_order_acq_rel);
}
static inline void page_clear(struct page *p, u32 flags)
{
	atomic_fetch_and_explicit(&p->flags, ~flags, memory_order_acq_rel);
}

/* The page lock: guards anon_vma, swap and the page's presence in the swap cache.  Sleeps. */
void page_lock(struct page *page);
bool page_trylock(struct page *page);
void page_unlock(struct page *page);
/* Sleep until the page is unlocked, or a little less; it takes no reference.  `lock`, which is held
 * and dropped, is what keeps the page locked until now. */
void page_wait_unlock(struct page *page, spinlock_t *lock);

#endif
