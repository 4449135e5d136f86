/* SPDX-License-Identifier: MIT */
/*
 * What a TLB keeps and what it lets go (Intel SDM vol. 3A, 4.10): PCIDs, global pages, large pages,
 * rights that are out of date; and the supervisor's accesses.  Page tables are built by hand.
 */
#include "engine/base/errno.h"
#include "machine/soft/soft.h"
#include "tests/unit/panics.h"

enum { PAGES = 16, TABLES = 64, FRAMES = 2048 };

#define BASE   0x7f0000000000ULL
#define LARGE  0x7f0000400000ULL /* of 2 MiB, in the table of middle entries that BASE has */
#define KERNEL 0xffff800000000000ULL
#define VA(n)  (BASE + (n)*PAGE_SIZE)
#define U      PTE_USER
#define RW     (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_NX)
#define RO     (PTE_PRESENT | PTE_USER | PTE_NX)
#define KEY(k) ((u64)(k) << PTE_KEY_SHIFT)
#define SPACES (SOFT_PCIDS + 2)

static struct soft_machine *m;
static struct soft_cpu *cpu;
static struct mm spaces[SPACES];
static pte_t *ptes[SPACES], *kernel_ptes[SPACES];
static u64 large_frame; /* 512 frames, aligned */
static unsigned traps;

static struct fault_result trap(struct soft_cpu *c, u64 cr2, u32 code)
{
	(void)c;
	(void)cr2;
	traps++;
	return (struct fault_result){ .reason = code & PF_PROT ? FAULT_ACCERR : FAULT_MAPERR };
}

/* What a system does with a fault that is for nothing: the access is made again. */
static struct fault_result try_again_once(struct soft_cpu *c, u64 cr2, u32 code)
{
	(void)cr2;
	(void)code;
	if (traps++)
		return trap(c, cr2, code);
	return (struct fault_result){ .reason = FAULT_OK };
}

static pte_t *table_of(pte_t entry)
{
	return (pte_t *)(m->memory + (entry.v & PTE_PFN_MASK));
}

static pte_t new_table(void)
{
	struct page *p = page_alloc(&m->engine, ZONE_TABLE, 0, ALLOC_ZERO);

	assert_non_null(p);
	return pte_make(page_pfn(&m->engine, p), PTE_PRESENT | PTE_WRITE | PTE_USER);
}

/* The table of the given level that is on the way to va, made if it is missing. */
static pte_t *tables_to(struct mm *mm, u64 va, enum mmu_level level)
{
	pte_t *table = (pte_t *)(m->memory + mm->pgd_phys);

	for (enum mmu_level l = LEVEL_P4D; l > level; l--) {
		pte_t *entry = &table[level_index(l, va)];

		if (pte_none(*entry))
			*entry = new_table();
		table = table_of(*entry);
	}
	return table;
}

/* Every space has at VA(n) a frame that begins with its own number, and n behind it. */
static void fill_space(unsigned s)
{
	struct mm *mm = &spaces[s];

	*mm = (struct mm){ .engine = &m->engine, .pgd_phys = new_table().v & PTE_PFN_MASK };
	ptes[s] = tables_to(mm, BASE, LEVEL_PTE);
	kernel_ptes[s] = tables_to(mm, KERNEL, LEVEL_PTE);
	for (unsigned n = 0; n < PAGES; n++) {
		struct page *page = page_alloc(&m->engine, ZONE_USER, 0, 0);
		u8 *bytes = page_direct(&m->engine, page);

		bytes[0] = s + 1;
		bytes[1] = n;
		ptes[s][n] = pte_make(page_pfn(&m->engine, page), RW);
		kernel_ptes[s][n] = pte_make(page_pfn(&m->engine, page), RW & ~U);
	}
	tables_to(mm, LARGE, LEVEL_PMD)[level_index(LEVEL_PMD, LARGE)] =
		pte_make(large_frame, RW | PTE_HUGE);
}

static void create(struct soft_options o)
{
	o.table_frames = TABLES;
	o.user_frames = FRAMES;
	o.nr_cpus = 2;
	o.trap = trap;
	assert_int_equal(soft_create_hardware(&o, &m), 0);
	large_frame = page_pfn(&m->engine, page_alloc(&m->engine, ZONE_USER, 9, 0));
	for (unsigned s = 0; s < SPACES; s++)
		fill_space(s);
	cpu = &m->cpus[0];
	soft_load_mm(cpu, &spaces[0]);
	traps = 0;
}

static int setup(void **state)
{
	(void)state;
	create((struct soft_options){ 0 });
	return 0;
}

static int setup_pcids(void **state)
{
	(void)state;
	create((struct soft_options){ .pcids = true });
	return 0;
}

static int setup_stale(void **state)
{
	(void)state;
	create((struct soft_options){ .stale_rights = true });
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	soft_destroy_hardware(m);
	return 0;
}

static u64 misses(void)
{
	return atomic_load(&cpu->misses);
}

static void expect_space(unsigned s, unsigned n)
{
	u8 byte;

	assert_int_equal(soft_read_byte(cpu, VA(n), &byte), FAULT_OK);
	assert_int_equal(byte, s + 1);
}

static void expect_code(enum fault_reason reason, u32 code, u64 va)
{
	assert_int_not_equal(reason, FAULT_OK);
	assert_int_equal(cpu->error_code, code);
	assert_int_equal(cpu->cr2, va);
}

/* ---- global pages ---- */

static void global_entries_outlive_a_load_but_not_an_invlpg(void **state)
{
	u64 before;

	(void)state;
	ptes[0][3] = pte_with(ptes[0][3], PTE_GLOBAL);
	expect_space(0, 2);
	expect_space(0, 3);
	soft_load_mm(cpu, &spaces[1]);
	expect_space(1, 2);
	expect_space(0, 3); /* as a kernel's must be the same in all spaces */
	before = misses();
	soft_invlpg(cpu, VA(3));
	expect_space(1, 3);
	assert_int_equal(misses(), before + 1);
}

static void a_global_entry_is_every_pcids(void **state)
{
	u64 before;

	(void)state;
	for (unsigned s = 0; s < 2; s++)
		ptes[s][3] = pte_with(ptes[0][3], PTE_GLOBAL);
	expect_space(0, 3);
	soft_load_mm(cpu, &spaces[1]);
	before = misses();
	expect_space(0, 3);
	assert_int_equal(misses(), before);
	soft_invlpg(cpu, VA(3));
	soft_load_mm(cpu, &spaces[0]);
	before = misses();
	expect_space(0, 3);
	assert_int_equal(misses(), before + 1);
}

static void without_pge_no_entry_is_global(void **state)
{
	struct mmu_control c = cpu->control;

	(void)state;
	c.pge = false;
	soft_set_control(cpu, &c);
	ptes[0][3] = pte_with(ptes[0][3], PTE_GLOBAL);
	expect_space(0, 3);
	soft_load_mm(cpu, &spaces[1]);
	expect_space(1, 3);
}

static void changing_pge_empties_the_tlb(void **state)
{
	struct mmu_control c = cpu->control;
	u64 before;

	(void)state;
	ptes[0][3] = pte_with(ptes[0][3], PTE_GLOBAL);
	expect_space(0, 3);
	c.pge = false;
	soft_set_control(cpu, &c);
	before = misses();
	expect_space(0, 3);
	assert_int_equal(misses(), before + 1);
}

/* ---- large pages ---- */

static void one_walk_serves_all_of_a_large_page(void **state)
{
	u64 before = misses(), references = atomic_load(&cpu->references);
	u8 byte;

	(void)state;
	for (unsigned i = 0; i < PTRS_PER_TABLE; i++)
		assert_int_equal(soft_read_byte(cpu, LARGE + i * PAGE_SIZE, &byte), FAULT_OK);
	assert_int_equal(misses(), before + 1);
	assert_int_equal(atomic_load(&cpu->references), references + 3);
}

static void one_invlpg_flushes_a_large_page_and_all_its_pieces(void **state)
{
	u64 before;
	u8 byte;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(soft_read_byte(cpu, LARGE + i * PAGE_SIZE, &byte), FAULT_OK);
	expect_space(0, 15); /* a small one beside them stays */
	before = misses();
	soft_invlpg(cpu, LARGE + PMD_SIZE - 1);
	expect_space(0, 15);
	assert_int_equal(misses(), before);
	assert_int_equal(soft_read_byte(cpu, LARGE, &byte), FAULT_OK);
	assert_int_equal(misses(), before + 1);
}

static void a_write_to_a_large_page_sets_its_dirty_bit_once(void **state)
{
	pte_t *leaf = &tables_to(&spaces[0], LARGE, LEVEL_PMD)[level_index(LEVEL_PMD, LARGE)];
	u8 byte;

	(void)state;
	assert_int_equal(soft_read_byte(cpu, LARGE + 5, &byte), FAULT_OK);
	assert_false(pte_dirty(*leaf));
	assert_int_equal(soft_write_byte(cpu, LARGE + 5, 9), FAULT_OK);
	assert_true(pte_dirty(*leaf));
	assert_int_equal(*(u8 *)(m->memory + (large_frame << PAGE_SHIFT) + 5), 9);
}

/* ---- PCIDs ---- */

static void entries_of_other_spaces_stay_and_are_never_mixed_up(void **state)
{
	u64 before;

	(void)state;
	/* Another page of each, for the TLB is direct mapped. */
	for (unsigned s = 0; s < SOFT_PCIDS; s++) {
		soft_load_mm(cpu, &spaces[s]);
		expect_space(s, s);
		expect_space(s, s + 1);
	}
	before = misses();
	for (unsigned s = 0; s < SOFT_PCIDS; s++) {
		soft_load_mm(cpu, &spaces[s]);
		expect_space(s, s);
	}
	assert_int_equal(misses(), before);
	for (unsigned s = 0; s < SOFT_PCIDS; s++) {
		soft_load_mm(cpu, &spaces[s]);
		for (unsigned n = 0; n < PAGES; n++)
			expect_space(s, n);
	}
}

static void a_pcid_that_is_given_to_another_space_is_flushed(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned s = 0; s < SPACES; s++) {
			soft_load_mm(cpu, &spaces[s]);
			expect_space(s, 0);
		}
	}
}

static void what_is_flushed_while_a_space_is_away_is_not_used_when_it_comes_back(void **state)
{
	u8 byte;

	(void)state;
	expect_space(0, 0);
	expect_space(0, 1);
	soft_load_mm(cpu, &spaces[1]);
	soft_mmu_ops.clear(&spaces[0], VA(0), &ptes[0][0], (pte_t){ 0 });
	soft_mmu_ops.flush(&spaces[0], VA(0), VA(1));
	assert_int_equal(soft_attention(cpu), 0); /* it was not interrupted for that */
	soft_load_mm(cpu, &spaces[0]);
	assert_int_equal(soft_read_byte(cpu, VA(0), &byte), FAULT_MAPERR);
	expect_space(0, 1);
}

static void a_flush_that_waits_in_the_mailbox_is_for_the_space_it_was_posted_for(void **state)
{
	u64 before;
	u8 byte;

	(void)state;
	soft_load_mm(cpu, &spaces[1]);
	expect_space(1, 0);
	soft_load_mm(cpu, &spaces[0]);
	expect_space(0, 1);
	soft_mmu_ops.clear(&spaces[0], VA(1), &ptes[0][1], (pte_t){ 0 });
	soft_mmu_ops.flush(&spaces[0], VA(0), VA(2));
	soft_load_mm(cpu, &spaces[1]);
	before = misses();
	expect_space(1, 0);
	assert_int_equal(misses(), before);
	soft_load_mm(cpu, &spaces[0]);
	assert_int_equal(soft_read_byte(cpu, VA(1), &byte), FAULT_MAPERR);
}

static void a_new_space_at_an_old_address_finds_nothing(void **state)
{
	u64 pgd = spaces[1].pgd_phys;

	(void)state;
	expect_space(0, 0);
	soft_load_mm(cpu, NULL);
	spaces[0] = (struct mm){ .engine = &m->engine, .pgd_phys = pgd }; /* gone, and made anew */
	soft_load_mm(cpu, &spaces[0]);
	expect_space(1, 0);
}

/* ---- rights that are out of date ---- */

static void raised_rights_may_cost_one_fault_for_nothing(void **state)
{
	(void)state;
	ptes[0][0] = pte_without(ptes[0][0], PTE_WRITE);
	expect_space(0, 0);
	soft_mmu_ops.change(&spaces[0], VA(0), &ptes[0][0], pte_with(ptes[0][0], PTE_WRITE));
	m->trap = try_again_once;
	assert_int_equal(soft_write_byte(cpu, VA(0), 1), FAULT_OK);
	assert_int_equal(traps, 1);
	assert_int_equal(cpu->error_code, PF_USER | PF_WRITE | PF_PROT);
	assert_int_equal(soft_write_byte(cpu, VA(0), 2), FAULT_OK);
	assert_int_equal(traps, 1);
}

static void taken_rights_hold_on_until_the_flush(void **state)
{
	(void)state;
	assert_int_equal(soft_write_byte(cpu, VA(0), 1), FAULT_OK);
	soft_mmu_ops.change(&spaces[0], VA(0), &ptes[0][0], pte_without(ptes[0][0], PTE_WRITE));
	assert_int_equal(soft_write_byte(cpu, VA(0), 1), FAULT_OK);
	assert_panics(soft_check_tlbs(m), "allows more");
	soft_mmu_ops.flush(&spaces[0], VA(0), VA(1));
	expect_code(soft_write_byte(cpu, VA(0), 1), PF_USER | PF_WRITE | PF_PROT, VA(0));
	soft_check_tlbs(m);
}

static void nothing_is_remembered_of_an_absent_page(void **state)
{
	pte_t was = ptes[0][0];
	u8 byte;

	(void)state;
	ptes[0][0] = (pte_t){ 0 };
	expect_code(soft_read_byte(cpu, VA(0), &byte), PF_USER, VA(0));
	ptes[0][0] = was;
	expect_space(0, 0);
	assert_int_equal(traps, 1);
}

/* ---- protection keys ---- */

static void a_key_binds_at_once_and_without_a_flush(void **state)
{
	struct mmu_control c = cpu->control;
	u8 byte;

	(void)state;
	ptes[0][0] = pte_with(ptes[0][0], KEY(5));
	c.pke = true;
	soft_set_control(cpu, &c);
	assert_int_equal(soft_write_byte(cpu, VA(0), 1), FAULT_OK);
	c.pkru = 2u << 10; /* key 5: no write */
	soft_set_control(cpu, &c);
	assert_int_equal(soft_read_byte(cpu, VA(0), &byte), FAULT_OK);
	expect_code(soft_write_byte(cpu, VA(0), 1), PF_USER | PF_WRITE | PF_PROT | PF_PK, VA(0));
	c.pkru = 1u << 10; /* no access */
	soft_set_control(cpu, &c);
	expect_code(soft_read_byte(cpu, VA(0), &byte), PF_USER | PF_PROT | PF_PK, VA(0));
	assert_int_equal(soft_fetch(cpu, VA(0), &byte, 1), FAULT_ACCERR); /* NX, not the key */
	assert_int_equal(cpu->error_code, PF_USER | PF_INSTR | PF_PROT);
	c.pkru = 0;
	soft_set_control(cpu, &c);
	assert_int_equal(soft_write_byte(cpu, VA(0), 1), FAULT_OK);
}

/* ---- the supervisor ---- */

static void the_kernel_half_is_the_supervisors(void **state)
{
	u8 byte = 0;

	(void)state;
	assert_int_equal(soft_kernel_read(cpu, KERNEL, &byte, 1, false), FAULT_OK);
	assert_int_equal(byte, 1);
	/* It is in the TLB now, and not for the program. */
	expect_code(soft_read_byte(cpu, KERNEL, &byte), PF_USER | PF_PROT, KERNEL);
	expect_code(soft_kernel_read(cpu, KERNEL + PAGES * PAGE_SIZE, &byte, 1, false), 0,
		    KERNEL + PAGES * PAGE_SIZE);
	assert_int_equal(soft_kernel_write(cpu, KERNEL, "x", 1, false), FAULT_OK);
	expect_code(soft_kernel_fetch(cpu, KERNEL, &byte, 1), PF_INSTR | PF_PROT, KERNEL);
}

static void smap_wants_ac_for_the_programs_pages(void **state)
{
	u8 byte;

	(void)state;
	expect_space(0, 0); /* whether it is in the TLB or not */
	for (unsigned n = 0; n < 2; n++) {
		expect_code(soft_kernel_read(cpu, VA(n), &byte, 1, false), PF_PROT, VA(n));
		expect_code(soft_kernel_write(cpu, VA(n), &byte, 1, false), PF_PROT | PF_WRITE,
			    VA(n));
		assert_int_equal(soft_kernel_read(cpu, VA(n), &byte, 1, true), FAULT_OK);
		assert_int_equal(soft_kernel_write(cpu, VA(n), &byte, 1, true), FAULT_OK);
	}
	expect_code(soft_implicit_read(cpu, VA(0), &byte, 1), PF_PROT, VA(0));
}

static void smep_lets_the_supervisor_fetch_nothing_of_the_programs(void **state)
{
	u8 byte;

	(void)state;
	ptes[0][0] = pte_without(ptes[0][0], PTE_NX);
	assert_int_equal(soft_fetch(cpu, VA(0), &byte, 1), FAULT_OK);
	expect_code(soft_kernel_fetch(cpu, VA(0), &byte, 1), PF_INSTR | PF_PROT, VA(0));
}

static void read_only_binds_the_supervisor_with_wp(void **state)
{
	struct mmu_control c = cpu->control;

	(void)state;
	ptes[0][0] = pte_without(ptes[0][0], PTE_WRITE);
	expect_code(soft_kernel_write(cpu, VA(0), "x", 1, true), PF_PROT | PF_WRITE, VA(0));
	c.wp = false;
	soft_set_control(cpu, &c);
	assert_int_equal(soft_kernel_write(cpu, VA(0), "x", 1, true), FAULT_OK);
	assert_true(pte_dirty(ptes[0][0]));
}

#define T(name)	      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define T_PCIDS(name) cmocka_unit_test_setup_teardown(name, setup_pcids, teardown)
#define T_STALE(name) cmocka_unit_test_setup_teardown(name, setup_stale, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(global_entries_outlive_a_load_but_not_an_invlpg),
		T(without_pge_no_entry_is_global),
		T(changing_pge_empties_the_tlb),
		T(one_walk_serves_all_of_a_large_page),
		T(one_invlpg_flushes_a_large_page_and_all_its_pieces),
		T(a_write_to_a_large_page_sets_its_dirty_bit_once),
		T_PCIDS(a_global_entry_is_every_pcids),
		T_PCIDS(entries_of_other_spaces_stay_and_are_never_mixed_up),
		T_PCIDS(a_pcid_that_is_given_to_another_space_is_flushed),
		T_PCIDS(what_is_flushed_while_a_space_is_away_is_not_used_when_it_comes_back),
		T_PCIDS(a_flush_that_waits_in_the_mailbox_is_for_the_space_it_was_posted_for),
		T_PCIDS(a_new_space_at_an_old_address_finds_nothing),
		T_STALE(raised_rights_may_cost_one_fault_for_nothing),
		T_STALE(taken_rights_hold_on_until_the_flush),
		T_STALE(nothing_is_remembered_of_an_absent_page),
		T(a_key_binds_at_once_and_without_a_flush),
		T(the_kernel_half_is_the_supervisors),
		T(smap_wants_ac_for_the_programs_pages),
		T(smep_lets_the_supervisor_fetch_nothing_of_the_programs),
		T(read_only_binds_the_supervisor_with_wp),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
