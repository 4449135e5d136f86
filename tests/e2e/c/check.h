/* SPDX-License-Identifier: MIT */
/*
 * What the self-checking programs of this folder share.
 *
 * Each program states one rule. It takes the size to work on in MiB (64 if none is given), says
 * nothing but "ok" and ends with 0 only if all that it looked at was right; 77 means that this
 * machine cannot do what the rule is about. They are run bare, then with about a quarter of the
 * size as their limit: what was written first is then evicted when it is looked at.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define MIB  (1024UL * 1024)

#define EXPECT(condition)                                                                          \
	do {                                                                                       \
		if (!(condition))                                                                  \
			failed(__FILE__, __LINE__, #condition);                                    \
	} while (0)

static inline void failed(const char *file, int line, const char *condition)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "%s:%d: not so: %s (errno %d, %s), pid %d\n", file,
			 line, condition, errno, strerror(errno), getpid());

	if (write(2, text, n) < 0)
		_exit(2);
	_exit(1);
}

/* This machine cannot do it: not an error. */
static inline void skip(const char *why)
{
	printf("skipped: %s\n", why);
	exit(77);
}

static inline int passed(void)
{
	puts("ok");
	return 0;
}

static inline size_t size_from(int argc, char **argv)
{
	size_t mib = argc > 1 ? strtoul(argv[1], NULL, 10) : 64;

	if (mib < 8) {
		fprintf(stderr, "the size is in MiB, at least 8\n");
		exit(2);
	}
	return mib * MIB;
}

static inline void *map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

/* --- contents: half of a page random, half constant, all of it told by seed and number --- */

static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdULL;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ULL;
	return x ^ x >> 33;
}

static inline void page_make(void *page, uint64_t seed, uint64_t number)
{
	uint64_t *word = page, x = mix(seed * 0x9e3779b97f4a7c15ULL + number + 1);
	size_t i;

	for (i = 0; i < PAGE / 16; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		word[i] = x;
	}
	for (; i < PAGE / 8; i++)
		word[i] = number;
}

static inline int page_is(const void *page, uint64_t seed, uint64_t number)
{
	uint64_t want[PAGE / 8];

	page_make(want, seed, number);
	return !memcmp(page, want, PAGE);
}

static inline void fill(void *p, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / PAGE; i++)
		page_make((char *)p + i * PAGE, seed, i);
}

static inline void verify_at(const void *p, size_t bytes, uint64_t seed, const char *file, int line)
{
	char text[96];

	for (size_t i = 0; i < bytes / PAGE; i++) {
		if (page_is((const char *)p + i * PAGE, seed, i))
			continue;
		snprintf(text, sizeof(text), "page %zu of %zu at %p holds what was written", i,
			 bytes / PAGE, (const void *)((const char *)p + i * PAGE));
		failed(file, line, text);
	}
}
#define verify(p, bytes, seed) verify_at(p, bytes, seed, __FILE__, __LINE__)

static inline int is_zero(const void *p, size_t bytes)
{
	const uint64_t *word = p;

	for (size_t i = 0; i < bytes / 8; i++)
		if (word[i])
			return 0;
	return 1;
}

/*
 * Push out what was touched before: write to `bytes` of other memory and look at it again. Called
 * with more than the limit, it leaves all that came before evicted.
 */
static inline void press(size_t bytes)
{
	static char *ballast;
	static size_t have;

	if (have < bytes) {
		if (ballast)
			munmap(ballast, have);
		ballast = map(bytes);
		have = bytes;
		fill(ballast, bytes, 4711);
	}
	verify(ballast, bytes, 4711);
}

/* The size as a small buffer to work on and the rest of it to press with. */
static inline size_t part_of(size_t size)
{
	return size / 8 / PAGE * PAGE;
}

static inline void wait_for_success(pid_t child)
{
	int status;

	EXPECT(child > 0);
	EXPECT(waitpid(child, &status, 0) == child);
	EXPECT(WIFEXITED(status));
	EXPECT(WEXITSTATUS(status) == 0);
}

/* How many pages of the range are there now. */
static inline size_t resident(void *p, size_t bytes)
{
	static unsigned char there[65536];
	size_t n = 0;

	EXPECT(bytes / PAGE <= sizeof(there));
	EXPECT(mincore(p, bytes, there) == 0);
	for (size_t i = 0; i < bytes / PAGE; i++)
		n += there[i] & 1;
	return n;
}

/* Become nobody, if there is anything to give up. */
static inline void drop_root(void)
{
	if (getuid())
		return;
	EXPECT(setgroups(0, NULL) == 0);
	EXPECT(setgid(65534) == 0);
	EXPECT(setuid(65534) == 0);
}

/* A file of no name to work with. */
static inline int nameless_file(void)
{
	const char *dir = getenv("TMPDIR");
	int fd = open(dir ? dir : "/tmp", O_TMPFILE | O_RDWR, 0600);
	char name[] = "/tmp/vmfault-check-XXXXXX";

	if (fd >= 0)
		return fd;
	fd = mkstemp(name);
	EXPECT(fd >= 0);
	unlink(name);
	return fd;
}

#endif
