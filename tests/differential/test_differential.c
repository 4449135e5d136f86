/* SPDX-License-Identifier: MIT */
/* The tester itself: its language, its generator, its two sides, and that it finds what differs. */
#include <errno.h>
#include <linux/mman.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "machine/linux/sys.h"
#include "tests/differential/generate.h"
#include "tests/differential/guard.h"
#include "tests/differential/op_text.h"
#include "tests/differential/session.h"
#include "tests/unit/unit.h"

static struct sequence sequence;

static bool anything(const void *ctx, const struct op *op)
{
	(void)ctx;
	(void)op;
	return true;
}

/* ---- the language ---- */

static size_t print_all(const struct sequence *s, char *buf)
{
	char line[LINE_SIZE];
	size_t n = 0;

	for (unsigned i = 0; i < s->n; i++)
		n += sprintf(buf + n, "%s\n", op_print(&s->ops[i], line));
	return n + sprintf(buf + n, "end\n");
}

static void parse(const char *text)
{
	char complaint[COMPLAINT_SIZE];

	if (!sequence_parse(text, strlen(text), &sequence, complaint))
		fail_msg("%s", complaint);
}

static void expect_complaint(const char *text, const char *expected)
{
	char complaint[COMPLAINT_SIZE];

	assert_false(sequence_parse(text, strlen(text), &sequence, complaint));
	assert_string_equal(complaint, expected);
}

static void what_is_printed_reads_back_as_it_was(void **state)
{
	static char text[MAX_OPS * LINE_SIZE];
	static struct sequence again;
	char complaint[COMPLAINT_SIZE];

	(void)state;
	for (unsigned i = 0; i < 300; i++) {
		generate(&sequence, 1, i, anything, NULL);
		if (!sequence_parse(text, print_all(&sequence, text), &again, complaint))
			fail_msg("%s", complaint);
		assert_int_equal(again.n, sequence.n);
		assert_memory_equal(again.ops, sequence.ops, sequence.n * sizeof(struct op));
	}
}

static void words_mean_what_linux_says(void **state)
{
	(void)state;
	parse("0 mmap a+3+1 2p+5 read|write|0x80 private|anonymous|fixed|noreplace none 0x10\n"
	      "\n"
	      "  # a comment\n"
	      "3 mremap a 1 4096 maymove|dontunmap a+767 # and another\n"
	      "1 madvise 0xffffffffffffffff 18446744073709551615 guard_install\n"
	      "1 fork 2\n"
	      "end # of it\n");
	assert_int_equal(sequence.n, 4);
	assert_int_equal(sequence.ops[0].arg[0], ARENA_BASE + 3 * PAGE_SIZE + 1);
	assert_int_equal(sequence.ops[0].arg[1], 2 * PAGE_SIZE + 5);
	assert_int_equal(sequence.ops[0].arg[2], PROT_READ | PROT_WRITE | 0x80);
	assert_int_equal(sequence.ops[0].arg[3],
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_FIXED_NOREPLACE);
	assert_int_equal(sequence.ops[0].arg[5], 16);
	assert_int_equal(sequence.ops[1].process, 3);
	assert_int_equal(sequence.ops[1].arg[3], MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
	assert_int_equal(sequence.ops[2].arg[1], ~0ULL);
	assert_int_equal(sequence.ops[2].arg[2], 102);
	assert_int_equal(sequence.ops[3].arg[0], 2);
}

static void a_complaint_says_where(void **state)
{
	char complaint[COMPLAINT_SIZE];

	(void)state;
	expect_complaint("0 mop\nend\n", "line 1, column 3: no call is named 'mop'");
	expect_complaint("\n4 check\nend\n", "line 2, column 1: processes are 0 to 3");
	expect_complaint("x check\nend\n", "line 1, column 1: a number is expected");
	expect_complaint("0 munmap a\nend\n", "line 1, column 11: an argument is missing");
	expect_complaint("0 check 1\nend\n",
			 "line 1, column 9: the line goes on after its last argument");
	expect_complaint("0 munmap a+ 1\nend\n", "line 1, column 12: a number is expected");
	expect_complaint("0 munmap a+1+2+3 1\nend\n",
			 "line 1, column 15: '+' is not expected here");
	expect_complaint("0 munmap a 1q\nend\n", "line 1, column 13: 'q' is not expected here");
	expect_complaint("0 munmap a 1\001\nend\n", "line 1, column 13: '?' is not expected here");
	assert_false(sequence_parse("0 check\n0 mu\0map a 1\nend\n", 23, &sequence, complaint));
	assert_string_equal(complaint, "line 2, column 3: no call is named 'mu'");
	expect_complaint("0 mprotect a 1p read||write\nend\n",
			 "line 1, column 22: a flag is missing");
	expect_complaint("0 mprotect a 1p reed\nend\n",
			 "line 1, column 17: 'reed' is not known here");
	expect_complaint("end\n0 check\n", "line 2, column 1: there is more after the end");
	expect_complaint("end end\n", "line 1, column 5: there is more after the end");
}

static void numbers_that_do_not_fit_are_refused(void **state)
{
	(void)state;
	expect_complaint("0 munmap a 18446744073709551616\nend\n",
			 "line 1, column 12: the number does not fit into 64 bits");
	expect_complaint("0 munmap a 0x10000000000000000\nend\n",
			 "line 1, column 12: the number does not fit into 64 bits");
	expect_complaint("0 munmap a 4503599627370496p\nend\n",
			 "line 1, column 12: that many pages do not fit into 64 bits");
	expect_complaint("0 munmap a 4503599627370495p+4096\nend\n",
			 "line 1, column 29: the sum does not fit into 64 bits");
	expect_complaint("0 munmap a+4503599627370495 1\nend\n",
			 "line 1, column 11: the sum does not fit into 64 bits");
	expect_complaint("0 write a 4294967296\nend\n", "line 1, column 1: the value is too great");
}

static void text_cut_short_is_refused(void **state)
{
	static const char text[] = "0 mmap a+3 2p read|write private|anonymous|fixed none 0\n"
				   "0 write a+4+8 7\n"
				   "end";
	char complaint[COMPLAINT_SIZE];

	(void)state;
	for (size_t n = 0; n < strlen(text); n++)
		assert_false(sequence_parse(text, n, &sequence, complaint));
	assert_true(sequence_parse(text, strlen(text), &sequence, complaint));
	expect_complaint("0 check\n", "line 2, column 1: the text is cut short: 'end' is missing");
}

static void too_much_is_refused(void **state)
{
	static char text[MAX_OPS * 16 + 64];
	size_t n = 0;

	(void)state;
	for (unsigned i = 0; i <= MAX_OPS; i++)
		n += sprintf(text + n, "0 check\n");
	expect_complaint(text, "line 257, column 1: more than 256 operations");
	memset(text, ' ', 300);
	text[300] = '\0';
	expect_complaint(text, "line 1, column 1: the line is too long");
}

static void what_could_leave_the_arena_is_refused(void **state)
{
	static const char *const lines[] = {
		"0 munmap a 769p",
		"0 munmap 0x7f0000000000 1p",
		"0 munmap 0x1000 0x7ffffffd0000",
		"0 mmap a+767 2p read private|anonymous|fixed none 0",
		"0 mmap a+767 2p read private|anonymous none 0",
		"0 mmap 0 0x400000000000 write private|anonymous|populate none 0",
		"0 mmap 0x400000 1p read private|anonymous|fixed none 0",
		"0 mremap a 1p 1p maymove|fixed 0x400000",
		"0 mremap a+767 1p 2p maymove 0",
		"0 mremap 0x400000 1p 1p maymove|fixed a",
		"0 madvise a 0x7fffe0000000 dontneed",
		"0 mprotect 0x400000 1p read",
		"0 mlock 0x400000 1p",
		"0 write 0x400000 1",
		"0 write a+768 1",
		"0 write a+1+4 1",
		"0 exec a+1+4088",
		"0 pread file0 0 0x400000 8",
		"0 pwrite file0 0x100000000 a 8",
		"0 ftruncate file0 0x100000000",
		"0 fork 0",
		"1 reap 1",
	};
	char text[LINE_SIZE], complaint[COMPLAINT_SIZE];

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++) {
		snprintf(text, sizeof(text), "%s\nend\n", lines[i]);
		if (sequence_parse(text, strlen(text), &sequence, complaint))
			fail_msg("not refused: %s", lines[i]);
		if (strncmp(complaint, "line 1, column ", 15))
			fail_msg("%s: %s", lines[i], complaint);
	}
}

/* ---- the generator ---- */

static void a_seed_gives_the_same_sequence_again(void **state)
{
	static struct sequence other;

	(void)state;
	generate(&sequence, 7, 3, anything, NULL);
	generate(&other, 7, 3, anything, NULL);
	assert_int_equal(sequence.n, other.n);
	assert_memory_equal(sequence.ops, other.ops, other.n * sizeof(struct op));
	generate(&other, 8, 3, anything, NULL);
	assert_memory_not_equal(sequence.ops, other.ops, 10 * sizeof(struct op));
	generate(&other, 7, 4, anything, NULL);
	assert_memory_not_equal(sequence.ops, other.ops, 10 * sizeof(struct op));
}

static void every_call_and_every_flag_is_generated(void **state)
{
	static bool used[NR_CALLS][NR_ARG_KINDS][NR_WORDS], called[NR_CALLS];

	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		generate(&sequence, 5, i, anything, NULL);
		for (unsigned k = 0; k < sequence.n; k++) {
			const struct op *op = &sequence.ops[k];

			called[op->call] = true;
			assert_null(op_refusal(op));
			for (unsigned a = 0; a < NR_ARGS; a++) {
				enum arg_kind kind = call_args(op->call)[a];
				const struct word *w = arg_words(kind);

				for (unsigned n = 0; w && w[n].name; n++)
					if (arg_is_flags(kind) ? op->arg[a] & w[n].value
							       : op->arg[a] == w[n].value)
						used[op->call][kind][n] = true;
			}
		}
	}
	for (unsigned call = 0; call < NR_CALLS; call++) {
		if (!called[call])
			fail_msg("%s is never generated", call_name(call));
		for (unsigned a = 0; a < NR_ARGS; a++) {
			enum arg_kind kind = call_args(call)[a];
			const struct word *w = arg_words(kind);

			for (unsigned n = 0; w && w[n].name; n++)
				if (!used[call][kind][n])
					fail_msg("%s is never generated with %s", call_name(call),
						 w[n].name);
		}
	}
}

/* ---- the kernel's side ---- */

static struct support support;
static struct side *real;

static int open_real(void **state)
{
	char why[160] = "";

	(void)state;
	if (!support_probe(&support, why) || !(real = real_open(&support, why)))
		print_error("%s\n", why);
	return real ? 0 : -1;
}

static int close_real(void **state)
{
	(void)state;
	real->close(real);
	real = NULL;
	/* It leaves no process behind. */
	return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : -1;
}

static const struct trace *really(const char *text)
{
	const struct trace *t;

	parse(text);
	real->start(real, &sequence);
	t = real->finish(real);
	if (!t)
		fail_msg("%s", real->failure);
	for (unsigned i = 0; i < sequence.n; i++)
		assert_int_not_equal(t->records[i].state, RECORD_MISSING);
	return t;
}

static void expect_signal(const struct record *r, unsigned number, int code, u64 addr,
			  unsigned error)
{
	assert_int_equal(r->signal.number, number);
	assert_int_equal(r->signal.code, code);
	assert_int_equal(r->signal.address, addr);
	assert_int_equal(r->signal.trap, 14);
	assert_int_equal(r->signal.error, error);
	assert_int_equal(r->signal.cr2, addr);
}

static void the_kernel_signals_as_it_is_known_to(void **state)
{
	const struct record *r;

	(void)state;
	r = really("0 mmap a+4 1p read private|anonymous|fixed none 0\n"
		   "0 mmap a+8 1p 0 private|anonymous|fixed none 0\n"
		   "0 write a+4 1\n"
		   "0 read a+4+4088\n"
		   "0 write a+4 1\n"
		   "0 exec a+4\n"
		   "0 read a+8+16\n"
		   "0 read a+5\n"
		   "0 read 0x800000000000\n"
		   "0 mmap a+12 1p exec private|anonymous|fixed none 0\n"
		   "0 exec a+12\n"
		   "end\n")
		    ->records;
	assert_int_equal(r[0].result, ARENA_BASE + 4 * PAGE_SIZE);
	expect_signal(&r[2], 11, 2, ARENA_BASE + 4 * PAGE_SIZE, 6);
	assert_int_equal(r[3].signal.number, 0);
	assert_int_equal(r[3].minor, 1);
	expect_signal(&r[4], 11, 2, ARENA_BASE + 4 * PAGE_SIZE, 7);
	expect_signal(&r[5], 11, 2, ARENA_BASE + 4 * PAGE_SIZE, 0x15);
	expect_signal(&r[6], 11, 2, ARENA_BASE + 8 * PAGE_SIZE + 16, 4);
	expect_signal(&r[7], 11, 1, ARENA_BASE + 5 * PAGE_SIZE, 4);
	assert_int_equal(r[8].signal.code, 128);
	assert_int_equal(r[8].signal.trap, 13);
	assert_int_equal(r[10].signal.number, 0);
}

static void the_kernels_files_end_where_they_should(void **state)
{
	const struct record *r;

	(void)state;
	r = really("0 mmap a+16 16p read|write shared|fixed file0 0\n"
		   "0 read a+17\n"
		   "0 read a+21\n"
		   "0 read a+29\n"
		   "0 ftruncate file0 8192\n"
		   "0 write a+20 1\n"
		   "end\n")
		    ->records;
	assert_int_equal(r[1].value, file_word(SEEN_FILE_0, 1));
	assert_int_equal(r[2].value, 0);
	expect_signal(&r[3], 7, 2, ARENA_BASE + 29 * PAGE_SIZE, 4);
	assert_int_equal(r[4].result, 0);
	expect_signal(&r[5], 7, 2, ARENA_BASE + 20 * PAGE_SIZE, 6);
}

/* A kernel that is short of memory takes pages away between two operations: one fault more. */
static void expect_faults(const struct record *r, unsigned n)
{
	assert_in_range(r->minor, n, n + 1);
}

static void processes_take_turns_and_are_reaped(void **state)
{
	const struct record *r;

	(void)state;
	r = really("0 mmap a 1p read|write private|anonymous|fixed none 0\n"
		   "0 write a 5\n"
		   "0 fork 1\n"
		   "1 read a\n"
		   "1 write a 6\n"
		   "1 fork 2\n"
		   "0 read a\n"
		   "2 read a\n"
		   "0 reap 2\n"
		   "0 reap 1\n"
		   "2 check\n"
		   "1 check\n"
		   "0 write a 7\n"
		   "end\n")
		    ->records;
	assert_int_equal(r[3].value, word_of(5));
	expect_faults(&r[3], 0);
	expect_faults(&r[4], 1);
	assert_int_equal(r[6].value, word_of(5));
	assert_int_equal(r[7].value, word_of(6));
	assert_int_equal(r[8].state, RECORD_SKIPPED); /* not its child */
	assert_int_equal(r[9].result, 0);
	assert_int_equal(r[10].state, RECORD_DONE);
	assert_int_equal(r[11].state, RECORD_SKIPPED);
	expect_faults(&r[12], 1); /* reused, not copied: one fault all the same */
}

static void the_kernels_limits_are_reached(void **state)
{
	const struct record *r;

	(void)state;
	r = really("0 mmap a 8p read|write private|anonymous|fixed none 0\n"
		   "0 ballast 1\n"
		   "0 munmap a+2 1p\n"
		   "0 munmap a+5 1p\n"
		   "end\n")
		    ->records;
	assert_int_equal(r[1].result, 0);
	assert_int_equal(r[2].result, 0);
	assert_int_equal(r[3].result, -ENOMEM);
	r = really("0 limit as 5\n"
		   "0 mmap a 5p read private|anonymous|fixed none 0\n"
		   "0 mmap a+16 1p read private|anonymous|fixed none 0\n"
		   "0 limit memlock 0\n"
		   "0 mlock a 1p\n"
		   "end\n")
		    ->records;
	assert_int_equal(r[1].result, ARENA_BASE);
	assert_int_equal(r[2].result, -ENOMEM);
	assert_int_equal(r[4].result, -EPERM);
}

static void what_is_there_is_seen(void **state)
{
	const struct observation *o;
	const struct trace *t;

	(void)state;
	t = really("0 mmap a+10 4p read|write private|anonymous|fixed none 0\n"
		   "0 mmap a+20 2p read shared|fixed file0r 3p\n"
		   "0 write a+11 9\n"
		   "0 read a+12\n"
		   "0 check\n"
		   "end\n");
	o = record_seen(t, &t->records[4]);
	assert_int_equal(o->nr_areas, 2);
	assert_int_equal(seen_areas(o)[0].start, 10);
	assert_int_equal(seen_areas(o)[0].end, 14);
	assert_int_equal(seen_areas(o)[0].perms, SEEN_READ | SEEN_WRITE);
	assert_int_equal(seen_areas(o)[0].rss, 1);
	assert_int_equal(seen_areas(o)[0].anonymous, 1);
	assert_true(seen_areas(o)[0].flags & SEEN_ACCOUNT);
	assert_int_equal(seen_areas(o)[1].perms, SEEN_READ | SEEN_SHARED);
	assert_int_equal(seen_areas(o)[1].object, SEEN_FILE_0);
	assert_int_equal(seen_areas(o)[1].pgoff, 3);
	assert_int_equal(o->nr_pages, 6);
	assert_int_equal(seen_pages(o)[1].page, 11);
	assert_int_equal(seen_pages(o)[1].state, SEEN_PRESENT | SEEN_EXCLUSIVE);
	assert_int_equal(seen_pages(o)[2].state, SEEN_PRESENT); /* the zero page */
	assert_int_equal(seen_pages(o)[4].state, SEEN_PRESENT | SEEN_IS_FILE | SEEN_EXCLUSIVE);
}

static void a_kernel_gives_the_same_twice(void **state)
{
	char why[160] = "";
	struct side *other = real_open(&support, why);
	const struct trace *a, *b;
	u64 masked[MAX_MASKS];
	struct mismatch m;
	unsigned failed = 0;

	(void)state;
	assert_non_null(other);
	for (unsigned i = 0; i < 60; i++) {
		generate(&sequence, 11, i, anything, NULL);
		real->start(real, &sequence);
		other->start(other, &sequence);
		a = real->finish(real);
		b = other->finish(other);
		assert_non_null(a);
		assert_non_null(b);
		if (!traces_same(&support, &sequence, a, b, &m, masked)) {
			print_message("sequence %u: %s\n", i, m.text);
			failed++;
		}
	}
	other->close(other);
	/* Somebody may look into /proc at the wrong moment. */
	assert_true(failed <= 1);
}

/* ---- finding and shrinking ---- */

/* A side that does as the kernel does, and then tells a lie about it. */
static struct trace lie;
static struct side *truth;
static void (*tell_lie)(struct record *r, const struct op *op);

static void lying_start(struct side *side, const struct sequence *s)
{
	(void)side;
	sequence = *s;
	truth->start(truth, s);
}

static const struct trace *lying_finish(struct side *side)
{
	const struct trace *t = truth->finish(truth);

	(void)side;
	assert_non_null(t);
	memcpy(&lie, t, sizeof(lie));
	for (unsigned i = 0; i < sequence.n; i++)
		if (lie.records[i].state == RECORD_DONE)
			tell_lie(&lie.records[i], &sequence.ops[i]);
	return &lie;
}

static bool can_all(const struct side *side, const struct op *op)
{
	(void)side;
	return support_has(&support, op);
}

static struct pair *lying_pair(void)
{
	static struct side liar = {
		.name = "liar", .start = lying_start, .finish = lying_finish, .can = can_all
	};
	static struct pair pair;
	char why[160];

	memset(&pair, 0, sizeof(pair));
	truth = real;
	pair.support = support;
	pair.real = real_open(&support, why);
	pair.engine = &liar;
	assert_non_null(pair.real);
	return &pair;
}

static void lie_about_munmap(struct record *r, const struct op *op)
{
	if (op->call == CALL_MUNMAP && op->arg[1] == 3 * PAGE_SIZE && !r->result)
		r->result = -EBUSY;
}

static void a_mismatch_is_shrunk_to_what_it_needs(void **state)
{
	static struct sequence failing;
	struct pair *p = lying_pair();
	char text[1024];
	struct mismatch m;
	unsigned i;

	(void)state;
	tell_lie = lie_about_munmap;
	for (i = 0; i < 200; i++) {
		generate(&failing, 21, i, pair_can, p);
		if (!trial(p, &failing, &m))
			break;
	}
	assert_true(i < 200);
	assert_int_equal(m.field, FIELD_RESULT);
	shrink(p, &failing, &m, 30);
	assert_int_equal(failing.n, 1);
	assert_int_equal(failing.ops[0].call, CALL_MUNMAP);
	assert_int_equal(failing.ops[0].arg[1], 3 * PAGE_SIZE);
	failure_print(&failing, &m, text, sizeof(text));
	assert_non_null(strstr(text, "# result: kernel 0; engine -EBUSY\n"));
	parse(text);
	assert_int_equal(sequence.n, 1);
	p->real->close(p->real);
}

#define LIE(name, what)                                                                            \
	static void name(struct record *r, const struct op *op)                                    \
	{                                                                                          \
		if (op->call == CALL_READ || op->call == CALL_CHECK)                               \
			what;                                                                      \
	}
static struct observation *seen(const struct record *r)
{
	return (struct observation *)(lie.log + r->seen);
}
static struct seen_area *area_of(const struct record *r)
{
	return (struct seen_area *)seen_areas(seen(r));
}
static struct seen_page *page_of(const struct record *r)
{
	return (struct seen_page *)seen_pages(seen(r));
}
LIE(lie_result, r->result++)
LIE(lie_value, r->value++)
LIE(lie_state, r->state = RECORD_SKIPPED)
LIE(lie_signal, r->signal.code ^= r->signal.number ? 3 : 0)
LIE(lie_error, r->signal.error ^= r->signal.number ? 1 : 0)
LIE(lie_cr2, r->signal.cr2 += r->signal.trap == 14)
LIE(lie_minor, r->minor++)
LIE(lie_major, r->major++)
LIE(lie_area, area_of(r)->end++)
LIE(lie_flags, area_of(r)->flags ^= SEEN_MAYREAD)
LIE(lie_dirty, area_of(r)->dirty++)
LIE(lie_sum, page_of(r)->sum++)
LIE(lie_page, seen(r)->nr_pages--)
LIE(lie_sharing, page_of(r)->state ^= SEEN_EXCLUSIVE)

static void every_field_is_compared(void **state)
{
	static const struct {
		void (*lie)(struct record *r, const struct op *op);
		enum field field;
	} lies[] = {
		{ lie_result, FIELD_RESULT }, { lie_value, FIELD_VALUE },
		{ lie_state, FIELD_STATE },   { lie_signal, FIELD_SIGNAL },
		{ lie_error, FIELD_SIGNAL },  { lie_cr2, FIELD_CR2 },
		{ lie_minor, FIELD_MINOR },   { lie_major, FIELD_MAJOR },
		{ lie_area, FIELD_AREAS },    { lie_flags, FIELD_DETAILS },
		{ lie_dirty, FIELD_DIRTY },   { lie_sum, FIELD_PAGES },
		{ lie_page, FIELD_PAGES },    { lie_sharing, FIELD_SHARING },
	};
	static const char text[] = "0 mmap a+10 4p read|write private|anonymous|fixed none 0\n"
				   "0 write a+11 9\n"
				   "0 read a+12\n"
				   "0 read a+20\n"
				   "0 check\n"
				   "end\n";
	struct pair *p = lying_pair();
	static struct sequence s;
	struct mismatch m;

	(void)state;
	parse(text);
	s = sequence;
	for (unsigned i = 0; i < ARRAY_SIZE(lies); i++) {
		tell_lie = lies[i].lie;
		if (trial(p, &s, &m))
			fail_msg("a lie about %s is believed", field_name(lies[i].field));
		assert_int_equal(m.field, lies[i].field);
	}
	p->real->close(p->real);
}

static void kill_children(void)
{
	FILE *f = fopen("/proc/thread-self/children", "re");
	int pid;

	assert_non_null(f);
	while (fscanf(f, "%d", &pid) == 1)
		kill(pid, SIGKILL);
	fclose(f);
}

static void a_real_process_that_is_killed_is_told_of(void **state)
{
	(void)state;
	parse("0 check\nend\n");
	real->start(real, &sequence);
	assert_non_null(real->finish(real));
	kill_children();
	real->start(real, &sequence);
	assert_null(real->finish(real));
	assert_string_equal(real->failure, "the real processes did not come to an end");
	really("0 check\nend\n");
}

/* ---- what the engine's side survives ---- */

static void panic(void *ctx)
{
	vmf_panic("page %d is %s", 7, (const char *)ctx);
}

static void give_up(void *ctx)
{
	guard_give_up(ctx);
}

static void crash(void *ctx)
{
	(void)ctx;
	raise(SIGSEGV);
}

static void do_nothing(void *ctx)
{
	(void)ctx;
}

static void an_engine_that_fails_is_told_of(void **state)
{
	char why[100] = "";

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_false(guarded(panic, "lost", why, sizeof(why)));
		assert_string_equal(why, "the engine panics: page 7 is lost");
		assert_false(guarded(crash, NULL, why, sizeof(why)));
		assert_string_equal(why, "the engine crashes: segmentation fault");
		assert_false(guarded(give_up, "no memory", why, sizeof(why)));
		assert_string_equal(why, "no memory");
		assert_true(guarded(do_nothing, NULL, why, sizeof(why)));
	}
}

/* Where a stack does not grow further down: its lowest page.  (The kernel touches it, for a
 * sanitizer may have nothing there.) */
static u64 lowest_of_a_stack(void)
{
	u64 top = 0x20000, low = top;

	assert_int_equal(sys(mmap, top, PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE, -1,
			     0),
			 top);
	while (low && sys(getrandom, low - PAGE_SIZE, 1, 0) == 1)
		low -= PAGE_SIZE;
	sys(munmap, low, top + PAGE_SIZE - low);
	return low;
}

static void stacks_end_where_hints_begin(void **state)
{
	static struct support support;
	char why[160];

	(void)state;
	assert_true(support_probe(&support, why));
	assert_int_equal(lowest_of_a_stack(), PAGE_ALIGN(support.hint_min));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_printed_reads_back_as_it_was),
		cmocka_unit_test(words_mean_what_linux_says),
		cmocka_unit_test(a_complaint_says_where),
		cmocka_unit_test(numbers_that_do_not_fit_are_refused),
		cmocka_unit_test(text_cut_short_is_refused),
		cmocka_unit_test(too_much_is_refused),
		cmocka_unit_test(what_could_leave_the_arena_is_refused),
		cmocka_unit_test(a_seed_gives_the_same_sequence_again),
		cmocka_unit_test(every_call_and_every_flag_is_generated),
		cmocka_unit_test(an_engine_that_fails_is_told_of),
		cmocka_unit_test(stacks_end_where_hints_begin),
		cmocka_unit_test_setup_teardown(the_kernel_signals_as_it_is_known_to, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(the_kernels_files_end_where_they_should, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(processes_take_turns_and_are_reaped, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(the_kernels_limits_are_reached, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(what_is_there_is_seen, open_real, close_real),
		cmocka_unit_test_setup_teardown(a_kernel_gives_the_same_twice, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(a_mismatch_is_shrunk_to_what_it_needs, open_real,
						close_real),
		cmocka_unit_test_setup_teardown(every_field_is_compared, open_real, close_real),
		cmocka_unit_test_setup_teardown(a_real_process_that_is_killed_is_told_of, open_real,
						close_real),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
