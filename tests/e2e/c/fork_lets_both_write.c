/* SPDX-License-Identifier: MIT */
/* Rule: after fork of a process with evicted memory, parent and child each see their own writes and
 * the old contents elsewhere. */
#include "check.h"

static void write_and_look(char *p, size_t pages, int who)
{
	for (size_t i = who; i < pages; i += 3)
		page_make(p + i * PAGE, 10 + who, i);
	press(pages * PAGE);
	for (size_t i = 0; i < pages; i++)
		EXPECT(page_is(p + i * PAGE, i % 3 == (size_t)who ? 10 + who : 1, i));
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2, pages = part / PAGE;
	char *p = map(part);

	for (int round = 0; round < 3; round++) {
		pid_t child;

		fill(p, part, 1);
		press(part);
		child = fork();
		if (!child) {
			write_and_look(p, pages, 1);
			_exit(0);
		}
		write_and_look(p, pages, 2);
		wait_for_success(child);
		for (size_t i = 0; i < pages; i++)
			EXPECT(page_is(p + i * PAGE, i % 3 == 2 ? 12 : 1, i));
	}
	return passed();
}
