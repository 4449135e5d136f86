/* SPDX-License-Identifier: MIT */
/*
 * Huge pages of a pool, on the running kernel and in the engine: one operation at a time, of a
 * process or of its child, on sixteen places of 2 MiB and a file of huge pages that both have.
 */
#ifndef VMF_DIFFERENTIAL_HUGETLB_H
#define VMF_DIFFERENTIAL_HUGETLB_H

#include "engine/base/types.h"

#define HUGE_BYTES  (2ULL << 20)
#define HUGE_PLACES 16
#define HUGE_BASE   0x40000000ULL
#define HUGE_POOL   6 /* pages: soon used up */

enum pool_call {
	HUGE_MMAP,     /* address, length, prot, flags (MAP_ANONYMOUS: not the file), offset */
	HUGE_MUNMAP,   /* address, length */
	HUGE_PROTECT,  /* address, length, prot */
	HUGE_ADVISE,   /* address, length, advice */
	HUGE_REMAP,    /* address, old length, new length, flags, new address */
	HUGE_READ,     /* address */
	HUGE_WRITE,    /* address, byte */
	HUGE_MINCORE,  /* address, length */
	HUGE_TRUNCATE, /* size */
	HUGE_PUNCH,    /* offset, length */
	HUGE_LOCK,     /* address, length */
	HUGE_FORK,     /* by the first process, if there is no child */
	HUGE_REAP,     /* the child ends */
	NR_HUGE_CALLS
};

struct huge_op {
	u32 call, child; /* enum pool_call; done by the child */
	u64 arg[5];
};

/* What came of it. */
struct huge_result {
	s64 value; /* what the call returned (an address that was not fixed: 1 if it is aligned, and
		    * it is unmapped again), or the byte that was read */
	int signal;		     /* 0, or its number << 8 | si_code */
	u64 faults;		     /* minor, of an access */
	u64 sum;		     /* of mincore's bytes */
	u64 nr, free, resv, surplus; /* of the pool, afterwards */
	bool left_out; /* by the engine's side, for the kernel's sake: it was not done */
	bool gone;     /* the process is */
};

/* One of the two.  begin(): a process without areas, an empty file; false: it cannot be had. */
struct huge_side {
	const char *name;
	bool (*begin)(u64 pool);
	void (*perform)(const struct huge_op *op, struct huge_result *r);
	void (*end)(void);
};

extern const struct huge_side huge_real, huge_engine;

/* The kernel's pool: its file of that name, or -1. */
s64 huge_pool_number(const char *name);
/* What there is of it now is left out of all counts from then on. */
void huge_pool_look(void);
/* The same, but for so many pages that nobody uses: they are ours already. */
void huge_pool_look_beside(u64 pages);
/* So many pages more than there were then: false: it cannot be.  And as it was: false likewise. */
bool huge_pool_enlarge(u64 pages);
bool huge_pool_restore(void);

#endif
