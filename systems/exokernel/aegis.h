/* SPDX-License-Identifier: MIT */
/*
 * Aegis: the exokernel of a processor whose TLB is filled by software.  The kernel has no page
 * tables: a library keeps its own, as it likes, and has translations installed one by one.
 */
#ifndef VMF_EXOKERNEL_AEGIS_H
#define VMF_EXOKERNEL_AEGIS_H

#include "machine/soft/second.h"
#include "systems/exokernel/library.h"
#include "systems/exokernel/stlb.h"

struct exokernel;

struct aegis {
	struct xok *xok;
	struct stlb stlb;
	struct mmu_ops hardware;	      /* counted: how the kernel flushes TLBs */
	struct soft_second_stage translation; /* the hardware's walk finds nothing */
	struct {
		u64 va;
		u32 access;
	} missed[SOFT_MAX_CPUS]; /* what the exception is about */
};

/* ---- system calls, by environment `env`; counted ---- */

/*
 * TLBwr: the translation of va is pte, in the TLB of this CPU and in the software TLB.  The frame's
 * resource is the capability's, with XOK_WRITE where pte allows writing; the page is the user's, in
 * the user's half, and `target`, whose address space that is, the environment itself.  0, -EBADF,
 * -EACCES, -EINVAL.
 */
int aegis_tlbwr(struct aegis *a, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte);
/* TLBvadelete: no TLB has a translation of va any more.  0, -EACCES: it is not its own space. */
int aegis_vadelete(struct aegis *a, unsigned env, unsigned target, u64 va);
/* The same for all of its space. */
int aegis_delete_all(struct aegis *a, unsigned env, unsigned target);

/* ---- for the system ---- */

/* On x's machine, before its library is made: its TLBs are software's from now on. */
void aegis_init(struct aegis *a, struct exokernel *x);
/* The library of x has page tables that are its own: it calls the kernel for TLBs only. */
void aegis_become_library(struct aegis *a, struct library *l);
/* Every translation of the software TLB is what its library's table has, and allows no more.
 * Panics with a message.  Nobody runs. */
void aegis_check(struct aegis *a);

#endif
