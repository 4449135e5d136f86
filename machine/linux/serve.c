/* SPDX-License-Identifier: MIT */
/*
 * The handlers: one a CPU, each bound to its CPU (place.c says why, and which of them listen).
 *
 * Those that listen sleep in poll(), and a fault wakes them all.  Who comes late finds nothing to
 * read and sleeps again.  One that listens alone reads on without poll() while there is something:
 * it was preempted by the thread that it woke, and goes on when that thread has faulted again.
 * Where several listen, it would take the faults of those on other CPUs.
 *
 * A handler reads one message at a time, with the gate held.  A fault is resolved after the gate is
 * open again; an event is applied before.  See agent.h for why.
 */
#include "engine/base/errno.h"
#include "engine/fault/fault.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/hooks.h"
#include "machine/linux/place.h"
#include "machine/linux/room.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>

/* Faults that were read while a thread waited for something else; it resolves them after. */
#define MAX_DEFERRED 1024
/* Pages that a handler writes out at most while it waits. */
#define MOST_AHEAD 8

struct deferred {
	unsigned nr;
	struct uffd_msg msg[MAX_DEFERRED];
};

static struct deferred deferred[MAX_HANDLERS + 1];

/* Others are placing or taking pages?  Until they are done, do what else is due after this fault.
 */
static void gate_lock_busily(void)
{
	struct agent_thread *t = thread_self();

	while (t->ahead < MOST_AHEAD) {
		if (gate_trylock_free())
			return;
		if (!room_write_ahead())
			break;
		t->ahead++;
	}
	gate_lock();
}

/* One message, its event (if it is one) applied.  False: there is none. */
static bool read_message(struct uffd_msg *msg)
{
	int child = -1;
	long n;

	if (fork_closing())
		return false;
	gate_lock_busily();
	n = fork_closing() ? -EAGAIN : sys(read, agent.uffd, msg, sizeof *msg);
	if (n == (long)sizeof *msg && msg->event != UFFD_EVENT_PAGEFAULT) {
		if (msg->event == UFFD_EVENT_FORK) {
			child = (int)msg->arg.fork.ufd;
			if (!fork_note_child(child))
				child = -1;
		} else if (engine_enter()) {
			serve_event(msg);
			engine_leave();
		} else {
			fork_keep_event(msg);
		}
	}
	gate_unlock();
	if (child >= 0)
		fork_serve_child(child);
	return n == (long)sizeof *msg;
}

/*
 * What moved goes to `to`; what the engine has there is gone, or was seen by a scan before the move
 * was told.  A part that the engine does not know yet stays so until the next scan.
 */
static void follow_move(u64 from, u64 to, u64 len)
{
	struct vma *vma;
	u64 unknown = 0;
	s64 at = 0;

	if (!hooks_moving())
		agent_warn("memory is moved by system calls of the program's own: not safe if "
			   "several threads do");
	down_read(&agent.mm->mmap_lock);
	vma = find_vma(agent.mm, from);
	if (vma && vma->start > from)
		unknown = min_of(vma->start - from, len);
	up_read(&agent.mm->mmap_lock);
	if (!vma)
		unknown = len;
	if (vm_unmap(agent.mm, to, len))
		at = -ENOMEM;
	else if (unknown < len)
		at = vm_remap(agent.mm, from + unknown, len - unknown, len - unknown,
			      VREMAP_MAYMOVE | VREMAP_FIXED, to + unknown);
	if (at < 0)
		machine_panic("no memory to follow a change of the layout");
}

void serve_event(const struct uffd_msg *msg)
{
	u64 start = msg->arg.remove.start, end = msg->arg.remove.end;

	switch (msg->event) {
	case UFFD_EVENT_REMAP:
		follow_move(msg->arg.remap.from, msg->arg.remap.to, msg->arg.remap.len);
		agent.rescan = 1;
		break;
	case UFFD_EVENT_REMOVE:
		vm_advise(agent.mm, start, end - start, VADV_DONTNEED);
		break;
	case UFFD_EVENT_UNMAP:
		if (vm_unmap(agent.mm, start, end - start))
			machine_panic("no memory to follow a change of the layout");
		agent.rescan = 1;
		break;
	}
}

static void count_latency(u64 since)
{
	u64 ns = machine_now_ns() - since;
	u64 max = atomic_load_explicit(&agent.slot->latency_max_ns, memory_order_relaxed);

	atomic_fetch_add_explicit(&agent.slot->latency[report_bucket(ns)], 1, memory_order_relaxed);
	while (ns > max && !atomic_compare_exchange_weak(&agent.slot->latency_max_ns, &max, ns))
		;
}

/* The page cannot be had: never other bytes, never silence. */
static void give_sigbus(u64 va)
{
	long pid = sys(getpid);

	agent_warn("a page could not be read back; the thread that touched it got SIGBUS");
	if (uffd_poison(agent.uffd, va) < 0)
		sys(kill, pid, SIGBUS);
}

/* A registered address of which the engine knows nothing: the area grew. */
static void serve_unknown(u64 va)
{
	struct fault_result r;

	if (!engine_enter()) {
		uffd_wake(agent.uffd, va, PAGE_SIZE); /* a fork is under way: fault again */
		return;
	}
	areas_scan();
	r = do_user_addr_fault(agent.mm, va, PF_USER | PF_WRITE);
	engine_leave();
	/* If it is gone, or never was ours, the access itself tells which. */
	if (r.reason != FAULT_MAPERR || uffd_zeropage(agent.uffd, va, PAGE_SIZE) < 0)
		uffd_wake(agent.uffd, va, PAGE_SIZE);
}

/* While the layout changes no page can be placed: let the change be read, keep other faults. */
static void let_changes_through(struct deferred *d)
{
	struct uffd_msg msg;

	if (d->nr == MAX_DEFERRED || !read_message(&msg))
		sys(sched_yield);
	else if (msg.event == UFFD_EVENT_PAGEFAULT)
		d->msg[d->nr++] = msg;
}

/*
 * Placing a page wakes who waits for it.  Where other handlers listen, that comes later: whoever is
 * woken runs here at once, and would leave this thread with the gate and the engine's locks held,
 * for which the others wait.  A fault that found nothing to place has to say so, too.
 */
static void wake_faulter(u64 va, bool resolved)
{
	struct agent_thread *t = thread_self();
	bool placed = va >= t->placed_from && va < t->placed_to;

	mmu_wake_placed();
	if (resolved && !placed)
		uffd_wake(agent.uffd, va, PAGE_SIZE);
	t->placed_to = 0;
	t->wakes_later = false;
}

/*
 * An agent thread that reads a taken page which the kernel has dropped meanwhile (MADV_FREE was
 * said of it) faults on the window.  Zeros are what such a page holds.  The thread may hold locks
 * of the engine, so this must not wait for any.
 */
static bool serve_window(u64 va)
{
	if (!window_holds(va))
		return false;
	if (uffd_zeropage(agent.uffd, va, PAGE_SIZE) < 0)
		uffd_wake(agent.uffd, va, PAGE_SIZE);
	return true;
}

/*
 * Place the stored page at va without a frame for it: 0, or a negative errno.  Its entry stays that
 * of a stored page, and is the program's to drop (unmap) or the engine's to adopt; the page is
 * there, so nobody asks for the stored bytes meanwhile.
 */
static int place_stored(u64 va, pte_t *ptep, spinlock_t *ptl)
{
	char *buffer = thread_self()->staging;
	int err = -EAGAIN;
	pte_t pte;
	u64 slot;

	spin_lock(ptl);
	pte = pte_read(ptep);
	slot = pte_to_swp(pte).v;
	/* In the swap cache it needs no frame: the fault comes again and maps it. */
	if (pte_is_swap(pte) && !swap_slot(&agent.engine.swap, slot)->page && gate_enter()) {
		err = swap_load(&agent.engine.swap, slot, buffer);
		if (!err && uffd_copy(agent.uffd, va, buffer, PAGE_SIZE, true) < 0)
			err = -EAGAIN;
		gate_leave();
	}
	spin_unlock(ptl);
	return err;
}

/* No frame is left to account the page with: most of what is resident cannot be taken.  It is given
 * all the same, unaccounted. */
static void serve_unaccounted(u64 va, const struct uffd_msg *msg, struct deferred *d)
{
	spinlock_t *ptl;
	pte_t *ptep;
	bool stored, placed;

	if (!engine_enter()) {
		uffd_wake(agent.uffd, va, PAGE_SIZE); /* a fork is under way: fault again */
		return;
	}
	ptep = pte_find(agent.mm, va, &ptl);
	stored = ptep && pte_is_swap(pte_read(ptep));
	placed = stored && place_stored(va, ptep, ptl) == 0;
	engine_leave();
	agent_warn("too much memory is locked, pinned or not writable: the limit cannot be held");
	if (placed || (!stored && uffd_zeropage(agent.uffd, va, PAGE_SIZE) == 0))
		return;
	if (d->nr < MAX_DEFERRED)
		d->msg[d->nr++] = *msg;
	else
		uffd_wake(agent.uffd, va, PAGE_SIZE);
	sys(sched_yield);
}

/* Let the thread that faulted go on.  How many pages came with its own. */
static unsigned resolve(const struct uffd_msg *msg, struct deferred *d)
{
	u64 va = msg->arg.pagefault.address & PAGE_MASK, began = machine_now_ns();
	u32 code = PF_USER | (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE ? PF_WRITE : 0);
	struct fault_result r;

	if (serve_window(va))
		return 0;
	for (;;) {
		if (!engine_enter()) {
			if (fork_serve_frozen(va) == 0)
				return 0;
			let_changes_through(d);
			continue;
		}
		thread_self()->wakes_later = !place_alone();
		r = do_user_addr_fault(agent.mm, va, code);
		engine_leave();
		wake_faulter(va, r.reason == FAULT_OK);
		if (r.reason != FAULT_RETRY)
			break;
		let_changes_through(d);
	}
	count_latency(began);
	if (r.reason == FAULT_MAPERR || r.reason == FAULT_ACCERR)
		serve_unknown(va);
	else if (r.reason == FAULT_BUS)
		give_sigbus(va);
	else if (r.reason == FAULT_OOM)
		serve_unaccounted(va, msg, d);
	return r.prefetched;
}

static void serve_fault(const struct uffd_msg *msg, struct deferred *d)
{
	unsigned index = thread_self()->index, prefetched;

	place_begins(index, (int)msg->arg.pagefault.feat.ptid);
	prefetched = resolve(msg, d);
	place_ends(index);
	room_make(2 + prefetched);
}

static void serve_deferred(struct deferred *d)
{
	while (d->nr) {
		struct uffd_msg msg = d->msg[--d->nr];

		serve_fault(&msg, d);
	}
}

static bool serve_one(void)
{
	struct deferred *d = &deferred[thread_self()->index];
	struct uffd_msg msg;

	if (!read_message(&msg))
		return false;
	if (msg.event == UFFD_EVENT_PAGEFAULT)
		serve_fault(&msg, d);
	serve_deferred(d);
	return true;
}

void serve_pending(void)
{
	while (serve_one())
		;
}

static void handler_main(struct agent_thread *t)
{
	struct pollfd pfd = { .fd = agent.uffd, .events = POLLIN };
	bool served = false;

	place_handler(t->index);
	for (;;) {
		while (!place_wait(t->index))
			room_write_backlog(t->index);
		if (!served || !place_alone())
			sys(ppoll, &pfd, 1, 0, 0, 0);
		if (agent.state == AGENT_STOPPED)
			return;
		served = serve_one();
		changes_look();
	}
}

static struct agent_thread *handler_new(unsigned index)
{
	struct agent_thread *t = thread_new();

	if (!t)
		return NULL;
	t->index = index;
	t->staging = arena_alloc(MMU_BATCH * PAGE_SIZE);
	return t->staging ? t : NULL;
}

unsigned serve_threads(void)
{
	unsigned n = agent.options.handlers ? agent.options.handlers : machine_nr_cpus();

	return min_of(n, (unsigned)MAX_HANDLERS);
}

int serve_start(void)
{
	unsigned n = serve_threads();

	place_start(keeper_is_privileged());
	for (unsigned i = 0; i < n; i++) {
		long tid;

		deferred[i].nr = 0;
		if (!agent.handler[i])
			agent.handler[i] = handler_new(i);
		if (!agent.handler[i])
			return -ENOMEM;
		tid = thread_start(agent.handler[i], handler_main);
		if (tid < 0)
			return (int)tid;
		agent.nr_handlers = i + 1;
	}
	return 0;
}
