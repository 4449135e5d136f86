/* SPDX-License-Identifier: MIT */
/* The exokernel: what it checks, and how it gets frames back. */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"
#include "tests/unit/unit.h"

#define FRAMES 256ULL
#define AT     0x20000000ULL
#define OTHER  (LIBRARY_RESOURCE + 1)

static struct system *s;
static struct exokernel *x;
static struct xok *k;

static int setup(void **state)
{
	struct system_options o = { .cpus = 2, .frames = FRAMES };

	(void)state;
	if (ledger_create(o.cpus, &o.ledger) || xok_system.create(&xok_system, &o, &s))
		return -1;
	x = exokernel_of(s);
	k = &x->xok;
	ledger_begin(o.ledger, 0);
	ledger_reset(o.ledger);
	return 0;
}

static int teardown(void **state)
{
	struct ledger *ledger = s->ledger;

	(void)state;
	s->program->ops->check(s->program);
	s->destroy(s);
	ledger_destroy(ledger);
	return 0;
}

static u64 paid(enum ledger_counter counter)
{
	return ledger_sum(s->ledger, counter);
}

static u64 map_pages(u64 n, u32 vm_flags, int file)
{
	const struct program_map a = {
		.len = n * PAGE_SIZE, .prot = VM_READ | VM_WRITE, .vm_flags = vm_flags, .file = file
	};

	return (u64)s->program->ops->map(s->program, 0, &a);
}

static void write_page(u64 va, u64 word)
{
	assert_int_equal(s->program->ops->access(s->program, 0, va, PF_WRITE, &word, sizeof(word)),
			 FAULT_OK);
}

static u64 read_page(unsigned cpu, u64 va)
{
	u64 word = 0;

	assert_int_equal(s->program->ops->access(s->program, cpu, va, 0, &word, sizeof(word)),
			 FAULT_OK);
	return word;
}

static void write_pages(u64 va, u64 n)
{
	for (u64 i = 0; i < n; i++)
		write_page(va + i * PAGE_SIZE, i + 1);
}

static void pages_are_right(u64 va, u64 n)
{
	for (u64 i = 0; i < n; i++)
		assert_int_equal(read_page(0, va + i * PAGE_SIZE), i + 1);
}

static pte_t *entry_of(struct mm *mm, u64 va)
{
	spinlock_t *ptl;

	return pte_find(mm, va, &ptl);
}

/* That it has beside those of its exception stacks. */
static u64 frames(void)
{
	u64 stacks = 0;

	for (unsigned i = 0; i < XOK_ENVS; i++)
		stacks += k->envs[i].used ? k->stack_pages : 0;
	return atomic_load(&k->holders[LIBRARY_RESOURCE].frames) - stacks;
}

static u64 names(void)
{
	return atomic_load(&k->holders[LIBRARY_RESOURCE].nr_vector);
}

/* Frames that nobody has. */
static u64 nobodys(void)
{
	u64 n = 0;

	for (u64 i = 0; i < k->nr_frames; i++)
		n += atomic_load(&k->owners[i]) == XOK_KERNEL;
	return n;
}

/* ---- capabilities ---- */

static int try_insert(unsigned env, unsigned cap, unsigned target, u64 pfn, u64 bits)
{
	pte_t entry = { 0 }, pte = pte_make(pfn, bits);
	struct page *page = NULL;
	int got = xok_insert_pte(k, env, cap, target, AT, &entry, &pte, &page, 1);

	assert_int_equal(entry.v, got == 1 ? pte.v : 0);
	return got;
}

#define RO (PTE_PRESENT | PTE_USER)
#define RW (RO | PTE_WRITE)

static void give_cap(unsigned cap, u32 resource, u32 rights)
{
	k->envs[0].caps[cap] = (struct xok_capability){ .resource = resource, .rights = rights };
}

static void a_capability_opens_its_resource_with_its_rights(void **state)
{
	u64 first = k->machine->nr_table;

	(void)state;
	give_cap(1, LIBRARY_RESOURCE, XOK_READ);
	give_cap(2, OTHER, XOK_READ | XOK_WRITE);
	atomic_store(xok_owner(k, first + 1), OTHER);
	assert_int_equal(try_insert(0, 0, 0, first, RW), 1);
	assert_int_equal(try_insert(0, 1, 0, first, RO), 1);
	assert_int_equal(try_insert(0, 1, 0, first, RW), -EACCES);
	assert_int_equal(try_insert(0, 2, 0, first, RW), -EACCES);
	assert_int_equal(try_insert(0, 2, 0, first + 1, RW), 1);
	assert_int_equal(try_insert(0, 0, 0, first + 1, RO), -EACCES);
	assert_int_equal(try_insert(0, 3, 0, first, RO), -EBADF);
	assert_int_equal(try_insert(0, XOK_CAPS, 0, first, RO), -EBADF);
	assert_int_equal(try_insert(1, 0, 1, first, RO), -EBADF);
	assert_int_equal(try_insert(XOK_ENVS, 0, 0, first, RO), -EBADF);
	assert_int_equal(try_insert(0, 0, 1, first, RO), -EACCES);
	assert_int_equal(try_insert(0, 0, 0, first, PTE_PRESENT), -EINVAL);
	assert_int_equal(try_insert(0, 0, 0, first, 0), -EINVAL);
	assert_int_equal(try_insert(0, 0, 0, first - 1, RO), -EACCES);
	assert_int_equal(try_insert(0, 0, 0, first + k->nr_frames, RO), -EACCES);
	/* Nobody may access it, so whatever it names is nobody's business. */
	assert_int_equal(try_insert(0, 1, 0, first + 1, (RW & ~PTE_PRESENT) | PTE_GLOBAL), 1);
	assert_int_equal(paid(PAID_CAPABILITIES), 16);
}

static void one_bad_entry_of_many_spoils_the_call(void **state)
{
	u64 first = k->machine->nr_table;
	const pte_t ptes[] = { pte_make(first, RO), pte_make(first + 1, RO) };
	struct page *pages[2] = { NULL, NULL };
	pte_t entries[2] = { { 0 }, { 0 } };

	(void)state;
	atomic_store(xok_owner(k, first + 1), OTHER);
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, AT, entries, ptes, pages, 2), -EACCES);
	assert_true(pte_none(entries[0]) && pte_none(entries[1]));
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, AT + 1, entries, ptes, pages, 1), -EINVAL);
	/* The second page would be in the kernel's half. */
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, 0x7ffffffff000, entries, ptes, pages, 2),
			 -EINVAL);
	atomic_store(xok_owner(k, first + 1), LIBRARY_RESOURCE);
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, AT, entries, ptes, pages, 2), 2);
	/* Once more, and where one of two is there. */
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, AT, entries, ptes, pages, 2), -EEXIST);
	entries[0] = (pte_t){ 0 };
	assert_int_equal(xok_insert_pte(k, 0, 0, 0, AT, entries, ptes, pages, 2), -EEXIST);
	assert_true(pte_none(entries[0]));
}

static void an_entry_is_changed_as_it_is_inserted(void **state)
{
	u64 first = k->machine->nr_table;
	pte_t entry = pte_make(first, RO);

	(void)state;
	give_cap(1, LIBRARY_RESOURCE, XOK_READ);
	assert_int_equal(xok_mod_pte(k, 0, 1, 0, AT, &entry, pte_make(first, RW)), -EACCES);
	assert_int_equal(entry.v, pte_make(first, RO).v);
	assert_int_equal(xok_mod_pte(k, 0, 0, 0, AT, &entry, pte_make(first, RW)), 0);
	assert_int_equal(entry.v, pte_make(first, RW).v);
	entry = (pte_t){ 0 };
	assert_int_equal(xok_mod_pte(k, 0, 0, 0, AT, &entry, pte_make(first, RW)), -ENOENT);
	assert_true(pte_none(entry));
	assert_int_equal(xok_check_removal(k, 0, 0, 0), 0);
	assert_int_equal(xok_check_removal(k, 0, 0, 1), -EACCES);
	assert_int_equal(xok_check_removal(k, 0, 4, 0), -EBADF);
}

static void an_environment_begins_with_its_maker_s_capabilities(void **state)
{
	u64 first = k->machine->nr_table;

	(void)state;
	give_cap(1, LIBRARY_RESOURCE, XOK_READ);
	assert_int_equal(xok_env_create(k, 0, XOK_ENVS, x->base.mm), -EINVAL);
	assert_int_equal(xok_env_create(k, 0, 0, x->base.mm), -EEXIST);
	assert_int_equal(xok_env_create(k, 0, 1, x->base.mm), 0);
	assert_int_equal(try_insert(1, 1, 1, first, RW), -EACCES);
	assert_int_equal(try_insert(1, 0, 1, first, RW), 1);
	assert_int_equal(try_insert(1, 0, 0, first, RW), -EACCES);
	assert_int_equal(xok_env_destroy(k, 0, 4, 1), -EBADF);
	give_cap(5, OTHER, XOK_READ);
	assert_int_equal(xok_env_destroy(k, 0, 5, 1), -EACCES);
	assert_int_equal(xok_env_destroy(k, 0, 0, XOK_ENVS), -EACCES);
	assert_int_equal(xok_env_destroy(k, 0, 0, 1), 0);
	assert_int_equal(xok_env_destroy(k, 0, 0, 1), -EACCES);
	assert_int_equal(try_insert(1, 0, 1, first, RW), -EBADF);
}

static void frames_are_taken_all_or_none(void **state)
{
	u64 first = k->machine->nr_table, pfns[] = { first, first + 2, first + 1 };

	(void)state;
	give_cap(1, OTHER, XOK_READ);
	give_cap(2, OTHER, XOK_GRANT);
	atomic_store(xok_owner(k, first), XOK_KERNEL);
	atomic_store(xok_owner(k, first + 2), XOK_KERNEL);
	assert_int_equal(xok_take_list(k, 0, 1, pfns, 2), -EACCES);
	assert_int_equal(xok_take_list(k, 0, 2, pfns, 3), -EBUSY);
	assert_int_equal(xok_take_frames(k, 0, 2, first, 2), -EBUSY);
	assert_int_equal(nobodys(), 2);
	pfns[2] = first;
	assert_int_equal(xok_take_list(k, 0, 2, pfns, 3), -EBUSY);
	assert_int_equal(nobodys(), 2);
	assert_int_equal(xok_take_list(k, 0, 2, pfns, 2), 0);
	assert_int_equal(nobodys(), 0);
	assert_int_equal(atomic_load(&k->holders[OTHER].frames), 2);
	for (u64 i = 0; i < 3; i += 2)
		atomic_store(xok_owner(k, first + i), LIBRARY_RESOURCE);
}

/* ---- a library that answers ---- */

static void a_library_gives_back_what_it_is_asked_for(void **state)
{
	u64 va = map_pages(200, 0, -1);

	(void)state;
	write_pages(va, 200);
	ledger_reset(s->ledger);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 150), 150);
	assert_int_equal(paid(PAID_UPCALLS), 1);
	assert_true(paid(PAID_IO_WRITES) >= 90); /* where to, with what was in them? */
	assert_int_equal(frames(), FRAMES - 150);
	assert_int_equal(nobodys(), 150);
	assert_int_equal(names(), 0);
	/* With less memory, and nothing lost. */
	pages_are_right(va, 200);
	assert_int_equal(library_ask(&x->library, 100), 100);
	assert_int_equal(nobodys(), 50);
	pages_are_right(va, 200);
	assert_int_equal(library_ask(&x->library, 100), 50);
	assert_int_equal(frames(), FRAMES);
}

static void what_was_in_a_frame_is_gone_with_it(void **state)
{
	u64 va = map_pages(100, 0, -1), first = k->machine->nr_table;

	(void)state;
	write_pages(va, 100);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 200), 200);
	for (u64 i = 0; i < k->nr_frames; i++) {
		const u64 *words = (u64 *)(k->machine->memory + ((first + i) << PAGE_SHIFT));

		if (atomic_load(&k->owners[i]) == XOK_KERNEL)
			assert_int_equal(words[0], 0);
	}
	pages_are_right(va, 100);
}

/* ---- libraries that do not ---- */

static unsigned asked;
static u64 asked_for, gives;

/* Says that it has heard; `gives` frames it does give back, the first time. */
static void hesitate(void *arg, u64 n)
{
	u64 given = asked++ ? 0 : gives;

	asked_for = n;
	if (given)
		library_entries.revoke(arg, given);
}

static void told(void *arg)
{
	library_entries.repossessed(arg);
}

static void not_interested(void *arg)
{
	(void)arg;
}

static const struct xok_entries hesitant = { .revoke = hesitate, .repossessed = told };
static const struct xok_entries deaf = { .revoke = hesitate, .repossessed = not_interested };

static void becomes(const struct xok_entries *entries, u64 gives_back)
{
	asked = 0;
	gives = gives_back;
	assert_int_equal(xok_hold(k, LIBRARY_RESOURCE, entries, &x->library), 0);
}

static void who_does_not_answer_is_left_without(void **state)
{
	u64 va = map_pages(200, 0, -1);

	(void)state;
	write_pages(va, 200);
	becomes(&hesitant, 0);
	ledger_reset(s->ledger);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 150), 150);
	assert_int_equal(asked, XOK_PATIENCE);
	assert_int_equal(paid(PAID_UPCALLS), XOK_PATIENCE + 1);
	assert_int_equal(frames(), FRAMES - 150);
	assert_int_equal(nobodys(), 150);
	assert_int_equal(names(), 0); /* it has read its vector */
	pages_are_right(va, 200);
}

static void who_gives_too_few_loses_the_rest(void **state)
{
	u64 va = map_pages(200, 0, -1);

	(void)state;
	write_pages(va, 200);
	becomes(&deaf, 20);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 50), 50);
	assert_int_equal(asked, XOK_PATIENCE);
	assert_int_equal(asked_for, 30);
	assert_int_equal(names(), 30);
	assert_int_equal(nobodys(), 50);
	pages_are_right(va, 200);
}

static bool is_nobodys(pte_t pte)
{
	return atomic_load(xok_owner(k, pte_pfn(pte))) == XOK_KERNEL;
}

/* Until it reads its vector the library has entries that nobody may use. */
static void no_translation_outlives_a_repossession(void **state)
{
	u64 va = map_pages(200, 0, -1), taken = 0;

	(void)state;
	write_pages(va, 200);
	pages_are_right(va, 200); /* the TLB has them all */
	becomes(&deaf, 0);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 150), 150);
	for (u64 i = 0; i < 200; i++) {
		pte_t pte = pte_read(entry_of(x->base.mm, va + i * PAGE_SIZE));

		if (!pte_mapped(pte) || !is_nobodys(pte))
			continue;
		taken++;
		assert_false(pte_present(pte));
		assert_int_equal(try_insert(0, 0, 0, pte_pfn(pte), RO), -EACCES);
		memset(k->machine->memory + (pte_pfn(pte) << PAGE_SHIFT), 0x5a, PAGE_SIZE);
	}
	assert_true(taken > 90);
	pages_are_right(va, 200);
}

static void a_page_survives_in_both_of_parent_and_child(void **state)
{
	u64 va = map_pages(150, 0, -1);

	(void)state;
	write_pages(va, 150);
	assert_int_equal(s->program->ops->fork(s->program, 0, 1), 0);
	s->program->ops->run(s->program, 1, 1);
	becomes(&hesitant, 0);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 100), 100);
	for (u64 i = 0; i < 150; i++)
		assert_int_equal(read_page(1, va + i * PAGE_SIZE), i + 1);
	write_page(va + 149 * PAGE_SIZE, 77);
	assert_int_equal(read_page(1, va + 149 * PAGE_SIZE), 150);
	s->program->ops->exit(s->program, 1);
}

static void pages_of_files_survive_as_well(void **state)
{
	u64 word = 0, va;

	(void)state;
	assert_int_equal(s->program->ops->file_create(s->program, 0, false), 0);
	for (u64 i = 1; i <= 100; i++)
		s->program->ops->file_write(s->program, 0, (i - 1) * PAGE_SIZE, &i, sizeof(i));
	va = map_pages(100, VM_SHARED, 0);
	pages_are_right(va, 100);
	write_page(va + 50 * PAGE_SIZE, 51);
	becomes(&hesitant, 0);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 200), 200);
	pages_are_right(va, 100);
	for (u64 i = 0; i < 100; i++) {
		s->program->ops->file_read(s->program, 0, i * PAGE_SIZE, &word, sizeof(word));
		assert_int_equal(word, i + 1);
	}
	assert_int_equal(s->program->ops->unmap(s->program, 0, va, 100 * PAGE_SIZE), 0);
	s->program->ops->file_close(s->program, 0);
}

static void what_is_guaranteed_stays(void **state)
{
	u64 zero = x->library.engine->zero_pfn, last = k->machine->nr_table + FRAMES - 1;

	(void)state;
	assert_int_equal(xok_guarantee(k, 0, 0, last), 0);
	becomes(&hesitant, 0);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, 16), 16);
	assert_int_equal(atomic_load(xok_owner(k, last)), LIBRARY_RESOURCE);
	assert_int_equal(atomic_load(xok_owner(k, last - 1)), XOK_KERNEL);
	assert_int_equal(xok_guarantee(k, 0, 0, last - 1), -EACCES);
	assert_int_equal(xok_forget(k, 0, 0, last), -ENOENT);
	/* Of all that it has: two stay. */
	becomes(&deaf, 0);
	assert_int_equal(xok_revoke(k, LIBRARY_RESOURCE, FRAMES), FRAMES - 16 - 2);
	assert_int_equal(frames(), 2);
	assert_int_equal(atomic_load(xok_owner(k, zero)), LIBRARY_RESOURCE);
}

/* ---- while the program runs ---- */

#define RUN_PAGES 120ULL

static _Atomic bool stop;
static _Atomic u64 rounds;
static u64 run_at;

/* On the second CPU: its pages have what it wrote, whatever is taken meanwhile. */
static void *run(void *arg)
{
	struct program *p = s->program;
	u64 round = 0;

	(void)arg;
	do {
		atomic_store(&rounds, ++round);
		for (u64 i = 0; i < RUN_PAGES; i++) {
			u64 word = round * 1000 + i, got = 0, va = run_at + i * PAGE_SIZE;

			if (p->ops->access(p, 1, va, PF_WRITE, &word, 8) != FAULT_OK)
				return (void *)1;
			va = run_at + (i * 7 % RUN_PAGES) * PAGE_SIZE;
			if (p->ops->access(p, 1, va, 0, &got, 8) != FAULT_OK)
				return (void *)2;
			if (got && got % 1000 != i * 7 % RUN_PAGES)
				return (void *)3;
			if (got && got / 1000 != round && got / 1000 != round - 1)
				return (void *)4;
		}
	} while (!atomic_load(&stop));
	ledger_begin(NULL, 0);
	return NULL;
}

static void frames_go_and_come_while_the_program_runs(void **state)
{
	pthread_t thread;
	void *result;

	(void)state;
	run_at = map_pages(RUN_PAGES, 0, -1);
	atomic_store(&stop, false);
	assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
	for (unsigned i = 0; i < 12; i++) {
		u64 round = atomic_load(&rounds);

		becomes(i % 3 == 2 ? &hesitant : &library_entries, 0);
		xok_revoke(k, LIBRARY_RESOURCE, i % 3 == 2 ? 8 : 160);
		while (atomic_load(&rounds) < round + 2)
			sched_yield();
		library_ask(&x->library, 160);
	}
	atomic_store(&stop, true);
	pthread_join(thread, &result);
	assert_ptr_equal(result, NULL);
	library_read_vector(&x->library);
	assert_int_equal(names(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_capability_opens_its_resource_with_its_rights),
		TEST(one_bad_entry_of_many_spoils_the_call),
		TEST(an_entry_is_changed_as_it_is_inserted),
		TEST(an_environment_begins_with_its_maker_s_capabilities),
		TEST(frames_are_taken_all_or_none),
		TEST(a_library_gives_back_what_it_is_asked_for),
		TEST(what_was_in_a_frame_is_gone_with_it),
		TEST(who_does_not_answer_is_left_without),
		TEST(who_gives_too_few_loses_the_rest),
		TEST(no_translation_outlives_a_repossession),
		TEST(a_page_survives_in_both_of_parent_and_child),
		TEST(pages_of_files_survive_as_well),
		TEST(what_is_guaranteed_stays),
		TEST(frames_go_and_come_while_the_program_runs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
