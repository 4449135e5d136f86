/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <unistd.h>

#include "engine/base/lock.h"
#include "tests/unit/unit.h"

enum { THREADS = 4, ROUNDS = 20000 };

static spinlock_t spin;
static rwsem_t sem;
static u64 guarded[8]; /* all equal whenever nobody writes */

static void run_threads(void *(*body)(void *), unsigned n)
{
	pthread_t t[16];

	for (uintptr_t i = 0; i < n; i++)
		assert_int_equal(pthread_create(&t[i], NULL, body, (void *)i), 0);
	for (unsigned i = 0; i < n; i++)
		pthread_join(t[i], NULL);
}

static void write_all(void)
{
	for (unsigned k = 0; k < ARRAY_SIZE(guarded); k++)
		guarded[k]++;
}

static void look_all(void)
{
	for (unsigned k = 1; k < ARRAY_SIZE(guarded); k++)
		if (guarded[k] != guarded[0])
			abort();
}

static void *count_under_spinlock(void *arg)
{
	(void)arg;
	for (int i = 0; i < ROUNDS; i++) {
		if (i % 8 || !spin_trylock(&spin))
			spin_lock(&spin);
		look_all();
		write_all();
		if (i % 1024 == 0)
			usleep(10); /* so that the others fall asleep, too */
		spin_unlock(&spin);
	}
	return NULL;
}

static void a_spinlock_lets_one_in_at_a_time(void **state)
{
	(void)state;
	memset(guarded, 0, sizeof(guarded));
	spin_init(&spin);
	run_threads(count_under_spinlock, THREADS);
	assert_int_equal(guarded[0], (u64)THREADS * ROUNDS);
	assert_false(spin_is_locked(&spin));
}

static void trylock_fails_on_a_held_lock(void **state)
{
	(void)state;
	spin_init(&spin);
	assert_true(spin_trylock(&spin));
	assert_true(spin_is_locked(&spin));
	assert_false(spin_trylock(&spin));
	spin_unlock(&spin);
	assert_true(spin_trylock(&spin));
	spin_unlock(&spin);
}

static void readers_share_and_a_writer_is_alone(void **state)
{
	(void)state;
	rwsem_init(&sem);
	assert_true(down_read_trylock(&sem));
	assert_true(down_read_trylock(&sem));
	assert_false(down_write_trylock(&sem));
	assert_true(rwsem_is_locked(&sem));
	assert_false(rwsem_is_write_locked(&sem));
	up_read(&sem);
	up_read(&sem);
	assert_true(down_write_trylock(&sem));
	assert_true(rwsem_is_write_locked(&sem));
	assert_false(down_read_trylock(&sem));
	downgrade_write(&sem);
	assert_true(down_read_trylock(&sem));
	up_read(&sem);
	up_read(&sem);
	assert_false(rwsem_is_locked(&sem));
}

static void *mix_readers_and_writers(void *arg)
{
	uint64_t rnd = (uintptr_t)arg + 1;

	for (int i = 0; i < ROUNDS; i++) {
		switch (rnd_below(&rnd, 6)) {
		case 0:
			down_write(&sem);
			look_all();
			write_all();
			up_write(&sem);
			break;
		case 1:
			down_write(&sem);
			write_all();
			downgrade_write(&sem);
			look_all();
			up_read(&sem);
			break;
		default:
			down_read(&sem);
			look_all();
			if (i % 1024 == 0)
				usleep(10);
			up_read(&sem);
		}
	}
	return NULL;
}

static void many_readers_and_writers_get_along(void **state)
{
	(void)state;
	memset(guarded, 0, sizeof(guarded));
	rwsem_init(&sem);
	run_threads(mix_readers_and_writers, THREADS);
	assert_false(rwsem_is_locked(&sem));
	assert_true(down_write_trylock(&sem));
	up_write(&sem);
}

static _Atomic bool writer_done;

static void *read_without_pause(void *arg)
{
	(void)arg;
	while (!atomic_load(&writer_done)) {
		down_read(&sem);
		usleep(100);
		up_read(&sem);
	}
	return NULL;
}

static void *write_once(void *arg)
{
	if ((uintptr_t)arg)
		return read_without_pause(arg);
	usleep(2000);
	down_write(&sem);
	atomic_store(&writer_done, true);
	up_write(&sem);
	return NULL;
}

/* Three overlapping readers: there is no moment without one unless they wait for the writer. */
static void a_writer_is_not_starved_by_readers(void **state)
{
	(void)state;
	atomic_store(&writer_done, false);
	rwsem_init(&sem);
	run_threads(write_once, THREADS);
	assert_true(atomic_load(&writer_done));
}

static void *take_all(void *arg)
{
	(void)arg;
	spin_lock(&spin);
	spin_unlock(&spin);
	down_read(&sem);
	up_read(&sem);
	down_write(&sem);
	up_write(&sem);
	return NULL;
}

static void wait_for_count(enum lock_class class, u64 n)
{
	while (lock_contentions(class) != n)
		usleep(100);
}

/* How often the classes of spin and sem were met taken. */
static void assert_contentions(u64 of_spin, u64 of_sem)
{
	assert_int_equal(lock_contentions(LOCK_ZONE), of_spin);
	assert_int_equal(lock_contentions(LOCK_MMAP), of_sem);
}

static void those_who_wait_are_counted_by_class(void **state)
{
	u64 z = lock_contentions(LOCK_ZONE), m = lock_contentions(LOCK_MMAP);
	pthread_t waiter;

	(void)state;
	spin_init_class(&spin, LOCK_ZONE);
	rwsem_init_class(&sem, LOCK_MMAP);
	take_all(NULL);
	assert_true(spin_trylock(&spin));
	down_write(&sem);
	assert_contentions(z, m);

	assert_false(spin_trylock(&spin));
	assert_contentions(z + 1, m);
	assert_false(down_read_trylock(&sem));
	assert_false(down_write_trylock(&sem));
	assert_contentions(z + 1, m + 2);

	/* However long it waits it is one. */
	assert_int_equal(pthread_create(&waiter, NULL, take_all, NULL), 0);
	wait_for_count(LOCK_ZONE, z + 2);
	usleep(2000);
	spin_unlock(&spin);
	wait_for_count(LOCK_MMAP, m + 3);
	usleep(2000);
	downgrade_write(&sem);
	wait_for_count(LOCK_MMAP, m + 4);
	up_read(&sem);
	pthread_join(waiter, NULL);
	assert_contentions(z + 2, m + 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(trylock_fails_on_a_held_lock),
		cmocka_unit_test(a_spinlock_lets_one_in_at_a_time),
		cmocka_unit_test(readers_share_and_a_writer_is_alone),
		cmocka_unit_test(many_readers_and_writers_get_along),
		cmocka_unit_test(a_writer_is_not_starved_by_readers),
		cmocka_unit_test(those_who_wait_are_counted_by_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
