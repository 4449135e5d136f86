/* SPDX-License-Identifier: MIT */
/*
 * The software TLB of Aegis: a large direct-mapped cache of the translations that libraries have
 * had installed, for all of them together.  What it holds has been checked when it was put in, so a
 * hit needs neither a check nor the library.
 */
#ifndef VMF_EXOKERNEL_STLB_H
#define VMF_EXOKERNEL_STLB_H

#include "engine/base/lock.h"
#include "engine/mmu/pte.h"

#define STLB_ENTRIES 4096

struct stlb_entry {
	u64 page;      /* its address; STLB_NONE: no entry */
	unsigned asid; /* whose */
	pte_t pte;     /* present; writable for the hardware only if it is dirty */
};

#define STLB_NONE (~0ULL)

struct stlb {
	spinlock_t lock; /* guards all */
	struct stlb_entry entries[STLB_ENTRIES];
	u64 hits, misses;
};

void stlb_init(struct stlb *s);
/* Is there a translation that allows the access (PF_WRITE, PF_INSTR or 0)?  Then *pte is that. */
bool stlb_look(struct stlb *s, unsigned asid, u64 va, u32 access, pte_t *pte);
/* It takes the place of whatever was there. */
void stlb_write(struct stlb *s, unsigned asid, u64 va, pte_t pte);
void stlb_delete(struct stlb *s, unsigned asid, u64 va);
void stlb_delete_all(struct stlb *s, unsigned asid);
/* All for which f is true, of whomever.  f under the lock. */
void stlb_delete_if(struct stlb *s, bool (*f)(const void *arg, pte_t pte), const void *arg);

/* Does the translation allow the access without another look? */
bool stlb_allows(pte_t pte, u32 access);

#endif
