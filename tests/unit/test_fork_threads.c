/* SPDX-License-Identifier: MIT */
/* fork and copy-on-write while threads write, fork and reclaim as they please: of every word it is
 * known what it must be. */
#include <pthread.h>
#include <sched.h>

#include "tests/unit/one_world.h"

#define cpu0 (&w.m->cpus[0])

enum { PAGES = 96, WRITERS = 2, FORKERS = 2, ROUNDS = 60, CHILDS_WORD = 7 };
#define FAMILY_AT(page) (0x40000000ULL + P(page))

/* One word of each page is a writer's, who writes 1, 2, 3 ... to each in turn. */
static struct writer {
	pthread_t thread;
	unsigned number;
	_Atomic u64 begun[PAGES], done[PAGES];
} writers[WRITERS];

static struct forker {
	pthread_t thread;
	unsigned number;
	const char *error;
} forkers[FORKERS];

static _Atomic bool stop;
static unsigned factor = 1;

static void *write_all_the_time(void *arg)
{
	struct writer *k = arg;
	struct soft_cpu *cpu = &w.m->cpus[k->number];

	soft_load_mm(cpu, mm);
	for (unsigned page = 0; !atomic_load(&stop); page = (page + 1) % PAGES) {
		u64 va = FAMILY_AT(page) + 8 * k->number, v = k->begun[page] + 1, before;

		atomic_store(&k->begun[page], v);
		/* A write that is lost in the parent shows at once. */
		if (soft_add_u64(cpu, va, 1, &before) != FAULT_OK || before != v - 1)
			abort();
		atomic_store(&k->done[page], v);
	}
	soft_load_mm(cpu, NULL);
	return NULL;
}

static u64 read_word(struct soft_cpu *cpu, unsigned page, unsigned word)
{
	u64 v = 0;

	if (soft_read_u64(cpu, FAMILY_AT(page) + 8 * word, &v) != FAULT_OK)
		abort();
	return v;
}

/* All that was written before the fork is there, and nothing that was begun after it. */
static const char *snapshot(struct soft_cpu *cpu, u64 low[PAGES][WRITERS], u64 high[PAGES][WRITERS],
			    u64 seen[PAGES][WRITERS])
{
	for (unsigned page = 0; page < PAGES; page++)
		for (unsigned k = 0; k < WRITERS; k++) {
			seen[page][k] = read_word(cpu, page, k);
			if (seen[page][k] < low[page][k])
				return "a write from before the fork is lost in the child";
			if (seen[page][k] > high[page][k])
				return "the child sees a write from after the fork";
		}
	return NULL;
}

static const char *live(struct soft_cpu *cpu, u64 seen[PAGES][WRITERS], u64 tag)
{
	for (unsigned page = 0; page < PAGES; page += 1 + tag % 3)
		if (soft_write_u64(cpu, FAMILY_AT(page) + 8 * CHILDS_WORD, tag) != FAULT_OK)
			return "the child cannot write";
	for (unsigned page = 0; page < PAGES; page++) {
		for (unsigned k = 0; k < WRITERS; k++)
			if (read_word(cpu, page, k) != seen[page][k])
				return "the child sees what the parent writes";
		if (page % (1 + tag % 3) == 0 && read_word(cpu, page, CHILDS_WORD) != tag)
			return "the child's own write is lost";
	}
	return NULL;
}

static const char *fork_once(struct forker *f, unsigned round)
{
	static _Thread_local u64 low[PAGES][WRITERS], high[PAGES][WRITERS], seen[PAGES][WRITERS];
	struct soft_cpu *cpu = &w.m->cpus[WRITERS + f->number];
	struct mm *mine, *grandchild = NULL;
	const char *error;

	for (unsigned page = 0; page < PAGES; page++)
		for (unsigned k = 0; k < WRITERS; k++)
			low[page][k] = atomic_load(&writers[k].done[page]);
	if (mm_fork(mm, &mine))
		return "fork failed";
	for (unsigned page = 0; page < PAGES; page++)
		for (unsigned k = 0; k < WRITERS; k++)
			high[page][k] = atomic_load(&writers[k].begun[page]);
	soft_load_mm(cpu, mine);
	error = snapshot(cpu, low, high, seen);
	if (!error)
		error = live(cpu, seen, 2 * round + 1);
	if (!error && mm_fork(mine, &grandchild))
		error = "fork of a child failed";
	if (!error)
		error = live(cpu, seen, 2 * round + 2);
	if (round % 2) {
		soft_load_mm(cpu, NULL);
		mm_destroy(mine);
		mine = NULL;
	}
	if (!error) {
		soft_load_mm(cpu, grandchild);
		error = live(cpu, seen, 2 * round + 3);
	}
	soft_load_mm(cpu, NULL);
	if (grandchild)
		mm_destroy(grandchild);
	if (mine)
		mm_destroy(mine);
	return error;
}

static void *fork_all_the_time(void *arg)
{
	struct forker *f = arg;

	for (unsigned round = 0; round < ROUNDS * factor && !f->error; round++)
		f->error = fork_once(f, round);
	return NULL;
}

static void *reclaim_all_the_time(void *arg)
{
	(void)arg;
	while (!atomic_load(&stop)) {
		reclaim_direct(w.e, 20);
		reclaim_range(mm, FAMILY_AT(0), FAMILY_AT(PAGES));
		sched_yield();
	}
	return NULL;
}

static void threads(struct world_options o)
{
	pthread_t reclaimer;

	o.cpus = WRITERS + FORKERS;
	o.frames = 2 * PAGES;
	assert_int_equal(world_create(&w, o), 0);
	mm = w.mm;
	soft_load_mm(cpu0, NULL);
	assert_int_equal(vm_map(mm, FAMILY_AT(0), P(PAGES), RW, VMAP_FIXED, 0), FAMILY_AT(0));
	memset(writers, 0, sizeof(writers));
	memset(forkers, 0, sizeof(forkers));
	atomic_store(&stop, false);
	for (unsigned i = 0; i < WRITERS; i++) {
		writers[i].number = i;
		pthread_create(&writers[i].thread, NULL, write_all_the_time, &writers[i]);
	}
	for (unsigned i = 0; i < FORKERS; i++) {
		forkers[i].number = i;
		pthread_create(&forkers[i].thread, NULL, fork_all_the_time, &forkers[i]);
	}
	pthread_create(&reclaimer, NULL, reclaim_all_the_time, NULL);
	for (unsigned i = 0; i < FORKERS; i++)
		pthread_join(forkers[i].thread, NULL);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(writers[i].thread, NULL);
	pthread_join(reclaimer, NULL);
	for (unsigned i = 0; i < FORKERS; i++)
		if (forkers[i].error)
			fail_msg("%s", forkers[i].error);
	soft_load_mm(cpu0, mm);
	for (unsigned page = 0; page < PAGES; page++) {
		for (unsigned i = 0; i < WRITERS; i++)
			assert_int_equal(read_word(cpu0, page, i), writers[i].done[page]);
		assert_int_equal(read_word(cpu0, page, CHILDS_WORD), 0);
	}
	assert_true(w.e->stats->major > 0);
	soft_check(w.m);
	world_destroy(&w);
}

static void writers_and_forkers_page_by_page(void **state)
{
	(void)state;
	threads((struct world_options){ 0 });
}

static void writers_and_forkers_with_streams_and_kept_copies(void **state)
{
	(void)state;
	threads((struct world_options){ .prefetch = 16, .segment = 64, .kept = 40 });
}

/* test_fork_threads [FACTOR]: so many times as long. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writers_and_forkers_page_by_page),
		cmocka_unit_test(writers_and_forkers_with_streams_and_kept_copies),
	};

	if (argc > 1)
		factor = strtoul(argv[1], NULL, 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
