/* SPDX-License-Identifier: MIT */
/*
 * The evictor: a thread that takes pages away before faults need their frames.
 *
 * A handler sleeps and runs in the place of the thread that faulted, so whatever it does besides
 * serving is time that the program waits, or that the next fault does.  The evictor works on
 * another CPU if one is idle.  It is woken below the low mark, and once in many faults only, for
 * waking an idle CPU is dear; it works until the high mark.  Handlers help when it does not keep
 * up, and reclaim directly when nothing is left.
 *
 * Its priority is that of the handlers (see place.c): it must not keep one from its CPU.
 */
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/place.h"
#include "machine/linux/sys.h"

#include <linux/futex.h>
#include <time.h>

/* Pages between two looks at whether a fork wants everybody to leave. */
#define STEP 16
/* After a step in vain, doubled each time: the gate is closed, or all that there is cannot go. */
#define SHORTEST_NAP_NS (50 * 1000L)
#define LONGEST_NAP_NS	(10 * 1000 * 1000L)

static _Atomic u32 asleep; /* a futex */

static bool below_high(void)
{
	return zone_free_pages(&agent.engine, ZONE_USER) < agent.engine.config.marks.high;
}

static void sleep_until_woken(void)
{
	atomic_store(&asleep, 1);
	while (atomic_load(&asleep))
		sys(futex, &asleep, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 1, 0);
}

void evict_if_needed(void)
{
	u64 free = zone_free_pages(&agent.engine, ZONE_USER);
	const struct watermarks *marks = &agent.engine.config.marks;

	if (free < marks->low && atomic_load(&asleep) && atomic_exchange(&asleep, 0))
		sys(futex, &asleep, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

/* It is more than half way down from the low mark to where faults have to wait. */
bool evict_wants_help(void)
{
	const struct watermarks *marks = &agent.engine.config.marks;

	return zone_free_pages(&agent.engine, ZONE_USER) < (marks->min + marks->low) / 2;
}

static void evictor_main(struct agent_thread *t)
{
	struct timespec nap = { .tv_nsec = SHORTEST_NAP_NS };

	(void)t;
	place_thread();
	while (agent.slot->state != AGENT_STOPPED) {
		bool progress = false;

		if (!below_high()) {
			sleep_until_woken();
			continue;
		}
		if (engine_enter()) {
			progress = reclaim_some(&agent.engine, STEP);
			engine_leave();
		}
		if (progress || !below_high()) {
			nap.tv_nsec = SHORTEST_NAP_NS;
			continue;
		}
		sys(nanosleep, &nap, 0);
		nap.tv_nsec = min_of(nap.tv_nsec * 2, LONGEST_NAP_NS);
	}
}

int evict_start(void)
{
	struct agent_thread *t = agent.evictor ? agent.evictor : thread_new();
	long tid;

	if (!t)
		return -ENOMEM;
	t->index = MAX_HANDLERS + 1;
	agent.evictor = t;
	asleep = 0;
	tid = thread_start(t, evictor_main);
	return tid < 0 ? (int)tid : 0;
}
