/* SPDX-License-Identifier: MIT */
/*
 * What /proc tells of the arena.  It is at low addresses and so among the first lines of maps and
 * smaps; reading stops behind it.
 */
#include <fcntl.h>
#include <string.h>

#include "machine/linux/sys.h"
#include "tests/differential/runner.h"

/* ---- files of /proc, line by line ---- */

struct lines {
	int fd;
	char *buf;
	size_t size, used, at; /* bytes: room, read so far, gone past */
};

/* The next line, without its end, or NULL at the end of the file.  Valid until the next call. */
static char *next_line(struct lines *l)
{
	for (;;) {
		char *start = l->buf + l->at;
		char *newline = memchr(start, '\n', l->used - l->at);
		long n;

		if (newline) {
			*newline = '\0';
			l->at = newline + 1 - l->buf;
			return start;
		}
		memmove(l->buf, start, l->used - l->at);
		l->used -= l->at;
		l->at = 0;
		n = sys(read, l->fd, l->buf + l->used, l->size - l->used);
		if (n <= 0)
			return NULL;
		l->used += n;
	}
}

/* Few bytes at once: the kernel makes no more lines than fit. */
static struct lines lines_of(struct runner *r, int fd, size_t at_once)
{
	sys(lseek, fd, 0, SEEK_SET);
	return (struct lines){ .fd = fd, .buf = r->scratch->text, .size = at_once };
}

static u64 hex(char **p)
{
	u64 v = 0;

	for (;; (*p)++) {
		unsigned c = (unsigned char)**p;

		if (c - '0' < 10)
			v = v << 4 | (c - '0');
		else if (c - 'a' < 6)
			v = v << 4 | (c - 'a' + 10);
		else
			return v;
	}
}

static u64 decimal(const char *p)
{
	u64 v = 0;

	while (*p == ' ' || *p == '\t')
		p++;
	for (; *p >= '0' && *p <= '9'; p++)
		v = 10 * v + (*p - '0');
	return v;
}

void look_open(struct runner *r)
{
	r->maps = sys(openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
	r->pagemap = sys(openat, AT_FDCWD, "/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	r->smaps = sys(openat, AT_FDCWD, "/proc/self/smaps", O_RDONLY | O_CLOEXEC);
}

void look_close(struct runner *r)
{
	sys(close, r->maps);
	sys(close, r->pagemap);
	sys(close, r->smaps);
}

/* ---- areas ---- */

/* Shared objects that are none of the files, as numbered in this observation. */
struct objects {
	unsigned n;
	u64 inodes[ARENA_PAGES];
};

static u8 object_of(const struct runner *r, struct objects *objects, u64 inode)
{
	unsigned i;

	if (!inode)
		return SEEN_ANONYMOUS;
	for (i = 0; i < ARRAY_SIZE(r->inodes); i++)
		if (r->inodes[i] == inode)
			return SEEN_FILE_0 + i;
	for (i = 0; i < objects->n; i++)
		if (objects->inodes[i] == inode)
			break;
	if (i == objects->n)
		objects->inodes[objects->n++] = inode;
	return min_of(SEEN_OBJECT + i, 255u);
}

enum line_kind { LINE_BELOW, LINE_IN, LINE_ABOVE };

/* "1fe80000-1fe81000 rw-p 00000000 00:00 0   name" */
static enum line_kind parse_area(const struct runner *r, struct objects *objects, char *p,
				 struct seen_area *area)
{
	u64 start = hex(&p), end, pgoff;

	p++;
	end = hex(&p);
	if (end <= ARENA_BASE)
		return LINE_BELOW;
	if (start >= ARENA_END)
		return LINE_ABOVE;
	memset(area, 0, sizeof(*area));
	/* What grew out of the arena below is cut, and a huge page that reaches out above. */
	start = max_of(start, ARENA_BASE);
	end = min_of(end, ARENA_END);
	area->start = (start - ARENA_BASE) >> PAGE_SHIFT;
	area->end = (end - ARENA_BASE) >> PAGE_SHIFT;
	area->perms = (p[1] == 'r' ? SEEN_READ : 0) | (p[2] == 'w' ? SEEN_WRITE : 0) |
		      (p[3] == 'x' ? SEEN_EXEC : 0) | (p[4] == 's' ? SEEN_SHARED : 0);
	p += 6;
	pgoff = hex(&p) >> PAGE_SHIFT;
	p++;
	hex(&p); /* the device: 00:00 */
	p++;
	hex(&p);
	area->object = object_of(r, objects, decimal(p));
	area->pgoff = area->object ? pgoff : 0;
	return LINE_IN;
}

static unsigned look_areas(struct runner *r, struct seen_area *areas)
{
	struct lines l = lines_of(r, r->maps, 512);
	struct objects objects;
	enum line_kind kind;
	unsigned n = 0;
	char *line;

	objects.n = 0;
	while ((line = next_line(&l))) {
		kind = parse_area(r, &objects, line, &areas[n]);
		if (kind == LINE_ABOVE)
			break;
		n += kind == LINE_IN;
	}
	return n;
}

u64 look_count_areas(struct runner *r)
{
	struct lines l = lines_of(r, r->maps, sizeof(r->scratch->text));
	u64 n = 0;
	char *line;

	while ((line = next_line(&l)))
		n += !strstr(line, "[vsyscall]"); /* which is no area of the process */
	return n;
}

/* ---- smaps ---- */

static u16 flag_of(const char *letters)
{
	static const struct {
		char letters[3];
		u16 flag;
	} flags[] = {
		{ "mr", SEEN_MAYREAD },	   { "mw", SEEN_MAYWRITE },  { "me", SEEN_MAYEXEC },
		{ "ms", SEEN_MAYSHARE },   { "gd", SEEN_GROWSDOWN }, { "lo", SEEN_LOCKED },
		{ "sr", SEEN_SEQUENTIAL }, { "rr", SEEN_RANDOM },    { "dc", SEEN_DONTCOPY },
		{ "de", SEEN_DONTEXPAND }, { "ac", SEEN_ACCOUNT },   { "nr", SEEN_NORESERVE },
		{ "wf", SEEN_WIPEONFORK }, { "dd", SEEN_DONTDUMP },  { "hg", SEEN_HUGEPAGE },
		{ "nh", SEEN_NOHUGEPAGE },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(flags); i++)
		if (flags[i].letters[0] == letters[0] && flags[i].letters[1] == letters[1])
			return flags[i].flag;
	return 0;
}

static bool begins(const char *line, const char *with)
{
	return !strncmp(line, with, strlen(with));
}

static void parse_detail(struct seen_area *area, const char *line)
{
	const char *colon = strchr(line, ':');
	u32 pages = colon ? decimal(colon + 1) * 1024 >> PAGE_SHIFT : 0;

	if (begins(line, "Rss:"))
		area->rss = pages;
	else if (begins(line, "Anonymous:"))
		area->anonymous = pages;
	else if (begins(line, "Shared_Dirty:") || begins(line, "Private_Dirty:"))
		area->dirty += pages;
	else if (begins(line, "VmFlags:"))
		for (line = colon + 1; line[0] == ' ' && line[1]; line += 3)
			area->flags |= flag_of(line + 1);
}

static unsigned look_closely(struct runner *r, struct seen_area *areas)
{
	struct lines l = lines_of(r, r->smaps, 2048);
	struct objects objects;
	enum line_kind kind = LINE_BELOW;
	unsigned n = 0;
	char *line;

	objects.n = 0;
	while (kind != LINE_ABOVE && (line = next_line(&l))) {
		/* A line of numbers begins with a small letter or digit, all others do not. */
		if (*line < 'A' || *line > 'Z') {
			kind = parse_area(r, &objects, line, &areas[n]);
			n += kind == LINE_IN;
		} else if (kind == LINE_IN) {
			parse_detail(&areas[n - 1], line);
		}
	}
	return n;
}

/* ---- pages ---- */

#define PAGEMAP_PRESENT	  (1ULL << 63)
#define PAGEMAP_FILE	  (1ULL << 61)
#define PAGEMAP_EXCLUSIVE (1ULL << 56)

static unsigned look_pages(struct runner *r, const struct seen_area *area, struct seen_page *pages)
{
	u64 *map = r->scratch->pagemap;
	unsigned nr = area->end - area->start, n = 0;
	u64 first = ARENA_BASE + area->start * PAGE_SIZE;
	long got = sys(pread64, r->pagemap, map, nr * sizeof(u64),
		       (first >> PAGE_SHIFT) * sizeof(u64));

	for (unsigned i = 0; i < nr && (long)(i * sizeof(u64)) < got; i++) {
		if (!(map[i] & PAGEMAP_PRESENT))
			continue;
		pages[n] = (struct seen_page){
			.page = area->start + i,
			.state = SEEN_PRESENT | (map[i] & PAGEMAP_FILE ? SEEN_IS_FILE : 0) |
				 (map[i] & PAGEMAP_EXCLUSIVE ? SEEN_EXCLUSIVE : 0),
		};
		if (area->perms & SEEN_READ)
			pages[n].sum = page_sum((const u64 *)(first + i * PAGE_SIZE));
		n++;
	}
	return n;
}

bool look(struct runner *r, struct record *record, bool closely)
{
	struct trace *t = &r->control->trace;
	struct observation *o = (struct observation *)(t->log + t->used);
	struct seen_area *areas = (struct seen_area *)(o + 1);
	struct seen_page *pages;

	if (t->used + OBSERVATION_MAX > LOG_SIZE || r->maps < 0 || r->pagemap < 0 || r->smaps < 0)
		return false;
	memset(o, 0, sizeof(*o));
	o->process = r->process;
	o->nr_areas = closely ? look_closely(r, areas) : look_areas(r, areas);
	pages = (struct seen_page *)(areas + o->nr_areas);
	for (unsigned i = 0; i < o->nr_areas; i++)
		o->nr_pages += look_pages(r, &areas[i], pages + o->nr_pages);
	record->seen = t->used;
	record->looked = true;
	t->used += observation_size(o);
	return true;
}

/* ---- figures ---- */

u64 look_total_pages(struct runner *r)
{
	int fd = sys(openat, AT_FDCWD, "/proc/self/statm", O_RDONLY | O_CLOEXEC);
	struct lines l = lines_of(r, fd, sizeof(r->scratch->text));
	const char *line = next_line(&l);
	u64 pages = line ? decimal(line) : 0;

	sys(close, fd);
	return pages;
}

u64 look_status_pages(struct runner *r, const char *name)
{
	int fd = sys(openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
	struct lines l = lines_of(r, fd, sizeof(r->scratch->text));
	const char *line;
	u64 pages = 0;

	while ((line = next_line(&l)))
		if (begins(line, name))
			pages = decimal(line + strlen(name)) * 1024 >> PAGE_SHIFT;
	sys(close, fd);
	return pages;
}
