/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/soft/soft.h"
#include "tools/extension_file.h"
#include "tools/say.h"

/* Everything, and one byte more if it is too long: then extension_load() says so. */
static bool read_text(struct extension_file *f)
{
	FILE *file = fopen(f->path, "re");
	int err = file ? 0 : errno;

	f->text = malloc(EXTENSION_TEXT + 1);
	if (file && !f->text)
		err = ENOMEM;
	if (!err) {
		errno = 0;
		f->size = fread(f->text, 1, EXTENSION_TEXT + 1, file);
		if (ferror(file))
			err = errno ? errno : EIO;
	}
	if (file)
		fclose(file);
	if (err)
		say("--extension %.300s cannot be read: %s", f->path, strerror(err));
	return !err;
}

static bool try(struct extension_file *f)
{
	char says[EXTENSION_SAYS];
	struct extension *x;
	int err = extension_load(&soft_host_memory, f->path, f->text, f->size, &x, says);

	if (err) {
		say("--extension %s", *says ? says : strerror(-err));
		return false;
	}
	for (unsigned i = 0; i < NR_EXTENSION_EVENTS; i++)
		f->answers[i] = extension_answers(x, i);
	extension_free(x);
	return true;
}

bool extension_file_read(struct extension_file *f, const char *path)
{
	*f = (struct extension_file){ .path = path };
	if (read_text(f) && try(f))
		return true;
	extension_file_free(f);
	return false;
}

void extension_file_free(struct extension_file *f)
{
	free(f->text);
	f->text = NULL;
}
