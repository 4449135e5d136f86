/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: faults that a program serves.
 *
 * A context belongs to one space.  Ranges of the space are registered with it; a fault in them that
 * it asked for (no page: MISSING; a page of shared memory that has no entry: MINOR; a write to a
 * page that it has write-protected: WP) is told to whoever reads the context, the monitor, and the
 * faulting thread sleeps until the monitor has woken it.  Then the access is made again.
 *
 * Names, numbers, errors and their order are those of Linux 6.18 (userfaultfd(2),
 * ioctl_userfaultfd(2)). Addresses and lengths are bytes.  What an operation of several pages has
 * done when it fails in the middle is told in *done, and it returns -EAGAIN then; if it has done
 * nothing, *done is the error.
 *
 * All functions may be called from any thread that holds no lock of the engine, and may sleep; only
 * those that say so wait for others.  A thread that is inside keeps a reference, or its caller
 * knows that the context is not released meanwhile.
 *
 * Locks: ctx->users, mm->mmap_lock, ctx->map_changing_lock, the locks of a fault, ctx->lock.
 */
#ifndef VMF_USERFAULT_USERFAULT_H
#define VMF_USERFAULT_USERFAULT_H

#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/userfault/uapi.h"

struct engine;
struct mm;
struct uaccess;
struct userfaultfd_ctx;

/* What the monitor reads. */
struct userfault_msg {
	enum uapi_uffd_event event;
	union {
		struct {
			u64 flags;   /* enum uapi_uffd_pagefault_flag */
			u64 address; /* of the page; of the byte with FEATURE_EXACT_ADDRESS */
			u32 ptid;    /* with FEATURE_THREAD_ID, otherwise 0 */
		} pagefault;
		struct {
			struct userfaultfd_ctx *ctx; /* the child's, for the reader to release */
		} fork;
		struct {
			u64 from, to, len;
		} remap;
		struct {
			u64 start, end;
		} remove; /* and unmap */
	} arg;
};

/* ---- a context's life (context.c) ---- */

/* userfaultfd(2) in mm; flags: UAPI_UFFD_USER_MODE_ONLY.  0, -EINVAL, -ENOMEM. */
int userfaultfd_create(struct mm *mm, u32 flags, struct userfaultfd_ctx **ctx);
/* As close(2): all that is registered is not any more, all who wait go on (those who read get
 * -EBADF), and the creator's reference is dropped.  Not twice. */
void userfaultfd_release(struct userfaultfd_ctx *ctx);
void userfaultfd_ctx_get(struct userfaultfd_ctx *ctx);
void userfaultfd_ctx_put(struct userfaultfd_ctx *ctx);

/* UFFDIO_API: *features are asked for, and become all there are; *ioctls: what can be done.  On an
 * error both are 0.  0, -EINVAL (another API, a feature that is unknown, or it was done before). */
int userfaultfd_api(struct userfaultfd_ctx *ctx, u64 api, u64 *features, u64 *ioctls);
/* UFFDIO_REGISTER.  *ioctls: what can be done in the range.  0, -EINVAL, -ENOMEM (the space is
 * gone, or no memory), -EPERM (it may never be written), -EBUSY (another context has it). */
int userfaultfd_register(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, u64 *ioctls);
/* UFFDIO_UNREGISTER, which wakes those who wait in the range.  0, -EINVAL, -ENOMEM. */
int userfaultfd_unregister(struct userfaultfd_ctx *ctx, u64 start, u64 len);
/* UFFDIO_WAKE.  0, -EINVAL. */
int userfaultfd_wake(struct userfaultfd_ctx *ctx, u64 start, u64 len);

/* ---- reading (read.c) ---- */

/*
 * Up to n messages, faults before other events, the oldest first.  Waits for the first if there is
 * none, unless `nonblock`.  How many, or -EAGAIN, -EINVAL (no room, or before UFFDIO_API), -EBADF.
 */
s64 userfaultfd_read(struct userfaultfd_ctx *ctx, struct userfault_msg *msgs, u64 n, bool nonblock);
enum userfault_poll { USERFAULT_POLLIN = 1, USERFAULT_POLLERR = 8, USERFAULT_POLLHUP = 16 };
/* As poll(2): a context that reads would wait in, or before UFFDIO_API, is an error. */
unsigned userfaultfd_poll(struct userfaultfd_ctx *ctx, bool nonblock);

/* As poll(2) without an end: until there is something to read, or the context is released. */
void userfaultfd_wait(struct userfaultfd_ctx *ctx);

/* ---- filling (fill.c) ---- */

/*
 * UFFDIO_COPY: pages of [dst, dst + len) get the bytes at src.  src is an address of the program
 * that `u` names, or (u NULL) of the engine's own memory.  mode: DONTWAKE, COPY_MODE_WP.
 * 0, -EAGAIN (the layout is changing, or not all was done), -EINVAL, -ESRCH (the space is gone),
 * -ENOENT (not within one registered area), -EEXIST (there is a page), -EFAULT (no such bytes at
 * src, or dst is behind the file's end), -ENOMEM.
 */
int userfaultfd_copy(struct userfaultfd_ctx *ctx, const struct uaccess *u, u64 dst, u64 src,
		     u64 len, u64 mode, s64 *done);
/* UFFDIO_ZEROPAGE.  Errors of copy. */
int userfaultfd_zeropage(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done);

/* UFFDIO_CONTINUE: what shared memory has of the range is mapped.  mode: DONTWAKE,
 * CONTINUE_MODE_WP.  Errors of copy; -EFAULT: the file has no such page. */
int userfaultfd_continue(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done);
/* UFFDIO_POISON: who touches the range gets SIGBUS.  Errors of copy. */
int userfaultfd_poison(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done);

/* ---- moving (move.c) ---- */

/*
 * UFFDIO_MOVE: the pages of [src, src + len) go to dst, in the same space, which is the caller's
 * (current_mm).  mode: DONTWAKE, MOVE_MODE_ALLOW_SRC_HOLES.
 * 0, -EAGAIN, -EINVAL (areas of different kinds, or dst is another's, or the caller's space is;
 * also when that of the context is gone), -ESRCH, -ENOENT (no area, or no page at src), -EEXIST (a
 * page at dst), -EBUSY (a page at src is not the space's alone), -EFAULT (poisoned), -ENOMEM.
 */
int userfaultfd_move(struct userfaultfd_ctx *ctx, const struct mm *current_mm, u64 dst, u64 src,
		     u64 len, u64 mode, s64 *done);

/* ---- write-protecting (wp.c) ---- */

/*
 * UFFDIO_WRITEPROTECT: with WRITEPROTECT_MODE_WP, writes to the range are told from now on;
 * without, they are not any more, and who waits to write is woken (not with DONTWAKE).  Holes are
 * left out.  0, -EAGAIN, -EINVAL, -ESRCH, -ENOENT (no area, or one that is not registered for it;
 * those below it are done), -ENOMEM.
 */
int userfaultfd_writeprotect(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode);

#endif
