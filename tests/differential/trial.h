/* SPDX-License-Identifier: MIT */
/* One sequence on both sides, and making a sequence that fails as short as it can be. */
#ifndef VMF_DIFFERENTIAL_TRIAL_H
#define VMF_DIFFERENTIAL_TRIAL_H

#include "tests/differential/compare.h"
#include "tests/differential/side.h"

#define MAX_MASKS 16

/* The two sides, and what running sequences on them came to. */
struct pair {
	struct support support;
	struct side *real, *engine;
	u64 masked[MAX_MASKS];	    /* operations in which a mask was needed */
	u64 real_ns, engine_ns;	    /* time from start to end of each side */
	const struct trace *traced; /* the kernel's, of the last trial; NULL: it has none */
	const struct trace *made;   /* the engine's */
};

/* False: `why` (at least 160 bytes) says what is missing. */
bool pair_open(struct pair *p, char *why);
void pair_close(struct pair *p);
/* Can both sides do it, on this kernel?  For generate(); ctx: a pair. */
bool pair_can(const void *ctx, const struct op *op);

/* True: both do the same.  False: *m says where not. */
bool trial(struct pair *p, const struct sequence *s, struct mismatch *m);

/*
 * `s` fails with *m.  Leave out operations and make arguments plainer as long as it fails in the
 * same field; *m is kept up.  At most `seconds` are spent.
 */
void shrink(struct pair *p, struct sequence *s, struct mismatch *m, unsigned seconds);

/* A sequence that fails as the text of a test: comments say what both sides do in the end.
 * Returns the length that all of it has. */
size_t failure_print(const struct sequence *s, const struct mismatch *m, char *buf, size_t size);

#endif
