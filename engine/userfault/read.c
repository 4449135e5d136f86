/* SPDX-License-Identifier: MIT */
/* The monitor's side: what happened? */
#include "engine/userfault/internal.h"
#include "engine/userfault/wait.h"

/* ctx->lock held. */
static bool read_fault(struct userfaultfd_ctx *ctx, struct userfault_msg *msg)
{
	struct userfault_wait *w;

	if (list_empty(&ctx->pending))
		return false;
	w = list_first_entry(&ctx->pending, struct userfault_wait, link);
	*msg = w->msg;
	list_move(&w->link, &ctx->waiting);
	return true;
}

static bool read_event(struct userfaultfd_ctx *ctx, struct userfault_msg *msg)
{
	struct userfault_wait *w;

	if (list_empty(&ctx->events))
		return false;
	w = list_first_entry(&ctx->events, struct userfault_wait, link);
	*msg = w->msg;
	w->read = true;
	list_del(&w->link);
	atomic_store_explicit(&w->asleep, 0, memory_order_release);
	machine_wake(&w->asleep, 1);
	return true;
}

static bool read_one(struct userfaultfd_ctx *ctx, struct userfault_msg *msg)
{
	bool found;

	spin_lock(&ctx->lock);
	found = read_fault(ctx, msg) || read_event(ctx, msg);
	spin_unlock(&ctx->lock);
	return found;
}

s64 userfaultfd_read(struct userfaultfd_ctx *ctx, struct userfault_msg *msgs, u64 n, bool nonblock)
{
	u64 got = 0;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED) || !n)
		return -EINVAL;
	while (got < n) {
		u32 news = atomic_load_explicit(&ctx->news, memory_order_acquire);

		if (read_one(ctx, &msgs[got])) {
			got++;
			continue;
		}
		if (got)
			break;
		if (atomic_load(&ctx->released))
			return -EBADF;
		if (nonblock)
			return -EAGAIN;
		/* Whoever adds something changes the word afterwards. */
		machine_wait(&ctx->news, news);
	}
	return (s64)got;
}

unsigned userfaultfd_poll(struct userfaultfd_ctx *ctx, bool nonblock)
{
	unsigned ready = atomic_load(&ctx->released) ? USERFAULT_POLLHUP : 0;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED) || !nonblock)
		return USERFAULT_POLLERR;
	spin_lock(&ctx->lock);
	if (!list_empty(&ctx->pending) || !list_empty(&ctx->events))
		ready |= USERFAULT_POLLIN;
	spin_unlock(&ctx->lock);
	return ready;
}

void userfaultfd_wait(struct userfaultfd_ctx *ctx)
{
	for (;;) {
		u32 news = atomic_load_explicit(&ctx->news, memory_order_acquire);

		if (userfaultfd_poll(ctx, true))
			return;
		machine_wait(&ctx->news, news);
	}
}
