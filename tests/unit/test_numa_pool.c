/* SPDX-License-Identifier: MIT */
/* Pools of huge pages on several nodes: what each has, and who gets a page of which. */
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_world.h"
#include "tests/unit/numa_world.h"

enum { NODE_FRAMES = 8 * HUGE_FRAMES };

static int setup(void **state)
{
	(void)state;
	start_nodes(NODE_FRAMES, (struct world_options){ 0 });
	h = hstate_sizelog(w.e, 21);
	return 0;
}

/* Pages of the pool on each node, free or in use. */
static void nodes_have(u64 a, u64 b, u64 c)
{
	const u64 want[] = { a, b, c };

	for (unsigned nid = 0; nid < 3; nid++)
		assert_int_equal(hugetlb_node_counts(h, nid).nr, want[nid]);
	assert_int_equal(hugetlb_counts(h).nr, a + b + c);
	engine_check(w.e);
}

/* Of these: free ones. */
static void free_are(u64 a, u64 b, u64 c)
{
	const u64 want[] = { a, b, c };

	for (unsigned nid = 0; nid < 3; nid++)
		assert_int_equal(hugetlb_node_counts(h, nid).free, want[nid]);
	assert_int_equal(hugetlb_counts(h).free, a + b + c);
}

static void give_nodes(u64 a, u64 b, u64 c)
{
	assert_int_equal(hugetlb_set_pool_node(h, 0, a), a);
	assert_int_equal(hugetlb_set_pool_node(h, 1, b), b);
	assert_int_equal(hugetlb_set_pool_node(h, 2, c), c);
	nodes_have(a, b, c);
}

static enum fault_reason write_on(unsigned cpu, unsigned page)
{
	return soft_write_byte(&w.m->cpus[cpu], HUGE(page), 1);
}

/* The CPU writes there, and the page is of that node. */
static void touch_is_of(unsigned cpu, unsigned page, int nid)
{
	assert_int_equal(write_on(cpu, page), FAULT_OK);
	assert_int_equal(node_told(HUGE(page)), nid);
}

static void unmap(unsigned page, unsigned n)
{
	assert_int_equal(vm_unmap(mm, HUGE(page), H(n)), 0);
}

/* ---- how many there are ---- */

static void nodes_have_their_turns(void **state)
{
	(void)state;
	assert_int_equal(hugetlb_set_pool(h, 6), 6);
	nodes_have(2, 2, 2);
	assert_int_equal(hugetlb_set_pool(h, 3), 3);
	nodes_have(1, 1, 1);
	assert_int_equal(hugetlb_set_pool(h, 0), 0);
	nodes_have(0, 0, 0);
}

static void a_node_without_blocks_is_passed_over(void **state)
{
	struct page *held[8];
	unsigned n = 0;

	(void)state;
	while ((held[n] = page_alloc_nodes(w.e, 9, ALLOC_NORECLAIM, 1, 1 << 1)))
		n++;
	assert_int_equal(hugetlb_set_pool(h, 6), 6);
	while (n)
		page_put(w.e, held[--n]);
	nodes_have(3, 0, 3);
}

static void the_pages_of_one_node_are_set_alone(void **state)
{
	(void)state;
	give_nodes(1, 3, 0);
	assert_int_equal(hugetlb_set_pool_node(h, 1, 1), 1);
	nodes_have(1, 1, 0);
	assert_in_range(hugetlb_set_pool_node(h, 2, ~0ULL), 6, 8);
	assert_int_equal(hugetlb_node_counts(h, 0).nr, 1);
	assert_int_equal(hugetlb_node_counts(h, 1).nr, 1);
}

static void what_is_in_use_becomes_surplus_on_its_node(void **state)
{
	(void)state;
	give_nodes(1, 1, 1);
	map_anon(0, 1, PRIVATE);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	touch_is_of(0, 0, 1);
	assert_int_equal(hugetlb_set_pool_node(h, 1, 0), 0);
	nodes_have(1, 1, 1);
	assert_int_equal(hugetlb_node_counts(h, 1).surplus, 1);
	/* It is asked for again: then it is no surplus any more. */
	assert_int_equal(hugetlb_set_pool_node(h, 1, 1), 1);
	assert_int_equal(hugetlb_counts(h).surplus, 0);
	assert_int_equal(hugetlb_set_pool_node(h, 1, 0), 0);
	unmap(0, 1);
	nodes_have(1, 0, 1);
}

/* ---- who gets which ---- */

static void a_page_comes_from_the_nearest_node_that_has_one(void **state)
{
	(void)state;
	give_nodes(1, 1, 2);
	map_anon(0, 4, PRIVATE);
	touch_is_of(0, 0, 0);
	touch_is_of(0, 1, 2);
	touch_is_of(1, 2, 1);
	touch_is_of(1, 3, 2);
	free_are(0, 0, 0);
	unmap(0, 4);
	free_are(1, 1, 2); /* each goes back to where it came from */
}

static void it_follows_the_areas_policy_or_else_the_spaces(void **state)
{
	int first;

	(void)state;
	give_nodes(2, 4, 4);
	map_anon(0, 8, SHARED);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 1);
	bind_area(HUGE(1), H(1), UAPI_MPOL_BIND, 1 << 2);
	bind_area(HUGE(2), H(1), UAPI_MPOL_LOCAL, 0);
	bind_area(HUGE(3), H(1), UAPI_MPOL_PREFERRED_MANY, 1 << 1 | 1 << 2);
	bind_area(HUGE(4), H(4), UAPI_MPOL_INTERLEAVE, 1 << 1 | 1 << 2);
	touch_is_of(0, 0, 1);
	touch_is_of(0, 1, 2);
	touch_is_of(0, 2, 0);
	touch_is_of(0, 3, 2);
	assert_int_equal(write_on(0, 4), FAULT_OK);
	first = node_told(HUGE(4));
	touch_is_of(0, 6, first);
	touch_is_of(0, 5, 3 - first);
	touch_is_of(0, 7, 3 - first);
}

static void preferred_nodes_that_have_none_give_way(void **state)
{
	(void)state;
	give_nodes(2, 1, 0);
	map_anon(0, 3, PRIVATE);
	bind_area(HUGE(0), H(3), UAPI_MPOL_PREFERRED_MANY, 1 << 1 | 1 << 2);
	touch_is_of(0, 0, 1);
	touch_is_of(0, 1, 0);
	bind_area(HUGE(2), H(1), UAPI_MPOL_PREFERRED, 1 << 2);
	touch_is_of(0, 2, 0);
}

/* As Linux has it: a promise is of no node. */
static void who_is_bound_may_be_left_without_what_was_promised(void **state)
{
	(void)state;
	give_nodes(2, 0, 0);
	map_anon(0, 1, PRIVATE);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(write_on(0, 0), FAULT_BUS);
	pool_is(2, 2, 1);
	/* A surplus page of the node will do. */
	hugetlb_set_overcommit(h, 1);
	touch_is_of(0, 0, 1);
	pool_is(3, 2, 0);
	nodes_have(2, 1, 0);
	unmap(0, 1);
	pool_is(2, 2, 0);
	nodes_have(2, 0, 0);
}

static void who_is_bound_is_promised_what_is_free_there(void **state)
{
	(void)state;
	give_nodes(2, 1, 0);
	set_policy(mm, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(map_huge(0, 2, PRIVATE | HUGETLB, NULL, 0), -ENOMEM);
	pool_is(3, 3, 0);
	map_anon(0, 1, PRIVATE);
	pool_is(3, 3, 1);
	touch_is_of(0, 0, 1);
	/* What is made for a promise is made there, too. */
	hugetlb_set_overcommit(h, 2);
	set_policy(mm, UAPI_MPOL_BIND, 1 << 2);
	hugetlb_set_pool_node(h, 0, 0);
	map_anon(4, 2, PRIVATE);
	nodes_have(0, 1, 2);
}

static void a_copy_follows_the_policy(void **state)
{
	struct mm *child;

	(void)state;
	give_nodes(1, 2, 0);
	map_anon(0, 1, PRIVATE);
	touch_is_of(0, 0, 0);
	child = fork_of(mm);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	touch_is_of(0, 0, 1);
	end(child);
	free_are(1, 1, 0);
}

static void what_a_monitor_copies_in_follows_it(void **state)
{
	struct userfaultfd_ctx *ctx;
	u64 features = 0, ioctls;
	u8 *bytes = calloc(1, H(2));
	s64 done;

	(void)state;
	give_nodes(1, 2, 1);
	map_anon(0, 2, SHARED);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 2);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, HUGE(0), H(2), UAPI_UFFDIO_REGISTER_MODE_MISSING,
					      &ioctls),
			 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(
			userfaultfd_copy(ctx, NULL, HUGE(i), (u64)(uintptr_t)bytes, H(1), 0, &done),
			0);
	assert_int_equal(node_told(HUGE(0)), 1);
	assert_int_equal(node_told(HUGE(1)), 2);
	userfaultfd_release(ctx);
	free(bytes);
}

/* ---- mbind ---- */

static void part_of_a_huge_page_is_not_bound(void **state)
{
	const u64 node1 = 1 << 1;

	(void)state;
	give_nodes(2, 0, 0);
	map_anon(0, 2, PRIVATE);
	assert_int_equal(do_mbind(mm, HUGE(0), H(1) + PAGE_SIZE, UAPI_MPOL_BIND, &node1, 9, 0),
			 -EINVAL);
	assert_int_equal(do_mbind(mm, HUGE(0) + PAGE_SIZE, H(1), UAPI_MPOL_BIND, &node1, 9, 0),
			 -EINVAL);
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(do_mbind(mm, HUGE(0), H(1), UAPI_MPOL_BIND, &node1, 9, 0), 0);
	assert_int_equal(mm->map_count, 2);
	pool_is(2, 2, 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(nodes_have_their_turns),
		T(a_node_without_blocks_is_passed_over),
		T(the_pages_of_one_node_are_set_alone),
		T(what_is_in_use_becomes_surplus_on_its_node),
		T(a_page_comes_from_the_nearest_node_that_has_one),
		T(it_follows_the_areas_policy_or_else_the_spaces),
		T(preferred_nodes_that_have_none_give_way),
		T(who_is_bound_may_be_left_without_what_was_promised),
		T(who_is_bound_is_promised_what_is_free_there),
		T(a_copy_follows_the_policy),
		T(what_a_monitor_copies_in_follows_it),
		T(part_of_a_huge_page_is_not_bound),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
