/* SPDX-License-Identifier: MIT */
/* Clustered objects, Tornado's objects by themselves, and what a fault costs as CPUs are added. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/engine.h"
#include "systems/common/engine_system.h"
#include "systems/lab.h"
#include "systems/tornado/fault.h"
#include "tests/unit/unit.h"

/* ---- clustered objects ---- */

#define CPUS 3

static struct co_system s;
static unsigned misses, finished;
static unsigned shares; /* the CPU whose representative all have; CPUS: each has its own */

static unsigned count_miss(struct co_root *root, unsigned cpu)
{
	(void)root;
	misses++;
	return shares < CPUS ? shares : cpu;
}

static void count_fini(struct co_root *root)
{
	(void)root;
	finished++;
}

static const struct co_type counted = { .name = "counted",
					.size = sizeof(struct co_root),
					.rep_size = sizeof(struct co_rep),
					.miss = count_miss,
					.fini = count_fini };
static unsigned own(struct co_root *root, unsigned cpu)
{
	(void)root;
	return cpu;
}

static const struct co_type other = { .name = "other",
				      .size = sizeof(struct co_root),
				      .rep_size = sizeof(struct co_rep),
				      .miss = own };

static int setup(void **state)
{
	(void)state;
	misses = finished = 0;
	shares = CPUS;
	return co_init(&s, CPUS);
}

static int teardown(void **state)
{
	(void)state;
	co_fini(&s);
	return 0;
}

static int call(unsigned cpu, co_ref ref, struct co_rep **rep)
{
	int err;

	co_enter(&s, cpu);
	err = co_call(&s, cpu, ref, &counted, rep);
	co_exit(&s, cpu);
	return err;
}

static void each_cpu_misses_once_and_has_its_own_representative(void **state)
{
	struct co_root *root = co_create(&s, &counted, 0);
	struct co_rep *rep, *again;

	(void)state;
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		assert_int_equal(call(cpu, root->ref, &rep), 0);
		assert_int_equal(rep->cpu, cpu);
		assert_ptr_equal(rep->root, root);
		assert_int_equal(call(cpu, root->ref, &again), 0);
		assert_ptr_equal(rep, again);
		assert_int_equal(misses, cpu + 1);
	}
}

static void a_miss_handler_may_have_cpus_share_one(void **state)
{
	struct co_root *root = co_create(&s, &counted, 1);
	struct co_rep *rep;

	(void)state;
	shares = 1;
	for (unsigned cpu = 0; cpu < CPUS; cpu++) {
		assert_int_equal(call(cpu, root->ref, &rep), 0);
		assert_int_equal(rep->cpu, 1);
	}
}

static void a_wrong_reference_is_refused(void **state)
{
	struct co_root *root = co_create(&s, &counted, 0);
	struct co_rep *rep;

	(void)state;
	assert_int_equal(call(0, 0, &rep), -EBADF);
	assert_int_equal(call(0, ~0ULL, &rep), -EBADF);
	assert_int_equal(call(0, root->ref + 1, &rep), -EBADF);
	co_enter(&s, 0);
	assert_int_equal(co_call(&s, 0, root->ref, &other, &rep), -EINVAL);
	co_exit(&s, 0);
	assert_int_equal(co_destroy(&s, 0, root->ref + 1), -EBADF);
}

static void what_is_destroyed_is_called_no_more_and_waits_for_who_is_in_a_call(void **state)
{
	struct co_root *root = co_create(&s, &counted, 0);
	co_ref ref = root->ref;
	struct co_rep *rep;

	(void)state;
	co_enter(&s, 1);
	assert_int_equal(co_call(&s, 1, ref, &counted, &rep), 0);
	assert_int_equal(co_destroy(&s, 0, ref), 0);
	assert_int_equal(co_destroy(&s, 0, ref), -EBADF);
	assert_int_equal(co_call(&s, 1, ref, &counted, &rep), -EBADF);
	assert_int_equal(call(2, ref, &rep), -EBADF);
	assert_int_equal(co_collect(&s), 1);
	assert_int_equal(finished, 0);
	/* A call that begins after is none that is waited for. */
	co_enter(&s, 2);
	co_exit(&s, 1);
	assert_int_equal(co_collect(&s), 0);
	co_exit(&s, 2);
	assert_int_equal(finished, 1);
}

static void a_reference_is_never_used_again(void **state)
{
	co_ref ref = co_create(&s, &counted, 0)->ref;
	struct co_rep *rep;

	(void)state;
	for (unsigned i = 0; i < CO_MOST + 8; i++) {
		struct co_root *root = co_create(&s, &counted, 0);

		assert_non_null(root);
		assert_int_not_equal(root->ref, ref);
		assert_int_equal(co_destroy(&s, 0, i ? root->ref : ref), 0);
		co_collect(&s);
		assert_int_equal(call(0, ref, &rep), -EBADF);
	}
}

static void there_is_an_end_of_objects(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CO_MOST; i++)
		assert_non_null(co_create(&s, &counted, 0));
	assert_null(co_create(&s, &counted, 0));
}

/* Callers on two CPUs, and one who destroys and makes anew what they call. */
static _Atomic co_ref published;
static _Atomic bool over;

static void *call_published(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg;
	u64 calls = 0;

	while (!atomic_load(&over)) {
		struct co_rep *rep;
		co_ref ref;

		co_enter(&s, cpu);
		ref = atomic_load(&published);
		if (!co_call(&s, cpu, ref, &other, &rep)) {
			assert_int_equal(rep->cpu, cpu);
			calls++;
		}
		co_exit(&s, cpu);
	}
	return (void *)(uintptr_t)calls;
}

static void objects_come_and_go_while_others_call(void **state)
{
	pthread_t threads[2];

	(void)state;
	atomic_store(&over, false);
	atomic_store(&published, co_create(&s, &other, 0)->ref);
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, call_published, (void *)(i + 1));
	for (unsigned i = 0; i < 2000; i++) {
		co_ref old = atomic_load(&published);

		atomic_store(&published, co_create(&s, &other, 0)->ref);
		assert_int_equal(co_destroy(&s, 0, old), 0);
		co_collect(&s);
	}
	atomic_store(&over, true);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(co_collect(&s), 0);
}

/* ---- the FCM and the DRAM manager ---- */

static _Atomic u32 generations[8];

static void a_page_is_filled_by_one_and_the_others_are_told(void **state)
{
	struct fcm *f = fcm_create(&s, 0, generations, false);
	struct fault_notification first, second;
	struct fcm_page page, pending;

	(void)state;
	co_enter(&s, 0);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 5, &page, NULL), FCM_PENDING);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 5, &page, &first), FCM_FILL);
	assert_true(page.fault > 0);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 5, &pending, &second), FCM_PENDING);
	assert_int_equal(second.id, page.fault);
	assert_int_equal(fcm_io_complete(&s, 0, f->root.ref, 5, page.fault + 1, 3), -EINVAL);
	assert_int_equal(fcm_io_complete(&s, 0, f->root.ref, 6, page.fault, 3), -ENOENT);
	assert_int_equal(fcm_io_complete(&s, 0, f->root.ref, 5, page.fault, 3), 0);
	/* The notification came before the wait, and is remembered. */
	fault_wait(&first);
	fault_wait(&second);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 5, &page, &first), FCM_IN_CORE);
	assert_int_equal(page.pfn, 3);
	co_exit(&s, 0);
	fcm_put(f, 0);
}

struct waiter {
	co_ref fcm;
	_Atomic bool asked;
	int answer, again;
};

static void *wait_for_page(void *arg)
{
	struct waiter *w = arg;
	struct fault_notification n;
	struct fcm_page page;

	co_enter(&s, 1);
	w->answer = fcm_get_page(&s, 1, w->fcm, 7, &page, &n);
	atomic_store(&w->asked, true);
	fault_wait(&n);
	w->again = fcm_get_page(&s, 1, w->fcm, 7, &page, &n);
	co_exit(&s, 1);
	return NULL;
}

static void a_thread_that_waits_for_a_page_is_woken(void **state)
{
	struct fcm *f = fcm_create(&s, 0, generations, false);
	struct waiter w = { .fcm = f->root.ref };
	struct fault_notification n;
	struct fcm_page page;
	pthread_t thread;

	(void)state;
	co_enter(&s, 0);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 7, &page, &n), FCM_FILL);
	pthread_create(&thread, NULL, wait_for_page, &w);
	while (!atomic_load(&w.asked))
		sched_yield();
	assert_int_equal(fcm_io_complete(&s, 0, f->root.ref, 7, page.fault, 6), 0);
	pthread_join(thread, NULL);
	co_exit(&s, 0);
	assert_int_equal(w.answer, FCM_PENDING);
	assert_int_equal(w.again, FCM_IN_CORE);
	fcm_put(f, 0);
}

static void a_page_whose_frame_went_is_not_in_core(void **state)
{
	struct fcm *f = fcm_create(&s, 0, generations, false);

	(void)state;
	assert_int_equal(fcm_note(f, 0, 1, 4), 0);
	assert_int_equal(fcm_look(f, 1), 4);
	generations[4]++;
	assert_int_equal(fcm_look(f, 1), NO_PFN);
	assert_int_equal(fcm_note(f, 0, 1, 5), 0);
	fcm_forget(f, 0, 1, 4);
	assert_int_equal(fcm_look(f, 1), 5);
	fcm_forget(f, 0, 1, 5);
	assert_int_equal(fcm_look(f, 1), NO_PFN);
	fcm_put(f, 0);
}

static void what_could_not_be_filled_is_filled_by_the_next(void **state)
{
	struct fcm *f = fcm_create(&s, 0, generations, true);
	struct fault_notification n;
	struct fcm_page page;

	(void)state;
	co_enter(&s, 0);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 0, &page, &n), FCM_FILL);
	assert_int_equal(fcm_filled(f, 0, 0, page.fault, NO_PFN), 0);
	assert_int_equal(fcm_get_page(&s, 0, f->root.ref, 0, &page, &n), FCM_FILL);
	assert_int_equal(fcm_filled(f, 0, 0, page.fault, 2), 0);
	co_exit(&s, 0);
	fcm_put(f, 0);
}

static void frames_are_at_home_where_they_were_taken_last(void **state)
{
	struct dram *d = dram_create(&s, 100, 2);

	(void)state;
	for (unsigned cpu = 0; cpu < 2; cpu++) {
		co_enter(&s, cpu);
		assert_int_equal(dram_get_frame(&s, cpu, d->root.ref, 101), 0);
		assert_int_equal(dram_get_frame(&s, cpu, d->root.ref, 101), -EBUSY);
		assert_int_equal(dram_count(d, cpu), 1);
		assert_int_equal(dram_count(d, !cpu), 0);
		assert_int_equal(dram_free_frame(&s, cpu, d->root.ref, 101), 0);
		assert_int_equal(dram_free_frame(&s, cpu, d->root.ref, 101), -EINVAL);
		assert_int_equal(dram_count(d, cpu), 0);
		co_exit(&s, cpu);
	}
	assert_false(dram_in_use(d, 101));
	assert_false(dram_in_use(d, 99));
}

/* ---- what a fault costs ---- */

static u64 counts[NR_LEDGER_COUNTERS];

static void run(const char *system, const char *text)
{
	struct workload w = { "a test's", text };
	struct lab_result r;

	if (lab_run(system_find(system), &w, 0, &r) || r.verdict != LAB_OK)
		fail_msg("%s: %s", system, r.message);
	memcpy(counts, r.counts, sizeof(counts));
}

static const char *workload_text(const char *name)
{
	return workload_find(name)->text;
}

static void an_in_core_fault_is_four_calls_and_two_locks(void **state)
{
	static const char *const systems[] = { "tornado", "tornado-shared" };

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		run(systems[i], workload_text("in-core"));
		assert_int_equal(counts[PAID_EXCEPTIONS], 1);
		assert_int_equal(counts[PAID_CROSSINGS], 2);
		assert_int_equal(counts[PAID_HANDLERS], 4);
		assert_int_equal(counts[PAID_LOCKS_OBJECT], 2); /* one FCM's, one HAT's */
		assert_int_equal(counts[PAID_FRAMES_ALLOCATED], 0);
		assert_int_equal(counts[PAID_MESSAGES], 0);
		assert_int_equal(counts[PAID_REMOTE], 0);
	}
}

/* A fresh one asks the DRAM manager and the COR, too, and the FCM is told when it is filled. */
static void a_fresh_page_is_six_calls_and_three_locks(void **state)
{
	(void)state;
	run("tornado", workload_text("minor-fault"));
	assert_int_equal(counts[PAID_EXCEPTIONS], 1);
	assert_int_equal(counts[PAID_CROSSINGS], 2);
	assert_int_equal(counts[PAID_HANDLERS], 4 + 2);
	assert_int_equal(counts[PAID_LOCKS_OBJECT], 2 + 1);
	assert_int_equal(counts[PAID_PAGES_ZEROED], 1);
	assert_int_equal(counts[PAID_ENTRY_WRITES], 1);
	assert_int_equal(counts[PAID_REMOTE], 0);
}

static void a_page_that_must_be_read_costs_a_call_of_the_server_and_an_upcall(void **state)
{
	(void)state;
	run("tornado", workload_text("major-fault"));
	assert_int_equal(counts[PAID_MESSAGES], 1);
	assert_int_equal(counts[PAID_DOMAINS], 2);
	assert_int_equal(counts[PAID_UPCALLS], 1);
	assert_int_equal(counts[PAID_RETRIES], 1);
	assert_int_equal(counts[PAID_CROSSINGS], 2 + 2 + 2);
	/* Process, Region, FCM, DRAM manager, COR; the FCM is told; and the in-core path. */
	assert_int_equal(counts[PAID_HANDLERS], 5 + 1 + 4);
	run("tornado", "file f 1P 7\nsync f\nevict f\nmap any 1P rw file f 0 private as A\n"
		       "measure\nwrite A 1 3\n");
	assert_int_equal(counts[PAID_MESSAGES], 1);
	assert_int_equal(counts[PAID_UPCALLS], 1);
	assert_int_equal(counts[PAID_RETRIES], 1);
}

#define SLICE 16

/* A part of one region for each CPU, which has touched one page of it: then each touches the
 * others. */
static const char *slices(bool in_core, unsigned cpus)
{
	static char text[4096];
	size_t n = (size_t)snprintf(text, sizeof(text), "# slices\n# cpus %u\n", cpus);

	if (in_core)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "shmem f %uP 7\n", cpus * SLICE);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "map any %uP rw %sas A\n", cpus * SLICE,
			      in_core ? "file f 0 shared " : "");
	for (unsigned c = 0; c < cpus; c++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "cpu %u\nwrite A+%uP 1 1\n", c,
				      c * SLICE);
	n += (size_t)snprintf(text + n, sizeof(text) - n, "measure\n");
	for (unsigned c = 0; c < cpus; c++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "cpu %u\nwrite A+%uP %uP 1\n", c,
				      c * SLICE + 1, SLICE - 1);
	assert_true(n < sizeof(text));
	return text;
}

/* Gamsa et al., OSDI 1999: what is partitioned does not get dearer as CPUs are added. */
static void only_a_shared_fcm_is_remote(void **state)
{
	(void)state;
	for (unsigned cpus = 1; cpus <= 16; cpus++) {
		u64 faults = cpus * (SLICE - 1), elsewhere = faults - (SLICE - 1);

		for (unsigned in_core = 0; in_core < 2; in_core++) {
			/* A fresh page's descriptor is looked up, and then filled. */
			u64 times = in_core ? 1 : 2;

			run("tornado", slices(in_core, cpus));
			assert_int_equal(counts[PAID_EXCEPTIONS], faults);
			assert_int_equal(counts[PAID_REMOTE], 0);
			assert_int_equal(counts[PAID_HANDLERS], (in_core ? 4 : 6) * faults);
			run("tornado-shared", slices(in_core, cpus));
			assert_int_equal(counts[PAID_EXCEPTIONS], faults);
			assert_int_equal(counts[PAID_REMOTE], times * elsewhere);
			assert_int_equal(counts[PAID_HANDLERS], (in_core ? 4 : 6) * faults);
		}
	}
}

/* Where they do meet, a partition does not help: half of the pages are the other's. */
static void pages_of_the_other_s_part_are_remote(void **state)
{
	(void)state;
	run("tornado", "# two\n# cpus 2\nshmem f 32P 7\nmap any 32P rw file f 0 shared as A\n"
		       "write A 1 1\ncpu 1\nwrite A+1P 1 1\nmeasure\nwrite A+2P 30P 1\n");
	assert_int_equal(counts[PAID_REMOTE], 14);
}

static void regions_follow_what_the_program_does(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++)
		run(i ? "tornado" : "tornado-shared",
		    "# two\n# cpus 2\nmap any 8P rw as A\nwrite A 8P 1\n"
		    "protect A+2P 2P r\nwrite A+2P 1 1 -> segv accerr\nread A+2P 2P 1\n"
		    "unmap A+5P 1P\nread A+5P 1 -> segv maperr\nwrite A+6P 2P 3\n"
		    "cpu 1\nwrite A+3P 1 1 -> segv accerr\nread A+5P 1 -> segv maperr\n"
		    "protect A 5P none\nread A 1 -> segv accerr\nprotect A 5P rw\nread A 5P 1\n"
		    "map A+3P 2P rw fixed as B\nread B 2P 0\ncheck\n"
		    "remap A+6P 2P 4P maymove as C\nread C 2P 3\nread C+2P 2P 0\ncheck\n"
		    "advise C 1P dontneed\nread C 1P 0\nread C+1P 1P 3\ncheck\n"
		    "fork as P\nprocess P\nwrite C 1P 9\nread C+1P 1P 3\nunmap C 1P\ncheck\n"
		    "process first\nread C 1P 0\nexit P\ncheck\n"
		    "map any 2P rw locked as D\nread D 2P 0\ncheck\n"
		    "map 0x30000000 1P rw fixed stack as S\n"
		    "write S 1 1\nwrite 0x2fffd000 1 1\nread 0x2fffd000 3P\nread S 1 1\ncheck\n");
}

/* ---- private mappings of files: the FCM of the copies over the file's ---- */

static void run_both(const char *text)
{
	run("tornado", text);
	run("tornado-shared", text);
}

/* The file's page came for a copy, which is gone; who reads next to it gets it mapped, too. */
static void a_page_that_came_to_be_copied_is_known_to_the_file_s_fcm(void **state)
{
	(void)state;
	run_both("shmem f 0P 0\ntruncate f 8P\nmap any 6P rw file f 0 private as A\n"
		 "write A+1P 1P 3\nadvise A 6P dontneed\nread A 6P 0\ncheck\n");
	/* The same of one that was in the swap area: the frame that is read into is not the copy's.
	 */
	run_both("shmem f 8P 5\nmap any 8P rw file f 0 private as A\n"
		 "map any 8P rw file f 0 shared as B\npageout B 8P\nwrite A+1P 1P 3\n"
		 "advise A 8P dontneed\nread A 8P 5\ncheck\n");
	/* The FCM has it: a thread that wants the file's page finds it in core. */
	run("tornado", "shmem f 0P 0\ntruncate f 8P\nmap any 8P rw file f 0 private as A\n"
		       "map any 8P rw file f 0 shared as B\nwrite B 1 1\nwrite A+1P 1 3\nmeasure\n"
		       "write B+1P 1 4\n");
	assert_int_equal(counts[PAID_EXCEPTIONS], 1);
	assert_int_equal(counts[PAID_HANDLERS], 4);
	assert_int_equal(counts[PAID_LOCKS_OBJECT], 2);
}

/* While the copy is at the store, the file's own page is another, wherever it is. */
static void a_copy_that_is_paged_out_is_filled_by_the_region_s_own_fcm(void **state)
{
	(void)state;
	run_both("file f 12P 7\nsync f\nevict f\nmap any 12P r file f 0 private as A\n"
		 "read A 1P 7\nmap any 5P rw file f 2P private as B\nwrite B+2P 1P 3\n"
		 "read B+3P 1P 7\npageout B 5P\npageout A 12P\nread B+2P 1P 3\n"
		 "read A 12P 7\nread B 2P 7\ncheck\n");
	/* It is read once, by the server that has the copies. */
	run("tornado", "file f 4P 7\nsync f\nmap any 4P rw file f 0 private as A\n"
		       "write A 1P 3\npageout A 1P\nevict f\nmeasure\nread A 1 3\n");
	assert_int_equal(counts[PAID_MESSAGES], 1);
	assert_int_equal(counts[PAID_RETRIES], 1);
	assert_int_equal(counts[PAID_UPCALLS], 1);
	/* Nobody fills the file's any more. */
	run_both("file f 1P 7\nsync f\nmap any 1P rw file f 0 private as A\nwrite A 1P 3\n"
		 "pageout A 1P\nevict f\nread A 1P 3\nmap any 1P r file f 0 shared as B\n"
		 "read B 1P 7\ncheck\n");
}

static void paged_out_copies_come_back_for_all_who_wait(void **state)
{
	(void)state;
	run_both("# copies\n# cpus 4\nfile f 32P 7\nsync f\nmap any 32P rw file f 0 private as A\n"
		 "write A 32P 3\npageout A 32P\ntogether A 32P r\nread A 32P 3\ncheck\n"
		 "pageout A 32P\ntogether A 32P w\nread A 32P 3\n"
		 "pageout A 32P\nfail swap read eio\nread A 1 -> bus\nfail swap read none\n"
		 "together A 32P r\nread A 32P 3\nfork as P\nprocess P\npageout A 32P\n"
		 "together A 32P w\nread A 32P 3\nexit P\ncheck\n");
}

/* ---- several CPUs at once ---- */

static void who_waits_for_io_gets_the_page_or_reads_it_again(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++)
		run(i ? "tornado" : "tornado-shared",
		    "# I/O\n# cpus 4\nfile f 32P 7\nsync f\nevict f\n"
		    "map any 32P rw file f 0 shared as A\nmap any 32P rw file f 0 private as B\n"
		    "together A 32P r\ntogether B 32P w\ncheck\nread A 32P 7\nread B 32P 7\n"
		    "write A 1P 3\nshmem g 32P 5\nmap any 32P rw file g 0 shared as C\n"
		    "together C 32P w\npageout C 32P\ntogether C 32P r\nread C 32P 5\ncheck\n"
		    "map any 64P rw as D\nwrite D 64P 4\npageout D 64P\ntogether D 64P r\n"
		    "read D 64P 4\npageout D 64P\nfail swap read eio\nread D 1 -> bus\n"
		    "fail swap read none\ntogether D 64P w\nread D 64P 4\ncheck\n"
		    "truncate f 4P\nread A+5P 1 -> bus\nread A 1P 3\npunch g 0 4P\n"
		    "read C 4P 0\nread C+4P 28P 5\ncheck\n");
}

#define AREA	   0x40000000ULL
#define AREA_PAGES 48
#define FAULTERS   2

static struct system *tornado;

static struct program_map area(int file, bool shared)
{
	return (struct program_map){ .addr = AREA,
				     .len = AREA_PAGES * PAGE_SIZE,
				     .prot = VM_READ | VM_WRITE,
				     .flags = VMAP_FIXED,
				     .vm_flags = shared ? VM_SHARED : 0,
				     .file = file };
}

/* Whatever comes of it: the area changes all the time. */
static void *fault_at_random(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg;
	struct program *p = tornado->program;
	u32 random = 12345 + cpu;

	while (!atomic_load(&over)) {
		u64 va;
		u8 byte = 1;

		random = random * 1103515245 + 12345;
		va = AREA + (random >> 8) % AREA_PAGES * PAGE_SIZE + cpu; /* a byte of its own */
		p->ops->access(p, cpu, va, random >> 30 & 1 ? PF_WRITE : 0, &byte, 1);
	}
	return NULL;
}

/* Regions, and FCMs with them, go while others are in calls of them. */
static void regions_come_and_go_while_others_fault(void **state)
{
	static const char *const systems[] = { "tornado", "tornado-shared" };
	struct system_options o = { .cpus = FAULTERS + 1, .frames = 256 };
	pthread_t threads[FAULTERS];

	(void)state;
	for (unsigned k = 0; k < 2; k++) {
		const struct system_type *type = system_find(systems[k]);
		struct program *p;

		assert_int_equal(ledger_create(o.cpus, &o.ledger), 0);
		assert_int_equal(type->create(type, &o, &tornado), 0);
		p = tornado->program;
		assert_int_equal(p->ops->file_create(p, 0, false), 0);
		assert_int_equal(p->ops->file_truncate(p, 0, AREA_PAGES * PAGE_SIZE), 0);
		atomic_store(&over, false);
		for (uintptr_t i = 0; i < FAULTERS; i++)
			pthread_create(&threads[i], NULL, fault_at_random, (void *)(i + 1));
		for (unsigned i = 0; i < 300; i++) {
			struct program_map m = area(i % 3 ? 0 : -1, i % 3 == 1);
			u64 part = AREA + i % 8 * PAGE_SIZE;

			assert_int_equal(p->ops->map(p, 0, &m), AREA);
			assert_int_equal(p->ops->protect(p, 0, part, 5 * PAGE_SIZE, VM_READ), 0);
			p->ops->pageout(p, 0, AREA, AREA_PAGES * PAGE_SIZE);
			assert_int_equal(
				p->ops->protect(p, 0, part, 5 * PAGE_SIZE, VM_READ | VM_WRITE), 0);
			assert_int_equal(p->ops->unmap(p, 0, part, 9 * PAGE_SIZE), 0);
		}
		atomic_store(&over, true);
		for (unsigned i = 0; i < FAULTERS; i++)
			pthread_join(threads[i], NULL);
		p->ops->check(p);
		tornado->destroy(tornado);
		ledger_destroy(o.ledger);
	}
}

/* Between the engine's call and that of the Regions another CPU may fault: the old Region shares
 * the file, the area is private by now.  Its copy must not pass for the file's page. */
static void a_copy_for_an_area_without_its_region_is_not_the_file_s_page(void **state)
{
	const struct system_type *type = system_find("tornado");
	struct system_options o = { .cpus = 1, .frames = 256 };
	struct program_map private = area(0, false), shared = area(0, true);
	struct program *p;
	struct fcm *fcm;
	u8 byte = 7;
	u64 pfn;

	(void)state;
	assert_int_equal(ledger_create(o.cpus, &o.ledger), 0);
	assert_int_equal(type->create(type, &o, &tornado), 0);
	p = tornado->program;
	assert_int_equal(p->ops->file_create(p, 0, false), 0);
	assert_int_equal(p->ops->file_truncate(p, 0, AREA_PAGES * PAGE_SIZE), 0);
	fcm = tornado_file(engine_system_of_program(p)->program.files[0]->mapping)->fcm;
	assert_int_equal(p->ops->map(p, 0, &shared), AREA);
	assert_int_equal(p->ops->access(p, 0, AREA, PF_WRITE, &byte, 1), FAULT_OK);
	pfn = fcm_look(fcm, 0);
	assert_true(pfn != NO_PFN);
	assert_int_equal(soft_program_ops.map(p, 0, &private), AREA);
	/* One that it has, and one that it lacks. */
	for (u64 i = 0; i < 2; i++)
		assert_int_equal(p->ops->access(p, 0, AREA + i * PAGE_SIZE, PF_WRITE, &byte, 1),
				 FAULT_OK);
	assert_int_equal(fcm_look(fcm, 0), pfn);
	assert_true(fcm_look(fcm, 1) != NO_PFN);
	assert_true(
		page_test(pfn_page(&engine_system_of_program(p)->machine->engine, fcm_look(fcm, 1)),
			  PG_FILE));
	tornado->destroy(tornado);
	ledger_destroy(o.ledger);
}

/* ---- a copy that two read ---- */

static const struct store_ops *own_store;
static struct store_ops slow_store;
static _Atomic unsigned reading;

/* The first to read goes on some time after the second has come, too. */
static int slow_load(struct store *store, u64 slot, void *bytes)
{
	if (!atomic_fetch_add(&reading, 1)) {
		while (atomic_load(&reading) < 2)
			sched_yield();
		for (unsigned i = 0; i < 2000; i++)
			sched_yield();
	}
	return own_store->load(store, slot, bytes);
}

static void *read_copy(void *arg)
{
	unsigned cpu = (unsigned)(uintptr_t)arg;
	u8 byte = 0;

	assert_int_equal(tornado->program->ops->access(tornado->program, cpu, AREA, 0, &byte, 1),
			 FAULT_OK);
	return (void *)(uintptr_t)byte;
}

/* The second learns from the entry that the page is a copy, while the first has it filled: it reads
 * it, too, and waits for the first before it is gone. */
static void who_finds_a_copy_that_another_fills_waits_for_it(void **state)
{
	const struct system_type *type = system_find("tornado");
	struct system_options o = { .cpus = 3, .frames = 256 };
	struct program_map m = area(0, false);
	pthread_t threads[2];
	struct store *store;
	struct program *p;
	void *byte;
	u8 seven = 7;

	(void)state;
	assert_int_equal(ledger_create(o.cpus, &o.ledger), 0);
	assert_int_equal(type->create(type, &o, &tornado), 0);
	p = tornado->program;
	store = &engine_system_of_program(p)->store.store;
	assert_int_equal(p->ops->file_create(p, 0, false), 0);
	assert_int_equal(p->ops->file_truncate(p, 0, AREA_PAGES * PAGE_SIZE), 0);
	assert_int_equal(p->ops->map(p, 0, &m), AREA);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(p->ops->access(p, 0, AREA, PF_WRITE, &seven, 1), FAULT_OK);
		p->ops->pageout(p, 0, AREA, PAGE_SIZE);
		own_store = store->ops;
		slow_store = *own_store;
		slow_store.load = slow_load;
		store->ops = &slow_store;
		atomic_store(&reading, 0);
		pthread_create(&threads[0], NULL, read_copy, (void *)1);
		while (!atomic_load(&reading))
			sched_yield();
		pthread_create(&threads[1], NULL, read_copy, (void *)2);
		for (unsigned k = 0; k < 2; k++) {
			pthread_join(threads[k], &byte);
			assert_int_equal((uintptr_t)byte, 7);
		}
		store->ops = own_store;
		p->ops->check(p);
	}
	tornado->destroy(tornado);
	ledger_destroy(o.ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define OBJECT_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		OBJECT_TEST(each_cpu_misses_once_and_has_its_own_representative),
		OBJECT_TEST(a_miss_handler_may_have_cpus_share_one),
		OBJECT_TEST(a_wrong_reference_is_refused),
		OBJECT_TEST(what_is_destroyed_is_called_no_more_and_waits_for_who_is_in_a_call),
		OBJECT_TEST(a_reference_is_never_used_again),
		OBJECT_TEST(there_is_an_end_of_objects),
		OBJECT_TEST(objects_come_and_go_while_others_call),
		OBJECT_TEST(a_page_is_filled_by_one_and_the_others_are_told),
		OBJECT_TEST(a_thread_that_waits_for_a_page_is_woken),
		OBJECT_TEST(a_page_whose_frame_went_is_not_in_core),
		OBJECT_TEST(what_could_not_be_filled_is_filled_by_the_next),
		OBJECT_TEST(frames_are_at_home_where_they_were_taken_last),
		cmocka_unit_test(an_in_core_fault_is_four_calls_and_two_locks),
		cmocka_unit_test(a_fresh_page_is_six_calls_and_three_locks),
		cmocka_unit_test(a_page_that_must_be_read_costs_a_call_of_the_server_and_an_upcall),
		cmocka_unit_test(only_a_shared_fcm_is_remote),
		cmocka_unit_test(pages_of_the_other_s_part_are_remote),
		cmocka_unit_test(regions_follow_what_the_program_does),
		cmocka_unit_test(a_page_that_came_to_be_copied_is_known_to_the_file_s_fcm),
		cmocka_unit_test(a_copy_that_is_paged_out_is_filled_by_the_region_s_own_fcm),
		cmocka_unit_test(paged_out_copies_come_back_for_all_who_wait),
		cmocka_unit_test(who_waits_for_io_gets_the_page_or_reads_it_again),
		cmocka_unit_test(who_finds_a_copy_that_another_fills_waits_for_it),
		cmocka_unit_test(a_copy_for_an_area_without_its_region_is_not_the_file_s_page),
		cmocka_unit_test(regions_come_and_go_while_others_fault),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
