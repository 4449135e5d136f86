/* SPDX-License-Identifier: MIT */
/*
 * Anonymous memory: the first touch of each page, by a write and by a read, and unmapping it.
 * All of 64 MiB, in order of address, one fault a page unless the contest says otherwise.
 */
#include <sys/mman.h>

#include "bench/soft_bench.h"
#include "engine/space/calls.h"

enum touch { WRITE, READ };

static struct soft_machine *one_by_one, *ahead;
static struct mm *mm, *mm_ahead;

static void touch_kernel(char *at, enum touch how)
{
	for (u64 i = 0; i < PAGES(64); i++) {
		volatile char *p = at + i * PAGE_SIZE;

		if (how == WRITE)
			*p = 1;
		else
			(void)*p;
	}
}

static void touch_ours(struct soft_cpu *cpu, u64 at, enum touch how)
{
	for (u64 i = 0; i < PAGES(64); i++) {
		u64 va = at + i * PAGE_SIZE;
		enum fault_reason reason;
		u8 byte;

		reason =
			how == WRITE ? soft_write_byte(cpu, va, 1) : soft_read_byte(cpu, va, &byte);
		if (reason != FAULT_OK)
			give_up("an access");
	}
}

static u64 map_ours(struct mm *space)
{
	s64 at = do_mmap(space, 0, MIB(64), UAPI_PROT_READ | UAPI_PROT_WRITE,
			 UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS, NULL, 0);

	if (at < 0)
		give_up("mmap");
	return (u64)at;
}

/* ---- faults ---- */

static double fault_kernel(u64 how)
{
	char *at = map_small_pages(MIB(64));
	double start = thread_ns(), ns;

	touch_kernel(at, how);
	ns = thread_ns() - start;
	munmap(at, MIB(64));
	return ns / PAGES(64);
}

static double fault_on(struct soft_machine *m, struct mm *space, enum touch how)
{
	u64 at = map_ours(space);
	double start = thread_ns(), ns;

	touch_ours(&m->cpus[0], at, how);
	ns = thread_ns() - start;
	vm_unmap(space, at, MIB(64));
	return ns / PAGES(64);
}

static double fault_ours(u64 how)
{
	return fault_on(one_by_one, mm, how);
}

static double fault_ours_ahead(u64 how)
{
	return fault_on(ahead, mm_ahead, how);
}

/* ---- munmap ---- */

static double unmap_kernel(u64 arg)
{
	char *at = map_small_pages(MIB(64));
	double start;

	(void)arg;
	touch_kernel(at, WRITE);
	start = thread_ns();
	munmap(at, MIB(64));
	return (thread_ns() - start) / 1e3;
}

static double unmap_ours(u64 arg)
{
	u64 at = map_ours(mm);
	double start;

	(void)arg;
	touch_ours(&one_by_one->cpus[0], at, WRITE);
	start = thread_ns();
	vm_unmap(mm, at, MIB(64));
	return (thread_ns() - start) / 1e3;
}

static void start(void)
{
	one_by_one = bench_machine(1, PAGES(96), 1);
	mm = bench_space(one_by_one);
	ahead = bench_machine(1, PAGES(96), 32);
	mm_ahead = bench_space(ahead);
}

static const struct contest contests[] = {
	{ "anonymous fault, write", "ns a page", 1.0, fault_kernel, fault_ours, WRITE, NULL },
	{ "anonymous fault, read", "ns a page", 1.0, fault_kernel, fault_ours, READ, NULL },
	{ "anonymous memory, written in order, with prefetch", "ns a page", 1.0, fault_kernel,
	  fault_ours_ahead, WRITE, NULL },
	{ "munmap of 64 MiB touched", "us", 1.0, unmap_kernel, unmap_ours, 0, NULL },
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), start, argc, argv);
}
