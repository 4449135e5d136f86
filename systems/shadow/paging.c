/* SPDX-License-Identifier: MIT */
/* How a hidden fault is mended, and what the guest's stores and flushes do; paging.h has the rules.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/ledger.h"
#include "systems/shadow/paging.h"

/* ---- the processor ---- */

static pte_t *shadow_table(void *ctx, u64 phys)
{
	struct shadow *s = ctx;
	u64 i = (phys >> PAGE_SHIFT) - s->first_hfn;

	if (i >= s->room)
		vmf_panic("shadow: an entry names frame %lx as a table",
			  (unsigned long)(phys >> PAGE_SHIFT));
	return s->entries[i];
}

static u8 role_of(const struct mmu_control *c)
{
	return (c->nxe ? SHADOW_NXE : 0) |
	       (c->wp ? SHADOW_WP : (c->smep ? SHADOW_SMEP : 0) | (c->smap ? SHADOW_SMAP : 0));
}

/* The processor always runs with CR0.WP: what the guest has there is emulated. */
enum walk_status shadow_walk(struct shadow *s, const struct mmu_control *control, u64 root, u64 va,
			     u32 access, struct walk_result *w)
{
	u32 i = shadow_find(s, root >> PAGE_SHIFT, LEVEL_P4D);
	struct mmu_control c = *control;

	c.wp = true;
	if (mmu_canonical(control, va) &&
	    (i == SHADOW_NONE || atomic_load(&s->role) != role_of(control))) {
		*w = (struct walk_result){ .level = LEVEL_P4D };
		return WALK_UNREACHABLE;
	}
	/* An address that is none needs no table. */
	return mmu_walk(&c, (s->first_hfn + (i == SHADOW_NONE ? 0 : i)) << PAGE_SHIFT, va, access,
			shadow_table, s, w);
}

/* ---- tables that are out of sync ---- */

#define KEY_BITS (15ULL << PTE_KEY_SHIFT)

static bool is_wp_off(const struct shadow *s)
{
	return !(atomic_load(&s->role) & SHADOW_WP);
}

/* Does the guest's entry, of any level, give the rights that the shadow's does? */
static bool rights_are_within(const struct shadow *s, pte_t shadow, pte_t guest)
{
	/* One that its kernel writes to with CR0.WP off. */
	if (is_wp_off(s) && pte_write(shadow) && !pte_user(shadow))
		return !(guest.v & ~shadow.v & PTE_NX);
	return !((shadow.v & ~guest.v & PTE_WRITE) || ((shadow.v ^ guest.v) & (PTE_USER | PTE_NX)));
}

/* The same for a leaf. */
static bool is_within(const struct shadow *s, pte_t shadow, pte_t guest)
{
	return pte_present(guest) && pte_young(guest) && pte_pfn(guest) < s->frames &&
	       host_hfn(s->host, pte_pfn(guest)) == pte_pfn(shadow) &&
	       !((shadow.v ^ guest.v) & KEY_BITS) && rights_are_within(s, shadow, guest) &&
	       (!pte_write(shadow) || pte_dirty(guest));
}

static void sync_table(struct shadow *s, u32 table)
{
	const pte_t *guest = shadow_guest_table(s, s->tables[table].gfn);

	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		pte_t *entry = &s->entries[table][i], shadow = pte_read(entry);

		if (pte_present(shadow) && !is_within(s, shadow, pte_read(&guest[i])))
			shadow_drop_entry(entry);
	}
	s->tables[table].unsync = false;
}

void shadow_sync(struct shadow *s)
{
	ledger_count(PAID_LOCKS_TABLE);
	for (u32 i = 0; s->out_of_sync && i < s->room; i++)
		if (s->tables[i].unsync)
			sync_table(s, i);
}

/* What the shadows do not lead to no processor has by them, until it is linked again. */
void shadow_invlpg(struct shadow *s, u64 root, u64 va)
{
	u32 i = shadow_find(s, root >> PAGE_SHIFT, LEVEL_P4D);

	ledger_count(PAID_LOCKS_TABLE);
	for (enum mmu_level level = LEVEL_P4D; i != SHADOW_NONE && level > LEVEL_PTE; level--) {
		pte_t entry = pte_read(&s->entries[i][level_index(level, va)]);

		i = pte_present(entry) ? (u32)(pte_pfn(entry) - s->first_hfn) : SHADOW_NONE;
	}
	if (i != SHADOW_NONE && s->tables[i].unsync)
		sync_table(s, i);
}

/* ---- a hidden fault ---- */

/* The guest's tables that a walk went through, from the root on. */
struct way {
	struct shadow *s;
	unsigned n;
	u64 gfns[LEVEL_P4D];
};

static pte_t *table_on_way(void *ctx, u64 phys)
{
	struct way *way = ctx;
	u64 gfn = phys >> PAGE_SHIFT;

	if (gfn >= way->s->frames)
		return NULL;
	way->gfns[way->n++] = gfn;
	return shadow_guest_table(way->s, gfn);
}

static bool is_on_way(const struct way *way, u64 gfn)
{
	for (unsigned i = 0; i < way->n; i++)
		if (way->gfns[i] == gfn)
			return true;
	return false;
}

/* A table that is walked above the leaf is always in sync, at whatever other level it is walked. */
static bool give_shadow(struct shadow *s, u64 gfn, enum mmu_level level)
{
	u32 leaf = shadow_find(s, gfn, LEVEL_PTE);

	s->stores[gfn] = 0;
	if (level > LEVEL_PTE && leaf != SHADOW_NONE && s->tables[leaf].unsync)
		sync_table(s, leaf);
	if (shadow_has(s, gfn, level))
		return false;
	shadow_add(s, gfn, level);
	return true;
}

/*
 * Each table of the way has a shadow of its level, and is nobody's to write to.  False: some were
 * not so before.  Then a program may have written to them since they were walked, and they are to
 * be walked again: what they say stands now, from the root on down to the first that is new.
 */
static bool protect(struct shadow *s, const struct way *way)
{
	enum mmu_level level = LEVEL_P4D;
	unsigned missing = 0;

	for (unsigned i = 0; i < way->n; i++)
		missing += !shadow_has(s, way->gfns[i], level - i);
	/* Before anything is protected, so that it stays so. */
	shadow_make_room(s, missing ? LEVEL_P4D : 0);
	missing = 0;
	for (unsigned i = 0; i < way->n; i++)
		missing += give_shadow(s, way->gfns[i], level - i);
	shadow_settle(s);
	return !missing;
}

static void put(pte_t *entry, pte_t new)
{
	if (!pte_same(pte_exchange(entry, new), new))
		ledger_count(PAID_ENTRY_WRITES);
}

/* What a shadow's entry gives of the guest's, where `may_write` says that it may be written
 * through. `anyhow`: the guest's kernel writes, with CR0.WP off. */
static u64 rights_of(const struct shadow *s, pte_t guest, bool may_write, bool anyhow)
{
	u64 v = guest.v & (PTE_USER | PTE_NX);

	if (pte_write(guest))
		return v | (may_write ? PTE_WRITE : 0);
	if (!anyhow)
		return v;
	/* A user's page becomes the kernel's, which under SMEP does not fetch from a user's. */
	if (pte_user(guest) && (atomic_load(&s->role) & SHADOW_SMEP))
		v |= PTE_NX;
	return (v | PTE_WRITE) & ~PTE_USER;
}

/* The shadow and all that it leads to.  As KVM's mmu_sync_children(). */
static void sync_below(struct shadow *s, u32 table)
{
	if (atomic_load(&s->tables[table].level) == LEVEL_PTE) {
		if (s->tables[table].unsync)
			sync_table(s, table);
		return;
	}
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		pte_t entry = pte_read(&s->entries[table][i]);

		if (pte_present(entry))
			sync_below(s, (u32)(pte_pfn(entry) - s->first_hfn));
	}
}

/* The shadow of a table above the leaf leads to the shadow of the next.  What nothing led to was
 * not synced by INVLPG, so it is now. */
static void link_tables(struct shadow *s, u64 gfn, u64 next, enum mmu_level level, u64 va,
			bool anyhow)
{
	unsigned i = level_index(level, va);
	pte_t guest = pte_read(&shadow_guest_table(s, gfn)[i]);
	pte_t *entry = &s->entries[shadow_find(s, gfn, level)][i];
	u32 below = shadow_find(s, next, level - 1);

	if (!pte_present(pte_read(entry)))
		sync_below(s, below);
	put(entry, pte_make(s->first_hfn + below,
			    PTE_PRESENT | PTE_ACCESSED | rights_of(s, guest, true, anyhow)));
}

static pte_t leaf_for(const struct shadow *s, const struct walk_result *r, bool anyhow)
{
	u64 gfn = r->phys >> PAGE_SHIFT;
	bool may_write = pte_dirty(r->leaf) && !shadow_is_table(s, gfn);

	return pte_make(host_hfn(s->host, gfn), PTE_PRESENT | PTE_ACCESSED |
							(r->leaf.v & KEY_BITS) |
							rights_of(s, r->leaf, may_write, anyhow));
}

/* The guest's walk went well, by `way`, all of which is protected, to r. */
static int mend(struct shadow *s, const struct way *way, const struct mmu_control *control, u64 va,
		u32 access, const struct walk_result *r)
{
	bool write = access & PF_WRITE;
	bool anyhow = write && !control->wp && !(access & PF_USER);
	u64 target = r->phys >> PAGE_SHIFT, table = way->gfns[way->n - 1];
	enum mmu_level level = LEVEL_P4D;

	/* A program that writes to a table: it is none that is worth a shadow. */
	if (write && shadow_is_table(s, target)) {
		shadow_drop_frame(s, target);
		shadow_settle(s);
	}
	for (unsigned i = 0; i + 1 < way->n; i++, level--)
		link_tables(s, way->gfns[i], way->gfns[i + 1], level, va, anyhow);
	put(&s->entries[shadow_find(s, table, LEVEL_PTE)][level_index(LEVEL_PTE, va)],
	    leaf_for(s, r, anyhow));
	return SHADOW_HIDDEN;
}

static void obey_controls(struct shadow *s, const struct mmu_control *control)
{
	if (atomic_load(&s->role) == role_of(control))
		return;
	for (u64 gfn = 0; gfn < s->frames; gfn++)
		shadow_drop_frame(s, gfn);
	shadow_settle(s);
	atomic_store(&s->role, role_of(control));
}

/* The walk in the guest's tables sets accessed and dirty bits there as the processor would. */
static int walk_and_mend(struct shadow *s, const struct mmu_control *control, u64 root, u64 va,
			 u32 access, u32 *code)
{
	struct walk_result r;
	enum walk_status status;
	struct way way;

	/* Each turn protects the first table that could still change, so there are five at most. */
	do {
		way = (struct way){ .s = s };
		status = mmu_walk(control, root, va, access, table_on_way, &way, &r);
		ledger_add(PAID_SOFTWARE_READS, way.n);
		if (status == WALK_FAULT) {
			*code = r.error_code;
			return SHADOW_TRUE;
		}
		if (status != WALK_OK || r.phys >> PAGE_SHIFT >= s->frames || r.level != LEVEL_PTE)
			return -EFAULT;
		if ((access & PF_WRITE) && is_on_way(&way, r.phys >> PAGE_SHIFT))
			return -EBUSY;
	} while (!protect(s, &way));
	return mend(s, &way, control, va, access, &r);
}

int shadow_fault(struct shadow *s, const struct mmu_control *control, u64 root, u64 va, u32 access,
		 u32 *code)
{
	int result;

	shadow_lock(s);
	ledger_count(PAID_LOCKS_TABLE);
	obey_controls(s, control);
	result = walk_and_mend(s, control, root, va, access, code);
	shadow_unlock(s);
	return result;
}

/* ---- stores to the guest's tables ---- */

static void drop_in_each(struct shadow *s, u64 gfn, unsigned i)
{
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_P4D; level++) {
		u32 table = shadow_find(s, gfn, level);

		if (table != SHADOW_NONE)
			shadow_drop_entry(&s->entries[table][i]);
	}
}

static bool is_leaf_only(const struct shadow *s, u64 gfn)
{
	for (enum mmu_level level = LEVEL_PMD; level <= LEVEL_P4D; level++)
		if (shadow_has(s, gfn, level))
			return false;
	return true;
}

/* The guest is stopped at a store to entry i of a table that is protected. */
static enum shadow_store stop_at(struct shadow *s, u64 gfn, unsigned i)
{
	if (s->out_of_sync && is_leaf_only(s, gfn)) {
		s->tables[shadow_find(s, gfn, LEVEL_PTE)].unsync = true;
		return SHADOW_UNSYNCED;
	}
	/* Before the store: nobody comes by this shadow to what the table does not have any more.
	 */
	drop_in_each(s, gfn, i);
	if (++s->stores[gfn] < SHADOW_FLOOD)
		return SHADOW_EMULATED;
	shadow_drop_frame(s, gfn);
	shadow_settle(s);
	return SHADOW_FLOODED;
}

unsigned shadow_before_store(struct shadow *s, const pte_t *entry, unsigned n,
			     enum shadow_store *last)
{
	u64 at = (u64)((const char *)entry - s->memory), gfn = at >> PAGE_SHIFT;
	unsigned first = (unsigned)(at % PAGE_SIZE / sizeof(pte_t)), stopped = 0;
	u32 leaf = shadow_find(s, gfn, LEVEL_PTE);

	/* Nobody sees the store, and in truth nobody takes the lock. */
	if (!shadow_is_table(s, gfn) || (leaf != SHADOW_NONE && s->tables[leaf].unsync))
		return 0;
	ledger_count(PAID_LOCKS_TABLE);
	do
		*last = stop_at(s, gfn, first + stopped);
	while (++stopped < n && *last == SHADOW_EMULATED);
	return stopped;
}

/* ---- checks ---- */

static void check_entry(const struct shadow *s, u32 table, u8 level, unsigned i)
{
	u64 gfn = s->tables[table].gfn;
	pte_t shadow = pte_read(&s->entries[table][i]);
	pte_t guest = pte_read(&shadow_guest_table(s, gfn)[i]);
	bool good;

	if (!pte_present(shadow))
		return;
	if (level > LEVEL_PTE)
		good = pte_present(guest) && rights_are_within(s, shadow, guest) &&
		       shadow_has(s, pte_pfn(guest), level - 1) &&
		       pte_pfn(shadow) == s->first_hfn + shadow_find(s, pte_pfn(guest), level - 1);
	else
		good = is_within(s, shadow, guest) &&
		       !(pte_write(shadow) && shadow_is_table(s, pte_pfn(guest)));
	if (!good)
		vmf_panic("shadow: entry %u of table %lx, level %u, gives %lx, the guest's is %lx",
			  i, (unsigned long)gfn, level, (unsigned long)shadow.v,
			  (unsigned long)guest.v);
}

void shadow_check(struct shadow *s)
{
	for (u32 i = 0; i < s->room; i++) {
		const struct shadow_table *t = &s->tables[i];
		u8 level = atomic_load(&t->level);

		if (t->dying)
			vmf_panic("shadow: a flush is owed");
		if (!level)
			continue;
		if (shadow_find(s, t->gfn, level) != i || (t->unsync && !is_leaf_only(s, t->gfn)))
			vmf_panic("shadow: table %u is for frame %lx, or is it", i,
				  (unsigned long)t->gfn);
		for (unsigned k = 0; !t->unsync && k < PTRS_PER_TABLE; k++)
			check_entry(s, i, level, k);
	}
}
