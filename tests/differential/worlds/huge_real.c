/* SPDX-License-Identifier: MIT */
/* Huge pages on the kernel's side: this process, and children that touch one page. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/userfault/userfault.h"
#include "tests/differential/worlds/huge.h"

static sigjmp_buf touching;
static volatile int signal_nr, signal_code, may_fault;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (!may_fault) { /* a mistake of the tester's: die of it */
		signal(sig, SIG_DFL);
		return;
	}
	may_fault = 0;
	signal_nr = sig;
	signal_code = info->si_code;
	siglongjmp(touching, 1);
}

static s64 real_touch(const struct huge_step *op, bool write)
{
	volatile u8 *byte = (volatile u8 *)(uintptr_t)huge_at(op->page), got;

	if (sigsetjmp(touching, 1))
		return signal_nr == SIGBUS	    ? TOUCH_BUS
		       : signal_code == SEGV_MAPERR ? TOUCH_MAPERR
						    : TOUCH_ACCERR;
	may_fault = 1;
	if (write)
		*byte = got = (u8)op->byte;
	else
		got = *byte;
	may_fault = 0;
	return got;
}

static s64 real_faults(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

static s64 real_fork(const struct huge_step *op)
{
	s64 told = -1;
	int pipe_fds[2];
	pid_t pid;

	if (pipe(pipe_fds))
		abort();
	pid = fork();
	if (!pid) {
		told = real_touch(op, op->prot & PROT_WRITE);
		if (write(pipe_fds[1], &told, sizeof(told)) != sizeof(told))
			_exit(1);
		_exit(0);
	}
	if (pid < 0 || read(pipe_fds[0], &told, sizeof(told)) != sizeof(told) ||
	    waitpid(pid, NULL, 0) != pid)
		abort();
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	return told;
}

static s64 call(long result)
{
	return result < 0 ? -errno : 0;
}

/* As in <linux/userfaultfd.h>, which is older on some systems. */
struct uffd_api {
	u64 api, features, ioctls;
};
struct uffd_register {
	u64 start, len, mode, ioctls;
};
struct uffd_writeprotect {
	u64 start, len, mode;
};
struct uffd_move {
	u64 dst, src, len, mode;
	s64 move;
};
#define UFFD_IOCTL_API		_IOWR(0xaa, 0x3f, struct uffd_api)
#define UFFD_IOCTL_REGISTER	_IOWR(0xaa, 0, struct uffd_register)
#define UFFD_IOCTL_UNREGISTER	_IOR(0xaa, 1, u64[2])
#define UFFD_IOCTL_MOVE		_IOWR(0xaa, 5, struct uffd_move)
#define UFFD_IOCTL_WRITEPROTECT _IOWR(0xaa, 6, struct uffd_writeprotect)

static int uffd = -1;

#define HUGE_FEATURES                                                                              \
	(UAPI_UFFD_FEATURE_SIGBUS | UAPI_UFFD_FEATURE_WP_ASYNC |                                   \
	 UAPI_UFFD_FEATURE_WP_UNPOPULATED | UAPI_UFFD_FEATURE_MOVE)

/* With these features; -1: it cannot be had. */
static int open_uffd(u64 features)
{
	struct uffd_api api = { UAPI_UFFD_API, features, 0 };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || !ioctl(fd, UFFD_IOCTL_API, &api))
		return fd;
	close(fd);
	return -1;
}

static s64 real_watch(const struct huge_step *op, void *va, size_t len)
{
	struct uffd_register reg = { (u64)(uintptr_t)va, len, huge_watch_modes(op), 0 };

	if (uffd < 0)
		uffd = open_uffd(huge_watch_features(op));
	if (uffd < 0)
		abort();
	return call(ioctl(uffd, op->prot ? UFFD_IOCTL_REGISTER : UFFD_IOCTL_UNREGISTER, &reg));
}

static s64 real_protect(const struct huge_step *op, void *va, size_t len)
{
	struct uffd_writeprotect wp = { (u64)(uintptr_t)va, len,
					op->prot & PROT_WRITE ? 0
							      : UAPI_UFFDIO_WRITEPROTECT_MODE_WP };

	return call(ioctl(uffd, UFFD_IOCTL_WRITEPROTECT, &wp));
}

static s64 real_move(const struct huge_step *op, void *va, size_t len)
{
	struct uffd_move mv = { huge_at(op->page2), (u64)(uintptr_t)va, len,
				op->prot & PROT_READ ? UAPI_UFFDIO_MOVE_MODE_ALLOW_SRC_HOLES : 0,
				0 };
	s64 result = call(ioctl(uffd, UFFD_IOCTL_MOVE, &mv));

	return mv.move > 0 ? mv.move : result;
}

static s64 real_do(const struct huge_step *op)
{
	void *va = (void *)(uintptr_t)huge_at(op->page);
	size_t len = op->n * PAGE_SIZE, len2 = (op->n2 ?: op->n) * PAGE_SIZE;

	switch (op->kind) {
	case OP_MAP:
		return call(-(mmap(va, len, (int)op->prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
				   -1, 0) == MAP_FAILED));
	case OP_UNMAP:
		return call(munmap(va, len));
	case OP_PROTECT:
		return call(mprotect(va, len, (int)op->prot));
	case OP_ADVISE:
		return call(madvise(va, len, (int)op->advice));
	case OP_REMAP:
		return call(-(mremap(va, len, len2, MREMAP_MAYMOVE | MREMAP_FIXED,
				     (void *)(uintptr_t)huge_at(op->page2)) == MAP_FAILED));
	case OP_WATCH:
		return real_watch(op, va, len);
	case OP_WRITEPROTECT:
		return real_protect(op, va, len);
	case OP_MOVE:
		return real_move(op, va, len);
	case OP_FORK:
		return real_fork(op);
	default:
		return real_touch(op, op->kind == OP_WRITE);
	}
}

/* Newer than the headers of some systems. */
struct scan_region {
	u64 start, end, categories;
};
struct scan_arg {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN_IOCTL   _IOWR('f', 16, struct scan_arg)
#define SCAN_IS_HUGE (1ULL << 6)

static int pagemap = -1, rollup = -1;

static bool real_mincore(unsigned page, unsigned n, u8 *vec)
{
	return !mincore((void *)(uintptr_t)huge_at(page), n * PAGE_SIZE, vec);
}

/* False: this kernel does not tell. */
static bool real_look(const struct outcome *engine, struct outcome *o)
{
	static struct scan_region regions[WINDOW];
	static u64 entries[WINDOW];
	struct scan_arg arg = { .size = sizeof(arg),
				.start = huge_at(0),
				.end = huge_at(WINDOW),
				.vec = (u64)(uintptr_t)regions,
				.vec_len = WINDOW,
				.category_mask = SCAN_IS_HUGE,
				.return_mask = SCAN_IS_HUGE };
	int n;

	/* Run by run as the engine has them: where it has no area one question is enough. */
	for (unsigned i = 0, n; i < WINDOW; i += n) {
		bool hole = engine->present[i] == 2;

		for (n = 1; i + n < WINDOW && (engine->present[i + n] == 2) == hole; n++)
			;
		if (!hole)
			huge_see_present(real_mincore, o->present, i, n);
		else
			memset(o->present + i, real_mincore(i, n, o->present + i) ? 3 : 2, n);
	}
	memset(o->huge, 0, sizeof(o->huge));
	if (pread(pagemap, entries, sizeof(entries), (off_t)(huge_at(0) / PAGE_SIZE * 8)) !=
	    sizeof(entries))
		return false;
	for (unsigned i = 0; i < WINDOW; i++)
		o->marked[i] = entries[i] >> 57 & 1;
	n = ioctl(pagemap, SCAN_IOCTL, &arg);
	for (int k = 0; k < n; k++)
		for (u64 va = regions[k].start; va < regions[k].end; va += PAGE_SIZE)
			o->huge[(va - huge_at(0)) / PAGE_SIZE] = 1;
	return n >= 0;
}

u64 huge_real_disturbances(void)
{
	FILE *scan = fopen("/sys/kernel/mm/transparent_hugepage/khugepaged/pages_collapsed", "r");
	FILE *f = fopen("/proc/vmstat", "r");
	char name[64];
	u64 value, sum = 0;

	while (f && fscanf(f, "%63s %lu", name, &value) == 2)
		if (!strcmp(name, "thp_fault_fallback") ||
		    !strcmp(name, "thp_collapse_alloc_failed") ||
		    !strcmp(name, "thp_zero_page_alloc_failed"))
			sum += value;
	if (f)
		fclose(f);
	if (scan && fscanf(scan, "%lu", &value) == 1)
		sum += value;
	if (scan)
		fclose(scan);
	return sum;
}

int huge_real_mode(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
	char line[64] = "";
	bool read = f && fgets(line, sizeof(line), f);

	if (f)
		fclose(f);
	if (!read)
		return -1;
	return strstr(line, "[always]")	   ? THP_ALWAYS
	       : strstr(line, "[madvise]") ? THP_MADVISE
					   : THP_NEVER;
}

/* ---- what others see ---- */

/* What this process has in huge pages that are its own. */
static u64 anon_bytes(void)
{
	char text[4096];
	ssize_t n = pread(rollup, text, sizeof(text) - 1, 0);
	const char *line;
	unsigned long kib = 0;

	text[max_of(n, (ssize_t)0)] = 0;
	line = strstr(text, "AnonHugePages:");
	if (!line || sscanf(line, "AnonHugePages: %lu", &kib) != 1)
		return 0;
	return kib << 10;
}

void huge_real_do(const struct huge_step *op, const struct outcome *engine, struct outcome *o)
{
	s64 start;

	may_fault = 0; /* a fork before has made a copy to come of what a touch writes to */
	start = real_faults();
	o->result = real_do(op);
	o->faults = real_faults() - start;
	/* What has changed nothing need not be looked at. */
	if (op->kind == OP_READ && (o->result < 0 || (!engine->faults && !o->faults)))
		return;
	real_look(engine, o);
	/* It takes a millisecond, and a read changes it seldom: the next operation shows it. */
	o->anon_bytes = op->kind == OP_READ ? engine->anon_bytes : anon_bytes();
}

void huge_real_begin(void)
{
	if (uffd >= 0)
		close(uffd);
	uffd = -1;
	munmap((void *)(uintptr_t)huge_at(0), WINDOW * PAGE_SIZE);
}

const char *huge_real_open(void)
{
	struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	int mode = huge_real_mode();
	static struct outcome o;

	pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	rollup = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
	if (mode < 0 || mode == THP_NEVER)
		return "the kernel makes no huge pages (transparent_hugepage/enabled)";
	if (rollup < 0 || !real_look(&o, &o))
		return "the kernel does not show huge pages (PAGEMAP_SCAN, smaps_rollup)";
	uffd = open_uffd(HUGE_FEATURES);
	if (uffd < 0)
		return "userfaultfd is not allowed here, or the kernel has none that moves pages";
	sigaction(SIGSEGV, &act, NULL);
	sigaction(SIGBUS, &act, NULL);
	return NULL;
}
