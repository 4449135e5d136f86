/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_SHADOW_H
#define VMF_SYSTEMS_SHADOW_H

#include "systems/common/engine_system.h"
#include "systems/shadow/paging.h"

/* All of the guest's tables write-protected; leaf tables out of sync until the guest flushes. */
extern const struct system_type shadow_system, shadow_oos_system;

/* The shadows below a system of those types. */
struct shadow *shadow_of(struct system *s);
/* Why the last access that the hypervisor could not serve on this CPU was not. */
int shadow_error(struct system *s, unsigned cpu);

#define SHADOW_ATTACKS 9
extern const struct system_attack shadow_attacks[SHADOW_ATTACKS];

#endif
