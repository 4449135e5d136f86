/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "engine/base/errno.h"
#include "engine/fault/collapse.h"
#include "engine/fault/fault.h"
#include "machine/soft/background.h"

enum { NR_SLICED = 2 };

struct soft_background {
	struct engine *engine;
	_Atomic bool stop;
	unsigned n, nr_sliced;
	struct node_thread {
		struct soft_background *all;
		pthread_t thread;
		unsigned nid;
	} nodes[MAX_NUMNODES];
	struct sliced_thread {
		struct soft_background *all;
		pthread_t thread;
		struct soft_slices slices;
		void (*work)(struct engine *e, u64 pages);
	} sliced[NR_SLICED];
	pthread_mutex_t lock;
	pthread_cond_t stopping; /* those who rest sleep on it */
};

/* ---- reclaimers ---- */

static void *look_after_node(void *arg)
{
	struct node_thread *t = arg;
	struct engine *e = t->all->engine;

	while (!atomic_load(&t->all->stop)) {
		kswapd_wait(e, t->nid);
		kswapd_run(e, t->nid);
	}
	kswapd_leave(e, t->nid);
	return NULL;
}

/* It counts as one of the node's from the beginning: who allocates next wakes it. */
static int start_node(struct soft_background *b)
{
	struct node_thread *t = &b->nodes[b->n];

	*t = (struct node_thread){ .all = b, .nid = b->n };
	kswapd_enter(b->engine, t->nid);
	if (pthread_create(&t->thread, NULL, look_after_node, t)) {
		kswapd_leave(b->engine, t->nid);
		return -EAGAIN;
	}
	b->n++;
	return 0;
}

/* ---- who works by slices ---- */

static void collapse(struct engine *e, u64 pages)
{
	khugepaged_scan(e, pages);
}

static void ask_for_nodes(struct engine *e, u64 pages)
{
	numa_scan(e, pages);
}

static void rest(struct soft_background *b, unsigned us)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)(us % 1000000) * 1000;
	until.tv_sec += us / 1000000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&b->lock);
	while (!atomic_load(&b->stop) && !pthread_cond_timedwait(&b->stopping, &b->lock, &until))
		;
	pthread_mutex_unlock(&b->lock);
}

static void *work_by_slices(void *arg)
{
	struct sliced_thread *t = arg;

	while (!atomic_load(&t->all->stop)) {
		t->work(t->all->engine, t->slices.pages);
		rest(t->all, t->slices.us ? t->slices.us : SOFT_REST_US);
	}
	return NULL;
}

static int start_sliced(struct soft_background *b, const struct soft_slices *slices,
			void (*work)(struct engine *e, u64 pages))
{
	struct sliced_thread *t = &b->sliced[b->nr_sliced];

	if (!slices->pages)
		return 0;
	*t = (struct sliced_thread){ .all = b, .slices = *slices, .work = work };
	if (pthread_create(&t->thread, NULL, work_by_slices, t))
		return -EAGAIN;
	b->nr_sliced++;
	return 0;
}

/* ---- all ---- */

static struct soft_background *make(struct soft_machine *m)
{
	struct soft_background *b = calloc(1, sizeof(*b));
	pthread_condattr_t attr;

	if (!b)
		return NULL;
	b->engine = &m->engine;
	pthread_mutex_init(&b->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&b->stopping, &attr);
	pthread_condattr_destroy(&attr);
	return b;
}

int soft_background_start(struct soft_machine *m, const struct soft_background_options *options,
			  struct soft_background **background)
{
	struct soft_background *b = make(m);
	int err = 0;

	if (!b)
		return -ENOMEM;
	while (!err && b->n < m->engine.numa.nr)
		err = start_node(b);
	if (!err && options)
		err = start_sliced(b, &options->collapse, collapse);
	if (!err && options)
		err = start_sliced(b, &options->numa, ask_for_nodes);
	if (err)
		soft_background_stop(b);
	else
		*background = b;
	return err;
}

void soft_background_stop(struct soft_background *b)
{
	pthread_mutex_lock(&b->lock);
	atomic_store(&b->stop, true);
	pthread_cond_broadcast(&b->stopping);
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < b->n; i++)
		kswapd_wake(b->engine, i);
	for (unsigned i = 0; i < b->n; i++)
		pthread_join(b->nodes[i].thread, NULL);
	for (unsigned i = 0; i < b->nr_sliced; i++)
		pthread_join(b->sliced[i].thread, NULL);
	pthread_cond_destroy(&b->stopping);
	pthread_mutex_destroy(&b->lock);
	free(b);
}
