/* SPDX-License-Identifier: MIT */
/* FluidMem in the laboratory: what a fault costs, and that its monitor follows the layout. */
#include "systems/fluidmem/fluidmem_system.h"
#include "systems/fluidmem/internal.h"
#include "systems/lab.h"
#include "tests/unit/unit.h"

static struct lab_result run(const struct workload *w)
{
	struct lab_result r;

	assert_int_equal(lab_run(&fluidmem_system, w, 0, &r), 0);
	if (r.verdict != LAB_OK)
		fail_msg("%s: %s", w->name, r.message);
	return r;
}

static struct lab_result run_text(const char *text)
{
	const struct workload w = { "text", text };

	return run(&w);
}

/* The published relation: a page that is in the store costs at least three calls and eight
 * crossings, where swapping costs an exception. */
static void a_hit_in_the_store_is_three_calls(void **state)
{
	struct lab_result r = run(workload_find("major-fault")), kernel;

	(void)state;
	assert_int_equal(r.counts[PAID_EXCEPTIONS], 1);
	assert_int_equal(r.counts[PAID_SYSTEM_CALLS], 3);
	assert_int_equal(r.counts[PAID_CROSSINGS], 8);
	assert_int_equal(r.counts[PAID_CONTEXT_SWITCHES], 2);
	assert_int_equal(r.counts[PAID_PAGES_COPIED], 1);
	assert_int_equal(r.counts[PAID_IO_READS], 1);
	lab_run(system_find("linux"), workload_find("major-fault"), 0, &kernel);
	assert_int_equal(kernel.counts[PAID_IO_READS], 1);
	assert_int_equal(kernel.counts[PAID_CROSSINGS], 2);
	assert_int_equal(kernel.counts[PAID_SYSTEM_CALLS], 0);
}

/* What makes room is off the way of the fault that wants it. */
static void note_order(void *arg, const struct ledger_event *events, unsigned n)
{
	unsigned *at = arg;

	for (unsigned i = 0; i < n; i++) {
		if (strstr(events[i].text, "UFFDIO_COPY returns"))
			at[0] = i;
		if (strstr(events[i].text, "UFFDIO_MOVE:"))
			at[1] = i;
	}
}

static void the_thread_is_woken_before_room_is_made(void **state)
{
	const struct workload w = { "full", "# at its capacity\n"
					    "# frames 64\n"
					    "map any 40P rw as A\n"
					    "write A 32P 1\n"
					    "measure\n"
					    "write A+32P 1 1\n" };
	struct lab_result r;
	unsigned at[2] = { 0 };

	(void)state;
	lab_walk(&fluidmem_system, &w, 0, note_order, at, &r);
	assert_int_equal(r.verdict, LAB_OK);
	assert_true(at[0] > 0 && at[1] > at[0]);
	assert_int_equal(r.counts[PAID_EXCEPTIONS], 1);
	assert_int_equal(r.counts[PAID_IO_WRITES], 0); /* the batch is not full */
}

/* Two threads: in a walk the writer's steps may come between any of the monitor's. */
static void note_writer(void *arg, const struct ledger_event *events, unsigned n)
{
	unsigned *sent = arg;

	for (unsigned i = 0; i < n; i++) {
		bool sends = strstr(events[i].text, "sends a page to the store");

		assert_int_equal(!strcmp(events[i].from->name, "the writer"), sends);
		*sent += sends;
	}
}

static void the_writer_is_told_from_the_monitor(void **state)
{
	struct lab_result r;
	unsigned sent = 0;

	(void)state;
	lab_walk(&fluidmem_system, workload_find("pressure"), 0, note_writer, &sent, &r);
	assert_int_equal(r.verdict, LAB_OK);
	assert_true(sent > 0);
}

/* A page of the monitor's own, which the kernel has paged out. */
static void note_monitors_faults(void *arg, const struct ledger_event *events, unsigned n)
{
	unsigned *faults = arg;

	for (unsigned i = 0; i < n; i++)
		*faults += events[i].way == BY_EXCEPTION && events[i].to &&
			   !strcmp(events[i].from->name, "the monitor");
}

static void the_monitor_faults_on_its_own_pages(void **state)
{
	struct lab_result r;
	unsigned faults = 0;

	(void)state;
	lab_walk(&fluidmem_system, workload_find("14-out-of-frames"), 0, note_monitors_faults,
		 &faults, &r);
	assert_int_equal(r.verdict, LAB_OK);
	assert_true(faults > 0);
}

static void pages_of_zeros_are_not_sent(void **state)
{
	struct lab_result r = run_text("# zeros\n"
				       "# frames 64\n"
				       "map any 128P rw as A\n"
				       "measure\n"
				       "touch A 128P w\n"
				       "read A 128P 0\n");

	(void)state;
	assert_int_equal(r.counts[PAID_EXCEPTIONS], 256);
	assert_int_equal(r.counts[PAID_IO_WRITES], 0);
	assert_int_equal(r.counts[PAID_IO_READS], 0);
}

static void what_waits_to_be_written_is_stolen(void **state)
{
	struct lab_result r = run_text("# one more than the capacity, and the first again\n"
				       "# frames 64\n"
				       "map any 40P rw as A\n"
				       "write A 34P 1\n"
				       "measure\n"
				       "read A 1P 1\n");

	(void)state;
	assert_int_equal(r.counts[PAID_EXCEPTIONS], 1);
	assert_int_equal(r.counts[PAID_IO_READS], 0);
}

/* ---- events ---- */

static void what_is_unmapped_is_forgotten(void **state)
{
	(void)state;
	/* In the store, on the write list, and resident. */
	run_text("# with little\n"
		 "# frames 64\n"
		 "map 0x20000000 64P rw fixed\n"
		 "write 0x20000000 64P 1\n"
		 "unmap 0x20000000 64P\n"
		 "read 0x20000000 1 -> segv maperr\n"
		 "map 0x20000000 64P rw fixed\n"
		 "read 0x20000000 64P 0\n"
		 "write 0x20000000 64P 2\n"
		 "map 0x20000000 64P rw fixed\n"
		 "read 0x20000000 64P 0\n"
		 "map 0x20000000 64P rw fixed\n"
		 "write 0x20020000 32P 3\n"
		 "read 0x20000000 32P 0\n"
		 "read 0x20020000 32P 3\n"
		 "check\n");
}

static unsigned regions_of(struct system *s)
{
	struct fluidmem_space *space =
		list_first_entry(&fluidmem_of(s)->spaces, struct fluidmem_space, link);
	unsigned n = 0;

	for (const struct fm_region *r = space->regions; r; r = r->next)
		n++;
	return n;
}

static void regions_go_with_their_areas(void **state)
{
	struct program_map map = { .addr = 0x20000000,
				   .len = 16 * PAGE_SIZE,
				   .prot = VM_READ | VM_WRITE,
				   .flags = VMAP_FIXED,
				   .file = -1 };
	struct system_options o = { .cpus = 1, .frames = 64 };
	const struct program_ops *ops;
	struct system *s;
	u8 byte = 1;

	(void)state;
	assert_int_equal(ledger_create(1, &o.ledger), 0);
	assert_int_equal(fluidmem_system.create(&fluidmem_system, &o, &s), 0);
	ops = s->program->ops;
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(ops->map(s->program, 0, &map), map.addr);
		assert_int_equal(regions_of(s), 1);
		for (u64 va = map.addr; va < map.addr + map.len; va += PAGE_SIZE)
			assert_int_equal(ops->access(s->program, 0, va, PF_WRITE, &byte, 1), 0);
		ops->pageout(s->program, 0, map.addr, 4 * PAGE_SIZE);
		if (i % 2) {
			assert_int_equal(ops->unmap(s->program, 0, map.addr, map.len), 0);
			assert_int_equal(regions_of(s), 0);
		}
	}
	s->destroy(s);
	ledger_destroy(o.ledger);
}

static void what_is_dropped_is_zeros(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 64P rw as A\n"
		 "write A 64P 1\n"
		 "advise A 40P dontneed\n"
		 "read A 40P 0\n"
		 "read A+40P 24P 1\n"
		 "check\n");
}

static void what_is_moved_is_found(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# frames 64\n"
		 "map 0x20000000 64P rw fixed\n"
		 "write 0x20000000 32P 1\n"
		 "write 0x20020000 32P 2\n"
		 "remap 0x20000000 64P 80P maymove to 0x30000000 -> 0x30000000\n"
		 "read 0x20000000 1 -> segv maperr\n"
		 "read 0x30000000 32P 1\n"
		 "read 0x30020000 32P 2\n"
		 "read 0x30040000 16P 0\n"
		 "write 0x30040000 16P 3\n"
		 "read 0x30000000 32P 1\n"
		 "read 0x30040000 16P 3\n"
		 "check\n");
}

static void children_have_what_their_parent_had(void **state)
{
	(void)state;
	/* What is stored and what waits to be written is shared until one changes it. */
	run_text("# with little\n"
		 "# frames 64\n"
		 "map any 64P rw as A\n"
		 "write A 64P 1\n"
		 "fork as P\n"
		 "write A 8P 2\n"
		 "process P\n"
		 "read A 64P 1\n"
		 "write A+8P 8P 3\n"
		 "fork as Q\n"
		 "unmap A+16P 16P\n"
		 "process Q\n"
		 "read A 8P 1\n"
		 "read A+8P 8P 3\n"
		 "read A+16P 48P 1\n"
		 "exit P\n"
		 "process Q\n"
		 "read A+8P 8P 3\n"
		 "process first\n"
		 "read A 8P 2\n"
		 "read A+8P 56P 1\n"
		 "check\n");
}

static void all_cpus_at_once_find_their_bytes(void **state)
{
	(void)state;
	run_text("# with little\n"
		 "# cpus 4\n"
		 "# frames 64\n"
		 "map any 96P rw as A\n"
		 "write A 96P 5\n"
		 "together A 96P w\n"
		 "read A 96P 5\n"
		 "fork as P\n"
		 "together A 96P w\n"
		 "read A 96P 5\n"
		 "process P\n"
		 "read A 96P 5\n"
		 "check\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hit_in_the_store_is_three_calls),
		cmocka_unit_test(the_thread_is_woken_before_room_is_made),
		cmocka_unit_test(the_writer_is_told_from_the_monitor),
		cmocka_unit_test(the_monitor_faults_on_its_own_pages),
		cmocka_unit_test(pages_of_zeros_are_not_sent),
		cmocka_unit_test(what_waits_to_be_written_is_stolen),
		cmocka_unit_test(what_is_unmapped_is_forgotten),
		cmocka_unit_test(regions_go_with_their_areas),
		cmocka_unit_test(what_is_dropped_is_zeros),
		cmocka_unit_test(what_is_moved_is_found),
		cmocka_unit_test(children_have_what_their_parent_had),
		cmocka_unit_test(all_cpus_at_once_find_their_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
