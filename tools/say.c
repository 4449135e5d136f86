/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/say.h"

void say(const char *format, ...)
{
	char line[1024] = "vmfault: ";
	size_t at = strlen(line);
	va_list args;
	ssize_t written;

	va_start(args, format);
	vsnprintf(line + at, sizeof(line) - at - 1, format, args);
	va_end(args);
	at = strlen(line);
	line[at++] = '\n';
	written = write(STDERR_FILENO, line, at);
	(void)written; /* nobody is left to be told */
}
