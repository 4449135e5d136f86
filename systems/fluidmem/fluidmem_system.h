/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_FLUIDMEM_SYSTEM_H
#define VMF_SYSTEMS_FLUIDMEM_SYSTEM_H

#include "systems/fluidmem/fluidmem.h"
#include "systems/system.h"

extern const struct system_type fluidmem_system;

/* Of a system of that type, for tests. */
struct fluidmem *fluidmem_of(struct system *s);

#endif
