/* SPDX-License-Identifier: MIT */
/*
 * Bindings and lists.
 *
 * A list has, for an event and an order, its bindings' handles in the order of their installation.
 * Who raises copies it, and looks again if it was being changed meanwhile (`version` is odd then);
 * so places on it are used again as soon as they are free, and so are bindings, for any event.
 *
 * What was copied may be out of date when its turn comes.  Who raises says first that it uses the
 * binding, and then looks whether it is installed still and has the handle still; who takes it away
 * says first that it is not, and then waits for users.  One of the two sees the other.
 */
#include <sched.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/errno.h"
#include "systems/ledger.h"
#include "systems/spin/dispatcher.h"

enum binding_state {
	BINDING_FREE,
	BINDING_LIVE,
	BINDING_LEAVING, /* it is on no list, but somebody may run it still */
};

struct binding {
	_Atomic u32 state;
	_Atomic unsigned users; /* raises that look at it or run it */
	_Atomic s64 handle;	/* of its last installation */
	u64 imposed;
	struct spin_installation is;
};

struct list {
	_Atomic unsigned version;
	_Atomic unsigned n;
	_Atomic s64 handles[SPIN_BINDINGS];
};

struct spin_dispatcher {
	spin_authorizer_fn authorizer;
	void *arg;
	u64 installed; /* ever */
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

/* ---- lists ---- */

static struct list *list_of(struct spin_dispatcher *d, const struct spin_installation *i)
{
	return &d->lists[i->event][i->order];
}

static s64 list_at(struct list *l, unsigned i)
{
	return atomic_load_explicit(&l->handles[i], memory_order_acquire);
}

static void list_set(struct list *l, unsigned i, s64 handle)
{
	atomic_store_explicit(&l->handles[i], handle, memory_order_release);
}

static void list_append(struct list *l, s64 handle)
{
	unsigned n = atomic_load(&l->n);

	atomic_fetch_add(&l->version, 1);
	list_set(l, n, handle);
	atomic_store(&l->n, n + 1);
	atomic_fetch_add(&l->version, 1);
}

static void list_drop(struct list *l, s64 handle)
{
	unsigned n = atomic_load(&l->n), at = 0;

	while (at < n && list_at(l, at) != handle)
		at++;
	if (at == n)
		return;
	atomic_fetch_add(&l->version, 1);
	for (; at + 1 < n; at++)
		list_set(l, at, list_at(l, at + 1));
	atomic_store(&l->n, n - 1);
	atomic_fetch_add(&l->version, 1);
}

/* As it is at one moment.  How many. */
static unsigned list_copy(struct list *l, s64 handles[SPIN_BINDINGS])
{
	unsigned version, n;

	do {
		version = atomic_load(&l->version);
		n = atomic_load(&l->n);
		for (unsigned i = 0; i < n; i++)
			handles[i] = list_at(l, i);
	} while (version % 2 || atomic_load(&l->version) != version);
	return n;
}

/* ---- installing ---- */

/* The binding's number below, how many were installed before above. */
static s64 handle_of(const struct spin_dispatcher *d, const struct binding *b)
{
	return (s64)(d->installed << 16) + (b - d->bindings) + 1;
}

/* That a handle may name. */
static struct binding *binding_at(struct spin_dispatcher *d, s64 handle)
{
	u64 at = (u64)(handle - 1) & 0xffff;

	return handle > 0 && at < SPIN_BINDINGS ? &d->bindings[at] : NULL;
}

/* That it names. */
static struct binding *binding_of(struct spin_dispatcher *d, s64 handle)
{
	struct binding *b = binding_at(d, handle);

	return b && atomic_load(&b->state) != BINDING_FREE && atomic_load(&b->handle) == handle
		       ? b
		       : NULL;
}

static struct binding *free_binding(struct spin_dispatcher *d)
{
	for (unsigned i = 0; i < SPIN_BINDINGS; i++) {
		struct binding *b = &d->bindings[i];
		u32 state = atomic_load(&b->state);

		/* Who did not end in time may have done so by now. */
		if (state == BINDING_FREE || (state == BINDING_LEAVING && !atomic_load(&b->users)))
			return b;
	}
	return NULL;
}

s64 spin_install(struct spin_dispatcher *d, const struct spin_installation *i)
{
	u64 imposed = SPIN_ANY_KEY;
	struct binding *b;
	s64 handle;
	int err;

	if ((unsigned)i->event >= NR_SPIN_EVENTS || (unsigned)i->order >= NR_SPIN_ORDERS)
		return -EINVAL;
	err = d->authorizer(d->arg, i, &imposed);
	if (err)
		return err;
	b = free_binding(d);
	if (!b)
		return -ENOSPC;
	b->is = *i;
	b->imposed = imposed;
	handle = handle_of(d, b);
	d->installed++;
	atomic_store(&b->handle, handle);
	atomic_store(&b->state, BINDING_LIVE);
	list_append(list_of(d, i), handle); /* from now on it is looked at */
	return handle;
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

/* 0: nobody runs it; -EBUSY. */
static int wait_for_users(struct binding *b)
{
	u64 until = now_ms() + SPIN_PATIENCE;

	while (atomic_load(&b->users)) {
		if (now_ms() > until)
			return -EBUSY;
		sched_yield();
	}
	return 0;
}

int spin_uninstall(struct spin_dispatcher *d, u32 extension, s64 handle)
{
	struct binding *b = binding_of(d, handle);
	int err;

	if (!b)
		return -EBADF;
	if (b->is.extension != extension)
		return -EACCES;
	list_drop(list_of(d, &b->is), handle);
	atomic_store(&b->state, BINDING_LEAVING);
	err = wait_for_users(b);
	if (!err)
		atomic_store(&b->state, BINDING_FREE);
	return err;
}

/* ---- raising ---- */

static bool guards_allow(const struct binding *b, const struct spin_fault *f)
{
	ledger_count(PAID_GUARDS);
	if (b->imposed != SPIN_ANY_KEY && b->imposed != f->key)
		return false;
	return !b->is.guard || b->is.guard(b->is.closure, f);
}

static unsigned raise_one(struct binding *b, s64 handle, struct spin_fault *f)
{
	bool runs;

	atomic_fetch_add(&b->users, 1);
	runs = atomic_load(&b->state) == BINDING_LIVE && atomic_load(&b->handle) == handle &&
	       guards_allow(b, f);
	if (runs) {
		ledger_count(PAID_HANDLERS);
		b->is.handler(b->is.closure, f);
	}
	atomic_fetch_sub(&b->users, 1);
	return runs;
}

unsigned spin_raise(struct spin_dispatcher *d, enum spin_event event, struct spin_fault *f)
{
	s64 handles[SPIN_BINDINGS];
	unsigned ran = 0;

	for (unsigned order = 0; order < NR_SPIN_ORDERS; order++) {
		unsigned n = list_copy(&d->lists[event][order], handles);

		for (unsigned i = 0; i < n; i++)
			ran += raise_one(binding_at(d, handles[i]), handles[i], f);
	}
	return ran;
}
