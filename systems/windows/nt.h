/* SPDX-License-Identifier: MIT */
/*
 * The kernel side of Windows: its own memory, which can be paged out.
 *
 * The kernel half of every address space has four regions, and their page tables, which are made at
 * the start and never paged:
 *
 *   nonpaged pool   always valid: what may be touched at any IRQL
 *   paged pool      as a program's memory: there when it is touched, if the IRQL allows waiting
 *   images          sections of drivers' code and data, pageable unless locked
 *   views           of sections that are mapped in several places, through prototype entries
 *
 * A page of the pageable regions is in one of the states of entry.h, and its frame, if it has one,
 * in one of those of the frame database below.  It leaves by being trimmed (its entry becomes
 * transition, its frame goes to the standby or the modified list), by being written to the page
 * file if it is modified, and by its frame's being used for another.  Until that last step a touch
 * brings it back without I/O.
 *
 * A frame has one entry that owns it: the entry of its page, or the page's prototype.
 */
#ifndef VMF_SYSTEMS_WINDOWS_NT_H
#define VMF_SYSTEMS_WINDOWS_NT_H

#include "engine/base/list.h"
#include "engine/kernel/kernel.h"
#include "machine/soft/soft.h"
#include "systems/common/lab_store.h"
#include "systems/ledger.h"
#include "systems/windows/bugcheck.h"
#include "systems/windows/entry.h"

#define NT_BASE		0xfffff80000000000ULL
#define NT_REGION_PAGES PTRS_PER_TABLE /* one last-level table each */

enum nt_region_type { NT_NONPAGED_POOL, NT_PAGED_POOL, NT_IMAGES, NT_VIEWS, NR_NT_REGIONS };

#define NT_FRAMES_ORDER	   6 /* of the kernel's memory: 64 frames */
#define NT_PROTOTYPES	   512
#define NT_PAGE_FILE_SLOTS 1024
#define NT_SECTIONS	   16

/* Interrupt request levels; devices' are above DISPATCH_LEVEL. */
enum irql { PASSIVE_LEVEL, APC_LEVEL, DISPATCH_LEVEL, DEVICE_LEVEL, HIGH_LEVEL = 15 };

/* Whose instruction it is that accesses memory. */
enum nt_module { NT_KERNEL, NT_DRIVER };

enum mi_frame_state {
	MI_FREE,
	MI_ACTIVE,   /* the owning entry is valid */
	MI_STANDBY,  /* it is transition, and the page file has the same bytes */
	MI_MODIFIED, /* it is transition, and nothing else has the bytes */
	MI_READING,  /* it is transition, and the bytes are on their way */
	MI_WRITING,  /* as MI_MODIFIED, and a copy of the bytes is on its way to the page file */
	NR_MI_FRAME_STATES
};

#define MI_NO_SLOT (~0ULL)

/* All under nt->lock. */
struct mi_frame {
	enum mi_frame_state state;
	struct list_head link; /* of the list of its state; alone if there is none */
	pte_t *owner;	       /* NULL: free */
	u64 slot;	       /* of the page file, with these bytes unless `dirty`; MI_NO_SLOT */
	u32 locks;	       /* sections that are locked, and have it */
	u32 views;	       /* valid entries of views; the owner is a prototype */
	bool dirty;	       /* differs from its slot, or has none */
	bool nonpaged;
	u64 writing;	   /* MI_WRITING: which of all writings it is */
	_Atomic u32 event; /* one more whenever reading or writing it has ended: a futex */
};

enum nt_fault {
	NT_SPURIOUS,	/* the entry was valid by then */
	NT_DEMAND_ZERO, /* the four ways of MiDispatchFault */
	NT_TRANSITION,
	NT_HARD, /* from the page file (a program's: from a file, too) */
	NT_PROTOTYPE,
	NT_COLLIDED, /* another CPU was reading the page */
	NR_NT_FAULTS
};

struct nt_cpu {
	u8 irql;
	u8 paging; /* it is on its way to the page file or back */
	enum nt_module module;
	_Atomic u64 stack;		  /* address that trap frames are pushed to */
	_Atomic u64 faults[NR_NT_FAULTS]; /* read anywhere */
};

/* nt->lock. */
struct nt_region {
	u64 start;
	bool used[NT_REGION_PAGES];
	u16 pages[NT_REGION_PAGES]; /* of what begins there; 0: nothing does */
	u32 tag[NT_REGION_PAGES];
};

/* Of an image; nt->lock. */
struct nt_section {
	u64 va, pages; /* pages 0: not in use */
	u32 locks;
	u32 locking; /* CPUs that are about to */
};

struct nt;

/* The disk that has the page file, called at APC_LEVEL without a lock.  0, -EIO, -ENOSPC. */
struct nt_disk {
	int (*read)(struct nt *k, unsigned cpu, u64 slot, void *bytes);
	int (*write)(struct nt *k, unsigned cpu, u64 slot, const void *bytes);
};

struct nt {
	struct kernel half; /* the tables */
	struct soft_machine *machine;
	struct ledger *ledger;
	const struct ledger_actor *actor;
	struct bugcheck bugcheck;
	struct nt_cpu cpus[SOFT_MAX_CPUS]; /* each its own thread's */
	bool verifier;			   /* trims all at each raise to DISPATCH_LEVEL */
	const struct nt_disk *disk;
	struct lab_store page_file;
	/* The system's working set and the frame database: all below, and all entries that are not
	 * none.  Accessed and dirty bits are the hardware's. */
	spinlock_t lock;
	struct page *memory; /* the first frame's */
	u64 first_pfn, nr_frames;
	struct mi_frame *frames;
	struct list_head lists[NR_MI_FRAME_STATES]; /* free, standby and modified, oldest first */
	struct nt_region regions[NR_NT_REGIONS];
	bool slots[NT_PAGE_FILE_SLOTS];	 /* in use */
	pte_t prototypes[NT_PROTOTYPES]; /* MI_NOTHING: not in use */
	u16 segment_pages[NT_PROTOTYPES];
	struct nt_section sections[NT_SECTIONS];
	u64 writings;  /* begun, ever */
	unsigned hand; /* trimming goes on there: page of all pageable regions */
};

static inline u64 nt_region_start(enum nt_region_type r)
{
	return NT_BASE + r * PMD_SIZE;
}
static inline bool nt_is_pageable(u64 va)
{
	return va >= nt_region_start(NT_PAGED_POOL) && va < nt_region_start(NR_NT_REGIONS);
}

/* The kernel side on that machine, whose memory comes from its table frames.  0, -ENOMEM. */
int nt_create(struct soft_machine *m, struct ledger *ledger, const struct ledger_actor *actor,
	      struct nt **nt);
/* No CPU has a space loaded. */
void nt_destroy(struct nt *k);
/* The space is to have the kernel's half. */
void nt_attach(struct nt *k, struct mm *mm);

/*
 * An access by the kernel's code or a driver's, of up to a page, within one: PF_WRITE, PF_INSTR or
 * 0; by the thread that drives the CPU.  0; -EFAULT: a program's address that cannot be had, which
 * code that expects it survives; otherwise the errno of the bug check that it ended with.
 */
int nt_access(struct nt *k, unsigned cpu, enum nt_module module, u64 va, u32 access, void *bytes,
	      size_t n);
/* The kernel stops; the errno of what it stopped for first. */
int ke_bug_check(struct nt *k, enum bugcheck_code code, u64 p1, u64 p2, u64 p3, u64 p4);
/* The CPU goes on on the stack at that address, of whatever memory. */
void ke_switch_stack(struct nt *k, unsigned cpu, u64 va);

/*
 * The page fault `code` at `va` in the kernel half, from kernel mode, on that CPU.  0: the access
 * may be made again; otherwise as nt_access().  Takes k->lock, and waits for the disk.
 */
int mm_access_fault(struct nt *k, unsigned cpu, u32 code, u64 va);
/* May that CPU take a fault now at all?  0, or the errno of the bug check. */
int ki_enter_trap(struct nt *k, unsigned cpu);
/* As a fault of a program's memory in kernel mode would: at DISPATCH_LEVEL it stops the kernel. */
int ki_check_irql(struct nt *k, unsigned cpu, u32 code, u64 va);

u64 nt_faults(const struct nt *k, enum nt_fault kind); /* of all CPUs */
void nt_count(struct nt *k, unsigned cpu, enum nt_fault kind);

/* Each frame is in one state and one place, each slot is somebody's, and entries, views and locks
 * are as counted.  Panics with a message.  Nobody else active. */
void nt_check(struct nt *k);

#endif
