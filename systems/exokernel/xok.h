/* SPDX-License-Identifier: MIT */
/*
 * The exokernel itself, in the manner of Xok (Engler, Kaashoek, O'Toole, SOSP 1995; Kaashoek et
 * al., SOSP 1997): frames with owners, environments with capabilities, page tables that everybody
 * may read and only the kernel writes.  It decides nothing: it checks, and does what a library
 * operating system asks for.
 *
 * A capability names a resource and what may be done with its frames.  An environment presents one
 * by its index among its own; it holds no other name for it, so it cannot make one up.
 */
#ifndef VMF_EXOKERNEL_XOK_H
#define VMF_EXOKERNEL_XOK_H

#include "machine/soft/soft.h"
#include "systems/system.h"

/* Whom it enters. */
extern const struct ledger_actor library_actor;

#define XOK_CAPS       8
#define XOK_KERNEL     0   /* the resource of frames that nobody was given */
#define XOK_GOING      ~0U /* of frames that are just being given back or repossessed: nobody's */
#define XOK_RESOURCES  4   /* with XOK_KERNEL */
#define XOK_GUARANTEED 4   /* frames that a library may name that are not repossessed */
#define XOK_PATIENCE   3   /* time slices in which a library has to answer */
/* Environments: of two libraries, each with as many processes as a program may have. */
#define XOK_ENVS   (2 * PROGRAM_PROCESSES)
#define XOK_NOBODY XOK_ENVS /* no environment's number */
#define XOK_NESTED 6	    /* levels of an exception stack: a fault, and those of its handlers */

enum xok_right { XOK_READ = 1, XOK_WRITE = 2, XOK_GRANT = 4 };

struct xok_capability {
	u32 resource; /* XOK_KERNEL: the slot is empty */
	u32 rights;   /* enum xok_right */
};

/* What the kernel leaves on the exception stack for the handler that it enters. */
struct xok_trap_frame {
	u64 va, code; /* what was touched, and the error code */
	u64 level;    /* 0: the program's fault; n: that of a handler n deep */
	u64 reserved; /* 0 */
};

#define XOK_STACK_CPUS	(PAGE_SIZE / (XOK_NESTED * sizeof(struct xok_trap_frame))) /* on a page */
#define XOK_STACK_PAGES ((SOFT_MAX_CPUS + XOK_STACK_CPUS - 1) / XOK_STACK_CPUS)

/* Of an exception stack for so many CPUs. */
static inline unsigned xok_stack_pages(unsigned cpus)
{
	return (unsigned)((cpus + XOK_STACK_CPUS - 1) / XOK_STACK_CPUS);
}

/* The handler; the frame is on its stack. */
typedef struct fault_result (*xok_fault_fn)(void *arg, struct mm *mm,
					    const struct xok_trap_frame *frame);

/* A processor environment: where the kernel enters whom, and what that may touch.  x->lock. */
struct xok_env {
	_Atomic bool used;	 /* it and mm: everybody may read them */
	_Atomic(struct mm *) mm; /* whose page table is this environment's */
	bool dying;		 /* it has been killed, and a handler of it has not come out yet */
	unsigned killed_on;	 /* then: the CPU whose fault it was killed for; ~0: none's */
	u32 resource;		 /* whose it is */
	/* Its handler of page faults: xok_set_handler(). */
	xok_fault_fn fault;
	void *arg;
	struct xok_capability caps[XOK_CAPS];
	/* Its exception stack, XOK_STACK_CPUS CPUs a page, which neither is repossessed nor can be
	 * given back: pfns; 0: there is none.  And the levels that are taken, by CPU. */
	u64 stack[XOK_STACK_PAGES];
	u8 levels[SOFT_MAX_CPUS];
};

/* A CPU's time-slice vector: environments that run there in turn.  x->lock. */
struct xok_slices {
	unsigned n, at; /* at: whose slice it is */
	unsigned envs[XOK_ENVS];
	_Atomic unsigned current; /* envs[at]; XOK_NOBODY: it has none.  Everybody may read it */
};

/* Where the kernel enters a library operating system that has frames: by upcalls, no lock held. */
struct xok_entries {
	/* Please give back n frames, of your choice (xok_give_frames()). */
	void (*revoke)(void *arg, u64 n);
	/* Frames were taken by force: their names are in the repossession vector. */
	void (*repossessed)(void *arg);
};

/* The library operating system that has a resource, in however many environments. */
struct xok_holder {
	const struct xok_entries *entries; /* NULL: it cannot be asked */
	void *arg;
	struct ledger *ledger; /* who pays for what it does when it is asked; NULL: who asks */
	_Atomic u64 frames;    /* that it has */
	_Atomic u64 given;     /* that it has given back, ever */
	/* It has wanted frames in this slice, or in its last one: xok_end_slice(). */
	_Atomic bool wants, wanted;
	u64 guaranteed[XOK_GUARANTEED]; /* pfns; 0: none */
	/* The repossession vector, which it may read: by frame, the bytes that were there, in the
	 * blocks of its disk to which the kernel has written them; NULL: that frame was not taken.
	 */
	_Atomic(char *) *vector;
	_Atomic u64 nr_vector;
	rwsem_t inside; /* for reading: it has been entered for a fault; for writing: the abort */
};

struct xok {
	struct soft_machine *machine;
	struct mmu_ops hardware; /* how the kernel writes entries, once it has checked */
	_Atomic u32 *owners;	 /* of each frame of programs: a resource; everybody may read it */
	u64 nr_frames;
	unsigned stack_pages; /* of each exception stack */
	/* Where page tables are the libraries' own, and the kernel does not look into them: no
	 * binding that it has made leads to a frame that is XOK_GOING any more; none of that
	 * environment's is left.  NULL: the entries are the bindings. */
	void (*unbind)(struct xok *x);
	void (*unbind_env)(struct xok *x, unsigned env);
	spinlock_t lock; /* owners change, or are what a check has seen until the entry is written
			  */
	rwsem_t going;	 /* for writing: some are XOK_GOING */
	struct xok_holder holders[XOK_RESOURCES];
	rwsem_t wanting; /* for writing: one library at a time is asked for what another wants */
	struct xok_env envs[XOK_ENVS];
	struct xok_slices slices[SOFT_MAX_CPUS];
};

/* 0, -ENOMEM. */
int xok_init(struct xok *x, struct soft_machine *m, const struct mmu_ops *hardware);
void xok_fini(struct xok *x);

/* ---- system calls: each by environment `env`; counted ---- */

/* The frames [first, first + n), which nobody has, are from now on of the resource that `cap`
 * names, which must have XOK_GRANT.  0, -EBADF (no such capability), -EACCES (not with this one),
 * -EBUSY. */
int xok_take_frames(struct xok *x, unsigned env, unsigned cap, u64 first, u64 n);
/* The same for any n frames; also -EBUSY: one is named twice. */
int xok_take_list(struct xok *x, unsigned env, unsigned cap, const u64 *pfns, u64 n);
/*
 * Frames are given back, all or none: from now on nobody has them, no TLB has a translation to
 * them, and what was in them is gone.  0, -EBADF, -EACCES (not its own), -EINVAL (one is named
 * twice), -EBUSY (a page table of the kernel's still maps one).  No engine lock held; it looks
 * through the page tables under their spaces' mmap_lock, and no environment is made or ends
 * meanwhile.
 */
int xok_give_frames(struct xok *x, unsigned env, unsigned cap, const u64 *pfns, u64 n);
/* This frame of its own is not to be repossessed.  0, -EBADF, -EACCES, -ENOSPC (it has as many
 * such as may be). */
int xok_guarantee(struct xok *x, unsigned env, unsigned cap, u64 pfn);
/* The library has seen to what the vector names: the name goes, and the block is free.  0, -EBADF,
 * -ENOENT. */
int xok_forget(struct xok *x, unsigned env, unsigned cap, u64 pfn);
/* It would have n frames more, and nobody has none: another library is asked for them, if it has
 * so many more than this one or has wanted none in its last slice (and keeps its part of the
 * machine).  How many came free, for whoever takes them; 0: the other needs its own, or does not
 * answer, for a wish is no reason to take anything by force.  -EBADF, -EACCES.  As
 * xok_revoke(), of the other. */
s64 xok_want_frames(struct xok *x, unsigned env, unsigned cap, u64 n);
/* Page faults in `target`, an environment of its own, are f(arg, ...)'s from now on.  0, -EBADF,
 * -EACCES. */
int xok_set_handler(struct xok *x, unsigned env, unsigned cap, unsigned target, xok_fault_fn f,
		    void *arg);
/* A new environment with the caller's capabilities and handler; no stack and no slice yet.  0,
 * -EBADF, -EEXIST (also: a handler of who had that number still runs), -EINVAL. */
int xok_env_create(struct xok *x, unsigned env, unsigned child, struct mm *mm);
/* One of its own ends, whatever it is doing: see xok_kill().  0, -EBADF, -EACCES. */
int xok_env_destroy(struct xok *x, unsigned env, unsigned cap, unsigned target);
/*
 * The exception stack of `target`, the environment itself, are these n pages, at va: as
 * xok_insert_pte() checks it, present and writable, and as many as the machine's CPUs take.  0,
 * -EBADF, -EACCES, -EINVAL, -EBUSY (a handler is on the one that it has).
 */
int xok_set_stack(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va,
		  const pte_t *ptes, unsigned n);
/* One of its own gets a slice of that CPU, on which its library has all or nobody has one; it is
 * the last in the vector.  0, -EBADF, -EACCES, -EEXIST (it has one there). */
int xok_take_slice(struct xok *x, unsigned env, unsigned cap, unsigned target, unsigned cpu);
/* The slice that the CPU is in, its library's, is over: the one of `target` begins, one of its own;
 * XOK_NOBODY: the next in the vector.  0, -EBADF, -EACCES, -ENOENT (it has none there). */
int xok_yield(struct xok *x, unsigned env, unsigned cap, unsigned cpu, unsigned target);
/*
 * The n entries from ptep on, at va in the page table of `target`, become these.  The frames'
 * resource is the capability's, with XOK_WRITE where an entry allows writing; entries are the
 * user's, the address is in the user's half, and the table is the environment's own.  How many were
 * set, or -EBADF, -EACCES, -EINVAL, -EEXIST (an entry maps something already), or what the hardware
 * says; then nothing was written.
 */
int xok_insert_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		   const pte_t *ptes, struct page **pages, unsigned n);
/* The same for an entry that is there, and gets other rights or another frame; one that nobody may
 * access (PROT_NONE, or its page is being moved) may name any.  Also -ENOENT: it maps nothing. */
int xok_mod_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte);
/* An entry of its own table, which maps nothing now, becomes this: checked as above, if it maps
 * anything. */
int xok_put_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t *ptep,
		pte_t pte);
/* Entries that a new environment has from the one that made it: as above, already in its table. */
int xok_check_pte(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte);
/* A translation that is none of a page table's: what xok_insert_pte() checks, and then bind(arg,
 * va, pte), before the frame can go.  0, -EBADF, -EACCES, -EINVAL. */
int xok_bind(struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte,
	     void (*bind)(void *arg, u64 va, pte_t pte), void *arg);
/* May the environment take entries of that table away?  0, -EBADF, -EACCES. */
int xok_check_removal(struct xok *x, unsigned env, unsigned cap, unsigned target);

/* ---- of the kernel itself ---- */

/* Who has this resource can be asked by these.  0, -ENOMEM. */
int xok_hold(struct xok *x, u32 resource, const struct xok_entries *entries, void *arg);
/*
 * Have the library that has `resource` give back n frames.  It is asked, in up to XOK_PATIENCE of
 * its time slices; what it has not given back by then is repossessed.  Frames that came free in
 * all: fewer than n if it has no more, or the host has no memory for its disk.  No lock held; no
 * environment is made or ends meanwhile, and nobody of that library is in it but by a fault.
 */
u64 xok_revoke(struct xok *x, u32 resource, u64 n);
/* The resource that has most frames. */
u32 xok_richest(const struct xok *x);
/* A time slice of the resource's library is over. */
void xok_end_slice(struct xok *x, u32 resource);
/* Whose slice is the CPU in?  XOK_NOBODY: nobody's. */
unsigned xok_current(const struct xok *x, unsigned cpu);
/* The same, if that is what the CPU runs: a killed one may still be there. */
unsigned xok_faulting(const struct xok *x, const struct soft_cpu *cpu);
/* The CPU begins with that environment. */
void xok_first_slice(struct xok *x, unsigned cpu, unsigned env);
/*
 * The environment ends: what it had installed is gone, its capabilities, slices and stack are no
 * more its own, and from now on it is refused everything.  Its frames are its library's, or, if it
 * was the last one of it, nobody's when no handler of it runs any more.  cpu: where it has faulted
 * once too often, ~0: nowhere.  No lock held but what its own handlers hold.
 */
void xok_kill(struct xok *x, unsigned env, unsigned cpu);
/* The CPU has met a fault of a program's, or of a handler's: the kernel fields it.  `what` the
 * hardware calls it.  FAULT_KILLED: there is no environment any more to go back to. */
struct fault_result xok_trap(struct xok *x, const struct soft_cpu *cpu, u64 cr2, u32 code,
			     const char *what);

/* ---- between the kernel's files ---- */

/* The environment's capability of that index, counted.  NULL: it has none there. */
const struct xok_capability *xok_capability(const struct xok *x, unsigned env, unsigned cap);
/* No handler of a killed environment runs any more. */
void xok_env_gone(struct xok *x, unsigned env);
/* Is the frame in an exception stack?  Lock held. */
bool xok_is_stack(const struct xok *x, u64 pfn);
/* What xok_insert_pte() checks.  Lock held. */
int xok_check_entries(const struct xok *x, unsigned env, unsigned cap, unsigned target, u64 va,
		      const pte_t *ptes, unsigned n);
/* Nothing that an environment had installed translates any more.  mm: its space, in which somebody
 * runs; NULL: nobody does. */
void xok_break_bindings(struct xok *x, unsigned env, struct mm *mm);
/* Nobody has the resource any more: its frames are wiped, and nobody's. */
void xok_release(struct xok *x, u32 resource);
/* Where the frame's owner is kept; NULL: it is no frame of programs'. */
_Atomic u32 *xok_owner(const struct xok *x, u64 pfn);

#endif
