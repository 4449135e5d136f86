/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: any bytes as a script of the soft machine.  What is accepted is accepted line by line,
 * too, as the same operations; what is refused is refused with its line and column, and the lines
 * before that one are accepted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine/soft/script_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(what)                                                                               \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "not so: %s\n", #what);                                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* Where a line begins; lines count from 1. */
static size_t start_of(const char *text, size_t size, unsigned line)
{
	size_t at = 0;

	while (--line) {
		const char *end = memchr(text + at, '\n', size - at);

		EXPECT(end);
		at = end - text + 1;
	}
	return at;
}

static void expect_refusal(const char *text, size_t size, const char *message)
{
	char again[SCRIPT_MESSAGE];
	unsigned line, column;
	struct script *s;
	char after;

	EXPECT(memchr(message, '\0', SCRIPT_MESSAGE) && !strchr(message, '\n'));
	EXPECT(sscanf(message, "line %u, column %u:%c", &line, &column, &after) == 3);
	EXPECT(line >= 1 && column >= 1 && after == ' ');
	EXPECT(start_of(text, size, line) + column - 1 <= size);
	EXPECT(!script_parse(text, start_of(text, size, line), &s, again));
	script_free(s);
}

static void expect_each_line(const char *text, size_t size, const struct script *all)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	for (unsigned i = 0; i < all->n; i++) {
		struct script_op op = all->ops[i];
		size_t at = start_of(text, size, op.line);
		const char *end = memchr(text + at, '\n', size - at);

		EXPECT(script_verb_name(op.verb));
		EXPECT(!script_parse(text + at, end ? (size_t)(end - text) - at : size - at, &s,
				     message));
		op.line = 1;
		EXPECT(s->n == 1 && !memcmp(&s->ops[0], &op, sizeof(op)));
		script_free(s);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	char message[SCRIPT_MESSAGE];
	struct script *s = NULL;

	memset(message, 'x', sizeof(message));
	if (script_parse(text, size, &s, message)) {
		expect_refusal(text, size, message);
		return 0;
	}
	expect_each_line(text, size, s);
	script_free(s);
	return 0;
}
