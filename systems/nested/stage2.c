/* SPDX-License-Identifier: MIT */
/* Two formats of one tree; stage2.h has who may change what. */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "machine/soft/second.h"
#include "systems/ledger.h"
#include "systems/nested/stage2.h"

/* ---- entries ---- */

#define EPT_READ     (1ULL << 0)
#define EPT_WRITE    (1ULL << 1)
#define EPT_EXECUTE  (1ULL << 2)
#define EPT_RIGHTS   (EPT_READ | EPT_WRITE | EPT_EXECUTE)
#define EPT_TYPE_BIT 3 /* of the memory type: three bits, in a leaf */
#define EPT_TYPE     (7ULL << EPT_TYPE_BIT)
#define EPT_WB	     6ULL
#define EPT_ACCESSED (1ULL << 8)
#define EPT_DIRTY    (1ULL << 9)
/* Neither format's hardware looks at it. */
#define SOFT_MAY (1ULL << 55)

/* Reserved in both, as far as the physical address goes. */
#define BEYOND_MEMORY (1ULL << 51)

struct bits {
	u64 present; /* any of these */
	u64 table, leaf, write, accessed, dirty;
	u64 broken; /* all of an entry that is to stop every walk */
};

static const struct bits formats[] = {
	[STAGE2_EPT] = { .present = EPT_RIGHTS,
			 .table = EPT_RIGHTS,
			 .leaf = EPT_READ | EPT_EXECUTE | EPT_WB << EPT_TYPE_BIT,
			 .write = EPT_WRITE,
			 .accessed = EPT_ACCESSED,
			 .dirty = EPT_DIRTY,
			 .broken = EPT_WRITE | EPT_EXECUTE },
	[STAGE2_NPT] = { .present = PTE_PRESENT,
			 .table = PTE_PRESENT | PTE_WRITE | PTE_USER,
			 .leaf = PTE_PRESENT | PTE_USER,
			 .write = PTE_WRITE,
			 .accessed = PTE_ACCESSED,
			 .dirty = PTE_DIRTY,
			 .broken = PTE_PRESENT | BEYOND_MEMORY },
};

static const struct bits *bits_of(const struct stage2 *s)
{
	return &formats[s->format];
}

static bool present(const struct stage2 *s, pte_t e)
{
	return e.v & bits_of(s)->present;
}

static bool broken(const struct stage2 *s, pte_t e)
{
	return e.v == bits_of(s)->broken;
}

/* Of a present entry. */
static bool is_leaf(enum mmu_level level, pte_t e)
{
	return level == LEVEL_PTE || (level <= LEVEL_PUD && pte_huge(e));
}

/* Pages that an entry of the level maps. */
static u64 span(enum mmu_level level)
{
	return 1ULL << (level_shift(level) - PAGE_SHIFT);
}

static u64 behind(u64 gfn, enum mmu_level level)
{
	return (gfn | (span(level) - 1)) + 1;
}

/* ---- tables ---- */

static pte_t *table_at(const struct stage2 *s, u64 hfn)
{
	if (hfn - s->first_table >= s->nr_tables)
		vmf_panic("nested: an entry names frame %lx as a table", (unsigned long)hfn);
	return s->tables[hfn - s->first_table];
}

static pte_t *entry_in(const struct stage2 *s, u64 table, enum mmu_level level, u64 gfn)
{
	return &table_at(s, table)[level_index(level, gfn << PAGE_SHIFT)];
}

/* Its hfn, zeroed; 0: there is none. */
static u64 alloc_table(struct stage2 *s)
{
	u64 hfn = 0;

	spin_lock(&s->lock);
	if (s->nr_free)
		hfn = s->free[--s->nr_free];
	else if (s->nr_given < s->nr_tables)
		hfn = s->first_table + s->nr_given++;
	spin_unlock(&s->lock);
	if (!hfn)
		return 0;
	memset(table_at(s, hfn), 0, sizeof(*s->tables));
	ledger_count(PAID_TABLES);
	return hfn;
}

void stage2_free_table(struct stage2 *s, u64 hfn)
{
	spin_lock(&s->lock);
	s->free[s->nr_free++] = hfn;
	spin_unlock(&s->lock);
}

/* Tables for so many frames from 0 on, and some for what lies far behind them. */
static u64 tables_for(u64 frames)
{
	u64 n = 1 + 16;

	for (enum mmu_level l = LEVEL_PMD; l <= LEVEL_P4D; l++)
		n += frames / span(l) + 1;
	return n;
}

int stage2_create(enum stage2_format format, u64 frames, u64 first_table, struct stage2 **stage2)
{
	struct stage2 *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->format = format;
	s->control = MMU_CONTROL_USUAL;
	s->first_table = first_table;
	s->nr_tables = tables_for(frames);
	s->tables = aligned_alloc(PAGE_SIZE, s->nr_tables * sizeof(*s->tables));
	s->free = calloc(s->nr_tables, sizeof(*s->free));
	spin_init(&s->lock);
	if (!s->tables || !s->free) {
		stage2_destroy(s);
		return -ENOMEM;
	}
	s->root = alloc_table(s);
	*stage2 = s;
	return 0;
}

void stage2_destroy(struct stage2 *s)
{
	free(s->tables);
	free(s->free);
	free(s);
}

/* ---- the processor's walk: EPT ---- */

/* SDM vol. 3C, 29.3.3.1. */
static bool ept_misconfigured(const struct mmu_control *c, enum mmu_level level, pte_t e)
{
	u64 type = (e.v & EPT_TYPE) >> EPT_TYPE_BIT;
	u64 reserved = PTE_PFN_MASK & ~((1ULL << c->phys_bits) - 1);

	if ((e.v & EPT_WRITE) && !(e.v & EPT_READ))
		return true;
	if (is_leaf(level, e)) {
		if (level > LEVEL_PTE)
			reserved |= (span(level) - 1) << PAGE_SHIFT;
		return (e.v & reserved) || type == 2 || type == 3 || type == 7;
	}
	reserved |= EPT_TYPE | 1ULL << 6;
	if (level >= LEVEL_P4D)
		reserved |= PTE_HUGE;
	return e.v & reserved;
}

static u64 ept_qualification(u32 access, u64 rights)
{
	u64 q = EPT_QUAL_GLA_VALID | rights * EPT_QUAL_READABLE;

	/* With accessed and dirty flags an access to a guest's table is both. */
	if (access & SECOND_TABLE)
		return q | EPT_QUAL_READ | EPT_QUAL_WRITE;
	q |= EPT_QUAL_FINAL;
	if (access & PF_WRITE)
		return q | EPT_QUAL_WRITE;
	return q | (access & PF_INSTR ? EPT_QUAL_FETCH : EPT_QUAL_READ);
}

static u64 ept_needs(u32 access)
{
	if (access & SECOND_TABLE)
		return EPT_READ | EPT_WRITE;
	if (access & PF_WRITE)
		return EPT_WRITE;
	return access & PF_INSTR ? EPT_EXECUTE : EPT_READ;
}

/* One entry: judge it, set its flags.  *rights: of the entries above; then of this, too. */
static enum stage2_outcome ept_step(const struct stage2 *s, pte_t *entry, enum mmu_level level,
				    u32 access, u64 gpa, struct stage2_log *log, u64 *rights,
				    pte_t *e)
{
	u64 above = *rights, flags;
	bool leaf, logs;

	do {
		*e = pte_read(entry);
		*rights = above & e->v & EPT_RIGHTS;
		if (!present(s, *e))
			return STAGE2_VIOLATION;
		if (ept_misconfigured(&s->control, level, *e))
			return STAGE2_MISCONFIG;
		leaf = is_leaf(level, *e);
		if (leaf && (*rights & ept_needs(access)) != ept_needs(access))
			return STAGE2_VIOLATION;
		flags = EPT_ACCESSED | (leaf && (access & PF_WRITE) ? EPT_DIRTY : 0);
		logs = log && (flags & ~e->v & EPT_DIRTY);
		if (logs && log->index >= PML_ENTRIES)
			return STAGE2_LOG_FULL;
	} while ((e->v & flags) != flags && !pte_replace(entry, *e, pte_with(*e, flags)));
	*e = pte_with(*e, flags);
	if (logs)
		log->gpa[log->index--] = gpa & PAGE_MASK;
	return STAGE2_OK;
}

static void ept_walk(struct stage2 *s, u64 gpa, u32 access, struct stage2_log *log,
		     struct stage2_walk *w)
{
	u64 table = s->root, rights = EPT_RIGHTS, gfn = gpa >> PAGE_SHIFT;
	enum mmu_level level;
	pte_t e;

	for (level = LEVEL_P4D;; level--) {
		w->reads++;
		w->outcome = ept_step(s, entry_in(s, table, level, gfn), level, access, gpa, log,
				      &rights, &e);
		if (w->outcome != STAGE2_OK) {
			w->info = ept_qualification(access, rights);
			return;
		}
		if (is_leaf(level, e))
			break;
		table = pte_pfn(e);
	}
	w->hfn = pte_pfn(e) + (gfn & (span(level) - 1));
	w->write = (rights & EPT_WRITE) && (e.v & EPT_DIRTY);
	w->fetch = rights & EPT_EXECUTE;
}

/* ---- the processor's walk: nested paging ---- */

static pte_t *npt_table(void *ctx, u64 phys)
{
	return table_at(ctx, phys >> PAGE_SHIFT);
}

/* The walk of vector 14, for an access that counts as the user's (APM vol. 2, 15.25.5). */
static void npt_walk(struct stage2 *s, u64 gpa, u32 access, struct stage2_walk *w)
{
	struct walk_result r;
	enum walk_status status =
		mmu_walk(&s->control, s->root << PAGE_SHIFT, gpa,
			 PF_USER | (access & (PF_WRITE | PF_INSTR)), npt_table, s, &r);

	w->reads = status == WALK_NONCANONICAL ? 0 : LEVEL_P4D - r.level + 1;
	if (status == WALK_OK) {
		w->hfn = r.phys >> PAGE_SHIFT;
		w->write = r.write && pte_dirty(r.leaf);
		w->fetch = !r.nx;
		return;
	}
	w->outcome = r.error_code & PF_RSVD ? STAGE2_MISCONFIG : STAGE2_VIOLATION;
	w->info = r.error_code | (access & SECOND_TABLE ? NPF_TABLE : NPF_FINAL);
}

void stage2_walk(struct stage2 *s, u64 gpa, u32 access, struct stage2_log *log,
		 struct stage2_walk *w)
{
	*w = (struct stage2_walk){ .outcome = STAGE2_OK };
	if (s->format == STAGE2_EPT)
		ept_walk(s, gpa, access, log, w);
	else
		npt_walk(s, gpa, access, w);
}

/* ---- software's side ---- */

static pte_t make_leaf(const struct stage2 *s, u64 hfn, enum mmu_level level, u32 rights)
{
	u64 v = bits_of(s)->leaf;

	if (rights & STAGE2_WRITE)
		v |= bits_of(s)->write;
	if (rights & STAGE2_MAY)
		v |= SOFT_MAY;
	if (level > LEVEL_PTE)
		v |= PTE_HUGE;
	return pte_make(hfn & ~(span(level) - 1), v);
}

/* The leaf for gfn, or the absent entry where the tables end. */
static pte_t *find(const struct stage2 *s, u64 gfn, enum mmu_level *level, pte_t *e)
{
	u64 table = s->root;
	pte_t *entry;

	for (*level = LEVEL_P4D;; (*level)--) {
		entry = entry_in(s, table, *level, gfn);
		*e = pte_read(entry);
		if (!present(s, *e) || is_leaf(*level, *e))
			return entry;
		table = pte_pfn(*e);
	}
}

struct stage2_entry stage2_look(struct stage2 *s, u64 gfn)
{
	const struct bits *b = bits_of(s);
	enum mmu_level level;
	pte_t e;

	find(s, gfn, &level, &e);
	if (!present(s, e))
		return (struct stage2_entry){ .level = LEVEL_PTE };
	return (struct stage2_entry){ .present = !broken(s, e),
				      .broken = broken(s, e),
				      .write = e.v & b->write,
				      .may = e.v & SOFT_MAY,
				      .dirty = e.v & b->dirty,
				      .young = e.v & b->accessed,
				      .level = level,
				      .hfn = pte_pfn(e) + (gfn & (span(level) - 1)) };
}

/* Entry i of the table that a huge entry becomes. */
static pte_t piece(pte_t huge, enum mmu_level level, u64 i)
{
	u64 keep = huge.v & ~PTE_PFN_MASK;

	if (level - 1 == LEVEL_PTE)
		keep &= ~PTE_HUGE;
	return pte_make(pte_pfn(huge) + i * span(level - 1), keep);
}

/* A table takes the place of `old`, which is absent or a huge leaf.  0; -ENOMEM; -EAGAIN: the entry
 * has changed. */
static int put_table(struct stage2 *s, pte_t *entry, enum mmu_level level, pte_t old)
{
	u64 hfn = alloc_table(s);
	pte_t *table;

	if (!hfn)
		return -ENOMEM;
	table = table_at(s, hfn);
	for (u64 i = 0; present(s, old) && i < PTRS_PER_TABLE; i++)
		pte_store(&table[i], piece(old, level, i));
	if (!pte_replace(entry, old, pte_make(hfn, bits_of(s)->table))) {
		stage2_free_table(s, hfn);
		return -EAGAIN;
	}
	ledger_count(PAID_ENTRY_WRITES);
	return 0;
}

/* The entry for gfn in a table of `level`, with what is above it made; or in one further down, if a
 * table is in the place.  0, -ENOMEM. */
static int make_way(struct stage2 *s, u64 gfn, enum mmu_level *level, pte_t **entry)
{
	enum mmu_level at = LEVEL_P4D;
	u64 table = s->root;
	pte_t e;
	int err;

	for (;;) {
		*entry = entry_in(s, table, at, gfn);
		e = pte_read(*entry);
		if (at == LEVEL_PTE || (at == *level && !(present(s, e) && !is_leaf(at, e)))) {
			*level = at;
			return 0;
		}
		if (present(s, e) && !is_leaf(at, e)) {
			table = pte_pfn(e);
			at--;
			continue;
		}
		err = put_table(s, *entry, at, e);
		if (err && err != -EAGAIN)
			return err;
	}
}

static int put_leaf(struct stage2 *s, pte_t *entry, pte_t old, pte_t new)
{
	const u64 flags = bits_of(s)->accessed | bits_of(s)->dirty;

	if (present(s, old)) {
		if (broken(s, old) || pte_pfn(old) != pte_pfn(new))
			return broken(s, new) && broken(s, old) ? -EEXIST : -EAGAIN;
		new.v |= old.v &(flags | SOFT_MAY | bits_of(s)->write);
		if (pte_same(old, new))
			return -EEXIST;
	}
	if (!pte_replace(entry, old, new))
		return -EAGAIN;
	ledger_count(PAID_ENTRY_WRITES);
	return 0;
}

int stage2_map(struct stage2 *s, u64 gfn, u64 hfn, enum mmu_level level, u32 rights)
{
	pte_t *entry;
	int err = make_way(s, gfn, &level, &entry);

	if (err)
		return err;
	return put_leaf(s, entry, pte_read(entry), make_leaf(s, hfn, level, rights));
}

int stage2_map_broken(struct stage2 *s, u64 gfn)
{
	enum mmu_level level = LEVEL_PTE;
	pte_t *entry;
	int err = make_way(s, gfn, &level, &entry);

	if (err)
		return err;
	return put_leaf(s, entry, pte_read(entry), (pte_t){ bits_of(s)->broken });
}

bool stage2_allow_write(struct stage2 *s, u64 gfn)
{
	const struct bits *b = bits_of(s);
	enum mmu_level level;
	pte_t *entry, e;

	entry = find(s, gfn, &level, &e);
	if (!present(s, e) || level != LEVEL_PTE || !(e.v & SOFT_MAY) || (e.v & b->write))
		return false;
	if (!pte_replace(entry, e, pte_with(e, b->write)))
		return false;
	ledger_count(PAID_ENTRY_WRITES);
	return true;
}

/* ---- ranges ---- */

/* The next leaf of [*gfn, end), NULL: none; *gfn is then what it maps first of that. */
static pte_t *next_leaf(const struct stage2 *s, u64 *gfn, u64 end, enum mmu_level *level)
{
	pte_t *entry, e;

	for (; *gfn < end; *gfn = behind(*gfn, *level)) {
		entry = find(s, *gfn, level, &e);
		if (present(s, e))
			return entry;
	}
	return NULL;
}

/* Take these bits from every leaf: ~0: all. */
static u64 reset(struct stage2 *s, u64 gfn, u64 n, u64 bits)
{
	u64 changed = 0, end = gfn + n;
	enum mmu_level level;
	pte_t *entry;

	for (; (entry = next_leaf(s, &gfn, end, &level)); gfn = behind(gfn, level))
		changed += (pte_reset_bits(entry, bits).v & bits) != 0;
	ledger_add(PAID_ENTRY_WRITES, changed);
	return changed;
}

u64 stage2_zap(struct stage2 *s, u64 gfn, u64 n)
{
	return reset(s, gfn, n, ~0ULL);
}

u64 stage2_write_protect(struct stage2 *s, u64 gfn, u64 n)
{
	u64 changed = 0, end = gfn + n;
	enum mmu_level level;
	pte_t *entry;

	for (; (entry = next_leaf(s, &gfn, end, &level)); gfn = behind(gfn, level))
		if (!broken(s, pte_read(entry)))
			changed += (pte_reset_bits(entry, bits_of(s)->write).v &
				    bits_of(s)->write) != 0;
	ledger_add(PAID_ENTRY_WRITES, changed);
	return changed;
}

u64 stage2_clear_dirty(struct stage2 *s, u64 gfn, u64 n)
{
	return reset(s, gfn, n, bits_of(s)->dirty);
}

u64 stage2_clear_young(struct stage2 *s, u64 gfn, u64 n)
{
	return reset(s, gfn, n, bits_of(s)->accessed);
}

s64 stage2_split(struct stage2 *s, u64 gfn, u64 n)
{
	u64 end = gfn + n;
	enum mmu_level level;
	pte_t *entry, e;
	s64 done = 0;
	int err;

	while ((entry = next_leaf(s, &gfn, end, &level))) {
		if (level == LEVEL_PTE) {
			gfn++;
			continue;
		}
		e = pte_read(entry);
		err = present(s, e) ? put_table(s, entry, level, e) : 0;
		if (err && err != -EAGAIN)
			return err;
		done += !err;
	}
	return done;
}

u64 stage2_unlink_tables(struct stage2 *s, u64 gfn, u64 n, u64 *freed, u64 most)
{
	u64 end = gfn + n, found = 0;

	for (gfn = (gfn + span(LEVEL_PMD) - 1) & ~(span(LEVEL_PMD) - 1);
	     gfn + span(LEVEL_PMD) <= end && found < most; gfn += span(LEVEL_PMD)) {
		enum mmu_level level = LEVEL_P4D;
		u64 table = s->root;
		pte_t *entry, e;

		for (;; level--) {
			entry = entry_in(s, table, level, gfn);
			e = pte_read(entry);
			if (!present(s, e) || is_leaf(level, e) || level == LEVEL_PMD)
				break;
			table = pte_pfn(e);
		}
		if (level != LEVEL_PMD || !present(s, e) || is_leaf(level, e))
			continue;
		pte_store(entry, (pte_t){ 0 });
		ledger_count(PAID_ENTRY_WRITES);
		freed[found++] = pte_pfn(e);
	}
	return found;
}
