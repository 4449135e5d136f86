/* SPDX-License-Identifier: MIT */
/* Running the operations of a script on a soft machine; script.h has the language. */
#include <stdio.h>

#include "engine/backing/page_cache.h"
#include "engine/backing/shmem.h"
#include "engine/base/errno.h"
#include "machine/soft/script_ops.h"

struct run {
	struct soft_machine *m;
	struct mm *first;
	struct mm *mm; /* what cpu has loaded */
	struct soft_cpu *cpu;
	struct mm *processes[SCRIPT_NAMES]; /* NULL: no such */
	u64 names[SCRIPT_NAMES];
	struct file *files[SCRIPT_NAMES];
	char *message;
};

static int fail(struct run *r, const struct script_op *op, const char *what)
{
	snprintf(r->message, SCRIPT_MESSAGE, "line %u: %s: %s", op->line,
		 script_verb_name(op->verb), what);
	return -ERANGE;
}

static u64 resolve(const struct run *r, const struct script_addr *a)
{
	return (a->name < 0 ? 0 : r->names[a->name]) + a->offset;
}

/* ---- outcomes ---- */

static struct outcome of_errno(s64 ret)
{
	if (ret < 0)
		return (struct outcome){ .kind = OUT_ERRNO, .err = -ret };
	return (struct outcome){ .kind = OUT_OK };
}

static struct outcome of_address(s64 ret)
{
	if (ret < 0)
		return of_errno(ret);
	return (struct outcome){ .kind = OUT_ADDRESS, .address = ret };
}

static struct outcome of_access(enum fault_reason reason)
{
	if (reason == FAULT_OK)
		return (struct outcome){ .kind = OUT_OK };
	return (struct outcome){ .kind = OUT_FAULT, .reason = reason };
}

static bool as_expected(const struct outcome *got, const struct outcome *expected)
{
	/* Where no address is expected, any will do. */
	if (expected->kind == OUT_OK && got->kind == OUT_ADDRESS)
		return true;
	if (got->kind != expected->kind)
		return false;
	switch (got->kind) {
	case OUT_OK:
		return true;
	case OUT_ADDRESS:
		return got->address == expected->address;
	case OUT_ERRNO:
		return got->err == expected->err;
	case OUT_FAULT:
		return got->reason == expected->reason;
	}
	return false;
}

/* ---- accesses ---- */

/* The part of [va, end) in va's page. */
static u64 part(u64 va, u64 end)
{
	return min_of(end - va, PAGE_SIZE - page_offset(va));
}

static int run_read(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n, i;
	enum fault_reason reason = FAULT_OK;
	u8 bytes[PAGE_SIZE];
	char what[80];

	for (; va < end && reason == FAULT_OK; va += n) {
		n = part(va, end);
		reason = soft_read(r->cpu, va, bytes, n);
		for (i = 0; reason == FAULT_OK && op->byte >= 0 && i < n; i++)
			if (bytes[i] != op->byte) {
				snprintf(what, sizeof(what), "0x%llx holds %u, not %d",
					 (unsigned long long)(va + i), bytes[i], op->byte);
				return fail(r, op, what);
			}
	}
	*out = of_access(reason);
	return 0;
}

static struct outcome run_write(struct run *r, const struct script_op *op)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n;
	enum fault_reason reason = FAULT_OK;
	u8 bytes[PAGE_SIZE];

	memset(bytes, op->byte, sizeof(bytes));
	for (; va < end && reason == FAULT_OK; va += n) {
		n = part(va, end);
		reason = soft_write(r->cpu, va, bytes, n);
	}
	return of_access(reason);
}

static enum fault_reason touch(struct soft_cpu *cpu, u64 va, u32 access)
{
	u64 old;
	u8 byte;

	if (access & PF_WRITE) /* a write that changes nothing, whoever else writes */
		return soft_add_u64(cpu, va & ~(u64)7, 0, &old);
	return access & PF_INSTR ? soft_fetch(cpu, va, &byte, 1) : soft_read_byte(cpu, va, &byte);
}

static struct outcome run_touch(struct run *r, const struct script_op *op)
{
	u64 va = resolve(r, &op->addr), end = va + op->len;
	enum fault_reason reason = FAULT_OK;

	for (; va < end && reason == FAULT_OK; va = (va & PAGE_MASK) + PAGE_SIZE)
		reason = touch(r->cpu, va, op->access);
	return of_access(reason);
}

/* ---- files ---- */

static int run_file_write(struct file *file, u64 pos, u64 len, int byte, struct outcome *out)
{
	u64 end = pos + len, n;
	u8 bytes[PAGE_SIZE];
	s64 done = 0;

	memset(bytes, byte, sizeof(bytes));
	for (; pos < end; pos += done) {
		n = part(pos, end);
		done = file_write(file, pos, bytes, n);
		if (done < 0)
			break;
	}
	*out = of_errno(done);
	return 0;
}

static int run_file_read(struct run *r, const struct script_op *op, struct file *file,
			 struct outcome *out)
{
	u64 pos = op->offset, end = pos + op->len, i;
	u8 bytes[PAGE_SIZE];
	char what[80];
	s64 done = 0;

	for (; pos < end; pos += done) {
		done = file_read(file, pos, bytes, part(pos, end));
		if (done < 0)
			break;
		if (!done) {
			snprintf(what, sizeof(what), "it ends at %llu", (unsigned long long)pos);
			return fail(r, op, what);
		}
		for (i = 0; op->byte >= 0 && i < (u64)done; i++)
			if (bytes[i] != op->byte) {
				snprintf(what, sizeof(what), "byte %llu is %u, not %d",
					 (unsigned long long)(pos + i), bytes[i], op->byte);
				return fail(r, op, what);
			}
	}
	*out = of_errno(done);
	return 0;
}

static int run_create(struct run *r, const struct script_op *op, struct outcome *out)
{
	struct file **file = &r->files[op->file];

	if (*file)
		return fail(r, op, "there is one of that name");
	*file = op->verb == OP_FILE ? ramfile_create(&r->m->engine, FILE_READ | FILE_WRITE, ~0ULL)
				    : shmem_file_setup(&r->m->engine, 0);
	if (!*file) {
		*out = of_errno(-ENOMEM);
		return 0;
	}
	if (op->byte >= 0)
		return run_file_write(*file, 0, op->len, op->byte, out);
	*out = of_errno(file_truncate(*file, op->len));
	return 0;
}

static int run_file_op(struct run *r, const struct script_op *op, struct outcome *out)
{
	struct file *file = r->files[op->file];

	if (op->verb == OP_FILE || op->verb == OP_SHMEM)
		return run_create(r, op, out);
	if (!file)
		return fail(r, op, "no such file");
	switch (op->verb) {
	case OP_FREAD:
		return run_file_read(r, op, file, out);
	case OP_FWRITE:
		return run_file_write(file, op->offset, op->len, op->byte, out);
	case OP_TRUNCATE:
		*out = of_errno(file_truncate(file, op->len));
		return 0;
	case OP_PUNCH:
		*out = of_errno(file_punch_hole(file, op->offset, op->len));
		return 0;
	case OP_SYNC:
		*out = of_errno(vfs_fsync_range(file, 0, ~0ULL));
		return 0;
	case OP_EVICT:
		invalidate_mapping_pages(file->mapping, 0, ~0ULL);
		return 0;
	case OP_FAIL:
		if (!file->mapping->ops->read_page)
			return fail(r, op, "it has no disk");
		ramfile_fail(file, op->io, 0, ~0ULL, op->err);
		return 0;
	default:
		file_put(file);
		r->files[op->file] = NULL;
		return 0;
	}
}

/* ---- the others ---- */

static struct outcome run_map(struct run *r, const struct script_op *op)
{
	u64 addr = resolve(r, &op->addr);

	if (op->file < 0)
		return of_address(vm_map(r->mm, addr, op->len, op->prot, op->flags, op->vm_flags));
	return of_address(vm_map_file(r->mm, addr, op->len, op->prot, op->flags, op->vm_flags,
				      r->files[op->file], op->offset >> PAGE_SHIFT));
}

static u64 counter_value(const struct mm *mm, const struct file *file, enum script_counter c)
{
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

static int run_expect(struct run *r, const struct script_op *op)
{
	const struct file *file = op->file < 0 ? NULL : r->files[op->file];
	char what[80];
	u64 got;

	if (op->file >= 0 && !file)
		return fail(r, op, "no such file");
	got = counter_value(r->mm, file, op->counter);
	if (got == op->count)
		return 0;
	snprintf(what, sizeof(what), "%s is %llu, not %llu", script_counter_name(op->counter),
		 (unsigned long long)got, (unsigned long long)op->count);
	return fail(r, op, what);
}

/* What the CPU runs from here on; a CPU that has none runs the first. */
static void run_here(struct run *r, struct mm *mm)
{
	r->mm = mm ? mm : r->first;
	if (atomic_load(&r->cpu->mm) != r->mm)
		soft_load_mm(r->cpu, r->mm);
}

static int run_cpu(struct run *r, const struct script_op *op)
{
	if (op->cpu >= r->m->nr_cpus)
		return fail(r, op, "the machine has no such CPU");
	r->cpu = &r->m->cpus[op->cpu];
	run_here(r, atomic_load(&r->cpu->mm));
	return 0;
}

/* ---- processes ---- */

static void end_process(struct run *r, int name)
{
	struct mm *mm = r->processes[name];

	for (unsigned i = 0; i < r->m->nr_cpus; i++)
		if (atomic_load(&r->m->cpus[i].mm) == mm)
			soft_load_mm(&r->m->cpus[i], r->first);
	run_here(r, atomic_load(&r->cpu->mm));
	mm_destroy(mm);
	r->processes[name] = NULL;
}

static int run_fork(struct run *r, const struct script_op *op, struct outcome *out)
{
	if (r->processes[op->process])
		return fail(r, op, "there is a process of that name");
	*out = of_errno(mm_fork(r->mm, &r->processes[op->process]));
	return 0;
}

static int run_process(struct run *r, const struct script_op *op)
{
	if (op->process >= 0 && !r->processes[op->process])
		return fail(r, op, "there is no such process");
	run_here(r, op->process < 0 ? r->first : r->processes[op->process]);
	return 0;
}

static int run_exit(struct run *r, const struct script_op *op)
{
	if (!r->processes[op->process])
		return fail(r, op, "there is no such process");
	end_process(r, op->process);
	return 0;
}

/* Do it; 0 with what came of it, or -ERANGE for what no outcome can express. */
static int run_op(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 addr = resolve(r, &op->addr);

	*out = (struct outcome){ .kind = OUT_OK };
	switch (op->verb) {
	case OP_MAP:
		if (op->file >= 0 && !r->files[op->file])
			return fail(r, op, "no such file");
		*out = run_map(r, op);
		return 0;
	case OP_UNMAP:
		*out = of_errno(vm_unmap(r->mm, addr, op->len));
		return 0;
	case OP_PROTECT:
		*out = of_errno(vm_protect(r->mm, addr, op->len, op->prot));
		return 0;
	case OP_REMAP:
		*out = of_address(vm_remap(r->mm, addr, op->len, op->new_len, op->flags,
					   resolve(r, &op->to)));
		return 0;
	case OP_ADVISE:
		*out = of_errno(vm_advise(r->mm, addr, op->len, op->advice));
		return 0;
	case OP_READ:
		return run_read(r, op, out);
	case OP_WRITE:
		*out = run_write(r, op);
		return 0;
	case OP_TOUCH:
		*out = run_touch(r, op);
		return 0;
	case OP_PAGEOUT:
		reclaim_range(r->mm, addr, addr + op->len);
		return 0;
	case OP_RECLAIM:
		reclaim_direct(&r->m->engine, op->count);
		return 0;
	case OP_FORK:
		return run_fork(r, op, out);
	case OP_PROCESS:
		return run_process(r, op);
	case OP_EXIT:
		return run_exit(r, op);
	case OP_CPU:
		return run_cpu(r, op);
	case OP_CHECK:
		soft_check(r->m);
		return 0;
	case OP_EXPECT:
		return run_expect(r, op);
	default:
		return run_file_op(r, op, out);
	}
}

static int judge(struct run *r, const struct script_op *op, const struct outcome *got)
{
	struct outcome expected = op->expected;
	char want[32], have[32], what[96];

	if (expected.kind == OUT_ADDRESS)
		expected.address = resolve(r, &op->expected_address);
	if (as_expected(got, &expected))
		return 0;
	snprintf(what, sizeof(what), "expected %s, got %s",
		 outcome_text(&expected, want, sizeof(want)),
		 outcome_text(got, have, sizeof(have)));
	return fail(r, op, what);
}

int script_run(const struct script *script, struct soft_machine *m, struct mm *mm, char *message)
{
	struct run r = { .m = m, .first = mm, .mm = mm, .cpu = &m->cpus[0], .message = message };
	struct outcome out;
	int err = 0;

	message[0] = '\0';
	for (size_t i = 0; i < script->n && !err; i++) {
		const struct script_op *op = &script->ops[i];

		err = run_op(&r, op, &out);
		if (!err)
			err = judge(&r, op, &out);
		if (!err && op->as >= 0 && out.kind == OUT_ADDRESS)
			r.names[op->as] = out.address;
	}
	for (int i = 0; i < SCRIPT_NAMES; i++)
		if (r.processes[i])
			end_process(&r, i);
	for (unsigned i = 0; i < SCRIPT_NAMES; i++)
		if (r.files[i])
			file_put(r.files[i]);
	return err;
}
