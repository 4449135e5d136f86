/* SPDX-License-Identifier: MIT */
/* The second stage and the hypervisor that keeps it, without a guest: walks, what they exit with,
 * slots, the notifier, the log of what is written. */
#include "engine/base/errno.h"
#include "machine/soft/second.h"
#include "systems/nested/vm.h"
#include "tests/unit/unit.h"

enum { PAGES = 3 * 512 + 100, VCPUS = 2, WORDS = PAGES / 64 + 1 };

static char *memory;
static struct host_memory host;
static struct vm vm;
static unsigned flushes;
static void (*at_between)(u64 gfn);

static void flush(struct vm *v)
{
	(void)v;
	flushes++;
}

static bool begin_walk(struct vm *v, unsigned vcpu)
{
	(void)v;
	return vcpu < VCPUS;
}

static void end_walk(struct vm *v, unsigned vcpu)
{
	(void)v;
	(void)vcpu;
}

static void between(struct vm *v, u64 gfn)
{
	(void)v;
	if (at_between)
		at_between(gfn);
}

static const struct vm_ops ops = {
	.flush = flush, .begin_walk = begin_walk, .end_walk = end_walk, .between = between
};

static void create(enum stage2_format format, bool huge)
{
	memory = calloc(PAGES, PAGE_SIZE);
	assert_non_null(memory);
	assert_int_equal(host_init(&host, memory, PAGES), 0);
	host.huge = huge;
	assert_int_equal(vm_create(&vm, format, &host, PAGES, VCPUS, &ops, NULL), 0);
	assert_int_equal(vm_set_slot(&vm, 0, 0, PAGES, 0, 0), 0);
	flushes = 0;
	at_between = NULL;
}

static void destroy(void)
{
	vm_destroy(&vm);
	host_fini(&host);
	free(memory);
}

static struct stage2_walk walk(u64 gfn, u32 access)
{
	struct stage2_walk w;

	stage2_walk(vm.stage2, gfn << PAGE_SHIFT, access,
		    vm.log_mode == VM_LOG_PML ? &vm.vcpus[0].log : NULL, &w);
	return w;
}

/* What the hypervisor makes of an exit that the walk would have. */
static int exit_with(u64 gfn, u32 access)
{
	struct stage2_walk w = walk(gfn, access);
	const struct guest_exit x = {
		.outcome = w.outcome, .info = w.info, .gpa = gfn << PAGE_SHIFT, .access = access
	};

	assert_int_not_equal(w.outcome, STAGE2_OK);
	return vm_handle_exit(&vm, 0, &x);
}

/* As a vCPU: until the access is made.  Exits. */
static unsigned touch(u64 gfn, u32 access)
{
	unsigned n = 0;

	for (; walk(gfn, access).outcome != STAGE2_OK; n++)
		assert_true(exit_with(gfn, access) >= 0 && n < 8);
	return n;
}

/* ---- walks ---- */

static void a_walk_reads_an_entry_of_each_level_and_finds_the_frame(void **state)
{
	struct stage2_walk w;

	(void)state;
	for (int format = STAGE2_EPT; format <= STAGE2_NPT; format++) {
		create(format, false);
		assert_int_equal(walk(7, 0).reads, 1); /* the root has nothing */
		assert_int_equal(touch(7, 0), 1);
		w = walk(7, 0);
		assert_int_equal(w.reads, 4);
		assert_int_equal(w.hfn, host_hfn(&host, 7));
		assert_ptr_equal(host_bytes(&host, w.hfn), memory + 7 * PAGE_SIZE);
		/* Read, it is not dirty: a write has to come by. */
		assert_false(w.write);
		assert_true(w.fetch);
		assert_true(walk(7, PF_WRITE).write);
		assert_true(walk(7, 0).write);
		assert_int_equal(walk(8, 0).reads, 4);
		destroy();
	}
}

static void a_huge_page_saves_a_level(void **state)
{
	(void)state;
	for (int format = STAGE2_EPT; format <= STAGE2_NPT; format++) {
		create(format, true);
		assert_int_equal(touch(700, PF_WRITE), 1);
		assert_int_equal(walk(700, 0).reads, 3);
		assert_int_equal(walk(1023, 0).hfn, host_hfn(&host, 1023));
		assert_int_equal(stage2_look(vm.stage2, 512).level, LEVEL_PMD);
		/* The last block is not whole in the slot. */
		assert_int_equal(touch(PAGES - 1, 0), 1);
		assert_int_equal(stage2_look(vm.stage2, PAGES - 1).level, LEVEL_PTE);
		destroy();
	}
}

static void host_frame_numbers_are_not_the_guest_s(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	for (u64 p = 0; p < PAGES; p++) {
		assert_true(host_hfn(&host, p) >= HOST_FIRST_HFN);
		assert_int_equal(host_page_of(&host, host_hfn(&host, p)), p);
	}
	assert_true(host_page_of(&host, 0) >= PAGES);
	assert_true(host_page_of(&host, host_end_hfn(&host)) >= PAGES);
	destroy();
}

#define HAS_ALL (EPT_QUAL_READABLE | EPT_QUAL_WRITABLE | EPT_QUAL_FETCHABLE)

static void ept_says_what_was_tried_and_what_was_allowed(void **state)
{
	const u64 gla = EPT_QUAL_GLA_VALID, final = gla | EPT_QUAL_FINAL;

	(void)state;
	create(STAGE2_EPT, false);
	assert_int_equal(walk(3, 0).info, final | EPT_QUAL_READ);
	assert_int_equal(walk(3, PF_WRITE).info, final | EPT_QUAL_WRITE);
	assert_int_equal(walk(3, PF_INSTR).info, final | EPT_QUAL_FETCH);
	/* To a page table it is a write that is a read, too, and not the page itself. */
	assert_int_equal(walk(3, PF_WRITE | SECOND_TABLE).info,
			 gla | EPT_QUAL_READ | EPT_QUAL_WRITE);
	assert_int_equal(vm_set_slot(&vm, 0, 0, PAGES, 0, VM_SLOT_READ_ONLY), 0);
	touch(3, 0);
	assert_int_equal(walk(3, PF_WRITE).outcome, STAGE2_VIOLATION);
	assert_int_equal(walk(3, PF_WRITE).info,
			 final | EPT_QUAL_WRITE | EPT_QUAL_READABLE | EPT_QUAL_FETCHABLE);
	assert_int_equal(walk(3, PF_WRITE | SECOND_TABLE).info,
			 gla | EPT_QUAL_READ | EPT_QUAL_WRITE | EPT_QUAL_READABLE |
				 EPT_QUAL_FETCHABLE);
	destroy();
}

static void npt_says_it_as_vector_14_does(void **state)
{
	(void)state;
	create(STAGE2_NPT, false);
	assert_int_equal(walk(3, 0).info, NPF_FINAL | PF_USER);
	assert_int_equal(walk(3, PF_WRITE).info, NPF_FINAL | PF_USER | PF_WRITE);
	assert_int_equal(walk(3, PF_INSTR).info, NPF_FINAL | PF_USER | PF_INSTR);
	assert_int_equal(walk(3, PF_WRITE | SECOND_TABLE).info, NPF_TABLE | PF_USER | PF_WRITE);
	assert_int_equal(vm_set_slot(&vm, 0, 0, PAGES, 0, VM_SLOT_READ_ONLY), 0);
	touch(3, 0);
	assert_int_equal(walk(3, PF_WRITE).info, NPF_FINAL | PF_USER | PF_WRITE | PF_PROT);
	destroy();
}

/* The leaf of gfn, by way of the tables as they lie in memory. */
static pte_t *leaf(u64 gfn, enum mmu_level last)
{
	u64 table = vm.stage2->root;
	pte_t *e;

	for (enum mmu_level l = LEVEL_P4D;; l--) {
		e = &vm.stage2->tables[table - vm.stage2->first_table]
				      [level_index(l, gfn << PAGE_SHIFT)];
		if (l == last)
			return e;
		table = pte_pfn(*e);
	}
}

static void entries_that_cannot_be_are_misconfigurations(void **state)
{
	/* Bits to reset, bits to set, of which entry. */
	static const struct {
		u64 reset, set;
		enum mmu_level level;
		enum stage2_outcome outcome;
	} cases[] = {
		{ 1, 0, LEVEL_PTE, STAGE2_MISCONFIG },		 /* write without read */
		{ 1, 0, LEVEL_PMD, STAGE2_MISCONFIG },		 /* of a table, too */
		{ 7 << 3, 2 << 3, LEVEL_PTE, STAGE2_MISCONFIG }, /* memory types that are none */
		{ 7 << 3, 3 << 3, LEVEL_PTE, STAGE2_MISCONFIG },
		{ 7 << 3, 7 << 3, LEVEL_PTE, STAGE2_MISCONFIG },
		{ 7 << 3, 0, LEVEL_PTE, STAGE2_OK }, /* uncacheable */
		{ 0, 1ULL << 46, LEVEL_PTE, STAGE2_MISCONFIG },
		{ 0, 1ULL << 3, LEVEL_PMD, STAGE2_MISCONFIG },
		{ 0, 1ULL << 7, LEVEL_P4D, STAGE2_MISCONFIG },
		{ 3, 0, LEVEL_PTE, STAGE2_VIOLATION }, /* only to be executed */
		{ 2, 0, LEVEL_PTE, STAGE2_VIOLATION },
		{ 7, 0, LEVEL_PMD, STAGE2_VIOLATION },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		pte_t *e;

		create(STAGE2_EPT, false);
		touch(5, PF_WRITE);
		e = leaf(5, cases[i].level);
		e->v = (e->v & ~cases[i].reset) | cases[i].set;
		if (walk(5, PF_WRITE).outcome != cases[i].outcome)
			fail_msg("case %u gives %d", i, walk(5, PF_WRITE).outcome);
		destroy();
	}
	create(STAGE2_NPT, false);
	touch(5, PF_WRITE);
	leaf(5, LEVEL_PTE)->v |= 1ULL << 51;
	assert_int_equal(walk(5, 0).outcome, STAGE2_MISCONFIG);
	assert_int_equal(walk(5, 0).info, NPF_FINAL | PF_USER | PF_PROT | PF_RSVD);
	destroy();
}

static void what_is_no_memory_is_known_the_second_time(void **state)
{
	(void)state;
	for (int format = STAGE2_EPT; format <= STAGE2_NPT; format++) {
		create(format, false);
		assert_int_equal(exit_with(PAGES + 5, 0), VM_EMULATE);
		assert_int_equal(walk(PAGES + 5, 0).outcome, STAGE2_MISCONFIG);
		assert_int_equal(exit_with(PAGES + 5, PF_WRITE), VM_EMULATE);
		assert_int_equal(vm.vcpus[0].exits[STAGE2_VIOLATION], 1);
		assert_int_equal(vm.vcpus[0].exits[STAGE2_MISCONFIG], 1);
		/* Then memory comes there. */
		assert_int_equal(vm_set_slot(&vm, 1, PAGES, 20, 0, 0), 0);
		assert_int_equal(touch(PAGES + 5, 0), 1);
		assert_int_equal(walk(PAGES + 5, 0).hfn, host_hfn(&host, 5));
		destroy();
	}
}

/* ---- slots ---- */

static void slots_are_checked(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES - 1, 2, 0, 0), -EEXIST);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, 1, PAGES, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, PAGES + 1, 0, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, ~0ULL, 2, 0, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, ~0ULL, 0, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, VM_SLOTS, PAGES, 1, 0, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, 1, 0, 8), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, 0, 0, 0, 0), -EINVAL); /* there is none */
	assert_int_equal(vm_set_slot(&vm, 0, 1, PAGES - 1, 0, 0), -EINVAL);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, 1, 9, 0), 0);
	touch(PAGES, PF_WRITE);
	assert_int_equal(walk(PAGES, 0).hfn, host_hfn(&host, 9));
	flushes = 0;
	assert_int_equal(vm_set_slot(&vm, 1, 0, 0, 0, 0), 0);
	assert_int_equal(flushes, 1);
	assert_int_equal(exit_with(PAGES, 0), VM_EMULATE);
	destroy();
}

static void read_only_memory_is_read_and_not_written(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	touch(4, PF_WRITE);
	assert_int_equal(vm_set_slot(&vm, 0, 0, PAGES, 0, VM_SLOT_READ_ONLY), 0);
	assert_int_equal(touch(4, 0), 1);
	assert_int_equal(exit_with(4, PF_WRITE), VM_EMULATE);
	assert_int_equal(vm_set_slot(&vm, 0, 0, PAGES, 0, 0), 0);
	assert_int_equal(touch(4, PF_WRITE), 1);
	destroy();
}

static void the_second_of_two_vcpus_finds_it_done(void **state)
{
	const struct guest_exit x = { .outcome = STAGE2_VIOLATION, .gpa = 4 * PAGE_SIZE };

	(void)state;
	create(STAGE2_EPT, false);
	assert_int_equal(vm_handle_exit(&vm, 0, &x), VM_FIXED);
	assert_int_equal(vm_handle_exit(&vm, 1, &x), VM_SPURIOUS);
	destroy();
}

static void no_table_left_is_said(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	vm.stage2->nr_given = vm.stage2->nr_tables - 2; /* it needs three */
	assert_int_equal(exit_with(4, 0), -ENOMEM);
	destroy();
}

/* ---- the host takes pages away ---- */

static void take_it_away(u64 gfn)
{
	at_between = NULL;
	assert_int_equal(host_page_out(&host, gfn), 0);
}

static void a_page_that_goes_while_it_is_mapped_is_asked_for_again(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	memset(memory + 6 * PAGE_SIZE, 0x77, PAGE_SIZE);
	at_between = take_it_away;
	assert_int_equal(exit_with(6, PF_WRITE), VM_RETRY);
	assert_false(stage2_look(vm.stage2, 6).present);
	assert_int_equal(exit_with(6, PF_WRITE), VM_FIXED);
	assert_int_equal(memory[6 * PAGE_SIZE], 0x77);
	destroy();
}

static void while_the_host_takes_pages_those_are_not_mapped(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	touch(20, 0);
	flushes = 0;
	vm_invalidate(&vm, 10, 11, true);
	assert_int_equal(flushes, 1);
	assert_int_equal(exit_with(20, 0), VM_RETRY);
	assert_int_equal(exit_with(10, 0), VM_RETRY);
	assert_int_equal(exit_with(21, 0), VM_FIXED);
	vm_invalidate(&vm, 30, 1, true);
	assert_int_equal(exit_with(25, 0), VM_RETRY); /* between the two: to be safe */
	vm_invalidate(&vm, 30, 1, false);
	vm_invalidate(&vm, 10, 11, false);
	assert_int_equal(exit_with(20, 0), VM_FIXED);
	destroy();
}

static void a_page_is_unmapped_from_all_slots_that_show_it(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	assert_int_equal(vm_set_slot(&vm, 1, PAGES, 4, 0, 0), 0);
	touch(2, PF_WRITE);
	touch(PAGES + 2, PF_WRITE);
	assert_int_equal(host_page_out(&host, 2), 0);
	assert_false(stage2_look(vm.stage2, 2).present);
	assert_false(stage2_look(vm.stage2, PAGES + 2).present);
	assert_int_equal(host_page_out(&host, 2), -ENOENT);
	assert_int_equal(host_discard(&host, PAGES, 1), -EINVAL);
	destroy();
}

static u64 told_first, told_n;

static void note(void *ctx, u64 first, u64 n, bool begins)
{
	(void)ctx, (void)begins;
	told_first = first;
	told_n = n;
}

/* Or a fault beside it could map the block meanwhile, with the page that goes. */
static void while_a_page_goes_nobody_maps_its_block(void **state)
{
	(void)state;
	for (unsigned huge = 0; huge < 2; huge++) {
		create(STAGE2_EPT, huge);
		touch(700, PF_WRITE);
		host.invalidate = note;
		assert_int_equal(host_page_out(&host, 700), 0);
		assert_int_equal(told_first, huge ? 512 : 700);
		assert_int_equal(told_n, huge ? 512 : 1);
		assert_int_equal(host_discard(&host, 500, 20), 0);
		assert_int_equal(told_first, huge ? 0 : 500);
		assert_int_equal(told_n, huge ? 1024 : 20);
		destroy();
	}
}

static void one_page_of_a_huge_one_goes_with_the_rest(void **state)
{
	(void)state;
	create(STAGE2_EPT, true);
	touch(600, PF_WRITE);
	memory[600 * PAGE_SIZE] = 5;
	assert_int_equal(host_page_out(&host, 700), 0);
	assert_false(stage2_look(vm.stage2, 600).present);
	touch(600, 0);
	/* The host has no huge page there any more. */
	assert_int_equal(stage2_look(vm.stage2, 600).level, LEVEL_PTE);
	assert_int_equal(memory[600 * PAGE_SIZE], 5);
	assert_int_equal(host_discard(&host, 600, 1), 0);
	touch(600, 0);
	assert_int_equal(memory[600 * PAGE_SIZE], 0);
	destroy();
}

static void the_host_can_ask_what_is_used(void **state)
{
	(void)state;
	create(STAGE2_EPT, false);
	touch(1, 0);
	touch(2, PF_WRITE);
	assert_int_equal(stage2_clear_young(vm.stage2, 0, PAGES), 2);
	walk(2, 0);
	assert_false(stage2_look(vm.stage2, 1).young);
	assert_true(stage2_look(vm.stage2, 2).young);
	assert_true(stage2_look(vm.stage2, 2).dirty);
	destroy();
}

/* ---- asynchronous page faults: the protocol ---- */

static struct async_guest guest;
static struct async_host hv;

static void create_async(u32 msr)
{
	create(STAGE2_EPT, false);
	memset(&guest, 0, sizeof(guest));
	hv = (struct async_host){ .msr = msr, .area = &guest.area };
	for (u64 p = 0; p < 32; p++) {
		host_fault_in(&host, p, false);
		host_page_out(&host, p);
	}
}

static void a_guest_is_told_only_what_it_wants_and_when_it_can(void **state)
{
	u32 token, other;

	(void)state;
	create_async(0);
	assert_false(async_begin(&hv, 1, true, &token));
	hv.msr = ASYNC_ENABLED;
	assert_false(async_begin(&hv, 1, false, &token)); /* in its kernel */
	assert_true(async_begin(&hv, 1, true, &token));
	assert_false(async_begin(&hv, 2, true, &other)); /* the last is not read yet */
	assert_int_equal(async_guest_fault(&guest, token), 1);
	assert_false(async_begin(&hv, 1, true, &other)); /* the same page */
	hv.msr |= ASYNC_KERNEL;
	assert_true(async_begin(&hv, 2, false, &other));
	assert_int_not_equal(token, other);
	assert_int_equal(async_guest_fault(&guest, other), 1);
	/* Without flags it is a page fault as any other; a token is given once. */
	assert_int_equal(async_guest_fault(&guest, other), -ENOENT);
	guest.area.flags = ASYNC_NOT_PRESENT;
	assert_int_equal(async_guest_fault(&guest, other), -EEXIST);
	destroy();
}

static void pages_that_came_are_told_one_by_one(void **state)
{
	u32 tokens[2], token;

	(void)state;
	create_async(ASYNC_ENABLED);
	for (u64 p = 0; p < 2; p++) {
		assert_true(async_begin(&hv, p, true, &tokens[p]));
		assert_int_equal(async_guest_fault(&guest, tokens[p]), 1);
	}
	assert_false(async_deliver(&hv)); /* none is there yet */
	assert_int_equal(async_acknowledge(&hv), -EINVAL);
	assert_int_equal(async_complete(&hv, &host), 2);
	assert_true(async_deliver(&hv));
	assert_false(async_deliver(&hv));		   /* not read */
	assert_int_equal(async_acknowledge(&hv), -EINVAL); /* nor can it have been */
	assert_int_equal(async_guest_ready(&guest, &token), 1);
	assert_int_equal(token, tokens[0]);
	assert_false(async_deliver(&hv)); /* read, and not acknowledged */
	assert_int_equal(async_acknowledge(&hv), 0);
	assert_true(async_deliver(&hv));
	assert_int_equal(async_guest_ready(&guest, &token), 1);
	assert_int_equal(token, tokens[1]);
	assert_int_equal(async_guest_ready(&guest, &token), -ENOENT);
	assert_int_equal(guest.n, 0);
	destroy();
}

static void who_is_woken_before_he_sleeps_does_not(void **state)
{
	u32 token, got;

	(void)state;
	create_async(ASYNC_ENABLED);
	assert_true(async_begin(&hv, 3, true, &token));
	async_complete(&hv, &host);
	assert_true(async_deliver(&hv));
	assert_int_equal(async_guest_ready(&guest, &got), 0);
	assert_int_equal(async_guest_fault(&guest, token), 0);
	assert_int_equal(guest.n, 0);
	destroy();
}

static void only_so_many_are_on_their_way_and_all_can_be_woken(void **state)
{
	u32 token;

	(void)state;
	create_async(ASYNC_ENABLED);
	for (u64 p = 0; p < ASYNC_PAGES; p++) {
		assert_true(async_begin(&hv, p, true, &token));
		assert_int_equal(async_guest_fault(&guest, token), 1);
	}
	assert_false(async_begin(&hv, ASYNC_PAGES, true, &token));
	async_wake_all(&hv);
	assert_int_equal(async_guest_ready(&guest, &token), 1);
	assert_int_equal(token, ASYNC_WAKE_ALL);
	assert_int_equal(guest.n, 0);
	assert_int_equal(async_acknowledge(&hv), 0);
	/* Numbers go round, and leave out those that mean something. */
	hv.sequence = ASYNC_WAKE_ALL - 1;
	assert_true(async_begin(&hv, 1, true, &token));
	assert_int_equal(token, 1);
	destroy();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_walk_reads_an_entry_of_each_level_and_finds_the_frame),
		cmocka_unit_test(a_huge_page_saves_a_level),
		cmocka_unit_test(host_frame_numbers_are_not_the_guest_s),
		cmocka_unit_test(ept_says_what_was_tried_and_what_was_allowed),
		cmocka_unit_test(npt_says_it_as_vector_14_does),
		cmocka_unit_test(entries_that_cannot_be_are_misconfigurations),
		cmocka_unit_test(what_is_no_memory_is_known_the_second_time),
		cmocka_unit_test(slots_are_checked),
		cmocka_unit_test(read_only_memory_is_read_and_not_written),
		cmocka_unit_test(the_second_of_two_vcpus_finds_it_done),
		cmocka_unit_test(no_table_left_is_said),
		cmocka_unit_test(a_page_that_goes_while_it_is_mapped_is_asked_for_again),
		cmocka_unit_test(while_the_host_takes_pages_those_are_not_mapped),
		cmocka_unit_test(a_page_is_unmapped_from_all_slots_that_show_it),
		cmocka_unit_test(while_a_page_goes_nobody_maps_its_block),
		cmocka_unit_test(one_page_of_a_huge_one_goes_with_the_rest),
		cmocka_unit_test(the_host_can_ask_what_is_used),
		cmocka_unit_test(a_guest_is_told_only_what_it_wants_and_when_it_can),
		cmocka_unit_test(pages_that_came_are_told_one_by_one),
		cmocka_unit_test(who_is_woken_before_he_sleeps_does_not),
		cmocka_unit_test(only_so_many_are_on_their_way_and_all_can_be_woken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
