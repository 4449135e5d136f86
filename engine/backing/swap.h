/* SPDX-License-Identifier: MIT */
/*
 * Swap slots and the swap cache.
 *
 * A slot is referenced by page-table entries, by its page while that has PG_SWAPCACHE, and by
 * whoever is loading it just now.  The swap cache is the slot's pointer to a page that holds the
 * same bytes: a page on its way out, or a page that came in and whose stored copy is kept so that
 * evicting it again unchanged costs nothing.
 */
#ifndef VMF_BACKING_SWAP_H
#define VMF_BACKING_SWAP_H

#include "engine/backing/store.h"
#include "engine/page/page.h"

struct engine;

struct swap_slot {
	u32 count;	   /* references */
	bool saved;	   /* the store has its bytes */
	struct page *page; /* swap cache, or NULL */
	u64 taken_at;	   /* lru->age when its page was taken: the refault distance */
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
/* Another reference to a slot that has one. */
void swap_dup(struct swap_area *a, u64 slot);
/* Drop one; the last drops it from the store and frees it. */
void swap_put(struct swap_area *a, u64 slot);

/* The page in the swap cache with a reference taken, or NULL. */
struct page *swap_cache_get(struct swap_area *a, u64 slot);
/* Enter (adds a slot reference) and leave (drops it).  Page lock held. */
void swap_cache_add(struct engine *e, struct page *page, u64 slot);
void swap_cache_del(struct engine *e, struct page *page);

#endif
