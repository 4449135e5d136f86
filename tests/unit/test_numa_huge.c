/* SPDX-License-Identifier: MIT */
/* Which node huge pages come from, transparent ones and those of a pool, and what is told of it. */
#include "engine/fault/collapse.h"
#include "engine/hugetlb/internal.h"
#include "engine/space/huge.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_world.h"
#include "tests/unit/numa_world.h"

#define GIB    (1ULL << 30)
#define GIB_AT 0x80000000ULL

/* ---- pages of 1 GiB ---- */

/* Two nodes, of which the second has room for a page of 1 GiB; the CPU is of the first. */
static int setup_gib(void **state)
{
	const u64 frames = 2 * GIB / PAGE_SIZE, first = 8 * HUGE_FRAMES;

	(void)state;
	start((struct world_options){ .frames = frames,
				      .nodes = { .nr = 2, .frames = { first, frames - first } } });
	h = hstate_sizelog(w.e, 30);
	assert_int_equal(hugetlb_set_pool(h, 1), 1);
	return 0;
}

/* Its page is in the file, as a fault would have put it there but for zeroing 1 GiB. */
static void map_gib(void)
{
	struct huge_claim claim;
	struct vma *vma;

	assert_int_equal(do_mmap(mm, GIB_AT, GIB, RW,
				 SHARED | HUGETLB | UAPI_MAP_HUGE_1GB | UAPI_MAP_FIXED, NULL, 0),
			 GIB_AT);
	vma = find_vma(mm, GIB_AT);
	assert_int_equal(hugetlb_claim(vma, 0, &vma->policy, false, &claim), 0);
	assert_int_equal(hugetlb_add_page(vma->file->mapping, claim.page, 0), 0);
	hugetlb_commit(&claim);
}

static void the_node_of_a_page_of_1_gib_is_told(void **state)
{
	(void)state;
	map_gib();
	assert_int_equal(node_told(GIB_AT), 1);
	assert_int_equal(node_told(GIB_AT + GIB / 2 + PAGE_SIZE), 1);
	assert_int_equal(mm->hugetlb_pages, GIB / PAGE_SIZE);
	assert_int_equal(pte_pfn(pte_peek(mm, GIB_AT + GIB - PAGE_SIZE)) -
				 pte_pfn(pte_peek(mm, GIB_AT)),
			 GIB / PAGE_SIZE - 1);
}

/* ---- three nodes, with room for seven huge pages each ---- */

enum { NODE_FRAMES = 8 * HUGE_FRAMES };

static struct page *held[24]; /* huge pages that are in nobody's hands but the test's */
static unsigned nr_held;

static int setup(void **state)
{
	(void)state;
	nr_held = 0;
	start_nodes(NODE_FRAMES, (struct world_options){ .thp = THP_ALWAYS });
	h = hstate_sizelog(w.e, 21);
	return 0;
}

static int finish(void **state)
{
	while (nr_held)
		page_put(w.e, held[--nr_held]);
	return teardown(state);
}

/* The node has no 2 MiB in one piece any more. */
static void use_up(unsigned nid)
{
	unsigned first = nr_held;

	while ((held[nr_held] = page_alloc_nodes(w.e, HUGE_ORDER, ALLOC_NORECLAIM, nid, 1u << nid)))
		nr_held++;
	assert_true(nr_held > first);
}

/* An area of n huge pages from the `at`-th on, of the kind that may be transparent. */
static void map_thp(unsigned at, unsigned n)
{
	assert_int_equal(vm_map(mm, HUGE(at), H(n), RW, VMAP_FIXED, 0), HUGE(at));
}

static void touch_on(unsigned cpu, u64 va)
{
	assert_int_equal(soft_write_byte(&w.m->cpus[cpu], va, 1), FAULT_OK);
}

/* What is mapped at the huge page: a huge one or a small one, and of which node. */
static void is_of(unsigned at, bool huge, int nid)
{
	spinlock_t *ptl;
	const pte_t *pmdp = pmd_find(mm, HUGE(at), &ptl);

	assert_non_null(pmdp);
	assert_int_equal(pmd_is_huge(pte_read(pmdp)), huge);
	assert_int_equal(node_told(HUGE(at)), nid);
}

/* ---- transparent ones, at a fault ---- */

static void a_huge_page_comes_from_the_node_of_the_cpu(void **state)
{
	(void)state;
	map_thp(0, 3);
	for (unsigned i = 0; i < 3; i++)
		touch_on(i, HUGE(i));
	for (unsigned i = 0; i < 3; i++)
		is_of(i, true, (int)i);
}

static void it_follows_the_areas_policy_or_else_the_spaces(void **state)
{
	(void)state;
	map_thp(0, 4);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 2);
	bind_area(HUGE(1), H(1), UAPI_MPOL_BIND, 1 << 1);
	bind_area(HUGE(2), H(1), UAPI_MPOL_LOCAL, 0);
	bind_area(HUGE(3), H(1), UAPI_MPOL_PREFERRED_MANY, 1 << 1);
	for (unsigned i = 0; i < 4; i++)
		touch_on(0, HUGE(i));
	is_of(0, true, 2);
	is_of(1, true, 1);
	is_of(2, true, 0);
	is_of(3, true, 1);
}

static void huge_pages_are_interleaved_as_such(void **state)
{
	int first;

	(void)state;
	map_thp(0, 6);
	bind_area(HUGE(0), H(6), UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 1);
	for (unsigned i = 6; i--;)
		touch_on(2, HUGE(i));
	first = node_told(HUGE(0));
	for (unsigned i = 0; i < 6; i++)
		is_of(i, true, i % 2 ? 1 - first : first);
}

static void who_writes_to_huge_zeros_gets_a_page_by_the_policy(void **state)
{
	(void)state;
	map_thp(0, 1);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 2);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(hget(HUGE(0)), 0);
	is_of(0, true, 2); /* the zeros are nobody's area's: whoever wanted them first */
	touch_on(0, HUGE(0));
	is_of(0, true, 1);
}

static void small_pages_of_the_node_are_worth_more_than_a_huge_one_of_another(void **state)
{
	(void)state;
	map_thp(0, 3);
	use_up(0);
	touch_on(0, HUGE(0));
	is_of(0, false, 0);
	/* With MADV_HUGEPAGE it is the other way around. */
	assert_int_equal(do_madvise(mm, HUGE(1), H(1), UAPI_MADV_HUGEPAGE), 0);
	touch_on(0, HUGE(1));
	is_of(1, true, 2);
	/* Of nodes that are all away from the CPU each will do. */
	bind_area(HUGE(2), H(1), UAPI_MPOL_BIND, 1 << 1 | 1 << 2);
	use_up(2);
	touch_on(0, HUGE(2));
	is_of(2, true, 1);
}

static void a_bound_area_has_none_of_another_node(void **state)
{
	(void)state;
	map_thp(0, 1);
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_HUGEPAGE), 0);
	use_up(1);
	touch_on(0, HUGE(0));
	is_of(0, false, 1);
}

static void pages_that_come_together_follow_it_too(void **state)
{
	(void)state;
	w.e->config.folio_orders = 1 << 4;
	map(0, 32, RW); /* too small for a huge page */
	bind_area(AT(0), P(32), UAPI_MPOL_BIND, 1 << 1);
	touch_on(0, AT(3));
	assert_int_equal(atomic_load(&mm->rss), 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(node_told(AT(i)), 1);
}

/* ---- collapse ---- */

/* Small pages in place of the huge one: [0, n) of node `a`, the others of `b`. */
static void fill_small(unsigned at, unsigned n, unsigned a, unsigned b)
{
	w.e->config.thp = THP_MADVISE;
	map_thp(at, 1);
	for (unsigned i = 0; i < HUGE_FRAMES; i++)
		touch_on(i < n ? a : b, HUGE(at) + P(i));
}

static s64 collapse(unsigned at)
{
	return do_madvise(mm, HUGE(at), H(1), UAPI_MADV_COLLAPSE);
}

static void what_is_collapsed_goes_to_where_most_of_it_was(void **state)
{
	(void)state;
	fill_small(0, 200, 0, 2);
	/* Whatever the policy says; so it is in Linux. */
	bind_area(HUGE(0), H(1), UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(collapse(0), 0);
	is_of(0, true, 2);
	fill_small(1, 300, 1, 2);
	assert_int_equal(collapse(1), 0);
	is_of(1, true, 1);
}

static void of_as_many_the_first_that_has_a_block(void **state)
{
	(void)state;
	fill_small(0, HUGE_FRAMES / 2, 2, 1);
	fill_small(1, HUGE_FRAMES / 2, 2, 1);
	assert_int_equal(collapse(0), 0);
	is_of(0, true, 1);
	use_up(1);
	assert_int_equal(collapse(1), 0);
	is_of(1, true, 2);
}

static void it_goes_nowhere_else(void **state)
{
	(void)state;
	fill_small(0, 200, 0, 2);
	use_up(2);
	assert_int_equal(collapse(0), -ENOMEM);
	is_of(0, false, 0);
}

static void the_scan_in_the_background_does_so_too(void **state)
{
	(void)state;
	w.e->config.collapse.max_none = HUGE_FRAMES - 1;
	fill_small(0, 200, 1, 2);
	w.e->config.thp = THP_ALWAYS;
	assert_int_equal(khugepaged_scan(w.e, HUGE_FRAMES), 1);
	is_of(0, true, 2);
}

/* ---- moving (more of it: test_numa.c) ---- */

static int move_page(u64 va, const int *nid)
{
	int status = 99;

	assert_in_range(do_move_pages(mm, 1, &va, nid, &status, UAPI_MPOL_MF_MOVE), 0, 1);
	return status;
}

static s64 bind_now(unsigned at, u64 nodes)
{
	return do_mbind(mm, HUGE(at), H(1), UAPI_MPOL_BIND, &nodes, 9,
			UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_STRICT);
}

static void what_others_have_too_stays_whole(void **state)
{
	u64 from = 1 << 0, to = 1 << 2;
	const int there = 2;
	struct mm *child;

	(void)state;
	map_thp(0, 1);
	touch_on(0, HUGE(0));
	child = fork_of(mm);
	assert_int_equal(move_page(HUGE(0), &there), -EACCES);
	assert_int_equal(bind_now(0, 1 << 2), 0);
	assert_int_equal(do_migrate_pages(mm, 9, &from, &to), 0);
	is_of(0, true, 0);
	end(child);
	assert_int_equal(move_page(HUGE(0), &there), 2);
	is_of(0, false, 2);
}

static void pages_of_a_pool_stay_and_are_told_of(void **state)
{
	const int here = 0, there = 1;
	u64 from = 1 << 0, to = 1 << 1;

	(void)state;
	assert_int_equal(hugetlb_set_pool_node(h, 0, 1), 1);
	map_anon(0, 1, PRIVATE);
	touch_on(0, HUGE(0));
	assert_int_equal(move_page(HUGE(0) + P(3), &here), 0);
	assert_int_equal(move_page(HUGE(0) + P(3), &there), -EBUSY);
	assert_int_equal(bind_now(0, 1 << 0), 0);
	assert_int_equal(bind_now(0, 1 << 1), -EIO);
	assert_int_equal(do_migrate_pages(mm, 9, &from, &to), HUGE_FRAMES);
	assert_int_equal(node_told(HUGE(0)), 0);
}

/* ---- what cannot be had ---- */

static void of_what_is_poisoned_no_node_is_told(void **state)
{
	struct userfaultfd_ctx *ctx;
	u64 features = 0, ioctls;
	s64 done;

	(void)state;
	hugetlb_set_pool(h, 1);
	map_anon(0, 1, PRIVATE);
	map(0, 1, RW);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, HUGE(0), H(1), UAPI_UFFDIO_REGISTER_MODE_MISSING,
					      &ioctls),
			 0);
	assert_int_equal(
		userfaultfd_register(ctx, AT(0), P(1), UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls),
		0);
	assert_int_equal(userfaultfd_poison(ctx, HUGE(0), H(1), 0, &done), 0);
	assert_int_equal(userfaultfd_poison(ctx, AT(0), P(1), 0, &done), 0);
	assert_int_equal(node_told(HUGE(0) + PAGE_SIZE), -EFAULT);
	assert_int_equal(node_told(AT(0)), -EFAULT);
	userfaultfd_release(ctx);
}

int main(void)
{
#define T(f)  cmocka_unit_test_setup_teardown(f, setup, finish)
#define TG(f) cmocka_unit_test_setup_teardown(f, setup_gib, teardown)
	const struct CMUnitTest tests[] = {
		TG(the_node_of_a_page_of_1_gib_is_told),
		T(a_huge_page_comes_from_the_node_of_the_cpu),
		T(it_follows_the_areas_policy_or_else_the_spaces),
		T(huge_pages_are_interleaved_as_such),
		T(who_writes_to_huge_zeros_gets_a_page_by_the_policy),
		T(small_pages_of_the_node_are_worth_more_than_a_huge_one_of_another),
		T(a_bound_area_has_none_of_another_node),
		T(pages_that_come_together_follow_it_too),
		T(what_is_collapsed_goes_to_where_most_of_it_was),
		T(of_as_many_the_first_that_has_a_block),
		T(it_goes_nowhere_else),
		T(the_scan_in_the_background_does_so_too),
		T(what_others_have_too_stays_whole),
		T(pages_of_a_pool_stay_and_are_told_of),
		T(of_what_is_poisoned_no_node_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
