/* SPDX-License-Identifier: MIT */
/*
 * chase HOT COLD PASSES: reads that each wait for the one before, at random over HOT MiB that stay
 * in memory, after COLD MiB were touched once.  Prints ns of CPU time a read for each five passes,
 * and how much of the program is in huge pages in the end.  For `vmfault run --huge-pages`.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE = 64, READS = 4000000, TOLD = 5 };

static double cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *area(size_t mib)
{
	void *p = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("chase: mmap");
		exit(1);
	}
	return p;
}

/* One cycle through all lines in random order (Sattolo). */
static void link_lines(uint32_t *hot, size_t n)
{
	uint64_t x = 1;

	for (size_t i = 0; i < n; i++)
		hot[i * LINE / 4] = (uint32_t)i;
	for (size_t i = n - 1; i > 0; i--) {
		size_t k = (x = x * 6364136223846793005u + 1442695040888963407u) >> 20;
		uint32_t *a = &hot[i * LINE / 4], *b = &hot[k % i * LINE / 4], t = *a;

		*a = *b;
		*b = t;
	}
}

static void print_huge(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	long kib = 0, sum = 0;
	char line[256];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "AnonHugePages: %ld kB", &kib) == 1)
			sum += kib;
	printf("  %ld MiB in huge pages\n", sum >> 10);
}

int main(int argc, char **argv)
{
	size_t hot_mib = argc == 4 ? strtoul(argv[1], NULL, 10) : 0;
	size_t cold_mib = hot_mib ? strtoul(argv[2], NULL, 10) : 0;
	unsigned char *cold;
	uint32_t *hot, at = 0;
	double start = 0;

	if (!hot_mib || !cold_mib || hot_mib > 65536) {
		fprintf(stderr, "chase: HOT and COLD in MiB, and PASSES\n");
		return 2;
	}
	cold = area(cold_mib);
	for (size_t i = 0; i < cold_mib << 20; i += 4096)
		cold[i] = (unsigned char)(i >> 12);
	hot = area(hot_mib);
	link_lines(hot, (hot_mib << 20) / LINE);
	for (unsigned long pass = 0, n = strtoul(argv[3], NULL, 10); pass < n; pass++) {
		if (pass % TOLD == 0)
			start = cpu_seconds();
		for (int i = 0; i < READS; i++)
			at = hot[(size_t)at * LINE / 4];
		if (pass % TOLD == TOLD - 1)
			printf("%.0f ", (cpu_seconds() - start) * 1e9 / TOLD / READS);
	}
	print_huge();
	return at == UINT32_MAX;
}
