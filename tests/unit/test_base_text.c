/* SPDX-License-Identifier: MIT */
#include <limits.h>

#include "engine/base/text.h"
#include "machine/soft/host.h"
#include "tests/unit/unit.h"

/* The same text and the same length from the C library and from ours. */
#define same_as_libc(...)                                                                          \
	do {                                                                                       \
		char ours[128], libc[128];                                                         \
		size_t n = text_format(ours, sizeof(ours), __VA_ARGS__);                           \
		int m = snprintf(libc, sizeof(libc), __VA_ARGS__);                                 \
		assert_string_equal(ours, libc);                                                   \
		assert_int_equal(n, m);                                                            \
	} while (0)

static void formats_as_the_c_library_does(void **state)
{
	(void)state;
	same_as_libc("plain");
	same_as_libc("%s|%8s|%-8s|%c|%%", "abc", "abc", "abc", 'x');
	same_as_libc("%d %i %u %x", -5, 7, 9u, 0xbeefu);
	same_as_libc("%ld %lu %lx %lld %llu %llx %zu", LONG_MIN, ULONG_MAX, ULONG_MAX, LLONG_MIN,
		     ULLONG_MAX, ULLONG_MAX, (size_t)123);
	same_as_libc("[%5d][%-5d][%05d][%05d][%016lx][%2d]", 42, 42, 42, -42, 0xabcUL, 12345);
	same_as_libc("%p", (void *)0x1234);
	same_as_libc("%d", INT_MIN);
}

static void cuts_at_the_size_and_tells_the_whole_length(void **state)
{
	char buf[6] = "?????";

	(void)state;
	assert_int_equal(text_format(buf, 5, "%s", "abcdefgh"), 8);
	assert_string_equal(buf, "abcd");
	assert_int_equal(text_format(buf, 1, "%d", 77), 2);
	assert_string_equal(buf, "");
	assert_int_equal(text_format(NULL, 0, "%d", 777), 3);
}

static void copies_what_it_does_not_know(void **state)
{
	char buf[32];
	const char *volatile odd = "%q %", *volatile none = NULL;

	(void)state;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	text_format(buf, sizeof(buf), odd);
#pragma GCC diagnostic pop
	assert_string_equal(buf, "%q %");
	text_format(buf, sizeof(buf), "%s", none);
	assert_string_equal(buf, "(null)");
}

static char heard[300];

static void hear(const char *text)
{
	snprintf(heard, sizeof(heard), "%s", text);
}

static void messages_go_to_the_machine(void **state)
{
	(void)state;
	host_on_message(hear);
	vmf_message("frame %u of %s", 7u, "zone");
	host_on_message(NULL);
	assert_string_equal(heard, "frame 7 of zone");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(formats_as_the_c_library_does),
		cmocka_unit_test(cuts_at_the_size_and_tells_the_whole_length),
		cmocka_unit_test(copies_what_it_does_not_know),
		cmocka_unit_test(messages_go_to_the_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
