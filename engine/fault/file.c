/* SPDX-License-Identifier: MIT */
/*
 * Faults on pages of files.
 *
 *   do_fault
 *     a read                    do_read_fault    fault-around, or the page itself
 *     a write, private mapping  do_cow_fault     a copy, which is anonymous from then on
 *     a write, shared mapping   do_shared_fault  the page itself, after page_mkwrite
 *   wp_page_shared                               the same, where it has a read-only entry
 *
 * (A write to a page that a private mapping has read-only is a copy as of any other page: wp.c.)
 *
 * All three get the page from its file locked (__do_fault) and keep it locked until its entry is
 * written: a truncation that has moved the file's end waits for that lock and unmaps the page then,
 * and whoever gets the lock after it finds the page gone.  So nothing is ever mapped behind the
 * end.
 *
 * Where the bytes must be read from a slow place, the VMA's lock is dropped for the time (the file
 * is kept by a reference), and the fault tried once more (VM_FAULT_RETRY with MAJOR): it then finds
 * the page in the cache, or reads it with the lock held.
 */
#include "engine/backing/dax.h"
#include "engine/backing/page_cache.h"
#include "engine/base/bytes.h"
#include "engine/fault/internal.h"
#include "engine/userfault/hooks.h"

/* Pages of the aligned window around a fault that are mapped if they are there: 64 KiB. */
#define FAULT_AROUND 16
/* Pages that are read around one that is missing. */
#define READ_AROUND 32

static struct address_space *mapping_of(const struct vm_fault_info *vmf)
{
	return vmf->vma->file->mapping;
}

static void put_page(struct vm_fault_info *vmf)
{
	page_unlock(vmf->page);
	page_put(vmf->vma->mm->engine, vmf->page);
}

static unsigned vmf_error(int err)
{
	if (err == -ENOMEM)
		return VM_FAULT_OOM;
	return err == -EHWPOISON ? VM_FAULT_HWPOISON : VM_FAULT_SIGBUS;
}

/* ---- getting the page ---- */

/* What is likely to be wanted with a page that is missing. */
static void read_around(struct address_space *m, u64 pgoff, u32 vm_flags)
{
	u64 start = pgoff;

	if (vm_flags & VM_RAND_READ)
		return;
	if (!(vm_flags & VM_SEQ_READ))
		start -= min_of(pgoff, (u64)READ_AROUND / 2);
	page_cache_readahead(m, start, READ_AROUND);
}

/* Read the page without the VMA's lock. */
static unsigned read_unlocked(struct vm_fault_info *vmf)
{
	struct file *file = file_get(vmf->vma->file);
	struct address_space *m = file->mapping;
	u32 vm_flags = vmf->vma->flags;
	struct page *page;
	bool major;

	release_fault_lock(vmf);
	read_around(m, vmf->pgoff, vm_flags);
	/* An error is told by the second try, which does not come here. */
	if (!m->ops->get_page(m, vmf->pgoff, PAGE_MAP, &page, &major)) {
		page_unlock(page);
		page_put(m->engine, page);
	}
	file_put(file);
	return VM_FAULT_RETRY | VM_FAULT_MAJOR;
}

static bool may_drop_lock(const struct vm_fault_info *vmf)
{
	return (vmf->flags & (FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_RETRY_NOWAIT |
			      FAULT_FLAG_TRIED)) == FAULT_FLAG_ALLOW_RETRY;
}

/* The same in an area that a userfaultfd watches: what it asked for is told it instead. */
static unsigned __do_fault_watched(struct vm_fault_info *vmf, bool *major)
{
	struct address_space *m = mapping_of(vmf);
	u32 watched = vmf->vma->flags;
	/* Where nothing is, nothing is made if somebody else is to. */
	enum page_use use = watched & VM_UFFD_MISSING ? PAGE_READ : PAGE_MAP;
	int err;

	if ((watched & VM_UFFD_MINOR) && mapping_has(m, vmf->pgoff))
		return handle_userfault(vmf, VM_UFFD_MINOR);
	err = m->ops->get_page(m, vmf->pgoff, use, &vmf->page, major);
	if (err == -ENOENT)
		return handle_userfault(vmf, VM_UFFD_MISSING);
	if (err)
		return vmf_error(err);
	return 0;
}

/* vmf->page: locked, up to date, with a reference, before the file's end. */
static unsigned __do_fault(struct vm_fault_info *vmf)
{
	struct address_space *m = mapping_of(vmf);
	bool major = false;
	int err;

	if (vmf->pgoff >= mapping_size_pages(m))
		return VM_FAULT_SIGBUS;
	if (m->ops->read_page && may_drop_lock(vmf) && !page_cache_present(m, vmf->pgoff))
		return read_unlocked(vmf);
	if (unlikely(vmf->vma->flags & VM_UFFD) && vma_is_shmem(vmf->vma)) {
		unsigned ret = __do_fault_watched(vmf, &major);

		return ret | (major ? VM_FAULT_MAJOR : 0);
	}
	err = m->ops->get_page(m, vmf->pgoff, PAGE_MAP, &vmf->page, &major);
	if (err)
		return vmf_error(err);
	return major ? VM_FAULT_MAJOR : 0;
}

/* ---- writing the entry ---- */

/* The entry maps the page now, with the page's reference.  PTL and page lock held. */
static int set_file_pte(struct vm_fault_info *vmf, u64 va, pte_t *ptep, struct page *page, u64 bits)
{
	struct mm *mm = vmf->vma->mm;
	pte_t pte = pte_make(page_pfn(mm->engine, page), bits);
	int n;

	if (va == vmf->address)
		pte = keep_uffd_wp(vmf, pte);
	n = mm->engine->mmu->set(mm, va, ptep, &pte, &page, 1);

	if (n > 0)
		page_add_file_rmap(mm, page);
	return n;
}

/* Map vmf->page, which is unlocked; without an entry its reference goes. */
static unsigned finish_fault(struct vm_fault_info *vmf)
{
	bool write = vmf->flags & FAULT_FLAG_WRITE;
	u64 bits = vma_file_pte_bits(vmf->vma, write) | PTE_ACCESSED | (write ? PTE_DIRTY : 0);
	int n = 0;

	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig))
		n = set_file_pte(vmf, vmf->address, vmf->ptep, vmf->page, bits);
	spin_unlock(vmf->ptl);
	page_unlock(vmf->page);
	if (n <= 0)
		page_put(vmf->vma->mm->engine, vmf->page);
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	return n ? 0 : VM_FAULT_NOPAGE; /* somebody was first */
}

/* ---- reads ---- */

/*
 * Map what is there of the window around the fault: pages in the cache that nobody has locked.
 * True: the one asked for is among them.
 */
static bool do_fault_around(struct vm_fault_info *vmf)
{
	struct vma *vma = vmf->vma;
	struct address_space *m = mapping_of(vmf);
	struct page *pages[FAULT_AROUND];
	u64 window = FAULT_AROUND * PAGE_SIZE, bits = vma_file_pte_bits(vma, false);
	/* It begins where the area does, and is as large then as elsewhere. */
	u64 start = max_of(vmf->address & ~(window - 1), vma->start);
	u64 end = min_of(min_of(start + window, vma->end), (vmf->address & PMD_MASK) + PMD_SIZE);
	u64 first = vmf->pgoff - ((vmf->address - start) >> PAGE_SHIFT);
	u64 behind = first + ((end - start) >> PAGE_SHIFT);
	unsigned n = find_trylock_pages(m, first, behind, pages, FAULT_AROUND);
	bool mapped;

	if (!n)
		return false;
	spin_lock(vmf->ptl);
	for (unsigned i = 0; i < n; i++) {
		u64 va = start + ((pages[i]->index - first) << PAGE_SHIFT);
		pte_t *ptep = vmf->ptep + ((s64)(va - vmf->address) >> PAGE_SHIFT);
		u64 accessed = va == vmf->address ? PTE_ACCESSED : 0;

		/* Looked at with the page locked: see the head of this file. */
		if (pages[i]->index < mapping_size_pages(m) && pte_none(pte_read(ptep)) &&
		    set_file_pte(vmf, va, ptep, pages[i], bits | accessed) > 0) {
			page_unlock(pages[i]);
			pages[i] = NULL;
		}
	}
	mapped = !pte_none(pte_read(vmf->ptep));
	spin_unlock(vmf->ptl);
	for (unsigned i = 0; i < n; i++) {
		if (!pages[i])
			continue;
		page_unlock(pages[i]);
		page_put(m->engine, pages[i]);
	}
	return mapped;
}

static unsigned do_read_fault(struct vm_fault_info *vmf)
{
	unsigned ret;

	/* Entries that somebody wants to be asked for, or has marked, come one by one. */
	if (likely(!(vmf->vma->flags & (VM_UFFD_WP | VM_UFFD_MINOR))) && do_fault_around(vmf))
		return VM_FAULT_NOPAGE;
	ret = __do_fault(vmf);
	if (ret & (VM_FAULT_ERROR | VM_FAULT_RETRY))
		return ret;
	return ret | finish_fault(vmf);
}

/* ---- writes ---- */

/* A staged frame for a private copy; NULL and *ret. */
static struct page *alloc_cow_page(struct vm_fault_info *vmf, unsigned *ret)
{
	struct engine *e = vmf->vma->mm->engine;
	struct page *page;

	*ret = VM_FAULT_OOM;
	/* Without mmap_lock there is one: lock_vma() sees to it. */
	if (!vma_anon(vmf->vma) && anon_vma_prepare(vmf->vma))
		return NULL;
	page = vma_alloc_page(vmf->vma, vmf->address, 0, 0);
	if (!page)
		return NULL;
	page_init_flags(page, PG_ANON_EXCLUSIVE);
	if (e->mmu->stage(e, &page, 1)) {
		page_put(e, page);
		*ret = VM_FAULT_RETRY;
		return NULL;
	}
	return page;
}

static unsigned do_cow_fault(struct vm_fault_info *vmf)
{
	struct engine *e = vmf->vma->mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	struct page *copy;
	unsigned ret;
	int n = 0;

	copy = alloc_cow_page(vmf, &ret);
	if (!copy)
		return ret;
	ret = __do_fault(vmf);
	if (ret & (VM_FAULT_ERROR | VM_FAULT_RETRY)) {
		run_free(e, &copy, 1, true);
		return ret;
	}
	shared_copy(e->mmu->bytes(e, copy), page_direct(e, vmf->page), PAGE_SIZE);

	spin_lock(vmf->ptl);
	if (pte_same(pte_read(vmf->ptep), vmf->orig)) {
		n = run_set(vmf, &run, &copy);
		if (n > 0)
			run_account(vmf, &run, &copy, 1);
	}
	spin_unlock(vmf->ptl);
	put_page(vmf);
	if (n <= 0)
		run_free(e, &copy, 1, true);
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	return n ? ret : VM_FAULT_NOPAGE;
}

/* Tell the file that vmf->page is about to be written through a shared mapping: it is dirty from
 * here on.  0, or VM_FAULT_SIGBUS or _OOM.  Page lock held. */
static unsigned do_page_mkwrite(struct vm_fault_info *vmf)
{
	struct address_space *m = mapping_of(vmf);
	int err = m->ops->page_mkwrite ? m->ops->page_mkwrite(m, vmf->page) : 0;

	if (err)
		return vmf_error(err);
	page_mark_dirty(m, vmf->page);
	return 0;
}

/* There may be too many dirty pages: before there is one more, and not after, or this one could be
 * written, and be read-only again, before the access has been made. */
static void throttle(const struct vm_fault_info *vmf)
{
	balance_dirty_pages(vmf->vma->mm->engine);
}

static unsigned do_shared_fault(struct vm_fault_info *vmf)
{
	unsigned ret, err;

	throttle(vmf);
	ret = __do_fault(vmf);
	if (ret & (VM_FAULT_ERROR | VM_FAULT_RETRY))
		return ret;
	err = do_page_mkwrite(vmf);
	if (err) {
		put_page(vmf);
		return err;
	}
	return ret | finish_fault(vmf);
}

unsigned wp_page_shared(struct vm_fault_info *vmf, struct page *page)
{
	struct mm *mm = vmf->vma->mm;
	unsigned ret = 0;

	throttle(vmf);
	page_lock(page);
	vmf->page = page;
	/* Out of the file by now?  Then out of the entry, too. */
	if (page->mapping != mapping_of(vmf))
		goto out;
	ret = do_page_mkwrite(vmf);
	spin_lock(vmf->ptl);
	if (!ret && pte_same(pte_read(vmf->ptep), vmf->orig))
		mm->engine->mmu->change(mm, vmf->address, vmf->ptep,
					pte_with(vmf->orig, PTE_WRITE | PTE_DIRTY | PTE_ACCESSED));
	spin_unlock(vmf->ptl);
out:
	put_page(vmf);
	return ret;
}

unsigned do_fault(struct vm_fault_info *vmf)
{
	struct vma *vma = vmf->vma;

	observe(vma->mm->engine, STEP_FILE, vmf->address, 1);
	vmf->pgoff = vma->pgoff + ((vmf->address - vma->start) >> PAGE_SHIFT);
	if (unlikely(vma_is_dax(vma)))
		return dax_fault(vmf);
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return do_read_fault(vmf);
	if (!(vma->flags & VM_SHARED))
		return do_cow_fault(vmf);
	return do_shared_fault(vmf);
}
