/* SPDX-License-Identifier: MIT */
/*
 * Address spaces: an mm is a set of disjoint, page-aligned VMAs, merged wherever two neighbours
 * could merge, kept both in a balanced tree (augmented with the largest hole below each node, so
 * that a hole of a given size is found in O(log n)) and in an ordered list.
 *
 * Locks: mm->mmap_lock for reading to look up and fault, for writing to change the layout.
 * A fault may instead hold vma->lock for reading only.  That lock is only ever got under mmap_lock
 * (for an instant, by trylock, in lock_vma()), so a writer of mmap_lock that has once waited for
 * vma->lock knows that nobody can hold it until mmap_lock is free again.  Whoever changes start,
 * end or pgoff also holds the anon_vma's lock for writing, because reclaim comes from there.
 */
#ifndef VMF_SPACE_MM_H
#define VMF_SPACE_MM_H

#include "engine/base/interval.h"
#include "engine/base/list.h"
#include "engine/base/lock.h"
#include "engine/base/rbtree.h"
#include "engine/page/page.h"
#include "engine/reclaim/oom.h"
#include "engine/space/mempolicy.h"

struct engine;
struct file;
struct mm;
struct resv_map;
struct userfaultfd_ctx;

/* vma->flags: Linux's values. */
enum vm_flag {
	VM_READ = 1u << 0,
	VM_WRITE = 1u << 1,
	VM_EXEC = 1u << 2,
	VM_SHARED = 1u << 3,
	VM_MAYREAD = 1u << 4,
	VM_MAYWRITE = 1u << 5,
	VM_MAYEXEC = 1u << 6,
	VM_MAYSHARE = 1u << 7,
	VM_GROWSDOWN = 1u << 8,
	VM_UFFD_MISSING = 1u << 9, /* a userfaultfd serves faults where no page is */
	VM_UFFD_WP = 1u << 12,	   /* and writes to pages that it has write-protected */
	VM_LOCKED = 1u << 13,	   /* its pages are not reclaimed */
	VM_SEQ_READ = 1u << 15,
	VM_RAND_READ = 1u << 16,
	VM_DONTCOPY = 1u << 17,
	VM_DONTEXPAND = 1u << 18,
	VM_LOCKONFAULT = 1u << 19,
	VM_ACCOUNT = 1u << 20,
	VM_NORESERVE = 1u << 21,
	VM_HUGETLB = 1u << 22, /* of huge pages of a pool: hugetlb/hugetlb.h */
	VM_SYNC = 1u << 23,
	VM_SEALED = 1u << 24, /* can neither go nor change (Linux: higher up) */
	VM_WIPEONFORK = 1u << 25,
	VM_DONTDUMP = 1u << 26,
	VM_DROPPABLE = 1u << 27,  /* Linux has it higher up */
	VM_UFFD_MINOR = 1u << 28, /* and pages that only the file has (Linux: higher up, too) */
	VM_HUGEPAGE = 1u << 29,
	VM_NOHUGEPAGE = 1u << 30,
	VM_MERGEABLE = 1u << 31,
};
#define VM_ACCESS      (VM_READ | VM_WRITE | VM_EXEC)
#define VM_LOCKED_MASK (VM_LOCKED | VM_LOCKONFAULT)
#define VM_UFFD	       (VM_UFFD_MISSING | VM_UFFD_WP | VM_UFFD_MINOR)

/* mmap()'s and mremap()'s flags: Linux's values. */
enum map_flag {
	VMAP_FIXED = 0x10,
	VMAP_FIXED_NOREPLACE = 0x100000,
};
enum remap_flag {
	VREMAP_MAYMOVE = 1,
	VREMAP_FIXED = 2,
	VREMAP_DONTUNMAP = 4,
};
enum vm_advice {
	VADV_DONTNEED = 4,
	VADV_FREE = 8,
};

/*
 * Reverse mapping of anonymous pages: the VMAs in which a page can be mapped.  Shared by VMAs that
 * were split from one another; a page is at vma->start + (index - pgoff) pages in those whose range
 * holds that address.
 *
 * fork() makes a family: a child's VMA is linked into all anon_vmas that its parent's VMA is linked
 * into, where the pages are that the two share, and gets one of its own for the pages that it will
 * have alone.  So a page's anon_vma leads to every VMA that can map it, and not to many others.
 * Each VMA that is linked into an anon_vma is linked into the root of its family, too.
 *
 * Counted by VMAs and not by pages: a page is unmapped before its last VMA goes.
 */
struct anon_vma {
	rwsem_t lock; /* the root's: guards the whole family and, of each VMA linked into it, start,
		       * end and pgoff */
	u32 nr_children;	 /* anon_vmas whose parent this is */
	u32 nr_active;		 /* VMAs whose own it is (vma->anon_vma) */
	u64 nr_vmas;		 /* VMAs linked into it; 0: free */
	struct anon_vma *root;	 /* itself, for a root; see anon_vma_root() */
	struct anon_vma *parent; /* itself, for a root */
	struct rb_root vmas;	 /* struct anon_vma_chain, by pgoff: an interval tree */
	struct anon_vma *next;	 /* free list; an anon_vma's memory is never anything else */
};

/* One VMA in one anon_vma. */
struct anon_vma_chain {
	struct vma *vma;
	struct anon_vma *anon_vma;   /* NULL: not in use */
	struct anon_vma_chain *next; /* of the same VMA, from its family's root on; mmap_lock */
	struct rb_node node;	     /* anon_vma->vmas */
	u64 end;		     /* greatest index + 1 in this subtree of it */
};

struct vma {
	u64 start, end;	      /* bytes, page aligned; mmap_lock + lock for writing to change */
	u64 pgoff;	      /* pages: linear index of start.  Anonymous: start >> PAGE_SHIFT when
			       * created, kept by a move, so that page->index stays right */
	u32 flags;	      /* enum vm_flag */
	rwsem_t lock;	      /* the per-VMA lock */
	_Atomic u32 refcount; /* a holder of lock without mmap_lock also holds one */
	bool detached;	      /* no longer in the tree */
	_Atomic bool maybe_guard; /* its table has had guards: fork has to copy it */
	struct mm *mm;
	struct file *file;	 /* NULL: anonymous; pgoff counts from the file's start */
	struct mempolicy policy; /* where its memory is to come from; default: as the space says */
	/* Who serves its faults; NULL unless flags & VM_UFFD.  Changes as flags do: mmap_lock for
	 * writing, drained. */
	struct userfaultfd_ctx *uffd;
	struct rb_node node;	   /* mm->tree */
	u64 hole_before;	   /* bytes free between the VMA below (or mm->low) and this */
	u64 largest_hole;	   /* greatest hole_before in this subtree */
	struct list_head link;	   /* mm->vmas, by address */
	struct anon_vma *anon_vma; /* its own: NULL until the first page; see vma_anon() */
	struct anon_vma_chain *anon_vma_chain; /* all that it is linked into */
	struct anon_vma_chain first_link;      /* of these: most VMAs have no other */
	struct interval_node shared;	       /* file->mapping->i_mmap, by page of the file */
	/* VM_HUGETLB, private, and all its pages are promised to it: those that it has used; else
	 * NULL.  Shared with VMAs that were split from it.  As start and end. */
	struct resv_map *resv;
	/* VM_HUGETLB: it lost pages to the area that they are promised to. */
	_Atomic bool hugetlb_unmapped;
};

/* May a VMA with these flags write to its file, now or after an mprotect(2)?  That does not change
 * as long as there is the VMA. */
static inline bool vma_may_write_file(u32 flags)
{
	return (flags & (VM_SHARED | VM_MAYWRITE)) == (VM_SHARED | VM_MAYWRITE);
}

/* Pages between a stack and what lies below it. */
#define STACK_GUARD_GAP (256ULL << PAGE_SHIFT)

/* What setrlimit(2) and the system's settings allow a space; ~0: as much as there is.  Set when the
 * space is made, and by the machine at any time under mmap_lock for writing. */
struct mm_limits {
	u64 as, data, stack, memlock; /* bytes: RLIMIT_AS and so on */
	bool may_lock_all;	      /* memlock does not bind: CAP_IPC_LOCK */
	bool may_break_memory;	      /* MADV_HWPOISON, MADV_SOFT_OFFLINE: CAP_SYS_ADMIN */
	bool may_move_shared;	      /* MPOL_MF_MOVE_ALL: CAP_SYS_NICE */
	u64 map_count;		      /* VMAs: vm.max_map_count */
	u64 commit;		      /* bytes of one mapping: all memory and swap there is */
};

struct mm {
	struct engine *engine;
	rwsem_t mmap_lock;
	struct rb_root tree;
	struct list_head vmas;
	u64 map_count;	       /* VMAs */
	u64 low, high;	       /* bytes: VMAs live in [low, high) */
	pte_t *pgd;	       /* 4-level, x86-64 format */
	u64 pgd_phys;	       /* for CR3 */
	spinlock_t table_lock; /* guards adding tables above the last level */
	/* Pages, by what their areas are; mmap_lock for writing. */
	u64 total_vm, data_vm, exec_vm, stack_vm, locked_vm;
	u64 locked_stale; /* of locked_vm: not locked any more; see mremap(2) with DONTUNMAP */
	u32 def_flags;	  /* of every new area: mlockall(MCL_FUTURE) */
	u64 mmap_min;	  /* bytes: nothing is mapped below, as vm.mmap_min_addr says */
	/* Bytes: what the system was built with besides (CONFIG_LSM_MMAP_MIN_ADDR).  It refuses no
	 * address that is asked for, but see mm_hint_min(). */
	u64 lsm_mmap_min;
	/* The heap: where it began and ends (set by who loads a program; mmap_lock), and the bytes
	 * of data that count with it against RLIMIT_DATA. */
	u64 start_brk, brk, data_bytes;
	struct mm_limits limits;
	/* Of areas that have none, and of the page cache: written with mmap_lock for writing and
	 * policy_lock, read with either. */
	struct mempolicy policy;
	spinlock_t policy_lock;	      /* innermost */
	_Atomic u64 policy_turn;      /* pages of the page cache that it has interleaved */
	_Atomic u64 numa_scan_offset; /* address: task_numa_work() goes on there */
	_Atomic s64 rss;	      /* pages mapped (without the shared zero page) */
	_Atomic s64 rss_file;	      /* of these: entries that map pages of files */
	_Atomic s64 swapped;	      /* entries that are swap entries */
	_Atomic s64 tables;	      /* page-table frames */
	_Atomic s64 hugetlb_pages;    /* frames of pools that its entries map; not in rss */
	bool unmerged;		      /* fork left neighbours that could merge; see mm_fork() */
	_Atomic u64 minor, major;     /* faults */
	struct list_head userfaults;  /* contexts; engine->mms_lock */
	struct list_head userfault_events; /* to be told when mmap_lock, held for writing, goes */
	struct list_head link;		   /* engine->mms; engine->mms_lock */
	u64 walked;	   /* the last walk for accessed bits that saw it; engine->mms_lock */
	u64 scanned;	   /* the last pass of the scan for huge pages that is through with it */
	u64 scan_at;	   /* where that scan goes on; both: engine->collapsing */
	_Atomic u32 users; /* who has it, and will put it */
	/* Who looks at it and keeps it from going; engine->mms_lock to change it. */
	_Atomic u32 visitors;
	struct oom_owner owner;	 /* for when memory runs out: reclaim/oom.h; mms_lock */
	_Atomic bool oom_victim; /* it was killed for that: its faults fail */
	_Atomic bool exiting;	 /* its last user is taking it down */
	void *machine;		 /* the machine's own */
};

/* Linux's mmap_min_addr: hints are raised to it, no stack grows below it, and no userfaultfd serves
 * there.  (The setting of that name is another, in spite of it: there it is dac_mmap_min_addr.) */
static inline u64 mm_hint_min(const struct mm *mm)
{
	return max_of(mm->mmap_min, mm->lsm_mmap_min);
}

/* A new empty space with room for VMAs in [low, high), and one user.  0, -ENOMEM, -EINVAL. */
int mm_create(struct engine *e, u64 low, u64 high, struct mm **mm);
/* Unmap everything and free it.  No other user may be left. */
void mm_destroy(struct mm *mm);
/* One user more; one less, and the last destroys it.  No CPU has it loaded then. */
static inline void mmget(struct mm *mm)
{
	atomic_fetch_add_explicit(&mm->users, 1, memory_order_relaxed);
}
void mmput(struct mm *mm);
/*
 * The spaces one after the other: the one behind mm, or the first (NULL); NULL: no more.  It cannot
 * go until it is handed in for the next, or to mm_visit_end(): it waits.  No lock held but
 * mmap_lock of none of them.
 */
struct mm *mm_visit_next(struct engine *e, struct mm *mm);
void mm_visit_end(struct mm *mm);
/* Whose space it is; a copy of that.  Neither takes any lock but mms_lock. */
void mm_set_owner(struct mm *mm, const struct oom_owner *owner);
struct oom_owner mm_owner(const struct mm *mm);
/* Once more, for a space that one visits. */
void mm_visit_again(struct mm *mm);
/*
 * fork(2): a new space with what the parent has, as far as it is inherited:
 *   VM_DONTCOPY    not there;
 *   VM_WIPEONFORK  there, without its pages;
 *   VM_LOCKED      there, not locked (and not merged with a neighbour that is now alike);
 *   all others     there; private pages and swap entries are shared, read-only on both sides, until
 *                  one writes.  What a file has is left for the child's faults to find.
 * Takes the parent's mmap_lock for writing, so no thread of it faults meanwhile; those that write
 * to pages that they have go on until the one flush in the end, and what they write until then is
 * in the child, too.  The child's kernel half is the caller's to attach, as for every new space.
 * 0; -ENOMEM: there is no child (it has none, either, when it was killed), and the parent is as it
 * was (its next write to a page may fault); -ENOSYS: the machine does not share pages.
 */
int mm_fork(struct mm *parent, struct mm **child);

/*
 * Map `len` bytes (rounded up to pages) of private anonymous memory with access `prot`
 * (VM_READ | ...), extra VM_ flags `vm_flags`.  addr is a hint, or exact with VMAP_FIXED (what is
 * there is unmapped first) or VMAP_FIXED_NOREPLACE.  Without: top-down, highest hole that fits.
 * Returns the address, or -EINVAL (len 0, unaligned fixed address), -ENOMEM (no hole, outside the
 * space, no memory), -EEXIST.  Takes mmap_lock for writing.
 */
s64 vm_map(struct mm *mm, u64 addr, u64 len, u32 prot, u32 map_flags, u32 vm_flags);
/*
 * Map `len` bytes of a file from page pgoff of it, shared with VM_SHARED among vm_flags; addr is
 * exact with VMAP_FIXED, otherwise the highest hole is taken.  The VMA has a reference to the file.
 * Address, -EINVAL, -ENOMEM, -EOVERFLOW, -EACCES (the file is not open for that), -EPERM (sealed).
 */
s64 vm_map_file(struct mm *mm, u64 addr, u64 len, u32 prot, u32 map_flags, u32 vm_flags,
		struct file *file, u64 pgoff);
/* As munmap(2).  0, -EINVAL, -ENOMEM.  Takes mmap_lock for writing. */
int vm_unmap(struct mm *mm, u64 addr, u64 len);
/* As do_mprotect() of calls.h, with VM_READ and so on. */
int vm_protect(struct mm *mm, u64 addr, u64 len, u32 prot);
/* As do_mremap() of calls.h. */
s64 vm_remap(struct mm *mm, u64 old, u64 old_len, u64 new_len, u32 flags, u64 new_addr);
/* As madvise(2) for VADV_DONTNEED, VADV_FREE (which acts as DONTNEED on clean machines). */
int vm_advise(struct mm *mm, u64 addr, u64 len, enum vm_advice advice);

/* The lowest VMA that ends above addr, or NULL.  mmap_lock held. */
struct vma *find_vma(const struct mm *mm, u64 addr);
/* The VMA that holds address, or a stack above it that has grown down to it; NULL: there is none,
 * and mmap_lock has been dropped.  mmap_lock held for reading, and still if there is one; may_wait:
 * it may be waited for.  (stack.c) */
struct vma *find_extend_vma(struct mm *mm, u64 address, bool may_wait);
/* Let a stack grow down to address, below it.  0; -EFAULT (it is none), -EPERM (too low), -ENOMEM
 * (limits, or what lies below is too near).  mmap_lock held for writing. */
int expand_stack(struct vma *vma, u64 address);
/* The VMA that holds addr, read-locked (vma->lock), without waiting for mmap_lock; NULL: take
 * mmap_lock (it is being written, or there is no VMA, or the VMA may need an anon_vma and has none
 * yet). */
struct vma *lock_vma(struct mm *mm, u64 addr);
void unlock_vma(struct vma *vma);
/* NULL at the end.  mmap_lock held. */
struct vma *vma_next(const struct vma *vma);
struct vma *vma_prev(const struct vma *vma);
/* Highest address of a hole of len bytes below `below`, or 0.  O(log n).  mmap_lock held. */
u64 vma_find_hole(const struct mm *mm, u64 len, u64 below);

/* Its flags, for who keeps it from going but not from changing: by the tree of its file, by its
 * anon_vma, or with a lock of a page that it maps. */
static inline u32 vma_flags(const struct vma *vma)
{
	return __atomic_load_n(&vma->flags, __ATOMIC_RELAXED);
}
/* Give the VMA an anon_vma if it has none: a neighbour's where the two might merge one day.
 * 0, -ENOMEM.  mmap_lock held. */
int anon_vma_prepare(struct vma *vma);
static inline struct anon_vma *vma_anon(const struct vma *vma)
{
	return __atomic_load_n(&vma->anon_vma, __ATOMIC_ACQUIRE);
}
/* Whose lock guards the family.  Of an anon_vma that may be free by now it is the right one only if
 * it is the same when that lock is held. */
static inline struct anon_vma *anon_vma_root(const struct anon_vma *av)
{
	return __atomic_load_n(&av->root, __ATOMIC_RELAXED);
}
/* The VMAs in an anon_vma that hold a linear index, one after the other.  Root's lock held. */
struct anon_vma_chain *anon_vma_first(struct anon_vma *av, u64 index);
struct anon_vma_chain *anon_vma_next(struct anon_vma_chain *link, u64 index);
/* Give the memory of all anon_vmas back, when all spaces are gone. */
void anon_vma_fini(struct engine *e);
/* Bits of the entry of an anonymous page of this VMA, without accessed and dirty. */
u64 vma_pte_bits(const struct vma *vma);
/* The same for a page of the VMA's file: read-only in a private mapping, and in a shared one as
 * long as the file must be told of the first write (`dirty`: it has been). */
u64 vma_file_pte_bits(const struct vma *vma, bool dirty);
/* Does it map shared memory, privately or not? */
bool vma_is_shmem(const struct vma *vma);
/* Must the file know of the first write to each page of this VMA? */
bool vma_wants_writenotify(const struct vma *vma);

/* ---- page tables of an mm (space/table.c) ---- */

/* The entry of va and the lock of its table, or NULL: no table there.  Nothing is allocated.
 * The table stays while mmap_lock or the VMA lock or the anon_vma lock of a VMA over it is held. */
pte_t *pte_find(struct mm *mm, u64 va, spinlock_t **ptl);
/* As pte_find, making the tables that are missing.  NULL: no memory. */
pte_t *pte_alloc(struct mm *mm, u64 va, spinlock_t **ptl);
/* The first entry at or above *va and below end whose last-level table exists; *va becomes its
 * address.  NULL: no more.  For going over a range table by table; locks as pte_find(). */
pte_t *pte_next_table(struct mm *mm, u64 *va, u64 end, spinlock_t **ptl);
/* Put down again an entry that was cleared and flushed.  Page-table lock held. */
void pte_put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte);
/* Unmap all pages and drop all swap entries of [start, end) of the VMA, flush once, free frames;
 * tables stay.  unmap: the VMA goes, and what markers say of pages to come with it.  mmap_lock
 * held. */
void zap_range(struct vma *vma, u64 start, u64 end, bool unmap);
/* When this entry's page goes, for reasons that are not the program's, is it to be remembered that
 * it was write-protected by userfaultfd?  (An anonymous page that goes is new when it comes back.)
 */
static inline bool vma_keeps_uffd_wp(const struct vma *vma, pte_t pte)
{
	return unlikely(vma_flags(vma) & VM_UFFD_WP) && vma->file && pte_uffd_wp(pte);
}
/* Move the entries of [from, from + len) to `to`, where none are.  mmap_lock and the anon_vma lock
 * for writing.  0, -ENOMEM (all is still where it was). */
int move_tables(struct mm *mm, u64 from, u64 to, u64 len);
/*
 * The machine found the page at va present although the engine's entry says otherwise: account a
 * frame for it (dirty), drop a swap entry if there is one.  Used by machines whose programs can
 * gain pages by themselves.  0, -EEXIST (entry is present already), -ENOMEM (no frame: over the
 * limit), -EFAULT (no VMA, or one whose pages are shared with others).  mmap_lock for reading held.
 */
int adopt_page(struct mm *mm, struct vma *vma, u64 va);

/* Check every invariant of the space; panics with a message.  For debug builds and tests.
 * No other user of the mm may be active. */
void mm_check(struct mm *mm);

#endif
