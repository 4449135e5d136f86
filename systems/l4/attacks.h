/* SPDX-License-Identifier: MIT */
/* What the microkernel refuses, by its own calls. */
#ifndef VMF_L4_ATTACKS_H
#define VMF_L4_ATTACKS_H

#include "systems/l4/kernel.h"
#include "systems/system.h"

#define NR_L4_ATTACKS 7
extern const struct system_attack l4_attacks[NR_L4_ATTACKS];

/* Of l4.c: the kernel of that system, and its pager. */
struct l4_kernel *l4_kernel_of(struct system *s);
extern const struct l4_task l4_pager;

#endif
