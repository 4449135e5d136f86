/* SPDX-License-Identifier: MIT */
/* Rule: WILLNEED, COLD, PAGEOUT, SEQUENTIAL, RANDOM, HUGEPAGE, NOHUGEPAGE, COLLAPSE and POPULATE
 * leave contents alone. */
#include "check.h"
#include <linux/mman.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	int advice[] = { MADV_WILLNEED,
			 20 /* COLD */,
			 21 /* PAGEOUT */,
			 MADV_SEQUENTIAL,
			 MADV_RANDOM,
			 MADV_HUGEPAGE,
			 MADV_NOHUGEPAGE,
			 22 /* POPULATE_READ */,
			 23 /* POPULATE_WRITE */,
			 MADV_HUGEPAGE,
			 25 /* COLLAPSE */,
			 MADV_NORMAL };
	char *p = map(part);

	fill(p, part, 1);
	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++) {
		press(size - part);
		/* Refusing it is allowed; doing harm is not. */
		(void)madvise(p, part, advice[i]);
		verify(p, part, 1);
	}
	return passed();
}
