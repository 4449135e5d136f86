/* SPDX-License-Identifier: MIT */
/* What races of faults with one another, with the layout and with reclaim begin with: page 0 of
 * eight, two CPUs in its space, and perhaps a child. */
#ifndef VMF_TESTS_RACES_H
#define VMF_TESTS_RACES_H

#include "tests/unit/turns.h"

static struct mm *child;
/* What the last access of CPU 1 came to, and saw. */
static enum fault_reason reason;
static u8 seen;

static inline int setup(void **state)
{
	(void)state;
	start_turns((struct world_options){ .kept = 100 });
	child = NULL;
	map(0, 8, RW);
	return 0;
}

static inline int end(void **state)
{
	soft_load_mm(cpu1, mm);
	if (child)
		mm_destroy(child);
	return end_turns(state);
}

/* ---- what is done in a turn ---- */

static inline void write_2_on_cpu1(void)
{
	write_on(cpu1, 0, 2);
}

static inline void read_on_cpu1(void)
{
	seen = read_on(cpu1, 0);
}

static inline void try_page_0_on_cpu1(void)
{
	reason = soft_read_byte(cpu1, AT(0), &seen);
}

static inline void page_out(unsigned page, unsigned n)
{
	reclaim_range(mm, AT(page), AT(page + n));
}

static inline void drop_page_0(void)
{
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
}

static inline void fork_now(void)
{
	assert_int_equal(mm_fork(mm, &child), 0);
}

/* ---- what begins in a turn, and has to wait ---- */

/* All of it, so that nothing is cut. */
static inline void unmap_area(void)
{
	assert_int_equal(vm_unmap(mm, AT(0), P(8)), 0);
}

static inline void munmap_begins(void)
{
	begin(unmap_area);
	waits(layout_is_locked);
}

static inline void a_fault_begins_on_cpu1(void)
{
	begin(try_page_0_on_cpu1);
	waits(NULL);
}

#endif
