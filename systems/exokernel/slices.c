/* SPDX-License-Identifier: MIT */
#include "systems/exokernel/slices.h"
#include "engine/base/errno.h"

/* Whose thread this is. */
static _Thread_local struct {
	struct slices *slices;
	unsigned program, calls;
} here;

struct runner {
	struct slices *slices;
	unsigned program;
	void (*run)(void *arg, unsigned program);
	void *arg;
	pthread_t thread;
};

void slices_init(struct slices *s, void (*over)(void *arg, unsigned program, bool ends), void *arg)
{
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->next, NULL);
	s->over = over;
	s->arg = arg;
}

void slices_fini(struct slices *s)
{
	pthread_cond_destroy(&s->next);
	pthread_mutex_destroy(&s->lock);
}

/* The next one that runs; this one, if no other does.  Lock held. */
static void pass_on(struct slices *s)
{
	for (unsigned i = 0; i < s->n; i++) {
		s->turn = (s->turn + 1) % s->n;
		if (s->runs[s->turn])
			break;
	}
	pthread_cond_broadcast(&s->next);
}

/* Lock held. */
static void await_turn(struct slices *s, unsigned program)
{
	while (s->turn != program)
		pthread_cond_wait(&s->next, &s->lock);
}

void slices_call(struct slices *s)
{
	if (here.slices != s || ++here.calls % SLICE_CALLS)
		return;
	s->over(s->arg, here.program, false);
	pthread_mutex_lock(&s->lock);
	pass_on(s);
	await_turn(s, here.program);
	pthread_mutex_unlock(&s->lock);
}

static void leave(struct slices *s, unsigned program)
{
	s->over(s->arg, program, true);
	pthread_mutex_lock(&s->lock);
	s->runs[program] = false;
	pass_on(s);
	pthread_mutex_unlock(&s->lock);
}

static void *run_one(void *arg)
{
	struct runner *r = arg;

	here.slices = r->slices;
	here.program = r->program;
	pthread_mutex_lock(&r->slices->lock);
	await_turn(r->slices, r->program);
	pthread_mutex_unlock(&r->slices->lock);
	if (r->run)
		r->run(r->arg, r->program);
	leave(r->slices, r->program);
	return NULL;
}

int slices_run(struct slices *s, unsigned n, void (*run)(void *arg, unsigned program), void *arg)
{
	struct runner runners[SLICES_MOST];
	unsigned started;

	s->n = n;
	s->turn = n; /* nobody's, until all are there */
	for (started = 0; started < n; started++) {
		runners[started] =
			(struct runner){ .slices = s, .program = started, .run = run, .arg = arg };
		s->runs[started] = true;
		if (pthread_create(&runners[started].thread, NULL, run_one, &runners[started]))
			break;
	}
	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; started < n && i < n; i++) {
		s->runs[i] = i < started;
		runners[i].run = NULL;
	}
	s->turn = 0;
	pthread_cond_broadcast(&s->next);
	pthread_mutex_unlock(&s->lock);
	for (unsigned i = 0; i < started; i++)
		pthread_join(runners[i].thread, NULL);
	return started < n ? -EAGAIN : 0;
}
