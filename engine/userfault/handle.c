/* SPDX-License-Identifier: MIT */
/*
 * The fault's side: tell the monitor, and sleep.
 *
 * Why no wake-up is lost:
 *
 *   the faulting thread   1 queues itself (ctx->lock)     the monitor   1 changes the entry
 *                         2 looks at the entry again                    2 wakes (ctx->lock)
 *                         3 sleeps, if it still must
 *
 * Whoever is second to take ctx->lock sees what the other has done before.  If that is the monitor,
 * it finds the thread in the queue; if it is the thread, it finds the entry changed, and does not
 * sleep.  It looks with the fault's lock still held, so that the tables are there; only then the
 * lock goes: what the monitor must do next may need it for writing.
 *
 * The queue entry is on the thread's stack.  A waker takes it off the queue and is done with it
 * under ctx->lock, and the thread takes that lock once more before it returns.
 */
#include "engine/fault/internal.h"
#include "engine/space/huge.h"
#include "engine/userfault/internal.h"
#include "engine/userfault/wait.h"

void userfaultfd_tell(struct userfaultfd_ctx *ctx)
{
	atomic_fetch_add_explicit(&ctx->news, 1, memory_order_release);
	machine_wake(&ctx->news, ~0u >> 1);
}

/* ctx->lock held. */
static void wake_list(struct list_head *list, u64 start, u64 len)
{
	struct userfault_wait *w, *next;

	for (w = list_entry(list->next, struct userfault_wait, link); &w->link != list; w = next) {
		next = list_entry(w->link.next, struct userfault_wait, link);
		if (len && w->msg.arg.pagefault.address - start >= len)
			continue;
		list_del(&w->link);
		list_init(&w->link);
		atomic_store_explicit(&w->asleep, 0, memory_order_release);
		machine_wake(&w->asleep, 1);
	}
}

void wake_all(struct userfaultfd_ctx *ctx)
{
	spin_lock(&ctx->lock);
	wake_list(&ctx->pending, 0, 0);
	wake_list(&ctx->waiting, 0, 0);
	wake_list(&ctx->events, 0, 0);
	spin_unlock(&ctx->lock);
}

void wake_userfault(struct userfaultfd_ctx *ctx, u64 start, u64 len)
{
	spin_lock(&ctx->lock);
	wake_list(&ctx->pending, start, len);
	wake_list(&ctx->waiting, start, len);
	spin_unlock(&ctx->lock);
}

static struct userfault_msg fault_msg(const struct userfaultfd_ctx *ctx,
				      const struct vm_fault_info *vmf, u32 reason)
{
	struct userfault_msg msg = { .event = UAPI_UFFD_EVENT_PAGEFAULT };
	bool exact = userfaultfd_has(ctx, UAPI_UFFD_FEATURE_EXACT_ADDRESS);

	msg.arg.pagefault.address = exact ? vmf->real_address : vmf->address;
	if (vmf->flags & FAULT_FLAG_WRITE)
		msg.arg.pagefault.flags |= UAPI_UFFD_PAGEFAULT_FLAG_WRITE;
	if (reason == VM_UFFD_WP)
		msg.arg.pagefault.flags |= UAPI_UFFD_PAGEFAULT_FLAG_WP;
	if (reason == VM_UFFD_MINOR)
		msg.arg.pagefault.flags |= UAPI_UFFD_PAGEFAULT_FLAG_MINOR;
	if (userfaultfd_has(ctx, UAPI_UFFD_FEATURE_THREAD_ID))
		msg.arg.pagefault.ptid = machine_thread_id();
	return msg;
}

bool userfaultfd_wp_async(const struct vma *vma)
{
	return userfaultfd_has(vma->uffd, UAPI_UFFD_FEATURE_WP_ASYNC);
}

/* Is there still what the thread would wait for?  Exactly that: whoever changed it meanwhile has
 * woken, or was about to, when we were not in the queue yet.  Where there was no last-level table
 * the page may have come with one. */
static bool must_wait(const struct vm_fault_info *vmf, u32 reason)
{
	pte_t pte = vmf->ptep ? pte_read(vmf->ptep) : pte_peek(vmf->vma->mm, vmf->address);

	if (reason == VM_UFFD_WP)
		return pte_mapped(pte) && pte_uffd_wp(pte);
	return pte_none(pte) || pte_marker_is(pte, PTE_MARKER_UFFD_WP);
}

unsigned handle_userfault(struct vm_fault_info *vmf, u32 reason)
{
	struct userfaultfd_ctx *ctx = vmf->vma->uffd;
	struct userfault_wait w;
	bool wait;

	if (userfaultfd_has(ctx, UAPI_UFFD_FEATURE_SIGBUS))
		return VM_FAULT_SIGBUS;
	if (!(vmf->flags & FAULT_FLAG_USER) && (ctx->flags & UAPI_UFFD_USER_MODE_ONLY))
		return VM_FAULT_SIGBUS;
	if (!(vmf->flags & FAULT_FLAG_ALLOW_RETRY))
		return VM_FAULT_SIGBUS;
	/* Not to wait, nor to let go of the lock and come again: the releaser may want it. */
	if (atomic_load(&ctx->released))
		return VM_FAULT_NOPAGE;
	if (vmf->flags & FAULT_FLAG_RETRY_NOWAIT)
		return VM_FAULT_RETRY;

	observe(vmf->vma->mm->engine, STEP_USERFAULT, vmf->address, 1);
	userfaultfd_ctx_get(ctx);
	w.read = false;
	w.msg = fault_msg(ctx, vmf, reason);
	atomic_init(&w.asleep, 1);
	spin_lock(&ctx->lock);
	list_add_tail(&w.link, &ctx->pending);
	spin_unlock(&ctx->lock);

	wait = must_wait(vmf, reason);
	release_fault_lock(vmf);
	if (wait && !atomic_load(&ctx->released)) {
		userfaultfd_tell(ctx);
		while (atomic_load_explicit(&w.asleep, memory_order_acquire))
			machine_wait(&w.asleep, 1);
	}
	spin_lock(&ctx->lock);
	list_del(&w.link); /* of itself, if a waker was here */
	spin_unlock(&ctx->lock);
	userfaultfd_ctx_put(ctx);
	return VM_FAULT_RETRY;
}
