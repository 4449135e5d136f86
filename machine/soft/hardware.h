/* SPDX-License-Identifier: MIT */
/* The soft machine's own: memory and CPUs without any engine (then engine_init() makes one). */
#ifndef VMF_SOFT_HARDWARE_H
#define VMF_SOFT_HARDWARE_H

#include "machine/soft/soft.h"

/* 0, -EINVAL, -ENOMEM, -ENOSYS. */
int soft_create_bare(const struct soft_options *options, struct soft_machine **machine);
void soft_destroy_bare(struct soft_machine *m);

#endif
