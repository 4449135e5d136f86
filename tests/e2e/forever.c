/* SPDX-License-Identifier: MIT */
/* Writes and looks at memory until it is ended, in two threads. */
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

	part = size_from(argc, argv) / 4;
	EXPECT(pthread_create(&thread, NULL, work, (void *)1) == 0);
	work((void *)2);
	return 0;
}
