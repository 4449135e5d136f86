/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/fault/fault.h"
#include "engine/reclaim/policy.h"
#include "machine/soft/soft.h"
#include "systems/common/lab_store.h"
#include "systems/ledger.h"
#include "systems/nested/host.h"

#define AWAY_FILL    0xa5 /* the frame of a page that is away is somebody else's */
#define PROCESS_LOW  0x10000ULL
#define PROCESS_HIGH 0x7f0000000000ULL
#define AREA	     0x100000000000ULL
#define SPARE_FRAMES 256

struct host_kernel {
	struct host_memory *memory;
	struct engine engine;
	struct mmu_ops mmu;
	struct mm *mm;
	struct lab_store swap;
	void *tables;
};

static const struct ledger_actor host_actor = { .name = "the host", .ring = -1, .domain = 2 };

/* ---- the host's machine: pages lie at their place, or are being filled or written out ---- */

static struct host_memory *memory_of(const struct engine *e)
{
	return container_of(e, struct host_kernel, engine)->memory;
}

static u64 page_at(u64 va)
{
	return (va - AREA) >> PAGE_SHIFT;
}

static void set_state(struct host_memory *h, u64 page, enum host_state state)
{
	atomic_store_explicit(&h->states[page], (u8)state, memory_order_release);
}

static enum host_state state_of(const struct host_memory *h, u64 page)
{
	return atomic_load_explicit(&h->states[page], memory_order_acquire);
}

static void forget(struct engine *e, struct page *page)
{
	(void)e;
	free((void *)page->where);
	page->where = 0;
}

static int stage(struct engine *e, struct page **pages, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		pages[i]->where = (u64)malloc(PAGE_SIZE);
		if (pages[i]->where)
			continue;
		while (i)
			forget(e, pages[--i]);
		return -EAGAIN;
	}
	return 0;
}

static void *bytes_of(struct engine *e, struct page *page)
{
	(void)e;
	return (void *)page->where;
}

/* A page of zeros that the host has not given before is as the guest has it: zeros, or what its
 * firmware and kernel were loaded with. */
static bool brings_bytes(const struct host_memory *h, u64 at, const struct page *page)
{
	const u64 *words = (const u64 *)page->where;

	for (unsigned i = 0; state_of(h, at) != HOST_AWAY && i < PAGE_SIZE / sizeof(*words); i++)
		if (words[i])
			return true;
	return state_of(h, at) == HOST_AWAY;
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct host_memory *h = memory_of(mm->engine);

	for (unsigned i = 0; i < n; i++) {
		u64 at = page_at(va) + i;

		if (brings_bytes(h, at, pages[i]))
			memcpy(h->bytes + at * PAGE_SIZE, (void *)pages[i]->where, PAGE_SIZE);
		if (state_of(h, at) != HOST_AWAY)
			ledger_count(PAID_FRAMES_ALLOCATED);
		forget(mm->engine, pages[i]);
		pte_store(&ptep[i], ptes[i]);
		set_state(h, at, HOST_HERE);
	}
	return (int)n;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	(void)mm, (void)va;
	pte_store(ptep, pte);
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct host_memory *h = memory_of(mm->engine);

	if (h->bytes)
		memset(h->bytes + page_at(va) * PAGE_SIZE, 0, PAGE_SIZE);
	set_state(h, page_at(va), HOST_NONE);
	return pte_with(pte_exchange(ptep, left), PTE_DIRTY);
}

static bool young(struct mm *mm, u64 va, pte_t *ptep)
{
	(void)mm, (void)va, (void)ptep;
	return false;
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct host_memory *h = memory_of(mm->engine);
	unsigned taken = 0;

	for (unsigned i = 0; i < n; i++) {
		char *at = h->bytes + page_at(takes[i].va) * PAGE_SIZE, *copy = malloc(PAGE_SIZE);

		takes[i].result = copy ? 0 : -EAGAIN;
		if (!copy)
			continue;
		memcpy(copy, at, PAGE_SIZE);
		memset(at, AWAY_FILL, PAGE_SIZE);
		takes[i].page->where = (u64)copy;
		takes[i].dirty = true;
		pte_store(takes[i].ptep, takes[i].left);
		set_state(h, page_at(takes[i].va), HOST_AWAY);
		taken++;
	}
	return taken;
}

static void flush(struct mm *mm, u64 start, u64 end)
{
	(void)mm, (void)start, (void)end; /* the notifier has told the guests' hypervisor */
}

static const struct mmu_ops host_mmu_ops = {
	.name = "host",
	.stage = stage,
	.unstage = forget,
	.bytes = bytes_of,
	.set = set,
	.change = change,
	.clear = clear,
	.test_and_clear_young = young,
	.never_young = true,
	.take = take,
	.flush = flush,
	.release = forget,
	.silent_write = true,
};

/* ---- its life ---- */

static int start_kernel(struct host_memory *h, struct host_kernel *k)
{
	u64 frames = h->nr + SPARE_FRAMES, tables = h->nr / PTRS_PER_TABLE + 64;
	struct engine_config config = engine_default_config(frames);
	int err;

	config.prefetch = 1;
	config.policy = &policy_fifo;
	config.marks = (struct watermarks){ .min = 1, .low = 2, .high = 3 };
	config.thp = THP_NEVER;
	k->tables = aligned_alloc(PAGE_SIZE, tables * PAGE_SIZE);
	if (!k->tables)
		return -ENOMEM;
	err = engine_init(&k->engine, &host_mmu_ops, &soft_host_memory, &config, tables, k->tables,
			  frames, NULL, &k->swap.store);
	if (err)
		return err;
	err = mm_create(&k->engine, PROCESS_LOW, PROCESS_HIGH, &k->mm);
	if (!err &&
	    vm_map(k->mm, AREA, h->nr * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0) != AREA)
		err = -ENOMEM;
	if (err) {
		if (k->mm)
			mm_destroy(k->mm);
		engine_fini(&k->engine);
	}
	return err;
}

int host_init(struct host_memory *h, char *bytes, u64 nr)
{
	struct host_kernel *k = calloc(1, sizeof(*k));
	int err = -ENOMEM;

	*h = (struct host_memory){ .bytes = bytes, .nr = nr };
	h->states = calloc(nr, sizeof(*h->states));
	if (k && h->states && !lab_store_init(&k->swap, nr)) {
		k->memory = h;
		err = start_kernel(h, k);
		if (err)
			lab_store_fini(&k->swap);
	}
	if (!err) {
		h->kernel = k;
		return 0;
	}
	if (k)
		free(k->tables);
	free(k);
	free((void *)h->states);
	return err;
}

void host_fini(struct host_memory *h)
{
	struct host_kernel *k = h->kernel;

	h->bytes = NULL; /* the guest's machine may be gone */
	mm_destroy(k->mm);
	engine_fini(&k->engine);
	lab_store_fini(&k->swap);
	free(k->tables);
	free(k);
	free((void *)h->states);
}

struct mm *host_mm(struct host_memory *h)
{
	return h->kernel->mm;
}

u64 host_address(u64 page)
{
	return AREA + page * PAGE_SIZE;
}

static u64 blocks(const struct host_memory *h)
{
	return (h->nr + HOST_BLOCK - 1) / HOST_BLOCK;
}

u64 host_end_hfn(const struct host_memory *h)
{
	return HOST_FIRST_HFN + blocks(h) * HOST_BLOCK;
}

u64 host_hfn(const struct host_memory *h, u64 page)
{
	u64 block = blocks(h) - 1 - page / HOST_BLOCK;

	return HOST_FIRST_HFN + block * HOST_BLOCK + page % HOST_BLOCK;
}

u64 host_page_of(const struct host_memory *h, u64 hfn)
{
	u64 at = hfn - HOST_FIRST_HFN;

	if (at >= blocks(h) * HOST_BLOCK)
		return h->nr;
	return (blocks(h) - 1 - at / HOST_BLOCK) * HOST_BLOCK + at % HOST_BLOCK;
}

char *host_bytes(const struct host_memory *h, u64 hfn)
{
	u64 page = host_page_of(h, hfn);

	if (page >= h->nr)
		vmf_panic("nested: host frame %lx is none", (unsigned long)hfn);
	return h->bytes + page * PAGE_SIZE;
}

/* ---- pages come ---- */

static u64 block_end(const struct host_memory *h, u64 page)
{
	return min_of((page / HOST_BLOCK + 1) * HOST_BLOCK, h->nr);
}

static bool block_is(const struct host_memory *h, u64 page, enum host_state state)
{
	for (u64 i = page / HOST_BLOCK * HOST_BLOCK; i < block_end(h, page); i++)
		if (state_of(h, i) != state)
			return false;
	return true;
}

/* One page, by a fault of the process's. */
static int fault_in(struct host_memory *h, u64 page)
{
	struct mm *mm = host_mm(h);

	while (state_of(h, page) != HOST_HERE) {
		struct fault_result r;

		ledger_step(&host_actor, "handle_mm_fault in the monitor's process",
			    host_address(page));
		r = resolve_fault(mm, host_address(page), PF_USER | PF_WRITE, FAULT_FLAG_USER);
		if (r.reason == FAULT_OOM)
			return -ENOMEM;
		if (r.reason != FAULT_OK && r.reason != FAULT_RETRY)
			return -EIO;
	}
	return 0;
}

int host_fault_in(struct host_memory *h, u64 page, bool nowait)
{
	u64 first = page, end = page + 1;
	int err = 0;

	if (nowait && state_of(h, page) == HOST_AWAY)
		return -EAGAIN;
	if (h->huge && block_is(h, page, HOST_NONE)) {
		first = page / HOST_BLOCK * HOST_BLOCK;
		end = block_end(h, page);
	}
	for (u64 i = first; !err && i < end; i++)
		err = fault_in(h, i);
	return err;
}

enum mmu_level host_level(struct host_memory *h, u64 page)
{
	bool whole = (page / HOST_BLOCK + 1) * HOST_BLOCK <= h->nr;

	return h->huge && whole && block_is(h, page, HOST_HERE) ? LEVEL_PMD : LEVEL_PTE;
}

/* ---- pages go ---- */

/* A page that is mapped with others goes with all of them, as far as guests are concerned: while it
 * goes nobody maps the block that it is in. */
static void tell(struct host_memory *h, u64 first, u64 n, bool begins)
{
	u64 end = first + n;

	if (h->huge) {
		first = first / HOST_BLOCK * HOST_BLOCK;
		end = block_end(h, end - 1);
	}
	if (h->invalidate)
		h->invalidate(h->ctx, first, end - first, begins);
}

int host_page_out(struct host_memory *h, u64 page)
{
	int err = 0;

	tell(h, page, 1, true);
	if (state_of(h, page) != HOST_HERE)
		err = -ENOENT;
	else
		reclaim_range(host_mm(h), host_address(page), host_address(page + 1));
	if (!err && state_of(h, page) != HOST_AWAY)
		err = -ENOMEM;
	tell(h, page, 1, false);
	return err;
}

int host_discard(struct host_memory *h, u64 page, u64 n)
{
	if (page >= h->nr || n > h->nr - page)
		return -EINVAL;
	tell(h, page, n, true);
	vm_advise(host_mm(h), host_address(page), n * PAGE_SIZE, VADV_DONTNEED);
	for (u64 i = page; i < page + n; i++) {
		if (state_of(h, i) == HOST_AWAY)
			memset(h->bytes + i * PAGE_SIZE, 0, PAGE_SIZE);
		set_state(h, i, HOST_NONE);
	}
	ledger_add(PAID_PAGES_ZEROED, n);
	tell(h, page, n, false);
	return 0;
}
