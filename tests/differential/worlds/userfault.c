/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: the kernel's and the engine's compared.
 *
 * Random operations of a program (map, unmap, protect, drop, move, touch) and of its monitor
 * (register, copy, ... on two contexts), each sequence with its own features.  A fault or an event
 * that an operation of the program leads to is answered by a fixed policy, the same on both sides.
 * What is compared after each: what it returned, every message and what came of the answer to it,
 * every entry of the window, and where its areas begin and end.  Each sequence ends with a look at
 * all bytes.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/userfault/uapi.h"
#include "tests/differential/worlds/userfault.h"
#include "tests/differential/worlds/world.h"

enum { RANDOM_STEPS = 50, MOST_VALUES = 400, MOST_ANSWERS = 6 };
#define HOW_THINGS_ARE (-77777) /* between what came of an operation and how things are then */

/* All that is seen of one operation. */
struct record {
	unsigned n;
	s64 values[MOST_VALUES];
};

static void note(struct record *r, s64 value)
{
	if (r->n == MOST_VALUES)
		abort();
	r->values[r->n++] = value;
}

static const char *const names[UF_KINDS] = {
	"map",	      "unmap",	    "protect", "dontneed",     "remap",	     "read", "write",
	"file_write", "file_punch", "fork",    "register",     "unregister", "wake", "copy",
	"zeropage",   "continue",   "move",    "writeprotect", "poison",
};

static const struct step_field fields[] = {
	STEP_FIELD(struct uf_op, ctx),	STEP_FIELD(struct uf_op, page),
	STEP_FIELD(struct uf_op, n),	STEP_FIELD(struct uf_op, page2),
	STEP_FIELD(struct uf_op, mode), STEP_FIELD(struct uf_op, backing),
	STEP_FIELD(struct uf_op, byte), STEP_FIELD(struct uf_op, crooked),
	STEP_FIELD(struct uf_op, luck),
};

enum row {
	ROW_MISSING,
	ROW_MINOR,
	ROW_WP,
	ROW_FORK,
	ROW_REMAP,
	ROW_REMOVE,
	ROW_UNMAP,
	ROW_BUS,
	ROW_DONE, /* of each operation of the monitor */
	ROW_PARTLY = ROW_DONE + UF_KINDS - UF_REGISTER,
	NR_ROWS
};
static const char *const rows[NR_ROWS] = {
	[ROW_MISSING] = "a fault on a missing page",
	[ROW_MINOR] = "a fault on a page that the file has",
	[ROW_WP] = "a fault on a write-protected page",
	[ROW_FORK] = "event fork",
	[ROW_REMAP] = "event remap",
	[ROW_REMOVE] = "event remove",
	[ROW_UNMAP] = "event unmap",
	[ROW_BUS] = "SIGBUS: poison, or the feature",
	[ROW_DONE] = "register",
	"unregister",
	"wake",
	"copy",
	"zeropage",
	"continue",
	"move",
	"writeprotect",
	"poison",
	[ROW_PARTLY] = "an operation of the monitor is done in part",
};

/* ---- generating ---- */

/* What was mapped and registered lately in this session: most operations are aimed at it, for most
 * of what is done anywhere is refused. */
static struct range {
	unsigned page, n, ctx, backing;
} mapped[3], registered[3];
static unsigned nr_mapped, nr_registered;

static void remember(const struct uf_op *op)
{
	struct range range = { op->page, op->n, op->ctx, op->backing };

	if (!op->n)
		return;
	if (op->kind == UF_MAP)
		mapped[nr_mapped++ % 3] = range;
	if (op->kind == UF_REGISTER)
		registered[nr_registered++ % 3] = range;
}

static unsigned most(unsigned n)
{
	return n < 3 ? n : 3;
}

static void aim_at(struct uf_op *op, const struct range *range)
{
	op->page = range->page + (unsigned)chance(range->n);
	if (op->n > range->page + range->n - op->page)
		op->n = range->page + range->n - op->page;
}

static void aim(struct uf_op *op)
{
	const struct range *range;

	if (!(unsigned)chance(5))
		return;
	if ((op->kind == UF_REGISTER || (op->kind == UF_WRITE && (unsigned)chance(2))) &&
	    nr_mapped) {
		range = &mapped[(unsigned)chance(most(nr_mapped))];
		aim_at(op, range);
		op->backing = range->backing;
	} else if (op->kind != UF_MAP && op->kind != UF_REGISTER && nr_registered) {
		range = &registered[(unsigned)chance(most(nr_registered))];
		for (unsigned i = 0; i < most(nr_registered); i++)
			if ((op->kind == UF_CONTINUE && registered[i].backing == UF_SHARED) ||
			    (op->kind == UF_MOVE && registered[i].backing == UF_ANON))
				range = &registered[i];
		aim_at(op, range);
		if (op->kind > UF_REGISTER)
			op->ctx = range->ctx;
	}
	if (op->kind == UF_MOVE && nr_mapped && op->n) {
		range = &mapped[(unsigned)chance(most(nr_mapped))];
		op->page2 = range->page + (unsigned)chance(range->n);
		if (op->page2 + op->n > UF_PAGES)
			op->page2 = UF_PAGES - op->n;
	}
}

static struct uf_op random_op(void)
{
	static const u8 weights[UF_KINDS] = { 2,  1, 3, 7,  2, 14, 16, 5,  2, 2,
					      14, 2, 1, 12, 6, 6,  8,  12, 3 };
	unsigned sum = 0, pick, kind = 0;
	struct uf_op op = { .luck = chance(1ULL << 40) };

	for (unsigned i = 0; i < UF_KINDS; i++)
		sum += weights[i];
	for (pick = (unsigned)chance(sum); pick >= weights[kind]; pick -= weights[kind++])
		;
	op.kind = kind;
	op.ctx = (unsigned)chance(5) == 0;
	op.page = (unsigned)chance(UF_PAGES);
	op.n = 1 + (unsigned)chance((unsigned)chance(4) ? 3 : 12);
	if (op.page + op.n > UF_PAGES)
		op.n = UF_PAGES - op.page;
	op.byte = 1 + (unsigned)chance(255);
	if (kind >= UF_REGISTER && !(unsigned)chance(40))
		op.n = 0;
	op.crooked = kind >= UF_REGISTER && !(unsigned)chance(40);
	if (kind == UF_REGISTER)
		op.n *= 4;
	if (op.page + op.n > UF_PAGES)
		op.n = UF_PAGES - op.page;
	if (kind == UF_MOVE)
		op.page2 = (unsigned)chance(UF_PAGES - op.n + 1);
	aim(&op);
	switch (kind) {
	case UF_MAP:
		op.backing = (unsigned)chance(UF_BACKINGS + 2);
		if (op.backing >= UF_BACKINGS)
			op.backing = UF_ANON;
		op.n = 4 + (unsigned)chance(12);
		if (op.page + op.n > UF_PAGES)
			op.page = UF_PAGES - op.n;
		op.page2 = (unsigned)chance(UF_FILE_PAGES); /* of the file */
		op.mode = (unsigned)chance(6) ? PROT_READ | PROT_WRITE : PROT_READ;
		break;
	case UF_PROTECT:
		op.mode = (unsigned)chance(3)	? PROT_READ | PROT_WRITE
			  : (unsigned)chance(3) ? PROT_READ
						: PROT_NONE;
		break;
	case UF_READ:
	case UF_WRITE:
		op.page2 = (unsigned)chance(2) ? 0 : (unsigned)chance(PAGE_SIZE); /* a byte of it */
		break;
	case UF_REMAP:
		op.page2 = (unsigned)chance(UF_PAGES - op.n + 1);
		break;
	case UF_FILE_WRITE:
	case UF_FILE_PUNCH:
		op.page = (unsigned)chance(UF_FILE_PAGES);
		op.n = 1 + (unsigned)chance(UF_FILE_PAGES - op.page);
		break;
	case UF_FORK:
		op.n = op.n > 4 ? 4 : op.n;
		op.mode = (unsigned)chance(2);
		break;
	case UF_REGISTER:
		/* MINOR is for files. */
		op.mode = (unsigned)chance(8) ? 1 + (unsigned)chance(op.backing == UF_ANON ? 3 : 7)
					      : (unsigned)chance(9);
		break;
	case UF_MOVE:
		/* What overlaps moves onto itself, and how far is nobody's promise. */
		if (op.page2 < op.page + op.n && op.page < op.page2 + op.n)
			op.n = 0;
		op.mode = (unsigned)chance(8) ? (unsigned)chance(3) & 2 : (unsigned)chance(9);
		break;
	case UF_COPY:
	case UF_CONTINUE:
		op.mode = (unsigned)chance(8) ? ((unsigned)chance(3) ? 0 : 1 + (unsigned)chance(2))
					      : (unsigned)chance(9);
		break;
	case UF_WRITEPROTECT:
		op.mode = (unsigned)chance(8) ? (unsigned)chance(4) != 0 : (unsigned)chance(9);
		break;
	case UF_ZEROPAGE:
	case UF_POISON:
		op.mode = (unsigned)chance(8) ? 0 : (unsigned)chance(4);
		break;
	default:
		break;
	}
	return op;
}

static u64 random_features(void)
{
	static const u64 some[] = {
		UAPI_UFFD_FEATURE_EVENT_REMAP,	  UAPI_UFFD_FEATURE_EVENT_REMOVE,
		UAPI_UFFD_FEATURE_EVENT_UNMAP,	  UAPI_UFFD_FEATURE_EXACT_ADDRESS,
		UAPI_UFFD_FEATURE_WP_UNPOPULATED, UAPI_UFFD_FEATURE_EVENT_FORK,
	};
	u64 features = 0;

	for (unsigned i = 0; i < sizeof(some) / sizeof(*some); i++)
		if (chance(2))
			features |= some[i];
	if (!chance(8))
		features |= UAPI_UFFD_FEATURE_SIGBUS;
	if (!chance(6))
		features |= UAPI_UFFD_FEATURE_WP_ASYNC;
	return features;
}

static void generate(struct script *s)
{
	nr_mapped = nr_registered = 0;
	for (unsigned i = 0; i < UF_CONTEXTS; i++)
		s->setting[i] = random_features();
	for (s->n = 0; s->n < RANDOM_STEPS + UF_PAGES; s->n++) {
		struct uf_op op;

		do
			op = random_op();
		while ((s->n < 3 && op.kind != UF_MAP) ||
		       (s->n >= 3 && s->n < 6 && op.kind != UF_REGISTER));
		if (s->n >= RANDOM_STEPS)
			op = (struct uf_op){ .kind = UF_READ, .page = s->n - RANDOM_STEPS };
		remember(&op);
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}

static bool fits(const void *step)
{
	const struct uf_op *op = step;
	u32 pages =
		op->kind == UF_FILE_WRITE || op->kind == UF_FILE_PUNCH ? UF_FILE_PAGES : UF_PAGES;
	bool touch = op->kind == UF_READ || op->kind == UF_WRITE;

	return op->page < pages && op->n <= pages - op->page && op->ctx < UF_CONTEXTS &&
	       op->backing < UF_BACKINGS && op->page2 < (touch ? PAGE_SIZE : UF_PAGES) &&
	       op->crooked < 2;
}

/* ---- doing ---- */

static s64 do_monitor(const struct uf_side *side, const struct uf_op *op, struct record *r)
{
	s64 done, result = side->monitor(op, &done);

	note(r, result);
	note(r, done);
	return result;
}

/* What the fault is answered with; `turn`: how often it has been in this operation. */
static void answer(const struct uf_side *side, const struct uf_msg *msg, unsigned turn, u64 luck,
		   struct record *r)
{
	unsigned page = (unsigned)((msg->b - UF_BASE) >> PAGE_SHIFT);
	struct uf_op op = { .ctx = msg->ctx, .page = page, .n = 1, .byte = luck >> 8 & 0xff };

	if (turn >= MOST_ANSWERS) {
		op.kind = UF_UNREGISTER;
	} else if (msg->a & UAPI_UFFD_PAGEFAULT_FLAG_WP) {
		op.kind = UF_WRITEPROTECT;
	} else if (msg->a & UAPI_UFFD_PAGEFAULT_FLAG_MINOR) {
		op.kind = UF_CONTINUE;
		op.mode = luck & 1 ? UAPI_UFFDIO_CONTINUE_MODE_WP : 0;
	} else {
		static const enum uf_kind kinds[8] = { UF_COPY, UF_COPY,     UF_COPY, UF_ZEROPAGE,
						       UF_MOVE, UF_ZEROPAGE, UF_COPY, UF_POISON };

		op.kind = kinds[luck & 7];
		op.page2 = (page + 1 + (luck >> 16) % (UF_PAGES - 1)) % UF_PAGES;
		if (op.kind == UF_COPY && (luck >> 4 & 3) == 0)
			op.mode = UAPI_UFFDIO_COPY_MODE_WP;
		if (op.kind == UF_COPY && (luck >> 6 & 3) == 0 && page + 3 <= UF_PAGES)
			op.n = 3;
	}
	/* The kernel does not wake those who wait for a minor fault when it unregisters. */
	if (!do_monitor(side, &op, r) && op.kind != UF_UNREGISTER)
		return;
	op.kind = UF_WAKE;
	op.n = 1;
	do_monitor(side, &op, r);
}

static void do_op(const struct uf_side *side, const struct uf_op *op, struct record *r)
{
	u8 pages[UF_PAGES], areas[UF_PAGES][2];
	struct uf_msg msg;
	u64 luck = mix(op->luck | 1);
	unsigned turn = 0, n;
	s64 result;

	r->n = 0;
	if (op->kind >= UF_REGISTER) {
		do_monitor(side, op, r);
	} else {
		side->start(op);
		while (side->next(&msg, &result)) {
			note(r, msg.event);
			note(r, msg.ctx);
			note(r, (s64)msg.a);
			note(r, (s64)msg.b);
			note(r, (s64)msg.c);
			luck = mix(luck);
			if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
				answer(side, &msg, turn++, luck, r);
		}
		note(r, result);
	}
	note(r, HOW_THINGS_ARE);
	n = side->look(pages, areas);
	for (unsigned i = 0; i < UF_PAGES; i++)
		note(r, pages[i]);
	for (unsigned i = 0; i < n; i++) {
		note(r, areas[i][0]);
		note(r, areas[i][1]);
	}
}

/* ---- comparing ---- */

static void print_record(struct world_trial *t, const char *name, const struct record *r)
{
	size_t used = strlen(t->text), size = sizeof(t->text);

	used += (size_t)snprintf(t->text + used, size - used, "%s:", name);
	for (unsigned i = 0; i < r->n && used + 32 < size; i++) {
		if (r->values[i] == HOW_THINGS_ARE)
			used += (size_t)snprintf(t->text + used, size - used, " |");
		else
			used += (size_t)snprintf(t->text + used, size - used,
						 r->values[i] > 1000000 ? " %llx" : " %lld",
						 (unsigned long long)r->values[i]);
	}
	snprintf(t->text + used, size - used, "\n");
}

static enum row event_row(s64 event, s64 flags)
{
	switch (event) {
	case UAPI_UFFD_EVENT_FORK:
		return ROW_FORK;
	case UAPI_UFFD_EVENT_REMAP:
		return ROW_REMAP;
	case UAPI_UFFD_EVENT_REMOVE:
		return ROW_REMOVE;
	case UAPI_UFFD_EVENT_UNMAP:
		return ROW_UNMAP;
	default:
		return flags & UAPI_UFFD_PAGEFAULT_FLAG_WP	? ROW_WP
		       : flags & UAPI_UFFD_PAGEFAULT_FLAG_MINOR ? ROW_MINOR
								: ROW_MISSING;
	}
}

/* Of the first message and the result: what else it led to is in the same words. */
static void count_rows(u64 *row, const struct uf_op *op, const struct record *r)
{
	const s64 *v = r->values;

	if (op->kind >= UF_REGISTER) {
		row[ROW_DONE + op->kind - UF_REGISTER] += v[0] >= 0;
		row[ROW_PARTLY] += v[0] < 0 && v[1] > 0;
	} else if (v[1] == HOW_THINGS_ARE) {
		row[ROW_BUS] += v[0] == UF_BUS;
	} else {
		row[event_row(v[0], v[2])]++;
	}
}

static bool begin_sides(const struct script *s, bool engine_only)
{
	return uf_engine.begin(s->setting) && (engine_only || uf_real.begin(s->setting));
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	static struct record real, engine;

	if (!begin_sides(s, engine_only)) {
		t->verdict = VERDICT_TROUBLE;
		snprintf(t->text, sizeof(t->text), "a side cannot begin");
		return;
	}
	for (unsigned i = 0; i < s->n && t->verdict == VERDICT_SAME; i++) {
		struct uf_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		do_op(&uf_engine, &op, &engine);
		t->results[i] = op.kind >= UF_REGISTER ? engine.values[0] : 0;
		count_rows(t->rows, &op, &engine);
		if (engine_only)
			continue;
		do_op(&uf_real, &op, &real);
		if (real.n == engine.n && !memcmp(real.values, engine.values, real.n * sizeof(s64)))
			continue;
		t->verdict = VERDICT_DIFFERS;
		t->at = i;
		print_record(t, "kernel", &real);
		print_record(t, "engine", &engine);
	}
	uf_engine.end();
	if (!engine_only)
		uf_real.end();
}

static const char *open_world(bool engine_only)
{
	static const u64 none[UF_CONTEXTS];

	if (engine_only)
		return NULL;
	if (!uf_real.begin(none))
		return "userfaultfd is not allowed here, or the kernel has none";
	uf_real.end();
	return NULL;
}

const struct oracle_world world_userfault = {
	.name = "userfault",
	.about = "userfaultfd (root): every operation and event, two contexts",
	.calls = names,
	.nr_calls = UF_KINDS,
	.fields = fields,
	.nr_fields = sizeof(fields) / sizeof(*fields),
	.rows = rows,
	.nr_rows = NR_ROWS,
	.open = open_world,
	.generate = generate,
	.fits = fits,
	.perform = perform,
};
