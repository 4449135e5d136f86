/* SPDX-License-Identifier: MIT */
/*
 * Page tables that know everything, and cursors over them (CortenMM, SOSP 2025).
 *
 * Each entry of each page table has a record beside it (struct corten_meta): what was allocated
 * there, with which rights, and, of a page that is not in memory, where its bytes are.  A record in
 * an upper table is for all that the entry covers, as long as no table is below it.  There are no
 * other structures of an address space, and so none that could disagree with the tables.
 *
 * A cursor is a transaction on [start, end): nobody else sees or changes what is in the range until
 * it is done.  To lock it:
 *
 *   1  go down from the root without a lock while there is a table that covers all of the range;
 *   2  lock the last one, the smallest that covers it.  If it was taken out of the tree meanwhile
 *      (stale): begin again;
 *   3  lock all tables below it that the range touches, parents before children, lower addresses
 *      first.
 *
 * Whoever locks two tables has locked a table above both, or goes from a table to those below: so
 * nobody waits in a circle.  Ranges with no table in common have no lock in common.
 *
 * A table that the range covers is taken out when what it maps is unmapped.  Who is between steps 1
 * and 2 may still be about to lock it: it is freed after all who were there have left.  (That is
 * one counter for each CPU, written by that CPU alone.)  The hardware's walks do not lock: for them
 * the TLB flush comes before.
 */
#ifndef VMF_SYSTEMS_CORTEN_CURSOR_H
#define VMF_SYSTEMS_CORTEN_CURSOR_H

#include "machine/soft/soft.h"

struct corten_file;
struct corten_space;

enum corten_kind {
	CORTEN_NOTHING,
	CORTEN_ANON, /* zeros, until it is written to */
	CORTEN_FILE, /* pages of a file from `page` on */
};

enum corten_flag {
	CORTEN_SHARED = 1, /* of a file: writes go to it */
	CORTEN_STACK = 2,  /* it grows down */
};

struct corten_meta {
	u8 kind, flags;
	u8 prot; /* VM_READ | VM_WRITE | VM_EXEC */
	/* Of a page: its bytes are in this slot of the store, less 1; 0: they are not.  Of one that
	 * is mapped: they were, and are as long as the entry is clean. */
	u64 slot;
	struct corten_file *file; /* CORTEN_FILE; one reference for each record */
	u64 page;
};

/* A table's descriptor, beside that of its frame. */
struct corten_table {
	spinlock_t lock; /* guards all below, and the entries but for hardware's bits */
	bool stale;	 /* it is not in the tree any more */
	u8 level;
	u64 next_dead;		   /* frame; of a stale one */
	struct corten_meta *metas; /* [PTRS_PER_TABLE]; NULL: nothing is allocated here */
	_Atomic u64 takers;	   /* CPUs (bit: number, 63: above) that have had the lock */
};

/* Who uses the tables. */
struct corten_owner {
	/* n more records like this one; n may be -1: it is overwritten. */
	void (*refer)(struct corten_owner *o, const struct corten_meta *m, int n);
	/* An entry does not map the page any more, and no TLB knows it. */
	void (*unmapped)(struct corten_owner *o, struct page *page);
};

struct corten_tables {
	struct soft_machine *machine;
	struct mmu_ops mmu; /* how entries are written */
	struct corten_owner *owner;
	struct corten_table *tables; /* [machine->nr_table], by frame number */
	struct corten_reader {
		_Alignas(64) _Atomic u64 turns; /* odd: between steps 1 and 2 */
	} readers[SOFT_MAX_CPUS + 1];		/* the last: of who drives no CPU, one at a time */
	_Atomic u64 nr_tables;
};

/* Of one address space: the root is all there is. */
struct corten_space {
	struct mm mm; /* what a CPU loads: the engine of its machine, and the root; no more */
	struct corten_tables *tables;
	_Atomic s64 rss, swapped;
	_Atomic u64 minor, major;
};

#define CORTEN_BATCH 64

struct corten_cursor {
	struct corten_space *space;
	u64 start, end; /* bytes, whole pages */
	unsigned cpu;
	u64 table; /* frame of the table that covers all */
	enum mmu_level level;
	/* What is unmapped in [from, to) and not flushed yet, and tables to free at the end. */
	u64 flush_from, flush_to;
	struct page *gone[CORTEN_BATCH];
	unsigned nr_gone;
	u64 dead; /* frame of the first; all ones: none */
};

/* What is at an address. */
struct corten_state {
	struct corten_meta meta; /* of the page */
	pte_t pte;		 /* none: it is not in memory */
	pte_t *ptep;		 /* NULL: there is no table for it yet */
};

/* 0, -ENOMEM. */
int corten_tables_init(struct corten_tables *t, struct soft_machine *m, const struct mmu_ops *mmu,
		       struct corten_owner *owner);
void corten_tables_fini(struct corten_tables *t);
/* A space with nothing in it; and the end of one that no CPU has loaded.  0, -ENOMEM. */
int corten_space_init(struct corten_space *s, struct corten_tables *t);
void corten_space_fini(struct corten_space *s, unsigned cpu);

/* The transaction on [start, end) begins.  The thread has no other on this space. */
void corten_lock(struct corten_cursor *c, struct corten_space *s, unsigned cpu, u64 start, u64 end);
/* It ends: what was unmapped is flushed, and may be used again. */
void corten_unlock(struct corten_cursor *c);

/* All of the following refuse what the cursor has not locked: -EINVAL. */

int corten_query(struct corten_cursor *c, u64 va, struct corten_state *state);
/* Allocate [start, end), which is nothing; `page` counts on from page to page.  0, -ENOMEM: some
 * may be allocated. */
int corten_mark(struct corten_cursor *c, u64 start, u64 end, const struct corten_meta *meta);
/*
 * Map the page at va, for which nothing is in memory, with at most the rights that were given to
 * whoever allocated it.  The page has a reference and a map count for it.  0, -EEXIST (a page is
 * there), -EFAULT (nothing is allocated there), -EACCES (more rights), -ENOMEM (no table).
 */
int corten_map(struct corten_cursor *c, u64 va, struct page *page, bool write);
/* What an entry for a page with that record has beside the frame; nobody may access it: absent. */
u64 corten_bits(const struct corten_meta *m, bool write);
/* The record of va, a page of its own.  NULL: no table, or va is not locked. */
struct corten_meta *corten_meta_at(struct corten_cursor *c, u64 va);
/* Take the page at va, which is there, out of memory, its record left as it is; a flush is owed, or
 * done.  What the entry was. */
pte_t corten_lift(struct corten_cursor *c, u64 va, pte_t *ptep);
pte_t corten_take(struct corten_cursor *c, u64 va, pte_t *ptep);
/* It is back as it was, there or where else there is a table for it. */
void corten_restore(struct corten_cursor *c, u64 va, pte_t *ptep, pte_t old);
/* Take the page at va, if any, out of memory; at the end it is flushed and unmapped(). */
void corten_drop(struct corten_cursor *c, u64 va, pte_t *ptep);
/* Free all that is in [start, end). */
int corten_unmap(struct corten_cursor *c, u64 start, u64 end);
/* A flush of [start, end) is owed, at the latest at the end; and all that is owed is done. */
void corten_owe_flush(struct corten_cursor *c, u64 start, u64 end);
void corten_flush(struct corten_cursor *c);

/* What one record says: n pages from va on (1 where ptep is not NULL).  0, or an error that ends
 * the walk. */
typedef int (*corten_visit_fn)(void *arg, struct corten_cursor *c, u64 va, u64 n, pte_t *ptep,
			       struct corten_meta *meta);
/*
 * All records of [start, end) that say something, in order; those that reach beyond it are divided
 * first if `divide`, or shown from where the range begins.  0, what visit gave, -ENOMEM.
 */
int corten_walk(struct corten_cursor *c, u64 start, u64 end, bool divide, corten_visit_fn visit,
		void *arg);

/* Every table's descriptor agrees with the tree; frees are none of ours.  How many tables the space
 * has.  Panics with a message.  Nobody else active. */
u64 corten_check_tables(struct corten_space *s);

#endif
