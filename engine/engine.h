/* SPDX-License-Identifier: MIT */
/*
 * One engine: physical memory, swap areas, the LRU, and the address spaces that share them.
 * A program may have several; they share nothing.
 */
#ifndef VMF_ENGINE_H
#define VMF_ENGINE_H

#include "engine/backing/flusher.h"
#include "engine/backing/swap.h"
#include "engine/base/memory.h"
#include "engine/hugetlb/pool.h"
#include "engine/machine.h"
#include "engine/page/page.h"
#include "engine/observe.h"
#include "engine/reclaim/kswapd.h"
#include "engine/reclaim/reclaim.h"
#include "engine/space/mm.h"

/* Counters, each written where the thing happens.  Relaxed atomics; read anywhere. */
struct engine_stats {
	_Atomic u64 minor, major, zero, second_chance; /* faults */
	_Atomic u64 prefetched; /* pages brought in before they were asked for */
	/* pages, each in one of the three: unchanged since its kept copy, saved, saved as one byte
	 */
	_Atomic u64 evicted_clean, evicted_dirty, same_filled;
	_Atomic u64 untakeable;		 /* pages that the machine could not take, times tried */
	_Atomic u64 direct_reclaim_ns;	 /* time in reclaim_direct */
	_Atomic u64 direct_freed;	 /* frames that came free there */
	_Atomic u64 segments;		 /* calls of mmu->take */
	_Atomic u64 activated, refaults; /* pages */
	/* Pages that were asked for again and of which a shadow was left; of these, hot ones. */
	_Atomic u64 workingset_refault, workingset_activate;
	_Atomic u64 store_errors; /* loads that failed: the thread got SIGBUS */
	_Atomic u64 store_full;	  /* saves refused: the page stayed */
	_Atomic u64 lazyfreed;	  /* pages dropped that the program had given up */
	/* As in /proc/vmstat: entries made to fault, such faults, those on the page's own node,
	 * pages moved for them. */
	_Atomic u64 numa_pte_updates, numa_hint_faults, numa_hint_faults_local, numa_pages_migrated;
	_Atomic u64 dirty_met;	/* dirty pages of files that reclaim left to the flusher */
	_Atomic u64 no_slots;	/* pages that stayed: no swap area had a slot */
	_Atomic u64 oom_kills;	/* spaces */
	_Atomic u64 oom_reaped; /* pages that they had, and nobody else */
	/* Huge pages: that came with a fault; faults that wanted one and had to do without; split;
	 * made from single pages. */
	_Atomic u64 thp_fault_alloc, thp_fault_fallback, thp_split, thp_collapse;
	_Atomic u64 folio_alloc; /* faults that brought 2^k pages together */
	/* Faults that mapped 2 MiB of a device of persistent memory, or of a hole; that had to do
	 * with a single entry: for where they are in their area and file, for how the blocks lie,
	 * for want of memory. */
	_Atomic u64 dax_huge, dax_huge_zero;
	_Atomic u64 dax_fallback_place, dax_fallback_blocks, dax_fallback_memory;
};

/* Where anonymous memory gets huge pages by itself. */
enum thp_mode {
	THP_NEVER,
	THP_MADVISE, /* where MADV_HUGEPAGE says so */
	THP_ALWAYS,  /* wherever MADV_NOHUGEPAGE does not forbid it */
};

/* What the user chose; fixed after engine_init. */
struct engine_config {
	unsigned prefetch; /* most pages brought in with one fault, 1 .. MMU_BATCH; 1: none */
	unsigned segment;  /* most pages taken in one call, 1 .. MMU_BATCH */
	unsigned runs;	   /* most runs of neighbours taken in one call; 0: any */
	u64 kept_slots;	   /* most stored copies kept for pages that are mapped */
	/* And none more when they take half of the room that compression saves: resident and stored
	 * pages together stay less than the pages alone. */
	bool kept_within_savings;
	struct watermarks marks;
	struct dirty_limits dirty;
	unsigned swappiness; /* 0 .. 200: how gladly anonymous pages go, compared with files' */
	struct numa_config nodes;
	const struct reclaim_policy *policy; /* which page goes next; NULL: policy_default */
	/* The min watermark is a wish, not a wall: when reclaim cannot help (the store is full, all
	 * is pinned), allocations succeed as long as descriptors last.  The program goes on, over
	 * its limit, and the statistics say so. */
	bool may_exceed;
	/* Memory may fail, as with Linux's CONFIG_MEMORY_FAILURE: programs are told what is lost
	 * (BUS_MCEERR_AR), and may ask for it (MADV_HWPOISON).  memory_failure() works either
	 * way. */
	bool memory_failure;
	/* When there is no memory at all, a process is killed for it (reclaim/oom.h), and its
	 * faults say FAULT_KILLED; otherwise the fault says FAULT_OOM. */
	bool oom_kill;
	enum thp_mode thp; /* means nothing where the machine has no huge pages */
	/* Bit k, 1 <= k < HUGE_ORDER: where huge pages are allowed but do not fit, or cannot be
	 * had, a first write may bring 2^k pages. */
	u32 folio_orders;
	/* What khugepaged_scan() takes for a huge page: of its HUGE_PAGES entries at most so many
	 * none, swapped out, shared with others. */
	struct {
		unsigned max_none, max_swap, max_shared;
	} collapse;
	/* Where the counters are kept, zeroed, for others to read; NULL: in the engine. */
	struct engine_stats *stats;
};

/* A stream of faults that go up (or down) through neighbouring pages. */
struct readahead_stream {
	const struct mm *mm; /* whose; it may be gone */
	u64 next;	     /* the va expected to fault next */
	unsigned window;     /* pages that came with the last fault; 0: unused */
	u32 used;	     /* a clock, for replacing the oldest */
	bool down;	     /* it goes to lower addresses */
};
#define NR_STREAMS 16

#define NO_PFN (~0ULL)

struct engine {
	const struct mmu_ops *mmu;
	struct engine_observer *observer; /* NULL: nobody watches */
	struct engine_memory memory;
	struct engine_config config;
	struct page *pages; /* [nr_pages], by pfn */
	u64 nr_pages;
	struct zone zones[NR_ZONES];
	struct numa numa;
	reclaim_fn reclaim;
	struct hstate hstates[NR_HSTATES];		  /* pools of huge pages */
	spinlock_t huge_fault_locks[NR_HUGE_FAULT_LOCKS]; /* see hugetlb/hugetlb.h */
	void (*free_huge)(struct engine *e, struct page *page);
	compact_fn compact; /* NULL: no page can be moved */
	struct swap swap;
	struct lru lru;
	struct kswapd kswapd[MAX_NUMNODES];
	/* Wakes that of a node; set once there is one (kswapd is never called by name from the
	 * allocator). */
	void (*wake_kswapd)(struct engine *e, unsigned nid);
	struct flusher flusher;
	spinlock_t streams_lock;
	struct readahead_stream streams[NR_STREAMS];
	u32 streams_clock;
	_Atomic u32 oom_busy; /* somebody is being killed; a futex */
	struct list_head mms;
	spinlock_t mms_lock;
	spinlock_t anon_vma_lock; /* guards the two below */
	struct anon_vma *anon_vma_free;
	void *anon_vma_chunks;
	_Atomic s64 kernel_tables; /* frames in use for the kernel half of all spaces */
	struct list_head mappings; /* address_space->link: every file there is */
	spinlock_t mappings_lock;
	_Atomic u64 nr_file_pages; /* in the page cache, all files' */
	_Atomic u64 nr_shadows;	   /* of pages that have left it */
	_Atomic u64 nr_poisoned;   /* frames that are broken, in use or not */
	spinlock_t collapsing;	   /* the scan for huge pages is on; tried only */
	u64 collapse_pass;	   /* how often it has been through all spaces; collapsing */
	_Atomic u32 migrations;	   /* under way: each may hold some frames */
	/* Migration entries that fork has begun to copy, and has copied, ever.  Who finds the two
	 * alike, and then the first unchanged, knows that none was made meanwhile. */
	_Atomic u64 migration_copies, migration_copied;
	/* Frames that are a device's: backing/dax.h. */
	_Atomic u64 nr_device_pages;
	/* A huge page of zeros, from its first use on; NULL: none.  And the entries that map it. */
	struct page *huge_zero;
	u64 huge_zero_users;
	spinlock_t huge_zero_lock; /* guards the two */
	u64 zero_pfn; /* the shared zero page, or NO_PFN: the machine has no use for it */
	struct engine_stats *stats; /* config.stats, or &own_stats */
	struct engine_stats own_stats;
	void *machine; /* the machine's own */
};

/*
 * Make an engine: `nr_table` directly mapped frames at table_map for page tables (pfn 0 on), then
 * `nr_user` frames (user_map may be NULL: no direct map).  `store` is where evicted pages go: the
 * first swap area; NULL: there is none yet.  0, -ENOMEM, -EINVAL.
 */
int engine_init(struct engine *e, const struct mmu_ops *mmu, const struct engine_memory *memory,
		const struct engine_config *config, u64 nr_table, void *table_map, u64 nr_user,
		void *user_map, struct store *store);
/* All spaces are gone. */
void engine_fini(struct engine *e);
/* Sensible settings for nr_user frames. */
struct engine_config engine_default_config(u64 nr_user);

/* Every invariant of the engine and its spaces; panics with a message.  Nobody else active. */
void engine_check(struct engine *e);

#endif
