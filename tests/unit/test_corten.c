/* SPDX-License-Identifier: MIT */
/* CortenMM's cursors: what they lock, what a table knows, and who waits for whom. */
#include <pthread.h>
#include <sched.h>

#include "engine/space/uapi.h"
#include "tests/unit/corten_world.h"

static void lock(struct corten_cursor *cur, unsigned cpu, u64 start, u64 len)
{
	corten_lock(cur, c->spaces[0], cpu, start, start + len);
}

/* ---- what is locked ---- */

static void the_smallest_table_that_covers_a_range_is_locked(void **state)
{
	struct corten_cursor cur;

	(void)state;
	lock(&cur, 0, AT, PAGE_SIZE); /* there is none yet but the root */
	assert_int_equal(cur.level, LEVEL_P4D);
	corten_unlock(&cur);
	map_at(0, AT, PAGE_SIZE, VM_READ | VM_WRITE);
	lock(&cur, 0, AT, 2 * MB);
	assert_int_equal(cur.level, LEVEL_PTE);
	corten_unlock(&cur);
	lock(&cur, 0, AT + MB, 2 * MB); /* of two last tables, of which one is there */
	assert_int_equal(cur.level, LEVEL_PMD);
	corten_unlock(&cur);
	lock(&cur, 0, AT - PAGE_SIZE, 2 * PAGE_SIZE); /* across a gigabyte */
	assert_int_equal(cur.level, LEVEL_PUD);
	corten_unlock(&cur);
}

static void a_cursor_reaches_no_further_than_its_range(void **state)
{
	struct corten_meta meta = { .kind = CORTEN_ANON, .prot = VM_READ };
	struct corten_state what;
	struct corten_cursor cur;

	(void)state;
	lock(&cur, 0, AT, 4 * PAGE_SIZE);
	assert_int_equal(corten_query(&cur, AT + 4 * PAGE_SIZE, &what), -EINVAL);
	assert_int_equal(corten_mark(&cur, AT, AT + 5 * PAGE_SIZE, &meta), -EINVAL);
	assert_int_equal(corten_mark(&cur, AT - PAGE_SIZE, AT, &meta), -EINVAL);
	assert_int_equal(corten_unmap(&cur, AT + 3 * PAGE_SIZE, AT + 5 * PAGE_SIZE), -EINVAL);
	assert_null(corten_meta_at(&cur, AT - PAGE_SIZE));
	assert_int_equal(corten_mark(&cur, AT, AT + 4 * PAGE_SIZE, &meta), 0);
	assert_int_equal(corten_query(&cur, AT + 3 * PAGE_SIZE, &what), 0);
	assert_int_equal(what.meta.kind, CORTEN_ANON);
	corten_unlock(&cur);
}

/* ---- records above the last tables ---- */

static void a_large_area_is_a_few_records(void **state)
{
	u64 before = atomic_load(&c->tables.nr_tables);

	(void)state;
	assert_int_equal(map_at(0, 1ULL << 40, 64ULL << 30, VM_READ | VM_WRITE), 1ULL << 40);
	assert_int_equal(atomic_load(&c->tables.nr_tables) - before, 1);
	assert_int_equal(write_at(0, (1ULL << 40) + (5ULL << 30) + 7 * PAGE_SIZE, 3), FAULT_OK);
	assert_int_equal(atomic_load(&c->tables.nr_tables) - before, 3);
	assert_int_equal(read_at(0, (1ULL << 40) + (5ULL << 30) + 6 * PAGE_SIZE), 0);
	assert_int_equal(read_at(0, (1ULL << 40) + (64ULL << 30) - PAGE_SIZE), 0);
	assert_int_equal(read_at(0, (1ULL << 40) + (64ULL << 30)), -1);
}

static void a_record_is_divided_where_a_part_changes(void **state)
{
	(void)state;
	map_at(0, AT, 1024 * MB, VM_READ | VM_WRITE);
	assert_int_equal(
		s->program->ops->unmap(s->program, 0, AT + 512 * MB + PAGE_SIZE, PAGE_SIZE), 0);
	assert_int_equal(s->program->ops->protect(s->program, 0, AT + 600 * MB, PAGE_SIZE, VM_READ),
			 0);
	assert_int_equal(write_at(0, AT + 512 * MB, 1), FAULT_OK);
	assert_int_equal(write_at(0, AT + 512 * MB + PAGE_SIZE, 1), FAULT_MAPERR);
	assert_int_equal(write_at(0, AT + 512 * MB + 2 * PAGE_SIZE, 1), FAULT_OK);
	assert_int_equal(write_at(0, AT + 600 * MB, 1), FAULT_ACCERR);
	assert_int_equal(write_at(0, AT + 600 * MB + PAGE_SIZE, 1), FAULT_OK);
	assert_int_equal(s->program->ops->protect(s->program, 0, AT, 1024 * MB, VM_READ), -ENOMEM);
}

static void tables_that_map_nothing_go(void **state)
{
	u64 before;

	(void)state;
	map_at(0, AT, PAGE_SIZE, VM_READ | VM_WRITE);
	before = atomic_load(&c->tables.nr_tables);
	map_at(0, AT + 2 * MB, 4 * MB, VM_READ | VM_WRITE);
	for (u64 va = AT + 2 * MB; va < AT + 6 * MB; va += 64 * PAGE_SIZE)
		assert_int_equal(write_at(0, va, 1), FAULT_OK);
	assert_int_equal(atomic_load(&c->tables.nr_tables), before + 2);
	assert_int_equal(s->program->ops->unmap(s->program, 0, AT + 2 * MB, 4 * MB), 0);
	assert_int_equal(atomic_load(&c->tables.nr_tables), before);
}

/* Frame 0, too, which comes early or late, by how many there are. */
static void every_frame_of_tables_can_be_one(void **state)
{
	u64 n = 0, all = c->machine->nr_table;

	(void)state;
	while (n < all && map_at(0, AT + n * 2 * MB, PAGE_SIZE, VM_READ | VM_WRITE) > 0)
		n++;
	assert_int_equal(atomic_load(&c->tables.nr_tables), all);
	assert_int_equal(map_at(0, AT + n * 2 * MB, PAGE_SIZE, VM_READ), -ENOMEM);
	assert_int_equal(s->program->ops->fork(s->program, 0, 1), -ENOMEM);
	for (u64 i = 0; i < n; i++)
		assert_int_equal(write_at(0, AT + i * 2 * MB, 1), FAULT_OK);
	assert_int_equal(s->program->ops->unmap(s->program, 0, AT, 32 * MB), 0);
	assert_int_equal(map_at(0, AT + n * 2 * MB, PAGE_SIZE, VM_READ), AT + n * 2 * MB);
}

/* ---- several CPUs ---- */

static struct toucher {
	pthread_t thread;
	unsigned cpu;
	u64 start, len;
	_Atomic bool done;
	enum fault_reason reason;
} touchers[CPUS];

static void *touch(void *arg)
{
	struct toucher *t = arg;

	for (u64 va = t->start; va < t->start + t->len && !t->reason; va += PAGE_SIZE)
		t->reason = write_at(t->cpu, va, (u8)t->cpu + 1);
	atomic_store(&t->done, true);
	return NULL;
}

static void start(unsigned cpu, u64 at, u64 len)
{
	touchers[cpu] = (struct toucher){ .cpu = cpu, .start = at, .len = len };
	pthread_create(&touchers[cpu].thread, NULL, touch, &touchers[cpu]);
}

static void finish(unsigned cpu)
{
	pthread_join(touchers[cpu].thread, NULL);
	assert_int_equal(touchers[cpu].reason, FAULT_OK);
}

/* Of each table, whose lock was taken since by more than one CPU. */
static unsigned shared_locks(void)
{
	unsigned n = 0;

	for (u64 i = 0; i < c->machine->nr_table; i++) {
		u64 takers = atomic_load(&c->tables.tables[i].takers);

		n += (takers & (takers - 1)) != 0;
	}
	return n;
}

/* The published relation. */
static void first_touches_of_disjoint_ranges_share_no_lock(void **state)
{
	struct lab_result r;

	(void)state;
	for (unsigned i = 0; i < CPUS; i++) {
		map_at(0, AT + i * 2 * MB, 2 * MB, VM_READ | VM_WRITE);
		write_at(0, AT + i * 2 * MB, 1); /* its table is there */
	}
	for (u64 i = 0; i < c->machine->nr_table; i++)
		atomic_store(&c->tables.tables[i].takers, 0);
	system_measure(s);
	for (unsigned i = 0; i < CPUS; i++)
		start(i, AT + i * 2 * MB + PAGE_SIZE, 255 * PAGE_SIZE);
	for (unsigned i = 0; i < CPUS; i++)
		finish(i);
	system_measured(s);
	assert_int_equal(s->total[PAID_EXCEPTIONS], CPUS * 255);
	assert_int_equal(s->total[PAID_LOCKS_TABLE], CPUS * 255);
	assert_int_equal(s->total[PAID_RETRIES], 0);
	assert_int_equal(s->total[PAID_LOCKS_SPACE], 0);
	assert_int_equal(shared_locks(), 0);
	/* Where the space has one lock, every fault takes that. */
	lab_run(system_find("linux-old"), workload_find("parallel"), 0, &r);
	assert_int_equal(r.verdict, LAB_OK);
	assert_true(r.counts[PAID_LOCKS_SPACE] >= 256);
	lab_run(&corten_system, workload_find("parallel"), 0, &r);
	assert_int_equal(r.verdict, LAB_OK);
	assert_int_equal(r.counts[PAID_LOCKS_SPACE], 0);
	assert_int_equal(r.counts[PAID_LOCKS_REGION], 0);
}

/* Until somebody sleeps for the lock of the last table for va. */
static void wait_for_waiter(struct corten_cursor *cur, u64 va)
{
	struct corten_state what;
	u64 pfn;

	assert_int_equal(corten_query(cur, va, &what), 0);
	pfn = (u64)((char *)what.ptep - c->machine->memory) >> PAGE_SHIFT;
	while (atomic_load(&c->tables.tables[pfn].lock.word) != 2)
		sched_yield();
}

static void who_is_elsewhere_does_not_wait_for_a_transaction(void **state)
{
	struct corten_cursor cur;

	(void)state;
	map_at(0, AT, 2 * MB, VM_READ | VM_WRITE);
	map_at(0, AT + 2 * MB, 2 * MB, VM_READ | VM_WRITE);
	write_at(0, AT, 1);
	write_at(0, AT + 2 * MB, 1);
	lock(&cur, 0, AT, 2 * MB);
	start(1, AT + 2 * MB, 2 * MB);
	finish(1);
	start(2, AT + PAGE_SIZE, PAGE_SIZE);
	wait_for_waiter(&cur, AT);
	assert_false(atomic_load(&touchers[2].done));
	corten_unlock(&cur);
	finish(2);
}

static void who_waits_for_a_table_that_goes_begins_again(void **state)
{
	struct corten_cursor cur;

	(void)state;
	map_at(0, AT, 4 * MB, VM_READ | VM_WRITE);
	write_at(0, AT, 1);
	write_at(0, AT + 2 * MB, 1);
	system_measure(s);
	lock(&cur, 0, AT, 4 * MB);
	start(1, AT + PAGE_SIZE, PAGE_SIZE);
	wait_for_waiter(&cur, AT);
	assert_int_equal(corten_unmap(&cur, AT, AT + 4 * MB), 0);
	corten_unlock(&cur);
	pthread_join(touchers[1].thread, NULL);
	system_measured(s);
	assert_int_equal(touchers[1].reason, FAULT_MAPERR);
	assert_true(s->total[PAID_RETRIES] >= 1);
}

/* ---- all at once ---- */

#define ROUNDS 400

/* Each CPU maps, protects, moves and unmaps two thirds of what all have, and knows what it may find
 * in a part of its own. */
static void *change_all(void *arg)
{
	struct toucher *t = arg;
	const struct program_ops *ops = s->program->ops;
	u64 rnd = t->cpu + 1, own = AT + 64 * MB + t->cpu * 2 * MB;

	map_at(t->cpu, own, 2 * MB, VM_READ | VM_WRITE);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 at = AT + rnd_below(&rnd, 3) * MB + rnd_below(&rnd, 256) * PAGE_SIZE;

		switch (rnd_below(&rnd, 8)) {
		case 0:
			map_at(t->cpu, at, 2 * MB, VM_READ | VM_WRITE);
			break;
		case 1:
			ops->unmap(s->program, t->cpu, AT, 4 * MB);
			break;
		case 2:
			ops->protect(s->program, t->cpu, at, MB, VM_READ);
			break;
		case 3:
			ops->pageout(s->program, t->cpu, at, 8 * PAGE_SIZE);
			break;
		case 4: /* or not */
			ops->remap(s->program, t->cpu, at, MB, MB,
				   UAPI_MREMAP_MAYMOVE | UAPI_MREMAP_FIXED, at + 8 * MB);
			break;
		default:
			write_at(t->cpu, at, 1); /* or not */
		}
		if (write_at(t->cpu, own + i * PAGE_SIZE, (u8)i) ||
		    read_at(t->cpu, own + i / 2 * PAGE_SIZE) != (u8)(i / 2))
			t->reason = FAULT_BUS;
	}
	return NULL;
}

static void layouts_change_while_others_fault(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CPUS; i++) {
		touchers[i] = (struct toucher){ .cpu = i };
		pthread_create(&touchers[i].thread, NULL, change_all, &touchers[i]);
	}
	for (unsigned i = 0; i < CPUS; i++)
		finish(i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		with(the_smallest_table_that_covers_a_range_is_locked),
		with(a_cursor_reaches_no_further_than_its_range),
		with(a_large_area_is_a_few_records),
		with(a_record_is_divided_where_a_part_changes),
		with(tables_that_map_nothing_go),
		with(every_frame_of_tables_can_be_one),
		with(first_touches_of_disjoint_ranges_share_no_lock),
		with(who_is_elsewhere_does_not_wait_for_a_transaction),
		with(who_waits_for_a_table_that_goes_begins_again),
		with(layouts_change_while_others_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
