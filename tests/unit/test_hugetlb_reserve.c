/* SPDX-License-Identifier: MIT */
/* Reservation maps: the rules one by one, then random ones against an array of flags. */
#include "engine/base/errno.h"
#include "engine/hugetlb/reserve.h"
#include "tests/unit/panics.h"
#include "tests/unit/unit.h"

static struct resv_map *m;
static u64 allocated; /* blocks */
static bool no_memory;

static void *count_alloc(void *ctx, u64 bytes)
{
	(void)ctx;
	if (no_memory)
		return NULL;
	allocated++;
	return calloc(1, bytes);
}

static void count_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	(void)bytes;
	allocated--;
	free(p);
}

static const struct engine_memory memory = { .alloc = count_alloc, .free = count_free };

static int setup(void **state)
{
	(void)state;
	no_memory = false;
	m = resv_map_alloc(&memory);
	assert_non_null(m);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	resv_map_put(m);
	assert_int_equal(allocated, 0);
	return 0;
}

static s64 add(u64 from, u64 to)
{
	s64 lacking = region_chg(m, from, to);

	assert_int_equal(region_add(m, from, to), lacking);
	return lacking;
}

static void what_is_lacking_is_told_before_it_is_added(void **state)
{
	(void)state;
	assert_int_equal(region_chg(m, 0, 10), 10);
	assert_int_equal(region_count(m, 0, 10), 0);
	assert_int_equal(region_add(m, 0, 10), 10);
	assert_int_equal(region_count(m, 0, 10), 10);
	assert_int_equal(region_chg(m, 5, 15), 5);
	region_abort(m);
	assert_int_equal(region_count(m, 0, 100), 10);
}

static void of_two_that_add_the_same_the_second_adds_nothing(void **state)
{
	(void)state;
	assert_int_equal(region_chg(m, 3, 4), 1);
	assert_int_equal(region_chg(m, 3, 4), 1);
	assert_int_equal(region_add(m, 3, 4), 1);
	assert_int_equal(region_add(m, 3, 4), 0);
}

static void neighbours_become_one_region(void **state)
{
	(void)state;
	add(0, 2);
	add(4, 6);
	assert_int_equal(allocated, 3); /* with the map */
	assert_int_equal(add(2, 4), 2);
	assert_int_equal(allocated, 2);
	assert_int_equal(region_count(m, 1, 5), 4);
}

static void a_region_loses_its_ends_or_its_middle(void **state)
{
	(void)state;
	add(0, 10);
	assert_int_equal(region_del(m, 8, 20), 2);
	assert_int_equal(region_del(m, 0, 1), 1);
	assert_int_equal(region_del(m, 3, 5), 2);
	assert_int_equal(region_count(m, 0, 10), 5);
	assert_int_equal(region_count(m, 3, 5), 0);
	assert_int_equal(region_del(m, 0, ~0ULL), 5);
	assert_int_equal(region_del(m, 0, ~0ULL), 0);
}

static void without_memory_nothing_changes_and_what_was_announced_is_added(void **state)
{
	(void)state;
	add(0, 10);
	assert_int_equal(region_chg(m, 20, 30), 10);
	no_memory = true;
	assert_int_equal(region_chg(m, 40, 50), -ENOMEM);
	assert_int_equal(region_del(m, 4, 6), -ENOMEM);
	assert_int_equal(region_count(m, 0, 10), 10);
	assert_int_equal(region_add(m, 20, 30), 10);
	assert_int_equal(region_del(m, 8, 25), 7); /* nothing is cut in two */
}

static void what_nobody_announced_is_not_added(void **state)
{
	(void)state;
	assert_panics(region_add(m, 0, 1), "nobody announced");
	m->lock = (spinlock_t){ 0 }; /* the panic came with it held */
}

static void it_agrees_with_an_array_of_flags(void **state)
{
	enum { N = 60 };
	bool flags[N] = { 0 };
	u64 seed = 20261127;

	(void)state;
	for (unsigned step = 0; step < 20000; step++) {
		u64 a = rnd_below(&seed, N), b = rnd_below(&seed, N + 1);
		u64 from = min_of(a, b), to = max_of(a, b), have = 0;

		for (u64 i = from; i < to; i++)
			have += flags[i];
		switch (rnd_below(&seed, 4)) {
		case 0:
			if (from < to)
				assert_int_equal(add(from, to), to - from - have);
			break;
		case 1:
			assert_int_equal(region_del(m, from, to), have);
			memset(flags + from, 0, to - from);
			continue;
		default:
			assert_int_equal(region_count(m, from, to), have);
			continue;
		}
		memset(flags + from, 1, to - from);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_lacking_is_told_before_it_is_added),
		T(of_two_that_add_the_same_the_second_adds_nothing),
		T(neighbours_become_one_region),
		T(a_region_loses_its_ends_or_its_middle),
		T(without_memory_nothing_changes_and_what_was_announced_is_added),
		T(what_nobody_announced_is_not_added),
		T(it_agrees_with_an_array_of_flags),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
