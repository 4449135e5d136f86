/* SPDX-License-Identifier: MIT */
/*
 * The page cache: the pages of files by index, and the VMAs that map them.
 *
 * A page is in the cache while it has PG_FILE; then page->mapping and page->index name its place,
 * the cache holds a reference to it and it is on an LRU list.  It enters and leaves locked, so who
 * locks a page looks again whether it is still where it was found.  A page that is being read is
 * locked, and one that cannot be read leaves again: so a page that is not locked is up to date.
 *
 * Its bytes are at page_direct(): files need a machine on which the pages of programs are directly
 * mapped.
 *
 * Locks (engine/base/lock.h has the whole order):
 *   i_rwsem          writing, truncating and punching go one after the other
 *   invalidate_lock  for reading: pages enter the cache; for writing: a range is emptied for good
 *   page lock        the page's bytes, its presence in the cache, becoming dirty or clean
 *   i_mmap_lock      for reading: the VMAs, and where they lie; for writing: to change them
 *   tree_lock        pages, the counts, page->mapping and PG_DIRTY
 */
#ifndef VMF_BACKING_PAGE_CACHE_H
#define VMF_BACKING_PAGE_CACHE_H

#include "engine/backing/file.h"
#include "engine/base/interval.h"
#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/base/radix.h"
#include "engine/page/page.h"

struct engine;

/* Sizes stay below this, so that no sum of position and length overflows. */
#define FILE_MAX_SIZE (1ULL << 62)

/* What a page is wanted for. */
enum page_use {
	PAGE_MAP,   /* it must begin before the file's end: -EFAULT otherwise */
	PAGE_READ,  /* the same; where nothing was ever written -ENOENT may come instead of zeros */
	PAGE_WRITE, /* it may lie behind the end; its caller makes the file longer */
	PAGE_OVERWRITE, /* the same; its caller writes all of it, whatever it holds now */
	PAGE_EDGE, /* wherever the end is, what the cache (or the swap area) has: else -ENOENT.  The
		    * caller holds invalidate_lock for writing, or keeps the range in other ways */
};

struct address_space_ops {
	const char *name;
	/*
	 * The page at index: locked, up to date, with a reference.  *major is set if its bytes had
	 * to be fetched from somewhere.  0, -EFAULT, -ENOENT (see enum page_use), -EIO, -ENOMEM;
	 * -EHWPOISON: its memory has failed, and there is no other (-EIO, if not for PAGE_MAP).
	 * Takes invalidate_lock for reading (not for PAGE_EDGE), allocates with reclaim.
	 */
	int (*get_page)(struct address_space *m, u64 index, enum page_use use, struct page **page,
			bool *major);
	/* Fill a page that is in the cache, locked.  0, -EIO. NULL: nothing is behind the cache
	 * but the swap area. */
	int (*read_page)(struct address_space *m, struct page *page);
	/* Write a page out, locked; bytes behind the file's end are not of the file.
	 * 0, -EIO, -ENOSPC.  NULL: its pages are swapped, see swap_page. */
	int (*write_page)(struct address_space *m, struct page *page);
	/* A page, locked, is about to become writable through a shared mapping: find the room now.
	 * 0, -ENOSPC, -EIO, -ENOMEM.  NULL: no need to know of the first write. */
	int (*page_mkwrite)(struct address_space *m, struct page *page);
	/* Keep the bytes of an unmapped page, locked, in the swap area: the slot, which has one
	 * reference, or -ENOSPC, -EIO. */
	s64 (*swap_page)(struct address_space *m, struct page *page);
	/* Bytes [start, end) of what is behind the cache are to read as zeros.  No page of the
	 * range is in the cache, but for those that it covers in part; these have been zeroed. */
	void (*discard)(struct address_space *m, u64 start, u64 end);
	/* Of the page that holds the old end the file now shows more: true if what was written
	 * there through mappings, behind the end, is to read as zeros. */
	bool zeroes_tail;
	/* A hole that ends within the first page unmaps all that begins behind the hole's start:
	 * Linux takes its last whole page for page -1.  Nothing but faults comes of it. */
	bool small_hole_unmaps_all;
	bool may_be_sealed; /* see memfd.h */
	/*
	 * Files whose pages are not the page cache's have their own of what else is done by
	 * get_page(); the first five come together.  As file_read() and file_write(), which have
	 * looked at the mode alone; file_truncate() and file_punch_hole() with i_rwsem held for
	 * writing and seals looked at; evict: nobody has the file any more, let its pages go.
	 */
	s64 (*read)(struct address_space *m, u64 pos, void *buf, u64 n);
	s64 (*write)(struct address_space *m, u64 pos, const void *buf, u64 n);
	int (*set_size)(struct address_space *m, u64 size);
	int (*punch_hole)(struct address_space *m, u64 start, u64 end);
	void (*evict)(struct address_space *m);
	/* fsync(2) of the bytes [start, end), without errors; NULL: as for the page cache. */
	void (*sync)(struct address_space *m, u64 start, u64 end);
	bool may_map_sync; /* MAP_SYNC is understood */
	/* Its own invariants, for page_cache_check(); panics with a message. */
	void (*check)(struct address_space *m);
	/* The last reference is gone and so are all pages: free it. */
	void (*release)(struct address_space *m);
};

struct address_space {
	struct engine *engine;
	const struct address_space_ops *ops;
	_Atomic u32 refcount;
	rwsem_t i_rwsem, invalidate_lock;
	_Atomic u64 i_size; /* bytes; written with i_rwsem, read anywhere */
	spinlock_t tree_lock;
	/* Pages; marked: dirty.  As values: swap slots of pages that are swapped, or, of a file
	 * that is written back, shadows of pages that have gone (reclaim/workingset.h). */
	struct radix_tree pages;
	/* Written under tree_lock, read anywhere. */
	_Atomic u64 nr_pages, nr_dirty, nr_swapped, nr_shadows;
	u64 shadow_hand; /* index: where to look for a shadow to forget; tree_lock */
	rwsem_t i_mmap_lock;
	struct rb_root i_mmap; /* vma->shared, by page of the file */
	/* VMAs of i_mmap that may write to the file (vma_may_write_file()), and who is about to map
	 * it so; -1: nobody may. */
	_Atomic s32 i_mmap_writable;
	_Atomic u32 seals;     /* enum memfd_seal; written with i_rwsem, read anywhere */
	_Atomic u32 wb_err;    /* errors of writing: a running number << 16 | errno of the last */
	struct list_head link; /* engine->mappings */
	/* flusher->dirty, while dirtied_when is not 0.  It has been dirty since then (nanoseconds),
	 * at the longest; tree_lock. */
	struct list_head dirty_link;
	u64 dirtied_when;
};

/* ---- a file's life (page_cache.c) ---- */

/* Begin, with one reference and size 0.  -EOPNOTSUPP: the machine's pages have no direct map. */
int address_space_init(struct address_space *m, struct engine *e,
		       const struct address_space_ops *ops);
void mapping_get(struct address_space *m);
/* The last one takes all pages out and calls release().  No VMA is left then. */
void mapping_put(struct address_space *m);
/* Another, for who found it by other ways than a reference: false if the last is gone. */
bool mapping_tryget(struct address_space *m);
/* The files one after the other: the one behind m, whose reference goes, or the first (NULL), with
 * a reference; NULL: no more. */
struct address_space *mapping_next(struct engine *e, struct address_space *m);

/* Are its pages swapped, and values in its tree their slots? */
static inline bool mapping_swaps(const struct address_space *m)
{
	return m->ops->swap_page != NULL;
}
static inline u64 mapping_size(const struct address_space *m)
{
	return atomic_load_explicit(&m->i_size, memory_order_acquire);
}
/* Pages that the file has, the last one in part perhaps. */
static inline u64 mapping_size_pages(const struct address_space *m)
{
	return (mapping_size(m) + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

/* ---- who may write through mappings (page_cache.c); any lock may be held ---- */

/* One more mapping that may write: 0, or -EPERM: it is sealed against that. */
int mapping_map_writable(struct address_space *m);
/* The same where there is one already, as when it is cut in two. */
void mapping_allow_writable(struct address_space *m);
void mapping_unmap_writable(struct address_space *m);
/* None from now on: 0, or -EBUSY: there is one. */
int mapping_deny_writable(struct address_space *m);

/* ---- pages (page_cache.c) ---- */

/* get_page() of files with something behind the cache. */
int filemap_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
		     bool *major);
/* The page at index, if it is in the cache: with a reference, and locked, too. */
struct page *find_get_page(struct address_space *m, u64 index);
struct page *find_lock_page(struct address_space *m, u64 index);
/* Pages in the cache from index on, before `end`, that can be locked at once, up to date: locked,
 * with a reference each.  Returns how many, at most `most`. */
unsigned find_trylock_pages(struct address_space *m, u64 index, u64 end, struct page **pages,
			    unsigned most);
/* Is the page at index in the cache and up to date?  For mincore(). */
bool page_cache_present(struct address_space *m, u64 index);
/* Is there a page at index, or (shared memory) its bytes in the swap area? */
bool mapping_has(struct address_space *m, u64 index);
/* Bring in those of [start, start + n) that are not in the cache, as far as there is memory for
 * the taking; errors are nobody's. */
void page_cache_readahead(struct address_space *m, u64 start, u64 n);

/*
 * A locked page that nobody knows enters at index, in the place of `instead` (NULL: nothing, or a
 * shadow; or a swap slot's value).  0, -EEXIST (something else is there), -ENOMEM.  *shadow: what
 * was there, or 0.  It is the caller's to give it to the LRU.
 */
int page_cache_add(struct address_space *m, struct page *page, u64 index, void *instead,
		   u64 *shadow);
/* A locked page leaves; `instead` (NULL, a slot or a shadow) takes its place; a shadow does not if
 * there are as many already as frames.  The caller has a reference. */
void page_cache_delete(struct page *page, void *instead);
/* The same, if nobody but cache and caller has a reference and (with `clean`) it is not dirty.
 * False: it stays.  Locked and unmapped. */
bool remove_mapping(struct page *page, void *instead, bool clean);
/*
 * `to`, which nobody knows, is in the cache from now on instead of a page that has `others`
 * references besides the cache's and its entries', as clean or dirty as that is.  False: it has
 * more, and nothing has changed.  Both are locked, and the page up to date; its entries, if there
 * are any, are migration entries.  Their unmappers go on finding the file by the page, until
 * page_cache_replaced(), when there are none any more: then it is nobody's.
 */
bool page_cache_replace(struct page *page, struct page *to, u32 others);
void page_cache_replaced(struct page *page);
/* The value at index, if it is still there, is forgotten: true.  A slot is the caller's to drop. */
bool page_cache_forget(struct address_space *m, u64 index, void *value);
/* Take all clean, unmapped pages of [start, end) out.  Returns how many. */
u64 invalidate_mapping_pages(struct address_space *m, u64 start, u64 end);

/* ---- dirty pages (writeback.c) ---- */

/* The page, if it is still m's, differs from the file now.  m is held; page lock or page-table
 * lock held, or the page cannot be cleaned in some other way. */
void page_mark_dirty(struct address_space *m, struct page *page);
/* Write a locked page of m out if it is dirty, after write-protecting it everywhere.  An error is
 * noted in wb_err, and the page stays dirty.  0, -EIO, -ENOSPC. */
int write_one_page(struct address_space *m, struct page *page);
/* Write out up to `most` dirty pages whose locks are free.  How many were. */
u64 write_dirty_pages(struct address_space *m, u64 most);
/* An error that fsync(2) is to tell of, negative. */
void mapping_set_error(struct address_space *m, int err);
/* Write out all dirty pages that hold bytes of [start, end) and wait for them.  The first error. */
int filemap_write_and_wait_range(struct address_space *m, u64 start, u64 end);

/* ---- truncation (truncate.c) ---- */

/* Take pages [start, end) out of the cache, dirty or not.  invalidate_lock for writing (or nobody
 * else knows m). */
void truncate_inode_pages(struct address_space *m, u64 start, u64 end);
/* The end goes to `size`.  i_rwsem for writing. */
void truncate_setsize(struct address_space *m, u64 size);
/* Bytes [start, end) become zeros; pages go, private copies stay.  i_rwsem for writing.
 * 0, -ENOMEM, -EIO. */
int truncate_pagecache_range(struct address_space *m, u64 start, u64 end);

/* ---- the other rooms' part ---- */

/* Unmap pages [start, end) of the file from every VMA; with even_cows private copies of them, too.
 * Tables stay.  (space/file_map.c) */
void unmap_mapping_range(struct address_space *m, u64 start, u64 end, bool even_cows);
/* Write-protect the page in every shared mapping and take over the dirty bits: true if one was set.
 * Flushed.  Page lock held.  (reclaim/file.c) */
bool page_mkclean(struct address_space *m, struct page *page);
/* Unmap the page from every VMA, locked ones, too, with `marker` in the entries' place (NO_MARKER:
 * nothing, or what userfaultfd wants).  Dirty bits make it dirty.  Flushed.  Page lock held.
 * (reclaim/file.c) */
#define NO_MARKER 0
void unmap_file_page(struct address_space *m, struct page *page, enum pte_marker marker);

/* Every invariant of all files; panics with a message.  Nobody else active.  Returns the pages in
 * the cache; *swapped: slots that they refer to.  (backing/check.c) */
u64 page_cache_check(struct engine *e, u64 *swapped);

#endif
