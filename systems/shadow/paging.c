/* SPDX-License-Identifier: MIT */
/* How a hidden fault is mended, and how shadows go; paging.h has the rules. */
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/ledger.h"
#include "systems/shadow/paging.h"

int shadow_init(struct shadow *s, struct host_memory *host)
{
	*s = (struct shadow){ .memory = host->bytes,
			      .frames = host->nr,
			      .host = host,
			      .wp = true,
			      .first_hfn = host_end_hfn(host) };
	spin_init(&s->lock);
	s->tables = mmap(NULL, host->nr * sizeof(*s->tables), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	s->levels = calloc(host->nr, sizeof(*s->levels));
	s->unsync = calloc(host->nr, sizeof(*s->unsync));
	s->parents = calloc(host->nr, sizeof(pte_t *));
	if (s->tables != MAP_FAILED && s->levels && s->unsync && s->parents)
		return 0;
	shadow_fini(s);
	return -ENOMEM;
}

void shadow_fini(struct shadow *s)
{
	if (s->tables != MAP_FAILED)
		munmap(s->tables, s->frames * sizeof(*s->tables));
	free(s->levels);
	free(s->unsync);
	free(s->parents);
}

void shadow_lock(struct shadow *s)
{
	spin_lock(&s->lock);
}

void shadow_unlock(struct shadow *s)
{
	spin_unlock(&s->lock);
}

static u8 level_of(const struct shadow *s, u64 gfn)
{
	return gfn < s->frames ? atomic_load_explicit(&s->levels[gfn], memory_order_acquire) : 0;
}

/* The guest's table. */
static pte_t *guest_table(const struct shadow *s, u64 gfn)
{
	return (pte_t *)(s->memory + gfn * PAGE_SIZE);
}

/* ---- the processor ---- */

static pte_t *shadow_table(void *ctx, u64 phys)
{
	struct shadow *s = ctx;
	u64 gfn = (phys >> PAGE_SHIFT) - s->first_hfn;

	if (gfn >= s->frames)
		vmf_panic("shadow: an entry names frame %lx as a table",
			  (unsigned long)(phys >> PAGE_SHIFT));
	return s->tables[gfn];
}

/* The processor always runs with CR0.WP: what the guest has there is emulated. */
enum walk_status shadow_walk(struct shadow *s, const struct mmu_control *control, u64 root, u64 va,
			     u32 access, struct walk_result *w)
{
	u64 gfn = root >> PAGE_SHIFT;
	struct mmu_control c = *control;

	c.wp = true;
	if (mmu_canonical(control, va) &&
	    (level_of(s, gfn) != LEVEL_P4D || atomic_load(&s->wp) != control->wp)) {
		*w = (struct walk_result){ .level = LEVEL_P4D };
		return WALK_UNREACHABLE;
	}
	return mmu_walk(&c, (s->first_hfn + gfn) << PAGE_SHIFT, va, access, shadow_table, s, w);
}

/* ---- shadows go ---- */

static void drop_entry(struct shadow *s, enum mmu_level level, pte_t *entry)
{
	pte_t old = pte_exchange(entry, (pte_t){ 0 });

	if (!pte_present(old))
		return;
	ledger_count(PAID_ENTRY_WRITES);
	if (level > LEVEL_PTE)
		s->parents[pte_pfn(old) - s->first_hfn] = NULL;
}

static void forget(struct shadow *s, u64 gfn)
{
	u8 level = level_of(s, gfn);

	if (!level)
		return;
	if (s->parents[gfn])
		drop_entry(s, level + 1, s->parents[gfn]);
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		drop_entry(s, level, &s->tables[gfn][i]);
	atomic_store(&s->levels[gfn], 0);
	s->unsync[gfn] = false;
	s->flush(s->ctx);
}

void shadow_forget(struct shadow *s, u64 gfn)
{
	shadow_lock(s);
	ledger_count(PAID_LOCKS_TABLE);
	forget(s, gfn);
	shadow_unlock(s);
}

/* No shadow may allow writes to the frame: it is a table that is shadowed from now on. */
static void remove_write_access(struct shadow *s, u64 gfn)
{
	u64 hfn = host_hfn(s->host, gfn);
	bool removed = false;

	for (u64 table = 0; table < s->frames; table++) {
		if (level_of(s, table) != LEVEL_PTE)
			continue;
		for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
			pte_t *e = &s->tables[table][i], old = pte_read(e);

			if (!pte_present(old) || pte_pfn(old) != hfn || !pte_write(old))
				continue;
			pte_reset_bits(e, PTE_WRITE);
			ledger_count(PAID_ENTRY_WRITES);
			removed = true;
		}
	}
	if (removed)
		s->flush(s->ctx);
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
	return guest_table(way->s, gfn);
}

static bool is_on_way(const struct way *way, u64 gfn)
{
	for (unsigned i = 0; i < way->n; i++)
		if (way->gfns[i] == gfn)
			return true;
	return false;
}

static void put(pte_t *entry, pte_t new)
{
	if (pte_same(pte_exchange(entry, new), new))
		return;
	ledger_count(PAID_ENTRY_WRITES);
}

static void give_shadow(struct shadow *s, u64 gfn, enum mmu_level level)
{
	if (level_of(s, gfn) == level)
		return;
	forget(s, gfn);
	remove_write_access(s, gfn);
	atomic_store(&s->levels[gfn], (u8)level);
	ledger_count(PAID_TABLES);
}

/* The shadow of a table above the leaf leads to the shadow of the next. */
static void link_tables(struct shadow *s, u64 gfn, u64 next, enum mmu_level level, u64 va)
{
	const u64 rights = PTE_WRITE | PTE_USER | PTE_NX;
	pte_t guest = pte_read(&guest_table(s, gfn)[level_index(level, va)]);
	pte_t *entry = &s->tables[gfn][level_index(level, va)], old = pte_read(entry);

	if (pte_present(old) && pte_pfn(old) != s->first_hfn + next)
		drop_entry(s, level, entry);
	if (s->parents[next] && s->parents[next] != entry)
		drop_entry(s, level, s->parents[next]);
	put(entry, pte_make(s->first_hfn + next, PTE_PRESENT | PTE_ACCESSED | (guest.v & rights)));
	s->parents[next] = entry;
}

#define KEY_BITS (15ULL << PTE_KEY_SHIFT)

static pte_t leaf_for(const struct shadow *s, const struct walk_result *r, bool write_anyhow)
{
	u64 gfn = r->phys >> PAGE_SHIFT;
	u64 v = PTE_PRESENT | PTE_ACCESSED | (r->leaf.v & (PTE_USER | PTE_NX | KEY_BITS));

	if (pte_write(r->leaf) && pte_dirty(r->leaf) && !level_of(s, gfn))
		v |= PTE_WRITE;
	/* CR0.WP is off in the guest, whose kernel writes: for the kernel only, then. */
	if (write_anyhow)
		v = (v | PTE_WRITE) & ~PTE_USER;
	return pte_make(host_hfn(s->host, gfn), v);
}

/* The guest's walk went well, by `way`, to r. */
static int mend(struct shadow *s, const struct way *way, const struct mmu_control *control, u64 va,
		u32 access, const struct walk_result *r)
{
	bool write = access & PF_WRITE;
	u64 target = r->phys >> PAGE_SHIFT, table = way->gfns[way->n - 1];
	enum mmu_level level = LEVEL_P4D;

	if (target >= s->frames || r->level != LEVEL_PTE)
		return -EFAULT;
	if (write && is_on_way(way, target))
		return -EBUSY;
	/* A program that writes to a table: it is none that is worth a shadow. */
	if (write)
		forget(s, target);
	for (unsigned i = 0; i < way->n; i++, level--)
		give_shadow(s, way->gfns[i], level);
	level = LEVEL_P4D;
	for (unsigned i = 0; i + 1 < way->n; i++, level--)
		link_tables(s, way->gfns[i], way->gfns[i + 1], level, va);
	put(&s->tables[table][level_index(LEVEL_PTE, va)],
	    leaf_for(s, r, write && !control->wp && !(access & PF_USER) && !pte_write(r->leaf)));
	return SHADOW_HIDDEN;
}

static void obey_wp(struct shadow *s, bool wp)
{
	if (atomic_load(&s->wp) == wp)
		return;
	for (u64 gfn = 0; gfn < s->frames; gfn++)
		forget(s, gfn);
	atomic_store(&s->wp, wp);
}

/* The walk in the guest's tables sets accessed and dirty bits there as the processor would. */
int shadow_fault(struct shadow *s, const struct mmu_control *control, u64 root, u64 va, u32 access,
		 u32 *code)
{
	struct way way = { .s = s };
	struct walk_result r;
	enum walk_status status;
	int result;

	shadow_lock(s);
	ledger_count(PAID_LOCKS_TABLE);
	obey_wp(s, control->wp);
	status = mmu_walk(control, root, va, access, table_on_way, &way, &r);
	ledger_add(PAID_SOFTWARE_READS, way.n);
	if (status == WALK_FAULT) {
		*code = r.error_code;
		result = SHADOW_TRUE;
	} else if (status == WALK_OK) {
		result = mend(s, &way, control, va, access, &r);
	} else {
		result = -EFAULT;
	}
	shadow_unlock(s);
	return result;
}

/* ---- stores to the guest's tables ---- */

unsigned shadow_before_store(struct shadow *s, const pte_t *entry, unsigned n)
{
	u64 at = (u64)((const char *)entry - s->memory), gfn = at >> PAGE_SHIFT;
	unsigned first = (unsigned)(at % PAGE_SIZE / sizeof(pte_t));
	u8 level = level_of(s, gfn);

	/* Nobody sees the store, and in truth nobody takes the lock. */
	if (!level || s->unsync[gfn])
		return 0;
	ledger_count(PAID_LOCKS_TABLE);
	if (level == LEVEL_PTE && s->out_of_sync) {
		s->unsync[gfn] = true;
		return 1;
	}
	/* Before the store: nobody comes by this shadow to what the table does not have any more.
	 */
	for (unsigned i = first; i < first + n; i++)
		drop_entry(s, level, &s->tables[gfn][i]);
	return n;
}

/* ---- tables that are out of sync ---- */

/* Does the guest's entry give all that the shadow's does? */
static bool is_within(const struct shadow *s, pte_t shadow, pte_t guest)
{
	if (!pte_present(guest) || !pte_young(guest) || pte_pfn(guest) >= s->frames ||
	    host_hfn(s->host, pte_pfn(guest)) != pte_pfn(shadow))
		return false;
	if (!atomic_load(&s->wp) && pte_write(shadow) && !pte_user(shadow) && pte_dirty(guest))
		return !((shadow.v ^ guest.v) & (PTE_NX | KEY_BITS));
	if (pte_write(shadow) && !(pte_write(guest) && pte_dirty(guest)))
		return false;
	return !((shadow.v ^ guest.v) & (PTE_USER | PTE_NX | KEY_BITS));
}

static void sync_table(struct shadow *s, u64 gfn)
{
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++) {
		pte_t *entry = &s->tables[gfn][i], shadow = pte_read(entry);

		if (pte_present(shadow) && !is_within(s, shadow, pte_read(&guest_table(s, gfn)[i])))
			drop_entry(s, LEVEL_PTE, entry);
	}
	s->unsync[gfn] = false;
}

void shadow_sync(struct shadow *s)
{
	ledger_count(PAID_LOCKS_TABLE);
	for (u64 gfn = 0; s->out_of_sync && gfn < s->frames; gfn++)
		if (s->unsync[gfn])
			sync_table(s, gfn);
}

/* ---- checks ---- */

static void check_entry(const struct shadow *s, u64 gfn, u8 level, unsigned i)
{
	pte_t shadow = pte_read(&s->tables[gfn][i]), guest = pte_read(&guest_table(s, gfn)[i]);
	bool good;

	if (!pte_present(shadow))
		return;
	if (level > LEVEL_PTE)
		good = pte_present(guest) && pte_pfn(shadow) == s->first_hfn + pte_pfn(guest) &&
		       level_of(s, pte_pfn(guest)) == level - 1;
	else
		good = is_within(s, shadow, guest) &&
		       !(pte_write(shadow) && level_of(s, pte_pfn(guest)));
	if (!good)
		vmf_panic("shadow: entry %u of table %lx gives %lx, the guest's is %lx", i,
			  (unsigned long)gfn, (unsigned long)shadow.v, (unsigned long)guest.v);
}

void shadow_check(struct shadow *s)
{
	for (u64 gfn = 0; gfn < s->frames; gfn++) {
		u8 level = level_of(s, gfn);

		for (unsigned i = 0; level && !s->unsync[gfn] && i < PTRS_PER_TABLE; i++)
			check_entry(s, gfn, level, i);
	}
}
