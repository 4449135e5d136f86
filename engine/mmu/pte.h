/* SPDX-License-Identifier: MIT */
/*
 * x86-64 page-table entries (Intel SDM vol. 3A, 4.5; AMD APM vol. 2, 5.3), the same on every
 * machine.  All reading and writing of an entry's bits goes through the accessors here.
 *
 * A present entry has bit 0.  An absent entry is none (0), or the entry of a mapped page that
 * nobody may access (PROT_NONE: bit 8 without bit 0, all else as in a present one), or a swap
 * entry: type in the top five bits, offset stored inverted above bit 9, so that a speculative walk
 * that ignores the present bit points outside memory (L1TF).  A swap entry of the last type is a
 * marker: there is no page, and something to remember.
 *
 * An entry whose page is just being moved to another frame (a migration entry, engine/migrate/) is
 * one that nobody may access, with a bit more; its WRITE bit is kept.
 */
#ifndef VMF_MMU_PTE_H
#define VMF_MMU_PTE_H

#include "engine/base/types.h"

typedef struct {
	u64 v;
} pte_t;

#define PTE_PRESENT    (1ULL << 0)
#define PTE_WRITE      (1ULL << 1)
#define PTE_USER       (1ULL << 2)
#define PTE_PWT	       (1ULL << 3)
#define PTE_PCD	       (1ULL << 4)
#define PTE_ACCESSED   (1ULL << 5)
#define PTE_DIRTY      (1ULL << 6)
#define PTE_HUGE       (1ULL << 7)  /* page size, in a PMD or PUD entry */
#define PTE_GLOBAL     (1ULL << 8)  /* in an absent entry: PROT_NONE */
#define PTE_SPECIAL    (1ULL << 9)  /* software: the zero page, no frame of ours */
#define PTE_UFFD_WP    (1ULL << 10) /* software: write-protected by userfaultfd */
#define PTE_ACCESSIBLE (1ULL << 11) /* software: of a PMD entry that is being split */
#define PTE_MIGRATING  (1ULL << 52) /* software, without bit 0: the page is being moved */
#define PTE_NX	       (1ULL << 63)
#define PTE_KEY_SHIFT  59 /* the protection key, in a leaf: four bits */

#define PTE_PFN_MASK 0x000ffffffffff000ULL

#define PTRS_PER_TABLE 512
#define PMD_SHIFT      21
#define PUD_SHIFT      30
#define P4D_SHIFT      39
#define PGD_SHIFT_4    39
#define PGD_SHIFT_5    48
#define PMD_SIZE       (1ULL << PMD_SHIFT)
#define PMD_MASK       (~(PMD_SIZE - 1))
#define PUD_SIZE       (1ULL << PUD_SHIFT)

static inline bool pte_none(pte_t p)
{
	return p.v == 0;
}
static inline bool pte_present(pte_t p)
{
	return p.v & PTE_PRESENT;
}
static inline bool pte_write(pte_t p)
{
	return p.v & PTE_WRITE;
}
static inline bool pte_dirty(pte_t p)
{
	return p.v & PTE_DIRTY;
}
static inline bool pte_young(pte_t p)
{
	return p.v & PTE_ACCESSED;
}
static inline bool pte_user(pte_t p)
{
	return p.v & PTE_USER;
}
static inline bool pte_nx(pte_t p)
{
	return p.v & PTE_NX;
}
static inline unsigned pte_key(pte_t p)
{
	return p.v >> PTE_KEY_SHIFT & 15;
}
static inline bool pte_global(pte_t p)
{
	return p.v & PTE_GLOBAL;
}
/* In a PMD or PUD entry: it maps a huge page itself. */
static inline bool pte_huge(pte_t p)
{
	return p.v & PTE_HUGE;
}
static inline bool pte_special(pte_t p)
{
	return p.v & PTE_SPECIAL;
}
/* An entry of a PMD table: it maps a huge page, whether or not that may be accessed. */
static inline bool pmd_is_huge(pte_t p)
{
	return pte_huge(p) && (p.v & (PTE_PRESENT | PTE_GLOBAL));
}
static inline bool pmd_is_table(pte_t p)
{
	return pte_present(p) && !pte_huge(p);
}
/* It mapped a huge page, which is just being split: absent, with all else that it was. */
static inline bool pmd_is_splitting(pte_t p)
{
	return pte_huge(p) && !(p.v & (PTE_PRESENT | PTE_GLOBAL));
}
static inline pte_t pmd_mksplitting(pte_t p)
{
	u64 bits = p.v & ~(PTE_PRESENT | PTE_GLOBAL);

	return (pte_t){ p.v & PTE_PRESENT ? bits | PTE_ACCESSIBLE : bits };
}
static inline pte_t pmd_unsplitting(pte_t p)
{
	u64 present = p.v & PTE_ACCESSIBLE ? PTE_PRESENT : PTE_GLOBAL;

	return (pte_t){ (p.v & ~PTE_ACCESSIBLE) | present };
}
static inline u64 pte_pfn(pte_t p)
{
	return (p.v & PTE_PFN_MASK) >> PAGE_SHIFT;
}
static inline pte_t pte_make(u64 pfn, u64 bits)
{
	return (pte_t){ (pfn << PAGE_SHIFT & PTE_PFN_MASK) | bits };
}
static inline pte_t pte_with(pte_t p, u64 bits)
{
	return (pte_t){ p.v | bits };
}
static inline pte_t pte_without(pte_t p, u64 bits)
{
	return (pte_t){ p.v & ~bits };
}
static inline bool pte_same(pte_t a, pte_t b)
{
	return a.v == b.v;
}

/* Entries are shared with walkers (hardware or simulated): one atomic load, one atomic store. */
static inline pte_t pte_read(const pte_t *p)
{
	return (pte_t){ __atomic_load_n(&p->v, __ATOMIC_ACQUIRE) };
}
static inline void pte_store(pte_t *p, pte_t v)
{
	__atomic_store_n(&p->v, v.v, __ATOMIC_RELEASE);
}
static inline pte_t pte_exchange(pte_t *p, pte_t v)
{
	return (pte_t){ __atomic_exchange_n(&p->v, v.v, __ATOMIC_ACQ_REL) };
}

/* If the entry is still `old`, make it `new`.  For a walker that sets accessed and dirty bits. */
static inline bool pte_replace(pte_t *p, pte_t old, pte_t new)
{
	return __atomic_compare_exchange_n(&p->v, &old.v, new.v, false, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}
/* Set or reset bits, whatever a walker does to the others; returns what was there before. */
static inline pte_t pte_set_bits(pte_t *p, u64 bits)
{
	return (pte_t){ __atomic_fetch_or(&p->v, bits, __ATOMIC_ACQ_REL) };
}
static inline pte_t pte_reset_bits(pte_t *p, u64 bits)
{
	return (pte_t){ __atomic_fetch_and(&p->v, ~bits, __ATOMIC_ACQ_REL) };
}

/* The entry that would map page i of what a huge entry maps. */
static inline pte_t pmd_small(pte_t pmd, unsigned i)
{
	return pte_make(pte_pfn(pmd) + i, pmd.v & ~(PTE_PFN_MASK | PTE_HUGE));
}

/* Swap entries.  A slot number below 2^50. */
typedef struct {
	u64 v; /* type << 50 | offset; 0 is no entry */
} swp_entry_t;

#define SWP_OFFSET_BITS 50
#define SWP_SHIFT	9
#define SWP_TYPE_MARKER 31
#define PTE_SWP_UFFD_WP (1ULL << 2) /* of a swap entry: the page is to come back so */
/* Of a swap entry: a relative by fork has, or had, the page, too.  (Linux says it the other way
 * round: pte_swp_exclusive().) */
#define PTE_SWP_COMMON (1ULL << 3)

/* What a marker says. */
enum pte_marker {
	PTE_MARKER_UFFD_WP = 1,	 /* write-protected by userfaultfd before there is a page */
	PTE_MARKER_POISONED = 2, /* any access is to fail */
	PTE_MARKER_GUARD = 4,	 /* as if there were no area: see space/guard.c */
	PTE_MARKER_HWPOISON = 8, /* the page was here, and its memory has failed */
};

static inline swp_entry_t swp_entry(unsigned type, u64 offset)
{
	return (swp_entry_t){ (u64)type << SWP_OFFSET_BITS | offset };
}
static inline unsigned swp_type(swp_entry_t e)
{
	return e.v >> SWP_OFFSET_BITS;
}
static inline u64 swp_offset(swp_entry_t e)
{
	return e.v & ((1ULL << SWP_OFFSET_BITS) - 1);
}
/* A page that nobody may access: the walk finds it absent, the engine finds it mapped. */
static inline bool pte_protnone(pte_t p)
{
	return (p.v & (PTE_PRESENT | PTE_GLOBAL)) == PTE_GLOBAL;
}
/* Does the entry name a frame, whether or not it may be accessed? */
static inline bool pte_mapped(pte_t p)
{
	return p.v & (PTE_PRESENT | PTE_GLOBAL);
}
/* Is its page being moved?  Then the page is locked until the entry is whole again. */
static inline bool pte_migrating(pte_t p)
{
	return (p.v & (PTE_PRESENT | PTE_GLOBAL | PTE_MIGRATING)) == (PTE_GLOBAL | PTE_MIGRATING);
}
/* Of a mapped entry. */
static inline pte_t pte_mkmigrating(pte_t p)
{
	return (pte_t){ (p.v & ~PTE_PRESENT) | PTE_GLOBAL | PTE_MIGRATING };
}
static inline bool pte_is_marker(pte_t p)
{
	return p.v >> 59 == SWP_TYPE_MARKER && !pte_mapped(p);
}
static inline bool pte_is_swap(pte_t p)
{
	return !pte_none(p) && !pte_mapped(p) && !pte_is_marker(p);
}
static inline pte_t swp_to_pte(swp_entry_t e)
{
	u64 inverted = ~swp_offset(e) & ((1ULL << SWP_OFFSET_BITS) - 1);

	return (pte_t){ (u64)swp_type(e) << 59 | inverted << SWP_SHIFT };
}
static inline swp_entry_t pte_to_swp(pte_t p)
{
	u64 inverted = p.v >> SWP_SHIFT & ((1ULL << SWP_OFFSET_BITS) - 1);

	return swp_entry(p.v >> 59, ~inverted & ((1ULL << SWP_OFFSET_BITS) - 1));
}

static inline pte_t pte_make_marker(enum pte_marker marker)
{
	return swp_to_pte(swp_entry(SWP_TYPE_MARKER, marker));
}
static inline bool pte_marker_is(pte_t p, enum pte_marker marker)
{
	return pte_is_marker(p) && (swp_offset(pte_to_swp(p)) & marker);
}

/* Is the page of this entry, mapped, swapped out or yet to come, write-protected by userfaultfd? In
 * an area that is not registered for that (any more) it means nothing. */
static inline bool pte_uffd_wp(pte_t p)
{
	if (pte_mapped(p))
		return p.v & PTE_UFFD_WP;
	return pte_is_marker(p) ? pte_marker_is(p, PTE_MARKER_UFFD_WP) : p.v & PTE_SWP_UFFD_WP;
}
/* Of a mapped or a swap entry. */
static inline pte_t pte_mkuffd_wp(pte_t p)
{
	if (pte_mapped(p))
		return pte_without(pte_with(p, PTE_UFFD_WP), PTE_WRITE);
	return pte_with(p, PTE_SWP_UFFD_WP);
}
static inline pte_t pte_clear_uffd_wp(pte_t p)
{
	return pte_without(p, pte_mapped(p) ? PTE_UFFD_WP : PTE_SWP_UFFD_WP);
}

#endif
