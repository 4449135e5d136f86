/* SPDX-License-Identifier: MIT */
/* Rule: a process that forks twice, whose parents end at once, keeps the memory it inherited and
 * gets more. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part);
	pid_t child;

	fill(p, part, 1);
	press(part);
	child = fork();
	EXPECT(child >= 0);
	if (child)
		_exit(0);
	EXPECT(setsid() > 0);
	child = fork();
	EXPECT(child >= 0);
	if (child)
		_exit(0);
	usleep(100000);
	EXPECT(chdir("/") == 0);
	verify(p, part, 1);
	fill(p, part, 2);
	press(size);
	verify(p, part, 2);
	/* Whoever reads our output waits for this. */
	puts("the daemon's memory is right");
	return 0;
}
