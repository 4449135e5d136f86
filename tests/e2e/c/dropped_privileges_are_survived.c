/* SPDX-License-Identifier: MIT */
/* Rule: a program that gives up root keeps its memory, and so do the children it forks afterwards.
 */
#include "check.h"
#include <sys/prctl.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part);
	pid_t child;

	fill(p, part, 1);
	press(part);
	drop_root();
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	verify(p, part, 1);
	press(part);
	child = fork();
	if (!child) {
		verify(p, part, 1);
		fill(p, part, 2);
		press(part);
		verify(p, part, 2);
		_exit(0);
	}
	verify(p, part, 1);
	wait_for_success(child);
	fill(p, part, 3);
	press(part);
	verify(p, part, 3);
	return passed();
}
