/* SPDX-License-Identifier: MIT */
/*
 * fork(): the child gets a copy of the agent, too, and pages itself from then on.
 *
 * All that the agent knows lies in private memory, so the child's copy is the parent's state at
 * that moment.  It must be a consistent one, and until the child has a userfaultfd of its own
 * somebody must serve its faults: libc touches the heap before it lets the child's handlers run.
 *
 *   parent, forking thread            parent, handlers              child
 *   prepare: freeze the engine  ---->  leave the engine; serve
 *                                      faults by reading it only
 *   fork() -------------------------------------------------------> (libc works; faults go to
 *                                      read EVENT_FORK: serve        the parent's handler)
 *                                      the child's faults, too  <--- touch the beacon: a page that
 *                                      close the child's             is never there
 *                                      descriptor, which lets the --> nothing is registered now:
 *   parent: wait for that, thaw <----  beacon's fault go             start a keeper, which opens
 *                                                                    a userfaultfd, registers all,
 *                                                                    and compares what is present
 *                                                                    with what the engine thinks
 *
 * The parent waits because its exit would leave the child without anybody.  A child that dies
 * first is noticed (ESRCH).  clone.c sees to it that other ways to fork go through the same steps.
 * A process that was made behind libc's back (a system call instruction of the program's own) never
 * touches the beacon: all its pages are brought in at once, and then it is left alone, unmanaged.
 *
 * Events that other threads cause during the freeze are kept and applied after it.
 */
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/hooks.h"
#include "machine/linux/place.h"
#include "machine/linux/signals.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>

#define MAX_KEPT   65536
#define MAX_SERVED 4096

/*
 * While it closes, nobody goes into the engine any more, some may still be inside, and no message
 * is read.  Settled, nobody is inside: it may be read, with the gate held shared.
 */
enum freeze { THAWED, CLOSING, SETTLED };

static struct {
	_Atomic u32 lock;	/* one fork at a time, and not while paging starts */
	_Atomic u32 frozen;	/* enum freeze, a futex */
	bool active;		/* between prepare and parent or child */
	_Atomic u32 child_seen; /* EVENT_FORK was read: its reader thaws */
	_Atomic u32 thaw_asked; /* fork() failed: the keeper thaws */
	char *stack;		/* of AGENT_STACK bytes, for the child's first steps */
	u64 mask;		/* the forking thread's blocked signals */
	spinlock_t log_lock;	/* guards all below */
	unsigned nr_kept;
	struct uffd_msg *kept; /* [MAX_KEPT], touched as they are needed */
	unsigned nr_served;    /* > MAX_SERVED: too many to remember */
	u64 served[MAX_SERVED];
} forking;

static void futex_wait(_Atomic u32 *word, u32 value)
{
	sys(futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, 0);
}

static void futex_wake(_Atomic u32 *word)
{
	sys(futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 0x7fffffff);
}

bool engine_enter(void)
{
	struct agent_thread *t = thread_self();

	/* Who is in may go deeper: a freeze waits for it. */
	if (atomic_fetch_add(&t->busy, 1) || !atomic_load(&forking.frozen))
		return true;
	atomic_fetch_sub(&t->busy, 1);
	return false;
}

void engine_leave(void)
{
	atomic_fetch_sub(&thread_self()->busy, 1);
}

bool fork_closing(void)
{
	return atomic_load(&forking.frozen) == CLOSING;
}

void fork_keep_event(const struct uffd_msg *msg)
{
	spin_lock(&forking.log_lock);
	/* To forget one would be to serve old bytes some day. */
	if (forking.nr_kept == MAX_KEPT)
		machine_panic("more layout changes during one fork than can be remembered");
	forking.kept[forking.nr_kept++] = *msg;
	spin_unlock(&forking.log_lock);
}

/* ---- reading the engine without changing it ---- */

/* An event that is not applied yet says that nothing is left at va. */
static bool kept_removal(u64 va)
{
	bool gone = false;

	spin_lock(&forking.log_lock);
	for (unsigned i = 0; i < forking.nr_kept; i++) {
		const struct uffd_msg *m = &forking.kept[i];

		if (m->event != UFFD_EVENT_REMAP)
			gone |= va >= m->arg.remove.start && va < m->arg.remove.end;
	}
	spin_unlock(&forking.log_lock);
	return gone;
}

/* Place the bytes that belong at va: 0, or a negative errno. */
static int place_frozen(int uffd, u64 va, char *buffer)
{
	struct swap *swap = &agent.engine.swap;
	spinlock_t *ptl;
	pte_t *ptep = pte_find(agent.mm, va, &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };
	struct page *page;
	void *bytes = buffer;
	s64 err;

	if (!pte_is_swap(pte) || kept_removal(va) ||
	    (uffd != agent.uffd && hooks_wiped_on_fork(va)))
		return uffd_zeropage(uffd, va, PAGE_SIZE);
	page = swap_slot(swap, pte_to_swp(pte).v)->page;
	if (page && window_holds(page->where)) {
		bytes = (void *)page->where;
	} else {
		err = swap_load(swap, pte_to_swp(pte).v, bytes);
		if (err)
			return uffd_poison(uffd, va);
	}
	err = uffd_copy(uffd, va, bytes, PAGE_SIZE, true);
	return err > 0 ? 0 : (int)err;
}

static void remember_served(u64 va)
{
	spin_lock(&forking.log_lock);
	if (forking.nr_served < MAX_SERVED)
		forking.served[forking.nr_served] = va;
	forking.nr_served++;
	spin_unlock(&forking.log_lock);
}

int fork_serve_frozen(u64 va)
{
	int err;

	/* With the gate held, neither a thaw nor an event comes between looking and placing. */
	if (!gate_enter())
		return -EAGAIN;
	if (atomic_load(&forking.frozen) != SETTLED) {
		gate_leave();
		return -EAGAIN;
	}
	err = place_frozen(agent.uffd, va, thread_self()->staging);
	if (!err)
		remember_served(va);
	gate_leave();
	if (err && err != -EAGAIN)
		uffd_wake(agent.uffd, va, PAGE_SIZE);
	return err == -EAGAIN ? err : 0;
}

/* ---- the parent's handler serves the child until it can do so itself ---- */

static bool child_gone(int child)
{
	/* Nothing can be mapped at 0; the question is which error comes. */
	return uffd_copy(child, 0, agent.report, PAGE_SIZE, true) == -ESRCH;
}

/* Its own events hold up the placing until they are read; they tell nothing that matters here. */
static int child_place(int child, u64 va)
{
	struct uffd_msg msg;
	int err;

	while ((err = place_frozen(child, va, thread_self()->staging)) == -EAGAIN) {
		if (sys(read, child, &msg, sizeof msg) != (long)sizeof msg)
			sys(sched_yield);
	}
	return err;
}

/* Place these bytes, or (NULL) poison; as above. */
static int child_give(int child, u64 va, const char *bytes)
{
	struct uffd_msg msg;
	s64 err;

	while ((err = bytes ? uffd_copy(child, va, bytes, PAGE_SIZE, true)
			    : uffd_poison(child, va)) == -EAGAIN) {
		if (sys(read, child, &msg, sizeof msg) != (long)sizeof msg)
			sys(sched_yield);
	}
	return (int)err;
}

/*
 * The same while the engine is at work: pages are written out and their frames used again.  With
 * the gate held and the layout locked the entry stays; with its page locked, so does the page.
 */
static int child_bring(int child, u64 va, u64 slot)
{
	struct engine *e = &agent.engine;
	struct page *page = swap_cache_get(&e->swap, slot);
	char *buffer = thread_self()->staging;

	if (page) {
		page_lock(page);
		if (page_test(page, PG_SWAPCACHE) && page->swap.v == slot &&
		    window_holds(page->where))
			memcpy(buffer, (void *)page->where, PAGE_SIZE);
		else if (swap_load(&e->swap, slot, buffer))
			buffer = NULL;
		page_unlock(page);
		page_put(e, page);
	} else if (swap_load(&e->swap, slot, buffer)) {
		buffer = NULL;
	}
	return child_give(child, va, buffer);
}

/* Bring all that is not there into a child that does not know of us.  Gate held since the fork was
 * read of: what comes to this process from then on is no longer stored, but not in the child. */
static void child_fill(int child)
{
	u64 at = 0;
	struct vma *vma;

	down_read(&agent.mm->mmap_lock);
	for (vma = find_vma(agent.mm, 0); vma; vma = vma_next(vma)) {
		for (at = vma->start; at < vma->end; at += PAGE_SIZE) {
			spinlock_t *ptl;
			pte_t *ptep = pte_find(agent.mm, at, &ptl), pte;

			if (!ptep) {
				at = (at & PMD_MASK) + PMD_SIZE - PAGE_SIZE;
				continue;
			}
			/* Who moved the page away before we had the gate has yet to say so. */
			spin_lock(ptl);
			pte = pte_read(ptep);
			spin_unlock(ptl);
			if (pte_is_swap(pte) && child_bring(child, at, pte_to_swp(pte).v) == -ESRCH)
				goto out;
		}
	}
out:
	up_read(&agent.mm->mmap_lock);
}

/* Serve the child's faults until it touches the beacon or is gone. */
static void child_serve(int child)
{
	struct pollfd pfd = { .fd = child, .events = POLLIN };
	struct timespec tick = { .tv_nsec = 20 * 1000 * 1000 };
	struct uffd_msg msg;

	for (;;) {
		long n = sys(read, child, &msg, sizeof msg);
		u64 va;

		if (n != (long)sizeof msg) {
			if (sys(ppoll, &pfd, 1, &tick, 0, 0) == 0 && child_gone(child))
				return;
			continue;
		}
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			continue; /* it forks or unmaps before libc is done: nothing of ours */
		va = msg.arg.pagefault.address & PAGE_MASK;
		if (va == (u64)agent.beacon)
			return;
		child_place(child, va);
		uffd_wake(child, va, PAGE_SIZE);
	}
}

/*
 * Catch up with what was served and told during the freeze, and end it.  Nobody is in the engine,
 * and nobody comes in before the last line.
 */
static void thaw(void)
{
	gate_lock();
	for (unsigned i = 0; i < forking.nr_kept; i++)
		serve_event(&forking.kept[i]);
	if (forking.nr_served <= MAX_SERVED) {
		for (unsigned i = 0; i < forking.nr_served; i++)
			areas_adopt_page(forking.served[i]);
	}
	forking.nr_kept = 0;
	atomic_store(&forking.frozen, THAWED);
	gate_unlock();
	futex_wake(&forking.frozen);
	if (forking.nr_served > MAX_SERVED)
		agent.reconcile = 1;
}

bool fork_note_child(int child)
{
	sys(fcntl, child, F_SETFL, O_NONBLOCK);
	if (!engine_enter()) {
		atomic_store(&forking.child_seen, 1);
		return true;
	}
	child_fill(child);
	engine_leave();
	agent_warn("a process made behind libc's back is not managed: its pages were all brought "
		   "in");
	sys(close, child);
	return false;
}

void fork_serve_child(int child)
{
	place_all_listen(); /* for those of this process meanwhile */
	place_busy_begins();
	child_serve(child);
	sys(close, child);
	thaw();
	place_busy_ends();
}

void fork_thaw_if_asked(void)
{
	if (atomic_exchange(&forking.thaw_asked, 0))
		thaw();
}

/* ---- the forking thread, before and after ---- */

bool fork_trylock(void)
{
	u32 free = 0;

	return atomic_compare_exchange_strong(&forking.lock, &free, 1);
}

void fork_unlock(void)
{
	atomic_store(&forking.lock, 0);
	futex_wake(&forking.lock);
}

static void wait_until_idle(struct agent_thread *t)
{
	while (t && atomic_load(&t->busy))
		sys(sched_yield);
}

void fork_prepare(void)
{
	u64 mask;
	long pid = sys(getpid);

	/* A process that was made behind libc's back has a copy of all this, but no agent. */
	if (agent.pid != (s32)pid)
		return;
	/* A signal's handler that forks now would wait for ourselves; and until the child is
	 * managed again, one that runs there could read what is not there. */
	mask = signals_block();
	while (!fork_trylock())
		futex_wait(&forking.lock, 1);
	forking.mask = mask;
	forking.active = true;
	if (!agent.paging)
		return;
	/* A move that is told only after the fork would be lost on the child. */
	hooks_hold_moves();
	forking.child_seen = 0;
	forking.nr_kept = forking.nr_served = 0;
	atomic_store(&forking.frozen, CLOSING);
	for (unsigned i = 0; i < agent.nr_handlers; i++)
		wait_until_idle(agent.handler[i]);
	wait_until_idle(agent.keeper);
	atomic_store(&forking.frozen, SETTLED);
}

void fork_in_parent(void)
{
	u64 mask = forking.mask;

	if (!forking.active)
		return;
	if (atomic_load(&forking.frozen)) {
		/* If there is a child, whoever read of it has left the gate when it is open. */
		gate_wait();
		if (!atomic_load(&forking.child_seen)) {
			atomic_store(&forking.thaw_asked, 1);
			keeper_wake();
		}
		while (atomic_load(&forking.frozen))
			futex_wait(&forking.frozen, SETTLED);
	}
	hooks_release_moves();
	forking.active = false;
	fork_unlock();
	signals_restore(mask);
}

/* ---- the child ---- */

static void child_start(void)
{
	agent.nr_handlers = 0; /* the numbers that their descriptors name are the parent's */
	atomic_store(&forking.frozen, THAWED);
	spin_init(&forking.log_lock);
	hooks_reset();
	stacks_reset();
	gate_reset();
	fork_unlock();
	keeper_start_child();
}

/* What the parent had not applied yet, we have not either. */
void fork_apply_kept(void)
{
	for (unsigned i = 0; i < forking.nr_kept; i++)
		serve_event(&forking.kept[i]);
	forking.nr_kept = 0;
}

void fork_in_child(void)
{
	u64 mask = forking.mask;

	if (!forking.active)
		return;
	forking.active = false;
	if (agent.paging)
		*(volatile char *)agent.beacon; /* returns when the parent has let go of us */
	/* Nothing is registered now, so even this stack might be paged out below us. */
	thread_on_stack(forking.stack + AGENT_STACK, child_start);
	signals_restore(mask);
}

int fork_init(void)
{
	spin_init(&forking.log_lock);
	forking.stack = arena_alloc(AGENT_STACK);
	forking.kept = arena_alloc(MAX_KEPT * sizeof *forking.kept);
	if (!forking.stack || !forking.kept)
		return -ENOMEM;
	return -pthread_atfork(fork_prepare, fork_in_parent, fork_in_child);
}
