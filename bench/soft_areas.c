/* SPDX-License-Identifier: MIT */
/*
 * mmap() and munmap() of one page in a space that has many areas already: single pages side by
 * side, every other one read-only, so that none merge.
 *
 *   anywhere   a new page where the space finds room, and away with it
 *   at random  one of the areas is unmapped and mapped again at its place
 */
#include <sys/mman.h>

#include "bench/soft_bench.h"
#include "engine/space/calls.h"

enum { CALLS = 3000 };

#define MOST 60000

/* The same for both sides. */
static unsigned prot_of(u64 area)
{
	return area % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
}

static u64 next_random(u64 *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static struct soft_machine *machine;
static struct mm *mm;

/* ---- the calls ---- */

/* One page, at `at` or (0) anywhere; where it is. */
typedef u64 (*map_fn)(u64 at, unsigned prot);
typedef void (*unmap_fn)(u64 at);

static u64 map_kernel(u64 at, unsigned prot)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED_NOREPLACE : 0);
	void *p = mmap((void *)at, PAGE_SIZE, prot, flags, -1, 0);

	if (p == MAP_FAILED)
		give_up("mmap");
	return (u64)p;
}

static void unmap_kernel(u64 at)
{
	if (munmap((void *)at, PAGE_SIZE))
		give_up("munmap");
}

static u64 map_ours(u64 at, unsigned prot)
{
	u64 flags = UAPI_MAP_PRIVATE | UAPI_MAP_ANONYMOUS | (at ? UAPI_MAP_FIXED_NOREPLACE : 0);
	s64 got = do_mmap(mm, at, PAGE_SIZE, prot, flags, NULL, 0);

	if (got < 0)
		give_up("our mmap");
	return (u64)got;
}

static void unmap_ours(u64 at)
{
	if (vm_unmap(mm, at, PAGE_SIZE))
		give_up("our munmap");
}

/* ---- the areas ---- */

struct side {
	map_fn map;
	unmap_fn unmap;
	u64 areas[MOST], n;
};

static struct side kernel = { .map = map_kernel, .unmap = unmap_kernel };
static struct side ours = { .map = map_ours, .unmap = unmap_ours };

static void have_areas(struct side *s, u64 n)
{
	for (; s->n < n; s->n++)
		s->areas[s->n] = s->map(0, prot_of(s->n));
}

static double anywhere(struct side *s, u64 n)
{
	double start;

	have_areas(s, n);
	start = thread_ns();
	for (unsigned i = 0; i < CALLS; i++)
		s->unmap(s->map(0, PROT_READ | PROT_EXEC));
	return (thread_ns() - start) / CALLS;
}

static double at_random(struct side *s, u64 n)
{
	u64 x = 88172645463325252ULL;
	double start;

	have_areas(s, n);
	start = thread_ns();
	for (unsigned i = 0; i < CALLS; i++) {
		u64 area = next_random(&x) % n;

		s->unmap(s->areas[area]);
		s->map(s->areas[area], prot_of(area));
	}
	return (thread_ns() - start) / CALLS;
}

static double anywhere_kernel(u64 n)
{
	return anywhere(&kernel, n);
}
static double anywhere_ours(u64 n)
{
	return anywhere(&ours, n);
}
static double at_random_kernel(u64 n)
{
	return at_random(&kernel, n);
}
static double at_random_ours(u64 n)
{
	return at_random(&ours, n);
}

static void start(void)
{
	machine = bench_machine(1, 1024, 1);
	mm = bench_space(machine);
}

#define CONTESTS(n, text)                                                                          \
	{ "mmap + munmap among " text " areas, anywhere",                                          \
	  "ns",                                                                                    \
	  1.0,                                                                                     \
	  anywhere_kernel,                                                                         \
	  anywhere_ours,                                                                           \
	  (n),                                                                                     \
	  NULL },                                                                                  \
	{                                                                                          \
		"mmap + munmap among " text " areas, at random", "ns", 1.0, at_random_kernel,      \
			at_random_ours, (n), NULL                                                  \
	}

static const struct contest contests[] = {
	CONTESTS(10, "10"),
	CONTESTS(1000, "1,000"),
	CONTESTS(MOST, "60,000"),
};

int main(int argc, char **argv)
{
	return run_contests(contests, sizeof(contests) / sizeof(*contests), start, argc, argv);
}
