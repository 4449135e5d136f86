/* SPDX-License-Identifier: MIT */
/* Out of memory: who is killed, how it is told, and what is left of it. */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "engine/backing/file.h"
#include "engine/backing/shmem.h"
#include "engine/space/calls.h"
#include "machine/soft/host.h"
#include "machine/soft/kernel.h"
#include "tests/unit/one_world.h"

enum { FRAMES = 256, CPUS = 4 };

static struct mm *others[CPUS];
static char said[16384];

static void listen(const char *text)
{
	size_t n = strlen(said);

	snprintf(said + n, sizeof(said) - n, "%s\n", text);
}

static void own(struct mm *space, int pid, const char *name, int score_adj)
{
	space->owner = (struct oom_owner){ .pid = pid, .uid = 5, .score_adj = score_adj };
	snprintf(space->owner.name, sizeof(space->owner.name), "%s", name);
}

/* CPU i runs a process i: the first is the world's own.  There is no swap. */
static void start_all(unsigned n)
{
	static const char *const names[CPUS] = { "first", "second", "third", "fourth" };

	start((struct world_options){ .frames = FRAMES, .cpus = CPUS });
	assert_int_equal(swap_area_off(w.e, 0), 0);
	w.e->config.oom_kill = true;
	own(mm, 100, names[0], 0);
	for (unsigned i = 1; i < n; i++) {
		assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &others[i]), 0);
		own(others[i], 100 + i, names[i], 0);
		soft_load_mm(&w.m->cpus[i], others[i]);
	}
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(vm_map(i ? others[i] : mm, AT(0), P(1024), RW, VMAP_FIXED, 0),
				 AT(0));
	said[0] = 0;
	host_on_message(listen);
}

static int end_of_test(void **state)
{
	host_on_message(NULL);
	for (unsigned i = 1; i < CPUS; i++) {
		soft_load_mm(&w.m->cpus[i], NULL);
		if (others[i])
			mm_destroy(others[i]);
		others[i] = NULL;
	}
	return teardown(state);
}

/* Process i writes to pages from on; the first that it is refused ends it. */
static enum fault_reason fill(unsigned i, unsigned from, unsigned n)
{
	enum fault_reason reason = FAULT_OK;

	for (unsigned p = from; p < from + n && reason == FAULT_OK; p++)
		reason = soft_write_byte(&w.m->cpus[i], AT(p), (u8)(p * 3 + i));
	return reason;
}

static void expect_bytes(unsigned i, unsigned n)
{
	for (unsigned p = 0; p < n; p++) {
		u8 byte;

		assert_int_equal(soft_read_byte(&w.m->cpus[i], AT(p), &byte), FAULT_OK);
		assert_int_equal(byte, (u8)(p * 3 + i));
	}
}

static bool alive(unsigned i)
{
	return !mm_is_oom_victim(i ? others[i] : mm);
}

/* ---- who ---- */

static void the_one_with_most_pages_goes_and_the_others_live(void **state)
{
	(void)state;
	start_all(3);
	fill(1, 0, 120);
	fill(2, 0, 60);
	assert_int_equal(fill(0, 0, 100), FAULT_OK);
	assert_false(alive(1));
	assert_true(alive(2) && alive(0));
	expect_bytes(0, 100);
	expect_bytes(2, 60);
	assert_int_equal(w.e->stats->oom_kills, 1);
}

static void the_one_who_asks_may_be_the_one(void **state)
{
	(void)state;
	start_all(2);
	fill(1, 0, 60);
	assert_int_equal(fill(0, 0, FRAMES), FAULT_KILLED);
	assert_false(alive(0));
	expect_bytes(1, 60);
}

static void calls_that_need_pages_kill_for_them(void **state)
{
	(void)state;
	start_all(4);
	fill(1, 0, 120);
	fill(2, 0, 60);
	assert_int_equal(do_madvise(mm, AT(0), P(100), UAPI_MADV_POPULATE_WRITE), 0);
	assert_false(alive(1));
	assert_int_equal(fill(3, 0, 50), FAULT_OK);
	assert_int_equal(do_mlock(others[2], AT(60), P(60)), 0);
	assert_false(alive(0));
	assert_true(alive(2) && alive(3));
	for (unsigned p = 60; p < 120; p++)
		assert_int_equal(fill(2, p, 1), FAULT_OK);
	expect_bytes(2, 120);
	expect_bytes(3, 50);
	assert_int_equal(w.e->stats->oom_kills, 2);
}

static void a_call_may_be_the_one_who_asks(void **state)
{
	(void)state;
	start_all(2);
	fill(1, 0, 60);
	assert_int_equal(do_madvise(mm, AT(0), P(FRAMES), UAPI_MADV_POPULATE_WRITE), -ENOMEM);
	assert_false(alive(0));
	expect_bytes(1, 60);
	/* It is given nothing any more. */
	assert_int_equal(do_madvise(mm, AT(0), P(1), UAPI_MADV_POPULATE_WRITE), -ENOMEM);
}

static void where_nobody_may_be_killed_the_call_fails(void **state)
{
	(void)state;
	start_all(2);
	w.e->config.oom_kill = false;
	fill(1, 0, 60);
	assert_int_equal(do_madvise(mm, AT(0), P(FRAMES), UAPI_MADV_POPULATE_WRITE), -ENOMEM);
	assert_true(alive(0) && alive(1));
	expect_bytes(1, 60);
}

static void what_is_swapped_out_counts_and_so_do_tables(void **state)
{
	s64 before;

	(void)state;
	start_all(1);
	fill(0, 0, 40);
	before = oom_badness(mm, 1000);
	assert_int_equal(before, 40 + mm->tables);
	assert_int_equal(swap_area_on(w.e, &flaky.store, 0), 0);
	reclaim_range(mm, AT(0), AT(40));
	assert_int_equal(mm->swapped, 40);
	assert_int_equal(oom_badness(mm, 1000), before);
}

static void the_score_is_in_thousandths_of_all_memory(void **state)
{
	s64 before;

	(void)state;
	start_all(1);
	fill(0, 0, 40);
	before = oom_badness(mm, 2000);
	mm->owner.score_adj = 100;
	assert_int_equal(oom_badness(mm, 2000), before + 200);
	mm->owner.score_adj = -10;
	assert_int_equal(oom_badness(mm, 2000), before - 20);
	mm->owner.score_adj = -999;
	assert_int_equal(oom_badness(mm, 2000), 0);
	mm->owner.score_adj = OOM_SCORE_ADJ_MIN;
	assert_true(oom_badness(mm, 2000) < 0);
}

static void a_score_makes_a_small_one_go(void **state)
{
	(void)state;
	start_all(3);
	others[2]->owner.score_adj = 500;
	fill(1, 0, 120);
	fill(2, 0, 60);
	assert_int_equal(fill(0, 0, 90), FAULT_OK);
	assert_true(alive(1) && !alive(2));
}

static void the_unkillable_are_never_killed(void **state)
{
	(void)state;
	start_all(3);
	others[1]->owner.unkillable = true;
	others[2]->owner.score_adj = OOM_SCORE_ADJ_MIN;
	fill(1, 0, 100);
	fill(2, 0, 100);
	assert_int_equal(fill(0, 0, 100), FAULT_KILLED);
	expect_bytes(1, 100);
	expect_bytes(2, 100);
}

static void where_nobody_can_be_killed_the_fault_fails(void **state)
{
	(void)state;
	start_all(1);
	mm->owner.unkillable = true;
	assert_int_equal(fill(0, 0, FRAMES), FAULT_OOM);
	assert_true(alive(0));
	assert_non_null(strstr(said, "no killable processes"));
}

static void without_leave_nobody_is_killed(void **state)
{
	(void)state;
	start_all(2);
	w.e->config.oom_kill = false;
	fill(1, 0, 100);
	assert_int_equal(fill(0, 0, FRAMES), FAULT_OOM);
	assert_true(alive(0) && alive(1));
	assert_string_equal(said, "");
}

static void nobody_is_killed_while_pages_can_go(void **state)
{
	(void)state;
	start_all(2);
	assert_int_equal(swap_area_on(w.e, &flaky.store, 0), 0);
	fill(1, 0, 300);
	assert_int_equal(fill(0, 0, 300), FAULT_OK);
	expect_bytes(1, 300);
	assert_int_equal(w.e->stats->oom_kills, 0);
}

static void nobody_is_killed_while_somebody_is_going(void **state)
{
	(void)state;
	start_all(3);
	fill(1, 0, 120);
	w.e->config.marks.min = FRAMES;
	atomic_store(&others[2]->exiting, true);
	assert_int_equal(out_of_memory(mm), OOM_RETRY);
	assert_true(alive(0) && alive(1) && alive(2));
	assert_string_equal(said, "");
	atomic_store(&others[2]->exiting, false);
	assert_int_equal(out_of_memory(mm), OOM_RETRY);
	assert_false(alive(1));
}

/* ---- how ---- */

static void it_is_told_why_as_linux_tells_it(void **state)
{
	(void)state;
	start_all(3);
	fill(1, 0, 120);
	fill(2, 0, 60);
	fill(0, 0, 100);
	assert_non_null(strstr(said, "first invoked oom-killer: order=0, oom_score_adj=0\n"));
	assert_non_null(strstr(said, "Mem-Info: evictable:"));
	assert_non_null(strstr(said, "Tasks state (memory values in pages):\n[  pid  ]   uid "
				     "total_vm      rss rss_anon rss_file pgtables_bytes swapents "
				     "oom_score_adj name\n"));
	assert_non_null(strstr(said, "[    101]     5     1024      120      120        0 "));
	assert_non_null(strstr(said, "[    102]     5     1024       60       60        0 "));
	assert_non_null(strstr(said, "oom-kill:constraint=CONSTRAINT_NONE,task=second,pid=101,"
				     "uid=5\n"));
	assert_non_null(strstr(said, "Out of memory: Killed process 101 (second) "
				     "total-vm:4096kB, anon-rss:480kB, file-rss:0kB, UID:5 "));
	assert_non_null(strstr(said, "oom_reaper: reaped process 101 (second), now rss:0kB\n"));
}

static void its_memory_is_there_before_it_has_noticed(void **state)
{
	(void)state;
	start_all(2);
	fill(1, 0, 150);
	assert_int_equal(fill(0, 0, 120), FAULT_OK);
	assert_int_equal(others[1]->rss, 0);
	assert_int_equal(w.e->stats->oom_reaped, 150);
}

static void it_never_reads_what_is_not_its_own_any_more(void **state)
{
	struct mm *child;
	u8 byte;

	(void)state;
	start_all(2);
	fill(1, 0, 150);
	fill(0, 0, 120);
	assert_int_equal(soft_read_byte(&w.m->cpus[1], AT(3), &byte), FAULT_KILLED);
	assert_int_equal(soft_write_byte(&w.m->cpus[1], AT(900), 1), FAULT_KILLED);
	assert_int_equal(mm_fork(others[1], &child), -ENOMEM);
}

static void what_others_share_with_it_stays(void **state)
{
	struct file *file;
	struct mm *child;

	(void)state;
	start_all(3);
	file = shmem_file_setup(w.e, P(20));
	for (unsigned i = 1; i < 3; i++)
		assert_int_equal(
			vm_map_file(others[i], AT(2000), P(20), RW, VMAP_FIXED, VM_SHARED, file, 0),
			AT(2000));
	fill(1, 2000, 20);
	fill(1, 0, 100);
	assert_int_equal(mm_fork(others[1], &child), 0);
	soft_load_mm(&w.m->cpus[3], child);
	others[3] = child;
	child->owner.score_adj = OOM_SCORE_ADJ_MIN;
	fill(1, 100, 40);
	assert_int_equal(fill(0, 0, 90), FAULT_OK);
	assert_false(alive(1));
	for (unsigned p = 0; p < 120; p++) {
		unsigned page = p < 100 ? p : 2000 + p - 100;
		u8 byte;

		assert_int_equal(soft_read_byte(&w.m->cpus[p < 100 ? 3 : 2], AT(page), &byte),
				 FAULT_OK);
		assert_int_equal(byte, (u8)(page * 3 + 1));
	}
	file_put(file);
}

static void a_killed_program_gets_sigkill(void **state)
{
	struct soft_kernel *k;
	struct task task;

	(void)state;
	start_all(2);
	task = (struct task){ .mm = mm, .pid = 100, .name = "first" };
	assert_int_equal(soft_kernel_create(w.m, KERNEL_HALF_SHARED, 0, 0, &k), 0);
	kernel_attach(&k->kernel, mm);
	soft_kernel_run(k, 0, &task);
	assert_int_equal(fill(0, 0, FRAMES), FAULT_KILLED);
	assert_true(task.killed);
	assert_int_equal(task.signal.sig, SIGNAL_KILL);
	soft_load_mm(w.cpu, NULL);
	soft_kernel_destroy(k);
	w.m->general_protection = NULL;
}

/* ---- one at a time ---- */

struct asking {
	pthread_t thread;
	unsigned cpu, n;
	enum fault_reason reason;
	_Atomic bool done;
};

static void *ask(void *arg)
{
	struct asking *a = arg;

	a->reason = fill(a->cpu, 0, a->n);
	atomic_store(&a->done, true);
	return NULL;
}

static void others_wait_for_the_victim_and_pick_no_other(void **state)
{
	struct asking a = { .cpu = 0, .n = 50 }, b = { .cpu = 2, .n = 50 };

	(void)state;
	start_all(3);
	fill(1, 0, 200);
	/* The victim's memory cannot be taken yet. */
	down_read(&others[1]->mmap_lock);
	pthread_create(&a.thread, NULL, ask, &a);
	while (alive(1))
		sched_yield();
	pthread_create(&b.thread, NULL, ask, &b);
	usleep(20000);
	assert_false(atomic_load(&a.done) || atomic_load(&b.done));
	up_read(&others[1]->mmap_lock);
	pthread_join(a.thread, NULL);
	pthread_join(b.thread, NULL);
	assert_int_equal(a.reason, FAULT_OK);
	assert_int_equal(b.reason, FAULT_OK);
	assert_int_equal(w.e->stats->oom_kills, 1);
	expect_bytes(0, 50);
	expect_bytes(2, 50);
}

static void *areas_come_and_go(void *arg)
{
	_Atomic bool *stop = arg;

	while (!atomic_load(stop))
		assert_int_equal(swap_area_off(w.e, (unsigned)swap_area_on(w.e, &flaky.store, 0)),
				 0);
	return NULL;
}

/* (Which the sanitizers see.) */
static void an_area_may_go_while_all_memory_is_counted(void **state)
{
	_Atomic bool stop = false;
	pthread_t thread;

	(void)state;
	start_all(1);
	mm->owner.unkillable = true;
	w.e->config.marks.min = FRAMES;
	pthread_create(&thread, NULL, areas_come_and_go, &stop);
	for (unsigned i = 0; i < 2000; i++) {
		assert_int_equal(out_of_memory(mm), OOM_NOBODY);
		said[0] = 0;
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
}

static void *destroy(void *arg)
{
	mm_destroy(arg);
	return NULL;
}

static void a_space_that_is_visited_stays(void **state)
{
	pthread_t thread;
	struct mm *visited;

	(void)state;
	start_all(2);
	fill(1, 0, 10);
	soft_load_mm(&w.m->cpus[1], NULL);
	visited = mm_visit_next(w.e, mm_visit_next(w.e, NULL));
	assert_ptr_equal(visited, others[1]);
	pthread_create(&thread, NULL, destroy, visited);
	usleep(20000);
	assert_int_equal(visited->rss, 10);
	assert_null(mm_visit_next(w.e, visited));
	pthread_join(thread, NULL);
	others[1] = NULL;
}

int main(void)
{
#define T(name) cmocka_unit_test_teardown(name, end_of_test)
	const struct CMUnitTest tests[] = {
		T(the_one_with_most_pages_goes_and_the_others_live),
		T(the_one_who_asks_may_be_the_one),
		T(calls_that_need_pages_kill_for_them),
		T(a_call_may_be_the_one_who_asks),
		T(where_nobody_may_be_killed_the_call_fails),
		T(what_is_swapped_out_counts_and_so_do_tables),
		T(the_score_is_in_thousandths_of_all_memory),
		T(a_score_makes_a_small_one_go),
		T(the_unkillable_are_never_killed),
		T(where_nobody_can_be_killed_the_fault_fails),
		T(without_leave_nobody_is_killed),
		T(nobody_is_killed_while_pages_can_go),
		T(nobody_is_killed_while_somebody_is_going),
		T(it_is_told_why_as_linux_tells_it),
		T(its_memory_is_there_before_it_has_noticed),
		T(it_never_reads_what_is_not_its_own_any_more),
		T(what_others_share_with_it_stays),
		T(a_killed_program_gets_sigkill),
		T(others_wait_for_the_victim_and_pick_no_other),
		T(an_area_may_go_while_all_memory_is_counted),
		T(a_space_that_is_visited_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
