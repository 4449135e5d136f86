/* SPDX-License-Identifier: MIT */
/*
 * The soft machine: simulated memory, CPUs with TLBs, and an engine that serves their faults.
 *
 * Both zones are one host mapping, so that every frame has bytes.  Page tables are x86-64's and are
 * walked by engine/mmu's walk, which sets accessed and dirty bits.  A walk that fails raises vector
 * 14: CR2 and the error code go to `trap`, and the access is tried again or refused as it says.
 */
#ifndef VMF_SOFT_SOFT_H
#define VMF_SOFT_SOFT_H

#include "engine/engine.h"
#include "engine/mmu/walk.h"
#include "machine/soft/cpu.h"

#define SOFT_MAX_CPUS 256

struct soft_kernel;
struct soft_second_stage;

/* Who fields the fault.  Called on the CPU's thread, without locks. */
typedef struct fault_result (*soft_trap_fn)(struct soft_cpu *cpu, u64 cr2, u32 error_code);

/*
 * Failures to order, for tests: each `_every` makes every n-th call (of take: every n-th page) fail
 * with the error named, 0: never.  May be changed at any time.
 */
struct soft_inject {
	_Atomic unsigned stage_again_every; /* -EAGAIN */
	_Atomic unsigned set_again_every;   /* -EAGAIN */
	_Atomic unsigned set_most;	    /* set at most so many at once; 0: all */
	_Atomic unsigned take_busy_every;   /* -EBUSY */
	_Atomic unsigned take_again_every;  /* -EAGAIN */
	/* The engine's own allocations that still succeed, plus one; 0: all do. */
	_Atomic u64 memory_left;
};

struct soft_machine {
	struct engine engine;
	char *memory; /* frame 0; table frames, then user frames */
	u64 nr_table, nr_user;
	_Atomic u32 *generations;   /* [nr_table + nr_user]: how often each frame was released */
	struct mmu_control control; /* what CPUs start with */
	soft_trap_fn trap;
	/* Vector 13, for an address that is not canonical; NULL: nobody is told. */
	void (*general_protection)(struct soft_cpu *cpu);
	bool checked; /* hits are checked, released frames are overwritten */
	bool pcids, stale_rights;
	_Atomic u64 stamp; /* the last given to a space that was flushed */
	struct soft_inject inject;
	/* NULL: what page tables call physical is so.  Set while no CPU runs; see second.h. */
	struct soft_second_stage *second;
	struct soft_kernel *kernel;	      /* NULL: traps go elsewhere */
	_Atomic unsigned stages, sets, takes; /* calls (pages) so far, for inject */
	_Atomic u64 memory_refused;	      /* allocations that memory_left made fail */
	_Atomic u64 shootdowns;		      /* that reached at least one CPU */
	unsigned nr_cpus;
	struct soft_cpu *cpus;
};

struct soft_options {
	u64 table_frames, user_frames;
	unsigned nr_cpus;
	/* Check every TLB hit: a frame that was released since the entry was made is a flush
	 * forgotten, and panics; released frames are overwritten.  About 20 ns an access. */
	bool checked;
	bool pcids;	     /* CR4.PCIDE: loading a space keeps the entries of others */
	bool stale_rights;   /* a TLB entry may forbid what the tables allow by now */
	struct store *store; /* where evicted pages go */
	const struct engine_config *config; /* NULL: engine_default_config() */
	soft_trap_fn trap;		    /* NULL: do_user_addr_fault() on the CPU's mm */
};

extern const struct mmu_ops soft_mmu_ops;
/* The host's heap as engine_memory. */
extern const struct engine_memory soft_host_memory;

/* A machine with a running engine.  0, -EINVAL, -ENOMEM, -ENOSYS (the host has no membarrier(2)).
 */
int soft_create(const struct soft_options *options, struct soft_machine **machine);
/* All mms are destroyed. */
void soft_destroy(struct soft_machine *m);

/* The hardware alone, for tests that build page tables by hand: memory, CPUs, frame descriptors and
 * zones; the engine's other rooms are not set up and store and config are not used. */
int soft_create_hardware(const struct soft_options *options, struct soft_machine **machine);
void soft_destroy_hardware(struct soft_machine *m);

/* Of any engine on the machine: its own, or one beside it. */
static inline struct soft_machine *soft_of(struct engine *e)
{
	return e->machine;
}

/* engine_check(), and what the TLBs hold.  Nobody else active. */
void soft_check(struct soft_machine *m);

#endif
