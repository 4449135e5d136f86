/* SPDX-License-Identifier: MIT */
/* The kernel's side: a process of its own for each sequence, and its children. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/space/mm.h"
#include "engine/space/uapi.h"
#include "tests/differential/worlds/systems.h"

#define COPY_PART 1024 /* bytes */

static sigjmp_buf touching;
static volatile int how;
static int files[NR_FILES], scratch, pipe_fds[2];

static void on_signal(int sig, siginfo_t *info, void *context)
{
	(void)context;
	how = sig == SIGBUS ? ENDS_BUS : info->si_code == SEGV_MAPERR ? ENDS_MAPERR : ENDS_ACCERR;
	siglongjmp(touching, 1);
}

static volatile u64 *word_at(u32 page)
{
	return (volatile u64 *)(uintptr_t)window_at(page);
}

static s64 touch(u32 page, bool write, u64 word)
{
	if (sigsetjmp(touching, 1))
		return how;
	if (!write)
		return (s64)*word_at(page);
	*word_at(page) = word;
	return (s64)word;
}

static s64 add(u32 page, u64 word)
{
	if (sigsetjmp(touching, 1))
		return how;
	return (s64)__atomic_fetch_add(word_at(page), word, __ATOMIC_SEQ_CST);
}

static s64 result_of(bool failed)
{
	return failed ? -errno : 0;
}

/* To a file and from one: what was copied until the first page that could not be had. */
static s64 copy(const struct systems_step *op)
{
	char *at = (char *)(uintptr_t)window_at(op->page) + PAGE_SIZE / 2, bytes[4 * COPY_PART];
	size_t n = op->n * COPY_PART;

	if (op->call == COPY_IN)
		return max_of(pwrite(scratch, at, n, 0), (ssize_t)0);
	memset(bytes, (int)op->word, sizeof(bytes));
	if (pwrite(scratch, bytes, n, 0) != (ssize_t)n)
		_exit(1);
	return max_of(pread(scratch, at, n, 0), (ssize_t)0);
}

static s64 child_touches(const struct systems_step *op)
{
	s64 told = ENDS_BADLY;
	pid_t pid = fork();

	if (!pid) {
		told = touch(op->page, op->call == CHILD_WRITES, op->word);
		_exit(write(pipe_fds[1], &told, sizeof(told)) != sizeof(told));
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid ||
	    read(pipe_fds[0], &told, sizeof(told)) != sizeof(told))
		_exit(1);
	return told;
}

/* False: it ends in a signal. */
static bool page_contents(u32 page, u64 *words)
{
	if (sigsetjmp(touching, 1))
		return false;
	memcpy(words, (const void *)(uintptr_t)window_at(page), PAGE_SIZE);
	return true;
}

static s64 contents(void)
{
	u64 sum = 0, words[PAGE_SIZE / sizeof(u64)];

	for (u32 page = 0; page < PAGES; page++) {
		bool whole = page_contents(page, words);

		if (!whole)
			sum = contents_add(sum, how);
		for (unsigned i = 0; whole && i < ARRAY_SIZE(words); i++)
			sum = contents_add(sum, (s64)words[i]);
	}
	return (s64)(sum >> 1);
}

static s64 file_word(const struct systems_step *op)
{
	u64 word = op->word;
	off_t pos = (off_t)(op->page * PAGE_SIZE);
	ssize_t n = op->call == WRITE_FILE ? pwrite(files[op->file], &word, sizeof(word), pos)
					   : pread(files[op->file], &word, sizeof(word), pos);

	return n < 0 ? -errno : n ? (s64)word : -1;
}

static int prot_of(u32 prot)
{
	return (prot & VM_READ ? PROT_READ : 0) | (prot & VM_WRITE ? PROT_WRITE : 0);
}

static s64 map(const struct systems_step *op, void *at, size_t len)
{
	bool file = op->call == MAP_OF_FILE;
	int flags =
		MAP_FIXED | (op->shared ? MAP_SHARED : MAP_PRIVATE) | (file ? 0 : MAP_ANONYMOUS);

	return result_of(mmap(at, len, prot_of(op->prot), flags, file ? files[op->file] : -1,
			      (off_t)(op->page2 * PAGE_SIZE)) == MAP_FAILED);
}

static s64 do_step(const struct systems_step *op)
{
	void *at = (void *)(uintptr_t)window_at(op->page);
	void *to = (void *)(uintptr_t)window_at(op->page2);
	size_t len = op->n * PAGE_SIZE;

	switch ((enum systems_call)op->call) {
	case MAP:
	case MAP_OF_FILE:
		return map(op, at, len);
	case UNMAP:
		return result_of(munmap(at, len));
	case PROTECT:
		return result_of(mprotect(at, len, prot_of(op->prot)));
	case MOVE:
		return result_of(mremap(at, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) ==
				 MAP_FAILED);
	case DONTNEED:
		return result_of(madvise(at, len, MADV_DONTNEED));
	case PAGEOUT:
		madvise(at, len, UAPI_MADV_PAGEOUT);
		return 0;
	case READ:
	case WRITE:
		return touch(op->page, op->call == WRITE, op->word);
	case ADD:
		return add(op->page, op->word);
	case COPY_IN:
	case COPY_OUT:
		return copy(op);
	case CHILD_READS:
	case CHILD_WRITES:
		return child_touches(op);
	case READ_FILE:
	case WRITE_FILE:
		return file_word(op);
	case CUT_FILE:
		return result_of(ftruncate(files[op->file], (off_t)(op->page * PAGE_SIZE)));
	case CONTENTS:
		return contents();
	default:
		return -ENOSYS;
	}
}

/* A file without a name. */
static int disk_file(void)
{
	return open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

bool systems_have_disk(void)
{
	static enum { UNKNOWN, YES, NO } known;
	struct statfs fs;
	int fd;

	if (known != UNKNOWN)
		return known == YES;
	fd = disk_file();
	known = fd >= 0 && !fstatfs(fd, &fs) && fs.f_type != TMPFS_MAGIC ? YES : NO;
	if (fd >= 0)
		close(fd);
	return known == YES;
}

static _Noreturn void process(const struct script *s, s64 *results)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	scratch = memfd_create("scratch", 0);
	if (pipe(pipe_fds) || scratch < 0)
		_exit(1);
	for (unsigned f = 0; f < NR_FILES; f++) {
		files[f] = f == ON_DISK && systems_have_disk() ? disk_file()
							       : memfd_create("systems", 0);
		if (files[f] < 0 || ftruncate(files[f], FILE_PAGES * PAGE_SIZE))
			_exit(1);
	}
	munmap((void *)(uintptr_t)WINDOW_BASE, PAGES * PAGE_SIZE);
	for (unsigned i = 0; i < s->n; i++) {
		struct systems_step op = systems_step(s, i);

		results[i] = do_step(&op);
	}
	_exit(0);
}

bool systems_kernel(const struct script *script, s64 *results)
{
	static s64 *shared; /* with the process that writes them */
	size_t size = MOST_STEPS * sizeof(*shared);
	int status = 1;
	pid_t pid;

	if (!shared)
		shared =
			mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return false;
	systems_have_disk(); /* each process need not find out */
	pid = fork();
	if (!pid)
		process(script, shared);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	memcpy(results, shared, size);
	return !status;
}
