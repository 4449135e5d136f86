/* SPDX-License-Identifier: MIT */
/*
 * Files of huge pages: no disk behind them, no swap, no write(2).
 *
 * A page enters with its fault lock held and leaves with invalidate_lock held for writing; who has
 * found one under that lock, for reading, keeps it as long.
 */
#include "engine/backing/memfd.h"
#include "engine/base/bytes.h"
#include "engine/hugetlb/internal.h"

static u64 huge_pages(const struct hstate *h, u64 bytes)
{
	return bytes >> huge_page_shift(h);
}

/* ---- pages ---- */

struct page *hugetlb_find_page(struct address_space *m, u64 index)
{
	struct page *page;

	spin_lock(&m->tree_lock);
	page = radix_load(&m->pages, index);
	if (page)
		page_get(page);
	spin_unlock(&m->tree_lock);
	return page;
}

int hugetlb_add_page(struct address_space *m, struct page *page, u64 index)
{
	int err;

	spin_lock(&m->tree_lock);
	err = radix_store(&m->pages, index, page);
	if (!err) {
		huge_page_set_mapping(page, m);
		page->index = index;
		page_set(page, PG_FILE | PG_UPTODATE);
		hugetlb_inode(m)->nr_pages++;
	}
	spin_unlock(&m->tree_lock);
	return err;
}

void hugetlb_delete_page(struct address_space *m, struct page *page)
{
	spin_lock(&m->tree_lock);
	radix_store(&m->pages, page->index, NULL);
	huge_page_set_mapping(page, NULL);
	page_clear(page, PG_FILE | PG_UPTODATE);
	hugetlb_inode(m)->nr_pages--;
	spin_unlock(&m->tree_lock);
}

static struct page *next_page(struct address_space *m, u64 *index, u64 end)
{
	struct page *page;

	spin_lock(&m->tree_lock);
	page = radix_next(&m->pages, index);
	spin_unlock(&m->tree_lock);
	return *index < end ? page : NULL;
}

/* Pages [start, end), mapped nowhere, leave.  `hole`: each with its promise.  Returns how many. */
static u64 remove_pages(struct address_space *m, u64 start, u64 end, bool hole)
{
	struct page *page;
	u64 n = 0;

	for (u64 index = start; (page = next_page(m, &index, end)); index++, n++) {
		hugetlb_delete_page(m, page);
		if (hole)
			hugetlb_unreserve_page(hugetlb_inode(m), page);
		page_put(m->engine, page);
	}
	return n;
}

/* ---- cutting ---- */

/* As file_truncate(); i_rwsem held for writing. */
static int hugetlb_set_size(struct address_space *m, u64 size)
{
	struct hugetlb_inode *inode = hugetlb_inode(m);
	u64 first = huge_pages(inode->h, size);

	if (size & ~huge_page_mask(inode->h))
		return -EINVAL;
	down_write(&m->invalidate_lock);
	atomic_store_explicit(&m->i_size, size, memory_order_release);
	unmap_mapping_range(m, size >> PAGE_SHIFT, ~0ULL, true);
	hugetlb_unreserve_from(inode, first, remove_pages(m, first, ~0ULL, false));
	up_write(&m->invalidate_lock);
	return 0;
}

/* The bytes [from, to), of one page, become zeros. */
static void zero_part(struct address_space *m, u64 from, u64 to)
{
	const struct hstate *h = hugetlb_inode(m)->h;
	struct page *page = from < to ? hugetlb_find_page(m, huge_pages(h, from)) : NULL;

	if (!page)
		return;
	shared_zero((char *)huge_bytes(m->engine, page) + (from & ~huge_page_mask(h)), to - from);
	page_put(m->engine, page);
}

/* As file_punch_hole(); i_rwsem held for writing.  Linux unmaps private copies, too, here. */
static int hugetlb_punch_hole(struct address_space *m, u64 start, u64 end)
{
	const struct hstate *h = hugetlb_inode(m)->h;
	u64 size = huge_page_size(h), first = (start + size - 1) & huge_page_mask(h);
	u64 last = end & huge_page_mask(h);

	down_write(&m->invalidate_lock);
	zero_part(m, start, min_of(first, end));
	if (first < last) {
		unmap_mapping_range(m, first >> PAGE_SHIFT, last >> PAGE_SHIFT, true);
		remove_pages(m, huge_pages(h, first), huge_pages(h, last), true);
	}
	if (last >= first)
		zero_part(m, last, end);
	up_write(&m->invalidate_lock);
	return 0;
}

/* ---- reading ---- */

static s64 hugetlb_read(struct address_space *m, u64 pos, void *buf, u64 n)
{
	const struct hstate *h = hugetlb_inode(m)->h;
	u64 done = 0, size;
	int err = 0;

	down_read(&m->invalidate_lock);
	size = mapping_size(m);
	n = pos < size ? min_of(n, size - pos) : 0;
	while (done < n) {
		u64 at = (pos + done) & ~huge_page_mask(h);
		u64 len = min_of(n - done, huge_page_size(h) - at);
		struct page *page = hugetlb_find_page(m, huge_pages(h, pos + done));

		if (page && unlikely(page_has_broken(m->engine, page))) {
			page_put(m->engine, page);
			err = -EIO;
			break;
		}
		if (!page) {
			memset((char *)buf + done, 0, len);
		} else {
			shared_copy((char *)buf + done, (char *)huge_bytes(m->engine, page) + at,
				    len);
			page_put(m->engine, page);
		}
		done += len;
	}
	up_read(&m->invalidate_lock);
	return done ? (s64)done : err;
}

static s64 hugetlb_write(struct address_space *m, u64 pos, const void *buf, u64 n)
{
	(void)m;
	(void)pos;
	(void)buf;
	(void)n;
	return -EINVAL;
}

/* ---- a file's life ---- */

static void hugetlb_evict(struct address_space *m)
{
	hugetlb_unreserve_from(hugetlb_inode(m), 0, remove_pages(m, 0, ~0ULL, false));
}

static void hugetlb_release(struct address_space *m)
{
	struct hugetlb_inode *inode = hugetlb_inode(m);
	struct engine *e = m->engine;

	resv_map_put(inode->resv);
	e->memory.free(e->memory.ctx, inode, sizeof(*inode));
}

static const struct address_space_ops hugetlbfs_ops = {
	.name = "hugetlbfs",
	.read = hugetlb_read,
	.write = hugetlb_write,
	.set_size = hugetlb_set_size,
	.punch_hole = hugetlb_punch_hole,
	.evict = hugetlb_evict,
	.check = hugetlb_check_file,
	.may_be_sealed = true,
	.release = hugetlb_release,
};

struct file *hugetlb_file_setup(struct hstate *h, u64 size, u32 seals)
{
	struct engine *e = h->engine;
	struct hugetlb_inode *inode = e->memory.alloc(e->memory.ctx, sizeof(*inode));
	struct file *file;

	if (!inode)
		return NULL;
	inode->h = h;
	inode->resv = resv_map_alloc(&e->memory);
	if (!inode->resv || address_space_init(&inode->mapping, e, &hugetlbfs_ops)) {
		if (inode->resv)
			resv_map_put(inode->resv);
		e->memory.free(e->memory.ctx, inode, sizeof(*inode));
		return NULL;
	}
	atomic_init(&inode->mapping.i_size, size);
	atomic_init(&inode->mapping.seals, seals);
	file = file_open(&inode->mapping, FILE_READ | FILE_WRITE);
	mapping_put(&inode->mapping);
	return file;
}

bool mapping_is_hugetlb(const struct address_space *m)
{
	return m->ops == &hugetlbfs_ops;
}

struct hstate *hstate_file(const struct file *file)
{
	const struct address_space *m = file->mapping;

	return m && mapping_is_hugetlb(m) ? hugetlb_inode(m)->h : NULL;
}

struct hstate *hstate_vma(const struct vma *vma)
{
	return hugetlb_inode(vma->file->mapping)->h;
}

/* Let the file reach to `size`. */
static void extend(struct address_space *m, u64 size)
{
	u64 old = mapping_size(m);

	down_read(&m->invalidate_lock); /* it is not being cut */
	while (old < size && !atomic_compare_exchange_weak(&m->i_size, &old, size))
		;
	up_read(&m->invalidate_lock);
}

int hugetlb_file_mmap(struct vma *vma)
{
	const struct hstate *h = hstate_vma(vma);
	u64 pages = 1ULL << h->order, end = vma->pgoff + ((vma->end - vma->start) >> PAGE_SHIFT);
	int err;

	vma->flags |= VM_HUGETLB | VM_DONTEXPAND;
	if (vma->pgoff & (pages - 1))
		return -EINVAL;
	err = hugetlb_reserve_pages(vma, vma->pgoff >> h->order, end >> h->order);
	if (!err && (vma->flags & VM_WRITE))
		extend(vma->file->mapping, end << PAGE_SHIFT);
	return err;
}
