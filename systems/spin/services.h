/* SPDX-License-Identifier: MIT */
/*
 * SPIN's memory services, as interfaces that extensions call (Bershad et al., SOSP 1995): PhysAddr
 * has the frames, VirtAddr ranges of addresses, Translation puts the ones under the others.
 *
 * Extensions hold handles, never pointers: of a frame, of a range; a map is named by the key of its
 * address space.  Each call checks all that it is given: a handle that names nothing, or nothing
 * any more, gives -EBADF; what is another extension's, -EACCES.  The caller is in the same
 * protection domain: a call crosses nothing.
 *
 * A frame is
 *
 *            Allocate              give back, or memory is short      Repossess
 *   Free ------------------> Active ----------> Reclaimed ----------> Transient --> Zombie --> Free
 *                              ^                    |
 *                              +----- react --------+
 *
 * Active frames may be mapped.  When memory is short the event Reclaim asks the owner of the oldest
 * frame: this one, or which other of yours?  A Reclaimed frame is mapped nowhere and has its bytes
 * still; its owner may make it Active again (react), which costs no I/O.  The event Repossess comes
 * last: the owner may read the bytes, while the frame is Transient, and nothing else.  A Zombie has
 * no owner, but TLBs may have it still.  Pinned frames are the kernel's.
 *
 * A handle that was good may be so no more at the next call: AddMapping then gives -ESTALE or
 * -EBADF (SPIN: the exception StaleFrame), and who handles a fault tries again with another frame,
 * up to SPIN_STALE_TRIES times.
 *
 * Any thread, with no lock held; from handlers, too.
 */
#ifndef VMF_SPIN_SERVICES_H
#define VMF_SPIN_SERVICES_H

#include "engine/base/types.h"

#define SPIN_STALE_TRIES 8

#define SPIN_RANGES	 64   /* at most, of all extensions */
#define SPIN_RANGE_PAGES 4096 /* at most, of one */

/* Where ranges are, in each space: above all that AddressSpace has. */
#define SPIN_VIRT_LOW  0xffff800000000000ULL
#define SPIN_VIRT_HIGH 0xffff808000000000ULL

enum spin_frame_state {
	SPIN_FREE,
	SPIN_ACTIVE,
	SPIN_RECLAIMED,
	SPIN_TRANSIENT,
	SPIN_ZOMBIE,
	SPIN_PINNED,
	NR_SPIN_FRAME_STATES
};

struct system;
struct spin_services;

/* Of a system that spin_system has made. */
struct spin_services *spin_services_of(struct system *s);

/* ---- PhysAddr ---- */

/* A frame full of zeros, Active: its handle, > 0.  -ENOMEM: there is none, or extensions have half
 * of all. */
s64 spin_phys_allocate(struct spin_services *m, u32 extension);
/* The same of frames that are free: nobody is asked for one, for the caller is inside a handler
 * that may be asked. */
s64 spin_phys_allocate_free(struct spin_services *m, u32 extension);
/* It is mapped nowhere any more, and free.  0, also for one that was given back before; -EBADF
 * (there never was such a frame), -EACCES. */
int spin_phys_deallocate(struct spin_services *m, u32 extension, s64 frame);
/* enum spin_frame_state, or -EBADF, -EACCES. */
int spin_phys_state(struct spin_services *m, u32 extension, s64 frame);
/* Active -> Reclaimed (it may go), or back.  0, -EBADF, -EACCES (that state is not for extensions),
 * -EBUSY (it is going just now), -EINVAL (not from the state that it is in). */
int spin_phys_change_state(struct spin_services *m, u32 extension, s64 frame,
			   enum spin_frame_state state);
/* All mappings of the frame have these rights (VM_READ, VM_WRITE, VM_EXEC) from now on.  0, -EBADF,
 * -EACCES, -EINVAL. */
int spin_phys_change_protection(struct spin_services *m, u32 extension, s64 frame, u32 prot);
/* Bytes of a frame.  0, -EBADF, -EACCES, -EINVAL (not within the frame), -ESTALE (it may not be
 * written any more). */
int spin_phys_read(struct spin_services *m, u32 extension, s64 frame, u64 at, void *bytes, u64 n);
int spin_phys_write(struct spin_services *m, u32 extension, s64 frame, u64 at, const void *bytes,
		    u64 n);
/* The kernel takes up to n frames back from extensions: those that are Reclaimed, then the oldest
 * that were not used since it last came by.  How many it got. */
unsigned spin_phys_take_back(struct spin_services *m, unsigned n);
/* Frames that extensions have. */
u64 spin_phys_held(struct spin_services *m);

/* ---- VirtAddr ---- */

/* A range of so many pages in the space that `map` names: its handle, > 0; -EBADF (no such space),
 * -EACCES (the extension was not given it), -EINVAL, -ENOSPC, -ENOMEM. */
s64 spin_virt_allocate(struct spin_services *m, u32 extension, u64 map, u64 pages);
/* The range and its mappings go; frames stay their owner's.  0, -EBADF, -EACCES. */
int spin_virt_deallocate(struct spin_services *m, u32 extension, s64 range);
/* *address: its first.  0, -EBADF, -EACCES. */
int spin_virt_address(struct spin_services *m, u32 extension, s64 range, u64 *address);

/* ---- Translation ---- */

/* What a mapping says of itself. */
struct spin_examined {
	u32 prot;   /* VM_READ, VM_WRITE, VM_EXEC */
	bool used;  /* accessed, */
	bool dirty; /* and written to, since it was made */
};

/* Page number `page` of the range is this frame from now on, with these rights (VM_READ is one of
 * them).  0, -EBADF, -EACCES (of map, frame or range), -EINVAL, -EEXIST (a frame is there), -ESTALE
 * (the frame is not Active any more), -EAGAIN, -ENOMEM. */
int spin_add_mapping(struct spin_services *m, u32 extension, u64 map, s64 frame, s64 range,
		     u64 page, u32 prot);
/* 0, -EBADF, -EACCES, -EINVAL, -ENOENT. */
int spin_remove_mapping(struct spin_services *m, u32 extension, u64 map, s64 range, u64 page);
int spin_change_mapping(struct spin_services *m, u32 extension, u64 map, s64 range, u64 page,
			u32 prot);
/* Of any address of a map that the extension was given, AddressSpace's, too.  0, -EBADF, -EACCES,
 * -ENOENT (nothing is mapped), -EAGAIN (the layout is changing just now). */
int spin_examine_mapping(struct spin_services *m, u32 extension, u64 map, u64 va,
			 struct spin_examined *examined);

#endif
