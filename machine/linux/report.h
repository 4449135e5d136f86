/* SPDX-License-Identifier: MIT */
/*
 * What the agent in a managed program and the `vmfault run` command tell each other.
 *
 * Downwards, in the environment:
 *   LD_PRELOAD       the agent library, before what was there
 *   VMFAULT_OPTIONS  "limit=BYTES,compress=lz4|zstd|none,threads=N,prefetch=N,
 *                    policy=lru|gen|clock|fifo"
 *                    Always all five; without --memory the limit is the machine's whole memory.
 *   VMFAULT_REPORT   path of the report file (/proc/PID/fd/N of a memfd that the command holds)
 *
 * Upwards, in the report file: one slot a process, each a page-aligned `struct report_slot`,
 * mapped shared and written in place, so that the figures survive whatever ends the program.  A
 * process takes the slot that atomic_fetch_add(&header->next_slot, 1) gives it, if below nr_slots;
 * next_slot goes on counting, so that the command knows how many went without.  `state` is written
 * last, with release.
 */
#ifndef VMF_LINUX_REPORT_H
#define VMF_LINUX_REPORT_H

#include "engine/engine.h"

#define REPORT_MAGIC 0x766d6661756c7431ULL /* "vmfault1" */
#define REPORT_SLOTS 1024 /* processes of one run that are told apart; later ones go untold */

/* Latency buckets: 16 to each power of two of ns, from 0 up; see report_bucket(). */
#define LATENCY_BUCKETS (40 * 16)

enum agent_state {
	AGENT_NONE,	/* slot not used */
	AGENT_WATCHING, /* the program runs natively, below its limit */
	AGENT_PAGING,	/* userfaultfd is armed */
	AGENT_STOPPED,	/* paging had to stop: why says why; all pages are resident */
	AGENT_ENDED,	/* exec or exit was seen */
};

/* Why memory was not managed; bytes of each are in unmanaged[]. */
enum unmanaged_kind {
	UNMANAGED_STACK,    /* thread stacks and the main stack */
	UNMANAGED_SMALL,    /* loader's and libraries' small areas */
	UNMANAGED_LOCKED,   /* mlock */
	UNMANAGED_PINNED,   /* held by the kernel for I/O */
	UNMANAGED_READONLY, /* not writable now: cannot be taken */
	UNMANAGED_REFUSED,  /* the kernel would not register it */
	NR_UNMANAGED,
};

/* Who writes pages out: see room.c. */
enum room_writer {
	ROOM_AFTER_FAULT, /* a handler, after a fault that it served */
	ROOM_WAITING,	  /* a handler, while it waits for another */
	ROOM_SPARE,	  /* a handler of a CPU where nobody faults */
	NR_ROOM_WRITERS,
};

struct room_share {
	_Atomic u64 pages, ns;
};

struct report_slot {
	_Atomic u32 state; /* enum agent_state */
	s32 pid, parent;
	char program[64]; /* last part of its path */
	char why[160];	  /* of AGENT_STOPPED, or a first warning; one line */
	_Atomic u64 limit_bytes;
	_Atomic u64 resident_bytes, peak_resident_bytes; /* managed program, agent left out */
	_Atomic u64 agent_bytes;			 /* the agent's own resident memory */
	/* Of the store when it held the most raw bytes, as sampled. */
	_Atomic u64 stored_bytes, raw_bytes, kept_bytes;
	_Atomic u64 unmanaged[NR_UNMANAGED]; /* bytes */
	_Atomic u64 native;		     /* pages that came by themselves and were adopted */
	struct engine_stats stats;
	/* The rest was written by faults that found no frame free: stats.direct_reclaim_ns. */
	struct room_share written[NR_ROOM_WRITERS];
	_Atomic u64 latency[LATENCY_BUCKETS]; /* faults by service time */
	_Atomic u64 latency_max_ns;
};

#define REPORT_SLOT_SIZE PAGE_ALIGN(sizeof(struct report_slot))

struct report_header {
	u64 magic;
	_Atomic u32 next_slot;
	u32 nr_slots;
};

/* The file: one page with the header, then the slots. */
static inline struct report_slot *report_slot(void *file, unsigned i)
{
	return (struct report_slot *)((char *)file + PAGE_SIZE + i * REPORT_SLOT_SIZE);
}

static inline unsigned report_bucket(u64 ns)
{
	unsigned log, bucket;

	if (ns < 16)
		return ns;
	log = 63 - __builtin_clzll(ns);
	bucket = (log - 3) * 16 + (ns >> (log - 4) & 15);
	return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

/* The least ns that falls in a bucket. */
static inline u64 report_bucket_floor(unsigned bucket)
{
	if (bucket < 16)
		return bucket;
	return (u64)(16 + bucket % 16) << (bucket / 16 - 1);
}

#endif
