/* SPDX-License-Identifier: MIT */
/*
 * The engine on a machine like a host kernel's: translations that live elsewhere, pages whose bytes
 * are at their place or in a staging buffer, no accessed bits, every page dirty, writes that are
 * not reported; pages that vanish or appear without the engine's being told, pages that are pinned,
 * calls that must be made again.
 *
 *   hosted [OPERATIONS [SEED]]
 *
 * Bytes must be a byte array's, and all invariants hold after every operation.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/errno.h"
#include "engine/fault/fault.h"
#include "engine/reclaim/internal.h"
#include "machine/soft/host.h"
#include "stores/memory.h"

enum { PAGES = 1024, FRAMES = 200, TABLES = 64 };

#define WINDOW 0x7f00001ff000ULL

/* ---- the host: what is really there ---- */

static struct {
	char *bytes; /* NULL: absent */
	bool pinned;
} host[PAGES];

static unsigned char model[PAGES][PAGE_SIZE];
static unsigned char prot[PAGES]; /* MAPPED and VM_READ ... */
#define MAPPED 0x80

static char *staged[TABLES + FRAMES]; /* by pfn */
static struct engine e;
static struct mm *mm;
static unsigned again; /* 1 of so many stages and sets fails; 0: none */
static u64 state;

static unsigned below(unsigned n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (state * 0x2545f4914f6cdd1dULL >> 33) % n;
}

static unsigned page_of(u64 va)
{
	if (va < WINDOW || va >= WINDOW + PAGES * PAGE_SIZE)
		machine_panic("the engine left the window");
	return (va - WINDOW) / PAGE_SIZE;
}

static int hosted_stage(struct engine *en, struct page **pages, unsigned n)
{
	if (again && !below(again))
		return -EAGAIN;
	for (unsigned i = 0; i < n; i++) {
		char **s = &staged[page_pfn(en, pages[i])];

		if (*s)
			machine_panic("staged twice");
		*s = malloc(PAGE_SIZE);
		memset(*s, 0xee, PAGE_SIZE);
	}
	return 0;
}

static void forget(struct engine *en, struct page *page)
{
	free(staged[page_pfn(en, page)]);
	staged[page_pfn(en, page)] = NULL;
}

static void *hosted_bytes(struct engine *en, struct page *page)
{
	if (!staged[page_pfn(en, page)])
		machine_panic("bytes of a page that is not staged");
	return staged[page_pfn(en, page)];
}

static int hosted_set(struct mm *m, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		      unsigned n)
{
	unsigned i, most = again ? 1 + below(n) : n;

	(void)m;
	if (again && !below(again))
		return -EAGAIN;
	for (i = 0; i < most; i++) {
		unsigned p = page_of(va) + i;
		u64 pfn = page_pfn(&e, pages[i]);

		if (!prot[p])
			return i ? (int)i : -ENOENT;
		if (host[p].bytes)
			return i ? (int)i : -EEXIST;
		if (!staged[pfn])
			machine_panic("set of a page that is not staged");
		host[p].bytes = staged[pfn];
		staged[pfn] = NULL;
		pte_store(&ptep[i], ptes[i]);
	}
	return i;
}

static void hosted_change(struct mm *m, u64 va, pte_t *ptep, pte_t pte)
{
	(void)m, (void)va;
	pte_store(ptep, pte);
}

static pte_t hosted_clear(struct mm *m, u64 va, pte_t *ptep, pte_t left)
{
	(void)m, (void)va;
	return pte_exchange(ptep, left);
}

static bool hosted_young(struct mm *m, u64 va, pte_t *ptep)
{
	(void)m, (void)va, (void)ptep;
	return false;
}

static unsigned hosted_take(struct mm *m, struct mmu_take *takes, unsigned n)
{
	unsigned taken = 0;

	(void)m;
	for (unsigned i = 0; i < n; i++) {
		struct mmu_take *t = &takes[i];
		unsigned p = page_of(t->va);

		t->dirty = true;
		if (!host[p].bytes) {
			pte_store(t->ptep, (pte_t){ 0 });
			t->result = -ENOENT;
		} else if (host[p].pinned) {
			t->result = -EBUSY;
		} else if (again && !below(3 * again)) {
			t->result = -EAGAIN;
		} else {
			staged[page_pfn(&e, t->page)] = host[p].bytes;
			host[p].bytes = NULL;
			pte_store(t->ptep, t->left);
			t->result = 0;
			taken++;
		}
	}
	return taken;
}

static void hosted_flush(struct mm *m, u64 start, u64 end)
{
	(void)m, (void)start, (void)end;
}

static const struct mmu_ops hosted_ops = {
	.name = "hosted",
	.stage = hosted_stage,
	.unstage = forget,
	.bytes = hosted_bytes,
	.set = hosted_set,
	.change = hosted_change,
	.clear = hosted_clear,
	.test_and_clear_young = hosted_young,
	.take = hosted_take,
	.flush = hosted_flush,
	.release = forget,
	.silent_write = true,
	.pages_vanish = true,
};

/* ---- the program ---- */

static void drop(unsigned p)
{
	free(host[p].bytes);
	host[p].bytes = NULL;
	host[p].pinned = false;
}

static u64 va_of(unsigned p)
{
	return WINDOW + p * PAGE_SIZE;
}

static void must(bool what, const char *text)
{
	if (!what)
		machine_panic(text);
}

static pte_t entry_of(unsigned p)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, va_of(p), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static bool knows(unsigned p)
{
	return pte_mapped(entry_of(p));
}

/* The engine has other bytes for a page that appeared: the system would not take that one. */
static bool knows_other(unsigned p)
{
	return pte_is_swap(entry_of(p));
}

/* What the kernel does for an access: the rights are its business, an absent page is ours. */
static void touch(unsigned p, bool write, unsigned value)
{
	unsigned tries = 0, at = value * 17 % PAGE_SIZE;

	if (!(prot[p] & (write ? VM_WRITE : VM_ACCESS)))
		return;
	/* Two CPUs at once: the second comes when the page is there already. */
	if (host[p].bytes && !below(8)) {
		struct fault_result r = do_user_addr_fault(mm, WINDOW + p * PAGE_SIZE, PF_USER);

		must(r.reason == FAULT_OK || r.reason == FAULT_RETRY, "a second fault failed");
		/* With a run it may be a neighbour that the machine refused.  And who wants a frame
		 * for it may have taken this very page. */
		must(r.reason == FAULT_RETRY || again || e.config.prefetch > 1 || knows(p) ||
			     !host[p].bytes,
		     "the page is there, the engine was told and does not know it");
	}
	while (!host[p].bytes) {
		struct fault_result r = do_user_addr_fault(mm, WINDOW + p * PAGE_SIZE + at,
							   PF_USER | (write ? PF_WRITE : 0));

		if (r.reason != FAULT_OK && r.reason != FAULT_RETRY)
			machine_panic("a fault that is allowed failed");
		if (++tries > 1000)
			machine_panic("a fault without end");
		reclaim_step(&e, 2);
	}
	if (memcmp(host[p].bytes, model[p], PAGE_SIZE))
		machine_panic("wrong bytes");
	if (write) {
		host[p].bytes[at] = value;
		model[p][at] = value;
	}
}

/* What is mapped of [p, p + n) belongs to one VMA? */
static bool whole(unsigned p, unsigned n)
{
	struct vma *vma = find_vma(mm, va_of(p));

	return vma && vma->start <= va_of(p) && vma->end >= va_of(p + n);
}

static void move(unsigned p, unsigned n, unsigned to)
{
	if ((p < to + n && to < p + n) || !whole(p, n))
		return;
	/* The kernel first, then the engine is told: as events come. */
	for (unsigned i = 0; i < n; i++) {
		drop(to + i);
		host[to + i] = host[p + i];
		host[p + i].bytes = NULL;
		memcpy(model[to + i], model[p + i], PAGE_SIZE);
		prot[to + i] = prot[p + i];
		memset(model[p + i], 0, PAGE_SIZE);
		prot[p + i] = 0;
	}
	must(vm_remap(mm, va_of(p), n * PAGE_SIZE, n * PAGE_SIZE, VREMAP_MAYMOVE | VREMAP_FIXED,
		      va_of(to)) == (s64)va_of(to),
	     "remap failed");
}

static void operation(void)
{
	static const unsigned sizes[] = { 1, 4, 20, 100, 400 };
	unsigned p = below(PAGES), n = 1 + below(sizes[below(ARRAY_SIZE(sizes))]), i;
	unsigned value = below(256), to = below(PAGES);
	int err;

	n = min_of(n, PAGES - p);
	to = min_of(to, PAGES - n);
	switch (below(16)) {
	case 0:
		for (i = p; i < p + n; i++) {
			drop(i);
			prot[i] = MAPPED | VM_READ | VM_WRITE;
			memset(model[i], 0, PAGE_SIZE);
		}
		must(vm_map(mm, va_of(p), n * PAGE_SIZE, VM_READ | VM_WRITE, VMAP_FIXED, 0) ==
			     (s64)va_of(p),
		     "map failed");
		break;
	case 1:
		if (n > 100)
			return;
		for (i = p; i < p + n; i++) {
			drop(i);
			prot[i] = 0;
			memset(model[i], 0, PAGE_SIZE);
		}
		must(!vm_unmap(mm, va_of(p), n * PAGE_SIZE), "unmap failed");
		break;
	case 2:
		for (i = p; i < p + n && prot[i]; i++)
			prot[i] = MAPPED | (value & 4 ? VM_READ | VM_WRITE : value & VM_READ);
		vm_protect(mm, va_of(p), n * PAGE_SIZE,
			   value & 4 ? VM_READ | VM_WRITE : value & VM_READ);
		break;
	case 3:
		move(p, n, to);
		break;
	case 4:
		for (i = p; i < p + n; i++) {
			if (!prot[i])
				continue;
			drop(i);
			memset(model[i], 0, PAGE_SIZE);
		}
		vm_advise(mm, va_of(p), n * PAGE_SIZE, VADV_DONTNEED);
		break;
	case 5: /* the system takes a page that the program said it may */
		for (i = p; i < p + n; i++)
			if (host[i].bytes && !knows_other(i) && !below(4)) {
				drop(i);
				memset(model[i], 0, PAGE_SIZE);
			}
		break;
	case 6: /* a page appears, and the engine may be told later or find out by itself */
		for (i = p; i < p + n && i < p + 10; i++) {
			if (!(prot[i] & VM_WRITE) || host[i].bytes)
				continue;
			host[i].bytes = malloc(PAGE_SIZE);
			memset(host[i].bytes, value, PAGE_SIZE);
			memset(model[i], value, PAGE_SIZE);
			if (value & 1)
				continue;
			down_read(&mm->mmap_lock);
			err = adopt_page(mm, find_vma(mm, va_of(i)), va_of(i));
			must(!err || err == -EEXIST, "adopt failed");
			up_read(&mm->mmap_lock);
		}
		break;
	case 7:
		if (host[p].bytes)
			host[p].pinned = !host[p].pinned;
		break;
	case 8:
		reclaim_range(mm, va_of(p), va_of(p + n));
		break;
	case 9:
		reclaim_direct(&e, n % 32);
		break;
	case 10:
		if (!below(10))
			again = value & 1 ? 2 + value % 20 : 0;
		break;
	case 11:
		for (i = n; i--;)
			touch(p + i, value & 1, value);
		break;
	default:
		for (i = 0; i < n; i++)
			touch(p + i, value & 1, value);
		break;
	}
}

/* A page that the engine thinks it has and the machine has not, and the other way round, are
 * allowed; a mapped page's frame has no staged bytes, one on its way out has. */
static void check(void)
{
	engine_check(&e);
	for (u64 pfn = TABLES; pfn < TABLES + FRAMES; pfn++) {
		struct page *page = pfn_page(&e, pfn);

		must(!staged[pfn] == !page_test(page, PG_WRITEBACK),
		     "a frame has staged bytes or lacks them");
	}
}

static void *plain_alloc(void *ctx, u64 bytes)
{
	void *p = aligned_alloc(64, (bytes + 63) & ~63ULL);

	(void)ctx;
	return p ? memset(p, 0, bytes) : p;
}

static void plain_free(void *ctx, void *p, u64 bytes)
{
	(void)ctx, (void)bytes;
	free(p);
}

int main(int argc, char **argv)
{
	unsigned n = argc > 1 ? strtoul(argv[1], NULL, 0) : 5000;
	u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (u64)time(NULL);
	struct engine_memory memory = { .alloc = plain_alloc, .free = plain_free };
	struct engine_config config = { .marks = { 12, 24, 48 } };
	void *tables = aligned_alloc(PAGE_SIZE, TABLES * PAGE_SIZE);
	struct store *store;

	state = seed * 0x9e3779b97f4a7c15ULL + 1;
	config.prefetch = (unsigned[]){ 1, 8, 64 }[below(3)];
	config.segment = (unsigned[]){ 1, 16, 64 }[below(3)];
	config.kept_slots = (unsigned[]){ 0, 30, 4096 }[below(3)];
	printf("hosted: seed %lu, %u operations, prefetch %u, segment %u, kept %lu\n",
	       (unsigned long)seed, n, config.prefetch, config.segment,
	       (unsigned long)config.kept_slots);
	fflush(stdout);
	must(!memory_store_create(&memory, COMPRESS_LZ4, 4096, 0, 1, &store), "no store");
	must(!engine_init(&e, &hosted_ops, &memory, &config, TABLES, tables, FRAMES, NULL, store),
	     "no engine");
	must(!mm_create(&e, PAGE_SIZE, 1ULL << 47, &mm), "no space");
	for (unsigned i = 0; i < n; i++) {
		operation();
		check();
	}
	for (unsigned i = 0; i < PAGES; i++)
		touch(i, false, 0);
	check();
	printf("hosted: %lu minor, %lu major, %lu second chances, %lu prefetched; evicted %lu "
	       "clean, "
	       "%lu dirty, %lu same-filled; %lu untakeable\n",
	       e.stats->minor, e.stats->major, e.stats->second_chance, e.stats->prefetched,
	       e.stats->evicted_clean, e.stats->evicted_dirty, e.stats->same_filled,
	       e.stats->untakeable);
	for (unsigned i = 0; i < PAGES; i++)
		drop(i);
	mm_destroy(mm);
	engine_check(&e);
	engine_fini(&e);
	memory_store_destroy(store);
	free(tables);
	return 0;
}
