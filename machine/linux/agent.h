/* SPDX-License-Identifier: MIT */
/*
 * The agent: the linux machine inside a managed program.
 *
 * Life of a process:
 *
 *   watching   One thread, the keeper, samples the resident memory.  The program runs natively, at
 *              native speed, until it comes near its limit; once it could come there without asking
 *              for more memory, what is absent is wired (wires.c).
 *   paging     The program's private anonymous memory is registered with userfaultfd and known to
 *              an engine.  Handler threads, one a CPU, serve faults.  The keeper goes on sampling:
 *              new areas that the program made meanwhile, which fault natively, are found and
 *              adopted with what is resident in them.
 *   stopped    Something went wrong that paging cannot go on with: every page is brought back, and
 *              the program goes on without us.
 *
 * Who may do what:
 *   - Agent threads never touch managed memory by an ordinary access, never call libc (but for the
 *     memory functions, and what extension.h names) and never hold an agent lock across a call that
 * waits for an event to be read.  They have a table of file descriptors of their own, so that a
 * program that closes all of its descriptors does not close ours.
 *   - Threads of the program run agent code at start-up, around fork() and when they start
 *     a thread; they take no lock there that a handler needs.
 *
 * The gate: reading a message lets the program's munmap(), madvise() or mremap() go on, so between
 * reading and applying it no page may be placed by what the engine knew before.  Placing and
 * taking pages happens with the gate held shared (tried, never waited for: -EAGAIN), reading and
 * applying with the gate held exclusively.
 *
 * Lock order: gate (exclusive) -> the engine's locks -> gate (shared, tried).
 */
#ifndef VMF_LINUX_AGENT_H
#define VMF_LINUX_AGENT_H

#include "engine/engine.h"
#include "engine/reclaim/policy.h"
#include "machine/linux/report.h"
#include "machine/linux/thread.h"
#include "machine/linux/uffd_abi.h"
#include "stores/memory.h"

/* No private memory of a program lies above. */
#define USER_END 0x7ffffffff000ULL

struct agent_options {
	u64 limit; /* bytes */
	enum compression compress;
	unsigned handlers;		     /* 0: one a CPU */
	unsigned prefetch;		     /* pages */
	const struct reclaim_policy *policy; /* NULL: the default */
	bool keep_huge;			     /* see huge.h */
};

struct agent {
	struct agent_options options;
	struct report_slot *slot;
	void *report; /* the whole file, mapped shared */

	/* Descriptors in the agent threads' own table. */
	int uffd;     /* the program's memory; all events */
	int bin_uffd; /* of the window's bins; no events */
	int stat, statm, status, maps, pagemap;

	struct engine engine;
	struct mm *mm;
	struct store *store;
	_Atomic u32 paging; /* the engine is up and the handlers run */
	_Atomic u32 armed;  /* areas are registered, not only prepared for it */

	struct agent_thread *keeper;
	struct agent_thread *handler[MAX_HANDLERS];
	unsigned nr_handlers;
	_Atomic u32 wake_keeper;  /* futex: the keeper has something to do at once */
	_Atomic u32 keeper_rests; /* it is to hear of the next fault: keeper_rouse() */
	_Atomic u32 rescan;	  /* the layout changed in a way that hides new areas */

	_Atomic u32 reconcile; /* pages became present that the engine does not know */

	void *beacon; /* a page that is always absent: see fork.c */

	/* Of this process.  The slot tells others of them, and is never asked: the last slot may be
	 * shared by many processes, and a forked child finds its parent's there. */
	s32 pid;
	_Atomic u32 state; /* enum agent_state; agent_set_state() */
};

extern struct agent agent;

/* Claim a slot of the report for this process. */
void agent_new_slot(void);
void agent_set_state(enum agent_state state);
/* Remember the first thing that went wrong, for the report: one line, without newline. */
void agent_warn(const char *text);

/* ---- gate (gate.c) ---- */
void gate_lock(void);
bool gate_trylock(void);
bool gate_trylock_free(void); /* does not wait for those inside: false if there are any */
void gate_unlock(void);
bool gate_enter(void); /* shared; false: somebody reads events */
/* The same, but waits for as long as reading a message takes. */
bool gate_enter_soon(void);
void gate_leave(void);
/* Until it is open; without taking it. */
void gate_wait(void);
void gate_reset(void); /* in a forked child */

/* ---- the order of changes (order.c) ---- */
/* By a thread of the program: returns when all changes of the layout that were made before the call
 * have been told and applied. */
void changes_await(void);
/* Does a thread wait for that? */
bool changes_asked(void);
/* By agent threads: let it go on if that is so now. */
void changes_look(void);
/* In a forked child: those who wait are the parent's. */
void changes_reset(void);

/* ---- areas (areas.c) ---- */
/* At start-up: remember the small areas that are there before the program runs. */
void areas_note_early(int maps);
/* Find areas that are not managed yet, register and adopt them.  0, or a negative errno. */
int areas_scan(void);
/* Call fn for all parts of areas that can be managed, whether they are or not.  0, or a negative
 * errno. */
int areas_each(void (*fn)(u64 start, u64 end));
/* Forget what the engine has and the program has not. */
void areas_forget_gone(void);
/* Account the page at va, which is present although the engine did not put it there.  Gate held. */
void areas_adopt_page(u64 va);
/* Adopt what became present in all managed areas without our doing. */
void areas_reconcile(void);
/* Register all areas the engine knows with a fresh userfaultfd, in a forked child. */
int areas_register_again(void);

/* ---- serving (serve.c) ---- */
unsigned serve_threads(void); /* how many there are to be */
int serve_start(void);	      /* the handlers; 0 or a negative errno */
/* Apply pending events and, if they are there, serve faults; does not wait. */
void serve_pending(void);
/* Apply a REMAP, REMOVE or UNMAP event to the engine. */
void serve_event(const struct uffd_msg *msg);

/* ---- keeper (keeper.c) ---- */
int keeper_start(void);
/* In a forked child: a new keeper, which takes over paging if the parent was paging.  Returns when
 * the program may go on. */
void keeper_start_child(void);
/* Bytes that the program may still map, writable and private, before the keeper has to look; ~0 if
 * there is no need to ask.  See hooks.c. */
u64 keeper_room(void);
/* At start-up: has the program been loaded with so much memory that it has to look at once? */
bool keeper_is_urgent(void);
/* Is memory wired, and not yet paged?  See wires.c. */
bool keeper_has_wired(void);
/* From any thread: it has something to do at once. */
void keeper_wake(void);
/* By agent threads: a fault has come; if it naps for long because none did, it wakes. */
void keeper_rouse(void);
/* By agent threads: resident bytes of the program at this moment. */
u64 keeper_resident_now(void);
/* The nice value of the program, which the other threads go back to. */
int keeper_program_nice(void);
/* May threads of this process be scheduled as we like? */
bool keeper_is_privileged(void);

/* ---- the end of paging (stop.c) ---- */
/* Bring back all pages and leave the program alone. */
void agent_stop(const char *why);

/* ---- fork (fork.c) ---- */
int fork_init(void);
/* By the thread of the program that is about to fork, however it does so; and after it, in the
 * parent (also if there is no child) and in the child. */
void fork_prepare(void);
void fork_in_parent(void);
void fork_in_child(void);
/* Forks wait while paging is being started. */
bool fork_trylock(void);
void fork_unlock(void);
/* EVENT_FORK was read, with the child's descriptor; the gate is still held.  True: serve the child
 * when it is not. */
bool fork_note_child(int child);
/* By the keeper: end the freeze of a fork() that failed. */
void fork_thaw_if_asked(void);
/* Called by the handler that read EVENT_FORK, with the child's descriptor. */
void fork_serve_child(int child_uffd);
/* An agent thread goes into the engine; false: a fork is under way, the engine may only be read. */
bool engine_enter(void);
void engine_leave(void);
/* Serve a fault of this process during a fork: the engine is read, not changed.  0, or -EAGAIN: let
 * messages through, and see whether the fork is still under way. */
int fork_serve_frozen(u64 va);
/* A freeze begins: no message may be read and no page placed or taken. */
bool fork_closing(void);
/* In a forked child: apply the events that the parent had kept. */
void fork_apply_kept(void);
/* Keep an event that came during a fork for after it. */
void fork_keep_event(const struct uffd_msg *msg);

/* ---- clone.c ---- */
/* At start-up: hear of forks by system call. */
void clone_hooks_install(void);

/* ---- program threads (stacks.c) ---- */
/* Is this part of the stack of a thread of the program?  Gives the bounds of the one that
 * overlaps [start, end) lowest. */
bool stacks_overlap(u64 start, u64 end, u64 *from, u64 *to);
u64 stacks_bytes(void);
/* In a forked child: another thread of the parent may have held the lock. */
void stacks_reset(void);
/* Of a MAP_STACK mapping, and of any other new one: it cannot be a stack any more. */
void stacks_mapped(u64 start, u64 end);
void stacks_unmapped(u64 start, u64 end);

/* ---- exec.c ---- */
/* At start-up: what has to be in the environment of whatever this process executes. */
void exec_remember(char **env);

/* ---- locks.c ---- */
/* The program called mlockall(): nothing may be taken. */
bool locks_all(void);

/* ---- machine operations (mmu.c) ---- */
extern const struct mmu_ops linux_mmu_ops;
/* By an agent thread whose wakes_later is set: wake who waits for the pages that it set last. */
void mmu_wake_placed(void);

#endif
