/* SPDX-License-Identifier: MIT */
/* Reservation maps; see reserve.h.  Regions are few: a list in order serves. */
#include "engine/hugetlb/reserve.h"

#include "engine/base/errno.h"
#include "engine/base/text.h"

struct region {
	u64 from, to;
	struct list_head link;
};

static struct region *region_new(const struct resv_map *m)
{
	struct region *r = m->memory->alloc(m->memory->ctx, sizeof(*r));

	if (r)
		list_init(&r->link);
	return r;
}

static void region_free(const struct resv_map *m, struct region *r)
{
	m->memory->free(m->memory->ctx, r, sizeof(*r));
}

static void free_list(const struct resv_map *m, struct list_head *list)
{
	while (!list_empty(list)) {
		struct region *r = list_first_entry(list, struct region, link);

		list_del(&r->link);
		region_free(m, r);
	}
}

struct resv_map *resv_map_alloc(const struct engine_memory *memory)
{
	struct resv_map *m = memory->alloc(memory->ctx, sizeof(*m));

	if (!m)
		return NULL;
	m->memory = memory;
	atomic_init(&m->refcount, 1);
	spin_init(&m->lock);
	list_init(&m->regions);
	list_init(&m->spare);
	return m;
}

void resv_map_get(struct resv_map *m)
{
	atomic_fetch_add_explicit(&m->refcount, 1, memory_order_relaxed);
}

void resv_map_put(struct resv_map *m)
{
	if (atomic_fetch_sub_explicit(&m->refcount, 1, memory_order_acq_rel) != 1)
		return;
	free_list(m, &m->regions);
	free_list(m, &m->spare);
	m->memory->free(m->memory->ctx, m, sizeof(*m));
}

static u64 overlap(const struct region *r, u64 from, u64 to)
{
	u64 start = max_of(r->from, from), end = min_of(r->to, to);

	return start < end ? end - start : 0;
}

/* Lock held. */
static u64 count(const struct resv_map *m, u64 from, u64 to)
{
	const struct region *r;
	u64 n = 0;

	list_for_each_entry (r, &m->regions, link)
		n += overlap(r, from, to);
	return n;
}

u64 region_count(struct resv_map *m, u64 from, u64 to)
{
	u64 n;

	spin_lock(&m->lock);
	n = count(m, from, to);
	spin_unlock(&m->lock);
	return n;
}

s64 region_chg(struct resv_map *m, u64 from, u64 to)
{
	struct region *spare = region_new(m);
	s64 lacking;

	if (!spare)
		return -ENOMEM;
	spin_lock(&m->lock);
	list_add(&spare->link, &m->spare);
	lacking = (s64)(to - from - count(m, from, to));
	spin_unlock(&m->lock);
	return lacking;
}

/* The spare of one region_chg().  Lock held. */
static struct region *take_spare(struct resv_map *m)
{
	struct region *r;

	if (list_empty(&m->spare))
		vmf_panic("hugetlb: a region is added that nobody announced");
	r = list_first_entry(&m->spare, struct region, link);
	list_del(&r->link);
	return r;
}

void region_abort(struct resv_map *m)
{
	struct region *spare;

	spin_lock(&m->lock);
	spare = take_spare(m);
	spin_unlock(&m->lock);
	region_free(m, spare);
}

/* `new` takes over all that overlaps or touches it, which moves to `gone`, and its place. */
static void insert(struct resv_map *m, struct region *new, struct list_head *gone)
{
	struct list_head *before = &m->regions;
	struct region *r, *tmp;

	list_for_each_entry_safe (r, tmp, &m->regions, link) {
		if (r->from > new->to) {
			before = &r->link;
			break;
		}
		if (r->to < new->from)
			continue;
		new->from = min_of(new->from, r->from);
		new->to = max_of(new->to, r->to);
		list_move(&r->link, gone);
	}
	list_add_tail(&new->link, before);
}

s64 region_add(struct resv_map *m, u64 from, u64 to)
{
	struct list_head gone;
	struct region *new;
	s64 added;

	list_init(&gone);
	spin_lock(&m->lock);
	new = take_spare(m);
	added = (s64)(to - from - count(m, from, to));
	new->from = from;
	new->to = to;
	insert(m, new, &gone);
	spin_unlock(&m->lock);
	free_list(m, &gone);
	return added;
}

s64 region_del(struct resv_map *m, u64 from, u64 to)
{
	struct region *r, *tmp, *upper;
	struct list_head gone;
	s64 n = 0;

	list_init(&gone);
	spin_lock(&m->lock);
	list_for_each_entry_safe (r, tmp, &m->regions, link) {
		u64 both = overlap(r, from, to);

		if (!both)
			continue;
		if (r->from < from && r->to > to) {
			upper = region_new(m);
			if (!upper) {
				n = -ENOMEM; /* no other region overlaps */
				break;
			}
			upper->from = to;
			upper->to = r->to;
			r->to = from;
			list_add(&upper->link, &r->link);
		} else if (r->from < from) {
			r->to = from;
		} else if (r->to > to) {
			r->from = to;
		} else {
			list_move(&r->link, &gone);
		}
		n += (s64)both;
	}
	spin_unlock(&m->lock);
	free_list(m, &gone);
	return n;
}
