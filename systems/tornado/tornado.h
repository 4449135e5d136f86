/* SPDX-License-Identifier: MIT */
/* Tornado, with file cache managers that are partitioned, and with shared ones. */
#ifndef VMF_SYSTEMS_TORNADO_H
#define VMF_SYSTEMS_TORNADO_H

#include "systems/system.h"

extern const struct system_type tornado_system, tornado_shared_system;

#endif
