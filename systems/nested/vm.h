/* SPDX-License-Identifier: MIT */
/*
 * The hypervisor's part of a guest's memory, as KVM has it: slots, the second stage, faults in it,
 * the notifier, and the log of what the guest has written.
 *
 * Locks, outer to inner: slots_lock, mmu_lock, the host's, a table allocator's.  The notifier takes
 * mmu_lock, and the host calls it without a lock of its own.
 */
#ifndef VMF_NESTED_VM_H
#define VMF_NESTED_VM_H

#include "systems/ledger.h"
#include "systems/nested/async.h"
#include "systems/nested/stage2.h"

#define VM_SLOTS 8

/* In root mode: more privileged than any ring of a guest. */
extern const struct ledger_actor vm_hypervisor;

/* vm_slot.flags */
#define VM_SLOT_LOG	  (1u << 0) /* note which pages are written to */
#define VM_SLOT_READ_ONLY (1u << 1)

/* Guest frames [gfn, gfn + n) are the monitor's pages from `page` on.  n 0: the slot is not used.
 */
struct vm_slot {
	u64 gfn, n, page;
	u32 flags;
	_Atomic u64 *dirty; /* a bit a page; with VM_SLOT_LOG */
};

enum vm_log {
	VM_LOG_PROTECT, /* pages are write-protected, the first write to each exits */
	VM_LOG_PML,	/* the processor notes them in a log; EPT only */
};

/* A ring of dirty pages, which the vCPU fills and the monitor empties. */
#define VM_RING_ENTRIES	 1024
#define VM_RING_RESERVED (PML_ENTRIES + 8) /* so many may come of one exit: when less is left */
struct vm_ring_entry {
	u32 slot;
	u64 offset; /* in it; pages */
};
struct vm_ring {
	bool on;
	u64 head, tail; /* harvested to here, filled to here */
	u64 reset;	/* write-protected again to here */
	struct vm_ring_entry entries[VM_RING_ENTRIES];
};

/* Why a guest was left. */
struct guest_exit {
	enum stage2_outcome outcome;
	u64 info; /* exit qualification, EXITINFO1 */
	u64 va, gpa;
	u32 access; /* PF_WRITE, PF_INSTR, PF_USER, SECOND_TABLE */
};

struct vcpu {
	struct guest_exit exit; /* what its last walk met */
	struct stage2_log log;	/* VM_LOG_PML */
	struct vm_ring ring;	/* the vCPU's and the monitor's, in turn */
	struct async_host async;
	u32 token;			/* VM_ASYNC: of the page that is on its way */
	int error;			/* why an access could not be made */
	u64 exits[STAGE2_LOG_FULL + 1]; /* by outcome */
};

enum vm_result {
	VM_FIXED,
	VM_SPURIOUS,  /* another CPU was there first */
	VM_RETRY,     /* the host's page may have gone meanwhile */
	VM_ASYNC,     /* the page is away; the guest is to be told, by vcpu->token */
	VM_EMULATE,   /* no memory, or none that may be written: a device's */
	VM_RING_FULL, /* the monitor must empty the vCPU's ring */
};

struct vm;

struct vm_ops {
	/* Every processor forgets what it holds of this guest's translations, and none is in a
	 * walk that began before. */
	void (*flush)(struct vm *vm);
	/* Between the two the calling vCPU counts as in a walk: flush() waits for it.  False: it
	 * cannot. */
	bool (*begin_walk)(struct vm *vm, unsigned vcpu);
	void (*end_walk)(struct vm *vm, unsigned vcpu);
	/* For tests; NULL: nobody asks.  The host's page is known, mmu_lock not yet taken. */
	void (*between)(struct vm *vm, u64 gfn);
};

struct vm {
	const struct vm_ops *ops;
	void *ctx;
	struct host_memory *host;
	struct stage2 *stage2;
	rwsem_t slots_lock;
	struct vm_slot slots[VM_SLOTS];
	enum vm_log log_mode;
	_Atomic unsigned nr_logged; /* slots with VM_SLOT_LOG */
	rwsem_t mmu_lock;
	/* The notifier's; written with mmu_lock for writing. */
	_Atomic u64 invalidate_seq;
	unsigned invalidating;
	u64 invalid_first, invalid_end; /* the monitor's pages, of all that go now */
	unsigned nr_vcpus;
	struct vcpu *vcpus;
};

/* Guests of at most `frames` frames.  0, -ENOMEM. */
int vm_create(struct vm *vm, enum stage2_format format, struct host_memory *host, u64 frames,
	      unsigned nr_vcpus, const struct vm_ops *ops, void *ctx);
void vm_destroy(struct vm *vm);

/*
 * Make slot `id`, change its flags, or (n 0) take it away.  0; -EINVAL: not whole in the guest's
 * address space, or not in the monitor's memory, or what exists is to have another place; -EEXIST:
 * it overlaps another; -ENOMEM.  No lock.
 */
int vm_set_slot(struct vm *vm, unsigned id, u64 gfn, u64 n, u64 page, u32 flags);
/* The slot that has gfn, NULL: none.  slots_lock. */
struct vm_slot *vm_slot_of(struct vm *vm, u64 gfn);

/* The vCPU has left the guest.  A vm_result; -ENOMEM.  By the vCPU's thread, without locks of the
 * hypervisor's. */
int vm_handle_exit(struct vm *vm, unsigned vcpu, const struct guest_exit *exit);
/* The hypervisor maps what it can of the slot before the guest asks.  0, -ENOMEM. */
int vm_populate(struct vm *vm, unsigned id);

/* What host_memory.invalidate is; ctx: the vm. */
void vm_invalidate(void *vm, u64 first, u64 n, bool begins);

/* ---- the dirty log (dirty.c) ---- */

/* A page was written to.  slots_lock; by the vCPU's thread. */
void vm_mark_dirty(struct vm *vm, unsigned vcpu, struct vm_slot *slot, u64 gfn);
/* Logging of the slot begins or ends.  slots_lock for writing.  With VM_LOG_PML all vCPUs are
 * stopped.  0, -ENOMEM. */
int vm_begin_log(struct vm *vm, struct vm_slot *slot);
void vm_end_log(struct vm *vm, struct vm_slot *slot);
/* What the processor noted goes to the slots.  slots_lock; by the vCPU's thread, or while it is
 * stopped. */
void vm_drain_log(struct vm *vm, unsigned vcpu);
/*
 * KVM_GET_DIRTY_LOG: copy the bits and begin anew.  -EINVAL: no such slot, or it is not logged;
 * -ERANGE: it has more than 64 * words pages.  With VM_LOG_PML all vCPUs are stopped.
 */
int vm_get_dirty_log(struct vm *vm, unsigned id, u64 *bits, u64 words);
/* The monitor takes up to n entries; how many. */
unsigned vm_ring_harvest(struct vm *vm, unsigned vcpu, struct vm_ring_entry *to, unsigned n);
/* What has been harvested is noted again from now on, and has room.  How many; -EINVAL: an entry
 * named no page that is logged (the monitor can write to the ring); the others are done. */
int vm_ring_reset(struct vm *vm, unsigned vcpu);

#endif
