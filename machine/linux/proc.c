/* SPDX-License-Identifier: MIT */
#include "machine/linux/proc.h"
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/machine.h"
#include "machine/linux/sys.h"

#include <fcntl.h>

#define PM_PRESENT (1ULL << 63)
#define PM_SWAPPED (1ULL << 62)

static const char *parse_number(const char *p, unsigned base, u64 *out)
{
	u64 v = 0;

	for (;; p++) {
		unsigned digit;

		if (*p >= '0' && *p <= '9')
			digit = (unsigned)(*p - '0');
		else if (base == 16 && *p >= 'a' && *p <= 'f')
			digit = (unsigned)(*p - 'a' + 10);
		else
			break;
		v = v * base + digit;
	}
	*out = v;
	return p;
}

int proc_memory(int statm, struct proc_memory *out)
{
	char text[128];
	long n = sys(pread64, statm, text, sizeof text - 1, 0);
	const char *p = text;
	u64 text_and_libraries;

	if (n <= 0)
		return n < 0 ? (int)n : -EIO;
	text[n] = 0;
	p = parse_number(p, 10, &out->size);
	p = parse_number(p + 1, 10, &out->resident);
	p = parse_number(p + 1, 10, &out->shared);
	p = parse_number(p + 1, 10, &text_and_libraries);
	p = parse_number(p + 1, 10, &text_and_libraries);
	parse_number(p + 1, 10, &out->writable);
	out->size *= PAGE_SIZE;
	out->resident *= PAGE_SIZE;
	out->shared *= PAGE_SIZE;
	out->writable *= PAGE_SIZE;
	return 0;
}

/* The number of kB behind `name`, in bytes; 0 if there is no such line. */
static u64 status_bytes(const char *text, const char *name)
{
	u64 kb = 0, len = 0;

	while (name[len])
		len++;
	for (; *text; text++) {
		if (memcmp(text, name, len))
			continue;
		text += len;
		while (*text == ' ' || *text == '\t')
			text++;
		parse_number(text, 10, &kb);
		break;
	}
	return kb << 10;
}

int proc_held(int status, u64 *locked, u64 *pinned)
{
	char text[4096 + 16] = { 0 }; /* some more, for comparing at the end */
	long n = sys(pread64, status, text, 4096, 0);

	if (n <= 0)
		return n < 0 ? (int)n : -EIO;
	*locked = status_bytes(text, "\nVmLck:");
	*pinned = status_bytes(text, "\nVmPin:");
	return 0;
}

/* "start-end perms offset dev inode   name" */
static void parse_area(const char *p, struct proc_area *a)
{
	u64 offset, inode, ignored;
	unsigned i = 0;

	p = parse_number(p, 16, &a->start);
	p = parse_number(p + 1, 16, &a->end);
	p++;
	a->read = p[0] == 'r';
	a->write = p[1] == 'w';
	a->exec = p[2] == 'x';
	a->private = p[3] == 'p';
	p = parse_number(p + 5, 16, &offset);
	p = parse_number(p + 1, 16, &ignored);
	p = parse_number(p + 1, 16, &ignored);
	p = parse_number(p + 1, 10, &inode);
	while (*p == ' ')
		p++;
	for (; *p && i < sizeof a->name - 1; i++)
		a->name[i] = *p++;
	a->name[i] = 0;
	a->anonymous = inode == 0 && (!a->name[0] || a->name[0] == '[');
}

int proc_areas(int maps, int (*fn)(const struct proc_area *a, void *ctx), void *ctx)
{
	char text[8192];
	u64 have = 0, offset = 0;
	int err = 0;

	for (;;) {
		long n = sys(pread64, maps, text + have, sizeof text - have - 1, offset);
		char *line = text, *end;

		if (n <= 0)
			return n < 0 ? (int)n : 0;
		offset += (u64)n;
		have += (u64)n;
		text[have] = 0;
		for (end = line; *end; end++) {
			struct proc_area a;

			if (*end != '\n')
				continue;
			*end = 0;
			parse_area(line, &a);
			line = end + 1;
			err = fn(&a, ctx);
			if (err)
				return err;
		}
		have = (u64)(end - line);
		memmove(text, line, have);
		if (have == sizeof text - 1)
			have = 0; /* a path longer than the buffer: its area was parsed from the
				     start */
	}
}

/* "pid (name) state ...": what comes after the name, which may hold anything; NULL: not readable.
 */
static const char *stat_text(int stat, char *text, u64 size)
{
	long n = sys(pread64, stat, text, size - 1, 0);

	if (n <= 0)
		return NULL;
	text[n] = 0;
	while (n > 0 && text[n - 1] != ')')
		n--;
	return text[n] ? text + n + 1 : NULL;
}

/* Words after the name. */
#define WORD_THREADS   18
#define WORD_PROCESSOR 37
#define WORD_EXIT_CODE 50

static bool stat_number(const char *text, unsigned which, u64 *out)
{
	unsigned word = 1;

	for (; *text && word < which; text++)
		word += *text == ' ';
	if (word < which)
		return false;
	parse_number(text, 10, out);
	return true;
}

int proc_cpu_of(int tid)
{
	char path[48], text[1024];
	const char *words;
	u64 cpu;
	int fd;

	text_format(path, sizeof path, "/proc/self/task/%d/stat", tid);
	fd = (int)sys(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	words = stat_text(fd, text, sizeof text);
	sys(close, fd);
	return words && stat_number(words, WORD_PROCESSOR, &cpu) ? (int)cpu : -EIO;
}

int proc_leader(int stat, struct proc_leader *out)
{
	char text[1024];
	const char *words = stat_text(stat, text, sizeof text);
	u64 status;

	if (!words || !stat_number(words, WORD_THREADS, &out->threads) ||
	    !stat_number(words, WORD_EXIT_CODE, &status))
		return -EIO;
	out->ended = *words == 'Z';
	out->status = (int)status;
	return 0;
}

int proc_present(int pagemap, u64 va, unsigned n, bool *present)
{
	u64 entries[512];
	long got = sys(pread64, pagemap, entries, n * 8, (va >> PAGE_SHIFT) * 8);

	if (got != (long)n * 8)
		return got < 0 ? (int)got : -EIO;
	for (unsigned i = 0; i < n; i++)
		present[i] = entries[i] & (PM_PRESENT | PM_SWAPPED);
	return 0;
}

bool proc_has_page(int pagemap, u64 va)
{
	unsigned char resident = 0;
	bool has = false;

	if (pagemap < 0)
		return sys(mincore, va, PAGE_SIZE, &resident) == 0 && (resident & 1);
	if (proc_present(pagemap, va, 1, &has) < 0)
		machine_panic("the page table of the process cannot be looked at");
	return has;
}
