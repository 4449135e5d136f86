/* SPDX-License-Identifier: MIT */
#include "engine/base/rbtree.h"
#include "tests/unit/unit.h"

/* Augmented with the greatest weight below each node, as the VMA tree is with its holes. */
struct item {
	u64 key, weight, heaviest;
	bool in;
	struct rb_node node;
};

static struct item *item_of(struct rb_node *n)
{
	return n ? container_of(n, struct item, node) : NULL;
}

static u64 heaviest(struct rb_node *n)
{
	return n ? item_of(n)->heaviest : 0;
}

static void update(struct rb_node *n)
{
	struct item *i = item_of(n);

	i->heaviest = max_of(i->weight, max_of(heaviest(n->left), heaviest(n->right)));
}

static void insert(struct rb_root *root, struct item *new)
{
	struct rb_node **link = &root->node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = new->key < item_of(parent)->key ? &parent->left : &parent->right;
	}
	rb_insert(root, &new->node, parent, link, update);
	new->in = true;
}

/* Checks the rules below n, returns its black height. */
static unsigned check_below(struct rb_node *n, struct rb_node *parent, u64 *count)
{
	unsigned left, right;

	if (!n)
		return 0;
	assert_ptr_equal(n->parent, parent);
	if (n->red) {
		assert_false(n->left && n->left->red);
		assert_false(n->right && n->right->red);
	}
	left = check_below(n->left, n, count);
	right = check_below(n->right, n, count);
	assert_int_equal(left, right);
	assert_int_equal(item_of(n)->heaviest,
			 max_of(item_of(n)->weight, max_of(heaviest(n->left), heaviest(n->right))));
	++*count;
	return left + !n->red;
}

static void check(struct rb_root *root, u64 expected)
{
	struct rb_node *n, *last = NULL;
	u64 count = 0, walked = 0;

	assert_false(root->node && root->node->red);
	check_below(root->node, NULL, &count);
	assert_int_equal(count, expected);
	for (n = rb_first(root); n; last = n, n = rb_next(n), walked++) {
		assert_ptr_equal(rb_prev(n), last);
		assert_true(!last || item_of(last)->key <= item_of(n)->key);
	}
	assert_ptr_equal(rb_last(root), last);
	assert_int_equal(walked, expected);
}

static void an_empty_tree_has_no_first_and_no_last(void **state)
{
	struct rb_root root = { NULL };

	(void)state;
	assert_null(rb_first(&root));
	assert_null(rb_last(&root));
}

static void stays_balanced_and_augmented_through_random_changes(void **state)
{
	enum { ITEMS = 200, STEPS = 20000 };
	static struct item items[ITEMS];
	struct rb_root root = { NULL };
	uint64_t rnd = 12345;
	u64 in = 0;

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		struct item *i = &items[rnd_below(&rnd, ITEMS)];

		if (!i->in) {
			i->key = rnd_below(&rnd, 100); /* equal keys, too */
			i->weight = rnd_below(&rnd, 1000);
			insert(&root, i);
			in++;
		} else if (rnd_below(&rnd, 3) == 0) {
			i->weight = rnd_below(&rnd, 1000);
			rb_propagate(&i->node, update);
		} else {
			rb_erase(&root, &i->node, update);
			i->in = false;
			in--;
		}
		check(&root, in);
	}
}

static void sorted_input_makes_no_list_of_it(void **state)
{
	enum { ITEMS = 4096 };
	static struct item items[ITEMS];
	struct rb_root root = { NULL };
	unsigned depth = 0;

	(void)state;
	for (u64 k = 0; k < ITEMS; k++) {
		items[k].key = items[k].weight = k;
		insert(&root, &items[k]);
	}
	check(&root, ITEMS);
	for (struct rb_node *n = rb_last(&root); n; n = n->parent)
		depth++;
	assert_in_range(depth, 1, 24); /* 2 log2(n + 1) */
	for (u64 k = 0; k < ITEMS; k++)
		rb_erase(&root, &items[k].node, update);
	assert_null(root.node);
}

static void update_may_be_null(void **state)
{
	struct rb_root root = { NULL };
	struct item a = { .key = 1 }, b = { .key = 2 };

	(void)state;
	rb_insert(&root, &a.node, NULL, &root.node, NULL);
	rb_insert(&root, &b.node, &a.node, &a.node.right, NULL);
	rb_erase(&root, &a.node, NULL);
	assert_ptr_equal(rb_first(&root), &b.node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_tree_has_no_first_and_no_last),
		cmocka_unit_test(stays_balanced_and_augmented_through_random_changes),
		cmocka_unit_test(sorted_input_makes_no_list_of_it),
		cmocka_unit_test(update_may_be_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
