/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "tools/say.h"
#include "tools/words.h"

/* The one that the word is, up to '=' if there is one. */
static const char *find(const char *const *names, const char *word)
{
	size_t length = strcspn(word, "=");

	for (; *names; names++)
		if (strlen(*names) == length && !strncmp(word, *names, length))
			return *names;
	return NULL;
}

bool words_take(const char *verb, const char *const *names, int argc, char **argv, int *at,
		const char **name, const char **value)
{
	const char *word = argv[*at], *equals = strchr(word, '=');

	*name = find(names, word);
	if (!*name) {
		say("unknown option '%.100s'; see vmfault %s --help", word, verb);
		return false;
	}
	if (!equals && *at + 1 >= argc) {
		say("%s needs a value; see vmfault %s --help", *name, verb);
		return false;
	}
	*value = equals ? equals + 1 : argv[++*at];
	return true;
}
