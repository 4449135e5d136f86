/* SPDX-License-Identifier: MIT */
/* What a failed test has to say is said, though the process aborts before the test has ended. */
#include <pthread.h>
#include <sys/wait.h>

#include "tests/unit/unit.h"

static void fails(void **state)
{
	(void)state;
	assert_int_equal(4711, 815);
}

static int panics(void **state)
{
	(void)state;
	abort();
}

static void *run(void *arg)
{
	panics(arg);
	return NULL;
}

static int panics_elsewhere(void **state)
{
	pthread_t thread;

	pthread_create(&thread, NULL, run, state);
	return pthread_join(thread, NULL);
}

/* Let a test fail in a process of its own: its status, and what it wrote. */
static int output_of(int (*teardown)(void **), char *text, size_t size)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(fails, teardown) };
	int out[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(out), 0);
	fflush(NULL);
	child = fork();
	if (!child) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		close(out[0]);
		close(out[1]);
		_exit(cmocka_run_group_tests(tests, NULL, NULL));
	}
	close(out[1]);
	while ((got = read(out[0], text + n, size - 1 - n)) > 0)
		n += (size_t)got;
	text[n] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void tells_of_both(int (*teardown)(void **))
{
	static char text[1 << 16]; /* a sanitizer of threads has much to say of signals */
	int status = output_of(teardown, text, sizeof(text));

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_non_null(strstr(text, "0x1267 != 0x32f"));
	assert_non_null(strstr(text, "test_aborts.c:11"));
	assert_non_null(strstr(text, "the test aborts"));
}

static void a_failure_is_told_of_though_the_teardown_panics(void **state)
{
	(void)state;
	tells_of_both(panics);
}

static void and_though_another_thread_does(void **state)
{
	(void)state;
	tells_of_both(panics_elsewhere);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failure_is_told_of_though_the_teardown_panics),
		cmocka_unit_test(and_though_another_thread_does),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
