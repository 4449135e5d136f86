/* SPDX-License-Identifier: MIT */
/*
 * Eight CPUs on real threads do everything at once, in three spaces that they share, with next to
 * no memory; now and then all stop, and every invariant and every byte that is known is checked.
 *
 *   threads [--seconds N] [--seed S]
 *
 * Each thread has one word of each page, at its own offset, which nobody else writes to; so it
 * knows what must be there:
 *
 *   COUNTED   private memory of each space, which any thread may write-protect for a while: a write
 *             that is refused has not been done
 *   OWN       a window of each thread's in each space, next to the others': only it maps, unmaps,
 *             protects, moves and advises there, private memory and private copies of files
 *   FILES     pages that are never cut, of a file on a disk and of one in shared memory, which all
 *             spaces map
 *   SCRATCH   everybody does anything, and the files' ends come and go: a word there is zero or the
 *             thread's tag
 *
 * Threads fork the space that they are in, compare the child with what they know, live in it and
 * end it.  While all stand still, a space is at times replaced by a child of its own.
 */
#include <getopt.h>
#include <string.h>
#include <time.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "tests/soak/threads.h"

static const struct {
	const char *name;
	unsigned weight;
} ops[NR_OPS] = {
	[OP_COUNT] = { "count", 30 },
	[OP_GUARD] = { "guard", 2 },
	[OP_DROP] = { "drop file pages", 2 },
	[OP_FILE] = { "count in files", 14 },
	[OP_OWN_TOUCH] = { "touch own", 20 },
	[OP_OWN_MAP] = { "map own", 5 },
	[OP_OWN_UNMAP] = { "unmap own", 2 },
	[OP_OWN_PROTECT] = { "protect own", 4 },
	[OP_OWN_MOVE] = { "move own", 3 },
	[OP_OWN_ADVISE] = { "advise own", 3 },
	[OP_SCRATCH_TOUCH] = { "touch scratch", 16 },
	[OP_SCRATCH_CHANGE] = { "change scratch", 8 },
	[OP_CUT] = { "cut files", 1 },
	[OP_CLEAN] = { "clean files", 1 },
	[OP_RECLAIM] = { "reclaim", 4 },
	[OP_MIGRATE] = { "migrate", 8 },
	[OP_FORK] = { "fork", 2 },
	[OP_SWITCH] = { "switch space", 1 },
};

struct world w;
struct mm *spaces[SPACES];
struct file *files[FILES];
static struct worker workers[CPUS];
static pthread_barrier_t stopped, go_on;
static _Atomic bool stop;
u64 seed;

void tell_of_frames(void)
{
	fprintf(stderr,
		"threads: %lu frames: %lu free, %lu evictable, %lu unevictable, %lu "
		"leaving\n",
		(unsigned long)w.e->zones[ZONE_USER].nr,
		(unsigned long)zone_free_pages(w.e, ZONE_USER), (unsigned long)lru_evictable(w.e),
		(unsigned long)lru_unevictable(w.e), (unsigned long)w.e->lru.nr_writeout);
}

/* ---- running ---- */

static void switch_space(struct worker *k)
{
	k->space = below(k, SPACES);
	soft_load_mm(k->cpu, spaces[k->space]);
}

static enum op choose(struct worker *k)
{
	unsigned sum = 0, at;
	enum op op = 0;

	for (unsigned i = 0; i < NR_OPS; i++)
		sum += ops[i].weight;
	at = below(k, sum);
	while (at >= ops[op].weight)
		at -= ops[op++].weight;
	return op;
}

static void operate(struct worker *k)
{
	struct known *known = &k->known[k->space];
	unsigned page = below(k, OWN_PAGES), n = 1 + below(k, OWN_PAGES - page);
	enum op op = choose(k);

	k->done[op]++;
	switch (op) {
	case OP_COUNT:
		count(k, known);
		break;
	case OP_GUARD:
		guard(k);
		break;
	case OP_DROP:
		drop_file_pages(k);
		break;
	case OP_FILE:
		count_in_file(k);
		break;
	case OP_OWN_TOUCH:
		touch_own(k, known);
		break;
	case OP_OWN_MAP:
		map_own(k, page, n);
		break;
	case OP_OWN_UNMAP:
		unmap_own(k, page, 1 + n / 4);
		break;
	case OP_OWN_PROTECT:
		protect_own(k, page, n);
		break;
	case OP_OWN_MOVE:
		move_own(k, page, 1 + n / 4);
		break;
	case OP_OWN_ADVISE:
		advise_own(k, page);
		break;
	case OP_SCRATCH_TOUCH:
		touch_scratch(k);
		break;
	case OP_SCRATCH_CHANGE:
		change_scratch(k);
		break;
	case OP_CUT:
		cut(k);
		break;
	case OP_CLEAN:
		clean(k);
		break;
	case OP_RECLAIM:
		reclaim(k);
		break;
	case OP_MIGRATE:
		migrate(k);
		break;
	case OP_FORK:
		fork_space(k);
		break;
	default:
		switch_space(k);
	}
}

static void *work(void *arg)
{
	struct worker *k = arg;

	soft_load_mm(k->cpu, spaces[k->space]);
	for (;;) {
		for (unsigned i = 0; i < ROUND; i++)
			operate(k);
		soft_load_mm(k->cpu, NULL);
		pthread_barrier_wait(&stopped);
		pthread_barrier_wait(&go_on);
		if (atomic_load(&stop))
			return NULL;
		soft_load_mm(k->cpu, spaces[k->space]);
	}
}

/* ---- quiet points ---- */

/* All that anybody knows, by his own CPU. */
static void check_all_words(void)
{
	for (unsigned i = 0; i < CPUS; i++) {
		struct worker *k = &workers[i];
		unsigned was = k->space;

		for (k->space = 0; k->space < SPACES; k->space++) {
			soft_load_mm(k->cpu, spaces[k->space]);
			check_known(k, &k->known[k->space]);
		}
		k->space = was;
		soft_load_mm(k->cpu, NULL);
		for (unsigned f = 0; f < FILES; f++)
			for (unsigned page = 0; page < KEPT_PAGES; page++) {
				u64 word = 0, pos = word_at(k, P(page));

				if (file_read(files[f], pos, &word, 8) != 8)
					DIE(k, "file %u cannot be read", f);
				expect_word(k, "file read", pos, word, k->in_files[f][page]);
			}
	}
}

/* A space gives way to a child of its own. */
static void replace_space(unsigned n)
{
	struct mm *child;

	if (mm_fork(spaces[n], &child))
		DIE(&workers[0], "fork at a quiet point");
	mm_destroy(spaces[n]);
	spaces[n] = child;
	for (unsigned i = 0; i < CPUS; i++) {
		struct known mine;

		inherit(&mine, &workers[i].known[n]);
		workers[i].known[n] = mine;
	}
}

static u64 now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- worlds ---- */

/* How a world can be. */
static const struct world_options kinds[] = {
	{ .frames = 48, .kept = 1000 },
	{ .frames = 72, .prefetch = 16, .segment = 64, .kept = 30, .compress = COMPRESS_LZ4 },
	{ .frames = 160, .prefetch = 4, .segment = 32 },
	{ .frames = 64, .prefetch = 8, .segment = 8, .kept = 100 }, /* whose machine fails often */
};

static void make_space(unsigned n)
{
	u64 flags = UAPI_MAP_ANONYMOUS | UAPI_MAP_PRIVATE | UAPI_MAP_FIXED;

	if ((n ? mm_create(w.e, WORLD_LOW, WORLD_HIGH, &spaces[n]) : 0) ||
	    do_mmap(spaces[n], COUNTED, P(COUNTED_PAGES), RW, flags, NULL, 0) != COUNTED)
		DIE(&workers[0], "no space");
	for (unsigned f = 0; f < FILES; f++)
		if (do_mmap(spaces[n], FILE_AT(f), P(FILE_PAGES), RW,
			    UAPI_MAP_SHARED | UAPI_MAP_FIXED, files[f], 0) != (s64)FILE_AT(f))
			DIE(&workers[0], "no mapping of file %u", f);
}

static void make_world(unsigned kind)
{
	struct world_options o = kinds[kind];

	o.cpus = CPUS;
	o.slots = 16384;
	memset(workers, 0, sizeof(workers));
	if (world_create(&w, o)) {
		fprintf(stderr, "threads: no world\n");
		exit(1);
	}
	soft_load_mm(w.cpu, NULL);
	spaces[0] = w.mm;
	w.mm = NULL;
	files[0] = ramfile_create(w.e, FILE_READ | FILE_WRITE, 4 * FILE_PAGES);
	files[1] = shmem_file_setup(w.e, 0);
	for (unsigned f = 0; f < FILES; f++)
		if (!files[f] || file_truncate(files[f], P(FILE_PAGES)))
			DIE(&workers[0], "no file %u", f);
	for (unsigned n = 0; n < SPACES; n++)
		make_space(n);
	if (kind == 3) {
		w.m->inject.stage_again_every = 23;
		w.m->inject.set_again_every = 29;
		w.m->inject.set_most = 3;
		w.m->inject.take_busy_every = 17;
		w.m->inject.take_again_every = 37;
	}
}

static void end_world(void)
{
	for (unsigned n = 0; n < SPACES; n++)
		mm_destroy(spaces[n]);
	for (unsigned f = 0; f < FILES; f++)
		file_put(files[f]);
	world_destroy(&w);
}

/* Totals of all worlds. */
static struct {
	u64 done[NR_OPS], refused, buses, quiet, replaced;
	u64 minor, major, evicted, second_chance;
} total;

static void add_up(void)
{
	for (unsigned i = 0; i < CPUS; i++) {
		for (unsigned op = 0; op < NR_OPS; op++)
			total.done[op] += workers[i].done[op];
		total.refused += workers[i].refused;
		total.buses += workers[i].buses;
	}
	total.minor += w.e->stats->minor;
	total.major += w.e->stats->major;
	total.second_chance += w.e->stats->second_chance;
	total.evicted += w.e->stats->evicted_clean + w.e->stats->evicted_dirty;
}

static void run_world(unsigned kind, u64 *rnd, u64 until)
{
	make_world(kind);
	atomic_store(&stop, false);
	for (unsigned i = 0; i < CPUS; i++) {
		struct worker *k = &workers[i];

		k->cpu = &w.m->cpus[i];
		k->number = i;
		k->space = i % SPACES;
		k->rnd = rnd_next(rnd) | 1;
		pthread_create(&k->thread, NULL, work, k);
	}
	while (!atomic_load(&stop)) {
		pthread_barrier_wait(&stopped);
		soft_check(w.m);
		check_all_words();
		soft_check(w.m);
		total.quiet++;
		/* The first time in any case: a run of seconds on a busy machine has few. */
		if (!total.replaced || rnd_next(rnd) >> 11 & 1) {
			replace_space((rnd_next(rnd) >> 11) % SPACES);
			total.replaced++;
		}
		if (now_ms() >= until)
			atomic_store(&stop, true);
		pthread_barrier_wait(&go_on);
	}
	for (unsigned i = 0; i < CPUS; i++)
		pthread_join(workers[i].thread, NULL);
	add_up();
	end_world();
}

static void print_totals(void)
{
	u64 all = 0;

	for (unsigned op = 0; op < NR_OPS; op++) {
		printf("%s%s %lu", op ? ", " : "threads: ", ops[op].name,
		       (unsigned long)total.done[op]);
		all += total.done[op];
	}
	printf("\nthreads: %lu operations, %lu quiet points, %lu spaces replaced by a child; "
	       "%lu minor and %lu major faults, %lu second chances, %lu pages evicted, "
	       "%lu moved; %lu accesses refused, %lu bus errors; nothing wrong\n",
	       (unsigned long)all, (unsigned long)total.quiet, (unsigned long)total.replaced,
	       (unsigned long)total.minor, (unsigned long)total.major,
	       (unsigned long)total.second_chance, (unsigned long)total.evicted,
	       (unsigned long)atomic_load(&migrated), (unsigned long)total.refused,
	       (unsigned long)total.buses);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "seed", required_argument, NULL, 'r' },
		{ 0 },
	};
	enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
	u64 seconds = 3, start = now_ms(), rnd;
	int c;

	seed = (u64)time(NULL);
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 's')
			seconds = strtoull(optarg, NULL, 0);
		else if (c == 'r')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	printf("threads: seed %lu, %lu s\n", (unsigned long)seed, (unsigned long)seconds);
	fflush(stdout);
	rnd = seed * 0x9e3779b97f4a7c15ULL | 1;
	pthread_barrier_init(&stopped, NULL, CPUS + 1);
	pthread_barrier_init(&go_on, NULL, CPUS + 1);
	for (unsigned i = 0; i < KINDS; i++) {
		run_world(i, &rnd, start + seconds * 1000 * (i + 1) / KINDS);
		printf("threads: %lu ms, %lu quiet points, %lu faults\n",
		       (unsigned long)(now_ms() - start), (unsigned long)total.quiet,
		       (unsigned long)(total.minor + total.major));
		fflush(stdout);
	}
	print_totals();
	if (!total.major) {
		fprintf(stderr, "threads: nothing came back from the store: run it for longer\n");
		return 1;
	}
	return 0;
}
