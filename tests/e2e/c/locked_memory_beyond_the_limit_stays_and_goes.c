/* SPDX-License-Identifier: MIT */
/* Rule: a program may lock more than its limit: that stays, the rest comes and goes; what is
 * unlocked goes again. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part);

	fill(p, part, 1);
	press(size / 4);
	if (mlock(p, part) < 0)
		skip("not allowed to lock so much");
	for (int i = 0; i < 3; i++)
		press(size / 2);
	EXPECT(resident(p, part) == part / PAGE);
	verify(p, part, 1);
	EXPECT(munlock(p, part) == 0);
	/* Nobody tells that it is unlocked; it is found out as time goes by. */
	for (int i = 0; i < 200 && resident(p, part) > part / PAGE / 2; i++) {
		press(size / 2);
		usleep(20000);
	}
	/* Bare, it stays. */
	if (getenv("VMFAULT_OPTIONS"))
		EXPECT(resident(p, part) <= part / PAGE / 2);
	verify(p, part, 1);
	return passed();
}
