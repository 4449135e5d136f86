/* SPDX-License-Identifier: MIT */
#include "systems/xen/hypervisor.h"
#include "engine/base/errno.h"
#include "systems/common/engine_system.h"

const struct ledger_actor xen_in_program = { .name = "Xen", .ring = 0, .domain = 1 };
const struct ledger_actor xen_in_guest = { .name = "Xen", .ring = 0, .domain = 2 };
const struct ledger_actor xen_guest = { .name = "the guest's kernel", .ring = 3, .domain = 2 };

static struct xen *of_frames(struct frames *f)
{
	return container_of(f, struct xen, frames);
}

unsigned xen_cpu(const struct xen *x)
{
	unsigned cpu = ledger_cpu();

	return ledger_current() && cpu < x->machine->nr_cpus ? cpu : 0;
}

struct soft_cpu *xen_running_cpu(struct xen *x)
{
	unsigned cpu = ledger_cpu();

	if (!ledger_current() || cpu >= x->machine->nr_cpus || !x->vcpus[cpu].in_kernel)
		return NULL;
	return &x->machine->cpus[cpu];
}

/* ---- translations that are left ---- */

/* The CPU has none any more. */
static void has_flushed(struct xen *x, unsigned cpu)
{
	atomic_store(&x->vcpus[cpu].flushed, atomic_fetch_add(&x->frames.clock, 1) + 1);
}

/* Spaces on CPUs that have not flushed since the stamp lose all translations, once each. */
static void flush_since(struct frames *f, u64 stamp)
{
	struct xen *x = of_frames(f);
	struct soft_machine *m = x->machine;

	for (unsigned i = 0; i < m->nr_cpus; i++) {
		struct mm *mm = atomic_load(&m->cpus[i].mm);

		if (!mm || atomic_load(&x->vcpus[i].flushed) > stamp)
			continue;
		soft_shootdown(mm, 0, ~0ULL);
		ledger_count(PAID_FLUSHES);
		for (unsigned k = 0; k < m->nr_cpus; k++) {
			if (atomic_load(&m->cpus[k].mm) != mm)
				continue;
			has_flushed(x, k);
			ledger_add(PAID_IPIS, k != ledger_cpu());
		}
	}
}

int xen_init(struct xen *x, struct soft_machine *m)
{
	u64 n = m->nr_table + m->nr_user;
	int err = frames_init(&x->frames, m->memory, n, n + 2, flush_since);

	if (err)
		return err;
	x->machine = m;
	for (u64 pfn = 0; pfn < n; pfn++)
		frames_give(&x->frames, pfn, XEN_GUEST);
	frames_give(&x->frames, XEN_OWN_FRAME(x), XEN_ITSELF);
	frames_give(&x->frames, XEN_FOREIGN_FRAME(x), XEN_GUEST + 1);
	for (unsigned i = 0; i < SOFT_MAX_CPUS; i++) {
		atomic_store(&x->vcpus[i].base, NO_PFN);
		x->vcpus[i].sp = XEN_USER_STACK;
	}
	return 0;
}

void xen_fini(struct xen *x)
{
	frames_fini(&x->frames);
}

/* ---- hypercalls ---- */

int xen_set_trap_table(struct xen *x, const struct xen_trap *traps, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (traps[i].vector >= XEN_TRAPS || !traps[i].address)
			return -EINVAL;
	for (unsigned i = 0; i < n; i++)
		x->traps[traps[i].vector] = traps[i];
	return 0;
}

void xen_set_callbacks(struct xen *x, xen_handler_fn event)
{
	x->event = event;
}

int xen_stack_switch(struct xen *x, unsigned cpu, u64 sp)
{
	if (cpu >= x->machine->nr_cpus)
		return -EINVAL;
	x->vcpus[cpu].kernel_sp = sp;
	return 0;
}

void xen_hypercall(const char *what, u64 operations)
{
	ledger_cross(&xen_guest, &xen_in_guest, BY_HYPERCALL, what);
	ledger_add(PAID_OPERATIONS, operations);
}

void xen_return(void)
{
	ledger_cross(&xen_in_guest, &xen_guest, BY_RETURN, "the hypercall returns");
}

/* The frame of the last-level table for va below `pfn`, or NO_PFN. */
static u64 find_leaf_table(const struct xen *x, u64 pfn, u64 va)
{
	for (enum mmu_level level = LEVEL_P4D; level > LEVEL_PTE && pfn != NO_PFN; level--) {
		const pte_t *table = (const pte_t *)x->machine->memory + pfn * PTRS_PER_TABLE;
		pte_t entry = pte_read(&table[level_index(level, va)]);

		pfn = pmd_is_table(entry) ? pte_pfn(entry) : NO_PFN;
	}
	return pfn;
}

int xen_update_va(struct xen *x, unsigned cpu, u64 va, pte_t pte, pte_t *old)
{
	u64 pfn;

	if (va >= XEN_START && va < XEN_END)
		return -EPERM;
	pfn = find_leaf_table(x, atomic_load(&x->vcpus[cpu].base), va);
	if (pfn == NO_PFN)
		return -EINVAL;
	return frames_update(&x->frames, XEN_GUEST, pfn, level_index(LEVEL_PTE, va), pte, false,
			     old);
}

int xen_mmu_update(struct xen *x, u64 address, pte_t pte, bool keep, pte_t *old)
{
	if (address % sizeof(pte))
		return -EINVAL;
	return frames_update(&x->frames, XEN_GUEST, address >> PAGE_SHIFT,
			     (address & ~PAGE_MASK) / sizeof(pte), pte, keep, old);
}

int xen_new_baseptr(struct xen *x, unsigned cpu, u64 pfn)
{
	u64 was = atomic_load(&x->vcpus[cpu].base);
	int err = pfn == NO_PFN ? 0 : frames_hold(&x->frames, XEN_GUEST, pfn, FRAME_L4);

	if (err)
		return err;
	atomic_store(&x->vcpus[cpu].base, pfn);
	if (was != NO_PFN)
		frames_let_go(&x->frames, was, FRAME_L4);
	return 0;
}

/* ---- into the guest and back ---- */

/* A load of CR3. */
void xen_switch_domain(struct xen *x, struct soft_cpu *cpu)
{
	soft_load_mm(cpu, atomic_load(&cpu->mm));
	has_flushed(x, cpu->number);
}

/* From guest user to guest kernel or back. */
static void toggle_guest_mode(struct xen *x, struct soft_cpu *cpu)
{
	xen_switch_domain(x, cpu);
	x->vcpus[cpu->number].in_kernel ^= true;
}

static void crash_domain(struct xen *x, const char *why)
{
	x->crashed = true;
	ledger_step(&xen_in_guest, why, 0);
}

static bool store_frame(struct xen *x, struct soft_cpu *cpu, u64 sp,
			const struct xen_bounce_frame *frame)
{
	struct xen_vcpu *v = &x->vcpus[cpu->number];
	enum fault_reason reason;

	if (sp + sizeof(*frame) > XEN_START && sp < XEN_END)
		return false;
	v->storing = true;
	reason = soft_kernel_write(cpu, sp, frame, sizeof(*frame), false);
	v->storing = false;
	return reason == FAULT_OK;
}

/* create_bounce_frame: the guest's kernel is about to run a handler.  0, -EFAULT (its stack is not
 * to be written: the domain has crashed). */
static int create_bounce_frame(struct xen *x, struct soft_cpu *cpu, u8 flags, u32 code)
{
	struct xen_vcpu *v = &x->vcpus[cpu->number];
	bool from_user = !v->in_kernel;
	struct xen_bounce_frame frame = {
		.error = code,
		.cs = (from_user ? XEN_CS_USER : XEN_CS_KERNEL) |
		      (v->upcall_mask ? XEN_CS_MASKED : 0),
		.rflags = v->upcall_mask ? 0 : XEN_RFLAGS_IF,
		.rsp = v->sp,
	};
	u64 sp;

	if (from_user)
		toggle_guest_mode(x, cpu);
	sp = ((from_user ? v->kernel_sp : v->sp) & ~15ULL) - sizeof(frame);
	if (!store_frame(x, cpu, sp, &frame)) {
		crash_domain(x, "cannot write the guest kernel's stack: the domain crashes");
		return -EFAULT;
	}
	v->sp = sp;
	v->upcall_mask |= !!(flags & XEN_TRAP_MASKS);
	return 0;
}

/* Xen is about to return to the guest, to where `frame` will say.  False: nothing is pending that
 * is not masked; or the domain crashed. */
static bool deliver_event(struct xen *x, struct soft_cpu *cpu)
{
	struct xen_vcpu *v = &x->vcpus[cpu->number];

	if (!v->upcall_pending || v->upcall_mask || !x->event)
		return false;
	if (create_bounce_frame(x, cpu, XEN_TRAP_MASKS, 0))
		return false;
	ledger_cross(&xen_in_guest, &xen_guest, BY_UPCALL,
		     "an event is pending: into the guest's callback, a frame on its stack");
	x->event(x, cpu, 0);
	return true;
}

bool xen_raise_event(struct xen *x, struct soft_cpu *cpu)
{
	x->vcpus[cpu->number].upcall_pending = true;
	return deliver_event(x, cpu);
}

void xen_unmask_events(struct xen *x, struct soft_cpu *cpu)
{
	struct xen_vcpu *v = &x->vcpus[cpu->number];

	v->upcall_mask = false;
	if (!v->upcall_pending)
		return;
	xen_hypercall("xen_version: so that what is pending comes", 0);
	if (!deliver_event(x, cpu))
		xen_return();
}

int xen_iret(struct xen *x, struct soft_cpu *cpu, const char *what)
{
	struct xen_vcpu *v = &x->vcpus[cpu->number];
	struct xen_bounce_frame frame;
	enum fault_reason reason;

	xen_hypercall("iret", 0);
	v->storing = true;
	reason = soft_kernel_read(cpu, v->sp, &frame, sizeof(frame), false);
	v->storing = false;
	if (reason != FAULT_OK) {
		crash_domain(x, "cannot read the guest kernel's stack: the domain crashes");
		return -EFAULT;
	}
	v->sp = frame.rsp;
	v->upcall_mask = !(frame.rflags & XEN_RFLAGS_IF);
	if ((frame.cs & 3) == 3)
		toggle_guest_mode(x, cpu);
	if (deliver_event(x, cpu)) /* which comes back by here */
		return 0;
	ledger_cross(&xen_in_guest, v->in_kernel ? &xen_guest : &lab_program, BY_RETURN, what);
	return 0;
}

/* ---- page faults ---- */

/* Of an entry of 8 bytes, as it would be with the store made. */
static pte_t merge(pte_t old, const struct xen_store *s)
{
	u64 mask = s->bytes == 8 ? ~0ULL : (1ULL << 8 * s->bytes) - 1;
	unsigned shift = 8 * (s->va % sizeof(pte_t));

	return (pte_t){ (old.v & ~(mask << shift)) | (s->value & mask) << shift };
}

/* ptwr: the guest's kernel has stored to a page that is read-only; if that is an L1 table, make the
 * store for it, as an update of the entry.  False: it is not that. */
static bool emulate_store(struct xen *x, unsigned cpu, u64 cr2)
{
	struct xen_store *s = &x->vcpus[cpu].store;
	u64 table = find_leaf_table(x, atomic_load(&x->vcpus[cpu].base), cr2), pfn;
	const pte_t *memory = (const pte_t *)x->machine->memory;
	unsigned index = (cr2 & ~PAGE_MASK) / sizeof(pte_t);
	struct frame frame;
	pte_t pte;

	if (table == NO_PFN || !s->bytes)
		return false;
	pte = pte_read(&memory[table * PTRS_PER_TABLE + level_index(LEVEL_PTE, cr2)]);
	pfn = pte_pfn(pte);
	if (!pte_present(pte) || pfn >= x->frames.nr_memory)
		return false;
	frame = frames_look(&x->frames, pfn);
	if (frame.owner != XEN_GUEST || !frame.type_count || frame.type != FRAME_L1)
		return false;
	s->emulated = true;
	if (s->va != cr2 || s->bytes > 8 || s->bytes & (s->bytes - 1) || s->va % s->bytes) {
		s->result = -EINVAL;
		return true;
	}
	pte = merge(pte_read(&memory[pfn * PTRS_PER_TABLE + index]), s);
	s->result = frames_update(&x->frames, XEN_GUEST, pfn, index, pte, false, &s->old);
	return true;
}

/* Where Xen was entered from. */
static const struct ledger_actor *who_runs(const struct xen_vcpu *v)
{
	return v->in_kernel ? &xen_guest : &lab_program;
}

static const struct ledger_actor *xen_here(const struct xen_vcpu *v)
{
	return v->in_kernel ? &xen_in_guest : &xen_in_program;
}

/* pv_inject_page_fault: the guest's handler runs, and returns from there. */
static struct fault_result inject_page_fault(struct xen *x, struct soft_cpu *cpu, u64 cr2, u32 code)
{
	const struct fault_result killed = { .reason = FAULT_KILLED };
	const struct xen_trap *trap = &x->traps[XEN_TRAP_PAGE];
	struct xen_vcpu *v = &x->vcpus[cpu->number];
	const struct ledger_actor *here = xen_here(v);

	v->cr2 = cr2;
	ledger_step(here, "copies the address into the page that it shares with the guest", cr2);
	if (!trap->address) {
		crash_domain(x, "the guest has no handler: the domain crashes");
		return killed;
	}
	if (create_bounce_frame(x, cpu, trap->flags, code))
		return killed;
	ledger_cross(here, &xen_guest, BY_UPCALL,
		     "bounces the trap: into the guest's handler, a frame on its stack");
	deliver_event(x, cpu); /* before its first instruction */
	return trap->address(x, cpu, code);
}

struct fault_result xen_page_fault(struct xen *x, struct soft_cpu *cpu, u64 cr2, u32 code)
{
	const u32 forbidden = PF_PROT | PF_WRITE;
	struct xen_vcpu *v = &x->vcpus[cpu->number];

	if (v->storing) /* its exception table has the instruction */
		return (struct fault_result){ .reason = FAULT_MAPERR };
	if (x->crashed)
		return (struct fault_result){ .reason = FAULT_KILLED };
	ledger_cross(who_runs(v), xen_here(v), BY_EXCEPTION,
		     "page fault: Xen fields it, and finds whose vCPU this is");
	if (x->writable_tables && v->in_kernel && (code & forbidden) == forbidden &&
	    emulate_store(x, cpu->number, cr2)) {
		ledger_step(&xen_in_guest, "a store to an L1 table: checks it and makes it", cr2);
		ledger_cross(&xen_in_guest, &xen_guest, BY_RETURN, "to the next instruction");
		return (struct fault_result){ .reason = FAULT_MAPERR }; /* not made again */
	}
	return inject_page_fault(x, cpu, cr2, code);
}

int xen_syscall(struct xen *x, struct soft_cpu *cpu, const char *what)
{
	int err;

	ledger_cross(&lab_program, &xen_in_program, BY_SYSTEM_CALL, what);
	err = x->crashed ? -EFAULT : create_bounce_frame(x, cpu, 0, 0);
	if (err)
		return err;
	ledger_cross(&xen_in_program, &xen_guest, BY_UPCALL,
		     "bounces the call: into the guest's kernel");
	deliver_event(x, cpu);
	return 0;
}

int xen_guest_store(struct xen *x, struct soft_cpu *cpu, u64 va, u64 value, unsigned bytes)
{
	struct xen_store *s = &x->vcpus[cpu->number].store;
	u64 cr2 = cpu->cr2; /* of the fault that the guest is about, if it is */
	u32 code = cpu->error_code;
	enum fault_reason reason;

	*s = (struct xen_store){ .va = va, .value = value, .bytes = bytes };
	reason = soft_kernel_write(cpu, va, &value, bytes, false);
	cpu->cr2 = cr2;
	cpu->error_code = code;
	s->bytes = 0;
	if (reason == FAULT_OK)
		return 0;
	return s->emulated ? s->result : -EFAULT;
}

int xen_guest_exchange(struct xen *x, struct soft_cpu *cpu, u64 va, pte_t pte, pte_t *old)
{
	const struct xen_store *s = &x->vcpus[cpu->number].store;
	int err = xen_guest_store(x, cpu, va, pte.v, sizeof(pte));

	if (!err && !s->emulated)
		return -EFAULT; /* it was no table of Xen's */
	*old = s->old;
	return err;
}
