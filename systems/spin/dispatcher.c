/* SPDX-License-Identifier: MIT */
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/ledger.h"
#include "systems/spin/dispatcher.h"

struct binding {
	_Atomic bool live;
	_Atomic unsigned users; /* raises that look at it or run it */
	u32 generation;		/* counts its installations */
	u64 imposed;
	struct spin_installation is;
};

/* Which bindings are for an event, in the order of their installation. */
struct list {
	_Atomic unsigned n;
	u16 at[SPIN_BINDINGS];
};

struct spin_dispatcher {
	spin_authorizer_fn authorizer;
	void *arg;
	unsigned used; /* of bindings, ever */
	struct binding bindings[SPIN_BINDINGS];
	struct list lists[NR_SPIN_EVENTS][NR_SPIN_ORDERS];
};

int spin_dispatcher_create(spin_authorizer_fn authorizer, void *arg, struct spin_dispatcher **out)
{
	struct spin_dispatcher *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->authorizer = authorizer;
	d->arg = arg;
	*out = d;
	return 0;
}

void spin_dispatcher_destroy(struct spin_dispatcher *d)
{
	free(d);
}

/* ---- installing ---- */

static s64 handle_of(const struct spin_dispatcher *d, const struct binding *b)
{
	return ((s64)b->generation << 16 | (b - d->bindings)) + 1;
}

static struct binding *binding_of(struct spin_dispatcher *d, s64 handle)
{
	u64 at = (u64)(handle - 1) & 0xffff;
	struct binding *b;

	if (handle <= 0 || at >= d->used)
		return NULL;
	b = &d->bindings[at];
	return atomic_load(&b->live) && handle_of(d, b) == handle ? b : NULL;
}

/* One that was taken away from the same list, or a new one at its end. */
static struct binding *free_binding(struct spin_dispatcher *d, struct list *l)
{
	unsigned n = atomic_load(&l->n);

	for (unsigned i = 0; i < n; i++)
		if (!atomic_load(&d->bindings[l->at[i]].live))
			return &d->bindings[l->at[i]];
	if (d->used == SPIN_BINDINGS)
		return NULL;
	l->at[n] = (u16)d->used;
	return &d->bindings[d->used++];
}

s64 spin_install(struct spin_dispatcher *d, const struct spin_installation *i)
{
	unsigned before = d->used;
	u64 imposed = SPIN_ANY_KEY;
	struct binding *b;
	struct list *l;
	int err;

	if ((unsigned)i->event >= NR_SPIN_EVENTS || (unsigned)i->order >= NR_SPIN_ORDERS)
		return -EINVAL;
	err = d->authorizer(d->arg, i, &imposed);
	if (err)
		return err;
	l = &d->lists[i->event][i->order];
	b = free_binding(d, l);
	if (!b)
		return -ENOSPC;
	b->is = *i;
	b->imposed = imposed;
	b->generation++;
	atomic_store(&b->live, true);
	if (d->used != before)
		atomic_fetch_add(&l->n, 1); /* from now on it is looked at */
	return handle_of(d, b);
}

int spin_uninstall(struct spin_dispatcher *d, u32 extension, s64 handle)
{
	struct binding *b = binding_of(d, handle);

	if (!b)
		return -EBADF;
	if (b->is.extension != extension)
		return -EACCES;
	atomic_store(&b->live, false);
	while (atomic_load(&b->users))
		sched_yield();
	return 0;
}

/* ---- raising ---- */

static bool guards_allow(const struct binding *b, const struct spin_fault *f)
{
	ledger_count(PAID_GUARDS);
	if (b->imposed != SPIN_ANY_KEY && b->imposed != f->key)
		return false;
	return !b->is.guard || b->is.guard(b->is.closure, f);
}

static unsigned raise_one(struct binding *b, struct spin_fault *f)
{
	bool runs;

	atomic_fetch_add(&b->users, 1);
	runs = atomic_load(&b->live) && guards_allow(b, f);
	if (runs) {
		ledger_count(PAID_HANDLERS);
		b->is.handler(b->is.closure, f);
	}
	atomic_fetch_sub(&b->users, 1);
	return runs;
}

unsigned spin_raise(struct spin_dispatcher *d, enum spin_event event, struct spin_fault *f)
{
	unsigned ran = 0;

	for (unsigned order = 0; order < NR_SPIN_ORDERS; order++) {
		struct list *l = &d->lists[event][order];
		unsigned n = atomic_load(&l->n);

		for (unsigned i = 0; i < n; i++)
			ran += raise_one(&d->bindings[l->at[i]], f);
	}
	return ran;
}
