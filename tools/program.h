/* SPDX-License-Identifier: MIT */
/* Which file a program's name means, and whether it can be managed. */
#ifndef VMF_TOOLS_PROGRAM_H
#define VMF_TOOLS_PROGRAM_H

#include <limits.h>

/*
 * Find `name` the way a shell does (PATH, unless it has a slash), and check that the agent library
 * can be loaded into what would run: for a script that is its interpreter.
 * 0 and the path, or the exit status, one line having been said.
 */
int program_find(const char *name, char path[PATH_MAX]);

#endif
