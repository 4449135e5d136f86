/* SPDX-License-Identifier: MIT */
/* From text to operations and back; op_text.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tests/differential/op_text.h"

/* ---- reading ---- */

/* One line, and how far into it the reader is. */
struct reader {
	const char *line, *at, *end;
	unsigned number;
	char *complaint;
};

/* A word of the line. */
struct token {
	const char *text;
	size_t len;
};

__attribute__((format(printf, 3, 4))) static bool complain(struct reader *r, const char *where,
							   const char *format, ...)
{
	char what[COMPLAINT_SIZE - 48];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	snprintf(r->complaint, COMPLAINT_SIZE, "line %u, column %u: %s", r->number,
		 (unsigned)(where - r->line) + 1, what);
	return false;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct reader *r)
{
	while (r->at < r->end && is_blank(*r->at))
		r->at++;
	if (r->at < r->end && *r->at == '#')
		r->at = r->end;
}

static bool at_end(struct reader *r)
{
	skip_blanks(r);
	return r->at == r->end;
}

static bool next_token(struct reader *r, const char *what, struct token *t)
{
	skip_blanks(r);
	t->text = r->at;
	while (r->at < r->end && !is_blank(*r->at) && *r->at != '#')
		r->at++;
	t->len = r->at - t->text;
	return t->len || complain(r, t->text, "%s is missing", what);
}

static bool token_is(const struct token *t, const char *word)
{
	return strlen(word) == t->len && !memcmp(word, t->text, t->len);
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* A number from *at on; *at is left behind it. */
static bool read_number(struct reader *r, const char **at, const char *end, u64 *value)
{
	const char *start = *at, *p = start;
	int base = 10;

	if (end - p > 2 && p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	if (p == end || digit_of(*p) < 0 || digit_of(*p) >= base)
		return complain(r, start, "a number is expected");
	for (*value = 0; p < end && digit_of(*p) >= 0 && digit_of(*p) < base; p++)
		if (__builtin_mul_overflow(*value, (u64)base, value) ||
		    __builtin_add_overflow(*value, (u64)digit_of(*p), value))
			return complain(r, start, "the number does not fit into 64 bits");
	*at = p;
	return true;
}

static bool read_end(struct reader *r, const char *at, const char *end)
{
	return at == end ||
	       complain(r, at, "'%c' is not expected here", *at > ' ' && *at < 0x7f ? *at : '?');
}

static bool in_pages(struct reader *r, const char *where, u64 pages, u64 *bytes)
{
	return !__builtin_mul_overflow(pages, PAGE_SIZE, bytes) ||
	       complain(r, where, "that many pages do not fit into 64 bits");
}

/* "+N", if it is there, added to *value. */
static bool read_more(struct reader *r, const char **at, const char *end, bool pages, u64 *value)
{
	const char *where = *at;
	u64 more;

	if (*at == end || **at != '+')
		return true;
	(*at)++;
	if (!read_number(r, at, end, &more) || (pages && !in_pages(r, where, more, &more)))
		return false;
	return !__builtin_add_overflow(*value, more, value) ||
	       complain(r, where, "the sum does not fit into 64 bits");
}

static bool read_address(struct reader *r, const struct token *t, u64 *value)
{
	const char *at = t->text, *end = at + t->len;

	if (*at != 'a')
		return read_number(r, &at, end, value) && read_end(r, at, end);
	at++;
	*value = ARENA_BASE;
	return read_more(r, &at, end, true, value) && read_more(r, &at, end, false, value) &&
	       read_end(r, at, end);
}

static bool read_size(struct reader *r, const struct token *t, u64 *value)
{
	const char *at = t->text, *end = at + t->len;

	if (!read_number(r, &at, end, value))
		return false;
	if (at < end && *at == 'p') {
		at++;
		if (!in_pages(r, t->text, *value, value) || !read_more(r, &at, end, false, value))
			return false;
	}
	return read_end(r, at, end);
}

static const struct word *find_word(const struct word *words, const struct token *t)
{
	for (; words->name; words++)
		if (token_is(t, words->name))
			return words;
	return NULL;
}

static bool read_word(struct reader *r, const struct word *words, const struct token *t, u64 *value)
{
	const struct word *word = find_word(words, t);
	const char *at = t->text, *end = at + t->len;

	if (word) {
		*value = word->value;
		return true;
	}
	if (digit_of(*at) < 0 || digit_of(*at) > 9)
		return complain(r, at, "'%.*s' is not known here", (int)min_of(t->len, (size_t)24),
				at);
	return read_number(r, &at, end, value) && read_end(r, at, end);
}

/* Words and numbers joined by '|'. */
static bool read_flags(struct reader *r, const struct word *words, const struct token *t,
		       u64 *value)
{
	const char *at = t->text, *end = at + t->len;
	u64 one;

	for (*value = 0;; at++) {
		struct token part = { at, 0 };

		while (at < end && *at != '|')
			at++;
		part.len = at - part.text;
		if (!part.len)
			return complain(r, at, "a flag is missing");
		if (!read_word(r, words, &part, &one))
			return false;
		*value |= one;
		if (at == end)
			return true;
	}
}

static bool read_argument(struct reader *r, enum arg_kind kind, const struct token *t, u64 *value)
{
	switch (kind) {
	case ARG_ADDRESS:
		return read_address(r, t, value);
	case ARG_SIZE:
	case ARG_VALUE:
	case ARG_PROCESS:
		return read_size(r, t, value);
	default:
		return arg_is_flags(kind) ? read_flags(r, arg_words(kind), t, value)
					  : read_word(r, arg_words(kind), t, value);
	}
}

static bool read_call(struct reader *r, struct op *op)
{
	struct token t;

	if (!next_token(r, "a call", &t))
		return false;
	for (op->call = 0; op->call < NR_CALLS; op->call++)
		if (token_is(&t, call_name(op->call)))
			return true;
	return complain(r, t.text, "no call is named '%.*s'", (int)min_of(t.len, (size_t)24),
			t.text);
}

static bool read_op(struct reader *r, struct op *op)
{
	const char *start = r->at, *refusal;
	const u8 *kinds;
	struct token t;
	u64 process;

	memset(op, 0, sizeof(*op));
	if (!next_token(r, "a process", &t) || !read_size(r, &t, &process))
		return false;
	if (process >= NR_PROCESSES)
		return complain(r, t.text, "processes are 0 to %d", NR_PROCESSES - 1);
	op->process = process;
	if (!read_call(r, op))
		return false;
	kinds = call_args(op->call);
	for (unsigned i = 0; i < NR_ARGS && kinds[i]; i++)
		if (!next_token(r, "an argument", &t) ||
		    !read_argument(r, kinds[i], &t, &op->arg[i]))
			return false;
	if (!at_end(r))
		return complain(r, r->at, "the line goes on after its last argument");
	refusal = op_refusal(op);
	return !refusal || complain(r, start, "%s", refusal);
}

static bool is_end_line(const struct reader *r)
{
	struct token t = { r->at, 0 };
	const char *p = r->at;

	while (p < r->end && !is_blank(*p) && *p != '#')
		p++;
	t.len = p - t.text;
	return token_is(&t, "end");
}

static bool read_line(struct reader *r, struct sequence *s, bool *ended)
{
	if (at_end(r))
		return true;
	if (*ended)
		return complain(r, r->at, "there is more after the end");
	if (is_end_line(r)) {
		*ended = true;
		r->at += 3;
		return at_end(r) || complain(r, r->at, "there is more after the end");
	}
	if (s->n == MAX_OPS)
		return complain(r, r->at, "more than %d operations", MAX_OPS);
	return read_op(r, &s->ops[s->n]) && ++s->n;
}

bool sequence_parse(const char *text, size_t size, struct sequence *s, char *complaint)
{
	struct reader r = { .complaint = complaint };
	const char *next = text, *end = text + size;
	bool ended = false;

	s->n = 0;
	complaint[0] = '\0';
	while (next < end) {
		const char *newline = memchr(next, '\n', end - next);

		r.line = r.at = next;
		r.end = newline ? newline : end;
		r.number++;
		next = newline ? newline + 1 : end;
		if (r.end - r.line >= LINE_SIZE)
			return complain(&r, r.line, "the line is too long");
		if (!read_line(&r, s, &ended))
			return false;
	}
	r.number++;
	r.line = end;
	return ended || complain(&r, end, "the text is cut short: 'end' is missing");
}

/* ---- printing ---- */

/* What is being printed into. */
struct printer {
	char *buf;
	size_t size, used;
};

__attribute__((format(printf, 2, 3))) static void put(struct printer *p, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(p->buf + p->used, p->size - p->used, format, args);
	va_end(args);
	p->used = min_of(p->used + n, p->size - 1);
}

static void put_number(struct printer *p, u64 value)
{
	put(p, value < 1 << 20 ? "%llu" : "0x%llx", (unsigned long long)value);
}

static void put_address(struct printer *p, u64 addr)
{
	u64 offset = addr - ARENA_BASE;

	if (!in_arena(addr, 0)) {
		put(p, "0x%llx", (unsigned long long)addr);
		return;
	}
	put(p, "a+%llu", (unsigned long long)(offset >> PAGE_SHIFT));
	if (offset % PAGE_SIZE)
		put(p, "+%llu", (unsigned long long)(offset % PAGE_SIZE));
}

static void put_size(struct printer *p, u64 size)
{
	if (size < PAGE_SIZE || size >> 32) {
		put_number(p, size);
		return;
	}
	put(p, "%llup", (unsigned long long)(size >> PAGE_SHIFT));
	if (size % PAGE_SIZE)
		put(p, "+%llu", (unsigned long long)(size % PAGE_SIZE));
}

static void put_word(struct printer *p, const struct word *words, u64 value)
{
	for (; words->name; words++)
		if (words->value == value) {
			put(p, "%s", words->name);
			return;
		}
	put_number(p, value);
}

static void put_flags(struct printer *p, const struct word *words, u64 value)
{
	const char *bar = "";

	for (; words->name; words++)
		if (value & words->value) {
			put(p, "%s%s", bar, words->name);
			value &= ~words->value;
			bar = "|";
		}
	if (value || !*bar) {
		put(p, "%s", bar);
		put_number(p, value);
	}
}

static void put_argument(struct printer *p, enum arg_kind kind, u64 value)
{
	switch (kind) {
	case ARG_ADDRESS:
		put_address(p, value);
		break;
	case ARG_SIZE:
		put_size(p, value);
		break;
	case ARG_VALUE:
	case ARG_PROCESS:
		put_number(p, value);
		break;
	default:
		if (arg_is_flags(kind))
			put_flags(p, arg_words(kind), value);
		else
			put_word(p, arg_words(kind), value);
	}
}

const char *op_print(const struct op *op, char buf[LINE_SIZE])
{
	struct printer p = { .buf = buf, .size = LINE_SIZE };
	const u8 *kinds = call_args(op->call);

	put(&p, "%u %s", op->process, call_name(op->call));
	for (unsigned i = 0; i < NR_ARGS && kinds[i]; i++) {
		put(&p, " ");
		put_argument(&p, kinds[i], op->arg[i]);
	}
	return buf;
}

const char *address_print(u64 addr, char *buf, size_t size)
{
	struct printer p = { .buf = buf, .size = size };

	put_address(&p, addr);
	return buf;
}
