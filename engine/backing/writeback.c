/* SPDX-License-Identifier: MIT */
/*
 * Dirty pages of files and how they get clean.
 *
 * A page becomes dirty with its page lock held (written by a call, or made writable through a
 * shared mapping by page_mkwrite), or when an entry whose dirty bit is set goes.  It is written out
 * under its page lock:
 *
 *   1  every shared mapping is write-protected and its dirty bit taken over, with the flush done:
 *      from here on the first write faults, and that fault waits for the page lock;
 *   2  PG_DIRTY and the mark go;
 *   3  the bytes are written.
 *
 * What is written through a mapping before 1 is in the bytes of 3; what comes after makes the page
 * dirty again.
 */
#include "engine/base/check.h"
#include "engine/backing/page_cache.h"
#include "engine/reclaim/internal.h"

static void count(_Atomic u64 *counter, s64 n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

void page_mark_dirty(struct address_space *m, struct page *page)
{
	/* If it is, it is still to be written out with all that is in it now. */
	if (page_test(page, PG_DIRTY))
		return;
	spin_lock(&m->tree_lock);
	if (page->mapping == m && !page_test_set(page, PG_DIRTY)) {
		radix_set_mark(&m->pages, page->index, true);
		count(&m->nr_dirty, 1);
		flusher_count(m, 1);
	}
	spin_unlock(&m->tree_lock);
}

static bool clear_page_dirty_for_io(struct address_space *m, struct page *page)
{
	bool was;

	if (page_mkclean(m, page))
		page_mark_dirty(m, page);
	spin_lock(&m->tree_lock);
	was = page_test_clear(page, PG_DIRTY);
	if (was) {
		radix_set_mark(&m->pages, page->index, false);
		count(&m->nr_dirty, -1);
		flusher_count(m, -1);
	}
	spin_unlock(&m->tree_lock);
	return was;
}

void mapping_set_error(struct address_space *m, int err)
{
	u32 old = atomic_load_explicit(&m->wb_err, memory_order_relaxed), new;

	do
		new = ((old >> 16) + 1) << 16 | (u32)-err;
	while (!atomic_compare_exchange_weak(&m->wb_err, &old, new));
}

int write_one_page(struct address_space *m, struct page *page)
{
	int err;

	VMF_ASSERT(page_test(page, PG_LOCKED) && page->mapping == m);
	if (!clear_page_dirty_for_io(m, page))
		return 0;
	err = m->ops->write_page(m, page);
	if (err) {
		page_mark_dirty(m, page);
		mapping_set_error(m, err);
		return err;
	}
	atomic_fetch_add_explicit(&m->engine->flusher.written, 1, memory_order_relaxed);
	if (page_test(page, PG_RECLAIM)) {
		page_clear(page, PG_RECLAIM);
		lru_rotate(m->engine, page, ARRIVED_NEXT);
	}
	return 0;
}

/* The next dirty page from *index on, before end, with a reference. */
static struct page *next_dirty(struct address_space *m, u64 *index, u64 end)
{
	struct page *page;

	spin_lock(&m->tree_lock);
	page = radix_next_marked(&m->pages, index);
	if (page && *index >= end)
		page = NULL;
	if (page)
		page_get(page);
	spin_unlock(&m->tree_lock);
	return page;
}

u64 write_dirty_pages(struct address_space *m, u64 most)
{
	struct page *page;
	u64 index, n = 0;

	for (index = 0; n < most && (page = next_dirty(m, &index, ~0ULL)); index++) {
		if (page_trylock(page)) {
			if (page->mapping == m && page_test(page, PG_DIRTY))
				n += !write_one_page(m, page);
			page_unlock(page);
		}
		page_put(m->engine, page);
	}
	return n;
}

int filemap_write_and_wait_range(struct address_space *m, u64 start, u64 end)
{
	u64 index = start >> PAGE_SHIFT;
	u64 last = end > FILE_MAX_SIZE ? ~0ULL : (end + PAGE_SIZE - 1) >> PAGE_SHIFT;
	struct page *page;
	int err = 0;

	if (!m->ops->write_page)
		return 0;
	while ((page = next_dirty(m, &index, last))) {
		page_lock(page);
		if (page->mapping == m) {
			int result = write_one_page(m, page);

			err = err ? err : result;
		}
		page_unlock(page);
		page_put(m->engine, page);
		index++;
	}
	return err;
}
