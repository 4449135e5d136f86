/* SPDX-License-Identifier: MIT */
/* What the running kernel has and how it is set, as far as results depend on it. */
#ifndef VMF_DIFFERENTIAL_SUPPORT_H
#define VMF_DIFFERENTIAL_SUPPORT_H

#include "tests/differential/op.h"

struct support {
	unsigned major, minor; /* of the kernel's version */
	bool guard;	       /* MADV_GUARD_INSTALL and _REMOVE (6.13) */
	bool droppable;	       /* MAP_DROPPABLE (6.11) */
	bool seal;	       /* mseal (6.10) */
	bool seal_executable;  /* F_SEAL_EXEC (6.3), checked as 6.18 does */
	bool map_sealed;       /* what is sealed may be mapped shared, to read (6.7) */
	bool move_several;     /* mremap moves several areas at once (6.17) */
	bool merges_samepages; /* MADV_MERGEABLE is known (CONFIG_KSM) */
	bool huge_advice;      /* MADV_HUGEPAGE is known */
	bool memory_failure;   /* MADV_HWPOISON is known (CONFIG_MEMORY_FAILURE) */
	bool one_node;	       /* the kernel has nodes (CONFIG_NUMA), and there is one */
	bool swap;	       /* there is a swap area: pages may leave by themselves */
	bool huge_pool;	     /* there are pages in the pools of 2 MiB and 1 GiB, or no such pools */
	bool heap;	     /* the heap can be put into the arena (PR_SET_MM_MAP) */
	bool commits_freely; /* overcommit_memory is 0, the usual */
	bool wide;	     /* 64 TiB are free in one piece, as in the engine's spaces */
	u64 max_map_count;
	u64 mmap_min_addr; /* bytes: vm.mmap_min_addr */
	u64 hint_min;	   /* bytes: what hints are raised to, see mm_hint_min() */
};

/* False: this kernel cannot be compared with, and `why` (at least 160 bytes) says so. */
bool support_probe(struct support *s, char *why);
/* Does the kernel have what the operation asks for, and is its result determined by that? */
bool support_has(const struct support *s, const struct op *op);

#endif
