/* SPDX-License-Identifier: MIT */
/* Scripts on a whole soft machine: what a program does and what is to come of it. */
#include <sched.h>
#include <time.h>

#include "machine/soft/script.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

static struct world w;

static int setup(void **state)
{
	(void)state;
	return world_create(&w, (struct world_options){ .cpus = 2 });
}

static int teardown(void **state)
{
	(void)state;
	world_destroy(&w);
	return 0;
}

static int run(const char *text, char *message)
{
	struct script *s;
	int err = script_parse(text, strlen(text), &s, message);

	if (err)
		fail_msg("%s", message);
	soft_load_mm(&w.m->cpus[1], w.mm);
	err = script_run(s, w.m, w.mm, message);
	script_free(s);
	return err;
}

static void passes(const char *text)
{
	char message[SCRIPT_MESSAGE];

	if (run(text, message))
		fail_msg("%s", message);
}

static void fails(const char *text, const char *expected)
{
	char message[SCRIPT_MESSAGE];

	assert_int_not_equal(run(text, message), 0);
	assert_string_equal(message, expected);
}

static void fresh_memory_is_zero_and_keeps_what_is_written(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "read A 4P 0\n"
	       "write A+100 2P 7\n"
	       "read A 100 0\n"
	       "read A+100 2P 7\n"
	       "cpu 1\n"
	       "read A+100 2P 7\n"
	       "check\n");
}

static void each_cpu_runs_a_process_of_its_own(void **state)
{
	(void)state;
	passes("map any 1P rw as A\n"
	       "write A 1P 1\n"
	       "fork as P\n"
	       "cpu 1\n"
	       "process P\n"
	       "write A 1P 2\n"
	       "expect minor 1\n"
	       "cpu 0\n"
	       "read A 1P 1\n"
	       "cpu 1\n"
	       "read A 1P 2\n"
	       "fork as Q\n"
	       "exit P\n" /* the first is there instead */
	       "read A 1P 1\n"
	       "fork as P\n"
	       "process Q\n"
	       "read A 1P 2\n"
	       "check\n");
	assert_ptr_equal(atomic_load(&w.m->cpus[1].mm), w.mm); /* both are gone */
	fails("process P\n", "line 1: process: there is no such process");
	fails("exit P\n", "line 1: exit: there is no such process");
	fails("fork as P\nfork as P\n", "line 2: fork: there is a process of that name");
}

static void rights_are_what_was_asked_for(void **state)
{
	(void)state;
	passes("map any 2P r as A\n"
	       "read A 2P 0\n"
	       "write A 1 1 -> segv accerr\n"
	       "touch A 1 x -> segv accerr\n"
	       "protect A+1P 1P rw\n"
	       "write A+1P 1P 1\n"
	       "write A 1 1 -> segv accerr\n"
	       "protect A 2P none\n"
	       "read A+1P 1 -> segv accerr\n"
	       "protect A 2P r\n"
	       "read A+1P 1P 1\n"
	       "write A+1P 1 2 -> segv accerr\n"
	       "read A+2P 1 -> segv maperr\n"
	       "check\n");
}

static void unmapping_the_middle_leaves_both_ends(void **state)
{
	(void)state;
	passes("map 0x20000000 3P rw fixed -> 0x20000000\n"
	       "write 0x20000000 3P 5\n"
	       "unmap 0x20001000 1P\n"
	       "expect maps 2\n"
	       "expect rss 2\n"
	       "read 0x20000000 1P 5\n"
	       "read 0x20001000 1 -> segv maperr\n"
	       "read 0x20002000 1P 5\n"
	       "map 0x20000000 1P rw noreplace -> eexist\n"
	       "map 0x20001000 1P rw noreplace -> 0x20001000\n"
	       "expect maps 1\n"
	       "read 0x20001000 1P 0\n"
	       "check\n");
}

static void bytes_survive_going_out_and_coming_back(void **state)
{
	(void)state;
	passes("map any 8P rw as A\n"
	       "write A 4P 3\n"
	       "write A+4P 4P 4\n"
	       "expect rss 8\n"
	       "pageout A 8P\n"
	       "expect rss 0\n"
	       "expect swapped 8\n"
	       "check\n"
	       "read A 4P 3\n"
	       "read A+4P 4P 4\n"
	       "expect swapped 0\n"
	       "check\n");
}

static void a_moved_mapping_takes_its_pages_along(void **state)
{
	(void)state;
	passes("map 0x20000000 2P rw fixed\n"
	       "map 0x20002000 1P r fixed\n"
	       "write 0x20000000 2P 6\n"
	       "pageout 0x20000000 1P\n"
	       "remap 0x20000000 2P 4P -> enomem\n"
	       "remap 0x20000000 2P 4P maymove as B\n"
	       "read 0x20000000 1 -> segv maperr\n"
	       "read B 2P 6\n"
	       "read B+2P 2P 0\n"
	       "remap B 4P 1P as B\n"
	       "read B+1P 1 -> segv maperr\n"
	       "read B 1P 6\n"
	       "check\n");
}

static void what_is_not_needed_comes_back_as_zeros(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "write A 4P 9\n"
	       "pageout A 1P\n"
	       "advise A 2P dontneed\n"
	       "read A 2P 0\n"
	       "read A+2P 2P 9\n"
	       "check\n");
}

static void a_touch_leaves_the_bytes_and_other_cpus_follow_each_change(void **state)
{
	(void)state;
	passes("map any 4P rw as A\n"
	       "write A 4P 1\n"
	       "cpu 1\n"
	       "touch A 4P w\n"
	       "read A 4P 1\n"
	       "cpu 0\n"
	       "unmap A 4P\n"
	       "cpu 1\n"
	       "touch A 1 r -> segv maperr\n"
	       "check\n");
}

static void bad_arguments_are_refused(void **state)
{
	(void)state;
	passes("map any 0 rw -> einval\n"
	       "map 0x20000001 1P rw fixed -> einval\n"
	       "unmap 0x20000001 1P -> einval\n"
	       "unmap 0x20000000 0 -> einval\n"
	       "protect 0x20000000 1P r -> enomem\n"
	       "remap 0x20000000 1P 1P -> efault\n"
	       "check\n");
}

static void the_kernel_copies_for_the_program(void **state)
{
	(void)state;
	passes("map any 3P rw as A\n"
	       "copyout A+100 2P 7\n" /* faults its pages in */
	       "read A+100 2P 7\n"
	       "read A 100 0\n"
	       "pageout A 3P\n"
	       "copyin A+100 2P 7\n"
	       "protect A+1P 1P r\n"
	       "copyout A 2P 1 -> efault\n"
	       "copyin A 2P\n"
	       "copyin A+2P 2P -> efault\n"
	       "check\n");
	fails("map 0x30000000 1P rw fixed\ncopyin 0x30000000 1 5\n",
	      "line 2: copyin: 0x30000000 holds 0, not 5");
}

static void all_cpus_touch_at_once(void **state)
{
	(void)state;
	passes("map any 64P rw as A\n"
	       "together A 64P w\n"
	       "expect rss 64\n"
	       "read A 64P 0\n"
	       "together A+63P 2P r -> segv maperr\n"
	       "check\n");
}

/* However the host runs their threads: nobody has a fresh page before all have faulted on it. */
static void all_cpus_fault_on_each_fresh_page(void **state)
{
	u64 before[SOFT_MAX_CPUS];

	(void)state;
	for (unsigned i = 0; i < w.m->nr_cpus; i++)
		before[i] = atomic_load(&w.m->cpus[i].faults);
	passes("map any 64P rw as A\ntogether A 64P w\nexpect rss 64\ncheck\n");
	for (unsigned i = 0; i < w.m->nr_cpus; i++)
		assert_true(atomic_load(&w.m->cpus[i].faults) - before[i] >= 64);
}

/* Some are never waited for: they end early, or have what others fault on. */
static void who_does_not_come_is_not_waited_for(void **state)
{
	(void)state;
	passes("map any 64P rw as A\n"
	       "touch A+1P 1P w\n"
	       "touch A+3P 60P w\n"
	       "together A 64P w\n"
	       "protect A+8P 1P r\n"
	       "together A 64P w -> segv accerr\n"
	       "cpu 1\n"
	       "touch A 8P w\n"
	       "together A 8P r\n"
	       "together A+8P 1 x -> segv accerr\n"
	       "check\n");
}

static enum fault_reason add_but_on_cpu_1(struct program *p, unsigned cpu, u64 va, u64 add,
					  u64 *old)
{
	const struct timespec while_it_waits = { .tv_nsec = 5000000 };

	if (cpu != 1 || va < 0x20003000)
		return soft_program_ops.add(p, cpu, va, add, old);
	while (atomic_load(&w.m->cpus[0].faults) < 4)
		sched_yield();
	nanosleep(&while_it_waits, NULL);
	return FAULT_BUS;
}

/* The others fault on, without the one that has got a signal. */
static void who_ends_early_is_not_waited_for(void **state)
{
	const char text[] = "map 0x20000000 16P rw fixed\n"
			    "together 0x20000000 16P w -> bus\n"
			    "expect rss 16\n";
	char message[SCRIPT_MESSAGE];
	struct program_ops ops = soft_program_ops;
	struct soft_program p;
	struct script *s;

	(void)state;
	soft_program_init(&p, w.m, w.mm);
	ops.add = add_but_on_cpu_1;
	p.program.ops = &ops;
	assert_int_equal(script_parse(text, sizeof(text) - 1, &s, message), 0);
	assert_int_equal(script_run_on(s, &p.program, message), 0);
	script_free(s);
}

static void a_stack_grows_down(void **state)
{
	(void)state;
	passes("map 0x20010000 1P rw fixed stack\n"
	       "write 0x2000f000 1P 9\n"
	       "read 0x2000f000 1P 9\n"
	       "expect maps 1\n"
	       "check\n");
}

static void what_is_not_offered_is_said(void **state)
{
	char message[SCRIPT_MESSAGE];
	struct soft_program p;
	struct program_ops less;
	struct script *s;

	(void)state;
	fails("fail swap read eio\n", "line 1: fail: not offered");
	soft_program_init(&p, w.m, w.mm);
	less = *p.program.ops;
	less.fork = NULL;
	p.program.ops = &less;
	assert_int_equal(script_parse("check\nfork as P\n", 16, &s, message), 0);
	assert_int_equal(script_run_on(s, &p.program, message), -ENOSYS);
	assert_string_equal(message, "line 2: fork: not offered");
	script_free(s);
}

static int second_is_dirty(struct program *p, unsigned cpu, u64 va)
{
	(void)p, (void)cpu;
	return va == 0x20002000 ? -ENOENT : va == 0x20001000;
}

static void what_was_written_to_is_asked_where_it_can_be(void **state)
{
	static const struct {
		const char *text, *message;
		int result;
	} cases[] = {
		{ "dirty 0x20000000 1P 0\n", "", 0 },
		{ "dirty 0x20001000 1P 1\n", "", 0 },
		{ "dirty 0x20000000 2P 0\n", "line 1: dirty: 0x20001000 has been written to",
		  -ERANGE },
		{ "dirty 0x20000000 1P 1\n", "line 1: dirty: 0x20000000 is clean", -ERANGE },
		{ "dirty 0x20001000 2P 1\n", "line 1: dirty: 0x20002000 has no translation",
		  -ERANGE },
	};
	struct soft_program p;
	struct program_ops more;

	(void)state;
	fails("dirty 0x20000000 1P 0\n", "line 1: dirty: not offered");
	soft_program_init(&p, w.m, w.mm);
	more = *p.program.ops;
	more.dirty = second_is_dirty;
	p.program.ops = &more;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char message[SCRIPT_MESSAGE] = "";
		struct script *s;

		assert_int_equal(script_parse(cases[i].text, strlen(cases[i].text), &s, message),
				 0);
		assert_int_equal(script_run_on(s, &p.program, message), cases[i].result);
		assert_string_equal(message, cases[i].message);
		script_free(s);
	}
}

static void an_outcome_that_was_not_expected_is_told_with_its_line(void **state)
{
	(void)state;
	fails("map any 1P r as A\n# and then\nwrite A 1 1\n",
	      "line 3: write: expected ok, got segv accerr");
	fails("map any 1P r as A\nread A 1 -> bus\n", "line 2: read: expected bus, got ok");
	fails("map 0x30000000 1P rw fixed -> 0x30001000\n",
	      "line 1: map: expected 0x30001000, got 0x30000000");
	fails("unmap 0x30000000 0 -> enomem\n", "line 1: unmap: expected enomem, got einval");
	fails("map 0x30000000 1P rw fixed\nread 0x30000000 2 5\n",
	      "line 2: read: 0x30000000 holds 0, not 5");
	fails("expect major 3\n", "line 1: expect: major is 0, not 3");
	fails("cpu 2\n", "line 1: cpu: the machine has no such CPU");
}

#define script_test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		script_test(fresh_memory_is_zero_and_keeps_what_is_written),
		script_test(each_cpu_runs_a_process_of_its_own),
		script_test(rights_are_what_was_asked_for),
		script_test(unmapping_the_middle_leaves_both_ends),
		script_test(bytes_survive_going_out_and_coming_back),
		script_test(a_moved_mapping_takes_its_pages_along),
		script_test(what_is_not_needed_comes_back_as_zeros),
		script_test(a_touch_leaves_the_bytes_and_other_cpus_follow_each_change),
		script_test(bad_arguments_are_refused),
		script_test(the_kernel_copies_for_the_program),
		script_test(all_cpus_touch_at_once),
		script_test(all_cpus_fault_on_each_fresh_page),
		script_test(who_does_not_come_is_not_waited_for),
		script_test(who_ends_early_is_not_waited_for),
		script_test(a_stack_grows_down),
		script_test(what_is_not_offered_is_said),
		script_test(what_was_written_to_is_asked_where_it_can_be),
		script_test(an_outcome_that_was_not_expected_is_told_with_its_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
