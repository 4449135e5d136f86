/* SPDX-License-Identifier: MIT */
/*
 * The keeper samples, and one that is kept from its CPU for 50 ms finds a program a hundred MiB
 * further on.  So as soon as the program could touch so much, without asking for more, that paging
 * would have to begin, all of its memory that is not there yet is wired: registered with
 * a userfaultfd of which nobody ever gets a page.  A touch wakes a thread of the agent, which takes
 * the wire off a piece around it and lets the toucher go on.  A piece is at most a quarter of the
 * room that is left; so, however late the keeper is, what can be touched unseen never exceeds the
 * room, and yet memory is touched at native speed but for one fault a piece.
 *
 * Memory that is read before it is written gets the kernel's page of zeros, which no wire tells
 * from memory, and which is no memory until it is written.  So what was let go for a reader stays
 * spoken for, whether it is there or not.
 *
 * The room is the keeper's to make more of: it wires anew what was let go and not touched, or
 * begins to page.  Until it has answered, who has no room waits.
 *
 * This descriptor is not the one that pages.  It asks for no events, so forks, moves and unmapping
 * cost what they cost bare.  What is moved loses its wires, and a forked child has none: that
 * counts as growth (hooks.c) or is seen by the keeper's next look.
 */
#include "machine/linux/wires.h"
#include "engine/base/errno.h"
#include "machine/linux/agent.h"
#include "machine/linux/hooks.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"

#include <linux/futex.h>
#include <poll.h>

/* Smaller pieces are not worth a fault: the keeper is to make room, or to begin. */
#define LEAST_PIECE (128ULL << 10)
/* How long one waits for its answer before the fault is raised again. */
#define PATIENCE_NS (1000 * 1000L)

static struct {
	spinlock_t lock; /* guards all below but the words; held across calls of the kernel */
	bool opened, up;
	int fd;
	struct agent_thread *thread;
	u64 most;     /* see wires_stretch() */
	u64 resident; /* when they were last stretched */
	u64 loose;    /* bytes let go since then */
	u64 zeros;    /* bytes let go for readers, ever */
	_Atomic u32 tripped;
	_Atomic u32 answers; /* a futex */
} wires;

/* What was let go and is not there yet may be touched at any time.  What has become resident since
 * is taken for a part of it; if it is not the room is underrated until they are stretched again. */
static u64 room(void)
{
	u64 used = keeper_resident_now();
	u64 come = used - min_of(used, wires.resident);
	u64 spoken_for =
		used + wires.loose - min_of(wires.loose, come) + wires.zeros + hooks_grown();

	return wires.most - min_of(wires.most, spoken_for);
}

u64 wires_room(void)
{
	u64 bytes;

	spin_lock(&wires.lock);
	bytes = room();
	spin_unlock(&wires.lock);
	return bytes;
}

/* ---- pieces ---- */

/* Let go of an aligned piece around va, so that it does not matter in which direction memory is
 * touched; a smaller one if something that cannot be wired lies in it. */
static void let_go(u64 va, u64 piece, bool write)
{
	while (uffd_unregister(wires.fd, va & ~(piece - 1), piece) < 0 && piece > PAGE_SIZE)
		piece /= 2;
	if (write)
		wires.loose += piece;
	else
		wires.zeros += piece;
	uffd_wake(wires.fd, va, PAGE_SIZE);
}

static u64 piece_of(u64 room)
{
	u64 piece = PAGE_SIZE;

	while (piece * 8 <= room)
		piece *= 2;
	return piece;
}

static bool serve(u64 va, bool write)
{
	u64 piece;
	bool served;

	spin_lock(&wires.lock);
	piece = wires.up ? piece_of(room()) : LEAST_PIECE;
	served = piece >= LEAST_PIECE;
	if (served)
		let_go(va, piece, write);
	spin_unlock(&wires.lock);
	return served;
}

static void ask_the_keeper(void)
{
	struct timespec most = { .tv_nsec = PATIENCE_NS };
	u32 answers = atomic_load(&wires.answers);

	atomic_store(&wires.tripped, 1);
	keeper_wake();
	sys(futex, &wires.answers, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, answers, &most);
}

static void wires_main(struct agent_thread *t)
{
	struct pollfd pfd = { .fd = wires.fd, .events = POLLIN };
	struct uffd_msg msg;

	(void)t;
	for (;;) {
		u64 va;

		sys(ppoll, &pfd, 1, 0, 0, 0);
		if (sys(read, wires.fd, &msg, sizeof msg) != (long)sizeof msg)
			continue;
		va = msg.arg.pagefault.address & PAGE_MASK;
		keeper_rouse();
		if (!serve(va, msg.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE)) {
			ask_the_keeper();
			uffd_wake(wires.fd, va, PAGE_SIZE);
		}
	}
}

/* ---- the keeper's side ---- */

static int open_wires(void)
{
	long tid;

	if (wires.opened)
		return 0;
	wires.fd = uffd_open(0);
	if (wires.fd < 0)
		return wires.fd;
	if (!wires.thread)
		wires.thread = thread_new();
	tid = wires.thread ? thread_start(wires.thread, wires_main) : -ENOMEM;
	if (tid < 0) {
		sys(close, wires.fd);
		return (int)tid;
	}
	wires.opened = true;
	return 0;
}

static void wire(u64 start, u64 end)
{
	uffd_register(wires.fd, start, end - start);
}

int wires_stretch(u64 most, u64 potential)
{
	int err = open_wires();

	if (err)
		return err;
	/* The account first: what is let go from now on counts, wired again or not. */
	spin_lock(&wires.lock);
	wires.most = most;
	wires.resident = keeper_resident_now();
	wires.loose = 0;
	wires.zeros = min_of(wires.zeros, potential - min_of(potential, wires.resident));
	wires.up = true;
	spin_unlock(&wires.lock);
	return areas_each(wire);
}

bool wires_are_up(void)
{
	return wires.up;
}

bool wires_tripped(void)
{
	return atomic_load(&wires.tripped);
}

void wires_answer(void)
{
	atomic_store(&wires.tripped, 0);
	atomic_fetch_add(&wires.answers, 1);
	sys(futex, &wires.answers, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

int wires_release(u64 start, u64 len)
{
	return wires.opened ? uffd_unregister(wires.fd, start, len) : -EINVAL;
}

void wires_end(void)
{
	spin_lock(&wires.lock);
	wires.up = false;
	spin_unlock(&wires.lock);
	wires_answer();
}

unsigned wires_threads(void)
{
	return wires.opened;
}

void wires_forget(void)
{
	spin_init(&wires.lock);
	wires.opened = wires.up = false;
	atomic_store(&wires.tripped, 0);
}
