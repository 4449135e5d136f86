/* SPDX-License-Identifier: MIT */
/* Rule: process_vm_readv and process_vm_writev reach evicted memory, from the process itself and
 * from its child. */
#include "check.h"
#include <sys/prctl.h>
#include <sys/uio.h>

static void copy(pid_t pid, char *here, char *there, size_t bytes, int to_there)
{
	for (size_t at = 0; at < bytes; at += 64 * PAGE) {
		size_t n = bytes - at < 64 * PAGE ? bytes - at : 64 * PAGE;
		struct iovec local = { here + at, n }, remote = { there + at, n };
		ssize_t done = to_there ? process_vm_writev(pid, &local, 1, &remote, 1, 0)
					: process_vm_readv(pid, &local, 1, &remote, 1, 0);

		if (done < 0 && errno == EPERM)
			exit(77);
		EXPECT(done == (ssize_t)n);
	}
}

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = part_of(size);
	char *buffer = map(part), *copied = map(part);
	pid_t child, self = getpid();
	int status;

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	fill(buffer, part, 1);
	press(size - part);
	copy(self, copied, buffer, part, 0);
	verify(copied, part, 1);

	press(size - part);
	child = fork();
	if (!child) {
		char *mine = map(part);

		copy(self, mine, buffer, part, 0);
		verify(mine, part, 1);
		fill(mine, part, 3);
		copy(self, mine, copied, part, 1);
		_exit(0);
	}
	EXPECT(waitpid(child, &status, 0) == child && WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip("no permission to read another process");
	EXPECT(WEXITSTATUS(status) == 0);
	verify(copied, part, 3);
	verify(buffer, part, 1);
	return passed();
}
