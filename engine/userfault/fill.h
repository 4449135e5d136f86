/* SPDX-License-Identifier: MIT */
/* One operation that gives pages, on its way. */
#ifndef VMF_USERFAULT_FILL_H
#define VMF_USERFAULT_FILL_H

#include "engine/reclaim/internal.h"
#include "engine/userfault/internal.h"

enum fill_kind { FILL_COPY, FILL_ZERO, FILL_CONTINUE, FILL_POISON };

struct fill {
	struct userfaultfd_ctx *ctx;
	enum fill_kind kind;
	const struct uaccess *u; /* of src; NULL: the engine's own memory */
	u64 src;		 /* where the next page's bytes are */
	bool wp;		 /* entries are write-protected */
	struct page *page;	 /* a frame in hand for the next page, or NULL */
	void *buffer;		 /* for the bytes of a huge page, or NULL */
	u64 buffer_size;
	bool fetched;	 /* it has the bytes */
	bool must_fetch; /* they can only be had without locks */
};

/* What can be done of [*va, end), of huge pages, under one hold of the locks; as fill_locked(). */
int fill_huge_locked(struct fill *f, struct vma *vma, u64 *va, u64 end);
/* Get the next huge page's bytes into f->buffer, without locks.  0, -EFAULT. */
int fetch_huge_unlocked(struct fill *f);
/* The frame in hand is not needed any more. */
void fill_drop(struct fill *f);
/*
 * Map `page` at va: a page of the area's own, known to nobody, whose reference becomes the entry's;
 * or (in_file, the same) a page of the VMA's file, locked.  0, -EEXIST, -EFAULT (behind the file's
 * end), -EAGAIN, -ENOMEM.  mmap_lock held.
 */
int fill_install(struct fill *f, struct vma *vma, u64 va, struct page *page, bool in_file);
/* The VMA at va, with an anon_vma if it may need one: even if what comes next is refused, which
 * shows when it could merge.  0, -ENOENT, -ENOMEM.  mmap_lock held. */
int find_vma_and_prepare_anon(struct mm *mm, u64 va, struct vma **vma);
/* What an operation returns that has done so many bytes (or its error), having woken those who wait
 * there. */
int userfaultfd_finish(struct userfaultfd_ctx *ctx, u64 start, u64 len, bool wake, s64 done,
		       s64 *told);

#endif
