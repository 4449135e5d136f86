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
#include "engine/reclaim/internal.h"

void swap_init(struct swap *s)
{
	spin_init(&s->lock);
	s->least_prio = SWAP_PRIO_NEXT;
	atomic_init(&s->used, 0);
	atomic_init(&s->kept, 0);
}

bool swap_slot_in_use(const struct swap *s, u64 nr)
{
	unsigned type = swp_type((swp_entry_t){ nr });
	u64 at = swp_offset((swp_entry_t){ nr });

	return type < MAX_SWAP_AREAS && s->areas[type] &&
	       at / SWAP_CLUSTER < s->areas[type]->next && at < s->areas[type]->store->nr_slots &&
	       swap_slot(s, nr)->count;
}

/* With the lock; read anywhere. */
static void count_used(struct swap *s, s64 n)
{
	atomic_store_explicit(&s->used,
			      atomic_load_explicit(&s->used, memory_order_relaxed) + (u64)n,
			      memory_order_relaxed);
}

static struct swap_slot *slot_of(struct swap *s, u64 nr)
{
	struct swap_slot *slot = swap_slot(s, nr);

	VMF_ASSERT(spin_is_locked(&s->lock) && swp_type((swp_entry_t){ nr }) < MAX_SWAP_AREAS);
	if (unlikely(!slot->count))
		vmf_panic("swap: slot %lu is not in use", (unsigned long)nr);
	return slot;
}

static s64 take_slot(struct swap *s, unsigned cpu)
{
	s64 nr = swap_take_slot(s, cpu);

	if (nr < 0)
		return nr;
	*swap_slot(s, nr) = (struct swap_slot){ .count = 1 };
	count_used(s, 1);
	return nr;
}

/* ---- the store's part ---- */

static struct store *store_of(struct swap *s, u64 nr)
{
	return swap_area_of(s, nr)->store;
}

int swap_save(struct engine *e, u64 nr, const void *bytes)
{
	struct swap_area *a = swap_area_of(&e->swap, nr);
	u64 at = swp_offset((swp_entry_t){ nr });
	int result = a->store->ops->save(a->store, at, bytes);

	if (unlikely(result == -ENOSPC) && lru_drop_kept(e))
		result = a->store->ops->save(a->store, at, bytes);
	if (unlikely(result == -ENOSPC))
		atomic_store_explicit(&a->refusing, true, memory_order_relaxed);
	return result;
}

int swap_load(struct swap *s, u64 nr, void *bytes)
{
	struct store *store = store_of(s, nr);

	return store->ops->load(store, swp_offset((swp_entry_t){ nr }), bytes);
}

bool swap_same(struct swap *s, u64 nr, const void *bytes)
{
	struct store *store = store_of(s, nr);

	return store->ops->same(store, swp_offset((swp_entry_t){ nr }), bytes);
}

void swap_drop(struct swap *s, u64 nr)
{
	struct store *store = store_of(s, nr);

	store->ops->drop(store, swp_offset((swp_entry_t){ nr }));
}

static void set_kept(struct swap *s, struct swap_slot *slot, bool kept)
{
	if (slot->kept == kept)
		return;
	slot->kept = kept;
	atomic_store_explicit(
		&s->kept, atomic_load_explicit(&s->kept, memory_order_relaxed) + (kept ? 1 : -1),
		memory_order_relaxed);
}

/* Drop a reference; true: it was the last, and the caller gives the slot back with give_slot()
 * after it has told the store. */
static bool put_slot(struct swap *s, u64 nr)
{
	struct swap_slot *slot = slot_of(s, nr);

	slot->count--;
	if (unlikely(slot->page && slot->count == 1 && page_mapcount(slot->page)))
		set_kept(s, slot, true); /* it was the last entry's */
	return !slot->count;
}

/* Entries that name the slot. */
static unsigned entries_of(const struct swap_slot *slot)
{
	return slot->count - slot->loaders - (slot->page != NULL);
}

/* The last references of these are gone.  Only now may the numbers be used again. */
static void drop_slots(struct swap *s, const u64 *slots, unsigned n)
{
	if (!n)
		return;
	for (unsigned i = 0; i < n; i++)
		if (swap_slot(s, slots[i])->saved)
			swap_drop(s, slots[i]);
	spin_lock(&s->lock);
	for (unsigned i = 0; i < n; i++)
		swap_give_slot(s, slots[i]);
	count_used(s, -(s64)n);
	spin_unlock(&s->lock);
}

s64 swap_alloc(struct swap *s)
{
	unsigned cpu = machine_cpu();
	s64 nr;

	spin_lock(&s->lock);
	nr = take_slot(s, cpu);
	spin_unlock(&s->lock);
	return nr;
}

void swap_dup(struct swap *s, u64 nr)
{
	struct swap_slot *slot;

	spin_lock(&s->lock);
	slot = slot_of(s, nr);
	slot->count++;
	if (slot->page && page_test(slot->page, PG_ANON_EXCLUSIVE))
		page_clear(slot->page, PG_ANON_EXCLUSIVE);
	spin_unlock(&s->lock);
}

void swap_put_many(struct swap *s, const u64 *slots, unsigned n)
{
	u64 last[MMU_BATCH];
	unsigned nr_last = 0;

	while (n) {
		unsigned part = min_of(n, (unsigned)MMU_BATCH);

		spin_lock(&s->lock);
		for (unsigned i = 0; i < part; i++)
			if (put_slot(s, slots[i]))
				last[nr_last++] = slots[i];
		spin_unlock(&s->lock);
		drop_slots(s, last, nr_last);
		nr_last = 0;
		slots += part;
		n -= part;
	}
}

void swap_put(struct swap *s, u64 nr)
{
	swap_put_many(s, &nr, 1);
}

/* ---- the swap cache ---- */

struct page *swap_cache_get(struct swap *s, u64 nr)
{
	struct page *page;

	spin_lock(&s->lock);
	page = slot_of(s, nr)->page;
	if (page)
		page_get(page);
	spin_unlock(&s->lock);
	return page;
}

/* The slot's reference is the caller's to give. */
static void cache_enter(struct swap_slot *slot, struct page *page, u64 nr)
{
	VMF_ASSERT(!slot->page && !page_test(page, PG_SWAPCACHE));
	slot->page = page;
	page->swap = (swp_entry_t){ nr };
	page_get(page);
	page_set(page, PG_SWAPCACHE);
}

bool swap_cache_try_add(struct engine *e, struct page *page, u64 nr)
{
	struct swap *s = &e->swap;
	bool added;

	spin_lock(&s->lock);
	added = !slot_of(s, nr)->page;
	if (added) {
		swap_slot(s, nr)->count++;
		cache_enter(swap_slot(s, nr), page, nr);
	}
	spin_unlock(&s->lock);
	return added;
}

void swap_cache_add(struct engine *e, struct page *page, u64 nr)
{
	if (!swap_cache_try_add(e, page, nr))
		vmf_panic("swap: slot %lu has a page", (unsigned long)nr);
}

/* Leave; returns whether the slot's last reference went.  The page's is the caller's to drop. */
static bool cache_leave(struct swap *s, struct page *page)
{
	u64 nr = page->swap.v;
	struct swap_slot *slot = slot_of(s, nr);

	if (slot->page != page)
		vmf_panic("swap: slot %lu has another page", (unsigned long)nr);
	slot->page = NULL;
	set_kept(s, slot, false);
	page_clear(page, PG_SWAPCACHE);
	page->swap = (swp_entry_t){ 0 };
	return put_slot(s, nr);
}

void swap_cache_del(struct engine *e, struct page *page)
{
	struct swap *s = &e->swap;
	u64 nr = page->swap.v;
	bool last;

	spin_lock(&s->lock);
	last = cache_leave(s, page);
	spin_unlock(&s->lock);
	if (last)
		drop_slots(s, &nr, 1);
	page_put(e, page);
}

bool swap_cache_replace(struct engine *e, struct page *page, struct page *to, u32 others)
{
	struct swap *s = &e->swap;
	u64 nr = page->swap.v;
	bool alone;

	/* Who looks the slot up gets his reference under the lock. */
	spin_lock(&s->lock);
	alone = page_refs_are(e, page, others + 1);
	if (alone) {
		swap_slot(s, nr)->page = NULL;
		page_clear(page, PG_SWAPCACHE);
		page->swap = (swp_entry_t){ 0 };
		cache_enter(swap_slot(s, nr), to, nr);
	}
	spin_unlock(&s->lock);
	if (alone)
		page_put(e, page);
	return alone;
}

unsigned swap_page_entries(struct engine *e, struct page *page)
{
	struct swap *s = &e->swap;
	unsigned n = 0;

	spin_lock(&s->lock);
	if (page_test(page, PG_SWAPCACHE))
		n = entries_of(slot_of(s, page->swap.v));
	spin_unlock(&s->lock);
	return n;
}

struct page *swap_next_unnamed(struct swap *s, unsigned type, u64 *at)
{
	const struct swap_area *a = s->areas[type];
	struct page *page = NULL;
	u64 end;

	spin_lock(&s->lock);
	for (end = min_of(a->next * SWAP_CLUSTER, a->store->nr_slots); *at < end; ++*at) {
		const struct swap_slot *slot = &a->slots[*at];

		if (slot->count && slot->page && !entries_of(slot)) {
			page = slot->page;
			page_get(page);
			break;
		}
	}
	spin_unlock(&s->lock);
	return page;
}

bool swap_drop_kept(struct engine *e, struct page *page)
{
	struct swap *s = &e->swap;
	bool kept, last = false;
	u64 nr = 0;

	spin_lock(&s->lock);
	kept = page_test(page, PG_SWAPCACHE) && swap_slot(s, page->swap.v)->kept;
	if (kept) {
		nr = page->swap.v;
		last = cache_leave(s, page);
	}
	spin_unlock(&s->lock);
	if (last)
		drop_slots(s, &nr, 1);
	if (kept)
		page_put(e, page);
	return kept;
}

/* ---- the journey out ---- */

unsigned swap_begin_out(struct engine *e, struct page **pages, unsigned n, swp_entry_t *left)
{
	struct swap *s = &e->swap;
	unsigned cpu = machine_cpu(), i;

	spin_lock(&s->lock);
	for (i = 0; i < n; i++) {
		struct page *page = pages[i];
		struct swap_slot *slot;
		s64 nr;

		if (page_test(page, PG_SWAPCACHE)) {
			nr = page->swap.v;
			slot = slot_of(s, nr);
			set_kept(s, slot, false);
		} else {
			nr = take_slot(s, cpu);
			if (nr < 0)
				break;
			slot = swap_slot(s, nr);
			cache_enter(slot, page, nr);
		}
		slot->count++; /* the entry's */
		slot->shadow = workingset_eviction(e, page);
		left[i] = (swp_entry_t){ nr };
	}
	spin_unlock(&s->lock);
	if (unlikely(i < n))
		stat_add(&e->stats->no_slots, n - i);
	return i;
}

void swap_cancel_out(struct engine *e, struct page *page)
{
	struct swap *s = &e->swap;
	u64 nr = page->swap.v;
	struct swap_slot *slot;
	bool left_cache = false, last;

	spin_lock(&s->lock);
	slot = slot_of(s, nr);
	last = put_slot(s, nr); /* never the last: the cache has one */
	if (!entries_of(slot) && !slot->saved) {
		last = cache_leave(s, page);
		left_cache = true;
	}
	spin_unlock(&s->lock);
	if (last)
		drop_slots(s, &nr, 1);
	if (left_cache)
		page_put(e, page);
}

enum swap_owners swap_owners(struct swap *s, u64 nr)
{
	enum swap_owners owners;
	struct swap_slot *slot;

	spin_lock(&s->lock);
	slot = slot_of(s, nr);
	owners = slot->loaders ? SWAP_WANTED : slot->count > 1 ? SWAP_ENTRY : SWAP_NOBODY;
	spin_unlock(&s->lock);
	return owners;
}

void swap_set_saved(struct swap *s, u64 nr, bool saved)
{
	spin_lock(&s->lock);
	slot_of(s, nr)->saved = saved;
	spin_unlock(&s->lock);
}

void swap_set_shadow(struct swap *s, u64 nr, u64 shadow)
{
	spin_lock(&s->lock);
	slot_of(s, nr)->shadow = shadow;
	spin_unlock(&s->lock);
}

u64 swap_shadow(struct swap *s, u64 nr)
{
	u64 shadow;

	spin_lock(&s->lock);
	shadow = slot_of(s, nr)->shadow;
	spin_unlock(&s->lock);
	return shadow;
}

/* ---- the journey back ---- */

unsigned swap_pin(struct swap *s, const u64 *slots, unsigned n, struct page **cached)
{
	unsigned i;

	*cached = NULL;
	spin_lock(&s->lock);
	for (i = 0; i < n; i++) {
		struct swap_slot *slot = slot_of(s, slots[i]);

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
	spin_unlock(&s->lock);
	return i;
}

void swap_unpin(struct swap *s, const u64 *slots, unsigned n)
{
	u64 last[MMU_BATCH];
	unsigned nr_last = 0;

	spin_lock(&s->lock);
	for (unsigned i = 0; i < n; i++) {
		slot_of(s, slots[i])->loaders--;
		if (put_slot(s, slots[i]))
			last[nr_last++] = slots[i];
	}
	spin_unlock(&s->lock);
	drop_slots(s, last, nr_last);
}

unsigned swap_uncached(struct swap *s, const u64 *slots, unsigned n, u64 *sole)
{
	unsigned i;

	*sole = 0;
	spin_lock(&s->lock);
	for (i = 0; i < n; i++) {
		if (swap_slot(s, slots[i])->page)
			break;
		if (entries_of(swap_slot(s, slots[i])) == 1)
			*sole |= 1ULL << i;
	}
	spin_unlock(&s->lock);
	return i;
}

/*
 * Is there room for one more kept copy?  Where it is bounded by what is saved: of the pages that
 * are out, compression saves (out - stored); the kept copies, stored as well as the others on
 * average, may take half of that.  All in pages, both sides times the pages in the store.
 */
static bool room_for_kept(struct engine *e, u64 nr)
{
	const struct swap_area *a = swap_area_of(&e->swap, nr);
	const struct store_stats *stats = &a->store->stats;
	u64 kept = atomic_load_explicit(&e->swap.kept, memory_order_relaxed);
	u64 all, stored;

	if (kept >= e->config.kept_slots || !atomic_load_explicit(&a->on, memory_order_relaxed))
		return false;
	if (!e->config.kept_within_savings)
		return true;
	all = atomic_load_explicit(&stats->raw_bytes, memory_order_relaxed) >> PAGE_SHIFT;
	stored = atomic_load_explicit(&stats->stored_bytes, memory_order_relaxed) >> PAGE_SHIFT;
	return all > kept && all > stored && 2 * kept * stored <= (all - kept) * (all - stored);
}

void swap_end_in(struct engine *e, struct page **pages, const u64 *slots, unsigned n, u64 *shadows)
{
	struct swap *s = &e->swap;
	struct page *left[MMU_BATCH];
	u64 last[MMU_BATCH];
	unsigned nr_last = 0, nr_left = 0;

	spin_lock(&s->lock);
	for (unsigned i = 0; i < n; i++) {
		struct page *page = pages[i];
		struct swap_slot *slot = slot_of(s, slots[i]);
		bool in_cache = slot->page == page;
		bool keep = (slot->saved && room_for_kept(e, slots[i])) || entries_of(slot) > 1;

		shadows[i] = slot->shadow;
		slot->loaders--;
		slot->count -= 1; /* the pin; the entry's is still there */
		if (keep) {
			if (in_cache)
				put_slot(s, slots[i]);
			else
				cache_enter(slot, page, slots[i]); /* with the entry's */
			if (slot->count == 1)
				set_kept(s, slot, true);
			continue;
		}
		if (in_cache) {
			cache_leave(s, page);
			left[nr_left++] = page;
		}
		if (put_slot(s, slots[i]))
			last[nr_last++] = slots[i];
	}
	spin_unlock(&s->lock);
	drop_slots(s, last, nr_last);
	for (unsigned i = 0; i < nr_left; i++)
		page_put(e, left[i]);
}
