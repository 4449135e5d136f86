/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/ledger.h"
#include "systems/nested/host.h"

#define AWAY_FILL 0xa5 /* the frame of a page that is away is somebody else's */

int host_init(struct host_memory *h, char *bytes, u64 nr)
{
	*h = (struct host_memory){ .bytes = bytes, .nr = nr };
	spin_init(&h->lock);
	h->states = calloc(nr, sizeof(*h->states));
	h->saved = calloc(nr, sizeof(*h->saved));
	if (h->states && h->saved)
		return 0;
	host_fini(h);
	return -ENOMEM;
}

void host_fini(struct host_memory *h)
{
	for (u64 i = 0; h->saved && i < h->nr; i++)
		free(h->saved[i]);
	free(h->saved);
	free(h->states);
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
		if (h->states[i] != state)
			return false;
	return true;
}

/* Frames are zeros until they are given: from the beginning, or since their page was discarded. */
static void give(struct host_memory *h, u64 page)
{
	u64 first = page, end = page + 1;

	if (h->huge && block_is(h, page, HOST_NONE)) {
		first = page / HOST_BLOCK * HOST_BLOCK;
		end = block_end(h, page);
	}
	for (u64 i = first; i < end; i++)
		h->states[i] = HOST_HERE;
	ledger_add(PAID_FRAMES_ALLOCATED, end - first);
}

static void bring_back(struct host_memory *h, u64 page)
{
	memcpy(h->bytes + page * PAGE_SIZE, h->saved[page], PAGE_SIZE);
	free(h->saved[page]);
	h->saved[page] = NULL;
	h->states[page] = HOST_HERE;
	ledger_count(PAID_IO_READS);
}

int host_fault_in(struct host_memory *h, u64 page, bool nowait)
{
	int err = 0;

	spin_lock(&h->lock);
	if (h->states[page] == HOST_NONE)
		give(h, page);
	else if (h->states[page] == HOST_AWAY && nowait)
		err = -EAGAIN;
	else if (h->states[page] == HOST_AWAY)
		bring_back(h, page);
	spin_unlock(&h->lock);
	return err;
}

enum mmu_level host_level(struct host_memory *h, u64 page)
{
	enum mmu_level level = LEVEL_PTE;

	spin_lock(&h->lock);
	if (h->huge && block_is(h, page, HOST_HERE) &&
	    (page / HOST_BLOCK + 1) * HOST_BLOCK <= h->nr)
		level = LEVEL_PMD;
	spin_unlock(&h->lock);
	return level;
}

/* ---- pages go ---- */

static void tell(struct host_memory *h, u64 first, u64 n, bool begins)
{
	if (h->invalidate)
		h->invalidate(h->ctx, first, n, begins);
}

int host_page_out(struct host_memory *h, u64 page)
{
	char *copy = malloc(PAGE_SIZE), *bytes = h->bytes + page * PAGE_SIZE;
	int err = -ENOENT;

	if (!copy)
		return -ENOMEM;
	tell(h, page, 1, true);
	spin_lock(&h->lock);
	if (h->states[page] == HOST_HERE) {
		memcpy(copy, bytes, PAGE_SIZE);
		memset(bytes, AWAY_FILL, PAGE_SIZE);
		h->saved[page] = copy;
		h->states[page] = HOST_AWAY;
		ledger_count(PAID_IO_WRITES);
		copy = NULL;
		err = 0;
	}
	spin_unlock(&h->lock);
	tell(h, page, 1, false);
	free(copy);
	return err;
}

int host_discard(struct host_memory *h, u64 page, u64 n)
{
	if (page >= h->nr || n > h->nr - page)
		return -EINVAL;
	tell(h, page, n, true);
	spin_lock(&h->lock);
	for (u64 i = page; i < page + n; i++) {
		free(h->saved[i]);
		h->saved[i] = NULL;
		h->states[i] = HOST_NONE;
	}
	memset(h->bytes + page * PAGE_SIZE, 0, n * PAGE_SIZE);
	ledger_add(PAID_PAGES_ZEROED, n);
	spin_unlock(&h->lock);
	tell(h, page, n, false);
	return 0;
}
