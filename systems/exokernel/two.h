/* SPDX-License-Identifier: MIT */
/* Between the files of the system `xok-two`. */
#ifndef VMF_EXOKERNEL_TWO_H
#define VMF_EXOKERNEL_TWO_H

#include "systems/exokernel/beside.h"

struct two {
	struct system system; /* its program is the first library's */
	struct beside *beside;
	struct ledger *second;
	struct system_part parts[BESIDE];
};

static inline struct two *two_of(struct system *s)
{
	return container_of(s, struct two, system);
}

#define TWO_ATTACKS 17
extern const struct system_attack two_attacks[TWO_ATTACKS];

#endif
