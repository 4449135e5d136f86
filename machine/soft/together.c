/* SPDX-License-Identifier: MIT */
/*
 * All CPUs at once: see together.h.
 *
 * Nobody waits for ever: who waits holds no lock of the program's system, for its fault is not
 * fielded yet; and each of those waited for comes to the page, by a fault on it or by having
 * touched it, or ends.  Those may be ahead already.
 */
#include <pthread.h>

#include "engine/base/text.h"
#include "machine/soft/soft.h"
#include "machine/soft/together.h"

/* Not a page, but behind all of them. */
#define THE_END (~0ULL)

/* Looks for another that is just waking: some ten microseconds. */
#define LOOKS 4096

struct meeting {
	pthread_mutex_t lock; /* guards `at` */
	pthread_cond_t came;
	unsigned n;
	u64 at[SOFT_MAX_CPUS];		   /* pages that each has come to */
	_Atomic u64 faults[SOFT_MAX_CPUS]; /* the last page that it faulted on; stored with lock */
	_Atomic u64 goes[SOFT_MAX_CPUS];   /* and that it goes on with */
};

struct toucher {
	struct program *program;
	struct meeting *meeting;
	unsigned cpu;
	u64 va, len, page;
	bool met; /* on this page */
	u32 access;
	enum fault_reason reason;
	pthread_t thread;
};

static enum fault_reason touch_page(struct program *p, unsigned cpu, u64 va, u32 access)
{
	u64 old;
	u8 byte;

	if (access & PF_WRITE) /* a write that changes nothing, whoever else writes */
		return p->ops->add(p, cpu, va & ~(u64)7, 0, &old);
	return p->ops->access(p, cpu, va, access, &byte, 1);
}

static u64 next_page(u64 va)
{
	return (va & PAGE_MASK) + PAGE_SIZE;
}

enum fault_reason program_touch(struct program *p, unsigned cpu, u64 va, u64 len, u32 access)
{
	enum fault_reason reason = FAULT_OK;

	for (u64 end = va + len; va < end && reason == FAULT_OK; va = next_page(va))
		reason = touch_page(p, cpu, va, access);
	return reason;
}

static bool all_came(const struct meeting *m, u64 at)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->at[i] < at)
			return false;
	return true;
}

/* Of those that faulted on it, too, if there are any. */
static bool another_goes(const struct meeting *m, unsigned who, u64 page)
{
	bool any = false;

	for (unsigned i = 0; i < m->n; i++) {
		if (i == who || atomic_load(&m->faults[i]) < page)
			continue;
		if (atomic_load(&m->goes[i]) >= page)
			return true;
		any = true;
	}
	return !any;
}

/* Who came last would be done before the others have woken, and they would find its page: where the
 * host has a CPU for one of them the two are to race.  A hope only, for it may have none. */
static void go_on_with_another(struct meeting *m, unsigned who, u64 page)
{
	atomic_store(&m->goes[who], page);
	for (unsigned i = 0; i < LOOKS && !another_goes(m, who, page); i++)
		__builtin_ia32_pause();
}

static void come_to(struct meeting *m, unsigned who, u64 at, bool wait)
{
	pthread_mutex_lock(&m->lock);
	m->at[who] = at;
	if (wait)
		atomic_store(&m->faults[who], at);
	/* Who goes from page to page was waited for at this one at most. */
	if (at == THE_END || all_came(m, at))
		pthread_cond_broadcast(&m->came);
	while (wait && !all_came(m, at))
		pthread_cond_wait(&m->came, &m->lock);
	pthread_mutex_unlock(&m->lock);
	if (wait)
		go_on_with_another(m, who, at);
}

/* The first fault on the page; whoever fields it may have others. */
static void meet(void *arg)
{
	struct toucher *t = arg;

	if (t->met)
		return;
	t->met = true;
	come_to(t->meeting, t->cpu, t->page, true);
}

static void *touch_with_others(void *arg)
{
	struct toucher *t = arg;
	u64 va = t->va, end = va + t->len;

	soft_on_fault(meet, t);
	for (; va < end && t->reason == FAULT_OK; va = next_page(va)) {
		t->page++;
		t->met = false;
		t->reason = touch_page(t->program, t->cpu, va, t->access);
		if (!t->met && t->reason == FAULT_OK)
			come_to(t->meeting, t->cpu, t->page, false);
	}
	soft_on_fault(NULL, NULL);
	come_to(t->meeting, t->cpu, THE_END, false);
	return NULL;
}

enum fault_reason program_touch_together(struct program *p, u64 va, u64 len, u32 access)
{
	struct meeting m = { .n = p->nr_cpus };
	struct toucher touchers[SOFT_MAX_CPUS];
	enum fault_reason reason = FAULT_OK;

	pthread_mutex_init(&m.lock, NULL);
	pthread_cond_init(&m.came, NULL);
	for (unsigned i = 0; i < m.n; i++) {
		struct toucher *t = &touchers[i];

		*t = (struct toucher){ .program = p,
				       .meeting = &m,
				       .cpu = i,
				       .va = va,
				       .len = len,
				       .access = access };
		if (pthread_create(&t->thread, NULL, touch_with_others, t))
			vmf_panic("no thread for CPU %u", i);
	}
	for (unsigned i = 0; i < m.n; i++) {
		pthread_join(touchers[i].thread, NULL);
		if (reason == FAULT_OK)
			reason = touchers[i].reason;
	}
	pthread_cond_destroy(&m.came);
	pthread_mutex_destroy(&m.lock);
	return reason;
}
