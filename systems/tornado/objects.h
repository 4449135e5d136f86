/* SPDX-License-Identifier: MIT */
/*
 * Tornado's objects: Process, Region, File Cache Manager (FCM), Cached Object Representative (COR),
 * DRAM manager, Hardware Address Translation (HAT).  Each is a clustered object (clustered.h); what
 * one knows of another is its reference.
 *
 * Who calls a method is between co_enter() and co_exit().
 *
 * Locks, from the left to the right: the engine's, up to the page-table locks; a Process's; one of
 * an FCM's or of a HAT's; co_system.lock.
 */
#ifndef VMF_SYSTEMS_TORNADO_OBJECTS_H
#define VMF_SYSTEMS_TORNADO_OBJECTS_H

#include "engine/base/radix.h"
#include "machine/soft/soft.h"
#include "systems/ledger.h"
#include "systems/tornado/clustered.h"

extern const struct ledger_actor process_object, region_object, fcm_object, cor_object, dram_object,
	hat_object;

extern const struct co_type process_type, region_type, fcm_type, cor_type, dram_type, hat_type;

/* ---- the DRAM manager (dram.c): the frames, each at home with one CPU ---- */

struct dram {
	struct co_root root;
	u64 first, n; /* frames */
	/* Whose it is, and whether it is in use; not yet anybody's: 0. */
	_Atomic u32 *frames;
};

/* NULL: no memory. */
struct dram *dram_create(struct co_system *s, u64 first, u64 n);
/* The frame is in use from now on, and at home with this CPU.  0; -EBUSY: it is in use; -EINVAL: it
 * is none of its frames.  */
int dram_get_frame(struct co_system *s, unsigned cpu, co_ref dram, u64 pfn);
/* It is free.  0; -EINVAL: it is none, or free by now. */
int dram_free_frame(struct co_system *s, unsigned cpu, co_ref dram, u64 pfn);
bool dram_in_use(const struct dram *d, u64 pfn);
/* Frames that the CPU has in use. */
u64 dram_count(const struct dram *d, unsigned cpu);

/* ---- the COR (cor.c): what stands for the object that is cached, at its server ---- */

enum cor_fill {
	COR_PAGE_NOT_FOUND, /* the object has no such page: zeros */
	COR_STARTED,	    /* its server reads it: the fault is pending */
};

struct cor;
/* NULL: no memory. */
struct cor *cor_create(struct co_system *s, unsigned cpu);
co_ref cor_ref(const struct cor *c);
/* Fill the page at that offset, which `stored` says to be at the server's or not.  A server's
 * worker on the client's own CPU is called for it (a protected procedure call).  -EBADF. */
int cor_start_fill(struct co_system *s, unsigned cpu, co_ref cor, u64 offset, bool stored);

/* ---- the FCM (fcm.c): which pages of a file, or of anonymous memory, are in core ---- */

/* Neighbouring pages of a file that are in the same part of a partitioned FCM. */
#define FCM_CHUNK 16

/* A thread that waits for a fault id, on its own stack. */
struct fault_notification {
	_Atomic u32 done;
	s64 id;
	struct fault_notification *next;
};

struct fcm {
	struct co_root root;
	const _Atomic u32 *generations; /* of frames, by how often each was released */
	bool shared;			/* one representative, one lock, for all CPUs */
	bool of_file;			/* its pages are a file's; otherwise they are anonymous */
	co_ref cor;
	_Atomic u32 users; /* Regions and files that have it */
};

/* What an FCM says of a page. */
struct fcm_page {
	u64 pfn;	/* in core, */
	u32 generation; /* as long as the frame has not been released more often */
	s64 fault;	/* not: what its filling is called */
};

enum fcm_answer {
	FCM_IN_CORE,
	FCM_FILL,    /* nobody had it: the caller's to fill, under page->fault, and to complete */
	FCM_PENDING, /* another fills it; the notification will come */
};

/* With one user.  NULL: no memory. */
struct fcm *fcm_create(struct co_system *s, unsigned cpu, const _Atomic u32 *generations,
		       bool shared);
void fcm_get(struct fcm *f);
/* The last one destroys it. */
void fcm_put(struct fcm *f, unsigned cpu);
/* Is the page at that offset cached in memory?  enum fcm_answer; -EBADF, -ENOMEM.  n NULL: only
 * look; FCM_PENDING: it is not. */
int fcm_get_page(struct co_system *s, unsigned cpu, co_ref fcm, u64 offset, struct fcm_page *page,
		 struct fault_notification *n);
/*
 * The page is filled (pfn), or could not be (NO_PFN): who waits for it is woken.  0; -ENOENT:
 * nobody fills such a page; -EINVAL: not under this id.  The second is the server's method, the
 * first for the FCM itself.
 */
int fcm_filled(struct fcm *f, unsigned cpu, u64 offset, s64 fault, u64 pfn);
int fcm_io_complete(struct co_system *s, unsigned cpu, co_ref fcm, u64 offset, s64 fault, u64 pfn);
/* The page at that offset is in that frame; there is none (if it was in that frame).  Not methods:
 * for who changes memory without a fault.  0, -ENOMEM. */
int fcm_note(struct fcm *f, unsigned cpu, u64 offset, u64 pfn);
void fcm_forget(struct fcm *f, unsigned cpu, u64 offset, u64 pfn);
/* The frame that it has for the page, NO_PFN: none.  Nobody else active. */
u64 fcm_look(struct fcm *f, u64 offset);
/* Sleep until the notification has come. */
void fault_wait(struct fault_notification *n);

/* ---- the Region (process.c): a range, and what is behind it ---- */

struct range {
	u64 start, end;	   /* bytes */
	u32 flags;	   /* VM_READ and so on; VM_GROWSDOWN */
	struct fcm *fcm;   /* of its own copies, or of the file that it shares */
	u64 offset;	   /* pages: of start in it */
	struct fcm *under; /* of the file that it maps privately; NULL: none */
	u64 under_offset;
};

struct region {
	struct co_root root;
	struct list_head link; /* process->regions, by address */
	struct range range;    /* never changes: another Region takes its place */
};

/* ---- the HAT (hat.c): the translations of a Process ---- */

struct hat {
	struct co_root root;
};

struct hat *hat_create(struct co_system *s, unsigned cpu);
/* May `range` have this entry at va?  0; -EFAULT: it is outside; -EACCES: more than it allows. */
int hat_check(const struct range *range, u64 va, pte_t pte);
/* The representative of this CPU, locked; the entry may be written.  NULL: -EBADF. */
struct hat_rep *hat_begin(struct co_system *s, unsigned cpu, co_ref hat);
/* So many entries came, so many went. */
void hat_end(struct hat_rep *h, u64 installed, u64 removed);
/* Entries installed less those removed, all CPUs.  Nobody else active. */
s64 hat_count(struct hat *h);

/* ---- the Process (process.c) ---- */

struct process {
	struct co_root root;
	struct mm *mm;
	spinlock_t lock;	  /* guards regions; the representatives have what they have met */
	struct list_head regions; /* struct region, by address */
	struct hat *hat;
	/* Entries have come that the HAT was not asked for: fork() copies tables, mremap() moves
	 * entries. */
	bool past_hat;
};

struct process *process_create(struct co_system *s, unsigned cpu, struct mm *mm);
/* Which Region needs to handle a fault at va?  0, and *region; -EFAULT: none holds it; -EBADF. */
int process_find_region(struct co_system *s, unsigned cpu, co_ref process, u64 va, co_ref *region);
/* The Region's own say: its range.  0; -EBADF: it is being destroyed; -EFAULT: it does not hold va;
 * -EACCES: it forbids the access that the error code tells. */
int region_enter(struct co_system *s, unsigned cpu, co_ref region, u64 va, u32 code,
		 struct range *range);
/* This CPU's representative has met that Region, which is gone. */
void process_drop_region(struct co_system *s, unsigned cpu, co_ref process, co_ref region);
/* Is there a Region above va that grows down?  */
bool process_may_grow(struct process *p, unsigned cpu, u64 va);
/* The range of the Region that holds va; false: none does.  Any lock of the engine may be held. */
bool process_range_at(struct process *p, u64 va, struct range *range);

/* What process_follow() asks for each area that no Region holds: the FCMs of a new one, each with a
 * user more. false: no memory. */
typedef bool (*process_back_fn)(void *arg, const struct vma *vma, struct range *range);
/*
 * Make the Regions in [start, end) what the engine's areas are: parts without an area go, rights
 * change, areas without a Region get one.  fresh: all that are there go first.  Takes mmap_lock for
 * reading.  0, -ENOMEM: some areas have no Region.
 */
int process_follow(struct process *p, unsigned cpu, u64 start, u64 end, bool fresh,
		   process_back_fn back, void *arg);
/* Every area has a Region that allows the same, and no Region is without.  Panics.  Nobody else
 * active. */
void process_check(struct process *p);

#endif
