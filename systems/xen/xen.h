/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_XEN_H
#define VMF_SYSTEMS_XEN_H

#include "systems/system.h"

extern const struct system_type xen_system, xen_ptwr_system;

#endif
