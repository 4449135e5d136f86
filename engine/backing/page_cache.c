/* SPDX-License-Identifier: MIT */
/*
 * Pages of files, by index.
 *
 * Looking up takes tree_lock for a moment and a reference to what it found; the page is then locked
 * without it, and looked at again.  Who takes a page out holds its lock, too, so after that look it
 * stays.  A reader of a page that is missing holds invalidate_lock, so that a truncation empties
 * the range either before the page is added (and then the end is checked after it) or after.
 */
#include "engine/base/check.h"
#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"
#include "engine/observe.h"
#include "engine/reclaim/internal.h"
#include "engine/space/mempolicy.h"

/* Items looked at for a shadow to forget. */
#define SHADOW_LOOK 32

/* ---- a file's life ---- */

int address_space_init(struct address_space *m, struct engine *e,
		       const struct address_space_ops *ops)
{
	if (!e->zones[ZONE_USER].direct_map)
		return -EOPNOTSUPP;
	m->engine = e;
	m->ops = ops;
	atomic_init(&m->refcount, 1);
	rwsem_init(&m->i_rwsem);
	rwsem_init(&m->invalidate_lock);
	rwsem_init(&m->i_mmap_lock);
	spin_init(&m->tree_lock);
	radix_init(&m->pages, &e->memory);
	spin_lock(&e->mappings_lock);
	list_add_tail(&m->link, &e->mappings);
	spin_unlock(&e->mappings_lock);
	return 0;
}

void mapping_get(struct address_space *m)
{
	atomic_fetch_add_explicit(&m->refcount, 1, memory_order_relaxed);
}

void mapping_put(struct address_space *m)
{
	struct engine *e = m->engine;

	if (atomic_fetch_sub_explicit(&m->refcount, 1, memory_order_acq_rel) != 1)
		return;
	VMF_ASSERT(!m->i_mmap.node);
	if (m->ops->evict)
		m->ops->evict(m);
	else
		truncate_inode_pages(m, 0, ~0ULL);
	radix_destroy(&m->pages);
	flusher_forget(m);
	spin_lock(&e->mappings_lock);
	list_del(&m->link);
	spin_unlock(&e->mappings_lock);
	m->ops->release(m);
}

bool mapping_tryget(struct address_space *m)
{
	u32 n = atomic_load_explicit(&m->refcount, memory_order_relaxed);

	while (n)
		if (atomic_compare_exchange_weak(&m->refcount, &n, n + 1))
			return true;
	return false;
}

struct address_space *mapping_next(struct engine *e, struct address_space *m)
{
	struct list_head *at;
	struct address_space *next = NULL;

	spin_lock(&e->mappings_lock);
	for (at = m ? m->link.next : e->mappings.next; at != &e->mappings; at = at->next) {
		next = list_entry(at, struct address_space, link);
		if (mapping_tryget(next))
			break;
		next = NULL;
	}
	spin_unlock(&e->mappings_lock);
	if (m)
		mapping_put(m);
	return next;
}

/* ---- who may write through mappings ---- */

int mapping_map_writable(struct address_space *m)
{
	s32 n = atomic_load(&m->i_mmap_writable);

	while (n >= 0)
		if (atomic_compare_exchange_weak(&m->i_mmap_writable, &n, n + 1))
			return 0;
	return -EPERM;
}

void mapping_allow_writable(struct address_space *m)
{
	s32 n = atomic_fetch_add(&m->i_mmap_writable, 1);

	VMF_ASSERT(n >= 0);
	(void)n;
}

void mapping_unmap_writable(struct address_space *m)
{
	s32 n = atomic_fetch_sub(&m->i_mmap_writable, 1);

	VMF_ASSERT(n > 0);
	(void)n;
}

int mapping_deny_writable(struct address_space *m)
{
	s32 none = 0;

	return atomic_compare_exchange_strong(&m->i_mmap_writable, &none, -1) ? 0 : -EBUSY;
}

/* ---- looking up ---- */

static void count(_Atomic u64 *counter, s64 n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

struct page *find_get_page(struct address_space *m, u64 index)
{
	struct page *page;

	spin_lock(&m->tree_lock);
	page = radix_load(&m->pages, index);
	if (radix_is_value(page))
		page = NULL;
	if (page)
		page_get(page);
	spin_unlock(&m->tree_lock);
	return page;
}

struct page *find_lock_page(struct address_space *m, u64 index)
{
	struct page *page;

	while ((page = find_get_page(m, index))) {
		page_lock(page);
		if (page->mapping == m)
			return page;
		page_unlock(page);
		page_put(m->engine, page);
	}
	return NULL;
}

unsigned find_trylock_pages(struct address_space *m, u64 index, u64 end, struct page **pages,
			    unsigned most)
{
	struct page *page;
	unsigned n = 0;

	spin_lock(&m->tree_lock);
	for (; n < most && (page = radix_next(&m->pages, &index)) && index < end; index++) {
		if (radix_is_value(page) || !page_test(page, PG_UPTODATE) ||
		    page_test(page, PG_HWPOISON) || !page_trylock(page))
			continue;
		page_get(page);
		pages[n++] = page;
	}
	spin_unlock(&m->tree_lock);
	return n;
}

bool mapping_has(struct address_space *m, u64 index)
{
	bool has;

	spin_lock(&m->tree_lock);
	has = radix_load(&m->pages, index);
	spin_unlock(&m->tree_lock);
	return has;
}

bool page_cache_present(struct address_space *m, u64 index)
{
	struct page *page;
	bool present;

	spin_lock(&m->tree_lock);
	page = radix_load(&m->pages, index);
	present = page && !radix_is_value(page) && page_test(page, PG_UPTODATE);
	spin_unlock(&m->tree_lock);
	return present;
}

/* ---- entering and leaving ---- */

/* What is at index in the place of a page has gone.  tree_lock held. */
static void uncount_value(struct address_space *m)
{
	if (mapping_swaps(m)) {
		count(&m->nr_swapped, -1);
		return;
	}
	count(&m->nr_shadows, -1);
	atomic_fetch_sub_explicit(&m->engine->nr_shadows, 1, memory_order_relaxed);
}

int page_cache_add(struct address_space *m, struct page *page, u64 index, void *instead,
		   u64 *shadow)
{
	int err = -EEXIST;
	void *there;

	VMF_ASSERT(page_test(page, PG_LOCKED));
	*shadow = 0;
	spin_lock(&m->tree_lock);
	there = radix_load(&m->pages, index);
	if (there == instead || (!mapping_swaps(m) && radix_is_value(there)))
		err = radix_store(&m->pages, index, page);
	if (!err) {
		page_get(page);
		page->index = index;
		page->mapping = m;
		page_set(page, PG_FILE | (mapping_swaps(m) ? 0 : PG_OF_DISK));
		count(&m->nr_pages, 1);
		atomic_fetch_add_explicit(&m->engine->nr_file_pages, 1, memory_order_relaxed);
		if (there)
			uncount_value(m);
		if (there && !mapping_swaps(m))
			*shadow = radix_to_value(there);
	}
	spin_unlock(&m->tree_lock);
	return err;
}

/* Another of the file's shadows goes, if there is one nearby, going around.  tree_lock held. */
static bool forget_another(struct address_space *m)
{
	void *item;

	for (unsigned look = SHADOW_LOOK; look--; m->shadow_hand++) {
		item = radix_next(&m->pages, &m->shadow_hand);
		if (!item) {
			m->shadow_hand = 0;
			return false;
		}
		if (radix_is_value(item)) {
			radix_store(&m->pages, m->shadow_hand, NULL);
			uncount_value(m);
			return true;
		}
	}
	return false;
}

/*
 * One shadow more is counted, if there is room.  They are worth little when there are more of them
 * than frames, for what has been out that long is not hot; and they keep nodes of the tree.
 * tree_lock held.
 */
static bool room_for_shadow(struct address_space *m)
{
	struct engine *e = m->engine;

	do {
		if (atomic_fetch_add_explicit(&e->nr_shadows, 1, memory_order_relaxed) <
		    user_frames(e)) {
			count(&m->nr_shadows, 1);
			return true;
		}
		atomic_fetch_sub_explicit(&e->nr_shadows, 1, memory_order_relaxed);
	} while (forget_another(m));
	return false;
}

/* tree_lock held. */
static void delete (struct address_space *m, struct page *page, void *instead)
{
	VMF_ASSERT(page->mapping == m && page_test(page, PG_LOCKED));
	VMF_ASSERT(!atomic_load(&page->mapcount));
	if (page_test_clear(page, PG_DIRTY)) {
		count(&m->nr_dirty, -1);
		flusher_count(m, -1);
	}
	if (instead && !mapping_swaps(m) && !room_for_shadow(m))
		instead = NULL;
	radix_store(&m->pages, page->index, instead);
	page->mapping = NULL;
	page_clear(page, PG_FILE | PG_UPTODATE);
	count(&m->nr_pages, -1);
	atomic_fetch_sub_explicit(&m->engine->nr_file_pages, 1, memory_order_relaxed);
	if (instead && mapping_swaps(m))
		count(&m->nr_swapped, 1);
}

bool page_cache_forget(struct address_space *m, u64 index, void *value)
{
	bool there;

	spin_lock(&m->tree_lock);
	there = radix_load(&m->pages, index) == value;
	if (there) {
		radix_store(&m->pages, index, NULL);
		uncount_value(m);
	}
	spin_unlock(&m->tree_lock);
	return there;
}

/* What the cache held: its place in the LRU and its reference. */
static void forget(struct engine *e, struct page *page)
{
	lru_del(e, page);
	page_put(e, page);
}

void page_cache_delete(struct page *page, void *instead)
{
	struct address_space *m = page->mapping;

	spin_lock(&m->tree_lock);
	delete (m, page, instead);
	spin_unlock(&m->tree_lock);
	forget(m->engine, page);
}

bool page_cache_replace(struct page *page, struct page *to, u32 others)
{
	struct address_space *m = page->mapping;
	bool alone;

	VMF_ASSERT(page_test(page, PG_LOCKED) && page_test(to, PG_LOCKED));
	/* Who looks the page up gets his reference under the lock. */
	spin_lock(&m->tree_lock);
	alone = page_refs_are(m->engine, page, others + 1);
	if (alone) {
		to->index = page->index;
		to->mapping = m;
		page_set(to, PG_FILE | PG_UPTODATE | (page_test(page, PG_DIRTY) ? PG_DIRTY : 0) |
				     (mapping_swaps(m) ? 0 : PG_OF_DISK));
		page_get(to);
		radix_store(&m->pages, to->index, to); /* there is one: it takes no memory */
		radix_set_mark(&m->pages, to->index, page_test(page, PG_DIRTY));
	}
	spin_unlock(&m->tree_lock);
	return alone;
}

void page_cache_replaced(struct page *page)
{
	struct engine *e = page->mapping->engine;

	VMF_ASSERT(page_test(page, PG_LOCKED) && !atomic_load(&page->mapcount));
	page->mapping = NULL;
	page_clear(page, PG_FILE | PG_UPTODATE | PG_DIRTY);
	page_put(e, page);
}

bool remove_mapping(struct page *page, void *instead, bool clean)
{
	struct address_space *m = page->mapping;
	bool can;

	/* New references come from the tree, from entries (there are none) and from the LRU list by
	 * the page lock, which we hold: so the count cannot go up behind this look. */
	spin_lock(&m->tree_lock);
	can = atomic_load_explicit(&page->refcount, memory_order_acquire) == 2 &&
	      !(clean && page_test(page, PG_DIRTY));
	if (can)
		delete (m, page, instead);
	spin_unlock(&m->tree_lock);
	if (can)
		forget(m->engine, page);
	return can;
}

u64 invalidate_mapping_pages(struct address_space *m, u64 start, u64 end)
{
	struct page *pages[16];
	unsigned n;
	u64 gone = 0;

	while ((n = find_trylock_pages(m, start, end, pages, ARRAY_SIZE(pages)))) {
		start = pages[n - 1]->index + 1;
		for (unsigned i = 0; i < n; i++) {
			if (m->ops->write_page && !atomic_load(&pages[i]->mapcount))
				gone += remove_mapping(pages[i], NULL, true);
			page_unlock(pages[i]);
			page_put(m->engine, pages[i]);
		}
	}
	return gone;
}

/* ---- reading ---- */

/* A fresh page for index, in the cache, locked, with a reference, its bytes not there yet. */
static int add_page(struct address_space *m, u64 index, unsigned flags, struct page **page)
{
	struct page *fresh = task_alloc_page(m->engine, 0, flags);
	u64 shadow;
	int err;

	if (!fresh)
		return -ENOMEM;
	observe(m->engine, STEP_ALLOC_FRAMES, 0, 1);
	page_lock(fresh);
	err = page_cache_add(m, fresh, index, NULL, &shadow);
	if (err) {
		page_unlock(fresh);
		page_put(m->engine, fresh);
		return err;
	}
	/* What is read ahead was not asked for. */
	if (!(flags & ALLOC_NORECLAIM))
		workingset_refault(m->engine, fresh, shadow);
	lru_add(m->engine, fresh);
	*page = fresh;
	return 0;
}

/* Fill it.  On an error it leaves the cache, unlocked and without our reference. */
static int fill_page(struct address_space *m, struct page *page)
{
	int err = m->ops->read_page(m, page);

	if (!err) {
		page_set(page, PG_UPTODATE);
		return 0;
	}
	page_cache_delete(page, NULL);
	page_unlock(page);
	page_put(m->engine, page);
	return err;
}

int filemap_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
		     bool *major)
{
	int err;

	for (;;) {
		*page = find_lock_page(m, index);
		if (*page)
			break;
		if (use == PAGE_EDGE)
			return -ENOENT;
		down_read(&m->invalidate_lock);
		err = use < PAGE_WRITE && index >= mapping_size_pages(m) ? -EFAULT : 0;
		if (!err)
			err = add_page(m, index, 0, page);
		if (!err && use == PAGE_OVERWRITE) {
			page_set(*page, PG_UPTODATE);
		} else if (!err) {
			*major = true;
			err = fill_page(m, *page);
		}
		up_read(&m->invalidate_lock);
		if (!err)
			break;
		if (err != -EEXIST)
			return err;
	}
	/* From here on a truncation that makes the file end before it waits for its lock. */
	if (use >= PAGE_WRITE || index < mapping_size_pages(m))
		return 0;
	page_unlock(*page);
	page_put(m->engine, *page);
	return -EFAULT;
}

void page_cache_readahead(struct address_space *m, u64 start, u64 n)
{
	struct page *page;
	u64 end;

	if (!m->ops->read_page)
		return;
	down_read(&m->invalidate_lock);
	end = min_of(start + n, mapping_size_pages(m));
	for (u64 index = start; index < end; index++) {
		int err;

		/* No frame for nothing: interleaving would leave a node out. */
		if (page_cache_present(m, index))
			continue;
		err = add_page(m, index, ALLOC_NORECLAIM, &page);
		if (err == -EEXIST)
			continue;
		if (err || fill_page(m, page))
			break;
		page_unlock(page);
		page_put(m->engine, page);
	}
	up_read(&m->invalidate_lock);
}
