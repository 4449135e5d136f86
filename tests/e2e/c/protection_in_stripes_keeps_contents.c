/* SPDX-License-Identifier: MIT */
/* Rule: mprotect of every other page, which splits areas into very many, loses nothing. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *p = map(part);

	fill(p, part, 1);
	press(size - part);
	for (size_t i = 0; i < part / PAGE; i += 2)
		EXPECT(mprotect(p + i * PAGE, PAGE, PROT_READ) == 0);
	verify(p, part, 1);
	for (size_t i = 1; i < part / PAGE; i += 2)
		page_make(p + i * PAGE, 2, i);
	press(size - part);
	EXPECT(mprotect(p, part, PROT_READ | PROT_WRITE) == 0);
	for (size_t i = 0; i < part / PAGE; i++)
		EXPECT(page_is(p + i * PAGE, i % 2 ? 2 : 1, i));
	return passed();
}
