/* SPDX-License-Identifier: MIT */
/*
 * Tornado: the fault goes from object to object.
 *
 *   1. The page fault is an exception that is delivered to the Process object.
 *   2. The Process object finds which Region object needs to handle the fault, and delegates to it:
 * this CPU's representative knows those that it has met; for another it asks the list of all.
 *   3. The Region object sees whether it allows the access, and calls the File Cache Manager that
 * is responsible for what backs the region.
 *   4. The FCM checks if the page content is cached in memory.  If it is, go to 8.  If another
 * fills it just now, the thread waits for that fault's id, and begins again at 2.
 *   5. If it is not, the FCM calls out to the DRAM object to allocate a page frame in memory,
 *   6. and to the Cached Object Representative (COR) to fill it.  What is at no server is zeros, at
 * once.
 *   7. Otherwise the COR calls its server on this CPU, and the answer is a fault id above 0: the
 * program's dispatcher has an upcall, and may run another thread.  When the I/O is complete the FCM
 * is told, and wakes who waits for the id; the thread retries from 2, and finds the page in core.
 * (This is K42's way; in Tornado's first description the COR calls the Region back.)
 *   8. The Region object calls the Hardware Address Translation (HAT) object to install the
 * mapping,
 *   9. and the thread can resume.
 *
 * Below the objects is this project's engine, which does 5 to 8 in one go (resolve_fault()).  Where
 * it takes a frame, has it filled, and changes an entry, it comes by here, and the objects are
 * called: the thread's struct fault says for which fault.  What an object refuses is not done.
 */
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/tornado/fault.h"

const struct ledger_actor process_object = { .name = "the Process object", .domain = 1 };
const struct ledger_actor region_object = { .name = "the Region object", .domain = 1 };
const struct ledger_actor fcm_object = { .name = "the FCM", .domain = 1 };
const struct ledger_actor cor_object = { .name = "the COR", .domain = 1 };
const struct ledger_actor dram_object = { .name = "the DRAM object", .domain = 1 };
const struct ledger_actor hat_object = { .name = "the HAT object", .domain = 1 };
static const struct ledger_actor dispatcher = { .name = "the program's dispatcher",
						.ring = 3,
						.domain = 1 };

struct fault {
	struct tornado *tornado;
	unsigned cpu;
	struct process *process;
	struct mm *mm;
	u64 address, va; /* va: its page */
	u32 code;
	co_ref region;	    /* that handles it, */
	struct range range; /* and its range */
	/* The FCM that has, or lacks, the page. */
	struct fcm *fcm;
	u64 offset;
	struct fcm_page page;
	bool filling;	/* it is ours to fill, and to complete */
	bool asked_cor; /* the COR has said how */
	bool started;	/* its server reads: the thread has to retry */
	u64 frame;	/* taken for it last, NO_PFN: none */
	struct fault_notification notification;
};

/* That this thread is in. */
static _Thread_local struct fault *current;

static struct fault *fault_at(const struct tornado *t, const struct mm *mm, u64 va, unsigned n)
{
	struct fault *f = current;

	if (!f || f->tornado != t || f->mm != mm || f->va < va || f->va - va >= n * PAGE_SIZE)
		return NULL;
	return f;
}

static u64 pages_between(u64 start, u64 va)
{
	return (va - start) >> PAGE_SHIFT;
}

static struct co_system *objects(struct fault *f)
{
	return &f->tornado->objects;
}

/* ---- 2, 3: the Process and the Region ---- */

/* A stack may grow to the address: then a Region holds it. */
static bool grow_stack(struct fault *f)
{
	if (!process_may_grow(f->process, f->cpu, f->address))
		return false;
	down_read(&f->mm->mmap_lock);
	if (!find_extend_vma(f->mm, f->address, true))
		return false; /* which has dropped the lock */
	up_read(&f->mm->mmap_lock);
	ledger_step(&process_object, "a stack grows: its Region object, too", f->address);
	return !process_follow(f->process, f->cpu, f->va, f->va + PAGE_SIZE, false, tornado_back,
			       f->tornado);
}

/* The Region's range, once more if it is destroyed under way.  0, -EFAULT, -EACCES.  Without
 * may_grow any lock of the engine may be held. */
static int find_region(struct fault *f, bool may_grow)
{
	co_ref process = f->process->root.ref;
	int err;

	for (;;) {
		err = process_find_region(objects(f), f->cpu, process, f->address, &f->region);
		if (err == -EFAULT && may_grow && grow_stack(f))
			continue;
		if (err)
			return err;
		err = region_enter(objects(f), f->cpu, f->region, f->address, f->code, &f->range);
		if (err != -EBADF)
			return err;
		process_drop_region(objects(f), f->cpu, process, f->region);
	}
}

/* ---- 4: the FCM ---- */

/* Of the Region's own pages, or of the file under them: enum fcm_answer, or an error.  n NULL: it
 * is only looked. */
static int look_up(struct fault *f, struct fault_notification *n)
{
	const struct range *r = &f->range;
	int answer;

	f->fcm = r->fcm;
	f->offset = r->offset + pages_between(r->start, f->va);
	ledger_step(&fcm_object, "checks if the page content is cached in memory", f->va);
	if (!r->under)
		return fcm_get_page(objects(f), f->cpu, f->fcm->root.ref, f->offset, &f->page, n);
	/* Copies that were written to; the others are the file's. */
	answer = fcm_get_page(objects(f), f->cpu, f->fcm->root.ref, f->offset, &f->page, NULL);
	if (answer != FCM_PENDING)
		return answer;
	f->fcm = r->under;
	f->offset = r->under_offset + pages_between(r->start, f->va);
	ledger_step(&fcm_object, "asks the FCM of the file under it", f->va);
	return fcm_get_page(objects(f), f->cpu, f->fcm->root.ref, f->offset, &f->page, n);
}

static int ask_fcm(struct fault *f, struct fault_notification *n)
{
	int answer = look_up(f, n);

	if (answer == FCM_IN_CORE)
		ledger_step(&fcm_object, "it is, and returns the physical page frame", f->va);
	else if (answer == FCM_FILL)
		ledger_step(&fcm_object, "it is not cached in memory", f->va);
	return answer;
}

static u32 generation_of(const struct fault *f, u64 pfn)
{
	return atomic_load_explicit(&f->fcm->generations[pfn], memory_order_relaxed);
}

/* What we fill is filled with that frame; NO_PFN: it could not be. */
static void complete(struct fault *f, u64 pfn)
{
	int err;

	if (!f->filling)
		return;
	f->filling = false;
	f->page.pfn = pfn;
	if (pfn != NO_PFN)
		f->page.generation = generation_of(f, pfn);
	if (f->started)
		err = fcm_io_complete(objects(f), f->cpu, f->fcm->root.ref, f->offset,
				      f->page.fault, pfn);
	else
		err = fcm_filled(f->fcm, f->cpu, f->offset, f->page.fault, pfn);
	if (err)
		vmf_panic("tornado: fault %ld at %lx cannot be completed: %d", (long)f->page.fault,
			  (unsigned long)f->va, err);
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
	if (current && current->tornado == t)
		current->frame = page_pfn(e, pages[0]);
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

/* The fault is pending: the program's dispatcher is told its id. */
static void upcall(struct fault *f)
{
	if (!(f->code & PF_USER))
		return;
	ledger_cross(&lab_kernel, &dispatcher, BY_UPCALL,
		     "upcall with the fault's id: another thread may run");
	ledger_cross(&dispatcher, &lab_kernel, BY_SYSTEM_CALL, "it has none, and waits");
}

/* The COR performs the I/O. */
static void io_begins(struct fault *f)
{
	ask_cor(f, true);
	upcall(f);
}

/* The I/O is complete.  pfn NO_PFN: where it is will be known when it is mapped. */
static void io_ends(struct fault *f, int err, u64 pfn)
{
	if (err)
		f->started = false;
	else if (pfn != NO_PFN)
		complete(f, pfn);
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
	if (f)
		io_ends(f, err, f->frame);
	return err;
}

int fault_read_page(struct address_space *m, struct page *page)
{
	struct tornado_file *file = tornado_file(m);
	struct tornado *t = file->tornado;
	unsigned cpu = tornado_cpu(t);
	u64 pfn = page_pfn(m->engine, page);
	struct fault *f = current;
	int err;

	if (f && (f->tornado != t || f->fcm != file->fcm || f->offset != page->index))
		f = NULL; /* one that is read with it */
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

/* ---- 8: the HAT ---- */

/* The page is read, and the thread retries: does it find it in core now? */
static int retry(struct fault *f)
{
	int err;

	f->started = false;
	ledger_count(PAID_RETRIES);
	ledger_step(&process_object, "the I/O is complete, the thread is woken and retries", f->va);
	err = find_region(f, false);
	return err ? err : ask_fcm(f, NULL) == FCM_IN_CORE ? 0 : -EAGAIN;
}

/* The entry for the fault's page is about to be installed.  0, -EAGAIN: not so. */
static int before_mapping(struct fault *f, pte_t pte)
{
	struct tornado *t = f->tornado;

	/* Shared memory's frames are filled where nobody looks on. */
	if (f->filling && !f->asked_cor) {
		if (!pte_special(pte) && !dram_in_use(t->dram, pte_pfn(pte)))
			get_frame(t, f->cpu, pte_pfn(pte));
		ask_cor(f, false);
	}
	if (f->started) {
		complete(f, pte_pfn(pte));
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

/* Is what is mapped the page of the FCM that lacked it, and not a copy for the Region's own? */
static bool is_of_fcm(const struct fault *f, pte_t pte)
{
	return f->fcm == f->range.fcm || page_test(pfn_page(f->mm->engine, pte_pfn(pte)), PG_FILE);
}

/* The entry for the fault's page is installed: the FCM has the page from now on.  Here, because the
 * page may go again as soon as the page-table lock is free. */
static void after_mapping(struct fault *f, pte_t pte)
{
	u64 pfn = pte_pfn(pte);

	if (f->filling && is_of_fcm(f, pte))
		complete(f, pfn);
	else if (pfn != f->page.pfn || generation_of(f, pfn) != f->page.generation)
		tornado_note_entry(f->tornado, f->process, f->va, pte);
}

static struct hat_rep *call_hat(struct tornado *t, unsigned cpu, struct process *p,
				const char *what, u64 va)
{
	struct hat_rep *h;

	ledger_step(&region_object, what, va);
	h = hat_begin(&t->objects, cpu, p->hat);
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
	unsigned cpu = tornado_cpu(t);
	struct hat_rep *h;
	pte_t old;

	if (!p)
		return t->counted.clear(mm, va, ptep, left);
	co_enter(&t->objects, cpu);
	h = call_hat(t, cpu, p, "has the HAT object take the mapping away", va);
	old = t->counted.clear(mm, va, ptep, left);
	hat_end(h, 0, pte_mapped(old));
	if (pte_mapped(old) && pte_none(left) && !fault_at(t, mm, va, 1))
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
	if (step == STEP_ZERO && f && f->filling && !f->asked_cor)
		ask_cor(f, false);
	if (step == STEP_ZERO)
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
	t->store_own = t->base.store.store.ops;
	t->store_ops = *t->store_own;
	t->store_ops.load = load;
	t->base.store.store.ops = &t->store_ops;
}

/* ---- the trap ---- */

/* The page is in core, or ours to fill: the engine does it, and comes by above. */
static struct fault_result bring(struct fault *f)
{
	struct fault_result r;

	current = f;
	r = resolve_fault(f->mm, f->address, f->code, FAULT_FLAG_USER);
	current = NULL;
	complete(f, NO_PFN); /* if it could not be, or is a copy */
	return r;
}

static struct fault_result refused(enum fault_reason reason)
{
	return (struct fault_result){ .reason = reason };
}

static struct fault_result handle(struct fault *f)
{
	int err, answer;

	for (;;) {
		ledger_step(&process_object, "finds which Region object needs to handle the fault",
			    f->address);
		err = find_region(f, true);
		if (err == -EACCES)
			ledger_step(&region_object, "does not allow the access", f->address);
		if (err)
			return refused(err == -EACCES ? FAULT_ACCERR : FAULT_MAPERR);
		ledger_step(
			&region_object,
			"calls the File Cache Manager (FCM) that is responsible for what backs it",
			f->address);
		answer = ask_fcm(f, &f->notification);
		if (answer == FCM_IN_CORE || answer == FCM_FILL)
			break;
		if (answer == -ENOMEM)
			return refused(FAULT_OOM);
		if (answer == FCM_PENDING) {
			ledger_step(&fcm_object, "another thread fills it: a fault id above 0",
				    f->va);
			upcall(f);
			fault_wait(&f->notification);
		}
		ledger_count(PAID_RETRIES);
	}
	f->filling = answer == FCM_FILL;
	return bring(f);
}

struct fault_result fault_trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct tornado *t = tornado_of_engine(&cpu->machine->engine);
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	struct fault f = { .tornado = t,
			   .cpu = cpu->number,
			   .process = tornado_process(t, mm),
			   .mm = mm,
			   .address = cr2,
			   .va = cr2 & PAGE_MASK,
			   .code = code,
			   .page.pfn = NO_PFN,
			   .frame = NO_PFN };
	bool user = code & PF_USER;
	struct fault_result r;

	ledger_cross(user ? &lab_program : &lab_kernel, &lab_kernel, BY_EXCEPTION,
		     "page fault: an exception that is delivered to the Process object");
	co_enter(&t->objects, f.cpu);
	r = handle(&f);
	co_exit(&t->objects, f.cpu);
	if (r.reason == FAULT_RETRY)
		ledger_count(PAID_RETRIES);
	if (user)
		ledger_cross(&lab_kernel, &lab_program, BY_RETURN,
			     r.reason == FAULT_OK || r.reason == FAULT_RETRY
				     ? "the thread can resume: the access is made again"
				     : "the thread's handler of the exception");
	return r;
}
