/* SPDX-License-Identifier: MIT */
/* userfaultfd where there are huge pages, or could be.  A second thread is the program, on the
 * world's first CPU; the test is the monitor. */
#include <pthread.h>

#include "engine/fault/fault.h"
#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/marks.h"
#include "tests/unit/one_world.h"

#define HUGE(n) ((n)*HUGE_PAGES)

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define WP	UAPI_UFFDIO_REGISTER_MODE_WP

static struct userfaultfd_ctx *ctx;
static s64 done;

/* ---- the program ---- */

static struct {
	pthread_t thread;
	u64 va;
	bool write;
	u8 byte;
	enum fault_reason reason;
} program;

static void *run_program(void *arg)
{
	(void)arg;
	program.reason = program.write ? soft_write_byte(w.cpu, program.va, program.byte)
				       : soft_read_byte(w.cpu, program.va, &program.byte);
	return NULL;
}

static void begins_to(u64 va, bool write, u8 byte)
{
	program.va = va;
	program.write = write;
	program.byte = byte;
	assert_int_equal(pthread_create(&program.thread, NULL, run_program, NULL), 0);
}

static void has_done_it(void)
{
	pthread_join(program.thread, NULL);
	assert_int_equal(program.reason, FAULT_OK);
}

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

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
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

static pte_t pmd_at(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *pmdp = pmd_find(of, AT(page), &ptl);

	return pmdp ? pte_read(pmdp) : (pte_t){ 0 };
}

static bool is_huge(unsigned page)
{
	return pmd_is_huge(pmd_at(mm, page));
}

/* A huge page at HUGE(0), each of its pages with a mark. */
static void one_huge(unsigned n)
{
	map(HUGE(0), HUGE(n), RW);
	fill(HUGE(0), HUGE_PAGES);
	assert_true(is_huge(HUGE(0)));
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(where_a_huge_page_might_come_the_monitor_is_asked),
		T(it_is_told_of_the_byte_if_it_wants_to_be),
		T(without_a_monitor_it_is_a_bus_error_if_so_wanted),
		T(who_waits_for_a_page_gets_a_huge_one_when_the_monitor_goes),
		T(nothing_is_given_over_a_huge_page),
		T(an_area_that_is_only_write_protected_gets_huge_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
