/* SPDX-License-Identifier: MIT */
/*
 * Red-black trees, intrusive, augmented: after every change of shape `update(node)` is called for
 * each node whose subtree changed, children before parents.  `update` may be NULL: then nothing is
 * kept.  The trees lock nothing: the caller holds what guards them.
 *
 * To look for a place, descend from &root->node by your own key, remembering the parent and the
 * link (&parent->left or &parent->right) that was NULL; rb_insert() takes both.
 */
#ifndef VMF_BASE_RBTREE_H
#define VMF_BASE_RBTREE_H

#include "engine/base/types.h"

struct rb_node {
	struct rb_node *parent, *left, *right;
	bool red;
};

struct rb_root {
	struct rb_node *node;
};

typedef void (*rb_update_fn)(struct rb_node *node);

/* Link node at *link (found by descending from the root) below parent, then rebalance. */
void rb_insert(struct rb_root *root, struct rb_node *node, struct rb_node *parent,
	       struct rb_node **link, rb_update_fn update);
/* Take node out.  Its links mean nothing afterwards. */
void rb_erase(struct rb_root *root, struct rb_node *node, rb_update_fn update);
/* The node's own value changed: update it and all above. */
void rb_propagate(struct rb_node *node, rb_update_fn update);
/* In order; NULL where there is none. */
struct rb_node *rb_first(const struct rb_root *root);
struct rb_node *rb_last(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *node);
struct rb_node *rb_prev(const struct rb_node *node);

#endif
