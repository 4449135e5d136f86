/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_USERFAULT_H
#define VMF_SYSTEMS_USERFAULT_H

#include "systems/system.h"

extern const struct system_type userfault_system;

#endif
