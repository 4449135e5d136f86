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
 * it takes a frame, has it filled, and changes an entry, it comes by the objects (below.c).  What
 * an object refuses is not done.
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

int fault_find_region(struct fault *f, bool may_grow)
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

int fault_ask_fcm(struct fault *f, struct fault_notification *n)
{
	int answer = look_up(f, n);

	if (answer == FCM_IN_CORE)
		ledger_step(&fcm_object, "it is, and returns the physical page frame", f->va);
	else if (answer == FCM_FILL)
		ledger_step(&fcm_object, "it is not cached in memory", f->va);
	return answer;
}

u32 fault_generation_of(const struct fault *f, u64 pfn)
{
	return atomic_load_explicit(&f->fcm->generations[pfn], memory_order_relaxed);
}

void fault_complete(struct fault *f, u64 pfn)
{
	int err;

	if (!f->filling)
		return;
	f->filling = false;
	f->page.pfn = pfn;
	if (pfn != NO_PFN)
		f->page.generation = fault_generation_of(f, pfn);
	if (f->started)
		err = fcm_io_complete(objects(f), f->cpu, f->fcm->root.ref, f->offset,
				      f->page.fault, pfn);
	else
		err = fcm_filled(f->fcm, f->cpu, f->offset, f->page.fault, pfn);
	if (err)
		vmf_panic("tornado: fault %ld at %lx cannot be completed: %d", (long)f->page.fault,
			  (unsigned long)f->va, err);
}

void fault_is_own(struct fault *f)
{
	int answer;

	fault_complete(f, NO_PFN);
	ledger_step(&fcm_object, "the page is at the store: it is not the file's", f->va);
	f->fcm = f->range.fcm;
	f->offset = f->range.offset + pages_between(f->range.start, f->va);
	f->asked_cor = f->started = false;
	answer = fcm_get_page(objects(f), f->cpu, f->fcm->root.ref, f->offset, &f->page,
			      &f->notification);
	f->filling = answer == FCM_FILL;
	f->pending = answer == FCM_PENDING;
}

void fault_upcall(struct fault *f)
{
	if (!(f->code & PF_USER))
		return;
	ledger_cross(&lab_kernel, &dispatcher, BY_UPCALL,
		     "upcall with the fault's id: another thread may run");
	ledger_cross(&dispatcher, &lab_kernel, BY_SYSTEM_CALL, "it has none, and waits");
}

/* ---- the trap ---- */

/* The page is in core, or ours to fill: the engine does it (5 to 8). */
static struct fault_result bring(struct fault *f)
{
	struct fault_result r;

	fault_below(f);
	r = resolve_fault(f->mm, f->address, f->code, FAULT_FLAG_USER);
	fault_below(NULL);
	fault_complete(f, NO_PFN); /* if it could not be */
	if (f->pending)
		fault_wait(&f->notification);
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
		err = fault_find_region(f, true);
		if (err == -EACCES)
			ledger_step(&region_object, "does not allow the access", f->address);
		if (err)
			return refused(err == -EACCES ? FAULT_ACCERR : FAULT_MAPERR);
		ledger_step(
			&region_object,
			"calls the File Cache Manager (FCM) that is responsible for what backs it",
			f->address);
		answer = fault_ask_fcm(f, &f->notification);
		if (answer == FCM_IN_CORE || answer == FCM_FILL)
			break;
		if (answer == -ENOMEM)
			return refused(FAULT_OOM);
		if (answer == FCM_PENDING) {
			ledger_step(&fcm_object, "another thread fills it: a fault id above 0",
				    f->va);
			fault_upcall(f);
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
			   .page.pfn = NO_PFN };
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
