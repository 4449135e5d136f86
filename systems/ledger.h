/* SPDX-License-Identifier: MIT */
/*
 * The ledger: what a system paid, counted where it happens.
 *
 * A thread that drives a CPU says so (ledger_begin); from then on the primitives below count for
 * that CPU, without a lock, and, while somebody records, note what happened in order.  A thread
 * that has not said so counts nothing.  Each primitive increments one field, or, for a crossing,
 * the fields that the two actors and the way between them make up; nobody adds to a total by hand.
 *
 * What the simulated hardware and the engine count themselves (walks, references, frames) is taken
 * from them when the totals are made: system_measured() in system.h.
 */
#ifndef VMF_SYSTEMS_LEDGER_H
#define VMF_SYSTEMS_LEDGER_H

#include "engine/base/types.h"

enum ledger_counter {
	/* control */
	PAID_CROSSINGS,	       /* privilege crossings, one way */
	PAID_DOMAINS,	       /* changes of protection domain */
	PAID_EXCEPTIONS,       /* of the hardware, to whoever fields them */
	PAID_VM_EXITS,	       /* from a guest to its hypervisor */
	PAID_SYSTEM_CALLS,     /* to a kernel */
	PAID_HYPERCALLS,       /* to a hypervisor */
	PAID_OPERATIONS,       /* that came with a call; more than calls where they are batched */
	PAID_UPCALLS,	       /* from a kernel to a handler outside of it */
	PAID_MESSAGES,	       /* sent */
	PAID_CONTEXT_SWITCHES, /* from thread to thread */
	PAID_RETRIES,
	/* data */
	PAID_PAGES_ZEROED,
	PAID_PAGES_COPIED,
	PAID_FRAMES_ALLOCATED,
	PAID_FRAMES_FREED,
	PAID_IO_READS, /* pages, from a backing store */
	PAID_IO_WRITES,
	/* translation */
	PAID_TLB_MISSES,
	PAID_WALK_READS,   /* table entries that the hardware read */
	PAID_WALK_READS_2, /* of a second stage */
	PAID_SOFTWARE_READS,
	PAID_ENTRY_WRITES,
	PAID_TABLES,  /* allocated */
	PAID_INVLPG,  /* one page's translation, on this CPU */
	PAID_FLUSHES, /* of a range or all, by whoever changed the tables */
	PAID_IPIS,    /* CPUs that had to be interrupted for one */
	PAID_CR3_LOADS,
	/* decisions */
	PAID_GUARDS,	   /* evaluated */
	PAID_HANDLERS,	   /* of an event, or methods of an object, called */
	PAID_CAPABILITIES, /* checked */
	PAID_TYPE_UPDATES, /* of a frame's type or reference count */
	/* of frames between a kernel and a library operating system that has them */
	PAID_REVOCATIONS,  /* times that it was asked for some */
	PAID_FRAMES_GIVEN, /* that it gave back */
	PAID_REPOSSESSED,  /* that were taken by force */
	PAID_FRAMES_TAKEN, /* that it got */
	/* locks, by how much they cover; and memory of another CPU's */
	PAID_LOCKS_SPACE,
	PAID_LOCKS_REGION,
	PAID_LOCKS_TABLE,
	PAID_LOCKS_OBJECT,
	PAID_REMOTE,
	NR_LEDGER_COUNTERS
};

/* Who has control.  ring: 0 the most privileged, but for -1, who runs a machine that has a ring 0;
 * domain: an address space, or what protects. */
struct ledger_actor {
	const char *name;
	signed char ring;
	u8 domain;
};

/* How control goes from one to another; counted, but for returns. */
enum ledger_way {
	BY_EXCEPTION,
	BY_RETURN, /* of any of the others: iret, eret, vmentry, sysret */
	BY_SYSTEM_CALL,
	BY_HYPERCALL,
	BY_VM_EXIT,
	BY_UPCALL,
	BY_MESSAGE,
	BY_SWITCH, /* of the thread that runs */
};

struct ledger_event {
	unsigned cpu;
	const struct ledger_actor *from, *to; /* to NULL: a step of `from`'s */
	enum ledger_way way;
	const char *text; /* lives as long as the program */
	u64 va;
};

struct ledger;

/* For so many CPUs, and the threads beside them.  0, -ENOMEM. */
int ledger_create(unsigned nr_cpus, struct ledger **ledger);
void ledger_destroy(struct ledger *l);

/* The calling thread drives that CPU, until it says otherwise; ledger NULL: none.  Threads that
 * drive none may count as nr_cpus. */
void ledger_begin(struct ledger *l, unsigned cpu);
/*
 * What this thread does from now on is done for whom that ledger is, of no CPU of its, and is paid
 * there (NULL: where it was); events are told where they were.  What code does in the name of
 * `actor` is meanwhile `as`'s, another of its kind (NULL: its own).  Until ledger_charge_again().
 */
struct ledger_payer {
	struct ledger *ledger, *told;
	unsigned cpu, at;
	const struct ledger_actor *actor, *as;
};
struct ledger_payer ledger_charge(struct ledger *l, const struct ledger_actor *actor,
				  const struct ledger_actor *as);
void ledger_charge_again(const struct ledger_payer *p);
/* The ledger of the CPU that this thread drives; NULL: none. */
struct ledger *ledger_current(void);
unsigned ledger_cpu(void);

void ledger_add(enum ledger_counter counter, u64 n);
static inline void ledger_count(enum ledger_counter counter)
{
	ledger_add(counter, 1);
}
/* Control goes from one to the other.  `text`: what happens, in the words of who describes it. */
void ledger_cross(const struct ledger_actor *from, const struct ledger_actor *to,
		  enum ledger_way way, const char *text);
/* `who` does something that a reader should see. */
void ledger_step(const struct ledger_actor *who, const char *text, u64 va);

/* The sum over all CPUs.  Nobody else active. */
u64 ledger_sum(const struct ledger *l, enum ledger_counter counter);
/* All counters zero, no event. */
void ledger_reset(struct ledger *l);
/* Note events from now on (or no more), of one CPU; the first LEDGER_EVENTS are kept. */
#define LEDGER_EVENTS 4096
void ledger_record(struct ledger *l, bool on);
const struct ledger_event *ledger_events(const struct ledger *l, unsigned *n);

/* "crossings", "exceptions": the counter in a table's head and in JSON. */
const char *ledger_name(enum ledger_counter counter);

#endif
