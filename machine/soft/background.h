/* SPDX-License-Identifier: MIT */
/* Threads of the soft machine's that work beside its CPUs: a background reclaimer for each node. */
#ifndef VMF_SOFT_BACKGROUND_H
#define VMF_SOFT_BACKGROUND_H

#include "machine/soft/soft.h"

struct soft_background;

/* They look after their nodes from now on.  0, -ENOMEM, -EAGAIN (the host has no thread). */
int soft_background_start(struct soft_machine *m, struct soft_background **background);
/* When it returns they have ended. */
void soft_background_stop(struct soft_background *b);

#endif
