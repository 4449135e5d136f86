/* SPDX-License-Identifier: MIT */
/*
 * From the trap to the path: which VMA, is the access allowed, what does the entry say?
 *
 *   do_user_addr_fault
 *     lock_vma, or lock_mm_and_find_vma (a stack may grow)
 *     access_error
 *     handle_mm_fault -> hugetlb_fault, or
 *                     -> __handle_mm_fault -> (without a last-level table) do_huge_pmd
 *                                          -> handle_pte_fault
 *       none               do_anonymous_page, or (the VMA has a file) do_fault
 *       swap entry         do_swap_page
 *       marker             as none, or it fails
 *       present, read-only do_wp_page
 *       being moved        migration_entry_wait
 *       PROT_NONE          do_numa_page: who uses the page was asked
 */
#include "engine/base/check.h"
#include "engine/fault/internal.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/space/huge.h"

bool access_error(u32 code, const struct vma *vma)
{
	if (code & PF_PK)
		return true;
	if (code & PF_WRITE)
		return !(vma->flags & VM_WRITE);
	/* A read of a page that is there fails only for want of a right: it was a fetch.  The right
	 * may have come since: who gives rights owes no flush. */
	if (code & PF_PROT)
		return !(code & PF_INSTR) || !(vma->flags & VM_EXEC);
	return !(vma->flags & VM_ACCESS);
}

static unsigned do_pte_missing(struct vm_fault_info *vmf)
{
	return vmf->vma->file ? do_fault(vmf) : do_anonymous_page(vmf);
}

/* No page, and something to remember. */
static unsigned handle_pte_marker(struct vm_fault_info *vmf)
{
	if (pte_marker_is(vmf->orig, PTE_MARKER_POISONED | PTE_MARKER_HWPOISON))
		return VM_FAULT_HWPOISON;
	if (pte_marker_is(vmf->orig, PTE_MARKER_GUARD))
		return VM_FAULT_SIGSEGV;
	if (vmf->vma->flags & VM_UFFD_WP)
		return do_pte_missing(vmf);
	/* Of a context that is not interested any more. */
	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		pte_store(vmf->ptep, (pte_t){ 0 });
	spin_unlock(vmf->ptl);
	return 0;
}

/* The page is being moved to another frame: wait for that, holding the lock that the fault came
 * with. */
static unsigned migration_entry_wait(struct vm_fault_info *vmf)
{
	pte_t pte;

	if (vmf->flags & FAULT_FLAG_TRYLOCK)
		return VM_FAULT_RETRY;
	spin_lock(vmf->ptl);
	pte = pte_read(vmf->ptep);
	if (pte_migrating(pte))
		page_wait_unlock(pfn_page(vmf->vma->mm->engine, pte_pfn(pte)), vmf->ptl);
	else
		spin_unlock(vmf->ptl);
	return 0;
}

static unsigned handle_pte_fault(struct vm_fault_info *vmf)
{
	struct engine *e = vmf->vma->mm->engine;

	vmf->orig = pte_read(vmf->ptep);
	observe(e, STEP_READ_TABLES, vmf->address, 1);
	if (pte_none(vmf->orig))
		return do_pte_missing(vmf);
	if (pte_is_swap(vmf->orig))
		return do_swap_page(vmf);
	if (unlikely(pte_is_marker(vmf->orig)))
		return handle_pte_marker(vmf);
	if (unlikely(pte_migrating(vmf->orig)))
		return migration_entry_wait(vmf);
	if (unlikely(pte_protnone(vmf->orig)) && (vmf->vma->flags & VM_ACCESS))
		return do_numa_page(vmf);
	if ((vmf->flags & FAULT_FLAG_ABSENT) && e->mmu->pages_vanish)
		return do_vanished_page(vmf);
	if ((vmf->flags & FAULT_FLAG_WRITE) && !pte_write(vmf->orig))
		return do_wp_page(vmf);
	/* Another CPU was first, or a stale translation was used: the access may go on. */
	return 0;
}

static unsigned __handle_mm_fault(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;

	observe(mm->engine, STEP_HANDLE_FAULT, vmf->address, 1);
	vmf->ptep = pte_find(mm, vmf->address, &vmf->ptl);
	if (unlikely(!vmf->ptep)) {
		unsigned ret = mm->engine->mmu->set_huge ? do_huge_pmd(vmf) : VM_FAULT_FALLBACK;

		if (!(ret & VM_FAULT_FALLBACK))
			return ret;
		vmf->ptep = pte_alloc(mm, vmf->address, &vmf->ptl);
	}
	if (!vmf->ptep)
		return VM_FAULT_OOM;
	return handle_pte_fault(vmf);
}

void release_fault_lock(struct vm_fault_info *vmf)
{
	/* After this the VMA may be gone at any time. */
	vmf->unlocked = true;
	if (vmf->flags & FAULT_FLAG_VMA_LOCK)
		unlock_vma(vmf->vma);
	else
		up_read(&vmf->vma->mm->mmap_lock);
}

unsigned handle_mm_fault(struct vma *vma, u64 address, unsigned flags, struct fault_result *res)
{
	struct vm_fault_info vmf = {
		.vma = vma,
		.address = address & PAGE_MASK,
		.real_address = address,
		.flags = flags,
		.res = res,
	};
	unsigned ret;

	VMF_ASSERT(rwsem_is_locked(flags & FAULT_FLAG_VMA_LOCK ? &vma->lock : &vma->mm->mmap_lock));
	VMF_ASSERT(!vma->detached && address >= vma->start && address < vma->end);
	/* What it had may be gone: see reclaim/oom.c. */
	if (unlikely(mm_is_oom_victim(vma->mm)))
		return VM_FAULT_SIGBUS;
	ret = is_vm_hugetlb(vma) ? hugetlb_fault(&vmf) : __handle_mm_fault(&vmf);
	if ((ret & VM_FAULT_RETRY) && !vmf.unlocked)
		release_fault_lock(&vmf);
	return ret;
}

/* mm_account_fault: successful faults only; a fault that comes again is counted then, as major. */
void account_fault(struct mm *mm, unsigned ret, unsigned flags, struct fault_result *res)
{
	struct engine_stats *stats = mm->engine->stats;

	res->major = (ret & VM_FAULT_MAJOR) || (flags & FAULT_FLAG_TRIED);
	if (res->major) {
		atomic_fetch_add_explicit(&mm->major, 1, memory_order_relaxed);
		stat_add(&stats->major, 1);
	} else {
		atomic_fetch_add_explicit(&mm->minor, 1, memory_order_relaxed);
		stat_add(&stats->minor, 1);
	}
	if (res->zero)
		stat_add(&stats->zero, 1);
	if (res->second_chance)
		stat_add(&stats->second_chance, 1);
	if (res->prefetched)
		stat_add(&stats->prefetched, res->prefetched);
}

/* Where memory cannot fail a page that userfaultfd has poisoned is just not to be had. */
static enum fault_reason broken(const struct engine *e, unsigned ret, struct fault_result *res)
{
	if (!e->config.memory_failure)
		return FAULT_BUS;
	res->lsb = ret & VM_FAULT_HWPOISON_LARGE ? VM_FAULT_LSB(ret) : PAGE_SHIFT;
	return FAULT_HWPOISON;
}

static enum fault_reason reason_of(const struct engine *e, unsigned ret, struct fault_result *res)
{
	if (ret & VM_FAULT_RETRY)
		return FAULT_RETRY;
	if (ret & VM_FAULT_OOM)
		return FAULT_OOM;
	if (ret & VM_FAULT_BROKEN)
		return broken(e, ret, res);
	if (ret & VM_FAULT_SIGBUS)
		return FAULT_BUS;
	if (ret & VM_FAULT_SIGSEGV)
		return FAULT_MAPERR;
	return FAULT_OK;
}

/* Frames of the zero pages. */
static u64 zero_frames(const struct engine *e)
{
	bool huge = __atomic_load_n(&e->huge_zero, __ATOMIC_RELAXED);

	return (e->zero_pfn != NO_PFN) + (huge ? HUGE_PAGES : 0);
}

#define OOM_TRIES 16
/* So long may others have what could go locked, be on the way to it, or be quicker to take what
 * came free, before it is given up: their CPUs may be busy with something else. */
#define HOPE_NS 1000000000ULL

static u64 hopes(struct engine *e)
{
	/* Dirty pages can go if they are written. */
	return atomic_load_explicit(&e->lru.hopeful, memory_order_relaxed) +
	       atomic_load_explicit(&e->flusher.written, memory_order_relaxed);
}

/*
 * Yes if there are frames that are neither free nor on a list: others are just filling them, taking
 * them away, moving or writing them out.  Yes, too, if some are on their way out and the store has
 * refused none (since it had refused `refused`): those that want them back were in the writer's
 * way.
 */
bool frames_in_flight(struct engine *e, u64 refused)
{
	u64 leaving = nr_writeout(e), known = leaving + zero_frames(e);

	if (leaving && refused == store_refusals(e))
		return true;
	if (unlikely(atomic_load_explicit(&e->migrations, memory_order_relaxed)))
		return true;
	known += zone_free_pages(e, ZONE_USER) + hugetlb_frames(e);
	known += atomic_load_explicit(&e->nr_device_pages, memory_order_relaxed);
	known += user_frames_retired(e);
	known += lru_evictable(e);
	known += lru_unevictable(e);
	return known < user_frames(e);
}

/* With mmap_lock held for reading, or NULL. */
static struct vma *lock_mm_and_find_vma(struct mm *mm, u64 address, unsigned flags)
{
	bool may_wait = !(flags & FAULT_FLAG_TRYLOCK);
	struct vma *vma;

	if (!down_read_trylock(&mm->mmap_lock)) {
		if (!may_wait)
			return NULL;
		down_read(&mm->mmap_lock);
	}
	if (!(flags & FAULT_FLAG_NO_GROW))
		return find_extend_vma(mm, address, may_wait);
	vma = find_vma(mm, address);
	if (vma && vma->start <= address)
		return vma;
	up_read(&mm->mmap_lock);
	return NULL;
}

void shortage_note(struct engine *e, struct shortage *s)
{
	s->refused = store_refusals(e);
	s->hopes = hopes(e);
}

bool shortage_may_pass(struct mm *mm, struct shortage *s, bool may_kill)
{
	struct engine *e = mm->engine;

	/* Others' frames may have come down between the two. */
	if (++s->tries < OOM_TRIES)
		return true;
	if (s->hopes != hopes(e)) {
		if (!s->since)
			s->since = machine_now_ns();
		if (machine_now_ns() - s->since <= HOPE_NS)
			return true;
	}
	if (!may_kill || out_of_memory(mm) != OOM_RETRY)
		return false;
	s->tries = 0;
	s->since = 0;
	return true;
}

/* Once through, taking and dropping the locks. */
static unsigned try_fault(struct mm *mm, u64 address, u32 code, unsigned flags,
			  struct fault_result *res)
{
	struct vma *vma = flags & FAULT_FLAG_USER ? lock_vma(mm, address) : NULL;
	unsigned ret;

	if (vma) {
		observe(mm->engine, STEP_LOCK_VMA, address, 1);
		if (access_error(code, vma)) {
			observe(mm->engine, STEP_ACCESS_ERROR, address, 1);
			unlock_vma(vma);
			res->reason = FAULT_ACCERR;
			return 0;
		}
		ret = handle_mm_fault(vma, address, flags | FAULT_FLAG_VMA_LOCK, res);
		if (!(ret & VM_FAULT_RETRY))
			unlock_vma(vma);
		return ret;
	}

	vma = lock_mm_and_find_vma(mm, address, flags);
	observe(mm->engine, STEP_LOCK_SPACE, address, 1);
	if (!vma) {
		observe(mm->engine, STEP_ACCESS_ERROR, address, 1);
		res->reason = FAULT_MAPERR;
		return 0;
	}
	if (access_error(code, vma)) {
		observe(mm->engine, STEP_ACCESS_ERROR, address, 1);
		up_read(&mm->mmap_lock);
		res->reason = FAULT_ACCERR;
		return 0;
	}
	ret = handle_mm_fault(vma, address, flags, res);
	if (!(ret & VM_FAULT_RETRY))
		up_read(&mm->mmap_lock);
	return ret;
}

/* The lock was dropped to read the page in, and that is done. */
static bool is_read_meanwhile(unsigned ret)
{
	return (ret & (VM_FAULT_RETRY | VM_FAULT_MAJOR)) == (VM_FAULT_RETRY | VM_FAULT_MAJOR);
}

struct fault_result resolve_fault(struct mm *mm, u64 address, u32 code, unsigned flags)
{
	struct fault_result res = { 0 };
	struct engine *e = mm->engine;
	struct shortage shortage = { 0 };
	unsigned ret;

	if (unlikely(code & PF_RSVD))
		vmf_panic("reserved bit set in the entry of %lx", (unsigned long)address);
	flags |= FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
	if (code & PF_WRITE)
		flags |= FAULT_FLAG_WRITE;
	if (code & PF_INSTR)
		flags |= FAULT_FLAG_INSTRUCTION;
	if (!(code & PF_PROT))
		flags |= FAULT_FLAG_ABSENT;
	for (;;) {
		shortage_note(e, &shortage);
		ret = try_fault(mm, address, code, flags, &res);
		if (unlikely(is_read_meanwhile(ret)) && !(flags & FAULT_FLAG_TRIED)) {
			flags |= FAULT_FLAG_TRIED;
			continue;
		}
		if (likely(!(ret & VM_FAULT_OOM)))
			break;
		if (frames_in_flight(e, shortage.refused)) {
			ret = VM_FAULT_RETRY;
			break;
		}
		/* Whom the kernel's own lock keeps alive could not be reaped. */
		if (!shortage_may_pass(mm, &shortage, !(flags & FAULT_FLAG_TRYLOCK)))
			break;
	}
	if (unlikely(mm_is_oom_victim(mm)))
		res.reason = FAULT_KILLED;
	if (res.reason != FAULT_OK)
		return res;
	res.reason = reason_of(e, ret, &res);
	if (res.reason == FAULT_OK)
		account_fault(mm, ret, flags, &res);
	if (!(flags & FAULT_FLAG_TRYLOCK))
		lru_watch_pages(e);
	return res;
}

struct fault_result do_user_addr_fault(struct mm *mm, u64 address, u32 code)
{
	return resolve_fault(mm, address, code, FAULT_FLAG_USER);
}
