/* SPDX-License-Identifier: MIT */
/*
 * Sequences for userfaultfd that do something.
 *
 * Most of what is tried anywhere, at any time, is refused.  So the generator keeps a picture of the
 * window while it writes a sequence, and aims most operations at pages where they do something, or
 * at those where they are refused for what is there.  The picture is rough (what a fault is
 * answered with is not in it): it decides what is tried, never what is right.
 */
#include <string.h>
#include <sys/mman.h>

#include "engine/userfault/uapi.h"
#include "tests/differential/worlds/userfault.h"
#include "tests/differential/worlds/world.h"

enum { RANDOM_STEPS = 50 };

enum entry {
	NOTHING,
	OWN,	/* a page that nobody else has */
	COMMON, /* one that a child has had, too */
	ZEROS,	/* the zero page */
	FILES,	/* a page of the object */
	MARK,	/* write-protected, and no page */
	POISON,
	OUT, /* swapped out */
};

static struct page {
	u8 area; /* 0: nothing is mapped */
	u8 backing, prot, ctx /* UF_CONTEXTS: none */, modes;
	u8 index; /* in the file */
	u8 entry; /* enum entry */
	bool wp;
	bool object; /* of shared anonymous memory: it has a page here */
} window[UF_PAGES];
static bool file[UF_FILE_PAGES];
static u64 features[UF_CONTEXTS];
static u8 areas;

/* ---- what is true of a page ---- */

static bool is_anonymous(const struct page *p)
{
	return p->backing == UF_ANON;
}

static bool is_private(const struct page *p)
{
	return p->backing == UF_ANON || p->backing == UF_PRIVATE;
}

static bool is_of_file(const struct page *p)
{
	return p->backing != UF_ANON && p->backing != UF_SHARED_ANON;
}

/* The object behind it has a page, or its end is before it. */
static bool is_behind(const struct page *p)
{
	return is_of_file(p) && p->index >= UF_FILE_PAGES;
}

static bool has_page(const struct page *p)
{
	if (is_of_file(p))
		return !is_behind(p) && file[p->index];
	return p->object;
}

static void set_page(struct page *p, bool there)
{
	if (p->backing == UF_SHARED_ANON)
		p->object = there;
	else if (is_of_file(p) && !is_behind(p))
		file[p->index] = there;
}

static bool alike(const struct page *a, const struct page *b)
{
	return a->area == b->area && a->prot == b->prot && a->ctx == b->ctx && a->modes == b->modes;
}

static bool may_write(const struct page *p)
{
	return p->prot & PROT_WRITE;
}

/* ---- where an operation does something ---- */

/* Is it an area for the operation?  `from`: where MOVE takes pages from. */
static bool suits(const struct uf_op *op, const struct page *p, const struct page *from)
{
	if (!p->area)
		return false;
	switch ((enum uf_kind)op->kind) {
	case UF_REGISTER:
		return p->ctx == UF_CONTEXTS || p->ctx == op->ctx;
	case UF_MOVE:
		return p->ctx < UF_CONTEXTS && is_anonymous(p) && from->area &&
		       is_anonymous(from) && may_write(from) &&
		       (p->prot == from->prot || op->byte % 8 == 0);
	case UF_CONTINUE:
		return p->ctx < UF_CONTEXTS && !is_anonymous(p);
	case UF_WRITEPROTECT:
		return p->modes & UAPI_UFFDIO_REGISTER_MODE_WP;
	case UF_PAGEOUT:
	case UF_WRITE:
	case UF_READ:
		return true;
	default:
		return op->kind < UF_REGISTER || p->ctx < UF_CONTEXTS;
	}
}

static bool is_empty(const struct page *p, bool marks)
{
	return p->entry == NOTHING || (marks && (p->entry == MARK || p->entry == POISON));
}

/* And is there what it is for? */
static bool works(const struct uf_op *op, const struct page *p, const struct page *from)
{
	if (!suits(op, p, from))
		return false;
	switch ((enum uf_kind)op->kind) {
	case UF_COPY:
		return is_empty(p, true) && !is_behind(p) && (is_private(p) || !has_page(p));
	case UF_ZEROPAGE:
		return is_empty(p, !is_private(p)) && !is_behind(p) &&
		       (is_private(p) || !has_page(p));
	case UF_CONTINUE:
		return is_empty(p, true) && has_page(p);
	case UF_MOVE:
		return p->entry == NOTHING &&
		       (from->entry == OWN || from->entry == ZEROS || from->entry == OUT);
	case UF_POISON:
		return p->entry == NOTHING && !is_behind(p);
	case UF_PAGEOUT:
		return p->entry == OWN || p->entry == COMMON || p->entry == FILES;
	case UF_WRITE:
		return may_write(p) && (p->wp || is_empty(p, true) || p->entry == COMMON);
	case UF_READ:
		return p->prot && is_empty(p, true);
	default:
		return true;
	}
}

/* There is what it is refused for, or what only this operation meets. */
static bool teases(const struct uf_op *op, const struct page *p, const struct page *from)
{
	if (!suits(op, p, from))
		return false;
	if (op->kind == UF_MOVE)
		return p->entry == NOTHING && from->entry != NOTHING && !works(op, p, from);
	if (op->kind == UF_COPY)
		return p->entry == POISON || p->entry == MARK || is_behind(p);
	return p->wp || is_behind(p);
}

typedef bool fits_fn(const struct uf_op *op, const struct page *p, const struct page *from);

static bool fits_at(const struct uf_op *op, fits_fn *fits, unsigned page, unsigned page2)
{
	return page < UF_PAGES && page2 < UF_PAGES && fits(op, &window[page], &window[page2]);
}

/* Somewhere it fits.  near: MOVE, not far from where the pages are.  False: nowhere. */
static bool find_place(struct uf_op *op, fits_fn *fits, bool near)
{
	unsigned sources = op->kind == UF_MOVE ? UF_PAGES : 1, found = 0;
	u32 page = 0, page2 = 0;

	for (unsigned i = 0; i < UF_PAGES; i++)
		for (unsigned j = 0; j < sources; j++) {
			if (near && (i == j || i > j + 3 || j > i + 3))
				continue;
			if (!fits_at(op, fits, i, j) || chance(++found))
				continue;
			page = i;
			page2 = j;
		}
	if (!found)
		return false;
	op->page = page;
	if (op->kind == UF_MOVE)
		op->page2 = page2;
	return true;
}

/* As far as it goes on to fit, in one area. */
static void end_where_it_ends(struct uf_op *op, fits_fn *fits)
{
	u32 n = 1, page2 = op->kind == UF_MOVE ? op->page2 : 0;

	while (n < op->n && op->page + n < UF_PAGES &&
	       alike(&window[op->page], &window[op->page + n])) {
		if (op->kind == UF_MOVE &&
		    (page2 + n >= UF_PAGES || !alike(&window[page2], &window[page2 + n])))
			break;
		if (!fits_at(op, fits, op->page + n, op->kind == UF_MOVE ? page2 + n : 0))
			break;
		n++;
	}
	op->n = n;
}

/* Who is asked, where it is, how far it goes: mostly so that it works, and often only nearly.
 * False: it works nowhere. */
static bool aim(struct uf_op *op)
{
	fits_fn *fits = chance(4) ? works : chance(2) ? teases : suits;
	bool near = op->kind == UF_MOVE && !chance(3);

	if (op->kind == UF_MAP || !op->n || !chance(8))
		return true;
	if (!(near && find_place(op, fits, true)) && !find_place(op, fits, false))
		return fits != works;
	if (near)
		op->n = 2 + (u32)chance(6);
	if (op->kind > UF_REGISTER && window[op->page].ctx < UF_CONTEXTS && chance(12))
		op->ctx = window[op->page].ctx;
	if (op->kind != UF_FORK && chance(4))
		end_where_it_ends(op, near ? suits : fits);
	return true;
}

/* ---- what an operation does to the picture ---- */

static void forget_registration(struct page *p)
{
	p->ctx = UF_CONTEXTS;
	p->modes = 0;
	p->wp = false;
}

static void drop_entry(struct page *p)
{
	p->wp = p->wp && !is_anonymous(p);
	p->entry = p->wp ? MARK : NOTHING;
}

static void draw_map(const struct uf_op *op)
{
	areas++;
	for (unsigned i = 0; i < op->n; i++) {
		struct page *p = &window[op->page + i];

		*p = (struct page){ .area = areas,
				    .backing = (u8)op->backing,
				    .prot = (u8)op->mode,
				    .index = (u8)(op->page2 + i) };
		forget_registration(p);
	}
}

static void draw_remap(const struct uf_op *op)
{
	struct page moved[UF_PAGES];

	if (op->page2 < op->page + op->n && op->page < op->page2 + op->n)
		return; /* refused */
	memcpy(moved, &window[op->page], op->n * sizeof(*moved));
	memset(&window[op->page], 0, op->n * sizeof(*moved));
	memcpy(&window[op->page2], moved, op->n * sizeof(*moved));
	areas++;
	for (unsigned i = 0; i < op->n; i++) {
		struct page *p = &window[op->page2 + i];

		p->area = p->area ? areas : 0;
		if (p->ctx < UF_CONTEXTS && !(features[p->ctx] & UAPI_UFFD_FEATURE_EVENT_REMAP))
			forget_registration(p);
	}
}

static void draw_touch(const struct uf_op *op)
{
	struct page *p = &window[op->page];
	bool write = op->kind == UF_WRITE;

	if (!p->area || !p->prot || (write && !may_write(p)) || is_behind(p) || p->entry == POISON)
		return;
	if (is_empty(p, true) && (p->modes & UAPI_UFFDIO_REGISTER_MODE_MISSING) && !has_page(p)) {
		if (features[p->ctx] & UAPI_UFFD_FEATURE_SIGBUS)
			return;
		p->entry = is_private(p) ? OWN : FILES; /* as it is answered mostly */
	} else if (write && is_private(p)) {
		p->entry = OWN;
	} else if (is_anonymous(p)) {
		if (is_empty(p, true))
			p->entry = ZEROS;
		else if (p->entry == OUT)
			p->entry = OWN;
	} else if (is_empty(p, true)) {
		p->entry = FILES;
	}
	if (p->entry == FILES)
		set_page(p, true);
	if (write)
		p->wp = false;
}

static void draw_file(const struct uf_op *op)
{
	bool punch = op->kind == UF_FILE_PUNCH;

	for (unsigned i = 0; i < op->n; i++)
		file[op->page + i] = !punch;
	for (unsigned i = 0; punch && i < UF_PAGES; i++)
		if (is_of_file(&window[i]) && window[i].entry == FILES && !has_page(&window[i]))
			drop_entry(&window[i]);
}

static bool may_register(const struct uf_op *op)
{
	bool any = false;

	for (unsigned i = 0; i < op->n; i++) {
		const struct page *p = &window[op->page + i];

		any |= p->area != 0;
		if (p->area && (!suits(op, p, p) || p->backing == UF_READ_ONLY ||
				(is_anonymous(p) && op->mode & UAPI_UFFDIO_REGISTER_MODE_MINOR)))
			return false;
	}
	return any && op->mode && op->mode < 8 && !op->crooked;
}

/* One page of an operation of the monitor.  False: it is not done, nor are those behind it. */
static bool draw_filled(const struct uf_op *op, struct page *p, struct page *from)
{
	if (!works(op, p, from))
		return false;
	switch ((enum uf_kind)op->kind) {
	case UF_COPY:
	case UF_ZEROPAGE:
		p->entry = !is_private(p) ? FILES : op->kind == UF_COPY ? OWN : ZEROS;
		p->wp = op->kind == UF_COPY && op->mode & UAPI_UFFDIO_COPY_MODE_WP;
		if (!is_private(p))
			set_page(p, true);
		return true;
	case UF_CONTINUE:
		p->entry = FILES;
		p->wp = op->mode & UAPI_UFFDIO_CONTINUE_MODE_WP;
		return true;
	case UF_MOVE:
		p->entry = from->entry;
		from->entry = NOTHING;
		from->wp = false;
		return true;
	case UF_WRITEPROTECT:
		p->wp = op->mode & UAPI_UFFDIO_WRITEPROTECT_MODE_WP;
		if (is_empty(p, true) && p->entry != POISON)
			p->entry = p->wp && (!is_anonymous(p) ||
					     features[p->ctx] & UAPI_UFFD_FEATURE_WP_UNPOPULATED)
					   ? MARK
					   : NOTHING;
		return true;
	default:
		p->entry = POISON;
		return true;
	}
}

static void draw_monitor(const struct uf_op *op)
{
	if (op->kind == UF_WAKE || (op->kind == UF_REGISTER && !may_register(op)))
		return;
	for (unsigned i = 0; i < op->n; i++) {
		struct page *p = &window[op->page + i];
		unsigned from = op->kind == UF_MOVE ? op->page2 + i : 0;

		if (op->kind == UF_REGISTER) {
			p->ctx = p->area ? (u8)op->ctx : UF_CONTEXTS;
			p->modes = p->area ? (u8)op->mode : 0;
		} else if (op->kind == UF_UNREGISTER) {
			if (p->ctx == op->ctx)
				forget_registration(p);
		} else if (from >= UF_PAGES || !draw_filled(op, p, &window[from])) {
			return;
		}
	}
}

static void draw(const struct uf_op *op)
{
	struct page *p = &window[op->page];

	switch ((enum uf_kind)op->kind) {
	case UF_MAP:
		draw_map(op);
		return;
	case UF_UNMAP:
		memset(p, 0, op->n * sizeof(*p));
		return;
	case UF_REMAP:
		draw_remap(op);
		return;
	case UF_READ:
	case UF_WRITE:
		draw_touch(op);
		return;
	case UF_FILE_WRITE:
	case UF_FILE_PUNCH:
		draw_file(op);
		return;
	case UF_FORK:
		for (unsigned i = 0; i < UF_PAGES; i++)
			if (window[i].entry == OWN)
				window[i].entry = COMMON;
		return;
	case UF_PROTECT:
		for (unsigned i = 0; i < op->n; i++)
			p[i].prot = (u8)op->mode;
		return;
	case UF_DONTNEED:
		for (unsigned i = 0; i < op->n; i++)
			drop_entry(&p[i]);
		return;
	case UF_PAGEOUT:
		for (unsigned i = 0; i < op->n; i++)
			if (p[i].entry == FILES)
				drop_entry(&p[i]);
			else if (p[i].entry == OWN)
				p[i].entry = OUT;
		return;
	default:
		draw_monitor(op);
	}
}

/* ---- making one ---- */

static const u8 weights[UF_KINDS] = {
	[UF_MAP] = 2,	     [UF_UNMAP] = 1, [UF_PROTECT] = 3,	     [UF_DONTNEED] = 8,
	[UF_REMAP] = 2,	     [UF_READ] = 10, [UF_WRITE] = 18,	     [UF_FILE_WRITE] = 4,
	[UF_FILE_PUNCH] = 2, [UF_FORK] = 3,  [UF_PAGEOUT] = 8,	     [UF_REGISTER] = 10,
	[UF_UNREGISTER] = 2, [UF_WAKE] = 2,  [UF_COPY] = 12,	     [UF_ZEROPAGE] = 7,
	[UF_CONTINUE] = 9,   [UF_MOVE] = 14, [UF_WRITEPROTECT] = 12, [UF_POISON] = 4,
};

static u32 random_kind(bool swap)
{
	unsigned sum = 0, pick;
	u32 kind = 0;

	for (unsigned i = 0; i < UF_KINDS; i++)
		sum += i == UF_PAGEOUT && !swap ? 0 : weights[i];
	for (pick = (unsigned)chance(sum);; kind++) {
		unsigned weight = kind == UF_PAGEOUT && !swap ? 0 : weights[kind];

		if (pick < weight)
			return kind;
		pick -= weight;
	}
}

static void random_map(struct uf_op *op)
{
	op->backing = (u32)ONE_OF(UF_ANON, UF_ANON, UF_ANON, UF_ANON, UF_SHARED, UF_SHARED,
				  UF_PRIVATE, UF_SHARED_ANON);
	op->mode = chance(8) ? PROT_READ | PROT_WRITE : PROT_READ;
	if (!chance(12))
		op->mode |= PROT_EXEC;
	if (!chance(20)) {
		op->backing = UF_READ_ONLY;
		op->mode = PROT_READ;
	}
	op->n = 4 + (u32)chance(12);
	if (op->page + op->n > UF_PAGES)
		op->page = UF_PAGES - op->n;
	/* Of the file; its end is in the area as well, now and then. */
	op->page2 = (u32)chance(chance(3) ? UF_FILE_PAGES / 2 : UF_FILE_PAGES);
}

/* Sensible modes, or any. */
static u32 random_mode(const struct uf_op *op)
{
	bool sensible = chance(10);

	switch ((enum uf_kind)op->kind) {
	case UF_REGISTER: /* MINOR is for files */
		if (!sensible)
			return (u32)chance(9);
		return 1 + (u32)chance(is_anonymous(&window[op->page]) ? 3 : 7);
	case UF_MOVE:
		return sensible ? (u32)chance(3) & UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES
				: (u32)chance(9);
	case UF_COPY:
	case UF_CONTINUE:
		if (!sensible)
			return (u32)chance(9);
		return chance(3) ? 0 : 1 + (u32)chance(2);
	case UF_WRITEPROTECT:
		return sensible ? chance(4) != 0 : (u32)chance(9);
	case UF_ZEROPAGE:
	case UF_POISON:
		return sensible ? 0 : (u32)chance(4);
	case UF_PROTECT:
		return (u32)ONE_OF(PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
				   PROT_READ | PROT_WRITE, PROT_READ, PROT_READ, PROT_NONE);
	case UF_FORK:
		return (u32)chance(2);
	default:
		return 0;
	}
}

/* What the monitor does while a message waits for it. */
static u32 random_meanwhile(const struct uf_op *op)
{
	bool layout = op->kind == UF_MAP || op->kind == UF_UNMAP || op->kind == UF_DONTNEED ||
		      op->kind == UF_REMAP || op->kind == UF_FORK;

	if (op->kind >= UF_REGISTER || op->kind == UF_PAGEOUT || chance(layout ? 2 : 8))
		return 0;
	return (u32)ONE_OF(UF_WAKE, UF_COPY, UF_COPY, UF_ZEROPAGE, UF_CONTINUE, UF_MOVE,
			   UF_WRITEPROTECT, UF_POISON);
}

/* In the window, whatever the pages were. */
static void clip(struct uf_op *op)
{
	op->n = min_of(op->n, UF_PAGES - op->page);
	if (op->kind == UF_MOVE || op->kind == UF_REMAP)
		op->page2 = min_of(op->page2, UF_PAGES - max_of(op->n, 1u));
}

/* *again: it will be refused, for nothing that is there is for it. */
static struct uf_op random_op(u32 kind, bool *again)
{
	struct uf_op op = { .kind = kind, .luck = chance(1ULL << 40) };

	op.ctx = !chance(5);
	op.page = (u32)chance(UF_PAGES);
	op.page2 = (u32)chance(UF_PAGES);
	op.n = 1 + (u32)chance(chance(4) ? 3 : 12);
	op.byte = (u8)(1 + chance(255));
	if (kind >= UF_REGISTER && !chance(60))
		op.n = 0;
	if (kind >= UF_REGISTER && !chance(60))
		op.crooked = UF_CROOKED_LENGTH;
	if (kind == UF_COPY && !chance(20))
		op.crooked = UF_CROOKED_SOURCE;
	if (kind == UF_REGISTER)
		op.n *= 4;
	clip(&op);
	*again = !aim(&op);
	clip(&op);
	if (kind == UF_MAP) {
		random_map(&op);
	} else {
		op.mode = random_mode(&op);
	}
	if (kind == UF_READ || kind == UF_WRITE)
		op.page2 = chance(2) ? 0 : (u32)chance(PAGE_SIZE); /* a byte of it */
	if (kind == UF_FILE_WRITE || kind == UF_FILE_PUNCH) {
		op.page = (u32)chance(UF_FILE_PAGES);
		op.n = 1 + (u32)chance(UF_FILE_PAGES - op.page);
	}
	if (kind == UF_FORK)
		op.n = min_of(op.n, 4u);
	op.meanwhile = random_meanwhile(&op);
	return op;
}

static u64 random_features(void)
{
	static const u64 some[] = {
		UAPI_UFFD_FEATURE_EVENT_REMAP,	  UAPI_UFFD_FEATURE_EVENT_REMOVE,
		UAPI_UFFD_FEATURE_EVENT_UNMAP,	  UAPI_UFFD_FEATURE_EXACT_ADDRESS,
		UAPI_UFFD_FEATURE_WP_UNPOPULATED, UAPI_UFFD_FEATURE_EVENT_FORK,
	};
	u64 asked = 0;

	for (unsigned i = 0; i < sizeof(some) / sizeof(*some); i++)
		if (chance(2))
			asked |= some[i];
	if (!chance(8))
		asked |= UAPI_UFFD_FEATURE_SIGBUS;
	if (!chance(6))
		asked |= UAPI_UFFD_FEATURE_WP_ASYNC;
	return asked;
}

static struct uf_op random_step(unsigned n, bool swap)
{
	struct uf_op op;
	bool again;

	do
		op = random_op(n < 3 ? UF_MAP : n < 6 ? UF_REGISTER : random_kind(swap), &again);
	while (again && chance(8));
	return op;
}

void uf_generate(struct script *s, bool swap)
{
	memset(window, 0, sizeof(window));
	memset(file, 0, sizeof(file));
	areas = 0;
	for (unsigned i = 0; i < UF_CONTEXTS; i++) {
		s->setting[i] = features[i] = random_features();
		if (features[i] & UAPI_UFFD_FEATURE_WP_ASYNC)
			features[i] |= UAPI_UFFD_FEATURE_WP_UNPOPULATED;
	}
	for (s->n = 0; s->n < RANDOM_STEPS + UF_PAGES; s->n++) {
		struct uf_op op = { .kind = UF_READ };

		if (s->n < RANDOM_STEPS)
			op = random_step(s->n, swap);
		else
			op.page = s->n - RANDOM_STEPS;
		draw(&op);
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}
