/* SPDX-License-Identifier: MIT */
/*
 * Huge pages on the kernel's side.  A process, and perhaps its child, each at one end of a pair of
 * sockets: they read operations and write what came of them.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/differential/worlds/hugetlb.h"

#define POOL_DIR "/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* What others hold of the pool, and have held since before. */
static struct huge_result others;

static struct {
	int ours[2], theirs[2]; /* sockets, by process */
	int file;
	pid_t pid, child;
	bool forked; /* there is a child */
} side;

s64 huge_pool_number(const char *name)
{
	char path[128], text[32] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), POOL_DIR "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	return n > 0 ? strtoll(text, NULL, 10) : -1;
}

static bool huge_pool_set(const char *name, u64 value)
{
	char path[128], text[32];
	bool done;
	int fd;

	snprintf(path, sizeof(path), POOL_DIR "%s", name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	done = write(fd, text, strlen(text)) > 0;
	close(fd);
	return done && huge_pool_number(name) == (s64)value;
}

static void look_at_pool(struct huge_result *r)
{
	r->nr = (u64)huge_pool_number("nr_hugepages") - others.nr;
	r->free = (u64)huge_pool_number("free_hugepages") - others.free;
	r->resv = (u64)huge_pool_number("resv_hugepages") - others.resv;
	r->surplus = (u64)huge_pool_number("surplus_hugepages");
}

void huge_pool_look(void)
{
	memset(&others, 0, sizeof(others));
	look_at_pool(&others);
}

void huge_pool_look_beside(u64 pages)
{
	memset(&others, 0, sizeof(others));
	look_at_pool(&others);
	others.nr -= pages;
	others.free -= pages;
}

bool huge_pool_enlarge(u64 pages)
{
	return huge_pool_set("nr_hugepages", others.nr + pages);
}

/* Is it as it was, with so many pages more that nobody uses?  A process that was waited for may
 * still have its memory, as long as somebody looks at it. */
static bool settles(u64 pages)
{
	struct huge_result r;

	for (unsigned tries = 0; tries < 2000; tries++) {
		look_at_pool(&r);
		if (r.nr == pages && r.free == pages && !r.resv)
			return true;
		usleep(1000);
	}
	return false;
}

bool huge_pool_restore(void)
{
	if (huge_pool_number("nr_hugepages") < 0)
		return true;
	/* Of what is promised nothing goes: it becomes surplus again. */
	settles(huge_pool_number("nr_hugepages") - (s64)others.nr);
	huge_pool_set("nr_hugepages", others.nr - others.surplus);
	return settles(0);
}

/* ---- in the process ---- */

static sigjmp_buf after_signal;
static volatile int signal_taken;

static void take_signal(int number, siginfo_t *info, void *context)
{
	(void)context;
	signal_taken = number << 8 | (info->si_code & 0xff);
	siglongjmp(after_signal, 1);
}

static u64 minor_faults(void)
{
	static struct rusage usage;

	/* What counting itself brings in is there the second time. */
	getrusage(RUSAGE_SELF, &usage);
	getrusage(RUSAGE_SELF, &usage);
	return (u64)usage.ru_minflt;
}

static void access_byte(const struct huge_op *op, struct huge_result *r)
{
	volatile u8 *at = (volatile u8 *)(uintptr_t)op->arg[0];
	static volatile u64 before;
	static volatile u8 byte;

	byte = 0;
	before = 0;
	signal_taken = 0;
	/* All that is written between the two counts has been written before the first. */
	if (!sigsetjmp(after_signal, 1)) {
		before = minor_faults();
		if (op->call == HUGE_READ)
			byte = *at;
		else
			*at = (u8)op->arg[1];
		r->faults = minor_faults() - before;
	}
	r->value = byte;
	r->signal = signal_taken;
}

static s64 told(s64 value)
{
	return value == -1 ? -errno : value;
}

static s64 map(const u64 *a)
{
	s64 at = told((s64)(intptr_t)mmap((void *)(uintptr_t)a[0], a[1], (int)a[2], (int)a[3],
					  a[3] & MAP_ANONYMOUS ? -1 : side.file, (off_t)a[4]));

	if (at < 0 || (a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
		return at;
	munmap((void *)(intptr_t)at, (a[1] + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1));
	return !((u64)at % HUGE_BYTES);
}

static s64 core(const u64 *a, u64 *sum)
{
	static u8 vec[HUGE_PLACES * 512];
	s64 result = told(mincore((void *)(uintptr_t)a[0], a[1], vec));

	for (u64 i = 0; !result && i < (a[1] + 4095) / 4096; i++)
		*sum += (i + 1) * (vec[i] & 1);
	return result;
}

static _Noreturn void serve(unsigned process);

static s64 fork_child(void)
{
	side.child = fork();
	if (!side.child)
		serve(1);
	return side.child < 0 ? -errno : 0;
}

static void perform_here(const struct huge_op *op, struct huge_result *r)
{
	const u64 *a = op->arg;
	void *at = (void *)(uintptr_t)a[0];

	*r = (struct huge_result){ 0 };
	switch ((enum pool_call)op->call) {
	case HUGE_MMAP:
		r->value = map(a);
		break;
	case HUGE_MUNMAP:
		r->value = told(munmap(at, a[1]));
		break;
	case HUGE_PROTECT:
		r->value = told(mprotect(at, a[1], (int)a[2]));
		break;
	case HUGE_ADVISE:
		r->value = told(madvise(at, a[1], (int)a[2]));
		break;
	case HUGE_REMAP:
		r->value = told(
			(s64)(intptr_t)mremap(at, a[1], a[2], (int)a[3], (void *)(uintptr_t)a[4]));
		break;
	case HUGE_READ:
	case HUGE_WRITE:
		access_byte(op, r);
		break;
	case HUGE_MINCORE:
		r->value = core(a, &r->sum);
		break;
	case HUGE_TRUNCATE:
		r->value = told(ftruncate(side.file, (off_t)a[0]));
		break;
	case HUGE_PUNCH:
		r->value = told(fallocate(side.file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					  (off_t)a[0], (off_t)a[1]));
		break;
	case HUGE_LOCK:
		r->value = told(mlock(at, a[1]));
		break;
	case HUGE_FORK:
		r->value = fork_child();
		break;
	default:
		abort();
	}
}

static _Noreturn void serve(unsigned process)
{
	struct huge_result r;
	struct huge_op op;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (read(side.theirs[process], &op, sizeof(op)) == sizeof(op)) {
		if (op.call == HUGE_REAP) {
			if (process)
				_exit(0);
			waitpid(side.child, NULL, 0);
			r = (struct huge_result){ 0 };
		} else {
			perform_here(&op, &r);
		}
		if (write(side.theirs[process], &r, sizeof(r)) != sizeof(r))
			break;
	}
	_exit(0);
}

static void handle_signals(void)
{
	struct sigaction act = { .sa_sigaction = take_signal, .sa_flags = SA_SIGINFO };

	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
}

/* ---- here ---- */

static bool begin(u64 pages)
{
	if (!settles(pages))
		return false;
	for (unsigned i = 0; i < 2; i++) {
		int pair[2];

		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return false;
		side.ours[i] = pair[0];
		side.theirs[i] = pair[1];
	}
	side.forked = false;
	side.file = memfd_create("huge", MFD_HUGETLB);
	side.pid = side.file < 0 ? -1 : fork();
	if (side.pid < 0)
		return false;
	if (!side.pid) {
		for (unsigned i = 0; i < 2; i++)
			close(side.ours[i]);
		handle_signals();
		serve(0);
	}
	close(side.file);
	return true;
}

static void perform(const struct huge_op *op, struct huge_result *r)
{
	if (op->call == HUGE_REAP && write(side.ours[1], op, sizeof(*op)) != sizeof(*op))
		abort();
	if (write(side.ours[op->child], op, sizeof(*op)) != sizeof(*op) ||
	    read(side.ours[op->child], r, sizeof(*r)) != sizeof(*r)) {
		r->gone = true;
		return;
	}
	if (op->call == HUGE_FORK)
		side.forked = !r->value;
	if (op->call == HUGE_REAP)
		side.forked = false;
	look_at_pool(r);
}

static void end(void)
{
	struct huge_op reap = { .call = HUGE_REAP };
	struct huge_result r;

	if (side.forked)
		perform(&reap, &r);
	for (unsigned i = 0; i < 2; i++) {
		close(side.theirs[i]);
		shutdown(side.ours[i], SHUT_RDWR);
	}
	waitpid(side.pid, NULL, 0);
	for (unsigned i = 0; i < 2; i++)
		close(side.ours[i]);
}

const struct huge_side huge_real = {
	.name = "kernel", .begin = begin, .perform = perform, .end = end
};
