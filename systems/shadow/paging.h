/* SPDX-License-Identifier: MIT */
/*
 * Shadow page tables: for each table of the guest's that a walk goes through, and each level at
 * which one does, a table that the processor walks instead, with host frames and with no more
 * rights than guest and hypervisor both give.  The guest's tables are not walked by anything but
 * the hypervisor.
 *
 * What a shadow leaf has, of the guest's leaf g:
 *
 *   present     g is present and accessed: else the first access must come by, to set the bit
 *   write       g allows it and is dirty, and the page is no table that is shadowed
 *   user, NX    as g
 *
 * While the guest has CR0.WP off, what its kernel writes to all the same is the kernel's alone and
 * writable, at each level that forbids it, and not to be fetched from by a kernel that has SMEP.
 * When a control bit changes for which entries are made, all shadows go.
 *
 * A guest's table that is shadowed is written to by the hypervisor only (the store is emulated, and
 * the shadow's entry dropped), or, if it is a leaf table and out_of_sync is on, freely from the
 * second store on, until the guest flushes: a shadow may differ from its table as a TLB may.
 *
 * Nobody tells the hypervisor when a page is no table any more.  It guesses so when a program
 * writes to it, or when SHADOW_FLOOD stores come in a row with no walk through it in between (a
 * table that is zeroed, or cleared, or copied over).  Guessing wrong costs hidden faults, no more.
 * What nobody writes to stays until its room is wanted.
 *
 * `lock` is the paging lock: whoever changes a shadow, or a guest's table that has one, holds it.
 * Processors walk without.  Shadows that go are flushed before their memory gets another meaning.
 */
#ifndef VMF_SHADOW_PAGING_H
#define VMF_SHADOW_PAGING_H

#include "systems/nested/host.h"

/* Control bits; SMEP and SMAP only while WP is off.  KVM has them in a shadow's role. */
#define SHADOW_WP   1u
#define SHADOW_NXE  2u
#define SHADOW_SMEP 4u
#define SHADOW_SMAP 8u

/* As KVM's detect_write_flooding(). */
#define SHADOW_FLOOD 3

/* For so many frames of a guest's, as KVM: a fiftieth, and no fewer than 64. */
static inline unsigned shadow_usual_room(u64 frames)
{
	return frames / 50 > 64 ? (unsigned)(frames / 50) : 64;
}
/* Less than this is no room: a hidden fault wants four at once, four times over. */
#define SHADOW_LEAST_ROOM 20

struct shadow_table {
	u64 gfn;
	_Atomic u8 level; /* enum mmu_level; 0: there is none here */
	bool dying;	  /* nothing leads to it, and some CPU may still be in it */
	bool unsync;
};

struct shadow {
	char *memory; /* the guest's frame 0 */
	u64 frames;
	struct host_memory *host; /* from guest's frames to the host's */
	bool out_of_sync;
	_Atomic u8 role; /* SHADOW_*: the guest's control bits for which the shadows are; lock */
	/* Every processor forgets all, and none is in a walk that began before. */
	void (*flush)(void *ctx);
	void *ctx;
	spinlock_t lock;
	u64 first_hfn; /* of entries[0] */
	unsigned room; /* for so many shadows */
	unsigned hand; /* the next that goes where there is no room */
	bool owes_flush;
	pte_t (*entries)[PTRS_PER_TABLE]; /* of each shadow */
	struct shadow_table *tables;	  /* what it is */
	/* Of each frame of the guest's: its shadow at each level, plus 1; 0: none. */
	_Atomic u32 (*of_frame)[LEVEL_P4D];
	u8 *stores; /* to it since a walk went through it */
};

/* For a guest that has all of `host`; its frames are the monitor's pages.  At most `room` shadows,
 * SHADOW_LEAST_ROOM or more.  0, -ENOMEM. */
int shadow_init(struct shadow *s, struct host_memory *host, unsigned room);
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

enum shadow_store {
	SHADOW_EMULATED, /* the hypervisor makes it, and the shadow's entry goes */
	SHADOW_UNSYNCED, /* the guest makes it, and those that follow */
	SHADOW_FLOODED,	 /* the same, for the page is taken to be no table any more */
};
/* The guest is about to store into n entries from `entry` on, all of one page, with the paging lock
 * held until it has.  How many of the stores it has to be stopped for, and *last, what became of
 * the last of these. */
unsigned shadow_before_store(struct shadow *s, const pte_t *entry, unsigned n,
			     enum shadow_store *last);
/* A load of CR3: what is out of sync is no more.  Paging lock. */
void shadow_sync(struct shadow *s);
/* INVLPG, under that root: the table that va is in is not out of sync any more.  Paging lock. */
void shadow_invlpg(struct shadow *s, u64 root, u64 va);

/* Has the frame a shadow of that level?  Paging lock. */
bool shadow_has(const struct shadow *s, u64 gfn, enum mmu_level level);
/* No shadow gives more than its table, and what is said of shadows agrees.  Panics with a message.
 * Nobody else active. */
void shadow_check(struct shadow *s);

/* ---- among the files of this folder: tables.c; paging lock ---- */

/* Which shadow the frame has at that level, or SHADOW_NONE.  The frame may be any, and the lock
 * need not be held by who only walks. */
#define SHADOW_NONE (~0u)
u32 shadow_find(const struct shadow *s, u64 gfn, enum mmu_level level);
bool shadow_is_table(const struct shadow *s, u64 gfn);
pte_t *shadow_guest_table(const struct shadow *s, u64 gfn);
void shadow_drop_entry(pte_t *entry);
/* The shadow, all shadows of the frame, go; shadow_settle() is owed. */
void shadow_drop(struct shadow *s, u32 i);
void shadow_drop_frame(struct shadow *s, u64 gfn);
/* Let there be room for so many more; what has been there longest goes. */
void shadow_make_room(struct shadow *s, unsigned n);
/* A shadow, empty, for a frame that has none at that level; there is room.  No shadow allows writes
 * to the frame from now on, but for what shadow_settle() has yet to flush. */
void shadow_add(struct shadow *s, u64 gfn, enum mmu_level level);
/* Make the flush that is owed, after which what has gone may be used again. */
void shadow_settle(struct shadow *s);

#endif
