/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/differential/runner.h"
#include "tests/differential/support.h"

enum {
	ADVICE_MERGEABLE = 12,
	ADVICE_HUGEPAGE = 14,
	ADVICE_COLD = 20,
	ADVICE_PAGEOUT = 21,
	ADVICE_HWPOISON = 100,
	ADVICE_GUARD_INSTALL = 102,
	ADVICE_GUARD_REMOVE = 103
};

/* The number that a file of /proc or /sys begins with. */
static u64 number_in(const char *path, u64 otherwise)
{
	FILE *f = fopen(path, "re");
	unsigned long long v;
	int n = f ? fscanf(f, "%llu", &v) : 0;

	if (f)
		fclose(f);
	return n == 1 ? v : otherwise;
}

enum pool { POOL_NONE, POOL_EMPTY, POOL_FILLED };

/* A figure of the pool of huge pages of so many KiB; `none` if there is no such pool. */
static u64 pool_figure(unsigned kib, const char *name, u64 none)
{
	char path[100];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%ukB/%s", kib, name);
	return number_in(path, none);
}

/* Can a page be had of it?  What others have reserved cannot, and what is made when it is wanted
 * can. */
static enum pool pool_of(unsigned kib)
{
	u64 free = pool_figure(kib, "free_hugepages", ~0ULL);

	if (free == ~0ULL)
		return POOL_NONE;
	return free > pool_figure(kib, "resv_hugepages", 0) ||
			       pool_figure(kib, "nr_overcommit_hugepages", 1)
		       ? POOL_FILLED
		       : POOL_EMPTY;
}

static unsigned default_huge_kib(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[100];
	unsigned kib = 0;

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "Hugepagesize: %u", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static unsigned lines_in(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned n = 0;
	int c;

	while (f && (c = getc(f)) != EOF)
		n += c == '\n';
	if (f)
		fclose(f);
	return n;
}

static bool knows_advice(int advice)
{
	void *p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool knows = p != MAP_FAILED && !madvise(p, PAGE_SIZE, advice);

	if (p != MAP_FAILED)
		munmap(p, PAGE_SIZE);
	return knows;
}

static bool knows_droppable(void)
{
	void *p = mmap(NULL, PAGE_SIZE, PROT_READ, 8 | MAP_ANONYMOUS, -1, 0);

	if (p != MAP_FAILED)
		munmap(p, PAGE_SIZE);
	return p != MAP_FAILED;
}

static bool from(const struct support *s, unsigned major, unsigned minor)
{
	return s->major > major || (s->major == major && s->minor >= minor);
}

/* Nothing of this process may lie where the arena is to be, or next to it. */
static bool arena_is_free(void)
{
	void *at = (void *)(ARENA_BASE - ARENA_MARGIN), *p;

	p = mmap(at, ARENA_SIZE + 2 * ARENA_MARGIN, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	if (p != MAP_FAILED)
		munmap(p, ARENA_SIZE + 2 * ARENA_MARGIN);
	return p == at;
}

/* A sanitizer's shadow may be in the way: then it depends on where the system has put it whether a
 * mapping fails for want of a place, or for what is looked at after that. */
static bool is_wide(void)
{
	u64 size = 1ULL << 46;
	void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p != MAP_FAILED)
		munmap(p, size);
	return p != MAP_FAILED;
}

/* What the kernel makes of a hint that is too low, unless that is taken. */
static u64 hint_min(u64 mmap_min_addr)
{
	u64 usual = max_of(mmap_min_addr, (u64)65536), min = usual;
	void *p = mmap((void *)PAGE_SIZE, PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return usual;
	if ((u64)p <= 1 << 20)
		min = (u64)p;
	munmap(p, PAGE_SIZE);
	return min;
}

/* Tried in a process of its own, for this one has a heap already.  What lies in the heap's way (a
 * sanitizer's shadow) shows in the break that is answered. */
static bool can_place_heap(void)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid)
		_exit(heap_place(0) && heap_moves() ? 0 : 1);
	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

/* More nodes than the engine's side has: what is asked of them is answered in other ways. */
static bool has_one_node(void)
{
	return !access("/sys/devices/system/node/node0", F_OK) &&
	       access("/sys/devices/system/node/node1", F_OK);
}

bool support_probe(struct support *s, char *why)
{
	struct utsname name;

	memset(s, 0, sizeof(*s));
	if (uname(&name) || sscanf(name.release, "%u.%u", &s->major, &s->minor) != 2) {
		snprintf(why, 160, "the kernel does not tell its version");
		return false;
	}
	if (!from(s, 6, 1)) {
		snprintf(why, 160, "Linux %u.%u is too old to be compared with: 6.1 is the first",
			 s->major, s->minor);
		return false;
	}
	if (access("/proc/self/pagemap", R_OK) || access("/proc/self/smaps", R_OK)) {
		snprintf(why, 160, "/proc/self/pagemap and smaps cannot be read");
		return false;
	}
	if (!arena_is_free()) {
		snprintf(why, 160, "addresses from 0x%llx on are taken in this program",
			 (unsigned long long)ARENA_BASE);
		return false;
	}
	s->guard = knows_advice(ADVICE_GUARD_INSTALL);
	s->droppable = knows_droppable();
	s->seal = from(s, 6, 10);
	s->seal_executable = from(s, 6, 18);
	s->map_sealed = from(s, 6, 7);
	s->move_several = from(s, 6, 17);
	s->merges_samepages = knows_advice(ADVICE_MERGEABLE);
	s->huge_advice = knows_advice(ADVICE_HUGEPAGE);
	/* Not tried on any memory, which would be lost: of nothing it is the name that counts. */
	s->memory_failure = !madvise(NULL, 0, ADVICE_HWPOISON);
	s->swap = lines_in("/proc/swaps") > 1;
	s->huge_pool = pool_of(2048) != POOL_EMPTY || pool_of(1048576) != POOL_EMPTY ||
		       default_huge_kib() != 2048;
	s->one_node = has_one_node();
	s->heap = can_place_heap();
	s->commits_freely = number_in("/proc/sys/vm/overcommit_memory", 0) == 0;
	s->wide = is_wide();
	s->max_map_count = number_in("/proc/sys/vm/max_map_count", 65530);
	s->mmap_min_addr = number_in("/proc/sys/vm/mmap_min_addr", 65536);
	s->hint_min = hint_min(s->mmap_min_addr);
	return true;
}

static bool has_advice(const struct support *s, u32 advice)
{
	switch (advice) {
	case ADVICE_MERGEABLE:
	case ADVICE_MERGEABLE + 1:
		return s->merges_samepages;
	case ADVICE_HUGEPAGE:
	case ADVICE_HUGEPAGE + 1:
		return s->huge_advice;
	case ADVICE_COLD:
	case ADVICE_PAGEOUT:
		return !s->swap;
	case ADVICE_GUARD_INSTALL:
	case ADVICE_GUARD_REMOVE:
		return s->guard;
	default:
		return true;
	}
}

/* How much memory may be promised is a matter of how much there is, but for sizes beyond all. */
static bool is_determined(const struct support *s, u64 len)
{
	len = PAGE_ALIGN(len);
	return len <= ARENA_SIZE || len > USER_END ||
	       (s->commits_freely && s->wide && len >= 1ULL << 46);
}

bool support_has(const struct support *s, const struct op *op)
{
	switch ((enum call)op->call) {
	case CALL_MADVISE:
		return has_advice(s, op->arg[2]);
	case CALL_BRK:
		return s->heap;
	case CALL_MSEAL:
		return s->seal;
	case CALL_MBIND:
	case CALL_SET_MEMPOLICY:
	case CALL_GET_MEMPOLICY:
	case CALL_MOVE_PAGES:
		return s->one_node;
	case CALL_ADD_SEALS:
		return s->map_sealed && (s->seal_executable || !(op->arg[1] & 0x20));
	case CALL_MMAP:
		if ((op->arg[3] & MAP_HUGETLB) && s->huge_pool)
			return false;
		if ((op->arg[3] & 0xf) == 8 && !s->droppable)
			return false;
		if (op->arg[4] == FILE_SEALED && !s->map_sealed)
			return false;
		return is_determined(s, op->arg[1]);
	case CALL_MREMAP:
		return is_determined(s, op->arg[2]);
	default:
		return true;
	}
}
