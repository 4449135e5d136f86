/* SPDX-License-Identifier: MIT */
/* Checksums of pages: XXH3, 128 bits, with the widest vectors that this CPU has. */
#ifndef VMF_STORES_CHECKSUM_H
#define VMF_STORES_CHECKSUM_H

#include "engine/base/types.h"

struct checksum {
	u64 low, high;
};

/* The same on every CPU. */
struct checksum checksum_of(const void *bytes, u64 length);

static inline bool checksum_is(const void *bytes, u64 length, struct checksum sum)
{
	struct checksum now = checksum_of(bytes, length);

	return now.low == sum.low && now.high == sum.high;
}

#endif
