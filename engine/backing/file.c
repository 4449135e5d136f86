/* SPDX-License-Identifier: MIT */
/* Files as they are opened, read, written and cut. */
#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "engine/engine.h"

struct file *file_open(struct address_space *m, u32 mode)
{
	struct engine *e = m->engine;
	struct file *file = e->memory.alloc(e->memory.ctx, sizeof(*file));

	if (!file)
		return NULL;
	mapping_get(m);
	atomic_init(&file->refcount, 1);
	file->mode = mode;
	file->mapping = m;
	atomic_init(&file->wb_seen, atomic_load(&m->wb_err));
	return file;
}

struct file *file_get(struct file *file)
{
	atomic_fetch_add_explicit(&file->refcount, 1, memory_order_relaxed);
	return file;
}

void file_put(struct file *file)
{
	struct address_space *m = file->mapping;
	struct engine *e = m->engine;

	if (atomic_fetch_sub_explicit(&file->refcount, 1, memory_order_acq_rel) != 1)
		return;
	e->memory.free(e->memory.ctx, file, sizeof(*file));
	mapping_put(m);
}

u64 file_size(const struct file *file)
{
	return mapping_size(file->mapping);
}

/* How much of [pos, end) is in pos's page. */
static u64 part(u64 pos, u64 end)
{
	return min_of(end - pos, PAGE_SIZE - (pos & ~PAGE_MASK));
}

static char *byte_at(struct address_space *m, struct page *page, u64 pos)
{
	return (char *)page_direct(m->engine, page) + (pos & ~PAGE_MASK);
}

s64 file_read(struct file *file, u64 pos, void *buf, u64 n)
{
	struct address_space *m = file->mapping;
	u64 start = pos, end, len;
	struct page *page;
	bool major;
	int err = 0;

	if (!(file->mode & FILE_READ))
		return -EBADF;
	if (m->ops->read)
		return m->ops->read(m, pos, buf, n);
	end = min_of(n, mapping_size(m) - min_of(pos, mapping_size(m))) + pos;
	for (; pos < end && !err; pos += len) {
		len = part(pos, end);
		err = m->ops->get_page(m, pos >> PAGE_SHIFT, PAGE_READ, &page, &major);
		if (err == -ENOENT) {
			memset((char *)buf + (pos - start), 0, len);
			err = 0;
			continue;
		}
		if (err)
			break;
		shared_copy((char *)buf + (pos - start), byte_at(m, page, pos), len);
		lru_mark_accessed(m->engine, page);
		page_unlock(page);
		page_put(m->engine, page);
		lru_watch_pages(m->engine);
	}
	if (err == -EFAULT) /* the end came nearer meanwhile */
		err = 0;
	return pos > start ? (s64)(pos - start) : err;
}

static int write_page_part(struct address_space *m, u64 pos, const void *from, u64 len)
{
	struct page *page;
	bool major;
	int err = m->ops->get_page(m, pos >> PAGE_SHIFT,
				   len == PAGE_SIZE ? PAGE_OVERWRITE : PAGE_WRITE, &page, &major);

	if (err)
		return err;
	if (len)
		shared_copy(byte_at(m, page, pos), from, len);
	page_mark_dirty(m, page);
	lru_mark_accessed(m->engine, page);
	/* Before the lock goes: a page behind the end is nobody's. */
	if (pos + len > mapping_size(m))
		atomic_store_explicit(&m->i_size, pos + len, memory_order_release);
	page_unlock(page);
	page_put(m->engine, page);
	lru_watch_pages(m->engine);
	return 0;
}

/* Before anything is written to [pos, pos + len), which lies in one page: may it be, and the file
 * reaches to pos.  i_rwsem held for writing. */
static int prepare_write(struct address_space *m, u64 pos, u64 len)
{
	int err = memfd_check_write(m, pos, len);

	if (!err && pos > mapping_size(m))
		truncate_setsize(m, pos);
	return err;
}

int file_begin_write(struct file *file, u64 pos)
{
	struct address_space *m = file->mapping;
	int err;

	if (!(file->mode & FILE_WRITE))
		return -EBADF;
	if (pos > FILE_MAX_SIZE)
		return -EFBIG;
	if (m->ops->write)
		return (int)m->ops->write(m, pos, NULL, 0);
	down_write(&m->i_rwsem);
	err = prepare_write(m, pos, 1);
	if (!err)
		err = write_page_part(m, pos, NULL, 0);
	up_write(&m->i_rwsem);
	return err;
}

s64 file_write(struct file *file, u64 pos, const void *buf, u64 n)
{
	struct address_space *m = file->mapping;
	u64 start = pos, len;
	int err = 0;

	if (!(file->mode & FILE_WRITE))
		return -EBADF;
	if (n > FILE_MAX_SIZE || pos > FILE_MAX_SIZE - n)
		return -EFBIG;
	if (m->ops->write)
		return m->ops->write(m, pos, buf, n);
	down_write(&m->i_rwsem);
	for (; pos < start + n; pos += len) {
		len = part(pos, start + n);
		err = prepare_write(m, pos, len);
		if (!err)
			err = write_page_part(m, pos, (const char *)buf + (pos - start), len);
		if (err)
			break;
	}
	up_write(&m->i_rwsem);
	balance_dirty_pages(m->engine);
	return pos > start ? (s64)(pos - start) : err;
}

int file_truncate(struct file *file, u64 size)
{
	struct address_space *m = file->mapping;
	int err;

	if (!(file->mode & FILE_WRITE))
		return -EINVAL;
	if (size > FILE_MAX_SIZE)
		return -EFBIG;
	down_write(&m->i_rwsem);
	err = memfd_check_truncate(m, size);
	if (!err && m->ops->set_size)
		err = m->ops->set_size(m, size);
	else if (!err)
		truncate_setsize(m, size);
	up_write(&m->i_rwsem);
	return err;
}

int file_punch_hole(struct file *file, u64 pos, u64 len)
{
	struct address_space *m = file->mapping;
	int err;

	if (!len)
		return -EINVAL;
	if (!(file->mode & FILE_WRITE))
		return -EBADF;
	if (len > FILE_MAX_SIZE || pos > FILE_MAX_SIZE - len)
		return -EFBIG;
	down_write(&m->i_rwsem);
	err = memfd_check_punch(m);
	if (!err)
		err = m->ops->punch_hole ? m->ops->punch_hole(m, pos, pos + len)
					 : truncate_pagecache_range(m, pos, pos + len);
	up_write(&m->i_rwsem);
	return err;
}

int vfs_fsync_range(struct file *file, u64 start, u64 end)
{
	struct address_space *m = file->mapping;
	u32 now, seen;

	if (m->ops->sync)
		m->ops->sync(m, start, end);
	else
		filemap_write_and_wait_range(m, start, end);
	now = atomic_load(&m->wb_err);
	seen = atomic_exchange(&file->wb_seen, now);
	return now == seen ? 0 : -(int)(now & 0xffff);
}
