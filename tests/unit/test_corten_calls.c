/* SPDX-License-Identifier: MIT */
/* What programs are told and find on CortenMM: errors, moves, files, and what goes when memory is
 * short. */
#include "engine/space/uapi.h"
#include "tests/unit/corten_world.h"

/* ---- what the calls return ---- */

static int advise_at(u64 addr, u64 len)
{
	return s->program->ops->advise(s->program, 0, addr, len, VADV_DONTNEED);
}

static int protect_at(u64 addr, u64 len, u32 prot)
{
	return s->program->ops->protect(s->program, 0, addr, len, prot);
}

static int unmap_at(u64 addr, u64 len)
{
	return s->program->ops->unmap(s->program, 0, addr, len);
}

/* Pages 0, 2 and 3 of 5, written to. */
static void map_with_holes(void)
{
	map_at(0, AT, PAGE_SIZE, VM_READ | VM_WRITE);
	map_at(0, AT + 2 * PAGE_SIZE, 2 * PAGE_SIZE, VM_READ | VM_WRITE);
	for (u64 i = 0; i < 4; i++)
		write_at(0, AT + i * PAGE_SIZE, 7);
}

static void advice_is_taken_on_both_sides_of_a_hole(void **state)
{
	(void)state;
	map_with_holes();
	assert_int_equal(advise_at(AT + PAGE_SIZE, PAGE_SIZE), -ENOMEM);
	assert_int_equal(advise_at(AT, 3 * PAGE_SIZE), -ENOMEM);
	assert_int_equal(read_at(0, AT), 0);
	assert_int_equal(read_at(0, AT + 2 * PAGE_SIZE), 0);
	assert_int_equal(read_at(0, AT + 3 * PAGE_SIZE), 7);
	assert_int_equal(advise_at(AT + 3 * PAGE_SIZE, 2 * PAGE_SIZE), -ENOMEM); /* at the end */
	assert_int_equal(read_at(0, AT + 3 * PAGE_SIZE), 0);
	write_at(0, AT + 3 * PAGE_SIZE, 7);
	assert_int_equal(advise_at(AT + 2 * PAGE_SIZE, PAGE_SIZE + 1), 0); /* whole pages */
	assert_int_equal(read_at(0, AT + 3 * PAGE_SIZE), 0);
	assert_int_equal(advise_at(AT + PAGE_SIZE, 0), 0);
	assert_int_equal(advise_at(AT + 1, PAGE_SIZE), -EINVAL);
	assert_int_equal(advise_at(AT, ~0ULL), -EINVAL);
	assert_int_equal(advise_at(AT, -AT - PAGE_SIZE), -ENOMEM);
	assert_int_equal(s->program->ops->advise(s->program, 0, AT, PAGE_SIZE, 3), -EINVAL);
}

static void rights_change_up_to_a_hole(void **state)
{
	(void)state;
	map_with_holes();
	assert_int_equal(protect_at(AT, 3 * PAGE_SIZE, VM_READ), -ENOMEM);
	assert_int_equal(write_at(0, AT, 1), FAULT_ACCERR);
	assert_int_equal(write_at(0, AT + 2 * PAGE_SIZE, 1), FAULT_OK);
	assert_int_equal(protect_at(AT + 2 * PAGE_SIZE, PAGE_SIZE + 1, VM_READ), 0);
	assert_int_equal(write_at(0, AT + 3 * PAGE_SIZE, 1), FAULT_ACCERR);
	assert_int_equal(protect_at(AT + PAGE_SIZE, 0, VM_READ), 0);
	assert_int_equal(protect_at(AT + 1, 0, VM_READ), -EINVAL);
	assert_int_equal(protect_at(AT, ~0ULL, VM_READ), -ENOMEM);
	assert_int_equal(protect_at(AT, PAGE_SIZE, VM_SHARED), -EINVAL);
	assert_int_equal(protect_at(PAGE_SIZE, AT, 0), -ENOMEM);
	assert_int_equal(read_at(0, AT), 7);
}

static void holes_can_be_unmapped(void **state)
{
	(void)state;
	map_with_holes();
	assert_int_equal(unmap_at(AT + PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(unmap_at(AT + PAGE_SIZE, 2 * PAGE_SIZE - 1), 0);
	assert_int_equal(write_at(0, AT + 2 * PAGE_SIZE, 1), FAULT_MAPERR);
	assert_int_equal(read_at(0, AT + 3 * PAGE_SIZE), 7);
	assert_int_equal(unmap_at(AT + 1, PAGE_SIZE), -EINVAL);
	assert_int_equal(unmap_at(AT, 0), -EINVAL);
	assert_int_equal(unmap_at(AT, ~0ULL), -EINVAL);
	assert_int_equal(unmap_at(AT, CORTEN_HIGH - AT + PAGE_SIZE), -EINVAL);
	assert_int_equal(unmap_at(PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(unmap_at(PAGE_SIZE, AT), 0);
	assert_int_equal(write_at(0, AT, 1), FAULT_MAPERR);
}

/* ---- mremap ---- */

static s64 remap_at(u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	return s->program->ops->remap(s->program, 0, addr, len, new_len, flags, to);
}

#define MAYMOVE (UAPI_MREMAP_MAYMOVE)
#define FIXED	(UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED)
#define KEEP	(UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_DONTUNMAP)
#define TO	(AT + 64 * MB)

static void a_large_area_moves_by_its_records(void **state)
{
	u64 from = 1ULL << 40, to = 1ULL << 41, page = (5ULL << 30) + 7 * PAGE_SIZE, before;

	(void)state;
	assert_int_equal(map_at(0, from, 64ULL << 30, VM_READ | VM_WRITE), from);
	assert_int_equal(write_at(0, from + page, 3), FAULT_OK);
	before = atomic_load(&c->tables.nr_tables);
	assert_int_equal(remap_at(from, 64ULL << 30, 64ULL << 30, FIXED, to), to);
	/* The uppermost of the old ones reaches further, and stays. */
	assert_int_equal(atomic_load(&c->tables.nr_tables), before + 1);
	assert_int_equal(read_at(0, to + page), 3);
	assert_int_equal(read_at(0, to + page + PAGE_SIZE), 0);
	assert_int_equal(read_at(0, from + page), -1);
}

/* More of them than are lifted at once. */
static void pages_and_slots_move(void **state)
{
	(void)state;
	map_at(0, AT, MB, VM_READ | VM_WRITE);
	for (u64 i = 0; i < 200; i++)
		assert_int_equal(write_at(0, AT + i * PAGE_SIZE, (u8)i), FAULT_OK);
	s->program->ops->pageout(s->program, 0, AT + 50 * PAGE_SIZE, 50 * PAGE_SIZE);
	protect_at(AT + 150 * PAGE_SIZE, PAGE_SIZE, 0);
	assert_int_equal(remap_at(AT, MB, MB, FIXED, TO + 3 * PAGE_SIZE), TO + 3 * PAGE_SIZE);
	s->program->ops->check(s->program);
	assert_int_equal(read_at(0, TO + 153 * PAGE_SIZE), -1);
	protect_at(TO + 153 * PAGE_SIZE, PAGE_SIZE, VM_READ);
	for (u64 i = 0; i < 200; i++)
		assert_int_equal(read_at(0, TO + (i + 3) * PAGE_SIZE), (u8)i);
	assert_int_equal(read_at(0, AT), -1);
}

static void gaps_move_with_what_is_around_them(void **state)
{
	(void)state;
	map_with_holes();
	map_at(0, TO, 4 * PAGE_SIZE, VM_READ | VM_WRITE);
	write_at(0, TO + PAGE_SIZE, 9);
	assert_int_equal(remap_at(AT + PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE, FIXED, TO),
			 -EFAULT);
	assert_int_equal(remap_at(AT, 4 * PAGE_SIZE, 4 * PAGE_SIZE, FIXED, TO), TO);
	assert_int_equal(read_at(0, TO), 7);
	assert_int_equal(read_at(0, TO + PAGE_SIZE), 9); /* nothing came */
	assert_int_equal(read_at(0, TO + 3 * PAGE_SIZE), 7);
	/* Another size is one area's. */
	map_at(0, TO, 2 * PAGE_SIZE, VM_READ);
	assert_int_equal(remap_at(TO, 4 * PAGE_SIZE, 5 * PAGE_SIZE, MAYMOVE, 0), -EFAULT);
}

static void areas_grow_and_shrink(void **state)
{
	s64 at;

	(void)state;
	map_at(0, AT, 4 * PAGE_SIZE, VM_READ | VM_WRITE);
	write_at(0, AT + 3 * PAGE_SIZE, 5);
	assert_int_equal(remap_at(AT, 4 * PAGE_SIZE, 6 * PAGE_SIZE, 0, 0), AT);
	assert_int_equal(write_at(0, AT + 5 * PAGE_SIZE, 6), FAULT_OK);
	assert_int_equal(remap_at(AT, 6 * PAGE_SIZE, 4 * PAGE_SIZE, 0, 0), AT);
	assert_int_equal(read_at(0, AT + 4 * PAGE_SIZE), -1);
	map_at(0, AT + 4 * PAGE_SIZE, PAGE_SIZE, VM_READ); /* in the way */
	assert_int_equal(remap_at(AT, 4 * PAGE_SIZE, 6 * PAGE_SIZE, 0, 0), -ENOMEM);
	at = remap_at(AT, 4 * PAGE_SIZE, 6 * PAGE_SIZE, MAYMOVE, 0);
	assert_true(at > 0 && at != AT);
	assert_int_equal(read_at(0, (u64)at + 3 * PAGE_SIZE), 5);
	assert_int_equal(write_at(0, (u64)at + 5 * PAGE_SIZE, 6), FAULT_OK);
	assert_int_equal(read_at(0, AT), -1);
	assert_int_equal(read_at(0, AT + 4 * PAGE_SIZE), 0);
	assert_int_equal(remap_at((u64)at, 6 * PAGE_SIZE, 4 * PAGE_SIZE, FIXED, TO), TO);
	assert_int_equal(read_at(0, TO + 3 * PAGE_SIZE), 5);
	assert_int_equal(read_at(0, TO + 4 * PAGE_SIZE), -1);
	assert_int_equal(read_at(0, (u64)at + 5 * PAGE_SIZE), -1);
}

static void what_is_kept_is_empty(void **state)
{
	(void)state;
	map_with_holes();
	assert_int_equal(remap_at(AT + 2 * PAGE_SIZE, 2 * PAGE_SIZE, 2 * PAGE_SIZE,
				  KEEP | UAPI_MREMAP_FIXED, TO),
			 TO);
	assert_int_equal(read_at(0, TO + PAGE_SIZE), 7);
	assert_int_equal(read_at(0, AT + 2 * PAGE_SIZE), 0);
	assert_int_equal(remap_at(TO, PAGE_SIZE, PAGE_SIZE, KEEP, TO + MB), TO + MB);
	assert_true(remap_at(TO + MB, PAGE_SIZE, PAGE_SIZE, KEEP, AT) > (s64)TO); /* not free */
	assert_int_equal(read_at(0, AT), 7);
}

static void moves_are_refused_as_linux_does(void **state)
{
	(void)state;
	map_at(0, AT, 4 * PAGE_SIZE, VM_READ | VM_WRITE);
	write_at(0, AT, 7);
	assert_int_equal(remap_at(AT, PAGE_SIZE, PAGE_SIZE, 8, TO), -EINVAL);
	assert_int_equal(remap_at(AT + 1, PAGE_SIZE, PAGE_SIZE, FIXED, TO), -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, PAGE_SIZE, FIXED, TO + 1), -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, 0, MAYMOVE, 0), -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, PAGE_SIZE, UAPI_MREMAP_FIXED, TO), -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, 2 * PAGE_SIZE, KEEP, TO), -EINVAL);
	assert_int_equal(remap_at(AT, 2 * PAGE_SIZE, 2 * PAGE_SIZE, FIXED, AT + PAGE_SIZE),
			 -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, PAGE_SIZE, FIXED, CORTEN_HIGH), -EINVAL);
	assert_int_equal(remap_at(AT, PAGE_SIZE, PAGE_SIZE, FIXED, PAGE_SIZE), -ENOMEM);
	assert_int_equal(remap_at(AT, 0, PAGE_SIZE, MAYMOVE, 0), -EINVAL); /* not shared */
	assert_int_equal(remap_at(PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, FIXED, TO), -EFAULT);
	assert_int_equal(remap_at(TO, PAGE_SIZE, PAGE_SIZE, FIXED, AT), -EFAULT);
	assert_int_equal(remap_at(AT, 5 * PAGE_SIZE, 6 * PAGE_SIZE, MAYMOVE, 0), -EFAULT);
	/* more than one CPU gives out */
	assert_int_equal(map_at(0, AT + 4 * PAGE_SIZE, PAGE_SIZE, VM_READ), AT + 4 * PAGE_SIZE);
	assert_int_equal(remap_at(AT, 4 * PAGE_SIZE, 1ULL << 40, MAYMOVE, 0), -ENOMEM);
	assert_int_equal(read_at(0, AT), 7);
}

/* Without a table to be had it is all where it was. */
static void a_move_without_memory_moves_nothing(void **state)
{
	u64 n = 1;

	(void)state;
	map_at(0, AT, 4 * MB, VM_READ | VM_WRITE);
	write_at(0, AT + MB, 7);
	write_at(0, AT + 3 * MB, 8);
	map_at(0, 2 * TO, PAGE_SIZE, VM_READ); /* one of the tables that are missing */
	while (map_at(0, AT + n * 1024 * MB, PAGE_SIZE, VM_READ) > 0)
		n++;
	assert_int_equal(remap_at(AT, 4 * MB, 4 * MB, FIXED, 2 * TO), -ENOMEM);
	assert_int_equal(read_at(0, AT + MB), 7);
	assert_int_equal(read_at(0, AT + 3 * MB), 8);
	assert_int_equal(read_at(0, 2 * TO + MB), -1);
}

/* ---- by programs ---- */

static void run_text(const char *text)
{
	const struct workload w = { "text", text };
	struct lab_result r;

	assert_int_equal(lab_run(&corten_system, &w, 0, &r), 0);
	if (r.verdict != LAB_OK)
		fail_msg("%s", r.message);
}

static void what_is_nobodys_to_touch_survives_fork_and_eviction(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 40P rw as A\n"
		 "write A 40P 1\n"
		 "pageout A 8P\n"
		 "protect A 20P none\n"
		 "fork as P\n"
		 "read A 1 -> segv accerr\n"
		 "process P\n"
		 "read A+10P 1 -> segv accerr\n"
		 "protect A 20P rw\n"
		 "read A 40P 1\n"
		 "write A 40P 2\n"
		 "process first\n"
		 "protect A 20P rw\n"
		 "read A 40P 1\n"
		 "advise A 8P dontneed\n"
		 "read A 8P 0\n"
		 "process P\n"
		 "read A 40P 2\n"
		 "check\n");
}

static void a_clean_page_is_not_written_again(void **state)
{
	const struct workload w = { "clean", "# read, after it was away\n"
					     "map any 4P rw as A\n"
					     "write A 4P 1\n"
					     "pageout A 4P\n"
					     "read A 4P 1\n"
					     "write A 1P 2\n"
					     "measure\n"
					     "pageout A 4P\n"
					     "check\n"
					     "fork as P\n"
					     "read A 1P 2\n"
					     "write A+1P 1P 3\n"
					     "read A+1P 1P 3\n"
					     "process P\n"
					     "read A 1P 2\n"
					     "read A+1P 3P 1\n" };
	struct lab_result r;

	(void)state;
	lab_run(&corten_system, &w, 0, &r);
	if (r.verdict != LAB_OK)
		fail_msg("%s", r.message);
	assert_int_equal(r.counts[PAID_IO_WRITES], 1);
}

static void a_dirty_page_of_two_is_not_dropped_for_its_old_slot(void **state)
{
	(void)state;
	run_text("map any 2P rw as A\n"
		 "write A 2P 1\n"
		 "pageout A 2P\n"
		 "write A 1P 2\n"
		 "fork as P\n"
		 "process P\n"
		 "read A 1P 2\n"
		 "exit P\n"
		 "process first\n"
		 "pageout A 2P\n"
		 "read A 1P 2\n"
		 "read A+1P 1P 1\n"
		 "write A 1P 3\n"
		 "fork as Q\n"
		 "write A 1P 4\n"
		 "process Q\n"
		 "pageout A 2P\n"
		 "read A 1P 3\n"
		 "process first\n"
		 "pageout A 2P\n"
		 "read A 1P 4\n"
		 "check\n");
}

static void a_stack_grows_below_pages_that_are_away(void **state)
{
	(void)state;
	run_text("map 0x20010000 1P rw fixed stack\n"
		 "write 0x20010000 1P 1\n"
		 "pageout 0x20010000 1P\n"
		 "read 0x2000c000 4P 0\n"
		 "read 0x20010000 1P 1\n"
		 "map 0x1fe00000 1P rw fixed\n"
		 "read 0x1fe01000 1 -> segv maperr\n"
		 "read 0x1ff01000 1P 0\n"
		 "check\n");
}

static void files_are_cut_and_written_through(void **state)
{
	(void)state;
	run_text("file f 4P 7\n"
		 "map any 4P rw file f 0 shared as A\n"
		 "map any 4P rw file f 0 private as B\n"
		 "read A 4P 7\n"
		 "write B+3P 1P 9\n"
		 "write A 1P 1\n"
		 "fread f 0 1P 1\n"
		 "truncate f 4096\n"
		 "read A+1P 1 -> bus\n"
		 "read B+3P 1 -> bus\n"
		 "truncate f 16384\n"
		 "read A+1P 3P 0\n"
		 "close f\n"
		 "read A 1P 1\n"
		 "fork as P\n"
		 "write A+2P 1P 5\n"
		 "process P\n"
		 "read A+2P 1P 5\n"
		 "read B 1P 1\n"
		 "check\n");
}

static void files_and_copies_move(void **state)
{
	(void)state;
	run_text("file f 4P 7\n"
		 "map any 4P rw file f 0 shared as A\n"
		 "map any 4P rw file f 0 private as B\n"
		 "write B+1P 1P 2\n"
		 "remap A+1P 2P 2P maymove to 0x50000000\n"
		 "remap B+1P 2P 4P maymove to 0x60000000\n"
		 "write 0x50000000 1P 3\n"
		 "fread f 1P 1P 3\n"
		 "read 0x60000000 1P 2\n"
		 "read 0x60001000 2P 7\n"
		 "read 0x60003000 1 -> bus\n"
		 "remap A+3P 0 1P maymove to 0x70000000\n"
		 "write 0x70000000 1P 4\n"
		 "read A+3P 1P 4\n"
		 "truncate f 2P\n"
		 "read 0x50000000 1P 3\n"
		 "read 0x50001000 1 -> bus\n"
		 "read 0x60000000 1P 2\n"
		 "read 0x60001000 1 -> bus\n"
		 "check\n");
}

static void moved_pages_of_two_spaces_are_found(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 40P rw as A\n"
		 "write A 40P 1\n"
		 "fork as P\n"
		 "remap A 40P 40P maymove to 0x50000000\n"
		 "process P\n"
		 "read A 40P 1\n"
		 "write A 40P 2\n"
		 "exit P\n"
		 "write 0x50000000 1P 3\n"
		 "shmem g 50P 4\n" /* which stays */
		 "read 0x50000000 1P 3\n"
		 "read 0x50001000 39P 1\n"
		 "check\n");
}

static void pages_of_two_spaces_go_out_one_entry_after_the_other(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 80P rw as A\n"
		 "write A 80P 1\n"
		 "fork as P\n"
		 "process P\n"
		 "read A+70P 10P 1\n" /* no frame is one's alone */
		 "write A 30P 2\n"
		 "read A+30P 50P 1\n"
		 "check\n"
		 "process first\n"
		 "read A 80P 1\n"
		 "write A 80P 3\n"
		 "process P\n"
		 "read A 30P 2\n"
		 "read A+30P 50P 1\n"
		 "check\n");
}

/* Each CPU takes frames from both, while others write to what is left of them. */
static void four_cpus_write_to_what_a_child_shares(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# cpus 4\n"
		 "# frames 64\n"
		 "map any 80P rw as A\n"
		 "write A 80P 1\n"
		 "fork as P\n"
		 "together A 80P w\n"
		 "read A 80P 1\n"
		 "write A 80P 2\n"
		 "fork as Q\n"
		 "together A 80P w\n"
		 "read A 80P 2\n"
		 "process P\n"
		 "read A 80P 1\n"
		 "process Q\n"
		 "read A 80P 2\n"
		 "check\n");
}

/* Whose they were first is gone. */
static void pages_outlive_the_process_that_wrote_them(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 40P rw as A\n"
		 "fork as P\n"
		 "process P\n"
		 "write A 40P 2\n"
		 "fork as Q\n"
		 "exit P\n"
		 "shmem g 50P 1\n" /* which stays */
		 "process Q\n"
		 "read A 40P 2\n"
		 "process first\n"
		 "read A 40P 0\n"
		 "check\n");
}

static void calls_on_files_find_frames(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "file f 16P 7\n"
		 "shmem g 16P 8\n"
		 "map any 60P rw as A\n"
		 "map any 16P rw file f 0 shared as F\n"
		 "write F 16P 5\n"
		 "write A 60P 1\n"
		 "fread f 0 16P 5\n"
		 "fread g 0 16P 8\n"
		 "write A 60P 2\n"
		 "fwrite f 1P 15P 6\n"
		 "fwrite g 0 16P 9\n"
		 "write A 60P 3\n"
		 "truncate f 100\n"
		 "fread f 0 100 5\n"
		 "read A 60P 3\n"
		 "read F 100 5\n"
		 "check\n");
}

static void a_hole_takes_pages_and_leaves_copies(void **state)
{
	(void)state;
	run_text("file f 6P 7\n"
		 "map any 6P rw file f 0 shared as A\n"
		 "map any 6P rw file f 0 private as B\n"
		 "read A 6P 7\n"
		 "read B 6P 7\n"
		 "write B+3P 1P 2\n"
		 "punch f 5000 14000\n" /* into pages 1 and 4; 2 and 3 */
		 "read A 5000 7\n"
		 "read A+2P 2P 0\n"
		 "fread f 5000 14000 0\n"
		 "fread f 19000 5576 7\n"
		 "read B+1P 900 7\n"
		 "read B+2P 1P 0\n"
		 "read B+3P 1P 2\n"
		 "write A+2P 1P 4\n"
		 "fread f 2P 1P 4\n"
		 "punch f 20000 100\n"
		 "fread f 20000 100 0\n"
		 "fread f 20100 1 7\n"
		 "punch f 5P 100P\n"
		 "read A+5P 1P 0\n"
		 "punch f 0 0 -> einval\n"
		 "check\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(advice_is_taken_on_both_sides_of_a_hole),
		with(rights_change_up_to_a_hole),
		with(holes_can_be_unmapped),
		with(a_large_area_moves_by_its_records),
		with(pages_and_slots_move),
		with(gaps_move_with_what_is_around_them),
		with(areas_grow_and_shrink),
		with(what_is_kept_is_empty),
		with(moves_are_refused_as_linux_does),
		with(a_move_without_memory_moves_nothing),
		cmocka_unit_test(what_is_nobodys_to_touch_survives_fork_and_eviction),
		cmocka_unit_test(a_clean_page_is_not_written_again),
		cmocka_unit_test(a_dirty_page_of_two_is_not_dropped_for_its_old_slot),
		cmocka_unit_test(a_stack_grows_below_pages_that_are_away),
		cmocka_unit_test(files_are_cut_and_written_through),
		cmocka_unit_test(files_and_copies_move),
		cmocka_unit_test(moved_pages_of_two_spaces_are_found),
		cmocka_unit_test(pages_of_two_spaces_go_out_one_entry_after_the_other),
		cmocka_unit_test(four_cpus_write_to_what_a_child_shares),
		cmocka_unit_test(pages_outlive_the_process_that_wrote_them),
		cmocka_unit_test(calls_on_files_find_frames),
		cmocka_unit_test(a_hole_takes_pages_and_leaves_copies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
