/* SPDX-License-Identifier: MIT */
/*
 * Windows' kernel side: which state of an entry costs what, IRQL, pools, locked sections, views,
 * the verifier, and what stops the kernel.
 */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/lab.h"
#include "systems/windows/irql.h"
#include "systems/windows/pages.h"
#include "systems/windows/pool.h"
#include "systems/windows/section.h"
#include "systems/windows/windows.h"
#include "tests/unit/unit.h"

#define TAG   1
#define PAGES 4

static struct ledger *ledger;
static struct system *s;
static struct nt *k;

static int setup(void **state)
{
	struct system_options o = { .cpus = 2, .frames = 256 };

	(void)state;
	assert_int_equal(ledger_create(2, &ledger), 0);
	o.ledger = ledger;
	assert_int_equal(windows_system.create(&windows_system, &o, &s), 0);
	k = windows_nt(s);
	ledger_begin(ledger, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	nt_check(k);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

/* ---- what most tests do ---- */

static u64 pool(enum pool_type type, u64 pages)
{
	u64 va;

	assert_int_equal(ex_allocate_pool(k, 0, type, pages * PAGE_SIZE, TAG, &va), 0);
	return va;
}

static int write_byte(u64 va, char byte)
{
	return nt_access(k, 0, NT_DRIVER, va, PF_WRITE, &byte, 1);
}

static int read_byte(u64 va)
{
	char byte;
	int err = nt_access(k, 0, NT_DRIVER, va, 0, &byte, 1);

	return err ? err : byte;
}

static void fill(u64 va, u64 pages, char first)
{
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(write_byte(va + i * PAGE_SIZE, (char)(first + (char)i)), 0);
}

static void expect_filled(u64 va, u64 pages, char first)
{
	for (u64 i = 0; i < pages; i++)
		assert_int_equal(read_byte(va + i * PAGE_SIZE), first + (char)i);
}

static void page_out(u64 va, u64 pages, bool out)
{
	assert_int_equal(mm_page_out(k, 0, va, pages * PAGE_SIZE, out), 0);
}

static u8 raise_to(u8 irql)
{
	u8 old;

	assert_int_equal(ke_raise_irql(k, 0, irql, &old), 0);
	return old;
}

static u64 paid(enum ledger_counter c)
{
	return s->total[c];
}

/* What reading the byte costs. */
static void measure_read(u64 va)
{
	system_measure(s);
	assert_true(read_byte(va) >= 0);
	system_measured(s);
}

static void expect_stopped(enum bugcheck_code code, u64 first_parameter)
{
	assert_int_equal(atomic_load(&k->bugcheck.code), code);
	assert_int_equal(k->bugcheck.parameter[0], first_parameter);
}

/* ---- faults ---- */

/* Reference: one exception from kernel to kernel, no privilege changes. */
static void a_fault_of_the_kernel_crosses_nothing(void **state)
{
	u64 va = pool(PAGED_POOL, 1);

	(void)state;
	measure_read(va);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
	assert_int_equal(paid(PAID_CROSSINGS), 0);
	assert_int_equal(paid(PAID_DOMAINS), 0);
	assert_int_equal(paid(PAID_PAGES_ZEROED), 1);
	assert_int_equal(paid(PAID_ENTRY_WRITES), 1);
	assert_int_equal(paid(PAID_SOFTWARE_READS), 4);
	assert_int_equal(paid(PAID_IO_READS), 0);
	assert_int_equal(nt_faults(k, NT_DEMAND_ZERO), 1);
	measure_read(va);
	assert_int_equal(paid(PAID_EXCEPTIONS), 0);
}

static void a_soft_fault_does_no_io_and_a_hard_one_reads_once(void **state)
{
	u64 va = pool(PAGED_POOL, 1);

	(void)state;
	fill(va, 1, 7);
	page_out(va, 1, false);
	measure_read(va);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
	assert_int_equal(paid(PAID_IO_READS), 0);
	assert_int_equal(paid(PAID_FRAMES_ALLOCATED), 0);
	assert_int_equal(nt_faults(k, NT_TRANSITION), 1);

	page_out(va, 1, true);
	measure_read(va);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
	assert_int_equal(paid(PAID_IO_READS), 1);
	assert_int_equal(paid(PAID_FRAMES_ALLOCATED), 1);
	assert_int_equal(nt_faults(k, NT_HARD), 1);
	expect_filled(va, 1, 7);
}

/* What comes back unchanged is not written again. */
static void a_clean_page_is_not_written_twice(void **state)
{
	u64 va = pool(PAGED_POOL, 1);

	(void)state;
	fill(va, 1, 7);
	system_measure(s);
	page_out(va, 1, true);
	system_measured(s);
	assert_int_equal(paid(PAID_IO_WRITES), 1);
	expect_filled(va, 1, 7);
	system_measure(s);
	page_out(va, 1, true);
	system_measured(s);
	assert_int_equal(paid(PAID_IO_WRITES), 0);
	fill(va, 1, 8);
	system_measure(s);
	page_out(va, 1, true);
	system_measured(s);
	assert_int_equal(paid(PAID_IO_WRITES), 1);
	expect_filled(va, 1, 8);
}

/* More than there are frames: all come back with their bytes. */
static void pages_beyond_memory_come_back(void **state)
{
	const u64 pages = 3 * k->nr_frames;
	u64 va = pool(PAGED_POOL, pages);

	(void)state;
	fill(va, pages, 0);
	nt_check(k);
	for (u64 i = 0; i < pages; i++)
		assert_int_equal((char)read_byte(va + i * PAGE_SIZE), (char)i);
	assert_true(nt_faults(k, NT_HARD) > 0);
	nt_check(k);
	assert_int_equal(ex_free_pool(k, 0, va, TAG), 0);
	assert_int_equal(bugcheck_errno(&k->bugcheck), 0);
}

/* Random touches, trims and frees against a plain model. */
static void what_was_written_is_read(void **state)
{
	static char model[8][PAGES];
	u64 at[8] = { 0 }, rnd = 1;

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned a = (unsigned)rnd_below(&rnd, 8), p = (unsigned)rnd_below(&rnd, PAGES);
		u64 va = at[a] + p * PAGE_SIZE;

		if (!at[a]) {
			at[a] = pool(PAGED_POOL, PAGES);
			memset(model[a], 0, PAGES);
			continue;
		}
		switch (rnd_below(&rnd, 12)) {
		case 0:
			assert_int_equal(ex_free_pool(k, 0, at[a], TAG), 0);
			at[a] = 0;
			break;
		case 1:
			page_out(va, 1, true);
			break;
		case 2:
		case 3:
			page_out(va, 1, false);
			break;
		case 4:
		case 5:
		case 6:
			model[a][p] = (char)(i % 100);
			assert_int_equal(write_byte(va, model[a][p]), 0);
			break;
		default:
			assert_int_equal(read_byte(va), model[a][p]);
		}
		if (i % 100 == 0)
			nt_check(k);
	}
}

/* ---- IRQL ---- */

static void at_dispatch_level_only_nonpaged_memory_is_touched(void **state)
{
	u64 paged = pool(PAGED_POOL, 1), nonpaged = pool(NON_PAGED_POOL, 2);
	u8 old;

	(void)state;
	fill(paged, 1, 1);
	page_out(paged, 1, false);
	old = raise_to(DISPATCH_LEVEL);
	fill(nonpaged, 2, 5);
	expect_filled(nonpaged, 2, 5);
	assert_int_equal(ke_lower_irql(k, 0, old), 0);
	expect_filled(paged, 1, 1);
	page_out(paged, 1, false);

	raise_to(APC_LEVEL);
	expect_filled(paged, 1, 1);
	page_out(paged, 1, false);
	raise_to(DISPATCH_LEVEL);
	assert_int_equal(read_byte(paged), -EACCES);
	expect_stopped(DRIVER_IRQL_NOT_LESS_OR_EQUAL, paged);
	assert_int_equal(k->bugcheck.parameter[1], DISPATCH_LEVEL);
	assert_int_equal(k->bugcheck.parameter[2], BUGCHECK_READ);
	/* It has stopped: nothing more is done, whatever is asked for. */
	assert_int_equal(read_byte(nonpaged), -EACCES);
	assert_int_equal(ke_lower_irql(k, 0, PASSIVE_LEVEL), -EACCES);
	assert_int_equal(ex_free_pool(k, 0, paged, TAG), -EACCES);
}

static void the_kernels_own_instruction_is_another_bug_check(void **state)
{
	u64 va = pool(PAGED_POOL, 1);
	char byte = 0;

	(void)state;
	raise_to(HIGH_LEVEL);
	assert_int_equal(nt_access(k, 0, NT_KERNEL, va, PF_WRITE, &byte, 1), -EPERM);
	expect_stopped(IRQL_NOT_LESS_OR_EQUAL, va);
	assert_int_equal(k->bugcheck.parameter[2], BUGCHECK_WRITE);
}

static void irql_is_each_cpus_own(void **state)
{
	u64 va = pool(PAGED_POOL, 1);
	char byte = 3;

	(void)state;
	raise_to(DISPATCH_LEVEL);
	assert_int_equal(ke_get_current_irql(k, 1), PASSIVE_LEVEL);
	assert_int_equal(nt_access(k, 1, NT_DRIVER, va, PF_WRITE, &byte, 1), 0);
	/* What is valid by luck may be touched. */
	expect_filled(va, 1, 3);
	assert_int_equal(ke_paged_code(k, 0), -EPERM);
	assert_int_equal(ke_paged_code(k, 1), 0);
}

static void a_spin_lock_is_at_dispatch_level(void **state)
{
	struct ke_spin_lock lock;
	u8 old, none;

	(void)state;
	ke_initialize_spin_lock(&lock);
	assert_int_equal(ke_acquire_spin_lock(k, 0, &lock, &old), 0);
	assert_int_equal(old, PASSIVE_LEVEL);
	assert_int_equal(ke_get_current_irql(k, 0), DISPATCH_LEVEL);
	assert_int_equal(ke_release_spin_lock(k, 0, &lock, old), 0);
	assert_int_equal(ke_get_current_irql(k, 0), PASSIVE_LEVEL);
	assert_int_equal(ke_acquire_spin_lock(k, 0, &lock, &old), 0);
	assert_int_equal(ke_acquire_spin_lock(k, 0, &lock, &none), -EBUSY);
	expect_stopped(SPIN_LOCK_ALREADY_OWNED, (u64)&lock);
}

static void a_spin_lock_is_released_by_its_owner(void **state)
{
	struct ke_spin_lock lock;

	(void)state;
	ke_initialize_spin_lock(&lock);
	assert_int_equal(ke_release_spin_lock(k, 0, &lock, PASSIVE_LEVEL), -EINVAL);
	expect_stopped(SPIN_LOCK_NOT_OWNED, (u64)&lock);
}

static void irql_is_not_lowered_upwards(void **state)
{
	(void)state;
	assert_int_equal(ke_lower_irql(k, 0, DISPATCH_LEVEL), -EPERM);
	expect_stopped(IRQL_NOT_LESS_OR_EQUAL, DISPATCH_LEVEL);
}

/* ---- pools ---- */

static void what_is_allocated_is_zeros_and_nobody_elses(void **state)
{
	u64 a = pool(NON_PAGED_POOL, 1), b;

	(void)state;
	fill(a, 1, 9);
	assert_int_equal(ex_free_pool(k, 0, a, TAG), 0);
	b = pool(NON_PAGED_POOL, 2);
	assert_int_equal(read_byte(b), 0);
	assert_int_equal(read_byte(b + PAGE_SIZE), 0);
	assert_int_equal(read_byte(pool(PAGED_POOL, 1)), 0);
}

static void nonpaged_pool_is_to_be_had_at_dispatch_level(void **state)
{
	u64 n = 0, va;
	int err;

	(void)state;
	raise_to(DISPATCH_LEVEL);
	while (!(err = ex_allocate_pool(k, 0, NON_PAGED_POOL, PAGE_SIZE, TAG, &va)))
		n++;
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(n, k->nr_frames - 1); /* the stacks have one */
	assert_int_equal(bugcheck_errno(&k->bugcheck), 0);
	assert_int_equal(ex_free_pool(k, 0, va - PAGE_SIZE, TAG), 0);
	nt_check(k);
}

/* Below that level what is modified is written out to make room. */
static void nonpaged_pool_takes_what_can_be_paged(void **state)
{
	u64 paged = pool(PAGED_POOL, k->nr_frames / 2), va;

	(void)state;
	fill(paged, k->nr_frames / 2, 0);
	assert_int_equal(
		ex_allocate_pool(k, 0, NON_PAGED_POOL, (k->nr_frames - 8) * PAGE_SIZE, TAG, &va),
		0);
	expect_filled(paged, k->nr_frames / 2, 0);
	assert_int_equal(ex_free_pool(k, 0, va, TAG), 0);
}

static void pool_is_freed_by_who_knows_the_tag(void **state)
{
	u64 va = pool(PAGED_POOL, 1);

	(void)state;
	assert_int_equal(ex_free_pool(k, 0, va, TAG + 1), -EINVAL);
	expect_stopped(BAD_POOL_CALLER, POOL_FREED_BY_ANOTHER_TAG);
}

static void a_stack_is_not_freed_below_its_cpu(void **state)
{
	u64 va = pool(NON_PAGED_POOL, 1);

	(void)state;
	ke_switch_stack(k, 1, va + 100);
	assert_int_equal(ex_free_pool(k, 0, va, TAG), -EBUSY);
	assert_int_equal(write_byte(va, 1), 0);
}

/* No page can be made room for: the page file takes nothing. */
static void no_page_at_all_stops_the_kernel(void **state)
{
	u64 pages = k->nr_frames, va = pool(PAGED_POOL, pages);
	int err = 0;

	(void)state;
	lab_store_fail(&k->page_file, RAMFILE_WRITE, -EIO);
	for (u64 i = 0; i < pages && !err; i++)
		err = write_byte(va + i * PAGE_SIZE, 1);
	assert_int_equal(err, -ENOMEM);
	expect_stopped(NO_PAGES_AVAILABLE, 0);
}

/* ---- sections ---- */

static void what_is_locked_stays_and_is_touched_at_any_level(void **state)
{
	unsigned handle, again;
	u64 va;

	(void)state;
	assert_int_equal(mm_load_section(k, 0, PAGES, false, "\x05", 1, &va), 0);
	page_out(va, PAGES, true);
	assert_int_equal(mm_lock_pageable_section(k, 0, va + PAGE_SIZE, &handle), 0);
	assert_int_equal(mm_page_out(k, 0, va, PAGES * PAGE_SIZE, true), -EBUSY);
	assert_int_equal(mm_unload_section(k, 0, va), -EBUSY);
	raise_to(DISPATCH_LEVEL);
	assert_int_equal(read_byte(va), 5);
	fill(va + PAGE_SIZE, PAGES - 1, 6);
	/* It is there: locking it once more waits for nothing. */
	assert_int_equal(mm_lock_pageable_section(k, 0, va, &again), 0);
	assert_int_equal(again, handle);
	nt_check(k);
	assert_int_equal(mm_unlock_pageable_section(k, 0, handle), 0);
	assert_int_equal(ke_lower_irql(k, 0, PASSIVE_LEVEL), 0);
	assert_int_equal(mm_page_out(k, 0, va, PAGE_SIZE, false), -EBUSY);
	assert_int_equal(mm_unlock_pageable_section(k, 0, handle), 0);
	page_out(va, PAGES, true);
	assert_int_equal(read_byte(va), 5);
	assert_int_equal(mm_unload_section(k, 0, va), 0);
	assert_int_equal(mm_unload_section(k, 0, va), -EINVAL);
}

static void a_section_is_not_locked_at_dispatch_level(void **state)
{
	unsigned handle;
	u64 va;

	(void)state;
	assert_int_equal(mm_load_section(k, 0, 1, false, NULL, 0, &va), 0);
	raise_to(DISPATCH_LEVEL);
	assert_int_equal(mm_lock_pageable_section(k, 0, va, &handle), -EPERM);
	expect_stopped(IRQL_NOT_LESS_OR_EQUAL, va);
}

static void a_lock_that_fails_leaves_nothing_locked(void **state)
{
	unsigned handle;
	u64 va;

	(void)state;
	assert_int_equal(mm_load_section(k, 0, PAGES, false, "x", 1, &va), 0);
	fill(va, PAGES, 1);
	page_out(va + PAGE_SIZE, PAGES - 1, true);
	lab_store_fail(&k->page_file, RAMFILE_READ, -EIO);
	assert_int_equal(mm_lock_pageable_section(k, 0, va, &handle), -EIO);
	expect_stopped(KERNEL_DATA_INPAGE_ERROR, 0);
	nt_check(k);
}

static void code_is_fetched_and_comes_back(void **state)
{
	char byte = 0;
	u64 va;

	(void)state;
	assert_int_equal(mm_load_section(k, 0, 1, true, "\xc3", 1, &va), 0);
	page_out(va, 1, true);
	assert_int_equal(nt_access(k, 0, NT_DRIVER, va, PF_INSTR, &byte, 1), 0);
	assert_int_equal((u8)byte, 0xc3);
}

/* ---- views ---- */

static void what_one_view_writes_the_other_reads(void **state)
{
	unsigned segment;
	u64 a, b;

	(void)state;
	assert_int_equal(mm_create_segment(k, 0, 2, &segment), 0);
	assert_int_equal(mm_map_view(k, 0, segment, &a), 0);
	assert_int_equal(mm_map_view(k, 0, segment, &b), 0);
	fill(a, 2, 1);
	expect_filled(b, 2, 1);
	nt_check(k);
	/* The page of a view that is trimmed is still there for the other. */
	page_out(a, 1, true);
	nt_check(k);
	measure_read(b);
	assert_int_equal(paid(PAID_EXCEPTIONS), 0);
	measure_read(a);
	assert_int_equal(paid(PAID_IO_READS), 0);
	assert_int_equal(paid(PAID_FRAMES_ALLOCATED), 0);
	page_out(a, 2, false);
	page_out(b, 2, true);
	nt_check(k);
	measure_read(b);
	assert_int_equal(paid(PAID_IO_READS), 1);
	measure_read(a);
	assert_int_equal(paid(PAID_IO_READS), 0);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);

	assert_int_equal(mm_unmap_view(k, 0, a), 0);
	assert_int_equal(mm_delete_segment(k, 0, segment), -EBUSY);
	expect_filled(b, 2, 1);
	assert_int_equal(mm_unmap_view(k, 0, b), 0);
	nt_check(k);
	/* Nobody maps it, and it is not lost. */
	assert_int_equal(mm_map_view(k, 0, segment, &a), 0);
	expect_filled(a, 2, 1);
	assert_int_equal(mm_unmap_view(k, 0, a), 0);
	assert_int_equal(mm_delete_segment(k, 0, segment), 0);
	assert_int_equal(mm_delete_segment(k, 0, segment), -EINVAL);
	assert_int_equal(read_byte(a), -EFAULT);
}

/* ---- the verifier ---- */

/* Reads its table with a spin lock; a good one has locked the section before. */
static int drive(u64 va, bool locks)
{
	struct ke_spin_lock lock;
	unsigned handle = 0;
	int err = 0, value;
	u8 old;

	ke_initialize_spin_lock(&lock);
	if (locks)
		err = mm_lock_pageable_section(k, 0, va, &handle);
	if (!err)
		err = ke_acquire_spin_lock(k, 0, &lock, &old);
	if (err)
		return err;
	value = read_byte(va);
	if (value < 0)
		return value;
	assert_int_equal(ke_release_spin_lock(k, 0, &lock, old), 0);
	if (locks)
		assert_int_equal(mm_unlock_pageable_section(k, 0, handle), 0);
	return value;
}

static void the_verifier_finds_who_forgets_a_lock(void **state)
{
	u64 va;

	(void)state;
	assert_int_equal(mm_load_section(k, 0, 1, false, "\x21", 1, &va), 0);
	assert_int_equal(drive(va, false), 0x21); /* by luck */
	k->verifier = true;
	assert_int_equal(drive(va, true), 0x21);
	assert_int_equal(drive(va, false), -EACCES);
	expect_stopped(DRIVER_IRQL_NOT_LESS_OR_EQUAL, va);
}

static void the_verifier_does_no_io(void **state)
{
	u64 va = pool(PAGED_POOL, PAGES);
	u8 old;

	(void)state;
	fill(va, PAGES, 1);
	k->verifier = true;
	system_measure(s);
	old = raise_to(DISPATCH_LEVEL);
	assert_int_equal(ke_lower_irql(k, 0, old), 0);
	expect_filled(va, PAGES, 1);
	system_measured(s);
	assert_int_equal(paid(PAID_EXCEPTIONS), PAGES);
	assert_int_equal(paid(PAID_IO_READS) + paid(PAID_IO_WRITES), 0);
}

/* ---- several CPUs ---- */

static _Atomic bool reading;

/* Gives the page only when another CPU waits for it, too. */
static int slow_read(struct nt *nt, unsigned cpu, u64 slot, void *bytes)
{
	(void)cpu;
	atomic_store(&reading, true);
	while (!nt_faults(nt, NT_COLLIDED))
		sched_yield();
	return nt->page_file.store.ops->load(&nt->page_file.store, slot, bytes);
}

static void *other_cpu(void *va)
{
	char byte = 0;

	while (!atomic_load(&reading))
		sched_yield();
	assert_int_equal(nt_access(k, 1, NT_DRIVER, *(u64 *)va, 0, &byte, 1), 0);
	assert_int_equal(byte, 7);
	return NULL;
}

static void who_wants_a_page_that_is_being_read_waits_for_that(void **state)
{
	static const struct nt_disk disk = { .read = slow_read };
	u64 va = pool(PAGED_POOL, 1);
	pthread_t thread;

	(void)state;
	fill(va, 1, 7);
	page_out(va, 1, true);
	k->disk = &disk;
	atomic_store(&reading, false);
	assert_int_equal(pthread_create(&thread, NULL, other_cpu, &va), 0);
	system_measure(s);
	expect_filled(va, 1, 7);
	pthread_join(thread, NULL);
	system_measured(s);
	assert_int_equal(paid(PAID_IO_READS), 1);
	assert_int_equal(nt_faults(k, NT_COLLIDED), 1);
	assert_int_equal(nt_faults(k, NT_HARD), 1);
}

/* Each CPU has a byte of each page, and a view of two; there are more pages than frames. */
#define STORM_CPUS  4
#define STORM_PAGES 96
#define STORM_STEPS 3000

static struct {
	u64 pool, view[2];
} storm;

static void *storm_on(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg;
	char model[2][STORM_PAGES] = { 0 }, byte;
	u64 rnd = cpu + 1;

	for (unsigned i = 0; i < STORM_STEPS; i++) {
		u64 kind = rnd_below(&rnd, 2), page = rnd_below(&rnd, kind ? 8 : STORM_PAGES);
		u64 va = (kind ? storm.view[i % 2] : storm.pool) + page * PAGE_SIZE;
		u8 old;

		switch (rnd_below(&rnd, 16)) {
		case 0:
			assert_int_equal(mm_page_out(k, cpu, va, PAGE_SIZE, i % 4 == 0), 0);
			break;
		case 1: /* the verifier trims */
			assert_int_equal(ke_raise_irql(k, cpu, DISPATCH_LEVEL, &old), 0);
			assert_int_equal(ke_lower_irql(k, cpu, old), 0);
			break;
		case 2:
		case 3:
		case 4:
		case 5:
			byte = model[kind][page] = (char)i;
			assert_int_equal(nt_access(k, cpu, NT_DRIVER, va + cpu, PF_WRITE, &byte, 1),
					 0);
			break;
		default:
			assert_int_equal(nt_access(k, cpu, NT_DRIVER, va + cpu, 0, &byte, 1), 0);
			assert_int_equal(byte, model[kind][page]);
		}
	}
	return NULL;
}

static void several_cpus_page_at_once(void **state)
{
	struct system_options o = { .cpus = STORM_CPUS, .frames = 256 };
	pthread_t threads[STORM_CPUS];
	unsigned segment;

	teardown(state);
	assert_int_equal(ledger_create(STORM_CPUS, &ledger), 0);
	o.ledger = ledger;
	assert_int_equal(windows_system.create(&windows_system, &o, &s), 0);
	k = windows_nt(s);
	k->verifier = true;
	storm.pool = pool(PAGED_POOL, STORM_PAGES);
	assert_int_equal(mm_create_segment(k, 0, 8, &segment), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(mm_map_view(k, 0, segment, &storm.view[i]), 0);
	for (uintptr_t i = 0; i < STORM_CPUS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm_on, (void *)i), 0);
	for (unsigned i = 0; i < STORM_CPUS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(bugcheck_errno(&k->bugcheck), 0);
	assert_true(nt_faults(k, NT_HARD) > 0);
}

/* ---- the rest ---- */

static void a_child_has_the_kernels_half(void **state)
{
	const struct program_ops *ops = s->program->ops;
	u64 va = pool(PAGED_POOL, 1);

	(void)state;
	fill(va, 1, 3);
	assert_int_equal(ops->fork(s->program, 0, 1), 0);
	ops->run(s->program, 0, 1);
	expect_filled(va, 1, 3);
	page_out(va, 1, false);
	expect_filled(va, 1, 3);
	ops->check(s->program);
	ops->run(s->program, 0, 0);
	expect_filled(va, 1, 3);
}

/* The engine's ways of a program's fault are the dispatcher's. */
static void a_programs_fault_is_counted_by_the_entrys_state(void **state)
{
	const struct program_ops *ops = s->program->ops;
	const struct program_map area = { .len = 2 * PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	u64 va = (u64)ops->map(s->program, 0, &area);
	char byte = 1;

	(void)state;
	assert_int_equal(ops->access(s->program, 0, va, PF_WRITE, &byte, 1), FAULT_OK);
	assert_int_equal(nt_faults(k, NT_DEMAND_ZERO), 1);
	ops->pageout(s->program, 0, va, PAGE_SIZE);
	assert_int_equal(ops->access(s->program, 0, va, 0, &byte, 1), FAULT_OK);
	assert_int_equal(nt_faults(k, NT_HARD), 1);
	assert_int_equal(nt_faults(k, NT_DEMAND_ZERO), 1);
	/* The kernel may touch it, too; where it may wait. */
	assert_int_equal(read_byte(va + PAGE_SIZE), 0);
	assert_int_equal(nt_faults(k, NT_DEMAND_ZERO), 2);
	assert_int_equal(read_byte(va + 2 * PAGE_SIZE), -EFAULT);
	assert_int_equal(bugcheck_errno(&k->bugcheck), 0);
}

/* A call of a program's has the kernel fault on its own memory, within the call. */
static void a_parameter_is_captured_in_paged_pool(void **state)
{
	const struct program_ops *ops = s->program->ops;
	const struct program_map area = { .len = PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	u64 va = (u64)ops->map(s->program, 0, &area);
	char bytes[8] = "abcdefg", got[8];

	(void)state;
	assert_int_equal(ops->access(s->program, 0, va, PF_WRITE, bytes, 8), FAULT_OK);
	system_measure(s);
	assert_int_equal(ops->copy_in(s->program, 0, got, va, 8), 0);
	system_measured(s);
	assert_memory_equal(got, bytes, 8);
	assert_int_equal(paid(PAID_SYSTEM_CALLS), 1);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
	assert_int_equal(paid(PAID_CROSSINGS), 2);
	assert_int_equal(paid(PAID_PAGES_ZEROED), 1);
	assert_int_equal(ops->copy_in(s->program, 0, got, va + PAGE_SIZE - 4, 8), 4);
	assert_int_equal(ops->copy_in(s->program, 0, got, NT_BASE, 8), 8);
	assert_int_equal(bugcheck_errno(&k->bugcheck), 0);
}

#define with_windows(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		with_windows(a_fault_of_the_kernel_crosses_nothing),
		with_windows(a_soft_fault_does_no_io_and_a_hard_one_reads_once),
		with_windows(a_clean_page_is_not_written_twice),
		with_windows(pages_beyond_memory_come_back),
		with_windows(what_was_written_is_read),
		with_windows(at_dispatch_level_only_nonpaged_memory_is_touched),
		with_windows(the_kernels_own_instruction_is_another_bug_check),
		with_windows(irql_is_each_cpus_own),
		with_windows(a_spin_lock_is_at_dispatch_level),
		with_windows(a_spin_lock_is_released_by_its_owner),
		with_windows(irql_is_not_lowered_upwards),
		with_windows(what_is_allocated_is_zeros_and_nobody_elses),
		with_windows(nonpaged_pool_is_to_be_had_at_dispatch_level),
		with_windows(nonpaged_pool_takes_what_can_be_paged),
		with_windows(pool_is_freed_by_who_knows_the_tag),
		with_windows(a_stack_is_not_freed_below_its_cpu),
		with_windows(no_page_at_all_stops_the_kernel),
		with_windows(what_is_locked_stays_and_is_touched_at_any_level),
		with_windows(a_section_is_not_locked_at_dispatch_level),
		with_windows(a_lock_that_fails_leaves_nothing_locked),
		with_windows(code_is_fetched_and_comes_back),
		with_windows(what_one_view_writes_the_other_reads),
		with_windows(the_verifier_finds_who_forgets_a_lock),
		with_windows(the_verifier_does_no_io),
		with_windows(who_wants_a_page_that_is_being_read_waits_for_that),
		with_windows(several_cpus_page_at_once),
		with_windows(a_child_has_the_kernels_half),
		with_windows(a_programs_fault_is_counted_by_the_entrys_state),
		with_windows(a_parameter_is_captured_in_paged_pool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
