/* SPDX-License-Identifier: MIT */
#include "machine/linux/arena.h"
#include "engine/base/errno.h"
#include "machine/linux/sys.h"

#include <sys/mman.h>

/*
 * Blocks are powers of two from 64 bytes up.  What was freed waits in its class; the rest comes
 * from the end of the used part.  Memory becomes accessible in steps, so that a program that calls
 * mlockall() does not populate what is only reserved.
 */
#define MIN_SHIFT  6
#define NR_CLASSES 34
#define GROW_STEP  (2ULL << 20)

struct free_block {
	struct free_block *next;
};

static struct {
	spinlock_t lock;
	u64 top;	/* first byte never handed out */
	u64 accessible; /* bytes up to here may be touched */
	struct free_block *free[NR_CLASSES];
} arena;

int arena_init(void)
{
	long p = sys(mmap, ARENA_BASE, ARENA_SIZE, PROT_NONE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p < 0)
		return (int)p;
	if ((u64)p != ARENA_BASE) {
		/* A kernel that does not know NOREPLACE takes it for a hint. */
		sys(munmap, p, ARENA_SIZE);
		return -EEXIST;
	}
	sys(madvise, p, ARENA_SIZE, MADV_NOHUGEPAGE);
	spin_init(&arena.lock);
	arena.top = arena.accessible = ARENA_BASE;
	return 0;
}

static unsigned class_of(u64 bytes)
{
	unsigned shift = MIN_SHIFT;

	while ((1ULL << shift) < bytes)
		shift++;
	return shift - MIN_SHIFT;
}

static void *take_from_top(u64 bytes)
{
	u64 align = min_of(bytes, PAGE_SIZE);
	u64 start = (arena.top + align - 1) & ~(align - 1);
	u64 end = start + bytes;

	if (end > ARENA_BASE + ARENA_SIZE)
		return NULL;
	if (end > arena.accessible) {
		u64 upto =
			min_of((end + GROW_STEP - 1) & ~(GROW_STEP - 1), ARENA_BASE + ARENA_SIZE);

		if (sys(mprotect, arena.accessible, upto - arena.accessible,
			PROT_READ | PROT_WRITE) < 0)
			return NULL;
		arena.accessible = upto;
	}
	arena.top = end;
	return (void *)start;
}

void *arena_alloc(u64 bytes)
{
	unsigned class = class_of(bytes);
	struct free_block *b;
	void *p;

	if (class >= NR_CLASSES)
		return NULL;
	spin_lock(&arena.lock);
	b = arena.free[class];
	if (b) {
		arena.free[class] = b->next;
		p = b;
	} else {
		/* Large blocks are not rounded up: they are few, and mostly never freed. */
		p = take_from_top(bytes > GROW_STEP ? PAGE_ALIGN(bytes) : 64ULL << class);
	}
	spin_unlock(&arena.lock);
	if (b)
		memset(p, 0, min_of(bytes, PAGE_SIZE)); /* arena_free() saw to the rest */
	return p;
}

void arena_free(void *p, u64 bytes)
{
	unsigned class = class_of(bytes);
	struct free_block *b = p;

	if (!p)
		return;
	/* Whole pages beyond the first go back to the kernel and read as zeros next time. */
	if (bytes > PAGE_SIZE)
		sys(madvise, (u64)p + PAGE_SIZE, PAGE_ALIGN(bytes) - PAGE_SIZE, MADV_DONTNEED);
	if (bytes > GROW_STEP)
		return; /* address space is not short */
	spin_lock(&arena.lock);
	b->next = arena.free[class];
	arena.free[class] = b;
	spin_unlock(&arena.lock);
}

static void *engine_alloc(void *ctx, u64 bytes)
{
	(void)ctx;
	return arena_alloc(bytes);
}

static void engine_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx;
	arena_free(p, bytes);
}

const struct engine_memory arena_memory = { .alloc = engine_alloc, .free = engine_free };

u64 arena_accessible(void)
{
	return arena.accessible ? arena.accessible - ARENA_BASE : 0;
}

u64 arena_resident(void)
{
	static unsigned char vec[4096];
	u64 step = sizeof vec * PAGE_SIZE, pages = 0;
	u64 end = PAGE_ALIGN(arena.top);

	for (u64 at = ARENA_BASE; at < end; at += step) {
		u64 n = min_of(step, end - at) / PAGE_SIZE;

		if (sys(mincore, at, n * PAGE_SIZE, vec) < 0)
			continue;
		for (u64 i = 0; i < n; i++)
			pages += vec[i] & 1;
	}
	return pages * PAGE_SIZE;
}
