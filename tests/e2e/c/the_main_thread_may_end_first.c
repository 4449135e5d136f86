/* SPDX-License-Identifier: MIT */
/* Rule: the main thread may end by pthread_exit; the others go on with right memory, and one of
 * them ends all. */
#include "check.h"

static size_t size;
static char *p;

static void *other(void *main_thread)
{
	EXPECT(pthread_join(*(pthread_t *)main_thread, NULL) == 0);
	verify(p, size / 2, 1);
	fill(p, size / 2, 2);
	press(size);
	verify(p, size / 2, 2);
	exit(passed());
}

int main(int argc, char **argv)
{
	static pthread_t self;
	pthread_t thread;

	size = size_from(argc, argv);
	p = map(size / 2);
	fill(p, size / 2, 1);
	self = pthread_self();
	EXPECT(pthread_create(&thread, NULL, other, &self) == 0);
	pthread_exit(NULL);
}
