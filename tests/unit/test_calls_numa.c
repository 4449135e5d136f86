/* SPDX-License-Identifier: MIT */
/*
 * mbind(2), set_mempolicy(2), get_mempolicy(2), move_pages(2), migrate_pages(2) beside the running
 * kernel: the same calls there and by an engine of one node, and the same answers.  Skipped where
 * the kernel has no such calls, or more nodes than one.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/backing/shmem.h"
#include "engine/migrate/numa.h"
#include "tests/unit/one_world.h"

enum { PAGES = 8 };

static char *area; /* the kernel's; the engine's is AT(0).  Page 5 is a hole in both. */
static bool has_calls;

/* What a call answers: 0 and up, or a negative errno. */
static s64 kernel(s64 r)
{
	return r < 0 ? -errno : r;
}

static int setup(void **state)
{
	unsigned long allowed[16] = { 0 };

	(void)state;
	start((struct world_options){ 0 });
	mm->limits.may_move_shared = !geteuid();
	has_calls =
		!syscall(SYS_get_mempolicy, NULL, allowed, 1024, NULL, UAPI_MPOL_F_MEMS_ALLOWED) &&
		allowed[0] == 1;
	area = mmap(NULL, PAGES * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		    -1, 0);
	assert_true(area != MAP_FAILED);
	map(0, PAGES, RW);
	munmap(area + P(5), PAGE_SIZE);
	assert_int_equal(vm_unmap(mm, AT(5), P(1)), 0);
	for (unsigned i = 0; i < 3; i++) {
		area[P(i)] = 1;
		put(i, 1);
	}
	return 0;
}

static int end(void **state)
{
	syscall(SYS_set_mempolicy, UAPI_MPOL_DEFAULT, NULL, 0);
	munmap(area, PAGES * PAGE_SIZE);
	return teardown(state);
}

static void need_calls(void)
{
	if (!has_calls)
		skip();
}

static const u64 modes[] = { 0,		  1,	       2,	    3,		 4,
			     5,		  6,	       7,	    99,		 1ULL << 13,
			     2 | 1 << 13, 3 | 1 << 13, 5 | 1 << 13, 2 | 1 << 14, 2 | 1 << 15,
			     2 | 3 << 14, 1 | 1 << 15, 4 | 1 << 14, 3 | 1 << 15, 6 | 1 << 14 };
static const u64 masks[][2] = { { 0, 0 }, { 1, 0 }, { 2, 0 }, { 3, 0 }, { 0x100, 0 }, { 1, 1 } };
static const u64 lengths[] = {
	0, 1, 2, 3, 9, 64, 65, 66, 128, PAGE_SIZE * 8 + 1, PAGE_SIZE * 8 + 2
};

/* The words that a long maxnode has the kernel read. */
static u64 words[2 * PAGE_SIZE / sizeof(u64)];

static const u64 *mask(unsigned i)
{
	memset(words, 0, sizeof(words));
	memcpy(words, masks[i], sizeof(masks[i]));
	return words;
}

static void what_policies_can_be_set(void **state)
{
	(void)state;
	need_calls();
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++)
		for (unsigned k = 0; k < ARRAY_SIZE(masks); k++)
			for (unsigned l = 0; l < ARRAY_SIZE(lengths); l++) {
				u64 k_nodes[16] = { 0 }, nodes[16] = { 0 };
				s64 want = kernel(
					syscall(SYS_set_mempolicy, modes[m], mask(k), lengths[l]));
				s64 got = do_set_mempolicy(mm, modes[m], mask(k), lengths[l]);
				int k_mode = -1, mode = -1;

				if (got != want)
					fail_msg("set_mempolicy(%lx, {%lx, %lx}, %lu): %ld, the "
						 "kernel says %ld",
						 (long)modes[m], (long)masks[k][0],
						 (long)masks[k][1], (long)lengths[l], (long)got,
						 (long)want);
				syscall(SYS_get_mempolicy, &k_mode, k_nodes, 1024, NULL, 0);
				assert_int_equal(do_get_mempolicy(mm, &mode, nodes, 1024, 0, 0), 0);
				assert_int_equal(mode, k_mode);
				/* Nodes above 62 are not remembered. */
				if (nodes[0] != k_nodes[0])
					fail_msg("set_mempolicy(%lx, {%lx}, %lu): nodes %lx, the "
						 "kernel has %lx",
						 (long)modes[m], (long)masks[k][0],
						 (long)lengths[l], (long)nodes[0],
						 (long)k_nodes[0]);
			}
}

static void what_areas_can_be_bound(void **state)
{
	static const struct {
		u64 page, bytes;
	} ranges[] = { { 0, P(2) }, { 0, 1 },	  { 0, 0 },	{ 4, P(3) }, { 5, P(1) },
		       { 3, P(2) }, { 6, P(40) }, { 0, ~0ULL }, { 5, P(2) }, { 0, ~0xfffULL } };
	static const u64 flags[] = { 0, 1, 2, 3, 4, 5, 8, 16 };

	(void)state;
	need_calls();
	/* Nothing behind it on either side. */
	for (unsigned m = 0; m < ARRAY_SIZE(modes); m++)
		for (unsigned k = 0; k < ARRAY_SIZE(masks); k++)
			for (unsigned r = 0; r < ARRAY_SIZE(ranges); r++)
				for (unsigned f = 0; f < ARRAY_SIZE(flags); f++) {
					s64 want = kernel(syscall(
						SYS_mbind, area + P(ranges[r].page),
						ranges[r].bytes, modes[m], mask(k), 66, flags[f]));
					s64 got = do_mbind(mm, AT(ranges[r].page), ranges[r].bytes,
							   modes[m], mask(k), 66, flags[f]);

					/* What lies behind the area there is not ours to say. */
					if (ranges[r].bytes == P(40) && want != got)
						continue;
					if (got != want)
						fail_msg("mbind(page %lu, %lx, %lx, {%lx}, 66, "
							 "%lx): %ld, the kernel says %ld",
							 (long)ranges[r].page,
							 (long)ranges[r].bytes, (long)modes[m],
							 (long)masks[k][0], (long)flags[f],
							 (long)got, (long)want);
				}
	soft_check(w.m);
}

static void what_is_told_of_policies(void **state)
{
	static const u64 flags[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8 };
	static const s64 at[] = { -1, 0, 1, 3, 5 }; /* pages; -1: address 0 */
	static const u64 most[] = { 0, 1, 2, 64, 65, 1024 };
	u64 one = 1;

	(void)state;
	need_calls();
	for (unsigned set = 0; set < 4; set++) {
		/* Default, the space's, the area's. */
		if (set == 1) {
			syscall(SYS_set_mempolicy, UAPI_MPOL_INTERLEAVE, &one, 65);
			assert_int_equal(do_set_mempolicy(mm, UAPI_MPOL_INTERLEAVE, &one, 65), 0);
		} else if (set == 2) {
			syscall(SYS_mbind, area, P(2), UAPI_MPOL_BIND, &one, 65, 0);
			assert_int_equal(do_mbind(mm, AT(0), P(2), UAPI_MPOL_BIND, &one, 65, 0), 0);
		} else if (set == 3) {
			syscall(SYS_set_mempolicy, UAPI_MPOL_LOCAL, NULL, 0);
			assert_int_equal(do_set_mempolicy(mm, UAPI_MPOL_LOCAL, NULL, 0), 0);
		}
		for (unsigned f = 0; f < ARRAY_SIZE(flags); f++)
			for (unsigned a = 0; a < ARRAY_SIZE(at); a++)
				for (unsigned n = 0; n < ARRAY_SIZE(most); n++) {
					u64 k_nodes[16] = { 0 }, nodes[16] = { 0 };
					int k_mode = 77, mode = 77;
					s64 want = kernel(syscall(
						SYS_get_mempolicy, &k_mode, k_nodes, most[n],
						at[a] < 0 ? NULL : area + P(at[a]), flags[f]));
					s64 got = do_get_mempolicy(mm, &mode, nodes, most[n],
								   at[a] < 0 ? 0 : AT(at[a]),
								   flags[f]);

					if (got != want || mode != k_mode || nodes[0] != k_nodes[0])
						fail_msg("get_mempolicy(%lu, page %ld, %lx), set "
							 "%u: %ld, mode %x, nodes %lx; the kernel "
							 "says %ld, %x, %lx",
							 (long)most[n], (long)at[a], (long)flags[f],
							 set, (long)got, mode, (long)nodes[0],
							 (long)want, k_mode, (long)k_nodes[0]);
				}
	}
}

/* Three areas of one object of 12 pages. */
static const struct shared_area {
	unsigned pages, pgoff;
	bool private;
} shared_areas[] = { { 8, 0, false }, { 8, 4, false }, { 6, 3, true } };
static char *shared_at[ARRAY_SIZE(shared_areas)];

#define SHARED_PAGE(n) (100 * ((n) + 1)) /* of the engine's */

/* On both sides, in place of what was there: an area that has said nothing. */
static void map_shared(unsigned n, int fd, struct file *f)
{
	const struct shared_area *a = &shared_areas[n];
	u32 flags = a->private ? 0 : VM_SHARED | VM_MAYSHARE;

	if (shared_at[n])
		munmap(shared_at[n], P(a->pages));
	shared_at[n] = mmap(shared_at[n], P(a->pages), PROT_READ | PROT_WRITE,
			    a->private ? MAP_PRIVATE : MAP_SHARED, fd, P(a->pgoff));
	assert_true(shared_at[n] != MAP_FAILED);
	assert_int_equal(vm_map_file(mm, AT(SHARED_PAGE(n)), P(a->pages), RW, VMAP_FIXED, flags, f,
				     a->pgoff),
			 AT(SHARED_PAGE(n)));
}

static void compare_told(unsigned n, unsigned round)
{
	for (unsigned i = 0; i < shared_areas[n].pages; i++) {
		u64 k_nodes[16] = { 0 }, nodes[16] = { 0 };
		int k_mode = 77, mode = 77;

		assert_int_equal(syscall(SYS_get_mempolicy, &k_mode, k_nodes, 1024,
					 shared_at[n] + P(i), UAPI_MPOL_F_ADDR),
				 0);
		assert_int_equal(do_get_mempolicy(mm, &mode, nodes, 1024, AT(SHARED_PAGE(n) + i),
						  UAPI_MPOL_F_ADDR),
				 0);
		if (mode != k_mode || nodes[0] != k_nodes[0])
			fail_msg("after %u calls, area %u, page %u: mode %x, nodes %lx; the kernel "
				 "says %x, %lx",
				 round + 1, n, i, mode, (long)nodes[0], k_mode, (long)k_nodes[0]);
	}
}

static void what_areas_say_of_shared_memory(void **state)
{
	static const u64 said[] = { UAPI_MPOL_DEFAULT,
				    UAPI_MPOL_BIND,
				    UAPI_MPOL_PREFERRED,
				    UAPI_MPOL_INTERLEAVE,
				    UAPI_MPOL_LOCAL,
				    UAPI_MPOL_DEFAULT,
				    UAPI_MPOL_BIND | UAPI_MPOL_F_STATIC_NODES };
	int fd = memfd_create("object", 0);
	struct file *f;
	u64 one = 1, seed = 1;

	(void)state;
	need_calls();
	assert_int_equal(ftruncate(fd, P(12)), 0);
	f = shmem_file_setup(w.e, P(12));
	for (unsigned n = 0; n < ARRAY_SIZE(shared_areas); n++)
		map_shared(n, fd, f);
	for (unsigned round = 0; round < 1000; round++) {
		unsigned n, first, pages;
		const u64 *mask;
		u64 mode;

		seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
		n = (seed >> 32) % ARRAY_SIZE(shared_areas);
		first = (seed >> 40) % shared_areas[n].pages;
		pages = 1 + (seed >> 48) % (shared_areas[n].pages - first);
		mode = said[(seed >> 56) % ARRAY_SIZE(said)];
		mask = mode == UAPI_MPOL_DEFAULT || mode == UAPI_MPOL_LOCAL ? NULL : &one;
		if (round % 16 == 15)
			map_shared(n, fd, f);
		assert_int_equal(
			do_mbind(mm, AT(SHARED_PAGE(n) + first), P(pages), mode, mask, 65, 0),
			kernel(syscall(SYS_mbind, shared_at[n] + P(first), P(pages), mode, mask, 65,
				       0)));
		for (unsigned k = 0; k < ARRAY_SIZE(shared_areas); k++)
			compare_told(k, round);
	}
	for (unsigned n = 0; n < ARRAY_SIZE(shared_areas); n++)
		munmap(shared_at[n], P(shared_areas[n].pages));
	memset(shared_at, 0, sizeof(shared_at));
	file_put(f);
	close(fd);
}

static void what_is_told_of_pages(void **state)
{
	static const u64 flags[] = { 0, 1, 2, 4, 6, 8 };
	const s64 at[] = { 0, 1, 2, 3, 4, 5, 6 };
	int nodes[ARRAY_SIZE(at)] = { 0 };

	(void)state;
	need_calls();
	/* Page 4 is the zero page. */
	assert_int_equal(((volatile char *)area)[P(4)], get(4));
	for (unsigned there = 0; there < 3; there++)
		for (unsigned f = 0; f < ARRAY_SIZE(flags); f++) {
			int k_status[ARRAY_SIZE(at)], status[ARRAY_SIZE(at)];
			void *k_pages[ARRAY_SIZE(at)];
			u64 pages[ARRAY_SIZE(at)];
			s64 want, got;

			for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
				k_pages[i] = area + P(at[i]);
				pages[i] = AT(at[i]);
				k_status[i] = status[i] = 77;
				nodes[i] = there == 2 && i == 3 ? 1 : 0;
			}
			want = kernel(syscall(SYS_move_pages, 0, ARRAY_SIZE(at), k_pages,
					      there ? nodes : NULL, k_status, flags[f]));
			got = do_move_pages(mm, ARRAY_SIZE(at), pages, there ? nodes : NULL, status,
					    flags[f]);
			if (got != want)
				fail_msg("move_pages, nodes %u, flags %lx: %ld, the kernel says "
					 "%ld",
					 there, (long)flags[f], (long)got, (long)want);
			assert_memory_equal(status, k_status, sizeof(status));
		}
}

static void what_nodes_a_program_moves_between(void **state)
{
	static const u64 most[] = { 1, 2, 3, 65, PAGE_SIZE * 8 + 2 };

	(void)state;
	need_calls();
	for (unsigned from = 0; from < ARRAY_SIZE(masks); from++)
		for (unsigned to = 0; to < ARRAY_SIZE(masks); to++)
			for (unsigned n = 0; n < ARRAY_SIZE(most); n++) {
				static u64 first[2 * PAGE_SIZE / sizeof(u64)];
				s64 want, got;

				memcpy(first, mask(from), sizeof(first));
				want = kernel(
					syscall(SYS_migrate_pages, 0, most[n], first, mask(to)));
				got = do_migrate_pages(mm, most[n], first, mask(to));
				if (got != want)
					fail_msg("migrate_pages(%lu, %lx, %lx): %ld, the kernel "
						 "says %ld",
						 (long)most[n], (long)masks[from][0],
						 (long)masks[to][0], (long)got, (long)want);
			}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(what_policies_can_be_set),	       T(what_areas_can_be_bound),
		T(what_is_told_of_policies),	       T(what_is_told_of_pages),
		T(what_nodes_a_program_moves_between), T(what_areas_say_of_shared_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
