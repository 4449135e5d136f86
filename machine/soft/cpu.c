/* SPDX-License-Identifier: MIT */
/* CPUs and their TLBs: what happens beyond a hit.  cpu.h says how accesses and flushes meet. */
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "machine/soft/second.h"
#include "machine/soft/tlb.h"

/* An access that faults so often in a row will never succeed: the engine says that it resolved the
 * fault, and did not. */
#define FAULTS_IN_A_ROW (1u << 22)

static void count_more(_Atomic u64 *counter, u64 n)
{
	/* One writer: no need for a locked add. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
			      memory_order_relaxed);
}

static void count(_Atomic u64 *counter)
{
	count_more(counter, 1);
}

/* The frame behind the entry must not have been released since: it may be anybody's by now. */
static void check_entry(const struct soft_cpu *cpu, const struct tlb_entry *t)
{
	const struct tlb_origin *o = &cpu->origin[t - cpu->tlb];

	if (atomic_load_explicit(&cpu->machine->generations[o->pfn], memory_order_relaxed) !=
	    o->generation)
		vmf_panic("soft: CPU %u still translates %lx to frame %lx, which was freed: "
			  "a flush was forgotten",
			  cpu->number, (unsigned long)o->page, (unsigned long)o->pfn);
}

/* ---- flushes from elsewhere ---- */

/* The PCID that the space has on this CPU; -1: it has none. */
static int pcid_of(const struct soft_cpu *cpu, const struct mm *mm)
{
	if (!cpu->machine->pcids)
		return 0;
	for (unsigned i = 0; i < SOFT_PCIDS; i++)
		if (cpu->contexts[i].mm == mm)
			return (int)i + 1;
	return -1;
}

void soft_take_mail(struct soft_cpu *cpu)
{
	spin_lock(&cpu->mailbox.lock);
	if (cpu->mailbox.all)
		tlb_drop_all(cpu, true);
	for (unsigned i = 0; i < cpu->mailbox.n; i++) {
		int pcid = pcid_of(cpu, cpu->mailbox.ranges[i].mm);

		if (pcid >= 0)
			tlb_drop_range(cpu, (u32)pcid, cpu->mailbox.ranges[i].start,
				       cpu->mailbox.ranges[i].end);
	}
	cpu->mailbox.all = false;
	cpu->mailbox.n = 0;
	atomic_fetch_and_explicit(&cpu->attention, ~SOFT_FLUSH_POSTED, memory_order_relaxed);
	spin_unlock(&cpu->mailbox.lock);
	count(&cpu->flushes);
}

static void post_flush_all(struct soft_cpu *cpu)
{
	spin_lock(&cpu->mailbox.lock);
	cpu->mailbox.all = true;
	atomic_fetch_or_explicit(&cpu->attention, SOFT_FLUSH_POSTED, memory_order_release);
	spin_unlock(&cpu->mailbox.lock);
}

static void post_flush(struct soft_cpu *cpu, struct mm *mm, u64 start, u64 end)
{
	unsigned n;

	spin_lock(&cpu->mailbox.lock);
	n = cpu->mailbox.n;
	if (n == MAILBOX_RANGES) {
		cpu->mailbox.all = true;
	} else {
		cpu->mailbox.ranges[n].mm = mm;
		cpu->mailbox.ranges[n].start = start;
		cpu->mailbox.ranges[n].end = end;
		cpu->mailbox.n++;
	}
	atomic_fetch_or_explicit(&cpu->attention, SOFT_FLUSH_POSTED, memory_order_release);
	spin_unlock(&cpu->mailbox.lock);
}

/* Mostly a few ns; but the CPU's host thread may have lost its real CPU inside, and must get one
 * before it goes on: then we sleep, so as not to be in its way. */
static void wait_until_outside(const struct soft_cpu *cpu)
{
	const struct timespec nap = { .tv_nsec = 20000 };
	unsigned spins = 0;

	while (atomic_load_explicit(&cpu->inside, memory_order_acquire))
		if (++spins > 200)
			nanosleep(&nap, NULL);
}

/* A space's stamp is new after each of its flushes, and no other space ever has the same. */
static void stamp_space(struct soft_machine *m, struct mm *mm)
{
	u64 stamp = atomic_fetch_add(&m->stamp, 1) + 1;

	__atomic_store_n((u64 *)&mm->machine, stamp, __ATOMIC_SEQ_CST);
}

static u64 space_stamp(const struct mm *mm)
{
	return __atomic_load_n((const u64 *)&mm->machine, __ATOMIC_SEQ_CST);
}

/*
 * A CPU that loads mm only after we have looked at it walks tables that have been changed already:
 * loading is a sequentially consistent exchange, and the caller changed the entries by exchanges,
 * too.  What it kept of mm from an earlier time it drops, because it finds another stamp than it
 * had then: it looks at the stamp after the exchange, and we change it before we look at the CPU.
 */
void soft_shootdown(struct mm *mm, u64 start, u64 end)
{
	struct soft_machine *m = soft_of(mm->engine);
	bool posted[SOFT_MAX_CPUS] = { false }, any = false;
	unsigned i;

	if (m->pcids)
		stamp_space(m, mm);
	for (i = 0; i < m->nr_cpus; i++) {
		if (atomic_load(&m->cpus[i].mm) != mm)
			continue;
		post_flush(&m->cpus[i], mm, start, end);
		posted[i] = any = true;
	}
	if (!any)
		return;
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (i = 0; i < m->nr_cpus; i++)
		if (posted[i])
			wait_until_outside(&m->cpus[i]);
	atomic_fetch_add_explicit(&m->shootdowns, 1, memory_order_relaxed);
}

/* A CPU that begins an access after the barrier finds the second stage as it is now. */
void soft_shootdown_all(struct soft_machine *m)
{
	for (unsigned i = 0; i < m->nr_cpus; i++)
		post_flush_all(&m->cpus[i]);
	syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
	for (unsigned i = 0; i < m->nr_cpus; i++)
		wait_until_outside(&m->cpus[i]);
	atomic_fetch_add_explicit(&m->shootdowns, 1, memory_order_relaxed);
}

/* A PCID for mm: its own if it has one here, else one that is taken from another space. */
static struct soft_context *context_for(struct soft_cpu *cpu, struct mm *mm)
{
	int pcid = pcid_of(cpu, mm);
	struct soft_context *c;

	if (pcid > 0)
		return &cpu->contexts[pcid - 1];
	c = &cpu->contexts[cpu->next_context++ % SOFT_PCIDS];
	*c = (struct soft_context){ .mm = mm };
	return c;
}

static void load_with_pcid(struct soft_cpu *cpu, struct mm *mm)
{
	struct soft_machine *m = cpu->machine;
	struct soft_context *c;
	u64 stamp;

	/* What is posted for the old space until now is for its PCID. */
	atomic_exchange(&cpu->mm, mm);
	soft_take_mail(cpu);
	if (!mm)
		return;
	if (!space_stamp(mm))
		stamp_space(m, mm);
	c = context_for(cpu, mm);
	cpu->pcid = (u32)(c - cpu->contexts) + 1;
	stamp = space_stamp(mm);
	if (c->stamp != stamp)
		tlb_drop_pcid(cpu, cpu->pcid);
	c->stamp = stamp;
}

/* By value: a thread may go on when the machine that it drove is gone. */
static _Thread_local struct {
	const struct engine *engine;
	unsigned node, cpu;
} running;

static void runs_here(const struct soft_cpu *cpu)
{
	running.engine = &cpu->machine->engine;
	running.node = cpu->node;
	running.cpu = cpu->number;
}

unsigned soft_node(const struct engine *e)
{
	return running.engine == e ? running.node : 0;
}

struct mm *soft_current_mm(const struct engine *e)
{
	const struct soft_machine *m = e->machine;

	return running.engine == e ? atomic_load(&m->cpus[running.cpu].mm) : NULL;
}

void soft_load_mm(struct soft_cpu *cpu, struct mm *mm)
{
	runs_here(cpu);
	count(&cpu->loads);
	if (cpu->machine->pcids) {
		load_with_pcid(cpu, mm);
		return;
	}
	soft_take_mail(cpu);
	tlb_drop_all(cpu, false);
	atomic_exchange(&cpu->mm, mm);
}

void soft_set_control(struct soft_cpu *cpu, const struct mmu_control *control)
{
	const struct mmu_control *old = &cpu->control;
	bool empties = control->pge != old->pge || control->nxe != old->nxe ||
		       control->la57 != old->la57 || control->wp != old->wp;

	cpu->control = *control;
	if (empties)
		tlb_drop_all(cpu, true);
	else
		tlb_judge_again(cpu);
}

void soft_invlpg(struct soft_cpu *cpu, u64 va)
{
	tlb_drop_range(cpu, cpu->pcid, va & PAGE_MASK, (va & PAGE_MASK) + PAGE_SIZE);
}

/* ---- the access beyond a hit ---- */

static pte_t *table_at(void *ctx, u64 phys)
{
	struct soft_machine *m = ctx;

	if (phys >> PAGE_SHIFT >= m->nr_table)
		vmf_panic("soft: a table entry names frame %lx, which is no table frame",
			  (unsigned long)(phys >> PAGE_SHIFT));
	return (pte_t *)(m->memory + phys);
}

/* Go inside with the mail read. */
static void enter_without_mail(struct soft_cpu *cpu)
{
	for (;;) {
		soft_enter(cpu);
		if (likely(!(soft_attention(cpu) & SOFT_FLUSH_POSTED)))
			return;
		soft_leave(cpu);
		soft_take_mail(cpu);
	}
}

/* Of one access: what kind, and under which control bits. */
struct access {
	u32 kind; /* PF_WRITE, PF_INSTR, PF_USER, ACCESS_IMPLICIT */
	const struct mmu_control *control;
};

static struct tlb_entry *fault(struct soft_cpu *cpu, u64 va, u32 code)
{
	cpu->cr2 = va;
	cpu->error_code = code;
	count(&cpu->faults);
	/* A fault drops the entry of its page (SDM 4.10.4.1). */
	tlb_drop_range(cpu, cpu->pcid, va & PAGE_MASK, (va & PAGE_MASK) + PAGE_SIZE);
	return NULL;
}

/* Translate by a walk of the space's tables, and of the second stage if there is one.  Where the
 * bytes are that it leads to, NULL: where the tables say. */
static enum walk_status walk(struct soft_cpu *cpu, const struct mm *mm, u64 va,
			     const struct access *a, struct walk_result *w, char **host)
{
	struct soft_machine *m = cpu->machine;
	enum mmu_level top = a->control->la57 ? LEVEL_PGD : LEVEL_P4D;
	enum walk_status status;

	*host = NULL;
	count(&cpu->misses);
	if (unlikely(m->second))
		status = second_walk(cpu, a->control, mm->pgd_phys, va, a->kind, w, host);
	else
		status = mmu_walk(a->control, mm->pgd_phys, va, a->kind, table_at, m, w);
	if (status == WALK_OK)
		count_more(&cpu->references, top - w->level + 1);
	else if (status == WALK_FAULT)
		count_more(&cpu->vain_references, top - w->level + 1);
	else if (status == WALK_UNREACHABLE)
		count_more(&cpu->vain_references, top - w->level);
	return status;
}

/* The entry that allows the access, from the TLB or by a walk, or NULL with *status saying what the
 * walk met.  Inside. */
static struct tlb_entry *translate(struct soft_cpu *cpu, const struct mm *mm, u64 va,
				   const struct access *a, enum walk_status *status)
{
	struct soft_machine *m = cpu->machine;
	struct tlb_entry *t;
	struct walk_result w;
	char *bytes;
	u32 code;

	*status = WALK_FAULT;
	switch (tlb_look(cpu, a->control, va, a->kind, &t, &code)) {
	case TLB_HIT:
		if (m->checked)
			check_entry(cpu, t);
		return t;
	case TLB_FORBIDS:
		if (m->stale_rights)
			return fault(cpu, va, code);
		break;
	case TLB_MISS:
		break;
	}
	*status = walk(cpu, mm, va, a, &w, &bytes);
	if (*status == WALK_OK)
		return tlb_fill(cpu, va, &w, bytes);
	return *status == WALK_FAULT ? fault(cpu, va, w.error_code) : NULL;
}

static _Thread_local struct {
	void (*fn)(void *arg);
	void *arg;
} on_fault;

void soft_on_fault(void (*fn)(void *arg), void *arg)
{
	on_fault.fn = fn;
	on_fault.arg = arg;
}

/* FAULT_OK: the CPU is inside and *host is the byte at va; soft_leave() when done with it.
 * Otherwise it is outside, and the access cannot be made. */
static enum fault_reason begin_access(struct soft_cpu *cpu, u64 va, const struct access *a,
				      char **host)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	enum fault_reason reason;
	enum walk_status status;
	struct tlb_entry *t;
	unsigned n;

	if (!mm)
		vmf_panic("soft: CPU %u accesses %lx with no address space loaded", cpu->number,
			  (unsigned long)va);
	for (n = 0; n < FAULTS_IN_A_ROW; n++) {
		enter_without_mail(cpu);
		t = translate(cpu, mm, va, a, &status);
		if (t) {
			*host = t->host + page_offset(va);
			return FAULT_OK;
		}
		soft_leave(cpu);
		if (status == WALK_NONCANONICAL) {
			if (cpu->machine->general_protection)
				cpu->machine->general_protection(cpu);
			return FAULT_MAPERR;
		}
		runs_here(cpu);
		if (unlikely(on_fault.fn))
			on_fault.fn(on_fault.arg);
		if (unlikely(status == WALK_UNREACHABLE))
			reason = cpu->machine->second->resolve(cpu->machine->second, cpu);
		else
			reason = cpu->machine->trap(cpu, cpu->cr2, cpu->error_code).reason;
		if (reason == FAULT_RETRY)
			sched_yield();
		else if (reason != FAULT_OK)
			return reason;
	}
	vmf_panic("soft: CPU %u faults on %lx (error code %x) again and again", cpu->number,
		  (unsigned long)va, cpu->error_code);
}

static size_t piece(u64 va, size_t len)
{
	return min_of(len, PAGE_SIZE - page_offset(va));
}

static enum fault_reason read_as(struct soft_cpu *cpu, const struct access *a, u64 va, char *buf,
				 size_t len)
{
	enum fault_reason reason;
	char *host;
	size_t n;

	for (; len; va += n, buf += n, len -= n) {
		n = piece(va, len);
		reason = begin_access(cpu, va, a, &host);
		if (reason != FAULT_OK)
			return reason;
		memcpy(buf, host, n);
		soft_leave(cpu);
	}
	return FAULT_OK;
}

static enum fault_reason write_as(struct soft_cpu *cpu, const struct access *a, u64 va,
				  const char *buf, size_t len)
{
	enum fault_reason reason;
	char *host;
	size_t n;

	for (; len; va += n, buf += n, len -= n) {
		n = piece(va, len);
		reason = begin_access(cpu, va, a, &host);
		if (reason != FAULT_OK)
			return reason;
		memcpy(host, buf, n);
		soft_leave(cpu);
	}
	return FAULT_OK;
}

static struct access user_access(const struct soft_cpu *cpu, u32 kind)
{
	return (struct access){ .kind = PF_USER | kind, .control = &cpu->control };
}

enum fault_reason soft_read_slow(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	struct access a = user_access(cpu, 0);

	return read_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_fetch(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	struct access a = user_access(cpu, PF_INSTR);

	return read_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_write_slow(struct soft_cpu *cpu, u64 va, const void *buf, size_t len)
{
	struct access a = user_access(cpu, PF_WRITE);

	return write_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_kernel_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len, bool ac)
{
	struct mmu_control c = cpu->control;
	struct access a = { .control = &c };

	c.ac = ac;
	return read_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_kernel_write(struct soft_cpu *cpu, u64 va, const void *buf, size_t len,
				    bool ac)
{
	struct mmu_control c = cpu->control;
	struct access a = { .kind = PF_WRITE, .control = &c };

	c.ac = ac;
	return write_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_kernel_fetch(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	struct access a = { .kind = PF_INSTR, .control = &cpu->control };

	return read_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_implicit_read(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	struct access a = { .kind = ACCESS_IMPLICIT, .control = &cpu->control };

	return read_as(cpu, &a, va, buf, len);
}

enum fault_reason soft_add_u64(struct soft_cpu *cpu, u64 va, u64 add, u64 *old)
{
	struct access a = user_access(cpu, PF_WRITE);
	enum fault_reason reason;
	char *host;

	if (va % sizeof(u64))
		vmf_panic("soft: locked access to %lx is not aligned", (unsigned long)va);
	reason = begin_access(cpu, va, &a, &host);
	if (reason != FAULT_OK)
		return reason;
	*old = __atomic_fetch_add((u64 *)host, add, __ATOMIC_SEQ_CST);
	soft_leave(cpu);
	return FAULT_OK;
}

/* ---- setting up and checking ---- */

void soft_cpu_init(struct soft_cpu *cpu, struct soft_machine *m, unsigned number)
{
	memset(cpu, 0, sizeof(*cpu));
	running.engine = NULL; /* it may have been at this very address */
	cpu->machine = m;
	cpu->number = number;
	atomic_init(&cpu->attention, m->checked ? SOFT_CHECKED : 0);
	spin_init(&cpu->mailbox.lock);
	cpu->control = m->control;
	for (unsigned i = 0; i < TLB_ENTRIES; i++)
		cpu->origin[i].page = TLB_NONE;
	for (unsigned i = 0; i < TLB_LARGE_ENTRIES; i++)
		cpu->large[i].page = TLB_NONE;
	tlb_drop_all(cpu, true);
}

/*
 * What the entry was made from is what the tables give now, and allows no more.  By the hardware's
 * own walk, which sets the bits that the CPU's use of the entry set already; an accessed bit that
 * was reset since is set again.
 */
static void check_against_tables(struct soft_cpu *cpu, const struct tlb_origin *o,
				 const struct mm *mm)
{
	struct mmu_control all = cpu->control;
	struct walk_result w;

	/* The kernel may read whatever is there. */
	all.ac = true;
	if (mmu_walk(&all, mm->pgd_phys, o->page, 0, table_at, cpu->machine, &w) != WALK_OK)
		vmf_panic("soft: CPU %u holds %lx, which the tables do not", cpu->number,
			  (unsigned long)o->page);
	if (w.phys >> PAGE_SHIFT != o->pfn)
		vmf_panic("soft: CPU %u holds %lx as another frame than the tables do", cpu->number,
			  (unsigned long)o->page);
	if (o->level != w.level)
		vmf_panic("soft: CPU %u holds %lx in another size than the tables do", cpu->number,
			  (unsigned long)o->page);
	if ((o->write && !w.write) || (o->user && !w.user) || (!o->nx && w.nx))
		vmf_panic("soft: CPU %u allows more at %lx than the tables do", cpu->number,
			  (unsigned long)o->page);
	if (o->dirty && !pte_dirty(w.leaf))
		vmf_panic("soft: CPU %u would write to %lx, whose entry is clean, without a walk",
			  cpu->number, (unsigned long)o->page);
}

/* Those of spaces that are not loaded may be out of date. */
static void check_origin(struct soft_cpu *cpu, const struct tlb_origin *o, const struct mm *mm)
{
	if (o->page != TLB_NONE && (o->global || o->pcid == cpu->pcid))
		check_against_tables(cpu, o, mm);
}

void soft_check_tlbs(struct soft_machine *m)
{
	for (unsigned i = 0; i < m->nr_cpus; i++) {
		struct soft_cpu *cpu = &m->cpus[i];

		const struct mm *mm = atomic_load(&cpu->mm);

		soft_take_mail(cpu);
		for (unsigned k = 0; mm && k < TLB_ENTRIES; k++)
			check_origin(cpu, &cpu->origin[k], mm);
		for (unsigned k = 0; mm && k < TLB_LARGE_ENTRIES; k++)
			check_origin(cpu, &cpu->large[k], mm);
	}
}
