/* SPDX-License-Identifier: MIT */
/* Areas of huge pages: promises, faults, copies, what is cut, moved, protected and unmapped. */
#include "engine/base/bytes.h"
#include "engine/migrate/numa.h"
#include "engine/reclaim/memory_failure.h"
#include "tests/unit/huge_world.h"

static int setup(void **state)
{
	(void)state;
	start_huge(4);
	return 0;
}

/* ---- mapping ---- */

static void a_mapping_is_promised_its_pages_and_gives_back_what_it_did_not_use(void **state)
{
	(void)state;
	map_anon(0, 3, PRIVATE);
	pool_is(4, 4, 3);
	hput(HUGE(1) + 77, 5);
	pool_is(4, 3, 2);
	assert_int_equal(hget(HUGE(1) + 77), 5);
	assert_int_equal(hget(HUGE(1) + 78), 0);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(3)), 0);
	pool_is(4, 4, 0);
}

static void what_cannot_be_promised_is_not_mapped(void **state)
{
	(void)state;
	assert_int_equal(map_huge(0, 5, PRIVATE | HUGETLB, NULL, 0), -ENOMEM);
	pool_is(4, 4, 0);
	map_anon(0, 4, SHARED);
	pool_is(4, 4, 4);
	assert_int_equal(map_huge(8, 1, PRIVATE | HUGETLB, NULL, 0), -ENOMEM);
}

static void without_promises_a_page_may_not_be_had(void **state)
{
	(void)state;
	map_anon(0, 4, PRIVATE | NORESERVE);
	pool_is(4, 4, 0);
	map_anon(8, 3, PRIVATE);
	hput(HUGE(0), 1);
	pool_is(4, 3, 3);
	assert_int_equal(try_write(HUGE(1), 1), FAULT_BUS);
	assert_int_equal(try_read(HUGE(1)), FAULT_BUS);
	hput(HUGE(8), 1); /* whose promises stand */
}

static void the_size_is_said_in_the_flags(void **state)
{
	u64 gib = PRIVATE | HUGETLB | UAPI_MAP_HUGE_1GB;

	(void)state;
	map_anon(0, 1, PRIVATE | UAPI_MAP_HUGE_2MB);
	pool_is(4, 4, 1);
	assert_int_equal(do_mmap(mm, 0, H(1), RW, gib, NULL, 0), -ENOMEM); /* an empty pool */
	assert_int_equal(do_mmap(mm, 0, H(1), RW, PRIVATE | HUGETLB | 22 << 26, NULL, 0), -EINVAL);
	assert_int_equal(do_mmap(mm, 0, H(1), RW, PRIVATE | HUGETLB | 12 << 26, NULL, 0), -EINVAL);
}

static void lengths_are_rounded_up_and_addresses_aligned(void **state)
{
	s64 at = do_mmap(mm, 0, H(1) + 1, RW, PRIVATE | HUGETLB, NULL, 0);

	(void)state;
	assert_true(at > 0);
	assert_int_equal(at % H(1), 0);
	pool_is(4, 4, 2);
	assert_int_equal(do_mmap(mm, HUGE(0) + PAGE_SIZE, H(1), RW,
				 PRIVATE | HUGETLB | UAPI_MAP_FIXED, NULL, 0),
			 -EINVAL);
	/* A hint is rounded up. */
	assert_int_equal(do_mmap(mm, HUGE(3) + PAGE_SIZE, 1, RW, PRIVATE | HUGETLB, NULL, 0),
			 HUGE(4));
	assert_int_equal(do_mmap(mm, 0, 0, RW, PRIVATE | HUGETLB, NULL, 0), -EINVAL);
	assert_int_equal(do_mmap(mm, 0, ~0ULL, RW, PRIVATE | HUGETLB, NULL, 0), -EINVAL);
	assert_int_equal(do_mmap(mm, 0, H(1), RW, PRIVATE | HUGETLB, NULL, PAGE_SIZE), -EINVAL);
}

static void huge_pages_are_neither_rss_nor_locked(void **state)
{
	(void)state;
	map_anon(0, 1, PRIVATE | UAPI_MAP_LOCKED); /* which brings it in */
	pool_is(4, 3, 0);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(mm->hugetlb_pages, HUGE_FRAMES);
	assert_int_equal(mm->locked_vm, 0);
	assert_int_equal(do_mlock(mm, HUGE(0), H(1)), 0);
	assert_int_equal(mm->locked_vm, 0);
}

static void neighbours_do_not_merge(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 1, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(1, 1, SHARED, file, H(1)), HUGE(1));
	assert_int_equal(mm->map_count, 2);
	file_put(file);
}

/* ---- faults ---- */

static void one_fault_brings_2_mib(void **state)
{
	u64 before = mm->minor;

	(void)state;
	map_anon(0, 1, SHARED);
	hput(HUGE(0), 1);
	hput(HUGE(0) + H(1) - 1, 2);
	assert_int_equal(mm->minor, before + 1);
	assert_int_equal(hget(HUGE(0) + 4096), 0);
	assert_int_equal(mm->minor, before + 1);
}

static void a_private_page_that_was_read_asks_again_before_it_is_written(void **state)
{
	u64 before = mm->minor;

	(void)state;
	map_anon(0, 1, PRIVATE);
	assert_int_equal(hget(HUGE(0)), 0);
	hput(HUGE(0), 1);
	assert_int_equal(mm->minor, before + 2);
	pool_is(4, 3, 0); /* no copy */
}

static void a_private_mapping_copies_the_files_page_when_it_is_written(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 1, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(8, 1, PRIVATE, file, 0), HUGE(8));
	pool_is(4, 4, 2); /* each its own */
	hput(HUGE(0) + 5, 7);
	assert_int_equal(hget(HUGE(8) + 5), 7);
	pool_is(4, 3, 1);
	hput(HUGE(8) + 6, 8);
	pool_is(4, 2, 0);
	hput(HUGE(0) + 5, 9);
	assert_int_equal(hget(HUGE(8) + 5), 7);
	assert_int_equal(hget(HUGE(0) + 6), 0);
	/* One write alone copies without a fault in between. */
	assert_int_equal(map_huge(4, 1, PRIVATE, file, 0), HUGE(4));
	{
		u64 before = mm->minor;

		hput(HUGE(4) + 6, 3);
		assert_int_equal(mm->minor, before + 1);
	}
	assert_int_equal(hget(HUGE(4) + 5), 9);
	file_put(file);
}

static void behind_the_end_of_the_file_is_sigbus(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	/* What may be written makes the file as long as itself; what may not does not. */
	assert_int_equal(do_mmap(mm, HUGE(0), H(2), VM_READ, SHARED | UAPI_MAP_FIXED, file, 0),
			 HUGE(0));
	assert_int_equal(file_size(file), 0);
	assert_int_equal(try_read(HUGE(0)), FAULT_BUS);
	assert_int_equal(map_huge(4, 1, SHARED, file, 0), HUGE(4));
	assert_int_equal(file_size(file), H(1));
	assert_int_equal(hget(HUGE(0)), 0);
	assert_int_equal(try_read(HUGE(1)), FAULT_BUS);
	pool_is(4, 3, 1);
	file_put(file);
}

/* ---- fork ---- */

static void fork_shares_private_pages_until_one_writes(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 1, PRIVATE);
	hput(HUGE(0), 1);
	child = fork_of(mm);
	pool_is(4, 3, 0);
	run(child);
	assert_int_equal(hget(HUGE(0)), 1);
	hput(HUGE(0), 2);
	pool_is(4, 2, 0);
	run(mm);
	assert_int_equal(hget(HUGE(0)), 1);
	hput(HUGE(0), 3); /* alone with it now: no copy */
	pool_is(4, 2, 0);
	run(child);
	assert_int_equal(hget(HUGE(0)), 2);
	end(child);
	pool_is(4, 3, 0);
}

static void a_child_has_none_of_the_promises(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 4, PRIVATE);
	child = fork_of(mm);
	pool_is(4, 4, 4);
	run(child);
	assert_int_equal(try_write(HUGE(0), 1), FAULT_BUS);
	end(child);
	pool_is(4, 4, 4);
	hput(HUGE(0), 1);
}

static void the_owner_of_a_dry_pool_takes_its_page_from_its_child(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 4, PRIVATE);
	for (unsigned i = 0; i < 4; i++)
		hput(HUGE(i), (u8)(10 + i));
	child = fork_of(mm);
	pool_is(4, 0, 0);
	hput(HUGE(2), 99); /* nothing left to copy to */
	pool_is(4, 0, 0);
	assert_int_equal(hget(HUGE(2)), 99);
	run(child);
	assert_int_equal(hget(HUGE(1)), 11); /* what it has it keeps */
	assert_int_equal(try_read(HUGE(2)), FAULT_BUS);
	run(mm);
	assert_int_equal(vm_unmap(mm, HUGE(3), H(1)), 0);
	run(child);
	assert_int_equal(hget(HUGE(3)), 13);
	/* Though there were a page now, it would be one of zeros where the parent had written. */
	assert_int_equal(vm_unmap(child, HUGE(3), H(1)), 0);
	pool_is(4, 1, 0);
	assert_int_equal(try_read(HUGE(2)), FAULT_BUS);
	end(child);
}

static void a_child_that_writes_first_is_refused_where_the_pool_is_dry(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 4, PRIVATE);
	for (unsigned i = 0; i < 4; i++)
		hput(HUGE(i), 1);
	child = fork_of(mm);
	run(child);
	assert_int_equal(try_write(HUGE(0), 2), FAULT_BUS);
	assert_int_equal(hget(HUGE(0)), 1);
	end(child);
	assert_int_equal(hget(HUGE(0)), 1);
}

static void shared_pages_are_one_for_parent_and_child(void **state)
{
	struct mm *child;

	(void)state;
	map_anon(0, 1, SHARED);
	hput(HUGE(0), 1);
	child = fork_of(mm);
	run(child);
	assert_int_equal(hget(HUGE(0)), 1);
	hput(HUGE(0), 2);
	run(mm);
	assert_int_equal(hget(HUGE(0)), 2);
	pool_is(4, 3, 0);
	end(child);
}

/* ---- cutting, moving, protecting ---- */

static void an_area_is_cut_between_huge_pages_only(void **state)
{
	(void)state;
	map_anon(0, 3, PRIVATE);
	assert_int_equal(vm_unmap(mm, HUGE(0), PAGE_SIZE), -EINVAL);
	assert_int_equal(vm_unmap(mm, HUGE(1) - PAGE_SIZE, H(2)), -EINVAL);
	assert_int_equal(do_mprotect(mm, HUGE(0), PAGE_SIZE, VM_READ), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), PAGE_SIZE, UAPI_MADV_DONTFORK), -EINVAL);
	assert_int_equal(do_mlock(mm, HUGE(0), PAGE_SIZE), 0); /* it comes in */
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(do_mprotect(mm, HUGE(1), H(1), VM_READ), 0);
	assert_int_equal(mm->map_count, 3);
	assert_int_equal(vm_unmap(mm, HUGE(1), H(1)), 0);
	pool_is(4, 3, 1);
	hput(HUGE(0), 1);
	hput(HUGE(2), 1);
	pool_is(4, 2, 0);
}

static void protection_goes_with_the_entries(void **state)
{
	u64 before;

	(void)state;
	map_anon(0, 1, SHARED);
	map_anon(1, 1, PRIVATE);
	for (unsigned i = 0; i < 2; i++) {
		hput(HUGE(i), 5);
		assert_int_equal(do_mprotect(mm, HUGE(i), H(1), VM_READ), 0);
		assert_int_equal(try_write(HUGE(i), 6), FAULT_ACCERR);
		assert_int_equal(hget(HUGE(i)), 5);
		assert_int_equal(do_mprotect(mm, HUGE(i), H(1), 0), 0);
		assert_int_equal(try_read(HUGE(i)), FAULT_ACCERR);
		engine_check(w.e);
		assert_int_equal(do_mprotect(mm, HUGE(i), H(1), RW), 0);
		before = mm->minor;
		hput(HUGE(i) + 1, 7);
		/* A private page asks first, though it is the area's alone: so it is in Linux. */
		assert_int_equal(mm->minor, before + i);
		assert_int_equal(hget(HUGE(i)), 5);
	}
	pool_is(4, 2, 0);
}

static void mremap_moves_whole_huge_pages_with_their_promises(void **state)
{
	u64 move = UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED;

	(void)state;
	map_anon(0, 3, PRIVATE);
	hput(HUGE(1), 5);
	assert_int_equal(do_mremap(mm, HUGE(1), H(2), H(2), move, HUGE(9)), HUGE(9));
	assert_int_equal(hget(HUGE(9)), 5);
	assert_int_equal(try_read(HUGE(1)), FAULT_MAPERR);
	pool_is(4, 3, 2);
	hput(HUGE(10), 6);
	pool_is(4, 2, 1);
	assert_int_equal(vm_unmap(mm, HUGE(9), H(2)), 0);
	pool_is(4, 4, 1);
}

static void mremap_shrinks_and_does_not_grow(void **state)
{
	u64 move = UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED;

	(void)state;
	map_anon(0, 2, PRIVATE);
	assert_int_equal(do_mremap(mm, HUGE(0), H(2), H(3), UAPI_MREMAP_MAYMOVE, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, HUGE(0) + PAGE_SIZE, H(1), H(1), 0, 0), -EINVAL);
	assert_int_equal(do_mremap(mm, HUGE(0), H(1), H(1), move, HUGE(9) + PAGE_SIZE), -EINVAL);
	/* Lengths are rounded up: to the same. */
	assert_int_equal(do_mremap(mm, HUGE(0), H(1), PAGE_SIZE, 0, 0), HUGE(0));
	assert_int_equal(do_mremap(mm, HUGE(0), H(2), H(1) - PAGE_SIZE, 0, 0), HUGE(0));
	pool_is(4, 4, 1);
	assert_int_equal(do_mremap(mm, HUGE(0), 0, H(1), UAPI_MREMAP_MAYMOVE, 0), -EINVAL);
}

static void a_page_that_is_dropped_is_promised_again(void **state)
{
	(void)state;
	map_anon(0, 2, PRIVATE);
	hput(HUGE(0), 1);
	hput(HUGE(1), 2);
	pool_is(4, 2, 0);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1) + PAGE_SIZE, UAPI_MADV_DONTNEED), 0);
	pool_is(4, 3, 1);
	assert_int_equal(hget(HUGE(1)), 2); /* only whole ones went */
	assert_int_equal(hget(HUGE(0)), 0);
	pool_is(4, 2, 0);
}

static void advice_for_small_pages_is_refused(void **state)
{
	(void)state;
	map_anon(0, 2, PRIVATE);
	assert_int_equal(do_madvise(mm, HUGE(0) + PAGE_SIZE, H(1), UAPI_MADV_DONTNEED), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_FREE), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_COLD), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_PAGEOUT), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_GUARD_INSTALL), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_WIPEONFORK), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_COLLAPSE), -EINVAL);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_REMOVE), -EACCES);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_DODUMP), 0);
	assert_int_equal(do_madvise(mm, HUGE(0), H(1), UAPI_MADV_POPULATE_WRITE), 0);
	pool_is(4, 3, 1);
}

static void mincore_tells_of_whole_huge_pages(void **state)
{
	u8 vec[2 * HUGE_FRAMES];

	(void)state;
	map_anon(0, 2, PRIVATE);
	hput(HUGE(1) + 9 * PAGE_SIZE, 1);
	assert_int_equal(do_mincore(mm, HUGE(0), H(2), vec), 0);
	for (unsigned i = 0; i < 2 * HUGE_FRAMES; i++)
		assert_int_equal(vec[i], i >= HUGE_FRAMES);
}

/* ---- files ---- */

static void a_file_keeps_its_promises_when_nobody_maps_it(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 2, SHARED, file, 0), HUGE(0));
	hput(HUGE(0), 1);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(2)), 0);
	pool_is(4, 3, 1);
	assert_int_equal(map_huge(0, 2, SHARED, file, 0), HUGE(0)); /* no more than that */
	pool_is(4, 3, 1);
	assert_int_equal(hget(HUGE(0)), 1);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(2)), 0);
	file_put(file);
	pool_is(4, 4, 0);
}

static void a_file_is_cut_at_huge_pages(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(file_truncate(file, PAGE_SIZE), -EINVAL);
	assert_int_equal(file_truncate(file, H(3)), 0);
	assert_int_equal(map_huge(0, 3, SHARED, file, 0), HUGE(0));
	assert_int_equal(map_huge(8, 1, PRIVATE, file, H(2)), HUGE(8));
	hput(HUGE(0), 1);
	hput(HUGE(2), 3);
	hput(HUGE(8), 4); /* a private copy */
	pool_is(4, 1, 1);
	assert_int_equal(file_truncate(file, H(1)), 0);
	pool_is(4, 3, 1); /* the private area is promised its page again */
	assert_int_equal(hget(HUGE(0)), 1);
	assert_int_equal(try_read(HUGE(1)), FAULT_BUS);
	assert_int_equal(try_read(HUGE(2)), FAULT_BUS);
	assert_int_equal(try_read(HUGE(8)), FAULT_BUS);
	assert_int_equal(file_truncate(file, H(3)), 0);
	assert_int_equal(hget(HUGE(2)), 0);
	file_put(file);
}

static void a_hole_takes_whole_pages_and_zeroes_parts(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);

	(void)state;
	assert_int_equal(map_huge(0, 3, SHARED, file, 0), HUGE(0));
	for (unsigned i = 0; i < 3; i++) {
		hput(HUGE(i), 1);
		hput(HUGE(i) + 100, 2);
	}
	pool_is(4, 1, 0);
	assert_int_equal(file_punch_hole(file, 100, H(1)), 0);
	pool_is(4, 1, 0);
	assert_int_equal(hget(HUGE(0)), 1);
	assert_int_equal(hget(HUGE(0) + 100), 0);
	assert_int_equal(hget(HUGE(1)), 0);
	assert_int_equal(hget(HUGE(1) + 100), 2);
	assert_int_equal(file_punch_hole(file, H(1), H(1)), 0);
	pool_is(4, 2, 0); /* with its promise */
	assert_int_equal(hget(HUGE(1) + 100), 0);
	assert_int_equal(do_madvise(mm, HUGE(2), H(1), UAPI_MADV_REMOVE), 0);
	pool_is(4, 2, 0);
	assert_int_equal(hget(HUGE(2)), 0);
	file_put(file);
}

static void a_file_is_read_and_not_written(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);
	u8 bytes[4] = { 9, 9, 9, 9 };

	(void)state;
	assert_int_equal(file_write(file, 0, bytes, 1), -EINVAL);
	assert_int_equal(map_huge(0, 2, SHARED, file, 0), HUGE(0));
	hput(HUGE(1) - 2, 1);
	assert_int_equal(file_read(file, H(1) - 3, bytes, 4), 4);
	assert_int_equal(bytes[0], 0);
	assert_int_equal(bytes[1], 1);
	assert_int_equal(bytes[3], 0); /* a hole */
	assert_int_equal(file_read(file, H(2) - 1, bytes, 4), 1);
	assert_int_equal(file_read(file, H(2), bytes, 4), 0);
	file_put(file);
}

static void a_file_of_huge_pages_can_be_sealed(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB | MEMFD_ALLOW_SEALING);

	(void)state;
	assert_int_equal(file_truncate(file, H(2)), 0);
	assert_int_equal(memfd_add_seals(file, MEMFD_SEAL_SHRINK), 0);
	assert_int_equal(file_truncate(file, H(1)), -EPERM);
	file_put(file);
	assert_null(memfd_alloc_file(w.e, MEMFD_HUGETLB | 22 << MEMFD_HUGE_SHIFT));
}

static void map_hugetlb_is_not_for_other_files(void **state)
{
	struct file *file = memfd_alloc_file(w.e, 0);

	(void)state;
	assert_int_equal(do_mmap(mm, 0, H(1), RW, SHARED | UAPI_MAP_HUGETLB, file, 0), -EINVAL);
	file_put(file);
}

static void the_node_of_a_part_is_told(void **state)
{
	u64 at[] = { HUGE(0) + P(7), HUGE(1) };
	int nodes[2];

	(void)state;
	map_anon(0, 2, PRIVATE);
	hput(HUGE(0), 1);
	assert_int_equal(do_move_pages(mm, 2, at, NULL, nodes, 0), 0);
	assert_int_equal(nodes[0], 0);
	assert_int_equal(nodes[1], -ENOENT);
}

/* ---- memory that fails ---- */

/* The frame at va, which is mapped. */
static struct page *frame_at(u64 va)
{
	struct page *frame = hugetlb_get_frame(find_vma(mm, va), va);

	assert_non_null(frame);
	page_put(w.e, page_head(frame));
	return frame;
}

static int break_frame(struct page *frame)
{
	return memory_failure(w.e, page_pfn(w.e, frame));
}

static void a_page_that_fails_is_lost_to_all_who_have_it_mapped(void **state)
{
	struct mm *child;
	struct page *frame;

	(void)state;
	map_anon(0, 2, PRIVATE);
	hput(HUGE(0), 1);
	hput(HUGE(1), 2);
	child = fork_of(mm);
	frame = frame_at(HUGE(0) + P(7));
	assert_int_equal(break_frame(frame), 0);
	assert_int_equal(break_frame(frame), -EHWPOISON);
	assert_int_equal(try_read(HUGE(0)), FAULT_BUS);
	assert_int_equal(hget(HUGE(1)), 2);
	run(child);
	assert_int_equal(try_write(HUGE(0) + P(100), 1), FAULT_BUS);
	pool_is(3, 2, 0);				       /* the page has left the pool, */
	assert_int_equal(w.e->zones[ZONE_USER].nr_retired, 1); /* and one frame the system */
	end(child);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(2)), 0);
	pool_is(3, 3, 0);
}

static void a_page_of_a_file_that_fails_keeps_its_place_until_the_file_is_cut(void **state)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);
	u8 byte;

	(void)state;
	assert_int_equal(map_huge(0, 2, SHARED, file, 0), HUGE(0));
	hput(HUGE(1), 1);
	assert_int_equal(break_frame(frame_at(HUGE(1))), 0);
	assert_int_equal(try_read(HUGE(1)), FAULT_BUS);
	assert_int_equal(map_huge(8, 2, PRIVATE | NORESERVE, file, 0), HUGE(8));
	assert_int_equal(try_write(HUGE(9), 1), FAULT_BUS);
	assert_int_equal(file_read(file, H(1), &byte, 1), -EIO);
	pool_is(4, 3, 1);
	assert_int_equal(file_punch_hole(file, H(1), H(1)), 0);
	pool_is(3, 3, 1);
	assert_int_equal(hget(HUGE(1)), 0);
	file_put(file);
}

static void a_free_page_that_fails_leaves_the_pool_unless_it_is_promised(void **state)
{
	struct page *frame = list_first_entry(&h->on[0].free_list, struct page, lru) + 5;

	(void)state;
	map_anon(0, 4, PRIVATE);
	assert_int_equal(break_frame(frame), -EBUSY);
	assert_int_equal(vm_unmap(mm, HUGE(0), H(1)), 0);
	assert_int_equal(break_frame(frame), 0);
	pool_is(3, 3, 3);
}

static void madvise_breaks_one_frame_of_each_huge_page(void **state)
{
	(void)state;
	mm->limits.may_break_memory = true;
	w.e->config.memory_failure = true;
	map_anon(0, 3, PRIVATE);
	assert_int_equal(do_madvise(mm, HUGE(0), H(2), UAPI_MADV_HWPOISON), 0);
	assert_int_equal(w.e->zones[ZONE_USER].nr_retired, 2);
	assert_int_equal(try_read(HUGE(1)), FAULT_HWPOISON);
	assert_int_equal(hget(HUGE(2)), 0);
	assert_int_equal(do_madvise(mm, HUGE(2), H(1), UAPI_MADV_SOFT_OFFLINE), -EBUSY);
	pool_is(2, 1, 0);
}

/* ---- without memory ---- */

/* Each may fail, and then has changed nothing. */
static void go_through_a_life(void)
{
	struct file *file = memfd_alloc_file(w.e, MEMFD_HUGETLB);
	struct mm *child;

	map_huge(0, 3, PRIVATE | HUGETLB, NULL, 0);
	for (unsigned i = 0; i < 3; i++)
		try_write(HUGE(i), 1);
	do_mprotect(mm, HUGE(1), H(1), VM_READ);
	do_madvise(mm, HUGE(1), H(1), UAPI_MADV_DONTNEED);
	if (!mm_fork(mm, &child)) {
		try_write(HUGE(2), 2);
		mm_destroy(child);
	}
	if (file) {
		map_huge(8, 3, SHARED | NORESERVE, file, 0);
		for (unsigned i = 8; i < 11; i++)
			try_write(HUGE(i), 1);
		file_punch_hole(file, H(1), H(1));
		do_mremap(mm, HUGE(9), H(1), H(1), UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED,
			  HUGE(9) + H(9));
		file_truncate(file, H(1));
		file_put(file);
	}
}

static void out_of_memory_anywhere_leaves_promises_right(void **state)
{
	u64 left = 0, refused;

	(void)state;
	do {
		refused = w.m->memory_refused;
		w.m->inject.memory_left = ++left;
		go_through_a_life();
		w.m->inject.memory_left = 0;
		refused = w.m->memory_refused - refused;
		engine_check(w.e);
		vm_unmap(mm, HUGE(0), H(32));
		pool_is(4, 4, 0);
	} while (refused);
	assert_true(left > 20);
}

/* ---- larger ones ---- */

#ifndef VMF_THREAD_SANITIZER
static void a_page_of_1_gib_is_one_entry(void **state)
{
	enum { GIB = 1 << 18 };
	u64 size = 1ULL << 30, at = 4 * size;

	(void)state;
	world_destroy(&w);
	start((struct world_options){ .frames = 3 * GIB, .unchecked = true });
	h = hstate_sizelog(w.e, 30);
	assert_int_equal(hugetlb_set_pool(h, 1), 1);
	assert_int_equal(do_mmap(mm, at, size, RW,
				 SHARED | HUGETLB | UAPI_MAP_HUGE_1GB | UAPI_MAP_FIXED, NULL, 0),
			 at);
	hput(at + size - 1, 5);
	assert_int_equal(hget(at + size / 2), 0);
	assert_int_equal(mm->minor, 1);
	pool_is(1, 0, 0);
	assert_int_equal(vm_unmap(mm, at, size / 2), -EINVAL);
	assert_int_equal(do_mprotect(mm, at, size, VM_READ), 0);
	assert_int_equal(try_write(at, 1), FAULT_ACCERR);
	assert_int_equal(hget(at + size - 1), 5);
	assert_int_equal(vm_unmap(mm, at, size), 0);
	pool_is(1, 1, 0);
}
#endif

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_mapping_is_promised_its_pages_and_gives_back_what_it_did_not_use),
		T(what_cannot_be_promised_is_not_mapped),
		T(without_promises_a_page_may_not_be_had),
		T(the_size_is_said_in_the_flags),
		T(lengths_are_rounded_up_and_addresses_aligned),
		T(huge_pages_are_neither_rss_nor_locked),
		T(neighbours_do_not_merge),
		T(one_fault_brings_2_mib),
		T(a_private_page_that_was_read_asks_again_before_it_is_written),
		T(a_private_mapping_copies_the_files_page_when_it_is_written),
		T(behind_the_end_of_the_file_is_sigbus),
		T(fork_shares_private_pages_until_one_writes),
		T(a_child_has_none_of_the_promises),
		T(the_owner_of_a_dry_pool_takes_its_page_from_its_child),
		T(a_child_that_writes_first_is_refused_where_the_pool_is_dry),
		T(shared_pages_are_one_for_parent_and_child),
		T(an_area_is_cut_between_huge_pages_only),
		T(protection_goes_with_the_entries),
		T(mremap_moves_whole_huge_pages_with_their_promises),
		T(mremap_shrinks_and_does_not_grow),
		T(a_page_that_is_dropped_is_promised_again),
		T(advice_for_small_pages_is_refused),
		T(mincore_tells_of_whole_huge_pages),
		T(a_file_keeps_its_promises_when_nobody_maps_it),
		T(a_file_is_cut_at_huge_pages),
		T(a_hole_takes_whole_pages_and_zeroes_parts),
		T(a_file_is_read_and_not_written),
		T(a_file_of_huge_pages_can_be_sealed),
		T(map_hugetlb_is_not_for_other_files),
		T(the_node_of_a_part_is_told),
		T(a_page_that_fails_is_lost_to_all_who_have_it_mapped),
		T(a_page_of_a_file_that_fails_keeps_its_place_until_the_file_is_cut),
		T(a_free_page_that_fails_leaves_the_pool_unless_it_is_promised),
		T(madvise_breaks_one_frame_of_each_huge_page),
		T(out_of_memory_anywhere_leaves_promises_right),
#ifndef VMF_THREAD_SANITIZER /* which would take a minute for so many bytes */
		T(a_page_of_1_gib_is_one_entry),
#endif
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
