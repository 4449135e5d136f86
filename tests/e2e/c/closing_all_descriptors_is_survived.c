/* SPDX-License-Identifier: MIT */
/* Rule: a program that closes every descriptor but its first three keeps all its memory. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part);

	fill(p, part, 1);
	press(part);
	EXPECT(syscall(SYS_close_range, 3, ~0U, 0) == 0);
	verify(p, part, 1);
	fill(p, part, 2);
	press(part);
	for (int fd = 3; fd < 4096; fd++)
		close(fd);
	verify(p, part, 2);
	press(part);
	close_range(3, ~0U, 0);
	closefrom(3);
	press(part);
	verify(p, part, 2);
	/* New descriptors are the lowest again, as a program may count on. */
	EXPECT(open("/dev/null", O_RDONLY) == 3);
	return passed();
}
