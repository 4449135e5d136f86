/* SPDX-License-Identifier: MIT */
/*
 * CortenMM (SOSP 2025): the kernel fields, decides, supplies and installs, and all it knows of an
 * address space is in its page tables.
 *
 *   1. The thread faults; a cursor for the page goes down the tables without a lock, and locks the
 * smallest table that covers it: the last one, if it is there.  No lock is the space's.
 *   2. The record beside the entry says what is allocated there, and with which rights: nothing is
 * looked up anywhere else.
 *        nothing                    SIGSEGV, unless a stack above it may grow
 *        not with that right        SIGSEGV
 *        mapped, and read-only      a copy, unless the page is this entry's alone
 *        in a slot of the store     a frame with its bytes
 *        of a file                  the cache's frame, or a copy of it for a private write
 *        anonymous                  a frame of zeros
 *   3. It takes a frame, of its CPU's own, and fills it.
 *   4. It sets the entry, and the cursor unlocks the table.
 *   5. The access is made again.
 *
 * When no frame is free the cursor is given up first: who evicts locks the table of his victim.
 */
#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/common/engine_system.h"
#include "systems/corten/corten.h"

#define STACK_LIMIT (8ULL << 20)
#define STACK_GAP   (256 * PAGE_SIZE) /* that a stack keeps to what is below it */

struct corten_fault {
	struct corten *c;
	struct corten_space *space;
	struct corten_cursor cursor;
	struct corten_state state;
	unsigned cpu;
	u64 va; /* of the page */
	u32 code;
	bool major;
};

static struct page *page_at(const struct corten_fault *f)
{
	return pfn_page(&f->c->machine->engine, pte_pfn(f->state.pte));
}

static void must(int err, u64 va)
{
	if (err)
		vmf_panic("corten: a locked entry cannot be set at %lx: %d", (unsigned long)va,
			  err);
}

/* ---- supplying ---- */

static struct page *take_frame(struct corten_fault *f)
{
	struct page *page = corten_frame(&f->c->memory, f->cpu);

	if (page)
		ledger_step(&lab_kernel, "takes a frame of this CPU's", f->va);
	return page;
}

static void give_back(struct corten_fault *f, struct page *page)
{
	page_put(&f->c->machine->engine, page);
}

/* The page, with a reference, is what the entry maps from now on; `anon`: the space's own.  0,
 * -ENOMEM. */
static int install(struct corten_fault *f, struct page *page, bool anon, bool write)
{
	int err;

	atomic_fetch_add(&page->mapcount, 1);
	if (anon)
		corten_note_anon(&f->c->memory, page, f->va);
	err = corten_map(&f->cursor, f->va, page, write);
	if (err == -ENOMEM)
		corten_unmapped(&f->c->memory, page);
	else
		must(err, f->va);
	ledger_step(&lab_kernel, "sets the entry", f->va);
	return err;
}

static bool may_write(const struct corten_fault *f)
{
	return f->state.meta.prot & VM_WRITE;
}

static int zeros(struct corten_fault *f)
{
	struct page *page = take_frame(f);

	if (!page)
		return -ENOMEM;
	memset(corten_bytes(&f->c->memory, page), 0, PAGE_SIZE);
	ledger_count(PAID_PAGES_ZEROED);
	ledger_step(&lab_kernel, "fills it with zeros", f->va);
	return install(f, page, true, may_write(f));
}

static int from_store(struct corten_fault *f)
{
	struct store *store = f->c->memory.store;
	u64 slot = f->state.meta.slot - 1;
	struct page *page = take_frame(f);
	int err;

	if (!page)
		return -ENOMEM;
	if (store->ops->load(store, slot, corten_bytes(&f->c->memory, page))) {
		give_back(f, page);
		return -EIO;
	}
	f->major = true;
	ledger_step(&lab_kernel, "reads the page from the store", f->va);
	err = install(f, page, true, may_write(f));
	if (!err) /* the slot stays the page's, until it is written to */
		atomic_fetch_sub_explicit(&f->space->swapped, 1, memory_order_relaxed);
	return err;
}

/* A frame with the bytes of another; NULL: none is free. */
static struct page *copy_of(struct corten_fault *f, struct page *page)
{
	struct page *copy = take_frame(f);

	if (!copy)
		return NULL;
	if (corten_is_anon(&f->c->memory, page))
		memcpy(corten_bytes(&f->c->memory, copy), corten_bytes(&f->c->memory, page),
		       PAGE_SIZE);
	else /* others may be writing to it */
		shared_copy(corten_bytes(&f->c->memory, copy), corten_bytes(&f->c->memory, page),
			    PAGE_SIZE);
	ledger_count(PAID_PAGES_COPIED);
	ledger_step(&lab_kernel, "copies the page into it", f->va);
	return copy;
}

static int from_file(struct corten_fault *f)
{
	const struct corten_meta *m = &f->state.meta;
	bool shared = m->flags & CORTEN_SHARED, write = f->code & PF_WRITE;
	struct page *page, *copy;
	int err = corten_file_page(m->file, f->cpu, m->page, write && shared, &page, &f->major);

	if (err)
		return err;
	ledger_step(&lab_kernel, "finds the page of the file", f->va);
	if (shared || !write)
		return install(f, page, false, write);
	copy = copy_of(f, page);
	give_back(f, page);
	return copy ? install(f, copy, true, true) : -ENOMEM;
}

/* ---- a write to what is there, read-only ---- */

static void allow_write(struct corten_fault *f)
{
	pte_t pte = pte_with(f->state.pte, PTE_WRITE);

	f->c->tables.mmu.change(&f->space->mm, f->va, f->state.ptep, pte);
	ledger_step(&lab_kernel, "the page is its own: the entry allows writing", f->va);
}

static int copy_on_write(struct corten_fault *f)
{
	struct page *old = page_at(f), *copy = copy_of(f, old);

	if (!copy)
		return -ENOMEM;
	/* Flushed in between: nobody reads the old page when the new one is written to. */
	corten_take(&f->cursor, f->va, f->state.ptep);
	must(install(f, copy, true, true), f->va);
	corten_unmapped(&f->c->memory, old);
	return 0;
}

static int write_protected(struct corten_fault *f)
{
	const struct corten_meta *m = &f->state.meta;
	struct page *page = page_at(f), *same;
	bool anon = corten_is_anon(&f->c->memory, page);
	int err;

	if (anon && page_mapcount(page) == 1) {
		/* Only this entry maps it, and who would copy it needs this lock. */
		corten_note_anon(&f->c->memory, page, f->va);
		allow_write(f);
		return 0;
	}
	if (anon || !(m->flags & CORTEN_SHARED))
		return copy_on_write(f);
	err = corten_file_page(m->file, f->cpu, m->page, true, &same, &f->major);
	if (err)
		return err;
	give_back(f, same);
	allow_write(f);
	return 0;
}

/* ---- deciding ---- */

static bool is_allowed(const struct corten_fault *f)
{
	if (f->code & PF_WRITE)
		return f->state.meta.prot & VM_WRITE;
	if (f->code & PF_INSTR)
		return f->state.meta.prot & VM_EXEC;
	return f->state.meta.prot;
}

/* The page is locked.  0; -EFAULT: nothing is allocated; -EACCES, -EIO, -ENOMEM. */
static int decide(struct corten_fault *f)
{
	const struct corten_meta *m = &f->state.meta;

	corten_query(&f->cursor, f->va, &f->state);
	ledger_step(&lab_kernel, "the record beside the entry says what is there, and who may",
		    f->va);
	if (!m->kind)
		return -EFAULT;
	if (!is_allowed(f))
		return -EACCES;
	if (pte_mapped(f->state.pte)) {
		if ((f->code & PF_WRITE) && !pte_write(f->state.pte))
			return write_protected(f);
		return 0; /* another was first */
	}
	if (m->slot)
		return from_store(f);
	return m->kind == CORTEN_FILE ? from_file(f) : zeros(f);
}

static int try_once(struct corten_fault *f)
{
	int err;

	corten_lock(&f->cursor, f->space, f->cpu, f->va, f->va + PAGE_SIZE);
	ledger_step(&lab_kernel, "goes down without a lock, and locks the smallest table there is",
		    f->va);
	err = decide(f);
	corten_unlock(&f->cursor);
	return err;
}

/* ---- stacks ---- */

struct look {
	u64 va; /* of the first record */
	struct corten_meta meta;
	bool found;
};

static int look(void *arg, struct corten_cursor *c, u64 va, u64 n, pte_t *ptep,
		struct corten_meta *meta)
{
	struct look *l = arg;

	(void)c, (void)n, (void)ptep;
	*l = (struct look){ va, *meta, true };
	return 1;
}

/* The records are like the first of the stack, but for where its bytes are. */
static int reach_down(struct corten_fault *f, const struct look *above)
{
	struct corten_meta meta = { .kind = CORTEN_ANON,
				    .flags = above->meta.flags,
				    .prot = above->meta.prot };

	if (!corten_mark(&f->cursor, f->va, above->va, &meta))
		return -EAGAIN;
	corten_unmap(&f->cursor, f->va, above->va);
	return -ENOMEM;
}

/* If what follows the page is a stack, with nothing close below, it reaches down to it from now on.
 * -EAGAIN: it does; -EFAULT, -ENOMEM. */
static int grow_stack(struct corten_fault *f)
{
	u64 low = max_of(CORTEN_LOW, f->va > STACK_GAP ? f->va - STACK_GAP : 0);
	struct corten_cursor *c = &f->cursor;
	struct look below = { 0 }, above = { 0 };
	int err = -EFAULT;

	if (f->va < CORTEN_LOW || f->va >= CORTEN_HIGH)
		return -EFAULT;
	corten_lock(c, f->space, f->cpu, low, min_of(f->va + STACK_LIMIT, CORTEN_HIGH));
	if (f->va > low)
		corten_walk(c, low, f->va, false, look, &below);
	corten_walk(c, f->va, c->end, false, look, &above);
	if (above.found && above.va == f->va)
		err = -EAGAIN; /* by another */
	else if (!below.found && above.found && (above.meta.flags & CORTEN_STACK))
		err = reach_down(f, &above);
	corten_unlock(c);
	return err;
}

/* ---- the fault ---- */

static int resolve(struct corten_fault *f)
{
	int err;

	for (;;) {
		err = try_once(f);
		if (err == -EFAULT)
			err = grow_stack(f);
		if (err == -ENOMEM) {
			if (!corten_make_room(f->c, f->cpu))
				return -ENOMEM;
		} else if (err != -EAGAIN) {
			return err;
		}
	}
}

static enum fault_reason reason_of(int err)
{
	switch (err) {
	case 0:
		return FAULT_OK;
	case -EFAULT:
		return FAULT_MAPERR;
	case -EACCES:
		return FAULT_ACCERR;
	case -ENOMEM:
		return FAULT_OOM;
	default:
		return FAULT_BUS;
	}
}

struct fault_result corten_trap(struct soft_cpu *cpu, u64 cr2, u32 code)
{
	struct mm *mm = atomic_load_explicit(&cpu->mm, memory_order_relaxed);
	struct corten_space *s = corten_space_of(mm);
	struct corten_fault f = { .c = container_of(s->tables, struct corten, tables),
				  .space = s,
				  .cpu = cpu->number,
				  .va = cr2 & PAGE_MASK,
				  .code = code };
	bool user = code & PF_USER;
	int err = -EFAULT;

	ledger_cross(user ? &lab_program : &lab_kernel, &lab_kernel, BY_EXCEPTION,
		     "page fault: CR2 and the error code, vector 14");
	if (cr2 >= CORTEN_LOW && cr2 < CORTEN_HIGH)
		err = resolve(&f);
	if (!err)
		atomic_fetch_add_explicit(f.major ? &s->major : &s->minor, 1, memory_order_relaxed);
	if (user)
		ledger_cross(&lab_kernel, &lab_program, BY_RETURN,
			     err ? "to the handler of a signal" : "iret: the access is made again");
	return (struct fault_result){ .reason = reason_of(err), .major = f.major };
}
