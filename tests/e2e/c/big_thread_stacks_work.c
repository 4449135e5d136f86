/* SPDX-License-Identifier: MIT */
/* Rule: threads with much on their stacks, while memory is short, keep it. */
#include "check.h"

#define THREADS 16

static size_t share;
static pthread_barrier_t barrier;

static void *deep(void *argument)
{
	size_t which = (size_t)argument;
	char room[share] __attribute__((aligned(4096)));

	fill(room, share, which);
	pthread_barrier_wait(&barrier);
	verify(room, share, which);
	return NULL;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	pthread_t threads[THREADS];
	pthread_attr_t attr;

	/* Stacks are not managed: a tenth of the size, the rest presses. */
	share = size / 10 / THREADS / PAGE * PAGE;
	pthread_attr_init(&attr);
	EXPECT(pthread_attr_setstacksize(&attr, share + MIB) == 0);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], &attr, deep, (void *)i) == 0);
	press(size / 2);
	pthread_barrier_wait(&barrier);
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	press(size / 2);
	return passed();
}
