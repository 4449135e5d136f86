/* SPDX-License-Identifier: MIT */
/*
 * Entries of the kernel's half of the page table, and prototype entries.
 *
 * What is not valid is in one of the states below, which a word in bits that the hardware leaves to
 * software tells; the rest is the number of a frame, a slot or a prototype where a valid entry has
 * its frame, and the rights that it is to have when it is valid again.  A prototype entry, which no
 * hardware reads, has the same form.
 */
#ifndef VMF_SYSTEMS_WINDOWS_ENTRY_H
#define VMF_SYSTEMS_WINDOWS_ENTRY_H

#include "engine/mmu/pte.h"

enum mi_state {
	MI_NOTHING,	/* no address of anybody's */
	MI_DEMAND_ZERO, /* a page of zeros, when it is touched */
	MI_TRANSITION,	/* the frame still (or already) has it: standby, modified, being read */
	MI_PAGE_FILE,	/* in the slot of that number */
	MI_PROTOTYPE,	/* what the prototype entry of that number says */
	MI_VALID,
};

#define MI_STATE_SHIFT 9
#define MI_STATE_MASK  (7ULL << MI_STATE_SHIFT)
/* Of an entry of any state. */
#define MI_RIGHTS (PTE_WRITE | PTE_NX)

static inline enum mi_state mi_state(pte_t e)
{
	if (pte_present(e))
		return MI_VALID;
	return (enum mi_state)((e.v & MI_STATE_MASK) >> MI_STATE_SHIFT);
}
static inline u64 mi_number(pte_t e)
{
	return pte_pfn(e);
}
static inline u64 mi_rights(pte_t e)
{
	return e.v & MI_RIGHTS;
}
static inline pte_t mi_entry(enum mi_state state, u64 number, u64 rights)
{
	if (state == MI_VALID)
		return pte_make(number, PTE_PRESENT | PTE_ACCESSED | rights);
	return pte_make(number, (u64)state << MI_STATE_SHIFT | rights);
}

#endif
