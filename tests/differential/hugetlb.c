/* SPDX-License-Identifier: MIT */
/*
 * hugetlb: random operations on huge pages, done by the running kernel and by the engine.
 *
 *   hugetlb [--operations N] [--seed N] [--engine]
 *
 * The kernel's pool is made of a few pages for the time, if it is empty and may be written, and is
 * made what it was again whatever becomes of this program: a process of its own waits for its end.
 * Where no pool can be had both sides have an empty one.  What differs is shrunk to the shortest
 * sequence that still does, and printed; exit status 1.  --engine: the engine alone, which checks
 * its invariants after each operation.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/differential/hugetlb.h"

enum { OPS = 40 };

struct trial {
	struct huge_op ops[OPS];
	unsigned n;
};

static u64 pool;
static bool engine_only;

/* ---- making operations ---- */

static u64 seed;

static u64 below(u64 n)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return (seed * 0x2545f4914f6cdd1dULL >> 11) % n;
}

#define PICK(...)                                                                                  \
	({                                                                                         \
		static const u64 _of[] = { __VA_ARGS__ };                                          \
		_of[below(sizeof(_of) / sizeof(*_of))];                                            \
	})

static u64 some_length(void)
{
	return below(12) ? HUGE_BYTES * (1 + below(3)) : PICK(4096, HUGE_BYTES + 4096, 0, 1);
}

static u64 some_place(u64 len)
{
	u64 places = HUGE_PLACES - (len + HUGE_BYTES - 1) / HUGE_BYTES;
	u64 at = HUGE_BASE + HUGE_BYTES * below(places + 1);

	return below(12) ? at : at + 4096;
}

static u64 some_flags(void)
{
	u64 flags = below(3) ? MAP_FIXED : 0;

	flags |= below(2) ? MAP_SHARED : MAP_PRIVATE;
	if (below(3))
		flags |= MAP_ANONYMOUS | MAP_HUGETLB;
	if (!below(3))
		flags |= MAP_NORESERVE;
	if (!below(6))
		flags |= MAP_POPULATE;
	if (!below(10))
		flags |= PICK(21ULL << 26, 22ULL << 26, MAP_LOCKED, MAP_GROWSDOWN, MAP_SYNC,
			      MAP_HUGETLB, MAP_SHARED | MAP_PRIVATE, MAP_FIXED_NOREPLACE);
	return flags;
}

static u64 some_prot(void)
{
	return below(3) ? PROT_READ | PROT_WRITE : PICK(PROT_READ, PROT_NONE, PROT_WRITE);
}

static u64 some_advice(void)
{
	if (below(3))
		return PICK(MADV_DONTNEED, MADV_REMOVE, MADV_POPULATE_READ, MADV_POPULATE_WRITE);
	return PICK(MADV_FREE, MADV_COLD, MADV_PAGEOUT, MADV_DONTFORK, MADV_DOFORK, MADV_WIPEONFORK,
		    MADV_DONTDUMP, MADV_DODUMP, MADV_WILLNEED, MADV_SEQUENTIAL, 24, 25, 102, 103);
}

/*
 * As long as there is a child its parent unmaps nothing.  When Linux 6.18 unmaps an owner's page
 * that a child has, too, the promise counts as returned at once and comes back when the child's
 * goes; in between the pool has promised one page less than areas were promised, and somebody
 * else's page may be given away.  The engine does not do that.
 */
static bool may_unmap(const struct huge_op *op)
{
	switch ((enum huge_call)op->call) {
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

	*op = (struct huge_op){ .child = *forked && below(2) };
	op->call = below(2) ? likely[below(sizeof(likely))] : (u8)below(NR_HUGE_CALLS);
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
	switch ((enum huge_call)op->call) {
	case HUGE_MMAP:
		op->arg[2] = some_prot();
		op->arg[3] = some_flags();
		op->arg[4] = below(12) ? HUGE_BYTES * below(3) : 4096;
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
		op->arg[2] = below(3) ? len : some_length();
		op->arg[3] = PICK(MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED, 0);
		op->arg[4] = some_place(op->arg[2]);
		break;
	case HUGE_READ:
	case HUGE_WRITE:
		op->arg[0] = HUGE_BASE + HUGE_BYTES * below(HUGE_PLACES) + 8 * below(3);
		op->arg[1] = 1 + below(250);
		break;
	case HUGE_TRUNCATE:
		op->arg[0] = below(8) ? HUGE_BYTES * below(5) : 4096;
		break;
	case HUGE_PUNCH:
		op->arg[0] = HUGE_BYTES * below(3) + (below(4) ? 0 : 16);
		op->arg[1] = below(4) ? HUGE_BYTES * (1 + below(2)) : HUGE_BYTES / 2;
		break;
	default:
		break;
	}
}

static void make_trial(struct trial *t)
{
	bool forked = false;

	for (t->n = 0; t->n < OPS; t->n++)
		make_op(&t->ops[t->n], &forked);
}

/* A trial of which operations were left out: what has no process any more goes, too. */
static void drop_orphans(struct trial *t)
{
	bool forked = false;
	unsigned n = 0;

	for (unsigned i = 0; i < t->n; i++) {
		struct huge_op *op = &t->ops[i];

		if ((op->child && !forked) || (op->call == HUGE_REAP && !forked) ||
		    (op->call == HUGE_FORK && forked))
			continue;
		if (op->call == HUGE_FORK || op->call == HUGE_REAP)
			forked = !forked;
		t->ops[n++] = *op;
	}
	t->n = n;
}

/* ---- doing them ---- */

/* `engine`: what came of it there, or NULL: this is there. */
static void perform(const struct trial *t, const struct huge_side *side, struct huge_result *r,
		    const struct huge_result *engine)
{
	bool forked = false;

	if (!side->begin(pool)) {
		fprintf(stderr, "hugetlb: the %s's side cannot begin\n", side->name);
		exit(1);
	}
	for (unsigned i = 0; i < t->n; i++) {
		const struct huge_op *op = &t->ops[i];

		/* A fork that failed leaves nobody to go on. */
		memset(&r[i], 0, sizeof(r[i]));
		if ((op->child || op->call == HUGE_REAP) && !forked)
			continue;
		if (engine && engine[i].left_out)
			continue;
		side->perform(op, &r[i]);
		if (op->call == HUGE_FORK)
			forked = !r[i].value;
		if (op->call == HUGE_REAP)
			forked = false;
	}
	side->end();
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

/* The first operation that the two did not do alike, or t->n. */
static unsigned differs(const struct trial *t, struct huge_result *real, struct huge_result *engine)
{
	bool forked = false;
	unsigned i;

	perform(t, &huge_engine, engine, NULL);
	if (engine_only)
		return t->n;
	perform(t, &huge_real, real, engine);
	for (i = 0; i < t->n && same(&t->ops[i], &real[i], &engine[i], forked); i++) {
		forked |= t->ops[i].call == HUGE_FORK;
		forked &= t->ops[i].call != HUGE_REAP;
	}
	return i;
}

static const char *const names[NR_HUGE_CALLS] = {
	"mmap",	   "munmap",	"mprotect", "madvise", "mremap", "read", "write",
	"mincore", "ftruncate", "punch",    "mlock",   "fork",	 "reap",
};

static void print_result(const char *who, const struct huge_result *r)
{
	printf("    %-7s %lld, signal %d.%d, %llu faults, sum %llu; pool %llu, free %llu, "
	       "resv %llu, surplus %llu\n",
	       who, (long long)r->value, r->signal >> 8, r->signal & 255,
	       (unsigned long long)r->faults, (unsigned long long)r->sum, (unsigned long long)r->nr,
	       (unsigned long long)r->free, (unsigned long long)r->resv,
	       (unsigned long long)r->surplus);
}

static void shrink_and_print(struct trial *t)
{
	static struct huge_result real[OPS], engine[OPS];
	unsigned at = differs(t, real, engine);

	t->n = at < t->n ? at + 1 : t->n;
	for (unsigned i = 0; i < t->n;) {
		struct trial less = *t;

		memmove(&less.ops[i], &less.ops[i + 1], (less.n - i - 1) * sizeof(less.ops[0]));
		less.n--;
		drop_orphans(&less);
		at = differs(&less, real, engine);
		if (at < less.n) {
			*t = less;
			t->n = at + 1;
		} else {
			i++;
		}
	}
	at = differs(t, real, engine);
	for (unsigned i = 0; i < t->n; i++) {
		const u64 *a = t->ops[i].arg;

		printf("  %u %s 0x%llx 0x%llx 0x%llx 0x%llx 0x%llx\n", t->ops[i].child,
		       names[t->ops[i].call], (unsigned long long)a[0], (unsigned long long)a[1],
		       (unsigned long long)a[2], (unsigned long long)a[3],
		       (unsigned long long)a[4]);
	}
	if (at < t->n) {
		print_result("kernel", &real[at]);
		print_result("engine", &engine[at]);
	}
}

static int compare(u64 operations, u64 first_seed)
{
	static struct huge_result real[OPS], engine[OPS];
	struct trial t;

	for (u64 i = 0; i * OPS < operations; i++) {
		seed = (first_seed + i) * 0x9e3779b97f4a7c15ULL | 1;
		make_trial(&t);
		/* What others do to the kernel's processes (look at them) differs once. */
		if (differs(&t, real, engine) == t.n || differs(&t, real, engine) == t.n)
			continue;
		printf("hugetlb: --seed %llu differs:\n", (unsigned long long)(first_seed + i));
		shrink_and_print(&t);
		return 1;
	}
	printf("hugetlb: %llu operations with a pool of %llu pages, no difference\n",
	       (unsigned long long)operations, (unsigned long long)pool);
	return 0;
}

/* ---- the kernel's pool ---- */

/* Make a pool; whoever closes the other end of *held (by dying, too) has it made empty again. */
static bool borrow_pool(int *held, pid_t *keeper)
{
	int ends[2], report[2];
	char ready = 0, none;

	if (pipe2(ends, O_CLOEXEC) || pipe2(report, O_CLOEXEC))
		return false;
	huge_pool_look();
	*keeper = fork();
	if (*keeper < 0)
		return false;
	if (!*keeper) {
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_BLOCK, &all, NULL);
		close(ends[1]);
		ready = huge_pool_enlarge(HUGE_POOL);
		if (write(report[1], &ready, 1) != 1)
			_exit(!huge_pool_restore());
		while (read(ends[0], &none, 1) > 0 || errno == EINTR)
			;
		_exit(!huge_pool_restore());
	}
	close(ends[0]);
	close(report[1]);
	*held = ends[1];
	if (read(report[0], &ready, 1) != 1)
		ready = 0;
	close(report[0]);
	return ready;
}

static int with_pool(u64 operations, u64 first_seed)
{
	int lock = open("/tmp/vmfault-hugetlb.lock", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	int held = -1, status = 0, result;
	pid_t keeper = 0;

	/* Others that do the same would count our pages. */
	if (lock < 0 || flock(lock, LOCK_EX))
		return engine_only = true, compare(operations, first_seed);
	if (huge_pool_number("nr_overcommit_hugepages") ||
	    huge_pool_number("free_hugepages") != huge_pool_number("resv_hugepages")) {
		fprintf(stderr, "hugetlb: others use the kernel's pool: the engine alone\n");
		engine_only = true;
		pool = HUGE_POOL;
		return compare(operations, first_seed);
	}
	if (borrow_pool(&held, &keeper))
		pool = HUGE_POOL;
	result = compare(operations, first_seed);
	if (held >= 0)
		close(held);
	if (keeper > 0 && waitpid(keeper, &status, 0) == keeper && pool && status) {
		fprintf(stderr, "hugetlb: the kernel's pool could not be made as it was: see "
				"/proc/sys/vm/nr_hugepages\n");
		return 1;
	}
	return result;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "operations", required_argument, NULL, 'o' },
						 { "seed", required_argument, NULL, 's' },
						 { "engine", no_argument, NULL, 'e' },
						 { 0 } };
	u64 operations = 4000, first_seed = 1;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 'o')
			operations = strtoull(optarg, NULL, 0);
		else if (c == 's')
			first_seed = strtoull(optarg, NULL, 0);
		else if (c == 'e')
			engine_only = true;
		else
			return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!engine_only)
		return with_pool(operations, first_seed);
	pool = HUGE_POOL;
	return compare(operations, first_seed);
}
