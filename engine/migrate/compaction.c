/* SPDX-License-Identifier: MIT */
/*
 * The two scanners.
 *
 *   migrate_pfn ->                                   <- free_pfn
 *   |____________________|..........................|__________|
 *    has been emptied      not looked at              is full
 *
 * Both go block by block (2 MiB).  From a block the migrate scanner takes pages in clusters of 32,
 * a reference each; the free scanner then takes as many frames off the free lists, of which it has
 * some in stock, as single pages; they are moved.  For an allocation a block is given up as soon as
 * a page in it cannot be moved, for it will not become free; by hand all is moved that can be.
 *
 * Where they are is kept from one time to the next (zone->compaction), and is forgotten when they
 * meet.  One at a time compacts a zone: others could only take its frames away.
 *
 * What flags say of a page that nobody holds is a hint: migrate_get() and the zone's lock decide.
 */
#include "engine/migrate/compaction.h"

#include "engine/base/errno.h"
#include "engine/reclaim/internal.h"

/* Pages moved at a time. */
#define CLUSTER 32

struct compact {
	struct engine *e;
	struct zone *z;
	int order; /* -1: by hand */
	enum migrate_mode mode;
	u64 migrate_pfn, free_pfn; /* the next to look at; the end of what is to be looked at */
	bool whole;		   /* they began at the ends */
	struct page *free[CLUSTER];
	unsigned nr_free;
	u64 moved;
};

static void count(_Atomic u64 *counter, u64 n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- where the scanners are ---- */

static u64 zone_end(const struct zone *z)
{
	return z->start_pfn + z->nr;
}

static void begin(struct compact *c)
{
	struct compaction *state = &c->z->compaction;
	u64 from = atomic_load_explicit(&state->migrate_pfn, memory_order_relaxed);
	u64 to = atomic_load_explicit(&state->free_pfn, memory_order_relaxed);

	c->migrate_pfn = c->z->start_pfn;
	c->free_pfn = zone_end(c->z);
	c->whole = c->order < 0 || !to || from >= to;
	if (!c->whole) {
		c->migrate_pfn = from;
		c->free_pfn = to;
	}
}

static bool have_met(const struct compact *c)
{
	return c->migrate_pfn >= c->free_pfn;
}

static void end(struct compact *c)
{
	struct compaction *state = &c->z->compaction;

	while (c->nr_free)
		page_put(c->e, c->free[--c->nr_free]);
	atomic_store_explicit(&state->migrate_pfn, c->migrate_pfn, memory_order_relaxed);
	atomic_store_explicit(&state->free_pfn, have_met(c) ? 0 : c->free_pfn,
			      memory_order_relaxed);
}

/* ---- the free scanner ---- */

/* Blocks that are whole already are not broken up. */
static unsigned largest_taken(const struct compact *c)
{
	return c->order < 0 || c->order > PAGEBLOCK_ORDER ? PAGEBLOCK_ORDER : (unsigned)c->order;
}

/* Have frames in stock.  False: there are none above the migrate scanner. */
static bool find_free(struct compact *c)
{
	while (!c->nr_free && !have_met(c)) {
		u64 block = (c->free_pfn - 1) & ~(PAGEBLOCK_PAGES - 1);
		u64 start = max_of(block, c->migrate_pfn), from = c->free_pfn;

		c->nr_free = zone_take_free(c->e, c->z, start, &c->free_pfn, largest_taken(c),
					    c->free, CLUSTER);
		count(&c->z->compaction.free_scanned, from - c->free_pfn);
	}
	return c->nr_free;
}

static struct page *get_free(struct engine *e, const struct page *page, void *arg)
{
	struct compact *c = arg;

	(void)e;
	(void)page;
	return find_free(c) ? c->free[--c->nr_free] : NULL;
}

static void put_free(struct engine *e, struct page *page, void *arg)
{
	struct compact *c = arg;

	if (c->nr_free < CLUSTER)
		c->free[c->nr_free++] = page;
	else
		page_put(e, page);
}

/* ---- the migrate scanner ---- */

/* May the frame become free by moving what it has? */
static bool may_become_free(const struct page *page)
{
	if (page_test(page, PG_HEAD | PG_TAIL | PG_HWPOISON))
		return false;
	return page_test(page, PG_LRU | PG_BUDDY) ||
	       !atomic_load_explicit(&page->refcount, memory_order_relaxed);
}

/* Is there hope for a block of the order asked for, from pfn on? */
static bool is_worth_it(const struct compact *c, u64 pfn)
{
	u64 end = pfn + (1ULL << c->order);
	bool used = false;

	if (end > zone_end(c->z))
		return false;
	for (; pfn < end; pfn++) {
		const struct page *page = pfn_page(c->e, pfn);

		if (!may_become_free(page))
			return false;
		used |= page_test(page, PG_LRU);
	}
	return used;
}

/* Pages of [*pfn, end) that can be moved; *pfn goes on. */
static unsigned isolate_pages(struct compact *c, u64 *pfn, u64 end, struct page **pages)
{
	u64 start = *pfn;
	unsigned n = 0;

	for (; *pfn < end && n < CLUSTER; (*pfn)++) {
		struct page *page = pfn_page(c->e, *pfn);

		if (page_test(page, PG_LRU) && !page_test(page, PG_HEAD) && migrate_get(c->e, page))
			pages[n++] = page;
	}
	count(&c->z->compaction.migrate_scanned, *pfn - start);
	count(&c->z->compaction.isolated, n);
	return n;
}

/* Empty [pfn, end), or begin to. */
static void empty_block(struct compact *c, u64 pfn, u64 end)
{
	const struct migrate_target target = { .get = get_free, .put = put_free, .arg = c };
	struct page *pages[CLUSTER];
	int status[CLUSTER];
	bool all = true;

	while (pfn < min_of(end, c->free_pfn) && (all || c->order < 0)) {
		unsigned moved, n = isolate_pages(c, &pfn, min_of(end, c->free_pfn), pages);

		c->migrate_pfn = pfn;
		moved = migrate_pages(c->e, pages, n, &target, c->mode, status);
		c->moved += moved;
		all &= moved == n;
	}
}

/* The next block that the migrate scanner comes to, or what of it is of the order asked for. */
static void next_block(struct compact *c)
{
	unsigned order = c->order < 0 ? PAGEBLOCK_ORDER : (unsigned)c->order;
	u64 end = min_of((c->migrate_pfn | ((1ULL << order) - 1)) + 1, zone_end(c->z));
	u64 start = c->migrate_pfn;

	/* The frames to move to lie above it. */
	if (end > c->free_pfn && c->order >= 0) {
		c->migrate_pfn = c->free_pfn;
		return;
	}
	if (c->order < 0 || is_worth_it(c, start))
		empty_block(c, start, end);
	c->migrate_pfn = end;
}

static enum compact_result compact_zone(struct compact *c)
{
	enum compact_result result;

	begin(c);
	/* Aligned, as blocks are. */
	if (c->order > 0)
		c->migrate_pfn =
			(c->migrate_pfn + (1ULL << c->order) - 1) & ~((1ULL << c->order) - 1);
	while (!have_met(c)) {
		next_block(c);
		if (c->order >= 0 && zone_has_block(c->z, c->order)) {
			end(c);
			return COMPACT_SUCCESS;
		}
	}
	result = c->whole ? COMPACT_COMPLETE : COMPACT_PARTIAL;
	end(c);
	/* What was in stock may have been what was missing. */
	return c->order >= 0 && zone_has_block(c->z, c->order) ? COMPACT_SUCCESS : result;
}

/* ---- whether to ---- */

/* Enough that moving does not take what is kept back. */
static bool compaction_suitable(const struct engine *e, const struct zone *z, unsigned order)
{
	return atomic_load_explicit(&z->nr_free, memory_order_relaxed) >=
	       node_share(e, page_nid(pfn_page(e, z->start_pfn)), e->config.marks.min) +
		       (2ULL << order);
}

static bool compaction_deferred(struct compaction *state, unsigned order)
{
	u32 limit = 1u << atomic_load_explicit(&state->defer_shift, memory_order_relaxed);
	u32 considered;

	if (order < atomic_load_explicit(&state->order_failed, memory_order_relaxed))
		return false;
	considered = atomic_fetch_add_explicit(&state->considered, 1, memory_order_relaxed) + 1;
	return considered < limit;
}

static void defer_compaction(struct compaction *state, unsigned order)
{
	u32 shift = atomic_load_explicit(&state->defer_shift, memory_order_relaxed);

	atomic_store_explicit(&state->considered, 0, memory_order_relaxed);
	atomic_store_explicit(&state->defer_shift, min_of(shift + 1, COMPACT_MAX_DEFER_SHIFT),
			      memory_order_relaxed);
	if (order < atomic_load_explicit(&state->order_failed, memory_order_relaxed))
		atomic_store_explicit(&state->order_failed, order, memory_order_relaxed);
}

static void compaction_defer_reset(struct compaction *state, unsigned order)
{
	atomic_store_explicit(&state->considered, 0, memory_order_relaxed);
	atomic_store_explicit(&state->defer_shift, 0, memory_order_relaxed);
	if (order >= atomic_load_explicit(&state->order_failed, memory_order_relaxed))
		atomic_store_explicit(&state->order_failed, order + 1, memory_order_relaxed);
}

/* False: somebody else has it. */
static bool claim(struct zone *z)
{
	return !atomic_exchange_explicit(&z->compaction.busy, true, memory_order_acquire);
}

static void disclaim(struct zone *z)
{
	atomic_store_explicit(&z->compaction.busy, false, memory_order_release);
}

enum compact_result try_to_compact(struct engine *e, struct zone *z, unsigned order)
{
	struct compact c = { .e = e, .z = z, .order = (int)order, .mode = MIGRATE_ASYNC };
	struct compaction *state = &z->compaction;
	enum compact_result result;

	if (!compaction_suitable(e, z, order))
		return COMPACT_SKIPPED;
	if (compaction_deferred(state, order))
		return COMPACT_DEFERRED;
	if (!claim(z))
		return COMPACT_CONTENDED;
	count(&state->stall, 1);
	result = compact_zone(&c);
	if (result == COMPACT_SUCCESS)
		compaction_defer_reset(state, order);
	else if (result == COMPACT_COMPLETE)
		defer_compaction(state, order);
	disclaim(z);
	count(result == COMPACT_SUCCESS ? &state->success : &state->fail, 1);
	return result;
}

static bool compact_for_allocation(struct engine *e, struct zone *z, unsigned order)
{
	return try_to_compact(e, z, order) == COMPACT_SUCCESS;
}

u64 compact_memory(struct engine *e)
{
	u64 moved = 0;

	for (unsigned nid = 0; can_migrate(e) && nid < e->numa.nr; nid++) {
		struct compact c = {
			.e = e, .z = node_zone(e, nid), .order = -1, .mode = MIGRATE_SYNC
		};

		if (!claim(c.z))
			continue;
		compact_zone(&c);
		disclaim(c.z);
		moved += c.moved;
	}
	return moved;
}

void compaction_init(struct engine *e)
{
	if (can_migrate(e))
		e->compact = compact_for_allocation;
}
