/* SPDX-License-Identifier: MIT */
/* Areas, and where slots come from; see swap_area.h. */
#include "engine/backing/swap_area.h"

#include "engine/base/check.h"
#include "engine/base/errno.h"
#include "engine/engine.h"

#define PRIO_MAX 32767

/* Bits of a cluster behind the area's end. */
static u64 missing_slots(const struct swap_area *a, const struct swap_cluster *c)
{
	u64 first = (u64)(c - a->clusters) * SWAP_CLUSTER, nr = a->store->nr_slots - first;

	return nr >= SWAP_CLUSTER ? 0 : ~0ULL << nr;
}

/* Onto the list that it belongs to, if it has room and is nobody's own. */
static void list_cluster(struct swap_area *a, struct swap_cluster *c)
{
	if (!~c->used)
		return;
	if (!c->nr_used)
		list_add(&c->link, &a->empty);
	else if (c->nr_used <= SWAP_CLUSTER / 2)
		list_add(&c->link, &a->roomy);
	else
		list_add_tail(&c->link, &a->crowded);
}

static void count_free(struct swap *s, s64 n)
{
	atomic_store_explicit(&s->nr_free,
			      atomic_load_explicit(&s->nr_free, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

/* ---- taking ---- */

/* What was used before goes first: so the tables take no more memory than they must. */
static struct swap_cluster *listed_cluster(struct swap_area *a)
{
	struct list_head *from = !list_empty(&a->empty)	     ? &a->empty
				 : !list_empty(&a->roomy)    ? &a->roomy
				 : a->next >= a->nr_clusters ? &a->crowded
							     : NULL;
	struct swap_cluster *c;

	if (!from) {
		c = &a->clusters[a->next++];
		list_init(&c->link);
		c->used = missing_slots(a, c);
		return c;
	}
	if (list_empty(from))
		return NULL;
	c = list_first_entry(from, struct swap_cluster, link);
	list_del(&c->link);
	return c;
}

/* Where all that is left is other CPUs' own, they share it. */
static struct swap_cluster *others_cluster(const struct swap *s, const struct swap_area *a)
{
	for (unsigned i = 0; i < SWAP_CPUS; i++)
		if (s->current[i].area == a && ~s->current[i].cluster->used)
			return s->current[i].cluster;
	return NULL;
}

static void leave_cluster(struct swap *s, unsigned cpu)
{
	struct swap_area *a = s->current[cpu].area;
	struct swap_cluster *c = s->current[cpu].cluster;

	s->current[cpu].area = NULL;
	if (a && !--c->users)
		list_cluster(a, c);
}

/* Behind the others of its priority. */
static void its_turn_is_over(struct swap *s, unsigned i)
{
	struct swap_area *a = s->order[i];

	for (; i + 1 < s->nr_order && s->order[i + 1]->prio == a->prio; i++)
		s->order[i] = s->order[i + 1];
	s->order[i] = a;
}

/* Find the CPU a cluster with room.  The second time round, where the store has refused, too: what
 * is in it may have become less. */
static bool next_cluster(struct swap *s, unsigned cpu)
{
	leave_cluster(s, cpu);
	for (unsigned i = 0; i < 2 * s->nr_order; i++) {
		struct swap_area *a = s->order[i % s->nr_order];
		struct swap_cluster *c;

		if (a->used == a->store->nr_slots)
			continue;
		if (i < s->nr_order && atomic_load_explicit(&a->refusing, memory_order_relaxed))
			continue;
		c = listed_cluster(a);
		if (!c)
			c = others_cluster(s, a);
		VMF_ASSERT(c);
		c->users++;
		s->current[cpu].area = a;
		s->current[cpu].cluster = c;
		its_turn_is_over(s, i % s->nr_order);
		return true;
	}
	return false;
}

static bool may_go_on(const struct swap *s, unsigned cpu)
{
	const struct swap_area *a = s->current[cpu].area;

	return a && ~s->current[cpu].cluster->used &&
	       !atomic_load_explicit(&a->refusing, memory_order_relaxed);
}

s64 swap_take_slot(struct swap *s, unsigned cpu)
{
	struct swap_cluster *c;
	struct swap_area *a;
	unsigned bit;

	VMF_ASSERT(spin_is_locked(&s->lock));
	cpu %= SWAP_CPUS;
	if (!may_go_on(s, cpu) && !next_cluster(s, cpu))
		return -ENOSPC;
	a = s->current[cpu].area;
	c = s->current[cpu].cluster;
	bit = (unsigned)__builtin_ctzll(~c->used);
	c->used |= 1ULL << bit;
	c->nr_used++;
	a->used++;
	count_free(s, -1);
	return (s64)swp_entry(a->type, (u64)(c - a->clusters) * SWAP_CLUSTER + bit).v;
}

void swap_give_slot(struct swap *s, u64 slot)
{
	struct swap_area *a = swap_area_of(s, slot);
	u64 nr = swp_offset((swp_entry_t){ slot });
	struct swap_cluster *c = &a->clusters[nr / SWAP_CLUSTER];

	VMF_ASSERT(spin_is_locked(&s->lock) && c->used >> nr % SWAP_CLUSTER & 1);
	if (!c->users && ~c->used)
		list_del(&c->link);
	c->used &= ~(1ULL << nr % SWAP_CLUSTER);
	c->nr_used--;
	if (!c->users)
		list_cluster(a, c);
	a->used--;
	if (atomic_load_explicit(&a->on, memory_order_relaxed))
		count_free(s, 1);
	atomic_store_explicit(&a->refusing, false, memory_order_relaxed);
}

/* ---- on and off ---- */

static void free_tables(struct engine *e, struct swap_area *a)
{
	if (a->slots)
		e->memory.free(e->memory.ctx, a->slots, a->store->nr_slots * sizeof(*a->slots));
	if (a->clusters)
		e->memory.free(e->memory.ctx, a->clusters, a->nr_clusters * sizeof(*a->clusters));
	e->memory.free(e->memory.ctx, a, sizeof(*a));
}

static struct swap_area *new_area(struct engine *e, struct store *store)
{
	struct swap_area *a = e->memory.alloc(e->memory.ctx, sizeof(*a));

	if (!a)
		return NULL;
	a->store = store;
	a->nr_clusters = (store->nr_slots + SWAP_CLUSTER - 1) / SWAP_CLUSTER;
	list_init(&a->empty);
	list_init(&a->roomy);
	list_init(&a->crowded);
	a->slots = e->memory.alloc(e->memory.ctx, store->nr_slots * sizeof(*a->slots));
	a->clusters = e->memory.alloc(e->memory.ctx, a->nr_clusters * sizeof(*a->clusters));
	if (a->slots && a->clusters)
		return a;
	free_tables(e, a);
	return NULL;
}

/* Behind all of its priority. */
static void put_in_order(struct swap *s, struct swap_area *a)
{
	unsigned i;

	for (i = s->nr_order++; i && s->order[i - 1]->prio < a->prio; i--)
		s->order[i] = s->order[i - 1];
	s->order[i] = a;
	atomic_store_explicit(&a->on, true, memory_order_relaxed);
	count_free(s, (s64)(a->store->nr_slots - a->used));
}

static int enter_area(struct swap *s, struct swap_area *a, int prio)
{
	int type = -1;

	for (int i = MAX_SWAP_AREAS - 1; i >= 0; i--) {
		if (s->areas[i] && s->areas[i]->store == a->store)
			return -EBUSY;
		if (!s->areas[i])
			type = i;
	}
	if (type < 0)
		return -EPERM;
	a->type = (unsigned)type;
	a->prio = prio == SWAP_PRIO_NEXT ? --s->least_prio : prio;
	s->areas[type] = a;
	put_in_order(s, a);
	return type;
}

int swap_area_on(struct engine *e, struct store *store, int prio)
{
	struct swap *s = &e->swap;
	struct swap_area *a;
	int type;

	if (prio < SWAP_PRIO_NEXT || prio > PRIO_MAX || !store->nr_slots ||
	    store->nr_slots >> SWP_OFFSET_BITS)
		return -EINVAL;
	a = new_area(e, store);
	if (!a)
		return -ENOMEM;
	spin_lock(&s->lock);
	type = enter_area(s, a, prio);
	spin_unlock(&s->lock);
	if (type < 0)
		free_tables(e, a);
	return type;
}

bool swap_area_stop(struct swap *s, unsigned type)
{
	struct swap_area *a;
	unsigned i, n = 0;

	spin_lock(&s->lock);
	a = type < MAX_SWAP_AREAS ? s->areas[type] : NULL;
	if (!a || !atomic_load_explicit(&a->on, memory_order_relaxed)) {
		spin_unlock(&s->lock);
		return false;
	}
	atomic_store_explicit(&a->on, false, memory_order_relaxed);
	count_free(s, -(s64)(a->store->nr_slots - a->used));
	for (i = 0; i < s->nr_order; i++)
		if (s->order[i] != a)
			s->order[n++] = s->order[i];
	s->nr_order = n;
	for (i = 0; i < SWAP_CPUS; i++)
		if (s->current[i].area == a)
			leave_cluster(s, i);
	spin_unlock(&s->lock);
	return true;
}

u64 swap_area_used(struct swap *s, unsigned type)
{
	u64 used;

	spin_lock(&s->lock);
	used = s->areas[type]->used;
	spin_unlock(&s->lock);
	return used;
}

void swap_area_start(struct swap *s, unsigned type)
{
	spin_lock(&s->lock);
	put_in_order(s, s->areas[type]);
	spin_unlock(&s->lock);
}

void swap_area_free(struct engine *e, unsigned type)
{
	struct swap *s = &e->swap;
	struct swap_area *a;

	spin_lock(&s->lock);
	a = s->areas[type];
	VMF_ASSERT(!a->used && !a->on);
	s->areas[type] = NULL;
	spin_unlock(&s->lock);
	free_tables(e, a);
}

void swap_areas_fini(struct engine *e)
{
	for (unsigned i = 0; i < MAX_SWAP_AREAS; i++)
		if (e->swap.areas[i])
			free_tables(e, e->swap.areas[i]);
}

void swap_area_check(const struct swap_area *a)
{
	u64 used = 0, listed = 0, open = 0;
	const struct swap_cluster *c;

	for (u64 i = 0; i < a->next; i++) {
		u64 first = i * SWAP_CLUSTER, nr = 0;

		c = &a->clusters[i];
		for (u64 at = first; at < min_of(first + SWAP_CLUSTER, a->store->nr_slots); at++) {
			bool in_use = c->used >> (at - first) & 1;

			if (in_use != !!a->slots[at].count)
				vmf_panic("swap: slot %lu of area %u is free and not free",
					  (unsigned long)at, a->type);
			nr += in_use;
		}
		if (nr != c->nr_used)
			vmf_panic("swap: %lu slots of cluster %lu in use, %u counted",
				  (unsigned long)nr, (unsigned long)i, c->nr_used);
		used += nr;
		open += !c->users && ~c->used;
	}
	list_for_each_entry (c, &a->empty, link)
		listed++;
	list_for_each_entry (c, &a->roomy, link)
		listed++;
	list_for_each_entry (c, &a->crowded, link)
		listed++;
	if (used != a->used || listed != open)
		vmf_panic("swap: area %u: %lu slots in use, %lu counted; %lu clusters with room, "
			  "%lu listed",
			  a->type, (unsigned long)used, (unsigned long)a->used, (unsigned long)open,
			  (unsigned long)listed);
}
