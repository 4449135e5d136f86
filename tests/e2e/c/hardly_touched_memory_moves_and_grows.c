/* SPDX-License-Identifier: MIT */
/* Rule: memory of which little is touched, here and there, moves and grows as a whole, and keeps
 * what was written. */
#include "check.h"

#define STEPS 12

int main(int argc, char **argv)
{
	size_t bytes = size_from(argc, argv), touched = bytes / 12, stride = bytes / STEPS & -PAGE;
	char *p = map(bytes), *wall;

	fill(p, touched, 1);
	for (uint64_t i = 0; i < STEPS; i++) {
		page_make(p + bytes - (i + 1) * stride / 2, 2, i);
		/* So that it has to move every other time. */
		wall = mmap(p + bytes, PAGE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		p = mremap(p, bytes, bytes + 3 * PAGE, MREMAP_MAYMOVE);
		EXPECT(p != MAP_FAILED);
		EXPECT(page_is(p + bytes - (i + 1) * stride / 2, 2, i));
		EXPECT(is_zero(p + bytes, 3 * PAGE));
		if (wall != MAP_FAILED && i % 2)
			EXPECT(munmap(wall, PAGE) == 0);
		p = mremap(p, bytes + 3 * PAGE, bytes, 0);
		EXPECT(p != MAP_FAILED);
	}
	verify(p, touched, 1);
	return passed();
}
