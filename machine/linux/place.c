/* SPDX-License-Identifier: MIT */
/*
 * Where the handlers are, which of them listen, and how they are scheduled.
 *
 * Where a handler runs matters more than what it does: one on the CPU of the thread that faulted
 * runs as soon as that thread sleeps, without an interrupt to another CPU and without waking an
 * idle one.  So there is a handler bound to each CPU.  A fault wakes all that listen, which is
 * work in vain for all but one, and worse if one that woke on another CPU is first.  So only those
 * listen on whose CPU threads have faulted just now; the others are parked.  The keeper sees to
 * that: handlers note whom they serve, and it looks where those threads are.  One that is parked
 * can be called to write pages out (room.c).
 *
 * A CPU that runs nothing but SCHED_IDLE threads counts as idle when a thread is woken.  Handlers
 * of that policy therefore keep the thread that they wake where it is; with the usual policy it
 * goes to an idle CPU each time, and both CPUs leave idle at each fault, and each flush of the TLBs
 * interrupts the other.  But such handlers starve where programs take all CPUs.  The keeper gives
 * them the program's priority for a while when it finds a fault that nobody gets on with; and so
 * does whoever waits long for a lock, which one that starves may hold.
 */
#include "machine/linux/place.h"
#include "engine/base/errno.h"
#include "engine/machine.h"
#include "machine/linux/agent.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"

#include <linux/futex.h>
#include <poll.h>
#include <sched.h>

/* The last so many faults say who faults now. */
#define RECENT 16
/* A handler listens on for so long after the last fault seen on its CPU.  Longer with the usual
 * policy, where threads go to and fro. */
#define HOLD_NS	      (4 * 1000 * 1000ULL)
#define HOLD_USUAL_NS (50 * 1000 * 1000ULL)

/* Between two looks at whether handlers starve; how long they keep the program's priority then,
 * doubled up to the most each time that they starve again at once. */
#define CHECK_EVERY_NS (4 * 1000 * 1000ULL)
#define LEAST_PENANCE  (500 * 1000 * 1000ULL)
#define MOST_PENANCE   (16 * 1000 * 1000 * 1000ULL)

/* A handler that does not listen is parked; one that is parked may be called to write out. */
enum part { LISTENS, PARKED, WRITES };

struct place {
	int cpu;
	_Atomic u32 part;	   /* a futex: enum part */
	u64 hot_at;		   /* ns: when a thread was last seen to fault on this CPU */
	_Atomic u32 begun, served; /* faults */
	u32 served_before;	   /* at the last look */
} __attribute__((aligned(64)));

static struct place places[MAX_HANDLERS + 1]; /* the keeper serves at times, too */
static _Atomic u32 nr_spare;		      /* that do not listen */

static struct {
	_Atomic u32 nr; /* faults ever */
	u32 looked_at;	/* nr at the last look */
	u32 asked_at;	/* nr when the keeper last asked whether it is quiet */
	_Atomic int tid[RECENT];
} recent;

static struct {
	bool may; /* there and back again is permitted */
	bool waiting;
	u64 checked_at;
	spinlock_t lock;   /* guards all below; only tried, for its holder may starve, too */
	_Atomic bool idle; /* the policy in force */
	u64 until, penance;
} policy;

/* ---- CPUs ---- */

/* The index-th of the CPUs that the program may use, and around again. */
static int nth_cpu(unsigned index)
{
	cpu_set_t allowed;
	unsigned n = index % machine_nr_cpus();

	CPU_ZERO(&allowed);
	if (sys(sched_getaffinity, 0, sizeof allowed, &allowed) < 0)
		return -ESRCH;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET((size_t)cpu, &allowed) && n-- == 0)
			return cpu;
	return -ESRCH;
}

static void bind_to(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	sys(sched_setaffinity, 0, sizeof one, &one);
}

/* ---- who listens ---- */

static void unpark(struct place *p)
{
	if (atomic_load(&p->part) == LISTENS || atomic_exchange(&p->part, LISTENS) == LISTENS)
		return;
	atomic_fetch_sub(&nr_spare, 1);
	sys(futex, &p->part, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

static void park(struct place *p)
{
	u32 listens = LISTENS;

	if (atomic_compare_exchange_strong(&p->part, &listens, PARKED))
		atomic_fetch_add(&nr_spare, 1);
}

void place_all_listen(void)
{
	for (unsigned i = 0; i < agent.nr_handlers; i++)
		unpark(&places[i]);
}

bool place_wait(unsigned index)
{
	struct place *p = &places[index];
	u32 part;

	while ((part = atomic_load(&p->part)) == PARKED)
		sys(futex, &p->part, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, PARKED, 0);
	return part == LISTENS;
}

bool place_alone(void)
{
	return agent.nr_handlers - atomic_load_explicit(&nr_spare, memory_order_relaxed) == 1;
}

/* ---- who writes out meanwhile ---- */

bool place_has_spare(void)
{
	return atomic_load_explicit(&nr_spare, memory_order_relaxed) > 0;
}

bool place_writes(unsigned index)
{
	return atomic_load_explicit(&places[index].part, memory_order_relaxed) == WRITES;
}

void place_written(unsigned index)
{
	u32 writes = WRITES;

	atomic_compare_exchange_strong(&places[index].part, &writes, PARKED);
}

void place_call_spare(void)
{
	for (unsigned i = 0; i < agent.nr_handlers; i++)
		if (place_writes(i))
			return;
	for (unsigned i = 0; i < agent.nr_handlers; i++) {
		struct place *p = &places[i];
		u32 parked = PARKED;

		if (!atomic_compare_exchange_strong(&p->part, &parked, WRITES))
			continue;
		sys(futex, &p->part, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
		return;
	}
}

void place_begins(unsigned index, int tid)
{
	u32 nr = atomic_fetch_add(&recent.nr, 1);

	keeper_rouse();
	atomic_store_explicit(&recent.tid[nr % RECENT], tid, memory_order_relaxed);
	atomic_fetch_add_explicit(&places[index].begun, 1, memory_order_relaxed);
}

void place_ends(unsigned index)
{
	atomic_fetch_add_explicit(&places[index].served, 1, memory_order_relaxed);
}

bool place_is_quiet(void)
{
	u32 nr = atomic_load(&recent.nr), before = recent.asked_at;

	recent.asked_at = nr;
	return nr == before;
}

static bool seen_before(unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (recent.tid[j] == recent.tid[i])
			return true;
	return false;
}

/* Note on which CPUs those are that faulted last.  How many threads they are; 0: none of them is on
 * a CPU that has a handler. */
static unsigned find_hot(u64 now)
{
	unsigned threads = 0;
	bool any = false;

	for (unsigned i = 0; i < RECENT; i++) {
		int cpu = seen_before(i) ? -1 : proc_cpu_of(recent.tid[i]);

		threads += cpu >= 0;
		for (unsigned h = 0; cpu >= 0 && h < agent.nr_handlers; h++) {
			if (places[h].cpu != cpu)
				continue;
			places[h].hot_at = now;
			any = true;
		}
	}
	return any ? threads : 0;
}

static void choose_listeners(u64 now)
{
	u64 hold = policy.idle ? HOLD_NS : HOLD_USUAL_NS;
	unsigned threads;

	if (recent.nr - recent.looked_at < RECENT)
		return;
	recent.looked_at = recent.nr;
	threads = find_hot(now);
	if (!threads)
		return;
	/* A single thread that has moved is served where it is now: two handlers that listen for it
	 * would only send it to and fro. */
	if (threads == 1 && policy.idle)
		hold = 0;
	for (unsigned i = 0; i < agent.nr_handlers; i++) {
		if (now - places[i].hot_at <= hold)
			unpark(&places[i]);
		else
			park(&places[i]);
	}
}

/* ---- the policy ---- */

static void set_policy(int tid, bool idle)
{
	struct sched_param param = { .sched_priority = 0 };

	sys(sched_setscheduler, tid, idle ? SCHED_IDLE : SCHED_OTHER, &param);
}

static void set_policies(bool idle)
{
	policy.idle = idle;
	for (unsigned i = 0; i < agent.nr_handlers; i++)
		set_policy(agent.handler[i]->tid, idle);
}

static bool message_waits(void)
{
	struct pollfd pfd = { .fd = agent.uffd, .events = POLLIN };
	struct timespec none = { 0 };

	return sys(ppoll, &pfd, 1, &none, 0, 0) == 1;
}

/* Since the last look: was a fault left as it was, or has nobody served one while one waits? */
static bool starving(void)
{
	bool stuck = false, any = false, waits = message_waits(), waited = policy.waiting;

	for (unsigned i = 0; i < agent.nr_handlers; i++) {
		struct place *p = &places[i];
		u32 served = p->served;
		bool same = served == p->served_before;

		stuck |= same && p->begun != served;
		any |= !same;
		p->served_before = served;
	}
	policy.waiting = waits;
	return stuck || (waits && waited && !any);
}

static void give_priority(void)
{
	u64 now = machine_now_ns();

	if (!policy.idle || !spin_trylock(&policy.lock))
		return;
	/* Again so soon?  Then it is not going to be better soon. */
	policy.penance = now - policy.until < policy.penance
				 ? min_of(policy.penance * 2, MOST_PENANCE)
				 : LEAST_PENANCE;
	policy.until = now + policy.penance;
	set_policies(false);
	spin_unlock(&policy.lock);
}

static void take_priority(u64 now)
{
	if (!policy.may || policy.idle || !spin_trylock(&policy.lock))
		return;
	if (now > policy.until)
		set_policies(true);
	spin_unlock(&policy.lock);
}

void place_waits_long(void)
{
	give_priority();
}

void place_check(void)
{
	u64 now = machine_now_ns();

	if (now - policy.checked_at >= CHECK_EVERY_NS) {
		policy.checked_at = now;
		if (starving()) {
			place_all_listen(); /* one may wait for another to serve a fault of its own
					     */
			give_priority();
		} else {
			take_priority(now);
		}
	}
	choose_listeners(now);
}

void place_busy_begins(void)
{
	set_policy(0, false);
}

void place_busy_ends(void)
{
	set_policy(0, policy.idle);
}

/* ---- start ---- */

void place_handler(unsigned index)
{
	int cpu = nth_cpu(index);

	sys(setpriority, 0 /* PRIO_PROCESS */, 0, keeper_program_nice());
	set_policy(0, policy.idle);
	places[index].cpu = cpu;
	if (cpu >= 0)
		bind_to(cpu);
}

void place_start(bool privileged)
{
	policy.may = privileged;
	policy.idle = privileged;
	policy.checked_at = policy.until = 0;
	spin_init(&policy.lock);
	nr_spare = 0;
	for (unsigned i = 0; i < MAX_HANDLERS; i++)
		places[i] = (struct place){ .cpu = -1 };
}
