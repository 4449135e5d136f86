/* SPDX-License-Identifier: MIT */
/* For tests of what the engine must notice. */
#ifndef VMF_TESTS_PANICS_H
#define VMF_TESTS_PANICS_H

#include "machine/soft/host.h"
#include "tests/unit/unit.h"

static jmp_buf after_panic;
static char panic_text[256];

static void catch_panic(const char *text)
{
	snprintf(panic_text, sizeof(panic_text), "%s", text);
	longjmp(after_panic, 1);
}

/* `what` panics on this thread with a text that holds `part`. */
#define assert_panics(what, part)                                                                  \
	do {                                                                                       \
		host_on_panic(catch_panic);                                                        \
		if (!setjmp(after_panic)) {                                                        \
			what;                                                                      \
			fail_msg("no panic");                                                      \
		}                                                                                  \
		host_on_panic(NULL);                                                               \
		assert_non_null(strstr(panic_text, part));                                         \
	} while (0)

#endif
