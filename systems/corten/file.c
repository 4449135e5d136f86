/* SPDX-License-Identifier: MIT */
#include "systems/corten/file.h"

#include <stdlib.h>

#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "systems/ledger.h"

static u64 pages_of(u64 bytes)
{
	return (bytes + PAGE_SIZE - 1) >> PAGE_SHIFT;
}

struct corten_file *corten_file_new(struct corten_memory *m, bool in_memory)
{
	struct corten_file *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->memory = m;
	f->in_memory = in_memory;
	atomic_store(&f->users, 1);
	spin_init(&f->lock);
	spin_init(&f->resizing);
	return f;
}

static void drop_page(struct corten_file *f, struct corten_block *b)
{
	if (b->page)
		page_put(&f->memory->machine->engine, b->page);
	b->page = NULL;
	b->dirty = false;
}

void corten_file_refer(struct corten_file *f, s64 n)
{
	if (atomic_fetch_add(&f->users, n) + n)
		return;
	for (u64 i = 0; i < f->nr; i++) {
		drop_page(f, &f->blocks[i]);
		free(f->blocks[i].disk);
	}
	free(f->blocks);
	free(f);
}

/* Lock held. */
static int make_room(struct corten_file *f, u64 pages)
{
	u64 nr = max_of(pages, 2 * f->nr);
	struct corten_block *blocks;

	if (pages <= f->nr)
		return 0;
	blocks = realloc(f->blocks, nr * sizeof(*blocks));
	if (!blocks)
		return -ENOMEM;
	memset(blocks + f->nr, 0, (nr - f->nr) * sizeof(*blocks));
	f->blocks = blocks;
	f->nr = nr;
	return 0;
}

/* ---- the cache; lock held ---- */

static int fill(struct corten_file *f, const struct corten_block *b, struct page *page, bool *major)
{
	void *bytes = corten_bytes(f->memory, page);
	int err = atomic_load(&f->error[RAMFILE_READ]);

	if (!b->disk) {
		memset(bytes, 0, PAGE_SIZE);
		ledger_count(PAID_PAGES_ZEROED);
		return 0;
	}
	if (err)
		return -EIO;
	memcpy(bytes, b->disk, PAGE_SIZE);
	ledger_count(PAID_IO_READS);
	*major = true;
	return 0;
}

static int find_page(struct corten_file *f, unsigned cpu, u64 index, bool *major,
		     struct corten_block **block)
{
	struct corten_block *b = &f->blocks[index];
	struct page *page;
	int err;

	*block = b;
	if (b->page)
		return 0;
	page = corten_frame(f->memory, cpu);
	if (!page)
		return -ENOMEM;
	err = fill(f, b, page, major);
	if (err) {
		page_put(&f->memory->machine->engine, page);
		return err;
	}
	b->page = page;
	b->dirty = f->in_memory;
	return 0;
}

int corten_file_page(struct corten_file *f, unsigned cpu, u64 index, bool dirty, struct page **page,
		     bool *major)
{
	struct corten_block *b;
	int err = -EIO;

	spin_lock(&f->lock);
	if (index < pages_of(f->size))
		err = find_page(f, cpu, index, major, &b);
	if (!err) {
		b->dirty |= dirty;
		*page = b->page;
		page_get(*page);
	}
	spin_unlock(&f->lock);
	return err;
}

/* ---- calls ---- */

/* Within one page.  Lock held. */
static int copy(struct corten_file *f, unsigned cpu, u64 pos, char *to, const char *from, u64 n)
{
	struct corten_block *b;
	bool major;
	int err = find_page(f, cpu, pos >> PAGE_SHIFT, &major, &b);
	char *bytes;

	if (err)
		return err;
	bytes = (char *)corten_bytes(f->memory, b->page) + page_offset(pos);
	if (to) {
		shared_copy(to, bytes, n);
	} else {
		shared_copy(bytes, from, n);
		b->dirty = true;
	}
	return 0;
}

s64 corten_file_read(struct corten_file *f, unsigned cpu, u64 pos, void *bytes, u64 n)
{
	u64 done = 0, part;
	int err = 0;

	spin_lock(&f->lock);
	n = pos < f->size ? min_of(n, f->size - pos) : 0;
	for (; done < n && !err; done += err ? 0 : part) {
		part = min_of(n - done, PAGE_SIZE - page_offset(pos + done));
		err = copy(f, cpu, pos + done, (char *)bytes + done, NULL, part);
	}
	spin_unlock(&f->lock);
	return done ? (s64)done : err;
}

static int clear_part(struct corten_file *f, u64 pos, u64 end);

/* The file is about to end at `size`, or later than now: on a disk what was written behind its end,
 * through a mapping, is zeros then; in memory it stays.  Lock held. */
static int clear_tail(struct corten_file *f, u64 size)
{
	if (f->in_memory || size <= f->size || !page_offset(f->size))
		return 0;
	return clear_part(f, f->size, PAGE_ALIGN(f->size));
}

s64 corten_file_write(struct corten_file *f, unsigned cpu, u64 pos, const void *bytes, u64 n)
{
	u64 done = 0, part;
	int err;

	spin_lock(&f->lock);
	err = make_room(f, pages_of(pos + n));
	if (!err)
		err = clear_tail(f, pos);
	for (; done < n && !err; done += err ? 0 : part) {
		part = min_of(n - done, PAGE_SIZE - page_offset(pos + done));
		err = copy(f, cpu, pos + done, NULL, (const char *)bytes + done, part);
	}
	if (done)
		f->size = max_of(f->size, pos + done);
	spin_unlock(&f->lock);
	return done ? (s64)done : err;
}

/* Zeros for [pos, end), within one page.  Lock held. */
static int clear_part(struct corten_file *f, u64 pos, u64 end)
{
	struct corten_block *b;
	bool major;
	int err;

	if (pos >= end)
		return 0;
	err = find_page(f, f->memory->machine->nr_cpus, pos >> PAGE_SHIFT, &major, &b);
	if (err)
		return err;
	shared_zero((char *)corten_bytes(f->memory, b->page) + page_offset(pos), end - pos);
	b->dirty = true;
	return 0;
}

/* Whole pages, up to where there is room for them.  Lock held. */
static void drop_blocks(struct corten_file *f, u64 start, u64 end)
{
	for (u64 i = start; i < min_of(end, f->nr); i++) {
		drop_page(f, &f->blocks[i]);
		free(f->blocks[i].disk);
		f->blocks[i].disk = NULL;
	}
}

/* (The last page's bytes behind the end are zeros for whoever lets the file grow.) */
int corten_file_truncate(struct corten_file *f, u64 size)
{
	int err;

	spin_lock(&f->lock);
	err = make_room(f, pages_of(size));
	if (!err)
		err = size < f->size ? clear_part(f, size, PAGE_ALIGN(size)) : clear_tail(f, size);
	if (!err) {
		drop_blocks(f, pages_of(size), f->nr);
		f->size = size;
	}
	spin_unlock(&f->lock);
	return err;
}

int corten_file_punch(struct corten_file *f, u64 pos, u64 end)
{
	u64 first = PAGE_ALIGN(pos), last = end & PAGE_MASK;
	int err;

	spin_lock(&f->lock);
	end = min_of(end, PAGE_ALIGN(f->size));
	err = clear_part(f, pos, min_of(first, end));
	if (!err && last >= first)
		err = clear_part(f, last, end);
	if (!err)
		drop_blocks(f, first >> PAGE_SHIFT, last >> PAGE_SHIFT);
	spin_unlock(&f->lock);
	return err;
}

static int write_block(struct corten_file *f, struct corten_block *b)
{
	int err = atomic_load(&f->error[RAMFILE_WRITE]);

	if (err)
		return err;
	if (!b->disk)
		b->disk = malloc(PAGE_SIZE);
	if (!b->disk)
		return -ENOSPC;
	shared_copy(b->disk, corten_bytes(f->memory, b->page), PAGE_SIZE);
	ledger_count(PAID_IO_WRITES);
	b->dirty = page_mapcount(b->page); /* it may be written to on */
	return 0;
}

int corten_file_sync(struct corten_file *f)
{
	int err = 0;

	spin_lock(&f->lock);
	for (u64 i = 0; i < f->nr && !f->in_memory; i++)
		if (f->blocks[i].page && f->blocks[i].dirty) {
			int failed = write_block(f, &f->blocks[i]);

			err = err ? err : failed;
		}
	spin_unlock(&f->lock);
	return err;
}

u64 corten_file_evict(struct corten_file *f)
{
	u64 n = 0;

	spin_lock(&f->lock);
	for (u64 i = 0; i < f->nr; i++) {
		struct corten_block *b = &f->blocks[i];

		/* Who maps it has a reference before the lock goes. */
		if (b->page && !b->dirty && atomic_load(&b->page->refcount) == 1) {
			drop_page(f, b);
			n++;
		}
	}
	spin_unlock(&f->lock);
	return n;
}
