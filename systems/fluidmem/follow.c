/* SPDX-License-Identifier: MIT */
/*
 * What the program does to its layout, followed.
 *
 * The kernel refuses to fill or move pages of a space (-EAGAIN) from the moment in which its layout
 * changes until its handler has read of it; so what the monitor knows of a page is true for the
 * layout that the event speaks of.  A removal is told before it is done: its pages are off the list
 * before that, so that nobody saves what is about to be dropped.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/machine.h"
#include "systems/fluidmem/internal.h"

/* ---- unmapped, dropped ---- */

/* The writer looks at a page once more, though it was stolen.  fm->lock held, dropped in between.
 */
static void wait_for_writer(struct fluidmem *fm, const struct fm_page *p)
{
	fm_wait_until_settled(fm, p);
	while (fm->in_hand == p) {
		pthread_cond_wait(&fm->changed, &fm->lock);
		fm_wait_until_settled(fm, p);
	}
}

static void forget_page(struct fluidmem *fm, struct fm_page *p)
{
	fm_wait_until_settled(fm, p);
	if (p->state == RESIDENT)
		fm_take_off(fm, p);
	else if (p->state == WRITING)
		fm_buffer_put(fm_steal(fm, p));
	else if (p->state == STORED)
		fm_drop_slot(fm, p);
	fm_settle(fm, p, ZEROS);
	wait_for_writer(fm, p);
}

void fm_forget(struct fluidmem_space *s, u64 start, u64 end)
{
	for (struct fm_region *r = s->regions; r; r = r->next)
		for (u64 i = 0; i < r->nr; i++)
			if (r->pages[i].va >= start && r->pages[i].va < end)
				forget_page(s->fm, &r->pages[i]);
}

/*
 * Those that are unmapped as a whole, and forgotten.  Nobody holds on to a page of theirs: none is
 * in anybody's hands, and who waits for a page looks for it again afterwards.  (What is unmapped
 * part by part stays until the space ends; a region that is mapped in its place is found first.)
 */
static void drop_regions(struct fluidmem_space *s, u64 start, u64 end)
{
	struct fm_region **at = &s->regions, *r;

	while (!s->walkers && (r = *at)) {
		if (r->start >= start && r->start + r->nr * PAGE_SIZE <= end) {
			*at = r->next;
			free(r);
		} else {
			at = &r->next;
		}
	}
}

/* ---- moved ---- */

/* What `from` is is `to` now, which is nothing and nobody knows yet. */
static void move_page(struct fluidmem *fm, struct fm_page *from, struct fm_page *to)
{
	wait_for_writer(fm, from);
	to->state = from->state;
	to->slot = from->slot;
	to->poisoned = from->poisoned;
	to->buffer = from->buffer;
	if (!list_empty(&from->link)) {
		list_add(&to->link, &from->link);
		list_del(&from->link);
		list_init(&from->link);
	}
	from->buffer = NULL;
	from->state = ZEROS;
}

/* fm->lock held, dropped in between. */
static void follow_remap(struct fluidmem_space *s, u64 from, u64 to, u64 len)
{
	struct fm_region *r = fm_region_new(s, to, len >> PAGE_SHIFT);
	struct fm_page *p;

	if (!r) {
		/* Zeros in place of bytes would be a lie. */
		machine_panic("fluidmem: no memory to follow a move");
	}
	for (u64 i = 0; i < r->nr; i++) {
		p = fm_find_page(s, from + i * PAGE_SIZE);
		if (p)
			move_page(s->fm, p, &r->pages[i]);
	}
	r->next = s->regions;
	s->regions = r;
}

/* ---- born ---- */

/* A page of the child's, as its parent's is.  Resident ones come to the list when it is served. */
static void copy_page(struct fluidmem *fm, const struct fm_page *p, struct fm_page *child)
{
	fm_wait_until_settled(fm, p);
	child->state = p->state;
	child->poisoned = p->poisoned;
	if (p->state == STORED) {
		child->slot = p->slot;
		fm->slot_users[p->slot]++;
		fm->stats.stored++;
	} else if (p->state == WRITING) {
		p->buffer->users++;
		fm_put_back(fm, child, p->buffer);
	}
}

/* All regions of the space, the newest first, as there. */
static int copy_regions(const struct fluidmem_space *s, struct fluidmem_space *child)
{
	struct fm_region **last = &child->regions;

	for (const struct fm_region *r = s->regions; r; r = r->next) {
		*last = fm_region_new(child, r->start, r->nr);
		if (!*last)
			return -ENOMEM;
		for (u64 i = 0; i < r->nr; i++)
			copy_page(s->fm, &r->pages[i], &(*last)->pages[i]);
		last = &(*last)->next;
	}
	return 0;
}

/* fm->lock held, dropped in between. */
static void follow_fork(struct fluidmem_space *s, struct userfaultfd_ctx *ctx)
{
	struct fluidmem_space *child = calloc(1, sizeof(*child));
	int err = child ? 0 : -ENOMEM;

	if (!err) {
		child->fm = s->fm;
		child->ctx = ctx;
		child->stage = s->stage;
		pthread_mutex_init(&child->stage_lock, NULL);
		err = copy_regions(s, child);
	}
	if (err) {
		userfaultfd_release(ctx);
		if (child) {
			child->ctx = NULL;
			fm_forget(child, 0, ~0ULL);
			child->stage = 0;
			fm_free_space(child);
		}
	}
	s->born = err ? NULL : child;
	s->stillborn = err;
	pthread_cond_broadcast(&s->fm->changed);
}

/* The child's stage is a copy of its parent's, with what was there in that moment. */
static int give_stage(struct fluidmem_space *child)
{
	int err = fm_open_context(child->fm, child->mm, 0, &child->stage_ctx);

	if (err)
		return err;
	fm_called(child->fm, FLUIDMEM_EMPTY_STAGE);
	vm_advise(child->mm, child->stage, PAGE_SIZE, VADV_DONTNEED);
	fm_returned(child->fm, FLUIDMEM_EMPTY_STAGE);
	return fm_register_stage(child);
}

static void list_resident(struct fluidmem_space *s)
{
	for (struct fm_region *r = s->regions; r; r = r->next)
		for (u64 i = 0; i < r->nr; i++)
			if (r->pages[i].state == RESIDENT)
				fm_settle(s->fm, &r->pages[i], RESIDENT);
}

int fluidmem_adopt(struct fluidmem_space *s, struct mm *mm, fluidmem_read_fn read, void *arg,
		   struct fluidmem_space **out)
{
	struct fluidmem *fm = s->fm;
	struct fluidmem_space *child;
	int err;

	pthread_mutex_lock(&fm->lock);
	while (!s->born && !s->stillborn)
		pthread_cond_wait(&fm->changed, &fm->lock);
	child = s->born;
	s->born = NULL;
	s->stillborn = false;
	pthread_mutex_unlock(&fm->lock);
	if (!child)
		return -ENOMEM;
	child->mm = mm;
	child->read = read;
	child->arg = arg;
	err = give_stage(child);
	if (!err)
		err = fm_start(child);
	pthread_mutex_lock(&fm->lock);
	if (!err) {
		list_resident(child);
		fm_evict_if_needed(fm);
		*out = child;
	} else {
		fm_forget(child, 0, ~0ULL);
	}
	pthread_mutex_unlock(&fm->lock);
	if (err) {
		userfaultfd_release(child->ctx);
		child->ctx = NULL;
		fm_free_space(child);
	}
	return err;
}

/* ---- all of them ---- */

void fm_follow(struct fluidmem_space *s, const struct userfault_msg *msg)
{
	struct fluidmem *fm = s->fm;

	pthread_mutex_lock(&fm->lock);
	switch (msg->event) {
	case UAPI_UFFD_EVENT_UNMAP:
	case UAPI_UFFD_EVENT_REMOVE:
		fm_forget(s, msg->arg.remove.start, msg->arg.remove.end);
		if (msg->event == UAPI_UFFD_EVENT_UNMAP)
			drop_regions(s, msg->arg.remove.start, msg->arg.remove.end);
		break;
	case UAPI_UFFD_EVENT_REMAP:
		follow_remap(s, msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
		break;
	case UAPI_UFFD_EVENT_FORK:
		follow_fork(s, msg->arg.fork.ctx);
		break;
	default:
		break;
	}
	pthread_mutex_unlock(&fm->lock);
}
