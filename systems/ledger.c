/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/ledger.h"

struct ledger_cpu {
	_Alignas(64) _Atomic u64 count[NR_LEDGER_COUNTERS];
};

struct ledger {
	unsigned nr_cpus;
	bool recording;
	_Atomic unsigned nr_events; /* may exceed what is kept */
	struct ledger_event events[LEDGER_EVENTS];
	struct ledger_cpu cpus[];
};

/* `told`, `at`: where events go, and of which CPU. */
static _Thread_local struct ledger_payer here;

int ledger_create(unsigned nr_cpus, struct ledger **ledger)
{
	/* One more, for threads that drive no CPU. */
	size_t size = sizeof(struct ledger) + ++nr_cpus * sizeof(struct ledger_cpu);
	struct ledger *l = aligned_alloc(64, (size + 63) & ~(size_t)63);

	if (!l)
		return -ENOMEM;
	memset(l, 0, size);
	l->nr_cpus = nr_cpus;
	*ledger = l;
	return 0;
}

void ledger_destroy(struct ledger *l)
{
	if (here.ledger == l || here.told == l)
		here = (struct ledger_payer){ 0 };
	free(l);
}

void ledger_begin(struct ledger *l, unsigned cpu)
{
	here = (struct ledger_payer){ .ledger = l, .told = l, .cpu = cpu, .at = cpu };
}

struct ledger_payer ledger_charge(struct ledger *l, const struct ledger_actor *actor,
				  const struct ledger_actor *as)
{
	struct ledger_payer was = here;

	here.actor = actor;
	here.as = as;
	if (l) {
		here.ledger = l;
		here.cpu = l->nr_cpus - 1;
	}
	return was;
}

void ledger_charge_again(const struct ledger_payer *p)
{
	here = *p;
}

struct ledger *ledger_current(void)
{
	return here.ledger;
}

unsigned ledger_cpu(void)
{
	return here.cpu;
}

void ledger_add(enum ledger_counter counter, u64 n)
{
	struct ledger *l = here.ledger;
	_Atomic u64 *count;

	if (!l)
		return;
	count = &l->cpus[here.cpu].count[counter];
	if (here.cpu == l->nr_cpus - 1) /* whoever drives no CPU: there may be several */
		atomic_fetch_add_explicit(count, n, memory_order_relaxed);
	else
		atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + n,
				      memory_order_relaxed);
}

static const struct ledger_actor *who_acts(const struct ledger_actor *actor)
{
	return here.as && actor == here.actor ? here.as : actor;
}

static void note(const struct ledger_event *event)
{
	struct ledger *l = here.told;
	unsigned at;

	if (!l || !l->recording)
		return;
	at = atomic_fetch_add_explicit(&l->nr_events, 1, memory_order_relaxed);
	if (at < LEDGER_EVENTS) {
		l->events[at] = *event;
		l->events[at].cpu = here.at;
	}
}

void ledger_cross(const struct ledger_actor *from, const struct ledger_actor *to,
		  enum ledger_way way, const char *text)
{
	static const enum ledger_counter counters[] = {
		[BY_EXCEPTION] = PAID_EXCEPTIONS,    [BY_SYSTEM_CALL] = PAID_SYSTEM_CALLS,
		[BY_HYPERCALL] = PAID_HYPERCALLS,    [BY_VM_EXIT] = PAID_VM_EXITS,
		[BY_UPCALL] = PAID_UPCALLS,	     [BY_MESSAGE] = PAID_MESSAGES,
		[BY_SWITCH] = PAID_CONTEXT_SWITCHES,
	};

	from = who_acts(from);
	to = who_acts(to);
	if (way != BY_RETURN)
		ledger_count(counters[way]);
	if (from->ring != to->ring)
		ledger_count(PAID_CROSSINGS);
	if (from->domain != to->domain)
		ledger_count(PAID_DOMAINS);
	note(&(struct ledger_event){ .from = from, .to = to, .way = way, .text = text });
}

void ledger_step(const struct ledger_actor *who, const char *text, u64 va)
{
	note(&(struct ledger_event){ .from = who_acts(who), .text = text, .va = va });
}

u64 ledger_sum(const struct ledger *l, enum ledger_counter counter)
{
	u64 sum = 0;

	for (unsigned i = 0; i < l->nr_cpus; i++)
		sum += atomic_load_explicit(&l->cpus[i].count[counter], memory_order_relaxed);
	return sum;
}

void ledger_reset(struct ledger *l)
{
	memset(l->cpus, 0, l->nr_cpus * sizeof(l->cpus[0]));
	l->nr_events = 0;
}

void ledger_record(struct ledger *l, bool on)
{
	l->recording = on;
}

const struct ledger_event *ledger_events(const struct ledger *l, unsigned *n)
{
	*n = min_of(atomic_load(&l->nr_events), (unsigned)LEDGER_EVENTS);
	return l->events;
}

const char *ledger_name(enum ledger_counter counter)
{
	static const char *const names[NR_LEDGER_COUNTERS] = {
		[PAID_CROSSINGS] = "crossings",
		[PAID_DOMAINS] = "domains",
		[PAID_EXCEPTIONS] = "exceptions",
		[PAID_VM_EXITS] = "vm_exits",
		[PAID_SYSTEM_CALLS] = "system_calls",
		[PAID_HYPERCALLS] = "hypercalls",
		[PAID_OPERATIONS] = "operations",
		[PAID_UPCALLS] = "upcalls",
		[PAID_MESSAGES] = "messages",
		[PAID_CONTEXT_SWITCHES] = "context_switches",
		[PAID_RETRIES] = "retries",
		[PAID_PAGES_ZEROED] = "pages_zeroed",
		[PAID_PAGES_COPIED] = "pages_copied",
		[PAID_FRAMES_ALLOCATED] = "frames_allocated",
		[PAID_FRAMES_FREED] = "frames_freed",
		[PAID_IO_READS] = "io_reads",
		[PAID_IO_WRITES] = "io_writes",
		[PAID_TLB_MISSES] = "tlb_misses",
		[PAID_WALK_READS] = "walk_reads",
		[PAID_WALK_READS_2] = "walk_reads_2",
		[PAID_SOFTWARE_READS] = "software_reads",
		[PAID_ENTRY_WRITES] = "entry_writes",
		[PAID_TABLES] = "tables",
		[PAID_INVLPG] = "invlpg",
		[PAID_FLUSHES] = "flushes",
		[PAID_IPIS] = "ipis",
		[PAID_CR3_LOADS] = "cr3_loads",
		[PAID_GUARDS] = "guards",
		[PAID_HANDLERS] = "handlers",
		[PAID_CAPABILITIES] = "capabilities",
		[PAID_TYPE_UPDATES] = "type_updates",
		[PAID_REVOCATIONS] = "revocations",
		[PAID_FRAMES_GIVEN] = "frames_given",
		[PAID_REPOSSESSED] = "frames_repossessed",
		[PAID_FRAMES_TAKEN] = "frames_taken",
		[PAID_LOCKS_SPACE] = "locks_space",
		[PAID_LOCKS_REGION] = "locks_region",
		[PAID_LOCKS_TABLE] = "locks_table",
		[PAID_LOCKS_OBJECT] = "locks_object",
		[PAID_REMOTE] = "remote",
	};

	return names[counter];
}
