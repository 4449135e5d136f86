/* SPDX-License-Identifier: MIT */
/* Writes and looks at memory in two threads until it is ended, or two minutes have passed: whoever
 * was to end it may have been ended first. */
#include "c/check.h"

static size_t part;

static void *work(void *argument)
{
	size_t which = (size_t)argument;
	char *p = map(part);

	fill(p, part, which);
	for (;;)
		verify(p, part, which);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	alarm(120);
	part = size_from(argc, argv) / 4;
	EXPECT(pthread_create(&thread, NULL, work, (void *)1) == 0);
	work((void *)2);
	return 0;
}
