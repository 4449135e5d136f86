/* SPDX-License-Identifier: MIT */
/*
 * Visible revocation, and what comes when it is not heeded (Engler, Kaashoek, O'Toole, SOSP 1995).
 *
 *   1. The kernel wants n frames of a library operating system, and asks it: an upcall.
 *   2. The library chooses which; it writes them out and unmaps them as it likes, and gives them
 * back by a call.
 *   3. The kernel looks whether a page table still maps one (then it is not given back), has every
 * TLB forget what it knew of them, wipes them: they are nobody's.
 *   4. It looks at what it was given, not at what it was told.  Too few: it asks again in the next
 * time slice, XOK_PATIENCE times.
 *   5. The abort protocol.  Between two slices of the library the kernel takes as many frames as
 * are missing, those with the highest numbers, but for the few that are guaranteed: no insertion of
 * them passes any more; entries that map them lose their present bit, TLBs forget them; their bytes
 * are written to blocks of the library's disk, and their names into its repossession vector.
 *   6. The library is entered to read the vector.
 *
 * Why no translation reaches a frame that is nobody's: a frame that goes is XOK_GOING first, under
 * the lock under which an insertion is checked and written.  So an entry that maps it was written
 * before and is found by the walk through all tables of the library's environments, which comes
 * after; the flush comes after the walk.  On Aegis the same is so for what is in its software TLB.
 */
#include <stdlib.h>

#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/exokernel/xok.h"

static char *bytes_of(const struct xok *x, u64 pfn)
{
	return x->machine->memory + (pfn << PAGE_SHIFT);
}

/* ---- all entries that may map frames of a resource ---- */

static bool has_resource(const struct xok_env *env, u32 resource)
{
	for (unsigned i = 0; env->used && i < XOK_CAPS; i++)
		if (env->caps[i].resource == resource)
			return true;
	return false;
}

/* Of an entry, its page-table lock held. */
typedef bool (*entry_test_fn)(const struct xok *x, pte_t pte);

/* Does it let anybody reach a frame that goes? */
static bool leads_to_going(const struct xok *x, pte_t pte)
{
	const _Atomic u32 *owner = pte_present(pte) ? xok_owner(x, pte_pfn(pte)) : NULL;

	return owner && atomic_load(owner) == XOK_GOING;
}

static bool leads_anywhere(const struct xok *x, pte_t pte)
{
	(void)x;
	return pte_present(pte);
}

/* The present bit goes; who the page was is still to be read in the entry. */
static void break_entry(const struct xok *x, struct mm *mm, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);

	x->hardware.change(mm, va, ptep, pte_with(pte_without(pte, PTE_PRESENT), PTE_GLOBAL));
}

/* Entries of the space of which f is true; `breaks`: it is no more. */
static u64 walk_space(const struct xok *x, struct mm *mm, entry_test_fn f, bool breaks)
{
	spinlock_t *ptl;
	pte_t *ptep;
	u64 n = 0;

	/* The tables stay. */
	down_read(&mm->mmap_lock);
	for (u64 va = mm->low; (ptep = pte_next_table(mm, &va, mm->high, &ptl)); va += PAGE_SIZE) {
		spin_lock(ptl);
		if (f(x, pte_read(ptep))) {
			n++;
			if (breaks)
				break_entry(x, mm, va, ptep);
		}
		spin_unlock(ptl);
	}
	up_read(&mm->mmap_lock);
	return n;
}

static u64 walk_spaces(const struct xok *x, u32 resource, bool breaks)
{
	u64 n = 0;

	for (unsigned i = 0; i < XOK_ENVS; i++)
		if (has_resource(&x->envs[i], resource))
			n += walk_space(x, x->envs[i].mm, leads_to_going, breaks);
	return n;
}

/* The library may have forgotten to. */
static void flush_spaces(const struct xok *x, u32 resource)
{
	for (unsigned i = 0; i < XOK_ENVS; i++) {
		struct mm *mm = x->envs[i].mm;

		if (has_resource(&x->envs[i], resource))
			x->hardware.flush(mm, mm->low, mm->high);
	}
}

/* Does any binding lead to a frame that goes?  Those that the kernel can break are broken, and the
 * others if `breaks`. */
static bool is_bound(struct xok *x, u32 resource, bool breaks)
{
	if (!x->unbind)
		return walk_spaces(x, resource, breaks);
	x->unbind(x);
	return false;
}

void xok_break_bindings(struct xok *x, unsigned env, struct mm *mm)
{
	if (x->unbind_env)
		x->unbind_env(x, env);
	else if (mm)
		walk_space(x, mm, leads_anywhere, true);
	if (mm)
		x->hardware.flush(mm, mm->low, mm->high);
}

/* ---- given back ---- */

static void set_owners(struct xok *x, const u64 *pfns, u64 n, u32 owner)
{
	spin_lock(&x->lock);
	for (u64 i = 0; i < n; i++)
		atomic_store(xok_owner(x, pfns[i]), owner);
	spin_unlock(&x->lock);
}

/* From `resource` on its way.  0, -EACCES, -EINVAL, -EBUSY: then none is. */
static int begin_going(struct xok *x, u32 resource, const u64 *pfns, u64 n)
{
	int err = 0;
	u64 i;

	spin_lock(&x->lock);
	for (i = 0; i < n; i++) {
		_Atomic u32 *owner = xok_owner(x, pfns[i]);
		u32 was = owner ? atomic_load(owner) : XOK_KERNEL;

		if (was != resource)
			err = was == XOK_GOING ? -EINVAL : -EACCES;
		else if (xok_is_stack(x, pfns[i]))
			err = -EBUSY;
		if (err)
			break;
		atomic_store(owner, XOK_GOING);
	}
	while (err && i--)
		atomic_store(xok_owner(x, pfns[i]), resource);
	spin_unlock(&x->lock);
	return err;
}

static void no_guarantee(struct xok_holder *h, u64 pfn)
{
	for (unsigned i = 0; i < XOK_GUARANTEED; i++)
		if (h->guaranteed[i] == pfn)
			h->guaranteed[i] = 0;
}

/* Nobody can reach them: they are nobody's. */
static void become_free(struct xok *x, struct xok_holder *h, const u64 *pfns, u64 n)
{
	for (u64 i = 0; i < n; i++) {
		shared_zero(bytes_of(x, pfns[i]), PAGE_SIZE);
		ledger_count(PAID_PAGES_ZEROED);
		no_guarantee(h, pfns[i]);
	}
	atomic_fetch_sub(&h->frames, n);
	set_owners(x, pfns, n, XOK_KERNEL);
}

int xok_give_frames(struct xok *x, unsigned env, unsigned cap, const u64 *pfns, u64 n)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	struct xok_holder *h;
	int err;

	if (!c)
		return -EBADF;
	if (!(c->rights & XOK_GRANT))
		return -EACCES;
	h = &x->holders[c->resource];
	down_write(&x->going);
	err = begin_going(x, c->resource, pfns, n);
	if (!err && is_bound(x, c->resource, false)) {
		set_owners(x, pfns, n, c->resource);
		err = -EBUSY;
	}
	if (!err) {
		flush_spaces(x, c->resource);
		become_free(x, h, pfns, n);
		ledger_step(&lab_kernel, "finds no entry that leads to them, flushes, wipes them",
			    0);
		atomic_fetch_add(&h->given, n);
		ledger_add(PAID_FRAMES_GIVEN, n);
	}
	up_write(&x->going);
	return err;
}

int xok_guarantee(struct xok *x, unsigned env, unsigned cap, u64 pfn)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	const _Atomic u32 *owner = xok_owner(x, pfn);
	struct xok_holder *h;

	if (!c)
		return -EBADF;
	if (!owner || atomic_load(owner) != c->resource)
		return -EACCES;
	h = &x->holders[c->resource];
	for (unsigned i = 0; i < XOK_GUARANTEED; i++)
		if (!h->guaranteed[i]) {
			h->guaranteed[i] = pfn;
			return 0;
		}
	return -ENOSPC;
}

/* ---- the abort protocol ---- */

static bool is_guaranteed(const struct xok_holder *h, u64 pfn)
{
	for (unsigned i = 0; i < XOK_GUARANTEED; i++)
		if (h->guaranteed[i] == pfn)
			return true;
	return false;
}

/* Up to n frames to take, from the last one down: XOK_GOING from now on. */
static u64 choose(struct xok *x, u32 resource, u64 *pfns, u64 n)
{
	u64 first = x->machine->nr_table, chosen = 0;

	spin_lock(&x->lock);
	for (u64 pfn = first + x->nr_frames; chosen < n && pfn-- > first;) {
		_Atomic u32 *owner = xok_owner(x, pfn);

		if (atomic_load(owner) != resource || is_guaranteed(&x->holders[resource], pfn))
			continue;
		if (xok_is_stack(x, pfn))
			continue;
		atomic_store(owner, XOK_GOING);
		pfns[chosen++] = pfn;
	}
	spin_unlock(&x->lock);
	return chosen;
}

/* The bytes to a block of the library's disk, and the name into its vector.  0, -ENOMEM. */
static int save(struct xok *x, struct xok_holder *h, u64 pfn)
{
	char *block = malloc(PAGE_SIZE), *old;

	if (!block)
		return -ENOMEM;
	memcpy(block, bytes_of(x, pfn), PAGE_SIZE);
	ledger_count(PAID_IO_WRITES);
	old = atomic_exchange(&h->vector[pfn - x->machine->nr_table], block);
	if (!old)
		atomic_fetch_add(&h->nr_vector, 1);
	free(old);
	return 0;
}

/* How many of the frames go: those whose bytes have a place. */
static u64 save_all(struct xok *x, struct xok_holder *h, const u64 *pfns, u64 n)
{
	u64 saved = 0;

	while (saved < n && !save(x, h, pfns[saved]))
		saved++;
	return saved;
}

static u64 repossess(struct xok *x, u32 resource, u64 n)
{
	struct xok_holder *h = &x->holders[resource];
	u64 *pfns = calloc(n, sizeof(*pfns)), taken = 0, chosen;

	if (!pfns || !h->vector) {
		free(pfns);
		return 0;
	}
	down_write(&h->inside);
	down_write(&x->going);
	chosen = choose(x, resource, pfns, n);
	if (chosen) {
		is_bound(x, resource, true);
		flush_spaces(x, resource);
		taken = save_all(x, h, pfns, chosen);
		set_owners(x, pfns + taken, chosen - taken, resource);
		become_free(x, h, pfns, taken);
		ledger_add(PAID_REPOSSESSED, taken);
	}
	up_write(&x->going);
	up_write(&h->inside);
	free(pfns);
	return taken;
}

static void forget_all(struct xok *x, struct xok_holder *h)
{
	for (u64 i = 0; h->vector && i < x->nr_frames; i++)
		free(atomic_exchange(&h->vector[i], NULL));
	atomic_store(&h->nr_vector, 0);
}

/* Nothing leads to them: all bindings were broken as its environments ended. */
void xok_release(struct xok *x, u32 resource)
{
	struct xok_holder *h = &x->holders[resource];
	u64 first = x->machine->nr_table;

	down_write(&x->wanting);
	down_write(&x->going);
	h->entries = NULL;
	for (u64 pfn = first; pfn < first + x->nr_frames; pfn++)
		if (atomic_load(xok_owner(x, pfn)) == resource)
			become_free(x, h, &pfn, 1);
	forget_all(x, h);
	up_write(&x->going);
	up_write(&x->wanting);
}

static void enter(const char *why)
{
	ledger_cross(&lab_kernel, &library_actor, BY_UPCALL, why);
}

static void comes_back(void)
{
	ledger_cross(&library_actor, &lab_kernel, BY_RETURN, "the upcall ends");
}

/* It is asked, so many times at most.  How many it gave. */
static u64 ask(struct xok_holder *h, u64 n, unsigned times)
{
	u64 before = atomic_load(&h->given), given = 0;

	for (unsigned i = 0; h->entries && given < n && i < times; i++) {
		ledger_count(PAID_REVOCATIONS);
		enter("revocation: so many frames are to be given back");
		h->entries->revoke(h->arg, n - given);
		comes_back();
		given = atomic_load(&h->given) - before;
	}
	return given;
}

u64 xok_revoke(struct xok *x, u32 resource, u64 n)
{
	struct xok_holder *h = &x->holders[resource];
	struct ledger_payer was = ledger_charge(h->ledger, NULL, NULL);
	u64 given = ask(h, n, XOK_PATIENCE), taken = 0;

	if (given < n)
		taken = repossess(x, resource, n - given);
	if (taken && h->entries) {
		enter("frames were repossessed: their names are in the vector");
		h->entries->repossessed(h->arg);
		comes_back();
	}
	ledger_charge_again(&was);
	return given + taken;
}

/* ---- what one library wants of the others ---- */

/* Of the machine's frames each library keeps one in so many, however little it wants. */
#define KEPT_OF 8

/* Another's address space, from where this one's thread is. */
static const struct ledger_actor other_library = { .name = "the other library OS",
						   .ring = 3,
						   .domain = 2 };

void xok_end_slice(struct xok *x, u32 resource)
{
	struct xok_holder *h = &x->holders[resource];

	atomic_store(&h->wanted, atomic_exchange(&h->wants, false));
}

/* Can it do without n frames, if that one wants them? */
static bool can_spare(const struct xok *x, const struct xok_holder *h,
		      const struct xok_holder *wants, u64 n)
{
	u64 has = atomic_load(&h->frames);

	if (has >= atomic_load(&wants->frames) + n)
		return true;
	return !atomic_load(&h->wants) && !atomic_load(&h->wanted) &&
	       has >= n + x->nr_frames / KEPT_OF;
}

/* Who has most of those that can; NULL: none can. */
static struct xok_holder *who_can_spare(struct xok *x, const struct xok_holder *wants, u64 n)
{
	struct xok_holder *best = NULL;

	for (u32 i = XOK_KERNEL + 1; i < XOK_RESOURCES; i++) {
		struct xok_holder *h = &x->holders[i];

		if (h != wants && h->entries && can_spare(x, h, wants, n) &&
		    (!best || atomic_load(&h->frames) > atomic_load(&best->frames)))
			best = h;
	}
	return best;
}

s64 xok_want_frames(struct xok *x, unsigned env, unsigned cap, u64 n)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	struct xok_holder *wants, *h;
	struct ledger_payer was;
	u64 given = 0;

	if (!c)
		return -EBADF;
	if (!(c->rights & XOK_GRANT))
		return -EACCES;
	wants = &x->holders[c->resource];
	atomic_store(&wants->wants, true);
	ledger_step(&lab_kernel, "looks who has so many more, or has wanted none lately", 0);
	down_write(&x->wanting);
	h = who_can_spare(x, wants, n);
	if (h) {
		was = ledger_charge(h->ledger, &library_actor, &other_library);
		given = ask(h, n, 1);
		ledger_charge_again(&was);
	}
	up_write(&x->wanting);
	return (s64)given;
}

int xok_forget(struct xok *x, unsigned env, unsigned cap, u64 pfn)
{
	const struct xok_capability *c = xok_capability(x, env, cap);
	struct xok_holder *h;
	char *block = NULL;

	if (!c)
		return -EBADF;
	h = &x->holders[c->resource];
	if (h->vector && xok_owner(x, pfn))
		block = atomic_exchange(&h->vector[pfn - x->machine->nr_table], NULL);
	if (!block)
		return -ENOENT;
	atomic_fetch_sub(&h->nr_vector, 1);
	free(block);
	return 0;
}

u32 xok_richest(const struct xok *x)
{
	u32 best = XOK_KERNEL + 1;

	for (u32 i = best + 1; i < XOK_RESOURCES; i++)
		if (atomic_load(&x->holders[i].frames) > atomic_load(&x->holders[best].frames))
			best = i;
	return best;
}
