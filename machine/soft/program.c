/* SPDX-License-Identifier: MIT */
/* A program on the engine on the soft machine: see program.h. */
#include "machine/soft/program.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "engine/base/errno.h"
#include "machine/soft/soft.h"

static struct soft_program *of(struct program *p)
{
	return container_of(p, struct soft_program, program);
}

static struct soft_cpu *cpu_of(struct program *p, unsigned cpu)
{
	return &of(p)->machine->cpus[of(p)->first_cpu + cpu];
}

static struct mm *mm_on(struct program *p, unsigned cpu)
{
	return atomic_load(&cpu_of(p, cpu)->mm);
}

/* ---- areas ---- */

static s64 map(struct program *p, unsigned cpu, const struct program_map *a)
{
	struct mm *mm = mm_on(p, cpu);

	if (a->file < 0)
		return vm_map(mm, a->addr, a->len, a->prot, a->flags, a->vm_flags);
	return vm_map_file(mm, a->addr, a->len, a->prot, a->flags, a->vm_flags,
			   of(p)->files[a->file], a->offset >> PAGE_SHIFT);
}

static int unmap(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	return vm_unmap(mm_on(p, cpu), addr, len);
}

static int protect(struct program *p, unsigned cpu, u64 addr, u64 len, u32 prot)
{
	return vm_protect(mm_on(p, cpu), addr, len, prot);
}

static s64 remap(struct program *p, unsigned cpu, u64 addr, u64 len, u64 new_len, u32 flags, u64 to)
{
	return vm_remap(mm_on(p, cpu), addr, len, new_len, flags, to);
}

static int advise(struct program *p, unsigned cpu, u64 addr, u64 len, enum vm_advice advice)
{
	return vm_advise(mm_on(p, cpu), addr, len, advice);
}

/* ---- accesses ---- */

enum fault_reason soft_program_access(struct soft_cpu *c, u64 va, u32 access, void *bytes, size_t n)
{
	if (access & PF_WRITE)
		return soft_write(c, va, bytes, n);
	return access & PF_INSTR ? soft_fetch(c, va, bytes, n) : soft_read(c, va, bytes, n);
}

static enum fault_reason access_page(struct program *p, unsigned cpu, u64 va, u32 access,
				     void *bytes, size_t n)
{
	return soft_program_access(cpu_of(p, cpu), va, access, bytes, n);
}

static enum fault_reason add(struct program *p, unsigned cpu, u64 va, u64 add, u64 *old)
{
	return soft_add_u64(cpu_of(p, cpu), va, add, old);
}

u64 soft_program_copy(struct soft_cpu *c, u64 va, char *bytes, u64 n, bool out)
{
	enum fault_reason reason = FAULT_OK;
	u64 part;

	for (; n; n -= part, va += part, bytes += part) {
		part = min_of(n, PAGE_SIZE - page_offset(va));
		reason = out ? soft_kernel_write(c, va, bytes, part, true)
			     : soft_kernel_read(c, va, bytes, part, true);
		if (reason != FAULT_OK)
			break;
	}
	return n;
}

static u64 copy_in(struct program *p, unsigned cpu, void *to, u64 va, u64 n)
{
	return soft_program_copy(cpu_of(p, cpu), va, to, n, false);
}

static u64 copy_out(struct program *p, unsigned cpu, u64 va, const void *from, u64 n)
{
	return soft_program_copy(cpu_of(p, cpu), va, (char *)from, n, true);
}

/* ---- reclaim ---- */

static void pageout(struct program *p, unsigned cpu, u64 addr, u64 len)
{
	reclaim_range(mm_on(p, cpu), addr, addr + len);
}

static void reclaim(struct program *p, u64 pages)
{
	reclaim_direct(of(p)->engine, pages);
}

/* ---- processes ---- */

static int fork_process(struct program *p, unsigned cpu, unsigned child)
{
	return mm_fork(mm_on(p, cpu), &of(p)->mms[child]);
}

static void run_process(struct program *p, unsigned cpu, unsigned process)
{
	struct mm *mm = of(p)->mms[process];

	if (mm_on(p, cpu) != mm)
		soft_load_mm(cpu_of(p, cpu), mm);
}

static void exit_process(struct program *p, unsigned process)
{
	struct mm **mm = &of(p)->mms[process];

	for (unsigned i = 0; i < p->nr_cpus; i++)
		if (mm_on(p, i) == *mm)
			run_process(p, i, 0);
	mm_destroy(*mm);
	*mm = NULL;
}

static unsigned running(struct program *p, unsigned cpu)
{
	const struct mm *mm = mm_on(p, cpu);

	for (unsigned i = 0; i < PROGRAM_PROCESSES; i++)
		if (mm && of(p)->mms[i] == mm)
			return i;
	return 0;
}

/* ---- files ---- */

static int file_create(struct program *p, int name, bool in_memory)
{
	struct engine *e = of(p)->engine;
	struct file *file = in_memory ? shmem_file_setup(e, 0)
				      : ramfile_create(e, FILE_READ | FILE_WRITE, ~0ULL);

	of(p)->files[name] = file;
	return file ? 0 : -ENOMEM;
}

static s64 read_file(struct program *p, int file, u64 pos, void *bytes, u64 n)
{
	return file_read(of(p)->files[file], pos, bytes, n);
}

static s64 write_file(struct program *p, int file, u64 pos, const void *bytes, u64 n)
{
	return file_write(of(p)->files[file], pos, bytes, n);
}

static int truncate_file(struct program *p, int file, u64 size)
{
	return file_truncate(of(p)->files[file], size);
}

static int punch_file(struct program *p, int file, u64 pos, u64 len)
{
	return file_punch_hole(of(p)->files[file], pos, len);
}

static int sync_file(struct program *p, int file)
{
	return vfs_fsync_range(of(p)->files[file], 0, ~0ULL);
}

static void evict_file(struct program *p, int file)
{
	invalidate_mapping_pages(of(p)->files[file]->mapping, 0, ~0ULL);
}

static int fail_file(struct program *p, int name, enum ramfile_io io, int err)
{
	struct file *file = of(p)->files[name];

	if (!file->mapping->ops->read_page)
		return -EINVAL;
	ramfile_fail(file, io, 0, ~0ULL, err);
	return 0;
}

static void close_file(struct program *p, int file)
{
	file_put(of(p)->files[file]);
	of(p)->files[file] = NULL;
}

/* ---- looks ---- */

static u64 count(struct program *p, unsigned cpu, int name, enum program_counter c)
{
	const struct file *file = name < 0 ? NULL : of(p)->files[name];
	const struct mm *mm = mm_on(p, cpu);

	switch (c) {
	case COUNT_MINOR:
		return atomic_load(&mm->minor);
	case COUNT_MAJOR:
		return atomic_load(&mm->major);
	case COUNT_RSS:
		return atomic_load(&mm->rss);
	case COUNT_SWAPPED:
		return atomic_load(&mm->swapped);
	case COUNT_MAPS:
		return mm->map_count;
	case COUNT_CACHED:
		return atomic_load(&file->mapping->nr_pages);
	case COUNT_DIRTY:
		return atomic_load(&file->mapping->nr_dirty);
	case COUNT_AWAY:
		return atomic_load(&file->mapping->nr_swapped);
	}
	return 0;
}

static void check(struct program *p)
{
	engine_check(of(p)->engine);
	soft_check_tlbs(of(p)->machine);
}

const struct program_ops soft_program_ops = {
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
	.fork = fork_process,
	.exit = exit_process,
	.run = run_process,
	.running = running,
	.file_create = file_create,
	.file_read = read_file,
	.file_write = write_file,
	.file_truncate = truncate_file,
	.file_punch = punch_file,
	.file_sync = sync_file,
	.file_evict = evict_file,
	.file_fail = fail_file,
	.file_close = close_file,
	.count = count,
	.check = check,
};

void soft_program_init(struct soft_program *p, struct soft_machine *m, struct mm *mm)
{
	*p = (struct soft_program){ .program = { .ops = &soft_program_ops, .nr_cpus = m->nr_cpus },
				    .machine = m,
				    .engine = mm->engine,
				    .mms = { mm } };
}

void soft_program_fini(struct soft_program *p)
{
	for (unsigned i = 1; i < PROGRAM_PROCESSES; i++)
		if (p->mms[i])
			exit_process(&p->program, i);
	for (int i = 0; i < PROGRAM_FILES; i++)
		if (p->files[i])
			close_file(&p->program, i);
}
