/* SPDX-License-Identifier: MIT */
/* Rule: a program that lowers RLIMIT_NOFILE, FSIZE and MEMLOCK goes on, and fork goes on. */
#include "check.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	int kinds[] = { RLIMIT_NOFILE, RLIMIT_FSIZE, RLIMIT_MEMLOCK, RLIMIT_CORE };
	rlim_t values[] = { 16, 64 * 1024, 0, 0 };
	char *p = map(part);

	for (int i = 0; i < 4; i++) {
		struct rlimit limit = { values[i], values[i] };
		pid_t child;

		fill(p, part, i);
		if (i)
			press(part);
		EXPECT(setrlimit(kinds[i], &limit) == 0);
		verify(p, part, i);
		press(part);
		child = fork();
		if (!child) {
			verify(p, part, i);
			press(part);
			_exit(0);
		}
		wait_for_success(child);
		verify(p, part, i);
	}
	return passed();
}
