/* SPDX-License-Identifier: MIT */
/* Rule: the kernel reads iovecs, poll sets, time values and names from evicted memory, too. */
#include "check.h"
#include <poll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

struct arguments {
	struct iovec vec[256] __attribute__((aligned(4096)));
	struct pollfd polls[64] __attribute__((aligned(4096)));
	struct timespec nap __attribute__((aligned(4096)));
	char name[PAGE] __attribute__((aligned(4096)));
	char directory[PAGE] __attribute__((aligned(4096)));
	char link[PAGE] __attribute__((aligned(4096)));
	struct stat stat __attribute__((aligned(4096)));
};

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = 256 * PAGE;
	struct arguments *a = map(sizeof(*a));
	char *buffer = map(part), bare[PAGE];
	int fd = nameless_file(), ends[2];
	struct stat stat_bare;

	fill(buffer, part, 1);
	for (int i = 0; i < 256; i++)
		a->vec[i] = (struct iovec){ buffer + i * PAGE, PAGE };
	press(size - part);
	EXPECT(writev(fd, a->vec, 256) == (ssize_t)part);
	fill(buffer, part, 2);
	press(size - part);
	EXPECT(preadv(fd, a->vec, 256, 0) == (ssize_t)part);
	verify(buffer, part, 1);

	EXPECT(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
	for (int i = 0; i < 64; i++)
		a->polls[i] = (struct pollfd){ .fd = ends[0], .events = POLLIN };
	press(size - part);
	EXPECT(poll(a->polls, 64, 1000) == 64);
	for (int i = 0; i < 64; i++)
		EXPECT(a->polls[i].revents == POLLIN);

	a->nap = (struct timespec){ 0, 1000 };
	press(size - part);
	EXPECT(nanosleep(&a->nap, &a->nap) == 0);

	strcpy(a->name, "/proc/self/exe");
	memset(a->link, 'x', PAGE);
	memset(a->directory, 'x', PAGE);
	EXPECT(stat("/proc/self/exe", &stat_bare) == 0);
	press(size - part);
	EXPECT(stat(a->name, &a->stat) == 0);
	EXPECT(a->stat.st_ino == stat_bare.st_ino);
	EXPECT(readlink(a->name, a->link, PAGE) > 0);
	EXPECT(a->link[0] == '/');
	press(size - part);
	EXPECT(getcwd(bare, PAGE) && getcwd(a->directory, PAGE));
	EXPECT(!strcmp(bare, a->directory));
	press(size - part);
	EXPECT(open(a->name, O_RDONLY) >= 0);
	return passed();
}
