/* SPDX-License-Identifier: MIT */
/* Extensions that a user loads into SPIN: paging policies and memory objects. */
#include "engine/base/errno.h"
#include "systems/lab.h"
#include "systems/spin/internal.h"
#include "tests/unit/unit.h"

static struct lab_result result;

/* A workload with a script loaded, or (NULL) none. */
static void run(const char *text, const char *script)
{
	struct workload w = { .name = "it", .text = text };
	struct system_extension x = { .name = "it.lua" };

	if (script) {
		x.text = script;
		x.size = strlen(script);
	}
	assert_int_equal(
		lab_run_extended(&spin_system, &w, 1, script ? &x : NULL, NULL, NULL, &result), 0);
}

static void run_well(const char *text, const char *script)
{
	run(text, script);
	if (result.verdict != LAB_OK || result.says[0])
		fail_msg("%s %s", result.message, result.says);
}

#define FIFO "return { reclaim = function(pages) return pages:oldest() end }"
#define MRU  "return { reclaim = function(pages) return pages:newest() end }"

static void the_last_used_is_the_one_to_go_in_a_loop(void **state)
{
	const char *loop = workload_find("loop")->text;
	u64 usual, fifo;

	(void)state;
	run_well(loop, NULL);
	usual = result.counts[PAID_IO_READS];
	run_well(loop, FIFO);
	fifo = result.counts[PAID_IO_READS];
	assert_true(usual >= 7 * 96);
	assert_true(fifo >= 7 * 96);
	run_well(loop, MRU);
	assert_true(result.counts[PAID_IO_READS] < fifo / 2);
}

/* Every conformance program has the results it has to have, whatever goes. */
static void no_policy_changes_a_result(void **state)
{
	static const char *const policies[] = {
		FIFO,
		MRU,
		"return { neighbours = true, reclaim = function(pages) return pages:newest() end }",
		"local kept return { reclaim = function(pages)\n"
		"  local last = kept kept = pages:oldest() return last end }",
		"return { reclaim = function(pages) if pages:count() % 2 == 0 then error('x') end "
		"end }",
		"return { reclaim = function() while true do end end }",
		"return { repossess = function(a) return a.b end }",
	};

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++)
		for (unsigned k = 0; k < ARRAY_SIZE(policies); k++) {
			run(workloads[i].text, policies[k]);
			if (result.verdict != LAB_OK)
				fail_msg("%s with %s: %s", workloads[i].name, policies[k],
					 result.message);
		}
}

static void a_memory_object_computes_its_bytes(void **state)
{
	(void)state;
	run_well("map any 4P rw as A\n"
		 "read A 1P 0x07\n"
		 "write A 1 9\n"
		 "read A 1 9\n"
		 "read A+1 4095 0x07\n"
		 "read A+1P 1P 0x08\n"
		 "pageout A 4P\n"
		 "read A 1 9\n" /* what was written stays */
		 "read A+1P 1P 0x08\n"
		 "advise A 1P dontneed\n"
		 "read A 1P 0x07\n" /* and what was forgotten is computed again */
		 "fork as P\n"
		 "process P\n"
		 "read A+2P 1P 0x09\n"	 /* also in a child */
		 "copyin A+3P 1P 0x0a\n" /* and for the kernel */
		 "exit P\n"
		 "check\n",
		 "local first return { fault = function(a)\n"
		 "  first = first or a\n"
		 "  return string.char(7 + (a - first) // 4096):rep(4096)\n"
		 "end }");
}

static void rights_are_kept(void **state)
{
	(void)state;
	run_well("map any 1P r as A\n"
		 "read A 1P 0x61\n"
		 "write A 1 1 -> segv accerr\n"
		 "read A 1P 0x61\n"
		 "map any 1P none as B\n"
		 "touch B 1P r -> segv accerr\n"
		 "protect B 1P r\n"
		 "read B 1P 0x61\n"
		 "read 0x10000 1 -> segv maperr\n"
		 "file f 1P 5\n"
		 "map any 1P r file f 0 shared as C\n"
		 "read C 1P 5\n" /* a file's bytes are the file's */
		 "check\n",
		 "return { fault = function(a) return ('a'):rep(4096) end }");
}

static void a_memory_object_that_fails_leaves_zeros(void **state)
{
	(void)state;
	run("map any 3P rw as A\nread A 1P 0x61\nread A+1P 1P 0\nread A+2P 1P 0\nread A 1P 0x61\n",
	    "local n = 0 return { fault = function(a)\n"
	    "  n = n + 1\n"
	    "  if n > 1 then error('no more') end\n"
	    "  return ('a'):rep(4096)\n"
	    "end }");
	assert_int_equal(result.verdict, LAB_OK);
	assert_string_equal(result.says, "it.lua:3: no more");
}

static void repossess_tells_what_went(void **state)
{
	(void)state;
	run("map 0x20000000 8P rw fixed as A\nwrite A 8P 1\npageout A+2P 1P\nread A 8P 1\n",
	    "return { repossess = function(a) error('gone ' .. a // 4096 % 16) end }");
	assert_int_equal(result.verdict, LAB_OK);
	assert_string_equal(result.says, "it.lua:1: gone 2");
}

static void reclaim_has_a_default_handler(void **state)
{
	(void)state;
	run_well(workload_find("pressure")->text, NULL);
	/* One handler for each page that is asked for, one when it was written out. */
	assert_true(result.counts[PAID_HANDLERS] > 2 * result.counts[PAID_EXCEPTIONS]);
}

static void on_several_cpus_nothing_is_lost(void **state)
{
	struct system_extension x = { .name = "mru.lua", .text = MRU, .size = strlen(MRU) };

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++) {
		assert_int_equal(
			lab_run_extended(&spin_system, &workloads[i], 4, &x, NULL, NULL, &result),
			0);
		if (result.verdict != LAB_OK)
			fail_msg("%s: %s", workloads[i].name, result.message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_last_used_is_the_one_to_go_in_a_loop),
		cmocka_unit_test(no_policy_changes_a_result),
		cmocka_unit_test(a_memory_object_computes_its_bytes),
		cmocka_unit_test(rights_are_kept),
		cmocka_unit_test(a_memory_object_that_fails_leaves_zeros),
		cmocka_unit_test(repossess_tells_what_went),
		cmocka_unit_test(reclaim_has_a_default_handler),
		cmocka_unit_test(on_several_cpus_nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
