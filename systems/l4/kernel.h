/* SPDX-License-Identifier: MIT */
/*
 * The microkernel's calls that change what spaces map, as any task may make them.
 *
 * Each is a system call of the task's: control goes to the kernel, which looks into its mapping
 * database (mapdb.h) whether the task has the frames and the right, and comes back.  What is
 * refused has changed nothing, neither a table nor the database.  Entries that name no frame are
 * the task's own business.  The page-table lock of the entries is held.
 */
#ifndef VMF_L4_KERNEL_H
#define VMF_L4_KERNEL_H

#include "engine/machine.h"
#include "systems/l4/mapdb.h"
#include "systems/ledger.h"

struct l4_kernel {
	struct mapdb db;
	struct mmu_ops hardware; /* how entries are written */
};

/* Who calls; the kernel runs in the space that it was called from. */
struct l4_task {
	u32 number;
	const struct ledger_actor *self, *kernel;
};

/* The task has these frames mapped at va and the n - 1 pages behind it, with the rights of ptes.
 * How many are (as mmu_ops.set), or -EINVAL (there is no such frame), -EACCES (it has not the
 * frame, or not that right), -EEXIST, -ENOMEM. */
int l4_map(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	   const pte_t *ptes, struct page **pages, unsigned n);
/* What is mapped at va gets other rights, or is another of its frames.  0, as l4_map(), or -ENOENT
 * (the task has not mapped it). */
int l4_remap(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t pte);
/* An entry with that frame is to be put down there, without the hardware's operations; or is there
 * already, in the table of a child (ptep NULL).  0, as l4_map(). */
int l4_place(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t pte);
/* What the task has mapped there goes; *old: what it was.  0, -EINVAL, -EACCES, -ENOENT. */
int l4_flush(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va, pte_t *ptep,
	     pte_t left, pte_t *old);
/* The right to write goes.  The same. */
int l4_flush_write(struct l4_kernel *k, const struct l4_task *t, struct mm *space, u64 va,
		   pte_t *ptep, pte_t *old);
/* All of these go that can, as mmu_ops.take: *taken.  The same, of any of them. */
int l4_flush_many(struct l4_kernel *k, const struct l4_task *t, struct mm *space,
		  struct mmu_take *takes, unsigned n, unsigned *taken);
/* The task asks for a frame: the root pager, which is asked by a message, gives it if it still has
 * it.  0, -EINVAL, -EBUSY (somebody has it). */
int l4_ask(struct l4_kernel *k, const struct l4_task *t, u64 pfn, u32 rights);

/* What the entry allows, as the database has it. */
static inline u32 l4_rights_of(pte_t pte)
{
	return pte_write(pte) ? L4_READ | L4_WRITE : L4_READ;
}

#endif
