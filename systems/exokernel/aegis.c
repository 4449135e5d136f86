/* SPDX-License-Identifier: MIT */
/*
 * Aegis, whose hardware has a TLB and no page tables (Engler, Kaashoek, O'Toole, SOSP 1995), and a
 * library operating system as above it.
 *
 *   1. The TLB has no translation that allows the access: an exception to the kernel.
 *   2. The kernel looks into its software TLB.  A hit goes into the TLB, and the access is made
 * again: the library hears nothing of it.
 *   3. Otherwise it finds the library operating system by the time-slice vector, and enters it at
 * the exception context of its processor environment.
 *   4. The library looks up its own page table, which the kernel knows nothing of.  Is there no
 * page that allows the access, it decides, takes one of its frames and fills it; it keeps the
 * accessed and dirty bits, too.
 *   5. It has the translation installed: TLBwr, with the capability for the frame.
 *   6. The kernel only checks, and writes the translation into TLB and software TLB: a secure
 * binding, which is not checked again when it is used.
 *   7. The library restores the registers and jumps back; the kernel has no part in it.
 *
 * What the library takes away from its table it has deleted from the TLBs, page by page
 * (TLBvadelete): the kernel could not know.
 *
 * Why no CPU uses what was deleted: the library changes its table under the page-table lock, and
 * has the new entry installed under it, too.  So what was installed from the old entry was so
 * before the change, and the deletion comes after.  That empties the software TLB first and posts
 * the flush to the CPUs then; a CPU that has read the software TLB before fills its TLB outside of
 * an access, and reads its mail before the next one.
 */
#include "systems/exokernel/aegis.h"

#include "engine/base/errno.h"
#include "machine/soft/tlb.h"
#include "systems/exokernel/exokernel.h"
#include "systems/exokernel/internal.h"

/* From so many pages on the library has all of its space deleted rather than each. */
#define DELETE_MOST 512

/* The CPU that has entered a library on this thread; NULL: none has. */
static _Thread_local struct soft_cpu *this_cpu;

static struct aegis *of_mm(const struct mm *mm)
{
	return container_of(library_of(mm), struct exokernel, library)->aegis;
}

/* ---- the kernel ---- */

static void fill_tlb(struct soft_cpu *cpu, u64 va, pte_t pte)
{
	const struct walk_result w = {
		.level = LEVEL_PTE,
		.leaf = pte,
		.phys = (pte.v & PTE_PFN_MASK) | page_offset(va),
		.write = pte_write(pte),
		.user = pte_user(pte),
		.nx = pte_nx(pte),
	};

	tlb_fill(cpu, va, &w, NULL);
}

struct binding {
	struct aegis *aegis;
	unsigned env;
};

static void bind(void *arg, u64 va, pte_t pte)
{
	const struct binding *b = arg;

	stlb_write(&b->aegis->stlb, b->env, va, pte);
	if (!this_cpu || xok_faulting(b->aegis->xok, this_cpu) != b->env)
		return;
	/* What the library has had deleted goes first: it may be the page's old translation. */
	soft_take_mail(this_cpu);
	fill_tlb(this_cpu, va, pte);
}

int aegis_tlbwr(struct aegis *a, unsigned env, unsigned cap, unsigned target, u64 va, pte_t pte)
{
	struct binding b = { .aegis = a, .env = env };

	return xok_bind(a->xok, env, cap, target, va, pte, bind, &b);
}

int aegis_vadelete(struct aegis *a, unsigned env, unsigned target, u64 va)
{
	struct mm *mm = a->xok->envs[env].mm;

	if (target != env)
		return -EACCES;
	stlb_delete(&a->stlb, env, va);
	a->hardware.flush(mm, va & PAGE_MASK, (va & PAGE_MASK) + PAGE_SIZE);
	return 0;
}

int aegis_delete_all(struct aegis *a, unsigned env, unsigned target)
{
	struct mm *mm = a->xok->envs[env].mm;

	if (target != env)
		return -EACCES;
	stlb_delete_all(&a->stlb, env);
	a->hardware.flush(mm, mm->low, mm->high);
	return 0;
}

/* The hardware: nothing is walked, the miss is remembered. */
static enum walk_status miss(struct soft_second_stage *t, struct soft_cpu *cpu,
			     const struct mmu_control *control, u64 root, u64 va, u32 access,
			     struct walk_result *w, char **host)
{
	struct aegis *a = container_of(t, struct aegis, translation);

	(void)root, (void)host;
	if (!mmu_canonical(control, va))
		return WALK_NONCANONICAL;
	w->level = control->la57 ? LEVEL_PGD : LEVEL_P4D; /* no table was read */
	a->missed[cpu->number].va = va;
	a->missed[cpu->number].access = access & (PF_WRITE | PF_INSTR | PF_USER);
	return WALK_UNREACHABLE;
}

static enum fault_reason enter_library(struct aegis *a, struct soft_cpu *cpu)
{
	struct soft_cpu *before = this_cpu; /* a handler's fault, or nobody's */
	enum fault_reason reason;

	this_cpu = cpu;
	reason = xok_trap(a->xok, cpu, cpu->cr2, cpu->error_code, "TLB miss").reason;
	this_cpu = before;
	return reason;
}

/* The exception. */
static enum fault_reason tlb_miss(struct soft_second_stage *t, struct soft_cpu *cpu)
{
	struct aegis *a = container_of(t, struct aegis, translation);
	u64 va = a->missed[cpu->number].va;
	u32 access = a->missed[cpu->number].access;
	unsigned env = xok_faulting(a->xok, cpu);
	pte_t pte;

	cpu->cr2 = va;
	cpu->error_code = access;
	if (!stlb_look(&a->stlb, env, va, access, &pte))
		return enter_library(a, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_EXCEPTION, "TLB miss");
	ledger_step(&lab_kernel, "finds the translation in its software TLB", va);
	fill_tlb(cpu, va, pte);
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "the access is made again");
	return FAULT_OK;
}

static bool goes(const void *arg, pte_t pte)
{
	return atomic_load(xok_owner(arg, pte_pfn(pte))) == XOK_GOING;
}

static void unbind(struct xok *x)
{
	struct aegis *a = container_of(x, struct exokernel, xok)->aegis;

	stlb_delete_if(&a->stlb, goes, x);
}

static void unbind_env(struct xok *x, unsigned env)
{
	stlb_delete_all(&container_of(x, struct exokernel, xok)->aegis->stlb, env);
}

void aegis_init(struct aegis *a, struct exokernel *x)
{
	x->xok.unbind = unbind;
	x->xok.unbind_env = unbind_env;
	a->xok = &x->xok;
	a->hardware = x->base.mmu;
	stlb_init(&a->stlb);
	a->translation.walk = miss;
	a->translation.resolve = tlb_miss;
	x->base.machine->second = &a->translation;
}

/* ---- the library ---- */

/* What its table has for the access, which is noted there as hardware that walks would; *code as
 * such hardware would give it.  Page-table lock held. */
static bool look_up(pte_t *ptep, u32 *code, pte_t *pte)
{
	u64 seen = PTE_ACCESSED | (*code & PF_WRITE ? PTE_DIRTY : 0);

	*pte = pte_read(ptep);
	if (!pte_present(*pte))
		return false;
	*code |= PF_PROT;
	if (!stlb_allows(pte_with(*pte, seen), *code))
		return false;
	pte_set_bits(ptep, seen);
	*pte = pte_read(ptep);
	return true;
}

/* Its own library is refused nothing but a frame that was repossessed, and all of an environment
 * that was killed. */
static void must(int err, u64 va)
{
	if (err)
		vmf_panic("aegis: the kernel refuses its library %lx: %d", (unsigned long)va, err);
}

static bool may_be_refused(const struct library *l, unsigned env, int err, pte_t pte)
{
	if (err == -EBADF)
		return env == XOK_ENVS || !l->xok->envs[env].used;
	return err == -EACCES && library_lost(l, pte_pfn(pte));
}

/* Has the translation installed if the table allows the access. */
static bool install(struct library *l, struct mm *mm, u64 va, u32 *code)
{
	struct aegis *a = of_mm(mm);
	unsigned env = library_env(l, mm);
	bool found = false;
	spinlock_t *ptl;
	int err;
	pte_t *ptep, pte;

	*code &= ~PF_PROT;
	if (va < mm->low || va >= mm->high)
		return false;
	down_read(&mm->mmap_lock); /* the tables stay */
	ptep = pte_find(mm, va, &ptl);
	if (ptep) {
		spin_lock(ptl);
		found = look_up(ptep, code, &pte);
		if (found) {
			library_call("TLBwr: here is the capability for the frame", 1);
			err = aegis_tlbwr(a, env, LIBRARY_CAP, env, va & PAGE_MASK, pte);
			if (!may_be_refused(l, env, err, pte))
				must(err, va);
			ledger_step(&lab_kernel,
				    "checks the capability against the frame, and writes the "
				    "translation into TLB and software TLB",
				    va);
			library_returns();
		}
		spin_unlock(ptl);
	}
	up_read(&mm->mmap_lock);
	return found;
}

static struct fault_result fault(void *arg, struct mm *mm, const struct xok_trap_frame *f)
{
	struct fault_result r = { .reason = FAULT_OK };
	u32 code = (u32)f->code;

	library_read_vector(arg);
	if (install(arg, mm, f->va, &code))
		return r;
	this_cpu->error_code = code; /* for the program's handler */
	r = resolve_fault(mm, f->va, code, FAULT_FLAG_USER);
	if (r.reason == FAULT_OK)
		install(arg, mm, f->va, &code);
	return r;
}

static void delete_page(struct aegis *a, unsigned env, u64 va)
{
	library_call("TLBvadelete: this page's translation is to go", 1);
	must(aegis_vadelete(a, env, env, va), va);
	library_returns();
}

static void delete_range(struct mm *mm, u64 start, u64 end)
{
	struct aegis *a = of_mm(mm);
	unsigned env = library_env(library_of(mm), mm);

	/* A child that has not run yet has none. */
	if (env == XOK_ENVS)
		return;
	if (end - start <= DELETE_MOST * PAGE_SIZE) {
		for (u64 va = start & PAGE_MASK; va < end; va += PAGE_SIZE)
			delete_page(a, env, va);
		return;
	}
	library_call("all translations of this space are to go", 1);
	must(aegis_delete_all(a, env, env), start);
	library_returns();
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct aegis *a = of_mm(mm);
	unsigned env = library_env(library_of(mm), mm);
	unsigned taken = a->hardware.take(mm, takes, n);

	for (unsigned i = 0; i < n && env < XOK_ENVS; i++)
		if (!takes[i].result)
			delete_page(a, env, takes[i].va);
	return taken;
}

void aegis_become_library(struct aegis *a, struct library *l)
{
	void *(*bytes)(struct engine * e, struct page * page) = l->mmu.bytes;

	l->mmu = a->hardware; /* its table is its own memory */
	l->mmu.bytes = bytes;
	l->mmu.flush = delete_range;
	l->mmu.take = take;
	xok_set_handler(a->xok, l->env, LIBRARY_CAP, l->env, fault, l);
}

/* ---- checks ---- */

static void check_entry(struct aegis *a, const struct stlb_entry *e)
{
	struct mm *mm = a->xok->envs[e->asid].mm;
	spinlock_t *ptl;
	pte_t *ptep, pte;

	ptep = a->xok->envs[e->asid].used ? pte_find(mm, e->page, &ptl) : NULL;
	pte = ptep ? pte_read(ptep) : (pte_t){ 0 };
	if (!pte_present(pte) || pte_pfn(pte) != pte_pfn(e->pte))
		vmf_panic("aegis: the software TLB has %lx, which its library's table has not",
			  (unsigned long)e->page);
	if ((pte_write(e->pte) && !pte_write(pte)) || (!pte_nx(e->pte) && pte_nx(pte)) ||
	    (pte_dirty(e->pte) && !pte_dirty(pte)))
		vmf_panic("aegis: the software TLB allows more at %lx than its library's table",
			  (unsigned long)e->page);
}

void aegis_check(struct aegis *a)
{
	for (unsigned i = 0; i < STLB_ENTRIES; i++)
		if (a->stlb.entries[i].page != STLB_NONE)
			check_entry(a, &a->stlb.entries[i]);
}

/* ---- attacks: by the first environment, straight to the kernel ---- */

#define AT 0x20000000ULL

static struct aegis *attacked(struct system *s)
{
	return exokernel_of(s)->aegis;
}

static u64 own_frame(struct system *s)
{
	return attacked(s)->xok->machine->nr_table + 1;
}

/* By the call itself; nothing may have been installed. */
static int tlbwr(struct system *s, unsigned cap, unsigned target, u64 va, u64 pfn, u64 bits)
{
	struct aegis *a = attacked(s);
	int err = aegis_tlbwr(a, 0, cap, target, va, pte_make(pfn, PTE_PRESENT | bits));
	pte_t pte;

	return err && stlb_look(&a->stlb, target, va, 0, &pte) ? 1 : err;
}

static int kernel_frame(struct system *s)
{
	return tlbwr(s, LIBRARY_CAP, 0, AT, 0, PTE_USER);
}

static int another_s_frame(struct system *s)
{
	atomic_store(xok_owner(attacked(s)->xok, own_frame(s)), LIBRARY_RESOURCE + 1);
	return tlbwr(s, LIBRARY_CAP, 0, AT, own_frame(s), PTE_USER);
}

static int made_up_capability(struct system *s)
{
	return tlbwr(s, 5, 0, AT, own_frame(s), PTE_USER);
}

static int read_capability_for_writing(struct system *s)
{
	attacked(s)->xok->envs[0].caps[1] =
		(struct xok_capability){ .resource = LIBRARY_RESOURCE, .rights = XOK_READ };
	if (tlbwr(s, 1, 0, AT, own_frame(s), PTE_USER))
		return 1; /* reading is allowed */
	aegis_vadelete(attacked(s), 0, 0, AT);
	return tlbwr(s, 1, 0, AT, own_frame(s), PTE_USER | PTE_WRITE);
}

static int another_s_space(struct system *s)
{
	return tlbwr(s, LIBRARY_CAP, 1, AT, own_frame(s), PTE_USER);
}

static int kernel_address(struct system *s)
{
	return tlbwr(s, LIBRARY_CAP, 0, 0xffff800000000000ULL, own_frame(s), PTE_USER);
}

static int absent_entry(struct system *s)
{
	return aegis_tlbwr(attacked(s), 0, LIBRARY_CAP, 0, AT, pte_make(0, PTE_GLOBAL));
}

static int another_s_translation_goes(struct system *s)
{
	return aegis_vadelete(attacked(s), 0, 1, AT);
}

static int another_s_translations_go(struct system *s)
{
	return aegis_delete_all(attacked(s), 0, 1);
}

static const struct system_attack attacks[] = {
	{ "a translation to a frame of the kernel's", kernel_frame, -EACCES },
	{ "a translation to another's frame", another_s_frame, -EACCES },
	{ "a capability that is made up", made_up_capability, -EBADF },
	{ "a capability for reading, used for writing", read_capability_for_writing, -EACCES },
	{ "a translation in another's space", another_s_space, -EACCES },
	{ "a translation in the kernel's half", kernel_address, -EINVAL },
	{ "a translation that names no page", absent_entry, -EINVAL },
	{ "another's translation is deleted", another_s_translation_goes, -EACCES },
	{ "all of another's are deleted", another_s_translations_go, -EACCES },
	ENV_ATTACKS,
};

static const struct system_expectation expected[] = {
	{ PAID_EXCEPTIONS, 1, NULL },	{ PAID_UPCALLS, 1, NULL },
	{ PAID_SYSTEM_CALLS, 1, NULL }, /* TLBwr */
	{ PAID_CROSSINGS, 4, NULL },	{ PAID_CAPABILITIES, 1, NULL },
	{ PAID_DOMAINS, 0, NULL },	{ PAID_PAGES_ZEROED, 1, NULL },
	{ PAID_PAGES_COPIED, 0, NULL }, { PAID_WALK_READS, 0, NULL },
};

const struct system_type aegis_system = {
	.name = "aegis",
	.summary = "as xok, with a TLB that software fills: the library has its own page table",
	.attacks = attacks,
	.nr_attacks = ARRAY_SIZE(attacks),
	.expected = expected,
	.nr_expected = ARRAY_SIZE(expected),
	.create = exokernel_create,
};
