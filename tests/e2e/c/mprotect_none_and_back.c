/* SPDX-License-Identifier: MIT */
/* Rule: evicted memory that becomes PROT_NONE faults with SEGV_ACCERR at the address, and is as it
 * was when it is back. */
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

static void expect_access_error(volatile char *p, int write)
{
	where = NULL;
	if (!sigsetjmp(back, 1)) {
		if (write)
			*p = 1;
		else
			(void)*p;
		EXPECT(!"the access was allowed");
	}
	EXPECT(where == (void *)p && code == SEGV_ACCERR);
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	struct sigaction action = { .sa_sigaction = on_segv, .sa_flags = SA_SIGINFO };
	char *p = map(part);

	EXPECT(sigaction(SIGSEGV, &action, NULL) == 0);
	for (int round = 0; round < 3; round++) {
		fill(p, part, round);
		if (round)
			press(size - part);
		EXPECT(mprotect(p, part, PROT_NONE) == 0);
		if (round == 2)
			press(size - part);
		for (size_t at = 0; at < part; at += 16 * PAGE) {
			expect_access_error(p + at + 123, 0);
			expect_access_error(p + at + 123, 1);
		}
		EXPECT(mprotect(p, part, PROT_READ | PROT_WRITE) == 0);
		verify(p, part, round);
	}
	return passed();
}
