/* SPDX-License-Identifier: MIT */
/* Random sequences.  A seed and a number give the same sequence wherever the same operations can be
 * done. */
#ifndef VMF_DIFFERENTIAL_GENERATE_H
#define VMF_DIFFERENTIAL_GENERATE_H

#include "tests/differential/op.h"

/* Which operations can be done: by both sides, and on this kernel. */
typedef bool (*generate_filter)(const void *ctx, const struct op *op);

void generate(struct sequence *sequence, u64 seed, u64 number, generate_filter can,
	      const void *ctx);

#endif
