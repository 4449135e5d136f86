/* SPDX-License-Identifier: MIT */
/*
 * The keeper is a process that no signal of a terminal reaches.  It makes what the world needs, and
 * waits for the end of all who use it: each has the writing end of a pipe open, and has it closed
 * by dying, however it dies.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/differential/worlds/keeper.h"

/* What of the kernel's state a world may change. */
static const char *const state_files[] = {
	"/proc/swaps",
	"/proc/sys/vm/page-cluster",
	"/proc/sys/vm/nr_hugepages",
	"/proc/sys/vm/nr_overcommit_hugepages",
	"/sys/kernel/mm/transparent_hugepage/enabled",
};
enum { STATE_FILES = sizeof(state_files) / sizeof(*state_files), STATE_SIZE = 512 };

static char before[STATE_FILES][STATE_SIZE];

static void read_state(char (*state)[STATE_SIZE])
{
	for (unsigned i = 0; i < STATE_FILES; i++) {
		int fd = open(state_files[i], O_RDONLY | O_CLOEXEC);

		memset(state[i], 0, STATE_SIZE);
		if (fd < 0)
			continue;
		if (read(fd, state[i], STATE_SIZE - 1) < 0)
			state[i][0] = 0;
		close(fd);
	}
}

static bool is_as_it_was(void)
{
	static char now[STATE_FILES][STATE_SIZE];

	read_state(now);
	return !memcmp(now, before, sizeof(before));
}

static _Noreturn void keep(const struct oracle_world *world, int held, int report)
{
	char why[KEEPER_WHY] = "", none;
	const char *missing;
	bool ok = true;

	read_state(before);
	missing = world->set_up();
	snprintf(why, sizeof(why), "%s", missing ?: "");
	if (missing && world->take_down)
		ok = world->take_down();
	if (write(report, why, sizeof(why)) != sizeof(why) && !missing)
		_exit(!(world->take_down() && is_as_it_was()));
	while (read(held, &none, 1) > 0 || errno == EINTR)
		;
	if (!missing)
		ok = world->take_down();
	_exit(!(ok && is_as_it_was()));
}

#define LOCK_FILE "/run/vmfault-oracle.lock" /* where root alone makes files */

/* One at a time: two would each see what the other has made. */
static bool lock_system(void)
{
	static int lock = -1;

	if (lock < 0)
		lock = open(LOCK_FILE, O_CREAT | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	return lock >= 0 && !flock(lock, LOCK_EX);
}

bool keeper_start(struct keeper *k, const struct oracle_world *world, char *why)
{
	int held[2], report[2];
	sigset_t all;

	*k = (struct keeper){ .hold = -1 };
	if (!world->set_up)
		return true;
	if (!lock_system()) {
		snprintf(why, KEEPER_WHY, "%s cannot be locked, as root can: %s", LOCK_FILE,
			 strerror(errno));
		return false;
	}
	snprintf(why, KEEPER_WHY, "a pipe or a process cannot be had");
	if (pipe2(held, O_CLOEXEC) || pipe2(report, O_CLOEXEC))
		return false;
	fflush(NULL);
	k->pid = fork();
	if (!k->pid) {
		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		close(held[1]);
		close(report[0]);
		keep(world, held[0], report[1]);
	}
	close(held[0]);
	close(report[1]);
	k->hold = held[1];
	if (k->pid > 0 && read(report[0], why, KEEPER_WHY) == KEEPER_WHY && !*why) {
		close(report[0]);
		return true;
	}
	close(report[0]);
	if (!keeper_end(k))
		snprintf(why, KEEPER_WHY, "what the world needs was not given back");
	return false;
}

bool keeper_end(struct keeper *k)
{
	pid_t pid = k->pid;
	int status = 0;

	if (k->hold >= 0)
		close(k->hold);
	*k = (struct keeper){ .hold = -1 };
	if (pid <= 0)
		return true;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status);
}
