/* SPDX-License-Identifier: MIT */
/*
 * Nested paging: a guest with page tables of its own, which nobody watches; what they call physical
 * goes through a second stage that the hypervisor keeps (EPT; NPT).
 *
 *   1. The access misses the TLB; the processor walks in two dimensions: the address of each of the
 *      guest's tables, and of the page in the end, goes through the second stage: up to 24 entries
 *      instead of 4.
 *   2. An entry of the guest's that is missing or forbids: vector 14 goes to the guest's kernel,
 *      which serves it as if it were alone (systems/linux/linux.c), and the hypervisor learns
 *      nothing.
 *   3. An entry of the second stage that is missing or forbids: the guest is left, with the
 *      guest-physical address and what was tried (the exit qualification; EXITINFO1).
 *   4. The hypervisor finds the memory slot, has the host bring the page, and maps it, unless the
 *      host takes pages away meanwhile (vm.c has this part of the plan).
 *   5. VM entry: the access is made again, and the guest has not noticed.
 *
 * The guest is this project's engine; its frame numbers are guest-physical.  What its kernel does
 * to frames that it fills goes through the second stage, too.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "machine/soft/second.h"
#include "systems/nested/nested.h"

static const struct ledger_actor monitor = { .name = "the monitor", .ring = 3, .domain = 3 };

struct nested {
	struct engine_system base;
	struct soft_second_stage second;
	struct host_memory host;
	struct vm vm;
	struct async_guest *guests; /* of each vCPU */
	spinlock_t beside;	    /* of the vCPU that stands for threads which drive none */
};

static struct nested *of(struct system *s)
{
	return container_of(engine_system_of(s), struct nested, base);
}

static struct nested *of_vm(struct vm *vm)
{
	return container_of(vm, struct nested, vm);
}

struct vm *nested_vm(struct system *s)
{
	return &of(s)->vm;
}

struct async_guest *nested_async(struct system *s, unsigned vcpu, u32 msr)
{
	of(s)->vm.vcpus[vcpu].async.msr = msr;
	return &of(s)->guests[vcpu];
}

/* ---- what the hypervisor asks of processors ---- */

static void flush(struct vm *vm)
{
	struct soft_machine *m = of_vm(vm)->base.machine;

	ledger_count(PAID_FLUSHES);
	for (unsigned i = 0; i < m->nr_cpus; i++)
		ledger_add(PAID_IPIS, atomic_load(&m->cpus[i].mm) && i != ledger_cpu());
	soft_shootdown_all(m);
}

static bool begin_walk(struct vm *vm, unsigned vcpu)
{
	struct soft_machine *m = of_vm(vm)->base.machine;

	if (vcpu >= m->nr_cpus)
		return false;
	soft_enter(&m->cpus[vcpu]);
	return true;
}

static void end_walk(struct vm *vm, unsigned vcpu)
{
	soft_leave(&of_vm(vm)->base.machine->cpus[vcpu]);
}

static const struct vm_ops vm_ops = { .flush = flush,
				      .begin_walk = begin_walk,
				      .end_walk = end_walk };

/* ---- the guest is left ---- */

static const char *exit_text(const struct nested *n, const struct guest_exit *x)
{
	if (x->outcome == STAGE2_LOG_FULL)
		return "exit 62: the log of modified pages is full";
	if (n->vm.stage2->format == STAGE2_NPT)
		return x->access & SECOND_TABLE ? "exit 0x400, nested page fault at a page table"
						: "exit 0x400, nested page fault at the page";
	if (x->outcome == STAGE2_MISCONFIG)
		return "exit 49, EPT misconfiguration: an entry that stands for a device";
	return x->access & SECOND_TABLE ? "exit 48, EPT violation at a page table"
					: "exit 48, EPT violation at the page";
}

/* There are no devices: what is not memory cannot be read, and the read-only is not written. */
static int monitor_emulates(struct nested *n, const struct guest_exit *x)
{
	bool memory;

	ledger_cross(&vm_hypervisor, &monitor, BY_RETURN, "KVM_RUN returns: emulate this access");
	down_read(&n->vm.slots_lock);
	memory = vm_slot_of(&n->vm, x->gpa >> PAGE_SHIFT) != NULL;
	up_read(&n->vm.slots_lock);
	ledger_cross(&monitor, &vm_hypervisor, BY_SYSTEM_CALL, "KVM_RUN: it failed");
	return memory ? -EACCES : -EFAULT;
}

static int monitor_empties_ring(struct nested *n, unsigned vcpu)
{
	struct vm_ring_entry entries[16];
	int err;

	ledger_cross(&vm_hypervisor, &monitor, BY_RETURN, "KVM_RUN returns: the ring is full");
	while (vm_ring_harvest(&n->vm, vcpu, entries, ARRAY_SIZE(entries)))
		;
	ledger_cross(&monitor, &vm_hypervisor, BY_SYSTEM_CALL, "KVM_RESET_DIRTY_RINGS");
	err = vm_ring_reset(&n->vm, vcpu);
	return min_of(err, 0);
}

/* The page is there: the interrupt, and what the guest does with it. */
static int page_is_ready(struct nested *n, unsigned vcpu)
{
	struct async_host *host = &n->vm.vcpus[vcpu].async;
	u32 token;
	int woken;

	if (!async_deliver(host))
		return -EFAULT;
	ledger_cross(&vm_hypervisor, &lab_kernel, BY_RETURN,
		     "VM entry, with an interrupt: the page of this token is there");
	woken = async_guest_ready(&n->guests[vcpu], &token);
	ledger_cross(&lab_kernel, &vm_hypervisor, BY_VM_EXIT,
		     "exit 32: the guest acknowledges it in an MSR");
	async_acknowledge(host);
	return min_of(woken, 0);
}

/* Vector 14 with a token.  The guest has no other task for the CPU: it halts until the interrupt.
 */
static int tell_guest(struct nested *n, unsigned vcpu)
{
	struct vcpu *v = &n->vm.vcpus[vcpu];
	int sleeps;

	ledger_cross(&vm_hypervisor, &lab_kernel, BY_RETURN,
		     "VM entry, with vector 14: CR2 is a token, for a page that the host reads");
	sleeps = async_guest_fault(&n->guests[vcpu], v->token);
	if (sleeps > 0)
		ledger_cross(&lab_kernel, &lab_kernel, BY_SWITCH,
			     "parks the task by the token, and runs another");
	ledger_cross(&lab_kernel, &vm_hypervisor, BY_VM_EXIT, "exit 12: HLT, nothing is to be run");
	if (sleeps <= 0)
		return sleeps;
	async_complete(&v->async, &n->host);
	return page_is_ready(n, vcpu);
}

/* 3 to 5.  0: the access is to be made again; else why it cannot. */
static int leave_guest(struct nested *n, unsigned vcpu, const struct guest_exit *x)
{
	const struct ledger_actor *who = x->access & PF_USER ? &lab_program : &lab_kernel;
	int result;

	ledger_cross(who, &vm_hypervisor, BY_VM_EXIT, exit_text(n, x));
	result = vm_handle_exit(&n->vm, vcpu, x);
	if (result == VM_EMULATE)
		result = monitor_emulates(n, x);
	else if (result == VM_RING_FULL)
		result = monitor_empties_ring(n, vcpu);
	else if (result == VM_ASYNC)
		result = tell_guest(n, vcpu);
	else if (result == VM_RETRY)
		ledger_count(PAID_RETRIES);
	ledger_cross(&vm_hypervisor, who, BY_RETURN,
		     result < 0 ? "VM entry: the access fails"
				: "VM entry: the access is made again");
	if (result < 0)
		n->vm.vcpus[vcpu].error = result;
	return min_of(result, 0);
}

/* ---- the processor's part ---- */

static struct stage2_log *log_of(struct nested *n, unsigned vcpu)
{
	if (n->vm.log_mode != VM_LOG_PML || !atomic_load(&n->vm.nr_logged))
		return NULL;
	return &n->vm.vcpus[vcpu].log;
}

static bool translate(struct soft_second_stage *second, struct soft_cpu *cpu, u64 va, u64 gpa,
		      u32 access, struct second_page *page)
{
	struct nested *n = container_of(second, struct nested, second);
	struct stage2_walk w;

	stage2_walk(n->vm.stage2, gpa, access, log_of(n, cpu->number), &w);
	ledger_add(PAID_WALK_READS_2, w.reads);
	if (w.outcome != STAGE2_OK) {
		n->vm.vcpus[cpu->number].exit = (struct guest_exit){
			.outcome = w.outcome, .info = w.info, .va = va, .gpa = gpa, .access = access
		};
		return false;
	}
	*page = (struct second_page){ .host = host_bytes(&n->host, w.hfn),
				      .write = w.write,
				      .fetch = w.fetch };
	return true;
}

static enum fault_reason resolve(struct soft_second_stage *second, struct soft_cpu *cpu)
{
	struct nested *n = container_of(second, struct nested, second);
	int err = leave_guest(n, cpu->number, &n->vm.vcpus[cpu->number].exit);

	if (err)
		return err == -ENOMEM ? FAULT_OOM : FAULT_BUS;
	return FAULT_OK;
}

/* ---- the guest's kernel ---- */

/* It writes to a frame at its direct mapping. */
static void kernel_writes(struct nested *n, unsigned vcpu, u64 gpa)
{
	struct guest_exit x = { .gpa = gpa, .access = PF_WRITE };
	struct stage2_walk w;

	for (;;) {
		down_read(&n->vm.mmu_lock);
		stage2_walk(n->vm.stage2, gpa, PF_WRITE, log_of(n, vcpu), &w);
		up_read(&n->vm.mmu_lock);
		if (w.outcome == STAGE2_OK)
			return;
		x.outcome = w.outcome;
		x.info = w.info;
		if (leave_guest(n, vcpu, &x))
			vmf_panic("nested: the guest's kernel has no memory at %lx",
				  (unsigned long)gpa);
	}
}

static void *bytes(struct engine *e, struct page *page)
{
	struct nested *n = container_of(engine_system_of_engine(e), struct nested, base);
	unsigned cpus = n->base.machine->nr_cpus;
	u64 gpa = page_pfn(e, page) << PAGE_SHIFT;

	if (ledger_current() == n->base.system.ledger && ledger_cpu() < cpus) {
		kernel_writes(n, ledger_cpu(), gpa);
	} else {
		spin_lock(&n->beside);
		kernel_writes(n, cpus, gpa);
		spin_unlock(&n->beside);
	}
	return soft_mmu_ops.bytes(e, page);
}

static struct fault_result trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct fault_result r = engine_system_field(cpu, cr2, code, FAULT_FLAG_USER);

	if (r.reason == FAULT_RETRY)
		ledger_count(PAID_RETRIES);
	return r;
}

/* ---- checks ---- */

/* What the TLB holds of the second stage is what the tables give. */
static void check_cpu(struct nested *n, const struct soft_cpu *cpu)
{
	for (unsigned i = 0; i < TLB_ENTRIES; i++) {
		const struct tlb_origin *o = &cpu->origin[i];
		struct stage2_entry e;

		if (o->page == TLB_NONE)
			continue;
		e = stage2_look(n->vm.stage2, o->pfn);
		if (!e.present || host_bytes(&n->host, e.hfn) != cpu->tlb[i].host)
			vmf_panic("nested: CPU %u holds %lx, which the second stage does not",
				  cpu->number, (unsigned long)o->page);
		if (cpu->tlb[i].write != TLB_NONE && !(e.write && e.dirty))
			vmf_panic("nested: CPU %u would write to %lx unnoticed", cpu->number,
				  (unsigned long)o->page);
	}
}

static void check(struct program *p)
{
	struct nested *n = container_of(engine_system_of_program(p), struct nested, base);

	soft_program_ops.check(p);
	for (unsigned i = 0; i < p->nr_cpus; i++)
		check_cpu(n, &n->base.machine->cpus[i]);
}

/* ---- expectations ---- */

#define FOR_ALL                                                                                    \
	{ PAID_EXCEPTIONS, 1, NULL }, { PAID_SYSTEM_CALLS, 0, NULL },                              \
		{ PAID_HYPERCALLS, 0, NULL }, { PAID_PAGES_COPIED, 0, NULL },                      \
		{ PAID_PAGES_ZEROED, 1, NULL },                                                    \
	{                                                                                          \
		PAID_WALK_READS, 8, NULL                                                           \
	}

#define ENDS_EARLY                                                                                 \
	"the first of the two walks ends at the guest's entry that is none: no page is there to "  \
	"be looked for in the second stage"

static const struct system_expectation expected_warm[] = {
	FOR_ALL,
	{ PAID_VM_EXITS, 0, NULL },
	{ PAID_CROSSINGS, 2, NULL },
	{ PAID_DOMAINS, 0, NULL },
	{ PAID_WALK_READS_2, 40, ENDS_EARLY },
};

static const struct system_expectation expected_cold[] = {
	FOR_ALL,
	{ PAID_VM_EXITS, 1, NULL },
	{ PAID_CROSSINGS, 4, NULL },
	{ PAID_DOMAINS, 0, "an exit loads the hypervisor's CR3, and the entry the guest's" },
	{ PAID_WALK_READS_2, 40, ENDS_EARLY },
};

/* ---- its life ---- */

static void destroy(struct system *s)
{
	struct nested *n = of(s);

	engine_system_fini(&n->base);
	vm_destroy(&n->vm);
	host_fini(&n->host);
	free(n->guests);
	free(n);
}

/* The hypervisor below the machine that is there.  On error nothing is left to undo. */
static int start_hypervisor(struct nested *n, enum stage2_format format, bool warm)
{
	struct soft_machine *m = n->base.machine;
	u64 frames = m->nr_table + m->nr_user;
	int err = host_init(&n->host, m->memory, frames);

	if (err)
		return err;
	err = vm_create(&n->vm, format, &n->host, frames, m->nr_cpus + 1, &vm_ops, n);
	if (err) {
		host_fini(&n->host);
		return err;
	}
	spin_init(&n->beside);
	n->guests = calloc(m->nr_cpus + 1, sizeof(*n->guests));
	if (!n->guests)
		err = -ENOMEM;
	for (unsigned i = 0; !err && i <= m->nr_cpus; i++)
		n->vm.vcpus[i].async.area = &n->guests[i].area;
	if (!err)
		err = vm_set_slot(&n->vm, 0, 0, frames, 0, 0);
	if (!err && warm)
		err = vm_populate(&n->vm, 0);
	if (err) {
		vm_destroy(&n->vm);
		host_fini(&n->host);
		free(n->guests);
	}
	return err;
}

static int create(const struct system_type *type, const struct system_options *o,
		  struct system **system)
{
	struct nested *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	err = engine_system_init(&n->base, type, o, trap);
	if (err) {
		free(n);
		return err;
	}
	err = start_hypervisor(n, type == &npt_system ? STAGE2_NPT : STAGE2_EPT,
			       type == &nested_system);
	if (err) {
		engine_system_fini(&n->base);
		free(n);
		return err;
	}
	n->second = (struct soft_second_stage){ .translate = translate, .resolve = resolve };
	n->base.machine->second = &n->second;
	n->base.mmu.bytes = bytes;
	n->base.ops.check = check;
	n->base.system.destroy = destroy;
	*system = &n->base.system;
	return 0;
}

const struct system_type nested_system = {
	.name = "nested",
	.summary = "a guest's kernel does it all; what it calls physical goes through EPT, which "
		   "is warm",
	.attacks = nested_attacks,
	.nr_attacks = NESTED_ATTACKS,
	.expected = expected_warm,
	.nr_expected = ARRAY_SIZE(expected_warm),
	.create = create,
};

const struct system_type nested_cold_system = {
	.name = "nested-cold",
	.summary = "the same, with memory that the hypervisor gives when it is touched",
	.attacks = nested_attacks,
	.nr_attacks = NESTED_ATTACKS,
	.expected = expected_cold,
	.nr_expected = ARRAY_SIZE(expected_cold),
	.create = create,
};

const struct system_type npt_system = {
	.name = "npt",
	.summary = "the same with AMD's nested page tables, memory given when it is touched",
	.attacks = nested_attacks,
	.nr_attacks = NESTED_ATTACKS,
	.expected = expected_cold,
	.nr_expected = ARRAY_SIZE(expected_cold),
	.create = create,
};
