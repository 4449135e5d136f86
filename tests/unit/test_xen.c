/* SPDX-License-Identifier: MIT */
/* Xen's typed frames, its traps into the guest, and what a fault costs there. */
#include "engine/base/errno.h"
#include "systems/lab.h"
#include "systems/xen/guest.h"
#include "systems/xen/xen.h"
#include "tests/unit/unit.h"

/* ---- typed frames alone: eight with bytes, one without ---- */

#define NR	 9
#define NR_BYTES 8
#define RO	 PTE_PRESENT
#define RW	 (PTE_PRESENT | PTE_WRITE)
#define ME	 XEN_GUEST
#define OTHER	 (XEN_GUEST + 1)

static struct frames f;
static _Alignas(PAGE_SIZE) pte_t memory[NR_BYTES][PTRS_PER_TABLE];
static unsigned flushes;

static void note_flush(struct frames *frames, u64 stamp)
{
	(void)frames;
	(void)stamp;
	flushes++;
}

static int setup(void **state)
{
	(void)state;
	memset(memory, 0, sizeof(memory));
	flushes = 0;
	if (frames_init(&f, memory, NR_BYTES, NR, note_flush))
		return -1;
	for (u64 i = 0; i < NR_BYTES; i++)
		frames_give(&f, i, ME);
	return frames_give(&f, NR_BYTES, OTHER);
}

static int teardown(void **state)
{
	(void)state;
	frames_fini(&f);
	return 0;
}

/* 4 -> 3 -> 2 -> 1 -> 5, in the frames of these numbers. */
static void make_tree(u64 leaf)
{
	memory[4][0] = pte_make(3, RW);
	memory[3][0] = pte_make(2, RW);
	memory[2][0] = pte_make(1, RW);
	memory[1][0] = pte_make(5, leaf);
}

static void looks(u64 pfn, enum frame_type type, u32 count, u32 type_count)
{
	struct frame frame = frames_look(&f, pfn);

	assert_int_equal(frame.count, count);
	assert_int_equal(frame.type_count, type_count);
	if (type_count)
		assert_int_equal(frame.type, type);
}

/* As many holds of a frame as `n` and no more. */
static void counts_are_right(u64 pfn, u32 n)
{
	u32 held[NR] = { 0 };

	held[pfn] = n;
	assert_int_equal(frames_check(&f, ME, held), NR);
}

static void a_pinned_root_holds_all_below_it(void **state)
{
	(void)state;
	make_tree(RW);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	for (u64 i = 1; i <= 4; i++)
		looks(i, (enum frame_type)i, 2, 1);
	looks(5, FRAME_WRITABLE, 2, 1);
	looks(6, FRAME_NONE, 1, 0);
	counts_are_right(0, 0);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), -EEXIST);
	assert_int_equal(frames_unpin(&f, ME, 4), 0);
	for (u64 i = 1; i <= 5; i++)
		looks(i, FRAME_NONE, 1, 0);
	assert_int_equal(frames_unpin(&f, ME, 4), -ENOENT);
	counts_are_right(0, 0);
}

static void a_read_only_leaf_holds_no_type(void **state)
{
	(void)state;
	make_tree(RO);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	looks(5, FRAME_NONE, 2, 0);
	/* So the guest may see its own tables, even this one. */
	memory[6][0] = pte_make(6, RO);
	memory[6][1] = pte_make(1, RO);
	assert_int_equal(frames_pin(&f, ME, 6, FRAME_L1), 0);
	looks(6, FRAME_L1, 3, 1);
	looks(1, FRAME_L1, 3, 1);
	counts_are_right(0, 0);
}

/* What the last entry refuses, the first ones have not held when all is done. */
static void what_is_refused_leaves_nothing_held(void **state)
{
	static const struct {
		pte_t pte;
		int err;
	} bad[] = {
		{ { NR_BYTES << PAGE_SHIFT | RO }, -EPERM }, /* another's */
		{ { 77ULL << PAGE_SHIFT | RO }, -EPERM },    /* none */
		{ { 1ULL << PAGE_SHIFT | RW }, -EINVAL },    /* the table itself */
		{ { 5ULL << PAGE_SHIFT | RO | PTE_HUGE }, -EINVAL },
		{ { 5ULL << PAGE_SHIFT | RO | PTE_GLOBAL }, -EINVAL },
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
		make_tree(RW);
		memory[1][PTRS_PER_TABLE - 1] = bad[i].pte;
		assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), bad[i].err);
		for (u64 k = 1; k <= 5; k++)
			looks(k, FRAME_NONE, 1, 0);
		counts_are_right(0, 0);
	}
}

static void a_type_changes_at_count_zero_only(void **state)
{
	pte_t old;

	(void)state;
	make_tree(RW);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	assert_int_equal(frames_pin(&f, ME, 5, FRAME_L1), -EINVAL);
	assert_int_equal(frames_hold(&f, ME, 1, FRAME_WRITABLE), -EINVAL);
	assert_int_equal(frames_hold(&f, ME, 2, FRAME_L1), -EINVAL);
	assert_int_equal(flushes, 0);
	/* The mapping loses its right: now the frame may be a table; but what a TLB has must go. */
	assert_int_equal(frames_update(&f, ME, 1, 0, pte_make(5, RO), false, &old), 0);
	assert_true(pte_write(old));
	assert_int_equal(frames_pin(&f, ME, 5, FRAME_L1), 0);
	assert_int_equal(flushes, 1);
	assert_int_equal(frames_update(&f, ME, 1, 0, pte_make(5, RW), false, &old), -EINVAL);
	assert_false(pte_write(memory[1][0]));
	counts_are_right(0, 0);
}

static void an_update_moves_what_is_held(void **state)
{
	pte_t old;

	(void)state;
	make_tree(RW);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	assert_int_equal(frames_update(&f, ME, 1, 0, pte_make(6, RW), false, &old), 0);
	assert_int_equal(pte_pfn(old), 5);
	looks(5, FRAME_NONE, 1, 0);
	looks(6, FRAME_WRITABLE, 2, 1);
	/* A table goes, and with it all that it held. */
	assert_int_equal(frames_update(&f, ME, 2, 0, (pte_t){ 0 }, false, &old), 0);
	looks(1, FRAME_NONE, 1, 0);
	looks(6, FRAME_NONE, 1, 0);
	counts_are_right(0, 0);
	assert_int_equal(frames_update(&f, ME, 1, PTRS_PER_TABLE, old, false, &old), -EPERM);
	assert_int_equal(frames_update(&f, OTHER, 1, 0, old, false, &old), -EPERM);
}

/* What the hardware sets between the look and the write is kept if it is asked for. */
static void an_update_keeps_accessed_and_dirty(void **state)
{
	pte_t old;

	(void)state;
	make_tree(RW | PTE_ACCESSED | PTE_DIRTY);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	assert_int_equal(frames_update(&f, ME, 1, 0, pte_make(5, RO), true, &old), 0);
	assert_int_equal(memory[1][0].v, pte_make(5, RO | PTE_ACCESSED | PTE_DIRTY).v);
	assert_int_equal(frames_update(&f, ME, 1, 0, pte_make(5, RO), false, &old), 0);
	assert_true(pte_dirty(old));
	assert_int_equal(memory[1][0].v, pte_make(5, RO).v);
	counts_are_right(0, 0);
}

static void a_root_may_map_itself_to_be_read(void **state)
{
	pte_t old;

	(void)state;
	make_tree(RW);
	memory[4][1] = pte_make(4, RO);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	assert_int_equal(frames_look(&f, 4).linear, 1);
	looks(4, FRAME_L4, 2, 1); /* by the pin: else it would never go */
	assert_int_equal(frames_update(&f, ME, 4, 1, pte_make(4, RW), false, &old), -EINVAL);
	assert_int_equal(frames_update(&f, ME, 4, XEN_FIRST_SLOT, pte_make(3, RO), false, &old),
			 -EPERM);
	counts_are_right(0, 0);
	assert_int_equal(frames_unpin(&f, ME, 4), 0);
	looks(4, FRAME_NONE, 1, 0);
	assert_int_equal(frames_look(&f, 4).linear, 0);
	/* Another's root is no table of the level below. */
	memory[6][0] = pte_make(4, RO);
	assert_int_equal(frames_pin(&f, ME, 4, FRAME_L4), 0);
	assert_int_equal(frames_pin(&f, ME, 6, FRAME_L4), -EINVAL);
}

static void a_frame_that_is_no_table_is_written_as_memory(void **state)
{
	pte_t old;

	(void)state;
	assert_int_equal(frames_update(&f, ME, 6, 3, pte_make(77, RW), false, &old), 0);
	assert_int_equal(memory[6][3].v, pte_make(77, RW).v);
	looks(6, FRAME_NONE, 1, 0);
	assert_int_equal(frames_pin(&f, ME, 6, FRAME_L1), -EPERM); /* that it holds is none */
}

/* ---- with a guest ---- */

static struct system *guest_system(void)
{
	struct system_options o = { .cpus = 2, .frames = 256 };
	struct system *s;

	assert_int_equal(ledger_create(o.cpus, &o.ledger), 0);
	assert_int_equal(xen_system.create(&xen_system, &o, &s), 0);
	ledger_begin(o.ledger, 0);
	return s;
}

static void end_guest(struct system *s)
{
	struct ledger *ledger = s->ledger;

	s->program->ops->check(s->program);
	s->destroy(s);
	ledger_destroy(ledger);
}

/* An area of one page, which is there; its entry. */
static pte_t *touched(struct system *s, u64 *va)
{
	const struct program_map a = { .len = PAGE_SIZE, .prot = VM_READ | VM_WRITE, .file = -1 };
	spinlock_t *ptl;
	u64 word = 7;

	*va = (u64)s->program->ops->map(s->program, 0, &a);
	assert_int_equal(s->program->ops->access(s->program, 0, *va, PF_WRITE, &word, 8), FAULT_OK);
	return pte_find(guest_of(s)->base.mm, *va, &ptl);
}

/* Enters the guest's kernel, as a program's call does. */
static struct soft_cpu *in_kernel(struct system *s)
{
	struct guest *g = guest_of(s);

	assert_int_equal(xen_syscall(&g->xen, &g->base.machine->cpus[0], "a call"), 0);
	return &g->base.machine->cpus[0];
}

static void a_store_to_a_table_is_a_fault_of_the_guest(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	u64 va;
	pte_t *pte = touched(s, &va), was = *pte;
	struct soft_cpu *cpu = in_kernel(s);
	u64 there = GUEST_MAP + guest_machine_address(g, pte);

	(void)state;
	assert_int_equal(xen_guest_store(&g->xen, cpu, there, 0, 8), -EFAULT);
	assert_int_equal(pte->v, was.v);
	assert_false(g->xen.crashed);
	assert_int_equal(xen_iret(&g->xen, cpu, "back"), 0);
	assert_false(g->xen.vcpus[0].in_kernel);
	end_guest(s);
}

static void a_store_to_a_writable_table_is_looked_at(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	u64 va;
	pte_t *pte = touched(s, &va), was = *pte;
	struct soft_cpu *cpu = in_kernel(s);
	u64 there = GUEST_MAP + guest_machine_address(g, pte);
	u64 table = guest_machine_address(g, pte) >> PAGE_SHIFT;
	u64 exceptions, hypercalls;

	(void)state;
	g->xen.writable_tables = true;
	ledger_reset(s->ledger);
	assert_int_equal(xen_guest_store(&g->xen, cpu, there, was.v & ~PTE_WRITE, 8), 0);
	exceptions = ledger_sum(s->ledger, PAID_EXCEPTIONS);
	hypercalls = ledger_sum(s->ledger, PAID_HYPERCALLS);
	assert_int_equal(exceptions, 1);
	assert_int_equal(hypercalls, 0);
	assert_int_equal(pte->v, was.v & ~PTE_WRITE);
	/* Its lowest byte alone; not the table itself, nor what is another's, nor half of an entry
	 * and half of the next. */
	assert_int_equal(xen_guest_store(&g->xen, cpu, there, was.v & 0xff, 1), 0);
	assert_int_equal(pte->v, was.v);
	assert_int_equal(xen_guest_store(&g->xen, cpu, there, pte_make(table, RW).v, 8), -EINVAL);
	assert_int_equal(
		xen_guest_store(&g->xen, cpu, there, pte_make(XEN_FOREIGN_FRAME(&g->xen), RO).v, 8),
		-EPERM);
	assert_int_equal(xen_guest_store(&g->xen, cpu, there + 4, 0, 8), -EINVAL);
	assert_int_equal(xen_guest_store(&g->xen, cpu, there + 1, 0, 2), -EINVAL);
	assert_int_equal(pte->v, was.v);
	/* A table above the last level is not written so. */
	assert_int_equal(
		xen_guest_store(&g->xen, cpu, guest_va(g->base.mm->pgd_phys >> PAGE_SHIFT), 0, 8),
		-EFAULT);
	assert_int_equal(xen_iret(&g->xen, cpu, "back"), 0);
	end_guest(s);
}

static void a_bounce_and_iret_leave_the_stack_as_it_was(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	struct xen_vcpu *v = &g->xen.vcpus[0];
	struct xen_bounce_frame frame;
	struct soft_cpu *cpu;

	(void)state;
	assert_int_equal(v->sp, XEN_USER_STACK);
	cpu = in_kernel(s);
	assert_int_equal(v->sp, v->kernel_sp - sizeof(frame));
	assert_int_equal(soft_kernel_read(cpu, v->sp, &frame, sizeof(frame), false), FAULT_OK);
	assert_int_equal(frame.cs, XEN_CS_USER);
	assert_int_equal(frame.rsp, XEN_USER_STACK);
	assert_int_equal(frame.rflags, XEN_RFLAGS_IF);
	assert_int_equal(xen_iret(&g->xen, cpu, "back"), 0);
	assert_int_equal(v->sp, XEN_USER_STACK);
	assert_false(v->upcall_mask);
	end_guest(s);
}

static void a_guest_whose_stack_is_no_memory_crashes(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	struct soft_cpu *cpu = &g->base.machine->cpus[0];
	u64 va, word;

	(void)state;
	touched(s, &va);
	/* A page table: the guest has it read-only. */
	xen_stack_switch(&g->xen, 0, guest_va(g->base.mm->pgd_phys >> PAGE_SHIFT) + PAGE_SIZE);
	assert_int_equal(soft_write_u64(cpu, va + PAGE_SIZE, 1), FAULT_KILLED);
	assert_true(g->xen.crashed);
	assert_int_equal(soft_read_u64(cpu, va + PAGE_SIZE, &word), FAULT_KILLED);
	end_guest(s);
}

/* ---- what it costs ---- */

static u64 count_of(const char *workload, enum ledger_counter counter)
{
	struct lab_result r;

	assert_int_equal(lab_run(system_find("xen"), workload_find(workload), 0, &r), 0);
	if (r.verdict != LAB_OK)
		fail_msg("%s: %s", workload, r.message);
	return r.counts[counter];
}

/* Barham et al., SOSP 2003: two entries to Xen for a fault, the bounce and the update; on 64 bits a
 * third, to return. */
static void a_fault_enters_xen_twice_before_it_returns(void **state)
{
	(void)state;
	assert_int_equal(count_of("minor-fault", PAID_EXCEPTIONS), 1);
	assert_int_equal(count_of("minor-fault", PAID_HYPERCALLS), 1 + 1);
	assert_int_equal(count_of("minor-fault", PAID_CROSSINGS), 6);
	assert_int_equal(count_of("minor-read", PAID_HYPERCALLS), 1 + 1);
	/* Nothing is mapped: there is no update. */
	assert_int_equal(count_of("trap", PAID_HYPERCALLS), 1);
	/* A read-only mapping (of the page of zeros) is held, but to no type. */
	assert_int_equal(count_of("minor-read", PAID_TYPE_UPDATES), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_pinned_root_holds_all_below_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_read_only_leaf_holds_no_type, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_refused_leaves_nothing_held, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_type_changes_at_count_zero_only, setup, teardown),
		cmocka_unit_test_setup_teardown(an_update_moves_what_is_held, setup, teardown),
		cmocka_unit_test_setup_teardown(an_update_keeps_accessed_and_dirty, setup,
						teardown),
		cmocka_unit_test_setup_teardown(a_root_may_map_itself_to_be_read, setup, teardown),
		cmocka_unit_test_setup_teardown(a_frame_that_is_no_table_is_written_as_memory,
						setup, teardown),
		cmocka_unit_test(a_store_to_a_table_is_a_fault_of_the_guest),
		cmocka_unit_test(a_store_to_a_writable_table_is_looked_at),
		cmocka_unit_test(a_bounce_and_iret_leave_the_stack_as_it_was),
		cmocka_unit_test(a_guest_whose_stack_is_no_memory_crashes),
		cmocka_unit_test(a_fault_enters_xen_twice_before_it_returns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
