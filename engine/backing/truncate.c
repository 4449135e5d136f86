/* SPDX-License-Identifier: MIT */
/*
 * Files that get shorter, longer, or a hole.
 *
 * No page may be mapped behind the end, and none may come back to life there:
 *
 *   1  i_size is set: from here on a fault that locks a page behind it refuses;
 *   2  the range is unmapped everywhere, at one go;
 *   3  page by page, under its lock, pages leave the cache (and are unmapped if a fault that had
 *      locked them before 1 has mapped them meanwhile);
 *   4  the range is unmapped again: a private copy may have been made of such a page.
 *
 * invalidate_lock keeps pages from being added meanwhile.
 */
#include "engine/backing/page_cache.h"
#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "engine/engine.h"

/* What is there instead of a page goes, if it still is this. */
static void drop_value(struct address_space *m, u64 index, void *value)
{
	if (page_cache_forget(m, index, value) && mapping_swaps(m))
		swap_put(&m->engine->swap, radix_to_value(value));
}

/* What is there at or after *index and before end; a page has a reference. */
static void *next_item(struct address_space *m, u64 *index, u64 end)
{
	void *item;

	spin_lock(&m->tree_lock);
	item = radix_next(&m->pages, index);
	if (*index >= end)
		item = NULL;
	if (item && !radix_is_value(item))
		page_get(item);
	spin_unlock(&m->tree_lock);
	return item;
}

void truncate_inode_pages(struct address_space *m, u64 start, u64 end)
{
	u64 index = start;
	void *item;

	while ((item = next_item(m, &index, end))) {
		struct page *page = item;

		/* Where a page was swapped, or a swapped one was brought in, before we came to it:
		 * nothing is done, and the next look at the same index finds what is there now. */
		if (radix_is_value(item)) {
			drop_value(m, index, item);
			continue;
		}
		page_lock(page);
		if (page->mapping == m) {
			if (atomic_load(&page->mapcount))
				unmap_mapping_range(m, index, index + 1, false);
			page_cache_delete(page, NULL);
		}
		page_unlock(page);
		page_put(m->engine, page);
	}
}

/* Zero the bytes [from, to) of one page, if there is such a page. */
static int zero_part(struct address_space *m, u64 from, u64 to)
{
	struct page *page;
	bool major;
	int err;

	if (from >= to)
		return 0;
	err = m->ops->get_page(m, from >> PAGE_SHIFT, PAGE_EDGE, &page, &major);
	if (err)
		return err == -ENOENT ? 0 : err;
	shared_zero((char *)page_direct(m->engine, page) + (from & ~PAGE_MASK), to - from);
	page_mark_dirty(m, page);
	page_unlock(page);
	page_put(m->engine, page);
	return 0;
}

static void grow(struct address_space *m, u64 old, u64 size)
{
	if (m->ops->zeroes_tail)
		zero_part(m, old, min_of(PAGE_ALIGN(old), size));
	atomic_store_explicit(&m->i_size, size, memory_order_release);
}

static void shrink(struct address_space *m, u64 size)
{
	u64 first = PAGE_ALIGN(size) >> PAGE_SHIFT;

	down_write(&m->invalidate_lock);
	atomic_store_explicit(&m->i_size, size, memory_order_release);
	/* A page that cannot be had from the swap area stays there, and cannot be had. */
	zero_part(m, size, PAGE_ALIGN(size));
	unmap_mapping_range(m, first, ~0ULL, true);
	truncate_inode_pages(m, first, ~0ULL);
	unmap_mapping_range(m, first, ~0ULL, true);
	if (m->ops->discard)
		m->ops->discard(m, size, ~0ULL);
	up_write(&m->invalidate_lock);
}

void truncate_setsize(struct address_space *m, u64 size)
{
	u64 old = mapping_size(m);

	if (size > old)
		grow(m, old, size);
	else if (size < old || m->ops->swap_page) /* a page may be behind the end, see check.c */
		shrink(m, size);
}

int truncate_pagecache_range(struct address_space *m, u64 start, u64 end)
{
	u64 first = PAGE_ALIGN(start) >> PAGE_SHIFT, last = end >> PAGE_SHIFT;
	int err;

	down_write(&m->invalidate_lock);
	if (first < last) {
		unmap_mapping_range(m, first, last, false);
		truncate_inode_pages(m, first, last);
	}
	if (m->ops->small_hole_unmaps_all && end < PAGE_SIZE)
		unmap_mapping_range(m, first, ~0ULL, false);
	err = zero_part(m, start, min_of(PAGE_ALIGN(start), end));
	if (!err && last >= first)
		err = zero_part(m, max_of(end & PAGE_MASK, start), end);
	if (!err && m->ops->discard)
		m->ops->discard(m, start, end);
	up_write(&m->invalidate_lock);
	return err;
}
