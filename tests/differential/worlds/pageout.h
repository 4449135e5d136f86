/* SPDX-License-Identifier: MIT */
/* Swapping on request: sixteen pages of private memory and sixteen of shared memory after them. */
#ifndef VMF_DIFFERENTIAL_PAGEOUT_H
#define VMF_DIFFERENTIAL_PAGEOUT_H

#include "tests/differential/worlds/world.h"

enum { PRIVATE_PAGES = 16, SHARED_PAGES = 16, PAGES = PRIVATE_PAGES + SHARED_PAGES };
#define REGION 0x10000000000ULL

enum pageout_call {
	READ,
	WRITE, /* n: the byte */
	PAGEOUT,
	COLD,
	FREE,
	DONTNEED,
	POPULATE_READ,
	POPULATE_WRITE,
	PROTECT, /* of all private memory; n: PROT_ */
	REPLACE, /* what was mapped is unmapped, and new memory in its place */
	MOVE,	 /* private memory away and back again */
	SWAPOFF, /* and on again */
	CHILD_READS,
	CHILD_WRITES,
	NR_PAGEOUT_CALLS
};

struct pageout_step {
	u32 call;
	u32 page, n; /* n: pages, if it is nothing else */
};

/* What came of an operation. */
struct pageout_record {
	long result; /* the byte, or what the call returned (negative errno); REFUSED: a signal */
	u8 there[PAGES];
	long minor, major; /* of a touch */
};

#define REFUSED (-1000)

static inline bool is_touch(const struct pageout_step *op)
{
	return op->call == READ || op->call == WRITE;
}

/* True: `records` has what came of each step. */
bool pageout_kernel(const struct script *script, struct pageout_record *records);
bool pageout_engine(const struct script *script, struct pageout_record *records);

#endif
