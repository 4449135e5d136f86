/* SPDX-License-Identifier: MIT */
/* The zygote and its runners; runner.h has the plan. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "engine/space/mempolicy.h"
#include "machine/linux/sys.h"
#include "tests/differential/runner.h"

/* Descriptors of the test files are these and the file's number; nothing else is open there. */
#define FILE_FD(file) (100 + (file))
#define CLOSED_FD     99

/* Who waits so long for its turn has been forgotten, and goes. */
#define PATIENCE_SECONDS 30

/* ---- waiting for one another ---- */

static bool wait_word(_Atomic u32 *word, u32 while_it_is)
{
	struct timespec patience = { .tv_sec = PATIENCE_SECONDS };

	while (atomic_load(word) == while_it_is)
		if (sys(futex, word, FUTEX_WAIT, while_it_is, &patience, NULL, 0) == -ETIMEDOUT)
			return false;
	return true;
}

static void set_word(_Atomic u32 *word, u32 value)
{
	atomic_store(word, value);
	sys(futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static _Noreturn void leave(int status)
{
	for (;;)
		sys(exit_group, status);
}

/* ---- what a measured stretch touches is made present and our own ---- */

static void warm_range(volatile char *start, size_t size)
{
	for (size_t i = 0; i < size; i += PAGE_SIZE)
		start[i] = start[i];
}

/* Two pages below this frame, and all frames above it. */
static void __attribute__((noinline)) warm(struct runner *r)
{
	u64 low = ((u64)__builtin_frame_address(0) & PAGE_MASK) - 2 * PAGE_SIZE;

	warm_range((volatile char *)low, r->stack_top - low);
	warm_range((volatile char *)r->scratch, sizeof(*r->scratch));
	/* The code: one access that is refused, and one of each kind in vain. */
	touch_read(r->scratch, 0);
	touch_write(r->scratch, 0, 0);
	touch_exec(r->scratch, 0);
}

/* ---- the files ---- */

static u64 inode_of(int fd)
{
	struct stat st;

	return sys(fstat, fd, &st) ? 0 : st.st_ino;
}

/* The descriptor under the file's own number. */
static void place(int fd, enum test_file file)
{
	int to = FILE_FD(file);

	sys(dup2, fd, to);
	if (fd != to)
		sys(close, fd);
}

static void reopen(enum test_file file, enum test_file as, int flags)
{
	char path[] = "/proc/self/fd/000";
	int fd = FILE_FD(file);

	path[14] += fd / 100;
	path[15] += fd / 10 % 10;
	path[16] += fd % 10;
	place(sys(openat, AT_FDCWD, path, flags), as);
}

static void make_file(enum test_file file, unsigned seen, u64 size)
{
	int fd = sys(memfd_create, "oracle", MFD_ALLOW_SEALING);

	sys(ftruncate, fd, size);
	for (u64 page = 0; page * PAGE_SIZE < size; page++) {
		u64 word = file_word(seen, page);

		if (page != 5 && page != 6)
			sys(pwrite64, fd, &word, sizeof(word), page * PAGE_SIZE);
	}
	place(fd, file);
}

/* By the zygote, for all sequences: nobody can change its bytes, and sealing takes milliseconds. */
static void make_sealed_file(void)
{
	make_file(FILE_SEALED, SEEN_SEALED, FILE_SEALED_SIZE);
	sys(fcntl, FILE_FD(FILE_SEALED), F_ADD_SEALS, FILE_SEALED_SEALS);
}

/* What an earlier sequence has said of where its pages come from (mbind) is the file's, and stays;
 * also what lies behind its end. */
static void forget_policies_of_sealed_file(void)
{
	u64 len = FILE_SEALED_SIZE + 2 * ARENA_PAGES * PAGE_SIZE;
	long at = sys(mmap, 0, len, PROT_READ, MAP_SHARED, FILE_FD(FILE_SEALED), 0);

	/* (A new mapping has none, and Linux does not tell the file of what changes nothing.) */
	sys(mbind, at, len, UAPI_MPOL_LOCAL, 0, 0, 0);
	sys(mbind, at, len, UAPI_MPOL_DEFAULT, 0, 0, 0);
	sys(munmap, at, len);
}

static void make_files(struct runner *r)
{
	int ends[2];

	forget_policies_of_sealed_file();
	make_file(FILE_0, SEEN_FILE_0, FILE_0_SIZE);
	make_file(FILE_1, SEEN_FILE_1, 0);
	r->inodes[0] = inode_of(FILE_FD(FILE_0));
	r->inodes[1] = inode_of(FILE_FD(FILE_1));
	r->inodes[2] = inode_of(FILE_FD(FILE_SEALED));
	reopen(FILE_0, FILE_0_READ_ONLY, O_RDONLY);
	reopen(FILE_0, FILE_0_WRITE_ONLY, O_WRONLY);
	place(sys(openat, AT_FDCWD, "/", O_RDONLY | O_DIRECTORY), FILE_DIRECTORY);
	if (!sys(pipe2, ends, 0)) {
		place(ends[0], FILE_PIPE);
		sys(close, ends[1]);
	}
}

static long fd_of(u64 file)
{
	if (file == FILE_NONE)
		return -1;
	return file == FILE_CLOSED ? CLOSED_FD : FILE_FD(file);
}

/* ---- one operation ---- */

/* An address in the arena as it is; any other is the system's own choice and goes again. */
static s64 settle(s64 result, u64 len)
{
	if (result < 0 || in_arena(result, 0))
		return result;
	sys(munmap, result, PAGE_ALIGN(len));
	return RESULT_ELSEWHERE;
}

static s64 do_mincore(struct runner *r, const struct op *op, u64 *value)
{
	u64 pages = PAGE_ALIGN(op->arg[1]) >> PAGE_SHIFT;
	s64 result = sys(mincore, op->arg[0], op->arg[1], r->scratch->resident);

	if (!result)
		*value = sum_bytes(r->scratch->resident, pages);
	return result;
}

/* No signal is pending, so that it answers EAGAIN when it could read the set. */
static s64 do_getuser(struct runner *r, u64 addr)
{
	s64 result = sys(rt_sigtimedwait, addr, NULL, r->scratch->zero_time, sizeof(u64));

	return result == -EAGAIN ? 0 : result;
}

static s64 set_limit(int which, u64 pages)
{
	struct rlimit limit;
	s64 result = sys(prlimit64, 0, which, NULL, &limit);

	if (result)
		return result;
	limit.rlim_cur = min_of(pages << PAGE_SHIFT, limit.rlim_max);
	return sys(prlimit64, 0, which, &limit, NULL);
}

static s64 do_limit(struct runner *r, enum test_limit which, u64 pages)
{
	switch (which) {
	case LIMIT_AS:
		return set_limit(RLIMIT_AS, look_total_pages(r) + pages);
	case LIMIT_DATA:
		return set_limit(RLIMIT_DATA, look_status_pages(r, "VmData:") + pages);
	case LIMIT_STACK:
		return set_limit(RLIMIT_STACK, pages);
	default:
		return set_limit(RLIMIT_MEMLOCK, pages);
	}
}

/* So many areas in one place: every second page of a new area gets another protection. */
static s64 add_areas(u64 n)
{
	s64 start = sys(mmap, NULL, n * PAGE_SIZE, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	s64 err = start < 0 ? start : 0;

	for (u64 i = 1; !err && i < n; i += 2)
		err = sys(mprotect, start + i * PAGE_SIZE, PAGE_SIZE, PROT_READ);
	return err;
}

/* The first and the last may merge with what they lie beside: then some are missing yet. */
static s64 do_ballast(struct runner *r, u64 room)
{
	u64 most = r->control->max_map_count, have = look_count_areas(r), before;
	s64 err = 0;

	do {
		before = have;
		if (have + room < most)
			err = add_areas(most - have - room);
		have = look_count_areas(r);
	} while (!err && have > before && have + room < most);
	return err;
}

/* Read all that was seen, page by page: a signal counts as one of the words. */
static u64 read_all(struct runner *r, const struct observation *o)
{
	const struct seen_area *area = seen_areas(o);
	struct scratch *s = r->scratch;
	u64 sum = 0;

	for (unsigned i = 0; i < o->nr_areas; i++, area++)
		for (unsigned page = area->start; page < area->end; page++) {
			u64 addr = ARENA_BASE + page * PAGE_SIZE;

			touch_read(s, addr);
			if (s->signal.number)
				sum = sum_add(sum, s->signal.number << 16 | s->signal.code);
			else
				sum = sum_add(sum, page_sum_all((const u64 *)addr));
		}
	s->signal.number = 0;
	return sum;
}

static s64 do_fork(struct runner *r, unsigned child);
static s64 do_reap(struct runner *r, unsigned child);

/* There is room for all nodes that Linux may have. */
static s64 get_mempolicy(const u64 *a, u64 *value)
{
	u64 nodes[16] = { 0 };
	int mode = 0;
	s64 result = sys6(__NR_get_mempolicy, (u64)&mode, (u64)nodes, a[1], a[0], a[2], 0);

	*value = result ? 0 : (u64)(u32)mode << 32 | (u32)nodes[0];
	return result;
}

static s64 move_page(const u64 *a, u64 *value)
{
	int node = (int)a[1], status = 0;
	s64 result = sys6(__NR_move_pages, 0, 1, (u64)&a[0], a[1] == NODE_ASK ? 0 : (u64)&node,
			  (u64)&status, a[2]);

	*value = result < 0 ? 0 : (u32)status;
	return result;
}

static s64 perform(struct runner *r, const struct op *op, struct record *rec)
{
	const u64 *a = op->arg;

	switch ((enum call)op->call) {
	case CALL_MMAP:
		return settle(sys(mmap, a[0], a[1], a[2], a[3], fd_of(a[4]), a[5]), a[1]);
	case CALL_MUNMAP:
		return sys(munmap, a[0], a[1]);
	case CALL_MPROTECT:
		return sys(mprotect, a[0], a[1], a[2]);
	case CALL_MREMAP:
		return settle(sys(mremap, a[0], a[1], a[2], a[3], a[4]), a[2]);
	case CALL_BRK:
		return sys(brk, a[0]);
	case CALL_MADVISE:
		return sys(madvise, a[0], a[1], a[2]);
	case CALL_MLOCK:
		return sys(mlock, a[0], a[1]);
	case CALL_MLOCK2:
		return sys(mlock2, a[0], a[1], a[2]);
	case CALL_MUNLOCK:
		return sys(munlock, a[0], a[1]);
	case CALL_MLOCKALL:
		return sys(mlockall, a[0]);
	case CALL_MUNLOCKALL:
		return sys(munlockall);
	case CALL_MSYNC:
		return sys(msync, a[0], a[1], a[2]);
	case CALL_MINCORE:
		return do_mincore(r, op, &rec->value);
	case CALL_MINCORE_TO:
		return sys(mincore, a[0], a[1], a[2]);
	case CALL_MBIND:
		return sys6(__NR_mbind, a[0], a[1], a[2], (u64)&a[3], a[4], a[5]);
	case CALL_SET_MEMPOLICY:
		return sys(set_mempolicy, a[0], (u64)&a[1], a[2]);
	case CALL_GET_MEMPOLICY:
		return get_mempolicy(a, &rec->value);
	case CALL_MOVE_PAGES:
		return move_page(a, &rec->value);
	case CALL_MSEAL:
		return sys6(462, a[0], a[1], a[2], 0, 0, 0);
	case CALL_READ:
		rec->value = touch_read(r->scratch, a[0]);
		return 0;
	case CALL_WRITE:
		touch_write(r->scratch, a[0], word_of(a[1]));
		return 0;
	case CALL_EXEC:
		touch_exec(r->scratch, a[0]);
		return 0;
	case CALL_GETUSER:
		return do_getuser(r, a[0]);
	case CALL_PUTUSER:
		return sys(rt_sigpending, a[0], sizeof(u64));
	case CALL_PREAD:
		return sys(pread64, fd_of(a[0]), a[2], a[3], a[1]);
	case CALL_PWRITE:
		return sys(pwrite64, fd_of(a[0]), a[2], a[3], a[1]);
	case CALL_FTRUNCATE:
		return sys(ftruncate, fd_of(a[0]), a[1]);
	case CALL_PUNCH:
		return sys(fallocate, fd_of(a[0]), 3, a[1], a[2]);
	case CALL_ADD_SEALS:
		return sys(fcntl, fd_of(a[0]), F_ADD_SEALS, a[1]);
	case CALL_GET_SEALS:
		return sys(fcntl, fd_of(a[0]), F_GET_SEALS);
	case CALL_FORK:
		return do_fork(r, a[0]);
	case CALL_REAP:
		return do_reap(r, a[0]);
	case CALL_LIMIT:
		return do_limit(r, a[0], a[1]);
	case CALL_BALLAST:
		return do_ballast(r, a[0]);
	case CALL_CHECK:
		rec->value = read_all(r, record_seen(&r->control->trace, rec));
		return 0;
	default:
		return -ENOSYS;
	}
}

static bool is_touch(const struct op *op)
{
	return op->call == CALL_READ || op->call == CALL_WRITE || op->call == CALL_EXEC;
}

static void fail(struct runner *r, struct record *rec, const char *why)
{
	rec->state = RECORD_FAILED;
	strcpy(r->control->trace.failure, why);
}

static void do_op(struct runner *r, unsigned i)
{
	struct op op = r->control->sequence.ops[i];
	struct record *shared = &r->control->trace.records[i], rec = { .state = RECORD_DONE };
	u32 log = r->control->trace.used;
	struct rusage before, after;

	if (op.call == CALL_CHECK && !look(r, &rec, false))
		fail(r, &rec, "the arena could not be looked at");
	if (rec.state == RECORD_DONE) {
		r->scratch->signal.number = 0;
		sys(getrusage, RUSAGE_THREAD, &before);
		rec.result = perform(r, &op, &rec);
		sys(getrusage, RUSAGE_THREAD, &after);
		rec.minor = after.ru_minflt - before.ru_minflt;
		rec.major = after.ru_majflt - before.ru_majflt;
		if (is_touch(&op) && r->scratch->signal.number)
			rec.signal = r->scratch->signal;
		r->control->trace.used = log; /* a check looks again */
		if (!look(r, &rec, op.call == CALL_CHECK))
			fail(r, &rec, "the arena could not be looked at");
	}
	*shared = rec;
}

/* ---- the baton ---- */

static bool alive(const struct runner *r, unsigned process)
{
	return r->control->pid[process];
}

/* Can the operation be done by who would do it?  Its process is alive. */
static bool can_be_done(const struct runner *r, const struct op *op)
{
	const struct real_control *c = r->control;

	if (!alive(r, op->process))
		return false;
	if (op->call == CALL_FORK)
		return !alive(r, op->arg[0]);
	if (op->call == CALL_REAP)
		return alive(r, op->arg[0]) && c->parent[op->arg[0]] == op->process;
	return true;
}

/* Do operations from `i` on as long as they are this process's; pass the baton. */
static void run_from(struct runner *r, unsigned i)
{
	struct real_control *c = r->control;

	for (; i < c->sequence.n; i++) {
		const struct op *op = &c->sequence.ops[i];

		if (!can_be_done(r, op)) {
			c->trace.records[i].state = RECORD_SKIPPED;
			continue;
		}
		if (op->process != r->process) {
			set_word(&c->turn[op->process], i + 1);
			return;
		}
		do_op(r, i);
	}
	set_word(&c->turn[0], TURN_EXIT);
}

static _Noreturn void take_turns(struct runner *r)
{
	_Atomic u32 *turn = &r->control->turn[r->process];
	u32 i;

	for (;;) {
		if (!wait_word(turn, TURN_NONE))
			leave(1);
		i = atomic_exchange(turn, TURN_NONE);
		if (i == TURN_EXIT)
			leave(0);
		run_from(r, i - 1);
	}
}

static s64 do_fork(struct runner *r, unsigned child)
{
	struct real_control *c = r->control;
	long pid;

	atomic_store(&c->turn[child], TURN_NONE);
	pid = sys(fork);
	if (pid < 0)
		return pid;
	if (!pid) {
		r->process = child;
		look_close(r);
		look_open(r);
		warm(r);
		take_turns(r);
	}
	c->pid[child] = pid;
	c->parent[child] = r->process;
	warm(r);
	return 0;
}

static s64 do_reap(struct runner *r, unsigned child)
{
	struct real_control *c = r->control;
	int status = 0;
	s64 result;

	set_word(&c->turn[child], TURN_EXIT);
	result = sys(wait4, c->pid[child], &status, 0, NULL);
	c->pid[child] = 0;
	for (unsigned i = 0; i < NR_PROCESSES; i++)
		if (c->parent[i] == child)
			c->parent[i] = NR_PROCESSES; /* nobody's child from now on */
	return result < 0 ? result : status;
}

/* ---- a sequence, and the zygote ---- */

static _Noreturn void runner_main(struct real_control *c, struct scratch *scratch)
{
	struct runner r = { .control = c, .scratch = scratch, .process = 0 };
	struct rlimit cpu = { 60, 60 };

	r.stack_top = ((u64)__builtin_frame_address(0) & PAGE_MASK) + PAGE_SIZE;
	sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	sys(prlimit64, 0, RLIMIT_CPU, &cpu, NULL);
	c->pid[0] = sys(getpid);
	make_files(&r);
	look_open(&r);
	warm(&r);
	set_word(&c->turn[0], 1);
	take_turns(&r);
}

static void do_sequence(struct real_control *c, struct scratch *scratch)
{
	long pid;

	for (unsigned i = 0; i < NR_PROCESSES; i++) {
		atomic_store(&c->turn[i], TURN_NONE);
		c->pid[i] = 0;
	}
	pid = sys(fork);
	if (!pid)
		runner_main(c, scratch);
	if (sys(wait4, pid, &c->status, 0, NULL) != pid)
		c->status = ~0u;
	for (unsigned i = 1; i < NR_PROCESSES; i++)
		if (c->pid[i])
			sys(kill, c->pid[i], SIGKILL);
	while (sys(wait4, -1, NULL, 0, NULL) > 0)
		;
}

static void give_up_rights(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	sys(capset, &header, none);
	sys(prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static void set_up_limits(void)
{
	struct rlimit core = { 0, 0 };

	set_limit(RLIMIT_STACK, START_STACK);
	set_limit(RLIMIT_MEMLOCK, START_MEMLOCK);
	sys(prlimit64, 0, RLIMIT_CORE, &core, NULL);
}

/* What the process has of data besides counts with the heap: then a limit that is set relative to
 * all data means the same for the heap, whatever that is. */
static void set_up_heap(struct scratch *scratch)
{
	struct runner r = { .scratch = scratch };

	heap_place(look_status_pages(&r, "VmData:") << PAGE_SHIFT);
}

static void close_all(void)
{
	int fd = sys(openat, AT_FDCWD, "/dev/null", O_RDWR);

	for (int i = 0; i < 3 && fd > 2; i++)
		sys(dup2, fd, i);
	sys(close_range, 3, ~0u, 0);
}

_Noreturn void zygote_main(struct real_control *c, struct scratch *scratch)
{
	u32 last = atomic_load(&c->done);

	sys(setpgid, 0, 0);
	sys(prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	sys(prctl, PR_SET_THP_DISABLE, 1, 0, 0, 0);
	close_all();
	give_up_rights();
	sys(prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	set_up_limits();
	make_sealed_file();
	set_up_heap(scratch);
	touch_init(scratch);
	for (;;) {
		/* Nobody may ask for a long while: the tester's end is this process's own. */
		wait_word(&c->go, last);
		if (atomic_load(&c->go) == last)
			continue;
		last = atomic_load(&c->go);
		do_sequence(c, scratch);
		set_word(&c->done, last);
	}
}
