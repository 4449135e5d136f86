/* SPDX-License-Identifier: MIT */
/*
 * The engine on the soft machine against the kernel that runs, doing the same, in turns: faults,
 * mappings among many others, fork, and faults on two CPUs.
 *
 *     soft_path [--json] [ROUNDS]
 *
 * Medians of the rounds (7), in nanoseconds an operation, and the ratio: below 1 the engine is
 * faster.  A TLB hit has no counterpart; it is held against 5 ns.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/space/calls.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"

enum { PAGES = 8192, FRAMES = 3 * PAGES, TABLES = 2048, MOST_ROUNDS = 99, CALLS = 400 };
#define BASE	0x200000000ULL
#define RW	(PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)
/* Kernels on the fringe of a limit do other work than to map. */
#define MOST_AREAS 60000

static struct soft_machine *machine;
static struct mm *mm;

static _Noreturn void give_up(const char *what)
{
	fprintf(stderr, "soft_path: %s\n", what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- the engine ---- */

static void start_engine(void)
{
	struct soft_options options = { .table_frames = TABLES,
					.user_frames = FRAMES,
					.nr_cpus = 2 };

	if (memory_store_create(&soft_host_memory, COMPRESS_NONE, 64, 0, 1, &options.store) ||
	    soft_create(&options, &machine) ||
	    mm_create(&machine->engine, PAGE_SIZE, 0x7ffffffff000, &mm))
		give_up("no memory for the machine");
	soft_load_mm(&machine->cpus[0], mm);
	soft_load_mm(&machine->cpus[1], mm);
}

static void engine_map(u64 addr, u64 pages, u64 prot)
{
	if (do_mmap(mm, addr, pages * PAGE_SIZE, prot, PRIVATE | MAP_FIXED, NULL, 0) != (s64)addr)
		give_up("the engine maps nothing");
}

static void engine_unmap(u64 addr, u64 pages)
{
	if (vm_unmap(mm, addr, pages * PAGE_SIZE))
		give_up("the engine unmaps nothing");
}

static void engine_touch(unsigned cpu, u64 addr, u64 pages, bool write)
{
	struct soft_cpu *c = &machine->cpus[cpu];
	enum fault_reason r = FAULT_OK;
	u8 byte;

	for (u64 i = 0; i < pages && r == FAULT_OK; i++)
		r = write ? soft_write_byte(c, addr + i * PAGE_SIZE, 1)
			  : soft_read_byte(c, addr + i * PAGE_SIZE, &byte);
	if (r != FAULT_OK)
		give_up("an access of the engine's fails");
}

/* ---- the kernel ---- */

static char *kernel_map(u64 pages, int prot)
{
	char *p = mmap(NULL, pages * PAGE_SIZE, prot, PRIVATE, -1, 0);

	if (p == MAP_FAILED)
		give_up("the kernel maps nothing");
	madvise(p, pages * PAGE_SIZE, MADV_NOHUGEPAGE);
	return p;
}

static void kernel_touch(volatile char *p, u64 pages, bool write)
{
	for (u64 i = 0; i < pages; i++) {
		if (write)
			p[i * PAGE_SIZE] = 1;
		else
			(void)p[i * PAGE_SIZE];
	}
}

/* ---- rows: ns an operation, of the engine and of the kernel ---- */

struct pair {
	double engine, kernel;
};

static struct pair faults(bool write)
{
	struct pair ns;
	double start;
	char *p;

	engine_map(BASE, PAGES, RW);
	start = now();
	engine_touch(0, BASE, PAGES, write);
	ns.engine = (now() - start) / PAGES;
	engine_unmap(BASE, PAGES);

	p = kernel_map(PAGES, RW);
	start = now();
	kernel_touch(p, PAGES, write);
	ns.kernel = (now() - start) / PAGES;
	munmap(p, PAGES * PAGE_SIZE);
	return ns;
}

static struct pair write_faults(void)
{
	return faults(true);
}

static struct pair read_faults(void)
{
	return faults(false);
}

static struct pair unmapping(void)
{
	struct pair ns;
	double start;
	char *p;

	engine_map(BASE, PAGES, RW);
	engine_touch(0, BASE, PAGES, true);
	start = now();
	engine_unmap(BASE, PAGES);
	ns.engine = (now() - start) / PAGES;

	p = kernel_map(PAGES, RW);
	kernel_touch(p, PAGES, true);
	start = now();
	munmap(p, PAGES * PAGE_SIZE);
	ns.kernel = (now() - start) / PAGES;
	return ns;
}

/* One page more and away again among so many areas, of which no two can be one. */
static struct pair mapping_among(u64 areas)
{
	struct pair ns;
	double start;
	char *p;

	engine_map(BASE, areas, PROT_NONE);
	for (u64 i = 0; i < areas; i += 2)
		if (do_mprotect(mm, BASE + i * PAGE_SIZE, PAGE_SIZE, PROT_READ))
			give_up("the engine has no room for so many areas");
	start = now();
	for (unsigned i = 0; i < CALLS; i++) {
		s64 at = do_mmap(mm, 0, PAGE_SIZE, RW, PRIVATE, NULL, 0);

		if (at < 0)
			give_up("the engine maps nothing");
		engine_unmap((u64)at, 1);
	}
	ns.engine = (now() - start) / CALLS;
	engine_unmap(BASE, areas);

	p = mmap(NULL, areas * PAGE_SIZE, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		give_up("the kernel maps nothing");
	for (u64 i = 0; i < areas; i += 2)
		if (mprotect(p + i * PAGE_SIZE, PAGE_SIZE, PROT_READ))
			give_up("the kernel allows no so many areas: vm.max_map_count");
	start = now();
	for (unsigned i = 0; i < CALLS; i++) {
		void *at = mmap(NULL, PAGE_SIZE, RW, PRIVATE, -1, 0);

		if (at == MAP_FAILED || munmap(at, PAGE_SIZE))
			give_up("the kernel maps nothing");
	}
	ns.kernel = (now() - start) / CALLS;
	munmap(p, areas * PAGE_SIZE);
	return ns;
}

static struct pair among_10(void)
{
	return mapping_among(10);
}

static struct pair among_1000(void)
{
	return mapping_among(1000);
}

static struct pair among_60000(void)
{
	return mapping_among(MOST_AREAS);
}

/* fork() of PAGES pages that were written to, an exit of the child at once: ns a page. */
static struct pair forking(void)
{
	struct mm *child;
	struct pair ns;
	double start;
	char *p;
	int pid;

	engine_map(BASE, PAGES, RW);
	engine_touch(0, BASE, PAGES, true);
	start = now();
	if (mm_fork(mm, &child))
		give_up("the engine does not fork");
	mm_destroy(child);
	ns.engine = (now() - start) / PAGES;
	engine_unmap(BASE, PAGES);

	p = kernel_map(PAGES, RW);
	kernel_touch(p, PAGES, true);
	start = now();
	pid = fork();
	if (!pid)
		_exit(0);
	waitpid(pid, NULL, 0);
	ns.kernel = (now() - start) / PAGES;
	munmap(p, PAGES * PAGE_SIZE);
	return ns;
}

/* What the parent copies after a fork, page by page, the child being there. */
static struct pair copying(void)
{
	struct mm *child;
	struct pair ns;
	int pid, pipes[2];
	double start;
	char *p, c;

	engine_map(BASE, PAGES / 2, RW);
	engine_touch(0, BASE, PAGES / 2, true);
	if (mm_fork(mm, &child))
		give_up("the engine does not fork");
	start = now();
	engine_touch(0, BASE, PAGES / 2, true);
	ns.engine = (now() - start) / (PAGES / 2);
	mm_destroy(child);
	engine_unmap(BASE, PAGES / 2);

	p = kernel_map(PAGES / 2, RW);
	kernel_touch(p, PAGES / 2, true);
	if (pipe(pipes))
		give_up("no pipe");
	pid = fork();
	if (!pid) {
		close(pipes[1]);
		_exit(read(pipes[0], &c, 1) != 0); /* until the parent is done */
	}
	start = now();
	kernel_touch(p, PAGES / 2, true);
	ns.kernel = (now() - start) / (PAGES / 2);
	close(pipes[0]);
	close(pipes[1]);
	waitpid(pid, NULL, 0);
	munmap(p, PAGES / 2 * PAGE_SIZE);
	return ns;
}

/* ---- two CPUs ---- */

static pthread_barrier_t both;
static char *kernel_areas[2];

static void *engine_worker(void *arg)
{
	unsigned cpu = arg != NULL;

	pthread_barrier_wait(&both);
	engine_touch(cpu, BASE + (cpu ? 1ULL << 30 : 0), PAGES, true);
	return NULL;
}

static void *kernel_worker(void *arg)
{
	pthread_barrier_wait(&both);
	kernel_touch(kernel_areas[arg != NULL], PAGES, true);
	return NULL;
}

/* ns a page of the two together, each in an area of its own. */
static double on_two(void *(*work)(void *))
{
	pthread_t other;
	double start;

	pthread_barrier_init(&both, NULL, 2);
	if (pthread_create(&other, NULL, work, &both))
		give_up("no thread");
	start = now();
	work(NULL);
	pthread_join(other, NULL);
	pthread_barrier_destroy(&both);
	return (now() - start) / (2 * PAGES);
}

static struct pair two_cpus(void)
{
	struct pair ns;

	engine_map(BASE, PAGES, RW);
	engine_map(BASE + (1ULL << 30), PAGES, RW);
	ns.engine = on_two(engine_worker);
	engine_unmap(BASE, PAGES);
	engine_unmap(BASE + (1ULL << 30), PAGES);

	for (unsigned i = 0; i < 2; i++)
		kernel_areas[i] = kernel_map(PAGES, RW);
	ns.kernel = on_two(kernel_worker);
	for (unsigned i = 0; i < 2; i++)
		munmap(kernel_areas[i], PAGES * PAGE_SIZE);
	return ns;
}

/* ---- the whole ---- */

static const struct row {
	const char *name, *what;
	struct pair (*once)(void);
} rows[] = {
	{ "write_fault", "a first write to a page", write_faults },
	{ "read_fault", "a first read of a page", read_faults },
	{ "unmap", "unmapping, a page", unmapping },
	{ "map_among_10", "mmap and munmap among 10 areas", among_10 },
	{ "map_among_1000", "among 1,000", among_1000 },
	{ "map_among_60000", "among 60,000", among_60000 },
	{ "fork", "fork and exit of the child, a page", forking },
	{ "copy", "a copy on write after fork", copying },
	{ "write_fault_2", "a first write, two CPUs, a page", two_cpus },
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned n)
{
	qsort(values, n, sizeof(*values), by_value);
	return values[n / 2];
}

/* ns of an access that hits the TLB. */
static double tlb_hit(void)
{
	enum { ACCESSES = 5000000 };
	struct soft_cpu *cpu = &machine->cpus[0];
	u64 word, sum = 0;
	double start;

	engine_map(BASE, 1, RW);
	engine_touch(0, BASE, 1, true);
	start = now();
	for (unsigned i = 0; i < ACCESSES; i++) {
		soft_read_u64(cpu, BASE + i * 8 % PAGE_SIZE, &word);
		sum += word;
	}
	start = now() - start;
	__asm__ volatile("" ::"r"(sum));
	engine_unmap(BASE, 1);
	return start / ACCESSES;
}

static void print_row(const struct row *row, struct pair ns, bool json, bool first)
{
	if (json)
		printf("%s\"%s\": {\"engine_ns\": %.1f, \"kernel_ns\": %.1f, \"ratio\": %.3f}",
		       first ? "{" : ", ", row->name, ns.engine, ns.kernel, ns.engine / ns.kernel);
	else
		printf("  %-36s %9.0f %9.0f %7.2f\n", row->what, ns.engine, ns.kernel,
		       ns.engine / ns.kernel);
}

int main(int argc, char **argv)
{
	static double engine[ARRAY_SIZE(rows)][MOST_ROUNDS], kernel[ARRAY_SIZE(rows)][MOST_ROUNDS];
	static double hits[MOST_ROUNDS];
	bool json = argc > 1 && !strcmp(argv[1], "--json");
	long rounds = argc > 1 + json ? strtol(argv[1 + json], NULL, 10) : 7;
	struct lock_waits before;

	if (argc > 2 + json || rounds < 1 || rounds > MOST_ROUNDS)
		give_up("usage: soft_path [--json] [ROUNDS], at most 99");
	start_engine();
	/* Both have their memory, and the code is there. */
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		rows[i].once();
	before = lock_waits_now();
	for (long round = 0; round < rounds; round++) {
		for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
			struct pair ns = rows[i].once();

			engine[i][round] = ns.engine;
			kernel[i][round] = ns.kernel;
		}
		hits[round] = tlb_hit();
	}
	if (!json)
		printf("  %-36s %9s %9s %7s\n", "ns", "engine", "kernel", "ratio");
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		print_row(&rows[i],
			  (struct pair){ median(engine[i], rounds), median(kernel[i], rounds) },
			  json, !i);
	printf(json ? ", \"tlb_hit_ns\": %.2f" : "  a hit in the TLB: %.2f ns\n",
	       median(hits, rounds));
	printf(json ? ", \"lock_waits\": {\"spin\": %llu, \"read\": %llu, \"write\": %llu}}\n"
		    : "  waited for a lock, in all: %llu times a spinlock, %llu to read, %llu to "
		      "write\n",
	       (unsigned long long)(lock_waits_now().spin - before.spin),
	       (unsigned long long)(lock_waits_now().read - before.read),
	       (unsigned long long)(lock_waits_now().write - before.write));
	mm_destroy(mm);
	return 0;
}
