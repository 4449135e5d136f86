/* SPDX-License-Identifier: MIT */
/*
 * Built twice, for every x86-64 and for those with AVX2, each time under another name: XXH3 takes
 * the vectors that it is compiled for.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "stores/checksum.h"

struct checksum CHECKSUM_NAME(const void *bytes, u64 length);

struct checksum CHECKSUM_NAME(const void *bytes, u64 length) {
	XXH128_hash_t h = XXH3_128bits(bytes, length);

	return (struct checksum){ .low = h.low64, .high = h.high64 };
}
