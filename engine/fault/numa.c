/* SPDX-License-Identifier: MIT */
/*
 * NUMA hinting faults: finding out which node uses a page, and moving it there.
 *
 *   task_numa_work     makes entries PROT_NONE, a stretch at a time, going around the space; the
 *                      areas keep their rights, which is how such an entry is told from a real one
 *   do_numa_page       the next access faults: the entry gets its rights back, the fault is counted
 *                      as local or remote, and a page that is misplaced moves to this CPU's node
 *
 * A page is moved only if two hinting faults in a row on it came from the same node: one access
 * from elsewhere, or a page that two nodes share, moves nothing.  What a policy has placed stays
 * unless it says MPOL_F_NUMA_BALANCING.  Moving takes no time to speak of: what is locked or in
 * use, or has no room on the other node without reclaim, stays.
 *
 * Huge pages are passed over whole: to ask about a part of one it would have to be split.
 */
#include "engine/fault/internal.h"
#include "engine/backing/dax.h"
#include "engine/backing/page_cache.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/migrate/migrate.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

/* ---- the scan ---- */

/* Of an entry that may be accessed: the next access is to fault.  PTL held.  True: a flush is owed.
 */
static bool change_entry(struct vma *vma, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);

	if (!pte_present(pte) || pte_special(pte))
		return false;
	vma->mm->engine->mmu->change(vma->mm, va, ptep,
				     pte_with(pte_without(pte, PTE_PRESENT), PTE_GLOBAL));
	return true;
}

u64 change_prot_numa(struct vma *vma, u64 start, u64 end)
{
	struct mm *mm = vma->mm;
	spinlock_t *ptl;
	pte_t *ptep;
	u64 n = 0;
	bool huge;

	for (u64 va = start; (ptep = pmd_next(mm, &va, end, &ptl, &huge));) {
		u64 stop = min_of((va & PMD_MASK) + PMD_SIZE, end);

		if (unlikely(huge)) {
			va = stop;
			continue;
		}
		spin_lock(ptl);
		for (; va < stop; va += PAGE_SIZE)
			n += change_entry(vma, va, ptep++);
		spin_unlock(ptl);
	}
	if (n)
		mm->engine->mmu->flush(mm, start, end);
	stat_add(&mm->engine->stats->numa_pte_updates, n);
	return n;
}

/* May pages move by themselves? */
static bool policy_allows(const struct mempolicy *p)
{
	return p->mode == UAPI_MPOL_DEFAULT || p->mode == UAPI_MPOL_LOCAL ||
	       (p->flags & UAPI_MPOL_F_NUMA_BALANCING);
}

static bool is_scanned(const struct vma *vma)
{
	u32 access = vma->flags & VM_ACCESS;
	struct mempolicy policy;

	if (!access || is_vm_hugetlb(vma) || vma_is_dax(vma))
		return false;
	/* Of shared memory that of its first page speaks for all, as in Linux. */
	policy = vma_policy(vma, vma->start);
	if (!policy_allows(&policy))
		return false;
	/* A library: everybody's. */
	return !vma->file || (access & VM_WRITE) || !(access & VM_READ);
}

u64 task_numa_work(struct mm *mm, u64 pages)
{
	struct engine *e = mm->engine;
	u64 n = 0, at, left = pages << PAGE_SHIFT;
	struct vma *vma;
	bool around = false;

	if (e->numa.nr < 2 || !can_migrate(e) || !down_read_trylock(&mm->mmap_lock))
		return 0;
	at = atomic_load_explicit(&mm->numa_scan_offset, memory_order_relaxed);
	while (left) {
		u64 stop;

		vma = find_vma(mm, at);
		if (!vma) {
			if (around)
				break;
			around = true;
			at = mm->low;
			continue;
		}
		at = max_of(at, vma->start);
		stop = min_of(vma->end, at + left);
		if (is_scanned(vma)) {
			n += change_prot_numa(vma, at, stop);
			left -= stop - at;
		} else {
			stop = vma->end;
		}
		at = stop;
	}
	atomic_store_explicit(&mm->numa_scan_offset, at, memory_order_relaxed);
	up_read(&mm->mmap_lock);
	return n;
}

u64 numa_scan(struct engine *e, u64 pages)
{
	struct mm *mm = NULL;
	u64 n = 0;

	while ((mm = mm_visit_next(e, mm)))
		n += task_numa_work(mm, pages);
	return n;
}

/* ---- the fault ---- */

/* The second fault in a row from this node? */
static bool is_second(struct page *page, unsigned nid)
{
	u8 last = atomic_exchange_explicit(&page->last_nid, (u8)nid, memory_order_relaxed);

	return last == nid;
}

/* Is it better off elsewhere?  The node, or NUMA_NO_NODE. */
static int misplaced(const struct vm_fault_info *vmf, struct page *page)
{
	const struct mempolicy p = vma_policy(vmf->vma, vmf->address);
	unsigned nid = numa_node_id(vmf->vma->mm->engine);

	if (!is_second(page, nid) || page_nid(page) == nid || !policy_allows(&p))
		return NUMA_NO_NODE;
	if (p.nodes && !node_isset(nid, p.nodes))
		return NUMA_NO_NODE;
	/* What several programs run is everybody's; what is to be written out soon stays. */
	if (page_test(page, PG_FILE) &&
	    (((vmf->vma->flags & VM_EXEC) && page_mapcount(page) > 1) ||
	     (page->mapping->ops->write_page && page_test(page, PG_DIRTY))))
		return NUMA_NO_NODE;
	return (int)nid;
}

static struct page *there_at_once(struct engine *e, const struct page *page, void *arg)
{
	const int *nid = arg;

	(void)page;
	return page_alloc_nodes(e, 0, ALLOC_NORECLAIM, (unsigned)*nid, 1u << *nid);
}

/* The page has a reference of migrate_get(). */
static void migrate_misplaced(struct engine *e, struct page *page, int nid)
{
	struct migrate_target target = { .get = there_at_once, .arg = &nid };
	int status;

	if (migrate_pages(e, &page, 1, &target, MIGRATE_ASYNC, &status))
		stat_add(&e->stats->numa_pages_migrated, 1);
}

unsigned do_numa_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	int target = NUMA_NO_NODE;
	struct page *page;

	spin_lock(vmf->ptl);
	if (!pte_same(pte_read(vmf->ptep), vmf->orig)) {
		spin_unlock(vmf->ptl);
		return 0;
	}
	e->mmu->change(mm, vmf->address, vmf->ptep,
		       pte_with(pte_without(vmf->orig, PTE_GLOBAL), PTE_PRESENT | PTE_ACCESSED));
	page = pfn_page(e, pte_pfn(vmf->orig));
	stat_add(&e->stats->numa_hint_faults, 1);
	if (page_nid(page) == numa_node_id(e))
		stat_add(&e->stats->numa_hint_faults_local, 1);
	target = misplaced(vmf, page);
	if (target != NUMA_NO_NODE && !migrate_get(e, page))
		target = NUMA_NO_NODE;
	spin_unlock(vmf->ptl);
	if (target != NUMA_NO_NODE)
		migrate_misplaced(e, page, target);
	return 0;
}
