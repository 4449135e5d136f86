/* SPDX-License-Identifier: MIT */
/* The gate: see agent.h.  Bit 31: held exclusively; below: how many are inside. */
#include "machine/linux/agent.h"
#include "machine/linux/place.h"
#include "machine/linux/sys.h"

#include <time.h>

#define GATE_CLOSED (1u << 31)
/* Some milliseconds of waiting. */
#define LONG_ROUNDS 320

static _Atomic u32 gate;

static void pause_or_yield(unsigned round)
{
	struct timespec moment = { .tv_nsec = 20 * 1000 };

	if (round < 64)
		__builtin_ia32_pause();
	else if (round < 256)
		sys(sched_yield);
	else /* the holder may be of a lower priority, and on this CPU */
		sys(nanosleep, &moment, 0);
	if (round % LONG_ROUNDS == LONG_ROUNDS - 1)
		place_waits_long();
}

bool gate_trylock_free(void)
{
	u32 nobody = 0;

	return atomic_compare_exchange_strong(&gate, &nobody, GATE_CLOSED);
}

bool gate_trylock(void)
{
	unsigned round = 0;

	if (atomic_fetch_or(&gate, GATE_CLOSED) & GATE_CLOSED)
		return false;
	/* Nobody new comes in; those inside are about to leave. */
	while (atomic_load(&gate) != GATE_CLOSED)
		pause_or_yield(round++);
	return true;
}

void gate_lock(void)
{
	unsigned round = 0;

	while (!gate_trylock())
		pause_or_yield(round++);
}

void gate_unlock(void)
{
	atomic_fetch_and(&gate, ~GATE_CLOSED);
}

bool gate_enter(void)
{
	if (!(atomic_fetch_add(&gate, 1) & GATE_CLOSED))
		return true;
	gate_leave();
	return false;
}

bool gate_enter_soon(void)
{
	for (unsigned i = 0; i < 200; i++) {
		if (gate_enter())
			return true;
		__builtin_ia32_pause();
	}
	return false;
}

void gate_leave(void)
{
	atomic_fetch_sub(&gate, 1);
}

void gate_wait(void)
{
	unsigned round = 0;

	while (atomic_load(&gate) & GATE_CLOSED)
		pause_or_yield(round++);
}

void gate_reset(void)
{
	atomic_store(&gate, 0);
}
