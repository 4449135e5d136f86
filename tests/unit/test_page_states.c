/* SPDX-License-Identifier: MIT */
/*
 * What becomes of a page, by how it is mapped: one row of the table a test.
 *
 * Each column is told by the engine itself: a page is mapped, read, written, forked and evicted,
 * and what is seen on the way is put into the table's words.
 */
#include "engine/backing/page_cache.h"
#include "engine/backing/ramfile.h"
#include "engine/backing/shmem.h"
#include "tests/unit/one_world.h"

struct row {
	const char *mapping; /* private or shared, of a file or anonymous */
	const char *from;    /* where the bytes of the first read come from */
	const char *read;    /* what a read maps */
	const char *write;   /* what a write after it maps */
	const char *rmap;    /* how the written page's entries are found */
	const char *lru;     /* which lists it is on */
	const char *cache;   /* where it is found on its way out, or while nobody maps it */
	const char *to;	     /* where its bytes go */
	const char *backend; /* where they are read from when it is wanted again */
	const char *fork;    /* what a child gets of it */
	bool page_anon;	     /* PageAnon() */
	bool file_cache;     /* page_is_file_cache() */
};

/* clang-format off */
static const struct row rows[] = {
	{ .mapping = "anonymous, private", .from = "zeros",
	  .read = "the zero page, read-only", .write = "a page of its own, writable",
	  .rmap = "anon_vma", .lru = "anon", .cache = "swap cache",
	  .to = "swap area", .backend = "swap area", .fork = "the entry, read-only in both",
	  .page_anon = true, .file_cache = false },
	{ .mapping = "file, private", .from = "disk",
	  .read = "the page cache's page, read-only", .write = "a page of its own, writable",
	  .rmap = "anon_vma", .lru = "anon", .cache = "swap cache",
	  .to = "swap area", .backend = "swap area", .fork = "the entry, read-only in both",
	  .page_anon = true, .file_cache = false },
	{ .mapping = "file, private, never written", .from = "disk",
	  .read = "the page cache's page, read-only", .write = NULL,
	  .rmap = "i_mmap", .lru = "file", .cache = "page cache",
	  .to = "nowhere", .backend = "disk", .fork = "nothing: it faults",
	  .page_anon = false, .file_cache = true },
	{ .mapping = "file, shared", .from = "disk",
	  .read = "the page cache's page, read-only",
	  .write = "the page cache's page, writable",
	  .rmap = "i_mmap", .lru = "file", .cache = "page cache",
	  .to = "disk", .backend = "disk", .fork = "nothing: it faults",
	  .page_anon = false, .file_cache = true },
	{ .mapping = "anonymous, shared", .from = "zeros",
	  .read = "the page cache's page, writable",
	  .write = "the page cache's page, writable",
	  .rmap = "i_mmap", .lru = "anon", .cache = "page cache",
	  .to = "swap area", .backend = "swap area", .fork = "nothing: it faults",
	  .page_anon = false, .file_cache = false },
};
/* clang-format on */

static struct file *file; /* of the row; or NULL */

static bool has(const char *text, const char *word)
{
	return strstr(text, word) != NULL;
}

static u64 disk_reads(void)
{
	return file && !mapping_swaps(file->mapping) ? ramfile_count(file, RAMFILE_READ) : 0;
}

static u64 disk_writes(void)
{
	return file && !mapping_swaps(file->mapping) ? ramfile_count(file, RAMFILE_WRITE) : 0;
}

/* Page 0 is mapped as the row says.  A file on the disk holds fives. */
static void map_row(const struct row *row)
{
	u32 flags = has(row->mapping, "shared") ? VM_SHARED | VM_MAYSHARE : 0;
	u8 bytes[PAGE_SIZE];

	file = NULL;
	if (has(row->mapping, "file")) {
		memset(bytes, 5, sizeof(bytes));
		file = ramfile_create(w.e, FILE_READ | FILE_WRITE, 16);
		assert_int_equal(file_write(file, 0, bytes, PAGE_SIZE), PAGE_SIZE);
		assert_int_equal(vfs_fsync_range(file, 0, PAGE_SIZE), 0);
		assert_int_equal(invalidate_mapping_pages(file->mapping, 0, 1), 1);
	} else if (flags) {
		file = shmem_file_setup(w.e, PAGE_SIZE);
	}
	if (!file)
		map(0, 1, RW);
	else
		assert_int_equal(vm_map_file(mm, AT(0), P(1), RW, VMAP_FIXED, flags, file, 0),
				 AT(0));
}

static pte_t entry(struct mm *in)
{
	spinlock_t *ptl;
	const pte_t *ptep = pte_find(in, AT(0), &ptl);

	return ptep ? pte_read(ptep) : (pte_t){ 0 };
}

static struct page *mapped_page(void)
{
	assert_true(pte_present(entry(mm)));
	return pfn_page(w.e, pte_pfn(entry(mm)));
}

static const char *what_is_mapped(void)
{
	struct page *page = mapped_page();
	bool writable = pte_write(entry(mm));
	struct page *cached = file ? find_get_page(file->mapping, 0) : NULL;
	bool in_cache = cached == page;

	if (cached)
		page_put(w.e, cached);
	if (page_pfn(w.e, page) == w.e->zero_pfn)
		return writable ? "the zero page, writable" : "the zero page, read-only";
	if (in_cache)
		return writable ? "the page cache's page, writable"
				: "the page cache's page, read-only";
	return writable ? "a page of its own, writable" : "a page of its own, read-only";
}

/* Is the one entry found by the family of VMAs that the page names, or by the file's tree? */
static const char *what_finds_the_entries(void)
{
	struct page *page = mapped_page();
	struct vma *vma = find_vma(mm, AT(0));
	struct rmap_walk walk;
	bool found;

	assert_int_equal(page_mapcount(page), 1);
	if (page_test(page, PG_FILE)) {
		struct interval_node *node =
			interval_first(&page->mapping->i_mmap, page->index, page->index + 1);

		assert_ptr_equal(container_of(node, struct vma, shared), vma);
		return "i_mmap";
	}
	page_lock(page);
	found = rmap_begin(w.e, page, &walk) && rmap_next(&walk);
	assert_true(found && walk.vma == vma && walk.va == AT(0));
	rmap_end(&walk);
	page_unlock(page);
	return "anon_vma";
}

static const char *which_lists(void)
{
	struct page *page = mapped_page();
	unsigned list = page_list(page);
	struct page *other;

	assert_true(page_test(page, PG_LRU));
	list_for_each_entry (other, &w.e->lru.nodes[0].lists[list], lru)
		if (other == page)
			return list < LRU_OF_KIND ? "anon" : "file";
	return "none";
}

static const char *what_a_child_gets(void)
{
	const char *gets;
	struct mm *child;

	assert_int_equal(mm_fork(mm, &child), 0);
	if (pte_none(entry(child)))
		gets = "nothing: it faults";
	else if (pte_write(entry(child)) || pte_write(entry(mm)))
		gets = "the entry, writable";
	else
		gets = pte_same(pte_without(entry(child), PTE_ACCESSED | PTE_DIRTY),
				pte_without(entry(mm), PTE_ACCESSED | PTE_DIRTY))
			       ? "the entry, read-only in both"
			       : "another entry";
	mm_destroy(child);
	return gets;
}

/* The page, as it leaves; then its frame is free. */
static const char *what_it_leaves_by(void)
{
	struct page *page = mapped_page();
	struct taken t;
	const char *cache = "none";

	if (page_test(page, PG_FILE)) {
		/* Nobody maps it, and it is found all the same. */
		vm_advise(mm, AT(0), P(1), VADV_DONTNEED);
		assert_true(pte_none(entry(mm)));
		cache = page_cache_present(file->mapping, 0) ? "page cache" : "none";
		flusher_ask(w.e, 1);
		flusher_run(w.e, 0);
		while (page_cache_present(file->mapping, 0))
			assert_true(take_segment(w.e, true, NODE_MASK_ALL, &t));
		return cache;
	}
	while (pte_present(entry(mm)))
		assert_true(take_segment(w.e, true, NODE_MASK_ALL, &t));
	if (pte_is_swap(entry(mm))) {
		struct page *cached = swap_cache_get(&w.e->swap, pte_to_swp(entry(mm)).v);

		cache = cached == page ? "swap cache" : "none";
		if (cached)
			page_put(w.e, cached);
	}
	reclaim_write_out(w.e, 10);
	return cache;
}

static void row_is_so(void **state)
{
	const struct row *row = *state;
	u64 saves, reads, writes, loads;
	const char *to = "nowhere", *backend = "nowhere";
	struct page *page;

	start((struct world_options){ .segment = 1 });
	map_row(row);
	reads = disk_reads();
	assert_string_equal(get(0) == 5 && disk_reads() > reads ? "disk" : "zeros", row->from);
	assert_string_equal(what_is_mapped(), row->read);
	if (row->write) {
		put(0, 7);
		assert_string_equal(what_is_mapped(), row->write);
	}
	page = mapped_page();
	assert_int_equal(!page_test(page, PG_FILE), row->page_anon);
	assert_int_equal(page_kind(page) == KIND_FILE, row->file_cache);
	assert_string_equal(what_finds_the_entries(), row->rmap);
	assert_string_equal(which_lists(), row->lru);
	assert_string_equal(what_a_child_gets(), row->fork);

	saves = flaky.saves;
	writes = disk_writes();
	assert_string_equal(what_it_leaves_by(), row->cache);
	if (flaky.saves > saves)
		to = "swap area";
	if (disk_writes() > writes)
		to = flaky.saves > saves ? "both" : "disk";
	assert_string_equal(to, row->to);

	loads = flaky.loads;
	reads = disk_reads();
	assert_int_equal(get(0), row->write ? 7 : 5);
	if (flaky.loads > loads)
		backend = "swap area";
	if (disk_reads() > reads)
		backend = flaky.loads > loads ? "both" : "disk";
	assert_string_equal(backend, row->backend);
	if (file)
		file_put(file);
}

int main(void)
{
	enum { ROWS = sizeof(rows) / sizeof(*rows) };
	struct CMUnitTest tests[ROWS];

	for (unsigned i = 0; i < ROWS; i++)
		tests[i] = (struct CMUnitTest){ .name = rows[i].mapping,
						.test_func = row_is_so,
						.teardown_func = teardown,
						.initial_state = (void *)&rows[i] };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
