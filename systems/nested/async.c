/* SPDX-License-Identifier: MIT */
#include "engine/base/errno.h"
#include "systems/nested/async.h"

/* ---- the hypervisor's side ---- */

static bool asked_for(const struct async_host *h, u64 page)
{
	for (unsigned i = 0; i < h->n; i++)
		if (h->pages[i].page == page)
			return true;
	return false;
}

bool async_begin(struct async_host *h, u64 page, bool user, u32 *token)
{
	if (!(h->msr & ASYNC_ENABLED) || !(user || h->msr & ASYNC_KERNEL))
		return false;
	if (h->area->flags || h->n == ASYNC_PAGES || asked_for(h, page))
		return false;
	do
		*token = ++h->sequence;
	while (!*token || *token == ASYNC_WAKE_ALL);
	h->pages[h->n].token = *token;
	h->pages[h->n].page = page;
	h->pages[h->n++].done = false;
	h->area->flags = ASYNC_NOT_PRESENT;
	return true;
}

unsigned async_complete(struct async_host *h, struct host_memory *memory)
{
	unsigned came = 0;

	for (unsigned i = 0; i < h->n; i++) {
		if (h->pages[i].done)
			continue;
		/* If it cannot be had, who touches it again is told so. */
		host_fault_in(memory, h->pages[i].page, false);
		h->pages[i].done = true;
		came++;
	}
	return came;
}

static bool can_tell(const struct async_host *h)
{
	return !h->unacknowledged && !h->area->token;
}

bool async_deliver(struct async_host *h)
{
	for (unsigned i = 0; can_tell(h) && i < h->n; i++) {
		if (!h->pages[i].done)
			continue;
		h->area->token = h->pages[i].token;
		h->unacknowledged = true;
		h->pages[i] = h->pages[--h->n];
		return true;
	}
	return false;
}

void async_wake_all(struct async_host *h)
{
	h->n = 0;
	h->area->token = ASYNC_WAKE_ALL;
	h->unacknowledged = true;
}

int async_acknowledge(struct async_host *h)
{
	if (!h->unacknowledged || h->area->token)
		return -EINVAL;
	h->unacknowledged = false;
	return 0;
}

/* ---- the guest's side ---- */

static unsigned find(const struct async_guest *g, u32 token)
{
	unsigned i = 0;

	while (i < g->n && g->tokens[i].token != token)
		i++;
	return i;
}

static void forget(struct async_guest *g, unsigned i)
{
	g->tokens[i] = g->tokens[--g->n];
}

int async_guest_fault(struct async_guest *g, u32 cr2)
{
	u32 flags = g->area.flags;
	unsigned i = find(g, cr2);

	g->area.flags = 0;
	if (!(flags & ASYNC_NOT_PRESENT))
		return -ENOENT;
	if (i < g->n && !g->tokens[i].came)
		return -EEXIST;
	if (i < g->n) {
		forget(g, i);
		return 0;
	}
	if (g->n == ARRAY_SIZE(g->tokens))
		return -ENOSPC;
	g->tokens[g->n].token = cr2;
	g->tokens[g->n++].came = false;
	return 1;
}

int async_guest_ready(struct async_guest *g, u32 *token)
{
	unsigned i;

	*token = g->area.token;
	g->area.token = 0;
	if (!*token)
		return -ENOENT;
	if (*token == ASYNC_WAKE_ALL) {
		g->n = 0;
		return 1;
	}
	i = find(g, *token);
	if (i < g->n) {
		forget(g, i);
		return 1;
	}
	if (g->n == ARRAY_SIZE(g->tokens))
		return -ENOSPC;
	g->tokens[g->n].token = *token;
	g->tokens[g->n++].came = true;
	return 0;
}
