/* SPDX-License-Identifier: MIT */
/* Signals and panics as the end of a function; guard.h. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "machine/soft/host.h"
#include "tests/differential/guard.h"

static sigjmp_buf failed;
static char reason[200];

static _Noreturn void fail(const char *what, const char *text)
{
	snprintf(reason, sizeof(reason), "%s%s", what, text);
	siglongjmp(failed, 1);
}

static void on_panic(const char *text)
{
	fail("the engine panics: ", text);
}

static void on_signal(int number)
{
	if (number == SIGALRM)
		fail("the engine does not come to an end", "");
	fail("the engine crashes: ", number == SIGSEGV ? "segmentation fault" : "bus error");
}

void guard_give_up(const char *why)
{
	fail(why, "");
}

static void watch(bool on)
{
	struct sigaction action = { .sa_handler = on ? on_signal : SIG_DFL,
				    .sa_flags = SA_NODEFER };
	struct itimerval timer = { .it_value = { .tv_sec = on ? GUARD_SECONDS : 0 } };

	setitimer(ITIMER_REAL, &timer, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGALRM, &action, NULL);
	host_on_panic(on ? on_panic : NULL);
}

bool guarded(void (*run)(void *ctx), void *ctx, char *why, size_t size)
{
	if (sigsetjmp(failed, 1)) {
		watch(false);
		snprintf(why, size, "%s", reason);
		return false;
	}
	watch(true);
	run(ctx);
	watch(false);
	return true;
}
