/* SPDX-License-Identifier: MIT */
/*
 * The buddy allocator.
 *
 * A free block of order k is 2^k frames, its first pfn a multiple of 2^k; its buddy is the block
 * whose pfn differs in bit k.  The first frame of a free block carries PG_BUDDY and the order and
 * hangs on the free list of that order; all other frames carry nothing.  PG_BUDDY is changed under
 * the zone lock only, so that whoever holds it may believe a neighbour's PG_BUDDY and order.
 *
 * Freeing: the reference count says who is last.  Only that one calls mmu->release and takes the
 * zone lock, so a page is never released twice, and the machine is not called under the lock.
 */
#include "engine/base/text.h"
#include "engine/engine.h"

/* How often reclaim may say that it freed something and yet leave us without a block (others took
 * the frames, or they are scattered) before the allocation gives up. */
#define RECLAIM_ROUNDS 16

/* A page with one of these is still somebody's: it cannot be freed. */
#define PG_IN_USE (PG_LOCKED | PG_LRU | PG_SWAPCACHE | PG_WRITEBACK | PG_BUDDY | PG_FILE)

static struct zone *zone_of(struct engine *e, const struct page *page)
{
	return &e->zones[page->zone];
}

static bool zone_holds(const struct zone *z, u64 pfn)
{
	return pfn - z->start_pfn < z->nr;
}

static void add_block(struct zone *z, struct page *page, unsigned order)
{
	page->order = order;
	page_set(page, PG_BUDDY);
	list_add(&page->lru, &z->free[order]);
}

static void remove_block(struct page *page)
{
	page_clear(page, PG_BUDDY);
	list_del(&page->lru);
}

/* ---- setting up ---- */

/* The largest aligned block that begins at pfn and ends by end. */
static unsigned largest_order(u64 pfn, u64 end)
{
	unsigned order = MAX_ORDER - 1;

	while (pfn & ((1ULL << order) - 1) || pfn + (1ULL << order) > end)
		order--;
	return order;
}

void zone_init(struct engine *e, enum zone_type type, u64 start_pfn, u64 nr, void *direct_map)
{
	struct zone *z = &e->zones[type];
	u64 pfn, end = start_pfn + nr;
	unsigned order;

	z->start_pfn = start_pfn;
	z->nr = nr;
	z->direct_map = direct_map;
	spin_init_class(&z->lock, LOCK_ZONE);
	for (order = 0; order < MAX_ORDER; order++)
		list_init(&z->free[order]);
	for (pfn = start_pfn; pfn < end; pfn++) {
		struct page *page = pfn_page(e, pfn);

		memset(page, 0, sizeof(*page));
		page->zone = type;
		list_init(&page->lru);
	}
	for (pfn = start_pfn; pfn < end; pfn += 1ULL << order) {
		order = largest_order(pfn, end);
		add_block(z, pfn_page(e, pfn), order);
	}
	atomic_init(&z->nr_free, nr);
	atomic_init(&z->compaction.order_failed, MAX_ORDER);
}

/* ---- taking and giving back, under the zone lock ---- */

/* Halve the block until it has the order asked for; the upper halves become free blocks. */
static void split_block(struct zone *z, struct page *page, unsigned have, unsigned want)
{
	while (have > want) {
		have--;
		add_block(z, page + (1UL << have), have);
	}
}

static struct page *find_block(struct zone *z, unsigned order)
{
	struct page *page;
	unsigned have;

	for (have = order; have < MAX_ORDER; have++) {
		if (list_empty(&z->free[have]))
			continue;
		page = list_first_entry(&z->free[have], struct page, lru);
		remove_block(page);
		split_block(z, page, have, order);
		return page;
	}
	return NULL;
}

static void count_free(struct zone *z, u64 nr)
{
	atomic_fetch_add_explicit(&z->nr_free, nr, memory_order_relaxed);
}

static u64 count_of_free(const struct zone *z)
{
	return atomic_load_explicit(&z->nr_free, memory_order_relaxed);
}

/* A block, if `keep` frames stay free in the zone; *shortfall is how many frames were lacking. */
static struct page *take_block(struct zone *z, unsigned order, u64 keep, u64 *shortfall)
{
	struct page *page = NULL;
	u64 need = keep + (1ULL << order), free;

	spin_lock(&z->lock);
	free = count_of_free(z);
	*shortfall = free < need ? need - free : 0;
	if (!*shortfall)
		page = find_block(z, order);
	if (page) {
		count_free(z, -(1ULL << order));
		page->order = order;
	}
	spin_unlock(&z->lock);
	return page;
}

static void give_block(struct engine *e, struct zone *z, struct page *page, unsigned order)
{
	u64 pfn = page_pfn(e, page), buddy_pfn;
	struct page *buddy;

	spin_lock(&z->lock);
	count_free(z, 1ULL << order);
	for (; order < MAX_ORDER - 1; order++) {
		buddy_pfn = pfn ^ (1ULL << order);
		if (!zone_holds(z, buddy_pfn))
			break;
		buddy = pfn_page(e, buddy_pfn);
		if (!page_test(buddy, PG_BUDDY) || buddy->order != order)
			break;
		remove_block(buddy);
		pfn = min_of(pfn, buddy_pfn);
	}
	add_block(z, pfn_page(e, pfn), order);
	spin_unlock(&z->lock);
}

/* ---- allocation ---- */

/* Make the frames of a fresh block look like new. */
static void prepare_block(struct engine *e, struct page *page, unsigned flags)
{
	u64 i, nr = 1ULL << page->order;

	for (i = 0; i < nr; i++) {
		struct page *p = page + i;
		u32 kind = nr == 1 ? 0 : i ? PG_TAIL : PG_HEAD;

		atomic_store_explicit(&p->flags, kind, memory_order_relaxed);
		atomic_store_explicit(&p->mapcount, 0, memory_order_relaxed);
		atomic_store_explicit(&p->last_nid, MAX_NUMNODES, memory_order_relaxed);
		p->anon_vma = NULL;
		if (i) {
			p->head = page;
			p->order = page->order;
		}
		p->index = 0;
		p->swap = (swp_entry_t){ 0 };
		p->where = 0;
	}
	if (flags & ALLOC_ZERO)
		memset(page_direct(e, page), 0, nr << PAGE_SHIFT);
	if (page->zone != ZONE_TABLE && unlikely(e->mmu->claim))
		for (i = 0; i < nr; i++)
			e->mmu->claim(e, page + i);
	/* Last: from here on page_tryget() may find it. */
	atomic_store_explicit(&page->refcount, 1, memory_order_release);
}

/* Is it worth asking for a block to be made of what is free? */
static bool compacts(struct engine *e, struct zone *z, unsigned order, u64 shortfall)
{
	return order && !shortfall && e->compact && e->compact(e, z, order);
}

/* What an allocation of programs' frames may take, and where it begins. */
struct route {
	unsigned order, nid;
	nodemask_t allowed;
};

/* Frames went: is it time for the node's thread? */
static void look_after(struct engine *e, unsigned nid)
{
	if (likely(!atomic_load_explicit(&e->kswapd[nid].threads, memory_order_relaxed)))
		return;
	if (count_of_free(node_zone(e, nid)) < node_share(e, nid, e->config.marks.low))
		e->wake_kswapd(e, nid);
}

/* From the nearest node that has a block.  NULL: *short_of lacks the least, *shortfall frames. */
static struct page *take_nearest(struct engine *e, const struct route *r, u64 keep, u64 *shortfall,
				 struct zone **short_of)
{
	const u8 *nodes = e->numa.fallback[r->nid];

	*shortfall = ~0ULL;
	*short_of = NULL;
	for (unsigned i = 0; i < e->numa.nr; i++) {
		struct zone *z = node_zone(e, nodes[i]);
		struct page *page;
		u64 lacking;

		if (!node_isset(nodes[i], r->allowed))
			continue;
		page = take_block(z, r->order, node_share(e, nodes[i], keep), &lacking);
		look_after(e, nodes[i]);
		if (page)
			return page;
		if (lacking < *shortfall) {
			*shortfall = lacking;
			*short_of = z;
		}
	}
	return NULL;
}

static struct page *alloc_with_reclaim(struct engine *e, const struct route *r, u64 keep)
{
	unsigned order = r->order;
	struct page *page;
	struct zone *z;
	u64 shortfall;
	unsigned round;

	for (round = 0; round < RECLAIM_ROUNDS; round++) {
		page = take_nearest(e, r, keep, &shortfall, &z);
		if (page || !z)
			return page;
		if (compacts(e, z, order, shortfall))
			continue;
		if (!e->reclaim || !e->reclaim(e, max_of(shortfall, 1ULL << order), r->allowed))
			break;
	}
	/* Others may have freed something while reclaim found nothing. */
	page = take_nearest(e, r, keep, &shortfall, &z);
	if (!page && keep && e->config.may_exceed && r->allowed == NODE_MASK_ALL)
		page = take_nearest(e, r, 0, &shortfall, &z);
	return page;
}

struct page *page_alloc_nodes(struct engine *e, unsigned order, unsigned flags, unsigned nid,
			      nodemask_t allowed)
{
	struct route r = { .order = order, .nid = nid, .allowed = allowed };
	u64 shortfall, keep = flags & ALLOC_RESERVE ? 0 : e->config.marks.min;
	struct page *page;
	struct zone *z;

	if (order >= MAX_ORDER)
		return NULL;
	page = take_nearest(e, &r, keep, &shortfall, &z);
	if (!page && !(flags & ALLOC_NORECLAIM))
		page = alloc_with_reclaim(e, &r, keep);
	else if (!page && (flags & ALLOC_COMPACT) && z && compacts(e, z, order, shortfall))
		page = take_nearest(e, &r, keep, &shortfall, &z);
	if (page)
		prepare_block(e, page, flags);
	return page;
}

struct page *page_alloc(struct engine *e, enum zone_type type, unsigned order, unsigned flags)
{
	struct page *page;
	u64 shortfall;

	if (type != ZONE_TABLE)
		return page_alloc_nodes(e, order, flags, numa_node_id(e), NODE_MASK_ALL);
	if (order >= MAX_ORDER)
		return NULL;
	/* Reclaim frees pages of programs: it cannot help here. */
	page = take_block(&e->zones[type], order, 0, &shortfall);
	if (page)
		prepare_block(e, page, flags);
	return page;
}

/* ---- blocks larger than any on the lists ---- */

#define LARGEST	       (MAX_ORDER - 1)
#define LARGEST_FRAMES (1ULL << LARGEST)

/* Are the 2^order frames from pfn on free, as largest blocks?  Zone lock held. */
static bool all_free(struct engine *e, u64 pfn, unsigned order)
{
	for (u64 i = 0; i < 1ULL << order; i += LARGEST_FRAMES) {
		const struct page *page = pfn_page(e, pfn + i);

		if (!page_test(page, PG_BUDDY) || page->order != LARGEST)
			return false;
	}
	return true;
}

/* Zone lock held. */
static struct page *take_contig(struct engine *e, struct zone *z, unsigned order, u64 keep)
{
	u64 frames = 1ULL << order, pfn = (z->start_pfn + frames - 1) & ~(frames - 1);

	if (count_of_free(z) < keep + frames)
		return NULL;
	for (; zone_holds(z, pfn) && zone_holds(z, pfn + frames - 1); pfn += frames) {
		struct page *page = pfn_page(e, pfn);

		if (!all_free(e, pfn, order))
			continue;
		for (u64 i = 0; i < frames; i += LARGEST_FRAMES)
			remove_block(page + i);
		count_free(z, -frames);
		page->order = order;
		return page;
	}
	return NULL;
}

static struct page *alloc_contig(struct engine *e, struct zone *z, unsigned order, u64 keep)
{
	struct page *page;

	spin_lock(&z->lock);
	page = take_contig(e, z, order, keep);
	spin_unlock(&z->lock);
	if (page)
		prepare_block(e, page, 0);
	return page;
}

struct page *page_alloc_contig_nodes(struct engine *e, unsigned order, unsigned nid,
				     nodemask_t allowed)
{
	const u8 *nodes = e->numa.fallback[nid];
	struct page *page = NULL;

	if (order < MAX_ORDER)
		return page_alloc_nodes(e, order, ALLOC_NORECLAIM, nid, allowed);
	for (unsigned i = 0; i < e->numa.nr && !page; i++)
		if (node_isset(nodes[i], allowed))
			page = alloc_contig(e, node_zone(e, nodes[i]), order,
					    node_share(e, nodes[i], e->config.marks.min));
	return page;
}

struct page *page_alloc_contig(struct engine *e, enum zone_type type, unsigned order)
{
	if (type == ZONE_USER)
		return page_alloc_contig_nodes(e, order, numa_node_id(e), NODE_MASK_ALL);
	if (order < MAX_ORDER)
		return page_alloc(e, type, order, ALLOC_NORECLAIM);
	return alloc_contig(e, &e->zones[type], order, 0);
}

static void give_contig(struct engine *e, struct zone *z, struct page *page, unsigned order)
{
	if (order < MAX_ORDER) {
		give_block(e, z, page, order);
		return;
	}
	for (u64 i = 0; i < 1ULL << order; i += LARGEST_FRAMES)
		give_block(e, z, page + i, LARGEST);
}

/* ---- for compaction ---- */

bool zone_has_block(struct zone *z, unsigned order)
{
	bool has = false;

	spin_lock(&z->lock);
	for (; order < MAX_ORDER && !has; order++)
		has = !list_empty(&z->free[order]);
	spin_unlock(&z->lock);
	return has;
}

/* Off the free lists with a free block's last frames, a power of two of them and at most `most`.
 * The first of them; *n: how many. */
static struct page *take_tail(struct zone *z, struct page *block, unsigned most, unsigned *n)
{
	unsigned order = block->order;

	remove_block(block);
	while (1U << order > most) {
		order--;
		add_block(z, block, order);
		block += 1ULL << order;
	}
	*n = 1U << order;
	count_free(z, -(u64)*n);
	return block;
}

unsigned zone_take_free(struct engine *e, struct zone *z, u64 start, u64 *end, unsigned max_order,
			struct page **pages, unsigned most)
{
	unsigned n = 0, got;

	spin_lock(&z->lock);
	for (u64 pfn = *end; n < most && pfn-- > start;) {
		struct page *page = pfn_page(e, pfn);

		*end = pfn;
		if (!page_test(page, PG_BUDDY) || page->order >= max_order)
			continue;
		page = take_tail(z, page, most - n, &got);
		pfn = *end = page_pfn(e, page);
		for (; got; got--, page++) {
			page->order = 0;
			pages[n++] = page;
		}
	}
	spin_unlock(&z->lock);
	for (unsigned i = 0; i < n; i++)
		prepare_block(e, pages[i], 0);
	return n;
}

/* ---- broken frames ---- */

bool page_set_hwpoison(struct engine *e, struct page *page)
{
	bool was = page_test_set(page, PG_HWPOISON);

	if (!was)
		atomic_fetch_add_explicit(&e->nr_poisoned, 1, memory_order_relaxed);
	return was;
}

/* The first frame of the free block that holds the frame, or NULL.  Zone lock held. */
static struct page *block_of(struct engine *e, const struct zone *z, const struct page *page)
{
	u64 pfn = page_pfn(e, page);

	for (unsigned order = 0; order < MAX_ORDER; order++) {
		u64 first = pfn & ~((1ULL << order) - 1);
		struct page *block;

		if (!zone_holds(z, first))
			break;
		block = pfn_page(e, first);
		if (page_test(block, PG_BUDDY) && block->order >= order)
			return block;
	}
	return NULL;
}

bool page_take_free(struct engine *e, struct page *page)
{
	struct zone *z = zone_of(e, page);
	struct page *block;
	unsigned order;

	spin_lock(&z->lock);
	block = block_of(e, z, page);
	if (block) {
		remove_block(block);
		count_free(z, -1ULL);
		for (order = block->order; order--;) {
			struct page *upper = block + (1ULL << order);

			add_block(z, page < upper ? upper : block, order);
			if (page >= upper)
				block = upper;
		}
		page_set_hwpoison(e, page);
		atomic_fetch_add_explicit(&z->nr_retired, 1, memory_order_relaxed);
	}
	spin_unlock(&z->lock);
	return block;
}

/* Of a block that nobody has any more the broken frames go, and the others are free. */
static void give_frames(struct engine *e, struct zone *z, struct page *page, unsigned order)
{
	for (u64 i = 0; i < 1ULL << order; i++) {
		if (page_test(page + i, PG_HWPOISON))
			atomic_fetch_add_explicit(&z->nr_retired, 1, memory_order_relaxed);
		else
			give_block(e, z, page + i, 0);
	}
}

bool page_has_broken(const struct engine *e, const struct page *page)
{
	if (likely(!atomic_load_explicit(&e->nr_poisoned, memory_order_relaxed)))
		return false;
	for (u64 i = 0; i < 1ULL << page->order; i++)
		if (page_test(page + i, PG_HWPOISON))
			return true;
	return false;
}

/* ---- compound pages ---- */

/* What the frames of a compound page have in common: all but what says where the head is now. */
#define PG_OF_ALL                                                                                  \
	(~(u32)(PG_LOCKED | PG_WAITERS | PG_LRU | PG_ISOLATED | PG_HEAD | PG_TAIL | PG_HWPOISON))

void page_cut(struct page *head, u32 refs, s32 mapped)
{
	u32 flags = atomic_load_explicit(&head->flags, memory_order_relaxed) & PG_OF_ALL;
	u64 nr = page_frames(head);

	for (u64 i = 1; i < nr; i++) {
		struct page *p = head + i;

		p->order = 0;
		p->anon_vma = head->anon_vma;
		p->index = head->index + i;
		atomic_store_explicit(&p->mapcount, mapped, memory_order_relaxed);
		page_set(p, flags);
		page_clear(p, PG_TAIL);
		/* Last: from here on page_tryget() may find it. */
		atomic_store_explicit(&p->refcount, refs, memory_order_release);
	}
	head->order = 0;
	page_clear(head, PG_HEAD);
}

/* ---- references ---- */

void page_get(struct page *page)
{
	if (atomic_fetch_add_explicit(&page->refcount, 1, memory_order_relaxed) == 0)
		vmf_panic("page_get: the page is free");
}

bool page_tryget(struct page *page)
{
	u32 n = atomic_load_explicit(&page->refcount, memory_order_relaxed);

	while (n)
		if (atomic_compare_exchange_weak_explicit(
			    &page->refcount, &n, n + 1, memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

/*
 * An entry that goes lowers the map count first and drops its reference when it is flushed; one
 * that is copied takes the reference first.  So there are never fewer references than entries and
 * others. The counts of copies say that none was made while we looked: then the map count can only
 * have gone down, and if it has not, it was the same when the references were counted.
 */
bool page_refs_are(struct engine *e, const struct page *page, u32 others)
{
	u64 copied = atomic_load(&e->migration_copied);
	u64 copies = atomic_load(&e->migration_copies);
	s32 entries = atomic_load(&page->mapcount);
	u32 refs = atomic_load(&page->refcount);

	return copies == copied && refs == (u32)entries + others &&
	       atomic_load(&page->mapcount) == entries &&
	       atomic_load(&e->migration_copies) == copies;
}

static void free_block(struct engine *e, struct page *page)
{
	u64 i, pfn = page_pfn(e, page);
	u32 flags = atomic_load_explicit(&page->flags, memory_order_relaxed);
	s32 mapcount = atomic_load_explicit(&page->mapcount, memory_order_relaxed);

	if ((flags & (PG_IN_USE | PG_TAIL)) || mapcount || !list_empty(&page->lru))
		vmf_panic("page_put: frame %lu freed in use: flags %x, mapped %d times",
			  (unsigned long)pfn, flags, mapcount);
	if (page->zone != ZONE_TABLE)
		for (i = 0; i < 1ULL << page->order; i++)
			e->mmu->release(e, page + i);
	/* Before it is on a free list: a free frame has no flags but PG_BUDDY. */
	for (i = 0; i < 1ULL << page->order; i++)
		atomic_fetch_and_explicit(&page[i].flags, PG_HWPOISON, memory_order_relaxed);
	if (unlikely(page_has_broken(e, page)))
		give_frames(e, zone_of(e, page), page, page->order);
	else
		give_contig(e, zone_of(e, page), page, page->order);
}

void page_put(struct engine *e, struct page *page)
{
	u32 before = atomic_fetch_sub_explicit(&page->refcount, 1, memory_order_acq_rel);

	if (before == 0)
		vmf_panic("page_put: frame %lu is free already", (unsigned long)page_pfn(e, page));
	if (before != 1)
		return;
	if (unlikely(page_test(page, PG_HUGETLB)))
		e->free_huge(e, page);
	else
		free_block(e, page);
}

/* ---- looking ---- */

u64 page_pfn(const struct engine *e, const struct page *page)
{
	return page - e->pages;
}

struct page *pfn_page(const struct engine *e, u64 pfn)
{
	return &e->pages[pfn];
}

void *page_direct(const struct engine *e, const struct page *page)
{
	const struct zone *z = &e->zones[page->zone];

	if (!z->direct_map)
		return NULL;
	return (char *)z->direct_map + ((page_pfn(e, page) - z->start_pfn) << PAGE_SHIFT);
}

u64 zone_free_pages(const struct engine *e, enum zone_type zone)
{
	u64 n = count_of_free(&e->zones[zone]);

	for (unsigned i = 1; zone == ZONE_USER && i < e->numa.nr; i++)
		n += count_of_free(&e->zones[ZONE_USER + i]);
	return n;
}

static void check_free_block(const struct engine *e, const struct zone *z, const struct page *page,
			     unsigned order)
{
	u64 pfn = page_pfn(e, page), buddy_pfn = pfn ^ (1ULL << order);
	unsigned long n = pfn;
	u64 i;

	if (!zone_holds(z, pfn) || pfn + (1ULL << order) > z->start_pfn + z->nr)
		vmf_panic("zone_check: free block at frame %lu is outside its zone", n);
	if (pfn & ((1ULL << order) - 1))
		vmf_panic("zone_check: free block at frame %lu is not aligned", n);
	if (!page_test(page, PG_BUDDY) || page->order != order)
		vmf_panic("zone_check: free block at frame %lu is not marked as order %u", n,
			  order);
	for (i = 0; i < 1ULL << order; i++)
		if (atomic_load(&page[i].refcount))
			vmf_panic("zone_check: free frame %lu has references", n + i);
	if (order < MAX_ORDER - 1 && zone_holds(z, buddy_pfn)) {
		const struct page *buddy = pfn_page(e, buddy_pfn);

		if (page_test(buddy, PG_BUDDY) && buddy->order == order)
			vmf_panic("zone_check: frame %lu and its buddy are free apart", n);
	}
}

static void check_zone(const struct engine *e, const struct zone *z)
{
	const struct page *page;
	u64 counted = 0;
	unsigned order;

	for (order = 0; order < MAX_ORDER; order++)
		list_for_each_entry (page, &z->free[order], lru) {
			check_free_block(e, z, page, order);
			counted += 1ULL << order;
		}
	if (counted != count_of_free(z))
		vmf_panic("zone_check: %lu frames on the free lists, %lu counted",
			  (unsigned long)counted, (unsigned long)count_of_free(z));
}

void zone_check(const struct engine *e, enum zone_type zone)
{
	check_zone(e, &e->zones[zone]);
	for (unsigned i = 1; zone == ZONE_USER && i < e->numa.nr; i++)
		check_zone(e, &e->zones[ZONE_USER + i]);
}
