/* SPDX-License-Identifier: MIT */
/* One world with a pool of huge pages, and short words for what tests do in it.  Huge pages are
 * numbered from HUGE_BASE. */
#ifndef VMF_TESTS_HUGE_WORLD_H
#define VMF_TESTS_HUGE_WORLD_H

#include "engine/backing/memfd.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/calls.h"
#include "tests/unit/one_world.h"

enum { HUGE_FRAMES = 512, HUGE_POOL_MOST = 18 };

#define HUGE_BASE 0x40000000ULL
#define H(n)	  ((u64)(n) * (2 << 20))
#define HUGE(n)	  (HUGE_BASE + H(n))

#define SHARED	  UAPI_MAP_SHARED
#define PRIVATE	  UAPI_MAP_PRIVATE
#define NORESERVE UAPI_MAP_NORESERVE
#define HUGETLB	  (UAPI_MAP_ANONYMOUS | UAPI_MAP_HUGETLB)

static struct hstate *h;

static inline void start_huge(u64 pool)
{
	start((struct world_options){ .frames = (HUGE_POOL_MOST + 2) * HUGE_FRAMES, .cpus = 2 });
	h = hstate_sizelog(w.e, 21);
	assert_int_equal(hugetlb_set_pool(h, pool), pool);
}

/* Map n huge pages at page `at`. */
static inline s64 map_huge(unsigned at, unsigned n, u64 flags, struct file *file, u64 offset)
{
	return do_mmap(mm, HUGE(at), H(n), RW, flags | UAPI_MAP_FIXED, file, offset);
}

static inline void map_anon(unsigned at, unsigned n, u64 flags)
{
	assert_int_equal(map_huge(at, n, flags | HUGETLB, NULL, 0), HUGE(at));
}

/* The pool's counts are these, and all invariants hold. */
static inline void pool_is(u64 nr, u64 free, u64 resv)
{
	struct hstate_counts n = hugetlb_counts(h);

	assert_int_equal(n.nr, nr);
	assert_int_equal(n.free, free);
	assert_int_equal(n.resv, resv);
	engine_check(w.e);
}

static inline enum fault_reason try_write(u64 va, u8 byte)
{
	return soft_write_byte(w.cpu, va, byte);
}

static inline enum fault_reason try_read(u64 va)
{
	u8 byte;

	return soft_read_byte(w.cpu, va, &byte);
}

static inline void hput(u64 va, u8 byte)
{
	assert_int_equal(try_write(va, byte), FAULT_OK);
}

static inline u8 hget(u64 va)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(w.cpu, va, &byte), FAULT_OK);
	return byte;
}

/* Run `process` on CPU 0 from now on. */
static inline void run(struct mm *process)
{
	soft_load_mm(w.cpu, process);
}

static inline struct mm *fork_of(struct mm *parent)
{
	struct mm *child = NULL;

	assert_int_equal(mm_fork(parent, &child), 0);
	return child;
}

static inline void end(struct mm *process)
{
	run(mm);
	mm_destroy(process);
}

#endif
