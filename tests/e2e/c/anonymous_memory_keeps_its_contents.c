/* SPDX-License-Identifier: MIT */
/* Rule: what a program wrote it reads again, in order and at random, however little is resident. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), pages = size / PAGE;
	char *p = map(size);

	fill(p, size, 1);
	verify(p, size, 1);
	for (uint64_t i = 0; i < pages; i++) {
		size_t at = mix(i) % pages;

		EXPECT(page_is(p + at * PAGE, 1, at));
	}
	for (uint64_t i = 0; i < pages; i++) {
		size_t at = mix(i + pages) % pages;

		page_make(p + at * PAGE, 1, at + pages);
		EXPECT(page_is(p + at * PAGE, 1, at + pages));
		page_make(p + at * PAGE, 1, at);
	}
	verify(p, size, 1);
	return passed();
}
