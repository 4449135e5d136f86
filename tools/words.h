/* SPDX-License-Identifier: MIT */
/* Options that take a value, as the verbs but `run` have them: --name VALUE or --name=VALUE. */
#ifndef VMF_TOOLS_WORDS_H
#define VMF_TOOLS_WORDS_H

#include <stdbool.h>

/*
 * The option at argv[*at], which must be one of the names (a list that ends with NULL): *name is
 * that entry, *value its value, and *at is left on its last word.  False, with one line said, if it
 * is none of them or its value is missing.
 */
bool words_take(const char *verb, const char *const *names, int argc, char **argv, int *at,
		const char **name, const char **value);

#endif
