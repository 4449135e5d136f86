/* SPDX-License-Identifier: MIT */
/*
 * Random operations on a family of spaces of the soft machine against a model that is one byte
 * array for each.  They act on one of them at a time, which forks, ends, and gives way to another.
 *
 *   random [OPERATIONS [SEED]]
 *
 * After every operation all invariants are checked; results and bytes must be the model's.  A
 * sequence that fails is shrunk: operations are left out, most first, while it still fails; the
 * shortest that is found is printed as C.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "machine/soft/host.h"
#include "tests/unit/world.h"

enum { PAGES = 1536, TOUCH = 48 }; /* of the model's window; most bytes of a read or write */
enum { PROCESSES = 4, CPUS = 2 };  /* each process has its CPU, and shares it */

#define WINDOW (WORLD_LOW + 0x1ff000) /* across a table's end */

enum kind {
	OP_MAP,
	OP_MAP_ANYWHERE,
	OP_UNMAP,
	OP_PROTECT,
	OP_REMAP,
	OP_REMAP_KEEP,
	OP_REMAP_GROW,
	OP_ADVISE,
	OP_READ,
	OP_WRITE,
	OP_FETCH,
	OP_SCAN,
	OP_FILL,
	OP_PAGEOUT,
	OP_STEP,
	OP_INJECT,
	OP_FORK,
	OP_SWITCH,
	OP_EXIT,
	NR_KINDS
};

static const char *const names[NR_KINDS] = {
	"OP_MAP",	 "OP_MAP_ANYWHERE", "OP_UNMAP",	 "OP_PROTECT", "OP_REMAP",
	"OP_REMAP_KEEP", "OP_REMAP_GROW",   "OP_ADVISE", "OP_READ",    "OP_WRITE",
	"OP_FETCH",	 "OP_SCAN",	    "OP_FILL",	 "OP_PAGEOUT", "OP_STEP",
	"OP_INJECT",	 "OP_FORK",	    "OP_SWITCH", "OP_EXIT",
};

struct op {
	enum kind kind;
	unsigned page, n, to, value; /* pages of the window; what else the kind needs */
};

/* ---- the model ---- */

struct model {
	unsigned char prot[PAGES]; /* 0x80: mapped, and VM_READ ... */
	unsigned char bytes[PAGES][PAGE_SIZE];
};

#define MAPPED 0x80

static struct process {
	struct mm *mm; /* NULL: there is none */
	struct model space;
} processes[PROCESSES];

/* The one that has its turn; world.mm and world.cpu are its own. */
static unsigned current;
#define model (processes[current].space)

static struct world world;
static jmp_buf failed;
static char why[512];

static void fail(const char *text)
{
	snprintf(why, sizeof(why), "%s", text);
	longjmp(failed, 1);
}

#define EXPECT(what, ...)                                                                          \
	do {                                                                                       \
		if (!(what)) {                                                                     \
			char text_[400];                                                           \
			snprintf(text_, sizeof(text_), __VA_ARGS__);                               \
			fail(text_);                                                               \
		}                                                                                  \
	} while (0)

static u64 va_of(unsigned page)
{
	return WINDOW + (u64)page * PAGE_SIZE;
}

static void give_turn_to(unsigned n)
{
	current = n;
	world.mm = processes[n].mm;
	world.cpu = &world.m->cpus[n % CPUS];
	if (atomic_load(&world.cpu->mm) != world.mm)
		soft_load_mm(world.cpu, world.mm);
}

static bool all_mapped(unsigned page, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (!model.prot[page + i])
			return false;
	return true;
}

static void model_unmap(unsigned page, unsigned n)
{
	memset(model.prot + page, 0, n);
	memset(model.bytes[page], 0, (size_t)n * PAGE_SIZE);
}

/* mremap() without multi-VMA moves needs one VMA: equal protection is what the model knows of it,
 * so the runner asks the engine for the rest. */
static bool one_vma(unsigned page, unsigned n)
{
	struct vma *vma = find_vma(world.mm, va_of(page));

	return vma && vma->start <= va_of(page) && vma->end >= va_of(page + n);
}

static enum fault_reason expect_access(unsigned page, u32 need)
{
	if (!model.prot[page])
		return FAULT_MAPERR;
	if (need == VM_READ)
		need = VM_ACCESS; /* any right lets x86 read */
	return model.prot[page] & need ? FAULT_OK : FAULT_ACCERR;
}

/* ---- one operation on both ---- */

static void run_map(const struct op *o)
{
	u32 how = o->value & 8 ? VMAP_FIXED_NOREPLACE : VMAP_FIXED;
	s64 got = vm_map(world.mm, va_of(o->page), o->n * PAGE_SIZE, o->value & VM_ACCESS, how, 0);
	bool free = true;

	for (unsigned i = 0; i < o->n; i++)
		free &= !model.prot[o->page + i];
	if (how == VMAP_FIXED_NOREPLACE && !free) {
		EXPECT(got == -EEXIST, "map: %ld, not -EEXIST", (long)got);
		return;
	}
	EXPECT(got == (s64)va_of(o->page), "map: %ld", (long)got);
	model_unmap(o->page, o->n);
	memset(model.prot + o->page, MAPPED | (o->value & VM_ACCESS), o->n);
}

static void run_remap(const struct op *o, bool keep)
{
	u32 flags = VREMAP_MAYMOVE | VREMAP_FIXED | (keep ? VREMAP_DONTUNMAP : 0);
	bool overlap = o->page < o->to + o->n && o->to < o->page + o->n;
	bool can = !overlap && model.prot[o->page] && (!keep || one_vma(o->page, o->n));
	static unsigned char bytes[PAGES][PAGE_SIZE], prot[PAGES];
	s64 got;

	/* A hole in the middle, or (keep) several VMAs: what it does half is not in the model. */
	if (!overlap && model.prot[o->page] && !(keep ? can : all_mapped(o->page, o->n)))
		return;
	got = vm_remap(world.mm, va_of(o->page), o->n * PAGE_SIZE, o->n * PAGE_SIZE, flags,
		       va_of(o->to));
	if (!can) {
		EXPECT(got == (overlap ? -EINVAL : -EFAULT), "remap: %ld", (long)got);
		return;
	}
	EXPECT(got == (s64)va_of(o->to), "remap: %ld", (long)got);
	memcpy(bytes, model.bytes[o->page], (size_t)o->n * PAGE_SIZE);
	memcpy(prot, model.prot + o->page, o->n);
	model_unmap(o->page, o->n);
	if (keep)
		memcpy(model.prot + o->page, prot, o->n);
	memcpy(model.bytes[o->to], bytes, (size_t)o->n * PAGE_SIZE);
	memcpy(model.prot + o->to, prot, o->n);
}

/* Grow in place, or shrink. */
static void run_grow(const struct op *o)
{
	unsigned more = o->value % 32;
	bool shrink = o->value & 32, ok;
	unsigned new_n = shrink ? (more < o->n ? o->n - more : 1) : o->n + more;
	s64 got;

	if (o->page + new_n > PAGES)
		return;
	ok = one_vma(o->page, o->n);
	if (!shrink && more && ok) {
		struct vma *vma = find_vma(world.mm, va_of(o->page));

		for (unsigned i = o->n; i < new_n; i++)
			if (model.prot[o->page + i])
				ok = false;
		if (vma->end != va_of(o->page + o->n))
			ok = false;
		got = vm_remap(world.mm, va_of(o->page), o->n * PAGE_SIZE, new_n * PAGE_SIZE, 0, 0);
		EXPECT(got == (ok ? (s64)va_of(o->page) : -ENOMEM), "grow: %ld", (long)got);
		if (ok)
			memset(model.prot + o->page + o->n, model.prot[o->page], new_n - o->n);
		return;
	}
	if (!shrink)
		return;
	got = vm_remap(world.mm, va_of(o->page), o->n * PAGE_SIZE, new_n * PAGE_SIZE, 0, 0);
	if (!model.prot[o->page]) {
		EXPECT(got == -EFAULT, "shrink: %ld", (long)got);
		return;
	}
	EXPECT(got == (s64)va_of(o->page), "shrink: %ld", (long)got);
	model_unmap(o->page + new_n, o->n - new_n);
}

static void run_read(unsigned page, unsigned offset, unsigned len)
{
	enum fault_reason want = expect_access(page, VM_READ), got;
	unsigned char buf[PAGE_SIZE];

	got = soft_read(world.cpu, va_of(page) + offset, buf, len);
	EXPECT(got == want, "read of page %u: %d, not %d", page, got, want);
	if (got == FAULT_OK)
		EXPECT(!memcmp(buf, model.bytes[page] + offset, len),
		       "read of page %u: wrong bytes at %u (+%u): %02x, not %02x", page, offset,
		       len, buf[0], model.bytes[page][offset]);
}

static void run_write(unsigned page, unsigned offset, unsigned len, unsigned value)
{
	enum fault_reason want = expect_access(page, VM_WRITE), got;
	unsigned char buf[PAGE_SIZE];

	for (unsigned i = 0; i < len; i++)
		buf[i] = value * 31 + i * (value & 7);
	got = soft_write(world.cpu, va_of(page) + offset, buf, len);
	EXPECT(got == want, "write of page %u: %d, not %d", page, got, want);
	if (got == FAULT_OK)
		memcpy(model.bytes[page] + offset, buf, len);
}

/* ---- processes ---- */

static void run_fork(const struct op *o)
{
	unsigned n = o->to % PROCESSES;

	if (processes[n].mm)
		return;
	EXPECT(!mm_fork(world.mm, &processes[n].mm), "fork failed");
	processes[n].space = model;
	if (o->value & 1)
		give_turn_to(n);
}

static void run_switch(const struct op *o)
{
	for (unsigned i = 0; i < PROCESSES; i++) {
		unsigned n = (o->to + i) % PROCESSES;

		if (n != current && processes[n].mm) {
			give_turn_to(n);
			return;
		}
	}
}

/* The last one does not end. */
static void run_exit(const struct op *o)
{
	unsigned n = current;
	struct soft_cpu *cpu = world.cpu;

	run_switch(o);
	if (n == current)
		return;
	if (atomic_load(&cpu->mm) == processes[n].mm)
		soft_load_mm(cpu, NULL);
	mm_destroy(processes[n].mm);
	processes[n].mm = NULL;
}

static void run_op(const struct op *o)
{
	unsigned offset = o->value * 13 % (PAGE_SIZE - TOUCH), len = 1 + o->value % TOUCH;
	enum fault_reason got;
	unsigned char byte;
	s64 result, want;

	switch (o->kind) {
	case OP_MAP:
		run_map(o);
		break;
	case OP_MAP_ANYWHERE:
		/* Lands at the top, far from the window, and goes again. */
		result = vm_map(world.mm, 0, o->n * PAGE_SIZE, VM_READ | VM_WRITE, 0, 0);
		EXPECT(result == (s64)(WORLD_HIGH - o->n * PAGE_SIZE), "map: %lx", (long)result);
		EXPECT(soft_write_byte(world.cpu, result, 1) == FAULT_OK, "write at the top");
		EXPECT(!vm_unmap(world.mm, result, o->n * PAGE_SIZE), "unmap at the top");
		break;
	case OP_UNMAP:
		EXPECT(!vm_unmap(world.mm, va_of(o->page), o->n * PAGE_SIZE), "unmap failed");
		model_unmap(o->page, o->n);
		break;
	case OP_PROTECT:
		want = 0;
		for (unsigned i = 0; i < o->n; i++) {
			if (!model.prot[o->page + i]) {
				want = -ENOMEM;
				break;
			}
			model.prot[o->page + i] = MAPPED | (o->value & VM_ACCESS);
		}
		result = vm_protect(world.mm, va_of(o->page), o->n * PAGE_SIZE,
				    o->value & VM_ACCESS);
		EXPECT(result == want, "protect: %ld, not %ld", (long)result, (long)want);
		break;
	case OP_REMAP:
		run_remap(o, false);
		break;
	case OP_REMAP_KEEP:
		run_remap(o, true);
		break;
	case OP_REMAP_GROW:
		run_grow(o);
		break;
	case OP_ADVISE:
		want = all_mapped(o->page, o->n) ? 0 : -ENOMEM;
		result = vm_advise(world.mm, va_of(o->page), o->n * PAGE_SIZE,
				   o->value & 1 ? VADV_FREE : VADV_DONTNEED);
		EXPECT(result == want, "advise: %ld, not %ld", (long)result, (long)want);
		memset(model.bytes[o->page], 0, (size_t)o->n * PAGE_SIZE);
		break;
	case OP_READ:
		run_read(o->page, offset, len);
		break;
	case OP_WRITE:
		run_write(o->page, offset, len, o->value);
		break;
	case OP_FETCH:
		got = soft_fetch(world.cpu, va_of(o->page), &byte, 1);
		EXPECT(got == expect_access(o->page, VM_EXEC), "fetch of page %u: %d", o->page,
		       got);
		break;
	case OP_SCAN: /* up or down, which readahead sees */
		for (unsigned i = 0; i < o->n; i++) {
			unsigned page = o->value & 1 ? o->page + i : o->page + o->n - 1 - i;

			if (o->value & 2)
				run_write(page, offset, len, o->value + i);
			else
				run_read(page, offset, len);
		}
		break;
	case OP_FILL:
		for (unsigned i = 0; i < o->n; i++)
			run_write(o->page + i, 0, PAGE_SIZE, o->value);
		break;
	case OP_PAGEOUT:
		reclaim_range(world.mm, va_of(o->page), va_of(o->page + o->n));
		break;
	case OP_STEP:
		reclaim_step(world.e, o->n);
		if (o->value & 1)
			reclaim_direct(world.e, o->n % 16);
		break;
	case OP_INJECT:
		world.m->inject.stage_again_every = o->value & 1 ? 3 : 0;
		world.m->inject.set_again_every = o->value & 2 ? 4 : 0;
		world.m->inject.set_most = o->value & 4 ? 3 : 0;
		world.m->inject.take_busy_every = o->value & 8 ? 5 : 0;
		break;
	case OP_FORK:
		run_fork(o);
		break;
	case OP_SWITCH:
		run_switch(o);
		break;
	case OP_EXIT:
		run_exit(o);
		break;
	default:
		break;
	}
}

static void check_all_bytes(void)
{
	unsigned turn = current;

	for (unsigned n = 0; n < PROCESSES; n++) {
		if (!processes[n].mm)
			continue;
		give_turn_to(n);
		for (unsigned i = 0; i < PAGES; i++)
			if (model.prot[i] & VM_ACCESS)
				run_read(i, 0, PAGE_SIZE);
	}
	give_turn_to(turn);
}

static void end_all_but_one(void)
{
	const struct op o = { .kind = OP_EXIT };

	for (unsigned i = 0; i < PROCESSES; i++)
		run_exit(&o);
}

/* ---- sequences ---- */

static struct world_options options;
static struct engine_stats stats; /* of the last run that went well */

/* NULL, or why it failed; *at is then the operation. */
static const char *run(const struct op *ops, const bool *skip, unsigned n, unsigned *at)
{
	unsigned i = 0;
	volatile unsigned *pos = at;

	memset(processes, 0, sizeof(processes));
	if (world_create(&world, options))
		abort();
	processes[0].mm = world.mm;
	give_turn_to(0);
	host_on_panic(fail);
	if (setjmp(failed))
		return why; /* the world is left as it lies */
	for (i = 0; i < n; i++) {
		*pos = i;
		if (skip && skip[i])
			continue;
		run_op(&ops[i]);
		soft_check(world.m);
		if (i % 1000 == 999) {
			check_all_bytes();
			soft_check(world.m);
		}
	}
	*pos = n;
	check_all_bytes();
	stats = *world.e->stats;
	end_all_but_one();
	world_destroy(&world);
	host_on_panic(NULL);
	return NULL;
}

static u64 state;

static unsigned below(unsigned n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dULL >> 33) % n;
}

static struct op random_op(void)
{
	static const unsigned char weights[NR_KINDS] = { 12, 2,	 6, 10, 6, 4, 6, 6, 24, 30,
							 4,  14, 8, 6,	6, 1, 4, 8, 3 };
	static const unsigned sizes[] = { 1, 2, 5, 16, 40, 150, 400 };
	struct op o = { 0 };
	unsigned sum = 0, r, size = sizes[below(ARRAY_SIZE(sizes))];

	for (unsigned i = 0; i < NR_KINDS; i++)
		sum += weights[i];
	for (r = below(sum); r >= weights[o.kind]; o.kind++)
		r -= weights[o.kind];
	o.page = below(PAGES);
	o.n = 1 + below(size);
	if (o.page + o.n > PAGES)
		o.n = PAGES - o.page;
	o.to = below(PAGES);
	if (o.to + o.n > PAGES)
		o.to = PAGES - o.n;
	o.value = below(256);
	if ((o.kind == OP_MAP || o.kind == OP_PROTECT) && below(3))
		o.value |= VM_READ | VM_WRITE;
	return o;
}

static unsigned count(const bool *skip, unsigned n)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < n; i++)
		kept += !skip[i];
	return kept;
}

/* Leave out ever smaller parts while it still fails. */
static void shrink(const struct op *ops, bool *skip, unsigned n)
{
	time_t end = time(NULL) + 60;
	unsigned at;

	for (unsigned part = n / 2; part; part /= 2)
		for (unsigned from = 0; from < n && time(NULL) < end; from += part) {
			bool before[n];
			bool any = false;

			memcpy(before, skip, n);
			for (unsigned i = from; i < n && i < from + part; i++) {
				any |= !skip[i];
				skip[i] = true;
			}
			if (any && !run(ops, skip, n, &at))
				memcpy(skip, before, n);
		}
}

static int random_test(unsigned n, u64 seed)
{
	struct op *ops = calloc(n, sizeof(*ops));
	bool *skip = calloc(n, sizeof(*skip));
	const char *reason;
	unsigned at;

	state = seed * 0x9e3779b97f4a7c15ULL + 1;
	options = (struct world_options){
		.frames = 300,
		.slots = 8192,
		.cpus = CPUS,
		.prefetch = (unsigned[]){ 1, 4, 16, 64 }[below(4)],
		.segment = (unsigned[]){ 1, 7, 16, 64 }[below(4)],
		.kept = (unsigned[]){ 0, 20, 4096 }[below(3)],
		.compress = COMPRESS_LZ4,
	};
	for (unsigned i = 0; i < n; i++)
		ops[i] = random_op();
	printf("random: seed %lu, %u operations, prefetch %u, segment %u, kept %lu\n",
	       (unsigned long)seed, n, options.prefetch, options.segment,
	       (unsigned long)options.kept);
	fflush(stdout);
	reason = run(ops, NULL, n, &at);
	if (!reason)
		printf("random: %lu minor, %lu major, %lu second chances, %lu prefetched; evicted "
		       "%lu clean, %lu dirty, %lu same-filled\n",
		       stats.minor, stats.major, stats.second_chance, stats.prefetched,
		       stats.evicted_clean, stats.evicted_dirty, stats.same_filled);
	if (reason) {
		printf("FAILED at operation %u: %s\n", at, reason);
		fflush(stdout);
		n = at < n ? at + 1 : n;
		shrink(ops, skip, n);
		reason = run(ops, skip, n, &at);
		printf("the shortest of %u operations: %s\n", count(skip, n),
		       reason ? reason : "?");
		for (unsigned i = 0; i < n; i++)
			if (!skip[i])
				printf("\t{ %s, %u, %u, %u, %u },\n", names[ops[i].kind],
				       ops[i].page, ops[i].n, ops[i].to, ops[i].value);
	}
	free(ops);
	free(skip);
	return reason != NULL;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? strtoul(argv[1], NULL, 0) : 5000;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (u64)time(NULL);

	return random_test(n, seed);
}
