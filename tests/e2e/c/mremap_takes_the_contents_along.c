/* SPDX-License-Identifier: MIT */
/* Rule: mremap that grows, moves or shrinks evicted memory keeps its contents; what is new reads
 * zero. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size), grown = 2 * part;
	char *p = map(part), *wall, *target;

	/* In the way of growing where it is: it has to move. */
	wall = mmap(p + part, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		    -1, 0);
	(void)wall;
	fill(p, part, 1);
	press(size - grown);
	p = mremap(p, part, grown, MREMAP_MAYMOVE);
	EXPECT(p != MAP_FAILED);
	verify(p, part, 1);
	EXPECT(is_zero(p + part, grown - part));

	press(size - grown);
	target = map(grown);
	fill(target, grown, 9);
	p = mremap(p, grown, grown, MREMAP_MAYMOVE | MREMAP_FIXED, target);
	EXPECT(p == target);
	press(size - grown);
	verify(p, part, 1);
	EXPECT(is_zero(p + part, grown - part));

	fill(p, grown, 2);
	press(size - grown);
	EXPECT(mremap(p, grown, part, 0) == p);
	EXPECT(mremap(p, part, grown, MREMAP_MAYMOVE) != MAP_FAILED);
	verify(p, part, 2);
	return passed();
}
