/* SPDX-License-Identifier: MIT */
/* Rule: a fork made by the bare system call, or by the calls of libc that tell no library, gives a
 * child with right memory. */
#include "check.h"
#include <sched.h>

static size_t part;
static char *p;

static int child(void *nothing)
{
	(void)nothing;
	verify(p, part, 1);
	fill(p, part, 2);
	verify(p, part, 2);
	return 0;
}

static pid_t by_fork_call(void)
{
	return syscall(SYS_fork);
}

static pid_t by_clone_call(void)
{
	return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
}

static pid_t by_clone3_call(void)
{
	uint64_t args[11] = { [4] = SIGCHLD };

	return syscall(SYS_clone3, args, sizeof(args));
}

static pid_t by_clone(void)
{
	size_t stack = 256 * 1024;

	return clone(child, map(stack) + stack, SIGCHLD, NULL);
}

int main(int argc, char **argv)
{
	pid_t (*const ways[])(void) = { by_fork_call, by_clone_call, by_clone3_call, _Fork,
					by_clone };

	part = size_from(argc, argv) / 2;
	p = map(part);
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		pid_t pid;

		fill(p, part, 1);
		press(part);
		pid = ways[i]();
		if (!pid)
			_exit(child(NULL));
		verify(p, part, 1);
		wait_for_success(pid);
		verify(p, part, 1);
	}
	return passed();
}
