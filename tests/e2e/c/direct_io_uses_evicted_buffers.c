/* SPDX-License-Identifier: MIT */
/* Rule: O_DIRECT reads into and writes from evicted memory are right, also while pressure goes on.
 */
#include "check.h"

static _Atomic int stop;
static size_t rest;

static void *pressing(void *unused)
{
	while (!stop)
		press(rest);
	return unused;
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *from = map(part), *to = map(part), name[] = "/tmp/vmfault-direct-XXXXXX";
	pthread_t thread;
	int fd = mkstemp(name), direct;

	EXPECT(fd >= 0);
	direct = open(name, O_RDWR | O_DIRECT);
	unlink(name);
	if (direct < 0)
		skip("no O_DIRECT in /tmp");
	fill(from, part, 1);
	fill(to, part, 2);
	rest = size - 2 * part;
	press(rest);
	EXPECT(pthread_create(&thread, NULL, pressing, NULL) == 0);
	for (int round = 0; round < 3; round++) {
		for (size_t at = 0; at < part; at += 16 * PAGE)
			EXPECT(pwrite(direct, from + at, 16 * PAGE, at) == 16 * PAGE);
		for (size_t at = 0; at < part; at += 16 * PAGE)
			EXPECT(pread(direct, to + at, 16 * PAGE, at) == 16 * PAGE);
		verify(to, part, 1 + round);
		fill(from, part, 2 + round);
	}
	stop = 1;
	EXPECT(pthread_join(thread, NULL) == 0);
	return passed();
}
