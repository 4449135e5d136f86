/* SPDX-License-Identifier: MIT */
/* CPUs and their TLBs: what happens beyond a hit.  cpu.h says how accesses and flushes meet. */
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/text.h"
#include "machine/soft/soft.h"

/* An access that faults so often in a row will never succeed: the engine says that it resolved the
 * fault, and did not. */
#define FAULTS_IN_A_ROW (1u << 22)

static void count(_Atomic u64 *counter)
{
	/* One writer: no need for a locked add. */
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
			      memory_order_relaxed);
}

/* ---- the TLB ---- */

static void drop_entry(struct tlb_entry *t)
{
	t->read = t->write = t->fetch = TLB_NONE;
}

static u64 entry_page(const struct tlb_entry *t)
{
	/* Whatever is allowed, reading is: x86 has no page that is only written or fetched. */
	return t->read;
}

static void drop_all(struct soft_cpu *cpu)
{
	unsigned i;

	for (i = 0; i < TLB_ENTRIES; i++)
		drop_entry(&cpu->tlb[i]);
}

static void drop_range(struct soft_cpu *cpu, u64 start, u64 end)
{
	unsigned i;
	u64 va;

	if (end - start <= TLB_ENTRIES / 4 * PAGE_SIZE) {
		for (va = start; va < end; va += PAGE_SIZE)
			if (entry_page(tlb_entry_for(cpu, va)) == va)
				drop_entry(tlb_entry_for(cpu, va));
		return;
	}
	for (i = 0; i < TLB_ENTRIES; i++)
		if (entry_page(&cpu->tlb[i]) >= start && entry_page(&cpu->tlb[i]) < end)
			drop_entry(&cpu->tlb[i]);
}

static void fill_entry(struct soft_cpu *cpu, u64 va, const struct walk_result *w)
{
	struct soft_machine *m = cpu->machine;
	struct tlb_entry *t = tlb_entry_for(cpu, va);
	struct tlb_origin *o = &cpu->origin[t - cpu->tlb];
	u64 page = va & PAGE_MASK;

	o->pfn = w->phys >> PAGE_SHIFT;
	if (o->pfn >= m->nr_table + m->nr_user)
		vmf_panic("soft: entry for %lx names frame %lx, which is not there",
			  (unsigned long)va, (unsigned long)o->pfn);
	o->generation = atomic_load_explicit(&m->generations[o->pfn], memory_order_relaxed);
	t->host = m->memory + (o->pfn << PAGE_SHIFT);
	t->read = page;
	t->write = w->write && pte_dirty(w->leaf) ? page : TLB_NONE;
	t->fetch = w->nx ? TLB_NONE : page;
}

static u64 tag_for(const struct tlb_entry *t, u32 access)
{
	if (access & PF_WRITE)
		return t->write;
	return access & PF_INSTR ? t->fetch : t->read;
}

/* The frame behind the entry must not have been released since: it may be anybody's by now. */
static void check_entry(const struct soft_cpu *cpu, const struct tlb_entry *t)
{
	const struct tlb_origin *o = &cpu->origin[t - cpu->tlb];

	if (atomic_load_explicit(&cpu->machine->generations[o->pfn], memory_order_relaxed) !=
	    o->generation)
		vmf_panic("soft: CPU %u still translates %lx to frame %lx, which was freed: "
			  "a flush was forgotten",
			  cpu->number, (unsigned long)entry_page(t), (unsigned long)o->pfn);
}

/* ---- flushes from elsewhere ---- */

static void take_mail(struct soft_cpu *cpu)
{
	unsigned i;

	spin_lock(&cpu->mailbox.lock);
	if (cpu->mailbox.all)
		drop_all(cpu);
	for (i = 0; i < cpu->mailbox.n; i++)
		drop_range(cpu, cpu->mailbox.ranges[i].start, cpu->mailbox.ranges[i].end);
	cpu->mailbox.all = false;
	cpu->mailbox.n = 0;
	atomic_fetch_and_explicit(&cpu->attention, ~SOFT_FLUSH_POSTED, memory_order_relaxed);
	spin_unlock(&cpu->mailbox.lock);
	count(&cpu->flushes);
}

static void post_flush(struct soft_cpu *cpu, u64 start, u64 end)
{
	unsigned n;

	spin_lock(&cpu->mailbox.lock);
	n = cpu->mailbox.n;
	if (n == MAILBOX_RANGES) {
		cpu->mailbox.all = true;
	} else {
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

/*
 * A CPU that loads mm only after we have looked at it starts with an empty TLB and walks tables
 * that have been changed already: loading is a sequentially consistent exchange, and the caller
 * changed the entries by exchanges, too.
 */
void soft_shootdown(struct mm *mm, u64 start, u64 end)
{
	struct soft_machine *m = soft_of(mm->engine);
	bool posted[SOFT_MAX_CPUS] = { false }, any = false;
	unsigned i;

	for (i = 0; i < m->nr_cpus; i++) {
		if (atomic_load(&m->cpus[i].mm) != mm)
			continue;
		post_flush(&m->cpus[i], start, end);
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

void soft_load_mm(struct soft_cpu *cpu, struct mm *mm)
{
	take_mail(cpu);
	drop_all(cpu);
	atomic_exchange(&cpu->mm, mm);
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
		take_mail(cpu);
	}
}

/* The entry that allows the access, from the TLB or by a walk, or NULL with *status saying what the
 * walk met.  Inside. */
static struct tlb_entry *translate(struct soft_cpu *cpu, const struct mm *mm, u64 va, u32 access,
				   enum walk_status *status)
{
	struct soft_machine *m = cpu->machine;
	struct tlb_entry *t = tlb_entry_for(cpu, va);
	struct walk_result w;

	if (tag_for(t, access) == (va & PAGE_MASK)) {
		if (m->checked)
			check_entry(cpu, t);
		return t;
	}
	count(&cpu->misses);
	*status = mmu_walk(&m->control, mm->pgd_phys, va, access, table_at, m, &w);
	if (*status == WALK_OK) {
		fill_entry(cpu, va, &w);
		return t;
	}
	if (*status == WALK_FAULT) {
		cpu->cr2 = va;
		cpu->error_code = w.error_code;
		count(&cpu->faults);
		/* A fault drops the entry of its page (SDM 4.10.4.1). */
		if (entry_page(t) == (va & PAGE_MASK))
			drop_entry(t);
	}
	return NULL;
}

/* FAULT_OK: the CPU is inside and *host is the byte at va; soft_leave() when done with it.
 * Otherwise it is outside, and the access cannot be made. */
static enum fault_reason begin_access(struct soft_cpu *cpu, u64 va, u32 access, char **host)
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
		t = translate(cpu, mm, va, access | PF_USER, &status);
		if (t) {
			*host = t->host + page_offset(va);
			return FAULT_OK;
		}
		soft_leave(cpu);
		if (status == WALK_NONCANONICAL)
			return FAULT_MAPERR;
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

static enum fault_reason read_slow(struct soft_cpu *cpu, u64 va, char *buf, size_t len, u32 access)
{
	enum fault_reason reason;
	char *host;
	size_t n;

	for (; len; va += n, buf += n, len -= n) {
		n = piece(va, len);
		reason = begin_access(cpu, va, access, &host);
		if (reason != FAULT_OK)
			return reason;
		memcpy(buf, host, n);
		soft_leave(cpu);
	}
	return FAULT_OK;
}

enum fault_reason soft_read_slow(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	return read_slow(cpu, va, buf, len, 0);
}

enum fault_reason soft_fetch(struct soft_cpu *cpu, u64 va, void *buf, size_t len)
{
	return read_slow(cpu, va, buf, len, PF_INSTR);
}

enum fault_reason soft_write_slow(struct soft_cpu *cpu, u64 va, const void *buf, size_t len)
{
	const char *from = buf;
	enum fault_reason reason;
	char *host;
	size_t n;

	for (; len; va += n, from += n, len -= n) {
		n = piece(va, len);
		reason = begin_access(cpu, va, PF_WRITE, &host);
		if (reason != FAULT_OK)
			return reason;
		memcpy(host, from, n);
		soft_leave(cpu);
	}
	return FAULT_OK;
}

enum fault_reason soft_add_u64(struct soft_cpu *cpu, u64 va, u64 add, u64 *old)
{
	enum fault_reason reason;
	char *host;

	if (va % sizeof(u64))
		vmf_panic("soft: locked access to %lx is not aligned", (unsigned long)va);
	reason = begin_access(cpu, va, PF_WRITE, &host);
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
	cpu->machine = m;
	cpu->number = number;
	atomic_init(&cpu->attention, m->checked ? SOFT_CHECKED : 0);
	spin_init(&cpu->mailbox.lock);
	drop_all(cpu);
}

/* By the hardware's own walk, which sets the bits that the CPU's use of the entry set already; an
 * accessed bit that was reset since is set again. */
static void check_against_tables(struct soft_cpu *cpu, const struct tlb_entry *t, u32 access)
{
	struct soft_machine *m = cpu->machine;
	const struct mm *mm = atomic_load(&cpu->mm);
	u64 va = entry_page(t);
	struct walk_result w;

	if (tag_for(t, access) == TLB_NONE)
		return;
	if (mmu_walk(&m->control, mm->pgd_phys, va, access | PF_USER, table_at, m, &w) != WALK_OK)
		vmf_panic("soft: CPU %u holds %lx for access %x, which the tables do not allow",
			  cpu->number, (unsigned long)va, access);
	if (w.phys >> PAGE_SHIFT != cpu->origin[t - cpu->tlb].pfn)
		vmf_panic("soft: CPU %u holds %lx as another frame than the tables do", cpu->number,
			  (unsigned long)va);
}

void soft_check_tlbs(struct soft_machine *m)
{
	unsigned i, k;

	for (i = 0; i < m->nr_cpus; i++) {
		struct soft_cpu *cpu = &m->cpus[i];

		if (!atomic_load(&cpu->mm))
			continue;
		take_mail(cpu);
		for (k = 0; k < TLB_ENTRIES; k++) {
			check_against_tables(cpu, &cpu->tlb[k], 0);
			check_against_tables(cpu, &cpu->tlb[k], PF_WRITE);
			check_against_tables(cpu, &cpu->tlb[k], PF_INSTR);
		}
	}
}
