/* SPDX-License-Identifier: MIT */
/* A guest over shadow page tables: what it pays, and that its CPUs lose nothing. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "systems/lab.h"
#include "systems/shadow/shadow.h"
#include "tests/unit/unit.h"

/* ---- what is published ---- */

static u64 count_of(const char *system, const char *workload, enum ledger_counter counter)
{
	struct lab_result r;

	assert_int_equal(lab_run(system_find(system), workload_find(workload), 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	return r.counts[counter];
}

static void a_fresh_page_costs_three_exits(void **state)
{
	(void)state;
	assert_int_equal(count_of("shadow", "minor-fault", PAID_VM_EXITS), 3);
	assert_int_equal(count_of("shadow", "minor-read", PAID_VM_EXITS), 3);
	/* Where nothing has to be shadowed the guest has its exception, and no more. */
	assert_int_equal(count_of("shadow", "minor-fault", PAID_EXCEPTIONS), 1);
	/* And nothing has to leave where the processor knows of guests. */
	assert_int_equal(count_of("nested", "minor-fault", PAID_VM_EXITS), 0);
}

/* A hundred stores to one table: the third is taken for the end of the table. */
static void stores_in_a_row_stop_the_guest_three_times(void **state)
{
	(void)state;
	assert_true(count_of("shadow", "prot100", PAID_ENTRY_WRITES) >= 100);
	assert_int_equal(count_of("shadow", "prot1", PAID_VM_EXITS), 1 + 1);
	assert_int_equal(count_of("shadow", "prot100", PAID_VM_EXITS), SHADOW_FLOOD + 1);
	assert_int_equal(count_of("shadow-oos", "prot100", PAID_VM_EXITS), 1);
}

/* Shadows outlive it: each load of CR3 is one exit, and nothing is mended. */
static void a_guests_context_switch_costs_an_exit(void **state)
{
	static const struct workload switches = {
		"switches", "# from process to process, and back, both warm\n"
			    "map any 1P rw as A\nwrite A 1P 1\nfork as P\n"
			    "process P\nread A 1P 1\nprocess first\nread A 1P 1\n"
			    "measure\n"
			    "process P\nread A 1P 1\nprocess first\nread A 1P 1\n"
	};
	static const char *const names[] = { "shadow", "shadow-oos", "nested" };
	struct lab_result r;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(lab_run(system_find(names[i]), &switches, 0, &r), 0);
		assert_int_equal(r.verdict, LAB_OK);
		assert_int_equal(r.counts[PAID_VM_EXITS], i < 2 ? 2 : 0);
		assert_int_equal(r.counts[PAID_EXCEPTIONS], 0);
	}
}

/* Writes to `pages` fresh pages of one leaf table, behind the first two. */
static u64 exits_for(const struct system_type *type, u64 pages)
{
	const struct program_map area = { .len = 64 * PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	struct system_options o = { .cpus = 1, .frames = 512 };
	struct system *s;
	u64 exits, word = 1;
	s64 va;

	assert_int_equal(ledger_create(1, &o.ledger), 0);
	assert_int_equal(type->create(type, &o, &s), 0);
	va = s->program->ops->map(s->program, 0, &area);
	for (u64 i = 0; i < 2 + pages; i++) {
		if (i == 2)
			system_measure(s);
		assert_int_equal(s->program->ops->access(s->program, 0, (u64)va + i * PAGE_SIZE,
							 PF_WRITE, &word, sizeof(word)),
				 FAULT_OK);
	}
	system_measured(s);
	exits = s->total[PAID_VM_EXITS];
	s->program->ops->check(s->program);
	s->destroy(s);
	ledger_destroy(o.ledger);
	return exits;
}

static void a_table_out_of_sync_saves_one_of_three(void **state)
{
	(void)state;
	assert_int_equal(exits_for(&shadow_system, 20), 60);
	assert_int_equal(exits_for(&shadow_oos_system, 20), 40);
}

/* Up to 33 pages by INVLPG, each of which leaves the guest; more by a load of CR3. */
static void a_guests_flush_costs_an_exit_for_each_page_or_one(void **state)
{
	char text[200];
	const struct workload w = { "flush", text };
	struct lab_result r;

	(void)state;
	for (unsigned pages = 1; pages <= 40; pages += pages < 33 ? 16 : 1) {
		snprintf(text, sizeof(text),
			 "# rights are taken from pages\nmap any 40P rw as A\nwrite A 40P 1\n"
			 "measure\nprotect A %uP r\n",
			 pages);
		assert_int_equal(lab_run(system_find("shadow-oos"), &w, 0, &r), 0);
		assert_int_equal(r.verdict, LAB_OK);
		assert_int_equal(r.counts[PAID_VM_EXITS], pages > 33 ? 1 : pages);
	}
}

/* ---- on several CPUs ---- */

enum { CPUS = 4, ROUNDS = 3000, WORDS = 80 };

static struct system *guest;
static _Atomic unsigned running;
static u64 shared; /* a page in each of WORDS leaf tables */

struct runner {
	pthread_t thread;
	unsigned cpu;
};

static bool access_word(unsigned cpu, u64 va, u32 access, u64 *word)
{
	return guest->program->ops->access(guest->program, cpu, va, access, word, sizeof(*word)) ==
	       FAULT_OK;
}

static const char *write_words(const struct runner *r)
{
	u64 seed = r->cpu + 1, count[WORDS] = { 0 }, word;

	ledger_begin(guest->ledger, r->cpu);
	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 k = rnd_below(&seed, WORDS);
		u64 va = shared + k * PMD_SIZE + r->cpu * sizeof(u64);

		if (!access_word(r->cpu, va, 0, &word) || word != count[k])
			return "a word is not what was written";
		word = ++count[k];
		if (!access_word(r->cpu, va, PF_WRITE, &word))
			return "a word cannot be written to";
	}
	return NULL;
}

static void *run(void *arg)
{
	const char *failed = write_words(arg);

	atomic_fetch_sub(&running, 1);
	return (void *)failed;
}

static void create(const struct system_type *type)
{
	const struct program_map area = { .len = (WORDS + 1) * PMD_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	struct system_options o = { .cpus = CPUS, .frames = 512 };
	s64 at;

	assert_int_equal(ledger_create(CPUS, &o.ledger), 0);
	assert_int_equal(type->create(type, &o, &guest), 0);
	at = guest->program->ops->map(guest->program, 0, &area);
	assert_true(at > 0);
	shared = ((u64)at + PMD_SIZE - 1) & PMD_MASK;
}

static void destroy(void)
{
	struct ledger *l = guest->ledger;

	ledger_begin(NULL, 0);
	guest->destroy(guest);
	ledger_destroy(l);
}

/* The hypervisor wants the room of a shadow, whichever it is. */
static void drop_any(struct shadow *s, u64 *seed)
{
	u32 i = (u32)rnd_below(seed, s->room);

	shadow_lock(s);
	if (atomic_load(&s->tables[i].level))
		shadow_drop(s, i);
	shadow_settle(s);
	shadow_unlock(s);
}

/* While four CPUs write, the guest takes pages away, and the hypervisor shadows. */
static void guest_and_hypervisor_at_once(const struct system_type *type)
{
	struct runner runners[CPUS];
	u64 seed = 99;
	void *failed;

	create(type);
	atomic_store(&running, CPUS);
	for (unsigned i = 0; i < CPUS; i++) {
		runners[i].cpu = i;
		assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
	}
	ledger_begin(NULL, 0);
	while (atomic_load(&running)) {
		drop_any(shadow_of(guest), &seed);
		guest->program->ops->reclaim(guest->program, 1);
		sched_yield();
	}
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_join(runners[i].thread, &failed);
		if (failed)
			fail_msg("CPU %u: %s", i, (const char *)failed);
	}
	/* There are more tables than room. */
	assert_true(shadow_of(guest)->room < WORDS);
	guest->program->ops->check(guest->program);
	destroy();
}

static void nothing_is_lost_while_shadows_go_from_running_cpus(void **state)
{
	(void)state;
	guest_and_hypervisor_at_once(&shadow_system);
	guest_and_hypervisor_at_once(&shadow_oos_system);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_page_costs_three_exits),
		cmocka_unit_test(stores_in_a_row_stop_the_guest_three_times),
		cmocka_unit_test(a_guests_context_switch_costs_an_exit),
		cmocka_unit_test(a_table_out_of_sync_saves_one_of_three),
		cmocka_unit_test(a_guests_flush_costs_an_exit_for_each_page_or_one),
		cmocka_unit_test(nothing_is_lost_while_shadows_go_from_running_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
