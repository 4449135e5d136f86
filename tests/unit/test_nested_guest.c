/* SPDX-License-Identifier: MIT */
/* A guest over a second stage: what its accesses cost, what its log has, pages that the host takes
 * away below it, and asynchronous page faults. */
#include <pthread.h>

#include "engine/base/errno.h"
#include "engine/space/uapi.h"
#include "engine/userfault/userfault.h"
#include "machine/soft/second.h"
#include "systems/lab.h"
#include "systems/nested/nested.h"
#include "tests/unit/unit.h"

enum { FRAMES = 4096, CPUS = 4 };

static struct system *s;
static struct engine_system *es;
static struct vm *vm;
static struct ledger *ledger;

static void create(const struct system_type *type)
{
	struct system_options o = { .cpus = CPUS, .frames = FRAMES };

	assert_int_equal(ledger_create(CPUS, &ledger), 0);
	o.ledger = ledger;
	assert_int_equal(type->create(type, &o, &s), 0);
	es = engine_system_of(s);
	vm = nested_vm(s);
}

static void destroy(void)
{
	s->destroy(s);
	ledger_destroy(ledger);
}

static u64 map(u64 pages)
{
	const struct program_map area = { .len = pages * PAGE_SIZE,
					  .prot = VM_READ | VM_WRITE,
					  .file = -1 };
	s64 at = s->program->ops->map(s->program, 0, &area);

	assert_true(at > 0);
	return (u64)at;
}

static void write_word(unsigned cpu, u64 va, u64 word)
{
	assert_int_equal(
		s->program->ops->access(s->program, cpu, va, PF_WRITE, &word, sizeof(word)),
		FAULT_OK);
}

static u64 read_word(unsigned cpu, u64 va)
{
	u64 word = 0;

	assert_int_equal(s->program->ops->access(s->program, cpu, va, 0, &word, sizeof(word)),
			 FAULT_OK);
	return word;
}

/* The guest's frame of a page that it has. */
static u64 gfn_of(u64 va)
{
	spinlock_t *ptl;

	return pte_pfn(pte_read(pte_find(es->mm, va, &ptl)));
}

static u64 paid(enum ledger_counter counter)
{
	system_measured(s);
	return s->total[counter];
}

static u64 count_of(const char *system, const char *workload, enum ledger_counter counter)
{
	struct lab_result r;

	assert_int_equal(lab_run(system_find(system), workload_find(workload), 0, &r), 0);
	assert_int_equal(r.verdict, LAB_OK);
	return r.counts[counter];
}

/* ---- what is published ---- */

/* The CPU knows nothing of the page: the entries of both stages that it reads until it does. */
static u64 cold_walk(u64 va, u64 *second)
{
	soft_invlpg(&es->machine->cpus[0], va);
	system_measure(s);
	read_word(0, va);
	*second = paid(PAID_WALK_READS_2);
	return s->total[PAID_WALK_READS];
}

/* Bhargava et al., ASPLOS 2008: n * m + n + m for n levels over m. */
static void a_cold_walk_in_two_dimensions_reads_24_entries(void **state)
{
	const struct system_type *const types[] = { &nested_system, &nested_cold_system,
						    &npt_system };
	u64 va, second;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		create(types[i]);
		va = map(1);
		write_word(0, va, 1);
		assert_int_equal(cold_walk(va, &second), 4);
		assert_int_equal(second, 20);
		/* The TLB has both stages as one. */
		system_measure(s);
		read_word(0, va);
		assert_int_equal(paid(PAID_WALK_READS_2), 0);
		destroy();
	}
}

/* The same with a second stage of huge pages: 4 * 3 + 4 + 3. */
static void huge_pages_below_make_it_19(void **state)
{
	u64 va, second;

	(void)state;
	create(&nested_system);
	vm->host->huge = true;
	vm_invalidate(vm, 0, vm->host->nr, true);
	vm_invalidate(vm, 0, vm->host->nr, false);
	assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, VM_SLOT_LOG), 0);
	assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, 0), 0); /* and no tables are left */
	assert_int_equal(vm_populate(vm, 0), 0);
	va = map(1);
	write_word(0, va, 1);
	assert_int_equal(cold_walk(va, &second), 4);
	assert_int_equal(second, 15);
	s->program->ops->check(s->program);
	destroy();
}

static void a_warm_guest_does_not_exit_and_a_cold_page_exits_once(void **state)
{
	(void)state;
	assert_int_equal(count_of("nested", "minor-fault", PAID_VM_EXITS), 0);
	assert_int_equal(count_of("nested", "parallel", PAID_VM_EXITS), 0);
	assert_int_equal(count_of("nested", "pressure", PAID_VM_EXITS), 0);
	assert_int_equal(count_of("nested-cold", "minor-fault", PAID_VM_EXITS), 1);
	assert_int_equal(count_of("npt", "minor-fault", PAID_VM_EXITS), 1);
	assert_int_equal(count_of("nested", "minor-fault", PAID_CROSSINGS),
			 count_of("linux", "minor-fault", PAID_CROSSINGS));
	/* The guest changes its page tables as it likes. */
	assert_int_equal(count_of("nested-cold", "prot100", PAID_VM_EXITS), 0);
	assert_int_equal(count_of("nested-cold", "cow-fault", PAID_EXCEPTIONS), 1);
}

/* ---- the log of what is written ---- */

static u64 *get_log(void)
{
	static u64 bits[1 + (FRAMES * 2) / 64];

	memset(bits, 0, sizeof(bits));
	assert_int_equal(vm_get_dirty_log(vm, 0, bits, ARRAY_SIZE(bits)), 0);
	return bits;
}

static bool has(const u64 *bits, u64 gfn)
{
	return bits[gfn / 64] >> gfn % 64 & 1;
}

/* Random writes and reads: the log has each page that was written to, none that was only read, and
 * beside those only page tables, in which the walk sets bits. */
static void log_is_exact(void)
{
	enum { N = 64 };
	u64 va = map(N), state = 7, *bits;

	for (u64 i = 0; i < N; i++)
		write_word(0, va + i * PAGE_SIZE, i);
	assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, VM_SLOT_LOG), 0);
	for (unsigned round = 0; round < 20; round++) {
		bool written[N] = { false };

		for (unsigned k = 0; k < 40; k++) {
			u64 i = rnd_below(&state, N);

			if (rnd_below(&state, 3)) {
				read_word(k % 2, va + i * PAGE_SIZE);
				continue;
			}
			write_word(k % 2, va + i * PAGE_SIZE, k);
			written[i] = true;
		}
		bits = get_log();
		for (u64 i = 0; i < N; i++)
			if (has(bits, gfn_of(va + i * PAGE_SIZE)) != written[i])
				fail_msg("round %u: page %u is %swritten to, the log has it "
					 "otherwise",
					 round, (unsigned)i, written[i] ? "" : "not ");
		for (u64 gfn = es->machine->nr_table; gfn < vm->host->nr; gfn++) {
			bool known = false;

			for (u64 i = 0; i < N; i++)
				known |= gfn_of(va + i * PAGE_SIZE) == gfn;
			assert_true(known || !has(bits, gfn));
		}
	}
	s->program->ops->check(s->program);
	assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, 0), 0);
}

static void the_log_has_what_was_written_and_nothing_else(void **state)
{
	(void)state;
	for (unsigned pml = 0; pml < 2; pml++) {
		create(&nested_system);
		vm->log_mode = pml ? VM_LOG_PML : VM_LOG_PROTECT;
		log_is_exact();
		destroy();
	}
	create(&npt_system);
	log_is_exact();
	destroy();
}

static void the_processor_s_log_saves_exits(void **state)
{
	u64 exits[2], va;

	(void)state;
	for (unsigned pml = 0; pml < 2; pml++) {
		create(&nested_system);
		vm->log_mode = pml ? VM_LOG_PML : VM_LOG_PROTECT;
		va = map(700);
		for (u64 i = 0; i < 700; i++)
			write_word(0, va + i * PAGE_SIZE, i);
		assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, VM_SLOT_LOG), 0);
		system_measure(s);
		for (u64 i = 0; i < 700; i++)
			write_word(0, va + i * PAGE_SIZE, i + 1);
		exits[pml] = paid(PAID_VM_EXITS);
		for (u64 i = 0, *bits = get_log(); i < 700; i++)
			assert_true(has(bits, gfn_of(va + i * PAGE_SIZE)));
		destroy();
	}
	/* Each page, and the tables on the way; or when 512 are noted. */
	assert_true(exits[0] >= 700 && exits[0] < 710);
	assert_int_equal(exits[1], 1);
}

static void a_ring_is_emptied_before_it_runs_over(void **state)
{
	struct vm_ring *ring;
	u64 va;

	(void)state;
	create(&nested_system);
	ring = &vm->vcpus[0].ring;
	ring->on = true;
	va = map(700);
	for (u64 i = 0; i < 700; i++)
		write_word(0, va + i * PAGE_SIZE, i);
	assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, VM_SLOT_LOG), 0);
	for (u64 i = 0; i < 700; i++)
		write_word(0, va + i * PAGE_SIZE, i + 1);
	assert_true(ring->reset >= 500 && ring->tail >= 700 && ring->tail < 720);
	assert_int_equal(ring->entries[(ring->tail - 1) % VM_RING_ENTRIES].offset,
			 gfn_of(va + 699 * PAGE_SIZE));
	assert_true(vm_ring_reset(vm, 0) == 0); /* the rest is not harvested yet */
	destroy();
}

/* ---- pages that go below the guest ---- */

static void a_page_that_the_host_put_away_comes_back(void **state)
{
	u64 va;

	(void)state;
	create(&nested_system);
	va = map(2);
	write_word(0, va, 0x1234);
	write_word(1, va + PAGE_SIZE, 0x5678);
	assert_int_equal(host_page_out(vm->host, gfn_of(va)), 0);
	system_measure(s);
	assert_int_equal(read_word(1, va + PAGE_SIZE), 0x5678);
	assert_int_equal(paid(PAID_VM_EXITS), 0);
	system_measure(s);
	assert_int_equal(read_word(1, va), 0x1234);
	assert_int_equal(paid(PAID_VM_EXITS), 1);
	assert_int_equal(s->total[PAID_IO_READS], 1);
	assert_int_equal(s->total[PAID_EXCEPTIONS], 0); /* the guest has not noticed */
	s->program->ops->check(s->program);
	destroy();
}

/* ---- a monitor of the host's serves the guest's memory: a snapshot that is restored ---- */

static struct userfaultfd_ctx *snapshot;
static _Atomic unsigned restored;

/* Each page has its number in the snapshot in all words. */
static void *restore(void *arg)
{
	struct userfault_msg msg;
	u64 words[PAGE_SIZE / sizeof(u64)];
	s64 done;

	(void)arg;
	while (userfaultfd_read(snapshot, &msg, 1, false) == 1) {
		u64 va = msg.arg.pagefault.address & PAGE_MASK;

		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = (va - host_address(0)) >> PAGE_SHIFT;
		atomic_fetch_add(&restored, 1); /* before the vCPU goes on */
		while (userfaultfd_copy(snapshot, NULL, va, (u64)words, PAGE_SIZE, 0, &done) ==
		       -EAGAIN)
			;
	}
	return NULL;
}

static void start_restoring(pthread_t *thread)
{
	u64 features = 0, ioctls;

	assert_int_equal(userfaultfd_create(host_mm(vm->host), 0, &snapshot), 0);
	assert_int_equal(userfaultfd_api(snapshot, UAPI_UFFD_API, &features, &ioctls), 0);
	assert_int_equal(userfaultfd_register(snapshot, host_address(0), vm->host->nr * PAGE_SIZE,
					      UAPI_UFFDIO_REGISTER_MODE_MISSING, &ioctls),
			 0);
	userfaultfd_ctx_get(snapshot);
	atomic_store(&restored, 0);
	assert_int_equal(pthread_create(thread, NULL, restore, NULL), 0);
}

static void end_restoring(pthread_t thread)
{
	userfaultfd_release(snapshot);
	pthread_join(thread, NULL);
	userfaultfd_ctx_put(snapshot);
}

static void a_monitor_serves_what_the_host_has_not(void **state)
{
	pthread_t thread;
	u64 va, gfn[3];

	(void)state;
	create(&nested_system);
	va = map(3);
	for (unsigned i = 0; i < 3; i++) {
		write_word(i, va + i * PAGE_SIZE, 0x1234);
		gfn[i] = gfn_of(va + i * PAGE_SIZE);
	}
	assert_int_equal(host_page_out(vm->host, gfn[2]), 0);
	assert_int_equal(host_discard(vm->host, gfn[0], 1), 0);
	assert_int_equal(host_discard(vm->host, gfn[1], 1), 0);
	start_restoring(&thread);
	system_measure(s);
	assert_int_equal(read_word(0, va), gfn[0]);
	write_word(1, va + PAGE_SIZE + 8, 1); /* it comes first, and is written to then */
	assert_int_equal(read_word(2, va + PAGE_SIZE), gfn[1]);
	assert_int_equal(read_word(2, va + PAGE_SIZE + 8), 1);
	/* What the host has put away it has itself. */
	assert_int_equal(read_word(3, va + 2 * PAGE_SIZE), 0x1234);
	assert_int_equal(restored, 2);
	assert_int_equal(paid(PAID_VM_EXITS), 3);
	assert_int_equal(s->total[PAID_EXCEPTIONS], 0); /* the guest has not noticed */
	end_restoring(thread);
	s->program->ops->check(s->program);
	destroy();
}

/* Of the guest's own page tables. */
static void a_page_table_that_the_host_put_away_comes_back(void **state)
{
	spinlock_t *ptl;
	u64 va, gpa;

	(void)state;
	create(&nested_system);
	va = map(1);
	write_word(0, va, 0x1234);
	gpa = (u64)((char *)pte_find(es->mm, va, &ptl) - es->machine->memory);
	assert_int_equal(host_page_out(vm->host, gpa >> PAGE_SHIFT), 0);
	system_measure(s);
	assert_int_equal(read_word(0, va), 0x1234);
	assert_int_equal(paid(PAID_VM_EXITS), 1);
	assert_true(vm->vcpus[0].exit.access & SECOND_TABLE);
	assert_int_equal(vm->vcpus[0].exit.info & EPT_QUAL_FINAL, 0);
	destroy();
}

/* ---- asynchronous page faults ---- */

static void a_task_sleeps_while_the_host_reads_its_page(void **state)
{
	struct async_guest *guest;
	u64 va;

	(void)state;
	create(&nested_system);
	guest = nested_async(s, 0, ASYNC_ENABLED);
	va = map(1);
	write_word(0, va, 0x1234);
	assert_int_equal(host_page_out(vm->host, gfn_of(va)), 0);
	system_measure(s);
	assert_int_equal(read_word(0, va), 0x1234);
	/* The page is away; HLT; the MSR; and it is mapped when it is there. */
	assert_int_equal(paid(PAID_VM_EXITS), 4);
	assert_int_equal(s->total[PAID_IO_READS], 1);
	assert_int_equal(s->total[PAID_CONTEXT_SWITCHES], 1);
	assert_int_equal(guest->n, 0);
	assert_int_equal(vm->vcpus[0].async.n, 0);
	/* Not told, it waits in the hypervisor. */
	nested_async(s, 0, 0);
	assert_int_equal(host_page_out(vm->host, gfn_of(va)), 0);
	system_measure(s);
	assert_int_equal(read_word(0, va), 0x1234);
	assert_int_equal(paid(PAID_VM_EXITS), 1);
	destroy();
}

enum { ROUNDS = 3000, WORDS = 16 };

static u64 shared;

struct runner {
	pthread_t thread;
	unsigned cpu;
};

static void *run(void *arg)
{
	struct runner *r = arg;
	u64 seed = r->cpu + 1, count[WORDS] = { 0 };

	for (unsigned i = 0; i < ROUNDS; i++) {
		u64 page = rnd_below(&seed, WORDS);
		u64 va = shared + page * PAGE_SIZE + r->cpu * sizeof(u64);

		if (read_word(r->cpu, va) != count[page])
			return "a word is not what was written";
		write_word(r->cpu, va, ++count[page]);
	}
	return NULL;
}

/* While four CPUs write, the host puts pages away, and the log is read. */
static void host_and_guests_at_once(const struct system_type *type)
{
	struct runner runners[CPUS];
	u64 seed = 99, gfns[WORDS];
	void *failed;

	create(type);
	shared = map(WORDS);
	for (u64 i = 0; i < WORDS; i++) {
		write_word(0, shared + i * PAGE_SIZE, 0);
		gfns[i] = gfn_of(shared + i * PAGE_SIZE);
	}
	for (unsigned i = 0; i < CPUS; i++) {
		runners[i].cpu = i;
		assert_int_equal(pthread_create(&runners[i].thread, NULL, run, &runners[i]), 0);
	}
	ledger_begin(NULL, 0);
	for (unsigned i = 0; i < 400; i++) {
		host_page_out(vm->host, gfns[rnd_below(&seed, WORDS)]);
		if (i % 50 == 10)
			assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, VM_SLOT_LOG), 0);
		if (i % 50 > 10 && i % 50 < 40)
			get_log();
		if (i % 50 == 40)
			assert_int_equal(vm_set_slot(vm, 0, 0, vm->host->nr, 0, 0), 0);
	}
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_join(runners[i].thread, &failed);
		if (failed)
			fail_msg("CPU %u: %s", i, (const char *)failed);
	}
	s->program->ops->check(s->program);
	destroy();
}

static void nothing_is_lost_when_the_host_takes_pages_from_running_cpus(void **state)
{
	(void)state;
	host_and_guests_at_once(&nested_system);
	host_and_guests_at_once(&npt_system);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cold_walk_in_two_dimensions_reads_24_entries),
		cmocka_unit_test(huge_pages_below_make_it_19),
		cmocka_unit_test(a_warm_guest_does_not_exit_and_a_cold_page_exits_once),
		cmocka_unit_test(the_log_has_what_was_written_and_nothing_else),
		cmocka_unit_test(the_processor_s_log_saves_exits),
		cmocka_unit_test(a_ring_is_emptied_before_it_runs_over),
		cmocka_unit_test(a_page_that_the_host_put_away_comes_back),
		cmocka_unit_test(a_monitor_serves_what_the_host_has_not),
		cmocka_unit_test(a_page_table_that_the_host_put_away_comes_back),
		cmocka_unit_test(a_task_sleeps_while_the_host_reads_its_page),
		cmocka_unit_test(nothing_is_lost_when_the_host_takes_pages_from_running_cpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
