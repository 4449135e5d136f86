/* SPDX-License-Identifier: MIT */
/*
 * libFuzzer: any bytes as the text of a sequence.  What is accepted stays in the arena and reads
 * back, printed, as what it was; what is refused is refused with its line and column.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/differential/op_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define EXPECT(what)                                                                               \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			fprintf(stderr, "not so: %s\n", #what);                                    \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sequence first, again;
	static char text[MAX_OPS * LINE_SIZE];
	char complaint[COMPLAINT_SIZE], line[LINE_SIZE];
	size_t n = 0;

	memset(complaint, 'x', sizeof(complaint));
	if (!sequence_parse((const char *)data, size, &first, complaint)) {
		EXPECT(memchr(complaint, '\0', sizeof(complaint)));
		EXPECT(!strncmp(complaint, "line ", 5) && strstr(complaint, ", column "));
		return 0;
	}
	EXPECT(first.n <= MAX_OPS);
	for (unsigned i = 0; i < first.n; i++) {
		EXPECT(!op_refusal(&first.ops[i]));
		n += snprintf(text + n, sizeof(text) - n, "%s\n", op_print(&first.ops[i], line));
	}
	n += snprintf(text + n, sizeof(text) - n, "end\n");
	EXPECT(n < sizeof(text) && sequence_parse(text, n, &again, complaint));
	EXPECT(again.n == first.n);
	EXPECT(!memcmp(again.ops, first.ops, first.n * sizeof(struct op)));
	return 0;
}
