/* SPDX-License-Identifier: MIT */
/*
 * Interrupt request levels and what raises them: a CPU at DISPATCH_LEVEL or above runs nothing but
 * what it runs, so it cannot wait, so it cannot have a page brought in.
 *
 * Each is called by the thread that drives the CPU.  Errors are those of bug checks.
 */
#ifndef VMF_SYSTEMS_WINDOWS_IRQL_H
#define VMF_SYSTEMS_WINDOWS_IRQL_H

#include "systems/windows/nt.h"

struct ke_spin_lock {
	spinlock_t lock;
	_Atomic u32 owner; /* CPU + 1; 0: nobody */
};

static inline u8 ke_get_current_irql(const struct nt *k, unsigned cpu)
{
	return k->cpus[cpu].irql;
}
/* *old is what it was.  To less than it is: IRQL_NOT_GREATER_OR_EQUAL.  With the verifier on, a
 * raise from below DISPATCH_LEVEL to it or above trims all pageable memory that is not locked. */
int ke_raise_irql(struct nt *k, unsigned cpu, u8 to, u8 *old);
/* To more than it is: IRQL_NOT_LESS_OR_EQUAL. */
int ke_lower_irql(struct nt *k, unsigned cpu, u8 to);

void ke_initialize_spin_lock(struct ke_spin_lock *lock);
/* At DISPATCH_LEVEL from then on.  SPIN_LOCK_ALREADY_OWNED: by this CPU. */
int ke_acquire_spin_lock(struct nt *k, unsigned cpu, struct ke_spin_lock *lock, u8 *old);
/* SPIN_LOCK_NOT_OWNED: not by this CPU. */
int ke_release_spin_lock(struct nt *k, unsigned cpu, struct ke_spin_lock *lock, u8 old);

/* What pageable code begins with: 0, or -EPERM: it must not run at this level. */
int ke_paged_code(const struct nt *k, unsigned cpu);

#endif
