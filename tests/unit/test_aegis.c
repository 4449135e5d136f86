/* SPDX-License-Identifier: MIT */
/* Aegis: the software TLB, what fills it, and what a fault costs with it. */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "engine/mmu/error_code.h"
#include "systems/exokernel/aegis.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"
#include "systems/lab.h"
#include "tests/unit/unit.h"

#define FRAMES 1024ULL
#define AT     0x20000000ULL
#define R      (PTE_PRESENT | PTE_USER)

/* ---- the software TLB alone ---- */

static struct stlb t;

static bool finds(unsigned asid, u64 va, u32 access)
{
	pte_t pte;

	return stlb_look(&t, asid, va, access, &pte);
}

static void a_translation_is_found_by_whose_it_is(void **state)
{
	pte_t pte = { 0 };

	(void)state;
	stlb_init(&t);
	assert_false(finds(0, AT, 0));
	stlb_write(&t, 0, AT, pte_make(7, R));
	assert_true(stlb_look(&t, 0, AT + 123, 0, &pte));
	assert_int_equal(pte_pfn(pte), 7);
	assert_false(finds(1, AT, 0));
	assert_false(finds(0, AT + PAGE_SIZE, 0));
	/* In the same place. */
	assert_false(finds(0, AT + STLB_ENTRIES * PAGE_SIZE, 0));
	stlb_write(&t, 0, AT + STLB_ENTRIES * PAGE_SIZE, pte_make(8, R));
	assert_false(finds(0, AT, 0));
	assert_int_equal(t.hits, 1);
	assert_int_equal(t.misses, 5);
}

static void it_allows_what_the_translation_allows(void **state)
{
	(void)state;
	stlb_init(&t);
	stlb_write(&t, 0, AT, pte_make(7, R | PTE_NX));
	assert_true(finds(0, AT, 0));
	assert_false(finds(0, AT, PF_WRITE));
	assert_false(finds(0, AT, PF_INSTR));
	stlb_write(&t, 0, AT, pte_make(7, R | PTE_WRITE));
	assert_true(finds(0, AT, PF_INSTR));
	assert_false(finds(0, AT, PF_WRITE)); /* the library has not noted that it is dirty */
	stlb_write(&t, 0, AT, pte_make(7, R | PTE_WRITE | PTE_DIRTY));
	assert_true(finds(0, AT, PF_WRITE));
}

static bool is_frame_7(const void *arg, pte_t pte)
{
	(void)arg;
	return pte_pfn(pte) == 7;
}

static void translations_go_by_page_by_space_and_by_frame(void **state)
{
	(void)state;
	stlb_init(&t);
	for (unsigned asid = 0; asid < 2; asid++)
		for (u64 i = 0; i < 4; i++)
			stlb_write(&t, asid, AT + i * PAGE_SIZE, pte_make(6 + i, R));
	stlb_delete(&t, 0, AT);
	stlb_delete(&t, 1, AT + 8 * PAGE_SIZE);
	assert_false(finds(0, AT, 0));
	assert_true(finds(1, AT, 0));
	stlb_delete_if(&t, is_frame_7, NULL);
	assert_false(finds(0, AT + PAGE_SIZE, 0));
	assert_false(finds(1, AT + PAGE_SIZE, 0));
	stlb_delete_all(&t, 1);
	assert_false(finds(1, AT, 0));
	assert_true(finds(0, AT + 2 * PAGE_SIZE, 0));
}

/* ---- with a library ---- */

static struct system *s;
static struct aegis *a;
static struct program *p;

static int setup(void **state)
{
	struct system_options o = { .cpus = 2, .frames = FRAMES };

	(void)state;
	if (ledger_create(o.cpus, &o.ledger) || aegis_system.create(&aegis_system, &o, &s))
		return -1;
	a = exokernel_of(s)->aegis;
	p = s->program;
	ledger_begin(o.ledger, 0);
	return 0;
}

static int teardown(void **state)
{
	struct ledger *ledger = s->ledger;

	(void)state;
	p->ops->check(p);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

static u64 paid(enum ledger_counter counter)
{
	return ledger_sum(s->ledger, counter);
}

static u64 map_pages(u64 n)
{
	const struct program_map area = { .len = n * PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };

	return (u64)p->ops->map(p, 0, &area);
}

static enum fault_reason touch(unsigned cpu, u64 va, u32 access, u64 *word)
{
	return p->ops->access(p, cpu, va, access, word, sizeof(*word));
}

static void write_pages(u64 va, u64 n, u64 first)
{
	for (u64 i = 0; i < n; i++) {
		u64 word = first + i;

		assert_int_equal(touch(0, va + i * PAGE_SIZE, PF_WRITE, &word), FAULT_OK);
	}
}

static void pages_are(unsigned cpu, u64 va, u64 n, u64 first)
{
	u64 word;

	for (u64 i = 0; i < n; i++) {
		assert_int_equal(touch(cpu, va + i * PAGE_SIZE, 0, &word), FAULT_OK);
		assert_int_equal(word, first + i);
	}
}

/* Twice as many pages as the TLB has places: each reading misses there. */
static void a_hit_of_the_software_tlb_costs_no_upcall(void **state)
{
	const u64 n = 2 * TLB_ENTRIES;
	u64 va = map_pages(n);

	(void)state;
	write_pages(va, n, 1);
	pages_are(0, va, n, 1);
	ledger_reset(s->ledger);
	pages_are(0, va, n, 1);
	assert_int_equal(paid(PAID_EXCEPTIONS), n);
	assert_int_equal(paid(PAID_CROSSINGS), 2 * n);
	assert_int_equal(paid(PAID_UPCALLS), 0);
	assert_int_equal(paid(PAID_SYSTEM_CALLS), 0);
	assert_int_equal(paid(PAID_CAPABILITIES), 0); /* bound once, used often */
	/* In the TLB: nothing at all. */
	pages_are(0, va, 1, 1);
	ledger_reset(s->ledger);
	pages_are(0, va, 1, 1);
	assert_int_equal(paid(PAID_EXCEPTIONS), 0);
}

static void what_another_cpu_had_installed_serves_this_one(void **state)
{
	u64 va = map_pages(8);

	(void)state;
	write_pages(va, 8, 1);
	ledger_reset(s->ledger);
	pages_are(1, va, 8, 1);
	assert_int_equal(paid(PAID_EXCEPTIONS), 8);
	assert_int_equal(paid(PAID_UPCALLS), 0);
}

/* The first write after a read is for the library: it keeps the dirty bit. */
static void the_library_is_told_of_the_first_write(void **state)
{
	u64 va = map_pages(1), word = 5;

	(void)state;
	write_pages(va, 1, 1);
	p->ops->pageout(p, 0, va, PAGE_SIZE);
	pages_are(0, va, 1, 1);
	ledger_reset(s->ledger);
	assert_int_equal(touch(0, va, PF_WRITE, &word), FAULT_OK);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
	assert_int_equal(paid(PAID_UPCALLS), 1);
	assert_int_equal(touch(0, va, PF_WRITE, &word), FAULT_OK);
	assert_int_equal(paid(PAID_EXCEPTIONS), 1);
}

static void what_is_taken_away_is_in_no_tlb(void **state)
{
	u64 va = map_pages(8), word = 9;
	pte_t pte;

	(void)state;
	write_pages(va, 8, 1);
	pages_are(1, va, 8, 1);
	assert_int_equal(p->ops->protect(p, 0, va, PAGE_SIZE, VM_READ), 0);
	assert_false(stlb_look(&a->stlb, 0, va, PF_WRITE, &pte));
	assert_int_equal(touch(1, va, PF_WRITE, &word), FAULT_ACCERR);
	assert_int_equal(p->ops->unmap(p, 0, va + PAGE_SIZE, PAGE_SIZE), 0);
	assert_false(stlb_look(&a->stlb, 0, va + PAGE_SIZE, 0, &pte));
	assert_int_equal(touch(1, va + PAGE_SIZE, 0, &word), FAULT_MAPERR);
	p->ops->pageout(p, 0, va + 2 * PAGE_SIZE, PAGE_SIZE);
	assert_false(stlb_look(&a->stlb, 0, va + 2 * PAGE_SIZE, 0, &pte));
	pages_are(1, va + 2 * PAGE_SIZE, 6, 3);
}

/* What hardware with page tables would tell the program's handler. */
static void the_error_code_is_the_library_s(void **state)
{
	const struct soft_cpu *cpu = &exokernel_of(s)->base.machine->cpus[0];
	u64 va = map_pages(2), word = 9;

	(void)state;
	write_pages(va, 2, 1);
	assert_int_equal(p->ops->protect(p, 0, va, PAGE_SIZE, VM_READ), 0);
	assert_int_equal(touch(0, va + 8, PF_WRITE, &word), FAULT_ACCERR);
	assert_int_equal(cpu->cr2, va + 8);
	assert_int_equal(cpu->error_code, PF_PROT | PF_WRITE | PF_USER);
	assert_int_equal(p->ops->unmap(p, 0, va, PAGE_SIZE), 0);
	assert_int_equal(touch(0, va, 0, &word), FAULT_MAPERR);
	assert_int_equal(cpu->error_code, PF_USER);
}

static void spaces_share_the_software_tlb_and_nothing_else(void **state)
{
	u64 va = map_pages(16), word = 77;

	(void)state;
	write_pages(va, 16, 1);
	assert_int_equal(p->ops->fork(p, 0, 1), 0);
	p->ops->run(p, 1, 1);
	pages_are(1, va, 16, 1);
	assert_int_equal(touch(1, va, PF_WRITE, &word), FAULT_OK);
	write_pages(va + PAGE_SIZE, 1, 88);
	pages_are(0, va, 1, 1);
	pages_are(1, va, 1, 77);
	pages_are(1, va + PAGE_SIZE, 1, 2);
	pages_are(0, va + PAGE_SIZE, 1, 88);
	p->ops->check(p);
	p->ops->exit(p, 1);
	for (unsigned i = 0; i < STLB_ENTRIES; i++)
		if (a->stlb.entries[i].page != STLB_NONE)
			assert_int_equal(a->stlb.entries[i].asid, 0);
}

/* More pages than frames: what the library evicts is in no TLB by then. */
static void pages_come_and_go(void **state)
{
	u64 va = map_pages(FRAMES + 200);

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		write_pages(va, FRAMES + 200, 1000 * i);
		pages_are(i % 2, va, FRAMES + 200, 1000 * i);
		p->ops->check(p);
	}
}

/* ---- frames go back ---- */

static unsigned asked;

static void keep_all(void *arg, u64 n)
{
	(void)arg, (void)n;
	asked++;
}

static void read_later(void *arg)
{
	(void)arg;
}

static const struct xok_entries deaf = { .revoke = keep_all, .repossessed = read_later };

/* Translations of the software TLB that lead to frames that are not the library's. */
static u64 stale(void)
{
	u64 n = 0;

	for (unsigned i = 0; i < STLB_ENTRIES; i++) {
		const struct stlb_entry *e = &a->stlb.entries[i];

		if (e->page != STLB_NONE)
			n += atomic_load(xok_owner(a->xok, pte_pfn(e->pte))) != LIBRARY_RESOURCE;
	}
	return n;
}

static void a_library_gives_frames_back(void **state)
{
	u64 va = map_pages(800);

	(void)state;
	write_pages(va, 800, 1);
	ledger_reset(s->ledger);
	assert_int_equal(xok_revoke(a->xok, LIBRARY_RESOURCE, 700), 700);
	assert_int_equal(paid(PAID_UPCALLS), 1);
	assert_int_equal(stale(), 0);
	pages_are(0, va, 800, 1);
}

static void a_binding_does_not_outlive_a_repossession(void **state)
{
	u64 va = map_pages(800);

	(void)state;
	write_pages(va, 800, 1);
	pages_are(1, va, 800, 1);
	assert_int_equal(xok_hold(a->xok, LIBRARY_RESOURCE, &deaf, &exokernel_of(s)->library), 0);
	assert_int_equal(xok_revoke(a->xok, LIBRARY_RESOURCE, 700), 700);
	assert_int_equal(asked, XOK_PATIENCE);
	assert_int_equal(stale(), 0);
	for (u64 i = 0; i < a->xok->nr_frames; i++)
		if (atomic_load(&a->xok->owners[i]) == XOK_KERNEL)
			memset(a->xok->machine->memory +
				       ((a->xok->machine->nr_table + i) << PAGE_SHIFT),
			       0x5a, PAGE_SIZE);
	pages_are(1, va, 800, 1);
	pages_are(0, va, 800, 1);
	assert_int_equal(stale(), 0);
}

static void what_is_given_back_is_not_installed_again(void **state)
{
	u64 va = map_pages(1), pfn, word;
	pte_t pte;

	(void)state;
	write_pages(va, 1, 1);
	assert_true(stlb_look(&a->stlb, 0, va, 0, &pte));
	pfn = pte_pfn(pte);
	/* Its table maps it on: that is not the kernel's to know. */
	assert_int_equal(xok_give_frames(a->xok, 0, LIBRARY_CAP, &pfn, 1), 0);
	assert_false(stlb_look(&a->stlb, 0, va, 0, &pte));
	assert_int_equal(aegis_tlbwr(a, 0, LIBRARY_CAP, 0, va, pte), -EACCES);
	assert_int_equal(xok_take_list(a->xok, 0, LIBRARY_CAP, &pfn, 1), 0);
	assert_int_equal(touch(0, va, 0, &word), FAULT_OK);
	assert_int_equal(word, 0); /* wiped */
}

#define RUN_PAGES 120ULL

static _Atomic bool stop;
static _Atomic u64 rounds;
static u64 run_at;

/* On the second CPU: a page has what was written to it last. */
static void *run(void *arg)
{
	u64 round = 0, word;
	bool ok = true;

	(void)arg;
	do {
		atomic_store(&rounds, ++round);
		for (u64 i = 0; i < RUN_PAGES; i++) {
			word = round * 1000 + i;
			ok &= touch(1, run_at + i * PAGE_SIZE, PF_WRITE, &word) == FAULT_OK;
		}
		for (u64 i = 0; i < RUN_PAGES; i++) {
			ok &= touch(1, run_at + i * PAGE_SIZE, 0, &word) == FAULT_OK;
			ok &= word == round * 1000 + i;
		}
	} while (!atomic_load(&stop));
	ledger_begin(NULL, 0);
	return ok ? NULL : (void *)1;
}

static void frames_go_and_come_while_the_program_runs(void **state)
{
	struct library *l = &exokernel_of(s)->library;
	u64 taken = 0;
	pthread_t thread;
	void *result;

	(void)state;
	run_at = map_pages(RUN_PAGES);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
	for (unsigned i = 0; i < 12; i++) {
		u64 round = atomic_load(&rounds), n = i % 3 == 2 ? 8 : FRAMES - 160;

		xok_hold(a->xok, LIBRARY_RESOURCE, i % 3 == 2 ? &deaf : &library_entries, l);
		taken += xok_revoke(a->xok, LIBRARY_RESOURCE, n);
		while (atomic_load(&rounds) < round + 2)
			sched_yield();
		library_ask(l, n);
	}
	atomic_store(&stop, true);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(taken, 8 * (FRAMES - 160) + 4 * 8);
	library_read_vector(l);
	assert_int_equal(stale(), 0);
}

/* ---- what was published ---- */

static u64 count_of(const char *system, const char *workload, enum ledger_counter counter)
{
	struct lab_result r;

	assert_int_equal(lab_run(system_find(system), workload_find(workload), 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	return r.counts[counter];
}

/* Engler et al., SOSP 1995: a fault is in the program's hands at once; protecting many pages is
 * dearer than where the kernel does it. */
static void dispatch_is_cheap_and_prot100_is_dear(void **state)
{
	(void)state;
	assert_int_equal(count_of("aegis", "trap", PAID_EXCEPTIONS), 1);
	assert_int_equal(count_of("aegis", "trap", PAID_SYSTEM_CALLS), 0);
	assert_int_equal(count_of("aegis", "trap", PAID_CROSSINGS), 2);
	assert_int_equal(count_of("aegis", "prot1", PAID_SYSTEM_CALLS), 1);
	assert_int_equal(count_of("aegis", "prot100", PAID_SYSTEM_CALLS), 100);
	assert_int_equal(count_of("aegis", "prot100", PAID_CROSSINGS), 200);
	assert_int_equal(count_of("linux", "prot100", PAID_CROSSINGS), 2);
	/* The hardware reads no page table. */
	assert_int_equal(count_of("aegis", "pressure", PAID_WALK_READS), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_translation_is_found_by_whose_it_is),
		cmocka_unit_test(it_allows_what_the_translation_allows),
		cmocka_unit_test(translations_go_by_page_by_space_and_by_frame),
		TEST(a_hit_of_the_software_tlb_costs_no_upcall),
		TEST(what_another_cpu_had_installed_serves_this_one),
		TEST(the_library_is_told_of_the_first_write),
		TEST(what_is_taken_away_is_in_no_tlb),
		TEST(the_error_code_is_the_library_s),
		TEST(spaces_share_the_software_tlb_and_nothing_else),
		TEST(pages_come_and_go),
		TEST(a_library_gives_frames_back),
		TEST(a_binding_does_not_outlive_a_repossession),
		TEST(what_is_given_back_is_not_installed_again),
		TEST(frames_go_and_come_while_the_program_runs),
		cmocka_unit_test(dispatch_is_cheap_and_prot100_is_dear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
