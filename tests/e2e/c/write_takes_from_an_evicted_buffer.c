/* SPDX-License-Identifier: MIT */
/* Rule: write(), pwrite() and writev() from evicted memory write all the bytes. */
#include "check.h"
#include <sys/uio.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size), half = part / 2;
	char *buffer = map(part), *seen;
	struct iovec vec[2] = { { buffer, half }, { buffer + half, half } };
	int fd = nameless_file();

	fill(buffer, part, 1);
	EXPECT(ftruncate(fd, 3 * part) == 0);
	press(size - part);
	EXPECT(write(fd, buffer, part) == (ssize_t)part);
	press(size - part);
	EXPECT(pwrite(fd, buffer, part, part) == (ssize_t)part);
	press(size - part);
	EXPECT(pwritev(fd, vec, 2, 2 * part) == (ssize_t)part);

	seen = mmap(NULL, 3 * part, PROT_READ, MAP_SHARED, fd, 0);
	EXPECT(seen != MAP_FAILED);
	for (int i = 0; i < 3; i++)
		verify(seen + i * part, part, 1);
	return passed();
}
