/* SPDX-License-Identifier: MIT */
#include "engine/reclaim/kswapd.h"

#include "engine/engine.h"
#include "engine/reclaim/internal.h"

static void wake_if_worth_it(struct engine *e, unsigned nid)
{
	if (atomic_load_explicit(&e->kswapd[nid].failures, memory_order_relaxed) < KSWAPD_FAILURES)
		kswapd_wake(e, nid);
}

void kswapd_enter(struct engine *e, unsigned nid)
{
	e->wake_kswapd = wake_if_worth_it;
	atomic_fetch_add(&e->kswapd[nid].threads, 1);
}

void kswapd_leave(struct engine *e, unsigned nid)
{
	atomic_fetch_sub(&e->kswapd[nid].threads, 1);
}

void kswapd_wait(struct engine *e, unsigned nid)
{
	struct kswapd *k = &e->kswapd[nid];

	machine_wait(&k->news, 0);
	atomic_store(&k->news, 0);
}

u64 kswapd_run(struct engine *e, unsigned nid)
{
	u64 freed = reclaim_balance_node(e, nid);

	stat_add(&e->kswapd[nid].freed, freed);
	if (freed)
		atomic_store_explicit(&e->kswapd[nid].failures, 0, memory_order_relaxed);
	else
		atomic_fetch_add_explicit(&e->kswapd[nid].failures, 1, memory_order_relaxed);
	return freed;
}

void kswapd_try_again(struct engine *e)
{
	for (unsigned i = 0; e->wake_kswapd && i < e->numa.nr; i++)
		atomic_store_explicit(&e->kswapd[i].failures, 0, memory_order_relaxed);
}

void kswapd_wake(struct engine *e, unsigned nid)
{
	struct kswapd *k = &e->kswapd[nid];

	if (atomic_load_explicit(&k->news, memory_order_relaxed) || atomic_exchange(&k->news, 1))
		return;
	stat_add(&k->woken, 1);
	machine_wake(&k->news, ~0u >> 1);
}
