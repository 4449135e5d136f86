/* SPDX-License-Identifier: MIT */
/*
 * See program.h.
 *
 * The agent comes into a program by LD_PRELOAD: the dynamic loader of the C library loads it.
 * Programs that have no loader (static ones), another one, or one that ignores LD_PRELOAD because
 * the program gains rights (setuid, setgid, file capabilities), are refused here, before they run.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tools/program.h"
#include "tools/say.h"
#include "tools/verbs.h"

#define LOADER	    "ld-linux-x86-64.so.2"
#define MAX_SCRIPTS 5 /* scripts whose interpreter is a script: as many as Linux follows */

/* ---- finding ---- */

/* 0, or ENOENT, or EACCES. */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return errno == EACCES ? EACCES : ENOENT;
	if (!S_ISREG(st.st_mode) || access(path, X_OK))
		return EACCES;
	return 0;
}

static int find_in_path(const char *name, char path[PATH_MAX])
{
	const char *dirs = getenv("PATH");
	int err = ENOENT;

	for (const char *dir = dirs ? dirs : "/bin:/usr/bin"; dir;) {
		const char *end = strchrnul(dir, ':');
		int n = snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - dir), dir,
				 end > dir ? "/" : "", name);

		if (n < PATH_MAX) {
			switch (executable(path)) {
			case 0:
				return 0;
			case EACCES:
				err = EACCES;
			}
		}
		dir = *end ? end + 1 : NULL;
	}
	return err;
}

static int find(const char *name, char path[PATH_MAX])
{
	if (!*name || strlen(name) >= PATH_MAX)
		return ENOENT;
	if (!strchr(name, '/'))
		return find_in_path(name, path);
	strcpy(path, name);
	return executable(path);
}

/* ---- checking ---- */

/* The interpreter that a script's first line names; false: no script. */
static bool script_interpreter(const char *head, char path[PATH_MAX])
{
	size_t n;

	if (strncmp(head, "#!", 2))
		return false;
	head += 2;
	head += strspn(head, " \t");
	n = strcspn(head, " \t\r\n");
	if (n == 0 || n >= PATH_MAX)
		return false;
	memcpy(path, head, n);
	path[n] = '\0';
	return true;
}

/* The loader that an ELF file asks for; false: none. */
static bool elf_loader(int fd, const Elf64_Ehdr *elf, char path[PATH_MAX])
{
	for (unsigned i = 0; i < elf->e_phnum; i++) {
		Elf64_Phdr ph;
		off_t at = elf->e_phoff + (off_t)i * elf->e_phentsize;
		ssize_t n;

		if (pread(fd, &ph, sizeof(ph), at) != sizeof(ph))
			return false;
		if (ph.p_type != PT_INTERP)
			continue;
		n = pread(fd, path, PATH_MAX - 1, ph.p_offset);
		if (n <= 0)
			return false;
		path[n] = '\0';
		return true;
	}
	return false;
}

static int refuse(const char *path, const char *why)
{
	say("%.500s cannot be managed: %s", path, why);
	return EXIT_TROUBLE;
}

static int check_elf(int fd, const char *path, const Elf64_Ehdr *elf)
{
	char loader[PATH_MAX];
	const char *name;

	if (elf->e_ident[EI_CLASS] != ELFCLASS64 || elf->e_machine != EM_X86_64 ||
	    elf->e_phentsize != sizeof(Elf64_Phdr))
		return refuse(path, "it is no 64-bit x86 program");
	if (!elf_loader(fd, elf, loader))
		return refuse(path,
			      "it is statically linked, so that nothing can be loaded into it");
	name = strrchr(loader, '/');
	if (strcmp(name ? name + 1 : loader, LOADER))
		return refuse(path, "it is not made for the GNU C library");
	return 0;
}

static int check_rights(int fd, const char *path)
{
	struct stat st;

	if (!fstat(fd, &st) && (st.st_mode & (S_ISUID | S_ISGID)))
		return refuse(path, "it is setuid or setgid, and takes no libraries from others");
	if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return refuse(path, "it has file capabilities, and takes no libraries from others");
	return 0;
}

static int check(const char *path, unsigned depth);

static int check_open(int fd, const char *path, unsigned depth)
{
	char head[256] __attribute__((aligned(8))) = "";
	char interpreter[PATH_MAX];
	int status = check_rights(fd, path);
	ssize_t n = pread(fd, head, sizeof(head) - 1, 0);

	if (status || n < 0)
		return status;
	if (n >= (ssize_t)sizeof(Elf64_Ehdr) && !memcmp(head, ELFMAG, SELFMAG))
		return check_elf(fd, path, (const Elf64_Ehdr *)head);
	if (script_interpreter(head, interpreter))
		return check(interpreter, depth + 1);
	return check("/bin/sh", depth + 1); /* who runs what nobody knows */
}

static int check(const char *path, unsigned depth)
{
	int fd, status;

	if (depth > MAX_SCRIPTS)
		return 0; /* exec will say what is wrong */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0; /* may be executed, not read */
	status = check_open(fd, path, depth);
	close(fd);
	return status;
}

int program_find(const char *name, char path[PATH_MAX])
{
	switch (find(name, path)) {
	case 0:
		return check(path, 0);
	case EACCES:
		say("%.500s cannot be executed", name);
		return EXIT_NOT_EXECUTABLE;
	default:
		say("%.500s: no such program", name);
		return EXIT_NOT_FOUND;
	}
}
