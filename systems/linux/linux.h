/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_LINUX_H
#define VMF_SYSTEMS_LINUX_H

#include "systems/system.h"

extern const struct system_type linux_system, linux_old_system;

#endif
