/* SPDX-License-Identifier: MIT */
/* VirtAddr: ranges of addresses that extensions have in the spaces that they were given. */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/spin/memory.h"

#define STAMP_SHIFT 32
#define STAMP_MASK  0x7fffffffU

static s64 handle_of(const struct spin_services *m, const struct spin_range *r)
{
	return (s64)(r->stamp & STAMP_MASK) << STAMP_SHIFT | (s64)(r - m->ranges + 1);
}

struct spin_range *spin_range_of(struct spin_services *m, u32 extension, s64 handle, int *err)
{
	u64 index = (u64)handle & ((1ULL << STAMP_SHIFT) - 1);
	struct spin_range *r;

	ledger_count(PAID_CAPABILITIES);
	*err = -EBADF;
	if (handle <= 0 || !index || index > SPIN_RANGES)
		return NULL;
	r = &m->ranges[index - 1];
	if (r->extension == SPIN_KERNEL || handle_of(m, r) != handle)
		return NULL;
	*err = r->extension == extension ? 0 : -EACCES;
	return *err ? NULL : r;
}

static struct spin_range *free_slot(struct spin_services *m)
{
	for (unsigned i = 0; i < SPIN_RANGES; i++)
		if (m->ranges[i].extension == SPIN_KERNEL)
			return &m->ranges[i];
	return NULL;
}

/* The end of who is in the way of [at, at + len) in that space; 0: nobody is. */
static u64 in_the_way(const struct spin_services *m, u64 map, u64 at, u64 len)
{
	for (unsigned i = 0; i < SPIN_RANGES; i++) {
		const struct spin_range *r = &m->ranges[i];
		u64 end = r->start + r->pages * PAGE_SIZE;

		if (r->extension != SPIN_KERNEL && r->map == map && r->start < at + len && at < end)
			return end;
	}
	return 0;
}

/* The lowest that is free.  There is always one: the slots are fewer than would fill it. */
static u64 find_addresses(const struct spin_services *m, u64 map, u64 len)
{
	u64 at = SPIN_VIRT_LOW, end;

	while ((end = in_the_way(m, map, at, len)))
		at = end;
	return at;
}

/* Lock held. */
static s64 make_range(struct spin_services *m, u32 extension, u64 map, u64 pages,
		      struct spin_mapping *mappings)
{
	struct spin_range *r = free_slot(m);

	if (!r)
		return -ENOSPC;
	r->start = find_addresses(m, map, pages * PAGE_SIZE);
	r->extension = extension;
	r->map = map;
	r->pages = pages;
	r->mappings = mappings;
	for (u64 i = 0; i < pages; i++) {
		mappings[i].range = r;
		mappings[i].va = r->start + i * PAGE_SIZE;
	}
	return handle_of(m, r);
}

s64 spin_virt_allocate(struct spin_services *m, u32 extension, u64 map, u64 pages)
{
	struct spin_mapping *mappings;
	s64 handle;
	int err;

	if (!spin_map_of(m, extension, map, &err))
		return err;
	if (!pages || pages > SPIN_RANGE_PAGES)
		return -EINVAL;
	mappings = calloc(pages, sizeof(*mappings));
	if (!mappings)
		return -ENOMEM;
	spin_lock(&m->lock);
	handle = make_range(m, extension, map, pages, mappings);
	spin_unlock(&m->lock);
	if (handle < 0)
		free(mappings);
	return handle;
}

/* Lock held; what is returned is to be freed. */
static struct spin_mapping *end_range(struct spin_services *m, struct spin_range *r)
{
	struct spin_mapping *mappings = r->mappings;

	for (u64 i = 0; i < r->pages; i++)
		if (mappings[i].frame)
			spin_mapping_remove(m, &mappings[i]);
	r->extension = SPIN_KERNEL;
	r->mappings = NULL;
	r->stamp++;
	return mappings;
}

int spin_virt_deallocate(struct spin_services *m, u32 extension, s64 range)
{
	struct spin_mapping *mappings = NULL;
	struct spin_range *r;
	int err;

	spin_lock(&m->lock);
	r = spin_range_of(m, extension, range, &err);
	if (r)
		mappings = end_range(m, r);
	spin_unlock(&m->lock);
	free(mappings);
	return err;
}

int spin_virt_address(struct spin_services *m, u32 extension, s64 range, u64 *address)
{
	struct spin_range *r;
	int err;

	spin_lock(&m->lock);
	r = spin_range_of(m, extension, range, &err);
	if (r)
		*address = r->start;
	spin_unlock(&m->lock);
	return err;
}

void spin_virt_end(struct spin_services *m, u64 map)
{
	for (unsigned i = 0; i < SPIN_RANGES; i++) {
		struct spin_range *r = &m->ranges[i];
		struct spin_mapping *mappings = NULL;

		spin_lock(&m->lock);
		if (r->extension != SPIN_KERNEL && (map == SPIN_ANY_KEY || r->map == map))
			mappings = end_range(m, r);
		spin_unlock(&m->lock);
		free(mappings);
	}
}
