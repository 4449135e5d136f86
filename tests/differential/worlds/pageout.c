/* SPDX-License-Identifier: MIT */
/*
 * Swapping on request, on the running kernel and in the engine: MADV_PAGEOUT, COLD and FREE,
 * swapoff in between, what mincore(2) says after each, and what it costs to touch a page again.
 *
 * Compared after each operation: what it returned or read, which pages are there, and the minor and
 * major faults of a touch (but of one that is refused, for a signal touches memory, too).  The
 * kernel swaps to a zram device of the tester's own.
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/differential/worlds/pageout.h"
#include "tests/differential/worlds/swap_area.h"

enum { RANDOM_STEPS = 40 };

static const char *const names[NR_PAGEOUT_CALLS] = {
	"read",		  "write",   "pageout", "cold", "free",	   "dontneed",	  "populate_read",
	"populate_write", "protect", "replace", "move", "swapoff", "child_reads", "child_writes",
};

static const struct step_field fields[] = {
	STEP_FIELD(struct pageout_step, page),
	STEP_FIELD(struct pageout_step, n),
};

enum row {
	ROW_OUT_PRIVATE,
	ROW_OUT_SHARED,
	ROW_BACK_PRIVATE,
	ROW_BACK_SHARED,
	ROW_BACK_BY_ADVICE,
	ROW_SWAPOFF,
	ROW_CHILD,
	ROW_CHILD_SHARED,
	ROW_FREED,
	ROW_DROPPED,
	ROW_MOVED,
	ROW_MINOR,
	ROW_REFUSED,
	NR_ROWS
};
static const char *const rows[NR_ROWS] = {
	[ROW_OUT_PRIVATE] = "private pages go out",
	[ROW_OUT_SHARED] = "shared pages go out",
	[ROW_BACK_PRIVATE] = "a private page comes back, a major fault",
	[ROW_BACK_SHARED] = "a shared page comes back, a major fault",
	[ROW_BACK_BY_ADVICE] = "an advice brings pages back",
	[ROW_SWAPOFF] = "swapoff brings pages back",
	[ROW_CHILD] = "a child touches a private page that is out",
	[ROW_CHILD_SHARED] = "a child touches a shared page that is out",
	[ROW_FREED] = "MADV_FREE of pages that are there",
	[ROW_DROPPED] = "MADV_DONTNEED of pages",
	[ROW_MOVED] = "pages that are out are moved",
	[ROW_MINOR] = "a minor fault",
	[ROW_REFUSED] = "a touch is refused",
};

static void generate(struct script *s)
{
	static const u8 likely[] = { READ,    READ,	WRITE,	     WRITE,	    WRITE,
				     WRITE,   PAGEOUT,	PAGEOUT,     PAGEOUT,	    COLD,
				     FREE,    DONTNEED, PROTECT,     POPULATE_READ, POPULATE_WRITE,
				     REPLACE, MOVE,	CHILD_READS, CHILD_WRITES };

	for (s->n = 0; s->n < RANDOM_STEPS; s->n++) {
		struct pageout_step op = { .call = likely[chance(sizeof(likely))],
					   .page = (u32)chance(PAGES) };

		/* It takes the kernel a while. */
		if (!chance(200))
			op = (struct pageout_step){ .call = SWAPOFF };
		else if (op.call == WRITE || op.call == CHILD_WRITES)
			op.n = (u32)(1 + chance(255));
		else if (op.call == PROTECT)
			op.n = chance(3) ? PROT_READ | PROT_WRITE : PROT_READ;
		else
			op.n = (u32)(1 + chance(PAGES - op.page));
		if (op.call == MOVE) {
			op.page %= PRIVATE_PAGES;
			op.n = min_of(op.n, PRIVATE_PAGES - op.page);
		}
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}

static bool fits(const void *step)
{
	const struct pageout_step *op = step;
	u32 pages = op->call == MOVE ? PRIVATE_PAGES : PAGES;

	if (op->page >= pages)
		return false;
	if (op->call == PROTECT)
		return op->n == PROT_READ || op->n == (PROT_READ | PROT_WRITE);
	if (op->call == SWAPOFF)
		return true;
	if (is_touch(op) || op->call == CHILD_READS || op->call == CHILD_WRITES)
		return op->n < 256;
	return op->n && op->n <= pages - op->page;
}

/* ---- comparing ---- */

/*
 * What a child has touched is brought into the swap cache, where its parent's entry finds it; how
 * long it stays there when the child is gone is nobody's promise.  Until the parent touches it or
 * lets it go, whether it is there is not compared, nor whether that touch is a minor fault or a
 * major one.
 *
 * What swapoff brings back is mapped read-only by Linux and as a fault would map it here; and so is
 * what an advice finds in the swap cache because a child has touched it, while it waits on this CPU
 * to be put on a list.  Whether the first write after either faults is not compared.
 */
static bool same(const struct pageout_step *op, struct pageout_record *a, struct pageout_record *b,
		 bool *unsure, bool *brought_back)
{
	bool child = op->call == CHILD_READS || op->call == CHILD_WRITES;

	if (op->call == SWAPOFF)
		memset(brought_back, true, PAGES);
	for (unsigned i = 0; op->call == POPULATE_READ && i < op->n; i++)
		brought_back[op->page + i] |= unsure[op->page + i];
	if (op->call == WRITE && brought_back[op->page]) {
		a->minor = b->minor = 0;
		brought_back[op->page] = false;
	}
	if (child && op->page < PRIVATE_PAGES)
		unsure[op->page] = true;
	if (is_touch(op) && unsure[op->page] && a->minor + a->major == b->minor + b->major)
		a->minor = b->minor = a->major = b->major = 0;
	if (is_touch(op) && a->result != REFUSED)
		unsure[op->page] = false;
	for (unsigned i = 0; (op->call == DONTNEED || op->call == REPLACE) && i < op->n; i++)
		unsure[op->page + i] = false;
	for (unsigned i = 0; i < PAGES; i++) {
		a->there[i] &= 1;
		b->there[i] &= 1;
		if (unsure[i])
			a->there[i] = b->there[i] = 0;
	}
	return !memcmp(a, b, sizeof(*a));
}

static void print_record(struct world_trial *t, const char *side, const struct pageout_record *r)
{
	size_t used = strlen(t->text);
	char *at = t->text + used, *end = t->text + sizeof(t->text);

	at += snprintf(at, (size_t)(end - at), "%s: %ld, %ld minor, %ld major, there ", side,
		       r->result, r->minor, r->major);
	for (unsigned i = 0; i < PAGES; i++)
		*at++ = r->there[i] & 1 ? '1' : '0';
	snprintf(at, (size_t)(end - at), "\n");
}

/* Pages of this kind that were there before and are not now, or the other way round. */
static unsigned changed(const struct pageout_record *from, const struct pageout_record *to,
			bool shared)
{
	unsigned n = 0, first = shared ? PRIVATE_PAGES : 0;

	for (unsigned i = first; i < first + PRIVATE_PAGES; i++)
		n += (from->there[i] & 1) && !(to->there[i] & 1);
	return n;
}

static void count_rows(u64 *row, const struct pageout_step *op, const struct pageout_record *was,
		       const struct pageout_record *r)
{
	bool gone = changed(was, r, false), gone_shared = changed(was, r, true);
	bool came = changed(r, was, false) + changed(r, was, true);
	bool shared = op->page >= PRIVATE_PAGES;

	switch ((enum pageout_call)op->call) {
	case READ:
	case WRITE:
		row[shared ? ROW_BACK_SHARED : ROW_BACK_PRIVATE] += r->major != 0;
		row[ROW_MINOR] += r->minor != 0;
		row[ROW_REFUSED] += r->result == REFUSED;
		break;
	case PAGEOUT:
		row[ROW_OUT_PRIVATE] += gone;
		row[ROW_OUT_SHARED] += gone_shared;
		break;
	case POPULATE_READ:
	case POPULATE_WRITE:
		row[ROW_BACK_BY_ADVICE] += came;
		break;
	case SWAPOFF:
		row[ROW_SWAPOFF] += came;
		break;
	case CHILD_READS:
	case CHILD_WRITES:
		row[shared ? ROW_CHILD_SHARED : ROW_CHILD] += !(was->there[op->page] & 1);
		break;
	case FREE:
		row[ROW_FREED] += !r->result;
		break;
	case DONTNEED:
		row[ROW_DROPPED] += gone;
		break;
	case MOVE:
		row[ROW_MOVED] += !r->result;
		break;
	default:
		break;
	}
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	static struct pageout_record real[MOST_STEPS], engine[MOST_STEPS];
	static const struct pageout_record empty;
	bool unsure[PAGES] = { false }, brought_back[PAGES] = { false };

	t->verdict = VERDICT_TROUBLE;
	snprintf(t->text, sizeof(t->text), "the engine's side has no memory");
	if (!pageout_engine(s, engine))
		return;
	snprintf(t->text, sizeof(t->text), "the kernel's process ended badly");
	if (!engine_only && !pageout_kernel(s, real))
		return;
	t->text[0] = 0;
	t->verdict = VERDICT_SAME;
	for (unsigned i = 0; i < s->n; i++) {
		struct pageout_step op;

		memcpy(&op, s->steps[i], sizeof(op));
		t->results[i] = engine[i].result;
		count_rows(t->rows, &op, i ? &engine[i - 1] : &empty, &engine[i]);
	}
	for (unsigned i = 0; i < s->n && !engine_only; i++) {
		struct pageout_step op;

		memcpy(&op, s->steps[i], sizeof(op));
		if (same(&op, &engine[i], &real[i], unsure, brought_back))
			continue;
		t->verdict = VERDICT_DIFFERS;
		t->at = i;
		print_record(t, "kernel", &real[i]);
		print_record(t, "engine", &engine[i]);
		return;
	}
}

static const char *open_world(bool engine_only)
{
	return engine_only || swap_area_find() ? NULL : "the swap area is gone";
}

const struct oracle_world world_pageout = {
	.name = "pageout",
	.about = "a swap area of its own (root): MADV_PAGEOUT, COLD, FREE, swapoff, mincore",
	.calls = names,
	.nr_calls = NR_PAGEOUT_CALLS,
	.fields = fields,
	.nr_fields = sizeof(fields) / sizeof(*fields),
	.rows = rows,
	.nr_rows = NR_ROWS,
	.set_up = swap_area_make,
	.take_down = swap_area_remove,
	.open = open_world,
	.generate = generate,
	.fits = fits,
	.perform = perform,
};
