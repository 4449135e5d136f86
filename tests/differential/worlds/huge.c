/* SPDX-License-Identifier: MIT */
/*
 * Huge pages, here and in the engine: random sequences over a window of a few huge pages, each
 * operation done by this process and on a soft machine.  Compared after each: what it returns, the
 * byte or the signal that a touch gives, the faults that it cost, mincore(2) of the window, which
 * pages are mapped by huge entries (PAGEMAP_SCAN) or write-protected by userfaultfd, and
 * AnonHugePages.
 *
 * Left out, and why:
 *   - after a child has written to what it shares: the engine splits a page for all spaces at once,
 *     Linux for the child alone.  From then on huge entries and faults are not compared.
 *   - after a part of a huge page, or what is left of one, was made cold or paged out: Linux then
 *     splits the page itself and maps what is all zeros by the zero page.
 *     So it does when a page moves out of one (UFFDIO_MOVE).  What goes by that is left out, too.
 *   - MADV_PAGEOUT of anything but huge entries and what is not there, for the same reason, and
 * where there is no swap area (hugeswap is the world that has one).
 *   - userfaultfd where there is a swap area: a write to a page that was swapped out and is
 * write-protected faults twice here, once to bring it.
 *   - where Linux found no 2 MiB in one piece, or its khugepaged was at work (its own counters say
 *     so), what differs ends the sequence.
 */
#include <string.h>
#include <sys/mman.h>

#include "engine/engine.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "engine/userfault/userfault.h"
#include "tests/differential/worlds/huge.h"
#include "tests/differential/worlds/swap_area.h"
#include "tests/differential/worlds/world.h"

enum { RANDOM_STEPS = 40, LAST_LOOKS = 32, LOOK_EVERY = WINDOW / LAST_LOOKS + 1 };

static const char *const names[OP_KINDS] = { "map",   "unmap", "protect",    "advise",
					     "remap", "watch", "protect_wp", "move",
					     "read",  "write", "fork" };

static const struct step_field fields[] = {
	STEP_FIELD(struct huge_step, page),  STEP_FIELD(struct huge_step, n),
	STEP_FIELD(struct huge_step, page2), STEP_FIELD(struct huge_step, n2),
	STEP_FIELD(struct huge_step, prot),  STEP_FIELD(struct huge_step, advice),
	STEP_FIELD(struct huge_step, byte),
};

enum row {
	ROW_HUGE_FAULT,
	ROW_HUGE_ZERO,
	ROW_SPLIT_UNMAP,
	ROW_SPLIT_PROTECT,
	ROW_SPLIT_REMAP,
	ROW_HUGE_MOVED,
	ROW_GROWN,
	ROW_COLLAPSED,
	ROW_COLLAPSE_REFUSED,
	ROW_NOHUGEPAGE,
	ROW_CHILD_READ,
	ROW_CHILD_WROTE,
	ROW_PAGEOUT_PART,
	ROW_PAGEOUT_WHOLE,
	ROW_GUARDED,
	ROW_WP_WHOLE,
	ROW_WP_SPLIT,
	ROW_WP_ASYNC,
	ROW_MOVED,
	ROW_MOVED_SPLIT,
	ROW_BUS,
	ROW_SIGNAL,
	NR_ROWS
};
static const char *const rows[NR_ROWS] = {
	[ROW_HUGE_FAULT] = "a write brings a huge page",
	[ROW_HUGE_ZERO] = "a read brings the huge zero page",
	[ROW_SPLIT_UNMAP] = "munmap of a part splits a mapping",
	[ROW_SPLIT_PROTECT] = "mprotect of a part splits a mapping",
	[ROW_SPLIT_REMAP] = "mremap splits a mapping",
	[ROW_HUGE_MOVED] = "mremap moves a huge page whole",
	[ROW_GROWN] = "mremap makes an area longer or shorter",
	[ROW_COLLAPSED] = "MADV_COLLAPSE makes a huge page",
	[ROW_COLLAPSE_REFUSED] = "MADV_COLLAPSE is refused",
	[ROW_NOHUGEPAGE] = "MADV_NOHUGEPAGE on huge pages",
	[ROW_CHILD_READ] = "a child reads a huge page",
	[ROW_CHILD_WROTE] = "a child writes to a huge page",
	[ROW_PAGEOUT_PART] = "MADV_PAGEOUT or COLD of a part of huge pages",
	[ROW_PAGEOUT_WHOLE] = "MADV_PAGEOUT or COLD of whole huge pages",
	[ROW_GUARDED] = "guards in place of huge pages",
	[ROW_WP_WHOLE] = "a huge entry is write-protected",
	[ROW_WP_SPLIT] = "UFFDIO_WRITEPROTECT of a part splits a mapping",
	[ROW_WP_ASYNC] = "a write splits a huge page that is write-protected",
	[ROW_MOVED] = "UFFDIO_MOVE moves a huge page whole",
	[ROW_MOVED_SPLIT] = "UFFDIO_MOVE splits a mapping",
	[ROW_BUS] = "a touch is a monitor's",
	[ROW_SIGNAL] = "a touch is refused",
};

/* ---- making operations ---- */

/* Mostly by whole huge pages. */
static void choose_range(u32 *page, u32 *n)
{
	u32 from = (u32)chance(4) * HUGE_PAGES, to;

	if (chance(3) == 0)
		from += (u32)chance(HUGE_PAGES);
	to = (from / HUGE_PAGES + 1 + (u32)chance(3)) * HUGE_PAGES;
	if (chance(3) == 0)
		to = from + 1 + (u32)chance(HUGE_PAGES);
	*page = from;
	*n = min_of(to, (u32)WINDOW) - from;
}

/* Another length for mremap now and then; both places are inside the window. */
static void choose_target(struct huge_step *op)
{
	u32 n;

	choose_range(&op->page2, &n);
	op->n2 = op->kind == OP_REMAP && chance(3) == 0 ? n : 0;
	n = op->n2 ?: op->n;
	if (op->kind == OP_MOVE && chance(4)) /* alike in 2 MiB, from one half to the other */
		op->page2 = (op->page + WINDOW / 2) % WINDOW;
	if (op->page2 + n > WINDOW)
		op->page2 = WINDOW - n;
}

static bool swapping; /* there is a swap area */

static void page_out_whole(struct huge_step *op)
{
	u32 end = min_of((op->page + op->n + HUGE_PAGES - 1) & ~(HUGE_PAGES - 1), (u32)WINDOW);

	if (!swapping) {
		op->advice = UAPI_MADV_COLD;
		return;
	}
	op->page &= ~(HUGE_PAGES - 1);
	op->n = end - op->page;
}

static struct huge_step random_op(void)
{
	static const u8 kinds[] = { OP_MAP,	     OP_UNMAP,	      OP_PROTECT, OP_ADVISE,
				    OP_ADVISE,	     OP_ADVISE,	      OP_ADVISE,  OP_REMAP,
				    OP_READ,	     OP_READ,	      OP_WRITE,	  OP_WRITE,
				    OP_WRITE,	     OP_WRITE,	      OP_FORK,	  OP_WATCH,
				    OP_WRITEPROTECT, OP_WRITEPROTECT, OP_MOVE };
	struct huge_step op = { .kind = kinds[chance(ARRAY_SIZE(kinds))] };

	if (swapping && op.kind >= OP_WATCH && op.kind <= OP_MOVE)
		op.kind = OP_WRITE;
	choose_range(&op.page, &op.n);
	choose_target(&op);
	op.prot = chance(4) ? PROT_READ | PROT_WRITE : chance(2) ? PROT_READ : PROT_NONE;
	op.advice = (u32)ONE_OF(MADV_HUGEPAGE, MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_DONTNEED,
				UAPI_MADV_COLLAPSE, UAPI_MADV_COLLAPSE, UAPI_MADV_POPULATE_READ,
				UAPI_MADV_POPULATE_WRITE, UAPI_MADV_COLD, UAPI_MADV_PAGEOUT,
				UAPI_MADV_GUARD_INSTALL, UAPI_MADV_GUARD_REMOVE);
	op.byte = (u32)(1 + chance(255));
	if (op.kind >= OP_READ)
		op.page += (u32)chance(op.n);
	if (op.kind == OP_WATCH)
		op.prot =
			(u32)ONE_OF(0, WATCH_WP, WATCH_WP, WATCH_MISSING, WATCH_MISSING | WATCH_WP);
	if (op.kind == OP_MAP)
		op.prot = chance(4) ? PROT_READ | PROT_WRITE : op.prot;
	if (op.kind == OP_ADVISE && op.advice == UAPI_MADV_PAGEOUT)
		page_out_whole(&op);
	return op;
}

/* One half that is there, and moves to another that is watched; or all is there, and protected. */
static struct huge_step watched_step(unsigned i, bool half, struct huge_step op)
{
	static const u32 advice[] = { 0, MADV_HUGEPAGE, UAPI_MADV_POPULATE_WRITE };

	if (i == 1 || i == 2)
		return (struct huge_step){ .kind = OP_ADVISE,
					   .n = i == 2 && half ? WINDOW / 2 : WINDOW,
					   .advice = advice[i] };
	if (i == 3)
		return (struct huge_step){
			.kind = OP_WATCH,
			.page = half ? WINDOW / 2 : 0,
			.n = half ? WINDOW / 2 : WINDOW,
			.prot = half ? (u32)ONE_OF(WATCH_MISSING, WATCH_MISSING | WATCH_WP)
				     : WATCH_WP,
			.byte = op.byte,
		};
	/* Less of what takes away, or apart. */
	if (op.kind <= OP_PROTECT || (op.kind == OP_FORK && chance(2)))
		op.kind = half ? OP_MOVE : OP_WRITEPROTECT;
	if (op.kind == OP_MOVE && op.page < WINDOW / 2 && chance(4)) {
		op.n = min_of(op.n, (u32)WINDOW / 2 - op.page);
		op.page2 = op.page + WINDOW / 2;
	}
	return op;
}

static void generate(struct script *s)
{
	bool watched = chance(3) == 0 && !swapping, half = chance(2);

	for (s->n = 0; s->n < RANDOM_STEPS + LAST_LOOKS; s->n++) {
		struct huge_step op = random_op();

		if (s->n == 0)
			op = (struct huge_step){ .kind = OP_MAP,
						 .n = WINDOW,
						 .prot = PROT_READ | PROT_WRITE };
		else if (watched)
			op = watched_step(s->n, half, op);
		if (s->n == 1 && !watched) {
			op.kind = OP_ADVISE;
			op.advice = MADV_HUGEPAGE;
		}
		/* Else all would soon be holes. */
		if (s->n > 1 && op.kind == OP_UNMAP && chance(2))
			op.kind = OP_MAP;
		if (s->n >= RANDOM_STEPS)
			op = (struct huge_step){
				.kind = OP_READ, .page = (s->n - RANDOM_STEPS) * LOOK_EVERY % WINDOW
			};
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}

static bool fits(const void *step)
{
	const struct huge_step *op = step;
	u32 first = op->page < WINDOW ? WINDOW - op->page : 0;
	u32 second = op->page2 < WINDOW ? WINDOW - op->page2 : 0;

	if (op->kind != OP_REMAP && op->kind != OP_MOVE)
		return first && op->n <= first && op->prot <= 7;
	return op->n && op->n <= first && (op->n2 ?: op->n) <= second;
}

/* ---- watching ---- */

u64 huge_watch_features(const struct huge_step *op)
{
	return UAPI_UFFD_FEATURE_SIGBUS |
	       (op->byte & WATCH_ASYNC ? UAPI_UFFD_FEATURE_WP_ASYNC : 0) |
	       (op->byte & WATCH_UNPOPULATED ? UAPI_UFFD_FEATURE_WP_UNPOPULATED : 0);
}

u64 huge_watch_modes(const struct huge_step *op)
{
	return (op->prot & WATCH_MISSING ? UAPI_UFFDIO_REGISTER_MODE_MISSING : 0) |
	       (op->prot & WATCH_WP ? UAPI_UFFDIO_REGISTER_MODE_WP : 0);
}

/* ---- looking ---- */

void huge_see_present(bool (*ask)(unsigned page, unsigned n, u8 *vec), u8 *present, unsigned page,
		      unsigned n)
{
	if (ask(page, n, present + page))
		return;
	if (n == 1) {
		present[page] = 2;
		return;
	}
	huge_see_present(ask, present, page, n / 2);
	huge_see_present(ask, present, page + n / 2, n - n / 2);
}

static struct outcome real, engine, before;
static bool compare_anon;

static void print_outcome(struct world_trial *t, const char *side, const struct outcome *o)
{
	size_t used = strlen(t->text);
	char *at = t->text + used, *end = t->text + sizeof(t->text);

	at += snprintf(at, (size_t)(end - at),
		       "%s: result %lld, %lld faults, AnonHugePages %llu KiB, per 2 MiB "
		       "present/huge/marked:",
		       side, (long long)o->result, (long long)o->faults,
		       (unsigned long long)o->anon_bytes >> 10);
	for (unsigned h = 0; h < WINDOW; h += HUGE_PAGES) {
		unsigned present = 0, huge = 0, marked = 0;

		for (unsigned i = h; i < h + HUGE_PAGES; i++) {
			present += o->present[i] & 1;
			huge += o->huge[i];
			marked += o->marked[i];
		}
		at += snprintf(at, (size_t)(end - at), " %u/%u/%u", present, huge, marked);
	}
	snprintf(at, (size_t)(end - at), "\n");
}

static bool same(const struct huge_step *op, bool apart)
{
	bool counted = op->kind == OP_READ || op->kind == OP_WRITE ||
		       (op->kind == OP_ADVISE && op->advice != UAPI_MADV_COLLAPSE);

	if (real.result != engine.result ||
	    memcmp(real.present, engine.present, sizeof(real.present)))
		return false;
	if (apart)
		return true;
	if (counted && real.result >= 0 && real.faults != engine.faults)
		return false;
	if (compare_anon && real.anon_bytes != engine.anon_bytes)
		return false;
	if (memcmp(real.marked, engine.marked, sizeof(real.marked)))
		return false;
	return !memcmp(real.huge, engine.huge, sizeof(real.huge));
}

static bool in_parts(const struct huge_step *op)
{
	return op->page % HUGE_PAGES || op->n % HUGE_PAGES;
}

static bool is_reclaim(const struct huge_step *op)
{
	return op->kind == OP_ADVISE &&
	       (op->advice == UAPI_MADV_COLD || op->advice == UAPI_MADV_PAGEOUT);
}

static bool sets_apart(const struct huge_step *op, u64 split_before)
{
	if (op->kind == OP_ADVISE && op->advice == UAPI_MADV_PAGEOUT)
		return false;
	if (is_reclaim(op))
		return in_parts(op) || huge_engine_splits() != split_before;
	if (op->kind == OP_MOVE)
		return huge_engine_splits() != split_before;
	return op->kind == OP_FORK && (op->prot & PROT_WRITE);
}

/* What was there before: huge entries, or nothing at all? */
static bool may_page_out(const struct huge_step *op)
{
	if (!swapping || in_parts(op))
		return false;
	for (unsigned i = op->page; i < op->page + op->n; i++)
		if ((before.present[i] & 1) && !before.huge[i])
			return false;
	return true;
}

/* Does its result go by what the entries map?  (MADV_COLLAPSE: where a userfaultfd watches.) */
static bool depends_on_pages(const struct huge_step *op)
{
	return op->kind == OP_MOVE || (op->kind == OP_ADVISE && (op->advice == UAPI_MADV_PAGEOUT ||
								 op->advice == UAPI_MADV_COLLAPSE));
}

static unsigned huge_entries(const struct outcome *o)
{
	unsigned n = 0;

	for (unsigned i = 0; i < WINDOW; i += HUGE_PAGES)
		n += o->huge[i];
	return n;
}

static void count_advice(u64 *row, const struct huge_step *op, bool more, bool fewer)
{
	bool was_huge = huge_entries(&before);

	switch (op->advice) {
	case UAPI_MADV_COLLAPSE:
		row[ROW_COLLAPSED] += more;
		row[ROW_COLLAPSE_REFUSED] += engine.result < 0;
		break;
	case MADV_NOHUGEPAGE:
		row[ROW_NOHUGEPAGE] += was_huge;
		break;
	case UAPI_MADV_GUARD_INSTALL:
		row[ROW_GUARDED] += fewer;
		break;
	default:
		row[ROW_PAGEOUT_PART] += is_reclaim(op) && was_huge && in_parts(op);
		row[ROW_PAGEOUT_WHOLE] += is_reclaim(op) && was_huge && !in_parts(op);
	}
}

static void count_rows(u64 *row, const struct huge_step *op)
{
	bool more = huge_entries(&engine) > huge_entries(&before);
	bool fewer = huge_entries(&engine) < huge_entries(&before);

	switch ((enum huge_kind)op->kind) {
	case OP_WRITEPROTECT:
		row[ROW_WP_WHOLE] +=
			!engine.result && engine.huge[op->page] && engine.marked[op->page];
		row[ROW_WP_SPLIT] += fewer;
		break;
	case OP_MOVE:
		row[ROW_MOVED] += engine.huge[op->page2] && !before.huge[op->page2];
		row[ROW_MOVED_SPLIT] += fewer;
		break;
	case OP_READ:
		row[ROW_HUGE_ZERO] += more && engine.anon_bytes == before.anon_bytes;
		row[ROW_SIGNAL] += engine.result < 0;
		row[ROW_BUS] += engine.result == TOUCH_BUS;
		break;
	case OP_WRITE:
		row[ROW_WP_ASYNC] += fewer && before.marked[op->page];
		row[ROW_BUS] += engine.result == TOUCH_BUS;
		row[ROW_HUGE_FAULT] += engine.anon_bytes > before.anon_bytes;
		row[ROW_SIGNAL] += engine.result < 0;
		break;
	case OP_UNMAP:
		row[ROW_SPLIT_UNMAP] += fewer && in_parts(op);
		break;
	case OP_PROTECT:
		row[ROW_SPLIT_PROTECT] += fewer;
		break;
	case OP_REMAP:
		row[ROW_SPLIT_REMAP] += fewer && in_parts(op);
		row[ROW_HUGE_MOVED] += !engine.result && engine.huge[op->page2] &&
				       !((op->page | op->page2) % HUGE_PAGES);
		row[ROW_GROWN] += !engine.result && op->n2 && op->n2 != op->n;
		break;
	case OP_FORK:
		row[op->prot & PROT_WRITE ? ROW_CHILD_WROTE : ROW_CHILD_READ] +=
			engine.result >= 0 && before.huge[op->page];
		break;
	case OP_ADVISE:
		count_advice(row, op, more, fewer);
		break;
	default:
		break;
	}
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	u64 undisturbed = engine_only ? 0 : huge_real_disturbances();
	u64 split_before, splits;
	bool apart = false, pages_out;

	huge_engine_begin();
	if (!engine_only)
		huge_real_begin();
	split_before = huge_engine_splits();
	memset(&before, 0, sizeof(before));
	for (unsigned i = 0; i < s->n; i++, before = engine) {
		struct huge_step op;

		memcpy(&op, s->steps[i], sizeof(op));
		pages_out = op.kind == OP_ADVISE && op.advice == UAPI_MADV_PAGEOUT;
		if ((pages_out && !may_page_out(&op)) || (apart && depends_on_pages(&op)))
			continue;
		splits = huge_engine_splits();
		huge_engine_do(&op, &engine);
		/* Paging out splits here, in Linux bringing back does. */
		if (pages_out)
			split_before += huge_engine_splits() - splits;
		/* A byte or what a touch gives instead is no errno. */
		t->results[i] = engine.result;
		count_rows(t->rows, &op);
		if (engine_only)
			continue;
		huge_real_do(&op, &engine, &real);
		apart |= sets_apart(&op, split_before);
		if (same(&op, apart))
			continue;
		t->at = i;
		t->verdict = huge_real_disturbances() == undisturbed ? VERDICT_DIFFERS
								     : VERDICT_DISTURBED;
		print_outcome(t, "kernel", &real);
		print_outcome(t, "engine", &engine);
		break;
	}
	huge_engine_end();
}

static const char *open_world(bool engine_only)
{
	const char *missing = engine_only ? NULL : huge_real_open();
	int mode = engine_only ? THP_MADVISE : huge_real_mode();

	compare_anon = mode == THP_MADVISE; /* else all of this process has huge pages */
	return missing ?: huge_engine_open(mode);
}

static const char *open_swapping(bool engine_only)
{
	swapping = true;
	if (!engine_only && !swap_area_find())
		return "the swap area is gone";
	return open_world(engine_only);
}

/* Two worlds of the same operations. */
#define HUGE_WORLD                                                                                 \
	.calls = names, .nr_calls = OP_KINDS, .fields = fields, .nr_fields = ARRAY_SIZE(fields),   \
	.rows = rows, .nr_rows = NR_ROWS, .generate = generate, .fits = fits, .perform = perform

const struct oracle_world world_huge = {
	.name = "huge",
	.about = "huge pages (root): MADV_HUGEPAGE, NOHUGEPAGE, COLLAPSE, parts, userfaultfd",
	HUGE_WORLD,
	.open = open_world,
};

const struct oracle_world world_hugeswap = {
	.name = "hugeswap",
	.about = "the same with a swap area of its own (root): MADV_PAGEOUT of huge pages",
	HUGE_WORLD,
	.set_up = swap_area_make,
	.take_down = swap_area_remove,
	.open = open_swapping,
};
