/* SPDX-License-Identifier: MIT */
/*
 * Random operations, weighted so that they meet: new areas go next to old ones, or over them;
 * accesses go where areas are, and to the pages beside their ends.  One argument in some twenty is
 * one that no program would give on purpose.
 */
#include <linux/mman.h>
#include <sys/mman.h>

#include "tests/differential/generate.h"

#define NR_PLACES 24
#define NR_RANGES 12

/* One sequence in 500 goes to the limit of areas, which takes long to reach. */
#define STYLE_BALLAST 0
#define NR_STYLES     500

struct generator {
	u64 state;
	u64 places[NR_PLACES]; /* pages of the arena where areas began, ended or were touched */
	unsigned nr_places, next_place;
	/* Where areas were made of late: pages from the arena's start, and whether it grows. */
	struct {
		u16 page, n;
		bool grows;
	} ranges[NR_RANGES];
	unsigned nr_ranges, next_range;
	bool alive[NR_PROCESSES];
	unsigned parent[NR_PROCESSES];
	unsigned process;   /* who does the next operation */
	unsigned style;	    /* of the sequence; see pick_call() */
	u64 touch;	    /* an address that is written to next; 0: none */
	u64 hole, hole_len; /* what was unmapped last; 0: it has been filled */
	u64 brk;	    /* where the heap was to end last */
};

static u64 next(struct generator *g)
{
	u64 z = g->state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

static unsigned below(struct generator *g, unsigned n)
{
	return (next(g) >> 32) * n >> 32;
}

/* True so many times of a hundred. */
static bool percent(struct generator *g, unsigned n)
{
	return below(g, 100) < n;
}

/* ---- places and sizes ---- */

static void remember(struct generator *g, u64 page)
{
	g->places[g->next_place] = page % ARENA_PAGES;
	g->next_place = (g->next_place + 1) % NR_PLACES;
	g->nr_places += g->nr_places < NR_PLACES;
}

static u64 pick_page(struct generator *g)
{
	unsigned how = below(g, 100);
	u64 page;

	if (g->nr_places && how < 75) {
		page = g->places[below(g, g->nr_places)] + ARENA_PAGES;
		page += how < 40 ? 0 : below(g, 9) - 4;
		return page % ARENA_PAGES;
	}
	if (how < 95) /* on both sides of a table's end */
		return ARENA_MID - 24 + below(g, 48);
	return below(g, ARENA_PAGES);
}

static u64 pick_pages(struct generator *g, u64 page)
{
	static const u8 sizes[] = { 1, 1, 1, 2, 2, 3, 4, 5, 8, 9, 16, 17, 33 };
	u64 n = sizes[below(g, ARRAY_SIZE(sizes))];

	if (percent(g, 2))
		n = 100 + below(g, 300);
	return min_of(n, ARENA_PAGES - page);
}

static u64 pick_address(struct generator *g)
{
	u64 addr = ARENA_BASE + pick_page(g) * PAGE_SIZE;

	return percent(g, 3) ? addr + 1 + below(g, PAGE_SIZE - 1) : addr;
}

/* Bytes from an address on. */
static u64 pick_length(struct generator *g, u64 addr)
{
	static const u64 odd[] = {
		0,	    ~0ULL,    -PAGE_SIZE, 1ULL << 47, (1ULL << 47) - PAGE_SIZE,
		1ULL << 46, USER_END, 1ULL << 63
	};
	u64 page = in_arena(addr, 0) ? (addr - ARENA_BASE) >> PAGE_SHIFT : 0;
	u64 len = pick_pages(g, min_of(page, (u64)ARENA_PAGES - 1)) * PAGE_SIZE;

	if (percent(g, 4))
		return odd[below(g, ARRAY_SIZE(odd))];
	return percent(g, 5) ? len - below(g, PAGE_SIZE) : len;
}

/* A range for a new area. */
static void pick_new_range(struct generator *g, struct op *op)
{
	op->arg[0] = pick_address(g);
	op->arg[1] = pick_length(g, op->arg[0]);
	if (percent(g, 1))
		op->arg[0] = percent(g, 50) ? 0 : USER_END - below(g, 3) * PAGE_SIZE;
}

static void remember_range(struct generator *g, u64 addr, u64 len, bool grows)
{
	u64 page = (addr - ARENA_BASE) >> PAGE_SHIFT, n = PAGE_ALIGN(len) >> PAGE_SHIFT;

	if (!in_arena(addr, len) || !len)
		return;
	remember(g, page);
	remember(g, page + n);
	g->ranges[g->next_range].page = page;
	g->ranges[g->next_range].n = n;
	g->ranges[g->next_range].grows = grows;
	g->next_range = (g->next_range + 1) % NR_RANGES;
	g->nr_ranges += g->nr_ranges < NR_RANGES;
}

/* A range for a call on what is there: all of an area, or a part, or anything. */
static void pick_range(struct generator *g, struct op *op)
{
	unsigned how = below(g, 100), which, from, n;

	if (!g->nr_ranges || how < 35) {
		pick_new_range(g, op);
		return;
	}
	which = below(g, g->nr_ranges);
	from = how < 60 ? 0 : below(g, g->ranges[which].n);
	n = g->ranges[which].n - from;
	if (how >= 60 && percent(g, 60))
		n = 1 + below(g, min_of(n, 4u));
	op->arg[0] = ARENA_BASE + (g->ranges[which].page + from) * PAGE_SIZE;
	op->arg[1] = n * PAGE_SIZE;
	if (percent(g, 4))
		op->arg[1] -= below(g, PAGE_SIZE);
}

/* ---- flags ---- */

/* Any of the words of a kind, or (seldom) any bit. */
static u64 any_word(struct generator *g, enum arg_kind kind)
{
	const struct word *words = arg_words(kind);
	unsigned n = 0;

	while (words[n].name)
		n++;
	if (percent(g, 5))
		return arg_is_flags(kind) ? 1ULL << below(g, 32) : below(g, 120);
	return words[below(g, n)].value;
}

static u64 pick_policy(struct generator *g)
{
	u64 mode = any_word(g, ARG_POLICY);

	return percent(g, 10) ? mode | 1ULL << (13 + below(g, 3)) : mode;
}

static u64 pick_nodes(struct generator *g)
{
	return percent(g, 60) ? 1 : percent(g, 60) ? 0 : below(g, 8);
}

static u64 pick_maxnode(struct generator *g)
{
	return percent(g, 80) ? 64 : percent(g, 50) ? below(g, 66) : 0;
}

static u64 pick_prot(struct generator *g)
{
	static const u8 usual[] = { 3, 3, 3, 3, 3, 1, 1, 0, 7, 5, 4, 2, 6 };
	u64 prot = usual[below(g, ARRAY_SIZE(usual))];

	if (percent(g, 1))
		return prot | PROT_GROWSDOWN | PROT_GROWSUP;
	return percent(g, 4) ? prot | any_word(g, ARG_PROT) : prot;
}

static u64 pick_map_flags(struct generator *g)
{
	static const u8 types[] = { MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE, MAP_PRIVATE,
				    MAP_PRIVATE, MAP_SHARED,  MAP_SHARED,  MAP_SHARED };
	u64 flags = types[below(g, ARRAY_SIZE(types))];
	unsigned where = below(g, 100);

	if (percent(g, 3))
		flags = below(g, 16);
	if (percent(g, 55))
		flags |= MAP_ANONYMOUS;
	if (where < 65)
		flags |= MAP_FIXED;
	else if (where < 85)
		flags |= MAP_FIXED_NOREPLACE;
	if (percent(g, 8))
		flags |= MAP_POPULATE;
	if (percent(g, 5))
		flags |= MAP_GROWSDOWN;
	if (percent(g, 5))
		flags |= MAP_NORESERVE;
	if (percent(g, 4))
		flags |= MAP_LOCKED;
	if (percent(g, 6))
		flags |= any_word(g, ARG_MAP_FLAGS);
	return flags;
}

static u64 pick_file(struct generator *g)
{
	return percent(g, 60) ? (percent(g, 70) ? FILE_0 : FILE_1) : below(g, NR_TEST_FILES);
}

static u64 pick_offset(struct generator *g)
{
	static const u64 odd[] = {
		1, PAGE_SIZE - 1, -PAGE_SIZE, 1ULL << 63, (1ULL << 63) - PAGE_SIZE, 1ULL << 44, 2048
	};

	if (percent(g, 4))
		return odd[below(g, ARRAY_SIZE(odd))];
	return below(g, 16) * PAGE_SIZE;
}

/* ---- calls ---- */

/* The same of huge pages, of some size; the arena's middle is where one could be. */
static void make_huge(struct generator *g, struct op *op)
{
	static const u8 logs[] = { 0, 0, 0, 21, 21, 30, 16, 12 };

	op->arg[3] |= MAP_HUGETLB | (u64)logs[below(g, ARRAY_SIZE(logs))] << MAP_HUGE_SHIFT;
	if (percent(g, 70))
		op->arg[3] |= MAP_ANONYMOUS;
	if (percent(g, 50))
		op->arg[0] = ARENA_BASE + ARENA_MID * PAGE_SIZE;
}

/* A new area: often a neighbour of the last with the same rights, so that they merge. */
static void make_mmap(struct generator *g, struct op *op)
{
	pick_new_range(g, op);
	op->arg[2] = pick_prot(g);
	op->arg[3] = pick_map_flags(g);
	op->arg[4] = (op->arg[3] & MAP_ANONYMOUS) && !percent(g, 5) ? FILE_NONE : pick_file(g);
	op->arg[5] = (op->arg[3] & MAP_ANONYMOUS) && !percent(g, 3) ? 0 : pick_offset(g);
	/* A file goes on where it would: neighbours merge then. */
	if (op->arg[4] != FILE_NONE && percent(g, 40))
		op->arg[5] = (op->arg[0] - ARENA_BASE) % (16 * PAGE_SIZE) & PAGE_MASK;
	/* Of all flags a kernel asks for these only where it is to check them. */
	if ((op->arg[3] & 3) == 3 && percent(g, 30))
		op->arg[3] |= percent(g, 50) ? 1 << 25 : MAP_SYNC;
	if (percent(g, 1))
		make_huge(g, op);
	/* An area of huge pages would reach out of the arena, and stay. */
	if (op->arg[3] & MAP_HUGETLB)
		op->arg[3] &= ~(u64)MAP_NORESERVE;
	remember_range(g, op->arg[0], op->arg[1], op->arg[3] & MAP_GROWSDOWN);
}

/* What was unmapped is mapped again: it may become one with what is on both sides. */
static void fill_hole(struct generator *g, struct op *op)
{
	op->arg[0] = g->hole;
	op->arg[1] = g->hole_len;
	op->arg[2] = PROT_READ | PROT_WRITE;
	op->arg[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
	op->arg[4] = FILE_NONE;
	op->arg[5] = 0;
	g->hole = 0;
}

/* The middle of an area, so that it is two then. */
static void pick_middle(struct generator *g, struct op *op)
{
	unsigned which = below(g, max_of(g->nr_ranges, 1u));

	pick_range(g, op);
	if (which < g->nr_ranges && g->ranges[which].n > 2) {
		op->arg[0] = ARENA_BASE + (g->ranges[which].page + 1) * PAGE_SIZE;
		op->arg[1] = PAGE_SIZE;
	}
}

/* An area that grows down, at some distance above another: the guard gap is 256 pages. */
static void make_stack(struct generator *g, struct op *op)
{
	static const u16 gaps[] = { 1, 2, 16, 255, 256, 257, 258, 300 };
	unsigned last = g->next_range ? g->next_range - 1 : 0;
	/* Above where it begins, or where it ends. */
	u64 low = g->nr_ranges ? g->ranges[last].page + below(g, 2) * g->ranges[last].n : 0;
	u64 page = low + gaps[below(g, ARRAY_SIZE(gaps))];

	op->arg[0] = ARENA_BASE + min_of(page, (u64)ARENA_PAGES - 3) * PAGE_SIZE;
	op->arg[1] = (1 + below(g, 3)) * PAGE_SIZE;
	op->arg[2] = PROT_READ | PROT_WRITE;
	op->arg[3] = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN;
	op->arg[4] = FILE_NONE;
	remember_range(g, op->arg[0], op->arg[1], true);
}

static void make_mremap(struct generator *g, struct op *op)
{
	static const u8 usual[] = { 0,
				    MREMAP_MAYMOVE,
				    MREMAP_MAYMOVE,
				    MREMAP_MAYMOVE | MREMAP_FIXED,
				    MREMAP_MAYMOVE | MREMAP_FIXED,
				    MREMAP_MAYMOVE | MREMAP_FIXED,
				    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
				    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP };

	pick_range(g, op);
	if (percent(g, 2)) /* of shared memory: once more */
		op->arg[1] = 0;
	op->arg[2] = percent(g, 50) ? op->arg[1] : pick_length(g, op->arg[0]);
	op->arg[3] = usual[below(g, ARRAY_SIZE(usual))];
	if (percent(g, 5))
		op->arg[3] ^= any_word(g, ARG_REMAP_FLAGS);
	op->arg[4] = pick_address(g);
	if (op->arg[3] & MREMAP_FIXED)
		remember_range(g, op->arg[4], op->arg[2], false);
}

/* Mostly some pages up or down from where the heap was to end last. */
static void make_brk(struct generator *g, struct op *op)
{
	static const u64 odd[] = { 0, HEAP_START, HEAP_START - 1, ARENA_END, USER_END, ~0ULL };
	u64 step = pick_pages(g, 0) * PAGE_SIZE, down = min_of(step, g->brk - HEAP_START);
	unsigned how = below(g, 100);

	op->arg[0] = how < 50	? min_of(g->brk + step, ARENA_END)
		     : how < 80 ? g->brk - down
		     : how < 90 ? max_of(pick_address(g), HEAP_START)
				: odd[below(g, ARRAY_SIZE(odd))];
	if (!in_arena(op->arg[0], 0) || op->arg[0] < HEAP_START)
		return;
	if (percent(g, 10) && op->arg[0] < ARENA_END)
		op->arg[0] += below(g, PAGE_SIZE);
	g->brk = op->arg[0];
	remember_range(g, HEAP_START, g->brk - HEAP_START, false);
}

/* An address below an area that grows down, if there is one: near, at the guard gap, far. */
static u64 below_stack(struct generator *g, u64 otherwise)
{
	static const u16 distances[] = { 1, 1, 2, 3, 17, 254, 255, 256, 257, 297, 298, 299, 300 };
	unsigned start = below(g, NR_RANGES);

	for (unsigned i = 0; i < g->nr_ranges; i++) {
		unsigned which = (start + i) % g->nr_ranges;
		u64 distance = distances[below(g, ARRAY_SIZE(distances))];

		if (g->ranges[which].grows && g->ranges[which].page >= distance)
			return ARENA_BASE + (g->ranges[which].page - distance) * PAGE_SIZE;
	}
	return otherwise;
}

static u64 pick_touch(struct generator *g, bool aligned)
{
	static const u64 nowhere[] = { 0,	    PAGE_SIZE,
				       USER_END,    1ULL << 47,
				       -1ULL << 47, 0x00ff000000000000ULL,
				       -PAGE_SIZE,  0xffff800000000000ULL };
	static const u16 offsets[] = { 0, 0, 0, 0, 8, 2048, 4088, 4088 };
	u64 addr = ARENA_BASE + pick_page(g) * PAGE_SIZE;

	if (percent(g, 2))
		return nowhere[below(g, ARRAY_SIZE(nowhere))];
	if (percent(g, 10))
		addr = below_stack(g, addr);
	addr += offsets[below(g, ARRAY_SIZE(offsets))];
	if (!aligned && percent(g, 10))
		addr += below(g, 8);
	return addr;
}

static void make_io(struct generator *g, struct op *op)
{
	op->arg[0] = pick_file(g);
	op->arg[1] = below(g, 14) * PAGE_SIZE + (percent(g, 30) ? 8 * below(g, 512) : 0);
	op->arg[2] =
		ARENA_BASE + pick_page(g) * PAGE_SIZE + (percent(g, 30) ? 8 * below(g, 512) : 0);
	op->arg[3] = percent(g, 50) ? 8 * (1 + below(g, 512)) : (1 + below(g, 3)) * PAGE_SIZE;
	op->arg[3] = percent(g, 3) ? 0 : min_of(op->arg[3], ARENA_END - op->arg[2]);
}

static void make_seals(struct generator *g, struct op *op)
{
	op->arg[0] = pick_file(g);
	if (percent(g, 95))
		op->arg[1] = percent(g, 25) ? 16 : any_word(g, ARG_SEALS);
	if (percent(g, 30))
		op->arg[1] |= any_word(g, ARG_SEALS);
	/* What forbids most is not to come too early. */
	if (op->arg[1] & 0x21 && percent(g, 50))
		op->arg[1] = 8;
}

/* Of some arguments the kernel has an int: what is above that is nothing to it. */
static u64 upper_half(struct generator *g)
{
	return percent(g, 3) ? 1ULL << (32 + below(g, 32)) : 0;
}

static void make_limit(struct generator *g, struct op *op)
{
	op->arg[0] = below(g, NR_TEST_LIMITS);
	op->arg[1] = op->arg[0] == LIMIT_STACK ? 64 + below(g, 512) : below(g, 100);
	if (percent(g, 15))
		op->arg[1] = 0;
}

static unsigned pick_process(struct generator *g, bool which)
{
	unsigned start = below(g, NR_PROCESSES);

	for (unsigned i = 0; i < NR_PROCESSES; i++)
		if (g->alive[(start + i) % NR_PROCESSES] == which)
			return (start + i) % NR_PROCESSES;
	return which ? 0 : NR_PROCESSES - 1;
}

static void make_op(struct generator *g, struct op *op)
{
	switch ((enum call)op->call) {
	case CALL_MMAP:
		if (percent(g, 4))
			make_stack(g, op);
		else if (g->hole && percent(g, 20))
			fill_hole(g, op);
		else
			make_mmap(g, op);
		break;
	case CALL_MUNMAP:
		if (percent(g, g->style == STYLE_BALLAST ? 60 : 20))
			pick_middle(g, op);
		else
			pick_range(g, op);
		g->hole = op->arg[0];
		g->hole_len = op->arg[1];
		break;
	case CALL_MLOCK:
	case CALL_MUNLOCK:
	case CALL_MINCORE:
		pick_range(g, op);
		break;
	case CALL_MINCORE_TO:
		pick_range(g, op);
		op->arg[1] = min_of(op->arg[1], 6 * PAGE_SIZE);
		op->arg[2] = pick_touch(g, true) + 2;
		break;
	case CALL_MSEAL:
		pick_range(g, op);
		op->arg[2] = percent(g, 5);
		break;
	case CALL_MPROTECT:
		pick_range(g, op);
		op->arg[2] = pick_prot(g);
		break;
	case CALL_MREMAP:
		make_mremap(g, op);
		break;
	case CALL_BRK:
		make_brk(g, op);
		break;
	case CALL_MADVISE:
		if (g->style == STYLE_BALLAST && percent(g, 60))
			pick_middle(g, op);
		else
			pick_range(g, op);
		op->arg[2] = percent(g, 20)  ? MADV_DONTNEED
			     : percent(g, 5) ? MADV_REMOVE
					     : any_word(g, ARG_ADVICE);
		if (g->style == STYLE_BALLAST && percent(g, 50))
			op->arg[2] = MADV_RANDOM + below(g, 2);
		if (percent(g, 1))
			op->arg[2] = ~0ULL;
		op->arg[2] |= upper_half(g);
		break;
	case CALL_MLOCK2:
		pick_range(g, op);
		op->arg[2] = (percent(g, 80) ? 1 : below(g, 4)) | upper_half(g);
		break;
	case CALL_MLOCKALL:
		op->arg[0] = percent(g, 90) ? MCL_FUTURE | (below(g, 2) ? 4 : 0) : below(g, 10);
		op->arg[0] |= upper_half(g);
		break;
	case CALL_MBIND:
		pick_range(g, op);
		op->arg[2] = pick_policy(g);
		op->arg[3] = pick_nodes(g);
		op->arg[4] = pick_maxnode(g);
		op->arg[5] = percent(g, 70) ? 0 : below(g, 8);
		break;
	case CALL_SET_MEMPOLICY:
		op->arg[0] = pick_policy(g);
		op->arg[1] = pick_nodes(g);
		op->arg[2] = pick_maxnode(g);
		break;
	case CALL_GET_MEMPOLICY:
		op->arg[0] = percent(g, 80) ? pick_touch(g, false) : 0;
		op->arg[1] = percent(g, 90) ? 1024 : below(g, 66);
		op->arg[2] = op->arg[0] ? (percent(g, 80) ? 2 : 3) : below(g, 8);
		break;
	case CALL_MOVE_PAGES:
		op->arg[0] = pick_touch(g, false);
		op->arg[1] = percent(g, 50) ? NODE_ASK : percent(g, 80) ? 0 : below(g, 70);
		op->arg[2] = percent(g, 90) ? 2 : below(g, 8);
		break;
	case CALL_MSYNC:
		pick_range(g, op);
		g->touch = op->arg[0];
		op->arg[2] = (percent(g, 60) ? MS_SYNC : below(g, 10)) | upper_half(g);
		break;
	case CALL_READ:
	case CALL_WRITE:
	case CALL_EXEC:
	case CALL_GETUSER:
	case CALL_PUTUSER:
		op->arg[0] = pick_touch(g, op->call != CALL_READ);
		if (op->call == CALL_WRITE)
			op->arg[1] = 1 + below(g, 1 << 16);
		break;
	case CALL_PREAD:
	case CALL_PWRITE:
		make_io(g, op);
		break;
	case CALL_FTRUNCATE:
		op->arg[0] = pick_file(g);
		op->arg[1] = below(g, 16) * PAGE_SIZE + (percent(g, 30) ? 8 * below(g, 512) : 0);
		break;
	case CALL_PUNCH:
		op->arg[0] = pick_file(g);
		op->arg[1] = below(g, 14) * PAGE_SIZE + (percent(g, 20) ? 8 * below(g, 512) : 0);
		op->arg[2] =
			(1 + below(g, 4)) * PAGE_SIZE - (percent(g, 20) ? 8 * below(g, 512) : 0);
		break;
	case CALL_ADD_SEALS:
		make_seals(g, op);
		break;
	case CALL_GET_SEALS:
		op->arg[0] = pick_file(g);
		break;
	case CALL_FORK:
		op->arg[0] = pick_process(g, false);
		break;
	case CALL_REAP:
		op->arg[0] = pick_process(g, true);
		if (g->parent[op->arg[0]] < NR_PROCESSES)
			op->process = g->parent[op->arg[0]];
		break;
	case CALL_LIMIT:
		make_limit(g, op);
		break;
	case CALL_BALLAST:
		op->arg[0] = below(g, 4);
		break;
	default:
		break;
	}
}

/* How often each call comes, of 1000; the kind of sequence shifts that. */
static const u16 weights[NR_CALLS] = {
	[CALL_MMAP] = 170,	  [CALL_MUNMAP] = 60,	 [CALL_MPROTECT] = 100,
	[CALL_MREMAP] = 60,	  [CALL_MADVISE] = 70,	 [CALL_MLOCK] = 12,
	[CALL_MLOCK2] = 8,	  [CALL_MUNLOCK] = 12,	 [CALL_MLOCKALL] = 3,
	[CALL_MUNLOCKALL] = 3,	  [CALL_MSYNC] = 12,	 [CALL_MINCORE] = 15,
	[CALL_MSEAL] = 2,	  [CALL_READ] = 130,	 [CALL_WRITE] = 170,
	[CALL_EXEC] = 40,	  [CALL_GETUSER] = 12,	 [CALL_PUTUSER] = 12,
	[CALL_PREAD] = 10,	  [CALL_PWRITE] = 15,	 [CALL_FTRUNCATE] = 15,
	[CALL_PUNCH] = 8,	  [CALL_FORK] = 14,	 [CALL_REAP] = 8,
	[CALL_MINCORE_TO] = 5,	  [CALL_ADD_SEALS] = 4,	 [CALL_GET_SEALS] = 2,
	[CALL_LIMIT] = 4,	  [CALL_MBIND] = 12,	 [CALL_SET_MEMPOLICY] = 3,
	[CALL_GET_MEMPOLICY] = 6, [CALL_MOVE_PAGES] = 6, [CALL_BALLAST] = 0,
	[CALL_CHECK] = 4,	  [CALL_BRK] = 25,
};

static enum call pick_call(struct generator *g)
{
	unsigned sum = 0, at;

	for (unsigned i = 0; i < NR_CALLS; i++)
		sum += weights[i];
	at = below(g, sum);
	for (unsigned i = 0; i < NR_CALLS; i++) {
		if (at < weights[i])
			return i;
		at -= weights[i];
	}
	return CALL_CHECK;
}

static void note_processes(struct generator *g, const struct op *op)
{
	if (op->call == CALL_FORK && !g->alive[op->arg[0]]) {
		g->alive[op->arg[0]] = true;
		g->parent[op->arg[0]] = op->process;
	}
	if (op->call != CALL_REAP || g->parent[op->arg[0]] != op->process)
		return;
	g->alive[op->arg[0]] = false;
	for (unsigned i = 0; i < NR_PROCESSES; i++)
		if (g->parent[i] == op->arg[0])
			g->parent[i] = NR_PROCESSES; /* nobody's child from now on */
}

static void append(struct generator *g, struct sequence *s, const struct op *op)
{
	s->ops[s->n++] = *op;
	note_processes(g, op);
}

/* Runs of operations are one process's: passing on costs a switch. */
static void maybe_switch(struct generator *g)
{
	if (!g->alive[g->process] || percent(g, 12))
		g->process = pick_process(g, true);
}

void generate(struct sequence *s, u64 seed, u64 number, generate_filter can, const void *ctx)
{
	struct generator g = { .state = seed ^ number * 0xd1342543de82ef95ULL };
	unsigned n, tries;
	struct op op;

	next(&g);
	g.alive[0] = true;
	g.brk = HEAP_START;
	g.style = below(&g, NR_STYLES);
	n = 30 + below(&g, 171);
	s->n = 0;
	for (tries = 0; s->n < n && tries < 100 * n; tries++) {
		maybe_switch(&g);
		op = (struct op){ .process = g.process, .call = pick_call(&g) };
		if (g.style == STYLE_BALLAST && s->n == n / 2)
			op.call = CALL_BALLAST;
		make_op(&g, &op);
		if (op.call == CALL_WRITE && g.touch) {
			op.arg[0] = g.touch & ~7ULL;
			g.touch = 0;
		}
		if (!op_refusal(&op) && can(ctx, &op))
			append(&g, s, &op);
		else if (op.call == CALL_BALLAST)
			g.style = NR_STYLES;
	}
	for (unsigned i = 0; i < NR_PROCESSES; i++)
		if (g.alive[i])
			append(&g, s, &(struct op){ .call = CALL_CHECK, .process = i });
}
