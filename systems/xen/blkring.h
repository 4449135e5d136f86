/* SPDX-License-Identifier: MIT */
/*
 * I/O between the guest and the domain that has the driver: a ring of requests in a page of the
 * guest's, grants for the frames that they are about, and two event channels to say that there is
 * something in it.
 *
 * The guest grants a frame to the driver's domain by an entry of its grant table; the driver's
 * domain has Xen map it by the entry's number, at which Xen holds the frame, as writable if it is
 * to be written.  So what the driver reads into is the guest's and no page table of it.  What the
 * guest puts into the ring it may change at any time: the driver copies a request before it looks
 * at it.
 *
 * The guest's swap area is behind the ring: blkring_init() puts itself before the store.
 */
#ifndef VMF_SYSTEMS_XEN_BLKRING_H
#define VMF_SYSTEMS_XEN_BLKRING_H

#include "engine/backing/store.h"
#include "systems/xen/hypervisor.h"

#define BLK_GRANTS  64
#define BLK_ENTRIES 32

#define GRANT_READ  1u
#define GRANT_WRITE 2u

/* An entry of the guest's grant table. */
struct xen_grant {
	u32 rights; /* GRANT_*; 0: it is free.  The guest's to write, but not while maps */
	u32 maps;   /* Xen's: by the driver's domain */
	u64 pfn;
};

enum blk_op { BLK_READ, BLK_WRITE };

/* A request, and in its place then the response. */
struct blk_entry {
	u64 id, slot;
	u32 op, grant;
	s32 status; /* of a response: 0, or a negative errno */
};

struct blk_page {
	u32 requests, responses; /* put there so far */
	struct blk_entry entries[BLK_ENTRIES];
};

struct blkring {
	spinlock_t lock; /* one transfer at a time; guards all below */
	struct xen *xen;
	struct blk_page *page;
	struct xen_grant grants[BLK_GRANTS];
	u32 taken;		  /* requests that the driver has taken */
	u32 seen;		  /* responses that the guest has taken */
	bool driver_event;	  /* of the driver's domain: its channel is pending */
	s32 status;		  /* of the last response */
	u64 next_id, waiting_for; /* of requests */
	struct store *store;
	const struct store_ops *disk; /* the store's own: what the driver has */
	struct store_ops ops;	      /* what it has instead */
};

/* From now on saves and loads of the store go through the ring, which is in the frame of `page`.
 */
void blkring_init(struct blkring *r, struct xen *x, void *page, struct store *store);
/* The store is as it was; or nothing, if there was no blkring_init(). */
void blkring_fini(struct blkring *r);

/* ---- the guest's; lock held ---- */

/* Entry's number, or -ENOSPC. */
int blkring_grant(struct blkring *r, u64 pfn, u32 rights);
/* 0, -EBUSY (it is mapped). */
int blkring_end_grant(struct blkring *r, u32 grant);
/* Put a request into the ring.  -EAGAIN: it is full. */
int blkring_request(struct blkring *r, const struct blk_entry *request);
/* Take the responses that are there. */
void blkring_responses(struct blkring *r);

/* ---- Xen's, for the driver's domain; lock held ---- */

/* grant_table_op: map.  0, -ENOENT (it is not granted), -EACCES (not for writing), as
 * frames_hold(). */
int xen_grant_map(struct blkring *r, u32 grant, bool write, u64 *pfn);
/* `pfn` as it was mapped. */
void xen_grant_unmap(struct blkring *r, u32 grant, bool write, u64 pfn);

/* ---- the driver's; lock held ---- */

/* Serve what is in the ring.  How many requests that were. */
unsigned blkring_serve(struct blkring *r);

#endif
