/* SPDX-License-Identifier: MIT */
/* hot_and_cold HOT COLD WANT: touches HOT MiB again and again, and COLD MiB at the beginning and
 * the end, until more than WANT MiB of it are huge pages (0: for a second), and says how many are.
 */
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* Bytes of the program's in huge pages. */
static long huge(void)
{
	char line[256];
	long sum = 0, kib;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "AnonHugePages: %ld kB", &kib) == 1)
			sum += kib;
	return sum >> 10;
}

static unsigned long *area(size_t mib)
{
	size_t n = mib << 20;
	unsigned long *p =
		mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (size_t i = 0; i < n / sizeof *p; i += 512)
		p[i] = mib + i;
	return p;
}

static int right(const unsigned long *p, size_t mib)
{
	for (size_t i = 0; i < (mib << 20) / sizeof *p; i += 512)
		if (p[i] != mib + i)
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	size_t hot = atoi(argv[1]), cold = atoi(argv[2]);
	long want = atol(argv[3]);
	unsigned long *c = area(cold), *h = area(hot);
	struct timespec nap = { .tv_nsec = 20000000 };

	(void)argc;
	/* It is not known how soon; a program that waits in vain says so. */
	for (int i = 0; i < (want ? 3000 : 50) && huge() <= want; i++) {
		if (!right(h, hot))
			return puts("hot bytes are wrong"), 1;
		nanosleep(&nap, NULL);
	}
	printf("%ld MiB huge\n", huge());
	return right(h, hot) && right(c, cold) && right(h, hot) ? 0 : 2;
}
