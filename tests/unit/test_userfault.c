/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: each operation and its errors, each event.  A second thread is the program, on the
 * world's only CPU; the test is the monitor.
 */
#include <pthread.h>
#include <sched.h>

#include "engine/backing/shmem.h"
#include "engine/userfault/hooks.h"
#include "engine/userfault/userfault.h"
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

static struct userfaultfd_ctx *ctx;
static s64 done;

/* ---- the program ---- */

static struct program {
	pthread_t thread;
	u64 va;
	bool write;
	u8 byte;
	enum fault_reason reason;
} program;

static void *run_program(void *arg)
{
	struct program *p = arg;

	p->reason = p->write ? soft_write_byte(w.cpu, p->va, p->byte)
			     : soft_read_byte(w.cpu, p->va, &p->byte);
	return NULL;
}

static void begins_to(u64 va, bool write, u8 byte)
{
	program = (struct program){ .va = va, .write = write, .byte = byte };
	assert_int_equal(pthread_create(&program.thread, NULL, run_program, &program), 0);
}
static void begins_to_read(unsigned page)
{
	begins_to(AT(page), false, 0xee);
}
static void begins_to_write(unsigned page, u8 byte)
{
	begins_to(AT(page), true, byte);
}
static void has_written(void)
{
	pthread_join(program.thread, NULL);
	assert_int_equal(program.reason, FAULT_OK);
}
static void has_read(u8 byte)
{
	has_written();
	assert_int_equal(program.byte, byte);
}

/* ---- the monitor ---- */

static void expect_fault(unsigned page, u64 flags)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, AT(page));
	assert_int_equal(msg.arg.pagefault.flags, flags);
}

static void expect_nothing(void)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), -EAGAIN);
}

static const u8 *bytes(u8 byte)
{
	static u8 buf[4 * PAGE_SIZE];

	memset(buf, byte, sizeof(buf));
	return buf;
}

static int copy_mode(unsigned page, unsigned n, u8 byte, u64 mode)
{
	return userfaultfd_copy(ctx, NULL, AT(page), (u64)(uintptr_t)bytes(byte), P(n), mode,
				&done);
}
static int copy(unsigned page, unsigned n, u8 byte)
{
	return copy_mode(page, n, byte, 0);
}
static int zeropage(unsigned page, unsigned n)
{
	return userfaultfd_zeropage(ctx, AT(page), P(n), 0, &done);
}

static int reg(unsigned page, unsigned n, u64 mode)
{
	u64 ioctls;

	return userfaultfd_register(ctx, AT(page), P(n), mode, &ioctls);
}

static void handshake(struct userfaultfd_ctx *c, u64 features)
{
	u64 ioctls;

	assert_int_equal(userfaultfd_api(c, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(features, 0x1ffff);
	assert_int_equal(ioctls, 0x8000000000000003);
}

static void open_ctx(u64 features)
{
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	handshake(ctx, features);
}

static void close_ctx(void)
{
	userfaultfd_release(ctx);
	ctx = NULL;
}

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define WP	UAPI_UFFDIO_REGISTER_MODE_WP
#define MINOR	UAPI_UFFDIO_REGISTER_MODE_MINOR

static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2, .prefetch = 8 });
	return 0;
}

static int end(void **state)
{
	if (ctx)
		close_ctx();
	return teardown(state);
}

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

/* ---- write-protection ---- */

static int protect(unsigned page, unsigned n)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(n), UAPI_UFFDIO_WRITEPROTECT_MODE_WP);
}
static int unprotect(unsigned page, unsigned n)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(n), 0);
}

static pte_t entry_of(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}
static pte_t entry(unsigned page)
{
	return entry_of(mm, page);
}

/* Is a write told of? */
static void expect_protected(unsigned page)
{
	begins_to_write(page, 0x77);
	expect_fault(page, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(unprotect(page, 1), 0);
	has_written();
	assert_int_equal(get(page), 0x77);
}

static void open_wp(unsigned n, u64 features)
{
	open_ctx(features);
	map(0, n, RW);
	for (unsigned i = 0; i < n; i++)
		put(i, 1 + i);
	assert_int_equal(reg(0, n, WP), 0);
}

static void a_write_to_a_protected_page_waits(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(1, 2), 0);
	assert_int_equal(get(1), 2);
	put(0, 9);
	put(3, 9);
	expect_protected(1);
	expect_protected(2);
	expect_nothing();
	put(1, 5);
}

static void what_writeprotect_refuses(void **state)
{
	(void)state;
	open_wp(4, 0);
	map(4, 1, RW);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(0), P(1), 3), -EINVAL);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(0), P(1), 4), -EINVAL);
	assert_int_equal(protect(0, 0), -EINVAL);
	assert_int_equal(protect(6, 1), -ENOENT);
	assert_int_equal(protect(3, 2), -ENOENT);
	assert_true(pte_uffd_wp(entry(3))); /* done before it came to the other */
	assert_int_equal(protect(2, 1), 0);
	assert_int_equal(unprotect(3, 1), 0);
	assert_int_equal(userfaultfd_writeprotect(ctx, AT(2), P(1), 2), 0);
	put(2, 1);
}

static void unpopulated_pages_are_protected_only_if_asked(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, WP), 0);
	assert_int_equal(protect(0, 4), 0);
	put(1, 1);
	close_ctx();
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(reg(0, 4, WP), 0);
	assert_int_equal(protect(0, 4), 0);
	soft_check(w.m);
	assert_int_equal(get(0), 0);
	expect_protected(0); /* read first: the zero page */
	expect_protected(2); /* never touched */
	expect_protected(1);
	assert_int_equal(unprotect(3, 1), 0);
	put(3, 1);
}

static void protection_survives_swap_and_mprotect(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(0, 3), 0);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 4);
	assert_true(pte_is_swap(entry(0)) && pte_uffd_wp(entry(0)));
	assert_int_equal(get(0), 1);
	expect_protected(0);
	expect_protected(1); /* swapped in by the write */
	assert_int_equal(reclaim_range(mm, AT(2), AT(3)), 0);
	put(3, 4);
	assert_int_equal(vm_protect(mm, AT(0), P(4), VM_READ), 0);
	assert_int_equal(vm_protect(mm, AT(0), P(4), RW), 0);
	soft_check(w.m);
	expect_protected(2);
	assert_int_equal(protect(3, 1), 0);
	assert_int_equal(reclaim_range(mm, AT(3), AT(4)), 1);
	assert_int_equal(unprotect(3, 1), 0); /* while it is away */
	put(3, 5);
	assert_int_equal(get(3), 5);
}

static void protection_ends_with_the_registration(void **state)
{
	(void)state;
	open_wp(4, UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	assert_int_equal(vm_advise(mm, AT(3), P(1), VADV_DONTNEED), 0);
	assert_int_equal(protect(0, 4), 0);
	assert_int_equal(reclaim_range(mm, AT(1), AT(2)), 1);
	begins_to_write(0, 9);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(4)), 0);
	has_written();
	for (unsigned i = 0; i < 4; i++) {
		assert_false(pte_uffd_wp(entry(i)));
		put(i, i);
	}
}

static void copy_may_protect_what_it_brings(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(copy_mode(0, 1, 7, UAPI_UFFDIO_COPY_MODE_WP), 0);
	assert_int_equal(get(0), 7);
	expect_protected(0);
	assert_int_equal(protect(1, 3), 0);
	begins_to_read(1); /* a marker is no page */
	expect_fault(1, 0);
	assert_int_equal(copy(1, 1, 7), 0);
	has_read(7);
	put(1, 8);				   /* and is written over */
	assert_int_equal(zeropage(2, 1), -EEXIST); /* but not by zeros */
	assert_int_equal(copy(2, 1, 7), 0);
	begins_to_write(3, 1);
	expect_fault(3, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(copy_mode(3, 1, 7, UAPI_UFFDIO_COPY_MODE_WP), 0);
	expect_fault(3, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(unprotect(3, 1), 0);
	has_written();
}

static void async_protection_goes_by_itself(void **state)
{
	(void)state;
	open_wp(4, UAPI_UFFD_FEATURE_WP_ASYNC);
	assert_int_equal(vm_advise(mm, AT(2), P(1), VADV_DONTNEED), 0);
	assert_int_equal(protect(0, 4), 0);
	put(0, 9);
	put(2, 9);
	expect_nothing();
	assert_false(pte_uffd_wp(entry(0)));
	assert_true(pte_uffd_wp(entry(1)));
	assert_false(pte_uffd_wp(entry(2)));
	assert_true(pte_uffd_wp(entry(3)));
	assert_int_equal(get(0), 9);
}

static void shared_memory_remembers_by_markers(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 4, WP), 0);
	put(0, 1);
	put(1, 2);
	assert_int_equal(protect(0, 4), 0);
	assert_true(pte_is_marker(entry(2)));
	assert_int_equal(vm_advise(mm, AT(0), P(3), VADV_DONTNEED), 0);
	assert_true(pte_is_marker(entry(0)) && pte_is_marker(entry(2)));
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 0);
	soft_check(w.m);
	assert_int_equal(get(0), 1);
	expect_protected(0);
	expect_protected(1);
	expect_protected(3);
	assert_int_equal(protect(0, 2), 0);
	assert_int_equal(get(1), 0x77);
	assert_int_equal(file_punch_hole(f, 0, P(1)), 0);
	expect_protected(0);
	assert_int_equal(reclaim_range(mm, AT(1), AT(2)), 1);
	assert_true(pte_is_marker(entry(1)));
	expect_protected(1);
	file_put(f);
}

/* ---- minor faults, poison ---- */

static int continue_mode(unsigned page, unsigned n, u64 mode)
{
	return userfaultfd_continue(ctx, AT(page), P(n), mode, &done);
}

static void a_page_that_only_the_file_has_is_a_minor_fault(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));

	(void)state;
	open_ctx(0);
	assert_int_equal(vm_map_file(mm, AT(0), P(8), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 8, MINOR | WP), 0);
	assert_int_equal(file_write(f, 0, "abc", 3), 3);
	begins_to_read(0);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(file_write(f, 0, "x", 1), 1);
	assert_int_equal(continue_mode(0, 1, 0), 0);
	assert_int_equal(done, P(1));
	has_read('x');
	assert_int_equal(continue_mode(0, 1, 0), -EEXIST);
	assert_int_equal(continue_mode(1, 1, 0), -EFAULT); /* the file has none */
	assert_int_equal(continue_mode(6, 1, 0), -EINVAL); /* behind its end */
	put(1, 1);					   /* missing is nobody's here */
	assert_int_equal(vm_advise(mm, AT(0), P(2), VADV_DONTNEED), 0);
	assert_int_equal(continue_mode(0, 3, UAPI_UFFDIO_CONTINUE_MODE_WP), -EAGAIN);
	assert_int_equal(done, P(2));
	expect_protected(0);
	expect_protected(1);
	assert_int_equal(reclaim_range(mm, AT(0), AT(1)), 1);
	begins_to_write(0, 3);
	expect_fault(0, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_MINOR);
	assert_int_equal(continue_mode(0, 1, 0), 0);
	has_written();
	assert_int_equal(continue_mode(0, 1, 4), -EINVAL);
	file_put(f);
}

static void continue_is_for_shared_memory(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(continue_mode(0, 1, 0), -EINVAL);
}

static void a_poisoned_page_is_sigbus(void **state)
{
	u8 byte;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	put(2, 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_read(0);
	expect_fault(0, 0);
	assert_int_equal(userfaultfd_poison(ctx, AT(0), P(3), 0, &done), -EAGAIN);
	assert_int_equal(done, P(2));
	pthread_join(program.thread, NULL);
	assert_int_equal(program.reason, FAULT_BUS);
	assert_int_equal(soft_write_byte(w.cpu, AT(1), 1), FAULT_BUS);
	assert_int_equal(userfaultfd_poison(ctx, AT(1), P(1), 0, &done), -EEXIST);
	assert_int_equal(userfaultfd_poison(ctx, AT(1), P(1), 2, &done), -EINVAL);
	assert_int_equal(zeropage(1, 1), -EEXIST);
	assert_int_equal(copy(1, 1, 7), 0); /* healed */
	assert_int_equal(get(1), 7);
	assert_int_equal(userfaultfd_unregister(ctx, AT(0), P(4)), 0);
	assert_int_equal(soft_read_byte(w.cpu, AT(0), &byte), FAULT_BUS);
	assert_int_equal(vm_advise(mm, AT(0), P(1), VADV_DONTNEED), 0);
	assert_int_equal(get(0), 0);
}

/* ---- moving ---- */

static int move_mode(unsigned dst, unsigned src, unsigned n, u64 mode)
{
	return userfaultfd_move(ctx, mm, AT(dst), AT(src), P(n), mode, &done);
}
static int move(unsigned dst, unsigned src, unsigned n)
{
	return move_mode(dst, src, n, 0);
}

static void a_page_moves_and_wakes(void **state)
{
	u64 pfn;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	put(9, 8);
	assert_int_equal(vm_advise(mm, AT(10), P(2), VADV_DONTNEED), 0); /* they came along */
	pfn = pte_pfn(entry(8));
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_to_write(1, 6);
	expect_fault(1, UAPI_UFFD_PAGEFAULT_FLAG_WRITE);
	assert_int_equal(move(1, 8, 1), 0);
	assert_int_equal(done, P(1));
	has_written();
	assert_int_equal(pte_pfn(entry(1)), pfn);
	assert_int_equal(get(8), 0);
	assert_int_equal(move(1, 9, 1), -EEXIST);
	assert_int_equal(move(2, 10, 1), -ENOENT);
	assert_int_equal(move_mode(2, 10, 1, UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES), 0);
	assert_int_equal(done, P(1));
	assert_true(pte_none(entry(2)));
	assert_int_equal(move(2, 8, 2), 0); /* the zero page, and another */
	assert_int_equal(get(2), 0);
	assert_int_equal(get(3), 8);
	soft_check(w.m);
	assert_int_equal(reclaim_range(mm, AT(0), AT(4)), 2); /* it is found at its new place */
	assert_int_equal(get(1), 6);
}

static void a_page_that_is_swapped_out_moves_too(void **state)
{
	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	assert_int_equal(reclaim_range(mm, AT(8), AT(9)), 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(move(1, 8, 1), 0);
	soft_check(w.m);
	assert_int_equal(get(1), 7);
	assert_int_equal(get(8), 0);
}

static void what_move_refuses(void **state)
{
	struct mm *child;

	(void)state;
	open_ctx(0);
	map(0, 4, RW);
	map(8, 4, RW);
	put(8, 7);
	put(9, 7);
	assert_int_equal(reg(0, 4, MISSING), 0);
	assert_int_equal(userfaultfd_move(ctx, NULL, AT(0), AT(8), P(1), 0, &done), -EINVAL);
	assert_int_equal(move_mode(0, 8, 1, 4), -EINVAL);
	assert_int_equal(move(0, 8, 0), -EINVAL);
	assert_int_equal(move(8, 0, 1), -EINVAL); /* not registered */
	assert_int_equal(move(5, 8, 1), -ENOENT); /* no area */
	assert_int_equal(move(0, 6, 1), -ENOENT);
	assert_int_equal(move(2, 8, 4), -EINVAL); /* beyond it */
	assert_int_equal(vm_protect(mm, AT(9), P(1), VM_READ), 0);
	assert_int_equal(move(0, 9, 1), -EINVAL);
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(move(0, 8, 1), -EBUSY);
	mm_destroy(child);
	assert_int_equal(move(0, 8, 1), -EBUSY); /* until it is written to */
	put(8, 9);
	assert_int_equal(move(0, 8, 1), 0);
	assert_int_equal(get(0), 9);
}

/* ---- events ---- */

static struct call {
	pthread_t thread;
	enum { CALL_UNMAP, CALL_REMAP, CALL_ADVISE, CALL_FORK, CALL_MAP } what;
	u64 at, len, to, new_len;
	s64 result;
	struct mm *child;
} call;

static void *run_call(void *arg)
{
	struct call *c = arg;

	switch (c->what) {
	case CALL_UNMAP:
		c->result = vm_unmap(mm, c->at, c->len);
		break;
	case CALL_REMAP:
		c->result = vm_remap(mm, c->at, c->len, c->new_len, VREMAP_MAYMOVE | VREMAP_FIXED,
				     c->to);
		break;
	case CALL_ADVISE:
		c->result = vm_advise(mm, c->at, c->len, VADV_DONTNEED);
		break;
	case CALL_FORK:
		c->result = mm_fork(mm, &c->child);
		break;
	case CALL_MAP:
		c->result = vm_map(mm, c->at, c->len, RW, VMAP_FIXED, 0);
		break;
	}
	return NULL;
}

static void begins_call(struct call c)
{
	call = c;
	assert_int_equal(pthread_create(&call.thread, NULL, run_call, &call), 0);
}
static void has_returned(s64 result)
{
	pthread_join(call.thread, NULL);
	assert_int_equal(call.result, result);
}

static struct userfault_msg expect_event(enum uapi_uffd_event event)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, event);
	return msg;
}

static void wait_for_event(void)
{
	while (!userfaultfd_poll(ctx, true))
		sched_yield();
}

static void expect_unmap(unsigned page, unsigned n)
{
	struct userfault_msg msg = expect_event(UAPI_UFFD_EVENT_UNMAP);

	assert_int_equal(msg.arg.remove.start, AT(page));
	assert_int_equal(msg.arg.remove.end, AT(page + n));
}

static void an_unmapping_is_told_and_waits_to_be_read(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_UNMAP);
	map(0, 8, RW);
	assert_int_equal(reg(2, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(1), .len = P(2) });
	wait_for_event();
	assert_int_equal(copy(4, 1, 1), -EAGAIN);
	assert_int_equal(done, -EAGAIN);
	assert_int_equal(zeropage(4, 1), -EAGAIN);
	assert_int_equal(move(4, 7, 1), -EAGAIN);
	assert_int_equal(protect(4, 1), -EAGAIN);
	assert_int_equal(continue_mode(4, 1, 0), -EAGAIN);
	assert_int_equal(userfaultfd_poison(ctx, AT(4), P(1), 0, &done), -EAGAIN);
	expect_unmap(1, 2);
	has_returned(0);
	assert_int_equal(copy(4, 1, 1), 0);
	begins_call((struct call){ .what = CALL_MAP, .at = AT(3), .len = P(1) });
	expect_unmap(3, 1);
	has_returned(AT(3));
	/* Two areas, and one event. */
	assert_int_equal(vm_protect(mm, AT(5), P(1), VM_READ), 0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(4), .len = P(2) });
	expect_unmap(4, 2);
	has_returned(0);
	begins_call((struct call){ .what = CALL_UNMAP, .at = AT(7), .len = P(1) });
	has_returned(0); /* not registered: nobody is told */
	expect_nothing();
}

static void a_removal_is_told_before_it_happens(void **state)
{
	struct userfault_msg msg;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_REMOVE);
	map(0, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_ADVISE, .at = AT(1), .len = P(2) });
	wait_for_event();
	assert_int_equal(get(1), 5);
	assert_int_equal(copy(2, 1, 1), -EAGAIN);
	msg = expect_event(UAPI_UFFD_EVENT_REMOVE);
	assert_int_equal(msg.arg.remove.start, AT(1));
	assert_int_equal(msg.arg.remove.end, AT(3));
	has_returned(0);
	begins_to_read(1);
	expect_fault(1, 0);
	assert_int_equal(copy(1, 1, 6), 0);
	has_read(6);
}

static void a_move_is_told_and_keeps_the_context(void **state)
{
	struct userfault_msg msg;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_REMAP);
	map(0, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){
		.what = CALL_REMAP, .at = AT(0), .len = P(4), .new_len = P(4), .to = AT(16) });
	msg = expect_event(UAPI_UFFD_EVENT_REMAP);
	assert_int_equal(msg.arg.remap.from, AT(0));
	assert_int_equal(msg.arg.remap.to, AT(16));
	assert_int_equal(msg.arg.remap.len, P(4));
	has_returned(AT(16));
	begins_to_read(18);
	expect_fault(18, 0);
	assert_int_equal(copy(18, 1, 6), 0);
	has_read(6);
	expect_protected(17);
}

static void a_move_that_is_not_told_loses_the_context(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){
		.what = CALL_REMAP, .at = AT(0), .len = P(4), .new_len = P(4), .to = AT(16) });
	has_returned(AT(16));
	assert_false(pte_uffd_wp(entry(17)));
	put(17, 5);
	assert_int_equal(protect(16, 1), -ENOENT);
}

static void a_child_has_a_context_of_its_own_if_asked(void **state)
{
	struct userfault_msg msg;
	struct userfaultfd_ctx *parent;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	map(8, 4, RW);
	put(1, 5);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(reg(8, 4, MISSING), 0);
	assert_int_equal(protect(1, 1), 0);
	begins_call((struct call){ .what = CALL_FORK });
	wait_for_event();
	assert_int_equal(copy(2, 1, 1), -EAGAIN);
	msg = expect_event(UAPI_UFFD_EVENT_FORK);
	has_returned(0);
	expect_nothing(); /* one event for both */
	parent = ctx;
	ctx = msg.arg.fork.ctx;
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	begins_to_read(2);
	expect_fault(2, 0);
	assert_int_equal(copy(2, 1, 9), 0);
	has_read(9);
	expect_protected(1);
	begins_to_read(9);
	expect_fault(9, 0);
	assert_int_equal(zeropage(9, 1), 0);
	has_read(0);
	soft_load_mm(w.cpu, NULL);
	close_ctx();
	mm_destroy(call.child);
	ctx = parent;
	w.cpu = &w.m->cpus[0];
	assert_int_equal(get(1), 5);
	expect_protected(1);
}

static void a_child_that_is_not_told_of_is_served_by_nobody(void **state)
{
	(void)state;
	open_wp(4, 0);
	assert_int_equal(protect(0, 2), 0);
	assert_int_equal(mm_fork(mm, &call.child), 0);
	assert_true(pte_uffd_wp(entry(0)));
	assert_true(pte_mapped(entry_of(call.child, 0)) && !pte_uffd_wp(entry_of(call.child, 0)));
	soft_check(w.m);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	put(0, 9);
	soft_load_mm(w.cpu, NULL);
	w.cpu = &w.m->cpus[0];
	mm_destroy(call.child);
	expect_protected(0);
}

/* Nobody will ever read it: whoever waits goes on, and the child is nobody's. */
static void closing_lets_go_who_waits_for_an_event_to_be_read(void **state)
{
	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	assert_int_equal(reg(0, 4, MISSING), 0);
	begins_call((struct call){ .what = CALL_FORK });
	wait_for_event();
	close_ctx();
	has_returned(0);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	assert_int_equal(get(1), 0);
	soft_load_mm(w.cpu, NULL);
	w.cpu = &w.m->cpus[0];
	mm_destroy(call.child);
}

/* A fault that is late: what it saw is not so any more when it comes to be told of. */
static unsigned late_fault(unsigned page, u32 reason)
{
	struct fault_result res = { 0 };
	struct vm_fault_info vmf = { .address = AT(page),
				     .real_address = AT(page),
				     .flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_USER,
				     .res = &res };
	unsigned ret;

	down_read(&mm->mmap_lock);
	vmf.vma = find_vma(mm, AT(page));
	vmf.ptep = pte_find(mm, AT(page), &vmf.ptl);
	ret = handle_userfault(&vmf, reason);
	assert_true(ret == VM_FAULT_RETRY && vmf.unlocked);
	assert_false(rwsem_is_locked(&mm->mmap_lock));
	return ret;
}

/* Nobody would wake it: it must not sleep.  (If it does, this test does not end.) */
static void what_was_served_before_it_was_queued_does_not_wait(void **state)
{
	struct mm *child;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	map(0, 4, RW);
	put(0, 1);
	assert_int_equal(reg(0, 4, MISSING | WP), 0);
	assert_int_equal(copy(1, 1, 7), 0);
	late_fault(1, VM_UFFD_MISSING);
	assert_int_equal(userfaultfd_poison(ctx, AT(2), P(1), 0, &done), 0);
	late_fault(2, VM_UFFD_MISSING);
	/* Not marked any more, and shared, so that it does not allow writing yet. */
	assert_int_equal(mm_fork(mm, &child), 0);
	assert_int_equal(protect(0, 1), 0);
	assert_int_equal(unprotect(0, 1), 0);
	assert_false(pte_write(entry(0)));
	late_fault(0, VM_UFFD_WP);
	mm_destroy(child);
	expect_nothing();
}

static void a_child_keeps_the_marks_of_shared_memory(void **state)
{
	struct file *f = shmem_file_setup(w.e, P(4));
	struct userfaultfd_ctx *parent;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	assert_int_equal(vm_map_file(mm, AT(0), P(4), RW, VMAP_FIXED, SHARED, f, 0), AT(0));
	assert_int_equal(reg(0, 4, WP), 0);
	put(0, 1);
	put(1, 2);
	assert_int_equal(protect(1, 2), 0);
	begins_call((struct call){ .what = CALL_FORK });
	parent = ctx;
	ctx = expect_event(UAPI_UFFD_EVENT_FORK).arg.fork.ctx;
	has_returned(0);
	soft_check(w.m);
	w.cpu = &w.m->cpus[1];
	soft_load_mm(w.cpu, call.child);
	put(0, 3);
	expect_protected(1);
	expect_protected(2);
	soft_load_mm(w.cpu, NULL);
	close_ctx();
	mm_destroy(call.child);
	w.cpu = &w.m->cpus[0];
	ctx = parent;
	assert_int_equal(get(0), 3);
	expect_protected(1);
	file_put(f);
}

/* At each of its allocations. */
static void a_fork_without_memory_tells_nothing(void **state)
{
	bool failed = true;

	(void)state;
	open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	map(0, 4, RW);
	put(0, 1);
	assert_int_equal(reg(0, 4, MISSING), 0);
	for (u64 left = 1; left < 3 || failed; left++) {
		struct userfault_msg msg;

		atomic_store(&w.m->inject.memory_left, left);
		begins_call((struct call){ .what = CALL_FORK });
		while (!userfaultfd_poll(ctx, true) && pthread_tryjoin_np(call.thread, NULL))
			sched_yield();
		failed = !userfaultfd_poll(ctx, true);
		atomic_store(&w.m->inject.memory_left, 0);
		if (failed) {
			assert_int_equal(call.result, -ENOMEM);
			assert_int_equal(copy(1, 1, 1), 0); /* nothing is changing */
			assert_int_equal(vm_advise(mm, AT(1), P(1), VADV_DONTNEED), 0);
			continue;
		}
		msg = expect_event(UAPI_UFFD_EVENT_FORK);
		has_returned(0);
		userfaultfd_release(msg.arg.fork.ctx);
		mm_destroy(call.child);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_is_done_before_the_handshake),
		TEST(the_handshake_is_made_once_and_with_known_features),
		TEST(a_range_is_told_what_can_be_done_in_it),
		TEST(what_cannot_be_registered),
		TEST(areas_split_and_merge_by_their_context),
		TEST(a_fault_waits_for_its_page),
		TEST(it_is_counted_once),
		TEST(dontwake_lets_it_sleep_until_it_is_woken),
		TEST(woken_without_a_page_it_faults_again),
		TEST(copy_stops_at_a_page_that_is_there),
		TEST(what_copy_refuses),
		TEST(copy_to_a_space_that_is_gone_is_esrch),
		TEST(copy_takes_bytes_from_a_program),
		TEST(a_machine_that_is_busy_has_copy_tried_again),
		TEST(shared_memory_gets_its_pages_in_the_file),
		TEST(a_private_mapping_of_it_gets_pages_of_its_own),
		TEST(with_sigbus_nobody_is_asked),
		TEST(messages_tell_thread_and_byte_if_asked),
		TEST(a_context_for_user_mode_only_does_not_serve_the_kernel),
		TEST(unregistering_lets_the_waiting_go_on),
		TEST(closing_lets_the_waiting_go_on),
		TEST(poll_tells_of_faults_that_nobody_has_read),
		TEST(what_was_reclaimed_comes_back_by_itself),
		TEST(a_write_to_a_protected_page_waits),
		TEST(what_writeprotect_refuses),
		TEST(unpopulated_pages_are_protected_only_if_asked),
		TEST(protection_survives_swap_and_mprotect),
		TEST(protection_ends_with_the_registration),
		TEST(copy_may_protect_what_it_brings),
		TEST(async_protection_goes_by_itself),
		TEST(shared_memory_remembers_by_markers),
		TEST(a_page_that_only_the_file_has_is_a_minor_fault),
		TEST(continue_is_for_shared_memory),
		TEST(a_poisoned_page_is_sigbus),
		TEST(a_page_moves_and_wakes),
		TEST(a_page_that_is_swapped_out_moves_too),
		TEST(what_move_refuses),
		TEST(an_unmapping_is_told_and_waits_to_be_read),
		TEST(a_removal_is_told_before_it_happens),
		TEST(a_move_is_told_and_keeps_the_context),
		TEST(a_move_that_is_not_told_loses_the_context),
		TEST(a_child_has_a_context_of_its_own_if_asked),
		TEST(a_child_that_is_not_told_of_is_served_by_nobody),
		TEST(closing_lets_go_who_waits_for_an_event_to_be_read),
		TEST(what_was_served_before_it_was_queued_does_not_wait),
		TEST(a_child_keeps_the_marks_of_shared_memory),
		TEST(a_fork_without_memory_tells_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
