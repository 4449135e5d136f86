/* SPDX-License-Identifier: MIT */
/* Nodes: where shared memory and the page cache come from. */
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shared_policy.h"
#include "engine/backing/shmem.h"
#include "engine/migrate/numa.h"
#include "engine/space/calls.h"
#include "tests/unit/script_world.h"

enum { NODE_FRAMES = 256 };

#define SHARED (VM_SHARED | VM_MAYSHARE)

/* Three nodes; from 0 it is farther to 1 than to 2.  CPU n is of node n. */
static const struct numa_config three = {
	.nr = 3,
	.frames = { NODE_FRAMES, NODE_FRAMES, NODE_FRAMES },
	.distance = { { 10, 30, 20 }, { 30, 10, 20 }, { 20, 20, 10 } },
};

/* Shared memory of 16 pages; `file`, if the test makes one; `other` is a second space, on CPU 1. */
static struct file *object, *file;
static struct mm *other;

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 3 * NODE_FRAMES, .cpus = 3, .nodes = three });
	other = second_space();
	soft_load_mm(&w.m->cpus[2], mm);
	soft_load_mm(w.cpu, mm);
	object = shmem_file_setup(w.e, P(16));
	assert_non_null(object);
	return 0;
}

static int finish(void **state)
{
	file_put(object);
	if (file)
		file_put(file);
	file = NULL;
	end_second_space(other);
	return teardown(state);
}

static void map_of(struct mm *in, unsigned page, unsigned n, u32 flags, struct file *f, u64 pgoff)
{
	assert_int_equal(vm_map_file(in, AT(page), P(n), RW, VMAP_FIXED, flags, f, pgoff),
			 AT(page));
}

/* The node of the object's page; -1: it has none. */
static int node_of(struct file *f, u64 index)
{
	struct page *page = find_get_page(f->mapping, index);
	int nid = page ? (int)page_nid(page) : -1;

	if (page)
		page_put(w.e, page);
	return nid;
}

/* The node of what is mapped there. */
static int node_at(unsigned page)
{
	const u64 va = AT(page);
	int status;

	assert_int_equal(do_move_pages(mm, 1, &va, NULL, &status, 0), 0);
	return status;
}

static void touch_on(unsigned cpu, unsigned page)
{
	assert_int_equal(soft_write_byte(&w.m->cpus[cpu], AT(page), (u8)(page + 1)), FAULT_OK);
}

static int bind_in(struct mm *in, unsigned page, unsigned n, u64 mode, u64 nodes, u64 flags)
{
	return do_mbind(in, AT(page), P(n), mode, nodes ? &nodes : NULL, 9, flags);
}

static void bind_area(unsigned page, unsigned n, u64 mode, u64 nodes)
{
	assert_int_equal(bind_in(mm, page, n, mode, nodes, 0), 0);
}

static void set_policy(struct mm *of, u64 mode, u64 nodes)
{
	assert_int_equal(do_set_mempolicy(of, mode, nodes ? &nodes : NULL, 9), 0);
}

/* What get_mempolicy() tells of the page; the nodes of a default are none. */
static void told_at(struct mm *of, unsigned page, int mode, u64 nodes)
{
	u64 got_nodes = 99;
	int got = 99;

	assert_int_equal(do_get_mempolicy(of, &got, &got_nodes, 9, AT(page), UAPI_MPOL_F_ADDR), 0);
	assert_int_equal(got, mode);
	assert_int_equal(got_nodes, nodes);
}

/* ---- shared memory ---- */

static void what_one_program_says_goes_for_all(void **state)
{
	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	map_of(other, 50, 4, SHARED, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 2);
	touch_on(1, 51);
	touch_on(0, 2);
	assert_int_equal(node_of(object, 1), 2);
	assert_int_equal(node_of(object, 2), 2);
	told_at(other, 53, UAPI_MPOL_BIND, 1 << 2);
}

static void it_stays_when_nobody_maps_the_object_any_more(void **state)
{
	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	map_of(mm, 8, 4, SHARED, object, 0);
	told_at(mm, 8, UAPI_MPOL_BIND, 1 << 1);
	touch_on(0, 8);
	assert_int_equal(node_of(object, 0), 1);
}

static void it_goes_with_the_object(void **state)
{
	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(vm_unmap(mm, AT(0), P(4)), 0);
	file_put(object);
	object = shmem_file_setup(w.e, P(16));
	map_of(mm, 0, 4, SHARED, object, 0);
	told_at(mm, 0, UAPI_MPOL_DEFAULT, 0);
	touch_on(0, 0);
	assert_int_equal(node_of(object, 0), 0);
}

static void it_is_kept_by_range_of_the_object(void **state)
{
	(void)state;
	map_of(mm, 0, 12, SHARED, object, 4);
	bind_area(0, 12, UAPI_MPOL_BIND, 1 << 1);
	bind_area(2, 3, UAPI_MPOL_PREFERRED, 1 << 2);
	bind_area(8, 2, UAPI_MPOL_DEFAULT, 0);
	map_of(other, 0, 16, SHARED, object, 0);
	for (unsigned i = 0; i < 16; i++) {
		unsigned at = i - 4; /* in mm */

		if (i < 4 || at == 8 || at == 9)
			told_at(other, i, UAPI_MPOL_DEFAULT, 0);
		else if (at >= 2 && at < 5)
			told_at(other, i, UAPI_MPOL_PREFERRED, 1 << 2);
		else
			told_at(other, i, UAPI_MPOL_BIND, 1 << 1);
	}
	touch_on(0, 0);
	touch_on(0, 3);
	touch_on(0, 9);
	assert_int_equal(node_of(object, 4), 1);
	assert_int_equal(node_of(object, 7), 2);
	assert_int_equal(node_of(object, 13), 0);
}

static void it_is_interleaved_by_its_place_in_the_object(void **state)
{
	(void)state;
	map_of(mm, 0, 9, SHARED, object, 1);
	map_of(other, 30, 6, SHARED, object, 10);
	bind_area(0, 9, UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 2);
	assert_int_equal(bind_in(other, 30, 6, UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 2, 0), 0);
	for (unsigned i = 9; i--;)
		touch_on(2, i);
	for (unsigned i = 6; i--;)
		touch_on(1, 30 + i);
	for (unsigned i = 1; i < 16; i++)
		assert_int_equal(node_of(object, i), i % 2 ? 2 : 0);
}

static void where_the_object_says_nothing_the_task_does(void **state)
{
	(void)state;
	map_of(mm, 0, 16, SHARED, object, 0);
	map_of(other, 0, 16, SHARED, object, 0);
	set_policy(mm, UAPI_MPOL_BIND, 1 << 2);
	set_policy(other, UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 1);
	touch_on(0, 0);
	touch_on(1, 1);
	touch_on(1, 3);
	touch_on(1, 2);
	assert_int_equal(node_of(object, 0), 2);
	assert_int_equal(node_of(object, 1), 1);
	assert_int_equal(node_of(object, 2), 0);
	assert_int_equal(node_of(object, 3), 1);
	/* And it is not told: the object has none. */
	told_at(mm, 0, UAPI_MPOL_DEFAULT, 0);
	bind_area(8, 1, UAPI_MPOL_BIND, 1 << 0);
	touch_on(2, 8);
	assert_int_equal(node_of(object, 8), 0);
}

static void it_goes_for_calls_and_for_what_comes_back(void **state)
{
	u8 byte = 7;

	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	touch_on(0, 0);
	assert_int_equal(node_of(object, 0), 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(node_of(object, 0), -1);
	assert_int_equal(get(0), 1);
	assert_int_equal(node_of(object, 0), 1);
	assert_int_equal(file_write(object, P(3), &byte, 1), 1);
	assert_int_equal(node_of(object, 3), 1);
}

static void a_private_mapping_speaks_for_the_object_too(void **state)
{
	(void)state;
	map_of(mm, 0, 4, 0, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(get(1), 0);
	assert_int_equal(node_of(object, 1), 1);
	map_of(other, 0, 4, SHARED, object, 0);
	assert_int_equal(bind_in(other, 0, 4, UAPI_MPOL_BIND, 1 << 2, 0), 0);
	/* The copy, as what it is of. */
	touch_on(0, 2);
	assert_int_equal(node_at(2), 2);
	told_at(mm, 2, UAPI_MPOL_BIND, 1 << 2);
}

static void shared_anonymous_memory_is_an_object_that_a_child_has_too(void **state)
{
	struct mm *child;
	s64 at;

	(void)state;
	at = do_mmap(mm, AT(0), P(4), UAPI_PROT_READ | UAPI_PROT_WRITE,
		     UAPI_MAP_SHARED | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0);
	assert_int_equal(at, AT(0));
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(bind_in(child, 0, 4, UAPI_MPOL_BIND, 1 << 1, 0), 0);
	mm_destroy(child);
	touch_on(0, 2);
	assert_int_equal(node_at(2), 1);
}

static void an_area_that_has_said_so_says_nothing_new(void **state)
{
	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	map_of(other, 0, 4, SHARED, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(bind_in(other, 0, 4, UAPI_MPOL_DEFAULT, 0, 0), 0);
	told_at(mm, 0, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(bind_in(other, 0, 4, UAPI_MPOL_BIND, 1 << 2, 0), 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	told_at(mm, 0, UAPI_MPOL_BIND, 1 << 2);
	bind_area(0, 4, UAPI_MPOL_DEFAULT, 0);
	told_at(other, 0, UAPI_MPOL_DEFAULT, 0);
}

static void an_area_speaks_for_all_that_it_becomes(void **state)
{
	(void)state;
	map_of(mm, 0, 8, SHARED, object, 0);
	map_of(other, 0, 8, SHARED, object, 0);
	bind_area(0, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(bind_in(other, 0, 4, UAPI_MPOL_BIND, 1 << 2, 0), 0);
	bind_area(4, 4, UAPI_MPOL_BIND, 1 << 1);
	assert_int_equal(mm->map_count, 1);
	told_at(other, 0, UAPI_MPOL_BIND, 1 << 1);
	told_at(other, 7, UAPI_MPOL_BIND, 1 << 1);
}

/* With one allocation after the other refused, until none is. */
static void without_memory_nothing_is_said(void **state)
{
	unsigned refused = 0;
	int err;

	(void)state;
	map_of(mm, 0, 8, SHARED, object, 0);
	bind_area(0, 8, UAPI_MPOL_BIND, 1 << 1);
	do {
		w.m->inject.memory_left = ++refused;
		err = bind_in(mm, 2, 4, UAPI_MPOL_BIND, 1 << 2, 0);
		w.m->inject.memory_left = 0;
		if (err) {
			assert_int_equal(err, -ENOMEM);
			assert_int_equal(mm->map_count, 1);
			told_at(mm, 3, UAPI_MPOL_BIND, 1 << 1);
		}
	} while (err);
	assert_true(refused > 2);
	told_at(mm, 1, UAPI_MPOL_BIND, 1 << 1);
	told_at(mm, 3, UAPI_MPOL_BIND, 1 << 2);
	told_at(mm, 6, UAPI_MPOL_BIND, 1 << 1);
}

static void ranges_are_what_was_said_last_of_each_page(void **state)
{
	struct shared_policy *sp = shmem_policy(object->mapping);
	struct shared_policy_room room;
	u64 said[16] = { 0 }, seed = 1;

	(void)state;
	for (unsigned round = 0; round < 3000; round++) {
		struct mempolicy policy = { 0 };
		u64 start, end;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		start = seed >> 60;
		end = start + 1 + (seed >> 56 & 15) % (16 - start);
		policy.nodes = seed >> 52 & 7;
		policy.mode = policy.nodes ? UAPI_MPOL_BIND : UAPI_MPOL_DEFAULT;
		assert_int_equal(shared_policy_get_room(&w.e->memory, &room), 0);
		shared_policy_set(sp, &w.e->memory, start, end, &policy, &room);
		shared_policy_put_room(&w.e->memory, &room);
		for (u64 i = start; i < end; i++)
			said[i] = policy.nodes;
		shared_policy_check(sp);
		for (u64 i = 0; i < 16; i++)
			assert_int_equal(shared_policy_lookup(sp, i).nodes, said[i]);
	}
	assert_int_equal(shared_policy_lookup(sp, 16).mode, UAPI_MPOL_DEFAULT);
}

/* ---- moving ---- */

static void what_only_this_program_maps_moves(void **state)
{
	(void)state;
	map_of(mm, 0, 4, SHARED, object, 0);
	map_of(other, 0, 4, SHARED, object, 0);
	for (unsigned i = 0; i < 4; i++)
		touch_on(0, i);
	touch_on(1, 1);
	assert_int_equal(
		bind_in(mm, 0, 4, UAPI_MPOL_BIND, 1 << 2, UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_STRICT),
		0);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(node_of(object, i), i == 1 ? 0 : 2);
		assert_int_equal(get(i), i + 1);
	}
	mm->limits.may_move_shared = true;
	assert_int_equal(bind_in(mm, 0, 4, UAPI_MPOL_BIND, 1 << 2, UAPI_MPOL_MF_MOVE_ALL), 0);
	assert_int_equal(node_of(object, 1), 2);
}

static void what_the_object_has_placed_is_not_asked_about(void **state)
{
	(void)state;
	map_of(mm, 0, 2, SHARED, object, 0);
	map_of(other, 0, 2, SHARED, object, 0);
	touch_on(0, 0);
	touch_on(1, 1);
	assert_int_equal(task_numa_work(mm, 1000), 1);
	assert_int_equal(bind_in(other, 0, 2, UAPI_MPOL_BIND, 1 << 0, 0), 0);
	touch_on(0, 0);
	assert_int_equal(task_numa_work(mm, 1000), 0);
}

/* ---- files ---- */

static void make_file(unsigned pages)
{
	file = ramfile_create(w.e, FILE_READ | FILE_WRITE, pages);
	assert_non_null(file);
	assert_int_equal(file_truncate(file, P(pages)), 0);
}

static void read_on(unsigned cpu, unsigned page)
{
	u8 byte;

	assert_int_equal(soft_read_byte(&w.m->cpus[cpu], AT(page), &byte), FAULT_OK);
}

static void map_program(struct mm *in, u32 prot, u32 flags)
{
	assert_int_equal(vm_map_file(in, AT(0), P(1), prot, VMAP_FIXED, flags, file, 0), AT(0));
}

/* Two hinting faults from node 2. */
static void use_on_2(void)
{
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(task_numa_work(mm, 1000), 1);
		read_on(2, 0);
	}
}

static void what_all_run_is_not_asked_about(void **state)
{
	(void)state;
	make_file(1);
	map_program(mm, VM_READ | VM_EXEC, 0);
	read_on(0, 0);
	assert_int_equal(task_numa_work(mm, 1000), 0);
}

static void what_several_run_stays_where_it_is(void **state)
{
	(void)state;
	make_file(1);
	map_program(mm, RW | VM_EXEC, SHARED);
	map_program(other, RW | VM_EXEC, SHARED);
	read_on(0, 0);
	read_on(1, 0);
	use_on_2();
	assert_int_equal(node_of(file, 0), 0);
	assert_int_equal(vm_unmap(other, AT(0), P(1)), 0);
	use_on_2();
	assert_int_equal(node_of(file, 0), 2);
}

static void a_file_comes_in_by_the_tasks_policy(void **state)
{
	u8 byte = 1;

	(void)state;
	make_file(8);
	map_of(other, 0, 8, SHARED | VM_RAND_READ, file, 0);
	set_policy(other, UAPI_MPOL_BIND, 1 << 2);
	touch_on(1, 0);
	assert_int_equal(node_of(file, 0), 2);
	/* By a call, and of another task. */
	soft_load_mm(w.cpu, mm);
	set_policy(mm, UAPI_MPOL_PREFERRED, 1 << 1);
	assert_int_equal(file_write(file, P(3), &byte, 1), 1);
	assert_int_equal(node_of(file, 3), 1);
	set_policy(mm, UAPI_MPOL_DEFAULT, 0);
	assert_int_equal(file_read(file, P(4), &byte, 1), 1);
	assert_int_equal(node_of(file, 4), 0);
}

static void mbind_places_no_page_of_a_file(void **state)
{
	(void)state;
	make_file(8);
	map_of(mm, 0, 8, SHARED | VM_RAND_READ, file, 0);
	bind_area(0, 8, UAPI_MPOL_BIND, 1 << 2);
	told_at(mm, 0, UAPI_MPOL_BIND, 1 << 2);
	touch_on(0, 0);
	assert_int_equal(node_of(file, 0), 0);
	/* It moves what is there, and what comes then is where the task says. */
	assert_int_equal(bind_in(mm, 0, 8, UAPI_MPOL_BIND, 1 << 2, UAPI_MPOL_MF_MOVE), 0);
	assert_int_equal(node_of(file, 0), 2);
	touch_on(0, 1);
	assert_int_equal(node_of(file, 1), 0);
	/* Private copies are the area's. */
	map_of(mm, 20, 8, 0, file, 0);
	bind_area(20, 8, UAPI_MPOL_BIND, 1 << 1);
	touch_on(0, 21);
	assert_int_equal(node_at(21), 1);
}

static int next_node(void)
{
	int nid;

	assert_int_equal(do_get_mempolicy(mm, &nid, NULL, 0, 0, UAPI_MPOL_F_NODE), 0);
	return nid;
}

static void a_file_is_interleaved_in_turn(void **state)
{
	static const u8 order[] = { 5, 1, 7, 3, 0 };
	u8 byte = 1;

	(void)state;
	make_file(8);
	soft_load_mm(w.cpu, mm);
	set_policy(mm, UAPI_MPOL_INTERLEAVE, 1 << 0 | 1 << 2);
	for (unsigned i = 0; i < sizeof(order); i++) {
		assert_int_equal(next_node(), i % 2 ? 2 : 0);
		assert_int_equal(file_write(file, P(order[i]), &byte, 1), 1);
		assert_int_equal(node_of(file, order[i]), i % 2 ? 2 : 0);
	}
	/* What is there takes no turn. */
	assert_int_equal(file_read(file, P(5), &byte, 1), 1);
	assert_int_equal(next_node(), 2);
	set_policy(mm, UAPI_MPOL_WEIGHTED_INTERLEAVE, 1 << 1 | 1 << 2);
	w.e->numa.weight[1] = 2;
	page_cache_readahead(file->mapping, 0, 8); /* pages 2, 4 and 6 */
	assert_int_equal(node_of(file, 2), 1);
	assert_int_equal(node_of(file, 4), 1);
	assert_int_equal(node_of(file, 6), 2);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, finish)
	const struct CMUnitTest tests[] = {
		T(what_one_program_says_goes_for_all),
		T(it_stays_when_nobody_maps_the_object_any_more),
		T(it_goes_with_the_object),
		T(it_is_kept_by_range_of_the_object),
		T(it_is_interleaved_by_its_place_in_the_object),
		T(where_the_object_says_nothing_the_task_does),
		T(it_goes_for_calls_and_for_what_comes_back),
		T(a_private_mapping_speaks_for_the_object_too),
		T(shared_anonymous_memory_is_an_object_that_a_child_has_too),
		T(an_area_that_has_said_so_says_nothing_new),
		T(an_area_speaks_for_all_that_it_becomes),
		T(without_memory_nothing_is_said),
		T(ranges_are_what_was_said_last_of_each_page),
		T(what_only_this_program_maps_moves),
		T(what_the_object_has_placed_is_not_asked_about),
		T(what_all_run_is_not_asked_about),
		T(what_several_run_stays_where_it_is),
		T(a_file_comes_in_by_the_tasks_policy),
		T(mbind_places_no_page_of_a_file),
		T(a_file_is_interleaved_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
