/* SPDX-License-Identifier: MIT */
/*
 * Swap slots and the swap cache.
 *
 * Who holds references to a slot, by state of its page:
 *
 *   on its way out, in the swap cache   entry + cache
 *   the same, entry gone (unmapped)     cache            the writer frees it
 *   out                                 entry
 *   mapped again, copy kept             cache            slot->kept
 *   mapped here, out there (fork)       entries + cache
 *
 * and besides, each fault that is loading the slot.  All of it is under swap->lock, which is held
 * for a batch and never over a call of the store.
 */
#include "engine/base/errno.h"
#include "engine/base/check.h"
#include "engine/engine.h"
#include "engine/reclaim/workingset.h"

void swap_init(struct swap_area *a, struct store *store, struct swap_slot *slots, u64 *free_stack)
{
	a->store = store;
	a->slots = slots;
	a->free_stack = free_stack;
	a->nr_free_stack = 0;
	a->next = 0;
	spin_init(&a->lock);
	atomic_init(&a->used, 0);
	atomic_init(&a->kept, 0);
}

static void count_used(struct swap_area *a, s64 n)
{
	atomic_fetch_add_explicit(&a->used, n, memory_order_relaxed);
}

static struct swap_slot *slot_of(struct swap_area *a, u64 nr)
{
	struct swap_slot *slot = &a->slots[nr];

	VMF_ASSERT(spin_is_locked(&a->lock));
	if (unlikely(nr >= a->next || !slot->count))
		vmf_panic("swap: slot %lu is not in use", (unsigned long)nr);
	return slot;
}

static s64 take_slot(struct swap_area *a)
{
	struct swap_slot *slot;
	u64 nr;

	if (a->nr_free_stack)
		nr = a->free_stack[--a->nr_free_stack];
	else if (a->next < a->store->nr_slots)
		nr = a->next++;
	else
		return -ENOSPC;
	slot = &a->slots[nr];
	slot->count = 1;
	slot->loaders = 0;
	slot->saved = slot->kept = false;
	slot->page = NULL;
	slot->shadow = 0;
	count_used(a, 1);
	return nr;
}

static void set_kept(struct swap_area *a, struct swap_slot *slot, bool kept)
{
	if (slot->kept == kept)
		return;
	slot->kept = kept;
	atomic_store_explicit(
		&a->kept, atomic_load_explicit(&a->kept, memory_order_relaxed) + (kept ? 1 : -1),
		memory_order_relaxed);
}

/* Drop a reference; true: it was the last, and the caller gives the slot back with give_slot()
 * after it has told the store. */
static bool put_slot(struct swap_area *a, u64 nr)
{
	struct swap_slot *slot = slot_of(a, nr);

	slot->count--;
	if (unlikely(slot->page && slot->count == 1 && page_mapcount(slot->page)))
		set_kept(a, slot, true); /* it was the last entry's */
	return !slot->count;
}

/* Entries that name the slot. */
static unsigned entries_of(const struct swap_slot *slot)
{
	return slot->count - slot->loaders - (slot->page != NULL);
}

static void give_slot(struct swap_area *a, u64 nr)
{
	a->free_stack[a->nr_free_stack++] = nr;
	count_used(a, -1);
}

/* The last references of these are gone.  Only now may the numbers be used again. */
static void drop_slots(struct swap_area *a, const u64 *slots, unsigned n)
{
	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		if (a->slots[slots[i]].saved)
			a->store->ops->drop(a->store, slots[i]);
	spin_lock(&a->lock);
	for (unsigned i = 0; i < n; i++)
		give_slot(a, slots[i]);
	spin_unlock(&a->lock);
}

s64 swap_alloc(struct swap_area *a)
{
	s64 nr;

	spin_lock(&a->lock);
	nr = take_slot(a);
	spin_unlock(&a->lock);
	return nr;
}

void swap_dup(struct swap_area *a, u64 nr)
{
	struct swap_slot *slot;

	spin_lock(&a->lock);
	slot = slot_of(a, nr);
	slot->count++;
	if (slot->page && page_test(slot->page, PG_ANON_EXCLUSIVE))
		page_clear(slot->page, PG_ANON_EXCLUSIVE);
	spin_unlock(&a->lock);
}

void swap_put_many(struct swap_area *a, const u64 *slots, unsigned n)
{
	u64 last[MMU_BATCH];
	unsigned nr_last = 0;

	while (n) {
		unsigned part = min_of(n, (unsigned)MMU_BATCH);

		spin_lock(&a->lock);
		for (unsigned i = 0; i < part; i++)
			if (put_slot(a, slots[i]))
				last[nr_last++] = slots[i];
		spin_unlock(&a->lock);
		drop_slots(a, last, nr_last);
		nr_last = 0;
		slots += part;
		n -= part;
	}
}

void swap_put(struct swap_area *a, u64 nr)
{
	swap_put_many(a, &nr, 1);
}

/* ---- the swap cache ---- */

struct page *swap_cache_get(struct swap_area *a, u64 nr)
{
	struct page *page;

	spin_lock(&a->lock);
	page = slot_of(a, nr)->page;
	if (page)
		page_get(page);
	spin_unlock(&a->lock);
	return page;
}

/* The slot's reference is the caller's to give. */
static void cache_enter(struct swap_slot *slot, struct page *page, u64 nr)
{
	VMF_ASSERT(!slot->page && !page_test(page, PG_SWAPCACHE));
	slot->page = page;
	page->swap = swp_entry(0, nr);
	page_get(page);
	page_set(page, PG_SWAPCACHE);
}

bool swap_cache_try_add(struct engine *e, struct page *page, u64 nr)
{
	struct swap_area *a = &e->swap;
	bool added;

	spin_lock(&a->lock);
	added = !slot_of(a, nr)->page;
	if (added) {
		a->slots[nr].count++;
		cache_enter(&a->slots[nr], page, nr);
	}
	spin_unlock(&a->lock);
	return added;
}

void swap_cache_add(struct engine *e, struct page *page, u64 nr)
{
	if (!swap_cache_try_add(e, page, nr))
		vmf_panic("swap: slot %lu has a page", (unsigned long)nr);
}

/* Leave; returns whether the slot's last reference went.  The page's is the caller's to drop. */
static bool cache_leave(struct swap_area *a, struct page *page)
{
	u64 nr = swp_offset(page->swap);
	struct swap_slot *slot = slot_of(a, nr);

	if (slot->page != page)
		vmf_panic("swap: slot %lu has another page", (unsigned long)nr);
	slot->page = NULL;
	set_kept(a, slot, false);
	page_clear(page, PG_SWAPCACHE);
	page->swap = (swp_entry_t){ 0 };
	return put_slot(a, nr);
}

void swap_cache_del(struct engine *e, struct page *page)
{
	struct swap_area *a = &e->swap;
	u64 nr = swp_offset(page->swap);
	bool last;

	spin_lock(&a->lock);
	last = cache_leave(a, page);
	spin_unlock(&a->lock);
	if (last)
		drop_slots(a, &nr, 1);
	page_put(e, page);
}

unsigned swap_page_entries(struct engine *e, struct page *page)
{
	struct swap_area *a = &e->swap;
	unsigned n = 0;

	spin_lock(&a->lock);
	if (page_test(page, PG_SWAPCACHE))
		n = entries_of(slot_of(a, swp_offset(page->swap)));
	spin_unlock(&a->lock);
	return n;
}

bool swap_is_sole(struct engine *e, u64 nr)
{
	struct swap_area *a = &e->swap;
	const struct swap_slot *slot;
	bool sole;

	spin_lock(&a->lock);
	slot = slot_of(a, nr);
	sole = entries_of(slot) == 1 && (!slot->page || !page_mapcount(slot->page));
	spin_unlock(&a->lock);
	return sole;
}

bool swap_drop_kept(struct engine *e, struct page *page)
{
	struct swap_area *a = &e->swap;
	bool kept, last = false;
	u64 nr = 0;

	spin_lock(&a->lock);
	kept = page_test(page, PG_SWAPCACHE) && a->slots[swp_offset(page->swap)].kept;
	if (kept) {
		nr = swp_offset(page->swap);
		last = cache_leave(a, page);
	}
	spin_unlock(&a->lock);
	if (last)
		drop_slots(a, &nr, 1);
	if (kept)
		page_put(e, page);
	return kept;
}

/* ---- the journey out ---- */

unsigned swap_begin_out(struct engine *e, struct page **pages, unsigned n, swp_entry_t *left)
{
	struct swap_area *a = &e->swap;
	u64 shadow = workingset_eviction(e, n);
	unsigned i;

	spin_lock(&a->lock);
	for (i = 0; i < n; i++) {
		struct page *page = pages[i];
		struct swap_slot *slot;
		s64 nr;

		if (page_test(page, PG_SWAPCACHE)) {
			nr = swp_offset(page->swap);
			slot = slot_of(a, nr);
			set_kept(a, slot, false);
		} else {
			nr = take_slot(a);
			if (nr < 0)
				break;
			slot = &a->slots[nr];
			cache_enter(slot, page, nr);
		}
		slot->count++; /* the entry's */
		slot->shadow = shadow;
		left[i] = swp_entry(0, nr);
	}
	spin_unlock(&a->lock);
	return i;
}

void swap_cancel_out(struct engine *e, struct page *page)
{
	struct swap_area *a = &e->swap;
	u64 nr = swp_offset(page->swap);
	struct swap_slot *slot;
	bool left_cache = false, last;

	spin_lock(&a->lock);
	slot = slot_of(a, nr);
	last = put_slot(a, nr); /* never the last: the cache has one */
	if (!entries_of(slot) && !slot->saved) {
		last = cache_leave(a, page);
		left_cache = true;
	}
	spin_unlock(&a->lock);
	if (last)
		drop_slots(a, &nr, 1);
	if (left_cache)
		page_put(e, page);
}

enum swap_owners swap_owners(struct swap_area *a, u64 nr)
{
	enum swap_owners owners;
	struct swap_slot *slot;

	spin_lock(&a->lock);
	slot = slot_of(a, nr);
	owners = slot->loaders ? SWAP_WANTED : slot->count > 1 ? SWAP_ENTRY : SWAP_NOBODY;
	spin_unlock(&a->lock);
	return owners;
}

void swap_set_saved(struct swap_area *a, u64 nr, bool saved)
{
	spin_lock(&a->lock);
	slot_of(a, nr)->saved = saved;
	spin_unlock(&a->lock);
}

void swap_set_shadow(struct swap_area *a, u64 nr, u64 shadow)
{
	spin_lock(&a->lock);
	slot_of(a, nr)->shadow = shadow;
	spin_unlock(&a->lock);
}

u64 swap_shadow(struct swap_area *a, u64 nr)
{
	u64 shadow;

	spin_lock(&a->lock);
	shadow = slot_of(a, nr)->shadow;
	spin_unlock(&a->lock);
	return shadow;
}

/* ---- the journey back ---- */

unsigned swap_pin(struct swap_area *a, const u64 *slots, unsigned n, struct page **cached)
{
	unsigned i;

	*cached = NULL;
	spin_lock(&a->lock);
	for (i = 0; i < n; i++) {
		struct swap_slot *slot = slot_of(a, slots[i]);

		if (slot->page && i)
			break;
		slot->count++;
		slot->loaders++;
		if (slot->page) {
			*cached = slot->page;
			page_get(slot->page);
			break;
		}
	}
	spin_unlock(&a->lock);
	return i;
}

void swap_unpin(struct swap_area *a, const u64 *slots, unsigned n)
{
	u64 last[MMU_BATCH];
	unsigned nr_last = 0;

	spin_lock(&a->lock);
	for (unsigned i = 0; i < n; i++) {
		slot_of(a, slots[i])->loaders--;
		if (put_slot(a, slots[i]))
			last[nr_last++] = slots[i];
	}
	spin_unlock(&a->lock);
	drop_slots(a, last, nr_last);
}

unsigned swap_uncached(struct swap_area *a, const u64 *slots, unsigned n, u64 *sole)
{
	unsigned i;

	*sole = 0;
	spin_lock(&a->lock);
	for (i = 0; i < n; i++) {
		if (a->slots[slots[i]].page)
			break;
		if (entries_of(&a->slots[slots[i]]) == 1)
			*sole |= 1ULL << i;
	}
	spin_unlock(&a->lock);
	return i;
}

/*
 * Is there room for one more kept copy?  Where it is bounded by what is saved: of the pages that
 * are out, compression saves (out - stored); the kept copies, stored as well as the others on
 * average, may take half of that.  All in pages, both sides times the pages in the store.
 */
static bool room_for_kept(struct engine *e)
{
	const struct store_stats *stats = &e->swap.store->stats;
	u64 kept = atomic_load_explicit(&e->swap.kept, memory_order_relaxed);
	u64 all, stored;

	if (kept >= e->config.kept_slots)
		return false;
	if (!e->config.kept_within_savings)
		return true;
	all = atomic_load_explicit(&stats->raw_bytes, memory_order_relaxed) >> PAGE_SHIFT;
	stored = atomic_load_explicit(&stats->stored_bytes, memory_order_relaxed) >> PAGE_SHIFT;
	return all > kept && all > stored && 2 * kept * stored <= (all - kept) * (all - stored);
}

void swap_end_in(struct engine *e, struct page **pages, const u64 *slots, unsigned n, u64 *shadows)
{
	struct swap_area *a = &e->swap;
	struct page *left[MMU_BATCH];
	u64 last[MMU_BATCH];
	unsigned nr_last = 0, nr_left = 0;

	spin_lock(&a->lock);
	for (unsigned i = 0; i < n; i++) {
		struct page *page = pages[i];
		struct swap_slot *slot = slot_of(a, slots[i]);
		bool in_cache = slot->page == page;
		bool keep = (slot->saved && room_for_kept(e)) || entries_of(slot) > 1;

		shadows[i] = slot->shadow;
		slot->loaders--;
		slot->count -= 1; /* the pin; the entry's is still there */
		if (keep) {
			if (in_cache)
				put_slot(a, slots[i]);
			else
				cache_enter(slot, page, slots[i]); /* with the entry's */
			if (slot->count == 1)
				set_kept(a, slot, true);
			continue;
		}
		if (in_cache) {
			cache_leave(a, page);
			left[nr_left++] = page;
		}
		if (put_slot(a, slots[i]))
			last[nr_last++] = slots[i];
	}
	spin_unlock(&a->lock);
	drop_slots(a, last, nr_last);
	for (unsigned i = 0; i < nr_left; i++)
		page_put(e, left[i]);
}
