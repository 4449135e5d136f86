/* SPDX-License-Identifier: MIT */
/* From text to operations; script.h has the language. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/errno.h"
#include "machine/soft/script_ops.h"

#define MAX_WORDS 16
#define MAX_LINE  256

/* One line on its way through the parser. */
struct line {
	unsigned number;
	char text[MAX_LINE];
	char *words[MAX_WORDS];
	unsigned n, at; /* words, and the next one to look at */
	unsigned end;	/* column behind the last word */
	char *message;	/* where a complaint goes */
};

static const char *const verbs[] = {
	[OP_MAP] = "map",	  [OP_UNMAP] = "unmap",	    [OP_PROTECT] = "protect",
	[OP_REMAP] = "remap",	  [OP_ADVISE] = "advise",   [OP_READ] = "read",
	[OP_WRITE] = "write",	  [OP_TOUCH] = "touch",	    [OP_PAGEOUT] = "pageout",
	[OP_RECLAIM] = "reclaim", [OP_FORK] = "fork",	    [OP_PROCESS] = "process",
	[OP_EXIT] = "exit",	  [OP_FILE] = "file",	    [OP_SHMEM] = "shmem",
	[OP_FREAD] = "fread",	  [OP_FWRITE] = "fwrite",   [OP_TRUNCATE] = "truncate",
	[OP_PUNCH] = "punch",	  [OP_SYNC] = "sync",	    [OP_EVICT] = "evict",
	[OP_FAIL] = "fail",	  [OP_CLOSE] = "close",	    [OP_CPU] = "cpu",
	[OP_CHECK] = "check",	  [OP_EXPECT] = "expect",   [OP_TOGETHER] = "together",
	[OP_COPYIN] = "copyin",	  [OP_COPYOUT] = "copyout", [OP_MEASURE] = "measure",
	[OP_DIRTY] = "dirty",	  [OP_KMAP] = "kmap",	    [OP_KREAD] = "kread",
	[OP_KWRITE] = "kwrite",
};

static const char *const counters[] = {
	[COUNT_MINOR] = "minor",     [COUNT_MAJOR] = "major", [COUNT_RSS] = "rss",
	[COUNT_SWAPPED] = "swapped", [COUNT_MAPS] = "maps",   [COUNT_CACHED] = "cached",
	[COUNT_DIRTY] = "dirty",     [COUNT_AWAY] = "away",
};

static const struct {
	const char *word;
	int err;
} errors[] = { { "einval", EINVAL }, { "enomem", ENOMEM }, { "eexist", EEXIST },
	       { "efault", EFAULT }, { "eio", EIO },	   { "enospc", ENOSPC } };

const char *script_verb_name(enum script_verb verb)
{
	return verbs[verb];
}

const char *script_counter_name(enum program_counter counter)
{
	return counters[counter];
}

const char *outcome_text(const struct outcome *o, char *buf, size_t size)
{
	static const char *const reasons[] = { [FAULT_OK] = "ok",
					       [FAULT_RETRY] = "retry",
					       [FAULT_MAPERR] = "segv maperr",
					       [FAULT_ACCERR] = "segv accerr",
					       [FAULT_BUS] = "bus",
					       [FAULT_HWPOISON] = "bus mceerr",
					       [FAULT_KILLED] = "killed",
					       [FAULT_OOM] = "oom" };

	snprintf(buf, size, "ok");
	if (o->kind == OUT_ADDRESS)
		snprintf(buf, size, "0x%llx", (unsigned long long)o->address);
	if (o->kind == OUT_FAULT)
		snprintf(buf, size, "%s", reasons[o->reason]);
	if (o->kind == OUT_ERRNO) {
		snprintf(buf, size, "errno %d", o->err);
		for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
			if (errors[i].err == o->err)
				snprintf(buf, size, "%s", errors[i].word);
	}
	return buf;
}

/* ---- words ---- */

static int complain_at(struct line *l, unsigned column, const char *what, const char *word)
{
	int n = snprintf(l->message, SCRIPT_MESSAGE, "line %u, column %u: %s", l->number, column,
			 what);

	if (word)
		snprintf(l->message + n, SCRIPT_MESSAGE - n, " '%.40s'", word);
	return -EINVAL;
}

/* About a word of the line. */
static int complain(struct line *l, const char *what, const char *word)
{
	return complain_at(l, (unsigned)(word - l->text) + 1, what, word);
}

/* The same without saying it again. */
static int complain_there(struct line *l, const char *what, const char *word)
{
	return complain_at(l, (unsigned)(word - l->text) + 1, what, NULL);
}

/* About the next word, or, if there is none, about where it would be. */
static int complain_next(struct line *l, const char *what)
{
	return l->at < l->n ? complain_there(l, what, l->words[l->at])
			    : complain_at(l, l->end, what, NULL);
}

static const char *peek(const struct line *l)
{
	return l->at < l->n ? l->words[l->at] : NULL;
}

/* If the next word is this one, go past it. */
static bool accept(struct line *l, const char *word)
{
	if (!peek(l) || strcmp(peek(l), word))
		return false;
	l->at++;
	return true;
}

/* The next word, which must be there. */
static int want(struct line *l, const char *what, const char **word)
{
	*word = peek(l);
	if (!*word) {
		char missing[64];

		snprintf(missing, sizeof(missing), "%s is missing", what);
		return complain_at(l, l->end, missing, NULL);
	}
	l->at++;
	return 0;
}

/* The place of the next word in a list of words, or -1. */
static int find_word(const char *word, const char *const *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (list[i] && !strcmp(list[i], word))
			return i;
	return -1;
}

static bool parse_number(const char *word, u64 *v)
{
	static const struct {
		char letter;
		unsigned shift;
	} suffixes[] = { { 'K', 10 }, { 'M', 20 }, { 'G', 30 }, { 'P', PAGE_SHIFT } };
	char *end;

	if (word[0] < '0' || word[0] > '9')
		return false;
	errno = 0;
	*v = strtoull(word, &end, 0);
	if (errno)
		return false;
	for (unsigned i = 0; i < ARRAY_SIZE(suffixes); i++)
		if (*end == suffixes[i].letter) {
			if (*v << suffixes[i].shift >> suffixes[i].shift != *v)
				return false;
			*v <<= suffixes[i].shift;
			end++;
			break;
		}
	return *end == '\0';
}

static int want_number(struct line *l, const char *what, u64 *v)
{
	const char *word;
	int err = want(l, what, &word);

	if (!err && !parse_number(word, v))
		err = complain(l, "not a number:", word);
	return err;
}

static bool is_name(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool parse_address(const char *word, struct script_addr *a)
{
	*a = (struct script_addr){ .name = -1 };
	if (!is_name(word[0]))
		return parse_number(word, &a->offset);
	a->name = word[0] - 'A';
	if (word[1] == '+')
		return parse_number(word + 2, &a->offset);
	return word[1] == '\0';
}

static int want_address(struct line *l, struct script_addr *a)
{
	const char *word;
	int err = want(l, "an address", &word);

	if (!err && !parse_address(word, a))
		err = complain(l, "not an address:", word);
	return err;
}

static int want_range(struct line *l, struct script_op *op)
{
	int err = want_address(l, &op->addr);

	return err ? err : want_number(l, "a length", &op->len);
}

static int want_byte(struct line *l, int *byte)
{
	u64 v = 0;
	int err = want_number(l, "a byte", &v);

	if (!err && v > 255)
		err = complain(l, "not a byte:", l->words[l->at - 1]);
	*byte = v;
	return err;
}

static int want_bit(struct line *l, int *bit)
{
	u64 v = 0;
	int err = want_number(l, "0 or 1", &v);

	if (!err && v > 1)
		err = complain(l, "neither 0 nor 1:", l->words[l->at - 1]);
	*bit = (int)v;
	return err;
}

static int want_prot(struct line *l, u32 *prot)
{
	static const struct {
		char letter;
		u32 flag;
	} rights[] = { { 'r', VM_READ }, { 'w', VM_WRITE }, { 'x', VM_EXEC } };
	const char *word, *c;
	int err = want(l, "a protection", &word);

	*prot = 0;
	if (err || !strcmp(word, "none"))
		return err;
	c = word;
	for (unsigned i = 0; i < ARRAY_SIZE(rights); i++)
		if (*c == rights[i].letter) {
			*prot |= rights[i].flag;
			c++;
		}
	return *c ? complain(l, "not a protection:", word) : 0;
}

static int want_file(struct line *l, struct script_op *op)
{
	const char *word;
	int err = want(l, "a file", &word);

	if (!err && (word[0] < 'a' || word[0] > 'z' || word[1]))
		err = complain(l, "not a file (a to z):", word);
	if (!err)
		op->file = word[0] - 'a';
	return err;
}

/* A byte, if the line's outcome does not come next. */
static int accept_byte(struct line *l, int *byte)
{
	return !peek(l) || !strcmp(peek(l), "->") ? 0 : want_byte(l, byte);
}

static int want_name(struct line *l, int *name)
{
	const char *word;
	int err = want(l, "a name", &word);

	if (!err && (!is_name(word[0]) || word[1]))
		err = complain(l, "not a name (A to Z):", word);
	if (!err)
		*name = word[0] - 'A';
	return err;
}

/* "as X", or nothing. */
static int accept_as(struct line *l, int *as)
{
	return accept(l, "as") ? want_name(l, as) : 0;
}

/* ---- operations ---- */

static int parse_map(struct line *l, struct script_op *op)
{
	int err = 0;

	op->addr.name = -1;
	if (!accept(l, "any"))
		err = want_address(l, &op->addr);
	if (!err)
		err = want_number(l, "a length", &op->len);
	if (!err)
		err = want_prot(l, &op->prot);
	if (err)
		return err;
	if (accept(l, "fixed"))
		op->flags |= VMAP_FIXED;
	else if (accept(l, "noreplace"))
		op->flags |= VMAP_FIXED_NOREPLACE;
	if (accept(l, "locked"))
		op->vm_flags |= VM_LOCKED;
	if (accept(l, "dontcopy"))
		op->vm_flags |= VM_DONTCOPY;
	if (accept(l, "wipeonfork"))
		op->vm_flags |= VM_WIPEONFORK;
	if (accept(l, "stack"))
		op->vm_flags |= VM_GROWSDOWN;
	if (accept(l, "file")) {
		err = want_file(l, op);
		if (!err)
			err = want_number(l, "an offset", &op->offset);
		if (err)
			return err;
		if (op->offset % PAGE_SIZE)
			return complain_there(l, "the offset is not one of a page",
					      l->words[l->at - 1]);
		if (accept(l, "shared"))
			op->vm_flags |= VM_SHARED | VM_MAYSHARE;
		else if (!accept(l, "private"))
			return complain_next(l, "a file is mapped shared or private");
	}
	return accept_as(l, &op->as);
}

static int parse_kernel_map(struct line *l, struct script_op *op)
{
	int err = want_number(l, "a length", &op->len);

	if (!err && (!op->len || op->len % PAGE_SIZE))
		return complain_there(l, "the length is not one of pages", l->words[l->at - 1]);
	if (!err && !accept(l, "as"))
		return complain_next(l, "as what?");
	return err ? err : want_name(l, &op->as);
}

static int parse_remap(struct line *l, struct script_op *op)
{
	int err = want_range(l, op);

	if (!err)
		err = want_number(l, "a new length", &op->new_len);
	if (err)
		return err;
	if (accept(l, "maymove"))
		op->flags |= VREMAP_MAYMOVE;
	if (accept(l, "to")) {
		op->flags |= VREMAP_MAYMOVE | VREMAP_FIXED;
		err = want_address(l, &op->to);
		if (err)
			return err;
	}
	if (accept(l, "keep"))
		op->flags |= VREMAP_DONTUNMAP;
	return accept_as(l, &op->as);
}

static int parse_advise(struct line *l, struct script_op *op)
{
	const char *word;
	int err = want_range(l, op);

	if (!err)
		err = want(l, "an advice", &word);
	if (err)
		return err;
	if (!strcmp(word, "dontneed"))
		op->advice = VADV_DONTNEED;
	else if (!strcmp(word, "free"))
		op->advice = VADV_FREE;
	else
		return complain(l, "not an advice:", word);
	return 0;
}

static int parse_touch(struct line *l, struct script_op *op)
{
	const char *word;
	int err = want_range(l, op);

	if (!err)
		err = want(l, "an access", &word);
	if (err)
		return err;
	if (!strcmp(word, "w"))
		op->access = PF_WRITE;
	else if (!strcmp(word, "x"))
		op->access = PF_INSTR;
	else if (strcmp(word, "r"))
		return complain(l, "not an access (r, w or x):", word);
	return 0;
}

static int parse_cpu(struct line *l, struct script_op *op)
{
	u64 n;
	int err = want_number(l, "a CPU", &n);

	if (!err && n >= SOFT_MAX_CPUS)
		err = complain(l, "not a CPU:", l->words[l->at - 1]);
	op->cpu = n;
	return err;
}

static int parse_fork(struct line *l, struct script_op *op)
{
	if (!accept(l, "as"))
		return complain_next(l, "as whom?");
	return want_name(l, &op->process);
}

static int parse_process(struct line *l, struct script_op *op)
{
	op->process = -1;
	return accept(l, "first") ? 0 : want_name(l, &op->process);
}

static int parse_expect(struct line *l, struct script_op *op)
{
	const char *word;
	int found, err = want(l, "a counter", &word);

	if (err)
		return err;
	found = find_word(word, counters, ARRAY_SIZE(counters));
	if (found < 0)
		return complain(l, "unknown counter", word);
	op->counter = found;
	if (op->counter >= COUNT_CACHED)
		err = want_file(l, op);
	if (err)
		return err;
	return want_number(l, "a count", &op->count);
}

/* OFFSET LEN of a file. */
static int want_file_range(struct line *l, struct script_op *op)
{
	int err = want_file(l, op);

	if (!err)
		err = want_number(l, "an offset", &op->offset);
	return err ? err : want_number(l, "a length", &op->len);
}

static int parse_fail(struct line *l, struct script_op *op)
{
	int err = accept(l, "swap") ? 0 : want_file(l, op);

	if (err)
		return err;
	if (accept(l, "write"))
		op->io = RAMFILE_WRITE;
	else if (!accept(l, "read"))
		return complain_next(l, "it is reading or writing that fails");
	if (accept(l, "eio"))
		op->err = -EIO;
	else if (accept(l, "enospc"))
		op->err = -ENOSPC;
	else if (!accept(l, "none"))
		return complain_next(l, "it fails with eio, enospc or none");
	return 0;
}

static int parse_file_arguments(struct line *l, struct script_op *op)
{
	int err;

	switch (op->verb) {
	case OP_FILE:
	case OP_SHMEM:
		err = want_file(l, op);
		if (!err)
			err = want_number(l, "a size", &op->len);
		return err ? err : accept_byte(l, &op->byte);
	case OP_FREAD:
		err = want_file_range(l, op);
		return err ? err : accept_byte(l, &op->byte);
	case OP_FWRITE:
		err = want_file_range(l, op);
		return err ? err : want_byte(l, &op->byte);
	case OP_TRUNCATE:
		err = want_file(l, op);
		return err ? err : want_number(l, "a size", &op->len);
	case OP_PUNCH:
		return want_file_range(l, op);
	case OP_FAIL:
		return parse_fail(l, op);
	default: /* sync, evict, close */
		return want_file(l, op);
	}
}

static int parse_arguments(struct line *l, struct script_op *op)
{
	int err;

	switch (op->verb) {
	case OP_MAP:
		return parse_map(l, op);
	case OP_KMAP:
		return parse_kernel_map(l, op);
	case OP_UNMAP:
	case OP_PAGEOUT:
		return want_range(l, op);
	case OP_PROTECT:
		err = want_range(l, op);
		return err ? err : want_prot(l, &op->prot);
	case OP_REMAP:
		return parse_remap(l, op);
	case OP_ADVISE:
		return parse_advise(l, op);
	case OP_READ:
	case OP_COPYIN:
	case OP_KREAD:
		err = want_range(l, op);
		return err ? err : accept_byte(l, &op->byte);
	case OP_WRITE:
	case OP_COPYOUT:
	case OP_KWRITE:
		err = want_range(l, op);
		return err ? err : want_byte(l, &op->byte);
	case OP_DIRTY:
		err = want_range(l, op);
		return err ? err : want_bit(l, &op->byte);
	case OP_TOUCH:
	case OP_TOGETHER:
		return parse_touch(l, op);
	case OP_RECLAIM:
		return want_number(l, "a number of pages", &op->count);
	case OP_FORK:
		return parse_fork(l, op);
	case OP_PROCESS:
		return parse_process(l, op);
	case OP_EXIT:
		return want_name(l, &op->process);
	case OP_CPU:
		return parse_cpu(l, op);
	case OP_CHECK:
	case OP_MEASURE:
		return 0;
	case OP_EXPECT:
		return parse_expect(l, op);
	default:
		return parse_file_arguments(l, op);
	}
}

/* ---- outcomes ---- */

static int parse_segv(struct line *l, struct script_op *op)
{
	op->expected.kind = OUT_FAULT;
	if (accept(l, "maperr"))
		op->expected.reason = FAULT_MAPERR;
	else if (accept(l, "accerr"))
		op->expected.reason = FAULT_ACCERR;
	else
		return complain_next(l, "segv is maperr or accerr");
	return 0;
}

static int parse_outcome(struct line *l, struct script_op *op)
{
	const char *word;
	int err;

	if (!accept(l, "->"))
		return 0;
	err = want(l, "an outcome", &word);
	if (err || !strcmp(word, "ok"))
		return err;
	if (!strcmp(word, "segv"))
		return parse_segv(l, op);
	op->expected.kind = OUT_FAULT;
	op->expected.reason = FAULT_BUS;
	if (!strcmp(word, "bus"))
		return 0;
	op->expected.reason = FAULT_OOM;
	if (!strcmp(word, "oom"))
		return 0;
	op->expected.kind = OUT_ERRNO;
	for (unsigned i = 0; i < ARRAY_SIZE(errors); i++)
		if (!strcmp(word, errors[i].word)) {
			op->expected.err = errors[i].err;
			return 0;
		}
	op->expected.kind = OUT_ADDRESS;
	if ((op->verb != OP_MAP && op->verb != OP_REMAP) ||
	    !parse_address(word, &op->expected_address))
		return complain(l, "unknown outcome", word);
	return 0;
}

/* ---- lines ---- */

/* Take the next line of [*text, end) apart, and go past it. */
static int split_line(struct line *l, const char **text, const char *end)
{
	const char *start = *text, *stop = memchr(start, '\n', end - start);
	size_t used, len = (stop ? stop : end) - start;
	char *save = NULL, *word;
	const char *nul, *comment = memchr(start, '#', len);

	l->n = l->at = 0;
	l->end = 1;
	l->number++;
	nul = memchr(start, '\0', len);
	if (nul)
		return complain_at(l, nul - start + 1, "a zero byte is no text", NULL);
	used = comment ? (size_t)(comment - start) : len;
	if (used >= MAX_LINE)
		return complain_at(l, MAX_LINE, "the line is too long", NULL);
	memcpy(l->text, start, used);
	l->text[used] = '\0';
	*text = stop ? stop + 1 : end;
	for (word = strtok_r(l->text, " \t\r", &save); word;
	     word = strtok_r(NULL, " \t\r", &save)) {
		if (l->n == MAX_WORDS)
			return complain_there(l, "too many words", word);
		l->words[l->n++] = word;
		l->end = (unsigned)(word - l->text + strlen(word)) + 1;
	}
	return 0;
}

static int parse_line(struct line *l, struct script_op *op)
{
	const char *word = l->words[l->at++];
	int err, found = find_word(word, verbs, ARRAY_SIZE(verbs));

	if (found < 0)
		return complain(l, "unknown operation", word);
	*op = (struct script_op){
		.line = l->number, .verb = found, .byte = -1, .as = -1, .file = -1
	};
	err = parse_arguments(l, op);
	if (!err)
		err = parse_outcome(l, op);
	if (!err && peek(l))
		err = complain(l, "unexpected", peek(l));
	return err;
}

static int append(struct script *s, const struct script_op *op)
{
	struct script_op *grown = s->ops;

	if ((s->n & (s->n - 1)) == 0) /* full at each power of two */
		grown = realloc(s->ops, (s->n ? 2 * s->n : 1) * sizeof(*op));
	if (!grown)
		return -ENOMEM;
	s->ops = grown;
	s->ops[s->n++] = *op;
	return 0;
}

int script_parse(const char *text, size_t size, struct script **script, char *message)
{
	const char *end = text + size;
	struct line l = { .message = message };
	struct script *s = calloc(1, sizeof(*s));
	struct script_op op;
	int err = s ? 0 : -ENOMEM;

	message[0] = '\0';
	while (!err && text < end) {
		err = split_line(&l, &text, end);
		if (err || !l.n)
			continue;
		err = parse_line(&l, &op);
		if (!err)
			err = append(s, &op);
	}
	if (err)
		script_free(s);
	else
		*script = s;
	return err;
}

void script_free(struct script *s)
{
	if (s)
		free(s->ops);
	free(s);
}
