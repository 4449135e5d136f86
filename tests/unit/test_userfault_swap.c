/* SPDX-License-Identifier: MIT */
/* userfaultfd and pages that are in the swap area; and what of it no kernel without one shows. */
#include <pthread.h>
#include <sched.h>

#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/one_world.h"

static struct userfaultfd_ctx *ctx;
static s64 done;

/* Pages 0 to 3 are watched, 8 to 11 are not; page 8 has a seven. */
static int setup(void **state)
{
	u64 features = 0, ioctls;

	(void)state;
	start((struct world_options){ .cpus = 2 });
	soft_load_mm(&w.m->cpus[1], mm);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(4),
					      UAPI_UFFDIO_REGISTER_MODE_MISSING |
						      UAPI_UFFDIO_REGISTER_MODE_WP,
					      &ioctls),
			 0);
	return 0;
}

static int finish(void **state)
{
	userfaultfd_release(ctx);
	return teardown(state);
}

static int move(unsigned to, unsigned from)
{
	return userfaultfd_move(ctx, mm, AT(to), AT(from), P(1), 0, &done);
}

static int protect(unsigned page, bool on)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(1),
					on ? UAPI_UFFDIO_WRITEPROTECT_MODE_WP : 0);
}

static void swap_out(unsigned page)
{
	assert_int_equal(reclaim_range(mm, AT(page), AT(page + 1)), 1);
	assert_true(pte_is_swap(pte_peek(mm, AT(page))));
}

/* ---- a program that writes ---- */

static pthread_t thread;
static _Atomic bool is_over;

static void *write_page(void *arg)
{
	soft_write_byte(&w.m->cpus[1], AT((unsigned)(uintptr_t)arg), 9);
	atomic_store(&is_over, true);
	return NULL;
}

static void begins_to_write(unsigned page)
{
	struct userfault_msg msg;
	s64 n;

	atomic_store(&is_over, false);
	assert_int_equal(pthread_create(&thread, NULL, write_page, (void *)(uintptr_t)page), 0);
	/* If it was made without asking, that is seen. */
	while ((n = userfaultfd_read(ctx, &msg, 1, true)) == -EAGAIN && !atomic_load(&is_over))
		sched_yield();
	assert_int_equal(n, 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, AT(page));
	assert_true(msg.arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP);
}

static void has_written(unsigned page)
{
	pthread_join(thread, NULL);
	assert_int_equal(get(page), 9);
}

/* ---- moves ---- */

static void what_a_child_has_in_the_area_does_not_move(void **state)
{
	struct mm *child;
	u8 byte;

	(void)state;
	swap_out(8);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(move(1, 8), -EBUSY);
	/* Nor when the child has brought it in. */
	soft_load_mm(&w.m->cpus[1], child);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(8), &byte), FAULT_OK);
	assert_int_equal(byte, 7);
	assert_true(pte_is_swap(pte_peek(mm, AT(8))));
	assert_int_equal(move(1, 8), -EBUSY);
	soft_load_mm(&w.m->cpus[1], NULL);
	mm_destroy(child);
	/* Nor when the child has gone, until the page has been written to, as in Linux. */
	assert_int_equal(move(1, 8), -EBUSY);
	put(8, 7);
	swap_out(8);
	assert_int_equal(move(1, 8), 0);
	assert_int_equal(get(1), 7);
}

static void what_a_child_had_before_it_went_out_does_not_move(void **state)
{
	struct mm *child;

	(void)state;
	assert_int_equal(mm_fork(mm, &child), 0);
	mm_destroy(child);
	swap_out(8);
	assert_int_equal(move(1, 8), -EBUSY);
	assert_int_equal(get(8), 7);
}

static void it_moves_with_its_mark(void **state)
{
	(void)state;
	assert_int_equal(move(0, 8), 0);
	assert_int_equal(protect(0, true), 0);
	swap_out(0);
	assert_true(pte_uffd_wp(pte_peek(mm, AT(0))));
	assert_int_equal(move(1, 0), 0);
	assert_true(pte_uffd_wp(pte_peek(mm, AT(1))));
	assert_int_equal(get(1), 7);
	assert_true(pte_uffd_wp(pte_peek(mm, AT(1))));
	begins_to_write(1);
	assert_int_equal(protect(1, false), 0);
	has_written(1);
}

static void areas_of_other_rights_are_refused(void **state)
{
	(void)state;
	assert_int_equal(vm_protect(mm, AT(8), P(2), VM_READ), 0);
	assert_int_equal(move(1, 8), -EINVAL);
	assert_int_equal(vm_protect(mm, AT(8), P(2), RW | VM_EXEC), 0);
	assert_int_equal(move(1, 8), -EINVAL);
	assert_int_equal(vm_protect(mm, AT(8), P(2), RW), 0);
	assert_int_equal(do_mlock(mm, AT(8), P(1)), 0);
	assert_int_equal(move(1, 8), -EINVAL);
	assert_int_equal(do_munlock(mm, AT(8), P(1)), 0);
	assert_int_equal(move(1, 8), 0);
}

/* ---- write protection ---- */

static void what_is_out_is_protected_there(void **state)
{
	(void)state;
	assert_int_equal(move(0, 8), 0);
	swap_out(0);
	assert_int_equal(protect(0, true), 0);
	assert_int_equal(get(0), 7);
	begins_to_write(0);
	assert_int_equal(protect(0, false), 0);
	has_written(0);
}

static void the_mark_of_what_is_out_can_be_taken_away(void **state)
{
	(void)state;
	assert_int_equal(move(0, 8), 0);
	assert_int_equal(protect(0, true), 0);
	swap_out(0);
	assert_int_equal(protect(0, false), 0);
	put(0, 8);
	assert_int_equal(get(0), 8);
}

static void who_waits_is_not_woken_by_protecting(void **state)
{
	struct userfault_msg msg;

	(void)state;
	assert_int_equal(move(0, 8), 0);
	assert_int_equal(protect(0, true), 0);
	begins_to_write(0);
	/* If it were woken it would ask again. */
	assert_int_equal(protect(0, true), 0);
	for (unsigned i = 0; i < 1000; i++)
		sched_yield();
	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), -EAGAIN);
	assert_int_equal(protect(0, false), 0);
	has_written(0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, finish)
	const struct CMUnitTest tests[] = {
		T(what_a_child_has_in_the_area_does_not_move),
		T(what_a_child_had_before_it_went_out_does_not_move),
		T(it_moves_with_its_mark),
		T(areas_of_other_rights_are_refused),
		T(what_is_out_is_protected_there),
		T(the_mark_of_what_is_out_can_be_taken_away),
		T(who_waits_is_not_woken_by_protecting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
