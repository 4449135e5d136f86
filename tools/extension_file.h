/* SPDX-License-Identifier: MIT */
/* --extension FILE: a user's extension, read and tried before anything depends on it. */
#ifndef VMF_TOOLS_EXTENSION_FILE_H
#define VMF_TOOLS_EXTENSION_FILE_H

#include "extensions/extension.h"

struct extension_file {
	const char *path;
	char *text; /* allocated; NULL: there is none */
	size_t size;
	bool answers[NR_EXTENSION_EVENTS];
};

/* False: one line has been said, and nothing is left to free. */
bool extension_file_read(struct extension_file *f, const char *path);
void extension_file_free(struct extension_file *f);

#endif
