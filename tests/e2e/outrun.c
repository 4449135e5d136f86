/* SPDX-License-Identifier: MIT */
/* outrun SIZE [REST]: fills SIZE MiB as fast as it can in two threads that nobody else gets a CPU
 * beside (where that is allowed), and says the most bytes that were resident, as the kernel counted
 * them.  With REST it touches so many MiB first, says so, and rests until SIGUSR1 comes. */
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

static void rest(size_t bytes)
{
	char *p = map(bytes);
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	EXPECT(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (size_t i = 0; i < bytes; i += PAGE)
		p[i] = 1;
	puts("rests");
	EXPECT(fflush(stdout) == 0 && sigwait(&set, &signal) == 0);
}

int main(int argc, char **argv)
{
	struct sched_param before_all = { .sched_priority = 1 };
	pthread_t thread;

	part = size_from(argc, argv) / 2;
	if (argc > 2)
		rest(strtoul(argv[2], NULL, 10) * MIB);
	sched_setscheduler(0, SCHED_FIFO, &before_all);
	EXPECT(pthread_create(&thread, NULL, rush, NULL) == 0);
	rush(NULL);
	EXPECT(pthread_join(thread, NULL) == 0);
	printf("%lu\n", most_resident());
	return 0;
}
