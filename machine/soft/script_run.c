/* SPDX-License-Identifier: MIT */
/* Running the operations of a script on a program's machine; script.h has the language. */
#include <stdio.h>

#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "machine/soft/script_ops.h"
#include "machine/soft/together.h"

struct run {
	struct program *p;
	const struct program_ops *ops;
	unsigned cpu;
	bool processes[SCRIPT_NAMES]; /* there is one of that name */
	bool files[SCRIPT_NAMES];
	u64 names[SCRIPT_NAMES];
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

/* By the program, or by its kernel's own code. */
static struct outcome access_part(struct run *r, const struct script_op *op, u64 va, u32 access,
				  void *bytes, size_t n)
{
	if (op->verb == OP_KREAD || op->verb == OP_KWRITE)
		return of_errno(r->ops->kernel_access(r->p, r->cpu, va, access, bytes, n));
	return of_access(r->ops->access(r->p, r->cpu, va, access, bytes, n));
}

static int run_read(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n, i;
	u8 bytes[PAGE_SIZE];
	char what[80];

	for (; va < end && out->kind == OUT_OK; va += n) {
		n = part(va, end);
		*out = access_part(r, op, va, 0, bytes, n);
		for (i = 0; out->kind == OUT_OK && op->byte >= 0 && i < n; i++)
			if (bytes[i] != op->byte) {
				snprintf(what, sizeof(what), "0x%llx holds %u, not %d",
					 (unsigned long long)(va + i), bytes[i], op->byte);
				return fail(r, op, what);
			}
	}
	return 0;
}

static int run_dirty(struct run *r, const struct script_op *op)
{
	u64 va = resolve(r, &op->addr), end = va + op->len;
	static const char *const is[] = { "is clean", "has been written to" };
	char what[80];

	for (; va < end; va += PAGE_SIZE) {
		int dirty = r->ops->dirty(r->p, r->cpu, va);

		if (dirty == op->byte)
			continue;
		snprintf(what, sizeof(what), "0x%llx %s", (unsigned long long)va,
			 dirty < 0 ? "has no translation" : is[dirty]);
		return fail(r, op, what);
	}
	return 0;
}

static void run_write(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n;
	u8 bytes[PAGE_SIZE];

	memset(bytes, op->byte, sizeof(bytes));
	for (; va < end && out->kind == OUT_OK; va += n) {
		n = part(va, end);
		*out = access_part(r, op, va, PF_WRITE, bytes, n);
	}
}

/* The first outcome that is not ok. */
static enum fault_reason run_together(struct run *r, const struct script_op *op)
{
	unsigned process = r->ops->running(r->p, r->cpu);

	for (unsigned i = 0; i < r->p->nr_cpus; i++)
		r->ops->run(r->p, i, process);
	return program_touch_together(r->p, resolve(r, &op->addr), op->len, op->access);
}

/* ---- the kernel's copies ---- */

static struct outcome of_copy(u64 left)
{
	return of_errno(left ? -EFAULT : 0);
}

static int run_copy_in(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n, left = 0;
	u8 bytes[PAGE_SIZE];
	char what[80];

	for (; va < end && !left; va += n) {
		n = part(va, end);
		left = r->ops->copy_in(r->p, r->cpu, bytes, va, n);
		for (u64 i = 0; op->byte >= 0 && i < n - left; i++)
			if (bytes[i] != op->byte) {
				snprintf(what, sizeof(what), "0x%llx holds %u, not %d",
					 (unsigned long long)(va + i), bytes[i], op->byte);
				return fail(r, op, what);
			}
	}
	*out = of_copy(left);
	return 0;
}

static struct outcome run_copy_out(struct run *r, const struct script_op *op)
{
	u64 va = resolve(r, &op->addr), end = va + op->len, n, left = 0;
	u8 bytes[PAGE_SIZE];

	memset(bytes, op->byte, sizeof(bytes));
	for (; va < end && !left; va += n) {
		n = part(va, end);
		left = r->ops->copy_out(r->p, r->cpu, va, bytes, n);
	}
	return of_copy(left);
}

/* ---- files ---- */

static int run_file_write(struct run *r, int file, u64 pos, u64 len, int byte, struct outcome *out)
{
	u64 end = pos + len, n;
	u8 bytes[PAGE_SIZE];
	s64 done = 0;

	memset(bytes, byte, sizeof(bytes));
	for (; pos < end; pos += done) {
		n = part(pos, end);
		done = r->ops->file_write(r->p, file, pos, bytes, n);
		if (done < 0)
			break;
	}
	*out = of_errno(done);
	return 0;
}

static int run_file_read(struct run *r, const struct script_op *op, struct outcome *out)
{
	u64 pos = op->offset, end = pos + op->len, i;
	u8 bytes[PAGE_SIZE];
	char what[80];
	s64 done = 0;

	for (; pos < end; pos += done) {
		done = r->ops->file_read(r->p, op->file, pos, bytes, part(pos, end));
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
	int err;

	if (r->files[op->file])
		return fail(r, op, "there is one of that name");
	err = r->ops->file_create(r->p, op->file, op->verb == OP_SHMEM);
	if (err) {
		*out = of_errno(err);
		return 0;
	}
	r->files[op->file] = true;
	if (op->byte >= 0)
		return run_file_write(r, op->file, 0, op->len, op->byte, out);
	*out = of_errno(r->ops->file_truncate(r->p, op->file, op->len));
	return 0;
}

static int run_fail(struct run *r, const struct script_op *op)
{
	if (op->file < 0)
		return r->ops->fail_swap(r->p, op->io, op->err);
	if (r->ops->file_fail(r->p, op->file, op->io, op->err))
		return fail(r, op, "it has no disk");
	return 0;
}

static int run_file_op(struct run *r, const struct script_op *op, struct outcome *out)
{
	if (op->verb == OP_FILE || op->verb == OP_SHMEM)
		return run_create(r, op, out);
	if (op->file >= 0 && !r->files[op->file])
		return fail(r, op, "no such file");
	switch (op->verb) {
	case OP_FREAD:
		return run_file_read(r, op, out);
	case OP_FWRITE:
		return run_file_write(r, op->file, op->offset, op->len, op->byte, out);
	case OP_TRUNCATE:
		*out = of_errno(r->ops->file_truncate(r->p, op->file, op->len));
		return 0;
	case OP_PUNCH:
		*out = of_errno(r->ops->file_punch(r->p, op->file, op->offset, op->len));
		return 0;
	case OP_SYNC:
		*out = of_errno(r->ops->file_sync(r->p, op->file));
		return 0;
	case OP_EVICT:
		r->ops->file_evict(r->p, op->file);
		return 0;
	case OP_FAIL:
		return run_fail(r, op);
	default:
		r->ops->file_close(r->p, op->file);
		r->files[op->file] = false;
		return 0;
	}
}

/* ---- the others ---- */

static struct outcome run_map(struct run *r, const struct script_op *op)
{
	struct program_map map = { .addr = resolve(r, &op->addr),
				   .len = op->len,
				   .prot = op->prot,
				   .flags = op->flags,
				   .vm_flags = op->vm_flags,
				   .file = op->file,
				   .offset = op->offset };

	return of_address(r->ops->map(r->p, r->cpu, &map));
}

static struct outcome run_kernel_map(struct run *r, const struct script_op *op)
{
	u64 va = 0;
	int err = r->ops->kernel_map(r->p, r->cpu, op->len, &va);

	if (err)
		return of_errno(err);
	return (struct outcome){ .kind = OUT_ADDRESS, .address = va };
}

static int run_expect(struct run *r, const struct script_op *op)
{
	char what[80];
	u64 got;

	if (op->file >= 0 && !r->files[op->file])
		return fail(r, op, "no such file");
	got = r->ops->count(r->p, r->cpu, op->file, op->counter);
	if (got == op->count)
		return 0;
	snprintf(what, sizeof(what), "%s is %llu, not %llu", script_counter_name(op->counter),
		 (unsigned long long)got, (unsigned long long)op->count);
	return fail(r, op, what);
}

static int run_cpu(struct run *r, const struct script_op *op)
{
	if (op->cpu >= r->p->nr_cpus)
		return fail(r, op, "the machine has no such CPU");
	r->cpu = op->cpu;
	/* A CPU that has none runs the first. */
	r->ops->run(r->p, r->cpu, r->ops->running(r->p, r->cpu));
	return 0;
}

/* ---- processes: the first is 0, A is 1 ... ---- */

static int run_fork(struct run *r, const struct script_op *op, struct outcome *out)
{
	int err;

	if (r->processes[op->process])
		return fail(r, op, "there is a process of that name");
	err = r->ops->fork(r->p, r->cpu, (unsigned)op->process + 1);
	r->processes[op->process] = !err;
	*out = of_errno(err);
	return 0;
}

static int run_process(struct run *r, const struct script_op *op)
{
	if (op->process >= 0 && !r->processes[op->process])
		return fail(r, op, "there is no such process");
	r->ops->run(r->p, r->cpu, (unsigned)(op->process + 1));
	return 0;
}

static int run_exit(struct run *r, const struct script_op *op)
{
	if (!r->processes[op->process])
		return fail(r, op, "there is no such process");
	r->ops->exit(r->p, (unsigned)op->process + 1);
	r->processes[op->process] = false;
	return 0;
}

/* What the operation needs of the program is there. */
static bool is_offered(const struct program_ops *o, const struct script_op *op)
{
	switch (op->verb) {
	case OP_UNMAP:
		return o->unmap;
	case OP_PROTECT:
		return o->protect;
	case OP_REMAP:
		return o->remap;
	case OP_ADVISE:
		return o->advise;
	case OP_COPYIN:
		return o->copy_in;
	case OP_COPYOUT:
		return o->copy_out;
	case OP_KMAP:
		return o->kernel_map;
	case OP_KREAD:
	case OP_KWRITE:
		return o->kernel_access;
	case OP_DIRTY:
		return o->dirty;
	case OP_PAGEOUT:
		return o->pageout;
	case OP_RECLAIM:
		return o->reclaim;
	case OP_FORK:
	case OP_EXIT:
		return o->fork;
	case OP_FILE:
	case OP_SHMEM:
		return o->file_create;
	case OP_PUNCH:
		return o->file_punch;
	case OP_SYNC:
		return o->file_sync;
	case OP_EVICT:
		return o->file_evict;
	case OP_FAIL:
		return op->file < 0 ? o->fail_swap != NULL : o->file_fail != NULL;
	case OP_EXPECT:
		return o->count;
	default:
		return true;
	}
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
		*out = of_errno(r->ops->unmap(r->p, r->cpu, addr, op->len));
		return 0;
	case OP_PROTECT:
		*out = of_errno(r->ops->protect(r->p, r->cpu, addr, op->len, op->prot));
		return 0;
	case OP_REMAP:
		*out = of_address(r->ops->remap(r->p, r->cpu, addr, op->len, op->new_len, op->flags,
						resolve(r, &op->to)));
		return 0;
	case OP_ADVISE:
		*out = of_errno(r->ops->advise(r->p, r->cpu, addr, op->len, op->advice));
		return 0;
	case OP_READ:
	case OP_KREAD:
		return run_read(r, op, out);
	case OP_WRITE:
	case OP_KWRITE:
		run_write(r, op, out);
		return 0;
	case OP_KMAP:
		*out = run_kernel_map(r, op);
		return 0;
	case OP_TOUCH:
		*out = of_access(program_touch(r->p, r->cpu, addr, op->len, op->access));
		return 0;
	case OP_TOGETHER:
		*out = of_access(run_together(r, op));
		return 0;
	case OP_COPYIN:
		return run_copy_in(r, op, out);
	case OP_COPYOUT:
		*out = run_copy_out(r, op);
		return 0;
	case OP_DIRTY:
		return run_dirty(r, op);
	case OP_PAGEOUT:
		r->ops->pageout(r->p, r->cpu, addr, op->len);
		return 0;
	case OP_RECLAIM:
		r->ops->reclaim(r->p, op->count);
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
		if (r->ops->check)
			r->ops->check(r->p);
		return 0;
	case OP_MEASURE:
		if (r->ops->measure)
			r->ops->measure(r->p);
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

/* Whatever the script left goes. */
static void clean_up(struct run *r)
{
	for (unsigned i = 0; i < SCRIPT_NAMES; i++)
		if (r->processes[i])
			r->ops->exit(r->p, i + 1);
	for (int i = 0; i < SCRIPT_NAMES; i++)
		if (r->files[i])
			r->ops->file_close(r->p, i);
}

int script_run_on(const struct script *script, struct program *program, char *message)
{
	struct run r = { .p = program, .ops = program->ops, .message = message };
	struct outcome out;
	int err = 0;

	message[0] = '\0';
	for (size_t i = 0; i < script->n && !err; i++) {
		const struct script_op *op = &script->ops[i];

		if (!is_offered(r.ops, op)) {
			fail(&r, op, "not offered");
			err = -ENOSYS;
			break;
		}
		err = run_op(&r, op, &out);
		if (!err)
			err = judge(&r, op, &out);
		if (!err && op->as >= 0 && out.kind == OUT_ADDRESS)
			r.names[op->as] = out.address;
	}
	if (r.ops->measured)
		r.ops->measured(r.p);
	clean_up(&r);
	return err;
}

int script_run(const struct script *script, struct soft_machine *m, struct mm *mm, char *message)
{
	struct soft_program p;

	soft_program_init(&p, m, mm);
	return script_run_on(script, &p.program, message);
}
