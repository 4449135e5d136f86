/* SPDX-License-Identifier: MIT */
/*
 * Shared memory.
 *
 * An index of the file holds nothing (zeros that nobody has touched), a page, or the number of the
 * swap slot that has its bytes, with the slot's one reference.  The way out (swap_page, called by
 * reclaim) is in one step under the page lock; there is no page in the swap cache on the way, for
 * the file itself is where a page is looked for.
 *
 * A page that is not dirty is one of zeros that nobody has written to: it just goes.
 *
 * On the way in, the slot is pinned under tree_lock, where its reference is; so it has its bytes
 * until we unpin it, whoever else brings the page in meanwhile.  The first to put a page in the
 * slot's place wins.
 */
#include "engine/backing/shmem.h"

#include "engine/backing/memfd.h"
#include "engine/backing/page_cache.h"
#include "engine/backing/shared_policy.h"
#include "engine/base/errno.h"
#include "engine/observe.h"
#include "engine/reclaim/internal.h"

struct shmem {
	struct address_space mapping;
	struct shared_policy policy;
};

static struct shmem *shmem_of(struct address_space *m)
{
	return container_of(m, struct shmem, mapping);
}

struct shared_policy *shmem_policy(struct address_space *m)
{
	return &shmem_of(m)->policy;
}

/* A locked page enters, or (somebody was first) goes.  `shadow`: what was remembered of it. */
static int enter(struct address_space *m, struct page *page, u64 index, void *instead, u64 shadow)
{
	u64 none;
	int err = page_cache_add(m, page, index, instead, &none);

	if (err) {
		page_unlock(page);
		page_put(m->engine, page);
		return err;
	}
	page_set(page, PG_UPTODATE);
	workingset_refault(m->engine, page, shadow);
	lru_add(m->engine, page);
	return 0;
}

/* By the object's policy or else the task's, which goes by the index, too, as in Linux. */
static struct page *alloc_page(struct address_space *m, u64 index)
{
	struct engine *e = m->engine;
	struct mempolicy policy;

	if (likely(e->numa.nr == 1))
		return page_alloc(e, ZONE_USER, 0, 0);
	policy = shared_policy_lookup(shmem_policy(m), index);
	if (policy.mode == UAPI_MPOL_DEFAULT)
		policy = task_policy(e);
	return policy_alloc_page(e, &policy, index, 0, 0);
}

static struct page *new_page(struct address_space *m, u64 index)
{
	struct page *page = alloc_page(m, index);

	if (!page)
		return NULL;
	observe(m->engine, STEP_ALLOC_FRAMES, 0, 1);
	page_lock(page);
	return page;
}

static int add_zeroes(struct address_space *m, u64 index, struct page **page)
{
	*page = new_page(m, index);
	if (!*page)
		return -ENOMEM;
	memset(page_direct(m->engine, *page), 0, PAGE_SIZE);
	observe(m->engine, STEP_ZERO, 0, 1);
	return enter(m, *page, index, NULL, 0);
}

/* The page whose slot is pinned, from the store. */
static int swap_in(struct address_space *m, u64 index, u64 slot, struct page **page)
{
	struct engine *e = m->engine;
	int err;

	*page = new_page(m, index);
	if (!*page)
		return -ENOMEM;
	if (swap_load(&e->swap, slot, page_direct(e, *page))) {
		page_unlock(*page);
		page_put(e, *page);
		stat_add(&e->stats->store_errors, 1);
		return -EIO;
	}
	err = enter(m, *page, index, radix_value(slot), swap_shadow(&e->swap, slot));
	if (err)
		return err;
	page_mark_dirty(m, *page); /* nothing else has the bytes any more */
	swap_put(&e->swap, slot);  /* the file's */
	return 0;
}

/* The page at index in the cache, with a reference; otherwise *item is what is there, and a slot is
 * pinned. */
static struct page *look_up(struct address_space *m, u64 index, void **item)
{
	struct page *page = NULL, *cached;

	spin_lock(&m->tree_lock);
	*item = radix_load(&m->pages, index);
	if (*item && !radix_is_value(*item)) {
		page = *item;
		page_get(page);
	} else if (*item) {
		u64 slot = radix_to_value(*item);

		swap_pin(&m->engine->swap, &slot, 1, &cached);
	}
	spin_unlock(&m->tree_lock);
	return page;
}

/* One try: 0, or -EEXIST to look again, or an error. */
static int get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
		    bool *major)
{
	void *item;
	int err;
	u64 slot;

	*page = look_up(m, index, &item);
	if (*page) {
		page_lock(*page);
		if ((*page)->mapping == m)
			return 0;
		page_unlock(*page);
		page_put(m->engine, *page);
		return -EEXIST;
	}
	if (!item) {
		if (use == PAGE_READ || use == PAGE_EDGE)
			return -ENOENT;
		return add_zeroes(m, index, page);
	}
	slot = radix_to_value(item);
	err = swap_in(m, index, slot, page);
	swap_unpin(&m->engine->swap, &slot, 1);
	if (!err)
		*major = true;
	return err;
}

/* What is lost stays where it was, so that it is not taken for zeros; a hole may be made there. */
static int refuse_broken(struct engine *e, enum page_use use, struct page *page)
{
	if (likely(!page_test(page, PG_HWPOISON)))
		return 0;
	page_unlock(page);
	page_put(e, page);
	if (use == PAGE_EDGE)
		return -ENOENT;
	return use == PAGE_MAP ? -EHWPOISON : -EIO;
}

static int shmem_get_page(struct address_space *m, u64 index, enum page_use use, struct page **page,
			  bool *major)
{
	int err;

	do {
		if (use < PAGE_WRITE && index >= mapping_size_pages(m))
			return -EFAULT;
		/* Under the lock a look at the end holds until the page is in. */
		if (use != PAGE_EDGE)
			down_read(&m->invalidate_lock);
		err = -EFAULT;
		if (use >= PAGE_WRITE || index < mapping_size_pages(m))
			err = get_page(m, index, use, page, major);
		if (use != PAGE_EDGE)
			up_read(&m->invalidate_lock);
	} while (err == -EEXIST);
	return err ? err : refuse_broken(m->engine, use, *page);
}

static s64 shmem_swap_page(struct address_space *m, struct page *page)
{
	struct engine *e = m->engine;
	s64 slot = swap_alloc(&e->swap);
	int result;

	if (slot < 0)
		return slot;
	result = swap_save(e, slot, page_direct(e, page));
	if (result < 0) {
		stat_add(&e->stats->store_full, 1);
		swap_put(&e->swap, slot);
		return result;
	}
	swap_set_saved(&e->swap, slot, true);
	stat_add(result == 1 ? &e->stats->same_filled : &e->stats->evicted_dirty, 1);
	return slot;
}

static void shmem_release(struct address_space *m)
{
	const struct engine_memory *memory = &m->engine->memory;
	struct shmem *s = shmem_of(m);

	shared_policy_fini(&s->policy, memory);
	memory->free(memory->ctx, s, sizeof(*s));
}

static const struct address_space_ops shmem_ops = {
	.name = "shmem",
	.get_page = shmem_get_page,
	.small_hole_unmaps_all = true,
	.swap_page = shmem_swap_page,
	.may_be_sealed = true,
	.release = shmem_release,
};

struct file *shmem_file_setup(struct engine *e, u64 size)
{
	struct address_space *m;
	struct file *file;
	struct shmem *s;

	if (size > FILE_MAX_SIZE)
		return NULL;
	s = e->memory.alloc(e->memory.ctx, sizeof(*s));
	if (!s)
		return NULL;
	m = &s->mapping;
	if (address_space_init(m, e, &shmem_ops)) {
		e->memory.free(e->memory.ctx, s, sizeof(*s));
		return NULL;
	}
	shared_policy_init(&s->policy);
	atomic_init(&m->i_size, size);
	atomic_init(&m->seals, MEMFD_SEAL_SEAL);
	file = file_open(m, FILE_READ | FILE_WRITE);
	mapping_put(m);
	return file;
}
