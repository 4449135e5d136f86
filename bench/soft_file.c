/* SPDX-License-Identifier: MIT */
/*
 * Reading pages of a file that are in the page cache, through a new mapping: 64 MiB in order, with
 * fault-around on both sides.  The kernel's file is one of tmpfs in small pages.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bench/soft_bench.h"
#include "engine/backing/ramfile.h"
#include "engine/space/calls.h"

static struct soft_machine *machine;
static struct mm *mm;
static struct file *file;
static int fd = -1;

static void make_kernel_file(void)
{
	char page[PAGE_SIZE];

	memset(page, 1, sizeof(page));
	fd = memfd_create("soft_file", 0);
	if (fd < 0)
		give_up("memfd_create");
	for (u64 i = 0; i < PAGES(64); i++)
		if (write(fd, page, sizeof(page)) != sizeof(page))
			give_up("write");
}

static double kernel(u64 flags)
{
	double start, ns;
	char *at;

	if (fd < 0)
		make_kernel_file();
	at = mmap(NULL, MIB(64), PROT_READ, (int)flags, fd, 0);
	if (at == MAP_FAILED)
		give_up("mmap");
	start = thread_ns();
	for (u64 i = 0; i < PAGES(64); i++)
		(void)((volatile char *)at)[i * PAGE_SIZE];
	ns = thread_ns() - start;
	munmap(at, MIB(64));
	return ns / PAGES(64);
}

static double ours(u64 flags)
{
	s64 at = do_mmap(mm, 0, MIB(64), UAPI_PROT_READ, flags, file, 0);
	double start, ns;
	u8 byte;

	if (at < 0)
		give_up("our mmap");
	start = thread_ns();
	for (u64 i = 0; i < PAGES(64); i++)
		if (soft_read_byte(&machine->cpus[0], (u64)at + i * PAGE_SIZE, &byte) || byte != 1)
			give_up("a read");
	ns = thread_ns() - start;
	vm_unmap(mm, (u64)at, MIB(64));
	return ns / PAGES(64);
}

static void start(void)
{
	char page[PAGE_SIZE];

	machine = bench_machine(1, PAGES(96), 1);
	mm = bench_space(machine);
	file = ramfile_create(&machine->engine, FILE_READ | FILE_WRITE, PAGES(64));
	if (!file)
		give_up("our file");
	memset(page, 1, sizeof(page));
	for (u64 i = 0; i < PAGES(64); i++)
		if (file_write(file, i * PAGE_SIZE, page, PAGE_SIZE) != PAGE_SIZE)
			give_up("our write");
}

static const struct contest contests[] = {
	{ "pages of a file, shared", "ns a page", 1.0, kernel, ours, MAP_SHARED, NULL },
	{ "pages of a file, private", "ns a page", 1.0, kernel, ours, MAP_PRIVATE, NULL },
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), start, argc, argv);
}
