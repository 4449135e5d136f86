/* SPDX-License-Identifier: MIT */
/*
 * The disk of a file is a radix tree of blocks.  A block is there from the first write to it, or
 * from the moment that a page may be written through a shared mapping (page_mkwrite), so that
 * writing that page out cannot run out of room.
 *
 * The bytes of a block behind the file's end are zeros: written so, and made so when it shrinks.
 */
#include "engine/backing/ramfile.h"

#include "engine/backing/page_cache.h"
#include "engine/base/errno.h"
#include "engine/engine.h"
#include "engine/observe.h"

struct ramfile {
	struct address_space mapping;
	spinlock_t lock; /* guards all below; no other is taken under it */
	struct radix_tree blocks;
	u64 nr_blocks, room;
	struct order {
		u64 first, n;
		int err;
	} orders[NR_RAMFILE_IO];
	u64 done[NR_RAMFILE_IO]; /* pages */
};

static struct ramfile *ramfile_of(struct address_space *m)
{
	return container_of(m, struct ramfile, mapping);
}

static int ordered(struct ramfile *f, enum ramfile_io io, u64 index)
{
	const struct order *o = &f->orders[io];

	return index - o->first < o->n ? o->err : 0;
}

static int ram_read_page(struct address_space *m, struct page *page)
{
	struct ramfile *f = ramfile_of(m);
	void *bytes = page_direct(m->engine, page), *block;
	int err;

	spin_lock(&f->lock);
	err = ordered(f, RAMFILE_READ, page->index);
	block = radix_load(&f->blocks, page->index);
	if (!err && block)
		memcpy(bytes, block, PAGE_SIZE);
	else if (!err)
		memset(bytes, 0, PAGE_SIZE);
	f->done[RAMFILE_READ]++;
	spin_unlock(&f->lock);
	/* A hole is on no disk. */
	if (!err)
		observe(m->engine, block ? STEP_FILE_READ : STEP_ZERO, 0, 1);
	return err;
}

/* The block at index, made if need be: NULL, and *err. */
static void *make_block(struct ramfile *f, u64 index, int *err)
{
	const struct engine_memory *memory = &f->mapping.engine->memory;
	void *block = radix_load(&f->blocks, index);

	if (block)
		return block;
	*err = -ENOSPC;
	if (f->nr_blocks >= f->room)
		return NULL;
	*err = -ENOMEM;
	block = memory->alloc(memory->ctx, PAGE_SIZE);
	if (!block)
		return NULL;
	if (radix_store(&f->blocks, index, block)) {
		memory->free(memory->ctx, block, PAGE_SIZE);
		return NULL;
	}
	f->nr_blocks++;
	return block;
}

static int ram_write_page(struct address_space *m, struct page *page)
{
	struct ramfile *f = ramfile_of(m);
	u64 size = mapping_size(m), start = page->index << PAGE_SHIFT;
	u64 len = start < size ? min_of(size - start, PAGE_SIZE) : 0;
	char *block;
	int err;

	spin_lock(&f->lock);
	err = ordered(f, RAMFILE_WRITE, page->index);
	if (!err) {
		block = make_block(f, page->index, &err);
		if (block) {
			memcpy(block, page_direct(m->engine, page), len);
			memset(block + len, 0, PAGE_SIZE - len);
			f->done[RAMFILE_WRITE]++;
			err = 0;
		}
	}
	spin_unlock(&f->lock);
	if (!err)
		observe(m->engine, STEP_FILE_WRITTEN, 0, 1);
	/* Out of memory is out of room to whoever waits for the bytes to be safe. */
	return err == -ENOMEM ? -ENOSPC : err;
}

static int ram_page_mkwrite(struct address_space *m, struct page *page)
{
	struct ramfile *f = ramfile_of(m);
	int err = 0;

	spin_lock(&f->lock);
	if (make_block(f, page->index, &err))
		err = 0;
	spin_unlock(&f->lock);
	return err;
}

static void drop_block(struct ramfile *f, u64 index, void *block)
{
	const struct engine_memory *memory = &f->mapping.engine->memory;

	radix_store(&f->blocks, index, NULL);
	memory->free(memory->ctx, block, PAGE_SIZE);
	f->nr_blocks--;
}

static void ram_discard(struct address_space *m, u64 start, u64 end)
{
	struct ramfile *f = ramfile_of(m);
	u64 index = start >> PAGE_SHIFT;
	char *block;

	spin_lock(&f->lock);
	for (; (block = radix_next(&f->blocks, &index)) && index << PAGE_SHIFT < end; index++) {
		u64 at = index << PAGE_SHIFT;
		u64 from = max_of(at, start), to = min_of(at + PAGE_SIZE, end);

		if (to - from == PAGE_SIZE)
			drop_block(f, index, block);
		else
			memset(block + (from - at), 0, to - from);
	}
	spin_unlock(&f->lock);
}

static void ram_release(struct address_space *m)
{
	struct ramfile *f = ramfile_of(m);

	ram_discard(m, 0, ~0ULL);
	m->engine->memory.free(m->engine->memory.ctx, f, sizeof(*f));
}

static const struct address_space_ops ramfile_ops = {
	.name = "ramfile",
	.get_page = filemap_get_page,
	.read_page = ram_read_page,
	.write_page = ram_write_page,
	.page_mkwrite = ram_page_mkwrite,
	.discard = ram_discard,
	.zeroes_tail = true,
	.release = ram_release,
};

struct file *ramfile_create(struct engine *e, u32 mode, u64 room)
{
	struct ramfile *f = e->memory.alloc(e->memory.ctx, sizeof(*f));
	struct file *file;

	if (!f)
		return NULL;
	spin_init(&f->lock);
	radix_init(&f->blocks, &e->memory);
	f->room = room;
	if (address_space_init(&f->mapping, e, &ramfile_ops)) {
		e->memory.free(e->memory.ctx, f, sizeof(*f));
		return NULL;
	}
	file = file_open(&f->mapping, mode);
	mapping_put(&f->mapping);
	return file;
}

void ramfile_fail(struct file *file, enum ramfile_io io, u64 first, u64 n, int err)
{
	struct ramfile *f = ramfile_of(file->mapping);

	spin_lock(&f->lock);
	f->orders[io] = (struct order){ first, n, err };
	spin_unlock(&f->lock);
}

u64 ramfile_count(const struct file *file, enum ramfile_io io)
{
	struct ramfile *f = ramfile_of(file->mapping);
	u64 n;

	spin_lock(&f->lock);
	n = f->done[io];
	spin_unlock(&f->lock);
	return n;
}

u64 ramfile_blocks(const struct file *file)
{
	struct ramfile *f = ramfile_of(file->mapping);
	u64 n;

	spin_lock(&f->lock);
	n = f->nr_blocks;
	spin_unlock(&f->lock);
	return n;
}
