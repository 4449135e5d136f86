/* SPDX-License-Identifier: MIT */
/*
 * Choosing, telling, killing and reaping; see oom.h.
 *
 * Who reaps has mmap_lock for writing and has drained every VMA.  A fault that has found the space
 * alive is done by then; one that comes later finds it dead (handle_mm_fault() looks, with the lock
 * held).  So no page comes to be where one was reaped.
 */
#include "engine/reclaim/oom.h"

#include "engine/base/text.h"
#include "engine/engine.h"
#include "engine/reclaim/internal.h"
#include "engine/space/internal.h"

#define ul(x)	  ((unsigned long)(x))
#define kb(pages) ul((u64)(pages) << (PAGE_SHIFT - 10))

bool mm_is_oom_victim(const struct mm *mm)
{
	return atomic_load_explicit(&mm->oom_victim, memory_order_acquire);
}

static u64 count_of(const _Atomic s64 *counter)
{
	s64 n = atomic_load_explicit(counter, memory_order_relaxed);

	return n > 0 ? (u64)n : 0;
}

/* An area may just be on its way out. */
static u64 total_pages(struct engine *e)
{
	u64 total = user_frames(e);

	spin_lock(&e->swap.lock);
	for (unsigned i = 0; i < MAX_SWAP_AREAS; i++)
		if (e->swap.areas[i])
			total += e->swap.areas[i]->store->nr_slots;
	spin_unlock(&e->swap.lock);
	return total;
}

s64 oom_badness(const struct mm *mm, u64 total)
{
	struct oom_owner o = mm_owner(mm);
	s64 points;

	if (o.unkillable || o.score_adj <= OOM_SCORE_ADJ_MIN || mm_is_oom_victim(mm))
		return -1;
	points = (s64)(count_of(&mm->rss) + count_of(&mm->swapped) + count_of(&mm->tables));
	return max_of(points + o.score_adj * (s64)total / 1000, (s64)0);
}

/* ---- one at a time ---- */

/* False: somebody else was at it, and has just finished. */
static bool begin(struct engine *e)
{
	if (!atomic_exchange_explicit(&e->oom_busy, 1, memory_order_acquire))
		return true;
	while (atomic_load_explicit(&e->oom_busy, memory_order_acquire))
		machine_wait(&e->oom_busy, 1);
	return false;
}

static void end(struct engine *e)
{
	atomic_store_explicit(&e->oom_busy, 0, memory_order_release);
	machine_wake(&e->oom_busy, ~0u >> 1);
}

/* ---- telling ---- */

static u64 total_vm(const struct mm *mm)
{
	return __atomic_load_n(&mm->total_vm, __ATOMIC_RELAXED);
}

static void tell_of_memory(struct engine *e)
{
	vmf_message(
		"Mem-Info: evictable:%lu unevictable:%lu writeback:%lu free:%lu free_swap:%lukB",
		ul(lru_evictable(e)), ul(lru_unevictable(e)), ul(nr_writeout(e)),
		ul(zone_free_pages(e, ZONE_USER)),
		kb(total_pages(e) - user_frames(e) - e->swap.used));
}

static void tell_of_tasks(struct engine *e)
{
	struct mm *mm = NULL;

	vmf_message("Tasks state (memory values in pages):");
	vmf_message("[  pid  ]   uid total_vm      rss rss_anon rss_file pgtables_bytes swapents "
		    "oom_score_adj name");
	while ((mm = mm_visit_next(e, mm))) {
		u64 rss = count_of(&mm->rss), file = count_of(&mm->rss_file);
		struct oom_owner o = mm_owner(mm);

		vmf_message("[%7d] %5u %8lu %8lu %8lu %8lu %14lu %8lu %13d %s", o.pid, o.uid,
			    ul(total_vm(mm)), ul(rss), ul(rss - min_of(file, rss)), ul(file),
			    ul(count_of(&mm->tables) << PAGE_SHIFT), ul(count_of(&mm->swapped)),
			    o.score_adj, o.name);
	}
}

static void tell(struct engine *e, const struct mm *current, const struct mm *victim)
{
	struct oom_owner asks = mm_owner(current), o = mm_owner(victim);
	u64 rss = count_of(&victim->rss), file = count_of(&victim->rss_file);

	vmf_message("%s invoked oom-killer: order=0, oom_score_adj=%d", asks.name, asks.score_adj);
	tell_of_memory(e);
	tell_of_tasks(e);
	vmf_message("oom-kill:constraint=CONSTRAINT_NONE,task=%s,pid=%d,uid=%u", o.name, o.pid,
		    o.uid);
	vmf_message("Out of memory: Killed process %d (%s) total-vm:%lukB, anon-rss:%lukB, "
		    "file-rss:%lukB, UID:%u pgtables:%lukB oom_score_adj:%d",
		    o.pid, o.name, kb(total_vm(victim)), kb(rss - min_of(file, rss)), kb(file),
		    o.uid, kb(count_of(&victim->tables)), o.score_adj);
}

/* ---- the victim ---- */

/* The worst, visited, or NULL.  *soon: somebody is going by himself. */
static struct mm *select_bad_process(struct engine *e, bool *soon)
{
	struct mm *mm = NULL, *worst = NULL;
	u64 total = total_pages(e);
	s64 most = -1;

	while ((mm = mm_visit_next(e, mm))) {
		s64 points = oom_badness(mm, total);

		if (atomic_load_explicit(&mm->exiting, memory_order_relaxed)) {
			*soon = true;
			continue;
		}
		if (points <= most)
			continue;
		if (worst)
			mm_visit_end(worst);
		mm_visit_again(mm);
		worst = mm;
		most = points;
	}
	return worst;
}

/* Take what nobody else can have. */
static void reap(struct mm *mm)
{
	struct vma *vma;

	down_write(&mm->mmap_lock);
	list_for_each_entry (vma, &mm->vmas, link) {
		vma_drain(vma);
		if (!(vma->flags & VM_SHARED))
			zap_range(vma, vma->start, vma->end, false);
	}
	up_write(&mm->mmap_lock);
}

static void kill_and_reap(struct engine *e, struct mm *victim)
{
	struct oom_owner o = mm_owner(victim);
	u64 before = count_of(&victim->rss);

	atomic_store_explicit(&victim->oom_victim, true, memory_order_release);
	stat_add(&e->stats->oom_kills, 1);
	reap(victim);
	stat_add(&e->stats->oom_reaped, before - min_of(count_of(&victim->rss), before));
	vmf_message("oom_reaper: reaped process %d (%s), now rss:%lukB", o.pid, o.name,
		    kb(count_of(&victim->rss)));
}

enum oom_outcome out_of_memory(struct mm *current)
{
	struct engine *e = current->engine;
	enum oom_outcome outcome = OOM_RETRY;
	bool soon = false;
	struct mm *victim;

	if (!e->config.oom_kill)
		return OOM_NOBODY;
	if (mm_is_oom_victim(current))
		return OOM_KILLED;
	if (!begin(e))
		return mm_is_oom_victim(current) ? OOM_KILLED : OOM_RETRY;
	/* Somebody may have been killed, or gone, since we found none. */
	if (zone_free_pages(e, ZONE_USER) > e->config.marks.min)
		goto out;
	victim = select_bad_process(e, &soon);
	if (victim && !soon) {
		tell(e, current, victim);
		kill_and_reap(e, victim);
		outcome = victim == current ? OOM_KILLED : OOM_RETRY;
	} else if (!victim && !soon) {
		vmf_message("Out of memory and no killable processes...");
		outcome = OOM_NOBODY;
	}
	if (victim)
		mm_visit_end(victim);
out:
	end(e);
	return outcome;
}
