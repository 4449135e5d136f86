/* SPDX-License-Identifier: MIT */
/* Rule: faults are served in threads that block all signals or ignore SIGBUS and SIGSEGV; what is
 * ignored stays ignored. */
#include "check.h"

static size_t size;

static void *blocked(void *unused)
{
	size_t part = size / 4;
	char *p = map(part);
	sigset_t all, seen;

	sigfillset(&all);
	EXPECT(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
	fill(p, part, 1);
	press(size);
	verify(p, part, 1);
	EXPECT(pthread_sigmask(SIG_SETMASK, NULL, &seen) == 0);
	EXPECT(sigismember(&seen, SIGBUS) == 1 && sigismember(&seen, SIGSEGV) == 1);
	return unused;
}

int main(int argc, char **argv)
{
	struct sigaction seen;
	pthread_t thread;

	size = size_from(argc, argv);
	EXPECT(sigaction(SIGBUS, NULL, &seen) == 0 && seen.sa_handler == SIG_DFL);
	EXPECT(sigaction(SIGSEGV, NULL, &seen) == 0 && seen.sa_handler == SIG_DFL);
	EXPECT(signal(SIGBUS, SIG_IGN) == SIG_DFL);
	EXPECT(signal(SIGSEGV, SIG_IGN) == SIG_DFL);
	EXPECT(pthread_create(&thread, NULL, blocked, NULL) == 0);
	EXPECT(pthread_join(thread, NULL) == 0);
	press(size);
	EXPECT(signal(SIGBUS, SIG_DFL) == SIG_IGN);
	EXPECT(signal(SIGSEGV, SIG_DFL) == SIG_IGN);
	return passed();
}
