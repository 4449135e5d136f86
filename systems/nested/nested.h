/* SPDX-License-Identifier: MIT */
#ifndef VMF_SYSTEMS_NESTED_H
#define VMF_SYSTEMS_NESTED_H

#include "systems/common/engine_system.h"
#include "systems/nested/vm.h"

/* EPT with all of the guest's memory mapped before it runs, and with none; nested paging with none.
 */
extern const struct system_type nested_system, nested_cold_system, npt_system;

/* The hypervisor below a system of those types. */
struct vm *nested_vm(struct system *s);

/* The guest writes the MSR: ASYNC_ENABLED, ASYNC_KERNEL.  What its kernel remembers. */
struct async_guest *nested_async(struct system *s, unsigned vcpu, u32 msr);

#define NESTED_ATTACKS 12
extern const struct system_attack nested_attacks[NESTED_ATTACKS];

#endif
