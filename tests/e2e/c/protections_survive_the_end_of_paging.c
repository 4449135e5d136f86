/* SPDX-License-Identifier: MIT */
/* Rule: a child that cannot be paged gets all its memory back, with the protection that it had. */
#include "check.h"
#include <setjmp.h>

static sigjmp_buf back;

static void on_segv(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

static int writable(volatile char *p)
{
	if (sigsetjmp(back, 1))
		return 0;
	*p = *p;
	return 1;
}

static int readable(volatile char *p)
{
	if (sigsetjmp(back, 1))
		return 0;
	(void)*p;
	return 1;
}

static void look(char *p, size_t part)
{
	char *only_read = p + part, *closed = p + 2 * part;

	verify(p, part, 1);
	EXPECT(writable(p));
	verify(only_read, part, 2);
	EXPECT(!writable(only_read) && !writable(only_read + part - PAGE));
	EXPECT(!readable(closed) && !readable(closed + part - PAGE));
	EXPECT(mprotect(closed, part, PROT_READ) == 0);
	verify(closed, part, 3);
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *p = map(3 * part);
	pid_t child;

	for (int i = 0; i < 3; i++)
		fill(p + i * part, part, i + 1);
	press(size / 2);
	EXPECT(mprotect(p + part, part, PROT_READ) == 0);
	EXPECT(mprotect(p + 2 * part, part, PROT_NONE) == 0);
	signal(SIGSEGV, on_segv);
	drop_root();
	child = fork();
	if (!child) {
		look(p, part);
		_exit(0);
	}
	wait_for_success(child);
	look(p, part);
	return passed();
}
