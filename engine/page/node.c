/* SPDX-License-Identifier: MIT */
/* Nodes: the zones of programs' frames, and which is near which; see node.h. */
#include "engine/engine.h"

#define REMOTE_DISTANCE 20

/* No distances are given. */
static bool has_no_distances(const struct numa_config *c)
{
	return !c->distance[0][0];
}

bool numa_config_is_valid(const struct numa_config *c, u64 nr_user)
{
	u64 sum = 0;

	if (c->nr > MAX_NUMNODES)
		return false;
	for (unsigned i = 0; i < c->nr; i++) {
		if (!c->frames[i])
			return false;
		sum += c->frames[i];
		for (unsigned k = 0; k < c->nr && !has_no_distances(c); k++)
			if (i == k ? c->distance[i][k] != LOCAL_DISTANCE
				   : c->distance[i][k] <= LOCAL_DISTANCE)
				return false;
	}
	return !c->nr || sum == nr_user;
}

/* All nodes, sorted by their distance from `nid`; of two that are as far, the next one up. */
static void order_by_distance(struct numa *n, unsigned nid)
{
	u8 *order = n->fallback[nid];

	for (unsigned i = 0; i < n->nr; i++) {
		unsigned node = (nid + i) % n->nr, at = i;

		for (; at && n->distance[nid][order[at - 1]] > n->distance[nid][node]; at--)
			order[at] = order[at - 1];
		order[at] = node;
	}
}

void nodes_init(struct engine *e, const struct numa_config *config, u64 start_pfn, u64 nr_user,
		void *direct_map)
{
	struct numa *n = &e->numa;

	n->nr = max_of(config->nr, 1u);
	n->frames = nr_user;
	for (unsigned i = 0; i < n->nr; i++) {
		u64 nr = config->nr ? config->frames[i] : nr_user;

		zone_init(e, ZONE_USER + i, start_pfn, nr, direct_map);
		start_pfn += nr;
		if (direct_map)
			direct_map = (char *)direct_map + (nr << PAGE_SHIFT);
		atomic_init(&n->weight[i], 1);
		for (unsigned k = 0; k < n->nr; k++)
			n->distance[i][k] = !has_no_distances(config) ? config->distance[i][k]
					    : i == k		      ? LOCAL_DISTANCE
								      : REMOTE_DISTANCE;
	}
	for (unsigned i = 0; i < n->nr; i++)
		order_by_distance(n, i);
}

unsigned numa_node_id(const struct engine *e)
{
	return e->mmu->node ? e->mmu->node(e) : 0;
}

nodemask_t node_states(const struct engine *e)
{
	return (1u << e->numa.nr) - 1;
}

int nearest_node(const struct engine *e, unsigned nid, nodemask_t of)
{
	const u8 *order = e->numa.fallback[nid];

	for (unsigned i = 0; i < e->numa.nr; i++)
		if (node_isset(order[i], of))
			return order[i];
	return NUMA_NO_NODE;
}

struct zone *node_zone(struct engine *e, unsigned nid)
{
	return &e->zones[ZONE_USER + nid];
}

u64 user_frames(const struct engine *e)
{
	return e->numa.frames;
}

u64 user_frames_retired(const struct engine *e)
{
	u64 sum = 0;

	for (unsigned i = 0; i < e->numa.nr; i++)
		sum += atomic_load_explicit(&e->zones[ZONE_USER + i].nr_retired,
					    memory_order_relaxed);
	return sum;
}

bool pfn_is_user(const struct engine *e, u64 pfn)
{
	return pfn - e->zones[ZONE_USER].start_pfn < e->numa.frames;
}

u64 node_share(const struct engine *e, unsigned nid, u64 frames)
{
	if (e->numa.nr == 1)
		return frames;
	return frames * e->zones[ZONE_USER + nid].nr / e->numa.frames;
}
