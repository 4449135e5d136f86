/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/environment.h"
#include "tools/say.h"

#define AGENT "libvmfault-agent.so"

/* The directory of this executable, without a slash at the end. */
static bool own_directory(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);

	if (n <= 0)
		return false;
	path[n] = '\0';
	*strrchr(path, '/') = '\0';
	return true;
}

static bool there(const char *path)
{
	return access(path, R_OK) == 0;
}

bool agent_find(char path[PATH_MAX])
{
	/* From the command's own directory: as it was built, and as it was installed, anywhere. */
	static const char *const places[] = { "../machine/linux", "../" AGENT_LIBDIR };
	const char *given = getenv("VMFAULT_AGENT");
	char own[PATH_MAX], candidate[PATH_MAX + 64];

	if (given && *given) {
		if (realpath(given, path) && there(path))
			return true;
		say("VMFAULT_AGENT names '%s', which cannot be read: %s", given, strerror(errno));
		return false;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(places) && own_directory(own); i++) {
		snprintf(candidate, sizeof(candidate), "%s/%s/" AGENT, own, places[i]);
		if (realpath(candidate, path) && there(path))
			return true;
	}
	if (realpath(AGENT_DIRECTORY "/" AGENT, path) && there(path))
		return true;
	say("the agent library " AGENT " is neither beside this command nor in " AGENT_DIRECTORY);
	return false;
}

/*
 * The loader cuts LD_PRELOAD at spaces and colons.  A path that has some goes by another name,
 * which holds as long as this command runs.
 */
static void loadable_name(const char *agent, char name[PATH_MAX])
{
	int fd = -1;

	if (strpbrk(agent, " :")) {
		fd = open(agent, O_RDONLY | O_CLOEXEC);
		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 10);
	}
	if (fd >= 0)
		snprintf(name, PATH_MAX, "/proc/%d/fd/%d", (int)getpid(), fd);
	else
		strcpy(name, agent);
}

/* Is the agent in that list already, since the command runs under vmfault itself? */
static bool preloaded(const char *list, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = list; (at = strstr(at, name)); at += length)
		if ((at == list || strchr(" :", at[-1])) &&
		    (!at[length] || strchr(" :", at[length])))
			return true;
	return false;
}

static char *preload_entry(const char *agent)
{
	const char *before = getenv("LD_PRELOAD");
	char name[PATH_MAX], *entry;
	int n;

	loadable_name(agent, name);
	if (before && preloaded(before, name))
		n = asprintf(&entry, "LD_PRELOAD=%s", before);
	else
		n = asprintf(&entry, "LD_PRELOAD=%s%s%s", name, before && *before ? ":" : "",
			     before ? before : "");
	return n < 0 ? NULL : entry;
}

static char *options_entry(const struct run_options *o)
{
	char *entry;
	int n = asprintf(&entry,
			 "VMFAULT_OPTIONS=limit=%llu,compress=%s,threads=%u,prefetch=%u,policy=%s,"
			 "huge=%s",
			 (unsigned long long)o->memory, o->compress, o->threads,
			 max_of(o->prefetch, 1u), o->policy, o->huge_pages);

	return n < 0 ? NULL : entry;
}

static char *report_entry(int fd)
{
	char *entry;
	int n = asprintf(&entry, "VMFAULT_REPORT=/proc/%d/fd/%d", (int)getpid(), fd);

	return n < 0 ? NULL : entry;
}

/* Empty: there is none, also where the command itself was given one. */
static char *extension_entry(const struct run_options *o)
{
	char *path = o->extension ? realpath(o->extension, NULL) : NULL, *entry;
	int n = asprintf(&entry, "VMFAULT_EXTENSION=%s", path ? path : "");

	free(path);
	return n < 0 ? NULL : entry;
}

/* Do both entries set the same variable? */
static bool same_variable(const char *a, const char *b)
{
	size_t n = strcspn(a, "=") + 1;

	return !strncmp(a, b, n);
}

char **environment_make(const struct run_options *o, const char *agent, int report_fd)
{
	char *own[] = { preload_entry(agent), options_entry(o), report_entry(report_fd),
			extension_entry(o) };
	static char **made; /* the program's, until this process ends */
	size_t n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		if (!own[i])
			return NULL;
	while (environ[n])
		n++;
	made = calloc(n + ARRAY_SIZE(own) + 1, sizeof(*made));
	if (!made)
		return NULL;
	n = 0;
	for (char **e = environ; *e; e++) {
		bool ours = false;

		for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
			ours |= same_variable(own[i], *e);
		if (!ours)
			made[n++] = *e;
	}
	memcpy(made + n, own, sizeof(own));
	return made;
}
