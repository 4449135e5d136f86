/* SPDX-License-Identifier: MIT */
/*
 * Swap slots and the swap cache.
 *
 * A slot is referenced by page-table entries, by its page while that has PG_SWAPCACHE, and by
 * whoever is loading it just now.  The swap cache is the slot's pointer to a page that holds the
 * same bytes: a page on its way out, or a page that came in and whose stored copy is kept so that
 * evicting it again unchanged costs nothing, or a page that some entries map while others still
 * name its slot (after a fork).  While an entry names the slot, nobody can write to its page.
 */
#ifndef VMF_BACKING_SWAP_H
#define VMF_BACKING_SWAP_H

#include "engine/backing/store.h"
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

struct swap_area {
	struct store *store;
	struct swap_slot *slots; /* machine's memory, store->nr_slots of them, zeroed */
	spinlock_t lock;	 /* guards slots and all below; innermost */
	u64 *free_stack;	 /* slot numbers that were freed */
	u64 nr_free_stack;
	u64 next; /* never used yet from here on */
	_Atomic u64 used;
	_Atomic u64 kept; /* slots kept only for a page that is mapped */
};

/* slots and free_stack each have room for store->nr_slots entries (machine's memory, zeroed). */
void swap_init(struct swap_area *a, struct store *store, struct swap_slot *slots, u64 *free_stack);

/* A fresh slot with count 1, or -ENOSPC. */
s64 swap_alloc(struct swap_area *a);
/* Another entry for a slot that has one, whose page-table lock is held. */
void swap_dup(struct swap_area *a, u64 slot);
/* Drop one; the last drops it from the store and frees it. */
void swap_put(struct swap_area *a, u64 slot);
void swap_put_many(struct swap_area *a, const u64 *slots, unsigned n);

/* The page in the swap cache with a reference taken, or NULL. */
struct page *swap_cache_get(struct swap_area *a, u64 slot);
/* Enter and leave: the swap cache holds a reference to the slot and one to the page.  Page lock
 * held, or nobody else knows the page. */
void swap_cache_add(struct engine *e, struct page *page, u64 slot);
/* The same if the slot has no page yet; false: it has one. */
bool swap_cache_try_add(struct engine *e, struct page *page, u64 slot);
void swap_cache_del(struct engine *e, struct page *page);

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
/* Is the slot's one entry all that has these bytes, but perhaps a page that nobody maps?  That
 * entry's page-table lock held. */
bool swap_is_sole(struct engine *e, u64 slot);
/* Leave the swap cache, if the slot is only kept.  Page lock held.  Whether it did. */
bool swap_drop_kept(struct engine *e, struct page *page);

/* Who, besides the swap cache, refers to the slot of a page on its way out?  Page lock held. */
enum swap_owners { SWAP_NOBODY, SWAP_ENTRY, SWAP_WANTED /* a fault is loading it, too */ };
enum swap_owners swap_owners(struct swap_area *a, u64 slot);
/* A page has been evicted to the slot, of which the caller has a reference: what to remember; and,
 * when it comes back, what was. */
void swap_set_shadow(struct swap_area *a, u64 slot, u64 shadow);
u64 swap_shadow(struct swap_area *a, u64 slot);
/* The writer's note, page lock held: the store has (no longer has) bytes of the slot. */
void swap_set_saved(struct swap_area *a, u64 slot, bool saved);

/* Pin the slots of `n` entries for loading, up to (and without) the first that has a page in the
 * swap cache.  Returns how many; 0: *cached is the first one's page with a reference, and the
 * first is pinned.  Page-table lock held (the entries' references are there). */
unsigned swap_pin(struct swap_area *a, const u64 *slots, unsigned n, struct page **cached);
void swap_unpin(struct swap_area *a, const u64 *slots, unsigned n);
/* How many pinned slots from the first on have still no page in the swap cache; bit i of *sole, for
 * each of these: one entry names it, no other.  PTL held. */
unsigned swap_uncached(struct swap_area *a, const u64 *slots, unsigned n, u64 *sole);
/*
 * The entries of `n` pinned slots now map these pages: the entry's reference and the pin are
 * dropped.  A page stays in the swap cache (or enters it) while other entries name its slot, or if
 * there is room for kept copies and the slot is saved; otherwise the slot goes.  shadows[i] is
 * what was remembered of the page.  The pages are locked or known to nobody else, and their map
 * counts tell of the mapping already.
 */
void swap_end_in(struct engine *e, struct page **pages, const u64 *slots, unsigned n, u64 *shadows);

#endif
