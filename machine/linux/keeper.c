/* SPDX-License-Identifier: MIT */
/*
 * The keeper: the agent's first thread, which decides when to page and looks after the rest.
 *
 * It samples rather than hooks.  How long it sleeps follows from how far the program is from its
 * limit and how fast memory can grow at most, so that a small program is hardly ever disturbed and
 * a growing one is caught in time.  That it may be kept from its CPU is provided for by wires.c.
 *
 * A look costs 20 to 40 us where the timer is a hypervisor's, most of it the sleep itself.  So
 * while the program's memory stays as it is the naps grow (rest_nap()): what could grow unseen
 * meanwhile is wired or paged, and the first touch of it ends the nap (keeper_rouse()); or has to
 * be mapped first, and libc's calls for that wake the keeper.  Only memory that a program maps with
 * instructions of its own is not known before the next look.
 */
#include "engine/base/errno.h"
#include "engine/fault/collapse.h"
#include "engine/reclaim/chosen.h"
#include "machine/linux/agent.h"
#include "machine/linux/arena.h"
#include "machine/linux/extension.h"
#include "machine/linux/hooks.h"
#include "machine/linux/huge.h"
#include "machine/linux/place.h"
#include "machine/linux/proc.h"
#include "machine/linux/sys.h"
#include "machine/linux/uffd.h"
#include "machine/linux/window.h"
#include "machine/linux/wires.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <time.h>

/* No program touches new memory faster: bytes for each ns, as measured with two CPUs. */
#define GROWTH_BYTES_PER_NS 6
#define SHORTEST_NAP_NS	    (250 * 1000ULL)
#define PAGING_NAP_NS	    (2 * 1000 * 1000ULL)
/* While nobody faults it may be so long, if there is room for what could come meanwhile: to the
 * limit, and half of what a program may be above it. */
#define QUIET_NAP_NS   (6 * 1000 * 1000ULL)
#define ROOM_ABOVE     (8ULL << 20)
#define LONGEST_NAP_NS (50 * 1000 * 1000ULL)
/* Up to this while nothing has changed for so many times as long; less than STILL_BYTES resident
 * more or less is no change. */
#define REST_NAP_NS	(12 * 1000 * 1000ULL)
#define REST_PART	8
#define STILL_BYTES	(256ULL << 10)
#define ALONE_EVERY_NS	(20 * 1000 * 1000ULL)
#define REPORT_EVERY_NS (200 * 1000 * 1000ULL)
#define QUIET_REPORT_NS (1000 * 1000 * 1000ULL)
/* Naps stay short for so long after the program's layout changed while paging. */
#define RESTLESS_NS (20 * 1000 * 1000ULL)
/* Each run of neighbours that is taken is a flush, 10 us where other CPUs have to be interrupted in
 * a virtual machine; and faults wait meanwhile. */
#define RUNS_AT_ONCE 2
/* Pages evicted between two looks at what the program does. */
#define CATCH_UP 128
/* And the rest that others get between: the keeper may have a higher priority than them. */
#define CATCH_UP_NAP_NS (100 * 1000ULL)
/* Less room than this is not worth asking for again and again. */
#define LEAST_ROOM (1ULL << 20)
/* Paging begins so far below the mark (a part of it) if a thread waits at a wire, rather than that
 * ever smaller pieces are let go; */
#define LAST_PART 16
/* and when all room was used up so often, and each time so soon that it cannot have been filled:
 * touches here and there cost less when each brings a page. */
#define SPARSE_TIMES 8
#define SPARSE_NS    (5 * 1000 * 1000ULL)
/* Bytes that may come and go even if what cannot be taken fills the limit; within what a program
 * may be above it. */
#define LEAST_WORKING_SET (8ULL << 20)
/* Pages that could not be taken and are tried again with each report while there are more than the
 * limit allows; doubled while it helps. */
#define LEAST_RETRY 64U
#define MOST_RETRY  8192U
/* Once paging has begun the peak is told to this: bytes. */
#define PEAK_STEP (256ULL << 10)
/* Between two looks at whether all changes are told. */
#define ORDER_NAP_NS (20 * 1000ULL)
/* At most this part of the time goes into scans. */
#define SCAN_SHARE 4

/* Resident bytes that the engine does not know, from which on they are looked for; and how often.
 */
#define UNKNOWN_BYTES (4ULL << 20)
#define LEAST_LOOK_NS (5 * 1000 * 1000ULL)
#define MOST_LOOK_NS  (2 * 1000 * 1000 * 1000ULL)

static struct {
	struct proc_memory memory; /* as last sampled */
	_Atomic u64 agent_bytes;   /* the arena's resident bytes, now and then */
	u64 reported_at, scanned_at, scan_took, alone_at;
	u64 scanned_size;	  /* memory.size when areas were last scanned */
	u64 changed_at;		  /* when memory.size was last seen to change */
	struct proc_memory still; /* has been about as it is now since: */
	u64 still_at;
	bool held;		  /* before paging: all that may come is wired, or asked for */
	int nice;		  /* the program's own */
	bool privileged;	  /* could take a higher priority than that */
	bool behind;		  /* more is adopted than may stay */
	bool quiet;		  /* nobody has faulted since the last tick */
	u64 looked_at, look_wait; /* see look_for_unknown() */
	u64 stuck;		  /* unevictable pages, at the last retry */
	unsigned retry;		  /* how many were tried again then */
	_Atomic u64 room;	  /* see keeper_room() */
	u64 wired;		  /* what the program could touch when it was last wired */
	u64 wired_at, wiring_took;
	unsigned sparse; /* times in a row */
	_Atomic u32 child_ready;
} keeper = { .look_wait = LEAST_LOOK_NS };

static struct engine_memory const *const memory = &arena_memory;

/* ---- descriptors of the agent's own table ---- */

static int open_proc(const char *path)
{
	return (int)sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
}

/* A table of descriptors that the program cannot see, with nothing of the program's in it. */
static int open_descriptors(void)
{
	long err = sys(unshare, CLONE_FILES);

	if (err < 0)
		return (int)err;
	sys(close_range, 0, ~0U, 0);
	agent.uffd = agent.bin_uffd = -1;
	agent.statm = open_proc("/proc/thread-self/statm");
	agent.status = open_proc("/proc/thread-self/status");
	agent.maps = open_proc("/proc/thread-self/maps");
	agent.pagemap = open_proc("/proc/thread-self/pagemap");
	agent.stat = open_proc("/proc/self/stat");
	if (agent.stat < 0 || agent.statm < 0 || agent.status < 0 || agent.maps < 0 ||
	    agent.pagemap < 0)
		return -ENOENT;
	return 0;
}

/* ---- figures ---- */

static u64 bytes_of_program(const struct proc_memory *m)
{
	u64 anonymous = m->resident - min_of(m->resident, m->shared);

	return anonymous - min_of(anonymous, keeper.agent_bytes);
}

static u64 program_bytes(void)
{
	return bytes_of_program(&keeper.memory);
}

u64 keeper_resident_now(void)
{
	struct proc_memory now;

	return bytes_of_program(proc_memory(agent.statm, &now) ? &keeper.memory : &now);
}

/* Resident bytes of the program that the engine does not know. */
static u64 unknown_bytes(void)
{
	u64 managed = (u64)max_of(agent.mm->rss, (s64)0) * PAGE_SIZE;

	return program_bytes() - min_of(program_bytes(), managed);
}

static void set_marks(struct watermarks *marks, u64 frames, u64 limit)
{
	marks->min = frames - limit / PAGE_SIZE;
	/* Twice, for what waits to be written out is not free yet. */
	marks->low = marks->min + 2 * MMU_BATCH;
	marks->high = marks->low + MMU_BATCH;
}

/* What is resident without being managed counts against the limit, too. */
static void adjust_limit(void)
{
	u64 frames = agent.engine.zones[ZONE_USER].nr;
	u64 others = unknown_bytes();
	u64 stuck = lru_unevictable(&agent.engine) * PAGE_SIZE;
	u64 least = stuck + min_of(agent.options.limit / 4, LEAST_WORKING_SET);
	u64 limit = others + least < agent.options.limit ? agent.options.limit - others : least;

	/* Even if nearly all frames are stuck some are to be kept free. */
	limit = min_of(limit, (frames - 4 * MMU_BATCH) * PAGE_SIZE);
	set_marks(&agent.engine.config.marks, frames, limit);
}

/*
 * What is stuck raises the limit (adjust_limit()), so nothing else would ever find out that it no
 * longer is: unlocked, writable again, not shared any more.
 */
static void retry_stuck(void)
{
	u64 stuck = lru_unevictable(&agent.engine);
	bool helped = stuck + keeper.retry / 2 < keeper.stuck;

	keeper.stuck = stuck;
	keeper.retry = helped ? min_of(keeper.retry * 2, MOST_RETRY) : LEAST_RETRY;
	if (stuck && program_bytes() > agent.options.limit && engine_enter()) {
		lru_retry_unevictable(&agent.engine, keeper.retry);
		engine_leave();
	}
}

static void note_most(_Atomic u64 *most, u64 bytes)
{
	if (bytes > *most)
		*most = bytes;
}

/* What the program and the kernel hold on to can end at any time: the most is told. */
static void note_held(struct report_slot *s)
{
	u64 locked, pinned;

	if (proc_held(agent.status, &locked, &pinned) < 0)
		return;
	note_most(&s->unmanaged[UNMANAGED_LOCKED], locked);
	note_most(&s->unmanaged[UNMANAGED_PINNED], pinned);
}

/* Most programs give their memory back before they end, and the store is empty then. */
static void note_stored(struct report_slot *s)
{
	u64 raw = agent.store->stats.raw_bytes;

	if (raw < s->raw_bytes)
		return;
	s->raw_bytes = raw;
	s->stored_bytes = agent.store->stats.stored_bytes;
	s->kept_bytes = agent.engine.swap.kept * PAGE_SIZE;
}

static void report_now(void)
{
	struct report_slot *s = agent.slot;
	u64 bytes;

	keeper.agent_bytes = arena_resident();
	bytes = program_bytes();
	s->resident_bytes = bytes;
	s->agent_bytes = keeper.agent_bytes;
	if (agent.armed) {
		note_held(s);
		note_stored(s);
		retry_stuck();
		adjust_limit();
	}
	keeper.reported_at = machine_now_ns();
}

static bool is_still(const struct proc_memory *now, const struct proc_memory *then)
{
	u64 less = min_of(now->resident, then->resident);

	return now->size == then->size && now->writable == then->writable &&
	       max_of(now->resident, then->resident) - less < STILL_BYTES;
}

static void sample(void)
{
	u64 size = keeper.memory.size;

	proc_memory(agent.statm, &keeper.memory);
	if (keeper.memory.size != size)
		keeper.changed_at = machine_now_ns();
	if (is_still(&keeper.memory, &keeper.still))
		return;
	keeper.still = keeper.memory;
	keeper.still_at = machine_now_ns();
}

static void measure_agent(void)
{
	keeper.agent_bytes = arena_resident();
	proc_memory(agent.statm, &keeper.memory);
}

static void note_peak(void)
{
	/* A new peak, or the agent has grown since it was last measured; before it makes ready it
	 * does not.  To measure it is not cheap, and little more is no peak. */
	if (program_bytes() <= agent.slot->peak_resident_bytes + (agent.paging ? PEAK_STEP : 0))
		return;
	if (agent.paging)
		measure_agent();
	if (program_bytes() > agent.slot->peak_resident_bytes)
		agent.slot->peak_resident_bytes = program_bytes();
}

/* ---- from watching to paging ---- */

/* Frames: the limit twice, so that what comes by itself can be accounted before it is evicted. */
static int start_engine(void)
{
	struct proc_memory now;
	u64 frames = agent.options.limit / PAGE_SIZE * 2 + 16384;
	u64 slots = (u64)1 << 24; /* 64 GiB of evicted pages */
	u64 tables = (u64)1 << 16;
	struct engine_config config = engine_default_config(frames);
	void *table_map = arena_alloc(tables * PAGE_SIZE);
	int err = memory_store_create(memory, agent.options.compress, slots, 0, serve_threads() + 2,
				      &agent.store);

	if (!err)
		err = huge_init();
	if (err || !table_map)
		return err ? err : -ENOMEM;
	proc_memory(agent.statm, &now);
	config.prefetch = agent.options.prefetch;
	config.policy = agent_extension_is_there() ? &policy_chosen : agent.options.policy;
	config.kept_slots = agent.options.limit / PAGE_SIZE;
	config.kept_within_savings = true;
	config.runs = RUNS_AT_ONCE;
	config.may_exceed = true;
	config.thp = agent.options.keep_huge ? THP_ALWAYS : THP_NEVER;
	memset(&config.collapse, 0, sizeof(config.collapse)); /* all that is there, and our own */
	config.stats = &agent.slot->stats;
	set_marks(&config.marks, frames, agent.options.limit);
	err = engine_init(&agent.engine, &linux_mmu_ops, memory, &config, tables, table_map, frames,
			  NULL, agent.store);
	if (!err && agent_extension_is_there())
		err = agent_extension_begin(&agent.engine);
	if (err)
		return err;
	return mm_create(&agent.engine, PAGE_SIZE, USER_END, &agent.mm);
}

static int open_uffd(void)
{
	int err;

	agent.uffd = uffd_open(UFFD_NEEDED);
	if (agent.uffd < 0)
		return agent.uffd;
	err = window_init();
	if (err)
		return err;
	if (!agent.beacon)
		agent.beacon = arena_alloc(PAGE_SIZE);
	if (!agent.beacon)
		return -ENOMEM;
	sys(madvise, agent.beacon, PAGE_SIZE, 4 /* MADV_DONTNEED */);
	return uffd_register(agent.uffd, (u64)agent.beacon, PAGE_SIZE);
}

/*
 * Evict a little of what was adopted beyond the limit.  A little, because meanwhile the program may
 * fill new memory faster than anybody can compress.
 */
static bool catch_up(void)
{
	struct engine *e = &agent.engine;
	u64 free, freed = 0, min = e->config.marks.min;

	if (!engine_enter())
		return false;
	free = zone_free_pages(e, ZONE_USER);
	if (free < min)
		freed = reclaim_direct(e, min_of(min - free, (u64)CATCH_UP));
	engine_leave();
	return freed && zone_free_pages(e, ZONE_USER) < min;
}

static void scan(void)
{
	u64 began = machine_now_ns();

	hooks_scan_begins();
	if (!engine_enter()) {
		hooks_scan_done(); /* a fork is under way, perhaps by who waits for a lock of theirs
				    */
		return;
	}
	agent.rescan = 0;
	keeper.scanned_size = keeper.memory.size;
	areas_scan();
	if (atomic_exchange(&agent.reconcile, 0))
		areas_reconcile();
	engine_leave();
	hooks_scan_done();
	keeper.scanned_at = machine_now_ns();
	keeper.scan_took = keeper.scanned_at - began;
}

/* All that takes time is done before it is urgent: the engine, the descriptors, the handlers. */
static void prepare(void)
{
	int err;

	/* A fork may be waiting for a lock of libc's whose holder waits for us: later, then. */
	if (!fork_trylock())
		return;
	err = start_engine();
	if (!err)
		err = open_uffd();
	if (!err)
		err = serve_start();
	if (err) {
		agent_warn("paging could not be started; the program runs unmanaged");
		agent_set_state(AGENT_STOPPED);
		wires_end();
		/* Nobody would read of a fork: let go of the window, too. */
		sys(close, agent.uffd);
		sys(close, agent.bin_uffd);
	} else {
		agent.paging = 1;
	}
	fork_unlock();
}

static void arm(void)
{
	if (!agent.paging)
		prepare();
	if (!agent.paging)
		return;
	agent.armed = 1;
	agent_set_state(AGENT_PAGING);
	scan();
	wires_end();
	sample();
	note_peak();
	report_now();
}

/* ---- its life ---- */

/* Resident bytes of the program at which its areas are registered. */
static u64 arm_at(void)
{
	u64 limit = agent.options.limit, margin = limit / 4;

	margin = min_of(max_of(margin, 6ULL << 20), 64ULL << 20);
	return limit - min_of(margin, limit / 2);
}

static u64 prepare_at(void)
{
	return arm_at() / 2;
}

/* What may be mapped before the keeper has looked for the first time. */
static u64 first_room(void)
{
	return arm_at() / 2;
}

/*
 * Measuring the agent takes the kernel's lock of the layout many times, and each may wait for a
 * thread of the program that holds it and does not run; a program that is filling memory is far
 * above its limit by then.  So that is not done first if what the agent took to make ready cannot
 * change the answer.
 */
#define READY_BYTES (8ULL << 20)

static bool reached(u64 bytes)
{
	if (program_bytes() < bytes)
		return false;
	if (program_bytes() < bytes + READY_BYTES)
		measure_agent();
	return program_bytes() >= bytes;
}

/*
 * Memory that the engine does not know can become the program's without a fault: MADV_FREE tells us
 * that pages are gone which are still there, and are again when they are written to.  If there is
 * more above the limit than can be overlooked, all that is there is looked at; less and less often
 * if that finds nothing.
 */
static void look_for_unknown(u64 now)
{
	if (unknown_bytes() < UNKNOWN_BYTES) {
		keeper.look_wait = LEAST_LOOK_NS; /* the last look found what there was */
		return;
	}
	if (program_bytes() < agent.options.limit + UNKNOWN_BYTES / 2 ||
	    now - keeper.looked_at < keeper.look_wait)
		return;
	keeper.look_wait = min_of(keeper.look_wait * 2, MOST_LOOK_NS);
	keeper.looked_at = now;
	agent.reconcile = 1;
}

static void look_for_huge(u64 now)
{
	if (huge_is_due(now) && engine_enter()) {
		khugepaged_scan(&agent.engine, HUGE_LOOK_PAGES);
		engine_leave();
	}
}

static u64 quiet_nap(void)
{
	u64 most = agent.options.limit + ROOM_ABOVE, used = program_bytes();
	u64 ns = used < most ? (most - used) / GROWTH_BYTES_PER_NS : 0;

	return max_of(min_of(ns, QUIET_NAP_NS), PAGING_NAP_NS);
}

/* Until the program could have come to the next mark.  If it has to touch a wire or to ask before
 * it gets there it may go beyond it, as while paging, and no more than that. */
static u64 watching_nap(void)
{
	u64 used = program_bytes(), next = agent.paging ? arm_at() : prepare_at();
	u64 ns = used < next ? (next - used) / GROWTH_BYTES_PER_NS : 0;

	return max_of(min_of(ns, LONGEST_NAP_NS), keeper.held ? PAGING_NAP_NS : SHORTEST_NAP_NS);
}

static u64 next_nap(void)
{
	if (agent.state == AGENT_STOPPED)
		return LONGEST_NAP_NS;
	if (changes_asked())
		return ORDER_NAP_NS;
	if (keeper.behind)
		return CATCH_UP_NAP_NS;
	if (agent.armed && machine_now_ns() - keeper.changed_at < RESTLESS_NS)
		return SHORTEST_NAP_NS;
	if (agent.armed)
		return keeper.quiet ? quiet_nap() : PAGING_NAP_NS;
	return watching_nap();
}

/* How long it may be because nothing happens; 0: something does. */
static u64 rest_nap(void)
{
	bool calm = agent.armed ? keeper.quiet && !keeper.behind : keeper.held;

	if (!calm || changes_asked())
		return 0;
	return min_of((machine_now_ns() - keeper.still_at) / REST_PART, REST_NAP_NS);
}

static void nap(u64 ns)
{
	struct timespec ts = { .tv_nsec = (long)ns };

	sys(futex, &agent.wake_keeper, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &ts);
	agent.wake_keeper = 0;
}

/* A handler that begins to serve counts first and then looks whether it has to wake us; we say that
 * we rest first and then look whether one has begun. */
static void rest(u64 ns)
{
	atomic_store(&agent.keeper_rests, 1);
	nap(place_is_quiet() ? ns : PAGING_NAP_NS);
	atomic_store(&agent.keeper_rests, 0);
}

static void nap_or_rest(void)
{
	u64 ns = next_nap(), longer = rest_nap();

	if (longer > ns)
		rest(longer);
	else
		nap(ns);
}

int keeper_program_nice(void)
{
	return keeper.nice;
}

bool keeper_is_privileged(void)
{
	return keeper.privileged;
}

void keeper_wake(void)
{
	atomic_store(&agent.wake_keeper, 1);
	sys(futex, &agent.wake_keeper, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
}

void keeper_rouse(void)
{
	if (atomic_load(&agent.keeper_rests) && atomic_exchange(&agent.keeper_rests, 0))
		keeper_wake();
}

static bool scan_is_due(u64 now)
{
	return (agent.rescan || agent.reconcile || keeper.memory.size != keeper.scanned_size) &&
	       now - keeper.scanned_at > SCAN_SHARE * keeper.scan_took;
}

u64 keeper_room(void)
{
	return agent.state == AGENT_WATCHING ? keeper.room : ~0ULL;
}

bool keeper_has_wired(void)
{
	return agent.state == AGENT_WATCHING && wires_are_up();
}

/* ---- watching ---- */

/* What the program can touch without mapping more. */
static u64 potential(void)
{
	u64 ours = arena_accessible() + stacks_bytes();

	return keeper.memory.writable - min_of(keeper.memory.writable, ours);
}

bool keeper_is_urgent(void)
{
	struct proc_memory now;
	int statm = open_proc("/proc/self/statm");
	int err = statm < 0 ? statm : proc_memory(statm, &now);

	if (statm >= 0)
		sys(close, statm);
	return err || now.writable > first_room();
}

/* Does the program touch little of what it is let have? */
static bool touches_sparsely(u64 now)
{
	keeper.sparse = now - keeper.wired_at < SPARSE_NS ? keeper.sparse + 1 : 0;
	return keeper.sparse > SPARSE_TIMES;
}

static bool arm_is_due(bool tripped)
{
	if (!tripped)
		return reached(arm_at());
	return reached(arm_at() - arm_at() / LAST_PART) || touches_sparsely(machine_now_ns());
}

/* Much was mapped in ways that nobody asked about? */
static bool has_outgrown_wires(u64 now)
{
	return !wires_are_up() || (potential() > keeper.wired + keeper.room &&
				   now - keeper.wired_at > SCAN_SHARE * keeper.wiring_took);
}

static void stretch(void)
{
	u64 began = machine_now_ns();

	if (wires_stretch(arm_at(), potential()))
		return; /* sampling has to do */
	keeper.wired = potential();
	keeper.wired_at = machine_now_ns();
	keeper.wiring_took = keeper.wired_at - began;
}

/* A thread asks for room, or all is as it is at times. */
static void look_at_wires(bool asked)
{
	if (potential() + LEAST_ROOM < arm_at()) {
		keeper.room = arm_at() - potential();
		keeper.held = true;
		return;
	}
	/* What moves now must not be wired in the middle of it. */
	if (!hooks_moving() && (asked || has_outgrown_wires(machine_now_ns())))
		stretch();
	keeper.room = max_of(wires_room() / 2, LEAST_ROOM);
	keeper.held = wires_are_up();
}

/* Before paging begins. */
static void watch(void)
{
	bool asked = hooks_scan_asked(), tripped = wires_tripped();
	u64 start, len;

	if (asked || tripped) {
		hooks_scan_begins();
		sample(); /* what was mapped before the question is in it */
	}
	if (hooks_unwire_asked(&start, &len))
		wires_release(start, len);
	if (arm_is_due(tripped)) {
		arm();
	} else {
		if (!agent.paging && program_bytes() >= prepare_at()) {
			prepare();
			/* What the agent has taken by now, and the sample before does not know,
			 * must not pass for room. */
			sample();
		}
		look_at_wires(asked || tripped);
	}
	if (asked || tripped)
		hooks_scan_done();
	if (tripped)
		wires_answer();
}

/*
 * The program's threads have all ended by the bare system call, as what clone() started does: then
 * the process would have ended without us.
 */
static void end_if_alone(u64 now)
{
	struct proc_leader leader;
	u64 ours = 1 + (agent.paging ? agent.nr_handlers : 0) + wires_threads();

	if (now - keeper.alone_at < ALONE_EVERY_NS)
		return;
	keeper.alone_at = now;
	if (proc_leader(agent.stat, &leader) == 0 && leader.ended && leader.threads <= ours + 1)
		sys(exit_group, leader.status >> 8 & 0xff);
}

static void tick(void)
{
	u64 now;

	fork_thaw_if_asked();
	/* If there is but one handler, it may wait for somebody to serve a fault of its own. */
	if (agent.paging && agent.nr_handlers == 1)
		serve_pending();
	if (agent.armed)
		place_check();
	if (agent.paging)
		changes_look();
	sample();
	now = machine_now_ns();
	end_if_alone(now);
	if (!agent.armed && agent.state == AGENT_WATCHING) {
		watch();
	} else if (agent.armed) {
		look_for_unknown(now);
		look_for_huge(now);
		if (hooks_scan_asked() || scan_is_due(now))
			scan();
	}
	keeper.behind = agent.armed && catch_up();
	note_peak();
	keeper.quiet = agent.armed && place_is_quiet();
	if (now - keeper.reported_at > (keeper.quiet ? QUIET_REPORT_NS : REPORT_EVERY_NS))
		report_now();
}

/* What the keeper does is little and urgent; without the privilege it does as well as it can. */
static void be_prompt(void)
{
	keeper.nice = 20 - (int)sys(getpriority, 0 /* PRIO_PROCESS */, 0);
	keeper.privileged = sys(setpriority, 0 /* PRIO_PROCESS */, 0, -20) == 0;
}

static void keeper_main(struct agent_thread *t)
{
	(void)t;
	be_prompt();
	if (open_descriptors() < 0) {
		agent_warn("/proc cannot be read here; the program runs unmanaged");
		agent_set_state(AGENT_STOPPED);
		return;
	}
	areas_note_early(agent.maps);
	report_now();
	for (;;) {
		tick();
		nap_or_rest();
	}
}

static int keeper_new(void)
{
	struct agent_thread *t = agent.keeper ? agent.keeper : thread_new();

	if (!t)
		return -ENOMEM;
	t->index = MAX_HANDLERS;
	if (!t->staging)
		t->staging = arena_alloc(MMU_BATCH * PAGE_SIZE);
	agent.keeper = t;
	return t->staging ? 0 : -ENOMEM;
}

int keeper_start(void)
{
	int err = keeper_new();
	long tid;

	if (err)
		return err;
	keeper.room = first_room();
	tid = thread_start(agent.keeper, keeper_main);
	return tid < 0 ? (int)tid : 0;
}

/* ---- in a forked child ---- */

static void forget_wiped(u64 start, u64 end)
{
	vm_advise(agent.mm, start, end - start, VADV_DONTNEED);
}

/* Everything is unregistered, nobody else runs: page on with the copy of the parent's state. */
static int take_over(void)
{
	int err = open_uffd();

	if (err)
		return err;
	areas_forget_gone();
	err = areas_register_again();
	if (err)
		return err;
	areas_reconcile();
	return serve_start();
}

static void child_main(struct agent_thread *t)
{
	int err;

	(void)t;
	be_prompt();
	err = open_descriptors();
	if (agent.paging) {
		/* Also if it cannot page: none of that may be brought back. */
		fork_apply_kept();
		hooks_each_wiped(forget_wiped);
	}
	if (!err && agent.paging)
		err = take_over();
	if (err)
		agent_stop("a forked child could not page on; its pages were all brought in");
	keeper.child_ready = 1;
	sys(futex, &keeper.child_ready, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1);
	for (;;) {
		tick();
		nap_or_rest();
	}
}

void keeper_start_child(void)
{
	keeper.child_ready = 0;
	agent.keeper->busy = 0;
	wires_forget();
	agent_new_slot();
	if (thread_start(agent.keeper, child_main) < 0) {
		/* A limit on threads, most likely. */
		if (agent.paging)
			machine_panic("no thread can be started in a forked child");
		agent_warn("no thread can be started in a forked child; it runs unmanaged");
		agent_set_state(AGENT_STOPPED);
		return;
	}
	while (!keeper.child_ready)
		sys(futex, &keeper.child_ready, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, 0);
}
