/* SPDX-License-Identifier: MIT */
/* Rule: read(), pread() and readv() into evicted memory bring all the bytes. */
#include "check.h"
#include <sys/uio.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size), half = part / 2;
	char *buffer = map(part);
	struct iovec vec[2] = { { buffer, half }, { buffer + half, half } };
	int fd = nameless_file();

	fill(buffer, part, 1);
	EXPECT(write(fd, buffer, part) == (ssize_t)part);

	fill(buffer, part, 2);
	press(size - part);
	EXPECT(pread(fd, buffer, part, 0) == (ssize_t)part);
	verify(buffer, part, 1);

	fill(buffer, part, 2);
	press(size - part);
	EXPECT(lseek(fd, 0, SEEK_SET) == 0);
	EXPECT(read(fd, buffer, part) == (ssize_t)part);
	press(size - part);
	verify(buffer, part, 1);

	fill(buffer, part, 2);
	press(size - part);
	EXPECT(preadv(fd, vec, 2, 0) == (ssize_t)part);
	verify(buffer, part, 1);
	return passed();
}
