/* SPDX-License-Identifier: MIT */
/* Rule: many threads that map, use, grow, free and unmap memory all the time see only their own
 * contents. */
#include "check.h"

#define THREADS 8

static size_t share;

static void *churn(void *argument)
{
	uint64_t which = (uint64_t)argument, x = which;

	for (int i = 0; i < 60; i++) {
		size_t bytes = (1 + (x = mix(x + i)) % (share / PAGE)) * PAGE;
		char *p = map(bytes), *q;

		EXPECT(p[0] == 0 && is_zero(p + bytes - PAGE, PAGE));
		fill(p, bytes, which);
		if (i % 3 == 0) {
			p = mremap(p, bytes, bytes + 8 * PAGE, MREMAP_MAYMOVE);
			EXPECT(p != MAP_FAILED && is_zero(p + bytes, 8 * PAGE));
			EXPECT(munmap(p + bytes, 8 * PAGE) == 0);
		}
		if (i % 4 == 0) {
			EXPECT(madvise(p, PAGE, MADV_DONTNEED) == 0 && is_zero(p, PAGE));
			page_make(p, which, 0);
		}
		q = malloc(bytes);
		EXPECT(q);
		memcpy(q, p, bytes);
		verify(p, bytes, which);
		EXPECT(munmap(p, bytes) == 0);
		verify(q, bytes, which);
		free(q);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];

	share = size_from(argc, argv) / THREADS;
	for (uint64_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	return passed();
}
