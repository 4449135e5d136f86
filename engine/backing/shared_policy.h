/* SPDX-License-Identifier: MIT */
/*
 * Where the pages of an object that programs share come from, by range of its indexes, as Linux's
 * shared_policy has it (mbind(2)): whoever brings a page in goes by what is said here, and it stays
 * until the object goes, whoever unmaps it.
 *
 * Ranges do not overlap.  Where there is none the object says nothing.
 */
#ifndef VMF_BACKING_SHARED_POLICY_H
#define VMF_BACKING_SHARED_POLICY_H

#include "engine/base/interval.h"
#include "engine/base/lock.h"
#include "engine/base/memory.h"
#include "engine/space/mempolicy.h"

struct shared_range {
	struct interval_node node; /* pages of the object */
	struct mempolicy policy;   /* not default */
};

struct shared_policy {
	_Atomic bool any; /* there is a range, or has been one */
	spinlock_t lock;  /* guards the tree; innermost */
	struct rb_root ranges;
};

/* Memory for one call of shared_policy_set(), which so cannot fail. */
struct shared_policy_room {
	struct shared_range *range, *rest;
};

void shared_policy_init(struct shared_policy *sp);
/* Forget all.  Nobody else knows it any more. */
void shared_policy_fini(struct shared_policy *sp, const struct engine_memory *memory);

/* 0, -ENOMEM: there is nothing to be given back. */
int shared_policy_get_room(const struct engine_memory *memory, struct shared_policy_room *room);
void shared_policy_put_room(const struct engine_memory *memory, struct shared_policy_room *room);
/* Pages [start, end), at least one, go by this policy from now on; default: by none.  Takes what it
 * needs out of the room. */
void shared_policy_set(struct shared_policy *sp, const struct engine_memory *memory, u64 start,
		       u64 end, const struct mempolicy *policy, struct shared_policy_room *room);
/* What page `index` goes by; default: the object says nothing. */
struct mempolicy shared_policy_lookup(struct shared_policy *sp, u64 index);
/* Its invariants; panics with a message.  Nobody else active. */
void shared_policy_check(const struct shared_policy *sp);

#endif
