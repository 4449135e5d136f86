/* SPDX-License-Identifier: MIT */
/* Operations as the engine knows them. */
#include <sys/mman.h>

#include "engine/backing/memfd.h"
#include "engine/base/errno.h"
#include "engine/kernel/mincore.h"
#include "engine/kernel/rw.h"
#include "engine/migrate/numa.h"
#include "engine/space/calls.h"
#include "engine/space/internal.h"
#include "engine/space/mempolicy.h"
#include "tests/differential/engine_side.h"

/* ---- what there is ---- */

/* Pages: more than any limit here.  What a real process has beside the arena counts where all of it
 * is to be locked. */
#define OTHER_PAGES 1000
/* Pages of the areas that a ballast is made of. */
#define BALLAST_PAGES 60000

static bool has_file(u64 file)
{
	return file == FILE_0 || file == FILE_1 || file == FILE_0_READ_ONLY ||
	       file == FILE_0_WRITE_ONLY || file == FILE_SEALED;
}

/* What a descriptor is; NULL: none. */
static struct file *file_of(const struct engine_side *s, u64 file)
{
	static struct file directory = { .refcount = 1, .mode = FILE_READ };
	static struct file pipe = { .refcount = 1, .mode = FILE_READ | FILE_NOEXEC };

	if (file == FILE_DIRECTORY)
		return &directory;
	if (file == FILE_PIPE)
		return &pipe;
	return has_file(file) ? s->files[file] : NULL;
}

bool engine_has(const struct op *op)
{
	const u64 *a = op->arg;

	switch ((enum call)op->call) {
	case CALL_PREAD:
	case CALL_PWRITE:
		return has_file(a[0]);
	case CALL_FTRUNCATE:
	case CALL_PUNCH:
		return has_file(a[0]) && !(a[1] >> 40) && !(a[2] >> 40);
	case CALL_MPROTECT:
		/* Beyond the arena a real process has stacks of its own. */
		return !(a[2] & PROT_GROWSDOWN) || in_arena(a[0], a[1]);
	case CALL_MREMAP:
		/* A hint too near the arena's end leads out of it. */
		if ((a[3] & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && in_arena(a[4], 0) &&
		    !in_arena(a[4], a[2]))
			return false;
		return true;
	case CALL_MMAP:
	case CALL_MUNMAP:
	case CALL_BRK:
	case CALL_READ:
	case CALL_WRITE:
	case CALL_EXEC:
	case CALL_GETUSER:
	case CALL_PUTUSER:
	case CALL_CHECK:
	case CALL_FORK:
	case CALL_REAP:
	case CALL_MINCORE:
	case CALL_MINCORE_TO:
	case CALL_MLOCK:
	case CALL_MLOCK2:
	case CALL_MUNLOCK:
	case CALL_MLOCKALL:
	case CALL_MUNLOCKALL:
	case CALL_MSYNC:
	case CALL_MADVISE:
	case CALL_MBIND:
	case CALL_SET_MEMPOLICY:
	case CALL_GET_MEMPOLICY:
	case CALL_MOVE_PAGES:
	case CALL_MSEAL:
	case CALL_LIMIT:
	case CALL_BALLAST:
	case CALL_ADD_SEALS:
	case CALL_GET_SEALS:
		return true;
	default:
		return false;
	}
}

/* ---- accesses ---- */

/* What the access raised, and none is pending then. */
static void take_signal(struct task *task, struct record_signal *to)
{
	const struct fault_signal *s = &task->signal;

	if (s->sig)
		*to = (struct record_signal){ .number = s->sig,
					      .code = s->code,
					      .address = s->address,
					      .trap = s->trap,
					      .error = s->error_code,
					      .cr2 = s->cr2 };
	task->signal = (struct fault_signal){ 0 };
}

static void do_access(struct engine_process *p, const struct op *op, struct record *rec)
{
	u64 addr = op->arg[0], value = word_of(op->arg[1]);
	u8 byte;

	if (op->call == CALL_READ) {
		if (soft_read(p->cpu, addr, &value, sizeof(value)) == FAULT_OK)
			rec->value = value;
	} else if (op->call == CALL_WRITE) {
		soft_write(p->cpu, addr, &value, sizeof(value));
	} else {
		soft_fetch(p->cpu, addr, &byte, 1);
	}
	take_signal(&p->task, &rec->signal);
}

/* As the kernel's side does it; see runner.c. */
static u64 read_all(struct engine_process *p, const struct observation *o)
{
	const struct seen_area *area = seen_areas(o);
	u64 sum = 0, words[PAGE_SIZE / sizeof(u64)];

	for (unsigned i = 0; i < o->nr_areas; i++, area++)
		for (unsigned page = area->start; page < area->end; page++) {
			u64 addr = ARENA_BASE + page * PAGE_SIZE;
			struct record_signal signal = { 0 };

			soft_read(p->cpu, addr, words, PAGE_SIZE);
			take_signal(&p->task, &signal);
			if (signal.number)
				sum = sum_add(sum, signal.number << 16 | signal.code);
			else
				sum = sum_add(sum, page_sum_all(words));
		}
	return sum;
}

/* ---- calls ---- */

static s64 settle(struct mm *mm, s64 result, u64 len)
{
	if (result < 0 || in_arena(result, 0))
		return result;
	vm_unmap(mm, result, PAGE_ALIGN(len));
	return RESULT_ELSEWHERE;
}

static void set_limit(struct mm *mm, enum test_limit which, u64 pages)
{
	switch (which) {
	case LIMIT_AS:
		mm->limits.as = (mm->total_vm + pages) << PAGE_SHIFT;
		break;
	case LIMIT_DATA:
		mm->limits.data = (mm->data_vm + pages) << PAGE_SHIFT;
		break;
	case LIMIT_STACK:
		mm->limits.stack = pages << PAGE_SHIFT;
		break;
	default:
		mm->limits.memlock = pages << PAGE_SHIFT;
	}
}

/* The areas themselves would be elsewhere: only what they leave is done. */
static s64 ballast(struct mm *mm, u64 room)
{
	u64 most = mm->map_count + room;

	if (most >= mm->limits.map_count)
		return 0;
	if (!mlock_future_ok(mm, mm->def_flags, BALLAST_PAGES << PAGE_SHIFT))
		return -EAGAIN;
	if (!may_expand_vm(mm, 0, BALLAST_PAGES))
		return -ENOMEM;
	mm->limits.map_count = most;
	return 0;
}

/* fcntl(2) */
static s64 do_seals(const struct engine_side *s, const struct op *op)
{
	struct file *file = file_of(s, op->arg[0]);

	if (!file)
		return -EBADF;
	return op->call == CALL_ADD_SEALS ? memfd_add_seals(file, (u32)op->arg[1])
					  : memfd_get_seals(file);
}

/* There is room for all nodes that Linux may have. */
static s64 get_policy(struct mm *mm, const u64 *a, u64 *value)
{
	u64 nodes[16] = { 0 };
	int mode = 0;
	s64 result = do_get_mempolicy(mm, &mode, nodes, a[1], a[0], a[2]);

	*value = result ? 0 : (u64)(u32)mode << 32 | (u32)nodes[0];
	return result;
}

static s64 move_page(struct mm *mm, const u64 *a, u64 *value)
{
	int node = (int)a[1], status = 0;
	s64 result = do_move_pages(mm, 1, &a[0], a[1] == NODE_ASK ? NULL : &node, &status, a[2]);

	*value = result < 0 ? 0 : (u32)status;
	return result;
}

void engine_perform(struct engine_side *s, unsigned process, const struct op *op,
		    struct record *rec)
{
	struct engine_process *p = &s->processes[process];
	struct uaccess user = soft_uaccess(s->kernel, process);
	struct mm *mm = p->mm;
	u8 resident[ARENA_PAGES];
	const u64 *a = op->arg;
	u64 value;

	switch ((enum call)op->call) {
	case CALL_MMAP:
		rec->result = settle(
			mm, do_mmap(mm, a[0], a[1], a[2], a[3], file_of(s, a[4]), a[5]), a[1]);
		break;
	case CALL_MUNMAP:
		rec->result = vm_unmap(mm, a[0], a[1]);
		break;
	case CALL_MPROTECT:
		rec->result = do_mprotect(mm, a[0], a[1], a[2]);
		break;
	case CALL_MREMAP:
		rec->result = settle(mm, do_mremap(mm, a[0], a[1], a[2], a[3], a[4]), a[2]);
		break;
	case CALL_BRK:
		rec->result = do_brk(mm, a[0]);
		break;
	case CALL_MBIND:
		rec->result = do_mbind(mm, a[0], a[1], a[2], &a[3], a[4], a[5]);
		break;
	case CALL_SET_MEMPOLICY:
		rec->result = do_set_mempolicy(mm, a[0], &a[1], a[2]);
		break;
	case CALL_GET_MEMPOLICY:
		rec->result = get_policy(mm, a, &rec->value);
		break;
	case CALL_MOVE_PAGES:
		rec->result = move_page(mm, a, &rec->value);
		break;
	case CALL_MSEAL:
		rec->result = do_mseal(mm, a[0], a[1], a[2]);
		break;
	case CALL_MADVISE:
		rec->result = do_madvise(mm, a[0], a[1], a[2]);
		break;
	case CALL_READ:
	case CALL_WRITE:
	case CALL_EXEC:
		do_access(p, op, rec);
		break;
	case CALL_GETUSER:
		rec->result = get_user(&user, &value, a[0], sizeof(value));
		break;
	case CALL_PUTUSER:
		rec->result = put_user(&user, 0, a[0], sizeof(value));
		break;
	case CALL_MINCORE:
		rec->result = do_mincore(mm, a[0], a[1], resident);
		if (!rec->result)
			rec->value = sum_bytes(resident, PAGE_ALIGN(a[1]) >> PAGE_SHIFT);
		break;
	case CALL_MINCORE_TO:
		rec->result = sys_mincore(&user, a[0], a[1], a[2]);
		break;
	case CALL_MLOCK:
		rec->result = do_mlock(mm, a[0], a[1]);
		break;
	case CALL_MLOCK2:
		rec->result = do_mlock2(mm, a[0], a[1], a[2]);
		break;
	case CALL_MUNLOCK:
		rec->result = do_munlock(mm, a[0], a[1]);
		break;
	case CALL_MLOCKALL:
		mm->total_vm += OTHER_PAGES;
		rec->result = do_mlockall(mm, a[0]);
		mm->total_vm -= OTHER_PAGES;
		break;
	case CALL_MUNLOCKALL:
		rec->result = do_munlockall(mm);
		break;
	case CALL_MSYNC:
		rec->result = do_msync(mm, a[0], a[1], a[2]);
		break;
	case CALL_LIMIT:
		set_limit(mm, a[0], a[1]);
		break;
	case CALL_BALLAST:
		rec->result = ballast(mm, a[0]);
		break;
	case CALL_PREAD:
		rec->result = vfs_read(&user, s->files[a[0]], a[2], a[3], a[1]);
		break;
	case CALL_PWRITE:
		rec->result = vfs_write(&user, s->files[a[0]], a[2], a[3], a[1]);
		break;
	case CALL_FTRUNCATE:
		rec->result = file_truncate(s->files[a[0]], a[1]);
		break;
	case CALL_PUNCH:
		rec->result = file_punch_hole(s->files[a[0]], a[1], a[2]);
		break;
	case CALL_ADD_SEALS:
	case CALL_GET_SEALS:
		rec->result = do_seals(s, op);
		break;
	case CALL_FORK:
		rec->result = engine_fork(s, process, a[0]);
		break;
	case CALL_CHECK:
		rec->value = read_all(p, record_seen(s->trace, rec));
		break;
	default:
		rec->result = -ENOSYS;
	}
}
