/* SPDX-License-Identifier: MIT */
/* Parts of the command that a run on this machine does not reach. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "machine/linux/uffd_abi.h"
#include "tools/figures.h"
#include "tools/probe.h"

static void missing_features_are_named_with_their_linux(void **state)
{
	char names[512], few[16];

	(void)state;
	assert_int_equal(missing_features(~0ull, names, sizeof(names)), 0);
	assert_string_equal(names, "");
	assert_int_equal(missing_features(UFFD_NEEDED, names, sizeof(names)), 0);
	assert_int_equal(
		missing_features(UFFD_NEEDED & ~(u64)UFFD_FEATURE_MOVE, names, sizeof(names)), 1);
	assert_string_equal(names, "UFFD_FEATURE_MOVE (Linux 6.8)");
	assert_int_equal(missing_features(0, names, sizeof(names)), 6);
	assert_non_null(strstr(names, "UFFD_FEATURE_EVENT_FORK (Linux 4.11), "));
	assert_int_equal(missing_features(0, few, sizeof(few)), 6);
	assert_int_equal(strlen(few), sizeof(few) - 1);
}

static void buckets_hold_what_falls_into_them(void **state)
{
	(void)state;
	for (unsigned b = 0; b + 1 < LATENCY_BUCKETS; b++) {
		assert_int_equal(report_bucket(report_bucket_floor(b)), b);
		assert_int_equal(report_bucket(report_bucket_floor(b + 1) - 1), b);
	}
	assert_int_equal(report_bucket(UINT64_MAX), LATENCY_BUCKETS - 1);
}

static void latency_is_that_of_the_share(void **state)
{
	static struct figures f;

	(void)state;
	assert_int_equal(latency_at(&f, 0.5), 0);
	f.latency[report_bucket(100)] = 50;
	f.latency[report_bucket(5000)] = 49;
	f.latency[report_bucket(700000)] = 1;
	f.latency_max = 701234;
	assert_in_range(latency_at(&f, 0.5), 100, 107);
	assert_in_range(latency_at(&f, 0.51), 5000, 5350);
	assert_in_range(latency_at(&f, 0.99), 5000, 5350);
	assert_int_equal(latency_at(&f, 0.999), 701234); /* never above the slowest */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(missing_features_are_named_with_their_linux),
		cmocka_unit_test(buckets_hold_what_falls_into_them),
		cmocka_unit_test(latency_is_that_of_the_share),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
