/* SPDX-License-Identifier: MIT */
/* userfaultfd: the handshake, what is registered, and how a page that is missing is waited for. */
#include "machine/soft/kernel.h"
#include "tests/unit/userfault_world.h"

/* ---- the handshake ---- */

static void nothing_is_done_before_the_handshake(void **state)
{
	struct userfault_msg msg;
	u64 ioctls;

	(void)state;
	map(0, 4, RW);
	assert_int_equal(userfaultfd_create(mm, 2, &ctx), -EINVAL);
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(1), MISSING, &ioctls), -EINVAL);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(1)), -EINVAL);
	assert_int_equal(userfaultfd_wake(ctx, AT(0), P(1)), -EINVAL);
	assert_int_equal(copy(0, 1, 1), -EINVAL);
	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), -EINVAL);
	assert_int_equal(userfaultfd_poll(ctx, true), USERFAULT_POLLERR);
}

static void the_handshake_is_made_once_and_with_known_features(void **state)
{
	u64 features = 0, ioctls = 5;

	(void)state;
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	assert_int_equal(userfaultfd_api(ctx, 0xab, &features, &ioctls), -EINVAL);
	assert_int_equal(ioctls, 0);
	features = 1ULL << 17;
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), -EINVAL);
	assert_int_equal(features, 0);
	handshake(ctx, 0);
	features = 0;
	assert_int_equal(userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls), -EINVAL);
	assert_int_equal(userfaultfd_poll(ctx, false), USERFAULT_POLLERR);
	assert_int_equal(userfaultfd_poll(ctx, true), 0);
	assert_int_equal(userfaultfd_read(ctx, NULL, 0, true), -EINVAL);
}

/* ---- registering ---- */

static void a_range_is_told_what_can_be_done_in_it(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	u64 ioctls;

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	file_put(f);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(1), MISSING, &ioctls), 0);
	assert_int_equal(ioctls, 0x13c);
	assert_int_equal(userfaultfd_register(ctx, AT(1), P(1), WP, &ioctls), 0);
	assert_int_equal(ioctls, 0x17c);
	assert_int_equal(userfaultfd_register(ctx, AT(2), P(1), MINOR, &ioctls), 0);
	assert_int_equal(ioctls, 0x1bc);
	assert_int_equal(userfaultfd_register(ctx, AT(3), P(1), MISSING | WP | MINOR, &ioctls), 0);
	assert_int_equal(ioctls, 0x1fc);
}

static void what_cannot_be_registered(void **state)
{
	struct userfaultfd_ctx *other;
	u64 ioctls;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, 0), -EINVAL);
	assert_int_equal(reg(0, 4, 8), -EINVAL);
	assert_int_equal(reg(0, 0, MISSING), -EINVAL);
	assert_int_equal(reg(0, 4, MINOR), -EINVAL);   /* no file */
	assert_int_equal(reg(4, 4, MISSING), -EINVAL); /* nothing there */
	assert_int_equal(userfaultfd_register(ctx, AT(0) + 1, P(1), MISSING, &ioctls), -EINVAL);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(1) + 1, MISSING, &ioctls), -EINVAL);
	assert_int_equal(userfaultfd_register(ctx, AT(0), -P(1), MISSING, &ioctls), -EINVAL);
	assert_int_equal(reg(2, 4, MISSING), 0); /* what is there of it */
	assert_int_equal(userfaultfd_create(mm, 0, &other), 0);
	handshake(other, 0);
	assert_int_equal(userfaultfd_register(other, AT(0), P(4), MISSING, &ioctls), -EBUSY);
	assert_int_equal(userfaultfd_unregister(other, AT(0), P(4)), -EINVAL);
	assert_int_equal(mm->map_count, 2);
	userfaultfd_release(other);
	map(8, 1, 0);
	assert_int_equal(reg(8, 1, MISSING), 0); /* PROT_NONE is no obstacle */
}

static void areas_split_and_merge_by_their_context(void **state)
{
	struct userfaultfd_ctx *other;
	u64 ioctls;

	(void)state;
	open_ctx(0);
	map(0, 8, RW);
	assert_int_equal(reg(2, 2, MISSING), 0);
	assert_int_equal(mm->map_count, 3);
	assert_int_equal(reg(4, 2, MISSING), 0);
	assert_int_equal(mm->map_count, 3);
	assert_int_equal(reg(4, 2, MISSING | WP), 0);
	assert_int_equal(mm->map_count, 4);
	assert_int_equal(reg(4, 2, MISSING), 0); /* it has that, and more, already */
	assert_int_equal(mm->map_count, 4);
	assert_int_equal(userfaultfd_create(mm, 0, &other), 0);
	handshake(other, 0);
	assert_int_equal(userfaultfd_register(other, AT(6), P(2), MISSING | WP, &ioctls), 0);
	assert_int_equal(mm->map_count, 4); /* alike, and another's */
	userfaultfd_release(other);
	assert_int_equal(mm->map_count, 4);
	soft_check(w.m);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(8)), 0);
	assert_int_equal(mm->map_count, 1);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(8)), 0);
	assert_int_equal(userfaultfd_unregister(ctx, AT(8), P(8)), -EINVAL);
}

/* ---- missing pages ---- */

static void a_fault_waits_for_its_page(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	expect_nothing();
	begins_to_read(1);
	expect_fault(1, 0);
	expect_nothing();
	assert_int_equal(copy(1, 1, 7), 0);
	assert_int_equal(done, P(1));
	has_read(7);
	begins_to_write(2, 9);
	expect_fault(2, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(zeropage(2, 1), 0);
	has_written();
	assert_int_equal(get(2), 9);
	assert_int_equal(atomic_load(&mm->major), 0);
}

static void it_is_counted_once(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	put(0, 1); /* so that the area need not be looked up again for its anon_vma */
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_write(1, 1);
	expect_fault(1, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(copy(1, 1, 7), 0);
	has_written();
	assert_int_equal(atomic_load(&mm->minor), 1);
}

static void dontwake_lets_it_sleep_until_it_is_woken(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(1);
	expect_fault(1, 0);
	assert_int_equal(copy_mode(1, 1, 7, UAPI_UFFDIO_MODE_DONTWAKE), 0);
	assert_int_equal(userfaultfd_wake(ctx, AT(2), P(2)), 0); /* not there */
	for (unsigned i = 0; i < 100; i++) {
		sched_yield();
		assert_int_equal(program.byte, 0xee);
	}
	assert_int_equal(userfaultfd_wake(ctx, AT(1), 0), -EINVAL);
	assert_int_equal(userfaultfd_wake(ctx, AT(0), P(4)), 0);
	has_read(7);
}

static void woken_without_a_page_it_faults_again(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(1);
	for (unsigned i = 0; i < 10; i++) {
		expect_fault(1, 0);
		assert_int_equal(userfaultfd_wake(ctx, AT(1), P(1)), 0);
	}
	expect_fault(1, 0);
	assert_int_equal(copy(0, 2, 3), 0);
	has_read(3);
}

static void copy_stops_at_a_page_that_is_there(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	put(2, 5);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(copy(0, 4, 7), -EAGAIN);
	assert_int_equal(done, P(2));
	assert_int_equal(copy(2, 2, 7), -EEXIST);
	assert_int_equal(done, -EEXIST);
	assert_int_equal(get(1), 7);
	assert_int_equal(get(2), 5);
	assert_int_equal(zeropage(1, 1), -EEXIST);
	assert_int_equal(zeropage(3, 1), 0);
	assert_int_equal(get(3), 0);
	assert_int_equal(copy(3, 1, 7), -EEXIST); /* the zero page is a page */
}

static void what_copy_refuses(void **state)
{
	u64 src = (u64)(uintptr_t)bytes(1);

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 2, MISSING), 0);
	assert_int_equal(copy(2, 1, 1), -ENOENT); /* not registered */
	assert_int_equal(copy(8, 1, 1), -ENOENT); /* no area */
	assert_int_equal(copy(1, 2, 1), -ENOENT); /* not all of it */
	assert_int_equal(done, -ENOENT);
	assert_int_equal(copy(0, 0, 1), -EINVAL);
	assert_int_equal(copy_mode(0, 1, 1, 4), -EINVAL);
	assert_int_equal(copy_mode(0, 1, 1, UAPI_UFFDIO_COPY_MODE_WP), -EINVAL); /* not for WP */
	assert_int_equal(userfaultfd_copy(ctx, NULL, AT(0) + 1, src, P(1), 0, &done), -EINVAL);
	assert_int_equal(userfaultfd_copy(ctx, NULL, AT(0), src, 100, 0, &done), -EINVAL);
	assert_int_equal(userfaultfd_zeropage(ctx, AT(0), P(1), 2, &done), -EINVAL);
	assert_int_equal(copy(0, 2, 1), 0);
}

static void copy_to_a_space_that_is_gone_is_esrch(void **state)
{
	struct mm *other;
	u64 ioctls;

	(void)state;
	assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &other), 0);
	assert_int_equal(userfaultfd_create(other, 0, &ctx), 0);
	handshake(ctx, 0);
	assert_int_equal(vm_map(other, AT(0), P(4), RW, VMAP_FIXED, 0), AT(0));
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(4), MISSING, &ioctls), 0);
	assert_int_equal(copy(0, 1, 1), 0);
	mm_destroy(other);
	assert_int_equal(copy(1, 1, 1), -ESRCH);
	assert_int_equal(zeropage(1, 1), -ESRCH);
	assert_int_equal(userfaultfd_register(ctx, AT(0), P(4), MISSING, &ioctls), -ENOMEM);
	assert_int_equal(userfaultfd_move(ctx, mm, AT(2), AT(0), P(1), 0, &done), -EINVAL);
}

/* The bytes are a program's, which may not be there, or may have to be fetched by a fault. */
static void copy_takes_bytes_from_a_program(void **state)
{
	struct soft_kernel *k;
	struct task task = { .mm = mm, .pid = 7 };
	struct uaccess u;

	(void)state;
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0, 0, &k), 0);
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	u = soft_uaccess(k, 0);
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	assert_int_equal(reclaim_range(mm, AT(8), AT(9)), 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(userfaultfd_copy(ctx, &u, AT(0), AT(8), P(2), 0, &done), 0);
	assert_int_equal(get(0), 7);
	assert_int_equal(get(1), 0);
	assert_int_equal(userfaultfd_copy(ctx, &u, AT(2), AT(11), P(2), 0, &done), -EAGAIN);
	assert_int_equal(done, P(1)); /* there is no page 12 */
	assert_int_equal(userfaultfd_copy(ctx, &u, AT(3), AT(12), P(1), 0, &done), -EFAULT);
	assert_int_equal(done, -EFAULT);
	assert_int_equal(userfaultfd_copy(ctx, &u, AT(3), -P(1), P(1), 0, &done), -EINVAL);
	close_ctx();
	soft_load_mm(w.cpu, NULL);
	mm_destroy(mm);
	w.mm = NULL;
	soft_kernel_destroy(k);
}

static void a_machine_that_is_busy_has_copy_tried_again(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	atomic_store(&w.m->inject.stage_again_every, 1);
	assert_int_equal(copy(0, 1, 7), -EAGAIN);
	assert_int_equal(done, -EAGAIN);
	atomic_store(&w.m->inject.stage_again_every, 0);
	atomic_store(&w.m->inject.set_again_every, 2);
	assert_int_equal(copy(0, 2, 7), -EAGAIN);
	assert_int_equal(done, P(1));
	assert_int_equal(zeropage(2, 1), 0);
	assert_int_equal(zeropage(3, 1), -EAGAIN);
	atomic_store(&w.m->inject.set_again_every, 0);
	assert_int_equal(copy(1, 1, 7), 0);
	assert_int_equal(get(1), 7);
}

static void shared_memory_gets_its_pages_in_the_file(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	u8 byte;

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(8), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 8, MISSING), 0);
	begins_to_write(1, 9);
	expect_fault(1, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(copy(1, 2, 7), 0);
	has_written();
	assert_int_equal(file_read(f, P(2), &byte, 1), 1);
	assert_int_equal(byte, 7);
	assert_int_equal(copy(2, 1, 8), -EEXIST);
	assert_int_equal(file_write(f, P(3), "x", 1), 1);
	assert_int_equal(copy(3, 1, 8), -EEXIST); /* it has no entry, but the file has it */
	assert_int_equal(get(3), 'x');
	assert_int_equal(copy(4, 1, 8), -EFAULT); /* behind the end */
	assert_int_equal(soft_read_byte(w.cpu, AT(4), &byte), FAULT_BUS);
	assert_int_equal(zeropage(0, 1), 0);
	assert_int_equal(get(0), 0);
	file_put(f);
}

static void a_private_mapping_of_it_gets_pages_of_its_own(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	u8 byte;

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, 0, f, 0), AT(0));
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(file_write(f, P(1), "x", 1), 1);
	assert_int_equal(copy(1, 2, 7), 0);
	assert_int_equal(get(1), 7);
	put(1, 8);
	assert_int_equal(file_read(f, P(1), &byte, 1), 1);
	assert_int_equal(byte, 'x');
	begins_to_read(0);
	expect_fault(0, 0);
	assert_int_equal(zeropage(0, 1), 0);
	has_read(0);
	file_put(f);
}

static void with_sigbus_nobody_is_asked(void **state)
{
	u8 byte;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_SIGBUS);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(soft_read_byte(w.cpu, AT(1), &byte), FAULT_BUS);
	expect_nothing();
	assert_int_equal(copy(1, 1, 7), 0);
	assert_int_equal(get(1), 7);
}

static void messages_tell_thread_and_byte_if_asked(void **state)
{
	struct userfault_msg msg[2];

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_THREAD_ID | UAPI_UFFD_FEATURE_EXACT_ADDRESS);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to(AT(1) + 123, false, 0);
	assert_int_equal(userfaultfd_read(ctx, msg, 2, false), 1);
	assert_int_equal(msg[0].arg.pagefault.address, AT(1) + 123);
	assert_true(msg[0].arg.pagefault.ptid);
	assert_int_not_equal(msg[0].arg.pagefault.ptid, machine_thread_id());
	assert_int_equal(copy(1, 1, 7), 0);
	has_read(7);
}

static void a_context_for_user_mode_only_does_not_serve_the_kernel(void **state)
{
	u8 byte;

	(void)state;
	assert_int_equal(userfaultfd_create(mm, UAPI_UFFD_USER_MODE_ONLY, &ctx), 0);
	handshake(ctx, 0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(resolve_fault(mm, AT(1), 0, 0).reason, FAULT_BUS);
	begins_to_read(1);
	expect_fault(1, 0);
	assert_int_equal(copy(1, 1, 7), 0);
	has_read(7);
	assert_int_equal(soft_kernel_read(w.cpu, AT(1), &byte, 1, true), FAULT_OK);
}

static void unregistering_lets_the_waiting_go_on(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(1);
	expect_fault(1, 0);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(4)), 0);
	has_read(0);
}

static void closing_lets_the_waiting_go_on(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(1);
	expect_fault(1, 0);
	close_ctx();
	has_read(0);
	assert_int_equal(mm->map_count, 1);
}

static void poll_tells_of_faults_that_nobody_has_read(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(1);
	while (!userfaultfd_poll(ctx, true))
		sched_yield();
	assert_int_equal(userfaultfd_poll(ctx, true), USERFAULT_POLLIN);
	expect_fault(1, 0);
	assert_int_equal(userfaultfd_poll(ctx, true), 0);
	assert_int_equal(copy(1, 1, 7), 0);
	has_read(7);
}

/* A page that is swapped out is not missing. */
static void what_was_reclaimed_comes_back_by_itself(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(copy(0, 4, 7), 0);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 4);
	assert_int_equal(get(0), 7);
	assert_int_equal(get(1), 7); /* the second of a stream: nothing is read ahead */
	assert_int_equal(atomic_load(&mm->swapped), 2);
	assert_int_equal(get(2), 7);
	expect_nothing();
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, end)
	const struct CMUnitTest tests[] = {
		T(nothing_is_done_before_the_handshake),
		T(the_handshake_is_made_once_and_with_known_features),
		T(a_range_is_told_what_can_be_done_in_it),
		T(what_cannot_be_registered),
		T(areas_split_and_merge_by_their_context),
		T(a_fault_waits_for_its_page),
		T(it_is_counted_once),
		T(dontwake_lets_it_sleep_until_it_is_woken),
		T(woken_without_a_page_it_faults_again),
		T(copy_stops_at_a_page_that_is_there),
		T(what_copy_refuses),
		T(copy_to_a_space_that_is_gone_is_esrch),
		T(copy_takes_bytes_from_a_program),
		T(a_machine_that_is_busy_has_copy_tried_again),
		T(shared_memory_gets_its_pages_in_the_file),
		T(a_private_mapping_of_it_gets_pages_of_its_own),
		T(with_sigbus_nobody_is_asked),
		T(messages_tell_thread_and_byte_if_asked),
		T(a_context_for_user_mode_only_does_not_serve_the_kernel),
		T(unregistering_lets_the_waiting_go_on),
		T(closing_lets_the_waiting_go_on),
		T(poll_tells_of_faults_that_nobody_has_read),
		T(what_was_reclaimed_comes_back_by_itself),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
