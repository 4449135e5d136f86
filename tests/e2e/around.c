/* SPDX-License-Identifier: MIT */
/* Goes around in memory that does not compress: around MIB ROUNDS [fork].  With `fork` a child
 * does the same.  Every word is looked at. */
#include "c/check.h"

static size_t words;

static void go_around(uint64_t *p, int rounds)
{
	for (int round = 0; round < rounds; round++)
		for (size_t i = 0; i < words; i += 512) {
			uint64_t word = (i + 1) * 0x9e3779b97f4a7c15;

			EXPECT(p[i] == (word ^ word >> 29));
		}
}

int main(int argc, char **argv)
{
	int rounds = atoi(argv[2]), status = 0;
	uint64_t *p;
	pid_t pid = 0;

	words = size_from(argc, argv) / 8;
	p = map(words * 8);
	for (size_t i = 0; i < words; i++) {
		uint64_t word = (i + 1) * 0x9e3779b97f4a7c15;

		p[i] = word ^ word >> 29;
	}
	if (argc > 3)
		EXPECT((pid = fork()) >= 0);
	go_around(p, rounds);
	if (argc > 3 && !pid)
		return 0;
	EXPECT(!pid || (waitpid(pid, &status, 0) == pid && !status));
	puts("ok");
	return 0;
}
