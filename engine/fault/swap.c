/* SPDX-License-Identifier: MIT */
/*
 * Swap-in.
 *
 * Why the right bytes are always served:
 *
 *   The slots are pinned under the page-table lock, where the entries' references are.  From then
 *   on the writer neither rewrites nor finishes a page of these slots.  So when, under that lock
 *   again, the entry is the same and the swap cache still has no page for the slot, then the page
 *   was not here meanwhile, or was here and left with the very bytes that the slot had.  (It may
 *   have come in, been written to and been taken again: then it sits in the swap cache.)
 *
 *   A page that is in the swap cache is mapped again under its page lock, which the writer holds
 *   from taking it off the list until it has left the cache.
 *
 * A slot may have entries in several spaces.  Who brings its page in puts it into the swap cache
 * before he maps it, locked, and so finds out whether another has been first; it is mapped
 * read-only and stays there for the others to find.  Only who is alone with it may write.  A write
 * goes on to do_wp_page(), which copies the page.
 */
#include "engine/fault/internal.h"

/* The page is there, read-only: a write has to have one of its own. */
static unsigned write_to_shared(struct vm_fault_info *vmf)
{
	if (!(vmf->flags & FAULT_FLAG_WRITE))
		return 0;
	vmf->orig = pte_read(vmf->ptep);
	if (!pte_mapped(vmf->orig) || pte_write(vmf->orig) || pte_migrating(vmf->orig))
		return 0;
	return do_wp_page(vmf);
}

/* It was on its way out.  Page lock and PTL held.  As set(). */
static int map_again(struct vm_fault_info *vmf, u64 slot, struct page *page)
{
	struct engine *e = vmf->vma->mm->engine;
	struct run run = { .start = vmf->address, .n = 1 };
	u64 shadow;
	int n;

	/* As in wp_can_reuse_anon_page(): the list's reference, the swap cache's and ours. */
	if (!page_test(page, PG_ANON_EXCLUSIVE) && swap_page_entries(e, page) == 1 &&
	    atomic_load_explicit(&page->refcount, memory_order_acquire) == 3)
		page_set(page, PG_ANON_EXCLUSIVE);
	n = run_set(vmf, &run, &page);
	if (n <= 0)
		return n;
	swap_end_in(e, &page, &slot, 1, &shadow);
	lru_return(e, page);
	stat_add(&e->stats->refaults, 1);
	vmf->res->second_chance = true;
	return n;
}

/* It is mapped by others, or was until just now: then *gone, and the page is the caller's to hand
 * to page_unmapped().  Page lock and PTL held.  As set(), or 0: it is being unmapped, try again. */
static int map_with_others(struct vm_fault_info *vmf, u64 slot, struct page *page, bool *gone)
{
	struct engine *e = vmf->vma->mm->engine;
	u64 bits = (vma_pte_bits(vmf->vma) & ~PTE_WRITE) | PTE_ACCESSED;
	pte_t pte = keep_uffd_wp(vmf, pte_make(page_pfn(e, page), bits));
	u64 shadow;
	int n;

	if (!page_try_dup_anon_rmap(page))
		return 0;
	page_get(page);
	n = e->mmu->set(vmf->vma->mm, vmf->address, vmf->ptep, &pte, &page, 1);
	if (n <= 0) {
		*gone = page_remove_rmap(page);
		if (*gone)
			lru_del(e, page);
		else
			page_put(e, page);
		return n;
	}
	swap_end_in(e, &page, &slot, 1, &shadow);
	return n;
}

/* The slot, which is pinned, has a page in the swap cache, and we hold a reference. */
static unsigned map_cached(struct vm_fault_info *vmf, u64 slot, struct page *page)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	bool found, gone = false;
	int n = 0;

	page_lock(page);
	spin_lock(vmf->ptl);
	found = page_test(page, PG_SWAPCACHE) && page->swap.v == slot &&
		pte_same(pte_read(vmf->ptep), vmf->orig);
	if (found) {
		n = page_test(page, PG_WRITEBACK) ? map_again(vmf, slot, page)
						  : map_with_others(vmf, slot, page, &gone);
		if (n > 0) {
			atomic_fetch_add_explicit(&mm->rss, 1, memory_order_relaxed);
			atomic_fetch_sub_explicit(&mm->swapped, 1, memory_order_relaxed);
		}
	}
	spin_unlock(vmf->ptl);
	page_unlock(page);
	if (gone)
		page_unmapped(e, page);
	page_put(e, page);
	if (n > 0)
		return write_to_shared(vmf);
	swap_unpin(&e->swap, &slot, 1);
	if (n < 0)
		return set_failed(vmf, vmf->address, n);
	return found ? VM_FAULT_RETRY : VM_FAULT_NOPAGE;
}

/* Swap entries next to (and with) the one asked for, as they are now, in order of address. */
static void read_slots(const struct vm_fault_info *vmf, struct run *run, u64 *slots)
{
	const pte_t *ptep = vmf->ptep;
	unsigned n = 0;

	while (n < run->n) {
		pte_t pte = pte_read(ptep);

		if (!pte_is_swap(pte))
			break;
		slots[run->down ? run->n - 1 - n : n] = pte_to_swp(pte).v;
		n++;
		ptep += run->down ? -1 : 1;
	}
	if (run->down && n < run->n)
		memmove(slots, slots + (run->n - n), n * sizeof(*slots));
	run_shrink(run, n);
}

/* Drop pages (and pins) that turned out not to be wanted: keep n next to the one asked for. */
static void drop_tail(struct engine *e, struct run *run, struct page **pages, u64 *slots,
		      unsigned n)
{
	unsigned first = run->down ? 0 : n, nr = run->n - n;

	if (!nr)
		return;
	run_free(e, pages + first, nr, true);
	swap_unpin(&e->swap, slots + first, nr);
	if (run->down) {
		memmove(pages, pages + nr, n * sizeof(*pages));
		memmove(slots, slots + nr, n * sizeof(*slots));
	}
	run_shrink(run, n);
}

/* Load the bytes of the run, the page asked for first.  Shrinks the run at a neighbour that cannot
 * be had.  The store's error for the page asked for. */
static int load(struct engine *e, struct run *run, struct page **pages, u64 *slots)
{
	unsigned n;
	int err = 0;

	for (n = 0; n < run->n; n++) {
		unsigned i = run->down ? run->n - 1 - n : n;

		err = swap_load(&e->swap, slots[i], e->mmu->bytes(e, pages[i]));
		if (err)
			break;
	}
	if (!n)
		return err;
	drop_tail(e, run, pages, slots, n);
	return 0;
}

/* How many pages next to (and with) the one asked for may be mapped, and (bit i of *sole) which
 * will have no other entry?  PTL held. */
static unsigned still_wanted(const struct vm_fault_info *vmf, const struct run *run,
			     const u64 *slots, u64 *sole)
{
	struct engine *e = vmf->vma->mm->engine;
	const pte_t *first = vmf->ptep - run->asked;
	unsigned n;

	*sole = 0;
	for (n = 0; n < run->n; n++) {
		unsigned i = run->down ? run->n - 1 - n : n;

		/* The one asked for comes back as write-protected as it was when we looked. */
		pte_t was = i == run->asked ? vmf->orig : swp_to_pte((swp_entry_t){ slots[i] });

		/* Who else has it is the slot's to say. */
		if (!pte_same(pte_without(pte_read(first + i), PTE_SWP_COMMON),
			      pte_without(was, PTE_SWP_COMMON)))
			break;
	}
	if (run->down) {
		for (unsigned i = 0; i < n; i++) {
			unsigned at = run->n - 1 - i;
			u64 one;

			if (!swap_uncached(&e->swap, &slots[at], 1, &one))
				return i;
			*sole |= one << at;
		}
		return n;
	}
	return n ? swap_uncached(&e->swap, slots, n, sole) : 0;
}

/* Put those of the first n pages whose slots others name, too, into the swap cache, locked: from
 * the page asked for outwards, up to one that has a page by now.  How many of the n may be mapped;
 * bit i of *claimed: this one was put there.  PTL held. */
static unsigned claim_slots(struct engine *e, const struct run *run, struct page **pages,
			    const u64 *slots, unsigned n, u64 sole, u64 *claimed)
{
	for (unsigned k = 0; k < n; k++) {
		unsigned i = run->down ? run->n - 1 - k : k;

		if (sole >> i & 1)
			continue;
		page_init_flags(pages[i], PG_LOCKED); /* nobody knows it yet */
		if (!swap_cache_try_add(e, pages[i], slots[i])) {
			page_unlock(pages[i]);
			return k;
		}
		*claimed |= 1ULL << i;
	}
	return n;
}

/* Those of them that were mapped stay there, the first n; the others leave again. */
static void settle_claims(struct engine *e, struct page **pages, unsigned n, u64 claimed)
{
	for (; claimed; claimed &= claimed - 1) {
		unsigned i = __builtin_ctzll(claimed);

		if (i >= n)
			swap_cache_del(e, pages[i]);
		page_unlock(pages[i]);
	}
}

/* The lists come after this. */
static void note_refaults(struct engine *e, struct page **pages, const u64 *shadows,
			  const struct run *run, unsigned n)
{
	if (run->asked < n)
		workingset_refault(e, pages[run->asked], shadows[run->asked]);
	stat_add(&e->stats->refaults, n);
}

unsigned do_swap_page(struct vm_fault_info *vmf)
{
	struct mm *mm = vmf->vma->mm;
	struct engine *e = mm->engine;
	struct page *pages[MMU_BATCH], *cached;
	u64 slots[MMU_BATCH], shadows[MMU_BATCH], sole, claimed = 0;
	struct run run;
	unsigned n, nr;
	int err;

	observe(e, STEP_SWAP_IN, vmf->address, 1);
	if (!vma_anon(vmf->vma) && anon_vma_prepare(vmf->vma))
		return VM_FAULT_OOM;
	run = readahead_plan(vmf);
	spin_lock(vmf->ptl);
	if (!pte_same(pte_read(vmf->ptep), vmf->orig)) {
		spin_unlock(vmf->ptl);
		return 0;
	}
	read_slots(vmf, &run, slots);
	nr = run.n;
	if (run.down) {
		/* Pinning goes from the page asked for outwards. */
		for (n = 0; n < run.n; n++)
			if (!swap_pin(&e->swap, &slots[run.n - 1 - n], 1, &cached))
				break;
		if (cached && n) {
			swap_unpin(&e->swap, &slots[run.n - 1 - n], 1);
			spin_unlock(vmf->ptl);
			page_put(e, cached);
			cached = NULL;
		} else {
			spin_unlock(vmf->ptl);
		}
	} else {
		n = swap_pin(&e->swap, slots, run.n, &cached);
		spin_unlock(vmf->ptl);
	}
	if (cached)
		return map_cached(vmf, slots[run.asked], cached);
	if (run.down)
		memmove(slots, slots + (nr - n), n * sizeof(*slots));
	run_shrink(&run, n);

	nr = run.n;
	if (!run_alloc(vmf, &run, pages)) {
		swap_unpin(&e->swap, slots, nr);
		return VM_FAULT_OOM;
	}
	if (run.n < nr) {
		unsigned first = run.down ? 0 : run.n;

		swap_unpin(&e->swap, slots + first, nr - run.n);
		if (run.down)
			memmove(slots, slots + (nr - run.n), run.n * sizeof(*slots));
	}
	if (e->mmu->stage(e, pages, run.n)) {
		run_free(e, pages, run.n, false);
		swap_unpin(&e->swap, slots, run.n);
		return VM_FAULT_RETRY;
	}
	err = load(e, &run, pages, slots);

	spin_lock(vmf->ptl);
	n = still_wanted(vmf, &run, slots, &sole);
	if (unlikely(!err && n && sole != ~0ULL >> (MMU_BATCH - n)))
		n = claim_slots(e, &run, pages, slots, n, sole, &claimed);
	if (unlikely(err || !n || (n < run.n && run.down))) {
		settle_claims(e, pages, 0, claimed);
		spin_unlock(vmf->ptl);
		run_free(e, pages, run.n, true);
		swap_unpin(&e->swap, slots, run.n);
		if (!err || !n)
			return VM_FAULT_NOPAGE;
		stat_add(&e->stats->store_errors, 1);
		return VM_FAULT_SIGBUS;
	}
	nr = run.n;
	run_shrink(&run, n);
	for (unsigned i = 0; i < n; i++)
		if (likely(sole >> i & 1))
			page_init_flags(pages[i], PG_ANON_EXCLUSIVE);
	err = run_set(vmf, &run, pages);
	n = max_of(err, 0);
	if (n) {
		swap_end_in(e, pages, slots, n, shadows);
		note_refaults(e, pages, shadows, &run, n);
		run_account(vmf, &run, pages, n);
		atomic_fetch_sub_explicit(&mm->swapped, (s64)n, memory_order_relaxed);
	}
	settle_claims(e, pages, n, claimed);
	spin_unlock(vmf->ptl);

	if (unlikely(n < nr)) {
		run_free(e, pages + n, nr - n, true);
		swap_unpin(&e->swap, slots + n, nr - n);
	}
	if (err < 0)
		return set_failed(vmf, run.start, err);
	sole = sole >> run.asked & 1;
	n = run.asked < n ? n : 0; /* did the page asked for come? */
	run_shrink(&run, max_of(n, 1u));
	readahead_done(e, &run);
	if (!n)
		return VM_FAULT_NOPAGE;
	return VM_FAULT_MAJOR | (likely(sole) ? 0 : write_to_shared(vmf));
}
