/* SPDX-License-Identifier: MIT */
/* The guest's page tables: see guest.h. */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/xen/guest.h"

/* ---- hypercalls that the guest makes ---- */

/* Xen must not refuse its guest what that has a right to. */
static void must(int err, const char *what, u64 va)
{
	if (err)
		vmf_panic("xen: %s at %lx is refused: %d", what, (unsigned long)va, err);
}

static bool is_pinned(struct guest *g, struct mm *mm)
{
	return frames_look(&g->xen.frames, mm->pgd_phys >> PAGE_SHIFT).pinned;
}

/* Is the space the one whose tables this CPU has loaded? */
static bool is_current(struct guest *g, struct mm *mm)
{
	return atomic_load(&g->xen.vcpus[xen_cpu(&g->xen)].base) == mm->pgd_phys >> PAGE_SHIFT;
}

static const char *const update_text[] = {
	"mmu_update: this entry of another space's table",
	"update_va_mapping: this frame, there",
};

/* One operation: the entry of va becomes pte; what it was. */
static pte_t update(struct guest *g, struct mm *mm, u64 va, pte_t *ptep, pte_t pte, bool keep)
{
	pte_t old;

	if (is_current(g, mm) && !keep)
		must(xen_update_va(&g->xen, xen_cpu(&g->xen), va, pte, &old), "an entry", va);
	else
		must(xen_mmu_update(&g->xen, guest_machine_address(g, ptep), pte, keep, &old),
		     "an entry", va);
	return old;
}

/* The CPU whose store is to change an entry, as Xen emulates it; NULL: it is asked by a call. */
static struct soft_cpu *storing_cpu(struct guest *g)
{
	return g->xen.writable_tables ? xen_running_cpu(&g->xen) : NULL;
}

/* An exchange, by a store to a table that is read-only. */
static pte_t exchange(struct guest *g, struct soft_cpu *cpu, u64 va, pte_t *ptep, pte_t pte)
{
	pte_t old;

	must(xen_guest_exchange(&g->xen, cpu, GUEST_MAP + guest_machine_address(g, ptep), pte,
				&old),
	     "a store", va);
	return old;
}

/* The same by either way, and what it is called if it is a call. */
static pte_t change_one(struct guest *g, struct mm *mm, u64 va, pte_t *ptep, pte_t pte,
			const char *call)
{
	struct soft_cpu *cpu = storing_cpu(g);
	pte_t old;

	if (cpu)
		return exchange(g, cpu, va, ptep, pte);
	xen_hypercall(call, 1);
	old = update(g, mm, va, ptep, pte, false);
	xen_return();
	return old;
}

/* Absent -> present, n entries: all with one call, or by stores. */
static void set_all(struct guest *g, struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes,
		    unsigned n)
{
	struct soft_cpu *cpu = storing_cpu(g);

	if (!cpu)
		xen_hypercall(n > 1 ? "multicall: these frames, there"
				    : update_text[is_current(g, mm)],
			      n);
	for (unsigned i = 0; i < n; i++, va += PAGE_SIZE) {
		pte_t old = cpu ? exchange(g, cpu, va, ptep + i, ptes[i])
				: update(g, mm, va, ptep + i, ptes[i], false);

		if (pte_mapped(old))
			vmf_panic("xen: set of %lx, which is present", (unsigned long)va);
		if (!cpu) /* of a store Xen has told it before it returned */
			ledger_step(&xen_in_guest,
				    "finds the frame to be the guest's and no table, holds it, "
				    "writes the entry",
				    va);
	}
	if (!cpu)
		xen_return();
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct guest *g = guest_of_mm(mm);

	if (!is_pinned(g, mm))
		return g->counted.set(mm, va, ptep, ptes, pages, n);
	set_all(g, mm, va, ptep, ptes, n);
	return (int)n;
}

/* Changes that are put off: of this thread, between begin_batch() and end_batch(). */
static _Thread_local struct {
	bool on;
	unsigned n;
	struct {
		u64 va;
		pte_t *ptep, pte;
	} changes[GUEST_BATCH];
} lazy;

static void begin_batch(struct mm *mm)
{
	lazy.on = is_pinned(guest_of_mm(mm), mm);
}

static void make_changes(struct mm *mm)
{
	if (!lazy.n)
		return;
	xen_hypercall(lazy.n > 1 ? "multicall: these entries with other rights"
				 : "mmu_update: the entry with other rights",
		      lazy.n);
	for (unsigned i = 0; i < lazy.n; i++)
		update(guest_of_mm(mm), mm, lazy.changes[i].va, lazy.changes[i].ptep,
		       lazy.changes[i].pte, true);
	xen_return();
	lazy.n = 0;
}

static void end_batch(struct mm *mm)
{
	make_changes(mm);
	lazy.on = false;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct guest *g = guest_of_mm(mm);

	if (lazy.on) {
		lazy.changes[lazy.n].va = va;
		lazy.changes[lazy.n].ptep = ptep;
		lazy.changes[lazy.n].pte = pte;
		if (++lazy.n == GUEST_BATCH)
			make_changes(mm);
		return;
	}

	if (!is_pinned(g, mm)) {
		g->counted.change(mm, va, ptep, pte);
		return;
	}
	xen_hypercall("mmu_update: the entry with other rights", 1);
	update(g, mm, va, ptep, pte, true);
	xen_return();
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct guest *g = guest_of_mm(mm);

	if (!is_pinned(g, mm))
		return g->counted.clean(mm, va, ptep);
	return change_one(g, mm, va, ptep, pte_without(pte_read(ptep), PTE_WRITE | PTE_DIRTY),
			  "mmu_update: the entry read-only and clean");
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct guest *g = guest_of_mm(mm);

	if (!is_pinned(g, mm))
		return g->counted.clear(mm, va, ptep, left);
	return change_one(g, mm, va, ptep, left,
			  is_current(g, mm)
				  ? "update_va_mapping: nothing there"
				  : "mmu_update: nothing there, in another space's table");
}

static void put_back(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct guest *g = guest_of_mm(mm);

	if (is_pinned(g, mm))
		change_one(g, mm, va, ptep, pte, "mmu_update: the entry as it was");
	else
		pte_store(ptep, pte);
}

static bool test_and_clear_young(struct mm *mm, u64 va, pte_t *ptep)
{
	struct guest *g = guest_of_mm(mm);
	pte_t pte = pte_read(ptep), old;

	if (!pte_young(pte) || !is_pinned(g, mm))
		return g->counted.test_and_clear_young(mm, va, ptep);
	xen_hypercall("mmu_update: the entry not accessed", 1);
	old = update(g, mm, va, ptep, pte_without(pte, PTE_ACCESSED), false);
	/* Set by the hardware since we looked: it must not be lost. */
	if (pte_dirty(old) && !pte_dirty(pte))
		update(g, mm, va, ptep, old, true);
	xen_return();
	return true;
}

/* One page of a batch. */
static void take_one(struct guest *g, struct mm *mm, struct mmu_take *t)
{
	pte_t old = update(g, mm, t->va, t->ptep, t->left, false);

	t->dirty = pte_dirty(old);
	t->result = 0;
	if (!pte_mapped(old)) {
		update(g, mm, t->va, t->ptep, (pte_t){ 0 }, false);
		t->dirty = false;
		t->result = -ENOENT;
	} else if (pte_pfn(old) != page_pfn(mm->engine, t->page)) {
		vmf_panic("xen: take of %lx names another frame", (unsigned long)t->va);
	}
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct guest *g = guest_of_mm(mm);
	unsigned taken = 0;

	if (!is_pinned(g, mm))
		return g->counted.take(mm, takes, n);
	xen_hypercall("multicall: nothing there, and there; then a flush", n + 1);
	for (unsigned i = 0; i < n; i++) {
		take_one(g, mm, &takes[i]);
		taken += !takes[i].result;
	}
	if (taken)
		g->counted.flush(mm, takes[0].va, takes[n - 1].va + PAGE_SIZE);
	xen_return();
	return taken;
}

static void flush(struct mm *mm, u64 start, u64 end)
{
	struct guest *g = guest_of_mm(mm);

	if (start >= end || !is_pinned(g, mm)) {
		g->counted.flush(mm, start, end);
		return;
	}
	xen_hypercall("mmuext_op: flush, on the CPUs that run this space", 1);
	g->counted.flush(mm, start, end);
	xen_return();
}

/* ---- tables ---- */

/* One operation: the guest's own mapping of a frame. */
static void map_own(struct guest *g, u64 pfn, bool writable)
{
	u64 bits = PTE_PRESENT | PTE_NX | PTE_ACCESSED | (writable ? PTE_WRITE | PTE_DIRTY : 0);
	pte_t old;

	must(xen_update_va(&g->xen, xen_cpu(&g->xen), guest_va(pfn), pte_make(pfn, bits), &old),
	     "the guest's own mapping", guest_va(pfn));
}

static void set_table(struct mm *mm, pte_t *slot, pte_t entry)
{
	struct guest *g = guest_of_mm(mm);
	bool comes = pte_present(entry);
	u64 pfn = pte_pfn(comes ? entry : pte_read(slot));
	pte_t old;

	if (!is_pinned(g, mm)) {
		pte_store(slot, entry);
		return;
	}
	xen_hypercall(comes ? "multicall: my mapping of this frame read-only; it is a table, there"
			    : "multicall: no table there; my mapping of it writable",
		      2);
	if (comes)
		map_own(g, pfn, false);
	must(xen_mmu_update(&g->xen, guest_machine_address(g, slot), entry, false, &old), "a table",
	     guest_va(pfn));
	ledger_step(&xen_in_guest,
		    comes ? "validates the table's entries, and holds what they name"
			  : "lets go of what the table's entries named",
		    0);
	if (!comes)
		map_own(g, pfn, true);
	xen_return();
}

struct batch {
	struct guest *g;
	const char *what;
	bool writable;
	unsigned n;
	u64 pfns[GUEST_BATCH];
};

static void batch_done(struct batch *b)
{
	if (!b->n)
		return;
	xen_hypercall(b->what, b->n);
	for (unsigned i = 0; i < b->n; i++)
		map_own(b->g, b->pfns[i], b->writable);
	xen_return();
	b->n = 0;
}

static void batch_add(struct batch *b, u64 pfn)
{
	b->pfns[b->n++] = pfn;
	if (b->n == GUEST_BATCH)
		batch_done(b);
}

/* The tables of a space: those of its lower half, for the upper is everybody's. */
static void each_table(struct batch *b, u64 pfn, enum mmu_level level)
{
	const pte_t *table = (const pte_t *)b->g->base.machine->memory + pfn * PTRS_PER_TABLE;
	unsigned n = level == LEVEL_P4D ? PTRS_PER_TABLE / 2 : PTRS_PER_TABLE;

	for (unsigned i = 0; level > LEVEL_PTE && i < n; i++)
		if (pte_present(pte_read(&table[i])))
			each_table(b, pte_pfn(pte_read(&table[i])), level - 1);
	batch_add(b, pfn);
}

void guest_pin(struct guest *g, struct mm *mm)
{
	struct batch b = { .g = g, .what = "multicall: my mappings of these tables read-only" };
	unsigned slot = level_index(LEVEL_P4D, GUEST_MAP);
	u64 root = mm->pgd_phys >> PAGE_SHIFT;

	pte_store(&mm->pgd[slot], pte_read(&g->kernel.pgd[slot]));
	each_table(&b, root, LEVEL_P4D);
	batch_done(&b);
	xen_hypercall("mmuext_op: pin this table as a root", 1);
	must(frames_pin(&g->xen.frames, XEN_GUEST, root, FRAME_L4), "a root", guest_va(root));
	xen_return();
}

void guest_unpin(struct guest *g, struct mm *mm)
{
	struct batch b = { .g = g,
			   .what = "multicall: my mappings of these tables writable",
			   .writable = true };
	u64 root = mm->pgd_phys >> PAGE_SHIFT;

	xen_hypercall("mmuext_op: unpin this root", 1);
	must(frames_unpin(&g->xen.frames, XEN_GUEST, root), "an unpinned root", guest_va(root));
	xen_return();
	pte_store(&mm->pgd[level_index(LEVEL_P4D, GUEST_MAP)], (pte_t){ 0 });
	each_table(&b, root, LEVEL_P4D);
	batch_done(&b);
}

void guest_take_mmu_ops(struct guest *g)
{
	struct mmu_ops *ops = &g->base.mmu;

	g->counted = *ops;
	ops->set = set;
	ops->change = change;
	ops->begin_batch = begin_batch;
	ops->end_batch = end_batch;
	ops->clean = clean;
	ops->clear = clear;
	ops->put_back = put_back;
	ops->set_table = set_table;
	ops->test_and_clear_young = test_and_clear_young;
	ops->take = take;
	ops->flush = flush;
	/* A paravirtualised guest has no huge pages. */
	ops->set_huge = NULL;
	ops->change_huge = NULL;
	ops->clear_huge = NULL;
	ops->test_and_clear_young_huge = NULL;
}

/* ---- the guest's half: what Xen's builder of domains makes ---- */

static int map_all(struct guest *g)
{
	u64 n = g->base.machine->nr_table + g->base.machine->nr_user;
	int err = 0;

	for (u64 pfn = 0; !err && pfn < n; pfn++)
		err = kernel_map(&g->kernel, guest_va(pfn), pfn, PTE_WRITE | PTE_DIRTY | PTE_NX);
	/* Not before all is mapped: to map takes tables. */
	for (u64 pfn = 0; !err && pfn < n; pfn++) {
		pte_t *pte = kernel_pte(&g->kernel, guest_va(pfn));

		if (page_test(pfn_page(g->kernel.engine, pfn), PG_TABLE))
			pte_store(pte, pte_without(pte_read(pte), PTE_WRITE | PTE_DIRTY));
	}
	return err;
}

/* A frame of the guest's kernel; NULL. */
static struct page *own_page(struct guest *g)
{
	struct engine *e = g->kernel.engine;
	struct page *page = page_alloc(e, ZONE_TABLE, 0, ALLOC_ZERO | ALLOC_NORECLAIM);

	if (page)
		atomic_fetch_add(&e->kernel_tables, 1);
	return page;
}

static void free_own_page(struct guest *g, struct page *page)
{
	if (!page)
		return;
	atomic_fetch_sub(&g->kernel.engine->kernel_tables, 1);
	page_put(g->kernel.engine, page);
}

/* Stacks, and the ring with the swap area behind it.  0, -ENOMEM. */
static int make_pages(struct guest *g)
{
	struct engine *e = g->kernel.engine;

	for (unsigned i = 0; i < g->base.machine->nr_cpus; i++) {
		g->stacks[i] = own_page(g);
		if (!g->stacks[i])
			return -ENOMEM;
		xen_stack_switch(&g->xen, i, guest_va(page_pfn(e, g->stacks[i])) + PAGE_SIZE);
	}
	g->ring_page = own_page(g);
	if (!g->ring_page)
		return -ENOMEM;
	blkring_init(&g->ring, &g->xen, page_direct(e, g->ring_page), &g->base.store.store);
	return 0;
}

int guest_start(struct guest *g)
{
	struct mm *mm = g->base.mm;
	u64 root = mm->pgd_phys >> PAGE_SHIFT;
	unsigned slot = level_index(LEVEL_P4D, GUEST_MAP);
	int err;

	g->kernel.engine = mm->engine;
	g->kernel.half = KERNEL_HALF_LAZY;
	err = kernel_init_half(&g->kernel);
	if (err)
		return err;
	err = map_all(g);
	if (!err)
		err = make_pages(g);
	if (err)
		return err;
	pte_store(&mm->pgd[slot], pte_read(&g->kernel.pgd[slot]));
	must(frames_pin(&g->xen.frames, XEN_GUEST, g->kernel.pgd_phys >> PAGE_SHIFT, FRAME_L4),
	     "the guest's root", GUEST_MAP);
	must(frames_pin(&g->xen.frames, XEN_GUEST, root, FRAME_L4), "the first root",
	     guest_va(root));
	for (unsigned i = 0; i < g->base.machine->nr_cpus; i++)
		must(xen_new_baseptr(&g->xen, i, root), "the first base", guest_va(root));
	return 0;
}

void guest_stop(struct guest *g)
{
	blkring_fini(&g->ring);
	for (unsigned i = 0; i < g->base.machine->nr_cpus; i++)
		free_own_page(g, g->stacks[i]);
	free_own_page(g, g->ring_page);
	if (g->kernel.pgd)
		kernel_fini_half(&g->kernel);
}
