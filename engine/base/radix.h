/* SPDX-License-Identifier: MIT */
/*
 * Radix trees: a sparse array of items by index (below 2^54), with a mark that can be set on items
 * and looked for.  64 slots a node; nodes come and go with the items.  The tree locks nothing.
 *
 * An item is a pointer to something that is aligned to at least two bytes, or a value: a number
 * below 2^63 that takes the pointer's place.
 */
#ifndef VMF_BASE_RADIX_H
#define VMF_BASE_RADIX_H

#include "engine/base/memory.h"

struct radix_node;

struct radix_tree {
	struct radix_node *root;
	const struct engine_memory *memory;
};

static inline bool radix_is_value(const void *item)
{
	return (uintptr_t)item & 1;
}
static inline void *radix_value(u64 v)
{
	return (void *)(uintptr_t)(v << 1 | 1);
}
static inline u64 radix_to_value(const void *item)
{
	return (uintptr_t)item >> 1;
}

void radix_init(struct radix_tree *t, const struct engine_memory *memory);
/* Free the nodes; the items are forgotten. */
void radix_destroy(struct radix_tree *t);

/* NULL: nothing there. */
void *radix_load(const struct radix_tree *t, u64 index);
/* Put an item where there may be one (its mark goes), or NULL: take it out.  0, or -ENOMEM, which
 * comes only of an item at an index that had none. */
int radix_store(struct radix_tree *t, u64 index, void *item);
/* The first item at or after *index, which becomes its index; NULL: none. */
void *radix_next(const struct radix_tree *t, u64 *index);
void *radix_next_marked(const struct radix_tree *t, u64 *index);
/* There is an item at index. */
void radix_set_mark(struct radix_tree *t, u64 index, bool mark);
bool radix_marked(const struct radix_tree *t, u64 index);

#endif
