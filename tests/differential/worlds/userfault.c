/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: the kernel's and the engine's compared.
 *
 * Random operations of a program (map, unmap, protect, drop, move, touch) and of its monitor
 * (register, copy, ... on two contexts), each sequence with its own features.  A fault or an event
 * that an operation of the program leads to is answered by a fixed policy, the same on both sides;
 * now and then the monitor does something else before it reads of it, while the layout changes.
 * What is compared after each: what it returned, every message and what came of the answer to it,
 * every entry of the window, and where its areas begin and end.  Each sequence ends with a look at
 * all bytes.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/userfault/uapi.h"
#include "tests/differential/worlds/swap_area.h"
#include "tests/differential/worlds/userfault.h"
#include "tests/differential/worlds/world.h"

enum { MOST_VALUES = 400, MOST_ANSWERS = 6 };
#define HOW_THINGS_ARE (-77777) /* between what came of an operation and how things are then */

/* All that is seen of one operation. */
struct record {
	unsigned n;
	s64 values[MOST_VALUES];
	/* For the report: what it came to, its first message, what was done besides. */
	s64 result;
	unsigned messages;
	struct uf_msg first;
	unsigned nr_besides;
	struct {
		u32 kind;
		s64 result;
	} besides[1 + UF_CONTEXTS];
	u8 pages[UF_PAGES]; /* as they are then */
};

static void note(struct record *r, s64 value)
{
	if (r->n == MOST_VALUES)
		abort();
	r->values[r->n++] = value;
}

static const char *const names[UF_KINDS] = {
	"map",	      "unmap",	    "protect",	"dontneed", "remap",	    "read",	  "write",
	"file_write", "file_punch", "fork",	"pageout",  "register",	    "unregister", "wake",
	"copy",	      "zeropage",   "continue", "move",	    "writeprotect", "poison",
};

static const struct step_field fields[] = {
	STEP_FIELD(struct uf_op, ctx),	STEP_FIELD(struct uf_op, page),
	STEP_FIELD(struct uf_op, n),	STEP_FIELD(struct uf_op, page2),
	STEP_FIELD(struct uf_op, mode), STEP_FIELD(struct uf_op, backing),
	STEP_FIELD(struct uf_op, byte), STEP_FIELD(struct uf_op, crooked),
	STEP_FIELD(struct uf_op, luck), STEP_FIELD(struct uf_op, meanwhile),
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
	ROW_CHANGING,
	ROW_GONE,
	ROW_EARLY,
	ROW_BUSY,
	ROW_OVERLAP,
	ROW_OVER,
	ROW_DONE, /* of each operation of the monitor */
	ROW_PARTLY = ROW_DONE + UF_KINDS - UF_REGISTER,
	NR_ROWS,
	/* with swap */
	ROW_OUT = NR_ROWS,
	ROW_OUT_MOVED,
	NR_SWAP_ROWS
};
static const char *const rows[NR_SWAP_ROWS] = {
	[ROW_MISSING] = "a fault on a missing page",
	[ROW_MINOR] = "a fault on a page that the file has",
	[ROW_WP] = "a fault on a write-protected page",
	[ROW_FORK] = "event fork",
	[ROW_REMAP] = "event remap",
	[ROW_REMOVE] = "event remove",
	[ROW_UNMAP] = "event unmap",
	[ROW_BUS] = "SIGBUS: poison, or the feature",
	[ROW_CHANGING] = "an operation while the layout changes",
	[ROW_GONE] = "an operation on a child that is gone",
	[ROW_EARLY] = "a fault is answered before it is read of",
	[ROW_BUSY] = "pages that a child has had are not moved",
	[ROW_OVER] = "what is marked or poisoned is filled",
	[ROW_OVERLAP] = "pages move to where some of them are",
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
	[ROW_OUT] = "pages are swapped out",
	[ROW_OUT_MOVED] = "a page that is swapped out is moved",
};

static void generate(struct script *s)
{
	uf_generate(s, false);
}

static void generate_swapped(struct script *s)
{
	uf_generate(s, true);
}

static bool fits(const void *step)
{
	const struct uf_op *op = step;
	u32 pages =
		op->kind == UF_FILE_WRITE || op->kind == UF_FILE_PUNCH ? UF_FILE_PAGES : UF_PAGES;
	bool touch = op->kind == UF_READ || op->kind == UF_WRITE;

	return op->page < pages && op->n <= pages - op->page && op->ctx < UF_CONTEXTS &&
	       op->backing < UF_BACKINGS && op->page2 < (touch ? PAGE_SIZE : UF_PAGES) &&
	       op->crooked < UF_CROOKEDS &&
	       (!op->meanwhile || (op->meanwhile >= UF_WAKE && op->meanwhile < UF_KINDS));
}

/* ---- doing ---- */

static s64 do_monitor(const struct uf_side *side, const struct uf_op *op, struct record *r)
{
	s64 done, result = side->monitor(op, &done);

	note(r, result);
	note(r, done);
	return result;
}

/* An operation that the fixed policy has nothing to do with. */
static void do_besides(const struct uf_side *side, const struct uf_op *op, unsigned ctx,
		       struct record *r)
{
	struct uf_op other = { .kind = op->meanwhile,
			       .ctx = ctx,
			       .page = op->page,
			       .n = 1,
			       .page2 = (op->page + 1) % UF_PAGES,
			       .byte = op->byte };

	if (other.kind == UF_WRITEPROTECT)
		other.mode = UAPI_UFFDIO_WRITEPROTECT_MODE_WP;
	r->besides[r->nr_besides].kind = other.kind;
	r->besides[r->nr_besides++].result = do_monitor(side, &other, r);
}

/* What the fault is answered with; `turn`: how often it has been in this operation. */
static void answer(const struct uf_side *side, const struct uf_msg *msg, unsigned turn, u64 luck,
		   struct record *r)
{
	unsigned page = (unsigned)((msg->b - UF_BASE) >> PAGE_SHIFT);
	struct uf_op op = { .ctx = msg->ctx, .page = page, .n = 1, .byte = luck >> 8 & 0xff };
	bool wake = (luck >> 24 & 3) == 0;

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
	/* Done, but nobody has been woken yet. */
	if (wake && op.kind != UF_UNREGISTER)
		op.mode |= op.kind == UF_WRITEPROTECT ? UAPI_UFFDIO_WRITEPROTECT_MODE_DONTWAKE
						      : UAPI_UFFDIO_MODE_DONTWAKE;
	/* The kernel does not wake those who wait for a minor fault when it unregisters. */
	if (!do_monitor(side, &op, r) && op.kind != UF_UNREGISTER && !wake)
		return;
	op.kind = UF_WAKE;
	op.n = 1;
	do_monitor(side, &op, r);
}

static void note_message(struct record *r, const struct uf_msg *msg)
{
	note(r, msg->event);
	note(r, msg->ctx);
	note(r, (s64)msg->a);
	note(r, (s64)msg->b);
	note(r, (s64)msg->c);
	if (!r->messages++)
		r->first = *msg;
}

/* An operation of the program, and what it leads to. */
static void do_program(const struct uf_side *side, const struct uf_op *op, struct record *r)
{
	u64 luck = mix(op->luck | 1);
	struct uf_msg msg;
	unsigned turn = 0;
	int ctx;

	side->start(op);
	while ((ctx = side->wait(&r->result)) >= 0) {
		/* Not yet read: the layout is changing, or who has faulted waits to be told of. */
		if (op->meanwhile && !r->nr_besides)
			do_besides(side, op, (unsigned)ctx, r);
		if (!side->next(ctx, &msg))
			continue;
		note_message(r, &msg);
		luck = mix(luck);
		if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
			answer(side, &msg, turn++, luck, r);
	}
	note(r, r->result);
	/* The child has gone, and what watched it is still there. */
	for (unsigned i = UF_CONTEXTS; op->meanwhile && i < 2 * UF_CONTEXTS; i++)
		if (side->has(i))
			do_besides(side, op, i, r);
	side->close_childs();
}

static void do_op(const struct uf_side *side, const struct uf_op *op, struct record *r)
{
	u8 areas[UF_PAGES][2];
	unsigned n;

	r->n = r->messages = r->nr_besides = 0;
	if (op->kind >= UF_REGISTER)
		r->result = do_monitor(side, op, r);
	else
		do_program(side, op, r);
	note(r, HOW_THINGS_ARE);
	n = side->look(r->pages, areas);
	for (unsigned i = 0; i < UF_PAGES; i++)
		note(r, r->pages[i]);
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

static enum row message_row(const struct uf_msg *msg)
{
	u64 flags = msg->a;

	switch (msg->event) {
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

/* What an operation of the monitor came to. */
static void count_monitor(u64 *row, const struct uf_op *op, const u8 *before,
			  const struct record *r)
{
	s64 done = op->kind == UF_REGISTER ? 0 : r->values[1];

	row[ROW_DONE + op->kind - UF_REGISTER] += r->result >= 0;
	row[ROW_PARTLY] += r->result < 0 && done > 0;
	if (op->kind == UF_COPY && done > 0)
		row[ROW_OVER] += (before[op->page] & UF_OTHER) != 0;
	if (op->kind != UF_MOVE)
		return;
	row[ROW_BUSY] += r->result == -EBUSY;
	if (done <= 0)
		return;
	row[ROW_OVERLAP] += op->page < op->page2 + op->n && op->page2 < op->page + op->n;
	row[ROW_OUT_MOVED] += (before[op->page2] & UF_OTHER) != 0;
}

/* Of the first message and the result: what else it led to is in the same words. */
static void count_rows(struct world_trial *t, const struct uf_op *op, const u8 *before,
		       const struct record *r)
{
	u64 *row = t->rows;

	for (unsigned i = 0; op->kind == UF_PAGEOUT && i < UF_PAGES; i++)
		row[ROW_OUT] += (before[i] & UF_PRESENT) && (r->pages[i] & UF_OTHER);
	if (op->kind >= UF_REGISTER) {
		count_monitor(row, op, before, r);
	} else if (!r->messages) {
		row[ROW_BUS] += r->result == UF_BUS;
		row[ROW_EARLY] += r->nr_besides != 0;
	} else {
		row[message_row(&r->first)]++;
	}
	for (unsigned i = 0; i < r->nr_besides; i++) {
		s64 result = r->besides[i].result;

		row[ROW_CHANGING] += result == -EAGAIN;
		row[ROW_GONE] += result == -ESRCH;
		t->besides[r->besides[i].kind][result < 0 ? -result : 0]++;
	}
}

static bool begin_sides(const struct script *s, bool engine_only)
{
	return uf_engine.begin(s->setting) && (engine_only || uf_real.begin(s->setting));
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	static struct record real, engine;
	u8 before[UF_PAGES] = { 0 };

	if (!begin_sides(s, engine_only)) {
		t->verdict = VERDICT_TROUBLE;
		snprintf(t->text, sizeof(t->text), "a side cannot begin");
		return;
	}
	for (unsigned i = 0; i < s->n && t->verdict == VERDICT_SAME; i++) {
		struct uf_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		do_op(&uf_engine, &op, &engine);
		t->results[i] = op.kind >= UF_REGISTER ? engine.result : 0;
		count_rows(t, &op, before, &engine);
		memcpy(before, engine.pages, sizeof(before));
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

static const char *open_swapped(bool engine_only)
{
	if (!engine_only && !swap_area_find())
		return "the swap area is gone";
	return open_world(engine_only);
}

/* Two worlds of the same operations. */
#define USERFAULT_WORLD                                                                            \
	.calls = names, .nr_calls = UF_KINDS, .fields = fields, .nr_fields = ARRAY_SIZE(fields),   \
	.rows = rows, .fits = fits, .perform = perform

const struct oracle_world world_userfault = {
	.name = "userfault",
	.about = "userfaultfd (root): every operation and event, two contexts",
	USERFAULT_WORLD,
	.nr_rows = NR_ROWS,
	.open = open_world,
	.generate = generate,
};

const struct oracle_world world_userfaultswap = {
	.name = "userfaultswap",
	.about = "the same with a swap area of its own (root): pages that are swapped out",
	USERFAULT_WORLD,
	.nr_rows = NR_SWAP_ROWS,
	.set_up = swap_area_make,
	.take_down = swap_area_remove,
	.open = open_swapped,
	.generate = generate_swapped,
};
