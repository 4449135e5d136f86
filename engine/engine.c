/* SPDX-License-Identifier: MIT */
#include "engine/engine.h"
#include "engine/backing/page_cache.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/migrate/compaction.h"
#include "engine/reclaim/internal.h"
#include "engine/space/huge.h"

#include "engine/base/errno.h"
#include "engine/base/text.h"

struct engine_config engine_default_config(u64 nr_user)
{
	return (struct engine_config){
		.prefetch = 32,
		.segment = MMU_BATCH,
		.kept_slots = nr_user,
		.marks = { .min = 32, .low = 64, .high = 128 },
		.swappiness = 60,
		.dirty = { .background = nr_user / 10,
			   .limit = nr_user / 5,
			   .expire_ns = 30 * 1000000000ULL },
		.thp = THP_MADVISE,
		.collapse = { .max_none = 511, .max_swap = 64, .max_shared = 256 },
	};
}

static bool config_is_valid(const struct engine_config *c, u64 nr_user)
{
	return c->prefetch >= 1 && c->prefetch <= MMU_BATCH && c->segment >= 1 &&
	       c->segment <= MMU_BATCH && c->marks.min < c->marks.low &&
	       c->marks.low < c->marks.high && c->marks.min < nr_user &&
	       numa_config_is_valid(&c->nodes, nr_user);
}

static void *take_memory(struct engine *e, u64 bytes)
{
	return e->memory.alloc(e->memory.ctx, bytes);
}

static void give_memory(struct engine *e, void *p, u64 bytes)
{
	if (p)
		e->memory.free(e->memory.ctx, p, bytes);
}

int engine_init(struct engine *e, const struct mmu_ops *mmu, const struct engine_memory *memory,
		const struct engine_config *config, u64 nr_table, void *table_map, u64 nr_user,
		void *user_map, struct store *store)
{
	if (!nr_table || !table_map || !config_is_valid(config, nr_user))
		return -EINVAL;
	memset(e, 0, sizeof(*e));
	e->mmu = mmu;
	e->memory = *memory;
	e->config = *config;
	e->stats = config->stats ? config->stats : &e->own_stats;
	e->nr_pages = nr_table + nr_user;
	e->pages = take_memory(e, e->nr_pages * sizeof(*e->pages));
	swap_init(&e->swap);
	if (!e->pages || (store && swap_area_on(e, store, SWAP_PRIO_NEXT) < 0)) {
		give_memory(e, e->pages, e->nr_pages * sizeof(*e->pages));
		return -ENOMEM;
	}
	zone_init(e, ZONE_TABLE, 0, nr_table, table_map);
	nodes_init(e, &config->nodes, nr_table, nr_user, user_map);
	reclaim_init(e);
	flusher_init(&e->flusher);
	hugetlb_init(e);
	compaction_init(e);
	spin_init(&e->streams_lock);
	spin_init(&e->mms_lock);
	spin_init(&e->collapsing);
	spin_init(&e->huge_zero_lock);
	e->collapse_pass = 1;
	spin_init(&e->anon_vma_lock);
	spin_init(&e->mappings_lock);
	list_init(&e->mappings);
	list_init(&e->mms);

	e->zero_pfn = NO_PFN;
	if (user_map && !mmu->silent_write) {
		struct page *page = page_alloc(e, ZONE_USER, 0, ALLOC_NORECLAIM);

		if (page) {
			memset(page_direct(e, page), 0, PAGE_SIZE);
			e->zero_pfn = page_pfn(e, page);
		}
	}
	return 0;
}

void engine_fini(struct engine *e)
{
	bool full;

	if (!list_empty(&e->mms))
		vmf_panic("engine_fini: there are spaces left");
	if (!list_empty(&e->mappings))
		vmf_panic("engine_fini: there are files left");
	hugetlb_fini(e);
	/* What is still on its way out is nobody's. */
	while (writeout(e, MMU_BATCH, &full))
		;
	if (e->zero_pfn != NO_PFN)
		page_put(e, pfn_page(e, e->zero_pfn));
	if (e->huge_zero_users)
		vmf_panic("engine_fini: the huge zero page is mapped");
	huge_zero_shrink(e);
	anon_vma_fini(e);
	give_memory(e, e->pages, e->nr_pages * sizeof(*e->pages));
	swap_areas_fini(e);
	e->pages = NULL;
}

/* ---- checks ---- */

#define CHECK(what, ...)                                                                           \
	do {                                                                                       \
		if (!(what))                                                                       \
			vmf_panic("engine_check: " __VA_ARGS__);                                   \
	} while (0)
#define ul(x) ((unsigned long)(x))

/* Each of the entries that the map count tells of is found from the page; those of a page of a file
 * are counted by page_cache_check(). */
static s64 check_rmap(struct engine *e, struct page *page)
{
	struct rmap_walk w;
	s64 n = 0;

	if (page_test(page, PG_FILE))
		return page_mapcount(page);
	if (rmap_begin(e, page, &w)) {
		while (rmap_next(&w))
			n++;
		rmap_end(&w);
	}
	CHECK(n == page_mapcount(page), "frame %lu is mapped %d times, %ld are found",
	      ul(page_pfn(e, page)), (int)page_mapcount(page), (long)n);
	return n;
}

struct listed {
	u64 pages, file; /* on the LRU lists; of these pages of files */
	u64 leaving;
	s64 entries; /* that map them */
};

/* The length of a list. */
static u64 check_list(struct engine *e, struct list_head *list, u32 must, u32 must_not,
		      struct listed *l)
{
	struct page *page;
	u64 n = 0;

	list_for_each_entry (page, list, lru) {
		u32 flags = atomic_load(&page->flags);

		CHECK((flags & must) == must && !(flags & must_not),
		      "frame %lu is on a list with flags %x", ul(page_pfn(e, page)), flags);
		l->entries += check_rmap(e, page) * (s64)page_frames(page);
		l->file += !!(flags & PG_FILE);
		n += page_frames(page);
	}
	return n;
}

static void check_node(struct engine *e, struct lruvec *v, struct listed *l)
{
	unsigned nid = (unsigned)(v - e->lru.nodes);
	struct page *page;
	u64 n;

	for (unsigned i = 0; i < NR_LRU_LISTS; i++) {
		n = check_list(e, &v->lists[i], PG_LRU,
			       PG_UNEVICTABLE | PG_ISOLATED | PG_WRITEBACK | PG_LOCKED, l);
		CHECK(n == v->nr[i], "node %u: list %u is %lu long, not %lu", nid, i, ul(n),
		      ul(v->nr[i]));
		list_for_each_entry (page, &v->lists[i], lru)
			CHECK(page_list(page) == i && page_nid(page) == nid,
			      "frame %lu of list %u says that it is on %u", ul(page_pfn(e, page)),
			      i, page_list(page));
		l->pages += n;
	}
	n = check_list(e, &v->unevictable, PG_LRU | PG_UNEVICTABLE,
		       PG_ISOLATED | PG_WRITEBACK | PG_LOCKED, l);
	CHECK(n == v->nr_unevictable, "node %u: unevictable list is %lu long, not %lu", nid, ul(n),
	      ul(v->nr_unevictable));
	l->pages += n;
}

static void check_lru(struct engine *e, struct listed *l)
{
	struct lru *lru = &e->lru;
	struct listed leaving = { 0 };
	u64 n;

	*l = (struct listed){ 0 };
	for (unsigned i = 0; i < e->numa.nr; i++)
		check_node(e, &lru->nodes[i], l);
	n = check_list(e, &lru->writeout, PG_ISOLATED | PG_WRITEBACK | PG_SWAPCACHE,
		       PG_LRU | PG_LOCKED | PG_FILE, &leaving);
	CHECK(n == lru->nr_writeout && !leaving.entries,
	      "write-out list is %lu long, not %lu, %ld mapped", ul(n), ul(lru->nr_writeout),
	      (long)leaving.entries);
	l->leaving = n;
}

/* The slots of an area: how many references come from entries. */
static s64 check_area(const struct swap_area *a, u64 *used, u64 *kept)
{
	s64 entries = 0;

	swap_area_check(a);
	for (u64 i = 0; i < min_of(a->next * SWAP_CLUSTER, a->store->nr_slots); i++) {
		const struct swap_slot *slot = &a->slots[i];
		u64 nr = swp_entry(a->type, i).v;

		if (!slot->count)
			continue;
		++*used;
		*kept += slot->kept;
		entries += slot->count - !!slot->page;
		CHECK(!slot->loaders, "slot %lu has loaders", ul(nr));
		CHECK(!slot->page ||
			      (page_test(slot->page, PG_SWAPCACHE) && slot->page->swap.v == nr),
		      "slot %lu: its page does not know it", ul(nr));
		CHECK(!slot->page || !page_test(slot->page, PG_ANON_EXCLUSIVE) ||
			      slot->count - 1 + page_mapcount(slot->page) <= 1,
		      "slot %lu: its page is exclusive and has %u entries, %d of them swapped in",
		      ul(nr), slot->count - 1 + page_mapcount(slot->page),
		      (int)page_mapcount(slot->page));
		CHECK(slot->kept == (slot->page && page_mapcount(slot->page) && slot->count == 1),
		      "slot %lu: kept and not kept", ul(nr));
	}
	return entries;
}

/* Each reference to a slot comes from one entry, or from its page. */
static void check_slots(struct engine *e, s64 entries)
{
	const struct swap *s = &e->swap;
	u64 used = 0, kept = 0;

	for (unsigned i = 0; i < MAX_SWAP_AREAS; i++)
		if (s->areas[i])
			entries -= check_area(s->areas[i], &used, &kept);
	CHECK(!entries, "%ld swap entries more than slot references", (long)entries);
	CHECK(used == s->used && kept == s->kept, "%lu slots used, %lu kept; counted %lu and %lu",
	      ul(used), ul(kept), ul(s->used), ul(s->kept));
}

void engine_check(struct engine *e)
{
	u64 cached, slots, tables = (u64)atomic_load(&e->kernel_tables);
	u64 zero = (e->zero_pfn != NO_PFN) + (e->huge_zero ? page_frames(e->huge_zero) : 0);
	s64 rss = 0, entries = 0;
	struct listed l;
	struct mm *mm;
	u64 pools;

	zone_check(e, ZONE_TABLE);
	zone_check(e, ZONE_USER);
	check_lru(e, &l);
	hugetlb_check(e);
	pools = hugetlb_frames(e) + atomic_load(&e->nr_device_pages);
	cached = page_cache_check(e, &slots);
	list_for_each_entry (mm, &e->mms, link) {
		mm_check(mm);
		rss += mm->rss;
		entries += mm->swapped;
		tables += mm->tables;
	}
	CHECK(l.entries == rss, "%ld entries map pages on the LRU lists, %ld are there",
	      (long)l.entries, (long)rss);
	CHECK(l.file == cached && l.file == e->nr_file_pages,
	      "%lu pages of files on the LRU lists, %lu in the page cache, %lu counted", ul(l.file),
	      ul(cached), ul(e->nr_file_pages));
	CHECK(zone_free_pages(e, ZONE_USER) + l.pages + l.leaving + zero + pools +
			      user_frames_retired(e) ==
		      user_frames(e),
	      "%lu frames of programs, of which %lu free, %lu on LRU lists, %lu leaving, "
	      "%lu in pools and devices",
	      ul(user_frames(e)), ul(zone_free_pages(e, ZONE_USER)), ul(l.pages), ul(l.leaving),
	      ul(pools));
	CHECK(zone_free_pages(e, ZONE_TABLE) + tables == e->zones[ZONE_TABLE].nr,
	      "%lu frames for tables, of which %lu free, %lu in use", ul(e->zones[ZONE_TABLE].nr),
	      ul(zone_free_pages(e, ZONE_TABLE)), ul(tables));
	check_slots(e, entries + (s64)slots);
}
