/* SPDX-License-Identifier: MIT */
/* Dirty pages of files: who writes them, when, and who waits. */
#include <pthread.h>
#include <sched.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "tests/unit/one_world.h"

#define SECOND	1000000000ULL
#define SHARED_ (VM_SHARED | VM_MAYSHARE)

static struct file *files[2];

/* Two files of 200 pages, mapped from page 0 and from page 1000 on. */
static int setup(void **state)
{
	(void)state;
	start((struct world_options){ .cpus = 2 });
	for (unsigned f = 0; f < 2; f++) {
		files[f] = ramfile_create(w.e, FILE_READ | FILE_WRITE, 4096);
		assert_int_equal(file_truncate(files[f], P(200)), 0);
		assert_int_equal(
			vm_map_file(mm, AT(f * 1000), P(200), RW, VMAP_FIXED, SHARED_, files[f], 0),
			AT(f * 1000));
	}
	return 0;
}

static int end(void **state)
{
	for (unsigned f = 0; f < 2; f++)
		file_put(files[f]);
	return teardown(state);
}

static void dirty(unsigned f, unsigned from, unsigned n)
{
	for (unsigned i = from; i < from + n; i++)
		put(f * 1000 + i, i + 1);
}

static u64 written(unsigned f)
{
	return ramfile_count(files[f], RAMFILE_WRITE);
}

static u64 nr_dirty(void)
{
	return w.e->flusher.nr_dirty;
}

static u64 now(void)
{
	return machine_now_ns();
}

/* ---- reclaim ---- */

static void reclaim_leaves_dirty_pages_of_files_where_they_are(void **state)
{
	(void)state;
	dirty(0, 0, 20);
	assert_int_equal(reclaim_range(mm, AT(0), AT(20)), 0);
	assert_int_equal(written(0), 0);
	assert_int_equal(mm->rss_file, 20);
	assert_int_equal(w.e->stats->dirty_met, 20);
	assert_int_equal(nr_dirty(), 20);
}

static void what_reclaim_has_met_is_written_and_is_the_next_to_go(void **state)
{
	struct taken t;

	(void)state;
	map(2000, 30, RW);
	dirty(0, 0, 1);
	for (unsigned i = 0; i < 30; i++)
		put(2000 + i, i);
	reclaim_range(mm, AT(0), AT(1));
	assert_int_equal(flusher_run(w.e, now()), 1);
	do
		take_segment(w.e, true, NODE_MASK_ALL, &t);
	while (!t.taken && !t.freed);
	assert_int_equal(t.freed, 1);
	assert_int_equal(mm->rss_file, 0);
	assert_int_equal(get(0), 1);
}

static void no_more_is_written_than_is_wanted(void **state)
{
	(void)state;
	dirty(0, 0, 100);
	flusher_ask(w.e, 7);
	assert_int_equal(flusher_run(w.e, now()), 7);
	assert_int_equal(nr_dirty(), 93);
	assert_int_equal(flusher_run(w.e, now()), 0);
}

static void anonymous_pages_and_shared_memory_are_never_the_flushers(void **state)
{
	struct file *shm = shmem_file_setup(w.e, P(20));

	(void)state;
	map(2000, 20, RW);
	assert_int_equal(vm_map_file(mm, AT(3000), P(20), RW, VMAP_FIXED, SHARED_, shm, 0),
			 AT(3000));
	for (unsigned i = 0; i < 20; i++) {
		put(2000 + i, i);
		put(3000 + i, i);
	}
	assert_int_equal(nr_dirty(), 0);
	flusher_ask(w.e, 100);
	assert_int_equal(flusher_run(w.e, now() + 100 * SECOND), 0);
	assert_int_equal(flaky.saves, 0);
	/* Reclaim writes these itself. */
	reclaim_range(mm, AT(2000), AT(2020));
	reclaim_range(mm, AT(3000), AT(3020));
	assert_int_equal(flaky.saves, 40);
	file_put(shm);
}

static void where_no_thread_flushes_who_has_to_wait_does_the_round(void **state)
{
	(void)state;
	dirty(0, 0, 200);
	dirty(1, 0, 200); /* more than there are frames */
	assert_true(written(0) + written(1) > 100);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(get(i), i + 1);
		assert_int_equal(get(1000 + i), i + 1);
	}
}

static _Atomic bool stop;
static _Atomic u64 by_thread;

static void *flush(void *arg)
{
	(void)arg;
	flusher_enter(w.e);
	while (!atomic_load(&stop)) {
		flusher_wait(w.e);
		by_thread += flusher_run(w.e, now());
	}
	flusher_leave(w.e);
	return NULL;
}

static void where_a_thread_flushes_all_is_written_by_it(void **state)
{
	pthread_t thread;

	(void)state;
	atomic_store(&stop, false);
	pthread_create(&thread, NULL, flush, NULL);
	while (!atomic_load(&w.e->flusher.threads))
		sched_yield();
	dirty(0, 0, 200);
	dirty(1, 0, 200);
	atomic_store(&stop, true);
	flusher_wake(w.e);
	pthread_join(thread, NULL);
	assert_true(by_thread > 100);
	assert_int_equal(written(0) + written(1), by_thread);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(get(i), i + 1);
}

static void a_disk_that_fails_ends_in_oom_and_not_in_a_hang(void **state)
{
	enum fault_reason reason = FAULT_OK;

	(void)state;
	for (unsigned f = 0; f < 2; f++)
		ramfile_fail(files[f], RAMFILE_WRITE, 0, ~0ULL, -EIO);
	for (unsigned i = 0; i < 400 && reason == FAULT_OK; i++)
		reason = soft_write_byte(w.cpu, AT(i / 200 * 1000 + i % 200), 1);
	assert_int_equal(reason, FAULT_OOM);
	for (unsigned f = 0; f < 2; f++)
		ramfile_fail(files[f], RAMFILE_WRITE, 0, 0, 0);
}

/* ---- age ---- */

static void a_file_is_written_when_it_has_been_dirty_for_long(void **state)
{
	u64 begin = now();

	(void)state;
	w.e->config.dirty.expire_ns = 30 * SECOND;
	dirty(0, 0, 10);
	assert_int_equal(flusher_run(w.e, begin + 29 * SECOND), 0);
	assert_int_equal(flusher_run(w.e, begin + 40 * SECOND), 10);
	/* What is dirty from now on has its own age. */
	dirty(0, 0, 3);
	assert_int_equal(flusher_run(w.e, now() + 20 * SECOND), 0);
	assert_int_equal(flusher_run(w.e, now() + 31 * SECOND), 3);
}

static void only_the_old_file_is_written(void **state)
{
	(void)state;
	w.e->config.dirty.expire_ns = 30 * SECOND;
	dirty(0, 0, 10);
	dirty(1, 0, 10);
	files[1]->mapping->dirtied_when += 10 * SECOND;
	assert_int_equal(flusher_run(w.e, now() + 35 * SECOND), 10);
	assert_int_equal(written(0), 10);
	assert_int_equal(written(1), 0);
}

static void without_an_age_time_writes_nothing(void **state)
{
	(void)state;
	dirty(0, 0, 10);
	assert_int_equal(flusher_run(w.e, now() + 1000 * SECOND), 0);
}

/* ---- too many ---- */

static void above_the_background_limit_all_is_written(void **state)
{
	(void)state;
	w.e->config.dirty.background = 50;
	dirty(0, 0, 50);
	assert_int_equal(flusher_run(w.e, now()), 0);
	dirty(0, 50, 1);
	assert_int_equal(flusher_run(w.e, now()), 51);
	assert_int_equal(nr_dirty(), 0);
}

static void above_the_background_limit_the_one_dirty_longest_goes_first(void **state)
{
	(void)state;
	w.e->config.dirty.background = 50;
	dirty(1, 0, 30);
	dirty(0, 0, 40);
	assert_int_equal(flusher_run(w.e, now()), 30); /* then there are fewer again */
	assert_int_equal(written(1), 30);
}

static void who_makes_pages_dirty_waits_above_the_limit(void **state)
{
	(void)state;
	w.e->config.dirty.background = 20;
	w.e->config.dirty.limit = 40;
	for (unsigned i = 0; i < 150; i++) {
		dirty(0, i, 1);
		assert_true(nr_dirty() <=
			    41); /* the one that is just made dirty is not waited for */
	}
	assert_in_range(written(0), 110, 149);
}

static void who_writes_by_calls_waits_too(void **state)
{
	u8 bytes[PAGE_SIZE] = { 1 };

	(void)state;
	w.e->config.dirty.background = 20;
	w.e->config.dirty.limit = 40;
	for (unsigned i = 0; i < 150; i++) {
		assert_int_equal(file_write(files[0], P(i), bytes, PAGE_SIZE), PAGE_SIZE);
		assert_true(nr_dirty() <= 40);
	}
}

static void nobody_waits_for_a_disk_that_cannot_be_written(void **state)
{
	(void)state;
	w.e->config.dirty.background = 20;
	w.e->config.dirty.limit = 40;
	ramfile_fail(files[0], RAMFILE_WRITE, 0, ~0ULL, -ENOSPC);
	dirty(0, 0, 100);
	assert_int_equal(nr_dirty(), 100);
	ramfile_fail(files[0], RAMFILE_WRITE, 0, 0, 0);
}

/* ---- what is counted ---- */

static void each_way_to_become_clean_is_counted(void **state)
{
	(void)state;
	dirty(0, 0, 30);
	assert_int_equal(vfs_fsync_range(files[0], 0, P(10)), 0);
	assert_int_equal(nr_dirty(), 20);
	assert_int_equal(file_truncate(files[0], P(15)), 0);
	assert_int_equal(nr_dirty(), 5);
	assert_int_equal(file_punch_hole(files[0], P(10), P(2)), 0);
	assert_int_equal(nr_dirty(), 3);
	flusher_ask(w.e, 100);
	assert_int_equal(flusher_run(w.e, now()), 3);
	assert_int_equal(nr_dirty(), 0);
	assert_true(list_empty(&w.e->flusher.dirty));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, end)
	const struct CMUnitTest tests[] = {
		T(reclaim_leaves_dirty_pages_of_files_where_they_are),
		T(what_reclaim_has_met_is_written_and_is_the_next_to_go),
		T(no_more_is_written_than_is_wanted),
		T(anonymous_pages_and_shared_memory_are_never_the_flushers),
		T(where_no_thread_flushes_who_has_to_wait_does_the_round),
		T(where_a_thread_flushes_all_is_written_by_it),
		T(a_disk_that_fails_ends_in_oom_and_not_in_a_hang),
		T(a_file_is_written_when_it_has_been_dirty_for_long),
		T(only_the_old_file_is_written),
		T(without_an_age_time_writes_nothing),
		T(above_the_background_limit_all_is_written),
		T(above_the_background_limit_the_one_dirty_longest_goes_first),
		T(who_makes_pages_dirty_waits_above_the_limit),
		T(who_writes_by_calls_waits_too),
		T(nobody_waits_for_a_disk_that_cannot_be_written),
		T(each_way_to_become_clean_is_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
