/* SPDX-License-Identifier: MIT */
/*
 * Swap slots and the swap cache.
 *
 * A slot is referenced by page-table entries, by its page while that has PG_SWAPCACHE, and by
 * whoever is loading it just now.  The swap cache is the slot's pointer to a page that holds the
 * same bytes: a page on its way out, or a page that came in and whose stored copy is kept so that
 * evicting it again unchanged costs nothing, or a page that some entries map while others still
 * name its slot (after a fork).  While an entry names the slot, nobody can write to its page.
 *
 * A slot's number (u64 slot) is that of a swap entry, swp_entry_t.v: its area and its place there.
 */
#ifndef VMF_BACKING_SWAP_H
#define VMF_BACKING_SWAP_H

#include "engine/backing/swap_area.h"
#include "engine/page/page.h"

struct engine;

/*
 * While a slot has loaders, its page is neither written out nor freed by the writer: so whoever
 * loaded the slot's bytes, and then finds the same entry in the page table and no page in the swap
 * cache, holds the right bytes; and the store sees no save() or drop() beside a load().
 */
struct swap_slot {
	u32 count;   /* references, loaders among them */
	u16 loaders; /* of these: faults that are loading it */
	bool saved;  /* the store has bytes of it */
	bool kept;   /* its page is mapped and no entry names it: a kept copy, if it is saved */
	struct page *page; /* swap cache, or NULL */
	u64 shadow;	   /* what is remembered of the page (reclaim/workingset.h); 0: nothing */
};

#define MAX_SWAP_AREAS 24 /* Linux: 32 less those types that mean something else */
#define SWAP_CPUS      16 /* CPUs with clusters of their own; more share */

struct swap {
	spinlock_t lock;			 /* guards areas, slots and all below; innermost */
	struct swap_area *areas[MAX_SWAP_AREAS]; /* by type; NULL: none.  An area stays while a slot
						  * of it is in use */
	struct swap_area *order[MAX_SWAP_AREAS]; /* those that give slots, the next first */
	unsigned nr_order;
	int least_prio;	     /* given by SWAP_PRIO_NEXT last */
	_Atomic s64 nr_free; /* slots that can be had */
	_Atomic u64 used;    /* slots */
	_Atomic u64 kept;    /* slots kept only for a page that is mapped */
	struct {
		struct swap_area *area; /* NULL: none */
		struct swap_cluster *cluster;
	} current[SWAP_CPUS];
};

/* The area of a slot that is in use; and the slot. */
static inline struct swap_area *swap_area_of(const struct swap *s, u64 slot)
{
	return s->areas[swp_type((swp_entry_t){ slot })];
}
static inline struct swap_slot *swap_slot(const struct swap *s, u64 slot)
{
	return &swap_area_of(s, slot)->slots[swp_offset((swp_entry_t){ slot })];
}
/* Is it in use?  For checks: nobody else active. */
bool swap_slot_in_use(const struct swap *s, u64 slot);

void swap_init(struct swap *s);
/* Is there a slot to be had? */
static inline bool swap_has_room(const struct swap *s)
{
	return atomic_load_explicit(&s->nr_free, memory_order_relaxed) > 0;
}

/* ---- the store's part: as struct store_ops has it.  The slot has a reference. ---- */

/* When the store has no room, kept copies make some. */
int swap_save(struct engine *e, u64 slot, const void *bytes);
int swap_load(struct swap *s, u64 slot, void *bytes);
bool swap_same(struct swap *s, u64 slot, const void *bytes);
void swap_drop(struct swap *s, u64 slot);

/* A fresh slot with count 1, or -ENOSPC. */
s64 swap_alloc(struct swap *s);
/* Another entry for a slot that has one, whose page-table lock is held. */
void swap_dup(struct swap *s, u64 slot);
/* Drop one; the last drops it from the store and frees it. */
void swap_put(struct swap *s, u64 slot);
void swap_put_many(struct swap *s, const u64 *slots, unsigned n);

/* The page in the swap cache with a reference taken, or NULL. */
struct page *swap_cache_get(struct swap *s, u64 slot);
/* Enter and leave: the swap cache holds a reference to the slot and one to the page.  Page lock
 * held, or nobody else knows the page. */
void swap_cache_add(struct engine *e, struct page *page, u64 slot);
/* The same if the slot has no page yet; false: it has one. */
bool swap_cache_try_add(struct engine *e, struct page *page, u64 slot);
void swap_cache_del(struct engine *e, struct page *page);
/* `to`, which nobody knows, is there from now on instead of a page that has `others` references
 * besides the swap cache's and its entries'; that one's goes.  False: it has more, and nothing has
 * changed.  Both locked. */
bool swap_cache_replace(struct engine *e, struct page *page, struct page *to, u32 others);

/* ---- the journey out and back (callers: reclaim/take.c, fault/swap.c) ---- */

/*
 * Pages that are to be taken get what their entries shall say: a kept page its slot, others a new
 * one; each is in the swap cache afterwards, and left[i] names its slot with a reference for the
 * entry.  Page locks held.  Returns how many from the first on; fewer when slots run out.
 */
unsigned swap_begin_out(struct engine *e, struct page **pages, unsigned n, swp_entry_t *left);
/* The page was not taken after all: the entry's reference goes; a slot that has nothing saved and
 * that no other entry names goes, too.  The page is mapped. */
void swap_cancel_out(struct engine *e, struct page *page);

/* How many entries name the page's slot, if it has one?  Page lock held: so no mapping becomes one
 * of them meanwhile, nor the other way round. */
unsigned swap_page_entries(struct engine *e, struct page *page);
/* A page in the swap cache whose slot, of this area, no entry names, at or behind *at, which
 * becomes the slot's place: with a reference.  NULL: no more. */
struct page *swap_next_unnamed(struct swap *s, unsigned type, u64 *at);
/* Leave the swap cache, if the slot is only kept.  Page lock held.  Whether it did. */
bool swap_drop_kept(struct engine *e, struct page *page);

/* Who, besides the swap cache, refers to the slot of a page on its way out?  Page lock held. */
enum swap_owners { SWAP_NOBODY, SWAP_ENTRY, SWAP_WANTED /* a fault is loading it, too */ };
enum swap_owners swap_owners(struct swap *s, u64 slot);
/* A page has been evicted to the slot, of which the caller has a reference: what to remember; and,
 * when it comes back, what was. */
void swap_set_shadow(struct swap *s, u64 slot, u64 shadow);
u64 swap_shadow(struct swap *s, u64 slot);
/* The writer's note, page lock held: the store has (no longer has) bytes of the slot. */
void swap_set_saved(struct swap *s, u64 slot, bool saved);

/* Pin the slots of `n` entries for loading, up to (and without) the first that has a page in the
 * swap cache.  Returns how many; 0: *cached is the first one's page with a reference, and the
 * first is pinned.  Page-table lock held (the entries' references are there). */
unsigned swap_pin(struct swap *s, const u64 *slots, unsigned n, struct page **cached);
void swap_unpin(struct swap *s, const u64 *slots, unsigned n);
/* How many pinned slots from the first on have still no page in the swap cache; bit i of *sole, for
 * each of these: one entry names it, no other.  PTL held. */
unsigned swap_uncached(struct swap *s, const u64 *slots, unsigned n, u64 *sole);
/*
 * The entries of `n` pinned slots now map these pages: the entry's reference and the pin are
 * dropped.  A page stays in the swap cache (or enters it) while other entries name its slot, or if
 * there is room for kept copies and the slot is saved; otherwise the slot goes.  shadows[i] is
 * what was remembered of the page.  The pages are locked or known to nobody else, and their map
 * counts tell of the mapping already.
 */
void swap_end_in(struct engine *e, struct page **pages, const u64 *slots, unsigned n, u64 *shadows);

#endif
