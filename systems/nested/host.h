/* SPDX-License-Identifier: MIT */
/*
 * The memory of the machine monitor's process, of which guests are given parts: pages that the host
 * has, has not given yet, or has put away; and the frames that they are in.
 *
 * The host's kernel is an engine of its own, on a machine whose pages lie at their place in the
 * process (as Linux has it for the agent): the process is an address space of it with one area, a
 * fault there is handle_mm_fault()'s, or a userfaultfd monitor's that has registered it, and
 * what is put away goes to the host's swap area.
 *
 * Host frame numbers (hfn) have nothing to do with page numbers but for their order within blocks
 * of 2 MiB, which lie the other way round and far up: a guest's frame number that somebody takes
 * for a host's, or the other way, leads to other bytes or to none.
 */
#ifndef VMF_NESTED_HOST_H
#define VMF_NESTED_HOST_H

#include "engine/base/lock.h"
#include "engine/mmu/walk.h"

struct host_kernel;
struct mm;

#define HOST_FIRST_HFN 0x100000ULL /* of all frames */
#define HOST_BLOCK     ((u64)PTRS_PER_TABLE)

enum host_state { HOST_NONE, HOST_HERE, HOST_AWAY };

struct host_memory {
	char *bytes; /* of page 0; the owner's */
	u64 nr;	     /* pages */
	bool huge;   /* what is touched first brings all of its block, if none of it is there */
	struct host_kernel *kernel;
	_Atomic u8 *states; /* enum host_state of each page; written under its page-table lock */
	/* The notifier (mmu_notifier): before pages [first, first + n) go, and when they have.  No
	 * lock is held. */
	void (*invalidate)(void *ctx, u64 first, u64 n, bool begins);
	void *ctx;
};

/* `bytes`: nr pages of zeros.  0, -ENOMEM. */
int host_init(struct host_memory *h, char *bytes, u64 nr);
void host_fini(struct host_memory *h);

/* Page numbers and frames; hfn_page(): at least h->nr if there is no such frame. */
u64 host_hfn(const struct host_memory *h, u64 page);
u64 host_page_of(const struct host_memory *h, u64 hfn);
char *host_bytes(const struct host_memory *h, u64 hfn);
/* The first hfn behind all frames. */
u64 host_end_hfn(const struct host_memory *h);

/* The process, for who serves its faults, and where a page is in it. */
struct mm *host_mm(struct host_memory *h);
u64 host_address(u64 page);
/* get_user_pages: the page is there afterwards, and its frame may be used until the notifier says
 * that it goes.  0; -EAGAIN: it is away and `nowait`; -ENOMEM; -EIO: it cannot be read. */
int host_fault_in(struct host_memory *h, u64 page, bool nowait);
/* Of the translation that the host itself has for a page that is there: LEVEL_PMD if its whole
 * block is, else LEVEL_PTE. */
enum mmu_level host_level(struct host_memory *h, u64 page);

/* Put a page that is there away, to the host's swap area.  0; -ENOENT; -ENOMEM. */
int host_page_out(struct host_memory *h, u64 page);
/* MADV_DONTNEED: the pages are zeros when they are next touched.  -EINVAL: no such pages. */
int host_discard(struct host_memory *h, u64 page, u64 n);

#endif
