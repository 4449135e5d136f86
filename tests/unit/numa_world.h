/* SPDX-License-Identifier: MIT */
/* One world of three nodes, and short words for where memory is to come from, and where it came
 * from. */
#ifndef VMF_TESTS_NUMA_WORLD_H
#define VMF_TESTS_NUMA_WORLD_H

#include "engine/migrate/numa.h"
#include "tests/unit/one_world.h"

/* `frames` on each of the nodes; from 0 it is farther to 1 than to 2.  CPU n is of node n; the test
 * itself runs on CPU 0. */
static inline void start_nodes(u64 frames, struct world_options o)
{
	o.frames = 3 * frames;
	o.cpus = 3;
	o.nodes = (struct numa_config){
		.nr = 3,
		.frames = { frames, frames, frames },
		.distance = { { 10, 30, 20 }, { 30, 10, 20 }, { 20, 20, 10 } },
	};
	start(o);
	for (unsigned i = 3; i--;)
		soft_load_mm(&w.m->cpus[i], mm);
}

static inline void bind_area(u64 va, u64 len, u64 mode, u64 nodes)
{
	assert_int_equal(do_mbind(mm, va, len, mode, nodes ? &nodes : NULL, 9, 0), 0);
}

static inline void set_policy(struct mm *of, u64 mode, u64 nodes)
{
	assert_int_equal(do_set_mempolicy(of, mode, nodes ? &nodes : NULL, 9), 0);
}

/* What get_mempolicy(2) says of the page at va, which it brings in: its node, or an error. */
static inline int node_told(u64 va)
{
	int nid = -1,
	    err = do_get_mempolicy(mm, &nid, NULL, 0, va, UAPI_MPOL_F_ADDR | UAPI_MPOL_F_NODE);

	return err ? err : nid;
}

#endif
