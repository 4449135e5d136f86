/* SPDX-License-Identifier: MIT */
/* Rule: shared anonymous memory, a memfd and a mapped file are the same memory in parent and child
 * throughout. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	int fds[3] = { -1, memfd_create("check", 0), nameless_file() };
	char *p[3];
	pid_t child;

	for (int i = 0; i < 3; i++) {
		if (i)
			EXPECT(ftruncate(fds[i], part) == 0);
		p[i] = mmap(NULL, part, PROT_READ | PROT_WRITE,
			    MAP_SHARED | (i ? 0 : MAP_ANONYMOUS), fds[i], 0);
		EXPECT(p[i] != MAP_FAILED);
		fill(p[i], part, i);
	}
	press(size - 3 * part);
	child = fork();
	if (!child) {
		for (int i = 0; i < 3; i++) {
			verify(p[i], part, i);
			fill(p[i], part, 10 + i);
		}
		_exit(0);
	}
	wait_for_success(child);
	press(size - 3 * part);
	for (int i = 0; i < 3; i++)
		verify(p[i], part, 10 + i);
	return passed();
}
