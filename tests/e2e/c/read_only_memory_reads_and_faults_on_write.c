/* SPDX-License-Identifier: MIT */
/* Rule: evicted memory made read-only reads right, a write faults with SEGV_ACCERR, and a system
 * call gets EFAULT. */
#include "check.h"
#include <setjmp.h>

static sigjmp_buf back;
static void *volatile where;
static volatile int code;

static void on_segv(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)context;
	where = info->si_addr;
	code = info->si_code;
	siglongjmp(back, 1);
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	char *p = map(part);
	int fd = open("/dev/zero", O_RDONLY);

	EXPECT(fd >= 0);
	EXPECT(sigaction(SIGSEGV, &action, NULL) == 0);
	for (int round = 0; round < 2; round++) {
		fill(p, part, 1);
		if (round)
			press(size - part);
		EXPECT(mprotect(p, part, PROT_READ) == 0);
		for (size_t at = 0; at < part; at += 32 * PAGE) {
			where = NULL;
			if (!sigsetjmp(back, 1)) {
				*(volatile char *)(p + at + 77) = 1;
				EXPECT(!"the write was allowed");
			}
			EXPECT(where == p + at + 77 && code == SEGV_ACCERR);
			EXPECT(read(fd, p + at, PAGE) == -1 && errno == EFAULT);
		}
		press(size - part);
		verify(p, part, 1);
		EXPECT(mprotect(p, part, PROT_READ | PROT_WRITE) == 0);
		fill(p, part, 2);
		press(size - part);
		verify(p, part, 2);
	}
	return passed();
}
