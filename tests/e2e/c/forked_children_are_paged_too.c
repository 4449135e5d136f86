/* SPDX-License-Identifier: MIT */
/* Rule: children and grandchildren of a fork have right memory of their own, new and inherited,
 * alive at once. */
#include "check.h"

static void generation(char *p, size_t part, int depth)
{
	char *own = map(part);
	pid_t children[2];

	fill(own, part, depth + 100);
	verify(p, part, depth);
	fill(p, part, depth + 1);
	if (depth < 2) {
		for (int i = 0; i < 2; i++) {
			children[i] = fork();
			if (!children[i]) {
				generation(p, part, depth + 1);
				_exit(0);
			}
		}
		verify(p, part, depth + 1);
		for (int i = 0; i < 2; i++)
			wait_for_success(children[i]);
	}
	verify(own, part, depth + 100);
	verify(p, part, depth + 1);
}

int main(int argc, char **argv)
{
	size_t part = size_from(argc, argv) / 2;
	char *p = map(part);

	fill(p, part, 0);
	generation(p, part, 0);
	return passed();
}
