/* SPDX-License-Identifier: MIT */
#include <stdlib.h>

#include "engine/base/errno.h"
#include "systems/l4/mapdb.h"

struct mapping {
	struct list_head link;
	const void *space;
	u64 va;
	u32 rights;
};

int mapdb_init(struct mapdb *db, u64 first, u64 nr)
{
	db->frames = calloc(nr, sizeof(*db->frames));
	if (!db->frames)
		return -ENOMEM;
	db->first = first;
	db->nr = nr;
	spin_init(&db->lock);
	for (u64 i = 0; i < nr; i++)
		list_init(&db->frames[i].mappings);
	return 0;
}

void mapdb_fini(struct mapdb *db)
{
	struct mapping *m, *next;

	for (u64 i = 0; i < db->nr; i++)
		list_for_each_entry_safe (m, next, &db->frames[i].mappings, link)
			free(m);
	free(db->frames);
}

static struct l4_frame *frame_of(struct mapdb *db, u64 pfn)
{
	return pfn >= db->first && pfn - db->first < db->nr ? &db->frames[pfn - db->first] : NULL;
}

static struct mapping *find(struct l4_frame *f, const void *space, u64 va)
{
	struct mapping *m;

	list_for_each_entry (m, &f->mappings, link)
		if (m->space == space && m->va == va)
			return m;
	return NULL;
}

/* The frame, if the task may do this with it; or NULL and *err.  Lock held. */
static struct l4_frame *owned(struct mapdb *db, u32 task, u64 pfn, u32 rights, int *err)
{
	struct l4_frame *f = frame_of(db, pfn);

	*err = 0;
	if (!f)
		*err = -EINVAL;
	else if (task == L4_NOBODY || f->task != task || rights & ~f->rights)
		*err = -EACCES;
	return *err ? NULL : f;
}

int mapdb_give(struct mapdb *db, u64 pfn, u32 task, u32 rights)
{
	struct l4_frame *f = frame_of(db, pfn);
	int err = 0;

	if (!f)
		return -EINVAL;
	spin_lock(&db->lock);
	if (f->task != L4_NOBODY)
		err = -EBUSY;
	else
		f->task = task, f->rights = rights;
	spin_unlock(&db->lock);
	return err;
}

int mapdb_map(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va, u32 rights)
{
	struct mapping *m = malloc(sizeof(*m));
	struct l4_frame *f;
	int err;

	if (!m)
		return -ENOMEM;
	*m = (struct mapping){ .space = space, .va = va, .rights = rights };
	spin_lock(&db->lock);
	f = owned(db, task, pfn, rights, &err);
	if (f && find(f, space, va))
		err = -EEXIST;
	else if (f)
		list_add_tail(&m->link, &f->mappings);
	spin_unlock(&db->lock);
	if (err)
		free(m);
	return err;
}

int mapdb_flush(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va)
{
	struct mapping *m = NULL;
	struct l4_frame *f;
	int err;

	spin_lock(&db->lock);
	f = owned(db, task, pfn, 0, &err);
	if (f) {
		m = find(f, space, va);
		if (m)
			list_del(&m->link);
		else
			err = -ENOENT;
	}
	spin_unlock(&db->lock);
	free(m);
	return err;
}

int mapdb_set_rights(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va, u32 rights)
{
	struct mapping *m;
	struct l4_frame *f;
	int err;

	spin_lock(&db->lock);
	f = owned(db, task, pfn, rights, &err);
	if (f) {
		m = find(f, space, va);
		if (m)
			m->rights = rights;
		else
			err = -ENOENT;
	}
	spin_unlock(&db->lock);
	return err;
}

int mapdb_owns(struct mapdb *db, u32 task, u64 pfn, const void *space, u64 va)
{
	struct l4_frame *f;
	int err;

	spin_lock(&db->lock);
	f = owned(db, task, pfn, 0, &err);
	if (f && !find(f, space, va))
		err = -ENOENT;
	spin_unlock(&db->lock);
	return err;
}

u32 mapdb_rights(struct mapdb *db, u64 pfn, const void *space, u64 va)
{
	struct l4_frame *f = frame_of(db, pfn);
	struct mapping *m;
	u32 rights = 0;

	if (!f)
		return 0;
	spin_lock(&db->lock);
	m = find(f, space, va);
	if (m)
		rights = m->rights;
	spin_unlock(&db->lock);
	return rights;
}

u64 mapdb_count(struct mapdb *db)
{
	struct mapping *m;
	u64 n = 0;

	spin_lock(&db->lock);
	for (u64 i = 0; i < db->nr; i++)
		list_for_each_entry (m, &db->frames[i].mappings, link)
			n++;
	spin_unlock(&db->lock);
	return n;
}
