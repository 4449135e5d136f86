/* SPDX-License-Identifier: MIT */
/*
 * Devices and files for direct mapping; see dax.h.
 *
 * file->blocks has a value for each block: its pfn << 2, BLOCK_LASTING if the map that lasts has
 * it, too; marked: it may have been written to since it was last write-protected, and where it is
 * the first of a run, the run.  A lasting block that the file loses goes to `lost`: it is not given
 * to others before the map without it lasts.
 *
 * Where a block comes from: beside those that its 2 MiB of the file have already; the first of them
 * begins a run that is all free.  Without such a place it fills runs that are in use.
 */
#include "engine/backing/dax.h"

#include "engine/base/bytes.h"
#include "engine/base/errno.h"
#include "engine/base/text.h"
#include "engine/engine.h"
#include "engine/space/huge.h"
#include "engine/space/internal.h"

struct dax_device {
	struct engine *engine;
	struct page *frames; /* the first of nr */
	u64 nr, nr_free;
	spinlock_t lock; /* nr_free, used, run_used */
	bool *used;
	u16 *run_used; /* of each run, how many blocks are in use */
};

struct dax_file {
	struct address_space mapping;
	struct dax_device *device;
	spinlock_t entry_lock; /* see dax_lock_entries() */
	spinlock_t lock;       /* all below */
	struct radix_tree blocks, lost;
	u64 lasting_size;
	bool metadata_dirty;
};

#define BLOCK_LASTING 1ULL

static struct dax_file *dax_file(struct address_space *m)
{
	return container_of(m, struct dax_file, mapping);
}

static void *take_memory(struct engine *e, u64 bytes)
{
	return e->memory.alloc(e->memory.ctx, bytes);
}

static void give_memory(struct engine *e, void *p, u64 bytes)
{
	if (p)
		e->memory.free(e->memory.ctx, p, bytes);
}

/* ---- the device ---- */

/* Places on the device that a run could lie at; a device that is smaller has part of one. */
static u64 nr_runs(const struct dax_device *d)
{
	return (d->nr + HUGE_PAGES - 1) / HUGE_PAGES;
}

static void free_device(struct dax_device *d)
{
	give_memory(d->engine, d->used, d->nr * sizeof(*d->used));
	give_memory(d->engine, d->run_used, nr_runs(d) * sizeof(*d->run_used));
	give_memory(d->engine, d, sizeof(*d));
}

struct dax_device *dax_device_create(struct engine *e, unsigned order)
{
	struct dax_device *d = take_memory(e, sizeof(*d));

	if (!d)
		return NULL;
	d->engine = e;
	d->nr = d->nr_free = 1ULL << order;
	spin_init(&d->lock);
	d->used = take_memory(e, d->nr * sizeof(*d->used));
	d->run_used = take_memory(e, nr_runs(d) * sizeof(*d->run_used));
	if (d->used && d->run_used && e->zones[ZONE_USER].direct_map)
		d->frames = page_alloc_contig(e, ZONE_USER, order);
	if (d->frames) {
		atomic_fetch_add(&e->nr_device_pages, d->nr);
		return d;
	}
	free_device(d);
	return NULL;
}

void dax_device_destroy(struct dax_device *d)
{
	struct engine *e = d->engine;

	if (d->nr_free != d->nr)
		vmf_panic("dax: a device is destroyed that has files");
	atomic_fetch_sub(&e->nr_device_pages, d->nr);
	page_put(e, d->frames);
	free_device(d);
}

u64 dax_device_free(struct dax_device *d)
{
	u64 n;

	spin_lock(&d->lock);
	n = d->nr_free;
	spin_unlock(&d->lock);
	return n;
}

/* The first block of a run that is all free, or d->nr.  d->lock held. */
static u64 free_run(const struct dax_device *d)
{
	for (u64 i = 0; i + HUGE_PAGES <= d->nr; i += HUGE_PAGES)
		if (!d->run_used[i / HUGE_PAGES])
			return i;
	return d->nr;
}

/* The first free block, where others of its run are in use already if there is such; or d->nr.
 * d->lock held. */
static u64 free_block(const struct dax_device *d)
{
	u64 any = d->nr;

	for (u64 i = 0; i < d->nr; i++) {
		if (d->used[i])
			continue;
		if (d->run_used[i / HUGE_PAGES])
			return i;
		any = min_of(any, i);
	}
	return any;
}

/* d->lock held. */
static void mark_used(struct dax_device *d, u64 i, bool used)
{
	d->used[i] = used;
	d->run_used[i / HUGE_PAGES] += used ? 1 : -1;
	d->nr_free += used ? -1 : 1;
}

/* One block, at goal (a pfn) if it is free; goal NO_PFN: the n-th of a run that is free; or any. */
static u64 take_block(struct dax_device *d, u64 goal, u64 n)
{
	u64 first = page_pfn(d->engine, d->frames), i;

	spin_lock(&d->lock);
	i = goal == NO_PFN ? free_run(d) + n : goal - first;
	if (i >= d->nr || d->used[i])
		i = free_block(d);
	if (i < d->nr)
		mark_used(d, i, true);
	spin_unlock(&d->lock);
	return i < d->nr ? first + i : NO_PFN;
}

/* A whole run: its first block's pfn, or NO_PFN. */
static u64 take_run(struct dax_device *d)
{
	u64 i;

	spin_lock(&d->lock);
	i = free_run(d);
	for (u64 n = 0; n < HUGE_PAGES && i < d->nr; n++)
		mark_used(d, i + n, true);
	spin_unlock(&d->lock);
	return i < d->nr ? page_pfn(d->engine, d->frames) + i : NO_PFN;
}

static void give_blocks(struct dax_device *d, u64 pfn, u64 n)
{
	u64 i = pfn - page_pfn(d->engine, d->frames);

	spin_lock(&d->lock);
	while (n--)
		mark_used(d, i + n, false);
	spin_unlock(&d->lock);
}

static void give_block(struct dax_device *d, u64 pfn)
{
	give_blocks(d, pfn, 1);
}

/* ---- the map; file->lock held ---- */

static u64 block_pfn(const void *item)
{
	return radix_to_value(item) >> 2;
}

static bool is_lasting(const void *item)
{
	return radix_to_value(item) & BLOCK_LASTING;
}

static void *block_item(u64 pfn, bool lasting)
{
	return radix_value(pfn << 2 | (lasting ? BLOCK_LASTING : 0));
}

static char *block_bytes(const struct dax_file *f, u64 pfn)
{
	return page_direct(f->mapping.engine, pfn_page(f->mapping.engine, pfn));
}

/* The file loses the block at index. */
static void drop_block(struct dax_file *f, u64 index, void *item)
{
	radix_store(&f->blocks, index, NULL);
	f->metadata_dirty = true;
	/* Without memory to remember it it is given back at once: a crash would find it changed. */
	if (!is_lasting(item) || radix_load(&f->lost, index) || radix_store(&f->lost, index, item))
		give_block(f->device, block_pfn(item));
}

/* Where the block at index would lie beside those that its 2 MiB have; NO_PFN: they have none. */
static u64 goal_of(const struct dax_file *f, u64 index)
{
	u64 start = index - index % HUGE_PAGES, i = start;
	const void *item = radix_next(&f->blocks, &i);

	return item && i < start + HUGE_PAGES ? block_pfn(item) + index - i : NO_PFN;
}

static int make_block(struct dax_file *f, u64 index, u64 *pfn)
{
	int err;

	*pfn = take_block(f->device, goal_of(f, index), index % HUGE_PAGES);
	if (*pfn == NO_PFN)
		return -ENOSPC;
	err = radix_store(&f->blocks, index, block_item(*pfn, false));
	if (err) {
		give_block(f->device, *pfn);
		return err;
	}
	shared_zero(block_bytes(f, *pfn), PAGE_SIZE);
	f->metadata_dirty = true;
	return 0;
}

/* As dax_get_range(), without making. */
static enum dax_range look_at_range(const struct dax_file *f, u64 index, u64 *pfn)
{
	u64 i = index;
	const void *item = radix_next(&f->blocks, &i);

	if (!item || i >= index + HUGE_PAGES)
		return DAX_HOLE;
	*pfn = block_pfn(item);
	if (i != index || *pfn % HUGE_PAGES)
		return DAX_MIXED;
	for (u64 n = 1; n < HUGE_PAGES; n++) {
		item = radix_load(&f->blocks, index + n);
		if (!item || block_pfn(item) != *pfn + n)
			return DAX_MIXED;
	}
	return DAX_RUN;
}

/* Where there is a hole.  0, -ENOSPC, -ENOMEM. */
static int make_run(struct dax_file *f, u64 index, u64 *pfn)
{
	u64 n;

	*pfn = take_run(f->device);
	if (*pfn == NO_PFN)
		return -ENOSPC;
	for (n = 0; n < HUGE_PAGES; n++)
		if (radix_store(&f->blocks, index + n, block_item(*pfn + n, false)))
			break;
	if (n < HUGE_PAGES) {
		while (n--)
			radix_store(&f->blocks, index + n, NULL);
		give_blocks(f->device, *pfn, HUGE_PAGES);
		return -ENOMEM;
	}
	for (n = 0; n < HUGE_PAGES; n++)
		shared_zero(block_bytes(f, *pfn + n), PAGE_SIZE);
	f->metadata_dirty = true;
	return 0;
}

enum dax_range dax_get_range(struct address_space *m, u64 index, bool make, u64 *pfn, bool *made)
{
	struct dax_file *f = dax_file(m);
	enum dax_range range;

	*pfn = NO_PFN;
	spin_lock(&f->lock);
	range = look_at_range(f, index, pfn);
	*made = range == DAX_HOLE && make && !make_run(f, index, pfn);
	spin_unlock(&f->lock);
	return *made ? DAX_RUN : range;
}

int dax_get_block(struct address_space *m, u64 index, bool make, u64 *pfn, bool *made)
{
	struct dax_file *f = dax_file(m);
	void *item;
	int err = 0;

	*made = false;
	*pfn = NO_PFN;
	spin_lock(&f->lock);
	item = radix_load(&f->blocks, index);
	if (item) {
		*pfn = block_pfn(item);
	} else if (make) {
		err = make_block(f, index, pfn);
		*made = !err;
	}
	spin_unlock(&f->lock);
	return err;
}

void dax_lock_entries(struct address_space *m)
{
	spin_lock(&dax_file(m)->entry_lock);
}

void dax_unlock_entries(struct address_space *m)
{
	spin_unlock(&dax_file(m)->entry_lock);
}

void dax_mark_dirty(struct address_space *m, u64 index)
{
	struct dax_file *f = dax_file(m);

	spin_lock(&f->lock);
	if (radix_load(&f->blocks, index))
		radix_set_mark(&f->blocks, index, true);
	spin_unlock(&f->lock);
}

bool dax_is_marked(struct address_space *m, u64 index)
{
	struct dax_file *f = dax_file(m);
	bool marked;

	spin_lock(&f->lock);
	marked = radix_load(&f->blocks, index) && radix_marked(&f->blocks, index);
	spin_unlock(&f->lock);
	return marked;
}

bool dax_metadata_dirty(struct address_space *m)
{
	struct dax_file *f = dax_file(m);
	bool dirty;

	spin_lock(&f->lock);
	dirty = f->metadata_dirty;
	spin_unlock(&f->lock);
	return dirty;
}

/* ---- syncing ---- */

/* The entry that maps the frame at va, if it does. */
static void write_protect_entry(struct mm *mm, u64 va, u64 pfn)
{
	struct mmu_ops const *mmu = mm->engine->mmu;
	spinlock_t *ptl;
	pte_t *ptep = pte_find(mm, va, &ptl), pte;

	if (!ptep)
		return;
	spin_lock(ptl);
	pte = pte_read(ptep);
	if (pte_mapped(pte) && pte_write(pte) && pte_pfn(pte) == pfn) {
		mmu->clean(mm, va, ptep);
		mmu->flush(mm, va, va + PAGE_SIZE);
	}
	spin_unlock(ptl);
}

/* The same of the huge entry that begins at va.  False: there is none. */
static bool write_protect_huge(struct mm *mm, u64 va, u64 pfn)
{
	struct mmu_ops const *mmu = mm->engine->mmu;
	spinlock_t *ptl;
	pte_t *pmdp = va & ~PMD_MASK ? NULL : pmd_find(mm, va, &ptl), pmd;

	if (!pmdp || !pte_huge(pte_read(pmdp)) || !pmd_trylock_huge(pmdp, ptl))
		return false;
	pmd = pte_read(pmdp);
	if (pte_write(pmd) && pte_pfn(pmd) == pfn) {
		mmu->change_huge(mm, va, pmdp, pte_without(pmd, PTE_WRITE));
		mmu->flush(mm, va, va + PMD_SIZE);
	}
	spin_unlock(ptl);
	return true;
}

/* Nobody writes to the block at index, nor to what a huge entry maps that begins with it, without a
 * fault any more.  Entries' lock held. */
static void write_protect(struct address_space *m, u64 index, u64 pfn)
{
	struct interval_node *node;

	down_read(&m->i_mmap_lock);
	for (node = interval_first(&m->i_mmap, index, index + 1); node;
	     node = interval_next(node, index, index + 1)) {
		struct vma *vma = container_of(node, struct vma, shared);
		u64 va = vma->start + ((index - vma->pgoff) << PAGE_SHIFT);

		if (!write_protect_huge(vma->mm, va, pfn))
			write_protect_entry(vma->mm, va, pfn);
	}
	up_read(&m->i_mmap_lock);
}

/* The map lasts as it is now. */
static void sync_metadata(struct dax_file *f)
{
	void *item;

	spin_lock(&f->lock);
	for (u64 i = 0; (item = radix_next(&f->lost, &i)); i++) {
		radix_store(&f->lost, i, NULL);
		give_block(f->device, block_pfn(item));
	}
	for (u64 i = 0; (item = radix_next(&f->blocks, &i)); i++) {
		bool marked = radix_marked(&f->blocks, i);

		radix_store(&f->blocks, i, block_item(block_pfn(item), true));
		radix_set_mark(&f->blocks, i, marked);
	}
	f->lasting_size = mapping_size(&f->mapping);
	f->metadata_dirty = false;
	spin_unlock(&f->lock);
}

void dax_sync(struct address_space *m, u64 start, u64 end)
{
	struct dax_file *f = dax_file(m);
	u64 index = start - start % HUGE_PAGES; /* the mark of a run that start lies in */
	void *item;

	do {
		bool due;

		/* A fault that has marked it has written its entry, too, or does all after this. */
		dax_lock_entries(m);
		spin_lock(&f->lock);
		item = radix_next_marked(&f->blocks, &index);
		due = item && index < end && (index >= start || index % HUGE_PAGES == 0);
		if (due)
			radix_set_mark(&f->blocks, index, false);
		spin_unlock(&f->lock);
		if (due)
			write_protect(m, index, block_pfn(item));
		dax_unlock_entries(m);
		index++;
	} while (item && index < end);
	sync_metadata(f);
}

void dax_crash(struct address_space *m)
{
	struct dax_file *f = dax_file(m);
	void *item;

	spin_lock(&f->lock);
	for (u64 i = 0; (item = radix_next(&f->blocks, &i)); i++) {
		if (is_lasting(item))
			continue;
		radix_store(&f->blocks, i, NULL);
		give_block(f->device, block_pfn(item));
	}
	for (u64 i = 0; (item = radix_next(&f->lost, &i)); i++) {
		radix_store(&f->lost, i, NULL);
		radix_store(&f->blocks, i, item);
	}
	atomic_store(&m->i_size, f->lasting_size);
	f->metadata_dirty = false;
	spin_unlock(&f->lock);
}

static void dax_op_sync(struct address_space *m, u64 start, u64 end)
{
	dax_sync(m, start >> PAGE_SHIFT,
		 end > FILE_MAX_SIZE ? ~0ULL : (end + PAGE_SIZE - 1) >> PAGE_SHIFT);
}

/* ---- calls ---- */

/* The bytes [from, to) of one block become zeros, if there is one. */
static void zero_part(struct dax_file *f, u64 from, u64 to)
{
	void *item;

	spin_lock(&f->lock);
	item = from < to ? radix_load(&f->blocks, from >> PAGE_SHIFT) : NULL;
	if (item)
		shared_zero(block_bytes(f, block_pfn(item)) + (from & ~PAGE_MASK), to - from);
	spin_unlock(&f->lock);
}

static void drop_blocks(struct dax_file *f, u64 start, u64 end)
{
	void *item;

	spin_lock(&f->lock);
	for (u64 i = start; (item = radix_next(&f->blocks, &i)) && i < end; i++)
		drop_block(f, i, item);
	spin_unlock(&f->lock);
}

static int dax_set_size(struct address_space *m, u64 size)
{
	struct dax_file *f = dax_file(m);
	u64 first = PAGE_ALIGN(size) >> PAGE_SHIFT;

	down_write(&m->invalidate_lock);
	atomic_store_explicit(&m->i_size, size, memory_order_release);
	unmap_mapping_range(m, first, ~0ULL, true);
	drop_blocks(f, first, ~0ULL);
	zero_part(f, size, PAGE_ALIGN(size));
	spin_lock(&f->lock);
	f->metadata_dirty = true;
	spin_unlock(&f->lock);
	up_write(&m->invalidate_lock);
	return 0;
}

static int dax_punch_hole(struct address_space *m, u64 start, u64 end)
{
	struct dax_file *f = dax_file(m);
	u64 first = PAGE_ALIGN(start) >> PAGE_SHIFT, last = end >> PAGE_SHIFT;

	down_write(&m->invalidate_lock);
	if (first < last) {
		unmap_mapping_range(m, first, last, false);
		drop_blocks(f, first, last);
	}
	zero_part(f, start, min_of(PAGE_ALIGN(start), end));
	if (last >= first)
		zero_part(f, max_of(end & PAGE_MASK, start), end);
	up_write(&m->invalidate_lock);
	return 0;
}

/* How much of [pos, end) is in pos's page. */
static u64 part(u64 pos, u64 end)
{
	return min_of(end - pos, PAGE_SIZE - (pos & ~PAGE_MASK));
}

static s64 dax_read(struct address_space *m, u64 pos, void *buf, u64 n)
{
	u64 done = 0, size, pfn;
	bool made;

	down_read(&m->invalidate_lock);
	size = mapping_size(m);
	n = pos < size ? min_of(n, size - pos) : 0;
	while (done < n) {
		u64 len = part(pos + done, pos + n);

		dax_get_block(m, (pos + done) >> PAGE_SHIFT, false, &pfn, &made);
		if (pfn == NO_PFN)
			memset((char *)buf + done, 0, len);
		else
			shared_copy((char *)buf + done,
				    block_bytes(dax_file(m), pfn) + ((pos + done) & ~PAGE_MASK),
				    len);
		done += len;
	}
	up_read(&m->invalidate_lock);
	return (s64)done;
}

static s64 dax_write(struct address_space *m, u64 pos, const void *buf, u64 n)
{
	u64 done = 0, pfn;
	bool made;
	int err = 0;

	down_write(&m->i_rwsem);
	down_read(&m->invalidate_lock);
	while (done < n && !err) {
		u64 index = (pos + done) >> PAGE_SHIFT, len = part(pos + done, pos + n);

		dax_lock_entries(m);
		err = dax_get_block(m, index, true, &pfn, &made);
		if (made) /* who sees the hole is to see this */
			unmap_mapping_range(m, index, index + 1, false);
		dax_unlock_entries(m);
		if (err)
			break;
		shared_copy(block_bytes(dax_file(m), pfn) + ((pos + done) & ~PAGE_MASK),
			    (const char *)buf + done, len);
		done += len;
		if (pos + done > mapping_size(m))
			atomic_store_explicit(&m->i_size, pos + done, memory_order_release);
	}
	up_read(&m->invalidate_lock);
	up_write(&m->i_rwsem);
	return done ? (s64)done : err;
}

/* ---- a file's life ---- */

static void dax_evict(struct address_space *m)
{
	drop_blocks(dax_file(m), 0, ~0ULL);
	sync_metadata(dax_file(m));
}

static void dax_release(struct address_space *m)
{
	struct dax_file *f = dax_file(m);

	radix_destroy(&f->blocks);
	radix_destroy(&f->lost);
	give_memory(m->engine, f, sizeof(*f));
}

static void dax_check(struct address_space *m)
{
	struct dax_file *f = dax_file(m);
	void *item;

	for (u64 i = 0; (item = radix_next(&f->blocks, &i)); i++) {
		u64 n = block_pfn(item) - page_pfn(m->engine, f->device->frames);

		if (i >= mapping_size_pages(m) || n >= f->device->nr || !f->device->used[n])
			vmf_panic("dax_check: block %lu of a file is not its own",
				  (unsigned long)i);
	}
}

static const struct address_space_ops dax_ops = {
	.name = "dax",
	.read = dax_read,
	.write = dax_write,
	.set_size = dax_set_size,
	.punch_hole = dax_punch_hole,
	.sync = dax_op_sync,
	.evict = dax_evict,
	.check = dax_check,
	.may_map_sync = true,
	.release = dax_release,
};

bool mapping_is_dax(const struct address_space *m)
{
	return m->ops == &dax_ops;
}

struct file *dax_file_create(struct dax_device *d)
{
	struct engine *e = d->engine;
	struct dax_file *f = take_memory(e, sizeof(*f));
	struct file *file;

	if (!f)
		return NULL;
	f->device = d;
	spin_init(&f->entry_lock);
	spin_init(&f->lock);
	radix_init(&f->blocks, &e->memory);
	radix_init(&f->lost, &e->memory);
	if (address_space_init(&f->mapping, e, &dax_ops)) {
		give_memory(e, f, sizeof(*f));
		return NULL;
	}
	file = file_open(&f->mapping, FILE_READ | FILE_WRITE);
	mapping_put(&f->mapping);
	return file;
}
