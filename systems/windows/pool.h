/* SPDX-License-Identifier: MIT */
/*
 * The two pools.  What is allocated has pages of its own, as in special pool: so what is touched
 * after it was freed is never another's.  Its contents begin as zeros.
 *
 * By the thread that drives the CPU.  Errors are those of bug checks, unless said.
 */
#ifndef VMF_SYSTEMS_WINDOWS_POOL_H
#define VMF_SYSTEMS_WINDOWS_POOL_H

#include "systems/windows/nt.h"

enum pool_type { NON_PAGED_POOL, PAGED_POOL };

/*
 * At *va.  From the paged pool below DISPATCH_LEVEL only, from the other up to it; there it takes
 * what frames there are, and waits for none.  -ENOMEM, without a bug check: there is no room.
 */
int ex_allocate_pool(struct nt *k, unsigned cpu, enum pool_type type, u64 bytes, u32 tag, u64 *va);
/* By whoever knows the tag.  -EBUSY, without a bug check: a CPU has its stack there. */
int ex_free_pool(struct nt *k, unsigned cpu, u64 va, u32 tag);

#endif
