/* SPDX-License-Identifier: MIT */
/*
 * Out of memory at every point: one course of operations is run again and again, each time with one
 * allocation less to be had, until all are there.  An operation that fails says so and has changed
 * nothing; the space stays consistent, keeps its bytes, and goes on when there is memory again.
 */
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

enum { PAGES = 12 };

static struct world w;
/* The course so far: where the area is and what each page holds; -1: not mapped. */
static u64 at;
static int holds[PAGES];

static u64 va_of(unsigned n)
{
	return at + n * PAGE_SIZE;
}

/* An operation may fail for want of memory and for nothing else. */
static bool done(s64 ret)
{
	if (ret < 0)
		assert_int_equal(ret, -ENOMEM);
	return ret >= 0;
}

static bool written(unsigned n, u8 byte)
{
	enum fault_reason reason = soft_write_byte(w.cpu, va_of(n) + 9, byte);

	if (reason != FAULT_OK)
		assert_int_equal(reason, FAULT_OOM);
	return reason == FAULT_OK;
}

static void write_all(u8 byte)
{
	for (unsigned n = 0; n < PAGES; n++)
		if (holds[n] >= 0 && written(n, byte + n))
			holds[n] = byte + n;
}

/* The child has what the parent had, writes, and ends; or the parent does, and the child goes on.
 */
static void fork_and_go_on(void)
{
	struct mm *parent = w.mm, *child = NULL;
	int held[PAGES];

	if (!done(mm_fork(parent, &child)))
		return;
	memcpy(held, holds, sizeof(held));
	write_all(40);
	reclaim_direct(w.e, 4);
	soft_load_mm(w.cpu, child);
	w.mm = child;
	memcpy(holds, held, sizeof(held));
	write_all(70);
	if (done(vm_protect(w.mm, va_of(3), 2 * PAGE_SIZE, VM_READ)))
		done(vm_protect(w.mm, va_of(3), 2 * PAGE_SIZE, VM_READ | VM_WRITE));
	mm_check(parent);
	mm_check(child);
	mm_destroy(parent);
}

/* The course of operations: maps, splits, merges, moves, pages out and in, and unmaps. */
static void run_course(void)
{
	s64 ret = vm_map(w.mm, 0, PAGES * PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);

	if (!done(ret))
		return;
	at = ret;
	memset(holds, 0, sizeof(holds));
	write_all(10);
	if (done(vm_protect(w.mm, va_of(4), 2 * PAGE_SIZE, VM_READ)))
		done(vm_protect(w.mm, va_of(4), 2 * PAGE_SIZE, VM_READ | VM_WRITE));
	reclaim_range(w.mm, at, va_of(PAGES));
	ret = vm_remap(w.mm, at, PAGES * PAGE_SIZE, 2 * PAGES * PAGE_SIZE, VREMAP_MAYMOVE, 0);
	if (done(ret))
		at = ret;
	if (done(vm_advise(w.mm, va_of(2), PAGE_SIZE, VADV_DONTNEED)))
		holds[2] = 0;
	if (done(vm_unmap(w.mm, va_of(6), 2 * PAGE_SIZE)))
		holds[6] = holds[7] = -1;
	fork_and_go_on();
	reclaim_range(w.mm, at, va_of(PAGES));
}

/* With all memory there again: nothing was lost, and everything works. */
static void expect_all_well(void)
{
	u8 byte;

	engine_check(w.e);
	for (unsigned n = 0; at && n < PAGES; n++) {
		enum fault_reason reason = soft_read_byte(w.cpu, va_of(n) + 9, &byte);

		assert_int_equal(reason, holds[n] < 0 ? FAULT_MAPERR : FAULT_OK);
		if (reason == FAULT_OK)
			assert_int_equal(byte, holds[n]);
	}
	if (at)
		assert_int_equal(vm_protect(w.mm, at, PAGE_SIZE, VM_READ), 0);
	engine_check(w.e);
}

static void allocations_of_the_engine_may_fail_anywhere(void **state)
{
	bool all = false;
	u64 left;

	(void)state;
	for (left = 0; !all && left < 1000; left++) {
		assert_int_equal(world_create(&w, (struct world_options){ 0 }), 0);
		at = 0;
		atomic_store(&w.m->inject.memory_left, left + 1);
		run_course();
		atomic_store(&w.m->inject.memory_left, 0);
		all = !atomic_load(&w.m->memory_refused);
		expect_all_well();
		world_destroy(&w);
	}
	assert_in_range(left, 5, 999);
}

/* Hold all table frames but `left`; returns how many are held. */
static unsigned hold_tables(struct page **held, u64 left)
{
	unsigned n = 0;

	while (zone_free_pages(w.e, ZONE_TABLE) > left)
		held[n++] = page_alloc(w.e, ZONE_TABLE, 0, 0);
	return n;
}

static void page_tables_may_fail_anywhere(void **state)
{
	static struct page *held[4096];

	(void)state;
	for (u64 left = 0; left < 16; left++) {
		unsigned n;

		assert_int_equal(world_create(&w, (struct world_options){ 0 }), 0);
		at = 0;
		n = hold_tables(held, left);
		run_course();
		while (n)
			page_put(w.e, held[--n]);
		expect_all_well();
		world_destroy(&w);
	}
}

/* The store takes nothing more: pages stay, or the program is told that there is no memory. */
static void the_store_may_be_full(void **state)
{
	(void)state;
	for (u64 slots = 1; slots < 16; slots++) {
		assert_int_equal(world_create(&w, (struct world_options){ .slots = slots }), 0);
		at = 0;
		run_course();
		expect_all_well();
		world_destroy(&w);
	}
}

/* Every operation of the machine may say "not now": the faults come again. */
static void the_machine_may_refuse_for_a_while(void **state)
{
	(void)state;
	for (unsigned every = 2; every < 6; every++) {
		assert_int_equal(world_create(&w, (struct world_options){ .prefetch = 8 }), 0);
		at = 0;
		atomic_store(&w.m->inject.stage_again_every, every);
		atomic_store(&w.m->inject.set_again_every, every + 1);
		atomic_store(&w.m->inject.set_most, every - 1);
		atomic_store(&w.m->inject.take_busy_every, every);
		run_course();
		expect_all_well();
		world_destroy(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(allocations_of_the_engine_may_fail_anywhere),
		cmocka_unit_test(page_tables_may_fail_anywhere),
		cmocka_unit_test(the_store_may_be_full),
		cmocka_unit_test(the_machine_may_refuse_for_a_while),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
