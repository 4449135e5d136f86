/* SPDX-License-Identifier: MIT */
/*
 * hugetlb: random operations on huge pages of a pool, done by the running kernel and by the engine.
 *
 * The kernel's pool is made larger by a few pages for the time, and is then made what it was again.
 * Compared after each operation: what it returns, signals, bytes, mincore(2), minor faults, and the
 * pool's four counts.
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/differential/worlds/hugetlb.h"
#include "tests/differential/worlds/world.h"

enum { RANDOM_STEPS = 40 };

static const char *const names[NR_HUGE_CALLS] = {
	"mmap",	   "munmap",	"mprotect", "madvise", "mremap", "read", "write",
	"mincore", "ftruncate", "punch",    "mlock",   "fork",	 "reap",
};

static const struct step_field fields[] = {
	STEP_FIELD(struct huge_op, child),  STEP_FIELD(struct huge_op, arg[0]),
	STEP_FIELD(struct huge_op, arg[1]), STEP_FIELD(struct huge_op, arg[2]),
	STEP_FIELD(struct huge_op, arg[3]), STEP_FIELD(struct huge_op, arg[4]),
};

enum row {
	ROW_POOL_EMPTY,
	ROW_BUS,
	ROW_SEGV,
	ROW_RESERVED,
	ROW_PRIVATE,
	ROW_SHARED,
	ROW_CHILD_COPIES,
	ROW_OWNER_TAKES,
	ROW_CHILD_WITHOUT,
	ROW_MOVED,
	ROW_HOLE,
	ROW_POPULATED,
	NR_ROWS
};
static const char *const rows[NR_ROWS] = {
	[ROW_POOL_EMPTY] = "an area is refused: the pool cannot promise its pages",
	[ROW_BUS] = "SIGBUS: the pool is empty, or the file has no such page",
	[ROW_SEGV] = "SIGSEGV",
	[ROW_RESERVED] = "pages are promised",
	[ROW_PRIVATE] = "a page of a private area",
	[ROW_SHARED] = "a page of a shared area or a file",
	[ROW_CHILD_COPIES] = "a child copies what its parent has",
	[ROW_OWNER_TAKES] = "a parent writes to what its child has",
	[ROW_CHILD_WITHOUT] = "SIGBUS of a child: its copy cannot be had",
	[ROW_MOVED] = "mremap moves an area",
	[ROW_HOLE] = "a hole, or a shorter file, gives pages back",
	[ROW_POPULATED] = "an advice fills pages",
};

static u64 pool;

/* ---- making operations ---- */

static u64 some_length(void)
{
	return chance(12) ? HUGE_BYTES * (1 + chance(3)) : ONE_OF(4096, HUGE_BYTES + 4096, 0, 1);
}

static u64 some_place(u64 len)
{
	u64 places = HUGE_PLACES - (len + HUGE_BYTES - 1) / HUGE_BYTES;
	u64 at = HUGE_BASE + HUGE_BYTES * chance(places + 1);

	return chance(12) ? at : at + 4096;
}

static u64 some_flags(void)
{
	u64 flags = chance(3) ? MAP_FIXED : 0;

	flags |= chance(2) ? MAP_SHARED : MAP_PRIVATE;
	if (chance(3))
		flags |= MAP_ANONYMOUS | MAP_HUGETLB;
	if (!chance(3))
		flags |= MAP_NORESERVE;
	if (!chance(6))
		flags |= MAP_POPULATE;
	if (!chance(10))
		flags |= ONE_OF(21ULL << 26, 22ULL << 26, MAP_LOCKED, MAP_GROWSDOWN, MAP_SYNC,
				MAP_HUGETLB, MAP_SHARED | MAP_PRIVATE, MAP_FIXED_NOREPLACE);
	return flags;
}

static u64 some_prot(void)
{
	return chance(3) ? PROT_READ | PROT_WRITE : ONE_OF(PROT_READ, PROT_NONE, PROT_WRITE);
}

static u64 some_advice(void)
{
	if (chance(3))
		return ONE_OF(MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_READ, MADV_POPULATE_WRITE);
	return ONE_OF(MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_DONTFORK, MADV_DOFORK,
		      MADV_WIPEONFORK, MADV_DONTDUMP, MADV_DODUMP, MADV_WILLNEED, MADV_SEQUENTIAL,
		      24, 25, 102, 103);
}

/*
 * As long as there is a child its parent unmaps nothing.  When Linux 6.18 unmaps an owner's page
 * that a child has, too, the promise counts as returned at once and comes back when the child's
 * goes; in between the pool has promised one page less than areas were promised, and somebody
 * else's page may be given away.  The engine does not do that.
 */
static bool may_unmap(const struct huge_op *op)
{
	switch ((enum pool_call)op->call) {
	case HUGE_MMAP:
	case HUGE_MUNMAP:
	case HUGE_ADVISE:
	case HUGE_REMAP:
	case HUGE_TRUNCATE:
	case HUGE_PUNCH:
		return true;
	default:
		return false;
	}
}

static void make_op(struct huge_op *op, bool *forked)
{
	static const u8 likely[] = { HUGE_READ, HUGE_WRITE, HUGE_WRITE, HUGE_WRITE,
				     HUGE_MMAP, HUGE_MMAP,  HUGE_ADVISE };
	u64 len = some_length();

	*op = (struct huge_op){ .child = *forked && chance(2) };
	op->call = chance(2) ? likely[chance(sizeof(likely))] : (u32)chance(NR_HUGE_CALLS);
	if (op->call == HUGE_FORK || op->call == HUGE_REAP) {
		op->call = *forked ? HUGE_REAP : HUGE_FORK;
		op->child = 0;
		*forked = !*forked;
	}
	if (*forked && may_unmap(op)) {
		op->child = 1;
		if (op->call == HUGE_TRUNCATE || op->call == HUGE_PUNCH || op->call == HUGE_ADVISE)
			op->call = HUGE_WRITE;
	}
	/* What mincore(2) says where no page is mapped depends on whether there is a table: in a
	 * child that is the kernel's own affair. */
	if (op->call == HUGE_MINCORE)
		op->child = 0;
	op->arg[0] = some_place(len);
	op->arg[1] = len;
	switch ((enum pool_call)op->call) {
	case HUGE_MMAP:
		op->arg[2] = some_prot();
		op->arg[3] = some_flags();
		op->arg[4] = chance(12) ? HUGE_BYTES * chance(3) : 4096;
		/* What is not at its place is not left there. */
		if (!(op->arg[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
			op->arg[0] = 0;
		break;
	case HUGE_PROTECT:
		op->arg[2] = some_prot();
		break;
	case HUGE_ADVISE:
		op->arg[2] = some_advice();
		break;
	case HUGE_REMAP:
		op->arg[2] = chance(3) ? len : some_length();
		op->arg[3] =
			ONE_OF(MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED, 0);
		op->arg[4] = some_place(op->arg[2]);
		break;
	case HUGE_READ:
	case HUGE_WRITE:
		op->arg[0] = HUGE_BASE + HUGE_BYTES * chance(HUGE_PLACES) + 8 * chance(3);
		op->arg[1] = 1 + chance(250);
		break;
	case HUGE_TRUNCATE:
		op->arg[0] = chance(8) ? HUGE_BYTES * chance(5) : 4096;
		break;
	case HUGE_PUNCH:
		op->arg[0] = HUGE_BYTES * chance(3) + (chance(4) ? 0 : 16);
		op->arg[1] = chance(4) ? HUGE_BYTES * (1 + chance(2)) : HUGE_BYTES / 2;
		break;
	default:
		break;
	}
}

static void generate(struct script *s)
{
	bool forked = false;

	for (s->n = 0; s->n < RANDOM_STEPS; s->n++) {
		struct huge_op op;

		make_op(&op, &forked);
		memcpy(s->steps[s->n], &op, sizeof(op));
	}
}

/* What has no process any more goes, too. */
static void drop_orphans(struct script *s)
{
	bool forked = false;
	unsigned n = 0;

	for (unsigned i = 0; i < s->n; i++) {
		struct huge_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		if ((op.child && !forked) || (op.call == HUGE_REAP && !forked) ||
		    (op.call == HUGE_FORK && forked))
			continue;
		if (op.call == HUGE_FORK || op.call == HUGE_REAP)
			forked = !forked;
		memmove(s->steps[n++], s->steps[i], STEP_SIZE);
	}
	s->n = n;
}

/* (Each process has the places and nothing else that could be hit.) */
static bool fits(const void *step)
{
	const struct huge_op *op = step;
	u64 most = HUGE_BASE + HUGE_PLACES * HUGE_BYTES;
	bool placed = op->call != HUGE_TRUNCATE && op->call != HUGE_PUNCH &&
		      !(op->call == HUGE_MMAP && !(op->arg[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)));

	if (op->child > 1 || op->call == HUGE_FORK || op->call == HUGE_REAP)
		return op->child == 0;
	if (!placed)
		return op->arg[1] <= HUGE_PLACES * HUGE_BYTES;
	if (op->call == HUGE_READ || op->call == HUGE_WRITE)
		return op->arg[0] >= HUGE_BASE && op->arg[0] < most;
	return op->arg[0] >= HUGE_BASE && op->arg[0] < most && op->arg[1] <= most - op->arg[0];
}

/* ---- doing them ---- */

/* `engine`: what came of it there, or NULL: this is there.  False: the side cannot go on. */
static bool do_all(const struct script *s, const struct huge_side *side, struct huge_result *r,
		   const struct huge_result *engine)
{
	bool forked = false, gone = false;

	if (!side->begin(pool))
		return false;
	for (unsigned i = 0; i < s->n && !gone; i++) {
		struct huge_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		/* A fork that failed leaves nobody to go on. */
		memset(&r[i], 0, sizeof(r[i]));
		if ((op.child || op.call == HUGE_REAP) && !forked)
			continue;
		if (engine && engine[i].left_out)
			continue;
		side->perform(&op, &r[i]);
		gone = r[i].gone;
		if (op.call == HUGE_FORK)
			forked = !r[i].value;
		if (op.call == HUGE_REAP)
			forked = false;
	}
	side->end();
	return !gone;
}

/* (How often a write faults with which an owner takes its page back from its child differs in the
 * kernel from time to time: faults are not compared while there is a child.) */
static bool same(const struct huge_op *op, const struct huge_result *a, const struct huge_result *b,
		 bool forked)
{
	bool counted = (op->call == HUGE_READ || op->call == HUGE_WRITE) && !a->signal && !forked;

	if (b->left_out)
		return true;
	return a->value == b->value && a->signal == b->signal && a->sum == b->sum &&
	       (!counted || a->faults == b->faults) && a->nr == b->nr && a->free == b->free &&
	       a->resv == b->resv && a->surplus == b->surplus;
}

static void print_result(struct world_trial *t, const char *who, const struct huge_result *r)
{
	size_t used = strlen(t->text);

	snprintf(t->text + used, sizeof(t->text) - used,
		 "%s: %lld, signal %d.%d, %llu faults, sum %llu; pool %llu, free %llu, "
		 "resv %llu, surplus %llu\n",
		 who, (long long)r->value, r->signal >> 8, r->signal & 255,
		 (unsigned long long)r->faults, (unsigned long long)r->sum,
		 (unsigned long long)r->nr, (unsigned long long)r->free,
		 (unsigned long long)r->resv, (unsigned long long)r->surplus);
}

/* ---- coverage ---- */

static void count_touch(u64 *row, const struct huge_op *op, const struct huge_result *r,
			const struct huge_result *before, bool forked)
{
	bool took = r->free < before->free;

	row[ROW_BUS] += r->signal >> 8 == 7;
	row[ROW_SEGV] += r->signal >> 8 == 11;
	row[ROW_CHILD_WITHOUT] += r->signal >> 8 == 7 && op->child;
	row[ROW_PRIVATE] += took && op->call == HUGE_WRITE;
	row[ROW_SHARED] += took && op->call == HUGE_READ;
	row[ROW_CHILD_COPIES] += took && op->child && op->call == HUGE_WRITE;
	row[ROW_OWNER_TAKES] += forked && !op->child && op->call == HUGE_WRITE && !r->signal;
}

static void count_rows(const struct script *s, const struct huge_result *r, u64 *row)
{
	struct huge_result before = { .free = pool };
	bool forked = false;

	for (unsigned i = 0; i < s->n; before = r[i++]) {
		struct huge_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		switch ((enum pool_call)op.call) {
		case HUGE_MMAP:
			row[ROW_POOL_EMPTY] += r[i].value == -12;
			row[ROW_RESERVED] += r[i].resv > before.resv;
			break;
		case HUGE_READ:
		case HUGE_WRITE:
			count_touch(row, &op, &r[i], &before, forked);
			break;
		case HUGE_REMAP:
			row[ROW_MOVED] += r[i].value > 0 && !r[i].left_out;
			break;
		case HUGE_TRUNCATE:
		case HUGE_PUNCH:
			row[ROW_HOLE] += r[i].free > before.free;
			break;
		case HUGE_ADVISE:
			row[ROW_POPULATED] += r[i].free < before.free;
			break;
		default:
			break;
		}
		forked |= op.call == HUGE_FORK && !r[i].value;
		forked &= op.call != HUGE_REAP;
	}
}

static void perform(const struct script *s, bool engine_only, struct world_trial *t)
{
	static struct huge_result real[MOST_STEPS], engine[MOST_STEPS];
	bool forked = false;

	t->verdict = VERDICT_TROUBLE;
	snprintf(t->text, sizeof(t->text), "the engine's side cannot begin, or go on");
	if (!do_all(s, &huge_engine, engine, NULL))
		return;
	for (unsigned i = 0; i < s->n; i++)
		t->results[i] = engine[i].value;
	snprintf(t->text, sizeof(t->text), "the kernel's side cannot begin, or go on");
	if (!engine_only && !do_all(s, &huge_real, real, engine))
		return;
	t->text[0] = 0;
	t->verdict = VERDICT_SAME;
	count_rows(s, engine, t->rows);
	for (unsigned i = 0; i < s->n && !engine_only; i++) {
		struct huge_op op;

		memcpy(&op, s->steps[i], sizeof(op));
		if (!same(&op, &real[i], &engine[i], forked)) {
			t->verdict = VERDICT_DIFFERS;
			t->at = i;
			print_result(t, "kernel", &real[i]);
			print_result(t, "engine", &engine[i]);
			return;
		}
		forked |= op.call == HUGE_FORK;
		forked &= op.call != HUGE_REAP;
	}
}

/* ---- the kernel's pool ---- */

static const char *set_up(void)
{
	huge_pool_look();
	if (huge_pool_number("nr_hugepages") < 0)
		return "the kernel has no pool of huge pages of 2 MiB";
	if (huge_pool_number("nr_overcommit_hugepages") ||
	    huge_pool_number("free_hugepages") != huge_pool_number("resv_hugepages"))
		return "others use the kernel's pool of huge pages";
	if (!huge_pool_enlarge(HUGE_POOL))
		return "the kernel's pool cannot be enlarged (not root, or no memory in one piece)";
	return NULL;
}

/* The pool has been made larger by now: what is ours are its pages beyond the promised. */
static const char *open_world(bool engine_only)
{
	pool = HUGE_POOL;
	if (!engine_only)
		huge_pool_look_beside(HUGE_POOL);
	return NULL;
}

const struct oracle_world world_hugetlb = {
	.name = "hugetlb",
	.about = "huge pages of the kernel's pool (root): private, shared, forks, promises",
	.calls = names,
	.nr_calls = NR_HUGE_CALLS,
	.fields = fields,
	.nr_fields = sizeof(fields) / sizeof(*fields),
	.rows = rows,
	.nr_rows = NR_ROWS,
	.set_up = set_up,
	.take_down = huge_pool_restore,
	.open = open_world,
	.generate = generate,
	.fits = fits,
	.mend = drop_orphans,
	.perform = perform,
};
