/* SPDX-License-Identifier: MIT */
/* The language of operations: what is understood, and that what is not gets one clear line. */
#include "engine/base/errno.h"
#include "machine/soft/script_ops.h"
#include "tests/unit/unit.h"

static struct script *parsed(const char *text)
{
	char message[SCRIPT_MESSAGE];
	struct script *s = NULL;

	if (script_parse(text, strlen(text), &s, message))
		fail_msg("%s", message);
	return s;
}

static void expect_complaint(const char *text, const char *complaint)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	assert_int_equal(script_parse(text, strlen(text), &s, message), -EINVAL);
	assert_string_equal(message, complaint);
}

static void every_operation_is_understood(void **state)
{
	struct script *s = parsed("map any 64K rw as A\n"
				  "map 0x10000 2P rwx fixed locked -> 0x10000\n"
				  "map 0x10000 1 none noreplace -> eexist\n"
				  "unmap A+4K 4K\n"
				  "protect A 8K r\n"
				  "remap A 4K 1M maymove as B\n"
				  "remap A 4K 4K to 0x200000 keep -> 0x200000\n"
				  "advise A 4K dontneed\n"
				  "advise A 4K free -> einval\n"
				  "read A 16 -> segv accerr\n"
				  "read A 16 0xff\n"
				  "write A 1 7 -> segv maperr\n"
				  "touch A 64K x -> bus\n"
				  "pageout A 64K\n"
				  "cpu 1\n"
				  "check\n"
				  "expect major 12\n"
				  "map any 4K rw locked dontcopy wipeonfork\n"
				  "fork as C -> enomem\n"
				  "process C\n"
				  "process first\n"
				  "exit C\n"
				  "reclaim 12\n");

	(void)state;
	assert_int_equal(s->n, 23);
	assert_int_equal(s->ops[0].len, 65536);
	assert_int_equal(s->ops[0].prot, VM_READ | VM_WRITE);
	assert_int_equal(s->ops[0].as, 0);
	assert_int_equal(s->ops[1].addr.offset, 0x10000);
	assert_int_equal(s->ops[1].len, 2 * PAGE_SIZE);
	assert_int_equal(s->ops[1].flags, VMAP_FIXED);
	assert_int_equal(s->ops[1].vm_flags, VM_LOCKED);
	assert_int_equal(s->ops[1].expected.kind, OUT_ADDRESS);
	assert_int_equal(s->ops[2].expected.err, EEXIST);
	assert_int_equal(s->ops[3].addr.name, 0);
	assert_int_equal(s->ops[3].addr.offset, 4096);
	assert_int_equal(s->ops[6].flags, VREMAP_MAYMOVE | VREMAP_FIXED | VREMAP_DONTUNMAP);
	assert_int_equal(s->ops[9].byte, -1);
	assert_int_equal(s->ops[9].expected.reason, FAULT_ACCERR);
	assert_int_equal(s->ops[10].byte, 255);
	assert_int_equal(s->ops[12].access, PF_INSTR);
	assert_int_equal(s->ops[16].counter, COUNT_MAJOR);
	assert_int_equal(s->ops[16].count, 12);
	assert_int_equal(s->ops[17].vm_flags, VM_LOCKED | VM_DONTCOPY | VM_WIPEONFORK);
	assert_int_equal(s->ops[18].process, 2);
	assert_int_equal(s->ops[18].expected.err, ENOMEM);
	assert_int_equal(s->ops[19].process, 2);
	assert_int_equal(s->ops[20].process, -1);
	assert_int_equal(s->ops[21].process, 2);
	assert_int_equal(s->ops[22].count, 12);
	script_free(s);
}

static void comments_and_empty_lines_count_as_lines(void **state)
{
	struct script *s = parsed("# a comment\n\n  \t\ncheck # here, too\r\n");

	(void)state;
	assert_int_equal(s->n, 1);
	assert_int_equal(s->ops[0].line, 4);
	script_free(s);
	s = parsed("");
	assert_int_equal(s->n, 0);
	script_free(s);
}

static void bad_input_gets_one_line_that_says_where_and_what(void **state)
{
	char many[300] = "check", deep[1000];

	(void)state;
	expect_complaint("check\nmop 1 2", "line 2, column 1: unknown operation 'mop'");
	expect_complaint("map", "line 1, column 4: an address is missing");
	expect_complaint("map any", "line 1, column 8: a length is missing");
	expect_complaint("map any 4K", "line 1, column 11: a protection is missing");
	expect_complaint("map any 4K wr", "line 1, column 12: not a protection: 'wr'");
	expect_complaint("map any 4Q rw", "line 1, column 9: not a number: '4Q'");
	expect_complaint("map any -4 rw", "line 1, column 9: not a number: '-4'");
	expect_complaint("map any 0xfffffffffffffffG rw",
			 "line 1, column 9: not a number: '0xfffffffffffffffG'");
	expect_complaint("map any 99999999999999999999 rw",
			 "line 1, column 9: not a number: '99999999999999999999'");
	expect_complaint("map b 4K rw", "line 1, column 5: not an address: 'b'");
	expect_complaint("map AB 4K rw", "line 1, column 5: not an address: 'AB'");
	expect_complaint("map A+ 4K rw", "line 1, column 5: not an address: 'A+'");
	expect_complaint("map any 4K rw as a", "line 1, column 18: not a name (A to Z): 'a'");
	expect_complaint("map any 4K rw as", "line 1, column 17: a name is missing");
	expect_complaint("map any 4K rw sideways", "line 1, column 15: unexpected 'sideways'");
	expect_complaint("write 0 1 256", "line 1, column 11: not a byte: '256'");
	expect_complaint("dirty 0 1P 2", "line 1, column 12: neither 0 nor 1: '2'");
	expect_complaint("dirty 0 1P", "line 1, column 11: 0 or 1 is missing");
	expect_complaint("kmap 1 as A", "line 1, column 6: the length is not one of pages");
	expect_complaint("kmap 0 as A", "line 1, column 6: the length is not one of pages");
	expect_complaint("kmap 1P", "line 1, column 8: as what?");
	expect_complaint("kwrite 0 1P", "line 1, column 12: a byte is missing");
	expect_complaint("touch 0 1 rw", "line 1, column 11: not an access (r, w or x): 'rw'");
	expect_complaint("advise 0 1 please", "line 1, column 12: not an advice: 'please'");
	expect_complaint("cpu 1000", "line 1, column 5: not a CPU: '1000'");
	expect_complaint("fork", "line 1, column 5: as whom?");
	expect_complaint("fork as", "line 1, column 8: a name is missing");
	expect_complaint("fork as c", "line 1, column 9: not a name (A to Z): 'c'");
	expect_complaint("process", "line 1, column 8: a name is missing");
	expect_complaint("process AB", "line 1, column 9: not a name (A to Z): 'AB'");
	expect_complaint("exit first", "line 1, column 6: not a name (A to Z): 'first'");
	expect_complaint("reclaim all", "line 1, column 9: not a number: 'all'");
	expect_complaint("expect luck 1", "line 1, column 8: unknown counter 'luck'");
	expect_complaint("file", "line 1, column 5: a file is missing");
	expect_complaint("file A 1P", "line 1, column 6: not a file (a to z): 'A'");
	expect_complaint("file ab 1P", "line 1, column 6: not a file (a to z): 'ab'");
	expect_complaint("shmem a", "line 1, column 8: a size is missing");
	expect_complaint("file a 1P 300", "line 1, column 11: not a byte: '300'");
	expect_complaint("fwrite a 0 1P", "line 1, column 14: a byte is missing");
	expect_complaint("punch a 0", "line 1, column 10: a length is missing");
	expect_complaint("map any 1P r file a 1 shared",
			 "line 1, column 21: the offset is not one of a page");
	expect_complaint("map any 1P r file a 0",
			 "line 1, column 22: a file is mapped shared or private");
	expect_complaint("fail a eio", "line 1, column 8: it is reading or writing that fails");
	expect_complaint("fail a read often",
			 "line 1, column 13: it fails with eio, enospc or none");
	expect_complaint("expect dirty 4", "line 1, column 14: not a file (a to z): '4'");
	expect_complaint("close a b", "line 1, column 9: unexpected 'b'");
	expect_complaint("read 0 1 -> segv", "line 1, column 17: segv is maperr or accerr");
	expect_complaint("read 0 1 -> 0x1000", "line 1, column 13: unknown outcome '0x1000'");
	expect_complaint("read 0 1 ->", "line 1, column 12: an outcome is missing");
	for (int i = 0; i < 20; i++)
		strcat(many, " x");
	expect_complaint(many, "line 1, column 37: too many words");
	memset(deep, 'x', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = '\0';
	expect_complaint(deep, "line 1, column 256: the line is too long");
	deep[200] = '\0';
	expect_complaint(
		deep,
		"line 1, column 1: unknown operation 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'");
}

static void expect_complaint_of(const char *text, size_t size, const char *complaint)
{
	char message[SCRIPT_MESSAGE];
	struct script *s;

	assert_int_equal(script_parse(text, size, &s, message), -EINVAL);
	assert_string_equal(message, complaint);
}

static void bytes_that_are_no_text_are_refused(void **state)
{
	static const char in_a_word[] = "check\nmap an\0y 4K rw", in_a_comment[] = "check # \0",
			  at_the_end[] = "check\n";

	(void)state;
	expect_complaint_of(in_a_word, sizeof(in_a_word) - 1,
			    "line 2, column 7: a zero byte is no text");
	expect_complaint_of(in_a_comment, sizeof(in_a_comment) - 1,
			    "line 1, column 9: a zero byte is no text");
	expect_complaint_of(at_the_end, sizeof(at_the_end),
			    "line 2, column 1: a zero byte is no text");
	expect_complaint("map \xff 4K rw", "line 1, column 5: not an address: '\xff'");
}

static void numbers_that_do_not_fit_are_refused(void **state)
{
	struct script *s = parsed("unmap 0xffffffffffffffff 18014398509481983K");

	(void)state;
	assert_int_equal(s->ops[0].addr.offset, ~0ULL);
	assert_int_equal(s->ops[0].len, ~0ULL << 10);
	script_free(s);
	expect_complaint("unmap 0x10000000000000000 1",
			 "line 1, column 7: not an address: '0x10000000000000000'");
	expect_complaint("unmap A+18446744073709551616 1",
			 "line 1, column 7: not an address: 'A+18446744073709551616'");
	expect_complaint("unmap 0 18014398509481984K",
			 "line 1, column 9: not a number: '18014398509481984K'");
	expect_complaint("unmap 0 4503599627370496P",
			 "line 1, column 9: not a number: '4503599627370496P'");
}

/* Wherever it is cut, what is left is understood, or refused in its last line. */
static void text_cut_short_is_whole_lines_or_refused_in_its_last(void **state)
{
	static const char text[] = "map any 64K rw as A\n"
				   "remap A+4K 4K 4K to 0x200000 keep -> 0x200000\n"
				   "write A 1 7 -> segv maperr\n";
	char message[SCRIPT_MESSAGE], start[16];
	struct script *s;
	unsigned line = 1;

	(void)state;
	for (size_t n = 0; n < sizeof(text); n++) {
		if (script_parse(text, n, &s, message)) {
			snprintf(start, sizeof(start), "line %u, ", line);
			assert_memory_equal(message, start, strlen(start));
		} else {
			assert_true(s->n == line || s->n == line - 1);
			script_free(s);
		}
		line += text[n] == '\n';
	}
}

static void the_longest_line_is_understood_and_one_byte_more_is_not(void **state)
{
	char text[300];
	struct script *s;

	(void)state;
	memset(text, ' ', sizeof(text));
	memcpy(text, "check", 5);
	text[255] = '\0';
	s = parsed(text);
	assert_int_equal(s->n, 1);
	script_free(s);
	text[255] = ' ';
	text[256] = '\0';
	expect_complaint(text, "line 1, column 256: the line is too long");
	/* A comment may be as long as it likes. */
	text[6] = '#';
	s = parsed(text);
	script_free(s);
}

/* Whatever comes, the parser ends with an answer. */
static void random_text_never_upsets_the_parser(void **state)
{
	static const char *const pieces[] = { "map ",  "any ",	  "4K ",     "rw ",   "-> ",
					      "segv ", "read ",	  "A+",	     "0x",    "\n",
					      "#",     "remap ",  "to ",     "as ",   "Z ",
					      "1P ",   "cpu ",	  "expect ", "rss ",  "9",
					      "->",    "maperr ", "\t",	     "\xff",  "file ",
					      "a ",    "shared ", "fail ",   "punch " };
	char text[400], message[SCRIPT_MESSAGE];
	uint64_t rnd = 7;
	struct script *s;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		text[0] = '\0';
		for (uint64_t n = rnd_below(&rnd, 30); n; n--)
			strcat(text, pieces[rnd_below(&rnd, ARRAY_SIZE(pieces))]);
		if (script_parse(text, strlen(text), &s, message))
			assert_memory_equal(message, "line ", 5);
		else
			script_free(s);
	}
}

static void outcomes_have_the_words_of_the_language(void **state)
{
	char buf[32];

	(void)state;
	assert_string_equal(outcome_text(&(struct outcome){ .kind = OUT_OK }, buf, 32), "ok");
	assert_string_equal(
		outcome_text(&(struct outcome){ .kind = OUT_ADDRESS, .address = 4096 }, buf, 32),
		"0x1000");
	assert_string_equal(
		outcome_text(&(struct outcome){ .kind = OUT_ERRNO, .err = ENOMEM }, buf, 32),
		"enomem");
	assert_string_equal(
		outcome_text(&(struct outcome){ .kind = OUT_FAULT, .reason = FAULT_BUS }, buf, 32),
		"bus");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_operation_is_understood),
		cmocka_unit_test(comments_and_empty_lines_count_as_lines),
		cmocka_unit_test(bad_input_gets_one_line_that_says_where_and_what),
		cmocka_unit_test(bytes_that_are_no_text_are_refused),
		cmocka_unit_test(numbers_that_do_not_fit_are_refused),
		cmocka_unit_test(text_cut_short_is_whole_lines_or_refused_in_its_last),
		cmocka_unit_test(the_longest_line_is_understood_and_one_byte_more_is_not),
		cmocka_unit_test(random_text_never_upsets_the_parser),
		cmocka_unit_test(outcomes_have_the_words_of_the_language),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
