/* SPDX-License-Identifier: MIT */
/*
 * Radix trees.  A node of shift s has slot (index >> s) & 63 for an index; at shift 0 the slots are
 * items, above they are nodes.  Each node has two bitmaps of its slots: occupied, and with a mark
 * somewhere below.  A node with no occupied slot does not stay; the root's shift only grows while
 * it has anything.
 */
#include "engine/base/errno.h"
#include "engine/base/radix.h"
#include "engine/base/text.h"

#define RADIX_BITS  6
#define RADIX_SLOTS (1u << RADIX_BITS)

enum bitmap { OCCUPIED, MARKED, NR_BITMAPS };

struct radix_node {
	struct radix_node *parent;
	u8 shift;
	u8 offset; /* its slot in parent */
	u64 bits[NR_BITMAPS];
	void *slots[RADIX_SLOTS];
};

static unsigned slot_of(const struct radix_node *n, u64 index)
{
	return index >> n->shift & (RADIX_SLOTS - 1);
}

static u64 bit(unsigned slot)
{
	return 1ULL << slot;
}

/* The highest index below this node, if it were the root. */
static u64 last_index(const struct radix_node *n)
{
	return (1ULL << (n->shift + RADIX_BITS)) - 1;
}

void radix_init(struct radix_tree *t, const struct engine_memory *memory)
{
	t->root = NULL;
	t->memory = memory;
}

static struct radix_node *new_node(struct radix_tree *t, unsigned shift)
{
	struct radix_node *n = t->memory->alloc(t->memory->ctx, sizeof(*n));

	if (n)
		n->shift = shift;
	return n;
}

static void free_node(struct radix_tree *t, struct radix_node *n)
{
	t->memory->free(t->memory->ctx, n, sizeof(*n));
}

void radix_destroy(struct radix_tree *t)
{
	struct radix_node *n = t->root;

	while (n) {
		struct radix_node *parent = n->parent;

		if (n->shift && n->bits[OCCUPIED]) {
			unsigned slot = __builtin_ctzll(n->bits[OCCUPIED]);

			n->bits[OCCUPIED] &= ~bit(slot);
			n = n->slots[slot];
			continue;
		}
		free_node(t, n);
		n = parent;
	}
	t->root = NULL;
}

/* The leaf that index belongs to, or NULL. */
static struct radix_node *find_leaf(const struct radix_tree *t, u64 index)
{
	struct radix_node *n = t->root;

	if (!n || index > last_index(n))
		return NULL;
	while (n && n->shift)
		n = n->slots[slot_of(n, index)];
	return n;
}

void *radix_load(const struct radix_tree *t, u64 index)
{
	const struct radix_node *leaf = find_leaf(t, index);

	return leaf ? leaf->slots[slot_of(leaf, index)] : NULL;
}

/* ---- storing ---- */

/* Empty nodes, from this one upwards, go. */
static void prune(struct radix_tree *t, struct radix_node *n)
{
	while (n && !n->bits[OCCUPIED]) {
		struct radix_node *parent = n->parent;

		if (parent) {
			parent->slots[n->offset] = NULL;
			parent->bits[OCCUPIED] &= ~bit(n->offset);
		} else {
			t->root = NULL;
		}
		free_node(t, n);
		n = parent;
	}
}

static void clear_mark(struct radix_node *n, unsigned slot)
{
	n->bits[MARKED] &= ~bit(slot);
	while (!n->bits[MARKED] && n->parent) {
		n->parent->bits[MARKED] &= ~bit(n->offset);
		n = n->parent;
	}
}

static void link_node(struct radix_node *parent, unsigned slot, struct radix_node *n)
{
	n->parent = parent;
	n->offset = slot;
	parent->slots[slot] = n;
	parent->bits[OCCUPIED] |= bit(slot);
	if (n->bits[MARKED])
		parent->bits[MARKED] |= bit(slot);
}

/* Let the root reach as far as index. */
static int grow(struct radix_tree *t, u64 index)
{
	struct radix_node *top;
	unsigned shift = 0;

	if (!t->root) {
		while (index >> shift >= RADIX_SLOTS)
			shift += RADIX_BITS;
		t->root = new_node(t, shift);
		return t->root ? 0 : -ENOMEM;
	}
	while (index > last_index(t->root)) {
		top = new_node(t, t->root->shift + RADIX_BITS);
		if (!top)
			return -ENOMEM;
		link_node(top, 0, t->root);
		t->root = top;
	}
	return 0;
}

/* The leaf that index belongs to, made if need be; NULL: no memory. */
static struct radix_node *make_leaf(struct radix_tree *t, u64 index)
{
	struct radix_node *n, *child;

	if (grow(t, index))
		return NULL;
	for (n = t->root; n->shift; n = child) {
		unsigned slot = slot_of(n, index);

		child = n->slots[slot];
		if (child)
			continue;
		child = new_node(t, n->shift - RADIX_BITS);
		if (!child) {
			prune(t, n);
			return NULL;
		}
		link_node(n, slot, child);
	}
	return n;
}

int radix_store(struct radix_tree *t, u64 index, void *item)
{
	struct radix_node *leaf;
	unsigned slot;

	if (index >> 54)
		vmf_panic("radix: index %lx", (unsigned long)index);
	leaf = find_leaf(t, index);
	if (!leaf && !item)
		return 0;
	if (!leaf)
		leaf = make_leaf(t, index);
	if (!leaf)
		return -ENOMEM;
	slot = slot_of(leaf, index);
	if (leaf->bits[MARKED] & bit(slot))
		clear_mark(leaf, slot);
	leaf->slots[slot] = item;
	if (item) {
		leaf->bits[OCCUPIED] |= bit(slot);
	} else {
		leaf->bits[OCCUPIED] &= ~bit(slot);
		prune(t, leaf);
	}
	return 0;
}

/* ---- looking on ---- */

static void *next(const struct radix_tree *t, u64 *index, enum bitmap which)
{
	const struct radix_node *n = t->root;
	u64 at = *index;

	while (n && at <= last_index(t->root)) {
		unsigned slot = slot_of(n, at);
		u64 found = n->bits[which] >> slot << slot;
		u64 below = (1ULL << n->shift) - 1;

		if (!found) {
			/* On behind this node, from the top. */
			at = (at | below | (u64)(RADIX_SLOTS - 1) << n->shift) + 1;
			n = t->root;
			continue;
		}
		if ((unsigned)__builtin_ctzll(found) != slot) {
			slot = __builtin_ctzll(found);
			at = (at & ~(below | (u64)(RADIX_SLOTS - 1) << n->shift)) |
			     (u64)slot << n->shift;
		}
		if (!n->shift) {
			*index = at;
			return n->slots[slot];
		}
		n = n->slots[slot];
	}
	return NULL;
}

void *radix_next(const struct radix_tree *t, u64 *index)
{
	return next(t, index, OCCUPIED);
}

void *radix_next_marked(const struct radix_tree *t, u64 *index)
{
	return next(t, index, MARKED);
}

void radix_set_mark(struct radix_tree *t, u64 index, bool mark)
{
	struct radix_node *n = find_leaf(t, index);
	unsigned slot;

	if (!n || !n->slots[slot_of(n, index)])
		vmf_panic("radix: mark on nothing at %lx", (unsigned long)index);
	slot = slot_of(n, index);
	if (!mark) {
		clear_mark(n, slot);
		return;
	}
	n->bits[MARKED] |= bit(slot);
	for (; n->parent; n = n->parent)
		n->parent->bits[MARKED] |= bit(n->offset);
}

bool radix_marked(const struct radix_tree *t, u64 index)
{
	const struct radix_node *leaf = find_leaf(t, index);

	return leaf && leaf->bits[MARKED] & bit(slot_of(leaf, index));
}
