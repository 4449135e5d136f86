/* SPDX-License-Identifier: MIT */
/*
 * What is promised to whom.
 *
 *   a file       its map has the pages that are promised or there.  They are promised when an area
 *                is mapped shared, and stay so until the file is cut or goes.
 *   an area      that is private and was mapped without MAP_NORESERVE is its pages' owner: all of
 *                them are promised to it, and its map has those whose promise is used up.  A
 * child's copy of it is no owner. all others   get what is promised to nobody.
 *
 * A page is claimed first and the map changed when it has its place: a claim that is cancelled has
 * changed nothing.
 *
 * A promise comes back with the page that it was used for, when the last reference to that goes
 * (PG_RESTORE_RESERVE).  It must be there when a map says that it is.  So who marks a page so holds
 * the file's invalidate_lock for writing from before the change of the map to after the reference's
 * end, and has the only one: nobody claims a page for that place meanwhile.
 */
#include "engine/hugetlb/internal.h"

static struct resv_map *file_map(const struct vma *vma)
{
	return hugetlb_inode(vma->file->mapping)->resv;
}

int hugetlb_claim(struct vma *vma, u64 index, const struct mempolicy *policy, bool avoid_reserve,
		  struct huge_claim *c)
{
	const struct node_choice from = policy_choice(vma->mm->engine, policy, index);
	bool promised = false;

	*c = (struct huge_claim){ .h = hstate_vma(vma),
				  .index = index,
				  .shared = vma->flags & VM_MAYSHARE };
	if (!avoid_reserve)
		c->map = c->shared ? file_map(vma) : vma->resv;
	if (c->map) {
		c->lacking = region_chg(c->map, index, index + 1);
		if (c->lacking < 0)
			return (int)c->lacking;
		promised = c->shared ? !c->lacking : c->lacking;
	}
	c->page = hugetlb_alloc_page(c->h, &from, promised);
	if (c->page)
		return 0;
	if (c->map)
		region_abort(c->map);
	return -ENOSPC;
}

void hugetlb_commit(struct huge_claim *c)
{
	page_clear(c->page, PG_RESTORE_RESERVE);
	/* Somebody who mapped the file meanwhile was promised a page for this place: it is here. */
	if (c->map && region_add(c->map, c->index, c->index + 1) < c->lacking)
		hugetlb_acct_memory(c->h, -1);
}

void hugetlb_cancel(struct huge_claim *c)
{
	if (c->map)
		region_abort(c->map);
	page_put(c->h->engine, c->page);
}

static int reserve_shared(struct vma *vma, u64 from, u64 to)
{
	struct resv_map *map = file_map(vma);
	struct hstate *h = hstate_vma(vma);
	s64 lacking = region_chg(map, from, to), added;

	if (lacking < 0)
		return (int)lacking;
	if (hugetlb_acct_memory(h, lacking)) {
		region_abort(map);
		return -ENOMEM;
	}
	added = region_add(map, from, to);
	if (added < lacking) /* others were faster with some of it */
		hugetlb_acct_memory(h, added - lacking);
	return 0;
}

int hugetlb_reserve_pages(struct vma *vma, u64 from, u64 to)
{
	if (vma->flags & VM_NORESERVE)
		return 0;
	if (vma->flags & VM_MAYSHARE)
		return reserve_shared(vma, from, to);
	vma->resv = resv_map_alloc(&vma->mm->engine->memory);
	if (!vma->resv)
		return -ENOMEM;
	if (!hugetlb_acct_memory(hstate_vma(vma), (s64)(to - from)))
		return 0;
	resv_map_put(vma->resv);
	vma->resv = NULL;
	return -ENOMEM;
}

void hugetlb_unreserve_from(struct hugetlb_inode *inode, u64 from, u64 freed)
{
	s64 had = region_del(inode->resv, from, ~0ULL); /* cuts no region in two: cannot fail */

	if (had > (s64)freed)
		hugetlb_acct_memory(inode->h, (s64)freed - had);
}

void hugetlb_unreserve_page(struct hugetlb_inode *inode, struct page *page)
{
	if (region_del(inode->resv, page->index, page->index + 1) < 0)
		page_set(page, PG_RESTORE_RESERVE); /* as it is noted, so it shall be */
}

void hugetlb_promise_again(struct vma *vma, struct page *page, u64 index)
{
	if (vma->resv && !page_test(page, PG_FILE) && !page_mapcount(page) &&
	    region_del(vma->resv, index, index + 1) == 1)
		page_set(page, PG_RESTORE_RESERVE);
}
