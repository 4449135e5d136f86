/* SPDX-License-Identifier: MIT */
/*
 * 64 threads fault at once: each first writes its own share of memory, then all look at all of
 * it, each from another place, then all write pages that others wrote. Every byte is verified.
 */
#include "c/check.h"

#define THREADS 64

static char *p;
static size_t pages, share;
static pthread_barrier_t barrier;

static void *body(void *argument)
{
	size_t which = (size_t)argument, first = which * share;

	pthread_barrier_wait(&barrier);
	for (size_t i = first; i < first + share; i++)
		page_make(p + i * PAGE, 1, i);
	pthread_barrier_wait(&barrier);
	/* All of it at a stride that is prime to the number of pages, from a place of one's own. */
	for (size_t n = 0; n < pages / 4; n++) {
		size_t i = (first + n * 5) % pages;

		EXPECT(page_is(p + i * PAGE, 1, i));
	}
	pthread_barrier_wait(&barrier);
	for (size_t i = which; i < pages; i += THREADS)
		page_make(p + i * PAGE, 2 + which, i);
	pthread_barrier_wait(&barrier);
	for (size_t i = first; i < first + share; i++)
		EXPECT(page_is(p + i * PAGE, 2 + i % THREADS, i));
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t threads[THREADS];
	pthread_attr_t attr;

	share = size_from(argc, argv) / PAGE / THREADS;
	pages = share * THREADS;
	p = map(pages * PAGE);
	pthread_attr_init(&attr);
	EXPECT(pthread_attr_setstacksize(&attr, 256 * 1024) == 0);
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], &attr, body, (void *)i) == 0);
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	return passed();
}
