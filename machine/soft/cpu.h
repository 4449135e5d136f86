/* SPDX-License-Identifier: MIT */
/*
 * A simulated CPU: one TLB, one address space loaded, driven by one host thread at a time.
 *
 * The TLB behaves as a real one: an entry stays until it is flushed, replaced, or faulted on, even
 * if the page table has changed long since.  So a flush that the engine forgets shows, as it would
 * on real hardware.  Where the machine is told to (soft_options.stale_rights), the rights of an
 * entry are believed, too, when they forbid an access that the tables have come to allow: a fault
 * that is for nothing, as real CPUs may give it.
 *
 * With PCIDs (soft_options.pcids) loading another space keeps the entries of those before it, as an
 * operating system has it: each CPU has a few numbers to give, and a space that finds its number
 * still its own, and has not been flushed anywhere meanwhile, goes on with its entries.
 *
 * An access and a flush from elsewhere meet as on real hardware, where a CPU finishes the access
 * that it has begun before it acknowledges the shootdown:
 *
 *   the CPU            inside = 1; look at `attention`; use the TLB, copy; inside = 0
 *   who shoots down    post the range and set `attention`; a barrier on every CPU (membarrier);
 *                      wait until inside = 0
 *
 * After the barrier either the one shooting sees inside = 1 and waits for the access to end, or
 * the CPU sees attention and drops the entries before it uses any.  The barrier is what lets the
 * CPU do without one: its side is a store and a load, and a hit costs about two nanoseconds.
 * Nothing in the section sleeps or takes a lock, so that waiting for it is short.
 */
#ifndef VMF_SOFT_CPU_H
#define VMF_SOFT_CPU_H

#include "engine/fault/fault.h"

#define TLB_ENTRIES 256	    /* direct mapped */
#define TLB_NONE    (~0ULL) /* never a tag */
/* Entries for translations of 2 MiB, direct mapped, too: pieces of 4 KiB are made from them without
 * a walk. */
#define TLB_LARGE_ENTRIES 32

/* PCIDs that a CPU gives to spaces: 1 and up.  0: the only one, without PCIDs. */
#define SOFT_PCIDS 6

struct soft_machine;

/* Three tags, one for each kind of user-mode access that the entry allows without another look: the
 * page's address with the PCID in its lowest bits, or TLB_NONE.  `write` is set only if the page is
 * dirty already, so that the first write walks and sets the dirty bit. */
struct tlb_entry {
	u64 read, write, fetch;
	char *host; /* the frame's bytes */
};

/* What the entry was made from. */
struct tlb_origin {
	u64 page;	/* its address, or TLB_NONE: no entry */
	u64 pfn;	/* the frame with its bytes */
	u32 generation; /* of the frame, when the entry was made */
	u16 pcid;
	u8 level, key; /* of the leaf */
	bool write, user, nx, dirty, global;
};

/* A PCID of a CPU's, and the space that has it. */
struct soft_context {
	struct mm *mm;
	u64 stamp; /* of the space's last flush, when it was loaded here */
};

/* cpu->attention */
enum {
	SOFT_FLUSH_POSTED = 1u << 0, /* the mailbox is not empty */
	SOFT_CHECKED = 1u << 1,	     /* every hit goes the slow way and is checked */
};

#define MAILBOX_RANGES 8

struct soft_cpu {
	/* Written by the CPU, read by those who shoot down. */
	_Alignas(64) _Atomic u32 inside;
	/* Set by others, reset by the CPU; with mailbox.lock, but for looking. */
	_Atomic u32 attention;
	u32 pcid; /* the CPU's own, as all down to machine */
	struct tlb_entry tlb[TLB_ENTRIES];
	struct tlb_origin origin[TLB_ENTRIES];
	struct tlb_origin large[TLB_LARGE_ENTRIES];
	unsigned nr_large; /* of all entries: large ones, and pieces of large pages */
	struct mmu_control control;
	struct soft_context contexts[SOFT_PCIDS];
	unsigned next_context;
	u64 cr2;	/* of the last fault */
	u32 error_code; /* of the last fault */
	/* Counted by the CPU, read anywhere: walks, table entries that those which ended well have
	 * read, and those that ended in a fault; faults, flushes; address spaces loaded. */
	_Atomic u64 misses, references, vain_references, faults, flushes, loads;
	struct soft_machine *machine;
	unsigned number;
	unsigned node;		 /* that it belongs to */
	_Atomic(struct mm *) mm; /* changed by the CPU only; NULL: none */
	/* Flushes posted and not yet done. */
	struct {
		spinlock_t lock;
		bool all;
		unsigned n;
		struct {
			struct mm *mm;
			u64 start, end;
		} ranges[MAILBOX_RANGES];
	} mailbox;
};

/* As a write to CR3: use mm (or none, NULL) from now on.  All but global entries of the TLB are
 * dropped; with PCIDs, those of this space that are out of date.  By the thread that drives the
 * CPU. An mm must be loaded nowhere when it is destroyed. */
void soft_load_mm(struct soft_cpu *cpu, struct mm *mm);
/* Control registers, EFER, PKRU: as they are to be from now on.  What they change for translations
 * that are in the TLB is seen to, as hardware does (a change of PGE, NXE, LA57 or WP empties it;
 * PKRU and the others bind at the next access).  By the thread that drives the CPU. */
void soft_set_control(struct soft_cpu *cpu, const struct mmu_control *control);
/* INVLPG: this CPU's translation of va goes, global or not. */
void soft_invlpg(struct soft_cpu *cpu, u64 va);

/*
 * User-mode accesses, each by the thread that drives the CPU, without engine locks (they fault).
 * FAULT_OK, or the reason why the program would get a signal; then cpu->cr2 and cpu->error_code say
 * where.  An access over several pages is done page by page: what is before the page at fault has
 * been read or written.  An address that is not canonical gives FAULT_MAPERR without a fault.
 */
static inline enum fault_reason soft_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len);
static inline enum fault_reason soft_write(struct soft_cpu *cpu, u64 va, const void *buf,
					   size_t len);
enum fault_reason soft_fetch(struct soft_cpu *cpu, u64 va, void *buf, size_t len);
/* The locked read-modify-write: add to the aligned 8 bytes at va; *old is what was there. */
enum fault_reason soft_add_u64(struct soft_cpu *cpu, u64 va, u64 add, u64 *old);

/*
 * Supervisor-mode accesses, to either half of the address space; `ac`: with EFLAGS.AC, that is
 * between STAC and CLAC.  A fault's error code has no PF_USER.  Otherwise as above.
 */
enum fault_reason soft_kernel_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len, bool ac);
enum fault_reason soft_kernel_write(struct soft_cpu *cpu, u64 va, const void *buf, size_t len,
				    bool ac);
enum fault_reason soft_kernel_fetch(struct soft_cpu *cpu, u64 va, void *buf, size_t len);
/* As the CPU reads a descriptor by itself. */
enum fault_reason soft_implicit_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len);

/* This thread's accesses: fn(arg) at each fault of theirs, before anybody fields it; no lock is
 * held.  NULL: nobody is told.  For tests, which have CPUs fault at the same time. */
void soft_on_fault(void (*fn)(void *arg), void *arg);

/* ---- for the machine itself ---- */

void soft_cpu_init(struct soft_cpu *cpu, struct soft_machine *m, unsigned number);
/* The node of the CPU that this thread drove last, by a fault or soft_load_mm(). */
unsigned soft_node(const struct engine *e);
/* The space that is loaded there. */
struct mm *soft_current_mm(const struct engine *e);
/* Drop [start, end) from the TLB of every CPU that has mm loaded; when it returns, none of them
 * uses such an entry any more.  Any lock of the engine may be held. */
void soft_shootdown(struct mm *mm, u64 start, u64 end);
/* The same for all that any CPU's TLB holds, of all spaces: a second stage has changed. */
void soft_shootdown_all(struct soft_machine *m);
/* Do the flushes that are posted to this CPU, which otherwise waits for its next access to do them.
 * By the thread that drives it, outside. */
void soft_take_mail(struct soft_cpu *cpu);
/* Every translation in the TLBs is one that the page tables give now, and allows no more than they
 * do.  Panics with a message.  Nobody else active. */
void soft_check_tlbs(struct soft_machine *m);

enum fault_reason soft_read_slow(struct soft_cpu *cpu, u64 va, void *buf, size_t len);
enum fault_reason soft_write_slow(struct soft_cpu *cpu, u64 va, const void *buf, size_t len);

static inline void soft_enter(struct soft_cpu *cpu)
{
	atomic_store_explicit(&cpu->inside, 1, memory_order_relaxed);
	/* The compiler must not move the look at attention up; the CPU may: see above. */
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void soft_leave(struct soft_cpu *cpu)
{
	atomic_store_explicit(&cpu->inside, 0, memory_order_release);
}

static inline u32 soft_attention(const struct soft_cpu *cpu)
{
	return atomic_load_explicit(&cpu->attention, memory_order_acquire);
}

static inline struct tlb_entry *tlb_entry_for(struct soft_cpu *cpu, u64 va)
{
	return &cpu->tlb[va >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
}

static inline u64 tlb_tag(const struct soft_cpu *cpu, u64 va)
{
	return (va & PAGE_MASK) | cpu->pcid;
}

static inline u64 page_offset(u64 va)
{
	return va & (PAGE_SIZE - 1);
}

static inline bool within_page(u64 va, size_t len)
{
	return page_offset(va) + len <= PAGE_SIZE;
}

static inline enum fault_reason soft_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	const struct tlb_entry *t = tlb_entry_for(cpu, va);

	soft_enter(cpu);
	if (likely(!soft_attention(cpu) && t->read == tlb_tag(cpu, va) && within_page(va, len))) {
		memcpy(buf, t->host + page_offset(va), len);
		soft_leave(cpu);
		return FAULT_OK;
	}
	soft_leave(cpu);
	return soft_read_slow(cpu, va, buf, len);
}

static inline enum fault_reason soft_write(struct soft_cpu *cpu, u64 va, const void *buf,
					   size_t len)
{
	const struct tlb_entry *t = tlb_entry_for(cpu, va);

	soft_enter(cpu);
	if (likely(!soft_attention(cpu) && t->write == tlb_tag(cpu, va) && within_page(va, len))) {
		memcpy(t->host + page_offset(va), buf, len);
		soft_leave(cpu);
		return FAULT_OK;
	}
	soft_leave(cpu);
	return soft_write_slow(cpu, va, buf, len);
}

static inline enum fault_reason soft_read_byte(struct soft_cpu *cpu, u64 va, u8 *byte)
{
	return soft_read(cpu, va, byte, 1);
}
static inline enum fault_reason soft_write_byte(struct soft_cpu *cpu, u64 va, u8 byte)
{
	return soft_write(cpu, va, &byte, 1);
}
static inline enum fault_reason soft_read_u64(struct soft_cpu *cpu, u64 va, u64 *word)
{
	return soft_read(cpu, va, word, sizeof(*word));
}
static inline enum fault_reason soft_write_u64(struct soft_cpu *cpu, u64 va, u64 word)
{
	return soft_write(cpu, va, &word, sizeof(word));
}

#endif
