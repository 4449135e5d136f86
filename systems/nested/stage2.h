/* SPDX-License-Identifier: MIT */
/*
 * The second stage: tables from guest frame numbers (gfn) to host frame numbers (hfn), in the
 * formats of EPT (Intel SDM vol. 3C, 29.3) and of nested paging (AMD APM vol. 2, 15.25), and the
 * walk that the processor makes through them.
 *
 * A processor walks without a lock at any moment.  So an entry is read once, its accessed and dirty
 * flags are set by compare-and-exchange, and software changes entries so, too.  Who holds mmu_lock
 * for reading (vm.h) may add: entries and tables, and rights to entries that are there.  Only who
 * holds it for writing takes away; then every CPU's TLB is flushed before the lock is released.
 */
#ifndef VMF_NESTED_STAGE2_H
#define VMF_NESTED_STAGE2_H

#include "engine/base/lock.h"
#include "engine/mmu/walk.h"

enum stage2_format { STAGE2_EPT, STAGE2_NPT };

/* What an EPT violation's exit qualification says (SDM vol. 3C, table 28-7). */
#define EPT_QUAL_READ	   (1ULL << 0)
#define EPT_QUAL_WRITE	   (1ULL << 1)
#define EPT_QUAL_FETCH	   (1ULL << 2)
#define EPT_QUAL_READABLE  (1ULL << 3) /* the rights of all entries that the walk used */
#define EPT_QUAL_WRITABLE  (1ULL << 4)
#define EPT_QUAL_FETCHABLE (1ULL << 5)
#define EPT_QUAL_GLA_VALID (1ULL << 7)
#define EPT_QUAL_FINAL	   (1ULL << 8) /* 1: to the page; 0: to a guest's page table */

/* EXITINFO1 of a nested page fault (APM vol. 2, 15.25.6): an error code as vector 14's, and: */
#define NPF_FINAL (1ULL << 32)
#define NPF_TABLE (1ULL << 33)

enum stage2_outcome {
	STAGE2_OK,
	STAGE2_VIOLATION, /* EPT violation, or a nested page fault for a missing right */
	STAGE2_MISCONFIG, /* an entry that no table may have; NPT: a reserved bit */
	STAGE2_LOG_FULL,  /* the dirty flag is to be set, and the log has no room for it */
};

/* Where a processor notes pages whose dirty flags it sets (page-modification logging): from the
 * last entry down, as the hardware does (SDM vol. 3C, 29.3.6). */
#define PML_ENTRIES 512
struct stage2_log {
	u16 index; /* of the next; above PML_ENTRIES: full */
	u64 gpa[PML_ENTRIES];
};

/* What a walk came to. */
struct stage2_walk {
	enum stage2_outcome outcome;
	u64 info;	/* not OK: the exit qualification, or EXITINFO1 */
	u64 hfn;	/* OK: of the page itself */
	bool write;	/* OK: a write needs no walk: allowed, and the dirty flag set */
	bool fetch;	/* OK: allowed */
	unsigned reads; /* entries */
};

struct stage2 {
	enum stage2_format format;
	struct mmu_control control; /* NPT: the host's bits that the walk obeys */
	u64 root;		    /* hfn */
	u64 first_table;	    /* hfn of tables[0]; they follow one another */
	u64 nr_tables;
	pte_t (*tables)[PTRS_PER_TABLE];
	spinlock_t lock;    /* guards the rest */
	u64 nr_given;	    /* the first so many tables have been given at some time */
	u64 nr_free, *free; /* hfns of those that came back */
};

/* No table but the root.  `first_table` and up are the hfns of as many tables as `frames` guest
 * frames may need.  0, -ENOMEM. */
int stage2_create(enum stage2_format format, u64 frames, u64 first_table, struct stage2 **s);
void stage2_destroy(struct stage2 *s);

/* As a processor: translate gpa for an access of kind PF_WRITE, PF_INSTR, SECOND_TABLE (a guest's
 * table; second.h).  log NULL: writes are not logged. */
void stage2_walk(struct stage2 *s, u64 gpa, u32 access, struct stage2_log *log,
		 struct stage2_walk *w);

/* ---- software's side ---- */

#define STAGE2_WRITE (1u << 0) /* now */
#define STAGE2_MAY   (1u << 1) /* it is software's to allow: only the dirty log forbids it */

/* What an entry says. */
struct stage2_entry {
	bool present, write, may, dirty, young, broken;
	enum mmu_level level; /* of the leaf; LEVEL_PTE too where there is none yet */
	u64 hfn;
};

/* The leaf for gfn, or that there is none.  mmu_lock. */
struct stage2_entry stage2_look(struct stage2 *s, u64 gfn);
/*
 * Map gfn to hfn, which may lie within a huge page, by a page of that level.  A huge leaf in the
 * way of a smaller page is split; a table in the way of a huge page stays, and gfn is mapped by it.
 * 0; -EAGAIN: another CPU was there first, and has the entry made something else;
 * -EEXIST: it is as it should be already; -ENOMEM.  mmu_lock for reading.
 */
int stage2_map(struct stage2 *s, u64 gfn, u64 hfn, enum mmu_level level, u32 rights);
/* A leaf that no walk accepts: whoever touches gfn leaves with STAGE2_MISCONFIG.  As above. */
int stage2_map_broken(struct stage2 *s, u64 gfn);
/* Allow writing where STAGE2_MAY says that it can be and the leaf is of one page.  False: it is not
 * so (any more).  Without a lock, but as a processor's walk: who frees tables waits for it. */
bool stage2_allow_write(struct stage2 *s, u64 gfn);

/* All leaves that map some of [gfn, gfn + n); the number that changed.  mmu_lock for writing, and a
 * flush is owed if any did. */
u64 stage2_zap(struct stage2 *s, u64 gfn, u64 n);
u64 stage2_write_protect(struct stage2 *s, u64 gfn, u64 n);
u64 stage2_clear_dirty(struct stage2 *s, u64 gfn, u64 n);
u64 stage2_clear_young(struct stage2 *s, u64 gfn, u64 n);
/* Huge leaves become tables of single pages with the same rights and flags.  Owes no flush: what a
 * TLB has of them is what the tables give.  The number split; -ENOMEM: not all could be.  mmu_lock
 * for writing. */
s64 stage2_split(struct stage2 *s, u64 gfn, u64 n);
/* Take tables of single pages away, within [gfn, gfn + n), so that huge pages may come in their
 * place; how many.  Call stage2_free_table() for each of `freed` after the flush.  mmu_lock for
 * writing. */
u64 stage2_unlink_tables(struct stage2 *s, u64 gfn, u64 n, u64 *freed, u64 most);
void stage2_free_table(struct stage2 *s, u64 hfn);

#endif
