/* SPDX-License-Identifier: MIT */
/* Are two traces of one sequence the same, but for what no two kernels need have in common? */
#ifndef VMF_DIFFERENTIAL_COMPARE_H
#define VMF_DIFFERENTIAL_COMPARE_H

#include "tests/differential/record.h"
#include "tests/differential/support.h"

/* What is compared of a record. */
enum field {
	FIELD_STATE = 1u << 0,
	FIELD_RESULT = 1u << 1,
	FIELD_VALUE = 1u << 2,
	FIELD_SIGNAL = 1u << 3, /* all but CR2 */
	FIELD_CR2 = 1u << 4,
	FIELD_MINOR = 1u << 5,
	FIELD_MAJOR = 1u << 6,
	FIELD_AREAS = 1u << 7,	  /* addresses, rights, objects */
	FIELD_DETAILS = 1u << 8,  /* of areas: flags and resident pages */
	FIELD_DIRTY = 1u << 9,	  /* of areas */
	FIELD_PAGES = 1u << 10,	  /* which are present, and their contents */
	FIELD_SHARING = 1u << 11, /* of pages: are they mapped once? */
	FIELD_SIDE = 1u << 12,	  /* one side could not do the sequence at all */
};

/* Something that is left out, and why. */
struct mask {
	const char *name, *why;
	unsigned fields;
	bool (*applies)(const struct support *s, const struct op *op, const struct record *real);
};
extern const struct mask masks[];
extern const unsigned nr_masks;

struct mismatch {
	unsigned op;	  /* its place in the sequence */
	enum field field; /* the first that differs */
	char text[512];	  /* what both have */
};

/* True: they are the same.  Else `m` says where they first differ.  `masked` counts, for each of
 * the masks, the operations in which it was needed. */
bool traces_same(const struct support *support, const struct sequence *sequence,
		 const struct trace *real, const struct trace *engine, struct mismatch *m,
		 u64 *masked);

/* What came of an operation, in a few words: "0", "-EINVAL", "a+5", "SIGSEGV code 1 ...". */
const char *record_print(const struct op *op, const struct record *r, char *buf, size_t size);
const char *errno_name(int err);
const char *field_name(enum field field);

#endif
