/* SPDX-License-Identifier: MIT */
#include "systems/windows/irql.h"

#include "engine/base/errno.h"
#include "systems/windows/pages.h"

int ke_raise_irql(struct nt *k, unsigned cpu, u8 to, u8 *old)
{
	struct nt_cpu *c = &k->cpus[cpu];

	if (bugcheck_errno(&k->bugcheck))
		return bugcheck_errno(&k->bugcheck);
	if (to < c->irql || to > HIGH_LEVEL)
		return ke_bug_check(k, IRQL_NOT_GREATER_OR_EQUAL, c->irql, to, 0, 0);
	*old = c->irql;
	c->irql = to;
	if (k->verifier && *old < DISPATCH_LEVEL && to >= DISPATCH_LEVEL)
		mi_trim_all(k);
	return 0;
}

int ke_lower_irql(struct nt *k, unsigned cpu, u8 to)
{
	struct nt_cpu *c = &k->cpus[cpu];

	if (bugcheck_errno(&k->bugcheck))
		return bugcheck_errno(&k->bugcheck);
	if (to > c->irql)
		return ke_bug_check(k, IRQL_NOT_LESS_OR_EQUAL, to, c->irql, 0, 0);
	c->irql = to;
	return 0;
}

void ke_initialize_spin_lock(struct ke_spin_lock *lock)
{
	spin_init(&lock->lock);
	atomic_init(&lock->owner, 0);
}

int ke_acquire_spin_lock(struct nt *k, unsigned cpu, struct ke_spin_lock *lock, u8 *old)
{
	int err;

	if (atomic_load(&lock->owner) == cpu + 1)
		return ke_bug_check(k, SPIN_LOCK_ALREADY_OWNED, (u64)lock, cpu, 0, 0);
	err = ke_raise_irql(k, cpu, max_of(k->cpus[cpu].irql, (u8)DISPATCH_LEVEL), old);
	if (err)
		return err;
	spin_lock(&lock->lock);
	atomic_store(&lock->owner, cpu + 1);
	return 0;
}

int ke_release_spin_lock(struct nt *k, unsigned cpu, struct ke_spin_lock *lock, u8 old)
{
	if (atomic_load(&lock->owner) != cpu + 1)
		return ke_bug_check(k, SPIN_LOCK_NOT_OWNED, (u64)lock, cpu, 0, 0);
	atomic_store(&lock->owner, 0);
	spin_unlock(&lock->lock);
	return ke_lower_irql(k, cpu, old);
}

int ke_paged_code(const struct nt *k, unsigned cpu)
{
	return k->cpus[cpu].irql > APC_LEVEL ? -EPERM : 0;
}
