/* SPDX-License-Identifier: MIT */
/*
 * The pools.
 *
 * The pool's lock guards counts and list alone: blocks come from the system and go back to it
 * without the lock.  So between a look and the deed others may come; each deed looks again:
 *   promising    pages are made for what lacks, and then it is looked again whether they suffice;
 *   shrinking    pages leave list and count under the lock, and the system gets them afterwards.
 *
 * Promises are numbers, not pages: any free page serves any promise, and free >= resv is all that
 * there is to keep.  So a promise is of no node: who may have pages of some nodes only can be left
 * without one (as in Linux).
 */
#include "engine/hugetlb/pool.h"

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/engine.h"
#include "engine/space/mempolicy.h"

static const unsigned orders[NR_HSTATES] = { [HSTATE_2M] = 9, [HSTATE_1G] = 18 };

/* ---- blocks from the system and back ---- */

static struct page *block_of(struct hstate *h, unsigned flags, unsigned nid, nodemask_t allowed)
{
	struct engine *e = h->engine;

	if (!page_direct(e, pfn_page(e, e->zones[ZONE_USER].start_pfn)))
		return NULL; /* nobody could fill it */
	if (h->order >= MAX_ORDER)
		return page_alloc_contig_nodes(e, h->order, nid, allowed);
	/* (What may exceed its frames may do so when all nodes are allowed only.) */
	if (e->numa.nr == 1)
		allowed = NODE_MASK_ALL;
	return page_alloc_nodes(e, h->order, flags, nid, allowed);
}

static struct page *block_alloc(struct hstate *h, const struct node_choice *from)
{
	struct page *page = NULL;

	if (from->first)
		page = block_of(h, ALLOC_NORECLAIM, from->nid, from->first);
	return page ? page : block_of(h, 0, from->nid, from->allowed);
}

/* Pages that left the pool, of no flags and no references. */
static void blocks_free(struct hstate *h, struct list_head *pages)
{
	while (!list_empty(pages)) {
		struct page *page = list_first_entry(pages, struct page, lru);

		list_del(&page->lru);
		page_clear(page, PG_HUGETLB);
		atomic_store_explicit(&page->refcount, 1, memory_order_release);
		page_put(h->engine, page);
	}
}

/* ---- lists and counts, under the lock ---- */

static u64 persistent(const struct hstate *h)
{
	return h->n.nr - h->n.surplus;
}

static u64 available(const struct hstate *h)
{
	return h->n.free - h->n.resv;
}

static struct hstate_node *node_of(struct hstate *h, const struct page *page)
{
	return &h->on[page_nid(page)];
}

static void count_surplus(struct hstate *h, struct hstate_node *on, s64 n)
{
	on->surplus += (u64)n;
	h->n.surplus += (u64)n;
}

static void enqueue(struct hstate *h, struct page *page)
{
	struct hstate_node *on = node_of(h, page);

	list_add(&page->lru, &on->free_list);
	on->free++;
	h->n.free++;
}

static void dequeue(struct hstate *h, struct page *page)
{
	list_del(&page->lru);
	node_of(h, page)->free--;
	h->n.free--;
}

/* A free page leaves the pool. */
static void remove_page(struct hstate *h, struct page *page, bool surplus, struct list_head *gone)
{
	struct hstate_node *on = node_of(h, page);

	dequeue(h, page);
	on->nr--;
	h->n.nr--;
	if (surplus)
		count_surplus(h, on, -1);
	list_add(&page->lru, gone);
}

/* A block comes in, not free yet: what it was given as it keeps but for its reference. */
static void admit(struct hstate *h, struct page *page, bool surplus)
{
	page_set(page, PG_HUGETLB);
	atomic_store_explicit(&page->refcount, 0, memory_order_relaxed);
	node_of(h, page)->nr++;
	h->n.nr++;
	if (surplus)
		count_surplus(h, node_of(h, page), 1);
}

/* Nodes that have free pages. */
static nodemask_t with_free(const struct hstate *h)
{
	nodemask_t nodes = 0;

	for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
		nodes |= (nodemask_t)(h->on[nid].free > 0) << nid;
	return nodes;
}

/* Nodes that have surplus pages; and such as have others. */
static nodemask_t with_surplus(const struct hstate *h)
{
	nodemask_t nodes = 0;

	for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
		nodes |= (nodemask_t)(h->on[nid].surplus > 0) << nid;
	return nodes;
}

static nodemask_t with_persistent(const struct hstate *h)
{
	nodemask_t nodes = 0;

	for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
		nodes |= (nodemask_t)(h->on[nid].nr > h->on[nid].surplus) << nid;
	return nodes;
}

/* The one of these, of which there is one, whose turn it is. */
static unsigned take_turn(unsigned *turn, nodemask_t nodes)
{
	nodemask_t later = nodes & (NODE_MASK_ALL << *turn);
	unsigned nid = first_node(later ? later : nodes);

	*turn = (nid + 1) % MAX_NUMNODES;
	return nid;
}

static struct page *first_free(struct hstate *h, unsigned nid)
{
	return list_first_entry(&h->on[nid].free_list, struct page, lru);
}

/* ---- how many there are ---- */

/* A block of the node whose turn it is, or of the next of these that has one.  No lock held. */
static struct page *block_in_turn(struct hstate *h, nodemask_t nodes)
{
	struct page *page = NULL;

	for (unsigned left = nodes_weight(nodes); left && !page; left--) {
		unsigned nid;

		spin_lock(&h->lock);
		nid = take_turn(&h->next_to_alloc, nodes);
		spin_unlock(&h->lock);
		page = block_of(h, 0, nid, 1u << nid);
	}
	return page;
}

/* Lock held, and dropped meanwhile. */
static void grow(struct hstate *h, u64 count, nodemask_t nodes)
{
	nodemask_t with;

	while (count > persistent(h) && (with = with_surplus(h) & nodes))
		count_surplus(h, &h->on[take_turn(&h->next_to_alloc, with)], -1);
	while (count > persistent(h)) {
		struct page *page;

		spin_unlock(&h->lock);
		page = block_in_turn(h, nodes);
		spin_lock(&h->lock);
		if (!page)
			break;
		admit(h, page, false);
		enqueue(h, page);
	}
}

static void shrink(struct hstate *h, u64 count, nodemask_t nodes, struct list_head *gone)
{
	nodemask_t with;

	while (count < persistent(h) && available(h) && (with = with_free(h) & nodes))
		remove_page(h, first_free(h, take_turn(&h->next_to_free, with)), false, gone);
	while (count < persistent(h) && (with = with_persistent(h) & nodes))
		count_surplus(h, &h->on[take_turn(&h->next_to_free, with)], 1);
}

u64 hugetlb_set_pool(struct hstate *h, u64 count)
{
	nodemask_t all = node_states(h->engine);
	struct list_head gone;
	u64 now;

	list_init(&gone);
	spin_lock(&h->lock);
	grow(h, count, all);
	shrink(h, count, all, &gone);
	now = persistent(h);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return now;
}

static u64 persistent_on(const struct hstate *h, unsigned nid)
{
	return h->on[nid].nr - h->on[nid].surplus;
}

u64 hugetlb_set_pool_node(struct hstate *h, unsigned nid, u64 count)
{
	struct list_head gone;
	u64 now;

	list_init(&gone);
	spin_lock(&h->lock);
	/* With the others' pages, as they are. */
	count += min_of(persistent(h) - persistent_on(h, nid), ~0ULL - count);
	grow(h, count, 1u << nid);
	shrink(h, count, 1u << nid, &gone);
	now = persistent_on(h, nid);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return now;
}

void hugetlb_set_overcommit(struct hstate *h, u64 count)
{
	spin_lock(&h->lock);
	h->n.overcommit = count;
	spin_unlock(&h->lock);
}

struct hstate_counts hugetlb_counts(struct hstate *h)
{
	struct hstate_counts n;

	spin_lock(&h->lock);
	n = h->n;
	spin_unlock(&h->lock);
	return n;
}

struct hstate_counts hugetlb_node_counts(struct hstate *h, unsigned nid)
{
	struct hstate_counts n = { 0 };

	spin_lock(&h->lock);
	n.nr = h->on[nid].nr;
	n.free = h->on[nid].free;
	n.surplus = h->on[nid].surplus;
	spin_unlock(&h->lock);
	return n;
}

u64 hugetlb_frames(struct engine *e)
{
	u64 frames = 0;

	for (unsigned i = 0; i < NR_HSTATES; i++)
		frames += hugetlb_counts(&e->hstates[i]).nr << e->hstates[i].order;
	return frames;
}

/* ---- surplus ---- */

/* One page more than was asked for, neither free nor used yet.  Lock held, and dropped meanwhile.
 * NULL: it is not allowed, or there is no block. */
static struct page *surplus_alloc(struct hstate *h, const struct node_choice *from)
{
	struct page *page;

	if (h->n.surplus >= h->n.overcommit)
		return NULL;
	spin_unlock(&h->lock);
	page = block_alloc(h, from);
	spin_lock(&h->lock);
	if (!page)
		return NULL;
	if (h->n.surplus < h->n.overcommit) {
		admit(h, page, true);
		return page;
	}
	/* Others were first. */
	spin_unlock(&h->lock);
	page_put(h->engine, page);
	spin_lock(&h->lock);
	return NULL;
}

/* Free pages that nobody has a promise for go, of nodes that have surplus ones. */
static void drop_surplus(struct hstate *h, u64 most, struct list_head *gone)
{
	nodemask_t with;

	for (; most && available(h) && (with = with_surplus(h) & with_free(h)); most--)
		remove_page(h, first_free(h, take_turn(&h->next_to_free, with)), true, gone);
}

/* ---- promises ---- */

/* Enough free pages for `delta` more, of which `made` were made for it. */
static bool gather_surplus(struct hstate *h, u64 delta, const struct node_choice *from, u64 *made)
{
	for (*made = 0; available(h) < delta; ++*made) {
		struct page *page = surplus_alloc(h, from);

		if (!page)
			return false;
		enqueue(h, page);
	}
	return true;
}

static u64 free_on(const struct hstate *h, nodemask_t nodes)
{
	u64 sum = 0;

	for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
		sum += node_isset(nid, nodes) ? h->on[nid].free : 0;
	return sum;
}

/* Lock held, and dropped meanwhile. */
static int promise(struct hstate *h, u64 delta, const struct node_choice *from,
		   struct list_head *gone)
{
	u64 made;

	if (!gather_surplus(h, delta, from, &made) || free_on(h, from->allowed) < delta) {
		drop_surplus(h, made, gone);
		return -ENOMEM;
	}
	h->n.resv += delta;
	return 0;
}

static void take_back(struct hstate *h, u64 n, struct list_head *gone)
{
	if (h->n.resv < n)
		vmf_panic("hugetlb: %lu pages are promised, %lu taken back",
			  (unsigned long)h->n.resv, (unsigned long)n);
	h->n.resv -= n;
	drop_surplus(h, n, gone);
}

int hugetlb_acct_memory(struct hstate *h, s64 delta)
{
	struct node_choice from = { .nid = numa_node_id(h->engine), .allowed = NODE_MASK_ALL };
	struct mempolicy policy = task_policy(h->engine);
	struct list_head gone;
	int err = 0;

	if (policy.mode == UAPI_MPOL_BIND)
		from = policy_choice(h->engine, &policy, 0);
	list_init(&gone);
	spin_lock(&h->lock);
	if (delta < 0)
		take_back(h, (u64)-delta, &gone);
	else
		err = promise(h, (u64)delta, &from, &gone);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return err;
}

/* A free page of the nodes that are asked, or NULL. */
static struct page *take_free(struct hstate *h, const struct node_choice *from)
{
	const struct engine *e = h->engine;
	nodemask_t with = with_free(h);
	struct page *page;
	int nid = NUMA_NO_NODE;

	if (from->first)
		nid = nearest_node(e, from->nid, from->first & with);
	if (nid == NUMA_NO_NODE)
		nid = nearest_node(e, from->nid, from->allowed & with);
	if (nid == NUMA_NO_NODE)
		return NULL;
	page = first_free(h, (unsigned)nid);
	dequeue(h, page);
	return page;
}

struct page *hugetlb_alloc_page(struct hstate *h, const struct node_choice *from, bool promised)
{
	const struct node_choice any = { .nid = numa_node_id(h->engine), .allowed = NODE_MASK_ALL };
	struct page *page = NULL;

	from = from ? from : &any;
	spin_lock(&h->lock);
	if (promised && (!h->n.resv || !h->n.free))
		vmf_panic("hugetlb: a page is promised, and none is kept");
	if (promised || available(h))
		page = take_free(h, from);
	if (!page)
		page = surplus_alloc(h, from);
	if (page && promised) {
		h->n.resv--;
		page_set(page, PG_RESTORE_RESERVE);
	}
	spin_unlock(&h->lock);
	if (page)
		atomic_store_explicit(&page->refcount, 1, memory_order_release);
	return page;
}

/* A free page of which a frame is broken leaves the pool for good.  Lock held. */
static void retire(struct hstate *h, struct page *page, struct list_head *gone)
{
	struct hstate_node *on = node_of(h, page);

	remove_page(h, page, on->surplus == on->nr, gone);
}

int hugetlb_retire_free(struct hstate *h, struct page *frame)
{
	struct page *head = page_head(frame);
	struct list_head gone;
	int err = -EBUSY;

	list_init(&gone);
	spin_lock(&h->lock);
	if (is_of_pool(head) && head->order == h->order && !list_empty(&head->lru) &&
	    available(h)) {
		page_set_hwpoison(h->engine, frame);
		retire(h, head, &gone);
		err = 0;
	}
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
	return err;
}

/* The last reference to a page of a pool has gone: registered as engine->free_huge. */
static void free_huge_page(struct engine *e, struct page *page)
{
	struct hstate *h = page_hstate(e, page);
	bool restore = page_test(page, PG_RESTORE_RESERVE), broken;
	struct list_head gone;

	if (page_test(page, PG_LOCKED | PG_FILE) || page_mapcount(page))
		vmf_panic("hugetlb: frame %lu freed in use", (unsigned long)page_pfn(e, page));
	list_init(&gone);
	page->mapping = NULL;
	page->index = 0;
	broken = page_has_broken(e, page);
	atomic_fetch_and_explicit(&page->flags, PG_HEAD | PG_HUGETLB | PG_HWPOISON,
				  memory_order_relaxed);
	spin_lock(&h->lock);
	/* A promise that comes back needs a page to be kept: this one. */
	h->n.resv += restore;
	enqueue(h, page);
	if (unlikely(broken))
		retire(h, page, &gone);
	else if (!restore && node_of(h, page)->surplus)
		remove_page(h, page, true, &gone);
	spin_unlock(&h->lock);
	blocks_free(h, &gone);
}

struct hstate *page_hstate(const struct engine *e, const struct page *page)
{
	for (unsigned i = 0; i < NR_HSTATES; i++)
		if (orders[i] == page->order)
			return (struct hstate *)&e->hstates[i];
	vmf_panic("hugetlb: no pool has pages of order %u", page->order);
}

struct hstate *hstate_sizelog(struct engine *e, unsigned log)
{
	if (!log)
		return &e->hstates[0];
	for (unsigned i = 0; i < NR_HSTATES; i++)
		if (huge_page_shift(&e->hstates[i]) == log)
			return &e->hstates[i];
	return NULL;
}

void hugetlb_init(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];

		h->engine = e;
		h->order = orders[i];
		spin_init(&h->lock);
		for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
			list_init(&h->on[nid].free_list);
	}
	for (unsigned i = 0; i < NR_HUGE_FAULT_LOCKS; i++)
		spin_init(&e->huge_fault_locks[i]);
	e->free_huge = free_huge_page;
}

void hugetlb_fini(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];

		hugetlb_set_pool(h, 0);
		if (h->n.nr)
			vmf_panic("hugetlb: %lu pages are in use at the end",
				  (unsigned long)h->n.nr);
	}
}

/* ---- checks ---- */

static void check_node(struct hstate *h, unsigned nid, struct hstate_counts *sum)
{
	const struct hstate_node *on = &h->on[nid];
	const struct engine *e = h->engine;
	struct page *page;
	u64 n = 0;

	list_for_each_entry (page, &on->free_list, lru) {
		if (atomic_load(&page->refcount) || page->order != h->order ||
		    page_nid(page) != nid || atomic_load(&page->flags) != (PG_HEAD | PG_HUGETLB))
			vmf_panic("hugetlb: frame %lu is free with %u references, flags %x",
				  (unsigned long)page_pfn(e, page), page->refcount, page->flags);
		n++;
	}
	if (n != on->free || on->free > on->nr || on->surplus > on->nr)
		vmf_panic("hugetlb: node %u: %lu free pages in the list; counted: %lu pages, %lu "
			  "free, %lu surplus",
			  nid, (unsigned long)n, (unsigned long)on->nr, (unsigned long)on->free,
			  (unsigned long)on->surplus);
	sum->nr += on->nr;
	sum->free += on->free;
	sum->surplus += on->surplus;
}

void hugetlb_check_pools(struct engine *e)
{
	for (unsigned i = 0; i < NR_HSTATES; i++) {
		struct hstate *h = &e->hstates[i];
		struct hstate_counts sum = { 0 };

		for (unsigned nid = 0; nid < MAX_NUMNODES; nid++)
			check_node(h, nid, &sum);
		if (sum.nr != h->n.nr || sum.free != h->n.free || sum.surplus != h->n.surplus ||
		    h->n.resv > h->n.free)
			vmf_panic("hugetlb: on all nodes %lu pages, %lu free, %lu surplus; "
				  "counted: %lu, %lu, %lu, %lu promised",
				  (unsigned long)sum.nr, (unsigned long)sum.free,
				  (unsigned long)sum.surplus, (unsigned long)h->n.nr,
				  (unsigned long)h->n.free, (unsigned long)h->n.surplus,
				  (unsigned long)h->n.resv);
	}
}
