/* SPDX-License-Identifier: MIT */
/*
 * Which node memory is to come from: of an area (or of the shared memory that it maps:
 * backing/shared_policy.h), or else of the space, or else the nearest.
 *
 *   default, local   the CPU's node, then others by distance
 *   preferred        one node, then others by distance from it
 *   preferred-many   any of several without reclaiming, then others
 *   bind             several, nearest first, and no others
 *   interleave       page by page in turn; weighted: as many pages as each node's weight says
 *
 * Names, numbers and errors are Linux's (set_mempolicy(2), mbind(2)).  A policy is a value: it is
 * copied with its area, and areas merge only if theirs are equal.  What an area says of shared
 * memory counts for merging only; and of the page cache, nothing: there the task's policy goes.
 */
#ifndef VMF_SPACE_MEMPOLICY_H
#define VMF_SPACE_MEMPOLICY_H

#include "engine/page/node.h"

struct mm;
struct vma;

enum uapi_mpol {
	UAPI_MPOL_DEFAULT,
	UAPI_MPOL_PREFERRED,
	UAPI_MPOL_BIND,
	UAPI_MPOL_INTERLEAVE,
	UAPI_MPOL_LOCAL,
	UAPI_MPOL_PREFERRED_MANY,
	UAPI_MPOL_WEIGHTED_INTERLEAVE,
	UAPI_NR_MPOL
};

/* Of a mode. */
enum uapi_mpol_mode_flag {
	UAPI_MPOL_F_NUMA_BALANCING = 1 << 13,
	UAPI_MPOL_F_RELATIVE_NODES = 1 << 14,
	UAPI_MPOL_F_STATIC_NODES = 1 << 15,
};
#define UAPI_MPOL_MODE_FLAGS                                                                       \
	(UAPI_MPOL_F_NUMA_BALANCING | UAPI_MPOL_F_RELATIVE_NODES | UAPI_MPOL_F_STATIC_NODES)

/* Of get_mempolicy(2), and of mbind(2). */
enum { UAPI_MPOL_F_NODE = 1, UAPI_MPOL_F_ADDR = 2, UAPI_MPOL_F_MEMS_ALLOWED = 4 };
enum { UAPI_MPOL_MF_STRICT = 1, UAPI_MPOL_MF_MOVE = 2, UAPI_MPOL_MF_MOVE_ALL = 4 };

struct mempolicy {
	u16 mode, flags;
	nodemask_t nodes; /* that there are */
	u64 given;	  /* of a mode with flags: as they were given */
};

static inline bool mpol_equal(const struct mempolicy *a, const struct mempolicy *b)
{
	return a->mode == b->mode && a->flags == b->flags && a->nodes == b->nodes &&
	       a->given == b->given;
}

/* Is it a mode with flags that go with it?  0, -EINVAL. */
int mpol_check_mode(u64 mode_flags);
/* A mode with its flags, and nodes, as programs give them.  0, -EINVAL. */
int mpol_parse(const struct engine *e, u64 mode, u64 nodes, struct mempolicy *policy);
/* The nodes that a program names by `nmask`, of maxnode - 1 bits.  There may be as many as Linux
 * has numbers for; of those above 62 it is only known that there are any (bit 63).  0, -EINVAL. */
int get_nodes(u64 *nodes, const u64 *nmask, u64 maxnode);
/* The policies of the shared memory that it maps, privately or not; NULL: it maps none. */
struct shared_policy *vma_shared_policy(const struct vma *vma);
/* What holds for the page at va: the area's own policy (or the shared memory's), or else the
 * space's.  mmap_lock or the VMA's held. */
struct mempolicy vma_policy(const struct vma *vma, u64 va);
/* The policy of the space that this runs for; of nobody: the default.  Any lock may be held. */
struct mempolicy task_policy(const struct engine *e);
/* What holds for the page at va when a call brings it in: of what the area says nothing, the policy
 * of the space that this runs for does.  As vma_policy(). */
struct mempolicy vma_call_policy(const struct vma *vma, u64 va);
/* Which nodes are asked by that policy for the index-th place (of its size) of a file or a space.
 */
struct node_choice policy_choice(const struct engine *e, const struct mempolicy *policy, u64 index);
/* A page by that policy for the index-th place.  As page_alloc_nodes(). */
struct page *policy_alloc_page(struct engine *e, const struct mempolicy *policy, u64 index,
			       unsigned order, unsigned flags);
/* As page_alloc() for a page that is no area's, by the policy of the space that this runs for:
 * interleaving goes on where it was in the space's last such page. */
struct page *task_alloc_page(struct engine *e, unsigned order, unsigned flags);
/* As page_alloc() for the page (or the huge page) at va.  mmap_lock or the VMA's held. */
struct page *vma_alloc_page(const struct vma *vma, u64 va, unsigned order, unsigned flags);
/* The same for the 2 MiB that va is in: of one node only, where the policy leaves a choice and
 * nothing is moved for it (ALLOC_COMPACT), for small pages that are near are worth more than that
 * from afar. */
struct page *vma_alloc_huge_page(const struct vma *vma, u64 va, unsigned flags);
/* The same by vma_call_policy(). */
struct page *vma_alloc_page_for_call(const struct vma *vma, u64 va, unsigned flags);

/*
 * The calls (mbind(2) is in migrate/numa.h).  Addresses and lengths in bytes; nmask: words of 64
 * bits, maxnode as the calls have it.  0 or a negative errno; all take mmap_lock.
 */
int do_set_mempolicy(struct mm *mm, u64 mode, const u64 *nmask, u64 maxnode);
int do_get_mempolicy(struct mm *mm, int *mode, u64 *nmask, u64 maxnode, u64 addr, u64 flags);

#endif
