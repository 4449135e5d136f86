/* SPDX-License-Identifier: MIT */
/* The program's environment, with what brings the agent in and tells it what to do. */
#ifndef VMF_TOOLS_ENVIRONMENT_H
#define VMF_TOOLS_ENVIRONMENT_H

#include <limits.h>
#include <stdbool.h>

#include "tools/options.h"

/*
 * Where the agent library is: $VMFAULT_AGENT, else beside the command in its build directory, else
 * where it is installed.  False: one line has been said.
 */
bool agent_find(char path[PATH_MAX]);

/* environ with LD_PRELOAD, VMFAULT_OPTIONS and VMFAULT_REPORT (machine/linux/report.h); NULL: no
 * memory.  For the rest of the process's life. */
char **environment_make(const struct run_options *o, const char *agent, int report_fd);

#endif
