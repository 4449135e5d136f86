/* SPDX-License-Identifier: MIT */
/* Shadow page tables: what a fresh page costs, and that a guest cannot tell its shadows from its
 * tables. */
#include "engine/base/errno.h"
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
	/* Each entry that changes. */
	assert_true(count_of("shadow", "prot100", PAID_VM_EXITS) > 100);
	assert_true(count_of("shadow-oos", "prot100", PAID_VM_EXITS) < 10);
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

/* ---- a guest cannot tell ---- */

/*
 * A guest's memory with tables in its first frames, made at random, and a copy in which a processor
 * walks without shadows.  After each step all entries are the same in both, to the accessed and
 * dirty bits; each access ends alike; and no shadow gives more than its table.
 */
enum { FRAMES = 16, TABLES = 8, SLOTS = 3 };

static struct host_memory host;
static struct shadow shadow;
static char *memory, *native;
static unsigned flushes;
static u64 seed;

static void flush_all(void *ctx)
{
	(void)ctx;
	flushes++;
}

static pte_t *native_table(void *ctx, u64 phys)
{
	(void)ctx;
	return phys >> PAGE_SHIFT < FRAMES ? (pte_t *)(native + phys) : NULL;
}

static void create(bool out_of_sync)
{
	memory = aligned_alloc(PAGE_SIZE, FRAMES * PAGE_SIZE);
	native = aligned_alloc(PAGE_SIZE, FRAMES * PAGE_SIZE);
	assert_true(memory && native);
	memset(memory, 0, FRAMES * PAGE_SIZE);
	memset(native, 0, FRAMES * PAGE_SIZE);
	assert_int_equal(host_init(&host, memory, FRAMES), 0);
	assert_int_equal(shadow_init(&shadow, &host), 0);
	shadow.flush = flush_all;
	shadow.out_of_sync = out_of_sync;
	flushes = 0;
	seed = 17;
}

static void destroy(void)
{
	shadow_fini(&shadow);
	host_fini(&host);
	free(memory);
	free(native);
}

static void store(u64 table, unsigned i, pte_t pte)
{
	pte_t *entry = (pte_t *)(memory + table * PAGE_SIZE) + i;

	shadow_lock(&shadow);
	shadow_before_store(&shadow, entry, 1);
	pte_store(entry, pte);
	shadow_unlock(&shadow);
	((pte_t *)(native + table * PAGE_SIZE))[i] = pte;
}

static void sync_all(void)
{
	shadow_lock(&shadow);
	shadow_sync(&shadow);
	shadow_unlock(&shadow);
}

/* Frames 0 to 7 are tables of one level each, two of each level, 0 being the root. */
static pte_t random_entry(enum mmu_level level)
{
	u64 bits = rnd_next(&seed) & (PTE_WRITE | PTE_USER | PTE_ACCESSED | PTE_DIRTY);
	u64 pfn = 2 * (LEVEL_P4D - level + 1) + rnd_below(&seed, 2);

	if (!rnd_below(&seed, 6))
		return (pte_t){ 0 };
	if (!rnd_below(&seed, 6))
		bits |= PTE_NX;
	if (!rnd_below(&seed, 40))
		bits |= 1ULL << 51; /* reserved */
	if (level > LEVEL_PTE)
		return pte_make(pfn, PTE_PRESENT | PTE_WRITE | PTE_USER |
					     (bits & ~(PTE_DIRTY | PTE_ACCESSED)));
	/* Any frame: the guest's own tables, too, and what it has not. */
	return pte_make(rnd_below(&seed, FRAMES + 1), PTE_PRESENT | bits);
}

static void edit(void)
{
	u64 table = rnd_below(&seed, TABLES);
	unsigned i = (unsigned)rnd_below(&seed, SLOTS);

	store(table, i, random_entry(LEVEL_P4D - table / 2));
}

/* As the processor and the hypervisor: until it is made, or the guest has to be told *code. */
static int access_shadowed(const struct mmu_control *c, u64 va, u32 kind, u32 *code, u64 *hfn)
{
	struct walk_result w;
	int result;

	for (unsigned n = 0; n < 8; n++) {
		if (shadow_walk(&shadow, c, 0, va, kind, &w) == WALK_OK) {
			*hfn = w.phys >> PAGE_SHIFT;
			return WALK_OK;
		}
		result = shadow_fault(&shadow, c, 0, va, kind, code);
		if (result != SHADOW_HIDDEN)
			return result == SHADOW_TRUE ? WALK_FAULT : result;
	}
	fail_msg("%lx faults again and again", (unsigned long)va);
	return 0;
}

static void compare_access(void)
{
	static const u32 kinds[] = { 0,	      PF_WRITE,		  PF_INSTR,
				     PF_USER, PF_USER | PF_WRITE, PF_USER | PF_INSTR };
	struct mmu_control c = MMU_CONTROL_USUAL;
	u32 kind = kinds[rnd_below(&seed, ARRAY_SIZE(kinds))], code = 0;
	u64 va = 0, hfn = 0;
	struct walk_result w;
	enum walk_status status;
	int got;

	c.ac = rnd_below(&seed, 2);
	c.wp = rnd_below(&seed, 4);
	for (enum mmu_level l = LEVEL_PTE; l <= LEVEL_P4D; l++)
		va |= rnd_below(&seed, SLOTS) << level_shift(l);
	status = mmu_walk(&c, 0, va, kind, native_table, NULL, &w);
	got = access_shadowed(&c, va, kind, &code, &hfn);
	if (status == WALK_FAULT) {
		assert_int_equal(got, WALK_FAULT);
		assert_int_equal(code, w.error_code);
	} else if (status == WALK_UNREACHABLE || w.phys >> PAGE_SHIFT >= FRAMES) {
		assert_int_equal(got, -EFAULT);
	} else if (got != -EBUSY || !(kind & PF_WRITE)) {
		assert_int_equal(got, WALK_OK);
		assert_int_equal(hfn, host_hfn(&host, w.phys >> PAGE_SHIFT));
	}
}

static void same_entries(void)
{
	for (u64 table = 0; table < TABLES; table++)
		for (unsigned i = 0; i < SLOTS; i++) {
			u64 at = table * PAGE_SIZE + i * sizeof(pte_t);

			if (memcmp(memory + at, native + at, sizeof(pte_t)) != 0)
				fail_msg("entry %u of table %u: %lx with a shadow, %lx without", i,
					 (unsigned)table, *(u64 *)(memory + at),
					 *(u64 *)(native + at));
		}
}

static void random_tables(bool out_of_sync)
{
	create(out_of_sync);
	for (unsigned step = 0; step < 60000; step++) {
		if (!rnd_below(&seed, 4)) {
			for (u64 n = rnd_below(&seed, 3) + 1; n; n--)
				edit();
			/* As on a processor whose TLB might hold what was there. */
			sync_all();
		}
		compare_access();
		same_entries();
		shadow_check(&shadow);
	}
	assert_true(flushes > 100);
	destroy();
}

static void a_guest_cannot_tell_its_shadows_from_its_tables(void **state)
{
	(void)state;
	random_tables(false);
	random_tables(true);
}

/* A guest that walks root 0, table 2, table 4, table 6 to frame `gfn`. */
static void one_page(u64 gfn, u64 bits)
{
	const u64 all = PTE_PRESENT | PTE_WRITE | PTE_USER;

	store(0, 0, pte_make(2, all));
	store(2, 0, pte_make(4, all));
	store(4, 0, pte_make(6, all));
	store(6, 0, pte_make(gfn, bits | PTE_PRESENT));
}

static unsigned hidden_faults(u32 kind)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	unsigned n = 0;
	u32 code;

	while (shadow_walk(&shadow, &c, 0, 0, kind, &w) != WALK_OK) {
		assert_int_equal(shadow_fault(&shadow, &c, 0, 0, kind, &code), SHADOW_HIDDEN);
		assert_true(++n < 4);
	}
	return n;
}

static void the_first_write_to_a_page_that_was_read_faults_once_more(void **state)
{
	pte_t *leaf;

	(void)state;
	create(false);
	leaf = (pte_t *)(memory + 6 * PAGE_SIZE);
	one_page(9, PTE_WRITE | PTE_USER);
	assert_int_equal(hidden_faults(PF_USER), 1);
	assert_true(pte_young(*leaf) && !pte_dirty(*leaf));
	assert_int_equal(hidden_faults(PF_USER), 0);
	assert_int_equal(hidden_faults(PF_USER | PF_WRITE), 1);
	assert_true(pte_dirty(*leaf));
	assert_int_equal(hidden_faults(PF_USER | PF_WRITE), 0);
	/* The guest resets the bit, and sees it set again. */
	store(6, 0, pte_without(*leaf, PTE_ACCESSED));
	assert_int_equal(hidden_faults(PF_USER), 1);
	assert_true(pte_young(*leaf));
	destroy();
}

static void a_stale_shadow_is_as_a_stale_tlb_until_the_flush(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	u32 code;

	(void)state;
	create(true);
	one_page(9, PTE_WRITE | PTE_USER);
	hidden_faults(PF_USER | PF_WRITE);
	store(6, 1, (pte_t){ 0 }); /* from here on out of sync */
	assert_true(shadow.unsync[6]);
	store(6, 0, (pte_t){ 0 });
	assert_int_equal(hidden_faults(PF_USER), 0);
	sync_all();
	assert_false(shadow.unsync[6]);
	assert_int_equal(shadow_fault(&shadow, &c, 0, 0, PF_USER, &code), SHADOW_TRUE);
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_FAULT);
	destroy();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_fresh_page_costs_three_exits),
		cmocka_unit_test(a_table_out_of_sync_saves_one_of_three),
		cmocka_unit_test(a_guest_cannot_tell_its_shadows_from_its_tables),
		cmocka_unit_test(the_first_write_to_a_page_that_was_read_faults_once_more),
		cmocka_unit_test(a_stale_shadow_is_as_a_stale_tlb_until_the_flush),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
