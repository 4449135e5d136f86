/* SPDX-License-Identifier: MIT */
/* Rule: MADV_DONTFORK memory is not in the child, MADV_WIPEONFORK memory is zero there; the parent
 * keeps both. */
#include "check.h"

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *dont = map(part), *wipe = map(part);
	pid_t child;

	fill(dont, part, 1);
	fill(wipe, part, 2);
	EXPECT(madvise(dont, part, MADV_DONTFORK) == 0);
	EXPECT(madvise(wipe, part, MADV_WIPEONFORK) == 0);
	press(size - 2 * part);
	child = fork();
	if (!child) {
		unsigned char there;

		EXPECT(mincore(dont, PAGE, &there) == -1 && errno == ENOMEM);
		EXPECT(is_zero(wipe, part));
		fill(wipe, part, 3);
		press(size - 2 * part);
		verify(wipe, part, 3);
		_exit(0);
	}
	wait_for_success(child);
	verify(dont, part, 1);
	verify(wipe, part, 2);
	return passed();
}
