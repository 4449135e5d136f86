/* SPDX-License-Identifier: MIT */
/*
 * A sweep over memory that is larger than what may be resident, as a pager sees it at its worst:
 * fill, two sequential passes, random reads, random writes; each page looked at is verified whole.
 *
 *   sweep [MIB [THREADS]]      512 MiB and one thread if not given
 *
 * Half of each page is random, half constant, so that it compresses to about a half. Prints one
 * line of JSON: seconds of each phase, and percentiles of the touches that took longer than
 * 1.5 us, in ns: a touch that finds its page takes less, so these are the faults.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <x86intrin.h>

#define PAGE	     4096UL
#define HALF	     (PAGE / 2)
#define POOL	     (256 * 1024UL)
#define MOST_THREADS 16
#define SLOW_NS	     1500

enum phase { FILL, SEQUENTIAL_1, SEQUENTIAL_2, RANDOM_READS, RANDOM_WRITES, NR_PHASES };

static const char *const phase_names[NR_PHASES] = {
	"fill", "sequential_1", "sequential_2", "random_reads", "random_writes",
};

/* Random bytes that every page takes its half from; small enough to stay in the CPU's cache. */
static char pool[POOL] __attribute__((aligned(4096)));
static char *region;
static unsigned threads = 1;
static size_t share; /* pages of one thread */
static double ns_per_tick;
static uint64_t slow_ticks;
static pthread_barrier_t barrier;
static double seconds[NR_PHASES];

/* What one thread saw: ticks of each slow touch, at most one a page and phase. */
struct seen {
	uint32_t *slow[NR_PHASES];
	size_t nr[NR_PHASES];
};

static struct seen seen[MOST_THREADS];

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void calibrate(void)
{
	double start = now();
	uint64_t ticks = __rdtsc();

	while (now() - start < 0.05)
		;
	ns_per_tick = (now() - start) * 1e9 / (__rdtsc() - ticks);
	slow_ticks = SLOW_NS / ns_per_tick;
}

static const char *random_half(size_t page)
{
	return pool + mix(page) % (POOL - HALF) / 8 * 8;
}

static uint64_t *constant_half(size_t page)
{
	return (uint64_t *)(region + page * PAGE + HALF);
}

static void wrong(size_t page)
{
	fprintf(stderr, "sweep: page %zu does not hold what was written\n", page);
	exit(1);
}

/* The constant half is the page's number, but for its last word: how often it was written. */
static void verify(size_t page)
{
	uint64_t *word = constant_half(page);

	if (memcmp(region + page * PAGE, random_half(page), HALF))
		wrong(page);
	for (size_t i = 0; i < HALF / 8 - 1; i++)
		if (word[i] != page)
			wrong(page);
	if (word[HALF / 8 - 1] > share)
		wrong(page);
}

static void note(struct seen *s, enum phase phase, uint64_t ticks)
{
	if (ticks > slow_ticks && s->nr[phase] < share)
		s->slow[phase][s->nr[phase]++] = ticks > UINT32_MAX ? UINT32_MAX : ticks;
}

static void touch(struct seen *s, enum phase phase, size_t page)
{
	volatile uint64_t *word = &constant_half(page)[HALF / 8 - 1];
	uint64_t start = __rdtsc(), ticks;
	unsigned cpu;

	if (phase == RANDOM_WRITES)
		*word = *word + 1;
	else if (phase == FILL)
		*word = 0;
	else
		(void)*word;
	ticks = __rdtscp(&cpu) - start;
	note(s, phase, ticks);
}

static size_t page_of(enum phase phase, size_t first, size_t i)
{
	if (phase < RANDOM_READS)
		return first + i;
	return first + mix(i + first + phase * 0x12345678ULL) % share;
}

static void do_phase(struct seen *s, enum phase phase, size_t first)
{
	for (size_t i = 0; i < share; i++) {
		size_t page = page_of(phase, first, i);

		touch(s, phase, page);
		if (phase == FILL) {
			uint64_t *word = constant_half(page);

			memcpy(region + page * PAGE, random_half(page), HALF);
			for (size_t j = 0; j < HALF / 8 - 1; j++)
				word[j] = page;
		} else {
			verify(page);
		}
	}
}

static void *work(void *argument)
{
	size_t which = (size_t)argument;

	for (enum phase phase = 0; phase < NR_PHASES; phase++) {
		double start;

		pthread_barrier_wait(&barrier);
		start = now();
		do_phase(&seen[which], phase, which * share);
		pthread_barrier_wait(&barrier);
		if (!which)
			seconds[phase] = now() - start;
	}
	return NULL;
}

/* Each random write counted once: the words add up to the number of writes. */
static void verify_writes(void)
{
	uint64_t sum = 0;

	for (size_t page = 0; page < share * threads; page++)
		sum += constant_half(page)[HALF / 8 - 1];
	if (sum != share * threads) {
		fprintf(stderr, "sweep: %lu writes of %zu are there\n", sum, share * threads);
		exit(1);
	}
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Percentiles of the slow touches of phases [from, to). */
static void print_latency(const char *name, enum phase from, enum phase to)
{
	const double points[] = { 0.5, 0.99, 0.999, 1 };
	const char *const names[] = { "p50", "p99", "p999", "max" };
	size_t nr = 0;
	uint32_t *all;

	for (enum phase phase = from; phase < to; phase++)
		for (unsigned t = 0; t < threads; t++)
			nr += seen[t].nr[phase];
	all = malloc((nr + 1) * sizeof(*all));
	nr = 0;
	for (enum phase phase = from; phase < to; phase++) {
		for (unsigned t = 0; t < threads; t++) {
			memcpy(all + nr, seen[t].slow[phase], seen[t].nr[phase] * sizeof(*all));
			nr += seen[t].nr[phase];
		}
	}
	qsort(all, nr, sizeof(*all), by_value);
	printf(", \"%s\": {\"slow\": %zu", name, nr);
	for (int i = 0; i < 4; i++) {
		size_t at = nr ? (size_t)(points[i] * (nr - 1)) : 0;

		printf(", \"%s\": %.0f", names[i], nr ? all[at] * ns_per_tick : 0);
	}
	printf("}");
	free(all);
}

int main(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 512;
	pthread_t ids[MOST_THREADS];
	double total = 0;

	if (argc > 2)
		threads = strtoul(argv[2], NULL, 10);
	if (!mib || !threads || threads > MOST_THREADS) {
		fprintf(stderr, "usage: sweep [MIB [THREADS]], at most %d threads\n", MOST_THREADS);
		return 2;
	}
	calibrate();
	for (size_t i = 0; i < POOL / 8; i++)
		((uint64_t *)pool)[i] = mix(i + 1);
	share = (mib << 20) / PAGE / threads;
	region = mmap(NULL, share * threads * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (region == MAP_FAILED) {
		perror("sweep: mmap");
		return 1;
	}
	for (unsigned t = 0; t < threads; t++)
		for (int phase = 0; phase < NR_PHASES; phase++)
			seen[t].slow[phase] = malloc(share * sizeof(uint32_t));

	pthread_barrier_init(&barrier, NULL, threads);
	for (size_t t = 0; t < threads; t++)
		pthread_create(&ids[t], NULL, work, (void *)t);
	for (unsigned t = 0; t < threads; t++)
		pthread_join(ids[t], NULL);
	verify_writes();

	printf("{\"mib\": %zu, \"threads\": %u, \"seconds\": {", mib, threads);
	for (int phase = 0; phase < NR_PHASES; phase++) {
		printf("\"%s\": %.4f, ", phase_names[phase], seconds[phase]);
		total += seconds[phase];
	}
	printf("\"total\": %.4f}, \"latency\": {\"what\": \"touches over %d ns\"", total, SLOW_NS);
	for (enum phase phase = 0; phase < NR_PHASES; phase++)
		print_latency(phase_names[phase], phase, phase + 1);
	print_latency("all", FILL, NR_PHASES);
	print_latency("after_fill", SEQUENTIAL_1, NR_PHASES);
	printf("}}\n");
	return 0;
}
