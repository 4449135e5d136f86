/* SPDX-License-Identifier: MIT */
/* The engine's side: a soft machine with one CPU for the program, and its thread. */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/backing/file.h"
#include "engine/backing/shmem.h"
#include "engine/kernel/uaccess.h"
#include "engine/space/calls.h"
#include "engine/userfault/userfault.h"
#include "machine/soft/kernel.h"
#include "tests/differential/worlds/userfault.h"
#include "tests/unit/world.h"

static struct world w;
static struct uaccess nowhere;
static struct userfaultfd_ctx *ctxs[2 * UF_CONTEXTS]; /* the second half: a child's */
static struct file *file, *read_only;

/* ---- the program ---- */

static struct {
	pthread_t thread;
	bool runs;
	sem_t begin;
	_Atomic bool over;
	struct uf_op op;
	s64 result;
} program;

static s64 map(const struct uf_op *op)
{
	u64 flags = MAP_FIXED;
	u64 offset = op->page2 * PAGE_SIZE;

	flags |= op->backing == UF_ANON || op->backing == UF_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	if (op->backing == UF_ANON || op->backing == UF_SHARED_ANON)
		flags |= MAP_ANONYMOUS;
	return do_mmap(w.mm, uf_at(op->page), uf_len(op), op->mode, flags,
		       op->backing == UF_READ_ONLY ? read_only : file,
		       flags & MAP_ANONYMOUS ? 0 : offset);
}

static s64 touch(struct soft_cpu *cpu, const struct uf_op *op)
{
	u64 va = uf_at(op->page) + op->page2;
	u8 byte = op->byte;
	enum fault_reason reason = op->kind == UF_WRITE ? soft_write_byte(cpu, va, byte)
							: soft_read_byte(cpu, va, &byte);

	switch (reason) {
	case FAULT_OK:
		return byte;
	case FAULT_BUS:
		return UF_BUS;
	case FAULT_MAPERR:
		return UF_MAPERR;
	case FAULT_ACCERR:
		return UF_ACCERR;
	default:
		return -2000 - (s64)reason;
	}
}

static s64 run_child(const struct uf_op *op)
{
	struct soft_cpu *cpu = &w.m->cpus[1];
	struct uf_op one = { .kind = op->mode ? UF_WRITE : UF_READ, .byte = op->byte };
	struct mm *child;
	s64 sum = mm_fork(w.mm, &child);

	if (sum)
		return sum;
	soft_load_mm(cpu, child);
	for (unsigned i = 0; i < op->n; i++) {
		one.page = op->page + i;
		sum = uf_sum(sum, touch(cpu, &one));
	}
	soft_load_mm(cpu, NULL);
	mm_destroy(child);
	return sum;
}

static s64 do_op(const struct uf_op *op)
{
	u64 at = uf_at(op->page), len = uf_len(op);

	switch ((enum uf_kind)op->kind) {
	case UF_MAP:
		return map(op);
	case UF_UNMAP:
		return vm_unmap(w.mm, at, len);
	case UF_PROTECT:
		return do_mprotect(w.mm, at, len, op->mode);
	case UF_DONTNEED:
		return do_madvise(w.mm, at, len, UAPI_MADV_DONTNEED);
	case UF_REMAP:
		return do_mremap(w.mm, at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED,
				 uf_at(op->page2));
	case UF_FILE_WRITE:
		for (unsigned i = 1; i < op->n; i++)
			file_write(file, (op->page + i) * PAGE_SIZE, &op->byte, 1);
		return file_write(file, op->page * PAGE_SIZE, &op->byte, 1);
	case UF_FILE_PUNCH:
		return file_punch_hole(file, op->page * PAGE_SIZE, op->n * PAGE_SIZE);
	case UF_FORK:
		return run_child(op);
	case UF_PAGEOUT:
		return do_madvise(w.mm, at, len, UAPI_MADV_PAGEOUT);
	default:
		return touch(w.cpu, op);
	}
}

static void *run_program(void *arg)
{
	(void)arg;
	for (;;) {
		while (sem_wait(&program.begin))
			;
		program.result = do_op(&program.op);
		atomic_store(&program.over, true);
	}
	return NULL;
}

static void start(const struct uf_op *op)
{
	program.op = *op;
	atomic_store(&program.over, false);
	sem_post(&program.begin);
}

/* ---- the monitor ---- */

static void tell(struct uf_msg *to, const struct userfault_msg *msg)
{
	to->event = msg->event;
	if (msg->event == UAPI_UFFD_EVENT_PAGEFAULT) {
		to->a = msg->arg.pagefault.flags;
		to->b = msg->arg.pagefault.address;
	} else if (msg->event == UAPI_UFFD_EVENT_REMAP) {
		to->a = msg->arg.remap.from;
		to->b = msg->arg.remap.to;
		to->c = msg->arg.remap.len;
	} else {
		to->a = msg->arg.remove.start;
		to->b = msg->arg.remove.end;
	}
}

static int wait_for(s64 *result)
{
	for (;;) {
		bool over = atomic_load(&program.over);

		for (int i = 0; i < 2 * UF_CONTEXTS; i++)
			if (ctxs[i] && (userfaultfd_poll(ctxs[i], true) & USERFAULT_POLLIN))
				return i;
		if (over) {
			*result = program.result;
			return -1;
		}
		sched_yield(); /* it takes a few microseconds */
	}
}

static bool next(int ctx, struct uf_msg *to)
{
	struct userfault_msg msg;

	if (userfaultfd_read(ctxs[ctx], &msg, 1, true) != 1)
		return false;
	*to = (struct uf_msg){ .ctx = (unsigned)ctx };
	if (msg.event == UAPI_UFFD_EVENT_FORK) {
		to->event = msg.event;
		ctxs[UF_CONTEXTS + ctx] = msg.arg.fork.ctx;
	} else {
		tell(to, &msg);
	}
	return true;
}

static bool has(unsigned ctx)
{
	return ctxs[ctx];
}

static void close_childs(void)
{
	for (unsigned i = UF_CONTEXTS; i < 2 * UF_CONTEXTS; i++) {
		if (ctxs[i])
			userfaultfd_release(ctxs[i]);
		ctxs[i] = NULL;
	}
}

static s64 monitor(const struct uf_op *op, s64 *done)
{
	static u8 bytes[UF_PAGES * PAGE_SIZE];
	struct userfaultfd_ctx *c = ctxs[op->ctx];
	u64 at = uf_at(op->page), len = uf_len(op), ioctls = 0;
	s64 result;

	*done = 0;
	switch ((enum uf_kind)op->kind) {
	case UF_REGISTER:
		result = userfaultfd_register(c, at, len, op->mode, &ioctls);
		*done = (s64)ioctls;
		return result;
	case UF_UNREGISTER:
		return userfaultfd_unregister(c, at, len);
	case UF_WAKE:
		return userfaultfd_wake(c, at, len);
	case UF_COPY:
		memset(bytes, op->byte, sizeof(bytes));
		if (op->crooked == UF_CROOKED_SOURCE)
			return userfaultfd_copy(c, &nowhere, at, UF_NOWHERE, len, op->mode, done);
		return userfaultfd_copy(c, NULL, at, (u64)(uintptr_t)bytes, len, op->mode, done);
	case UF_ZEROPAGE:
		return userfaultfd_zeropage(c, at, len, op->mode, done);
	case UF_CONTINUE:
		return userfaultfd_continue(c, at, len, op->mode, done);
	case UF_MOVE:
		return userfaultfd_move(c, w.mm, at, uf_at(op->page2), len, op->mode, done);
	case UF_WRITEPROTECT:
		return userfaultfd_writeprotect(c, at, len, op->mode);
	default:
		return userfaultfd_poison(c, at, len, op->mode, done);
	}
}

static unsigned look_at(unsigned page)
{
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(w.mm, uf_at(page), &ptl);
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };
	unsigned bits = 0;

	if (pte_none(pte))
		return 0;
	bits |= pte_mapped(pte) ? UF_PRESENT : UF_OTHER;
	return bits | (pte_uffd_wp(pte) ? UF_WP : 0);
}

static unsigned look(u8 *pages, u8 (*areas)[2])
{
	unsigned n = 0;

	for (unsigned i = 0; i < UF_PAGES; i++)
		pages[i] = look_at(i);
	for (const struct vma *vma = find_vma(w.mm, UF_BASE); vma; vma = vma_next(vma)) {
		areas[n][0] = (vma->start - UF_BASE) >> PAGE_SHIFT;
		areas[n++][1] = (vma->end - vma->start) >> PAGE_SHIFT;
	}
	soft_check(w.m);
	return n;
}

/* ---- a session ---- */

/* A program of another machine, which has no memory at all. */
static bool make_nowhere(void)
{
	static struct task task = { .pid = 1 };
	static struct world other;
	struct soft_kernel *k;

	if (world_create(&other, (struct world_options){ .frames = 64 }) ||
	    soft_kernel_create(other.m, KERNEL_HALF_SHARED, 0, 0, &k))
		return false;
	kernel_attach(&k->kernel, other.mm);
	task.mm = other.mm;
	soft_kernel_run(k, 0, &task);
	nowhere = soft_uaccess(k, 0);
	return true;
}

static bool begin(const u64 *features)
{
	if (!program.runs) {
		sem_init(&program.begin, 0, 0);
		pthread_create(&program.thread, NULL, run_program, NULL);
		program.runs = true;
		if (world_create(&w, (struct world_options){ .frames = 512, .cpus = 2 }) ||
		    !make_nowhere())
			return false;
	}
	file = shmem_file_setup(w.e, UF_FILE_PAGES * PAGE_SIZE);
	read_only = file ? file_open(file->mapping, FILE_READ) : NULL;
	if (!read_only)
		return false;
	for (unsigned i = 0; i < UF_CONTEXTS; i++) {
		u64 asked = features[i], ioctls;

		if (userfaultfd_create(w.mm, 0, &ctxs[i]) ||
		    userfaultfd_api(ctxs[i], UAPI_UFFD_API, &asked, &ioctls))
			return false;
	}
	return true;
}

static void end(void)
{
	for (unsigned i = 0; i < UF_CONTEXTS; i++)
		userfaultfd_release(ctxs[i]);
	vm_unmap(w.mm, UF_BASE, UF_PAGES * PAGE_SIZE);
	file_put(read_only);
	file_put(file);
	soft_check(w.m);
}

const struct uf_side uf_engine = { "engine", begin, end,	  start,   wait_for,
				   next,     has,   close_childs, monitor, look };
