/* SPDX-License-Identifier: MIT */
/* Fills memory as fast as it can in two threads that nobody else gets a CPU beside (where that is
 * allowed), and says the most bytes that were resident, as the kernel counted them. */
#include "c/check.h"

#include <sched.h>

static size_t part;

static void *rush(void *argument)
{
	char *p = map(part);

	(void)argument;
	for (size_t i = 0; i < part; i += PAGE)
		p[i] = 1;
	for (size_t i = 0; i < part; i += PAGE)
		EXPECT(p[i] == 1);
	return NULL;
}

static unsigned long most_resident(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	unsigned long kib = 0;

	EXPECT(status);
	while (fgets(line, sizeof(line), status))
		sscanf(line, "VmHWM: %lu", &kib);
	EXPECT(fclose(status) == 0 && kib);
	return kib * 1024;
}

int main(int argc, char **argv)
{
	struct sched_param before_all = { .sched_priority = 1 };
	pthread_t thread;

	part = size_from(argc, argv) / 2;
	sched_setscheduler(0, SCHED_FIFO, &before_all);
	EXPECT(pthread_create(&thread, NULL, rush, NULL) == 0);
	rush(NULL);
	EXPECT(pthread_join(thread, NULL) == 0);
	printf("%lu\n", most_resident());
	return 0;
}
