/* SPDX-License-Identifier: MIT */
/*
 * No page is lost: eight processes on eight CPUs of two nodes, on real threads, with a fifth of the
 * memory that they need, while stores fail to read and write, swap areas come and go, and processes
 * are killed for want of memory.
 *
 *   nopagelost [--seconds N] [--seed S] [--policy NAME]
 *
 * Every page is filled with words made of its number and a version, so a process knows each byte
 * that it must find.  What a store fails to read may be SIGBUS; it is never other bytes, and never
 * zeros.  A process that is killed is gone, and another begins in its place; what it had shared
 * is as it left it.  Now and then all stop, and every invariant is checked.
 */
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "engine/migrate/numa.h"
#include "engine/space/calls.h"
#include "machine/soft/background.h"
#include "machine/soft/host.h"
#include "tests/unit/world.h"

enum {
	CPUS = 8,
	OWN_PAGES = 240,   /* of each process */
	FILES = 2,	   /* on a disk, and in shared memory; all map them, */
	SHARED_PAGES = 64, /* and each process has a piece of each of their pages */
	NEEDED = CPUS * OWN_PAGES + FILES * SHARED_PAGES,
	FRAMES = NEEDED / 5,
	NODES = 2,
	PIECE = PAGE_SIZE / CPUS,
	ROUND = 300, /* operations of a process from one quiet point to the next */
	BUS_TRIES = 50,
};

#define P(n)	  ((u64)(n)*PAGE_SIZE)
#define OWN	  (0x30000000ULL - P(OWN_PAGES / 2)) /* across a page table's end */
#define SHARED(f) (0x50000000ULL + P(1000 * (f)))
#define RW	  (UAPI_PROT_READ | UAPI_PROT_WRITE)

static struct world w;
static const struct reclaim_policy *policy; /* NULL: the default */
static struct file *files[FILES];
static u64 seed;
static pthread_barrier_t stopped, go_on;
static _Atomic bool stop;
static struct soft_background *background; /* looks after both nodes, but at quiet points */

static u64 rnd_next(u64 *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1dULL;
}

static unsigned rnd_below(u64 *state, unsigned n)
{
	return (unsigned)((rnd_next(state) >> 11) % n);
}

/* ---- stores that fail ---- */

enum { AREAS = 3 };
static const struct {
	u64 slots;
	int prio;
} areas[AREAS] = { { 800, 5 }, { 800, 5 }, { 500, 1 } };

/* Of so many loads or saves one fails; 0: none.  Changes as they work. */
static _Atomic unsigned load_fails, save_fails;
static _Atomic u64 failed_loads, failed_saves, calls;

struct shaky {
	struct store store;
	char *bytes;
	_Atomic bool *full; /* by slot */
	int type;	    /* of the area; -1: it is off */
};

static struct shaky shaky[AREAS];

static bool fails(_Atomic unsigned *rate, _Atomic u64 *count)
{
	unsigned every = atomic_load_explicit(rate, memory_order_relaxed);
	u64 x = atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + seed;

	x = x * 0x9e3779b97f4a7c15ULL;
	if (!every || (x >> 33) % every)
		return false;
	atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
	return true;
}

static struct shaky *shaky_of(struct store *s)
{
	return container_of(s, struct shaky, store);
}

#define STORE_DIE(what)                                                                            \
	do {                                                                                       \
		fprintf(stderr, "nopagelost: seed %lu: %s\n", (unsigned long)seed, what);          \
		abort();                                                                           \
	} while (0)

static int shaky_save(struct store *s, u64 slot, const void *bytes)
{
	struct shaky *k = shaky_of(s);

	if (slot >= s->nr_slots || atomic_load(&k->full[slot]))
		STORE_DIE("a slot is saved twice");
	if (fails(&save_fails, &failed_saves))
		return calls & 1 ? -EIO : -ENOSPC;
	memcpy(k->bytes + P(slot), bytes, PAGE_SIZE);
	atomic_store(&k->full[slot], true);
	return 0;
}

static int shaky_load(struct store *s, u64 slot, void *bytes)
{
	struct shaky *k = shaky_of(s);

	if (slot >= s->nr_slots || !atomic_load(&k->full[slot]))
		STORE_DIE("a slot is loaded that was never saved");
	if (fails(&load_fails, &failed_loads)) {
		memset(bytes, 0xbd, PAGE_SIZE / 2); /* half of it came */
		return -EIO;
	}
	memcpy(bytes, k->bytes + P(slot), PAGE_SIZE);
	return 0;
}

static bool shaky_same(struct store *s, u64 slot, const void *bytes)
{
	struct shaky *k = shaky_of(s);

	return atomic_load(&k->full[slot]) && !memcmp(k->bytes + P(slot), bytes, PAGE_SIZE);
}

static void shaky_drop(struct store *s, u64 slot)
{
	struct shaky *k = shaky_of(s);

	if (!atomic_load(&k->full[slot]))
		return;
	memset(k->bytes + P(slot), 0xdd, PAGE_SIZE);
	atomic_store(&k->full[slot], false);
}

static const struct store_ops shaky_ops = {
	.kind = "shaky",
	.save = shaky_save,
	.load = shaky_load,
	.same = shaky_same,
	.drop = shaky_drop,
};

static void make_stores(void)
{
	for (unsigned i = 0; i < AREAS; i++) {
		struct shaky *k = &shaky[i];

		k->store.ops = &shaky_ops;
		k->store.nr_slots = areas[i].slots;
		k->bytes = malloc(P(areas[i].slots));
		k->full = calloc(areas[i].slots, sizeof(*k->full));
		k->type = -1;
		if (!k->bytes || !k->full)
			STORE_DIE("no memory for the stores");
	}
}

/* ---- processes ---- */

struct worker {
	pthread_t thread;
	struct soft_cpu *cpu;
	struct mm *mm;
	unsigned number;
	u64 rnd;
	u32 version[OWN_PAGES]; /* 0: zeros */
	u32 shared[FILES][SHARED_PAGES];
	u64 reads, writes, pages_out, drops, forks, moves, deaths, buses, lost;
};

static struct worker workers[CPUS];

#define DIE(k, ...)                                                                                \
	do {                                                                                       \
		fprintf(stderr, "nopagelost: seed %lu, process %u: ", (unsigned long)seed,         \
			(k)->number);                                                              \
		fprintf(stderr, __VA_ARGS__);                                                      \
		fputc('\n', stderr);                                                               \
		abort();                                                                           \
	} while (0)

static void be_born(struct worker *k)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;
	struct oom_owner owner = { .pid = 100 + (int)k->number };

	if (mm_create(w.e, WORLD_LOW, WORLD_HIGH, &k->mm) ||
	    do_mmap(k->mm, OWN, P(OWN_PAGES), RW, flags, NULL, 0) != OWN)
		DIE(k, "it cannot be born");
	for (unsigned f = 0; f < FILES; f++)
		if (do_mmap(k->mm, SHARED(f), P(SHARED_PAGES), RW, UAPI_MAP_SHARED | UAPI_MAP_FIXED,
			    files[f], 0) != (s64)SHARED(f))
			DIE(k, "it has no file %u", f);
	snprintf(owner.name, sizeof(owner.name), "worker%u", k->number);
	mm_set_owner(k->mm, &owner);
	memset(k->version, 0, sizeof(k->version));
	soft_load_mm(k->cpu, k->mm);
}

static void die_and_be_born(struct worker *k)
{
	soft_load_mm(k->cpu, NULL);
	mm_destroy(k->mm);
	k->deaths++;
	be_born(k);
}

/* n words of a page of this process, in this version. */
static void make_words(const struct worker *k, unsigned page, u32 version, u64 *words, unsigned n)
{
	u64 x = ((u64)k->number << 56 | (u64)page << 32 | version) * 0x9e3779b97f4a7c15ULL;

	if (!version)
		memset(words, 0, n * sizeof(*words));
	for (unsigned i = 0; version && i < n; i++)
		words[i] = x + i * 0x0101010101010101ULL;
}

enum end { DONE, KILLED, LOST };

/* As the signals say: the process is dead, or the page is not to be had. */
static enum end end_of(struct worker *k, enum fault_reason reason, const char *what)
{
	if (reason == FAULT_OK)
		return DONE;
	if (reason == FAULT_KILLED)
		return KILLED;
	if (reason != FAULT_BUS || !atomic_load(&failed_loads))
		DIE(k, "%s: reason %d", what, reason);
	k->buses++;
	return LOST;
}

static enum end check_words(struct worker *k, u64 va, unsigned page, u32 version, unsigned n)
{
	u64 got[PAGE_SIZE / 8], want[PAGE_SIZE / 8];
	enum end end = end_of(k, soft_read(k->cpu, va, got, n * 8), "read");

	if (end != DONE)
		return end;
	make_words(k, page, version, want, n);
	for (unsigned i = 0; i < n; i++)
		if (got[i] != want[i])
			DIE(k, "page %u, word %u at %lx: %lx, not %lx (version %u)", page, i,
			    (unsigned long)va, (unsigned long)got[i], (unsigned long)want[i],
			    version);
	k->reads++;
	return DONE;
}

static enum end write_words(struct worker *k, u64 va, unsigned page, u32 *version, unsigned n)
{
	u64 words[PAGE_SIZE / 8];
	u32 next = *version + 1;
	enum end end;

	make_words(k, page, next, words, n);
	end = end_of(k, soft_write(k->cpu, va, words, n * 8), "write");
	if (end == DONE) {
		*version = next;
		k->writes++;
	}
	return end;
}

/* Memory that the store has lost for good is given up. */
static void give_up(struct worker *k, unsigned page)
{
	if (do_madvise(k->mm, OWN + P(page), PAGE_SIZE, UAPI_MADV_DONTNEED) &&
	    !mm_is_oom_victim(k->mm))
		DIE(k, "a lost page cannot be given up");
	k->version[page] = 0;
	k->lost++;
}

static enum end own_page(struct worker *k, unsigned page, bool write)
{
	u64 va = OWN + P(page);
	enum end end = LOST;

	for (unsigned i = 0; i < BUS_TRIES && end == LOST; i++) {
		end = check_words(k, va, page, k->version[page], PAGE_SIZE / 8);
		if (end == DONE && write)
			end = write_words(k, va, page, &k->version[page], PAGE_SIZE / 8);
	}
	if (end == LOST)
		give_up(k, page);
	return end;
}

static enum end shared_page(struct worker *k, unsigned f, unsigned page, bool write)
{
	u64 va = SHARED(f) + P(page) + k->number * PIECE;
	unsigned name = 1000 * (f + 1) + page;
	enum end end = check_words(k, va, name, k->shared[f][page], PIECE / 8);

	if (end == DONE && write)
		end = write_words(k, va, name, &k->shared[f][page], PIECE / 8);
	return end;
}

/* All that the process knows. */
static enum end check_all(struct worker *k)
{
	enum end end = DONE;

	for (unsigned page = 0; page < OWN_PAGES && end != KILLED; page++)
		end = own_page(k, page, false);
	for (unsigned page = 0; page < FILES * SHARED_PAGES && end != KILLED; page++)
		end = shared_page(k, page % FILES, page / FILES, false);
	return end;
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
	child = *k;
	child.mm = mm;
	soft_load_mm(k->cpu, mm);
	for (unsigned i = 0; i < 40 && end != KILLED; i++)
		end = own_page(&child, rnd_below(&child.rnd, OWN_PAGES), rnd_below(&child.rnd, 2));
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

	if (do_madvise(k->mm, OWN + P(page), P(n), advice) && !mm_is_oom_victim(k->mm))
		DIE(k, "advice %u on %u pages at %u", advice, n, page);
	if (advice == UAPI_MADV_DONTNEED) {
		memset(k->version + page, 0, n * sizeof(*k->version));
		k->drops++;
	} else {
		k->pages_out++;
	}
}

static void move_to_a_node(struct worker *k)
{
	u64 page = OWN + P(rnd_below(&k->rnd, OWN_PAGES));
	s32 node = (s32)rnd_below(&k->rnd, NODES), status = -1;

	if (!do_move_pages(k->mm, 1, &page, &node, &status, UAPI_MPOL_MF_MOVE) && status == node)
		k->moves++;
}

static enum end operate(struct worker *k)
{
	unsigned what = rnd_below(&k->rnd, 200);
	bool write = rnd_below(&k->rnd, 2);

	if (what < 140)
		return own_page(k, rnd_below(&k->rnd, OWN_PAGES), write);
	if (what < 185)
		return shared_page(k, rnd_below(&k->rnd, FILES), rnd_below(&k->rnd, SHARED_PAGES),
				   write);
	if (what < 189)
		advise(k, UAPI_MADV_PAGEOUT);
	else if (what < 191)
		advise(k, UAPI_MADV_COLD);
	else if (what < 192)
		advise(k, UAPI_MADV_DONTNEED);
	else if (what < 193)
		return fork_and_look(k);
	else if (what < 194)
		move_to_a_node(k);
	else if (what < 195)
		task_numa_work(k->mm, 16);
	else if (what < 199)
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
	soft_load_mm(k->cpu, NULL);
	mm_destroy(k->mm);
	return NULL;
}

/* ---- who turns areas on and off ---- */

static struct {
	u64 ons, offs, no_room, unreadable, flushed, quiet;
} done;

static void turn_on(struct shaky *k, int prio)
{
	k->type = swap_area_on(w.e, &k->store, prio);
	if (k->type < 0)
		STORE_DIE("an area cannot be turned on");
	done.ons++;
}

static void turn_off(struct shaky *k)
{
	int err = swap_area_off(w.e, (unsigned)k->type);

	if (err == -ENOMEM) {
		done.no_room++;
	} else if (err == -EIO) {
		done.unreadable++;
	} else if (err) {
		STORE_DIE("swapoff fails in some other way");
	} else {
		for (u64 slot = 0; slot < k->store.nr_slots; slot++)
			if (atomic_load(&k->full[slot]))
				STORE_DIE("an area that is off has bytes");
		k->type = -1;
		done.offs++;
	}
}

static void administer(u64 *rnd)
{
	unsigned i = rnd_below(rnd, AREAS);

	switch (rnd_below(rnd, 6)) {
	case 0:
		if (shaky[i].type >= 0)
			turn_off(&shaky[i]);
		break;
	case 1:
		atomic_store(&load_fails, rnd_below(rnd, 3) ? 0 : 5 + rnd_below(rnd, 300));
		atomic_store(&save_fails, rnd_below(rnd, 3) ? 0 : 5 + rnd_below(rnd, 300));
		break;
	case 2:
		flusher_ask(w.e, 20);
		done.flushed += flusher_run(w.e, machine_now_ns());
		break;
	case 3:
		/* The disk of the file has its troubles, too. */
		ramfile_fail(files[0], RAMFILE_WRITE, 0, 10, rnd_below(rnd, 2) ? -EIO : 0);
		break;
	default:
		if (shaky[i].type < 0)
			turn_on(&shaky[i], areas[i].prio);
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

static void make_world(void)
{
	struct world_options o = {
		.frames = FRAMES,
		.cpus = CPUS,
		.nodes = { .nr = NODES, .frames = { FRAMES / 2, FRAMES - FRAMES / 2 } },
		.kept = 100,
		.prefetch = 8,
		.store = &shaky[0].store,
		.policy = policy,
	};

	if (world_create(&w, o))
		STORE_DIE("no world");
	soft_load_mm(w.cpu, NULL);
	mm_destroy(w.mm);
	w.mm = NULL;
	w.e->config.oom_kill = true;
	if (swap_area_off(w.e, 0))
		STORE_DIE("the first area does not go");
	for (unsigned i = 0; i < AREAS; i++)
		turn_on(&shaky[i], areas[i].prio);
	files[0] = ramfile_create(w.e, FILE_READ | FILE_WRITE, SHARED_PAGES);
	files[1] = shmem_file_setup(w.e, 0);
	for (unsigned f = 0; f < FILES; f++)
		if (!files[f] || file_truncate(files[f], P(SHARED_PAGES)))
			STORE_DIE("no files");
}

static void start_background(void)
{
	if (soft_background_start(w.m, &background))
		STORE_DIE("no threads for the nodes");
}

static void run(u64 *rnd, u64 until)
{
	start_background();
	for (unsigned i = 0; i < CPUS; i++) {
		struct worker *k = &workers[i];

		k->cpu = &w.m->cpus[i];
		k->number = i;
		k->rnd = rnd_next(rnd) | 1;
		pthread_create(&k->thread, NULL, work, k);
	}
	while (!atomic_load(&stop)) {
		for (unsigned n = rnd_below(rnd, 6); n; n--)
			administer(rnd);
		pthread_barrier_wait(&stopped);
		soft_background_stop(background);
		soft_check(w.m);
		done.quiet++;
		if (now_ms() >= until)
			atomic_store(&stop, true);
		start_background();
		pthread_barrier_wait(&go_on);
	}
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(workers[i].thread, NULL);
	soft_background_stop(background);
}

/* False: something of what it is for did not come to pass. */
static bool print_totals(void)
{
	const struct engine_stats *stats = w.e->stats;
	struct worker t = { 0 };

	for (unsigned i = 0; i < CPUS; i++) {
		t.reads += workers[i].reads;
		t.writes += workers[i].writes;
		t.forks += workers[i].forks;
		t.moves += workers[i].moves;
		t.deaths += workers[i].deaths;
		t.buses += workers[i].buses;
		t.lost += workers[i].lost;
	}
#define ul(x) ((unsigned long)(x))
	printf("nopagelost: %lu pages read and right, %lu written, %lu forks, %lu moves; %lu minor "
	       "and %lu "
	       "major faults, %lu to ask which node; %lu kills, %lu deaths; %lu loads and %lu "
	       "saves failed, %lu bus "
	       "errors, %lu pages given up; %lu areas turned on, %lu off, %lu without room, %lu "
	       "unreadable; %lu pages of files written; %lu quiet points; no page lost\n",
	       ul(t.reads), ul(t.writes), ul(t.forks), ul(t.moves), ul(stats->minor),
	       ul(stats->major), ul(stats->numa_hint_faults), ul(stats->oom_kills), ul(t.deaths),
	       ul(failed_loads), ul(failed_saves), ul(t.buses), ul(t.lost), ul(done.ons),
	       ul(done.offs), ul(done.no_room), ul(done.unreadable), ul(done.flushed),
	       ul(done.quiet));
	return stats->major && stats->numa_hint_faults && stats->oom_kills && t.deaths && t.forks &&
	       failed_loads && failed_saves && done.offs && done.no_room && done.flushed;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ "policy", required_argument, NULL, 'p' },
		{ 0 },
	};
	u64 seconds = 10, rnd;
	bool all;
	int c;

	seed = (u64)time(NULL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else if (c != 'p' || !(policy = policy_find(optarg))) {
			fprintf(stderr, "usage: nopagelost [--seconds N] [--seed S] "
					"[--policy lru|gen|clock|fifo]\n");
			return 2;
		}
	}
	printf("nopagelost: seed %lu, %lu s, %d frames for %d pages\n", ul(seed), ul(seconds),
	       FRAMES, NEEDED);
	fflush(stdout);
	rnd = seed * 0x9e3779b97f4a7c15ULL | 1;
	host_on_message(ignore);
	pthread_barrier_init(&stopped, NULL, CPUS + 1);
	pthread_barrier_init(&go_on, NULL, CPUS + 1);
	make_stores();
	make_world();
	run(&rnd, now_ms() + seconds * 1000);
	for (unsigned f = 0; f < FILES; f++)
		file_put(files[f]);
	all = print_totals();
	world_destroy(&w);
	for (unsigned i = 0; i < AREAS; i++) {
		free(shaky[i].bytes);
		free((void *)shaky[i].full);
	}
	if (!all && seconds >= 10) {
		fprintf(stderr, "nopagelost: something of that never happened\n");
		return 1;
	}
	return 0;
}
