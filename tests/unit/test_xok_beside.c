/* SPDX-License-Identifier: MIT */
/* Two library operating systems beside one another on one exokernel. */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "engine/reclaim/chosen.h"
#include "systems/exokernel/beside.h"
#include "tests/unit/unit.h"

#define FIFO   0
#define MRU    1
#define FRAMES 64ULL
#define LOOP   96ULL /* pages: half as much again as memory holds */
#define TIMES  8ULL

static struct beside *b;
static struct ledger *ledgers[BESIDE];
static u64 at[BESIDE]; /* each one's loop */

static int setup(void **state)
{
	struct beside_options o = { .cpus = 1,
				    .frames = { FRAMES, FRAMES },
				    .policies = { &policy_fifo, &policy_chosen } };

	(void)state;
	for (unsigned i = 0; i < BESIDE; i++) {
		if (ledger_create(BESIDE, &ledgers[i]))
			return -1;
		o.ledgers[i] = ledgers[i];
	}
	return beside_create(&o, &b);
}

static int teardown(void **state)
{
	(void)state;
	beside_check(b);
	beside_destroy(b);
	for (unsigned i = 0; i < BESIDE; i++)
		ledger_destroy(ledgers[i]);
	return 0;
}

static struct program *program(unsigned side)
{
	return &b->sides[side].program.program;
}

static void map_loop(unsigned side)
{
	const struct program_map a = { .len = LOOP * PAGE_SIZE,
				       .prot = VM_READ | VM_WRITE,
				       .file = -1 };

	at[side] = (u64)program(side)->ops->map(program(side), 0, &a);
}

/* What page i of the side's has. */
static u64 word_of(unsigned side, u64 i)
{
	return 1000 * (side + 1) + i;
}

static bool write_loop(unsigned side)
{
	bool ok = true;

	for (u64 i = 0; i < LOOP; i++) {
		u64 word = word_of(side, i);

		ok &= program(side)->ops->access(program(side), 0, at[side] + i * PAGE_SIZE,
						 PF_WRITE, &word, sizeof(word)) == FAULT_OK;
	}
	return ok;
}

static bool read_loop(unsigned side)
{
	u64 word = 0;
	bool ok = true;

	for (u64 i = 0; i < LOOP; i++) {
		ok &= program(side)->ops->access(program(side), 0, at[side] + i * PAGE_SIZE, 0,
						 &word, sizeof(word)) == FAULT_OK;
		ok &= word == word_of(side, i);
	}
	return ok;
}

static u64 misses(unsigned side)
{
	return program(side)->ops->count(program(side), 0, -1, COUNT_MAJOR);
}

/* That it has beside its exception stack. */
static u64 frames(unsigned side)
{
	return atomic_load(&b->xok.holders[beside_resource(b, side)].frames) - b->xok.stack_pages;
}

/* So often around; the pages that had to be brought back. */
static u64 loops(unsigned side, u64 times)
{
	u64 before = misses(side);

	for (u64 i = 0; i < times; i++)
		assert_true(read_loop(side));
	return misses(side) - before;
}

static void begin_loops(void)
{
	for (unsigned i = 0; i < BESIDE; i++) {
		map_loop(i);
		assert_true(write_loop(i));
		assert_true(read_loop(i)); /* the swap cache is at rest */
	}
}

static void each_replaces_by_its_own_policy(void **state)
{
	u64 fifo, mru;

	(void)state;
	begin_loops();
	fifo = loops(FIFO, TIMES);
	mru = loops(MRU, TIMES);
	/* The oldest page is the one that is needed next. */
	assert_int_equal(fifo, TIMES * LOOP);
	assert_true(mru < fifo / 2);
	assert_true(mru >= TIMES * (LOOP - FRAMES));
}

/* ---- at once ---- */

static void *run_loops(void *arg)
{
	unsigned side = (unsigned)(uintptr_t)arg;
	bool ok = true;

	for (u64 i = 0; i < TIMES; i++)
		ok &= read_loop(side);
	ledger_begin(NULL, 0);
	return ok ? NULL : (void *)1;
}

static void start(pthread_t threads[BESIDE], void *(*run)(void *))
{
	for (uintptr_t i = 0; i < BESIDE; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, run, (void *)i), 0);
}

static void join(pthread_t threads[BESIDE])
{
	for (unsigned i = 0; i < BESIDE; i++) {
		void *result;

		pthread_join(threads[i], &result);
		assert_null(result);
	}
}

/* What one does changes nothing of what the other pays. */
static void at_once_each_pays_what_it_pays_alone(void **state)
{
	u64 alone[BESIDE], before[BESIDE];
	pthread_t threads[BESIDE];

	(void)state;
	begin_loops();
	for (unsigned i = 0; i < BESIDE; i++) {
		alone[i] = loops(i, TIMES);
		loops(i, 8); /* mru comes back to where it was */
		before[i] = misses(i);
	}
	start(threads, run_loops);
	join(threads);
	assert_int_equal(misses(FIFO) - before[FIFO], alone[FIFO]);
	assert_true(misses(MRU) - before[MRU] < alone[FIFO] / 2);
	assert_int_equal(frames(FIFO), FRAMES);
	assert_int_equal(frames(MRU), FRAMES);
}

/* ---- what is the other's ---- */

static void neither_gets_at_what_is_the_other_s(void **state)
{
	u64 first = b->machine->nr_table, others = first + FRAMES + 1, own = first + 1;
	pte_t entry = { 0 }, pte = pte_make(others, PTE_PRESENT | PTE_USER);
	struct page *page = NULL;
	unsigned other = b->sides[1].library.env;
	struct xok *x = &b->xok;

	(void)state;
	begin_loops();
	/* Its own capability; the other's, which it has not; for the other's table. */
	assert_int_equal(xok_insert_pte(x, 0, LIBRARY_CAP, 0, at[0], &entry, &pte, &page, 1),
			 -EACCES);
	assert_int_equal(xok_insert_pte(x, 0, LIBRARY_CAP + 1, 0, at[0], &entry, &pte, &page, 1),
			 -EBADF);
	pte = pte_make(own, PTE_PRESENT | PTE_USER);
	assert_int_equal(xok_insert_pte(x, 0, LIBRARY_CAP, other, at[1], &entry, &pte, &page, 1),
			 -EACCES);
	assert_int_equal(xok_mod_pte(x, 0, LIBRARY_CAP, other, at[1], &entry, pte), -EACCES);
	assert_int_equal(xok_check_removal(x, 0, LIBRARY_CAP, other), -EACCES);
	assert_int_equal(xok_give_frames(x, 0, LIBRARY_CAP, &others, 1), -EACCES);
	assert_int_equal(xok_take_list(x, 0, LIBRARY_CAP, &others, 1), -EBUSY);
	assert_int_equal(xok_guarantee(x, 0, LIBRARY_CAP, others), -EACCES);
	assert_int_equal(xok_set_handler(x, 0, LIBRARY_CAP, other, x->envs[0].fault, NULL),
			 -EACCES);
	assert_int_equal(xok_set_handler(x, 0, LIBRARY_CAP + 1, 0, x->envs[0].fault, NULL), -EBADF);
	assert_int_equal(xok_env_destroy(x, 0, LIBRARY_CAP, other), -EACCES);
	assert_int_equal(xok_env_create(x, 0, other, b->sides[0].mm), -EEXIST);
	assert_int_equal(xok_want_frames(x, 0, LIBRARY_CAP + 1, 1), -EBADF);
	assert_true(pte_none(entry));
	/* There is nothing to be had. */
	assert_int_equal(library_ask(&b->sides[0].library, 1), 0);
}

static void keep_all(void *arg, u64 n)
{
	(void)arg, (void)n;
}

static void read_vector(void *arg)
{
	library_read_vector(arg);
}

static void revoking_of_one_leaves_the_other(void **state)
{
	static const struct xok_entries deaf = { .revoke = keep_all, .repossessed = read_vector };
	u64 before, mru, taken;

	(void)state;
	begin_loops();
	loops(MRU, 8);
	before = loops(MRU, 8);
	for (unsigned i = 0; i < 2; i++) {
		if (i)
			xok_hold(&b->xok, beside_resource(b, FIFO), &deaf, &b->sides[FIFO].library);
		assert_int_equal(xok_revoke(&b->xok, beside_resource(b, FIFO), 16), 16);
		assert_int_equal(frames(FIFO), FRAMES - 16 * (i + 1));
		assert_int_equal(frames(MRU), FRAMES);
		assert_int_equal(xok_richest(&b->xok), beside_resource(b, MRU));
		mru = loops(MRU, 8);
		assert_true(mru <= before + before / 8);
		assert_true(read_loop(FIFO));
		beside_check(b);
	}
	/* What one has lost the other may have: its loop fits, nearly. */
	taken = library_ask(&b->sides[MRU].library, 100);
	assert_int_equal(taken, 32);
	assert_int_equal(frames(MRU), FRAMES + 32);
	loops(MRU, 8);
	assert_true(loops(MRU, 8) < before / 2);
	assert_true(read_loop(FIFO));
}

static void children_are_of_their_parent_s_library(void **state)
{
	(void)state;
	begin_loops();
	for (unsigned i = 0; i < BESIDE; i++) {
		struct program *p = program(i);
		u64 word = 7 + i, got;

		assert_int_equal(p->ops->fork(p, 0, 1), 0);
		p->ops->run(p, 0, 1);
		assert_int_equal(p->ops->access(p, 0, at[i], PF_WRITE, &word, sizeof(word)),
				 FAULT_OK);
		p->ops->run(p, 0, 0);
		assert_true(read_loop(i)); /* the parent's is as it was */
		p->ops->run(p, 0, 1);
		p->ops->access(p, 0, at[i], 0, &got, sizeof(got));
		assert_int_equal(got, word);
	}
	beside_check(b);
	for (unsigned i = 0; i < BESIDE; i++) {
		program(i)->ops->exit(program(i), 1);
		assert_true(read_loop(i));
	}
}

/* ---- what one wants and the other can spare ---- */

static void wish(u64 frames)
{
	for (unsigned i = 0; i < BESIDE; i++)
		b->sides[i].library.wish = frames;
}

static void who_is_short_gets_what_the_other_can_spare(void **state)
{
	(void)state;
	wish(8);
	map_loop(FIFO);
	assert_true(write_loop(FIFO) && read_loop(FIFO));
	assert_true(frames(FIFO) > LOOP);
	assert_int_equal(frames(FIFO) + frames(MRU), BESIDE * FRAMES);
	assert_int_equal(loops(FIFO, TIMES), 0); /* nothing went out */
	/* It is not asked for more than it can do without. */
	assert_int_equal(xok_want_frames(&b->xok, 0, LIBRARY_CAP, BESIDE * FRAMES), 0);
}

static void turn(void *arg, unsigned side)
{
	bool *ok = arg;

	ok[side] = write_loop(side);
	for (u64 i = 0; i < TIMES; i++)
		ok[side] &= read_loop(side);
	program(side)->ops->measured(program(side));
}

/* What the side has paid. */
static u64 paid(unsigned side, enum ledger_counter counter)
{
	return b->sides[side].total[counter];
}

/* The first takes what the second does not want yet, which then gets its part back. */
static void two_that_are_short_have_the_same(void **state)
{
	bool ok[BESIDE] = { false, false };

	(void)state;
	wish(8);
	for (unsigned i = 0; i < BESIDE; i++) {
		map_loop(i);
		beside_measure(&b->sides[i]);
	}
	assert_int_equal(beside_run(b, turn, ok), 0);
	assert_true(ok[FIFO] && ok[MRU]);
	for (unsigned i = 0; i < BESIDE; i++) {
		assert_true(paid(i, PAID_REVOCATIONS) > 0);
		assert_int_equal(frames(i),
				 FRAMES + paid(i, PAID_FRAMES_TAKEN) - paid(i, PAID_FRAMES_GIVEN));
		assert_int_equal(paid(i, PAID_REPOSSESSED), 0);
	}
	assert_int_equal(frames(FIFO) + frames(MRU), BESIDE * FRAMES);
}

/* ---- memory flows ---- */

static _Atomic bool stop;
static _Atomic u64 rounds[BESIDE];

static void *run_until_stopped(void *arg)
{
	unsigned side = (unsigned)(uintptr_t)arg;
	bool ok = true;

	do {
		ok &= write_loop(side) && read_loop(side);
		atomic_fetch_add(&rounds[side], 1);
	} while (!atomic_load(&stop));
	ledger_begin(NULL, 0);
	return ok ? NULL : (void *)1;
}

/* Frames that nobody has. */
static u64 nobodys(void)
{
	u64 n = 0;

	for (u64 i = 0; i < b->xok.nr_frames; i++)
		n += atomic_load(&b->xok.owners[i]) == XOK_KERNEL;
	return n;
}

/* From the richer to the poorer, which goes on running.  How many were taken. */
static u64 let_flow(u64 n)
{
	u32 richest = xok_richest(&b->xok);
	unsigned poor = richest == beside_resource(b, FIFO) ? MRU : FIFO;
	u64 round = atomic_load(&rounds[poor]), taken = xok_revoke(&b->xok, richest, n);

	library_ask(&b->sides[poor].library, n);
	while (atomic_load(&rounds[poor]) < round + 2)
		sched_yield();
	return taken;
}

static void frames_flow_between_two_that_run(void **state)
{
	pthread_t threads[BESIDE];
	u64 taken = 0;

	(void)state;
	begin_loops();
	atomic_store(&stop, false);
	start(threads, run_until_stopped);
	for (unsigned i = 0; i < 10; i++)
		taken += let_flow(24);
	atomic_store(&stop, true);
	join(threads);
	assert_int_equal(taken, 240);
	assert_int_equal(frames(FIFO) + frames(MRU) + nobodys(), BESIDE * FRAMES);
}

static bool taken_enough(void)
{
	u64 n = ledger_sum(ledgers[FIFO], PAID_FRAMES_TAKEN) +
		ledger_sum(ledgers[MRU], PAID_FRAMES_TAKEN);

	return n > 4 * FRAMES;
}

/* Slices of the one or the other end, while both are in the middle of something. */
static void each_wants_frames_of_the_other_while_both_run(void **state)
{
	pthread_t threads[BESIDE];

	(void)state;
	begin_loops();
	wish(8);
	atomic_store(&stop, false);
	start(threads, run_until_stopped);
	for (unsigned i = 0; !taken_enough(); i++) {
		unsigned side = i % BESIDE;
		u64 round = atomic_load(&rounds[side]);

		xok_end_slice(&b->xok, beside_resource(b, side));
		xok_end_slice(&b->xok, beside_resource(b, side));
		atomic_store(&b->sides[!side].library.refused, false);
		while (atomic_load(&rounds[side]) < round + 1)
			sched_yield();
	}
	atomic_store(&stop, true);
	join(threads);
	assert_int_equal(frames(FIFO) + frames(MRU) + nobodys(), BESIDE * FRAMES);
	assert_true(ledger_sum(ledgers[FIFO], PAID_FRAMES_GIVEN) > FRAMES);
	assert_true(ledger_sum(ledgers[MRU], PAID_FRAMES_GIVEN) > FRAMES);
	assert_int_equal(ledger_sum(ledgers[FIFO], PAID_REPOSSESSED), 0);
	assert_int_equal(ledger_sum(ledgers[MRU], PAID_REPOSSESSED), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(each_replaces_by_its_own_policy),
		TEST(at_once_each_pays_what_it_pays_alone),
		TEST(neither_gets_at_what_is_the_other_s),
		TEST(revoking_of_one_leaves_the_other),
		TEST(children_are_of_their_parent_s_library),
		TEST(who_is_short_gets_what_the_other_can_spare),
		TEST(two_that_are_short_have_the_same),
		TEST(frames_flow_between_two_that_run),
		TEST(each_wants_frames_of_the_other_while_both_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
