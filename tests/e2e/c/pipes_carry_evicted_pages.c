/* SPDX-License-Identifier: MIT */
/* Rule: a pipe between threads carries evicted memory into evicted memory; so does vmsplice(). */
#include "check.h"
#include <sys/uio.h>

static int ends[2];
static char *from, *to;
static size_t part;

static void *send_all(void *unused)
{
	for (size_t at = 0; at < part;) {
		ssize_t n = write(ends[1], from + at, part - at);

		EXPECT(n > 0);
		at += n;
	}
	return unused;
}

static void *splice_all(void *unused)
{
	for (size_t at = 0; at < part;) {
		struct iovec vec = { from + at, part - at };
		ssize_t n = vmsplice(ends[1], &vec, 1, 0);

		EXPECT(n > 0);
		at += n;
	}
	return unused;
}

static void receive_all(void)
{
	for (size_t at = 0; at < part;) {
		ssize_t n = read(ends[0], to + at, part - at);

		EXPECT(n > 0);
		at += n;
	}
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv);
	void *(*ways[])(void *) = { send_all, splice_all };

	part = part_of(size);
	from = map(part);
	to = map(part);
	EXPECT(pipe(ends) == 0);
	fill(from, part, 1);
	for (int i = 0; i < 2; i++) {
		pthread_t thread;

		fill(to, part, 2);
		press(size - 2 * part);
		EXPECT(pthread_create(&thread, NULL, ways[i], NULL) == 0);
		receive_all();
		EXPECT(pthread_join(thread, NULL) == 0);
		verify(to, part, 1);
		verify(from, part, 1);
	}
	return passed();
}
