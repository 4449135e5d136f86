/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_WINDOWS_H
#define VMF_SYSTEMS_WINDOWS_H

#include "systems/system.h"

struct nt;

extern const struct system_type windows_system;

/* The kernel side of such a system. */
struct nt *windows_nt(struct system *s);

#endif
