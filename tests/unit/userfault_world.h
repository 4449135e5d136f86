/* SPDX-License-Identifier: MIT */
/* A program, which is a second thread on the world's only CPU, and its monitor: the test. */
#ifndef VMF_TESTS_USERFAULT_WORLD_H
#define VMF_TESTS_USERFAULT_WORLD_H

#include <sched.h>

#include "engine/backing/shmem.h"
#include "engine/userfault/userfault.h"
#include "tests/unit/program_thread.h"

#define SHARED (VM_SHARED | VM_MAYSHARE)

static struct userfaultfd_ctx *ctx;
static s64 done;

/* ---- the program ---- */

static inline void begins_to_read(unsigned page)
{
	begins_to(AT(page), false, 0xee);
}
static inline void begins_to_write(unsigned page, u8 byte)
{
	begins_to(AT(page), true, byte);
}
static inline void has_written(void)
{
	has_done_it();
}
static inline void has_read(u8 byte)
{
	has_written();
	assert_int_equal(program.byte, byte);
}

/* ---- the monitor ---- */

static inline void expect_fault(unsigned page, u64 flags)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, false), 1);
	assert_int_equal(msg.event, UAPI_UFFD_EVENT_PAGEFAULT);
	assert_int_equal(msg.arg.pagefault.address, AT(page));
	assert_int_equal(msg.arg.pagefault.flags, flags);
}

static inline void expect_nothing(void)
{
	struct userfault_msg msg;

	assert_int_equal(userfaultfd_read(ctx, &msg, 1, true), -EAGAIN);
}

static inline const u8 *bytes(u8 byte)
{
	static u8 buf[4 * PAGE_SIZE];

	memset(buf, byte, sizeof(buf));
	return buf;
}

static inline int copy_mode(unsigned page, unsigned n, u8 byte, u64 mode)
{
	return userfaultfd_copy(ctx, NULL, AT(page), (u64)(uintptr_t)bytes(byte), P(n), mode,
				&done);
}
static inline int copy(unsigned page, unsigned n, u8 byte)
{
	return copy_mode(page, n, byte, 0);
}
static inline int zeropage(unsigned page, unsigned n)
{
	return userfaultfd_zeropage(ctx, AT(page), P(n), 0, &done);
}

static inline int reg(unsigned page, unsigned n, u64 mode)
{
	u64 ioctls;

	return userfaultfd_register(ctx, AT(page), P(n), mode, &ioctls);
}

static inline void handshake(struct userfaultfd_ctx *c, u64 features)
{
	u64 ioctls;

	assert_int_equal(userfaultfd_api(c, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(features, 0x1ffff);
	assert_int_equal(ioctls, 0x8000000000000003);
}

static inline void open_ctx(u64 features)
{
	assert_int_equal(userfaultfd_create(mm, 0, &ctx), 0);
	handshake(ctx, features);
}

static inline void close_ctx(void)
{
	userfaultfd_release(ctx);
	ctx = NULL;
}

#define MISSING UAPI_UFFDIO_REGISTER_MODE_MISSING
#define WP	UAPI_UFFDIO_REGISTER_MODE_WP
#define MINOR	UAPI_UFFDIO_REGISTER_MODE_MINOR

static inline int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2, .prefetch = 8 });
	return 0;
}

static inline int end(void **state)
{
	if (ctx)
		close_ctx();
	return teardown(state);
}

/* ---- what it does beside filling ---- */

static inline int protect(unsigned page, unsigned n)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(n), UAPI_UFFDIO_WRITEPROTECT_MODE_WP);
}
static inline int unprotect(unsigned page, unsigned n)
{
	return userfaultfd_writeprotect(ctx, AT(page), P(n), 0);
}

static inline pte_t entry_of(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}
static inline pte_t entry(unsigned page)
{
	return entry_of(mm, page);
}

/* Is a write told of? */
static inline void expect_protected(unsigned page)
{
	begins_to_write(page, 0x77);
	expect_fault(page, UAPI_UFFD_PAGEFAULT_FLAG_WRITE | UAPI_UFFD_PAGEFAULT_FLAG_WP);
	assert_int_equal(unprotect(page, 1), 0);
	has_written();
	assert_int_equal(get(page), 0x77);
}

static inline void open_wp(unsigned n, u64 features)
{
	open_ctx(features);
	map(0, n, RW);
	for (unsigned i = 0; i < n; i++)
		put(i, 1 + i);
	assert_int_equal(reg(0, n, WP), 0);
}

static inline int continue_mode(unsigned page, unsigned n, u64 mode)
{
	return userfaultfd_continue(ctx, AT(page), P(n), mode, &done);
}

static inline int move_mode(unsigned dst, unsigned src, unsigned n, u64 mode)
{
	return userfaultfd_move(ctx, mm, AT(dst), AT(src), P(n), mode, &done);
}
static inline int move(unsigned dst, unsigned src, unsigned n)
{
	return move_mode(dst, src, n, 0);
}

#endif
