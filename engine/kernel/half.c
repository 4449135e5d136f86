/* SPDX-License-Identifier: MIT */
/* The kernel half of the address space: see kernel.h. */
#include "engine/base/errno.h"
#include "engine/engine.h"
#include "engine/kernel/kernel.h"
#include "engine/mmu/walk.h"

#define FIRST_KERNEL_ENTRY (PTRS_PER_TABLE / 2)
/* Rights are given by the leaf alone. */
#define TABLE_ENTRY_BITS (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED)

static pte_t *table_bytes(const struct kernel *kernel, u64 pfn)
{
	const struct zone *z = &kernel->engine->zones[ZONE_TABLE];

	return (pte_t *)((char *)z->direct_map + ((pfn - z->start_pfn) << PAGE_SHIFT));
}

/* An entry for a fresh table, or none. */
static pte_t table_new(struct kernel *kernel)
{
	struct page *page = page_alloc(kernel->engine, ZONE_TABLE, 0, ALLOC_ZERO | ALLOC_NORECLAIM);

	if (!page)
		return (pte_t){ 0 };
	page_set(page, PG_TABLE);
	atomic_fetch_add(&kernel->engine->kernel_tables, 1);
	return pte_make(page_pfn(kernel->engine, page), TABLE_ENTRY_BITS);
}

static void table_free(struct kernel *kernel, pte_t entry)
{
	struct page *page = pfn_page(kernel->engine, pte_pfn(entry));

	page_clear(page, PG_TABLE);
	atomic_fetch_sub(&kernel->engine->kernel_tables, 1);
	page_put(kernel->engine, page);
}

/* The table below the entry, made if it is missing and wanted; NULL. */
static pte_t *table_below(struct kernel *kernel, pte_t *slot, bool make)
{
	pte_t entry = pte_read(slot);

	if (!pte_present(entry) && make) {
		spin_lock(&kernel->table_lock);
		entry = pte_read(slot);
		if (!pte_present(entry)) {
			entry = table_new(kernel);
			pte_store(slot, entry);
		}
		spin_unlock(&kernel->table_lock);
	}
	return pte_present(entry) ? table_bytes(kernel, pte_pfn(entry)) : NULL;
}

static pte_t *walk_to_leaf(struct kernel *kernel, u64 va, bool make)
{
	pte_t *table = kernel->pgd;
	unsigned read = 0;

	for (enum mmu_level level = LEVEL_P4D; table && level > LEVEL_PTE; level--, read++)
		table = table_below(kernel, &table[level_index(level, va)], make);
	observe(kernel->engine, STEP_READ_TABLES, va, read);
	return table ? &table[level_index(LEVEL_PTE, va)] : NULL;
}

pte_t *kernel_pte(const struct kernel *kernel, u64 va)
{
	return walk_to_leaf((struct kernel *)kernel, va, false);
}

int kernel_init_half(struct kernel *kernel)
{
	pte_t root = table_new(kernel);

	if (pte_none(root))
		return -ENOMEM;
	spin_init(&kernel->table_lock);
	kernel->pgd = table_bytes(kernel, pte_pfn(root));
	kernel->pgd_phys = pte_pfn(root) << PAGE_SHIFT;
	if (kernel->half != KERNEL_HALF_SHARED)
		return 0;
	for (unsigned i = FIRST_KERNEL_ENTRY; i < PTRS_PER_TABLE; i++) {
		if (!table_below(kernel, &kernel->pgd[i], true)) {
			kernel_fini_half(kernel);
			return -ENOMEM;
		}
	}
	return 0;
}

static void free_below(struct kernel *kernel, pte_t *table, enum mmu_level level)
{
	for (unsigned i = 0; level > LEVEL_PTE && i < PTRS_PER_TABLE; i++) {
		pte_t entry = pte_read(&table[i]);

		if (!pte_present(entry))
			continue;
		free_below(kernel, table_bytes(kernel, pte_pfn(entry)), level - 1);
		table_free(kernel, entry);
	}
}

void kernel_fini_half(struct kernel *kernel)
{
	free_below(kernel, kernel->pgd, LEVEL_P4D);
	table_free(kernel, pte_make(kernel->pgd_phys >> PAGE_SHIFT, 0));
	kernel->pgd = NULL;
}

void kernel_attach(struct kernel *kernel, struct mm *mm)
{
	if (kernel->half != KERNEL_HALF_SHARED)
		return;
	for (unsigned i = FIRST_KERNEL_ENTRY; i < PTRS_PER_TABLE; i++)
		pte_store(&mm->pgd[i], pte_read(&kernel->pgd[i]));
}

int kernel_map(struct kernel *kernel, u64 va, u64 pfn, u64 bits)
{
	pte_t *ptep;

	if (va < KERNEL_START || !PAGE_ALIGNED(va))
		return -EINVAL;
	ptep = walk_to_leaf(kernel, va, true);
	if (!ptep)
		return -ENOMEM;
	return pte_replace(ptep, (pte_t){ 0 }, pte_make(pfn, bits | PTE_PRESENT | PTE_ACCESSED))
		       ? 0
		       : -EEXIST;
}

s64 kernel_unmap(struct kernel *kernel, u64 va)
{
	pte_t *ptep = va >= KERNEL_START ? kernel_pte(kernel, va) : NULL;
	pte_t old = ptep ? pte_exchange(ptep, (pte_t){ 0 }) : (pte_t){ 0 };

	return pte_present(old) ? (s64)pte_pfn(old) : -ENOENT;
}

bool vmalloc_fault(struct kernel *kernel, struct mm *mm, u64 va)
{
	unsigned i = level_index(LEVEL_P4D, va);
	pte_t theirs;

	if (kernel->half != KERNEL_HALF_LAZY || va < kernel->vmalloc_start ||
	    va >= kernel->vmalloc_end)
		return false;
	theirs = pte_read(&kernel->pgd[i]);
	if (!pte_present(theirs))
		return false;
	/* Another CPU may have been here since we faulted: then it is the page that counts. */
	if (pte_present(pte_read(&mm->pgd[i]))) {
		const pte_t *ptep = kernel_pte(kernel, va);

		return ptep && pte_present(pte_read(ptep));
	}
	/* Or it is here just now: both write the same. */
	pte_store(&mm->pgd[i], theirs);
	return true;
}

bool spurious_kernel_fault(struct kernel *kernel, u64 va, u32 code)
{
	const pte_t *ptep;
	pte_t pte;

	/* Only a write or a fetch that an entry forbade can have been allowed meanwhile: what was
	 * absent is never in a TLB. */
	if (code != (PF_PROT | PF_WRITE) && code != (PF_PROT | PF_INSTR))
		return false;
	ptep = kernel_pte(kernel, va);
	if (!ptep)
		return false;
	pte = pte_read(ptep);
	return pte_present(pte) && !(code & PF_WRITE && !pte_write(pte)) &&
	       !(code & PF_INSTR && pte_nx(pte));
}
