/* SPDX-License-Identifier: MIT */
/*
 * The walk that the hardware makes when the TLB does not know an address: Intel SDM vol. 3A,
 * 4.5 (formats), 4.6 (rights), 4.7 (error codes), 4.8 (accessed and dirty).
 *
 * It takes no lock and no notice of locks, as the hardware: entries are read once each and their
 * accessed and dirty bits are set with a compare-and-exchange, so that it may run beside any change
 * of the tables.  The tables that it reads must stay until the flush after their unlinking is done.
 */
#ifndef VMF_MMU_WALK_H
#define VMF_MMU_WALK_H

#include "engine/mmu/error_code.h"
#include "engine/mmu/pte.h"

/* The level of a table: its entries map this much.  A fourth-level table is a P4D with four levels
 * (and then the root). */
enum mmu_level { LEVEL_PTE = 1, LEVEL_PMD, LEVEL_PUD, LEVEL_P4D, LEVEL_PGD };

#define TABLE_BITS 9

/* Bits of an address below what one entry of this level maps: 12, 21, 30, 39, 48. */
static inline unsigned level_shift(enum mmu_level level)
{
	return PAGE_SHIFT + TABLE_BITS * (level - LEVEL_PTE);
}
/* Which entry of a table of this level is for va. */
static inline unsigned level_index(enum mmu_level level, u64 va)
{
	return va >> level_shift(level) & (PTRS_PER_TABLE - 1);
}

/* The control bits that decide a walk. */
struct mmu_control {
	bool wp;	 /* CR0.WP: read-only binds the supervisor, too */
	bool nxe;	 /* EFER.NXE: bit 63 forbids fetching; otherwise it is reserved */
	bool smep, smap; /* CR4: the supervisor does not fetch from, not touch user pages */
	bool ac;	 /* EFLAGS.AC for this access: SMAP is suspended (explicit accesses) */
	bool la57;	 /* CR4.LA57: five levels */
	bool gb_pages;	 /* the CPU knows 1 GiB pages; otherwise their bit is reserved */
	bool pge;	 /* CR4.PGE: leaves may be global */
	bool pke;	 /* CR4.PKE: protection keys bind data accesses to user pages */
	unsigned char phys_bits; /* MAXPHYADDR: address bits from here to 51 are reserved */
	u32 pkru;		 /* two bits for each of 16 keys: no access, no write */
};

/* Of an access, beside PF_WRITE, PF_INSTR and PF_USER: the CPU makes it by itself, for a descriptor
 * table or a stack switch.  It is the supervisor's, and AC does not suspend SMAP for it. */
#define ACCESS_IMPLICIT (1u << 31)

static inline bool pkru_no_access(u32 pkru, unsigned key)
{
	return pkru >> 2 * key & 1;
}
static inline bool pkru_no_write(u32 pkru, unsigned key)
{
	return pkru >> (2 * key + 1) & 1;
}

/* What a 64-bit operating system of today sets up. */
#define MMU_CONTROL_USUAL                                                                          \
	((struct mmu_control){ .wp = true,                                                         \
			       .nxe = true,                                                        \
			       .smep = true,                                                       \
			       .smap = true,                                                       \
			       .gb_pages = true,                                                   \
			       .pge = true,                                                        \
			       .phys_bits = 46 })

enum walk_status {
	WALK_OK,
	WALK_FAULT,	   /* vector 14 with result->error_code */
	WALK_NONCANONICAL, /* no translation at all: vector 13 */
	WALK_UNREACHABLE,  /* the table of result->level cannot be read: no fault of this stage */
};

struct walk_result {
	u32 error_code;	      /* of WALK_FAULT */
	enum mmu_level level; /* where it ended: the leaf, or the entry at fault */
	pte_t *entry;	      /* that entry */
	pte_t leaf;	      /* WALK_OK: the leaf, its accessed and dirty bits as they are now */
	u64 phys;	      /* WALK_OK: the physical address of va itself */
	/* WALK_OK: the rights of all levels together; the protection key binds beside them. */
	bool write, user, nx;
};

/* The table at a physical address, which is page aligned.  NULL, where physical addresses are
 * translated in turn: there is none now, and the walk ends with WALK_UNREACHABLE. */
typedef pte_t *(*mmu_table_fn)(void *ctx, u64 phys);

/*
 * Translate va from the root table at physical address `root` for an access of kind `access`:
 * PF_WRITE, PF_INSTR (not both), PF_USER or (data only) ACCESS_IMPLICIT.
 *
 * The accessed bit is set in every entry that leads on, even if the walk faults further down; the
 * leaf gets it, and the dirty bit on a write, only if the access is allowed.
 */
enum walk_status mmu_walk(const struct mmu_control *control, u64 root, u64 va, u32 access,
			  mmu_table_fn table, void *ctx, struct walk_result *result);

/*
 * Do the rights of a present translation allow the access?  0, or the error code of the fault: for
 * a CPU that has the translation in its TLB and makes no walk.
 */
u32 mmu_check_rights(const struct mmu_control *control, u32 access, bool write, bool user, bool nx,
		     unsigned key);

/* Is va what a 48-bit (57-bit) sign extension gives? */
bool mmu_canonical(const struct mmu_control *control, u64 va);

#endif
