/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd: the kernel's and the engine's compared.
 *
 *   userfault [--operations N] [--seed S] [--engine] [--verbose]
 *
 * Random operations of a program (map, unmap, protect, drop, move, touch) and of its monitor
 * (register, copy, ... on two contexts), in sessions of fifty, each with its own features.  A fault
 * or an event that an operation of the program leads to is answered by a fixed policy, the same on
 * both sides.  What is compared after each: what it returned, every message and what came of the
 * answer to it, every entry of the window, and where its areas begin and end.  Each session ends
 * with a look at all bytes.  --engine: nothing is compared, for builds that watch the engine.
 *
 * Ends with 0, 1 (a difference, with the operations that led there), or 77: not allowed here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/userfault/uapi.h"
#include "tests/differential/userfault.h"

enum { SESSION = 50, MOST_VALUES = 400, MOST_ANSWERS = 6 };

/* All that is seen of one operation. */
struct record {
	unsigned n;
	s64 values[MOST_VALUES];
};

static u64 rnd;
static bool verbose;

static u64 mix(u64 x)
{
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x;
}
static unsigned below(unsigned n)
{
	rnd = mix(rnd);
	return (unsigned)((rnd * 0x2545f4914f6cdd1dULL >> 33) % n);
}

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

static void print_op(const struct uf_op *op)
{
	printf("%s ctx %u page %u n %u page2 %u mode %x backing %u byte %u%s\n", names[op->kind],
	       op->ctx, op->page, op->n, op->page2, op->mode, op->backing, op->byte,
	       op->crooked ? " crooked" : "");
}

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
	op->page = range->page + below(range->n);
	if (op->n > range->page + range->n - op->page)
		op->n = range->page + range->n - op->page;
}

static void aim(struct uf_op *op)
{
	const struct range *range;

	if (!below(5))
		return;
	if ((op->kind == UF_REGISTER || (op->kind == UF_WRITE && below(2))) && nr_mapped) {
		range = &mapped[below(most(nr_mapped))];
		aim_at(op, range);
		op->backing = range->backing;
	} else if (op->kind != UF_MAP && op->kind != UF_REGISTER && nr_registered) {
		range = &registered[below(most(nr_registered))];
		for (unsigned i = 0; i < most(nr_registered); i++)
			if ((op->kind == UF_CONTINUE && registered[i].backing == UF_SHARED) ||
			    (op->kind == UF_MOVE && registered[i].backing == UF_ANON))
				range = &registered[i];
		aim_at(op, range);
		if (op->kind > UF_REGISTER)
			op->ctx = range->ctx;
	}
	if (op->kind == UF_MOVE && nr_mapped && op->n) {
		range = &mapped[below(most(nr_mapped))];
		op->page2 = range->page + below(range->n);
		if (op->page2 + op->n > UF_PAGES)
			op->page2 = UF_PAGES - op->n;
	}
}

static struct uf_op random_op(void)
{
	static const u8 weights[UF_KINDS] = { 2,  1, 3, 7,  2, 14, 16, 5,  2, 2,
					      14, 2, 1, 12, 6, 6,  8,  12, 3 };
	unsigned sum = 0, pick, kind = 0;
	struct uf_op op = { 0 };

	for (unsigned i = 0; i < UF_KINDS; i++)
		sum += weights[i];
	for (pick = below(sum); pick >= weights[kind]; pick -= weights[kind++])
		;
	op.kind = kind;
	op.ctx = below(5) == 0;
	op.page = below(UF_PAGES);
	op.n = 1 + below(below(4) ? 3 : 12);
	if (op.page + op.n > UF_PAGES)
		op.n = UF_PAGES - op.page;
	op.byte = 1 + below(255);
	if (kind >= UF_REGISTER && !below(40))
		op.n = 0;
	op.crooked = kind >= UF_REGISTER && !below(40);
	if (kind == UF_REGISTER)
		op.n *= 4;
	if (op.page + op.n > UF_PAGES)
		op.n = UF_PAGES - op.page;
	if (kind == UF_MOVE)
		op.page2 = below(UF_PAGES - op.n + 1);
	aim(&op);
	switch (kind) {
	case UF_MAP:
		op.backing = below(UF_BACKINGS + 2);
		if (op.backing >= UF_BACKINGS)
			op.backing = UF_ANON;
		op.n = 4 + below(12);
		if (op.page + op.n > UF_PAGES)
			op.page = UF_PAGES - op.n;
		op.page2 = below(UF_FILE_PAGES); /* of the file */
		op.mode = below(6) ? PROT_READ | PROT_WRITE : PROT_READ;
		break;
	case UF_PROTECT:
		op.mode = below(3) ? PROT_READ | PROT_WRITE : below(3) ? PROT_READ : PROT_NONE;
		break;
	case UF_READ:
	case UF_WRITE:
		op.page2 = below(2) ? 0 : below(PAGE_SIZE); /* a byte of it */
		break;
	case UF_REMAP:
		op.page2 = below(UF_PAGES - op.n + 1);
		break;
	case UF_FILE_WRITE:
	case UF_FILE_PUNCH:
		op.page = below(UF_FILE_PAGES);
		op.n = 1 + below(UF_FILE_PAGES - op.page);
		break;
	case UF_FORK:
		op.n = op.n > 4 ? 4 : op.n;
		op.mode = below(2);
		break;
	case UF_REGISTER:
		/* MINOR is for files. */
		op.mode = below(8) ? 1 + below(op.backing == UF_ANON ? 3 : 7) : below(9);
		break;
	case UF_MOVE:
		/* What overlaps moves onto itself, and how far is nobody's promise. */
		if (op.page2 < op.page + op.n && op.page < op.page2 + op.n)
			op.n = 0;
		op.mode = below(8) ? below(3) & 2 : below(9);
		break;
	case UF_COPY:
	case UF_CONTINUE:
		op.mode = below(8) ? (below(3) ? 0 : 1 + below(2)) : below(9);
		break;
	case UF_WRITEPROTECT:
		op.mode = below(8) ? below(4) != 0 : below(9);
		break;
	case UF_ZEROPAGE:
	case UF_POISON:
		op.mode = below(8) ? 0 : below(4);
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
		if (below(2))
			features |= some[i];
	if (!below(8))
		features |= UAPI_UFFD_FEATURE_SIGBUS;
	if (!below(6))
		features |= UAPI_UFFD_FEATURE_WP_ASYNC;
	return features;
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

static void do_op(const struct uf_side *side, const struct uf_op *op, u64 luck, struct record *r)
{
	u8 pages[UF_PAGES], areas[UF_PAGES][2];
	struct uf_msg msg;
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
	note(r, -77777); /* from here on: how things are */
	n = side->look(pages, areas);
	for (unsigned i = 0; i < UF_PAGES; i++)
		note(r, pages[i]);
	for (unsigned i = 0; i < n; i++) {
		note(r, areas[i][0]);
		note(r, areas[i][1]);
	}
}

/* ---- comparing ---- */

static void print_record(const char *name, const struct record *r)
{
	printf("  %s:", name);
	for (unsigned i = 0; i < r->n; i++) {
		if (r->values[i] == -77777)
			printf(" |");
		else if (r->values[i] > 1000000)
			printf(" %llx", (unsigned long long)r->values[i]);
		else
			printf(" %lld", (long long)r->values[i]);
	}
	printf("\n");
}

static struct uf_op ops[SESSION + UF_PAGES];
static u64 counts[UF_KINDS], failed[UF_KINDS], partial[UF_KINDS], messages;

static void count(const struct uf_op *op, const struct record *r)
{
	bool ok = r->values[0] >= 0;

	counts[op->kind]++;
	if (op->kind >= UF_REGISTER && !ok)
		failed[op->kind]++;
	if (op->kind >= UF_REGISTER && !ok && r->values[1] > 0)
		partial[op->kind]++;
	if (op->kind < UF_REGISTER && r->values[0] >= UAPI_UFFD_EVENT_PAGEFAULT && r->n > 1 &&
	    r->values[1] != -77777)
		messages++;
}

/* False: they differ, and that has been told. */
static bool do_both(unsigned i, u64 luck, bool engine_only)
{
	static struct record real, engine;
	const struct uf_op *op = &ops[i];

	if (verbose)
		print_op(op);
	do_op(&uf_engine, op, luck, &engine);
	count(op, &engine);
	if (engine.values[0] >= 0)
		remember(op);
	if (engine_only)
		return true;
	do_op(&uf_real, op, luck, &real);
	if (verbose) {
		print_record("kernel", &real);
		print_record("engine", &engine);
	}
	if (real.n == engine.n && !memcmp(real.values, engine.values, real.n * sizeof(s64)))
		return true;
	printf("they differ after:\n");
	for (unsigned k = 0; k <= i; k++)
		print_op(&ops[k]);
	print_record("kernel", &real);
	print_record("engine", &engine);
	return false;
}

static int session(u64 seed, bool engine_only)
{
	u64 features[UF_CONTEXTS];
	unsigned n = 0;
	bool same = true;

	rnd = seed;
	nr_mapped = nr_registered = 0;
	for (unsigned i = 0; i < UF_CONTEXTS; i++)
		features[i] = random_features();
	if (!uf_engine.begin(features))
		return 1;
	if (!engine_only && !uf_real.begin(features))
		return 77;
	for (; same && n < SESSION + UF_PAGES; n++) {
		do
			ops[n] = random_op();
		while ((n < 3 && ops[n].kind != UF_MAP) ||
		       (n >= 3 && n < 6 && ops[n].kind != UF_REGISTER));
		if (n >= SESSION)
			ops[n] = (struct uf_op){ .kind = UF_READ, .page = n - SESSION };
		same = do_both(n, mix(seed * 1000 + n), engine_only);
	}
	if (!same) {
		printf("features %llx %llx\n", (unsigned long long)features[0],
		       (unsigned long long)features[1]);
		return 1;
	}
	uf_engine.end();
	if (!engine_only)
		uf_real.end();
	return 0;
}

int main(int argc, char **argv)
{
	u64 operations = 20000, seed = 1;
	bool engine_only = false;
	int err = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--operations") && i + 1 < argc)
			operations = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--seed") && i + 1 < argc)
			seed = strtoull(argv[++i], NULL, 0);
		else if (!strcmp(argv[i], "--engine"))
			engine_only = true;
		else if (!strcmp(argv[i], "--verbose"))
			verbose = true;
		else
			return 2;
	}
	for (u64 i = 0; !err && i < operations; i += SESSION) {
		u64 s = mix(seed * 0x9e3779b97f4a7c15ULL + i / SESSION + 1) | 1;

		err = session(s, engine_only);
		if (err == 1)
			printf("session %llu of seed %llu\n", (unsigned long long)(i / SESSION),
			       (unsigned long long)seed);
	}
	if (err == 77)
		printf("userfaultfd is not allowed here\n");
	if (err)
		return err;
	for (unsigned k = 0; k < UF_KINDS; k++)
		printf("%-13s %6llu, refused %llu, in part %llu\n", names[k],
		       (unsigned long long)counts[k], (unsigned long long)(failed[k] - partial[k]),
		       (unsigned long long)partial[k]);
	printf("%llu operations led to messages; no difference\n", (unsigned long long)messages);
	return 0;
}
