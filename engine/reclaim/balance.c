/* SPDX-License-Identifier: MIT */
/*
 * Anonymous pages against pages of files: whose turn is it?
 *
 * Each kind is worth what bringing its pages back costs.  A page that comes back soon after it went
 * makes its kind dearer; what was long ago counts ever less.  config.swappiness says how dear the
 * user thinks the one is compared with the other: at 100 a page of either costs the same, at 0
 * anonymous pages go only when nothing else is left, at 200 pages of files do.  Kinds go in the
 * proportion of their lengths, times that.
 *
 * The rule, and its figures, are those of Linux (get_scan_count, lru_note_cost).
 */
#include "engine/reclaim/internal.h"

static u64 load(const _Atomic u64 *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Two may halve at once: it is but a figure. */
void lru_note_cost(struct lruvec *v, enum lru_kind kind, u64 pages)
{
	atomic_fetch_add_explicit(&v->cost[kind], pages, memory_order_relaxed);
	if (load(&v->cost[KIND_ANON]) + load(&v->cost[KIND_FILE]) <= lruvec_evictable(v) / 4)
		return;
	for (unsigned i = 0; i < NR_LRU_KINDS; i++)
		atomic_store_explicit(&v->cost[i], load(&v->cost[i]) / 2, memory_order_relaxed);
}

/* 16 for a kind that costs nothing compared with the other, less for the dearer one. */
static u64 cheapness(u64 total, u64 cost)
{
	return (total + 1) * 16 / (cost + 1);
}

enum lru_kind lru_choose_kind(struct lruvec *v, u64 anon, u64 file)
{
	u64 swappiness = min_of(v->engine->config.swappiness, 200u);
	u64 cost, anon_cost, file_cost;
	s64 weight[NR_LRU_KINDS];
	enum lru_kind kind;

	if (!anon || !file)
		return file ? KIND_FILE : KIND_ANON;
	if (!swappiness || !swap_has_room(&v->engine->swap))
		return KIND_FILE;
	cost = load(&v->cost[KIND_ANON]) + load(&v->cost[KIND_FILE]);
	anon_cost = cost + load(&v->cost[KIND_ANON]);
	file_cost = cost + load(&v->cost[KIND_FILE]);
	weight[KIND_ANON] = (s64)(anon * swappiness * cheapness(anon_cost + file_cost, anon_cost));
	weight[KIND_FILE] =
		(s64)(file * (200 - swappiness) * cheapness(anon_cost + file_cost, file_cost));
	/* Each gains its weight, and who has most pays for both: so they go in that proportion,
	 * and no one for long. */
	for (unsigned i = 0; i < NR_LRU_KINDS; i++)
		v->credit[i] += weight[i];
	kind = v->credit[KIND_ANON] > v->credit[KIND_FILE] ? KIND_ANON : KIND_FILE;
	v->credit[kind] -= weight[KIND_ANON] + weight[KIND_FILE];
	return kind;
}
