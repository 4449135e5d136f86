/* SPDX-License-Identifier: MIT */
/* Rule: after munmap and mmap at the same address, or mmap over it, nothing of the old contents is
 * seen. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *p = map(part);

	for (int round = 0; round < 4; round++) {
		char *hole = p + part / 4;

		fill(p, part, round);
		press(size - part);
		/* A hole in the middle, filled by a new mapping. */
		EXPECT(munmap(hole, part / 4) == 0);
		EXPECT(mmap(hole, part / 4, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == hole);
		EXPECT(is_zero(hole, part / 4));
		for (size_t i = part / 2 / PAGE; i < part / PAGE; i++)
			EXPECT(page_is(p + i * PAGE, round, i));
		press(size - part);
		/* Mapped over, without an munmap. */
		EXPECT(mmap(p, part, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p);
		press(size - part);
		EXPECT(is_zero(p, part));
	}
	return passed();
}
