/* SPDX-License-Identifier: MIT */
/*
 * Locks on one 32-bit word each, sleeping in machine_wait().
 *
 * Why no wake-up is lost: whoever is about to sleep first writes "somebody sleeps" into the word
 * and then sleeps on exactly that value; machine_wait() compares again before it sleeps.  Whoever
 * makes the lock free takes the mark out in the same atomic step, or right after it, and wakes if
 * it was there.  So either the sleeper sees the word changed and does not sleep, or the releaser
 * sees the mark and wakes.
 */
#include "engine/base/lock.h"
#include "engine/machine.h"

/* Looks at a held lock before sleeping.  Long enough for a short section on another CPU, short
 * beside the two system calls that sleeping and waking cost. */
#define SPINS 100

enum { SPIN_FREE, SPIN_HELD, SPIN_CONTENDED };

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#endif
}

static bool replace(_Atomic u32 *word, u32 *old, u32 new)
{
	return atomic_compare_exchange_weak_explicit(word, old, new, memory_order_acquire,
						     memory_order_relaxed);
}

static u32 look(const _Atomic u32 *word)
{
	return atomic_load_explicit(word, memory_order_relaxed);
}

/* ---- counting ---- */

static _Atomic u64 contentions[NR_LOCK_CLASSES];

u64 lock_contentions(enum lock_class class)
{
	return atomic_load_explicit(&contentions[class], memory_order_relaxed);
}

void lock_count_contention(enum lock_class class)
{
	atomic_fetch_add_explicit(&contentions[class], 1, memory_order_relaxed);
}

/* ---- spinlock ---- */

void spin_init_class(spinlock_t *l, enum lock_class class)
{
	atomic_init(&l->word, SPIN_FREE);
	l->class = class;
}

static bool try_spin(spinlock_t *l)
{
	u32 old = SPIN_FREE;

	return atomic_compare_exchange_strong_explicit(&l->word, &old, SPIN_HELD,
						       memory_order_acquire, memory_order_relaxed);
}

bool spin_trylock(spinlock_t *l)
{
	if (likely(try_spin(l)))
		return true;
	lock_count_contention(l->class);
	return false;
}

static void spin_lock_slow(spinlock_t *l)
{
	unsigned i;

	lock_count_contention(l->class);
	for (i = 0; i < SPINS; i++) {
		if (look(&l->word) == SPIN_FREE && try_spin(l))
			return;
		relax();
	}
	/* Having slept, we cannot know whether others still do, and so take the lock as
	 * contended: at worst one wake for nobody. */
	while (atomic_exchange_explicit(&l->word, SPIN_CONTENDED, memory_order_acquire) !=
	       SPIN_FREE)
		machine_wait(&l->word, SPIN_CONTENDED);
}

void spin_lock(spinlock_t *l)
{
	if (unlikely(!try_spin(l)))
		spin_lock_slow(l);
}

void spin_unlock(spinlock_t *l)
{
	if (atomic_exchange_explicit(&l->word, SPIN_FREE, memory_order_release) == SPIN_CONTENDED)
		machine_wake(&l->word, 1);
}

bool spin_is_locked(const spinlock_t *l)
{
	return look(&l->word) != SPIN_FREE;
}

/* ---- rwsem ---- */

#define RW_READER   (1u << 0)	/* one reader inside */
#define RW_READERS  0x0000ffffu /* how many */
#define RW_WAITING  (1u << 16)	/* one writer waiting */
#define RW_WAITINGS 0x3fff0000u /* how many */
#define RW_SLEEPERS (1u << 30)	/* somebody sleeps on the word */
#define RW_WRITER   (1u << 31)	/* a writer is inside */
#define RW_WAKE_ALL 0x7fffffffu

static bool readers_may_enter(u32 w)
{
	return !(w & (RW_WRITER | RW_WAITINGS));
}

static bool writer_may_enter(u32 w)
{
	return !(w & (RW_WRITER | RW_READERS));
}

/* Mark that we sleep and do so, unless the word is no longer w. */
static void rw_sleep(rwsem_t *s, u32 w)
{
	if (!(w & RW_SLEEPERS)) {
		if (!replace(&s->word, &w, w | RW_SLEEPERS))
			return;
		w |= RW_SLEEPERS;
	}
	machine_wait(&s->word, w);
}

/* Everybody wakes and looks for himself: readers can go in together, and who of the writers is
 * first is the scheduler's business. */
static void rw_wake(rwsem_t *s)
{
	machine_wake(&s->word, RW_WAKE_ALL);
}

void rwsem_init_class(rwsem_t *s, enum lock_class class)
{
	atomic_init(&s->word, 0);
	s->class = class;
}

static bool try_read(rwsem_t *s)
{
	u32 w = look(&s->word);

	while (readers_may_enter(w))
		if (replace(&s->word, &w, w + RW_READER))
			return true;
	return false;
}

bool down_read_trylock(rwsem_t *s)
{
	if (likely(try_read(s)))
		return true;
	lock_count_contention(s->class);
	return false;
}

static void down_read_slow(rwsem_t *s)
{
	unsigned spins = 0;

	lock_count_contention(s->class);
	while (!try_read(s)) {
		u32 w = look(&s->word);

		if (readers_may_enter(w))
			continue;
		if (spins++ < SPINS)
			relax();
		else
			rw_sleep(s, w);
	}
}

void down_read(rwsem_t *s)
{
	if (unlikely(!try_read(s)))
		down_read_slow(s);
}

void up_read(rwsem_t *s)
{
	u32 w = atomic_fetch_sub_explicit(&s->word, RW_READER, memory_order_release) - RW_READER;

	if ((w & RW_READERS) || !(w & RW_SLEEPERS))
		return;
	/* Another may have gone in since; then those we wake go back to sleep, marked again. */
	if (atomic_fetch_and_explicit(&s->word, ~RW_SLEEPERS, memory_order_relaxed) & RW_SLEEPERS)
		rw_wake(s);
}

static bool try_write(rwsem_t *s)
{
	u32 w = look(&s->word);

	while (writer_may_enter(w))
		if (replace(&s->word, &w, w | RW_WRITER))
			return true;
	return false;
}

bool down_write_trylock(rwsem_t *s)
{
	if (likely(try_write(s)))
		return true;
	lock_count_contention(s->class);
	return false;
}

static void down_write_slow(rwsem_t *s)
{
	unsigned spins = 0;
	u32 w;

	lock_count_contention(s->class);
	/* From here on no new reader goes in. */
	atomic_fetch_add_explicit(&s->word, RW_WAITING, memory_order_relaxed);
	for (;;) {
		w = look(&s->word);
		if (writer_may_enter(w)) {
			if (replace(&s->word, &w, (w - RW_WAITING) | RW_WRITER))
				return;
		} else if (spins++ < SPINS) {
			relax();
		} else {
			rw_sleep(s, w);
		}
	}
}

void down_write(rwsem_t *s)
{
	if (unlikely(!try_write(s)))
		down_write_slow(s);
}

void up_write(rwsem_t *s)
{
	if (atomic_fetch_and_explicit(&s->word, ~(RW_WRITER | RW_SLEEPERS), memory_order_release) &
	    RW_SLEEPERS)
		rw_wake(s);
}

void downgrade_write(rwsem_t *s)
{
	u32 w = look(&s->word), new;

	do {
		new = (w & ~(RW_WRITER | RW_SLEEPERS)) + RW_READER;
	} while (!atomic_compare_exchange_weak_explicit(&s->word, &w, new, memory_order_release,
							memory_order_relaxed));
	if (w & RW_SLEEPERS)
		rw_wake(s);
}

bool rwsem_is_locked(const rwsem_t *s)
{
	return look(&s->word) & (RW_WRITER | RW_READERS);
}

bool rwsem_is_write_locked(const rwsem_t *s)
{
	return look(&s->word) & RW_WRITER;
}
