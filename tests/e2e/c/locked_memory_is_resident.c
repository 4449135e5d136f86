/* SPDX-License-Identifier: MIT */
/* Rule: mlock brings evicted memory in and keeps it resident; after munlock it is ordinary again.
 */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = 4 * MIB;
	char *p = map(part);

	fill(p, part, 1);
	press(size - part);
	if (mlock(p, part) < 0)
		skip("not allowed to lock 4 MiB");
	EXPECT(resident(p, part) == part / PAGE);
	press(size - part);
	EXPECT(resident(p, part) == part / PAGE);
	verify(p, part, 1);
	EXPECT(munlock(p, part) == 0);
	press(size - part);
	verify(p, part, 1);
	return passed();
}
