/* SPDX-License-Identifier: MIT */
/*
 * The hardware's walk; see walk.h.
 *
 * A race with a change of the entry: the bits are set by compare-and-exchange against the value
 * that was judged.  If the entry changed in between, it is read and judged anew, as the hardware
 * does in its locked update.  So no accessed or dirty bit ever lands in an entry that has become
 * absent or read-only, and the exchange that took the entry away has seen every dirty bit.
 */
#include "engine/mmu/walk.h"

#define ENTRY_ADDRESS_TOP 52

/* Address bits first .. last - 1. */
static u64 address_bits(unsigned first, unsigned last)
{
	return last > first ? (~0ULL >> (64 - (last - first))) << first : 0;
}

static bool is_leaf(enum mmu_level level, pte_t entry)
{
	return level == LEVEL_PTE ||
	       ((level == LEVEL_PMD || level == LEVEL_PUD) && pte_huge(entry));
}

/* Bits that must be 0 in a present entry of this level. */
static u64 reserved_bits(const struct mmu_control *c, enum mmu_level level, pte_t entry)
{
	u64 reserved = address_bits(c->phys_bits, ENTRY_ADDRESS_TOP);

	if (!c->nxe)
		reserved |= PTE_NX;
	if (level >= LEVEL_P4D || (level == LEVEL_PUD && !c->gb_pages))
		reserved |= PTE_HUGE;
	else if (level > LEVEL_PTE && pte_huge(entry))
		/* Bit 12 is the page attribute bit of a huge leaf. */
		reserved |= address_bits(PAGE_SHIFT + 1, level_shift(level));
	return reserved;
}

/* Does the page's protection key forbid this access?  SDM vol. 3A, 4.6.2. */
static bool key_forbids(const struct mmu_control *c, u32 access, bool user, unsigned key)
{
	if (!c->pke || !user || (access & PF_INSTR))
		return false;
	if (pkru_no_access(c->pkru, key))
		return true;
	return (access & PF_WRITE) && ((access & PF_USER) || c->wp) && pkru_no_write(c->pkru, key);
}

/* SDM vol. 3A, 4.6.1. */
static bool allowed(const struct mmu_control *c, u32 access, bool write, bool user, bool nx)
{
	if (access & PF_INSTR) {
		if (c->nxe && nx)
			return false;
		return access & PF_USER ? user : !(c->smep && user);
	}
	if (access & PF_USER)
		return user && (write || !(access & PF_WRITE));
	if (c->smap && user && (!c->ac || (access & ACCESS_IMPLICIT)))
		return false;
	return write || !c->wp || !(access & PF_WRITE);
}

/* The error code of a fault on this access.  A fetch is told from a read only where fetching can
 * be forbidden at all. */
static u32 error_code(const struct mmu_control *c, u32 access, u32 cause)
{
	u32 code = (access & (PF_WRITE | PF_USER)) | cause;

	if (access & PF_INSTR && (c->nxe || c->smep))
		code |= PF_INSTR;
	return code;
}

u32 mmu_check_rights(const struct mmu_control *c, u32 access, bool write, bool user, bool nx,
		     unsigned key)
{
	u32 cause = key_forbids(c, access, user, key) ? PF_PROT | PF_PK : 0;

	if (!allowed(c, access, write, user, nx))
		cause |= PF_PROT;
	return cause ? error_code(c, access, cause) : 0;
}

/* Does the entry itself stop the walk, whoever asks?  *code: the fault's error code. */
static bool entry_faults(const struct mmu_control *c, enum mmu_level level, pte_t entry, u32 access,
			 u32 *code)
{
	bool present = pte_present(entry);

	if (present && !(entry.v & reserved_bits(c, level, entry)))
		return false;
	*code = error_code(c, access, present ? PF_PROT | PF_RSVD : 0);
	return true;
}

static u64 leaf_address(enum mmu_level level, pte_t leaf, u64 va)
{
	u64 offset = (1ULL << level_shift(level)) - 1;

	return (leaf.v & PTE_PFN_MASK & ~offset) | (va & offset);
}

/* One level: judge the entry, set its bits.  WALK_OK with *entry as it is now, or WALK_FAULT with
 * r->error_code. */
static enum walk_status step(const struct mmu_control *c, u32 access, struct walk_result *r,
			     pte_t *entry)
{
	struct walk_result rights;
	u64 bits;

	for (;;) {
		*entry = pte_read(r->entry);
		if (entry_faults(c, r->level, *entry, access, &r->error_code))
			return WALK_FAULT;
		rights = *r;
		rights.write &= pte_write(*entry);
		rights.user &= pte_user(*entry);
		rights.nx |= pte_nx(*entry);
		bits = PTE_ACCESSED;
		if (is_leaf(r->level, *entry)) {
			r->error_code = mmu_check_rights(c, access, rights.write, rights.user,
							 rights.nx, pte_key(*entry));
			if (r->error_code)
				return WALK_FAULT;
			if (access & PF_WRITE)
				bits |= PTE_DIRTY;
		}
		if ((entry->v & bits) == bits ||
		    pte_replace(r->entry, *entry, pte_with(*entry, bits)))
			break;
	}
	*r = rights;
	*entry = pte_with(*entry, bits);
	return WALK_OK;
}

bool mmu_canonical(const struct mmu_control *c, u64 va)
{
	unsigned bits = level_shift(c->la57 ? LEVEL_PGD : LEVEL_P4D) + TABLE_BITS;
	s64 top = (s64)va >> (bits - 1);

	return top == 0 || top == -1;
}

enum walk_status mmu_walk(const struct mmu_control *c, u64 root, u64 va, u32 access,
			  mmu_table_fn table, void *ctx, struct walk_result *r)
{
	u64 next = root & PTE_PFN_MASK;
	pte_t entry, *entries;

	*r = (struct walk_result){ .write = true, .user = true };
	if (!mmu_canonical(c, va))
		return WALK_NONCANONICAL;
	for (r->level = c->la57 ? LEVEL_PGD : LEVEL_P4D;; r->level--) {
		entries = table(ctx, next);
		if (!entries)
			return WALK_UNREACHABLE;
		r->entry = &entries[level_index(r->level, va)];
		if (step(c, access, r, &entry) != WALK_OK)
			return WALK_FAULT;
		if (is_leaf(r->level, entry))
			break;
		next = entry.v & PTE_PFN_MASK;
	}
	r->leaf = entry;
	r->phys = leaf_address(r->level, entry, va);
	return WALK_OK;
}
