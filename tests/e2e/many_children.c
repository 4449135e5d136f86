/* SPDX-License-Identifier: MIT */
/* Forks N children, one after the other, that each look at evicted memory and change it. */
#include "c/check.h"

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 0;
	size_t part = 4 * MIB;
	char *p = map(part);

	fill(p, part, 1);
	press(24 * MIB);
	for (int i = 0; i < n; i++) {
		size_t page = i % (part / PAGE);
		pid_t child = fork();

		if (!child) {
			EXPECT(page_is(p + page * PAGE, 1, page));
			page_make(p + page * PAGE, 2, page);
			_exit(0);
		}
		wait_for_success(child);
		EXPECT(page_is(p + page * PAGE, 1, page));
	}
	return passed();
}
