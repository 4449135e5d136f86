/* SPDX-License-Identifier: MIT */
/* Rule: signals are handled on an alternate stack that is evicted, also in the middle of faults,
 * also a stack overflow. */
#include "check.h"
#include <setjmp.h>
#include <sys/time.h>

#define STACK (64 * PAGE)

static sigjmp_buf back;
static char *alternate, *p;
static size_t part;
static volatile sig_atomic_t alarms;

static void on_overflow(int signal)
{
	char here;

	(void)signal;
	EXPECT(&here >= alternate && &here < alternate + STACK);
	siglongjmp(back, 1);
}

static void on_alarm(int signal)
{
	char here;
	size_t at = mix(alarms) % (part / PAGE);

	(void)signal;
	EXPECT(&here >= alternate && &here < alternate + STACK);
	EXPECT(page_is(p + at * PAGE, 1, at));
	alarms++;
}

#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static int deeper(volatile int depth)
{
	volatile char room[4096];

	room[0] = depth;
	return deeper(depth + 1) + room[0];
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	struct sigaction overflow = { .sa_handler = on_overflow, .sa_flags = SA_ONSTACK };
	struct sigaction ring = { .sa_handler = on_alarm, .sa_flags = SA_ONSTACK | SA_RESTART };
	struct itimerval every = { { 0, 2000 }, { 0, 2000 } }, never = { { 0, 0 }, { 0, 0 } };
	stack_t stack = { 0 };

	part = size / 4;
	p = map(part);
	fill(p, part, 1);
	alternate = map(STACK);
	stack.ss_sp = alternate;
	stack.ss_size = STACK;
	EXPECT(sigaltstack(&stack, NULL) == 0);
	EXPECT(sigaction(SIGSEGV, &overflow, NULL) == 0);
	EXPECT(sigaction(SIGALRM, &ring, NULL) == 0);

	for (int i = 0; i < 2; i++) {
		press(size / 2);
		if (!sigsetjmp(back, 1))
			deeper(0);
	}
	EXPECT(setitimer(ITIMER_REAL, &every, NULL) == 0);
	for (int i = 0; i < 3 || alarms < 10; i++) {
		press(size / 2);
		verify(p, part, 1);
	}
	EXPECT(setitimer(ITIMER_REAL, &never, NULL) == 0);
	return passed();
}
