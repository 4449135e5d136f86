/* SPDX-License-Identifier: MIT */
/* The kernel's side of pageout: a process of its own for each sequence. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/space/uapi.h"
#include "tests/differential/worlds/pageout.h"
#include "tests/differential/worlds/swap_area.h"

#define ASIDE (1u << 18) /* a page that is not compared */
#define AWAY  (1u << 17) /* where MOVE moves to */
#define RW    (PROT_READ | PROT_WRITE)
#define FIXED (MAP_ANONYMOUS | MAP_FIXED)

static struct pageout_step step_of(const struct script *s, unsigned i)
{
	struct pageout_step op;

	memcpy(&op, s->steps[i], sizeof(op));
	return op;
}

static volatile u8 *kernel_at(unsigned page)
{
	return (volatile u8 *)(REGION + ((u64)page << PAGE_SHIFT));
}

static sigjmp_buf refused;

static void on_signal(int sig)
{
	(void)sig;
	siglongjmp(refused, 1);
}

static long kernel_touch(const struct pageout_step *op, bool write)
{
	if (sigsetjmp(refused, 1))
		return REFUSED;
	if (!write)
		return *kernel_at(op->page);
	*kernel_at(op->page) = (u8)op->n;
	return 0;
}

/* (An exit status has room for a byte: 255 says that the touch was refused.) */
static long kernel_child(const struct pageout_step *op, bool write)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		long result = kernel_touch(op, write);

		_exit(result == REFUSED ? 255 : (int)(result % 251));
	}
	while (waitpid(pid, &status, 0) < 0)
		;
	return WEXITSTATUS(status);
}

static void map_part(unsigned from, unsigned to, int share)
{
	if (from < to && mmap((void *)kernel_at(from), (size_t)(to - from) << PAGE_SHIFT, RW,
			      share | FIXED, -1, 0) == MAP_FAILED)
		_exit(1);
}

/* New memory, private or shared by where it is. */
static void map_pages(unsigned page, unsigned n)
{
	map_part(page, min_of(page + n, (unsigned)PRIVATE_PAGES), MAP_PRIVATE);
	map_part(max_of(page, (unsigned)PRIVATE_PAGES), page + n, MAP_SHARED);
}

static long move(void *from, size_t len)
{
	void *away = (void *)kernel_at(AWAY);
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (mremap(from, len, len, flags, away) == MAP_FAILED)
		return -errno;
	return mremap(away, len, len, flags, from) == MAP_FAILED ? -errno : 0;
}

/* What waits on this CPU to be marked has a user more, for which the next write makes a copy of
 * what a child once had: an advice to any other page ends the waiting. */
static long give_up(void *at, size_t len)
{
	long result = madvise(at, len, MADV_FREE) ? -errno : 0;

	madvise((void *)kernel_at(ASIDE), PAGE_SIZE, UAPI_MADV_COLD);
	return result;
}

static long kernel_does(const struct pageout_step *op)
{
	static const int advice[NR_PAGEOUT_CALLS] = {
		[PAGEOUT] = UAPI_MADV_PAGEOUT,
		[COLD] = UAPI_MADV_COLD,
		[DONTNEED] = MADV_DONTNEED,
		[POPULATE_READ] = UAPI_MADV_POPULATE_READ,
		[POPULATE_WRITE] = UAPI_MADV_POPULATE_WRITE,
	};
	void *at = (void *)kernel_at(op->page);
	size_t len = (size_t)op->n << PAGE_SHIFT;

	switch ((enum pageout_call)op->call) {
	case READ:
	case WRITE:
		return kernel_touch(op, op->call == WRITE);
	case CHILD_READS:
	case CHILD_WRITES:
		return kernel_child(op, op->call == CHILD_WRITES);
	case PROTECT:
		return mprotect((void *)REGION, PRIVATE_PAGES << PAGE_SHIFT, (int)op->n) ? -errno
											 : 0;
	case REPLACE:
		map_pages(op->page, op->n);
		return 0;
	case MOVE:
		return move(at, len);
	case SWAPOFF:
		return swap_area_swapoff() ?: swap_area_swapon();
	case FREE:
		return give_up(at, len);
	default:
		return madvise(at, len, advice[op->call]) ? -errno : 0;
	}
}

static bool look(struct pageout_record *r)
{
	return !mincore((void *)REGION, PAGES << PAGE_SHIFT, r->there);
}

/* Whatever this process itself has to touch is there before anything is counted. */
static void warm_up(const struct script *s, struct pageout_record *records)
{
	struct rusage usage;

	for (unsigned i = 0; i < s->n; i++) {
		struct pageout_step op = step_of(s, i);

		getrusage(RUSAGE_SELF, &usage);
		if (op.call != SWAPOFF)
			kernel_does(&op);
		records[i].minor = usage.ru_minflt & 0;
		look(&records[i]);
	}
	munmap((void *)REGION, PAGES << PAGE_SHIFT);
	map_pages(0, PAGES);
}

static void begin_process(void)
{
	struct sigaction action = { .sa_handler = on_signal };
	cpu_set_t cpus;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* On one CPU: what waits there to be put on the LRU lists is drained. */
	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	map_pages(0, PAGES);
	map_part(ASIDE, ASIDE + 1, MAP_PRIVATE);
}

static _Noreturn void kernel_process(const struct script *s, struct pageout_record *records)
{
	const struct pageout_step aside = { .call = WRITE, .page = ASIDE };
	struct rusage before, after;

	begin_process();
	warm_up(s, records);
	for (unsigned i = 0; i < s->n; i++) {
		struct pageout_record *r = &records[i];
		struct pageout_step op = step_of(s, i);

		/* A fork before has made copies to come of what the next lines write to. */
		kernel_touch(&aside, true);
		getrusage(RUSAGE_SELF, &before);
		r->result = kernel_does(&op);
		getrusage(RUSAGE_SELF, &after);
		r->minor = r->major = 0;
		if (is_touch(&op) && r->result != REFUSED) {
			r->minor = after.ru_minflt - before.ru_minflt;
			r->major = after.ru_majflt - before.ru_majflt;
		}
		if (!look(r))
			_exit(1);
	}
	_exit(0);
}

bool pageout_kernel(const struct script *script, struct pageout_record *records)
{
	static struct pageout_record *shared; /* with the process that writes them */
	size_t size = MOST_STEPS * sizeof(*shared);
	int status = 1;
	pid_t pid;

	if (!shared)
		shared = mmap(NULL, size, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	memset(shared, 0, size);
	pid = fork();
	if (!pid)
		kernel_process(script, shared);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	memcpy(records, shared, size);
	return !status;
}
