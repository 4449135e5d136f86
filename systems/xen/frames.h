/* SPDX-License-Identifier: MIT */
/*
 * Xen's table of typed frames: why a guest may write its own page tables and yet reach nothing that
 * is not its own.
 *
 * Each frame has an owner, a general count (how many uses hold it) and a type with a count of its
 * own (how many uses hold it to that type).  The type changes only while that count is 0.  So a
 * frame that is held as a page table cannot be held as writable at the same time: all that could
 * change a table is an update that this file has looked at.
 *
 * When a frame comes to be a table it is validated: each entry that is present must name a frame of
 * the same owner, which is then held: by a leaf in general, and as writable if the leaf allows it;
 * by an entry of a higher table as a table of the level below.  So a root that is held has all that
 * is under it held; what may be loaded into CR3 is a root that is.  The same is done for each entry
 * that is written later, and undone for what it said before.  A type whose count comes to 0 lets go
 * of all that its entries held.  Pinning a table holds its type without any use.
 *
 * A frame whose type changes may still be writable in some TLB: by an entry that is gone.  The
 * frame remembers when its count came to 0, each CPU when it last dropped all its translations
 * (toggling between guest kernel and guest user does), and who did not since is made to.
 *
 * A top-level table may map itself by an entry that is read-only (a linear map: the guest then sees
 * its tables in an array); that holds nothing, or the table would never go.
 *
 * One lock guards the whole, held by each call; a leaf in the order of locks.
 */
#ifndef VMF_SYSTEMS_XEN_FRAMES_H
#define VMF_SYSTEMS_XEN_FRAMES_H

#include "engine/base/lock.h"
#include "engine/mmu/walk.h"

#define XEN_NOBODY 0
#define XEN_ITSELF 1 /* Xen's own frames */
#define XEN_GUEST  2 /* the only guest; others are attacks' */

/* Top-level entries that are Xen's in every table. */
#define XEN_FIRST_SLOT 256
#define XEN_LAST_SLOT  271

/* Tables' types are enum mmu_level. */
enum frame_type {
	FRAME_NONE,
	FRAME_L1 = LEVEL_PTE,
	FRAME_L2 = LEVEL_PMD,
	FRAME_L3 = LEVEL_PUD,
	FRAME_L4 = LEVEL_P4D,
	FRAME_WRITABLE,
};

struct frame {
	u32 owner;
	u32 count;	/* of all that holds it, its owner's own hold included */
	u32 type_count; /* of what holds it to its type */
	u32 linear;	/* entries of its own that map it */
	u8 type;	/* enum frame_type; of no meaning while type_count is 0 */
	bool validated, pinned;
	u64 stamp; /* f->clock when type_count came to 0 */
};

struct frames {
	spinlock_t lock;
	u64 nr;	       /* frames, from 0 on */
	u64 nr_memory; /* of these, with bytes; none of the others becomes a table */
	pte_t *memory;
	struct frame *frame;
	_Atomic u64 clock; /* flushes of all of a CPU's translations, so far */
	/* Whoever has not flushed since `stamp` does it now.  Lock held. */
	void (*flush)(struct frames *f, u64 stamp);
};

/* `memory`: the bytes of the first nr_memory.  0, -ENOMEM. */
int frames_init(struct frames *f, void *memory, u64 nr_memory, u64 nr,
		void (*flush)(struct frames *f, u64 stamp));
void frames_fini(struct frames *f);

/* The frame is the domain's from now on.  0, -EINVAL (there is none), -EBUSY (it is somebody's). */
int frames_give(struct frames *f, u64 pfn, u32 domain);

/*
 * Hold a frame of the domain's, as `type` (FRAME_NONE: as whatever it is); made one if nothing
 * holds it to another, and validated if it is to be a table.
 * 0, -EPERM (it, or a frame that it names, is not the domain's, or Xen's slots are not empty),
 * -EINVAL (something holds it to another type, or an entry of it is none that is allowed).
 */
int frames_hold(struct frames *f, u32 domain, u64 pfn, enum frame_type type);
void frames_let_go(struct frames *f, u64 pfn, enum frame_type type);

/* Hold a table until it is unpinned.  As frames_hold(); -EEXIST: it is. */
int frames_pin(struct frames *f, u32 domain, u64 pfn, enum frame_type type);
/* 0, -EPERM, -ENOENT (it is not pinned). */
int frames_unpin(struct frames *f, u32 domain, u64 pfn);

/*
 * Entry `index` of the domain's frame becomes `pte`.  Of a table: if what it says is allowed.  Of
 * a frame that is none: if it can be held as writable.  keep: accessed and dirty bits that are set
 * stay so.  *old: what it was, with the bits that the hardware had set by then.
 * 0; as frames_hold(), and nothing has been written.
 */
int frames_update(struct frames *f, u32 domain, u64 pfn, unsigned index, pte_t pte, bool keep,
		  pte_t *old);

/* The frame as it is now.  pfn below nr. */
struct frame frames_look(struct frames *f, u64 pfn);
/* Count all again from pins, `held` (what frames_hold() has given and not got back, by frame: as
 * the type the frame has) and the tables themselves.  The first frame of the domain's of which
 * other counts are kept, or f->nr: none.  Nobody else active. */
u64 frames_check(struct frames *f, u32 domain, const u32 *held);

#endif
