/* SPDX-License-Identifier: MIT */
/* Rule: a program that executes itself again and again, each time with evicted memory and threads
 * about, runs each time. */
#include "check.h"

static void *idle(void *unused)
{
	for (;;)
		pause();
	return unused;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	int left = argc > 2 ? atoi(argv[2]) : 3;
	char *p = map(part), again[16];
	pthread_t thread;

	fill(p, part, left);
	press(part);
	verify(p, part, left);
	if (!left)
		return passed();
	EXPECT(pthread_create(&thread, NULL, idle, NULL) == 0);
	EXPECT(execl("/nowhere", "nowhere", NULL) == -1 && errno == ENOENT);
	verify(p, part, left);
	snprintf(again, sizeof(again), "%d", left - 1);
	execl("/proc/self/exe", argv[0], argc > 1 ? argv[1] : "64", again, NULL);
	EXPECT(!"exec came back");
}
