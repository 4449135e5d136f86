/* SPDX-License-Identifier: MIT */
/* Rule: the heap by brk keeps contents when it grows, reads zero where it shrank and grew again. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2, step = part / 16;
	char *p = sbrk(0);

	/* To a page boundary; nothing of malloc's is above it. */
	EXPECT(sbrk(PAGE - (uintptr_t)p % PAGE) != (void *)-1);
	p = sbrk(0);
	for (size_t have = 0; have < part; have += step) {
		EXPECT(sbrk(step) == p + have);
		EXPECT(is_zero(p + have, step));
		for (size_t i = have / PAGE; i < (have + step) / PAGE; i++)
			page_make(p + i * PAGE, 1, i);
	}
	for (int round = 0; round < 3; round++) {
		press(part);
		EXPECT(brk(p + part / 2) == 0);
		verify(p, part / 2, 1);
		EXPECT(brk(p + part) == 0);
		EXPECT(is_zero(p + part / 2, part / 2));
		fill(p, part, 1);
	}
	press(part);
	verify(p, part, 1);
	return passed();
}
