/* SPDX-License-Identifier: MIT */
/*
 * cmocka keeps the text of a failed assertion until the test's teardown has ended.  If the teardown
 * panics (a test that stopped halfway has left files, say), the process ends before that, and
 * nobody learns what failed.  So at an abort cmocka is made to print what it keeps: it does so if
 * it is to abort at the next failure, and fails.
 *
 * What it keeps is the main thread's, which does the tests.  An abort on another thread is passed
 * on to it, and happens where it is if that thread does not take it.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void tell(int sig)
{
	if (gettid() != getpid()) {
		tgkill(getpid(), getpid(), sig);
		sleep(1);
		return;
	}
	signal(sig, SIG_DFL);
	alarm(2); /* the thread may have been in malloc(), which cmocka needs */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	fail_msg("the test aborts");
}

__attribute__((constructor)) static void watch(void)
{
	signal(SIGABRT, tell);
}
