/* SPDX-License-Identifier: MIT */
/* Rule: the same before any memory is used, as daemons do first thing, and by the bare system
 * calls. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	char *p;

	for (int fd = 3; fd < 1024; fd++)
		syscall(SYS_close, fd);
	syscall(SYS_close_range, 3, ~0U, 0);
	p = map(size);
	fill(p, size, 1);
	verify(p, size, 1);
	return passed();
}
