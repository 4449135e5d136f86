/* SPDX-License-Identifier: MIT */
/* Shadow page tables: a guest cannot tell its shadows from its tables. */
#include "engine/base/errno.h"
#include "systems/shadow/paging.h"
#include "tests/unit/unit.h"

/*
 * A guest's memory with tables in its first frames, made at random, and a copy in which a processor
 * walks without shadows.  After each step all entries are the same in both, to the accessed and
 * dirty bits; each access ends alike; and no shadow gives more than its table.
 */
enum { FRAMES = 16, TABLES = 8, SLOTS = 3 };

/* Are tables walked at one level each, or at any? */
static bool at_any_level;
static bool wp; /* CR0.WP */

static struct host_memory host;
static struct shadow shadow;
static char *memory, *native;
static unsigned flushes;
static u64 seed;
/* What another processor stores at the last moment before it is flushed: NULL: nothing. */
static pte_t *stores_late, stored_late;

static void flush_all(void *ctx)
{
	(void)ctx;
	flushes++;
	if (stores_late)
		pte_store(stores_late, stored_late);
	stores_late = NULL;
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
	assert_int_equal(shadow_init(&shadow, &host, SHADOW_LEAST_ROOM), 0);
	shadow.flush = flush_all;
	shadow.out_of_sync = out_of_sync;
	at_any_level = false;
	wp = true;
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

/* How often the guest was stopped for it. */
static unsigned store(u64 table, unsigned i, pte_t pte)
{
	pte_t *entry = (pte_t *)(memory + table * PAGE_SIZE) + i;
	enum shadow_store how;
	unsigned stopped;

	shadow_lock(&shadow);
	stopped = shadow_before_store(&shadow, entry, 1, &how);
	pte_store(entry, pte);
	shadow_unlock(&shadow);
	((pte_t *)(native + table * PAGE_SIZE))[i] = pte;
	return stopped;
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
	u64 pfn = at_any_level ? rnd_below(&seed, TABLES)
			       : 2 * (LEVEL_P4D - level + 1) + rnd_below(&seed, 2);

	if (!rnd_below(&seed, 6))
		return (pte_t){ 0 };
	if (!rnd_below(&seed, 6))
		bits |= PTE_NX;
	if (!rnd_below(&seed, 40))
		bits |= 1ULL << 51; /* reserved */
	if (at_any_level && rnd_below(&seed, 3))
		return pte_make(pfn, PTE_PRESENT | PTE_WRITE | PTE_USER | bits);
	if (level > LEVEL_PTE && !at_any_level)
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
	/* Most of the time as it was, so that two accesses meet what the first has made. */
	if (!rnd_below(&seed, 8))
		wp = rnd_below(&seed, 2);
	c.wp = wp;
	/* With SMAP a kernel that writes to what is read-only could go on without AC. */
	c.smap = wp;
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

static void random_tables(bool out_of_sync, bool any_level)
{
	create(out_of_sync);
	at_any_level = any_level;
	for (unsigned step = 0; step < 30000; step++) {
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
	random_tables(false, false);
	random_tables(true, false);
}

/* More shadows than there is room for, too. */
static void nor_where_tables_lead_to_themselves(void **state)
{
	(void)state;
	random_tables(false, true);
	random_tables(true, true);
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

static bool is_unsync(u64 gfn)
{
	return shadow.tables[shadow_find(&shadow, gfn, LEVEL_PTE)].unsync;
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
	assert_true(is_unsync(6));
	store(6, 0, (pte_t){ 0 });
	assert_int_equal(hidden_faults(PF_USER), 0);
	sync_all();
	assert_false(is_unsync(6));
	assert_int_equal(shadow_fault(&shadow, &c, 0, 0, PF_USER, &code), SHADOW_TRUE);
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_FAULT);
	destroy();
}

static void invlpg_syncs_the_table_that_it_is_for(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	u32 code;

	(void)state;
	create(true);
	one_page(9, PTE_WRITE | PTE_USER);
	store(4, 1, pte_make(7, PTE_PRESENT | PTE_USER));
	store(7, 0, pte_make(10, PTE_PRESENT | PTE_USER));
	hidden_faults(PF_USER);
	assert_int_equal(shadow_fault(&shadow, &c, 0, PMD_SIZE, PF_USER, &code), SHADOW_HIDDEN);
	for (unsigned i = 0; i < 2; i++) {
		store(6, i, (pte_t){ 0 });
		store(7, i, (pte_t){ 0 });
	}
	shadow_lock(&shadow);
	shadow_invlpg(&shadow, 0, 1ULL << level_shift(LEVEL_P4D)); /* nothing is there */
	assert_true(is_unsync(6) && is_unsync(7));
	shadow_invlpg(&shadow, 0, PMD_SIZE + PAGE_SIZE);
	shadow_unlock(&shadow);
	assert_true(is_unsync(6) && !is_unsync(7));
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_OK);
	assert_int_equal(shadow_walk(&shadow, &c, 0, PMD_SIZE, PF_USER, &w), WALK_FAULT);
	destroy();
}

/* The guest flushes while nothing leads to the shadow that is out of sync, or to what does. */
static void what_nothing_led_to_is_synced_when_it_is_linked(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	u32 code;

	(void)state;
	for (enum mmu_level level = LEVEL_PMD; level <= LEVEL_P4D; level++) {
		create(true);
		one_page(9, PTE_WRITE | PTE_USER);
		hidden_faults(PF_USER | PF_WRITE);
		store(6, 1, (pte_t){ 0 });
		store(6, 0, (pte_t){ 0 });
		store(6, 2, pte_make(10, PTE_PRESENT | PTE_USER));
		shadow_lock(&shadow);
		shadow_drop(&shadow, shadow_find(&shadow, 2 * (LEVEL_P4D - level), level));
		shadow_settle(&shadow);
		shadow_invlpg(&shadow, 0, 0);
		shadow_unlock(&shadow);
		assert_int_equal(shadow_fault(&shadow, &c, 0, 2 * PAGE_SIZE, PF_USER, &code),
				 SHADOW_HIDDEN);
		assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_FAULT);
		shadow_check(&shadow);
		destroy();
	}
}

static void a_page_that_is_stored_to_in_a_row_is_no_table(void **state)
{
	const pte_t other = pte_make(10, PTE_PRESENT | PTE_ACCESSED);
	enum shadow_store how;

	(void)state;
	create(false);
	one_page(9, PTE_WRITE | PTE_USER);
	assert_int_equal(store(6, 1, other), 0);
	hidden_faults(PF_USER);
	/* A walk through it between stores: it is one still. */
	for (unsigned i = 0; i < 4 * SHADOW_FLOOD; i++) {
		assert_int_equal(store(6, 1, other), 1);
		assert_int_equal(hidden_faults(PF_USER | PF_WRITE), i == 0);
		store(6, 0, pte_without(*(pte_t *)(memory + 6 * PAGE_SIZE), PTE_ACCESSED));
		assert_int_equal(hidden_faults(PF_USER), 1);
	}
	for (unsigned i = 0; i < SHADOW_FLOOD; i++) {
		assert_true(shadow_has(&shadow, 6, LEVEL_PTE));
		assert_int_equal(store(6, 1, other), 1);
	}
	assert_false(shadow_has(&shadow, 6, LEVEL_PTE));
	assert_int_equal(store(6, 1, other), 0);
	shadow_check(&shadow);
	/* It was, after all. */
	assert_int_equal(hidden_faults(PF_USER), 1);
	/* A table above the leaf that is zeroed. */
	shadow_lock(&shadow);
	assert_int_equal(
		shadow_before_store(&shadow, shadow_guest_table(&shadow, 4), PTRS_PER_TABLE, &how),
		SHADOW_FLOOD);
	memset(memory + 4 * PAGE_SIZE, 0, PAGE_SIZE);
	shadow_unlock(&shadow);
	assert_int_equal(how, SHADOW_FLOODED);
	assert_false(shadow_has(&shadow, 4, LEVEL_PMD));
	shadow_check(&shadow);
	destroy();
}

/* As a kernel's half of the address space. */
static void a_table_that_two_roots_share_has_one_shadow(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	u32 code;

	(void)state;
	create(false);
	one_page(9, PTE_WRITE | PTE_USER);
	store(1, 0, *(pte_t *)memory);
	hidden_faults(PF_USER);
	assert_int_equal(shadow_fault(&shadow, &c, PAGE_SIZE, 0, PF_USER, &code), SHADOW_HIDDEN);
	/* Both know it now. */
	assert_int_equal(hidden_faults(PF_USER), 0);
	assert_int_equal(shadow_walk(&shadow, &c, PAGE_SIZE, 0, PF_USER, &w), WALK_OK);
	/* When it goes, it goes for both. */
	store(2, 0, (pte_t){ 0 });
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_FAULT);
	assert_int_equal(shadow_walk(&shadow, &c, PAGE_SIZE, 0, PF_USER, &w), WALK_FAULT);
	shadow_check(&shadow);
	destroy();
}

/* The table that it is out of sync with is walked at a second level, where it may not be. */
static void a_table_is_in_sync_where_it_is_walked_above_the_leaf(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result w;
	u32 code;

	(void)state;
	create(true);
	one_page(9, PTE_WRITE | PTE_USER);
	hidden_faults(PF_USER | PF_WRITE);
	assert_int_equal(store(6, 1, pte_make(7, PTE_PRESENT | PTE_USER)), 1);
	assert_int_equal(store(6, 0, (pte_t){ 0 }), 0);
	assert_int_equal(hidden_faults(PF_USER), 0); /* what was there before */
	/* Table 4 leads to 6, and now root 1 by 3 to 6, to 7, to frame 8. */
	store(1, 0, pte_make(3, PTE_PRESENT | PTE_USER));
	store(3, 0, pte_make(6, PTE_PRESENT | PTE_USER));
	store(7, 0, pte_make(8, PTE_PRESENT | PTE_USER));
	assert_int_equal(shadow_fault(&shadow, &c, PAGE_SIZE, PMD_SIZE, PF_USER, &code),
			 SHADOW_HIDDEN);
	assert_int_equal(shadow_walk(&shadow, &c, PAGE_SIZE, PMD_SIZE, PF_USER, &w), WALK_OK);
	assert_int_equal(w.phys >> PAGE_SHIFT, host_hfn(&host, 8));
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_FAULT);
	/* And stays so: each store is emulated. */
	assert_int_equal(store(6, 2, (pte_t){ 0 }), 1);
	assert_int_equal(store(6, 3, (pte_t){ 0 }), 1);
	shadow_check(&shadow);
	destroy();
}

/* A program has it for data, and writes to it until it is protected. */
static void a_table_that_changes_while_it_is_walked_is_walked_again(void **state)
{
	const struct mmu_control c = MMU_CONTROL_USUAL;
	const u64 all = PTE_PRESENT | PTE_WRITE | PTE_USER;
	struct walk_result w;
	u32 code;

	(void)state;
	create(false);
	one_page(9, PTE_WRITE | PTE_USER);
	store(1, 0, pte_make(3, all));
	store(3, 0, pte_make(5, all));
	store(5, 0, pte_make(7, all));
	store(7, 0, pte_make(6, all));
	assert_int_equal(shadow_fault(&shadow, &c, PAGE_SIZE, 0, PF_USER | PF_WRITE, &code),
			 SHADOW_HIDDEN);
	assert_int_equal(shadow_walk(&shadow, &c, PAGE_SIZE, 0, PF_USER | PF_WRITE, &w), WALK_OK);
	stores_late = (pte_t *)(memory + 6 * PAGE_SIZE);
	stored_late = pte_make(10, all);
	assert_int_equal(hidden_faults(PF_USER), 1);
	assert_null(stores_late);
	assert_int_equal(shadow_walk(&shadow, &c, 0, 0, PF_USER, &w), WALK_OK);
	assert_int_equal(w.phys >> PAGE_SHIFT, host_hfn(&host, 10));
	assert_int_equal(shadow_walk(&shadow, &c, PAGE_SIZE, 0, PF_USER | PF_WRITE, &w),
			 WALK_FAULT);
	shadow_check(&shadow);
	destroy();
}

/* A page that only the kernel has while it writes to what is read-only is a user's all the same. */
static void with_wp_off_smep_binds_the_kernel_still(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	u32 code = 0;
	u64 hfn;

	(void)state;
	create(false);
	one_page(9, PTE_USER);
	c.wp = c.smap = false;
	assert_int_equal(access_shadowed(&c, 0, PF_WRITE, &code, &hfn), WALK_OK);
	assert_int_equal(access_shadowed(&c, 0, PF_INSTR, &code, &hfn), WALK_FAULT);
	assert_int_equal(code, PF_PROT | PF_INSTR);
	assert_int_equal(access_shadowed(&c, 0, PF_USER | PF_INSTR, &code, &hfn), WALK_OK);
	assert_int_equal(access_shadowed(&c, 0, PF_USER | PF_WRITE, &code, &hfn), WALK_FAULT);
	assert_int_equal(code, PF_PROT | PF_USER | PF_WRITE);
	/* And when it is on again, CR0.WP. */
	assert_int_equal(access_shadowed(&c, 0, PF_WRITE, &code, &hfn), WALK_OK);
	c.wp = true;
	assert_int_equal(access_shadowed(&c, 0, PF_WRITE, &code, &hfn), WALK_FAULT);
	destroy();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_guest_cannot_tell_its_shadows_from_its_tables),
		cmocka_unit_test(nor_where_tables_lead_to_themselves),
		cmocka_unit_test(the_first_write_to_a_page_that_was_read_faults_once_more),
		cmocka_unit_test(a_stale_shadow_is_as_a_stale_tlb_until_the_flush),
		cmocka_unit_test(invlpg_syncs_the_table_that_it_is_for),
		cmocka_unit_test(what_nothing_led_to_is_synced_when_it_is_linked),
		cmocka_unit_test(a_page_that_is_stored_to_in_a_row_is_no_table),
		cmocka_unit_test(a_table_that_two_roots_share_has_one_shadow),
		cmocka_unit_test(a_table_is_in_sync_where_it_is_walked_above_the_leaf),
		cmocka_unit_test(a_table_that_changes_while_it_is_walked_is_walked_again),
		cmocka_unit_test(with_wp_off_smep_binds_the_kernel_still),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
