/* SPDX-License-Identifier: MIT */
#include "engine/reclaim/workingset.h"

#include "engine/reclaim/internal.h"

/* A shadow is what the policy remembers, and behind it the node; not 0. */
#define NODE_BITS 3
_Static_assert(MAX_NUMNODES <= 1 << NODE_BITS, "a node's number fits");

static u64 pack(u64 remembered, unsigned nid)
{
	return (remembered + 1) << NODE_BITS | nid;
}

u64 workingset_eviction(struct engine *e, const struct page *page)
{
	struct lruvec *v = page_lruvec(e, page);
	u64 age = atomic_fetch_add_explicit(&v->age, page_frames(page), memory_order_relaxed);

	return pack(e->lru.policy->shadow ? e->lru.policy->shadow(v) : age, lruvec_nid(v));
}

u64 workingset_distance(const struct lruvec *v, u64 age)
{
	return atomic_load_explicit(&v->age, memory_order_relaxed) - age;
}

void workingset_refault(struct engine *e, struct page *page, u64 shadow)
{
	struct lruvec *from;

	if (!shadow)
		return;
	from = &e->lru.nodes[shadow & (MAX_NUMNODES - 1)];
	stat_add(&e->stats->workingset_refault, 1);
	lru_note_cost(page_lruvec(e, page), page_kind(page), 1);
	if (!e->lru.policy->refault_is_hot(from, (shadow >> NODE_BITS) - 1))
		return;
	page_set(page, PG_WORKINGSET);
	stat_add(&e->stats->workingset_activate, 1);
	stat_add(&e->stats->activated, 1);
}
