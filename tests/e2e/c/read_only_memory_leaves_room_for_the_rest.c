/* SPDX-License-Identifier: MIT */
/* Rule: memory that cannot be taken, as much as the limit, does not stand in the way of what can:
 * the program goes on, a little above its limit, and in no more time than paging takes. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), kept = size / 4;
	char *stays = map(kept), *p = map(size);

	for (size_t at = 0; at < kept; at += MIB) {
		fill(stays + at, MIB, 1 + at);
		EXPECT(mprotect(stays + at, MIB, PROT_READ) == 0);
	}
	for (int round = 0; round < 3; round++) {
		fill(p, size, round);
		verify(p, size, round);
	}
	for (size_t at = 0; at < kept; at += MIB)
		verify(stays + at, MIB, 1 + at);
	/* Writable again, it can be taken again. */
	EXPECT(mprotect(stays, kept, PROT_READ | PROT_WRITE) == 0);
	fill(p, size, 7);
	verify(p, size, 7);
	for (size_t at = 0; at < kept; at += MIB)
		verify(stays + at, MIB, 1 + at);
	return passed();
}
