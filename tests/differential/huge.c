/* SPDX-License-Identifier: MIT */
/*
 * Huge pages, here and in the engine: random sequences over a window of a few huge pages, each
 * operation done by this process and on a soft machine.  Compared after each: what it returns, the
 * byte or the signal that a touch gives, the faults that it cost, mincore(2) of the window, and
 * which pages are mapped by huge entries.
 *
 * Left out, and why:
 *   - after a child has written to what it shares: the engine splits a page for all spaces at once,
 *     Linux for the child alone.  From then on huge entries and faults are not compared.
 *   - after a part of a huge page, or what is left of one, was made cold: Linux then splits the
 * page itself and maps what is all zeros by the zero page.
 *   - where Linux found no 2 MiB in one piece, or its khugepaged was at work (its own counters say
 *     so), what differs ends the sequence.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/space/calls.h"
#include "engine/space/huge.h"
#include "engine/space/uapi.h"
#include "tests/unit/world.h"

enum { WINDOW = 4 * HUGE_PAGES, SESSION = 24 };
#define WINDOW_BASE 0x20000000ULL

enum kind {
	OP_MAP,
	OP_UNMAP,
	OP_PROTECT,
	OP_ADVISE,
	OP_REMAP, /* to page2 */
	OP_READ,
	OP_WRITE,
	OP_FORK, /* a child touches a page; prot: PROT_WRITE: it writes */
	OP_KINDS
};
static const char *const names[OP_KINDS] = { "map",   "unmap", "protect", "advise",
					     "remap", "read",  "write",	  "fork" };

struct op {
	enum kind kind;
	unsigned page, n, page2, prot;
	int advice;
	u8 byte;
};

/* What a touch gives instead of a byte. */
enum { MAPERR = -1001, ACCERR = -1002 };

struct outcome {
	s64 result;
	s64 faults;
	u8 present[WINDOW], huge[WINDOW];
};

static u64 at(unsigned page)
{
	return WINDOW_BASE + page * PAGE_SIZE;
}

/* ---- random ---- */

static u64 rnd;

static u64 below(u64 n)
{
	rnd ^= rnd >> 12;
	rnd ^= rnd << 25;
	rnd ^= rnd >> 27;
	return ((rnd * 0x2545f4914f6cdd1dULL) >> 11) % n;
}

/* Mostly by whole huge pages. */
static void choose_range(unsigned *page, unsigned *n)
{
	unsigned from = (unsigned)below(4) * HUGE_PAGES, to;

	if (below(3) == 0)
		from += (unsigned)below(HUGE_PAGES);
	to = (from / HUGE_PAGES + 1 + (unsigned)below(3)) * HUGE_PAGES;
	if (below(3) == 0)
		to = from + 1 + (unsigned)below(HUGE_PAGES);
	*page = from;
	*n = min_of(to, (unsigned)WINDOW) - from;
}

static struct op random_op(void)
{
	static const enum kind kinds[] = { OP_MAP,    OP_UNMAP,	 OP_PROTECT, OP_ADVISE, OP_ADVISE,
					   OP_ADVISE, OP_ADVISE, OP_REMAP,   OP_READ,	OP_READ,
					   OP_WRITE,  OP_WRITE,	 OP_WRITE,   OP_WRITE,	OP_FORK };
	static const int advice[] = { MADV_HUGEPAGE,	       MADV_HUGEPAGE,
				      MADV_NOHUGEPAGE,	       MADV_DONTNEED,
				      UAPI_MADV_COLLAPSE,      UAPI_MADV_COLLAPSE,
				      UAPI_MADV_POPULATE_READ, UAPI_MADV_POPULATE_WRITE,
				      UAPI_MADV_COLD,	       UAPI_MADV_GUARD_INSTALL,
				      UAPI_MADV_GUARD_REMOVE };
	struct op op = { .kind = kinds[below(ARRAY_SIZE(kinds))] };
	unsigned unused;

	choose_range(&op.page, &op.n);
	choose_range(&op.page2, &unused);
	op.prot = below(4) ? PROT_READ | PROT_WRITE : below(2) ? PROT_READ : PROT_NONE;
	op.advice = advice[below(ARRAY_SIZE(advice))];
	op.byte = (u8)(1 + below(255));
	if (op.kind == OP_READ || op.kind == OP_WRITE || op.kind == OP_FORK)
		op.page += (unsigned)below(op.n);
	if (op.kind == OP_MAP)
		op.prot = below(4) ? PROT_READ | PROT_WRITE : op.prot;
	if (op.page2 + op.n > WINDOW)
		op.page2 = WINDOW - op.n;
	return op;
}

/* ---- the kernel's side: this process ---- */

static sigjmp_buf touching;
static volatile int signal_code;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	signal_code = info->si_code;
	siglongjmp(touching, 1);
}

static s64 real_touch(const struct op *op, bool write)
{
	volatile u8 *byte = (volatile u8 *)(uintptr_t)at(op->page);

	if (sigsetjmp(touching, 1))
		return signal_code == SEGV_MAPERR ? MAPERR : ACCERR;
	if (!write)
		return *byte;
	*byte = op->byte;
	return op->byte;
}

static s64 real_faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

static s64 real_fork(const struct op *op)
{
	s64 told = -1;
	int pipe_fds[2];
	pid_t pid;

	if (pipe(pipe_fds))
		abort();
	pid = fork();
	if (!pid) {
		told = real_touch(op, op->prot & PROT_WRITE);
		if (write(pipe_fds[1], &told, sizeof(told)) != sizeof(told))
			_exit(1);
		_exit(0);
	}
	if (pid < 0 || read(pipe_fds[0], &told, sizeof(told)) != sizeof(told) ||
	    waitpid(pid, NULL, 0) != pid)
		abort();
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return told;
}

static s64 call(long result)
{
	return result < 0 ? -errno : 0;
}

static s64 real_do(const struct op *op)
{
	void *va = (void *)(uintptr_t)at(op->page);
	size_t len = op->n * PAGE_SIZE;

	switch (op->kind) {
	case OP_MAP:
		return call(-(mmap(va, len, (int)op->prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				   -1, 0) == MAP_FAILED));
	case OP_UNMAP:
		return call(munmap(va, len));
	case OP_PROTECT:
		return call(mprotect(va, len, (int)op->prot));
	case OP_ADVISE:
		return call(madvise(va, len, op->advice));
	case OP_REMAP:
		return call(-(mremap(va, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
				     (void *)(uintptr_t)at(op->page2)) == MAP_FAILED));
	case OP_FORK:
		return real_fork(op);
	default:
		return real_touch(op, op->kind == OP_WRITE);
	}
}

/* Newer than the headers of some systems. */
struct scan_region {
	u64 start, end, categories;
};
struct scan_arg {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_IS_HUGE (1ULL << 6)

static int pagemap = -1;
static struct outcome real, engine;

static bool real_mincore(unsigned page, unsigned n, u8 *vec)
{
	return !mincore((void *)(uintptr_t)at(page), n * PAGE_SIZE, vec);
}

/* Of each page: is it there?  2: there is no area. */
static void see_present(bool (*ask)(unsigned page, unsigned n, u8 *vec), u8 *present, unsigned page,
			unsigned n)
{
	if (ask(page, n, present + page))
		return;
	if (n == 1) {
		present[page] = 2;
		return;
	}
	see_present(ask, present, page, n / 2);
	see_present(ask, present, page + n / 2, n - n / 2);
}

/* False: this kernel does not tell. */
static bool real_look(struct outcome *o)
{
	static struct scan_region regions[WINDOW];
	struct scan_arg arg = { .size = sizeof(arg),
				.start = at(0),
				.end = at(WINDOW),
				.vec = (u64)(uintptr_t)regions,
				.vec_len = WINDOW,
				.category_mask = SCAN_IS_HUGE,
				.return_mask = SCAN_IS_HUGE };
	int n;

	/* Run by run as the engine has them: where it has no area one question is enough. */
	for (unsigned i = 0, n; i < WINDOW; i += n) {
		bool hole = engine.present[i] == 2;

		for (n = 1; i + n < WINDOW && (engine.present[i + n] == 2) == hole; n++)
			;
		if (!hole)
			see_present(real_mincore, o->present, i, n);
		else
			memset(o->present + i, real_mincore(i, n, o->present + i) ? 3 : 2, n);
	}
	memset(o->huge, 0, sizeof(o->huge));
	n = ioctl(pagemap, SCAN_IOCTL, &arg);
	for (int k = 0; k < n; k++)
		for (u64 va = regions[k].start; va < regions[k].end; va += PAGE_SIZE)
			o->huge[(va - at(0)) / PAGE_SIZE] = 1;
	return n >= 0;
}

/* How often the kernel found no huge page, or made one by itself, in whatever process. */
static u64 real_disturbances(void)
{
	FILE *scan = fopen("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed", "r");
	FILE *f = fopen("/proc/vmstat", "r");
	char name[64];
	u64 value, sum = 0;

	while (f && fscanf(f, "%63s %lu", name, &value) == 2)
		if (!strcmp(name, "thp_fault_fallback") ||
		    !strcmp(name, "thp_collapse_alloc_failed") ||
		    !strcmp(name, "thp_zero_page_alloc_failed"))
			sum += value;
	if (f)
		fclose(f);
	if (scan && fscanf(scan, "%lu", &value) == 1)
		sum += value;
	if (scan)
		fclose(scan);
	return sum;
}

/* As the engine calls it; -1: it cannot be compared here. */
static int real_mode(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char line[64] = "";
	bool read = f && fgets(line, sizeof(line), f);

	if (f)
		fclose(f);
	if (!read)
		return -1;
	return strstr(line, "[always]")	   ? THP_ALWAYS
	       : strstr(line, "[madvise]") ? THP_MADVISE
					   : THP_NEVER;
}

/* ---- the engine's side ---- */

static struct world w;

static s64 engine_touch(struct soft_cpu *cpu, const struct op *op, bool write)
{
	u8 byte = op->byte;
	enum fault_reason reason = write ? soft_write_byte(cpu, at(op->page), byte)
					 : soft_read_byte(cpu, at(op->page), &byte);

	switch (reason) {
	case FAULT_OK:
		return byte;
	case FAULT_MAPERR:
		return MAPERR;
	case FAULT_ACCERR:
		return ACCERR;
	default:
		return -2000 - (s64)reason;
	}
}

static s64 engine_fork(const struct op *op)
{
	struct soft_cpu *cpu = &w.m->cpus[1];
	struct mm *child;
	s64 told;

	if (mm_fork(w.mm, &child))
		abort();
	soft_load_mm(cpu, child);
	told = engine_touch(cpu, op, op->prot & PROT_WRITE);
	soft_load_mm(cpu, NULL);
	mmput(child);
	return told;
}

static s64 engine_do(const struct op *op)
{
	u64 va = at(op->page), len = op->n * PAGE_SIZE;

	switch (op->kind) {
	case OP_MAP:
		return min_of(do_mmap(w.mm, va, len, op->prot,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0),
			      0);
	case OP_UNMAP:
		return vm_unmap(w.mm, va, len);
	case OP_PROTECT:
		return do_mprotect(w.mm, va, len, op->prot);
	case OP_ADVISE:
		return do_madvise(w.mm, va, len, (u32)op->advice);
	case OP_REMAP:
		return min_of(
			do_mremap(w.mm, va, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, at(op->page2)),
			0);
	case OP_FORK:
		return engine_fork(op);
	default:
		return engine_touch(w.cpu, op, op->kind == OP_WRITE);
	}
}

static s64 engine_faults(void)
{
	return (s64)(atomic_load(&w.mm->minor) + atomic_load(&w.mm->major));
}

static bool engine_mincore(unsigned page, unsigned n, u8 *vec)
{
	return !do_mincore(w.mm, at(page), n * PAGE_SIZE, vec);
}

static void engine_look(struct outcome *o)
{
	see_present(engine_mincore, o->present, 0, WINDOW);
	for (unsigned i = 0; i < WINDOW; i++) {
		spinlock_t *ptl;
		pte_t *pmdp = pmd_find(w.mm, at(i), &ptl);

		o->huge[i] = pmdp && pmd_is_huge(pte_read(pmdp));
	}
}

/* ---- both ---- */

static struct op ops[SESSION + WINDOW];
static u64 counts[OP_KINDS], refused[OP_KINDS], huge_seen, disturbed;
static bool verbose;

static void print_op(const struct op *op)
{
	printf("  %s page %u", names[op->kind], op->page);
	if (op->kind < OP_READ)
		printf(" pages %u", op->n);
	if (op->kind == OP_REMAP)
		printf(" to %u", op->page2);
	if (op->kind == OP_ADVISE)
		printf(" advice %d", op->advice);
	if (op->kind == OP_MAP || op->kind == OP_PROTECT || op->kind == OP_FORK)
		printf(" prot %u", op->prot);
	if (op->kind >= OP_WRITE)
		printf(" byte %u", op->byte);
	printf("\n");
}

static void print_outcome(const char *side, const struct outcome *o)
{
	printf("%s: result %lld, %lld faults, per 2 MiB present/huge:", side, (long long)o->result,
	       (long long)o->faults);
	for (unsigned h = 0; h < WINDOW; h += HUGE_PAGES) {
		unsigned present = 0, huge = 0;

		for (unsigned i = h; i < h + HUGE_PAGES; i++) {
			present += o->present[i] & 1;
			huge += o->huge[i];
		}
		printf(" %u/%u", present, huge);
	}
	printf("\n");
}

static bool same(const struct op *op, const struct outcome *real, const struct outcome *engine,
		 bool apart)
{
	bool counted = op->kind == OP_READ || op->kind == OP_WRITE ||
		       (op->kind == OP_ADVISE && op->advice != UAPI_MADV_COLLAPSE);

	if (real->result != engine->result ||
	    memcmp(real->present, engine->present, sizeof(real->present)))
		return false;
	if (apart)
		return true;
	if (counted && real->result >= 0 && real->faults != engine->faults)
		return false;
	return !memcmp(real->huge, engine->huge, sizeof(real->huge));
}

static u64 split_before; /* the sequence */

static bool sets_apart(const struct op *op)
{
	if (op->kind == OP_ADVISE && op->advice == UAPI_MADV_COLD)
		return op->page % HUGE_PAGES || op->n % HUGE_PAGES ||
		       atomic_load(&w.e->stats->thp_split) != split_before;
	return op->kind == OP_FORK && (op->prot & PROT_WRITE);
}

/* 0, 1: they differ; 2: the kernel was disturbed. */
static int do_both(unsigned i, bool engine_only, bool *apart, u64 undisturbed)
{
	const struct op *op = &ops[i];
	s64 start;

	if (verbose)
		print_op(op);
	start = engine_faults();
	engine.result = engine_do(op);
	engine.faults = engine_faults() - start;
	engine_look(&engine);
	counts[op->kind]++;
	refused[op->kind] += engine.result < 0;
	for (unsigned k = 0; k < WINDOW; k += HUGE_PAGES)
		huge_seen += engine.huge[k];
	if (engine_only)
		return 0;
	start = real_faults();
	real.result = real_do(op);
	real.faults = real_faults() - start;
	real_look(&real);
	*apart |= sets_apart(op);
	if (verbose) {
		print_outcome("kernel", &real);
		print_outcome("engine", &engine);
	}
	if (same(op, &real, &engine, *apart))
		return 0;
	if (real_disturbances() != undisturbed)
		return 2;
	printf("they differ after:\n");
	for (unsigned k = 0; k <= i; k++)
		print_op(&ops[k]);
	print_outcome("kernel", &real);
	print_outcome("engine", &engine);
	return 1;
}

static int session(u64 seed, bool engine_only)
{
	unsigned n = 0, all = SESSION + WINDOW / 16;
	u64 undisturbed = engine_only ? 0 : real_disturbances();
	bool apart = false;
	int err = 0;

	split_before = atomic_load(&w.e->stats->thp_split);
	rnd = seed;
	vm_unmap(w.mm, at(0), WINDOW * PAGE_SIZE);
	munmap((void *)(uintptr_t)at(0), WINDOW * PAGE_SIZE);
	for (; !err && n < all; n++) {
		ops[n] = random_op();
		if (n == 0)
			ops[n] = (struct op){ .kind = OP_MAP,
					      .n = WINDOW,
					      .prot = PROT_READ | PROT_WRITE };
		if (n == 1) {
			ops[n].kind = OP_ADVISE;
			ops[n].advice = MADV_HUGEPAGE;
		}
		/* Else all would soon be holes. */
		if (n > 1 && ops[n].kind == OP_UNMAP && below(2))
			ops[n].kind = OP_MAP;
		if (n >= SESSION)
			ops[n] = (struct op){ .kind = OP_READ, .page = (n - SESSION) * 16 };
		err = do_both(n, engine_only, &apart, undisturbed);
	}
	soft_check(w.m);
	disturbed += err == 2;
	return err == 1;
}

static int begin(bool engine_only)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	int mode = engine_only ? THP_MADVISE : real_mode();

	pagemap = open("/proc/self/pagemap", O_RDONLY);
	if (!engine_only && (mode < 0 || mode == THP_NEVER || !real_look(&real))) {
		printf("skipped: this kernel does not show huge pages\n");
		return 77;
	}
	sigaction(SIGSEGV, &act, NULL);
	if (world_create(&w, (struct world_options){
				     .frames = 16384, .cpus = 2, .thp = (enum thp_mode)mode }))
		return 1;
	return 0;
}

int main(int argc, char **argv)
{
	u64 operations = 20000, seed = 1;
	bool engine_only = false;
	int err;

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
	err = begin(engine_only);
	for (u64 i = 0; !err && i < operations; i += SESSION) {
		err = session((seed * 0x9e3779b97f4a7c15ULL + i / SESSION + 1) *
					      0xbf58476d1ce4e5b9ULL |
				      1,
			      engine_only);
		if (err)
			printf("session %llu of seed %llu\n", (unsigned long long)(i / SESSION),
			       (unsigned long long)seed);
	}
	if (err)
		return err;
	for (unsigned k = 0; k < OP_KINDS; k++)
		printf("%-8s %7llu, refused %llu\n", names[k], (unsigned long long)counts[k],
		       (unsigned long long)refused[k]);
	printf("%llu huge pages seen; %llu sequences disturbed; no difference\n",
	       (unsigned long long)huge_seen, (unsigned long long)disturbed);
	return huge_seen ? 0 : 1;
}
