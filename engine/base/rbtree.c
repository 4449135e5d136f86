/* SPDX-License-Identifier: MIT */
/*
 * Red-black trees with parent pointers; see rbtree.h for the promise.
 *
 * The rules: the root is black; a red node has black children; every way down from a node passes
 * the same number of black nodes.  NULL children count as black.
 *
 * Augmentation: insertion and removal first bring every value on the way to the root up to date,
 * and then rebalance.  A rotation does not change which nodes are below its top, so that updating
 * the two nodes it turns (lower one first) is enough and nothing above needs another look.
 */
#include "engine/base/rbtree.h"

static bool is_red(const struct rb_node *n)
{
	return n && n->red;
}

static void update_one(struct rb_node *n, rb_update_fn update)
{
	if (update)
		update(n);
}

/* Whatever pointed to `old` from above points to `new`, which may be NULL. */
static void replace_child(struct rb_root *root, struct rb_node *old, struct rb_node *new)
{
	struct rb_node *parent = old->parent;

	if (!parent)
		root->node = new;
	else if (parent->left == old)
		parent->left = new;
	else
		parent->right = new;
	if (new)
		new->parent = parent;
}

/* The right child of n comes up, n becomes its left child. */
static void rotate_left(struct rb_root *root, struct rb_node *n, rb_update_fn update)
{
	struct rb_node *up = n->right;

	n->right = up->left;
	if (up->left)
		up->left->parent = n;
	replace_child(root, n, up);
	up->left = n;
	n->parent = up;
	update_one(n, update);
	update_one(up, update);
}

static void rotate_right(struct rb_root *root, struct rb_node *n, rb_update_fn update)
{
	struct rb_node *up = n->left;

	n->left = up->right;
	if (up->right)
		up->right->parent = n;
	replace_child(root, n, up);
	up->right = n;
	n->parent = up;
	update_one(n, update);
	update_one(up, update);
}

/* n is red and its parent is too; the grandparent exists, since a red node is never the root.
 * Returns the node to go on with, or NULL when the rules hold. */
static struct rb_node *repair_red_pair(struct rb_root *root, struct rb_node *n, rb_update_fn update)
{
	struct rb_node *parent = n->parent, *grand = parent->parent;
	bool left = grand->left == parent;
	struct rb_node *uncle = left ? grand->right : grand->left;

	if (is_red(uncle)) {
		parent->red = uncle->red = false;
		grand->red = true;
		return grand;
	}
	if (left && parent->right == n) {
		rotate_left(root, parent, update);
		parent = n;
	} else if (!left && parent->left == n) {
		rotate_right(root, parent, update);
		parent = n;
	}
	parent->red = false;
	grand->red = true;
	if (left)
		rotate_right(root, grand, update);
	else
		rotate_left(root, grand, update);
	return NULL;
}

void rb_insert(struct rb_root *root, struct rb_node *node, struct rb_node *parent,
	       struct rb_node **link, rb_update_fn update)
{
	node->parent = parent;
	node->left = node->right = NULL;
	node->red = true;
	*link = node;
	rb_propagate(node, update);

	while (node && is_red(node->parent))
		node = repair_red_pair(root, node, update);
	root->node->red = false;
}

/*
 * The ways through `n` (a child of parent, maybe NULL) lack one black node.
 * Returns true when the rules hold, false to go on with the parent.
 */
static bool repair_short_side(struct rb_root *root, struct rb_node *n, struct rb_node *parent,
			      rb_update_fn update)
{
	bool left = parent->left == n;
	struct rb_node *sibling = left ? parent->right : parent->left;
	struct rb_node *near, *far;

	if (sibling->red) {
		sibling->red = false;
		parent->red = true;
		if (left)
			rotate_left(root, parent, update);
		else
			rotate_right(root, parent, update);
		sibling = left ? parent->right : parent->left;
	}
	near = left ? sibling->left : sibling->right;
	far = left ? sibling->right : sibling->left;
	if (!is_red(near) && !is_red(far)) {
		sibling->red = true;
		return false;
	}
	if (!is_red(far)) {
		near->red = false;
		sibling->red = true;
		if (left)
			rotate_right(root, sibling, update);
		else
			rotate_left(root, sibling, update);
		far = sibling;
		sibling = near;
	}
	sibling->red = parent->red;
	parent->red = far->red = false;
	if (left)
		rotate_left(root, parent, update);
	else
		rotate_right(root, parent, update);
	return true;
}

/* A node with two children changes places with the next one in order, which has no left child.
 * Only the links move: the structures around the nodes stay where they are. */
static void swap_with_successor(struct rb_root *root, struct rb_node *node)
{
	struct rb_node *next = node->right, *next_right, *next_parent;
	bool red;

	while (next->left)
		next = next->left;
	next_right = next->right;
	next_parent = next->parent;
	red = next->red;
	next->red = node->red;
	node->red = red;

	replace_child(root, node, next);
	next->left = node->left;
	next->left->parent = next;
	if (next_parent == node) {
		next->right = node;
		node->parent = next;
	} else {
		next->right = node->right;
		next->right->parent = next;
		next_parent->left = node;
		node->parent = next_parent;
	}
	node->left = NULL;
	node->right = next_right;
	if (next_right)
		next_right->parent = node;
}

void rb_erase(struct rb_root *root, struct rb_node *node, rb_update_fn update)
{
	struct rb_node *child, *parent;
	bool was_red;

	if (node->left && node->right)
		swap_with_successor(root, node);
	child = node->left ? node->left : node->right;
	parent = node->parent;
	was_red = node->red;
	replace_child(root, node, child);
	if (parent)
		rb_propagate(parent, update);
	if (was_red)
		return;
	while (parent && !is_red(child)) {
		if (repair_short_side(root, child, parent, update))
			return;
		child = parent;
		parent = child->parent;
	}
	if (child)
		child->red = false;
}

void rb_propagate(struct rb_node *node, rb_update_fn update)
{
	if (!update)
		return;
	for (; node; node = node->parent)
		update(node);
}

struct rb_node *rb_first(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->left)
		n = n->left;
	return n;
}

struct rb_node *rb_last(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->right)
		n = n->right;
	return n;
}

struct rb_node *rb_next(const struct rb_node *node)
{
	struct rb_node *n = node->right;

	if (n) {
		while (n->left)
			n = n->left;
		return n;
	}
	while (node->parent && node->parent->right == node)
		node = node->parent;
	return node->parent;
}

struct rb_node *rb_prev(const struct rb_node *node)
{
	struct rb_node *n = node->left;

	if (n) {
		while (n->right)
			n = n->right;
		return n;
	}
	while (node->parent && node->parent->left == node)
		node = node->parent;
	return node->parent;
}
