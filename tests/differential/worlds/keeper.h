/* SPDX-License-Identifier: MIT */
/* What a world needs of the kernel, held by a process that gives it back whatever becomes of us. */
#ifndef VMF_DIFFERENTIAL_KEEPER_H
#define VMF_DIFFERENTIAL_KEEPER_H

#include <sys/types.h>

#include "tests/differential/worlds/world.h"

struct keeper {
	pid_t pid; /* 0: there is none, and no need of one */
	int hold;  /* it goes on as long as somebody has this open */
};

enum { KEEPER_WHY = 160 };

/* False: the world cannot be had, and `why` (KEEPER_WHY bytes) says why; nothing is held then. */
bool keeper_start(struct keeper *k, const struct oracle_world *world, char *why);
/* Give all back, and wait for it.  False: the kernel is not as it was. */
bool keeper_end(struct keeper *k);

#endif
