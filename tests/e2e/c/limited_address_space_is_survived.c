/* SPDX-License-Identifier: MIT */
/* Rule: a program that limits its address space to what it has still has all its memory, and gets
 * ENOMEM for more. */
#include "check.h"
#include <sys/resource.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	struct rlimit limit = { 0, 0 };
	char *p = map(part);
	long pages;
	FILE *file;

	fill(p, part, 1);
	press(part);
	file = fopen("/proc/self/statm", "r");
	EXPECT(file && fscanf(file, "%ld", &pages) == 1);
	fclose(file);
	limit.rlim_cur = limit.rlim_max = pages * PAGE + MIB;
	EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
	verify(p, part, 1);
	fill(p, part, 2);
	press(part);
	verify(p, part, 2);
	EXPECT(mmap(NULL, 256 * MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
	EXPECT(errno == ENOMEM);
	verify(p, part, 2);
	return passed();
}
