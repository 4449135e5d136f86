/* SPDX-License-Identifier: MIT */
/*
 * Where the handlers are, which of them listen, and how they are scheduled.
 *
 * Where a handler runs matters more than what it does: one on the CPU of the thread that faulted
 * runs as soon as that thread sleeps, without an interrupt to another CPU and without waking an
 * idle one.  So there is a handler bound to each CPU.  A fault wakes all that listen, which is
 * work in vain for all but one; so only those listen on whose CPU threads fault, and the others
 * are parked.  What a handler reads tells it now and then where the thread that faulted is: that
 * CPU's handler is called, if it is parked.  A handler that is mostly woken in vain parks itself.
 * One at least always listens.
 *
 * A CPU that runs nothing but SCHED_IDLE threads counts as idle when a thread is woken.  Handlers
 * of that policy therefore keep the thread that they wake where it is; with the usual policy it
 * goes to an idle CPU each time, and both CPUs leave idle at each fault.  But such handlers starve
 * where programs take all CPUs.  The keeper looks at how long they wait for a CPU, and gives them
 * the program's priority for a while if that is much.
 */
#include "machine/linux/place.h"
#include "engine/base/errno.h"
#include "engine/machine.h"
#include "machine/linux/agent.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>

/* Faults between two looks at where the faulting thread is: a look costs about as much as a fault.
 */
#define LOOK_EVERY 32
/* A handler parks after so many wakes, if so many of them were in vain. */
#define WAKES	  256
#define MOST_VAIN 224
/* Faults seen on a CPU so recently keep its handler listening. */
#define HOT_NS (50 * 1000 * 1000ULL)

/* How often the keeper looks, and how long handlers keep the program's priority, doubled up to the
 * most each time they starve again at once. */
#define CHECK_EVERY_NS (4 * 1000 * 1000ULL)
#define LEAST_PENANCE  (500 * 1000 * 1000ULL)
#define MOST_PENANCE   (16 * 1000 * 1000 * 1000ULL)
/* Starving: waited for a CPU for more than this part of the time. */
#define STARVED_PART 5

struct place {
	unsigned cpu;
	_Atomic u32 parked; /* a futex */
	unsigned wakes, vain, faults;
	_Atomic u64 hot_at;  /* ns: when a thread was last seen to fault on this CPU */
	int schedstat, stat; /* descriptors, or negative */
	struct proc_waits waits;
};

static struct place places[MAX_HANDLERS];
static _Atomic u32 nr_listening;

static struct {
	bool may;  /* there and back again is permitted */
	bool idle; /* the policy in force */
	u64 checked_at, until, penance;
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
	if (!atomic_exchange(&p->parked, 0))
		return;
	atomic_fetch_add(&nr_listening, 1);
	sys(futex, &p->parked, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

/* The last that listens does not. */
static bool park(struct place *p)
{
	if (atomic_fetch_sub(&nr_listening, 1) == 1) {
		atomic_fetch_add(&nr_listening, 1);
		return false;
	}
	atomic_store(&p->parked, 1);
	return true;
}

void place_all_listen(void)
{
	for (unsigned i = 0; i < agent.nr_handlers; i++)
		unpark(&places[i]);
}

bool place_one_listens(void)
{
	return atomic_load(&nr_listening) == 1;
}

/* A thread faulted on that CPU. */
static void heat(int cpu)
{
	for (unsigned i = 0; i < agent.nr_handlers; i++) {
		if (places[i].cpu != (unsigned)cpu)
			continue;
		places[i].hot_at = machine_now_ns();
		unpark(&places[i]);
	}
}

void place_served(unsigned index, int tid)
{
	struct place *p = &places[index];
	int cpu;

	if (index >= agent.nr_handlers || p->faults++ % LOOK_EVERY)
		return;
	cpu = proc_cpu_of(tid);
	if (cpu >= 0)
		heat(cpu);
}

void place_woken(unsigned index, bool in_vain)
{
	struct place *p = &places[index];

	p->vain += in_vain;
	if (++p->wakes < WAKES)
		return;
	if (p->vain >= MOST_VAIN && machine_now_ns() - p->hot_at > HOT_NS && park(p))
		while (atomic_load(&p->parked))
			sys(futex, &p->parked, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, 0);
	p->wakes = p->vain = 0;
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
	if (agent.evictor)
		set_policy(agent.evictor->tid, idle);
}

/* Since the last look, `passed` ns ago: did a handler wait for a CPU for much of the time?  How
 * long one waits that has not got it yet is not told: it has not run. */
static bool starved(struct place *p, u64 passed)
{
	struct proc_waits before = p->waits;

	if (p->schedstat < 0 || p->stat < 0 || proc_waits(p->schedstat, p->stat, &p->waits) < 0)
		return false;
	return p->waits.waited - before.waited > passed / STARVED_PART ||
	       (p->waits.ready && before.ready && p->waits.ran == before.ran);
}

static bool starving(u64 passed)
{
	bool any = false;

	for (unsigned i = 0; i < agent.nr_handlers; i++)
		if (!places[i].parked)
			any |= starved(&places[i], passed);
	return any;
}

void place_check(void)
{
	u64 now = machine_now_ns(), passed = now - policy.checked_at;

	if (!policy.may || passed < CHECK_EVERY_NS)
		return;
	policy.checked_at = now;
	if (policy.idle && starving(passed)) {
		/* Again so soon?  Then it is not going to be better soon. */
		policy.penance = now - policy.until < policy.penance
					 ? min_of(policy.penance * 2, MOST_PENANCE)
					 : LEAST_PENANCE;
		policy.until = now + policy.penance;
		set_policies(false);
	} else if (!policy.idle && now > policy.until) {
		starving(passed); /* the past does not count */
		set_policies(true);
	}
}

/* ---- start ---- */

void place_thread(void)
{
	sys(setpriority, 0 /* PRIO_PROCESS */, 0, keeper_program_nice());
	set_policy(0, policy.idle);
}

void place_handler(unsigned index)
{
	int cpu = nth_cpu(index);
	struct place *p = &places[index];

	place_thread();
	if (cpu >= 0)
		bind_to(cpu);
	p->cpu = cpu >= 0 ? (unsigned)cpu : ~0U;
	p->schedstat =
		(int)sys(openat, AT_FDCWD, "/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC, 0);
	p->stat = (int)sys(openat, AT_FDCWD, "/proc/thread-self/stat", O_RDONLY | O_CLOEXEC, 0);
}

void place_start(bool privileged)
{
	policy.may = policy.idle = privileged;
	policy.checked_at = machine_now_ns();
	policy.until = 0;
	nr_listening = 0;
	for (unsigned i = 0; i < MAX_HANDLERS; i++) {
		places[i].parked = 0;
		places[i].schedstat = places[i].stat = -1;
		places[i].waits = (struct proc_waits){ 0 };
	}
}

void place_handler_started(void)
{
	atomic_fetch_add(&nr_listening, 1);
}
