/* SPDX-License-Identifier: MIT */
/* Rule: a program that gave up root may fork while its threads write; no write is lost in it, and
 * the child's copy is whole. */
#include "check.h"

#define THREADS 3

static char *p;
static size_t part;
static _Atomic int stop;

static void *writer(void *argument)
{
	size_t which = (size_t)argument;
	char *mine = p + which * part;

	for (uint64_t round = 0; !stop; round++) {
		fill(mine, part, which + round);
		verify(mine, part, which + round);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), still = size / 4;
	char *quiet = map(still);
	pthread_t threads[THREADS];

	part = size / 2 / THREADS / PAGE * PAGE;
	p = map(part * THREADS);
	fill(quiet, still, 77);
	press(size / 4);
	drop_root();
	for (size_t i = 0; i < THREADS; i++)
		EXPECT(pthread_create(&threads[i], NULL, writer, (void *)i) == 0);
	for (int i = 0; i < 4; i++) {
		pid_t child = fork();

		if (!child) {
			verify(quiet, still, 77);
			fill(quiet, still, 78);
			verify(quiet, still, 78);
			_exit(0);
		}
		wait_for_success(child);
		verify(quiet, still, 77);
	}
	stop = 1;
	for (int i = 0; i < THREADS; i++)
		EXPECT(pthread_join(threads[i], NULL) == 0);
	return passed();
}
