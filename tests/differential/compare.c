/* SPDX-License-Identifier: MIT */
/* Comparing two traces; compare.h. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/differential/compare.h"
#include "tests/differential/op_text.h"

/* ---- what is not compared ---- */

static bool does_more(const struct support *s, const struct op *op, const struct record *real)
{
	(void)s;
	(void)real;
	return op->call == CALL_FORK || op->call == CALL_LIMIT || op->call == CALL_BALLAST;
}

static bool no_page_fault(const struct support *s, const struct op *op, const struct record *real)
{
	(void)s;
	(void)op;
	return real->signal.number && real->signal.trap != 14;
}

static bool locks_all(const struct support *s, const struct op *op, const struct record *real)
{
	(void)s;
	(void)real;
	return op->call == CALL_MLOCKALL && (op->arg[0] & MCL_CURRENT);
}

static bool chosen_place(const struct support *s, const struct op *op, const struct record *real)
{
	(void)s;
	return (op->call == CALL_MMAP || op->call == CALL_MREMAP) &&
	       real->result == RESULT_ELSEWHERE;
}

/* There are two more, which are not of a field: an address that the system chose outside of the
 * arena is RESULT_ELSEWHERE on both sides, and shared objects are numbered as they are seen. */
const struct mask masks[] = {
	{ "runner-faults",
	  "the real process itself faults in these: after a fork on its stack, and reading /proc",
	  FIELD_MINOR | FIELD_MAJOR, does_more },
	{ "stale-cr2", "without a page fault CR2 is that of some earlier fault, of anything",
	  FIELD_CR2, no_page_fault },
	{ "other-memory", "mlockall(MCL_CURRENT) faults in what else the real process has",
	  FIELD_MINOR | FIELD_MAJOR, locks_all },
	{ "chosen-place",
	  "how many faults populate a file's area depends on where in a window of 64 KiB it begins",
	  FIELD_MINOR | FIELD_MAJOR, chosen_place },
};
const unsigned nr_masks = ARRAY_SIZE(masks);

/* ---- words ---- */

const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name ? name : "?";
}

const char *field_name(enum field field)
{
	switch (field) {
	case FIELD_STATE:
		return "done or not";
	case FIELD_RESULT:
		return "result";
	case FIELD_VALUE:
		return "value";
	case FIELD_SIGNAL:
		return "signal";
	case FIELD_CR2:
		return "CR2";
	case FIELD_MINOR:
		return "minor faults";
	case FIELD_MAJOR:
		return "major faults";
	case FIELD_AREAS:
		return "areas";
	case FIELD_DETAILS:
		return "details of areas";
	case FIELD_DIRTY:
		return "dirty pages";
	case FIELD_PAGES:
		return "pages";
	case FIELD_SHARING:
		return "sharing of pages";
	case FIELD_SIDE:
		return "failure";
	}
	return "?";
}

static void print_signal(const struct record *r, char *buf, size_t size)
{
	char addr[40], cr2[40];

	snprintf(buf, size, "%s code %d address %s trap %u error 0x%x cr2 %s",
		 r->signal.number == 7 ? "SIGBUS" : "SIGSEGV", r->signal.code,
		 address_print(r->signal.address, addr, sizeof(addr)), r->signal.trap,
		 r->signal.error, address_print(r->signal.cr2, cr2, sizeof(cr2)));
}

static bool gives_address(const struct op *op)
{
	return op->call == CALL_MMAP || op->call == CALL_MREMAP || op->call == CALL_BRK;
}

const char *record_print(const struct op *op, const struct record *r, char *buf, size_t size)
{
	if (r->state != RECORD_DONE)
		snprintf(buf, size, "not done");
	else if (r->signal.number)
		print_signal(r, buf, size);
	else if (r->result < 0)
		snprintf(buf, size, "-%s", errno_name(-r->result));
	else if (gives_address(op) && r->result == RESULT_ELSEWHERE)
		snprintf(buf, size, "elsewhere");
	else if (gives_address(op))
		address_print(r->result, buf, size);
	else if (r->value)
		snprintf(buf, size, "%lld (0x%llx)", (long long)r->result,
			 (unsigned long long)r->value);
	else
		snprintf(buf, size, "%lld", (long long)r->result);
	return buf;
}

static size_t print_area(const struct seen_area *a, char *buf, size_t size)
{
	int n = snprintf(buf, size, "[%u-%u %c%c%c%c", a->start, a->end,
			 a->perms & SEEN_READ ? 'r' : '-', a->perms & SEEN_WRITE ? 'w' : '-',
			 a->perms & SEEN_EXEC ? 'x' : '-', a->perms & SEEN_SHARED ? 's' : 'p');

	if (a->object && n < (int)size)
		n += snprintf(buf + n, size - n, " object %u page %llu", a->object,
			      (unsigned long long)a->pgoff);
	if (a->flags && n < (int)size)
		n += snprintf(buf + n, size - n, " flags %x rss %u anonymous %u dirty %u", a->flags,
			      a->rss, a->anonymous, a->dirty);
	if (n < (int)size)
		n += snprintf(buf + n, size - n, "]");
	return n;
}

static void print_areas(const struct observation *o, char *buf, size_t size)
{
	size_t used = 0;

	buf[0] = '\0';
	for (unsigned i = 0; i < o->nr_areas && used < size; i++)
		used += print_area(&seen_areas(o)[i], buf + used, size - used);
}

static void print_page(const struct seen_page *p, char *buf, size_t size)
{
	if (p)
		snprintf(buf, size, "page %u%s%s sum %08x", p->page,
			 p->state & SEEN_IS_FILE ? " file" : "",
			 p->state & SEEN_EXCLUSIVE ? " exclusive" : "", p->sum);
	else
		snprintf(buf, size, "none");
}

/* ---- comparing ---- */

static bool differ(struct mismatch *m, enum field field, const char *real, const char *engine)
{
	m->field = field;
	snprintf(m->text, sizeof(m->text), "%s: kernel %.225s; engine %.225s", field_name(field),
		 real, engine);
	return false;
}

static bool same_signal(const struct record_signal *a, const struct record_signal *b)
{
	return a->number == b->number && a->code == b->code && a->address == b->address &&
	       a->trap == b->trap && a->error == b->error;
}

static unsigned record_fields(const struct record *a, const struct record *b)
{
	return (a->state != b->state ? FIELD_STATE : 0) |
	       (a->result != b->result ? FIELD_RESULT : 0) |
	       (a->value != b->value ? FIELD_VALUE : 0) |
	       (!same_signal(&a->signal, &b->signal) ? FIELD_SIGNAL : 0) |
	       (a->signal.cr2 != b->signal.cr2 ? FIELD_CR2 : 0) |
	       (a->minor != b->minor ? FIELD_MINOR : 0) | (a->major != b->major ? FIELD_MAJOR : 0);
}

static unsigned area_fields(const struct seen_area *a, const struct seen_area *b, bool closely)
{
	if (a->start != b->start || a->end != b->end || a->perms != b->perms ||
	    a->object != b->object || a->pgoff != b->pgoff)
		return FIELD_AREAS;
	if (!closely)
		return 0;
	return (a->flags != b->flags || a->rss != b->rss || a->anonymous != b->anonymous
			? FIELD_DETAILS
			: 0) |
	       (a->dirty != b->dirty ? FIELD_DIRTY : 0);
}

static unsigned areas_fields(const struct observation *a, const struct observation *b, bool closely)
{
	unsigned fields = 0;

	if (a->nr_areas != b->nr_areas)
		return FIELD_AREAS;
	for (unsigned i = 0; i < a->nr_areas; i++)
		fields |= area_fields(&seen_areas(a)[i], &seen_areas(b)[i], closely);
	return fields;
}

static unsigned page_fields(const struct seen_page *a, const struct seen_page *b)
{
	if (!a || !b || a->page != b->page || a->sum != b->sum ||
	    (a->state | SEEN_EXCLUSIVE) != (b->state | SEEN_EXCLUSIVE))
		return FIELD_PAGES;
	return a->state != b->state ? FIELD_SHARING : 0;
}

/* The first page that differs in one of `fields`; *field: in which.  False: none. */
static bool find_page(const struct observation *a, const struct observation *b, unsigned fields,
		      unsigned *field, const struct seen_page **pa, const struct seen_page **pb)
{
	unsigned most = max_of(a->nr_pages, b->nr_pages);

	for (unsigned i = 0; i < most; i++) {
		*pa = i < a->nr_pages ? &seen_pages(a)[i] : NULL;
		*pb = i < b->nr_pages ? &seen_pages(b)[i] : NULL;
		*field = page_fields(*pa, *pb) & fields;
		if (*field)
			return true;
	}
	return false;
}

static bool observations_same(const struct observation *a, const struct observation *b,
			      bool closely, unsigned compared, unsigned *differing,
			      struct mismatch *m)
{
	char real[226], engine[226];
	const struct seen_page *pa, *pb;
	unsigned fields, field;

	if (!a || !b)
		return true;
	fields = areas_fields(a, b, closely);
	*differing |= fields;
	fields &= compared;
	if (fields) {
		print_areas(a, real, sizeof(real));
		print_areas(b, engine, sizeof(engine));
		return differ(m, fields & -fields, real, engine);
	}
	if (find_page(a, b, ~0u, &field, &pa, &pb))
		*differing |= field;
	if (find_page(a, b, compared, &field, &pa, &pb)) {
		print_page(pa, real, sizeof(real));
		print_page(pb, engine, sizeof(engine));
		return differ(m, field, real, engine);
	}
	return true;
}

static unsigned compared_fields(const struct support *s, const struct op *op,
				const struct record *real)
{
	unsigned fields = ~0u;

	for (unsigned i = 0; i < nr_masks; i++)
		if (masks[i].applies(s, op, real))
			fields &= ~masks[i].fields;
	return fields;
}

static void count_masks(const struct support *s, const struct op *op, const struct record *real,
			unsigned differing, u64 *masked)
{
	for (unsigned i = 0; i < nr_masks; i++)
		if ((masks[i].fields & differing) && masks[i].applies(s, op, real))
			masked[i]++;
}

static bool records_same(const struct op *op, const struct record *a, const struct record *b,
			 unsigned compared, unsigned *differing, struct mismatch *m)
{
	unsigned fields = record_fields(a, b);
	char real[226], engine[226];

	*differing |= fields;
	fields &= compared;
	if (!fields)
		return true;
	fields &= -fields;
	record_print(op, a, real, sizeof(real));
	record_print(op, b, engine, sizeof(engine));
	if (fields == FIELD_MINOR || fields == FIELD_MAJOR) {
		snprintf(real, sizeof(real), "%u minor, %u major", a->minor, a->major);
		snprintf(engine, sizeof(engine), "%u minor, %u major", b->minor, b->major);
	}
	return differ(m, fields, real, engine);
}

bool traces_same(const struct support *support, const struct sequence *s, const struct trace *real,
		 const struct trace *engine, struct mismatch *m, u64 *masked)
{
	for (m->op = 0; m->op < s->n; m->op++) {
		const struct op *op = &s->ops[m->op];
		const struct record *a = &real->records[m->op], *b = &engine->records[m->op];
		unsigned compared = compared_fields(support, op, a), differing = 0;

		if (!records_same(op, a, b, compared, &differing, m) ||
		    !observations_same(record_seen(real, a), record_seen(engine, b),
				       op->call == CALL_CHECK, compared, &differing, m))
			return false;
		if (differing)
			count_masks(support, op, a, differing, masked);
	}
	return true;
}
