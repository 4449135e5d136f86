/* SPDX-License-Identifier: MIT */
/*
 * The linux machine under the contract test; contract_machine.h has the promises.
 *
 * This very process is the program, with a real userfaultfd over one area of it.
 *
 *   the test's threads    are the program, and call the engine and the operations;
 *   the caller            an agent thread that the operations really run on: they ask which agent
 *                         thread they are on, and only such a one may;
 *   the servers           agent threads that read what the userfaultfd tells, in the way of
 *                         machine/linux/serve.c.
 *
 * In CONTRACT_BARE there is one server, which resolves no fault (a fault is an error) and reads
 * events without applying them: the test does both.
 */
#include "tests/contract/linux.h"
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/fault/fault.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/place.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SLOTS	     65536
#define TABLES	     256
#define MOST_SERVERS 2

struct agent agent;

static struct {
	struct agent_thread *caller;
	enum contract_mode mode;
	char *mapping; /* the area between two pages that cannot be touched */
	u64 bytes;
	void *tables;
	int stop_fd; /* readable: the servers end */
	_Atomic u32 servers;
	_Atomic bool stopped;	  /* nothing is read; changed with the gate held */
	_Atomic bool not_applied; /* events are read, but the engine does not hear of them */
	_Atomic u32 warnings;
} here;

void agent_warn(const char *text)
{
	atomic_fetch_add(&here.warnings, 1);
	sys(write, 2, "agent: ", 7);
	sys(write, 2, text, __builtin_strlen(text));
	sys(write, 2, "\n", 1);
}

/* All threads here have one policy. */
void place_waits_long(void)
{
}

/* ---- operations from any thread ---- */

/* One call of an operation, waiting for the caller. */
struct call {
	void (*run)(struct call *call);
	struct engine *e;
	struct mm *mm;
	u64 va;
	pte_t *ptep;
	const pte_t *ptes;
	struct page **pages;
	struct mmu_take *takes;
	char *segment;
	unsigned n;
	int result;
};

static struct call *_Atomic posted;
static _Atomic u32 rung; /* futex: changes when there is something to do */
static _Atomic u32 done;

static void caller_main(struct agent_thread *t)
{
	(void)t;
	for (;;) {
		u32 seen = atomic_load(&rung);
		struct call *call = atomic_exchange(&posted, NULL);

		if (!call) {
			machine_wait(&rung, seen);
			continue;
		}
		call->run(call);
		atomic_store(&done, 1);
		machine_wake(&done, 1);
	}
}

/* Only one thread of the test calls at a time. */
static int on_agent_thread(void (*run)(struct call *call), struct call *call)
{
	call->run = run;
	if ((u64)__builtin_frame_address(0) - ARENA_BASE < ARENA_SIZE) {
		run(call); /* a server's: it is one */
		return call->result;
	}
	atomic_store(&done, 0);
	atomic_store(&posted, call);
	atomic_fetch_add(&rung, 1);
	machine_wake(&rung, 1);
	while (!atomic_load(&done))
		machine_wait(&done, 0);
	return call->result;
}

static void run_stage(struct call *call)
{
	call->result = linux_mmu_ops.stage(call->e, call->pages, call->n);
}

static int stage_there(struct engine *e, struct page **pages, unsigned n)
{
	struct call call = { .e = e, .pages = pages, .n = n };

	return on_agent_thread(run_stage, &call);
}

static void run_unstage(struct call *call)
{
	linux_mmu_ops.unstage(call->e, call->pages[0]);
}

static void unstage_there(struct engine *e, struct page *page)
{
	struct call call = { .e = e, .pages = &page };

	on_agent_thread(run_unstage, &call);
}

static void run_set(struct call *call)
{
	call->result =
		linux_mmu_ops.set(call->mm, call->va, call->ptep, call->ptes, call->pages, call->n);
}

static int set_there(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		     unsigned n)
{
	struct call call = {
		.mm = mm, .va = va, .ptep = ptep, .ptes = ptes, .pages = pages, .n = n
	};

	return on_agent_thread(run_set, &call);
}

static void run_take(struct call *call)
{
	call->result = (int)linux_mmu_ops.take(call->mm, call->takes, call->n);
}

static unsigned take_there(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct call call = { .mm = mm, .takes = takes, .n = n };

	return (unsigned)on_agent_thread(run_take, &call);
}

static void run_release(struct call *call)
{
	linux_mmu_ops.release(call->e, call->pages[0]);
}

static void release_there(struct engine *e, struct page *page)
{
	struct call call = { .e = e, .pages = &page };

	on_agent_thread(run_release, &call);
}

/* The others do not ask for the thread. */
static struct mmu_ops operations(void)
{
	struct mmu_ops ops = linux_mmu_ops;

	ops.stage = stage_there;
	ops.unstage = unstage_there;
	ops.set = set_there;
	ops.take = take_there;
	ops.release = release_there;
	return ops;
}

/* ---- the servers ---- */

static void apply_event(const struct uffd_msg *msg)
{
	u64 start = msg->arg.remove.start, end = msg->arg.remove.end;

	if (msg->event == UFFD_EVENT_FORK)
		sys(close, (int)msg->arg.fork.ufd); /* the child touches nothing that is absent */
	else if (here.not_applied)
		return;
	else if (msg->event == UFFD_EVENT_REMOVE)
		vm_advise(agent.mm, start, end - start, VADV_DONTNEED);
	else if (msg->event == UFFD_EVENT_UNMAP)
		vm_unmap(agent.mm, start, end - start);
	else
		vmf_panic("an event that no test makes: %d", msg->event);
}

static bool read_message(struct uffd_msg *msg)
{
	bool got = false;

	gate_lock();
	if (!here.stopped)
		got = sys(read, agent.uffd, msg, sizeof *msg) == (long)sizeof *msg;
	if (got && msg->event != UFFD_EVENT_PAGEFAULT)
		apply_event(msg);
	gate_unlock();
	return got;
}

static void serve_fault(const struct uffd_msg *msg)
{
	u64 va = msg->arg.pagefault.address & PAGE_MASK;
	u32 code = PF_USER | (msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WRITE ? PF_WRITE : 0);
	struct agent_thread *t = thread_self();
	struct fault_result r;

	if (here.mode == CONTRACT_BARE)
		vmf_panic("the program touched %lx, which is absent", (unsigned long)va);
	t->placed_to = 0;
	r = do_user_addr_fault(agent.mm, va, code);
	if (r.reason != FAULT_OK && r.reason != FAULT_RETRY)
		vmf_panic("a fault at %lx: reason %d", (unsigned long)va, r.reason);
	if (va < t->placed_from || va >= t->placed_to)
		uffd_wake(agent.uffd, va, PAGE_SIZE);
	reclaim_step(&agent.engine, 2 + r.prefetched);
}

static void server_main(struct agent_thread *t)
{
	struct pollfd fds[] = { { .fd = agent.uffd, .events = POLLIN },
				{ .fd = here.stop_fd, .events = POLLIN } };
	struct timespec little = { .tv_nsec = 1000 * 1000 };
	struct uffd_msg msg;

	(void)t;
	for (;;) {
		sys(ppoll, fds, 2, 0, 0, 0);
		if (fds[1].revents & POLLIN)
			break;
		/* Never at the gate without need: a test that changes nothing finds it open. */
		if (here.stopped)
			sys(nanosleep, &little, 0);
		else if (read_message(&msg) && msg.event == UFFD_EVENT_PAGEFAULT)
			serve_fault(&msg);
	}
	atomic_fetch_sub(&here.servers, 1);
	machine_wake(&here.servers, 1);
}

static struct agent_thread *start_thread(unsigned index, void (*fn)(struct agent_thread *t))
{
	struct agent_thread *t = thread_new();

	if (!t)
		return NULL;
	t->index = index;
	t->staging = arena_alloc(MMU_BATCH * PAGE_SIZE);
	return t->staging && thread_start(t, fn) > 0 ? t : NULL;
}

static int start_servers(void)
{
	here.stop_fd = eventfd(0, EFD_CLOEXEC);
	if (here.stop_fd < 0)
		return -ENOMEM;
	for (unsigned i = 0; i < (here.mode == CONTRACT_BARE ? 1 : MOST_SERVERS); i++) {
		atomic_fetch_add(&here.servers, 1);
		if (!start_thread(1 + i, server_main))
			return -ENOMEM;
	}
	return 0;
}

static void stop_servers(void)
{
	u64 one = 1;
	u32 n;

	if (write(here.stop_fd, &one, sizeof one) != sizeof one)
		vmf_panic("the servers cannot be told to end");
	while ((n = atomic_load(&here.servers)))
		machine_wait(&here.servers, n);
	close(here.stop_fd);
}

void linux_stop_reading(void)
{
	gate_lock();
	here.stopped = true;
	gate_unlock();
}

void linux_go_on_reading(void)
{
	here.stopped = false;
}

/* Who reads what made a call of the program's go on holds the gate until it is applied. */
void linux_wait_read(void)
{
	gate_lock();
	gate_unlock();
}

unsigned linux_warnings(void)
{
	return atomic_exchange(&here.warnings, 0);
}

/* ---- the machine ---- */

const char *contract_missing(void)
{
	static char why[128];
	int fd = uffd_open(UFFD_NEEDED), err;

	if (fd < 0) {
		snprintf(why, sizeof why, "userfaultfd cannot be had here: %s",
			 fd == -EPERM	 ? "no permission"
			 : fd == -ENOSYS ? "the kernel has none"
			 : fd == -EINVAL ? "the kernel lacks a feature (UFFDIO_MOVE: Linux 6.8)"
					 : "unknown error");
		return why;
	}
	close(fd);
	agent.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (agent.pagemap < 0)
		return "/proc/self/pagemap cannot be read here";
	err = arena_init();
	return err ? "no address space for the agent's memory" : NULL;
}

static int create_engine(u64 frames)
{
	static struct mmu_ops ops;
	struct engine_config config = engine_default_config(frames);
	int err;

	ops = operations();
	here.tables = arena_alloc(TABLES * PAGE_SIZE);
	if (!here.tables)
		return -ENOMEM;
	err = memory_store_create(&arena_memory, COMPRESS_LZ4, SLOTS, 0, MOST_SERVERS + 1,
				  &agent.store);
	if (err)
		return err;
	err = engine_init(&agent.engine, &ops, &arena_memory, &config, TABLES, here.tables, frames,
			  NULL, agent.store);
	return err ? err : mm_create(&agent.engine, PAGE_SIZE, 0x7ffffffff000ULL, &agent.mm);
}

static int create_area(struct contract *c, u64 pages)
{
	s64 at;

	here.bytes = (pages + 2) * PAGE_SIZE;
	here.mapping = mmap(NULL, here.bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (here.mapping == MAP_FAILED)
		return -ENOMEM;
	c->base = (u64)here.mapping + PAGE_SIZE;
	if (mprotect((void *)c->base, pages * PAGE_SIZE, PROT_READ | PROT_WRITE))
		return -ENOMEM;
	at = vm_map(agent.mm, c->base, pages * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED_NOREPLACE,
		    0);
	return at < 0 ? (int)at : uffd_register(agent.uffd, c->base, pages * PAGE_SIZE);
}

int contract_create(struct contract *c, enum contract_mode mode, u64 pages, u64 frames)
{
	int err;

	here.mode = mode;
	here.stopped = false;
	here.not_applied = mode == CONTRACT_BARE;
	here.warnings = 0;
	gate_reset();
	if (!here.caller)
		here.caller = start_thread(0, caller_main);
	if (!here.caller)
		return -ENOMEM;
	err = create_engine(frames);
	if (err)
		return err;
	agent.uffd = uffd_open(UFFD_NEEDED);
	err = agent.uffd < 0 ? agent.uffd : window_init();
	if (err)
		return err;
	*c = (struct contract){ .engine = &agent.engine, .mm = agent.mm, .pages = pages };
	err = create_area(c, pages);
	return err ? err : start_servers();
}

static void run_window_get(struct call *call)
{
	call->segment = window_get(MMU_BATCH);
}

static void run_window_close(struct call *call)
{
	(void)call;
	for (unsigned i = 0; i <= MAX_HANDLERS; i++)
		window_close(i);
}

static void run_window_put(struct call *call)
{
	window_put(call->segment, MMU_BATCH);
}

static struct call held[WINDOW_SEGMENTS];

void linux_window_hold(void)
{
	on_agent_thread(run_window_close, held);
	for (unsigned i = 0; i < WINDOW_SEGMENTS; i++)
		on_agent_thread(run_window_get, &held[i]);
}

void linux_window_give(unsigned i)
{
	if (held[i].segment)
		on_agent_thread(run_window_put, &held[i]);
	held[i].segment = NULL;
}

/* Every segment of the window can be had: none of them holds a page that somebody forgot. */
static void check_window(void)
{
	linux_window_hold();
	for (unsigned i = 0; i < WINDOW_SEGMENTS; i++) {
		if (!held[i].segment)
			vmf_panic("%u segments of the window are still in use",
				  WINDOW_SEGMENTS - i);
		for (u64 at = 0; at < SEGMENT_SIZE; at += PAGE_SIZE)
			if (linux_page((u64)held[i].segment + at) != LINUX_ABSENT)
				vmf_panic("an empty segment of the window has a page");
	}
	for (unsigned i = WINDOW_SEGMENTS; i-- > 0;)
		linux_window_give(i);
}

void contract_destroy(struct contract *c)
{
	munmap(here.mapping, here.bytes);
	linux_wait_read();
	mm_destroy(c->mm);
	engine_check(c->engine);
	engine_fini(c->engine);
	check_window();
	stop_servers();
	close(agent.uffd);
	close(agent.bin_uffd);
	memory_store_destroy(agent.store);
	arena_free(here.tables, TABLES * PAGE_SIZE);
	if (linux_warnings())
		vmf_panic("the agent warned of something that no test expects");
}

/* ---- the program ---- */

enum linux_page linux_page(u64 va)
{
	u64 entry;

	if (pread(agent.pagemap, &entry, sizeof entry, (off_t)(va >> PAGE_SHIFT) * 8) !=
	    sizeof entry)
		vmf_panic("the kernel's page table cannot be looked at");
	return entry >> 63 ? LINUX_PRESENT : entry >> 62 & 1 ? LINUX_SWAPPED : LINUX_ABSENT;
}

bool program_present(struct contract *c, u64 va)
{
	(void)c;
	return linux_page(va) != LINUX_ABSENT;
}

bool program_can_write(struct contract *c, unsigned thread, u64 va, u8 byte)
{
	(void)c, (void)thread, (void)byte;
	vmf_panic("%lx: this machine does not take the right to write away", va);
}

u8 program_read(struct contract *c, unsigned thread, u64 va)
{
	(void)c, (void)thread;
	return *(volatile u8 *)va;
}

void program_write(struct contract *c, unsigned thread, u64 va, u8 byte)
{
	(void)c, (void)thread;
	*(volatile u8 *)va = byte;
}

void program_unmap(struct contract *c, u64 va, unsigned n)
{
	(void)c;
	if (madvise((void *)va, n * PAGE_SIZE, MADV_DONTNEED))
		vmf_panic("the program cannot give up its pages");
	linux_wait_read();
}

void program_loses_page(struct contract *c, u64 va, pte_t *ptep)
{
	bool before = atomic_exchange(&here.not_applied, true);

	(void)ptep;
	program_unmap(c, va, 1);
	here.not_applied = before;
}

/* What a fault brings that is served while the engine must not be changed: see fork.c. */
bool program_gains_page(struct contract *c, u64 va)
{
	(void)c;
	if (uffd_zeropage(agent.uffd, va, PAGE_SIZE))
		vmf_panic("the program cannot gain a page");
	return true;
}
