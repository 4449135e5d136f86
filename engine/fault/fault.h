/* SPDX-License-Identifier: MIT */
/*
 * The fault path.  A machine brings (address, error code); the answer is that the access may be
 * retried, or a reason why it cannot be allowed.  The names are those of Linux's call graph.
 */
#ifndef VMF_FAULT_FAULT_H
#define VMF_FAULT_FAULT_H

#include "engine/mmu/error_code.h"
#include "engine/space/mm.h"

enum fault_flag {
	FAULT_FLAG_WRITE = 0x01,
	FAULT_FLAG_MKWRITE = 0x02,
	FAULT_FLAG_ALLOW_RETRY = 0x04,
	FAULT_FLAG_RETRY_NOWAIT = 0x08,
	FAULT_FLAG_KILLABLE = 0x10,
	FAULT_FLAG_TRIED = 0x20,
	FAULT_FLAG_USER = 0x40,
	FAULT_FLAG_REMOTE = 0x80,
	FAULT_FLAG_INSTRUCTION = 0x100,
	FAULT_FLAG_VMA_LOCK = 0x1000,
	FAULT_FLAG_ABSENT = 0x10000,  /* ours: the machine had no translation (code without P) */
	FAULT_FLAG_TRYLOCK = 0x20000, /* ours: mmap_lock may be the faulting thread's own */
	FAULT_FLAG_NO_GROW = 0x40000, /* ours: no stack grows for it */
};

enum vm_fault {
	VM_FAULT_OOM = 0x01,
	VM_FAULT_SIGBUS = 0x02,
	VM_FAULT_MAJOR = 0x04,
	VM_FAULT_HWPOISON = 0x10,	/* the memory is broken: SIGBUS; a page is lost, */
	VM_FAULT_HWPOISON_LARGE = 0x20, /* or 2^VM_FAULT_LSB() bytes */
	VM_FAULT_SIGSEGV = 0x40,
	VM_FAULT_NOPAGE = 0x100,
	/* All locks are dropped; let the access fault again.  With MAJOR: the page has been read
	 * meanwhile; do_user_addr_fault() tries once more by itself. */
	VM_FAULT_RETRY = 0x400,
	VM_FAULT_NEEDDSYNC = 0x2000, /* MAP_SYNC: the file's metadata must last first */
	VM_FAULT_FALLBACK = 0x800,   /* no huge page: by single pages */
};
#define VM_FAULT_BROKEN (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)
#define VM_FAULT_ERROR	(VM_FAULT_OOM | VM_FAULT_SIGBUS | VM_FAULT_SIGSEGV | VM_FAULT_BROKEN)
/* With VM_FAULT_HWPOISON_LARGE: how large the page is. */
#define VM_FAULT_SET_LSB(lsb) ((unsigned)(lsb) << 16)
#define VM_FAULT_LSB(ret)     ((ret) >> 16 & 63)

struct fault_result;

/* One fault on its way down. */
struct vm_fault_info {
	struct vma *vma;
	u64 address; /* page aligned */
	u64 real_address;
	unsigned flags; /* enum fault_flag */
	pte_t *ptep;	/* its entry, */
	spinlock_t *ptl;
	pte_t orig; /* as read before anything was done, */
	struct fault_result *res;
	u64 pgoff;	   /* page of the file, for a VMA that has one */
	struct page *page; /* the file's page: locked, with a reference */
	bool unlocked;	   /* the VMA's lock (or mmap_lock) was dropped: VM_FAULT_RETRY follows */
};

/* What the program sees of a fault that could not be resolved: si_code values of Linux. */
enum fault_reason {
	FAULT_OK = 0,
	FAULT_RETRY,	/* fault again; nothing changed for good */
	FAULT_MAPERR,	/* SIGSEGV: no VMA */
	FAULT_ACCERR,	/* SIGSEGV: the VMA forbids it */
	FAULT_BUS,	/* SIGBUS: the page cannot be had */
	FAULT_OOM,	/* no memory although reclaim tried */
	FAULT_KILLED,	/* SIGKILL: the process was killed for want of memory; only with
			 * config.oom_kill */
	FAULT_HWPOISON, /* SIGBUS: the memory is broken; only with config.memory_failure */
};

struct fault_result {
	enum fault_reason reason;
	bool major;	     /* it had to read from a store or a file, or was tried twice */
	bool zero;	     /* it was given zeros */
	bool second_chance;  /* the page was on its way out and came back */
	unsigned prefetched; /* neighbours installed with it */
	u8 lsb;		     /* FAULT_HWPOISON: 2^lsb bytes are lost */
};

/*
 * The entry for machines: resolve a user-mode access to `address` with x86 error code `code`
 * (PF_WRITE, PF_INSTR, ...).  Takes and drops the VMA lock or mmap_lock itself.  Sleeps.
 * No lock held by the caller.  Counts into mm->minor/major and engine statistics.
 *
 * FAULT_OK means that the access may be made again, not that set() was called for its page: another
 * may have been first, or a neighbour was refused by the machine.  A machine that holds the thread
 * until its page is there lets it go after FAULT_OK and FAULT_RETRY in any case.
 */
struct fault_result do_user_addr_fault(struct mm *mm, u64 address, u32 code);
/*
 * The same for an access of any mode, as `flags` say: FAULT_FLAG_USER, or FAULT_FLAG_TRYLOCK: a
 * mmap_lock that somebody holds for writing gives FAULT_MAPERR at once.
 */
struct fault_result resolve_fault(struct mm *mm, u64 address, u32 code, unsigned flags);

/*
 * Resolve a fault in a VMA that allows the access.  enum vm_fault bits.
 * mmap_lock (or vma->lock with FAULT_FLAG_VMA_LOCK) held for reading; still held on return
 * unless VM_FAULT_RETRY.
 */
unsigned handle_mm_fault(struct vma *vma, u64 address, unsigned flags, struct fault_result *res);

/*
 * Bring in the page at va, which the VMA holds and allows to be read (or written), as an access
 * would, without one.  0, -EFAULT (it cannot be had), -EHWPOISON (it is lost), -ENOMEM; -EAGAIN:
 * mmap_lock has been dropped, and whatever is there now may be tried.  mmap_lock held for reading.
 */
int faultin_page(struct vma *vma, u64 va, bool write);

/* ---- NUMA hinting (numa.c) ---- */

/* Have the next access to each page of [start, end) of the VMA fault, to see which node it comes
 * from.  Returns how many entries changed.  mmap_lock held. */
u64 change_prot_numa(struct vma *vma, u64 start, u64 end);
/* The same for the next `pages` pages of the space, going around: for whoever has time, now and
 * then.  0 where there is one node, or if mmap_lock is not to be had.  Takes mmap_lock for reading;
 * of two at a time both may ask of the same pages. */
u64 task_numa_work(struct mm *mm, u64 pages);
/* The same in each space, for a thread that does nothing else.  No lock held. */
u64 numa_scan(struct engine *e, u64 pages);
/*
 * Bring in what areas have of [start, end), each page as the program would be likely to use it:
 * private writable ones for writing.  Not VM_LOCKONFAULT ones.  0, -EFAULT (it may not be
 * accessed, or cannot be had), -ENOMEM: what lies before is there; ignore_errors: all that can be
 * had is, and 0.  Takes mmap_lock for reading.
 */
int populate_range(struct mm *mm, u64 start, u64 end, bool ignore_errors);

/* Does the VMA forbid this access? */
bool access_error(u32 code, const struct vma *vma);

#endif
