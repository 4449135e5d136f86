/* SPDX-License-Identifier: MIT */
/*
 * Swapping on request, on the running kernel and in the engine: MADV_PAGEOUT and MADV_COLD, what
 * mincore(2) says after them, and what it costs to touch a page again.
 *
 *   pageout [--operations N] [--seed S]
 *
 * Random sequences are done by a process of the kernel's and by the engine: after each operation
 * what is compared is what it returned or read, which pages are there, and the minor and major
 * faults of a touch (but of one that is refused, for a signal touches memory, too).  A sequence
 * that differs is shortened and printed.  The kernel swaps to a zram device of the test's own,
 * which is taken down again whatever happens; where there can be none (no root, no zram, somebody
 * else's swap is on) it says why, and ends with 77.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/space/calls.h"
#include "machine/soft/soft.h"
#include "stores/memory.h"

enum { PAGES = 16, MOST_OPS = 40, SKIPPED = 77 };
#define ASIDE  (1u << 18) /* a page of the kernel's process that is not compared */
#define REGION 0x10000000000ULL
#define RW     (PROT_READ | PROT_WRITE)

enum what { READ, WRITE, PAGEOUT, COLD, DONTNEED, PROTECT, CHILD_READS, CHILD_WRITES, NR_WHATS };
static const char *const names[NR_WHATS] = { "read",	 "write",   "pageout",	   "cold",
					     "dontneed", "protect", "child reads", "child writes" };

struct op {
	enum what what;
	unsigned page, n; /* n: pages, or the byte to write, or the protection */
};

/* What came of an operation. */
struct record {
	long result; /* the byte, or what the call returned (negative errno); -1000: a signal */
	unsigned char there[PAGES];
	long minor, major;
};

#define REFUSED (-1000)

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static unsigned below(uint64_t *state, unsigned n)
{
	return (unsigned)((next_random(state) >> 11) % n);
}

static struct op random_op(uint64_t *rnd)
{
	static const enum what likely[] = { READ,     READ,    WRITE,	    WRITE,
					    WRITE,    PAGEOUT, PAGEOUT,	    COLD,
					    DONTNEED, PROTECT, CHILD_READS, CHILD_WRITES };
	struct op op = { .what = likely[below(rnd, sizeof(likely) / sizeof(*likely))],
			 .page = below(rnd, PAGES) };

	if (op.what == WRITE || op.what == CHILD_WRITES)
		op.n = 1 + below(rnd, 255);
	else if (op.what == PROTECT)
		op.n = below(rnd, 3) ? RW : PROT_READ;
	else
		op.n = 1 + below(rnd, PAGES - op.page);
	return op;
}

/* ---- the kernel ---- */

static volatile unsigned char *kernel_at(unsigned page)
{
	return (volatile unsigned char *)(REGION + ((uint64_t)page << 12));
}

static sigjmp_buf refused;

static void on_signal(int sig)
{
	(void)sig;
	siglongjmp(refused, 1);
}

static long kernel_touch(const struct op *op, bool write)
{
	if (sigsetjmp(refused, 1))
		return REFUSED;
	if (!write)
		return *kernel_at(op->page);
	*kernel_at(op->page) = (unsigned char)op->n;
	return 0;
}

static long kernel_child(const struct op *op, bool write)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(kernel_touch(op, write) == REFUSED ? 255
		      : write				 ? 0
							 : *kernel_at(op->page) % 251);
	while (waitpid(pid, &status, 0) < 0)
		;
	return WEXITSTATUS(status);
}

static long kernel_does(const struct op *op)
{
	void *at = (void *)(REGION + ((uint64_t)op->page << 12));
	size_t len = (size_t)op->n << 12;

	switch (op->what) {
	case READ:
	case WRITE:
		return kernel_touch(op, op->what == WRITE);
	case CHILD_READS:
	case CHILD_WRITES:
		return kernel_child(op, op->what == CHILD_WRITES);
	case PROTECT:
		return mprotect((void *)REGION, PAGES << 12, (int)op->n) ? -errno : 0;
	case PAGEOUT:
		return madvise(at, len, MADV_PAGEOUT) ? -errno : 0;
	case COLD:
		return madvise(at, len, MADV_COLD) ? -errno : 0;
	default:
		return madvise(at, len, MADV_DONTNEED) ? -errno : 0;
	}
}

static bool is_touch(const struct op *op)
{
	return op->what == READ || op->what == WRITE;
}

static void map_region(void)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;

	if (mmap((void *)REGION, PAGES << 12, RW, flags, -1, 0) == MAP_FAILED)
		_exit(1);
}

/* Whatever this process itself has to touch is there before anything is counted. */
static void warm_up(const struct op *ops, unsigned n, struct record *records)
{
	struct rusage usage;

	for (unsigned i = 0; i < n; i++) {
		getrusage(RUSAGE_SELF, &usage);
		kernel_does(&ops[i]);
		records[i].minor = usage.ru_minflt & 0;
		mincore((void *)REGION, PAGES << 12, records[i].there);
	}
	munmap((void *)REGION, PAGES << 12);
	map_region();
}

/* In a process of its own, on one CPU: what waits there to be put on the LRU lists is drained. */
static void kernel_process(const struct op *ops, unsigned n, struct record *records)
{
	struct sigaction action = { .sa_handler = on_signal };
	const struct op aside = { .what = WRITE, .page = ASIDE };
	struct rusage before, after;
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	map_region();
	if (mmap((void *)kernel_at(ASIDE), 4096, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	    MAP_FAILED)
		_exit(1);
	warm_up(ops, n, records);
	for (unsigned i = 0; i < n; i++) {
		struct record *r = &records[i];

		/* A fork before has made copies to come of what the next lines write to. */
		kernel_touch(&aside, true);
		getrusage(RUSAGE_SELF, &before);
		r->result = kernel_does(&ops[i]);
		getrusage(RUSAGE_SELF, &after);
		if (is_touch(&ops[i]) && r->result != REFUSED) {
			r->minor = after.ru_minflt - before.ru_minflt;
			r->major = after.ru_majflt - before.ru_majflt;
		}
		if (mincore((void *)REGION, PAGES << 12, r->there))
			_exit(1);
	}
	_exit(0);
}

/* ---- the engine ---- */

struct engine_world {
	struct store *store;
	struct soft_machine *machine;
	struct mm *mm;
};

static u64 engine_at(unsigned page)
{
	return REGION + ((u64)page << PAGE_SHIFT);
}

static long engine_touch(struct engine_world *w, const struct op *op, bool write)
{
	struct soft_cpu *cpu = &w->machine->cpus[0];
	u8 byte = (u8)op->n;
	enum fault_reason reason = write ? soft_write(cpu, engine_at(op->page), &byte, 1)
					 : soft_read(cpu, engine_at(op->page), &byte, 1);

	return reason != FAULT_OK ? REFUSED : write ? 0 : byte;
}

static long engine_child(struct engine_world *w, const struct op *op, bool write)
{
	struct soft_cpu *cpu = &w->machine->cpus[0];
	struct mm *child;
	long result;

	if (mm_fork(w->mm, &child))
		return REFUSED;
	soft_load_mm(cpu, child);
	result = engine_touch(w, op, write);
	soft_load_mm(cpu, w->mm);
	mm_destroy(child);
	return result == REFUSED ? 255 : write ? 0 : result % 251;
}

static long engine_does(struct engine_world *w, const struct op *op)
{
	u64 len = (u64)op->n << PAGE_SHIFT;

	switch (op->what) {
	case READ:
	case WRITE:
		return engine_touch(w, op, op->what == WRITE);
	case CHILD_READS:
	case CHILD_WRITES:
		return engine_child(w, op, op->what == CHILD_WRITES);
	case PROTECT:
		return (long)do_mprotect(w->mm, REGION, (u64)PAGES << PAGE_SHIFT, op->n);
	case PAGEOUT:
		return (long)do_madvise(w->mm, engine_at(op->page), len, UAPI_MADV_PAGEOUT);
	case COLD:
		return (long)do_madvise(w->mm, engine_at(op->page), len, UAPI_MADV_COLD);
	default:
		return (long)do_madvise(w->mm, engine_at(op->page), len, UAPI_MADV_DONTNEED);
	}
}

static void engine_run(const struct op *ops, unsigned n, struct record *records)
{
	struct engine_config config = engine_default_config(512);
	struct soft_options options = { .table_frames = 256,
					.user_frames = 512,
					.nr_cpus = 1,
					.checked = true,
					.config = &config };
	struct engine_world w;

	config.prefetch = 1; /* as the kernel does with a device that answers at once */
	config.kept_slots = 0;
	if (memory_store_create(&soft_host_memory, COMPRESS_NONE, 512, 0, 1, &options.store) ||
	    soft_create(&options, &w.machine) ||
	    mm_create(&w.machine->engine, PAGE_SIZE, 1ULL << 47, &w.mm) ||
	    do_mmap(w.mm, REGION, (u64)PAGES << PAGE_SHIFT, RW,
		    UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | UAPI_MAP_FIXED, NULL,
		    0) != (s64)REGION) {
		fprintf(stderr, "pageout: no memory for the engine\n");
		exit(1);
	}
	soft_load_mm(&w.machine->cpus[0], w.mm);
	for (unsigned i = 0; i < n; i++) {
		struct record *r = &records[i];
		u64 minor = w.mm->minor, major = w.mm->major;

		r->result = engine_does(&w, &ops[i]);
		if (is_touch(&ops[i]) && r->result != REFUSED) {
			r->minor = (long)(w.mm->minor - minor);
			r->major = (long)(w.mm->major - major);
		}
		do_mincore(w.mm, REGION, (u64)PAGES << PAGE_SHIFT, r->there);
	}
	soft_load_mm(&w.machine->cpus[0], NULL);
	mm_destroy(w.mm);
	soft_destroy(w.machine);
	memory_store_destroy(options.store);
}

/* ---- comparing ---- */

static struct record *kernel_records; /* shared with the process that writes them */

/*
 * What a child has touched is brought into the swap cache, where its parent's entry finds it; how
 * long it stays there when the child is gone is nobody's promise.  Until the parent touches it or
 * lets it go, whether it is there is not compared, nor whether that touch is a minor fault or a
 * major one.
 */
static bool same(const struct op *op, struct record *a, struct record *b, bool *unsure)
{
	if (op->what == CHILD_READS || op->what == CHILD_WRITES)
		unsure[op->page] = true;
	if (is_touch(op) && unsure[op->page] && a->minor + a->major == b->minor + b->major)
		a->minor = b->minor = a->major = b->major = 0;
	if (is_touch(op) && a->result != REFUSED)
		unsure[op->page] = false;
	for (unsigned i = 0; op->what == DONTNEED && i < op->n; i++)
		unsure[op->page + i] = false;
	for (unsigned i = 0; i < PAGES; i++) {
		a->there[i] &= 1;
		b->there[i] &= 1;
		if (unsure[i])
			a->there[i] = b->there[i] = 0;
	}
	return !memcmp(a, b, sizeof(*a));
}

/* The first operation of which something else came, or n. */
static unsigned compare(const struct op *ops, unsigned n, struct record *mine)
{
	bool unsure[PAGES] = { false };
	int status;
	pid_t pid;

	memset(kernel_records, 0, MOST_OPS * sizeof(*kernel_records));
	memset(mine, 0, MOST_OPS * sizeof(*mine));
	pid = fork();
	if (!pid)
		kernel_process(ops, n, kernel_records);
	while (waitpid(pid, &status, 0) < 0)
		;
	if (status) {
		fprintf(stderr, "pageout: the kernel's process ended with status %x\n", status);
		exit(1);
	}
	engine_run(ops, n, mine);
	for (unsigned i = 0; i < n; i++)
		if (!same(&ops[i], &mine[i], &kernel_records[i], unsure))
			return i;
	return n;
}

static void print_record(const char *side, const struct record *r)
{
	printf("    %s: %ld, %ld minor, %ld major, there ", side, r->result, r->minor, r->major);
	for (unsigned i = 0; i < PAGES; i++)
		putchar(r->there[i] & 1 ? '1' : '0');
	putchar('\n');
}

static void shrink_and_print(struct op *ops, unsigned n, struct record *mine)
{
	for (unsigned i = 0; i < n;) {
		struct op shorter[MOST_OPS];
		unsigned at;

		memcpy(shorter, ops, i * sizeof(*ops));
		memcpy(shorter + i, ops + i + 1, (n - i - 1) * sizeof(*ops));
		at = n > 1 ? compare(shorter, n - 1, mine) : 0;
		if (n > 1 && at < n - 1) {
			n = at + 1;
			memcpy(ops, shorter, n * sizeof(*ops));
			i = 0;
		} else {
			i++;
		}
	}
	n = min_of(compare(ops, n, mine) + 1, n);
	for (unsigned i = 0; i < n; i++)
		printf("  %s %u %u\n", names[ops[i].what], ops[i].page, ops[i].n);
	print_record("kernel", &kernel_records[n - 1]);
	print_record("engine", &mine[n - 1]);
}

static int compare_all(uint64_t seed, unsigned operations)
{
	uint64_t rnd = seed * 0x9e3779b97f4a7c15ULL | 1;
	static struct record mine[MOST_OPS];
	unsigned long out = 0, major = 0;
	struct op ops[MOST_OPS];

	for (unsigned done = 0; done < operations; done += MOST_OPS) {
		for (unsigned i = 0; i < MOST_OPS; i++)
			ops[i] = random_op(&rnd);
		if (compare(ops, MOST_OPS, mine) < MOST_OPS) {
			printf("pageout: seed %lu: kernel and engine differ:\n",
			       (unsigned long)seed);
			shrink_and_print(ops, MOST_OPS, mine);
			return 1;
		}
		for (unsigned i = 0; i < MOST_OPS; i++) {
			out += ops[i].what == PAGEOUT;
			major += (unsigned long)mine[i].major;
		}
	}
	printf("pageout: seed %lu: %u operations, %lu of them MADV_PAGEOUT, %lu major faults: all "
	       "the "
	       "same\n",
	       (unsigned long)seed, operations, out, major);
	return out && major ? 0 : 1;
}

/* ---- a swap area of our own ---- */

/* So that a page comes back alone: the setting as it was, to be restored. */
#define PAGE_CLUSTER "/proc/sys/vm/page-cluster"
static char page_cluster[16];

static int zram = -1; /* its number */
static bool swapping;
static char node[32];

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void take_down(void)
{
	char path[64], number[16];

	if (swapping && swapoff(node))
		perror("pageout: swapoff");
	swapping = false;
	if (*page_cluster && !write_text(PAGE_CLUSTER, page_cluster))
		fprintf(stderr, "pageout: vm.page-cluster was %s\n", page_cluster);
	if (zram < 0)
		return;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", zram);
	snprintf(number, sizeof(number), "%d", zram);
	if (!write_text(path, "1") || !write_text("/sys/class/zram-control/hot_remove", number))
		fprintf(stderr, "pageout: zram%d is left behind\n", zram);
	zram = -1;
}

static bool make_swap_header(void)
{
	static struct {
		char boot[1024];
		uint32_t version, last_page, nr_bad;
		char rest[4096 - 1024 - 12 - 10];
		char magic[10];
	} __attribute__((packed))
	header = { .version = 1, .last_page = 4095, .magic = "SWAPSPACE2" };
	int fd = open(node, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, &header, sizeof(header)) == (ssize_t)sizeof(header) &&
		  !fsync(fd);

	if (fd >= 0)
		close(fd);
	return ok;
}

static bool read_alone(void)
{
	int fd = open(PAGE_CLUSTER, O_RDONLY | O_CLOEXEC);
	bool ok = fd >= 0 && read(fd, page_cluster, sizeof(page_cluster) - 1) > 0;

	if (fd >= 0)
		close(fd);
	return ok && write_text(PAGE_CLUSTER, "0");
}

static bool swap_is_on(void)
{
	char line[256];
	unsigned lines = 0;
	FILE *f = fopen("/proc/swaps", "re");

	while (f && fgets(line, sizeof(line), f))
		lines++;
	if (f)
		fclose(f);
	return lines > 1;
}

/* NULL, or why there is none. */
static const char *set_up(void)
{
	char path[64], number[16] = "";
	int fd;

	if (geteuid())
		return "not root";
	if (swap_is_on())
		return "somebody else's swap is on";
	fd = open("/sys/class/zram-control/hot_add", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, number, sizeof(number) - 1) <= 0)
		return "the kernel has no zram";
	close(fd);
	zram = atoi(number);
	snprintf(node, sizeof(node), "/dev/zram%d", zram);
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", zram);
	if (!write_text(path, "16M") || !make_swap_header())
		return "the zram device cannot be set up";
	if (!read_alone())
		return "vm.page-cluster cannot be set";
	if (swapon(node, 0))
		return "swapon refuses the zram device";
	swapping = true;
	return NULL;
}

static pid_t worker;

/* The comparing ends, and with that we take down what was set up. */
static void on_end(int sig)
{
	(void)sig;
	if (worker > 0)
		kill(worker, SIGKILL);
}

static int run(uint64_t seed, unsigned operations)
{
	int status = 1;

	fflush(stdout);
	worker = fork();
	if (!worker) {
		int failed;

		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		failed = compare_all(seed, operations);
		fflush(stdout);
		_exit(failed);
	}
	while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "operations", required_argument, NULL, 'o' },
						 { "seed", required_argument, NULL, 's' },
						 { 0 } };
	uint64_t seed = (uint64_t)time(NULL);
	unsigned operations = 4000;
	const char *why;
	int c, result;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			operations = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	kernel_records = mmap(NULL, MOST_OPS * sizeof(*kernel_records), RW,
			      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (kernel_records == MAP_FAILED)
		return 1;
	signal(SIGINT, on_end);
	signal(SIGTERM, on_end);
	why = set_up();
	result = why ? SKIPPED : run(seed, operations);
	take_down();
	if (why)
		printf("pageout: skipped: %s\n", why);
	return result;
}
