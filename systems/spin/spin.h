/* SPDX-License-Identifier: MIT */
/* SPIN as a system of the laboratory, and its dispatcher for those who extend it: see spin.c. */
#ifndef VMF_SYSTEMS_SPIN_H
#define VMF_SYSTEMS_SPIN_H

#include "systems/spin/dispatcher.h"
#include "systems/system.h"

extern const struct system_type spin_system;

/* Of a system that spin_system has made. */
struct spin_dispatcher *spin_dispatcher_of(struct system *s);
/* The extension may install handlers for the address space of that process. */
void spin_give_space(struct system *s, unsigned process, u32 extension);
/* What a handler for its space names it by, while it is there. */
u64 spin_key_of(struct system *s, unsigned process);
/* Resolve the fault as the AddressSpace extension does, and set `done`: for a handler of another
 * extension that has done its part. */
void spin_address_space_handler(void *closure, struct spin_fault *fault);

#endif
