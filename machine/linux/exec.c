/* SPDX-License-Identifier: MIT */
/*
 * A program that the managed one executes is managed, too, starting anew: the variables that load
 * the agent are passed on even where the program gives an environment of its own making.
 *
 * These run in children made by vfork(), on their parent's stack and memory: nothing is allocated
 * and nothing is changed.
 */
#include "machine/linux/agent.h"

#include <alloca.h>
#include <dlfcn.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NR_KEPT 4

static const char *const kept_names[NR_KEPT] = { "LD_PRELOAD=", "VMFAULT_OPTIONS=",
						 "VMFAULT_REPORT=", "VMFAULT_EXTENSION=" };
static char *kept[NR_KEPT]; /* as they were when this process started; NULL: was not there */

void exec_remember(char **env)
{
	for (unsigned i = 0; i < NR_KEPT; i++) {
		for (char **e = env; *e && !kept[i]; e++) {
			if (!strncmp(*e, kept_names[i], strlen(kept_names[i])))
				kept[i] = strdup(*e);
		}
	}
}

static bool has(char *const *env, const char *name)
{
	for (; *env; env++) {
		if (!strncmp(*env, name, strlen(name)))
			return true;
	}
	return false;
}

static size_t count(char *const *env)
{
	size_t n = 0;

	while (env[n])
		n++;
	return n;
}

/* An environment with all that is missing, in room for count(env) + NR_KEPT + 1 pointers. */
static char **complete(char **room, char *const *env)
{
	size_t n = 0;

	for (unsigned i = 0; i < NR_KEPT; i++) {
		if (kept[i] && !has(env, kept_names[i]))
			room[n++] = kept[i];
	}
	memcpy(room + n, env, (count(env) + 1) * sizeof *env);
	return room;
}

static char *const nothing[] = { NULL };

#define COMPLETE(env)                                                                              \
	complete(alloca((count((env) ? (env) : nothing) + NR_KEPT + 1) * sizeof(char *)),          \
		 (env) ? (env) : nothing)
#define PUBLIC __attribute__((visibility("default")))

PUBLIC int execve(const char *path, char *const argv[], char *const env[])
{
	static int (*real)(const char *, char *const *, char *const *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "execve");
	return real(path, argv, COMPLETE(env));
}

PUBLIC int execvpe(const char *file, char *const argv[], char *const env[])
{
	static int (*real)(const char *, char *const *, char *const *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "execvpe");
	return real(file, argv, COMPLETE(env));
}

PUBLIC int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	static __typeof__(posix_spawn) *real;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "posix_spawn");
	return real(pid, path, actions, attr, argv, COMPLETE(env));
}

PUBLIC int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const env[])
{
	static __typeof__(posix_spawnp) *real;

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "posix_spawnp");
	return real(pid, file, actions, attr, argv, COMPLETE(env));
}
