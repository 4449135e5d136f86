/* SPDX-License-Identifier: MIT */
/*
 * Interleavings that are forced.  Two CPUs; where the engine calls out (the machine's operations,
 * the store, a file's operations, the trap itself), the test has its turn, and there does what
 * another CPU does at that moment:
 *
 *   a turn            runs right there, where the engine holds no lock that it needs
 *   another thread    is begun there where it has to wait for what the engine holds: waits() sees
 *                     that it does, and join() that it goes on afterwards
 *
 * Each hook calls its turn once.
 */
#ifndef VMF_TESTS_TURNS_H
#define VMF_TESTS_TURNS_H

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "tests/unit/one_world.h"

#define cpu0 (&w.m->cpus[0])
#define cpu1 (&w.m->cpus[1])

typedef void (*turn_fn)(void);

static struct {
	turn_fn trap;	/* a fault was raised; no lock */
	turn_fn stage;	/* frames to be filled; mmap_lock or vma->lock for reading */
	turn_fn set;	/* before the entry is written; page-table lock too */
	turn_fn change; /* before rights change; page-table lock */
	turn_fn clean;	/* an entry was made read-only and clean, not flushed; page-table lock */
	turn_fn flush;	/* before the flush; what the caller holds */
	turn_fn take;	/* pages were taken; page-table lock */
	turn_fn bytes;	/* somebody wants a frame's bytes; what the caller holds */
	turn_fn load;	/* before the store gives the bytes; as stage */
	turn_fn save;	/* before the store is given them; page lock */
} at;

static struct mmu_ops turn_mmu;
static struct store_ops turn_store;

static inline void turn(turn_fn *hook)
{
	/* Both threads come by. */
	turn_fn fn = __atomic_exchange_n(hook, NULL, __ATOMIC_RELAXED);

	if (fn)
		fn();
}

static struct fault_result turn_trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	turn(&at.trap);
	return do_user_addr_fault(atomic_load(&cpu->mm), cr2, code);
}

static int turn_stage(struct engine *e, struct page **pages, unsigned n)
{
	turn(&at.stage);
	return soft_mmu_ops.stage(e, pages, n);
}

static int turn_set(struct mm *of, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
		    unsigned n)
{
	turn(&at.set);
	return soft_mmu_ops.set(of, va, ptep, ptes, pages, n);
}

static void turn_change(struct mm *of, u64 va, pte_t *ptep, pte_t pte)
{
	turn(&at.change);
	soft_mmu_ops.change(of, va, ptep, pte);
}

static pte_t turn_clean(struct mm *of, u64 va, pte_t *ptep)
{
	pte_t old = soft_mmu_ops.clean(of, va, ptep);

	turn(&at.clean);
	return old;
}

static void turn_flush(struct mm *of, u64 start, u64 end)
{
	turn(&at.flush);
	soft_mmu_ops.flush(of, start, end);
}

static unsigned turn_take(struct mm *of, struct mmu_take *takes, unsigned n)
{
	unsigned taken = soft_mmu_ops.take(of, takes, n);

	turn(&at.take);
	return taken;
}

static void *turn_bytes(struct engine *e, struct page *page)
{
	turn(&at.bytes);
	return soft_mmu_ops.bytes(e, page);
}

static int turn_load(struct store *s, u64 slot, void *bytes)
{
	turn(&at.load);
	return flaky_load(s, slot, bytes);
}

static int turn_save(struct store *s, u64 slot, const void *bytes)
{
	turn(&at.save);
	return flaky_save(s, slot, bytes);
}

/* Both CPUs are in the one space. */
static inline void start_turns(struct world_options o)
{
	o.cpus = 2;
	start(o);
	soft_load_mm(cpu1, mm);
	memset(&at, 0, sizeof(at));
	turn_mmu = soft_mmu_ops;
	turn_mmu.stage = turn_stage;
	turn_mmu.set = turn_set;
	turn_mmu.change = turn_change;
	turn_mmu.clean = turn_clean;
	turn_mmu.flush = turn_flush;
	turn_mmu.take = turn_take;
	turn_mmu.bytes = turn_bytes;
	w.e->mmu = &turn_mmu;
	turn_store = flaky_ops;
	turn_store.load = turn_load;
	turn_store.save = turn_save;
	flaky.store.ops = &turn_store;
	w.m->trap = turn_trap;
}

static inline int end_turns(void **state)
{
	const turn_fn *left = (const turn_fn *)&at;

	/* A turn that never came has shown nothing. */
	for (unsigned i = 0; i < sizeof(at) / sizeof(*left); i++)
		assert_null(left[i]);
	w.e->mmu = &soft_mmu_ops;
	return teardown(state);
}

/* ---- accesses ---- */

static inline u8 read_on(struct soft_cpu *cpu, unsigned page)
{
	u8 byte = 0xee;

	assert_int_equal(soft_read_byte(cpu, AT(page), &byte), FAULT_OK);
	return byte;
}

static inline void write_on(struct soft_cpu *cpu, unsigned page, u8 byte)
{
	assert_int_equal(soft_write_byte(cpu, AT(page), byte), FAULT_OK);
}

static inline enum fault_reason try_read(struct soft_cpu *cpu, unsigned page)
{
	u8 byte;

	return soft_read_byte(cpu, AT(page), &byte);
}

static inline pte_t pte_of(struct mm *of, unsigned page)
{
	spinlock_t *ptl;
	pte_t *ptep = pte_find(of, AT(page), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static inline struct page *page_of(struct mm *of, unsigned page)
{
	pte_t pte = pte_of(of, page);

	return pte_mapped(pte) ? pfn_page(w.e, pte_pfn(pte)) : NULL;
}

static inline u64 free_frames(void)
{
	return zone_free_pages(w.e, ZONE_USER);
}

/* ---- another thread ---- */

static struct {
	pthread_t thread;
	turn_fn fn;
	_Atomic int began, done;
} other;

static void *other_thread(void *arg)
{
	(void)arg;
	atomic_store(&other.began, 1);
	other.fn();
	atomic_store(&other.done, 1);
	return NULL;
}

static inline void begin(turn_fn fn)
{
	other.fn = fn;
	atomic_store(&other.began, 0);
	atomic_store(&other.done, 0);
	assert_int_equal(pthread_create(&other.thread, NULL, other_thread, NULL), 0);
}

static inline bool is_true(void)
{
	return atomic_load(&other.began);
}

/* It has come as far as `there` tells (NULL: it runs), and no further however long we wait. */
static inline void waits(bool (*there)(void))
{
	if (!there)
		there = is_true;
	for (unsigned i = 0; i < 20000 && !there(); i++)
		usleep(100);
	assert_true(there());
	for (unsigned i = 0; i < 10; i++) {
		usleep(200);
		assert_int_equal(atomic_load(&other.done), 0);
	}
}

static inline void join(void)
{
	pthread_join(other.thread, NULL);
}

/* Somebody is changing the layout. */
static inline bool layout_is_locked(void)
{
	return rwsem_is_write_locked(&mm->mmap_lock);
}

#endif
