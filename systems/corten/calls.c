/* SPDX-License-Identifier: MIT */
/*
 * The program's calls on CortenMM: each change of a layout is one transaction on its range, and
 * nothing but the tables has to be changed with it.
 */
#include "engine/base/errno.h"
#include "systems/corten/calls.h"

/* Addresses that one CPU gives out. */
#define CPU_SHARE (1ULL << 36)

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

	if (!corten_is_range(a->addr & (fixed || noreplace ? ~0ULL : PAGE_MASK), a->len))
		return -EINVAL;
	if (fixed || noreplace || a->addr) {
		u64 at = a->addr & PAGE_MASK;

		err = corten_is_inside(at, a->len)
			      ? put_at(s, cpu, at, a->len, fixed && !noreplace, meta)
			      : -ENOMEM;
		if (!err || fixed || noreplace)
			return err ? err : (s64)at;
	}
	return put_anywhere(c, s, cpu, a->len, meta);
}

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct corten *c = corten_enter(p, cpu, "mmap");
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
		at = place(c, cpu, corten_space_on(p, cpu), a, &meta);
	if (fresh)
		corten_file_refer(fresh, -1);
	corten_leave();
	return at;
}

/* ---- munmap, madvise ---- */

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	u64 start = addr, end = addr + PAGE_ALIGN(len);
	struct corten_cursor c;
	int err = -EINVAL;

	corten_enter(p, cpu, "munmap");
	if (PAGE_ALIGNED(addr) && end > addr && end <= CORTEN_HIGH) {
		err = 0;
		if (clip(&start, &end)) {
			corten_lock(&c, corten_space_on(p, cpu), cpu, start, end);
			err = corten_unmap(&c, start, end);
			corten_unlock(&c);
		}
	}
	corten_leave();
	return err;
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
	corten_drop_whole(a->c, cur, va, ptep, meta);
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
	struct corten *c = corten_enter(p, cpu, "madvise");
	u64 end = addr + PAGE_ALIGN(len);
	int err = -EINVAL;

	if ((advice == VADV_DONTNEED || advice == VADV_FREE) && PAGE_ALIGNED(addr) &&
	    !(len && !PAGE_ALIGN(len)) && end >= addr)
		err = end > addr ? drop_range(c, corten_space_on(p, cpu), cpu, addr, end) : 0;
	corten_leave();
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
	struct corten *c = corten_enter(p, cpu, "mprotect");
	u64 end = addr + PAGE_ALIGN(len);
	int err = -EINVAL;

	if (PAGE_ALIGNED(addr) && !(prot & ~(u32)(VM_READ | VM_WRITE | VM_EXEC))) {
		err = len ? -ENOMEM : 0;
		if (end > addr)
			err = protect_range(c, corten_space_on(p, cpu), cpu, addr, end, prot);
	}
	corten_leave();
	return err;
}

/* ---- mremap ---- */

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	struct corten *c = corten_enter(p, cpu, "mremap");
	s64 at = corten_remap(c, cpu, corten_space_on(p, cpu), addr, len, new_len, flags, to);

	corten_leave();
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

	corten_enter(p, cpu, "write: the kernel reads the program's memory");
	left = soft_program_copy(cpu_of(p, cpu), va, to, n, false);
	corten_leave();
	return left;
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	u64 left;

	corten_enter(p, cpu, "read: the kernel writes the program's memory");
	left = soft_program_copy(cpu_of(p, cpu), va, (char *)from, n, true);
	corten_leave();
	return left;
}

/* ---- counts, faults of the store ---- */

static u64 count(struct program *p, unsigned cpu, int file, enum program_counter counter)
{
	struct corten_space *s = corten_space_on(p, cpu);

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

static int fail_swap(struct program *p, enum ramfile_io io, int err)
{
	lab_store_fail(&corten_of_program(p)->store, io, err);
	return 0;
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
	.pageout = corten_do_pageout,
	.reclaim = corten_do_reclaim,
	.fail_swap = fail_swap,
	.fork = corten_do_fork,
	.exit = corten_do_exit,
	.run = corten_do_run,
	.running = corten_do_running,
	.file_create = corten_do_file_create,
	.file_read = corten_do_file_read,
	.file_write = corten_do_file_write,
	.file_truncate = corten_do_file_truncate,
	.file_punch = corten_do_file_punch,
	.file_sync = corten_do_file_sync,
	.file_evict = corten_do_file_evict,
	.file_fail = corten_do_file_fail,
	.file_close = corten_do_file_close,
	.count = count,
	.check = corten_do_check,
	.measure = measure,
	.measured = measured,
};
