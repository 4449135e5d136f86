/* SPDX-License-Identifier: MIT */
/* Which node pages come from that a call brings in, not a fault: what userfaultfd's monitor gives,
 * and whoever supplies bytes. */
#include "engine/backing/shmem.h"
#include "engine/fault/supply.h"
#include "engine/reclaim/memory_failure.h"
#include "engine/space/calls.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/numa_world.h"

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define MINOR	UAPI_UFFDIO_REGISTER_MODE_MINOR

enum { NODE_FRAMES = 256 };

static struct userfaultfd_ctx *ctx;
static struct file *object; /* shared memory, mapped from page 16 on */
static struct mm *monitor;  /* a space of its own, without memory */
static s64 done;

static void reg(unsigned page, unsigned n, u64 mode)
{
	u64 ioctls;

	assert_int_equal(userfaultfd_register(ctx, AT(page), P(n), mode, &ioctls), 0);
}

static void map_object(unsigned page, unsigned n)
{
	assert_int_equal(
		vm_map_file(mm, AT(page), P(n), RW, VMAP_FIXED, VM_SHARED | VM_MAYSHARE, object, 0),
		AT(page));
}

static int setup(void **state)
{
	u64 features = 0, ioctls;

	(void)state;
	start_nodes(NODE_FRAMES, (struct world_options){ 0 });
	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &monitor), 0);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	map(0, 16, RW);
	object = shmem_file_setup(w.e, P(16));
	map_object(16, 16);
	reg(0, 16, MISSING);
	reg(16, 16, MISSING | MINOR);
	return 0;
}

static int finish(void **state)
{
	userfaultfd_release(ctx);
	file_put(object);
	soft_load_mm(w.cpu, mm);
	mm_destroy(monitor);
	return teardown(state);
}

static const u8 bytes[4 * PAGE_SIZE] = { 7 };

/* Pages [page, page + n) by UFFDIO_COPY. */
static void copy(unsigned page, unsigned n)
{
	assert_int_equal(
		userfaultfd_copy(ctx, NULL, AT(page), (u64)(uintptr_t)bytes, P(n), 0, &done), 0);
}

/* The same by UFFDIO_ZEROPAGE. */
static void zero(unsigned page, unsigned n)
{
	assert_int_equal(userfaultfd_zeropage(ctx, AT(page), P(n), 0, &done), 0);
}

/* The filling thread runs for the monitor from now on, on CPU 0. */
static void monitor_fills(void)
{
	soft_load_mm(w.cpu, monitor);
}

/* ---- userfaultfd ---- */

static void what_is_copied_in_follows_the_areas_policy(void **state)
{
	int first;

	(void)state;
	bind_area(AT(0), P(2), UAPI_MPOL_BIND, 1 << 1);
	bind_area(AT(4), P(4), UAPI_MPOL_INTERLEAVE, 1 << 1 | 1 << 2);
	copy(0, 2);
	copy(2, 1);
	copy(4, 4);
	assert_int_equal(node_told(AT(0)), 1);
	assert_int_equal(node_told(AT(1)), 1);
	assert_int_equal(node_told(AT(2)), 0);
	first = node_told(AT(4));
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(node_told(AT(4 + i)), i % 2 ? 3 - first : first);
	assert_int_equal(get(0), 7);
}

static void of_what_it_does_not_say_the_fillers_does(void **state)
{
	(void)state;
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 1);
	copy(0, 1);
	assert_int_equal(node_told(AT(0)), 1);
	set_policy(monitor, UAPI_MPOL_PREFERRED, 1 << 2);
	bind_area(AT(2), P(1), UAPI_MPOL_LOCAL, 0);
	monitor_fills();
	copy(1, 1);
	copy(2, 1);
	copy(16, 1);
	assert_int_equal(node_told(AT(1)), 2);
	assert_int_equal(node_told(AT(2)), 0);
	assert_int_equal(node_told(AT(16)), 2);
}

static void shared_memory_is_filled_by_the_objects_policy(void **state)
{
	(void)state;
	bind_area(AT(16), P(8), UAPI_MPOL_BIND, 1 << 1);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 2);
	copy(16, 2);
	zero(18, 1);
	zero(24, 1);
	assert_int_equal(node_told(AT(16)), 1);
	assert_int_equal(node_told(AT(17)), 1);
	assert_int_equal(node_told(AT(18)), 1);
	assert_int_equal(node_told(AT(24)), 2);
}

static void what_is_continued_comes_back_by_it(void **state)
{
	(void)state;
	map_object(40, 1);
	put(40, 7);
	assert_int_equal(node_told(AT(40)), 0);
	assert_int_equal(reclaim_range(mm, AT(40), AT(41)), 1);
	bind_area(AT(16), P(1), UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(userfaultfd_continue(ctx, AT(16), P(1), 0, &done), 0);
	assert_int_equal(node_told(AT(16)), 1);
	assert_int_equal(get(16), 7);
}

/* ---- others ---- */

static void a_page_that_is_supplied_follows_the_areas_policy(void **state)
{
	(void)state;
	map(40, 2, RW);
	bind_area(AT(40), P(1), UAPI_MPOL_BIND, 1 << 1);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 2);
	assert_int_equal(supply_page(mm, AT(40), bytes), 0);
	assert_int_equal(supply_page(mm, AT(41), bytes), 0);
	assert_int_equal(node_told(AT(40)), 1);
	assert_int_equal(node_told(AT(41)), 2);
}

static void a_page_whose_frame_is_about_to_fail_stays_on_its_node(void **state)
{
	spinlock_t *ptl;

	(void)state;
	map(40, 1, RW);
	bind_area(AT(40), P(1), UAPI_MPOL_BIND, 1 << 1);
	put(40, 9);
	assert_int_equal(soft_offline_page(w.e, pte_pfn(pte_read(pte_find(mm, AT(40), &ptl)))), 0);
	assert_int_equal(node_told(AT(40)), 1);
	assert_int_equal(get(40), 9);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, finish)
	const struct CMUnitTest tests[] = {
		T(what_is_copied_in_follows_the_areas_policy),
		T(of_what_it_does_not_say_the_fillers_does),
		T(shared_memory_is_filled_by_the_objects_policy),
		T(what_is_continued_comes_back_by_it),
		T(a_page_that_is_supplied_follows_the_areas_policy),
		T(a_page_whose_frame_is_about_to_fail_stays_on_its_node),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
