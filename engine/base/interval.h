/* SPDX-License-Identifier: MIT */
/*
 * Interval trees: half-open ranges [start, end) of numbers, any of which may overlap or be equal,
 * and the question which of them meet a given range.  Intrusive; the caller holds what guards them.
 * Of ranges with equal starts, those inserted later come later.
 */
#ifndef VMF_BASE_INTERVAL_H
#define VMF_BASE_INTERVAL_H

#include "engine/base/rbtree.h"

struct interval_node {
	struct rb_node rb;
	u64 start, end;	 /* set by the owner before insertion, unchanged while in the tree */
	u64 subtree_end; /* greatest end in this subtree */
};

void interval_insert(struct rb_root *root, struct interval_node *node);
void interval_remove(struct rb_root *root, struct interval_node *node);
/* The first node that meets [start, end), by its own start, and the one after `node`; NULL: none.
 * O(log n) each. */
struct interval_node *interval_first(const struct rb_root *root, u64 start, u64 end);
struct interval_node *interval_next(struct interval_node *node, u64 start, u64 end);

#endif
