/* SPDX-License-Identifier: MIT */
/* Rule: an area that grows by mremap step by step, moving now and then, loses nothing (glibc's
 * realloc does this). */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), step = size / 64, have = step;
	char *p = map(step);

	fill(p, have, 1);
	while (have + step <= size) {
		/* A stone in the way every other step, so that some steps move and some do not. */
		if (have / step % 2)
			mmap(p + have, PAGE, PROT_NONE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		p = mremap(p, have, have + step, MREMAP_MAYMOVE);
		EXPECT(p != MAP_FAILED);
		EXPECT(is_zero(p + have, step));
		for (size_t i = have / PAGE; i < (have + step) / PAGE; i++)
			page_make(p + i * PAGE, 1, i);
		have += step;
	}
	verify(p, have, 1);
	return passed();
}
