/* SPDX-License-Identifier: MIT */
/*
 * Contexts, and what is registered with them.
 *
 * A VMA points to its context without a reference: whoever drops the last one has released the
 * context before, which takes it out of all VMAs, or the space has gone, and its VMAs with it.
 *
 * A context may outlive its space.  Its operations hold ctx->users for reading while they are in
 * the space; who destroys the space takes the context's mm away with that lock held for writing.
 */
#include "engine/backing/page_cache.h"
#include "engine/base/check.h"
#include "engine/hugetlb/hugetlb.h"
#include "engine/userfault/internal.h"

#define BIT(n) (1ULL << (n))

/* ---- a context's life ---- */

struct userfaultfd_ctx *userfaultfd_ctx_new(struct mm *mm, u32 flags, u64 features)
{
	struct engine *e = mm->engine;
	struct userfaultfd_ctx *ctx = e->memory.alloc(e->memory.ctx, sizeof(*ctx));

	if (!ctx)
		return NULL;
	ctx->engine = e;
	ctx->mm = mm;
	ctx->whose = mm;
	ctx->flags = flags;
	atomic_init(&ctx->refcount, 1);
	atomic_init(&ctx->features, features);
	rwsem_init(&ctx->users);
	rwsem_init(&ctx->map_changing_lock);
	spin_init(&ctx->lock);
	list_init(&ctx->pending);
	list_init(&ctx->waiting);
	list_init(&ctx->events);
	spin_lock(&e->mms_lock);
	list_add_tail(&ctx->link, &mm->userfaults);
	spin_unlock(&e->mms_lock);
	return ctx;
}

int userfaultfd_create(struct mm *mm, u32 flags, struct userfaultfd_ctx **ctx)
{
	if (flags & ~UAPI_UFFD_USER_MODE_ONLY)
		return -EINVAL;
	*ctx = userfaultfd_ctx_new(mm, flags, 0);
	return *ctx ? 0 : -ENOMEM;
}

void userfaultfd_ctx_get(struct userfaultfd_ctx *ctx)
{
	atomic_fetch_add_explicit(&ctx->refcount, 1, memory_order_relaxed);
}

void userfaultfd_ctx_put(struct userfaultfd_ctx *ctx)
{
	struct engine *e = ctx->engine;
	u32 refs = atomic_load_explicit(&ctx->refcount, memory_order_relaxed);
	bool last;

	while (refs > 1)
		if (atomic_compare_exchange_weak_explicit(&ctx->refcount, &refs, refs - 1,
							  memory_order_acq_rel,
							  memory_order_relaxed))
			return;
	/* Who finds it in the list, with the lock held, finds it alive. */
	spin_lock(&e->mms_lock);
	last = atomic_fetch_sub_explicit(&ctx->refcount, 1, memory_order_acq_rel) == 1;
	if (last && ctx->mm)
		list_del(&ctx->link);
	spin_unlock(&e->mms_lock);
	if (!last)
		return;
	VMF_ASSERT(list_empty(&ctx->pending) && list_empty(&ctx->waiting));
	VMF_ASSERT(list_empty(&ctx->events) && !atomic_load(&ctx->mmap_changing));
	e->memory.free(e->memory.ctx, ctx, sizeof(*ctx));
}

struct mm *userfaultfd_get_mm(struct userfaultfd_ctx *ctx)
{
	down_read(&ctx->users);
	if (ctx->mm)
		return ctx->mm;
	up_read(&ctx->users);
	return NULL;
}

void userfaultfd_put_mm(struct userfaultfd_ctx *ctx)
{
	up_read(&ctx->users);
}

void userfaultfd_exit(struct mm *mm)
{
	struct engine *e = mm->engine;

	for (;;) {
		struct userfaultfd_ctx *ctx;

		spin_lock(&e->mms_lock);
		if (list_empty(&mm->userfaults)) {
			spin_unlock(&e->mms_lock);
			return;
		}
		ctx = list_first_entry(&mm->userfaults, struct userfaultfd_ctx, link);
		userfaultfd_ctx_get(ctx);
		spin_unlock(&e->mms_lock);

		down_write(&ctx->users);
		spin_lock(&e->mms_lock);
		list_del(&ctx->link);
		ctx->mm = NULL;
		spin_unlock(&e->mms_lock);
		up_write(&ctx->users);
		userfaultfd_ctx_put(ctx);
	}
}

int userfaultfd_api(struct userfaultfd_ctx *ctx, u64 api, u64 *features, u64 *ioctls)
{
	u64 asked = *features, none = 0;

	*features = *ioctls = 0;
	/* What is written to without a fault must be known to be so, page or not. */
	if (asked & UAPI_UFFD_FEATURE_WP_ASYNC)
		asked |= UAPI_UFFD_FEATURE_WP_UNPOPULATED;
	if (api != UAPI_UFFD_API || (asked & ~UAPI_UFFD_FEATURES))
		return -EINVAL;
	if (!atomic_compare_exchange_strong(&ctx->features, &none, asked | UFFD_INITIALIZED))
		return -EINVAL;
	*features = UAPI_UFFD_FEATURES;
	*ioctls = BIT(UAPI_UFFDIO_API) | BIT(UAPI_UFFDIO_REGISTER) | BIT(UAPI_UFFDIO_UNREGISTER);
	return 0;
}

/* ---- registering ---- */

int validate_range(const struct mm *mm, u64 start, u64 len)
{
	if (!PAGE_ALIGNED(start) || !PAGE_ALIGNED(len) || !len || start < mm_hint_min(mm) ||
	    start >= mm->high || len > mm->high - start)
		return -EINVAL;
	return 0;
}

static bool vma_can_userfault(const struct userfaultfd_ctx *ctx, const struct vma *vma, u32 flags)
{
	flags &= VM_UFFD;
	if (vma->flags & VM_DROPPABLE)
		return false;
	if ((flags & VM_UFFD_MINOR) && !vma_is_shmem(vma) && !is_vm_hugetlb(vma))
		return false;
	/* Only marks: nobody serves anything. */
	if (flags == VM_UFFD_WP && userfaultfd_has(ctx, UAPI_UFFD_FEATURE_WP_ASYNC))
		return true;
	return vma_is_anonymous(vma) || vma_is_shmem(vma) || is_vm_hugetlb(vma);
}

/* An area of huge pages is registered, and let go, by whole ones. */
static bool is_aligned(const struct vma *vma, u64 addr)
{
	return !is_vm_hugetlb(vma) || hugetlb_may_split(vma, addr);
}

/* What of *vma is in [start, end) gets another context and other modes; *vma is what holds it then.
 * 0, -ENOMEM. */
static int set_context(struct vma **vmap, u64 start, u64 end, u32 modes,
		       struct userfaultfd_ctx *ctx)
{
	struct vma *vma = *vmap;
	u32 flags = (vma->flags & ~(u32)VM_UFFD) | modes;

	vma = vma_isolate(vma, max_of(vma->start, start), min_of(vma->end, end));
	if (!vma)
		return -ENOMEM;
	vma_drain(vma);
	vma->uffd = ctx;
	__atomic_store_n(&vma->flags, flags, __ATOMIC_RELAXED); /* reclaim looks at it */
	*vmap = vma_merge(vma);
	return 0;
}

static int may_register(const struct userfaultfd_ctx *ctx, const struct vma *vma, u64 end,
			u32 modes)
{
	for (; vma && vma->start < end; vma = vma_next(vma)) {
		if (!vma_can_userfault(ctx, vma, modes))
			return -EINVAL;
		if (end <= vma->end && !is_aligned(vma, end))
			return -EINVAL;
		/* What one may only look at is not changed by others on its behalf. */
		if (!(vma->flags & VM_MAYWRITE))
			return -EPERM;
		if (vma->uffd && vma->uffd != ctx)
			return -EBUSY;
	}
	return 0;
}

/* *huge: some of it is of huge pages, for which there is no ZEROPAGE and no MOVE. */
static int register_range(struct userfaultfd_ctx *ctx, struct mm *mm, u64 start, u64 end, u32 modes,
			  bool *huge)
{
	struct vma *vma = find_vma(mm, start);
	int err;

	if (!vma || vma->start >= end)
		return -EINVAL;
	if (!is_aligned(vma, start))
		return -EINVAL;
	err = may_register(ctx, vma, end, modes);
	for (; !err && vma && vma->start < end; vma = vma_next(vma)) {
		*huge |= is_vm_hugetlb(vma);
		if (vma->uffd != ctx || (vma->flags & modes) != modes)
			err = set_context(&vma, start, end, modes, ctx);
	}
	return err;
}

int userfaultfd_register(struct userfaultfd_ctx *ctx, u64 start, u64 len, u64 mode, u64 *ioctls)
{
	u64 can = BIT(UAPI_UFFDIO_WAKE) | BIT(UAPI_UFFDIO_COPY) | BIT(UAPI_UFFDIO_ZEROPAGE) |
		  BIT(UAPI_UFFDIO_MOVE) | BIT(UAPI_UFFDIO_POISON);
	bool huge = false;
	u32 modes = 0;
	struct mm *mm;
	int err;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	if (mode & UAPI_UFFDIO_REGISTER_MODE_MISSING)
		modes |= VM_UFFD_MISSING;
	if (mode & UAPI_UFFDIO_REGISTER_MODE_WP) {
		modes |= VM_UFFD_WP;
		can |= BIT(UAPI_UFFDIO_WRITEPROTECT);
	}
	if (mode & UAPI_UFFDIO_REGISTER_MODE_MINOR) {
		modes |= VM_UFFD_MINOR;
		can |= BIT(UAPI_UFFDIO_CONTINUE);
	}
	if (!mode || mode >= 2 * UAPI_UFFDIO_REGISTER_MODE_MINOR)
		return -EINVAL;
	mm = userfaultfd_get_mm(ctx);
	if (!mm)
		return -ENOMEM;
	err = validate_range(mm, start, len);
	if (!err) {
		down_write(&mm->mmap_lock);
		err = register_range(ctx, mm, start, start + len, modes, &huge);
		up_write(&mm->mmap_lock);
	}
	userfaultfd_put_mm(ctx);
	if (huge)
		can &= ~(BIT(UAPI_UFFDIO_ZEROPAGE) | BIT(UAPI_UFFDIO_MOVE));
	if (!err)
		*ioctls = can;
	return err;
}

/* What of *vma is in [start, end) is no context's any more; *vma as above. */
static int clear_context(struct vma **vmap, u64 start, u64 end)
{
	struct userfaultfd_ctx *ctx = (*vmap)->uffd;

	start = max_of((*vmap)->start, start);
	end = min_of((*vmap)->end, end);
	/* They try again when mmap_lock is free, and find nobody to wait for.  (Linux wakes those
	 * who wait for a page, not those who wait to write.) */
	wake_userfault(ctx, start, end - start);
	if ((*vmap)->flags & VM_UFFD_WP)
		uffd_wp_range(*vmap, start, end, UFFD_WP_RESOLVE);
	return set_context(vmap, start, end, 0, NULL);
}

static int unregister_range(struct userfaultfd_ctx *ctx, struct mm *mm, u64 start, u64 end)
{
	struct vma *first = find_vma(mm, start), *vma;
	int err = 0;

	if (!first || first->start >= end || !is_aligned(first, start))
		return -EINVAL;
	for (vma = first; vma && vma->start < end; vma = vma_next(vma))
		if ((vma->uffd && vma->uffd != ctx) || !vma_can_userfault(ctx, vma, vma->flags))
			return -EINVAL;
	for (vma = first; !err && vma && vma->start < end; vma = vma_next(vma))
		if (vma->uffd)
			err = clear_context(&vma, start, end);
	return err;
}

int userfaultfd_unregister(struct userfaultfd_ctx *ctx, u64 start, u64 len)
{
	struct mm *mm;
	int err;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	mm = userfaultfd_get_mm(ctx);
	if (!mm)
		return -ENOMEM;
	err = validate_range(mm, start, len);
	if (!err) {
		down_write(&mm->mmap_lock);
		err = unregister_range(ctx, mm, start, start + len);
		up_write(&mm->mmap_lock);
	}
	userfaultfd_put_mm(ctx);
	return err;
}

int userfaultfd_wake(struct userfaultfd_ctx *ctx, u64 start, u64 len)
{
	struct mm *mm;
	int err;

	if (!userfaultfd_has(ctx, UFFD_INITIALIZED))
		return -EINVAL;
	mm = userfaultfd_get_mm(ctx);
	if (!mm)
		return 0; /* and nobody to wake */
	err = validate_range(mm, start, len);
	userfaultfd_put_mm(ctx);
	if (!err)
		wake_userfault(ctx, start, len);
	return err;
}

/* ---- the end ---- */

static void release_all(struct userfaultfd_ctx *ctx, struct mm *mm)
{
	struct vma *vma;

	down_write(&mm->mmap_lock);
	for (vma = find_vma(mm, 0); vma; vma = vma_next(vma))
		/* All of a VMA is not cut: nothing to fail. */
		if (vma->uffd == ctx)
			clear_context(&vma, vma->start, vma->end);
	up_write(&mm->mmap_lock);
}

void userfaultfd_release(struct userfaultfd_ctx *ctx)
{
	struct mm *mm;

	/* Faults from now on do not wait; those that are in a queue already do not go to sleep, or
	 * are woken below. */
	atomic_store(&ctx->released, true);
	mm = userfaultfd_get_mm(ctx);
	if (mm) {
		release_all(ctx, mm);
		userfaultfd_put_mm(ctx);
	}
	wake_all(ctx);
	userfaultfd_tell(ctx);
	userfaultfd_ctx_put(ctx);
}
