/* SPDX-License-Identifier: MIT */
/* Interval trees: a red-black tree by start, each node knowing the greatest end below it. */
#include "engine/base/interval.h"

#define node_of(n) container_of(n, struct interval_node, rb)

static void update_end(struct rb_node *rb)
{
	struct interval_node *node = node_of(rb);
	u64 end = node->end;

	if (rb->left)
		end = max_of(end, node_of(rb->left)->subtree_end);
	if (rb->right)
		end = max_of(end, node_of(rb->right)->subtree_end);
	node->subtree_end = end;
}

void interval_insert(struct rb_root *root, struct interval_node *node)
{
	struct rb_node **link = &root->node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = node->start < node_of(parent)->start ? &parent->left : &parent->right;
	}
	node->subtree_end = node->end;
	rb_insert(root, &node->rb, parent, link, update_end);
}

void interval_remove(struct rb_root *root, struct interval_node *node)
{
	rb_erase(root, &node->rb, update_end);
}

/* The first of the subtree, some node of which ends above start. */
static struct interval_node *subtree_first(struct rb_node *rb, u64 start, u64 end)
{
	while (rb) {
		struct interval_node *node = node_of(rb);

		if (rb->left && node_of(rb->left)->subtree_end > start) {
			/* Whoever ends above start there, if it begins too late, all that come
			 * after begin too late as well. */
			rb = rb->left;
			continue;
		}
		if (node->start >= end)
			return NULL;
		if (node->end > start)
			return node;
		rb = rb->right;
		if (rb && node_of(rb)->subtree_end <= start)
			return NULL;
	}
	return NULL;
}

struct interval_node *interval_first(const struct rb_root *root, u64 start, u64 end)
{
	if (!root->node || node_of(root->node)->subtree_end <= start)
		return NULL;
	return subtree_first(root->node, start, end);
}

struct interval_node *interval_next(struct interval_node *node, u64 start, u64 end)
{
	struct rb_node *rb = &node->rb, *from;

	for (;;) {
		if (rb->right && node_of(rb->right)->subtree_end > start)
			return subtree_first(rb->right, start, end);
		do {
			from = rb;
			rb = rb->parent;
			if (!rb)
				return NULL;
		} while (rb->right == from);
		node = node_of(rb);
		if (node->start >= end)
			return NULL;
		if (node->end > start)
			return node;
	}
}
