/* SPDX-License-Identifier: MIT */
/*
 * Memory that is near some CPUs and far from others: nodes.
 *
 * The frames of programs are divided among nodes, each of which has a zone of its own.  An
 * allocation begins at one node and goes on to others by their distance from it.  There is always a
 * node 0; where nobody configured any there is no other.
 */
#ifndef VMF_PAGE_NODE_H
#define VMF_PAGE_NODE_H

#include "engine/base/types.h"

struct engine;
struct page;
struct zone;

#define MAX_NUMNODES   8
#define LOCAL_DISTANCE 10
#define NUMA_NO_NODE   (-1)

typedef u32 nodemask_t; /* bit n: node n */
#define NODE_MASK_ALL ((1u << MAX_NUMNODES) - 1)

/* What the user chose. */
struct numa_config {
	unsigned nr;		  /* nodes; 0: one, that has all */
	u64 frames[MAX_NUMNODES]; /* of each, one after the other; together all of programs */
	/* As ACPI's SLIT has it: 10 is local.  All 0: 20 to every other. */
	u8 distance[MAX_NUMNODES][MAX_NUMNODES];
};

/* What became of it; fixed after nodes_init(). */
struct numa {
	unsigned nr;
	u64 frames; /* of all together */
	u8 distance[MAX_NUMNODES][MAX_NUMNODES];
	u8 fallback[MAX_NUMNODES][MAX_NUMNODES]; /* of each: all nodes, nearest first */
	_Atomic u8 weight[MAX_NUMNODES];	 /* of weighted interleaving; at least 1 */
};

/* Which nodes are asked for memory. */
struct node_choice {
	unsigned nid;	    /* from this one on, by distance */
	nodemask_t first;   /* these, as long as they have any; 0: none goes before others */
	nodemask_t allowed; /* and no others */
};

/* Set up the zones of all nodes from start_pfn on; e->pages must cover them.  direct_map may be
 * NULL. */
void nodes_init(struct engine *e, const struct numa_config *config, u64 start_pfn, u64 nr_user,
		void *direct_map);
bool numa_config_is_valid(const struct numa_config *config, u64 nr_user);

/* The node of the CPU that this runs on. */
unsigned numa_node_id(const struct engine *e);
/* Nodes that have memory: all. */
nodemask_t node_states(const struct engine *e);
/* The nearest to `nid` of these, itself first; NUMA_NO_NODE: none of them is there. */
int nearest_node(const struct engine *e, unsigned nid, nodemask_t of);
struct zone *node_zone(struct engine *e, unsigned nid);

/* Frames of programs on all nodes, and of these such as are broken. */
u64 user_frames(const struct engine *e);
u64 user_frames_retired(const struct engine *e);
/* Is it the number of a frame of programs? */
bool pfn_is_user(const struct engine *e, u64 pfn);
/* The share of `frames`, which are meant for all nodes together, that is one node's. */
u64 node_share(const struct engine *e, unsigned nid, u64 frames);

static inline unsigned first_node(nodemask_t nodes)
{
	return (unsigned)__builtin_ctz(nodes);
}
/* How many there are.  (Without the compiler's builtin, which may be a call.) */
static inline unsigned nodes_weight(nodemask_t nodes)
{
	unsigned n = 0;

	for (; nodes; nodes &= nodes - 1)
		n++;
	return n;
}
static inline bool node_isset(unsigned nid, nodemask_t nodes)
{
	return nid < MAX_NUMNODES && nodes >> nid & 1;
}

#endif
