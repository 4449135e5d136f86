/* SPDX-License-Identifier: MIT */
/*
 * The FCM: a descriptor for each page that is in core or on its way.  Partitioned, each CPU's
 * representative has those of every nr_cpus-th chunk of the file, under a lock of its own; shared,
 * the representative of the CPU that made it has all.
 *
 * A descriptor names a frame and how often that had been released by then: when the frame goes, for
 * whatever reason, the page is not in core any more, and nobody has to come and say so.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/engine.h"
#include "systems/tornado/objects.h"

struct page_descriptor {
	u64 pfn; /* NO_PFN: none yet */
	u32 generation;
	s64 fault; /* it is being filled: the fault's id; 0: it is not */
	struct fault_notification *waiting;
};

struct fcm_rep {
	struct co_rep rep;
	spinlock_t lock; /* guards all below */
	struct radix_tree pages;
	s64 last_fault;
};

static struct fcm *of(struct co_root *root)
{
	return container_of(root, struct fcm, root);
}

static unsigned miss(struct co_root *root, unsigned cpu)
{
	return of(root)->shared ? root->home : cpu;
}

static void make(struct co_rep *rep)
{
	radix_init(&container_of(rep, struct fcm_rep, rep)->pages, &soft_host_memory);
}

static void free_pages(struct fcm_rep *r)
{
	struct page_descriptor *d;

	for (u64 at = 0; (d = radix_next(&r->pages, &at)); at++)
		free(d);
	radix_destroy(&r->pages);
}

static void fini(struct co_root *root)
{
	for (unsigned i = 0; i < root->system->nr_cpus; i++)
		free_pages(container_of(co_rep_at(root, i), struct fcm_rep, rep));
	co_destroy(root->system, root->home, of(root)->cor);
}

const struct co_type fcm_type = {
	.name = "FCM",
	.size = sizeof(struct fcm),
	.rep_size = sizeof(struct fcm_rep),
	.miss = miss,
	.make = make,
	.fini = fini,
};

struct fcm *fcm_create(struct co_system *s, unsigned cpu, const _Atomic u32 *generations,
		       bool shared)
{
	struct cor *cor = cor_create(s, cpu);
	struct co_root *root = cor ? co_create(s, &fcm_type, cpu) : NULL;
	struct fcm *f;

	if (!root) {
		if (cor)
			co_destroy(s, cpu, cor_ref(cor));
		return NULL;
	}
	f = of(root);
	f->generations = generations;
	f->shared = shared;
	f->cor = cor_ref(cor);
	atomic_init(&f->users, 1);
	return f;
}

void fcm_get(struct fcm *f)
{
	atomic_fetch_add(&f->users, 1);
}

void fcm_put(struct fcm *f, unsigned cpu)
{
	if (atomic_fetch_sub(&f->users, 1) == 1)
		co_destroy(f->root.system, cpu, f->root.ref);
}

/* ---- descriptors ---- */

/* The CPU whose representative has the page's descriptor. */
static unsigned owner_of(const struct fcm *f, u64 offset)
{
	return f->shared ? f->root.home : (unsigned)(offset / FCM_CHUNK % f->root.system->nr_cpus);
}

/* That representative, locked. */
static struct fcm_rep *lock_part(struct fcm *f, unsigned cpu, u64 offset)
{
	unsigned owner = owner_of(f, offset);
	struct fcm_rep *r = container_of(co_rep_at(&f->root, owner), struct fcm_rep, rep);

	co_reach(cpu, owner);
	spin_lock(&r->lock);
	ledger_count(PAID_LOCKS_OBJECT);
	return r;
}

static bool in_core(const struct fcm *f, const struct page_descriptor *d)
{
	return d && d->pfn != NO_PFN &&
	       atomic_load_explicit(&f->generations[d->pfn], memory_order_relaxed) == d->generation;
}

/* Made if there is none; NULL: no memory. */
static struct page_descriptor *descriptor(struct fcm_rep *r, u64 offset)
{
	struct page_descriptor *d = radix_load(&r->pages, offset);

	if (d)
		return d;
	d = malloc(sizeof(*d));
	if (!d)
		return NULL;
	*d = (struct page_descriptor){ .pfn = NO_PFN };
	if (!radix_store(&r->pages, offset, d))
		return d;
	free(d);
	return NULL;
}

static void set_frame(const struct fcm *f, struct page_descriptor *d, u64 pfn)
{
	d->pfn = pfn;
	d->generation = atomic_load_explicit(&f->generations[pfn], memory_order_relaxed);
}

static void wake(struct fault_notification *n)
{
	struct fault_notification *next;

	for (; n; n = next) {
		next = n->next;
		/* From here on it may be gone; its address is good for a wake, which may be for
		 * nothing. */
		atomic_store(&n->done, 1);
		machine_wake(&n->done, 1);
	}
}

void fault_wait(struct fault_notification *n)
{
	/* It may have come before we got here: it is remembered in the word. */
	while (!atomic_load(&n->done))
		machine_wait(&n->done, 0);
}

/* ---- methods ---- */

int fcm_get_page(struct co_system *s, unsigned cpu, co_ref ref, u64 offset, struct fcm_page *page,
		 struct fault_notification *n)
{
	struct page_descriptor *d;
	struct co_rep *rep;
	struct fcm_rep *r;
	struct fcm *f;
	int ret = co_call(s, cpu, ref, &fcm_type, &rep);

	if (ret)
		return ret;
	f = of(rep->root);
	r = lock_part(f, cpu, offset);
	d = descriptor(r, offset);
	if (!d) {
		ret = -ENOMEM;
	} else if (!n) {
		page->pfn = d->pfn;
		page->generation = d->generation;
		ret = !d->fault && in_core(f, d) ? FCM_IN_CORE : FCM_PENDING;
	} else if (d->fault) {
		*n = (struct fault_notification){ .id = d->fault, .next = d->waiting };
		d->waiting = n;
		ret = FCM_PENDING;
	} else if (in_core(f, d)) {
		page->pfn = d->pfn;
		page->generation = d->generation;
		ret = FCM_IN_CORE;
	} else {
		d->fault = page->fault = ++r->last_fault;
		page->pfn = d->pfn = NO_PFN;
		*n = (struct fault_notification){ .id = d->fault };
		d->waiting = n;
		ret = FCM_FILL;
	}
	spin_unlock(&r->lock);
	return ret;
}

int fcm_filled(struct fcm *f, unsigned cpu, u64 offset, s64 fault, u64 pfn)
{
	struct fault_notification *waiting = NULL;
	struct fcm_rep *r = lock_part(f, cpu, offset);
	struct page_descriptor *d = radix_load(&r->pages, offset);
	int err = 0;

	if (!d || !d->fault) {
		err = -ENOENT;
	} else if (d->fault != fault) {
		err = -EINVAL;
	} else {
		/* If not by us, another may have brought it meanwhile, and noted it. */
		if (pfn != NO_PFN)
			set_frame(f, d, pfn);
		d->fault = 0;
		waiting = d->waiting;
		d->waiting = NULL;
	}
	spin_unlock(&r->lock);
	wake(waiting);
	return err;
}

int fcm_io_complete(struct co_system *s, unsigned cpu, co_ref ref, u64 offset, s64 fault, u64 pfn)
{
	struct co_rep *rep;
	int err = co_call(s, cpu, ref, &fcm_type, &rep);

	return err ? err : fcm_filled(of(rep->root), cpu, offset, fault, pfn);
}

int fcm_note(struct fcm *f, unsigned cpu, u64 offset, u64 pfn)
{
	struct fcm_rep *r = lock_part(f, cpu, offset);
	struct page_descriptor *d = descriptor(r, offset);

	if (d)
		set_frame(f, d, pfn);
	spin_unlock(&r->lock);
	return d ? 0 : -ENOMEM;
}

void fcm_forget(struct fcm *f, unsigned cpu, u64 offset, u64 pfn)
{
	struct fcm_rep *r = lock_part(f, cpu, offset);
	struct page_descriptor *d = radix_load(&r->pages, offset);

	if (d && d->pfn == pfn)
		d->pfn = NO_PFN;
	spin_unlock(&r->lock);
}

u64 fcm_look(struct fcm *f, u64 offset)
{
	struct co_rep *rep = co_rep_at(&f->root, owner_of(f, offset));
	struct page_descriptor *d =
		radix_load(&container_of(rep, struct fcm_rep, rep)->pages, offset);

	return in_core(f, d) ? d->pfn : NO_PFN;
}
