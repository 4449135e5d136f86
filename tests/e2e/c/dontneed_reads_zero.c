/* SPDX-License-Identifier: MIT */
/* Rule: after MADV_DONTNEED memory reads zero, evicted or not; its neighbours are as they were. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *p = map(part);

	for (int round = 0; round < 3; round++) {
		fill(p, part, round);
		if (round)
			press(size - part);
		for (size_t at = 0; at < part; at += 8 * PAGE)
			EXPECT(madvise(p + at, 4 * PAGE, MADV_DONTNEED) == 0);
		for (size_t i = 0; i < part / PAGE; i++) {
			if (i % 8 < 4)
				EXPECT(is_zero(p + i * PAGE, PAGE));
			else
				EXPECT(page_is(p + i * PAGE, round, i));
		}
		press(size - part);
		EXPECT(madvise(p, part, MADV_DONTNEED) == 0);
		EXPECT(is_zero(p, part));
		fill(p, part, round + 10);
		press(size - part);
		verify(p, part, round + 10);
	}
	return passed();
}
