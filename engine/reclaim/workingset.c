/* SPDX-License-Identifier: MIT */
#include "engine/reclaim/workingset.h"

#include "engine/reclaim/internal.h"

u64 workingset_eviction(struct engine *e, u64 n)
{
	u64 age = atomic_fetch_add_explicit(&e->lru.age, n, memory_order_relaxed);

	return e->lru.policy->shadow ? e->lru.policy->shadow(e) : age + 1;
}

u64 workingset_distance(const struct engine *e, u64 shadow)
{
	return atomic_load_explicit(&e->lru.age, memory_order_relaxed) + 1 - shadow;
}

void workingset_refault(struct engine *e, struct page *page, u64 shadow)
{
	if (!shadow)
		return;
	stat_add(&e->stats->workingset_refault, 1);
	lru_note_cost(e, page_kind(page), 1);
	if (!e->lru.policy->refault_is_hot(e, shadow))
		return;
	page_set(page, PG_WORKINGSET);
	stat_add(&e->stats->workingset_activate, 1);
	stat_add(&e->stats->activated, 1);
}
