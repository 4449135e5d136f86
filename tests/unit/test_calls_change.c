/* SPDX-License-Identifier: MIT */
/*
 * mprotect(2) and mremap(2): rules worth a name.  With any arguments at all they are compared with
 * the running kernel by tests/differential.
 */
#include "engine/backing/shmem.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

#define R	  UAPI_PROT_READ
#define W	  UAPI_PROT_WRITE
#define FIXED	  (UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED)
#define MAYMOVE	  UAPI_MREMAP_MAYMOVE
#define TO	  (UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED)
#define DONTUNMAP UAPI_MREMAP_DONTUNMAP

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ 0 });
	return 0;
}

static void make(unsigned page, unsigned n, u64 prot)
{
	assert_int_equal(do_mmap(mm, AT(page), P(n), prot, FIXED, NULL, 0), AT(page));
}

static bool is_mapped(unsigned page)
{
	struct vma *vma = find_vma(mm, AT(page));

	return vma && vma->start <= AT(page);
}

/* ---- mprotect ---- */

static void what_lies_before_a_hole_is_changed(void **state)
{
	(void)state;
	make(0, 2, R);
	make(3, 1, R);
	assert_int_equal(do_mprotect(mm, AT(0), P(4), R | W), -ENOMEM);
	put(1, 5);
	assert_int_equal(soft_write_byte(w.cpu, AT(3), 1), FAULT_ACCERR);
}

static void a_file_opened_for_reading_is_never_written_through(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(2)), *reader;

	(void)state;
	reader = file_open(f->mapping, FILE_READ);
	assert_int_equal(do_mmap(mm, AT(0), P(2), R, UAPI_MAP_SHARED | UAPI_MAP_FIXED, reader, 0),
			 AT(0));
	assert_int_equal(do_mprotect(mm, AT(0), P(1), R | W), -EACCES);
	/* A private mapping of it may be: what is written is not the file's. */
	assert_int_equal(do_mmap(mm, AT(4), P(2), R, UAPI_MAP_PRIVATE | UAPI_MAP_FIXED, reader, 0),
			 AT(4));
	assert_int_equal(do_mprotect(mm, AT(4), P(1), R | W), 0);
	file_put(reader);
	file_put(f);
}

static void only_a_stack_grows_down(void **state)
{
	(void)state;
	make(0, 2, R);
	assert_int_equal(do_mprotect(mm, AT(1), P(1), R | UAPI_PROT_GROWSDOWN), -EINVAL);
	assert_int_equal(do_mmap(mm, AT(8), P(4), R, FIXED | UAPI_MAP_GROWSDOWN, NULL, 0), AT(8));
	assert_int_equal(do_mprotect(mm, AT(10), P(1), R | W | UAPI_PROT_GROWSDOWN), 0);
	put(8, 1); /* from its start on */
	assert_int_equal(soft_write_byte(w.cpu, AT(11), 1), FAULT_ACCERR);
	assert_int_equal(do_mprotect(mm, AT(8), P(1), R | UAPI_PROT_GROWSDOWN | UAPI_PROT_GROWSUP),
			 -EINVAL);
}

/* ---- mremap ---- */

static void what_is_refused_has_unmapped_nothing(void **state)
{
	(void)state;
	make(0, 2, R | W);
	make(10, 4, R | W);
	put(0, 1);
	put(10, 2);
	/* It ends before the four pages that are wanted of it. */
	assert_int_equal(do_mremap(mm, AT(0), P(8), P(4), TO, AT(10)), -EFAULT);
	assert_int_equal(do_mremap(mm, AT(0), P(1), 0, 0, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, AT(0), P(1), 1ULL << 62, MAYMOVE, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, AT(0), P(2), P(2), TO, AT(1)), -EINVAL);
	assert_int_equal(do_mremap(mm, AT(0), P(2), P(3), DONTUNMAP | MAYMOVE, 0), -EINVAL);
	assert_int_equal(get(0), 1);
	assert_int_equal(get(10), 2);
}

static void areas_move_together_with_the_gaps_between_them(void **state)
{
	(void)state;
	make(0, 2, R | W);
	make(4, 1, R | W);
	put(1, 1);
	put(4, 4);
	assert_int_equal(do_mremap(mm, AT(0), P(6), P(6), TO, AT(20)), AT(20));
	assert_int_equal(get(21), 1);
	assert_int_equal(get(24), 4);
	assert_false(is_mapped(0) || is_mapped(4) || is_mapped(22));
	/* But no gap may come first. */
	assert_int_equal(do_mremap(mm, AT(22), P(3), P(3), TO, AT(40)), -EFAULT);
}

static void what_stays_behind_reads_zeros_and_stays_one_area(void **state)
{
	u64 areas;

	(void)state;
	make(0, 4, R | W);
	for (unsigned i = 0; i < 4; i++)
		put(i, i + 1);
	areas = mm->map_count;
	assert_int_equal(do_mremap(mm, AT(1), P(2), P(2), TO | DONTUNMAP, AT(20)), AT(20));
	assert_int_equal(mm->map_count, areas + 1);
	assert_int_equal(get(20), 2);
	assert_int_equal(get(21), 3);
	assert_int_equal(get(0), 1);
	assert_int_equal(get(1), 0);
	assert_int_equal(get(3), 4);
}

static void no_old_length_maps_shared_memory_once_more(void **state)
{
	(void)state;
	assert_int_equal(do_mmap(mm, AT(0), P(2), R | W,
				 UAPI_MAP_SHARED | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL, 0),
			 AT(0));
	put(1, 7);
	assert_int_equal(do_mremap(mm, AT(1), 0, P(1), TO, AT(20)), AT(20));
	assert_int_equal(get(20), 7);
	put(20, 8);
	assert_int_equal(get(1), 8);
	make(4, 1, R | W);
	assert_int_equal(do_mremap(mm, AT(4), 0, P(1), MAYMOVE, 0), -EINVAL);
	/* Where it is itself, there is nothing left to map. */
	assert_int_equal(do_mremap(mm, AT(0), 0, P(1), TO, AT(0)), -EFAULT);
}

static void growing_counts_against_the_limits(void **state)
{
	(void)state;
	make(0, 4, R | W);
	mm->limits.as = P(6);
	assert_int_equal(do_mremap(mm, AT(0), P(4), P(8), MAYMOVE, 0), -ENOMEM);
	assert_int_equal(do_mremap(mm, AT(0), P(4), P(6), 0, 0), AT(0));
	assert_int_equal(mm->total_vm, 6);
	assert_int_equal(do_mremap(mm, AT(0), P(6), P(1), 0, 0), AT(0));
	assert_int_equal(mm->total_vm, 1);
}

/* ---- madvise, mincore ---- */

static void advice_that_is_kept_splits_and_merges_areas(void **state)
{
	(void)state;
	make(0, 6, R | W);
	assert_int_equal(do_madvise(mm, AT(2), P(2), UAPI_MADV_DONTFORK), 0);
	assert_int_equal(mm->map_count, 3);
	assert_int_equal(do_madvise(mm, AT(0), P(6), UAPI_MADV_DOFORK), 0);
	assert_int_equal(mm->map_count, 1);
	/* Over a hole it goes on. */
	assert_int_equal(do_madvise(mm, AT(4), P(8), UAPI_MADV_RANDOM), -ENOMEM);
	assert_true(find_vma(mm, AT(5))->flags & VM_RAND_READ);
	assert_int_equal(do_madvise(mm, AT(0), P(1), 77), -EINVAL);
	assert_int_equal(do_madvise(mm, AT(0), 0, 77), -EINVAL);
	assert_int_equal(do_madvise(mm, AT(0), 0, UAPI_MADV_NORMAL), 0);
}

static void mincore_tells_of_pages_and_of_what_is_cached(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(3));
	u8 vec[4] = { 9, 9, 9, 9 };

	(void)state;
	make(0, 3, R | W);
	put(1, 1);
	assert_int_equal(do_mincore(mm, AT(0), P(2) + 1, vec), 0);
	assert_true(!vec[0] && vec[1] && !vec[2] && vec[3] == 9);
	reclaim_range(mm, AT(0), AT(3));
	assert_int_equal(do_mincore(mm, AT(1), P(1), vec), 0);
	assert_int_equal(vec[0], 0);
	assert_int_equal(file_write(f, P(2), "x", 1), 1);
	assert_int_equal(do_mmap(mm, AT(8), P(3), R, UAPI_MAP_SHARED | UAPI_MAP_FIXED, f, 0),
			 AT(8));
	assert_int_equal(do_mincore(mm, AT(8), P(3), vec), 0);
	assert_true(!vec[0] && !vec[1] && vec[2]);
	assert_int_equal(do_mincore(mm, AT(8), P(4), vec), -ENOMEM);
	assert_int_equal(do_mincore(mm, AT(8) + 1, P(1), vec), -EINVAL);
	file_put(f);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_lies_before_a_hole_is_changed),
		T(a_file_opened_for_reading_is_never_written_through),
		T(only_a_stack_grows_down),
		T(what_is_refused_has_unmapped_nothing),
		T(areas_move_together_with_the_gaps_between_them),
		T(what_stays_behind_reads_zeros_and_stays_one_area),
		T(no_old_length_maps_shared_memory_once_more),
		T(growing_counts_against_the_limits),
		T(advice_that_is_kept_splits_and_merges_areas),
		T(mincore_tells_of_pages_and_of_what_is_cached),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
