/* SPDX-License-Identifier: MIT */
/* See flusher.h. */
#include "engine/backing/flusher.h"

#include "engine/backing/page_cache.h"
#include "engine/engine.h"

void flusher_init(struct flusher *f)
{
	spin_init(&f->lock);
	list_init(&f->dirty);
}

static u64 load(const _Atomic u64 *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* ---- the list ---- */

void flusher_count(struct address_space *m, s64 n)
{
	struct flusher *f = &m->engine->flusher;

	if (!m->ops->write_page)
		return;
	atomic_fetch_add_explicit(&f->nr_dirty, (u64)n, memory_order_relaxed);
	if (n < 0 || m->dirtied_when)
		return;
	m->dirtied_when = machine_now_ns();
	spin_lock(&f->lock);
	list_add_tail(&m->dirty_link, &f->dirty);
	spin_unlock(&f->lock);
}

void flusher_forget(struct address_space *m)
{
	struct flusher *f = &m->engine->flusher;

	if (!m->dirtied_when)
		return;
	spin_lock(&f->lock);
	list_del(&m->dirty_link);
	spin_unlock(&f->lock);
}

/* The file that has been dirty longest, with a reference, to the end of the list; NULL: none. */
static struct address_space *next_file(struct flusher *f)
{
	struct address_space *m = NULL;

	spin_lock(&f->lock);
	if (!list_empty(&f->dirty)) {
		m = list_first_entry(&f->dirty, struct address_space, dirty_link);
		list_move_tail(&m->dirty_link, &f->dirty);
		if (!mapping_tryget(m))
			m = NULL; /* it is going */
	}
	spin_unlock(&f->lock);
	return m;
}

static unsigned nr_files(struct flusher *f)
{
	struct list_head *at;
	unsigned n = 0;

	spin_lock(&f->lock);
	list_for_each (at, &f->dirty)
		n++;
	spin_unlock(&f->lock);
	return n;
}

/* What is dirty in it now has become so since. */
static void look_again(struct address_space *m, u64 now)
{
	struct flusher *f = &m->engine->flusher;

	spin_lock(&m->tree_lock);
	m->dirtied_when = load(&m->nr_dirty) ? now : 0;
	if (!m->dirtied_when) {
		spin_lock(&f->lock);
		list_del(&m->dirty_link);
		spin_unlock(&f->lock);
	}
	spin_unlock(&m->tree_lock);
}

/* ---- a round ---- */

static bool is_above(const struct flusher *f, u64 limit)
{
	return limit && load(&f->nr_dirty) > limit;
}

static bool has_expired(const struct engine *e, const struct address_space *m, u64 now)
{
	u64 expire = e->config.dirty.expire_ns;

	return expire && now > m->dirtied_when && now - m->dirtied_when >= expire;
}

u64 flusher_run(struct engine *e, u64 now)
{
	struct flusher *f = &e->flusher;
	u64 wanted = atomic_exchange(&f->wanted, 0), written = 0;

	for (unsigned n = nr_files(f); n; n--) {
		struct address_space *m = next_file(f);
		bool all;

		if (!m)
			continue;
		all = has_expired(e, m, now) || is_above(f, e->config.dirty.background);
		if (all || written < wanted) {
			written += write_dirty_pages(m, all ? ~0ULL : wanted - written);
			if (all || !load(&m->nr_dirty))
				look_again(m, now);
		}
		mapping_put(m);
	}
	atomic_fetch_add(&f->rounds, 1);
	machine_wake(&f->rounds, ~0u >> 1);
	return written;
}

/* ---- threads ---- */

void flusher_enter(struct engine *e)
{
	atomic_fetch_add(&e->flusher.threads, 1);
}

void flusher_leave(struct engine *e)
{
	struct flusher *f = &e->flusher;

	atomic_fetch_sub(&f->threads, 1);
	atomic_fetch_add(&f->rounds, 1); /* there will be no other: look again */
	machine_wake(&f->rounds, ~0u >> 1);
}

void flusher_wait(struct engine *e)
{
	struct flusher *f = &e->flusher;

	machine_wait(&f->news, 0);
	atomic_store(&f->news, 0);
}

void flusher_wake(struct engine *e)
{
	struct flusher *f = &e->flusher;

	if (!atomic_exchange(&f->news, 1))
		machine_wake(&f->news, ~0u >> 1);
}

/* ---- those who want pages clean ---- */

void flusher_ask(struct engine *e, u64 pages)
{
	atomic_fetch_add_explicit(&e->flusher.wanted, pages, memory_order_relaxed);
	if (atomic_load_explicit(&e->flusher.threads, memory_order_relaxed))
		flusher_wake(e);
}

bool flusher_wait_for_round(struct engine *e)
{
	struct flusher *f = &e->flusher;
	u64 dirty = load(&f->nr_dirty);
	u32 rounds = atomic_load(&f->rounds), now;

	/* A round that has begun already may have passed by what we want. */
	while (atomic_load(&f->threads) && (now = atomic_load(&f->rounds)) - rounds < 2) {
		flusher_wake(e);
		machine_wait(&f->rounds, now);
	}
	if (!atomic_load(&f->threads))
		return flusher_run(e, machine_now_ns());
	return load(&f->nr_dirty) < dirty;
}

void balance_dirty_pages(struct engine *e)
{
	struct flusher *f = &e->flusher;

	if (likely(!is_above(f, e->config.dirty.background)))
		return;
	if (atomic_load_explicit(&f->threads, memory_order_relaxed))
		flusher_wake(e);
	/* Where nothing can be written (the disk is full), nobody waits for ever. */
	while (is_above(f, e->config.dirty.limit))
		if (!flusher_wait_for_round(e))
			break;
}
