/* SPDX-License-Identifier: MIT */
/* Policies by range; see shared_policy.h. */
#include "engine/backing/shared_policy.h"

#include "engine/base/check.h"
#include "engine/base/errno.h"
#include "engine/base/text.h"

static struct shared_range *first_of(const struct shared_policy *sp, u64 start, u64 end)
{
	struct interval_node *node = interval_first(&sp->ranges, start, end);

	return node ? container_of(node, struct shared_range, node) : NULL;
}

static void insert(struct shared_policy *sp, struct shared_range *r, u64 start, u64 end,
		   const struct mempolicy *policy)
{
	r->node.start = start;
	r->node.end = end;
	r->policy = *policy;
	interval_insert(&sp->ranges, &r->node);
}

static struct shared_range *take(struct shared_range **from)
{
	struct shared_range *r = *from;

	*from = NULL;
	return r;
}

static void free_range(const struct engine_memory *memory, struct shared_range *r)
{
	if (r)
		memory->free(memory->ctx, r, sizeof(*r));
}

void shared_policy_init(struct shared_policy *sp)
{
	atomic_init(&sp->any, false);
	spin_init(&sp->lock);
	sp->ranges = (struct rb_root){ 0 };
}

void shared_policy_fini(struct shared_policy *sp, const struct engine_memory *memory)
{
	struct shared_range *r;

	while ((r = first_of(sp, 0, ~0ULL))) {
		interval_remove(&sp->ranges, &r->node);
		free_range(memory, r);
	}
}

int shared_policy_get_room(const struct engine_memory *memory, struct shared_policy_room *room)
{
	room->range = memory->alloc(memory->ctx, sizeof(*room->range));
	room->rest = memory->alloc(memory->ctx, sizeof(*room->rest));
	if (room->range && room->rest)
		return 0;
	shared_policy_put_room(memory, room);
	return -ENOMEM;
}

void shared_policy_put_room(const struct engine_memory *memory, struct shared_policy_room *room)
{
	free_range(memory, take(&room->range));
	free_range(memory, take(&room->rest));
}

/* Leave of the range, which is in no tree, what lies outside [start, end).  False: nothing. */
static bool keep_outside(struct shared_policy *sp, struct shared_range *r, u64 start, u64 end,
			 struct shared_policy_room *room)
{
	u64 begins = r->node.start, ends = r->node.end;

	if (begins < start && ends > end) /* only one does: the rest is for it */
		insert(sp, take(&room->rest), end, ends, &r->policy);
	if (begins < start)
		insert(sp, r, begins, start, &r->policy);
	else if (ends > end)
		insert(sp, r, end, ends, &r->policy);
	return begins < start || ends > end;
}

void shared_policy_set(struct shared_policy *sp, const struct engine_memory *memory, u64 start,
		       u64 end, const struct mempolicy *policy, struct shared_policy_room *room)
{
	struct shared_range *r;

	spin_lock(&sp->lock);
	atomic_store_explicit(&sp->any, true, memory_order_relaxed);
	while ((r = first_of(sp, start, end))) {
		interval_remove(&sp->ranges, &r->node);
		if (!keep_outside(sp, r, start, end, room))
			free_range(memory, r);
	}
	if (policy->mode != UAPI_MPOL_DEFAULT)
		insert(sp, take(&room->range), start, end, policy);
	spin_unlock(&sp->lock);
}

struct mempolicy shared_policy_lookup(struct shared_policy *sp, u64 index)
{
	struct mempolicy policy = { 0 };
	const struct shared_range *r;

	/* Most objects never have one. */
	if (likely(!atomic_load_explicit(&sp->any, memory_order_relaxed)))
		return policy;
	spin_lock(&sp->lock);
	r = first_of(sp, index, index + 1);
	if (r)
		policy = r->policy;
	spin_unlock(&sp->lock);
	return policy;
}

void shared_policy_check(const struct shared_policy *sp)
{
	const struct shared_range *r;
	u64 end = 0;

	VMF_ASSERT(!spin_is_locked(&sp->lock));
	for (; (r = first_of(sp, end, ~0ULL)); end = r->node.end)
		if (r->node.start < end || r->node.start >= r->node.end ||
		    r->policy.mode == UAPI_MPOL_DEFAULT)
			vmf_panic("shared_policy_check: pages %lu to %lu, mode %u, behind page %lu",
				  (unsigned long)r->node.start, (unsigned long)r->node.end,
				  r->policy.mode, (unsigned long)end);
}
