/* SPDX-License-Identifier: MIT */
/*
 * What the memory services have between them: the frames, and the ranges of extensions.
 *
 * AddressSpace's frames change their state with the entries that map them, under the page-table
 * lock of the entry, and by no other lock; the frames of other extensions, their mappings and the
 * ranges are under `lock`.  It is taken outside of page-table locks, and never held while a frame
 * is asked for or an event is raised.
 */
#ifndef VMF_SPIN_MEMORY_H
#define VMF_SPIN_MEMORY_H

#include "systems/spin/internal.h"
#include "systems/spin/services.h"

struct spin_frame {
	_Atomic u32 state; /* enum spin_frame_state */
	_Atomic u32 owner; /* an extension, or SPIN_KERNEL */
	_Atomic u32 stamp; /* how often it was free: handles have it, so they end with it */
	/* Of other extensions than AddressSpace; lock. */
	struct list_head link;	   /* services->held */
	struct list_head mappings; /* struct spin_mapping */
};

/* A page of a range; lock. */
struct spin_mapping {
	struct list_head link;	  /* frame->mappings */
	struct spin_frame *frame; /* NULL: nothing is mapped */
	struct spin_range *range;
	u64 va;
};

struct spin_range {
	u32 extension; /* SPIN_KERNEL: the slot is free */
	u32 stamp;
	u64 map, start, pages;
	struct spin_mapping *mappings; /* [pages] */
};

struct spin_services {
	struct spin *spin;
	struct engine *engine;
	struct mmu_ops hardware; /* how Translation writes entries */
	u64 first, nr;		 /* frames of programs */
	struct spin_frame *frames;
	spinlock_t lock;
	struct list_head held; /* by extensions, the oldest first */
	u64 nr_held;
	struct spin_range ranges[SPIN_RANGES];
	/* Every n-th AddMapping of AddressSpace's finds its frame stale; 0: none.  For tests. */
	_Atomic unsigned stale_every, adds;
};

/* ---- physaddr.c ---- */

/* mmu_ops' claim and release: a frame leaves the engine's allocator, and comes back to it. */
void spin_phys_claimed(struct spin_services *m, u64 pfn);
void spin_phys_released(struct spin_services *m, u64 pfn);
/* NULL: no frame of programs. */
struct spin_frame *spin_frame_at(struct spin_services *m, u64 pfn);
u64 spin_frame_pfn(const struct spin_services *m, const struct spin_frame *f);
/* The extension's frame; NULL: *err is why not.  Lock held. */
struct spin_frame *spin_frame_of(struct spin_services *m, u32 extension, s64 handle, int *err);
/* Every invariant; panics.  Nobody else active. */
void spin_phys_check(struct spin_services *m);
/* The extensions' frames go. */
void spin_phys_end(struct spin_services *m);

/* ---- virtaddr.c ---- */

/* As spin_frame_of(). */
struct spin_range *spin_range_of(struct spin_services *m, u32 extension, s64 handle, int *err);
/* The ranges of a space that ends, or of all (SPIN_ANY_KEY). */
void spin_virt_end(struct spin_services *m, u64 map);

/* ---- translation.c ---- */

/* The space, if the extension was given it; NULL: *err. */
struct mm *spin_map_of(struct spin_services *m, u32 extension, u64 map, int *err);
/* Lock held: take the mapping away; give it other rights; was it used since this was last asked? */
void spin_mapping_remove(struct spin_services *m, struct spin_mapping *at);
void spin_mapping_change(struct spin_services *m, struct spin_mapping *at, u32 prot);
bool spin_mapping_used(struct spin_services *m, struct spin_mapping *at);
/* The tables of ranges go; the space has none any more. */
void spin_tables_end(struct spin_services *m, struct mm *mm);

/* ---- address_space.c: the engine over these services ---- */

/* The thread that calls has met a frame that was stale, since this was last asked. */
bool spin_met_stale_frame(void);
/* Nobody else active; panics. */
void spin_address_space_check(struct spin *s);

#endif
