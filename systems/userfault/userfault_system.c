/* SPDX-License-Identifier: MIT */
/*
 * Userfault: the kernel fields the fault, a monitor in another thread decides and supplies, the
 * kernel installs what the monitor hands it.
 *
 *   1. The thread faults; the kernel finds the area, which is registered, and no page.
 *   2. handle_userfault queues the fault, looks at the entry once more (who filled it before the
 * fault was queued has woken nobody), drops its locks and puts the thread to sleep.
 *   3. The monitor, which sleeps in read(), is woken and given the message: the address, and
 * whether it was a write.
 *   4. The monitor has the bytes that belong there, and hands them to the kernel: UFFDIO_COPY.
 *   5. The kernel takes a frame, copies them into it, and sets the entry if it is still none.
 *   6. It wakes the thread, and the monitor reads on.
 *   7. The thread goes back to the access, which is made again.
 *
 * What a monitor is for is private anonymous memory: each area that a program maps is registered,
 * by a call after mmap(), and the monitor gives zeros.  A process has one from its first area on:
 * userfaultfd(), UFFDIO_API, and a thread.  Files and shared memory are the kernel's.  A page that
 * the kernel has evicted is in its swap area, and comes back without the monitor.  A child has a
 * monitor of its own, which it gets by the event FORK.  When the kernel has no frame for what the
 * monitor hands over, the monitor gives the page back to it: the access is made again, and the
 * kernel says why it fails.
 *
 * Each monitor is a thread of the host.  With one CPU it runs until it sleeps before the thread
 * that it has woken goes on, as it would there; so what is counted is the same in every run.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/userfault/userfault.h"
#include "systems/common/engine_system.h"
#include "systems/common/program_attacks.h"
#include "systems/userfault/userfault_system.h"

/* A thread of the program's process: its address space, but a thread of its own. */
static const struct ledger_actor monitor_actor = { .name = "the monitor", .ring = 3, .domain = 1 };

struct monitor {
	struct userfault *system;
	struct userfaultfd_ctx *ctx; /* NULL: there is none */
	pthread_t thread;
	_Atomic bool reads; /* it is in read(), or about to be, and has counted that */
};

struct userfault {
	struct engine_system base;
	struct monitor monitors[PROGRAM_PROCESSES]; /* of each process */
	_Atomic(struct userfaultfd_ctx *) newborn;  /* of the child that is just being made */
};

static struct userfault *userfault_of(struct program *p)
{
	return container_of(engine_system_of_program(p), struct userfault, base);
}

/* A call that the program makes for its monitor. */
static void call(const char *what)
{
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL, what);
}

static void returns(const char *what)
{
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, what);
}

/* ---- the monitor ---- */

/* One page, whatever is in the kernel's way for a moment. */
static int hand_over(struct monitor *m, u64 va)
{
	static const char zeros[PAGE_SIZE];
	s64 done;
	int err;

	ledger_cross(&monitor_actor, &lab_kernel, BY_SYSTEM_CALL,
		     "UFFDIO_COPY: here are the bytes for that page");
	do {
		err = userfaultfd_copy(m->ctx, NULL, va, (u64)zeros, PAGE_SIZE, 0, &done);
	} while (err == -EAGAIN);
	ledger_cross(&lab_kernel, &monitor_actor, BY_RETURN,
		     "UFFDIO_COPY returns; the thread is woken");
	return err;
}

static void serve(struct monitor *m, u64 va)
{
	int err = hand_over(m, va);

	/* Another thread had the same page: it is there, and this one sleeps on. */
	if (err == -EEXIST)
		userfaultfd_wake(m->ctx, va, PAGE_SIZE);
	else if (err)
		userfaultfd_unregister(m->ctx, va, PAGE_SIZE);
}

static bool read_message(struct monitor *m, struct userfault_msg *msg)
{
	s64 n;

	ledger_cross(&monitor_actor, &lab_kernel, BY_SYSTEM_CALL,
		     "read: which fault is next?  It sleeps until there is one");
	atomic_store(&m->reads, true);
	n = userfaultfd_read(m->ctx, msg, 1, false);
	atomic_store(&m->reads, false);
	if (n != 1)
		return false;
	ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH,
		     "the thread that faulted sleeps, the monitor's runs");
	ledger_cross(&lab_kernel, &monitor_actor, BY_RETURN, "read returns the message");
	return true;
}

static void *watch(void *argument)
{
	struct monitor *m = argument;
	struct userfault_msg msg;

	ledger_begin(m->system->base.system.ledger, m->system->base.machine->nr_cpus);
	ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH, "the monitor's thread runs");
	ledger_cross(&lab_kernel, &monitor_actor, BY_RETURN, "it begins");
	while (read_message(m, &msg)) {
		if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
			serve(m, msg.arg.pagefault.address & PAGE_MASK);
		else if (msg.event == UAPI_UFFD_EVENT_FORK)
			atomic_store(&m->system->newborn, msg.arg.fork.ctx);
	}
	return NULL;
}

static void monitor_sleeps(const char *and_who_runs)
{
	ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH, and_who_runs);
}

/* It has done all that it was asked for, and sleeps. */
static void wait_until_it_reads(struct monitor *m)
{
	while (m->ctx &&
	       (!atomic_load(&m->reads) || userfaultfd_poll(m->ctx, true) & USERFAULT_POLLIN))
		sched_yield();
}

static void wait_for_monitors(struct userfault *u)
{
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		wait_until_it_reads(&u->monitors[i]);
}

static int start(struct userfault *u, unsigned process, struct userfaultfd_ctx *ctx)
{
	struct monitor *m = &u->monitors[process];

	*m = (struct monitor){ .system = u, .ctx = ctx };
	userfaultfd_ctx_get(ctx); /* the thread's, which is inside when the other is dropped */
	call("clone: a thread for the monitor");
	if (pthread_create(&m->thread, NULL, watch, m)) {
		userfaultfd_release(ctx);
		userfaultfd_ctx_put(ctx);
		m->ctx = NULL;
		returns("clone fails");
		return -ENOMEM;
	}
	wait_until_it_reads(m);
	monitor_sleeps("the monitor sleeps, the program runs");
	returns("clone returns");
	return 0;
}

static int start_new(struct userfault *u, unsigned process)
{
	u64 features = UAPI_UFFD_FEATURE_EVENT_FORK, ioctls;
	struct userfaultfd_ctx *ctx;
	int err;

	call("userfaultfd: a descriptor for this space");
	err = userfaultfd_create(u->base.program.mms[process], 0, &ctx);
	returns("userfaultfd returns");
	if (err)
		return err;
	call("UFFDIO_API: the features that are wanted");
	err = userfaultfd_api(ctx, UAPI_UFFD_API, &features, &ioctls);
	returns("UFFDIO_API returns");
	if (err) {
		userfaultfd_release(ctx);
		return err;
	}
	return start(u, process, ctx);
}

/* All who sleep go on; the kernel serves what was registered. */
static void stop(struct monitor *m)
{
	if (!m->ctx)
		return;
	userfaultfd_release(m->ctx);
	pthread_join(m->thread, NULL);
	userfaultfd_ctx_put(m->ctx);
	m->ctx = NULL;
}

/* ---- the trap ---- */

/* Did the fault of this thread sleep?  The engine tells while it is under way. */
static _Thread_local bool slept;

static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	slept |= step == STEP_USERFAULT;
	engine_system_step(o, step, va, n);
}

static void resolved(struct engine_system *base)
{
	if (!slept)
		return;
	if (base->machine->nr_cpus == 1)
		wait_for_monitors(container_of(base, struct userfault, base));
	monitor_sleeps("the monitor sleeps, the thread that faulted runs");
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	slept = false;
	return engine_system_field(cpu, cr2, code, FAULT_FLAG_USER);
}

/* ---- the program's calls ---- */

static int register_area(struct userfaultfd_ctx *ctx, u64 at, u64 len)
{
	u64 ioctls;
	int err;

	call("UFFDIO_REGISTER: the area is the monitor's");
	err = userfaultfd_register(ctx, at, len, UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls);
	returns("UFFDIO_REGISTER returns");
	return err;
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct userfault *u = userfault_of(p);
	unsigned process = p->ops->running(p, cpu);
	s64 at = u->base.engine_ops.map(p, cpu, a);
	int err = 0;

	if (at < 0 || a->file >= 0)
		return at;
	if (!u->monitors[process].ctx)
		err = start_new(u, process);
	if (!err)
		err = register_area(u->monitors[process].ctx, (u64)at, a->len);
	if (err) {
		p->ops->unmap(p, cpu, (u64)at, a->len);
		return err;
	}
	return at;
}

/* Has it areas that a monitor is to serve? */
static bool is_watched(struct mm *mm)
{
	struct vma *vma;
	bool watched = false;

	down_read(&mm->mmap_lock);
	for (vma = find_vma(mm, 0); vma && !watched; vma = vma_next(vma))
		watched = vma->uffd;
	up_read(&mm->mmap_lock);
	return watched;
}

/* fork() has waited until the event was taken from the queue; the monitor tells of it just after.
 */
static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct userfault *u = userfault_of(p);
	bool told;
	int err;

	atomic_store(&u->newborn, NULL);
	engine_system_enter(p, cpu, "fork");
	err = soft_program_ops.fork(p, cpu, child);
	told = !err && is_watched(u->base.program.mms[child]);
	while (told && !atomic_load(&u->newborn))
		sched_yield();
	if (told) {
		wait_until_it_reads(&u->monitors[p->ops->running(p, cpu)]);
		monitor_sleeps("the monitor sleeps, the thread that forks runs");
	}
	engine_system_leave(&u->base);
	return told ? start(u, child, atomic_load(&u->newborn)) : err;
}

/* Its monitor ends with it, in the call that it sleeps in. */
static void exit_process(struct program *p, unsigned process)
{
	stop(&userfault_of(p)->monitors[process]);
	userfault_of(p)->base.engine_ops.exit(p, process);
}

static void measure(struct program *p)
{
	wait_for_monitors(userfault_of(p));
	system_measure(&userfault_of(p)->base.system);
}

static void measured(struct program *p)
{
	wait_for_monitors(userfault_of(p));
	system_measured(&userfault_of(p)->base.system);
}

/* ---- attacks ---- */

#define AT 0x20000000ULL

/* Two pages of the first process, of which the first is there.  The context of its monitor. */
static struct userfaultfd_ctx *two_pages(struct system *s)
{
	attack_map_two_pages(s, AT);
	return userfault_of(s->program)->monitors[0].ctx;
}

static int fill_at(struct system *s, u64 va)
{
	static const char ones[PAGE_SIZE] = { 1 };
	struct userfaultfd_ctx *ctx = two_pages(s);
	s64 done;

	return userfaultfd_copy(ctx, NULL, va, (u64)ones, PAGE_SIZE, 0, &done);
}

static int fill_present(struct system *s)
{
	return fill_at(s, AT);
}

static int fill_elsewhere(struct system *s)
{
	return fill_at(s, 2 * AT);
}

static int fill_kernel(struct system *s)
{
	return fill_at(s, 0xffff800000000000ULL);
}

/* Of an area that another context has. */
static int take_over(struct system *s)
{
	struct userfault *u = userfault_of(s->program);
	u64 features = 0, ioctls;
	struct userfaultfd_ctx *other;
	int err;

	two_pages(s);
	err = userfaultfd_create(u->base.mm, 0, &other);
	if (err)
		return err;
	userfaultfd_api(other, UAPI_UFFD_API, &features, &ioctls);
	err = userfaultfd_register(other, AT, PAGE_SIZE, UAPI_UFFDIO_REGISTER_MODE_MISSING,
				   &ioctls);
	userfaultfd_release(other);
	return err;
}

static const struct system_attack attacks[] = {
	{ "the monitor replaces a page that is there", fill_present, -EEXIST },
	{ "the monitor fills where nothing is registered", fill_elsewhere, -ENOENT },
	{ "the monitor fills the kernel's memory", fill_kernel, -EINVAL },
	{ "another monitor takes over an area", take_over, -EBUSY },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct userfault *u = container_of(engine_system_of(s), struct userfault, base);

	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		stop(&u->monitors[i]);
	engine_system_fini(&u->base);
	free(u);
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct userfault *u = calloc(1, sizeof(*u));
	int err;

	if (!u)
		return -ENOMEM;
	err = engine_system_init(&u->base, type, o, trap);
	if (err) {
		free(u);
		return err;
	}
	u->base.observer.step = step;
	u->base.resolved = resolved;
	u->base.ops.map = map;
	u->base.ops.fork = fork_process;
	u->base.ops.exit = exit_process;
	u->base.ops.measure = measure;
	u->base.ops.measured = measured;
	u->base.system.destroy = destroy;
	*system = &u->base.system;
	return 0;
}

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_SYSTEM_CALLS, 2, NULL }, /* read, UFFDIO_COPY */
	{ PAID_CROSSINGS, 6, NULL },	{ PAID_CONTEXT_SWITCHES, 2, NULL },
	{ PAID_PAGES_COPIED, 1, NULL }, { PAID_PAGES_ZEROED, 0, NULL },
	{ PAID_ENTRY_WRITES, 1, NULL },
};

const struct system_type userfault_system = {
	.name = "userfault",
	.summary =
		"the kernel fields and installs; a monitor in another thread decides and supplies",
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = create,
};
