/* SPDX-License-Identifier: MIT */
/*
 * Faults against one another, and copies against what becomes of the page, with every interleaving
 * forced.  Those with changes of the layout are in test_layout_races.c, with reclaim in
 * test_swap_races.c, with fork in test_fork_race.c, with files in test_file_races.c, and those of
 * stacks in test_stack_race.c.
 */
#include "machine/soft/kernel.h"
#include "tests/unit/races.h"

static u64 free_before;

static int setup_streams(void **state)
{
	(void)state;
	start_turns((struct world_options){ .kept = 100, .prefetch = 8 });
	child = NULL;
	map(0, 64, RW);
	return 0;
}

static void write_2_beside(void)
{
	assert_int_equal(soft_write_byte(cpu1, AT(0) + 1, 2), FAULT_OK);
}

/* Beside the first byte of the page. */
static u8 second_byte(struct soft_cpu *cpu)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(cpu, AT(0) + 1, &byte), FAULT_OK);
	return byte;
}

/* ---- two first touches ---- */

static void two_first_writes_share_one_frame(void **state)
{
	(void)state;
	write_on(cpu0, 7, 1); /* tables are there */
	free_before = free_frames();
	at.stage = write_2_beside;
	write_on(cpu0, 0, 1);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(second_byte(cpu0), 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 2);
}

static void a_first_read_while_another_writes_leaves_it_the_zero_page_to_break(void **state)
{
	(void)state;
	at.stage = read_on_cpu1;
	write_on(cpu0, 0, 1);
	assert_int_equal(seen, 0);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(mm->rss, 1);
}

static void two_first_writes_through_the_zero_page_share_one_frame(void **state)
{
	(void)state;
	assert_int_equal(read_on(cpu0, 0) + read_on(cpu1, 0), 0);
	free_before = free_frames();
	at.stage = write_2_beside;
	write_on(cpu0, 0, 1);
	assert_int_equal(read_on(cpu1, 0), 1);
	assert_int_equal(second_byte(cpu0), 2);
	assert_int_equal(free_frames(), free_before - 1);
	assert_int_equal(mm->rss, 1);
}

static void write_page_5(void)
{
	assert_int_equal(soft_write_byte(cpu1, AT(5), 2), FAULT_OK);
}

/* The pages that come with a fault come up to the one that another CPU was first to touch. */
static void a_stream_stops_at_a_page_that_came_meanwhile(void **state)
{
	(void)state;
	write_on(cpu0, 0, 1);
	write_on(cpu0, 1, 1);
	assert_int_equal(mm->rss, 3); /* 2 came with 1 */
	free_before = free_frames();
	at.stage = write_page_5;
	write_on(cpu0, 3, 1); /* with up to three more */
	assert_true(pte_mapped(pte_of(mm, 4)));
	assert_int_equal(read_on(cpu0, 5), 2);
	assert_int_equal(free_before - free_frames(), mm->rss - 3);
}

/* ---- a copy and what goes meanwhile ---- */

/* Page 0 is shared with a child: the next write copies it. */
static void shared_page(void)
{
	write_on(cpu0, 0, 1);
	assert_int_equal(soft_write_byte(cpu0, AT(0) + 1, 7), FAULT_OK);
	assert_int_equal(mm_fork(mm, &child), 0);
}

static void a_copy_of_a_page_that_was_dropped_meanwhile_is_thrown_away(void **state)
{
	(void)state;
	shared_page();
	at.stage = drop_page_0;
	write_on(cpu0, 0, 2);
	assert_int_equal(read_on(cpu1, 0), 2);
	assert_int_equal(second_byte(cpu1), 0);
	assert_int_equal(mm->rss, 1);
}

static void munmap_waits_for_a_copy(void **state)
{
	(void)state;
	shared_page();
	free_before = free_frames();
	at.stage = munmap_begins;
	reason = soft_write_byte(cpu0, AT(0), 2);
	assert_true(reason == FAULT_OK || reason == FAULT_MAPERR);
	join();
	assert_int_equal(try_read(cpu0, 0), FAULT_MAPERR);
	assert_int_equal(free_frames(), free_before);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 1);
}

/* ---- a page that is reused, and fork ---- */

/* Read-only, and nobody else's any more. */
static void left_alone(void)
{
	write_on(cpu0, 0, 1);
	fork_now();
	mm_destroy(child);
	child = NULL;
	assert_int_equal(read_on(cpu0, 0), 1);
	assert_false(pte_write(pte_of(mm, 0)));
}

static void a_fork_before_the_fault_looks_makes_it_copy(void **state)
{
	struct page *page;

	(void)state;
	left_alone();
	page = page_of(mm, 0);
	at.trap = fork_now;
	write_on(cpu0, 0, 2);
	assert_true(page_of(mm, 0) != page);
	assert_ptr_equal(page_of(child, 0), page);
	soft_load_mm(cpu1, child);
	assert_int_equal(read_on(cpu1, 0), 1);
}

static void fork_begins(void)
{
	begin(fork_now);
	waits(layout_is_locked);
}

/* The page is exclusive and writable when fork comes to it, and is neither when it has been. */
static void a_fork_after_the_fault_looked_waits_until_it_reuses(void **state)
{
	u8 childs;

	(void)state;
	left_alone();
	at.change = fork_begins;
	write_on(cpu0, 0, 2);
	join();
	soft_load_mm(cpu1, child);
	childs = read_on(cpu1, 0);
	assert_true(childs == 1 || childs == 2);
	write_on(cpu0, 0, 3);
	assert_int_equal(read_on(cpu1, 0), childs);
	write_on(cpu1, 0, 4);
	assert_int_equal(read_on(cpu0, 0), 3);
}

/* ---- the kernel half, given lazily ---- */

#define VMALLOC	    0xffffc90000000000ULL
#define VMALLOC_END 0xffffe90000000000ULL

static struct soft_kernel *kernel;
static soft_trap_fn kernels_trap;
static char byte_there;

static struct fault_result turn_before_the_kernel(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	turn(&at.trap);
	return kernels_trap(cpu, cr2, code);
}

static void load_on_cpu1(void)
{
	assert_int_equal(soft_kernel_load(kernel, 1, INSN_OTHER, false, VMALLOC, &byte_there, 1),
			 TRAP_RETRY);
}

/* Both found the top-level entry missing; the second finds that the first has put it there. */
static void two_cpus_may_fault_on_one_top_level_entry(void **state)
{
	struct task tasks[2];
	struct page *page;
	char byte = 'k';

	(void)state;
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_LAZY, VMALLOC, VMALLOC_END, &kernel),
			 0);
	for (unsigned i = 0; i < 2; i++) {
		tasks[i] = (struct task){ .mm = mm, .pid = 100, .name = "program" };
		soft_kernel_run(kernel, i, &tasks[i]);
	}
	page = page_alloc(w.e, ZONE_USER, 0, 0);
	assert_int_equal(kernel_map(&kernel->kernel, VMALLOC, page_pfn(w.e, page), PTE_NX), 0);
	*(char *)page_direct(w.e, page) = 'k';
	kernels_trap = w.m->trap;
	w.m->trap = turn_before_the_kernel;
	at.trap = load_on_cpu1;
	byte = 0;
	assert_int_equal(soft_kernel_load(kernel, 0, INSN_OTHER, false, VMALLOC, &byte, 1),
			 TRAP_RETRY);
	assert_int_equal(byte, 'k');
	assert_int_equal(byte_there, 'k');
	kernel_unmap(&kernel->kernel, VMALLOC);
	for (unsigned i = 0; i < 2; i++)
		soft_load_mm(&w.m->cpus[i], NULL);
	page_put(w.e, page);
	soft_kernel_destroy(kernel);
	mm_destroy(mm);
	w.mm = NULL;
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(two_first_writes_share_one_frame),
		T(a_first_read_while_another_writes_leaves_it_the_zero_page_to_break),
		T(two_first_writes_through_the_zero_page_share_one_frame),
		cmocka_unit_test_setup_teardown(a_stream_stops_at_a_page_that_came_meanwhile,
						setup_streams, end),
		T(a_copy_of_a_page_that_was_dropped_meanwhile_is_thrown_away),
		T(munmap_waits_for_a_copy),
		T(a_fork_before_the_fault_looks_makes_it_copy),
		T(a_fork_after_the_fault_looked_waits_until_it_reuses),
		cmocka_unit_test_setup_teardown(two_cpus_may_fault_on_one_top_level_entry, setup,
						end_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
