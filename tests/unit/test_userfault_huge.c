/* SPDX-License-Identifier: MIT */
/* userfaultfd where there are huge pages, or could be.  A second thread is the program, on the
 * world's first CPU; the test is the monitor. */
#include <sched.h>

#include "engine/fault/fault.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/huge_marks.h"
#include "tests/unit/program_thread.h"

#define HUGE(n) ((n)*HUGE_PAGES)

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define WP	UAPI_UFFDIO_REGISTER_MODE_WP

static struct userfaultfd_ctx *ctx;
static s64 done;

/* ---- the monitor ---- */

static void watch(unsigned page, unsigned n, u64 mode, u64 features)
{
	u64 ioctls;

	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, AT(page), P(n), mode, &ioctls), 0);
}

static void expect_fault(u64 va, u64 flags)
{
	struct userfault_msg msg;
	int n;

	/* If the access was made without asking, that is seen. */
	while ((n = userfaultfd_read(ctx, &msg, 1, true)) == -EAGAIN &&
	       !atomic_load(&program.is_over))
		sched_yield();
	assert_int_equal(n, 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, va);
	assert_int_equal(msg.arg.pagefault.flags, flags);
}

static void expect_nothing(void)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), -EAGAIN);
}

static int copy(unsigned page, u8 byte)
{
	u8 bytes[PAGE_SIZE];

	memset(bytes, byte, sizeof(bytes));
	return userfaultfd_copy(ctx, NULL, AT(page), (u64)(uintptr_t)bytes, P(1), 0, &done);
}

/* ---- what is there ---- */

/* A huge page at HUGE(0), each of its pages with a mark. */
static void one_huge(unsigned n)
{
	map(HUGE(0), HUGE(n), RW);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
}

static int writeprotect(unsigned page, unsigned n, bool protect)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(n),
					protect ? UAPI_UFFDIO_WRITEPROTECT_MODE_WP : 0);
}

static bool is_marked(struct mm *of, unsigned page)
{
	return pte_uffd_wp(pte_peek(of, AT(page)));
}

/* All of a huge page, but for page `but`, is marked, and its mark keeps it from being written. */
static void all_but_one_are_marked(unsigned but)
{
	assert_false(is_huge(HUGE(0)));
	for (unsigned i = HUGE(0); i < HUGE(1); i++) {
		assert_int_equal(is_marked(mm, i), i != but);
		assert_true(i == but || !pte_write(pte_peek(mm, AT(i))));
	}
}

/* As one_huge(), watched and write-protected. */
static void one_protected(u64 features)
{
	one_huge(1);
	watch(HUGE(0), HUGE(1), WP, features);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), true), 0);
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	assert_false(pte_write(pmd_at(mm, HUGE(0))));
}

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .frames = 4096, .thp = THP_ALWAYS, .cpus = 2 });
	return 0;
}

static int end(void **state)
{
	if (ctx)
		userfaultfd_release(ctx);
	ctx = NULL;
	return teardown(state);
}

/* ---- missing pages ---- */

static void where_a_huge_page_might_come_the_monitor_is_asked(void **state)
{
	static const u8 flags[] = { 0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE };

	(void)state;
	map(HUGE(0), HUGE(2), RW);
	watch(HUGE(0), HUGE(2), MISSING, 0);
	for (unsigned write = 0; write < 2; write++) {
		unsigned page = HUGE(write) + 77;

		begins_to(AT(page) + 9, write, 5);
		expect_fault(AT(page), flags[write]);
		/* Its page has not come with the table that its neighbour brings. */
		assert_int_equal(copy(page + 1, 8), 0);
		expect_nothing();
		assert_int_equal(copy(page, 7), 0);
		has_done_it();
		assert_int_equal(program.byte, write ? 5 : 7);
		assert_int_equal(get(page), 7);
		assert_false(is_huge(page));
	}
	assert_int_equal(atomic_load(&mm->rss), 4);
	assert_int_equal(atomic_load(&w.e->stats->thp_fault_alloc), 0);
	assert_int_equal(atomic_load(&w.e->stats->thp_fault_fallback), 0);
}

static void it_is_told_of_the_byte_if_it_wants_to_be(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	watch(HUGE(0), HUGE(1), MISSING, UAPI_UFFD_FEATURE_EXACT_ADDRESS);
	begins_to(AT(HUGE(0) + 3) + 9, true, 5);
	expect_fault(AT(HUGE(0) + 3) + 9, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(copy(HUGE(0) + 3, 7), 0);
	has_done_it();
}

static void without_a_monitor_it_is_a_bus_error_if_so_wanted(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	watch(HUGE(0), HUGE(1), MISSING, UAPI_UFFD_FEATURE_SIGBUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(HUGE(0)), 1), FAULT_BUS);
	assert_false(is_huge(HUGE(0)));
}

static void who_waits_for_a_page_gets_a_huge_one_when_the_monitor_goes(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	watch(HUGE(0), HUGE(1), MISSING, 0);
	begins_to(AT(HUGE(0) + 3), true, 5);
	expect_fault(AT(HUGE(0) + 3), UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	userfaultfd_release(ctx);
	ctx = NULL;
	has_done_it();
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(get(HUGE(0) + 4), 0);
}

static void nothing_is_given_over_a_huge_page(void **state)
{
	(void)state;
	one_huge(1);
	watch(HUGE(0), HUGE(1), MISSING, 0);
	assert_int_equal(copy(HUGE(0) + 3, 7), -EEXIST);
	assert_int_equal(userfaultfd_zeropage(ctx, AT(HUGE(0)), P(1), 0, &done), -EEXIST);
	assert_int_equal(userfaultfd_poison(ctx, AT(HUGE(0)), P(1), 0, &done), -EEXIST);
	assert_true(is_huge(HUGE(0)));
	assert_filled(HUGE(0), HUGE_PAGES);
}

/* ---- pages that are write-protected ---- */

static void what_somebody_else_would_fill_is_not_collapsed(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	watch(HUGE(0), HUGE(1), UAPI_UFFDIO_REGISTER_MODE_MISSING, 0);
	for (unsigned i = 1; i < HUGE_PAGES; i++)
		assert_int_equal(copy(HUGE(0) + i, 1), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLLAPSE), -EBUSY);
	assert_int_equal(copy(HUGE(0), 1), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLLAPSE), 0);
	assert_true(is_huge(HUGE(0)));
}

static void an_area_that_is_only_write_protected_gets_huge_pages(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(2), RW);
	watch(HUGE(0), HUGE(2), WP, 0);
	put(HUGE(0) + 1, 1);
	assert_true(is_huge(HUGE(0)) && pte_write(pmd_at(mm, HUGE(0))));
	assert_int_equal(get(HUGE(1)), 0);
	assert_true(is_huge(HUGE(1)) && pte_special(pmd_at(mm, HUGE(1))));
}

static void a_write_to_a_protected_huge_page_is_told(void **state)
{
	(void)state;
	one_protected(0);
	assert_int_equal(get(HUGE(0) + 5), mark_of(HUGE(0) + 5));
	expect_nothing();
	begins_to(AT(HUGE(0) + 5) + 3, true, 9);
	expect_fault(AT(HUGE(0) + 5), UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_true(is_huge(HUGE(0)));
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), false), 0);
	has_done_it();
	/* With its right at once: no second fault. */
	assert_true(is_huge(HUGE(0)) && pte_write(pmd_at(mm, HUGE(0))));
	assert_false(is_marked(mm, HUGE(0)));
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 0);
	assert_filled(HUGE(0), HUGE_PAGES);
	/* No CPU goes on by an old translation. */
	put(HUGE(0) + 6, mark_of(HUGE(0) + 6));
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), true), 0);
	begins_to(AT(HUGE(0) + 6), true, 9);
	expect_fault(AT(HUGE(0) + 6), UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(writeprotect(HUGE(0) + 6, 1, false), 0);
	has_done_it();
	all_but_one_are_marked(HUGE(0) + 6);
}

static void a_part_is_protected_by_itself(void **state)
{
	u64 ioctls;

	(void)state;
	one_huge(1);
	watch(HUGE(0), HUGE(1), WP, 0);
	assert_int_equal(writeprotect(HUGE(0) + 8, 4, true), 0);
	assert_false(is_huge(HUGE(0)));
	for (unsigned i = HUGE(0); i < HUGE(1); i++)
		assert_int_equal(is_marked(mm, i), i >= HUGE(0) + 8 && i < HUGE(0) + 12);
	put(HUGE(0) + 12, mark_of(HUGE(0) + 12));
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLLAPSE), -EINVAL);
	assert_filled(HUGE(0), HUGE_PAGES);
	/* Nor while nobody heeds the mark. */
	assert_int_equal(userfaultfd_register(ctx, AT(HUGE(0)), PMD_SIZE, MISSING, &ioctls), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLLAPSE), -EINVAL);
	assert_int_equal(userfaultfd_register(ctx, AT(HUGE(0)), PMD_SIZE, WP, &ioctls), 0);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), false), 0);
	assert_int_equal(do_madvise(mm, AT(HUGE(0)), PMD_SIZE, UAPI_MADV_COLLAPSE), 0);
	assert_true(is_huge(HUGE(0)) && !is_marked(mm, HUGE(0)));
}

static void what_is_split_hands_its_mark_on(void **state)
{
	(void)state;
	one_protected(0);
	split_huge_range(mm, AT(HUGE(0)), AT(HUGE(0)) + PAGE_SIZE);
	all_but_one_are_marked(HUGE(1));
	assert_filled(HUGE(0), HUGE_PAGES);
}

static void the_huge_zero_page_is_protected_like_another(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	assert_int_equal(get(HUGE(0)), 0);
	watch(HUGE(0), HUGE(1), WP, UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), true), 0);
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	begins_to(AT(HUGE(0) + 5), true, 9);
	expect_fault(AT(HUGE(0) + 5), UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), false), 0);
	has_done_it();
	assert_true(is_huge(HUGE(0)) && !pte_special(pmd_at(mm, HUGE(0))));
	assert_int_equal(get(HUGE(0) + 5), 9);
	assert_int_equal(get(HUGE(0) + 6), 0);
}

static void where_nothing_is_there_are_markers(void **state)
{
	(void)state;
	one_huge(2);
	watch(HUGE(0), HUGE(2), WP, UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(writeprotect(HUGE(0), HUGE(2), true), 0);
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	assert_true(pte_is_marker(pte_peek(mm, AT(HUGE(1)))));
	assert_true(pte_is_marker(pte_peek(mm, AT(HUGE(2) - 1))));
}

static void with_nobody_to_ask_the_page_that_is_written_loses_its_mark(void **state)
{
	(void)state;
	one_protected(UAPI_UFFD_FEATURE_WP_ASYNC);
	put(HUGE(0) + 5, mark_of(HUGE(0) + 5));
	all_but_one_are_marked(HUGE(0) + 5);
	assert_filled(HUGE(0), HUGE_PAGES);
}

static void a_child_has_no_mark_without_a_context(void **state)
{
	struct mm *child;

	(void)state;
	one_protected(0);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_true(pmd_is_huge(pmd_at(child, HUGE(0))) && !is_marked(child, HUGE(0)));
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	mm_destroy(child);
	/* What it had is the parent's alone again, and is not marked exclusive yet. */
	begins_to(AT(HUGE(0) + 5), true, 9);
	expect_fault(AT(HUGE(0) + 5), UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), false), 0);
	has_done_it();
	assert_true(is_huge(HUGE(0)) && pte_write(pmd_at(mm, HUGE(0))));
}

static void *run_fork(void *arg)
{
	struct mm **child = arg;

	if (mm_fork(mm, child))
		*child = NULL;
	return NULL;
}

static void a_child_with_a_context_has_the_mark(void **state)
{
	struct userfault_msg msg;
	struct mm *child;
	pthread_t forker;

	(void)state;
	one_protected(UAPI_UFFD_FEATURE_EVENT_FORK);
	assert_int_equal(pthread_create(&forker, NULL, run_fork, &child), 0);
	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_FORK);
	pthread_join(forker, NULL);
	assert_non_null(child);
	assert_true(pmd_is_huge(pmd_at(child, HUGE(0))) && is_marked(child, HUGE(0)));
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	userfaultfd_release(msg.arg.fork.ctx);
	assert_false(is_marked(child, HUGE(0)));
	mm_destroy(child);
}

static void mprotect_keeps_the_mark_and_mremap_drops_it(void **state)
{
	u32 flags = UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED;

	(void)state;
	one_protected(0);
	assert_int_equal(do_mprotect(mm, AT(HUGE(0)), PMD_SIZE, UAPI_PROT_READ), 0);
	assert_int_equal(do_mprotect(mm, AT(HUGE(0)), PMD_SIZE, UAPI_PROT_READ | UAPI_PROT_WRITE),
			 0);
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	assert_false(pte_write(pmd_at(mm, HUGE(0))));
	assert_int_equal(do_mremap(mm, AT(HUGE(0)), PMD_SIZE, PMD_SIZE, flags, AT(HUGE(4))),
			 AT(HUGE(4)));
	assert_true(is_huge(HUGE(4)) && !is_marked(mm, HUGE(4)));
	assert_int_equal(get(HUGE(4) + 3), mark_of(HUGE(0) + 3));
	put(HUGE(4) + 3, 1);
}

static void a_mark_means_nothing_to_who_is_not_registered_for_it(void **state)
{
	u64 ioctls;

	(void)state;
	one_protected(0);
	assert_int_equal(userfaultfd_register(ctx, AT(HUGE(0)), PMD_SIZE, MISSING, &ioctls), 0);
	put(HUGE(0) + 3, mark_of(HUGE(0) + 3));
	assert_true(is_huge(HUGE(0)) && is_marked(mm, HUGE(0)));
	assert_int_equal(userfaultfd_register(ctx, AT(HUGE(0)), PMD_SIZE, WP, &ioctls), 0);
	assert_int_equal(writeprotect(HUGE(0), HUGE(1), true), 0);
	assert_false(pte_write(pmd_at(mm, HUGE(0))));
	assert_int_equal(userfaultfd_unregister(ctx, AT(HUGE(0)), PMD_SIZE), 0);
	assert_true(is_huge(HUGE(0)) && !is_marked(mm, HUGE(0)));
	assert_filled(HUGE(0), HUGE_PAGES);
}

/* ---- pages that move ---- */

static int move(unsigned to, unsigned from, unsigned n, u64 mode)
{
	return userfaultfd_move(ctx, mm, AT(to), AT(from), P(n), mode, &done);
}

/* As one_huge(), with a watched area at HUGE(4). */
static void one_to_move(unsigned n)
{
	one_huge(n);
	map(HUGE(4), HUGE(n), RW);
	watch(HUGE(4), HUGE(n), MISSING, 0);
}

static void a_huge_page_moves_as_it_is(void **state)
{
	(void)state;
	one_to_move(1);
	assert_int_equal(move(HUGE(4), HUGE(0), HUGE_PAGES, 0), 0);
	assert_int_equal(done, PMD_SIZE);
	assert_true(is_huge(HUGE(4)) && pte_write(pmd_at(mm, HUGE(4))));
	assert_true(pte_none(pmd_at(mm, HUGE(0))));
	for (unsigned i = 0; i < HUGE_PAGES; i++)
		assert_int_equal(get(HUGE(4) + i), mark_of(HUGE(0) + i));
	assert_int_equal(atomic_load(&mm->rss), HUGE_PAGES);
	assert_int_equal(atomic_load(&w.e->stats->thp_split), 0);
	engine_check(w.e);
	/* It is found where it is: by the reverse map, too. */
	split_page_of(w.e, pfn_page(w.e, pte_pfn(pmd_at(mm, HUGE(4)))));
	assert_false(is_huge(HUGE(4)));
	assert_int_equal(get(HUGE(4) + 3), mark_of(HUGE(0) + 3));
	/* The old place is empty, for every CPU. */
	put(HUGE(0) + 3, 1);
	assert_int_equal(get(HUGE(0) + 4), 0);
}

static void the_huge_zero_page_moves_too(void **state)
{
	(void)state;
	map(HUGE(0), HUGE(1), RW);
	assert_int_equal(get(HUGE(0)), 0);
	map(HUGE(4), HUGE(1), RW);
	watch(HUGE(4), HUGE(1), MISSING, 0);
	assert_int_equal(move(HUGE(4), HUGE(0), HUGE_PAGES, 0), 0);
	assert_true(is_huge(HUGE(4)) && pte_special(pmd_at(mm, HUGE(4))));
	assert_false(pte_write(pmd_at(mm, HUGE(4))));
	assert_true(pte_none(pmd_at(mm, HUGE(0))));
	put(HUGE(4) + 1, 1);
	assert_int_equal(get(HUGE(4) + 2), 0);
}

static void what_does_not_fit_moves_by_single_pages(void **state)
{
	(void)state;
	one_to_move(2);
	/* There is a table already. */
	assert_int_equal(copy(HUGE(4) + 9, 7), 0);
	assert_int_equal(move(HUGE(4), HUGE(0), HUGE_PAGES, 0), -EAGAIN);
	assert_int_equal(done, P(9));
	assert_false(is_huge(HUGE(0)) || is_huge(HUGE(4)));
	assert_int_equal(get(HUGE(4) + 8), mark_of(HUGE(0) + 8));
	assert_int_equal(get(HUGE(4) + 9), 7);
	assert_int_equal(get(HUGE(0) + 9), mark_of(HUGE(0) + 9));
	/* It lies otherwise there. */
	fill(HUGE(1), HUGE_PAGES);
	assert_true(is_huge(HUGE(1)));
	assert_int_equal(move(HUGE(5) + 1, HUGE(1), 4, 0), 0);
	assert_false(is_huge(HUGE(1)));
	assert_int_equal(get(HUGE(5) + 1), mark_of(HUGE(1)));
}

static void nothing_moves_onto_a_huge_page(void **state)
{
	(void)state;
	map(HUGE(4), HUGE(2), RW);
	put(HUGE(4), 1);
	one_huge(1);
	watch(HUGE(4), HUGE(2), MISSING, 0);
	assert_int_equal(move(HUGE(4), HUGE(0), HUGE_PAGES, 0), -EEXIST);
	assert_int_equal(move(HUGE(4) + 1, HUGE(0) + 1, 1, 0), -EEXIST);
	assert_true(is_huge(HUGE(4)) && is_huge(HUGE(0)));
	assert_int_equal(move(HUGE(5), HUGE(0), HUGE_PAGES, 0), 0);
	assert_true(is_huge(HUGE(5)));
	assert_int_equal(move(HUGE(5), HUGE(0), HUGE_PAGES, 0), -EEXIST);
	assert_int_equal(move(HUGE(5), HUGE(0), 1, UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES), -EEXIST);
}

static void a_huge_page_that_a_child_has_does_not_move(void **state)
{
	struct mm *child;

	(void)state;
	one_to_move(1);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(move(HUGE(4), HUGE(0), HUGE_PAGES, 0), -EBUSY);
	assert_int_equal(move(HUGE(4) + 1, HUGE(0) + 1, 1, 0), -EBUSY);
	assert_true(is_huge(HUGE(0)) && pmd_is_huge(pmd_at(child, HUGE(0))));
	mm_destroy(child);
	assert_filled(HUGE(0), HUGE_PAGES);
}

/* ---- a monitor that protects, and writers ---- */

enum { WRITES = 200 };
static _Atomic bool stop;

/* Judges each write: what is wanted goes on, all at once, and in the end page by page. */
static void *run_monitor(void *arg)
{
	struct userfault_msg msg;
	unsigned judged = 0, idle = 0;

	(void)arg;
	while (!atomic_load(&stop)) {
		if (userfaultfd_read(ctx, &msg, 1, true) != 1) {
			if (!(++idle % 16))
				writeprotect(HUGE(0), HUGE(1), true);
			sched_yield();
			continue;
		}
		if (judged++ < 32)
			writeprotect(HUGE(0), HUGE(1), false);
		else
			userfaultfd_writeprotect(ctx, msg.arg.pagefault.address, P(1), 0);
	}
	return NULL;
}

/* Counts in a byte of each of its pages: none of its writes is lost. */
static void *run_writer(void *arg)
{
	unsigned cpu = *(unsigned *)arg, bad = 0;
	struct soft_cpu *c = &w.m->cpus[cpu];

	soft_load_mm(c, mm);
	for (unsigned i = 0; i < WRITES; i++) {
		u64 va = AT(HUGE(0) + (i * 37 % 64) * 8 + cpu);
		u8 byte;

		while (soft_read_byte(c, va, &byte) == FAULT_RETRY)
			;
		while (soft_write_byte(c, va, byte + 1) == FAULT_RETRY)
			;
		while (soft_read_byte(c, va, &byte) == FAULT_RETRY)
			;
		bad += byte != i / 64 + 1;
	}
	soft_load_mm(c, NULL);
	return (void *)(uintptr_t)bad;
}

static void no_write_is_lost_to_a_monitor_that_protects(void **state)
{
	unsigned ids[2] = { 0, 1 };
	pthread_t monitor, writers[2];
	void *bad;

	(void)state;
	map(HUGE(0), HUGE(1), RW);
	put(HUGE(0), 0);
	watch(HUGE(0), HUGE(1), WP, 0);
	assert_int_equal(pthread_create(&monitor, NULL, run_monitor, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, run_writer, &ids[i]), 0);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(writers[i], &bad);
		assert_ptr_equal(bad, NULL);
	}
	atomic_store(&stop, true);
	pthread_join(monitor, NULL);
	engine_check(w.e);
	soft_load_mm(w.cpu, mm);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(where_a_huge_page_might_come_the_monitor_is_asked),
		T(it_is_told_of_the_byte_if_it_wants_to_be),
		T(without_a_monitor_it_is_a_bus_error_if_so_wanted),
		T(who_waits_for_a_page_gets_a_huge_one_when_the_monitor_goes),
		T(nothing_is_given_over_a_huge_page),
		T(what_somebody_else_would_fill_is_not_collapsed),
		T(an_area_that_is_only_write_protected_gets_huge_pages),
		T(a_write_to_a_protected_huge_page_is_told),
		T(a_part_is_protected_by_itself),
		T(what_is_split_hands_its_mark_on),
		T(the_huge_zero_page_is_protected_like_another),
		T(where_nothing_is_there_are_markers),
		T(with_nobody_to_ask_the_page_that_is_written_loses_its_mark),
		T(a_child_has_no_mark_without_a_context),
		T(a_child_with_a_context_has_the_mark),
		T(mprotect_keeps_the_mark_and_mremap_drops_it),
		T(a_mark_means_nothing_to_who_is_not_registered_for_it),
		T(a_huge_page_moves_as_it_is),
		T(the_huge_zero_page_moves_too),
		T(what_does_not_fit_moves_by_single_pages),
		T(nothing_moves_onto_a_huge_page),
		T(a_huge_page_that_a_child_has_does_not_move),
		T(no_write_is_lost_to_a_monitor_that_protects),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
