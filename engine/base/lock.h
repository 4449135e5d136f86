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
 *     -> lru->lock, swap->lock, zone->lock (one at a time)
 *
 * A page lock of an anonymous page is to the right of i_mmap_lock, too: its holder takes no lock of
 * a file.
 *
 * engine->mms_lock and lru->aging are outside this order: under the first an mmap_lock is tried and
 * let go, the second is only tried itself.
 *
 * Of two mmap_locks or two page-table locks (fork only) the parent's is the outer one.
 *
 * No memory is allocated with reclaim allowed under a page-table lock or any
 * lock to its right.
 */
#ifndef VMF_BASE_LOCK_H
#define VMF_BASE_LOCK_H

#include "engine/base/types.h"

/* 0 free, 1 held, 2 held and somebody sleeps. */
typedef struct {
	_Atomic u32 word;
} spinlock_t;

/* Readers inside, writers waiting, "somebody sleeps" and "a writer is inside": one word, so that
 * each decision is taken on one consistent picture.  The layout is lock.c's own. */
typedef struct {
	_Atomic u32 word;
} rwsem_t;

void spin_init(spinlock_t *l);
void spin_lock(spinlock_t *l);
bool spin_trylock(spinlock_t *l);
void spin_unlock(spinlock_t *l);
bool spin_is_locked(const spinlock_t *l);

void rwsem_init(rwsem_t *s);
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

#endif
