/* SPDX-License-Identifier: MIT */
#include "systems/l4/kernel.h"
#include "engine/base/errno.h"
#include "engine/page/page.h"
#include "engine/space/mm.h"

/* The root pager has what nobody else has; it never runs but when it is asked. */
static const struct ledger_actor root_pager = { .name = "the root pager", .ring = 3, .domain = 4 };

static void enter(const struct l4_task *t, const char *what)
{
	ledger_cross(t->self, t->kernel, BY_SYSTEM_CALL, what);
}

static int leave(const struct l4_task *t, int result)
{
	ledger_cross(t->kernel, t->self, BY_RETURN,
		     result < 0 ? "the call is refused" : "the call returns");
	return result;
}

/* What the database said, which was asked for a frame. */
static int asked(int err)
{
	ledger_count(PAID_CAPABILITIES);
	return err;
}

/* Mappings that are not there after all. */
static void forget(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va,
		   const pte_t *ptes, unsigned from, unsigned n)
{
	for (unsigned i = from; i < n; i++)
		mapdb_flush(&k->db, t->number, pte_pfn(ptes[i]), space, va + i * PAGE_SIZE);
}

/* Before the entries are written: what is not noted is not mapped. */
static int note(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va,
		const pte_t *ptes, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		int err = asked(mapdb_map(&k->db, t->number, pte_pfn(ptes[i]), space,
					  va + i * PAGE_SIZE, l4_rights_of(ptes[i])));

		if (err) {
			forget(k, t, space, va, ptes, 0, i);
			return err;
		}
	}
	return 0;
}

int l4_map(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	   const pte_t *ptes, struct page **pages, unsigned n)
{
	int done;

	enter(t, "map: this frame of mine, there, with these rights");
	done = note(k, t, space, va, ptes, n);
	if (!done) {
		ledger_step(t->kernel, "finds the frame to be the caller's, notes the mapping", va);
		done = k->hardware.set(space, va, ptep, ptes, pages, n);
		forget(k, t, space, va, ptes, (unsigned)max_of(done, 0), n);
	}
	return leave(t, done);
}

/* From what it maps now to what it is to map. */
static int note_change(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va,
		       pte_t old, pte_t pte)
{
	int err;

	if (pte_pfn(old) == pte_pfn(pte))
		return asked(mapdb_set_rights(&k->db, t->number, pte_pfn(pte), space, va,
					      l4_rights_of(pte)));
	err = note(k, t, space, va, &pte, 1);
	if (err)
		return err;
	err = asked(mapdb_flush(&k->db, t->number, pte_pfn(old), space, va));
	if (err)
		forget(k, t, space, va, &pte, 0, 1);
	return err;
}

int l4_remap(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t pte)
{
	int err;

	enter(t, "map: the same with other rights");
	err = note_change(k, t, space, va, pte_read(ptep), pte);
	if (!err)
		k->hardware.change(space, va, ptep, pte);
	return leave(t, err);
}

int l4_place(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t pte)
{
	int err;

	enter(t, ptep ? "map: this frame of mine, there now" : "map: the child has it, too");
	err = note(k, t, space, va, &pte, 1);
	if (!err && ptep) {
		pte_store(ptep, pte);
		ledger_count(PAID_ENTRY_WRITES);
	}
	return leave(t, err);
}

int l4_flush(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t left, pte_t *old)
{
	int err = 0;

	enter(t, "flush: this mapping");
	*old = pte_read(ptep);
	if (pte_mapped(*old))
		err = asked(mapdb_flush(&k->db, t->number, pte_pfn(*old), space, va));
	if (!err)
		*old = k->hardware.clear(space, va, ptep, left);
	return leave(t, err);
}

int l4_flush_write(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va,
		   pte_t *ptep, pte_t *old)
{
	int err;

	enter(t, "flush: the right to write");
	*old = pte_read(ptep);
	err = asked(mapdb_set_rights(&k->db, t->number, pte_pfn(*old), space, va, L4_READ));
	if (!err)
		*old = k->hardware.clean(space, va, ptep);
	return leave(t, err);
}

static u64 pfn_of(const struct mm *space, const struct mmu_take *take)
{
	return page_pfn(space->engine, take->page);
}

/* May it take all of them away? */
static int may_flush(struct l4_kernel *k, const struct l4_task *t, struct mm *space,
		     const struct mmu_take *takes, unsigned n)
{
	int err = 0;

	for (unsigned i = 0; !err && i < n; i++)
		err = asked(mapdb_owns(&k->db, t->number, pfn_of(space, &takes[i]), space,
				       takes[i].va));
	return err;
}

int l4_flush_many(struct l4_kernel *k, const struct l4_task *t, struct mm *space,
		  struct mmu_take *takes, unsigned n, unsigned *taken)
{
	int err;

	*taken = 0;
	enter(t, "flush: these mappings");
	err = may_flush(k, t, space, takes, n);
	if (!err)
		*taken = k->hardware.take(space, takes, n);
	for (unsigned i = 0; !err && i < n; i++) {
		if (!takes[i].result || takes[i].result == -ENOENT)
			mapdb_flush(&k->db, t->number, pfn_of(space, &takes[i]), space,
				    takes[i].va);
	}
	return leave(t, err);
}

int l4_ask(struct l4_kernel *k, const struct l4_task *t, u64 pfn, u32 rights)
{
	int err;

	enter(t, "call: a message to the root pager");
	ledger_cross(t->kernel, &root_pager, BY_MESSAGE, "this frame is wanted");
	err = asked(mapdb_give(&k->db, pfn, t->number, rights));
	ledger_cross(&root_pager, t->kernel, BY_SYSTEM_CALL,
		     err ? "replies: there is no such frame, or somebody has it"
			 : "replies with the frame");
	return leave(t, err);
}
