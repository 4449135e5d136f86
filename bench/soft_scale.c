/* SPDX-License-Identifier: MIT */
/*
 * Faults of several threads in one space, each in an area of its own: 32 MiB written in order.
 *
 * Told twice: as time on the clock for each fault of all threads together, and as CPU time for each
 * fault, which tells what they do to one another however busy the machine is.
 */
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#include "bench/soft_bench.h"
#include "engine/space/calls.h"

enum { MOST_THREADS = 2 };

#define BYTES  MIB(32)
#define FAULTS (BYTES >> PAGE_SHIFT)

struct toucher {
	pthread_t thread;
	pthread_barrier_t *barrier;
	struct soft_cpu *cpu; /* NULL: the kernel's side */
	u64 at;
	double cpu_ns, start, end; /* start, end: by the clock */
};

struct result {
	double wall, cpu; /* ns a fault */
};

static struct soft_machine *machine;
static struct mm *mm;

/* For all rounds of a contest with two threads. */
static u64 contentions[NR_LOCK_CLASSES], faults;

static double wall_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void *touch(void *arg)
{
	struct toucher *t = arg;

	pthread_barrier_wait(t->barrier);
	t->start = wall_ns();
	t->cpu_ns = thread_ns();
	for (u64 i = 0; i < FAULTS; i++) {
		u64 va = t->at + i * PAGE_SIZE;

		if (!t->cpu)
			*(volatile char *)va = 1;
		else if (soft_write_byte(t->cpu, va, 1) != FAULT_OK)
			give_up("a write");
	}
	t->cpu_ns = thread_ns() - t->cpu_ns;
	t->end = wall_ns();
	return NULL;
}

static struct result run(struct toucher *touchers, unsigned n)
{
	double first = 0, last = 0, cpu = 0;
	pthread_barrier_t barrier;

	pthread_barrier_init(&barrier, NULL, n);
	for (unsigned i = 0; i < n; i++) {
		touchers[i].barrier = &barrier;
		if (pthread_create(&touchers[i].thread, NULL, touch, &touchers[i]))
			give_up("a thread");
	}
	for (unsigned i = 0; i < n; i++) {
		pthread_join(touchers[i].thread, NULL);
		if (!i || touchers[i].start < first)
			first = touchers[i].start;
		if (!i || touchers[i].end > last)
			last = touchers[i].end;
		cpu += touchers[i].cpu_ns;
	}
	pthread_barrier_destroy(&barrier);
	return (struct result){ (last - first) / (n * FAULTS), cpu / (n * FAULTS) };
}

static struct result kernel(unsigned n)
{
	struct toucher touchers[MOST_THREADS] = { 0 };
	struct result found;

	/* One page in between, so that they are areas of their own. */
	for (unsigned i = 0; i < n; i++) {
		char *at = map_small_pages(BYTES + PAGE_SIZE);

		mprotect(at + BYTES, PAGE_SIZE, PROT_NONE);
		touchers[i].at = (u64)at;
	}
	found = run(touchers, n);
	for (unsigned i = 0; i < n; i++)
		munmap((void *)touchers[i].at, BYTES + PAGE_SIZE);
	return found;
}

static struct result ours(unsigned n)
{
	struct toucher touchers[MOST_THREADS] = { 0 };
	u64 before[NR_LOCK_CLASSES];
	struct result found;

	for (unsigned i = 0; i < n; i++) {
		s64 at = do_mmap(mm, 0, BYTES + PAGE_SIZE, UAPI_PROT_READ | UAPI_PROT_WRITE,
				 UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS, NULL, 0);

		if (at < 0 || do_mprotect(mm, (u64)at + BYTES, PAGE_SIZE, UAPI_PROT_NONE))
			give_up("our areas");
		touchers[i].at = (u64)at;
		touchers[i].cpu = &machine->cpus[i];
	}
	for (unsigned class = 0; class < NR_LOCK_CLASSES; class ++)
		before[class] = lock_contentions(class);
	found = run(touchers, n);
	for (unsigned class = 0; class < NR_LOCK_CLASSES; class ++)
		contentions[class] += lock_contentions(class) - before[class];
	faults += n * FAULTS;
	for (unsigned i = 0; i < n; i++)
		vm_unmap(mm, touchers[i].at, BYTES + PAGE_SIZE);
	return found;
}

static double wall_kernel(u64 n)
{
	return kernel((unsigned)n).wall;
}
static double wall_ours(u64 n)
{
	return ours((unsigned)n).wall;
}
static double cpu_kernel(u64 n)
{
	return kernel((unsigned)n).cpu;
}
static double cpu_ours(u64 n)
{
	return ours((unsigned)n).cpu;
}

/* How many of a thousand faults met a lock that was taken, by what the lock guards. */
static void print_contentions(void)
{
	static const char *const names[NR_LOCK_CLASSES] = {
		[LOCK_OTHER] = "others",
		[LOCK_MMAP] = "mmap_lock",
		[LOCK_VMA] = "VMA",
		[LOCK_ANON_VMA] = "anon_vma",
		[LOCK_PAGE_TABLE] = "page table",
		[LOCK_PAGE] = "page",
		[LOCK_LRU] = "LRU",
		[LOCK_ZONE] = "zone",
	};

	printf(", \"more\": {");
	for (unsigned class = 0; class < NR_LOCK_CLASSES; class ++) {
		printf("%s\"%s lock taken, of 1000 faults\": %.2f", class ? ", " : "", names[class],
		       contentions[class] * 1e3 / faults);
		contentions[class] = 0;
	}
	printf("}");
	faults = 0;
}

static void start(void)
{
	machine = bench_machine(MOST_THREADS, PAGES(96), 1);
	mm = bench_space(machine);
}

static const struct contest contests[] = {
	{ "faults of 1 thread, clock", "ns", 1.0, wall_kernel, wall_ours, 1, NULL },
	{ "faults of 2 threads, clock", "ns", 1.0, wall_kernel, wall_ours, 2, NULL },
	{ "faults of 1 thread, CPU", "ns", 1.0, cpu_kernel, cpu_ours, 1, NULL },
	{ "faults of 2 threads, CPU", "ns", 1.0, cpu_kernel, cpu_ours, 2, print_contentions },
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), start, argc, argv);
}
