/* SPDX-License-Identifier: MIT */
/*
 * Where the engine, below the objects, comes by them: a frame is taken (5), a page is filled (6,
 * 7), an entry changes (8).  The numbers are those of the plan in fault.c.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/tornado/fault.h"

/* That this thread is in. */
static _Thread_local struct fault *current;

static struct fault *fault_at(const struct tornado *t, const struct mm *mm, u64 va, unsigned n)
{
	struct fault *f = current;

	if (!f || f->tornado != t || f->mm != mm || f->va < va || f->va - va >= n * PAGE_SIZE)
		return NULL;
	return f;
}

void fault_below(struct fault *f)
{
	current = f;
}

/* ---- 5: the DRAM manager ---- */

static void get_frame(struct tornado *t, unsigned cpu, u64 pfn)
{
	int err;

	ledger_step(&fcm_object, "calls out to the DRAM object to allocate a page frame in memory",
		    pfn << PAGE_SHIFT);
	err = dram_get_frame(&t->objects, cpu, t->dram->root.ref, pfn);
	if (err)
		vmf_panic("tornado: frame %lx is given twice: %d", (unsigned long)pfn, err);
}

static int stage(struct engine *e, struct page **pages, unsigned n)
{
	struct tornado *t = tornado_of_engine(e);
	unsigned cpu = tornado_cpu(t);
	int err = t->counted.stage(e, pages, n);

	if (err)
		return err;
	co_enter(&t->objects, cpu);
	for (unsigned i = 0; i < n; i++)
		get_frame(t, cpu, page_pfn(e, pages[i]));
	co_exit(&t->objects, cpu);
	return 0;
}

static void release(struct engine *e, struct page *page)
{
	struct tornado *t = tornado_of_engine(e);
	unsigned cpu = tornado_cpu(t);

	/* Frames of files that no fault has met are the engine's alone. */
	if (t->dram && dram_in_use(t->dram, page_pfn(e, page))) {
		co_enter(&t->objects, cpu);
		dram_free_frame(&t->objects, cpu, t->dram->root.ref, page_pfn(e, page));
		co_exit(&t->objects, cpu);
	}
	t->counted.release(e, page);
}

/* ---- 6, 7: the COR ---- */

static void ask_cor(struct fault *f, bool stored)
{
	f->asked_cor = true;
	ledger_step(&fcm_object, "calls out to the COR object to fill the new page", f->va);
	if (cor_start_fill(objects(f), f->cpu, f->fcm->cor, f->offset, stored) == COR_STARTED)
		f->started = true;
}

/* The COR performs the I/O. */
static void io_begins(struct fault *f)
{
	ask_cor(f, true);
	fault_upcall(f);
}

/* The I/O is complete.  pfn NO_PFN: where it is will be known later. */
static void io_ends(struct fault *f, int err, u64 pfn)
{
	if (err)
		f->started = false;
	else if (pfn != NO_PFN)
		fault_complete(f, pfn);
}

static int load(struct store *store, u64 slot, void *bytes)
{
	struct engine_system *base = container_of(container_of(store, struct lab_store, store),
						  struct engine_system, store);
	struct tornado *t = container_of(base, struct tornado, base);
	struct fault *f = current && current->tornado == t ? current : NULL;
	int err;

	if (f)
		io_begins(f);
	err = t->store_own->load(store, slot, bytes);
	/* Which of the frames that are read into is the page's is known when it is mapped, or found
	 * in its file. */
	if (f)
		io_ends(f, err, NO_PFN);
	return err;
}

/* This thread's fault, if it is on that page of the file. */
static struct fault *fault_on(const struct tornado_file *file, u64 index)
{
	struct fault *f = current;

	if (!f || f->tornado != file->tornado || f->fcm != file->fcm || f->offset != index)
		return NULL;
	return f;
}

int fault_read_page(struct address_space *m, struct page *page)
{
	struct tornado_file *file = tornado_file(m);
	struct tornado *t = file->tornado;
	unsigned cpu = tornado_cpu(t);
	u64 pfn = page_pfn(m->engine, page);
	struct fault *f = fault_on(file, page->index); /* NULL: one that is read with it */
	int err;

	co_enter(&t->objects, cpu);
	if (!dram_in_use(t->dram, pfn))
		get_frame(t, cpu, pfn);
	if (f)
		io_begins(f);
	else
		cor_start_fill(&t->objects, cpu, file->fcm->cor, page->index, true);
	err = file->own->read_page(m, page);
	if (f)
		io_ends(f, err, pfn);
	else if (!err && fcm_note(file->fcm, cpu, page->index, pfn))
		atomic_store(&t->forgot, true);
	co_exit(&t->objects, cpu);
	return err;
}

/* The file has the page, which is locked: its FCM is told, even if the fault goes on to map a copy,
 * for whoever looks around in the page cache may map it. */
static void in_cache(struct tornado_file *file, u64 index, u64 pfn)
{
	struct tornado *t = file->tornado;
	unsigned cpu = tornado_cpu(t);
	struct fault *f = fault_on(file, index);

	co_enter(&t->objects, cpu);
	if (f && f->filling) {
		/* Shared memory's frames are filled where nobody looks on. */
		if (!dram_in_use(t->dram, pfn))
			get_frame(t, cpu, pfn);
		if (!f->asked_cor)
			ask_cor(f, false);
		fault_complete(f, pfn);
	} else if (!f || pfn != f->page.pfn || fault_generation_of(f, pfn) != f->page.generation) {
		if (fcm_note(file->fcm, cpu, index, pfn))
			atomic_store(&t->forgot, true);
	}
	co_exit(&t->objects, cpu);
}

int fault_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
		   bool *major)
{
	struct tornado_file *file = tornado_file(m);
	int err = file->own->get_page(m, index, use, page, major);

	if (!err)
		in_cache(file, index, page_pfn(m->engine, *page));
	return err;
}

/* ---- 8: the HAT ---- */

/* The page is read, and the thread retries: does it find it in core now? */
static int retry(struct fault *f)
{
	int err;

	f->started = false;
	ledger_count(PAID_RETRIES);
	ledger_step(&process_object, "the I/O is complete, the thread is woken and retries", f->va);
	err = fault_find_region(f, false);
	return err ? err : fault_ask_fcm(f, NULL) == FCM_IN_CORE ? 0 : -EAGAIN;
}

/* Is what is mapped the page that the fault's FCM lacked?  It may be a copy of it, for the Region's
 * own FCM, or another area's by now, whose Region is yet to come. */
static bool is_of_fcm(const struct fault *f, pte_t pte)
{
	return page_test(pfn_page(f->mm->engine, pte_pfn(pte)), PG_FILE) == f->fcm->of_file;
}

/* The entry for the fault's page is about to be installed.  0, -EAGAIN: not so. */
static int before_mapping(struct fault *f, pte_t pte)
{
	if (f->filling && !f->asked_cor)
		ask_cor(f, false);
	if (f->started) {
		fault_complete(f, is_of_fcm(f, pte) ? pte_pfn(pte) : NO_PFN);
		if (retry(f))
			return -EAGAIN;
	}
	/* Another Region may have taken its place.  While we hold the page-table lock none is that
	 * is not known here, but one that is yet to look what is mapped: see note_entries(). */
	if (!co_is_known(objects(f), f->cpu, f->region))
		return -EAGAIN;
	/* The area's rights may be newer than the Region's: until it follows, try again. */
	return hat_check(&f->range, f->va, pte) ? -EAGAIN : 0;
}

/* The entry for the fault's page is installed: the FCM has the page from now on.  Here, because the
 * page may go again as soon as the page-table lock is free. */
static void after_mapping(struct fault *f, pte_t pte)
{
	u64 pfn = pte_pfn(pte);

	if (f->filling && is_of_fcm(f, pte))
		fault_complete(f, pfn);
	else if (pfn != f->page.pfn || fault_generation_of(f, pfn) != f->page.generation)
		tornado_note_entry(f->tornado, f->process, f->va, pte);
}

static struct hat_rep *call_hat(struct tornado *t, unsigned cpu, struct process *p,
				const char *what, u64 va)
{
	struct hat_rep *h;

	ledger_step(&region_object, what, va);
	h = hat_begin(&t->objects, cpu, p->hat->root.ref);
	if (!h)
		vmf_panic("tornado: a Process without a HAT");
	return h;
}

static int set(struct mm *mm, u64 va, pte_t *ptep, const pte_t *ptes, struct page **pages,
	       unsigned n)
{
	struct tornado *t = tornado_of_engine(mm->engine);
	struct process *p = tornado_process(t, mm);
	struct fault *f = fault_at(t, mm, va, n);
	unsigned cpu = tornado_cpu(t);
	int done = 0;

	if (!p)
		return t->counted.set(mm, va, ptep, ptes, pages, n);
	co_enter(&t->objects, cpu);
	if (f)
		done = before_mapping(f, ptes[pages_between(va, f->va)]);
	if (!done) {
		struct hat_rep *h =
			call_hat(t, cpu, p, "calls the HAT object to install the mapping", va);

		done = t->counted.set(mm, va, ptep, ptes, pages, n);
		ledger_step(&hat_object, "installs it, and returns", va);
		hat_end(h, (u64)max_of(done, 0), 0);
	}
	if (f && f->cleared && done <= 0)
		hat_end(call_hat(t, cpu, p, "has the HAT object put the mapping back", va), 1, 0);
	if (f)
		f->cleared = false;
	for (int i = 0; i < done; i++) {
		if (f && f->va == va + (u64)i * PAGE_SIZE)
			after_mapping(f, ptes[i]);
		else
			tornado_note_entry(t, p, va + (u64)i * PAGE_SIZE, ptes[i]);
	}
	co_exit(&t->objects, cpu);
	return done;
}

static void change(struct mm *mm, u64 va, pte_t *ptep, pte_t pte)
{
	struct tornado *t = tornado_of_engine(mm->engine);
	struct process *p = tornado_process(t, mm);
	unsigned cpu = tornado_cpu(t);
	struct hat_rep *h;

	co_enter(&t->objects, cpu);
	h = p ? call_hat(t, cpu, p, "calls the HAT object to change the mapping's rights", va)
	      : NULL;
	t->counted.change(mm, va, ptep, pte);
	if (h)
		hat_end(h, 0, 0);
	co_exit(&t->objects, cpu);
}

static pte_t clean(struct mm *mm, u64 va, pte_t *ptep)
{
	struct tornado *t = tornado_of_engine(mm->engine);
	struct process *p = tornado_process(t, mm);
	unsigned cpu = tornado_cpu(t);
	struct hat_rep *h;
	pte_t old;

	co_enter(&t->objects, cpu);
	h = p ? call_hat(t, cpu, p, "has the HAT object make the mapping read-only and clean", va)
	      : NULL;
	old = t->counted.clean(mm, va, ptep);
	if (h)
		hat_end(h, 0, 0);
	co_exit(&t->objects, cpu);
	return old;
}

/* An anonymous page has gone for good from where it was: it is nobody's to find any more. */
static void forget_entry(struct tornado *t, struct process *p, u64 va, pte_t old)
{
	struct range r;

	if (page_test(pfn_page(p->mm->engine, pte_pfn(old)), PG_FILE))
		return;
	if (process_range_at(p, va, &r))
		fcm_forget(r.fcm, tornado_cpu(t), r.offset + pages_between(r.start, va),
			   pte_pfn(old));
}

static pte_t clear(struct mm *mm, u64 va, pte_t *ptep, pte_t left)
{
	struct tornado *t = tornado_of_engine(mm->engine);
	struct process *p = tornado_process(t, mm);
	struct fault *f = fault_at(t, mm, va, 1);
	unsigned cpu = tornado_cpu(t);
	struct hat_rep *h;
	pte_t old;

	if (!p)
		return t->counted.clear(mm, va, ptep, left);
	co_enter(&t->objects, cpu);
	h = call_hat(t, cpu, p, "has the HAT object take the mapping away", va);
	old = t->counted.clear(mm, va, ptep, left);
	hat_end(h, 0, pte_mapped(old));
	if (f)
		f->cleared = pte_mapped(old);
	else if (pte_mapped(old) && pte_none(left))
		forget_entry(t, p, va, old);
	co_exit(&t->objects, cpu);
	return old;
}

static unsigned take(struct mm *mm, struct mmu_take *takes, unsigned n)
{
	struct tornado *t = tornado_of_engine(mm->engine);
	struct process *p = tornado_process(t, mm);
	unsigned taken = t->counted.take(mm, takes, n), cpu = tornado_cpu(t);

	if (!p || !taken)
		return taken;
	co_enter(&t->objects, cpu);
	hat_end(call_hat(t, cpu, p, "has the HAT object take mappings away", takes[0].va), 0,
		taken);
	co_exit(&t->objects, cpu);
	return taken;
}

/* ---- the engine's steps ---- */

static void step(struct engine_observer *o, enum engine_step step, u64 va, u64 n)
{
	struct engine_system *base = container_of(o, struct engine_system, observer);
	struct fault *f = current;

	engine_system_count_step(step, n);
	if (f && f->tornado != container_of(base, struct tornado, base))
		f = NULL;
	if (step == STEP_SWAP_IN && f && va == f->va && f->fcm != f->range.fcm)
		fault_is_own(f);
	/* A page of shared memory has no address yet: see in_cache(). */
	if (step == STEP_ZERO && va && f && f->filling && !f->asked_cor)
		ask_cor(f, false);
	if (step == STEP_ZERO && va)
		ledger_step(&fcm_object, "fills the page with zeros", va);
	else if (step == STEP_COPY)
		ledger_step(&fcm_object, "copies the old page into it", va);
	else if (step == STEP_ALLOC_TABLE)
		ledger_step(&hat_object, "adds a page table", va);
}

void fault_set_hooks(struct tornado *t)
{
	struct mmu_ops *mmu = &t->base.mmu;

	t->counted = *mmu;
	mmu->stage = stage;
	mmu->release = release;
	mmu->set = set;
	mmu->change = change;
	mmu->clean = clean;
	mmu->clear = clear;
	mmu->take = take;
	t->base.observer.step = step;
	t->base.store.who = NULL; /* the COR tells it */
	t->store_own = t->base.store.store.ops;
	t->store_ops = *t->store_own;
	t->store_ops.load = load;
	t->base.store.store.ops = &t->store_ops;
}
