/* SPDX-License-Identifier: MIT */
/* Between the files of the system `xok`, and its tests. */
#ifndef VMF_EXOKERNEL_INTERNAL_H
#define VMF_EXOKERNEL_INTERNAL_H

#include "systems/exokernel/library.h"

#define LIBRARY_RESOURCE 1

struct exokernel {
	struct engine_system base;
	struct xok xok;
	struct library library;
};

static inline struct exokernel *exokernel_of(struct system *s)
{
	return container_of(engine_system_of(s), struct exokernel, base);
}

#define XOK_ATTACKS 17
extern const struct system_attack xok_attacks[XOK_ATTACKS];

#endif
