/* SPDX-License-Identifier: MIT */
/* Rule: a fork made by the bare system call, of which no library hears, gives a child with right
 * memory. */
#include "check.h"
#include <sched.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part);

	for (int round = 0; round < 2; round++) {
		pid_t child;

		fill(p, part, 1);
		press(part);
		child = round ? syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL)
			      : syscall(SYS_fork);
		if (!child) {
			verify(p, part, 1);
			fill(p, part, 2);
			verify(p, part, 2);
			_exit(0);
		}
		verify(p, part, 1);
		wait_for_success(child);
		verify(p, part, 1);
	}
	return passed();
}
