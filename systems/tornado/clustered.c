/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/ledger.h"
#include "systems/tornado/clustered.h"

/* A reference is a place and how often it has been used. */
#define PLACE_BITS 16

static unsigned place_of(co_ref ref)
{
	return ref & ((1u << PLACE_BITS) - 1);
}

void co_reach(unsigned cpu, unsigned other)
{
	if (cpu != other)
		ledger_count(PAID_REMOTE);
}

/* ---- representatives ---- */

static size_t rep_stride(const struct co_type *type)
{
	return (type->rep_size + 63) & ~(size_t)63;
}

static size_t root_size(const struct co_type *type)
{
	return (type->size + 63) & ~(size_t)63;
}

static struct co_rep *place_for(struct co_root *root, unsigned cpu)
{
	return (struct co_rep *)((char *)root + root_size(root->type) +
				 cpu * rep_stride(root->type));
}

/* lock held. */
static struct co_rep *make_rep(struct co_root *root, unsigned cpu)
{
	struct co_rep *rep = place_for(root, cpu);

	if (!rep->made) {
		rep->root = root;
		rep->cpu = cpu;
		if (root->type->make)
			root->type->make(rep);
		atomic_store_explicit(&rep->made, true, memory_order_release);
	}
	return rep;
}

struct co_rep *co_rep_at(struct co_root *root, unsigned cpu)
{
	struct co_rep *rep = place_for(root, cpu);

	if (atomic_load_explicit(&rep->made, memory_order_acquire))
		return rep;
	spin_lock(&root->system->lock);
	rep = make_rep(root, cpu);
	spin_unlock(&root->system->lock);
	return rep;
}

/* ---- calls ---- */

void co_enter(struct co_system *s, unsigned cpu)
{
	struct co_cpu *c = &s->cpus[cpu];

	/* In order with the look at the table that follows: either whoever destroys sees that we
	 * are in a call, or we see that the reference is gone. */
	if (!c->depth++)
		atomic_fetch_add_explicit(&c->calls, 1, memory_order_seq_cst);
}

void co_exit(struct co_system *s, unsigned cpu)
{
	struct co_cpu *c = &s->cpus[cpu];

	if (!--c->depth)
		atomic_fetch_add_explicit(&c->calls, 1, memory_order_release);
}

/* Nothing in the CPU's table: ask the object. */
static int miss(struct co_system *s, unsigned cpu, co_ref ref)
{
	unsigned place = place_of(ref);
	struct co_root *root;

	spin_lock(&s->lock);
	root = place < CO_MOST ? s->objects[place] : NULL;
	if (root && root->ref == ref) {
		struct co_entry *e = &s->cpus[cpu].table[place];

		co_reach(cpu, root->home);
		e->type = root->type;
		e->rep = make_rep(root, root->type->miss(root, cpu));
		atomic_store_explicit(&e->ref, ref, memory_order_release);
	} else {
		root = NULL;
	}
	spin_unlock(&s->lock);
	return root ? 0 : -EBADF;
}

int co_call(struct co_system *s, unsigned cpu, co_ref ref, const struct co_type *type,
	    struct co_rep **rep)
{
	unsigned place = place_of(ref);
	const struct co_entry *e;
	int err;

	if (!ref || place >= CO_MOST)
		return -EBADF;
	e = &s->cpus[cpu].table[place];
	if (atomic_load_explicit(&e->ref, memory_order_seq_cst) != ref) {
		err = miss(s, cpu, ref);
		if (err)
			return err;
	}
	if (e->type != type)
		return -EINVAL;
	ledger_count(PAID_HANDLERS);
	*rep = e->rep;
	return 0;
}

bool co_is_known(const struct co_system *s, unsigned cpu, co_ref ref)
{
	const struct co_entry *e = &s->cpus[cpu].table[place_of(ref)];

	return atomic_load_explicit(&e->ref, memory_order_seq_cst) == ref;
}

/* ---- their lives ---- */

/* A free place; CO_MOST: there is none.  lock held. */
static unsigned find_place(struct co_system *s)
{
	for (unsigned i = 0; i < CO_MOST; i++) {
		unsigned place = (s->last + 1 + i) % CO_MOST;

		if (!s->objects[place]) {
			s->last = place;
			return place;
		}
	}
	return CO_MOST;
}

struct co_root *co_create(struct co_system *s, const struct co_type *type, unsigned cpu)
{
	size_t size = root_size(type) + s->nr_cpus * rep_stride(type);
	struct co_root *root = aligned_alloc(64, size);
	unsigned place;

	if (!root)
		return NULL;
	memset(root, 0, size);
	root->type = type;
	root->system = s;
	root->home = cpu;
	/* It is asked for here: nothing may fail when it is destroyed. */
	root->seen = calloc(s->nr_cpus, sizeof(*root->seen));
	spin_lock(&s->lock);
	place = root->seen ? find_place(s) : CO_MOST;
	if (place < CO_MOST) {
		root->place = place;
		root->ref = (co_ref)++s->generations[place] << PLACE_BITS | place;
		s->objects[place] = root;
		s->nr_alive++;
	}
	spin_unlock(&s->lock);
	if (place < CO_MOST)
		return root;
	free(root->seen);
	free(root);
	return NULL;
}

/* lock held. */
static void take_from_tables(struct co_system *s, unsigned cpu, const struct co_root *root)
{
	for (unsigned i = 0; i < s->nr_cpus; i++) {
		struct co_entry *e = &s->cpus[i].table[place_of(root->ref)];

		if (atomic_load_explicit(&e->ref, memory_order_relaxed) != root->ref)
			continue;
		co_reach(cpu, i);
		atomic_store_explicit(&e->ref, 0, memory_order_seq_cst);
	}
}

int co_destroy(struct co_system *s, unsigned cpu, co_ref ref)
{
	unsigned place = place_of(ref);
	struct co_root *root;

	spin_lock(&s->lock);
	root = place < CO_MOST ? s->objects[place] : NULL;
	if (!ref || !root || root->ref != ref) {
		spin_unlock(&s->lock);
		return -EBADF;
	}
	take_from_tables(s, cpu, root);
	for (unsigned i = 0; i < s->nr_cpus; i++)
		root->seen[i] = atomic_load_explicit(&s->cpus[i].calls, memory_order_seq_cst);
	/* The place is not given again before the memory has gone: an entry may be in use. */
	root->ref = 0;
	list_add_tail(&root->link, &s->dying);
	s->nr_alive--;
	s->nr_dying++;
	spin_unlock(&s->lock);
	return 0;
}

/* Has every CPU that was in a call when it was destroyed come out?  lock held. */
static bool is_quiet(const struct co_system *s, const struct co_root *root)
{
	for (unsigned i = 0; i < s->nr_cpus; i++)
		if (root->seen[i] % 2 &&
		    atomic_load_explicit(&s->cpus[i].calls, memory_order_acquire) == root->seen[i])
			return false;
	return true;
}

static struct co_root *next_quiet(struct co_system *s)
{
	struct co_root *found = NULL;

	spin_lock(&s->lock);
	for (struct list_head *l = s->dying.next; l != &s->dying && !found; l = l->next) {
		struct co_root *root = container_of(l, struct co_root, link);

		if (is_quiet(s, root))
			found = root;
	}
	if (found) {
		list_del(&found->link);
		s->objects[found->place] = NULL;
		s->nr_dying--;
	}
	spin_unlock(&s->lock);
	return found;
}

u64 co_collect(struct co_system *s)
{
	struct co_root *root;
	u64 left;

	while ((root = next_quiet(s))) {
		if (root->type->fini)
			root->type->fini(root);
		free(root->seen);
		free(root);
	}
	spin_lock(&s->lock);
	left = s->nr_dying;
	spin_unlock(&s->lock);
	return left;
}

int co_init(struct co_system *s, unsigned nr_cpus)
{
	bool ok;

	*s = (struct co_system){ .nr_cpus = nr_cpus };
	spin_init(&s->lock);
	list_init(&s->dying);
	s->cpus = aligned_alloc(64, nr_cpus * sizeof(*s->cpus));
	s->objects = calloc(CO_MOST, sizeof(*s->objects));
	s->generations = calloc(CO_MOST, sizeof(*s->generations));
	ok = s->cpus && s->objects && s->generations;
	if (s->cpus)
		memset(s->cpus, 0, nr_cpus * sizeof(*s->cpus));
	for (unsigned i = 0; ok && i < nr_cpus; i++)
		ok = (s->cpus[i].table = calloc(CO_MOST, sizeof(struct co_entry)));
	if (ok)
		return 0;
	co_fini(s);
	return -ENOMEM;
}

void co_fini(struct co_system *s)
{
	/* First those that others have let go, and what goes with them. */
	if (s->cpus && s->objects)
		co_collect(s);
	for (unsigned i = 0; s->objects && s->generations && i < CO_MOST; i++)
		if (s->objects[i] && s->objects[i]->ref)
			co_destroy(s, 0, s->objects[i]->ref);
	if (s->cpus && s->objects)
		co_collect(s);
	for (unsigned i = 0; s->cpus && i < s->nr_cpus; i++)
		free(s->cpus[i].table);
	free(s->cpus);
	free(s->objects);
	free(s->generations);
}
