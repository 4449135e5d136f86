/* SPDX-License-Identifier: MIT */
/* What the files of engine/userfault/ share with one another and with nobody else. */
#ifndef VMF_USERFAULT_INTERNAL_H
#define VMF_USERFAULT_INTERNAL_H

#include "engine/space/internal.h"
#include "engine/userfault/hooks.h"
#include "engine/userfault/userfault.h"

/* Of ctx->features: UFFDIO_API was done. */
#define UFFD_INITIALIZED (1ULL << 31)

struct userfaultfd_ctx {
	struct engine *engine;
	_Atomic u32 refcount;	/* the last one goes under engine->mms_lock */
	u32 flags;		/* of userfaultfd(2) */
	_Atomic u64 features;	/* 0: UFFDIO_API was not done yet */
	rwsem_t users;		/* for reading: mm stays; for writing: it goes */
	struct mm *mm;		/* NULL: it is gone */
	const struct mm *whose; /* the same, also when it is gone: for comparing alone */
	struct list_head link;	/* mm->userfaults; engine->mms_lock */
	/* Events that are not over yet.  Goes up with map_changing_lock held for writing, so that
	 * who holds that for reading and sees 0 may change entries as long as he does. */
	_Atomic u32 mmap_changing;
	rwsem_t map_changing_lock;
	_Atomic bool released;
	spinlock_t lock;	  /* guards the lists; a leaf */
	struct list_head pending; /* faults nobody has read of, the oldest first */
	struct list_head waiting; /* those that were read */
	struct list_head events;  /* others than faults, unread */
	/* Goes up when there is something new to read: readers sleep on it. */
	_Atomic u32 news;
};

static inline bool userfaultfd_has(const struct userfaultfd_ctx *ctx, u64 feature)
{
	return atomic_load_explicit(&ctx->features, memory_order_relaxed) & feature;
}

/* ctx->lock is not held, and what is new is in its list. */
void userfaultfd_tell(struct userfaultfd_ctx *ctx);
/* Let the faults that wait in [start, start + len) go on. */
void wake_userfault(struct userfaultfd_ctx *ctx, u64 start, u64 len);
/* Let all go on, those who wait for their events to be read, too. */
void wake_all(struct userfaultfd_ctx *ctx);
/* The space, which stays until userfaultfd_put_mm(); or NULL: there is none, nothing to put. */
struct mm *userfaultfd_get_mm(struct userfaultfd_ctx *ctx);
void userfaultfd_put_mm(struct userfaultfd_ctx *ctx);
/* A context for mm with one reference, or NULL. */
struct userfaultfd_ctx *userfaultfd_ctx_new(struct mm *mm, u32 flags, u64 features);
/* [start, start + len) is aligned, not empty, and within user space. 0, -EINVAL. */
int validate_range(const struct mm *mm, u64 start, u64 len);

static inline bool vma_is_anonymous(const struct vma *vma)
{
	return !vma->file;
}

#endif
