/* SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdlib.h>

#include "engine/base/errno.h"
#include "machine/soft/background.h"

struct soft_background {
	struct engine *engine;
	_Atomic bool stop;
	unsigned n;
	struct node_thread {
		struct soft_background *all;
		pthread_t thread;
		unsigned nid;
	} nodes[MAX_NUMNODES];
};

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

int soft_background_start(struct soft_machine *m, struct soft_background **background)
{
	struct soft_background *b = calloc(1, sizeof(*b));
	int err = 0;

	if (!b)
		return -ENOMEM;
	b->engine = &m->engine;
	while (!err && b->n < m->engine.numa.nr)
		err = start_node(b);
	if (err)
		soft_background_stop(b);
	else
		*background = b;
	return err;
}

void soft_background_stop(struct soft_background *b)
{
	atomic_store(&b->stop, true);
	for (unsigned i = 0; i < b->n; i++)
		kswapd_wake(b->engine, i);
	for (unsigned i = 0; i < b->n; i++)
		pthread_join(b->nodes[i].thread, NULL);
	free(b);
}
