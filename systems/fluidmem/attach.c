/* SPDX-License-Identifier: MIT */
/* The monitor's users: what it serves, and how much of it. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "systems/fluidmem/internal.h"

/* ---- set-up ---- */

static void free_monitor(struct fluidmem *fm)
{
	free(fm->free_slots);
	free(fm->slot_users);
	free(fm);
}

int fluidmem_create(const struct fluidmem_config *config, struct fluidmem **out)
{
	struct fluidmem *fm;

	if (!config->capacity || !config->store)
		return -EINVAL;
	fm = calloc(1, sizeof(*fm));
	if (!fm)
		return -ENOMEM;
	fm->free_slots = calloc(config->store->nr_slots, sizeof(u64));
	fm->slot_users = calloc(config->store->nr_slots, sizeof(u32));
	if (!fm->free_slots || !fm->slot_users) {
		free_monitor(fm);
		return -ENOMEM;
	}
	for (u64 i = config->store->nr_slots; i--;)
		fm->free_slots[fm->nr_free_slots++] = i;
	fm->config = *config;
	list_init(&fm->lru);
	list_init(&fm->writes);
	list_init(&fm->spaces);
	pthread_mutex_init(&fm->lock, NULL);
	pthread_cond_init(&fm->changed, NULL);
	pthread_cond_init(&fm->work, NULL);
	if (pthread_create(&fm->writer, NULL, fm_writer, fm)) {
		free_monitor(fm);
		return -ENOMEM;
	}
	*out = fm;
	return 0;
}

void fluidmem_destroy(struct fluidmem *fm)
{
	pthread_mutex_lock(&fm->lock);
	fm->end = true;
	pthread_cond_broadcast(&fm->work);
	pthread_mutex_unlock(&fm->lock);
	pthread_join(fm->writer, NULL);
	free_monitor(fm);
}

int fm_open_context(struct fluidmem *fm, struct mm *mm, u64 features, struct userfaultfd_ctx **ctx)
{
	u64 ioctls;
	int err;

	fm_called(fm, FLUIDMEM_OPEN);
	err = userfaultfd_create(mm, 0, ctx);
	fm_returned(fm, FLUIDMEM_OPEN);
	if (err)
		return err;
	fm_called(fm, FLUIDMEM_API);
	err = userfaultfd_api(*ctx, UAPI_UFFD_API, &features, &ioctls);
	fm_returned(fm, FLUIDMEM_API);
	return err;
}

static int register_range(struct fluidmem *fm, struct userfaultfd_ctx *ctx, u64 start, u64 len)
{
	u64 ioctls;
	int err;

	fm_called(fm, FLUIDMEM_REGISTER);
	err = userfaultfd_register(ctx, start, len, UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls);
	fm_returned(fm, FLUIDMEM_REGISTER);
	return err;
}

static int make_stage(struct fluidmem_space *s)
{
	s64 at;

	fm_called(s->fm, FLUIDMEM_MAP_STAGE);
	at = vm_map(s->mm, 0, PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
	fm_returned(s->fm, FLUIDMEM_MAP_STAGE);
	if (at < 0)
		return (int)at;
	s->stage = (u64)at;
	return fm_register_stage(s);
}

int fm_register_stage(struct fluidmem_space *s)
{
	return register_range(s->fm, s->stage_ctx, s->stage, PAGE_SIZE);
}

void fm_free_space(struct fluidmem_space *s)
{
	struct fm_region *r;

	if (s->ctx)
		userfaultfd_ctx_put(s->ctx);
	if (s->stage_ctx)
		userfaultfd_release(s->stage_ctx);
	if (s->stage)
		vm_unmap(s->mm, s->stage, PAGE_SIZE);
	while ((r = s->regions)) {
		s->regions = r->next;
		free(r);
	}
	free(s);
}

/* Who watches sees the handler begin within the call that makes it. */
static int make_handler(struct fluidmem_space *s)
{
	int err;

	fm_called(s->fm, FLUIDMEM_CLONE);
	err = pthread_create(&s->handler, NULL, fm_handler, s) ? -ENOMEM : 0;
	while (!err && s->fm->config.watch && !atomic_load(&s->sleeps))
		sched_yield();
	fm_returned(s->fm, FLUIDMEM_CLONE);
	return err;
}

int fm_start(struct fluidmem_space *s)
{
	struct fluidmem *fm = s->fm;

	userfaultfd_ctx_get(s->ctx); /* the handler's, while it reads */
	if (make_handler(s)) {
		userfaultfd_ctx_put(s->ctx);
		return -ENOMEM;
	}
	pthread_mutex_lock(&fm->lock);
	list_add_tail(&s->link, &fm->spaces);
	pthread_mutex_unlock(&fm->lock);
	return 0;
}

int fluidmem_attach(struct fluidmem *fm, struct mm *mm, fluidmem_read_fn read, void *arg,
		    struct fluidmem_space **out)
{
	struct fluidmem_space *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	s->fm = fm;
	s->mm = mm;
	s->read = read;
	s->arg = arg;
	pthread_mutex_init(&s->stage_lock, NULL);
	err = fm_open_context(fm, mm,
			      UAPI_UFFD_FEATURE_EVENT_FORK | UAPI_UFFD_FEATURE_EVENT_REMAP |
				      UAPI_UFFD_FEATURE_EVENT_REMOVE |
				      UAPI_UFFD_FEATURE_EVENT_UNMAP,
			      &s->ctx);
	if (!err)
		err = fm_open_context(fm, mm, 0, &s->stage_ctx);
	if (!err)
		err = make_stage(s);
	if (!err)
		err = fm_start(s);
	if (err)
		fm_free_space(s);
	else
		*out = s;
	return err;
}

struct fm_region *fm_region_new(struct fluidmem_space *s, u64 start, u64 nr)
{
	struct fm_region *r = calloc(1, sizeof(*r) + nr * sizeof(struct fm_page));

	if (!r)
		return NULL;
	r->start = start;
	r->nr = nr;
	for (u64 i = 0; i < nr; i++) {
		r->pages[i].space = s;
		r->pages[i].va = start + i * PAGE_SIZE;
		list_init(&r->pages[i].link);
	}
	return r;
}

int fluidmem_add_region(struct fluidmem_space *s, u64 start, u64 len)
{
	struct fm_region *r = fm_region_new(s, start, len >> PAGE_SHIFT);
	int err;

	if (!r)
		return -ENOMEM;
	/* Its faults can come as soon as it is registered: they wait for the lock. */
	pthread_mutex_lock(&s->fm->lock);
	err = register_range(s->fm, s->ctx, start, len);
	if (!err) {
		r->next = s->regions;
		s->regions = r;
	}
	pthread_mutex_unlock(&s->fm->lock);
	if (err)
		free(r);
	return err;
}

/* The layout is changing. */
static int wait_a_moment(struct fluidmem *fm)
{
	pthread_mutex_unlock(&fm->lock);
	sched_yield();
	pthread_mutex_lock(&fm->lock);
	return 0;
}

/* Every page that is out comes in.  fm->lock held, dropped in between. */
static int bring_all_in(struct fluidmem_space *s)
{
	enum fluidmem_bucket how;
	int err = 0;

	for (struct fm_region *r = s->regions; r && !err; r = r->next)
		for (u64 i = 0; i < r->nr && !err; i++) {
			struct fm_page *p = &r->pages[i];

			do {
				fm_wait_until_settled(s->fm, p);
				if (p->state != STORED && p->state != WRITING)
					break;
				err = fm_bring_in(s->fm, p, false, &how);
			} while (err == -EAGAIN && !wait_a_moment(s->fm));
		}
	return err;
}

/* Nobody serves it any more.  What is out is nothing that anybody wants. */
static void let_go(struct fluidmem_space *s)
{
	struct fluidmem *fm = s->fm;

	userfaultfd_release(s->ctx);
	pthread_join(s->handler, NULL);
	pthread_mutex_lock(&fm->lock);
	fm_forget(s, 0, ~0ULL);
	list_del(&s->link);
	pthread_mutex_unlock(&fm->lock);
	fm_free_space(s);
}

int fluidmem_detach(struct fluidmem_space *s)
{
	struct fluidmem *fm = s->fm;
	int err;

	pthread_mutex_lock(&fm->lock);
	s->leaving = true;
	s->walkers++;
	err = bring_all_in(s);
	s->walkers--;
	if (err)
		s->leaving = false;
	pthread_mutex_unlock(&fm->lock);
	/* What is out now was never anything but zeros, as it will be without us. */
	if (!err)
		let_go(s);
	return err;
}

void fluidmem_drop(struct fluidmem_space *s)
{
	pthread_mutex_lock(&s->fm->lock);
	s->leaving = true;
	pthread_mutex_unlock(&s->fm->lock);
	let_go(s);
}

void fluidmem_evict(struct fluidmem_space *s, u64 start, u64 len)
{
	struct fluidmem *fm = s->fm;

	pthread_mutex_lock(&fm->lock);
	for (u64 va = start; va - start < len; va += PAGE_SIZE) {
		struct fm_page *p;

		if (!fm_room_to_write(fm))
			break;
		/* Its region may be gone when the lock was dropped. */
		while ((p = fm_find_page(s, va)) && p->state == MOVING)
			pthread_cond_wait(&fm->changed, &fm->lock);
		if (!p || p->state != RESIDENT)
			continue;
		fm_take_off(fm, p);
		fm_evict(fm, p);
	}
	pthread_mutex_unlock(&fm->lock);
}

/* Those that nobody could have while it did not work.  fm->lock held, dropped in between. */
static void cure(struct fluidmem_space *s)
{
	enum fluidmem_bucket how;

	for (struct fm_region *r = s->regions; r; r = r->next)
		for (u64 i = 0; i < r->nr; i++)
			if (r->pages[i].poisoned && r->pages[i].state != MOVING)
				fm_bring_in(s->fm, &r->pages[i], false, &how);
}

void fluidmem_store_works(struct fluidmem *fm)
{
	struct fluidmem_space *s;

	pthread_mutex_lock(&fm->lock);
	fm->store_down = false;
	pthread_cond_signal(&fm->work);
	list_for_each_entry (s, &fm->spaces, link) {
		s->walkers++;
		cure(s);
		s->walkers--;
	}
	fm_evict_if_needed(fm);
	pthread_mutex_unlock(&fm->lock);
}

bool fluidmem_is_idle(struct fluidmem *fm)
{
	struct fluidmem_space *s;
	bool idle;

	pthread_mutex_lock(&fm->lock);
	idle = fm->writer_sleeps && !fm_has_work(fm);
	list_for_each_entry (s, &fm->spaces, link)
		idle = idle && atomic_load(&s->sleeps) &&
		       !(userfaultfd_poll(s->ctx, true) & USERFAULT_POLLIN);
	pthread_mutex_unlock(&fm->lock);
	return idle;
}

void fluidmem_resize(struct fluidmem *fm, u64 capacity)
{
	pthread_mutex_lock(&fm->lock);
	fm->config.capacity = capacity ? capacity : 1;
	fm_evict_if_needed(fm);
	pthread_mutex_unlock(&fm->lock);
}

void fluidmem_flush(struct fluidmem *fm)
{
	pthread_mutex_lock(&fm->lock);
	fm->flushing = true;
	pthread_cond_signal(&fm->work);
	while (fm->nr_unwritten && !fm->store_down)
		pthread_cond_wait(&fm->changed, &fm->lock);
	fm->flushing = false;
	pthread_mutex_unlock(&fm->lock);
}

void fluidmem_stats(struct fluidmem *fm, struct fluidmem_stats *stats)
{
	pthread_mutex_lock(&fm->lock);
	*stats = fm->stats;
	pthread_mutex_unlock(&fm->lock);
}

void fluidmem_reset_timing(struct fluidmem *fm)
{
	pthread_mutex_lock(&fm->lock);
	memset(fm->stats.timing, 0, sizeof(fm->stats.timing));
	pthread_mutex_unlock(&fm->lock);
}
