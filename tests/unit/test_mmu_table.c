/* SPDX-License-Identifier: MIT */
/*
 * The walk against the whole table of what an x86-64 CPU does: every combination of the bits of a
 * leaf and of the entry above it, of control bits, protection key rights, and kinds of access, for
 * pages of all sizes.
 *
 *   test_mmu_table [EVERY]      every EVERY-th combination, for builds that are slow (1: all)
 *
 * What is expected is computed from the number of the case by the rules of the manuals (Intel SDM
 * vol. 3A, 4.5 to 4.8), which are written down here once more and share no code with the walk.
 */
#include <stdio.h>

#include "engine/mmu/walk.h"
#include "tests/unit/unit.h"

/* What a case is made of: bits of its number, from the lowest. */
enum dimension {
	LEAF_P,
	LEAF_W,
	LEAF_U,
	LEAF_NX,
	LEAF_A,
	LEAF_D,
	LEAF_RSVD,
	UP_P,
	UP_W,
	UP_U,
	UP_NX,
	UP_A,
	UP_RSVD,
	CR0_WP,
	EFER_NXE,
	CR4_SMEP,
	CR4_SMAP,
	CR4_PKE,
	RFLAGS_AC,
	KEY_AD,
	KEY_WD,
	NR_BITS
};

/* Kinds of access; the table goes over these, too. */
enum kind {
	USER_READ,
	USER_WRITE,
	USER_FETCH,
	KERNEL_READ,
	KERNEL_WRITE,
	KERNEL_FETCH,
	IMPLICIT_READ,
	IMPLICIT_WRITE,
	NR_KINDS
};

static const u32 access_of[NR_KINDS] = {
	[USER_READ] = PF_USER,
	[USER_WRITE] = PF_USER | PF_WRITE,
	[USER_FETCH] = PF_USER | PF_INSTR,
	[KERNEL_READ] = 0,
	[KERNEL_WRITE] = PF_WRITE,
	[KERNEL_FETCH] = PF_INSTR,
	[IMPLICIT_READ] = ACCESS_IMPLICIT,
	[IMPLICIT_WRITE] = ACCESS_IMPLICIT | PF_WRITE,
};

static bool is(u32 number, enum dimension bit)
{
	return number >> bit & 1;
}

static bool writes(enum kind k)
{
	return k == USER_WRITE || k == KERNEL_WRITE || k == IMPLICIT_WRITE;
}
static bool fetches(enum kind k)
{
	return k == USER_FETCH || k == KERNEL_FETCH;
}
static bool by_user(enum kind k)
{
	return k <= USER_FETCH;
}

/* ---- the table ---- */

struct expected {
	bool fault;
	u32 code;
	bool up_accessed, leaf_accessed, leaf_dirty; /* set by this access */
};

/* Bits of the error code that say what the access was, whatever went wrong. */
static u32 code_of_access(u32 n, enum kind k)
{
	u32 code = 0;

	if (writes(k))
		code |= 1u << 1;
	if (by_user(k))
		code |= 1u << 2;
	if (fetches(k) && (is(n, EFER_NXE) || is(n, CR4_SMEP)))
		code |= 1u << 4;
	return code;
}

static bool up_reserved(u32 n)
{
	return is(n, UP_RSVD) || (is(n, UP_NX) && !is(n, EFER_NXE));
}
static bool leaf_reserved(u32 n)
{
	return is(n, LEAF_RSVD) || (is(n, LEAF_NX) && !is(n, EFER_NXE));
}

/* A protection key forbids: 4.6.2. */
static bool forbidden_by_key(u32 n, enum kind k)
{
	bool user_page = is(n, LEAF_U) && is(n, UP_U);

	if (!is(n, CR4_PKE) || !user_page || fetches(k))
		return false;
	if (is(n, KEY_AD))
		return true;
	return is(n, KEY_WD) && writes(k) && (by_user(k) || is(n, CR0_WP));
}

/* The access rights forbid: 4.6.1. */
static bool forbidden_by_rights(u32 n, enum kind k)
{
	bool user_page = is(n, LEAF_U) && is(n, UP_U);
	bool writable = is(n, LEAF_W) && is(n, UP_W);
	bool executable = !is(n, LEAF_NX) && !is(n, UP_NX);

	switch (k) {
	case USER_READ:
		return !user_page;
	case USER_WRITE:
		return !user_page || !writable;
	case USER_FETCH:
		return !user_page || !executable;
	case KERNEL_FETCH:
		return !executable || (user_page && is(n, CR4_SMEP));
	case KERNEL_READ:
		return user_page && is(n, CR4_SMAP) && !is(n, RFLAGS_AC);
	case KERNEL_WRITE:
		return (user_page && is(n, CR4_SMAP) && !is(n, RFLAGS_AC)) ||
		       (!writable && is(n, CR0_WP));
	case IMPLICIT_READ:
		return user_page && is(n, CR4_SMAP);
	case IMPLICIT_WRITE:
		return (user_page && is(n, CR4_SMAP)) || (!writable && is(n, CR0_WP));
	default:
		fail();
		return true;
	}
}

static struct expected expect(u32 n, enum kind k)
{
	struct expected e = { .fault = true, .code = code_of_access(n, k) };

	if (!is(n, UP_P))
		return e;
	if (up_reserved(n)) {
		e.code |= 1u << 0 | 1u << 3;
		return e;
	}
	e.up_accessed = true;
	if (!is(n, LEAF_P))
		return e;
	if (leaf_reserved(n)) {
		e.code |= 1u << 0 | 1u << 3;
		return e;
	}
	if (forbidden_by_key(n, k))
		e.code |= 1u << 5;
	if (forbidden_by_key(n, k) || forbidden_by_rights(n, k)) {
		e.code |= 1u << 0;
		return e;
	}
	e.fault = false;
	e.code = 0;
	e.leaf_accessed = true;
	e.leaf_dirty = writes(k);
	return e;
}

/* ---- memory for the walk ---- */

enum { ROOT5, ROOT, PUD, PMD, PTE, TABLES };
static pte_t memory[TABLES][PTRS_PER_TABLE];

#define VA	  0x00007123456789abULL
#define OPEN	  (PTE_PRESENT | PTE_WRITE | PTE_USER)
#define KEY	  11u
#define PHYS_BITS 40
#define RESERVED  (1ULL << 45) /* above PHYS_BITS: reserved in every entry */

static pte_t *table_at(void *ctx, u64 phys)
{
	(void)ctx;
	return memory[phys >> PAGE_SHIFT];
}

static pte_t *entry_of(enum mmu_level level)
{
	static const int table[] = {
		[LEVEL_PTE] = PTE,  [LEVEL_PMD] = PMD,	 [LEVEL_PUD] = PUD,
		[LEVEL_P4D] = ROOT, [LEVEL_PGD] = ROOT5,
	};

	return &memory[table[level]][level_index(level, VA)];
}

static u64 leaf_table; /* physical address of the table that the leaf is in */

static void build(enum mmu_level leaf)
{
	static const int below[] = {
		[LEVEL_PMD] = PTE, [LEVEL_PUD] = PMD, [LEVEL_P4D] = PUD, [LEVEL_PGD] = ROOT
	};

	memset(memory, 0, sizeof(memory));
	for (enum mmu_level l = LEVEL_PGD; l > leaf; l--)
		*entry_of(l) = pte_make(below[l], OPEN | PTE_ACCESSED);
	leaf_table = entry_of(leaf + 1)->v & PTE_PFN_MASK;
}

static u64 bits(u32 n, enum dimension p, u64 present_etc)
{
	return (is(n, p) ? PTE_PRESENT : 0) | present_etc;
}

static u64 leaf_of(u32 n, enum mmu_level level)
{
	u64 frame = 0x12345000ULL >> level_shift(level) << level_shift(level);

	return bits(n, LEAF_P,
		    frame | (is(n, LEAF_W) ? PTE_WRITE : 0) | (is(n, LEAF_U) ? PTE_USER : 0) |
			    (is(n, LEAF_NX) ? PTE_NX : 0) | (is(n, LEAF_A) ? PTE_ACCESSED : 0) |
			    (is(n, LEAF_D) ? PTE_DIRTY : 0) | (is(n, LEAF_RSVD) ? RESERVED : 0) |
			    (level > LEVEL_PTE ? PTE_HUGE : 0) | (u64)KEY << PTE_KEY_SHIFT);
}

static u64 up_of(u32 n, u64 table)
{
	return bits(n, UP_P,
		    table | (is(n, UP_W) ? PTE_WRITE : 0) | (is(n, UP_U) ? PTE_USER : 0) |
			    (is(n, UP_NX) ? PTE_NX : 0) | (is(n, UP_A) ? PTE_ACCESSED : 0) |
			    (is(n, UP_RSVD) ? RESERVED : 0));
}

static struct mmu_control control_of(u32 n, bool la57)
{
	/* All other keys are the other way round: using the wrong one shows. */
	u32 others = (is(n, KEY_AD) ? 0 : 0x55555555u) | (is(n, KEY_WD) ? 0 : 0xaaaaaaaau);
	u32 own = (is(n, KEY_AD) ? 1u : 0) | (is(n, KEY_WD) ? 2u : 0);

	return (struct mmu_control){
		.wp = is(n, CR0_WP),
		.nxe = is(n, EFER_NXE),
		.smep = is(n, CR4_SMEP),
		.smap = is(n, CR4_SMAP),
		.pke = is(n, CR4_PKE),
		.ac = is(n, RFLAGS_AC),
		.la57 = la57,
		.gb_pages = true,
		.phys_bits = PHYS_BITS,
		.pkru = (others & ~(3u << 2 * KEY)) | own << 2 * KEY,
	};
}

/* ---- the comparison ---- */

static void differs(u32 n, enum kind k, enum mmu_level level, const char *what, u64 is_, u64 want)
{
	static const char *const names[NR_BITS] = {
		"leaf.P", "leaf.W", "leaf.U", "leaf.NX", "leaf.A", "leaf.D",  "leaf.RSVD",
		"up.P",	  "up.W",   "up.U",   "up.NX",	 "up.A",   "up.RSVD", "WP",
		"NXE",	  "SMEP",   "SMAP",   "PKE",	 "AC",	   "key.AD",  "key.WD",
	};

	print_error("access %d, level %d, with", k, level);
	for (unsigned i = 0; i < NR_BITS; i++)
		if (is(n, i))
			print_error(" %s", names[i]);
	print_error(": %s is %lx, not %lx\n", what, (unsigned long)is_, (unsigned long)want);
	fail();
}

static void compare(u32 n, enum kind k, enum mmu_level level, bool la57)
{
	struct mmu_control c = control_of(n, la57);
	struct expected e = expect(n, k);
	u64 leaf = leaf_of(n, level), up = up_of(n, leaf_table);
	struct walk_result r;
	enum walk_status status;

	*entry_of(level) = (pte_t){ leaf };
	*entry_of(level + 1) = (pte_t){ up };
	status = mmu_walk(&c, (la57 ? ROOT5 : ROOT) * PAGE_SIZE, VA, access_of[k], table_at, NULL,
			  &r);
	if (status != (e.fault ? WALK_FAULT : WALK_OK))
		differs(n, k, level, "the outcome", status, e.fault);
	if (e.fault && r.error_code != e.code)
		differs(n, k, level, "the error code", r.error_code, e.code);
	leaf |= (e.leaf_accessed ? PTE_ACCESSED : 0) | (e.leaf_dirty ? PTE_DIRTY : 0);
	up |= e.up_accessed ? PTE_ACCESSED : 0;
	if (entry_of(level)->v != leaf)
		differs(n, k, level, "the leaf", entry_of(level)->v, leaf);
	if (entry_of(level + 1)->v != up)
		differs(n, k, level, "the entry above", entry_of(level + 1)->v, up);
}

static u32 every = 1;

static void the_walk_does_what_the_table_says(void **state)
{
	u64 compared = 0;

	(void)state;
	for (int la57 = 0; la57 < 2; la57++) {
		for (enum mmu_level level = LEVEL_PTE; level <= LEVEL_PUD; level++) {
			build(level);
			/* Five levels differ in where the walk begins: some of the cases do. */
			for (u32 n = 0; n < 1u << NR_BITS; n += la57 ? 7 * every : every) {
				for (enum kind k = 0; k < NR_KINDS; k++)
					compare(n, k, level, la57);
				compared += NR_KINDS;
			}
		}
	}
	print_message("%lu combinations compared\n", (unsigned long)compared);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_walk_does_what_the_table_says),
	};

	if (argc > 1)
		every = (u32)strtoul(argv[1], NULL, 10);
	if (!every) {
		fprintf(stderr, "usage: test_mmu_table [EVERY]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
