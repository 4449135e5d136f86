/* SPDX-License-Identifier: MIT */
/* Radix trees and interval trees against plain arrays. */
#include "engine/base/errno.h"
#include "engine/base/interval.h"
#include "engine/base/radix.h"
#include "tests/unit/unit.h"

static long allocated;
static long allowed = -1; /* allocations that still succeed; -1: all */

static void *count_alloc(void *ctx, u64 bytes)
{
	(void)ctx;
	if (!allowed)
		return NULL;
	if (allowed > 0)
		allowed--;
	allocated++;
	return calloc(1, bytes);
}

static void count_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx, (void)bytes;
	allocated--;
	free(p);
}

static const struct engine_memory memory = { .alloc = count_alloc, .free = count_free };

static void what_is_stored_is_found_and_nothing_else(void **state)
{
	struct radix_tree t;
	static int things[3];
	u64 at = 0;

	(void)state;
	radix_init(&t, &memory);
	assert_null(radix_load(&t, 0));
	assert_null(radix_next(&t, &at));
	assert_int_equal(radix_store(&t, 5, &things[0]), 0);
	assert_ptr_equal(radix_load(&t, 5), &things[0]);
	assert_null(radix_load(&t, 5 + 64));
	assert_int_equal(radix_store(&t, (1ULL << 52) - 1, &things[1]), 0);
	assert_ptr_equal(radix_load(&t, 5), &things[0]);
	assert_ptr_equal(radix_load(&t, (1ULL << 52) - 1), &things[1]);
	assert_null(radix_load(&t, 1ULL << 52));
	assert_int_equal(radix_store(&t, 64, radix_value(77)), 0);
	assert_true(radix_is_value(radix_load(&t, 64)));
	assert_int_equal(radix_to_value(radix_load(&t, 64)), 77);
	at = 6;
	assert_true(radix_is_value(radix_next(&t, &at)));
	assert_int_equal(at, 64);
	at = 65;
	assert_ptr_equal(radix_next(&t, &at), &things[1]);
	assert_int_equal(at, (1ULL << 52) - 1);
	radix_store(&t, 5, NULL);
	radix_store(&t, 64, NULL);
	radix_store(&t, at, NULL);
	assert_null(t.root);
	assert_int_equal(allocated, 0);
}

enum { INDEXES = 5000 };

static void it_agrees_with_an_array(void **state)
{
	static void *items[INDEXES];
	static bool marks[INDEXES];
	struct radix_tree t;
	u64 rnd = 11, stride = 37; /* spreads over three levels */

	(void)state;
	memset(items, 0, sizeof(items));
	memset(marks, 0, sizeof(marks));
	radix_init(&t, &memory);
	for (unsigned k = 0; k < 200000; k++) {
		u64 i = rnd_below(&rnd, INDEXES), at = i * stride, n;
		void *found;

		switch (rnd_below(&rnd, 6)) {
		case 0:
		case 1:
			items[i] = radix_value(rnd_below(&rnd, 1000));
			marks[i] = false;
			assert_int_equal(radix_store(&t, at, items[i]), 0);
			break;
		case 2:
			items[i] = NULL;
			marks[i] = false;
			assert_int_equal(radix_store(&t, at, NULL), 0);
			break;
		case 3:
			if (items[i]) {
				marks[i] = rnd_below(&rnd, 2);
				radix_set_mark(&t, at, marks[i]);
			}
			break;
		case 4:
			for (n = i; n < INDEXES && !items[n]; n++)
				;
			at = i * stride - (i && rnd_below(&rnd, 2));
			found = radix_next(&t, &at);
			assert_ptr_equal(found, n < INDEXES ? items[n] : NULL);
			if (found)
				assert_int_equal(at, n * stride);
			break;
		default:
			for (n = i; n < INDEXES && !marks[n]; n++)
				;
			found = radix_next_marked(&t, &at);
			assert_ptr_equal(found, n < INDEXES ? items[n] : NULL);
			if (found)
				assert_int_equal(at, n * stride);
			assert_int_equal(radix_marked(&t, i * stride), marks[i]);
		}
		assert_ptr_equal(radix_load(&t, i * stride), items[i]);
	}
	radix_destroy(&t);
	assert_int_equal(allocated, 0);
}

static void no_memory_leaves_it_as_it_was(void **state)
{
	struct radix_tree t;
	static int thing;

	(void)state;
	radix_init(&t, &memory);
	radix_store(&t, 3, &thing);
	for (allowed = 0; allowed < 8;) {
		long start = allowed;
		int err = radix_store(&t, 1ULL << 40, &thing);

		allowed = -1;
		assert_ptr_equal(radix_load(&t, 3), &thing);
		if (!err)
			break;
		assert_int_equal(err, -ENOMEM);
		assert_null(radix_load(&t, 1ULL << 40));
		allowed = start + 1;
	}
	allowed = -1;
	assert_ptr_equal(radix_load(&t, 1ULL << 40), &thing);
	radix_store(&t, 3, NULL);
	radix_store(&t, 1ULL << 40, NULL);
	assert_int_equal(allocated, 0);
}

enum { NODES = 300 };

static void the_intervals_that_meet_a_range_are_found_in_order(void **state)
{
	static struct interval_node nodes[NODES];
	static bool in[NODES];
	struct rb_root root = { NULL };
	u64 rnd = 5;

	(void)state;
	for (unsigned k = 0; k < 20000; k++) {
		unsigned i = rnd_below(&rnd, NODES), n = 0, found = 0;
		u64 start = rnd_below(&rnd, 1000), end = start + 1 + rnd_below(&rnd, 20), last = 0;

		if (in[i]) {
			interval_remove(&root, &nodes[i]);
		} else {
			nodes[i].start = rnd_below(&rnd, 1000);
			nodes[i].end = nodes[i].start + 1 + rnd_below(&rnd, 50);
			interval_insert(&root, &nodes[i]);
		}
		in[i] = !in[i];
		for (i = 0; i < NODES; i++)
			n += in[i] && nodes[i].start < end && nodes[i].end > start;
		for (struct interval_node *v = interval_first(&root, start, end); v;
		     v = interval_next(v, start, end)) {
			assert_true(v->start < end && v->end > start && v->start >= last);
			last = v->start;
			found++;
		}
		assert_int_equal(found, n);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_stored_is_found_and_nothing_else),
		cmocka_unit_test(it_agrees_with_an_array),
		cmocka_unit_test(no_memory_leaves_it_as_it_was),
		cmocka_unit_test(the_intervals_that_meet_a_range_are_found_in_order),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
