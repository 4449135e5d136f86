/* SPDX-License-Identifier: MIT */
/*
 * The walk against the manual: every combination of entry bits, kind of access and control bits is
 * compared with the rules written down once more, in the manual's own order.
 */
#include <pthread.h>

#include "engine/mmu/walk.h"
#include "tests/unit/unit.h"

/* Physical memory of a few tables; frame n holds table n. */
enum { ROOT5, ROOT, PUD, PMD, PTE, TABLES };
static pte_t memory[TABLES][PTRS_PER_TABLE];

static pte_t *table_at(void *ctx, u64 phys)
{
	(void)ctx;
	assert_true(phys >> PAGE_SHIFT < TABLES);
	return memory[phys >> PAGE_SHIFT];
}

#define VA     0x00007123456789abULL
#define FRAME  0x12345ULL
#define UPPER  (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define ALL_AD (PTE_ACCESSED | PTE_DIRTY)

static pte_t *entry_of(enum mmu_level level)
{
	static const int table[] = {
		[LEVEL_PTE] = PTE,  [LEVEL_PMD] = PMD,	 [LEVEL_PUD] = PUD,
		[LEVEL_P4D] = ROOT, [LEVEL_PGD] = ROOT5,
	};

	return &memory[table[level]][level_index(level, VA)];
}

/* A translation of VA with everything allowed down to the leaf at `level`. */
static void build(enum mmu_level level, u64 leaf_bits)
{
	static const int below[] = {
		[LEVEL_PMD] = PTE, [LEVEL_PUD] = PMD, [LEVEL_P4D] = PUD, [LEVEL_PGD] = ROOT
	};
	u64 frame = FRAME & ~((1ULL << (level_shift(level) - PAGE_SHIFT)) - 1);

	memset(memory, 0, sizeof(memory));
	for (enum mmu_level l = LEVEL_PGD; l > level; l--)
		*entry_of(l) = pte_make(below[l], UPPER);
	*entry_of(level) = pte_make(frame, leaf_bits | (level > LEVEL_PTE ? PTE_HUGE : 0));
}

static enum walk_status walk(const struct mmu_control *c, u64 va, u32 access, struct walk_result *r)
{
	return mmu_walk(c, (c->la57 ? ROOT5 : ROOT) * PAGE_SIZE, va, access, table_at, NULL, r);
}

static void each_level_takes_its_nine_bits(void **state)
{
	(void)state;
	assert_int_equal(level_shift(LEVEL_PTE), 12);
	assert_int_equal(level_shift(LEVEL_PMD), PMD_SHIFT);
	assert_int_equal(level_shift(LEVEL_PUD), PUD_SHIFT);
	assert_int_equal(level_shift(LEVEL_P4D), P4D_SHIFT);
	assert_int_equal(level_shift(LEVEL_PGD), PGD_SHIFT_5);
	assert_int_equal(level_index(LEVEL_PTE, 0x1ff000), 511);
	assert_int_equal(level_index(LEVEL_P4D, 0xffff800000000000ULL), 256);
}

static void a_walk_ends_at_a_page_of_any_size(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	for (int la57 = 0; la57 < 2; la57++) {
		c.la57 = la57;
		for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_PUD; level++) {
			u64 offset = (1ULL << level_shift(level)) - 1;

			build(level, UPPER);
			assert_int_equal(walk(&c, VA, PF_USER, &r), WALK_OK);
			assert_int_equal(r.level, level);
			assert_int_equal(r.phys, ((FRAME << PAGE_SHIFT) & ~offset) | (VA & offset));
			assert_true(r.write && r.user && !r.nx);
			assert_ptr_equal(r.entry, entry_of(level));
		}
	}
}

static void an_address_must_be_a_sign_extension(void **state)
{
	struct mmu_control four = MMU_CONTROL_USUAL, five = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	five.la57 = true;
	build(LEVEL_PTE, UPPER);
	assert_true(mmu_canonical(&four, 0x00007fffffffffffULL));
	assert_false(mmu_canonical(&four, 0x0000800000000000ULL));
	assert_false(mmu_canonical(&four, 0xffff7fffffffffffULL));
	assert_true(mmu_canonical(&four, 0xffff800000000000ULL));
	assert_true(mmu_canonical(&five, 0x00ffffffffffffffULL));
	assert_false(mmu_canonical(&five, 0x0100000000000000ULL));
	assert_true(mmu_canonical(&five, 0xff00000000000000ULL));
	assert_int_equal(walk(&four, 0x0000800000000000ULL, 0, &r), WALK_NONCANONICAL);
	assert_int_equal(walk(&five, 0x0000800000000000ULL, 0, &r), WALK_FAULT);
}

static void an_absent_entry_of_any_level_says_not_present(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	c.la57 = true;
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_PGD; level++) {
		build(LEVEL_PTE, UPPER);
		/* Everything but the present bit, reserved ones included: it does not matter. */
		*entry_of(level) = (pte_t){ ~PTE_PRESENT };
		assert_int_equal(walk(&c, VA, PF_USER | PF_WRITE, &r), WALK_FAULT);
		assert_int_equal(r.error_code, PF_USER | PF_WRITE);
		assert_int_equal(r.level, level);
		assert_int_equal(entry_of(level)->v, ~PTE_PRESENT);
	}
}

/* ---- rights: all combinations ---- */

enum { /* what one case is made of, as bits of its number */
       LEAF_W = 1,
       LEAF_U = 2,
       LEAF_NX = 4,
       UPPER_W = 8,
       UPPER_U = 16,
       UPPER_NX = 32,
       WRITE = 64,
       FETCH = 128,
       USER = 256,
       WP = 512,
       NXE = 1024,
       SMEP = 2048,
       SMAP = 4096,
       AC = 8192,
       CASES = 16384,
};

static u64 bits_of(int n, int w, int u, int nx)
{
	return PTE_PRESENT | (n & w ? PTE_WRITE : 0) | (n & u ? PTE_USER : 0) |
	       (n & nx ? PTE_NX : 0);
}

/* SDM 4.6.1, paragraph by paragraph: may this access be made? */
static bool manual_allows(int n)
{
	bool user_address = n & LEAF_U && n & UPPER_U;
	bool writable = n & LEAF_W && n & UPPER_W;
	bool no_execute = n & NXE && (n & LEAF_NX || n & UPPER_NX);

	if (!(n & USER)) {
		if (n & FETCH) { /* supervisor-mode instruction fetches */
			if (user_address && n & SMEP)
				return false;
			return !no_execute;
		}
		if (user_address && n & SMAP && !(n & AC))
			return false; /* data reads and writes, CR4.SMAP = 1 */
		if (n & WRITE && n & WP)
			return writable;
		return true;
	}
	if (!user_address)
		return false; /* user-mode accesses to supervisor-mode addresses */
	if (n & FETCH)
		return !no_execute;
	return n & WRITE ? writable : true;
}

static bool manual_reserved(int n)
{
	return !(n & NXE) && (n & LEAF_NX || n & UPPER_NX);
}

static u32 manual_error_code(int n, u32 cause)
{
	return cause | (n & WRITE ? PF_WRITE : 0) | (n & USER ? PF_USER : 0) |
	       (n & FETCH && n & (NXE | SMEP) ? PF_INSTR : 0);
}

static void check_case(int n)
{
	struct mmu_control c = { .wp = n & WP,
				 .nxe = n & NXE,
				 .smep = n & SMEP,
				 .smap = n & SMAP,
				 .ac = n & AC,
				 .phys_bits = 46 };
	u32 access =
		(n & WRITE ? PF_WRITE : 0) | (n & FETCH ? PF_INSTR : 0) | (n & USER ? PF_USER : 0);
	u64 leaf = bits_of(n, LEAF_W, LEAF_U, LEAF_NX);
	struct walk_result r;
	bool ok;

	build(LEVEL_PTE, leaf);
	*entry_of(LEVEL_PMD) = pte_make(PTE, bits_of(n, UPPER_W, UPPER_U, UPPER_NX));
	ok = walk(&c, VA, access, &r) == WALK_OK;
	if (manual_reserved(n)) {
		assert_false(ok);
		assert_int_equal(r.error_code, manual_error_code(n, PF_PROT | PF_RSVD));
	} else if (!manual_allows(n)) {
		assert_false(ok);
		assert_int_equal(r.error_code, manual_error_code(n, PF_PROT));
	} else {
		assert_true(ok);
		leaf |= PTE_ACCESSED | (n & WRITE ? PTE_DIRTY : 0);
		assert_int_equal(r.leaf.v, pte_make(FRAME, leaf).v);
	}
	assert_int_equal(entry_of(LEVEL_PTE)->v, pte_make(FRAME, leaf).v);
}

static void rights_follow_the_manual_in_every_combination(void **state)
{
	(void)state;
	for (int n = 0; n < CASES; n++)
		if (!(n & WRITE && n & FETCH))
			check_case(n);
}

/* ---- reserved bits ---- */

static void every_reserved_bit_is_reported(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	c.phys_bits = 40;
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_PUD; level++)
		for (unsigned bit = PAGE_SHIFT; bit < 63; bit++) {
			bool low = level > LEVEL_PTE && bit > 12 && bit < level_shift(level);
			bool high = bit >= 40 && bit < 52;

			build(level, UPPER);
			entry_of(level)->v |= 1ULL << bit;
			if (low || high) {
				assert_int_equal(walk(&c, VA, PF_USER, &r), WALK_FAULT);
				assert_int_equal(r.error_code, PF_USER | PF_PROT | PF_RSVD);
				assert_false(pte_young(*entry_of(level)));
			} else {
				assert_int_equal(walk(&c, VA, PF_USER, &r), WALK_OK);
			}
		}
}

static void page_size_is_reserved_where_no_page_of_that_size_is(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	c.la57 = true;
	for (enum mmu_level level = LEVEL_P4D; level <= LEVEL_PGD; level++) {
		build(LEVEL_PTE, UPPER);
		entry_of(level)->v |= PTE_HUGE;
		assert_int_equal(walk(&c, VA, 0, &r), WALK_FAULT);
		assert_int_equal(r.error_code, PF_PROT | PF_RSVD);
		assert_int_equal(r.level, level);
	}
	build(LEVEL_PUD, UPPER);
	c.gb_pages = false;
	assert_int_equal(walk(&c, VA, PF_USER, &r), WALK_FAULT);
	assert_int_equal(r.error_code, PF_USER | PF_PROT | PF_RSVD);
}

/* ---- accessed and dirty ---- */

static void a_read_marks_all_levels_accessed_and_none_dirty(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	build(LEVEL_PTE, UPPER);
	assert_int_equal(walk(&c, VA, PF_USER, &r), WALK_OK);
	for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_P4D; level++)
		assert_int_equal(entry_of(level)->v & ALL_AD, PTE_ACCESSED);
}

static void a_write_marks_only_the_leaf_dirty(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	for (enum mmu_level leaf = LEVEL_PTE; leaf <= LEVEL_PUD; leaf++) {
		build(leaf, UPPER);
		assert_int_equal(walk(&c, VA, PF_USER | PF_WRITE, &r), WALK_OK);
		assert_int_equal(entry_of(leaf)->v & ALL_AD, ALL_AD);
		for (enum mmu_level level = leaf + 1; level <= LEVEL_P4D; level++)
			assert_int_equal(entry_of(level)->v & ALL_AD, PTE_ACCESSED);
	}
}

static void a_forbidden_access_leaves_the_leaf_untouched(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;

	(void)state;
	build(LEVEL_PTE, PTE_PRESENT | PTE_USER);
	assert_int_equal(walk(&c, VA, PF_USER | PF_WRITE, &r), WALK_FAULT);
	assert_int_equal(entry_of(LEVEL_PTE)->v & ALL_AD, 0);
	assert_int_equal(entry_of(LEVEL_PMD)->v & ALL_AD, PTE_ACCESSED); /* it led here */
}

/* ---- beside changes ---- */

enum { FLIPS = 200000 };
static _Atomic bool flipping;
static u64 dirty_seen;

/* What unmapping does: take the entry away, see what was in it, put it back clean. */
static void *flip_the_leaf(void *arg)
{
	pte_t *leaf = arg;

	for (int i = 0; i < FLIPS; i++) {
		pte_t old = pte_exchange(leaf, (pte_t){ 0 });

		dirty_seen += pte_dirty(old);
		if (pte_read(leaf).v)
			abort(); /* a bit landed in an absent entry */
		pte_store(leaf, pte_make(FRAME, UPPER));
	}
	atomic_store(&flipping, false);
	return NULL;
}

static void no_bit_lands_in_an_entry_that_was_taken_away(void **state)
{
	struct mmu_control c = MMU_CONTROL_USUAL;
	struct walk_result r;
	pthread_t t;

	(void)state;
	build(LEVEL_PTE, UPPER);
	atomic_store(&flipping, true);
	assert_int_equal(pthread_create(&t, NULL, flip_the_leaf, entry_of(LEVEL_PTE)), 0);
	while (atomic_load(&flipping))
		if (walk(&c, VA, PF_USER | PF_WRITE, &r) == WALK_OK)
			assert_true(pte_dirty(r.leaf));
	pthread_join(t, NULL);
}

/* ---- entries and codes ---- */

static void a_swap_entry_keeps_its_slot_and_is_never_present(void **state)
{
	static const u64 slots[] = { 0, 1, 2, 77, (1ULL << SWP_OFFSET_BITS) - 1 };

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(slots); i++)
		for (unsigned type = 1; type < SWP_TYPE_MARKER; type += 10) {
			pte_t p = swp_to_pte(swp_entry(type, slots[i]));

			assert_true(pte_is_swap(p));
			assert_false(pte_present(p));
			assert_int_equal(swp_offset(pte_to_swp(p)), slots[i]);
			assert_int_equal(swp_type(pte_to_swp(p)), type);
		}
}

static void error_codes_have_words(void **state)
{
	char buf[64];

	(void)state;
	assert_string_equal(pf_error_text(PF_USER | PF_WRITE, buf, sizeof(buf)),
			    "user write: page not present");
	assert_string_equal(pf_error_text(PF_PROT | PF_INSTR, buf, sizeof(buf)),
			    "kernel fetch: protection");
	assert_string_equal(pf_error_text(PF_USER | PF_PROT | PF_RSVD, buf, sizeof(buf)),
			    "user read: reserved bit set");
	assert_string_equal(pf_error_text(PF_USER | PF_PROT | PF_PK, buf, sizeof(buf)),
			    "user read: protection key");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_level_takes_its_nine_bits),
		cmocka_unit_test(a_walk_ends_at_a_page_of_any_size),
		cmocka_unit_test(an_address_must_be_a_sign_extension),
		cmocka_unit_test(an_absent_entry_of_any_level_says_not_present),
		cmocka_unit_test(rights_follow_the_manual_in_every_combination),
		cmocka_unit_test(every_reserved_bit_is_reported),
		cmocka_unit_test(page_size_is_reserved_where_no_page_of_that_size_is),
		cmocka_unit_test(a_read_marks_all_levels_accessed_and_none_dirty),
		cmocka_unit_test(a_write_marks_only_the_leaf_dirty),
		cmocka_unit_test(a_forbidden_access_leaves_the_leaf_untouched),
		cmocka_unit_test(no_bit_lands_in_an_entry_that_was_taken_away),
		cmocka_unit_test(a_swap_entry_keeps_its_slot_and_is_never_present),
		cmocka_unit_test(error_codes_have_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
