/* SPDX-License-Identifier: MIT */
/* Rule: memory that came as transparent huge pages keeps its contents when parts of it go. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), huge = 2 * MIB;
	char *p = map(size + huge);

	p = (char *)(((uintptr_t)p + huge - 1) / huge * huge);
	(void)madvise(p, size, MADV_HUGEPAGE);
	fill(p, size, 1);
	verify(p, size, 1);
	for (size_t i = 0; i < size / PAGE; i += 7)
		page_make(p + i * PAGE, 2, i);
	for (size_t i = 0; i < size / PAGE; i++)
		EXPECT(page_is(p + i * PAGE, i % 7 ? 1 : 2, i));
	return passed();
}
