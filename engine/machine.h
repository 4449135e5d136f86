/* SPDX-License-Identifier: MIT */
/*
 * The machine contract: all that the engine asks of what it runs on.
 *
 * Two parts.  Functions bound at link time (time, CPU, sleep and wake, messages)
 * are the same for every engine of a program.  `struct mmu_ops` is a table given
 * to each engine: it carries every change of a translation, so that one page
 * table here can drive three kinds of TLB:
 *
 *   soft, x86   a plain store, then the flush that is owed;
 *   linux       the host kernel's own page table is our TLB: setting an entry
 *               makes the page appear in the process, taking it makes the page go.
 *
 * The engine's page tables are always the truth.  An operation that succeeds has
 * written the entry itself; one that fails has changed nothing.  The engine writes an
 * entry with a plain store in five cases only, in which no translation of the machine
 * changes: dropping a swap entry, adopting a page that is there, putting down again an
 * entry that was cleared and flushed (at its new address: remap; where it was: a copy that
 * could not be mapped; as a table of small entries: a huge page that is split), filling the tables
 * of a space that has never run (fork), and marking or moving an entry that maps nothing
 * (userfault).  A machine that must see what comes to map something by such a store, or the tables
 * that come and go above the last level, has put_back and set_table.
 *
 * A machine is conforming if it passes tests/contract/.
 */
#ifndef VMF_MACHINE_H
#define VMF_MACHINE_H

#include "engine/base/types.h"
#include "engine/mmu/pte.h"

struct engine;
struct mm;
struct page;

/* ---- bound at link time ---- */

/* Nanoseconds since some fixed moment; never goes back.  May be called anywhere. */
u64 machine_now_ns(void);
/* The CPU this runs on now, below machine_nr_cpus().  A hint: it may change at once. */
unsigned machine_cpu(void);
unsigned machine_nr_cpus(void);
/* What the program calls the thread that this runs on. */
u32 machine_thread_id(void);
/* Sleep while *word == expected; may return early without reason.  No lock of the
 * engine to the right of the one being waited for is held. */
void machine_wait(_Atomic u32 *word, u32 expected);
/* Wake up to n sleepers on word. */
void machine_wake(_Atomic u32 *word, u32 n);
/* One line of text for a person, without newline. */
void machine_message(const char *text);
/* The engine found itself inconsistent: print and stop.  Does not return. */
_Noreturn void machine_panic(const char *text);

/* ---- one table an engine ---- */

/* At most so many pages go through one call below. */
#define MMU_BATCH 64

/* One page to take away, and what became of it. */
struct mmu_take {
	u64 va;		   /* in:  its address, page aligned */
	pte_t *ptep;	   /* in:  its entry, present */
	struct page *page; /* in:  its frame */
	pte_t left;	   /* in:  what to leave in the entry (a swap entry) */
	int result;	   /* out: 0, or why it stays: -EBUSY (pinned or shared), -EAGAIN (try
			    *      later), -EINVAL (cannot be managed), -ENOENT (was not there:
			    *      the entry has been cleared, the frame holds nothing) */
	bool dirty; /* out: the entry said dirty (always true where the machine cannot tell) */
};

struct mmu_ops {
	const char *name;

	/*
	 * Prepare `n` <= MMU_BATCH fresh frames to be filled: afterwards page_bytes() of each is
	 * writable by the engine until the frame is set or freed.  Frames staged together and
	 * later set at consecutive addresses in the same order cost one operation.
	 * Returns 0 or -EAGAIN (no room: the caller gives up this fault, which comes again).
	 * Called without locks to the right of vma->lock.
	 */
	int (*stage)(struct engine *e, struct page **pages, unsigned n);

	/* A staged frame will not be set: forget it.  Called before it is freed. */
	void (*unstage)(struct engine *e, struct page *page);

	/*
	 * The bytes of a frame that is staged, taken, write-protected or (soft, x86) any.
	 * Valid until the frame is set or freed.
	 */
	void *(*bytes)(struct engine *e, struct page *page);

	/*
	 * Absent -> present for `n` <= MMU_BATCH consecutive entries of one page table, starting
	 * at `va`; entry i becomes ptes[i].  Frames were staged, or taken and not freed since, or
	 * (shares_pages) are mapped read-only by other entries, or (clean) are pages of a file,
	 * which may be set in many places.
	 * A machine whose MMU_SILENT_WRITE flag is set may make a page writable that ptes[i]
	 * forbids only if the VMA allows writing.
	 * Returns the number set, at least 1, from the first on, or a negative errno with none:
	 * -EAGAIN (the layout is changing; drop all locks and let the fault come again),
	 * -ENOENT (no such mapping in the machine any more), -ESRCH (the space is gone),
	 * -ENOMEM, -EEXIST (the first page is present in the machine already: the engine takes
	 * its own frame for it, as adopt_page() does, and writes the entry itself).
	 * Where pages_vanish is set, the one entry of a call with n == 1 may be present: set()
	 * then writes it only on success.  Page-table lock held.
	 */
	int (*set)(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		   unsigned n);

	/* Present -> present with other permissions or young/dirty bits.  Adding rights owes no
	 * flush; taking rights away is flushed by flush().  Young and dirty bits of the old entry
	 * stay set: a CPU may have set them since the caller looked.  An entry that is mapped and
	 * that nobody may access (its translation flushed) may get another frame, too, on machines
	 * whose frames are directly mapped.  Page-table lock held. */
	void (*change)(struct mm *mm, u64 va, pte_t *ptep, pte_t pte);

	/* Between the two, change() may put off what it is to do until end_batch(); the caller
	 * looks at no entry again that it has changed.  One page-table lock is held from before the
	 * first until after the second.  Both or none (NULL: nothing is put off). */
	void (*begin_batch)(struct mm *mm);
	void (*end_batch)(struct mm *mm);

	/* Present -> read-only and clean; returns the old entry with the dirty bit as the hardware
	 * left it.  Owes a flush: until it is done a CPU may write on.  NULL: the machine maps no
	 * pages of files.  Page-table lock held. */
	pte_t (*clean)(struct mm *mm, u64 va, pte_t *ptep);

	/* Present -> `left` (none or a swap entry); returns the old entry with the dirty bit as the
	 * hardware left it.  Used by unmapping: on linux the kernel has already done it, so only
	 * the entry is written.  Owes a flush.  Page-table lock held. */
	pte_t (*clear)(struct mm *mm, u64 va, pte_t *ptep, pte_t left);

	/* Read and reset the accessed bit.  Machines that cannot see it return false.  Owes no
	 * flush: a stale bit costs precision only.  Page-table lock held. */
	bool (*test_and_clear_young)(struct mm *mm, u64 va, pte_t *ptep);

	/*
	 * Take `n` <= MMU_BATCH mapped pages away, with the flush done: nobody can read or write
	 * them any more and page_bytes() gives their last contents.  Sorted by va, all in one page
	 * table and within MMU_BATCH pages of the first, page-table lock held.  Sets result (and on
	 * success the entry) of each. Returns how many were taken.
	 */
	unsigned (*take)(struct mm *mm, struct mmu_take *takes, unsigned n);

	/* An entry that was cleared and flushed is put down again as it was, here or (remap) at
	 * another address.  NULL: by a plain store.  Page-table lock held. */
	void (*put_back)(struct mm *mm, u64 va, pte_t *ptep, pte_t pte);

	/*
	 * The entry of a table above the last level becomes `entry`: one for a fresh table, which
	 * is empty, or none.  A table that goes is flushed after, and freed then.  NULL: by a plain
	 * store.  The lock of the slot's table held (mm->table_lock above PMD tables), or, where a
	 * table goes, mmap_lock for writing.  Only for machines without huge pages.
	 */
	void (*set_table)(struct mm *mm, pte_t *slot, pte_t entry);

	/* The flush owed for [start, end), done before the frames are freed.  A page-table lock may
	 * be held: a CPU that waits for one must answer all the same. */
	void (*flush)(struct mm *mm, u64 start, u64 end);

	/*
	 * The same for an entry of a PMD table, which maps a whole compound page at va (both
	 * aligned to PMD_SIZE), or for one of a PUD table and pages of 1 GiB.  All four or none
	 * (NULL: the machine has no huge pages); where they are, page_bytes() of any frame is good
	 * at any time, and nothing is staged.  The lock of the PMD table held.  What is owed to
	 * flush() is owed for [va, va + PMD_SIZE).
	 */
	/* Absent -> present.  0, or as set(). */
	int (*set_huge)(struct mm *mm, u64 va, pte_t *pmdp, pte_t pmd, struct page *head);
	void (*change_huge)(struct mm *mm, u64 va, pte_t *pmdp, pte_t pmd);
	/* `left`: none, or the entry marked as being split. */
	pte_t (*clear_huge)(struct mm *mm, u64 va, pte_t *pmdp, pte_t left);
	bool (*test_and_clear_young_huge)(struct mm *mm, u64 va, pte_t *pmdp);

	/*
	 * Where pages stay in the program's own memory, huge ones are the host's affair, and the
	 * four above are NULL: have it make one of the pages at va (aligned to PMD_SIZE), all of
	 * which are mapped.  0; -EEXIST: it is one; or not now.  No lock held, so they may have
	 * changed; that does no harm.  NULL: there is no such thing.
	 */
	int (*collapse)(struct mm *mm, u64 va);

	/* A frame has come from the allocator, and nobody else knows of it yet.  NULL: nobody needs
	 * to be told. */
	void (*claim)(struct engine *e, struct page *page);

	/* A frame goes back to the allocator; forget its bytes.  The frame is in no table. */
	void (*release)(struct engine *e, struct page *page);

	/* The node (page/node.h) of the CPU that this runs on.  NULL: there is one node. */
	unsigned (*node)(const struct engine *e);
	/* The space of the task that this runs for, which stays meanwhile; or NULL: nobody's. Asked
	 * only where there are several nodes.  NULL: nobody's ever. */
	struct mm *(*current_mm)(const struct engine *e);

	/* Set where the machine does not report a first write to a page that was set read-only
	 * and zero: the engine then maps no shared zero page but a frame for each page. */
	bool silent_write;

	/* Set where a page can go without the engine's doing, and before it is told: a fault "not
	 * present" on an entry that is present then asks set() for a page of zeros there, and
	 * -EEXIST means that it was not gone. */
	bool pages_vanish;

	/* Set where several entries may map one frame, in one space or in several, and change()
	 * can take the right to write away from an entry that is in use: fork needs it. */
	bool shares_pages;

	/* Set where test_and_clear_young() sees nothing and always says no: who would go far to ask
	 * it need not. */
	bool never_young;
};

#endif
