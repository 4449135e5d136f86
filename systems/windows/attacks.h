/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_WINDOWS_ATTACKS_H
#define VMF_SYSTEMS_WINDOWS_ATTACKS_H

#include "systems/system.h"

#define NR_WINDOWS_ATTACKS 18

extern const struct system_attack windows_attacks[NR_WINDOWS_ATTACKS];

#endif
