/* SPDX-License-Identifier: MIT */
/*
 * Making room: who takes pages away, and who writes them out.
 *
 * Taking is moving pages in the program's address space, with a flush for each run of them.  A
 * flush from another CPU interrupts the program, so it is done by the handler that has just served
 * a fault, where the fault was.
 *
 * Writing out is computing: hash, compress, copy.  Done there it makes the next fault wait; so a
 * handler that is parked is called to do it, on its CPU, where nobody faults.  It is called for a
 * burst of pages, because as long as it runs each flush waits for its CPU, too.  It takes no CPU
 * from the program (place.c).  If it gets none, frames become few, and the handlers that serve
 * faults write out themselves, as they do where all listen.
 */
#include "machine/linux/room.h"
#include "engine/machine.h"
#include "engine/reclaim/reclaim.h"
#include "machine/linux/agent.h"
#include "machine/linux/place.h"

/* Pages that wait when a spare handler is called. */
#define BURST 32
/* Pages that it writes before it looks whether it is to listen, or a fork waits. */
#define BURST_STEP 4
/* Free frames above the least at which whoever serves faults does not rely on it. */
#define RELY_ABOVE 8

static void count(enum room_writer who, u64 pages, u64 since)
{
	struct room_share *share = &agent.slot->written[who];

	atomic_fetch_add_explicit(&share->pages, pages, memory_order_relaxed);
	atomic_fetch_add_explicit(&share->ns, machine_now_ns() - since, memory_order_relaxed);
}

static u64 write_out(enum room_writer who, unsigned pages)
{
	u64 began = machine_now_ns(), written;

	written = reclaim_write_out(&agent.engine, pages);
	if (written)
		count(who, written, began);
	return written;
}

/* Does a spare handler keep up with what is taken?  Calls one if it is time to. */
static bool spare_keeps_up(void)
{
	struct engine *e = &agent.engine;

	if (!place_has_spare())
		return false;
	if (atomic_load_explicit(&e->lru.nr_writeout, memory_order_relaxed) >= BURST)
		place_call_spare();
	return zone_free_pages(e, ZONE_USER) > e->config.marks.min + RELY_ABOVE;
}

void room_make(unsigned pages)
{
	struct agent_thread *t = thread_self();
	unsigned done = min_of(t->ahead, pages);

	t->ahead -= done;
	if (!engine_enter())
		return;
	if (done < pages && !spare_keeps_up())
		write_out(ROOM_AFTER_FAULT, pages - done);
	reclaim_step(&agent.engine, 0);
	engine_leave();
}

bool room_write_ahead(void)
{
	bool any = false;

	if (engine_enter()) {
		any = write_out(ROOM_WAITING, 1);
		engine_leave();
	}
	return any;
}

void room_write_backlog(unsigned index)
{
	bool any = true;

	while (any && place_writes(index) && engine_enter()) {
		any = write_out(ROOM_SPARE, BURST_STEP);
		engine_leave();
	}
	place_written(index);
}
