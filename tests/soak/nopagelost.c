/* SPDX-License-Identifier: MIT */
/*
 * No page is lost: eight processes on eight CPUs of two nodes, on real threads, with a fifth of the
 * memory that they need, while stores fail to read and write, swap areas come and go, and processes
 * are killed for want of memory; with huge pages that are made and taken apart, monitors that serve
 * some of their pages, a pool of huge pages, and pages that move from node to node.
 *
 *   nopagelost [--seconds N] [--seed S] [--policy NAME] [--without PART]...
 *
 * PART: thp, userfault, pool, or background (the threads that collapse, and ask who uses pages).
 *
 * Every page is filled with words made of its number and a version, so a process knows each byte
 * that it must find.  What a store fails to read may be SIGBUS; it is never other bytes, and never
 * zeros.  A process that is killed is gone, and another begins in its place; what it had shared
 * is as it left it.  Now and then all stop, and every invariant is checked.
 */
#include <getopt.h>
#include <time.h>

#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/migrate/compaction.h"
#include "engine/migrate/numa.h"
#include "machine/soft/background.h"
#include "machine/soft/host.h"
#include "tests/soak/nopagelost.h"

enum {
	ROUND = 300,	/* operations of a process from one quiet point to the next */
	MUCH = 1000000, /* pages read: by then everything has happened, however slow it goes */
};

struct world w;
struct worker workers[WORKERS];
struct file *files[FILES];
u64 seed;
struct parts with = { true, true, true, true };
pthread_rwlock_t quiet = PTHREAD_RWLOCK_INITIALIZER;
static const struct reclaim_policy *policy; /* NULL: the default */
static pthread_barrier_t stopped, go_on;
static _Atomic bool stop;
static struct soft_background *background; /* but at quiet points */

/* ---- how much memory ---- */

static u64 needed(void)
{
	u64 each = OWN_PAGES + (with.thp ? RANGES * HUGE_PAGES : 0) +
		   (with.userfault ? SERVED_PAGES : 0);

	return WORKERS * each + 2 * SHARED_PAGES;
}

/* A fifth; where there are huge pages, whole ones on each node. */
static u64 frames(void)
{
	u64 whole = NODES * HUGE_PAGES, n = needed() / 5;

	return with.thp ? (n + whole / 2) / whole * whole : n;
}

/* ---- processes ---- */

static void be_born(struct worker *k)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;
	struct oom_owner owner = { .pid = 100 + (int)k->number };

	if (mm_create(w.e, WORLD_LOW, WORLD_HIGH, &k->mm) ||
	    do_mmap(k->mm, OWN, P(OWN_PAGES), RW, flags, NULL, 0) != OWN)
		DIE(k, "it cannot be born");
	for (unsigned f = 0; f < FILES; f++)
		if (files[f] &&
		    do_mmap(k->mm, SHARED(f), f == POOL_FILE ? 2 * PMD_SIZE : P(SHARED_PAGES), RW,
			    UAPI_MAP_SHARED | UAPI_MAP_FIXED, files[f], 0) != (s64)SHARED(f))
			DIE(k, "it has no file %u", f);
	if (with.thp)
		map_ranges(k);
	snprintf(owner.name, sizeof(owner.name), "worker%u", k->number);
	mm_set_owner(k->mm, &owner);
	forget(k, 0, ALL_PAGES);
	soft_load_mm(k->cpu, k->mm);
	if (with.userfault)
		start_served(k);
}

static void end_life(struct worker *k)
{
	if (k->served)
		stop_served(k);
	soft_load_mm(k->cpu, NULL);
	mm_destroy(k->mm);
}

static void die_and_be_born(struct worker *k)
{
	end_life(k);
	k->deaths++;
	be_born(k);
}

/* A child has all that its parent has, changes some of it for itself, and ends. */
static enum end fork_and_look(struct worker *k)
{
	static _Thread_local struct worker child;
	enum end end = DONE;
	struct mm *mm;
	int err = mm_fork(k->mm, &mm);

	if (err)
		return mm_is_oom_victim(k->mm) ? KILLED : DONE;
	be_child(&child, k, mm);
	for (unsigned i = 0; i < 40 && end != KILLED; i++)
		end = own_page(&child, any_page(&child), rnd_below(&child.rnd, 2));
	soft_load_mm(k->cpu, k->mm);
	mm_destroy(mm);
	k->rnd = child.rnd;
	k->buses = child.buses;
	k->reads = child.reads;
	k->writes = child.writes;
	k->forks++;
	return DONE;
}

static void advise(struct worker *k, u32 advice)
{
	unsigned page = rnd_below(&k->rnd, OWN_PAGES);
	unsigned n = 1 + rnd_below(&k->rnd, min_of(OWN_PAGES - page, 32u));
	s64 err = do_madvise(k->mm, OWN + P(page), P(n), advice);

	must(k, !err, "advice", err);
	if (advice == UAPI_MADV_DONTNEED) {
		forget(k, page, n);
		k->drops++;
	} else {
		k->advised++;
	}
}

static void move_to_a_node(struct worker *k)
{
	u64 page = va_of(k, any_page(k)), from = 1ULL << rnd_below(&k->rnd, NODES), to = 3 & ~from;
	s32 node = (s32)rnd_below(&k->rnd, NODES), status = -1;

	if (!rnd_below(&k->rnd, 16)) {
		s64 left = do_migrate_pages(k->mm, 64, &from, &to);

		if (left < 0)
			DIE(k, "migrate_pages: %ld", (long)left);
	} else if (!do_move_pages(k->mm, 1, &page, &node, &status, UAPI_MPOL_MF_MOVE) &&
		   status == node) {
		k->moves++;
	}
}

static enum end operate(struct worker *k)
{
	unsigned what = rnd_below(&k->rnd, 240), f = rnd_below(&k->rnd, FILES);
	bool write = rnd_below(&k->rnd, 2);

	if (what < 30 && with.userfault)
		return operate_on_served(k);
	if (what < 70 && with.thp)
		return operate_on_ranges(k);
	if (what < 72 && with.pool)
		return live_in_pool(k);
	if (what < 180)
		return own_page(k, rnd_below(&k->rnd, OWN_PAGES), write);
	if (what < 225)
		return shared_page(k, files[f] ? f : 0, rnd_below(&k->rnd, SHARED_PAGES), write);
	if (what < 229)
		advise(k, UAPI_MADV_PAGEOUT);
	else if (what < 231)
		advise(k, UAPI_MADV_COLD);
	else if (what < 232)
		advise(k, UAPI_MADV_DONTNEED);
	else if (what < 233)
		return fork_and_look(k);
	else if (what < 234)
		move_to_a_node(k);
	else if (what < 235)
		task_numa_work(k->mm, 16);
	else if (what < 239)
		reclaim_step(w.e, 4);
	else
		kswapd_run(w.e, rnd_below(&k->rnd, NODES));
	return DONE;
}

static void *work(void *arg)
{
	struct worker *k = arg;

	be_born(k);
	for (;;) {
		for (unsigned i = 0; i < ROUND; i++)
			if (operate(k) == KILLED)
				die_and_be_born(k);
		pthread_barrier_wait(&stopped);
		pthread_barrier_wait(&go_on);
		if (atomic_load(&stop))
			break;
	}
	if (check_all(k) == KILLED)
		k->deaths++;
	end_life(k);
	return NULL;
}

/* ---- who runs the system ---- */

static struct {
	u64 flushed, compacted, quiet;
} done;

/* What the machine may refuse, for a while. */
static void trouble_the_machine(u64 *rnd)
{
	bool on = !rnd_below(rnd, 3);
	struct soft_inject *inject = &w.m->inject;

	atomic_store(&inject->stage_again_every, on ? 23 : 0);
	atomic_store(&inject->set_again_every, on ? 29 : 0);
	atomic_store(&inject->set_most, on && rnd_below(rnd, 2) ? 3 : 0);
	atomic_store(&inject->take_busy_every, on ? 17 : 0);
	atomic_store(&inject->take_again_every, on ? 37 : 0);
}

static void administer(u64 *rnd)
{
	switch (rnd_below(rnd, 10)) {
	case 0:
		turn_any(rnd, false);
		break;
	case 1:
		change_failures(rnd);
		break;
	case 2:
		flusher_ask(w.e, 20);
		done.flushed += flusher_run(w.e, machine_now_ns());
		break;
	case 3:
		/* The disk of the file has its troubles, too. */
		ramfile_fail(files[0], RAMFILE_WRITE, 0, 10, rnd_below(rnd, 2) ? -EIO : 0);
		break;
	case 4:
		if (with.pool)
			resize_pool(rnd);
		break;
	case 5:
		if (with.thp)
			done.compacted += compact_memory(w.e);
		atomic_store(&plenty, rnd_below(rnd, 2));
		break;
	case 6:
		trouble_the_machine(rnd);
		break;
	default:
		turn_any(rnd, true);
	}
}

/* ---- all ---- */

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + (u64)t.tv_nsec / 1000000;
}

static void ignore(const char *text)
{
	(void)text;
}

static void configure(void)
{
	struct engine_config *config = &w.e->config;

	config->oom_kill = true;
	/* What the pool has is not theirs. */
	config->marks.min = frames() / 16;
	config->marks.low = frames() / 8;
	config->marks.high = frames() / 4;
	if (!with.thp)
		return;
	config->folio_orders = 1u << 2 | 1u << 4;
	config->collapse.max_none = HUGE_PAGES - 1;
	config->collapse.max_swap = HUGE_PAGES / 8;
	config->collapse.max_shared = HUGE_PAGES / 2;
}

static void make_files(void)
{
	files[0] = ramfile_create(w.e, FILE_READ | FILE_WRITE, SHARED_PAGES);
	files[1] = shmem_file_setup(w.e, 0);
	for (unsigned f = 0; f < 2; f++)
		if (!files[f] || file_truncate(files[f], P(SHARED_PAGES)))
			STORE_DIE("no files");
	if (with.pool)
		make_pool();
}

static void make_world(void)
{
	u64 all = frames() + (with.pool ? POOL_MOST * HUGE_PAGES : 0);
	struct world_options o = {
		.frames = all,
		.cpus = 2 * WORKERS, /* every other one is a monitor's */
		.nodes = { .nr = NODES, .frames = { all / 2, all - all / 2 } },
		.kept = 100,
		.prefetch = 8,
		.store = first_store(),
		.policy = policy,
		.thp = with.thp ? THP_ALWAYS : THP_NEVER,
	};

	if (world_create(&w, o))
		STORE_DIE("no world");
	soft_load_mm(w.cpu, NULL);
	mm_destroy(w.mm);
	w.mm = NULL;
	configure();
	if (swap_area_off(w.e, 0))
		STORE_DIE("the first area does not go");
	turn_on_all();
	make_files();
}

static void start_background(void)
{
	struct soft_background_options o = {
		.collapse = { .pages = with.thp ? 4 * HUGE_PAGES : 0 },
		.numa = { .pages = 16 },
	};

	if (soft_background_start(w.m, with.background ? &o : NULL, &background))
		STORE_DIE("no threads for the nodes");
}

static void run(u64 *rnd, u64 until)
{
	start_background();
	for (unsigned i = 0; i < WORKERS; i++) {
		struct worker *k = &workers[i];

		k->cpu = &w.m->cpus[2 * i];
		k->number = i;
		k->rnd = rnd_next(rnd) | 1;
		pthread_create(&k->thread, NULL, work, k);
	}
	while (!atomic_load(&stop)) {
		for (unsigned n = rnd_below(rnd, 12); n; n--)
			administer(rnd);
		pthread_barrier_wait(&stopped);
		soft_background_stop(background);
		pthread_rwlock_wrlock(&quiet);
		soft_check(w.m);
		pthread_rwlock_unlock(&quiet);
		done.quiet++;
		if (now_ms() >= until)
			atomic_store(&stop, true);
		start_background();
		pthread_barrier_wait(&go_on);
	}
	for (unsigned i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	soft_background_stop(background);
}

#define ul(x) ((unsigned long)(x))

static struct worker add_up(void)
{
	struct worker t = { 0 };

	for (unsigned i = 0; i < WORKERS; i++) {
		const struct worker *k = &workers[i];

		t.reads += k->reads;
		t.writes += k->writes;
		t.forks += k->forks;
		t.moves += k->moves;
		t.deaths += k->deaths;
		t.buses += k->buses;
		t.lost += k->lost;
		t.collapsed += k->collapsed;
		t.remapped += k->remapped;
		t.refused += k->refused;
		t.pool_lives += k->pool_lives;
		t.pool_refused += k->pool_refused;
		t.pool_buses += k->pool_buses;
	}
	return t;
}

static bool print_huge(const struct worker *t)
{
	const struct engine_stats *stats = w.e->stats;

	printf("nopagelost: huge pages: %lu came with a fault, %lu did not, %lu folios, %lu split, "
	       "%lu collapsed (%lu by advice); %lu ranges remapped, %lu writes refused, %lu pages "
	       "compacted\n",
	       ul(stats->thp_fault_alloc), ul(stats->thp_fault_fallback), ul(stats->folio_alloc),
	       ul(stats->thp_split), ul(stats->thp_collapse), ul(t->collapsed), ul(t->remapped),
	       ul(t->refused), ul(done.compacted));
	return stats->thp_fault_alloc && stats->thp_split && t->remapped && t->refused &&
	       done.compacted && stats->folio_alloc && stats->thp_collapse;
}

static bool print_pool(const struct worker *t)
{
	printf("nopagelost: the pool: %lu areas, %lu refused, %lu accesses without a page\n",
	       ul(t->pool_lives), ul(t->pool_refused), ul(t->pool_buses));
	return t->pool_lives && t->pool_refused && t->pool_buses;
}

/* False: something of what it is for did not come to pass. */
static bool print_totals(void)
{
	const struct engine_stats *stats = w.e->stats;
	struct worker t = add_up();
	bool all = true;

	if (with.thp)
		all &= print_huge(&t);
	if (with.userfault) {
		print_served();
		all &= served_enough();
	}
	if (with.pool)
		all &= print_pool(&t);
	printf("nopagelost: %lu pages read and right, %lu written, %lu forks, %lu moves; %lu minor "
	       "and %lu major faults, %lu to ask which node; %lu kills, %lu deaths; %lu loads and "
	       "%lu saves failed, %lu bus errors, %lu pages given up; %lu areas turned on, %lu "
	       "off, %lu without room, %lu unreadable; %lu pages of files written; %lu quiet "
	       "points; no page lost\n",
	       ul(t.reads), ul(t.writes), ul(t.forks), ul(t.moves), ul(stats->minor),
	       ul(stats->major), ul(stats->numa_hint_faults), ul(stats->oom_kills), ul(t.deaths),
	       ul(failed_loads), ul(failed_saves), ul(t.buses), ul(t.lost), ul(areas_done.ons),
	       ul(areas_done.offs), ul(areas_done.no_room), ul(areas_done.unreadable),
	       ul(done.flushed), ul(done.quiet));
	all = all && stats->major && stats->numa_hint_faults && stats->oom_kills && t.deaths &&
	      t.forks && failed_loads && failed_saves && areas_done.offs && areas_done.no_room &&
	      done.flushed;
	return all || t.reads < MUCH;
}

/* ---- what is asked for ---- */

static bool leave_out(const char *part)
{
	if (!strcmp(part, "thp"))
		with.thp = false;
	else if (!strcmp(part, "userfault"))
		with.userfault = false;
	else if (!strcmp(part, "pool"))
		with.pool = false;
	else if (!strcmp(part, "background"))
		with.background = false;
	else
		return false;
	return true;
}

static bool understand(int argc, char **argv, u64 *seconds)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "policy", required_argument, NULL, 'p' },
		{ "without", required_argument, NULL, 'w' },
		{ 0 },
	};
	bool ok = true;
	int c;

	while (ok && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			*seconds = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'p')
			ok = (policy = policy_find(optarg));
		else
			ok = c == 'w' && leave_out(optarg);
	}
	return ok;
}

int main(int argc, char **argv)
{
	u64 seconds = 10, rnd;
	bool all;

	seed = (u64)time(NULL);
	if (!understand(argc, argv, &seconds)) {
		fprintf(stderr,
			"usage: nopagelost [--seconds N] [--seed S] [--policy "
			"lru|gen|clock|fifo] [--without thp|userfault|pool|background]...\n");
		return 2;
	}
	printf("nopagelost: seed %lu, %lu s, %lu frames for %lu pages\n", ul(seed), ul(seconds),
	       ul(frames()), ul(needed()));
	fflush(stdout);
	rnd = seed * 0x9e3779b97f4a7c15ULL | 1;
	host_on_message(ignore);
	pthread_barrier_init(&stopped, NULL, WORKERS + 1);
	pthread_barrier_init(&go_on, NULL, WORKERS + 1);
	make_stores(with.thp ? needed() * 35 / 100 : needed());
	make_world();
	run(&rnd, now_ms() + seconds * 1000);
	for (unsigned f = 0; f < FILES; f++)
		if (files[f])
			file_put(files[f]);
	all = print_totals();
	world_destroy(&w);
	free_stores();
	if (!all) {
		fprintf(stderr, "nopagelost: something of that never happened\n");
		return 1;
	}
	return 0;
}
