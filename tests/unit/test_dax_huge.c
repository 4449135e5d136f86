/* SPDX-License-Identifier: MIT */
/* Huge entries of persistent memory: when they come, what they save, and who makes them go. */
#include <pthread.h>
#include <sched.h>

#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "tests/unit/dax_world.h"
#include "tests/unit/huge_marks.h"

enum { ORDER = 11, BLOCKS = 1 << ORDER };

#define HUGE(n) ((n) * (unsigned)HUGE_PAGES) /* page number of the n-th 2 MiB: BASE is aligned */
#define SHARED	UAPI_MAP_SHARED
#define PRIVATE UAPI_MAP_PRIVATE
#define SYNC	(UAPI_MAP_SHARED_VALIDATE | UAPI_MAP_SYNC)

static int setup(void **state)
{
	(void)state;
	start_dax(8192, ORDER);
	return 0;
}

static void map_file(unsigned page, unsigned n, u64 flags, unsigned from)
{
	assert_int_equal(do_mmap(mm, AT(page), P(n), RW, flags | UAPI_MAP_FIXED, file, P(from)),
			 AT(page));
}

/* The file has n times 2 MiB, and a mapping of them at HUGE(0). */
static void map_huge(unsigned n, u64 flags)
{
	assert_int_equal(file_truncate(file, P(HUGE(n))), 0);
	map_file(HUGE(0), HUGE(n), flags, 0);
}

static bool is_zero(unsigned page)
{
	return is_huge(page) && pmd_is_huge_zero(w.e, pmd_at(mm, page));
}

static bool has_table(unsigned page)
{
	return pmd_is_table(pmd_at(mm, page));
}

static u64 faults(void)
{
	return mm->minor + mm->major;
}

static u64 used(void)
{
	soft_check(w.m);
	return BLOCKS - dax_device_free(device);
}

static u8 byte_of_file(unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(file_read(file, P(page), &byte, 1), 1);
	return byte;
}

static void write_byte(unsigned page, u8 byte)
{
	assert_int_equal(file_write(file, P(page), &byte, 1), 1);
}

static enum fault_reason read_fails(unsigned page)
{
	u8 byte;

	return soft_read_byte(w.cpu, AT(page), &byte);
}

/* ---- faults ---- */

static void a_write_over_a_hole_maps_two_mebibytes_with_one_fault(void **state)
{
	(void)state;
	map_huge(2, SHARED);
	put(77, 5);
	assert_int_equal(faults(), 1);
	assert_int_equal(mm->major, 1);
	assert_true(is_huge(0) && pte_special(pmd_at(mm, 0)) && pte_write(pmd_at(mm, 0)));
	assert_false(is_huge(HUGE(1)));
	assert_int_equal(used(), HUGE_PAGES);
	fill(HUGE(0), HUGE_PAGES);
	assert_filled(HUGE(0), HUGE_PAGES);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(byte_of_file(i), mark_of(i));
	assert_int_equal(faults(), 1);
	assert_int_equal(w.e->stats->dax_huge, 1);
	assert_int_equal(mm->rss, 0); /* no page of the system's */
}

static void a_read_maps_blocks_read_only_until_they_are_written(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	put(0, 7);
	assert_int_equal(vm_unmap(mm, AT(0), PMD_SIZE), 0);
	map_file(0, HUGE(1), SHARED, 0);
	assert_int_equal(get(0), 7);
	assert_true(is_huge(0) && !pte_write(pmd_at(mm, 0)));
	assert_false(is_zero(0));
	put(3, 8);
	assert_true(is_huge(0) && pte_write(pmd_at(mm, 0)));
	assert_int_equal(faults(), 3);
	assert_int_equal(byte_of_file(3), 8);
	assert_int_equal(used(), HUGE_PAGES);
}

static void a_read_over_a_hole_maps_huge_zeros_until_somebody_writes(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	map_file(HUGE(4), HUGE(1), PRIVATE, 0);
	assert_int_equal(get(5), 0);
	assert_int_equal(get(HUGE(4) + 5), 0);
	assert_true(is_zero(0) && is_zero(HUGE(4)));
	assert_int_equal(used(), 0);
	assert_int_equal(w.e->stats->dax_huge_zero, 2);
	assert_int_equal(w.e->huge_zero_users, 2);
	put(5, 9);
	assert_int_equal(w.e->huge_zero_users, 0);
	assert_int_equal(get(HUGE(4) + 5), 9); /* which had seen the hole */
	assert_true(is_huge(0) && is_huge(HUGE(4)));
	assert_int_equal(used(), HUGE_PAGES);
}

static void write_2_to_a_mapped_huge_hole_shows(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	assert_int_equal(get(5), 0);
	write_byte(5, 4);
	assert_int_equal(get(5), 4);
	assert_int_equal(get(6), 0);
	assert_false(is_huge(0));
	assert_int_equal(used(), 1);
	assert_int_equal(w.e->huge_zero_users, 0);
}

static void where_two_mebibytes_have_no_place_single_entries_come(void **state)
{
	static const struct {
		unsigned file, at, from, n, touch; /* pages */
		u64 flags;
		bool write, advised;
	} cases[] = {
		{ HUGE(2), 1, 0, HUGE(1), 1, SHARED, true, false },	/* it lies askew */
		{ HUGE(2), 1, 1, HUGE(1) - 1, 1, SHARED, true, false }, /* the area is too small */
		{ HUGE(1) - 1, 0, 0, HUGE(1), 0, SHARED, true, false }, /* the file is */
		{ HUGE(1), 0, 0, HUGE(1), 0, PRIVATE, true, false },	/* a copy is of a page */
		{ HUGE(1), 0, 0, HUGE(1), 0, SHARED, true, true },	/* MADV_NOHUGEPAGE */
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(file_truncate(file, P(cases[i].file)), 0);
		map_file(cases[i].at, cases[i].n, cases[i].flags, cases[i].from);
		if (cases[i].advised)
			assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_NOHUGEPAGE), 0);
		put(cases[i].touch, 1);
		assert_false(is_huge(0));
		assert_int_equal(w.e->stats->dax_fallback_place, i + 1);
		assert_int_equal(vm_unmap(mm, AT(cases[i].at), P(cases[i].n)), 0);
		assert_int_equal(file_truncate(file, 0), 0);
	}
	assert_int_equal(w.e->stats->dax_huge, 0);
}

static void blocks_that_do_not_lie_side_by_side_get_single_entries(void **state)
{
	struct file *other = dax_file_create(device);

	(void)state;
	assert_int_equal(file_truncate(file, P(HUGE(3))), 0);
	write_byte(1, 1);		 /* one, and holes */
	for (unsigned i = 0; i < 4; i++) /* the device has no run left */
		assert_int_equal(file_write(other, P(HUGE(i)), "x", 1), 1);
	map_file(0, HUGE(3), SHARED, 0);
	assert_int_equal(get(1), 1);
	put(HUGE(1), 2);
	assert_false(is_huge(0) || is_huge(HUGE(1)));
	assert_int_equal(w.e->stats->dax_fallback_blocks, 2);
	assert_int_equal(used(), 6);
	assert_int_equal(get(HUGE(2)), 0); /* zeros need no blocks */
	assert_true(is_zero(HUGE(2)));
	put(HUGE(2) + 1, 3);
	assert_false(is_huge(HUGE(2)));
	assert_int_equal(get(HUGE(2)), 0);
	assert_int_equal(get(HUGE(2) + 1), 3);
	file_put(other);
}

static void what_is_written_in_order_lies_side_by_side(void **state)
{
	struct file *other = dax_file_create(device);

	(void)state;
	for (unsigned i = 0; i < HUGE_PAGES; i++) {
		write_byte(i, mark_of(i));
		assert_int_equal(file_write(other, P(HUGE_PAGES - 1 - i), "x", 1), 1);
	}
	map_file(0, HUGE(1), SHARED, 0);
	assert_filled(0, HUGE_PAGES);
	assert_true(is_huge(0) && !is_zero(0));
	assert_int_equal(faults(), 1);
	file_put(other);
}

static void without_memory_for_zeros_single_entries_come(void **state)
{
	struct page *held[32];
	unsigned n = 0;

	(void)state;
	map_huge(1, SHARED);
	while ((held[n] = page_alloc(w.e, ZONE_USER, HUGE_ORDER, ALLOC_NORECLAIM)))
		n++;
	assert_int_equal(get(0), 0);
	assert_true(has_table(0));
	assert_int_equal(w.e->stats->dax_fallback_memory, 1);
	while (n--)
		page_put(w.e, held[n]);
}

static void a_private_mapping_reads_huge_and_copies_a_page(void **state)
{
	(void)state;
	map_huge(1, PRIVATE);
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		write_byte(i, mark_of(i));
	assert_int_equal(get(0), mark_of(0));
	assert_true(is_huge(0) && !pte_write(pmd_at(mm, 0)));
	put(3, 1);
	assert_true(has_table(0));
	assert_int_equal(byte_of_file(3), mark_of(3));
	assert_int_equal(get(3), 1);
	assert_filled(4, HUGE_PAGES - 4);
	assert_int_equal(mm->rss, 1);
	assert_int_equal(used(), HUGE_PAGES);
}

/* ---- syncing ---- */

static struct mmu_ops counting;
static u64 flushes, flushed;

static void count_flush(struct mm *of, u64 from, u64 to)
{
	flushes++;
	flushed += to - from;
	soft_mmu_ops.flush(of, from, to);
}

static void sync_write_protects_all_with_one_flush(void **state)
{
	const struct mmu_ops *mmu = w.e->mmu;
	u64 before;

	(void)state;
	map_huge(1, SHARED);
	fill(0, HUGE_PAGES);
	counting = *mmu;
	counting.flush = count_flush;
	w.e->mmu = &counting;
	flushes = flushed = 0;
	assert_int_equal(do_msync(mm, AT(0), PMD_SIZE, UAPI_MS_SYNC), 0);
	w.e->mmu = mmu;
	assert_int_equal(flushes, 1);
	assert_int_equal(flushed, PMD_SIZE);
	assert_true(is_huge(0) && !pte_write(pmd_at(mm, 0)));
	assert_false(dax_is_marked(m, 0));
	before = faults();
	put(9, 1);
	put(10, 1);
	assert_int_equal(faults(), before + 1);
	assert_true(dax_is_marked(m, 0));
	assert_int_equal(used(), HUGE_PAGES);
}

static void sync_of_one_page_in_the_middle_is_of_the_whole_entry(void **state)
{
	(void)state;
	map_huge(2, SHARED);
	put(0, 1);
	put(HUGE(1), 1);
	assert_int_equal(do_msync(mm, AT(100), P(1), UAPI_MS_SYNC), 0);
	assert_false(pte_write(pmd_at(mm, 0)));
	assert_true(pte_write(pmd_at(mm, HUGE(1))));
	assert_int_equal(used(), HUGE(2));
}

static void what_was_written_through_map_sync_survives_a_crash(void **state)
{
	(void)state;
	map_huge(1, SYNC);
	put(100, 5);
	assert_true(is_huge(0));
	assert_false(dax_metadata_dirty(m));
	assert_int_equal(vm_unmap(mm, AT(0), PMD_SIZE), 0);
	dax_crash(m);
	assert_int_equal(byte_of_file(100), 5);
	assert_int_equal(used(), HUGE_PAGES);
}

static void without_map_sync_it_does_not(void **state)
{
	(void)state;
	assert_int_equal(file_truncate(file, P(HUGE(1))), 0);
	assert_int_equal(vfs_fsync_range(file, 0, ~0ULL), 0);
	map_file(0, HUGE(1), SHARED, 0);
	put(100, 5);
	assert_true(dax_metadata_dirty(m));
	assert_int_equal(vm_unmap(mm, AT(0), PMD_SIZE), 0);
	dax_crash(m);
	assert_int_equal(byte_of_file(100), 0);
	assert_int_equal(used(), 0);
}

/* ---- who makes it go ---- */

static void unmapping_a_part_drops_the_entry_and_the_rest_comes_back(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	fill(0, HUGE_PAGES);
	assert_int_equal(vm_unmap(mm, AT(10), P(2)), 0);
	assert_true(pte_none(pmd_at(mm, 0)));
	assert_filled(0, 10);
	assert_filled(12, HUGE_PAGES - 12);
	assert_true(has_table(0));
	assert_int_equal(read_fails(10), FAULT_MAPERR);
	assert_int_equal(used(), HUGE_PAGES);
}

static void madv_dontneed_drops_it_and_it_comes_back_huge(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	fill(0, HUGE_PAGES);
	assert_int_equal(do_madvise(mm, AT(7), P(1), UAPI_MADV_DONTNEED), 0);
	assert_true(pte_none(pmd_at(mm, 0)));
	assert_filled(0, HUGE_PAGES);
	assert_true(is_huge(0));
	assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_DONTNEED), 0);
	assert_true(pte_none(pmd_at(mm, 0)));
	assert_filled(0, HUGE_PAGES);
	assert_int_equal(faults(), 3);
}

static void protection_is_of_the_whole_entry_or_drops_it(void **state)
{
	(void)state;
	map_huge(1, SHARED);
	fill(0, HUGE_PAGES);
	assert_int_equal(do_mprotect(mm, AT(0), PMD_SIZE, VM_READ), 0);
	assert_true(is_huge(0));
	assert_filled(0, HUGE_PAGES);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 2), FAULT_ACCERR);
	assert_int_equal(do_mprotect(mm, AT(0), PMD_SIZE, 0), 0);
	assert_int_equal(read_fails(1), FAULT_ACCERR);
	assert_int_equal(do_mprotect(mm, AT(0), PMD_SIZE, RW), 0);
	put(1, mark_of(1));
	assert_true(is_huge(0));
	assert_int_equal(do_mprotect(mm, AT(4), P(4), VM_READ), 0);
	assert_true(pte_none(pmd_at(mm, 0)));
	assert_filled(0, HUGE_PAGES);
	put(3, 1);
	assert_int_equal(soft_write_byte(w.cpu, AT(4), 2), FAULT_ACCERR);
	put(8, 1);
	assert_true(has_table(0));
	assert_int_equal(used(), HUGE_PAGES);
}

static void mremap_moves_it_where_it_lies_alike_and_else_drops_it(void **state)
{
	u64 before;

	(void)state;
	map_huge(1, SHARED);
	fill(0, HUGE_PAGES);
	before = faults();
	assert_int_equal(do_mremap(mm, AT(0), PMD_SIZE, PMD_SIZE,
				   UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, AT(HUGE(4))),
			 AT(HUGE(4)));
	assert_true(is_huge(HUGE(4)));
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(4) + i), mark_of(i));
	assert_int_equal(faults(), before);
	soft_check(w.m);
	assert_int_equal(do_mremap(mm, AT(HUGE(4)), PMD_SIZE, PMD_SIZE,
				   UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, AT(HUGE(8) + 1)),
			 AT(HUGE(8) + 1));
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(8) + 1 + i), mark_of(i));
	assert_true(has_table(HUGE(8)));
	assert_int_equal(used(), HUGE_PAGES);
}

static void a_child_finds_it_again(void **state)
{
	struct mm *child;

	(void)state;
	map_huge(1, SHARED);
	map_file(HUGE(4), HUGE(1), PRIVATE, 0);
	map_file(HUGE(6), HUGE(1), PRIVATE, 0);
	put(0, 7);
	put(HUGE(6) + 1, 6); /* it has an anon_vma: its entries are looked through */
	assert_int_equal(get(HUGE(4)), 7);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_true(pte_none(pmd_at(child, 0)));
	assert_true(pte_none(pmd_at(child, HUGE(4))));
	soft_load_mm(w.cpu, child);
	put(1, 8);
	assert_int_equal(get(HUGE(4)), 7);
	assert_int_equal(get(HUGE(6) + 1), 6);
	assert_true(pmd_is_huge(pmd_at(child, 0)) && pmd_is_huge(pmd_at(child, HUGE(4))));
	soft_load_mm(w.cpu, mm);
	assert_int_equal(get(1), 8);
	soft_check(w.m);
	mm_destroy(child);
}

static void a_truncation_takes_it_and_leaves_no_byte(void **state)
{
	(void)state;
	map_huge(2, SHARED);
	fill(0, HUGE(2));
	assert_int_equal(file_truncate(file, P(HUGE(1) + 100)), 0);
	assert_true(is_huge(0));
	assert_filled(0, HUGE(1) + 100);
	assert_false(is_huge(HUGE(1)));
	assert_int_equal(read_fails(HUGE(1) + 100), FAULT_BUS);
	assert_int_equal(used(), HUGE(1) + 100);
	assert_int_equal(file_truncate(file, 0), 0);
	assert_int_equal(read_fails(0), FAULT_BUS);
	assert_int_equal(used(), 0);
	assert_int_equal(file_truncate(file, P(HUGE(2))), 0);
	for (unsigned i = 0; i < HUGE(2); i++)
		assert_int_equal(get(i), 0);
}

static void a_hole_in_it_takes_its_blocks(void **state)
{
	(void)state;
	map_huge(2, SHARED);
	fill(0, HUGE(2));
	assert_int_equal(file_punch_hole(file, P(HUGE(1)), PMD_SIZE), 0);
	assert_int_equal(used(), HUGE_PAGES);
	assert_int_equal(get(HUGE(1)), 0);
	assert_true(is_zero(HUGE(1)));
	put(HUGE(1) + 1, 3); /* a hole of all of it: blocks for all of it */
	assert_true(is_huge(HUGE(1)) && !is_zero(HUGE(1)));
	assert_int_equal(file_punch_hole(file, P(5), P(1)), 0);
	assert_filled(0, 5);
	assert_int_equal(get(5), 0);
	assert_filled(6, HUGE_PAGES - 6);
	assert_true(has_table(0));
	assert_int_equal(used(), HUGE(2) - 1);
	write_byte(5, mark_of(5)); /* where it was is free: all is as before */
	map_file(0, HUGE(1), SHARED, 0);
	assert_filled(0, HUGE_PAGES);
	assert_true(is_huge(0));
}

static void mincore_says_that_all_of_it_is_there(void **state)
{
	u8 there[2 * HUGE_PAGES];

	(void)state;
	map_huge(2, SHARED);
	put(0, 1);
	assert_int_equal(do_mincore(mm, AT(0), 2 * PMD_SIZE, there), 0);
	for (unsigned i = 0; i < HUGE(2); i++)
		assert_int_equal(there[i], i < HUGE_PAGES);
	assert_int_equal(mm->rss, 0);
	assert_int_equal(mm->rss_file, 0);
}

static void pages_are_locked_and_populated_by_huge_entries(void **state)
{
	(void)state;
	map_huge(2, SHARED);
	assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_POPULATE_WRITE), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(1)), PMD_SIZE, UAPI_MADV_POPULATE_READ), 0);
	assert_true(pte_write(pmd_at(mm, 0)) && is_huge(0));
	assert_true(is_zero(HUGE(1)));
	assert_int_equal(faults(), 2);
	assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_COLD), 0);
	assert_int_equal(do_madvise(mm, AT(0), PMD_SIZE, UAPI_MADV_PAGEOUT), 0);
	assert_true(is_huge(0));
}

/* ---- what it saves ---- */

/* Table entries that the CPU reads for accesses at random to 8 MiB of it, all mapped before. */
static u64 references(u64 advice)
{
	u64 seed = 3, before;

	map_file(0, HUGE(4), SHARED, 0);
	assert_int_equal(do_madvise(mm, AT(0), 4 * PMD_SIZE, advice), 0);
	for (unsigned i = 0; i < HUGE(4); i++)
		put(i, 1);
	before = w.cpu->references;
	for (unsigned i = 0; i < 20000; i++)
		assert_int_equal(get((unsigned)rnd_below(&seed, HUGE(4))), 1);
	return w.cpu->references - before;
}

static void walks_read_few_tables_where_entries_are_huge(void **state)
{
	u64 huge, single;

	(void)state;
	assert_int_equal(file_truncate(file, P(HUGE(4))), 0);
	huge = references(UAPI_MADV_NORMAL);
	assert_int_equal(faults(), 4);
	single = references(UAPI_MADV_NOHUGEPAGE);
	assert_int_equal(faults(), 4 + HUGE(4));
	/* Four translations stay in the TLB; of 2048, 256 do. */
	assert_true(huge <= 4 * 3);
	assert_true(single > 20000 / 2 * 4);
}

/* ---- races ---- */

static _Atomic u64 accesses;
static _Atomic bool over;

static void *use(void *arg)
{
	unsigned n = *(unsigned *)arg;
	struct soft_cpu *cpu = &w.m->cpus[n];
	u64 seed = 5 + n;

	while (!atomic_load(&over)) {
		u64 va = AT((rnd_below(&seed, 2) ? HUGE(4) : 0) + rnd_below(&seed, HUGE(2)));
		enum fault_reason reason;
		u8 byte = 0;

		reason = rnd_below(&seed, 2) ? soft_write_byte(cpu, va, 1)
					     : soft_read_byte(cpu, va, &byte);
		assert_true(reason == FAULT_OK || reason == FAULT_BUS);
		assert_true(byte <= 1); /* what somebody wrote, or zeros: no other's bytes */
		atomic_fetch_add(&accesses, 1);
	}
	return NULL;
}

static void change(u64 *seed)
{
	unsigned page = (unsigned)rnd_below(seed, HUGE(2)), start = page & ~(HUGE(1) - 1);

	switch (rnd_below(seed, 8)) {
	case 0:
		assert_int_equal(file_punch_hole(file, P(page), P(3)), 0);
		break;
	case 1:
	case 2:
		assert_int_equal(file_punch_hole(file, P(start), PMD_SIZE), 0);
		/* fall through: tables are out of the way, too */
	case 3:
		assert_int_equal(do_madvise(mm, AT(start), PMD_SIZE, UAPI_MADV_DONTNEED), 0);
		assert_int_equal(do_madvise(mm, AT(HUGE(4) + start), PMD_SIZE, UAPI_MADV_DONTNEED),
				 0);
		break;
	case 5:
		assert_int_equal(file_truncate(file, P(page)), 0);
		write_byte(page, 1);
		assert_int_equal(file_truncate(file, P(HUGE(2))), 0);
		break;
	default:
		assert_int_equal(vfs_fsync_range(file, P(page), P(page + 3)), 0);
	}
}

/* All is changed while two CPUs use it, `other` being the second area's kind. */
static void race(u64 other)
{
	unsigned numbers[2] = { 0, 1 };
	pthread_t threads[2];
	u64 seed = 11;

	soft_load_mm(&w.m->cpus[1], mm);
	map_huge(2, SYNC);
	map_file(HUGE(4), HUGE(2), other, 0);
	atomic_store(&over, false);
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, use, &numbers[i]);
	for (unsigned i = 0; i < 60; i++) {
		u64 seen = atomic_load(&accesses);

		change(&seed);
		while (atomic_load(&accesses) < seen + 20)
			sched_yield();
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	soft_check(w.m);
	assert_true(w.e->stats->dax_huge > 5);
}

static void nothing_is_mapped_that_a_truncation_took(void **state)
{
	(void)state;
	race(SHARED);
}

static void nor_that_a_private_mapping_reads(void **state)
{
	(void)state;
	race(PRIVATE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, end_dax)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_write_over_a_hole_maps_two_mebibytes_with_one_fault),
		T(a_read_maps_blocks_read_only_until_they_are_written),
		T(a_read_over_a_hole_maps_huge_zeros_until_somebody_writes),
		T(write_2_to_a_mapped_huge_hole_shows),
		T(where_two_mebibytes_have_no_place_single_entries_come),
		T(blocks_that_do_not_lie_side_by_side_get_single_entries),
		T(what_is_written_in_order_lies_side_by_side),
		T(without_memory_for_zeros_single_entries_come),
		T(a_private_mapping_reads_huge_and_copies_a_page),
		T(sync_write_protects_all_with_one_flush),
		T(sync_of_one_page_in_the_middle_is_of_the_whole_entry),
		T(what_was_written_through_map_sync_survives_a_crash),
		T(without_map_sync_it_does_not),
		T(unmapping_a_part_drops_the_entry_and_the_rest_comes_back),
		T(madv_dontneed_drops_it_and_it_comes_back_huge),
		T(protection_is_of_the_whole_entry_or_drops_it),
		T(mremap_moves_it_where_it_lies_alike_and_else_drops_it),
		T(a_child_finds_it_again),
		T(a_truncation_takes_it_and_leaves_no_byte),
		T(a_hole_in_it_takes_its_blocks),
		T(mincore_says_that_all_of_it_is_there),
		T(pages_are_locked_and_populated_by_huge_entries),
		T(walks_read_few_tables_where_entries_are_huge),
		T(nothing_is_mapped_that_a_truncation_took),
		T(nor_that_a_private_mapping_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
