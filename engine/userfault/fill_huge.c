/* SPDX-License-Identifier: MIT */
/*
 * As fill.c, for areas of huge pages: UFFDIO_COPY, CONTINUE and POISON by whole ones.  (There is no
 * ZEROPAGE: no huge page of zeros that could be shared.)
 *
 * Bytes that are not to be had without faulting are fetched without locks into a buffer of the
 * engine's own memory, and copied from there at the next try.
 */
#include "engine/hugetlb/hugetlb.h"
#include "engine/kernel/uaccess.h"
#include "engine/userfault/fill.h"

/* The bytes of the next page, to `to`.  0, -ENOENT: they must be fetched, -ENOMEM. */
static int copy_bytes(void *ctx, void *to, u64 n)
{
	struct fill *f = ctx;

	if (f->fetched) {
		memcpy(to, f->buffer, n);
		return 0;
	}
	if (!f->u) {
		memcpy(to, (const void *)(uintptr_t)f->src, n);
		return 0;
	}
	return copy_from_user_nofault(f->u, to, f->src, n) ? -ENOENT : 0;
}

int fetch_huge_unlocked(struct fill *f)
{
	if (copy_from_user(f->u, f->buffer, f->src, f->buffer_size))
		return -EFAULT;
	f->fetched = true;
	return 0;
}

/* There is a buffer to fetch into.  -ENOENT, or -ENOMEM. */
static int must_fetch(struct fill *f, u64 size)
{
	struct engine *e = f->ctx->engine;

	if (!f->buffer)
		f->buffer = e->memory.alloc(e->memory.ctx, size);
	f->buffer_size = size;
	return f->buffer ? -ENOENT : -ENOMEM;
}

static int fill_one(struct fill *f, struct vma *vma, u64 va, u64 size)
{
	int err;

	if (f->kind == FILL_CONTINUE)
		return hugetlb_mcontinue(vma, va, f->wp);
	if (f->kind == FILL_POISON)
		return hugetlb_mpoison(vma, va);
	err = hugetlb_mfill(vma, va, copy_bytes, f, f->wp);
	return err == -ENOENT ? must_fetch(f, size) : err;
}

int fill_huge_locked(struct fill *f, struct vma *vma, u64 *va, u64 end)
{
	u64 size = huge_page_size(hstate_vma(vma));
	int err = 0;

	if (f->kind == FILL_ZERO || ((*va | end) & (size - 1)))
		return -EINVAL;
	for (; *va < end; *va += size, f->src += size) {
		err = fill_one(f, vma, *va, size);
		f->must_fetch = err == -ENOENT;
		if (err)
			break;
		f->fetched = false;
	}
	return err;
}
