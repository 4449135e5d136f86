/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/exokernel/xok.h"

#define USER_HALF_END 0x800000000000ULL

int xok_init(struct xok *x, struct soft_machine *m, const struct mmu_ops *hardware)
{
	x->machine = m;
	x->hardware = *hardware;
	x->nr_frames = m->nr_user;
	x->owners = calloc(m->nr_user, sizeof(*x->owners));
	return x->owners ? 0 : -ENOMEM;
}

void xok_fini(struct xok *x)
{
	free(x->owners);
}

unsigned xok_current(const struct xok *x, unsigned cpu)
{
	return x->slices[cpu];
}

/* The environment's capability of that index.  NULL: it has none there. */
static const struct xok_capability *present(const struct xok *x, unsigned env, unsigned cap)
{
	ledger_count(PAID_CAPABILITIES);
	if (env >= PROGRAM_PROCESSES || !x->envs[env].used || cap >= XOK_CAPS ||
	    x->envs[env].caps[cap].resource == XOK_KERNEL)
		return NULL;
	return &x->envs[env].caps[cap];
}

/* Where the frame's owner is kept; NULL: it is no frame of programs'. */
static u32 *owner_of(struct xok *x, u64 pfn)
{
	u64 first = x->machine->nr_table;

	return pfn >= first && pfn - first < x->nr_frames ? &x->owners[pfn - first] : NULL;
}

int xok_take_frames(struct xok *x, unsigned env, unsigned cap, u64 first, u64 n)
{
	const struct xok_capability *c = present(x, env, cap);

	if (!c)
		return -EBADF;
	if (!(c->rights & XOK_GRANT))
		return -EACCES;
	for (u64 pfn = first; pfn < first + n; pfn++) {
		const u32 *owner = owner_of(x, pfn);

		if (!owner)
			return -EACCES;
		if (*owner != XOK_KERNEL)
			return -EBUSY;
	}
	for (u64 pfn = first; pfn < first + n; pfn++)
		*owner_of(x, pfn) = c->resource;
	return 0;
}

int xok_env_create(struct xok *x, unsigned env, unsigned child, struct mm *mm)
{
	if (child >= PROGRAM_PROCESSES)
		return -EINVAL;
	if (x->envs[child].used)
		return -EEXIST;
	x->envs[child] = x->envs[env];
	x->envs[child].mm = mm;
	return 0;
}

void xok_env_destroy(struct xok *x, unsigned env)
{
	x->envs[env] = (struct xok_env){ 0 };
}

static int check_entries(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va,
			 const pte_t *ptes, unsigned n)
{
	const struct xok_capability *c = present(x, env, cap);

	if (!c)
		return -EBADF;
	if (target != env)
		return -EACCES;
	if (va % PAGE_SIZE || va >= USER_HALF_END || USER_HALF_END - va < n * PAGE_SIZE)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		const u32 *owner = owner_of(x, pte_pfn(ptes[i]));

		/* One that nobody may access is none of the hardware's, and may be one later. */
		if (!pte_mapped(ptes[i]) || (pte_present(ptes[i]) && !pte_user(ptes[i])))
			return -EINVAL;
		if (!owner || *owner != c->resource)
			return -EACCES;
		if (!(c->rights & (pte_write(ptes[i]) ? XOK_WRITE : XOK_READ)))
			return -EACCES;
	}
	return 0;
}

int xok_insert_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		   const pte_t *ptes, struct page **pages, unsigned n)
{
	int err = check_entries(x, env, cap, target, va, ptes, n);

	return err ? err : x->hardware.set(x->envs[target].mm, va, ptep, ptes, pages, n);
}

int xok_mod_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte)
{
	int err = check_entries(x, env, cap, target, va, &pte, 1);

	if (!err)
		x->hardware.change(x->envs[target].mm, va, ptep, pte);
	return err;
}

int xok_check_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte)
{
	return check_entries(x, env, cap, target, va, &pte, 1);
}

int xok_check_removal(struct xok *x, unsigned env, unsigned cap, unsigned target)
{
	if (!present(x, env, cap))
		return -EBADF;
	return target == env ? 0 : -EACCES;
}
