/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_EXOKERNEL_H
#define VMF_SYSTEMS_EXOKERNEL_H

#include "systems/system.h"

extern const struct system_type xok_system, aegis_system, xok_two_system;

#endif
