/* SPDX-License-Identifier: MIT */
/* Rule: after MADV_FREE each page is whole as it was or whole zero, until it is written; then it
 * stays. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *p = map(part);

	for (int round = 0; round < 3; round++) {
		fill(p, part, round);
		if (round == 1)
			press(size - part);
		EXPECT(madvise(p, part, MADV_FREE) == 0);
		if (round == 2)
			press(size - part);
		for (size_t i = 0; i < part / PAGE; i++)
			EXPECT(page_is(p + i * PAGE, round, i) || is_zero(p + i * PAGE, PAGE));
		for (size_t i = 0; i < part / PAGE; i += 2)
			page_make(p + i * PAGE, 100, i);
		press(size - part);
		for (size_t i = 0; i < part / PAGE; i += 2)
			EXPECT(page_is(p + i * PAGE, 100, i));
	}
	return passed();
}
