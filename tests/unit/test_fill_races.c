/* SPDX-License-Identifier: MIT */
/* What is to be filled has changed while the bytes were got ready: nothing is filled over it. */
#include "engine/space/huge.h"
#include "engine/userfault/userfault.h"
#include "machine/soft/kernel.h"
#include "tests/unit/turns.h"

static struct userfaultfd_ctx *ctx;

static int setup(void **state)
{
	(void)state;
	start_turns((struct world_options){ .frames = 256, .thp = THP_ALWAYS });
	return 0;
}

/* ---- pages that come together ---- */

static void another_cpu_writes(void)
{
	write_on(cpu1, 37, 9);
}

/* Both bring 16 pages: the second finds those of the first when it has the lock. */
static void pages_that_came_meanwhile_are_not_replaced(void **state)
{
	u64 before = free_frames();

	(void)state;
	w.e->config.folio_orders = 1u << 4;
	map(32, 16, RW);
	at.bytes = another_cpu_writes;
	write_on(cpu0, 33, 5);
	assert_int_equal(read_on(cpu1, 37), 9);
	assert_int_equal(read_on(cpu0, 37), 9);
	assert_int_equal(read_on(cpu1, 33), 5);
	assert_int_equal(atomic_load(&mm->rss), 16);
	assert_int_equal(atomic_load(&w.e->stats->folio_alloc), 1);
	assert_true(before - free_frames() == 16);
}

/* ---- a monitor ---- */

static void drop_pages(void)
{
	assert_int_equal(vm_advise(mm, AT(0), P(4), VADV_DONTNEED), 0);
}

static bool is_told(void)
{
	return userfaultfd_poll(ctx, true) == USERFAULT_POLLIN;
}

static void the_program_drops_pages(void)
{
	begin(drop_pages);
	waits(is_told);
}

static int copy(const struct uaccess *u, unsigned page, unsigned from, s64 *done)
{
	return userfaultfd_copy(ctx, u, AT(page), AT(from), P(1), 0, done);
}

/* The bytes have to be fetched, without locks, and meanwhile the program is about to drop what is
 * to be filled: what the monitor gives then would be of before. */
static void nothing_is_filled_when_a_change_began_while_the_bytes_were_fetched(void **state)
{
	u64 features = UAPI_UFFD_FEATURE_EVENT_REMOVE, ioctls;
	struct task task = { .mm = mm, .pid = 7 };
	struct userfault_msg msg;
	struct soft_kernel *k;
	struct uaccess u;
	s64 done;

	(void)state;
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0, 0, &k), 0);
	soft_load_mm(cpu1, NULL);
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	u = soft_uaccess(k, 0);
	map(0, 4, RW);
	map(8, 1, RW);
	put(8, 7);
	assert_int_equal(reclaim_range(mm, AT(8), AT(9)), 1);
	reclaim_write_out(w.e, 8);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(
		userfaultfd_register(ctx, AT(0), P(4), UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls),
		0);
	at.load = the_program_drops_pages;
	assert_int_equal(copy(&u, 2, 8, &done), -EAGAIN);
	assert_int_equal(done, -EAGAIN);
	assert_null(page_of(mm, 2));
	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_REMOVE);
	join();
	assert_int_equal(copy(&u, 2, 8, &done), 0);
	assert_int_equal(get(2), 7);
	userfaultfd_release(ctx);
	soft_load_mm(w.cpu, NULL);
	mm_destroy(mm);
	w.mm = NULL;
	soft_kernel_destroy(k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(pages_that_came_meanwhile_are_not_replaced, setup,
						end_turns),
		cmocka_unit_test_setup_teardown(
			nothing_is_filled_when_a_change_began_while_the_bytes_were_fetched, setup,
			end_turns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
