/* SPDX-License-Identifier: MIT */
/*
 * The classic two lists: active and inactive, with a second chance.
 *
 * Pages come in at the head of the inactive list and are looked at at its tail.  The active list is
 * for pages that were found in use there twice, or that were taken and missed soon after; it gives
 * pages back from its tail while it is the longer one.
 */
#include "engine/reclaim/internal.h"

#define BALANCE_BATCH 64

static void lru_init(struct engine *e)
{
	lru_set_joinable(e, 1u << LRU_INACTIVE);
}

static unsigned lru_place(struct engine *e, struct page *page, enum page_arrival why)
{
	(void)e, (void)page;
	return why == ARRIVED_HOT || why == ARRIVED_IN_USE ? LRU_ACTIVE : LRU_INACTIVE;
}

static void lru_accessed(struct engine *e, struct page *page)
{
	if (page_list(page) != LRU_ACTIVE)
		lru_activate(e, page, LRU_ACTIVE);
}

static void lru_young(struct engine *e, struct page *page)
{
	if (page_list(page) == LRU_ACTIVE)
		return;
	if (page_test_set(page, PG_REFERENCED))
		lru_activate(e, page, LRU_ACTIVE);
	else
		lru_move(e, page, LRU_INACTIVE);
}

/* From the tail of the active to the inactive list while that is the shorter one. */
static void balance(struct engine *e)
{
	for (unsigned i = 0; i < BALANCE_BATCH; i++) {
		struct page *page;

		if (lru_length(e, LRU_ACTIVE) <= lru_length(e, LRU_INACTIVE))
			break;
		page = lru_from_tail(e, LRU_ACTIVE, NULL);
		page_clear(page, PG_REFERENCED | PG_WORKINGSET);
		lru_move(e, page, LRU_INACTIVE);
	}
}

static struct page *lru_next(struct engine *e, struct page *after)
{
	if (!after)
		balance(e);
	return lru_from_tail(e, LRU_INACTIVE, after);
}

static bool lru_refault_is_hot(struct engine *e, u64 taken_at)
{
	u64 distance = atomic_load_explicit(&e->lru.age, memory_order_relaxed) - taken_at;

	/* The share of the inactive list lets the active list begin to grow. */
	return distance <= lru_length(e, LRU_ACTIVE) + lru_length(e, LRU_INACTIVE) / 8;
}

const struct reclaim_policy policy_lru = {
	.name = "lru",
	.spares_young = true,
	.init = lru_init,
	.place = lru_place,
	.young = lru_young,
	.accessed = lru_accessed,
	.next = lru_next,
	.refault_is_hot = lru_refault_is_hot,
};
