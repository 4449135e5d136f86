/* SPDX-License-Identifier: MIT */
/*
 * FluidMem's monitor: two spaces whose memory it serves, in a handful of frames' worth of pages.
 * Each space has its CPU, its thread, and knows of every word what it must be.
 */
#include <pthread.h>
#include <sched.h>

#include "systems/fluidmem/fluidmem.h"
#include "tests/unit/unit.h"
#include "tests/unit/world.h"

enum { SPACES = 2, PAGES = 64 };
#define REGION 0x20000000ULL
#define AT(n)  (REGION + (u64)(n)*PAGE_SIZE)
#define SECOND 0x30000000ULL /* half of the pages are in another region */

static struct world w;
static struct fluidmem *fm;
static struct store *kv;
static _Atomic bool slow; /* the store takes its time */
static _Atomic int lost;  /* loads that fail from now on */

/* ---- a store that can be slow, or lose things ---- */

static struct store *inner;
static struct store_ops wrapped_ops;

static int wrapped_save(struct store *s, u64 slot, const void *bytes)
{
	(void)s;
	for (unsigned i = 0; atomic_load(&slow) && i < 50; i++)
		sched_yield();
	return inner->ops->save(inner, slot, bytes);
}
static int wrapped_load(struct store *s, u64 slot, void *bytes)
{
	(void)s;
	if (atomic_load(&lost))
		return -EIO;
	return inner->ops->load(inner, slot, bytes);
}
static void wrapped_drop(struct store *s, u64 slot)
{
	(void)s;
	inner->ops->drop(inner, slot);
}

/* ---- programs ---- */

static struct program {
	struct mm *mm;
	struct soft_cpu *cpu, *monitor_cpu; /* the second is the monitor's, to look at the stage */
	struct fluidmem_space *space;
	pthread_t thread;
	u64 rnd, rounds, expect[PAGES];
	const char *error;
} programs[SPACES];

static u64 page_va(unsigned p)
{
	return p < PAGES / 2 ? AT(p) : SECOND + (u64)(p - PAGES / 2) * PAGE_SIZE;
}

static bool read_stage(void *arg, u64 va, void *bytes)
{
	struct program *pr = arg;

	return soft_read(pr->monitor_cpu, va, bytes, PAGE_SIZE) == FAULT_OK;
}

static bool check_page(struct program *pr, unsigned p)
{
	u64 first, last;

	return soft_read_u64(pr->cpu, page_va(p), &first) == FAULT_OK &&
	       soft_read_u64(pr->cpu, page_va(p) + PAGE_SIZE - 8, &last) == FAULT_OK &&
	       first == pr->expect[p] && last == pr->expect[p];
}

static bool write_page(struct program *pr, unsigned p, u64 word)
{
	pr->expect[p] = word;
	return soft_write_u64(pr->cpu, page_va(p), word) == FAULT_OK &&
	       soft_write_u64(pr->cpu, page_va(p) + PAGE_SIZE - 8, word) == FAULT_OK;
}

static void *run(void *arg)
{
	struct program *pr = arg;
	unsigned at = 0;

	for (u64 i = 0; i < pr->rounds; i++) {
		unsigned p = rnd_below(&pr->rnd, 3) ? at++ % PAGES : rnd_below(&pr->rnd, PAGES);

		if (!check_page(pr, p)) {
			pr->error = "wrong bytes";
			break;
		}
		/* Zeros, too, which are not kept. */
		if (!rnd_below(&pr->rnd, 3) &&
		    !write_page(pr, p, rnd_below(&pr->rnd, 4) ? rnd_next(&pr->rnd) : 0)) {
			pr->error = "a write failed";
			break;
		}
		if (!rnd_below(&pr->rnd, 64)) {
			vm_advise(pr->mm, page_va(p), PAGE_SIZE, VADV_DONTNEED);
			pr->expect[p] = 0;
		}
	}
	return NULL;
}

static void run_all(u64 rounds)
{
	for (unsigned i = 0; i < SPACES; i++) {
		programs[i].rounds = rounds;
		pthread_create(&programs[i].thread, NULL, run, &programs[i]);
	}
}

static void join_all(void)
{
	for (unsigned i = 0; i < SPACES; i++) {
		pthread_join(programs[i].thread, NULL);
		if (programs[i].error)
			fail_msg("space %u: %s", i, programs[i].error);
	}
}

static struct fluidmem_stats stats(void)
{
	struct fluidmem_stats s;

	fluidmem_stats(fm, &s);
	return s;
}

/* ---- set-up ---- */

static void begin(u64 capacity, unsigned prefetch)
{
	struct fluidmem_config config = { .capacity = capacity, .prefetch = prefetch };

	assert_int_equal(
		world_create(&w, (struct world_options){ .cpus = 2 * SPACES + 1, .frames = 512 }),
		0);
	assert_int_equal(
		memory_store_create(&world_memory, COMPRESS_LZ4, SPACES * PAGES + 8, 0, 8, &inner),
		0);
	wrapped_ops = *inner->ops;
	wrapped_ops.save = wrapped_save;
	wrapped_ops.load = wrapped_load;
	wrapped_ops.drop = wrapped_drop;
	kv = calloc(1, sizeof(*kv));
	kv->ops = &wrapped_ops;
	kv->nr_slots = inner->nr_slots;
	config.store = kv;
	slow = false;
	lost = 0;
	assert_int_equal(fluidmem_create(&config, &fm), 0);
	for (unsigned i = 0; i < SPACES; i++) {
		struct program *pr = &programs[i];

		*pr = (struct program){ .rnd = i + 1 };
		assert_int_equal(mm_create(w.e, WORLD_LOW, WORLD_HIGH, &pr->mm), 0);
		pr->cpu = &w.m->cpus[1 + 2 * i];
		pr->monitor_cpu = &w.m->cpus[2 + 2 * i];
		soft_load_mm(pr->cpu, pr->mm);
		soft_load_mm(pr->monitor_cpu, pr->mm);
		assert_int_equal(fluidmem_attach(fm, pr->mm, read_stage, pr, &pr->space), 0);
		for (unsigned half = 0; half < 2; half++) {
			u64 at = half ? SECOND : REGION, len = PAGES / 2 * PAGE_SIZE;

			vm_map(pr->mm, at, len, VM_READ | VM_WRITE, VMAP_FIXED, 0);
			assert_int_equal(fluidmem_add_region(pr->space, at, len), 0);
		}
	}
}

static void check_all(void)
{
	for (unsigned i = 0; i < SPACES; i++)
		for (unsigned p = 0; p < PAGES; p++)
			assert_true(check_page(&programs[i], p));
}

static void end(void)
{
	for (unsigned i = 0; i < SPACES; i++)
		assert_int_equal(fluidmem_detach(programs[i].space), 0);
	/* Nobody serves it any more, and it is all there. */
	check_all();
	assert_int_equal(stats().resident, 0);
	assert_int_equal(stats().stored, 0);
	fluidmem_destroy(fm);
	assert_int_equal(atomic_load(&inner->stats.raw_bytes), 0);
	memory_store_destroy(inner);
	free(kv);
	soft_check(w.m);
	for (unsigned i = 0; i < SPACES; i++) {
		soft_load_mm(programs[i].cpu, NULL);
		soft_load_mm(programs[i].monitor_cpu, NULL);
		mm_destroy(programs[i].mm);
	}
	world_destroy(&w);
}

/* ---- tests ---- */

static void is_plausible(const struct timing *t)
{
	u64 all = 0, least = 0;

	assert_true(t->count && t->max_ns);
	assert_true(t->total_ns >= t->max_ns && t->total_ns <= t->count * t->max_ns);
	for (unsigned i = 0; i < TIMING_CLASSES; i++) {
		all += t->classes[i];
		least += i ? t->classes[i] << (i - 1) : 0;
	}
	assert_int_equal(all, t->count);
	assert_true(t->total_ns >= least && t->total_ns <= 2 * least);
	assert_true(timing_at(t, 50) <= timing_at(t, 99) && timing_at(t, 99) <= t->max_ns);
}

static void a_distribution_has_each_time_in_its_class(void **state)
{
	struct timing t = { 0 };

	(void)state;
	assert_int_equal(timing_at(&t, 50), 0);
	for (unsigned i = 0; i < 90; i++)
		timing_note(&t, i % 2 ? 512 : 1023);
	for (unsigned i = 0; i < 9; i++)
		timing_note(&t, 1024);
	timing_note(&t, 70000);
	assert_int_equal(t.classes[10], 90);
	assert_int_equal(t.classes[11], 9);
	assert_int_equal(t.classes[17], 1);
	assert_int_equal(timing_at(&t, 50), 1024);
	assert_int_equal(timing_at(&t, 90), 1024);
	assert_int_equal(timing_at(&t, 91), 2048);
	assert_int_equal(timing_at(&t, 99), 2048);
	assert_int_equal(timing_at(&t, 100), 70000);
	timing_note(&t, 0);
	assert_int_equal(t.classes[0], 1);
	timing_note(&t, ~0ULL);
	assert_int_equal(t.classes[TIMING_CLASSES - 1], 1);
	assert_int_equal(timing_at(&t, 100), ~0ULL);
}

static void a_handful_of_pages_is_enough(void **state)
{
	struct fluidmem_stats s;

	(void)state;
	begin(4, 0);
	run_all(3000);
	join_all();
	/* Where the writer has had no CPU all was stolen back: have it write, and read that. */
	while (stats().writing)
		sched_yield();
	check_all();
	s = stats();
	assert_true(s.resident <= 4 && s.evictions > 100 && s.zeros > 10);
	for (unsigned b = 0; b < NR_FLUIDMEM_BUCKETS; b++)
		if (b != PREFETCH && b != HANDLE_USERFAULT_STEAL)
			is_plausible(&s.timing[b]);
	end();
}

static void it_is_resized_while_it_runs(void **state)
{
	static const u64 sizes[] = { 3, 100, 1, 20, 2, 64, 5 };

	(void)state;
	begin(50, 0);
	run_all(6000);
	for (unsigned i = 0; i < 70; i++) {
		fluidmem_resize(fm, sizes[i % 7]);
		sched_yield();
	}
	fluidmem_resize(fm, 2);
	join_all();
	check_all();
	assert_true(stats().resident <= 2);
	end();
}

static void a_page_on_the_write_list_is_taken_back(void **state)
{
	(void)state;
	begin(2, 0);
	slow = true;
	run_all(1500);
	join_all();
	assert_true(stats().stolen > 0);
	assert_true(stats().timing[HANDLE_USERFAULT_STEAL].count > 0);
	slow = false;
	fluidmem_flush(fm);
	assert_int_equal(stats().writing, 0);
	end();
}

static void what_follows_comes_along(void **state)
{
	u64 faults;

	(void)state;
	begin(16, 4);
	for (unsigned p = 0; p < PAGES; p++)
		assert_true(write_page(&programs[0], p, p + 1));
	fluidmem_flush(fm);
	faults = stats().faults;
	for (unsigned p = 0; p < 20; p++)
		assert_true(check_page(&programs[0], p));
	assert_int_equal(stats().faults - faults, 4); /* one, and four with it */
	assert_int_equal(stats().prefetched, 16);
	end();
}

static void what_the_store_has_lost_is_an_error_and_no_zeros(void **state)
{
	u64 word;

	(void)state;
	begin(2, 0);
	for (unsigned p = 0; p < 8; p++)
		assert_true(write_page(&programs[0], p, p + 1));
	fluidmem_flush(fm);
	lost = 1;
	assert_int_equal(soft_read_u64(programs[0].cpu, page_va(0), &word), FAULT_BUS);
	assert_int_equal(fluidmem_detach(programs[0].space), -EIO);
	assert_int_equal(stats().store_errors, 2);
	lost = 0;
	/* The poison goes when the page comes. */
	assert_int_equal(fluidmem_detach(programs[0].space), 0);
	assert_int_equal(
		fluidmem_attach(fm, programs[0].mm, read_stage, &programs[0], &programs[0].space),
		0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_distribution_has_each_time_in_its_class),
		cmocka_unit_test(a_handful_of_pages_is_enough),
		cmocka_unit_test(it_is_resized_while_it_runs),
		cmocka_unit_test(a_page_on_the_write_list_is_taken_back),
		cmocka_unit_test(what_follows_comes_along),
		cmocka_unit_test(what_the_store_has_lost_is_an_error_and_no_zeros),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
