/* SPDX-License-Identifier: MIT */
/* Rule: a program that limits its address space to a few times what it needs goes on as before,
 * reads the limit back, and gets ENOMEM beyond it; what it executes works under it, too. */
#include "check.h"
#include <sys/resource.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	struct rlimit limit = { size + 512 * MIB, size + 512 * MIB }, got;
	char *p = map(size / 2);

	fill(p, size / 2, 1);
	EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
	EXPECT(getrlimit(RLIMIT_AS, &got) == 0);
	EXPECT(got.rlim_cur == limit.rlim_cur && got.rlim_max == limit.rlim_max);
	EXPECT(prlimit(0, RLIMIT_AS, NULL, &got) == 0 && got.rlim_cur == limit.rlim_cur);
	verify(p, size / 2, 1);
	fill(map(size / 2), size / 2, 2);
	verify(p, size / 2, 1);
	EXPECT(mmap(NULL, limit.rlim_cur, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	       MAP_FAILED);
	EXPECT(errno == ENOMEM);
	EXPECT(system("exit 7") >> 8 == 7);
	verify(p, size / 2, 1);
	return passed();
}
