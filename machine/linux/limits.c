/* SPDX-License-Identifier: MIT */
/*
 * RLIMIT_AS: what the agent reserves is not the program's.
 *
 * The arena's reservation counts against a limit on address space, and a program that sets one of,
 * say, 4 GiB could map nothing any more.  So a limit below the size of the arena, which cannot have
 * been meant to include it, is set that much higher, and told that much lower.
 */
#undef _FILE_OFFSET_BITS /* would rename setrlimit() to setrlimit64(); both are wanted */
#include "engine/base/types.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/sys.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/types.h>

#define PUBLIC __attribute__((visibility("default")))

static rlim_t with_arena(rlim_t limit)
{
	return limit < ARENA_SIZE ? limit + ARENA_SIZE : limit;
}

static rlim_t without_arena(rlim_t limit)
{
	return limit >= ARENA_SIZE && limit < 2 * ARENA_SIZE ? limit - ARENA_SIZE : limit;
}

PUBLIC int prlimit(pid_t pid, enum __rlimit_resource what, const struct rlimit *new,
		   struct rlimit *old)
{
	bool ours = what == RLIMIT_AS && (pid == 0 || pid == sys(getpid)) && arena_accessible();
	struct rlimit raised;
	long err;

	if (new &&ours) {
		raised.rlim_cur = with_arena(new->rlim_cur);
		raised.rlim_max = with_arena(new->rlim_max);
		new = &raised;
	}
	err = sys(prlimit64, pid, what, new, old);
	if (err < 0) {
		errno = (int)-err;
		return -1;
	}
	if (old && ours) {
		old->rlim_cur = without_arena(old->rlim_cur);
		old->rlim_max = without_arena(old->rlim_max);
	}
	return 0;
}

PUBLIC int setrlimit(__rlimit_resource_t what, const struct rlimit *limit)
{
	return prlimit(0, what, limit, NULL);
}

PUBLIC int getrlimit(__rlimit_resource_t what, struct rlimit *limit)
{
	return prlimit(0, what, NULL, limit);
}

/* With 64 bits they are the same. */
PUBLIC int prlimit64(pid_t pid, enum __rlimit_resource what, const struct rlimit64 *new,
		     struct rlimit64 *old) __attribute__((alias("prlimit")));
PUBLIC int setrlimit64(__rlimit_resource_t what, const struct rlimit64 *limit)
	__attribute__((alias("setrlimit")));
PUBLIC int getrlimit64(__rlimit_resource_t what, struct rlimit64 *limit)
	__attribute__((alias("getrlimit")));
