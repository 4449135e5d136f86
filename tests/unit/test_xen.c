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

static void a_fault_of_the_guest_s_kernel_changes_no_space(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	struct soft_cpu *cpu;
	u64 va, word = 9, sp;

	(void)state;
	touched(s, &va);
	assert_int_equal(s->program->ops->unmap(s->program, 0, va, PAGE_SIZE), 0);
	touched(s, &va);
	s->program->ops->pageout(s->program, 0, va, PAGE_SIZE);
	cpu = in_kernel(s);
	sp = g->xen.vcpus[0].sp;
	ledger_reset(s->ledger);
	assert_int_equal(soft_kernel_read(cpu, va, &word, sizeof(word), true), FAULT_OK);
	assert_int_equal(word, 7);
	assert_int_equal(ledger_sum(s->ledger, PAID_EXCEPTIONS), 1);
	assert_int_equal(ledger_sum(s->ledger, PAID_DOMAINS), 2); /* the driver's, and back */
	assert_int_equal(g->xen.vcpus[0].sp, sp);
	assert_true(g->xen.vcpus[0].in_kernel);
	assert_int_equal(xen_iret(&g->xen, cpu, "back"), 0);
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

static xen_handler_fn guest_event;
static u64 calls_before_event;

static struct fault_result note_event(struct xen *x, struct soft_cpu *cpu, u32 code)
{
	calls_before_event =
		ledger_sum(guest_of_mm(atomic_load(&cpu->mm))->base.system.ledger, PAID_HYPERCALLS);
	return guest_event(x, cpu, code);
}

static void an_event_waits_until_the_address_is_read(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	struct xen_vcpu *v = &g->xen.vcpus[0];
	const struct program_map a = { .len = 2 * PAGE_SIZE,
				       .prot = VM_READ | VM_WRITE,
				       .file = -1 };
	u64 va = (u64)s->program->ops->map(s->program, 0, &a), word = 0;
	struct soft_cpu *cpu;

	(void)state;
	/* The tables are there. */
	assert_int_equal(soft_write_u64(&g->base.machine->cpus[0], va + PAGE_SIZE, 7), FAULT_OK);
	ledger_reset(s->ledger);
	guest_event = g->xen.event;
	xen_set_callbacks(&g->xen, note_event);
	v->upcall_pending = true; /* as another CPU may say at any time */
	assert_int_equal(soft_write_u64(&g->base.machine->cpus[0], va, 7), FAULT_OK);
	assert_false(v->upcall_pending);
	assert_false(v->in_kernel);
	assert_int_equal(v->sp, XEN_USER_STACK);
	/* The trap and the event; update, unmask, and two returns. */
	assert_int_equal(ledger_sum(s->ledger, PAID_UPCALLS), 2);
	assert_int_equal(calls_before_event, 1);
	assert_int_equal(ledger_sum(s->ledger, PAID_HYPERCALLS), 4);
	assert_int_equal(soft_read_u64(&g->base.machine->cpus[0], va, &word), FAULT_OK);
	assert_int_equal(word, 7);
	/* Masked, it waits; iret brings it. */
	cpu = in_kernel(s);
	v->upcall_mask = true;
	assert_false(xen_raise_event(&g->xen, cpu));
	assert_true(v->upcall_pending);
	assert_int_equal(xen_iret(&g->xen, cpu, "back"), 0);
	assert_false(v->upcall_pending);
	assert_false(v->in_kernel);
	end_guest(s);
}

/* ---- the ring ---- */

static void the_driver_does_what_is_granted_and_nothing_else(void **state)
{
	struct system *s = guest_system();
	struct guest *g = guest_of(s);
	struct blkring *r = &g->ring;
	u64 pfn = g->base.machine->nr_table + 3, table = g->base.mm->pgd_phys >> PAGE_SHIFT;
	char *bytes = g->base.machine->memory + (pfn << PAGE_SHIFT), root[PAGE_SIZE];
	u32 frame = (u32)blkring_grant(r, pfn, GRANT_READ | GRANT_WRITE);
	u32 tables = (u32)blkring_grant(r, table, GRANT_READ | GRANT_WRITE);
	const struct blk_entry requests[] = {
		{ .id = 1, .op = BLK_WRITE, .slot = 5, .grant = frame },
		{ .id = 2, .op = BLK_READ, .slot = 5, .grant = tables },
		{ .id = 3, .op = BLK_READ, .slot = 6, .grant = frame }, /* never written */
		{ .id = 4, .op = BLK_READ, .slot = ~0ULL, .grant = frame },
		{ .id = 5, .op = 9, .slot = 5, .grant = frame },
		{ .id = 6, .op = BLK_READ, .slot = 5, .grant = 17 },
		{ .id = 7, .op = BLK_READ, .slot = 5, .grant = frame },
	};
	const s32 status[] = { 0, -EINVAL, -ENOENT, -EINVAL, -EINVAL, -ENOENT, 0 };

	(void)state;
	memcpy(root, g->base.mm->pgd, sizeof(root));
	memset(bytes, 0x5a, PAGE_SIZE);
	for (unsigned i = 0; i < ARRAY_SIZE(requests); i++) {
		assert_int_equal(blkring_request(r, &requests[i]), 0);
		assert_int_equal(blkring_serve(r), 1);
		assert_int_equal(r->page->entries[i].status, status[i]);
		memset(bytes, 0, PAGE_SIZE * (i == 0));
	}
	assert_int_equal(bytes[PAGE_SIZE - 1], 0x5a);
	assert_memory_equal(root, g->base.mm->pgd, sizeof(root));
	blkring_responses(r);
	assert_int_equal(r->seen, ARRAY_SIZE(requests));
	assert_int_equal(blkring_end_grant(r, frame), 0);
	end_guest(s);
}

static void a_ring_that_says_more_than_it_holds_is_not_believed(void **state)
{
	const struct blk_entry request = { .op = BLK_READ };
	struct system *s = guest_system();
	struct blkring *r = &guest_of(s)->ring;

	(void)state;
	r->page->requests += BLK_ENTRIES + 1;
	assert_int_equal(blkring_serve(r), 0);
	r->page->requests = r->taken;
	for (unsigned i = 0; i < BLK_ENTRIES; i++)
		assert_int_equal(blkring_request(r, &request), 0);
	assert_int_equal(blkring_request(r, &request), -EAGAIN);
	assert_int_equal(blkring_serve(r), BLK_ENTRIES);
	blkring_responses(r);
	assert_int_equal(blkring_request(r, &request), 0);
	end_guest(s);
}

/* ---- a space that changes ---- */

/* Entries move, tables come and go, spaces are pinned and unpinned: after each step all counts are
 * what the tables say. */
static void what_is_counted_is_what_the_tables_hold(void **state)
{
	static const struct workload w = { "moves", "# moves\n"
						    "map any 700P rw as A\n"
						    "write A 3P 3\n"
						    "write A+600P 3P 4\n"
						    "check\n"
						    "remap A 700P 1500P maymove as B\n"
						    "check\n"
						    "read B 3P 3\n"
						    "fork as P\n"
						    "process P\n"
						    "write B+600P 2P 5\n"
						    "protect B 700P r\n"
						    "check\n"
						    "unmap B 700P\n"
						    "check\n"
						    "process first\n"
						    "exit P\n"
						    "check\n"
						    "remap B 1500P 2P\n"
						    "check\n"
						    "read B 2P 3\n" };
	static const char *const names[] = { "xen", "xen-ptwr" };
	struct lab_result r;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		assert_int_equal(lab_run(system_find(names[i]), &w, 0, &r), 0);
		if (r.verdict != LAB_OK)
			fail_msg("%s: %s", names[i], r.message);
	}
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

/* The entry is changed by a store that faults: an exception in a hypercall's place. */
static void writable_tables_take_a_fault_for_a_call(void **state)
{
	struct lab_result calls, stores;

	(void)state;
	lab_run(system_find("xen"), workload_find("cow-fault"), 0, &calls);
	lab_run(system_find("xen-ptwr"), workload_find("cow-fault"), 0, &stores);
	/* Two entries are written: the old page goes, the new one comes. */
	assert_int_equal(stores.counts[PAID_EXCEPTIONS], calls.counts[PAID_EXCEPTIONS] + 2);
	assert_int_equal(stores.counts[PAID_HYPERCALLS], calls.counts[PAID_HYPERCALLS] - 2);
	assert_int_equal(stores.counts[PAID_CROSSINGS], calls.counts[PAID_CROSSINGS]);
	assert_int_equal(stores.counts[PAID_TYPE_UPDATES], calls.counts[PAID_TYPE_UPDATES]);
}

/* Many changes with one call: at most GUEST_BATCH; the flush and the return are calls, too. */
static void multicalls_batch(void **state)
{
	(void)state;
	assert_int_equal(count_of("prot1", PAID_HYPERCALLS), 1 + 1 + 1);
	assert_int_equal(count_of("prot1", PAID_OPERATIONS), 1 + 1);
	assert_int_equal(count_of("prot100", PAID_HYPERCALLS), 100 / GUEST_BATCH + 1 + 1 + 1);
	assert_int_equal(count_of("prot100", PAID_OPERATIONS), 100 + 1);
	assert_int_equal(count_of("unprot100", PAID_OPERATIONS), 100);
}

/* What is on disk costs a switch to the driver's domain and back, and an event each way. */
static void a_major_fault_goes_through_the_ring(void **state)
{
	(void)state;
	assert_int_equal(count_of("major-fault", PAID_IO_READS), 1);
	assert_int_equal(count_of("major-fault", PAID_CONTEXT_SWITCHES), 2);
	assert_int_equal(count_of("major-fault", PAID_UPCALLS), 1 + 1);
	assert_int_equal(count_of("minor-fault", PAID_CONTEXT_SWITCHES), 0);
	/* Of the guest: send, block, return from the event's handler, update, return; of the
	 * driver's domain: map, unmap, send, block. */
	assert_int_equal(count_of("major-fault", PAID_HYPERCALLS), 5 + 4);
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
		cmocka_unit_test(a_fault_of_the_guest_s_kernel_changes_no_space),
		cmocka_unit_test(a_guest_whose_stack_is_no_memory_crashes),
		cmocka_unit_test(an_event_waits_until_the_address_is_read),
		cmocka_unit_test(the_driver_does_what_is_granted_and_nothing_else),
		cmocka_unit_test(a_ring_that_says_more_than_it_holds_is_not_believed),
		cmocka_unit_test(what_is_counted_is_what_the_tables_hold),
		cmocka_unit_test(a_fault_enters_xen_twice_before_it_returns),
		cmocka_unit_test(writable_tables_take_a_fault_for_a_call),
		cmocka_unit_test(multicalls_batch),
		cmocka_unit_test(a_major_fault_goes_through_the_ring),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
