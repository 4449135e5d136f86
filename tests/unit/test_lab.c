/* SPDX-License-Identifier: MIT */
/* The laboratory: every system does every conformance program, refuses every attack, and counts the
 * same each time. */
#include <stdio.h>

#include "engine/base/errno.h"
#include "systems/common/engine_system.h"
#include "systems/common/program_attacks.h"
#include "systems/lab.h"
#include "tests/unit/unit.h"

static u64 count_of(const char *system, const char *workload, enum ledger_counter counter)
{
	struct lab_result r;

	assert_int_equal(lab_run(system_find(system), workload_find(workload), 0, &r), 0);
	if (r.verdict != LAB_OK)
		fail_msg("%s on %s: %s", workload, system, r.message);
	return r.counts[counter];
}

static void every_system_passes_every_conformance_program(void **state)
{
	unsigned programs = 0;
	struct lab_result r;

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++) {
		if (!workload_is_conformance(&workloads[i]))
			continue;
		programs++;
		for (unsigned k = 0; k < nr_system_types; k++) {
			assert_int_equal(lab_run(system_types[k], &workloads[i], 0, &r), 0);
			if (r.verdict != LAB_OK)
				fail_msg("%s on %s: %s", workloads[i].name, system_types[k]->name,
					 r.message);
		}
	}
	assert_int_equal(programs, 15);
}

static void every_attack_is_refused(void **state)
{
	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		const struct system_type *t = system_types[k];

		for (unsigned i = 0; i < t->nr_attacks; i++) {
			int got = lab_attack(t, &t->attacks[i]);

			if (got != t->attacks[i].refused)
				fail_msg("%s: %s gives %d, not %d", t->name, t->attacks[i].name,
					 got, t->attacks[i].refused);
		}
	}
}

/* On one CPU nothing is left to chance. */
static void counts_are_the_same_each_time(void **state)
{
	struct lab_result first, again;

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++) {
		if (strstr(workloads[i].text, "\n# cpus "))
			continue;
		for (unsigned k = 0; k < nr_system_types; k++) {
			lab_run(system_types[k], &workloads[i], 1, &first);
			lab_run(system_types[k], &workloads[i], 1, &again);
			for (unsigned c = 0; c < NR_LEDGER_COUNTERS; c++)
				if (first.counts[c] != again.counts[c])
					fail_msg("%s on %s: %s is %llu, then %llu",
						 workloads[i].name, system_types[k]->name,
						 ledger_name(c),
						 (unsigned long long)first.counts[c],
						 (unsigned long long)again.counts[c]);
		}
	}
}

static void every_other_workload_is_done_by_linux(void **state)
{
	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++)
		/* Linux has no call for the first, and its own memory is always there. */
		if (strcmp(workloads[i].name, "dirty") && strcmp(workloads[i].name, "kernel-fault"))
			count_of("linux", workloads[i].name, PAID_CROSSINGS);
}

static void linux_pays_for_a_minor_fault_what_is_known(void **state)
{
	struct lab_result r;
	u64 *c = r.counts;

	(void)state;
	assert_int_equal(lab_run(system_find("linux"), workload_find("minor-fault"), 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	assert_int_equal(c[PAID_EXCEPTIONS], 1);
	assert_int_equal(c[PAID_CROSSINGS], 2);
	assert_int_equal(c[PAID_SYSTEM_CALLS], 0);
	assert_int_equal(c[PAID_DOMAINS], 0);
	assert_int_equal(c[PAID_PAGES_ZEROED], 1);
	assert_int_equal(c[PAID_PAGES_COPIED], 0);
	assert_int_equal(c[PAID_FRAMES_ALLOCATED], 1);
	assert_int_equal(c[PAID_SOFTWARE_READS], 4);
	assert_int_equal(c[PAID_ENTRY_WRITES], 1);
	assert_int_equal(c[PAID_TABLES], 0);
	assert_int_equal(c[PAID_TLB_MISSES], 2);
	assert_int_equal(c[PAID_WALK_READS], 8); /* four that end at a fault, four that do not */
	assert_int_equal(c[PAID_LOCKS_REGION], 1);
	assert_int_equal(c[PAID_LOCKS_SPACE], 0);
	assert_int_equal(c[PAID_FLUSHES], 0);
	/* The older form. */
	assert_int_equal(count_of("linux-old", "minor-fault", PAID_LOCKS_SPACE), 1);
	assert_int_equal(count_of("linux-old", "minor-fault", PAID_LOCKS_REGION), 0);
}

/* An entry that leads nowhere is read, and again when its table has come. */
static void a_walk_that_ends_at_a_missing_table_has_read(void **state)
{
	const struct workload fresh = { "fresh", "map any 1P rw as A\nmeasure\nwrite A 1 1\n" },
			      gone = { "gone", "map any 1P rw as A\nmeasure\nunmap A 1P\n" };
	struct lab_result r;

	(void)state;
	assert_int_equal(lab_run(system_find("linux"), &fresh, 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	assert_int_equal(r.counts[PAID_TABLES], 3);
	/* To the first that is missing; down to where a huge page could be, two of them twice; down
	 * to the entry, one of them twice; the entry. */
	assert_int_equal(r.counts[PAID_SOFTWARE_READS], 1 + 2 * 2 + 2 + 2 + 1);
	assert_int_equal(lab_run(system_find("linux"), &gone, 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	assert_true(r.counts[PAID_SOFTWARE_READS] > 0);
}

static void each_pays_what_is_expected_or_says_why_not(void **state)
{
	struct lab_result r;

	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		const struct system_type *t = system_types[k];
		const struct workload *w;

		assert_true(t->nr_expected > 0);
		w = t->expected_of ? workload_find(t->expected_of) : workload_find("minor-fault");
		assert_non_null(w);
		assert_true(workload_is_expected(w, t));
		lab_run(t, w, 0, &r);
		if (r.verdict != LAB_OK)
			fail_msg("%s on %s: %s", w->name, t->name, r.message);
		for (unsigned i = 0; i < t->nr_expected; i++) {
			const struct system_expectation *e = &t->expected[i];
			u64 got = r.counts[e->counter];

			if ((got == e->value) == (e->why != NULL))
				fail_msg("%s: %s is %llu, expected %llu, %s", t->name,
					 ledger_name(e->counter), (unsigned long long)got,
					 (unsigned long long)e->value,
					 e->why ? e->why : "no reason");
		}
	}
}

/* By whatever way a system has a CPU's fault: nobody has a fresh page before all CPUs want it. */
static void cpus_that_touch_at_once_overlap(void **state)
{
	struct lab_result r;

	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		u64 faults;

		assert_int_equal(lab_run(system_types[k], workload_find("parallel"), 0, &r), 0);
		assert_int_equal(r.verdict, LAB_OK);
		faults = r.counts[PAID_EXCEPTIONS] + r.counts[PAID_VM_EXITS];
		if (faults < 4 * 256)
			fail_msg("%s: %llu faults", system_types[k]->name,
				 (unsigned long long)faults);
	}
}

/* A workload that is about one fault must have one, on every system; where a guest's stores to its
 * page tables are emulated, one more for each. */
static void what_is_to_fault_once_does(void **state)
{
	static const char *const names[] = { "minor-fault", "minor-read", "cow-fault",
					     "major-fault", "file-fault", "in-core",
					     "trap" };

	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		const char *name = system_types[k]->name;
		bool stores = !strcmp(name, "xen-ptwr");

		for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
			assert_int_equal(
				count_of(name, names[i], PAID_EXCEPTIONS),
				1 + (stores ? count_of(name, names[i], PAID_ENTRY_WRITES) : 0));
	}
}

static void a_copy_costs_a_copy_and_a_flush(void **state)
{
	(void)state;
	assert_int_equal(count_of("linux", "cow-fault", PAID_PAGES_COPIED), 1);
	assert_int_equal(count_of("linux", "cow-fault", PAID_FLUSHES), 1);
	assert_int_equal(count_of("linux", "major-fault", PAID_IO_READS), 1);
	assert_int_equal(count_of("linux", "prot100", PAID_SYSTEM_CALLS), 1);
	assert_int_equal(count_of("linux", "prot100", PAID_ENTRY_WRITES), 100);
	assert_int_equal(count_of("linux", "trap", PAID_EXCEPTIONS), 1);
}

/* Appel and Li, ASPLOS 1991: each of a hundred pages traps, once, and is freed by the handler. */
static void every_page_that_is_protected_traps(void **state)
{
	(void)state;
	assert_int_equal(count_of("linux", "appel1", PAID_EXCEPTIONS), 100);
	assert_int_equal(count_of("linux", "appel1", PAID_SYSTEM_CALLS), 200);
	assert_int_equal(count_of("linux", "appel2", PAID_EXCEPTIONS), 100);
	assert_int_equal(count_of("linux", "appel2", PAID_SYSTEM_CALLS), 101);
	assert_int_equal(count_of("linux", "appel2", PAID_ENTRY_WRITES), 200);
	assert_int_equal(count_of("xok", "appel2", PAID_SYSTEM_CALLS), 200);
	for (unsigned k = 0; k < nr_system_types; k++) {
		assert_true(count_of(system_types[k]->name, "appel1", PAID_EXCEPTIONS) >= 100);
		assert_true(count_of(system_types[k]->name, "appel2", PAID_EXCEPTIONS) >= 100);
	}
}

/* Frames, zeros and transfers are counted wherever they come from, files and shared memory, too. */
static void every_system_counts_what_is_behind_a_page(void **state)
{
	const struct workload on_disk = { "disk", "file f 1P 7\nsync f\nevict f\n"
						  "map any 1P rw file f 0 shared as A\n"
						  "measure\nread A 1 7\nwrite A 1 8\nsync f\n" };
	const struct workload hole = { "hole", "file f 1P 7\nsync f\ntruncate f 2P\n"
					       "map any 2P r file f 0 shared as A\n"
					       "measure\nread A+1P 1 0\n" };
	const struct workload shared = { "shared", "shmem f 2P\n"
						   "map any 2P rw file f 0 shared as A\n"
						   "measure\nwrite A 1 1\n" };
	const struct workload gone = { "gone", "map any 2P rw as A\nwrite A 2P 1\n"
					       "measure\nunmap A 2P\n" };
	const struct {
		const struct workload *w;
		enum ledger_counter counter;
		u64 n;
	} cases[] = {
		{ &on_disk, PAID_IO_READS, 1 },	   { &on_disk, PAID_IO_WRITES, 1 },
		{ &hole, PAID_IO_READS, 0 },	   { &hole, PAID_PAGES_ZEROED, 1 },
		{ &shared, PAID_PAGES_ZEROED, 1 }, { &gone, PAID_FRAMES_FREED, 2 },
	};
	struct lab_result r;

	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		const struct system_type *t = system_types[k];

		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
			assert_int_equal(lab_run(t, cases[i].w, 0, &r), 0);
			if (r.verdict != LAB_OK)
				fail_msg("%s on %s: %s", cases[i].w->name, t->name, r.message);
			if (r.counts[cases[i].counter] != cases[i].n)
				fail_msg("%s on %s: %s is %llu", cases[i].w->name, t->name,
					 ledger_name(cases[i].counter),
					 (unsigned long long)r.counts[cases[i].counter]);
		}
		assert_int_equal(lab_run(t, &on_disk, 0, &r), 0);
		assert_true(r.counts[PAID_FRAMES_ALLOCATED] > 0);
		assert_int_equal(lab_run(t, &shared, 0, &r), 0);
		assert_true(r.counts[PAID_FRAMES_ALLOCATED] > 0);
	}
}

/* What comes before its first fault is paid, too; and who is entered goes back. */
static void a_monitor_has_to_be_made(void **state)
{
	const struct workload one = { "one", "map any 4P rw as A\nwrite A 1 1\n" },
			      two = { "two", "map any 4P rw as A\nmap any 4P rw as B\n"
					     "write A 1 1\n" };
	struct lab_result r;

	(void)state;
	assert_int_equal(lab_run(system_find("userfault"), &one, 0, &r), 0);
	/* mmap, userfaultfd, UFFDIO_API, clone, read, UFFDIO_REGISTER; UFFDIO_COPY, read */
	assert_int_equal(r.counts[PAID_SYSTEM_CALLS], 8);
	assert_int_equal(r.counts[PAID_CROSSINGS], 18);
	assert_int_equal(r.counts[PAID_CONTEXT_SWITCHES], 4);
	assert_int_equal(lab_run(system_find("userfault"), &two, 0, &r), 0);
	assert_int_equal(r.counts[PAID_SYSTEM_CALLS], 10);
	assert_int_equal(r.counts[PAID_CROSSINGS], 22);
	/* Of those before the fault, two contexts, and a page of its own that is registered. */
	assert_int_equal(lab_run(system_find("fluidmem"), &one, 0, &r), 0);
	assert_int_equal(r.counts[PAID_SYSTEM_CALLS], 12);
	assert_int_equal(r.counts[PAID_CROSSINGS], 26);
	assert_int_equal(r.counts[PAID_CONTEXT_SWITCHES], 4);
}

/* Engler et al., SOSP 1995: a library's protection of many pages costs a call for each. */
static void the_exokernel_pays_for_each_page_that_it_protects(void **state)
{
	(void)state;
	assert_int_equal(count_of("xok", "prot1", PAID_SYSTEM_CALLS), 1);
	assert_int_equal(count_of("xok", "prot100", PAID_SYSTEM_CALLS), 100);
	assert_int_equal(count_of("xok", "prot100", PAID_CROSSINGS), 200);
	assert_int_equal(count_of("linux", "prot100", PAID_CROSSINGS), 2);
	assert_int_equal(count_of("xok", "trap", PAID_SYSTEM_CALLS), 0);
}

static struct lab_result with_two(const struct workload *w, const struct workload *beside)
{
	const struct lab_order o = { .type = system_find("xok-two"),
				     .workload = w,
				     .beside = beside };
	struct lab_result r;

	assert_int_equal(lab_do(&o, &r), 0);
	return r;
}

/* Each does the program, and pays by its own policy what it pays alone. */
static void two_libraries_are_counted_one_by_one(void **state)
{
	struct lab_result r = with_two(workload_find("loop"), NULL);

	(void)state;
	assert_int_equal(r.verdict, LAB_OK);
	assert_int_equal(r.parts[0][PAID_IO_READS], 8 * 96);
	assert_int_equal(r.parts[0][PAID_IO_READS], count_of("xok", "loop", PAID_IO_READS));
	assert_int_equal(r.parts[1][PAID_IO_READS], 280); /* 35 of 96 pages have no frame */
	assert_memory_equal(r.counts, r.parts[0], sizeof(r.counts));
}

/* What the second can spare the first gets; and what one is given the other has given. */
static void frames_go_to_the_library_that_wants_them(void **state)
{
	const struct workload calm = { "calm", "# frames 64\nmap any 8P rw as A\nwrite A 8P 1\n" },
			      loop = { "loop", "# frames 64\nmap any 96P rw as A\nmeasure\n"
					       "write A 96P 1\nread A 96P 1\nread A 96P 1\n" };
	struct lab_result r = with_two(&loop, &calm);

	(void)state;
	assert_int_equal(r.verdict, LAB_OK);
	assert_int_equal(r.parts[0][PAID_IO_READS], 0);
	assert_true(r.parts[0][PAID_FRAMES_TAKEN] >= 40);
	assert_int_equal(r.parts[0][PAID_FRAMES_TAKEN], r.parts[1][PAID_FRAMES_GIVEN]);
	assert_int_equal(r.parts[1][PAID_REVOCATIONS], r.parts[0][PAID_FRAMES_TAKEN] / 8);
	assert_int_equal(r.parts[0][PAID_REVOCATIONS], 0);
	assert_int_equal(r.parts[1][PAID_REPOSSESSED], 0);
}

static void what_goes_wrong_beside_is_told(void **state)
{
	const struct workload good = { "good", "map any 1P r as A\nread A 1 0\n" },
			      wrong = { "wrong", "map any 1P r as A\nread A 1 5\n" },
			      bad = { "bad", "mop 1\n" };
	const struct lab_order o = { .type = system_find("xok-two"),
				     .workload = &good,
				     .beside = &bad };
	struct lab_result r = with_two(&good, &wrong);

	(void)state;
	assert_int_equal(r.verdict, LAB_DIFFERS);
	assert_non_null(strstr(r.message, "mru: line 2: read:"));
	r = with_two(&wrong, &good);
	assert_int_equal(r.verdict, LAB_DIFFERS);
	assert_int_equal(strncmp(r.message, "line 2: read:", 13), 0);
	assert_int_equal(lab_do(&o, &r), -EINVAL);
	assert_string_equal(r.message, "beside it, bad: line 1, column 1: unknown operation 'mop'");
}

/* Bershad et al., SOSP 1995: Dirty is measured for SPIN, and not to be had on OSF/1 or Mach; a
 * library operating system reads its page table. */
static void who_may_ask_whether_a_page_is_dirty_crosses_nothing(void **state)
{
	struct lab_result r;

	(void)state;
	assert_int_equal(count_of("spin", "dirty", PAID_CROSSINGS), 0);
	assert_int_equal(count_of("spin", "dirty", PAID_SOFTWARE_READS), 4);
	assert_int_equal(count_of("xok", "dirty", PAID_CROSSINGS), 0);
	assert_int_equal(lab_run(system_find("linux"), workload_find("dirty"), 0, &r), 0);
	assert_int_equal(r.verdict, LAB_NOT_OFFERED);
}

/* A kernel's own memory can be paged out on Windows alone; what is touched there is nobody's call.
 */
static void a_kernel_that_can_be_paged_out_faults_on_itself(void **state)
{
	const struct workload pool = { "pool", "kmap 2P as A\nkwrite A 2P 7\nmeasure\n"
					       "kread A 2P 7\nkmap 0x100000000 as B -> enomem\n" },
			      wrong = { "wrong", "kmap 1P as A\nkread A 1P 7\n" };
	struct lab_result r;

	(void)state;
	for (unsigned k = 0; k < nr_system_types; k++) {
		bool can = system_types[k] == system_find("windows");

		assert_int_equal(lab_run(system_types[k], &pool, 0, &r), 0);
		assert_int_equal(r.verdict, can ? LAB_OK : LAB_NOT_OFFERED);
		assert_int_equal(r.counts[PAID_SYSTEM_CALLS] + r.counts[PAID_EXCEPTIONS], 0);
	}
	assert_int_equal(lab_run(system_find("windows"), &wrong, 0, &r), 0);
	assert_int_equal(r.verdict, LAB_DIFFERS);
	assert_non_null(strstr(r.message, "line 2: kread:"));
}

static void a_script_that_is_none_is_told(void **state)
{
	const struct workload bad = { "bad", "# a bad one\nmop 1\n" };
	const struct workload wrong = { "wrong", "map any 1P r as A\nread A 1 5\n" };
	struct lab_result r;

	(void)state;
	assert_int_equal(lab_run(system_find("linux"), &bad, 0, &r), -EINVAL);
	assert_string_equal(r.message, "line 2, column 1: unknown operation 'mop'");
	assert_int_equal(lab_run(system_find("linux"), &wrong, 0, &r), 0);
	assert_int_equal(r.verdict, LAB_DIFFERS);
	assert_non_null(strstr(r.message, "line 2: read:"));
	assert_null(system_find("no such"));
	assert_null(workload_find("no such"));
}

struct walk {
	unsigned n, crossings;
	char first[80], last[80];
};

static void note_walk(void *arg, const struct ledger_event *events, unsigned n)
{
	struct walk *w = arg;

	w->n = n;
	for (unsigned i = 0; i < n; i++)
		w->crossings += events[i].to && events[i].from->ring != events[i].to->ring;
	snprintf(w->first, sizeof(w->first), "%s", events[0].text);
	snprintf(w->last, sizeof(w->last), "%s", events[n - 1].text);
}

static void a_walk_tells_the_way_in_order(void **state)
{
	struct lab_result r;
	struct walk w = { 0 };

	(void)state;
	assert_int_equal(
		lab_walk(system_find("linux"), workload_find("minor-fault"), 0, note_walk, &w, &r),
		0);
	assert_int_equal(w.crossings, r.counts[PAID_CROSSINGS]);
	assert_true(w.n > 6);
	assert_string_equal(w.first, "page fault: CR2 and the error code, vector 14");
	assert_string_equal(w.last, "iret: the access is made again");
}

/* Control is where the last crossing left it; in the beginning the program has it. */
struct control {
	const struct ledger_actor *holder;
	bool calls;	   /* some of the program's calls are not told: what is done in them is */
	bool monitored;	   /* from fault to return only: a monitor hears of calls when it likes */
	const char *wrong; /* what somebody else is told to have done */
	unsigned faults, at;
};

static bool is_where(const struct ledger_actor *a, const struct ledger_actor *b)
{
	return a->ring == b->ring && a->domain == b->domain;
}

/* FluidMem's is a thread beside the monitor, whenever it runs. */
static bool is_the_writer(const struct ledger_actor *a)
{
	return a && !strcmp(a->name, "the writer");
}

static bool is_followed(const struct control *c, const struct ledger_event *e)
{
	if (is_the_writer(e->from) || is_the_writer(e->to))
		return false;
	return !c->monitored || c->holder != &lab_program ||
	       (e->from == &lab_program && e->way == BY_EXCEPTION);
}

static void follow_control(void *arg, const struct ledger_event *events, unsigned n)
{
	struct control *c = arg;

	for (unsigned i = 0; i < n && !c->wrong; i++) {
		const struct ledger_event *e = &events[i];

		if (!is_followed(c, e))
			continue;
		if (!is_where(c->holder, e->from) &&
		    !(c->calls && !e->to && c->holder == &lab_program)) {
			c->wrong = e->text;
			c->at = i + 1;
		}
		c->faults +=
			e->from == &lab_program && (e->way == BY_EXCEPTION || e->way == BY_VM_EXIT);
		if (e->to) /* the program of another process is the program from then on */
			c->holder = strcmp(e->to->name, lab_program.name) ? e->to : &lab_program;
	}
}

/* On one CPU. */
static void who_does_a_step_has_control(void **state)
{
	struct lab_result r;

	(void)state;
	for (unsigned i = 0; i < nr_workloads; i++) {
		/* Of files; and, of an extension, whether a page is dirty. */
		bool untold = strstr(workloads[i].text, "\nfile ") ||
			      strstr(workloads[i].text, "\ndirty ");
		bool kernels = strstr(workloads[i].text, "\nkwrite ");

		if (strstr(workloads[i].text, "\n# cpus "))
			continue;
		for (unsigned k = 0; k < nr_system_types; k++) {
			struct control c = { .holder = kernels ? &lab_kernel : &lab_program,
					     .calls = untold,
					     .monitored =
						     !strcmp(system_types[k]->name, "fluidmem") };

			lab_walk(system_types[k], &workloads[i], 1, follow_control, &c, &r);
			if (c.wrong)
				fail_msg("%s on %s: step %u is not whose turn it is: %s",
					 workloads[i].name, system_types[k]->name, c.at, c.wrong);
			if (!strcmp(workloads[i].name, "minor-fault"))
				assert_true(c.faults > 0 && c.holder == &lab_program);
		}
	}
}

/* Pages go out if, and only if, it is heard how few frames there are. */
static void what_a_workload_needs_may_stand_on_any_line(void **state)
{
	const struct workload own[] = {
		{ "first", "# frames 32\nmap any 64P rw as A\nwrite A 64P 1\n" },
		{ "second", "# title\n# frames 32\nmap any 64P rw as A\nwrite A 64P 1\n" },
		{ "none", "# title\nmap any 64P rw as A\nwrite A 64P 1\n" },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++) {
		struct lab_result r;

		assert_int_equal(lab_run(system_find("linux"), &own[i], 0, &r), 0);
		assert_int_equal(r.verdict, LAB_OK);
		assert_int_equal(r.counts[PAID_IO_WRITES] > 0, i < 2);
	}
}

/* Whatever a system has of its own to be attacked, its programs can all try these. */
static void no_program_gets_what_is_not_its_own(void **state)
{
	(void)state;
	for (unsigned s = 0; s < nr_system_types; s++)
		for (unsigned i = 0; i < NR_PROGRAM_ATTACKS; i++) {
			const struct system_attack *a = &program_attacks[i];
			int result = lab_attack(system_types[s], a);

			if (result != a->refused)
				fail_msg("%s: %s: %d", system_types[s]->name, a->name, result);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_system_passes_every_conformance_program),
		cmocka_unit_test(every_attack_is_refused),
		cmocka_unit_test(counts_are_the_same_each_time),
		cmocka_unit_test(every_other_workload_is_done_by_linux),
		cmocka_unit_test(linux_pays_for_a_minor_fault_what_is_known),
		cmocka_unit_test(a_walk_that_ends_at_a_missing_table_has_read),
		cmocka_unit_test(each_pays_what_is_expected_or_says_why_not),
		cmocka_unit_test(cpus_that_touch_at_once_overlap),
		cmocka_unit_test(what_is_to_fault_once_does),
		cmocka_unit_test(a_copy_costs_a_copy_and_a_flush),
		cmocka_unit_test(every_page_that_is_protected_traps),
		cmocka_unit_test(every_system_counts_what_is_behind_a_page),
		cmocka_unit_test(a_monitor_has_to_be_made),
		cmocka_unit_test(the_exokernel_pays_for_each_page_that_it_protects),
		cmocka_unit_test(two_libraries_are_counted_one_by_one),
		cmocka_unit_test(frames_go_to_the_library_that_wants_them),
		cmocka_unit_test(what_goes_wrong_beside_is_told),
		cmocka_unit_test(who_may_ask_whether_a_page_is_dirty_crosses_nothing),
		cmocka_unit_test(a_kernel_that_can_be_paged_out_faults_on_itself),
		cmocka_unit_test(a_script_that_is_none_is_told),
		cmocka_unit_test(a_walk_tells_the_way_in_order),
		cmocka_unit_test(who_does_a_step_has_control),
		cmocka_unit_test(no_program_gets_what_is_not_its_own),
		cmocka_unit_test(what_a_workload_needs_may_stand_on_any_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
