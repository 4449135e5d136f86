/* SPDX-License-Identifier: MIT */
/*
 * The soft machine's hardware, with page tables built by hand and a trap handler of the test's own:
 * what hits, what walks, what faults with which code, and what a flush owes.
 */
#include <pthread.h>
#include <sched.h>

#include "engine/base/errno.h"
#include "machine/soft/soft.h"
#include "tests/unit/panics.h"

enum { CPUS = 3, PAGES = 64, TABLES = 16, FRAMES = 256 };

#define BASE  0x7f0000000000ULL
#define VA(n) (BASE + (n)*PAGE_SIZE)
#define RW    (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX)
#define RO    (PTE_PRESENT | PTE_USER | PTE_NX)
#define RX    (PTE_PRESENT | PTE_USER)

static struct soft_machine *m;
static struct mm mm, other_mm;
static pte_t *ptes; /* the last table: entry n is for VA(n) */
static struct page *frames[PAGES];
static struct soft_cpu *cpu;

/* What the trap handler is to answer, and what it saw. */
static struct fault_result (*handler)(u64 cr2, u32 code);
static _Atomic unsigned traps;

static struct fault_result trap(struct soft_cpu *c, u64 cr2, u32 code)
{
	(void)c;
	atomic_fetch_add(&traps, 1);
	return handler(cr2, code);
}

static struct fault_result refuse(u64 cr2, u32 code)
{
	(void)cr2;
	return (struct fault_result){ .reason = code & PF_PROT ? FAULT_ACCERR : FAULT_MAPERR };
}

static pte_t *table_of(pte_t entry)
{
	return (pte_t *)(m->memory + (entry.v & PTE_PFN_MASK));
}

static pte_t new_table(void)
{
	struct page *p = page_alloc(&m->engine, ZONE_TABLE, 0, ALLOC_ZERO);

	return pte_make(page_pfn(&m->engine, p), PTE_PRESENT | PTE_WRITE | PTE_USER);
}

/* An mm with tables down to those of BASE; returns the last one. */
static pte_t *make_tables(struct mm *space)
{
	pte_t table = new_table();

	memset(space, 0, sizeof(*space));
	space->engine = &m->engine;
	space->pgd_phys = table.v & PTE_PFN_MASK;
	for (enum mmu_level l = LEVEL_P4D; l > LEVEL_PTE; l--) {
		pte_t *entry = &table_of(table)[level_index(l, BASE)];

		table = *entry = new_table();
	}
	return table_of(table);
}

static void create(bool checked)
{
	struct soft_options o = { .table_frames = TABLES,
				  .user_frames = FRAMES,
				  .nr_cpus = CPUS,
				  .checked = checked,
				  .trap = trap };

	assert_int_equal(soft_create_hardware(&o, &m), 0);
	ptes = make_tables(&mm);
	make_tables(&other_mm);
	for (unsigned i = 0; i < PAGES; i++) {
		frames[i] = page_alloc(&m->engine, ZONE_USER, 0, 0);
		memset(page_direct(&m->engine, frames[i]), i, PAGE_SIZE);
	}
	for (unsigned i = 0; i < CPUS; i++)
		soft_load_mm(&m->cpus[i], &mm);
	cpu = &m->cpus[0];
	handler = refuse;
	atomic_store(&traps, 0);
}

static int setup(void **state)
{
	(void)state;
	create(false);
	return 0;
}

static int setup_checked(void **state)
{
	(void)state;
	create(true);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	soft_destroy_hardware(m);
	return 0;
}

static pte_t pte_for(unsigned n, u64 bits)
{
	return pte_make(page_pfn(&m->engine, frames[n]), bits);
}

static void map(unsigned n, u64 bits)
{
	pte_t pte = pte_for(n, bits);

	assert_int_equal(soft_mmu_ops.set(&mm, VA(n), &ptes[n], &pte, &frames[n], 1), 1);
}

static void expect_read(struct soft_cpu *c, unsigned n, u8 value)
{
	u8 byte;

	assert_int_equal(soft_read_byte(c, VA(n), &byte), FAULT_OK);
	assert_int_equal(byte, value);
}

static u64 misses(const struct soft_cpu *c)
{
	return atomic_load(&c->misses);
}

/* ---- hits and walks ---- */

static void the_first_access_walks_and_the_next_ones_hit(void **state)
{
	u64 before = misses(cpu);

	(void)state;
	map(5, RW);
	for (int i = 0; i < 10; i++)
		expect_read(cpu, 5, 5);
	assert_int_equal(misses(cpu), before + 1);
	assert_int_equal(atomic_load(&traps), 0);
	expect_read(&m->cpus[1], 5, 5); /* each CPU has its own */
	assert_int_equal(misses(&m->cpus[1]), 1);
}

static void the_first_write_walks_again_to_set_the_dirty_bit(void **state)
{
	(void)state;
	map(1, RW);
	expect_read(cpu, 1, 1);
	assert_true(pte_young(ptes[1]));
	assert_false(pte_dirty(ptes[1]));
	assert_int_equal(soft_write_byte(cpu, VA(1), 77), FAULT_OK);
	assert_true(pte_dirty(ptes[1]));
	assert_int_equal(misses(cpu), 2);
	assert_int_equal(soft_write_byte(cpu, VA(1), 78), FAULT_OK);
	assert_int_equal(misses(cpu), 2);
	expect_read(&m->cpus[1], 1, 78);
}

static void pages_that_share_a_place_in_the_tlb_replace_each_other(void **state)
{
	(void)state;
	map(1, RW);
	ptes[1 + TLB_ENTRIES] = pte_for(2, RW);
	for (int i = 0; i < 3; i++) {
		expect_read(cpu, 1, 1);
		expect_read(cpu, 1 + TLB_ENTRIES, 2);
	}
	assert_int_equal(misses(cpu), 6);
}

static void a_huge_page_is_one_translation_for_512_pages(void **state)
{
	pte_t *pmd = table_of(table_of(table_of((pte_t){
		mm.pgd_phys })[level_index(LEVEL_P4D, BASE)])[level_index(LEVEL_PUD, BASE)]);
	u64 pfn = TABLES;
	u8 byte;

	(void)state;
	/* Memory is too small for 2 MiB of frames; the first ones will do.  Frame 0 is aligned. */
	pmd[level_index(LEVEL_PMD, BASE) + 1] = pte_make(0, RW | PTE_HUGE);
	*(u8 *)(m->memory + (pfn << PAGE_SHIFT) + 9) = 99;
	assert_int_equal(soft_read_byte(cpu, BASE + PMD_SIZE + (pfn << PAGE_SHIFT) + 9, &byte),
			 FAULT_OK);
	assert_int_equal(byte, 99);
}

static void an_access_may_span_pages(void **state)
{
	char out[3 * PAGE_SIZE], in[3 * PAGE_SIZE];

	(void)state;
	for (unsigned n = 0; n < 4; n++)
		map(n, RW);
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = i * 7;
	assert_int_equal(soft_write(cpu, VA(0) + 100, out, sizeof(out)), FAULT_OK);
	assert_int_equal(soft_read(&m->cpus[1], VA(0) + 100, in, sizeof(in)), FAULT_OK);
	assert_memory_equal(in, out, sizeof(out));
}

static void an_access_is_done_up_to_the_page_at_fault(void **state)
{
	u8 bytes[8] = { 1, 1, 1, 1, 1, 1, 1, 1 };

	(void)state;
	map(0, RW);
	assert_int_equal(soft_write(cpu, VA(1) - 4, bytes, 8), FAULT_MAPERR);
	assert_int_equal(cpu->cr2, VA(1));
	assert_int_equal(soft_read(cpu, VA(1) - 4, bytes, 4), FAULT_OK);
	assert_int_equal(bytes[0], 1);
}

static void a_locked_add_is_atomic_between_cpus(void **state)
{
	u64 old;

	(void)state;
	map(0, RW);
	assert_int_equal(soft_write_u64(cpu, VA(0) + 8, 40), FAULT_OK);
	assert_int_equal(soft_add_u64(&m->cpus[1], VA(0) + 8, 2, &old), FAULT_OK);
	assert_int_equal(old, 40);
	assert_int_equal(soft_read_u64(cpu, VA(0) + 8, &old), FAULT_OK);
	assert_int_equal(old, 42);
	assert_panics(soft_add_u64(cpu, VA(0) + 4, 2, &old), "not aligned");
}

/* ---- vector 14 ---- */

static void expect_fault(enum fault_reason got, enum fault_reason reason, u64 cr2, u32 code)
{
	assert_int_equal(got, reason);
	assert_int_equal(cpu->cr2, cr2);
	assert_int_equal(cpu->error_code, code);
}

static void a_fault_brings_cr2_and_the_error_code(void **state)
{
	u8 byte;

	(void)state;
	map(1, RO);
	map(2, RW);
	map(3, RX);
	expect_fault(soft_read(cpu, VA(0) + 123, &byte, 1), FAULT_MAPERR, VA(0) + 123, PF_USER);
	expect_fault(soft_write_byte(cpu, VA(0), 1), FAULT_MAPERR, VA(0), PF_USER | PF_WRITE);
	expect_fault(soft_fetch(cpu, VA(0), &byte, 1), FAULT_MAPERR, VA(0), PF_USER | PF_INSTR);
	expect_fault(soft_write_byte(cpu, VA(1), 1), FAULT_ACCERR, VA(1),
		     PF_USER | PF_WRITE | PF_PROT);
	expect_fault(soft_fetch(cpu, VA(2), &byte, 1), FAULT_ACCERR, VA(2),
		     PF_USER | PF_INSTR | PF_PROT);
	assert_int_equal(soft_fetch(cpu, VA(3), &byte, 1), FAULT_OK);
	assert_int_equal(byte, 3);
	assert_int_equal(atomic_load(&traps), 5);
	assert_int_equal(atomic_load(&cpu->faults), 5);
}

static struct fault_result map_it(u64 cr2, u32 code)
{
	(void)code;
	map((cr2 - BASE) / PAGE_SIZE, RW);
	return (struct fault_result){ .reason = FAULT_OK };
}

static void a_resolved_fault_lets_the_access_go_on(void **state)
{
	(void)state;
	handler = map_it;
	expect_read(cpu, 9, 9);
	assert_int_equal(soft_write_byte(cpu, VA(10), 1), FAULT_OK);
	assert_int_equal(atomic_load(&traps), 2);
	expect_read(cpu, 10, 1);
}

static struct fault_result bus(u64 cr2, u32 code)
{
	(void)cr2;
	(void)code;
	return (struct fault_result){ .reason = FAULT_BUS };
}

static struct fault_result retry_twice(u64 cr2, u32 code)
{
	if (atomic_load(&traps) < 3)
		return (struct fault_result){ .reason = FAULT_RETRY };
	return map_it(cr2, code);
}

static void the_reason_of_a_refusal_is_passed_on_and_a_retry_is_not(void **state)
{
	u8 byte;

	(void)state;
	handler = bus;
	assert_int_equal(soft_read_byte(cpu, VA(0), &byte), FAULT_BUS);
	atomic_store(&traps, 0);
	handler = retry_twice;
	expect_read(cpu, 0, 0);
	assert_int_equal(atomic_load(&traps), 3);
}

static void an_address_that_is_not_canonical_raises_no_page_fault(void **state)
{
	u8 byte;

	(void)state;
	assert_int_equal(soft_read_byte(cpu, 1ULL << 47, &byte), FAULT_MAPERR);
	assert_int_equal(atomic_load(&traps), 0);
}

/* ---- flushes ---- */

static void without_a_flush_the_old_translation_stays(void **state)
{
	u8 byte;

	(void)state;
	map(4, RW);
	expect_read(cpu, 4, 4);
	soft_mmu_ops.clear(&mm, VA(4), &ptes[4], (pte_t){ 0 });
	expect_read(cpu, 4, 4); /* as on real hardware */
	soft_mmu_ops.flush(&mm, VA(4), VA(5));
	assert_int_equal(soft_read_byte(cpu, VA(4), &byte), FAULT_MAPERR);
}

static void taking_a_right_away_needs_the_flush(void **state)
{
	(void)state;
	map(4, RW);
	assert_int_equal(soft_write_byte(cpu, VA(4), 1), FAULT_OK);
	soft_mmu_ops.change(&mm, VA(4), &ptes[4], pte_for(4, RO));
	assert_int_equal(soft_write_byte(cpu, VA(4), 2), FAULT_OK);
	soft_mmu_ops.flush(&mm, VA(4), VA(5));
	assert_int_equal(soft_write_byte(cpu, VA(4), 3), FAULT_ACCERR);
	expect_read(cpu, 4, 2);
}

static void giving_a_right_needs_none(void **state)
{
	(void)state;
	map(4, RO);
	expect_read(cpu, 4, 4);
	soft_mmu_ops.change(&mm, VA(4), &ptes[4], pte_for(4, RW));
	assert_int_equal(soft_write_byte(cpu, VA(4), 3), FAULT_OK);
	assert_int_equal(atomic_load(&traps), 0);
}

static void a_flush_drops_its_range_and_nothing_else(void **state)
{
	u64 before;

	(void)state;
	for (unsigned n = 0; n < PAGES; n++) {
		map(n, RW);
		expect_read(cpu, n, n);
	}
	before = misses(cpu);
	soft_mmu_ops.flush(&mm, VA(10), VA(13));
	for (unsigned n = 0; n < PAGES; n++)
		expect_read(cpu, n, n);
	assert_int_equal(misses(cpu), before + 3);
	soft_mmu_ops.flush(&mm, VA(0) - (1ULL << 40), VA(2)); /* long: by searching */
	for (unsigned n = 0; n < PAGES; n++)
		expect_read(cpu, n, n);
	assert_int_equal(misses(cpu), before + 5);
}

static void more_flushes_than_the_mailbox_holds_drop_everything(void **state)
{
	u64 before;

	(void)state;
	for (unsigned n = 0; n < PAGES; n++) {
		map(n, RW);
		expect_read(cpu, n, n);
	}
	before = misses(cpu);
	for (unsigned n = 0; n <= MAILBOX_RANGES; n++)
		soft_mmu_ops.flush(&mm, VA(n), VA(n + 1));
	for (unsigned n = 0; n < PAGES; n++)
		expect_read(cpu, n, n);
	assert_int_equal(misses(cpu), before + PAGES);
}

static void a_flush_reaches_the_cpus_that_have_the_space_and_no_others(void **state)
{
	(void)state;
	map(0, RW);
	soft_load_mm(&m->cpus[2], &other_mm);
	for (unsigned i = 0; i < 2; i++)
		expect_read(&m->cpus[i], 0, 0);
	soft_mmu_ops.flush(&mm, VA(0), VA(1));
	assert_int_equal(soft_attention(&m->cpus[0]), SOFT_FLUSH_POSTED);
	assert_int_equal(soft_attention(&m->cpus[1]), SOFT_FLUSH_POSTED);
	assert_int_equal(soft_attention(&m->cpus[2]), 0);
	assert_int_equal(atomic_load(&m->shootdowns), 1);
	for (unsigned i = 0; i < 2; i++)
		expect_read(&m->cpus[i], 0, 0);
	assert_int_equal(soft_attention(&m->cpus[0]), 0);
}

static void loading_a_space_drops_all_of_the_other(void **state)
{
	u8 byte;

	(void)state;
	map(0, RW);
	expect_read(cpu, 0, 0);
	soft_load_mm(cpu, &other_mm);
	assert_int_equal(soft_read_byte(cpu, VA(0), &byte), FAULT_MAPERR);
	soft_load_mm(cpu, &mm);
	expect_read(cpu, 0, 0);
	assert_int_equal(misses(cpu), 3);
	soft_load_mm(cpu, NULL);
	assert_panics(soft_read_byte(cpu, VA(0), &byte), "no address space");
}

static void a_forgotten_flush_is_found(void **state)
{
	u8 byte;

	(void)state;
	map(4, RW);
	expect_read(cpu, 4, 4);
	soft_mmu_ops.clear(&mm, VA(4), &ptes[4], (pte_t){ 0 });
	assert_panics(soft_check_tlbs(m), "which the tables do not");
	page_put(&m->engine, frames[4]);
	assert_panics(soft_read_byte(cpu, VA(4), &byte), "a flush was forgotten");
	soft_leave(cpu);
}

static void tlbs_that_agree_pass_the_check(void **state)
{
	(void)state;
	map(1, RO);
	map(2, RW);
	map(3, RX);
	for (unsigned n = 1; n < 4; n++)
		expect_read(cpu, n, n);
	assert_int_equal(soft_write_byte(cpu, VA(2), 2), FAULT_OK);
	soft_check_tlbs(m);
	soft_mmu_ops.clear(&mm, VA(2), &ptes[2], (pte_t){ 0 });
	soft_mmu_ops.flush(&mm, VA(2), VA(3)); /* posted, not yet read: owed no longer */
	soft_check_tlbs(m);
}

static void a_released_frame_is_overwritten_in_a_checked_machine(void **state)
{
	const u8 *bytes = page_direct(&m->engine, frames[4]);

	(void)state;
	page_put(&m->engine, frames[4]);
	assert_int_equal(bytes[0], 0xdb);
	assert_int_equal(bytes[PAGE_SIZE - 1], 0xdb);
}

/* ---- the table of operations ---- */

static void change_keeps_the_bits_that_a_cpu_set_meanwhile(void **state)
{
	pte_t seen;

	(void)state;
	map(4, RW);
	seen = pte_read(&ptes[4]);
	assert_int_equal(soft_write_byte(cpu, VA(4), 1), FAULT_OK); /* after we looked */
	soft_mmu_ops.change(&mm, VA(4), &ptes[4], pte_without(seen, PTE_WRITE));
	assert_true(pte_dirty(ptes[4]));
	assert_false(pte_write(ptes[4]));
}

static void young_is_told_once_for_each_walk(void **state)
{
	(void)state;
	map(4, RW);
	assert_false(soft_mmu_ops.test_and_clear_young(&mm, VA(4), &ptes[4]));
	expect_read(cpu, 4, 4);
	assert_true(soft_mmu_ops.test_and_clear_young(&mm, VA(4), &ptes[4]));
	assert_false(soft_mmu_ops.test_and_clear_young(&mm, VA(4), &ptes[4]));
	soft_mmu_ops.flush(&mm, VA(4), VA(5));
	expect_read(cpu, 4, 4);
	assert_true(soft_mmu_ops.test_and_clear_young(&mm, VA(4), &ptes[4]));
}

static struct mmu_take take_of(unsigned n)
{
	return (struct mmu_take){ .va = VA(n),
				  .ptep = &ptes[n],
				  .page = frames[n],
				  .left = swp_to_pte(swp_entry(1, n)) };
}

static void taken_pages_are_gone_for_all_and_their_bytes_are_kept(void **state)
{
	struct mmu_take t[3] = { take_of(1), take_of(2), take_of(6) };
	u8 byte;

	(void)state;
	map(1, RW);
	map(2, RW);
	assert_int_equal(soft_write_byte(cpu, VA(1), 11), FAULT_OK);
	expect_read(&m->cpus[1], 2, 2);
	assert_int_equal(soft_mmu_ops.take(&mm, t, 3), 2);
	assert_int_equal(t[0].result, 0);
	assert_true(t[0].dirty);
	assert_int_equal(t[1].result, 0);
	assert_false(t[1].dirty);
	assert_int_equal(t[2].result, -ENOENT);
	assert_true(pte_same(ptes[1], t[0].left));
	assert_true(pte_none(ptes[6]));
	assert_int_equal(((u8 *)soft_mmu_ops.bytes(&m->engine, frames[1]))[0], 11);
	assert_int_equal(soft_read_byte(cpu, VA(1), &byte), FAULT_MAPERR);
	assert_int_equal(soft_read_byte(&m->cpus[1], VA(2), &byte), FAULT_MAPERR);
}

static void failures_come_as_ordered(void **state)
{
	struct mmu_take t = take_of(0);
	struct page *pages[4];
	pte_t want[4];

	(void)state;
	for (unsigned n = 0; n < 4; n++) {
		pages[n] = frames[n];
		want[n] = pte_for(n, RW);
	}
	atomic_store(&m->inject.stage_again_every, 2);
	assert_int_equal(soft_mmu_ops.stage(&m->engine, pages, 4), 0);
	assert_int_equal(soft_mmu_ops.stage(&m->engine, pages, 4), -EAGAIN);
	atomic_store(&m->inject.set_again_every, 2);
	atomic_store(&m->inject.set_most, 3);
	assert_int_equal(soft_mmu_ops.set(&mm, VA(0), ptes, want, pages, 4), 3);
	assert_true(pte_none(ptes[3]));
	assert_int_equal(soft_mmu_ops.set(&mm, VA(3), ptes + 3, want + 3, pages + 3, 1), -EAGAIN);
	assert_true(pte_none(ptes[3]));
	atomic_store(&m->inject.take_busy_every, 1);
	assert_int_equal(soft_mmu_ops.take(&mm, &t, 1), 0);
	assert_int_equal(t.result, -EBUSY);
	assert_true(pte_present(ptes[0]));
	expect_read(cpu, 0, 0);
}

static void operations_that_break_the_contract_panic(void **state)
{
	struct mmu_take t[2] = { take_of(2), take_of(1) };
	pte_t pte = pte_for(1, RW);

	(void)state;
	map(1, RW);
	map(2, RW);
	assert_panics(soft_mmu_ops.set(&mm, VA(1), &ptes[1], &pte, &frames[1], 1), "is present");
	assert_panics(soft_mmu_ops.change(&mm, VA(3), &ptes[3], pte), "is absent");
	assert_panics(soft_mmu_ops.take(&mm, t, 2), "not sorted");
	assert_panics(soft_mmu_ops.clear(&mm, VA(1), &ptes[1], pte), "leaves a present entry");
}

static void creating_needs_frames_and_cpus(void **state)
{
	struct soft_options none = { .table_frames = 1, .user_frames = 1 };
	struct soft_options many = { .table_frames = 1, .user_frames = 1, .nr_cpus = 1000 };
	struct soft_machine *machine;

	(void)state;
	assert_int_equal(soft_create_hardware(&none, &machine), -EINVAL);
	assert_int_equal(soft_create_hardware(&many, &machine), -EINVAL);
}

/* ---- threads: nothing is lost between an access and a take ---- */

enum { EVICTIONS = 300, SHARED = 8 };

static spinlock_t table_lock;
static u8 stored[SHARED][PAGE_SIZE];
static _Atomic bool stop;
static u64 rounds[CPUS];

/* Bring the page back from `stored`, as a swap-in does. */
static struct fault_result swap_in(u64 cr2, u32 code)
{
	unsigned n = (cr2 - BASE) / PAGE_SIZE;
	pte_t pte = pte_for(n, RW);

	(void)code;
	spin_lock(&table_lock);
	if (!pte_present(pte_read(&ptes[n]))) {
		memcpy(page_direct(&m->engine, frames[n]), stored[n], PAGE_SIZE);
		soft_mmu_ops.set(&mm, VA(n), &ptes[n], &pte, &frames[n], 1);
	}
	spin_unlock(&table_lock);
	return (struct fault_result){ .reason = FAULT_OK };
}

/* Take a page, if it is there, keep its bytes elsewhere and wipe the frame. */
static bool evict_one(unsigned n)
{
	struct mmu_take t = take_of(n);
	bool taken = false;

	spin_lock(&table_lock);
	if (pte_present(pte_read(&ptes[n]))) {
		taken = soft_mmu_ops.take(&mm, &t, 1);
		memcpy(stored[n], page_direct(&m->engine, frames[n]), PAGE_SIZE);
		memset(page_direct(&m->engine, frames[n]), 0xee, PAGE_SIZE);
	}
	spin_unlock(&table_lock);
	return taken;
}

static void *evict(void *arg)
{
	uint64_t rnd = 99;

	for (unsigned done = 0; done < EVICTIONS;)
		if (evict_one(rnd_below(&rnd, SHARED)))
			done++;
		else
			sched_yield();
	atomic_store(&stop, true);
	return arg;
}

/* Each CPU counts in words of its own and in one that all share. */
static void *count_up(void *arg)
{
	struct soft_cpu *c = arg;
	u64 own = 64 + c->number * 8, i, word;

	for (i = 0; !atomic_load(&stop); i++)
		for (unsigned n = 0; n < SHARED; n++) {
			if (soft_read_u64(c, VA(n) + own, &word) || word != i)
				abort();
			if (soft_write_u64(c, VA(n) + own, i + 1))
				abort();
			if (soft_add_u64(c, VA(n), 1, &word))
				abort();
		}
	rounds[c->number] = i;
	return NULL;
}

static void no_write_is_lost_to_a_page_that_is_being_taken(void **state)
{
	pthread_t writers[CPUS], evictor;
	u64 word, total = 0;

	(void)state;
	spin_init(&table_lock);
	memset(stored, 0, sizeof(stored));
	atomic_store(&stop, false);
	handler = swap_in;
	for (unsigned i = 0; i < CPUS; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, count_up, &m->cpus[i]), 0);
	assert_int_equal(pthread_create(&evictor, NULL, evict, NULL), 0);
	for (unsigned i = 0; i < CPUS; i++) {
		pthread_join(writers[i], NULL);
		total += rounds[i];
	}
	pthread_join(evictor, NULL);
	for (unsigned n = 0; n < SHARED; n++) {
		assert_int_equal(soft_read_u64(cpu, VA(n), &word), FAULT_OK);
		assert_int_equal(word, total);
	}
	soft_check_tlbs(m);
}

/* ---- threads: what an access has begun, it ends before the flush does ---- */

enum { FLUSHES = 3000, GOOD = 0x600d, BAD = 0xbad };
static _Atomic u64 reads;

static void *read_without_pause(void *arg)
{
	struct soft_cpu *c = arg;
	u64 word, n = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		if (soft_read_u64(c, VA(0), &word) != FAULT_OK)
			continue;
		if (word != GOOD)
			abort(); /* it read after the flush what it was to lose with it */
		atomic_store_explicit(&reads, ++n, memory_order_relaxed);
	}
	return NULL;
}

/* The frame is given to somebody else, who writes at once, and back again. */
static void no_cpu_reads_a_frame_after_the_flush(void **state)
{
	volatile u64 *word = page_direct(&m->engine, frames[0]);
	pthread_t reader;

	(void)state;
	atomic_store(&stop, false);
	*word = GOOD;
	assert_int_equal(pthread_create(&reader, NULL, read_without_pause, cpu), 0);
	for (unsigned i = 0; i < FLUSHES; i++) {
		u64 before = atomic_load(&reads);

		map(0, RW);
		while (atomic_load(&reads) == before)
			; /* until it is in the TLB */
		soft_mmu_ops.clear(&mm, VA(0), &ptes[0], (pte_t){ 0 });
		soft_mmu_ops.flush(&mm, VA(0), VA(1));
		*word = BAD;
		*word = GOOD;
	}
	atomic_store(&stop, true);
	pthread_join(reader, NULL);
}

#define soft_test(name)		cmocka_unit_test_setup_teardown(name, setup, teardown)
#define soft_test_checked(name) cmocka_unit_test_setup_teardown(name, setup_checked, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		soft_test(the_first_access_walks_and_the_next_ones_hit),
		soft_test(the_first_write_walks_again_to_set_the_dirty_bit),
		soft_test(pages_that_share_a_place_in_the_tlb_replace_each_other),
		soft_test(a_huge_page_is_one_translation_for_512_pages),
		soft_test(an_access_may_span_pages),
		soft_test(an_access_is_done_up_to_the_page_at_fault),
		soft_test(a_locked_add_is_atomic_between_cpus),
		soft_test(a_fault_brings_cr2_and_the_error_code),
		soft_test(a_resolved_fault_lets_the_access_go_on),
		soft_test(the_reason_of_a_refusal_is_passed_on_and_a_retry_is_not),
		soft_test(an_address_that_is_not_canonical_raises_no_page_fault),
		soft_test(without_a_flush_the_old_translation_stays),
		soft_test(taking_a_right_away_needs_the_flush),
		soft_test(giving_a_right_needs_none),
		soft_test(a_flush_drops_its_range_and_nothing_else),
		soft_test(more_flushes_than_the_mailbox_holds_drop_everything),
		soft_test(a_flush_reaches_the_cpus_that_have_the_space_and_no_others),
		soft_test(loading_a_space_drops_all_of_the_other),
		soft_test_checked(a_forgotten_flush_is_found),
		soft_test_checked(tlbs_that_agree_pass_the_check),
		soft_test_checked(a_released_frame_is_overwritten_in_a_checked_machine),
		soft_test(change_keeps_the_bits_that_a_cpu_set_meanwhile),
		soft_test(young_is_told_once_for_each_walk),
		soft_test(taken_pages_are_gone_for_all_and_their_bytes_are_kept),
		soft_test(failures_come_as_ordered),
		soft_test(operations_that_break_the_contract_panic),
		cmocka_unit_test(creating_needs_frames_and_cpus),
		soft_test(no_write_is_lost_to_a_page_that_is_being_taken),
		soft_test_checked(no_write_is_lost_to_a_page_that_is_being_taken),
		soft_test(no_cpu_reads_a_frame_after_the_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
