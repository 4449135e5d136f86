/* SPDX-License-Identifier: MIT */
/* Nodes: where memory comes from, by distance and by policy, and how it moves from node to node. */
#include "engine/migrate/compaction.h"
#include "engine/migrate/numa.h"
#include "engine/space/calls.h"
#include "tests/unit/huge_marks.h"
#include "tests/unit/script_world.h"

enum { NODE_FRAMES = 256 };

/* Three nodes; from 0 it is farther to 1 than to 2.  CPU n is of node n. */
static const struct numa_config three = {
	.nr = 3,
	.frames = { NODE_FRAMES, NODE_FRAMES, NODE_FRAMES },
	.distance = { { 10, 30, 20 }, { 30, 10, 20 }, { 20, 20, 10 } },
};

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 3 * NODE_FRAMES, .cpus = 3, .nodes = three });
	for (unsigned i = 1; i < 3; i++)
		soft_load_mm(&w.m->cpus[i], mm);
	soft_load_mm(w.cpu, mm);
	return 0;
}

static pte_t pte_at(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

/* The node of what is mapped there; -1: nothing. */
static int node_of(unsigned page)
{
	pte_t pte = pte_at(mm, page);

	return pte_mapped(pte) ? (int)page_nid(pfn_page(w.e, pte_pfn(pte))) : -1;
}

static void touch_on(unsigned cpu, unsigned page)
{
	assert_int_equal(soft_write_byte(&w.m->cpus[cpu], AT(page), (u8)(page + 1)), FAULT_OK);
}

static u64 free_on(unsigned nid)
{
	return node_zone(w.e, nid)->nr_free;
}

static void bind_area(unsigned page, unsigned n, u64 mode, u64 nodes, u64 flags)
{
	assert_int_equal(do_mbind(mm, AT(page), P(n), mode, nodes ? &nodes : NULL, 9, flags), 0);
}

static void set_policy(u64 mode, u64 nodes)
{
	assert_int_equal(do_set_mempolicy(mm, mode, nodes ? &nodes : NULL, 9), 0);
}

/* ---- nodes ---- */

static void memory_comes_from_the_node_of_the_cpu(void **state)
{
	(void)state;
	map(0, 3, RW);
	for (unsigned i = 0; i < 3; i++)
		touch_on(i, i);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(node_of(i), (int)i);
}

static void when_that_is_full_from_the_nearest_that_is_not(void **state)
{
	unsigned n = 0;

	(void)state;
	map(0, 700, RW);
	while (free_on(0) > NODE_FRAMES / 16)
		touch_on(0, n++);
	touch_on(0, n);
	assert_int_equal(node_of(n), 2);
	while (free_on(2) > NODE_FRAMES / 16)
		touch_on(0, n++);
	touch_on(0, n);
	assert_int_equal(node_of(n), 1);
	assert_int_equal(w.e->stats->evicted_dirty, 0);
}

/* Or it would not know which of its translations are of a frame's former life. */
static void the_machine_is_told_of_each_frame_that_comes_back(void **state)
{
	(void)state;
	for (unsigned nid = 0; nid < 3; nid++) {
		struct page *page = page_alloc_nodes(w.e, 0, 0, nid, 1u << nid);
		u32 before = w.m->generations[page_pfn(w.e, page)];

		assert_int_equal(page_nid(page), nid);
		page_put(w.e, page);
		assert_int_equal(w.m->generations[page_pfn(w.e, page)], before + 1);
	}
}

static void each_keeps_its_share_back(void **state)
{
	struct page *got[3 * NODE_FRAMES];
	unsigned n = 0;

	(void)state;
	while ((got[n] = page_alloc(w.e, ZONE_USER, 0, ALLOC_NORECLAIM)))
		n++;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(free_on(i), NODE_FRAMES / 16);
	assert_non_null(got[n] = page_alloc(w.e, ZONE_USER, 0, ALLOC_NORECLAIM | ALLOC_RESERVE));
	assert_int_equal(page_nid(got[n]), 0);
	page_put(w.e, got[n]);
	while (n)
		page_put(w.e, got[--n]);
}

static void blocks_lie_within_a_node(void **state)
{
	struct page *got[64];
	unsigned n = 0;

	(void)state;
	while ((got[n] = page_alloc(w.e, ZONE_USER, 6, ALLOC_NORECLAIM | ALLOC_RESERVE)))
		n++;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(page_nid(got[i]), page_nid(got[i] + 63));
	assert_true(n >= 9);
	while (n)
		page_put(w.e, got[--n]);
}

static void what_nodes_cannot_be_is_refused(void **state)
{
	struct numa_config c = three;

	(void)state;
	assert_true(numa_config_is_valid(&c, 3 * NODE_FRAMES));
	assert_false(numa_config_is_valid(&c, 3 * NODE_FRAMES + 1));
	c.distance[1][1] = 11;
	assert_false(numa_config_is_valid(&c, 3 * NODE_FRAMES));
	c = three;
	c.distance[1][0] = 10;
	assert_false(numa_config_is_valid(&c, 3 * NODE_FRAMES));
	c = three;
	c.nr = MAX_NUMNODES + 1;
	assert_false(numa_config_is_valid(&c, 3 * NODE_FRAMES));
	c = (struct numa_config){ .nr = 2, .frames = { 3 * NODE_FRAMES, 0 } };
	assert_false(numa_config_is_valid(&c, 3 * NODE_FRAMES));
}

/* ---- policies ---- */

static void preferred_is_asked_first(void **state)
{
	unsigned n = 0;

	(void)state;
	map(0, 400, RW);
	set_policy(UAPI_MPOL_PREFERRED, 1 << 1);
	while (free_on(1) > NODE_FRAMES / 16) {
		touch_on(0, n);
		assert_int_equal(node_of(n++), 1);
	}
	touch_on(0, n);
	assert_int_equal(node_of(n), 2); /* nearest to 1 */
}

static void bound_memory_comes_from_nowhere_else(void **state)
{
	(void)state;
	map(0, 400, RW);
	bind_area(0, 400, UAPI_MPOL_BIND, 1 << 1, 0);
	for (unsigned i = 0; i < 400; i++) {
		touch_on(0, i);
		assert_int_equal(node_of(i), 1);
	}
	/* What was there had to go, and nothing of the others. */
	assert_true(w.e->stats->evicted_dirty > 0);
	assert_true(free_on(0) > NODE_FRAMES - 8);
	for (unsigned i = 0; i < 400; i++)
		assert_int_equal(get(i), (u8)(i + 1));
}

static void of_several_the_nearest(void **state)
{
	(void)state;
	map(0, 2, RW);
	set_policy(UAPI_MPOL_BIND, 1 << 1 | 1 << 2);
	touch_on(0, 0);
	assert_int_equal(node_of(0), 2);
	touch_on(1, 1);
	assert_int_equal(node_of(1), 1);
}

static void preferred_many_gives_way_without_reclaim(void **state)
{
	unsigned n = 0;

	(void)state;
	map(0, 400, RW);
	set_policy(UAPI_MPOL_PREFERRED_MANY, 1 << 1);
	while (free_on(1) > NODE_FRAMES / 16)
		touch_on(0, n++);
	touch_on(0, n);
	assert_int_not_equal(node_of(n), 1);
	assert_int_equal(w.e->stats->evicted_dirty, 0);
}

static void interleaved_memory_goes_around_by_address(void **state)
{
	int first;

	(void)state;
	map(0, 12, RW);
	bind_area(0, 12, UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 2, 0);
	for (unsigned i = 12; i--;)
		touch_on(1, i);
	first = node_of(0);
	for (unsigned i = 0; i < 12; i++)
		assert_int_equal(node_of(i), i % 2 ? 2 - first : first);
}

static void weights_say_how_much_goes_where(void **state)
{
	unsigned on[3] = { 0 };

	(void)state;
	w.e->numa.weight[0] = 3;
	w.e->numa.weight[1] = 1;
	w.e->numa.weight[2] = 2;
	map(0, 60, RW);
	set_policy(UAPI_MPOL_WEIGHTED_INTERLEAVE, 7);
	for (unsigned i = 0; i < 60; i++) {
		touch_on(1, i);
		on[node_of(i)]++;
	}
	assert_int_equal(on[0], 30);
	assert_int_equal(on[1], 10);
	assert_int_equal(on[2], 20);
}

static void an_areas_policy_goes_before_the_spaces(void **state)
{
	(void)state;
	map(0, 2, RW);
	set_policy(UAPI_MPOL_PREFERRED, 1 << 1);
	bind_area(1, 1, UAPI_MPOL_LOCAL, 0, 0);
	touch_on(0, 0);
	touch_on(0, 1);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(node_of(1), 0);
}

static void relative_nodes_are_counted_among_those_there_are(void **state)
{
	u64 nodes;
	int mode;

	(void)state;
	map(0, 1, RW);
	/* The fifth of three is the second. */
	set_policy(UAPI_MPOL_BIND | UAPI_MPOL_F_RELATIVE_NODES, 1 << 4);
	touch_on(0, 0);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(do_get_mempolicy(mm, &mode, &nodes, 9, 0, 0), 0);
	assert_int_equal(mode, UAPI_MPOL_BIND | UAPI_MPOL_F_RELATIVE_NODES);
	assert_int_equal(nodes, 1 << 4);
}

static void copies_and_what_comes_back_follow_the_policy(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 2, RW);
	touch_on(0, 0);
	touch_on(0, 1);
	set_policy(UAPI_MPOL_BIND, 1 << 1);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(get(0), 1);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(mm_fork(mm, &child), 0);
	touch_on(0, 1);
	assert_int_equal(node_of(1), 1);
	assert_true(mpol_equal(&child->policy, &mm->policy));
	mm_destroy(child);
}

static unsigned areas(void)
{
	return (unsigned)mm->map_count;
}

static void areas_are_cut_where_policies_differ_and_merge_where_they_do_not(void **state)
{
	(void)state;
	map(0, 9, RW);
	assert_int_equal(areas(), 1);
	bind_area(3, 3, UAPI_MPOL_BIND, 1 << 1, 0);
	assert_int_equal(areas(), 3);
	bind_area(0, 3, UAPI_MPOL_BIND, 1 << 1, 0);
	assert_int_equal(areas(), 2);
	bind_area(0, 9, UAPI_MPOL_DEFAULT, 0, 0);
	assert_int_equal(areas(), 1);
}

static void a_policy_goes_with_its_area(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 2, RW);
	bind_area(0, 2, UAPI_MPOL_BIND, 1 << 1, 0);
	assert_int_equal(vm_protect(mm, AT(1), P(1), VM_READ), 0);
	assert_int_equal(find_vma(mm, AT(1))->policy.nodes, 1 << 1);
	assert_int_equal(do_mremap(mm, AT(0), P(1), P(1), 3, AT(20)), AT(20));
	assert_int_equal(find_vma(mm, AT(20))->policy.nodes, 1 << 1);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(find_vma(child, AT(20))->policy.nodes, 1 << 1);
	mm_destroy(child);
}

static void the_space_and_its_areas_tell_of_theirs(void **state)
{
	u64 nodes = 99;
	int mode = 99;

	(void)state;
	map(0, 2, RW);
	set_policy(UAPI_MPOL_PREFERRED, 1 << 2 | 1 << 1);
	bind_area(1, 1, UAPI_MPOL_INTERLEAVE, 5, 0);
	assert_int_equal(do_get_mempolicy(mm, &mode, &nodes, 9, 0, 0), 0);
	assert_int_equal(mode, UAPI_MPOL_PREFERRED);
	assert_int_equal(nodes, 1 << 1); /* the first */
	assert_int_equal(do_get_mempolicy(mm, &mode, &nodes, 9, AT(1), UAPI_MPOL_F_ADDR), 0);
	assert_int_equal(mode, UAPI_MPOL_INTERLEAVE);
	assert_int_equal(nodes, 5);
	assert_int_equal(do_get_mempolicy(mm, &mode, &nodes, 9, 0, UAPI_MPOL_F_MEMS_ALLOWED), 0);
	assert_int_equal(nodes, 7);
	touch_on(0, 0);
	assert_int_equal(
		do_get_mempolicy(mm, &mode, NULL, 0, AT(0), UAPI_MPOL_F_ADDR | UAPI_MPOL_F_NODE),
		0);
	assert_int_equal(mode, 1);
}

static void the_node_of_a_page_that_may_not_be_read_is_told_if_it_is_there(void **state)
{
	const u64 flags = UAPI_MPOL_F_ADDR | UAPI_MPOL_F_NODE;
	int mode;

	(void)state;
	map(0, 2, RW);
	touch_on(0, 0);
	assert_int_equal(do_mprotect(mm, AT(0), 2 * PAGE_SIZE, UAPI_PROT_WRITE), 0);
	assert_int_equal(do_get_mempolicy(mm, &mode, NULL, 0, AT(0), flags), 0);
	assert_int_equal(do_get_mempolicy(mm, &mode, NULL, 0, AT(1), flags), -EFAULT);
	assert_int_equal(do_mprotect(mm, AT(0), 2 * PAGE_SIZE, UAPI_PROT_NONE), 0);
	assert_int_equal(do_get_mempolicy(mm, &mode, NULL, 0, AT(0), flags), -EFAULT);
}

/* ---- moving ---- */

static void mbind_moves_what_is_elsewhere(void **state)
{
	(void)state;
	map(0, 100, RW);
	for (unsigned i = 0; i < 100; i++)
		touch_on(0, i);
	bind_area(0, 50, UAPI_MPOL_BIND, 1 << 1, 0);
	assert_int_equal(node_of(0), 0);
	bind_area(0, 100, UAPI_MPOL_BIND, 1 << 1, UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_STRICT);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(node_of(i), 1);
		assert_int_equal(get(i), (u8)(i + 1));
	}
	assert_int_equal(free_on(1), NODE_FRAMES - 100);
}

static void interleaving_spreads_what_is_there(void **state)
{
	(void)state;
	map(0, 30, RW);
	for (unsigned i = 0; i < 30; i++)
		touch_on(0, i);
	bind_area(0, 30, UAPI_MPOL_INTERLEAVE, 6, UAPI_MPOL_MF_MOVE);
	for (unsigned i = 0; i + 1 < 30; i++)
		assert_int_equal(node_of(i) + node_of(i + 1), 3);
}

static void strict_tells_of_what_is_elsewhere(void **state)
{
	u64 node0 = 1, node1 = 2;

	(void)state;
	map(0, 2, RW);
	touch_on(0, 0);
	assert_int_equal(do_mbind(mm, AT(0), P(2), UAPI_MPOL_BIND, &node0, 9, UAPI_MPOL_MF_STRICT),
			 0);
	assert_int_equal(do_mbind(mm, AT(0), P(2), UAPI_MPOL_BIND, &node1, 9, UAPI_MPOL_MF_STRICT),
			 -EIO);
	/* Linux 6.18 binds nothing then, and looks area by area: a hole that comes first is first.
	 */
	assert_int_equal(find_vma(mm, AT(0))->policy.nodes, node0);
	assert_int_equal(do_mbind(mm, AT(0), P(4), UAPI_MPOL_BIND, &node1, 9, UAPI_MPOL_MF_STRICT),
			 -EFAULT);
	map(2, 1, VM_READ);
	assert_int_equal(do_mbind(mm, AT(0), P(4), UAPI_MPOL_BIND, &node1, 9, UAPI_MPOL_MF_STRICT),
			 -EIO);
}

static void what_others_have_is_left_unless_it_may_be_moved(void **state)
{
	u64 node1 = 2;
	struct mm *child;

	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	bind_area(0, 1, UAPI_MPOL_BIND, node1, UAPI_MPOL_MF_MOVE);
	assert_int_equal(node_of(0), 0);
	assert_int_equal(
		do_mbind(mm, AT(0), P(1), UAPI_MPOL_BIND, &node1, 9, UAPI_MPOL_MF_MOVE_ALL),
		-EPERM);
	mm->limits.may_move_shared = true;
	bind_area(0, 1, UAPI_MPOL_BIND, node1, UAPI_MPOL_MF_MOVE_ALL);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(pte_pfn(pte_at(child, 0)), pte_pfn(pte_at(mm, 0)));
	mm_destroy(child);
}

static void pages_are_moved_one_by_one(void **state)
{
	const u64 pages[] = { AT(0), AT(1) + 5, AT(2), AT(3), AT(90) };
	const int nodes[] = { 1, 2, 1, 0, 1 };
	int status[5];

	(void)state;
	map(0, 4, RW);
	touch_on(0, 0);
	touch_on(0, 1);
	assert_int_equal(get(2), 0); /* the zero page */
	assert_int_equal(do_move_pages(mm, 5, pages, nodes, status, UAPI_MPOL_MF_MOVE), 0);
	assert_int_equal(status[0], 1);
	assert_int_equal(status[1], 2);
	assert_int_equal(status[2], -EFAULT);
	assert_int_equal(status[3], -ENOENT);
	assert_int_equal(status[4], -EFAULT);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(node_of(1), 2);
	assert_int_equal(do_move_pages(mm, 2, pages, NULL, status, 0), 0);
	assert_int_equal(status[0], 1);
	assert_int_equal(status[1], 2);
	assert_int_equal(get(0) + get(1), 3);
}

static void a_node_that_is_not_there_ends_it(void **state)
{
	const u64 pages[] = { AT(0), AT(1), AT(2) };
	const int nodes[] = { 1, 3, 1 };
	int status[3] = { 9, 9, 9 };

	(void)state;
	map(0, 3, RW);
	for (unsigned i = 0; i < 3; i++)
		touch_on(0, i);
	assert_int_equal(do_move_pages(mm, 3, pages, nodes, status, UAPI_MPOL_MF_MOVE), -ENODEV);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(node_of(2), 0);
	assert_int_equal(status[2], 9);
}

static void what_others_map_is_not_moved_one_by_one(void **state)
{
	const u64 page = AT(0);
	const int node = 1;
	struct mm *child;
	int status;

	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(do_move_pages(mm, 1, &page, &node, &status, UAPI_MPOL_MF_MOVE), 0);
	assert_int_equal(status, -EACCES);
	mm_destroy(child);
}

static void a_program_moves_from_nodes_to_nodes(void **state)
{
	u64 from = 1 << 0 | 1 << 1, to = 1 << 1 | 1 << 2, none = 0;

	(void)state;
	map(0, 3, RW);
	for (unsigned i = 0; i < 3; i++)
		touch_on(i, i);
	assert_int_equal(do_migrate_pages(mm, 9, &from, &none), -EINVAL);
	assert_int_equal(do_migrate_pages(mm, 9, &from, &to), 0);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(node_of(1), 2);
	assert_int_equal(node_of(2), 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(get(i), i + 1);
}

/* ---- each node by itself ---- */

static void one_node_is_reclaimed_and_the_others_are_left(void **state)
{
	(void)state;
	map(0, 300, RW);
	for (unsigned i = 0; i < 300; i++)
		touch_on(i % 3, i);
	for (unsigned i = 0; i < 8; i++)
		reclaim_nodes(w.e, 32, 1 << 1);
	for (unsigned i = 0; i < 300; i++)
		if (i % 3 != 1)
			assert_int_equal(node_of(i), (int)(i % 3));
	assert_true(free_on(1) > NODE_FRAMES - 60);
}

static void the_background_keeps_each_node_above_its_mark(void **state)
{
	u64 low = node_share(w.e, 1, w.e->config.marks.low);

	(void)state;
	map(0, 250, RW);
	for (unsigned i = 0; free_on(1) > low / 2 + 8; i++)
		touch_on(1, i);
	assert_true(free_on(1) < low);
	assert_true(free_on(0) > NODE_FRAMES / 2);
	reclaim_balance(w.e);
	assert_true(free_on(1) >= low);
}

/* Though all together are below the mark. */
static void a_node_that_has_enough_gives_nothing_for_one_that_has_not(void **state)
{
	u64 high = w.e->config.marks.high, share = node_share(w.e, 0, high), free;
	unsigned n = 0;

	(void)state;
	map(0, 800, RW);
	while (free_on(1) > share / 2)
		touch_on(1, n++);
	while (free_on(2) > share / 2)
		touch_on(2, n++);
	while (free_on(0) > share + 4)
		touch_on(0, n++);
	free = free_on(0);
	assert_true(free + free_on(1) + free_on(2) < high);
	assert_true(reclaim_balance(w.e) > 0);
	assert_int_equal(free_on(0), free);
	assert_true(free_on(1) >= share && free_on(2) >= share);
	assert_int_equal(reclaim_balance(w.e), 0);
}

static void each_node_is_made_compact(void **state)
{
	(void)state;
	map(0, 600, RW);
	for (unsigned i = 0; i < 600; i++)
		touch_on(i / 200, i);
	for (unsigned i = 0; i < 600; i++)
		if (i % 4)
			assert_int_equal(do_madvise(mm, AT(i), P(1), UAPI_MADV_DONTNEED), 0);
	compact_memory(w.e);
	/* The zero page lies at the bottom of node 0, and stays. */
	for (unsigned nid = 0; nid < 3; nid++)
		assert_true(zone_has_block(node_zone(w.e, nid), nid ? 7 : 6));
	for (unsigned i = 0; i < 600; i += 4) {
		assert_int_equal(node_of(i), (int)(i / 200));
		assert_int_equal(get(i), (u8)(i + 1));
	}
}

/* ---- hinting faults ---- */

static u64 hinted(void)
{
	return w.e->stats->numa_hint_faults;
}

static void scan(void)
{
	assert_true(task_numa_work(mm, 1000) > 0);
}

static void who_uses_a_page_is_asked_now_and_then(void **state)
{
	u64 before;

	(void)state;
	map(0, 4, RW);
	for (unsigned i = 0; i < 4; i++)
		touch_on(0, i);
	assert_int_equal(task_numa_work(mm, 1000), 4);
	assert_true(pte_protnone(pte_at(mm, 0)));
	soft_check(w.m);
	before = mm->minor;
	touch_on(0, 0);
	touch_on(0, 0);
	assert_int_equal(mm->minor, before + 1);
	touch_on(1, 1);
	assert_int_equal(hinted(), 2);
	assert_int_equal(w.e->stats->numa_hint_faults_local, 1);
	assert_int_equal(w.e->stats->numa_pte_updates, 4);
	assert_int_equal(get(2), 3);
}

static void the_scan_goes_around(void **state)
{
	(void)state;
	map(0, 10, RW);
	for (unsigned i = 0; i < 10; i++)
		touch_on(0, i);
	assert_int_equal(task_numa_work(mm, 4), 4);
	assert_int_equal(task_numa_work(mm, 4), 4);
	assert_true(pte_present(pte_at(mm, 9)));
	assert_int_equal(task_numa_work(mm, 4), 2); /* and two that have been asked */
	assert_true(pte_protnone(pte_at(mm, 9)));
}

static void a_page_moves_to_who_uses_it_twice(void **state)
{
	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	scan();
	touch_on(1, 0);
	assert_int_equal(node_of(0), 0); /* once is chance */
	scan();
	touch_on(1, 0);
	assert_int_equal(node_of(0), 1);
	assert_int_equal(w.e->stats->numa_pages_migrated, 1);
	assert_int_equal(get(0), 1);
	scan();
	touch_on(1, 0);
	assert_int_equal(node_of(0), 1);
}

static void a_page_that_two_nodes_use_stays(void **state)
{
	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	for (unsigned i = 0; i < 10; i++) {
		scan();
		touch_on(1 + i % 2, 0);
	}
	assert_int_equal(node_of(0), 0);
	assert_int_equal(w.e->stats->numa_pages_migrated, 0);
}

static void what_a_policy_has_placed_is_not_asked_about(void **state)
{
	(void)state;
	map(0, 1, RW);
	bind_area(0, 1, UAPI_MPOL_BIND, 1, 0);
	touch_on(0, 0);
	assert_int_equal(task_numa_work(mm, 1000), 0);
	/* Unless it says so, and then it stays on its nodes. */
	bind_area(0, 1, UAPI_MPOL_BIND | UAPI_MPOL_F_NUMA_BALANCING, 3, 0);
	for (unsigned i = 0; i < 2; i++) {
		scan();
		touch_on(2, 0);
	}
	assert_int_equal(node_of(0), 0);
	for (unsigned i = 0; i < 2; i++) {
		scan();
		touch_on(1, 0);
	}
	assert_int_equal(node_of(0), 1);
}

static void without_room_there_it_stays(void **state)
{
	struct page *got[NODE_FRAMES];
	unsigned n = 0;

	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	while ((got[n] = page_alloc_nodes(w.e, 0, ALLOC_NORECLAIM, 1, 1 << 1)))
		n++;
	for (unsigned i = 0; i < 3; i++) {
		scan();
		touch_on(1, 0);
	}
	assert_int_equal(node_of(0), 0);
	assert_int_equal(get(0), 1);
	while (n)
		page_put(w.e, got[--n]);
}

static void an_entry_that_asks_is_changed_as_any_other(void **state)
{
	struct mm *child;

	(void)state;
	map(0, 6, RW);
	for (unsigned i = 0; i < 6; i++)
		touch_on(0, i);
	scan();
	assert_int_equal(vm_protect(mm, AT(0), P(1), VM_READ), 0);
	assert_int_equal(get(0), 1);
	assert_int_equal(soft_write_byte(w.cpu, AT(0), 1), FAULT_ACCERR);
	assert_int_equal(do_mremap(mm, AT(1), P(1), P(1), 3, AT(20)), AT(20));
	assert_int_equal(get(20), 2);
	assert_int_equal(mm_fork(mm, &child), 0);
	put(2, 9);
	assert_int_equal(get(2), 9);
	mm_destroy(child);
	assert_int_equal(do_mlock(mm, AT(3), P(1)), 0);
	assert_true(pte_present(pte_at(mm, 3)));
	reclaim_range(mm, AT(4), AT(5));
	assert_int_equal(get(4), 5);
	assert_int_equal(vm_unmap(mm, AT(5), P(1)), 0);
}

/* ---- huge pages ---- */

static int setup_huge(void **state)
{
	struct numa_config two = { .nr = 2,
				   .frames = { 4 * HUGE_PAGES, 4 * HUGE_PAGES },
				   .distance = { { 10, 20 }, { 20, 10 } } };

	(void)state;
	start((struct world_options){
		.frames = 8 * HUGE_PAGES, .cpus = 2, .nodes = two, .thp = THP_ALWAYS });
	soft_load_mm(&w.m->cpus[1], mm);
	soft_load_mm(w.cpu, mm);
	map(0, HUGE_PAGES, RW);
	touch_on(0, 0);
	assert_true(is_huge(0));
	return 0;
}

static s64 ask(unsigned page, int *node)
{
	u64 at = AT(page);

	return do_move_pages(mm, 1, &at, NULL, node, 0);
}

static void huge_pages_stay_whole_where_nothing_of_them_is_to_move(void **state)
{
	u64 node_0 = 1, node_1 = 2;
	int node = -1;

	(void)state;
	assert_int_equal(task_numa_work(mm, HUGE_PAGES), 0);
	assert_true(is_huge(0));
	assert_int_equal(
		do_mbind(mm, AT(0), P(HUGE_PAGES), UAPI_MPOL_BIND, &node_1, 9, UAPI_MPOL_MF_STRICT),
		-EIO);
	assert_int_equal(do_mbind(mm, AT(0), P(HUGE_PAGES), UAPI_MPOL_BIND, &node_0, 9,
				  UAPI_MPOL_MF_STRICT | UAPI_MPOL_MF_MOVE),
			 0);
	assert_true(is_huge(0));
	assert_int_equal(ask(77, &node), 0);
	assert_int_equal(node, 0);
	assert_true(is_huge(0));
	assert_int_equal(get(0), 1);
}

static void the_parts_of_a_huge_page_move_as_single_ones(void **state)
{
	u64 at = AT(77), node_1 = 2;
	int to = 1, node = -1;

	(void)state;
	touch_on(0, 78);
	assert_int_equal(do_move_pages(mm, 1, &at, &to, &node, UAPI_MPOL_MF_MOVE), 0);
	assert_int_equal(node, 1);
	assert_int_equal(node_of(77), 1);
	assert_int_equal(node_of(78), 0);
	assert_int_equal(do_mbind(mm, AT(0), P(HUGE_PAGES), UAPI_MPOL_BIND, &node_1, 9,
				  UAPI_MPOL_MF_STRICT | UAPI_MPOL_MF_MOVE),
			 0);
	assert_int_equal(node_of(78), 1);
	assert_int_equal(get(78), 79);
	assert_int_equal(get(0), 1);
}

static void the_huge_zero_page_is_nowhere(void **state)
{
	int node = -1;

	(void)state;
	map(HUGE_PAGES, HUGE_PAGES, RW);
	assert_int_equal(get(HUGE_PAGES), 0);
	assert_int_equal(ask(HUGE_PAGES, &node), 0);
	assert_int_equal(node, -EFAULT);
	assert_true(is_huge(HUGE_PAGES));
}

static void where_there_is_one_node_nobody_is_asked(void **state)
{
	(void)state;
	map(0, 1, RW);
	touch_on(0, 0);
	w.e->numa.nr = 1;
	assert_int_equal(task_numa_work(mm, 1000), 0);
	w.e->numa.nr = 3;
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define H(f) cmocka_unit_test_setup_teardown(f, setup_huge, teardown)
	const struct CMUnitTest tests[] = {
		T(memory_comes_from_the_node_of_the_cpu),
		T(when_that_is_full_from_the_nearest_that_is_not),
		T(the_machine_is_told_of_each_frame_that_comes_back),
		T(each_keeps_its_share_back),
		T(blocks_lie_within_a_node),
		T(what_nodes_cannot_be_is_refused),
		T(preferred_is_asked_first),
		T(bound_memory_comes_from_nowhere_else),
		T(of_several_the_nearest),
		T(preferred_many_gives_way_without_reclaim),
		T(interleaved_memory_goes_around_by_address),
		T(weights_say_how_much_goes_where),
		T(an_areas_policy_goes_before_the_spaces),
		T(relative_nodes_are_counted_among_those_there_are),
		T(copies_and_what_comes_back_follow_the_policy),
		T(areas_are_cut_where_policies_differ_and_merge_where_they_do_not),
		T(a_policy_goes_with_its_area),
		T(the_space_and_its_areas_tell_of_theirs),
		T(the_node_of_a_page_that_may_not_be_read_is_told_if_it_is_there),
		T(mbind_moves_what_is_elsewhere),
		T(interleaving_spreads_what_is_there),
		T(strict_tells_of_what_is_elsewhere),
		T(what_others_have_is_left_unless_it_may_be_moved),
		T(pages_are_moved_one_by_one),
		T(a_node_that_is_not_there_ends_it),
		T(what_others_map_is_not_moved_one_by_one),
		T(a_program_moves_from_nodes_to_nodes),
		T(one_node_is_reclaimed_and_the_others_are_left),
		T(the_background_keeps_each_node_above_its_mark),
		T(a_node_that_has_enough_gives_nothing_for_one_that_has_not),
		T(each_node_is_made_compact),
		T(who_uses_a_page_is_asked_now_and_then),
		T(the_scan_goes_around),
		T(a_page_moves_to_who_uses_it_twice),
		T(a_page_that_two_nodes_use_stays),
		T(what_a_policy_has_placed_is_not_asked_about),
		T(without_room_there_it_stays),
		T(an_entry_that_asks_is_changed_as_any_other),
		T(where_there_is_one_node_nobody_is_asked),
		H(huge_pages_stay_whole_where_nothing_of_them_is_to_move),
		H(the_parts_of_a_huge_page_move_as_single_ones),
		H(the_huge_zero_page_is_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
