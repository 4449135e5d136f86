/* SPDX-License-Identifier: MIT */
/*
 * Changes of the layout, told to monitors that asked for it.
 *
 *   1  with mmap_lock held, while the change is made, an event is prepared: from here on operations
 *      of the context say -EAGAIN (ctx->mmap_changing), for what they want to fill may be gone;
 *   2  the lock is dropped, the event is put where it is read, and the caller waits for that;
 *   3  operations may go on.
 *
 * An event about to be told waits in mm->userfault_events, in the order in which it happened.  One
 * thing is told before it happens: the removal of pages, so that the monitor knows that what it
 * fills there from then on is to stay empty.
 */
#include "engine/engine.h"
#include "engine/userfault/internal.h"
#include "engine/userfault/wait.h"

struct userfault_event {
	struct list_head link; /* mm->userfault_events */
	struct userfaultfd_ctx *ctx;
	struct userfault_wait wait;
};

static void event_init(struct userfault_event *ev, struct userfaultfd_ctx *ctx,
		       enum uapi_uffd_event what)
{
	ev->ctx = ctx;
	ev->wait.msg.event = what;
	list_init(&ev->wait.link);
	atomic_init(&ev->wait.asleep, 1);
	userfaultfd_ctx_get(ctx);
	down_write(&ctx->map_changing_lock);
	atomic_fetch_add(&ctx->mmap_changing, 1);
	up_write(&ctx->map_changing_lock);
}

/* It is over, or does not happen. */
static void event_done(struct userfault_event *ev)
{
	atomic_fetch_sub(&ev->ctx->mmap_changing, 1);
	userfaultfd_ctx_put(ev->ctx);
}

/* Tell it, and wait until it has been read.  False: nobody will, the context is released. */
static bool event_tell(struct userfault_event *ev)
{
	struct userfaultfd_ctx *ctx = ev->ctx;

	spin_lock(&ctx->lock);
	list_add_tail(&ev->wait.link, &ctx->events);
	spin_unlock(&ctx->lock);
	userfaultfd_tell(ctx);
	/* Who releases it says so first, and then wakes those who are in the list. */
	while (atomic_load_explicit(&ev->wait.asleep, memory_order_acquire) &&
	       !atomic_load(&ctx->released))
		machine_wait(&ev->wait.asleep, 1);
	spin_lock(&ctx->lock);
	list_del(&ev->wait.link);
	spin_unlock(&ctx->lock);
	return ev->wait.read;
}

/* An event of mm's, which holds its mmap_lock for writing; NULL: no memory. */
static struct userfault_event *event_new(struct mm *mm, struct userfaultfd_ctx *ctx,
					 enum uapi_uffd_event what)
{
	struct engine *e = mm->engine;
	struct userfault_event *ev = e->memory.alloc(e->memory.ctx, sizeof(*ev));

	if (!ev)
		return NULL;
	event_init(ev, ctx, what);
	list_add_tail(&ev->link, &mm->userfault_events);
	return ev;
}

static void event_free(struct userfault_event *ev)
{
	struct engine *e = ev->ctx->engine;

	event_done(ev);
	e->memory.free(e->memory.ctx, ev, sizeof(*ev));
}

static void take_events(struct mm *mm, struct list_head *to)
{
	list_init(to);
	while (!list_empty(&mm->userfault_events))
		list_move_tail(mm->userfault_events.next, to);
}

void userfaultfd_unlock_and_tell(struct mm *mm)
{
	struct list_head events;

	take_events(mm, &events);
	up_write(&mm->mmap_lock);
	while (!list_empty(&events)) {
		struct userfault_event *ev =
			list_first_entry(&events, struct userfault_event, link);
		struct userfaultfd_ctx *child = ev->wait.msg.event == UAPI_UFFD_EVENT_FORK
							? ev->wait.msg.arg.fork.ctx
							: NULL;

		list_del(&ev->link);
		if (!event_tell(ev) && child)
			userfaultfd_release(child);
		event_free(ev);
	}
}

/* ---- munmap ---- */

static bool is_known(const struct mm *mm, const struct userfaultfd_ctx *ctx, u64 start, u64 end)
{
	const struct userfault_event *ev;

	list_for_each_entry (ev, &mm->userfault_events, link)
		if (ev->ctx == ctx && ev->wait.msg.event == UAPI_UFFD_EVENT_UNMAP &&
		    ev->wait.msg.arg.remove.start == start && ev->wait.msg.arg.remove.end == end)
			return true;
	return false;
}

int userfaultfd_unmap_prep(struct mm *mm, u64 start, u64 end)
{
	struct vma *vma = find_vma(mm, start);
	struct userfault_event *ev;

	for (; vma && vma->start < end; vma = vma_next(vma)) {
		if (!vma->uffd || !userfaultfd_has(vma->uffd, UAPI_UFFD_FEATURE_EVENT_UNMAP) ||
		    is_known(mm, vma->uffd, start, end))
			continue;
		ev = event_new(mm, vma->uffd, UAPI_UFFD_EVENT_UNMAP);
		if (!ev)
			return -ENOMEM;
		ev->wait.msg.arg.remove.start = start;
		ev->wait.msg.arg.remove.end = end;
	}
	return 0;
}

/* ---- mremap ---- */

void userfaultfd_reset(struct vma *vma)
{
	vma->uffd = NULL;
	__atomic_store_n(&vma->flags, vma->flags & ~(u32)VM_UFFD, __ATOMIC_RELAXED);
}

bool userfaultfd_follows(const struct vma *vma)
{
	return userfaultfd_has(vma->uffd, UAPI_UFFD_FEATURE_EVENT_REMAP);
}

int userfaultfd_remap_prep(const struct vma *vma, u64 from, u64 to, u64 len)
{
	struct userfault_event *ev;

	if (!userfaultfd_follows(vma))
		return 0;
	ev = event_new(vma->mm, vma->uffd, UAPI_UFFD_EVENT_REMAP);
	if (!ev)
		return -ENOMEM;
	ev->wait.msg.arg.remap.from = from;
	ev->wait.msg.arg.remap.to = to;
	ev->wait.msg.arg.remap.len = len;
	return 0;
}

void userfaultfd_remap_done(struct vma *moved, u64 to, u64 len)
{
	struct userfaultfd_ctx *ctx = moved->uffd;

	if (userfaultfd_follows(moved))
		return;
	/* Who does not want to know where it went loses it; in Linux together with the neighbours
	 * that it has been merged with, and without a second try to merge. */
	uffd_wp_range(moved, to, to + len, UFFD_WP_FORGET);
	wake_userfault(ctx, moved->start, moved->end - moved->start);
	userfaultfd_reset(moved);
	moved->mm->unmerged = true;
}

void userfaultfd_remap_fail(const struct vma *vma)
{
	struct list_head *events = &vma->mm->userfault_events;
	struct userfault_event *ev = list_last_entry(events, struct userfault_event, link);

	if (list_empty(events) || ev->wait.msg.event != UAPI_UFFD_EVENT_REMAP)
		return;
	list_del(&ev->link);
	event_free(ev);
}

/* ---- fork ---- */

/* The context of the child that stands for ctx, if there is one already. */
static struct userfaultfd_ctx *find_child(const struct mm *parent,
					  const struct userfaultfd_ctx *ctx)
{
	const struct userfault_event *ev;

	list_for_each_entry (ev, &parent->userfault_events, link)
		if (ev->ctx == ctx && ev->wait.msg.event == UAPI_UFFD_EVENT_FORK)
			return ev->wait.msg.arg.fork.ctx;
	return NULL;
}

int dup_userfaultfd(struct vma *child, const struct vma *vma)
{
	struct userfaultfd_ctx *ctx = vma->uffd, *new;
	struct userfault_event *ev;

	if (!userfaultfd_has(ctx, UAPI_UFFD_FEATURE_EVENT_FORK))
		return 0; /* as it is: nobody's */
	new = find_child(vma->mm, ctx);
	if (!new) {
		new = userfaultfd_ctx_new(child->mm, ctx->flags, atomic_load(&ctx->features));
		if (!new)
			return -ENOMEM;
		ev = event_new(vma->mm, ctx, UAPI_UFFD_EVENT_FORK);
		if (!ev) {
			userfaultfd_ctx_put(new);
			return -ENOMEM;
		}
		ev->wait.msg.arg.fork.ctx = new;
	}
	child->uffd = new;
	child->flags |= vma->flags & VM_UFFD;
	return 0;
}

void dup_userfaultfd_fail(struct mm *parent, struct list_head *events)
{
	take_events(parent, events);
}

void dup_userfaultfd_forget(struct list_head *events)
{
	while (!list_empty(events)) {
		struct userfault_event *ev = list_first_entry(events, struct userfault_event, link);

		list_del(&ev->link);
		userfaultfd_ctx_put(ev->wait.msg.arg.fork.ctx);
		event_free(ev);
	}
}

/* ---- madvise ---- */

bool userfaultfd_remove(struct vma *vma, u64 start, u64 end)
{
	struct userfault_event ev = { 0 };

	if (!userfaultfd_has(vma->uffd, UAPI_UFFD_FEATURE_EVENT_REMOVE))
		return true;
	event_init(&ev, vma->uffd, UAPI_UFFD_EVENT_REMOVE);
	ev.wait.msg.arg.remove.start = start;
	ev.wait.msg.arg.remove.end = end;
	up_read(&vma->mm->mmap_lock);
	event_tell(&ev);
	event_done(&ev);
	return false;
}
