/* SPDX-License-Identifier: MIT */
/* Rule: _exit, exit, abort and a deadly signal while other threads fault end a process at once with
 * the right status. */
#include "check.h"
#include <sys/resource.h>

static char *p;
static size_t part;

static void *fault(void *argument)
{
	for (uint64_t i = (uint64_t)argument;; i++) {
		size_t at = mix(i) % (part / PAGE);

		EXPECT(page_is(p + at * PAGE, 1, at));
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct rlimit none = { 0, 0 };

	part = size_from(argc, argv) / 2;
	setrlimit(RLIMIT_CORE, &none);
	p = map(part);
	fill(p, part, 1);
	for (int way = 0; way < 4; way++) {
		pid_t child = fork();
		int status;

		EXPECT(child >= 0);
		if (!child) {
			pthread_t thread;

			for (uint64_t i = 0; i < 4; i++)
				EXPECT(pthread_create(&thread, NULL, fault, (void *)(i << 32)) ==
				       0);
			usleep(300000);
			if (way == 0)
				_exit(11);
			if (way == 1)
				exit(12);
			if (way == 2)
				abort();
			kill(getpid(), SIGTERM);
			pause();
		}
		EXPECT(waitpid(child, &status, 0) == child);
		if (way < 2)
			EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 11 + way);
		else
			EXPECT(WIFSIGNALED(status) &&
			       WTERMSIG(status) == (way == 2 ? SIGABRT : SIGTERM));
	}
	verify(p, part, 1);
	return passed();
}
