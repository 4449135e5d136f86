/* SPDX-License-Identifier: MIT */
/* Rule: a private mapping of a file keeps what was written to it, shows the file elsewhere, and the
 * file is untouched. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *buffer = map(part), *p;
	int fd = nameless_file();

	fill(buffer, part, 1);
	EXPECT(write(fd, buffer, part) == (ssize_t)part);
	p = mmap(NULL, part, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	EXPECT(p != MAP_FAILED);
	for (size_t i = 0; i < part / PAGE; i += 2)
		page_make(p + i * PAGE, 2, i);
	press(size - part);
	for (size_t i = 0; i < part / PAGE; i++)
		EXPECT(page_is(p + i * PAGE, i % 2 ? 1 : 2, i));
	fill(buffer, part, 9);
	EXPECT(pread(fd, buffer, part, 0) == (ssize_t)part);
	verify(buffer, part, 1);
	return passed();
}
