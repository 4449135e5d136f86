/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_L4_H
#define VMF_SYSTEMS_L4_H

#include "systems/system.h"

extern const struct system_type l4_system;

#endif
