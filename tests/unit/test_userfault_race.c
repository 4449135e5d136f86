/* SPDX-License-Identifier: MIT */
/*
 * userfaultfd under several CPUs.
 *
 * The first test: workers, each with a word of its own in every page of a region, which it knows;
 * two monitors that serve their faults, and all the while take pages out (MOVE to a stage, and from
 * there to a buffer), put them back (MOVE or COPY) and write-protect them; a thread that maps,
 * registers, touches, drops, moves and unmaps an area of its own, of which the monitors are told;
 * and one that reclaims.  The second: the program forks meanwhile, and the child's pages are what
 * they were at that moment, whether they were there or in the monitor's hands.
 *
 * A fault that were lost would be a test that does not end; a byte that were wrong is found.
 */
#include <pthread.h>
#include <sched.h>

#include "engine/userfault/userfault.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

#define RW    (VM_READ | VM_WRITE)
#define P(n)  ((u64)(n)*PAGE_SIZE)
#define AT(n) (0x20000000ULL + P(n))

static struct world w;
static struct mm *mm;

enum { PAGES = 48, WORKERS = 3, MONITORS = 2, SCRATCH = 16 };
#define REGION	   AT(0)
#define STAGE	   AT(1024)
#define SCRATCH_AT AT(2048)
#define MOVED_AT   AT(3072)

/* Of the world's CPUs: the workers', the monitors', then these. */
enum { CPU_MONITOR = WORKERS, CPU_LAYOUT = CPU_MONITOR + MONITORS, CPU_CHILD, NR_CPUS };

static struct userfaultfd_ctx *ctx, *stage_ctx;
static _Atomic bool stop, stop_program;
static _Atomic u64 served, moved, protected, events;

/* What a monitor knows of a page, with its lock held. */
static struct page_state {
	pthread_mutex_t lock;
	enum { FRESH, RESIDENT, STAGED, STORED } where;
	u8 bytes[PAGE_SIZE]; /* STORED */
} pages[PAGES];

static void must(bool ok, const char *what, u64 at)
{
	if (ok)
		return;
	fprintf(stderr, "%s at %lx\n", what, (unsigned long)at);
	abort(); /* other threads wait for one another: there is no other end */
}

static struct soft_cpu *cpu_nr(unsigned n)
{
	return &w.m->cpus[n];
}

/* ---- workers ---- */

struct worker {
	pthread_t thread;
	unsigned number, rounds;
	u64 rnd, expect[PAGES];
};

static void *work(void *arg)
{
	struct worker *k = arg;
	struct soft_cpu *cpu = cpu_nr(k->number);

	for (unsigned i = 0; i < k->rounds; i++) {
		unsigned p = rnd_below(&k->rnd, PAGES);
		u64 va = REGION + P(p) + k->number * sizeof(u64), word = ~0ULL;

		must(soft_read_u64(cpu, va, &word) == FAULT_OK, "read", va);
		must(word == k->expect[p], "wrong word", va);
		if (rnd_below(&k->rnd, 2)) {
			k->expect[p] = rnd_next(&k->rnd);
			must(soft_write_u64(cpu, va, k->expect[p]) == FAULT_OK, "write", va);
		}
	}
	return NULL;
}

/* ---- monitors ---- */

struct monitor {
	pthread_t thread;
	unsigned number;
	u64 rnd;
	u64 later[64]; /* faults read while something else had to wait */
	unsigned nr_later;
	u64 buf[PAGE_SIZE / sizeof(u64)];
};

static bool read_message(struct userfault_msg *msg)
{
	s64 n = userfaultfd_read(ctx, msg, 1, true);

	must(n == 1 || n == -EAGAIN, "read of messages", (u64)n);
	if (n == 1 && msg->event != UAPI_UFFD_EVENT_PAGEFAULT)
		atomic_fetch_add(&events, 1);
	return n == 1;
}

/* An operation said -EAGAIN: somebody waits for his event to be read, perhaps by us. */
static void read_on(struct monitor *mo)
{
	struct userfault_msg msg;

	if (mo->nr_later < ARRAY_SIZE(mo->later) && read_message(&msg)) {
		if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
			mo->later[mo->nr_later++] = msg.arg.pagefault.address;
	} else {
		sched_yield();
	}
}

#define UNTIL_DONE(mo, result, operation)                                                          \
	do {                                                                                       \
		while (((result) = (operation)) == -EAGAIN)                                        \
			read_on(mo);                                                               \
	} while (0)

static int copy_in(u64 dst, const void *bytes, u64 mode)
{
	s64 done;

	return userfaultfd_copy(ctx, NULL, dst, (u64)(uintptr_t)bytes, PAGE_SIZE, mode, &done);
}

/* The page was write-protected while it was not there, which only COPY writes over. */
static bool unmark(struct monitor *mo, u64 va)
{
	int err;

	UNTIL_DONE(mo, err,
		   userfaultfd_writeprotect(ctx, va, PAGE_SIZE,
					    UAPI_UFFDIO_WRITEPROTECT_MODE_DONTWAKE));
	return !err;
}

/* The fault wants a page, or to write to one. */
static void serve_page(struct monitor *mo, unsigned p)
{
	struct page_state *s = &pages[p];
	u64 va = REGION + P(p), wp = rnd_below(&mo->rnd, 4) ? 0 : UAPI_UFFDIO_COPY_MODE_WP;
	s64 done;
	int err;

	pthread_mutex_lock(&s->lock);
	switch (s->where) {
	case FRESH:
		do {
			UNTIL_DONE(mo, err, userfaultfd_zeropage(ctx, va, PAGE_SIZE, 0, &done));
		} while (err == -EEXIST && unmark(mo, va));
		break;
	case STAGED:
		do {
			UNTIL_DONE(
				mo, err,
				userfaultfd_move(ctx, mm, va, STAGE + P(p), PAGE_SIZE, 0, &done));
		} while (err == -EEXIST && unmark(mo, va));
		break;
	case STORED:
		UNTIL_DONE(mo, err, copy_in(va, s->bytes, wp));
		break;
	default:
		UNTIL_DONE(mo, err, userfaultfd_writeprotect(ctx, va, PAGE_SIZE, 0));
		break;
	}
	must(!err, "serving a fault", va);
	s->where = RESIDENT;
	pthread_mutex_unlock(&s->lock);
	atomic_fetch_add(&served, 1);
}

/* Of the area that comes and goes: each page is what its address says. */
static void serve_scratch(struct monitor *mo, u64 va)
{
	int err;

	va &= PAGE_MASK;
	mo->buf[0] = va;
	UNTIL_DONE(mo, err, copy_in(va, mo->buf, 0));
	/* It may be gone, or another's by now, or filled: who asked finds out. */
	must(!err || err == -ENOENT || err == -EEXIST, "serving the area", va);
	if (err)
		userfaultfd_wake(ctx, va, PAGE_SIZE);
	atomic_fetch_add(&served, 1);
}

static void serve(struct monitor *mo, u64 va)
{
	if (va >= REGION && va < REGION + P(PAGES))
		serve_page(mo, (va - REGION) >> PAGE_SHIFT);
	else
		serve_scratch(mo, va);
}

/* Take a page out of the program's hands. */
static void take_out(struct monitor *mo, unsigned p)
{
	struct page_state *s = &pages[p];
	u64 va = REGION + P(p);
	s64 done;
	int err;

	if (pthread_mutex_trylock(&s->lock))
		return;
	if (s->where == RESIDENT) {
		UNTIL_DONE(mo, err,
			   userfaultfd_move(stage_ctx, mm, STAGE + P(p), va, PAGE_SIZE, 0, &done));
		must(!err || err == -EBUSY, "taking a page out", va);
		if (!err) {
			s->where = STAGED;
			atomic_fetch_add(&moved, 1);
		}
	}
	if (s->where == STAGED && rnd_below(&mo->rnd, 2)) {
		err = soft_read(cpu_nr(CPU_MONITOR + mo->number), STAGE + P(p), s->bytes,
				PAGE_SIZE);
		must(err == FAULT_OK, "reading the stage", va);
		must(!vm_advise(mm, STAGE + P(p), PAGE_SIZE, VADV_DONTNEED), "advise", va);
		s->where = STORED;
	}
	pthread_mutex_unlock(&s->lock);
}

static void write_protect(struct monitor *mo)
{
	unsigned p = rnd_below(&mo->rnd, PAGES - 8), n = 1 + rnd_below(&mo->rnd, 8);
	int err;

	UNTIL_DONE(mo, err,
		   userfaultfd_writeprotect(ctx, REGION + P(p), P(n),
					    UAPI_UFFDIO_WRITEPROTECT_MODE_WP));
	must(!err, "write-protecting", REGION + P(p));
	atomic_fetch_add(&protected, 1);
}

static void *monitor(void *arg)
{
	struct monitor *mo = arg;
	struct userfault_msg msg;

	while (!atomic_load(&stop)) {
		while (mo->nr_later)
			serve(mo, mo->later[--mo->nr_later]);
		if (read_message(&msg)) {
			if (msg.event == UAPI_UFFD_EVENT_PAGEFAULT)
				serve(mo, msg.arg.pagefault.address);
			continue;
		}
		take_out(mo, rnd_below(&mo->rnd, PAGES));
		if (!rnd_below(&mo->rnd, 8))
			write_protect(mo);
		sched_yield();
	}
	return NULL;
}

/* ---- the layout ---- */

static void touch(struct soft_cpu *cpu, u64 *tags, u64 at, unsigned i)
{
	u64 va = at + P(i), word;

	must(soft_read_u64(cpu, va, &word) == FAULT_OK, "read of the area", va);
	must(word == (tags[i] ? tags[i] : va), "wrong word in the area", va);
	tags[i] = word;
	must(soft_write_u64(cpu, va, word) == FAULT_OK, "write of the area", va);
}

static void *change_layout(void *arg)
{
	struct soft_cpu *cpu = cpu_nr(CPU_LAYOUT);
	u64 rnd = 99;

	(void)arg;
	while (!atomic_load(&stop_program)) {
		u64 tags[SCRATCH] = { 0 }, ioctls, at = SCRATCH_AT;

		must(vm_map(mm, at, P(SCRATCH), RW, VMAP_FIXED, 0) == (s64)at, "map", at);
		must(!userfaultfd_register(ctx, at, P(SCRATCH), UAPI_UFFDIO_REGISTER_MODE_MISSING,
					   &ioctls),
		     "register", at);
		for (unsigned i = 0; i < 12; i++)
			touch(cpu, tags, at, rnd_below(&rnd, SCRATCH));
		must(!vm_advise(mm, at + P(4), P(4), VADV_DONTNEED), "advise", at);
		memset(tags + 4, 0, 4 * sizeof(*tags));
		for (unsigned i = 0; i < 6; i++)
			touch(cpu, tags, at, rnd_below(&rnd, SCRATCH));
		must(vm_remap(mm, at, P(SCRATCH), P(SCRATCH), VREMAP_MAYMOVE | VREMAP_FIXED,
			      MOVED_AT) == MOVED_AT,
		     "remap", at);
		at = MOVED_AT;
		for (unsigned i = 0; i < 12; i++)
			touch(cpu, tags, at, rnd_below(&rnd, SCRATCH));
		must(!vm_unmap(mm, at, P(SCRATCH)), "unmap", at);
	}
	return NULL;
}

static void *reclaim(void *arg)
{
	u64 rnd = 7;

	(void)arg;
	while (!atomic_load(&stop)) {
		u64 at = REGION + P(rnd_below(&rnd, PAGES - 8));

		reclaim_range(mm, at, at + P(8));
		sched_yield();
	}
	return NULL;
}

/* ---- */

static struct userfaultfd_ctx *open_ctx(u64 features)
{
	struct userfaultfd_ctx *c;
	u64 ioctls;

	assert_int_equal(userfaultfd_create(mm, 0, &c), 0);
	assert_int_equal(userfaultfd_api(c, UAPI_UFFD_API, &features, &ioctls), 0);
	return c;
}

static void reg(struct userfaultfd_ctx *c, u64 at, u64 mode)
{
	u64 ioctls;

	assert_int_equal(vm_map(mm, at, P(PAGES), RW, VMAP_FIXED, 0), at);
	assert_int_equal(userfaultfd_register(c, at, P(PAGES), mode, &ioctls), 0);
}

static int setup(void **state)
{
	(void)state;
	assert_int_equal(world_create(&w, (struct world_options){ .cpus = NR_CPUS, .frames = 512 }),
			 0);
	mm = w.mm;
	for (unsigned i = 1; i < NR_CPUS; i++)
		soft_load_mm(cpu_nr(i), mm);
	for (unsigned p = 0; p < PAGES; p++) {
		pthread_mutex_init(&pages[p].lock, NULL);
		pages[p].where = FRESH;
	}
	stop = stop_program = false;
	return 0;
}

static int end(void **state)
{
	(void)state;
	soft_check(w.m);
	world_destroy(&w);
	return 0;
}

static struct worker workers[WORKERS];

static void start_workers(unsigned rounds)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){ .number = i, .rounds = rounds, .rnd = i + 1 };
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
}

static void end_workers(void)
{
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
}

static void no_fault_is_lost_and_every_byte_is_right(void **state)
{
	static struct monitor monitors[MONITORS];
	pthread_t layout, reclaimer;

	(void)state;
	ctx = open_ctx(UAPI_UFFD_FEATURE_EVENT_UNMAP | UAPI_UFFD_FEATURE_EVENT_REMOVE |
		       UAPI_UFFD_FEATURE_EVENT_REMAP | UAPI_UFFD_FEATURE_WP_UNPOPULATED);
	stage_ctx = open_ctx(0);
	reg(ctx, REGION, UAPI_UFFDIO_REGISTER_MODE_MISSING | UAPI_UFFDIO_REGISTER_MODE_WP);
	reg(stage_ctx, STAGE, UAPI_UFFDIO_REGISTER_MODE_MISSING);
	for (unsigned i = 0; i < MONITORS; i++) {
		monitors[i] = (struct monitor){ .number = i, .rnd = i + 11 };
		pthread_create(&monitors[i].thread, NULL, monitor, &monitors[i]);
	}
	pthread_create(&layout, NULL, change_layout, NULL);
	pthread_create(&reclaimer, NULL, reclaim, NULL);
	start_workers(4000);
	end_workers();
	stop_program = true;
	pthread_join(layout, NULL);
	stop = true;
	for (unsigned i = 0; i < MONITORS; i++)
		pthread_join(monitors[i].thread, NULL);
	pthread_join(reclaimer, NULL);
	userfaultfd_release(ctx);
	userfaultfd_release(stage_ctx);
	assert_true(served && moved && protected && events);
	print_message("%lu faults served, %lu pages moved out, %lu ranges protected, %lu events\n",
		      (unsigned long)served, (unsigned long)moved, (unsigned long)protected,
		      (unsigned long)events);
}

/* ---- fork ---- */

static u8 snapshot[PAGES][PAGE_SIZE]; /* what of the child's the monitor has: STORED at the fork */
static bool snapshot_has[PAGES];
static struct userfaultfd_ctx *child_ctx;
static pthread_t child_monitor;

static void *serve_child(void *arg)
{
	struct userfault_msg msg;
	s64 done;

	(void)arg;
	while (userfaultfd_read(child_ctx, &msg, 1, false) == 1) {
		u64 va = msg.arg.pagefault.address;
		unsigned p = (va - REGION) >> PAGE_SHIFT;
		int err;

		if (msg.arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP)
			err = userfaultfd_writeprotect(child_ctx, va, PAGE_SIZE, 0);
		else if (snapshot_has[p])
			err = userfaultfd_copy(child_ctx, NULL, va, (u64)(uintptr_t)snapshot[p],
					       PAGE_SIZE, 0, &done);
		else
			err = userfaultfd_zeropage(child_ctx, va, PAGE_SIZE, 0, &done);
		must(!err, "serving the child", va);
	}
	return NULL;
}

/* While the event is unread nothing is filled or moved: what we have is what was ours at the fork.
 * Reading and all else of this test's is done by one thread. */
static void take_snapshot(struct userfaultfd_ctx *of)
{
	for (unsigned p = 0; p < PAGES; p++) {
		snapshot_has[p] = pages[p].where == STORED;
		if (snapshot_has[p])
			memcpy(snapshot[p], pages[p].bytes, PAGE_SIZE);
	}
	child_ctx = of;
	pthread_create(&child_monitor, NULL, serve_child, NULL);
}

static void *monitor_forks(void *arg)
{
	struct monitor *mo = arg;
	struct userfault_msg msg;

	while (!atomic_load(&stop)) {
		unsigned p = rnd_below(&mo->rnd, PAGES);
		struct page_state *s = &pages[p];
		u64 va = REGION + P(p);
		s64 done;
		int err;

		if (read_message(&msg)) {
			if (msg.event == UAPI_UFFD_EVENT_FORK) {
				take_snapshot(msg.arg.fork.ctx);
				continue;
			}
			va = msg.arg.pagefault.address;
			s = &pages[(va - REGION) >> PAGE_SHIFT];
			if (msg.arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP)
				err = userfaultfd_writeprotect(ctx, va, PAGE_SIZE, 0);
			else if (s->where == FRESH)
				err = userfaultfd_zeropage(ctx, va, PAGE_SIZE, 0, &done);
			else if (s->where == STORED)
				err = copy_in(va, s->bytes, 0);
			else
				err = userfaultfd_wake(ctx, va, PAGE_SIZE);
			/* Refused while a fork is under way: it faults again, when woken. */
			if (err == -EAGAIN)
				userfaultfd_wake(ctx, va, PAGE_SIZE);
			else if (!(msg.arg.pagefault.flags & UAPI_UFFD_PAGEFAULT_FLAG_WP))
				s->where = RESIDENT;
			must(!err || err == -EAGAIN, "serving", va);
			atomic_fetch_add(&served, 1);
			continue;
		}
		if (s->where != RESIDENT)
			continue;
		if (!rnd_below(&mo->rnd, 4)) {
			err = userfaultfd_writeprotect(ctx, va, PAGE_SIZE,
						       UAPI_UFFDIO_WRITEPROTECT_MODE_WP);
			must(!err || err == -EAGAIN, "write-protecting", va);
			continue;
		}
		err = userfaultfd_move(stage_ctx, mm, STAGE, va, PAGE_SIZE, 0, &done);
		must(!err || err == -EBUSY || err == -ENOENT || err == -EAGAIN, "moving", va);
		if (err)
			continue;
		must(soft_read(cpu_nr(CPU_MONITOR), STAGE, s->bytes, PAGE_SIZE) == FAULT_OK,
		     "stage", va);
		must(!vm_advise(mm, STAGE, PAGE_SIZE, VADV_DONTNEED), "advise", va);
		s->where = STORED;
		atomic_fetch_add(&moved, 1);
	}
	return NULL;
}

/* Each worker's words only ever grow in this test: so what a child has lies between what was there
 * before the fork and after it. */
static _Atomic u64 counts[PAGES];

static void *count_up(void *arg)
{
	u64 rnd = 5;

	(void)arg;
	while (!atomic_load(&stop_program)) {
		unsigned p = rnd_below(&rnd, PAGES);
		u64 va = REGION + P(p), word;

		must(soft_read_u64(cpu_nr(0), va, &word) == FAULT_OK, "read", va);
		must(word == atomic_load(&counts[p]), "wrong count", va);
		atomic_store(&counts[p], word + 1);
		must(soft_write_u64(cpu_nr(0), va, word + 1) == FAULT_OK, "write", va);
	}
	return NULL;
}

static void a_child_has_what_was_there_at_the_fork(void **state)
{
	struct monitor mo = { .rnd = 3 };
	struct soft_cpu *cpu = cpu_nr(CPU_CHILD);
	u64 before[PAGES], seen = 0;
	pthread_t counter;

	(void)state;
	moved = 0;
	ctx = open_ctx(UAPI_UFFD_FEATURE_EVENT_FORK);
	stage_ctx = open_ctx(0);
	reg(ctx, REGION, UAPI_UFFDIO_REGISTER_MODE_MISSING | UAPI_UFFDIO_REGISTER_MODE_WP);
	reg(stage_ctx, STAGE, UAPI_UFFDIO_REGISTER_MODE_MISSING);
	for (unsigned p = 0; p < PAGES; p++)
		counts[p] = 0;
	pthread_create(&mo.thread, NULL, monitor_forks, &mo);
	pthread_create(&counter, NULL, count_up, NULL);
	for (unsigned round = 0; round < 20; round++) {
		struct mm *child;

		while (atomic_load(&served) % 64 < 48)
			sched_yield();
		for (unsigned p = 0; p < PAGES; p++)
			before[p] = atomic_load(&counts[p]);
		assert_int_equal(mm_fork(mm, &child), 0);
		soft_load_mm(cpu, child);
		for (unsigned p = 0; p < PAGES; p++) {
			u64 va = REGION + P(p), word, again, after = atomic_load(&counts[p]);

			must(soft_read_u64(cpu, va, &word) == FAULT_OK, "child's read", va);
			/* It may have been about to write when it had counted. */
			must(word + 1 >= before[p] && word <= after, "child's word", va);
			must(soft_write_u64(cpu, va, word + 7) == FAULT_OK, "child's write", va);
			must(soft_read_u64(cpu, va, &again) == FAULT_OK && again == word + 7,
			     "what the child has written", va);
			seen += word;
		}
		soft_load_mm(cpu, NULL);
		userfaultfd_ctx_get(child_ctx);
		userfaultfd_release(child_ctx);
		pthread_join(child_monitor, NULL);
		userfaultfd_ctx_put(child_ctx);
		mm_destroy(child);
	}
	stop_program = true;
	pthread_join(counter, NULL);
	stop = true;
	pthread_join(mo.thread, NULL);
	userfaultfd_release(ctx);
	userfaultfd_release(stage_ctx);
	assert_true(seen && moved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(no_fault_is_lost_and_every_byte_is_right, setup,
						end),
		cmocka_unit_test_setup_teardown(a_child_has_what_was_there_at_the_fork, setup, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
