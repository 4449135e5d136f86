/* SPDX-License-Identifier: MIT */
/* Rule: memory that was never written reads zero, before and after eviction, and takes writes page
 * by page. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	char *p = map(size), *sparse;

	EXPECT(is_zero(p, size));
	EXPECT(is_zero(p, size));
	for (size_t i = 0; i < size / PAGE; i += 2)
		page_make(p + i * PAGE, 1, i);
	for (size_t i = 0; i < size / PAGE; i++)
		EXPECT(i % 2 ? is_zero(p + i * PAGE, PAGE) : page_is(p + i * PAGE, 1, i));

	/* Far more address space than memory, touched here and there. */
	sparse = mmap(NULL, 1UL << 38, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	EXPECT(sparse != MAP_FAILED);
	for (uint64_t i = 0; i < 2000; i++)
		page_make(sparse + mix(i) % (1UL << 26) * PAGE, 1, i);
	for (uint64_t i = 0; i < 2000; i++)
		EXPECT(page_is(sparse + mix(i) % (1UL << 26) * PAGE, 1, i));
	return passed();
}
