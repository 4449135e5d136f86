/* SPDX-License-Identifier: MIT */
/*
 * Entries that the monitor fills: UFFDIO_COPY, ZEROPAGE, CONTINUE and POISON.
 *
 * Page by page, with mmap_lock held for reading, as a fault would.  The bytes of the program are
 * copied without faulting there (who serves that fault might need mmap_lock for writing); if they
 * are not to be had so, the locks go, the bytes are fetched into a frame, and it begins anew at
 * that page with the frame in hand.
 *
 * Huge pages go by themselves: fill_huge.c.
 *
 * In a private area a page is the area's own, file or not.  In shared memory it enters the file,
 * and then the entry; if the entry is taken it leaves the file again.
 */
#include "engine/backing/page_cache.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/kernel/uaccess.h"
#include "engine/space/huge.h"
#include "engine/userfault/fill.h"

void fill_drop(struct fill *f)
{
	struct engine *e = f->ctx->engine;

	if (f->page) {
		e->mmu->unstage(e, f->page);
		page_put(e, f->page);
	}
	f->page = NULL;
	if (f->buffer)
		e->memory.free(e->memory.ctx, f->buffer, f->buffer_size);
	f->buffer = NULL;
	f->fetched = false;
}

/* A staged frame in hand.  0, -ENOMEM, -EAGAIN (no room in the machine just now). */
static int fill_alloc(struct fill *f, const struct vma *vma, u64 va)
{
	struct engine *e = f->ctx->engine;
	struct page *page;

	if (f->page)
		return 0;
	page = vma_alloc_page_for_call(vma, va, 0);
	if (!page)
		return -ENOMEM;
	if (e->mmu->stage(e, &page, 1)) {
		page_put(e, page);
		return -EAGAIN;
	}
	f->page = page;
	observe(e, STEP_ALLOC_FRAMES, 0, 1);
	return 0;
}

/* The same with the bytes in it; or -ENOENT: they must be fetched without locks. */
static int fill_page(struct fill *f, const struct vma *vma, u64 va)
{
	struct engine *e = f->ctx->engine;
	int err = fill_alloc(f, vma, va);
	void *to;

	if (err || f->fetched)
		return err;
	to = e->mmu->bytes(e, f->page);
	if (f->kind == FILL_ZERO)
		memset(to, 0, PAGE_SIZE);
	else if (!f->u)
		memcpy(to, (const void *)(uintptr_t)f->src, PAGE_SIZE);
	else if (copy_from_user_nofault(f->u, to, f->src, PAGE_SIZE))
		return -ENOENT;
	f->fetched = true;
	observe(e, f->kind == FILL_ZERO ? STEP_ZERO : STEP_COPY, 0, 1);
	return 0;
}

/* The same without locks.  0, -EFAULT. */
static int fetch_unlocked(struct fill *f)
{
	struct engine *e = f->ctx->engine;

	if (f->buffer)
		return fetch_huge_unlocked(f);
	if (copy_from_user(f->u, e->mmu->bytes(e, f->page), f->src, PAGE_SIZE))
		return -EFAULT;
	f->fetched = true;
	return 0;
}

static bool is_behind_file(const struct vma *vma, u64 va)
{
	return vma->file && vma_page_index(vma, va) >= mapping_size_pages(vma->file->mapping);
}

/* A marker may be filled over; but not one that tells of a page that was there. */
static bool may_be_filled(pte_t pte)
{
	return pte_none(pte) || (pte_is_marker(pte) && !pte_marker_is(pte, PTE_MARKER_HWPOISON));
}

int fill_install(struct fill *f, struct vma *vma, u64 va, struct page *page, bool in_file)
{
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	u64 bits = vma_pte_bits(vma);
	spinlock_t *ptl;
	pte_t *ptep = pte_alloc(mm, va, &ptl), pte;
	int n;

	if (!ptep)
		return -ENOMEM;
	if (in_file && !(vma->flags & VM_SHARED))
		bits &= ~PTE_WRITE; /* its first write is a copy */
	/* Dirty, so that the file's page is not dropped as one of which nobody knows. */
	pte = pte_make(page_pfn(e, page), bits | PTE_DIRTY);
	if (f->wp)
		pte = pte_mkuffd_wp(pte);
	spin_lock(ptl);
	n = -EEXIST;
	if (is_behind_file(vma, va))
		n = -EFAULT;
	else if (may_be_filled(pte_read(ptep)))
		n = e->mmu->set(mm, va, ptep, &pte, &page, 1);
	observe(e, STEP_MAP, va, max_of(n, 0));
	if (n > 0 && in_file) {
		page_add_file_rmap(mm, page);
	} else if (n > 0) {
		page_add_anon_rmap(page, vma, va);
		lru_add(e, page);
		atomic_fetch_add_explicit(&mm->rss, 1, memory_order_relaxed);
	}
	spin_unlock(ptl);
	return min_of(n, 0);
}

/* ---- private areas ---- */

static int fill_private(struct fill *f, struct vma *vma, u64 va)
{
	int err = fill_page(f, vma, va);

	if (err)
		return err;
	page_init_flags(f->page, PG_ANON_EXCLUSIVE);
	err = fill_install(f, vma, va, f->page, false);
	if (!err)
		f->page = NULL; /* the entry's */
	else
		page_clear(f->page, PG_ANON_EXCLUSIVE);
	return err;
}

static int fill_zeropage(struct fill *f, struct vma *vma, u64 va)
{
	struct mm *mm = vma->mm;
	struct engine *e = mm->engine;
	struct page *page;
	spinlock_t *ptl;
	pte_t *ptep, pte;
	int n = -EEXIST;

	if (e->zero_pfn == NO_PFN)
		return fill_private(f, vma, va);
	ptep = pte_alloc(mm, va, &ptl);
	if (!ptep)
		return -ENOMEM;
	pte = pte_make(e->zero_pfn, (vma_pte_bits(vma) & ~PTE_WRITE) | PTE_SPECIAL);
	page = pfn_page(e, e->zero_pfn);
	spin_lock(ptl);
	if (is_behind_file(vma, va))
		n = -EFAULT;
	else if (pte_none(pte_read(ptep))) /* and no marker: unlike with a page */
		n = e->mmu->set(mm, va, ptep, &pte, &page, 1);
	spin_unlock(ptl);
	return min_of(n, 0);
}

/* ---- shared memory ---- */

/* The page, locked and full of bytes, enters the file. */
static int enter_file(struct fill *f, struct address_space *m, u64 index)
{
	int err = -EFAULT;
	u64 none; /* no page was ever there, or it went as swap */

	down_read(&m->invalidate_lock);
	if (index < mapping_size_pages(m))
		err = page_cache_add(m, f->page, index, NULL, &none);
	if (!err) {
		page_set(f->page, PG_UPTODATE);
		lru_add(m->engine, f->page);
		page_mark_dirty(m, f->page);
	}
	up_read(&m->invalidate_lock);
	return err;
}

static int fill_shmem(struct fill *f, struct vma *vma, u64 va)
{
	struct address_space *m = vma->file->mapping;
	struct page *page;
	int err = fill_page(f, vma, va);

	if (err)
		return err;
	page = f->page;
	page_lock(page);
	err = enter_file(f, m, vma_page_index(vma, va));
	if (err) {
		page_unlock(page);
		return err;
	}
	err = fill_install(f, vma, va, page, true);
	if (err)
		page_cache_delete(page, NULL);
	else
		f->page = NULL; /* our reference is the entry's */
	page_unlock(page);
	if (err)
		fill_drop(f); /* it has been somebody's page: others may have seen it */
	return err;
}

static int fill_continue(struct fill *f, struct vma *vma, u64 va)
{
	struct address_space *m = vma->file->mapping;
	struct page *page;
	bool major;
	int err = m->ops->get_page(m, vma_page_index(vma, va), PAGE_READ, &page, &major);

	if (err == -EFAULT)
		return -EINVAL; /* behind the end: so Linux says here, and only here */
	if (err)
		return err == -ENOENT ? -EFAULT : err;
	err = fill_install(f, vma, va, page, true);
	page_unlock(page);
	if (err)
		page_put(m->engine, page);
	return err;
}

/* ---- no page ---- */

static int fill_poison(struct vma *vma, u64 va)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_alloc(vma->mm, va, &ptl);
	int err = 0;

	if (!ptep)
		return -ENOMEM;
	spin_lock(ptl);
	if (is_behind_file(vma, va))
		err = -EFAULT;
	else if (!pte_none(pte_read(ptep)))
		err = -EEXIST;
	else
		pte_store(ptep, pte_make_marker(PTE_MARKER_POISONED));
	spin_unlock(ptl);
	return err;
}

/* ---- a range ---- */

/* A huge page is there, and is not split for that. */
static bool is_huge(struct mm *mm, u64 va)
{
	spinlock_t *ptl;
	const pte_t *pmdp = pmd_find(mm, va, &ptl);

	return pmdp && pte_huge(pte_read(pmdp));
}

static int fill_one(struct fill *f, struct vma *vma, u64 va)
{
	if (vma_is_anonymous(vma) && is_huge(vma->mm, va))
		return -EEXIST;
	if (f->kind == FILL_CONTINUE)
		return fill_continue(f, vma, va);
	if (f->kind == FILL_POISON)
		return fill_poison(vma, va);
	if (vma->flags & VM_SHARED)
		return fill_shmem(f, vma, va);
	return f->kind == FILL_ZERO ? fill_zeropage(f, vma, va) : fill_private(f, vma, va);
}

/* The area that all of [va, end) lies in, registered with whomever.  0, -ENOENT, -ENOMEM. */
static int find_dst_vma(struct mm *mm, u64 va, u64 end, struct vma **vma)
{
	int err = find_vma_and_prepare_anon(mm, va, vma);

	return err ? err : end <= (*vma)->end && (*vma)->uffd ? 0 : -ENOENT;
}

int find_vma_and_prepare_anon(struct mm *mm, u64 va, struct vma **out)
{
	struct vma *vma = find_vma(mm, va);

	if (!vma || vma->start > va)
		return -ENOENT;
	*out = vma;
	return vma->flags & VM_SHARED || vma_anon(vma) ? 0 : anon_vma_prepare(vma);
}

/* What can be done under one hold of the locks: what is left of [*va, end) when it cannot go on is
 * the answer's business.  0, -ENOENT (with f->page: its bytes must be fetched), or an error. */
static int fill_locked(struct fill *f, struct mm *mm, u64 *va, u64 end)
{
	struct vma *vma;
	int err = find_dst_vma(mm, *va, end, &vma);

	f->must_fetch = false;
	if (err)
		return err;
	if (atomic_load(&f->ctx->mmap_changing))
		return -EAGAIN;
	if (f->wp && !(vma->flags & VM_UFFD_WP))
		return -EINVAL;
	if (is_vm_hugetlb(vma))
		return fill_huge_locked(f, vma, va, end);
	if (!vma_is_anonymous(vma) && !vma_is_shmem(vma))
		return -EINVAL;
	if (f->kind == FILL_CONTINUE && !vma_is_shmem(vma))
		return -EINVAL;
	for (; *va < end; *va += PAGE_SIZE, f->src += PAGE_SIZE) {
		err = fill_one(f, vma, *va);
		f->must_fetch = err == -ENOENT;
		if (err)
			break;
		f->fetched = false;
	}
	return err;
}

/* Bytes filled, or the error that came first. */
static s64 mfill_atomic(struct fill *f, struct mm *mm, u64 start, u64 len)
{
	struct userfaultfd_ctx *ctx = f->ctx;
	u64 va = start;
	int err;

	do {
		down_read(&mm->mmap_lock);
		down_read(&ctx->map_changing_lock);
		err = fill_locked(f, mm, &va, start + len);
		up_read(&ctx->map_changing_lock);
		up_read(&mm->mmap_lock);
	} while (f->must_fetch && !(err = fetch_unlocked(f)));
	fill_drop(f);
	return va > start ? (s64)(va - start) : err;
}

int userfaultfd_finish(struct userfaultfd_ctx *ctx, u64 start, u64 len, bool wake, s64 done,
		       s64 *told)
{
	*told = done;
	if (done < 0)
		return (int)done;
	if (wake)
		wake_userfault(ctx, start, (u64)done);
	return (u64)done == len ? 0 : -EAGAIN;
}

/* All that is asked of an operation before it begins.  `modes`: those that it knows. */
static int fill_range(struct fill *f, u64 start, u64 len, u64 mode, u64 modes, s64 *done)
{
	struct userfaultfd_ctx *ctx = f->ctx;
	struct mm *mm;
	s64 result;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	if (atomic_load(&ctx->mmap_changing))
		return (int)(*done = -EAGAIN);
	mm = userfaultfd_get_mm(ctx);
	if (!mm)
		return -ESRCH;
	if (validate_range(mm, start, len) || (mode & ~modes)) {
		userfaultfd_put_mm(ctx);
		return -EINVAL;
	}
	result = mfill_atomic(f, mm, start, len);
	userfaultfd_put_mm(ctx);
	return userfaultfd_finish(ctx, start, len, !(mode & UAPI_UFFDIO_MODE_DONTWAKE), result,
				  done);
}

int userfaultfd_copy(struct userfaultfd_ctx *ctx, const struct uaccess *u, u64 dst, u64 src,
		     u64 len, u64 mode, s64 *done)
{
	struct fill f = { .ctx = ctx,
			  .kind = FILL_COPY,
			  .u = u,
			  .src = src,
			  .wp = mode & UAPI_UFFDIO_COPY_MODE_WP };

	*done = 0;
	if (u && !access_ok(src, len) && !atomic_load(&ctx->mmap_changing))
		return -EINVAL;
	return fill_range(&f, dst, len, mode, UAPI_UFFDIO_MODE_DONTWAKE | UAPI_UFFDIO_COPY_MODE_WP,
			  done);
}

int userfaultfd_zeropage(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done)
{
	struct fill f = { .ctx = ctx, .kind = FILL_ZERO };

	*done = 0;
	return fill_range(&f, start, len, mode, UAPI_UFFDIO_MODE_DONTWAKE, done);
}

int userfaultfd_continue(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done)
{
	struct fill f = { .ctx = ctx,
			  .kind = FILL_CONTINUE,
			  .wp = mode & UAPI_UFFDIO_CONTINUE_MODE_WP };

	*done = 0;
	return fill_range(&f, start, len, mode,
			  UAPI_UFFDIO_MODE_DONTWAKE | UAPI_UFFDIO_CONTINUE_MODE_WP, done);
}

int userfaultfd_poison(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, s64 *done)
{
	struct fill f = { .ctx = ctx, .kind = FILL_POISON };

	*done = 0;
	return fill_range(&f, start, len, mode, UAPI_UFFDIO_MODE_DONTWAKE, done);
}
