/* SPDX-License-Identifier: MIT */
/* Which node huge pages come from, transparent ones and those of a pool, and what is told of it. */
#include "engine/hugetlb/internal.h"
#include "engine/migrate/numa.h"
#include "engine/space/huge.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_world.h"

#define GIB    (1ULL << 30)
#define GIB_AT 0x80000000ULL

enum { NODE_OF_PAGE = UAPI_MPOL_F_ADDR | UAPI_MPOL_F_NODE };

/* What get_mempolicy(2) says of the page at va. */
static int node_told(u64 va)
{
	int nid = -1, err = do_get_mempolicy(mm, &nid, NULL, 0, va, NODE_OF_PAGE);

	return err ? err : nid;
}

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
	assert_int_equal(hugetlb_claim(vma, 0, false, &claim), 0);
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

/* ---- three nodes, with a pool of 2 MiB pages ---- */

enum { NODE_FRAMES = 8 * HUGE_FRAMES };

/* From 0 it is farther to 1 than to 2.  CPU n is of node n. */
static int setup(void **state)
{
	(void)state;
	start((struct world_options){
		.frames = 3 * NODE_FRAMES,
		.cpus = 3,
		.thp = THP_ALWAYS,
		.nodes = { .nr = 3,
			   .frames = { NODE_FRAMES, NODE_FRAMES, NODE_FRAMES },
			   .distance = { { 10, 30, 20 }, { 30, 10, 20 }, { 20, 20, 10 } } } });
	for (unsigned i = 1; i < 3; i++)
		soft_load_mm(&w.m->cpus[i], mm);
	soft_load_mm(w.cpu, mm);
	h = hstate_sizelog(w.e, 21);
	return 0;
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
#define T(f)  cmocka_unit_test_setup_teardown(f, setup, teardown)
#define TG(f) cmocka_unit_test_setup_teardown(f, setup_gib, teardown)
	const struct CMUnitTest tests[] = {
		TG(the_node_of_a_page_of_1_gib_is_told),
		T(of_what_is_poisoned_no_node_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
