/* SPDX-License-Identifier: MIT */
/* fork() with 64 MiB touched, and the copies that the parent's writes make while the child lives.
 */
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/soft_bench.h"
#include "engine/space/calls.h"

static struct soft_machine *machine;
static struct mm *mm;
static u64 area_ours;
static char *area_kernel;

/* What is timed. */
enum part { FORK, COPIES };

static void write_kernel(void)
{
	for (u64 i = 0; i < PAGES(64); i++)
		((volatile char *)area_kernel)[i * PAGE_SIZE] = 1;
}

static void write_ours(void)
{
	for (u64 i = 0; i < PAGES(64); i++)
		if (soft_write_byte(&machine->cpus[0], area_ours + i * PAGE_SIZE, 1) != FAULT_OK)
			give_up("a write");
}

static double kernel(u64 part)
{
	double start, forked, copied;
	pid_t child;

	if (!area_kernel)
		area_kernel = map_small_pages(MIB(64));
	write_kernel();
	start = thread_ns();
	child = fork();
	if (!child)
		for (;;)
			pause();
	if (child < 0)
		give_up("fork");
	forked = thread_ns();
	if (part == COPIES)
		write_kernel();
	copied = thread_ns();
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return part == FORK ? (forked - start) / 1e3 : (copied - forked) / PAGES(64);
}

static double ours(u64 part)
{
	double start, forked, copied;
	struct mm *child;

	write_ours();
	start = thread_ns();
	if (mm_fork(mm, &child))
		give_up("our fork");
	forked = thread_ns();
	if (part == COPIES)
		write_ours();
	copied = thread_ns();
	mm_destroy(child);
	return part == FORK ? (forked - start) / 1e3 : (copied - forked) / PAGES(64);
}

static void start(void)
{
	s64 at;

	machine = bench_machine(1, PAGES(160), 1);
	mm = bench_space(machine);
	at = do_mmap(mm, 0, MIB(64), UAPI_PROT_READ | UAPI_PROT_WRITE,
		     UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS, NULL, 0);
	if (at < 0)
		give_up("our mmap");
	area_ours = (u64)at;
}

static const struct contest contests[] = {
	{ "fork of 64 MiB touched", "us", 1.0, kernel, ours, FORK, NULL },
	{ "copy-on-write fault after it", "ns a page", 1.0, kernel, ours, COPIES, NULL },
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), start, argc, argv);
}
