/* SPDX-License-Identifier: MIT */
/*
 * The TLB of a simulated CPU (Intel SDM vol. 3A, 4.10).
 *
 * Entries are tagged with the PCID that was current when they were made; a global one is for every
 * PCID.  A translation of 2 MiB is an entry of its own; what accesses use are pieces of it, entries
 * of 4 KiB that remember the size they came from: whatever flushes one address of the page flushes
 * it and all pieces.
 *
 * All by the thread that drives the CPU, inside or with nobody else looking.
 */
#ifndef VMF_SOFT_TLB_H
#define VMF_SOFT_TLB_H

#include "machine/soft/soft.h"

/* Of what MOV to CR3, a change of CR4.PGE, and INVPCID do. */
void tlb_drop_all(struct soft_cpu *cpu, bool globals);
void tlb_drop_pcid(struct soft_cpu *cpu, u32 pcid);
/* INVLPG of each page of [start, end) under that PCID: global entries go, too. */
void tlb_drop_range(struct soft_cpu *cpu, u32 pcid, u64 start, u64 end);

/* The walk for va found this.  `host`: where the bytes of the page are that a second stage
 * translates to; NULL: there is no such stage. */
struct tlb_entry *tlb_fill(struct soft_cpu *cpu, u64 va, const struct walk_result *w, char *host);

enum tlb_answer {
	TLB_HIT,     /* *entry allows the access */
	TLB_MISS,    /* a walk must say: nothing is known, or the dirty bit has to be set */
	TLB_FORBIDS, /* *code is the error code that the cached rights give */
};
/* `control`: that of the access, which may not be the CPU's own as to AC. */
enum tlb_answer tlb_look(struct soft_cpu *cpu, const struct mmu_control *control, u64 va,
			 u32 access, struct tlb_entry **entry, u32 *code);

/* cpu->control has changed in what binds user-mode accesses: what the entries allow is not kept. */
void tlb_judge_again(struct soft_cpu *cpu);

#endif
