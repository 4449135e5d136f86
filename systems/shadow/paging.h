/* SPDX-License-Identifier: MIT */
/*
 * Shadow page tables: for each table of the guest's that a walk goes through, a table that the
 * processor walks instead, with host frames and with no more rights than guest and hypervisor both
 * give.  The guest's tables are not walked by anything but the hypervisor.
 *
 * What a shadow leaf has, of the guest's leaf g:
 *
 *   present     g is present and accessed: else the first access must come by, to set the bit
 *   write       g allows it and is dirty, and the page is no table that is shadowed
 *   user, NX    as g
 *
 * While the guest has CR0.WP off, a page that its kernel writes to all the same is the kernel's
 * alone and writable.  A write to CR0 that changes the bit drops all shadows.
 *
 * A guest's table that is shadowed is written to by the hypervisor only (the store is emulated, and
 * the shadow's entry dropped), or, if it is a leaf table and out_of_sync is on, freely from the
 * second store on, until the guest flushes: a shadow may differ from its table as a TLB may.
 *
 * `lock` is the paging lock: whoever changes a shadow, or a guest's table that has one, holds it.
 * Processors walk without.  Shadows that go are flushed before their memory gets another meaning.
 */
#ifndef VMF_SHADOW_PAGING_H
#define VMF_SHADOW_PAGING_H

#include "systems/nested/host.h"

struct shadow {
	char *memory; /* the guest's frame 0 */
	u64 frames;
	struct host_memory *host; /* from guest's frames to the host's */
	bool out_of_sync;
	_Atomic bool wp; /* the guest's CR0.WP for which the shadows are; lock */
	/* Every processor forgets all, and none is in a walk that began before. */
	void (*flush)(void *ctx);
	void *ctx;
	spinlock_t lock;
	u64 first_hfn; /* of tables[0] */
	/* Of each frame of the guest's: any may be a table. */
	pte_t (*tables)[PTRS_PER_TABLE];
	_Atomic u8 *levels; /* enum mmu_level; 0: it has no shadow */
	bool *unsync;
	pte_t **parents; /* the shadow's entry that leads to this shadow; NULL: none */
};

/* For a guest that has all of `host`; its frames are the monitor's pages.  0, -ENOMEM. */
int shadow_init(struct shadow *s, struct host_memory *host);
void shadow_fini(struct shadow *s);

/* As a processor: translate va by the shadow of the root at guest-physical `root`.
 * WALK_UNREACHABLE: it has none yet.  Without a lock. */
enum walk_status shadow_walk(struct shadow *s, const struct mmu_control *control, u64 root, u64 va,
			     u32 access, struct walk_result *w);

enum shadow_fault {
	SHADOW_TRUE,   /* the guest's own tables forbid it: *code is what it is to be told */
	SHADOW_HIDDEN, /* they do not, and it is mended */
};
/*
 * The processor has faulted.  A shadow_fault; -EFAULT: the guest's tables lead to where it has no
 * memory; -EBUSY: a store to a table that is on the way to itself.  No lock.
 */
int shadow_fault(struct shadow *s, const struct mmu_control *control, u64 root, u64 va, u32 access,
		 u32 *code);

/* The paging lock; any lock of the guest's may be held. */
void shadow_lock(struct shadow *s);
void shadow_unlock(struct shadow *s);
/* The guest is about to store into n entries from `entry` on, with the paging lock held until it
 * has. How many of the stores it had to be stopped for. */
unsigned shadow_before_store(struct shadow *s, const pte_t *entry, unsigned n);
/* INVLPG, or a load of CR3: what is out of sync is no more.  Paging lock. */
void shadow_sync(struct shadow *s);
/* The guest's frame is no table any more (or a table of another kind): its shadow goes.  No lock.
 */
void shadow_forget(struct shadow *s, u64 gfn);

/* No shadow gives more than its table.  Panics with a message.  Nobody else active. */
void shadow_check(struct shadow *s);

#endif
