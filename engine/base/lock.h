/* SPDX-License-Identifier: MIT */
/*
 * Locks of the engine, built on two words of the machine: wait and wake.
 *
 * spinlock_t   for short sections.  Spins a little and then sleeps in
 *              machine_wait(), because on hosted machines the holder may have
 *              lost its CPU.  Not recursive.
 * rwsem_t      many readers or one writer; writers are not starved: while one
 *              waits, new readers wait, too.  So a thread must not take for
 *              reading what it already holds for reading.
 *
 * Lock order, outer to inner, for the whole engine (never take one on the left
 * while holding one on its right):
 *
 *   mapping->i_rwsem -> mm->mmap_lock -> vma->lock -> mapping->invalidate_lock
 *     -> page lock -> mapping->i_mmap_lock -> lock of an anon_vma's family
 *     -> page-table lock -> mapping->tree_lock
 *     -> lruvec->lock, writeout_lock, swap->lock, zone->lock, mm->policy_lock, shared_policy->lock
 *        (one at a time)
 *
 * A page lock of an anonymous page is to the right of i_mmap_lock, too: its holder takes no lock of
 * a file.
 *
 * engine->mms_lock and lru->aging are outside this order: under the first an mmap_lock is tried and
 * let go, the second is tried, or waited for by who holds nothing.
 *
 * Of two mmap_locks or two page-table locks (fork only) the parent's is the outer one.
 *
 * No memory is allocated with reclaim allowed under a page-table lock or any
 * lock to its right.
 */
#ifndef VMF_BASE_LOCK_H
#define VMF_BASE_LOCK_H

#include "engine/base/types.h"

/* What a lock guards, for counting: see lock_contentions(). */
enum lock_class {
	LOCK_OTHER, /* also of every lock that is merely zero */
	LOCK_MMAP,
	LOCK_VMA,
	LOCK_ANON_VMA,
	LOCK_PAGE_TABLE, /* entries of a last-level table; tables above, too */
	LOCK_PAGE,
	LOCK_LRU,
	LOCK_ZONE,
	NR_LOCK_CLASSES
};

/* 0 free, 1 held, 2 held and somebody sleeps. */
typedef struct {
	_Atomic u32 word;
	u32 class; /* enum lock_class */
} spinlock_t;

/* Readers inside, writers waiting, "somebody sleeps" and "a writer is inside": one word, so that
 * each decision is taken on one consistent picture.  The layout is lock.c's own. */
typedef struct {
	_Atomic u32 word;
	u32 class; /* enum lock_class */
} rwsem_t;

void spin_init_class(spinlock_t *l, enum lock_class class);
static inline void spin_init(spinlock_t *l)
{
	spin_init_class(l, LOCK_OTHER);
}
void spin_lock(spinlock_t *l);
bool spin_trylock(spinlock_t *l);
void spin_unlock(spinlock_t *l);
bool spin_is_locked(const spinlock_t *l);

void rwsem_init_class(rwsem_t *s, enum lock_class class);
static inline void rwsem_init(rwsem_t *s)
{
	rwsem_init_class(s, LOCK_OTHER);
}
void down_read(rwsem_t *s);
bool down_read_trylock(rwsem_t *s);
void up_read(rwsem_t *s);
void down_write(rwsem_t *s);
bool down_write_trylock(rwsem_t *s);
void up_write(rwsem_t *s);
/* Writer becomes reader without letting another writer in between. */
void downgrade_write(rwsem_t *s);
bool rwsem_is_locked(const rwsem_t *s);
bool rwsem_is_write_locked(const rwsem_t *s);

/*
 * How often somebody found a lock of the class taken and had to wait, or (a trylock) to do without.
 * Of all engines of the program together.  An acquisition that finds its lock free counts nothing
 * and so pays nothing.
 */
u64 lock_contentions(enum lock_class class);
/* For locks that are not of these two kinds: one more. */
void lock_count_contention(enum lock_class class);

#endif
