/* SPDX-License-Identifier: MIT */
/* Running the program: as if the command were not there. */
#ifndef VMF_TOOLS_SPAWN_H
#define VMF_TOOLS_SPAWN_H

#include <sys/types.h>

struct outcome {
	pid_t pid;
	int status; /* the program's exit status, or 128 + signal */
	int signal; /* that ended it, or 0 */
	double wall_seconds;
};

/*
 * Run `path` and wait for its end, passing signals on.
 * 0, or the exit status of the command, one line having been said: it did not run.
 */
int spawn_and_wait(const char *path, char **argv, char **environment, struct outcome *out);

#endif
