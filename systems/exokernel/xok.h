/* SPDX-License-Identifier: MIT */
/*
 * The exokernel itself, in the manner of Xok (Engler, Kaashoek, O'Toole, SOSP 1995; Kaashoek et
 * al., SOSP 1997): frames with owners, environments with capabilities, page tables that everybody
 * may read and only the kernel writes.  It decides nothing: it checks, and does what a library
 * operating system asks for.
 *
 * A capability names a resource and what may be done with its frames.  An environment presents one
 * by its index among its own; it holds no other name for it, so it cannot make one up.
 */
#ifndef VMF_EXOKERNEL_XOK_H
#define VMF_EXOKERNEL_XOK_H

#include "machine/soft/soft.h"
#include "systems/system.h"

#define XOK_CAPS   8
#define XOK_KERNEL 0 /* the resource of frames that nobody was given */

enum xok_right { XOK_READ = 1, XOK_WRITE = 2, XOK_GRANT = 4 };

struct xok_capability {
	u32 resource; /* XOK_KERNEL: the slot is empty */
	u32 rights;   /* enum xok_right */
};

/* A processor environment: whom the kernel enters, and what it may touch. */
struct xok_env {
	bool used;
	struct mm *mm; /* whose page table is this environment's */
	struct xok_capability caps[XOK_CAPS];
};

struct xok {
	struct soft_machine *machine;
	struct mmu_ops hardware; /* how the kernel writes entries, once it has checked */
	u32 *owners;		 /* of each frame of programs: a resource */
	u64 nr_frames;
	struct xok_env envs[PROGRAM_PROCESSES];
	unsigned slices[SOFT_MAX_CPUS]; /* the time-slice vector: whose slice each CPU is in */
};

/* 0, -ENOMEM. */
int xok_init(struct xok *x, struct soft_machine *m, const struct mmu_ops *hardware);
void xok_fini(struct xok *x);

/* ---- system calls: each by environment `env`; counted ---- */

/* The frames [first, first + n), which nobody has, are from now on of the resource that `cap`
 * names, which must have XOK_GRANT.  0, -EBADF (no such capability), -EACCES (not with this one),
 * -EBUSY. */
int xok_take_frames(struct xok *x, unsigned env, unsigned cap, u64 first, u64 n);
/* A new environment with the caller's capabilities.  0, -EEXIST, -EINVAL. */
int xok_env_create(struct xok *x, unsigned env, unsigned child, struct mm *mm);
void xok_env_destroy(struct xok *x, unsigned env);
/*
 * The n entries from ptep on, at va in the page table of `target`, become these.  The frames'
 * resource is the capability's, with XOK_WRITE where an entry allows writing; entries are the
 * user's, the address is in the user's half, and the table is the environment's own.  How many were
 * set, or -EBADF, -EACCES, -EINVAL, or what the hardware says; then nothing was written.
 */
int xok_insert_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		   const pte_t *ptes, struct page **pages, unsigned n);
/* The same for an entry that is there, and gets other rights or another frame. */
int xok_mod_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte);
/* Entries that a new environment has from the one that made it: as above, already in its table. */
int xok_check_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte);
/* May the environment take entries of that table away?  0, -EBADF, -EACCES. */
int xok_check_removal(struct xok *x, unsigned env, unsigned cap, unsigned target);

/* Whose slice is the CPU in? */
unsigned xok_current(const struct xok *x, unsigned cpu);

#endif
