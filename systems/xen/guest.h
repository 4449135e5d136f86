/* SPDX-License-Identifier: MIT */
/*
 * The guest's kernel as far as it must know of Xen: where it has its memory mapped, and its table
 * operations.
 *
 * All frames are mapped at GUEST_MAP, one after the other: writable, but for page tables, which
 * Xen refuses to be tables unless that is read-only.  The tables of a space are plain memory while
 * it is made and taken down; in between it is pinned, and each change of them is a hypercall.
 */
#ifndef VMF_SYSTEMS_XEN_GUEST_H
#define VMF_SYSTEMS_XEN_GUEST_H

#include "engine/kernel/kernel.h"
#include "systems/common/engine_system.h"
#include "systems/xen/blkring.h"

#define GUEST_MAP 0xffff880000000000ULL
/* Operations that go with one multicall at most. */
#define GUEST_BATCH 32

struct guest {
	struct engine_system base;
	struct xen xen;
	struct kernel kernel; /* of its half: the tables for GUEST_MAP */
	struct blkring ring;
	struct page *ring_page;
	struct page *stacks[SOFT_MAX_CPUS]; /* one for each vCPU */
	struct mmu_ops counted;		    /* as engine_system made it */
};

/* The address at which the guest has that frame, and that of an entry. */
static inline u64 guest_va(u64 pfn)
{
	return GUEST_MAP + (pfn << PAGE_SHIFT);
}
static inline u64 guest_machine_address(const struct guest *g, const pte_t *entry)
{
	return (u64)((const char *)entry - g->base.machine->memory);
}

struct guest *guest_of(struct system *s);
struct guest *guest_of_mm(struct mm *mm);

/* ---- mmu.c ---- */

/* The table of operations that are hypercalls, over those of `base`. */
void guest_take_mmu_ops(struct guest *g);
/* A space is to be used: its tables become read-only and are pinned. */
void guest_pin(struct guest *g, struct mm *mm);
/* It is to be taken down: its tables are plain memory again.  No CPU has it. */
void guest_unpin(struct guest *g, struct mm *mm);
/* Make the guest's half and pin its root, and the first space's.  0, -ENOMEM. */
int guest_start(struct guest *g);
/* Free all of that; no space is pinned any more. */
void guest_stop(struct guest *g);

/* ---- attacks.c ---- */

#define GUEST_ATTACKS 24
extern const struct system_attack guest_attacks[GUEST_ATTACKS];

#endif
