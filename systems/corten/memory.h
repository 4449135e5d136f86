/* SPDX-License-Identifier: MIT */
/*
 * What CortenMM's tables map: frames, and slots of the store.
 *
 * A CPU has some frames of its own, so that a fault takes none of the allocator's locks most of the
 * time.  For each frame that holds anonymous memory it is noted at which address it was mapped
 * last; there is no list of them: who must evict looks at the frames one after the other, and what
 * the note says is true only of a space whose tables, locked, say so, too.
 *
 * A page that several spaces map is taken from one after the other: as long as there are two
 * nobody can write to it, so that each saves what the others would.
 */
#ifndef VMF_SYSTEMS_CORTEN_MEMORY_H
#define VMF_SYSTEMS_CORTEN_MEMORY_H

#include "engine/backing/store.h"
#include "engine/page/page.h"
#include "systems/corten/cursor.h"

#define CORTEN_SPARE 16

struct corten_memory {
	struct soft_machine *machine;
	struct store *store;
	struct corten_space **spaces; /* [nr_spaces]; NULL: there is none */
	unsigned nr_spaces;
	_Atomic u64 *notes; /* [machine->nr_user]: addresses; 0: not anonymous memory */
	_Atomic u64 hand;
	struct corten_spare {
		_Alignas(64) unsigned n;
		struct page *pages[CORTEN_SPARE];
	} spare[SOFT_MAX_CPUS + 1];
	unsigned batch;	 /* that a CPU takes at once */
	spinlock_t lock; /* guards all below; inside the locks of tables */
	u64 *free_slots, nr_free_slots;
	u32 *slot_users; /* records that name the slot */
};

/* `spaces` are all there are; they come and go while nobody else is active.  0, -ENOMEM. */
int corten_memory_init(struct corten_memory *m, struct soft_machine *machine, struct store *store,
		       struct corten_space **spaces, unsigned nr_spaces);
void corten_memory_fini(struct corten_memory *m);

/* A frame with a reference, or NULL: none is free.  cpu: the one that this thread drives, or how
 * many there are: none.  Takes no lock of a table. */
struct page *corten_frame(struct corten_memory *m, unsigned cpu);
void *corten_bytes(struct corten_memory *m, struct page *page);
/* The page is mapped there, and will be looked for there. */
void corten_note_anon(struct corten_memory *m, struct page *page, u64 va);
bool corten_is_anon(struct corten_memory *m, const struct page *page);
/* One entry less maps it; its reference goes.  True: it was the last. */
bool corten_unmapped(struct corten_memory *m, struct page *page);

/* One record more, or less, names the slot. */
void corten_slot_refer(struct corten_memory *m, u64 slot, int n);

/* Send the page at va to the store, if it is the space's alone.  1: a frame is free; 0: none is; or
 * why the store would not have it.  No lock held. */
int corten_evict_at(struct corten_memory *m, unsigned cpu, struct corten_space *s, u64 va);
/* Free so many frames, or fewer.  How many.  No lock held. */
u64 corten_reclaim(struct corten_memory *m, unsigned cpu, u64 want);

#endif
