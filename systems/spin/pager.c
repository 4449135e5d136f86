/* SPDX-License-Identifier: MIT */
/*
 * A fault in the object:
 *
 *   1. Is the address one of the range's?  Otherwise it is another handler's fault.
 *   2. The page is claimed, so that of several CPUs that fault on it one supplies it.
 *   3. A frame that is Reclaimed is made Active again; otherwise PhysAddr gives one, and it is
 * filled from what was written back, or by the object.
 *   4. From here on Repossess finds the page by its frame, so that nothing is lost.
 *   5. Translation.AddMapping.  The frame may have been taken back meanwhile: once more from 3.
 *
 * No lock is held while a frame is asked for, for that may take another page of this object away.
 */
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/spin/memory.h"
#include "systems/spin/pager.h"
#include "systems/spin/spin.h"

#define NO_FRAME 0

static const struct ledger_actor actor = { .name = "the pager", .ring = 0, .domain = 1 };

struct object_page {
	s64 frame;    /* a handle, maybe of one that is gone; or NO_FRAME */
	bool claimed; /* a CPU is at it */
	bool written; /* back: its bytes are in the store */
};

struct spin_pager {
	struct spin_services *services;
	struct spin_dispatcher *dispatcher;
	u32 extension;
	u64 map, start, nr;
	s64 range, fault_handle, repossess_handle;
	spin_fill_fn fill;
	void *arg;
	_Atomic u64 nr_written, nr_read, hand;
	spinlock_t lock; /* of pages and store */
	struct object_page *pages;
	u8 (*store)[PAGE_SIZE];
};

/* ---- claims ---- */

/* False: another CPU is at it.  *frame: what it has so far. */
static bool claim_page(struct spin_pager *p, u64 page, s64 *frame)
{
	struct object_page *at = &p->pages[page];
	bool was;

	spin_lock(&p->lock);
	was = at->claimed;
	at->claimed = true;
	*frame = at->frame;
	spin_unlock(&p->lock);
	return !was;
}

static void unclaim_page(struct spin_pager *p, u64 page)
{
	spin_lock(&p->lock);
	p->pages[page].claimed = false;
	spin_unlock(&p->lock);
}

static void set_frame(struct spin_pager *p, u64 page, s64 frame)
{
	spin_lock(&p->lock);
	p->pages[page].frame = frame;
	spin_unlock(&p->lock);
}

/* ---- a frame goes ---- */

/* The page that has the frame; p->nr: none yet, so nobody has written to it.  Lock held. */
static u64 page_with(const struct spin_pager *p, s64 frame)
{
	u64 page = 0;

	while (page < p->nr && p->pages[page].frame != frame)
		page++;
	return page;
}

/* Its bytes are read, and stored where they belong.  False: it is gone. */
static bool write_back(struct spin_pager *p, s64 frame)
{
	u8 bytes[PAGE_SIZE];
	u64 page;

	if (spin_phys_read(p->services, p->extension, frame, 0, bytes, PAGE_SIZE))
		return false;
	ledger_step(&actor, "writes the page back before its frame goes", 0);
	spin_lock(&p->lock);
	page = page_with(p, frame);
	if (page < p->nr) {
		memcpy(p->store[page], bytes, PAGE_SIZE);
		p->pages[page].frame = NO_FRAME;
		p->pages[page].written = true;
		atomic_fetch_add(&p->nr_written, 1);
		ledger_count(PAID_IO_WRITES);
	}
	spin_unlock(&p->lock);
	return true;
}

static void hear_of_repossess(void *closure, struct spin_fault *f)
{
	write_back(closure, f->frame);
}

/* Of a page that is claimed: it goes, and its frame is free. */
static bool give_up(struct spin_pager *p, s64 frame)
{
	int err = spin_phys_change_state(p->services, p->extension, frame, SPIN_RECLAIMED);

	/* From now on nobody writes to it. */
	if ((err && err != -EINVAL) || !write_back(p, frame))
		return false;
	spin_phys_deallocate(p->services, p->extension, frame);
	return true;
}

/* The object has all that it may have: one of its pages makes room for another. */
static bool make_room(struct spin_pager *p)
{
	bool made = false;

	for (u64 i = 0; i < p->nr && !made; i++) {
		u64 page = atomic_fetch_add(&p->hand, 1) % p->nr;
		s64 frame;

		if (!claim_page(p, page, &frame))
			continue;
		made = frame != NO_FRAME && give_up(p, frame);
		unclaim_page(p, page);
	}
	return made;
}

/* ---- a fault ---- */

/* A fresh frame with the page's bytes, or -ENOMEM, -ESTALE, -EBADF. */
static s64 supply(struct spin_pager *p, u64 page)
{
	s64 frame = spin_phys_allocate(p->services, p->extension);
	u8 bytes[PAGE_SIZE] = { 0 };
	bool written;
	int err;

	if (frame == -ENOMEM && make_room(p))
		frame = spin_phys_allocate(p->services, p->extension);
	if (frame < 0)
		return frame;
	spin_lock(&p->lock);
	written = p->pages[page].written;
	if (written)
		memcpy(bytes, p->store[page], PAGE_SIZE);
	spin_unlock(&p->lock);
	if (written) {
		atomic_fetch_add(&p->nr_read, 1);
		ledger_count(PAID_IO_READS);
	} else if (p->fill) {
		p->fill(p->arg, page, bytes);
	}
	err = spin_phys_write(p->services, p->extension, frame, 0, bytes, PAGE_SIZE);
	return err ? err : frame;
}

/* Is its frame good still, or again?  0; -EBUSY: it is going just now; -EBADF: it is gone. */
static int react(struct spin_pager *p, s64 frame)
{
	int err = spin_phys_change_state(p->services, p->extension, frame, SPIN_ACTIVE);

	return err == -EINVAL ? 0 : err; /* it was Active */
}

/* One try, of a page that is claimed.  0; -EBUSY; -ESTALE, -EBADF, -EAGAIN: once more; -ENOMEM. */
static int bring(struct spin_pager *p, u64 page, s64 frame)
{
	int err = frame == NO_FRAME ? -EBADF : react(p, frame);

	if (err == -EBUSY)
		return err;
	if (err) {
		frame = supply(p, page);
		if (frame < 0)
			return (int)frame;
		set_frame(p, page, frame);
	}
	err = spin_add_mapping(p->services, p->extension, p->map, frame, p->range, page,
			       VM_READ | VM_WRITE);
	return err == -EEXIST ? 0 : err; /* another CPU's fault was first */
}

static enum fault_reason resolve(struct spin_pager *p, u64 page)
{
	for (unsigned tries = 0; tries < SPIN_STALE_TRIES; tries++) {
		s64 frame;
		int err = -EBUSY;

		if (claim_page(p, page, &frame)) {
			err = bring(p, page, frame);
			unclaim_page(p, page);
		}
		if (!err)
			return FAULT_OK;
		if (err == -EBUSY) { /* others have to come on */
			sched_yield();
			return FAULT_RETRY;
		}
		if (err == -ENOMEM)
			break;
		ledger_count(PAID_RETRIES);
	}
	return FAULT_OOM;
}

static void field(void *closure, struct spin_fault *f)
{
	struct spin_pager *p = closure;
	u64 page = (f->va - p->start) / PAGE_SIZE;

	if (f->done || f->va < p->start || page >= p->nr)
		return;
	ledger_step(&actor, "the address is its object's: it supplies the page", f->va);
	f->result.reason = resolve(p, page);
	f->done = f->result.reason == FAULT_OK || f->result.reason == FAULT_RETRY;
}

/* ---- its life ---- */

static s64 install(struct spin_pager *p, enum spin_event event, spin_handler_fn handler, u64 key)
{
	struct spin_installation i = { .extension = p->extension,
				       .event = event,
				       .order = SPIN_FIRST,
				       .handler = handler,
				       .closure = p,
				       .key = key };

	return spin_install(p->dispatcher, &i);
}

static void uninstall(struct spin_pager *p, s64 handle)
{
	if (handle > 0)
		spin_uninstall(p->dispatcher, p->extension, handle);
}

void spin_pager_destroy(struct spin_pager *p)
{
	uninstall(p, p->fault_handle);
	uninstall(p, p->repossess_handle);
	if (p->range > 0)
		spin_virt_deallocate(p->services, p->extension, p->range);
	for (u64 i = 0; p->pages && i < p->nr; i++)
		if (p->pages[i].frame > 0)
			spin_phys_deallocate(p->services, p->extension, p->pages[i].frame);
	free(p->pages);
	free(p->store);
	free(p);
}

/* 0, or why not. */
static int begin(struct spin_pager *p)
{
	if (!p->pages || !p->store)
		return -ENOMEM;
	p->range = spin_virt_allocate(p->services, p->extension, p->map, p->nr);
	if (p->range < 0)
		return (int)p->range;
	spin_virt_address(p->services, p->extension, p->range, &p->start);
	p->repossess_handle =
		install(p, SPIN_REPOSSESS, hear_of_repossess, spin_frames_of(p->extension));
	if (p->repossess_handle < 0)
		return (int)p->repossess_handle;
	p->fault_handle = install(p, SPIN_INVALID_TRANSLATION, field, p->map);
	return (int)min_of(p->fault_handle, (s64)0);
}

int spin_pager_create(struct system *s, u32 extension, unsigned process, u64 pages,
		      spin_fill_fn fill, void *arg, struct spin_pager **pager)
{
	struct spin_pager *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return -ENOMEM;
	p->services = spin_services_of(s);
	p->dispatcher = spin_dispatcher_of(s);
	p->extension = extension;
	p->map = spin_key_of(s, process);
	p->nr = pages;
	p->fill = fill;
	p->arg = arg;
	spin_init(&p->lock);
	p->pages = calloc(pages, sizeof(p->pages[0]));
	p->store = calloc(pages, sizeof(p->store[0]));
	err = begin(p);
	if (err)
		spin_pager_destroy(p);
	else
		*pager = p;
	return err;
}

s64 spin_pager_frame(struct spin_pager *p, u64 page)
{
	s64 frame;

	spin_lock(&p->lock);
	frame = p->pages[page].frame;
	spin_unlock(&p->lock);
	return frame;
}

u64 spin_pager_address(const struct spin_pager *p)
{
	return p->start;
}

u64 spin_pager_written(const struct spin_pager *p)
{
	return atomic_load(&p->nr_written);
}

u64 spin_pager_read(const struct spin_pager *p)
{
	return atomic_load(&p->nr_read);
}
