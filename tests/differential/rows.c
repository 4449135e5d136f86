/* SPDX-License-Identifier: MIT */
/* The rows of rows.def, and the table of advice: which of them an operation is a case of. */
#include <errno.h>
#include <linux/mman.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/differential/coverage.h"

/* ---- what the rows look at ---- */

static const struct seen_area *area_at(const struct observation *o, u64 addr)
{
	u64 page = (addr - ARENA_BASE) >> PAGE_SHIFT;
	const struct seen_area *a;

	if (!o || !in_arena(addr, 1))
		return NULL;
	a = seen_areas(o);
	for (unsigned i = 0; i < o->nr_areas; i++, a++)
		if (a->start <= page && page < a->end)
			return a;
	return NULL;
}

/* Is all of the range in areas? */
static bool covered(const struct observation *o, u64 addr, u64 len)
{
	u64 end = addr + len;

	while (addr < end) {
		const struct seen_area *a = area_at(o, addr);

		if (!a)
			return false;
		addr = ARENA_BASE + a->end * PAGE_SIZE;
	}
	return true;
}

static bool same_areas(const struct observation *a, const struct observation *b)
{
	if (a->nr_areas != b->nr_areas)
		return false;
	for (unsigned i = 0; i < a->nr_areas; i++) {
		const struct seen_area *x = &seen_areas(a)[i], *y = &seen_areas(b)[i];

		if (x->start != y->start || x->end != y->end || x->perms != y->perms)
			return false;
	}
	return true;
}

static bool may(const struct seen_area *a)
{
	return a->perms & (SEEN_READ | SEEN_WRITE | SEEN_EXEC);
}

/* How many pages lower the area that grows down begins now. */
static unsigned grew(const struct row_context *c)
{
	const struct seen_area *now = area_at(c->after, c->op->arg[0]), *then;

	if (!now || !c->before || !(now->flags & SEEN_GROWSDOWN) ||
	    area_at(c->before, c->op->arg[0]))
		return 0;
	then = area_at(c->before, ARENA_BASE + (now->end - 1) * PAGE_SIZE);
	return then ? then->start - now->start : 0;
}

/* If the next area above the address grows down: how large it would be with the address. */
static unsigned stack_above(const struct row_context *c)
{
	u64 page = (c->op->arg[0] - ARENA_BASE) >> PAGE_SHIFT;

	if (!in_arena(c->op->arg[0], 1))
		return 0;
	for (unsigned i = 0; i < c->after->nr_areas; i++) {
		const struct seen_area *a = &seen_areas(c->after)[i];

		if (a->end > page)
			return a->start > page && (a->flags & SEEN_GROWSDOWN) ? a->end - page : 0;
	}
	return 0;
}

/* Pages between the address and the nearest area below that (may not) be accessed; many: none. */
static unsigned gap_below(const struct row_context *c, bool accessible)
{
	u64 page = (c->op->arg[0] - ARENA_BASE) >> PAGE_SHIFT;
	unsigned gap = 10000;

	for (unsigned i = 0; in_arena(c->op->arg[0], 1) && i < c->after->nr_areas; i++) {
		const struct seen_area *a = &seen_areas(c->after)[i];

		if (a->end <= page)
			gap = may(a) == accessible ? page - a->end : 10000;
	}
	return gap;
}

/* The page at the address, as it was before; NULL: it was not there. */
static const struct seen_page *page_before(const struct row_context *c)
{
	u64 page = (c->op->arg[0] - ARENA_BASE) >> PAGE_SHIFT;

	for (unsigned i = 0; c->before && in_arena(c->op->arg[0], 1) && i < c->before->nr_pages;
	     i++)
		if (seen_pages(c->before)[i].page == page)
			return &seen_pages(c->before)[i];
	return NULL;
}

static bool was_alone(const struct row_context *c)
{
	const struct seen_page *page = page_before(c);

	return page && (page->state & (SEEN_EXCLUSIVE | SEEN_IS_FILE)) == SEEN_EXCLUSIVE;
}

/* What the process did just before was an msync of the page, which was there. */
static bool just_synced(const struct row_context *c)
{
	const struct op *last = c->last;

	return last && last->call == CALL_MSYNC && page_before(c) &&
	       c->op->arg[0] - last->arg[0] < last->arg[1];
}

/* The areas that touch the one at the address, or NULL. */
static const struct seen_area *neighbour(const struct row_context *c, int which)
{
	const struct seen_area *a = area_at(c->after, c->op->arg[0]), *n = a ? a + which : NULL;

	if (!a || n < seen_areas(c->after) || n >= seen_areas(c->after) + c->after->nr_areas)
		return NULL;
	return which < 0 ? (n->end == a->start ? n : NULL) : (n->start == a->end ? n : NULL);
}

static bool has_neighbour(const struct row_context *c,
			  bool (*is)(const struct seen_area *a, const struct seen_area *n))
{
	const struct seen_area *a = area_at(c->after, c->op->arg[0]);
	const struct seen_area *below = neighbour(c, -1), *above = neighbour(c, 1);

	return (below && is(a, below)) || (above && is(a, above));
}

static bool equal_areas(const struct seen_area *a, const struct seen_area *n)
{
	return a->perms == n->perms && a->flags == n->flags && !n->object;
}

static bool same_file(const struct seen_area *a, const struct seen_area *n)
{
	return a->perms == n->perms && a->flags == n->flags && a->object == n->object;
}

static bool both_objects(const struct seen_area *a, const struct seen_area *n)
{
	return a->perms == n->perms && n->object >= SEEN_OBJECT;
}

static bool stacks(const struct seen_area *a, const struct seen_area *n)
{
	return a->start == n->end && (a->flags & n->flags & SEEN_GROWSDOWN);
}

static bool several_before(const struct row_context *c)
{
	const struct seen_area *a = area_at(c->before, c->op->arg[0]);

	return a && ARENA_BASE + a->end * PAGE_SIZE < c->op->arg[0] + PAGE_ALIGN(c->op->arg[1]) &&
	       area_at(c->before, ARENA_BASE + a->end * PAGE_SIZE);
}

static s64 file_page(const struct row_context *c)
{
	const struct seen_area *a = area_at(c->after, c->op->arg[0]);

	return a ? (s64)(a->pgoff + ((c->op->arg[0] - ARENA_BASE) >> PAGE_SHIFT) - a->start) : -1;
}

/* Pages of its own that private mappings of files have. */
static unsigned private_copies(const struct observation *o)
{
	const struct seen_page *pages = o ? seen_pages(o) : NULL;
	unsigned n = 0;

	for (unsigned i = 0; o && i < o->nr_pages; i++) {
		const struct seen_area *a = area_at(o, ARENA_BASE + pages[i].page * PAGE_SIZE);

		n += a && a->object && !(a->perms & SEEN_SHARED) &&
		     !(pages[i].state & SEEN_IS_FILE);
	}
	return n;
}

/* Pages of the areas in [from, to). */
static s64 mapped_pages(const struct observation *o, u64 from, u64 to)
{
	s64 n = 0;

	for (u64 at = from; o && at < to; at += PAGE_SIZE)
		n += area_at(o, at) != NULL;
	return n;
}

/* How many pages more the arena has from the heap's start on. */
static s64 heap_pages(const struct row_context *c)
{
	return mapped_pages(c->after, HEAP_START, ARENA_END) -
	       mapped_pages(c->before, HEAP_START, ARENA_END);
}

/* Does anything lie from the heap's end to `gap` bytes above where it was to end? */
static bool near_heap(const struct row_context *c, u64 gap)
{
	u64 from = PAGE_ALIGN((u64)c->record->result), to = PAGE_ALIGN(c->op->arg[0]) + gap;

	return in_arena(c->op->arg[0], 0) && mapped_pages(c->after, from, min_of(to, ARENA_END));
}

/* An area that begins at the heap's start, and would merge with the one that ends there. */
static bool apart_at_start(const struct row_context *c)
{
	const struct seen_area *a = area_at(c->after, HEAP_START);
	const struct seen_area *b = area_at(c->after, HEAP_START - 1);

	return a && b && a != b && equal_areas(b, a) && !b->object;
}

/* ---- the words of rows.def ---- */

#define C		   c
#define DID(name)	   (c->op->call == CALL_##name)
#define ARG(i)		   (c->op->arg[i])
#define ADDRESS		   ARG(0)
#define LEN		   ARG(1)
#define HAS(i, bits)	   ((ARG(i) & (bits)) == (bits))
#define LACKS(i, bits)	   (!(ARG(i) & (bits)))
#define ERR(e)		   (c->record->result == -(e))
#define FINE		   (c->record->result >= 0 && !c->record->signal.number)
#define SIGNAL(n, si_code) (c->record->signal.number == (n) && c->record->signal.code == (si_code))
#define SEGV(si_code, err) (SIGNAL(11, si_code) && c->record->signal.error == (err))
#define BUS(err)	   (SIGNAL(7, 2) && c->record->signal.error == (err))
#define MINOR		   (c->record->minor)
#define HUGE		   HAS(3, MAP_HUGETLB | MAP_ANONYMOUS)
#define HUGE_LOG	   (ARG(3) >> 26 & 63)
/* Nothing else is wrong with what mmap is asked for. */
#define MAP_IS_SOUND                                                                               \
	(LEN && LEN <= ARENA_SIZE && ARG(5) == 0 && LACKS(3, MAP_GROWSDOWN) &&                     \
	 ((ARG(3) & 3) == MAP_SHARED || (ARG(3) & 15) == MAP_PRIVATE))
#define IN_ARENA	    in_arena(ADDRESS, 1)
#define AREA		    area_at(c->after, ADDRESS)
#define RIGHTS(bits)	    (AREA && (AREA->perms & (SEEN_READ | SEEN_WRITE | SEEN_EXEC)) == (bits))
#define ANONYMOUS	    (AREA && !AREA->object)
#define FILE_AREA	    (AREA && AREA->object && AREA->object < SEEN_OBJECT)
#define SHARED		    (AREA && AREA->perms & SEEN_SHARED)
#define FILE_PAGE	    file_page(c)
#define COVERED		    covered(c->after, ADDRESS, PAGE_ALIGN(LEN))
#define AREAS_SAME	    same_areas(c->before, c->after)
#define NEW_PAGES	    (c->before ? (int)c->after->nr_pages - (int)c->before->nr_pages : 0)
#define GREW		    grew(c)
#define STACK_ABOVE	    stack_above(c)
#define GAP_BELOW	    gap_below(c, true)
#define NONE_BELOW	    gap_below(c, false)
#define TOUCHES_EQUAL	    has_neighbour(c, equal_areas)
#define NEIGHBOUR_SAME_FILE has_neighbour(c, same_file)
#define NEIGHBOUR_OBJECT    has_neighbour(c, both_objects)
#define SEVERAL_BEFORE	    several_before(c)
#define STACK_BELOW	    has_neighbour(c, stacks)
#define WAS_ALONE	    was_alone(c)
#define JUST_SYNCED	    just_synced(c)
#define LOST_COPIES	    (private_copies(c->before) > private_copies(c->after))

#define HEAP_MOVED     (c->record->result == (s64)ADDRESS)
#define HEAP_STAYED    (c->record->result != (s64)ADDRESS)
#define HEAP_PAGES     heap_pages(c)
#define HEAP_BEFORE    area_at(c->before, HEAP_START)
#define HEAP_BLOCKED   near_heap(c, PAGE_SIZE)
#define NEAR_HEAP      near_heap(c, 300 * PAGE_SIZE)
#define APART_AT_START apart_at_start(c)
#define AREAS_AS_MANY  (c->after->nr_areas == c->before->nr_areas)

#define GLUE2(a, b) a##b
#define GLUE(a, b)  GLUE2(a, b)

#define ROW(name, is)                                                                              \
	static bool GLUE(row_, __LINE__)(const struct row_context *c)                              \
	{                                                                                          \
		return is;                                                                         \
	}
#include "tests/differential/rows.def"
#undef ROW

static const struct {
	const char *name;
	bool (*is)(const struct row_context *c);
} rows[] = {
#define ROW(name, is) { name, GLUE(row_, __LINE__) },
#include "tests/differential/rows.def"
#undef ROW
};

/* ---- advice: what comes of it for areas of six kinds ---- */

enum { KIND_ANONYMOUS, KIND_SHARED, KIND_PRIVATE, KIND_LOCKED, KIND_NONE, KIND_READ, NR_KINDS };

static const char *const kind_names[NR_KINDS] = { "anonymous memory", "a shared file",
						  "a private file",   "locked memory",
						  "PROT_NONE",	      "PROT_READ" };

static const struct {
	const char *name;
	u8 advice, errs[NR_KINDS];
} advices[] = {
	{ "NORMAL", 0, { 0 } },
	{ "RANDOM", 1, { 0 } },
	{ "SEQUENTIAL", 2, { 0 } },
	{ "WILLNEED", 3, { 0 } },
	{ "DONTNEED", 4, { 0, 0, 0, EINVAL, 0, 0 } },
	{ "FREE", 8, { 0, EINVAL, EINVAL, EINVAL, 0, 0 } },
	{ "REMOVE", 9, { EINVAL, 0, EACCES, EINVAL, EINVAL, EINVAL } },
	{ "DONTFORK", 10, { 0 } },
	{ "DOFORK", 11, { 0 } },
	{ "MERGEABLE", 12, { 0 } },
	{ "UNMERGEABLE", 13, { 0 } },
	{ "HUGEPAGE", 14, { 0 } },
	{ "NOHUGEPAGE", 15, { 0 } },
	{ "DONTDUMP", 16, { 0 } },
	{ "DODUMP", 17, { 0 } },
	{ "WIPEONFORK", 18, { 0, EINVAL, EINVAL, 0, 0, 0 } },
	{ "KEEPONFORK", 19, { 0 } },
	{ "COLD", 20, { 0, 0, 0, EINVAL, 0, 0 } },
	{ "PAGEOUT", 21, { 0, 0, 0, EINVAL, 0, 0 } },
	{ "POPULATE_READ", 22, { 0, 0, 0, 0, EINVAL, 0 } },
	{ "POPULATE_WRITE", 23, { 0, 0, 0, 0, EINVAL, EINVAL } },
	{ "DONTNEED_LOCKED", 24, { 0 } },
	{ "COLLAPSE", 25, { EINVAL, EINVAL, EINVAL, EINVAL, EINVAL, EINVAL } },
	{ "GUARD_INSTALL", 102, { 0, 0, 0, EINVAL, 0, 0 } },
	{ "GUARD_REMOVE", 103, { 0 } },
};

#define NR_ADVICE_ROWS (ARRAY_SIZE(advices) * NR_KINDS)

const unsigned nr_rows = ARRAY_SIZE(rows) + NR_ADVICE_ROWS;
_Static_assert(ARRAY_SIZE(rows) + NR_ADVICE_ROWS <= MAX_ROWS, "coverage has too few rows");

/* The kind of the area that the whole range is in, or -1. */
static int kind_of(const struct row_context *c)
{
	const struct seen_area *a = area_at(c->before, ADDRESS);

	if (!a || !LEN || ADDRESS % PAGE_SIZE || !in_arena(ADDRESS, LEN) ||
	    ADDRESS + LEN > ARENA_BASE + a->end * PAGE_SIZE)
		return -1;
	if (a->flags & SEEN_LOCKED)
		return KIND_LOCKED;
	if (!may(a))
		return KIND_NONE;
	if (a->object)
		return a->perms & SEEN_SHARED ? KIND_SHARED : KIND_PRIVATE;
	if (!(a->perms & SEEN_WRITE))
		return KIND_READ;
	return KIND_ANONYMOUS;
}

static void count_advice(u64 *counts, const struct row_context *c)
{
	int kind = kind_of(c);

	if (!DID(MADVISE) || kind < 0)
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(advices); i++)
		if (advices[i].advice == ARG(2) && ERR((int)advices[i].errs[kind]))
			counts[i * NR_KINDS + kind]++;
}

void rows_count(u64 *counts, const struct row_context *c)
{
	for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
		counts[i] += rows[i].is(c);
	count_advice(counts + ARRAY_SIZE(rows), c);
}

const char *row_name(unsigned row)
{
	static char name[80];

	if (row < ARRAY_SIZE(rows))
		return rows[row].name;
	row -= ARRAY_SIZE(rows);
	snprintf(name, sizeof(name), "madvise: %s of %s: %s", advices[row / NR_KINDS].name,
		 kind_names[row % NR_KINDS],
		 advices[row / NR_KINDS].errs[row % NR_KINDS] == EINVAL ? "EINVAL"
		 : advices[row / NR_KINDS].errs[row % NR_KINDS]		? "EACCES"
									: "0");
	return name;
}

static const char *advice_exempt(unsigned row, const struct support *s)
{
	struct op op = { .call = CALL_MADVISE, .arg[2] = advices[row / NR_KINDS].advice };

	return support_has(s, &op) ? NULL : "this kernel has no such advice";
}

const char *row_exempt(unsigned row, const struct support *s)
{
	if (row >= ARRAY_SIZE(rows))
		return advice_exempt(row - ARRAY_SIZE(rows), s);
	if (!s->heap && !strncmp(rows[row].name, "brk:", 4))
		return "the heap cannot be put into the arena (PR_SET_MM_MAP)";
	if (s->huge_pool && strstr(rows[row].name, "MAP_HUGETLB"))
		return "the pools of huge pages are not empty, or there are none";
	return NULL;
}
