/* SPDX-License-Identifier: MIT */
/* Between the files of the systems `xok` and `aegis`, and its tests. */
#ifndef VMF_EXOKERNEL_INTERNAL_H
#define VMF_EXOKERNEL_INTERNAL_H

#include "systems/exokernel/library.h"

#define LIBRARY_RESOURCE 1

struct aegis;

struct exokernel {
	struct engine_system base;
	struct xok xok;
	struct library library;
	struct aegis *aegis; /* NULL: the hardware walks page tables, which are the kernel's */
};

/* system_type.create of both. */
int exokernel_create(const struct system_type *type, const struct system_options *options,
		     struct system **system);

static inline struct exokernel *exokernel_of(struct system *s)
{
	return container_of(engine_system_of(s), struct exokernel, base);
}

#define XOK_EXPECTED 9
extern const struct system_expectation xok_expected[XOK_EXPECTED];

#define XOK_ATTACKS 19
extern const struct system_attack xok_attacks[XOK_ATTACKS];

#endif
