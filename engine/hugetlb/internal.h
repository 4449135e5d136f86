/* SPDX-License-Identifier: MIT */
/* What the files of engine/hugetlb/ share with one another. */
#ifndef VMF_HUGETLB_INTERNAL_H
#define VMF_HUGETLB_INTERNAL_H

#include "engine/base/errno.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/mempolicy.h"

struct hugetlb_inode {
	struct address_space mapping;
	struct hstate *h;
	/* Of which pages a promise was taken, or that are in the file: those with both have used
	 * it.  So promises = region_count() - pages. */
	struct resv_map *resv;
	_Atomic u64 nr_pages; /* in mapping.pages, by huge page; written under tree_lock */
};

static inline struct hugetlb_inode *hugetlb_inode(const struct address_space *m)
{
	return container_of(m, struct hugetlb_inode, mapping);
}

/* The index in the file, in huge pages, of what is at va. */
static inline u64 huge_index(const struct hstate *h, const struct vma *vma, u64 va)
{
	return (vma->pgoff + ((va - vma->start) >> PAGE_SHIFT)) >> h->order;
}

static inline void *huge_bytes(const struct engine *e, const struct page *page)
{
	return page_direct(e, page);
}

/* ---- check.c ---- */

void hugetlb_check_file(struct address_space *m);

/* ---- fault.c ---- */

/* The fault lock of a place of the file. */
spinlock_t *hugetlb_fault_lock(struct address_space *m, u64 index);

/* ---- file.c ---- */

/* The page at index, with a reference, or NULL. */
struct page *hugetlb_find_page(struct address_space *m, u64 index);
/* It enters, with the caller's reference, which is the file's from then on.  0, -ENOMEM.  Fault
 * lock held. */
int hugetlb_add_page(struct address_space *m, struct page *page, u64 index);
/* It leaves; the file's reference is the caller's to drop.  invalidate_lock for writing. */
void hugetlb_delete_page(struct address_space *m, struct page *page);

/* Where its entries are found.  Who has met the page by its frame reads it without a lock, finds
 * out whether there is such a file, and looks again with the file's invalidate_lock. */
static inline void huge_page_set_mapping(struct page *page, struct address_space *m)
{
	__atomic_store_n(&page->mapping, m, __ATOMIC_RELAXED);
}
static inline struct address_space *huge_page_mapping(const struct page *page)
{
	return __atomic_load_n(&page->mapping, __ATOMIC_RELAXED);
}

/* A claimed page is to be a private area's own. */
static inline void huge_page_own(struct page *page, struct address_space *m, u64 index)
{
	huge_page_set_mapping(page, m); /* not in it: where the VMAs are that map it */
	page->index = index;
	page_set(page, PG_ANON_EXCLUSIVE);
}

/* ---- promise.c ---- */

/* A page for one place, and what it does to the promises when it gets there. */
struct huge_claim {
	struct page *page;
	struct hstate *h;
	struct resv_map *map; /* to which index is to be added, or NULL */
	u64 index;
	s64 lacking; /* what region_chg() said */
	bool shared;
};

/*
 * Take a page for index of the area, by that policy: one that was promised for it, if there is such
 * a promise, and none with `avoid_reserve`.  0; -ENOSPC: the pool has none where the policy allows
 * it, or all is promised to others; -ENOMEM.  Then one of the two below.  Fault lock held.
 */
int hugetlb_claim(struct vma *vma, u64 index, const struct mempolicy *policy, bool avoid_reserve,
		  struct huge_claim *c);
/* The page has its place: the promise, if there was one, is used up. */
void hugetlb_commit(struct huge_claim *c);
/* It got none, and goes back. */
void hugetlb_cancel(struct huge_claim *c);

/* Promise pages [from, to) of the file, or (a private area) the area its own.  0, -ENOMEM. */
int hugetlb_reserve_pages(struct vma *vma, u64 from, u64 to);
/* Of the file's pages from `from` on, of which `freed` were there and have gone, none is promised
 * any more. */
void hugetlb_unreserve_from(struct hugetlb_inode *inode, u64 from, u64 freed);
/* A page that has left the file, and whose last reference is the caller's, is promised no more. */
void hugetlb_unreserve_page(struct hugetlb_inode *inode, struct page *page);
/* A page that the area had at index, and that is mapped no more, is promised again when its
 * reference, the caller's, goes; if it was the area's own and promised at all. */
void hugetlb_promise_again(struct vma *vma, struct page *page, u64 index);

/* ---- entry.c ---- */

/* The entry for the huge page at va, and the lock of its table; NULL: no such table. */
pte_t *huge_pte_find(const struct hstate *h, struct mm *mm, u64 va, spinlock_t **ptl);
/* The same, making the tables that are missing.  NULL: no memory. */
pte_t *huge_pte_alloc(const struct hstate *h, struct mm *mm, u64 va, spinlock_t **ptl);
/* What an entry of the area that maps the page says: as much as the area allows and the page. */
pte_t huge_pte_make(const struct vma *vma, const struct page *page);
/* The entry, without page so far or with a marker, maps the page from now on.  As set().  The
 * page-table lock held. */
int huge_pte_set(struct vma *vma, u64 va, pte_t *ptep, pte_t pte, struct page *page);
/* The entry maps nothing any more; the page's reference is the caller's to drop, after a flush.
 * Page-table lock held. */
struct page *huge_pte_clear(struct vma *vma, u64 va, pte_t *ptep, pte_t left);
/* Another entry maps the page. */
static inline void page_add_huge_rmap(struct page *page)
{
	atomic_fetch_add_explicit(&page->mapcount, 1, memory_order_relaxed);
}

#endif
