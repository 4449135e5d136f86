/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side: this process, whose window is at the same addresses.  The program is a thread,
 * which nothing but its own operations touches the window for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/space/uapi.h"
#include "engine/userfault/uapi.h"
#include "tests/differential/worlds/userfault.h"

/* Newer than the headers of some systems. */
struct uf_uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move;
};
struct uf_uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#define UF_UFFDIO_MOVE	 _IOWR(UFFDIO, 0x05, struct uf_uffdio_move)
#define UF_UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uf_uffdio_poison)

/* The second half: a child's. */
static int fds[2 * UF_CONTEXTS] = { -1, -1, -1, -1 }, memfd = -1, read_only = -1, pagemap = -1,
		   maps = -1;

/* ---- the program ---- */

static struct {
	pthread_t thread;
	bool runs;
	sem_t begin;
	int over; /* an eventfd */
	struct uf_op op;
	s64 result;
	sigjmp_buf env;
	int signal, code;
} program;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!pthread_equal(pthread_self(), program.thread)) {
		signal(sig, SIG_DFL); /* a mistake of this test's: die of it */
		return;
	}
	program.signal = sig;
	program.code = info->si_code;
	siglongjmp(program.env, 1);
}

static s64 touch(const struct uf_op *op)
{
	volatile u8 *byte = (volatile u8 *)(uintptr_t)(uf_at(op->page) + op->page2);

	if (sigsetjmp(program.env, 1)) {
		if (program.signal == SIGBUS)
			return UF_BUS;
		return program.code == SEGV_MAPERR ? UF_MAPERR : UF_ACCERR;
	}
	if (op->kind == UF_READ)
		return *byte;
	*byte = op->byte;
	return op->byte;
}

/* What the child has found comes by a pipe. */
static s64 run_child(const struct uf_op *op)
{
	struct uf_op one = { .kind = op->mode ? UF_WRITE : UF_READ, .byte = op->byte };
	int ends[2];
	s64 sum = 0;
	pid_t pid;

	if (pipe(ends))
		abort();
	pid = fork();
	if (pid < 0)
		abort();
	if (!pid) {
		for (unsigned i = 0; i < op->n; i++) {
			one.page = op->page + i;
			sum = uf_sum(sum, touch(&one));
		}
		_exit(write(ends[1], &sum, sizeof(sum)) != sizeof(sum));
	}
	if (read(ends[0], &sum, sizeof(sum)) != sizeof(sum) || waitpid(pid, NULL, 0) != pid)
		abort();
	close(ends[0]);
	close(ends[1]);
	return sum;
}

static s64 answer(s64 result)
{
	return result < 0 ? -errno : result;
}

static s64 do_op(const struct uf_op *op)
{
	void *at = (void *)(uintptr_t)uf_at(op->page);
	u64 len = uf_len(op);
	int flags;

	switch ((enum uf_kind)op->kind) {
	case UF_MAP:
		flags = MAP_FIXED;
		flags |= op->backing == UF_ANON || op->backing == UF_PRIVATE ? MAP_PRIVATE
									     : MAP_SHARED;
		if (op->backing == UF_ANON || op->backing == UF_SHARED_ANON)
			flags |= MAP_ANONYMOUS;
		return answer((s64)mmap(at, len, (int)op->mode, flags,
					op->backing == UF_READ_ONLY ? read_only : memfd,
					flags & MAP_ANONYMOUS ? 0 : op->page2 * PAGE_SIZE));
	case UF_UNMAP:
		return answer(munmap(at, len));
	case UF_PROTECT:
		return answer(mprotect(at, len, (int)op->mode));
	case UF_DONTNEED:
		return answer(madvise(at, len, MADV_DONTNEED));
	case UF_REMAP:
		return answer(
			(s64)mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, uf_at(op->page2)));
	case UF_FILE_WRITE:
		for (unsigned i = 1; i < op->n; i++)
			if (pwrite(memfd, &op->byte, 1, (op->page + i) * PAGE_SIZE) != 1)
				abort();
		return answer(pwrite(memfd, &op->byte, 1, op->page * PAGE_SIZE));
	case UF_FILE_PUNCH:
		return answer(fallocate(memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					op->page * PAGE_SIZE, op->n * PAGE_SIZE));
	case UF_FORK:
		return run_child(op);
	case UF_PAGEOUT:
		return answer(madvise(at, len, UAPI_MADV_PAGEOUT));
	default:
		return touch(op);
	}
}

static void *run_program(void *arg)
{
	u64 one = 1;

	(void)arg;
	for (;;) {
		while (sem_wait(&program.begin))
			;
		program.result = do_op(&program.op);
		if (write(program.over, &one, sizeof(one)) != sizeof(one))
			abort();
	}
	return NULL;
}

static void start(const struct uf_op *op)
{
	program.op = *op;
	sem_post(&program.begin);
}

/* ---- the monitor ---- */

static void tell(struct uf_msg *to, const struct uffd_msg *msg)
{
	to->event = msg->event;
	if (msg->event == UFFD_EVENT_PAGEFAULT) {
		to->a = msg->arg.pagefault.flags;
		to->b = msg->arg.pagefault.address;
	} else if (msg->event == UFFD_EVENT_REMAP) {
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
	struct pollfd p[2 * UF_CONTEXTS + 1];
	u64 count;

	for (;;) {
		for (int i = 0; i < 2 * UF_CONTEXTS; i++)
			p[i] = (struct pollfd){ .fd = fds[i], .events = POLLIN };
		p[2 * UF_CONTEXTS] = (struct pollfd){ .fd = program.over, .events = POLLIN };
		poll(p, 2 * UF_CONTEXTS + 1, -1);
		for (int i = 0; i < 2 * UF_CONTEXTS; i++)
			if (p[i].revents & POLLIN)
				return i;
		if ((p[2 * UF_CONTEXTS].revents & POLLIN) &&
		    read(program.over, &count, sizeof(count)) == sizeof(count)) {
			*result = program.result;
			return -1;
		}
	}
}

static bool next(int ctx, struct uf_msg *to)
{
	struct uffd_msg msg;

	if (read(fds[ctx], &msg, sizeof(msg)) != sizeof(msg))
		return false;
	*to = (struct uf_msg){ .ctx = (unsigned)ctx };
	if (msg.event == UFFD_EVENT_FORK) {
		to->event = msg.event;
		fds[UF_CONTEXTS + ctx] = (int)msg.arg.fork.ufd;
	} else {
		tell(to, &msg);
	}
	return true;
}

static bool has(unsigned ctx)
{
	return fds[ctx] >= 0;
}

static void close_childs(void)
{
	for (unsigned i = UF_CONTEXTS; i < 2 * UF_CONTEXTS; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static s64 monitor(const struct uf_op *op, s64 *done)
{
	static u8 bytes[UF_PAGES * PAGE_SIZE];
	struct uffdio_range range = { uf_at(op->page), uf_len(op) };
	struct uffdio_register reg = { .range = range, .mode = op->mode };
	struct uffdio_copy copy = {
		.dst = range.start, .src = (u64)(uintptr_t)bytes, .len = range.len, .mode = op->mode
	};
	struct uffdio_zeropage zero = { .range = range, .mode = op->mode };
	struct uffdio_continue cont = { .range = range, .mode = op->mode };
	struct uffdio_writeprotect wp = { .range = range, .mode = op->mode };
	struct uf_uffdio_move move = {
		.dst = range.start, .src = uf_at(op->page2), .len = range.len, .mode = op->mode
	};
	struct uf_uffdio_poison poison = { .range = range, .mode = op->mode };
	int fd = fds[op->ctx];
	s64 result;

	if (op->crooked == UF_CROOKED_SOURCE)
		copy.src = UF_NOWHERE;
	*done = 0;
	switch ((enum uf_kind)op->kind) {
	case UF_REGISTER:
		result = answer(ioctl(fd, UFFDIO_REGISTER, &reg));
		*done = (s64)reg.ioctls;
		return result;
	case UF_UNREGISTER:
		return answer(ioctl(fd, UFFDIO_UNREGISTER, &range));
	case UF_WAKE:
		return answer(ioctl(fd, UFFDIO_WAKE, &range));
	case UF_COPY:
		memset(bytes, op->byte, sizeof(bytes));
		result = answer(ioctl(fd, UFFDIO_COPY, &copy));
		*done = copy.copy;
		return result;
	case UF_ZEROPAGE:
		result = answer(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
		*done = zero.zeropage;
		return result;
	case UF_CONTINUE:
		result = answer(ioctl(fd, UFFDIO_CONTINUE, &cont));
		*done = cont.mapped;
		return result;
	case UF_MOVE:
		result = answer(ioctl(fd, UF_UFFDIO_MOVE, &move));
		*done = move.move;
		return result;
	case UF_WRITEPROTECT:
		return answer(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
	default:
		result = answer(ioctl(fd, UF_UFFDIO_POISON, &poison));
		*done = poison.updated;
		return result;
	}
}

/* Bits of an entry of /proc/self/pagemap. */
#define PM_PRESENT (1ULL << 63)
#define PM_SWAP	   (1ULL << 62)
#define PM_WP	   (1ULL << 57)

static unsigned look(u8 *pages, u8 (*areas)[2])
{
	static char text[65536];
	u64 entries[UF_PAGES];
	unsigned n = 0;
	ssize_t got, have = 0;

	if (pread(pagemap, entries, sizeof(entries), UF_BASE / PAGE_SIZE * 8) != sizeof(entries))
		abort();
	for (unsigned i = 0; i < UF_PAGES; i++)
		pages[i] = (entries[i] & PM_PRESENT ? UF_PRESENT : 0) |
			   (entries[i] & PM_SWAP ? UF_OTHER : 0) | (entries[i] & PM_WP ? UF_WP : 0);
	lseek(maps, 0, SEEK_SET);
	while ((got = read(maps, text + have, sizeof(text) - 1 - have)) > 0)
		have += got;
	text[have] = 0;
	for (char *line = text; *line; line = strchr(line, '\n') + 1) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx", &from, &to) != 2)
			abort();
		if (from < UF_BASE)
			continue;
		if (from >= uf_at(UF_PAGES))
			break;
		areas[n][0] = (from - UF_BASE) >> PAGE_SHIFT;
		areas[n++][1] = (to - from) >> PAGE_SHIFT;
	}
	return n;
}

/* ---- a session ---- */

/* All threads on one CPU: the monitor answers soonest there, and what waits on a CPU to be put on
 * the LRU lists is drained by who advises to page out. */
static void stay_here(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void begin_process(void)
{
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	stay_here();
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	program.over = eventfd(0, EFD_NONBLOCK);
	pagemap = open("/proc/self/pagemap", O_RDONLY);
	maps = open("/proc/self/maps", O_RDONLY);
	sem_init(&program.begin, 0, 0);
	pthread_create(&program.thread, NULL, run_program, NULL);
	program.runs = true;
}

static bool begin(const u64 *features)
{
	char name[32];

	if (!program.runs)
		begin_process();
	memfd = memfd_create("userfault", 0);
	if (memfd < 0 || ftruncate(memfd, UF_FILE_PAGES * PAGE_SIZE))
		return false;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", memfd);
	read_only = open(name, O_RDONLY | O_CLOEXEC);
	if (read_only < 0)
		return false;
	for (unsigned i = 0; i < UF_CONTEXTS; i++) {
		struct uffdio_api api = { .api = UFFD_API, .features = features[i] };

		fds[i] = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
		if (fds[i] < 0 || ioctl(fds[i], UFFDIO_API, &api))
			return false;
	}
	return true;
}

static void end(void)
{
	for (unsigned i = 0; i < UF_CONTEXTS; i++)
		close(fds[i]);
	munmap((void *)UF_BASE, UF_PAGES * PAGE_SIZE);
	close(read_only);
	close(memfd);
}

const struct uf_side uf_real = { "kernel", begin, end,		start,	 wait_for,
				 next,	   has,	  close_childs, monitor, look };
