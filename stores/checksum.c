/* SPDX-License-Identifier: MIT */
#include "stores/checksum.h"

struct checksum checksum_sse2(const void *bytes, u64 length);
struct checksum checksum_avx2(const void *bytes, u64 length);

struct checksum checksum_of(const void *bytes, u64 length)
{
	return __builtin_cpu_supports("avx2") ? checksum_avx2(bytes, length)
					      : checksum_sse2(bytes, length);
}
