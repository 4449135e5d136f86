/* SPDX-License-Identifier: MIT */
/*
 * The program's calls on CortenMM: each change of a layout is one transaction on its range, and
 * nothing but the tables has to be changed with it.
 */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "systems/common/engine_system.h"
#include "systems/corten/corten.h"

/* Addresses that one CPU gives out. */
#define CPU_SHARE (1ULL << 36)

static struct corten_space *space_on(struct program *p, unsigned cpu)
{
	return corten_space_of(atomic_load(&corten_of_program(p)->machine->cpus[cpu].mm));
}

static struct corten *enter(struct program *p, unsigned cpu, const char *name)
{
	struct corten *c = corten_of_program(p);

	ledger_begin(c->system.ledger, cpu);
	ledger_cross(&lab_program, &lab_kernel, BY_SYSTEM_CALL, name);
	return c;
}

static void leave(void)
{
	ledger_cross(&lab_kernel, &lab_program, BY_RETURN, "the call returns");
}

static bool is_range(u64 addr, u64 len)
{
	return !(addr & ~PAGE_MASK) && len && !(len & ~PAGE_MASK) && addr + len > addr;
}

static bool is_inside(u64 addr, u64 len)
{
	return addr >= CORTEN_LOW && addr < CORTEN_HIGH && len <= CORTEN_HIGH - addr;
}

/* The part of [*start, *end) that can be allocated.  False: there is none. */
static bool clip(u64 *start, u64 *end)
{
	*start = max_of(*start, CORTEN_LOW);
	*end = min_of(*end, CORTEN_HIGH);
	return *start < *end;
}

/* ---- mmap ---- */

static int stop(void *arg, struct corten_cursor *c, u64 va, u64 n, pte_t *ptep,
		struct corten_meta *meta)
{
	(void)arg, (void)c, (void)va, (void)n, (void)ptep, (void)meta;
	return -EEXIST;
}

/* One transaction: what was there goes (or the range must be free), and the new is there.  0,
 * -EEXIST, -ENOMEM: then nothing is there. */
static int put_at(struct corten_space *s, unsigned cpu, u64 addr, u64 len, bool replace,
		  const struct corten_meta *meta)
{
	struct corten_cursor c;
	int err;

	corten_lock(&c, s, cpu, addr, addr + len);
	if (replace)
		err = corten_unmap(&c, addr, addr + len);
	else
		err = corten_walk(&c, addr, addr + len, false, stop, NULL);
	if (!err) {
		err = corten_mark(&c, addr, addr + len, meta);
		if (err)
			corten_unmap(&c, addr, addr + len);
	}
	corten_unlock(&c);
	return err;
}

u64 corten_next_address(struct corten *c, unsigned cpu, u64 len)
{
	u64 used = atomic_fetch_add(&c->addresses[cpu].next, len) + len;

	return used > CPU_SHARE || used < len ? 0 : CORTEN_HIGH - cpu * CPU_SHARE - used;
}

static s64 put_anywhere(struct corten *c, struct corten_space *s, unsigned cpu, u64 len,
			const struct corten_meta *meta)
{
	int err = -EEXIST;
	u64 at = 0;

	while (err == -EEXIST) {
		at = corten_next_address(c, cpu, len);
		err = at ? put_at(s, cpu, at, len, false, meta) : -ENOMEM;
	}
	return err ? err : (s64)at;
}

static s64 place(struct corten *c, unsigned cpu, struct corten_space *s,
		 const struct program_map *a, const struct corten_meta *meta)
{
	bool fixed = a->flags & VMAP_FIXED, noreplace = a->flags & VMAP_FIXED_NOREPLACE;
	int err;

	if (!is_range(a->addr & (fixed || noreplace ? ~0ULL : PAGE_MASK), a->len))
		return -EINVAL;
	if (fixed || noreplace || a->addr) {
		u64 at = a->addr & PAGE_MASK;

		err = is_inside(at, a->len) ? put_at(s, cpu, at, a->len, fixed && !noreplace, meta)
					    : -ENOMEM;
		if (!err || fixed || noreplace)
			return err ? err : (s64)at;
	}
	return put_anywhere(c, s, cpu, a->len, meta);
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct corten *c = enter(p, cpu, "mmap");
	struct corten_meta meta = { .prot = (u8)(a->prot & (VM_READ | VM_WRITE | VM_EXEC)),
				    .kind = CORTEN_ANON };
	struct corten_file *fresh = NULL;
	s64 at = -ENOMEM;

	if (a->vm_flags & VM_SHARED)
		meta.flags |= CORTEN_SHARED;
	if (a->vm_flags & VM_GROWSDOWN)
		meta.flags |= CORTEN_STACK;
	if (a->file >= 0) {
		meta.kind = CORTEN_FILE;
		meta.file = c->files[a->file];
		meta.page = a->offset >> PAGE_SHIFT;
	} else if (a->vm_flags & VM_SHARED) { /* a file that has no name */
		meta.kind = CORTEN_FILE;
		meta.file = fresh = corten_file_new(&c->memory, true);
		if (fresh)
			corten_file_truncate(fresh, a->len);
	}
	if (meta.kind == CORTEN_ANON || meta.file)
		at = place(c, cpu, space_on(p, cpu), a, &meta);
	if (fresh)
		corten_file_refer(fresh, -1);
	leave();
	return at;
}

/* ---- munmap, madvise ---- */

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	u64 start = addr, end = addr + PAGE_ALIGN(len);
	struct corten_cursor c;
	int err = -EINVAL;

	enter(p, cpu, "munmap");
	if (PAGE_ALIGNED(addr) && end > addr && end <= CORTEN_HIGH) {
		err = 0;
		if (clip(&start, &end)) {
			corten_lock(&c, space_on(p, cpu), cpu, start, end);
			err = corten_unmap(&c, start, end);
			corten_unlock(&c);
		}
	}
	leave();
	return err;
}

static void drop_slot(struct corten *c, struct corten_meta *meta)
{
	if (meta->slot)
		corten_slot_refer(&c->memory, meta->slot - 1, -1);
	meta->slot = 0;
}

/* Whatever was written there is gone: it is as when it was allocated. */
static void drop(struct corten *c, struct corten_cursor *cur, u64 va, pte_t *ptep,
		 struct corten_meta *meta)
{
	if (!ptep)
		return;
	if (meta->slot && !pte_mapped(pte_read(ptep)))
		atomic_fetch_sub_explicit(&cur->space->swapped, 1, memory_order_relaxed);
	corten_drop(cur, va, ptep);
	drop_slot(c, meta);
}

struct advise {
	struct corten *c;
	u64 next;  /* up to here it is done */
	bool hole; /* before that something is not allocated */
};

static int drop_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct advise *a = arg;

	a->hole |= va != a->next;
	a->next = va + n * PAGE_SIZE;
	drop(a->c, cur, va, ptep, meta);
	return 0;
}

/* All that is allocated in the range, though there are holes, which are told. */
static int drop_range(struct corten *c, struct corten_space *s, unsigned cpu, u64 start, u64 end)
{
	struct advise a = { .c = c, .next = start };
	u64 stop = end;
	struct corten_cursor cur;

	if (clip(&start, &stop)) {
		corten_lock(&cur, s, cpu, start, stop);
		corten_walk(&cur, start, stop, false, drop_record, &a);
		corten_unlock(&cur);
	}
	return a.hole || a.next != end ? -ENOMEM : 0;
}

/* What may be dropped some day is dropped now.  0, also for no bytes; -EINVAL, -ENOMEM (holes). */
static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	struct corten *c = enter(p, cpu, "madvise");
	u64 end = addr + PAGE_ALIGN(len);
	int err = -EINVAL;

	if ((advice == VADV_DONTNEED || advice == VADV_FREE) && PAGE_ALIGNED(addr) &&
	    !(len && !PAGE_ALIGN(len)) && end >= addr)
		err = end > addr ? drop_range(c, space_on(p, cpu), cpu, addr, end) : 0;
	leave();
	return err;
}

/* ---- mprotect ---- */

struct protect {
	struct corten *c;
	u64 next; /* up to here all is allocated, and done */
	u8 prot;
};

static pte_t with_rights(struct corten *c, pte_t pte, const struct corten_meta *meta)
{
	struct page *page = pfn_page(&c->machine->engine, pte_pfn(pte));
	bool own = corten_is_anon(&c->memory, page) && page_mapcount(page) == 1;
	u64 rights = PTE_PRESENT | PTE_GLOBAL | PTE_WRITE | PTE_NX;

	return pte_with(pte_without(pte, rights), corten_bits(meta, own && meta->prot & VM_WRITE));
}

static int protect_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
			  struct corten_meta *meta)
{
	struct protect *p = arg;
	pte_t old, new;

	if (va != p->next)
		return -ENOMEM;
	meta->prot = p->prot;
	p->next = va + n * PAGE_SIZE;
	if (!ptep || !pte_mapped(old = pte_read(ptep)))
		return 0;
	new = with_rights(p->c, old, meta);
	if (pte_same(old, new))
		return 0;
	p->c->tables.mmu.change(&cur->space->mm, va, ptep, new);
	if ((old.v & ~new.v &(PTE_PRESENT | PTE_WRITE)) || (new.v & ~old.v &PTE_NX))
		corten_owe_flush(cur, va, va + PAGE_SIZE);
	return 0;
}

/* Up to the first hole. */
static int protect_range(struct corten *c, struct corten_space *s, unsigned cpu, u64 start, u64 end,
			 u32 prot)
{
	struct protect pr = { .c = c, .next = start, .prot = (u8)prot };
	struct corten_cursor cur;
	u64 stop = end;
	int err = 0;

	if (clip(&start, &stop)) {
		corten_lock(&cur, s, cpu, start, stop);
		err = corten_walk(&cur, start, stop, true, protect_record, &pr);
		corten_unlock(&cur);
	}
	return !err && pr.next != end ? -ENOMEM : err;
}

/* 0, also for no bytes; -EINVAL, -ENOMEM (holes, or beyond all addresses). */
static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	struct corten *c = enter(p, cpu, "mprotect");
	u64 end = addr + PAGE_ALIGN(len);
	int err = -EINVAL;

	if (PAGE_ALIGNED(addr) && !(prot & ~(u32)(VM_READ | VM_WRITE | VM_EXEC))) {
		err = len ? -ENOMEM : 0;
		if (end > addr)
			err = protect_range(c, space_on(p, cpu), cpu, addr, end, prot);
	}
	leave();
	return err;
}

/* ---- mremap ---- */

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct corten *c = enter(p, cpu, "mremap");
	s64 at = corten_remap(c, cpu, space_on(p, cpu), addr, len, new_len, flags, to);

	leave();
	return at;
}

/* ---- accesses ---- */

static struct soft_cpu *cpu_of(struct program *p, unsigned cpu)
{
	return &corten_of_program(p)->machine->cpus[cpu];
}

static enum fault_reason access_page(struct program *p, unsigned cpu, u64 va, u32 access,
				     void *bytes, size_t n)
{
	ledger_begin(corten_of_program(p)->system.ledger, cpu);
	return soft_program_access(cpu_of(p, cpu), va, access, bytes, n);
}

static enum fault_reason add(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old)
{
	ledger_begin(corten_of_program(p)->system.ledger, cpu);
	return soft_add_u64(cpu_of(p, cpu), va, add, old);
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	u64 left;

	enter(p, cpu, "write: the kernel reads the program's memory");
	left = soft_program_copy(cpu_of(p, cpu), va, to, n, false);
	leave();
	return left;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	u64 left;

	enter(p, cpu, "read: the kernel writes the program's memory");
	left = soft_program_copy(cpu_of(p, cpu), va, (char *)from, n, true);
	leave();
	return left;
}

/* ---- eviction ---- */

/* A page of a file only leaves the space. */
static int drop_file_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
			  struct corten_meta *meta)
{
	struct corten *c = arg;
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };

	(void)n, (void)meta;
	if (pte_mapped(pte) &&
	    !corten_is_anon(&c->memory, pfn_page(&c->machine->engine, pte_pfn(pte))))
		corten_drop(cur, va, ptep);
	return 0;
}

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	struct corten *c = corten_of_program(p);
	struct corten_space *s = space_on(p, cpu);
	struct corten_cursor cur;

	if (!is_range(addr, len) || !is_inside(addr, len))
		return;
	enter(p, cpu, "madvise: MADV_PAGEOUT");
	corten_lock(&cur, s, cpu, addr, addr + len);
	corten_walk(&cur, addr, addr + len, false, drop_file_page, c);
	corten_unlock(&cur);
	for (u64 va = addr; va < addr + len; va += PAGE_SIZE)
		if (corten_evict_at(&c->memory, cpu, s, va) < 0)
			break;
	leave();
}

/* Pages of files that are mapped, or differ from the disk, go when nothing else can. */
static u64 evict_files(struct corten *c, unsigned cpu, bool all)
{
	struct corten_cursor cur;
	u64 freed = 0;

	for (unsigned i = 0; all && i < PROGRAM_PROCESSES; i++) {
		if (!c->spaces[i])
			continue;
		corten_lock(&cur, c->spaces[i], cpu, CORTEN_LOW, CORTEN_HIGH);
		corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, drop_file_page, c);
		corten_unlock(&cur);
	}
	for (unsigned i = 0; i < PROGRAM_FILES; i++) {
		if (!c->files[i])
			continue;
		if (all)
			corten_file_sync(c->files[i]);
		freed += corten_file_evict(c->files[i]);
	}
	return freed;
}

bool corten_make_room(struct corten *c, unsigned cpu)
{
	return corten_reclaim(&c->memory, cpu, 8) || evict_files(c, cpu, false) ||
	       evict_files(c, cpu, true);
}

static void reclaim(struct program *p, u64 pages)
{
	struct corten *c = corten_of_program(p);

	corten_reclaim(&c->memory, c->machine->nr_cpus, pages);
}

static int fail_swap(struct program *p, enum ramfile_io io, int err)
{
	lab_store_fail(&corten_of_program(p)->store, io, err);
	return 0;
}

/* ---- processes ---- */

struct fork {
	struct corten *c;
	struct corten_cursor child;
};

/* The page is the child's, too, and neither may write to it. */
static int share_page(struct fork *f, struct corten_cursor *parent, u64 va, pte_t *ptep)
{
	pte_t pte = pte_read(ptep);
	struct page *page = pfn_page(&f->c->machine->engine, pte_pfn(pte));
	int err;

	if (!corten_is_anon(&f->c->memory, page))
		return 0; /* it is found in the file again */
	page_get(page);
	atomic_fetch_add(&page->mapcount, 1);
	err = corten_map(&f->child, va, page, false);
	if (err) {
		corten_unmapped(&f->c->memory, page);
		return err;
	}
	if (pte_write(pte)) {
		f->c->tables.mmu.change(&parent->space->mm, va, ptep, pte_without(pte, PTE_WRITE));
		corten_owe_flush(parent, va, va + PAGE_SIZE);
	}
	return 0;
}

static int fork_record(void *arg, struct corten_cursor *parent, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct fork *f = arg;
	pte_t pte = ptep ? pte_read(ptep) : (pte_t){ 0 };
	int err;

	/* The child's entry is clean, and could not tell that the slot is an old one. */
	if (pte_mapped(pte) && pte_dirty(pte))
		drop_slot(f->c, meta);
	err = corten_mark(&f->child, va, va + n * PAGE_SIZE, meta);
	if (err)
		return err;
	if (pte_mapped(pte))
		return share_page(f, parent, va, ptep);
	if (meta->slot)
		atomic_fetch_add_explicit(&f->child.space->swapped, 1, memory_order_relaxed);
	return 0;
}

static int copy_space(struct corten *c, unsigned cpu, struct corten_space *from,
		      struct corten_space *to)
{
	struct fork f = { .c = c };
	struct corten_cursor parent;
	int err;

	corten_lock(&parent, from, cpu, CORTEN_LOW, CORTEN_HIGH);
	corten_lock(&f.child, to, cpu, CORTEN_LOW, CORTEN_HIGH);
	err = corten_walk(&parent, CORTEN_LOW, CORTEN_HIGH, true, fork_record, &f);
	corten_unlock(&f.child);
	corten_unlock(&parent);
	return err;
}

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	struct corten *c = enter(p, cpu, "fork");
	struct corten_space *s = calloc(1, sizeof(*s));
	int err = s ? corten_space_init(s, &c->tables) : -ENOMEM;

	if (!err) {
		err = copy_space(c, cpu, space_on(p, cpu), s);
		if (err)
			corten_space_fini(s, cpu);
	}
	if (err)
		free(s);
	else
		c->spaces[child] = s;
	leave();
	return err;
}

static void load_space(struct corten *c, unsigned cpu, unsigned process)
{
	soft_load_mm(&c->machine->cpus[cpu], &c->spaces[process]->mm);
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	struct corten *c = corten_of_program(p);

	if (space_on(p, cpu) == c->spaces[process])
		return;
	enter(p, cpu, "sched_yield: another process is to run");
	load_space(c, cpu, process);
	lab_other_process_runs();
}

static void exit_process(struct program *p, unsigned process)
{
	unsigned cpu = lab_cpu_of(p, corten_of_program(p)->system.ledger, process);
	bool itself = p->ops->running(p, cpu) == process;
	struct corten *c = enter(p, cpu, itself ? "exit" : "kill: another process ends");

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (space_on(p, i) == c->spaces[process])
			load_space(c, i, 0);
	corten_space_fini(c->spaces[process], c->machine->nr_cpus);
	free(c->spaces[process]);
	c->spaces[process] = NULL;
	if (itself)
		lab_other_process_runs();
	else
		leave();
}

static unsigned running(struct program *p, unsigned cpu)
{
	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (corten_of_program(p)->spaces[i] == space_on(p, cpu))
			return i;
	return 0;
}

/* ---- files ---- */

/* The call's CPU, if it is one of this machine's. */
static unsigned here(const struct corten *c)
{
	return ledger_current() == c->system.ledger ? ledger_cpu() : c->machine->nr_cpus;
}

static int file_create(struct program *p, int file, bool in_memory)
{
	struct corten *c = corten_of_program(p);

	c->files[file] = corten_file_new(&c->memory, in_memory);
	return c->files[file] ? 0 : -ENOMEM;
}

/* In as many parts as there is memory for at once. */
static s64 file_bytes(struct program *p, int file, u64 pos, char *bytes, u64 n, bool write)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	unsigned cpu = here(c);
	u64 done = 0;
	s64 part;

	do {
		part = write ? corten_file_write(f, cpu, pos + done, bytes + done, n - done)
			     : corten_file_read(f, cpu, pos + done, bytes + done, n - done);
		done += max_of(part, (s64)0);
	} while (done < n && (part > 0 || (part == -ENOMEM && corten_make_room(c, cpu))));
	return done ? (s64)done : part;
}

static s64 file_read_bytes(struct program *p, int file, u64 pos, void *bytes, u64 n)
{
	return file_bytes(p, file, pos, bytes, n, false);
}

static s64 file_write_bytes(struct program *p, int file, u64 pos, const void *bytes, u64 n)
{
	return file_bytes(p, file, pos, (char *)bytes, n, true);
}

struct cut {
	struct corten *c;
	const struct corten_file *file;
	u64 start, end; /* pages of it that are gone */
	bool copies;	/* and private copies, too */
};

static int cut_page(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		    struct corten_meta *meta)
{
	struct cut *cut = arg;

	if (meta->kind != CORTEN_FILE || meta->file != cut->file || meta->page < cut->start ||
	    meta->page >= cut->end)
		return 0;
	if (cut->copies)
		drop(cut->c, cur, va, ptep, meta);
	else
		drop_file_page(cut->c, cur, va, n, ptep, meta);
	return 0;
}

/* They leave every space that there is.  The file has given them up before: who has found one has
 * locked the entry for it, and is waited for here. */
static void cut_pages(struct cut *cut)
{
	struct corten_cursor cur;

	for (unsigned i = 0; cut->start < cut->end && i < PROGRAM_PROCESSES; i++) {
		struct corten_space *s = cut->c->spaces[i];

		if (!s)
			continue;
		corten_lock(&cur, s, here(cut->c), CORTEN_LOW, CORTEN_HIGH);
		corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, cut_page, cut);
		corten_unlock(&cur);
	}
}

static int file_cut(struct program *p, int file, u64 size)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	struct cut cut = { c, f, PAGE_ALIGN(size) >> PAGE_SHIFT, 0, true };
	int err;

	spin_lock(&f->resizing);
	cut.end = PAGE_ALIGN(f->size) >> PAGE_SHIFT;
	do
		err = corten_file_truncate(f, size);
	while (err == -ENOMEM && corten_make_room(c, here(c)));
	if (!err)
		cut_pages(&cut);
	spin_unlock(&f->resizing);
	return err;
}

static int file_punch(struct program *p, int file, u64 pos, u64 len)
{
	struct corten *c = corten_of_program(p);
	struct corten_file *f = c->files[file];
	struct cut cut = { c, f, PAGE_ALIGN(pos) >> PAGE_SHIFT, (pos + len) >> PAGE_SHIFT, false };
	int err;

	if (!len || pos + len < pos)
		return -EINVAL;
	spin_lock(&f->resizing);
	do
		err = corten_file_punch(f, pos, pos + len);
	while (err == -ENOMEM && corten_make_room(c, here(c)));
	if (!err)
		cut_pages(&cut);
	spin_unlock(&f->resizing);
	return err;
}

static int sync_file(struct program *p, int file)
{
	return corten_file_sync(corten_of_program(p)->files[file]);
}

static void evict_file(struct program *p, int file)
{
	corten_file_evict(corten_of_program(p)->files[file]);
}

static int fail_file(struct program *p, int file, enum ramfile_io io, int err)
{
	struct corten_file *f = corten_of_program(p)->files[file];

	if (f->in_memory)
		return -EINVAL;
	atomic_store(&f->error[io], err);
	return 0;
}

static void close_file(struct program *p, int file)
{
	corten_file_refer(corten_of_program(p)->files[file], -1);
	corten_of_program(p)->files[file] = NULL;
}

/* ---- looks ---- */

static u64 count(struct program *p, unsigned cpu, int file, enum program_counter counter)
{
	struct corten_space *s = space_on(p, cpu);

	(void)file;
	switch (counter) {
	case COUNT_MINOR:
		return atomic_load(&s->minor);
	case COUNT_MAJOR:
		return atomic_load(&s->major);
	case COUNT_RSS:
		return (u64)atomic_load(&s->rss);
	case COUNT_SWAPPED:
		return (u64)atomic_load(&s->swapped);
	default:
		return 0; /* there are no areas to count */
	}
}

/* Of one space: what is found in its tables is what is counted. */
struct found {
	struct corten *c;
	s64 mapped, swapped;
	u32 *entries; /* [nr_user]: of all spaces, that map the frame */
};

static int find_record(void *arg, struct corten_cursor *cur, u64 va, u64 n, pte_t *ptep,
		       struct corten_meta *meta)
{
	struct found *f = arg;

	(void)cur, (void)va, (void)n;
	f->swapped += meta->slot && !(ptep && pte_mapped(pte_read(ptep)));
	if (ptep && pte_mapped(pte_read(ptep))) {
		f->mapped++;
		f->entries[pte_pfn(pte_read(ptep)) - f->c->machine->nr_table]++;
	}
	return 0;
}

static u64 check_space(struct found *f, struct corten_space *s)
{
	struct corten_cursor cur;

	f->mapped = f->swapped = 0;
	corten_lock(&cur, s, f->c->machine->nr_cpus, CORTEN_LOW, CORTEN_HIGH);
	corten_walk(&cur, CORTEN_LOW, CORTEN_HIGH, false, find_record, f);
	corten_unlock(&cur);
	if (f->mapped != atomic_load(&s->rss) || f->swapped != atomic_load(&s->swapped))
		vmf_panic("corten: %ld pages are mapped and %ld in slots, counted are %ld and %ld",
			  (long)f->mapped, (long)f->swapped, (long)atomic_load(&s->rss),
			  (long)atomic_load(&s->swapped));
	return corten_check_tables(s);
}

static void check(struct program *p)
{
	struct corten *c = corten_of_program(p);
	struct engine *e = &c->machine->engine;
	struct found f = { .c = c, .entries = calloc(c->machine->nr_user, sizeof(u32)) };
	u64 tables = 0;

	for (unsigned i = 0; f.entries && i < PROGRAM_PROCESSES; i++)
		if (c->spaces[i])
			tables += check_space(&f, c->spaces[i]);
	if (tables != atomic_load(&c->tables.nr_tables))
		vmf_panic("corten: %lu tables are in trees, %lu are there", (unsigned long)tables,
			  (unsigned long)atomic_load(&c->tables.nr_tables));
	for (u64 i = 0; i < c->machine->nr_user; i++) {
		const struct page *page = pfn_page(e, c->machine->nr_table + i);

		if ((u32)page_mapcount(page) != f.entries[i] ||
		    atomic_load(&page->refcount) < f.entries[i])
			vmf_panic("corten: frame %lu is mapped %u times, and counts %d",
				  (unsigned long)i, f.entries[i], page_mapcount(page));
	}
	free(f.entries);
	soft_check_tlbs(c->machine);
}

static void measure(struct program *p)
{
	system_measure(&corten_of_program(p)->system);
}

static void measured(struct program *p)
{
	system_measured(&corten_of_program(p)->system);
}

const struct program_ops corten_program_ops = {
	.map = map,
	.unmap = unmap,
	.protect = protect,
	.remap = remap,
	.advise = advise,
	.access = access_page,
	.add = add,
	.copy_in = copy_in,
	.copy_out = copy_out,
	.pageout = pageout,
	.reclaim = reclaim,
	.fail_swap = fail_swap,
	.fork = fork_process,
	.exit = exit_process,
	.run = run_process,
	.running = running,
	.file_create = file_create,
	.file_read = file_read_bytes,
	.file_write = file_write_bytes,
	.file_truncate = file_cut,
	.file_punch = file_punch,
	.file_sync = sync_file,
	.file_evict = evict_file,
	.file_fail = fail_file,
	.file_close = close_file,
	.count = count,
	.check = check,
	.measure = measure,
	.measured = measured,
};
