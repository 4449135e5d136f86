/* SPDX-License-Identifier: MIT */
/*
 * From node to node by call; see numa.h.
 *
 * A walk over areas collects pages, a table at a time under its lock, and moves them when it has a
 * batch, with no lock but mmap_lock.
 */
#include "engine/migrate/numa.h"

#include "engine/backing/shared_policy.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/migrate/migrate.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

struct mover {
	struct mm *mm;
	nodemask_t from; /* pages on these are to go */
	u64 flags;	 /* UAPI_MPOL_MF_MOVE and so on; none of both: they are only counted */
	struct migrate_target target;
	struct page *pages[MMU_BATCH];
	unsigned n;
	u64 left; /* are still where they were */
};

static void move_batch(struct mover *m)
{
	int status[MMU_BATCH];

	m->left += m->n -
		   migrate_pages(m->mm->engine, m->pages, m->n, &m->target, MIGRATE_SYNC, status);
	m->n = 0;
}

/* The page is not this caller's to move, and nobody's mistake. */
static bool is_others(const struct mover *m, const struct page *page)
{
	return (m->flags & UAPI_MPOL_MF_MOVE) && !(m->flags & UAPI_MPOL_MF_MOVE_ALL) &&
	       page_mapcount(page) > 1;
}

/* PTL held. */
static void look_at_entry(struct mover *m, pte_t pte)
{
	struct page *page = pfn_page(m->mm->engine, pte_pfn(pte));

	if (!pte_mapped(pte) || pte_special(pte) || !node_isset(page_nid(page), m->from) ||
	    is_others(m, page))
		return;
	if (!(m->flags & (UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_MOVE_ALL)))
		m->left++;
	else if (migrate_get(m->mm->engine, page))
		m->pages[m->n++] = page;
	else
		m->left++;
}

/* A huge entry, of which [va, stop) is meant: true if there is nothing to move.  Else it is split,
 * and single pages go.  A page of a pool stays. */
static bool look_at_huge(struct mover *m, u64 va, u64 stop, pte_t *pmdp, spinlock_t *ptl)
{
	bool done = true;
	struct page *page;
	pte_t pmd;

	if (!pmd_lock_huge(m->mm, pmdp, ptl))
		return false; /* not any more */
	pmd = pte_read(pmdp);
	page = pfn_page(m->mm->engine, pte_pfn(pmd));
	if (pte_special(pmd) || !node_isset(page_nid(page), m->from) || is_others(m, page))
		;
	else if (!(m->flags & (UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_MOVE_ALL)) || is_of_pool(page))
		m->left += (stop - va) >> PAGE_SHIFT;
	else
		done = false;
	spin_unlock(ptl);
	if (!done)
		split_huge_pmd(m->mm, va);
	return done;
}

static void move_range(struct mover *m, u64 start, u64 end)
{
	spinlock_t *ptl;
	pte_t *ptep;
	bool huge;

	for (u64 va = start; (ptep = pmd_next(m->mm, &va, end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (unlikely(huge)) {
			if (look_at_huge(m, va, stop, ptep, ptl))
				va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop && m->n < MMU_BATCH; va += PAGE_SIZE)
			look_at_entry(m, pte_read(ptep++));
		spin_unlock(ptl);
		if (m->n == MMU_BATCH)
			move_batch(m);
	}
	move_batch(m);
}

/* ---- mbind ---- */

/* Does an area lie at each address of it, or (holes) at any? */
static bool is_covered(const struct mm *mm, u64 start, u64 end, bool holes)
{
	const struct vma *vma = find_vma(mm, start);

	if (holes)
		return vma && vma->start < end;

	for (; vma && vma->start <= start; vma = vma_next(vma)) {
		start = vma->end;
		if (start >= end)
			return true;
	}
	return false;
}

/* With MPOL_MF_STRICT alone nothing is bound if a page lies elsewhere.  Area by area, as Linux
 * looks: 0; -EFAULT: a hole comes first; -EIO: such a page. */
static int look_strictly(struct mover *m, u64 start, u64 end)
{
	const struct vma *vma = find_vma(m->mm, start);

	for (u64 stop; start < end; start = stop, vma = vma_next(vma)) {
		const struct vma *next;

		if (!vma || vma->start > start)
			return -EFAULT;
		stop = min_of(vma->end, end);
		next = vma_next(vma);
		if (stop < end && (!next || next->start > stop))
			return -EFAULT;
		move_range(m, start, stop);
		if (m->left)
			return -EIO;
	}
	return 0;
}

/* What of the area lies in [start, end), and what it merges with then, which is returned; NULL: no
 * memory. */
static struct vma *bind_area(struct vma *vma, u64 start, u64 end, struct mempolicy policy)
{
	const struct engine_memory *memory = &vma->mm->engine->memory;
	struct shared_policy *shared = vma_shared_policy(vma);
	struct shared_policy_room room;

	if (shared && shared_policy_get_room(memory, &room))
		return NULL;
	vma = vma_modify(vma, start, end, vma->flags, policy);
	if (vma)
		vma = vma_merge(vma);
	/* All of it: so does Linux, whatever others have said of the rest meanwhile. */
	if (vma && shared)
		shared_policy_set(shared, memory, vma->pgoff, vma_pgoff_end(vma), &policy, &room);
	if (shared)
		shared_policy_put_room(memory, &room);
	return vma;
}

/* 0; -EINVAL: it begins or ends within a page of a pool; -ENOMEM.  What comes before has it. */
static int bind_range(struct mm *mm, u64 start, u64 end, struct mempolicy policy)
{
	while (start < end) {
		struct vma *vma = find_vma(mm, start);
		int err;

		if (!vma || vma->start >= end)
			return 0;
		if (!mpol_equal(&vma->policy, &policy)) {
			err = vma_may_modify(vma, start, end);
			if (err)
				return err;
			vma = bind_area(vma, start, end, policy);
			if (!vma)
				return -ENOMEM;
		}
		start = vma->end;
	}
	return 0;
}

static struct page *by_policy(struct engine *e, const struct page *page, void *arg)
{
	return policy_alloc_page(e, arg, page->index, 0, 0);
}

int do_mbind(struct mm *mm, u64 start, u64 len, u64 mode, const u64 *nmask, u64 maxnode, u64 flags)
{
	const u64 known = UAPI_MPOL_MF_STRICT | UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_MOVE_ALL;
	bool holes, strict;
	struct mover m = { .mm = mm, .flags = flags };
	u64 end = start + PAGE_ALIGN(len);
	struct mempolicy policy, effective;
	u64 nodes;
	int err = mpol_check_mode(mode);

	err = err ?: get_nodes(&nodes, nmask, maxnode);
	if (err)
		return err;
	if (flags & ~known)
		return -EINVAL;
	if ((flags & UAPI_MPOL_MF_MOVE_ALL) && !mm->limits.may_move_shared)
		return -EPERM;
	if (!PAGE_ALIGNED(start) || end < start)
		return -EINVAL;
	if (end == start)
		return 0;
	err = mpol_parse(mm->engine, mode, nodes, &policy);
	if (err)
		return err;
	holes = policy.mode == UAPI_MPOL_DEFAULT;
	if (holes)
		m.flags &= ~(u64)UAPI_MPOL_MF_STRICT;
	strict = m.flags == UAPI_MPOL_MF_STRICT;
	/* As they were given: so does Linux. */
	m.from = node_states(mm->engine) & ~(nodemask_t)nodes;
	down_write(&mm->mmap_lock);
	if (strict)
		err = look_strictly(&m, start, end);
	else
		err = is_covered(mm, start, end, holes) ? 0 : -EFAULT;
	err = err ?: bind_range(mm, start, end, policy);
	effective = holes ? mm->policy : policy;
	m.target = (struct migrate_target){ .get = by_policy, .arg = &effective };
	if (!err && m.flags && !strict)
		move_range(&m, start, end);
	up_write(&mm->mmap_lock);
	return !err && m.left && (m.flags & UAPI_MPOL_MF_STRICT) ? -EIO : err;
}

/* ---- move_pages ---- */

/* The entry of va, and the lock of its table.  A huge page that is to go to node `nid` is split for
 * that; one that stays is told of in *status, as are those that are not there, with NULL. */
static pte_t *find_entry(struct vma *vma, u64 va, int nid, u64 flags, spinlock_t **ptl, int *status)
{
	struct mm *mm = vma->mm;
	pte_t *ptep = pte_find(mm, va, ptl), pte;
	struct page *page;

	*status = -ENOENT;
	if (ptep)
		return ptep;
	/* (What goes meanwhile was there; and a frame's node does not change.) */
	pte = pte_peek(mm, va);
	if (!pte_mapped(pte))
		return NULL;
	page = pfn_page(mm->engine, pte_pfn(pte));
	*status = pte_special(pte) ? -EFAULT : (int)page_nid(page);
	if (*status < 0 || nid == NUMA_NO_NODE || *status == nid)
		return NULL;
	if (page_mapcount(page_head(page)) > 1 && !(flags & UAPI_MPOL_MF_MOVE_ALL))
		*status = -EACCES;
	else if (is_vm_hugetlb(vma))
		*status = -EBUSY;
	if (*status < 0)
		return NULL;
	split_huge_pmd(mm, va);
	*status = -ENOENT;
	return pte_find(mm, va, ptl);
}

/* The page at va, if it may go by `flags`: with a reference if it is not on node `nid`
 * (NUMA_NO_NODE: wherever it is, without one).  Its node, or an error as in numa.h. */
static int find_page(struct mm *mm, u64 va, int nid, u64 flags, struct page **found)
{
	struct vma *vma = find_vma(mm, va);
	spinlock_t *ptl;
	pte_t *ptep, pte;
	struct page *page;
	int status;

	*found = NULL;
	if (!vma || vma->start > va)
		return -EFAULT;
	ptep = find_entry(vma, va, nid, flags, &ptl, &status);
	if (!ptep)
		return status;
	spin_lock(ptl);
	pte = pte_read(ptep);
	if (pte_mapped(pte)) {
		page = pfn_page(mm->engine, pte_pfn(pte));
		status = pte_special(pte) ? -EFAULT : (int)page_nid(page);
		if (status >= 0 && nid != NUMA_NO_NODE && status != nid) {
			if (page_mapcount(page) > 1 && !(flags & UAPI_MPOL_MF_MOVE_ALL))
				status = -EACCES;
			else if (migrate_get(mm->engine, page))
				*found = page;
			else
				status = -EBUSY;
		}
	}
	spin_unlock(ptl);
	return status;
}

static struct page *on_node(struct engine *e, const struct page *page, void *arg)
{
	const int *nid = arg;

	(void)page;
	return page_alloc_nodes(e, 0, 0, (unsigned)*nid, 1u << *nid);
}

/* True: it could not be moved, though it was to be. */
static bool move_one(struct mm *mm, u64 va, int nid, u64 flags, int *status)
{
	struct migrate_target target = { .get = on_node, .arg = &nid };
	struct page *page;
	int err;

	*status = find_page(mm, va, nid, flags, &page);
	if (!page)
		return false;
	migrate_pages(mm->engine, &page, 1, &target, MIGRATE_SYNC, &err);
	if (!err)
		*status = nid;
	return err;
}

s64 do_move_pages(struct mm *mm, u64 n, const u64 *pages, const int *nodes, int *status, u64 flags)
{
	struct page *page;
	s64 left = 0;

	if (flags & ~(u64)(UAPI_MPOL_MF_MOVE | UAPI_MPOL_MF_MOVE_ALL))
		return -EINVAL;
	if ((flags & UAPI_MPOL_MF_MOVE_ALL) && !mm->limits.may_move_shared)
		return -EPERM;
	down_read(&mm->mmap_lock);
	for (u64 i = 0; i < n && left >= 0; i++) {
		u64 va = pages[i] & PAGE_MASK;

		if (!nodes)
			status[i] = find_page(mm, va, NUMA_NO_NODE, flags, &page);
		else if (nodes[i] < 0 || !node_isset((unsigned)nodes[i], node_states(mm->engine)))
			left = -ENODEV;
		else
			left += move_one(mm, va, nodes[i], flags, &status[i]);
	}
	up_read(&mm->mmap_lock);
	return left;
}

/* ---- migrate_pages ---- */

struct remap {
	nodemask_t from, to;
};

/* The n-th of `from` becomes the n-th of `to`, going around. */
static int remap_node(const struct remap *r, unsigned nid)
{
	nodemask_t to = r->to;

	for (unsigned n = nodes_weight(r->from & ((1u << nid) - 1)) % nodes_weight(to); n; n--)
		to &= to - 1;
	return (int)first_node(to);
}

static struct page *by_remap(struct engine *e, const struct page *page, void *arg)
{
	int nid = remap_node(arg, page_nid(page));

	return on_node(e, page, &nid);
}

s64 do_migrate_pages(struct mm *mm, u64 maxnode, const u64 *from, const u64 *to)
{
	struct mover m = { .mm = mm };
	nodemask_t there = node_states(mm->engine);
	u64 old, new;
	struct remap r;
	struct vma *vma;
	int err = get_nodes(&old, from, maxnode);

	err = err ?: get_nodes(&new, to, maxnode);
	if (err)
		return err;
	if ((new & ~(u64)there) && !mm->limits.may_move_shared)
		return -EPERM;
	r.from = (nodemask_t)old & there;
	r.to = (nodemask_t) new &there;
	if (!r.to)
		return -EINVAL;
	m.flags = mm->limits.may_move_shared ? UAPI_MPOL_MF_MOVE_ALL : UAPI_MPOL_MF_MOVE;
	m.target = (struct migrate_target){ .get = by_remap, .arg = &r };
	for (unsigned nid = 0; nid < mm->engine->numa.nr; nid++) {
		/* Those that are among the new ones stay, if these are more or fewer. */
		if (!node_isset(nid, r.from) ||
		    (nodes_weight(r.from) != nodes_weight(r.to) && node_isset(nid, r.to)))
			continue;
		if (remap_node(&r, nid) != (int)nid)
			m.from |= 1u << nid;
	}
	down_read(&mm->mmap_lock);
	list_for_each_entry (vma, &mm->vmas, link)
		move_range(&m, vma->start, vma->end);
	up_read(&mm->mmap_lock);
	return (s64)m.left;
}
