/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/exokernel/xok.h"

#define USER_HALF_END 0x800000000000ULL

int xok_init(struct xok *x, struct soft_machine *m, const struct mmu_ops *hardware)
{
	x->machine = m;
	x->hardware = *hardware;
	x->nr_frames = m->nr_user;
	x->stack_pages = xok_stack_pages(m->nr_cpus);
	for (unsigned i = 0; i < SOFT_MAX_CPUS; i++)
		x->slices[i].current = XOK_NOBODY;
	spin_init(&x->lock);
	rwsem_init(&x->wanting);
	rwsem_init(&x->going);
	for (unsigned i = 0; i < XOK_RESOURCES; i++)
		rwsem_init(&x->holders[i].inside);
	x->owners = calloc(m->nr_user, sizeof(*x->owners));
	return x->owners ? 0 : -ENOMEM;
}

void xok_fini(struct xok *x)
{
	for (unsigned i = 0; i < XOK_RESOURCES; i++) {
		struct xok_holder *h = &x->holders[i];

		for (u64 k = 0; h->vector && k < x->nr_frames; k++)
			free(atomic_load(&h->vector[k]));
		free(h->vector);
	}
	free(x->owners);
}

int xok_hold(struct xok *x, u32 resource, const struct xok_entries *entries, void *arg)
{
	struct xok_holder *h = &x->holders[resource];

	h->entries = entries;
	h->arg = arg;
	if (!h->vector)
		h->vector = calloc(x->nr_frames, sizeof(*h->vector));
	return h->vector ? 0 : -ENOMEM;
}

const struct xok_capability *xok_capability(const struct xok *x, unsigned env, unsigned cap)
{
	ledger_count(PAID_CAPABILITIES);
	if (env >= XOK_ENVS || !x->envs[env].used || cap >= XOK_CAPS ||
	    x->envs[env].caps[cap].resource == XOK_KERNEL)
		return NULL;
	return &x->envs[env].caps[cap];
}

_Atomic u32 *xok_owner(const struct xok *x, u64 pfn)
{
	u64 first = x->machine->nr_table;

	return pfn >= first && pfn - first < x->nr_frames ? &x->owners[pfn - first] : NULL;
}

/* ---- frames that nobody has ---- */

/* The frame goes to a resource.  Lock held. */
static int take_frame(struct xok *x, u32 resource, u64 pfn)
{
	_Atomic u32 *owner = xok_owner(x, pfn);

	if (!owner)
		return -EACCES;
	if (atomic_load(owner) != XOK_KERNEL)
		return -EBUSY;
	atomic_store(owner, resource);
	return 0;
}

/* All or none of n frames, of which f(arg, i) is the i-th. */
static int take_all(struct xok *x, unsigned env, unsigned cap, u64 (*f)(const void *, u64),
		    const void *arg, u64 n)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	int err = 0;
	u64 i;

	if (!c)
		return -EBADF;
	if (!(c->rights & XOK_GRANT))
		return -EACCES;
	spin_lock(&x->lock);
	for (i = 0; !err && i < n; i++)
		err = take_frame(x, c->resource, f(arg, i));
	for (i -= err ? 1 : 0; err && i--;)
		atomic_store(xok_owner(x, f(arg, i)), XOK_KERNEL);
	spin_unlock(&x->lock);
	if (err)
		return err;
	atomic_fetch_add(&x->holders[c->resource].frames, n);
	ledger_add(PAID_FRAMES_TAKEN, n);
	return 0;
}

static u64 in_a_row(const void *first, u64 i)
{
	return *(const u64 *)first + i;
}

static u64 in_a_list(const void *pfns, u64 i)
{
	return ((const u64 *)pfns)[i];
}

int xok_take_frames(struct xok *x, unsigned env, unsigned cap, u64 first, u64 n)
{
	return take_all(x, env, cap, in_a_row, &first, n);
}

int xok_take_list(struct xok *x, unsigned env, unsigned cap, const u64 *pfns, u64 n)
{
	return take_all(x, env, cap, in_a_list, pfns, n);
}

/* One entry, with this capability.  Lock held. */
static int check_entry(const struct xok *x, const struct xok_capability *c, pte_t pte)
{
	const _Atomic u32 *owner = xok_owner(x, pte_pfn(pte));

	if (!(pte.v & PTE_USER))
		return -EINVAL;
	if (!owner || atomic_load(owner) != c->resource)
		return -EACCES;
	return c->rights & (pte_write(pte) ? XOK_WRITE : XOK_READ) ? 0 : -EACCES;
}

int xok_check_entries(const struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va,
		      const pte_t *ptes, unsigned n)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	int err = 0;

	if (!c)
		return -EBADF;
	if (target != env)
		return -EACCES;
	if (va % PAGE_SIZE || va >= USER_HALF_END || USER_HALF_END - va < n * PAGE_SIZE)
		return -EINVAL;
	for (unsigned i = 0; !err && i < n; i++) {
		if (!pte_mapped(ptes[i]))
			err = -EINVAL;
		else if (pte_present(ptes[i])) /* the hardware does not look at any other */
			err = check_entry(x, c, ptes[i]);
	}
	return err;
}

int xok_insert_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		   const pte_t *ptes, struct page **pages, unsigned n)
{
	int done;

	spin_lock(&x->lock);
	done = xok_check_entries(x, env, cap, target, va, ptes, n);
	for (unsigned i = 0; !done && i < n; i++)
		if (pte_mapped(pte_read(&ptep[i])))
			done = -EEXIST;
	if (!done)
		done = x->hardware.set(x->envs[target].mm, va, ptep, ptes, pages, n);
	spin_unlock(&x->lock);
	return done;
}

int xok_mod_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte)
{
	int err;

	spin_lock(&x->lock);
	err = xok_check_entries(x, env, cap, target, va, &pte, 1);
	if (!err && !pte_mapped(pte_read(ptep)))
		err = -ENOENT;
	if (!err)
		x->hardware.change(x->envs[target].mm, va, ptep, pte);
	spin_unlock(&x->lock);
	return err;
}

int xok_put_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte)
{
	int err = 0;

	spin_lock(&x->lock);
	if (pte_mapped(pte))
		err = xok_check_entries(x, env, cap, target, va, &pte, 1);
	if (!err) {
		pte_store(ptep, pte);
		ledger_count(PAID_ENTRY_WRITES);
	}
	spin_unlock(&x->lock);
	return err;
}

int xok_check_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte)
{
	int err;

	spin_lock(&x->lock);
	err = xok_check_entries(x, env, cap, target, va, &pte, 1);
	spin_unlock(&x->lock);
	return err;
}

int xok_bind(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte,
	     void (*bind)(void *arg, u64 va, pte_t pte), void *arg)
{
	int err;

	spin_lock(&x->lock);
	err = pte_present(pte) ? xok_check_entries(x, env, cap, target, va, &pte, 1) : -EINVAL;
	if (!err)
		bind(arg, va, pte);
	spin_unlock(&x->lock);
	return err;
}

int xok_check_removal(struct xok *x, unsigned env, unsigned cap, unsigned target)
{
	if (!xok_capability(x, env, cap))
		return -EBADF;
	return target == env ? 0 : -EACCES;
}
