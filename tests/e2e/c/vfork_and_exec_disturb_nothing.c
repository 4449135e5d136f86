/* SPDX-License-Identifier: MIT */
/* Rule: vfork with exec, posix_spawn and system() from a process with evicted memory run, and
 * memory is as it was. */
#include "check.h"
#include <spawn.h>

extern char **environ;

int main(int argc, char **argv)
{
	size_t size = size_from(argc, argv), part = size / 2;
	char *p = map(part), **arguments = map(PAGE);
	int status;

	arguments[0] = strcpy((char *)(arguments + 8), "/bin/true");
	fill(p, part, 1);
	for (int i = 0; i < 20; i++) {
		volatile pid_t child;

		if (i % 5 == 0)
			press(part);
		child = vfork();
		if (!child) {
			execv(arguments[0], arguments);
			_exit(9);
		}
		wait_for_success(child);
		EXPECT(posix_spawn((pid_t *)&child, "/bin/true", NULL, NULL, arguments, environ) ==
		       0);
		wait_for_success(child);
	}
	EXPECT(system("exit 3") != -1);
	status = system("exit 3");
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	/* One that cannot be executed: the parent hears of it and goes on. */
	EXPECT(posix_spawn(&(pid_t){ 0 }, "/nowhere", NULL, NULL, arguments, environ) == ENOENT);
	verify(p, part, 1);
	return passed();
}
